//! Chinese map datums to WGS84 and back.
//!
//! GCJ-02 and its constants (Krasovsky 1940 ellipsoid) as published by the `eviltransform` and
//! `prcoords` projects; BD-09 as published by Baidu's map SDK. Both shift a position by 100 to 700 m,
//! as much as the widest rule, so that every input with coordinates has to say which datum it uses.

use std::f64::consts::PI;

/// The datum of a pair of coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datum {
    /// What GPS reports.
    Wgs84,
    /// What Chinese maps show.
    Gcj02,
    /// What Baidu's maps show.
    Bd09,
}

/// Krasovsky 1940: semi-major axis in metres, and the square of its eccentricity.
const KRASOVSKY_A_M: f64 = 6_378_245.0;
const KRASOVSKY_E2: f64 = 0.006_693_421_622_965_943;
/// Baidu's constants: the angular step of its wobble, and its fixed shift in degrees.
const BD_STEP: f64 = PI * 3000.0 / 180.0;
const BD_LAT: f64 = 0.006;
const BD_LON: f64 = 0.0065;
/// An inverse is iterated until it moves by less than this: 0.01 mm.
const INVERSE_DEGREES: f64 = 1e-10;

impl Datum {
    /// The position in WGS84, degrees; exact inverses to below 0.1 mm.
    #[inline]
    pub fn to_wgs84(self, lat: f64, lon: f64) -> (f64, f64) {
        match self {
            Datum::Wgs84 => (lat, lon),
            Datum::Gcj02 => gcj02_to_wgs84(lat, lon),
            Datum::Bd09 => {
                let (lat, lon) = bd09_to_gcj02(lat, lon);
                gcj02_to_wgs84(lat, lon)
            }
        }
    }
}

/// The box in which the Chinese datums differ from WGS84.
fn in_china(lat: f64, lon: f64) -> bool {
    (0.8293..=55.8271).contains(&lat) && (72.004..=137.8347).contains(&lon)
}

/// WGS84 to GCJ-02, degrees; the same position outside China.
pub fn wgs84_to_gcj02(lat: f64, lon: f64) -> (f64, f64) {
    if in_china(lat, lon) { gcj02_shifted(lat, lon) } else { (lat, lon) }
}

fn gcj02_shifted(lat: f64, lon: f64) -> (f64, f64) {
    let (x, y) = (lon - 105.0, lat - 35.0);
    let shared = (20.0 * (6.0 * x * PI).sin() + 20.0 * (2.0 * x * PI).sin()) * 2.0 / 3.0;
    let root = x.abs().sqrt();
    let north = -100.0
        + 2.0 * x
        + 3.0 * y
        + 0.2 * y * y
        + 0.1 * x * y
        + 0.2 * root
        + shared
        + (20.0 * (y * PI).sin() + 40.0 * (y / 3.0 * PI).sin()) * 2.0 / 3.0
        + (160.0 * (y / 12.0 * PI).sin() + 320.0 * (y / 30.0 * PI).sin()) * 2.0 / 3.0;
    let east = 300.0
        + x
        + 2.0 * y
        + 0.1 * x * x
        + 0.1 * x * y
        + 0.1 * root
        + shared
        + (20.0 * (x * PI).sin() + 40.0 * (x / 3.0 * PI).sin()) * 2.0 / 3.0
        + (150.0 * (x / 12.0 * PI).sin() + 300.0 * (x / 30.0 * PI).sin()) * 2.0 / 3.0;
    let phi = lat.to_radians();
    let w2 = 1.0 - KRASOVSKY_E2 * phi.sin() * phi.sin();
    let w = w2.sqrt();
    let dlat = north * 180.0 / (KRASOVSKY_A_M * (1.0 - KRASOVSKY_E2) / (w2 * w) * PI);
    let dlon = east * 180.0 / (KRASOVSKY_A_M / w * phi.cos() * PI);
    (lat + dlat, lon + dlon)
}

/// GCJ-02 to WGS84, degrees.
pub fn gcj02_to_wgs84(lat: f64, lon: f64) -> (f64, f64) {
    if in_china(lat, lon) { inverse(lat, lon, gcj02_shifted) } else { (lat, lon) }
}

/// GCJ-02 to BD-09, degrees; the same position outside China.
pub fn gcj02_to_bd09(lat: f64, lon: f64) -> (f64, f64) {
    if in_china(lat, lon) { bd09_shifted(lat, lon) } else { (lat, lon) }
}

fn bd09_shifted(lat: f64, lon: f64) -> (f64, f64) {
    let r = lon.hypot(lat) + 0.000_02 * (lat * BD_STEP).sin();
    let theta = lat.atan2(lon) + 0.000_003 * (lon * BD_STEP).cos();
    (r * theta.sin() + BD_LAT, r * theta.cos() + BD_LON)
}

/// BD-09 to GCJ-02, degrees.
pub fn bd09_to_gcj02(lat: f64, lon: f64) -> (f64, f64) {
    if in_china(lat, lon) { inverse(lat, lon, bd09_shifted) } else { (lat, lon) }
}

/// The position that `forward` takes to (lat, lon): a fixed point, since the shifts change by far
/// less than the position does.
fn inverse(lat: f64, lon: f64, forward: impl Fn(f64, f64) -> (f64, f64)) -> (f64, f64) {
    let (mut a, mut b) = (lat, lon);
    for _ in 0..30 {
        let (la, lo) = forward(a, b);
        let (da, db) = (lat - la, lon - lo);
        (a, b) = (a + da, b + db);
        if da.abs() < INVERSE_DEGREES && db.abs() < INVERSE_DEGREES {
            break;
        }
    }
    (a, b)
}
