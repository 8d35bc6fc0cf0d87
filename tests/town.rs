//! Many rows of one gps feed, whose right answer is plain: everyone stays in a room of their own or of
//! several. They are written in any order, run through the engine, and its exposures told.

use crate::support::Ran;
use crate::world_files::{mixed, save, save_as};
use arrow::array::{
    ArrayRef, AsArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, UInt32Type};
use copresence::answer::Answer;
use copresence::config::{Config, Overrides};
use copresence::error::Result;
use copresence::io::inputs;
use copresence::pipeline::{self, watch::Watch};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tempfile::TempDir;

pub type Ms = i64;

/// 2022-03-20T00:00:00Z.
pub const T0: Ms = 1_647_734_400_000;
pub const SECOND: Ms = 1_000;
pub const MINUTE: Ms = 60 * SECOND;
pub const HOUR: Ms = 60 * MINUTE;
pub const DAY: Ms = 24 * HOUR;
/// How long a ping stands for.
pub const HOLD: Ms = 15 * MINUTE;
/// Somebody without a person_id.
pub const NOBODY: i64 = i64::MIN;
/// No shape takes nearly so long, unless time grows with the square of something.
const SECONDS_MAX: f64 = 60.0;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    pub person: i64,
    pub time: Ms,
    /// Metres east; a room is a number of these. No number is a bad row.
    pub east_m: f64,
    pub accuracy_m: f32,
}

pub fn row(person: i64, time: Ms, east_m: f64) -> Row {
    Row { person, time, east_m, accuracy_m: 10.0 }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Order {
    Time,
    Person,
    /// By person, each person's in any order.
    PersonOnly,
    None,
}

pub const ORDERS: [Order; 4] = [Order::Time, Order::Person, Order::PersonOnly, Order::None];

impl Order {
    pub fn of(self, rows: &[Row]) -> Vec<Row> {
        let mut rows = rows.to_vec();
        if matches!(self, Order::None | Order::PersonOnly) {
            let mut lots: Vec<(usize, Row)> =
                rows.iter().enumerate().map(|(n, row)| (mixed(n, 7), *row)).collect();
            lots.sort_unstable_by_key(|lot| lot.0);
            rows = lots.into_iter().map(|lot| lot.1).collect();
        }
        match self {
            Order::Time => rows.sort_unstable_by_key(|r| r.time),
            Order::Person => rows.sort_unstable_by_key(|r| (r.person, r.time)),
            Order::PersonOnly => rows.sort_by_key(|r| r.person),
            Order::None => {}
        }
        rows
    }

    /// The way that rows in this order take.
    pub fn way(self) -> &'static str {
        match self {
            Order::Time => "time",
            Order::Person | Order::PersonOnly => "person",
            Order::None => "none",
        }
    }
}

/// A case, named by its person.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub person: i64,
    pub from: Ms,
    pub to: Ms,
}

/// Infectious all the time.
pub fn case(person: i64) -> Case {
    Case { person, from: T0 - 30 * DAY, to: T0 + 30 * DAY }
}

#[derive(Debug, Clone)]
pub struct Town {
    pub files: Vec<Vec<Row>>,
    pub row_group_rows: usize,
    pub cases: Vec<Case>,
    /// The lines of `[rule.encounter]`.
    pub place: &'static str,
    pub as_of: Ms,
    pub rejected_share_max: f64,
    /// Whether person_ids are unsigned integers.
    pub unsigned: bool,
    pub statistics: bool,
    pub threads: usize,
    pub batch_rows: usize,
    pub memory_bytes: u64,
}

pub const GRID: &str = "place = \"grid\"\nsquare_m = 800";
pub const NEAR: &str = "place = \"distance\"\ndistance_m_max = 50";

impl Town {
    pub fn new(files: Vec<Vec<Row>>, cases: Vec<Case>) -> Self {
        Town {
            files,
            row_group_rows: 100_000,
            cases,
            place: NEAR,
            as_of: T0 + 10 * DAY,
            rejected_share_max: 0.0,
            unsigned: false,
            statistics: true,
            threads: 2,
            batch_rows: 8_192,
            memory_bytes: 1 << 30,
        }
    }

    fn persons(&self, persons: impl Iterator<Item = i64>) -> ArrayRef {
        let signed: Int64Array = persons.map(|p| (p != NOBODY).then_some(p)).collect();
        if self.unsigned {
            Arc::new(signed.unary::<_, arrow::datatypes::UInt64Type>(|p| p as u64))
        } else {
            Arc::new(signed)
        }
    }

    fn batch(&self, rows: &[Row]) -> RecordBatch {
        const METRES_PER_DEGREE: f64 = 111_195.08;
        let metres_east = METRES_PER_DEGREE * 34.75f64.to_radians().cos();
        let times = TimestampMillisecondArray::from_iter_values(rows.iter().map(|r| r.time));
        let columns: [(&str, ArrayRef); 5] = [
            ("person_id", self.persons(rows.iter().map(|r| r.person))),
            ("time", Arc::new(times.with_timezone("UTC"))),
            ("lat", Arc::new(Float64Array::from(vec![34.75; rows.len()]))),
            (
                "lon",
                Arc::new(Float64Array::from_iter_values(
                    rows.iter().map(|r| 113.68 + r.east_m / metres_east),
                )),
            ),
            ("accuracy_m", Arc::new(Float32Array::from_iter_values(rows.iter().map(|r| r.accuracy_m)))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
            .expect("columns of one length")
    }

    fn write_cases(&self, dir: &TempDir) {
        let texts = |text: &dyn Fn(&Case) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(self.cases.iter().map(text)))
        };
        let stamps = |time: &dyn Fn(&Case) -> Ms| -> ArrayRef {
            let times = TimestampMillisecondArray::from_iter_values(self.cases.iter().map(time));
            Arc::new(times.with_timezone("UTC"))
        };
        let cases = RecordBatch::try_from_iter([
            ("case_id", texts(&|c| c.person.to_string())),
            ("person_id", self.persons(self.cases.iter().map(|c| c.person))),
            ("infectious_from", stamps(&|c| c.from)),
            ("infectious_to", stamps(&|c| c.to)),
            ("report_id", texts(&|c| format!("r{}", c.person))),
            ("authority", texts(&|_| "test".into())),
        ]);
        save(&dir.path().join("cases.parquet"), &cases.expect("columns"), 1 << 20);
    }

    /// Writes the files of pings.
    pub fn write(&self) -> TempDir {
        let dir = TempDir::new().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("pings")).expect("a folder");
        let kept = if self.statistics { EnabledStatistics::Page } else { EnabledStatistics::None };
        for (number, rows) in self.files.iter().enumerate() {
            let path = dir.path().join(format!("pings/{number:05}.parquet"));
            let properties = WriterProperties::builder()
                .set_max_row_group_row_count(Some(self.row_group_rows))
                .set_statistics_enabled(kept);
            save_as(&path, &self.batch(rows), properties.build());
        }
        dir
    }

    /// Writes the files and runs the job over them.
    pub fn run(&self) -> Result<Ran> {
        let dir = self.write();
        Ok(Ran::new(self.run_in(&dir)?, dir))
    }

    /// Runs the job over these files.
    pub fn run_in(&self, dir: &TempDir) -> Result<Answer> {
        self.write_cases(dir);
        let job = format!(
            "[job]\nname = \"town\"\npurpose = \"test\"\nas_of = \"{}\"\ntime_zone = \"UTC\"\nencounters = \"none\"\nrejected_share_max = {}\n\
             [[feeds]]\nsource = \"gps\"\npath = \"pings\"\ndatum = \"wgs84\"\nhold_s_max = {}\n\
             [cases]\npath = \"cases.parquet\"\n[rule]\nname = \"town\"\nversion = \"1\"\n[rule.encounter]\n{}\n",
            copresence::time::utc_text(self.as_of),
            self.rejected_share_max,
            HOLD / SECOND,
            self.place
        );
        let overrides = Overrides {
            threads: Some(self.threads),
            batch_rows: Some(self.batch_rows),
            ..Overrides::default()
        };
        let clock = Instant::now();
        let mut config = Config::new(&dir.path().join("job.toml"), &job, &overrides, 8 << 30, 2)?;
        config.memory_bytes = self.memory_bytes;
        let inputs = inputs::open(&config, None)?;
        let answer = pipeline::compute(&config, &inputs, &dir.path().join("spill"), &Watch::default());
        let seconds = clock.elapsed().as_secs_f64();
        assert!(seconds < SECONDS_MAX, "{seconds} s");
        if answer.is_err() {
            assert!(!dir.path().join("spill").exists(), "nothing spilled is left");
        }
        answer
    }

    /// Runs the job: the way that the rows took, the order that they promised and broke, and the exposures.
    pub fn exposed(&self) -> (&'static str, Option<&'static str>, Vec<Exposed>) {
        let answer = self.run().expect("an answer");
        let path = &answer.counts.paths[0];
        (path.order, path.broken_promise, exposed(&answer))
    }
}

/// A person, a case by its person, and how long they were together, ms.
pub type Exposed = (i64, i64, Ms);

pub fn exposed(answer: &Answer) -> Vec<Exposed> {
    let batch = answer.exposures.whole().expect("exposures");
    let column = |name: &str| batch.column_by_name(name).expect(name);
    let persons = answer.person.restore(column("person_id")).expect("persons");
    let persons: Vec<i64> = match persons.data_type() {
        DataType::UInt64 => persons
            .as_primitive::<arrow::datatypes::UInt64Type>()
            .values()
            .iter()
            .map(|p| *p as i64)
            .collect(),
        _ => {
            cast(&persons, &DataType::Int64).expect("integers").as_primitive::<Int64Type>().values().to_vec()
        }
    };
    let named: Vec<i64> =
        answer.cases.iter().map(|c| c.case.case_id.parse().expect("a case named by its person")).collect();
    let cases = column("case").as_primitive::<UInt32Type>().values();
    let direct = lengths(&batch, "direct_ms");
    let rows = persons.into_iter().zip(cases).zip(direct);
    sorted(rows.map(|((person, case), ms)| (person, named[*case as usize], ms)).collect())
}

/// A column of milliseconds.
pub fn lengths(batch: &RecordBatch, name: &str) -> Vec<Ms> {
    batch.column_by_name(name).expect(name).as_primitive::<Int64Type>().values().to_vec()
}

pub fn sorted(mut exposed: Vec<Exposed>) -> Vec<Exposed> {
    exposed.sort_unstable();
    exposed
}

/// Somebody in a room without a break, over [from, to).
#[derive(Debug, Clone, Copy)]
pub struct Presence {
    pub person: i64,
    pub room: i64,
    pub from: Ms,
    pub to: Ms,
}

/// Who met whom in these rooms.
pub fn in_rooms(there: &[Presence], cases: &[Case]) -> Vec<Exposed> {
    let mut rooms: HashMap<i64, Vec<&Presence>> = HashMap::new();
    for presence in there {
        rooms.entry(presence.room).or_default().push(presence);
    }
    let persons: HashMap<i64, &Presence> = there.iter().map(|p| (p.person, p)).collect();
    let mut exposed = Vec::new();
    for case in cases {
        let Some(own) = persons.get(&case.person) else { continue };
        for other in rooms[&own.room].iter().filter(|other| other.person != case.person) {
            let from = own.from.max(case.from).max(other.from);
            let to = own.to.min(case.to).min(other.to);
            if from < to {
                exposed.push((other.person, case.person, to - from));
            }
        }
    }
    sorted(exposed)
}
