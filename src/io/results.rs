//! The answer as files: what each table's columns are called, and in which types.

use super::files::Digesting;
use super::lines::lines;
use super::output::Staging;
use super::syncing::Syncing;
use crate::answer::{Answer, Rejection, Sorted};
use crate::candidate::Reason;
use crate::config::Config;
use crate::dose::risk;
use crate::error::{Error, Problem, Result};
use crate::person::PersonType;
use crate::risk_area::{RiskArea, RiskAreas};
use crate::rule::Source;
use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
    new_null_array,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, UInt8Type, UInt32Type};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::sync::Arc;

/// Version of the tables' columns, in every file's metadata.
pub const SCHEMA_VERSION: &str = "3";
/// Rows that are turned into their final columns at once; and those of a row group, which is encoded on one thread: so many, or, where
/// text goes with it, only as many as are turned at once. The same for every run, as the bytes depend on them.
const CHUNK_ROWS: usize = 65_536;
const GROUP_ROWS: usize = 4 * CHUNK_ROWS;
/// Columns of integers that seldom repeat: the differences of neighbours are small, a dictionary is not.
const INTEGERS: [&str; 9] = [
    "direct_s",
    "indirect_s",
    "confirmed_s",
    "longest_s",
    "peak_24h_s",
    "first_at",
    "last_at",
    "start",
    "end",
];
/// The sources that columns speak of, in their order.
const COLUMN_SOURCES: [Source; 4] = [Source::Gps, Source::Tower, Source::Venue, Source::Trip];

type Columns = Vec<(&'static str, ArrayRef)>;

/// What some work on a thread of its own comes to.
pub enum Made {
    /// A row group, encoded, and the same rows as lines of text, if these are asked for.
    Group(Vec<ArrowColumnChunk>, Vec<u8>),
    /// A table's files, written.
    Files(Vec<Written>),
}

/// A file of an output.
#[derive(Debug, Clone)]
pub struct Written {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Of all its bytes; hex.
    pub sha256: String,
}

/// Makes the same of several numbers, on several threads if it has them, and gives what each comes to, in their order, as soon as
/// that is made.
pub type Spread<'a> =
    &'a (dyn Fn(Range<usize>, Make<'_>, &mut dyn FnMut(Made) -> Result<()>) -> Result<()> + Sync);
/// What is made of each number.
pub type Make<'a> = &'a (dyn Fn(usize) -> Result<Made> + Sync);

/// Writes all tables of an answer, and tells what was written.
pub fn write(
    staging: &Staging,
    config: &Config,
    areas: Option<&RiskAreas>,
    answer: &Answer,
    spread: Spread<'_>,
) -> Result<Vec<Written>> {
    let case_ids = answer.cases.iter().map(|c| c.case.case_id.clone()).collect();
    let tables = Tables { config, answer, case_ids, areas };
    let sorted = |name: &'static str, rows: &Sorted, make: Maker, as_text: bool| {
        let make_rows =
            |range: Range<usize>| tables.make(make, &rows.range(range)?).map_err(|e| internal(name, &e));
        let schema = with_metadata(&make_rows(0..0)?.schema(), config);
        write_table(staging, Named { name, schema, rows: rows.len(), as_text }, &make_rows, spread)
    };
    let whole = |name: &str, rows: std::result::Result<RecordBatch, ArrowError>| {
        let rows = rows.map_err(|e| internal(name, &e))?;
        let schema = with_metadata(&rows.schema(), config);
        let slice = |range: Range<usize>| Ok(rows.slice(range.start, range.len()));
        let named = Named { name, schema, rows: rows.num_rows(), as_text: false };
        write_table(staging, named, &slice, spread)
    };
    let file = |number: usize| -> Result<Made> {
        match number {
            0 => sorted("candidates", &answer.candidates, Maker::Candidates, true),
            1 => sorted("exposures", &answer.exposures, Maker::Exposures, false),
            2 => sorted("encounters", &answer.encounters, Maker::Encounters, false),
            3 => whole("cases", tables.cases()),
            4 => whole("rejections", rejections(&answer.survey.rejections)),
            _ => sorted("dwells", &answer.dwells, Maker::Dwells, false),
        }
        .map(Made::Files)
    };
    let mut written = Vec::new();
    spread(0..5 + usize::from(config.risk_areas.is_some()), &file, &mut |made| {
        if let Made::Files(files) = made {
            written.extend(files);
        }
        Ok(())
    })?;
    Ok(written)
}

#[derive(Clone, Copy)]
enum Maker {
    Candidates,
    Exposures,
    Encounters,
    Dwells,
}

pub(super) fn internal(name: &str, error: &ArrowError) -> Error {
    Error::Output(Problem::new(
        name,
        "columns of equal length",
        error.to_string(),
        "report this: it is a fault of copresence",
    ))
}

/// What every file says of itself.
fn with_metadata(schema: &Schema, config: &Config) -> SchemaRef {
    let metadata: HashMap<String, String> = [
        ("copresence.schema_version", SCHEMA_VERSION.to_string()),
        ("copresence.purpose", config.purpose.clone()),
        ("copresence.rule", config.rule.to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_string(), value))
    .collect();
    Arc::new(schema.clone().with_metadata(metadata))
}

/// Rows of a table, in their final columns.
type MakeRows<'a> = &'a (dyn Fn(Range<usize>) -> Result<RecordBatch> + Sync);

/// Writes a table as Parquet, and if that is asked as text too.
fn write_table(
    staging: &Staging,
    Named { name, schema, rows, as_text }: Named<'_>,
    make: MakeRows<'_>,
    spread: Spread<'_>,
) -> Result<Vec<Written>> {
    let parquet = format!("{name}.parquet");
    let failed = |e: ParquetError| match e {
        ParquetError::External(source) if source.is::<std::io::Error>() => {
            match source.downcast::<std::io::Error>() {
                Ok(io) => staging.failed(&parquet, &io),
                Err(other) => staging.failed(&parquet, &std::io::Error::other(other.to_string())),
            }
        }
        other => staging.failed(&parquet, &std::io::Error::other(other.to_string())),
    };
    let properties = properties(&schema);
    // The Arrow schema that goes into the file must not carry a map, whose order changes by run.
    let plain: SchemaRef = Arc::new(Schema::new(schema.fields().clone()));
    let file = File::create(staging.path(&parquet)).map_err(|e| staging.failed(&parquet, &e))?;
    let file = Digesting::new(BufWriter::new(Syncing::new(file, staging.syncs())));
    let writer = ArrowWriter::try_new(file, plain.clone(), Some(properties)).map_err(failed)?;
    let (mut writer, factory) = writer.into_serialized_writer().map_err(failed)?;
    let mut text = as_text.then(|| Text::create(staging, name, &schema)).transpose()?;
    let group_rows = if as_text { CHUNK_ROWS } else { GROUP_ROWS };
    let encode = |group: usize| -> Result<Made> {
        let mut columns = factory.create_column_writers(group).map_err(failed)?;
        let mut text = Vec::new();
        let end = rows.min((group + 1) * group_rows);
        for start in (group * group_rows..end).step_by(CHUNK_ROWS) {
            let chunk = make(start..end.min(start + CHUNK_ROWS))?;
            for ((field, column), writer) in plain.fields().iter().zip(chunk.columns()).zip(&mut columns) {
                for leaf in compute_leaves(field, column).map_err(failed)? {
                    writer.write(&leaf).map_err(failed)?;
                }
            }
            if as_text {
                text.extend(lines(&chunk).map_err(|e| internal(name, &e))?);
            }
        }
        let closed = columns.into_iter().map(|column| column.close().map_err(failed));
        Ok(Made::Group(closed.collect::<Result<_>>()?, text))
    };
    spread(0..rows.div_ceil(group_rows), &encode, &mut |encoded| {
        let Made::Group(columns, lines) = encoded else { return Ok(()) };
        let mut group = writer.next_row_group().map_err(failed)?;
        for column in columns {
            column.append_to_row_group(&mut group).map_err(failed)?;
        }
        group.close().map_err(failed)?;
        text.as_mut().map_or(Ok(()), |text| text.write(staging, &lines))
    })?;
    let (buffered, bytes, sha256) = writer.into_inner().map_err(failed)?.finish();
    let file = buffered.into_inner().map_err(|e| staging.failed(&parquet, e.error()))?;
    file.finish().map_err(|e| staging.failed(&parquet, &e))?;
    let mut written = vec![Written { name: parquet, bytes, sha256 }];
    written.extend(text.map(|text| text.finish(staging)).transpose()?);
    Ok(written)
}

/// A table on its way to its file.
struct Named<'a> {
    /// Without the ending.
    name: &'a str,
    /// Of the final columns.
    schema: SchemaRef,
    rows: usize,
    as_text: bool,
}

/// A file of comma-separated values.
struct Text {
    name: String,
    file: Digesting<Syncing>,
}

impl Text {
    /// Begins with the names of the columns.
    fn create(staging: &Staging, name: &str, schema: &SchemaRef) -> Result<Self> {
        let name = format!("{name}.csv");
        let file = File::create(staging.path(&name)).map_err(|e| staging.failed(&name, &e))?;
        let mut text = Text { name, file: Digesting::new(Syncing::new(file, staging.syncs())) };
        let head: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        text.write(staging, format!("{}\n", head.join(",")).as_bytes())?;
        Ok(text)
    }

    fn write(&mut self, staging: &Staging, lines: &[u8]) -> Result<()> {
        self.file.write_all(lines).map_err(|e| staging.failed(&self.name, &e))
    }

    fn finish(self, staging: &Staging) -> Result<Written> {
        let (file, bytes, sha256) = self.file.finish();
        file.finish().map_err(|e| staging.failed(&self.name, &e))?;
        Ok(Written { name: self.name, bytes, sha256 })
    }
}

fn properties(schema: &SchemaRef) -> WriterProperties {
    let metadata = schema
        .metadata()
        .iter()
        .map(|(key, value)| parquet::file::metadata::KeyValue::new(key.clone(), value.clone()));
    let mut metadata: Vec<_> = metadata.collect();
    metadata.sort_by(|a, b| a.key.cmp(&b.key));
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(format!("copresence {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(metadata));
    for field in schema.fields() {
        let whole_numbers = field.name() == "person_id" && field.data_type().is_integer();
        if whole_numbers || INTEGERS.contains(&field.name().as_str()) {
            let column = ColumnPath::from(field.name().as_str());
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
        }
    }
    properties.build()
}

struct Tables<'a> {
    config: &'a Config,
    answer: &'a Answer,
    case_ids: Vec<String>,
    areas: Option<&'a RiskAreas>,
}

fn batch(columns: Columns, nullable: &[&str]) -> std::result::Result<RecordBatch, ArrowError> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), nullable.contains(name)))
        .collect();
    RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns.into_iter().map(|(_, column)| column).collect(),
    )
}

fn stamps(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(values).with_timezone("UTC"))
}

fn constant(text: &str, rows: usize) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows)))
}

/// The inner columns of a chunk, by name.
struct Inner<'a>(&'a RecordBatch);

impl Inner<'_> {
    fn column(&self, name: &str) -> std::result::Result<&ArrayRef, ArrowError> {
        self.0.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")))
    }

    fn int64s(&self, name: &str) -> std::result::Result<&Int64Array, ArrowError> {
        Ok(self.column(name)?.as_primitive::<Int64Type>())
    }

    /// Whole seconds, rounded down.
    fn seconds(&self, name: &str) -> std::result::Result<ArrayRef, ArrowError> {
        Ok(Arc::new(self.int64s(name)?.unary::<_, Int64Type>(|ms| ms.div_euclid(1_000))))
    }

    fn times(&self, name: &str) -> std::result::Result<ArrayRef, ArrowError> {
        Ok(stamps(self.int64s(name)?.values().iter().copied()))
    }

    fn person(&self, person: PersonType) -> std::result::Result<ArrayRef, ArrowError> {
        person.restore(self.0.column(0))
    }

    fn case_ids(&self, ids: &[String]) -> std::result::Result<ArrayRef, ArrowError> {
        let numbers = self.column("case")?.as_primitive::<UInt32Type>();
        Ok(Arc::new(numbers.iter().map(|n| n.map(|n| &ids[n as usize])).collect::<StringArray>()))
    }

    fn words(&self, name: &str, words: impl Fn(u8) -> String) -> std::result::Result<ArrayRef, ArrowError> {
        let codes = self.column(name)?.as_primitive::<UInt8Type>();
        // There are few, and each is made once.
        let words: Vec<String> = (0..=codes.values().iter().copied().max().unwrap_or(0)).map(words).collect();
        let rows = codes.values().iter().map(|code| &words[usize::from(*code)]);
        Ok(Arc::new(StringArray::from_iter_values(rows)))
    }

    /// What is made of a column of numbers; null where the rule tells none.
    fn of_numbers(&self, name: &str, kind: &DataType, make: impl Fn(&Float64Array) -> ArrayRef) -> ArrayRef {
        let numbers = self.0.column_by_name(name).map(|column| column.as_primitive::<Float64Type>());
        numbers.map_or_else(|| new_null_array(kind, self.0.num_rows()), make)
    }

    fn numbers(&self, name: &str) -> ArrayRef {
        self.of_numbers(name, &DataType::Float64, |numbers| Arc::new(numbers.clone()))
    }

    /// Whole seconds, rounded down, of what is no whole number of milliseconds.
    fn seconds_of_number(&self, name: &str) -> ArrayRef {
        let seconds = |ms: f64| (ms / 1_000.0).floor() as i64;
        self.of_numbers(name, &DataType::Int64, |all| Arc::new(all.unary::<_, Int64Type>(seconds)))
    }

    fn risk(&self) -> ArrayRef {
        self.of_numbers("dose_h", &DataType::Float64, |all| Arc::new(all.unary::<_, Float64Type>(risk)))
    }
}

fn one_source(code: u8) -> String {
    Source::ALL.get(usize::from(code)).map_or(String::new(), |s| s.name().to_string())
}

fn reasons(bits: u8) -> String {
    let names: Vec<&str> = Reason::ALL.iter().filter(|r| bits & r.bit() != 0).map(|r| r.name()).collect();
    names.join(",")
}

fn source_set(bits: u8) -> String {
    let names: Vec<&str> = Source::ALL.iter().filter(|s| bits & s.bit() != 0).map(|s| s.name()).collect();
    names.join(",")
}

impl Tables<'_> {
    fn make(&self, maker: Maker, chunk: &RecordBatch) -> std::result::Result<RecordBatch, ArrowError> {
        let inner = Inner(chunk);
        match maker {
            Maker::Candidates => self.candidates(&inner),
            Maker::Exposures => self.exposures(&inner),
            Maker::Encounters => self.encounters(&inner),
            Maker::Dwells => self.dwells(&inner),
        }
    }

    fn candidates(&self, inner: &Inner<'_>) -> std::result::Result<RecordBatch, ArrowError> {
        let rows = inner.0.num_rows();
        let notice_ms = self.config.rule.notice_ms;
        let expires = inner.int64s("last_at")?.values().iter().map(|at| at + notice_ms);
        batch(
            vec![
                ("person_id", inner.person(self.answer.person)?),
                ("code", constant("yellow", rows)),
                ("status", constant("pending_review", rows)),
                ("reason", inner.words("reasons", reasons)?),
                ("rule", constant(&self.config.rule.to_string(), rows)),
                ("case_count", inner.column("case_count")?.clone()),
                ("case_id", inner.case_ids(&self.case_ids)?),
                ("direct_s", inner.seconds("direct_ms")?),
                ("confirmed_s", inner.seconds("confirmed_ms")?),
                ("expected_s", inner.seconds_of_number("expected_ms")),
                ("risk", inner.risk()),
                ("first_at", inner.times("first_at")?),
                ("last_at", inner.times("last_at")?),
                ("expires_at", stamps(expires)),
                ("evidence_count", inner.column("evidence_count")?.clone()),
            ],
            &["case_id", "expected_s", "risk"],
        )
    }

    fn dwells(&self, inner: &Inner<'_>) -> std::result::Result<RecordBatch, ArrowError> {
        let list = self.areas.map_or(&[][..], |areas| areas.list.as_slice());
        let numbers = inner.column("area")?.as_primitive::<UInt32Type>().values();
        let text = |value: fn(&RiskArea) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(numbers.iter().map(|n| value(&list[*n as usize]))))
        };
        let at = |value: fn(&RiskArea) -> i64| numbers.iter().map(move |n| value(&list[*n as usize]));
        let ends = numbers.iter().map(|n| list[*n as usize].valid_to);
        let valid_to: TimestampMillisecondArray = ends.collect();
        let least_s = at(|area| area.dwell_ms_min.div_euclid(1_000));
        batch(
            vec![
                ("person_id", inner.person(self.answer.person)?),
                ("area_id", text(|area| &area.area_id)),
                ("level", text(|area| &area.level)),
                ("dwell_s", inner.seconds("dwell_ms")?),
                ("dwell_s_min", Arc::new(Int64Array::from_iter_values(least_s))),
                ("first_at", inner.times("first_at")?),
                ("last_at", inner.times("last_at")?),
                ("valid_from", stamps(at(|area| area.valid_from))),
                ("valid_to", Arc::new(valid_to.with_timezone("UTC"))),
                ("report_id", text(|area| &area.report_id)),
                ("authority", text(|area| &area.authority)),
            ],
            &["valid_to"],
        )
    }

    fn exposures(&self, inner: &Inner<'_>) -> std::result::Result<RecordBatch, ArrowError> {
        batch(
            vec![
                ("person_id", inner.person(self.answer.person)?),
                ("case_id", inner.case_ids(&self.case_ids)?),
                ("person_is_case", inner.column("person_is_case")?.clone()),
                ("direct_s", inner.seconds("direct_ms")?),
                ("indirect_s", inner.seconds("indirect_ms")?),
                ("confirmed_s", inner.seconds("confirmed_ms")?),
                ("longest_s", inner.seconds("longest_ms")?),
                ("expected_s", inner.seconds_of_number("expected_ms")),
                ("peak_24h_s", inner.seconds("peak_24h_ms")?),
                ("dose_h", inner.numbers("dose_h")),
                ("risk", inner.risk()),
                ("encounter_count", inner.column("encounter_count")?.clone()),
                ("distance_m_min", inner.numbers("distance_m_min")),
                ("first_at", inner.times("first_at")?),
                ("last_at", inner.times("last_at")?),
                ("sources", inner.words("sources", source_set)?),
            ],
            &["expected_s", "dose_h", "risk", "distance_m_min"],
        )
    }

    fn encounters(&self, inner: &Inner<'_>) -> std::result::Result<RecordBatch, ArrowError> {
        let indirect = inner.column("indirect")?.as_boolean();
        let kinds = indirect.values().iter().map(|indirect| if indirect { "indirect" } else { "direct" });
        batch(
            vec![
                ("person_id", inner.person(self.answer.person)?),
                ("case_id", inner.case_ids(&self.case_ids)?),
                ("start", inner.times("start")?),
                ("end", inner.times("end")?),
                ("kind", Arc::new(StringArray::from_iter_values(kinds))),
                ("source", inner.words("source", one_source)?),
                ("case_source", inner.words("case_source", one_source)?),
                ("place", inner.column("place")?.clone()),
                ("distance_m", inner.numbers("distance_m")),
                ("probability", inner.numbers("probability")),
                ("bracketed", inner.column("bracketed")?.clone()),
            ],
            &["place", "distance_m", "probability"],
        )
    }

    fn cases(&self) -> std::result::Result<RecordBatch, ArrowError> {
        let rows = &self.answer.cases;
        let person = self.answer.person;
        let persons = crate::person::column_of(&person.inner(), rows.iter().map(|c| c.case.person.clone()));
        let mut columns: Columns = vec![
            ("case_id", Arc::new(StringArray::from_iter_values(&self.case_ids))),
            ("person_id", person.restore(&persons)?),
            ("infectious_from", stamps(rows.iter().map(|c| c.case.infectious_from))),
            ("infectious_to", stamps(rows.iter().map(|c| c.case.infectious_to))),
        ];
        const NAMES: [(&str, &str); 4] = [
            ("gps_stays", "gps_observed_s"),
            ("tower_stays", "tower_observed_s"),
            ("venue_stays", "venue_observed_s"),
            ("trip_stays", "trip_observed_s"),
        ];
        // A source without a feed is unknown (null), which is not the same as nothing observed (0).
        for (source, (stays, observed)) in COLUMN_SOURCES.iter().zip(NAMES) {
            let fed = Some(source).filter(|s| self.config.sources() & s.bit() != 0);
            let of = |value: &dyn Fn(&crate::index::Observed) -> i64| -> ArrayRef {
                Arc::new(
                    rows.iter().map(|c| fed.map(|s| value(&c.observed[*s as usize]))).collect::<Int64Array>(),
                )
            };
            columns.push((stays, of(&|o| o.stays as i64)));
            columns.push((observed, of(&|o| o.observed_ms.div_euclid(1_000))));
        }
        let tally = |value: &dyn Fn(&crate::resolve::Tally) -> u64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|c| value(&c.tally) as i64)))
        };
        columns.push(("exposures", tally(&|t| t.exposures)));
        columns.push(("candidates", tally(&|t| t.candidates)));
        let nullable: Vec<&str> = NAMES.iter().flat_map(|(a, b)| [*a, *b]).collect();
        batch(columns, &nullable)
    }
}

fn rejections(rows: &[Rejection]) -> std::result::Result<RecordBatch, ArrowError> {
    let text = |value: &dyn Fn(&Rejection) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(value)))
    };
    batch(
        vec![
            ("feed", text(&|r| &r.feed)),
            ("file", text(&|r| &r.file)),
            ("row", Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.row as i64)))),
            ("reason", text(&|r| r.reason)),
            ("column", text(&|r| r.column)),
        ],
        &[],
    )
}
