//! Rows as lines of CSV.

use crate::time::UtcDates;
use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, TimestampMillisecondType};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::fmt::Write as _;

/// Bytes of a field, about, with what ends it.
const FIELD_BYTES: usize = 12;

/// A column on its way to text.
enum Texts<'a> {
    Nulls,
    Words(&'a StringArray, Word<'a>),
    Whole(&'a Int64Array, itoa::Buffer),
    Times(&'a TimestampMillisecondArray, UtcDates),
    Other(ArrayFormatter<'a>, String),
}

/// A word as CSV has it, the last that came: many come in a row.
#[derive(Default)]
struct Word<'a> {
    plain: &'a str,
    quoted: String,
}

impl<'a> Texts<'a> {
    fn of(column: &'a ArrayRef) -> Result<Self, ArrowError> {
        Ok(match column.data_type() {
            _ if column.null_count() == column.len() => Texts::Nulls,
            DataType::Utf8 => Texts::Words(column.as_string(), Word::default()),
            DataType::Int64 => Texts::Whole(column.as_primitive(), itoa::Buffer::new()),
            DataType::Timestamp(_, Some(zone)) if zone.as_ref() == "UTC" => {
                Texts::Times(column.as_primitive::<TimestampMillisecondType>(), UtcDates::default())
            }
            _ => {
                let formatter = ArrayFormatter::try_new(column.as_ref(), &FormatOptions::default())?;
                Texts::Other(formatter, String::new())
            }
        })
    }

    /// Adds a field to a line; of null nothing.
    fn add(&mut self, row: usize, line: &mut String) -> Result<(), ArrowError> {
        match self {
            Texts::Words(column, word) if column.is_valid(row) => word.add(column.value(row), line)?,
            Texts::Whole(column, digits) if column.is_valid(row) => {
                line.push_str(digits.format(column.value(row)));
            }
            Texts::Times(column, dates) if column.is_valid(row) => dates.push(column.value(row), line),
            Texts::Nulls | Texts::Words(..) | Texts::Whole(..) | Texts::Times(..) => {}
            Texts::Other(column, text) => {
                text.clear();
                write!(text, "{}", column.value(row)).map_err(|e| ArrowError::CsvError(e.to_string()))?;
                add_word(text, line)?;
            }
        }
        Ok(())
    }
}

impl<'a> Word<'a> {
    fn add(&mut self, word: &'a str, line: &mut String) -> Result<(), ArrowError> {
        if self.plain != word {
            self.plain = word;
            self.quoted.clear();
            add_word(word, &mut self.quoted)?;
        }
        line.push_str(&self.quoted);
        Ok(())
    }
}

/// Adds a word, in quotes where it needs them.
fn add_word(word: &str, line: &mut String) -> Result<(), ArrowError> {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b' ');
    if word.bytes().all(is_plain) {
        line.push_str(word);
        return Ok(());
    }
    let wrong = ArrowError::CsvError;
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Beside another field, as one alone is never without quotes.
    writer.write_record([word, ""]).map_err(|e| wrong(e.to_string()))?;
    let quoted = writer.into_inner().map_err(|e| wrong(e.error().to_string()))?;
    let quoted = String::from_utf8(quoted).map_err(|e| wrong(e.to_string()))?;
    line.push_str(quoted.strip_suffix(",\n").unwrap_or(&quoted));
    Ok(())
}

/// The rows of a batch, a line each.
pub fn lines(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut columns: Vec<Texts<'_>> =
        batch.columns().iter().map(Texts::of).collect::<Result<_, ArrowError>>()?;
    let mut lines = String::with_capacity(batch.num_rows() * columns.len() * FIELD_BYTES);
    for row in 0..batch.num_rows() {
        for (at, column) in columns.iter_mut().enumerate() {
            if at > 0 {
                lines.push(',');
            }
            column.add(row, &mut lines)?;
        }
        lines.push('\n');
    }
    Ok(lines.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, UInt64Array};
    use proptest::prelude::*;
    use std::sync::Arc;

    proptest! {
        #[test]
        fn lines_are_those_of_the_library(
            rows in prop::collection::vec(
                (prop::option::of("[a-c,\"\n\r é#-]{0,4}"), prop::option::of(any::<i64>()), any::<u64>()),
                1..20,
            ),
        ) {
            let words: ArrayRef = Arc::new(rows.iter().map(|r| r.0.clone()).collect::<StringArray>());
            let whole: ArrayRef = Arc::new(rows.iter().map(|r| r.1).collect::<Int64Array>());
            let other: ArrayRef = Arc::new(rows.iter().map(|r| r.2).collect::<UInt64Array>());
            let none: ArrayRef = Arc::new(rows.iter().map(|_| None::<f64>).collect::<Float64Array>());
            let columns = [("word", words), ("whole", whole), ("other", other), ("none", none)];
            let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true)))?;
            let mut writer = csv::Writer::from_writer(Vec::new());
            for (word, whole, other) in rows {
                let whole = whole.map_or(String::new(), |v| v.to_string());
                let fields = [word.unwrap_or_default(), whole, other.to_string(), String::new()];
                writer.write_record(fields).expect("a line");
            }
            let expected = writer.into_inner().expect("all lines");
            prop_assert_eq!(String::from_utf8(lines(&batch)?), String::from_utf8(expected));
        }
    }
}
