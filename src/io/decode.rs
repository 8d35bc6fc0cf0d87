//! From row groups to batches of pings: read in batches, never whole; a bad row is data.

use super::columns::{Clock, NoTime, Times, numbers, ordinals, texts};
use super::files::{guarded, unreadable};
use super::paged_file::PagedFile;
use super::pings::{Group, OpenFeed, Origin, PingFile};
use super::places::{Numbers, position_of};
use crate::datum::Datum;
use crate::error::{Error, Problem, Result};
use crate::person::{PersonKind, PersonSet, PersonType, Persons};
use crate::ping::{NO_FLOOR, NO_PLACE, NO_UNTIL, lasting};
use crate::rule::Source;
use crate::time::{Millis, TimeUnit, Tz, next_at};
use crate::trip::{Part, Seat, vehicle_number, vehicles};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    UInt16Array, UInt32Array,
};
use arrow::compute::{cast, filter};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
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
            each(decoded.map_err(|e| broken(file, group, &e.to_string()))?)
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

    fn batches(
        &self,
        file: &PingFile,
        group: usize,
        roots: &[usize],
        rows: Option<&[Range<u64>]>,
        each: &mut dyn FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let source = PagedFile::open(&file.input.path).map_err(|e| unreadable(&file.input.name, &e))?;
        let mask = ProjectionMask::roots(file.metadata.parquet_schema(), roots.iter().copied());
        let opened = guarded(|| {
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(source, file.metadata.clone())
                .with_projection(mask)
                .with_row_groups(vec![group])
                .with_batch_size(self.batch_rows);
            match rows {
                Some(rows) => reader.with_row_selection(selection(rows)).build(),
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
        let ends = times
            .values()
            .iter()
            .fold((Millis::MAX, Millis::MIN), |(min, max), t| (min.min(*t), max.max(*t)));
        let (min, max) = ends;
        let within = |values: &[f64], most: f64, end: f64| {
            values.iter().fold(true, |ok, v| ok & (v.abs() <= most) & (*v < end))
        };
        let clean = min <= max
            && min >= self.from
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
        let (scan_rows, faults, span) = (Vec::new(), Vec::new(), Some((min, max)));
        Ok(Some(Decoded { rows, pings, scan_rows, faults, before: 0, after: 0, seatless: 0, span }))
    }

    fn decode(
        &self,
        feed: &OpenFeed,
        file: &PingFile,
        batch: &RecordBatch,
        numbering: &Numbering,
        visitors: Option<&PersonSet>,
    ) -> std::result::Result<Decoded, ArrowError> {
        if let Some(decoded) = self.as_it_is(feed, file, batch)? {
            return Ok(decoded);
        }
        let rows = batch.num_rows();
        let raw = Raw::new(self, feed, file, batch)?;
        let mut out = Columns::with_capacity(rows);
        let mut keep = Vec::with_capacity(rows);
        let (mut faults, mut before, mut after, mut span) = (Vec::new(), 0, 0, None);
        let (mut scan_rows, mut seatless) = (Vec::new(), 0);
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
                            scan_rows.push(numbering.at(row));
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
        let persons = if out.times.len() == rows {
            raw.person_column
        } else {
            filter(&raw.person_column, &BooleanArray::from(keep))?
        };
        let pings = out.finish(persons, feed.number, &self.schema)?;
        Ok(Decoded { rows: rows as u64, pings, scan_rows, faults, before, after, seatless, span })
    }
}

fn broken(file: &PingFile, group: usize, why: &str) -> Error {
    Error::Input(Problem::new(
        format!("{}, row group {group}", file.input.name),
        "columns that can be decoded",
        why,
        "write the file again, or leave it out of the feed",
    ))
}

/// How the rows of a batch are counted in the file.
enum Numbering {
    From(u64),
    Each(Vec<u64>),
}

impl Numbering {
    fn at(&self, row: usize) -> u64 {
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

/// A column by its name here.
fn column(file: &PingFile, batch: &RecordBatch, name: &str) -> Option<ArrayRef> {
    let (_, origin) = file.columns.iter().find(|(column, _)| *column == name)?;
    match origin {
        Origin::Column(at) => batch.column_by_name(file.metadata.schema().field(*at).name()).cloned(),
        Origin::Folder(value) => {
            let rows = std::iter::repeat_n(value.as_deref(), batch.num_rows());
            Some(Arc::new(rows.collect::<StringArray>()))
        }
    }
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

/// The columns of a file's batch, as values.
struct Raw {
    person_column: ArrayRef,
    person_as_read: ArrayRef,
    times: Times,
    lats: Option<Float64Array>,
    lons: Option<Float64Array>,
    accuracies_m: Option<Float64Array>,
    ids: Option<StringArray>,
    untils: Option<Times>,
    floors: Option<StringArray>,
    vehicles: Option<StringArray>,
    coaches: Option<StringArray>,
    cabins: Option<StringArray>,
    bays: Option<Vec<Option<Option<i64>>>>,
    seat_rows: Option<Vec<Option<Option<i64>>>>,
    datum: Datum,
    source: Source,
}

/// One readable row.
struct Row {
    time: Millis,
    until: Millis,
    lat: f64,
    lon: f64,
    accuracy_m: f64,
    place: u32,
    floor: u32,
    is_seatless: bool,
}

type Why = (&'static str, &'static str);

impl Raw {
    fn new(
        decoder: &Decoder,
        feed: &OpenFeed,
        file: &PingFile,
        batch: &RecordBatch,
    ) -> std::result::Result<Self, ArrowError> {
        let column = |name: &str| column(file, batch, name);
        let needed = |name: &str| {
            column(name).ok_or_else(|| ArrowError::SchemaError(format!("no column {name} in the row group")))
        };
        let instants = |name: &str| match (column(name), file.clock(name)) {
            (Some(values), Some(clock)) => Times::new(&values, clock).map(Some),
            _ => Ok(None),
        };
        let person_as_read = needed("person_id")?;
        let person_column = decoder.person.adopt(&person_as_read)?;
        let source = feed.config.stay.source;
        let id_name = id_name(source);
        let ordinals = |name| column(name).as_ref().map(ordinals).transpose();
        Ok(Raw {
            person_column,
            person_as_read,
            times: instants("time")?
                .ok_or_else(|| ArrowError::SchemaError("no column time in the row group".into()))?,
            lats: column("lat").as_ref().map(numbers).transpose()?,
            lons: column("lon").as_ref().map(numbers).transpose()?,
            accuracies_m: column("accuracy_m").as_ref().map(numbers).transpose()?,
            ids: column(id_name).as_ref().map(texts).transpose()?,
            untils: instants("until")?,
            floors: column("floor").as_ref().map(texts).transpose()?,
            vehicles: column("vehicle").as_ref().map(texts).transpose()?,
            coaches: column("coach").as_ref().map(texts).transpose()?,
            cabins: column("cabin").as_ref().map(texts).transpose()?,
            bays: ordinals("bay")?,
            seat_rows: ordinals("seat_row")?,
            datum: feed.config.datum.unwrap_or(Datum::Wgs84),
            source,
        })
    }

    #[inline]
    fn row(
        &self,
        decoder: &Decoder,
        feed: &OpenFeed,
        row: usize,
        time: Millis,
        visitors: Option<&PersonSet>,
    ) -> std::result::Result<Row, Why> {
        if self.person_column.is_null(row) {
            let beyond = decoder.person.kind() == PersonKind::Integer && !self.person_as_read.is_null(row);
            return Err((if beyond { "person_id_out_of_range" } else { "person_id_missing" }, "person_id"));
        }
        let mut ping = Row {
            time,
            until: NO_UNTIL,
            lat: f64::NAN,
            lon: f64::NAN,
            accuracy_m: feed.config.stay.accuracy_m,
            place: NO_PLACE,
            floor: NO_FLOOR,
            is_seatless: false,
        };
        let visits = || visitors.is_some_and(|v| v.contains(&Persons::of(&self.person_column).at(row)));
        match self.source {
            Source::Gps => {
                (ping.lat, ping.lon) =
                    position_of(number(&self.lats, row), number(&self.lons, row), self.datum)?;
                if let Some(accuracy_m) = number(&self.accuracies_m, row).filter(|a| !a.is_nan()) {
                    // A negative accuracy is how some phones say that the position is no good.
                    if !(0.0..f64::INFINITY).contains(&accuracy_m) {
                        return Err(("accuracy_m_out_of_range", "accuracy_m"));
                    }
                    ping.accuracy_m = accuracy_m + 0.0;
                }
            }
            Source::Tower => {
                let id = text(&self.ids, row).ok_or(("tower_id_missing", "tower_id"))?;
                let standing = feed.places.get(id).ok_or(("tower_unknown", "tower_id"))?;
                (ping.place, ping.lat, ping.lon) = (standing.number, standing.lat, standing.lon);
            }
            Source::Venue => {
                let id = text(&self.ids, row).ok_or(("venue_id_missing", "venue_id"))?;
                ping.until = match self.untils.as_ref().map_or(Err(NoTime::Missing), |u| u.at(row)) {
                    Ok(until) if until < time => return Err(("until_before_time", "until")),
                    Ok(until) => until,
                    Err(NoTime::Missing) => lasting(self.lasts(decoder, feed, id, time)),
                    Err(why) => return Err((time_reason(why), "until")),
                };
                ping.place = number_of(&decoder.venues, id, visits());
                if let Some(standing) = feed.places.get(id) {
                    (ping.lat, ping.lon) = (standing.lat, standing.lon);
                }
                // Number 0 is kept for "unknown floor".
                ping.floor = text(&self.floors, row).map_or(NO_FLOOR, |f| decoder.floors.number(f) + 1);
            }
            Source::Trip => {
                let id = text(&self.ids, row).ok_or(("trip_id_missing", "trip_id"))?;
                ping.until = match self.untils.as_ref().map_or(Err(NoTime::Missing), |u| u.at(row)) {
                    Ok(until) if until < time => return Err(("until_before_time", "until")),
                    Ok(until) => until,
                    Err(NoTime::Missing) => return Err(("until_missing", "until")),
                    Err(why) => return Err((time_reason(why), "until")),
                };
                let seat = self.seat(row)?;
                ping.is_seatless = !seat.is_known();
                ping.place = number_of(&decoder.trips, id, visits());
                ping.floor = decoder.seats.number(&seat) + 1;
            }
        }
        Ok(ping)
    }
}

/// The number of a venue or trip; a case's is given one if it has none.
fn number_of(numbers: &Numbers, id: &str, of_a_case: bool) -> u32 {
    if of_a_case { numbers.number(id) } else { numbers.find(id).unwrap_or(NO_PLACE) }
}

impl Raw {
    /// The seat of a trip, as far as the rule of its vehicle asks for it.
    fn seat(&self, row: usize) -> std::result::Result<Seat, Why> {
        let name = text(&self.vehicles, row).ok_or(("vehicle_missing", "vehicle"))?;
        let vehicle = vehicle_number(name).ok_or(("vehicle_unknown", "vehicle"))?;
        let rule = &vehicles()[usize::from(vehicle)];
        let same = match rule.same {
            Some(Part::Coach) => text(&self.coaches, row),
            Some(Part::Cabin) => text(&self.cabins, row),
            _ => None,
        };
        let near = match rule.near {
            Some(Part::Bay) => {
                self.bays.as_ref().and_then(|c| c[row]).map(|n| n.ok_or(("bay_unreadable", "bay")))
            }
            Some(Part::SeatRow) => self
                .seat_rows
                .as_ref()
                .and_then(|c| c[row])
                .map(|n| n.ok_or(("seat_row_unreadable", "seat_row"))),
            _ => None,
        };
        Ok(Seat { vehicle, same: same.map(str::to_string), near: near.transpose()? })
    }

    /// How long a scan without a check-out stands for at most.
    fn lasts(&self, decoder: &Decoder, feed: &OpenFeed, venue_id: &str, time: Millis) -> Millis {
        match feed.places.get(venue_id).and_then(|standing| standing.lasts) {
            None => feed.config.stay.hold_ms,
            Some((stay_ms, closes)) => {
                let closing = next_at(time, closes, decoder.zone).map_or(Millis::MAX, |at| at - time);
                stay_ms.min(closing)
            }
        }
    }
}

/// The column that names the place of a ping of this source.
fn id_name(source: Source) -> &'static str {
    match source {
        Source::Tower => "tower_id",
        Source::Trip => "trip_id",
        Source::Gps | Source::Venue => "venue_id",
    }
}

fn time_reason(why: NoTime) -> &'static str {
    match why {
        NoTime::Missing => "time_missing",
        NoTime::Unreadable => "time_unreadable",
        NoTime::NotInZone => "time_not_in_zone",
    }
}

#[inline]
fn number(column: &Option<Float64Array>, row: usize) -> Option<f64> {
    column.as_ref().and_then(|c| (!c.is_null(row)).then(|| c.value(row)))
}

#[inline]
fn text(column: &Option<StringArray>, row: usize) -> Option<&str> {
    column.as_ref().and_then(|c| (!c.is_null(row)).then(|| c.value(row))).filter(|t| !t.is_empty())
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
