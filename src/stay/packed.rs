//! Stays in less room, while they wait for the others of their persons: see [`crate::packed`].

use super::StayColumns;
use crate::packed::{angle, angles, instant, instants};
use crate::person::Persons;
use crate::ping::person_order;
use crate::time::Millis;
use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch, UInt8Array, UInt32Array,
};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, UInt32Type};
use arrow::error::ArrowError;
use std::sync::Arc;

/// Of the columns, those of instants and of degrees.
const INSTANTS: std::ops::Range<usize> = 1..4;
const DEGREES: std::ops::Range<usize> = 4..6;

/// How stays of one shape are packed.
#[derive(Debug)]
pub struct Packing {
    from: Millis,
    plain: SchemaRef,
    packed: SchemaRef,
}

impl Packing {
    /// Of stays of this shape, none of which is before `from`.
    pub fn new(schema: &SchemaRef, from: Millis) -> Self {
        let field = |(column, field): (usize, &Arc<Field>)| match column {
            _ if INSTANTS.contains(&column) => Field::new(field.name(), DataType::UInt32, false),
            _ if DEGREES.contains(&column) => Field::new(field.name(), DataType::Int32, false),
            _ => field.as_ref().clone(),
        };
        let packed = Schema::new(schema.fields().iter().enumerate().map(field).collect::<Vec<_>>());
        Packing { from, plain: schema.clone(), packed: Arc::new(packed) }
    }

    /// A batch of these stays, packed if they suit that; none of them are left, but for their room.
    pub fn pack(&self, stays: &mut StayColumns) -> Result<RecordBatch, ArrowError> {
        if let Some(packed) = self.packed(stays)? {
            return Ok(packed);
        }
        let next = stays.like();
        std::mem::replace(stays, next).finish()
    }

    fn packed(&self, stays: &mut StayColumns) -> Result<Option<RecordBatch>, ArrowError> {
        let short = |times| instants(times, self.from);
        let Some(lats) = angles(&stays.lats) else { return Ok(None) };
        let Some(lons) = angles(&stays.lons) else { return Ok(None) };
        let Some(starts) = short(&stays.starts) else { return Ok(None) };
        let Some(sures) = short(&stays.sures) else { return Ok(None) };
        let Some(ends) = short(&stays.ends) else { return Ok(None) };
        let mut persons = stays.persons.like();
        persons.append(&stays.persons.view());
        let mut columns: Vec<ArrayRef> = vec![
            persons.finish()?,
            Arc::new(UInt32Array::from(starts)),
            Arc::new(UInt32Array::from(sures)),
            Arc::new(UInt32Array::from(ends)),
            Arc::new(Int32Array::from(lats)),
            Arc::new(Int32Array::from(lons)),
            Arc::new(UInt8Array::from(stays.sources.clone())),
        ];
        columns.extend(stays.beside()?);
        stays.clear();
        RecordBatch::try_new(self.packed.clone(), columns).map(Some)
    }

    fn is_packed(&self, batch: &RecordBatch) -> bool {
        *batch.column(INSTANTS.start).data_type() == DataType::UInt32
    }

    /// The stays of a batch, packed or not, as they were.
    fn unpack(&self, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
        if self.is_packed(&batch) { self.unpack_rows(&batch, None) } else { Ok(batch) }
    }

    /// The stays of all batches, packed or not, grouped by person, persons in their order, each one's by their starts.
    pub fn grouped(&self, batches: Vec<RecordBatch>) -> Result<RecordBatch, ArrowError> {
        // Together before they are unpacked, if all are packed.
        if batches.iter().all(|batch| self.is_packed(batch)) {
            let joined = concat_batches(&self.packed, &batches)?;
            drop(batches);
            let starts = joined.column(INSTANTS.start).as_primitive::<UInt32Type>().values();
            let order = order(&Persons::of(joined.column(0)), starts);
            return self.unpack_rows(&joined, order);
        }
        let plain = batches.into_iter().map(|batch| self.unpack(batch)).collect::<Result<Vec<_>, _>>()?;
        let joined = concat_batches(&self.plain, &plain)?;
        drop(plain);
        let starts = super::Stays::of(&joined).starts;
        match order(&Persons::of(joined.column(0)), starts) {
            None => Ok(joined),
            Some(order) => arrow::compute::take_record_batch(&joined, &UInt32Array::from(order)),
        }
    }

    /// The rows of a packed batch, all if no order is given.
    fn unpack_rows(&self, batch: &RecordBatch, order: Option<Vec<u32>>) -> Result<RecordBatch, ArrowError> {
        fn picked<T: Copy, U>(values: &[T], order: Option<&[u32]>, make: impl Fn(T) -> U) -> Vec<U> {
            match order {
                None => values.iter().map(|value| make(*value)).collect(),
                Some(order) => order.iter().map(|row| make(values[*row as usize])).collect(),
            }
        }
        let rows = order.map(UInt32Array::from);
        let order = rows.as_ref().map(|rows| rows.values().as_ref());
        let column = |(number, column): (usize, &ArrayRef)| -> Result<ArrayRef, ArrowError> {
            Ok(match &rows {
                _ if INSTANTS.contains(&number) => {
                    let times = column.as_primitive::<UInt32Type>().values();
                    Arc::new(Int64Array::from(picked(times, order, |time| instant(time, self.from))))
                }
                _ if DEGREES.contains(&number) => {
                    let numbers = column.as_primitive::<Int32Type>().values();
                    Arc::new(Float64Array::from(picked(numbers, order, angle)))
                }
                None => column.clone(),
                Some(rows) => take(column, rows, None)?,
            })
        };
        let columns = batch.columns().iter().enumerate().map(column).collect::<Result<_, _>>()?;
        RecordBatch::try_new(self.plain.clone(), columns)
    }
}

/// The order that groups rows by person; none if they are in it.
fn order<T: Ord + Copy>(persons: &Persons<'_>, starts: &[T]) -> Option<Vec<u32>> {
    let follows = |row: usize| {
        let (before, now) = (persons.at(row - 1), persons.at(row));
        before < now || (before == now && starts[row - 1] <= starts[row])
    };
    let is_grouped = (1..starts.len()).all(follows);
    (!is_grouped).then(|| person_order(persons, |row| starts[row]))
}

#[cfg(test)]
mod tests {
    use super::super::{Ending, Stay, Stays, stay_schema};
    use super::*;
    use crate::person::PersonRef;
    use crate::ping::{NO_FLOOR, NO_PLACE};
    use crate::place::PlaceRule;
    use crate::rule::Source;
    use proptest::prelude::*;

    const FROM: Millis = 1_600_000_000_000;

    fn stay(start: Millis, lat: f64) -> Stay {
        Stay {
            start,
            sure: start + 5,
            end: start + 10,
            lat,
            lon: -0.000_000_1,
            source: Source::Gps,
            alone: start % 3 == 0,
            place: NO_PLACE,
            floor: NO_FLOOR,
            sigma_m: 0.0,
            ending: Ending::default(),
            leg: None,
        }
    }

    fn stays_of(batch: &RecordBatch) -> Vec<(PersonRef<'_>, Stay)> {
        let view = Stays::of(batch);
        (0..batch.num_rows()).map(|row| (view.persons.at(row), view.at(row))).collect()
    }

    proptest! {
        /// Whichever batches are packed.
        #[test]
        fn packed_or_not_the_same_stays_come_grouped(
            drawn in prop::collection::vec(
                (any::<bool>(), prop::collection::vec((0u64..9, 0i64..1_000), 0..20)),
                0..6,
            ),
        ) {
            let place = PlaceRule::Distance { distance_m_max: 50.0 };
            let schema = stay_schema(&DataType::UInt64, &[], &place, false);
            let packing = Packing::new(&schema, FROM);
            let mut columns = StayColumns::new(&schema);
            let (mut batches, mut expected) = (Vec::new(), Vec::new());
            for (suits, stays) in drawn {
                for (person, since) in &stays {
                    // Of eight decimals is no whole number of seven.
                    let stay = stay(FROM + since, if suits { 31.234_567_8 } else { 31.234_567_85 });
                    columns.push(PersonRef::Integer(*person), &stay);
                    expected.push((PersonRef::Integer(*person), stay));
                }
                let batch = packing.pack(&mut columns)?;
                prop_assert!(columns.is_empty());
                prop_assert_eq!(packing.is_packed(&batch), suits || stays.is_empty());
                batches.push(batch);
            }
            let unpacked = batches.iter().map(|batch| packing.unpack(batch.clone())).collect::<Result<Vec<_>, _>>()?;
            prop_assert_eq!(unpacked.iter().flat_map(stays_of).collect::<Vec<_>>(), expected.clone());
            expected.sort_by_key(|(person, stay)| (*person, stay.start));
            let grouped = packing.grouped(batches)?;
            prop_assert_eq!(stays_of(&grouped), expected);
        }
    }
}
