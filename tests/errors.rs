//! Every complaint names the place, what was expected, what was found, and the cure. Their texts are
//! kept as snapshots; `INSTA_UPDATE=always cargo test` writes them anew, to be read before they are kept.

use crate::support::{Run, Sandbox, text_array, time_array};
use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array};
use std::sync::Arc;

/// A noon, ms UTC: 2022-03-21T12:00:00Z.
const NOON: i64 = 1_647_864_000_000;
const MINUTE: i64 = 60_000;

const JOB: &str = r#"
[job]
name = "night"
purpose = "test"
as_of = "2022-03-22T00:00:00+08:00"
time_zone = "Asia/Shanghai"

[[feeds]]
source = "gps"
path = "pings.parquet"
datum = "wgs84"

[cases]
path = "cases.csv"

[rule]
name = "near"
version = "1"
"#;

const CASES: &str = "case_id,person_id,infectious_from,infectious_to,report_id,authority\n\
                     c1,ada,2022-03-21,2022-03-21,r1,district\n";

fn pings() -> Vec<(&'static str, ArrayRef)> {
    let times: Vec<i64> = (0..6).map(|n| NOON + n / 2 * 5 * MINUTE).collect();
    vec![
        ("person_id", text_array(["ada", "bo", "ada", "bo", "ada", "bo"])),
        ("time", time_array(times)),
        ("lat", Arc::new(Float64Array::from(vec![34.75; 6]))),
        ("lon", Arc::new(Float64Array::from(vec![113.68; 6]))),
    ]
}

fn replaced(name: &str, column: ArrayRef) -> Vec<(&'static str, ArrayRef)> {
    pings().into_iter().map(|(n, c)| (n, if n == name { column.clone() } else { c })).collect()
}

/// A sandbox with a job that runs.
fn good() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("job.toml", JOB);
    sandbox.write("cases.csv", CASES);
    sandbox.write_parquet("pings.parquet", pings());
    sandbox
}

fn with_job(from: &str, to: &str) -> Sandbox {
    assert!(JOB.contains(from), "{from}");
    let sandbox = good();
    sandbox.write("job.toml", &JOB.replace(from, to));
    sandbox
}

fn with_cases(text: &str) -> Sandbox {
    let sandbox = good();
    sandbox.write("cases.csv", text);
    sandbox
}

fn run(sandbox: &Sandbox) -> Run {
    sandbox.copresence(&["run", "job.toml", "--out", "out", "--progress", "none"])
}

/// Compares what a failed run said, and that it left nothing behind.
#[track_caller]
fn fails(name: &str, code: i32, sandbox: &Sandbox) {
    let before = listing(sandbox);
    let said = run(sandbox).fails_with(code);
    assert_eq!(said.stdout, "", "results go to standard output, and there are none");
    assert_eq!(listing(sandbox), before, "a failed run leaves nothing behind");
    keep(name, &said.stderr, sandbox);
}

fn keep(name: &str, text: &str, sandbox: &Sandbox) {
    for person in ["ada", "bo"] {
        let words = text.split(|c: char| !c.is_alphanumeric());
        assert!(!words.into_iter().any(|w| w == person), "a message shows a person_id: {text}");
    }
    let text = text.replace(&sandbox.path("").display().to_string(), "[dir]/");
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, text);
    });
}

fn listing(sandbox: &Sandbox) -> Vec<String> {
    let entries = std::fs::read_dir(sandbox.path("")).expect("the sandbox");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_good_job_runs() {
    let sandbox = good();
    run(&sandbox).succeeds().stdout_has("candidates 1");
}

#[test]
fn files() {
    fails("missing_file", 1, &with_job("pings.parquet", "ping.parquet"));
    fails("empty_glob", 1, &with_job("pings.parquet", "days/*.parquet"));
    // This program was built without the feature cloud.
    fails("url", 1, &with_job("pings.parquet", "s3://night/pings"));
    let folder = with_job("pings.parquet", "days");
    folder.write("days/_SUCCESS", "");
    folder.write("days/notes.txt", "none here");
    fails("folder_without_parquet", 1, &folder);

    let truncated = good();
    let whole = std::fs::read(truncated.path("pings.parquet")).expect("the feed");
    std::fs::write(truncated.path("pings.parquet"), &whole[..whole.len() - 40]).expect("a shorter file");
    fails("truncated_file", 1, &truncated);

    let text = good();
    text.write("pings.parquet", "person_id,time,lat,lon\n");
    fails("not_parquet", 1, &text);
    text.write("pings.parquet", "");
    fails("empty_file", 1, &text);

    let garbled = good();
    let mut bytes = whole;
    bytes[4..60].fill(0xff);
    std::fs::write(garbled.path("pings.parquet"), bytes).expect("a broken file");
    fails("broken_page", 1, &garbled);
}

#[test]
fn columns() {
    let missing = good();
    missing.write_parquet("pings.parquet", pings().into_iter().filter(|(n, _)| *n != "lat").collect());
    fails("missing_column", 1, &missing);
    fails("missing_mapped_column", 1, &with_job("datum =", "columns = { lat = \"latitude\" }\ndatum ="));

    let flags = good();
    flags.write_parquet("pings.parquet", replaced("lat", Arc::new(BooleanArray::from(vec![true; 6]))));
    fails("wrong_type", 1, &flags);
    let words = good();
    words.write_parquet("pings.parquet", replaced("time", text_array(["noon"; 6])));
    fails("wrong_type_of_time", 1, &words);
    let numbers = good();
    numbers.write_parquet("pings.parquet", replaced("time", Arc::new(Int64Array::from(vec![NOON; 6]))));
    fails("integer_time_without_unit", 2, &numbers);

    let integers = with_job("cases.csv", "cases.parquet");
    integers.write_parquet(
        "cases.parquet",
        vec![
            ("case_id", text_array(["c1"])),
            ("person_id", Arc::new(Int64Array::from(vec![7]))),
            ("infectious_from", time_array(vec![NOON])),
            ("report_id", text_array(["r1"])),
            ("authority", text_array(["district"])),
        ],
    );
    fails("cases_of_another_kind_of_person", 1, &integers);
    let two = with_job(
        "[cases]",
        "[[feeds]]\nsource = \"gps\"\npath = \"more.parquet\"\ndatum = \"wgs84\"\n[cases]",
    );
    two.write_parquet("more.parquet", replaced("person_id", Arc::new(Int64Array::from(vec![7; 6]))));
    fails("feeds_of_two_kinds_of_person", 1, &two);
}

#[test]
fn job_file() {
    fails("broken_toml", 2, &with_job("[cases]", "[cases"));
    fails("unknown_datum", 2, &with_job("wgs84", "wgs48"));
    fails("no_datum", 2, &with_job("datum = \"wgs84\"", ""));
    fails("no_as_of", 2, &with_job("as_of = \"2022-03-22T00:00:00+08:00\"", ""));
    fails("unreadable_as_of", 2, &with_job("2022-03-22T00:00:00+08:00", "yesterday"));
    fails("as_of_a_day", 2, &with_job("2022-03-22T00:00:00+08:00", "2022-03-22"));
    fails("no_purpose", 2, &with_job("purpose = \"test\"", ""));
    fails("unknown_key", 2, &with_job("datum =", "hold_s_mx = 600\ndatum ="));
    fails(
        "unknown_rule_key",
        2,
        &with_job("version = \"1\"", "version = \"1\"\n[rule.candidate]\ndirect_s_mim = 900"),
    );
    fails("unknown_table", 2, &with_job("[cases]", "[casess]"));
    fails("bad_time_zone", 2, &with_job("Asia/Shanghai", "Asia/Shangai"));
    fails("unknown_preset", 2, &with_job("name = \"near\"\nversion = \"1\"", "preset = \"cdc-15mins\""));
    fails("rule_without_a_name", 2, &with_job("name = \"near\"", ""));
    fails("negative_hold", 2, &with_job("datum =", "hold_s_max = -5\ndatum ="));
    fails("text_for_a_number", 2, &with_job("datum =", "hold_s_max = \"5 min\"\ndatum ="));
    let linear = "version = \"1\"\n[rule.encounter]\nplace = \"grid\"";
    let sandbox = with_job("version = \"1\"", linear);
    let job = std::fs::read_to_string(sandbox.path("job.toml")).expect("the job");
    sandbox.write("job.toml", &job.replace("datum =", "motion = \"linear\"\ndatum ="));
    fails("linear_with_grid", 2, &sandbox);
    fails("trip_feed_with_a_datum", 2, &with_job("source = \"gps\"", "source = \"trip\""));
    let resident = "version = \"1\"\n[rule.candidate]\nresident_h_min = 3\nresident_scope = \"area\"";
    fails("resident_of_no_area", 2, &with_job("version = \"1\"", resident));
    fails(
        "key_of_a_later_version",
        2,
        &with_job("version = \"1\"", "version = \"1\"\n[rule.candidate]\nrisk_min = 0.1"),
    );
}

#[test]
fn cases() {
    fails("case_without_report", 1, &with_cases(&CASES.replace(",r1,", ",,")));
    fails("case_without_authority", 1, &with_cases(&CASES.replace(",district", ",")));
    fails("cases_without_report_column", 1, &with_cases(&CASES.replace("report_id", "report")));
    fails(
        "range_upside_down",
        1,
        &with_cases(&CASES.replace("2022-03-21,2022-03-21", "2022-03-21,2022-03-19")),
    );
    fails("range_missing", 1, &with_cases(&CASES.replace("2022-03-21,2022-03-21", ",2022-03-21")));
    fails("unreadable_case_time", 1, &with_cases(&CASES.replace("2022-03-21,2022-03-21", "21.3.2022,")));
    fails("duplicate_case_id", 1, &with_cases(&format!("{CASES}c1,bo,2022-03-21,,r2,district\n")));
    fails("ragged_csv", 1, &with_cases(&format!("{CASES}c2,bo\n")));
}

const AREAS: &str = "area_id,level,geometry,valid_from,valid_to,dwell_s_min,report_id,authority\n\
    a1,high,\"POLYGON ((113 34, 114 34, 114 35, 113 34))\",2022-03-20,2022-03-21,3600,r1,district\n";

/// The good job with risk areas, of which something is wrong.
fn with_areas(good: &str, wrong: &str) -> crate::support::Sandbox {
    let sandbox = with_job("[cases]", "[risk_areas]\npath = \"areas.csv\"\ndatum = \"wgs84\"\n[cases]");
    assert!(AREAS.contains(good), "{good}");
    sandbox.write("areas.csv", &AREAS.replace(good, wrong));
    sandbox
}

#[test]
fn risk_areas() {
    fails("area_without_report", 1, &with_areas(",r1,", ",,"));
    fails("area_without_authority", 1, &with_areas(",district", ","));
    fails("area_without_geometry_column", 1, &with_areas("geometry", "shape"));
    fails("area_of_points", 1, &with_areas("POLYGON ((113 34, 114 34, 114 35, 113 34))", "POINT (113 34)"));
    fails("area_that_is_no_wkt", 1, &with_areas("POLYGON ((", "POLYGONE (("));
    fails("area_of_two_corners", 1, &with_areas(", 114 35", ""));
    fails("area_upside_down", 1, &with_areas("2022-03-20,2022-03-21", "2022-03-21,2022-03-19"));
    fails("area_without_dwell", 1, &with_areas(",3600,", ",,"));
    fails("area_off_the_globe", 1, &with_areas("114 35", "34 114"));
    let twice = with_areas("a1", "a1");
    twice.write("areas.csv", &format!("{AREAS}{}", AREAS.lines().nth(1).unwrap_or_default()));
    fails("area_listed_twice", 1, &twice);
    let no_datum = with_job("[cases]", "[risk_areas]\npath = \"areas.csv\"\n[cases]");
    no_datum.write("areas.csv", AREAS);
    fails("area_without_datum", 2, &no_datum);
    let json = with_job("[cases]", "[risk_areas]\npath = \"areas.json\"\n[cases]");
    json.write("areas.json", "{ \"type\": \"FeatureCollection\",\n \"features\": [ }");
    fails("area_of_broken_json", 1, &json);
    let home = with_job("[[feeds]]", "area = \"home.csv\"\n[[feeds]]");
    home.write("home.csv", "geometry\n\"POLYGON ((113 34, 114 34, 114 35, 113 34))\"\n");
    fails("home_without_datum", 2, &home);
}

#[test]
fn faulty_cases_can_be_rejections() {
    let sandbox = with_job("path = \"cases.csv\"", "path = \"cases.csv\"\non_error = \"reject\"");
    sandbox.write("cases.csv", &format!("{CASES}c2,bo,,,r2,district\nc3,bo,2022-03-21,,,district\n"));
    let said = run(&sandbox).succeeds();
    assert_eq!(said.stdout.lines().next(), Some("2 of 3 cases rejected: see rejections.parquet"));
    let rejections = crate::support::read(sandbox.path("out/rejections.parquet"));
    assert_eq!(crate::support::text(&rejections, "reason"), ["infectious_from_missing", "report_id_missing"]);
    assert_eq!(crate::support::i64s(&rejections, "row"), [1, 2]);
}

#[test]
fn warnings() {
    let absent = with_cases(&format!("{CASES}c2,zoe,2022-03-21,,r2,district\n"));
    let said = run(&absent).succeeds();
    keep("case_without_pings", &said.stderr, &absent);
    absent
        .copresence(&["run", "job.toml", "--out", "strict", "--strict", "--progress", "none"])
        .fails_with(4);

    let nobody = with_cases(&CASES.replace("ada", "zoe"));
    keep("no_case_has_pings", &run(&nobody).succeeds().stderr, &nobody);
    let before = with_cases(&CASES.replace("2022-03-21,2022-03-21", "2022-03-10,2022-03-11"));
    keep("pings_outside_the_infectious_range", &run(&before).succeeds().stderr, &before);
    let far = good();
    let lons = vec![113.68, 113.7, 113.68, 113.7, 113.68, 113.7];
    far.write_parquet("pings.parquet", replaced("lon", Arc::new(Float64Array::from(lons))));
    keep("nobody_near", &run(&far).succeeds().stderr, &far);
    let high = with_job("version = \"1\"", "version = \"1\"\n[rule.candidate]\ndirect_s_min = 7200");
    keep("threshold_out_of_reach", &run(&high).succeeds().stderr, &high);
}

#[test]
fn pings_that_cannot_count() {
    fails("all_pings_outside_the_lookback", 1, &with_job("2022-03-22T00:00", "2023-03-22T00:00"));
    let wrong_unit = with_job("datum =", "time_unit = \"s\"\ndatum =");
    let millis = Arc::new(Int64Array::from((0..6).map(|n| NOON + n * MINUTE).collect::<Vec<_>>()));
    wrong_unit.write_parquet("pings.parquet", replaced("time", millis));
    fails("milliseconds_called_seconds", 1, &wrong_unit);

    let nan = good();
    nan.write_parquet("pings.parquet", replaced("lat", Arc::new(Float64Array::from(vec![f64::NAN; 6]))));
    fails("too_many_rejected", 1, &nan);

    // A few are rejections, with file and row.
    let some = with_job("time_zone", "rejected_share_max = 0.5\ntime_zone");
    let lats = Float64Array::from(vec![Some(34.75), Some(34.75), Some(91.0), None, Some(34.75), Some(34.75)]);
    some.write_parquet("pings.parquet", replaced("lat", Arc::new(lats)));
    run(&some).succeeds().stdout_has("2 rejected");
    let rejections = crate::support::read(some.path("out/rejections.parquet"));
    assert_eq!(crate::support::text(&rejections, "reason"), ["lat_out_of_range", "lat_missing"]);
    assert_eq!(crate::support::text(&rejections, "file"), ["pings.parquet"; 2]);
    assert_eq!(crate::support::text(&rejections, "feed"), ["feeds[0]"; 2]);
    assert_eq!(crate::support::i64s(&rejections, "row"), [2, 3]);
}

#[test]
fn output() {
    let sandbox = good();
    run(&sandbox).succeeds();
    fails("output_exists", 1, &sandbox);
    // What a killed run left is swept away by the next one.
    sandbox.write(".out.partial-7-0/candidates.parquet", "half");
    sandbox.write(".out.partial-7-0.lock", "");
    sandbox.write(".out.partial-8-0-replaced/candidates.parquet", "old");
    sandbox.copresence(&["run", "job.toml", "--out", "out", "--force"]).succeeds();
    assert!(!listing(&sandbox).iter().any(|name| name.contains("partial") || name.contains("replaced")));

    // A folder that is no output of ours is never replaced, whatever the flags say.
    sandbox.write("out/notes.txt", "a reviewer's");
    sandbox.copresence(&["run", "job.toml", "--out", "out", "--force"]).fails_with(1);
    let web = good();
    web.write("web/manifest.json", "{\"name\": \"a web page\"}");
    web.copresence(&["run", "job.toml", "--out", "web", "--force"]).fails_with(1);
    // An empty folder holds nothing to lose.
    let empty = good();
    std::fs::create_dir(empty.path("out")).expect("a folder");
    empty.copresence(&["run", "job.toml", "--out", "out"]).fails_with(1);
    empty.copresence(&["run", "job.toml", "--out", "out", "--force"]).succeeds();
    let precious = good();
    precious.write("out/precious.txt", "keep me");
    fails("output_is_something_else", 1, &precious);
    precious.copresence(&["run", "job.toml", "--out", "out", "--force"]).fails_with(1);
    assert_eq!(std::fs::read_to_string(precious.path("out/precious.txt")).expect("still there"), "keep me");
}

/// A file may not grow past 512 bytes, which is how a full disk looks to one that is being written.
#[cfg(target_os = "linux")]
#[test]
fn disk_full() {
    let sandbox = good();
    let before = listing(&sandbox);
    let output = std::process::Command::new("bash")
        .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" run job.toml --out out --progress none"])
        .arg(env!("CARGO_BIN_EXE_copresence"))
        .current_dir(sandbox.path(""))
        .output()
        .expect("bash starts");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(listing(&sandbox), before, "a failed run leaves nothing behind");
    keep("disk_full", &String::from_utf8(output.stderr).expect("UTF-8"), &sandbox);
}

/// A full file system, where the kernel lets us make one.
#[cfg(target_os = "linux")]
#[test]
fn file_system_full() {
    let sandbox = good();
    let script = "mkdir small && mount -t tmpfs -o size=4k none small && exec \"$0\" run job.toml --out small/out --progress none";
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "bash", "-c", script])
        .arg(env!("CARGO_BIN_EXE_copresence"))
        .current_dir(sandbox.path(""))
        .output();
    let Ok(output) = output else { return };
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    if said.contains("mount") || said.contains("unshare") {
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("room for the result") && said.contains("No space left"), "{said}");
}
