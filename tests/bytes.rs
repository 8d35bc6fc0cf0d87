//! The same pings, cases and rule give the same bytes.

use crate::support::Sandbox;
use crate::world_files::{mixed, save};
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use parquet::arrow::ArrowWriter;
use std::path::{Path, PathBuf};

const ANSWERS: [&str; 5] =
    ["candidates.parquet", "candidates.csv", "exposures.parquet", "encounters.parquet", "cases.parquet"];

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/office")
}

/// A sandbox with the sample's job, and its scans in these files.
fn office(scans: &[RecordBatch]) -> Sandbox {
    let sandbox = Sandbox::new();
    for name in ["job.toml", "cases.csv"] {
        std::fs::copy(sample().join(name), sandbox.path(name)).expect("the sample");
    }
    std::fs::create_dir(sandbox.path("scans.parquet")).expect("a folder in the file's place");
    for (number, batch) in scans.iter().enumerate() {
        let path = sandbox.path(&format!("scans.parquet/{number}.parquet"));
        let file = std::fs::File::create(path).expect("a file");
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
        writer.write(batch).expect("rows");
        writer.close().expect("a footer");
    }
    sandbox
}

fn answer(sandbox: &Sandbox, flags: &[&str]) -> Vec<Vec<u8>> {
    let mut args =
        vec!["run", "job.toml", "--out", "out", "--force", "--encounters", "all", "--progress", "none"];
    args.extend(flags);
    sandbox.copresence(&args).succeeds();
    ANSWERS.iter().map(|name| std::fs::read(sandbox.path("out").join(name)).expect(name)).collect()
}

#[test]
fn threads_batches_rows_and_files_leave_no_trace() {
    let scans = crate::support::read(sample().join("scans.parquet"));
    let rows = scans.num_rows();
    let shuffled: Vec<u32> = {
        let mut order: Vec<u32> = (0..rows as u32).collect();
        order.sort_by_key(|row| (u64::from(*row) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16);
        order
    };
    let mixed = take_record_batch(&scans, &UInt32Array::from(shuffled)).expect("rows");
    let whole = office(std::slice::from_ref(&scans));
    let parts = office(&[mixed.slice(5_000, rows - 5_000), mixed.slice(0, 5_000)]);
    let expected = answer(&whole, &["--threads", "1"]);
    assert!(expected.iter().all(|bytes| !bytes.is_empty()));
    for (sandbox, flags) in [
        (&whole, ["--threads", "4", "--batch-rows", "65536"]),
        (&whole, ["--threads", "7", "--batch-rows", "100"]),
        (&whole, ["--threads", "2", "--memory", "64MiB"]),
        (&parts, ["--threads", "1", "--batch-rows", "1"]),
        (&parts, ["--threads", "4", "--batch-rows", "1000"]),
    ] {
        for (name, (found, expected)) in ANSWERS.iter().zip(answer(sandbox, &flags).iter().zip(&expected)) {
            assert!(found == expected, "{name} differs with {flags:?}");
        }
    }
}

/// All pings of a made-up city, in the order of its files.
fn pings(sandbox: &Sandbox, city: &str) -> RecordBatch {
    let mut files: Vec<PathBuf> = std::fs::read_dir(sandbox.path(&format!("{city}/pings")))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let batches: Vec<RecordBatch> = files.iter().map(crate::support::read).collect();
    concat_batches(&batches[0].schema(), &batches).expect("files of one schema")
}

/// The same city with these files of pings, in row groups of 400.
fn other_files(sandbox: &Sandbox, city: &str, name: &str, files: &[RecordBatch]) {
    std::fs::create_dir_all(sandbox.path(&format!("{name}/pings"))).expect("a folder");
    for file in ["job.toml", "cases.parquet"] {
        let to = sandbox.path(&format!("{name}/{file}"));
        std::fs::copy(sandbox.path(&format!("{city}/{file}")), to).expect("a file of the city");
    }
    for (number, batch) in files.iter().enumerate() {
        save(&sandbox.path(&format!("{name}/pings/{number:02}.parquet")), batch, 400);
    }
}

/// Files of consecutive rows.
fn runs(batch: &RecordBatch, files: usize) -> Vec<RecordBatch> {
    let step = batch.num_rows().div_ceil(files);
    (0..files).map(|n| batch.slice(n * step, step.min(batch.num_rows() - n * step))).collect()
}

/// Files of rows from all over, each in the order of the batch.
fn cards(batch: &RecordBatch, files: usize) -> Vec<RecordBatch> {
    let dealt =
        |file| (0..batch.num_rows() as u32).filter(move |row| mixed(*row as usize, 5) % files == file);
    let rows = |file| UInt32Array::from_iter_values(dealt(file));
    (0..files).map(|file| take_record_batch(batch, &rows(file)).expect("rows")).collect()
}

/// The way of the one source through the run.
fn way(sandbox: &Sandbox) -> String {
    let manifest = std::fs::read_to_string(sandbox.path("out/manifest.json")).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    let path = &manifest["counts"]["paths"][0];
    format!("{} {}", path["order"].as_str().expect("an order"), path["broken_promise"])
}

fn city_answer(sandbox: &Sandbox, city: &str, set: &[&str], flags: &[&str]) -> Vec<Vec<u8>> {
    let job = format!("{city}/job.toml");
    let mut args = vec!["run", &job, "--out", "out", "--force", "--encounters", "all", "--progress", "none"];
    set.iter().for_each(|set| args.extend(["--set", set]));
    args.extend(flags);
    sandbox.copresence(&args).succeeds();
    ANSWERS.iter().map(|name| std::fs::read(sandbox.path("out").join(name)).expect(name)).collect()
}

/// A city in three orders, and cut into other files; each takes its own way.
#[test]
fn orders_of_rows_and_ways_leave_no_trace() {
    let sandbox = Sandbox::new();
    for order in ["time", "person", "none"] {
        let flags = ["--rows", "30000", "--persons", "500", "--cases", "40", "--ids", "text"];
        let args = [&["synth", order, "--order", order, "--progress", "none"][..], &flags].concat();
        sandbox.copresence(&args).succeeds();
    }
    let (by_time, by_person) = (pings(&sandbox, "time"), pings(&sandbox, "person"));
    let shuffled = pings(&sandbox, "none");
    other_files(&sandbox, "time", "time-runs", &runs(&by_time, 23));
    other_files(&sandbox, "time", "time-cards", &cards(&by_time, 23));
    other_files(&sandbox, "time", "person-runs", &runs(&by_person, 23));
    other_files(&sandbox, "time", "person-cards", &cards(&by_person, 7));
    other_files(&sandbox, "time", "one", &[shuffled]);
    // A person too late, in a row group after the first of a file that has many.
    let mut rows: Vec<u32> = (0..by_person.num_rows() as u32).collect();
    rows.swap(16_010, 16_390);
    let broken = take_record_batch(&by_person, &UInt32Array::from(rows.clone())).expect("rows");
    other_files(&sandbox, "time", "person-broken", &[broken]);
    let broken = take_record_batch(&by_time, &UInt32Array::from(rows)).expect("rows");
    other_files(&sandbox, "time", "time-broken", &[broken]);
    let places = [
        &["rule.encounter.place=grid", "rule.encounter.square_m=800"][..],
        &["rule.encounter.place=cell", "rule.encounter.resolution=8"],
        &[
            "rule.encounter.place=distance",
            "rule.encounter.distance_m_max=300",
            "rule.encounter.lag_s_max=600",
        ],
    ];
    for set in places {
        let expected = city_answer(&sandbox, "none", set, &["--threads", "1"]);
        let encounters = crate::support::read(sandbox.path("out/encounters.parquet")).num_rows();
        assert!(encounters > 1_000, "{encounters} encounters");
        for (city, expected_way, flags) in [
            ("time", "time null", ["--threads", "1", "--batch-rows", "8192"]),
            ("time", "time null", ["--threads", "7", "--batch-rows", "100"]),
            ("time", "time null", ["--threads", "2", "--memory", "64MiB"]),
            ("person", "person null", ["--threads", "1", "--batch-rows", "7"]),
            ("person", "person null", ["--threads", "7", "--batch-rows", "8192"]),
            ("person", "person null", ["--threads", "2", "--memory", "64MiB"]),
            ("none", "none null", ["--threads", "7", "--batch-rows", "100"]),
            ("none", "none null", ["--threads", "2", "--memory", "64MiB"]),
            ("time-runs", "time null", ["--threads", "2", "--batch-rows", "100"]),
            ("time-cards", "time null", ["--threads", "7", "--batch-rows", "7"]),
            ("person-runs", "person null", ["--threads", "2", "--batch-rows", "100"]),
            ("person-cards", "none null", ["--threads", "7", "--batch-rows", "1000"]),
            ("one", "none null", ["--threads", "2", "--batch-rows", "7"]),
            ("person-broken", "none \"person\"", ["--threads", "2", "--batch-rows", "100"]),
            ("time-broken", "none \"time\"", ["--threads", "2", "--batch-rows", "100"]),
        ] {
            let found = city_answer(&sandbox, city, set, &flags);
            assert_eq!(way(&sandbox), expected_way, "{city}");
            for (name, (found, expected)) in ANSWERS.iter().zip(found.iter().zip(&expected)) {
                assert!(found == expected, "{name} of {city} differs with {flags:?}");
            }
        }
    }
}

fn counts(sandbox: &Sandbox) -> serde_json::Value {
    let manifest = std::fs::read_to_string(sandbox.path("out/manifest.json")).expect("a manifest");
    serde_json::from_str::<serde_json::Value>(&manifest).expect("JSON")["counts"].clone()
}

/// Far more encounters than the least memory holds: they go to disk, sorted run by run.
#[test]
fn an_answer_larger_than_memory_leaves_no_trace() {
    let sandbox = Sandbox::new();
    let set = ["rule.encounter.place=grid", "rule.encounter.square_m=2000", "rule.candidate.direct_s_min=1"];
    for ids in ["integer", "text"] {
        let flags = ["--rows", "200000", "--persons", "2000", "--cases", "400", "--ids", ids, "--force"];
        let args = [&["synth", "city", "--order", "person", "--progress", "none"][..], &flags].concat();
        sandbox.copresence(&args).succeeds();
        let expected = city_answer(&sandbox, "city", &set, &["--memory", "4GiB"]);
        assert_eq!(counts(&sandbox)["spilled_files"], 0);
        let encounters = crate::support::read(sandbox.path("out/encounters.parquet")).num_rows();
        assert!(encounters > 300_000, "{encounters} encounters: more than a row group");
        for threads in ["1", "7"] {
            let found = city_answer(&sandbox, "city", &set, &["--memory", "64MiB", "--threads", threads]);
            let spilled = counts(&sandbox)["spilled_files"].as_u64().expect("a count");
            assert!(spilled > 3, "{spilled} files");
            assert!(!sandbox.path("out/spill").exists(), "what was spilled is gone");
            for (name, (found, expected)) in ANSWERS.iter().zip(found.iter().zip(&expected)) {
                assert!(found == expected, "{name} differs, {threads} threads, {ids} ids");
            }
        }
    }
}

/// The cases' own pings have to fit the memory; else the run ends before the system ends it.
#[test]
fn more_cases_than_memory_is_an_error() {
    let sandbox = Sandbox::new();
    for order in ["time", "person", "none"] {
        let args =
            ["synth", order, "--order", order, "--rows", "400000", "--persons", "500", "--cases", "500"];
        sandbox.copresence(&[&args[..], &["--progress", "none"]].concat()).succeeds();
        let job = format!("{order}/job.toml");
        let run = |memory| sandbox.copresence(&["run", &job, "--out", "out", "--memory", memory, "--force"]);
        let said = run("64MiB").fails_with(1).stderr_has("at most half of --memory, 32 MiB");
        said.stderr_has("give --memory").stderr_has("of 500 cases");
    }
}
