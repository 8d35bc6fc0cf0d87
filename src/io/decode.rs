//! From row groups to batches of pings: read in batches, never whole; a bad row is data.

use super::columns::Clock;
use super::files::{guarded, unreadable};
use super::paged_file::PagedFile;
use super::pings::{Group, OpenFeed, Origin, Pages, PingFile};
use super::places::Numbers;
use super::raw::{Raw, Row, column, time_reason};
use super::storage;
use crate::datum::Datum;
use crate::error::{Error, Problem, Result};
use crate::person::{PersonSet, PersonType, Persons};
use crate::ping::{NO_FLOOR, NO_PLACE, NO_UNTIL};
use crate::rule::Source;
use crate::time::{Millis, TimeUnit, Tz, ends};
use crate::trip::Seat;
use crate::wide::wide;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, Float64Array, Int64Array, RecordBatch,
    RecordBatchOptions, UInt16Array, UInt32Array, new_null_array,
};
use arrow::compute::{cast, filter, filter_record_batch};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReaderBuilder, RowSelection, RowSelectionPolicy, RowSelector,
};
use std::mem::take;
use std::ops::Range;
use std::sync::Arc;

/// A row that is left out as unreadable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The row, counted in the file.
    pub row: u64,
    /// Why.
    pub reason: &'static str,
    /// The column at fault.
    pub column: &'static str,
}

/// What a batch of a file gives.
#[derive(Debug)]
pub struct Decoded {
    /// Rows read.
    pub rows: u64,
    /// Readable rows inside the lookback, as [`crate::ping::ping_schema`].
    pub pings: RecordBatch,
    /// Of scans: the row of each ping, counted in the file.
    pub scan_rows: Vec<u64>,
    /// Of scans of a store: the number of the file that each came from, and in which [`Decoded::scan_rows`] count then.
    pub scan_inputs: Vec<u32>,
    /// Rows left out as unreadable.
    pub faults: Vec<Fault>,
    /// Readable rows before the lookback.
    pub before: u64,
    /// Readable rows from as_of on.
    pub after: u64,
    /// Trips that do not say what the rule of their vehicle asks for, among the pings.
    pub seatless: u64,
    /// The earliest and the latest readable time, inside the lookback or not.
    pub span: Option<(Millis, Millis)>,
}

/// Takes times in ms, latitudes and longitudes of rows.
type EachPlaces<'e> = dyn FnMut(&[Millis], &[f64], &[f64]) -> Result<()> + 'e;

/// How files become batches of pings.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// The type of person_id that the job gives back.
    pub person: PersonType,
    /// [`crate::ping::ping_schema`] of the job.
    pub schema: SchemaRef,
    /// Whether accuracies are read.
    pub accuracies: bool,
    /// Start of the lookback.
    pub from: Millis,
    /// End of the lookback.
    pub to: Millis,
    /// Rows of a batch.
    pub batch_rows: usize,
    /// The clock that venues close by.
    pub zone: Tz,
    /// Venues that cases visit, and all listed ones where these matter.
    pub venues: Numbers,
    /// Floors.
    pub floors: Numbers,
    /// Trips that cases took.
    pub trips: Numbers,
    /// Seats of all trips.
    pub seats: Numbers<Seat>,
}

impl Decoder {
    /// The same that leaves accuracies unread.
    pub fn without_accuracies(&self) -> Self {
        let fields = self.schema.fields().iter().filter(|field| field.name() != "accuracy_m");
        let schema = Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()));
        Decoder { schema, accuracies: false, ..self.clone() }
    }

    /// Whether a row group can hold a ping of the lookback.
    pub fn wants(&self, group: &Group) -> bool {
        group.time_range.is_none_or(|(min, max)| max >= self.from && min < self.to)
    }

    /// Reads these rows of a row group in batches; all rows, if none are named. Venues and trips that these persons
    /// are in are given numbers, others keep the one they have.
    pub fn read(
        &self,
        feed: &OpenFeed,
        file: &PingFile,
        group: usize,
        rows: Option<&[Range<u64>]>,
        visitors: Option<&PersonSet>,
        each: &mut dyn FnMut(Decoded) -> Result<()>,
    ) -> Result<()> {
        let first_row = file.groups[group].first_row;
        let mut numbers = rows.unwrap_or_default().to_vec().into_iter().flatten();
        let one_run = rows.is_none_or(|rows| rows.len() == 1);
        let mut next = rows.and_then(|rows| rows.first()).map_or(0, |first| first.start);
        self.batches(file, group, &file.roots(self.accuracies), rows, &mut |batch| {
            let numbering = if one_run {
                Numbering::From(first_row + next)
            } else {
                Numbering::Each(numbers.by_ref().take(batch.num_rows()).map(|row| first_row + row).collect())
            };
            next += batch.num_rows() as u64;
            let decoded = self.decode(feed, file, batch, &numbering, visitors);
            each(decoded.map_err(|e| broken(file, group, &e.to_string()))?.0)
        })
    }

    /// The columns of a store's file that this reads of a ping, by their names.
    pub fn columns_of(&self, file: &PingFile) -> Vec<&'static str> {
        let roots = file.roots(self.accuracies);
        let read = |origin: &Origin| matches!(origin, Origin::Column(at) if roots.contains(at));
        file.columns.iter().filter(|(_, origin)| read(origin)).map(|(name, _)| *name).collect()
    }

    /// Reads these rows of a row group of a store, page by page, each batch with the columns of `beside`, whose rows are
    /// those of its pings. Venues that these `visitors` are in are given numbers.
    #[expect(clippy::too_many_arguments, reason = "what is read, and how, each a thing of its own")]
    pub fn read_stored(
        &self,
        feed: &OpenFeed,
        file: &PingFile,
        pages: &Pages,
        rows: &[Range<u64>],
        beside: &[&'static str],
        visitors: Option<&PersonSet>,
        each: &mut dyn FnMut(Decoded, RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let mut roots = file.roots(self.accuracies);
        roots.extend(pages.roots(beside));
        let first_row = file.groups[pages.group].first_row;
        let mut numbers = rows.iter().cloned().flatten();
        self.batches_by((&pages.metadata, 0), file, pages.group, &roots, Some(rows), &mut |batch| {
            let numbering =
                Numbering::Each(numbers.by_ref().take(batch.num_rows()).map(|row| first_row + row).collect());
            let told = told(batch, beside);
            let decoded = told.and_then(|told| {
                let (decoded, kept) = self.decode(feed, file, batch, &numbering, visitors)?;
                let told = kept.map_or(Ok(told.clone()), |kept| filter_record_batch(&told, &kept))?;
                Ok((decoded, told))
            });
            let (decoded, told) = decoded.map_err(|e| broken(file, pages.group, &e.to_string()))?;
            each(decoded, told)
        })
    }

    /// Reads only when and where these rows of a row group of a store are: times in ms, or also degrees.
    pub fn read_places(
        &self,
        file: &PingFile,
        pages: &Pages,
        rows: &[Range<u64>],
        with_degrees: bool,
        each: &mut EachPlaces<'_>,
    ) -> Result<()> {
        let columns = if with_degrees { &["time", "lat", "lon"][..] } else { &["time"] };
        let roots = pages.roots(columns);
        self.batches_by((&pages.metadata, 0), file, pages.group, &roots, Some(rows), &mut |batch| {
            let found = |name: &str, kind: &DataType| {
                let column = batch.column_by_name(name);
                let column = column.ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")));
                column.and_then(|column| cast(column, kind))
            };
            let wrong = |e: ArrowError| broken(file, pages.group, &e.to_string());
            let times = found("time", &DataType::Int64).map_err(wrong)?;
            let times = times.as_primitive::<Int64Type>().values();
            if !with_degrees {
                return each(times, &[], &[]);
            }
            let lats = found("lat", &DataType::Float64).map_err(wrong)?;
            let lons = found("lon", &DataType::Float64).map_err(wrong)?;
            let (lats, lons) = (lats.as_primitive::<Float64Type>(), lons.as_primitive::<Float64Type>());
            each(times, lats.values(), lons.values())
        })
    }

    /// Reads only whose these rows of a row group of a store are, and the columns of `beside`.
    pub fn read_owners(
        &self,
        file: &PingFile,
        pages: &Pages,
        rows: &[Range<u64>],
        beside: &[&'static str],
        each: &mut dyn FnMut(Persons<'_>, &RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let mut roots = pages.roots(&["person_id"]);
        roots.extend(pages.roots(beside));
        self.batches_by((&pages.metadata, 0), file, pages.group, &roots, Some(rows), &mut |batch| {
            let wrong = |e: ArrowError| broken(file, pages.group, &e.to_string());
            let persons = self.person.adopt(batch.column(0)).map_err(wrong)?;
            each(Persons::of(&persons), &told(batch, beside).map_err(wrong)?)
        })
    }

    /// Reads only the persons of these rows of a row group; rows without one count among them as null.
    pub fn read_persons(
        &self,
        file: &PingFile,
        group: usize,
        rows: Option<&[Range<u64>]>,
        each: &mut dyn FnMut(Persons<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some((_, Origin::Column(at))) = file.columns.iter().find(|(name, _)| *name == "person_id") else {
            return Ok(());
        };
        self.batches(file, group, &[*at], rows, &mut |batch| {
            let persons =
                self.person.adopt(batch.column(0)).map_err(|e| broken(file, group, &e.to_string()))?;
            each(Persons::of(&persons))
        })
    }

    pub(super) fn batches(
        &self,
        file: &PingFile,
        group: usize,
        roots: &[usize],
        rows: Option<&[Range<u64>]>,
        each: &mut dyn FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        self.batches_by((&file.metadata, group), file, group, roots, rows, each)
    }

    fn batches_by(
        &self,
        (metadata, group_there): (&ArrowReaderMetadata, usize),
        file: &PingFile,
        group: usize,
        roots: &[usize],
        rows: Option<&[Range<u64>]>,
        each: &mut dyn FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let source = PagedFile::open(&file.input.path, file.input.bytes)
            .map_err(|e| unreadable(&file.input.name, &e))?;
        let mask = ProjectionMask::roots(file.metadata.parquet_schema(), roots.iter().copied());
        let opened = guarded(|| {
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(source, metadata.clone())
                .with_projection(mask)
                .with_row_groups(vec![group_there])
                .with_batch_size(self.batch_rows);
            match rows {
                Some(rows) => {
                    let reader = reader.with_row_selection(selection(rows));
                    reader.with_row_selection_policy(RowSelectionPolicy::Selectors).build()
                }
                None => reader.build(),
            }
        });
        let mut reader = match opened {
            Ok(Ok(reader)) => reader,
            Ok(Err(e)) => return Err(broken(file, group, &e.to_string())),
            Err(_) => return Err(broken(file, group, "bytes that are no column")),
        };
        loop {
            match guarded(|| reader.next()) {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(batch))) => each(&batch)?,
                Ok(Some(Err(e))) => return Err(broken(file, group, &e.to_string())),
                Err(_) => return Err(broken(file, group, "bytes that are no column")),
            }
        }
    }

    /// The batch as it is, where every row is readable and inside the lookback and no column has to be
    /// translated: almost always, and then nothing is copied.
    fn as_it_is(
        &self,
        feed: &OpenFeed,
        file: &PingFile,
        batch: &RecordBatch,
    ) -> std::result::Result<Option<Decoded>, ArrowError> {
        let plain = feed.config.stay.source == Source::Gps && feed.config.datum == Some(Datum::Wgs84);
        let (true, Some(Clock::Utc(unit))) = (plain, file.clock("time")) else { return Ok(None) };
        let full = |name: &str| column(file, batch, name).filter(|c| c.null_count() == 0);
        let (Some(person), Some(time), Some(lat), Some(lon)) =
            (full("person_id"), full("time"), full("lat"), full("lon"))
        else {
            return Ok(None);
        };
        let (Some(lats), Some(lons)) =
            (lat.as_primitive_opt::<Float64Type>(), lon.as_primitive_opt::<Float64Type>())
        else {
            return Ok(None);
        };
        let counts = cast(&time, &DataType::Int64)?;
        let times = in_millis(counts.as_primitive::<Int64Type>(), unit);
        let Some((min, max)) = ends(times.values()) else { return Ok(None) };
        let within = |values: &[f64], most: f64, end: f64| {
            wide(
                #[inline(always)]
                || values.iter().fold(true, |ok, v| ok & (v.abs() <= most) & (*v < end)),
            )
        };
        let clean = min >= self.from
            && max < self.to
            && counts.null_count() == 0
            && within(lats.values(), 90.0, f64::INFINITY)
            && within(lons.values(), 180.0, 180.0);
        let accuracy = self.schema.column_with_name("accuracy_m").map(|(_, field)| field.data_type());
        let accuracy = match (accuracy, column(file, batch, "accuracy_m")) {
            (None, None) => None,
            // What nobody gives is the feed's.
            (Some(kind), None) if kind == &DataType::Float32 => {
                Some(Arc::new(Float32Array::from(vec![feed.config.stay.accuracy_m as f32; batch.num_rows()]))
                    as ArrayRef)
            }
            (Some(_), None) => {
                Some(Arc::new(Float64Array::from(vec![feed.config.stay.accuracy_m; batch.num_rows()]))
                    as ArrayRef)
            }
            (Some(kind), Some(given)) if given.data_type() == kind && good_accuracies(&given) => Some(given),
            _ => return Ok(None),
        };
        let persons = self.person.adopt(&person)?;
        if !clean || persons.null_count() > 0 {
            return Ok(None);
        }
        let mut columns: Vec<ArrayRef> = vec![persons, Arc::new(times), lat.clone(), lon.clone()];
        columns.extend(accuracy);
        if self.schema.column_with_name("feed").is_some() {
            columns.push(Arc::new(UInt16Array::from(vec![feed.number; batch.num_rows()])));
        }
        for field in &self.schema.fields()[columns.len()..] {
            columns.push(match field.name().as_str() {
                "until" => Arc::new(Int64Array::from(vec![NO_UNTIL; batch.num_rows()])),
                "place" => Arc::new(UInt32Array::from(vec![NO_PLACE; batch.num_rows()])),
                _ => Arc::new(UInt32Array::from(vec![NO_FLOOR; batch.num_rows()])),
            });
        }
        let pings = RecordBatch::try_new(self.schema.clone(), columns)?;
        let rows = batch.num_rows() as u64;
        let (scan_rows, scan_inputs, faults, span) = (Vec::new(), Vec::new(), Vec::new(), Some((min, max)));
        Ok(Some(Decoded {
            rows,
            pings,
            scan_rows,
            scan_inputs,
            faults,
            before: 0,
            after: 0,
            seatless: 0,
            span,
        }))
    }

    /// What a batch gives, and which of its rows are pings, if not all.
    fn decode(
        &self,
        feed: &OpenFeed,
        file: &PingFile,
        batch: &RecordBatch,
        numbering: &Numbering,
        visitors: Option<&PersonSet>,
    ) -> std::result::Result<(Decoded, Option<BooleanArray>), ArrowError> {
        if let Some(decoded) = self.as_it_is(feed, file, batch)? {
            return Ok((decoded, None));
        }
        let rows = batch.num_rows();
        let raw = Raw::new(self, feed, file, batch)?;
        let mut out = Columns::with_capacity(rows);
        let mut keep = Vec::with_capacity(rows);
        let (mut faults, mut before, mut after, mut span) = (Vec::new(), 0, 0, None);
        let (mut scan_rows, mut scan_inputs, mut seatless) = (Vec::new(), Vec::new(), 0);
        for row in 0..rows {
            let mut kept = false;
            // What lies outside the lookback does not exist, so it cannot be wrong either.
            match raw.times.at(row).map_err(|why| (time_reason(why), "time")) {
                Ok(time) if time < self.from => before += 1,
                Ok(time) if time >= self.to => after += 1,
                time => match time.and_then(|time| raw.row(self, feed, row, time, visitors)) {
                    Ok(ping) => {
                        out.push(&ping);
                        if raw.source == Source::Venue {
                            let (input, own) = raw.origin(row).unzip();
                            scan_inputs.extend(input);
                            scan_rows.push(own.unwrap_or_else(|| numbering.at(row)));
                        }
                        seatless += u64::from(ping.is_seatless);
                        kept = true;
                    }
                    Err((reason, column)) => faults.push(Fault { row: numbering.at(row), reason, column }),
                },
            }
            if let Ok(time) = raw.times.at(row) {
                span = Some(
                    span.map_or((time, time), |(min, max): (Millis, Millis)| (min.min(time), max.max(time))),
                );
            }
            keep.push(kept);
        }
        let kept = (out.times.len() < rows).then(|| BooleanArray::from(keep));
        let persons =
            kept.as_ref().map_or(Ok(raw.person_column.clone()), |kept| filter(&raw.person_column, kept))?;
        let pings = out.finish(persons, feed.number, &self.schema)?;
        let decoded = Decoded {
            rows: rows as u64,
            pings,
            scan_rows,
            scan_inputs,
            faults,
            before,
            after,
            seatless,
            span,
        };
        Ok((decoded, kept))
    }
}

/// These columns of a batch of a store; null where its file has none of the name.
fn told(batch: &RecordBatch, names: &[&'static str]) -> std::result::Result<RecordBatch, ArrowError> {
    let columns: Vec<ArrayRef> = names
        .iter()
        .map(|name| match batch.column_by_name(name) {
            Some(column) => column.clone(),
            None => new_null_array(&super::stored::type_of(name), batch.num_rows()),
        })
        .collect();
    let fields = names.iter().zip(&columns);
    let fields = fields.map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let count = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema, columns, &count)
}

pub(super) fn broken(file: &PingFile, group: usize, why: &str) -> Error {
    let (expected, cure) = match storage::cure_of_reading(&file.input.path, why) {
        Some(cure) => ("an object that can be read", cure),
        None => ("columns that can be decoded", "write the file again, or leave it out of the feed"),
    };
    Error::Input(Problem::new(format!("{}, row group {group}", file.input.name), expected, why, cure))
}

/// How the rows of a batch are counted in the file.
pub(super) enum Numbering {
    From(u64),
    Each(Vec<u64>),
}

impl Numbering {
    pub(super) fn at(&self, row: usize) -> u64 {
        match self {
            Numbering::From(first) => first + row as u64,
            Numbering::Each(rows) => rows[row],
        }
    }
}

fn selection(rows: &[Range<u64>]) -> RowSelection {
    let mut done = 0;
    let mut selectors = Vec::with_capacity(rows.len() * 2);
    for range in rows {
        selectors.push(RowSelector::skip((range.start - done) as usize));
        selectors.push(RowSelector::select((range.end - range.start) as usize));
        done = range.end;
    }
    RowSelection::from(selectors)
}

/// Counts in milliseconds.
fn in_millis(counts: &Int64Array, unit: TimeUnit) -> Int64Array {
    // What cannot be read lies outside any lookback.
    match unit {
        TimeUnit::Ms => counts.clone(),
        TimeUnit::S => counts.unary(|v| v.saturating_mul(1_000)),
        TimeUnit::Us => counts.unary(|v| v.div_euclid(1_000)),
        TimeUnit::Ns => counts.unary(|v| v.div_euclid(1_000_000)),
    }
}

/// Whether no accuracy is missing, negative, infinite or no number.
fn good_accuracies(column: &ArrayRef) -> bool {
    column.null_count() == 0
        && match column.data_type() {
            DataType::Float32 => {
                let values = column.as_primitive::<Float32Type>().values();
                values.iter().fold(true, |ok, v| ok & (v.to_bits() < f32::INFINITY.to_bits()))
            }
            DataType::Float64 => {
                let values = column.as_primitive::<Float64Type>().values();
                values.iter().fold(true, |ok, v| ok & (v.to_bits() < f64::INFINITY.to_bits()))
            }
            _ => false,
        }
}

#[derive(Default)]
struct Columns {
    times: Vec<Millis>,
    untils: Vec<Millis>,
    lats: Vec<f64>,
    lons: Vec<f64>,
    accuracies_m: Vec<f64>,
    places: Vec<u32>,
    floors: Vec<u32>,
}

impl Columns {
    fn with_capacity(rows: usize) -> Self {
        Columns {
            times: Vec::with_capacity(rows),
            lats: Vec::with_capacity(rows),
            lons: Vec::with_capacity(rows),
            accuracies_m: Vec::with_capacity(rows),
            ..Columns::default()
        }
    }

    fn push(&mut self, ping: &Row) {
        self.times.push(ping.time);
        self.untils.push(ping.until);
        self.lats.push(ping.lat);
        self.lons.push(ping.lon);
        self.accuracies_m.push(ping.accuracy_m);
        self.places.push(ping.place);
        self.floors.push(ping.floor);
    }

    fn finish(
        mut self,
        persons: ArrayRef,
        feed: u16,
        schema: &SchemaRef,
    ) -> std::result::Result<RecordBatch, ArrowError> {
        let rows = self.times.len();
        let mut columns: Vec<ArrayRef> = vec![
            persons,
            Arc::new(Int64Array::from(self.times)),
            Arc::new(Float64Array::from(self.lats)),
            Arc::new(Float64Array::from(self.lons)),
        ];
        for field in &schema.fields()[4..] {
            columns.push(match (field.name().as_str(), field.data_type()) {
                ("accuracy_m", DataType::Float32) => {
                    Arc::new(Float32Array::from_iter_values(self.accuracies_m.iter().map(|a| *a as f32)))
                }
                ("accuracy_m", _) => Arc::new(Float64Array::from(take(&mut self.accuracies_m))),
                ("feed", _) => Arc::new(UInt16Array::from(vec![feed; rows])),
                ("place", _) => Arc::new(UInt32Array::from(take(&mut self.places))),
                ("until", _) => Arc::new(Int64Array::from(take(&mut self.untils))),
                _ => Arc::new(UInt32Array::from(take(&mut self.floors))),
            });
        }
        RecordBatch::try_new(schema.clone(), columns)
    }
}
