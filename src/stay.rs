//! A stay: one person at one place over one half-open time range.

pub mod packed;

use crate::geo::LatLonBox;
use crate::person::{PersonColumn, PersonRef, Persons};
use crate::ping::{NO_FLOOR, NO_PLACE};
use crate::place::{PlaceKey, PlaceRule};
use crate::rule::{Motion, Source, StayRule};
use crate::time::Millis;
use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StructArray, UInt8Array, UInt32Array,
};
use arrow::datatypes::{
    DataType, Field, Fields, Float64Type, Int64Type, Schema, SchemaRef, UInt8Type, UInt32Type,
};
use arrow::error::ArrowError;
use std::mem::take;
use std::num::NonZero;
use std::sync::Arc;

/// One person at one place, or on one even leg, over [start, end). What is seldom asked for comes last.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct Stay {
    /// First instant.
    pub start: Millis,
    /// Up to here the stay is bracketed: after each ping up to here the next was at the same place. From
    /// `start`, if it is not at all, to `end`.
    pub sure: Millis,
    /// First instant after.
    pub end: Millis,
    /// Where it stands, or starts its leg; degrees, NaN for a venue without coordinates.
    pub lat: f64,
    /// Where it stands, or starts its leg; degrees, NaN for a venue without coordinates.
    pub lon: f64,
    /// Its track.
    pub source: Source,
    /// Whether it only tells how long somebody dwelt in the risk areas that hold its position, and can meet no case.
    pub alone: bool,
    /// Tower, venue or trip.
    pub place: u32,
    /// Floor of a venue, seat of a trip.
    pub floor: u32,
    /// How uncertain the position is, where the rule weighs that: the sigma of a Gaussian, metres; else 0.
    pub sigma_m: f64,
    /// Where rules of several distances are asked: what `sure` hangs on.
    pub ending: Ending,
    /// The leg, where it moves.
    pub leg: Option<Leg>,
}

/// The ping that ends a stay, as far as it is not at the very same position.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ending {
    /// How far away it is, metres; 0 where that is not asked.
    pub distance_m: f64,
    /// Up to here the stay is bracketed without it.
    pub sure: Millis,
}

/// An even movement between two pings; it outlasts a stay that was clipped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Leg {
    /// Time of the first ping.
    pub from: Millis,
    /// How long after it the next is.
    pub lasts_ms: NonZero<Millis>,
    /// Degrees of latitude gone by then.
    pub dlat: f64,
    /// Degrees of longitude gone by then, the short way round.
    pub dlon: f64,
}

impl Leg {
    /// The leg from one instant to another; none if that is the same.
    pub fn new((from, to): (Millis, Millis), dlat: f64, dlon: f64) -> Option<Self> {
        Some(Leg { from, lasts_ms: NonZero::new(to - from)?, dlat, dlon })
    }
}

impl Stay {
    /// The part of it inside [from, to), if there is one.
    pub fn clipped(mut self, from: Millis, to: Millis) -> Option<Self> {
        self.start = self.start.max(from);
        self.end = self.end.min(to);
        self.sure = self.sure.max(self.start).min(self.end);
        (self.start < self.end).then_some(self)
    }

    /// Up to where it is bracketed by a rule of this distance, which is not above that of the rule that it was made by.
    #[inline]
    pub fn sure_within(&self, metres: Option<f64>) -> Millis {
        if metres.is_some_and(|metres| self.ending.distance_m > metres) {
            return self.ending.sure.clamp(self.start, self.sure);
        }
        self.sure
    }

    /// Degrees at an instant.
    #[inline]
    pub fn position_at(&self, at: Millis) -> (f64, f64) {
        match self.leg {
            None => (self.lat, self.lon),
            Some(leg) => {
                let share = (at - leg.from) as f64 / leg.lasts_ms.get() as f64;
                (self.lat + leg.dlat * share, self.lon + leg.dlon * share)
            }
        }
    }

    /// Degrees per millisecond.
    #[inline]
    pub fn velocity(&self) -> (f64, f64) {
        match self.leg {
            None => (0.0, 0.0),
            Some(leg) => {
                let length = leg.lasts_ms.get() as f64;
                (leg.dlat / length, leg.dlon / length)
            }
        }
    }

    /// The box of everywhere it is; a leg counts whole.
    pub fn bounds(&self) -> LatLonBox {
        let (dlat, dlon) = self.leg.map_or((0.0, 0.0), |leg| (leg.dlat, leg.dlon));
        LatLonBox::of_path(self.lat, self.lon, dlat, dlon)
    }

    /// Whether it has a position at all.
    pub fn has_position(&self) -> bool {
        !self.lat.is_nan()
    }

    /// How long it lasts.
    pub fn dwell_ms(&self) -> Millis {
        self.end - self.start
    }
}

/// What a stay shares with others in one square, cell, venue or trip; `Near` where only metres can tell.
pub fn key_of(stay: &Stay, place: &PlaceRule) -> PlaceKey {
    match stay.source {
        Source::Venue => PlaceKey::Venue(stay.place),
        Source::Trip => PlaceKey::Trip(stay.place),
        _ => PlaceKey::of_position(place, stay.lat, stay.lon),
    }
}

/// Joins `stay` to the run before it, if they touch and the rule cannot tell them apart: the same square,
/// cell, venue and floor, or trip and seat (where metres decide: the very same position, as uncertain). What the joined stays meet adds up
/// to the same encounters, with far fewer pairs to test. Says whether it did.
///
/// Where some feed moves evenly, positions are not joined: the plane in which a moving stay is compared
/// depends on where its overlap with each single stay ends.
#[inline]
pub fn join(run: &mut (Stay, PlaceKey), stay: &Stay, key: PlaceKey, moving: bool) -> bool {
    let (run, run_key) = run;
    let touches =
        *run_key == key && run.end == stay.start && run.sure == run.end && run.source == stay.source;
    let joins = touches
        && match key {
            PlaceKey::Near => !moving && same_position(run, stay),
            PlaceKey::Venue(_) | PlaceKey::Trip(_) => {
                run.floor == stay.floor && same_position(run, stay) && (!moving || !stay.has_position())
            }
            PlaceKey::Square(_) | PlaceKey::Cell(_) => true,
        };
    if joins {
        run.sure = stay.sure;
        run.end = stay.end;
        run.ending = stay.ending;
    }
    joins
}

fn same_position(a: &Stay, b: &Stay) -> bool {
    a.lat.to_bits() == b.lat.to_bits()
        && a.lon.to_bits() == b.lon.to_bits()
        && a.sigma_m.to_bits() == b.sigma_m.to_bits()
}

/// Whether some feed of a job moves evenly between its pings.
pub fn some_move(feeds: &[StayRule]) -> bool {
    feeds.iter().any(|f| f.motion == Motion::Linear)
}

/// The columns of a batch of stays: person_id, start, sure, end (ms), lat, lon (degrees), source (and
/// [`Stay::alone`] as its highest bit), and those
/// that the job needs beside: sigma_m (metres) where uncertainties count, place and floor for venues and trips, leg where some
/// feed moves, and, with `endings`, what [`Ending`] says.
pub fn stay_schema(person: &DataType, feeds: &[StayRule], place: &PlaceRule, endings: bool) -> SchemaRef {
    let mut fields = vec![
        Field::new("person_id", person.clone(), false),
        Field::new("start", DataType::Int64, false),
        Field::new("sure", DataType::Int64, false),
        Field::new("end", DataType::Int64, false),
        Field::new("lat", DataType::Float64, false),
        Field::new("lon", DataType::Float64, false),
        Field::new("source", DataType::UInt8, false),
    ];
    if place.is_uncertain() {
        fields.push(Field::new("sigma_m", DataType::Float64, false));
    }
    if feeds.iter().any(|f| f.source.is_by_id()) {
        fields.push(Field::new("place", DataType::UInt32, false));
        fields.push(Field::new("floor", DataType::UInt32, false));
    }
    if some_move(feeds) {
        fields.push(Field::new("leg", DataType::Struct(leg_fields()), true));
    }
    if endings {
        fields.push(Field::new("ending_m", DataType::Float64, false));
        fields.push(Field::new("ending_sure", DataType::Int64, false));
    }
    Arc::new(Schema::new(fields))
}

fn leg_fields() -> Fields {
    Fields::from(vec![
        Field::new("from", DataType::Int64, false),
        Field::new("to", DataType::Int64, false),
        Field::new("dlat", DataType::Float64, false),
        Field::new("dlon", DataType::Float64, false),
    ])
}

/// Stays as they gather, a vector for each column of [`stay_schema`].
#[derive(Debug)]
pub struct StayColumns {
    schema: SchemaRef,
    persons: PersonColumn,
    starts: Vec<Millis>,
    sures: Vec<Millis>,
    ends: Vec<Millis>,
    lats: Vec<f64>,
    lons: Vec<f64>,
    sources: Vec<u8>,
    sigmas_m: Vec<f64>,
    places: Vec<u32>,
    floors: Vec<u32>,
    legs: Vec<Option<Leg>>,
    endings: Vec<Ending>,
}

impl StayColumns {
    /// No stays yet, of a job's shape.
    pub fn new(schema: &SchemaRef) -> Self {
        StayColumns {
            schema: schema.clone(),
            persons: PersonColumn::new(schema.field(0).data_type()),
            starts: Vec::new(),
            sures: Vec::new(),
            ends: Vec::new(),
            lats: Vec::new(),
            lons: Vec::new(),
            sources: Vec::new(),
            sigmas_m: Vec::new(),
            places: Vec::new(),
            floors: Vec::new(),
            legs: Vec::new(),
            endings: Vec::new(),
        }
    }

    /// No stays of the same shape, but room for as many as here, and some more.
    pub fn like(&self) -> Self {
        let mut columns = StayColumns::new(&self.schema);
        // As making room copies all that is there.
        columns.reserve(self.len() + self.len() / 4);
        columns
    }

    /// Makes room for so many more.
    pub fn reserve(&mut self, count: usize) {
        self.persons.reserve(count);
        self.starts.reserve(count);
        self.sures.reserve(count);
        self.ends.reserve(count);
        self.lats.reserve(count);
        self.lons.reserve(count);
        self.sources.reserve(count);
    }

    /// Adds a person's stay.
    #[inline]
    pub fn push(&mut self, person: PersonRef<'_>, stay: &Stay) {
        self.persons.push(person);
        self.starts.push(stay.start);
        self.sures.push(stay.sure);
        self.ends.push(stay.end);
        self.lats.push(stay.lat);
        self.lons.push(stay.lon);
        self.sources.push(stay.source as u8 | u8::from(stay.alone) << 7);
        if self.schema.fields().len() > 7 {
            self.sigmas_m.push(stay.sigma_m);
            self.places.push(stay.place);
            self.floors.push(stay.floor);
            self.legs.push(stay.leg);
            self.endings.push(stay.ending);
        }
    }

    /// Stays.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The batch.
    pub fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let beside = self.beside()?;
        let mut columns: Vec<ArrayRef> = vec![
            self.persons.finish()?,
            Arc::new(Int64Array::from(self.starts)),
            Arc::new(Int64Array::from(self.sures)),
            Arc::new(Int64Array::from(self.ends)),
            Arc::new(Float64Array::from(self.lats)),
            Arc::new(Float64Array::from(self.lons)),
            Arc::new(UInt8Array::from(self.sources)),
        ];
        columns.extend(beside);
        RecordBatch::try_new(self.schema, columns)
    }

    /// Takes the columns out that are beside the seven that all jobs have.
    fn beside(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        let schema = self.schema.clone();
        let column = |field: &Arc<Field>| -> Result<ArrayRef, ArrowError> {
            Ok(match field.name().as_str() {
                "sigma_m" => Arc::new(Float64Array::from(take(&mut self.sigmas_m))),
                "place" => Arc::new(UInt32Array::from(take(&mut self.places))),
                "floor" => Arc::new(UInt32Array::from(take(&mut self.floors))),
                "ending_m" => {
                    Arc::new(Float64Array::from_iter_values(self.endings.iter().map(|e| e.distance_m)))
                }
                "ending_sure" => Arc::new(Int64Array::from_iter_values(self.endings.iter().map(|e| e.sure))),
                _ => legs(&self.legs)?,
            })
        };
        schema.fields()[7..].iter().map(column).collect()
    }

    /// Takes all stays out, but keeps the room.
    pub fn clear(&mut self) {
        self.persons.clear();
        self.starts.clear();
        self.sures.clear();
        self.ends.clear();
        self.lats.clear();
        self.lons.clear();
        self.sources.clear();
        self.sigmas_m.clear();
        self.places.clear();
        self.floors.clear();
        self.legs.clear();
        self.endings.clear();
    }
}

fn legs(legs: &[Option<Leg>]) -> Result<ArrayRef, ArrowError> {
    let times = |time: fn(Leg) -> Millis| legs.iter().map(move |leg| leg.map_or(0, time));
    let degrees = |degrees: fn(Leg) -> f64| legs.iter().map(move |leg| leg.map_or(0.0, degrees));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(times(|leg| leg.from))),
        Arc::new(Int64Array::from_iter_values(times(|leg| leg.from + leg.lasts_ms.get()))),
        Arc::new(Float64Array::from_iter_values(degrees(|leg| leg.dlat))),
        Arc::new(Float64Array::from_iter_values(degrees(|leg| leg.dlon))),
    ];
    let nulls = legs.iter().map(Option::is_some).collect();
    Ok(Arc::new(StructArray::try_new(leg_fields(), columns, Some(nulls))?))
}

/// A batch of stays, its columns at hand.
#[derive(Debug, Clone)]
pub struct Stays<'a> {
    /// Whose.
    pub persons: Persons<'a>,
    /// First instants, ms UTC.
    pub starts: &'a [Millis],
    sures: &'a [Millis],
    ends: &'a [Millis],
    lats: &'a [f64],
    lons: &'a [f64],
    sources: &'a [u8],
    sigmas_m: Option<&'a [f64]>,
    places: Option<&'a [u32]>,
    floors: Option<&'a [u32]>,
    legs: Option<&'a StructArray>,
    endings: Option<(&'a [f64], &'a [Millis])>,
}

impl<'a> Stays<'a> {
    /// Borrows the columns of a batch that has [`stay_schema`].
    pub fn of(batch: &'a RecordBatch) -> Self {
        let i64s = |i: usize| batch.column(i).as_primitive::<Int64Type>().values().as_ref();
        let f64s = |i: usize| batch.column(i).as_primitive::<Float64Type>().values().as_ref();
        let u32s =
            |name| batch.column_by_name(name).map(|c| c.as_primitive::<UInt32Type>().values().as_ref());
        let named = |name| batch.schema_ref().column_with_name(name).map(|(number, _)| number);
        Stays {
            persons: Persons::of(batch.column(0)),
            starts: i64s(1),
            sures: i64s(2),
            ends: i64s(3),
            lats: f64s(4),
            lons: f64s(5),
            sources: batch.column(6).as_primitive::<UInt8Type>().values(),
            sigmas_m: named("sigma_m").map(f64s),
            places: u32s("place"),
            floors: u32s("floor"),
            legs: batch.column_by_name("leg").map(|c| c.as_struct()),
            endings: named("ending_m").map(f64s).zip(named("ending_sure").map(i64s)),
        }
    }

    /// One row.
    #[inline]
    pub fn at(&self, row: usize) -> Stay {
        Stay {
            start: self.starts[row],
            sure: self.sures[row],
            end: self.ends[row],
            ending: self.endings.map_or_else(Ending::default, |(distances_m, sures)| Ending {
                distance_m: distances_m[row],
                sure: sures[row],
            }),
            lat: self.lats[row],
            lon: self.lons[row],
            sigma_m: self.sigmas_m.map_or(0.0, |c| c[row]),
            leg: self.legs.filter(|legs| !legs.is_null(row)).and_then(|legs| {
                let time = |column: usize| legs.column(column).as_primitive::<Int64Type>().value(row);
                let degrees = |column: usize| legs.column(column).as_primitive::<Float64Type>().value(row);
                Leg::new((time(0), time(1)), degrees(2), degrees(3))
            }),
            place: self.places.map_or(NO_PLACE, |c| c[row]),
            floor: self.floors.map_or(NO_FLOOR, |c| c[row]),
            source: Source::ALL[usize::from(self.sources[row] & 0x7f)],
            alone: self.sources[row] >> 7 == 1,
        }
    }
}
