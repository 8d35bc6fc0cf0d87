//! The prepared store from outside: the same bytes as the feeds themselves, whatever happened on the way.

use crate::support::{Sandbox, column, i64s, read, text, times};
use crate::world_files::save;
use arrow::array::{Array, AsArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::UInt64Type;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const ANSWERS: [&str; 6] = [
    "candidates.parquet",
    "candidates.csv",
    "exposures.parquet",
    "encounters.parquet",
    "cases.parquet",
    "rejections.parquet",
];

/// The sample, its scans in a file for each day; the files' names.
pub fn office_by_day() -> (Sandbox, Vec<PathBuf>) {
    let sandbox = Sandbox::new();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/office");
    std::fs::copy(sample.join("cases.csv"), sandbox.path("cases.csv")).expect("the sample");
    let job = std::fs::read_to_string(sample.join("job.toml")).expect("the sample");
    assert!(job.contains("\"scans.parquet\""));
    sandbox.write("job.toml", &job.replace("\"scans.parquet\"", "\"scans/*.parquet\""));
    let scans = read(sample.join("scans.parquet"));
    let mut by_day: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for (row, time) in (0u32..).zip(times(&scans, "time")) {
        by_day.entry(time.div_euclid(86_400_000)).or_default().push(row);
    }
    std::fs::create_dir(sandbox.path("scans")).expect("a folder");
    let mut files = Vec::new();
    for (day, rows) in by_day {
        let path = sandbox.path(&format!("scans/{day}.parquet"));
        save(&path, &take_record_batch(&scans, &UInt32Array::from(rows)).expect("rows"), 500);
        files.push(path);
    }
    assert_eq!(files.len(), 10);
    (sandbox, files)
}

pub fn answer(sandbox: &Sandbox, flags: &[&str]) -> Vec<Vec<u8>> {
    let mut args =
        vec!["run", "job.toml", "--out", "out", "--force", "--encounters", "all", "--progress", "none"];
    args.extend(flags);
    sandbox.copresence(&args).succeeds();
    ANSWERS.iter().map(|name| std::fs::read(sandbox.path("out").join(name)).expect(name)).collect()
}

pub fn ingest<'a>(sandbox: &Sandbox, flags: impl IntoIterator<Item = &'a str>) -> crate::support::Run {
    let mut args = vec!["ingest", "job.toml", "--store", "store", "--progress", "none"];
    args.extend(flags);
    sandbox.copresence(&args)
}

pub fn away(path: &Path) -> PathBuf {
    path.with_extension("away")
}

/// Moves files away, so that they can come night by night.
pub fn hide(files: &[PathBuf]) {
    files.iter().for_each(|path| std::fs::rename(path, away(path)).expect("a rename"));
}

pub fn bring(path: &Path) {
    std::fs::rename(away(path), path).expect("a rename");
}

#[test]
fn nights_in_any_order_give_the_same_bytes() {
    let (sandbox, files) = office_by_day();
    let expected = answer(&sandbox, &[]);
    hide(&files);
    for at in [7, 2, 9, 0, 4, 1, 8, 3, 6, 5] {
        bring(&files[at]);
        let known = [7, 2, 9, 0, 4, 1, 8, 3, 6, 5].iter().position(|n| *n == at).expect("a night");
        ingest(&sandbox, [])
            .succeeds()
            .stdout_has(&format!("files      1 read, {known} known already, 0 replaced"));
    }
    assert_eq!(answer(&sandbox, &["--store", "store"]), expected);
    assert_eq!(answer(&sandbox, &["--store", "store", "--threads", "1", "--memory", "64MiB"]), expected);
    ingest(&sandbox, []).succeeds().stdout_has("0 read, 10 known already").stdout_has("none touched");
    sandbox
        .copresence(&["store", "check", "store"])
        .succeeds()
        .stdout_has("version 10: 10 files whole, 9,184 rows");
    sandbox.copresence(&["store", "list", "store"]).succeeds().stdout_has("venue 2013-06-24: 1,140 rows");
    // The job need not name the feeds any more, and may name the store.
    let job = std::fs::read_to_string(sandbox.path("job.toml")).expect("a job");
    let feeds = job.find("[[feeds]]").expect("feeds")..job.find("[cases]").expect("cases");
    let stored = job.replace(&job[feeds], "").replace("[job]", "[job]\nstore = \"store\"");
    std::fs::remove_dir_all(sandbox.path("scans")).expect("a folder");
    sandbox.write("job.toml", &stored);
    assert_eq!(answer(&sandbox, &[]), expected);
    sandbox.copresence(&["check", "job.toml"]).succeeds().stdout_has("ok");
}

#[test]
fn late_and_corrected_files_take_their_places() {
    let (sandbox, files) = office_by_day();
    let expected = answer(&sandbox, &[]);
    // A day of which half came first, under the same name, and another of which the rest is late, in a file of its own.
    let (corrected, late) = (&files[3], &files[6]);
    hide(&[corrected.clone(), late.clone()]);
    let whole = read(away(corrected));
    save(corrected, &whole.slice(0, whole.num_rows() / 2), 100);
    let whole = read(away(late));
    let (early, rest) = (late.with_file_name("early.parquet"), late.with_file_name("rest.parquet"));
    save(&early, &whole.slice(100, whole.num_rows() - 100), 100);
    ingest(&sandbox, []).succeeds().stdout_has("10 read");
    assert_ne!(answer(&sandbox, &["--store", "store"]), expected);
    save(&rest, &whole.slice(0, 100), 100);
    ingest(&sandbox, [])
        .succeeds()
        .stdout_has("1 read, 10 known already, 0 replaced")
        .stdout_has("venue 2013-07-");
    std::fs::remove_file(corrected).expect("a file");
    bring(corrected);
    ingest(&sandbox, []).fails_with(1).stderr_has("give --replace if it takes the place of the earlier one");
    ingest(&sandbox, ["--replace"]).succeeds().stdout_has("1 read, 10 known already, 1 replaced");
    assert_eq!(answer(&sandbox, &["--store", "store"]), expected);
    sandbox.copresence(&["store", "check", "store"]).succeeds().stdout_has("9,184 rows");
}

pub fn parquet_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(parquet_below(&path));
        } else if path.extension().is_some_and(|e| e == "parquet") {
            found.push(path);
        }
    }
    found
}

#[test]
fn readers_keep_what_they_opened_and_writers_exclude_each_other() {
    let (sandbox, files) = office_by_day();
    hide(&files[9..]);
    ingest(&sandbox, []).succeeds();
    let old: Vec<PathBuf> = parquet_below(&sandbox.path("store"));
    let reader = copresence::io::store::Store::open(&sandbox.path("store")).expect("a store");
    // A late row makes a day anew; the file of before stays while somebody reads.
    let whole = read(&files[0]);
    save(&sandbox.path("scans/late.parquet"), &whole.slice(0, 3), 3);
    ingest(&sandbox, []).succeeds();
    assert!(old.iter().all(|path| path.exists()));
    assert_eq!(reader.catalogue.version, 1);
    drop(reader);
    bring(&files[9]);
    ingest(&sandbox, []).succeeds();
    assert_eq!(old.iter().filter(|path| !path.exists()).count(), 1 + 3);
    let writer =
        copresence::io::store::Writer::open(&sandbox.path("store"), "Europe/Paris").expect("a store");
    ingest(&sandbox, []).fails_with(1).stderr_has("another program that is changing it");
    assert!(!answer(&sandbox, &["--store", "store"]).is_empty());
    drop(writer);
    ingest(&sandbox, []).succeeds();
}

#[test]
fn what_is_no_store_or_no_whole_one_is_said() {
    let (sandbox, _files) = office_by_day();
    sandbox.copresence(&["ingest", "job.toml"]).fails_with(2).stderr_has("add --store DIR");
    sandbox
        .copresence(&["run", "job.toml", "--store", "nowhere"])
        .fails_with(1)
        .stderr_has("a prepared store");
    ingest(&sandbox, ["--set", "job.time_zone=Asia/Shanghai"]).succeeds();
    ingest(&sandbox, []).fails_with(2).stderr_has("Asia/Shanghai, by whose days the store is laid out");
    sandbox.write("things/other.txt", "other");
    let other = ["ingest", "job.toml", "--store", "things"];
    sandbox.copresence(&other).fails_with(1).stderr_has("a folder with other things in it");
    assert_eq!(std::fs::read_to_string(sandbox.path("things/other.txt")).expect("it stays"), "other");
    let spoilt = parquet_below(&sandbox.path("store")).remove(0);
    let mut bytes = std::fs::read(&spoilt).expect("a file");
    bytes[200] ^= 1;
    std::fs::write(&spoilt, bytes).expect("a file");
    let name = spoilt.file_name().expect("a name").to_string_lossy().into_owned();
    sandbox
        .copresence(&["store", "check", "store"])
        .fails_with(1)
        .stderr_has(&name)
        .stderr_has("the file of digest");
    std::fs::remove_file(&spoilt).expect("a file");
    let zone = "job.time_zone=Asia/Shanghai";
    let run = sandbox.copresence(&["run", "job.toml", "--store", "store", "--out", "out", "--set", zone]);
    run.fails_with(1).stderr_has("a file that the store's catalogue names");
}

#[test]
fn rows_are_kept_as_they_were_with_their_place_and_their_next() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "cases.csv",
        "case_id,person_id,report_id,authority,infectious_from\nc,b,r,a,2022-03-01T00:00:00Z\n",
    );
    // Three pings of a, two at one instant, one beyond midnight; b has none after it; one row is no position.
    sandbox.write_parquet(
        "pings.parquet",
        vec![
            ("person_id", crate::support::text_array(["a", "b", "a", "a", "a", "a"])),
            (
                "time",
                crate::support::time_array([
                    1_647_860_400_000,
                    1_647_860_460_000,
                    1_647_860_500_000,
                    1_647_860_500_000,
                    1_647_907_200_000,
                    1_647_860_600_000,
                ]),
            ),
            (
                "lat",
                std::sync::Arc::new(arrow::array::Float64Array::from(vec![
                    34.75, 34.75, 34.76, 34.77, 34.75, 95.0,
                ])),
            ),
            ("lon", std::sync::Arc::new(arrow::array::Float64Array::from(vec![113.68; 6]))),
        ],
    );
    sandbox.write(
        "job.toml",
        "[job]\npurpose = \"test\"\nas_of = \"2022-03-22T00:00:00Z\"\nrejected_share_max = 1\n[[feeds]]\nsource = \"gps\"\n\
         path = \"pings.parquet\"\ndatum = \"gcj02\"\n[cases]\npath = \"cases.csv\"\n[rule]\nname = \"r\"\nversion = \"1\"\n",
    );
    ingest(&sandbox, [])
        .succeeds()
        .stdout_has("6 read, 5 of them usable")
        .stdout_has("gps 2022-03-21, gps 2022-03-22");
    let file = parquet_below(&sandbox.path("store/source=gps/day=2022-03-21")).into_iter().next();
    let rows = read(file.expect("a day"));
    let nexts = column(&rows, "next_time");
    let next_of: BTreeMap<(String, i64), Option<i64>> = text(&rows, "person_id")
        .into_iter()
        .zip(times(&rows, "time"))
        .zip((0..rows.num_rows()).map(|row| {
            let nexts = nexts.as_primitive::<arrow::datatypes::TimestampMillisecondType>();
            (!nexts.is_null(row)).then(|| nexts.value(row))
        }))
        .collect();
    let expected = [
        (("a".to_string(), 1_647_860_400_000), Some(1_647_860_500_000)),
        (("a".to_string(), 1_647_860_500_000), None),
        (("b".to_string(), 1_647_860_460_000), None),
    ];
    assert_eq!(next_of, BTreeMap::from(expected));
    // The Chinese offset is gone: some hundred metres here.
    let lats = column(&rows, "lat").as_primitive::<arrow::datatypes::Float64Type>();
    assert!(lats.values().iter().all(|lat| (lat - 34.76).abs() < 0.02 && (lat - 34.75).abs() > 1e-4));
    let cells = column(&rows, "cell").as_primitive::<UInt64Type>();
    assert!(cells.values().is_sorted() && cells.values().iter().all(|cell| cell >> 52 & 15 == 10));
    let [raw, stored] = [&[][..], &["--store", "store"][..]].map(|flags| answer(&sandbox, flags));
    assert_eq!(raw, stored);
}

#[test]
fn the_same_bytes_under_two_names_are_one_file_until_one_changes() {
    let (sandbox, files) = office_by_day();
    let expected = answer(&sandbox, &[]);
    let twin = files[2].with_file_name("twin.parquet");
    std::fs::copy(&files[2], &twin).expect("a copy");
    ingest(&sandbox, []).succeeds().stdout_has("10 read, 1 known already");
    assert_eq!(answer(&sandbox, &["--store", "store"]), expected);
    ingest(&sandbox, []).succeeds().stdout_has("0 read, 11 known already").stdout_has("version 1");
    // One of them was a mistake: its rows stay under the other name.
    let whole = read(&files[2]);
    save(&twin, &whole.slice(0, 1), 1);
    ingest(&sandbox, ["--replace"]).succeeds().stdout_has("1 read, 10 known already, 1 replaced");
    assert_eq!(answer(&sandbox, &["--store", "store"]), expected);
    // Then both get the mistake's bytes: the day is gone but for that row.
    std::fs::copy(&twin, &files[2]).expect("a copy");
    ingest(&sandbox, ["--replace"]).succeeds().stdout_has("0 read, 11 known already, 1 replaced");
    sandbox.copresence(&["store", "check", "store"]).succeeds().stdout_has("8,355 rows");
    std::fs::remove_file(&twin).expect("a file");
    assert_eq!(answer(&sandbox, &["--store", "store"]), answer(&sandbox, &[]));
    // What somebody else put into the folder stays.
    sandbox.copresence(&["run", "job.toml", "--out", "store/out", "--progress", "none"]).succeeds();
    save(&files[2].with_file_name("more.parquet"), &whole.slice(5, 10), 10);
    ingest(&sandbox, []).succeeds();
    assert!(sandbox.path("store/out/candidates.parquet").exists());
}

#[test]
fn a_night_that_is_not_all_there_stops_with_3() {
    let (sandbox, files) = office_by_day();
    let share = ["--set", "rule.safeguards.rows_share_min=0.5"];
    hide(&files[3..]);
    ingest(&sandbox, share).succeeds();
    // The fourth day, of which the hours from 11 on are missing: 270 of 1,040 rows come.
    let whole = read(away(&files[3]));
    let mut early: Vec<u32> = (0..whole.num_rows() as u32).collect();
    let all = times(&whole, "time");
    early.retain(|row| all[*row as usize] < 1_372_323_600_000);
    assert_eq!(early.len(), 270);
    save(&files[3], &take_record_batch(&whole, &UInt32Array::from(early)).expect("rows"), 100);
    ingest(&sandbox, share)
        .fails_with(3)
        .stderr_has("feeds[0] (venue feed), 2013-06-27")
        .stderr_has("at least 0.5 of the 884 rows")
        .stderr_has("found:    270; of the hours after midnight 08, 11, 12, 13, 14, 15, 16, 17, 18 lack rows")
        .stderr_has("--set rule.safeguards.rows_share_min=0");
    sandbox.copresence(&["store", "list", "store"]).succeeds().stdout_has("version 1,");
    std::fs::remove_file(&files[3]).expect("a file");
    files[3..].iter().for_each(|path| bring(path));
    ingest(&sandbox, share).succeeds().stdout_has("7 read, 3 known already");
    // A run looks at its last whole day.
    let run = |share: &str| {
        sandbox.copresence(&[
            "run",
            "job.toml",
            "--out",
            "out",
            "--force",
            "--set",
            &format!("rule.safeguards.rows_share_min={share}"),
        ])
    };
    run("0.5").succeeds();
    run("0.9").fails_with(3).stderr_has("2013-07-05").stderr_has("564");
    run("1.5").fails_with(2).stderr_has("a share, 0 to 1");
}

#[test]
fn what_a_store_cannot_change_is_refused() {
    let (sandbox, _files) = office_by_day();
    ingest(&sandbox, []).succeeds();
    let stored = ["run", "job.toml", "--store", "store", "--out", "out", "--force"];
    let other = [&stored[..], &["--set", "job.time_zone=Asia/Shanghai"]].concat();
    sandbox.copresence(&other).fails_with(2).stderr_has("Europe/Paris, in which the store's times were read");
    let late = [&stored[..], &["--as-of", "2030-01-01T00:00:00Z"]].concat();
    sandbox.copresence(&late).fails_with(1).stderr_has("pings inside the lookback");
    let columns = ["--set", "feeds[0].columns.floor=level"];
    ingest(&sandbox, columns)
        .fails_with(2)
        .stderr_has("datum, columns and time_unit as when the store was made");
}

#[test]
fn folders_that_are_columns_tell_equal_bytes_apart() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "cases.csv",
        "case_id,person_id,report_id,authority,infectious_from\nc,a,r,h,2022-03-20T00:00:00Z\n",
    );
    for venue in ["v1", "v2"] {
        let columns = vec![
            ("person_id", crate::support::text_array(["a", "b"])),
            ("time", crate::support::time_array([1_647_820_800_000; 2])),
        ];
        sandbox.write_parquet(&format!("scans/venue_id={venue}/scans.parquet"), columns);
    }
    sandbox.write(
        "job.toml",
        "[job]\npurpose = \"test\"\nas_of = \"2022-03-22T00:00:00Z\"\n[[feeds]]\nsource = \"venue\"\npath = \"scans\"\n\
         [cases]\npath = \"cases.csv\"\n[rule]\nname = \"r\"\nversion = \"1\"\n",
    );
    ingest(&sandbox, []).succeeds().stdout_has("2 read, 0 known");
    let [raw, stored] = [&[][..], &["--store", "store"][..]].map(|flags| answer(&sandbox, flags));
    assert_eq!(raw, stored);
}

#[test]
fn a_case_is_answered_as_a_run_would_and_nobody_else_is() {
    let (sandbox, files) = office_by_day();
    let last = files.last().expect("a day");
    let away = last.with_extension("away");
    std::fs::rename(last, &away).expect("a rename");
    ingest(&sandbox, []).succeeds();
    let ask = |case_id: &str, flags: &[&str]| {
        let args = ["case", "job.toml", case_id, "--store", "store", "--progress", "none"];
        sandbox.copresence(&[&args[..], flags].concat())
    };
    let rows = |case_id: &str| {
        let exposures = read(sandbox.path("out/exposures.parquet"));
        let persons = column(&exposures, "person_id");
        let persons = arrow::compute::cast(persons, &arrow::datatypes::DataType::Utf8).expect("text");
        let persons: Vec<String> =
            persons.as_string::<i32>().iter().map(|id| id.expect("an id").to_string()).collect();
        let all = text(&exposures, "case_id").into_iter().zip(persons);
        let all = all.zip(i64s(&exposures, "direct_s")).zip(i64s(&exposures, "confirmed_s"));
        let own = all.filter(|(((case, _), _), _)| case == case_id);
        let mut own: Vec<(String, i64, i64)> =
            own.map(|(((_, person), direct), confirmed)| (person, direct, confirmed)).collect();
        own.sort();
        own
    };
    let asked = |case_id: &str, flags: &[&str]| {
        let said = ask(case_id, &[&["--format", "json"], flags].concat()).succeeds().stdout;
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(said["case"]["case_id"], case_id);
        let exposures = said["exposures"].as_array().expect("rows").clone();
        let number = |row: &serde_json::Value, name: &str| row[name].as_i64().expect("a number");
        assert!(exposures.is_sorted_by_key(|row| -number(row, "direct_s")));
        let person = |row: &serde_json::Value| match &row["person_id"] {
            serde_json::Value::String(id) => id.clone(),
            other => other.to_string(),
        };
        let mut own: Vec<(String, i64, i64)> = exposures
            .iter()
            .map(|row| (person(row), number(row, "direct_s"), number(row, "confirmed_s")))
            .collect();
        own.sort();
        own
    };
    answer(&sandbox, &["--store", "store"]);
    for case_id in ["case-1", "case-2", "case-3", "case-4"] {
        assert!(!rows(case_id).is_empty(), "{case_id}");
        assert_eq!(asked(case_id, &[]), rows(case_id));
        assert_eq!(asked(case_id, &[]), rows(case_id));
        assert_eq!(asked(case_id, &["--no-cache"]), rows(case_id));
    }
    ask("case-1", &[])
        .succeeds()
        .stdout_has("kept from an earlier question")
        .stdout_has("infectious from 2013-06-24");
    ask("case-1", &["--set", "rule.encounter.lag_s_max=1"]).succeeds().stdout_has("answered from the store");
    let asked_anew = ask("case-1", &["--no-cache"]).succeeds().stdout_has("answered from the store");
    assert_eq!(asked_anew.stderr, "", "of the others nothing is said");
    // Another day, another answer.
    std::fs::rename(&away, last).expect("a rename");
    ingest(&sandbox, []).succeeds();
    ask("case-2", &[]).succeeds().stdout_has("answered from the store");
    answer(&sandbox, &["--store", "store"]);
    assert_eq!(asked("case-2", &[]), rows("case-2"));
    assert_eq!(std::fs::read_dir(sandbox.path("store/_copresence/cache")).expect("a folder").count(), 1);
    // A person is no case.
    ask("63", &[]).fails_with(2).stderr_has("who is no case cannot be asked about");
    ask("case-9", &[]).fails_with(2).stderr_has("one of the 5 cases of the job's list");
    sandbox.copresence(&["case", "job.toml", "case-1"]).fails_with(2).stderr_has("add --store DIR");
}

/// A city of three days with some pings twice and some persons in two places at once: by every rule the same bytes as raw.
#[test]
fn a_city_is_the_same_through_a_store_by_every_rule() {
    let sandbox = Sandbox::new();
    let city = [
        "synth",
        "city",
        "--rows",
        "60000",
        "--persons",
        "120",
        "--days",
        "3",
        "--cases",
        "9",
        "--progress",
        "none",
    ];
    sandbox.copresence(&city).succeeds();
    for name in ["job.toml", "cases.parquet", "pings"] {
        std::fs::rename(sandbox.path("city").join(name), sandbox.path(name)).expect("a rename");
    }
    let job = std::fs::read_to_string(sandbox.path("job.toml")).expect("a job");
    let pings = parquet_below(&sandbox.path("pings")).into_iter().map(read);
    let pings = pings.max_by_key(arrow::array::RecordBatch::num_rows).expect("pings");
    let third = pings.num_rows() / 3;
    save(&sandbox.path("pings/twice.parquet"), &pings.slice(0, third), 500);
    let mut columns = pings.slice(third, third).columns().to_vec();
    let at = pings.schema().index_of("lat").expect("a latitude");
    let lats = columns[at].as_primitive::<arrow::datatypes::Float64Type>();
    columns[at] = std::sync::Arc::new(lats.unary::<_, arrow::datatypes::Float64Type>(|lat| lat + 0.0003));
    let moved = arrow::array::RecordBatch::try_new(pings.schema(), columns).expect("rows");
    save(&sandbox.path("pings/moved.parquet"), &moved, 500);
    ingest(&sandbox, []).succeeds();
    sandbox.copresence(&["store", "check", "store"]).succeeds();
    let rules: [&[&str]; 9] = [
        &[],
        &["place=grid", "square_m=800"],
        &["place=grid", "square_m=60"],
        &["place=cell", "resolution=9"],
        &["place=cell", "resolution=5"],
        &["distance_m_max=400", "lag_s_max=3600"],
        &["place=probability", "distance_m_max=20", "probability_min=0.2"],
        &["place=grid", "square_m=800", "candidate.resident_h_min=5", "candidate.resident_of=person"],
        &["place=grid", "square_m=800", "candidate.resident_h_min=5", "candidate.resident_scope=any"],
    ];
    let filtered = job.replace("hold_s_max = 900", "hold_s_max = 1800\nspeed_m_per_s_max = 12");
    let moving = job.replace("hold_s_max = 900", "hold_s_max = 1800\nmotion = \"linear\"");
    assert!(filtered != job && moving != job);
    let mut found = std::collections::BTreeSet::new();
    for as_of in ["2022-03-22T00:00:00+08:00", "2022-03-21T13:37:11+08:00"] {
        for (job, rules) in [(&job, &rules[..]), (&filtered, &rules[..2]), (&moving, &rules[..1])] {
            sandbox.write("job.toml", job);
            for rule in rules {
                let sets: Vec<String> = rule
                    .iter()
                    .map(|key| match key.starts_with("candidate") {
                        true => format!("rule.{key}"),
                        false => format!("rule.encounter.{key}"),
                    })
                    .collect();
                let mut flags = vec!["--as-of", as_of];
                sets.iter().for_each(|set| flags.extend(["--set", set]));
                let raw = answer(&sandbox, &flags);
                flags.extend(["--store", "store"]);
                assert_eq!(answer(&sandbox, &flags), raw, "{as_of} {rule:?}");
                found.insert(raw[2].clone());
                let said = std::fs::read_to_string(sandbox.path("out/manifest.json")).expect("a manifest");
                let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
                let path = &said["counts"]["paths"][0];
                assert_eq!(path["order"] == "space", *job != moving, "{path}");
            }
        }
    }
    assert!(found.len() > 15, "nearly each has other exposures: {}", found.len());
}

#[test]
fn signed_ids_are_refused_where_unsigned_ones_do_not_fit_them() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "job.toml",
        "[job]\npurpose = \"test\"\nas_of = \"2022-03-22T00:00:00Z\"\ntime_zone = \"UTC\"\nrejected_share_max = 1\n\
         [[feeds]]\nsource = \"gps\"\npath = \"pings\"\ndatum = \"wgs84\"\n\
         [cases]\npath = \"cases.csv\"\n[rule]\npreset = \"cdc-15min\"\n",
    );
    sandbox.write("cases.csv", "case_id,person_id,onset_at,report_id,authority\nc,1,2022-03-21,r,x\n");
    let pings = |name: &str, ids: arrow::array::ArrayRef, minute: i64| {
        let at = (0..ids.len() as i64).map(|n| 1_647_820_800_000 + (minute + n) * 60_000);
        let place = |degrees: f64| -> arrow::array::ArrayRef {
            std::sync::Arc::new(arrow::array::Float64Array::from(vec![degrees; ids.len()]))
        };
        let times = crate::support::time_array(at);
        let columns =
            vec![("time", times), ("lat", place(34.75)), ("lon", place(113.68)), ("person_id", ids.clone())];
        sandbox.write_parquet(&format!("pings/{name}.parquet"), columns);
    };
    let unsigned = |ids: Vec<u64>| -> arrow::array::ArrayRef {
        std::sync::Arc::new(arrow::array::UInt64Array::from(ids))
    };
    let signed = |ids: Vec<i64>| -> arrow::array::ArrayRef {
        std::sync::Arc::new(arrow::array::Int64Array::from(ids))
    };
    pings("a", unsigned(vec![1, 2, 3]), 0);
    ingest(&sandbox, []).succeeds();
    pings("b", signed(vec![1, 2, -3]), 10);
    ingest(&sandbox, []).succeeds();
    assert_eq!(answer(&sandbox, &["--store", "store"]), answer(&sandbox, &[]));
    sandbox.copresence(&["store", "check", "store"]).succeeds();
    std::fs::remove_dir_all(sandbox.path("store")).expect("a store");
    std::fs::remove_file(sandbox.path("pings/b.parquet")).expect("a file");
    pings("a", unsigned(vec![1, 2, u64::MAX]), 0);
    ingest(&sandbox, []).succeeds();
    pings("b", signed(vec![1, 2, -3]), 10);
    ingest(&sandbox, []).fails_with(1).stderr_has("which has some of 2^63 and more");
    assert!(!answer(&sandbox, &["--store", "store"]).is_empty());
}
