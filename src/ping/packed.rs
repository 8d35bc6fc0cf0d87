//! Pings in less room, while those of all persons wait for the cases': see [`crate::packed`].

use super::{Ping, PingColumns, Pings, add};
use crate::packed::{angle, instant, pack_angles, pack_instants};
use crate::person::Persons;
use crate::time::Millis;
use crate::wide::wide;
use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, UInt32Type};
use arrow::error::ArrowError;
use std::sync::Arc;

/// More room than one row in so many is given back.
const ROOM_SHARE: usize = 8;

/// How pings of one shape are packed.
#[derive(Debug)]
pub struct Packing {
    from: Millis,
    plain: SchemaRef,
    packed: SchemaRef,
}

/// Instants and positions of pings, packed.
#[derive(Debug, Default)]
pub struct Packed {
    times: Vec<u32>,
    lats: Vec<i32>,
    lons: Vec<i32>,
}

/// Packed pings as they gather.
#[derive(Debug)]
pub struct PackedColumns {
    schema: SchemaRef,
    own: Packed,
    /// What is not packed of them.
    beside: PingColumns,
}

impl Packing {
    /// Of pings of this shape, none of which is before `from`.
    pub fn new(schema: &SchemaRef, from: Millis) -> Self {
        let kinds = [DataType::UInt32, DataType::Int32, DataType::Int32];
        let mut fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        for (field, kind) in fields[1..].iter_mut().zip(kinds) {
            *field = Field::new(field.name(), kind, false);
        }
        Packing { from, plain: schema.clone(), packed: Arc::new(Schema::new(fields)) }
    }

    /// Packs instants and positions of pings in the place of what `packed` held. Says whether they suit that.
    pub fn pack(&self, pings: &Pings<'_>, packed: &mut Packed) -> bool {
        pack_instants(pings.times, self.from, &mut packed.times)
            && pack_angles(pings.lats, &mut packed.lats)
            && pack_angles(pings.lons, &mut packed.lons)
    }

    /// No pings yet.
    pub fn columns(&self) -> PackedColumns {
        let (own, beside) = (Packed::default(), PingColumns::new(&self.plain));
        PackedColumns { schema: self.packed.clone(), own, beside }
    }
}

impl PackedColumns {
    /// No pings, of the same shape, but room for so many.
    pub fn like(&self, rows: usize) -> Self {
        let (times, lats, lons) =
            (Vec::with_capacity(rows), Vec::with_capacity(rows), Vec::with_capacity(rows));
        let mut beside = self.beside.like();
        beside.reserve_beside(rows);
        beside.persons.reserve_like(&self.beside.persons, rows);
        PackedColumns { schema: self.schema.clone(), own: Packed { times, lats, lons }, beside }
    }

    /// Adds these rows of a batch, of which instants and positions are packed.
    pub fn extend(&mut self, pings: &Pings<'_>, packed: &Packed, rows: &[u32]) {
        add(&mut self.own.times, &packed.times, rows);
        add(&mut self.own.lats, &packed.lats, rows);
        add(&mut self.own.lons, &packed.lons, rows);
        self.beside.extend_beside(pings, rows);
    }

    /// Pings.
    pub fn len(&self) -> usize {
        self.own.times.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.own.times.is_empty()
    }

    /// Bytes that they take, about.
    pub fn bytes(&self) -> usize {
        self.len() * 3 * size_of::<u32>() + self.beside.bytes_beside(self.len())
    }

    /// The batch.
    pub fn finish(self) -> Result<RecordBatch, ArrowError> {
        let PackedColumns { schema, mut own, mut beside } = self;
        // Room counts as memory that is held.
        if own.times.capacity() > own.times.len() + own.times.len() / ROOM_SHARE {
            own.times.shrink_to_fit();
            own.lats.shrink_to_fit();
            own.lons.shrink_to_fit();
            beside.persons.shrink_to_fit();
        }
        let others = beside.beside();
        let mut columns: Vec<ArrayRef> = vec![
            beside.persons.finish()?,
            Arc::new(UInt32Array::from(own.times)),
            Arc::new(Int32Array::from(own.lats)),
            Arc::new(Int32Array::from(own.lons)),
        ];
        columns.extend(others);
        RecordBatch::try_new(schema, columns)
    }
}

/// A batch of pings, packed or not.
#[derive(Debug)]
pub struct Kept<'a> {
    from: Millis,
    packed: Option<(&'a [u32], &'a [i32], &'a [i32])>,
    /// Without instants and positions, where these are packed.
    pings: Pings<'a>,
}

impl<'a> Kept<'a> {
    /// A batch of which what is packed was so by [`Packing::new`] of `from`.
    pub fn of(batch: &'a RecordBatch, from: Millis) -> Self {
        if *batch.column(1).data_type() != DataType::UInt32 {
            return Kept { from, packed: None, pings: Pings::of(batch) };
        }
        let times = batch.column(1).as_primitive::<UInt32Type>().values().as_ref();
        let numbers = |column: usize| batch.column(column).as_primitive::<Int32Type>().values().as_ref();
        let packed = Some((times, numbers(2), numbers(3)));
        Kept { from, packed, pings: Pings::with(batch, &[], &[], &[]) }
    }

    /// Whose.
    pub fn persons(&self) -> Persons<'a> {
        self.pings.persons
    }

    /// When, each; what was packed is in `room` then.
    pub fn times<'b>(&'b self, room: &'b mut Unpacked) -> &'b [Millis] {
        let Some((times, ..)) = self.packed else { return self.pings.times };
        room.times.clear();
        room.times.extend(times.iter().map(|time| instant(*time, self.from)));
        &room.times
    }

    /// One row.
    #[inline]
    pub fn at(&self, row: usize) -> Ping {
        match self.packed {
            None => self.pings.at(row),
            Some((times, lats, lons)) => {
                let time = instant(times[row], self.from);
                self.pings.ping(row, time, angle(lats[row]), angle(lons[row]))
            }
        }
    }

    /// All of them; what was packed is in `room` then.
    pub fn pings<'b>(&'b self, room: &'b mut Unpacked) -> Pings<'b> {
        let Some((times, lats, lons)) = self.packed else { return self.pings.clone() };
        room.times.clear();
        room.lats.clear();
        room.lons.clear();
        wide(
            #[inline(always)]
            || {
                room.times.extend(times.iter().map(|time| instant(*time, self.from)));
                room.lats.extend(lats.iter().map(|number| angle(*number)));
                room.lons.extend(lons.iter().map(|number| angle(*number)));
            },
        );
        Pings { times: &room.times, lats: &room.lats, lons: &room.lons, ..self.pings.clone() }
    }
}

/// Room for what is packed in a batch.
#[derive(Debug, Default)]
pub struct Unpacked {
    times: Vec<Millis>,
    lats: Vec<f64>,
    lons: Vec<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::person::PersonRef;
    use crate::ping::{NO_FLOOR, NO_PLACE, NO_UNTIL, ping_schema};
    use proptest::prelude::*;

    fn ping(time: Millis, lat: f64, lon: f64) -> Ping {
        Ping {
            time,
            until: NO_UNTIL,
            lat,
            lon,
            accuracy_m: 0.0,
            place: NO_PLACE,
            floor: NO_FLOOR,
            feed: (time % 2) as u16,
        }
    }

    fn columns(pings: &[Ping]) -> PingColumns {
        let mut columns = PingColumns::new(&ping_schema(&DataType::UInt64, 1, None, 2));
        pings.iter().zip(0..).for_each(|(ping, person)| columns.push(PersonRef::Integer(person), ping));
        columns
    }

    /// A decimal of so many digits after the point, as text has it.
    fn decimal(number: i64, digits: usize) -> f64 {
        let sign = if number < 0 { "-" } else { "" };
        let (whole, rest) = (
            number.unsigned_abs() / 10u64.pow(digits as u32),
            number.unsigned_abs() % 10u64.pow(digits as u32),
        );
        format!("{sign}{whole}.{rest:0digits$}").parse().expect("a decimal")
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(
            drawn in prop::collection::vec((0i64..=u32::MAX as i64, -900_000_000i64..=900_000_000, -1_800_000_000i64..=1_800_000_000), 1..50),
            digits in 0usize..=7,
            from in prop::sample::select(vec![-5, 0, 1_600_000_000_000]),
        ) {
            let short = 10i64.pow(7 - digits as u32);
            let pings: Vec<Ping> = drawn
                .iter()
                .map(|(since, lat, lon)| ping(from + since, decimal(lat / short, digits), decimal(lon / short, digits)))
                .collect();
            let columns = columns(&pings);
            let packing = Packing::new(&columns.schema, from);
            let mut numbers = Packed::default();
            prop_assert!(packing.pack(&columns.view(), &mut numbers), "degrees of seven decimals");
            let mut packed = packing.columns().like(pings.len());
            let rows: Vec<u32> = (0..pings.len() as u32).collect();
            rows.chunks(7).for_each(|rows| packed.extend(&columns.view(), &numbers, rows));
            prop_assert_eq!(packed.len(), pings.len());
            let packed = packed.finish()?;
            let kept = Kept::of(&packed, from);
            let mut room = Unpacked::default();
            let all = kept.pings(&mut room);
            for (row, ping) in pings.iter().enumerate() {
                prop_assert_eq!(kept.at(row), *ping);
                prop_assert_eq!(all.at(row), *ping);
                prop_assert_eq!(all.persons.at(row), PersonRef::Integer(row as u64));
            }
        }
    }

    #[test]
    fn what_does_not_suit_stays_as_it_is() {
        let from = 1_000;
        let last = from + i64::from(u32::MAX);
        for odd in [
            ping(from - 1, 1.5, 1.5),
            ping(last + 1, 1.5, 1.5),
            ping(Millis::MAX, 1.5, 1.5),
            ping(from, 1.000_000_05, 1.5),
            ping(from, 1.5, 1.5f64.next_up()),
            ping(from, f64::NAN, 1.5),
            ping(from, 1.5, f64::INFINITY),
            ping(from, 215.0, 1.5),
            ping(from, 1.5, 1e300),
        ] {
            let columns = columns(&[ping(from, 0.0, -180.0), odd, ping(last, -90.0, 179.999_999_9)]);
            let suits = Packing::new(&columns.schema, from).pack(&columns.view(), &mut Packed::default());
            assert!(!suits, "{odd:?}");
            let plain = columns.finish().expect("columns of equal length");
            assert_eq!(Kept::of(&plain, from).at(2).time, last);
        }
    }
}
