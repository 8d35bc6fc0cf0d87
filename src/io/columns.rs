//! The Arrow types that columns of feeds may have, and their values as the program wants them.

use crate::error::{Error, Problem, Result, nearest};
use crate::time::{Millis, TimeUnit, Tz, local_to_utc};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, Schema, TimeUnit as ArrowUnit, UInt64Type};
use arrow::error::ArrowError;

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A person_id.
    Person,
    /// An instant.
    Time,
    /// Degrees or metres.
    Number,
    /// An id or a name.
    Text,
    /// A number that counts rows or bays.
    Ordinal,
}

impl Role {
    /// Whether a column of this type can serve, and what would.
    pub fn accepts(self, kind: &DataType) -> std::result::Result<(), &'static str> {
        let (good, expected) = match self {
            Role::Person => {
                (crate::person::PersonType::of(kind).is_some(), "a string, a binary or an integer column")
            }
            Role::Time => (
                matches!(kind, DataType::Timestamp(..)) || kind.is_integer(),
                "a timestamp, or an integer with time_unit in the job file",
            ),
            Role::Number => (kind.is_numeric(), "a column of numbers (float32 or float64)"),
            Role::Text => (is_text(kind) || kind.is_integer(), "a string or an integer column"),
            Role::Ordinal => {
                (is_text(kind) || kind.is_numeric(), "an integer column, or a string column of integers")
            }
        };
        // A column of nothing but nulls may have no type at all: all its values are missing.
        if good || kind.is_null() { Ok(()) } else { Err(expected) }
    }
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value) || value.is_integer(),
        _ => false,
    }
}

/// A column that a table should have but has not, with the nearest name. `name` is ours; `theirs` is
/// what the job file calls it in the files.
pub fn missing(file: &str, name: &str, theirs: &str, schema: &Schema, table: &str) -> Error {
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let hint = match nearest(theirs, names.iter().copied()) {
        Some(near) => format!("did you mean {near}? "),
        None => String::new(),
    };
    Error::Input(Problem::new(
        file,
        if name == theirs {
            format!("a column {name}")
        } else {
            format!("a column {theirs}, which stands for {name}")
        },
        format!("columns {}", names.join(", ")),
        format!("{hint}map it in {table} of the job file: columns = {{ {name} = \"...\" }}"),
    ))
}

/// A name that two columns have.
pub fn ambiguous(file: &str, name: &str) -> Error {
    Error::Input(Problem::new(
        format!("{file}, column {name}"),
        "one column of this name",
        "several",
        "write the file with one of them, or map a column of another name",
    ))
}

/// A column of a type that cannot serve.
pub fn wrong_type(file: &str, name: &str, expected: &str, found: &DataType) -> Error {
    Error::Input(Problem::new(
        format!("{file}, column {name}"),
        expected,
        found.to_string(),
        "write the column in such a type, or map another column in the job file",
    ))
}

/// How to read a column of instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Counts since 1970 in UTC.
    Utc(TimeUnit),
    /// Counts of a wall clock.
    Local(TimeUnit, Tz),
}

/// How to read a column of instants: its type, or for integers the job's unit.
pub fn clock(
    file: &str,
    name: &str,
    kind: &DataType,
    unit: Option<TimeUnit>,
    zone: Option<Tz>,
    feed: &str,
) -> Result<Clock> {
    match kind {
        DataType::Timestamp(unit, stamped) => {
            let unit = match unit {
                ArrowUnit::Second => TimeUnit::S,
                ArrowUnit::Millisecond => TimeUnit::Ms,
                ArrowUnit::Microsecond => TimeUnit::Us,
                ArrowUnit::Nanosecond => TimeUnit::Ns,
            };
            match (stamped, zone) {
                (Some(_), _) => Ok(Clock::Utc(unit)),
                (None, Some(zone)) => Ok(Clock::Local(unit, zone)),
                (None, None) => Err(Error::Job(Problem::new(
                    format!("{file}, column {name}"),
                    "a time_zone in [job], since these times name no zone",
                    "no time_zone",
                    "add time_zone = \"...\" to [job]: the zone of the clock that wrote them",
                ))),
            }
        }
        DataType::Null => Ok(Clock::Utc(TimeUnit::Ms)),
        kind if kind.is_integer() => match unit {
            Some(unit) => Ok(Clock::Utc(unit)),
            None => Err(Error::Job(Problem::new(
                format!("{file}, column {name}"),
                format!("time_unit on {feed}, since these times are integers"),
                "no time_unit",
                "add time_unit = \"s\", \"ms\", \"us\" or \"ns\"",
            ))),
        },
        other => Err(wrong_type(file, name, Role::Time.accepts(other).err().unwrap_or("a timestamp"), other)),
    }
}

/// Why a cell is no instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoTime {
    /// Null.
    Missing,
    /// Out of any calendar.
    Unreadable,
    /// Skipped by the zone's clock.
    NotInZone,
}

/// A column of instants.
pub struct Times {
    values: arrow::array::Int64Array,
    clock: Clock,
}

impl Times {
    /// Reads a column with its clock.
    pub fn new(column: &ArrayRef, clock: Clock) -> std::result::Result<Self, ArrowError> {
        // Unsigned counts beyond i64 become null, and so a missing time: they are no instants either.
        Ok(Times { values: cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone(), clock })
    }

    /// One instant.
    #[inline]
    pub fn at(&self, row: usize) -> std::result::Result<Millis, NoTime> {
        if self.values.is_null(row) {
            return Err(NoTime::Missing);
        }
        self.clock.millis(self.values.value(row))
    }
}

impl Clock {
    /// A count as an instant.
    #[inline]
    pub fn millis(self, value: i64) -> std::result::Result<Millis, NoTime> {
        match self {
            Clock::Utc(unit) => unit.millis(value).ok_or(NoTime::Unreadable),
            Clock::Local(unit, zone) => {
                let local = unit.millis(value).ok_or(NoTime::Unreadable)?;
                local_to_utc(local, zone).ok_or(NoTime::NotInZone)
            }
        }
    }
}

/// A column of numbers, null where it holds none.
pub fn numbers(column: &ArrayRef) -> std::result::Result<Float64Array, ArrowError> {
    Ok(cast(column, &DataType::Float64)?.as_primitive().clone())
}

/// A column of whole numbers, or of text that reads as such: of each cell nothing where it is empty, and no number
/// where it holds something else.
pub fn ordinals(column: &ArrayRef) -> std::result::Result<Vec<Option<Option<i64>>>, ArrowError> {
    if column.data_type().is_floating() {
        let whole = |n: f64| (n.fract() == 0.0 && n.abs() < 9e15).then_some(n as i64);
        return Ok(numbers(column)?.iter().map(|n| n.filter(|n| !n.is_nan()).map(whole)).collect());
    }
    let cells = texts(column)?;
    let cells = cells.iter().map(|text| text.map(str::trim).filter(|text| !text.is_empty()));
    Ok(cells.map(|text| text.map(|text| text.parse().ok())).collect())
}

/// A column of ids or names as text.
pub fn texts(column: &ArrayRef) -> std::result::Result<StringArray, ArrowError> {
    let plain = match column.data_type() {
        DataType::UInt64 => {
            let values = column.as_primitive::<UInt64Type>();
            return Ok(values.iter().map(|v| v.map(|v| v.to_string())).collect());
        }
        DataType::Dictionary(_, value) => return texts(&cast(column, value)?),
        _ => cast(column, &DataType::Utf8)?,
    };
    Ok(plain.as_string::<i32>().clone())
}
