//! The sphere that distances are measured on, and boxes of latitude and longitude around a place.

/// The IUGG mean radius of the Earth, metres; the only Earth radius that distances use.
pub const EARTH_RADIUS_M: f64 = 6_371_008.8;
/// Metres of one degree of a great circle (M = pi/180 * EARTH_RADIUS_M).
pub const METRES_PER_DEGREE: f64 = std::f64::consts::PI / 180.0 * EARTH_RADIUS_M;

/// Great-circle distance in metres between two positions in degrees, by the haversine formula (Sinnott, "Virtues of
/// the Haversine", Sky and Telescope 68, 1984).
#[inline]
pub fn haversine_m(lat1: f64, lon1: f64, lat2: f64, lon2: f64) -> f64 {
    haversine_of_m((lat1, lon1, cos_lat(lat1)), (lat2, lon2, cos_lat(lat2)))
}

/// The cosine of a latitude in degrees.
#[inline]
pub fn cos_lat(lat: f64) -> f64 {
    lat.to_radians().cos()
}

/// The same as [`haversine_m`], bit for bit, of positions that bring their [`cos_lat`]: (latitude, longitude,
/// cosine of the latitude).
#[inline]
pub fn haversine_of_m((lat1, lon1, cos1): (f64, f64, f64), (lat2, lon2, cos2): (f64, f64, f64)) -> f64 {
    let of_lat = sin((lat2 - lat1).to_radians() / 2.0);
    let of_lon = sin((lon2 - lon1).to_radians() / 2.0);
    let root = (of_lat * of_lat + cos1 * cos2 * (of_lon * of_lon)).sqrt();
    // Near the antipode rounding can push the root past 1, whose arc sine does not exist: half the girth then.
    let half = if root > 1.0 { std::f64::consts::FRAC_PI_2 } else { asin(root) };
    EARTH_RADIUS_M * (2.0 * half)
}

/// Below this three terms of their Taylor series give sine and arc sine to the last digit, as the fourth is less than 2^-100
/// of the first. Half the angle between positions that are less than 194 m apart is.
const FEW_RADIANS: f64 = 1.0 / (1u64 << 16) as f64;

#[inline]
fn sin(x: f64) -> f64 {
    let square = x * x;
    if x.abs() < FEW_RADIANS { x - x * square * (1.0 / 6.0 - square * (1.0 / 120.0)) } else { x.sin() }
}

#[inline]
fn asin(x: f64) -> f64 {
    let square = x * x;
    if x.abs() < FEW_RADIANS { x + x * square * (1.0 / 6.0 + square * (3.0 / 40.0)) } else { x.asin() }
}

/// Whether two positions in degrees are at most so many metres apart: the same as comparing [`haversine_m`], but most
/// often told from bounds of it.
#[inline]
pub fn is_within_m(lat1: f64, lon1: f64, lat2: f64, lon2: f64, metres: f64) -> bool {
    // A difference of latitude is no farther than the distance; and on a sphere parallels are shorter than the
    // equator, so in the plane of degrees everything is at least as far. Rounding errs by far less than SLACK.
    let (dlat_m, dlon_m) = (METRES_PER_DEGREE * (lat2 - lat1), METRES_PER_DEGREE * (lon2 - lon1));
    if dlat_m.abs() > metres * (1.0 + SLACK) + SLACK {
        return false;
    }
    let inner = metres * (1.0 - SLACK) - SLACK;
    if inner > 0.0 && dlat_m * dlat_m + dlon_m * dlon_m < inner * inner {
        return true;
    }
    haversine_m(lat1, lon1, lat2, lon2) <= metres
}

/// A share, and metres, within which bounds decide nothing.
const SLACK: f64 = 1e-6;

/// A difference of longitudes, the short way round: in [-180, 180).
#[inline]
pub fn wrap_degrees(dlon: f64) -> f64 {
    if (-180.0..180.0).contains(&dlon) { dlon } else { (dlon + 180.0).rem_euclid(360.0) - 180.0 }
}

/// A box in degrees; `lon_max` may exceed 180 (it crosses the antimeridian then), never `lon_min + 360`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatLonBox {
    /// Southern edge.
    pub lat_min: f64,
    /// Northern edge.
    pub lat_max: f64,
    /// Western edge, in [-180, 180].
    pub lon_min: f64,
    /// Eastern edge.
    pub lon_max: f64,
}

/// Slack in degrees (about 1 mm) by which boxes are grown, so that rounding never loses a neighbour.
const SLACK_DEGREES: f64 = 1e-8;

impl LatLonBox {
    /// The box that holds this one and another, of boxes that do not cross the antimeridian.
    pub fn with(self, other: Self) -> Self {
        LatLonBox {
            lat_min: self.lat_min.min(other.lat_min),
            lat_max: self.lat_max.max(other.lat_max),
            lon_min: self.lon_min.min(other.lon_min),
            lon_max: self.lon_max.max(other.lon_max),
        }
    }

    /// The box of a path: from a position, `dlat` and `dlon` degrees on.
    pub fn of_path(lat: f64, lon: f64, dlat: f64, dlon: f64) -> Self {
        LatLonBox {
            lat_min: lat.min(lat + dlat),
            lat_max: lat.max(lat + dlat),
            lon_min: lon.min(lon + dlon),
            lon_max: lon.max(lon + dlon),
        }
    }

    /// The box that holds every position within `metres` of this one, on the sphere and also in the
    /// plane that moving stays are compared in.
    pub fn grown(self, metres: f64) -> Self {
        let dlat = metres / METRES_PER_DEGREE + SLACK_DEGREES;
        let (lat_min, lat_max) = ((self.lat_min - dlat).max(-90.0), (self.lat_max + dlat).min(90.0));
        // The parallel nearest the pole has the shortest degree of longitude.
        let cos = lat_min.abs().max(lat_max.abs()).to_radians().cos();
        let half_turns = (metres / EARTH_RADIUS_M / 2.0).sin().abs();
        // sin(dlon/2) = sin(d/2R)/cos(lat) is the chord along a parallel, the widest that d can reach there.
        let on_sphere = if metres < std::f64::consts::FRAC_PI_2 * EARTH_RADIUS_M && half_turns < cos {
            2.0 * (half_turns / cos).asin().to_degrees()
        } else {
            360.0
        };
        let in_plane = if cos > 1e-12 { metres / (METRES_PER_DEGREE * cos) } else { 360.0 };
        self.widened(on_sphere.max(in_plane) + SLACK_DEGREES, lat_min, lat_max)
    }

    fn widened(self, dlon: f64, lat_min: f64, lat_max: f64) -> Self {
        let (west, east) = (self.lon_min - dlon, self.lon_max + dlon);
        if east - west >= 360.0 {
            return LatLonBox { lat_min, lat_max, lon_min: -180.0, lon_max: 180.0 };
        }
        let start = wrap_degrees(west);
        LatLonBox { lat_min, lat_max, lon_min: start, lon_max: start + (east - west) }
    }

    /// The box as one or two boxes that do not cross the antimeridian.
    pub fn split(self) -> impl Iterator<Item = LatLonBox> {
        let first = LatLonBox { lon_max: self.lon_max.min(180.0), ..self };
        let second = (self.lon_max > 180.0 - SLACK_DEGREES).then_some(LatLonBox {
            lon_min: -180.0,
            lon_max: (self.lon_max - 360.0).max(-180.0),
            ..self
        });
        std::iter::once(first).chain(second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use geo::{Distance, HaversineMeasure, Point};
    use proptest::prelude::*;

    #[test]
    fn a_degree_of_the_equator() {
        assert!((haversine_m(0.0, 0.0, 0.0, 1.0) - METRES_PER_DEGREE).abs() < 1e-6);
        assert!((haversine_m(0.0, 179.5, 0.0, -179.5) - METRES_PER_DEGREE).abs() < 1e-6);
        assert!((haversine_m(0.0, 0.0, 0.0, -180.0) - 180.0 * METRES_PER_DEGREE).abs() < 1e-3);
    }

    proptest! {
        #[test]
        fn distances_are_those_of_the_geo_crate(
            lat in -90.0..=90.0, lon in -180.0..180.0, dlat in -1.0..=1.0, dlon in -1.0..=1.0, step in 0..8,
        ) {
            // From the same place to halfway round.
            let scale = if step == 0 { 0.0 } else { 10f64.powi(2 - step) };
            let (lat2, lon2) = (f64::clamp(lat + dlat * scale, -90.0, 90.0), wrap_degrees(lon + 1.8 * dlon * scale));
            let theirs = HaversineMeasure::new(EARTH_RADIUS_M).distance(Point::new(lon, lat), Point::new(lon2, lat2));
            let m = haversine_m(lat, lon, lat2, lon2);
            prop_assert!(theirs.is_nan() || m.to_bits() == theirs.to_bits(), "{m} and {theirs}");
            prop_assert_eq!(m.to_bits(), haversine_m(lat2, lon2, lat, lon).to_bits());
            for metres in [m, m.next_down(), m.next_up(), m * 0.999_999, m * 1.000_001, m * 0.9, m * 1.1, 50.0, 0.0] {
                prop_assert_eq!(is_within_m(lat, lon, lat2, lon2, metres), m <= metres, "{} of {}", metres, m);
            }
        }
    }

    #[test]
    fn grown_boxes_hold_the_circle() {
        for (lat, lon, d) in
            [(0.0, 0.0, 50.0), (60.0, 179.9999, 500.0), (89.9999, 10.0, 50.0), (-45.0, -180.0, 5_000.0)]
        {
            let around = LatLonBox::of_path(lat, lon, 0.0, 0.0).grown(d);
            for step in 0..360 {
                let bearing = f64::from(step).to_radians();
                let (phi, r) = (f64::to_radians(lat), d / EARTH_RADIUS_M);
                let phi2 = (phi.sin() * r.cos() + phi.cos() * r.sin() * bearing.cos()).asin();
                let dlon = (bearing.sin() * r.sin() * phi.cos()).atan2(r.cos() - phi.sin() * phi2.sin());
                let (lat2, lon2) = (phi2.to_degrees(), wrap_degrees(lon + dlon.to_degrees()));
                let inside = around.split().any(|b| {
                    (b.lat_min..=b.lat_max).contains(&lat2) && (b.lon_min..=b.lon_max).contains(&lon2)
                });
                assert!(inside, "{lat} {lon} {d} at {step} degrees: {lat2} {lon2} not in {around:?}");
            }
        }
    }
}
