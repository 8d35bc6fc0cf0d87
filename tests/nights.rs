//! A store from night to night: days past retention, the figures of a night, and the script that does all of it.

use crate::store::{answer, ingest, parquet_below};
use crate::support::{Sandbox, read, text_array, time_array};
use crate::world_files::save;
use arrow::array::{ArrayRef, Float64Array, TimestampMillisecondArray};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// The gps feed of two days and a half in Shanghai, one ping an hour of each of three persons, one of them a case.
fn hourly() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write(
        "job.toml",
        "[job]\npurpose = \"test\"\nas_of = \"2022-03-23T00:00:00+08:00\"\ntime_zone = \"Asia/Shanghai\"\n\
         [[feeds]]\nsource = \"gps\"\npath = \"pings\"\ndatum = \"wgs84\"\nhold_s_max = 3600\n\
         [cases]\npath = \"cases.csv\"\n[rule]\nname = \"r\"\nversion = \"1\"\nlookback_days = 3\n\
         [rule.encounter]\nplace = \"distance\"\ndistance_m_max = 50\n[rule.candidate]\ndirect_s_min = 600\n",
    );
    sandbox.write(
        "cases.csv",
        "case_id,person_id,infectious_from,infectious_to,report_id,authority\n\
         c,a,2022-03-20T00:00:00+08:00,2022-03-23T00:00:00+08:00,r,x\n",
    );
    // 2022-03-20T12:00:00+08:00 on.
    let hours = |from: i64, to: i64| (from..to).flat_map(|hour| [(hour, "a"), (hour, "b"), (hour, "z")]);
    for (name, from, to) in [("first", 0, 12), ("second", 12, 36), ("third", 36, 60)] {
        let rows: Vec<(i64, &str)> = hours(from, to).collect();
        let at = |hour: i64| 1_647_748_800_000 + hour * 3_600_000;
        let far = |who: &str| if who == "z" { 1.0 } else { 0.0 };
        sandbox.write_parquet(
            &format!("pings/{name}.parquet"),
            vec![
                ("person_id", text_array(rows.iter().map(|(_, who)| *who))),
                ("time", time_array(rows.iter().map(|(hour, _)| at(*hour)))),
                (
                    "lat",
                    Arc::new(rows.iter().map(|(_, who)| Some(34.75 + far(who))).collect::<Float64Array>()),
                ),
                (
                    "lon",
                    Arc::new(
                        rows.iter()
                            .map(|(hour, _)| (*hour != 30).then_some(113.68))
                            .collect::<Float64Array>(),
                    ),
                ),
            ],
        );
    }
    sandbox
}

#[test]
fn days_past_retention_are_gone_and_it_is_proven() {
    let sandbox = hourly();
    let reject = ["--set", "job.rejected_share_max=0.5"];
    ingest(&sandbox, reject).succeeds().stdout_has("180 read, 177 of them usable");
    let stored = [&["--store", "store"][..], &reject[..]].concat();
    assert_eq!(answer(&sandbox, &stored), answer(&sandbox, &reject));
    let days = |sandbox: &Sandbox| {
        let list = sandbox.copresence(&["store", "list", "store"]).succeeds().stdout;
        list.lines()
            .filter(|line| line.contains(" gps "))
            .map(|line| line[6..16].to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(days(&sandbox), ["2022-03-20", "2022-03-21", "2022-03-22"]);
    let purge = |before: &str| sandbox.copresence(&["purge", "store", "--before", before]);
    purge("2022-03-22")
        .succeeds()
        .stdout_has("removed    9 files, 105 rows")
        .stdout_has("days       gps 2022-03-20, gps 2022-03-21")
        .stdout_has("proof      store/_copresence/purged/v000002-");
    assert_eq!(days(&sandbox), ["2022-03-22"]);
    let left = parquet_below(&sandbox.path("store"));
    assert!(
        left.iter().all(|path| !path.display().to_string().contains("2022-03-2")
            || path.display().to_string().contains("2022-03-22")),
        "{left:?}"
    );
    // The row without a longitude was of the second day.
    assert!(!left.iter().any(|path| path.display().to_string().contains("faulty")));
    let proofs = sandbox.path("store/_copresence/purged");
    let proof =
        std::fs::read_dir(&proofs).expect("a folder").next().expect("a proof").expect("an entry").path();
    let said = std::fs::read_to_string(&proof).expect("a proof");
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(said["rows_by_day"], serde_json::json!({ "gps 2022-03-20": 36, "gps 2022-03-21": 69 }));
    assert_eq!(said["unusable_rows"], 3);
    assert_eq!(said["checked"]["earliest_time_left"], "2022-03-21T16:00:00.000Z");
    assert_eq!(said["removed"].as_array().expect("files").len(), 9);
    sandbox.copresence(&["store", "check", "store"]).succeeds().stdout_has("72 rows in order");
    // The files are known, and late ones of these days are left out.
    ingest(&sandbox, reject).succeeds().stdout_has("0 read, 3 known already");
    let rows = read(sandbox.path("pings/second.parquet"));
    save(&sandbox.path("pings/late.parquet"), &rows.slice(0, 5), 9);
    ingest(&sandbox, reject).succeeds().stdout_has("5 of days that the store keeps no longer, left out");
    assert_eq!(days(&sandbox), ["2022-03-22"]);
    let run = ["run", "job.toml", "--store", "store", "--out", "out", "--force", "--progress", "none"];
    sandbox.copresence(&run).succeeds().stderr_has("the store keeps nothing before 2022-03-21T16:00:00.000Z");
    // A second proof names the first.
    purge("2022-03-22").succeeds().stdout_has("nothing was there to remove");
    purge("2022-03-23").succeeds().stdout_has("72 rows");
    let last =
        std::fs::read_dir(&proofs).expect("a folder").map(|entry| entry.expect("an entry").path()).max();
    let last = std::fs::read_to_string(last.expect("a proof")).expect("a proof");
    assert!(last.contains(proof.file_name().expect("a name").to_str().expect("text")), "{last}");
    purge("yesterday").fails_with(2).stderr_has("--before");
    sandbox
        .copresence(&["purge", "nowhere", "--before", "2022-03-22"])
        .fails_with(1)
        .stderr_has("a prepared store");
}

#[test]
fn rows_of_another_feed_are_refused_and_empty_files_are_anybodys() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "cases.csv",
        "case_id,person_id,report_id,authority,infectious_from\nc,a,r,h,2022-03-20T00:00:00Z\n",
    );
    let scans = |path: &str, persons: &[&str]| {
        let columns = vec![
            ("person_id", text_array(persons.iter().copied())),
            ("time", time_array(vec![1_647_820_800_000; persons.len()])),
            ("venue_id", text_array(persons.iter().map(|_| "v"))),
        ];
        sandbox.write_parquet(path, columns);
    };
    scans("north/1.parquet", &["a", "b"]);
    scans("south/1.parquet", &["c"]);
    scans("south/2.parquet", &[]);
    let job = |paths: [&str; 2]| {
        let feeds = paths.map(|path| format!("[[feeds]]\nsource = \"venue\"\npath = \"{path}\"\n")).concat();
        let head = "[job]\npurpose = \"test\"\nas_of = \"2022-03-22T00:00:00Z\"\n";
        let tail = "[cases]\npath = \"cases.csv\"\n[rule]\nname = \"r\"\nversion = \"1\"\n";
        sandbox.write("job.toml", &format!("{head}{feeds}{tail}"));
    };
    job(["north", "south"]);
    ingest(&sandbox, []).succeeds().stdout_has("3 read, 0 known");
    // The next night the other feed has nothing to bring either, and says so in the same bytes.
    scans("north/2.parquet", &[]);
    ingest(&sandbox, []).succeeds().stdout_has("1 read, 3 known already");
    ingest(&sandbox, []).succeeds().stdout_has("0 read, 4 known already");
    assert_eq!(answer(&sandbox, &["--store", "store"]), answer(&sandbox, &[]));
    job(["south", "north"]);
    ingest(&sandbox, []).fails_with(1).stderr_has("bytes that the store has in another feed");
    // What was in both feeds from the start stays in both.
    std::fs::remove_dir_all(sandbox.path("store")).expect("a folder");
    job(["north", "north"]);
    ingest(&sandbox, []).succeeds().stdout_has("4 read, 0 known");
    ingest(&sandbox, []).succeeds().stdout_has("0 read, 4 known already");
}

#[test]
fn a_store_drops_days_and_is_made_compact() {
    let sandbox = hourly();
    let reject = ["--set", "job.rejected_share_max=0.5"];
    let away = sandbox.path("third");
    std::fs::rename(sandbox.path("pings/third.parquet"), &away).expect("a rename");
    ingest(&sandbox, reject).succeeds();
    std::fs::rename(&away, sandbox.path("pings/third.parquet")).expect("a rename");
    let rows = read(sandbox.path("pings/second.parquet"));
    save(&sandbox.path("pings/late.parquet"), &rows.slice(50, 6), 9);
    ingest(&sandbox, reject).succeeds();
    let expected = answer(&sandbox, &reject);
    let stored = [&["--store", "store"][..], &reject[..]].concat();
    assert_eq!(answer(&sandbox, &stored), expected);
    let check = [&["check", "job.toml"][..], &stored].concat();
    sandbox
        .copresence(&check)
        .succeeds()
        .stdout_has("2022-03-20T04:00:00.000Z to 2022-03-22T15:00:00.000Z (by statistics)");
    let faulty = || std::fs::read_dir(sandbox.path("store/_copresence/faulty")).expect("a folder").count();
    assert_eq!(faulty(), 2);
    sandbox.copresence(&["store", "compact", "store"]).succeeds().stdout_has("version 3, compact");
    assert_eq!(faulty(), 1);
    assert_eq!(answer(&sandbox, &stored), expected);
    let reader = copresence::io::store::Store::open(&sandbox.path("store")).expect("a store");
    sandbox
        .copresence(&["store", "drop", "store", "--before", "2022-03-21"])
        .succeeds()
        .stdout_has("version 4 keeps days");
    // Who reads keeps what was opened.
    assert!(sandbox.path("store/source=gps/day=2022-03-20").exists());
    drop(reader);
    sandbox.copresence(&["store", "compact", "store"]).succeeds();
    assert!(!sandbox.path("store/source=gps/day=2022-03-20").exists());
    sandbox.copresence(&["store", "check", "store"]).succeeds();
}

#[test]
fn a_store_whose_days_are_gone_gives_no_empty_answer() {
    let sandbox = hourly();
    ingest(&sandbox, []).succeeds();
    let late = ["--as-of", "2022-05-01T00:00:00Z", "--out", "late", "--progress", "none"];
    let raw = [&["run", "job.toml"][..], &late].concat();
    let stored = [&raw[..], &["--store", "store"]].concat();
    sandbox.copresence(&raw).fails_with(1).stderr_has("pings inside the lookback");
    sandbox.copresence(&stored).fails_with(1).stderr_has("pings inside the lookback");
    sandbox.copresence(&["store", "drop", "store", "--before", "2022-04-01"]).succeeds();
    sandbox
        .copresence(&stored)
        .fails_with(1)
        .stderr_has("pings inside the lookback")
        .stderr_has("none at all; the store keeps nothing before 2022-03-31T16:00:00.000Z");
}

#[test]
fn a_row_without_a_time_is_one_of_the_days_of_its_file() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "cases.csv",
        "case_id,person_id,report_id,authority,infectious_from\nc,a,r,h,2022-03-10T00:00:00Z\n",
    );
    for (day, times) in [(10, [Some(0), None, Some(60)]), (20, [Some(0), Some(30), Some(60)])] {
        let at = |second: i64| 1_646_870_400_000 + (day - 10) * 86_400_000 + second * 1_000;
        let times = TimestampMillisecondArray::from_iter(times.map(|time| time.map(at))).with_timezone("UTC");
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("person_id", text_array(["a", "b", "c"])),
            ("time", Arc::new(times)),
            ("venue_id", text_array(["v", "v", "v"])),
        ];
        sandbox.write_parquet(&format!("scans/{day}.parquet"), columns);
    }
    sandbox.write(
        "job.toml",
        "[job]\npurpose = \"test\"\nas_of = \"2022-03-21T00:00:00Z\"\nrejected_share_max = 0.5\n\
         [[feeds]]\nsource = \"venue\"\npath = \"scans\"\n[cases]\npath = \"cases.csv\"\n\
         [rule]\nname = \"r\"\nversion = \"1\"\nlookback_days = 3\n",
    );
    ingest(&sandbox, []).succeeds();
    for (as_of, rejected) in [("2022-03-21T00:00:00Z", 0), ("2022-03-11T00:00:00Z", 1)] {
        let [raw, stored] = [&["--as-of", as_of][..], &["--as-of", as_of, "--store", "store"]]
            .map(|flags| answer(&sandbox, flags));
        assert_eq!(raw, stored);
        assert_eq!(read(sandbox.path("out/rejections.parquet")).num_rows(), rejected);
    }
    // Between them there is nothing to answer from, whatever an old row lacks.
    let nothing =
        ["run", "job.toml", "--as-of", "2022-03-17T00:00:00Z", "--out", "none", "--progress", "none"];
    sandbox.copresence(&nothing).fails_with(1).stderr_has("pings inside the lookback");
    let stored = [&nothing[..], &["--store", "store"]].concat();
    sandbox.copresence(&stored).fails_with(1).stderr_has("pings inside the lookback");
}

#[test]
fn the_figures_of_a_night_are_for_prometheus() {
    let sandbox = hourly();
    let reject = "job.rejected_share_max=0.5";
    let ingest = [
        "ingest",
        "job.toml",
        "--store",
        "store",
        "--metrics",
        "ingest.prom",
        "--set",
        reject,
        "--progress",
        "none",
    ];
    sandbox.copresence(&ingest).succeeds();
    let run = [
        "run",
        "job.toml",
        "--store",
        "store",
        "--metrics",
        "run.prom",
        "--set",
        reject,
        "--progress",
        "none",
    ];
    sandbox.copresence(&run).succeeds();
    let text = |name: &str| std::fs::read_to_string(sandbox.path(name)).expect(name);
    for line in [
        "copresence_ingest_rows{job=\"job\"} 180",
        "copresence_ingest_rows_unusable{job=\"job\"} 3",
        "copresence_store_rows{job=\"job\"} 177",
    ] {
        assert!(text("ingest.prom").lines().any(|other| other == line), "{line}: {}", text("ingest.prom"));
    }
    for line in [
        "# TYPE copresence_run_candidates gauge",
        "copresence_run_candidates{job=\"job\"} 1",
        "copresence_run_cases_without_pings{job=\"job\"} 0",
        "copresence_run_rows{job=\"job\",feed=\"feeds[0]\",source=\"gps\"} 177",
        "copresence_run_rows_last_day{job=\"job\",feed=\"feeds[0]\",source=\"gps\"} 72",
    ] {
        assert!(text("run.prom").lines().any(|other| other == line), "{line}: {}", text("run.prom"));
    }
}

#[test]
fn a_night_runs_by_itself_and_may_be_started_again() {
    let sandbox = hourly();
    let job = std::fs::read_to_string(sandbox.path("job.toml")).expect("a job");
    let strict = "[rule.safeguards]\nrows_share_min = 0.7\n[rule.encounter]";
    let job = job.replace("[rule.encounter]", strict).replace("[job]\n", "[job]\nrejected_share_max = 0.5\n");
    sandbox.write("job.toml", &job);
    std::fs::create_dir(sandbox.path("metrics")).expect("a folder");
    let program = Path::new(env!("CARGO_BIN_EXE_copresence")).parent().expect("a folder");
    let night = |day: &str| {
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/deploy/night"))
            .current_dir(sandbox.path(""))
            .env("PATH", format!("{}:{path}", program.display()))
            .env("JOB", "job.toml")
            .env("STORE", "store")
            .env("OUT", "out")
            .env("METRICS", "metrics")
            .env("KEEP_DAYS", "2")
            .env("TZ", "Asia/Shanghai")
            .env("AS_OF", format!("{day}T00:00:00+08:00"))
            .output()
            .expect("a shell");
        (
            output.status.code(),
            String::from_utf8(output.stdout).expect("text"),
            String::from_utf8(output.stderr).expect("text"),
        )
    };
    let away = sandbox.path("third");
    let third = sandbox.path("pings/third.parquet");
    std::fs::rename(&third, &away).expect("a rename");
    let (code, said, told) = night("2022-03-22");
    assert_eq!(code, Some(0), "{said}{told}");
    assert!(
        said.contains("2 read, 0 known already") && said.contains("keeps days from 2022-03-20 on"),
        "{said}"
    );
    let written = std::fs::read(sandbox.path("out/2022-03-22/candidates.parquet")).expect("an output");
    let figures = std::fs::read_to_string(sandbox.path("metrics/copresence-run.prom")).expect("figures");
    assert!(
        figures.contains("copresence_run_rows_last_day{job=\"job\",feed=\"feeds[0]\",source=\"gps\"} 69"),
        "{figures}"
    );
    // Once more, with nothing new.
    let (code, said, _) = night("2022-03-22");
    assert_eq!(code, Some(0));
    assert!(said.contains("0 read, 2 known already") && !said.contains("candidates"), "{said}");
    assert_eq!(std::fs::read(sandbox.path("out/2022-03-22/candidates.parquet")).expect("an output"), written);
    // The next night is not all there, and then it is.
    let whole = read(&away);
    save(&third, &whole.slice(0, 9), 9);
    let (code, _, told) = night("2022-03-23");
    assert_eq!(code, Some(3));
    assert!(told.contains("rows_share_min") && told.starts_with('{'), "{told}");
    assert!(!sandbox.path("out/2022-03-23").exists());
    std::fs::rename(&away, &third).expect("a rename");
    let (code, said, told) = night("2022-03-23");
    assert_eq!(code, Some(0), "{said}{told}");
    assert!(said.contains("1 read, 2 known already") && said.contains("gps 2022-03-20"), "{said}");
    assert!(sandbox.path("out/2022-03-23/candidates.csv").exists());
}
