//! What of a day comes to the feeds: pings of telephones, base stations that served them, codes that were scanned, seats in
//! vehicles; each with the flaws of its kind.

use super::day::{Day, Dice, Piece, spot_at};
use super::map::{Heard, Map, Point, Setting, VENUE_KINDS, Venue};
use super::people::Person;
use crate::datum::wgs84_to_gcj02;
use crate::geo::METRES_PER_DEGREE;
use crate::synth::draw::{Normal, Stream, unit};
use crate::time::{DAY_MS, HOUR_MS, Millis};
use crate::uncertainty::SIGMAS_PER_ACCURACY;

/// accuracy_m is lognormal: median and standard deviation of the logarithm, under a roof and in the open.
const ACCURACY_IN: (f64, f64) = (22.0, 0.5);
const ACCURACY_OUT: (f64, f64) = (8.0, 0.4);
/// Mean gap between pings beyond the least one, minutes: on the way, awake, asleep.
const GAPS_MIN: (f64, f64, f64) = (3.0, 7.5, 18.0);
const GAP_MS_MIN: f64 = 20_000.0;
/// Standard deviation of the logarithm of a person's own pace.
const PACE_SD: f64 = 0.4;
/// Share of the days on which the battery dies in the evening, and on which nothing is sent for some hours.
const DEAD: f64 = 0.03;
const SILENT: f64 = 0.08;
/// Shares of pings, signals and scans that come twice, and of pings and signals that come with the next day's.
const TWICE: f64 = 0.002;
const LATE: f64 = 0.003;
/// Calls and messages a day, and every how many ms a telephone reports by itself.
const CALLS: f64 = 18.0;
const PERIOD_MS: f64 = 3_240_000.0;
/// On the way a telephone changes its tower about so often, ms.
const HANDOVER_MS: f64 = 90_000.0;
/// Standard deviation of the logarithm of how strong a tower is heard, and the share of signals after which a telephone goes to
/// the second tower and back at once.
const FADING_SD: f64 = 0.2;
const PINGPONG: f64 = 0.04;
/// Shares of visits of those who scan at all that are scanned, of scans with a check-out, and of days with a code that somebody
/// forwarded, scanned from elsewhere.
const SCANNED: f64 = 0.75;
const CHECKED_OUT: f64 = 0.08;
const FORWARDED: f64 = 0.002;
/// Share of rides with a known seat.
const SEATED: f64 = 0.85;

/// A row of the gps feed; the person by the number in the district.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ping {
    /// Time.
    pub time: Millis,
    /// Whose.
    pub person: u32,
    /// Metres.
    pub accuracy_m: f32,
    /// Degrees.
    pub lat: f64,
    /// Degrees.
    pub lon: f64,
}

/// A row of the tower feed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Signal {
    /// Time.
    pub time: Millis,
    /// Whose.
    pub person: u32,
    /// The tower's number.
    pub tower: u32,
}

/// A row of the venue feed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scan {
    /// Time.
    pub time: Millis,
    /// Whose.
    pub person: u32,
    /// Where.
    pub venue: Venue,
    /// The check-out.
    pub until: Option<Millis>,
    /// The floor, where there are several.
    pub floor: Option<u64>,
}

/// A row of the trip feed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trip {
    /// When it starts.
    pub time: Millis,
    /// When it ends.
    pub until: Millis,
    /// Whose.
    pub person: u32,
    /// Stops.
    pub stops: (u64, u64),
    /// The day, counted back from the last, and the departure's number on it.
    pub departure: (u64, u64),
    /// Whether it is a train.
    pub train: bool,
    /// Row of a bus, coach of a train.
    pub seat: u64,
}

/// Rows of a feed that arrive with their day, and with the next.
#[derive(Debug)]
pub struct Rows<T> {
    /// Of the day.
    pub now: Vec<T>,
    /// That come with the next day's.
    pub late: Vec<T>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Rows { now: Vec::new(), late: Vec::new() }
    }
}

impl<T: Copy> Rows<T> {
    fn add(&mut self, row: T, dice: &mut Dice) {
        let how = dice.unit();
        if how < LATE { &mut self.late } else { &mut self.now }.push(row);
        if how > 1.0 - TWICE {
            self.now.push(row);
        }
    }

    /// Puts the day's rows in the order of time, then person. They come person by person, so that a stable order is one of all.
    pub fn sort(&mut self, key: impl Fn(&T) -> (Millis, u32)) {
        // Numbers are moved in the place of rows.
        let mut order: Vec<(Millis, u32, u32)> = Vec::with_capacity(self.now.len());
        order.extend((0u32..).zip(&self.now).map(|(at, row)| {
            let (time, person) = key(row);
            (time, person, at)
        }));
        order.sort_unstable();
        self.now = order.iter().map(|(.., at)| self.now[*at as usize]).collect();
    }

    /// Starts the next day.
    pub fn turn(&mut self) {
        self.now.clear();
        self.now.append(&mut self.late);
    }
}

/// All rows of some persons' day.
#[derive(Debug, Default)]
pub struct Signals {
    /// The gps feed's.
    pub pings: Rows<Ping>,
    /// The tower feed's.
    pub signals: Rows<Signal>,
    /// The venue feed's.
    pub scans: Vec<Scan>,
    /// The trip feed's.
    pub trips: Vec<Trip>,
}

impl Signals {
    /// Gives the room of the days back.
    pub fn forget_days(&mut self) {
        (self.pings, self.signals) = (Rows::default(), Rows::default());
    }
}

/// What telephones need to know.
#[derive(Debug)]
pub struct Sending<'a> {
    /// The map.
    pub map: &'a Map,
    /// The normal distribution.
    pub normal: &'a Normal,
    /// Whether positions are shifted to GCJ-02.
    pub gcj02: bool,
    /// The day, counted back from the last.
    pub days_before: u64,
}

/// Each feed is drawn from streams of its own, so that leaving one out changes no other.
const FEEDS: u64 = 2 << 32;

impl Sending<'_> {
    fn dice(&self, person: &Person, feed: u64) -> Dice {
        Dice::new(person.draws.stream(FEEDS + self.days_before).stream(feed))
    }

    fn normal(&self, dice: &mut Dice) -> f64 {
        self.normal.at((dice.draw() >> 32) as u32)
    }

    /// The pings of a person's day.
    pub fn pings(&self, person: &Person, row: u32, pieces: &[Piece], pings: &mut Rows<Ping>) {
        let Some(first) = pieces.first().filter(|_| person.has_phone) else { return };
        let mut dice = self.dice(person, 0);
        let pace = (PACE_SD * self.normal.at((person.draws.draw(4) >> 32) as u32)).exp();
        let at = |hours: f64| first.start + (hours * HOUR_MS as f64) as Millis;
        let dead = if dice.happens(DEAD) { at(dice.within(17.0, 23.5)) } else { Millis::MAX };
        let silent_from = if dice.happens(SILENT) { at(dice.within(0.0, 23.0)) } else { Millis::MAX };
        let silent_to = silent_from.saturating_add((dice.within(1.0, 4.0) * HOUR_MS as f64) as Millis);
        let day_end = first.start + DAY_MS;
        let mut time = first.start + (dice.unit() * 600_000.0) as Millis;
        let mut piece = 0;
        // A person who stays need not be put on the globe anew.
        let mut known = (first.from, first.from.degrees_and_step());
        while time < day_end && time < dead {
            while pieces[piece].end <= time {
                piece += 1;
            }
            let now = &pieces[piece];
            let outside = now.air == 0 || matches!(now.setting, Setting::Way);
            if !(silent_from..silent_to).contains(&time) {
                let (median_m, sd) = if outside { ACCURACY_OUT } else { ACCURACY_IN };
                let accuracy_m = median_m * (sd * self.normal(&mut dice)).exp();
                let accuracy_m = (accuracy_m.clamp(3.0, 150.0) * 10.0 + 0.5) as u32 as f64 / 10.0;
                let (east, north) = self.normal.pair(dice.draw());
                let sigma_m = accuracy_m / SIGMAS_PER_ACCURACY;
                let at = spot_at(now, time);
                if known.0 != at {
                    known = (at, at.degrees_and_step());
                }
                let (lat, lon, step) = known.1;
                let (lat, lon) = (lat + north * sigma_m / METRES_PER_DEGREE, lon + east * sigma_m * step);
                let (lat, lon) = if self.gcj02 { wgs84_to_gcj02(lat, lon) } else { (lat, lon) };
                let (lat, lon) = (millionths(lat), millionths(lon));
                pings.add(Ping { time, person: row, accuracy_m: accuracy_m as f32, lat, lon }, &mut dice);
            }
            let hour = (time - first.start) / HOUR_MS;
            let mean_min = if outside || now.setting == Setting::Transit {
                GAPS_MIN.0
            } else if (6..23).contains(&hour) {
                GAPS_MIN.1
            } else {
                GAPS_MIN.2
            };
            let gap_ms = GAP_MS_MIN - (1.0 - dice.unit()).ln() * mean_min * pace * 60_000.0;
            time += gap_ms as Millis;
        }
    }

    /// The signals of a person's day.
    pub fn signals(&self, person: &Person, row: u32, pieces: &[Piece], signals: &mut Rows<Signal>) {
        let Some(first) = pieces.first().filter(|_| person.has_phone) else { return };
        let mut dice = self.dice(person, 1);
        let day_end = first.start + DAY_MS;
        let mut times: Vec<Millis> = Vec::with_capacity(80);
        let offset_ms = unit(person.draws.draw(5)) * PERIOD_MS;
        let periods = ((DAY_MS as f64 - offset_ms) / PERIOD_MS).ceil() as u64;
        times.extend((0..periods).map(|n| first.start + (offset_ms + n as f64 * PERIOD_MS) as Millis));
        let calls = dice.within(0.2, 1.8) * CALLS;
        times.extend(
            (0..calls as u64).map(|_| first.start + (dice.within(7.5, 23.0) * HOUR_MS as f64) as Millis),
        );
        for way in pieces.iter().filter(|piece| piece.from.metres_to(piece.to) > 200.0) {
            let mut time = way.start as f64 + dice.unit() * HANDOVER_MS;
            while time < way.end as f64 {
                times.push(time as Millis);
                time += HANDOVER_MS * dice.within(0.5, 1.5);
            }
        }
        times.sort_unstable();
        let mut piece = 0;
        let mut known: Option<(Point, Heard)> = None;
        for time in times.into_iter().filter(|time| *time < day_end) {
            while pieces[piece].end <= time {
                piece += 1;
            }
            let at = spot_at(&pieces[piece], time);
            let heard = match known {
                Some((spot, heard)) if spot == at => heard,
                _ => self.map.towers_near(at),
            };
            known = Some((at, heard));
            let (served, other) = self.serving(&heard, &mut dice);
            signals.add(Signal { time, person: row, tower: served }, &mut dice);
            if dice.happens(PINGPONG) {
                let there = time + dice.within(10_000.0, 45_000.0) as Millis;
                let back = there + dice.within(10_000.0, 45_000.0) as Millis;
                if back < day_end {
                    signals.add(Signal { time: there, person: row, tower: other }, &mut dice);
                    signals.add(Signal { time: back, person: row, tower: served }, &mut dice);
                }
            }
        }
    }

    /// The tower that is heard best, and the second.
    fn serving(&self, near: &Heard, dice: &mut Dice) -> (u32, u32) {
        let mut best = [(f64::INFINITY, 0); 2];
        for &(metres, tower) in near.iter().filter(|near| near.0.is_finite()) {
            let heard = (metres + 30.0) * (FADING_SD * self.normal(dice)).exp();
            if heard < best[0].0 {
                best = [(heard, tower), best[0]];
            } else if heard < best[1].0 {
                best[1] = (heard, tower);
            }
        }
        (best[0].1, if best[1].0.is_finite() { best[1].1 } else { best[0].1 })
    }

    /// The scans of a person's day.
    pub fn scans(&self, person: &Person, row: u32, day: &Day, scans: &mut Vec<Scan>) {
        if !person.scans {
            return;
        }
        let mut dice = self.dice(person, 2);
        let mut add = |scan: Scan, dice: &mut Dice| {
            scans.push(scan);
            if dice.happens(TWICE) {
                scans.push(scan);
            }
        };
        for visit in &day.visits {
            let (scanned, late_ms, out) =
                (dice.happens(SCANNED), dice.within(5_000.0, 60_000.0), dice.happens(CHECKED_OUT));
            let time = visit.start + late_ms as Millis;
            if scanned && time < visit.end {
                let floor = (visit.venue.kind().floors > 1).then_some(visit.floor);
                let until = out.then_some(visit.end);
                add(Scan { time, person: row, venue: visit.venue, until, floor }, &mut dice);
            }
        }
        let Some(first) = day.pieces.first().filter(|_| dice.happens(FORWARDED)) else { return };
        let time = first.start + (dice.within(8.0, 20.0) * HOUR_MS as f64) as Millis;
        let kind = dice.below(VENUE_KINDS.len() as u64 - 1) as usize;
        let venue = self.map.some_venue(self.map.central(dice.draw()), kind, dice.draw());
        add(Scan { time, person: row, venue, until: None, floor: None }, &mut dice);
    }

    /// The trips of a person's day.
    pub fn trips(&self, person: &Person, row: u32, day: &Day, trips: &mut Vec<Trip>) {
        let mut dice = self.dice(person, 3);
        for ride in &day.rides {
            if dice.happens(SEATED) {
                trips.push(Trip {
                    time: ride.start,
                    until: ride.end,
                    person: row,
                    stops: ride.stops,
                    departure: (self.days_before, ride.departure),
                    train: ride.train,
                    seat: ride.seat,
                });
            }
        }
    }
}

/// Which rows are broken, where that is asked for, and how: the number of the column that is spoilt.
pub fn broken(draws: Stream, row: u64, share: f64) -> Option<u64> {
    let draw = draws.draw(row);
    (share > 0.0 && unit(draw) < share).then_some(draw & 3)
}

/// The number nearest to a positive one that has six decimals.
fn millionths(degrees: f64) -> f64 {
    (degrees * 1e6 + 0.5) as i64 as f64 / 1e6
}
