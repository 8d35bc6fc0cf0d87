//! The cases' stays, found by place and time. Only cases are indexed; everyone's stays probe.
//!
//! Squares, H3 cells and venues are looked up by their identity, each with an interval tree over time;
//! metres go through R-trees over longitude, latitude and time.

pub mod intervals;
pub mod sieve;

use crate::case::Case;
use crate::person::{PersonId, PersonRef};
use crate::ping::Pings;
use crate::place::{PlaceKey, PlaceRule};
use crate::rule::{EncounterRule, Motion, Source, StayRule};
use crate::stay::{Stay, join_runs, key_of, stays};
use crate::time::Millis;
use arrow::array::RecordBatch;
use hashbrown::HashMap;
use intervals::{Interval, Intervals};
use rstar::primitives::{GeomWithData, Rectangle};
use rstar::{AABB, RTree};
use sieve::Sieve;

/// A case's stay.
#[derive(Debug, Clone, Copy)]
pub struct CaseStay {
    /// The case, by its number in the job (cases are in the order of their ids).
    pub case: u32,
    /// Where and when, within the infectious range.
    pub stay: Stay,
}

/// How many stays a case has from one source, and how long they last together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observed {
    /// Stays.
    pub stays: u64,
    /// Length of their union.
    pub observed_ms: Millis,
}

/// How a neighbour was found, and so what makes it an encounter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The same venue.
    Id,
    /// The same square or cell, or near enough for metres to decide.
    Position,
}

type Boxed = GeomWithData<Rectangle<[f64; 3]>, u32>;

/// The index over all cases' stays.
#[derive(Debug)]
pub struct CaseIndex {
    rule: EncounterRule,
    grow_cases: bool,
    /// By case: its person's number.
    persons: Vec<u32>,
    person_numbers: HashMap<PersonId, u32>,
    stays: Vec<CaseStay>,
    keyed: HashMap<(PlaceKey, Source), Intervals>,
    near: [RTree<Boxed>; 3],
    /// What a ping has to pass first.
    pub sieve: Sieve,
    /// By case and source.
    pub observed: Vec<[Observed; 3]>,
    /// The most memory that the index itself takes, bytes, roughly.
    pub bytes: usize,
}

impl CaseIndex {
    /// Builds the index from the pings of the cases' persons, grouped by person.
    pub fn build(
        pings: &RecordBatch,
        cases: &[Case],
        rule: &EncounterRule,
        feeds: &[StayRule],
        as_of: Millis,
    ) -> Self {
        let mut person_numbers = HashMap::new();
        let mut by_person: Vec<Vec<u32>> = Vec::new();
        let mut persons = Vec::with_capacity(cases.len());
        for (case, number) in cases.iter().zip(0..) {
            let next = by_person.len() as u32;
            let person = *person_numbers.entry(case.person.clone()).or_insert(next);
            if person == next {
                by_person.push(Vec::new());
            }
            by_person[person as usize].push(number);
            persons.push(person);
        }
        let mut observed = vec![[Observed::default(); 3]; cases.len()];
        let mut case_stays = Vec::new();
        let view = Pings::of(pings);
        let mut tracks = Tracks::default();
        for group in view.groups() {
            let Some(&person) = person_numbers.get(&view.persons.at(group.start).to_id()) else { continue };
            for &case in &by_person[person as usize] {
                let range = &cases[case as usize];
                for source in Source::ALL {
                    let whole = tracks.stays(&view, group.clone(), source, feeds, &rule.place, as_of);
                    let mut clipped: Vec<Stay> = whole
                        .iter()
                        .filter_map(|s| s.clipped(range.infectious_from, range.infectious_to))
                        .collect();
                    observed[case as usize][source as usize] = observe(&clipped);
                    join_runs(&mut clipped, &rule.place, feeds);
                    case_stays.extend(clipped.into_iter().map(|stay| CaseStay { case, stay }));
                }
            }
        }
        let grow_cases = feeds.iter().any(|f| f.motion == Motion::Linear);
        let plain: Vec<Stay> = case_stays.iter().map(|c| c.stay).collect();
        let sieve = Sieve::new(&plain, rule, feeds, as_of);
        let mut index = CaseIndex {
            rule: *rule,
            grow_cases,
            persons,
            person_numbers,
            bytes: case_stays.len() * 3 * size_of::<CaseStay>(),
            stays: case_stays,
            keyed: HashMap::new(),
            near: Default::default(),
            sieve,
            observed,
        };
        index.fill();
        index
    }

    fn fill(&mut self) {
        let mut keyed: HashMap<(PlaceKey, Source), Vec<Interval>> = HashMap::new();
        let mut near: [Vec<Boxed>; 3] = Default::default();
        for (CaseStay { stay, .. }, item) in self.stays.iter().zip(0..) {
            let interval = Interval { start: stay.start, end: stay.end + self.rule.lag_ms, item };
            let mut add = |key| keyed.entry((key, stay.source)).or_default().push(interval);
            if stay.source == Source::Venue {
                add(key_of(stay, &self.rule.place));
                if !self.rule.cross_source {
                    continue;
                }
            }
            if !stay.has_position() {
                continue;
            }
            match self.rule.place {
                PlaceRule::Distance { distance_m_max } => {
                    let margin = if self.grow_cases { distance_m_max } else { 0.0 };
                    for part in stay.bounds().grown(margin).split() {
                        let (start, end) = (interval.start as f64, interval.end as f64);
                        near[stay.source as usize].push(GeomWithData::new(
                            Rectangle::from_corners(
                                [part.lon_min, part.lat_min, start],
                                [part.lon_max, part.lat_max, end],
                            ),
                            item,
                        ));
                    }
                }
                rule => add(PlaceKey::of_position(&rule, stay.lat, stay.lon)),
            }
        }
        self.keyed = keyed.into_iter().map(|(key, intervals)| (key, Intervals::new(intervals))).collect();
        self.near = near.map(RTree::bulk_load);
    }

    /// Whether no case has a stay.
    pub fn is_empty(&self) -> bool {
        self.stays.is_empty()
    }

    /// Stays of all cases.
    pub fn len(&self) -> usize {
        self.stays.len()
    }

    /// The number of a person who is a case.
    pub fn person_number(&self, person: PersonRef<'_>) -> Option<u32> {
        self.person_numbers.get(&person).copied()
    }

    /// Calls `each` with every case's stay that may meet this one: it overlaps it in time, or did so at
    /// most the lag before, and shares its key or is near. Stays of the person `own` are left out.
    pub fn neighbours(&self, stay: &Stay, own: Option<u32>, each: &mut impl FnMut(By, &CaseStay)) {
        if !self.sieve.may_meet(stay) {
            return;
        }
        let mut pass = |by: By, item: u32| {
            let case = &self.stays[item as usize];
            if Some(self.persons[case.case as usize]) != own {
                each(by, case);
            }
        };
        if stay.source == Source::Venue
            && let Some(intervals) = self.keyed.get(&(PlaceKey::Venue(stay.place), Source::Venue))
        {
            intervals.overlapping(stay.start, stay.end, &mut |item| pass(By::Id, item));
        }
        if !stay.has_position() {
            return;
        }
        let meets = |case: &Source| match (stay.source, *case) {
            (Source::Venue, Source::Venue) => false,
            (mine, theirs) => mine == theirs || self.rule.cross_source,
        };
        for source in Source::ALL.iter().filter(|s| meets(s)) {
            match self.rule.place {
                PlaceRule::Distance { distance_m_max } => {
                    for item in self.near(stay, *source, distance_m_max) {
                        pass(By::Position, item);
                    }
                }
                rule => {
                    let key = PlaceKey::of_position(&rule, stay.lat, stay.lon);
                    if let Some(intervals) = self.keyed.get(&(key, *source)) {
                        intervals.overlapping(stay.start, stay.end, &mut |item| pass(By::Position, item));
                    }
                }
            }
        }
    }

    fn near(&self, stay: &Stay, source: Source, distance_m_max: f64) -> Vec<u32> {
        let tree = &self.near[source as usize];
        let mut items = Vec::new();
        if tree.size() == 0 {
            return items;
        }
        for part in stay.bounds().grown(distance_m_max).split() {
            let envelope = AABB::from_corners(
                [part.lon_min, part.lat_min, stay.start as f64],
                [part.lon_max, part.lat_max, stay.end as f64],
            );
            items.extend(tree.locate_in_envelope_intersecting(envelope).map(|boxed| boxed.data));
        }
        // Both boxes may be cut at the antimeridian, and so meet twice.
        items.sort_unstable();
        items.dedup();
        items
    }
}

fn observe(stays: &[Stay]) -> Observed {
    let union = crate::time::union(stays.iter().map(|s| (s.start, s.end)).collect());
    Observed { stays: stays.len() as u64, observed_ms: union.iter().map(|(start, end)| end - start).sum() }
}

/// Room for one person's pings and stays, used again for the next.
#[derive(Debug, Default)]
pub struct Tracks {
    pings: Vec<crate::ping::Ping>,
    stays: Vec<Stay>,
}

impl Tracks {
    /// The stays of one person (a group of rows) from one source.
    pub fn stays(
        &mut self,
        view: &Pings<'_>,
        group: std::ops::Range<usize>,
        source: Source,
        feeds: &[StayRule],
        place: &PlaceRule,
        as_of: Millis,
    ) -> &mut Vec<Stay> {
        self.pings.clear();
        self.stays.clear();
        self.pings.extend(group.map(|row| view.at(row)).filter(|p| feeds[p.feed as usize].source == source));
        if !self.pings.is_empty() {
            stays(&mut self.pings, source, feeds, place, as_of, &mut self.stays);
        }
        &mut self.stays
    }
}
