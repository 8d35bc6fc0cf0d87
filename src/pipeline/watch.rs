//! What a run tells while it works, and how it is told to stop.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The parts of a run, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// Footers, cases, towers and venues.
    Open = 0,
    /// What there is, the cases' own pings, and for rows in the order of time all stays that can matter.
    Scan = 1,
    /// The cases' stays, indexed.
    Index = 2,
    /// For rows in the order of persons: the stays that can matter.
    Sieve = 3,
    /// Encounters, exposures; for rows in no order the stays first.
    Resolve = 4,
    /// Files.
    Write = 5,
}

impl Stage {
    const ALL: [Stage; 6] =
        [Stage::Open, Stage::Scan, Stage::Index, Stage::Sieve, Stage::Resolve, Stage::Write];

    /// Its name.
    pub fn name(self) -> &'static str {
        ["open", "scan", "index", "sieve", "resolve", "write"][self as usize]
    }
}

/// Shared between the run and whoever shows its progress.
#[derive(Debug, Default)]
pub struct Watch {
    stage: AtomicUsize,
    rows: AtomicU64,
    rows_total: AtomicU64,
    stop: AtomicBool,
}

impl Watch {
    /// Starts a stage of so many rows.
    pub fn start(&self, stage: Stage, rows_total: u64) {
        self.rows.store(0, Ordering::Relaxed);
        self.rows_total.store(rows_total, Ordering::Relaxed);
        self.stage.store(stage as usize, Ordering::Relaxed);
    }

    /// Counts rows done; an error if the run is to stop.
    pub fn advance(&self, rows: u64) -> Result<()> {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        if self.stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Asks the run to stop at the next batch.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Stage, rows done, rows of the stage.
    pub fn now(&self) -> (Stage, u64, u64) {
        let stage = Stage::ALL[self.stage.load(Ordering::Relaxed).min(Stage::ALL.len() - 1)];
        (stage, self.rows.load(Ordering::Relaxed), self.rows_total.load(Ordering::Relaxed))
    }
}
