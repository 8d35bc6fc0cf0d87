//! Controls from outside: the counts are those of a run over moved pings made by hand, and nothing else changes.

use crate::oracle::{self, Case, Source, World};
use crate::support::{Sandbox, i64s, read, text};
use crate::world_files::save;
use crate::world_runs::{OnDisk, refused};
use crate::worlds::{Layout, PersonAs, RowOrder, layouts, worlds};
use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array,
};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, TimestampMillisecondType, UInt64Type};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// 2022-03-22T00:00:00+08:00, where the made-up days end.
const AS_OF: i64 = 1_647_878_400_000;
const DAY_MS: i64 = 86_400_000;
const FOUR_DAYS: [&str; 2] = ["--set", "rule.lookback_days=4"];

/// A made-up city of four days.
fn city(flags: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new();
    let synth = "synth city --rows 160000 --persons 200 --days 4 --cases 7 --progress none";
    let args: Vec<&str> = synth.split(' ').chain(flags.iter().copied()).collect();
    sandbox.copresence(&args).succeeds();
    for name in ["job.toml", "cases.parquet", "pings"] {
        std::fs::rename(sandbox.path("city").join(name), sandbox.path(name)).expect("a rename");
    }
    sandbox
}

fn run(sandbox: &Sandbox, out: &str, flags: &[&[&str]]) -> (Value, String) {
    let args = ["run", "job.toml", "--out", out, "--force", "--progress", "none", "--encounters", "all"];
    let said = sandbox.copresence(&[&args[..], &flags.concat()].concat()).succeeds();
    let text = std::fs::read_to_string(sandbox.path(out).join("manifest.json")).expect("a manifest");
    (serde_json::from_str(&text).expect("JSON"), said.stdout + &said.stderr)
}

/// Pseudonyms as text.
fn persons(column: &ArrayRef) -> Vec<String> {
    match column.data_type() {
        DataType::UInt64 => {
            column.as_primitive::<UInt64Type>().values().iter().map(ToString::to_string).collect()
        }
        _ => column.as_string::<i32>().iter().map(|id| id.expect("a person").to_string()).collect(),
    }
}

fn pings(sandbox: &Sandbox) -> RecordBatch {
    let entries = std::fs::read_dir(sandbox.path("pings")).expect("a folder");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let batches: Vec<RecordBatch> = paths.iter().map(read).collect();
    concat_batches(&batches[0].schema(), &batches).expect("pings of one kind")
}

/// Moves the pings of the persons who are drawn by hand, runs the job with these and with their true days as cases, and takes
/// the pairs apart.
fn by_hand(sandbox: &Sandbox, count: usize, flags: &[&str], least: &[(&str, i64)]) -> Value {
    let all = pings(sandbox);
    let whose = persons(all.column(0));
    run(sandbox, "proper", &[&FOUR_DAYS, flags]);
    let real = read(sandbox.path("proper/cases.parquet"));
    let instants = |name: &str| -> Vec<i64> {
        let column = arrow::compute::cast(
            real.column_by_name(name).expect(name),
            &DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, Some("UTC".into())),
        );
        column.expect("times").as_primitive::<TimestampMillisecondType>().values().to_vec()
    };
    let (from, to) = (instants("infectious_from"), instants("infectious_to"));
    let cases: BTreeSet<String> =
        persons(read(sandbox.path("cases.parquet")).column_by_name("person_id").expect("persons"))
            .into_iter()
            .collect();
    let lot = |id: &str| Sha256::digest(format!("copresence controls 1: {id}"));
    let others: BTreeSet<&String> = whose.iter().filter(|id| !cases.contains(*id)).collect();
    let mut drawn: Vec<&String> = others.into_iter().collect();
    drawn.sort_by_key(|id| lot(id).to_vec());
    drawn.truncate(count);

    let mut batches = vec![all.clone()];
    let mut table = "case_id,person_id,infectious_from,infectious_to,report_id,authority\n".to_string();
    let stamp = |ms: i64| chrono::DateTime::from_timestamp_millis(ms).expect("a time").to_rfc3339();
    let is_text = *all.column(0).data_type() == DataType::Utf8;
    let moved_id = |n: usize| if is_text { format!("moved-{n}") } else { format!("{}", 1_000_000_000 + n) };
    for (n, id) in drawn.iter().enumerate() {
        let own = whose.iter().map(|other| Some(other == *id)).collect();
        let own = filter_record_batch(&all, &own).expect("rows");
        let times = own.column(1).as_primitive::<TimestampMillisecondType>();
        let start = AS_OF - 4 * DAY_MS;
        let moved = times.values().iter().map(|t| (t - start + 2 * DAY_MS) % (4 * DAY_MS) + start);
        let mut columns = own.columns().to_vec();
        columns[0] = match is_text {
            true => Arc::new(StringArray::from(vec![moved_id(n); own.num_rows()])),
            false => Arc::new(UInt64Array::from(vec![1_000_000_000 + n as u64; own.num_rows()])),
        };
        columns[1] = Arc::new(TimestampMillisecondArray::from_iter_values(moved).with_timezone("UTC"));
        batches.push(RecordBatch::try_new(all.schema(), columns).expect("moved pings"));
        let case = n % from.len();
        let mut row = |name: &str, person: &str, from: i64, to: i64| {
            table += &format!("{name}{n:04},{person},{},{},r,a\n", stamp(from), stamp(to));
        };
        row("moved", &moved_id(n), from[case], to[case]);
        row("true", id, AS_OF - 4 * DAY_MS, AS_OF);
    }
    std::fs::create_dir_all(sandbox.path("moved")).expect("a folder");
    save(&sandbox.path("moved/all.parquet"), &concat_batches(&all.schema(), &batches).expect("one"), 50_000);
    sandbox.write("moved.csv", &table);
    let own = ["--set", "feeds[0].path=moved", "--set", "cases.path=moved.csv"];
    run(sandbox, "by-hand", &[&FOUR_DAYS, flags, &own]);
    let exposed = read(sandbox.path("by-hand/exposures.parquet"));
    let who = persons(exposed.column_by_name("person_id").expect("person_id"));
    let case_ids = text(&exposed, "case_id");
    let mut rows: BTreeMap<(&str, usize), [Option<usize>; 2]> = BTreeMap::new();
    for (row, (person, case_id)) in who.iter().zip(&case_ids).enumerate() {
        let is_moved = case_id.starts_with("moved");
        let n: usize = case_id.trim_start_matches(char::is_alphabetic).parse().expect("a number");
        rows.entry((person, n)).or_default()[usize::from(!is_moved)] = Some(row);
    }
    let figures: Vec<Vec<i64>> = least.iter().map(|(name, _)| i64s(&exposed, name)).collect();
    let (mut exposures, mut left_out, mut candidates) = (0, 0, BTreeSet::new());
    for ((person, n), [moved, truly]) in rows {
        let is_real = whose.iter().any(|id| id == person) && person != drawn[n].as_str();
        let Some(row) = moved.filter(|_| is_real) else { continue };
        if truly.is_some() {
            left_out += 1;
            continue;
        }
        exposures += 1;
        let passes = figures.iter().zip(least).all(|(figures, (_, least))| figures[row] >= *least);
        if passes && !cases.contains(person) {
            candidates.insert(person);
        }
    }
    serde_json::json!({
        "persons": drawn.len(), "rotated_days": 2, "exposures": exposures, "candidates": candidates.len(),
        "left_out_pairs": left_out,
    })
}

const TABLES: [&str; 6] = [
    "candidates.parquet",
    "candidates.csv",
    "exposures.parquet",
    "encounters.parquet",
    "cases.parquet",
    "rejections.parquet",
];

/// Counts controls; all tables are those of a run without, byte by byte, and nobody is named.
fn counted(sandbox: &Sandbox, count: usize, flags: &[&str]) -> Value {
    let count = count.to_string();
    let (without, _) = run(sandbox, "without", &[&FOUR_DAYS, flags]);
    let (mut with, said) = run(sandbox, "with", &[&FOUR_DAYS, flags, &["--controls", &count]]);
    for name in TABLES {
        let bytes = |out: &str| std::fs::read(sandbox.path(out).join(name)).expect(name);
        assert!(bytes("with") == bytes("without"), "{name}");
    }
    assert_eq!(with["counts"], without["counts"]);
    assert!(without.get("controls").is_none());
    assert!(said.contains("persons on days moved by 2 would make"), "{said}");
    with["controls"].take()
}

#[test]
fn what_habit_alone_makes() {
    let sandbox = city(&[]);
    let near = ["--set", "rule.encounter.distance_m_max=100", "--set", "rule.candidate.direct_s_min=600"];
    let squares = [
        "--set",
        "rule.encounter.place=grid",
        "--set",
        "rule.encounter.square_m=400",
        "--set",
        "rule.encounter.lag_s_max=1200",
        "--set",
        "rule.candidate.direct_s_min=600",
        "--set",
        "rule.candidate.longest_s_min=1500",
    ];
    let expected = by_hand(&sandbox, 40, &near, &[("direct_s", 600)]);
    assert!(
        expected["candidates"].as_u64() > Some(3) && expected["left_out_pairs"].as_u64() > Some(3),
        "{expected}"
    );
    assert_eq!(counted(&sandbox, 40, &near), expected);
    let in_squares = by_hand(&sandbox, 40, &squares, &[("direct_s", 600), ("longest_s", 1_500)]);
    assert_eq!(counted(&sandbox, 40, &squares), in_squares);
    // From a store, and with more than there are.
    sandbox.copresence(&["ingest", "job.toml", "--store", "store", "--progress", "none"]).succeeds();
    for flags in [&near[..], &squares] {
        let stored = [flags, &["--store", "store", "--threads", "3"]].concat();
        assert_eq!(counted(&sandbox, 40, &stored), counted(&sandbox, 40, flags));
    }
    let all = counted(&sandbox, 1_000, &near);
    assert!(all["persons"].as_u64() > Some(150) && all["persons"].as_u64() <= Some(193), "{all}");
    // In any order of rows, whatever the memory; and as texts, which are drawn otherwise.
    for order in ["person", "none"] {
        let ordered = city(&["--order", order]);
        assert_eq!(counted(&ordered, 40, &near), expected);
        assert_eq!(
            counted(&ordered, 40, &[&near[..], &["--memory", "64MiB", "--threads", "1"]].concat()),
            expected
        );
    }
    let texts = city(&["--ids", "text"]);
    assert_eq!(counted(&texts, 40, &near), by_hand(&texts, 40, &near, &[("direct_s", 600)]));
}

#[test]
fn days_that_cannot_be_moved() {
    let sandbox = city(&[]);
    let run = |flags: &[&str]| {
        sandbox.copresence(&[&["run", "job.toml", "--progress", "none", "--force"][..], flags].concat())
    };
    run(&["--controls", "5", "--set", "rule.lookback_days=1.5"]).fails_with(2).stderr_has("--controls");
    run(&["--controls", "0"]).fails_with(2);
    // Who dwells where is asked of them too.
    let resident = ["--set", "rule.candidate.resident_h_min=3", "--set", "rule.candidate.resident_scope=any"];
    let found = counted(&sandbox, 40, &resident);
    assert_eq!(found["persons"], 40);
    assert!(found["candidates"].as_u64() <= counted(&sandbox, 40, &[])["candidates"].as_u64());
}

/// The world in which everybody is also there on other days, as somebody else, and as a case.
fn moved(world: &World) -> (World, Vec<String>) {
    let rule = &world.rule;
    let start = rule.as_of - rule.lookback_ms;
    // Only whole days are moved.
    let whole_ms = rule.lookback_ms / DAY_MS * DAY_MS;
    let (days, first) = (whole_ms / DAY_MS / 2, rule.as_of - whole_ms);
    let pings = || world.feeds.iter().flat_map(|feed| &feed.pings);
    let inside = |t: i64| (start..rule.as_of).contains(&t);
    let cases: BTreeSet<&String> = world.cases.iter().map(|case| &case.person).collect();
    let others: BTreeSet<&String> =
        pings().filter(|p| inside(p.t) && !cases.contains(&p.person)).map(|p| &p.person).collect();
    let mut drawn: Vec<String> = others.into_iter().cloned().collect();
    drawn.sort_by_key(|id| Sha256::digest(format!("copresence controls 1: {id}")).to_vec());
    let mut world = world.clone();
    for feed in &mut world.feeds {
        for n in 0..feed.pings.len() {
            let ping = feed.pings[n].clone();
            let Some(number) = drawn.iter().position(|id| *id == ping.person) else { continue };
            if inside(ping.t) && ping.t >= first {
                let t = (ping.t - first + days * DAY_MS) % whole_ms + first;
                let until = ping.until.map(|until| until + t - ping.t);
                feed.pings.push(oracle::Ping { person: format!("{}", 900 + number), t, until, ..ping });
            }
        }
    }
    let real = std::mem::take(&mut world.cases);
    for (n, id) in drawn.iter().enumerate() {
        let of = &real[n % real.len()];
        let (case_id, person) = (format!("m{n}"), format!("{}", 900 + n));
        world.cases.push(Case { case_id, person, ..of.clone() });
        let (from, to, onset) = (start, rule.as_of, None);
        world.cases.push(Case { case_id: format!("t{n}"), person: id.clone(), from, to, onset });
    }
    world.areas.clear();
    (world, drawn)
}

/// Holds a world's controls against the oracle; says whether there was anything to count.
fn a_world(world: &World, layout: &Layout, stored: bool) -> copresence::error::Result<usize> {
    let on_disk = if stored { OnDisk::stored(world, layout)? } else { OnDisk::raw(world, layout) };
    let mut config = on_disk.config(&[])?;
    config.controls = Some(50);
    let found = on_disk.controls(&config)?.expect("two days");
    let (moved, drawn) = moved(world);
    assert_eq!(found.persons, drawn.len() as u64);
    let exposures = oracle::answer(&moved).exposures;
    let truly: BTreeSet<(&str, &str)> =
        exposures.iter().map(|e| (e.person.as_str(), e.case_id.as_str())).collect();
    let (mut count, mut left_out, mut candidates) = (0, 0, BTreeSet::new());
    let cases: BTreeSet<&String> = world.cases.iter().map(|case| &case.person).collect();
    let rule = &world.rule;
    for e in exposures.iter().filter(|e| e.case_id.starts_with('m')) {
        let number: usize = e.case_id[1..].parse().expect("a number");
        if e.person.len() == 3 || e.person == drawn[number] {
            continue;
        }
        if truly.contains(&(e.person.as_str(), format!("t{number}").as_str())) {
            left_out += 1;
            continue;
        }
        count += 1;
        let reaches = |value: i64, least: Option<i64>| least.is_none_or(|least| value >= least);
        let passes = e.direct_ms >= rule.direct_ms_min
            && reaches(e.confirmed_ms, rule.confirmed_ms_min)
            && reaches(e.longest_ms, rule.longest_ms_min)
            && reaches(e.peak_24h_ms, rule.peak_24h_ms_min)
            && rule.weighing.expected_ms_min.is_none_or(|least| e.expected_ms >= Some(least as f64))
            && rule
                .weighing
                .risk_min
                .is_none_or(|least| e.dose_h.is_some_and(|dose_h| 1.0 - (-0.011 * dose_h).exp() >= least));
        if passes && !cases.contains(&e.person) {
            candidates.insert(e.person.clone());
        }
    }
    assert_eq!((found.exposures, found.left_out_pairs), (count, left_out));
    // Of trips, and of who has to dwell somewhere, more would have to be known.
    let trips = world.feeds.iter().any(|feed| feed.source == Source::Trip);
    if !trips && !rule.across_cases && rule.weighing.resident.is_none() {
        assert_eq!(found.candidates, candidates.len() as u64);
    }
    Ok(usize::from(count > 0) + usize::from(left_out > 0))
}

/// With scans, trips and towers, in whatever order rows come.
#[test]
fn small_worlds() {
    for (stored, cases, least) in [(false, 1_500, 30), (true, 400, 8)] {
        let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
        let counted = AtomicUsize::new(0);
        let done = TestRunner::new(config).run(&(worlds(false), layouts()), |(world, mut layout)| {
            if world.rule.lookback_ms < 2 * DAY_MS {
                return Ok(());
            }
            layout.person = PersonAs::Integer;
            // Most of them in the order of time, which is read in a way of its own.
            if layout.seed % 3 > 0 {
                layout.orders = [RowOrder::Time; 2];
            }
            match a_world(&world, &layout, stored) {
                Ok(found) => counted.fetch_add(found, Ordering::Relaxed),
                Err(error) if refused(&world, &error) => 0,
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            };
            Ok(())
        });
        done.unwrap_or_else(|e| panic!("{e}"));
        let counted = counted.into_inner();
        assert!(counted >= least, "{counted} of {cases} worlds had any to count");
    }
}
