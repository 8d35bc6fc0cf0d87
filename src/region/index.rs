//! Regions found by where somebody is. Most positions are told by a bitmap alone; others by the box of a lattice that they
//! fall into, which lies wholly inside a polygon or has to be looked at; polygons too large for it, and whoever moves, by an
//! R-tree.

use super::{Part, Point, Region, wrapped};
use crate::geo::LatLonBox;
use crate::lattice::{Lattice, Map, Spot};
use crate::stay::Stay;
use crate::time::Millis;
use hashbrown::HashMap;
use robust::{Coord, orient2d};
use rstar::primitives::{GeomWithData, Rectangle};
use rstar::{AABB, RTree};

/// A middling polygon is so many boxes high.
const ROWS_A_PART: f64 = 8.0;
/// Boxes are at least and at most so high, metres.
const ROW_M_MIN: f64 = 10.0;
const ROW_M_MAX: f64 = 20_000.0;
/// Polygons of more boxes are found by the R-tree.
const BOXES_MAX: usize = 4_096;
/// Metres in a degree, about: boxes only say where to look.
const DEGREE_M: f64 = 111_195.0;
/// Boxes are taken for so much larger, degrees, that rounding never loses anything.
const SLACK: f64 = 1e-8;

/// A polygon by the numbers of its region and of itself there.
type Number = (u32, u32);
type Boxed = GeomWithData<Rectangle<[f64; 2]>, Number>;

/// Many regions, by their number.
#[derive(Debug)]
pub struct Regions {
    regions: Vec<Region>,
    lattice: Lattice,
    /// The polygons that a box of the lattice touches, and whether all of it is inside.
    boxes: HashMap<Spot, Vec<(Number, bool)>>,
    /// Polygons that are in no box.
    large: RTree<Boxed>,
    /// All of them.
    all: RTree<Boxed>,
    map: Map,
}

impl Regions {
    /// Finds these regions.
    pub fn new(regions: Vec<Region>) -> Self {
        let numbered = || {
            let parts = |(number, region): (u32, &'_ Region)| -> Vec<(Number, LatLonBox)> {
                (0u32..).zip(&region.parts).map(|(at, part)| ((number, at), part.bounds)).collect()
            };
            (0u32..).zip(&regions).flat_map(parts)
        };
        let areas: Vec<Option<LatLonBox>> =
            numbered().map(|(_, bounds)| Some(wrapped(bounds).grown(0.0))).collect();
        let mut heights: Vec<f64> =
            areas.iter().flatten().map(|a| (a.lat_max - a.lat_min) * DEGREE_M).collect();
        heights.sort_unstable_by(f64::total_cmp);
        let middling = heights.get(heights.len() / 2).copied().unwrap_or(ROW_M_MAX);
        let row_m = (middling / ROWS_A_PART).clamp(ROW_M_MIN, ROW_M_MAX);
        let ends = |of: fn(&LatLonBox) -> f64| areas.iter().flatten().map(of);
        let (south, north) = (
            ends(|a| a.lat_min).fold(f64::INFINITY, f64::min),
            ends(|a| a.lat_max).fold(f64::NEG_INFINITY, f64::max),
        );
        let lattice = Lattice::new(row_m, south, north);
        let mut boxes: HashMap<Spot, Vec<(Number, bool)>> = HashMap::new();
        let (mut large, mut all) = (Vec::new(), Vec::new());
        for ((number, bounds), area) in numbered().zip(areas.iter().flatten()) {
            for part in area.split() {
                let corners = ([part.lon_min, part.lat_min], [part.lon_max, part.lat_max]);
                all.push(GeomWithData::new(Rectangle::from_corners(corners.0, corners.1), number));
            }
            match lattice.spots(*area, BOXES_MAX) {
                Some(mut spots) => {
                    spots.sort_unstable();
                    spots.dedup();
                    let part = &regions[number.0 as usize].parts[number.1 as usize];
                    for spot in spots {
                        match covers(part, bounds, lattice.bounds(spot)) {
                            Cover::None => {}
                            cover => boxes.entry(spot).or_default().push((number, cover == Cover::Whole)),
                        }
                    }
                }
                None => {
                    let parts = area.split();
                    large.extend(parts.map(|p| {
                        let corners = ([p.lon_min, p.lat_min], [p.lon_max, p.lat_max]);
                        GeomWithData::new(Rectangle::from_corners(corners.0, corners.1), number)
                    }));
                }
            }
        }
        let map = Map::new(&areas, row_m);
        Regions { lattice, boxes, large: RTree::bulk_load(large), all: RTree::bulk_load(all), map, regions }
    }

    /// Whether a position may be inside of any; a wrong yes only costs the exact test.
    #[inline]
    pub fn may_hold(&self, lat: f64, lon: f64) -> bool {
        self.map.has(lat, lon)
    }

    /// Adds the rows whose positions may be inside of any to `rows`.
    pub fn rows(&self, lats: &[f64], lons: &[f64], rows: &mut Vec<u32>) {
        self.map.rows(lats, lons, rows);
    }

    /// Calls `each` with the number of every region that holds a position, once or, where polygons of one overlap, more
    /// often.
    pub fn each_at(&self, lat: f64, lon: f64, each: &mut impl FnMut(u32)) {
        if !self.may_hold(lat, lon) {
            return;
        }
        let found = self.lattice.spot(lat, lon).and_then(|spot| self.boxes.get(&spot));
        for ((region, part), whole) in found.into_iter().flatten() {
            if *whole || self.part((*region, *part)).holds(lat, lon) {
                each(*region);
            }
        }
        if self.large.size() > 0 {
            let here = AABB::from_point([lon, lat]);
            for boxed in self.large.locate_in_envelope_intersecting(here) {
                if self.part(boxed.data).holds(lat, lon) {
                    each(boxed.data.0);
                }
            }
        }
    }

    /// Calls `each` with the number of every region that a stay is in, and when; where polygons of one overlap, more
    /// often.
    pub fn during(&self, stay: &Stay, each: &mut impl FnMut(u32, Millis, Millis)) {
        if !stay.has_position() {
            return;
        }
        if stay.leg.is_none() {
            self.each_at(stay.lat, stay.lon, &mut |region| each(region, stay.start, stay.end));
            return;
        }
        let mut parts: Vec<Number> = Vec::new();
        for way in stay.bounds().grown(0.0).split() {
            let envelope = AABB::from_corners([way.lon_min, way.lat_min], [way.lon_max, way.lat_max]);
            parts.extend(self.all.locate_in_envelope_intersecting(envelope).map(|boxed| boxed.data));
        }
        parts.sort_unstable();
        parts.dedup();
        for number in parts {
            self.part(number).during(stay, &mut |start, end| each(number.0, start, end));
        }
    }

    fn part(&self, (region, part): Number) -> &Part {
        &self.regions[region as usize].parts[part as usize]
    }
}

/// How much of a box a polygon covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cover {
    None,
    Some,
    Whole,
}

/// Whether a polygon covers a box: where no edge comes near it, its middle tells.
fn covers(part: &Part, bounds: LatLonBox, at: LatLonBox) -> Cover {
    // The box may lie a turn away from where the polygon is.
    let turns = [0.0, 360.0].into_iter().filter(|turn| {
        at.lon_max + turn + SLACK >= bounds.lon_min && at.lon_min + turn - SLACK <= bounds.lon_max
    });
    let mut cover = Cover::None;
    for turn in turns {
        let (west, east) = (at.lon_min + turn - SLACK, at.lon_max + turn + SLACK);
        let (south, north) = (at.lat_min - SLACK, at.lat_max + SLACK);
        let corners = [(west, south), (east, south), (east, north), (west, north)];
        let near = part.edges().any(|(a, b)| {
            let boxes_touch = a.0.min(b.0) <= east
                && a.0.max(b.0) >= west
                && a.1.min(b.1) <= north
                && a.1.max(b.1) >= south;
            boxes_touch && !on_one_side(a, b, &corners)
        });
        if near {
            return Cover::Some;
        }
        if part.holds_here(((west + east) / 2.0, (south + north) / 2.0)) {
            cover = Cover::Whole;
        }
    }
    cover
}

/// Whether all points lie strictly on one side of the line through two others.
fn on_one_side(a: Point, b: Point, points: &[Point]) -> bool {
    let coord = |(x, y): Point| Coord { x, y };
    let sides = || points.iter().map(|p| orient2d(coord(a), coord(b), coord(*p)));
    sides().all(|side| side > 0.0) || sides().all(|side| side < 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_index_loses_nothing(
            anchor in prop::sample::select(vec![(0.0, 0.0), (60.0, 179.99), (-33.0, -179.999), (89.0, 0.0)]),
            shapes in prop::collection::vec(
                (-20i32..20, -20i32..20, prop::collection::vec((-9i32..9, -9i32..9), 3..7), 1i32..200), 1..12),
            points in prop::collection::vec((-60i32..60, -60i32..60), 40),
        ) {
            let (lat, lon) = anchor;
            let at = |x: f64, y: f64| (crate::geo::wrap_degrees(lon + x * 1e-3), (lat + y * 1e-3).min(90.0));
            let mut regions = Vec::new();
            for (x, y, corners, size) in shapes {
                let corner = |(dx, dy): (i32, i32)| {
                    let scale = f64::from(size) / 40.0;
                    at(f64::from(x) + f64::from(dx) * scale, f64::from(y) + f64::from(dy) * scale)
                };
                let mut region = Region::default();
                if region.add(vec![corners.into_iter().map(corner).collect()]).is_ok() {
                    regions.push(region);
                }
            }
            let index = Regions::new(regions.clone());
            let corners: Vec<Point> =
                regions.iter().flat_map(|r| &r.parts).flat_map(|p| p.rings[0].clone()).collect();
            let given = points.into_iter().map(|(x, y)| at(f64::from(x) / 2.0, f64::from(y) / 2.0));
            for (lon, lat) in given.chain(corners) {
                let lon = crate::geo::wrap_degrees(lon);
                let wanted: Vec<u32> =
                    (0u32..).zip(&regions).filter(|(_, r)| r.holds(lat, lon)).map(|(number, _)| number).collect();
                let mut found = Vec::new();
                index.each_at(lat, lon, &mut |number| found.push(number));
                found.sort_unstable();
                prop_assert_eq!(found, wanted, "{} {}", lat, lon);
            }
        }
    }
}
