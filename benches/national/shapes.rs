//! Pings that are hard in some way: everything in one place, one instant, one person or one file.

use crate::options::Order;
use arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array,
};
use clap::ValueEnum;
use copresence::geo::METRES_PER_DEGREE;
use copresence::place::square;
use copresence::synth::{AS_OF, text_id};
use copresence::time::{DAY_MS, HOUR_MS};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use rayon::prelude::*;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

/// What every job file of a shape starts with.
pub const MARK: &str = "# A shape of the benches, version 1";

const PINGS_A_PERSON: u64 = 200;
const FILES: u64 = 16;
const GROUP_ROWS: usize = 1_000_000;
const ROWS_OF_MANY: u64 = 1_000;
const HOLD_MS: i64 = 900_000;
const SQUARE_M: f64 = 800.0;
/// Pings of each person in the shape of one second.
const PINGS_IN_A_SECOND: u64 = 10;
const DAYS: i64 = 14;

/// What is hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// One person has a ping every 86 ms of the day; at most 1,000 others have theirs.
    OnePerson,
    /// The same, and that person is a case.
    OneCase,
    /// Everyone is in one square all day.
    OneSquare,
    /// All pings are of one second.
    OneSecond,
    /// Every person is a case.
    AllCases,
    /// Pings of 14 days, and cases that are infectious on the last.
    #[value(name = "one-day-of-14")]
    OneDayOf14,
    /// One file of one row group.
    OneRowGroup,
    /// The same without an index of its pages, as most other writers leave it.
    NoPageIndex,
    /// Files of 1,000 rows each.
    ManyFiles,
}

impl Shape {
    /// All.
    pub const ALL: [Shape; 9] = [
        Shape::OnePerson,
        Shape::OneCase,
        Shape::OneSquare,
        Shape::OneSecond,
        Shape::AllCases,
        Shape::OneDayOf14,
        Shape::OneRowGroup,
        Shape::NoPageIndex,
        Shape::ManyFiles,
    ];

    /// Rows by default: what ends within a minute.
    pub fn rows(self) -> u64 {
        match self {
            Shape::OnePerson | Shape::OneSquare | Shape::OneSecond => 1_000_000,
            Shape::OneCase | Shape::AllCases => 200_000,
            Shape::OneDayOf14 => 2_800_000,
            Shape::OneRowGroup | Shape::NoPageIndex => 5_000_000,
            Shape::ManyFiles => 10_000_000,
        }
    }
}

/// What to make.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// The shape.
    pub shape: Shape,
    /// Pings, about; of one person, where one has more than the others.
    pub rows: u64,
    /// Their order.
    pub order: Order,
    /// Cases, if not as many as the shape has by itself.
    pub cases: Option<u64>,
    /// Whether person_ids are texts.
    pub text: bool,
}

#[derive(Debug, Clone, Copy)]
struct Ping {
    time: i64,
    person: u64,
    lat: f64,
    lon: f64,
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
}

/// Homes, workplaces and shops of a town, or of one square.
struct Town {
    homes: Vec<(f64, f64)>,
    works: Vec<(f64, f64)>,
    shops: Vec<(f64, f64)>,
}

impl Town {
    fn new(one_square: bool) -> Self {
        let mut random = Random(20_220_321);
        let mut spots = |count: usize| {
            let spot = |random: &mut Random| match one_square {
                true => in_the_square(random),
                false => (34.755 + 0.05 * random.bell(), 113.68 + 0.1 * random.bell()),
            };
            (0..count).map(|_| spot(&mut random)).collect()
        };
        Town { homes: spots(20_000), works: spots(6_000), shops: spots(3_000) }
    }

    /// Adds a person's pings of one day: at home, at work, in a shop, with the jitter of a phone's GPS.
    fn add(&self, person: u64, day: i64, pings: u64, rows: &mut Vec<Ping>) {
        // Where one lives and works does not change from day to day.
        let mut random = Random(person);
        let home = self.homes[(random.unit() * self.homes.len() as f64) as usize];
        let work = self.works[(random.unit() * self.works.len() as f64) as usize];
        let mut random = Random((person << 20).wrapping_add(day as u64));
        // The square of a uniform number crowds the first shops, as custom does.
        let shop = self.shops[(random.unit() * random.unit() * self.shops.len() as f64) as usize];
        let (leave, back) = (7.0 + 2.0 * random.unit(), 17.0 + 3.0 * random.unit());
        let dinner = back + 1.0 + random.unit();
        let from = AS_OF - DAY_MS + day * DAY_MS;
        for n in 0..pings {
            let hour = (n as f64 + random.unit()) * 24.0 / pings as f64;
            let (lat, lon) = match hour {
                h if h < leave || h > dinner => home,
                h if h < back => work,
                _ => shop,
            };
            rows.push(Ping {
                time: from + (hour * HOUR_MS as f64) as i64,
                person,
                lat: rounded(lat + 1.1e-4 * random.bell()),
                lon: rounded(lon + 1.3e-4 * random.bell()),
            });
        }
    }
}

fn rounded(degrees: f64) -> f64 {
    (degrees * 1e6).round() / 1e6
}

/// Somewhere in one square of the published grid, not near its edges.
fn in_the_square(random: &mut Random) -> (f64, f64) {
    let (side, at) = (SQUARE_M / METRES_PER_DEGREE, square(34.755, 113.68, SQUARE_M));
    let lat = (at.row as f64 + 0.2 + 0.6 * random.unit()) * side;
    let cos = copresence::place::row_cos(at.row as f64, SQUARE_M);
    (lat, (at.col as f64 + 0.2 + 0.6 * random.unit()) * side / cos)
}

/// The pings, and the persons who are cases.
fn rows(recipe: &Recipe) -> (Vec<Ping>, Vec<u64>) {
    let shape = recipe.shape;
    let town = Town::new(shape == Shape::OneSquare);
    let mut rows = Vec::with_capacity(recipe.rows as usize);
    let mut persons = (recipe.rows / PINGS_A_PERSON).max(1);
    match shape {
        Shape::OnePerson | Shape::OneCase => {
            persons = (recipe.rows / 1_000).clamp(10, 1_000);
            town.add(persons, 0, recipe.rows, &mut rows);
            (0..persons).for_each(|person| town.add(person, 0, PINGS_A_PERSON, &mut rows));
        }
        Shape::OneSecond => {
            persons = (recipe.rows / PINGS_IN_A_SECOND).max(1);
            let mut random = Random(1);
            for person in 0..persons {
                let first = rows.len();
                town.add(person, 0, PINGS_IN_A_SECOND, &mut rows);
                for ping in &mut rows[first..] {
                    ping.time = AS_OF - DAY_MS / 2 + (1_000.0 * random.unit()) as i64;
                }
            }
        }
        Shape::OneDayOf14 => {
            persons = (persons / DAYS as u64).max(1);
            let days = (0..persons).flat_map(|person| (1 - DAYS..=0).map(move |day| (person, day)));
            days.for_each(|(person, day)| town.add(person, day, PINGS_A_PERSON, &mut rows));
        }
        _ => {
            (0..persons).for_each(|person| town.add(person, 0, PINGS_A_PERSON, &mut rows));
        }
    }
    let few = (persons / 10).clamp(1, 100);
    let cases = match (recipe.cases, shape) {
        (Some(cases), _) => cases.min(persons),
        (None, Shape::AllCases) => persons,
        (None, Shape::OneCase) => few - 1,
        (None, _) => few,
    };
    // The one person has the number after the others'.
    let one = (shape == Shape::OneCase).then_some(persons);
    (rows, (0..cases).chain(one).collect())
}

/// Ids without order, as pseudonyms are: 63 bits.
fn pseudonym(person: u64) -> u64 {
    (person + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 1
}

/// Writes pings, cases and, last, the job.
pub fn make(recipe: &Recipe, folder: &Path) {
    if folder.exists() {
        fs::remove_dir_all(folder).expect("an earlier shape can go");
    }
    fs::create_dir_all(folder.join("pings")).expect("a folder");
    let (mut rows, cases) = rows(recipe);
    match recipe.order {
        Order::Time => rows.par_sort_unstable_by_key(|p| (p.time, pseudonym(p.person))),
        Order::Person => rows.par_sort_unstable_by_key(|p| (pseudonym(p.person), p.time)),
        Order::None => {
            let shuffle =
                |p: &Ping| (p.time as u64 ^ pseudonym(p.person)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            rows.par_sort_unstable_by_key(|p| (shuffle(p), p.time, p.person));
        }
    }
    let (file_rows, group_rows) = match recipe.shape {
        Shape::OneRowGroup | Shape::NoPageIndex => (rows.len(), rows.len()),
        Shape::ManyFiles => (ROWS_OF_MANY as usize, GROUP_ROWS),
        _ => (rows.len().div_ceil(FILES as usize), GROUP_ROWS),
    };
    rows.par_chunks(file_rows).enumerate().for_each(|(number, rows)| {
        let path = folder.join(format!("pings/part-{number:05}.parquet"));
        save(
            &path,
            properties(group_rows, recipe.shape),
            rows.chunks(GROUP_ROWS).map(|rows| ping_batch(rows, recipe.text)),
        );
    });
    save(
        &folder.join("cases.parquet"),
        properties(GROUP_ROWS, recipe.shape),
        [case_batch(&cases, recipe.text)].into_iter(),
    );
    fs::write(folder.join("job.toml"), job(recipe)).expect("a job file");
}

fn ids(persons: impl Iterator<Item = u64>, text: bool) -> ArrayRef {
    let ids = persons.map(pseudonym);
    if text {
        let texts = ids.map(|id| String::from_utf8(text_id(id).to_vec()).expect("letters and digits"));
        return Arc::new(StringArray::from_iter_values(texts));
    }
    Arc::new(UInt64Array::from_iter_values(ids))
}

fn stamps(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(values).with_timezone("UTC"))
}

fn ping_batch(rows: &[Ping], text: bool) -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        ("person_id", ids(rows.iter().map(|p| p.person), text)),
        ("time", stamps(rows.iter().map(|p| p.time))),
        ("lat", Arc::new(Float64Array::from_iter_values(rows.iter().map(|p| p.lat)))),
        ("lon", Arc::new(Float64Array::from_iter_values(rows.iter().map(|p| p.lon)))),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

fn case_batch(cases: &[u64], text: bool) -> RecordBatch {
    let words = |word: &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(cases.iter().map(|case| format!("{word}-{case}"))))
    };
    let columns: [(&str, ArrayRef); 6] = [
        ("case_id", words("case")),
        ("person_id", ids(cases.iter().copied(), text)),
        ("infectious_from", stamps(cases.iter().map(|_| AS_OF - DAY_MS))),
        ("infectious_to", stamps(cases.iter().map(|_| AS_OF + HOLD_MS))),
        ("report_id", words("report")),
        ("authority", words("made-up")),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

fn properties(group_rows: usize, shape: Shape) -> WriterProperties {
    let builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(group_rows))
        .set_dictionary_enabled(false);
    if shape == Shape::NoPageIndex {
        let whole = builder.set_statistics_enabled(EnabledStatistics::Chunk);
        return whole.set_offset_index_disabled(true).build();
    }
    builder.build()
}

fn save(path: &Path, properties: WriterProperties, batches: impl Iterator<Item = RecordBatch>) {
    let mut batches = batches.peekable();
    let schema = batches.peek().expect("a batch").schema();
    let file = File::create(path).expect("a file");
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).expect("a writer");
    batches.for_each(|batch| writer.write(&batch).expect("rows"));
    writer.close().expect("a footer");
}

fn job(recipe: &Recipe) -> String {
    format!(
        r#"{MARK}: {recipe:?}
[job]
name = "shape"
purpose = "benchmark on made-up pings"
as_of = "2022-03-22T00:15:00+08:00"
time_zone = "Asia/Shanghai"
[[feeds]]
source = "gps"
path = "pings"
datum = "wgs84"
hold_s_max = 900
[cases]
path = "cases.parquet"
[rule]
name = "shape"
version = "1"
lookback_days = 15
[rule.encounter]
place = "distance"
"#
    )
}
