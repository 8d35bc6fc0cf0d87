//! A track: one person's pings from one source, ordered by time, growing ping by ping. Out come its
//! stays, each as soon as the ping that ends it is known.

pub mod dwelling;
pub mod many;

use crate::geo::{haversine_m, is_within_m, wrap_degrees};
use crate::ping::{NO_PLACE, Ping, Pings};
use crate::place::{PlaceKey, PlaceRule, Squares};
use crate::risk_area::RiskAreas;
use crate::rule::{Motion, Source, StayRule};
use crate::stay::{Ending, Leg, Stay, join, some_move};
use crate::time::Millis;
use crate::uncertainty::Uncertainty;
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::atomic::AtomicBool;

/// How tracks of one source become stays.
#[derive(Debug, Clone)]
pub struct TrackRule<'a> {
    /// The source.
    pub source: Source,
    feeds: &'a [StayRule],
    place: PlaceRule,
    as_of: Millis,
    moving: bool,
    filters: bool,
    joins: bool,
    squares: Squares,
    /// Whether positions that come one after the other are seldom near.
    mixed: bool,
    /// Where accuracies are not known: whether they had to decide.
    ties: Option<&'a AtomicBool>,
    uncertainty: Option<&'a Uncertainty>,
    /// Areas in which stays of one square are told apart.
    areas: Option<&'a RiskAreas>,
    endings: bool,
}

impl<'a> TrackRule<'a> {
    /// The rule of a source in a job. With `joins`, stays that the rule cannot tell apart come as one.
    pub fn new(source: Source, feeds: &'a [StayRule], place: &PlaceRule, as_of: Millis, joins: bool) -> Self {
        TrackRule {
            source,
            feeds,
            place: *place,
            as_of,
            moving: some_move(feeds),
            filters: feeds.iter().any(|f| f.source == source && f.filters()),
            joins,
            squares: Squares::default(),
            mixed: false,
            ties: None,
            uncertainty: None,
            areas: None,
            endings: false,
        }
    }

    /// The same where it counts how far from a stay the ping is that ends it.
    pub fn with_endings(mut self, endings: bool) -> Self {
        self.endings = endings && self.place.metres().is_some() && !self.source.is_by_id();
        self
    }

    /// How a ping ends what was bracketed up to `sure` without it.
    #[inline]
    fn ending(&self, from: (f64, f64), to: (f64, f64), sure: Millis) -> Ending {
        if !self.endings {
            return Ending::default();
        }
        Ending { distance_m: haversine_m(from.0, from.1, to.0, to.1), sure }
    }

    /// The same for rows of many persons in the order of time.
    pub fn mixed(mut self) -> Self {
        self.mixed = true;
        self
    }

    /// The same where uncertainties count.
    pub fn with_uncertainty(mut self, uncertainty: Option<&'a Uncertainty>) -> Self {
        self.uncertainty = uncertainty;
        self
    }

    /// The same where it matters whether a position is in one of these areas.
    pub fn with_areas(mut self, areas: Option<&'a RiskAreas>) -> Self {
        self.areas = areas;
        self
    }

    /// Whether positions of one square or cell may still differ in the areas that they are in.
    #[inline]
    fn may_differ(&self, a: (f64, f64), b: (f64, f64)) -> bool {
        let may_hold = |areas: &RiskAreas| areas.may_hold(a.0, a.1) || areas.may_hold(b.0, b.1);
        self.areas.is_some_and(|areas| a != b && may_hold(areas))
    }

    #[inline]
    fn sigma_m(&self, ping: &Ping) -> f64 {
        self.uncertainty.map_or(0.0, |u| u.sigma_m(ping))
    }

    /// The same for pings without accuracies; `ties` notes whether they have to decide between pings of one
    /// instant.
    pub fn without_accuracies(mut self, ties: &'a AtomicBool) -> Self {
        self.ties = Some(ties);
        self
    }

    /// Which of two pings of one instant stands, as an order.
    #[inline]
    fn before(&self, a: &Ping, b: &Ping) -> Ordering {
        if let Some(ties) = self.ties
            && (a.place, a.lat, a.lon, a.feed) != (b.place, b.lat, b.lon, b.feed)
        {
            ties.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        before(a, b)
    }

    /// Whether pings just follow one another: no filter drops any, and no two stand at one instant.
    pub fn is_plain(&self) -> bool {
        !self.filters && !self.source.is_by_id()
    }

    /// Whether a filter can drop pings, so that every ping of a track matters.
    pub fn filters(&self) -> bool {
        self.filters
    }

    /// The stay of a ping that another at an instant and a position follows, or none, where nobody moves and no filter
    /// drops any; and by what it shares its place.
    pub fn stay_of(&mut self, ping: Ping, next: Option<(Millis, f64, f64)>) -> Option<(Stay, PlaceKey)> {
        let key = self.key(&ping);
        let kept = Kept { ping, key, marked: true };
        let closer = next.map(|(time, lat, lon)| {
            let ping = Ping { time, lat, lon, ..ping };
            Kept { ping, key: self.key(&ping), marked: false }
        });
        Some((stay(&kept, closer.as_slice(), self)?.clipped(Millis::MIN, self.as_of)?, key))
    }

    /// What stays of the source share a place by, that of a position in short.
    pub fn key_of_stay(&mut self, stay: &Stay) -> PlaceKey {
        self.key_of_position(stay.lat, stay.lon)
    }

    #[inline]
    fn key(&mut self, ping: &Ping) -> PlaceKey {
        match self.source {
            Source::Venue => PlaceKey::Venue(ping.place),
            Source::Trip => PlaceKey::Trip(ping.place),
            Source::Gps | Source::Tower => self.key_of_position(ping.lat, ping.lon),
        }
    }

    /// Whether a position surely is in the square of this key, and nothing else tells positions there apart.
    #[inline]
    fn is_in_last_square(&self, lat: f64, lon: f64, key: u64) -> bool {
        self.areas.is_none() && self.squares.is_in_last(lat, lon, key)
    }

    #[inline]
    fn key_of_position(&mut self, lat: f64, lon: f64) -> PlaceKey {
        match self.place {
            PlaceRule::Grid { square_m } if self.mixed => {
                PlaceKey::Square(self.squares.square(lat, lon, square_m))
            }
            PlaceRule::Grid { square_m } => PlaceKey::Square(self.squares.square_by_last(lat, lon, square_m)),
            place => PlaceKey::of_position(&place, lat, lon),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    ping: Ping,
    key: PlaceKey,
    marked: bool,
}

/// The pings of one instant: one, but for scans and trips.
#[derive(Debug, Default)]
struct Instant {
    first: Option<Kept>,
    more: Vec<Kept>,
}

impl Instant {
    fn pings(&self) -> impl Iterator<Item = &Kept> {
        self.first.iter().chain(&self.more)
    }

    fn time(&self) -> Option<Millis> {
        self.first.map(|kept| kept.ping.time)
    }

    /// Adds a ping of the same instant. Of gps or tower pings the one with the smallest accuracy stays,
    /// then the smallest tower id, latitude, longitude, then the feed first in the job; equal scans and trips are one.
    fn add(&mut self, kept: Kept, rule: &TrackRule<'_>) {
        let Some(first) = &mut self.first else {
            self.first = Some(kept);
            return;
        };
        if !rule.source.is_by_id() {
            if rule.before(&kept.ping, &first.ping) == Ordering::Less {
                *first = kept;
            }
            return;
        }
        let scan = |k: &Kept| (k.ping.place, k.ping.check_out(), k.ping.floor);
        match std::iter::once(first).chain(&mut self.more).find(|k| scan(k) == scan(&kept)) {
            Some(same) if kept.ping.feed < same.ping.feed => *same = kept,
            Some(_) => {}
            None => self.more.push(kept),
        }
    }
}

fn before(a: &Ping, b: &Ping) -> Ordering {
    (a.accuracy_m.total_cmp(&b.accuracy_m))
        .then(a.place.cmp(&b.place))
        .then(a.lat.total_cmp(&b.lat))
        .then(a.lon.total_cmp(&b.lon))
        .then(a.feed.cmp(&b.feed))
}

/// A track as far as it has come.
#[derive(Debug, Default)]
pub struct Track {
    /// The last instant kept, whose stays wait for the next.
    last: Instant,
    /// The instant after it, which a filter may yet drop when it sees what follows.
    undecided: Option<Kept>,
    /// The instant that more pings may join.
    now: Instant,
    run: Option<(Stay, PlaceKey)>,
}

impl Track {
    /// Adds a ping, not earlier than the one before. Only stays of marked pings come out; those that are
    /// known by now go to `out`.
    #[inline]
    pub fn push(&mut self, ping: Ping, marked: bool, rule: &mut TrackRule<'_>, out: &mut impl FnMut(&Stay)) {
        if self.now.time().is_some_and(|now| now < ping.time) {
            self.settle(rule, out);
        }
        let key = rule.key(&ping);
        self.now.add(Kept { ping, key, marked }, rule);
    }

    /// Ends the instant that pings could join: none more will come at it.
    pub fn settle(&mut self, rule: &mut TrackRule<'_>, out: &mut impl FnMut(&Stay)) {
        if self.now.first.is_none() {
            return;
        }
        if rule.filters {
            let next = self.now.first.take();
            if let Some(kept) = std::mem::replace(&mut self.undecided, next)
                && !self.dropped(&kept, next.as_ref(), rule)
            {
                self.step(Instant { first: Some(kept), more: Vec::new() }, rule, out);
            }
        } else if rule.source.is_by_id() {
            let now = std::mem::take(&mut self.now);
            self.step(now, rule, out);
        } else {
            let next = self.now.first.take();
            if let Some(last) = std::mem::replace(&mut self.last.first, next)
                && last.marked
            {
                self.emit(&last, next.as_slice(), rule, out);
            }
        }
    }

    /// Whether the track waits for pings at all: what it has may still have to be ended by one up to `at`.
    pub fn is_open(&self, at: Millis, rule: &TrackRule<'_>) -> bool {
        let waits = |k: &Kept| k.marked && k.ping.time + rule.feeds[k.ping.feed as usize].hold_ms >= at;
        rule.filters || self.now.pings().chain(self.last.pings()).any(waits)
    }

    /// Ends the track: the last pings stand for their hold.
    pub fn finish(&mut self, rule: &mut TrackRule<'_>, out: &mut impl FnMut(&Stay)) {
        self.settle(rule, out);
        if let Some(kept) = self.undecided.take() {
            self.step(Instant { first: Some(kept), more: Vec::new() }, rule, out);
        }
        self.step(Instant::default(), rule, out);
        if let Some((stay, _)) = self.run.take() {
            out(&stay);
        }
    }

    /// Impossible travel (gps), ping-pong (tower): the setting is that of the ping's own feed; "before" is
    /// the last ping kept, "after" the next raw one.
    fn dropped(&self, kept: &Kept, after: Option<&Kept>, rule: &TrackRule<'_>) -> bool {
        let ping = &kept.ping;
        let feed = &rule.feeds[ping.feed as usize];
        let (true, Some(before), Some(after)) = (feed.filters(), &self.last.first, after) else {
            return false;
        };
        let (before, after) = (&before.ping, &after.ping);
        match rule.source {
            Source::Gps => {
                let limit = feed.speed_m_per_s_max;
                speed_m_per_s(before, ping) > limit && speed_m_per_s(ping, after) > limit
            }
            Source::Tower => {
                before.place == after.place
                    && ping.place != before.place
                    && after.time - before.time <= feed.pingpong_ms
            }
            Source::Trip | Source::Venue => false,
        }
    }

    fn step(&mut self, next: Instant, rule: &TrackRule<'_>, out: &mut impl FnMut(&Stay)) {
        let last = std::mem::replace(&mut self.last, next);
        let closers: Vec<Kept> = self.last.pings().copied().collect();
        for kept in last.pings().filter(|k| k.marked) {
            self.emit(kept, &closers, rule, out);
        }
    }

    /// Lets out the stay of a ping that these, all at one instant, end.
    #[inline]
    fn emit(&mut self, kept: &Kept, closers: &[Kept], rule: &TrackRule<'_>, out: &mut impl FnMut(&Stay)) {
        let Some(stay) = stay(kept, closers, rule).and_then(|s| s.clipped(Millis::MIN, rule.as_of)) else {
            return;
        };
        if !rule.joins {
            out(&stay);
            return;
        }
        let joined = self.run.as_mut().is_some_and(|run| {
            !rule.may_differ((run.0.lat, run.0.lon), (stay.lat, stay.lon))
                && join(run, &stay, kept.key, rule.moving)
        });
        if !joined && let Some((done, _)) = self.run.replace((stay, kept.key)) {
            out(&done);
        }
    }
}

#[inline]
fn stay(kept: &Kept, closers: &[Kept], rule: &TrackRule<'_>) -> Option<Stay> {
    let ping = &kept.ping;
    let feed = &rule.feeds[ping.feed as usize];
    let mut stay = Stay {
        start: ping.time,
        sure: ping.time,
        end: ping.end(feed),
        ending: Ending::default(),
        lat: ping.lat,
        lon: ping.lon,
        sigma_m: rule.sigma_m(ping),
        leg: None,
        alone: false,
        place: ping.place,
        floor: ping.floor,
        source: rule.source,
    };
    if let Some(until) = ping.check_out() {
        stay.sure = until;
        return Some(stay);
    }
    let closer = closers.first().filter(|n| n.ping.time <= stay.end);
    match (feed.motion, closer) {
        (Motion::Linear, None) => return None,
        (Motion::Linear, Some(Kept { ping: next, .. })) => {
            stay.end = next.time;
            stay.sure = next.time;
            let (dlat, dlon) = (next.lat - ping.lat, wrap_degrees(next.lon - ping.lon));
            stay.leg = Leg::new((ping.time, next.time), dlat, dlon);
        }
        (Motion::Hold, None) => {}
        (Motion::Hold, Some(first)) => {
            let next = &first.ping;
            stay.end = next.time;
            stay.ending = rule.ending((ping.lat, ping.lon), (next.lat, next.lon), ping.time);
            if closers.iter().any(|n| same_place(kept, n, rule)) {
                stay.sure = stay.end;
            }
        }
    }
    Some(stay)
}

/// Whether two pings of one track are at the same place, which brackets the stay between them.
fn same_place(a: &Kept, b: &Kept, rule: &TrackRule<'_>) -> bool {
    match (rule.source, rule.place) {
        (Source::Trip | Source::Venue, _) => a.ping.place == b.ping.place && a.ping.place != NO_PLACE,
        (_, place) => match place.metres() {
            Some(metres) => is_within_m(a.ping.lat, a.ping.lon, b.ping.lat, b.ping.lon, metres),
            None => a.key == b.key,
        },
    }
}

fn speed_m_per_s(a: &Ping, b: &Ping) -> f64 {
    haversine_m(a.lat, a.lon, b.lat, b.lon) / ((b.time - a.time) as f64 / 1_000.0)
}

/// The stays of one person (rows in the order of time) from one source.
pub fn whole_track(
    pings: &Pings<'_>,
    rows: Range<usize>,
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
