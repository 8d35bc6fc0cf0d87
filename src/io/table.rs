//! Small tables, read whole from Parquet, CSV or GeoJSON: cases, towers, venues, areas.

use super::columns::{NoTime, Role, Times, ambiguous, missing, numbers, texts, wrong_type};
use super::files::{Input, guarded, open_parquet, resolve};
use crate::error::{Error, Problem, Result};
use crate::time::{DAY_MS, Edge, Millis, NoInstant, TimeUnit, Tz, parse};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Date32Type, Field, Schema, Time32MillisecondType};
use chrono::Timelike;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// One file of a small table.
#[derive(Debug, Clone)]
pub struct Table {
    /// The file.
    pub input: Input,
    batch: RecordBatch,
    /// The line of each row, for CSV.
    lines: Vec<u64>,
    columns: BTreeMap<String, String>,
    /// `cases`, as messages name the table.
    label: String,
}

/// Reads every file of a table. `columns` maps names here to names there.
pub fn read(base: &Path, path: &str, label: &str, columns: &BTreeMap<String, String>) -> Result<Vec<Table>> {
    let inputs = resolve(base, path, &format!("{label}.path"))?;
    inputs
        .into_iter()
        .map(|input| {
            let (batch, lines) = match () {
                () if ends_with(&input, &["csv"]) => read_csv(&input)?,
                () if ends_with(&input, &GEOJSON) => (read_geojson(&input)?, Vec::new()),
                () => (read_parquet(&input)?, Vec::new()),
            };
            Ok(Table { input, batch, lines, columns: columns.clone(), label: label.to_string() })
        })
        .collect()
}

fn read_parquet(input: &Input) -> Result<RecordBatch> {
    let metadata = open_parquet(input)?;
    let broken = |why: String| {
        Error::Input(Problem::new(
            &*input.name,
            "a Parquet file that can be decoded",
            why,
            "write the file again",
        ))
    };
    let file = input.open()?;
    let schema = metadata.schema().clone();
    let decoded = guarded(|| -> std::result::Result<RecordBatch, String> {
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
            .build()
            .map_err(|e| e.to_string())?;
        let batches: Vec<RecordBatch> =
            reader.collect::<std::result::Result<_, _>>().map_err(|e| e.to_string())?;
        concat_batches(&schema, &batches).map_err(|e| e.to_string())
    });
    match decoded {
        Ok(Ok(batch)) => Ok(batch),
        Ok(Err(why)) => Err(broken(why)),
        Err(_) => Err(broken("bytes that are no column".to_string())),
    }
}

fn read_csv(input: &Input) -> Result<(RecordBatch, Vec<u64>)> {
    let bytes = input.read()?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let problem = |place: String, found: String| {
        Error::Input(Problem::new(
            place,
            "a CSV file in UTF-8 with a header and as many fields in each line",
            found,
            "mend the line",
        ))
    };
    let line = |e: &csv::Error| match e.position() {
        Some(at) => format!("{}, line {}", input.name, at.line()),
        None => input.name.clone(),
    };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let header =
        reader.headers().map_err(|e| problem(line(&e), "bytes that are no UTF-8".to_string()))?.clone();
    if header.is_empty() {
        return Err(problem(input.name.clone(), "an empty file".to_string()));
    }
    let mut cells: Vec<Vec<Option<String>>> = vec![Vec::new(); header.len()];
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| {
            let found = match e.kind() {
                csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                    format!("{len} fields, not {expected_len}")
                }
                csv::ErrorKind::Utf8 { .. } => "bytes that are no UTF-8".to_string(),
                _ => "a line that cannot be read".to_string(),
            };
            problem(line(&e), found)
        })?;
        lines.push(record.position().map_or(0, csv::Position::line));
        for (column, cell) in cells.iter_mut().zip(&record) {
            column.push((!cell.is_empty()).then(|| cell.to_string()));
        }
    }
    let fields: Vec<Field> = header.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
    let columns = cells.into_iter().map(|c| Arc::new(StringArray::from(c)) as ArrayRef).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|e| problem(input.name.clone(), e.to_string()))?;
    Ok((batch, lines))
}

/// How names of files with GeoJSON end.
const GEOJSON: [&str; 2] = ["geojson", "json"];

fn ends_with(input: &Input, endings: &[&str]) -> bool {
    let ending = input.path.extension();
    ending.is_some_and(|ending| endings.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// The features of a GeoJSON file: their properties as text, and each one's geometry as GeoJSON.
fn read_geojson(input: &Input) -> Result<RecordBatch> {
    let problem = |place: String, found: String| {
        let expected = "GeoJSON (RFC 7946): a FeatureCollection, a Feature, or a geometry";
        Error::Input(Problem::new(place, expected, found, "mend the file"))
    };
    let text = String::from_utf8(input.read()?)
        .map_err(|_| problem(input.name.clone(), "bytes that are no UTF-8".into()))?;
    let read: Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|e| problem(format!("{}, line {}", input.name, e.line()), e.to_string()))?;
    let features = match read["type"].as_str() {
        Some("FeatureCollection") => read["features"].as_array().cloned(),
        Some("Feature") => Some(vec![read]),
        Some("Polygon" | "MultiPolygon") => Some(vec![json!({ "geometry": read })]),
        _ => None,
    };
    let Some(features) = features else {
        return Err(problem(input.name.clone(), "another kind of JSON".to_string()));
    };
    let mut names: Vec<String> = Vec::new();
    for name in features.iter().filter_map(|f| f["properties"].as_object()).flat_map(|p| p.keys()) {
        if !names.contains(name) && name != "geometry" {
            names.push(name.clone());
        }
    }
    let cell = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        other => Some(other.to_string()),
    };
    let column = |value: &dyn Fn(&Value) -> Option<String>| -> ArrayRef {
        Arc::new(features.iter().map(value).collect::<StringArray>())
    };
    let mut columns = vec![column(&|f| cell(&f["geometry"]))];
    columns.extend(names.iter().map(|name| column(&|f| cell(&f["properties"][name]))));
    let names = std::iter::once("geometry").chain(names.iter().map(String::as_str));
    let fields: Vec<Field> = names.map(|name| Field::new(name, DataType::Utf8, true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|e| problem(input.name.clone(), e.to_string()))
}

impl Table {
    /// Rows.
    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// `cases.parquet, row 3`, rows counting from 0, or `cases.csv, line 5`.
    pub fn place(&self, row: usize) -> String {
        match self.lines.get(row) {
            Some(line) => format!("{}, line {line}", self.input.name),
            None => format!("{}, row {row}", self.input.name),
        }
    }

    /// The column that stands for `name`, if the file has it; a column that the job file names must be there.
    pub fn optional(&self, name: &str) -> Result<Option<&ArrayRef>> {
        let theirs = self.columns.get(name).map_or(name, String::as_str);
        if self.batch.schema_ref().fields().iter().filter(|f| f.name() == theirs).count() > 1 {
            return Err(ambiguous(&self.input.name, theirs));
        }
        match self.batch.column_by_name(theirs) {
            Some(column) => Ok(Some(column)),
            None if self.columns.contains_key(name) => {
                Err(missing(&self.input.name, name, theirs, self.batch.schema_ref(), &self.label))
            }
            None => Ok(None),
        }
    }

    /// The column that stands for `name`, which must be there.
    pub fn required(&self, name: &str) -> Result<&ArrayRef> {
        self.optional(name)?.ok_or_else(|| {
            // What stands in the place of a header may be somebody's id: it is not shown.
            let known = self.batch.schema_ref().fields().iter().any(|f| {
                ["case_id", "person_id", "tower_id", "venue_id", "area_id", "geometry"]
                    .contains(&f.name().as_str())
                    || self.columns.values().any(|theirs| theirs == f.name())
            });
            if self.is_text_file() && !known {
                return Error::Input(Problem::new(
                    &*self.input.name,
                    format!("a header that names the columns, {name} among them"),
                    "a first line without any of their names",
                    "write the names of the columns in the first line",
                ));
            }
            missing(&self.input.name, name, name, self.batch.schema_ref(), &self.label)
        })
    }

    fn typed<T>(
        &self,
        name: &str,
        column: &ArrayRef,
        role: Role,
        read: impl FnOnce(&ArrayRef) -> std::result::Result<T, arrow::error::ArrowError>,
    ) -> Result<T> {
        let wrong = |expected| wrong_type(&self.input.name, name, expected, column.data_type());
        role.accepts(column.data_type()).map_err(wrong)?;
        read(column).map_err(|_| wrong("a column that can be decoded"))
    }

    /// Ids or names.
    pub fn texts(&self, name: &str, column: &ArrayRef) -> Result<StringArray> {
        self.typed(name, column, Role::Text, texts)
    }

    /// Numbers; a text of CSV is read as one, NaN where it is none.
    pub fn numbers(&self, name: &str, column: &ArrayRef) -> Result<Vec<Option<f64>>> {
        if let Some(texts) = column.as_string_opt::<i32>() {
            return Ok(texts.iter().map(|t| t.map(|t| t.parse().unwrap_or(f64::NAN))).collect());
        }
        Ok(self.typed(name, column, Role::Number, numbers)?.iter().collect())
    }

    /// Yes or no, by row: booleans, or texts and integers that say so.
    pub fn flags(&self, name: &str, column: &ArrayRef) -> Result<Vec<Option<bool>>> {
        if let Some(flags) = column.as_boolean_opt() {
            return Ok(flags.iter().collect());
        }
        let texts = self.texts(name, column)?;
        let flag = |(row, text): (usize, Option<&str>)| match text.map(str::trim).filter(|t| !t.is_empty()) {
            None => Ok(None),
            Some("true" | "True" | "TRUE" | "1" | "yes") => Ok(Some(true)),
            Some("false" | "False" | "FALSE" | "0" | "no") => Ok(Some(false)),
            Some(other) => Err(Error::Input(Problem::new(
                format!("{}, column {name}", self.place(row)),
                "true or false",
                format!("\"{other}\""),
                "write true or false, or leave the cell empty where it is not known",
            ))),
        };
        texts.iter().enumerate().map(flag).collect()
    }

    /// Times of day in milliseconds, by row: a time, or a text such as 22:00; 24:00 is midnight. `Err` of what is neither.
    pub fn times_of_day(
        &self,
        name: &str,
        column: &ArrayRef,
    ) -> Result<Vec<std::result::Result<Option<u32>, NoTime>>> {
        if matches!(column.data_type(), DataType::Time32(_) | DataType::Time64(_)) {
            let wrong = |_| wrong_type(&self.input.name, name, "a time of day", column.data_type());
            let times =
                cast(column, &DataType::Time32(arrow::datatypes::TimeUnit::Millisecond)).map_err(wrong)?;
            let times = times.as_primitive::<Time32MillisecondType>();
            return Ok(times.iter().map(|ms| Ok(ms.map(|ms| ms as u32))).collect());
        }
        let texts = self.texts(name, column)?;
        let time = |text: Option<&str>| match text.map(str::trim).filter(|t| !t.is_empty()) {
            None => Ok(None),
            Some("24:00" | "24:00:00") => Ok(Some(DAY_MS as u32)),
            Some(text) => {
                let read = ["%H:%M", "%H:%M:%S"]
                    .into_iter()
                    .find_map(|format| chrono::NaiveTime::parse_from_str(text, format).ok());
                read.map(|t| Some(t.num_seconds_from_midnight() * 1_000)).ok_or(NoTime::Unreadable)
            }
        };
        Ok(texts.iter().map(time).collect())
    }

    /// Instants, by row: timestamps, days, or texts of either.
    pub fn times(
        &self,
        name: &str,
        edge: Edge,
        zone: Option<Tz>,
    ) -> Result<Vec<std::result::Result<Millis, NoTime>>> {
        let Some(column) = self.optional(name)? else { return Ok(vec![Err(NoTime::Missing); self.rows()]) };
        let expected = "a timestamp, a date, or a text such as 2022-03-21 or 2022-03-21T10:00:00+08:00";
        let wrong = || wrong_type(&self.input.name, name, expected, column.data_type());
        let no_zone = || {
            Error::Job(Problem::new(
                format!("{}, column {name}", self.input.name),
                "a time_zone in [job], since these times name no zone",
                "no time_zone",
                "add time_zone = \"...\" to [job]",
            ))
        };
        match column.data_type() {
            DataType::Null => Ok(vec![Err(NoTime::Missing); self.rows()]),
            DataType::Date32 | DataType::Date64 => {
                let days = cast(column, &DataType::Date32).map_err(|_| wrong())?;
                let days = days.as_primitive::<Date32Type>();
                let zone = zone.ok_or_else(no_zone)?;
                let instant = |day: i32| {
                    let date = Date32Type::to_naive_date_opt(day).ok_or(NoTime::Unreadable)?;
                    crate::time::date_edge(date, edge, zone).ok_or(NoTime::NotInZone)
                };
                Ok(days.iter().map(|d| d.map_or(Err(NoTime::Missing), instant)).collect())
            }
            DataType::Timestamp(_, stamped) => {
                let clock = match (
                    super::columns::clock(&self.input.name, name, column.data_type(), None, zone, ""),
                    stamped,
                ) {
                    (Ok(clock), _) => clock,
                    (Err(_), None) => return Err(no_zone()),
                    (Err(e), Some(_)) => return Err(e),
                };
                let times = Times::new(column, clock).map_err(|_| wrong())?;
                Ok((0..column.len()).map(|row| times.at(row)).collect())
            }
            kind if Role::Text.accepts(kind).is_ok() && !kind.is_integer() => {
                let texts = texts(column).map_err(|_| wrong())?;
                let mut instants = Vec::with_capacity(texts.len());
                for text in &texts {
                    let text = text.map(str::trim).filter(|t| !t.is_empty());
                    instants.push(match text.map(|t| parse(t).map(|w| w.instant(edge, zone))) {
                        None => Err(NoTime::Missing),
                        Some(None) => Err(NoTime::Unreadable),
                        Some(Some(Ok(at))) => TimeUnit::Ms.millis(at).ok_or(NoTime::Unreadable),
                        Some(Some(Err(NoInstant::NotInZone))) => Err(NoTime::NotInZone),
                        Some(Some(Err(NoInstant::ZoneUnknown))) => return Err(no_zone()),
                    });
                }
                Ok(instants)
            }
            _ => Err(wrong()),
        }
    }

    /// Whether all its cells are text, CSV having no types.
    pub fn is_text_file(&self) -> bool {
        ends_with(&self.input, &["csv"]) || self.is_geojson()
    }

    /// Whether it is GeoJSON, whose geometries are in WGS84.
    pub fn is_geojson(&self) -> bool {
        ends_with(&self.input, &GEOJSON)
    }

    /// What the file calls a column.
    pub fn name_of<'a>(&'a self, name: &'a str) -> &'a str {
        self.columns.get(name).map_or(name, String::as_str)
    }

    /// What the file says of itself under a key.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.batch.schema_ref().metadata().get(key).map(String::as_str)
    }
}
