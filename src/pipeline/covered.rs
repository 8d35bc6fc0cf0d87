//! How many people each risk area covers: those with a ping in it while it is listed. An area is evidence that can be
//! abused, so that whoever checks a job sees how far it reaches.

use super::pool;
use super::watch::{Stage, Watch};
use crate::config::Config;
use crate::error::Result;
use crate::io::inputs::{Inputs, Task};
use crate::person::PersonsSeen;
use crate::ping::Pings;
use crate::risk_area::RiskAreas;
use hashbrown::HashSet;
use rayon::prelude::*;

/// Persons that are told apart one by one; more of them are an estimate.
const COUNTED_MAX: usize = 1_024;

/// The persons in one area.
#[derive(Debug, Clone)]
enum Covered {
    Few(HashSet<u64>),
    Many(Box<PersonsSeen>),
}

impl Default for Covered {
    fn default() -> Self {
        Covered::Few(HashSet::new())
    }
}

impl Covered {
    fn see(&mut self, spread: u64) {
        match self {
            Covered::Many(seen) => seen.see(spread),
            Covered::Few(few) => {
                few.insert(spread);
                if few.len() > COUNTED_MAX {
                    let mut seen = PersonsSeen::default();
                    few.iter().for_each(|spread| seen.see(*spread));
                    *self = Covered::Many(Box::new(seen));
                }
            }
        }
    }

    fn merge(&mut self, other: Covered) {
        match (&mut *self, other) {
            (Covered::Many(mine), Covered::Many(theirs)) => mine.merge(&theirs),
            (_, Covered::Few(few)) => few.into_iter().for_each(|spread| self.see(spread)),
            (Covered::Few(few), Covered::Many(mut theirs)) => {
                few.iter().for_each(|spread| theirs.see(*spread));
                *self = Covered::Many(theirs);
            }
        }
    }

    fn count(&self) -> u64 {
        match self {
            Covered::Few(few) => few.len() as u64,
            Covered::Many(seen) => seen.estimate(),
        }
    }
}

/// Persons with a ping in each area while it was listed, by its number, and with one in any of them. Exact up to a thousand,
/// beyond an estimate.
pub fn persons(
    config: &Config,
    inputs: &Inputs,
    areas: &RiskAreas,
    watch: &Watch,
) -> Result<(Vec<u64>, u64)> {
    let (tasks, rows) = inputs.tasks();
    watch.start(Stage::Scan, rows);
    pool(config.threads)?.install(|| {
        let none = || vec![Covered::default(); areas.list.len() + 1];
        let look = |mut covered: Vec<Covered>, task: &Task| -> Result<Vec<Covered>> {
            let feed = &inputs.feeds[task.feed];
            let file = &feed.files[task.file];
            let mut spreads = Vec::new();
            inputs.decoder.read(feed, file, task.group, None, None, &mut |decoded| {
                watch.advance(decoded.rows)?;
                let pings = Pings::of(&decoded.pings);
                pings.persons.spreads(&mut spreads);
                for (row, spread) in spreads.iter().enumerate() {
                    areas.each_at(pings.lat(row), pings.lon(row), pings.times[row], &mut |area| {
                        covered[area as usize].see(*spread);
                        covered[areas.list.len()].see(*spread);
                    });
                }
                Ok(())
            })?;
            Ok(covered)
        };
        let covered = tasks.par_iter().try_fold(none, look).try_reduce(none, |mut a, b| {
            a.iter_mut().zip(b).for_each(|(a, b)| a.merge(b));
            Ok(a)
        })?;
        let mut counts: Vec<u64> = covered.iter().map(Covered::count).collect();
        let any = counts.pop().unwrap_or(0);
        Ok((counts, any))
    })
}
