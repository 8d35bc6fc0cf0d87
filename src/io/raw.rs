//! The rows of a batch of a file, one by one: readable pings, or why they are none.

use super::columns::{NoTime, Times, numbers, ordinals, texts};
use super::decode::Decoder;
use super::pings::{OpenFeed, Origin, PingFile};
use super::places::{Numbers, position_of};
use crate::datum::Datum;
use crate::person::{PersonKind, PersonSet, Persons};
use crate::ping::{NO_FLOOR, NO_PLACE, NO_UNTIL, lasting};
use crate::rule::Source;
use crate::time::{Millis, next_at};
use crate::trip::{Part, Seat, vehicle_number, vehicles};
use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array,
    new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use std::sync::Arc;

/// The columns of a file's batch, as values.
pub(super) struct Raw {
    pub(super) person_column: ArrayRef,
    person_as_read: ArrayRef,
    pub(super) times: Times,
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
    /// Of scans of a store: the file and the row that each came from.
    origins: Option<(UInt32Array, UInt64Array)>,
    datum: Datum,
    pub(super) source: Source,
}

/// One readable row.
pub(super) struct Row {
    pub(super) time: Millis,
    pub(super) until: Millis,
    pub(super) lat: f64,
    pub(super) lon: f64,
    pub(super) accuracy_m: f64,
    pub(super) place: u32,
    pub(super) floor: u32,
    pub(super) is_seatless: bool,
}

type Why = (&'static str, &'static str);

impl Raw {
    pub(super) fn new(
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
            origins: match (column("input"), column("row")) {
                (Some(inputs), Some(rows)) => Some((
                    cast(&inputs, &DataType::UInt32)?.as_primitive::<UInt32Type>().clone(),
                    cast(&rows, &DataType::UInt64)?.as_primitive::<UInt64Type>().clone(),
                )),
                _ => None,
            },
            datum: feed.config.datum.unwrap_or(Datum::Wgs84),
            source,
        })
    }

    /// The id of a row's tower, venue or trip.
    pub(super) fn id(&self, row: usize) -> Option<&str> {
        text(&self.ids, row)
    }

    /// Where a scan of a store came from: the number of its file, and its row there.
    pub(super) fn origin(&self, row: usize) -> Option<(u32, u64)> {
        self.origins.as_ref().map(|(inputs, rows)| (inputs.value(row), rows.value(row)))
    }

    #[inline]
    pub(super) fn row(
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

impl Raw {
    /// The values of one of the source's columns; null where there are none, or they are no values.
    pub(super) fn values(&self, name: &str, rows: usize) -> ArrayRef {
        let text = |column: &Option<StringArray>| -> ArrayRef {
            column.as_ref().map_or_else(
                || new_null_array(&DataType::Utf8, rows),
                |column| Arc::new(column.clone()) as ArrayRef,
            )
        };
        let ordinal = |column: &Option<Vec<Option<Option<i64>>>>| -> ArrayRef {
            let value = |row: usize| column.as_ref().and_then(|c| c[row].flatten());
            Arc::new((0..rows).map(value).collect::<Int64Array>())
        };
        match name {
            "accuracy_m" => self.accuracies_m.as_ref().map_or_else(
                || new_null_array(&DataType::Float64, rows),
                |column| Arc::new(column.clone()) as ArrayRef,
            ),
            "until" => {
                let value = |row: usize| self.untils.as_ref().and_then(|u| u.at(row).ok());
                Arc::new((0..rows).map(value).collect::<Int64Array>())
            }
            "floor" => text(&self.floors),
            "vehicle" => text(&self.vehicles),
            "coach" => text(&self.coaches),
            "cabin" => text(&self.cabins),
            "bay" => ordinal(&self.bays),
            "seat_row" => ordinal(&self.seat_rows),
            _ => text(&self.ids),
        }
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
        let same = same.map(str::trim).filter(|text| !text.is_empty());
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

pub(super) fn time_reason(why: NoTime) -> &'static str {
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

/// A column by its name here.
pub(super) fn column(file: &PingFile, batch: &RecordBatch, name: &str) -> Option<ArrayRef> {
    let (_, origin) = file.columns.iter().find(|(column, _)| *column == name)?;
    match origin {
        Origin::Column(at) => batch.column_by_name(file.metadata.schema().field(*at).name()).cloned(),
        Origin::Folder(value) => {
            let rows = std::iter::repeat_n(value.as_deref(), batch.num_rows());
            Some(Arc::new(rows.collect::<StringArray>()))
        }
    }
}
