//! The whole program on a city's day of pings: `cargo bench --bench national -- --rows 1e7`.
//!
//! It makes its data once (seeded, time-ordered, below the build folder), runs the main job five times
//! under each rule, and prints medians. A smoke run (`-- --test`) does the same once on few rows.

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// 2022-03-21 in Shanghai, ms UTC.
const DAY: i64 = 1_647_792_000_000;
const DAY_MS: i64 = 86_400_000;
const PINGS_A_PERSON: usize = 200;
const FILES: usize = 16;
const CASES: usize = 100;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let value = |flag: &str| args.iter().position(|a| a == flag).and_then(|i| args.get(i + 1));
    let smoke = args.iter().any(|a| a == "--test");
    let rows =
        value("--rows").and_then(|r| r.parse::<f64>().ok()).unwrap_or(if smoke { 4e4 } else { 1e7 }) as usize;
    let runs = if smoke { 1 } else { 5 };
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("city-{rows}"));
    if !folder.join("cases.parquet").exists() {
        make(rows, &folder);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "{rows} rows, {} persons, {CASES} cases, {cores} cores, medians of {runs}",
        rows / PINGS_A_PERSON
    );
    println!(
        "| rule | threads | wall s | M rows/s | M rows/s a thread | peak MiB | exposures | candidates |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (name, rule) in [
        ("grid 800 m, 600 s", "[rule.encounter]\nplace = \"grid\"\n[rule.candidate]\ndirect_s_min = 600\n"),
        (
            "distance 50 m, 900 s",
            "[rule.encounter]\ndistance_m_max = 50\n[rule.candidate]\ndirect_s_min = 900\n",
        ),
    ] {
        write_job(&folder, rule);
        for threads in [1, 2] {
            println!("{}", measure(&folder, name, threads, runs, rows));
        }
    }
}

fn measure(folder: &Path, name: &str, threads: usize, runs: usize, rows: usize) -> String {
    let mut walls = Vec::new();
    let mut last = serde_json::Value::Null;
    for _ in 0..runs {
        let status = Command::new(env!("CARGO_BIN_EXE_copresence"))
            .args(["run", "job.toml", "--force", "--progress", "none", "--out", "out"])
            .args(["--threads", &threads.to_string()])
            .current_dir(folder)
            .stdout(std::process::Stdio::null())
            .status()
            .expect("the program starts");
        assert!(status.success(), "the run fails");
        let manifest = fs::read_to_string(folder.join("out/manifest.json")).expect("a manifest");
        last = serde_json::from_str(&manifest).expect("JSON");
        walls.push(last["seconds"].as_f64().expect("seconds"));
    }
    walls.sort_by(f64::total_cmp);
    let wall = walls[runs / 2];
    let rate = rows as f64 / wall / 1e6;
    let peak = last["memory_peak_bytes"].as_u64().unwrap_or(0) >> 20;
    format!(
        "| {name} | {threads} | {wall:.2} | {rate:.2} | {:.2} | {peak} | {} | {} |",
        rate / threads as f64,
        last["counts"]["exposures"],
        last["counts"]["candidates"]
    )
}

fn write_job(folder: &Path, rule: &str) {
    let job = format!(
        "[job]\nname = \"city\"\npurpose = \"benchmark on made-up pings\"\nas_of = \"2022-03-22T00:15:00+08:00\"\n\
         time_zone = \"Asia/Shanghai\"\nencounters = \"none\"\n\
         [[feeds]]\nsource = \"gps\"\npath = \"pings\"\ndatum = \"wgs84\"\n\
         [cases]\npath = \"cases.parquet\"\n[rule]\nname = \"bench\"\nversion = \"1\"\n{rule}"
    );
    fs::write(folder.join("job.toml"), job).expect("a job file");
}

struct Random(u64);

impl Random {
    /// SplitMix64 (Steele, Lea, Flood 2014), in [0, 1).
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A bell of standard deviation 1: twelve uniform numbers (Irwin-Hall).
    fn bell(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    fn spots(&mut self, count: usize, spread: f64) -> Vec<(f64, f64)> {
        let districts: Vec<(f64, f64)> =
            (0..48).map(|_| (34.755 + 0.045 * self.bell(), 113.68 + 0.09 * self.bell())).collect();
        (0..count)
            .map(|_| {
                let (lat, lon) = districts[(self.unit() * 48.0) as usize];
                (lat + 0.01 * spread * self.bell(), lon + 0.012 * spread * self.bell())
            })
            .collect()
    }
}

/// A day of people at home, at work and in shops of very different size, seen every seven minutes or so
/// with the jitter of a phone's GPS.
fn make(rows: usize, folder: &Path) {
    let mut random = Random(20_220_321);
    let (homes, works, shops) =
        (random.spots(20_000, 1.0), random.spots(6_000, 0.7), random.spots(3_000, 0.8));
    let mut pings: Vec<(i64, u32, f64, f64)> = Vec::with_capacity(rows);
    for person in 0..rows / PINGS_A_PERSON {
        let home = homes[(random.unit() * 20_000.0) as usize];
        let work = works[(random.unit() * 6_000.0) as usize];
        // The square of a uniform number crowds the first shops, as custom does.
        let shop = shops[(random.unit() * random.unit() * 3_000.0) as usize];
        let (leave, back) = (7.0 + 2.0 * random.unit(), 17.0 + 3.0 * random.unit());
        let dinner = back + 1.0 + random.unit();
        for n in 0..PINGS_A_PERSON {
            let hour = (n as f64 + random.unit()) * 24.0 / PINGS_A_PERSON as f64;
            let (lat, lon) = match hour {
                h if h < leave || h > dinner => home,
                h if h < back => work,
                _ => shop,
            };
            let jitter = 1.1e-4;
            let time = DAY + (hour * 3_600_000.0) as i64;
            pings.push((
                time,
                person as u32,
                lat + jitter * random.bell(),
                lon + 1.2 * jitter * random.bell(),
            ));
        }
    }
    pings.sort_unstable_by_key(|p| (p.0, p.1));
    fs::create_dir_all(folder.join("pings")).expect("a folder");
    for (number, part) in pings.chunks(rows.div_ceil(FILES)).enumerate() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("person_id", Arc::new(Int64Array::from_iter_values(part.iter().map(|p| pseudonym(p.1))))),
            ("time", stamps(part.iter().map(|p| p.0).collect())),
            ("lat", Arc::new(Float64Array::from_iter_values(part.iter().map(|p| (p.2 * 1e6).round() / 1e6)))),
            ("lon", Arc::new(Float64Array::from_iter_values(part.iter().map(|p| (p.3 * 1e6).round() / 1e6)))),
        ];
        save(&folder.join(format!("pings/part-{number:02}.parquet")), columns);
    }
    let step = (rows / PINGS_A_PERSON / CASES).max(1);
    let cases: Vec<u32> = (0..CASES as u32).map(|n| n * step as u32).collect();
    let text = |prefix: &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(cases.iter().map(|c| format!("{prefix}{c}"))))
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("case_id", text("c")),
        ("person_id", Arc::new(Int64Array::from_iter_values(cases.iter().map(|c| pseudonym(*c))))),
        ("infectious_from", stamps(vec![DAY; CASES])),
        ("infectious_to", stamps(vec![DAY + DAY_MS; CASES])),
        ("report_id", text("r")),
        ("authority", text("made up ")),
    ];
    save(&folder.join("cases.parquet"), columns);
}

/// Ids without order, as pseudonyms are.
fn pseudonym(person: u32) -> i64 {
    (u64::from(person) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) as i64 >> 1
}

fn stamps(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(values).with_timezone("UTC"))
}

fn save(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(1_000_000))
        .build();
    let file = File::create(path).expect("a file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("a writer");
    writer.write(&batch).expect("rows");
    writer.close().expect("a footer");
}
