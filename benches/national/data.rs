//! The pings that are measured: made once, found again the next time.

use crate::options::{Ids, Options, Order, word};
use crate::shapes::{self, Recipe, Shape};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the pings are.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// A city of the program's own `synth`.
    City {
        /// Pings.
        rows: u64,
        /// Their order.
        order: Order,
    },
    /// A shape.
    Shape {
        /// Which.
        shape: Shape,
        /// Pings, about.
        rows: u64,
        /// Their order.
        order: Order,
    },
}

/// Pings with cases and a job.
#[derive(Debug)]
pub struct Data {
    /// What they are, in words.
    pub title: String,
    /// The folder of job.toml and pings/.
    pub folder: PathBuf,
}

impl Data {
    /// A list of the first case alone, beside the whole list.
    pub fn first_case(&self) -> PathBuf {
        let path = self.folder.join("first-case.parquet");
        let file = fs::File::open(self.folder.join("cases.parquet")).expect("the cases");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|b| b.build()).expect("a table");
        let cases = reader.map(|batch| batch.expect("cases")).find(|batch| batch.num_rows() > 0);
        let first = cases.expect("a case").slice(0, 1);
        let file = fs::File::create(&path).expect("a file");
        let mut writer = ArrowWriter::try_new(file, first.schema(), None).expect("a table");
        writer.write(&first).expect("a row");
        writer.close().expect("a footer");
        path
    }

    /// Makes the data, unless an earlier run did.
    pub fn prepare(options: &Options, source: Source) -> Data {
        let (name, rows, order) = match source {
            Source::City { rows, order } => ("city".to_string(), rows, order),
            Source::Shape { shape, rows, order } => (word(shape), rows, order),
        };
        let (order_word, ids) = (word(order), word(options.ids));
        let cases = options.cases.map_or_else(String::new, |cases| format!("-{cases}-cases"));
        let persons = options.persons.map_or_else(String::new, |persons| format!("-{persons}-persons"));
        let days = options.days.map_or_else(String::new, |days| format!("-{days}-days"));
        let folder = options.data.join(format!("{name}-{rows}-{order_word}-{ids}{cases}{persons}{days}"));
        let title = format!("{name}, order {order_word}, {ids} ids");
        match source {
            Source::City { rows, order } => city(options, &folder, rows, order),
            Source::Shape { shape, rows, order } => {
                let text = options.ids == Ids::Text;
                let recipe = Recipe { shape, rows, order, cases: options.cases, text };
                if !starts_with(&folder, shapes::MARK) {
                    eprintln!("making {}", folder.display());
                    shapes::make(&recipe, &folder);
                }
            }
        }
        Data { title, folder }
    }
}

fn city(options: &Options, folder: &Path, rows: u64, order: Order) {
    use copresence::{io::synth::MARK, synth::VERSION};
    if starts_with(folder, &format!("{MARK} {VERSION}:")) {
        return;
    }
    eprintln!("making {}", folder.display());
    fs::create_dir_all(&options.data).expect("a folder for the data");
    let mut command = Command::new(env!("CARGO_BIN_EXE_copresence"));
    command.arg("synth").arg(folder).args(["--force", "--progress", "none"]);
    command.args(["--rows", &rows.to_string(), "--order", &word(order), "--ids", &word(options.ids)]);
    for (flag, number) in
        [("--cases", options.cases), ("--persons", options.persons), ("--days", options.days)]
    {
        if let Some(number) = number {
            command.args([flag, &number.to_string()]);
        }
    }
    let status = command.stdout(Stdio::null()).status().expect("the program starts");
    assert!(status.success(), "synth fails");
}

/// Whether a job is there that says it is of this kind and version; it is written last.
fn starts_with(folder: &Path, mark: &str) -> bool {
    fs::read_to_string(folder.join("job.toml")).is_ok_and(|job| job.starts_with(mark))
}
