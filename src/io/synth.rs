//! A made-up city as files: pings, cases, and the job that reads them.

use super::output::Staging;
use super::results::internal;
use crate::error::{Error, Result};
use crate::ping::Order;
use crate::synth::{AS_OF, Batch, Ids, Recipe, Synth, TIME_ZONE, VERSION, text_id};
use crate::time::{DAY_MS, Millis};
use arrow::array::{
    ArrayRef, Float32Array, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use std::fs::File;
use std::io::BufWriter;
use std::sync::Arc;

/// The folder of pings, the cases, and the job of a city's folder.
pub const PINGS: &str = "pings";
/// See [`PINGS`].
pub const CASES: &str = "cases.parquet";
/// See [`PINGS`].
pub const JOB: &str = "job.toml";
/// What every job file of a city starts with.
pub const MARK: &str = "# Written by copresence synth";
/// Rows of a row group at most.
const GROUP_ROWS: usize = 1_000_000;
/// How long the cases are infectious after the last day: as long as a ping may stand for.
const AFTER_MS: Millis = 900_000;
pub(super) const AUTHORITY: &str = "nobody: a made-up case";

/// Makes the folder of pings.
pub fn begin(staging: &Staging) -> Result<()> {
    std::fs::create_dir(staging.path(PINGS)).map_err(|e| staging.failed(PINGS, &e))
}

/// Whether a name is that of a file of pings.
pub fn is_part(name: &str) -> bool {
    let number = name.strip_prefix("part-").and_then(|rest| rest.strip_suffix(".parquet"));
    number.is_some_and(|n| n.len() >= 5 && n.bytes().all(|b| b.is_ascii_digit()))
}

/// A file of pings that is being written.
pub struct PingFile<'a> {
    staging: &'a Staging,
    name: String,
    schema: SchemaRef,
    ids: Ids,
    writer: ArrowWriter<BufWriter<File>>,
}

impl<'a> PingFile<'a> {
    /// Opens the file of a part.
    pub fn create(staging: &'a Staging, recipe: &Recipe, number: usize) -> Result<Self> {
        let name = format!("{PINGS}/part-{number:05}.parquet");
        let empty = record_batch(Batch::default(), recipe.ids).map_err(|e| internal(&name, &e))?;
        let schema = empty.schema();
        let properties = ping_properties(recipe).build();
        let writer = open(staging, &name, &schema, properties)?;
        Ok(PingFile { staging, name, schema, ids: recipe.ids, writer })
    }

    /// Writes rows.
    pub fn write(&mut self, batch: Batch) -> Result<()> {
        let batch = record_batch(batch, self.ids)
            .and_then(|b| RecordBatch::try_new(self.schema.clone(), b.columns().to_vec()))
            .map_err(|e| internal(&self.name, &e))?;
        self.writer.write(&batch).map_err(|e| failed(self.staging, &self.name, e))
    }

    /// Writes the footer; the bytes of the file.
    pub fn close(self) -> Result<u64> {
        close(self.staging, &self.name, self.writer)
    }
}

/// What every file of a city says of itself.
fn properties(recipe: &Recipe) -> WriterPropertiesBuilder {
    let metadata = [
        ("copresence.purpose", purpose(recipe)),
        ("copresence.synth", recipe.flags()),
        ("copresence.synth_version", VERSION.to_string()),
    ];
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(format!("copresence {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(
            metadata.into_iter().map(|(key, value)| KeyValue::new(key.to_string(), value)).collect(),
        ))
}

/// Dictionaries only where values recur; elsewhere they cost time and are given up in the end.
fn ping_properties(recipe: &Recipe) -> WriterPropertiesBuilder {
    let by = |column_idx: i32| SortingColumn { column_idx, descending: false, nulls_first: false };
    let (sorting, persons_recur) = match recipe.order {
        Order::Time => (Some(vec![by(1), by(0)]), false),
        Order::Person => (Some(vec![by(0), by(1)]), true),
        Order::None => (None, false),
    };
    properties(recipe)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_sorting_columns(sorting)
        .set_dictionary_enabled(false)
        .set_column_dictionary_enabled(ColumnPath::from("person_id"), persons_recur)
        .set_column_dictionary_enabled(ColumnPath::from("accuracy_m"), true)
}

fn purpose(recipe: &Recipe) -> String {
    format!("test on a made-up city (copresence synth {VERSION}, seed {})", recipe.seed)
}

pub(super) fn ids(values: Vec<u64>, ids: Ids) -> ArrayRef {
    match ids {
        Ids::Integer => Arc::new(UInt64Array::from(values)),
        Ids::Text => {
            let offsets = OffsetBuffer::from_repeated_length(36, values.len());
            let texts: Vec<u8> = values.iter().flat_map(|id| text_id(*id)).collect();
            Arc::new(StringArray::new(offsets, Buffer::from_vec(texts), None))
        }
    }
}

pub(super) fn stamps(values: Vec<Millis>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(values).with_timezone("UTC"))
}

fn record_batch(batch: Batch, kind: Ids) -> std::result::Result<RecordBatch, ArrowError> {
    table(vec![
        ("person_id", ids(batch.ids, kind)),
        ("time", stamps(batch.times)),
        ("lat", Arc::new(Float64Array::from(batch.lats))),
        ("lon", Arc::new(Float64Array::from(batch.lons))),
        ("accuracy_m", Arc::new(Float32Array::from(batch.accuracies_m))),
    ])
}

fn table(columns: Vec<(&str, ArrayRef)>) -> std::result::Result<RecordBatch, ArrowError> {
    let field = |(name, column): &(&str, ArrayRef)| Field::new(*name, column.data_type().clone(), false);
    let fields: Vec<Field> = columns.iter().map(field).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, c)| c).collect())
}

/// Writes the cases, by person_id; they are infectious all of the last day.
pub fn write_cases(staging: &Staging, city: &Synth) -> Result<()> {
    let recipe = city.recipe();
    let mut persons = city.case_ids();
    persons.sort_unstable();
    let rows = persons.len();
    let numbered = |word: &'static str| (1..=rows).map(move |n| format!("{word}-{n:04}"));
    let batch = table(vec![
        ("case_id", Arc::new(StringArray::from_iter_values(numbered("case")))),
        ("person_id", ids(persons, recipe.ids)),
        ("infectious_from", stamps(vec![AS_OF - DAY_MS; rows])),
        ("infectious_to", stamps(vec![AS_OF + AFTER_MS; rows])),
        ("report_id", Arc::new(StringArray::from_iter_values(numbered("report")))),
        ("authority", Arc::new(StringArray::from_iter_values(std::iter::repeat_n(AUTHORITY, rows)))),
    ])
    .map_err(|e| internal(CASES, &e))?;
    let mut writer = open(staging, CASES, &batch.schema(), properties(recipe).build())?;
    writer.write(&batch).map_err(|e| failed(staging, CASES, e))?;
    close(staging, CASES, writer).map(drop)
}

/// Writes the job file.
pub fn write_job(staging: &Staging, recipe: &Recipe) -> Result<()> {
    let text = format!(
        r#"{MARK} {VERSION}: {flags}
# A made-up city: nobody in it exists. Run the job:
#   copresence run job.toml
# The same pings by squares of 800 m, from ten minutes on:
#   copresence run job.toml --set rule.encounter.place=grid --set rule.encounter.square_m=800 \
#     --set rule.candidate.direct_s_min=600
# As of midnight the last pings are cut short; the cases are infectious for as long as a ping may stand:
#   copresence run job.toml --as-of 2022-03-22T00:15:00+08:00

[job]
name = "synth"
purpose = "{purpose}"
as_of = "2022-03-22T00:00:00+08:00"
time_zone = "{TIME_ZONE}"

[[feeds]]
source = "gps"
path = "{PINGS}"
datum = "wgs84"
hold_s_max = 900

[cases]
path = "{CASES}"

[rule]
name = "synth"
version = "1"
lookback_days = {lookback}

[rule.encounter]
place = "distance"
distance_m_max = 50

[rule.candidate]
direct_s_min = 900
"#,
        flags = recipe.flags(),
        purpose = purpose(recipe),
        lookback = recipe.days.max(14),
    );
    std::fs::write(staging.path(JOB), text).map_err(|e| staging.failed(JOB, &e))
}

pub(super) fn open(
    staging: &Staging,
    name: &str,
    schema: &SchemaRef,
    properties: WriterProperties,
) -> Result<ArrowWriter<BufWriter<File>>> {
    let file = File::create(staging.path(name)).map_err(|e| staging.failed(name, &e))?;
    ArrowWriter::try_new(BufWriter::new(file), schema.clone(), Some(properties))
        .map_err(|e| failed(staging, name, e))
}

pub(super) fn close(staging: &Staging, name: &str, writer: ArrowWriter<BufWriter<File>>) -> Result<u64> {
    let buffered = writer.into_inner().map_err(|e| failed(staging, name, e))?;
    let file = buffered.into_inner().map_err(|e| staging.failed(name, e.error()))?;
    file.metadata().map(|m| m.len()).map_err(|e| staging.failed(name, &e))
}

pub(super) fn failed(staging: &Staging, name: &str, error: ParquetError) -> Error {
    let io = match error {
        ParquetError::External(source) => source
            .downcast::<std::io::Error>()
            .map_or_else(|other| std::io::Error::other(other.to_string()), |io| *io),
        other => std::io::Error::other(other.to_string()),
    };
    staging.failed(name, &io)
}
