//! Rows of many batches in one total order, without copying them together: in memory, or, of a table that is too
//! large, range by range from runs that are sorted already.

use super::gather::gather;
use crate::error::Result;
use crate::person::{PersonId, PersonRef, Persons};
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef, UInt8Type, UInt32Type};
use arrow::error::ArrowError;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Rows that are sorted on one thread, about, and how many such ranges there are at most.
const RANGE_ROWS: usize = 1 << 18;
const RANGES_MAX: usize = 256;
/// One of so many rows says how persons are spread.
const SAMPLE_STEP: usize = 64;
/// Ranges that are kept when they are read, in case of being asked for again.
const RANGES_KEPT: usize = 3;

/// A row, by its batch and its number there.
pub type Row = (u32, u32);
/// Does the same for several ranges, on several threads if it has them.
pub type Spread<'a> = &'a dyn Fn(Range<usize>, &(dyn Fn(usize) -> Vec<Row> + Sync)) -> Vec<Vec<Row>>;

/// What orders the rows of a table.
#[derive(Debug, Clone, Copy)]
pub enum Sorting {
    /// Persons, then these columns, nulls first. Batches are in the order of persons already; what is left is told by where
    /// rows stand, as each person's are in one batch.
    Person(&'static [&'static str]),
    /// Whole seconds of a column in milliseconds, the largest first, then persons.
    SecondsDown(&'static str),
}

/// A table and the order of its rows.
#[derive(Debug)]
pub struct Sorted {
    schema: SchemaRef,
    rows: Rows,
}

#[derive(Debug)]
enum Rows {
    Here(Ordered),
    Away(Away),
}

/// Batches in memory, and the order of their rows.
#[derive(Debug, Default)]
struct Ordered {
    batches: Vec<RecordBatch>,
    order: Vec<Row>,
}

/// Gives the rows of a range, in any order.
pub type Load = Box<dyn Fn(usize) -> Result<Vec<RecordBatch>> + Send + Sync>;

/// Ranges of a table that follow one another.
struct Away {
    sorting: Sorting,
    /// Where each range starts, and the last ends.
    starts: Vec<usize>,
    load: Load,
    kept: Mutex<VecDeque<(usize, Arc<Ordered>)>>,
}

impl fmt::Debug for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Away")
            .field("sorting", &self.sorting)
            .field("starts", &self.starts)
            .finish_non_exhaustive()
    }
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
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    person: u64,
    batch: u32,
    row: u32,
}

impl Ordered {
    fn new(sorting: Sorting, mut batches: Vec<RecordBatch>, spread: Spread<'_>) -> Self {
        // Those of persons who follow one another stand so already then.
        batches.sort_by_cached_key(|batch| {
            (batch.num_rows() > 0).then(|| Persons::of(batch.column(0)).at(0).to_id())
        });
        let order = match sorting {
            Sorting::Person(columns) => by_person(&batches, columns, spread),
            Sorting::SecondsDown(column) => by_seconds_down(&batches, column),
        };
        Ordered { batches, order }
    }

    fn rows(&self, rows: Range<usize>) -> std::result::Result<RecordBatch, ArrowError> {
        gather(&self.batches, &self.order[rows])
    }
}

/// Ranges of persons are sorted each on its own, through `spread`.
fn by_person(batches: &[RecordBatch], columns: &[&str], spread: Spread<'_>) -> Vec<Row> {
    let persons: Vec<Persons<'_>> = batches.iter().map(|b| Persons::of(b.column(0))).collect();
    let columns: Vec<Vec<Column<'_>>> =
        batches.iter().map(|b| columns.iter().filter_map(|name| Column::of(b, name)).collect()).collect();
    let pivots = pivots(&persons);
    let sorted = |range: usize| -> Vec<Row> {
        let from = range.checked_sub(1).map(|before| pivots[before]);
        let mut keys = keys(&persons, from, pivots.get(range).copied());
        let is_told_by_keys = persons.iter().all(|p| matches!(p, Persons::Integer(_)));
        if is_told_by_keys && columns.iter().all(Vec::is_empty) {
            // Stable, as that sees what is in order.
            keys.sort();
            return keys.into_iter().map(|k| (k.batch, k.row)).collect();
        }
        keys.sort_unstable_by(|a, b| {
            let (a_batch, a_row) = (a.batch as usize, a.row as usize);
            let (b_batch, b_row) = (b.batch as usize, b.row as usize);
            let by_columns = || {
                let pairs = columns[a_batch].iter().zip(&columns[b_batch]);
                pairs.map(|(mine, theirs)| mine.compare(a_row, theirs, b_row)).find(|o| o.is_ne())
            };
            (a.person.cmp(&b.person))
                .then_with(|| whole(&persons[a_batch], a_row).cmp(&whole(&persons[b_batch], b_row)))
                .then_with(|| by_columns().unwrap_or(Ordering::Equal))
                .then_with(|| a.cmp(b))
        });
        keys.into_iter().map(|k| (k.batch, k.row)).collect()
    };
    spread(0..pivots.len() + 1, &sorted).concat()
}

/// Whole seconds of the rows, such that the largest come first.
struct SecondsDown<'a>(Option<&'a [i64]>);

impl<'a> SecondsDown<'a> {
    fn of(batch: &'a RecordBatch, column: &str) -> Self {
        SecondsDown(batch.column_by_name(column).map(|c| c.as_primitive::<Int64Type>().values().as_ref()))
    }

    fn at(&self, row: usize) -> i64 {
        -self.0.map_or(0, |ms| ms[row]).div_euclid(1_000)
    }
}

fn by_seconds_down(batches: &[RecordBatch], column: &str) -> Vec<Row> {
    let persons: Vec<Persons<'_>> = batches.iter().map(|b| Persons::of(b.column(0))).collect();
    let seconds: Vec<SecondsDown<'_>> = batches.iter().map(|b| SecondsDown::of(b, column)).collect();
    let keys = keys(&persons, None, None);
    let ranks: Vec<i64> = keys.iter().map(|k| seconds[k.batch as usize].at(k.row as usize)).collect();
    let first = ranks.iter().copied().min().unwrap_or(0);
    let is_short = |rank: &i64| u32::try_from(rank - first).is_ok();
    let are_integers = persons.iter().all(|p| matches!(p, Persons::Integer(_)));
    if are_integers && u32::try_from(keys.len()).is_ok() && ranks.iter().all(is_short) {
        // Rank, person and place in one number, as these are compared at once.
        let in_one = |((rank, key), at): ((&i64, &Key), u128)| {
            ((rank - first) as u128) << 96 | u128::from(key.person) << 32 | at
        };
        let mut order: Vec<u128> = ranks.iter().zip(&keys).zip(0..).map(in_one).collect();
        order.sort_unstable();
        return order.into_iter().map(|at| keys[at as u32 as usize]).map(|k| (k.batch, k.row)).collect();
    }
    let mut keys: Vec<(i64, Key)> = ranks.into_iter().zip(keys).collect();
    keys.sort_unstable_by(|(a_seconds, a), (b_seconds, b)| {
        let whole = |k: &Key| whole(&persons[k.batch as usize], k.row as usize);
        (a_seconds.cmp(b_seconds)).then(a.person.cmp(&b.person)).then_with(|| whole(a).cmp(&whole(b)))
    });
    keys.into_iter().map(|(_, k)| (k.batch, k.row)).collect()
}

impl Sorted {
    /// Sorts batches that are in memory.
    pub fn here(schema: SchemaRef, sorting: Sorting, batches: Vec<RecordBatch>, spread: Spread<'_>) -> Self {
        Sorted { schema, rows: Rows::Here(Ordered::new(sorting, batches, spread)) }
    }

    /// Ranges of so many rows each, which follow one another by `sorting`.
    pub fn away(schema: SchemaRef, sorting: Sorting, rows: &[usize], load: Load) -> Self {
        let mut starts = vec![0];
        starts.extend(rows.iter().scan(0, |end, rows| {
            *end += rows;
            Some(*end)
        }));
        Sorted { schema, rows: Rows::Away(Away { sorting, starts, load, kept: Mutex::default() }) }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        match &self.rows {
            Rows::Here(ordered) => ordered.order.len(),
            Rows::Away(away) => away.starts.last().copied().unwrap_or(0),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of the rows in their order.
    pub fn range(&self, rows: Range<usize>) -> Result<RecordBatch> {
        if rows.is_empty() {
            return Ok(RecordBatch::new_empty(self.schema.clone()));
        }
        match &self.rows {
            Rows::Here(ordered) => ordered.rows(rows).map_err(unequal),
            Rows::Away(away) => {
                let mut pieces = Vec::new();
                let first = away.starts.partition_point(|start| *start <= rows.start) - 1;
                for (range, ends) in away.starts.windows(2).enumerate().skip(first) {
                    let own = rows.start.max(ends[0])..rows.end.min(ends[1]);
                    if ends[0] >= rows.end {
                        break;
                    }
                    if !own.is_empty() {
                        let own = own.start - ends[0]..own.end - ends[0];
                        pieces.push(away.range(range)?.rows(own).map_err(unequal)?);
                    }
                }
                concat_batches(&self.schema, &pieces).map_err(unequal)
            }
        }
    }

    /// All rows in their order.
    pub fn whole(&self) -> Result<RecordBatch> {
        self.range(0..self.len())
    }
}

impl Away {
    fn range(&self, range: usize) -> Result<Arc<Ordered>> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, ordered)) = kept().iter().find(|(number, _)| *number == range) {
            return Ok(ordered.clone());
        }
        let ordered = Arc::new(Ordered::new(self.sorting, (self.load)(range)?, ONE_BY_ONE));
        let mut kept = kept();
        kept.push_back((range, ordered.clone()));
        if kept.len() > RANGES_KEPT {
            kept.pop_front();
        }
        Ok(ordered)
    }
}

impl Default for Sorted {
    fn default() -> Self {
        Sorted { schema: Arc::new(Schema::empty()), rows: Rows::Here(Ordered::default()) }
    }
}

const ONE_BY_ONE: Spread<'_> = &|ranges, sort| ranges.map(sort).collect();

fn unequal(error: ArrowError) -> crate::error::Error {
    crate::error::Error::Output(crate::error::Problem::new(
        "a table of the answer",
        "columns of equal length, and less than 2 GiB of ids at once",
        error.to_string(),
        "report this: it is a fault of copresence",
    ))
}

/// Where ranges of a table begin.
#[derive(Debug, Clone, Default)]
pub struct Ranges(Vec<(i64, PersonId)>);

/// Some rows of a table, in their order.
#[derive(Debug)]
pub struct Run {
    sorting: Sorting,
    rows: Ordered,
}

impl Run {
    /// Sorts batches on this thread.
    pub fn new(sorting: Sorting, batches: Vec<RecordBatch>) -> Self {
        Run { sorting, rows: Ordered::new(sorting, batches, ONE_BY_ONE) }
    }

    /// Ranges, so many at most, that have about as many of these rows each.
    pub fn ranges(&self, most: usize) -> Ranges {
        let rows = self.rows.order.len();
        let mut bounds: Vec<(i64, PersonId)> = (1..most)
            .map(|range| rows * range / most)
            .filter(|row| *row < rows)
            .map(|row| {
                let (rank, person) = self.key(self.rows.order[row]);
                (rank, person.to_id())
            })
            .collect();
        bounds.dedup();
        Ranges(bounds)
    }

    /// How many of the rows each range has, and these rows, range by range.
    pub fn parted(
        &self,
        ranges: &Ranges,
    ) -> (Vec<usize>, impl Iterator<Item = std::result::Result<RecordBatch, ArrowError>>) {
        let order = &self.rows.order;
        let below = |(rank, person): &(i64, PersonId)| {
            order.partition_point(|row| self.key(*row) < (*rank, person.as_ref()))
        };
        let mut ends: Vec<usize> = ranges.0.iter().map(below).collect();
        ends.push(order.len());
        let starts = std::iter::once(0).chain(ends.clone());
        let rows: Vec<Range<usize>> = starts.zip(ends).map(|(start, end)| start..end).collect();
        (rows.iter().map(ExactSizeIterator::len).collect(), rows.into_iter().map(|rows| self.rows.rows(rows)))
    }

    fn key(&self, (batch, row): Row) -> (i64, PersonRef<'_>) {
        let (batch, row) = (&self.rows.batches[batch as usize], row as usize);
        let rank = match self.sorting {
            Sorting::Person(_) => 0,
            Sorting::SecondsDown(column) => SecondsDown::of(batch, column).at(row),
        };
        (rank, Persons::of(batch.column(0)).at(row))
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
