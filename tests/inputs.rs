//! Files as they come: other types, other layouts, other people's tools. Each case was once wrong.

use crate::support::{Sandbox, i64s, read, text, text_array, time_array};
use arrow::array::{ArrayRef, Float64Array, Int64Array, NullArray, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use std::sync::Arc;

/// 2022-03-21T12:00:00Z.
const NOON: i64 = 1_647_864_000_000;
const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

const CASES: &str = "case_id,person_id,infectious_from,report_id,authority\nc1,ada,2022-03-20,r1,district\n";

fn job(feed: &str, rest: &str) -> String {
    format!(
        "[job]\npurpose = \"test\"\nas_of = \"2022-03-22T00:00:00Z\"\ntime_zone = \"UTC\"\n[[feeds]]\n{feed}\n\
         [cases]\npath = \"cases.csv\"\n[rule]\nname = \"r\"\nversion = \"1\"\n{rest}\n"
    )
}

fn sandbox(feed: &str, rest: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("job.toml", &job(feed, rest));
    sandbox.write("cases.csv", CASES);
    sandbox
}

const GPS: &str = "source = \"gps\"\npath = \"p\"\ndatum = \"wgs84\"";

fn run(sandbox: &Sandbox) -> crate::support::Run {
    sandbox.copresence(&[
        "run",
        "job.toml",
        "--out",
        "out",
        "--force",
        "--encounters",
        "all",
        "--progress",
        "none",
    ])
}

fn gps(times: &[i64]) -> Vec<(&'static str, ArrayRef)> {
    let persons: Vec<&str> = (0..times.len()).map(|n| if n % 2 == 0 { "ada" } else { "bo" }).collect();
    vec![
        ("person_id", text_array(persons)),
        ("time", time_array(times.to_vec())),
        ("lat", Arc::new(Float64Array::from(vec![34.75; times.len()]))),
        ("lon", Arc::new(Float64Array::from(vec![113.68; times.len()]))),
    ]
}

fn replaced(
    columns: Vec<(&'static str, ArrayRef)>,
    name: &str,
    column: ArrayRef,
) -> Vec<(&'static str, ArrayRef)> {
    columns.into_iter().map(|(n, c)| (n, if n == name { column.clone() } else { c })).collect()
}

/// The direct seconds of the one exposure there is.
fn direct_s(sandbox: &Sandbox) -> Vec<i64> {
    run(sandbox).succeeds();
    i64s(&read(sandbox.path("out/exposures.parquet")), "direct_s")
}

#[test]
fn a_hive_null_is_no_venue_and_hive_spells_out_signs() {
    let sandbox = sandbox("source = \"venue\"\npath = \"p\"", "");
    let scans = || vec![("person_id", text_array(["ada", "bo"])), ("time", time_array(vec![NOON, NOON]))];
    sandbox.write_parquet("p/venue_id=caf%C3%A9%20a%2Fb/x.parquet", scans());
    assert_eq!(direct_s(&sandbox), [1_800]);
    assert_eq!(text(&read(sandbox.path("out/encounters.parquet")), "place"), ["café a/b"]);
    sandbox.write_parquet("p/venue_id=__HIVE_DEFAULT_PARTITION__/x.parquet", scans());
    run(&sandbox).fails_with(1).stderr_has("venue_id_missing");
}

#[test]
fn persons_are_never_named_by_files_or_headers() {
    let folders = sandbox(GPS, "");
    folders.write_parquet("p/person_id=secret/x.parquet", gps(&[NOON, NOON]).split_off(1));
    let said = run(&folders).fails_with(1).stderr_has("a person_id in a column of the files");
    assert!(!said.stderr.contains("secret"), "{}", said.stderr);
    let headless = sandbox(GPS, "");
    headless.write_parquet("p/x.parquet", gps(&[NOON, NOON]));
    headless.write("cases.csv", "c1,secret,2022-03-20,r1,district\n");
    let said = run(&headless).fails_with(1).stderr_has("a header that names the columns");
    assert!(!said.stderr.contains("secret"), "{}", said.stderr);
}

/// What a run makes of 2 bad rows in 50 of the lookback does not hang on how files are cut.
#[test]
fn the_share_of_rejected_rows_is_of_the_lookback() {
    let times: Vec<i64> =
        (0..200).map(|n| if n < 150 { NOON - 40 * DAY } else { NOON } + n * MINUTE).collect();
    let lats: Vec<f64> = (0..200).map(|n| if n < 198 { 34.75 } else { 999.0 }).collect();
    for row_group_rows in [200, 150] {
        let sandbox = sandbox(GPS, "");
        let columns = replaced(gps(&times), "lat", Arc::new(Float64Array::from(lats.clone())));
        let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
        std::fs::create_dir(sandbox.path("p")).expect("a folder");
        let properties =
            WriterProperties::builder().set_max_row_group_row_count(Some(row_group_rows)).build();
        let file = std::fs::File::create(sandbox.path("p/x.parquet")).expect("a file");
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("a writer");
        writer.write(&batch).expect("rows");
        writer.close().expect("a footer");
        run(&sandbox).fails_with(1).stderr_has("more than 0 of 50 rows");
    }
}

#[test]
fn integers_of_several_widths_are_one_type_in_any_order() {
    let signed: ArrayRef = Arc::new(Int64Array::from(vec![7, 8]));
    let unsigned: ArrayRef = Arc::new(UInt32Array::from(vec![7, 8]));
    let mut kinds = Vec::new();
    for (a, b) in [(&signed, &unsigned), (&unsigned, &signed)] {
        let sandbox = sandbox(GPS, "");
        sandbox.write("cases.csv", &CASES.replace("ada", "7"));
        sandbox.write_parquet("p/a.parquet", replaced(gps(&[NOON, NOON]), "person_id", a.clone()));
        sandbox.write_parquet(
            "p/b.parquet",
            replaced(gps(&[NOON + MINUTE, NOON + MINUTE]), "person_id", b.clone()),
        );
        assert_eq!(direct_s(&sandbox), [960]);
        kinds.push(read(sandbox.path("out/exposures.parquet")).schema().field(0).data_type().clone());
    }
    assert_eq!(kinds, [DataType::Int64, DataType::Int64]);
}

#[test]
fn unsigned_seconds_reach_beyond_2038() {
    let sandbox = sandbox(&format!("{GPS}\ntime_unit = \"s\""), "");
    let later = sandbox.path("job.toml");
    let text = std::fs::read_to_string(&later).expect("the job").replace("2022-03-22T", "2040-03-22T");
    sandbox.write("job.toml", &text);
    sandbox.write("cases.csv", &CASES.replace("2022-03-20", "2040-03-20"));
    let noon_2040: u32 = 2_215_944_000;
    let times = Arc::new(UInt32Array::from(vec![noon_2040, noon_2040]));
    sandbox.write_parquet("p/x.parquet", replaced(gps(&[NOON, NOON]), "time", times));
    assert_eq!(direct_s(&sandbox), [900]);
}

/// Writes columns that may hold nulls, and may share a name.
fn write_nullable(sandbox: &Sandbox, name: &str, columns: Vec<(&str, ArrayRef)>) {
    let fields: Vec<Field> =
        columns.iter().map(|(n, c)| Field::new(*n, c.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let columns = columns.into_iter().map(|(_, c)| c).collect();
    let batch = RecordBatch::try_new(schema.clone(), columns).expect("columns of one length");
    let path = sandbox.path(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(path).expect("a file"), schema, None).expect("a writer");
    writer.write(&batch).expect("rows");
    writer.close().expect("a footer");
}

#[test]
fn two_columns_of_one_name_are_refused() {
    let sandbox = sandbox(GPS, "");
    let mut columns = gps(&[NOON, NOON]);
    columns.push(("lat", Arc::new(Float64Array::from(vec![1.0, 1.0]))));
    write_nullable(&sandbox, "p/x.parquet", columns);
    run(&sandbox).fails_with(1).stderr_has("one column of this name");
}

/// What pandas writes of a column that is all None, and of a night without rows.
#[test]
fn columns_of_nulls_are_missing_values() {
    let sandbox = sandbox(GPS, "");
    let mut columns = gps(&[NOON, NOON]);
    columns.push(("accuracy_m", Arc::new(NullArray::new(2))));
    write_nullable(&sandbox, "p/a.parquet", columns);
    let empty: Vec<(&str, ArrayRef)> = ["person_id", "time", "lat", "lon"]
        .into_iter()
        .map(|name| (name, Arc::new(NullArray::new(0)) as ArrayRef))
        .collect();
    write_nullable(&sandbox, "p/b.parquet", empty);
    assert_eq!(direct_s(&sandbox), [900]);
}

#[cfg(unix)]
#[test]
fn links_that_lead_round_are_walked_once() {
    for path in ["p", "p/**/*.parquet", "p*"] {
        let sandbox = sandbox(&GPS.replace("\"p\"", &format!("\"{path}\"")), "");
        sandbox.write_parquet("p/x.parquet", gps(&[NOON, NOON]));
        sandbox.write_parquet("p/.hidden.parquet", gps(&[NOON, NOON]).split_off(1));
        std::os::unix::fs::symlink(".", sandbox.path("p/round")).expect("a link");
        std::os::unix::fs::symlink("x.parquet", sandbox.path("p/same.parquet")).expect("a link");
        run(&sandbox).succeeds().stdout_has("rows       2 read");
    }
}

/// A glob enters what it names, and stumbles over nothing else.
#[cfg(unix)]
#[test]
fn globs_name_links_and_folders() {
    for path in
        ["pings/lat*/x.parquet", "pings/lat*/", "pings/20??/*.parquet", "*/2022/x.parquet", "**/x.parquet"]
    {
        let sandbox = sandbox(&GPS.replace("\"p\"", &format!("\"{path}\"")), "");
        sandbox.write_parquet("pings/2022/x.parquet", gps(&[NOON, NOON]));
        std::os::unix::fs::symlink("2022", sandbox.path("pings/latest")).expect("a link");
        std::os::unix::fs::symlink("nowhere", sandbox.path("pings/current.tmp")).expect("a link");
        std::os::unix::fs::symlink("nowhere", sandbox.path("log")).expect("a link");
        run(&sandbox).succeeds().stdout_has("rows       2 read");
    }
}

#[test]
fn a_lag_of_ages_ends_with_the_lookback() {
    let sandbox = sandbox(GPS, "[rule.encounter]\nlag_s_max = 1e11");
    sandbox.write_parquet("p/x.parquet", gps(&[NOON, NOON + 4 * 60 * MINUTE]));
    run(&sandbox).succeeds();
    assert_eq!(i64s(&read(sandbox.path("out/exposures.parquet")), "indirect_s"), [900]);
}

/// A leg against scans of a venue on two floors: which scan comes first in the file is nothing.
#[test]
fn a_leg_past_scans_is_the_same_for_any_order_of_rows() {
    let mut digests = Vec::new();
    for order in [[0usize, 1, 2, 3, 4], [4, 0, 1, 2, 3], [2, 4, 0, 3, 1]] {
        let sandbox = sandbox(
            &format!(
                "{}\nmotion = \"linear\"\n[[feeds]]\nsource = \"venue\"\npath = \"v\"\nvenues = {{ path = \"venues.csv\", datum = \"wgs84\" }}",
                GPS
            ),
            "[rule.encounter]\ndistance_m_max = 20000\ncross_source = true",
        );
        let leg: Vec<(&str, ArrayRef)> = vec![
            ("person_id", text_array(["ada", "ada"])),
            ("time", time_array(vec![NOON, NOON + 800_000])),
            ("lat", Arc::new(Float64Array::from(vec![60.0, 60.5]))),
            ("lon", Arc::new(Float64Array::from(vec![10.0, 10.9]))),
        ];
        sandbox.write_parquet("p/x.parquet", leg);
        sandbox.write("venues.csv", "venue_id,lat,lon\nv,60.2,10.4\n");
        let scans = [(0, "1"), (300_000, "1"), (600_000, "1"), (900_000, "1"), (300_000, "2")];
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("person_id", text_array(["bo"; 5])),
            ("time", time_array(order.map(|n| NOON + scans[n].0))),
            ("venue_id", text_array(["v"; 5])),
            ("floor", text_array(order.map(|n| scans[n].1))),
        ];
        sandbox.write_parquet("v/x.parquet", columns);
        run(&sandbox).succeeds();
        digests.push(std::fs::read(sandbox.path("out/encounters.parquet")).expect("encounters"));
    }
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
}

/// One place as three datums write it: feeds, towers and venues all come to the same spot.
#[test]
fn every_datum_comes_to_the_same_place() {
    use copresence::datum::{gcj02_to_bd09, wgs84_to_gcj02};
    let (lat, lon) = (34.75, 113.68);
    let gcj02 = wgs84_to_gcj02(lat, lon);
    let bd09 = gcj02_to_bd09(gcj02.0, gcj02.1);
    let sandbox = sandbox(
        "source = \"gps\"\npath = \"wgs84.parquet\"\ndatum = \"wgs84\"\n\
         [[feeds]]\nsource = \"gps\"\npath = \"gcj02.parquet\"\ndatum = \"gcj02\"\n\
         [[feeds]]\nsource = \"tower\"\npath = \"tower.parquet\"\ntowers = { path = \"towers.csv\", datum = \"bd09\" }\n\
         [[feeds]]\nsource = \"venue\"\npath = \"venue.parquet\"\nvenues = { path = \"venues.csv\", datum = \"gcj02\" }",
        "[rule.encounter]\ndistance_m_max = 1\ncross_source = true",
    );
    let gps = |person: &str, (lat, lon): (f64, f64)| -> Vec<(&str, ArrayRef)> {
        vec![
            ("person_id", text_array([person])),
            ("time", time_array(vec![NOON])),
            ("lat", Arc::new(Float64Array::from(vec![lat]))),
            ("lon", Arc::new(Float64Array::from(vec![lon]))),
        ]
    };
    sandbox.write_parquet("wgs84.parquet", gps("ada", (lat, lon)));
    sandbox.write_parquet("gcj02.parquet", gps("bo", gcj02));
    sandbox.write("towers.csv", &format!("tower_id,lat,lon\nt,{},{}\n", bd09.0, bd09.1));
    sandbox.write("venues.csv", &format!("venue_id,lat,lon\nv,{},{}\n", gcj02.0, gcj02.1));
    for (source, person) in [("tower", "cy"), ("venue", "di")] {
        let id = text_array([if source == "tower" { "t" } else { "v" }]);
        let name = if source == "tower" { "tower_id" } else { "venue_id" };
        let columns = vec![("person_id", text_array([person])), ("time", time_array(vec![NOON])), (name, id)];
        sandbox.write_parquet(&format!("{source}.parquet"), columns);
    }
    run(&sandbox).succeeds();
    let exposures = read(sandbox.path("out/exposures.parquet"));
    assert_eq!(text(&exposures, "person_id"), ["bo", "cy", "di"]);
    assert_eq!(text(&exposures, "sources"), ["gps", "tower", "venue"]);
    let metres = crate::support::opt_f64s(&exposures, "distance_m_min");
    assert!(metres.iter().all(|m| m.is_some_and(|m| m < 0.001)), "{metres:?}");
}

/// Every way in which a row cannot be used has its name, and points to its row.
#[test]
fn each_bad_row_is_a_rejection_with_its_reason() {
    let sandbox = sandbox(
        "source = \"tower\"\npath = \"t.parquet\"\ntowers = { path = \"towers.csv\", datum = \"wgs84\" }\n\
         [[feeds]]\nsource = \"venue\"\npath = \"v.parquet\"\n\
         [[feeds]]\nsource = \"gps\"\npath = \"g.parquet\"\ndatum = \"wgs84\"",
        "",
    );
    let job = std::fs::read_to_string(sandbox.path("job.toml")).expect("the job");
    let job = job.replace("\"UTC\"", "\"Europe/Berlin\"\nrejected_share_max = 1");
    // The clocks of Berlin skipped 02:30 on 28 March 2021.
    let spring = 1_616_898_600_000;
    sandbox.write("job.toml", &job.replace("2022-03-22T", "2021-03-29T"));
    sandbox.write("cases.csv", &CASES.replace("2022-03-20", "2021-03-27"));
    sandbox.write("towers.csv", "tower_id,lat,lon\nt,34.75,113.68\nbad,95,113.68\n");
    let good = spring + 8 * 60 * MINUTE;
    let texts = |values: [Option<&str>; 4]| -> ArrayRef {
        Arc::new(values.into_iter().collect::<arrow::array::StringArray>())
    };
    let stamps = |values: [Option<i64>; 4]| -> ArrayRef {
        Arc::new(values.into_iter().collect::<arrow::array::TimestampMillisecondArray>())
    };
    let persons = texts([Some("ada"), Some(""), Some("ada"), None]);
    write_nullable(
        &sandbox,
        "t.parquet",
        vec![
            ("person_id", persons),
            ("time", stamps([Some(good); 4])),
            ("tower_id", texts([Some("bad"), Some("t"), None, Some("t")])),
        ],
    );
    write_nullable(
        &sandbox,
        "v.parquet",
        vec![
            ("person_id", texts([Some("bo"); 4])),
            ("time", stamps([Some(good), Some(spring), None, Some(good)])),
            ("venue_id", texts([Some("v"); 4])),
            ("until", stamps([Some(good - 1), None, None, Some(good)])),
        ],
    );
    let metres = |values: [f64; 4]| -> ArrayRef { Arc::new(Float64Array::from(values.to_vec())) };
    write_nullable(
        &sandbox,
        "g.parquet",
        vec![
            ("person_id", texts([Some("bo"); 4])),
            ("time", stamps([Some(good); 4])),
            ("lat", metres([34.75, f64::INFINITY, 34.75, 34.75])),
            ("lon", metres([180.5, 113.68, 113.68, 180.0])),
            ("accuracy_m", metres([5.0, 5.0, -1.0, f64::NAN])),
        ],
    );
    run(&sandbox).succeeds().stderr_has("rejected in feeds[0].towers: 1");
    let rejections = read(sandbox.path("out/rejections.parquet"));
    let found: Vec<String> = text(&rejections, "feed")
        .into_iter()
        .zip(i64s(&rejections, "row"))
        .zip(text(&rejections, "reason"))
        .map(|((feed, row), reason)| format!("{feed} {row} {reason}"))
        .collect();
    assert_eq!(
        found,
        [
            "feeds[0] 0 tower_unknown",
            "feeds[0] 1 person_id_missing",
            "feeds[0] 2 tower_id_missing",
            "feeds[0] 3 person_id_missing",
            "feeds[0].towers 1 lat_out_of_range",
            "feeds[1] 0 until_before_time",
            "feeds[1] 1 time_not_in_zone",
            "feeds[1] 2 time_missing",
            "feeds[2] 0 lon_out_of_range",
            "feeds[2] 1 lat_out_of_range",
            "feeds[2] 2 accuracy_m_out_of_range",
        ]
    );
}
