//! The edge: the only place that touches files, and the only user of Parquet.

pub mod areas;
mod at_url;
pub mod blocks;
pub mod cases;
pub mod city;
mod columns;
pub mod decode;
pub mod files;
pub mod guide;
pub mod inputs;
mod lines;
pub mod machine;
pub mod manifest;
pub mod output;
mod paged_file;
pub mod pings;
pub mod places;
pub mod purge;
mod raw;
pub mod read_back;
pub mod results;
pub mod spill;
pub mod storage;
pub mod store;
pub mod stored;
pub mod sweep;
mod syncing;
pub mod synth;
pub mod table;
mod truth;
mod wkb;

/// The tables of an output folder; manifest.json stands beside them. The last is there where the job has risk areas.
pub const OUTPUT_FILES: [&str; 7] = [
    "candidates.parquet",
    "candidates.csv",
    "exposures.parquet",
    "encounters.parquet",
    "cases.parquet",
    "rejections.parquet",
    "dwells.parquet",
];
