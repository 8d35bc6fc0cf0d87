//! When two stays are at the same place, and what their ranges share.

use super::*;

/// How two holding stays are at the same place.
pub(super) struct Meeting {
    pub(super) place: Option<String>,
    pub(super) distance_m: Option<f64>,
    /// Under probability: of being within `distance_m_max`, and within `risk_distance_m`.
    pub(super) probability: Option<(f64, f64)>,
}

/// "Same place, by `[rule.encounter] place`", for two positions.
pub(super) fn positions_meet(
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
pub(super) fn floors_agree(a: &Option<String>, b: &Option<String>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    }
}

/// Whether two stays that both hold are at the same place, whenever they are.
pub(super) fn stays_meet(rule: &Rule, a: &Stay, b: &Stay) -> Option<Meeting> {
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
pub(super) fn setting_weight(weighing: &Weighing, a: &Stay, b: &Stay) -> f64 {
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

/// One overlap of a person's stay with a case's stay at the same place.
#[derive(Clone)]
pub(super) struct Overlap {
    pub(super) kind: &'static str,
    pub(super) range: Range,
    pub(super) source: Source,
    pub(super) case_source: Source,
    pub(super) place: Option<String>,
    pub(super) distance_m: Option<f64>,
    pub(super) bracketed: bool,
    pub(super) probability: Option<f64>,
    /// P within the risk distance times the weight of the setting.
    pub(super) rate: f64,
    /// When the case's stay ends.
    pub(super) left: Ms,
    pub(super) onset: Option<Ms>,
}

/// All overlaps of one pair, direct and indirect, before any of them are joined.
pub(super) fn overlaps_of_pair(rule: &Rule, stays: &[Stay], case_stays: &[Stay]) -> Vec<Overlap> {
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
pub(super) fn direct_overlap(rule: &Rule, stay: &Stay, case_stay: &Stay) -> Option<Overlap> {
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
pub(super) fn indirect_overlap(rule: &Rule, stay: &Stay, case_stay: &Stay) -> Option<Overlap> {
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
pub(super) fn pass(rule: &Rule, stay: &Stay, case_stay: &Stay, both: Range) -> Option<(Range, f64)> {
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
pub(super) fn position_at(stay: &Stay, t: Ms) -> Option<Position> {
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
pub(super) fn round_half_up(ms: f64) -> Ms {
    let below = ms.floor();
    if ms - below >= 0.5 { below as Ms + 1 } else { below as Ms }
}

pub(super) fn ranges(overlaps: &[Overlap]) -> Vec<Range> {
    overlaps.iter().map(|overlap| overlap.range).collect()
}
