//! What a sweep found, as files: a row for each set of values, in their order.

use super::output::Staging;
use super::results::SCHEMA_VERSION;
use crate::config::Config;
use crate::error::Result;
use crate::resolve::Found;
use crate::sweep::{Estimate, Score, Vary};
use crate::truth::{Bin, Foretold, Reliability};
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::csv::WriterBuilder;
use arrow::datatypes::{Field, Schema};
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
pub const FILES: [&str; 5] = ["sweep.parquet", "sweep.csv", "reliability.parquet", "reliability.csv", LAST];
/// What was asked, and what it took.
pub const LAST: &str = "sweep.json";

/// What a set of values gives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// Whom it makes candidates.
    pub found: Found,
    /// Exposures of everyone.
    pub exposures: u64,
    /// Encounters of everyone.
    pub encounters: u64,
    /// How the candidates stand to the truth, where that is known.
    pub score: Option<Score>,
    /// How what the rule foretells comes true, likewise.
    pub reliability: Option<Reliability>,
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
    let scores: Vec<Score> = rows.iter().filter_map(|row| row.score).collect();
    if !scores.is_empty() && scores.len() == rows.len() {
        columns.extend(score_columns(&scores, rows));
    }
    let nullable =
        |(name, column): (&str, ArrayRef)| Field::new(name, column.data_type().clone(), column.is_nullable());
    let fields: Vec<Field> = columns.iter().cloned().map(nullable).collect();
    RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns.into_iter().map(|(_, column)| column).collect(),
    )
}

/// A number, or nothing where there is none to be had.
fn optional(values: impl Iterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(values.map(|value| value.filter(|value| value.is_finite())).collect::<Float64Array>())
}

fn score_columns(scores: &[Score], rows: &[Row]) -> Vec<(&'static str, ArrayRef)> {
    let counts = |of: fn(&Score) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(scores.iter().map(of)))
    };
    let mut columns = vec![
        ("true_positives", counts(|s| s.right)),
        ("false_positives", counts(|s| s.wrong)),
        ("false_negatives", counts(|s| s.missed)),
    ];
    let mut add = |[value, low, high]: [&'static str; 3], of: fn(&Score) -> Estimate| {
        columns.push((value, optional(scores.iter().map(|s| Some(of(s).value)))));
        columns.push((low, optional(scores.iter().map(|s| Some(of(s).low)))));
        columns.push((high, optional(scores.iter().map(|s| Some(of(s).high)))));
    };
    add(["precision", "precision_low", "precision_high"], |s| s.precision);
    add(["recall", "recall_low", "recall_high"], |s| s.recall);
    add(["f1", "f1_low", "f1_high"], |s| s.f1);
    let notified =
        ["notified_per_true_contact", "notified_per_true_contact_low", "notified_per_true_contact_high"];
    add(notified, |s| s.notified_per_true_contact);
    columns.push(("recall_of_phones", optional(scores.iter().map(|s| s.recall_of_phones))));
    columns.push(("recall_of_infected", optional(scores.iter().map(|s| s.recall_of_infected))));
    let brier = |what: Foretold| {
        optional(rows.iter().map(move |row| row.reliability.as_ref().and_then(|r| r.brier(what))))
    };
    columns.push(("brier_probability", brier(Foretold::AtPings)));
    columns.push(("brier_risk", brier(Foretold::Risk)));
    columns
}

/// How what the rules foretell comes true, bin by bin: of each set of values, by its row in the table of sets, that foretells otherwise
/// than the one before.
pub fn reliability(rows: &[Row]) -> std::result::Result<Option<RecordBatch>, ArrowError> {
    let mut found: Vec<(u64, Foretold, f64, f64, Bin)> = Vec::new();
    let mut seen: Vec<&Reliability> = Vec::new();
    for (set, reliability) in (0..).zip(rows).filter_map(|(set, row)| Some((set, row.reliability.as_ref()?)))
    {
        if seen.contains(&reliability) {
            continue;
        }
        seen.push(reliability);
        for (what, bins) in Foretold::ALL.into_iter().zip(&reliability.0) {
            let ends = what.bins().iter().copied().skip(1).chain([1.0]);
            for ((bin, from), to) in
                bins.iter().zip(what.bins()).zip(ends).filter(|((bin, _), _)| bin.count > 0)
            {
                found.push((set, what, *from, to, *bin));
            }
        }
    }
    if found.is_empty() {
        return Ok(None);
    }
    let numbers = |of: fn(&(u64, Foretold, f64, f64, Bin)) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(found.iter().map(of)))
    };
    let counts = |of: fn(&(u64, Foretold, f64, f64, Bin)) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(found.iter().map(of)))
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("set", counts(|row| row.0)),
        ("foretold", Arc::new(StringArray::from_iter_values(found.iter().map(|row| row.1.name())))),
        ("from", numbers(|row| row.2)),
        ("to", numbers(|row| row.3)),
        ("count", counts(|row| row.4.count)),
        ("mean_foretold", numbers(|row| row.4.mean())),
        ("happened_share", numbers(|row| row.4.happened as f64 / row.4.count as f64)),
    ];
    RecordBatch::try_from_iter(columns).map(Some)
}

/// Writes the tables, and what `says` of them.
pub fn write(
    staging: &Staging,
    config: &Config,
    table: &RecordBatch,
    reliability: Option<&RecordBatch>,
    says: &Value,
) -> Result<()> {
    let [parquet, csv, more_parquet, more_csv, last] = FILES;
    write_table(staging, config, (parquet, csv), table)?;
    if let Some(reliability) = reliability {
        write_table(staging, config, (more_parquet, more_csv), reliability)?;
    }
    std::fs::write(staging.path(last), format!("{says:#}\n")).map_err(|e| staging.failed(last, &e))
}

fn write_table(
    staging: &Staging,
    config: &Config,
    (parquet, csv): (&str, &str),
    table: &RecordBatch,
) -> Result<()> {
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
    text.write(table).map_err(|e| wrong(csv, e.to_string()))
}
