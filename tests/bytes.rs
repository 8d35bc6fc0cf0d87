//! The same pings, cases and rule give the same bytes.

use crate::support::Sandbox;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use parquet::arrow::ArrowWriter;
use std::path::{Path, PathBuf};

const ANSWERS: [&str; 5] =
    ["candidates.parquet", "candidates.csv", "exposures.parquet", "encounters.parquet", "cases.parquet"];

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/office")
}

/// A sandbox with the sample's job, and its scans in these files.
fn office(scans: &[RecordBatch]) -> Sandbox {
    let sandbox = Sandbox::new();
    for name in ["job.toml", "cases.csv"] {
        std::fs::copy(sample().join(name), sandbox.path(name)).expect("the sample");
    }
    std::fs::create_dir(sandbox.path("scans.parquet")).expect("a folder in the file's place");
    for (number, batch) in scans.iter().enumerate() {
        let path = sandbox.path(&format!("scans.parquet/{number}.parquet"));
        let file = std::fs::File::create(path).expect("a file");
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
        writer.write(batch).expect("rows");
        writer.close().expect("a footer");
    }
    sandbox
}

fn answer(sandbox: &Sandbox, flags: &[&str]) -> Vec<Vec<u8>> {
    let mut args =
        vec!["run", "job.toml", "--out", "out", "--force", "--encounters", "all", "--progress", "none"];
    args.extend(flags);
    sandbox.copresence(&args).succeeds();
    ANSWERS.iter().map(|name| std::fs::read(sandbox.path("out").join(name)).expect(name)).collect()
}

#[test]
fn threads_batches_rows_and_files_leave_no_trace() {
    let scans = crate::support::read(sample().join("scans.parquet"));
    let rows = scans.num_rows();
    let shuffled: Vec<u32> = {
        let mut order: Vec<u32> = (0..rows as u32).collect();
        order.sort_by_key(|row| (u64::from(*row) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16);
        order
    };
    let mixed = take_record_batch(&scans, &UInt32Array::from(shuffled)).expect("rows");
    let whole = office(std::slice::from_ref(&scans));
    let parts = office(&[mixed.slice(5_000, rows - 5_000), mixed.slice(0, 5_000)]);
    let expected = answer(&whole, &["--threads", "1"]);
    assert!(expected.iter().all(|bytes| !bytes.is_empty()));
    for (sandbox, flags) in [
        (&whole, ["--threads", "4", "--batch-rows", "65536"]),
        (&whole, ["--threads", "7", "--batch-rows", "100"]),
        (&whole, ["--threads", "2", "--memory", "64MiB"]),
        (&parts, ["--threads", "1", "--batch-rows", "1"]),
        (&parts, ["--threads", "4", "--batch-rows", "1000"]),
    ] {
        for (name, (found, expected)) in ANSWERS.iter().zip(answer(sandbox, &flags).iter().zip(&expected)) {
            assert!(found == expected, "{name} differs with {flags:?}");
        }
    }
}
