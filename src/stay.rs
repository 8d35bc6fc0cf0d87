//! A stay: one person at one place over one half-open time range.

use crate::geo::{LatLonBox, haversine_m, wrap_degrees};
use crate::ping::{NO_PLACE, NO_UNTIL, Ping, filter_track, order_track};
use crate::place::{PlaceKey, PlaceRule};
use crate::rule::{Motion, Source, StayRule};
use crate::time::Millis;

/// One person at one place, or on one even leg, over [start, end).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stay {
    /// First instant.
    pub start: Millis,
    /// First instant after.
    pub end: Millis,
    /// Where it stands, or starts its leg; degrees, NaN for a venue without coordinates.
    pub lat: f64,
    /// Where it stands, or starts its leg; degrees, NaN for a venue without coordinates.
    pub lon: f64,
    /// The leg, where it moves.
    pub leg: Option<Leg>,
    /// Tower or venue.
    pub place: u32,
    /// Floor of a venue.
    pub floor: u32,
    /// Its track.
    pub source: Source,
    /// Whether the next ping, in time, was at the same place.
    pub bracketed: bool,
}

/// An even movement between two pings; it outlasts a stay that was clipped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Leg {
    /// Time of the first ping.
    pub from: Millis,
    /// Time of the next.
    pub to: Millis,
    /// Degrees of latitude gone by `to`.
    pub dlat: f64,
    /// Degrees of longitude gone by `to`, the short way round.
    pub dlon: f64,
}

impl Stay {
    /// The part of it inside [from, to), if there is one.
    pub fn clipped(mut self, from: Millis, to: Millis) -> Option<Self> {
        self.start = self.start.max(from);
        self.end = self.end.min(to);
        (self.start < self.end).then_some(self)
    }

    /// Degrees at an instant.
    #[inline]
    pub fn position_at(&self, at: Millis) -> (f64, f64) {
        match self.leg {
            None => (self.lat, self.lon),
            Some(leg) => {
                let share = (at - leg.from) as f64 / (leg.to - leg.from) as f64;
                (self.lat + leg.dlat * share, self.lon + leg.dlon * share)
            }
        }
    }

    /// Degrees per millisecond.
    #[inline]
    pub fn velocity(&self) -> (f64, f64) {
        match self.leg {
            None => (0.0, 0.0),
            Some(leg) => {
                let length = (leg.to - leg.from) as f64;
                (leg.dlat / length, leg.dlon / length)
            }
        }
    }

    /// The box of everywhere it is; a leg counts whole.
    pub fn bounds(&self) -> LatLonBox {
        let (dlat, dlon) = self.leg.map_or((0.0, 0.0), |leg| (leg.dlat, leg.dlon));
        LatLonBox::of_path(self.lat, self.lon, dlat, dlon)
    }

    /// Whether it has a position at all.
    pub fn has_position(&self) -> bool {
        !self.lat.is_nan()
    }

    /// How long it lasts.
    pub fn dwell_ms(&self) -> Millis {
        self.end - self.start
    }
}

/// The stays of one person from one source, in the order of their starts: duplicates and filtered
/// pings dropped, each ping standing until the next or for its hold, clipped to end by `as_of`.
///
/// `pings` is in any order; on return it holds the track.
pub fn stays(
    pings: &mut Vec<Ping>,
    source: Source,
    feeds: &[StayRule],
    place: &PlaceRule,
    as_of: Millis,
    stays: &mut Vec<Stay>,
) {
    order_track(pings, source);
    if feeds.iter().any(|f| f.source == source && f.filters()) {
        filter_track(pings, feeds);
    }
    let mut next = 0;
    for (i, ping) in pings.iter().enumerate() {
        if next <= i {
            next = i + 1;
        }
        while pings.get(next).is_some_and(|p| p.time == ping.time) {
            next += 1;
        }
        // Pings at the next instant: one, but for venue scans.
        let later = &pings[next..];
        let rule = &feeds[ping.feed as usize];
        if let Some(stay) = stay(ping, later, rule, place).and_then(|s| s.clipped(Millis::MIN, as_of)) {
            stays.push(stay);
        }
    }
}

fn stay(ping: &Ping, later: &[Ping], rule: &StayRule, place: &PlaceRule) -> Option<Stay> {
    let mut stay = Stay {
        start: ping.time,
        end: ping.time + rule.hold_ms,
        lat: ping.lat,
        lon: ping.lon,
        leg: None,
        place: ping.place,
        floor: ping.floor,
        source: rule.source,
        bracketed: false,
    };
    if ping.until != NO_UNTIL {
        stay.end = ping.until;
        stay.bracketed = true;
        return Some(stay);
    }
    let next = later.first().filter(|n| n.time <= stay.end);
    match (rule.motion, next) {
        (Motion::Linear, None) => return None,
        (Motion::Linear, Some(next)) => {
            stay.end = next.time;
            stay.bracketed = true;
            stay.leg = Some(Leg {
                from: ping.time,
                to: next.time,
                dlat: next.lat - ping.lat,
                dlon: wrap_degrees(next.lon - ping.lon),
            });
        }
        (Motion::Hold, None) => {}
        (Motion::Hold, Some(next)) => {
            stay.end = next.time;
            stay.bracketed = later
                .iter()
                .take_while(|p| p.time == next.time)
                .any(|p| same_place(ping, p, rule.source, place));
        }
    }
    Some(stay)
}

/// Whether two pings of one track are at the same place, which brackets the stay between them.
fn same_place(a: &Ping, b: &Ping, source: Source, place: &PlaceRule) -> bool {
    match (source, *place) {
        (Source::Venue, _) => a.place == b.place && a.place != NO_PLACE,
        (_, PlaceRule::Distance { distance_m_max }) => {
            haversine_m(a.lat, a.lon, b.lat, b.lon) <= distance_m_max
        }
        (_, rule) => PlaceKey::of_position(&rule, a.lat, a.lon) == PlaceKey::of_position(&rule, b.lat, b.lon),
    }
}

/// What a stay shares with others in one square, cell or venue; `Near` where only metres can tell.
pub fn key_of(stay: &Stay, place: &PlaceRule) -> PlaceKey {
    match stay.source {
        Source::Venue => PlaceKey::Venue(stay.place),
        _ => PlaceKey::of_position(place, stay.lat, stay.lon),
    }
}

/// Joins stays of one track that touch and cannot be told apart by the rule: the same square, cell,
/// or venue and floor (under a distance: the very same position), bracketed alike. What the joined
/// stays meet adds up to the same encounters, with far fewer pairs to test. Stays come in the order of
/// their starts.
///
/// Where some feed moves evenly, positions are not joined: the plane in which a moving stay is compared
/// depends on where its overlap with each single stay ends.
pub fn join_runs(stays: &mut Vec<Stay>, place: &PlaceRule, feeds: &[StayRule]) {
    let linear = feeds.iter().any(|f| f.motion == Motion::Linear);
    let mut last: Option<(usize, PlaceKey)> = None;
    let mut kept = 0;
    for i in 0..stays.len() {
        let stay = stays[i];
        let key = key_of(&stay, place);
        if let Some((at, run_key)) = last {
            let run = &mut stays[at];
            let same_spot = match key {
                PlaceKey::Near => !linear && same_position(run, &stay),
                PlaceKey::Venue(_) => {
                    run.floor == stay.floor && same_position(run, &stay) && (!linear || !stay.has_position())
                }
                PlaceKey::Square(_) | PlaceKey::Cell(_) => true,
            };
            if run_key == key
                && same_spot
                && run.end == stay.start
                && run.source == stay.source
                && run.bracketed == stay.bracketed
            {
                run.end = stay.end;
                continue;
            }
        }
        stays[kept] = stay;
        last = Some((kept, key));
        kept += 1;
    }
    stays.truncate(kept);
}

fn same_position(a: &Stay, b: &Stay) -> bool {
    a.lat.to_bits() == b.lat.to_bits() && a.lon.to_bits() == b.lon.to_bits()
}
