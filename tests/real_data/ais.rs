//! An hour of vessels in New York harbour, in even motion between positions, against MEOS's exact
//! times together.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;

use super::{Pair, Ranges, data, encounters, pairs, run_both_ways, total_ms, turned, write_cases};
use crate::support::{Sandbox, bools, column, i64s, opt_f64s, read, text};

/// MEOS and the engine both round to a millisecond; a pair has at most a few dozen intervals.
const ROUNDING_S: f64 = 0.05;

#[test]
fn vessels_within_20_m() {
    vessels_within(20.0);
}

#[test]
fn vessels_within_50_m() {
    vessels_within(50.0);
}

#[test]
fn vessels_within_100_m() {
    vessels_within(100.0);
}

#[test]
fn vessels_within_200_m() {
    vessels_within(200.0);
}

/// Every vessel is a case. The engine measures on the sphere and MEOS in a projection, so each
/// pair's time must lie between its times at 99% and at 101% of the distance, and can differ from
/// MEOS's intervals by no more than lies between these two.
fn vessels_within(distance_m: f64) {
    let sandbox = run(distance_m);
    let together = encounters(&sandbox);
    let intervals = known_intervals(distance_m);
    let brackets = known_brackets(distance_m);

    for (pair, &(least_s, most_s)) in &brackets {
        let found = together.get(pair).map_or(&[][..], Vec::as_slice);
        assert_eq!(
            found,
            together.get(&turned(pair)).map_or(&[][..], Vec::as_slice),
            "{pair:?}: the two directions"
        );

        let found_s = total_ms(found) as f64 / 1000.0;
        assert!(
            (least_s - ROUNDING_S..=most_s + ROUNDING_S).contains(&found_s),
            "{pair:?}: {found_s} s together at {distance_m} m, expected {least_s} to {most_s} s"
        );
        let known = intervals.get(pair).map_or(&[][..], Vec::as_slice);
        let apart_s = (total_ms(found) + total_ms(known) - 2 * shared_ms(found, known)) as f64 / 1000.0;
        assert!(
            apart_s <= most_s - least_s + ROUNDING_S,
            "{pair:?}: {apart_s} s away from the known intervals"
        );
    }
    // The brackets hold every pair that was ever within 1.01 of the distance; no other may be
    // found.
    for pair in together.keys() {
        assert!(
            brackets.contains_key(pair) || brackets.contains_key(&turned(pair)),
            "{pair:?} was never together"
        );
    }
    exposures_add_up(&sandbox, distance_m, &together);
}

fn exposures_add_up(sandbox: &Sandbox, distance_m: f64, together: &Ranges) {
    let exposures = read(sandbox.path("out/exposures.parquet"));
    let found_pairs = pairs(&exposures, "person_id", "case_id");
    assert!(found_pairs.iter().eq(together.keys()), "an exposure for each pair with an encounter, sorted");
    let (direct, confirmed) = (i64s(&exposures, "direct_s"), i64s(&exposures, "confirmed_s"));
    let nearest = opt_f64s(&exposures, "distance_m_min");
    for (row, pair) in found_pairs.iter().enumerate() {
        assert_eq!(direct[row], total_ms(&together[pair]) / 1000, "{pair:?}");
        assert_eq!(confirmed[row], direct[row], "{pair:?}: a moving stay is bracketed");
        let nearest_m = nearest[row].expect("positions have a distance");
        assert!((0.0..=distance_m + 1e-6).contains(&nearest_m), "{pair:?}: {nearest_m} m");
    }

    let encounters = read(sandbox.path("out/encounters.parquet"));
    assert!(bools(&encounters, "bracketed").into_iter().all(|bracketed| bracketed));
    assert_eq!(
        column(&encounters, "place").null_count(),
        encounters.num_rows(),
        "positions under distance have no place"
    );
}

fn run(distance_m: f64) -> Sandbox {
    let sandbox = Sandbox::new();
    let pings = first_of_each_instant(&read(data("ais_ny_hour/pings.parquet")));
    sandbox.write_parquet(
        "pings.parquet",
        ["device_id", "ts_ms", "lat", "lon"].map(|name| (name, column(&pings, name).clone())).to_vec(),
    );
    let vessels: BTreeSet<String> = text(&pings, "device_id").into_iter().collect();
    write_cases(&sandbox, &vessels, "2020-06-30T00:00:00Z", "2020-06-30T01:00:00Z");
    sandbox.write(
        "job.toml",
        &format!(
            r#"
[job]
name = "harbour"
purpose = "test against MEOS"
as_of = "2020-06-30T01:00:00Z"
time_zone = "UTC"
exposures = "all"
encounters = "all"

[[feeds]]
source = "gps"
path = "pings.parquet"
datum = "wgs84"
columns = {{ person_id = "device_id", time = "ts_ms" }}
time_unit = "ms"
motion = "linear"
hold_s_max = 600

[cases]
path = "cases.csv"

[rule]
name = "harbour"
version = "1"
lookback_days = 1

[rule.encounter]
place = "distance"
distance_m_max = {distance_m}
"#
        ),
    );
    run_both_ways(&sandbox);
    sandbox
}

/// The set's own rule for two positions of a device at one instant: the first row stays.
fn first_of_each_instant(pings: &RecordBatch) -> RecordBatch {
    let mut seen = HashSet::new();
    let rows = text(pings, "device_id").into_iter().zip(i64s(pings, "ts_ms"));
    let keep: BooleanArray = rows.map(|row| Some(seen.insert(row))).collect();
    filter_record_batch(pings, &keep).expect("a flag for each row")
}

/// MEOS's intervals by pair, in order of time. Those of no length are left out: a touch is no time
/// together.
fn known_intervals(distance_m: f64) -> Ranges {
    let batch = at_distance(&read(data("ais_ny_hour/expected_intervals.parquet")), distance_m);
    let (starts, ends) = (i64s(&batch, "start_ms"), i64s(&batch, "end_ms"));
    let mut ranges = Ranges::new();
    for (row, pair) in pairs(&batch, "device_a", "device_b").into_iter().enumerate() {
        if starts[row] < ends[row] {
            ranges.entry(pair).or_default().push((starts[row], ends[row]));
        }
    }
    ranges.values_mut().for_each(|ranges| ranges.sort_unstable());
    ranges
}

/// Seconds together at 0.99 and at 1.01 of the distance, by pair.
fn known_brackets(distance_m: f64) -> BTreeMap<Pair, (f64, f64)> {
    let batch = at_distance(&read(data("ais_ny_hour/expected_pairs.parquet")), distance_m);
    let least = opt_f64s(&batch, "seconds_at_0p99d").into_iter().flatten();
    let most = opt_f64s(&batch, "seconds_at_1p01d").into_iter().flatten();
    let brackets: BTreeMap<_, _> =
        pairs(&batch, "device_a", "device_b").into_iter().zip(least.zip(most)).collect();
    assert_eq!(brackets.len(), batch.num_rows(), "a bracket for each pair");
    brackets
}

fn at_distance(batch: &RecordBatch, distance_m: f64) -> RecordBatch {
    let flags: BooleanArray = opt_f64s(batch, "threshold_m")
        .into_iter()
        .map(|threshold_m| Some(threshold_m == Some(distance_m)))
        .collect();
    filter_record_batch(batch, &flags).expect("a flag for each row")
}

/// Time in both, each being sorted and free of overlap.
fn shared_ms(one: &[(i64, i64)], other: &[(i64, i64)]) -> i64 {
    let overlaps = one.iter().flat_map(|a| other.iter().map(move |b| a.1.min(b.1) - a.0.max(b.0)));
    overlaps.filter(|&overlap| overlap > 0).sum()
}
