//! What is true of a city, as tables, and what it comes to.

use super::{CONTACTS, INFECTIONS, MEETINGS, Names, PERSONS, SUMMARY, lats_lons, properties, table, texts};
use crate::city::map::{DISTRICT_PERSONS, Setting};
use crate::city::truth::{Contact, Ill, WITHIN_M};
use crate::city::{City, District, VERSION};
use crate::error::Result;
use crate::io::output::Staging;
use crate::io::results::internal;
use crate::io::synth::{close, failed, open, stamps};
use crate::synth::AS_OF;
use crate::time::{DAY_MS, HOUR_MS, Millis};
use arrow::array::{ArrayRef, BooleanArray, Float64Array, StringArray, UInt64Array};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use std::fs::File;
use std::io::BufWriter;
use std::sync::Arc;

/// The tables of truth, which are written district after district.
pub struct TruthFiles<'a> {
    staging: &'a Staging,
    city: &'a City,
    writers: Vec<(&'static str, ArrowWriter<BufWriter<File>>)>,
    tally: Tally,
}

/// Values on a scale of logarithms, 50 steps to a factor of e.
#[derive(Debug)]
struct Histogram(Vec<u64>);

impl Histogram {
    fn add(&mut self, value: f64) {
        let step = ((value.max(1.0).ln() * 50.0) as usize).min(self.0.len() - 1);
        self.0[step] += 1;
    }

    /// Below which a share of the values lies, within 2%.
    fn quantile(&self, share: f64) -> f64 {
        let total: u64 = self.0.iter().sum();
        let mut sum = 0;
        let reached = self.0.iter().position(|count| {
            sum += count;
            sum as f64 >= share * total as f64
        });
        ((reached.unwrap_or(0) as f64 + 0.5) / 50.0).exp()
    }

    fn json(&self) -> Value {
        let quantile = |share: f64| self.quantile(share).round() as u64;
        json!({ "p10": quantile(0.1), "median": quantile(0.5), "p90": quantile(0.9) })
    }
}

#[derive(Debug)]
struct Tally {
    persons: u64,
    phones: u64,
    home_ms: u128,
    pings: u64,
    signals: u64,
    scans: u64,
    trips: u64,
    pings_a_day: Histogram,
    gyrations_m: Histogram,
    contacts: u64,
    true_contacts: u64,
    contacts_a_day: u64,
    infections: u64,
    infections_by: [u64; Setting::ALL.len()],
    household_infections: u64,
    household_members: u64,
}

impl<'a> TruthFiles<'a> {
    /// Opens the files.
    pub fn new(staging: &'a Staging, city: &'a City) -> Result<Self> {
        let mut empty = city.district(0);
        empty.people.clear();
        empty.habits.clear();
        let mut writers = Vec::new();
        for (name, columns) in truth_columns(city, &empty, &Names(Vec::new()), &mut Tally::new()) {
            let batch = table(columns).map_err(|e| internal(name, &e))?;
            writers.push((name, open(staging, name, &batch.schema(), properties(city.recipe()).build())?));
        }
        Ok(TruthFiles { staging, city, writers, tally: Tally::new() })
    }

    /// Adds a district's; all of a city come in the order of their numbers.
    pub fn add(&mut self, district: &District<'_>, names: &Names) -> Result<()> {
        let tables = truth_columns(self.city, district, names, &mut self.tally);
        for ((_, columns), (name, writer)) in tables.into_iter().zip(&mut self.writers) {
            let batch = table(columns).map_err(|e| internal(name, &e))?;
            writer.write(&batch).map_err(|e| failed(self.staging, name, e))?;
        }
        Ok(())
    }

    /// Writes the footers, and what all comes to.
    pub fn close(self) -> Result<Value> {
        for (name, writer) in self.writers {
            close(self.staging, name, writer)?;
        }
        let recipe = self.city.recipe();
        let summary = self.tally.json(self.city);
        let text = format!("{:#}\n", json!({ "flags": recipe.flags(), "version": VERSION, "city": summary }));
        std::fs::write(self.staging.path(SUMMARY), text).map_err(|e| self.staging.failed(SUMMARY, &e))?;
        Ok(summary)
    }
}

impl Tally {
    fn new() -> Self {
        Tally {
            persons: 0,
            phones: 0,
            home_ms: 0,
            pings: 0,
            signals: 0,
            scans: 0,
            trips: 0,
            pings_a_day: Histogram(vec![0; 600]),
            gyrations_m: Histogram(vec![0; 600]),
            contacts: 0,
            true_contacts: 0,
            contacts_a_day: 0,
            infections: 0,
            infections_by: [0; Setting::ALL.len()],
            household_infections: 0,
            household_members: 0,
        }
    }

    fn json(&self, city: &City) -> Value {
        let days = city.recipe().days as f64;
        let tenth = |value: f64| (value * 10.0).round() / 10.0;
        let thousandth = |value: f64| (value * 1_000.0).round() / 1_000.0;
        // Days on which a case can be met: those of the infectious range inside the city's.
        let (start, as_of) = (city.recipe().start(), AS_OF);
        let inside = |ill: &Ill| (ill.infectious().1.min(as_of) - ill.infectious().0.max(start)).max(0);
        let case_days = city.cases.ill.iter().map(inside).sum::<Millis>() as f64 / DAY_MS as f64;
        let by = Setting::ALL.into_iter().filter(|s| self.infections_by[*s as usize] > 0);
        let by: serde_json::Map<String, Value> =
            by.map(|s| (s.name().to_string(), json!(self.infections_by[s as usize]))).collect();
        let share = |part: u64, all: u64| {
            if all == 0 { Value::Null } else { json!(thousandth(part as f64 / all as f64)) }
        };
        json!({
            "persons": self.persons,
            "phones": self.phones,
            "rows": { "gps": self.pings, "tower": self.signals, "venue": self.scans, "trip": self.trips },
            "home_h_a_day": tenth(self.home_ms as f64 / HOUR_MS as f64 / self.persons as f64 / days),
            "pings_a_day_of_a_phone": self.pings_a_day.json(),
            "radius_of_gyration_m": self.gyrations_m.json(),
            "contacts_a_case_and_day": tenth(self.contacts_a_day as f64 / case_days),
            "pairs_within_50_m": self.contacts,
            "pairs_within_10_m_for_15_min": self.true_contacts,
            "infections": self.infections,
            "infections_by_setting": by,
            "household_share_of_infections": share(self.household_infections, self.infections),
            "household_secondary_attack_rate": share(self.household_infections, self.household_members),
        })
    }
}

type Columns = Vec<(&'static str, ArrayRef)>;

/// The rows of a district, table by table.
fn truth_columns(
    city: &City,
    district: &District<'_>,
    names: &Names,
    tally: &mut Tally,
) -> [(&'static str, Columns); 4] {
    let recipe = city.recipe();
    let truth = &district.truth;
    let mut pairs: Vec<_> = truth.contacts.iter().collect();
    pairs.sort_unstable_by_key(|(pair, _)| **pair);
    let case_ids = |cases: Vec<u32>| texts(cases.into_iter().map(|case| format!("case-{:04}", case + 1)));
    let seconds = |values: Vec<Millis>| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(values.into_iter().map(|ms| (ms / 1_000) as u64)))
    };
    let flags = |values: Vec<bool>| -> ArrayRef { Arc::new(BooleanArray::from(values)) };
    let numbers = |values: Vec<f64>| -> ArrayRef { Arc::new(Float64Array::from(values)) };
    let words = |values: Vec<&str>| -> ArrayRef { Arc::new(StringArray::from(values)) };
    let households: Vec<u64> = {
        let mut found = Vec::new();
        for ill in &city.cases.ill {
            let own = ill.person / DISTRICT_PERSONS == district_of(district);
            let row = (ill.person % DISTRICT_PERSONS) as usize;
            found.push(if own { district.people.get(row).map_or(0, |p| p.household + 1) } else { 0 });
        }
        found
    };
    let in_household =
        |row: u32, case: u32| households[case as usize] == district.people[row as usize].household + 1;
    let within = |n: usize| seconds(pairs.iter().map(|(_, c)| c.within_ms[n]).collect());
    let setting = |c: &Contact| c.setting().map(Setting::name);
    let contacts: Columns = vec![
        ("person_id", names.column(recipe, pairs.iter().map(|(pair, _)| pair.0))),
        ("case_id", case_ids(pairs.iter().map(|(pair, _)| pair.1).collect())),
        ("within_2m_s", within(0)),
        ("within_10m_s", within(1)),
        ("within_50m_s", within(2)),
        ("indoors_10m_s", seconds(pairs.iter().map(|(_, c)| c.indoors_ms).collect())),
        ("one_air_10m_s", seconds(pairs.iter().map(|(_, c)| c.one_air_ms).collect())),
        ("setting", Arc::new(pairs.iter().map(|(_, c)| setting(c)).collect::<StringArray>()) as ArrayRef),
        ("household", flags(pairs.iter().map(|(pair, _)| in_household(pair.0, pair.1)).collect())),
        (
            "has_phone",
            flags(pairs.iter().map(|(pair, _)| district.people[pair.0 as usize].has_phone).collect()),
        ),
        ("first_at", stamps(pairs.iter().map(|(_, c)| c.first_at).collect())),
        ("last_at", stamps(pairs.iter().map(|(_, c)| c.last_at).collect())),
        ("dose_h", numbers(pairs.iter().map(|(_, c)| c.dose_h).collect())),
    ];
    let meetings: Columns = vec![
        ("person_id", names.column(recipe, truth.meetings.iter().map(|m| m.person))),
        ("case_id", case_ids(truth.meetings.iter().map(|m| m.case).collect())),
        ("within_m", numbers(truth.meetings.iter().map(|m| WITHIN_M[usize::from(m.within)]).collect())),
        ("start", stamps(truth.meetings.iter().map(|m| m.start).collect())),
        ("end", stamps(truth.meetings.iter().map(|m| m.end).collect())),
    ];
    // Of several cases the first one infects.
    let mut infected: Vec<(u32, Millis, u32, Setting, f64)> = pairs
        .iter()
        .filter_map(|((row, case), c)| c.infected.map(|(at, setting)| (*row, at, *case, setting, c.dose_h)))
        .collect();
    infected.sort_unstable_by_key(|(row, at, case, ..)| (*row, *at, *case));
    infected.dedup_by_key(|(row, ..)| *row);
    let infections: Columns = vec![
        ("person_id", names.column(recipe, infected.iter().map(|i| i.0))),
        ("case_id", case_ids(infected.iter().map(|i| i.2).collect())),
        ("infected_at", stamps(infected.iter().map(|i| i.1).collect())),
        ("setting", words(infected.iter().map(|i| i.3.name()).collect())),
        ("household", flags(infected.iter().map(|i| in_household(i.0, i.2)).collect())),
        ("dose_h", numbers(infected.iter().map(|i| i.4).collect())),
    ];
    let people = &district.people;
    let of_days = |ms: Millis| ms as f64 / HOUR_MS as f64 / recipe.days as f64;
    let (lats, lons) = lats_lons(city, people.iter().map(|p| p.flat));
    let habits = || district.habits.iter().take(people.len());
    let persons: Columns = vec![
        ("person_id", names.column(recipe, 0..people.len() as u32)),
        ("age", words(people.iter().map(|p| p.age.name()).collect())),
        (
            "household",
            Arc::new(UInt64Array::from_iter_values(people.iter().map(|p| p.household))) as ArrayRef,
        ),
        ("works_or_learns", flags(people.iter().map(|p| p.desk.is_some()).collect())),
        ("has_phone", flags(people.iter().map(|p| p.has_phone).collect())),
        ("home_lat", lats),
        ("home_lon", lons),
        ("home_h_a_day", numbers(habits().map(|h| of_days(h.home_ms)).collect())),
        ("radius_of_gyration_m", numbers(habits().map(|h| h.radius_of_gyration_m()).collect())),
        ("gps_pings", Arc::new(UInt64Array::from_iter_values(habits().map(|h| h.pings))) as ArrayRef),
        ("tower_pings", Arc::new(UInt64Array::from_iter_values(habits().map(|h| h.signals))) as ArrayRef),
    ];
    tally.persons += people.len() as u64;
    for (person, habits) in people.iter().zip(&district.habits) {
        tally.phones += u64::from(person.has_phone);
        tally.home_ms += habits.home_ms as u128;
        tally.pings += habits.pings;
        tally.signals += habits.signals;
        tally.gyrations_m.add(habits.radius_of_gyration_m());
        if person.has_phone {
            tally.pings_a_day.add(habits.pings as f64 / recipe.days as f64);
        }
        let with_case = households.iter().filter(|h| **h == person.household + 1).count() as u64;
        tally.household_members += with_case;
    }
    // A case is no member that it could infect.
    tally.household_members -= households.iter().filter(|h| **h > 0).count() as u64;
    tally.scans += district.signals.scans.len() as u64;
    tally.trips += district.signals.trips.len() as u64;
    tally.contacts += pairs.len() as u64;
    tally.true_contacts += pairs.iter().filter(|(_, c)| c.within_ms[1] >= 900_000).count() as u64;
    tally.contacts_a_day += truth.contacts_a_day;
    tally.infections += infected.len() as u64;
    for (row, _, case, setting, _) in &infected {
        tally.infections_by[*setting as usize] += 1;
        tally.household_infections += u64::from(in_household(*row, *case));
    }
    [(CONTACTS, contacts), (MEETINGS, meetings), (INFECTIONS, infections), (PERSONS, persons)]
}

fn district_of(district: &District<'_>) -> u64 {
    district.people.first().map_or(u64::MAX, |person| person.district)
}
