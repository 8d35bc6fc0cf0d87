//! A ping: one observed position of a person at one instant; and the Arrow batches that carry pings.

use crate::person::Persons;
use crate::rule::{Source, StayRule};
use crate::time::Millis;
use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, UInt16Type, UInt32Type};
use arrow::error::ArrowError;
use std::sync::Arc;

/// `until` of a ping that has none.
pub const NO_UNTIL: Millis = Millis::MIN;
/// `place` of a ping whose venue no case visited and no table lists, or that has no tower or venue.
pub const NO_PLACE: u32 = u32::MAX;
/// `floor` of a scan that gives none.
pub const NO_FLOOR: u32 = 0;

/// One ping without its person.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ping {
    /// When, ms UTC.
    pub time: Millis,
    /// End of a scan with a check-out, or [`NO_UNTIL`].
    pub until: Millis,
    /// WGS84 degrees; NaN for a venue without coordinates.
    pub lat: f64,
    /// WGS84 degrees, in [-180, 180); NaN for a venue without coordinates.
    pub lon: f64,
    /// 68% radius, metres.
    pub accuracy_m: f64,
    /// Tower or venue, by its number in the job's list of places (towers sort as their ids do).
    pub place: u32,
    /// Floor, by its number; [`NO_FLOOR`] if unknown.
    pub floor: u32,
    /// Its feed, by its number in the job.
    pub feed: u16,
}

const _: () = assert!(size_of::<Ping>() == 56, "a ping is copied by the million");

/// The columns of a batch of pings. Those that no feed of the job can fill are left out.
///
/// person_id (UInt64 or Binary, [`crate::person`]), time (ms), feed, lat, lon (degrees), accuracy_m,
/// then place for towers and venues, then until and floor for venues.
pub fn ping_schema(person: &DataType, sources: u8) -> SchemaRef {
    let mut fields = vec![
        Field::new("person_id", person.clone(), false),
        Field::new("time", DataType::Int64, false),
        Field::new("feed", DataType::UInt16, false),
        Field::new("lat", DataType::Float64, false),
        Field::new("lon", DataType::Float64, false),
        Field::new("accuracy_m", DataType::Float64, false),
    ];
    if sources & (Source::Tower.bit() | Source::Venue.bit()) != 0 {
        fields.push(Field::new("place", DataType::UInt32, false));
    }
    if sources & Source::Venue.bit() != 0 {
        fields.push(Field::new("until", DataType::Int64, false));
        fields.push(Field::new("floor", DataType::UInt32, false));
    }
    Arc::new(Schema::new(fields))
}

/// A batch of pings, its columns at hand.
#[derive(Debug, Clone)]
pub struct Pings<'a> {
    /// Whose.
    pub persons: Persons,
    /// When, ms UTC.
    pub times: &'a [Millis],
    lats: &'a [f64],
    lons: &'a [f64],
    accuracies_m: &'a [f64],
    feeds: &'a [u16],
    places: Option<&'a [u32]>,
    untils: Option<&'a [Millis]>,
    floors: Option<&'a [u32]>,
}

impl<'a> Pings<'a> {
    /// Borrows the columns of a batch that has [`ping_schema`].
    pub fn of(batch: &'a RecordBatch) -> Self {
        let column = |name: &str| batch.column_by_name(name);
        let f64s = |i: usize| batch.column(i).as_primitive::<Float64Type>().values().as_ref();
        Pings {
            persons: Persons::of(batch.column(0)),
            times: batch.column(1).as_primitive::<Int64Type>().values(),
            feeds: batch.column(2).as_primitive::<UInt16Type>().values(),
            lats: f64s(3),
            lons: f64s(4),
            accuracies_m: f64s(5),
            places: column("place").map(|c| c.as_primitive::<UInt32Type>().values().as_ref()),
            untils: column("until").map(|c| c.as_primitive::<Int64Type>().values().as_ref()),
            floors: column("floor").map(|c| c.as_primitive::<UInt32Type>().values().as_ref()),
        }
    }

    /// One row.
    #[inline]
    pub fn at(&self, row: usize) -> Ping {
        Ping {
            time: self.times[row],
            until: self.untils.map_or(NO_UNTIL, |c| c[row]),
            lat: self.lats[row],
            lon: self.lons[row],
            accuracy_m: self.accuracies_m[row],
            place: self.places.map_or(NO_PLACE, |c| c[row]),
            floor: self.floors.map_or(NO_FLOOR, |c| c[row]),
            feed: self.feeds[row],
        }
    }

    /// The ranges of rows of one person each, in a batch that is grouped by person.
    pub fn groups(&self) -> Vec<std::ops::Range<usize>> {
        let mut groups = Vec::new();
        let mut start = 0;
        for row in 1..=self.times.len() {
            if row == self.times.len() || self.persons.at(row) != self.persons.at(start) {
                groups.push(start..row);
                start = row;
            }
        }
        groups
    }
}

/// The same rows, those of a person together, persons in their order.
pub fn group_by_person(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let persons: &ArrayRef = batch.column(0);
    let mut rows: Vec<u32> = (0..batch.num_rows() as u32).collect();
    match Persons::of(persons) {
        Persons::Integer(ids) => rows.sort_unstable_by_key(|&row| (ids.value(row as usize), row)),
        Persons::Bytes(ids) => {
            rows.sort_unstable_by(|&a, &b| ids.value(a as usize).cmp(ids.value(b as usize)).then(a.cmp(&b)));
        }
    }
    take_record_batch(batch, &UInt32Array::from(rows))
}

/// One person's pings of one source, ordered by time, without duplicates.
///
/// Of gps or tower pings at one instant the one with the smallest accuracy stays, then the smallest
/// tower id, latitude, longitude, then the feed first in the job; equal scans are one scan.
pub fn order_track(pings: &mut Vec<Ping>, source: Source) {
    match source {
        Source::Gps | Source::Tower => {
            pings.sort_unstable_by(|a, b| {
                (a.time.cmp(&b.time))
                    .then(a.accuracy_m.total_cmp(&b.accuracy_m))
                    .then(a.place.cmp(&b.place))
                    .then(a.lat.total_cmp(&b.lat))
                    .then(a.lon.total_cmp(&b.lon))
                    .then(a.feed.cmp(&b.feed))
            });
            pings.dedup_by_key(|p| p.time);
        }
        Source::Venue => {
            pings.sort_unstable_by_key(|p| (p.time, p.place, p.until, p.floor, p.feed));
            pings.dedup_by_key(|p| (p.time, p.place, p.until, p.floor));
        }
    }
}

/// Drops what the filters drop: impossible travel (gps), then ping-pong (tower). The setting is that
/// of the ping's own feed; "before" is the last ping kept, "after" the next raw one.
pub fn filter_track(pings: &mut Vec<Ping>, feeds: &[StayRule]) {
    let raw = std::mem::take(pings);
    for (i, ping) in raw.iter().enumerate() {
        let rule = &feeds[ping.feed as usize];
        let dropped = match (rule.filters(), pings.last(), raw.get(i + 1)) {
            (true, Some(before), Some(after)) => match rule.source {
                Source::Gps => {
                    let limit = rule.speed_m_per_s_max;
                    speed_m_per_s(before, ping) > limit && speed_m_per_s(ping, after) > limit
                }
                Source::Tower => {
                    before.place == after.place
                        && ping.place != before.place
                        && after.time - before.time <= rule.pingpong_ms
                }
                Source::Venue => false,
            },
            _ => false,
        };
        if !dropped {
            pings.push(*ping);
        }
    }
}

fn speed_m_per_s(a: &Ping, b: &Ping) -> f64 {
    crate::geo::haversine_m(a.lat, a.lon, b.lat, b.lon) / ((b.time - a.time) as f64 / 1_000.0)
}
