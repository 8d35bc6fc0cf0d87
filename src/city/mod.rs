//! A made-up city whose truth is known: its persons live in households, work, learn, shop and ride, second by second; telephones,
//! base stations, scanned codes and tickets tell some of it; and who truly was near a case, and was infected, stands beside.
//!
//! All is a function of the seed and of numbers: a district's people can be made without the others', and their days one after
//! the other, so that memory does not grow with the rows, and any number of threads makes the same city.

pub mod day;
pub mod map;
pub mod people;
pub mod signals;
pub mod truth;

use crate::error::{Error, Problem, Result};
use crate::rule::Source;
use crate::synth::draw::{Normal, Shuffle, Stream, below, unit};
use crate::synth::{AS_OF, Ids};
use crate::time::{DAY_MS, HOUR_MS, Millis};
use day::{Day, Illness, Making};
use hashbrown::HashMap;
use map::{DISTRICT_PERSONS, Map, Setting};
use people::{Age, Person, people};
use signals::{Sending, Signals};
use truth::{Cases, Ill, Truth};

/// Version of what is drawn: a change of any row for any arguments makes it the next one.
pub const VERSION: u32 = 1;
/// Most persons, days and cases: what the numbers of this room hold.
const PERSONS_MAX: u64 = 100_000_000;
const DAYS_MAX: u64 = 366;
const CASES_MAX: u64 = 100_000;
/// Districts whose people are held while cases are looked for.
const DISTRICTS_KNOWN: usize = 64;
/// person_ids are below this.
const IDS: u64 = 1 << 63;

/// What is asked for: the same answers make the same city.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Persons.
    pub persons: u64,
    /// Days, the last of which ends at [`AS_OF`].
    pub days: u64,
    /// Persons who are cases.
    pub cases: u64,
    /// The seed.
    pub seed: u64,
    /// The feeds.
    pub sources: Vec<Source>,
    /// Whether positions of gps, towers and venues are shifted to GCJ-02.
    pub gcj02: bool,
    /// Share of the rows of gps and tower feeds that are broken.
    pub broken_share: f64,
    /// What person_ids are.
    pub ids: Ids,
}

impl Recipe {
    /// One case for ten thousand persons, as in an outbreak that is being traced, and ten at least, or a tenth of fewer persons.
    pub fn cases_for(persons: u64) -> u64 {
        (persons / 10_000).max(10).min(persons / 10).clamp(1, CASES_MAX)
    }

    /// Stops what cannot be made.
    pub fn check(&self) -> Result<()> {
        let within = |flag: &str, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            let (expected, found) = (format!("{least} to {most}"), value.to_string());
            Err(Error::Job(Problem::new(flag, expected, found, "give a number in between")))
        };
        within("--persons", self.persons, 10, PERSONS_MAX)?;
        within("--days", self.days, 1, DAYS_MAX)?;
        within("--cases", self.cases, 1, CASES_MAX.min(self.persons / 4))?;
        if !(0.0..=0.5).contains(&self.broken_share) {
            return Err(Error::Job(Problem::new(
                "--broken-share",
                "a share of rows, 0 to 0.5",
                self.broken_share.to_string(),
                "give a number in between, as 0.001",
            )));
        }
        Ok(())
    }

    /// Start of the first day.
    pub fn start(&self) -> Millis {
        AS_OF - self.days as Millis * DAY_MS
    }

    /// The flags that make this city.
    pub fn flags(&self) -> String {
        let sources: Vec<&str> = self.sources.iter().map(|source| source.name()).collect();
        format!(
            "--persons {} --days {} --cases {} --seed {} --sources {} --datum {} --broken-share {} --ids {}",
            self.persons,
            self.days,
            self.cases,
            self.seed,
            sources.join(","),
            if self.gcj02 { "gcj02" } else { "wgs84" },
            self.broken_share,
            self.ids.name()
        )
    }
}

/// A city that is ready to be lived in.
#[derive(Debug)]
pub struct City {
    recipe: Recipe,
    /// Where everything stands.
    pub map: Map,
    normal: Normal,
    people: Stream,
    ids: Stream,
    order: Shuffle,
    /// The cases, and where they are.
    pub cases: Cases,
}

/// What a person's days add up to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Habits {
    /// Pings of gps.
    pub pings: u64,
    /// Signals of towers.
    pub signals: u64,
    /// Time at home, ms.
    pub home_ms: Millis,
    /// Sums over time of 1, x, y and x^2 + y^2: for the radius of gyration.
    moments: [f64; 4],
}

impl Habits {
    /// Root mean square distance from the mean position, over time, metres (Gonzalez et al., Nature 453, 2008).
    pub fn radius_of_gyration_m(&self) -> f64 {
        let [time, x, y, squares] = self.moments;
        let (x, y) = (x / time, y / time);
        (squares / time - x * x - y * y).max(0.0).sqrt()
    }
}

/// A district's people, day by day.
#[derive(Debug)]
pub struct District<'a> {
    city: &'a City,
    /// Who lives there.
    pub people: Vec<Person>,
    /// By person: what the days add up to.
    pub habits: Vec<Habits>,
    /// By person: the number of the case, if it is one.
    ill: Vec<Option<u32>>,
    /// Rows of the day.
    pub signals: Signals,
    /// What is true so far.
    pub truth: Truth,
    /// By row: where the day is drawn.
    day: Day,
}

impl City {
    /// The city of a recipe that has been checked.
    pub fn new(recipe: Recipe) -> Self {
        let draws = Stream::of_seed(recipe.seed);
        let mut city = City {
            map: Map::new(recipe.persons, draws.stream(0)),
            normal: Normal::new(),
            people: draws.stream(1),
            ids: draws.stream(2),
            order: Shuffle::new(recipe.persons, draws.stream(3)),
            cases: Cases::new(Vec::new(), std::iter::empty()),
            recipe,
        };
        let ill = city.ill(draws.stream(4));
        let mut pieces = Vec::new();
        let mut known = HashMap::new();
        for (case, of) in (0u32..).zip(&ill) {
            let person = city.person(of.person, &mut known);
            let (from, to) = of.infectious();
            let mut day = Day::default();
            for number in 0..city.recipe.days {
                let making = city.making(number);
                if making.start < to && from < making.start + DAY_MS {
                    making.day(&person, Some(&Illness::of(of)), &mut day);
                    pieces.extend(day.pieces.iter().map(|piece| (case, *piece)));
                }
            }
        }
        city.cases = Cases::new(ill, pieces.into_iter());
        city
    }

    /// What was asked for.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The person_id, as a number; numbers of neighbours tell nothing of each other.
    pub fn id(&self, person: u64) -> u64 {
        let share = IDS / self.recipe.persons;
        self.order.at(person) * share + below(self.ids.draw(person), share)
    }

    /// A district's people before the first day.
    pub fn district(&self, number: u64) -> District<'_> {
        let people = people(&self.map, number, self.recipe.persons, self.people);
        let mut ill = vec![None; people.len()];
        for (case, of) in (0u32..).zip(&self.cases.ill) {
            if of.person / DISTRICT_PERSONS == number {
                ill[(of.person % DISTRICT_PERSONS) as usize] = Some(case);
            }
        }
        District {
            city: self,
            habits: vec![Habits::default(); people.len()],
            ill,
            people,
            signals: Signals::default(),
            truth: Truth::default(),
            day: Day::default(),
        }
    }

    /// One person; `known` holds the last districts that were looked at.
    fn person(&self, number: u64, known: &mut HashMap<u64, Vec<Person>>) -> Person {
        let district = number / DISTRICT_PERSONS;
        if known.len() >= DISTRICTS_KNOWN && !known.contains_key(&district) {
            known.clear();
        }
        let make = || people(&self.map, district, self.recipe.persons, self.people);
        known.entry(district).or_insert_with(make)[(number % DISTRICT_PERSONS) as usize]
    }

    fn making(&self, day: u64) -> Making<'_> {
        let start = self.recipe.start() + day as Millis * DAY_MS;
        Making { map: &self.map, normal: &self.normal, start, days_before: self.recipe.days - 1 - day }
    }

    /// The cases: persons with a telephone who are no small children, isolated in the last six days (or the last six tenths of
    /// fewer than ten), some hours after a result that took half a day, sampled half a day to two and a half after onset.
    fn ill(&self, draws: Stream) -> Vec<Ill> {
        let order = Shuffle::new(self.recipe.persons, draws.stream(0));
        let mut ill: Vec<Ill> = Vec::new();
        let days = self.recipe.days.min(10) as f64;
        // Somebody is found: there are at least four persons for each case, and more than half of all can be one.
        let mut known = HashMap::new();
        let fits = |number: &u64| {
            let person = self.person(*number, &mut known);
            person.has_phone && person.age != Age::Child
        };
        for number in (0..self.recipe.persons).map(|place| order.at(place)).filter(fits) {
            if ill.len() as u64 == self.recipe.cases {
                break;
            }
            let own = draws.stream(1).stream(number);
            let at = |hours: f64| (hours * HOUR_MS as f64) as Millis;
            let isolated_at = AS_OF - at(24.0 * 0.6 * days * unit(own.draw(0)));
            let confirmed_at = isolated_at - at(1.0 + 5.0 * unit(own.draw(1)));
            let sampled_at = confirmed_at - at(8.0 + 12.0 * unit(own.draw(2)));
            let onset_at = sampled_at - at(24.0 * (0.5 + 2.0 * unit(own.draw(3))));
            ill.push(Ill { person: number, onset_at, sampled_at, confirmed_at, isolated_at });
        }
        ill.sort_unstable_by_key(|of| self.id(of.person));
        ill
    }
}

impl Illness {
    /// Of a case.
    fn of(ill: &Ill) -> Self {
        Illness { onset_at: ill.onset_at, isolated_at: ill.isolated_at }
    }
}

impl District<'_> {
    /// Lives a day; its rows stand in `signals` then, those of gps and towers in the order of time.
    pub fn live(&mut self, number: u64) {
        let city = self.city;
        let making = city.making(number);
        let sending = Sending {
            map: &city.map,
            normal: &city.normal,
            gcj02: city.recipe.gcj02,
            days_before: making.days_before,
        };
        let (from, to) = city.cases.range();
        let has_cases = making.start < to && from < making.start + DAY_MS;
        let sends = |source: Source| city.recipe.sources.contains(&source);
        let signals = &mut self.signals;
        signals.pings.turn();
        signals.signals.turn();
        let counts = |signals: &Signals| {
            (
                signals.pings.now.len() + signals.pings.late.len(),
                signals.signals.now.len() + signals.signals.late.len(),
            )
        };
        for (row, person) in (0u32..).zip(&self.people) {
            let ill = self.ill[row as usize].map(|case| Illness::of(&city.cases.ill[case as usize]));
            making.day(person, ill.as_ref(), &mut self.day);
            let before = counts(signals);
            if sends(Source::Gps) {
                sending.pings(person, row, &self.day.pieces, &mut signals.pings);
            }
            if sends(Source::Tower) {
                sending.signals(person, row, &self.day.pieces, &mut signals.signals);
            }
            if sends(Source::Venue) {
                sending.scans(person, row, &self.day, &mut signals.scans);
            }
            if sends(Source::Trip) {
                sending.trips(person, row, &self.day, &mut signals.trips);
            }
            let after = counts(signals);
            let habits = &mut self.habits[row as usize];
            habits.pings += (after.0 - before.0) as u64;
            habits.signals += (after.1 - before.1) as u64;
            for piece in &self.day.pieces {
                let (length, spot) = ((piece.end - piece.start) as f64, piece.from.towards(piece.to, 0.5));
                let of = [1.0, spot.x, spot.y, spot.x * spot.x + spot.y * spot.y];
                habits.moments.iter_mut().zip(of).for_each(|(sum, value)| *sum += value * length);
                if piece.setting == Setting::Home {
                    habits.home_ms += piece.end - piece.start;
                }
                if has_cases {
                    city.cases.meet((row, person.number), piece, person.draws, &mut self.truth);
                }
            }
        }
        // The last day's late rows come in time.
        if number + 1 == city.recipe.days {
            signals.pings.now.append(&mut signals.pings.late);
            signals.signals.now.append(&mut signals.signals.late);
        }
        signals.pings.sort(|ping| (ping.time, ping.person));
        signals.signals.sort(|signal| (signal.time, signal.person));
    }

    /// After the last day.
    pub fn finish(&mut self) {
        self.truth.finish();
        self.signals.scans.sort_by_key(|scan| (scan.time, scan.person));
        self.signals.trips.sort_by_key(|trip| (trip.time, trip.person));
    }
}
