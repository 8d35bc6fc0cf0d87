//! The program and the library against other people's answers: real data whose right result is
//! known from elsewhere.
//!
//! The README of each set under `tests/data` says where it comes from and what is correct.

mod ais;
mod cwa;
mod geo;
mod sociopatterns;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::support::{Sandbox, read, text, times};

/// A person and the case they met. Where every person is a case, the case is named like its person.
type Pair = (String, String);

/// When each pair was together: half-open, in milliseconds, in the order of the file they were read
/// from.
type Ranges = BTreeMap<Pair, Vec<(i64, i64)>>;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Makes each of the persons a case, infectious for the given range.
fn write_cases(sandbox: &Sandbox, persons: &BTreeSet<String>, infectious_from: &str, infectious_to: &str) {
    let mut csv = String::from("case_id,person_id,infectious_from,infectious_to,report_id,authority\n");
    for person in persons {
        writeln!(csv, "{person},{person},{infectious_from},{infectious_to},report-{person},test authority")
            .expect("a string can be written");
    }
    sandbox.write("cases.csv", &csv);
}

/// Runs the job; through a prepared store it has to give the same bytes.
fn run_both_ways(sandbox: &Sandbox) {
    sandbox.copresence(&["run", "job.toml", "--out", "out"]).succeeds();
    let store = ["--store", "store", "--progress", "none"];
    sandbox.copresence(&[&["ingest", "job.toml"][..], &store].concat()).succeeds();
    sandbox.copresence(&["store", "check", "store"]).succeeds();
    sandbox.copresence(&[&["run", "job.toml", "--out", "stored"][..], &store].concat()).succeeds();
    for name in [
        "candidates.parquet",
        "exposures.parquet",
        "encounters.parquet",
        "cases.parquet",
        "rejections.parquet",
    ] {
        let [raw, stored] =
            ["out", "stored"].map(|out| std::fs::read(sandbox.path(out).join(name)).expect(name));
        assert!(raw == stored, "{name} differs through a store");
    }
}

/// The encounters of a run by pair. All must be direct.
fn encounters(sandbox: &Sandbox) -> Ranges {
    let batch = read(sandbox.path("out/encounters.parquet"));
    let (starts, ends) = (times(&batch, "start"), times(&batch, "end"));
    assert!(text(&batch, "kind").iter().all(|kind| kind == "direct"), "no lag was asked for");
    let mut ranges = Ranges::new();
    for (row, pair) in pairs(&batch, "person_id", "case_id").into_iter().enumerate() {
        ranges.entry(pair).or_default().push((starts[row], ends[row]));
    }
    ranges
}

fn pairs(batch: &arrow::array::RecordBatch, first: &str, second: &str) -> Vec<Pair> {
    text(batch, first).into_iter().zip(text(batch, second)).collect()
}

fn turned((first, second): &Pair) -> Pair {
    (second.clone(), first.clone())
}

fn total_ms(ranges: &[(i64, i64)]) -> i64 {
    ranges.iter().map(|(start, end)| end - start).sum()
}
