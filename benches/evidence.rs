//! What weighing evidence costs: the whole program with a rule and with the same rule that weighs nothing, in turn.
//!
//! - `probability` beside `distance`, at the same 50 m, over gps and towers mixed, each source by itself and across sources;
//! - 10,000 risk areas beside none, under a distance and under the 800 m grid;
//! - the residents' threshold of `companion-800m` beside the same rule without it, over 14 days.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::Float64Type;
use clap::Parser;
use copresence::geo::METRES_PER_DEGREE;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// What every job file of this bench starts with.
const MARK: &str = "# The evidence bench, version 3";
const ROWS: u64 = 10_000_000;
const SMOKE_ROWS: u64 = 40_000;
const DAYS: u64 = 14;
const AREA_COUNT: i32 = 10_000;
/// Towers stand this far apart around the middle of the city, and farther out so far; and how far each reaches.
const NEAR: (f64, f64) = (500.0, 300.0);
const FAR: (f64, f64) = (3_000.0, 3_000.0);
/// The middle, degrees, and how far it goes.
const MIDDLE: (f64, f64) = (34.755, 113.68);
const NEAR_DEGREES: f64 = 0.08;

/// Measures what weighing evidence costs.
#[derive(Debug, Parser)]
#[command(name = "evidence")]
struct Options {
    /// Pings, as 10000000 or 1e7; of each of the 14 days where residents count.
    #[arg(long)]
    rows: Option<f64>,
    /// Runs of each, in turn.
    #[arg(long, default_value_t = 3)]
    pairs: usize,
    /// Only what is called so: areas, areas-grid, areas-large, areas-large-grid, probability, across or residents.
    #[arg(long)]
    only: Option<String>,
    /// Where data is made, or found again.
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    data: PathBuf,
    /// A smoke run.
    #[arg(long)]
    test: bool,
    /// Cargo says this to every bench.
    #[arg(long, hide = true)]
    bench: bool,
    /// Names of the benches to run.
    #[arg(hide = true)]
    names: Vec<String>,
}

/// Two rules over the same data.
struct Pair {
    name: &'static str,
    /// Keys of both.
    both: &'static [&'static str],
    /// Keys of the one that weighs nothing, and of the other.
    keys: [&'static [&'static str]; 2],
}

/// What adds the risk areas: of 100 m, which hold few pings, and of 300 m, which hold two fifths of them.
const AREAS: &[&str] = &["risk_areas.path=areas-100m.parquet", "risk_areas.datum=wgs84"];
const LARGE_AREAS: &[&str] = &["risk_areas.path=areas-300m.parquet", "risk_areas.datum=wgs84"];
const GRID: &[&str] = &["rule.encounter.place=grid", "rule.encounter.square_m=800"];

const PAIRS: [Pair; 7] = [
    Pair { name: "areas", both: &["rule.encounter.place=distance"], keys: [&[], AREAS] },
    Pair { name: "areas-grid", both: GRID, keys: [&[], AREAS] },
    Pair { name: "areas-large", both: &["rule.encounter.place=distance"], keys: [&[], LARGE_AREAS] },
    Pair { name: "areas-large-grid", both: GRID, keys: [&[], LARGE_AREAS] },
    Pair {
        name: "probability",
        both: &[],
        keys: [&["rule.encounter.place=distance"], &["rule.encounter.place=probability"]],
    },
    Pair {
        name: "across",
        both: &["rule.encounter.cross_source=true"],
        keys: [&["rule.encounter.place=distance"], &["rule.encounter.place=probability"]],
    },
    Pair {
        name: "residents",
        both: &[
            "rule.encounter.place=grid",
            "rule.encounter.square_m=800",
            "rule.candidate.direct_s_min=600",
        ],
        keys: [&[], &["rule.candidate.resident_h_min=30"]],
    },
];

fn main() {
    let options = Options::parse();
    if !options.names.is_empty() && !options.names.iter().any(|name| "evidence".contains(name.as_str())) {
        return;
    }
    let rows = options.rows.map_or(if options.test { SMOKE_ROWS } else { ROWS }, |rows| rows as u64);
    let pairs = if options.test { 1 } else { options.pairs.max(1) };
    println!(
        "| rules | rows | s without | s with | ratio | candidates without, with |\n|---|---|---|---|---|---|"
    );
    for pair in PAIRS.iter().filter(|pair| options.only.as_ref().is_none_or(|only| only == pair.name)) {
        let days = if pair.name == "residents" { if options.test { 2 } else { DAYS } } else { 1 };
        let mixed = !pair.name.starts_with("areas") && days == 1;
        let folder =
            options.data.join(format!("evidence-{}-{rows}-{days}", if mixed { "mixed" } else { "gps" }));
        prepare(&folder, rows, days, mixed);
        let mut seconds = [Vec::new(), Vec::new()];
        let mut candidates = [0, 0];
        for _ in 0..pairs {
            for (number, keys) in pair.keys.iter().enumerate() {
                let manifest = run(&folder, pair.both.iter().chain(*keys));
                seconds[number].push(manifest["seconds"].as_f64().expect("seconds"));
                candidates[number] = manifest["counts"]["candidates"].as_u64().expect("candidates");
            }
        }
        let mut ratios: Vec<f64> =
            seconds[1].iter().zip(&seconds[0]).map(|(with, without)| with / without).collect();
        println!(
            "| {} | {} | {:.2} | {:.2} | {:.2} | {}, {} |",
            pair.name,
            rows * days,
            median(&mut seconds[0]),
            median(&mut seconds[1]),
            median(&mut ratios),
            candidates[0],
            candidates[1]
        );
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn copresence() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_copresence"));
    command.stdout(Stdio::null());
    command
}

fn run<'a>(folder: &Path, keys: impl Iterator<Item = &'a &'a str>) -> serde_json::Value {
    let out = folder.with_extension("out");
    let mut command = copresence();
    command.arg("run").arg(folder.join("job.toml")).arg("--out").arg(&out);
    command.args(["--force", "--progress", "none", "--encounters", "none"]);
    keys.for_each(|key| {
        command.args(["--set", key]);
    });
    assert!(command.status().expect("the program starts").success(), "a run fails");
    let manifest = fs::read_to_string(out.join("manifest.json")).expect("a manifest");
    fs::remove_dir_all(&out).expect("the output can go");
    serde_json::from_str(&manifest).expect("JSON")
}

/// Makes the city, unless an earlier run did: gps of several days, or of one with half of the rows seen by towers.
fn prepare(folder: &Path, rows: u64, days: u64, mixed: bool) {
    let job = folder.join("job.toml");
    if fs::read_to_string(&job).is_ok_and(|text| text.starts_with(MARK)) {
        return;
    }
    let gps_rows = if mixed { rows / 2 } else { rows * days };
    let mut command = copresence();
    command.arg("synth").arg(folder).args(["--force", "--progress", "none"]);
    command.args(["--rows", &gps_rows.to_string(), "--days", &days.to_string()]);
    assert!(command.status().expect("the program starts").success(), "synth fails");
    let mut feeds = String::new();
    if !mixed && days == 1 {
        areas(&folder.join("areas-100m.parquet"), 50.0);
        areas(&folder.join("areas-300m.parquet"), 150.0);
    }
    if mixed {
        towers(folder);
        feeds.push_str(
            "[[feeds]]\nsource = \"tower\"\npath = \"seen\"\nhold_s_max = 900\ntowers = { path = \"towers.csv\", datum = \"wgs84\" }\n\n",
        );
    }
    let text = fs::read_to_string(&job).expect("a job").replace("[cases]", &format!("{feeds}[cases]"));
    fs::write(&job, format!("{MARK}\n{text}")).expect("a job file");
}

/// Writes 10,000 polygons of 24 corners, each with a hole, one for every 550 by 330 m of the city; listed
/// all along, four hours.
fn areas(path: &Path, outer_m: f64) {
    let cos = MIDDLE.0.to_radians().cos();
    let wkb = move |number: i32| {
        let (col, row) = (f64::from(number % 100) - 49.5, f64::from(number / 100) - 49.5);
        let mut bytes = vec![1, 3, 0, 0, 0, 2, 0, 0, 0];
        for radius_m in [outer_m, 20.0] {
            bytes.extend(25u32.to_le_bytes());
            for n in 0..=24 {
                let turn = f64::from(n % 24) * std::f64::consts::TAU / 24.0;
                let lat = MIDDLE.0 + (row * 330.0 + radius_m * turn.sin()) / METRES_PER_DEGREE;
                let lon = MIDDLE.1 + (col * 550.0 + radius_m * turn.cos()) / (METRES_PER_DEGREE * cos);
                bytes.extend([lon, lat].map(f64::to_le_bytes).concat());
            }
        }
        bytes
    };
    let text = |value: fn(i32) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..AREA_COUNT).map(value)))
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("area_id", text(|n| format!("a{n:05}"))),
        ("level", text(|_| "high".into())),
        ("geometry", Arc::new(BinaryArray::from_iter_values((0..AREA_COUNT).map(wkb)))),
        ("valid_from", text(|_| "2020-01-01T00:00:00Z".into())),
        ("valid_to", text(|_| "2030-01-01T00:00:00Z".into())),
        ("dwell_s_min", Arc::new(Float64Array::from(vec![14_400.0; AREA_COUNT as usize]))),
        ("report_id", text(|_| "r".into())),
        ("authority", text(|_| "bench".into())),
    ];
    let table = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let file = File::create(path).expect("a file");
    let mut writer = ArrowWriter::try_new(file, table.schema(), None).expect("a writer");
    writer.write(&table).expect("rows");
    writer.close().expect("a footer");
}

/// Lets a tower see every ping, and writes what towers there are.
fn towers(folder: &Path) {
    let mut known: BTreeMap<String, (f64, f64, f64)> = BTreeMap::new();
    fs::create_dir_all(folder.join("seen")).expect("a folder");
    let mut parts: Vec<PathBuf> =
        fs::read_dir(folder.join("pings")).expect("pings").map(|e| e.expect("an entry").path()).collect();
    parts.sort();
    for part in parts {
        let name = part.file_name().expect("a name").to_owned();
        let file = File::open(&part).expect("a file of pings");
        let batches =
            ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("a reader");
        let mut writer = None;
        for batch in batches {
            let seen = seen(&batch.expect("rows"), &mut known);
            let writer = writer.get_or_insert_with(|| {
                let file = File::create(folder.join("seen").join(&name)).expect("a file");
                ArrowWriter::try_new(file, seen.schema(), None).expect("a writer")
            });
            writer.write(&seen).expect("rows");
        }
        writer.map(|writer| writer.close().expect("a footer"));
    }
    let mut text = String::from("tower_id,lat,lon,range_m\n");
    for (id, (lat, lon, range_m)) in known {
        text.push_str(&format!("{id},{lat},{lon},{range_m}\n"));
    }
    fs::write(folder.join("towers.csv"), text).expect("towers");
}

fn seen(batch: &RecordBatch, known: &mut BTreeMap<String, (f64, f64, f64)>) -> RecordBatch {
    let column = |name: &str| batch.column_by_name(name).expect(name);
    let (lats, lons) =
        (column("lat").as_primitive::<Float64Type>(), column("lon").as_primitive::<Float64Type>());
    let towers = lats.values().iter().zip(lons.values()).map(|(lat, lon)| {
        let near = (lat - MIDDLE.0).abs() < NEAR_DEGREES && (lon - MIDDLE.1).abs() < NEAR_DEGREES;
        let (spacing_m, range_m) = if near { NEAR } else { FAR };
        let step = spacing_m / METRES_PER_DEGREE;
        let (row, col) = ((lat / step).round(), (lon / step).round());
        let id = format!("{}{row}-{col}", if near { 'n' } else { 'f' });
        known.entry(id.clone()).or_insert((row * step, col * step, range_m));
        id
    });
    let towers: ArrayRef = Arc::new(StringArray::from_iter_values(towers));
    assert_eq!(towers.len(), batch.num_rows());
    let columns =
        [("person_id", column("person_id").clone()), ("time", column("time").clone()), ("tower_id", towers)];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}
