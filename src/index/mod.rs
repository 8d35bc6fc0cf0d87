//! The cases' stays, found by place and time. Only cases are indexed; everyone's stays probe.
//!
//! Squares, H3 cells and venues are looked up by their identity, each with an interval tree over time.
//! Where metres decide, stays that stand still are looked up by the box of a lattice, in the same way;
//! moving ones, and those whose reach fills too many boxes, go into R-trees over longitude, latitude and
//! time.

pub mod intervals;
pub mod lattice;
pub mod sieve;

use crate::case::Case;
use crate::person::{PersonId, PersonRef};
use crate::ping::Pings;
use crate::place::{PlaceKey, PlaceRule};
use crate::rule::{EncounterRule, Source, StayRule};
use crate::stay::{Stay, join, key_of, some_move};
use crate::time::Millis;
use crate::track::{Track, TrackRule};
use arrow::array::RecordBatch;
use hashbrown::HashMap;
use intervals::{Interval, Intervals};
use lattice::{Lattice, Spot};
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
    Position(PlaceKey),
}

type Boxed = GeomWithData<Rectangle<[f64; 3]>, u32>;

/// Boxes that one stay's reach may fill before it goes into the R-tree.
const BOXES_MAX: usize = 64;
/// Boxes of the lattice are at least this high, metres.
const BOX_M_MIN: f64 = 10.0;

/// Stays of one source, found by where they are.
#[derive(Debug, Default)]
struct Near {
    /// Those that stand, by every box that their reach touches.
    boxes: HashMap<Spot, Intervals>,
    lattice: Option<Lattice>,
    /// The others.
    tree: RTree<Boxed>,
}

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
    near: [Near; 3],
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
        let moving = some_move(feeds);
        let mut observed = vec![[Observed::default(); 3]; cases.len()];
        let mut case_stays: Vec<CaseStay> = Vec::new();
        let view = Pings::of(pings);
        let mut rules = Source::ALL.map(|source| TrackRule::new(source, feeds, &rule.place, as_of, false));
        for group in view.groups() {
            let Some(&person) = person_numbers.get(&view.persons.at(group.start).to_id()) else { continue };
            for rule_of in &mut rules {
                let source = rule_of.source;
                let whole = whole_track(&view, group.clone(), feeds, rule_of);
                for &case in &by_person[person as usize] {
                    let range = &cases[case as usize];
                    let clipped: Vec<Stay> = whole
                        .iter()
                        .filter_map(|s| s.clipped(range.infectious_from, range.infectious_to))
                        .collect();
                    observed[case as usize][source as usize] = observe(&clipped);
                    case_stays.extend(
                        joined(&clipped, &rule.place, moving).into_iter().map(|stay| CaseStay { case, stay }),
                    );
                }
            }
        }
        let plain: Vec<Stay> = case_stays.iter().map(|c| c.stay).collect();
        let sieve = Sieve::new(&plain, rule, feeds, as_of);
        let mut index = CaseIndex {
            rule: *rule,
            grow_cases: moving,
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
        let mut near: [NearParts; 3] = Default::default();
        let lattice = self.lattice();
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
                    let parts = &mut near[stay.source as usize];
                    let reach = stay.bounds().grown(distance_m_max);
                    if let Some(spots) = lattice.as_ref().and_then(|l| l.spots(reach, BOXES_MAX)) {
                        spots.into_iter().for_each(|s| parts.boxes.entry(s).or_default().push(interval));
                        continue;
                    }
                    let margin = if self.grow_cases { distance_m_max } else { 0.0 };
                    for part in stay.bounds().grown(margin).split() {
                        let (start, end) = (interval.start as f64, interval.end as f64);
                        parts.tree.push(GeomWithData::new(
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
        self.near = near.map(|parts| Near {
            boxes: parts.boxes.into_iter().map(|(spot, found)| (spot, Intervals::new(found))).collect(),
            lattice: lattice.clone(),
            tree: RTree::bulk_load(parts.tree),
        });
    }

    /// The lattice for stays that stand, where metres decide and nobody moves.
    fn lattice(&self) -> Option<Lattice> {
        let PlaceRule::Distance { distance_m_max } = self.rule.place else { return None };
        if self.grow_cases {
            return None;
        }
        let reach = |c: &CaseStay| c.stay.has_position().then(|| c.stay.bounds().grown(distance_m_max));
        let areas = || self.stays.iter().filter_map(reach);
        let lat_min = areas().map(|a| a.lat_min).fold(f64::INFINITY, f64::min);
        let lat_max = areas().map(|a| a.lat_max).fold(f64::NEG_INFINITY, f64::max);
        Some(Lattice::new(distance_m_max.max(BOX_M_MIN), lat_min, lat_max))
    }

    /// Whether no case has a stay.
    pub fn is_empty(&self) -> bool {
        self.stays.is_empty()
    }

    /// Cases.
    pub fn cases(&self) -> usize {
        self.persons.len()
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
                    let near = &self.near[*source as usize];
                    if let Some(lattice) = &near.lattice
                        && let Some(spot) = lattice.spot(stay.lat, stay.lon)
                        && let Some(intervals) = near.boxes.get(&spot)
                    {
                        intervals.overlapping(stay.start, stay.end, &mut |item| {
                            pass(By::Position(PlaceKey::Near), item)
                        });
                    }
                    for item in in_tree(&near.tree, stay, distance_m_max) {
                        pass(By::Position(PlaceKey::Near), item);
                    }
                }
                rule => {
                    let key = PlaceKey::of_position(&rule, stay.lat, stay.lon);
                    if let Some(intervals) = self.keyed.get(&(key, *source)) {
                        intervals
                            .overlapping(stay.start, stay.end, &mut |item| pass(By::Position(key), item));
                    }
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct NearParts {
    boxes: HashMap<Spot, Vec<Interval>>,
    tree: Vec<Boxed>,
}

fn in_tree(tree: &RTree<Boxed>, stay: &Stay, distance_m_max: f64) -> Vec<u32> {
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

fn observe(stays: &[Stay]) -> Observed {
    let union = crate::time::union(stays.iter().map(|s| (s.start, s.end)).collect());
    Observed { stays: stays.len() as u64, observed_ms: union.iter().map(|(start, end)| end - start).sum() }
}

fn joined(stays: &[Stay], place: &PlaceRule, moving: bool) -> Vec<Stay> {
    let mut runs: Vec<(Stay, PlaceKey)> = Vec::new();
    for stay in stays {
        let key = key_of(stay, place);
        if !runs.last_mut().is_some_and(|run| join(run, stay, key, moving)) {
            runs.push((*stay, key));
        }
    }
    runs.into_iter().map(|(stay, _)| stay).collect()
}

/// The stays of one person (rows in the order of time) from one source.
pub fn whole_track(
    pings: &Pings<'_>,
    rows: std::ops::Range<usize>,
    feeds: &[StayRule],
    rule: &mut TrackRule<'_>,
) -> Vec<Stay> {
    let mut stays = Vec::new();
    let mut track = Track::default();
    let source = rule.source;
    for ping in rows.map(|row| pings.at(row)).filter(|p| feeds[p.feed as usize].source == source) {
        track.push(ping, true, rule, &mut |stay| stays.push(*stay));
    }
    track.finish(rule, &mut |stay| stays.push(*stay));
    stays
}
