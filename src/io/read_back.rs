//! The tables of an output folder, read back.

use super::files::{guarded, unreadable};
use super::storage::{self, Opened};
use crate::error::{Error, Problem, Result};
use crate::person::{PersonId, PersonType, Persons};
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, TimeUnit};
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::io::ErrorKind;
use std::path::Path;

fn problem(place: &str, found: String) -> Error {
    let cure =
        storage::cure_of_reading(Path::new(place), &found).unwrap_or("give the folder that a run wrote");
    Error::Input(Problem::new(place, "a table of an output folder of copresence", found, cure))
}

/// Opens a table of an output folder and does something with it.
fn with_table<T>(
    folder: &Path,
    name: &str,
    read: impl FnOnce(ParquetRecordBatchReaderBuilder<Opened>) -> std::result::Result<T, String>,
) -> Result<T> {
    let path = folder.join(name);
    let failed = |found: String| problem(&path.display().to_string(), found);
    let opened = storage::size(&path).and_then(|bytes| Opened::open(&path, bytes));
    let file = opened.map_err(|e| match e.kind() {
        ErrorKind::NotFound => failed(e.to_string()),
        _ => unreadable(&path.display().to_string(), &e),
    })?;
    let opened =
        guarded(|| ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| e.to_string()).and_then(read));
    match opened {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(why)) => Err(failed(why)),
        Err(_) => Err(failed("bytes that are no table".into())),
    }
}

/// Reads a table whole.
pub fn table(folder: &Path, name: &str) -> Result<Vec<RecordBatch>> {
    with_table(folder, name, |builder| {
        let reader = builder.build().map_err(|e| e.to_string())?;
        reader.collect::<std::result::Result<Vec<_>, _>>().map_err(|e| e.to_string())
    })
}

/// The type of person_id in a table.
pub fn person_type(folder: &Path, name: &str) -> Result<Option<PersonType>> {
    with_table(folder, name, |builder| {
        Ok(builder.schema().field_with_name("person_id").ok().and_then(|f| PersonType::of(f.data_type())))
    })
}

/// Rows of one person in a table of an output folder.
pub fn rows_of(batches: &[RecordBatch], person: &PersonId) -> Result<Vec<RecordBatch>> {
    let mut found = Vec::new();
    for batch in batches {
        let column = batch.column_by_name("person_id");
        let Some((column, kind)) = column.and_then(|c| PersonType::of(c.data_type()).map(|kind| (c, kind)))
        else {
            continue;
        };
        let failed = |e: ArrowError| problem("a table", e.to_string());
        let inner = kind.adopt(column).map_err(failed)?;
        let persons = Persons::of(&inner);
        let wanted: BooleanArray =
            (0..persons.len()).map(|row| Some(persons.at(row) == person.as_ref())).collect();
        let rows = filter_record_batch(batch, &wanted).map_err(failed)?;
        if rows.num_rows() > 0 {
            found.push(rows);
        }
    }
    Ok(found)
}

/// The type of times in outputs.
pub fn stamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}
