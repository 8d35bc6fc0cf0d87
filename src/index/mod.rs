//! The cases' stays, found by place and time. Only cases are indexed; everyone's stays probe.
//!
//! Squares, H3 cells, venues and trips are looked up by their identity, each with its ranges of time, by slots of it.
//! Where metres decide, stays that stand still are looked up by the box of a lattice, in the same way;
//! moving ones, and those whose reach fills too many boxes, go into R-trees over longitude, latitude and
//! time. Where positions are uncertain there is a lattice for each band of uncertainties, as the reach hangs on them.

mod bits;
mod found;
pub mod intervals;
pub mod sieve;
mod touched;

use crate::case::Case;
use crate::contradiction::Contradiction;
use crate::geo::{LatLonBox, cos_lat};
use crate::lattice::{self, Lattice, Spot};
use crate::person::PersonId;
use crate::ping::{NO_PLACE, Pings};
use crate::place::{Band, PlaceKey, PlaceRule, SquareRows, square};
use crate::region::Regions;
use crate::resident::Dwell;
use crate::risk_area::RiskAreas;
use crate::rule::{EncounterRule, Source, StayRule};
use crate::stay::{Ending, Stay, join, key_of, some_move};
use crate::time::Millis;
use crate::track::{TrackRule, whole_track};
use crate::uncertainty::Uncertainty;
use arrow::array::RecordBatch;
pub use found::{Found, Hit};
use hashbrown::HashMap;
use intervals::{Interval, Intervals, Query};
use rstar::primitives::{GeomWithData, Rectangle};
use rstar::{AABB, RTree};
use sieve::{Sieve, is_met};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

/// A case's stay. What a meeting by position hangs on where nobody is uncertain or moves is in one line of the caches.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct CaseStay {
    /// The [`cos_lat`] of where it stands, where metres decide.
    pub cos_lat: f64,
    /// The case, by its number in the job (cases are in the order of their ids).
    pub case: u32,
    /// Whether it stands, and it does not matter by what it ends.
    pub is_plain: bool,
    /// Where and when, within the infectious range.
    pub stay: Stay,
}

/// Two lines, the second of which is seldom looked at.
const _: () = assert!(size_of::<CaseStay>() == 128);

impl CaseStay {
    /// A stay of a case.
    pub fn new(case: u32, stay: Stay, metres_decide: bool) -> Self {
        let cos_lat = if metres_decide { cos_lat(stay.lat) } else { f64::NAN };
        CaseStay { cos_lat, case, is_plain: stay.leg.is_none() && stay.ending == Ending::default(), stay }
    }
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
    /// The same venue or trip.
    Id,
    /// The same square or cell, or near enough for metres to decide.
    Position(PlaceKey),
}

/// A place that stays of one source share: the kind of the key, as bits, and the key in short.
type Keyed = (u8, u64);

fn keyed(key: PlaceKey, source: Source) -> Keyed {
    let by_id = matches!(key, PlaceKey::Venue(_) | PlaceKey::Trip(_));
    (source as u8 | u8::from(by_id) << 7, key.short())
}

type Boxed = GeomWithData<Rectangle<[f64; 3]>, u32>;

/// Boxes that one stay's reach may fill before it goes into the R-tree.
const BOXES_MAX: usize = 64;
/// Boxes of the lattice are so many distances high, and at least so many metres, and so much of the farthest reach.
const BOX_DISTANCES: f64 = 1.5;
const BOX_M_MIN: f64 = 10.0;
const BOX_REACH: f64 = 1.0 / 3.0;
/// Near the antimeridian differences of longitude say nothing.
const LON_MAX: f64 = 179.0;

/// Stays of one source, found by where they are, for persons' stays of one band.
#[derive(Debug)]
struct Near {
    /// The farthest reach, metres.
    reach_m: f64,
    reach: Reach,
    /// Those that stand, by every box that their reach touches.
    boxes: Intervals<Spot>,
    lattice: Option<Lattice>,
    /// The others.
    tree: RTree<Boxed>,
}

/// What else decides which stays there are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside<'a> {
    /// Where accuracies are not known: notes whether they had to decide.
    pub ties: Option<&'a AtomicBool>,
    /// How uncertain positions are, where the rule weighs that.
    pub uncertainty: Option<&'a Uncertainty>,
    /// How scans are held against positions, if they are.
    pub contradiction: Option<Contradiction<'a>>,
    /// Whether it counts how long cases dwell anywhere.
    pub residents: bool,
    /// The area in which that counts, where the rule asks for one.
    pub home: Option<&'a Regions>,
    /// Areas that a dwell in counts too.
    pub areas: Option<&'a Arc<RiskAreas>>,
    /// Whether it counts how far from a stay the ping is that ends it.
    pub endings: bool,
    /// Pings that the first cases have in the place of their own, and how many cases that are.
    pub moved: Option<(&'a RecordBatch, u32)>,
}

/// What a sieve of the cases' stays is made with.
#[derive(Debug)]
struct SieveWith {
    feeds: Vec<StayRule>,
    as_of: Millis,
    uncertainty: Option<Uncertainty>,
    areas: Option<Arc<RiskAreas>>,
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
    /// By band, and by source; none where metres do not decide.
    near: Vec<(Band, [Near; Source::ALL.len()])>,
    /// By person's number.
    dwells: Vec<Dwell>,
    sieve_with: SieveWith,
    sieve: OnceLock<Sieve>,
    /// Whether some scan of a case's person was left out, as its own position speaks against it.
    pub contradicted: bool,
    /// By case.
    pub onsets: Vec<Option<Millis>>,
    /// By case and source.
    pub observed: Vec<[Observed; Source::ALL.len()]>,
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
        Beside { ties, uncertainty, contradiction, residents, home, areas, endings, moved }: Beside<'_>,
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
        let mut observed = vec![[Observed::default(); Source::ALL.len()]; cases.len()];
        let mut case_stays: Vec<CaseStay> = Vec::new();
        let mut rules = Source::ALL.map(|source| {
            let rule = TrackRule::new(source, feeds, &rule.place, as_of, false)
                .with_uncertainty(uncertainty)
                .with_endings(endings);
            ties.map_or_else(|| rule.clone(), |ties| rule.clone().without_accuracies(ties))
        });
        let mut contradicted = false;
        let mut dwells: Vec<Dwell> = vec![Dwell::default(); by_person.len()];
        let mut holding = contradiction.map(|c| {
            Source::ALL.map(|source| {
                let rule = TrackRule::new(source, feeds, &rule.place, as_of, false);
                rule.with_uncertainty(Some(c.uncertainty))
            })
        });
        let first = moved.map_or(0, |(_, count)| count);
        let moved = moved.map(|(pings, count)| (pings, 0..count, true));
        for (pings, of, is_moved) in std::iter::once((pings, first..cases.len() as u32, false)).chain(moved) {
            let view = Pings::of(pings);
            // A stay a ping, at most, but for persons who are several cases.
            case_stays.reserve(view.times.len());
            for group in view.groups() {
                let Some(&person) = person_numbers.get(&view.persons.at(group.start).to_id()) else {
                    continue;
                };
                let held_against = contradiction.zip(holding.as_mut());
                let scans = held_against
                    .map_or_else(Vec::new, |(c, rules)| c.scans(&view, group.clone(), feeds, rules));
                contradicted |= !scans.is_empty();
                let mut dwelt = Vec::new();
                for rule_of in &mut rules {
                    let source = rule_of.source;
                    let mut whole = whole_track(&view, group.clone(), feeds, rule_of);
                    if source == Source::Venue {
                        whole.retain(|stay| !scans.contains(&(stay.start, stay.place)));
                    }
                    if residents {
                        dwelt.extend_from_slice(&whole);
                    }
                    for &case in by_person[person as usize].iter().filter(|case| of.contains(case)) {
                        let range = &cases[case as usize];
                        let clipped: Vec<Stay> = whole
                            .iter()
                            .filter_map(|s| s.clipped(range.infectious_from, range.infectious_to))
                            .collect();
                        observed[case as usize][source as usize] = observe(&clipped);
                        let metres_decide = rule.place.metres().is_some();
                        let joined = joined(&clipped, &rule.place, moving).into_iter();
                        case_stays.extend(joined.map(|stay| CaseStay::new(case, stay, metres_decide)));
                    }
                }
                if residents && !is_moved {
                    dwells[person as usize] = Dwell::new(&dwelt, &rule.place, home);
                }
            }
        }
        // What one ping meets stands together.
        case_stays.sort_by_cached_key(|c| (place_in_short(&c.stay, rule), c.stay.start, c.case));
        let sieve_with = SieveWith {
            feeds: feeds.to_vec(),
            as_of,
            uncertainty: uncertainty.cloned(),
            areas: areas.cloned(),
        };
        let mut index = CaseIndex {
            rule: *rule,
            grow_cases: moving,
            persons,
            person_numbers,
            // Sorting takes as much again.
            bytes: case_stays.len() * 2 * size_of::<CaseStay>(),
            stays: case_stays,
            keyed: Intervals::default(),
            rows: None,
            near: Vec::new(),
            sieve_with,
            sieve: OnceLock::new(),
            contradicted,
            dwells,
            onsets: cases.iter().map(|case| case.onset_at).collect(),
            observed,
        };
        index.fill(uncertainty);
        let near = index.near.iter().flat_map(|(_, near)| near).map(|near| near.boxes.bytes());
        // Dealing ranges to slots takes as much again.
        index.bytes += (index.keyed.bytes() + near.sum::<usize>()) * 2;
        index
    }

    fn fill(&mut self, uncertainty: Option<&Uncertainty>) {
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
                if stay.source.is_by_id() {
                    add(keyed(key_of(stay, &rule.place), stay.source), interval(item, stay));
                    if !rule.cross_source {
                        continue;
                    }
                }
                if stay.has_position() && rule.place.metres().is_none() {
                    let key = PlaceKey::of_position(&rule.place, stay.lat, stay.lon);
                    add(keyed(key, stay.source), interval(item, stay));
                }
            }
        });
        if rule.place.metres().is_some() {
            let of_band = |band: Band| {
                let near = |source| self.near_of(source, band, is_met(source, band, &self.rule, uncertainty));
                (band, Source::ALL.map(near))
            };
            self.near = self.rule.place.bands().into_iter().map(of_band).collect();
        }
        self.keyed = by_key;
    }

    /// The stays of a source that persons' stays of a band may be near.
    fn near_of(&self, source: Source, band: Band, is_met: bool) -> Near {
        let rule = &self.rule;
        let by_position = |stay: &Stay| {
            stay.source == source && stay.has_position() && (!source.is_by_id() || rule.cross_source)
        };
        let of_source: Vec<(&Stay, u32, f64)> = self
            .stays
            .iter()
            .zip(0..)
            .filter(|(c, _)| is_met && by_position(&c.stay))
            .filter_map(|(c, item)| Some((&c.stay, item, band.reach_m(c.stay.sigma_m)?)))
            .collect();
        let reach_m = of_source.iter().map(|(.., reach_m)| *reach_m).fold(0.0, f64::max);
        // For stays that stand, where nobody moves.
        let lattice = (!self.grow_cases).then(|| {
            let areas = || of_source.iter().map(|(stay, _, reach_m)| stay.bounds().grown(*reach_m));
            let lat_min = areas().map(|a| a.lat_min).fold(f64::INFINITY, f64::min);
            let lat_max = areas().map(|a| a.lat_max).fold(f64::NEG_INFINITY, f64::max);
            let row_m = rule.place.metres().unwrap_or_default() * BOX_DISTANCES;
            Lattice::new(row_m.max(BOX_M_MIN).max(reach_m * BOX_REACH), lat_min, lat_max)
        });
        let spots_of = |stay: &Stay, reach_m: f64| {
            lattice.as_ref().and_then(|l| l.spots(stay.bounds().grown(reach_m), BOXES_MAX))
        };
        let boxes = Intervals::new(|add| {
            for (stay, item, reach_m) in &of_source {
                for spot in spots_of(stay, *reach_m).into_iter().flatten() {
                    let (start, end) = (stay.start, stay.end + rule.lag_ms);
                    add(spot, Interval { start, end, lat: stay.lat, lon: stay.lon, item: *item });
                }
            }
        });
        let mut tree = Vec::new();
        for (stay, item, reach_m) in
            of_source.iter().filter(|(s, _, reach_m)| spots_of(s, *reach_m).is_none())
        {
            let margin = if self.grow_cases { *reach_m } else { 0.0 };
            for part in stay.bounds().grown(margin).split() {
                let (start, end) = (stay.start as f64, (stay.end + rule.lag_ms) as f64);
                tree.push(GeomWithData::new(
                    Rectangle::from_corners(
                        [part.lon_min, part.lat_min, start],
                        [part.lon_max, part.lat_max, end],
                    ),
                    *item,
                ));
            }
        }
        let reach = Reach::new(reach_m, lattice.as_ref());
        Near { reach_m, reach, boxes, lattice, tree: RTree::bulk_load(tree) }
    }

    /// What a ping has to pass first. It is made when it is first asked for: where rows are sieved before all cases' stays
    /// are known, nobody does.
    pub fn sieve(&self) -> &Sieve {
        self.sieve.get_or_init(|| {
            let SieveWith { feeds, as_of, uncertainty, areas } = &self.sieve_with;
            let stays: Vec<Stay> = self.stays.iter().map(|c| c.stay).collect();
            Sieve::new(&stays, &self.rule, feeds, *as_of, uncertainty.as_ref()).with_areas(areas.as_ref())
        })
    }

    /// Whether no case has a stay.
    pub fn is_empty(&self) -> bool {
        self.stays.is_empty()
    }

    /// How long the person of a case dwells anywhere, where that counts.
    pub fn dwell(&self, case: u32) -> &Dwell {
        &self.dwells[self.persons[case as usize] as usize]
    }

    /// Cases.
    pub fn cases(&self) -> usize {
        self.persons.len()
    }

    /// A sieve of the squares or cells that cases stayed in, whoever is there and whenever within a time.
    pub fn places_sieve(&self, (from, to): (Millis, Millis), feeds: &[StayRule]) -> Sieve {
        let placed = self.stays.iter().map(|c| &c.stay).filter(|stay| stay.has_position());
        let key = |stay: &Stay| PlaceKey::of_position(&self.rule.place, stay.lat, stay.lon).short();
        let by_place: HashMap<u64, &Stay> = placed.map(|stay| (key(stay), stay)).collect();
        let all_along = |stay: &&Stay| {
            let (place, source) = (NO_PLACE, Source::Gps);
            Stay { start: from, sure: to, end: to, source, place, ..**stay }
        };
        let stays: Vec<Stay> = by_place.values().map(all_along).collect();
        // Of any source, and scans by where they are.
        let rule = EncounterRule { lag_ms: 0, cross_source: true, ..self.rule };
        Sieve::new(&stays, &rule, feeds, to, None)
    }

    /// Stays of all cases.
    pub fn len(&self) -> usize {
        self.stays.len()
    }

    /// What a stay may share with a case's, where squares or cells are places; none if it surely shares none.
    #[inline]
    fn key_of(&self, stay: &Stay) -> Option<PlaceKey> {
        match &self.rows {
            Some(rows) => rows.square(stay.lat, stay.lon).map(PlaceKey::Square),
            None => Some(self.key_of_any(stay)),
        }
    }

    /// By itself, so that nobody computes it who does not ask.
    #[inline(never)]
    fn key_of_any(&self, stay: &Stay) -> PlaceKey {
        PlaceKey::of_position(&self.rule.place, stay.lat, stay.lon)
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
    fn new(reach_m: f64, lattice: Option<&Lattice>) -> Self {
        let around = |lat: f64| LatLonBox::of_path(lat, 0.0, 0.0, 0.0).grown(reach_m);
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

fn in_tree(tree: &RTree<Boxed>, stay: &Stay, reach_m: f64) -> Vec<u32> {
    let mut items = Vec::new();
    if tree.size() == 0 {
        return items;
    }
    for part in stay.bounds().grown(reach_m).split() {
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
    match rule.place.metres() {
        Some(metres) if stay.has_position() => {
            PlaceKey::Square(square(stay.lat, stay.lon, metres.max(BOX_M_MIN))).short()
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
