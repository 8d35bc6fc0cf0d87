//! The second kernel: the stays of marked pings, each ended by its closer, grouped by person, become
//! encounters, exposures and candidates. Arrow in, Arrow out; pure, so that any engine can call it.

use crate::candidate::{Candidate, candidate, is_candidate, passes_by_itself, reasons};
use crate::dose::risk;
use crate::encounter::{Encounter, Keys, Likely, Meets, Walk, Weighing, encounters, likely};
use crate::exposure::{Adding, Exposure, exposure, exposures};
use crate::index::CaseIndex;
use crate::person::{PersonColumn, PersonId, PersonRef, PersonType};
use crate::place::{PlaceKey, PlaceRule};
use crate::resident::{Dwell, Known, is_resident};
use crate::risk_area::{Dwelt, RiskAreas};
use crate::rule::{CandidateRule, EncounterRule, ExposureRule, Rule, Source, Variant};
use crate::stay::{Stay, Stays};
use crate::time::Millis;
use crate::track::dwelling::DwellSums;
use crate::trip::Seat;
use crate::truth::{Foretold, Judged, Reliability, SAME_TIME_MS, Truth};
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt8Array, UInt32Array,
};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use hashbrown::{HashMap, HashSet};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Whose rows of a table are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everyone's.
    All,
    /// Candidates' only.
    Candidates,
    /// Nobody's.
    None,
}

/// What is known of how long people dwell anywhere.
#[derive(Debug, Clone, Copy)]
pub enum Dwells<'a> {
    /// Nothing.
    Unknown,
    /// What was added up as the rows came.
    Summed(&'a DwellSums),
    /// Everything, of those who were held back.
    Known(&'a HashMap<PersonId, Dwell>),
}

/// What the kernel needs to know beside the stays.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The cases' stays.
    pub index: &'a CaseIndex,
    /// The type of person_id.
    pub person: PersonType,
    /// The rule in force.
    pub rule: &'a Rule,
    /// Other rules, by which is only counted what they find, and whom they make candidates: nothing comes of the rule in force
    /// then, but that it finds whatever any of them does.
    pub variants: &'a [Variant],
    /// What the variants are judged by, if anything is known.
    pub truth: Option<&'a Truth>,
    /// Ids of venues, by their number.
    pub venues: &'a [String],
    /// The square or cell of each venue, in short, where it has coordinates, by its number.
    pub venue_squares: &'a [Option<u64>],
    /// Ids of trips, by their number.
    pub trips: &'a [String],
    /// Seats of trips, by their number.
    pub seats: &'a [Seat],
    /// What the settings of venues add to a dose, by their number.
    pub settings: &'a [f64],
    /// Whether who met a case by a scan is held back, as that scan may yet be contradicted.
    pub holds_scanners: bool,
    /// How long people dwell anywhere; of whom that is not known is held back, if it matters.
    pub dwells: Dwells<'a>,
    /// The job's risk areas, if it has any.
    pub areas: Option<&'a RiskAreas>,
    /// How many of the cases are false ones, which come first; as many come next, by the same persons as they are. Whoever meets one
    /// of these does not count as having met the other.
    pub controls: u32,
    /// Whose exposures come back.
    pub exposures: Scope,
    /// Whose encounters come back.
    pub encounters: Scope,
}

/// What a batch of persons gives.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// [`encounter_schema`], in the order of persons.
    pub encounters: RecordBatch,
    /// [`exposure_schema`], in the order of persons, then cases.
    pub exposures: RecordBatch,
    /// [`candidate_schema`], in the order of persons.
    pub candidates: RecordBatch,
    /// [`dwell_schema`], of candidates, in the order of persons, then areas.
    pub dwells: RecordBatch,
    /// The stays of those who are held back: they are in no table yet.
    pub held: Option<RecordBatch>,
    /// Those of them who met a case by a scan.
    pub scanners: Vec<PersonId>,
    /// By case: exposures, and candidates by them.
    pub tallies: Vec<Tally>,
    /// Encounters of everyone, kept or not.
    pub encounter_count: u64,
    /// The largest direct time of anyone who is no case, ms.
    pub direct_ms_max: Millis,
    /// By variant of [`Setting::variants`].
    pub variants: Vec<OfVariant>,
}

/// What a variant of the rule finds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfVariant {
    /// Encounters of everyone.
    pub encounters: u64,
    /// Exposures of everyone.
    pub exposures: u64,
    /// Pairs with a false case that were left out.
    pub left_out_pairs: u64,
    /// By set of its thresholds: whom it makes candidates.
    pub sets: Vec<Found>,
    /// The same, how they stand to the truth; where that is known.
    pub judged: Vec<Judged>,
    /// How what the rule foretells comes true, likewise.
    pub reliability: Reliability,
}

impl OfVariant {
    /// Counts others in.
    pub fn add(&mut self, other: &OfVariant) {
        self.encounters += other.encounters;
        self.exposures += other.exposures;
        self.left_out_pairs += other.left_out_pairs;
        self.sets.resize(other.sets.len(), Found::default());
        self.sets.iter_mut().zip(&other.sets).for_each(|(sum, found)| sum.add(*found));
        self.judged.resize(other.judged.len(), Judged::default());
        self.judged.iter_mut().zip(&other.judged).for_each(|(sum, judged)| sum.add(judged));
        self.reliability.add(&other.reliability);
    }
}

/// Whom some thresholds make candidates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// How many.
    pub candidates: u64,
    /// Who, whatever their order: the sum, modulo 2^128, of the first 16 bytes (big-endian) of the SHA-256 of each person_id, an
    /// integer in decimal digits.
    pub digest: u128,
}

impl Found {
    /// Counts others in.
    pub fn add(&mut self, other: Found) {
        self.candidates += other.candidates;
        self.digest = self.digest.wrapping_add(other.digest);
    }
}

/// A person's part in [`Found::digest`].
fn digest_of(person: PersonRef<'_>, kind: PersonType) -> u128 {
    let digest = match person {
        PersonRef::Integer(id) => Sha256::digest(kind.digits(id)),
        PersonRef::Bytes(id) => Sha256::digest(id),
    };
    digest.iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

/// What became of a case's encounters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Persons exposed.
    pub exposures: u64,
    /// Candidates with a passing exposure to it.
    pub candidates: u64,
}

/// What a rule of places lets nobody know: the columns are left out, as nothing but nulls is dear too.
fn is_unknown(column: &str, place: &PlaceRule) -> bool {
    match column {
        "expected_ms" | "dose_h" | "probability" => !place.is_uncertain(),
        "distance_m" | "distance_m_min" => place.metres().is_none(),
        _ => false,
    }
}

fn schema(person: &DataType, place: Option<&PlaceRule>, fields: &[(&str, DataType, bool)]) -> SchemaRef {
    let person = Field::new("person_id", person.clone(), false);
    let rest = fields.iter().filter(|(name, ..)| place.is_none_or(|place| !is_unknown(name, place)));
    let rest = rest.map(|(name, kind, nullable)| Field::new(*name, kind.clone(), *nullable));
    Arc::new(Schema::new(std::iter::once(person).chain(rest).collect::<Vec<_>>()))
}

/// Encounters inside the program: case is a number, times are ms, kind is whether it is indirect. Metres and probabilities are there
/// where the rule of places tells them.
pub fn encounter_schema(person: &DataType, place: &PlaceRule) -> SchemaRef {
    schema(
        person,
        Some(place),
        &[
            ("case", DataType::UInt32, false),
            ("start", DataType::Int64, false),
            ("indirect", DataType::Boolean, false),
            ("source", DataType::UInt8, false),
            ("case_source", DataType::UInt8, false),
            ("place", DataType::Utf8, true),
            ("end", DataType::Int64, false),
            ("distance_m", DataType::Float64, true),
            ("probability", DataType::Float64, true),
            ("bracketed", DataType::Boolean, false),
        ],
    )
}

/// Exposures inside the program: durations in ms, sources a bit each. Metres, expected time and doses are there where the rule of
/// places tells them.
pub fn exposure_schema(person: &DataType, place: &PlaceRule) -> SchemaRef {
    schema(
        person,
        Some(place),
        &[
            ("case", DataType::UInt32, false),
            ("person_is_case", DataType::Boolean, false),
            ("direct_ms", DataType::Int64, false),
            ("indirect_ms", DataType::Int64, false),
            ("confirmed_ms", DataType::Int64, false),
            ("longest_ms", DataType::Int64, false),
            ("peak_24h_ms", DataType::Int64, false),
            ("expected_ms", DataType::Float64, true),
            ("dose_h", DataType::Float64, true),
            ("encounter_count", DataType::Int64, false),
            ("distance_m_min", DataType::Float64, true),
            ("first_at", DataType::Int64, false),
            ("last_at", DataType::Int64, false),
            ("sources", DataType::UInt8, false),
        ],
    )
}

/// Candidates inside the program: durations in ms; expected time and doses as those of exposures.
pub fn candidate_schema(person: &DataType, place: &PlaceRule) -> SchemaRef {
    schema(
        person,
        Some(place),
        &[
            ("reasons", DataType::UInt8, false),
            ("case_count", DataType::Int64, false),
            ("case", DataType::UInt32, true),
            ("direct_ms", DataType::Int64, false),
            ("confirmed_ms", DataType::Int64, false),
            ("expected_ms", DataType::Float64, true),
            ("dose_h", DataType::Float64, true),
            ("first_at", DataType::Int64, false),
            ("last_at", DataType::Int64, false),
            ("evidence_count", DataType::Int64, false),
        ],
    )
}

/// Dwells in risk areas inside the program: the area is a number, durations in ms.
pub fn dwell_schema(person: &DataType) -> SchemaRef {
    schema(
        person,
        None,
        &[
            ("area", DataType::UInt32, false),
            ("dwell_ms", DataType::Int64, false),
            ("first_at", DataType::Int64, false),
            ("last_at", DataType::Int64, false),
        ],
    )
}

/// A rule that is asked of everyone.
struct Asked<'a> {
    encounter: &'a EncounterRule,
    exposure: &'a ExposureRule,
    sets: &'a [CandidateRule],
    /// The number of the list that its overlaps are in, which it may share with those before.
    list: usize,
}

impl<'a> Setting<'a> {
    /// The variants, or else the rule in force.
    fn asked(&self) -> Vec<Asked<'a>> {
        let Rule { encounter, exposure, candidate, .. } = self.rule;
        if self.variants.is_empty() {
            let sets = std::slice::from_ref(candidate);
            return vec![Asked { encounter, exposure, sets, list: 0 }];
        }
        let mut list = 0;
        let before = std::iter::once(&self.variants[0]).chain(self.variants);
        let asked = self.variants.iter().zip(before).map(|(variant, before)| {
            list += usize::from(!variant.meets_alike(before));
            let Variant { encounter, exposure, sets } = variant;
            Asked { encounter, exposure, sets, list }
        });
        asked.collect()
    }
}

/// The kernel. `stays` has [`crate::stay::stay_schema`] and is grouped by person: the stay of every ping
/// that the sieve marks, or runs of them that the rule cannot tell apart. More stays of these persons change
/// nothing.
pub fn resolve(stays: &RecordBatch, setting: &Setting<'_>) -> Result<Resolved, ArrowError> {
    let view = Stays::of(stays);
    let (mut held, mut scanners): (Vec<u32>, Vec<PersonId>) = (Vec::new(), Vec::new());
    let (mut met, mut exposed) = (Vec::new(), Vec::new());
    let (mut ranges, mut keys) = (Vec::new(), Keys::default());
    let person = stays.schema_ref().field(0).data_type();
    let asked = setting.asked();
    let by_list: Vec<&Asked<'_>> = asked.chunk_by(|a, b| a.list == b.list).map(|alike| &alike[0]).collect();
    let weighing_of = |a: &&Asked<'_>| Weighing::new(&a.encounter.place, a.exposure, setting.settings);
    let weighings: Vec<Option<Weighing<'_>>> = by_list.iter().map(weighing_of).collect();
    let seats = setting.seats;
    let meets: Vec<Meets<'_>> = by_list
        .iter()
        .zip(&weighings)
        .map(|(asked, weighing)| Meets { rule: asked.encounter, weighing: weighing.as_ref(), seats })
        .collect();
    let mut lists: Vec<Vec<Encounter>> = vec![Vec::new(); meets.len()];
    let mut rows = Rows::new(person, setting, stays.num_rows());
    let mut walk = Walk::new(&view, setting.index);
    'persons: for group in view.persons.groups() {
        let whose = view.persons.at(group.start);
        let own = setting.index.person_number(whose);
        lists.iter_mut().for_each(Vec::clear);
        walk.overlaps(group.clone(), own, &meets, &mut lists);
        let stays_of = || group.clone().map(|row| view.at(row));
        // A case is no candidate, wherever it dwells.
        let dwelt = setting.areas.filter(|_| own.is_none()).map_or_else(Vec::new, |a| a.dwelt(stays_of()));
        if lists.iter().all(Vec::is_empty) && dwelt.is_empty() {
            continue;
        }
        if setting.holds_scanners {
            let met_by_scan = lists.iter().flatten().any(|e| e.source == Source::Venue);
            if met_by_scan || (!dwelt.is_empty() && stays_of().any(|stay| stay.source == Source::Venue)) {
                held.extend(group.map(|row| row as u32));
                scanners.extend(met_by_scan.then(|| whose.to_id()));
                continue;
            }
        }
        if let (Some(truth), None) = (setting.truth, own) {
            let stays = || stays_of().filter(|stay| !stay.alone);
            rows.foretell(whose, &stays, &asked, &meets, setting.index, truth);
        }
        // False cases are none.
        let is_case = own.is_some_and(|own| own >= setting.controls);
        let left_out: u64 = match setting.controls {
            0 => 0,
            count => lists.iter_mut().map(|found| leave_out(found, count)).sum(),
        };
        let mut in_order = None;
        for (number, asked) in asked.iter().enumerate() {
            let found = &mut lists[asked.list];
            if found.is_empty() && dwelt.is_empty() {
                continue;
            }
            if in_order != Some(asked.list) {
                in_order = Some(asked.list);
                encounters(found, &mut met, &mut keys);
            }
            let onsets = asked.encounter.place.is_uncertain().then_some(setting.index.onsets.as_slice());
            let adding = Adding { rule: asked.exposure, onsets };
            exposures(found, &met, is_case, &adding, &mut ranges, &mut exposed);
            let thresholds = &asked.sets[0];
            let together = thresholds.across_cases && !found.is_empty();
            let mut together = together.then(|| exposure(found, &met, is_case, &adding, &mut ranges));
            let all = together.as_mut();
            if !settle_residence(whose, &met, &mut exposed, all, thresholds, setting, &mut ranges) {
                held.extend(group.map(|row| row as u32));
                continue 'persons;
            }
            let (together, dwelt) = (together.as_ref(), dwelt.as_slice());
            let whole = Whole { person: whose, met: &met, exposed: &exposed, together, dwelt };
            if setting.variants.is_empty() {
                rows.add(&whole, setting);
            } else {
                rows.count(&whole, setting, number, asked.sets);
            }
        }
        rows.variants.iter_mut().take(1).for_each(|counts| counts.left_out_pairs += left_out);
    }
    let mut resolved = rows.finish(person, setting)?;
    resolved.scanners = scanners;
    if !held.is_empty() {
        resolved.held = Some(take_record_batch(stays, &UInt32Array::from(held))?);
    }
    Ok(resolved)
}

/// Leaves out whom the person met by the true days of a control; the rest are overlaps with false cases. Gives how many of
/// these were left out.
fn leave_out(found: &mut Vec<Encounter>, controls: u32) -> u64 {
    let of_case = |wanted: &dyn Fn(u32) -> Option<u32>| -> HashSet<u32> {
        found.iter().filter_map(|e| wanted(e.case)).collect()
    };
    let truly = of_case(&|case| case.checked_sub(controls));
    let falsely = of_case(&|case| (case < controls).then_some(case));
    found.retain(|e| e.case < controls && !truly.contains(&e.case));
    falsely.intersection(&truly).count() as u64
}

/// Finds whether somebody dwells where each exposure was, of those that it matters for. Says whether that is known.
fn settle_residence(
    whose: PersonRef<'_>,
    met: &[Encounter],
    exposed: &mut [Exposure],
    together: Option<&mut Exposure>,
    thresholds: &CandidateRule,
    setting: &Setting<'_>,
    room: &mut Vec<(Millis, Millis)>,
) -> bool {
    let Some(rule) = &thresholds.resident else { return true };
    // Of whom nothing is found dwells nowhere that counts.
    let nowhere = Dwell::default();
    let person = match setting.dwells {
        Dwells::Unknown => None,
        Dwells::Summed(sums) => Some(Known::Summed(sums.of(whose))),
        Dwells::Known(dwells) => Some(Known::Dwell(dwells.get(&whose).unwrap_or(&nowhere))),
    };
    let dwells = |met: &[Encounter]| {
        let mut cases: Vec<u32> = met.iter().map(|e| e.case).collect();
        cases.dedup();
        cases.into_iter().map(|case| setting.index.dwell(case))
    };
    let mut keys = Vec::new();
    let mut settle = |exposure: &mut Exposure, met: &[Encounter]| {
        if !passes_by_itself(exposure, thresholds) {
            return true;
        }
        keys.clear();
        keys.extend(met.iter().filter_map(|e| match e.place {
            PlaceKey::Square(_) | PlaceKey::Cell(_) => Some(e.place.short()),
            PlaceKey::Venue(number) => setting.venue_squares.get(number as usize).copied().flatten(),
            PlaceKey::Near | PlaceKey::Trip(_) => None,
        }));
        keys.sort_unstable();
        keys.dedup();
        let known = is_resident(rule, person, dwells(met), &keys, room);
        exposure.is_resident = known.unwrap_or(false);
        known.is_some()
    };
    match together {
        Some(together) => settle(together, met),
        None => {
            let by_case = met.chunk_by(|a, b| a.case == b.case);
            exposed.iter_mut().zip(by_case).fold(true, |known, (exposure, met)| settle(exposure, met) & known)
        }
    }
}

/// Rows of a table, and whose they are.
struct Table<T> {
    persons: PersonColumn,
    rows: Vec<T>,
}

impl<T: Copy> Table<T> {
    fn new(person: &DataType) -> Self {
        Table { persons: PersonColumn::new(person), rows: Vec::new() }
    }

    fn add(&mut self, person: PersonRef<'_>, rows: &[T]) {
        rows.iter().for_each(|_| self.persons.push(person));
        self.rows.extend_from_slice(rows);
    }
}

/// What became of a person's overlaps and dwells.
struct Whole<'a> {
    person: PersonRef<'a>,
    met: &'a [Encounter],
    exposed: &'a [Exposure],
    /// All cases together, where that counts.
    together: Option<&'a Exposure>,
    dwelt: &'a [Dwelt],
}

struct Rows {
    encounters: Table<Encounter>,
    exposures: Table<Exposure>,
    candidates: Table<Candidate>,
    dwells: Table<Dwelt>,
    tallies: Vec<Tally>,
    encounter_count: u64,
    direct_ms_max: Millis,
    variants: Vec<OfVariant>,
}

impl Rows {
    /// None yet, of persons who have so many stays together.
    fn new(person: &DataType, setting: &Setting<'_>, stays: usize) -> Self {
        let nothing = |variant: &Variant| OfVariant {
            sets: vec![Found::default(); variant.sets.len()],
            judged: setting.truth.map_or_else(Vec::new, |_| vec![Judged::default(); variant.sets.len()]),
            ..OfVariant::default()
        };
        Rows {
            encounters: Table::new(person),
            // Growing would copy them again and again; room that stays empty costs nothing, and goes in the end.
            exposures: Table { persons: PersonColumn::new(person), rows: Vec::with_capacity(stays) },
            candidates: Table::new(person),
            dwells: Table::new(person),
            tallies: vec![Tally::default(); setting.index.cases()],
            encounter_count: 0,
            direct_ms_max: 0,
            variants: setting.variants.iter().map(nothing).collect(),
        }
    }

    /// Adds what a person met.
    fn add(&mut self, whole: &Whole<'_>, setting: &Setting<'_>) {
        let Whole { person, met, exposed, together, dwelt } = *whole;
        let rule = &setting.rule.candidate;
        let candidate = candidate(exposed, together, dwelt, rule);
        let keeps = |scope: Scope| match scope {
            Scope::All => true,
            Scope::Candidates => candidate.is_some(),
            Scope::None => false,
        };
        self.encounter_count += met.len() as u64;
        for exposure in exposed {
            let tally = &mut self.tallies[exposure.case as usize];
            tally.exposures += 1;
            let counted = together.unwrap_or(exposure);
            if !exposure.person_is_case {
                self.direct_ms_max = self.direct_ms_max.max(counted.direct_ms);
            }
            tally.candidates += u64::from(reasons(exposure, together, rule) != 0);
        }
        if keeps(setting.encounters) {
            self.encounters.add(person, met);
        }
        if keeps(setting.exposures) {
            self.exposures.add(person, exposed);
        }
        self.candidates.add(person, candidate.as_slice());
        self.dwells.add(person, dwelt);
    }

    /// Counts what a person met by a variant, and whether any of its thresholds makes a candidate.
    fn count(&mut self, whole: &Whole<'_>, setting: &Setting<'_>, variant: usize, sets: &[CandidateRule]) {
        let Whole { person, met, exposed, together, dwelt } = *whole;
        let counts = &mut self.variants[variant];
        counts.encounters += met.len() as u64;
        counts.exposures += exposed.len() as u64;
        let mut digest = None;
        for (found, rule) in counts.sets.iter_mut().zip(sets) {
            if is_candidate(exposed, together, dwelt, rule) {
                let digest = *digest.get_or_insert_with(|| digest_of(person, setting.person));
                found.add(Found { candidates: 1, digest });
            }
        }
        let Some(truth) = setting.truth else { return };
        for (judged, rule) in counts.judged.iter_mut().zip(sets) {
            if let Some(candidate) = candidate(exposed, together, dwelt, rule) {
                judged.count(person, candidate.case, truth);
            }
        }
        let weighed = |e: &&Exposure| truth.tells_infections && !e.dose_h.is_nan() && !e.person_is_case;
        for exposure in exposed.iter().filter(weighed) {
            let happened = truth.is_infected(person, exposure.case);
            counts.reliability.count(Foretold::Risk, risk(exposure.dose_h), happened);
        }
    }

    /// Counts how often those are together of whom a variant says how likely they are.
    fn foretell<S: Iterator<Item = Stay>>(
        &mut self,
        person: PersonRef<'_>,
        stays: &dyn Fn() -> S,
        asked: &[Asked<'_>],
        meets: &[Meets<'_>],
        index: &CaseIndex,
        truth: &Truth,
    ) {
        for alike in asked.chunk_by(|a, b| a.list == b.list) {
            let Asked { encounter, list, .. } = &alike[0];
            let PlaceRule::Probability { distance_m_max, .. } = encounter.place else { continue };
            if !truth.distances_m.contains(&distance_m_max.to_bits()) {
                continue;
            }
            let mut counted = Reliability::default();
            for stay in stays() {
                likely(&stay, None, index, &meets[*list], &mut |likely: Likely| {
                    let Likely { case, at, held_ms, both_gps, probability } = likely;
                    let happened = truth.is_near(person, case, distance_m_max, at);
                    if !both_gps {
                        return counted.count(Foretold::ByPlaces, probability, happened);
                    }
                    counted.count(Foretold::Held, probability, happened);
                    if held_ms <= SAME_TIME_MS {
                        counted.count(Foretold::AtPings, probability, happened);
                    }
                });
            }
            // Of those that meet alike each has the same.
            let of_list = asked.iter().zip(&mut self.variants).filter(|(asked, _)| asked.list == *list);
            of_list.for_each(|(_, variant)| variant.reliability.add(&counted));
        }
    }

    fn finish(self, person: &DataType, setting: &Setting<'_>) -> Result<Resolved, ArrowError> {
        Ok(Resolved {
            encounters: encounter_batch(person, self.encounters, setting)?,
            exposures: exposure_batch(person, self.exposures, setting)?,
            candidates: candidate_batch(person, self.candidates, setting)?,
            dwells: dwell_batch(person, self.dwells)?,
            held: None,
            scanners: Vec::new(),
            tallies: self.tallies,
            encounter_count: self.encounter_count,
            direct_ms_max: self.direct_ms_max,
            variants: self.variants,
        })
    }
}

fn int64s<T>(rows: &[T], value: impl Fn(&T) -> i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(rows.iter().map(value)))
}

fn numbers_of<T>(rows: &[T], value: impl Fn(&T) -> u32) -> ArrayRef {
    Arc::new(UInt32Array::from_iter_values(rows.iter().map(value)))
}

fn bytes<T>(rows: &[T], value: impl Fn(&T) -> u8) -> ArrayRef {
    Arc::new(UInt8Array::from_iter_values(rows.iter().map(value)))
}

fn booleans<T>(rows: &[T], value: impl Fn(&T) -> bool) -> ArrayRef {
    Arc::new(rows.iter().map(|row| Some(value(row))).collect::<BooleanArray>())
}

/// What is no number is null.
fn numbers<T>(rows: &[T], value: impl Fn(&T) -> f64) -> ArrayRef {
    let known = rows.iter().map(|row| Some(value(row)).filter(|number| !number.is_nan()));
    Arc::new(known.collect::<Float64Array>())
}

fn encounter_batch(
    person: &DataType,
    table: Table<Encounter>,
    setting: &Setting<'_>,
) -> Result<RecordBatch, ArrowError> {
    let place = |e: &Encounter| match e.place {
        PlaceKey::Near => None,
        PlaceKey::Square(square) => Some(square.to_string()),
        PlaceKey::Cell(cell) => Some(format!("{cell:x}")),
        PlaceKey::Venue(number) => setting.venues.get(number as usize).cloned(),
        PlaceKey::Trip(number) => setting.trips.get(number as usize).cloned(),
    };
    let rows = &table.rows;
    let schema = encounter_schema(person, &setting.rule.encounter.place);
    let has = |name: &str| schema.column_with_name(name).is_some();
    let columns: Vec<Option<ArrayRef>> = vec![
        Some(table.persons.finish()?),
        Some(numbers_of(rows, |e| e.case)),
        Some(int64s(rows, |e| e.start)),
        Some(booleans(rows, |e| e.kind == crate::encounter::Kind::Indirect)),
        Some(bytes(rows, |e| e.source as u8)),
        Some(bytes(rows, |e| e.case_source as u8)),
        Some(Arc::new(rows.iter().map(place).collect::<StringArray>())),
        Some(int64s(rows, |e| e.end)),
        has("distance_m").then(|| numbers(rows, |e| e.distance_m)),
        has("probability").then(|| numbers(rows, |e| e.probability)),
        Some(booleans(rows, |e| e.bracketed)),
    ];
    RecordBatch::try_new(schema, columns.into_iter().flatten().collect())
}

fn exposure_batch(
    person: &DataType,
    table: Table<Exposure>,
    setting: &Setting<'_>,
) -> Result<RecordBatch, ArrowError> {
    let rows = &table.rows;
    let schema = exposure_schema(person, &setting.rule.encounter.place);
    let has = |name: &str| schema.column_with_name(name).is_some();
    let columns: Vec<Option<ArrayRef>> = vec![
        Some(table.persons.finish()?),
        Some(numbers_of(rows, |e| e.case)),
        Some(booleans(rows, |e| e.person_is_case)),
        Some(int64s(rows, |e| e.direct_ms)),
        Some(int64s(rows, |e| e.indirect_ms)),
        Some(int64s(rows, |e| e.confirmed_ms)),
        Some(int64s(rows, |e| e.longest_ms)),
        Some(int64s(rows, |e| e.peak_24h_ms)),
        has("expected_ms").then(|| numbers(rows, |e| e.expected_ms)),
        has("dose_h").then(|| numbers(rows, |e| e.dose_h)),
        Some(int64s(rows, |e| e.encounter_count as i64)),
        has("distance_m_min").then(|| numbers(rows, |e| e.distance_m_min)),
        Some(int64s(rows, |e| e.first_at)),
        Some(int64s(rows, |e| e.last_at)),
        Some(bytes(rows, |e| e.sources)),
    ];
    RecordBatch::try_new(schema, columns.into_iter().flatten().collect())
}

fn candidate_batch(
    person: &DataType,
    table: Table<Candidate>,
    setting: &Setting<'_>,
) -> Result<RecordBatch, ArrowError> {
    let rows = &table.rows;
    let schema = candidate_schema(person, &setting.rule.encounter.place);
    let has = |name: &str| schema.column_with_name(name).is_some();
    let columns: Vec<Option<ArrayRef>> = vec![
        Some(table.persons.finish()?),
        Some(bytes(rows, |c| c.reasons)),
        Some(int64s(rows, |c| c.case_count as i64)),
        Some(Arc::new(rows.iter().map(|c| c.case).collect::<UInt32Array>())),
        Some(int64s(rows, |c| c.direct_ms)),
        Some(int64s(rows, |c| c.confirmed_ms)),
        has("expected_ms").then(|| numbers(rows, |c| c.expected_ms)),
        has("dose_h").then(|| numbers(rows, |c| c.dose_h)),
        Some(int64s(rows, |c| c.first_at)),
        Some(int64s(rows, |c| c.last_at)),
        Some(int64s(rows, |c| c.evidence_count as i64)),
    ];
    RecordBatch::try_new(schema, columns.into_iter().flatten().collect())
}

fn dwell_batch(person: &DataType, table: Table<Dwelt>) -> Result<RecordBatch, ArrowError> {
    let rows = &table.rows;
    let columns = vec![
        table.persons.finish()?,
        numbers_of(rows, |d| d.area),
        int64s(rows, |d| d.dwell_ms),
        int64s(rows, |d| d.first_at),
        int64s(rows, |d| d.last_at),
    ];
    RecordBatch::try_new(dwell_schema(person), columns)
}
