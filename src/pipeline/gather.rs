//! The marked rows and their closers, brought together by person, as many as the budget holds.

use super::marks::Marks;
use super::watch::{Stage, Watch};
use crate::config::Config;
use crate::error::{Error, Problem, Result};
use crate::io::inputs::Inputs;
use crate::ping::Pings;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Persons are parted by their hash, and each part is resolved on its own.
pub const PARTS: usize = 64;

/// The parts of one pass.
struct Pass {
    first: usize,
    /// Parts from here on were given up for a later pass.
    end: AtomicUsize,
    bytes: AtomicU64,
    budget: u64,
    parts: Vec<Mutex<Vec<RecordBatch>>>,
    shedding: Mutex<()>,
}

/// Reads all rows once and keeps those of the parts in `range` that are marked; gives parts up, the
/// last first, when they do not fit the budget. Returns the parts that were kept.
pub fn gather(
    config: &Config,
    inputs: &Inputs,
    marks: &Marks,
    range: Range<usize>,
    watch: &Watch,
) -> Result<(Range<usize>, Vec<Vec<RecordBatch>>)> {
    let (tasks, rows) = inputs.tasks();
    watch.start(Stage::Gather, rows);
    let pass = Pass {
        first: range.start,
        end: AtomicUsize::new(range.end),
        bytes: AtomicU64::new(0),
        // The rest is for decoding, sorting, and the results.
        budget: config.memory_bytes / 3,
        parts: (0..range.len()).map(|_| Mutex::default()).collect(),
        shedding: Mutex::new(()),
    };
    tasks.par_iter().try_for_each(|task| {
        let feed = &inputs.feeds[task.feed];
        let source = feed.config.stay.source;
        inputs.decoder.read(feed, &feed.files[task.file], task.group, None, &mut |decoded| {
            watch.advance(decoded.rows)?;
            let pings = Pings::of(&decoded.pings);
            let mut rows: Vec<Vec<u32>> = vec![Vec::new(); pass.parts.len()];
            for (row, &time) in pings.times.iter().enumerate() {
                let spread = pings.persons.at(row).spread();
                let part = (spread >> 32) as usize % PARTS;
                if let Some(slot) = part.checked_sub(pass.first).and_then(|p| rows.get_mut(p))
                    && marks.has(spread, source, time)
                {
                    slot.push(row as u32);
                }
            }
            for (part, rows) in rows.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
                let batch =
                    take_record_batch(&decoded.pings, &UInt32Array::from(rows)).map_err(super::too_large)?;
                pass.keep(part, batch)?;
            }
            Ok(())
        })
    })?;
    let end = pass.end.load(Ordering::SeqCst);
    let kept = pass.parts.into_iter().take(end - range.start);
    Ok((range.start..end, kept.map(|p| p.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()))
}

fn bytes(batch: &RecordBatch) -> u64 {
    batch.get_array_memory_size() as u64
}

impl Pass {
    fn keep(&self, part: usize, batch: RecordBatch) -> Result<()> {
        let mut held = self.parts[part].lock().unwrap_or_else(PoisonError::into_inner);
        if self.first + part >= self.end.load(Ordering::SeqCst) {
            return Ok(());
        }
        let total = self.bytes.fetch_add(bytes(&batch), Ordering::SeqCst) + bytes(&batch);
        held.push(batch);
        drop(held);
        if total > self.budget { self.shed() } else { Ok(()) }
    }

    /// Gives up the later half of the parts.
    fn shed(&self) -> Result<()> {
        let _one_at_a_time = self.shedding.lock().unwrap_or_else(PoisonError::into_inner);
        while self.bytes.load(Ordering::SeqCst) > self.budget {
            let end = self.end.load(Ordering::SeqCst);
            let half = self.first + (end - self.first).div_ceil(2);
            if half == end {
                return Err(Error::Memory(Problem::new(
                    "--memory",
                    "room for a sixty-fourth of the persons at once",
                    format!("a budget of {} MiB, which their pings exceed", (self.budget * 3) >> 20),
                    "give more memory, or look back fewer days",
                )));
            }
            self.end.store(half, Ordering::SeqCst);
            for part in half..end {
                let mut held = self.parts[part - self.first].lock().unwrap_or_else(PoisonError::into_inner);
                let freed: u64 = held.iter().map(bytes).sum();
                held.clear();
                held.shrink_to_fit();
                self.bytes.fetch_sub(freed, Ordering::SeqCst);
            }
        }
        Ok(())
    }
}
