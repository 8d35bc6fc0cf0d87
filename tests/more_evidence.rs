//! Trips and risk areas, as the program writes them.

use crate::support::{Sandbox, i64s, read, text, text_array, time_array};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use std::sync::Arc;

/// 2022-03-21T00:00:00+08:00.
const MIDNIGHT: i64 = 1_647_792_000_000;
const MINUTE: i64 = 60_000;
const HEAD: &str = "[job]\nname = \"night\"\npurpose = \"test\"\nas_of = \"2022-03-22T00:00:00+08:00\"\n\
                    time_zone = \"Asia/Shanghai\"\n";
const CASES: &str = "case_id,person_id,infectious_from,report_id,authority\nc1,c,2022-03-20,r1,district\n";

fn strings(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(values.iter().copied().collect::<arrow::array::StringArray>())
}

/// Rows of a gps feed: who, minute of the day, latitude, longitude.
fn write_pings(sandbox: &Sandbox, pings: &[(&str, i64, f64, f64)]) {
    sandbox.write_parquet(
        "pings.parquet",
        vec![
            ("person_id", text_array(pings.iter().map(|p| p.0))),
            ("time", time_array(pings.iter().map(|p| MIDNIGHT + p.1 * MINUTE))),
            ("lat", Arc::new(pings.iter().map(|p| Some(p.2)).collect::<Float64Array>())),
            ("lon", Arc::new(pings.iter().map(|p| Some(p.3)).collect::<Float64Array>())),
        ],
    );
}

/// Who, from and until which minute of the day, on which trip, in which vehicle, coach and row.
type Leg = (&'static str, i64, i64, &'static str, &'static str, Option<&'static str>, Option<i64>);

#[test]
fn a_train_and_a_plane() {
    let sandbox = Sandbox::new();
    sandbox.write("cases.csv", CASES);
    // On the train c sits in coach 7; on the plane in row 30, from 10:00 to 12:00, and q boards at 11:55.
    let rows: [Leg; 8] = [
        ("c", 60, 120, "G1", "sealed train", Some("7"), None),
        ("p", 90, 180, "G1", "sealed train", Some("7"), None),
        ("r", 60, 180, "G1", "sealed train", Some("8"), None),
        ("s", 60, 180, "G1", "sealed train", None, None),
        ("c", 600, 720, "CZ3001", "air", None, Some(30)),
        ("q", 715, 800, "CZ3001", "air", None, Some(33)),
        ("r", 600, 720, "CZ3001", "air", None, Some(34)),
        ("t", 600, 720, "CZ3001", "rocket", None, Some(30)),
    ];
    let at = |minute: i64| MIDNIGHT + minute * MINUTE;
    sandbox.write_parquet(
        "trips.parquet",
        vec![
            ("person_id", text_array(rows.iter().map(|r| r.0))),
            ("time", time_array(rows.iter().map(|r| at(r.1)))),
            ("until", time_array(rows.iter().map(|r| at(r.2)))),
            ("trip_id", text_array(rows.iter().map(|r| r.3))),
            ("vehicle", text_array(rows.iter().map(|r| r.4))),
            ("coach", strings(&rows.map(|r| r.5))),
            ("seat_row", Arc::new(rows.iter().map(|r| r.6).collect::<Int64Array>())),
        ],
    );
    let job = format!(
        "{HEAD}rejected_share_max = 0.2\n[[feeds]]\nsource = \"trip\"\npath = \"trips.parquet\"\n\
         [cases]\npath = \"cases.csv\"\n[rule]\nname = \"r\"\nversion = \"1\"\n"
    );
    sandbox.write("job.toml", &job);
    let said = sandbox.copresence(&["run", "job.toml", "--out", "out", "--encounters", "all"]).succeeds();
    assert!(said.stderr.contains("1 of 7 trips do not say the coach, bay, row or cabin"), "{}", said.stderr);
    let candidates = read(sandbox.path("out/candidates.parquet"));
    assert_eq!(text(&candidates, "person_id"), ["p", "q"]);
    assert_eq!(text(&candidates, "reason"), ["exposure,trip", "trip"]);
    assert_eq!(i64s(&candidates, "direct_s"), [1_800, 300]);
    let encounters = read(sandbox.path("out/encounters.parquet"));
    assert_eq!(text(&encounters, "place"), ["G1", "CZ3001"]);
    assert_eq!(text(&encounters, "source"), ["trip", "trip"]);
    let cases = read(sandbox.path("out/cases.parquet"));
    assert_eq!((i64s(&cases, "trip_stays"), i64s(&cases, "trip_observed_s")), (vec![2], vec![10_800]));
    let rejections = read(sandbox.path("out/rejections.parquet"));
    assert_eq!(text(&rejections, "reason"), ["vehicle_unknown"]);
    sandbox
        .copresence(&["explain", "out", "--person", "q"])
        .succeeds()
        .stdout_has("reason trip")
        .stdout_has("trip with the case's trip at CZ3001");
}

/// A block of half a degree with a hole in it, listed until noon of the 21st.
const AREA: &str = r#"{ "type": "FeatureCollection", "features": [ { "type": "Feature",
  "properties": { "area_id": "a1", "level": "high", "valid_from": "2022-03-20", "valid_to": "2022-03-21T12:00:00+08:00",
    "report_id": "notice 17", "authority": "district" },
  "geometry": { "type": "Polygon", "coordinates": [
    [[113.5, 34.5], [114, 34.5], [114, 35], [113.5, 35], [113.5, 34.5]],
    [[113.7, 34.7], [113.8, 34.7], [113.8, 34.8], [113.7, 34.8], [113.7, 34.7]] ] } } ] }"#;

fn area_job(sandbox: &Sandbox, more: &str, cases: &str) {
    sandbox.write("areas.geojson", AREA);
    sandbox.write(
        "job.toml",
        &format!(
            "{HEAD}[[feeds]]\nsource = \"gps\"\npath = \"pings.parquet\"\ndatum = \"wgs84\"\n{more}\
             {cases}[risk_areas]\npath = \"areas.geojson\"\n[rule]\npreset = \"area-1h\"\n"
        ),
    );
}

/// Pings every ten minutes at one position.
fn stands(who: &'static str, from: i64, to: i64, lat: f64, lon: f64) -> Vec<(&'static str, i64, f64, f64)> {
    (from..=to).step_by(10).map(|minute| (who, minute, lat, lon)).collect()
}

#[test]
fn dwells_in_an_area_without_cases() {
    let sandbox = Sandbox::new();
    let pings = [
        // An hour on the border, and 50 minutes and a hold of 15 short of it in the hole.
        [stands("on-border", 600, 640, 34.5, 113.6), stands("on-border", 645, 645, 34.5, 113.6)].concat(),
        stands("in-hole", 600, 700, 34.75, 113.75),
        stands("too-short", 600, 620, 34.6, 113.6),
        // Three hours, of which one before noon.
        stands("until-noon", 660, 840, 34.6, 113.6),
        stands("outside", 600, 700, 34.4, 113.6),
    ];
    write_pings(&sandbox, &pings.concat());
    area_job(&sandbox, "", "");
    let said = sandbox.copresence(&["check", "job.toml", "--progress", "none"]).succeeds();
    said.stdout_has("risk areas: 1; 3 people have a ping in one while it is listed").stdout_has(
        "a1 (high): 3 people; 2022-03-19T16:00:00.000Z to 2022-03-21T04:00:00.000Z, at least 3600 s; report notice 17, district",
    );
    sandbox.copresence(&["run", "job.toml", "--out", "out"]).succeeds();
    let candidates = read(sandbox.path("out/candidates.parquet"));
    assert_eq!(text(&candidates, "person_id"), ["on-border", "until-noon"]);
    assert_eq!(text(&candidates, "reason"), ["area", "area"]);
    assert_eq!(i64s(&candidates, "case_count"), [0, 0]);
    assert!(candidates.column_by_name("case_id").expect("case_id").is_null(0));
    let dwells = read(sandbox.path("out/dwells.parquet"));
    assert_eq!(text(&dwells, "person_id"), ["on-border", "until-noon"]);
    assert_eq!(i64s(&dwells, "dwell_s"), [3_600, 3_600]);
    assert_eq!(text(&dwells, "authority"), ["district", "district"]);
    sandbox
        .copresence(&["explain", "out", "--person", "until-noon"])
        .succeeds()
        .stdout_has("by no case")
        .stdout_has("Dwell of 3600 s in risk area a1 (high), from 2022-03-21 11:00:00")
        .stdout_has("report notice 17, district");
}

#[test]
fn a_case_in_an_area_is_no_candidate() {
    let sandbox = Sandbox::new();
    sandbox.write("cases.csv", CASES);
    let pings = [stands("c", 0, 300, 34.6, 113.6), stands("p", 0, 300, 34.6, 113.6)];
    write_pings(&sandbox, &pings.concat());
    area_job(&sandbox, "", "[cases]\npath = \"cases.csv\"\n");
    sandbox.copresence(&["run", "job.toml", "--out", "out"]).succeeds();
    let candidates = read(sandbox.path("out/candidates.parquet"));
    assert_eq!(text(&candidates, "person_id"), ["p"]);
    assert_eq!(text(&candidates, "reason"), ["area,exposure"]);
    assert_eq!(read(sandbox.path("out/dwells.parquet")).num_rows(), 1);
    let csv = std::fs::read_to_string(sandbox.path("out/candidates.csv")).expect("the candidates");
    assert!(csv.contains("\"area,exposure\""), "{csv}");
}

#[test]
fn who_moves_is_in_an_area_while_passing_through() {
    let sandbox = Sandbox::new();
    // From a quarter of a degree west of the area to as far east of it, in two hours, north of the hole.
    let ways = [
        ("p", 0, 34.9, 113.25),
        ("p", 120, 34.9, 114.25),
        ("q", 0, 34.75, 113.25),
        ("q", 120, 34.75, 114.25),
    ];
    write_pings(&sandbox, &ways);
    area_job(&sandbox, "motion = \"linear\"\nhold_s_max = 7200\n", "");
    sandbox.copresence(&["run", "job.toml", "--out", "out"]).succeeds();
    let dwells = read(sandbox.path("out/dwells.parquet"));
    // q goes through the hole for 12 minutes, and is inside for 48.
    assert_eq!(text(&dwells, "person_id"), ["p"]);
    assert_eq!(i64s(&dwells, "dwell_s"), [3_600]);
    let first = dwells.column_by_name("first_at").expect("first_at");
    let first = first.as_primitive::<arrow::datatypes::TimestampMillisecondType>().value(0);
    assert_eq!(first, MIDNIGHT + 30 * MINUTE);
}

#[test]
fn a_forwarded_code_is_no_dwell() {
    let sandbox = Sandbox::new();
    // p is at home all the time, 100 km away, and scans a code of a venue inside the area; q is really there.
    write_pings(&sandbox, &stands("p", 0, 300, 33.5, 113.6));
    sandbox.write("venues.csv", "venue_id,lat,lon,radius_m\nmall,34.6,113.6,50\n");
    let until = MIDNIGHT + 240 * MINUTE;
    sandbox.write_parquet(
        "scans.parquet",
        vec![
            ("person_id", text_array(["p", "q"])),
            ("time", time_array([MIDNIGHT, MIDNIGHT])),
            ("venue_id", text_array(["mall", "mall"])),
            ("until", time_array([until, until])),
        ],
    );
    let scans = "[[feeds]]\nsource = \"venue\"\npath = \"scans.parquet\"\n\
                 venues = { path = \"venues.csv\", datum = \"wgs84\" }\n";
    area_job(&sandbox, scans, "");
    sandbox.copresence(&["run", "job.toml", "--out", "out"]).succeeds();
    assert_eq!(text(&read(sandbox.path("out/candidates.parquet")), "person_id"), ["q"]);
}

#[test]
fn residents_of_the_jobs_own_area() {
    let sandbox = Sandbox::new();
    sandbox.write("cases.csv", CASES);
    let pings = [
        stands("c", 0, 20, 34.6, 113.6),
        stands("lives-there", 0, 20, 34.6, 113.6),
        stands("lives-there", 600, 900, 34.9, 113.9),
        stands("came-by", 0, 20, 34.6, 113.6),
        stands("came-by", 600, 900, 34.2, 113.9),
    ];
    write_pings(&sandbox, &pings.concat());
    sandbox.write("home.geojson", AREA);
    let job = |of: &str| {
        format!(
            "{}area = \"home.geojson\"\n[[feeds]]\nsource = \"gps\"\npath = \"pings.parquet\"\ndatum = \"wgs84\"\n\
             [cases]\npath = \"cases.csv\"\n[rule]\nname = \"r\"\nversion = \"1\"\n[rule.candidate]\n\
             resident_h_min = 5\nresident_of = \"{of}\"\nresident_scope = \"area\"\n",
            HEAD
        )
    };
    for (of, found) in [("person", &["lives-there"][..]), ("case", &[]), ("either", &["lives-there"])] {
        sandbox.write("job.toml", &job(of));
        sandbox.copresence(&["run", "job.toml", "--out", "out", "--force"]).succeeds();
        assert_eq!(text(&read(sandbox.path("out/candidates.parquet")), "person_id"), found, "{of}");
    }
}

#[test]
fn who_lives_in_the_square_of_a_venue_is_resident_there() {
    let sandbox = Sandbox::new();
    sandbox.write("cases.csv", CASES);
    sandbox.write("venues.csv", "venue_id,lat,lon\nhostel,34.6,113.6\n");
    let until = MIDNIGHT + 600 * MINUTE;
    sandbox.write_parquet(
        "scans.parquet",
        vec![
            ("person_id", text_array(["c", "p"])),
            ("time", time_array([MIDNIGHT, MIDNIGHT])),
            ("venue_id", text_array(["hostel", "hostel"])),
            ("until", time_array([until, until])),
        ],
    );
    for (hours, found) in [("10", &["p"][..]), ("10.1", &[])] {
        sandbox.write(
            "job.toml",
            &format!(
                "{HEAD}[[feeds]]\nsource = \"venue\"\npath = \"scans.parquet\"\n\
                 venues = {{ path = \"venues.csv\", datum = \"wgs84\" }}\n[cases]\npath = \"cases.csv\"\n\
                 [rule]\npreset = \"companion-800m\"\n[rule.candidate]\nresident_h_min = {hours}\n"
            ),
        );
        sandbox.copresence(&["run", "job.toml", "--out", "out", "--force"]).succeeds();
        assert_eq!(text(&read(sandbox.path("out/candidates.parquet")), "person_id"), found, "{hours}");
    }
}

#[test]
fn damaged_geometries_stop_the_run() {
    let sandbox = Sandbox::new();
    write_pings(&sandbox, &stands("p", 0, 60, 34.6, 113.6));
    let table = |geometry: ArrayRef| {
        let one = |value: &'static str| text_array([value]);
        vec![
            ("area_id", one("a1")),
            ("level", one("high")),
            ("geometry", geometry),
            ("valid_from", one("2022-03-20")),
            ("dwell_s_min", Arc::new(Float64Array::from(vec![60.0])) as ArrayRef),
            ("report_id", one("r")),
            ("authority", one("district")),
        ]
    };
    // Four thousand million rings.
    let huge: &[u8] = &[1, 3, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    let far = "POLYGON ((0 0, 1 0, 1 1, 0 0)) POLYGON ((113 34, 114 34, 114 35, 113 34))";
    let geometries: [(ArrayRef, &str); 3] = [
        (
            Arc::new(arrow::array::BinaryArray::from(vec![huge])),
            "WKB that announces 4294967295 parts in 0 bytes",
        ),
        (text_array([far]), "WKT with something after its end"),
        (text_array(["SRID=3857;POLYGON ((0 0, 1 0, 1 1, 0 0))"]), "SRID=3857, which is not WGS84"),
    ];
    for (geometry, said) in geometries {
        sandbox.write_parquet("areas.parquet", table(geometry));
        sandbox.write(
            "job.toml",
            &format!(
                "{HEAD}[[feeds]]\nsource = \"gps\"\npath = \"pings.parquet\"\ndatum = \"wgs84\"\n\
                 [risk_areas]\npath = \"areas.parquet\"\ndatum = \"wgs84\"\n[rule]\npreset = \"area-1h\"\n"
            ),
        );
        sandbox
            .copresence(&["run", "job.toml", "--out", "out"])
            .fails_with(1)
            .stderr_has("areas.parquet, row 0 (area a1), column geometry")
            .stderr_has(said);
    }
}
