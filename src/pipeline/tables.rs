//! The tables of the answer as they grow: in memory as long as that holds them, then run by run, each run in
//! order, in the spill folder, from where ranges of all runs are read together.

use crate::answer::{Ranges, Run, Sorted, Sorting, Spread};
use crate::error::Result;
use crate::io::spill::Spill;
use crate::place::PlaceRule;
use crate::resolve::{
    OfVariant, Resolved, Tally, candidate_schema, dwell_schema, encounter_schema, exposure_schema,
};
use crate::time::Millis;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use rayon::prelude::*;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Ranges of a table in the spill folder.
const RANGES: usize = 256;
const ENCOUNTERS: Sorting =
    Sorting::Person(&["case", "start", "indirect", "source", "case_source", "place", "end"]);
const EXPOSURES: Sorting = Sorting::Person(&[]);
const CANDIDATES: Sorting = Sorting::SecondsDown("direct_ms");
const DWELLS: Sorting = Sorting::Person(&[]);

/// What the resolved parts come to.
#[derive(Debug)]
pub struct Tables {
    spill: Arc<Spill>,
    budget: u64,
    held: AtomicU64,
    encounters: Table,
    exposures: Table,
    candidates: Table,
    dwells: Table,
    sums: Mutex<Sums>,
}

/// What is added up over all persons.
#[derive(Debug, Default)]
pub struct Sums {
    /// By case.
    pub tallies: Vec<Tally>,
    /// Encounters.
    pub encounters: u64,
    /// Exposures.
    pub exposures: u64,
    /// Candidates.
    pub candidates: u64,
    /// Dwells in risk areas.
    pub dwells: u64,
    /// The largest direct time of anyone who is no case, ms.
    pub direct_ms_max: Millis,
    /// By variant that is swept over.
    pub variants: Vec<OfVariant>,
}

#[derive(Debug)]
struct Table {
    sorting: Sorting,
    schema: SchemaRef,
    held: Mutex<Held>,
    away: Mutex<Away>,
}

#[derive(Debug, Default)]
struct Held {
    batches: Vec<RecordBatch>,
    bytes: u64,
}

/// Runs in the spill folder, and how many rows of each range they have.
#[derive(Debug, Default)]
struct Away {
    ranges: Option<Ranges>,
    rows: Vec<usize>,
    runs: Vec<PathBuf>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tables {
    /// No rows yet; more of them than `budget` bytes go to the spill folder.
    pub fn new(person: &DataType, place: &PlaceRule, cases: usize, budget: u64, spill: Arc<Spill>) -> Self {
        let table =
            |sorting, schema| Table { sorting, schema, held: Mutex::default(), away: Mutex::default() };
        Tables {
            spill,
            budget,
            held: AtomicU64::new(0),
            encounters: table(ENCOUNTERS, encounter_schema(person, place)),
            exposures: table(EXPOSURES, exposure_schema(person, place)),
            candidates: table(CANDIDATES, candidate_schema(person, place)),
            dwells: table(DWELLS, dwell_schema(person)),
            sums: Mutex::new(Sums { tallies: vec![Tally::default(); cases], ..Sums::default() }),
        }
    }

    fn each(&self) -> [&Table; 4] {
        [&self.encounters, &self.exposures, &self.candidates, &self.dwells]
    }

    /// Adds what some persons came to.
    pub fn add(&self, resolved: Resolved) -> Result<()> {
        let mut sums = locked(&self.sums);
        sums.encounters += resolved.encounter_count;
        sums.direct_ms_max = sums.direct_ms_max.max(resolved.direct_ms_max);
        sums.candidates += resolved.candidates.num_rows() as u64;
        sums.dwells += resolved.dwells.num_rows() as u64;
        sums.variants.resize(resolved.variants.len(), OfVariant::default());
        sums.variants.iter_mut().zip(&resolved.variants).for_each(|(sum, found)| sum.add(found));
        for (sum, tally) in sums.tallies.iter_mut().zip(&resolved.tallies) {
            sum.exposures += tally.exposures;
            sum.candidates += tally.candidates;
        }
        sums.exposures += resolved.tallies.iter().map(|tally| tally.exposures).sum::<u64>();
        drop(sums);
        let batches = [resolved.encounters, resolved.exposures, resolved.candidates, resolved.dwells];
        for (table, batch) in self.each().into_iter().zip(batches) {
            if batch.num_rows() > 0 {
                let bytes = batch.get_array_memory_size() as u64;
                let mut held = locked(&table.held);
                self.held.fetch_add(bytes, Ordering::Relaxed);
                held.bytes += bytes;
                held.batches.push(batch);
            }
        }
        if self.held.load(Ordering::Relaxed) > self.budget {
            let largest = self.each().into_iter().max_by_key(|table| locked(&table.held).bytes);
            largest.map_or(Ok(()), |table| self.send_away(table))?;
        }
        Ok(())
    }

    /// Puts what a table holds into the spill folder as a run. On this thread alone: while others wait for
    /// `away`, none of them may be needed.
    fn send_away(&self, table: &Table) -> Result<()> {
        let mut away = locked(&table.away);
        let held = std::mem::take(&mut *locked(&table.held));
        self.held.fetch_sub(held.bytes, Ordering::Relaxed);
        if held.batches.is_empty() {
            return Ok(());
        }
        let run = Run::new(table.sorting, held.batches);
        // Parts are parted by a hash, so the first run is a fair sample of all.
        let ranges = away.ranges.get_or_insert_with(|| run.ranges(RANGES));
        let (rows, batches) = run.parted(ranges);
        let file = self.spill.write_numbered(&table.schema, batches)?;
        away.rows.resize(rows.len(), 0);
        away.rows.iter_mut().zip(rows).for_each(|(sum, rows)| *sum += rows);
        away.runs.push(file);
        Ok(())
    }

    /// Throws everything away, with what is in the spill folder.
    pub fn discard(self) -> Result<()> {
        for table in [self.encounters, self.exposures, self.candidates, self.dwells] {
            let away = table.away.into_inner().unwrap_or_else(PoisonError::into_inner);
            away.runs.iter().try_for_each(|run| self.spill.remove(run))?;
        }
        Ok(())
    }

    /// Encounters, exposures, candidates and dwells in their order, and the sums.
    pub fn finish(self) -> Result<([Sorted; 4], Sums)> {
        for table in self.each() {
            if !locked(&table.away).runs.is_empty() {
                self.send_away(table)?;
            }
        }
        let spill = self.spill;
        let sorted = |table: Table| {
            let away = table.away.into_inner().unwrap_or_else(PoisonError::into_inner);
            if away.runs.is_empty() {
                let held = table.held.into_inner().unwrap_or_else(PoisonError::into_inner);
                let spread: Spread<'_> = &|ranges, sort| ranges.into_par_iter().map(sort).collect();
                return Sorted::here(table.schema, table.sorting, held.batches, spread);
            }
            let (spill, runs) = (spill.clone(), away.runs);
            let load = move |range| runs.iter().map(|run| spill.read_numbered(run, range)).collect();
            Sorted::away(table.schema, table.sorting, &away.rows, Box::new(load))
        };
        let (candidates, dwells) = (self.candidates, self.dwells);
        let (encounters, exposures) = (self.encounters, self.exposures);
        let ((candidates, dwells), (encounters, exposures)) =
            rayon::join(|| (sorted(candidates), sorted(dwells)), || (sorted(encounters), sorted(exposures)));
        let sums = self.sums.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(([encounters, exposures, candidates, dwells], sums))
    }
}
