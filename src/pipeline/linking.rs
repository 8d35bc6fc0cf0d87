//! What follows each ping on its day: when its person is next, and where, so that a run which finds one row of a store need
//! not look for the next.

use super::too_large;
use crate::error::Result;
use crate::io::guide::{First, Traces};
use crate::person::Persons;
use crate::ping::person_order;
use crate::time::{HOUR_MS, Millis, Tz, day_at};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, UInt16Type, UInt64Type};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Hours of a day, at most.
pub const HOURS: usize = 25;
/// The day of times that no calendar knows.
const NO_DAY: &str = "beyond";

/// Days of instants that mostly follow one another.
pub struct DayClock {
    zone: Tz,
    from: Millis,
    to: Millis,
    name: String,
}

impl DayClock {
    /// Days in a zone.
    pub fn new(zone: Tz) -> Self {
        DayClock { zone, from: 0, to: 0, name: String::new() }
    }

    /// The day of an instant.
    pub fn day(&mut self, at: Millis) -> &str {
        if !(self.from..self.to).contains(&at) {
            // Where days have no edges each instant is looked up by itself.
            let day = day_at(at, self.zone);
            (self.from, self.to) = day.map_or((0, 0), |(_, from, to)| (from, to));
            self.name = day.map_or(NO_DAY.to_string(), |(date, ..)| date.to_string());
        }
        &self.name
    }

    /// The hour after the midnight that the last day began with.
    pub fn hour(&self, at: Millis) -> usize {
        usize::try_from((at - self.from) / HOUR_MS).map_or(0, |hour| hour.min(HOURS - 1))
    }
}

/// A column of rows of a store, by its name.
pub fn column<'b>(rows: &'b RecordBatch, name: &str) -> &'b ArrayRef {
    rows.column(rows.schema_ref().index_of(name).unwrap_or(0))
}

/// When.
pub fn times(rows: &RecordBatch) -> &Int64Array {
    column(rows, "time").as_primitive::<Int64Type>()
}

/// What follows rows, as columns of a store.
struct Links {
    times: Vec<Option<Millis>>,
    lats: Vec<Option<f64>>,
    lons: Vec<Option<f64>>,
    aparts: Vec<Option<bool>>,
    repeats: Vec<Option<bool>>,
}

/// Where and when the rows of some persons are.
struct Spots<'r> {
    rows: &'r RecordBatch,
    times: &'r [Millis],
    cells: &'r [u64],
    /// Degrees, where the source has any.
    places: Option<(&'r [f64], &'r [f64])>,
}

impl Spots<'_> {
    fn place(&self, row: u32) -> (f64, f64) {
        self.places.map_or((f64::NAN, f64::NAN), |(lats, lons)| (lats[row as usize], lons[row as usize]))
    }

    /// The one place of all pings of an instant, if there is one.
    fn one_place(&self, instant: &[u32]) -> Option<(f64, f64)> {
        let place = self.place(*instant.first()?);
        instant.iter().all(|row| self.place(*row) == place).then_some(place)
    }

    /// Whether two pings of an instant are the same in all that can matter.
    fn are_alike(&self, a: u32, b: u32) -> bool {
        let (a, b) = (a as usize, b as usize);
        let same = |name: &str| {
            let column = self.rows.column_by_name(name);
            column.is_none_or(|column| column.slice(a, 1) == column.slice(b, 1))
        };
        self.place(a as u32) == self.place(b as u32)
            && ["accuracy_m", "tower_id", "feed"].into_iter().all(same)
    }

    /// Links the rows of one person and day, in the order of time.
    fn link(&self, rows: &[u32], links: &mut Links) {
        let mut later: &[u32] = &[];
        let mut end = rows.len();
        while end > 0 {
            let at = self.times[rows[end - 1] as usize];
            let start = rows[..end].partition_point(|row| self.times[*row as usize] < at);
            let same = &rows[start..end];
            let next = later.first().map(|other| self.times[*other as usize]);
            let place = self.places.and_then(|_| self.one_place(later));
            let mut apart = self.places.is_some() && place.is_none() && !later.is_empty();
            if same.len() > 1 && self.places.is_some() {
                for (number, row) in same.iter().enumerate() {
                    let is_repeated = same[..number].iter().any(|other| self.are_alike(*other, *row));
                    links.repeats[*row as usize] = is_repeated.then_some(true);
                    apart |= number > 0 && !self.are_alike(same[0], *row);
                }
            }
            for row in same.iter().map(|row| *row as usize) {
                links.times[row] = next;
                (links.lats[row], links.lons[row]) = place.unzip();
                links.aparts[row] = apart.then_some(true);
            }
            (later, end) = (same, start);
        }
    }

    /// The first ping of a person's day.
    fn first(&self, rows: &[u32], feeds: &[u16]) -> First {
        let at = self.times[rows[0] as usize];
        let same = rows.partition_point(|row| self.times[*row as usize] == at);
        First { at, place: self.one_place(&rows[..same]), feed: feeds[rows[0] as usize] }
    }
}

/// Rows with what follows each on its day: the person's first later ping, unless it is the last of the day. And of a source
/// that `is_traced`, in which cells each person was, by day.
pub fn link(
    rows: &RecordBatch,
    zone: Tz,
    is_traced: bool,
) -> Result<(RecordBatch, BTreeMap<String, Traces>)> {
    let persons = Persons::of(rows.column(0));
    let degrees = |name: &str| {
        rows.column_by_name(name).map(|column| column.as_primitive::<Float64Type>().values().as_ref())
    };
    let spots = Spots {
        rows,
        times: times(rows).values(),
        cells: column(rows, "cell").as_primitive::<UInt64Type>().values(),
        places: degrees("lat").zip(degrees("lon")),
    };
    let feeds = column(rows, "feed").as_primitive::<UInt16Type>().values();
    let count = rows.num_rows();
    let mut links = Links {
        times: vec![None; count],
        lats: vec![None; count],
        lons: vec![None; count],
        aparts: vec![None; count],
        repeats: vec![None; count],
    };
    let order = person_order(&persons, |row| spots.times[row]);
    let (mut clock, mut traces) = (DayClock::new(zone), BTreeMap::<String, Traces>::new());
    let mut pings = Vec::new();
    let whose = |row: &u32| persons.at(*row as usize);
    for own in order.chunk_by(|a, b| whose(a) == whose(b)) {
        let mut rest = own;
        while let Some(first) = rest.first() {
            let day = clock.day(spots.times[*first as usize]).to_string();
            let end = rest.iter().position(|row| clock.day(spots.times[*row as usize]) != day);
            let (of_day, more) = rest.split_at(end.unwrap_or(rest.len()));
            spots.link(of_day, &mut links);
            if is_traced {
                pings.clear();
                pings.extend(
                    of_day.iter().map(|row| (spots.cells[*row as usize], spots.times[*row as usize])),
                );
                let traces = traces.entry(day).or_insert_with(|| Traces::new(rows.column(0).data_type()));
                traces.add(whose(first), &mut pings, spots.first(of_day, feeds));
            }
            rest = more;
        }
    }
    let mut columns = rows.columns().to_vec();
    let made: [(&str, ArrayRef); 5] = [
        ("next_time", Arc::new(Int64Array::from(links.times))),
        ("next_lat", Arc::new(Float64Array::from(links.lats))),
        ("next_lon", Arc::new(Float64Array::from(links.lons))),
        ("apart", Arc::new(BooleanArray::from(links.aparts))),
        ("repeated", Arc::new(BooleanArray::from(links.repeats))),
    ];
    for (name, column) in made {
        if let Ok(at) = rows.schema_ref().index_of(name) {
            columns[at] = column;
        }
    }
    Ok((RecordBatch::try_new(rows.schema(), columns).map_err(too_large)?, traces))
}
