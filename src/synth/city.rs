//! The city itself: its districts, and the buildings, workplaces and venues inside them.

use super::draw::{Normal, QUANTILES_LOG2, Stream, below, unit};
use crate::geo::{LatLonBox, METRES_PER_DEGREE};

/// Where the city lies: no ping is outside.
pub const BOUNDS: LatLonBox = LatLonBox { lat_min: 34.6, lat_max: 34.9, lon_min: 113.4, lon_max: 114.0 };
/// Buildings stay this many degrees inside the bounds, so that a spot inside one of them and the error of a
/// ping (both of at most four standard deviations, 4 * 20 m + 4 * 49.4 m = 278 m) stay inside too: 0.0035
/// degrees of longitude are 320 m there.
const MARGIN_DEGREES: f64 = 0.0035;
/// Homes, workplaces and venues; the city does not grow with its persons, so that its density does.
const HOMES: u64 = 20_000;
const WORKS: u64 = 6_000;
const VENUES: u64 = 3_000;
/// Popularity of the venue of rank r is r to the power of -0.7 (Zipf).
const ZIPF: f64 = 0.7;
const DISTRICTS: usize = 48;
/// Weights of districts are exponential draws to this power, which spreads them as a gamma of shape 0.8 does.
const WEIGHT_POWER: f64 = 1.1;
/// accuracy_m is lognormal: its logarithm has this mean (a median of 12.2 m) and this standard deviation.
const ACCURACY_LOG_MEAN: f64 = 2.5;
const ACCURACY_LOG_SD: f64 = 0.35;

/// A position in degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spot {
    /// Longitude.
    pub lon: f64,
    /// Latitude.
    pub lat: f64,
}

/// Degrees of latitude, and of longitude in the middle of the city, that a metre is.
pub const LAT_PER_M: f64 = 1.0 / METRES_PER_DEGREE;
/// cos(34.75 degrees), the middle of the city.
const COS_MIDDLE: f64 = 0.821_646_937_942;
/// See [`LAT_PER_M`].
pub const LON_PER_M: f64 = LAT_PER_M / COS_MIDDLE;

impl Spot {
    /// The spot so many metres to the east and to the north.
    #[inline]
    pub fn moved(self, (east_m, north_m): (f64, f64)) -> Spot {
        Spot { lon: self.lon + east_m * LON_PER_M, lat: self.lat + north_m * LAT_PER_M }
    }

    /// Distance in metres, in the plane.
    #[inline]
    pub fn metres_to(self, other: Spot) -> f64 {
        let east_m = (other.lon - self.lon) / LON_PER_M;
        let north_m = (other.lat - self.lat) / LAT_PER_M;
        (east_m * east_m + north_m * north_m).sqrt()
    }
}

/// The fixed tables of a city.
#[derive(Debug)]
pub struct City {
    /// The normal distribution.
    pub normal: Normal,
    homes: Vec<Spot>,
    works: Vec<Spot>,
    venues: Vec<Spot>,
    /// The venue of each of 2^16 even shares of all visits.
    visits: Box<[u16; 1 << 16]>,
    /// Quantiles of accuracy_m.
    accuracies_m: Box<[f32; 1 << QUANTILES_LOG2]>,
}

struct District {
    middle: Spot,
    /// Standard deviation of longitude, degrees.
    spread: f64,
    /// Sum of the weights up to this district, of all districts 1.
    weight_to: f64,
}

/// How buildings of one kind lie: `spread` narrows the districts, `outside` is the share of those anywhere.
struct Layout {
    spread: f64,
    outside: f64,
}

impl City {
    /// Builds the city.
    pub fn new(draws: Stream) -> Self {
        let normal = Normal::new();
        let districts = districts(&normal, draws.stream(0));
        let place = |number: u64, count: u64, layout: Layout| -> Vec<Spot> {
            let draws = draws.stream(number);
            (0..count).map(|n| building(&normal, &districts, &layout, draws.stream(n))).collect()
        };
        let homes = place(1, HOMES, Layout { spread: 1.0, outside: 0.12 });
        let works = place(2, WORKS, Layout { spread: 0.7, outside: 0.08 });
        let venues = place(3, VENUES, Layout { spread: 0.8, outside: 0.05 });
        let accuracy_m = |n: usize| {
            // The middle between two quantiles.
            let z = normal.at(((n as u32) << 1 | 1) << (31 - QUANTILES_LOG2));
            let accuracy_m = (ACCURACY_LOG_MEAN + ACCURACY_LOG_SD * z).exp().clamp(3.0, 80.0);
            ((accuracy_m * 10.0).round() / 10.0) as f32
        };
        let accuracies_m = Box::new(std::array::from_fn(accuracy_m));
        City { normal, homes, works, venues, visits: visits(), accuracies_m }
    }

    /// A residential building, all alike.
    #[inline]
    pub fn home(&self, draw: u64) -> Spot {
        self.homes[below(draw, HOMES) as usize]
    }

    /// A workplace, all alike.
    #[inline]
    pub fn work(&self, draw: u64) -> Spot {
        self.works[below(draw, WORKS) as usize]
    }

    /// A venue, by its popularity.
    #[inline]
    pub fn venue(&self, draw: u16) -> Spot {
        self.venues[usize::from(self.visits[usize::from(draw)])]
    }

    /// A ping's accuracy_m, a multiple of 0.1.
    #[inline]
    pub fn accuracy_m(&self, draw: u32) -> f32 {
        self.accuracies_m[(draw & ((1 << QUANTILES_LOG2) - 1)) as usize]
    }
}

fn districts(normal: &Normal, draws: Stream) -> Vec<District> {
    let mut weight_to = 0.0;
    let mut districts: Vec<District> = (0..DISTRICTS as u64)
        .map(|n| {
            let (x, y) = normal.pair(draws.draw(3 * n));
            weight_to += (-(1.0 - unit(draws.draw(3 * n + 1))).ln()).powf(WEIGHT_POWER);
            District {
                middle: Spot { lon: 113.68 + 0.09 * x, lat: 34.755 + 0.045 * y },
                spread: 0.004 + 0.016 * unit(draws.draw(3 * n + 2)),
                weight_to,
            }
        })
        .collect();
    districts.iter_mut().for_each(|d| d.weight_to /= weight_to);
    districts
}

fn building(normal: &Normal, districts: &[District], layout: &Layout, draws: Stream) -> Spot {
    let (lon_min, lon_max) = (BOUNDS.lon_min + MARGIN_DEGREES, BOUNDS.lon_max - MARGIN_DEGREES);
    let (lat_min, lat_max) = (BOUNDS.lat_min + MARGIN_DEGREES, BOUNDS.lat_max - MARGIN_DEGREES);
    let (u, v) = (unit(draws.draw(0)), unit(draws.draw(1)));
    if unit(draws.draw(2)) < layout.outside {
        return Spot { lon: lon_min + u * (lon_max - lon_min), lat: lat_min + v * (lat_max - lat_min) };
    }
    let chosen = districts.partition_point(|d| d.weight_to <= u).min(districts.len() - 1);
    let district = &districts[chosen];
    let (x, y) = normal.pair(draws.draw(3));
    let spread = district.spread * layout.spread;
    Spot {
        lon: (district.middle.lon + x * spread).clamp(lon_min, lon_max),
        lat: (district.middle.lat + y * spread * COS_MIDDLE).clamp(lat_min, lat_max),
    }
}

/// The venue of each of 2^16 even shares of all visits.
fn visits() -> Box<[u16; 1 << 16]> {
    let weights: Vec<f64> = (1..=VENUES).map(|rank| (rank as f64).powf(-ZIPF)).collect();
    let total: f64 = weights.iter().sum();
    let mut visits = Box::new([VENUES as u16 - 1; 1 << 16]);
    let (mut sum, mut from) = (0.0, 0);
    for (venue, weight) in weights.iter().enumerate() {
        sum += weight;
        let to = ((sum / total * 65_536.0).round() as usize).min(1 << 16);
        visits[from..to].fill(venue as u16);
        from = to;
    }
    visits
}

#[cfg(test)]
mod tests {
    use super::super::draw::SIGMAS_MAX;
    use super::*;

    #[test]
    fn a_spot_and_its_ping_stay_inside() {
        let reach_m = SIGMAS_MAX * 20.0
            + SIGMAS_MAX * (ACCURACY_LOG_MEAN + ACCURACY_LOG_SD * SIGMAS_MAX).exp().min(80.0);
        assert!(reach_m * LON_PER_M < MARGIN_DEGREES, "{reach_m}");
        let middle = (BOUNDS.lat_min + BOUNDS.lat_max) / 2.0;
        assert!((middle.to_radians().cos() - COS_MIDDLE).abs() < 1e-9);
    }

    #[test]
    fn the_first_venue_is_the_most_visited() {
        let visits = visits();
        let count = |venue: u16| visits.iter().filter(|v| **v == venue).count();
        assert_eq!(visits.len(), 1 << 16);
        assert!(count(0) > 1_500 && count(0) > count(1) && count(2_999) > 0, "{}", count(0));
    }
}
