//! Evidence of every kind, as the program writes it.

use crate::support::{Sandbox, i64s, opt_f64s, read, text, text_array, time_array};
use arrow::array::{ArrayRef, Float64Array};
use std::sync::Arc;

const HOUR: i64 = 3_600_000;
/// 2022-03-20T00:00:00+08:00.
const MIDNIGHT: i64 = 1_647_705_600_000;

const HEAD: &str =
    "[job]\npurpose = \"test\"\nas_of = \"2022-03-22T00:00:00+08:00\"\ntime_zone = \"Asia/Shanghai\"\n";
const CASES: &str = "case_id,person_id,infectious_from,report_id,authority\nc1,c,2022-03-20,r1,district\n";

/// The example of docs/evidence.md: c is at one tower for 32 hours, p for two of them.
fn one_tower() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("cases.csv", CASES);
    sandbox.write("towers.csv", "tower_id,lat,lon,range_m\nt1,34.75,113.65,300\n");
    let case = (0..=64).map(|half_hour| ("c", MIDNIGHT + half_hour * HOUR / 2));
    let other = (20..=24).map(|half_hour| ("p", MIDNIGHT + half_hour * HOUR / 2));
    let (persons, times): (Vec<&str>, Vec<i64>) = case.chain(other).unzip();
    let towers: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["t1"; persons.len()]));
    sandbox.write_parquet(
        "tower.parquet",
        vec![("person_id", text_array(persons)), ("time", time_array(times)), ("tower_id", towers)],
    );
    sandbox
}

fn run(sandbox: &Sandbox, preset: &str) {
    sandbox.write(
        "job.toml",
        &format!(
            "{HEAD}[[feeds]]\nsource = \"tower\"\npath = \"tower.parquet\"\nhold_s_max = 1800\n\
             towers = {{ path = \"towers.csv\", datum = \"wgs84\" }}\n\
             [cases]\npath = \"cases.csv\"\n[rule]\npreset = \"{preset}\"\n"
        ),
    );
    sandbox.copresence(&["run", "job.toml", "--out", "out", "--force", "--encounters", "all"]).succeeds();
}

#[test]
fn one_tower_under_two_rules() {
    let sandbox = one_tower();
    run(&sandbox, "companion-800m");
    let candidates = read(sandbox.path("out/candidates.parquet"));
    assert_eq!(text(&candidates, "person_id"), ["p"]);
    assert_eq!(i64s(&candidates, "direct_s"), [9_000]);
    run(&sandbox, "calibrated");
    assert_eq!(read(sandbox.path("out/candidates.parquet")).num_rows(), 0);
    let exposures = read(sandbox.path("out/exposures.parquet"));
    assert_eq!(i64s(&exposures, "direct_s"), [9_000]);
    assert_eq!(i64s(&exposures, "expected_s"), [246]);
    // s^2 = 150^2 + 150^2, and at distance 0 the distribution is Rayleigh's.
    let expected = 1.0 - f64::exp(-50.0 * 50.0 / (2.0 * 2.0 * 150.0 * 150.0));
    let probability =
        opt_f64s(&read(sandbox.path("out/encounters.parquet")), "probability")[0].expect("a number");
    assert!((probability - expected).abs() < 1e-9 && (0.027..0.028).contains(&probability), "{probability}");
    let dose_h = 2.5 * (1.0 - f64::exp(-2.0 * 2.0 / (2.0 * 2.0 * 150.0 * 150.0)));
    assert!((opt_f64s(&exposures, "dose_h")[0].expect("a number") - dose_h).abs() < 1e-9);
    assert!(
        (opt_f64s(&exposures, "risk")[0].expect("a number") - (1.0 - f64::exp(-0.011 * dose_h))).abs()
            < 1e-12
    );
}

#[test]
fn fewer_hours_of_the_case_are_no_dwell() {
    let sandbox = one_tower();
    run(&sandbox, "companion-800m");
    let job = std::fs::read_to_string(sandbox.path("job.toml")).expect("the job");
    sandbox.write("job.toml", &format!("{job}[rule.candidate]\nresident_h_min = 33\n"));
    sandbox.copresence(&["run", "job.toml", "--out", "out", "--force"]).succeeds().stdout_has("candidates 0");
    for (of, candidates) in [("case", 1), ("person", 0), ("either", 1)] {
        sandbox.write(
            "job.toml",
            &format!("{job}[rule.candidate]\nresident_h_min = 32\nresident_of = \"{of}\"\n"),
        );
        sandbox
            .copresence(&["run", "job.toml", "--out", "out", "--force"])
            .succeeds()
            .stdout_has(&format!("candidates {candidates}"));
    }
}

#[test]
fn a_tower_without_a_range_cannot_be_weighed() {
    let sandbox = one_tower();
    sandbox.write("towers.csv", "tower_id,lat,lon,range_m\nt1,34.75,113.65,\n");
    sandbox.write(
        "job.toml",
        &format!(
            "{HEAD}rejected_share_max = 1\n[[feeds]]\nsource = \"tower\"\npath = \"tower.parquet\"\n\
             towers = {{ path = \"towers.csv\", datum = \"wgs84\" }}\n\
             [cases]\npath = \"cases.csv\"\n[rule]\npreset = \"calibrated\"\n"
        ),
    );
    sandbox.copresence(&["check", "job.toml"]).stdout_has("range_m_missing");
    sandbox.write("towers.csv", "tower_id,lat,lon\nt1,34.75,113.65\n");
    sandbox.copresence(&["check", "job.toml"]).fails_with(1).stderr_has("range_m");
}

#[test]
fn a_code_scanned_from_home_is_a_rejection() {
    let sandbox = Sandbox::new();
    sandbox.write("cases.csv", CASES);
    sandbox.write("venues.csv", "venue_id,lat,lon,radius_m\nbar,34.75,113.65,30\n");
    sandbox.write_parquet(
        "scans.parquet",
        vec![
            ("person_id", text_array(["c", "there", "home", "unseen"])),
            ("time", time_array(vec![MIDNIGHT + 20 * HOUR; 4])),
            ("venue_id", text_array(["bar"; 4])),
        ],
    );
    // A few metres from the bar, and some 5.5 km north of it.
    let lats: ArrayRef = Arc::new(Float64Array::from(vec![34.7501, 34.80]));
    let lons: ArrayRef = Arc::new(Float64Array::from(vec![113.65; 2]));
    sandbox.write_parquet(
        "gps.parquet",
        vec![
            ("person_id", text_array(["there", "home"])),
            ("time", time_array(vec![MIDNIGHT + 20 * HOUR - 60_000; 2])),
            ("lat", lats),
            ("lon", lons),
        ],
    );
    sandbox.write(
        "job.toml",
        &format!(
            "{HEAD}[[feeds]]\nsource = \"venue\"\npath = \"scans.parquet\"\nvenues = {{ path = \"venues.csv\", datum = \"wgs84\" }}\n\
             [[feeds]]\nsource = \"gps\"\npath = \"gps.parquet\"\ndatum = \"wgs84\"\n\
             [cases]\npath = \"cases.csv\"\n[rule]\nname = \"r\"\nversion = \"1\"\n"
        ),
    );
    sandbox.copresence(&["run", "job.toml", "--out", "out"]).succeeds().stdout_has("candidates 2");
    assert_eq!(text(&read(sandbox.path("out/candidates.parquet")), "person_id"), ["there", "unseen"]);
    let rejections = read(sandbox.path("out/rejections.parquet"));
    assert_eq!(text(&rejections, "reason"), ["contradicted"]);
    assert_eq!(text(&rejections, "feed"), ["feeds[0]"]);
    assert_eq!(i64s(&rejections, "row"), [2]);
    let manifest = std::fs::read_to_string(sandbox.path("out/manifest.json")).expect("the manifest");
    assert!(manifest.contains("\"scans_contradicted\": 1"), "{manifest}");
    // So far apart is allowed.
    sandbox
        .copresence(&[
            "run",
            "job.toml",
            "--out",
            "out",
            "--force",
            "--set",
            "rule.encounter.contradiction_m=6000",
        ])
        .succeeds()
        .stdout_has("candidates 3");
}

#[test]
fn a_scan_ends_when_the_venue_closes() {
    let sandbox = Sandbox::new();
    sandbox.write("cases.csv", CASES);
    sandbox.write(
        "venues.csv",
        "venue_id,closes_at,stay_s,kind\nbar,01:00,,\nshop,21:00,7200,\ncafe,,,cafe\nhall,,36000,\nplain,,,\n",
    );
    let venues = ["bar", "shop", "cafe", "hall", "plain"];
    let scans = |person: &'static str| venues.map(|_| person);
    let persons: Vec<&str> = scans("c").into_iter().chain(venues.map(|v| v)).collect();
    let times: Vec<i64> = vec![MIDNIGHT + 20 * HOUR + HOUR / 2; 10];
    sandbox.write_parquet(
        "scans.parquet",
        vec![
            ("person_id", text_array(persons)),
            ("time", time_array(times)),
            ("venue_id", text_array(venues.into_iter().chain(venues))),
        ],
    );
    sandbox.write(
        "job.toml",
        &format!(
            "{HEAD}[[feeds]]\nsource = \"venue\"\npath = \"scans.parquet\"\nhold_s_max = 25200\nvenues = {{ path = \"venues.csv\" }}\n\
             [cases]\npath = \"cases.csv\"\n[rule]\npreset = \"venue-alert\"\n"
        ),
    );
    sandbox.copresence(&["run", "job.toml", "--out", "out"]).succeeds();
    let exposures = read(sandbox.path("out/exposures.parquet"));
    assert_eq!(text(&exposures, "person_id"), ["bar", "cafe", "hall", "plain", "shop"]);
    // To one o'clock, 45 min, to midnight, 7 h, to nine o'clock.
    assert_eq!(i64s(&exposures, "direct_s"), [16_200, 2_700, 12_600, 25_200, 1_800]);
}
