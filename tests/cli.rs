//! The program as an operator meets it: flags, exit codes, progress, signals.

use crate::support::{Sandbox, i64s, read, text, text_array, time_array};
use arrow::array::{ArrayRef, Float64Array, Int64Array};
use std::path::Path;
use std::sync::Arc;

fn sample() -> Sandbox {
    let sandbox = Sandbox::new();
    for name in ["job.toml", "cases.csv", "scans.parquet"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/office").join(name);
        std::fs::copy(from, sandbox.path(name)).expect("the sample");
    }
    sandbox
}

#[test]
fn the_sample_has_its_known_candidates() {
    let sandbox = sample();
    sandbox
        .copresence(&["run", "job.toml"])
        .succeeds()
        .stdout_has("rows       9,184 read, 0 rejected, 9,184 in the lookback")
        .stdout_has("cases      5: 5 with pings, 0 without")
        .stdout_has("exposures  71")
        .stdout_has("candidates 4")
        .stdout_has("result     out/office");
    let candidates = read(sandbox.path("out/office/candidates.parquet"));
    assert_eq!(text(&candidates, "person_id"), ["481", "153", "709", "116"]);
    assert_eq!(text(&candidates, "case_id"), ["case-1", "case-4", "case-1", "case-1"]);
    assert_eq!(i64s(&candidates, "direct_s"), [3_580, 1_900, 1_040, 940]);
    assert_eq!(text(&candidates, "rule"), ["office-venues@1"; 4]);
    let manifest = std::fs::read_to_string(sandbox.path("out/office/manifest.json")).expect("the manifest");
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    assert_eq!(manifest["counts"]["candidates"], 4);
    let days = manifest["feeds"][0]["days"].as_array().expect("days");
    assert_eq!(days.len(), 14);
    assert_eq!(days[2], serde_json::json!({ "day": "2013-06-24", "rows": 1_140 }));
    let rows: i64 = days.iter().map(|d| d["rows"].as_i64().expect("a number")).sum();
    assert_eq!(rows, 9_184);
}

#[test]
fn flags_override_the_job() {
    let sandbox = sample();
    let run = |flags: &[&str]| {
        let mut args = vec!["run", "job.toml", "--force", "--out", "out"];
        args.extend(flags);
        sandbox.copresence(&args)
    };
    run(&["--set", "rule.candidate.direct_s_min=1000"]).succeeds().stdout_has("candidates 3");
    run(&["--set", "rule.candidate.direct_s_min=0", "--exposures", "candidates"]).succeeds();
    run(&["--set", "feeds[0].hold_s_max=-1"]).fails_with(2).stderr_has("feeds[0].hold_s_max");
    run(&["--set", "rule.candidate.direct_s_mn=1"]).fails_with(2).stderr_has("did you mean direct_s_min?");
    run(&["--as-of", "2013-06-25T00:00:00+02:00", "--set", "cases.on_error=reject"])
        .succeeds()
        .stdout_has("1,140 in the lookback");
    run(&["--set", "rule.encounter.place=probability", "--set", "rule.candidate.risk_min=2"])
        .fails_with(2)
        .stderr_has("no risk is above 1");
    run(&["--encounters", "none"]).succeeds();
    assert_eq!(read(sandbox.path("out/encounters.parquet")).num_rows(), 0);
    run(&["--threads", "0"]).fails_with(2);
    run(&["--memory", "lots"]).fails_with(2).stderr_has("4GiB");
    run(&["--no-such-flag"]).fails_with(2);
    sandbox.copresence(&["run", "absent.toml"]).fails_with(2).stderr_has("absent.toml");
    for command in ["run", "check", "explain"] {
        sandbox.copresence(&[command, "--help"]).succeeds().stdout_has("Usage:");
    }
}

#[test]
fn a_preset_that_the_job_changes_says_so() {
    let sandbox = sample();
    let job = std::fs::read_to_string(sandbox.path("job.toml")).expect("the job");
    let (head, _) = job.split_once("[rule]").expect("a rule");
    sandbox.write("job.toml", &format!("{head}[rule]\npreset = \"venue-alert\"\n"));
    sandbox.copresence(&["run", "job.toml", "--out", "plain"]).succeeds();
    let rules = |out: &str| text(&read(sandbox.path(out)), "rule");
    assert!(rules("plain/candidates.parquet").iter().all(|r| r == "venue-alert@1"));
    sandbox
        .copresence(&["run", "job.toml", "--out", "changed", "--set", "rule.candidate.direct_s_min=900"])
        .succeeds();
    assert_eq!(rules("changed/candidates.parquet"), ["venue-alert@1+changed"; 4]);
}

#[test]
fn explain_tells_the_evidence() {
    let sandbox = sample();
    sandbox.copresence(&["run", "job.toml"]).succeeds();
    sandbox
        .copresence(&["explain", "out/office", "--person", "116"])
        .succeeds()
        .stdout_has("Candidate: code yellow, pending review, reason exposure")
        .stdout_has("direct 940 s")
        .stdout_has("2013-06-25 13:39:20 +02:00 to ")
        .stdout_has("venue with the case's venue at InVS13-");
    let run =
        sandbox.copresence(&["explain", "out/office", "--person", "116", "--format", "json"]).succeeds();
    let evidence: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(evidence["candidate"]["direct_s"], 940);
    assert_eq!(evidence["rule"]["name"], "office-venues");
    let encounters = evidence["encounters"].as_array().expect("encounters");
    // Ten with case-1, which make the candidate, and one with another case.
    assert_eq!(encounters.iter().filter(|e| e["case_id"] == "case-1").count(), 10);
    assert_eq!(encounters.len(), 11);
    assert_eq!(encounters[0]["start"], "2013-06-25T11:39:20.000Z");
    assert!(
        encounters.iter().all(|e| e["kind"] == "direct" && e["source"] == "venue" && e["bracketed"] == true)
    );
    sandbox
        .copresence(&["explain", "out/office", "--person", "63"])
        .succeeds()
        .stdout_has("The person is case case-1 itself");
    sandbox
        .copresence(&["explain", "out/office", "--person", "nobody"])
        .succeeds()
        .stdout_has("No candidate.");
    // A slip of the hand does not put the person into a log.
    let slip =
        sandbox.copresence(&["explain", "out/office", "secret"]).fails_with(2).stderr_has("--person ID");
    assert!(!slip.stderr.contains("secret"), "{}", slip.stderr);
    sandbox.copresence(&["explain", "elsewhere", "--person", "1"]).fails_with(1).stderr_has("manifest");
}

#[test]
fn check_reads_inputs_and_writes_nothing() {
    let sandbox = sample();
    sandbox
        .copresence(&["check", "job.toml"])
        .succeeds()
        .stdout_has("feeds[0] (venue feed): scans.parquet")
        .stdout_has("9,184 rows in 5 row groups")
        .stdout_has("cases: 5, 0 rejected")
        .stdout_has("ok");
    assert!(!sandbox.path("out").exists());
    sandbox.write("cases.csv", "case_id,person_id\n");
    sandbox.copresence(&["check", "job.toml"]).fails_with(1).stderr_has("report_id");
}

#[test]
fn progress_is_plain_lines_or_json() {
    let sandbox = sample();
    let lines = sandbox.copresence(&["run", "job.toml", "--out", "a"]).succeeds();
    assert!(lines.stderr.lines().all(|l| l.split([':', ' ']).next().is_some()), "{}", lines.stderr);
    let json = sandbox.copresence(&["run", "job.toml", "--out", "b", "--progress", "json"]).succeeds();
    for line in json.stderr.lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
        assert!(value["stage"].is_string() && value["rows_total"].is_number(), "{line}");
    }
    let silent = sandbox.copresence(&["run", "job.toml", "--out", "c", "--progress", "none"]).succeeds();
    assert_eq!(silent.stderr, "");
    let failed =
        sandbox.copresence(&["run", "job.toml", "--out", "c", "--progress", "none", "--log-format", "json"]);
    let said: serde_json::Value = serde_json::from_str(failed.stderr.trim()).expect("one JSON line");
    assert_eq!((said["level"].as_str(), said["place"].as_str()), (Some("ERROR"), Some("--out c")));
}

/// Row groups outside the lookback are not read, and it makes no difference to the answer.
#[test]
fn row_groups_outside_the_lookback_are_skipped() {
    let sandbox = sample();
    sandbox
        .copresence(&[
            "run",
            "job.toml",
            "--out",
            "out",
            "--as-of",
            "2013-06-26T00:00:00+02:00",
            "--set",
            "cases.on_error=reject",
        ])
        .succeeds();
    let manifest = std::fs::read_to_string(sandbox.path("out/manifest.json")).expect("the manifest");
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    assert_eq!(manifest["feeds"][0]["files"][0]["row_groups"], 5);
    assert_eq!(manifest["feeds"][0]["files"][0]["row_groups_skipped"], 3);
    assert_eq!(manifest["feeds"][0]["rows_kept"], 1_140 + 884);
}

/// Hive partitions: a folder for each day, and a column that only the folders' names hold.
#[test]
fn partitions_are_folders_and_may_be_columns() {
    let sandbox = Sandbox::new();
    const NOON: i64 = 1_647_864_000_000;
    for (day, venue, shift) in [(21, "mall", 0), (21, "cinema", 0), (22, "mall", 86_400_000)] {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("person_id", text_array(["ada", "bo"])),
            ("time", time_array(vec![NOON + shift, NOON + shift + 60_000])),
        ];
        sandbox.write_parquet(&format!("scans/day=2022-03-{day}/venue_id={venue}/part.parquet"), columns);
    }
    sandbox.write("scans/_SUCCESS", "");
    sandbox.write("scans/.part.parquet.crc", "no Parquet");
    sandbox.write(
        "cases.csv",
        "case_id,person_id,infectious_from,report_id,authority\nc1,ada,2022-03-20,r1,district\n",
    );
    sandbox.write(
        "job.toml",
        "[job]\npurpose = \"test\"\nas_of = \"2022-03-23T00:00:00Z\"\ntime_zone = \"UTC\"\n\
         [[feeds]]\nsource = \"venue\"\npath = \"scans\"\nhold_s_max = 600\n\
         [cases]\npath = \"cases.csv\"\n[rule]\nname = \"r\"\nversion = \"1\"\n",
    );
    sandbox.copresence(&["run", "job.toml", "--out", "out", "--encounters", "all"]).succeeds();
    let encounters = read(sandbox.path("out/encounters.parquet"));
    assert_eq!(text(&encounters, "place"), ["cinema", "mall", "mall"]);
    assert_eq!(i64s(&read(sandbox.path("out/exposures.parquet")), "direct_s"), [2 * 540]);
}

/// A run of many rows, to be interrupted.
#[cfg(unix)]
#[test]
fn a_signal_ends_the_run_within_a_second_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    let rows = 400_000i64;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("person_id", Arc::new(Int64Array::from_iter_values((0..rows).map(|n| n % 2_000)))),
        ("time", time_array((0..rows).map(|n| 1_647_864_000_000 + n * 50))),
        ("lat", Arc::new(Float64Array::from(vec![34.75; rows as usize]))),
        ("lon", Arc::new(Float64Array::from(vec![113.68; rows as usize]))),
    ];
    sandbox.write_parquet("pings.parquet", columns);
    let cases: String = (0..2_000).map(|n| format!("c{n},{n},2022-03-20,r,district\n")).collect();
    sandbox.write("cases.csv", &format!("case_id,person_id,infectious_from,report_id,authority\n{cases}"));
    sandbox.write(
        "job.toml",
        "[job]\npurpose = \"test\"\nas_of = \"2022-03-23T00:00:00Z\"\ntime_zone = \"UTC\"\n\
         [[feeds]]\nsource = \"gps\"\npath = \"pings.parquet\"\ndatum = \"wgs84\"\n\
         [cases]\npath = \"cases.csv\"\n[rule]\nname = \"r\"\nversion = \"1\"\n",
    );
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_copresence"))
        .args(["run", "job.toml", "--progress", "none"])
        .current_dir(sandbox.path(""))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    std::thread::sleep(std::time::Duration::from_millis(600));
    assert!(sandbox.path("out").is_dir(), "the run has begun");
    let asked = std::time::Instant::now();
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
    let status = child.wait().expect("the program ends");
    let seconds = asked.elapsed().as_secs_f64();
    assert_eq!(status.code(), Some(130));
    assert!(seconds < 2.0, "{seconds} s: it promises one, and machines are noisy");
    let left: Vec<_> = std::fs::read_dir(sandbox.path("")).expect("the sandbox").flatten().collect();
    let names: Vec<String> = left.iter().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    assert!(names.iter().all(|n| !n.contains("partial")), "{names:?}");
    if let Ok(out) = std::fs::read_dir(sandbox.path("out")) {
        assert_eq!(out.count(), 0, "nothing in the output's parent");
    }
}
