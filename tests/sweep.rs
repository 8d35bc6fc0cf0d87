//! A sweep from outside: each row is what a run with these values finds.

use crate::oracle::{Place, World};
use crate::support::{Sandbox, read};
use crate::world_runs::{OnDisk, refused};
use crate::worlds::{Layout, layouts, worlds};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use copresence::lattice::mixed;
use copresence::resolve::Found;
use copresence::sweep::passes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicUsize, Ordering};

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
    format!("{:032x}", digest_of(candidates.column_by_name("person_id").expect("person_id")))
}

fn digest_of(column: &ArrayRef) -> u128 {
    let id = |row: usize| match column.data_type() {
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).to_string().into_bytes(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string().into_bytes(),
        DataType::Binary => column.as_binary::<i32>().value(row).to_vec(),
        DataType::Utf8 => column.as_string::<i32>().value(row).as_bytes().to_vec(),
        other => panic!("{other}"),
    };
    let part = |row: usize| {
        let digest = Sha256::digest(id(row));
        u128::from_be_bytes(digest[..16].try_into().expect("16 bytes"))
    };
    (0..column.len()).map(part).fold(0u128, u128::wrapping_add)
}

/// Sweeps, and holds each row against a run; gives how many sets there were, and how many different numbers of candidates.
fn same_as_runs(sandbox: &Sandbox, flags: &[&str], varied: &[&str], readings: usize) -> (usize, usize) {
    let mut args = vec!["sweep", "job.toml", "--out", "swept", "--force", "--progress", "none"];
    args.extend(flags);
    varied.iter().for_each(|vary| args.extend(["--vary", vary]));
    let said = sandbox.copresence(&args);
    said.succeeds().stdout_has(&format!("by {readings} reading(s)"));
    let says = std::fs::read_to_string(sandbox.path("swept/sweep.json")).expect("what it says");
    let says: serde_json::Value = serde_json::from_str(&says).expect("JSON");
    assert_eq!(says["readings"], readings);
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
    let (sets, numbers) = same_as_runs(&sandbox, &[], &[near, direct], 1);
    assert!(sets == 12 && numbers > 5, "{sets} {numbers}");
    same_as_runs(&sandbox, &["--store", "store"], &[near, direct], 1);
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
    let (_, numbers) = same_as_runs(&texts, &[], &[peak, "rule.encounter.lag_s_max=0,1800"], 1);
    assert!(numbers > 1);
}

#[test]
fn encounters_nest() {
    let sandbox = city(&[]);
    sandbox.copresence(&["ingest", "job.toml", "--store", "store", "--progress", "none"]).succeeds();
    let stored = &["--store", "store"][..];
    let near = "rule.encounter.distance_m_max=80,20,35";
    let confirmed = "rule.candidate.confirmed_s_min=0,900";
    let lag = "rule.encounter.lag_s_max=0,600,3600";
    let gap = "rule.exposure.merge_gap_s_max=0,900";
    let longest = "rule.candidate.longest_s_min=600,2400";
    for flags in [&[][..], stored] {
        let (sets, numbers) = same_as_runs(&sandbox, flags, &[near, confirmed], 1);
        assert!(sets == 6 && numbers > 3, "{sets} {numbers}");
        same_as_runs(&sandbox, flags, &[lag, "rule.encounter.distance_m_max=60,30", gap, longest], 1);
        let across = [flags, &["--set", "rule.candidate.across_cases=true"]].concat();
        same_as_runs(&sandbox, &across, &[near, longest], 1);
        let uncertain = [flags, &["--set", "rule.encounter.place=probability"]].concat();
        let likely = "rule.encounter.probability_min=0.01,0.3";
        let risky = "rule.candidate.risk_min=0.001,0.004";
        same_as_runs(&sandbox, &uncertain, &[near, likely, risky], 1);
        let weighed = ["rule.exposure.risk_distance_m=2,10", "rule.candidate.risk_min=0.0001,0.004"];
        same_as_runs(
            &sandbox,
            &uncertain,
            &[&weighed[..], &[confirmed, "rule.encounter.lag_s_max=0,900"]].concat(),
            1,
        );
        let decays = [&uncertain[..], &["--set", "rule.encounter.lag_s_max=1800"]].concat();
        let half = "rule.exposure.lag_half_life_s=600,3600";
        same_as_runs(&sandbox, &decays, &[half, "rule.exposure.infectiousness=flat,he-2020", risky], 1);
    }
    let squares = ["--set", "rule.encounter.place=grid", "--set", "rule.encounter.square_m=400"];
    let (_, numbers) = same_as_runs(&sandbox, &squares, &[lag, gap, longest], 1);
    assert!(numbers > 2, "{numbers}");
    // Places do not nest, and neither does who dwells somewhere.
    same_as_runs(&sandbox, &[], &["rule.encounter.place=grid,distance", lag], 2);
    let resident = ["--set", "rule.candidate.resident_h_min=5", "--set", "rule.candidate.resident_scope=any"];
    same_as_runs(&sandbox, &resident, &["rule.encounter.distance_m_max=50,100"], 2);
}

/// What stops a run stops a sweep, and what a run warns of it warns of.
#[test]
fn a_night_with_rows_missing() {
    let sandbox = city(&[]);
    let sweep = |flags: &[&str]| {
        let args =
            ["sweep", "job.toml", "--progress", "none", "--vary", "rule.candidate.direct_s_min=60,120"];
        sandbox.copresence(&[&args[..], flags].concat())
    };
    // A day later, of which there are no rows.
    let later = ["--as-of", "2022-03-23T00:00:00+08:00", "--set", "rule.lookback_days=3"];
    let strict = [&later[..], &["--set", "rule.safeguards.rows_share_min=0.5"]].concat();
    sweep(&strict).fails_with(3).stderr_has("rows_share_min");
    sandbox.write(
        "cases.csv",
        "case_id,person_id,infectious_from,report_id,authority\nc1,999999,2022-03-20,r1,district\n",
    );
    sweep(&["--set", "cases.path=cases.csv"])
        .succeeds()
        .stderr_has("warning: 1 case without any ping of the person in the lookback");
}

/// Made-up values of keys that nest, set by set, and of one that does not.
fn sets_of(world: &World, seed: u64) -> Vec<Vec<String>> {
    let moves = world.feeds.iter().any(|feed| feed.motion == crate::oracle::Motion::Linear);
    let rule = &world.rule;
    let set = |number: u64| {
        let mut state = mixed(seed ^ number);
        let mut draw = |key: &str, values: &[f64]| {
            state = mixed(state);
            format!("rule.{key}={}", values[state as usize % values.len()])
        };
        let s = |ms: i64| ms as f64 / 1e3;
        let mut set = vec![
            draw("exposure.merge_gap_s_max", &[s(rule.merge_gap_ms), s(rule.merge_gap_ms * 3 + 1)]),
            draw("candidate.direct_s_min", &[s(rule.direct_ms_min), s(rule.direct_ms_min / 2), 0.0]),
            draw("candidate.confirmed_s_min", &[0.0, 0.001, s(rule.direct_ms_min / 3)]),
        ];
        match rule.place {
            Place::Distance { m_max } => {
                set.push(draw("encounter.distance_m_max", &[m_max, m_max / 2.0, m_max / 7.0, m_max * 1.5]));
            }
            Place::Probability { m_max, p_min } => {
                set.push(draw("encounter.distance_m_max", &[m_max, m_max / 2.0, m_max * 1.5]));
                set.push(draw("encounter.probability_min", &[p_min, p_min * 1.1, p_min / 5.0]));
                set.push(draw("exposure.risk_distance_m", &[2.0, 9.0]));
                set.push(draw("candidate.risk_min", &[0.0, 0.000_01, 0.001]));
            }
            _ => {}
        }
        if !moves {
            set.push(draw("encounter.lag_s_max", &[s(rule.lag_ms), s(rule.lag_ms / 2), s(rule.lag_ms * 2)]));
        }
        set
    };
    (0..5).map(set).collect()
}

/// Sweeps over a world; each set finds what a run does. Says whether one reading gave several answers.
fn a_world(world: &World, layout: &Layout, stored: bool) -> copresence::error::Result<bool> {
    let on_disk = if stored { OnDisk::stored(world, layout)? } else { OnDisk::raw(world, layout) };
    let sets = sets_of(world, layout.seed);
    let configs: Vec<_> = sets.iter().map(|set| on_disk.config(set)).collect::<Result<_, _>>()?;
    let resident = world.rule.weighing.resident.is_some();
    let passes = passes(configs.clone());
    let different = sets.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(passes.len(), if resident { different } else { 1 });
    let (mut answered, mut several) = (0, false);
    for (number, pass) in passes.iter().enumerate() {
        let swept = on_disk.compute(&pass.config, &format!("swept{number}"))?;
        for (variant, numbers) in pass.sets.iter().enumerate() {
            for (place, number) in numbers.iter().enumerate() {
                let ran = on_disk.compute(&configs[*number], &format!("ran{number}"))?;
                let candidates = ran.candidates.whole().expect("candidates");
                let persons = ran.person.restore(candidates.column(0)).expect("persons");
                let expected = Found { candidates: persons.len() as u64, digest: digest_of(&persons) };
                let found = swept.variants.get(variant).cloned().unwrap_or_default();
                let set = &sets[*number];
                assert_eq!(found.sets.get(place).copied().unwrap_or_default(), expected, "{set:?}");
                let counts = (ran.counts.encounters, ran.counts.exposures);
                assert_eq!((found.encounters, found.exposures), counts, "{set:?}");
                answered += 1;
            }
        }
        several |= swept.variants.iter().any(|found| *found != swept.variants[0]);
    }
    assert_eq!(answered, sets.len());
    Ok(several)
}

/// In whatever order rows come, with scans and trips, areas and spilling.
#[test]
fn small_worlds() {
    for (linear, stored, cases, least) in
        [(false, false, 400, 50), (true, false, 150, 20), (false, true, 100, 10)]
    {
        let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
        let several = AtomicUsize::new(0);
        let done = TestRunner::new(config).run(&(worlds(linear), layouts()), |(world, layout)| {
            match a_world(&world, &layout, stored) {
                Ok(found) => several.fetch_add(usize::from(found), Ordering::Relaxed),
                Err(error) if refused(&world, &error) => 0,
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            };
            Ok(())
        });
        done.unwrap_or_else(|e| panic!("{e}"));
        let several = several.into_inner();
        assert!(several >= least, "{several} of {cases} worlds told sets apart");
    }
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
