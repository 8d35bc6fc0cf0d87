//! A sweep from outside: each row is what a run with these values finds.

use crate::support::{Sandbox, read};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, UInt64Type};
use sha2::{Digest, Sha256};

/// A made-up city with its job.
fn city(flags: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new();
    let base = [
        "synth",
        "city",
        "--rows",
        "80000",
        "--persons",
        "200",
        "--days",
        "2",
        "--cases",
        "8",
        "--progress",
        "none",
    ];
    sandbox.copresence(&[&base[..], flags].concat()).succeeds();
    for name in ["job.toml", "cases.parquet", "pings"] {
        std::fs::rename(sandbox.path("city").join(name), sandbox.path(name)).expect("a rename");
    }
    sandbox
}

/// Who is a candidate, whatever the order, from the document of the column alone.
fn digest(candidates: &RecordBatch) -> String {
    let column = candidates.column_by_name("person_id").expect("person_id");
    let id = |row: usize| match column.data_type() {
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).to_string().into_bytes(),
        DataType::Utf8 => column.as_string::<i32>().value(row).as_bytes().to_vec(),
        other => panic!("{other}"),
    };
    let part = |row: usize| {
        let digest = Sha256::digest(id(row));
        u128::from_be_bytes(digest[..16].try_into().expect("16 bytes"))
    };
    let sum = (0..candidates.num_rows()).map(part).fold(0u128, u128::wrapping_add);
    format!("{sum:032x}")
}

/// Sweeps, and holds each row against a run; gives how many sets there were, and how many different numbers of candidates.
fn same_as_runs(sandbox: &Sandbox, flags: &[&str], varied: &[&str], readings: usize) -> (usize, usize) {
    let mut args = vec!["sweep", "job.toml", "--out", "swept", "--force", "--progress", "none"];
    args.extend(flags);
    varied.iter().for_each(|vary| args.extend(["--vary", vary]));
    let said = sandbox.copresence(&args);
    said.succeeds().stdout_has(&format!("by {readings} reading(s)"));
    let table = read(sandbox.path("swept/sweep.parquet"));
    let count = |name: &str, row: usize| {
        table.column_by_name(name).expect(name).as_primitive::<UInt64Type>().value(row)
    };
    let mut numbers = std::collections::BTreeSet::new();
    for row in 0..table.num_rows() {
        let mut args = vec!["run", "job.toml", "--out", "ran", "--force", "--progress", "none"];
        args.extend(flags);
        let sets: Vec<String> = varied
            .iter()
            .enumerate()
            .map(|(at, vary)| {
                let key = vary.split('=').next().expect("a key");
                assert_eq!(table.schema().field(at).name(), key);
                let column = table.column(at);
                match column.data_type() {
                    DataType::Float64 => format!("{key}={}", column.as_primitive::<Float64Type>().value(row)),
                    _ => format!("{key}={}", column.as_string::<i32>().value(row)),
                }
            })
            .collect();
        sets.iter().for_each(|set| args.extend(["--set", set]));
        sandbox.copresence(&args).succeeds();
        let candidates = read(sandbox.path("ran/candidates.parquet"));
        let said = std::fs::read_to_string(sandbox.path("ran/manifest.json")).expect("a manifest");
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(count("candidates", row), candidates.num_rows() as u64, "{sets:?}");
        assert_eq!(said["counts"]["exposures"], count("exposures", row), "{sets:?}");
        assert_eq!(said["counts"]["encounters"], count("encounters", row), "{sets:?}");
        let found = table.column_by_name("candidates_digest").expect("a digest").as_string::<i32>();
        assert_eq!(found.value(row), digest(&candidates), "{sets:?}");
        numbers.insert(candidates.num_rows());
    }
    let text = std::fs::read_to_string(sandbox.path("swept/sweep.csv")).expect("a table");
    assert_eq!(text.lines().count(), table.num_rows() + 1);
    (table.num_rows(), numbers.len())
}

#[test]
fn each_row_is_what_a_run_finds() {
    let sandbox = city(&[]);
    sandbox.copresence(&["ingest", "job.toml", "--store", "store", "--progress", "none"]).succeeds();
    let direct = "rule.candidate.direct_s_min=0..6000/1200";
    let near = "rule.encounter.distance_m_max=20,80";
    let (sets, numbers) = same_as_runs(&sandbox, &[], &[near, direct], 2);
    assert!(sets == 12 && numbers > 5, "{sets} {numbers}");
    same_as_runs(&sandbox, &["--store", "store"], &[near, direct], 2);
    let longest = "rule.candidate.longest_s_min=300,1200";
    same_as_runs(&sandbox, &["--set", "rule.candidate.across_cases=true"], &[direct, longest], 1);
    let confirmed = "rule.candidate.confirmed_s_min=0,600";
    let squares = ["--set", "rule.encounter.place=grid"];
    same_as_runs(&sandbox, &squares, &["rule.encounter.square_m=200,800", confirmed, direct], 2);
    // Who has to dwell somewhere is looked for where thresholds are reached alone.
    let resident = [&squares[..], &["--set", "rule.candidate.resident_h_min=5"]].concat();
    same_as_runs(&sandbox, &resident, &[direct], 6);
    let uncertain =
        ["--set", "rule.encounter.place=probability", "--set", "rule.encounter.probability_min=0.05"];
    let weighed = ["rule.candidate.expected_s_min=0,600", "rule.candidate.risk_min=0.001,0.01"];
    same_as_runs(&sandbox, &uncertain, &[&weighed[..], &[direct]].concat(), 1);
    // What is no number is a text, and any key may vary.
    same_as_runs(&sandbox, &[], &["rule.encounter.place=grid,distance", "feeds[0].hold_s_max=300,900"], 4);
    let peak = "rule.candidate.peak_24h_s_min=600,7200";
    let texts = city(&["--ids", "text", "--order", "none"]);
    let (_, numbers) = same_as_runs(&texts, &[], &[peak, "rule.encounter.lag_s_max=0,1800"], 2);
    assert!(numbers > 1);
}

#[test]
fn what_cannot_be_swept_is_said() {
    let sandbox = city(&[]);
    let sweep = |args: &[&str]| {
        sandbox.copresence(&[&["sweep", "job.toml", "--progress", "none"][..], args].concat())
    };
    sweep(&[]).fails_with(2).stderr_has("--vary");
    sweep(&["--vary", "rule.candidate.direct_s_min"]).fails_with(2).stderr_has("KEY=FROM..TO/STEP");
    sweep(&["--vary", "rule.candidate.direct_s_min=9..1/1"]).fails_with(2).stderr_has("a range goes up");
    sweep(&["--vary", "rule.candidate.direct_min=1,2"]).fails_with(2).stderr_has("direct_s_min");
    sweep(&["--vary", "rule.candidate.direct_s_min=60,soon"]).fails_with(2).stderr_has("direct_s_min");
    let twice = ["--vary", "rule.encounter.lag_s_max=1", "--vary", "rule.encounter.lag_s_max=2"];
    sweep(&twice).fails_with(2).stderr_has("rule.encounter.lag_s_max twice");
    let many =
        ["--vary", "rule.candidate.direct_s_min=1..200/1", "--vary", "rule.candidate.longest_s_min=1..200/1"];
    sweep(&many).fails_with(2).stderr_has("40000");
    // Nothing is replaced that nobody said to replace, and no other thing ever.
    let vary = ["--vary", "rule.candidate.direct_s_min=60,120"];
    sweep(&vary).succeeds();
    sweep(&vary).fails_with(1).stderr_has("an earlier output");
    sweep(&[&vary[..], &["--force"]].concat()).succeeds();
    sandbox.copresence(&["run", "job.toml", "--out", "ran", "--progress", "none"]).succeeds();
    let onto = [&vary[..], &["--out", "ran", "--force"]].concat();
    sweep(&onto).fails_with(1).stderr_has("no result of copresence sweep");
    assert!(sandbox.path("ran/candidates.parquet").exists());
}
