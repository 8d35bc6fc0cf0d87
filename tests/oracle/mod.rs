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

// ------------------------------------------------------------------------------------------ checks

mod areas;
mod candidates;
mod checks;
mod integrals;
mod meeting;
pub mod rice;
mod stays;
mod trips;

use candidates::*;
use meeting::*;
use stays::*;

pub use areas::{Area, Dwell, Shapes};
pub use trips::Aboard;
