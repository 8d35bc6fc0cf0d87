//! A brute-force oracle: what the engine has to answer, by slow loops over the definitions of
//! docs/definitions.md.
//!
//! It shares no line with the engine. A comment in quotation marks is the sentence of the contract
//! that the code below it implements.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::f64::consts::PI;

/// Milliseconds UTC.
pub type Ms = i64;

/// The kind of a feed; as text "gps", "tower", "trip", "venue".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Source {
    /// Positions of a phone.
    Gps,
    /// Presence at a base station.
    Tower,
    /// A part of a journey.
    Trip,
    /// Scans at a named place.
    Venue,
}

/// How a person moves between two pings.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Motion {
    /// The position of the ping holds for its stay.
    Hold,
    /// Latitude and longitude change evenly in time between two pings.
    Linear,
}

/// One feed of the job with its settings.
#[derive(Clone, Debug)]
pub struct Feed {
    /// The kind of all its pings.
    pub source: Source,
    /// The longest time a ping stands for.
    pub hold_ms: Ms,
    /// Motion between its pings.
    pub motion: Motion,
    /// Accuracy of a ping that has none of its own.
    pub accuracy_m: f64,
    /// The longest A-B-A bounce that is dropped; off at 0.
    pub pingpong_ms: Ms,
    /// The speed above which travel is impossible; off at 0.
    pub speed_m_per_s_max: f64,
    /// The pings, in any order.
    pub pings: Vec<Ping>,
}

/// One ping; the positions of towers and venues are already resolved, all in WGS84 degrees.
#[derive(Clone, Debug)]
pub struct Ping {
    /// Whose ping it is.
    pub person: String,
    /// Its instant.
    pub t: Ms,
    /// Latitude; none for a venue without coordinates.
    pub lat: Option<f64>,
    /// Longitude; none for a venue without coordinates.
    pub lon: Option<f64>,
    /// Its own accuracy, if any.
    pub accuracy_m: Option<f64>,
    /// The tower's, the venue's or the trip's id.
    pub place_id: Option<String>,
    /// Where it is aboard, of a trip.
    pub aboard: Option<Aboard>,
    /// The end of a trip, the check-out of a venue scan.
    pub until: Option<Ms>,
    /// The floor of a venue scan.
    pub floor: Option<String>,
    /// What the tables say of its tower or venue.
    pub facts: Facts,
}

/// What is known of a tower or venue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Range of a tower, radius of a venue.
    pub range_m: Option<f64>,
    /// Kind of a venue.
    pub kind: Option<String>,
    /// Whether a venue is indoors.
    pub indoor: Option<bool>,
    /// How long a scan of a venue stands for.
    pub stay_ms: Option<Ms>,
    /// Milliseconds of the day, on the clock of Shanghai, at which a venue closes.
    pub closes_at: Option<Ms>,
}

/// One case with its infectious range [from, to).
#[derive(Clone, Debug)]
pub struct Case {
    /// Id of the case.
    pub case_id: String,
    /// Who the case is.
    pub person: String,
    /// Start of the infectious range.
    pub from: Ms,
    /// End of the infectious range.
    pub to: Ms,
    /// Onset of symptoms, where it is known.
    pub onset: Option<Ms>,
}

/// What "same place" means for two positions.
#[derive(Clone, Debug)]
pub enum Place {
    /// Both in one square of this side.
    Grid {
        /// Side of a square.
        square_m: f64,
    },
    /// Both in one H3 cell of this resolution.
    Cell {
        /// H3 resolution.
        resolution: u8,
    },
    /// At most this far apart.
    Distance {
        /// The largest distance, itself included.
        m_max: f64,
    },
    /// At most this far apart with at least this probability.
    Probability {
        /// The largest distance.
        m_max: f64,
        /// The least probability.
        p_min: f64,
    },
}

/// What dose and risk hang on.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighing {
    /// `risk_distance_m`.
    pub risk_distance_m: f64,
    /// `lag_half_life_s`.
    pub half_life_ms: Option<Ms>,
    /// The first day from onset, and a weight for each day.
    pub infectiousness: Option<(i64, Vec<f64>)>,
    /// Weights of kinds of venues.
    pub kinds: Vec<(String, f64)>,
    /// Weights of venues indoors and outdoors.
    pub indoor_outdoor: (Option<f64>, Option<f64>),
    /// `expected_s_min`.
    pub expected_ms_min: Option<Ms>,
    /// `risk_min`.
    pub risk_min: Option<f64>,
    /// How long a scan stands for by kind of venue.
    pub stays_ms: Vec<(String, Ms)>,
    /// `contradiction_m`.
    pub contradiction_m: f64,
    /// `resident_h_min` in milliseconds, `resident_of`, `resident_scope`.
    pub resident: Option<(Ms, &'static str, &'static str)>,
}

impl Default for Weighing {
    fn default() -> Self {
        Weighing {
            risk_distance_m: 2.0,
            half_life_ms: None,
            infectiousness: None,
            kinds: Vec::new(),
            indoor_outdoor: (None, None),
            expected_ms_min: None,
            risk_min: None,
            stays_ms: Vec::new(),
            contradiction_m: 2_000.0,
            resident: None,
        }
    }
}

/// The rule of the run.
#[derive(Clone, Debug)]
pub struct Rule {
    /// End of the lookback.
    pub as_of: Ms,
    /// Length of the lookback.
    pub lookback_ms: Ms,
    /// What "same place" means.
    pub place: Place,
    /// Whether stays of different kinds meet.
    pub cross_source: bool,
    /// How long a place stays of interest after the case left it; off at 0.
    pub lag_ms: Ms,
    /// The longest gap that a run closes.
    pub merge_gap_ms: Ms,
    /// How long a candidate lives after the last encounter.
    pub notice_ms: Ms,
    /// Threshold of the direct length.
    pub direct_ms_min: Ms,
    /// Threshold of the confirmed length, if set.
    pub confirmed_ms_min: Option<Ms>,
    /// Threshold of the longest run, if set.
    pub longest_ms_min: Option<Ms>,
    /// Threshold of the 24 h peak, if set.
    pub peak_24h_ms_min: Option<Ms>,
    /// Whether the thresholds hold for the union over cases.
    pub across_cases: bool,
    /// Dose and risk.
    pub weighing: Weighing,
}

/// Everything the answer depends on; the order of the feeds is the order of the job.
#[derive(Clone, Debug)]
pub struct World {
    /// Feeds in job order.
    pub feeds: Vec<Feed>,
    /// Cases in any order.
    pub cases: Vec<Case>,
    /// The rule.
    pub rule: Rule,
    /// Risk areas, in the order of their ids.
    pub areas: Vec<Area>,
    /// The job's own area.
    pub home: Option<Shapes>,
}

/// One encounter of a person with a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Encounter {
    /// Who met the case.
    pub person: String,
    /// The case.
    pub case_id: String,
    /// Start of the range.
    pub start: Ms,
    /// End of the range.
    pub end: Ms,
    /// "direct" or "indirect".
    pub kind: &'static str,
    /// Source of the person's stays.
    pub source: Source,
    /// Source of the case's stays.
    pub case_source: Source,
    /// "ROW:COL" of a square, hex of a cell, id of a venue, none for positions under distance.
    pub place: Option<String>,
    /// Smallest distance, where distance met.
    pub distance_m: Option<f64>,
    /// Whether all its stays are bracketed.
    pub bracketed: bool,
    /// The largest probability of its overlaps, under probability.
    pub probability: Option<f64>,
}

/// All encounters of one person with one case, added up.
#[derive(Clone, Debug, PartialEq)]
pub struct Exposure {
    /// Who met the case.
    pub person: String,
    /// The case.
    pub case_id: String,
    /// Whether the person is a case of the job as well.
    pub person_is_case: bool,
    /// Length of the union of the direct overlaps.
    pub direct_ms: Ms,
    /// Length of the union of the indirect overlaps.
    pub indirect_ms: Ms,
    /// Length of the union of the direct overlaps of two bracketed stays.
    pub confirmed_ms: Ms,
    /// Longest run of the direct union, gaps closed.
    pub longest_ms: Ms,
    /// Largest direct length inside any 24 h.
    pub peak_24h_ms: Ms,
    /// Integral of the largest P, under probability.
    pub expected_ms: Option<f64>,
    /// The dose in hours, under probability.
    pub dose_h: Option<f64>,
    /// Number of encounters of either kind.
    pub encounter_count: u64,
    /// Smallest distance of all encounters that have one.
    pub distance_m_min: Option<f64>,
    /// Start of the first encounter.
    pub first_at: Ms,
    /// End of the last encounter.
    pub last_at: Ms,
    /// Person-side sources, sorted, joined by commas.
    pub sources: String,
}

/// One person to be reviewed.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Who.
    pub person: String,
    /// Why: sorted, joined by commas.
    pub reason: String,
    /// Number of cases with a passing exposure.
    pub case_count: u64,
    /// Case of the strongest passing exposure, if any passes.
    pub case_id: Option<String>,
    /// Direct length of the strongest passing exposure.
    pub direct_ms: Ms,
    /// Confirmed length of the strongest passing exposure.
    pub confirmed_ms: Ms,
    /// Expected length of the strongest passing exposure.
    pub expected_ms: Option<f64>,
    /// Dose of the strongest passing exposure.
    pub dose_h: Option<f64>,
    /// Start of the first encounter of all passing exposures.
    pub first_at: Ms,
    /// End of the last encounter of all passing exposures.
    pub last_at: Ms,
    /// `last_at` plus the notice.
    pub expires_at: Ms,
    /// Number of encounters of all passing exposures.
    pub evidence_count: u64,
}

/// How much of one case one source saw, inside the infectious range.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The case.
    pub case_id: String,
    /// The source.
    pub source: Source,
    /// Number of stays.
    pub stays: u64,
    /// Length of the union of the stays.
    pub observed_ms: Ms,
}

/// The whole answer.
pub struct Answer {
    /// All encounters of all pairs, by person, case, start, kind, source, case source, place, end.
    pub encounters: Vec<Encounter>,
    /// All exposures, by person and case.
    pub exposures: Vec<Exposure>,
    /// All candidates, by whole direct seconds descending, then person.
    pub candidates: Vec<Candidate>,
    /// The dwells in risk areas that make candidates, by person and area.
    pub dwells: Vec<Dwell>,
    /// One for each case and source, by case and source, also where nothing was seen.
    pub observed: Vec<Observed>,
    /// Contradicted scans of cases, and of those who met one by a scan before theirs were looked at.
    pub contradicted: u64,
}

/// Answers a world by brute force.
pub fn answer(world: &World) -> Answer {
    for feed in &world.feeds {
        if feed.motion == Motion::Linear {
            // "`motion = "linear"` (gps; needs `distance` and no lag)"
            assert!(feed.source == Source::Gps, "linear motion is for gps");
            assert!(matches!(world.rule.place, Place::Distance { .. }), "linear motion needs distance");
            assert!(world.rule.lag_ms == 0, "linear motion needs no lag");
        }
    }

    let mut persons: BTreeSet<&str> = BTreeSet::new();
    for feed in &world.feeds {
        for ping in &feed.pings {
            persons.insert(&ping.person);
        }
    }

    // Encounters and exposures of every pair.
    let mut encounters: Vec<Encounter> = Vec::new();
    let mut exposures: Vec<Exposure> = Vec::new();
    // By person, the exposure to all cases as if they were one.
    let mut together: BTreeMap<String, Exposure> = BTreeMap::new();
    // By person and case, and by person and "" for all cases, whether somebody is resident.
    let mut residents: BTreeMap<(String, String), bool> = BTreeMap::new();
    let mut dwells: Vec<Dwell> = Vec::new();
    // Who sat near whom on a trip.
    let mut by_trip: BTreeSet<(String, String)> = BTreeSet::new();
    for person in persons {
        dwells.extend(areas::dwells(world, person, &stays_of_person(world, person)));
        let (mut all_overlaps, mut all_encounters) = (Vec::new(), Vec::new());
        for case in &world.cases {
            // "A person may be several cases; nobody is exposed to their own."
            if case.person == person {
                continue;
            }
            let mut overlaps =
                overlaps_of_pair(&world.rule, &stays_of_person(world, person), &stays_of_case(world, case));
            overlaps.iter_mut().for_each(|overlap| overlap.onset = case.onset);
            let of_pair = encounters_of_pair(person, &case.case_id, &overlaps);
            // "only the shared part of the journey counts"
            if of_pair.iter().any(|e| e.source == Source::Trip && e.kind == "direct") {
                by_trip.insert((person.to_string(), case.case_id.clone()));
            }
            // "exposures: every pair with an encounter"
            if !of_pair.is_empty() {
                let resident = is_resident(world, person, &of_pair);
                residents.insert((person.to_string(), case.case_id.clone()), resident);
                exposures.push(exposure_of_pair(world, person, &case.case_id, &overlaps, &of_pair));
                all_overlaps.extend(overlaps);
                all_encounters.extend(of_pair);
            }
        }
        if !all_encounters.is_empty() {
            let union = exposure_of_pair(world, person, "", &all_overlaps, &all_encounters);
            residents
                .insert((person.to_string(), String::new()), is_resident(world, person, &all_encounters));
            together.insert(person.to_string(), union);
        }
        encounters.extend(all_encounters);
    }

    // "encounters by person_id, case_id, start, kind, source, case_source, place"
    encounters.sort_by(|a, b| {
        a.person
            .cmp(&b.person)
            .then(a.case_id.cmp(&b.case_id))
            .then(a.start.cmp(&b.start))
            .then(a.kind.cmp(b.kind))
            .then(a.source.cmp(&b.source))
            .then(a.case_source.cmp(&b.case_source))
            .then(a.place.cmp(&b.place))
            .then(a.end.cmp(&b.end))
    });
    // "sorted by person_id, then case_id"
    exposures.sort_by(|a, b| a.person.cmp(&b.person).then(a.case_id.cmp(&b.case_id)));
    let candidates = candidates(&world.rule, &exposures, &together, &residents, &by_trip, &dwells);

    let mut observed: Vec<Observed> = Vec::new();
    for case in &world.cases {
        let stays = stays_of_case(world, case);
        for source in [Source::Gps, Source::Tower, Source::Trip, Source::Venue] {
            let ranges: Vec<Range> =
                stays.iter().filter(|stay| stay.source == source).map(|stay| stay.range).collect();
            observed.push(Observed {
                case_id: case.case_id.clone(),
                source,
                stays: ranges.len() as u64,
                observed_ms: length(&union(&ranges)),
            });
        }
    }
    observed.sort_by(|a, b| a.case_id.cmp(&b.case_id).then(a.source.cmp(&b.source)));

    let mut contradicted = 0;
    let mut everyone: BTreeSet<&str> = BTreeSet::new();
    for feed in &world.feeds {
        everyone.extend(feed.pings.iter().map(|ping| ping.person.as_str()));
    }
    for person in everyone {
        let raw = raw_stays_of_person(world, person);
        let mut concerned = false;
        for case in &world.cases {
            // Also in the lag, whether or not a direct overlap covers that.
            let overlaps = |scan: &Stay, theirs: &Stay| {
                direct_overlap(&world.rule, scan, theirs).is_some()
                    || indirect_overlap(&world.rule, scan, theirs).is_some()
            };
            let of_case = stays_of_case(world, case);
            let mut scans = raw.iter().filter(|stay| stay.source == Source::Venue);
            let met = case.person != person
                && scans.any(|scan| of_case.iter().any(|theirs| overlaps(scan, theirs)));
            concerned = concerned || met || case.person == person;
        }
        if concerned {
            let mut scans: BTreeSet<(Ms, Option<String>)> = BTreeSet::new();
            for stay in raw.iter().filter(|stay| contradicts(world, &raw, stay)) {
                scans.insert((stay.range.start, stay.venue_id.clone()));
            }
            contradicted += scans.len() as u64;
        }
    }

    Answer { encounters, exposures, candidates, dwells, observed, contradicted }
}

// ------------------------------------------------------------------------------------------ ranges

/// "every range is half-open"
#[derive(Clone, Copy, PartialEq, Debug)]
struct Range {
    start: Ms,
    end: Ms,
}

/// What two ranges share, if that is longer than nothing.
fn shared(a: Range, b: Range) -> Option<Range> {
    let start = a.start.max(b.start);
    let end = a.end.min(b.end);
    if start < end { Some(Range { start, end }) } else { None }
}

/// The union as sorted ranges that neither touch nor overlap: sort and sweep.
fn union(ranges: &[Range]) -> Vec<Range> {
    let mut sorted: Vec<Range> = ranges.iter().copied().filter(|range| range.start < range.end).collect();
    sorted.sort_by_key(|range| (range.start, range.end));
    let mut swept: Vec<Range> = Vec::new();
    for range in sorted {
        match swept.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => swept.push(range),
        }
    }
    swept
}

/// The total length of ranges that do not overlap.
fn length(disjoint: &[Range]) -> Ms {
    disjoint.iter().map(|range| range.end - range.start).sum()
}

/// What is left of `range` outside a union.
fn without(range: Range, union: &[Range]) -> Vec<Range> {
    let mut left = vec![range];
    for taken in union {
        let mut next: Vec<Range> = Vec::new();
        for piece in left {
            let before = Range { start: piece.start, end: piece.end.min(taken.start) };
            let after = Range { start: piece.start.max(taken.end), end: piece.end };
            next.extend([before, after].into_iter().filter(|part| part.start < part.end));
        }
        left = next;
    }
    left
}

// --------------------------------------------------------------------------------------- positions

/// "the sphere of radius 6,371,008.8 m (IUGG mean radius)"
const EARTH_RADIUS_M: f64 = 6_371_008.8;

/// "M = pi/180 * 6,371,008.8 (metres per degree)"
const M: f64 = PI / 180.0 * EARTH_RADIUS_M;

/// Degrees.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Position {
    lat: f64,
    lon: f64,
}

/// "Distance is great-circle (haversine)"
fn haversine_m(a: Position, b: Position) -> f64 {
    let phi_a = a.lat.to_radians();
    let phi_b = b.lat.to_radians();
    let half_dphi = (b.lat - a.lat).to_radians() / 2.0;
    let half_dlambda = (b.lon - a.lon).to_radians() / 2.0;
    let h = half_dphi.sin() * half_dphi.sin()
        + phi_a.cos() * phi_b.cos() * half_dlambda.sin() * half_dlambda.sin();
    2.0 * EARTH_RADIUS_M * h.sqrt().min(1.0).asin()
}

/// A difference of longitudes the short way round, in [-180, 180).
fn wrapped(mut dlon: f64) -> f64 {
    while dlon >= 180.0 {
        dlon -= 360.0;
    }
    while dlon < -180.0 {
        dlon += 360.0;
    }
    dlon
}

/// "row = floor(lat*M/square_m), and col = floor(lon * M * cos(pi/180 * (row+0.5)*square_m/M) /
/// square_m)"
fn square(position: Position, square_m: f64) -> String {
    let row = (position.lat * M / square_m).floor();
    let col = (position.lon * M * (PI / 180.0 * (row + 0.5) * square_m / M).cos() / square_m).floor();
    format!("{}:{}", row as i64, col as i64)
}

/// The H3 cell of a position: the only line that needs more than std.
fn h3_cell(lat: f64, lon: f64, resolution: u8) -> u64 {
    let resolution = h3o::Resolution::try_from(resolution).unwrap();
    u64::from(h3o::LatLng::new(lat, lon).unwrap().to_cell(resolution))
}

/// "both in one H3 cell of `resolution`"
fn cell(position: Position, resolution: u8) -> String {
    format!("{:x}", h3_cell(position.lat, position.lon, resolution))
}

// ------------------------------------------------------------------------------------------ tracks

/// A ping with its feed.
#[derive(Clone, Copy)]
struct Seen<'w> {
    ping: &'w Ping,
    feed: &'w Feed,
    /// Place of the feed in the job, from 0.
    feed_order: usize,
    position: Option<Position>,
}

/// "The pings of one person from one source kind (`gps`, `tower`, `venue`, `trip`), ordered by
/// time.", raw.
fn raw_track<'w>(world: &'w World, person: &str, source: Source) -> Vec<Seen<'w>> {
    let mut track: Vec<Seen> = Vec::new();
    for (feed_order, feed) in world.feeds.iter().enumerate() {
        if feed.source != source {
            continue;
        }
        for ping in &feed.pings {
            if ping.person != person {
                continue;
            }
            // "Only pings inside the lookback [as_of - lookback, as_of) exist"
            if ping.t < world.rule.as_of - world.rule.lookback_ms || ping.t >= world.rule.as_of {
                continue;
            }
            // "A bad row (..., until before time, ...) is a rejection"
            if ping.until.is_some_and(|until| until < ping.t) {
                continue;
            }
            let position = match (ping.lat, ping.lon) {
                // "Longitude 180 reads as -180."
                (Some(lat), Some(180.0)) => Some(Position { lat, lon: -180.0 }),
                (Some(lat), Some(lon)) => Some(Position { lat, lon }),
                _ => None,
            };
            assert!(
                matches!(source, Source::Venue | Source::Trip) || position.is_some(),
                "a gps or tower ping has a position"
            );
            track.push(Seen { ping, feed, feed_order, position });
        }
    }
    // A stable sort: pings of one instant stay in the order of the job.
    track.sort_by_key(|seen| seen.ping.t);
    track
}

/// "The others are duplicates. Repeated equal scans are one scan."
fn without_duplicates<'w>(source: Source, track: &[Seen<'w>]) -> Vec<Seen<'w>> {
    let mut kept: Vec<Seen> = Vec::new();
    for seen in track {
        if source == Source::Venue || source == Source::Trip {
            let seat = |seen: &Seen| seen.ping.aboard.as_ref().map(trips::looked_at);
            let equal = |other: &Seen| {
                other.ping.t == seen.ping.t
                    && seat(other) == seat(seen)
                    && other.ping.place_id == seen.ping.place_id
                    && other.ping.until == seen.ping.until
                    && other.ping.floor == seen.ping.floor
            };
            if !kept.iter().any(equal) {
                kept.push(*seen);
            }
        } else {
            match kept.last_mut() {
                Some(last) if last.ping.t == seen.ping.t => {
                    if stays_before(seen, last) {
                        *last = *seen;
                    }
                }
                _ => kept.push(*seen),
            }
        }
    }
    kept
}

/// "the one with the smallest `accuracy_m` stays (missing counts as the feed's `accuracy_m`,
/// default 20); ties: smallest tower id, smallest latitude, smallest longitude, the feed first in
/// the job"
fn stays_before(a: &Seen, b: &Seen) -> bool {
    let accuracy_a = a.ping.accuracy_m.unwrap_or(a.feed.accuracy_m);
    let accuracy_b = b.ping.accuracy_m.unwrap_or(b.feed.accuracy_m);
    if accuracy_a != accuracy_b {
        return accuracy_a < accuracy_b;
    }
    if a.ping.place_id != b.ping.place_id {
        return a.ping.place_id < b.ping.place_id;
    }
    let (at_a, at_b) = (a.position.unwrap(), b.position.unwrap());
    if at_a.lat != at_b.lat {
        return at_a.lat < at_b.lat;
    }
    if at_a.lon != at_b.lon {
        return at_a.lon < at_b.lon;
    }
    a.feed_order < b.feed_order
}

/// "a ping is dropped when its speed from the previous kept ping and its speed to the next raw ping
/// both exceed `speed_m_per_s_max`"
fn without_impossible_travel<'w>(raw: &[Seen<'w>]) -> Vec<Seen<'w>> {
    let mut kept: Vec<Seen> = Vec::new();
    for i in 0..raw.len() {
        let limit = raw[i].feed.speed_m_per_s_max;
        // "each off at 0"
        let dropped = limit > 0.0
            && !kept.is_empty()
            && i + 1 < raw.len()
            && speed_m_per_s(&kept[kept.len() - 1], &raw[i]) > limit
            && speed_m_per_s(&raw[i], &raw[i + 1]) > limit;
        if !dropped {
            kept.push(raw[i]);
        }
    }
    kept
}

fn speed_m_per_s(earlier: &Seen, later: &Seen) -> f64 {
    let seconds = (later.ping.t - earlier.ping.t) as f64 / 1000.0;
    haversine_m(earlier.position.unwrap(), later.position.unwrap()) / seconds
}

/// "a ping at B is dropped when the last kept ping before it and the next raw ping after it are
/// both at one other tower A, and those two are at most `pingpong_s_max` (default 120) apart"
fn without_pingpong<'w>(raw: &[Seen<'w>]) -> Vec<Seen<'w>> {
    let mut kept: Vec<Seen> = Vec::new();
    for i in 0..raw.len() {
        let limit = raw[i].feed.pingpong_ms;
        let mut dropped = false;
        // "each off at 0"
        if limit > 0 && !kept.is_empty() && i + 1 < raw.len() {
            let before = kept[kept.len() - 1].ping;
            let after = raw[i + 1].ping;
            let one_tower = before.place_id == after.place_id;
            let other_tower = before.place_id != raw[i].ping.place_id;
            dropped = one_tower && other_tower && after.t - before.t <= limit;
        }
        if !dropped {
            kept.push(raw[i]);
        }
    }
    kept
}

/// The track with its duplicates and filtered pings gone.
fn track<'w>(world: &'w World, person: &str, source: Source) -> Vec<Seen<'w>> {
    let unique = without_duplicates(source, &raw_track(world, person, source));
    match source {
        Source::Gps => without_impossible_travel(&unique),
        Source::Tower => without_pingpong(&unique),
        Source::Trip | Source::Venue => unique,
    }
}

// ------------------------------------------------------------------------------------------- stays

/// One person at one place, or on one leg, over one range.
#[derive(Clone)]
struct Stay {
    source: Source,
    range: Range,
    bracketed: bool,
    /// Where the person is if they hold; none for a venue without coordinates.
    position: Option<Position>,
    /// The way the person goes if they do not hold.
    leg: Option<Leg>,
    venue_id: Option<String>,
    floor: Option<String>,
    trip: Option<(String, Aboard)>,
    /// The sigma of its position, and the radius that it comes from.
    sigma_m: f64,
    radius_m: f64,
    facts: Facts,
}

/// "latitude and longitude change evenly in time" from one ping to the next.
#[derive(Clone, Copy)]
struct Leg {
    /// From ping to ping, whatever the stay is clipped to.
    range: Range,
    from: Position,
    to: Position,
}

/// "a scan while the person's own gps or tower stay is farther from the venue than their uncertainties plus
/// `contradiction_m` gives no exposure"
fn stays_of_person(world: &World, person: &str) -> Vec<Stay> {
    let raw = raw_stays_of_person(world, person);
    raw.iter().filter(|stay| !contradicts(world, &raw, stay)).cloned().collect()
}

fn contradicts(world: &World, stays: &[Stay], scan: &Stay) -> bool {
    let (Source::Venue, Some(venue)) = (scan.source, scan.position) else { return false };
    let t = scan.range.start;
    for stay in stays {
        if !matches!(stay.source, Source::Gps | Source::Tower) || t < stay.range.start || t >= stay.range.end
        {
            continue;
        }
        let at = position_at(stay, t).unwrap();
        let limit = stay.radius_m + scan.radius_m + world.rule.weighing.contradiction_m;
        if haversine_m(Position { lat: at.lat, lon: wrapped(at.lon) }, venue) > limit {
            return true;
        }
    }
    false
}

/// All stays of a person, of all sources, clipped to the lookback, scans that are contradicted among them.
fn raw_stays_of_person(world: &World, person: &str) -> Vec<Stay> {
    let lookback = Range { start: world.rule.as_of - world.rule.lookback_ms, end: world.rule.as_of };
    let mut stays: Vec<Stay> = Vec::new();
    for source in [Source::Gps, Source::Tower, Source::Trip, Source::Venue] {
        let track = track(world, person, source);
        for seen in &track {
            if let Some(mut stay) = stay_of_ping(&world.rule, source, &track, seen) {
                // "Only pings inside the lookback [as_of - lookback, as_of) exist, and a stay is
                // clipped to it."
                if let Some(clipped) = shared(stay.range, lookback) {
                    stay.range = clipped;
                    stays.push(stay);
                }
            }
        }
    }
    stays
}

/// "A case's stays are its person's, clipped to that range."
fn stays_of_case(world: &World, case: &Case) -> Vec<Stay> {
    let infectious = Range { start: case.from, end: case.to };
    let mut stays: Vec<Stay> = Vec::new();
    for mut stay in stays_of_person(world, &case.person) {
        if let Some(clipped) = shared(stay.range, infectious) {
            stay.range = clipped;
            stays.push(stay);
        }
    }
    stays
}

/// "Ping i of a track stands for [t_i, e_i) at its place"; none if the person is nowhere.
fn stay_of_ping(rule: &Rule, source: Source, track: &[Seen], seen: &Seen) -> Option<Stay> {
    let t = seen.ping.t;
    let hold_ms = if source == Source::Venue { scan_ms(rule, seen) } else { seen.feed.hold_ms };
    let mut stay = Stay {
        source,
        range: Range { start: t, end: t },
        bracketed: false,
        position: seen.position,
        leg: None,
        venue_id: if source == Source::Venue { seen.ping.place_id.clone() } else { None },
        floor: seen.ping.floor.clone(),
        trip: seen.ping.place_id.clone().zip(seen.ping.aboard.clone()),
        sigma_m: sigma_m(source, seen),
        radius_m: match source {
            Source::Gps => seen.ping.accuracy_m.unwrap_or(seen.feed.accuracy_m),
            Source::Tower | Source::Venue => seen.ping.facts.range_m.unwrap_or(seen.feed.accuracy_m),
            Source::Trip => 0.0,
        },
        facts: seen.ping.facts.clone(),
    };

    // "A scan with a check-out, or a trip, stands for exactly [t_i, until)"; "a stay with its own
    // `until` is bracketed"
    if (source == Source::Venue || source == Source::Trip)
        && let Some(until) = seen.ping.until
    {
        stay.range.end = until;
        stay.bracketed = true;
        return Some(stay);
    }

    // "t_(i+1) being the time of the track's next later ping"
    let next_t: Option<Ms> = track.iter().map(|other| other.ping.t).filter(|&other_t| other_t > t).min();

    if seen.feed.motion == Motion::Linear {
        // "between two consecutive pings at most `hold` apart, latitude and longitude change evenly
        // in time, and such a stay is bracketed; across a longer gap, and after the last ping, the
        // person is nowhere"
        let next_t = next_t?;
        if next_t - t > hold_ms {
            return None;
        }
        let next = track.iter().find(|other| other.ping.t == next_t).unwrap();
        stay.range.end = next_t;
        stay.bracketed = true;
        stay.leg = Some(Leg { range: stay.range, from: seen.position.unwrap(), to: next.position.unwrap() });
        return Some(stay);
    }

    match next_t {
        // "e_i = min(t_(i+1), t_i + hold)"
        Some(next_t) => {
            stay.range.end = next_t.min(t + hold_ms);
            // "bracketed when t_(i+1) exists, t_(i+1) - t_i <= hold, and a ping at t_(i+1) is at
            // the same place under the rule in force"
            let returns = track
                .iter()
                .any(|other| other.ping.t == next_t && pings_same_place(rule, source, seen, other));
            stay.bracketed = next_t - t <= hold_ms && returns;
        }
        // "the last ping stands for `hold`"
        None => stay.range.end = t + hold_ms,
    }
    Some(stay)
}

/// "no check-out (next scan, the venue's closes_at or midnight, else its stay_s or its kind's default)": how
/// long a scan stands for but for the next one. Of a venue of which none of these is known the feed's hold counts.
fn scan_ms(rule: &Rule, seen: &Seen) -> Ms {
    const DAY_MS: Ms = 86_400_000;
    let facts = &seen.ping.facts;
    let mut stay_ms = facts.stay_ms;
    for (kind, of_kind) in &rule.weighing.stays_ms {
        if stay_ms.is_none() && facts.kind.as_ref() == Some(kind) {
            stay_ms = Some(*of_kind);
        }
    }
    if stay_ms.is_none() && facts.closes_at.is_none() {
        return seen.feed.hold_ms;
    }
    let local = seen.ping.t + 8 * 3_600_000;
    let mut closing = local.div_euclid(DAY_MS) * DAY_MS + facts.closes_at.unwrap_or(DAY_MS);
    while closing <= local {
        closing += DAY_MS;
    }
    stay_ms.unwrap_or(seen.feed.hold_ms).min(closing - local)
}

/// "sigma = accuracy_m / 1.5096 for GPS (accuracy is a 68% radius), range_m / 2 for a tower, radius_m /
/// 2 for a venue"; a venue without a radius counts as accurate to the feed's accuracy_m.
fn sigma_m(source: Source, seen: &Seen) -> f64 {
    match source {
        Source::Gps => seen.ping.accuracy_m.unwrap_or(seen.feed.accuracy_m) / 1.5096,
        Source::Tower | Source::Venue => seen.ping.facts.range_m.unwrap_or(seen.feed.accuracy_m) / 2.0,
        Source::Trip => 0.0,
    }
}

/// "(same square, same cell, same id; under `distance` and `probability`: at most `distance_m_max`
/// away)", for two pings of one track.
fn pings_same_place(rule: &Rule, source: Source, a: &Seen, b: &Seen) -> bool {
    if source == Source::Venue {
        return a.ping.place_id == b.ping.place_id;
    }
    if let Place::Probability { m_max, .. } = rule.place {
        return haversine_m(a.position.unwrap(), b.position.unwrap()) <= m_max;
    }
    positions_meet(rule, (a.position.unwrap(), 0.0), (b.position.unwrap(), 0.0)).is_some()
}

// -------------------------------------------------------------------------------------- same place

/// How two holding stays are at the same place.
struct Meeting {
    place: Option<String>,
    distance_m: Option<f64>,
    /// Under probability: of being within `distance_m_max`, and within `risk_distance_m`.
    probability: Option<(f64, f64)>,
}

/// "Same place, by `[rule.encounter] place`", for two positions.
fn positions_meet(
    rule: &Rule,
    (a, sigma_a): (Position, f64),
    (b, sigma_b): (Position, f64),
) -> Option<Meeting> {
    let probability = None;
    match rule.place {
        // "both positions in one square of side `square_m`"
        Place::Grid { square_m } => {
            let place = square(a, square_m);
            (place == square(b, square_m)).then_some(Meeting {
                place: Some(place),
                distance_m: None,
                probability,
            })
        }
        // "both in one H3 cell of `resolution`"
        Place::Cell { resolution } => {
            let place = cell(a, resolution);
            (place == cell(b, resolution)).then_some(Meeting {
                place: Some(place),
                distance_m: None,
                probability,
            })
        }
        // "at most `distance_m_max` apart"
        Place::Distance { m_max } => {
            let distance_m = haversine_m(a, b);
            (distance_m <= m_max).then_some(Meeting {
                place: None,
                distance_m: Some(distance_m),
                probability,
            })
        }
        // "P(true distance <= distance_m_max) >= `probability_min`"
        Place::Probability { m_max, p_min } => {
            let distance_m = haversine_m(a, b);
            // "s^2 = sigma_p^2 + sigma_c^2"
            let s = (sigma_a * sigma_a + sigma_b * sigma_b).sqrt();
            let p = rice::within(distance_m, s, m_max);
            let near = rice::within(distance_m, s, rule.weighing.risk_distance_m);
            (p >= p_min).then_some(Meeting {
                place: None,
                distance_m: Some(distance_m),
                probability: Some((p, near)),
            })
        }
    }
}

/// "(and floor, where both give one)"
fn floors_agree(a: &Option<String>, b: &Option<String>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    }
}

/// Whether two stays that both hold are at the same place, whenever they are.
fn stays_meet(rule: &Rule, a: &Stay, b: &Stay) -> Option<Meeting> {
    // "Venue stays meet by equal id (and floor, where both give one) [...] whatever `place` says."
    if a.source == Source::Venue && b.source == Source::Venue {
        let met = a.venue_id.is_some() && a.venue_id == b.venue_id && floors_agree(&a.floor, &b.floor);
        // Who is at one venue is together, however large it is.
        let probability = matches!(rule.place, Place::Probability { .. }).then_some((1.0, 1.0));
        return met.then_some(Meeting { place: a.venue_id.clone(), distance_m: None, probability });
    }
    // "trip stays only where the vehicle rule holds, whatever `place` says"
    if a.source == Source::Trip || b.source == Source::Trip {
        let ((id, mine), (other_id, theirs)) = (a.trip.as_ref()?, b.trip.as_ref()?);
        if id != other_id || !trips::near(mine, theirs) {
            return None;
        }
        let probability = matches!(rule.place, Place::Probability { .. }).then_some((1.0, 1.0));
        return Some(Meeting { place: Some(id.clone()), distance_m: None, probability });
    }
    // "With `cross_source = true` stays of different kinds meet by position where both have one
    // (venues with coordinates included); by default only stays of one kind meet."
    if a.source != b.source && !rule.cross_source {
        return None;
    }
    positions_meet(rule, (a.position?, a.sigma_m), (b.position?, b.sigma_m))
}

/// "setting weights by venue kind and indoor", of the venue where two stays meet, if there is one.
fn setting_weight(weighing: &Weighing, a: &Stay, b: &Stay) -> f64 {
    let venue = if a.source == Source::Venue { a } else { b };
    if venue.source != Source::Venue {
        return 1.0;
    }
    let mut weight = 1.0;
    for (kind, of_kind) in &weighing.kinds {
        if venue.facts.kind.as_ref() == Some(kind) {
            weight *= of_kind;
        }
    }
    let (indoor, outdoor) = weighing.indoor_outdoor;
    match venue.facts.indoor {
        Some(true) => weight * indoor.unwrap_or(1.0),
        Some(false) => weight * outdoor.unwrap_or(1.0),
        None => weight,
    }
}

// ---------------------------------------------------------------------------------------- overlaps

/// One overlap of a person's stay with a case's stay at the same place.
#[derive(Clone)]
struct Overlap {
    kind: &'static str,
    range: Range,
    source: Source,
    case_source: Source,
    place: Option<String>,
    distance_m: Option<f64>,
    bracketed: bool,
    probability: Option<f64>,
    /// P within the risk distance times the weight of the setting.
    rate: f64,
    /// When the case's stay ends.
    left: Ms,
    onset: Option<Ms>,
}

/// All overlaps of one pair, direct and indirect, before any of them are joined.
fn overlaps_of_pair(rule: &Rule, stays: &[Stay], case_stays: &[Stay]) -> Vec<Overlap> {
    let mut direct: Vec<Overlap> = Vec::new();
    for stay in stays {
        for case_stay in case_stays {
            direct.extend(direct_overlap(rule, stay, case_stay));
        }
    }

    // "The pair's direct union is subtracted from its indirect overlaps, and what is empty
    // vanishes."
    let direct_union = union(&ranges(&direct));
    let mut indirect: Vec<Overlap> = Vec::new();
    for stay in stays {
        for case_stay in case_stays {
            if let Some(whole) = indirect_overlap(rule, stay, case_stay) {
                for range in without(whole.range, &direct_union) {
                    indirect.push(Overlap { range, ..whole.clone() });
                }
            }
        }
    }

    direct.extend(indirect);
    direct
}

/// "Direct: their ranges overlap."
fn direct_overlap(rule: &Rule, stay: &Stay, case_stay: &Stay) -> Option<Overlap> {
    let both = shared(stay.range, case_stay.range)?;
    let (range, place, distance_m, probability) = if stay.leg.is_some() || case_stay.leg.is_some() {
        if stay.source != case_stay.source && !rule.cross_source {
            return None;
        }
        let (range, distance_m) = pass(rule, stay, case_stay, both)?;
        (range, None, Some(distance_m), None)
    } else {
        let meeting = stays_meet(rule, stay, case_stay)?;
        (both, meeting.place, meeting.distance_m, meeting.probability)
    };
    Some(Overlap {
        kind: "direct",
        range,
        source: stay.source,
        case_source: case_stay.source,
        place,
        distance_m,
        bracketed: stay.bracketed && case_stay.bracketed,
        probability: probability.map(|p| p.0),
        rate: probability.map_or(0.0, |p| p.1) * setting_weight(&rule.weighing, stay, case_stay),
        left: case_stay.range.end,
        onset: None,
    })
}

/// "Indirect (`lag_s_max` > 0): p's stay overlaps [c.end, c.end + lag), whether or not p was there
/// before; never before c came."
fn indirect_overlap(rule: &Rule, stay: &Stay, case_stay: &Stay) -> Option<Overlap> {
    if rule.lag_ms <= 0 {
        return None;
    }
    let after = Range { start: case_stay.range.end, end: case_stay.range.end + rule.lag_ms };
    let range = shared(stay.range, after)?;
    let meeting = stays_meet(rule, stay, case_stay)?;
    Some(Overlap {
        kind: "indirect",
        range,
        source: stay.source,
        case_source: case_stay.source,
        place: meeting.place,
        distance_m: meeting.distance_m,
        bracketed: stay.bracketed && case_stay.bracketed,
        probability: meeting.probability.map(|p| p.0),
        rate: meeting.probability.map_or(0.0, |p| p.1) * setting_weight(&rule.weighing, stay, case_stay),
        left: case_stay.range.end,
        onset: None,
    })
}

/// The part of `both` in which two stays, at least one of them linear, are together, and their
/// smallest distance in `both`.
///
/// "Two stays, of which one that holds has speed zero, are together while their distance is at most
/// the limit, in the plane x = M*cos(phi)*dlon (wrapped), y = M*dlat, phi the mean latitude of the
/// four end points of the overlap: the roots of a quadratic, rounded to the nearest millisecond,
/// half up; a mere touch is nothing."
fn pass(rule: &Rule, stay: &Stay, case_stay: &Stay, both: Range) -> Option<(Range, f64)> {
    let Place::Distance { m_max } = rule.place else { panic!("linear motion needs distance") };
    let p0 = position_at(stay, both.start)?;
    let p1 = position_at(stay, both.end)?;
    let c0 = position_at(case_stay, both.start)?;
    let c1 = position_at(case_stay, both.end)?;

    let phi = (p0.lat + p1.lat + c0.lat + c1.lat) / 4.0;
    let m_per_lon = M * (PI / 180.0 * phi).cos();

    // From the case to the person. Only the longitude at the start is wrapped: the rest of the way
    // is as even as both legs are, so two persons on opposite sides of the Earth do not seem to
    // pass each other.
    let dlon0 = wrapped(p0.lon - c0.lon);
    let dlon1 = dlon0 + (p1.lon - p0.lon) - (c1.lon - c0.lon);
    let (x0, y0) = (m_per_lon * dlon0, M * (p0.lat - c0.lat));
    let (x1, y1) = (m_per_lon * dlon1, M * (p1.lat - c1.lat));

    // |(x0, y0) + tau * (vx, vy)|^2 = m_max^2, tau in milliseconds from the start of the overlap.
    let duration = (both.end - both.start) as f64;
    let (vx, vy) = ((x1 - x0) / duration, (y1 - y0) / duration);
    let a = vx * vx + vy * vy;
    let b = 2.0 * (x0 * vx + y0 * vy);
    let c = x0 * x0 + y0 * y0 - m_max * m_max;

    if a == 0.0 {
        // Neither nears the other: together all along or never.
        let distance_m = (x0 * x0 + y0 * y0).sqrt();
        return (distance_m <= m_max).then_some((both, distance_m));
    }
    let discriminant = b * b - 4.0 * a * c;
    if discriminant <= 0.0 {
        return None;
    }
    let enter = ((-b - discriminant.sqrt()) / (2.0 * a)).clamp(0.0, duration);
    let leave = ((-b + discriminant.sqrt()) / (2.0 * a)).clamp(0.0, duration);
    let range = Range { start: both.start + round_half_up(enter), end: both.start + round_half_up(leave) };
    if range.start >= range.end {
        return None;
    }

    let nearest = (-b / (2.0 * a)).clamp(0.0, duration);
    let (x, y) = (x0 + nearest * vx, y0 + nearest * vy);
    Some((range, (x * x + y * y).sqrt()))
}

/// Where a stay is at an instant; the longitude of a leg across the antimeridian runs on past 180.
fn position_at(stay: &Stay, t: Ms) -> Option<Position> {
    let Some(leg) = stay.leg else {
        return stay.position;
    };
    let share = (t - leg.range.start) as f64 / (leg.range.end - leg.range.start) as f64;
    Some(Position {
        lat: leg.from.lat + (leg.to.lat - leg.from.lat) * share,
        lon: leg.from.lon + wrapped(leg.to.lon - leg.from.lon) * share,
    })
}

/// "rounded to the nearest millisecond, half up"
fn round_half_up(ms: f64) -> Ms {
    let below = ms.floor();
    if ms - below >= 0.5 { below as Ms + 1 } else { below as Ms }
}

fn ranges(overlaps: &[Overlap]) -> Vec<Range> {
    overlaps.iter().map(|overlap| overlap.range).collect()
}

// -------------------------------------------------------------------------------------- encounters

/// "Overlaps of one pair, kind, source on each side and place that touch or overlap are one
/// encounter"
fn encounters_of_pair(person: &str, case_id: &str, overlaps: &[Overlap]) -> Vec<Encounter> {
    let mut groups: BTreeMap<(&str, Source, Source, Option<&str>), Vec<&Overlap>> = BTreeMap::new();
    for overlap in overlaps {
        let key = (overlap.kind, overlap.source, overlap.case_source, overlap.place.as_deref());
        groups.entry(key).or_default().push(overlap);
    }

    let mut encounters: Vec<Encounter> = Vec::new();
    for ((kind, source, case_source, place), group) in groups {
        let spans = union(&group.iter().map(|overlap| overlap.range).collect::<Vec<Range>>());
        for span in spans {
            let mut distance_m: Option<f64> = None;
            let mut bracketed = true;
            let mut probability: Option<f64> = None;
            for overlap in &group {
                if shared(overlap.range, span).is_some() {
                    // "Its distance_m is their smallest (null under `grid` and `cell` and where an
                    // id alone met)"
                    distance_m = smaller(distance_m, overlap.distance_m);
                    // "it is bracketed if all of them are"
                    bracketed = bracketed && overlap.bracketed;
                    if overlap.probability > probability {
                        probability = overlap.probability;
                    }
                }
            }
            encounters.push(Encounter {
                person: person.to_string(),
                case_id: case_id.to_string(),
                start: span.start,
                end: span.end,
                kind,
                source,
                case_source,
                place: place.map(str::to_string),
                distance_m,
                bracketed,
                probability,
            });
        }
    }
    encounters
}

/// The smaller of two distances, either of which may be missing.
fn smaller(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b < a { b } else { a }),
        (Some(a), None) => Some(a),
        (None, b) => b,
    }
}

// --------------------------------------------------------------------------------------- exposures

/// "Exposure (p <- c)."
fn exposure_of_pair(
    world: &World,
    person: &str,
    case_id: &str,
    overlaps: &[Overlap],
    encounters: &[Encounter],
) -> Exposure {
    let mut direct: Vec<Range> = Vec::new();
    let mut indirect: Vec<Range> = Vec::new();
    let mut confirmed: Vec<Range> = Vec::new();
    for overlap in overlaps {
        if overlap.kind == "direct" {
            direct.push(overlap.range);
            if overlap.bracketed {
                confirmed.push(overlap.range);
            }
        } else {
            indirect.push(overlap.range);
        }
    }

    let sources: BTreeSet<Source> = encounters.iter().map(|encounter| encounter.source).collect();
    let mut source_names: Vec<&str> = sources.into_iter().map(source_name).collect();
    source_names.sort();

    Exposure {
        person: person.to_string(),
        case_id: case_id.to_string(),
        person_is_case: world.cases.iter().any(|case| case.person == person),
        // "direct_s = length of the union of the direct overlaps over all tracks"
        direct_ms: length(&union(&direct)),
        // "indirect_s = length of the union of the indirect ones"
        indirect_ms: length(&union(&indirect)),
        // "confirmed_s = length of the union of the direct overlaps both of whose stays are
        // bracketed"
        confirmed_ms: length(&union(&confirmed)),
        longest_ms: longest_run(&union(&direct), world.rule.merge_gap_ms),
        peak_24h_ms: peak_24h(&union(&direct)),
        expected_ms: is_probability(&world.rule).then(|| integrals::expected_ms(overlaps)),
        dose_h: is_probability(&world.rule).then(|| integrals::dose_h(&world.rule.weighing, overlaps)),
        encounter_count: encounters.len() as u64,
        distance_m_min: encounters.iter().fold(None, |least, encounter| smaller(least, encounter.distance_m)),
        // "start of the first, end of the last encounter of either kind"
        first_at: encounters.iter().map(|encounter| encounter.start).min().unwrap(),
        last_at: encounters.iter().map(|encounter| encounter.end).max().unwrap(),
        // "sources (sorted, joined by commas)"
        sources: source_names.join(","),
    }
}

fn source_name(source: Source) -> &'static str {
    match source {
        Source::Gps => "gps",
        Source::Tower => "tower",
        Source::Trip => "trip",
        Source::Venue => "venue",
    }
}

/// "the longest run of the direct union after closing gaps of at most `merge_gap_s_max` (default 0;
/// the gap itself counts in the run, only here)"
fn longest_run(direct_union: &[Range], merge_gap_ms: Ms) -> Ms {
    let mut longest = 0;
    // Every run starts with one of the ranges and goes on as long as the next gap is small enough.
    for first in 0..direct_union.len() {
        let mut last = first;
        while last + 1 < direct_union.len()
            && direct_union[last + 1].start - direct_union[last].end <= merge_gap_ms
        {
            last += 1;
        }
        longest = longest.max(direct_union[last].end - direct_union[first].start);
    }
    longest
}

/// "the largest direct length inside any 24 h"
fn peak_24h(direct_union: &[Range]) -> Ms {
    const DAY_MS: Ms = 24 * 3600 * 1000;
    // The length inside [start, start + 24 h) changes its slope only where one of the two ends of
    // the 24 h meets an end of a range, so its largest value is found at such a start.
    let mut starts: Vec<Ms> = Vec::new();
    for range in direct_union {
        starts.extend([range.start, range.end, range.start - DAY_MS, range.end - DAY_MS]);
    }
    let mut peak = 0;
    for start in starts {
        let day = Range { start, end: start + DAY_MS };
        let inside: Vec<Range> = direct_union.iter().filter_map(|range| shared(*range, day)).collect();
        peak = peak.max(length(&inside));
    }
    peak
}

// -------------------------------------------------------------------------------------- candidates

/// "`resident_of` = person | case | either (either) and `resident_scope` = any | area | place (place): the union of
/// the track stays in the lookback, anywhere, [...], or (`grid`) in the squares of the exposure"
fn is_resident(world: &World, person: &str, encounters: &[Encounter]) -> bool {
    let Some((least, of, scope)) = world.rule.weighing.resident else { return true };
    let mut squares: BTreeSet<String> = BTreeSet::new();
    for encounter in encounters {
        // Two scans meet by the venue's id, which is no square, and so do trips.
        let by_id = encounter.source == Source::Venue && encounter.case_source == Source::Venue;
        if !by_id && encounter.source != Source::Trip {
            squares.extend(encounter.place.clone());
        }
    }
    let dwells = |whose: &str| {
        if scope == "area" {
            let home = world.home.as_ref().expect("an area for the scope");
            return areas::dwell_in(home, &stays_of_person(world, whose)) >= least;
        }
        let mut ranges: Vec<Range> = Vec::new();
        for stay in stays_of_person(world, whose) {
            let square = stay.position.and_then(|position| match world.rule.place {
                Place::Grid { square_m } => Some(square(position, square_m)),
                Place::Cell { resolution } => Some(cell(position, resolution)),
                _ => None,
            });
            if scope == "any" || square.is_some_and(|square| squares.contains(&square)) {
                ranges.push(stay.range);
            }
        }
        length(&union(&ranges)) >= least
    };
    let case_dwells = || {
        let met = |case: &&Case| encounters.iter().any(|encounter| encounter.case_id == case.case_id);
        world.cases.iter().filter(met).any(|case| dwells(&case.person))
    };
    match of {
        "person" => dwells(person),
        "case" => case_dwells(),
        _ => dwells(person) || case_dwells(),
    }
}

/// "A person who is no case of the job, with an exposure that reaches every threshold set in
/// `[rule.candidate]`"
fn candidates(
    rule: &Rule,
    exposures: &[Exposure],
    together: &BTreeMap<String, Exposure>,
    residents: &BTreeMap<(String, String), bool>,
    by_trip: &BTreeSet<(String, String)>,
    dwells: &[Dwell],
) -> Vec<Candidate> {
    let mut reasons: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut passing: BTreeMap<&str, Vec<&Exposure>> = BTreeMap::new();
    for exposure in exposures {
        // "With `across_cases = true` the thresholds hold for the union over cases."
        let judged = if rule.across_cases { &together[&exposure.person] } else { exposure };
        let resident = residents[&(judged.person.clone(), judged.case_id.clone())];
        let by_exposure = resident && passes(rule, judged);
        // "Two more reasons make a candidate: `area` [...] and `trip` (the vehicle rules)"
        let by_trip = by_trip.contains(&(exposure.person.clone(), exposure.case_id.clone()));
        if !exposure.person_is_case && (by_exposure || by_trip) {
            passing.entry(&exposure.person).or_default().push(exposure);
            let why = reasons.entry(&exposure.person).or_default();
            if by_exposure {
                why.insert("exposure");
            }
            if by_trip {
                why.insert("trip");
            }
        }
    }
    let mut dwelt: BTreeMap<&str, Vec<&Dwell>> = BTreeMap::new();
    for dwell in dwells {
        reasons.entry(&dwell.person).or_default().insert("area");
        dwelt.entry(&dwell.person).or_default().push(dwell);
    }

    let mut candidates: Vec<Candidate> = Vec::new();
    for (person, why) in reasons {
        // "several reasons are sorted and joined by commas"
        let reason = why.into_iter().collect::<Vec<_>>().join(",");
        let of_person = passing.remove(person).unwrap_or_default();
        let of_areas = dwelt.remove(person).unwrap_or_default();
        let first_at = of_person.iter().map(|exposure| exposure.first_at);
        let first_at = first_at.chain(of_areas.iter().map(|dwell| dwell.first_at)).min().unwrap();
        let last_at = of_person.iter().map(|exposure| exposure.last_at);
        let last_at = last_at.chain(of_areas.iter().map(|dwell| dwell.last_at)).max().unwrap();
        if of_person.is_empty() {
            candidates.push(Candidate {
                person: person.to_string(),
                reason,
                case_count: 0,
                case_id: None,
                direct_ms: 0,
                confirmed_ms: 0,
                expected_ms: None,
                dose_h: None,
                first_at,
                last_at,
                expires_at: last_at + rule.notice_ms,
                evidence_count: of_areas.len() as u64,
            });
            continue;
        }
        // "The row's figures are those of its strongest passing exposure (largest direct_s, then
        // smallest case_id)"
        let mut strongest = of_person[0];
        for exposure in &of_person {
            let order = exposure.direct_ms.cmp(&strongest.direct_ms);
            if order == Ordering::Greater
                || (order == Ordering::Equal && exposure.case_id < strongest.case_id)
            {
                strongest = exposure;
            }
        }
        // "case_count, evidence_count, first_at and last_at span all passing exposures"
        // "... or of the union"
        let by_union = rule.across_cases && reason.contains("exposure");
        let figures = if by_union { &together[person] } else { strongest };
        candidates.push(Candidate {
            person: person.to_string(),
            reason,
            case_count: of_person.len() as u64,
            case_id: Some(strongest.case_id.clone()),
            direct_ms: figures.direct_ms,
            confirmed_ms: figures.confirmed_ms,
            expected_ms: figures.expected_ms,
            dose_h: figures.dose_h,
            first_at,
            last_at,
            // "expires_at is last_at plus notice_days"
            expires_at: last_at + rule.notice_ms,
            evidence_count: of_person.iter().map(|exposure| exposure.encounter_count).sum::<u64>()
                + of_areas.len() as u64,
        });
    }

    // "sorted by direct_s descending, then person_id"; "output columns ending in `_s` are whole
    // seconds, rounded down"
    candidates.sort_by(|a, b| (b.direct_ms / 1000).cmp(&(a.direct_ms / 1000)).then(a.person.cmp(&b.person)));
    candidates
}

/// "Durations are measured and compared in milliseconds"
fn passes(rule: &Rule, exposure: &Exposure) -> bool {
    exposure.direct_ms >= rule.direct_ms_min
        && rule.confirmed_ms_min.is_none_or(|least| exposure.confirmed_ms >= least)
        && rule.longest_ms_min.is_none_or(|least| exposure.longest_ms >= least)
        && rule.peak_24h_ms_min.is_none_or(|least| exposure.peak_24h_ms >= least)
        && rule.weighing.expected_ms_min.is_none_or(|least| exposure.expected_ms >= Some(least as f64))
        // "risk = 1 - exp(-0.011 * dose_h)"
        && rule.weighing.risk_min.is_none_or(|least| 1.0 - (-0.011 * exposure.dose_h.unwrap()).exp() >= least)
}

fn is_probability(rule: &Rule) -> bool {
    matches!(rule.place, Place::Probability { .. })
}

// ------------------------------------------------------------------------------------------ checks

mod areas;
mod checks;
mod integrals;
mod rice;
mod trips;

pub use areas::{Area, Dwell, Shapes};
pub use trips::Aboard;
