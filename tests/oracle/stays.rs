//! From pings to stays: tracks, duplicates, filters, and how long each ping stands for.

use super::*;

/// A ping with its feed.
#[derive(Clone, Copy)]
pub(super) struct Seen<'w> {
    pub(super) ping: &'w Ping,
    pub(super) feed: &'w Feed,
    /// Place of the feed in the job, from 0.
    pub(super) feed_order: usize,
    pub(super) position: Option<Position>,
}

/// "The pings of one person from one source kind (`gps`, `tower`, `venue`, `trip`), ordered by
/// time.", raw.
pub(super) fn raw_track<'w>(world: &'w World, person: &str, source: Source) -> Vec<Seen<'w>> {
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
pub(super) fn without_duplicates<'w>(source: Source, track: &[Seen<'w>]) -> Vec<Seen<'w>> {
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
pub(super) fn stays_before(a: &Seen, b: &Seen) -> bool {
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
pub(super) fn without_impossible_travel<'w>(raw: &[Seen<'w>]) -> Vec<Seen<'w>> {
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

pub(super) fn speed_m_per_s(earlier: &Seen, later: &Seen) -> f64 {
    let seconds = (later.ping.t - earlier.ping.t) as f64 / 1000.0;
    haversine_m(earlier.position.unwrap(), later.position.unwrap()) / seconds
}

/// "a ping at B is dropped when the last kept ping before it and the next raw ping after it are
/// both at one other tower A, and those two are at most `pingpong_s_max` (default 120) apart"
pub(super) fn without_pingpong<'w>(raw: &[Seen<'w>]) -> Vec<Seen<'w>> {
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
pub(super) fn track<'w>(world: &'w World, person: &str, source: Source) -> Vec<Seen<'w>> {
    let unique = without_duplicates(source, &raw_track(world, person, source));
    match source {
        Source::Gps => without_impossible_travel(&unique),
        Source::Tower => without_pingpong(&unique),
        Source::Trip | Source::Venue => unique,
    }
}

/// One person at one place, or on one leg, over one range.
#[derive(Clone)]
pub(super) struct Stay {
    pub(super) source: Source,
    pub(super) range: Range,
    pub(super) bracketed: bool,
    /// Where the person is if they hold; none for a venue without coordinates.
    pub(super) position: Option<Position>,
    /// The way the person goes if they do not hold.
    pub(super) leg: Option<Leg>,
    pub(super) venue_id: Option<String>,
    pub(super) floor: Option<String>,
    pub(super) trip: Option<(String, Aboard)>,
    /// The sigma of its position, and the radius that it comes from.
    pub(super) sigma_m: f64,
    pub(super) radius_m: f64,
    pub(super) facts: Facts,
}

/// "latitude and longitude change evenly in time" from one ping to the next.
#[derive(Clone, Copy)]
pub(super) struct Leg {
    /// From ping to ping, whatever the stay is clipped to.
    pub(super) range: Range,
    pub(super) from: Position,
    pub(super) to: Position,
}

/// "a scan while the person's own gps or tower stay is farther from the venue than their uncertainties plus
/// `contradiction_m` gives no exposure"
pub(super) fn stays_of_person(world: &World, person: &str) -> Vec<Stay> {
    let raw = raw_stays_of_person(world, person);
    raw.iter().filter(|stay| !contradicts(world, &raw, stay)).cloned().collect()
}

pub(super) fn contradicts(world: &World, stays: &[Stay], scan: &Stay) -> bool {
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
pub(super) fn raw_stays_of_person(world: &World, person: &str) -> Vec<Stay> {
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
pub(super) fn stays_of_case(world: &World, case: &Case) -> Vec<Stay> {
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
pub(super) fn stay_of_ping(rule: &Rule, source: Source, track: &[Seen], seen: &Seen) -> Option<Stay> {
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
pub(super) fn scan_ms(rule: &Rule, seen: &Seen) -> Ms {
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
pub(super) fn sigma_m(source: Source, seen: &Seen) -> f64 {
    match source {
        Source::Gps => seen.ping.accuracy_m.unwrap_or(seen.feed.accuracy_m) / 1.5096,
        Source::Tower | Source::Venue => seen.ping.facts.range_m.unwrap_or(seen.feed.accuracy_m) / 2.0,
        Source::Trip => 0.0,
    }
}

/// "(same square, same cell, same id; under `distance` and `probability`: at most `distance_m_max`
/// away)", for two pings of one track.
pub(super) fn pings_same_place(rule: &Rule, source: Source, a: &Seen, b: &Seen) -> bool {
    if source == Source::Venue {
        return a.ping.place_id == b.ping.place_id;
    }
    if let Place::Probability { m_max, .. } = rule.place {
        return haversine_m(a.position.unwrap(), b.position.unwrap()) <= m_max;
    }
    positions_meet(rule, (a.position.unwrap(), 0.0), (b.position.unwrap(), 0.0)).is_some()
}
