//! Regions found by where somebody is. A raster over all of them tells most positions at once: its boxes lie outside, wholly
//! inside of the same regions, or have an edge in them, and only there the exact test decides. Who moves is found by an R-tree.

use super::{Part, Point, Region, wrapped};
use crate::geo::LatLonBox;
use crate::lattice::mixed;
use crate::stay::Stay;
use crate::time::Millis;
use hashbrown::HashMap;
use robust::{Coord, orient2d};
use rstar::primitives::{GeomWithData, Rectangle};
use rstar::{AABB, RTree};
use std::ops::Range;

/// A middling polygon is so many boxes high.
const ROWS_A_PART: f64 = 12.0;
/// Boxes of the raster, and of all polygons together, at most.
const BOXES_MAX: f64 = (1 << 22) as f64;
/// Boxes are at least so high, degrees: a metre.
const ROW_DEGREES_MIN: f64 = 1e-5;
/// Boxes are taken for so much larger, degrees, that rounding never loses anything.
const SLACK: f64 = 1e-8;
/// Rows that are looked at together.
const BLOCK: usize = 256;

type Boxed = GeomWithData<Rectangle<[f64; 2]>, u32>;

/// Many regions, by their number.
#[derive(Debug)]
pub struct Regions {
    /// All polygons, each with the number of its region.
    parts: Vec<(Part, u32)>,
    raster: Raster,
    /// What the boxes of the raster hold: each polygon, and whether the box lies wholly inside it.
    held: Vec<(u32, bool)>,
    /// By the number of a box's list. The first is empty.
    lists: Vec<List>,
    /// All polygons.
    tree: RTree<Boxed>,
}

/// What some boxes of the raster hold.
#[derive(Debug, Clone, Default)]
struct List {
    /// Where it stands in `held`.
    range: Range<u32>,
    /// The set of its regions, as a hash, where every box lies wholly inside all of them; else 0.
    set: u64,
}

/// Boxes of equal degrees, each with the number of its list, and one more.
#[derive(Debug, Default)]
struct Raster {
    lat_first: f64,
    lon_first: f64,
    rows_per_degree: f64,
    cols_per_degree: f64,
    height: u32,
    width: u32,
    lists: Vec<u32>,
}

impl Raster {
    /// Over these areas, which do not cross the antimeridian.
    fn new(areas: &[LatLonBox]) -> Self {
        let Some(all) = areas.iter().copied().reduce(LatLonBox::with) else {
            return Raster::default();
        };
        let mut heights: Vec<f64> = areas.iter().map(|a| a.lat_max - a.lat_min).collect();
        heights.sort_unstable_by(f64::total_cmp);
        let cos = all.lat_min.abs().max(all.lat_max.abs()).min(89.0).to_radians().cos();
        let boxes = |row: f64| {
            let of = |a: &LatLonBox| {
                ((a.lat_max - a.lat_min) / row + 2.0) * ((a.lon_max - a.lon_min) * cos / row + 2.0)
            };
            of(&all).max(areas.iter().map(of).sum())
        };
        let mut row = (heights[heights.len() / 2] / ROWS_A_PART).max(ROW_DEGREES_MIN);
        while boxes(row) > BOXES_MAX && row < 360.0 {
            row *= 1.5;
        }
        let (rows_per_degree, cols_per_degree) = (1.0 / row, cos / row);
        let height = ((all.lat_max - all.lat_min) * rows_per_degree) as u32 + 1;
        let width = ((all.lon_max - all.lon_min) * cols_per_degree) as u32 + 1;
        Raster {
            lat_first: all.lat_min,
            lon_first: all.lon_min,
            rows_per_degree,
            cols_per_degree,
            height,
            width,
            lists: vec![0; height as usize * width as usize + 1],
        }
    }

    /// The number of a position's list; 0, which is empty, outside.
    #[inline]
    fn list(&self, lat: f64, lon: f64) -> u32 {
        let row = (lat - self.lat_first) * self.rows_per_degree;
        let col = (lon - self.lon_first) * self.cols_per_degree;
        let (height, width) = (f64::from(self.height), f64::from(self.width));
        let inside = (row >= 0.0) & (row < height) & (col >= 0.0) & (col < width);
        let at = row as usize * self.width as usize + col as usize;
        // One box more, which nothing is in, for all positions outside.
        let outside = self.lists.len().wrapping_sub(1);
        self.lists.get(if inside { at } else { outside }).copied().unwrap_or(0)
    }

    /// Rows and columns that an area fills.
    fn spans(&self, area: &LatLonBox) -> (Range<u32>, Range<u32>) {
        let row = |lat: f64| (((lat - self.lat_first) * self.rows_per_degree) as u32).min(self.height - 1);
        let col = |lon: f64| (((lon - self.lon_first) * self.cols_per_degree) as u32).min(self.width - 1);
        (row(area.lat_min)..row(area.lat_max) + 1, col(area.lon_min)..col(area.lon_max) + 1)
    }

    fn bounds(&self, row: u32, col: u32) -> LatLonBox {
        let lat = |row: u32| f64::from(row) / self.rows_per_degree + self.lat_first;
        let lon = |col: u32| f64::from(col) / self.cols_per_degree + self.lon_first;
        LatLonBox { lat_min: lat(row), lat_max: lat(row + 1), lon_min: lon(col), lon_max: lon(col + 1) }
    }
}

impl Regions {
    /// Finds these regions.
    pub fn new(regions: Vec<Region>) -> Self {
        let parts =
            |(number, region): (u32, Region)| region.parts.into_iter().map(move |part| (part, number));
        let parts: Vec<(Part, u32)> = (0u32..).zip(regions).flat_map(parts).collect();
        let areas: Vec<(u32, LatLonBox)> = (0u32..)
            .zip(&parts)
            .flat_map(|(number, (part, _))| {
                wrapped(part.bounds).grown(0.0).split().map(move |area| (number, area))
            })
            .collect();
        let boxed = |(number, area): &(u32, LatLonBox)| {
            let corners = ([area.lon_min, area.lat_min], [area.lon_max, area.lat_max]);
            GeomWithData::new(Rectangle::from_corners(corners.0, corners.1), *number)
        };
        let tree = RTree::bulk_load(areas.iter().map(boxed).collect());
        let mut raster = Raster::new(&areas.iter().map(|(_, area)| *area).collect::<Vec<_>>());
        // What each box holds, box by box.
        let mut found: Vec<(u32, u32, bool)> = Vec::new();
        for (number, area) in &areas {
            fill(&parts[*number as usize].0, area, &raster, &mut |at, whole| {
                found.push((at, *number, whole))
            });
        }
        found.sort_unstable();
        // Of a polygon that is cut at the antimeridian both halves may reach a box: an edge in one of them is one.
        found.dedup_by(|a, b| {
            let same = (a.0, a.1) == (b.0, b.1);
            b.2 &= a.2 || !same;
            same
        });
        // Most boxes hold one polygon: of each there are two lists, of boxes with an edge and of whole ones.
        let mut held: Vec<(u32, bool)> = Vec::new();
        let mut lists = vec![List::default()];
        let mut add = |list: &[(u32, bool)]| {
            let start = held.len() as u32;
            held.extend_from_slice(list);
            let whole = list.iter().all(|(_, whole)| *whole);
            let set = list.iter().map(|(part, _)| parts[*part as usize].1).fold(0, with_region);
            lists.push(List { range: start..held.len() as u32, set: if whole { set } else { 0 } });
            lists.len() as u32 - 1
        };
        for number in 0..parts.len() as u32 {
            for whole in [false, true] {
                add(&[(number, whole)]);
            }
        }
        let mut known: HashMap<Vec<(u32, bool)>, u32> = HashMap::new();
        for of_box in found.chunk_by(|a, b| a.0 == b.0) {
            let number = match of_box {
                [(_, number, whole)] => 1 + number * 2 + u32::from(*whole),
                several => {
                    let list: Vec<(u32, bool)> =
                        several.iter().map(|(_, number, whole)| (*number, *whole)).collect();
                    *known.entry(list).or_insert_with_key(|list| add(list))
                }
            };
            raster.lists[of_box[0].0 as usize] = number;
        }
        Regions { raster, held, lists, tree, parts }
    }

    /// Whether a position may be inside of any; a wrong yes only costs the exact test.
    #[inline]
    pub fn may_hold(&self, lat: f64, lon: f64) -> bool {
        self.raster.list(lat, lon) > 0
    }

    /// Adds the rows whose positions may be inside of any to `rows`.
    pub fn rows(&self, lats: &[f64], lons: &[f64], rows: &mut Vec<u32>) {
        let mut near = [0; BLOCK];
        for (start, (lats, lons)) in (0u32..).step_by(BLOCK).zip(lats.chunks(BLOCK).zip(lons.chunks(BLOCK))) {
            let mut count = 0;
            // Without branches: which rows pass is hard to foretell.
            for (number, (lat, lon)) in (start..).zip(lats.iter().zip(lons)) {
                near[count % BLOCK] = number;
                count += usize::from(self.raster.list(*lat, *lon) > 0);
            }
            rows.extend_from_slice(&near[..count]);
        }
    }

    /// Calls `each` with the number of every region that holds a position, once or, where polygons of one overlap, more
    /// often.
    #[inline]
    pub fn each_at(&self, lat: f64, lon: f64, each: &mut impl FnMut(u32)) {
        for (number, whole) in self.held_in(self.raster.list(lat, lon)) {
            let (part, region) = &self.parts[*number as usize];
            if *whole || part.holds(lat, lon) {
                each(*region);
            }
        }
    }

    /// The set of regions that hold a position, as a hash; 0 if none does.
    #[inline]
    pub fn set_at(&self, lat: f64, lon: f64) -> u64 {
        match self.lists[self.raster.list(lat, lon) as usize].set {
            0 => {
                let mut set = 0;
                self.each_at(lat, lon, &mut |region| set = with_region(set, region));
                set
            }
            set => set,
        }
    }

    /// Calls `each` with the number of every region that a stay is in, and when; where polygons of one overlap, more
    /// often.
    pub fn during(&self, stay: &Stay, each: &mut impl FnMut(u32, Millis, Millis)) {
        if stay.leg.is_none() {
            self.each_at(stay.lat, stay.lon, &mut |region| each(region, stay.start, stay.end));
            return;
        }
        let mut parts: Vec<u32> = Vec::new();
        for way in stay.bounds().grown(0.0).split() {
            let envelope = AABB::from_corners([way.lon_min, way.lat_min], [way.lon_max, way.lat_max]);
            parts.extend(self.tree.locate_in_envelope_intersecting(envelope).map(|boxed| boxed.data));
        }
        parts.sort_unstable();
        parts.dedup();
        for number in parts {
            let (part, region) = &self.parts[number as usize];
            part.during(stay, &mut |start, end| each(*region, start, end));
        }
    }

    #[inline]
    fn held_in(&self, list: u32) -> &[(u32, bool)] {
        let Range { start, end } = self.lists[list as usize].range;
        &self.held[start as usize..end as usize]
    }
}

/// A set with one region more.
fn with_region(set: u64, region: u32) -> u64 {
    mixed(set ^ (u64::from(region) + 1))
}

/// Calls `add` with every box that a polygon touches within an area, and whether it lies wholly inside: where no edge comes
/// near, the middle of the first box of a row of such boxes tells for all of them.
fn fill(part: &Part, area: &LatLonBox, raster: &Raster, add: &mut impl FnMut(u32, bool)) {
    let (rows, cols) = raster.spans(area);
    let wide = cols.len();
    let mut has_edge = vec![false; rows.len() * wide];
    // The boxes lie in [-180, 180], and the polygon there or a turn away.
    for turn in [0.0, -360.0] {
        for (a, b) in part.edges() {
            let (a, b) = ((a.0 + turn, a.1), (b.0 + turn, b.1));
            // All of the edge, as a box may go on beyond the antimeridian, where the area ends.
            let here = LatLonBox {
                lat_min: a.1.min(b.1) - SLACK,
                lat_max: a.1.max(b.1) + SLACK,
                lon_min: a.0.min(b.0) - SLACK,
                lon_max: a.0.max(b.0) + SLACK,
            };
            let (near_rows, near_cols) = raster.spans(&here);
            for row in near_rows.start.max(rows.start)..near_rows.end.min(rows.end) {
                for col in near_cols.start.max(cols.start)..near_cols.end.min(cols.end) {
                    let at = raster.bounds(row, col);
                    let (west, east) = (at.lon_min - SLACK, at.lon_max + SLACK);
                    let (south, north) = (at.lat_min - SLACK, at.lat_max + SLACK);
                    let corners = [(west, south), (east, south), (east, north), (west, north)];
                    let touches = here.lon_min <= east && here.lon_max >= west;
                    let place = (row - rows.start) as usize * wide + (col - cols.start) as usize;
                    has_edge[place] |= touches && !on_one_side(a, b, &corners);
                }
            }
        }
    }
    for row in rows.clone() {
        let mut inside = None;
        for col in cols.clone() {
            let number = row * raster.width + col;
            if has_edge[(row - rows.start) as usize * wide + (col - cols.start) as usize] {
                add(number, false);
                inside = None;
                continue;
            }
            let at = raster.bounds(row, col);
            let middle = ((at.lat_min + at.lat_max) / 2.0, (at.lon_min + at.lon_max) / 2.0);
            if *inside.get_or_insert_with(|| part.holds(middle.0, middle.1)) {
                add(number, true);
            }
        }
    }
}

/// Whether all points lie strictly on one side of the line through two others.
fn on_one_side(a: Point, b: Point, points: &[Point; 4]) -> bool {
    let coord = |(x, y): Point| Coord { x, y };
    let sides = points.map(|p| orient2d(coord(a), coord(b), coord(p)));
    sides.iter().all(|side| *side > 0.0) || sides.iter().all(|side| *side < 0.0)
}
#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_box_that_goes_on_beyond_the_antimeridian_has_the_edges_there() {
        let lon = |x: f64| crate::geo::wrap_degrees(-179.999 + x * 1e-3);
        let mut regions = Vec::new();
        for corners in [
            [(0.0, -18.625), (0.0, 22.35), (0.0, 0.0)],
            [(0.0, -43.8), (0.0, -14.0), (0.0, -2.825)],
            [(2.0, -9.2), (-0.2, -33.4), (-11.2, -18.0)],
        ] {
            let mut region = Region::default();
            let ring = corners.map(|(x, y)| (lon(x), -33.0 + y * 1e-3)).to_vec();
            region.add(vec![ring]).expect("a polygon");
            regions.push(region);
        }
        let index = Regions::new(regions);
        let mut found = Vec::new();
        index.each_at(-33.027, lon(-1.5), &mut |number| found.push(number));
        assert_eq!(found, [2]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

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
                regions.iter().flat_map(|r| &r.parts).flat_map(|p| p.points.clone()).collect();
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
