//! Rows of many batches in one total order, without copying them together.

use crate::person::Persons;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Float64Type, Int64Type, SchemaRef, UInt8Type, UInt32Type};
use arrow::error::ArrowError;
use std::cmp::Ordering;

/// Batches of one table, and the order of their rows.
#[derive(Debug, Clone)]
pub struct Sorted {
    batches: Vec<RecordBatch>,
    order: Vec<(u32, u32)>,
    schema: SchemaRef,
}

/// Columns of a row, as they sort.
struct Keys<'a> {
    persons: Persons,
    batch: &'a RecordBatch,
}

impl Sorted {
    /// Sorts rows by person, then by these columns, nulls first.
    pub fn by_person(schema: SchemaRef, batches: Vec<RecordBatch>, columns: &[&str]) -> Self {
        Self::sort(schema, batches, |a, i, b, j| {
            a.persons.at(i).cmp(&b.persons.at(j)).then_with(|| {
                columns
                    .iter()
                    .map(|c| compare(a.batch, i, b.batch, j, c))
                    .find(|o| o.is_ne())
                    .unwrap_or(Ordering::Equal)
            })
        })
    }

    /// Sorts rows by whole seconds of a column, the largest first, then by person.
    pub fn by_seconds_down(schema: SchemaRef, batches: Vec<RecordBatch>, column: &str) -> Self {
        let seconds = |keys: &Keys<'_>, row: usize| {
            let values = keys.batch.column_by_name(column).map(|c| c.as_primitive::<Int64Type>().value(row));
            values.unwrap_or_default().div_euclid(1_000)
        };
        Self::sort(schema, batches, |a, i, b, j| {
            seconds(b, j).cmp(&seconds(a, i)).then_with(|| a.persons.at(i).cmp(&b.persons.at(j)))
        })
    }

    fn sort(
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
        compare: impl Fn(&Keys<'_>, usize, &Keys<'_>, usize) -> Ordering,
    ) -> Self {
        let keys: Vec<Keys<'_>> =
            batches.iter().map(|batch| Keys { persons: Persons::of(batch.column(0)), batch }).collect();
        let mut order: Vec<(u32, u32)> = (0u32..)
            .zip(&batches)
            .flat_map(|(number, batch)| (0..batch.num_rows() as u32).map(move |row| (number, row)))
            .collect();
        order.sort_unstable_by(|a, b| {
            compare(&keys[a.0 as usize], a.1 as usize, &keys[b.0 as usize], b.1 as usize)
        });
        drop(keys);
        Sorted { batches, order, schema }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The rows in their order, some at a time.
    pub fn chunks(&self, rows: usize) -> impl Iterator<Item = Result<RecordBatch, ArrowError>> {
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        self.order.chunks(rows.max(1)).map(move |chunk| {
            let rows: Vec<(usize, usize)> = chunk.iter().map(|(b, r)| (*b as usize, *r as usize)).collect();
            interleave_record_batch(&batches, &rows)
        })
    }

    /// All rows in their order.
    pub fn whole(&self) -> Result<RecordBatch, ArrowError> {
        match self.chunks(self.order.len()).next() {
            Some(batch) => batch,
            None => Ok(RecordBatch::new_empty(self.schema.clone())),
        }
    }
}

fn compare(a: &RecordBatch, i: usize, b: &RecordBatch, j: usize, column: &str) -> Ordering {
    let (Some(a), Some(b)) = (a.column_by_name(column), b.column_by_name(column)) else {
        return Ordering::Equal;
    };
    match (a.is_null(i), b.is_null(j)) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Less,
        (false, true) => return Ordering::Greater,
        (false, false) => {}
    }
    use arrow::datatypes::DataType;
    match a.data_type() {
        DataType::UInt32 => {
            a.as_primitive::<UInt32Type>().value(i).cmp(&b.as_primitive::<UInt32Type>().value(j))
        }
        DataType::UInt8 => {
            a.as_primitive::<UInt8Type>().value(i).cmp(&b.as_primitive::<UInt8Type>().value(j))
        }
        DataType::Int64 => {
            a.as_primitive::<Int64Type>().value(i).cmp(&b.as_primitive::<Int64Type>().value(j))
        }
        DataType::Boolean => a.as_boolean().value(i).cmp(&b.as_boolean().value(j)),
        DataType::Float64 => {
            a.as_primitive::<Float64Type>().value(i).total_cmp(&b.as_primitive::<Float64Type>().value(j))
        }
        DataType::Utf8 => a.as_string::<i32>().value(i).cmp(b.as_string::<i32>().value(j)),
        _ => Ordering::Equal,
    }
}
