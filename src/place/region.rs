//! Where and when: parts of the map, each with the times that matter there. Squares of degrees, coarser ones for larger areas,
//! so that a few hold any area.

use crate::geo::LatLonBox;
use crate::time::{Millis, unite};
use hashbrown::{HashMap, HashSet};

/// So many sizes of squares there are.
const LEVELS: usize = 8;
/// Squares of each level on a degree: the finest are about 33 m high, and each level's four times as high as those before.
const PER_DEGREE: [f64; LEVELS] = {
    let mut per_degree = [1.0 / 3e-4; LEVELS];
    let mut level = 1;
    while level < LEVELS {
        per_degree[level] = per_degree[level - 1] / 4.0;
        level += 1;
    }
    per_degree
};
/// An area is held by so many squares, at most.
const SQUARES_MAX: f64 = 128.0;
/// Squares of this level, about 500 m, are asked first.
const COARSE: usize = 2;
/// What has more squares is not looked into.
const LOOKS_MAX: f64 = 4_096.0;

/// A square: row and column of its level.
type Square = (i32, i32);

/// Whether any of some times, sorted and apart, lies in a range.
fn any_in(times: &[(Millis, Millis)], (first, last): (Millis, Millis)) -> bool {
    let next = times.partition_point(|(_, to)| *to < first);
    times.get(next).is_some_and(|(from, _)| *from <= last)
}

/// Parts of the map with their times.
#[derive(Debug, Default)]
pub struct Region {
    by_level: [HashMap<Square, Vec<(Millis, Millis)>>; LEVELS],
    coarse: HashSet<Square>,
    anywhere: Vec<(Millis, Millis)>,
    /// The box around all squares, and the times of all.
    around: Option<(LatLonBox, (Millis, Millis))>,
}

/// The squares of a level that hold a box which does not cross the antimeridian.
struct Squares {
    rows: (f64, f64),
    cols: (f64, f64),
}

impl Squares {
    fn of(area: &LatLonBox, level: usize) -> Self {
        let per_degree = PER_DEGREE[level];
        let floor = |degrees: f64| {
            // The same as `floor`, without a call: no number is large here.
            let cut = (degrees * per_degree) as i32 as f64;
            cut - f64::from(u8::from(cut > degrees * per_degree))
        };
        Squares {
            rows: (floor(area.lat_min), floor(area.lat_max)),
            cols: (floor(area.lon_min), floor(area.lon_max)),
        }
    }

    fn count(&self) -> f64 {
        (self.rows.1 - self.rows.0 + 1.0) * (self.cols.1 - self.cols.0 + 1.0)
    }

    fn each(&self) -> impl Iterator<Item = Square> {
        let (rows, cols) = (self.rows.0 as i32..=self.rows.1 as i32, self.cols.0 as i32..=self.cols.1 as i32);
        rows.flat_map(move |row| cols.clone().map(move |col| (row, col)))
    }
}

impl Region {
    /// Adds an area at some times.
    pub fn add(&mut self, area: LatLonBox, times: &[(Millis, Millis)]) {
        for part in area.split() {
            let ends = times.iter().copied().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
            if let Some(ends) = ends {
                let (bounds, all) = self.around.unwrap_or((part, ends));
                self.around = Some((bounds.with(part), (all.0.min(ends.0), all.1.max(ends.1))));
            }
            let fits = |level: &usize| Squares::of(&part, *level).count() <= SQUARES_MAX;
            let Some(level) = (0..LEVELS).find(fits) else {
                self.anywhere.extend(times);
                continue;
            };
            for square in Squares::of(&part, level).each() {
                let own = self.by_level[level].entry(square).or_default();
                for (from, to) in times {
                    // Stays at a place follow one another.
                    match own.last_mut().filter(|last| last.0 <= *from && *from <= last.1) {
                        Some(last) => last.1 = last.1.max(*to),
                        None => own.push((*from, *to)),
                    }
                }
            }
            let coarse = Squares::of(&part, COARSE);
            if coarse.count() <= LOOKS_MAX {
                self.coarse.extend(coarse.each());
            } else {
                self.anywhere.extend(times);
            }
        }
    }

    /// Puts times in order, when all is added.
    pub fn finish(&mut self) {
        unite(&mut self.anywhere);
        self.by_level.iter_mut().flat_map(HashMap::values_mut).for_each(unite);
    }

    /// Whether a box (south, north, west, east) may touch it at all: most fail at this.
    #[inline]
    pub fn may_touch(&self, [south, north, west, east]: [f32; 4], times: (Millis, Millis)) -> bool {
        self.around.is_some_and(|(bounds, all)| {
            let is_beside = f64::from(north) < bounds.lat_min
                || f64::from(south) > bounds.lat_max
                || f64::from(east) < bounds.lon_min
                || f64::from(west) > bounds.lon_max;
            !is_beside && times.0 <= all.1 && all.0 <= times.1
        })
    }

    /// Whether a box, which does not cross the antimeridian, may hold something of it in a time.
    pub fn touches(&self, area: &LatLonBox, times: (Millis, Millis)) -> bool {
        if any_in(&self.anywhere, times) {
            return true;
        }
        let coarse = Squares::of(area, COARSE);
        if coarse.count() > LOOKS_MAX {
            return true;
        }
        if !coarse.each().any(|square| self.coarse.contains(&square)) {
            return false;
        }
        (0..LEVELS).any(|level| {
            let squares = &self.by_level[level];
            if squares.is_empty() {
                return false;
            }
            let own = Squares::of(area, level);
            let any = |square: Square| squares.get(&square).is_some_and(|own| any_in(own, times));
            own.count() > LOOKS_MAX || own.each().any(any)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::haversine_m;

    /// No position near enough is left out, however large the area, and what is far or at another time is no part of it.
    #[test]
    fn regions_hold_all_that_is_near() {
        let mut state = 7u64;
        let mut random = move || {
            state = crate::lattice::mixed(state);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        for round in 0..600 {
            let lat = random() * 178.0 - 89.0;
            let lon = if round % 5 == 0 { 179.9999 } else { random() * 359.0 - 179.5 };
            let metres = 10f64.powf(random() * 5.0);
            let mut region = Region::default();
            region
                .add(LatLonBox::of_path(lat, lon, 0.0, 0.0).grown(metres), &[(1_000, 2_000), (4_000, 5_000)]);
            region.finish();
            let spread = metres / 111_000.0;
            let mut near = 0;
            for _ in 0..200 {
                let at = (
                    (lat + (random() * 2.0 - 1.0) * spread).clamp(-90.0, 90.0),
                    crate::geo::wrap_degrees(lon + (random() * 2.0 - 1.0) * spread / lat.to_radians().cos()),
                );
                if haversine_m(at.0, at.1, lat, lon) > metres {
                    continue;
                }
                near += 1;
                let dot = LatLonBox::of_path(at.0, at.1, 0.0, 0.0);
                assert!(region.touches(&dot, (1_500, 1_500)), "{lat} {lon} {metres}: {at:?}");
                assert!(region.touches(&dot, (3_000, 4_000)));
                assert!(!region.touches(&dot, (2_001, 3_999)));
            }
            assert!(near > 20);
            let far = LatLonBox::of_path(-lat, crate::geo::wrap_degrees(lon + 170.0), 0.0, 0.0);
            // Near a pole it may be any longitude.
            assert!(lat.abs() > 60.0 || metres > 1e4 || !region.touches(&far, (1_500, 1_500)));
        }
    }
}
