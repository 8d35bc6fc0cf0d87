//! Rows of many batches in one total order, without copying them together.

use crate::person::{PersonRef, Persons};
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, Int64Type, SchemaRef, UInt8Type, UInt32Type};
use arrow::error::ArrowError;
use std::cmp::Ordering;
use std::ops::Range;

/// Rows that are sorted on one thread, about, and how many such ranges there are at most.
const RANGE_ROWS: usize = 1 << 18;
const RANGES_MAX: usize = 256;
/// One of so many rows says how persons are spread.
const SAMPLE_STEP: usize = 64;

/// A row, by its batch and its number there.
type Row = (u32, u32);
/// Does the same for several ranges, on several threads if it has them.
pub type Spread<'a> = &'a dyn Fn(Range<usize>, &(dyn Fn(usize) -> Vec<Row> + Sync)) -> Vec<Vec<Row>>;

/// Batches of one table, and the order of their rows.
#[derive(Debug, Clone)]
pub struct Sorted {
    batches: Vec<RecordBatch>,
    order: Vec<Row>,
    schema: SchemaRef,
}

/// Columns of a batch by which rows sort after their person.
enum Column<'a> {
    U32(&'a [u32]),
    U8(&'a [u8]),
    I64(&'a [i64]),
    Flags(&'a BooleanArray),
    Text(&'a StringArray),
}

impl<'a> Column<'a> {
    /// Columns of other types sort nothing.
    fn of(batch: &'a RecordBatch, name: &str) -> Option<Self> {
        let column = batch.column_by_name(name)?;
        Some(match column.data_type() {
            DataType::UInt32 => Column::U32(column.as_primitive::<UInt32Type>().values()),
            DataType::UInt8 => Column::U8(column.as_primitive::<UInt8Type>().values()),
            DataType::Int64 => Column::I64(column.as_primitive::<Int64Type>().values()),
            DataType::Boolean => Column::Flags(column.as_boolean()),
            DataType::Utf8 => Column::Text(column.as_string()),
            _ => return None,
        })
    }

    /// Nulls first.
    fn compare(&self, row: usize, other: &Column<'_>, other_row: usize) -> Ordering {
        match (self, other) {
            (Column::U32(a), Column::U32(b)) => a[row].cmp(&b[other_row]),
            (Column::U8(a), Column::U8(b)) => a[row].cmp(&b[other_row]),
            (Column::I64(a), Column::I64(b)) => a[row].cmp(&b[other_row]),
            (Column::Flags(a), Column::Flags(b)) => a.value(row).cmp(&b.value(other_row)),
            (Column::Text(a), Column::Text(b)) => {
                let mine = a.is_valid(row).then(|| a.value(row));
                mine.cmp(&b.is_valid(other_row).then(|| b.value(other_row)))
            }
            _ => Ordering::Equal,
        }
    }
}

/// A row, and the first eight bytes of its person: seldom is more of it compared.
#[derive(Clone, Copy)]
struct Key {
    person: u64,
    batch: u32,
    row: u32,
}

impl Sorted {
    /// Sorts rows by person, then by these columns, nulls first. Each batch is in the order of persons already.
    /// Ranges of persons are sorted each on its own, through `spread`.
    pub fn by_person(
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
        columns: &[&str],
        spread: Spread<'_>,
    ) -> Self {
        let persons: Vec<Persons<'_>> = batches.iter().map(|b| Persons::of(b.column(0))).collect();
        let columns: Vec<Vec<Column<'_>>> =
            batches.iter().map(|b| columns.iter().filter_map(|name| Column::of(b, name)).collect()).collect();
        let pivots = pivots(&persons);
        let sorted = |range: usize| -> Vec<Row> {
            let from = range.checked_sub(1).map(|before| pivots[before]);
            let mut keys = keys(&persons, from, pivots.get(range).copied());
            keys.sort_by(|a, b| {
                let (a_batch, a_row) = (a.batch as usize, a.row as usize);
                let (b_batch, b_row) = (b.batch as usize, b.row as usize);
                let by_columns = || {
                    let pairs = columns[a_batch].iter().zip(&columns[b_batch]);
                    pairs.map(|(mine, theirs)| mine.compare(a_row, theirs, b_row)).find(|o| o.is_ne())
                };
                (a.person.cmp(&b.person))
                    .then_with(|| whole(&persons[a_batch], a_row).cmp(&whole(&persons[b_batch], b_row)))
                    .then_with(|| by_columns().unwrap_or(Ordering::Equal))
            });
            keys.into_iter().map(|k| (k.batch, k.row)).collect()
        };
        let order = spread(0..pivots.len() + 1, &sorted).concat();
        drop(columns);
        Sorted { batches, order, schema }
    }

    /// Sorts rows by whole seconds of a column, the largest first, then by person.
    pub fn by_seconds_down(schema: SchemaRef, batches: Vec<RecordBatch>, column: &str) -> Self {
        let persons: Vec<Persons<'_>> = batches.iter().map(|b| Persons::of(b.column(0))).collect();
        let seconds = |key: &Key| {
            let values = batches[key.batch as usize].column_by_name(column);
            let ms = values.map(|c| c.as_primitive::<Int64Type>().value(key.row as usize));
            ms.unwrap_or_default().div_euclid(1_000)
        };
        let mut keys: Vec<(i64, Key)> =
            keys(&persons, None, None).into_iter().map(|key| (seconds(&key), key)).collect();
        keys.sort_by(|(a_seconds, a), (b_seconds, b)| {
            let person = |k: &Key| persons[k.batch as usize].at(k.row as usize);
            (b_seconds.cmp(a_seconds)).then(a.person.cmp(&b.person)).then_with(|| person(a).cmp(&person(b)))
        });
        Sorted { batches, order: keys.into_iter().map(|(_, k)| (k.batch, k.row)).collect(), schema }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Some of the rows in their order.
    pub fn range(&self, rows: Range<usize>) -> Result<RecordBatch, ArrowError> {
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        if batches.is_empty() {
            return Ok(RecordBatch::new_empty(self.schema.clone()));
        }
        let rows: Vec<(usize, usize)> =
            self.order[rows].iter().map(|(b, r)| (*b as usize, *r as usize)).collect();
        interleave_record_batch(&batches, &rows)
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

/// Where ranges of persons begin, by their first bytes, so that they have about as many rows each.
fn pivots(persons: &[Persons<'_>]) -> Vec<u64> {
    let rows: usize = persons.iter().map(Persons::len).sum();
    let ranges = (rows / RANGE_ROWS).clamp(1, RANGES_MAX);
    let sample = |column: &Persons<'_>| -> Vec<u64> {
        (0..column.len()).step_by(SAMPLE_STEP).map(|row| column.at(row).first_bytes()).collect()
    };
    let mut sample: Vec<u64> = persons.iter().flat_map(sample).collect();
    sample.sort_unstable();
    (1..ranges).map(|range| sample[sample.len() * range / ranges]).collect()
}

/// The rows of the persons of [from, to), by their first bytes, of batches in the order of persons.
fn keys(persons: &[Persons<'_>], from: Option<u64>, to: Option<u64>) -> Vec<Key> {
    let rows = (0u32..).zip(persons).flat_map(|(batch, persons)| {
        let start = from.map_or(0, |from| partition_point(persons, from));
        let end = to.map_or(persons.len(), |to| partition_point(persons, to));
        (start..end).map(move |row| Key { person: persons.at(row).first_bytes(), batch, row: row as u32 })
    });
    rows.collect()
}

/// The first row whose person's first bytes are not below these.
fn partition_point(persons: &Persons<'_>, first_bytes: u64) -> usize {
    let (mut low, mut high) = (0, persons.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if persons.at(middle).first_bytes() < first_bytes {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// What the first bytes leave to compare: nothing of an integer.
fn whole<'a>(persons: &Persons<'a>, row: usize) -> Option<PersonRef<'a>> {
    match persons {
        Persons::Integer(_) => None,
        Persons::Bytes(..) => Some(persons.at(row)),
    }
}
