//! Datums, cells and distances against published values and other libraries.

use std::fs;

use arrow::array::RecordBatch;
use copresence::datum::{Datum, gcj02_to_bd09, wgs84_to_gcj02};
use copresence::geo::haversine_m;
use copresence::place::cell;
use serde_json::Value;

use super::data;
use crate::support::{i64s, opt_f64s, read, text};

type LatLon = (f64, f64);

/// What two good implementations differ by, one of which takes another radius (1.1 cm), with room.
const FORWARD_M: f64 = 0.05;
/// The published places must be met to the last digit printed, and the way back must not drift.
const EXACT_M: f64 = 0.001;

#[test]
fn gcj02_meets_the_published_places() {
    let text = fs::read_to_string(data("geo_vectors/gcj_published.json")).expect("the places can be read");
    let places: Value = serde_json::from_str(&text).expect("the places are JSON");
    let places = places.as_array().expect("a list of places");
    assert_eq!(places.len(), 3);
    for place in places {
        let (lat, lon) = lat_lon(&place["wgs"]);
        assert_near(wgs84_to_gcj02(lat, lon), lat_lon(&place["gcj"]), EXACT_M, &place["place"].to_string());
    }
}

#[test]
fn gcj02_and_bd09_agree_with_two_libraries() {
    let batch = read(data("geo_vectors/gcj_bd09_vectors.parquet"));
    let cities = text(&batch, "city");
    let wgs84 = positions(&batch, "wgs_lat", "wgs_lon");
    assert_eq!(wgs84.len(), 300);
    for library in ["prcoords", "eviltransform"] {
        let gcj02 = positions(&batch, &format!("gcj_lat_{library}"), &format!("gcj_lon_{library}"));
        let bd09 = positions(&batch, &format!("bd_lat_{library}"), &format!("bd_lon_{library}"));
        for (row, &(lat, lon)) in wgs84.iter().enumerate() {
            let found = wgs84_to_gcj02(lat, lon);
            let place = format!("row {row}, {}, {library}", cities[row]);
            assert_near(found, gcj02[row], FORWARD_M, &place);
            assert_near(gcj02_to_bd09(found.0, found.1), bd09[row], FORWARD_M, &place);
        }
    }
}

#[test]
fn a_datum_and_back_is_the_same_place() {
    let batch = read(data("geo_vectors/gcj_bd09_vectors.parquet"));
    for (lat, lon) in positions(&batch, "wgs_lat", "wgs_lon") {
        let gcj02 = wgs84_to_gcj02(lat, lon);
        let bd09 = gcj02_to_bd09(gcj02.0, gcj02.1);
        assert_near(Datum::Gcj02.to_wgs84(gcj02.0, gcj02.1), (lat, lon), EXACT_M, "from GCJ-02");
        assert_near(Datum::Bd09.to_wgs84(bd09.0, bd09.1), (lat, lon), EXACT_M, "from BD-09");
        assert_eq!(Datum::Wgs84.to_wgs84(lat, lon), (lat, lon));
    }
}

#[test]
fn cells_are_those_of_h3() {
    let batch = read(data("geo_vectors/h3_centers.parquet"));
    let (cells, resolutions) = (text(&batch, "cell"), i64s(&batch, "res"));
    assert_eq!(cells.len(), 25_000);
    for (row, (lat, lon)) in positions(&batch, "center_lat", "center_lon").into_iter().enumerate() {
        let resolution = u8::try_from(resolutions[row]).expect("H3 resolutions end at 15");
        assert_eq!(
            format!("{:x}", cell(lat, lon, resolution)),
            cells[row],
            "{lat}, {lon} at resolution {resolution}"
        );
    }
}

#[test]
fn distances_are_haversine() {
    let batch = read(data("geo_vectors/distance_vectors.parquet"));
    let starts = positions(&batch, "lat1", "lon1");
    let ends = positions(&batch, "lat2", "lon2");
    let expected = f64s(&batch, "haversine_m");
    assert_eq!(expected.len(), 396);
    for (row, expected_m) in expected.into_iter().enumerate() {
        let found_m = haversine_m(starts[row].0, starts[row].1, ends[row].0, ends[row].1);
        assert!(
            (found_m - expected_m).abs() <= 1e-6 * expected_m,
            "row {row}: {found_m} m, not {expected_m} m"
        );
    }
}

#[track_caller]
fn assert_near(found: LatLon, expected: LatLon, off_m_max: f64, place: &str) {
    let off_m = haversine_m(found.0, found.1, expected.0, expected.1);
    assert!(off_m <= off_m_max, "{place}: {found:?} lies {off_m} m from {expected:?}");
}

fn positions(batch: &RecordBatch, lat: &str, lon: &str) -> Vec<LatLon> {
    f64s(batch, lat).into_iter().zip(f64s(batch, lon)).collect()
}

fn f64s(batch: &RecordBatch, name: &str) -> Vec<f64> {
    opt_f64s(batch, name).into_iter().map(|value| value.expect("no nulls in the vectors")).collect()
}

fn lat_lon(value: &Value) -> LatLon {
    let axis = |number: usize| value[number].as_f64().expect("a coordinate is a number");
    (axis(0), axis(1))
}
