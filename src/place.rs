//! When two positions are the same place: squares, H3 cells, metres.

pub mod cells;
pub mod region;

use crate::geo::{LatLonBox, METRES_PER_DEGREE};
use crate::rice::Within;
use crate::wide::WHOLE;
use h3o::{LatLng, Resolution};
use std::fmt;

/// `[rule.encounter] place`, with its own number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PlaceRule {
    /// Both positions in one square of this side, metres.
    Grid {
        /// Side of a square, metres.
        square_m: f64,
    },
    /// Both positions in one H3 cell of this resolution.
    Cell {
        /// H3 resolution, 0 to 15.
        resolution: u8,
    },
    /// At most this far apart, metres.
    Distance {
        /// The largest distance that still is together, metres.
        distance_m_max: f64,
    },
    /// With at least this probability at most this far apart, both positions being uncertain.
    Probability {
        /// The largest distance that still is together, metres.
        distance_m_max: f64,
        /// The least probability of it.
        probability_min: f64,
    },
}

/// Uncertainties that are looked for alike: sigmas above one and up to the other, metres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Band {
    /// Every sigma of it is at least this.
    pub above: f64,
    /// And at most this.
    pub up_to: f64,
    /// How near is near enough, where metres decide.
    reach: Reach,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Reach {
    /// Squares and cells have none of their own.
    Shared,
    Metres(f64),
    Uncertain(Within),
}

impl Band {
    /// How far a case's position, whose sigma is `sigma_m`, can be from that of a person of the band, and both be
    /// together; `None` if they never are. Nothing to speak of for squares and cells.
    pub fn reach_m(&self, sigma_m: f64) -> Option<f64> {
        match self.reach {
            Reach::Shared => Some(0.0),
            Reach::Metres(metres) => Some(metres),
            Reach::Uncertain(within) => {
                let least = sigma_m.hypot(self.above) * (1.0 - 1e-9);
                let most = sigma_m.min(SIGMA_M_MAX).hypot(self.up_to.min(SIGMA_M_MAX)) * (1.0 + 1e-9);
                within.reach_m(least.min(most), most)
            }
        }
    }

    /// Whether a sigma from one to another is in it.
    pub fn overlaps(&self, (least, most): (f64, f64)) -> bool {
        least <= self.up_to && (most > self.above || self.above == 0.0)
    }
}

/// Where bands end, in largest distances: what is known well is looked for nearby, whatever else is in the data.
const BAND_ENDS: [f64; 4] = [0.3, 1.0, 3.0, f64::INFINITY];
/// A sigma that is as good as any larger one, metres.
const SIGMA_M_MAX: f64 = 1e9;

impl PlaceRule {
    /// The largest distance that still is together, where metres decide.
    #[inline]
    pub fn metres(&self) -> Option<f64> {
        match *self {
            PlaceRule::Distance { distance_m_max } | PlaceRule::Probability { distance_m_max, .. } => {
                Some(distance_m_max)
            }
            PlaceRule::Grid { .. } | PlaceRule::Cell { .. } => None,
        }
    }

    /// Whether it weighs how uncertain positions are.
    #[inline]
    pub fn is_uncertain(&self) -> bool {
        matches!(self, PlaceRule::Probability { .. })
    }

    /// The bands of persons' uncertainties: one, where these do not matter.
    pub fn bands(&self) -> Vec<Band> {
        let PlaceRule::Probability { distance_m_max, probability_min } = *self else {
            let reach = self.metres().map_or(Reach::Shared, Reach::Metres);
            return vec![Band { above: 0.0, up_to: f64::INFINITY, reach }];
        };
        let ends = BAND_ENDS.map(|end| end * distance_m_max.max(1.0));
        let starts = std::iter::once(0.0).chain(ends);
        let reach = Reach::Uncertain(Within::new(distance_m_max, probability_min));
        starts.zip(ends).map(|(above, up_to)| Band { above, up_to, reach }).collect()
    }
}

/// A square of the published rule's grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Square {
    /// Rows count from the equator, northwards.
    pub row: i64,
    /// Columns count from Greenwich, eastwards, on the row's own central parallel.
    pub col: i64,
}

impl fmt::Display for Square {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.row, self.col)
    }
}

/// The square of a position: row = floor(lat*M/side), col = floor(lon*M*cos(central latitude of the row)/side).
#[inline]
pub fn square(lat: f64, lon: f64, square_m: f64) -> Square {
    let row = (lat * METRES_PER_DEGREE / square_m).floor();
    let cos = row_cos(row, square_m);
    let col = (lon * METRES_PER_DEGREE * cos / square_m).floor();
    Square { row: row as i64, col: col as i64 }
}

/// Squares found one after the other: the cosines of the last rows are remembered, as pings of one city
/// fall into few.
#[derive(Debug, Clone)]
pub struct Squares {
    square_m: f64,
    per_degree: f64,
    cosines: [(f64, f64); 64],
    /// The last square of [`Squares::square_by_last`], also in short, and what lies well within it.
    last: (Square, u64, LatLonBox),
}

impl Default for Squares {
    fn default() -> Self {
        let (square_m, per_degree) = (f64::NAN, f64::NAN);
        let last = (Square { row: 0, col: 0 }, 0, NOWHERE);
        Squares { square_m, per_degree, cosines: [(f64::NAN, f64::NAN); 64], last }
    }
}

/// A box that holds nothing.
const NOWHERE: LatLonBox =
    LatLonBox { lat_min: f64::INFINITY, lat_max: f64::NAN, lon_min: f64::NAN, lon_max: f64::NAN };

/// What is so far from the border of a square, in its sides, is surely within, as long as the square is not this far away.
const WELL_WITHIN: f64 = 1e-5;
const FAR: i64 = 100_000_000;

/// Numbers below this have few enough digits before the point.
const FLOOR_MAX: f64 = (1u64 << 50) as f64;

/// The floor of a number that is within [`FLOOR_MAX`] of zero.
#[inline]
fn floor_near(x: f64) -> i64 {
    let nearest = x + WHOLE;
    let above = nearest - WHOLE > x;
    nearest.to_bits().wrapping_sub(WHOLE.to_bits()) as i64 - i64::from(above)
}

/// The same as `floor` and a cast, without a call where the machine has no instruction for it.
#[inline]
fn floor(x: f64) -> i64 {
    if x.abs() < FLOOR_MAX {
        return floor_near(x);
    }
    let cut = x as i64;
    cut.saturating_sub(i64::from(x < cut as f64))
}

impl Squares {
    /// What [`square`] gives, for always the same `square_m`.
    #[inline]
    pub fn square(&mut self, lat: f64, lon: f64, square_m: f64) -> Square {
        if self.square_m != square_m {
            (self.square_m, self.per_degree) = (square_m, METRES_PER_DEGREE / square_m);
        }
        let row = row_of(lat, square_m, self.per_degree);
        let known = &mut self.cosines[row as usize % 64];
        if known.0 != row as f64 {
            *known = (row as f64, row_cos(row as f64, square_m));
        }
        Square { row, col: col_of(lon, known.1, square_m, self.per_degree) }
    }

    /// Whether a position surely is in a square, which this tells of the last one only.
    #[inline]
    pub fn is_in_last(&self, lat: f64, lon: f64, short: u64) -> bool {
        let (_, last, within) = &self.last;
        let in_rows = (within.lat_min < lat) & (lat < within.lat_max);
        in_rows & (within.lon_min < lon) & (lon < within.lon_max) & (*last == short)
    }

    /// What [`Squares::square`] gives, sooner where positions that follow one another are often in one square; for always the
    /// same `square_m`.
    #[inline]
    pub fn square_by_last(&mut self, lat: f64, lon: f64, square_m: f64) -> Square {
        let (last, short, _) = self.last;
        if self.is_in_last(lat, lon, short) {
            return last;
        }
        let square = self.square(lat, lon, square_m);
        self.last = (square, PlaceKey::Square(square).short(), self.within(square));
        square
    }

    /// What lies well within a square that was just found.
    fn within(&self, Square { row, col }: Square) -> LatLonBox {
        let (row_cos, per_degree) = (self.cosines[row as usize % 64].1, self.per_degree);
        if row.abs() > FAR || col.abs() > FAR || row_cos.is_nan() || row_cos <= 0.0 {
            return NOWHERE;
        }
        let ends = |first: i64, per_degree: f64| {
            let degrees = 1.0 / per_degree;
            ((first as f64 + WELL_WITHIN) * degrees, ((first + 1) as f64 - WELL_WITHIN) * degrees)
        };
        let ((lat_min, lat_max), (lon_min, lon_max)) =
            (ends(row, per_degree), ends(col, per_degree * row_cos));
        LatLonBox { lat_min, lat_max, lon_min, lon_max }
    }

    /// The squares of many positions, in short: what [`square`] gives.
    pub fn shorts(&mut self, lats: &[f64], lons: &[f64], square_m: f64, shorts: &mut Vec<u64>) {
        let per_degree = METRES_PER_DEGREE / square_m;
        for (lats, lons) in lats.chunks(BLOCK).zip(lons.chunks(BLOCK)) {
            // Block by block, without divisions or branches: unless some position is at a border, or far out of the way,
            // the last digits do not matter.
            let (mut norths, mut easts) = ([0.5; BLOCK], [0.5; BLOCK]);
            for (north, lat) in norths.iter_mut().zip(lats) {
                *north = lat * per_degree;
            }
            let rows = norths.map(floor_near);
            for ((east, lon), row) in easts.iter_mut().zip(lons).zip(rows) {
                let known = &mut self.cosines[row as usize % 64];
                if known.0 != row as f64 {
                    *known = (row as f64, row_cos(row as f64, square_m));
                }
                *east = lon * per_degree * known.1;
            }
            if norths.iter().chain(&easts).fold(true, |plain, x| plain & is_plain(*x)) {
                let short = |(row, col): (i64, i64)| PlaceKey::Square(Square { row, col }).short();
                shorts.extend(rows.into_iter().zip(easts.map(floor_near)).take(lats.len()).map(short));
            } else {
                let square =
                    |(lat, lon): (&f64, &f64)| PlaceKey::Square(square(*lat, *lon, square_m)).short();
                shorts.extend(lats.iter().zip(lons).map(square));
            }
        }
    }
}

/// Whether a number's floor is the same when its last digits are wrong.
#[inline]
fn is_plain(x: f64) -> bool {
    let nearest = x + WHOLE - WHOLE;
    (x.abs() < 1e8) & ((x - nearest).abs() > 1e-6)
}

/// The row of a latitude, most often without a division: `per_degree` are rows in a degree.
#[inline]
fn row_of(lat: f64, square_m: f64, per_degree: f64) -> i64 {
    let north = lat * per_degree;
    if is_plain(north) { floor_near(north) } else { floor(lat * METRES_PER_DEGREE / square_m) }
}

/// The column of a longitude in a row whose cosine this is, the same way.
#[inline]
fn col_of(lon: f64, cos: f64, square_m: f64, per_degree: f64) -> i64 {
    let east = lon * per_degree * cos;
    if is_plain(east) { floor_near(east) } else { floor(lon * METRES_PER_DEGREE * cos / square_m) }
}

/// Positions whose squares are found at once.
const BLOCK: usize = 64;

/// The squares of some rows that follow one another, whose cosines are known.
#[derive(Debug, Clone, Default)]
pub struct SquareRows {
    square_m: f64,
    per_degree: f64,
    first: i64,
    cosines: Vec<f64>,
}

/// Rows of squares whose cosines are kept, at most.
const ROWS_MAX: i64 = 1 << 17;

impl SquareRows {
    /// The rows between the outermost of these squares; `None` if they are too many.
    pub fn new(squares: impl Iterator<Item = Square>, square_m: f64) -> Option<Self> {
        let ends =
            |(south, north): (i64, i64), square: Square| (south.min(square.row), north.max(square.row));
        let (south, north) = squares.fold((i64::MAX, i64::MIN), ends);
        let rows = north.checked_sub(south).map_or(0, |last| last + 1);
        (rows <= ROWS_MAX).then(|| {
            let cosines = (0..rows).map(|row| row_cos((south + row) as f64, square_m)).collect();
            SquareRows { square_m, per_degree: METRES_PER_DEGREE / square_m, first: south, cosines }
        })
    }

    /// What [`square`] gives, if it lies in one of the rows.
    #[inline]
    pub fn square(&self, lat: f64, lon: f64) -> Option<Square> {
        let row = row_of(lat, self.square_m, self.per_degree);
        let cos = self.cosines.get(usize::try_from(row.checked_sub(self.first)?).ok()?)?;
        Some(Square { row, col: col_of(lon, *cos, self.square_m, self.per_degree) })
    }
}

/// The cosine of the central parallel of a row of squares.
#[inline]
pub fn row_cos(row: f64, square_m: f64) -> f64 {
    (std::f64::consts::PI / 180.0 * ((row + 0.5) * square_m / METRES_PER_DEGREE)).cos()
}

/// The H3 cell of a position, as its 64-bit index; 0, which is no cell, for a position that is none.
#[inline]
pub fn cell(lat: f64, lon: f64, resolution: u8) -> u64 {
    match (LatLng::new(lat, lon), Resolution::try_from(resolution)) {
        (Ok(at), Ok(resolution)) => at.to_cell(resolution).into(),
        _ => 0,
    }
}

/// The corners of an H3 cell, degrees, in their order around it; none of what is no cell.
pub fn outline(cell: u64) -> Vec<(f64, f64)> {
    let corners = h3o::CellIndex::try_from(cell).map(h3o::CellIndex::boundary);
    corners.map_or_else(|_| Vec::new(), |corners| corners.iter().map(|at| (at.lat(), at.lng())).collect())
}

/// An identity that two stays can share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PlaceKey {
    /// No shared identity: positions that are near.
    Near,
    /// One square.
    Square(Square),
    /// One H3 cell.
    Cell(u64),
    /// One venue, by its number in the job's list of places.
    Venue(u32),
    /// One trip, by its number in the job's list of trips.
    Trip(u32),
}

impl PlaceKey {
    /// The same in 64 bits. Squares of a metre and more have rows and columns that fit in 32 each, so among
    /// the keys of one kind nothing is lost.
    #[inline]
    pub fn short(self) -> u64 {
        match self {
            PlaceKey::Near => 0,
            PlaceKey::Square(square) => u64::from(square.row as u32) << 32 | u64::from(square.col as u32),
            PlaceKey::Cell(cell) => cell,
            PlaceKey::Venue(number) | PlaceKey::Trip(number) => u64::from(number),
        }
    }

    /// What a position has in common with another under this rule; `Near` under a distance.
    #[inline]
    pub fn of_position(rule: &PlaceRule, lat: f64, lon: f64) -> Self {
        match *rule {
            PlaceRule::Grid { square_m } => PlaceKey::Square(square(lat, lon, square_m)),
            PlaceRule::Cell { resolution } => PlaceKey::Cell(cell(lat, lon, resolution)),
            PlaceRule::Distance { .. } | PlaceRule::Probability { .. } => PlaceKey::Near,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn squares_have_floors_not_truncations() {
        assert_eq!(square(0.0, 0.0, 800.0), Square { row: 0, col: 0 });
        assert_eq!(square(-1e-9, -1e-9, 800.0), Square { row: -1, col: -1 });
        // One side north of the equator, a hair below and at the line.
        let side = 800.0 / METRES_PER_DEGREE;
        assert_eq!(square(side - 1e-12, 0.0, 800.0).row, 0);
        assert_eq!(square(side + 1e-12, 0.0, 800.0).row, 1);
    }

    #[test]
    fn floors_are_floors() {
        let near = [0.0, 0.5, 1.0, 1.5, 2.0, 1e9, 123_456.5, (1u64 << 50) as f64, 1e15, 1e18, 1e300];
        for x in near.into_iter().flat_map(|x| [x, x.next_up(), x.next_down()]).flat_map(|x| [x, -x]) {
            assert_eq!(floor(x), x.floor() as i64, "{x}");
        }
        assert_eq!(floor(f64::NAN), 0);
    }

    #[test]
    fn squares_of_many_are_the_squares_of_each() {
        for square_m in [1.0, 37.5, 800.0, 1e7] {
            let step = square_m / METRES_PER_DEGREE;
            let around = |n: i64| {
                let at = n as f64 * step;
                [at, at.next_up(), at.next_down(), at + 1e-12, at + 0.3 * step]
            };
            let all: Vec<f64> = [-44_000, -1, 0, 1, 7, 43_500].into_iter().flat_map(around).collect();
            let lats: Vec<f64> = all.iter().flat_map(|lat| vec![lat % 90.0; all.len()]).collect();
            let lons: Vec<f64> = all.iter().flat_map(|_| all.iter().map(|lon| lon % 180.0)).collect();
            let mut shorts = Vec::new();
            Squares::default().shorts(&lats, &lons, square_m, &mut shorts);
            let each = lats.iter().zip(&lons).map(|(lat, lon)| square(*lat, *lon, square_m));
            assert_eq!(shorts, each.map(|square| PlaceKey::Square(square).short()).collect::<Vec<_>>());
        }
    }

    proptest! {
        #[test]
        fn squares_by_the_last_are_the_same(
            from in (-90.0..90.0, -180.0..180.0),
            steps in prop::collection::vec((-2.0..2.0, -2.0..2.0, prop::bool::ANY), 1..200),
            square_m in prop::sample::select(vec![1.0, 37.5, 800.0, 1e7]),
        ) {
            let side = square_m / METRES_PER_DEGREE;
            let mut squares = Squares::default();
            let (mut lat, mut lon): (f64, f64) = from;
            for (north, east, to_border) in steps {
                (lat, lon) = (lat + north * side * 0.3, lon + east * side * 0.3);
                if to_border {
                    lat = (lat / side).round() * side;
                }
                (lat, lon) = (lat.clamp(-90.0, 90.0), lon.clamp(-180.0, 180.0));
                prop_assert_eq!(squares.square_by_last(lat, lon, square_m), square(lat, lon, square_m));
            }
        }
    }

    #[test]
    fn no_position_is_no_cell() {
        assert_eq!(cell(f64::NAN, 0.0, 8), 0);
        assert_ne!(cell(34.75, 113.68, 8), 0);
    }
}
