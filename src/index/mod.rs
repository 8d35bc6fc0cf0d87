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
use crate::geo::{LatLonBox, cos_lat};
use crate::person::{PersonId, PersonRef};
use crate::ping::Pings;
use crate::place::{PlaceKey, PlaceRule, SquareRows, square};
use crate::rule::{EncounterRule, Source, StayRule};
use crate::stay::{Stay, join, key_of, some_move};
use crate::time::Millis;
use crate::track::{Track, TrackRule};
use arrow::array::RecordBatch;
use hashbrown::HashMap;
use intervals::{Interval, Intervals, Query};
use lattice::{Lattice, Spot};
use rstar::primitives::{GeomWithData, Rectangle};
use rstar::{AABB, RTree};
use sieve::Sieve;
use std::sync::atomic::AtomicBool;

/// A case's stay.
#[derive(Debug, Clone, Copy)]
pub struct CaseStay {
    /// The case, by its number in the job (cases are in the order of their ids).
    pub case: u32,
    /// Where and when, within the infectious range.
    pub stay: Stay,
    /// The [`cos_lat`] of where it stands, where metres decide.
    pub cos_lat: f64,
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

/// A place that stays of one source share: the kind of the key, as bits, and the key in short.
type Keyed = (u8, u64);

fn keyed(key: PlaceKey, source: Source) -> Keyed {
    let venue = matches!(key, PlaceKey::Venue(_));
    (source as u8 | u8::from(venue) << 7, key.short())
}

type Boxed = GeomWithData<Rectangle<[f64; 3]>, u32>;

/// Boxes that one stay's reach may fill before it goes into the R-tree.
const BOXES_MAX: usize = 64;
/// Boxes of the lattice are so many distances high, and at least so many metres.
const BOX_DISTANCES: f64 = 1.5;
const BOX_M_MIN: f64 = 10.0;
/// Near the antimeridian differences of longitude say nothing.
const LON_MAX: f64 = 179.0;

/// Stays of one source, found by where they are.
#[derive(Debug, Default)]
struct Near {
    /// Those that stand, by every box that their reach touches.
    boxes: Intervals<Spot>,
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
    keyed: Intervals<Keyed>,
    /// The rows of squares that cases stay in, where squares are places and the rows are not too many.
    rows: Option<SquareRows>,
    near: [Near; 3],
    reach: Reach,
    /// What a ping has to pass first.
    pub sieve: Sieve,
    /// By case and source.
    pub observed: Vec<[Observed; 3]>,
    /// The most memory that the index itself takes, bytes, roughly.
    pub bytes: usize,
}

impl CaseIndex {
    /// Builds the index from the pings of the cases' persons, grouped by person. Where accuracies are not known,
    /// `ties` notes whether they had to decide.
    pub fn build(
        pings: &RecordBatch,
        cases: &[Case],
        rule: &EncounterRule,
        feeds: &[StayRule],
        as_of: Millis,
        ties: Option<&AtomicBool>,
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
        let mut rules = Source::ALL.map(|source| {
            let rule = TrackRule::new(source, feeds, &rule.place, as_of, false);
            ties.map_or_else(|| rule.clone(), |ties| rule.clone().without_accuracies(ties))
        });
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
                    let metres_decide = matches!(rule.place, PlaceRule::Distance { .. });
                    case_stays.extend(joined(&clipped, &rule.place, moving).into_iter().map(|stay| {
                        let cos_lat = if metres_decide { cos_lat(stay.lat) } else { f64::NAN };
                        CaseStay { case, stay, cos_lat }
                    }));
                }
            }
        }
        // What one ping meets stands together.
        case_stays.sort_by_cached_key(|c| (place_in_short(&c.stay, rule), c.stay.start, c.case));
        let plain: Vec<Stay> = case_stays.iter().map(|c| c.stay).collect();
        let sieve = Sieve::new(&plain, rule, feeds, as_of);
        let mut index = CaseIndex {
            rule: *rule,
            grow_cases: moving,
            persons,
            person_numbers,
            bytes: case_stays.len() * 3 * size_of::<CaseStay>(),
            stays: case_stays,
            keyed: Intervals::default(),
            rows: None,
            reach: Reach::default(),
            near: Default::default(),
            sieve,
            observed,
        };
        index.fill();
        index
    }

    fn fill(&mut self) {
        let lattice = self.lattice();
        let (rule, stays) = (&self.rule, &self.stays);
        let interval = |item: u32, stay: &Stay| Interval {
            start: stay.start,
            end: stay.end + rule.lag_ms,
            lat: stay.lat,
            lon: stay.lon,
            item,
        };
        if let PlaceRule::Grid { square_m } = rule.place {
            let squares = stays.iter().filter(|c| c.stay.has_position());
            let squares = squares.map(|c| square(c.stay.lat, c.stay.lon, square_m));
            self.rows = SquareRows::new(squares, square_m);
        }
        let by_key = Intervals::new(|add| {
            for (CaseStay { stay, .. }, item) in stays.iter().zip(0..) {
                if stay.source == Source::Venue {
                    add(keyed(key_of(stay, &rule.place), stay.source), interval(item, stay));
                    if !rule.cross_source {
                        continue;
                    }
                }
                if stay.has_position() && !matches!(rule.place, PlaceRule::Distance { .. }) {
                    let key = PlaceKey::of_position(&rule.place, stay.lat, stay.lon);
                    add(keyed(key, stay.source), interval(item, stay));
                }
            }
        });
        let near = Source::ALL.map(|source| {
            let PlaceRule::Distance { distance_m_max } = rule.place else { return Near::default() };
            let by_position = |stay: &Stay| {
                stay.source == source && stay.has_position() && (source != Source::Venue || rule.cross_source)
            };
            let of_source = || stays.iter().zip(0..).filter(|(c, _)| by_position(&c.stay));
            let spots_of = |stay: &Stay| {
                let reach = stay.bounds().grown(distance_m_max);
                lattice.as_ref().and_then(|l| l.spots(reach, BOXES_MAX))
            };
            let boxes = Intervals::new(|add| {
                for (CaseStay { stay, .. }, item) in of_source() {
                    for spot in spots_of(stay).into_iter().flatten() {
                        add(spot, interval(item, stay));
                    }
                }
            });
            let mut tree = Vec::new();
            for (CaseStay { stay, .. }, item) in of_source().filter(|(c, _)| spots_of(&c.stay).is_none()) {
                let margin = if self.grow_cases { distance_m_max } else { 0.0 };
                for part in stay.bounds().grown(margin).split() {
                    let (start, end) = (stay.start as f64, (stay.end + rule.lag_ms) as f64);
                    tree.push(GeomWithData::new(
                        Rectangle::from_corners(
                            [part.lon_min, part.lat_min, start],
                            [part.lon_max, part.lat_max, end],
                        ),
                        item,
                    ));
                }
            }
            Near { boxes, lattice: lattice.clone(), tree: RTree::bulk_load(tree) }
        });
        let PlaceRule::Distance { distance_m_max } = self.rule.place else {
            (self.keyed, self.near) = (by_key, near);
            return;
        };
        self.reach = Reach::new(distance_m_max, lattice.as_ref());
        (self.keyed, self.near) = (by_key, near);
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
        Some(Lattice::new((distance_m_max * BOX_DISTANCES).max(BOX_M_MIN), lat_min, lat_max))
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
        let anywhere = Query::anywhere(stay.start, stay.end);
        if stay.source == Source::Venue {
            let key = keyed(PlaceKey::Venue(stay.place), Source::Venue);
            self.keyed.overlapping(&key, &anywhere, &mut |item| pass(By::Id, item));
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
                    let spot = near.lattice.as_ref().and_then(|l| l.spot(stay.lat, stay.lon));
                    if let Some(spot) = spot {
                        let query = self.reach.query(stay, spot);
                        let each = &mut |item| pass(By::Position(PlaceKey::Near), item);
                        near.boxes.overlapping(&spot, &query, each);
                    }
                    for item in in_tree(&near.tree, stay, distance_m_max) {
                        pass(By::Position(PlaceKey::Near), item);
                    }
                }
                rule => {
                    let key = match &self.rows {
                        Some(rows) => rows.square(stay.lat, stay.lon).map(PlaceKey::Square),
                        None => Some(PlaceKey::of_position(&rule, stay.lat, stay.lon)),
                    };
                    // No case is in the row of a square without a key.
                    let Some(key) = key else { return };
                    let each = &mut |item| pass(By::Position(key), item);
                    self.keyed.overlapping(&keyed(key, *source), &anywhere, each);
                }
            }
        }
    }
}

/// How many degrees away what is near enough can be.
#[derive(Debug, Default)]
struct Reach {
    lat: f64,
    /// By row of the lattice.
    lon: Vec<f64>,
}

impl Reach {
    fn new(distance_m_max: f64, lattice: Option<&Lattice>) -> Self {
        let around = |lat: f64| LatLonBox::of_path(lat, 0.0, 0.0, 0.0).grown(distance_m_max);
        let lon = |(south, north): (f64, f64)| around(south).lon_max.max(around(north).lon_max);
        let lat = around(0.0).lat_max;
        Reach { lat, lon: lattice.map_or_else(Vec::new, |l| l.rows().map(lon).collect()) }
    }

    #[inline]
    fn query(&self, stay: &Stay, spot: Spot) -> Query {
        let Stay { start, end, lat, lon, .. } = *stay;
        let lon_reach = self.lon.get(lattice::row_of(spot)).copied().unwrap_or(f64::INFINITY);
        let lon_reach = if lon.abs() + lon_reach > LON_MAX { f64::INFINITY } else { lon_reach };
        Query { start, end, lat, lon, lat_reach: self.lat, lon_reach }
    }
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

/// A number that stays at one place, or near one another, share.
fn place_in_short(stay: &Stay, rule: &EncounterRule) -> u64 {
    match rule.place {
        PlaceRule::Distance { distance_m_max } if stay.has_position() => {
            PlaceKey::Square(square(stay.lat, stay.lon, distance_m_max.max(BOX_M_MIN))).short()
        }
        _ => key_of(stay, &rule.place).short(),
    }
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
