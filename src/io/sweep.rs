//! What a sweep found, as files: a row for each set of values, in their order.

use super::output::Staging;
use super::results::SCHEMA_VERSION;
use crate::config::Config;
use crate::error::Result;
use crate::resolve::Found;
use crate::sweep::Vary;
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::csv::WriterBuilder;
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde_json::Value;
use std::fs::File;
use std::io::BufWriter;
use std::sync::Arc;

/// The files of a sweep; the last makes it one.
pub const FILES: [&str; 3] = ["sweep.parquet", "sweep.csv", LAST];
/// What was asked, and what it took.
pub const LAST: &str = "sweep.json";

/// What a set of values gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Row {
    /// Whom it makes candidates.
    pub found: Found,
    /// Exposures of everyone.
    pub exposures: u64,
    /// Encounters of everyone.
    pub encounters: u64,
}

/// The rows as a table: the keys as they are called in a job, numbers where all values are, then what was found.
pub fn table(
    varied: &[Vary],
    sets: &[Vec<String>],
    rows: &[Row],
) -> std::result::Result<RecordBatch, ArrowError> {
    let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
    for (number, vary) in varied.iter().enumerate() {
        let value = |set: &Vec<String>| set[number][vary.key.len() + 1..].to_string();
        let values: Vec<String> = sets.iter().map(value).collect();
        let numbers: Option<Vec<f64>> = values.iter().map(|value| value.parse().ok()).collect();
        let column: ArrayRef = match numbers {
            Some(numbers) => Arc::new(Float64Array::from(numbers)),
            None => Arc::new(StringArray::from(values)),
        };
        columns.push((&vary.key, column));
    }
    let counts = |of: &dyn Fn(&Row) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(of)))
    };
    columns.push(("encounters", counts(&|row| row.encounters)));
    columns.push(("exposures", counts(&|row| row.exposures)));
    columns.push(("candidates", counts(&|row| row.found.candidates)));
    let digests = rows.iter().map(|row| format!("{:032x}", row.found.digest));
    columns.push(("candidates_digest", Arc::new(StringArray::from_iter_values(digests))));
    RecordBatch::try_from_iter(columns)
}

/// Writes the table, and what `says` of it.
pub fn write(staging: &Staging, config: &Config, table: &RecordBatch, says: &Value) -> Result<()> {
    let [parquet, csv, last] = FILES;
    let wrong = |name: &str, e: String| staging.failed(name, &std::io::Error::other(e));
    let create = |name: &str| File::create(staging.path(name));
    let metadata = [
        ("copresence.purpose", config.purpose.clone()),
        ("copresence.rule", config.rule.to_string()),
        ("copresence.schema_version", SCHEMA_VERSION.to_string()),
    ];
    let metadata = metadata.map(|(key, value)| KeyValue::new(key.to_string(), value)).to_vec();
    let properties = WriterProperties::builder()
        .set_created_by(format!("copresence {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(metadata))
        .build();
    let made = || -> std::result::Result<(), ParquetError> {
        let mut writer =
            ArrowWriter::try_new(BufWriter::new(create(parquet)?), table.schema(), Some(properties))?;
        writer.write(table)?;
        writer.close().map(drop)
    };
    made().map_err(|e| wrong(parquet, e.to_string()))?;
    let file = create(csv).map_err(|e| staging.failed(csv, &e))?;
    let mut text = WriterBuilder::new().with_header(true).build(file);
    text.write(table).map_err(|e| wrong(csv, e.to_string()))?;
    std::fs::write(staging.path(last), format!("{says:#}\n")).map_err(|e| staging.failed(last, &e))
}
