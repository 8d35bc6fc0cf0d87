//! A person's day: six stays and the ways between them.

use super::city::{City, LAT_PER_M, LON_PER_M, Spot};
use super::draw::Stream;
use crate::time::HOUR_MS;

/// Standard deviation of a person's own spot in the home's and in the workplace's building, metres.
const HOME_SD_M: f64 = 12.0;
const WORK_SD_M: f64 = 20.0;
/// Shares of persons who go to work, and of days with lunch elsewhere, of 65,536 and of 256.
const WORKING: u64 = 47_186;
const LUNCH: u64 = 102;
/// Mean and standard deviation, in hours of the day, of leaving each stay but the last.
const LEAVES_H: [(f64, f64); 5] = [(7.7, 0.9), (12.0, 0.4), (13.2, 0.3), (18.0, 0.8), (20.3, 0.8)];
/// A way takes four minutes, and the distance at an even speed.
const WAY_MS: f64 = 240_000.0;
/// No stay but the last is shorter than ten minutes.
const STAY_MS_MIN: f64 = 600_000.0;
/// A person's streams of days, and a day's draws for pings, by their first number.
const DAYS: u64 = 1 << 32;
const PINGS: u64 = 1 << 32;

/// Where a person is at each instant of one day.
#[derive(Debug)]
pub struct Day {
    draws: Stream,
    spots: [Spot; 6],
    /// When each stay but the last ends, and how long the way from there takes, ms.
    leaves_ms: [f64; 5],
    ways_ms: [f64; 5],
}

/// Where, how sure.
#[derive(Debug, Clone, Copy)]
pub struct Position {
    /// As reported, degrees, multiples of 1e-6.
    pub spot: Spot,
    /// Metres, a multiple of 0.1.
    pub accuracy_m: f32,
}

impl Day {
    /// The day that lies so many days before the last, up to `until_ms` after its start; what comes later is
    /// left out.
    #[inline]
    pub fn new(city: &City, person: Stream, days_before: u64, until_ms: u64) -> Self {
        let draws = person.stream(DAYS + days_before);
        let normal = &city.normal;
        let spread = |draw: u64, sd_m: f64| {
            let (east, north) = normal.pair(draw);
            (east * sd_m, north * sd_m)
        };
        let (first, visits, last) = (person.draw(0), draws.draw(0), draws.draw(3));
        let works = first & 0xFFFF < WORKING;
        let has_lunch = (last >> 16) & 0xFF < LUNCH;
        let (goes_out, takes_third) = (last & (1 << 24) != 0, last & (1 << 25) != 0);
        let ms_per_m = 1_000.0 / (3.5 + 5.5 * (last & 0xFFFF) as f64 / 65_536.0);

        let home = city.home(first).moved(spread(person.draw(1), HOME_SD_M));
        let work = || city.work(person.draw(2)).moved(spread(person.draw(3), WORK_SD_M));
        let venue = |n: u32| city.venue((visits >> (16 * n)) as u16);
        let (mut spots, mut leaves_ms, mut ways_ms) = ([home; 6], [f64::INFINITY; 5], [1.0; 5]);
        let mut earliest_ms = 0.0;
        for n in 0..5 {
            let (mean_h, sd_h) = LEAVES_H[n];
            let z = match n {
                0 => normal.at(draws.draw(1) as u32),
                1 => normal.at((draws.draw(1) >> 32) as u32),
                2 => normal.at(draws.draw(2) as u32),
                3 => normal.at((draws.draw(2) >> 32) as u32),
                _ => normal.at((last >> 32) as u32),
            };
            let leave_ms = f64::max((mean_h + sd_h * z) * HOUR_MS as f64, earliest_ms);
            if leave_ms > until_ms as f64 {
                break;
            }
            spots[n + 1] = match n {
                0 if works => work(),
                0 => venue(0),
                1 if has_lunch => venue(1),
                1 => spots[1],
                2 if works => spots[1],
                3 if goes_out => venue(if takes_third { 2 } else { 3 }),
                _ => home,
            };
            let metres = spots[n].metres_to(spots[n + 1]);
            leaves_ms[n] = leave_ms;
            ways_ms[n] = if metres < 1.0 { 1.0 } else { WAY_MS + metres * ms_per_m };
            earliest_ms = leave_ms + ways_ms[n] + STAY_MS_MIN;
        }
        Day { draws, spots, leaves_ms, ways_ms }
    }

    /// Where the person truly is, `ms` after the day's start.
    #[inline]
    fn spot(&self, ms: f64) -> Spot {
        let left = self.leaves_ms.iter().filter(|leave_ms| **leave_ms <= ms).count();
        let Some(way) = left.checked_sub(1) else { return self.spots[0] };
        let (from, to) = (self.spots[way], self.spots[left]);
        let share = f64::min((ms - self.leaves_ms[way]) / self.ways_ms[way], 1.0);
        Spot { lon: from.lon + share * (to.lon - from.lon), lat: from.lat + share * (to.lat - from.lat) }
    }

    /// What the day's ping of this number reports, `ms` after the day's start.
    #[inline]
    pub fn position(&self, city: &City, number: u64, ms: u64) -> Position {
        let draw = self.draws.draw(PINGS + number);
        // These bits are the last ones of the error to the east as well, where they are worth nothing.
        let accuracy_m = city.accuracy_m((draw >> 32) as u32);
        let (east, north) = city.normal.pair(draw);
        let sd_m = f64::from(accuracy_m);
        let spot = self.spot(ms as f64);
        let lon = millionths(spot.lon + east * sd_m * LON_PER_M);
        let lat = millionths(spot.lat + north * sd_m * LAT_PER_M);
        Position { spot: Spot { lon, lat }, accuracy_m }
    }
}

/// The number nearest to a positive one that has six decimals.
#[inline]
fn millionths(degrees: f64) -> f64 {
    (degrees * 1e6 + 0.5) as i64 as f64 / 1e6
}
