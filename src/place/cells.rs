//! The cells by which a prepared store is laid out, of positions and around places.

use super::{cell, outline};
use crate::geo::{LatLonBox, METRES_PER_DEGREE, cos_lat};
use crate::time::{Millis, unite};
use h3o::{CellIndex, LatLng, Resolution};
use hashbrown::HashMap;

/// The H3 resolution of a store's cells: edges of about 76 m.
pub const CELL_RESOLUTION: u8 = 10;
/// Cells are looked for by squares of this many degrees, about as large as they are.
const LATTICE_DEG: f64 = 1e-3;
/// So near to an edge, about 1 cm, H3 is asked.
const EDGE_DEG: f64 = 1e-7;
/// Outlines that are remembered, at most.
const OUTLINES_MAX: usize = 1 << 18;

/// Finds H3 cells, most of them without asking H3: the outlines of cells that were met are remembered, by squares of the map.
#[derive(Debug, Default)]
pub struct Cells {
    known: HashMap<(i32, i32), Vec<u32>>,
    outlines: Vec<Outline>,
    numbers: HashMap<u64, u32>,
}

/// The inside of a cell, but for a hair's breadth at its edges.
#[derive(Debug)]
struct Outline {
    cell: u64,
    /// Each edge as a line a * lat + b * lon = c, on whose upper side the cell lies.
    edges: Vec<(f64, f64, f64)>,
}

impl Outline {
    fn new(of: u64) -> Self {
        let corners = outline(of);
        let count = corners.len();
        let middle = corners.iter().fold((0.0, 0.0), |sum, corner| (sum.0 + corner.0, sum.1 + corner.1));
        let middle = (middle.0 / count as f64, middle.1 / count as f64);
        let edge = |(a, b): ((f64, f64), (f64, f64))| {
            let (north, east) = (b.0 - a.0, b.1 - a.1);
            let length = north.hypot(east).max(f64::MIN_POSITIVE);
            let (lat, lon) = (east / length, -north / length);
            let side = if lat * (middle.0 - a.0) + lon * (middle.1 - a.1) < 0.0 { -1.0 } else { 1.0 };
            // Edges bend on this map, by far less than this.
            (lat * side, lon * side, (lat * a.0 + lon * a.1) * side + EDGE_DEG)
        };
        let edges = corners.iter().copied().zip(corners.iter().copied().cycle().skip(1)).map(edge);
        Outline { cell: of, edges: edges.collect() }
    }

    fn holds(&self, lat: f64, lon: f64) -> bool {
        !self.edges.is_empty() && self.edges.iter().all(|(a, b, c)| a * lat + b * lon > *c)
    }
}

impl Cells {
    /// The cell of a position; 0 where there is none.
    pub fn of(&mut self, lat: f64, lon: f64) -> u64 {
        if lat.is_nan() || lon.is_nan() {
            return 0;
        }
        // Elsewhere straight lines on this map are none on the Earth.
        if lat.abs() > 75.0 || lon.abs() > 179.0 {
            return cell(lat, lon, CELL_RESOLUTION);
        }
        let square = ((lat / LATTICE_DEG).floor() as i32, (lon / LATTICE_DEG).floor() as i32);
        let near = self.known.entry(square).or_default();
        for number in &*near {
            let outline = &self.outlines[*number as usize];
            if outline.holds(lat, lon) {
                return outline.cell;
            }
        }
        let found = cell(lat, lon, CELL_RESOLUTION);
        let number = *self.numbers.entry(found).or_insert_with(|| {
            self.outlines.push(Outline::new(found));
            (self.outlines.len() - 1) as u32
        });
        if !near.contains(&number) {
            near.push(number);
        }
        found
    }

    /// Forgets, if it has become much.
    pub fn tidy(&mut self) {
        if self.outlines.len() > OUTLINES_MAX {
            *self = Cells::default();
        }
    }
}

/// How far from the middle of a cell the farthest of it may be, in mean edges of cells of its resolution: cells differ in
/// size, and those within one reach over its edges.
const FARTHEST_EDGES: f64 = 1.25;
const FARTHEST_EDGES_WITHIN: f64 = 1.7;
/// How far apart neighbours are at least, in the same edges.
const APART_EDGES: f64 = 1.2;
/// An area is covered by cells of which it is so many edges wide, at most, about.
const EDGES_MAX: f64 = 9.0;
/// What rounding, and maps that are flat, may err by: a share and metres.
const SLACK: f64 = 0.01;
const SLACK_M: f64 = 1.0;
/// Beyond this latitude, degrees, and for larger areas, metres, nothing is told: it may be any cell.
const LAT_MAX: f64 = 80.0;
const AREA_M_MAX: f64 = 1e5;
/// The bits of a cell's number: those of the resolution, and of the digits.
const RESOLUTION_SHIFT: u32 = 52;
const RESOLUTION_MASK: u64 = 0xF << RESOLUTION_SHIFT;
const DIGITS: u8 = 15;

/// The cell of a coarser resolution that a cell lies in.
fn within(cell: u64, resolution: u8) -> u64 {
    let rest = (1u64 << (3 * (DIGITS - resolution))) - 1;
    (cell & !RESOLUTION_MASK) | u64::from(resolution) << RESOLUTION_SHIFT | rest
}

/// The first and the last number that a cell of a store within this one can have.
fn numbers_within(cell: u64, resolution: u8) -> (u64, u64) {
    let unused = (1u64 << (3 * (DIGITS - CELL_RESOLUTION))) - 1;
    let own = (1u64 << (3 * (DIGITS - resolution))) - 1;
    let plain = (cell & !RESOLUTION_MASK & !own) | u64::from(CELL_RESOLUTION) << RESOLUTION_SHIFT;
    (plain | unused, plain | own)
}

/// Where and when: cells, each with the times that matter in it.
#[derive(Debug, Default)]
pub struct Region {
    /// By resolution and cell.
    times: HashMap<u64, Vec<(Millis, Millis)>>,
    /// Times that matter everywhere.
    anywhere: Vec<(Millis, Millis)>,
    /// The resolutions that occur.
    resolutions: Vec<u8>,
    /// By cell of the middle and resolution, the cells around it and their middles.
    around: HashMap<(u64, u32), Vec<(u64, f64, f64)>>,
}

impl Region {
    /// Adds all positions of an area, or within some metres of it, at some times.
    pub fn add(&mut self, cells: &mut Cells, area: LatLonBox, metres: f64, times: &[(Millis, Millis)]) {
        let lat = (area.lat_min + area.lat_max) / 2.0;
        let lon = (area.lon_min + area.lon_max) / 2.0;
        let cos = cos_lat(area.lat_min.abs().max(area.lat_max.abs()));
        let (high, wide) = (
            (area.lat_max - area.lat_min) / 2.0 * METRES_PER_DEGREE,
            (area.lon_max - area.lon_min) / 2.0 * METRES_PER_DEGREE * cos_lat(lat),
        );
        let half_m = high.hypot(wide) + metres;
        // Flat maps do for what is neither large nor near a pole nor across the antimeridian.
        let is_plain =
            half_m < AREA_M_MAX && lat.abs() < LAT_MAX && area.lon_min > -179.0 && area.lon_max < 179.0;
        if !is_plain || !cos.is_finite() {
            self.anywhere.extend(times);
            return;
        }
        let fine = |resolution: &Resolution| half_m <= EDGES_MAX * resolution.edge_length_m();
        let finest = Resolution::range(Resolution::Zero, Resolution::Ten);
        let Some(resolution) = finest.filter(fine).last() else {
            self.anywhere.extend(times);
            return;
        };
        let number = u8::from(resolution);
        if !self.resolutions.contains(&number) {
            self.resolutions.push(number);
        }
        let edge_m = resolution.edge_length_m();
        let is_finest = number == CELL_RESOLUTION;
        let farthest_m = edge_m * if is_finest { FARTHEST_EDGES } else { FARTHEST_EDGES_WITHIN };
        let reach_m = (metres + farthest_m) * (1.0 + SLACK) + SLACK_M;
        let rings = ((half_m + farthest_m) / (edge_m * APART_EDGES)).ceil() as u32 + 1;
        let middle = within(cells.of(lat, lon), number);
        let around = self.around.entry((middle, rings)).or_insert_with(|| around(middle, rings));
        for (cell, cell_lat, cell_lon) in around {
            let north = (area.lat_min - *cell_lat).max(*cell_lat - area.lat_max).max(0.0) * METRES_PER_DEGREE;
            let east = (area.lon_min - *cell_lon).max(*cell_lon - area.lon_max).max(0.0);
            if north.hypot(east * METRES_PER_DEGREE * cos) <= reach_m {
                self.times.entry(*cell).or_default().extend(times);
            }
        }
    }

    /// Puts times in order, when all is added.
    pub fn finish(&mut self) {
        self.around = HashMap::new();
        self.times.values_mut().chain([&mut self.anywhere]).for_each(unite);
    }

    /// The times that matter in a cell of a store.
    pub fn times_in(&self, cell: u64) -> Vec<(Millis, Millis)> {
        let mut times = self.anywhere.clone();
        for resolution in &self.resolutions {
            times.extend(self.times.get(&within(cell, *resolution)).into_iter().flatten());
        }
        if times.len() > 1 {
            unite(&mut times);
        }
        times
    }

    /// Whether an instant matters in a cell of a store.
    pub fn holds(&self, cell: u64, at: Millis) -> bool {
        let in_any = |times: &[(Millis, Millis)]| {
            let before = times.partition_point(|(from, _)| *from <= at);
            before.checked_sub(1).is_some_and(|last| at <= times[last].1)
        };
        let of = |resolution: &u8| self.times.get(&within(cell, *resolution));
        in_any(&self.anywhere) || self.resolutions.iter().filter_map(of).any(|times| in_any(times))
    }

    /// Its cells as ranges of numbers of a store's cells, each with its times.
    pub fn ranges(&self) -> impl Iterator<Item = ((u64, u64), &[(Millis, Millis)])> {
        let everywhere = (!self.anywhere.is_empty()).then_some(((0, u64::MAX), self.anywhere.as_slice()));
        let of_cells = self.times.iter().map(|(cell, times)| {
            let resolution = (cell >> RESOLUTION_SHIFT & 0xF) as u8;
            (numbers_within(*cell, resolution), times.as_slice())
        });
        everywhere.into_iter().chain(of_cells)
    }
}

/// The cells in so many rings around one, with their middles.
fn around(middle: u64, rings: u32) -> Vec<(u64, f64, f64)> {
    let Ok(middle) = CellIndex::try_from(middle) else { return Vec::new() };
    let place = |cell: CellIndex| {
        let at = LatLng::from(cell);
        (u64::from(cell), at.lat(), at.lng())
    };
    middle.grid_disk::<Vec<_>>(rings).into_iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_those_of_h3() {
        let mut cells = Cells::default();
        for (lat, lon) in
            [(34.75, 113.68), (-33.9, 18.4), (0.0, 0.0), (70.1, -150.2), (51.5, -0.1), (-80.0, 30.0)]
        {
            let mut asked = 0;
            for n in 0..20_000u32 {
                let (north, east) = (f64::from(n % 141) * 7e-5, f64::from(n / 141) * 7e-5);
                let at = (lat + north, lon + east);
                asked += cells.numbers.len();
                assert_eq!(cells.of(at.0, at.1), cell(at.0, at.1, CELL_RESOLUTION), "{at:?}");
            }
            assert!(asked > 0 || lat < -75.0);
        }
        assert_eq!(cells.of(f64::NAN, 0.0), 0);
        assert!(cells.outlines.iter().all(|outline| (5..=10).contains(&outline.edges.len())));
    }

    #[test]
    fn cells_within_are_those_of_h3() {
        for (lat, lon) in [(34.75, 113.68), (-33.9, 18.4), (0.01, 0.02), (70.1, -150.2)] {
            let own = cell(lat, lon, CELL_RESOLUTION);
            for resolution in 0..=CELL_RESOLUTION {
                let parent = CellIndex::try_from(own).expect("a cell");
                let parent = parent.parent(Resolution::try_from(resolution).expect("one")).expect("a parent");
                assert_eq!(within(own, resolution), u64::from(parent));
                let (first, last) = numbers_within(u64::from(parent), resolution);
                assert!((first..=last).contains(&own));
                let children = parent.children(Resolution::Ten).map(u64::from);
                assert!(resolution < 6 || children.into_iter().all(|c| (first..=last).contains(&c)));
            }
        }
    }

    /// No position near enough is left out, however large the area.
    #[test]
    fn regions_hold_all_that_is_near() {
        let mut state = 7u64;
        let mut random = move || {
            state = crate::lattice::mixed(state);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut cells = Cells::default();
        for round in 0..400 {
            let (lat, lon) = (random() * 150.0 - 75.0, random() * 350.0 - 175.0);
            let metres = 10f64.powf(random() * 4.0);
            let size = if round % 2 == 0 { 0.0 } else { 10f64.powf(random() * 3.0 - 5.0) };
            let area = LatLonBox::of_path(lat, lon, size, size);
            let mut region = Region::default();
            region.add(&mut cells, area, metres, &[(1_000, 2_000)]);
            region.finish();
            let grown = area.grown(metres);
            let mut near = 0;
            for _ in 0..300 {
                let at = (
                    grown.lat_min + random() * (grown.lat_max - grown.lat_min),
                    grown.lon_min + random() * (grown.lon_max - grown.lon_min),
                );
                let nearest =
                    (at.0.clamp(area.lat_min, area.lat_max), at.1.clamp(area.lon_min, area.lon_max));
                if crate::geo::haversine_m(at.0, at.1, nearest.0, nearest.1) > metres {
                    continue;
                }
                near += 1;
                let own = cell(at.0, at.1, CELL_RESOLUTION);
                assert!(region.holds(own, 1_500), "{lat} {lon} {metres} {size}: {at:?}");
                assert!(!region.holds(own, 2_500));
                assert_eq!(region.times_in(own), [(1_000, 2_000)]);
                let in_range =
                    |((first, last), _): ((u64, u64), &[(Millis, Millis)])| (first..=last).contains(&own);
                assert!(region.ranges().any(in_range));
            }
            assert!(near > 50);
        }
    }
}
