//! What the tests share: a folder of their own, the compiled program run over it, and Parquet in
//! and out.
//!
//! A test reads as a sentence: `sandbox.copresence(&["run",
//! "job.toml"]).fails_with(2).stderr_has("as_of")`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMillisecondType};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

/// An answer with the folder that holds what is spilled of it.
pub struct Ran {
    answer: copresence::answer::Answer,
    _dir: TempDir,
}

impl Ran {
    pub fn new(answer: copresence::answer::Answer, dir: TempDir) -> Self {
        Ran { answer, _dir: dir }
    }
}

impl std::ops::Deref for Ran {
    type Target = copresence::answer::Answer;

    fn deref(&self) -> &Self::Target {
        &self.answer
    }
}

/// A folder that lives as long as its test.
pub struct Sandbox {
    dir: TempDir,
}

impl Sandbox {
    pub fn new() -> Self {
        Self { dir: TempDir::new().expect("a temporary folder can be made") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a text file, making its folders.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path_with_folders(name);
        fs::write(&path, text).expect("the sandbox can be written");
        path
    }

    /// Writes one row group of the columns, in their order, making the file's folders.
    pub fn write_parquet(&self, name: &str, columns: Vec<(&str, ArrayRef)>) -> PathBuf {
        let path = self.path_with_folders(name);
        let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
        let file = File::create(&path).expect("the sandbox can be written");
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a schema Parquet can hold");
        writer.write(&batch).expect("rows can be written");
        writer.close().expect("the footer can be written");
        path
    }

    /// Runs the compiled program inside the sandbox and waits for it.
    pub fn copresence(&self, args: &[&str]) -> Run {
        let output = Command::new(env!("CARGO_BIN_EXE_copresence"))
            .args(args)
            .current_dir(self.dir.path())
            .output()
            .expect("the compiled program starts");
        Run {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("standard output is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("standard error is UTF-8"),
        }
    }

    fn path_with_folders(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a sandbox path has a parent")).expect("folders can be made");
        path
    }
}

/// What the program left behind. `code` is none where a signal ended it.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    #[track_caller]
    pub fn succeeds(self) -> Self {
        self.ends_with(0)
    }

    #[track_caller]
    pub fn fails_with(self, code: i32) -> Self {
        assert_ne!(code, 0, "exit code 0 is no failure");
        self.ends_with(code)
    }

    #[track_caller]
    pub fn stdout_has(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "standard output lacks {text:?}:\n{}", self.stdout);
        self
    }

    #[track_caller]
    pub fn stderr_has(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "standard error lacks {text:?}:\n{}", self.stderr);
        self
    }

    #[track_caller]
    fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code; standard error:\n{}", self.stderr);
        self
    }
}

/// All rows of a Parquet file as one batch.
#[track_caller]
pub fn read(path: impl AsRef<Path>) -> RecordBatch {
    let path = path.as_ref();
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let schema = builder.schema().clone();
    let reader = builder.build().expect("a reader over a good footer");
    let batches: Vec<RecordBatch> =
        reader.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    concat_batches(&schema, &batches).expect("batches of one schema")
}

/// The column of that name, or a panic that tells which there are.
#[track_caller]
pub fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a ArrayRef {
    batch.column_by_name(name).unwrap_or_else(|| {
        let schema = batch.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        panic!("no column {name}; there are {}", names.join(", "))
    })
}

/// Text of any layout: plain, large, view or dictionary.
#[track_caller]
pub fn text(batch: &RecordBatch, name: &str) -> Vec<String> {
    let found = full(batch, name);
    let layouts = ["Utf8", "LargeUtf8", "Utf8View", "Dictionary"];
    let layout = found.data_type().to_string();
    assert!(layouts.iter().any(|known| layout.starts_with(known)), "column {name} is {layout}, not text");
    let strings = cast(found, &DataType::Utf8).expect("text casts to text");
    strings.as_string::<i32>().iter().flatten().map(str::to_owned).collect()
}

#[track_caller]
pub fn i64s(batch: &RecordBatch, name: &str) -> Vec<i64> {
    typed(batch, name, &DataType::Int64);
    full(batch, name).as_primitive::<Int64Type>().values().to_vec()
}

#[track_caller]
pub fn bools(batch: &RecordBatch, name: &str) -> Vec<bool> {
    typed(batch, name, &DataType::Boolean);
    full(batch, name).as_boolean().values().iter().collect()
}

#[track_caller]
pub fn opt_f64s(batch: &RecordBatch, name: &str) -> Vec<Option<f64>> {
    typed(batch, name, &DataType::Float64).as_primitive::<Float64Type>().iter().collect()
}

/// UTC timestamps, as milliseconds since 1970.
#[track_caller]
pub fn times(batch: &RecordBatch, name: &str) -> Vec<i64> {
    typed(batch, name, &DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())));
    full(batch, name).as_primitive::<TimestampMillisecondType>().values().to_vec()
}

/// A column of text.
pub fn text_array(values: impl IntoIterator<Item = impl AsRef<str>>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// A column of UTC timestamps, from milliseconds since 1970.
pub fn time_array(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(values).with_timezone("UTC"))
}

#[track_caller]
fn typed<'a>(batch: &'a RecordBatch, name: &str, expected: &DataType) -> &'a ArrayRef {
    let found = column(batch, name);
    assert_eq!(found.data_type(), expected, "type of column {name}");
    found
}

#[track_caller]
fn full<'a>(batch: &'a RecordBatch, name: &str) -> &'a ArrayRef {
    let found = column(batch, name);
    assert_eq!(found.null_count(), 0, "nulls in column {name}");
    found
}
