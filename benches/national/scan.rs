//! The bare scan: the four columns that every answer needs, added up; a row group is a task.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, TimestampMillisecondType, UInt64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use rayon::prelude::*;
use serde_json::json;
use std::fs::File;
use std::path::{Path, PathBuf};

const COLUMNS: [&str; 4] = ["person_id", "time", "lat", "lon"];
const BATCH_ROWS: usize = 8_192;

/// Scans a folder's Parquet files and prints what it found, with the most memory that it had.
pub fn run(folder: &Path, threads: usize) {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("threads");
    let mut files: Vec<PathBuf> =
        folder.read_dir().expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let open = |path: &PathBuf| File::open(path).expect("a file");
    let footers: Vec<ArrowReaderMetadata> = files
        .iter()
        .map(|path| ArrowReaderMetadata::load(&open(path), Default::default()).expect("a footer"))
        .collect();
    let tasks: Vec<(usize, usize)> = (footers.iter().enumerate())
        .flat_map(|(file, footer)| (0..footer.metadata().num_row_groups()).map(move |group| (file, group)))
        .collect();
    let sums = tasks
        .par_iter()
        .map(|&(file, group)| {
            let builder =
                ParquetRecordBatchReaderBuilder::new_with_metadata(open(&files[file]), footers[file].clone());
            let columns = ProjectionMask::columns(builder.parquet_schema(), COLUMNS);
            let builder = builder.with_projection(columns).with_row_groups(vec![group]);
            let batches = builder.with_batch_size(BATCH_ROWS).build().expect("a reader");
            batches.fold(Sums::default(), |sums, batch| sums.add(&Sums::of(&batch.expect("a batch"))))
        })
        .reduce(Sums::default, |a, b| a.add(&b));
    let found = json!({
        "rows": sums.rows,
        "sums": [json!(sums.persons), json!(sums.times), json!(sums.lats), json!(sums.lons)],
        "memory_peak_bytes": copresence::io::machine::memory_peak_bytes(),
    });
    println!("{found}");
}

#[derive(Debug, Default)]
struct Sums {
    rows: u64,
    persons: u64,
    times: i64,
    lats: f64,
    lons: f64,
}

impl Sums {
    fn of(batch: &RecordBatch) -> Self {
        let column = |name: &str| batch.column_by_name(name).expect("a column");
        let degrees = |name| column(name).as_primitive::<Float64Type>().values().iter().sum::<f64>();
        let persons = column("person_id");
        let times = column("time").as_primitive::<TimestampMillisecondType>().values();
        Sums {
            rows: batch.num_rows() as u64,
            persons: match persons.data_type() {
                // Of texts the bytes are added up.
                DataType::Utf8 => {
                    let texts = persons.as_string::<i32>();
                    let (first, last) = (texts.value_offsets()[0], texts.value_offsets()[texts.len()]);
                    texts.value_data()[first as usize..last as usize]
                        .iter()
                        .map(|byte| u64::from(*byte))
                        .sum()
                }
                _ => {
                    let ids = persons.as_primitive::<UInt64Type>().values();
                    ids.iter().fold(0, |sum: u64, id| sum.wrapping_add(*id))
                }
            },
            times: times.iter().fold(0, |sum: i64, time| sum.wrapping_add(*time)),
            lats: degrees("lat"),
            lons: degrees("lon"),
        }
    }

    fn add(&self, other: &Sums) -> Sums {
        Sums {
            rows: self.rows + other.rows,
            persons: self.persons.wrapping_add(other.persons),
            times: self.times.wrapping_add(other.times),
            lats: self.lats + other.lats,
            lons: self.lons + other.lons,
        }
    }
}
