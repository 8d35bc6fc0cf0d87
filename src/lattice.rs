//! A lattice of latitude and longitude with boxes of about one size in metres, for finding what is near
//! by hashing. It never decides: boxes are only where one looks.

use crate::geo::{LatLonBox, METRES_PER_DEGREE};
use crate::time::Millis;
use crate::wide::{BLOCK, floor, whole, wide};

/// Rows of one height, each with columns as wide as the row is high on its shortest parallel.
#[derive(Debug, Clone)]
pub struct Lattice {
    rows_per_degree: f64,
    lat_first: f64,
    /// By row from `lat_first`: columns for each degree of longitude.
    cols_per_degree: Vec<f64>,
}

/// A box of a lattice, by row and column.
pub type Spot = u64;

/// The row of a box.
#[inline]
pub fn row_of(spot: Spot) -> usize {
    (spot >> 32) as usize
}

impl Lattice {
    /// A lattice of rows `row_m` metres high, which spans these latitudes.
    pub fn new(row_m: f64, lat_min: f64, lat_max: f64) -> Self {
        let row_degrees = row_m / METRES_PER_DEGREE;
        let rows = if lat_max >= lat_min { ((lat_max - lat_min) / row_degrees) as usize + 2 } else { 0 };
        let cols_per_degree = (0..rows)
            .map(|row| {
                let parallel = row as f64 * row_degrees + lat_min;
                let shortest = parallel.abs().max((parallel + row_degrees).abs()).min(90.0);
                shortest.to_radians().cos().max(0.0) / row_degrees
            })
            .collect();
        Lattice { rows_per_degree: 1.0 / row_degrees, lat_first: lat_min, cols_per_degree }
    }

    /// The box of a position; `None` outside the latitudes that it spans.
    #[inline]
    pub fn spot(&self, lat: f64, lon: f64) -> Option<Spot> {
        let above = (lat - self.lat_first) * self.rows_per_degree;
        // What lies below the first row, and what is no number, is no row.
        let row = if above >= 0.0 { above as i64 as usize } else { usize::MAX };
        let cols = *self.cols_per_degree.get(row)?;
        Some((row as u64) << 32 | ((lon + 180.0) * cols) as i64 as u64)
    }

    /// The latitudes of each row's edges.
    pub fn rows(&self) -> impl Iterator<Item = (f64, f64)> {
        let edge = |row: usize| (row as f64 / self.rows_per_degree + self.lat_first).clamp(-90.0, 90.0);
        (0..self.cols_per_degree.len()).map(move |row| (edge(row), edge(row + 1)))
    }

    /// The boxes that an area fills; `None` if they are more than `most`.
    pub fn spots(&self, area: LatLonBox, most: usize) -> Option<Vec<Spot>> {
        let mut spots = Vec::new();
        let last = self.cols_per_degree.len() as f64 - 1.0;
        for part in area.split() {
            let row = |lat: f64| ((lat - self.lat_first) * self.rows_per_degree).clamp(0.0, last) as usize;
            if last < 0.0 {
                continue;
            }
            for row in row(part.lat_min)..=row(part.lat_max) {
                let col = |lon: f64| ((lon + 180.0) * self.cols_per_degree[row]) as i64 as u64;
                for col in col(part.lon_min)..=col(part.lon_max) {
                    if spots.len() == most {
                        return None;
                    }
                    spots.push((row as u64) << 32 | col);
                }
            }
        }
        Some(spots)
    }
}

/// Boxes of a map, at most: its bits stay near the cores.
const MAP_BITS_MAX: f64 = (1u64 << 18) as f64;
/// An area of more boxes than this makes all of the map say yes.
const MAP_AREA_MAX: u64 = 1 << 16;

/// Boxes that have times of their own, at most, for the same reason.
const MAP_TIMES_MAX: u32 = 1 << 17;

/// An area, and the first and last slot of time in which it matters.
pub type Timed = (LatLonBox, (usize, usize));

/// A bitmap of the surroundings of some areas: boxes of equal degrees inside the box that holds them all; and of those
/// that hold any, when.
#[derive(Debug, Clone, Default)]
pub struct Map {
    lat_first: f64,
    lon_first: f64,
    rows_per_degree: f64,
    cols_per_degree: f64,
    height: u32,
    width: u32,
    /// Row by row; one more, for what is outside, that is never set.
    bits: Vec<u64>,
    /// By word of these, how many bits are set before it.
    ranks: Vec<u32>,
    /// By bit that is set, the spans of time that matter there, a bit each; none where these would be too many.
    times: Vec<u64>,
    /// A span has two to this power slots.
    shift: u32,
    /// Everywhere is in it.
    full: bool,
}

impl Map {
    /// A map of these areas, of boxes about `row_m` metres high, or larger if they would be too many. There are so many
    /// `slots` of time.
    pub fn new(areas: &[Timed], slots: usize, row_m: f64) -> Self {
        let parts = || areas.iter().flat_map(|(area, _)| area.split());
        let Some(all) = parts().reduce(LatLonBox::with) else {
            return Map::default();
        };
        let (high, wide) = (all.lat_max - all.lat_min, all.lon_max - all.lon_min);
        let cos = all.lat_min.abs().max(all.lat_max.abs()).min(89.0).to_radians().cos();
        let per_degree = METRES_PER_DEGREE / row_m;
        let shrink =
            ((high * per_degree + 1.0) * (wide * per_degree * cos + 1.0) / MAP_BITS_MAX).sqrt().max(1.0);
        let (rows_per_degree, cols_per_degree) = (per_degree / shrink, per_degree * cos / shrink);
        let (height, width) = ((high * rows_per_degree) as u32 + 1, (wide * cols_per_degree) as u32 + 1);
        let mut map = Map {
            lat_first: all.lat_min,
            lon_first: all.lon_min,
            rows_per_degree,
            cols_per_degree,
            height,
            width,
            bits: vec![0; (u64::from(height) * u64::from(width)).div_euclid(64) as usize + 1],
            ranks: Vec::new(),
            times: Vec::new(),
            shift: slots.div_ceil(64).next_power_of_two().trailing_zeros(),
            full: false,
        };
        map.full = parts().any(|part| map.boxes(&part).is_none());
        if map.full {
            return map;
        }
        for part in parts() {
            map.boxes(&part).into_iter().flatten().for_each(|bit| map.bits[bit >> 6] |= 1 << (bit & 63));
        }
        let mut set = 0;
        for word in &map.bits {
            map.ranks.push(set);
            set += word.count_ones();
        }
        if set <= MAP_TIMES_MAX {
            map.times = vec![0; set as usize];
            for (area, (from, to)) in areas {
                let spans = u64::MAX << (from >> map.shift) & u64::MAX >> (63 - (to >> map.shift));
                for part in area.split() {
                    for bit in map.boxes(&part).into_iter().flatten() {
                        let rank = map.rank(bit);
                        map.times[rank] |= spans;
                    }
                }
            }
        }
        map
    }

    /// Of a bit that is set, how many are before it.
    #[inline(always)]
    fn rank(&self, bit: usize) -> usize {
        let before = self.bits[bit >> 6] & ((1 << (bit & 63)) - 1);
        (self.ranks[bit >> 6] + before.count_ones()) as usize
    }

    /// The bits of the boxes that an area lies in; `None` if they are too many.
    fn boxes(&self, area: &LatLonBox) -> Option<impl Iterator<Item = usize> + use<>> {
        let clip = |at: f64, count: u32| (whole(floor(at).max(0.0)) as u32).min(count - 1);
        let row = |lat: f64| clip((lat - self.lat_first) * self.rows_per_degree, self.height);
        let col = |lon: f64| clip((lon - self.lon_first) * self.cols_per_degree, self.width);
        let (south, north) = (row(area.lat_min), row(area.lat_max));
        let (west, east) = (col(area.lon_min), col(area.lon_max));
        let width = self.width as usize;
        (u64::from(north - south + 1) * u64::from(east - west + 1) <= MAP_AREA_MAX).then(move || {
            let boxes = move |row| (west..=east).map(move |col| row as usize * width + col as usize);
            (south..=north).flat_map(boxes)
        })
    }

    /// Adds the rows whose positions may lie in an area when it matters to `rows`; `slot` tells the slots of their
    /// times. None of a map without areas.
    pub fn rows(
        &self,
        (times, lats, lons): (&[Millis], &[f64], &[f64]),
        slot: impl Fn(Millis) -> usize,
        rows: &mut Vec<u32>,
    ) {
        if self.full {
            rows.extend(0..lats.len() as u32);
            return;
        }
        if self.bits.is_empty() {
            return;
        }
        wide(
            #[inline(always)]
            || self.rows_inside((times, lats, lons), slot, rows),
        );
    }

    #[inline(always)]
    fn rows_inside(
        &self,
        (times, lats, lons): (&[Millis], &[f64], &[f64]),
        slot: impl Fn(Millis) -> usize,
        rows: &mut Vec<u32>,
    ) {
        let (mut kept, mut bits) = ([0; BLOCK], [0; BLOCK]);
        let (height, width, words) = (f64::from(self.height), f64::from(self.width), self.bits.as_slice());
        let columns = times.chunks(BLOCK).zip(lats.chunks(BLOCK).zip(lons.chunks(BLOCK)));
        for (start, (times, (lats, lons))) in (0u32..).step_by(BLOCK).zip(columns) {
            // Short steps over all positions, without branches, as which pass is hard to foretell.
            for (bit, (lat, lon)) in bits.iter_mut().zip(lats.iter().zip(lons)) {
                let row = floor((lat - self.lat_first) * self.rows_per_degree);
                let col = floor((lon - self.lon_first) * self.cols_per_degree);
                // What is no number is not inside either.
                let inside = (row >= 0.0) & (row < height) & (col >= 0.0) & (col < width);
                *bit = whole(if inside { row * width + col } else { height * width }) as u32;
            }
            let mut count = 0;
            for (at, bit) in (0..lats.len() as u32).zip(&bits) {
                kept[count % BLOCK] = at;
                count += (words[(bit >> 6) as usize] >> (bit & 63) & 1) as usize;
            }
            if !self.times.is_empty() {
                let near = std::mem::take(&mut count);
                for next in 0..near {
                    let at = kept[next];
                    kept[count] = at;
                    let spans = self.times[self.rank(bits[at as usize % BLOCK] as usize)];
                    count += (spans >> (slot(times[at as usize]) >> self.shift) & 1) as usize;
                }
            }
            rows.extend(kept[..count].iter().map(|at| start + at));
        }
    }
}

/// A number that is spread over all bits: the finaliser of SplitMix64 (Steele, Lea, Flood 2014),
/// shortened to one round.
#[inline]
pub fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^ (z >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whoever is in an area when it matters passes, whatever else is there; who is nowhere does not.
        #[test]
        fn a_map_loses_nobody(
            areas in prop::collection::vec((-89.0..89.0f64, -180.0..180.0f64, 1.0..5e3f64, 0..400usize, 0..40usize), 1..40),
            inside in prop::collection::vec((0..40usize, -1.0..=1.0f64, -1.0..=1.0f64, 0.0..=1.0f64), 0..700),
            near in any::<bool>(),
        ) {
            let slots = 440;
            let timed: Vec<Timed> = areas.iter().map(|(lat, lon, metres, from, length)| {
                // All in one town, or all over the world.
                let (lat, lon) = if near { (31.0 + lat / 900.0, 121.0 + lon / 900.0) } else { (*lat, *lon) };
                (LatLonBox::of_path(lat, lon, 0.0, 0.0).grown(*metres), (*from, from + length))
            }).collect();
            let map = Map::new(&timed, slots, 25.0);
            let (mut times, mut lats, mut lons) = (Vec::new(), Vec::new(), Vec::new());
            for (area, north, east, late) in inside {
                let (area, (from, to)) = timed[area % timed.len()];
                let part = area.split().next().expect("an area");
                let within = |low: f64, high: f64, at: f64| (low + (high - low) * (at + 1.0) / 2.0).clamp(low, high);
                lats.push(within(part.lat_min, part.lat_max, north));
                lons.push(within(part.lon_min, part.lon_max, east));
                times.push((from as f64 + late * (to - from) as f64) as Millis);
            }
            let here = lats.len() as u32;
            lats.extend([f64::NAN, f64::INFINITY, 1e300]);
            lons.extend([f64::NAN, f64::NEG_INFINITY, -1e300]);
            times.extend([0; 3]);
            let mut rows = Vec::new();
            map.rows((&times, &lats, &lons), |time| time as usize, &mut rows);
            let all = if map.full { 3 } else { 0 };
            prop_assert_eq!(rows, (0..here + all).collect::<Vec<u32>>());
        }
    }

    #[test]
    fn a_map_knows_when() {
        let area = LatLonBox::of_path(31.0, 121.0, 0.0, 0.0).grown(50.0);
        let map = Map::new(&[(area, (8, 15))], 440, 25.0);
        let passes = |time: Millis, lat: f64| {
            let mut rows = Vec::new();
            map.rows((&[time], &[lat], &[121.0]), |time| time as usize, &mut rows);
            !rows.is_empty()
        };
        assert!(passes(8, 31.0) && passes(15, 31.0));
        assert!(!passes(0, 31.0) && !passes(400, 31.0) && !passes(8, 31.01));
    }
}
