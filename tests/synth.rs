//! The made-up city: an order is only an order, threads change nothing, and its pings are what it promises.

use crate::support::{Run, Sandbox, column, i64s, read, text, times};
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float32Type, Float64Type, UInt64Type};
use copresence::synth::{AS_OF, BOUNDS, VERSION};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::HashSet;
use std::path::PathBuf;

const ORDERS: [&str; 3] = ["time", "person", "none"];
const DAY_MS: i64 = 86_400_000;

fn synth(sandbox: &Sandbox, out: &str, flags: &str) -> Run {
    let mut args = vec!["synth", out, "--progress", "none"];
    args.extend(flags.split_whitespace());
    sandbox.copresence(&args)
}

/// The files of pings, in their order.
fn parts(sandbox: &Sandbox, out: &str) -> Vec<PathBuf> {
    let folder = sandbox.path(out).join("pings");
    let mut parts: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder of pings").map(|e| e.expect("an entry").path()).collect();
    parts.sort();
    parts
}

/// All pings, file after file.
fn pings(sandbox: &Sandbox, out: &str) -> RecordBatch {
    let batches: Vec<RecordBatch> = parts(sandbox, out).iter().map(read).collect();
    concat_batches(&batches[0].schema(), &batches).expect("batches of one schema")
}

type Ping = (u64, i64, u64, u64, u32);

fn rows(batch: &RecordBatch) -> Vec<Ping> {
    let ids = column(batch, "person_id").as_primitive::<UInt64Type>().values();
    let (times, lats, lons) = (times(batch, "time"), degrees(batch, "lat"), degrees(batch, "lon"));
    let accuracies = column(batch, "accuracy_m").as_primitive::<Float32Type>().values();
    (0..batch.num_rows())
        .map(|n| (ids[n], times[n], lats[n].to_bits(), lons[n].to_bits(), accuracies[n].to_bits()))
        .collect()
}

fn degrees(batch: &RecordBatch, name: &str) -> Vec<f64> {
    column(batch, name).as_primitive::<Float64Type>().values().to_vec()
}

#[test]
fn any_number_of_threads_writes_the_same_bytes() {
    let sandbox = Sandbox::new();
    for flags in ["--order time", "--order person", "--order none", "--order time --ids text"] {
        for threads in ["1", "2", "3"] {
            let flags = format!("--rows 30_011 --days 2 {flags} --threads {threads}");
            synth(&sandbox, threads, &flags).succeeds();
        }
        let bytes = |threads: &str| -> Vec<(String, Vec<u8>)> {
            let mut files = parts(&sandbox, threads);
            files.extend(["cases.parquet", "job.toml"].map(|name| sandbox.path(threads).join(name)));
            files
                .iter()
                .map(|f| {
                    (f.file_name().expect("a name").display().to_string(), std::fs::read(f).expect("bytes"))
                })
                .collect()
        };
        assert_eq!(bytes("1").len(), 32 + 2);
        assert!(bytes("1") == bytes("2") && bytes("1") == bytes("3"), "{flags}");
        for threads in ["1", "2", "3"] {
            std::fs::remove_dir_all(sandbox.path(threads)).expect("an output to remove");
        }
    }
}

#[test]
fn an_order_is_only_an_order() {
    let sandbox = Sandbox::new();
    // One with pings left over, one with as many for each.
    for (run, flags) in ["--rows 30011 --persons 77 --days 2", "--rows 2e4 --seed 9"].into_iter().enumerate()
    {
        let written = ORDERS.map(|order| {
            let out = format!("{order}-{run}");
            synth(&sandbox, &out, &format!("{flags} --order {order}")).succeeds();
            rows(&pings(&sandbox, &out))
        });
        assert!(written[0].is_sorted_by_key(|p| (p.1, p.0)), "by time, then person, over all files");
        assert!(written[1].is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1)), "by person, then time");
        assert!(!written[2].is_sorted_by_key(|p| p.0) && !written[2].is_sorted_by_key(|p| p.1));
        let sorted = written.map(|mut rows| {
            rows.sort_unstable();
            rows
        });
        assert!(sorted[0] == sorted[1] && sorted[1] == sorted[2], "{flags}");
        assert_eq!(sorted[0].len(), [30_011, 20_000][run]);
    }
}

#[test]
fn pings_are_what_the_city_promises() {
    let sandbox = Sandbox::new();
    synth(&sandbox, "city", "--rows 1e5 --order person").succeeds();
    let batch = pings(&sandbox, "city");
    let rows = rows(&batch);
    assert_eq!(rows.iter().map(|p| p.0).collect::<HashSet<u64>>().len(), 500);
    let mut gaps_ms: Vec<i64> =
        rows.windows(2).filter(|w| w[0].0 == w[1].0).map(|w| w[1].1 - w[0].1).collect();
    gaps_ms.sort_unstable();
    assert!(gaps_ms[0] >= 30_000 && gaps_ms[gaps_ms.len() - 1] < 2_450_000);
    let mean_s = gaps_ms.iter().sum::<i64>() as f64 / gaps_ms.len() as f64 / 1_000.0;
    assert!((428.0..436.0).contains(&mean_s), "a day of 86,400 s over 200 pings is 432 s: {mean_s}");
    let long = gaps_ms.iter().filter(|ms| **ms > 900_000).count() as f64 / gaps_ms.len() as f64;
    assert!((0.07..0.10).contains(&long), "share of gaps over 15 minutes: {long}");
    assert!(rows.iter().all(|p| (AS_OF - DAY_MS..AS_OF).contains(&p.1)));

    let (lats, lons) = (degrees(&batch, "lat"), degrees(&batch, "lon"));
    assert!(lats.iter().all(|lat| (BOUNDS.lat_min..BOUNDS.lat_max).contains(lat)));
    assert!(lons.iter().all(|lon| (BOUNDS.lon_min..BOUNDS.lon_max).contains(lon)));
    let written = |v: &f64| format!("{v:.6}").parse::<f64>().expect("a number") == *v;
    assert!(lats.iter().chain(&lons).all(written), "six decimals");
    let mut accuracies = column(&batch, "accuracy_m").as_primitive::<Float32Type>().values().to_vec();
    accuracies.sort_by(f32::total_cmp);
    assert!(accuracies[0] >= 3.0 && accuracies[accuracies.len() - 1] <= 80.0);
    let median = accuracies[accuracies.len() / 2];
    assert!((11.9..12.5).contains(&median), "{median}");

    // At three at night nearly everyone is at home: two pings then are as far apart as their errors.
    let night = |p: &&Ping| (p.1 - (AS_OF - DAY_MS)) / 3_600_000 < 4;
    let asleep: Vec<&Ping> = rows.iter().filter(night).collect();
    let near = |w: &&[&Ping]| (f64::from_bits(w[0].2) - f64::from_bits(w[1].2)).abs() < 0.001;
    let same: Vec<&[&Ping]> = asleep.windows(2).filter(|w| w[0].0 == w[1].0).collect();
    assert!(same.iter().filter(|w| near(w)).count() as f64 > 0.99 * same.len() as f64);
}

#[test]
fn text_ids_are_36_letters_in_the_order_of_the_numbers() {
    let sandbox = Sandbox::new();
    synth(&sandbox, "integer", "--rows 2e4 --order person").succeeds();
    synth(&sandbox, "text", "--rows 2e4 --order person --ids text").succeeds();
    let texts = text(&pings(&sandbox, "text"), "person_id");
    assert!(texts.iter().all(|id| id.len() == 36) && texts.is_sorted());
    let batch = pings(&sandbox, "integer");
    let numbers = column(&batch, "person_id").as_primitive::<UInt64Type>().values();
    let pairs: HashSet<(u64, &str)> = numbers.iter().copied().zip(texts.iter().map(String::as_str)).collect();
    let distinct = |n: usize| pairs.len() == n && texts.iter().collect::<HashSet<_>>().len() == n;
    assert!(distinct(100), "one text for each number");
    assert_eq!(times(&pings(&sandbox, "text"), "time"), times(&batch, "time"));
    let cases = read(sandbox.path("text/cases.parquet"));
    assert_eq!(cases.num_rows(), 10);
    assert!(text(&cases, "person_id").iter().all(|id| texts.contains(id)));
}

#[test]
fn more_days_change_none() {
    let sandbox = Sandbox::new();
    synth(&sandbox, "one", "--rows 10000 --persons 50 --days 1 --order time").succeeds();
    synth(&sandbox, "three", "--rows 30000 --persons 50 --days 3 --order time").succeeds();
    let (one, three) = (rows(&pings(&sandbox, "one")), rows(&pings(&sandbox, "three")));
    assert!(three[20_000..] == one[..]);
    assert!(three[19_999].1 < AS_OF - DAY_MS && three[0].1 >= AS_OF - 3 * DAY_MS);
}

#[test]
fn its_job_runs_and_finds_candidates() {
    let sandbox = Sandbox::new();
    let exposures = ORDERS.map(|order| {
        synth(&sandbox, order, &format!("--rows 1e5 --cases 50 --order {order}"))
            .succeeds()
            .stdout_has("rows       100,000, ")
            .stdout_has(&format!("copresence run {order}/job.toml"));
        sandbox
            .copresence(&["run", &format!("{order}/job.toml"), "--out", &format!("answer-{order}")])
            .succeeds()
            .stdout_has("rows       100,000 read, 0 rejected, 100,000 in the lookback")
            .stdout_has("cases      50: 50 with pings, 0 without");
        std::fs::read(sandbox.path(&format!("answer-{order}/exposures.parquet"))).expect("exposures")
    });
    assert!(exposures[0] == exposures[1] && exposures[1] == exposures[2]);
    let candidates = read(sandbox.path("answer-time/candidates.parquet"));
    let direct_s = i64s(&candidates, "direct_s");
    assert!(direct_s.len() > 5 && direct_s.iter().all(|s| *s >= 900), "{direct_s:?}");
    let squares =
        "rule.encounter.place=grid --set rule.encounter.square_m=800 --set rule.candidate.direct_s_min=600";
    let mut args = vec!["run", "time/job.toml", "--out", "squares", "--set"];
    args.extend(squares.split(' '));
    sandbox.copresence(&args).succeeds();
    assert!(read(sandbox.path("squares/candidates.parquet")).num_rows() > direct_s.len());
}

#[test]
fn files_tell_their_version_and_order() {
    let sandbox = Sandbox::new();
    for (order, sorted_by) in [("time", Some([1, 0])), ("person", Some([0, 1])), ("none", None)] {
        synth(&sandbox, order, &format!("--rows 2e4 --order {order}")).succeeds();
        let file = std::fs::File::open(&parts(&sandbox, order)[3]).expect("a part");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a footer");
        let metadata = reader.metadata().file_metadata().key_value_metadata().expect("metadata");
        let value = |key: &str| metadata.iter().find(|m| m.key == key).and_then(|m| m.value.clone());
        assert_eq!(value("copresence.synth_version"), Some(VERSION.to_string()));
        let flags = "--rows 20000 --persons 100 --days 1 --cases 10 --seed 1 --order";
        assert_eq!(value("copresence.synth"), Some(format!("{flags} {order} --ids integer")));
        let group = reader.metadata().row_group(0);
        let sorting = group.sorting_columns().map(|by| by.iter().map(|c| c.column_idx).collect::<Vec<_>>());
        assert_eq!(sorting, sorted_by.map(|by| by.to_vec()));
        assert!(group.columns().iter().all(|c| c.statistics().is_some_and(|s| s.min_bytes_opt().is_some())));
        let job = std::fs::read_to_string(sandbox.path(order).join("job.toml")).expect("the job");
        assert!(job.starts_with(&format!("# Written by copresence synth {VERSION}: --rows 20000 ")), "{job}");
    }
}

#[test]
fn an_output_is_replaced_only_where_it_is_a_city() {
    let sandbox = Sandbox::new();
    synth(&sandbox, "new/city", "--rows 2e4 --seed 1").succeeds();
    let first = pings(&sandbox, "new/city");
    synth(&sandbox, "new/city", "--rows 2e4 --seed 2").fails_with(1).stderr_has("--force");
    assert!(pings(&sandbox, "new/city") == first);
    synth(&sandbox, "new/city", "--rows 2e4 --seed 2 --force").succeeds();
    let second = pings(&sandbox, "new/city");
    assert!(second != first && second.num_rows() == first.num_rows());
    sandbox.write("new/city/notes.txt", "mine");
    synth(&sandbox, "new/city", "--rows 2e4 --force").fails_with(1).stderr_has("no city of copresence synth");
    assert!(pings(&sandbox, "new/city") == second);
    sandbox.write("mine/notes.txt", "mine");
    synth(&sandbox, "mine", "--rows 2e4 --force").fails_with(1).stderr_has("remove it yourself");
    // An answer is not a city, nor a city an answer.
    std::fs::remove_file(sandbox.path("new/city/notes.txt")).expect("a file");
    let run = |force: &[&str]| {
        let mut args = vec!["run", "new/city/job.toml", "--progress", "none", "--out", "answer"];
        args.extend(force);
        sandbox.copresence(&args)
    };
    run(&[]).succeeds();
    synth(&sandbox, "answer", "--rows 2e4 --force").fails_with(1);
    std::fs::rename(sandbox.path("new/city"), sandbox.path("city")).expect("a rename");
    sandbox
        .copresence(&["run", "city/job.toml", "--out", "city", "--force"])
        .fails_with(1)
        .stderr_has("no output of copresence");
}

#[test]
fn impossible_cities_are_refused() {
    let sandbox = Sandbox::new();
    for (flags, named) in [
        ("--rows 0", "--rows"),
        ("--rows 1.5", "1e8"),
        ("--rows many", "1e8"),
        ("--rows 1e13", "--rows"),
        ("--rows 100 --persons 101", "--rows"),
        ("--rows 1e6 --persons 10", "20000"),
        ("--rows 2e4 --cases 101", "1 to 100"),
        ("--rows 2e4 --days 4000", "--days"),
        ("--order up", "time, person, none"),
        ("--threads 0", "--threads"),
    ] {
        synth(&sandbox, "city", flags).fails_with(2).stderr_has(named);
        assert!(!sandbox.path("city").exists());
    }
    synth(&sandbox, "city", "--rows 1 --order none").succeeds();
    assert_eq!(pings(&sandbox, "city").num_rows(), 1);
    sandbox.copresence(&["synth", "--help"]).succeeds().stdout_has("copresence run town/job.toml");
}

#[cfg(unix)]
#[test]
fn a_signal_leaves_nothing() {
    let sandbox = Sandbox::new();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_copresence"))
        .args(["synth", "deep/city", "--rows", "1e9", "--progress", "json"])
        .current_dir(sandbox.path(""))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(sandbox.path("deep").is_dir(), "it has begun");
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
    assert_eq!(child.wait().expect("the program ends").code(), Some(130));
    assert!(!sandbox.path("deep").exists(), "nothing is left");
}
