//! A ping: one observed position of a person at one instant; and the Arrow batches that carry pings.

pub mod packed;

use crate::person::{PersonColumn, PersonRef, Persons};
use crate::rule::{Source, StayRule};
use crate::time::{INSTANT_MS_MAX, Millis};
use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float32Array, Float64Array, Int64Array, RecordBatch, UInt16Array,
    UInt32Array,
};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Int64Type, Schema, SchemaRef, UInt16Type, UInt32Type,
};
use arrow::error::ArrowError;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::mem::take;
use std::ops::Range;
use std::sync::Arc;

/// `until` of a ping that has none.
pub const NO_UNTIL: Millis = Millis::MIN;
/// `until` of a ping without a check-out that lasts at most so long, whatever its feed says.
pub fn lasting(hold_ms: Millis) -> Millis {
    NO_UNTIL + 1 + hold_ms
}
/// `place` of a ping whose venue or trip no case was in and no table lists, or that has none.
pub const NO_PLACE: u32 = u32::MAX;
/// `floor` of a scan that gives none.
pub const NO_FLOOR: u32 = 0;

/// One ping without its person.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ping {
    /// When, ms UTC.
    pub time: Millis,
    /// End of a trip or a scan with a check-out, [`NO_UNTIL`], or [`lasting`].
    pub until: Millis,
    /// WGS84 degrees; NaN for a venue without coordinates.
    pub lat: f64,
    /// WGS84 degrees, in [-180, 180); NaN for a venue without coordinates.
    pub lon: f64,
    /// 68% radius, metres.
    pub accuracy_m: f64,
    /// Tower, venue or trip, by its number in the job's list of these (towers sort as their ids do).
    pub place: u32,
    /// Floor, by its number; [`NO_FLOOR`] if unknown. Of a trip: the seat, by its number.
    pub floor: u32,
    /// Its feed, by its number in the job.
    pub feed: u16,
}

impl Ping {
    /// The end of a trip or a scan with a check-out.
    #[inline]
    pub fn check_out(&self) -> Option<Millis> {
        (self.until >= -INSTANT_MS_MAX).then_some(self.until)
    }

    /// Until when it stands at most: its check-out, or as long as it or its feed says.
    #[inline]
    pub fn end(&self, feed: &StayRule) -> Millis {
        match self.until {
            NO_UNTIL => self.time + feed.hold_ms,
            until => self.check_out().unwrap_or_else(|| self.time + (until - lasting(0))),
        }
    }
}

const _: () = assert!(size_of::<Ping>() == 56, "a ping is copied by the million");

/// The number of a row in its batch, with what it is marked for in the highest bits, if it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Marked(u32);

/// What a ping may matter for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nothing, but that it may end the stay of one before.
    None,
    /// A dwell in a risk area alone: no case can be met.
    Area,
    /// An encounter, and perhaps a dwell.
    Case,
}

impl Marked {
    const AREA: u32 = 1 << 30;
    const CASE: u32 = 1 << 31;

    /// A row and its mark.
    #[inline]
    pub fn new(row: u32, mark: Mark) -> Self {
        match mark {
            Mark::None => Marked(row),
            Mark::Area => Marked(row | Self::AREA),
            Mark::Case => Marked(row | Self::CASE),
        }
    }

    /// The row's number.
    #[inline]
    pub fn row(self) -> u32 {
        self.0 & (Self::AREA - 1)
    }

    /// What it is marked for.
    #[inline]
    pub fn mark(self) -> Mark {
        match self.0 {
            bits if bits & Self::CASE != 0 => Mark::Case,
            bits if bits & Self::AREA != 0 => Mark::Area,
            _ => Mark::None,
        }
    }
}

/// The order in which rows of pings stand in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By time: the closer of a ping is the person's next row, which comes soon.
    Time,
    /// By person_id: the closer of a ping is among the next rows.
    Person,
    /// None that is known.
    None,
}

impl Order {
    /// Its word on the command line and in the manifest.
    pub fn name(self) -> &'static str {
        ["time", "person", "none"][self as usize]
    }
}

/// The columns of a batch of pings: person_id (UInt64 or Binary, [`crate::person`]), time (ms), lat, lon
/// (degrees), and those that the job needs beside: accuracy_m where some file gives one, feed where there
/// are several, place for towers, venues and trips, until and floor for venues and trips.
pub fn ping_schema(person: &DataType, sources: u8, accuracy_m: Option<DataType>, feeds: usize) -> SchemaRef {
    let mut fields = vec![
        Field::new("person_id", person.clone(), false),
        Field::new("time", DataType::Int64, false),
        Field::new("lat", DataType::Float64, false),
        Field::new("lon", DataType::Float64, false),
    ];
    fields.extend(accuracy_m.map(|kind| Field::new("accuracy_m", kind, false)));
    if feeds > 1 {
        fields.push(Field::new("feed", DataType::UInt16, false));
    }
    if sources & !Source::Gps.bit() != 0 {
        fields.push(Field::new("place", DataType::UInt32, false));
    }
    if sources & (Source::Trip.bit() | Source::Venue.bit()) != 0 {
        fields.push(Field::new("until", DataType::Int64, false));
        fields.push(Field::new("floor", DataType::UInt32, false));
    }
    Arc::new(Schema::new(fields))
}

/// The same pings at other times, each with its check-out, but for those that have none.
pub fn moved(pings: &RecordBatch, to: impl Fn(Millis) -> Option<Millis>) -> Result<RecordBatch, ArrowError> {
    let kept: BooleanArray = Pings::of(pings).times.iter().map(|time| Some(to(*time).is_some())).collect();
    let pings = filter_record_batch(pings, &kept)?;
    let view = Pings::of(&pings);
    let mut columns = pings.columns().to_vec();
    let to = |time: Millis| to(time).unwrap_or(time);
    columns[1] = Arc::new(Int64Array::from_iter_values(view.times.iter().map(|time| to(*time))));
    if let Some((number, _)) = pings.schema_ref().column_with_name("until") {
        let until = |row: usize| {
            let ping = view.at(row);
            ping.check_out().map_or(ping.until, |until| until + to(ping.time) - ping.time)
        };
        columns[number] = Arc::new(Int64Array::from_iter_values((0..pings.num_rows()).map(until)));
    }
    RecordBatch::try_new(pings.schema(), columns)
}

#[derive(Debug, Clone, Copy)]
enum Accuracies<'a> {
    /// All pings have that of their feed, the same for all.
    Alike,
    Short(&'a [f32]),
    Long(&'a [f64]),
}

/// A batch of pings, its columns at hand.
#[derive(Debug, Clone)]
pub struct Pings<'a> {
    /// Whose.
    pub persons: Persons<'a>,
    /// When, ms UTC.
    pub times: &'a [Millis],
    /// Degrees.
    pub lats: &'a [f64],
    /// Degrees.
    pub lons: &'a [f64],
    accuracies_m: Accuracies<'a>,
    feeds: Option<&'a [u16]>,
    places: Option<&'a [u32]>,
    untils: Option<&'a [Millis]>,
    floors: Option<&'a [u32]>,
}

impl<'a> Pings<'a> {
    /// Borrows the columns of a batch that has [`ping_schema`].
    pub fn of(batch: &'a RecordBatch) -> Self {
        let f64s = |i: usize| batch.column(i).as_primitive::<Float64Type>().values().as_ref();
        Pings::with(batch, batch.column(1).as_primitive::<Int64Type>().values(), f64s(2), f64s(3))
    }

    /// The same with other instants and positions.
    fn with(batch: &'a RecordBatch, times: &'a [Millis], lats: &'a [f64], lons: &'a [f64]) -> Self {
        let column = |name: &str| batch.column_by_name(name);
        Pings {
            persons: Persons::of(batch.column(0)),
            times,
            lats,
            lons,
            accuracies_m: match column("accuracy_m") {
                None => Accuracies::Alike,
                Some(c) if c.data_type() == &DataType::Float32 => {
                    Accuracies::Short(c.as_primitive::<Float32Type>().values())
                }
                Some(c) => Accuracies::Long(c.as_primitive::<Float64Type>().values()),
            },
            feeds: column("feed").map(|c| c.as_primitive::<UInt16Type>().values().as_ref()),
            places: column("place").map(|c| c.as_primitive::<UInt32Type>().values().as_ref()),
            untils: column("until").map(|c| c.as_primitive::<Int64Type>().values().as_ref()),
            floors: column("floor").map(|c| c.as_primitive::<UInt32Type>().values().as_ref()),
        }
    }

    /// One row.
    #[inline]
    pub fn at(&self, row: usize) -> Ping {
        self.ping(row, self.times[row], self.lats[row], self.lons[row])
    }

    /// One row, at another instant and position.
    #[inline]
    fn ping(&self, row: usize, time: Millis, lat: f64, lon: f64) -> Ping {
        Ping {
            time,
            until: self.untils.map_or(NO_UNTIL, |c| c[row]),
            lat: lat + 0.0,
            lon: lon + 0.0,
            accuracy_m: self.accuracy_m(row),
            place: self.place(row),
            floor: self.floors.map_or(NO_FLOOR, |c| c[row]),
            feed: self.feed(row),
        }
    }

    /// Degrees of one row. Adding zero turns -0 into 0, so that equal positions are equal bits.
    #[inline]
    pub fn lat(&self, row: usize) -> f64 {
        self.lats[row] + 0.0
    }

    /// Degrees of one row, the same way.
    #[inline]
    pub fn lon(&self, row: usize) -> f64 {
        self.lons[row] + 0.0
    }

    /// The place of one row.
    #[inline]
    pub fn place(&self, row: usize) -> u32 {
        self.places.map_or(NO_PLACE, |c| c[row])
    }

    /// The feed of one row.
    #[inline]
    pub fn feed(&self, row: usize) -> u16 {
        self.feeds.map_or(0, |c| c[row])
    }

    /// The accuracy of one row, metres; the same for all where no file gives one.
    #[inline]
    pub fn accuracy_m(&self, row: usize) -> f64 {
        match self.accuracies_m {
            Accuracies::Alike => 0.0,
            Accuracies::Short(c) => f64::from(c[row]),
            Accuracies::Long(c) => c[row],
        }
    }

    /// These rows.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        Pings {
            persons: self.persons.slice(rows.clone()),
            times: &self.times[rows.clone()],
            lats: &self.lats[rows.clone()],
            lons: &self.lons[rows.clone()],
            accuracies_m: match self.accuracies_m {
                Accuracies::Alike => Accuracies::Alike,
                Accuracies::Short(c) => Accuracies::Short(&c[rows.clone()]),
                Accuracies::Long(c) => Accuracies::Long(&c[rows.clone()]),
            },
            feeds: self.feeds.map(|c| &c[rows.clone()]),
            places: self.places.map(|c| &c[rows.clone()]),
            untils: self.untils.map(|c| &c[rows.clone()]),
            floors: self.floors.map(|c| &c[rows]),
        }
    }

    /// The ranges of rows of one person each, in a batch that is grouped by person.
    pub fn groups(&self) -> Vec<Range<usize>> {
        self.persons.groups()
    }
}

/// Pings as they gather, a vector for each column of [`ping_schema`].
#[derive(Debug)]
pub struct PingColumns {
    schema: SchemaRef,
    persons: PersonColumn,
    times: Vec<Millis>,
    lats: Vec<f64>,
    lons: Vec<f64>,
    short_accuracies_m: Vec<f32>,
    accuracies_m: Vec<f64>,
    feeds: Vec<u16>,
    places: Vec<u32>,
    untils: Vec<Millis>,
    floors: Vec<u32>,
}

impl PingColumns {
    /// No pings yet, of a job's shape.
    pub fn new(schema: &SchemaRef) -> Self {
        PingColumns {
            schema: schema.clone(),
            persons: PersonColumn::new(schema.field(0).data_type()),
            times: Vec::new(),
            lats: Vec::new(),
            lons: Vec::new(),
            short_accuracies_m: Vec::new(),
            accuracies_m: Vec::new(),
            feeds: Vec::new(),
            places: Vec::new(),
            untils: Vec::new(),
            floors: Vec::new(),
        }
    }

    /// No pings yet, but room for so many.
    pub fn with_capacity(schema: &SchemaRef, rows: usize) -> Self {
        let mut columns = PingColumns::new(schema);
        columns.times.reserve(rows);
        columns.lats.reserve(rows);
        columns.lons.reserve(rows);
        columns.reserve_beside(rows);
        columns
    }

    /// Makes room for so many more, but for when and where they are.
    fn reserve_beside(&mut self, rows: usize) {
        self.persons.reserve(rows);
        for field in &self.schema.fields()[4..] {
            match (field.name().as_str(), field.data_type()) {
                ("accuracy_m", DataType::Float32) => self.short_accuracies_m.reserve(rows),
                ("accuracy_m", _) => self.accuracies_m.reserve(rows),
                ("feed", _) => self.feeds.reserve(rows),
                ("place", _) => self.places.reserve(rows),
                ("until", _) => self.untils.reserve(rows),
                _ => self.floors.reserve(rows),
            }
        }
    }

    /// No pings, of the same shape.
    pub fn like(&self) -> Self {
        PingColumns::new(&self.schema)
    }

    /// Adds one ping of somebody.
    pub fn push(&mut self, person: PersonRef<'_>, ping: &Ping) {
        self.persons.push(person);
        self.times.push(ping.time);
        self.lats.push(ping.lat);
        self.lons.push(ping.lon);
        for field in &self.schema.fields()[4..] {
            match (field.name().as_str(), field.data_type()) {
                ("accuracy_m", DataType::Float32) => self.short_accuracies_m.push(ping.accuracy_m as f32),
                ("accuracy_m", _) => self.accuracies_m.push(ping.accuracy_m),
                ("feed", _) => self.feeds.push(ping.feed),
                ("place", _) => self.places.push(ping.place),
                ("until", _) => self.untils.push(ping.until),
                _ => self.floors.push(ping.floor),
            }
        }
    }

    /// Adds these rows of a batch of the same shape.
    pub fn extend(&mut self, pings: &Pings<'_>, rows: &[u32]) {
        add(&mut self.times, pings.times, rows);
        add(&mut self.lats, pings.lats, rows);
        add(&mut self.lons, pings.lons, rows);
        self.extend_beside(pings, rows);
    }

    /// Adds whose these rows are, and what else they hold but when and where they are.
    fn extend_beside(&mut self, pings: &Pings<'_>, rows: &[u32]) {
        self.persons.extend(&pings.persons, rows);
        match pings.accuracies_m {
            Accuracies::Alike => {}
            Accuracies::Short(from) => add(&mut self.short_accuracies_m, from, rows),
            Accuracies::Long(from) => add(&mut self.accuracies_m, from, rows),
        }
        pings.feeds.inspect(|from| add(&mut self.feeds, from, rows));
        pings.places.inspect(|from| add(&mut self.places, from, rows));
        pings.untils.inspect(|from| add(&mut self.untils, from, rows));
        pings.floors.inspect(|from| add(&mut self.floors, from, rows));
    }

    /// Adds all rows of a batch of the same shape.
    pub fn append(&mut self, pings: &Pings<'_>) {
        self.persons.append(&pings.persons);
        self.times.extend_from_slice(pings.times);
        self.lats.extend_from_slice(pings.lats);
        self.lons.extend_from_slice(pings.lons);
        match pings.accuracies_m {
            Accuracies::Alike => {}
            Accuracies::Short(from) => self.short_accuracies_m.extend_from_slice(from),
            Accuracies::Long(from) => self.accuracies_m.extend_from_slice(from),
        }
        pings.feeds.inspect(|from| self.feeds.extend_from_slice(from));
        pings.places.inspect(|from| self.places.extend_from_slice(from));
        pings.untils.inspect(|from| self.untils.extend_from_slice(from));
        pings.floors.inspect(|from| self.floors.extend_from_slice(from));
    }

    /// Takes all pings out, but keeps the room.
    pub fn clear(&mut self) {
        self.persons.clear();
        self.times.clear();
        self.lats.clear();
        self.lons.clear();
        self.short_accuracies_m.clear();
        self.accuracies_m.clear();
        self.feeds.clear();
        self.places.clear();
        self.untils.clear();
        self.floors.clear();
    }

    /// The pings, borrowed.
    pub fn view(&self) -> Pings<'_> {
        let column = |name: &str| self.schema.column_with_name(name).map(|(_, field)| field.data_type());
        Pings {
            persons: self.persons.view(),
            times: &self.times,
            lats: &self.lats,
            lons: &self.lons,
            accuracies_m: match column("accuracy_m") {
                None => Accuracies::Alike,
                Some(DataType::Float32) => Accuracies::Short(&self.short_accuracies_m),
                Some(_) => Accuracies::Long(&self.accuracies_m),
            },
            feeds: column("feed").map(|_| self.feeds.as_slice()),
            places: column("place").map(|_| self.places.as_slice()),
            untils: column("until").map(|_| self.untils.as_slice()),
            floors: column("floor").map(|_| self.floors.as_slice()),
        }
    }

    /// Pings.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Bytes that they take, about.
    pub fn bytes(&self) -> usize {
        self.len() * 3 * size_of::<u64>() + self.bytes_beside(self.len())
    }

    /// The same of so many rows, but for when and where they are.
    fn bytes_beside(&self, rows: usize) -> usize {
        let a_row = 4 * self.short_accuracies_m.len().min(1) + 8 * self.accuracies_m.len().min(1);
        self.persons.bytes() + rows * (a_row + 22 * self.places.len().min(1))
    }

    /// The batch.
    pub fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let beside = self.beside();
        let mut columns: Vec<ArrayRef> = vec![
            self.persons.finish()?,
            Arc::new(Int64Array::from(self.times)),
            Arc::new(Float64Array::from(self.lats)),
            Arc::new(Float64Array::from(self.lons)),
        ];
        columns.extend(beside);
        RecordBatch::try_new(self.schema, columns)
    }

    /// Takes the columns out that are beside the four that all jobs have.
    fn beside(&mut self) -> Vec<ArrayRef> {
        let schema = self.schema.clone();
        let column = |field: &Arc<Field>| -> ArrayRef {
            match (field.name().as_str(), field.data_type()) {
                ("accuracy_m", DataType::Float32) => {
                    Arc::new(Float32Array::from(take(&mut self.short_accuracies_m)))
                }
                ("accuracy_m", _) => Arc::new(Float64Array::from(take(&mut self.accuracies_m))),
                ("feed", _) => Arc::new(UInt16Array::from(take(&mut self.feeds))),
                ("place", _) => Arc::new(UInt32Array::from(take(&mut self.places))),
                ("until", _) => Arc::new(Int64Array::from(take(&mut self.untils))),
                _ => Arc::new(UInt32Array::from(take(&mut self.floors))),
            }
        };
        schema.fields()[4..].iter().map(column).collect()
    }
}

fn add<T: Copy>(to: &mut Vec<T>, from: &[T], rows: &[u32]) {
    to.extend(rows.iter().map(|row| from[*row as usize]));
}

/// The same rows, those of a person together, persons in their order, each person's in the order of
/// `key`: of time, say.
pub fn group_by_person<K: Ord + Copy>(
    batch: &RecordBatch,
    key: impl Fn(usize) -> K,
) -> Result<RecordBatch, ArrowError> {
    take_record_batch(batch, &UInt32Array::from(person_order(&Persons::of(batch.column(0)), key)))
}

/// The rows of a column of persons in the order of persons, each person's in the order of `key`.
///
/// Persons are numbered as they come, rows dealt out to them, and each one's few rows sorted: several times as
/// fast as sorting all rows.
pub fn person_order<K: Ord + Copy>(persons: &Persons<'_>, key: impl Fn(usize) -> K) -> Vec<u32> {
    let rows = persons.len();
    if rows == 0 {
        return Vec::new();
    }
    let mut numbers: HashMap<PersonRef<'_>, u32, FixedState> = HashMap::default();
    let mut counts: Vec<u32> = Vec::new();
    let mut number_of: Vec<u32> = Vec::with_capacity(rows);
    let mut last = None;
    for row in 0..rows {
        let person = persons.at(row);
        let number = match last {
            Some((same, number)) if same == person => number,
            _ => *numbers.entry(person).or_insert_with(|| {
                counts.push(0);
                counts.len() as u32 - 1
            }),
        };
        last = Some((person, number));
        counts[number as usize] += 1;
        number_of.push(number);
    }
    let mut sorted: Vec<(PersonRef<'_>, u32)> = numbers.into_iter().collect();
    sorted.sort_unstable();
    // Where the next row of each person goes.
    let mut places = counts;
    let mut start = 0;
    for (_, number) in &sorted {
        start += std::mem::replace(&mut places[*number as usize], start);
    }
    let mut dealt: Vec<(K, u32)> = vec![(key(0), 0); rows];
    for (row, number) in (0u32..).zip(number_of) {
        let place = &mut places[number as usize];
        dealt[*place as usize] = (key(row as usize), row);
        *place += 1;
    }
    let mut start = 0;
    for (_, number) in &sorted {
        let end = places[*number as usize] as usize;
        dealt[start..end].sort_unstable();
        start = end;
    }
    dealt.into_iter().map(|(_, row)| row).collect()
}
