//! The cells by which a prepared store is laid out.

use super::{cell, outline};
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
}
