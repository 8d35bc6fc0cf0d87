//! A made-up city, written: its parts side by side, each to a file of its own.

use super::watch::{Stage, Watch};
use crate::error::Result;
use crate::io::output::Staging;
use crate::io::synth;
use crate::synth::Synth;
use rayon::prelude::*;

/// Writes all files of a city; the bytes written of pings.
pub fn write(city: &Synth, staging: &Staging, threads: usize, watch: &Watch) -> Result<u64> {
    watch.start(Stage::Write, city.recipe().rows);
    synth::begin(staging)?;
    let parts = city.parts();
    let bytes = super::pool(threads)?.install(|| {
        parts
            .par_iter()
            .enumerate()
            .with_max_len(1)
            .map(|(number, part)| {
                let mut file = synth::PingFile::create(staging, city.recipe(), number)?;
                city.make(part.clone(), &mut |batch| {
                    let rows = batch.ids.len() as u64;
                    file.write(batch)?;
                    watch.advance(rows)
                })?;
                file.close()
            })
            .try_reduce(|| 0, |a, b| Ok(a + b))
    })?;
    synth::write_cases(staging, city)?;
    synth::write_job(staging, city.recipe())?;
    Ok(bytes)
}
