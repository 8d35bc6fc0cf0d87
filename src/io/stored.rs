//! The rows of a prepared store: every readable ping as it was read, with its position in WGS84, its H3 cell, when and where
//! its person is next that day, and the input that it came from. Columns of that name which a feed may have mean the same
//! here.

use super::decode::{Decoder, Fault, Numbering};
use super::files::{Input, guarded};
use super::pings::{OpenFeed, PingFile};
use super::raw::Raw;
use super::store::Segment;
use crate::error::{Error, Problem, Result};
use crate::person::{PersonId, PersonKind, PersonType, Persons};
use crate::place::cells::Cells;
use crate::rule::Source;
use crate::time::Millis;
use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
    UInt16Array, UInt32Array, UInt64Array, new_null_array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use hashbrown::HashMap;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, RowGroupMetaData, SortingColumn};
use parquet::file::properties::WriterProperties;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

/// The version of these columns.
pub const VERSION: &str = "3";
/// Rows of a row group, at most.
pub const GROUP_ROWS: usize = 1 << 18;
/// Rows of a block, which is what is found and read for itself, and of a page.
pub const BLOCK_ROWS: usize = 1 << 10;
/// Bytes of a dictionary, at most: whoever reads a block reads it too.
const DICTIONARY_BYTES: usize = 1 << 16;

/// A row that could not be used, and its time, if it has one.
#[derive(Debug, Clone, Copy)]
pub struct Faulty {
    /// The row, counted in its file, and why.
    pub fault: Fault,
    /// When.
    pub time: Option<Millis>,
}

/// The columns that a source has beside person_id and time: those of its feeds, as kept here.
fn own_columns(source: Source) -> &'static [(&'static str, DataType)] {
    use DataType::{Float64, Int64, Utf8};
    match source {
        Source::Gps => &[("lat", Float64), ("lon", Float64), ("accuracy_m", Float64)],
        Source::Tower => &[("tower_id", Utf8), ("lat", Float64), ("lon", Float64)],
        Source::Trip => &[
            ("until", Int64),
            ("trip_id", Utf8),
            ("vehicle", Utf8),
            ("coach", Utf8),
            ("bay", Int64),
            ("seat_row", Int64),
            ("cabin", Utf8),
        ],
        Source::Venue => &[("venue_id", Utf8), ("until", Int64), ("floor", Utf8)],
    }
}

/// The columns that say where a row came from and where it lies.
const KEPT: [(&str, DataType); 9] = [
    ("feed", DataType::UInt16),
    ("input", DataType::UInt32),
    ("row", DataType::UInt64),
    ("cell", DataType::UInt64),
    ("next_time", DataType::Int64),
    ("next_lat", DataType::Float64),
    ("next_lon", DataType::Float64),
    ("apart", DataType::Boolean),
    ("repeated", DataType::Boolean),
];

/// The type of one of the columns that say where a row lies and what follows it.
pub fn type_of(name: &str) -> DataType {
    KEPT.iter().find(|(kept, _)| *kept == name).map_or(DataType::Null, |(_, kind)| kind.clone())
}

/// The rows of a source inside the program: persons in the inner type, times in ms.
pub fn schema(source: Source, person: &DataType) -> SchemaRef {
    let mut fields =
        vec![Field::new("person_id", person.clone(), false), Field::new("time", DataType::Int64, false)];
    let rest = own_columns(source).iter().chain(&KEPT);
    fields.extend(rest.map(|(name, kind)| Field::new(*name, kind.clone(), true)));
    Arc::new(Schema::new(fields))
}

/// Reads the rows of a row group as they are kept, batch by batch, with those that could not be used. `input` is the number
/// of the file in the store.
pub fn read_raw(
    decoder: &Decoder,
    feed: &OpenFeed,
    file: &PingFile,
    group: usize,
    input: u32,
    cells: &mut Cells,
    each: &mut dyn FnMut(RecordBatch, Vec<Faulty>) -> Result<()>,
) -> Result<()> {
    let mut first_row = file.groups[group].first_row;
    decoder.batches(file, group, &file.roots(true), None, &mut |batch| {
        let numbering = Numbering::From(first_row);
        first_row += batch.num_rows() as u64;
        cells.tidy();
        let rows = kept_rows(decoder, feed, file, batch, &numbering, input, cells);
        let (rows, faulty) = rows.map_err(|e| super::decode::broken(file, group, &e.to_string()))?;
        each(rows, faulty)
    })
}

/// What stands for a venue where an H3 cell stands for a position: the first eight bytes of the SHA-256 of its id.
pub fn cell_of_venue(id: &str) -> u64 {
    let digest = Sha256::digest(id.as_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn kept_rows(
    decoder: &Decoder,
    feed: &OpenFeed,
    file: &PingFile,
    batch: &RecordBatch,
    numbering: &Numbering,
    input: u32,
    cells: &mut Cells,
) -> std::result::Result<(RecordBatch, Vec<Faulty>), ArrowError> {
    let raw = Raw::new(decoder, feed, file, batch)?;
    let source = feed.config.stay.source;
    let (mut kept, mut faulty) = (Vec::new(), Vec::new());
    let (mut times, mut lats, mut lons, mut rows, mut in_cells) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut venues: HashMap<&str, u64> = HashMap::new();
    for row in 0..batch.num_rows() {
        let time = raw.times.at(row);
        let read = time.map_err(|why| (super::raw::time_reason(why), "time"));
        match read.and_then(|time| raw.row(decoder, feed, row, time, None)) {
            Ok(ping) => {
                kept.push(row as u32);
                times.push(ping.time);
                rows.push(numbering.at(row));
                in_cells.push(match raw.id(row).filter(|_| source == Source::Venue) {
                    Some(id) => *venues.entry(id).or_insert_with(|| cell_of_venue(id)),
                    None => cells.of(ping.lat, ping.lon),
                });
                lats.push(ping.lat);
                lons.push(ping.lon);
            }
            Err((reason, column)) => {
                let fault = Fault { row: numbering.at(row), reason, column };
                faulty.push(Faulty { fault, time: time.ok() });
            }
        }
    }
    let count = kept.len();
    let kept = UInt32Array::from(kept);
    let schema = schema(source, &decoder.person.inner());
    let columns = schema.fields().iter().map(|field| -> std::result::Result<ArrayRef, ArrowError> {
        Ok(match field.name().as_str() {
            "person_id" => take(&raw.person_column, &kept, None)?,
            "time" => Arc::new(Int64Array::from(std::mem::take(&mut times))),
            "lat" => Arc::new(Float64Array::from(std::mem::take(&mut lats))),
            "lon" => Arc::new(Float64Array::from(std::mem::take(&mut lons))),
            "feed" => Arc::new(UInt16Array::from(vec![feed.number; count])),
            "input" => Arc::new(UInt32Array::from(vec![input; count])),
            "row" => Arc::new(UInt64Array::from(std::mem::take(&mut rows))),
            "cell" => Arc::new(UInt64Array::from(std::mem::take(&mut in_cells))),
            "next_time" | "next_lat" | "next_lon" | "apart" | "repeated" => {
                new_null_array(field.data_type(), count)
            }
            name => take(&raw.values(name, batch.num_rows()), &kept, None)?,
        })
    });
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok((RecordBatch::try_new(schema, columns)?, faulty))
}

/// What a file of a store says of itself.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// Whose rows.
    pub source: Source,
    /// The feed's number.
    pub feed: u16,
    /// The day, in the store's zone.
    pub day: String,
    /// The store's zone.
    pub zone: String,
    /// The type of person_id.
    pub person: PersonType,
}

/// Writes the rows of a file, in their order: space, then time. Gives the bytes.
pub fn write(path: &Path, rows: &RecordBatch, stamp: &Stamp) -> std::result::Result<u64, ArrowError> {
    let batch = for_others(rows, stamp)?;
    let at = |name: &str| batch.schema_ref().index_of(name).unwrap_or(0) as i32;
    let by = |name: &str| SortingColumn { column_idx: at(name), descending: false, nulls_first: false };
    let says = [
        ("copresence.store_version", VERSION.to_string()),
        ("copresence.source", stamp.source.name().to_string()),
        ("copresence.feed", stamp.feed.to_string()),
        ("copresence.day", stamp.day.clone()),
        ("copresence.time_zone", stamp.zone.clone()),
        ("copresence.datum", "wgs84".to_string()),
    ];
    let persons = distinct(rows.column(0));
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(format!("copresence {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(
            says.into_iter().map(|(key, value)| KeyValue::new(key.to_string(), value)).collect(),
        ))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_data_page_row_count_limit(BLOCK_ROWS)
        .set_write_batch_size(BLOCK_ROWS)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_sorting_columns(Some(vec![by("cell"), by("time")]))
        .set_column_bloom_filter_enabled(ColumnPath::from("person_id"), true)
        .set_column_bloom_filter_max_ndv(ColumnPath::from("person_id"), persons.max(1));
    properties = properties.set_column_dictionary_enabled(ColumnPath::from("person_id"), false);
    // What stands near one another has the same first bytes.
    for name in ["lat", "lon", "next_lat", "next_lon"] {
        properties = properties
            .set_column_dictionary_enabled(ColumnPath::from(name), false)
            .set_column_encoding(ColumnPath::from(name), Encoding::BYTE_STREAM_SPLIT);
    }
    let integers = if stamp.person.kind() == PersonKind::Integer { &["person_id"][..] } else { &[] };
    for name in ["time", "next_time", "until", "row"].iter().chain(integers) {
        properties = properties
            .set_column_dictionary_enabled(ColumnPath::from(*name), false)
            .set_column_encoding(ColumnPath::from(*name), Encoding::DELTA_BINARY_PACKED);
    }
    let file = BufWriter::new(File::create(path)?);
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build()))?;
    writer.write(&batch)?;
    let file = writer.into_inner()?.into_inner().map_err(|e| ArrowError::from(e.into_error()))?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

fn distinct(persons: &ArrayRef) -> u64 {
    let mut spreads = Vec::new();
    Persons::of(persons).spreads(&mut spreads);
    spreads.sort_unstable();
    spreads.dedup();
    (spreads.len() as u64).min(GROUP_ROWS as u64)
}

/// Rows in the types that other tools expect, without columns that hold nothing.
fn for_others(rows: &RecordBatch, stamp: &Stamp) -> std::result::Result<RecordBatch, ArrowError> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        let name = field.name().as_str();
        let needed =
            !field.is_nullable() || columns_needed(stamp.source).contains(&name) || name == "next_time";
        if name == "feed" || (!needed && column.null_count() == column.len()) {
            continue;
        }
        let column: ArrayRef = match name {
            "person_id" => stamp.person.restore(column)?,
            "time" | "until" | "next_time" => {
                let times = column.as_primitive::<Int64Type>().clone();
                Arc::new(
                    times
                        .reinterpret_cast::<arrow::datatypes::TimestampMillisecondType>()
                        .with_timezone("UTC"),
                )
            }
            _ => column.clone(),
        };
        fields.push(Field::new(name, column.data_type().clone(), field.is_nullable()));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn columns_needed(source: Source) -> Vec<&'static str> {
    let columns = crate::config::columns_of(source).iter();
    columns.filter(|name| !name.ends_with('?')).copied().collect()
}

/// Reads a file of a store back, as [`schema`].
pub fn read_back(
    input: &Input,
    source: Source,
    feed: u16,
    person: PersonType,
    each: &mut dyn FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    let wrong = |why: &str| {
        Error::Input(Problem::new(
            &*input.name,
            "a file of a prepared store",
            why,
            "ingest its day again from the feeds, or bring the file back from a backup",
        ))
    };
    let file = input.open()?;
    let schema = schema(source, &person.inner());
    let reader = guarded(|| {
        ParquetRecordBatchReaderBuilder::try_new(file).and_then(|b| b.with_batch_size(1 << 16).build())
    });
    let mut reader = match reader {
        Ok(Ok(reader)) => reader,
        Ok(Err(e)) => return Err(wrong(&e.to_string())),
        Err(_) => return Err(wrong("a footer that cannot be read")),
    };
    loop {
        let batch = match guarded(|| reader.next()) {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(batch))) => batch,
            Ok(Some(Err(e))) => return Err(wrong(&e.to_string())),
            Err(_) => return Err(wrong("bytes that are no column")),
        };
        let rows = batch.num_rows();
        let columns = schema.fields().iter().map(|field| -> std::result::Result<ArrayRef, ArrowError> {
            let name = field.name().as_str();
            Ok(match (name, batch.column_by_name(name)) {
                ("person_id", Some(column)) => person.adopt(column)?,
                ("feed", _) => Arc::new(UInt16Array::from(vec![feed; rows])),
                (_, Some(column)) => cast(column, field.data_type())?,
                (_, None) => new_null_array(field.data_type(), rows),
            })
        });
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>();
        let batch = columns.and_then(|columns| RecordBatch::try_new(schema.clone(), columns));
        each(batch.map_err(|e| wrong(&e.to_string()))?)?;
    }
}

/// Whether some person of a store's files, whose ids are unsigned, has an id of 2^63 or more, or may have one.
pub fn has_large_persons(segments: &[Segment], input: &dyn Fn(&str) -> Result<Input>) -> Result<bool> {
    for segment in segments {
        let metadata = super::files::open_parquet(&input(&segment.file)?)?;
        let is_small = |group: &RowGroupMetaData| match group.column(0).statistics() {
            Some(Statistics::Int64(own)) => {
                let [least, most] = [own.min_opt(), own.max_opt()];
                least.is_some_and(|id| *id >= 0) && most.is_some_and(|id| *id >= 0)
            }
            _ => false,
        };
        if !metadata.metadata().row_groups().iter().all(is_small) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes the rows that could not be used, each with its input's number, so that runs can tell of them.
pub fn write_faulty(path: &Path, rows: &[(u32, Faulty)]) -> std::result::Result<u64, ArrowError> {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("input", Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.0)))),
        ("row", Arc::new(UInt64Array::from_iter_values(rows.iter().map(|r| r.1.fault.row)))),
        ("reason", Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1.fault.reason)))),
        ("column", Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1.fault.column)))),
        (
            "time",
            Arc::new(
                TimestampMillisecondArray::from(rows.iter().map(|r| r.1.time).collect::<Vec<_>>())
                    .with_timezone("UTC"),
            ),
        ),
    ];
    let fields = columns.iter().map(|(name, c)| Field::new(*name, c.data_type().clone(), *name == "time"));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(_, c)| c).collect())?;
    let mut writer = ArrowWriter::try_new(BufWriter::new(File::create(path)?), schema, None)?;
    writer.write(&batch)?;
    let file = writer.into_inner()?.into_inner().map_err(|e| ArrowError::from(e.into_error()))?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// A row of a track, as far as what follows it is concerned.
struct Step {
    at: Millis,
    /// What it is: its position, and the rest of what is told of it.
    place: (f64, f64),
    rest: Vec<Option<String>>,
    next: Option<Millis>,
    next_place: Option<(f64, f64)>,
    apart: bool,
    repeated: bool,
}

/// What is wrong with the rows of one source and day, if anything; a batch lies in one file. Places that follow are told
/// of sources that have positions.
pub fn fault_of_day(batches: &[RecordBatch]) -> Option<String> {
    let integers = |batch: &RecordBatch, name: &str| {
        batch.column_by_name(name).map(|c| c.as_primitive::<Int64Type>().clone())
    };
    let numbers = |batch: &RecordBatch, name: &str| {
        batch.column_by_name(name).map(|c| c.as_primitive::<Float64Type>().clone())
    };
    let mut tracks: HashMap<PersonId, Vec<Step>> = HashMap::new();
    for batch in batches {
        let (times, nexts) = (integers(batch, "time")?, integers(batch, "next_time")?);
        let (lats, lons) = (numbers(batch, "lat"), numbers(batch, "lon"));
        let (next_lats, next_lons) = (numbers(batch, "next_lat")?, numbers(batch, "next_lon")?);
        let aparts = batch.column_by_name("apart")?.as_boolean();
        let repeats = batch.column_by_name("repeated")?.as_boolean();
        let cells = batch.column_by_name("cell")?.as_primitive::<UInt64Type>();
        let rest = ["accuracy_m", "tower_id", "feed"].map(|name| {
            let text = batch.column_by_name(name).map(|column| cast(column, &DataType::Utf8));
            text.and_then(std::result::Result::ok)
        });
        if !cells.values().iter().zip(times.values()).is_sorted() {
            return Some("rows out of order".into());
        }
        let persons = Persons::of(batch.column(0));
        for row in 0..batch.num_rows() {
            let number = |column: &Option<Float64Array>| column.as_ref().map_or(f64::NAN, |c| c.value(row));
            let step = Step {
                at: times.value(row),
                rest: rest
                    .iter()
                    .map(|column| {
                        let column = column.as_ref()?.as_string::<i32>();
                        (!column.is_null(row)).then(|| column.value(row).to_string())
                    })
                    .collect(),
                place: (number(&lats), number(&lons)),
                next: (!nexts.is_null(row)).then(|| nexts.value(row)),
                next_place: (!next_lats.is_null(row)).then(|| (next_lats.value(row), next_lons.value(row))),
                apart: !aparts.is_null(row) && aparts.value(row),
                repeated: !repeats.is_null(row) && repeats.value(row),
            };
            tracks.entry(persons.at(row).to_id()).or_default().push(step);
        }
    }
    for track in tracks.values_mut() {
        track.sort_by_key(|step| step.at);
        let mut later: &[Step] = &[];
        for same in track.chunk_by(|a, b| a.at == b.at).collect::<Vec<_>>().into_iter().rev() {
            let is_placed = !same[0].place.0.is_nan();
            let one_place =
                later.first().filter(|first| later.iter().all(|other| other.place == first.place));
            let next_place = one_place.filter(|_| is_placed).map(|first| first.place);
            let what = |step: &Step| (step.place, step.rest.clone());
            let others = same.iter().any(|step| what(step) != what(&same[0]));
            let apart = is_placed && (others || (next_place.is_none() && !later.is_empty()));
            for step in same {
                if step.next != later.first().map(|other| other.at) {
                    return Some("a next ping that is not the next".into());
                }
                if (step.next_place, step.apart) != (next_place, apart) {
                    return Some("another place after it than that of the next ping".into());
                }
                let alike = same.iter().filter(|other| what(other) == what(step));
                if is_placed && alike.filter(|other| !other.repeated).count() != 1 {
                    return Some("a ping that does not stand for those equal to it".into());
                }
            }
            later = same;
        }
    }
    None
}

/// Reads rows that could not be used back.
pub fn read_faulty(input: &Input) -> Result<Vec<(u32, Faulty)>> {
    let wrong = |why: String| {
        Error::Input(Problem::new(
            &*input.name,
            "a store's file of rows that could not be used",
            why,
            "bring the file back from a backup",
        ))
    };
    let file = input.open()?;
    let read = guarded(|| -> std::result::Result<Vec<(u32, Faulty)>, ArrowError> {
        let mut rows = Vec::new();
        for batch in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
            let batch = batch?;
            let column = |name: &str| -> std::result::Result<&ArrayRef, ArrowError> {
                batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")))
            };
            let inputs = cast(column("input")?, &DataType::UInt32)?;
            let numbers = cast(column("row")?, &DataType::UInt64)?;
            let times = cast(column("time")?, &DataType::Int64)?;
            let (reasons, columns) =
                (cast(column("reason")?, &DataType::Utf8)?, cast(column("column")?, &DataType::Utf8)?);
            for row in 0..batch.num_rows() {
                let times = times.as_primitive::<Int64Type>();
                let fault = Fault {
                    row: numbers.as_primitive::<UInt64Type>().value(row),
                    reason: word(reasons.as_string::<i32>().value(row)),
                    column: word(columns.as_string::<i32>().value(row)),
                };
                let time = (!times.is_null(row)).then(|| times.value(row));
                rows.push((inputs.as_primitive::<UInt32Type>().value(row), Faulty { fault, time }));
            }
        }
        Ok(rows)
    });
    match read {
        Ok(Ok(rows)) => Ok(rows),
        Ok(Err(e)) => Err(wrong(e.to_string())),
        Err(_) => Err(wrong("bytes that are no column".into())),
    }
}

/// A word that this program writes itself.
fn word(text: &str) -> &'static str {
    WORDS.iter().find(|word| **word == text).unwrap_or(&"unreadable")
}

/// Reasons and columns of rows that cannot be used.
const WORDS: [&str; 32] = [
    "accuracy_m",
    "accuracy_m_out_of_range",
    "bay",
    "bay_unreadable",
    "lat",
    "lat_missing",
    "lat_out_of_range",
    "lon",
    "lon_missing",
    "lon_out_of_range",
    "person_id",
    "person_id_missing",
    "person_id_out_of_range",
    "seat_row",
    "seat_row_unreadable",
    "time",
    "time_missing",
    "time_not_in_zone",
    "time_unreadable",
    "tower_id",
    "tower_id_missing",
    "tower_unknown",
    "trip_id",
    "trip_id_missing",
    "until",
    "until_before_time",
    "until_missing",
    "vehicle",
    "vehicle_missing",
    "vehicle_unknown",
    "venue_id",
    "venue_id_missing",
];
