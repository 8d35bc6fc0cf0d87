//! The sieve: may a stay that starts here and now meet a case at all? A few nanoseconds a ping.
//!
//! A bitmap over quantised place and time slot, made from the cases' stays. It never says no where an
//! encounter is possible; a wrong yes only costs the exact test.

use crate::geo::{LatLonBox, METRES_PER_DEGREE};
use crate::ping::{NO_PLACE, NO_UNTIL, Ping, Pings};
use crate::place::{PlaceRule, row_cos, square};
use crate::rule::{EncounterRule, Motion, Source, StayRule};
use crate::stay::Stay;
use crate::time::Millis;
use arrow::array::{BooleanArray, RecordBatch};
use h3o::{CellIndex, LatLng};

/// Time slots are as long as the shortest hold, within these bounds.
const SLOT_MS_MIN: Millis = 60_000;
const SLOT_MS_MAX: Millis = 3_600_000;
/// Time slots of one sieve, about.
const SLOTS_MAX: i64 = 65_536;
/// Rows of latitude are at least this high, so that their table stays small.
const ROW_M_MIN: f64 = 50.0;
/// A stay that would fill more boxes than this marks its whole time slots instead.
const BOXES_MAX: u64 = 4_096;
/// Bits for each entry: a test of an unvisited place and slot says yes once in so many times. Many, as
/// long as the bitmap stays near the cores.
const BITS_PER_ENTRY: u64 = 128;
const BITS_NEAR: u64 = 1 << 25;
/// Bits for each entry, however many entries there are.
const BITS_PER_ENTRY_MIN: u64 = 16;
const BITS_MIN: u64 = 1 << 12;
const BITS_MAX: u64 = 1 << 32;

/// Stays that could meet share a class: positions of one source, positions of any, or venues' ids.
const CLASS_ANY: u8 = 3;
const CLASS_VENUE: u8 = 4;

/// The bitmap and its quanta.
#[derive(Debug, Clone)]
pub struct Sieve {
    feeds: Vec<StayRule>,
    cross_source: bool,
    slot_ms: Millis,
    as_of: Millis,
    slot_first: i64,
    /// By time slot: classes with a case's stay anywhere, and classes with one that may be everywhere.
    somewhere: Vec<u8>,
    everywhere: Vec<u8>,
    rows_per_degree: f64,
    /// By row from the south pole: columns for each degree of longitude.
    cols_per_degree: Vec<f64>,
    bits: Vec<u64>,
    mask: u64,
}

impl Sieve {
    /// A sieve that lets through what may meet one of these stays.
    /// Nothing that comes from `as_of` on can meet them.
    pub fn new(stays: &[Stay], rule: &EncounterRule, feeds: &[StayRule], as_of: Millis) -> Self {
        let end_of = |s: &Stay| (s.end + rule.lag_ms).min(as_of);
        let slot_ms =
            feeds.iter().map(|f| f.hold_ms).min().unwrap_or(SLOT_MS_MAX).clamp(SLOT_MS_MIN, SLOT_MS_MAX);
        // A lookback of years has longer slots, so that their number stays small.
        let span_ms =
            stays.iter().map(end_of).max().unwrap_or(0) - stays.iter().map(|s| s.start).min().unwrap_or(0);
        let slot_ms = slot_ms.max(span_ms / SLOTS_MAX);
        let row_m = match rule.place {
            PlaceRule::Grid { square_m } => square_m / 4.0,
            PlaceRule::Cell { resolution } => cell_radius_m(resolution),
            PlaceRule::Distance { distance_m_max } => distance_m_max,
        }
        .max(ROW_M_MIN);
        let row_degrees = row_m / METRES_PER_DEGREE;
        let rows = (180.0 / row_degrees).ceil() as usize + 1;
        let cols_per_degree = (0..rows)
            .map(|row| {
                let parallel = row as f64 * row_degrees - 90.0;
                let shortest = parallel.abs().max((parallel + row_degrees).abs()).min(90.0);
                shortest.to_radians().cos().max(0.0) / row_degrees
            })
            .collect();
        let first = stays.iter().map(|s| s.start).min().unwrap_or(0).div_euclid(slot_ms);
        let last = stays.iter().map(end_of).max().unwrap_or(0).div_euclid(slot_ms);
        let mut sieve = Sieve {
            feeds: feeds.to_vec(),
            cross_source: rule.cross_source,
            slot_ms,
            as_of,
            slot_first: first,
            somewhere: vec![0; (last - first + 1).max(1) as usize],
            everywhere: vec![0; (last - first + 1).max(1) as usize],
            rows_per_degree: 1.0 / row_degrees,
            cols_per_degree,
            bits: Vec::new(),
            mask: 0,
        };
        // Counting first makes the bitmap as large as it has to be, and no entry is kept twice.
        let mut entries = 0u64;
        for stay in stays {
            sieve.mark_slots(stay, rule);
            sieve.entries(stay, rule, &mut |_| entries += 1);
        }
        let size = (entries * BITS_PER_ENTRY).min(BITS_NEAR).max(entries * BITS_PER_ENTRY_MIN);
        let size = size.clamp(BITS_MIN, BITS_MAX).next_power_of_two();
        let mut bits = vec![0u64; (size / 64) as usize];
        for stay in stays {
            sieve.entries(stay, rule, &mut |entry| {
                let bit = entry & (size - 1);
                bits[(bit >> 6) as usize] |= 1 << (bit & 63);
            });
        }
        sieve.bits = bits;
        sieve.mask = size - 1;
        sieve
    }

    /// The kernel: which rows of a batch of pings may meet a case, were each to stand for its whole hold.
    pub fn mark(&self, batch: &RecordBatch) -> BooleanArray {
        let pings = Pings::of(batch);
        (0..batch.num_rows()).map(|row| Some(self.may_meet_from(&pings.at(row)))).collect()
    }

    /// Whether a ping, standing as long as it can, may meet a case.
    #[inline]
    pub fn may_meet_from(&self, ping: &Ping) -> bool {
        let rule = &self.feeds[ping.feed as usize];
        let end = if ping.until == NO_UNTIL { ping.time + rule.hold_ms } else { ping.until };
        let moves = rule.motion == Motion::Linear;
        self.test(rule.source, ping.lat, ping.lon, ping.place, moves, ping.time, end)
    }

    /// Whether a stay may meet a case.
    #[inline]
    pub fn may_meet(&self, stay: &Stay) -> bool {
        self.test(stay.source, stay.lat, stay.lon, stay.place, stay.leg.is_some(), stay.start, stay.end)
    }

    #[expect(clippy::too_many_arguments, reason = "a ping and a stay name the same seven facts differently")]
    fn test(
        &self,
        source: Source,
        lat: f64,
        lon: f64,
        place: u32,
        moves: bool,
        start: Millis,
        end: Millis,
    ) -> bool {
        let by_id = source == Source::Venue && place != NO_PLACE;
        let by_position = !lat.is_nan() && (source != Source::Venue || self.cross_source);
        let class = self.class(source);
        let spot = if by_position && !moves { self.spot(class, lat, lon) } else { 0 };
        let venue = spot_of_venue(place);
        let first = (start.div_euclid(self.slot_ms) - self.slot_first).max(0);
        let last =
            ((end - 1).div_euclid(self.slot_ms) - self.slot_first).min(self.somewhere.len() as i64 - 1);
        for slot in first..=last {
            if by_id && self.has(spot_at(venue, slot)) {
                return true;
            }
            if by_position {
                let everywhere =
                    if moves { self.somewhere[slot as usize] } else { self.everywhere[slot as usize] };
                if everywhere >> class & 1 == 1 || (!moves && self.has(spot_at(spot, slot))) {
                    return true;
                }
            }
        }
        false
    }

    fn class(&self, source: Source) -> u8 {
        if self.cross_source { CLASS_ANY } else { source as u8 }
    }

    #[inline]
    fn has(&self, entry: u64) -> bool {
        let bit = entry & self.mask;
        self.bits[(bit >> 6) as usize] >> (bit & 63) & 1 == 1
    }

    #[inline]
    fn row(&self, lat: f64) -> usize {
        (((lat + 90.0) * self.rows_per_degree) as usize).min(self.cols_per_degree.len() - 1)
    }

    #[inline]
    fn spot(&self, class: u8, lat: f64, lon: f64) -> u64 {
        let row = self.row(lat);
        spot_of(class, row, ((lon + 180.0) * self.cols_per_degree[row]) as u64)
    }

    fn slots(&self, stay: &Stay, rule: &EncounterRule) -> std::ops::RangeInclusive<i64> {
        let first = stay.start.div_euclid(self.slot_ms) - self.slot_first;
        let last = ((stay.end + rule.lag_ms).min(self.as_of) - 1).div_euclid(self.slot_ms) - self.slot_first;
        first..=last
    }

    /// The boxes a stay fills; none if it fills too many.
    fn boxes(&self, stay: &Stay, rule: &EncounterRule) -> Option<Vec<(usize, u64, u64)>> {
        let mut boxes = Vec::new();
        let mut count = 0;
        for part in reach(stay, &rule.place).split() {
            for row in self.row(part.lat_min)..=self.row(part.lat_max) {
                let col = |lon: f64| ((lon + 180.0) * self.cols_per_degree[row]) as u64;
                let (west, east) = (col(part.lon_min), col(part.lon_max));
                count += east - west + 1;
                if count > BOXES_MAX {
                    return None;
                }
                boxes.push((row, west, east));
            }
        }
        Some(boxes)
    }

    fn mark_slots(&mut self, stay: &Stay, rule: &EncounterRule) {
        if !stay.has_position() {
            return;
        }
        let bit = 1 << self.class(stay.source);
        let wide = self.boxes(stay, rule).is_none();
        for slot in self.slots(stay, rule) {
            self.somewhere[slot as usize] |= bit;
            if wide {
                self.everywhere[slot as usize] |= bit;
            }
        }
    }

    fn entries(&self, stay: &Stay, rule: &EncounterRule, each: &mut impl FnMut(u64)) {
        let class = self.class(stay.source);
        if stay.source == Source::Venue && stay.place != NO_PLACE {
            for slot in self.slots(stay, rule) {
                each(spot_at(spot_of_venue(stay.place), slot));
            }
        }
        if !stay.has_position() || (stay.source == Source::Venue && !self.cross_source) {
            return;
        }
        for (row, west, east) in self.boxes(stay, rule).unwrap_or_default() {
            for col in west..=east {
                for slot in self.slots(stay, rule) {
                    each(spot_at(spot_of(class, row, col), slot));
                }
            }
        }
    }
}

/// Everywhere that another may be to share this stay's place.
fn reach(stay: &Stay, place: &PlaceRule) -> LatLonBox {
    match *place {
        PlaceRule::Distance { distance_m_max } => stay.bounds().grown(distance_m_max),
        PlaceRule::Grid { square_m } => {
            let at = square(stay.lat, stay.lon, square_m);
            let (side, cos) = (square_m / METRES_PER_DEGREE, row_cos(at.row as f64, square_m));
            let lat = at.row as f64 * side;
            let (lon, dlon) =
                if cos * 360.0 > side { (at.col as f64 * side / cos, side / cos) } else { (-180.0, 360.0) };
            LatLonBox::of_path(lat.clamp(-90.0, 90.0), lon, side, dlon).grown(0.0)
        }
        PlaceRule::Cell { resolution } => {
            let whole = || LatLonBox { lat_min: -90.0, lat_max: 90.0, lon_min: -180.0, lon_max: 180.0 };
            let Ok(cell) = CellIndex::try_from(crate::place::cell(stay.lat, stay.lon, resolution)) else {
                return whole();
            };
            let centre = LatLng::from(cell);
            LatLonBox::of_path(centre.lat(), centre.lng(), 0.0, 0.0).grown(cell_reach_m(cell))
        }
    }
}

/// Metres from a cell's centre within which all of it lies; edges bulge past their corners by far
/// less than the tenth that is added.
fn cell_reach_m(cell: CellIndex) -> f64 {
    let centre = LatLng::from(cell);
    let corner = cell.boundary().iter().map(|corner| centre.distance_m(*corner)).fold(0.0, f64::max);
    corner * 1.1 + 1.0
}

/// About the mean edge length at a resolution, metres (edges shrink by sqrt(7); 1,281,256 m at 0).
fn cell_radius_m(resolution: u8) -> f64 {
    1_281_256.0 / 7f64.sqrt().powi(i32::from(resolution))
}

#[inline]
fn spot_of(class: u8, row: usize, col: u64) -> u64 {
    mixed(((row as u64) << 32 | col) ^ u64::from(class) << 60)
}

#[inline]
fn spot_of_venue(place: u32) -> u64 {
    mixed(u64::from(place) ^ u64::from(CLASS_VENUE) << 60)
}

#[inline]
fn spot_at(spot: u64, slot: i64) -> u64 {
    mixed(spot ^ (slot as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014), shortened to one round.
#[inline]
fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^ (z >> 29)
}
