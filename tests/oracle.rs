//! A brute-force oracle: what the engine has to answer, by slow loops over the definitions of
//! DESIGN.md, section 1.
//!
//! It shares no line with the engine. A comment in quotation marks is the sentence of the contract
//! that the code below it implements. Scope: sources gps, tower and venue; places grid, cell and
//! distance; no trips, no probability, no residents, no areas.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::f64::consts::PI;

/// Milliseconds UTC.
pub type Ms = i64;

/// The kind of a feed; as text "gps", "tower", "venue".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Source {
    /// Positions of a phone.
    Gps,
    /// Presence at a base station.
    Tower,
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
    /// The tower's or the venue's id.
    pub place_id: Option<String>,
    /// The check-out of a venue scan.
    pub until: Option<Ms>,
    /// The floor of a venue scan.
    pub floor: Option<String>,
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
    /// Number of cases with a passing exposure.
    pub case_count: u64,
    /// Case of the strongest passing exposure.
    pub case_id: String,
    /// Direct length of the strongest passing exposure.
    pub direct_ms: Ms,
    /// Confirmed length of the strongest passing exposure.
    pub confirmed_ms: Ms,
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
    /// One for each case and source, by case and source, also where nothing was seen.
    pub observed: Vec<Observed>,
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
    for person in persons {
        for case in &world.cases {
            // "A person may be several cases; nobody is exposed to their own."
            if case.person == person {
                continue;
            }
            let overlaps =
                overlaps_of_pair(&world.rule, &stays_of_person(world, person), &stays_of_case(world, case));
            let of_pair = encounters_of_pair(person, &case.case_id, &overlaps);
            // "exposures: every pair with an encounter"
            if !of_pair.is_empty() {
                exposures.push(exposure_of_pair(world, person, &case.case_id, &overlaps, &of_pair));
                encounters.extend(of_pair);
            }
        }
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
    let candidates = candidates(&world.rule, &exposures);

    let mut observed: Vec<Observed> = Vec::new();
    for case in &world.cases {
        let stays = stays_of_case(world, case);
        for source in [Source::Gps, Source::Tower, Source::Venue] {
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

    Answer { encounters, exposures, candidates, observed }
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
            assert!(source == Source::Venue || position.is_some(), "a gps or tower ping has a position");
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
        if source == Source::Venue {
            let equal = |other: &Seen| {
                other.ping.t == seen.ping.t
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
        Source::Venue => unique,
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
}

/// "latitude and longitude change evenly in time" from one ping to the next.
#[derive(Clone, Copy)]
struct Leg {
    /// From ping to ping, whatever the stay is clipped to.
    range: Range,
    from: Position,
    to: Position,
}

/// All stays of a person, of all sources, clipped to the lookback.
fn stays_of_person(world: &World, person: &str) -> Vec<Stay> {
    let lookback = Range { start: world.rule.as_of - world.rule.lookback_ms, end: world.rule.as_of };
    let mut stays: Vec<Stay> = Vec::new();
    for source in [Source::Gps, Source::Tower, Source::Venue] {
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
    let hold_ms = seen.feed.hold_ms;
    let mut stay = Stay {
        source,
        range: Range { start: t, end: t },
        bracketed: false,
        position: seen.position,
        leg: None,
        venue_id: if source == Source::Venue { seen.ping.place_id.clone() } else { None },
        floor: seen.ping.floor.clone(),
    };

    // "A scan with a check-out, or a trip, stands for exactly [t_i, until)"; "a stay with its own
    // `until` is bracketed"
    if source == Source::Venue
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

/// "(same square, same cell, same id; under `distance` and `probability`: at most `distance_m_max`
/// away)", for two pings of one track.
fn pings_same_place(rule: &Rule, source: Source, a: &Seen, b: &Seen) -> bool {
    if source == Source::Venue {
        return a.ping.place_id == b.ping.place_id && floors_agree(&a.ping.floor, &b.ping.floor);
    }
    positions_meet(rule, a.position.unwrap(), b.position.unwrap()).is_some()
}

// -------------------------------------------------------------------------------------- same place

/// How two holding stays are at the same place.
struct Meeting {
    place: Option<String>,
    distance_m: Option<f64>,
}

/// "Same place, by `[rule.encounter] place`", for two positions.
fn positions_meet(rule: &Rule, a: Position, b: Position) -> Option<Meeting> {
    match rule.place {
        // "both positions in one square of side `square_m`"
        Place::Grid { square_m } => {
            let place = square(a, square_m);
            (place == square(b, square_m)).then_some(Meeting { place: Some(place), distance_m: None })
        }
        // "both in one H3 cell of `resolution`"
        Place::Cell { resolution } => {
            let place = cell(a, resolution);
            (place == cell(b, resolution)).then_some(Meeting { place: Some(place), distance_m: None })
        }
        // "at most `distance_m_max` apart"
        Place::Distance { m_max } => {
            let distance_m = haversine_m(a, b);
            (distance_m <= m_max).then_some(Meeting { place: None, distance_m: Some(distance_m) })
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
        return met.then_some(Meeting { place: a.venue_id.clone(), distance_m: None });
    }
    // "With `cross_source = true` stays of different kinds meet by position where both have one
    // (venues with coordinates included); by default only stays of one kind meet."
    if a.source != b.source && !rule.cross_source {
        return None;
    }
    positions_meet(rule, a.position?, b.position?)
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
    let (range, place, distance_m) = if stay.leg.is_some() || case_stay.leg.is_some() {
        if stay.source != case_stay.source && !rule.cross_source {
            return None;
        }
        let (range, distance_m) = pass(rule, stay, case_stay, both)?;
        (range, None, Some(distance_m))
    } else {
        let meeting = stays_meet(rule, stay, case_stay)?;
        (both, meeting.place, meeting.distance_m)
    };
    Some(Overlap {
        kind: "direct",
        range,
        source: stay.source,
        case_source: case_stay.source,
        place,
        distance_m,
        bracketed: stay.bracketed && case_stay.bracketed,
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
            for overlap in &group {
                if shared(overlap.range, span).is_some() {
                    // "Its distance_m is their smallest (null under `grid` and `cell` and where an
                    // id alone met)"
                    distance_m = smaller(distance_m, overlap.distance_m);
                    // "it is bracketed if all of them are"
                    bracketed = bracketed && overlap.bracketed;
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

/// "A person who is no case of the job, with an exposure that reaches every threshold set in
/// `[rule.candidate]`"
fn candidates(rule: &Rule, exposures: &[Exposure]) -> Vec<Candidate> {
    let mut passing: BTreeMap<&str, Vec<&Exposure>> = BTreeMap::new();
    for exposure in exposures {
        if !exposure.person_is_case && passes(rule, exposure) {
            passing.entry(&exposure.person).or_default().push(exposure);
        }
    }

    let mut candidates: Vec<Candidate> = Vec::new();
    for (person, of_person) in passing {
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
        let last_at = of_person.iter().map(|exposure| exposure.last_at).max().unwrap();
        candidates.push(Candidate {
            person: person.to_string(),
            case_count: of_person.len() as u64,
            case_id: strongest.case_id.clone(),
            direct_ms: strongest.direct_ms,
            confirmed_ms: strongest.confirmed_ms,
            first_at: of_person.iter().map(|exposure| exposure.first_at).min().unwrap(),
            last_at,
            // "expires_at is last_at plus notice_days"
            expires_at: last_at + rule.notice_ms,
            evidence_count: of_person.iter().map(|exposure| exposure.encounter_count).sum(),
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
}

// ------------------------------------------------------------------------------------------ checks

#[cfg(test)]
mod checks {
    //! Tiny worlds with answers worked out by hand. Persons: `c` is the case `C1`, `p` is not a
    //! case.

    use super::*;

    const S: Ms = 1000;
    const H: Ms = 3600 * S;
    const DAY: Ms = 24 * H;
    /// Degrees of latitude in one metre: 180 / (pi * 6,371,008.8).
    const METRE: f64 = 8.993_203_637_245_379e-6;

    fn feed(source: Source, hold_ms: Ms, pings: Vec<Ping>) -> Feed {
        let motion = Motion::Hold;
        Feed {
            source,
            hold_ms,
            motion,
            accuracy_m: 20.0,
            pingpong_ms: 120 * S,
            speed_m_per_s_max: 0.0,
            pings,
        }
    }

    fn linear(hold_ms: Ms, pings: Vec<Ping>) -> Feed {
        Feed { motion: Motion::Linear, ..feed(Source::Gps, hold_ms, pings) }
    }

    fn gps(person: &str, t: Ms, lat: f64, lon: f64) -> Ping {
        let (lat, lon) = (Some(lat), Some(lon));
        Ping {
            person: person.into(),
            t,
            lat,
            lon,
            accuracy_m: None,
            place_id: None,
            until: None,
            floor: None,
        }
    }

    /// Towers stand one degree apart on the equator: "0" at longitude 0, "1" at longitude 1, ...
    fn tower(person: &str, t: Ms, id: &str) -> Ping {
        Ping { place_id: Some(id.into()), ..gps(person, t, 0.0, id.parse().unwrap()) }
    }

    fn venue(person: &str, t: Ms, id: &str) -> Ping {
        Ping { lat: None, lon: None, place_id: Some(id.into()), ..gps(person, t, 0.0, 0.0) }
    }

    fn scan_until(person: &str, t: Ms, until: Ms, id: &str) -> Ping {
        Ping { until: Some(until), ..venue(person, t, id) }
    }

    fn on_floor(floor: &str, ping: Ping) -> Ping {
        Ping { floor: Some(floor.into()), ..ping }
    }

    /// Lookback [0, 14 d), `c` infectious all along, 50 m, 600 s.
    fn world(feeds: Vec<Feed>) -> World {
        let rule = Rule {
            as_of: 14 * DAY,
            lookback_ms: 14 * DAY,
            place: Place::Distance { m_max: 50.0 },
            cross_source: false,
            lag_ms: 0,
            merge_gap_ms: 0,
            notice_ms: 7 * DAY,
            direct_ms_min: 600 * S,
            confirmed_ms_min: None,
            longest_ms_min: None,
            peak_24h_ms_min: None,
        };
        World { feeds, cases: vec![case("C1", "c", 0, 14 * DAY)], rule }
    }

    fn case(case_id: &str, person: &str, from: Ms, to: Ms) -> Case {
        Case { case_id: case_id.into(), person: person.into(), from, to }
    }

    /// The ranges of the encounters of a kind, in seconds.
    fn spans(answer: &Answer, kind: &str) -> Vec<(Ms, Ms)> {
        let of_kind = answer.encounters.iter().filter(|encounter| encounter.kind == kind);
        of_kind.map(|encounter| (encounter.start / S, encounter.end / S)).collect()
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6
    }

    #[test]
    fn direct() {
        // p [0, 900), c [300, 1200): together [300, 900).
        let mut world = world(vec![feed(
            Source::Gps,
            900 * S,
            vec![gps("p", 0, 10.0, 20.0), gps("c", 300 * S, 10.0, 20.0)],
        )]);
        let answered = answer(&world);
        assert_eq!(
            answered.encounters,
            [Encounter {
                person: "p".into(),
                case_id: "C1".into(),
                start: 300_000,
                end: 900_000,
                kind: "direct",
                source: Source::Gps,
                case_source: Source::Gps,
                place: None,
                distance_m: Some(0.0),
                bracketed: false,
            }]
        );
        assert_eq!(
            answered.exposures,
            [Exposure {
                person: "p".into(),
                case_id: "C1".into(),
                person_is_case: false,
                direct_ms: 600_000,
                indirect_ms: 0,
                confirmed_ms: 0,
                longest_ms: 600_000,
                peak_24h_ms: 600_000,
                encounter_count: 1,
                distance_m_min: Some(0.0),
                first_at: 300_000,
                last_at: 900_000,
                sources: "gps".into(),
            }]
        );
        assert_eq!(
            answered.candidates,
            [Candidate {
                person: "p".into(),
                case_count: 1,
                case_id: "C1".into(),
                direct_ms: 600_000,
                confirmed_ms: 0,
                first_at: 300_000,
                last_at: 900_000,
                expires_at: 605_700_000,
                evidence_count: 1,
            }]
        );
        let observed: Vec<_> = answered
            .observed
            .iter()
            .map(|row| (row.case_id.as_str(), row.source, row.stays, row.observed_ms))
            .collect();
        assert_eq!(
            observed,
            [("C1", Source::Gps, 1, 900_000), ("C1", Source::Tower, 0, 0), ("C1", Source::Venue, 0, 0)]
        );

        // One millisecond more than there is; then each other threshold alone.
        world.rule.direct_ms_min = 600_001;
        assert!(answer(&world).candidates.is_empty());
        world.rule.direct_ms_min = 0;
        assert_eq!(answer(&world).candidates.len(), 1);
        world.rule.confirmed_ms_min = Some(1);
        assert!(answer(&world).candidates.is_empty());
        world.rule.confirmed_ms_min = Some(0);
        world.rule.longest_ms_min = Some(600_001);
        assert!(answer(&world).candidates.is_empty());
        world.rule.longest_ms_min = Some(600_000);
        world.rule.peak_24h_ms_min = Some(600_001);
        assert!(answer(&world).candidates.is_empty());
        world.rule.peak_24h_ms_min = Some(600_000);
        assert_eq!(answer(&world).candidates.len(), 1);
    }

    #[test]
    fn distance_is_a_closed_limit_on_the_sphere() {
        // 49.9 m and 50.1 m of latitude; at 60 degrees north a degree of longitude is half as long.
        let at = |lat: f64, lon: f64| {
            world(vec![feed(Source::Gps, 900 * S, vec![gps("c", 0, 60.0, 20.0), gps("p", 0, lat, lon)])])
        };
        assert!(near(answer(&at(60.0 + 49.9 * METRE, 20.0)).encounters[0].distance_m.unwrap(), 49.9));
        assert!(answer(&at(60.0 + 50.1 * METRE, 20.0)).encounters.is_empty());
        assert!(near(answer(&at(60.0, 20.0 + 99.8 * METRE)).encounters[0].distance_m.unwrap(), 49.9));
        assert!(answer(&at(60.0, 20.0 + 100.2 * METRE)).encounters.is_empty());
    }

    #[test]
    fn indirect_with_lag() {
        // c [0, 900) leaves; p [1000, 1900) comes: with a lag of 600 s, [1000, 1500).
        let mut pings = vec![gps("c", 0, 0.0, 0.0), gps("p", 1000 * S, 0.0, 0.0)];
        let mut first = world(vec![feed(Source::Gps, 900 * S, pings.clone())]);
        first.rule.lag_ms = 600 * S;
        let answered = answer(&first);
        assert_eq!(spans(&answered, "indirect"), [(1000, 1500)]);
        assert_eq!((answered.exposures[0].direct_ms, answered.exposures[0].indirect_ms), (0, 500_000));
        assert!(answered.candidates.is_empty());

        // c comes back [1200, 2100): [1200, 1900) is direct and leaves [1000, 1200) of the indirect
        // part.
        pings.push(gps("c", 1200 * S, 0.0, 0.0));
        let mut second = world(vec![feed(Source::Gps, 900 * S, pings)]);
        second.rule.lag_ms = 600 * S;
        let answered = answer(&second);
        assert_eq!(spans(&answered, "direct"), [(1200, 1900)]);
        assert_eq!(spans(&answered, "indirect"), [(1000, 1200)]);
        assert_eq!((answered.exposures[0].direct_ms, answered.exposures[0].indirect_ms), (700_000, 200_000));
        assert_eq!((answered.exposures[0].first_at, answered.exposures[0].last_at), (1_000_000, 1_900_000));

        // p was there before c came and is gone when c comes: nothing. p was there before and stays
        // on: [900, 1000).
        let scans = vec![scan_until("p", 0, 100 * S, "V"), scan_until("c", 200 * S, 300 * S, "V")];
        let mut third = world(vec![feed(Source::Venue, 1800 * S, scans)]);
        third.rule.lag_ms = 600 * S;
        assert!(answer(&third).encounters.is_empty());
        let scans = vec![scan_until("p", 0, 1000 * S, "V"), scan_until("c", 200 * S, 900 * S, "V")];
        let mut fourth = world(vec![feed(Source::Venue, 1800 * S, scans)]);
        fourth.rule.lag_ms = 600 * S;
        assert_eq!(spans(&answer(&fourth), "direct"), [(200, 900)]);
        assert_eq!(spans(&answer(&fourth), "indirect"), [(900, 1000)]);

        // A direct overlap in the middle cuts an indirect one in two: c is at V until 100 and at W
        // [200, 300); p is at both.
        let scans = vec![
            scan_until("c", 0, 100 * S, "V"),
            scan_until("c", 200 * S, 300 * S, "W"),
            scan_until("p", 100 * S, 500 * S, "V"),
            scan_until("p", 200 * S, 300 * S, "W"),
        ];
        let mut fifth = world(vec![feed(Source::Venue, 1800 * S, scans)]);
        fifth.rule.lag_ms = 300 * S;
        assert_eq!(spans(&answer(&fifth), "direct"), [(200, 300)]);
        assert_eq!(spans(&answer(&fifth), "indirect"), [(100, 200), (300, 400)]);
        assert_eq!(answer(&fifth).exposures[0].indirect_ms, 200_000);
    }

    #[test]
    fn touching_ranges() {
        // p [0, 900) and c [900, 1800) only touch.
        let apart =
            world(vec![feed(Source::Gps, 900 * S, vec![gps("p", 0, 0.0, 0.0), gps("c", 900 * S, 0.0, 0.0)])]);
        assert!(answer(&apart).encounters.is_empty());

        // p [0, 600) [600, 1200) [1200, 2100), c [0, 900) [900, 1800): four overlaps that touch are
        // one encounter [0, 1800). The last stay of each is not bracketed: confirmed is [0, 900).
        let mut pings = vec![gps("c", 0, 0.0, 0.0), gps("c", 900 * S, 0.0, 0.0)];
        for t in [0, 600, 1200] {
            pings.push(gps("p", t * S, 0.0, 0.0));
        }
        let mut joined = world(vec![feed(Source::Gps, 900 * S, pings)]);
        let answered = answer(&joined);
        assert_eq!(spans(&answered, "direct"), [(0, 1800)]);
        assert!(!answered.encounters[0].bracketed);
        assert_eq!(
            (answered.exposures[0].direct_ms, answered.exposures[0].confirmed_ms),
            (1_800_000, 900_000)
        );

        // Infectious [300, 600) clips c's first stay, which is bracketed all the same; p, being a
        // case, is no candidate.
        joined.cases =
            vec![case("C1", "c", 300 * S, 600 * S), case("C2", "p", 0, 0), case("C3", "c", 600 * S, 700 * S)];
        let answered = answer(&joined);
        assert_eq!(spans(&answered, "direct"), [(300, 600), (600, 700)]);
        assert!(answered.encounters[0].bracketed);
        assert_eq!(
            (answered.exposures[0].confirmed_ms, answered.exposures[1].confirmed_ms),
            (300_000, 100_000)
        );
        assert!(answered.exposures[0].person_is_case);
        assert!(answered.candidates.is_empty());
    }

    #[test]
    fn bracketed() {
        // With a hold of 900 s the next ping is 900 s away (bracketed), then 901 s (not), then 60 m
        // away (not).
        let pings = vec![
            gps("p", 0, 0.0, 0.0),
            gps("p", 900 * S, 0.0, 0.0),
            gps("p", 1801 * S, 0.0, 0.0),
            gps("p", 2000 * S, 60.0 * METRE, 0.0),
        ];
        let stays = stays_of_person(&world(vec![feed(Source::Gps, 900 * S, pings)]), "p");
        let seen: Vec<_> =
            stays.iter().map(|stay| (stay.range.start / S, stay.range.end / S, stay.bracketed)).collect();
        assert_eq!(seen, [(0, 900, true), (900, 1800, false), (1801, 2000, false), (2000, 2900, false)]);

        // Any of two scans at the next instant brackets; they stand side by side and end at the
        // next later scan.
        let scans = vec![
            venue("p", 0, "V"),
            venue("p", 60 * S, "W"),
            venue("p", 60 * S, "V"),
            venue("p", 90 * S, "V"),
        ];
        let stays = stays_of_person(&world(vec![feed(Source::Venue, 1800 * S, scans)]), "p");
        let seen: Vec<_> =
            stays.iter().map(|stay| (stay.range.start / S, stay.range.end / S, stay.bracketed)).collect();
        assert_eq!(seen, [(0, 60, true), (60, 90, false), (60, 90, true), (90, 1890, false)]);
    }

    #[test]
    fn lookback() {
        // The lookback is [100, 1000): pings at 99 and 1000 do not exist, not even to end or
        // bracket a stay.
        let pings =
            vec![gps("p", 99 * S, 0.0, 0.0), gps("p", 100 * S, 0.0, 0.0), gps("p", 1000 * S, 0.0, 0.0)];
        let scans = vec![scan_until("p", 200 * S, 5000 * S, "V"), scan_until("p", 99 * S, 5000 * S, "V")];
        let mut world = world(vec![feed(Source::Gps, 7200 * S, pings), feed(Source::Venue, 1800 * S, scans)]);
        world.rule.as_of = 1000 * S;
        world.rule.lookback_ms = 900 * S;
        let stays = stays_of_person(&world, "p");
        let seen: Vec<_> =
            stays.iter().map(|stay| (stay.range.start / S, stay.range.end / S, stay.bracketed)).collect();
        assert_eq!(seen, [(100, 1000, false), (200, 1000, true)]);
    }

    #[test]
    fn duplicates() {
        // At 0: 20 m (the feed's), 5 m, and 5 m further north; the second stays. Its feed's hold
        // counts.
        let sharp = |lat: f64| Ping { accuracy_m: Some(5.0), ..gps("p", 0, lat, 0.0) };
        let world_gps = world(vec![
            feed(Source::Gps, 900 * S, vec![gps("p", 0, 7.0, 0.0), sharp(9.0)]),
            feed(Source::Gps, 300 * S, vec![sharp(8.0), gps("p", 1000 * S, 7.0, 0.0)]),
        ]);
        let stays = stays_of_person(&world_gps, "p");
        assert_eq!(stays.len(), 2);
        assert_eq!(stays[0].position.unwrap().lat, 8.0);
        assert_eq!(stays[0].range, Range { start: 0, end: 300_000 });

        // Towers: the smallest id. Scans: equal ones are one, that of the first feed.
        let world_tower =
            world(vec![feed(Source::Tower, 3600 * S, vec![tower("p", 0, "2"), tower("p", 0, "1")])]);
        assert_eq!(stays_of_person(&world_tower, "p")[0].position.unwrap().lon, 1.0);
        let world_venue = world(vec![
            feed(
                Source::Venue,
                1800 * S,
                vec![venue("p", 0, "V"), venue("p", 0, "V"), on_floor("1", venue("p", 0, "V"))],
            ),
            feed(Source::Venue, 60 * S, vec![venue("p", 0, "V")]),
        ]);
        let stays = stays_of_person(&world_venue, "p");
        assert_eq!(stays.len(), 2);
        assert!(stays.iter().all(|stay| stay.range.end == 1_800_000));
    }

    #[test]
    fn pingpong() {
        // c bounces 0-1-0 within 120 s; p is at tower 0 for [0, 3600).
        let pings =
            vec![tower("c", 0, "0"), tower("c", 60 * S, "1"), tower("c", 120 * S, "0"), tower("p", 0, "0")];
        let mut world = world(vec![feed(Source::Tower, 3600 * S, pings)]);
        let answered = answer(&world);
        assert_eq!(spans(&answered, "direct"), [(0, 3600)]);
        assert_eq!((answered.observed[1].stays, answered.observed[1].observed_ms), (2, 3_720_000));

        // One millisecond too long apart, or off: [60, 120) was elsewhere.
        for pingpong_ms in [119_999, 0] {
            world.feeds[0].pingpong_ms = pingpong_ms;
            let answered = answer(&world);
            assert_eq!(spans(&answered, "direct"), [(0, 60), (120, 3600)]);
            assert_eq!(answered.exposures[0].direct_ms, 3_540_000);
            assert_eq!(answered.observed[1].stays, 3);
        }

        // 0-1-0-1-0: both at 1 go, as the last kept is 0 each time. 0-1-1-0: both stay, as the next
        // raw, or the last kept, is 1.
        world.feeds[0].pingpong_ms = 120 * S;
        world.feeds[0].pings =
            [0, 1, 0, 1, 0].iter().zip(0..).map(|(id, i)| tower("c", i * 30 * S, &id.to_string())).collect();
        assert_eq!(answer(&world).observed[1].stays, 3);
        world.feeds[0].pings =
            [0, 1, 1, 0].iter().zip(0..).map(|(id, i)| tower("c", i * 30 * S, &id.to_string())).collect();
        assert_eq!(answer(&world).observed[1].stays, 4);
    }

    #[test]
    fn impossible_travel() {
        // One degree (111 km) there in 60 s and back in 60 s is 1,853 m/s. p is at 0 for [0, 900).
        let pings = vec![
            gps("c", 0, 0.0, 0.0),
            gps("c", 60 * S, 1.0, 0.0),
            gps("c", 120 * S, 0.0, 0.0),
            gps("p", 0, 0.0, 0.0),
        ];
        let mut world = world(vec![feed(Source::Gps, 900 * S, pings)]);
        for (speed_m_per_s_max, direct_ms) in [(0.0, 840_000), (1853.0, 900_000), (1854.0, 840_000)] {
            world.feeds[0].speed_m_per_s_max = speed_m_per_s_max;
            assert_eq!(answer(&world).exposures[0].direct_ms, direct_ms);
        }

        // There and not back: the slow way on keeps the ping, and so does having no next one.
        world.feeds[0].speed_m_per_s_max = 100.0;
        world.feeds[0].pings =
            vec![gps("c", 0, 0.0, 0.0), gps("c", 60 * S, 1.0, 0.0), gps("c", 120 * S, 1.0, 0.0)];
        assert_eq!(answer(&world).observed[0].stays, 3);
        world.feeds[0].pings.pop();
        assert_eq!(answer(&world).observed[0].stays, 2);

        // Two bad pings side by side: the first has a slow way on and stays; from it the second is
        // slow as well.
        world.feeds[0].pings.push(gps("c", 120 * S, 1.0, 0.0));
        world.feeds[0].pings.push(gps("c", 180 * S, 0.0, 0.0));
        assert_eq!(answer(&world).observed[0].stays, 4);
    }

    #[test]
    fn peak_and_longest() {
        // Together [0, 10), [20, 30) and [40, 50) h. Any 24 h hold 14 h at most: 10 and 4.
        let mut scans = Vec::new();
        for hour in [0, 20, 40] {
            scans.push(scan_until("c", hour * H, (hour + 10) * H, "V"));
            scans.push(scan_until("p", hour * H, (hour + 10) * H, "V"));
        }
        let mut world = world(vec![feed(Source::Venue, 1800 * S, scans)]);
        let exposure = answer(&world).exposures.remove(0);
        assert_eq!((exposure.direct_ms, exposure.confirmed_ms), (30 * H, 30 * H));
        assert_eq!((exposure.longest_ms, exposure.peak_24h_ms), (10 * H, 14 * H));
        assert_eq!(
            (exposure.encounter_count, exposure.sources.as_str(), exposure.distance_m_min),
            (3, "venue", None)
        );

        // The gaps are 10 h each: a merge gap of just that joins all three into 50 h, gaps counted;
        // only the longest run changes.
        world.rule.merge_gap_ms = 10 * H - 1;
        assert_eq!(answer(&world).exposures[0].longest_ms, 10 * H);
        world.rule.merge_gap_ms = 10 * H;
        let exposure = answer(&world).exposures.remove(0);
        assert_eq!((exposure.longest_ms, exposure.direct_ms, exposure.encounter_count), (50 * H, 30 * H, 3));

        // [0, 1), [20, 29) and [44, 50) h: the best 24 h are not those from the first start: [20,
        // 44) has 9 h, [26, 50) has 3 + 6 = 9, [22, 46) has 7 + 2 = 9, [0, 24) has 1 + 4 = 5. With
        // [43, 50): [20, 44) has 9 + 1 = 10, [26, 50) has 3 + 7 = 10.
        let hours = |ranges: &[(Ms, Ms)]| -> Vec<Range> {
            ranges.iter().map(|r| Range { start: r.0 * H, end: r.1 * H }).collect()
        };
        assert_eq!(peak_24h(&hours(&[(0, 1), (20, 29), (44, 50)])), 9 * H);
        assert_eq!(peak_24h(&hours(&[(0, 1), (20, 29), (43, 50)])), 10 * H);
        assert_eq!(peak_24h(&hours(&[(0, 30)])), 24 * H);
        // Ranges a day apart never share a day in full: [0, 24) has 13, [12, 36) has 1 + 12.
        assert_eq!(peak_24h(&hours(&[(0, 13), (24, 36)])), 13 * H);
    }

    #[test]
    fn linear_pass_by() {
        // c goes 200 m east in 200 s, 30 m north of p: x = -100 + t. x^2 + 30^2 <= 50^2 is |x| <=
        // 40: t in [60, 140].
        let way = |north_m: f64| {
            vec![
                gps("c", 0, north_m * METRE, -100.0 * METRE),
                gps("c", 200 * S, north_m * METRE, 100.0 * METRE),
            ]
        };
        let p = feed(Source::Gps, 900 * S, vec![gps("p", 0, 0.0, 0.0)]);
        let answered = answer(&world(vec![linear(900 * S, way(30.0)), p.clone()]));
        assert_eq!(answered.encounters.len(), 1);
        let encounter = &answered.encounters[0];
        assert_eq!((encounter.start, encounter.end, encounter.bracketed), (60_000, 140_000, false));
        assert!(near(encounter.distance_m.unwrap(), 30.0));
        // After the last ping c is nowhere.
        assert_eq!((answered.observed[0].stays, answered.observed[0].observed_ms), (1, 200_000));

        // Further off than the limit; across a gap longer than the hold.
        assert!(answer(&world(vec![linear(900 * S, way(50.01)), p.clone()])).encounters.is_empty());
        assert!(answer(&world(vec![linear(199 * S, way(30.0)), p.clone()])).encounters.is_empty());

        // The infectious range [80, 90) clips the leg, not its course.
        let mut clipped = world(vec![linear(900 * S, way(30.0)), p]);
        clipped.cases = vec![case("C1", "c", 80 * S, 90 * S)];
        let answered = answer(&clipped);
        assert_eq!(spans(&answered, "direct"), [(80, 90)]);
        // At 90 s, x = -10: sqrt(100 + 900).
        assert!(near(answered.encounters[0].distance_m.unwrap(), 31.622_776_601_683_793));

        // Both move, head on, 1 m/s each: x = 200 - 2 t, |x| <= 50 is t in [75, 125]; both legs are
        // bracketed.
        let head_on = vec![
            gps("c", 0, 0.0, -100.0 * METRE),
            gps("c", 200 * S, 0.0, 100.0 * METRE),
            gps("p", 0, 0.0, 100.0 * METRE),
            gps("p", 200 * S, 0.0, -100.0 * METRE),
        ];
        let answered = answer(&world(vec![linear(900 * S, head_on)]));
        assert_eq!(spans(&answered, "direct"), [(75, 125)]);
        assert_eq!((answered.exposures[0].direct_ms, answered.exposures[0].confirmed_ms), (50_000, 50_000));

        // Side by side, 40 m apart, over two legs: one encounter. 60 m apart: none.
        for (apart_m, expected) in [(40.0, vec![(0, 400)]), (60.0, vec![])] {
            let mut pings = Vec::new();
            for (t, east_m) in [(0, 0.0), (200, 100.0), (400, 300.0)] {
                pings.push(gps("c", t * S, 0.0, east_m * METRE));
                pings.push(gps("p", t * S, apart_m * METRE, east_m * METRE));
            }
            assert_eq!(spans(&answer(&world(vec![linear(900 * S, pings)])), "direct"), expected);
        }

        assert_eq!([0.0, 0.49, 0.5, 1.5, 2.51].map(round_half_up), [0, 0, 1, 2, 3]);
    }

    #[test]
    fn antimeridian() {
        // 180 and -180 are one meridian, also for squares; 0.0002 degrees of longitude on the
        // equator are 22.239 m.
        let hold = |a: f64, b: f64| {
            world(vec![feed(Source::Gps, 900 * S, vec![gps("p", 0, 0.0, a), gps("c", 0, 0.0, b)])])
        };
        assert!(near(answer(&hold(180.0, -180.0)).encounters[0].distance_m.unwrap(), 0.0));
        assert!(near(answer(&hold(179.9999, -179.9999)).encounters[0].distance_m.unwrap(), 22.239_016_0));
        let mut grid = hold(180.0, -180.0);
        grid.rule.place = Place::Grid { square_m: 800.0 };
        assert_eq!(answer(&grid).encounters.len(), 1);

        // The pass-by of above, across 180 degrees, both ways.
        for (from_m, to_m) in [(-100.0, 100.0), (100.0, -100.0)] {
            let lon = |east_m: f64| {
                if east_m < 0.0 { 180.0 + east_m * METRE } else { -180.0 + east_m * METRE }
            };
            let way =
                vec![gps("c", 0, 30.0 * METRE, lon(from_m)), gps("c", 200 * S, 30.0 * METRE, lon(to_m))];
            let p = feed(Source::Gps, 900 * S, vec![gps("p", 0, 0.0, 180.0)]);
            let answered = answer(&world(vec![linear(900 * S, way), p]));
            assert_eq!((answered.encounters[0].start, answered.encounters[0].end), (60_000, 140_000));
        }
    }

    #[test]
    fn squares() {
        // On the equator the 800 m square 0:0 spans 0.007194... degrees both ways.
        let at = |lat: f64, lon: f64| square(Position { lat, lon }, 800.0);
        assert_eq!(at(0.0001, 0.0001), "0:0");
        assert_eq!(at(0.0071, 0.0071), "0:0");
        assert_eq!(at(0.0001, 0.0072), "0:1");
        assert_eq!(at(-0.0001, -0.0001), "-1:-1");
        assert_eq!(at(34.75, 113.62), "4830:12975");
        assert_eq!(at(34.75, 113.6259), "4830:12975");
        assert_eq!(at(34.75, 113.6261), "4830:12976");

        // 700 m apart in one square is together, 20 m apart across its edge is not.
        let mut pings =
            vec![gps("c", 0, 0.0001, 0.0071), gps("p", 0, 0.0001, 0.0008), gps("q", 0, 0.0001, 0.0072)];
        let mut world = world(vec![feed(Source::Gps, 900 * S, pings.clone())]);
        world.rule.place = Place::Grid { square_m: 800.0 };
        let answered = answer(&world);
        assert_eq!(answered.encounters.len(), 1);
        let encounter = &answered.encounters[0];
        assert_eq!(
            (encounter.person.as_str(), encounter.place.as_deref(), encounter.distance_m),
            ("p", Some("0:0"), None)
        );

        // Bracketed by the square, not by metres.
        pings = vec![
            gps("p", 0, 0.0001, 0.0008),
            gps("p", 60 * S, 0.0001, 0.0071),
            gps("p", 120 * S, 0.0001, 0.0072),
        ];
        world.feeds[0].pings = pings;
        let bracketed: Vec<bool> = stays_of_person(&world, "p").iter().map(|stay| stay.bracketed).collect();
        assert_eq!(bracketed, [true, false, false]);
    }

    #[test]
    fn cells() {
        // The example of the H3 documentation.
        let pings = vec![gps("c", 0, 37.3615593, -122.0553238), gps("p", 0, 37.3615593, -122.0553238)];
        let mut world = world(vec![feed(Source::Gps, 900 * S, pings)]);
        world.rule.place = Place::Cell { resolution: 7 };
        let answered = answer(&world);
        assert_eq!(answered.encounters[0].place.as_deref(), Some("87283472bffffff"));
        assert_eq!(answered.encounters[0].distance_m, None);
    }

    #[test]
    fn venue_floors() {
        // c is in V on floor 2 for [0, 1000): p on floor 2 and q without a floor meet c, r on floor
        // 3 and s in W do not.
        let scans = vec![
            on_floor("2", scan_until("c", 0, 1000 * S, "V")),
            on_floor("2", scan_until("p", 500 * S, 2000 * S, "V")),
            scan_until("q", 900 * S, 2000 * S, "V"),
            on_floor("3", scan_until("r", 0, 1000 * S, "V")),
            on_floor("2", scan_until("s", 0, 1000 * S, "W")),
        ];
        let answered = answer(&world(vec![feed(Source::Venue, 1800 * S, scans)]));
        let met: Vec<_> = answered
            .encounters
            .iter()
            .map(|e| (e.person.as_str(), e.start / S, e.end / S, e.place.as_deref()))
            .collect();
        assert_eq!(met, [("p", 500, 1000, Some("V")), ("q", 900, 1000, Some("V"))]);
        assert!(
            answered.encounters.iter().all(|encounter| encounter.bracketed && encounter.distance_m.is_none())
        );

        // In a mall [0, 1000) and in a shop of it [200, 400) at once: two encounters, the time
        // counted once.
        let mut scans = Vec::new();
        for person in ["c", "p"] {
            scans.push(scan_until(person, 0, 1000 * S, "mall"));
            scans.push(scan_until(person, 200 * S, 400 * S, "shop"));
        }
        let answered = answer(&world(vec![feed(Source::Venue, 1800 * S, scans)]));
        assert_eq!(spans(&answered, "direct"), [(0, 1000), (200, 400)]);
        assert_eq!(answered.exposures[0].direct_ms, 1_000_000);
        assert_eq!((answered.observed[2].stays, answered.observed[2].observed_ms), (2, 1_000_000));
    }

    #[test]
    fn across_sources() {
        // c by gps [0, 900); p by tower 0 [0, 3600) and in venue V at the same position [100, 200);
        // q in U, which has no coordinates.
        let mut at_v = scan_until("p", 100 * S, 200 * S, "V");
        (at_v.lat, at_v.lon) = (Some(0.0), Some(0.0));
        let mut world = world(vec![
            feed(Source::Gps, 900 * S, vec![gps("c", 0, 0.0, 0.0)]),
            feed(Source::Tower, 3600 * S, vec![tower("p", 0, "0")]),
            feed(Source::Venue, 1800 * S, vec![at_v, scan_until("q", 0, 900 * S, "U")]),
        ]);
        assert!(answer(&world).encounters.is_empty());
        world.rule.cross_source = true;
        let answered = answer(&world);
        let met: Vec<_> =
            answered.encounters.iter().map(|e| (e.start / S, e.end / S, e.source, e.case_source)).collect();
        assert_eq!(met, [(0, 900, Source::Tower, Source::Gps), (100, 200, Source::Venue, Source::Gps)]);
        assert!(
            answered
                .encounters
                .iter()
                .all(|encounter| encounter.place.is_none() && encounter.distance_m == Some(0.0))
        );
        assert_eq!(
            (answered.exposures[0].sources.as_str(), answered.exposures[0].direct_ms),
            ("tower,venue", 900_000)
        );
    }

    #[test]
    fn strongest_of_several_cases() {
        // p is with c for 700 s, with d for 800 s and with e for 500 s, which is too short. q is
        // with c for 700 s and r with d for 700.5 s: as many whole seconds, so the person decides.
        let scans = vec![
            scan_until("p", 0, 10_000 * S, "V"),
            scan_until("c", 0, 700 * S, "V"),
            scan_until("d", 1000 * S, 1800 * S, "V"),
            scan_until("e", 3000 * S, 3500 * S, "V"),
            scan_until("r", 1000 * S, 1700 * S + 500, "V"),
            scan_until("q", 0, 700 * S, "V"),
        ];
        let mut world = world(vec![feed(Source::Venue, 1800 * S, scans)]);
        world.cases.push(case("C2", "d", 0, 14 * DAY));
        world.cases.push(case("C3", "e", 0, 14 * DAY));
        let rows: Vec<_> = answer(&world)
            .candidates
            .into_iter()
            .map(|row| (row.person, row.case_id, row.case_count, row.direct_ms))
            .collect();
        let row = |person: &str, case_id: &str, count, direct_ms| {
            (person.to_string(), case_id.to_string(), count, direct_ms)
        };
        assert_eq!(
            rows,
            [row("p", "C2", 2, 800_000), row("q", "C1", 1, 700_000), row("r", "C2", 1, 700_500)]
        );
        let first = &answer(&world).candidates[0];
        assert_eq!((first.first_at, first.last_at, first.evidence_count), (0, 1_800_000, 2));
        assert_eq!(first.expires_at, 606_600_000);
    }
}
