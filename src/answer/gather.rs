//! Rows of many batches in another order. Numbers and flags that follow one another are copied piece by piece.

use super::sorted::Row;
use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, make_array,
    new_empty_array,
};
use arrow::buffer::Buffer;
use arrow::compute::{concat, interleave};
use arrow::datatypes::{ArrowNativeType, DataType};
use arrow::error::ArrowError;
use std::sync::Arc;

/// Rows that are copied at once, whether or not a piece has so many: that costs less than asking how many it has.
const STEP_ROWS: usize = 8;
/// The same of what is no plain number: rows on average.
const PIECE_ROWS: usize = 64;

/// So many rows of a batch that follow one another.
struct Piece {
    batch: usize,
    first: usize,
    rows: usize,
}

/// These rows of batches that have the same columns.
pub fn gather(batches: &[RecordBatch], order: &[Row]) -> Result<RecordBatch, ArrowError> {
    // Of many batches few may have rows here.
    let mut used: Vec<&RecordBatch> = Vec::new();
    let mut number_of: Vec<Option<usize>> = vec![None; batches.len()];
    let follows = |(batch, row): &Row, next: &Row| *next == (*batch, row + 1);
    let piece = |rows: &[Row]| {
        let (batch, first) = (rows[0].0 as usize, rows[0].1 as usize);
        let number = *number_of[batch].get_or_insert_with(|| {
            used.push(&batches[batch]);
            used.len() - 1
        });
        Piece { batch: number, first, rows: rows.len() }
    };
    let pieces: Vec<Piece> = order.chunk_by(follows).map(piece).collect();
    let schema = batches[0].schema();
    let columns = (0..schema.fields().len()).map(|number| {
        let columns: Vec<&ArrayRef> = used.iter().map(|batch| batch.column(number)).collect();
        let has_nulls = columns.iter().any(|column| column.null_count() > 0);
        let kind = schema.field(number).data_type();
        match kind.primitive_width() {
            _ if columns.is_empty() => Ok(new_empty_array(kind)),
            _ if has_nulls => others(&columns, &pieces, order.len()),
            None if *kind == DataType::Boolean => Ok(flags(&columns, &pieces, order.len())),
            Some(1) => numbers::<u8>(kind, &columns, &pieces, order.len()),
            Some(4) => numbers::<u32>(kind, &columns, &pieces, order.len()),
            Some(8) => numbers::<u64>(kind, &columns, &pieces, order.len()),
            _ => others(&columns, &pieces, order.len()),
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)
}

/// What is no plain number.
fn others(columns: &[&ArrayRef], pieces: &[Piece], rows: usize) -> Result<ArrayRef, ArrowError> {
    if pieces.len() * PIECE_ROWS <= rows {
        let slices: Vec<ArrayRef> = pieces.iter().map(|p| columns[p.batch].slice(p.first, p.rows)).collect();
        return concat(&slices.iter().map(AsRef::as_ref).collect::<Vec<_>>());
    }
    let columns: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
    let rows: Vec<(usize, usize)> =
        pieces.iter().flat_map(|p| (p.first..p.first + p.rows).map(|row| (p.batch, row))).collect();
    interleave(&columns, &rows)
}

/// Numbers of the width of `T`, whatever they mean.
fn numbers<T: ArrowNativeType>(
    kind: &DataType,
    columns: &[&ArrayRef],
    pieces: &[Piece],
    rows: usize,
) -> Result<ArrayRef, ArrowError> {
    let all: Vec<ArrayData> = columns.iter().map(|column| column.to_data()).collect();
    let numbers: Vec<&[T]> = all.iter().map(|data| data.buffer::<T>(0)).collect();
    let mut gathered: Vec<T> = vec![T::default(); rows];
    let mut at = 0;
    for Piece { batch, first, rows } in pieces {
        let end = at + rows;
        let (from, to) = (&numbers[*batch][*first..], &mut gathered[at..]);
        match (from.first_chunk::<STEP_ROWS>(), to.first_chunk_mut::<STEP_ROWS>()) {
            // What is too much is written over by the next piece.
            (Some(from), Some(to)) if *rows <= STEP_ROWS => *to = *from,
            _ => to[..*rows].copy_from_slice(&from[..*rows]),
        }
        at = end;
    }
    let gathered = vec![Buffer::from_vec(gathered)];
    Ok(make_array(ArrayData::try_new(kind.clone(), rows, None, 0, gathered, Vec::new())?))
}

fn flags(columns: &[&ArrayRef], pieces: &[Piece], rows: usize) -> ArrayRef {
    let mut gathered = BooleanBufferBuilder::new(rows);
    for Piece { batch, first, rows } in pieces {
        gathered.append_buffer(&columns[*batch].as_boolean().values().slice(*first, *rows));
    }
    Arc::new(BooleanArray::new(gathered.finish(), None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array, StringArray};
    use arrow::compute::interleave_record_batch;
    use proptest::prelude::*;

    fn batch(rows: &[(i64, bool, Option<f64>, Option<String>)]) -> RecordBatch {
        let columns: [(&str, ArrayRef); 4] = [
            ("whole", Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>())),
            ("flag", Arc::new(rows.iter().map(|r| Some(r.1)).collect::<BooleanArray>())),
            ("number", Arc::new(rows.iter().map(|r| r.2).collect::<Float64Array>())),
            ("word", Arc::new(rows.iter().map(|r| r.3.clone()).collect::<StringArray>())),
        ];
        let columns = columns.map(|(name, column)| (name, column, true));
        RecordBatch::try_from_iter_with_nullable(columns).expect("columns of equal length")
    }

    proptest! {
        #[test]
        fn what_is_gathered_is_what_stood_there(
            rows in prop::collection::vec(
                prop::collection::vec((any::<i64>(), any::<bool>(), any::<Option<f64>>(), any::<Option<String>>()), 1..400),
                1..5,
            ),
            skipped in 0usize..9,
            pieces in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1usize..200), 1..30),
        ) {
            // Also of batches that are slices of others.
            let whole = |rows: &Vec<_>| batch(rows);
            let sliced = |all: RecordBatch| all.slice(skipped.min(all.num_rows() - 1), all.num_rows() - skipped.min(all.num_rows() - 1));
            let batches: Vec<RecordBatch> = rows.iter().map(whole).map(sliced).collect();
            let mut order: Vec<Row> = Vec::new();
            for (batch, first, rows) in pieces {
                let batch = batch.index(batches.len());
                let first = first.index(batches[batch].num_rows());
                let end = batches[batch].num_rows().min(first + rows);
                order.extend((first..end).map(|row| (batch as u32, row as u32)));
            }
            let all: Vec<&RecordBatch> = batches.iter().collect();
            let expected: Vec<(usize, usize)> = order.iter().map(|(b, r)| (*b as usize, *r as usize)).collect();
            prop_assert_eq!(gather(&batches, &order)?, interleave_record_batch(&all, &expected)?);
        }
    }
}
