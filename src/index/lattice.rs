//! A lattice of latitude and longitude with boxes of about one size in metres, for finding what is near
//! by hashing. It never decides: boxes are only where one looks.

use crate::geo::{LatLonBox, METRES_PER_DEGREE};

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
        let row = if above >= 0.0 { above as usize } else { usize::MAX };
        let cols = *self.cols_per_degree.get(row)?;
        Some((row as u64) << 32 | ((lon + 180.0) * cols) as u64)
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
                let col = |lon: f64| ((lon + 180.0) * self.cols_per_degree[row]) as u64;
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

/// A number that is spread over all bits: the finaliser of SplitMix64 (Steele, Lea, Flood 2014),
/// shortened to one round.
#[inline]
pub fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^ (z >> 29)
}
