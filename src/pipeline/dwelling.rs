//! How long everyone dwells where it may count, added up in the first pass in the order of time: the square of every row is
//! found, rows are dealt to shards of the persons, and each shard adds up its own.

use super::Job;
use crate::person::Persons;
use crate::ping::Pings;
use crate::resident::Whereabouts;
use crate::rule::{ResidentOf, Source};
use crate::time::Millis;
use crate::track::dwelling::{DwellSums, Dwelling, SHARDS, Step, shard};
use crate::track::many;
use rayon::prelude::*;
use std::ops::Range;

/// What is added up so far.
pub struct Dwellings<'a> {
    whereabouts: Whereabouts<'a>,
    /// By feed, how long a ping stands at most.
    holds_ms: Vec<Millis>,
    shards: Vec<Dwelling>,
    /// Room for pieces on their way, used again for the next.
    dealt: Vec<Dealt>,
    from: Millis,
    lookback_ms: Millis,
    bytes_max: usize,
}

/// The rows of a piece, by the shard of their person, and in the order of time there.
#[derive(Debug, Default)]
struct Dealt {
    spreads: Vec<u64>,
    keys: Vec<u64>,
    steps: Vec<Step>,
    /// The rows of the steps, where persons are no integers.
    rows: Vec<u32>,
    /// Where each shard's end.
    ends: [u32; SHARDS + 1],
}

impl<'a> Dwellings<'a> {
    /// Nothing yet; `None` if the rule does not ask, or sums do not answer: several sources may overlap.
    pub fn new(job: &Job<'a>, source: Source) -> Option<Self> {
        let resident = job.resident().filter(|resident| resident.of != ResidentOf::Case)?;
        let alone = job.feeds.iter().all(|feed| feed.source == source);
        if !alone || job.contradiction().is_some() || !many::Tracks::suit(&job.track_rule(source)) {
            return None;
        }
        Some(Dwellings {
            whereabouts: Whereabouts::new(&resident, &job.rule().place, job.inputs.home.as_ref())?,
            holds_ms: job.feeds.iter().map(|feed| feed.hold_ms).collect(),
            shards: (0..SHARDS).map(|_| Dwelling::default()).collect(),
            dealt: Vec::new(),
            from: job.decoder.from,
            lookback_ms: job.config.as_of - job.decoder.from,
            bytes_max: usize::try_from(job.config.memory_bytes / 8).unwrap_or(usize::MAX),
        })
    }

    /// Adds rows, in the order of time in each piece, and not earlier than those before. Says whether the sums still fit
    /// the memory.
    pub fn add(&mut self, pieces: &[Pings<'_>]) -> bool {
        let Dwellings { whereabouts, holds_ms, shards, dealt, from, .. } = self;
        if dealt.len() < pieces.len() {
            dealt.resize_with(pieces.len(), Dealt::default);
        }
        let dealt = &mut dealt[..pieces.len()];
        pieces.par_iter().zip(&mut *dealt).for_each_init(
            || whereabouts.clone(),
            |whereabouts, (pings, dealt)| dealt.deal(pings, *from, whereabouts),
        );
        let mut order: Vec<usize> = (0..pieces.len()).filter(|at| !pieces[*at].times.is_empty()).collect();
        order.sort_by_key(|at| pieces[*at].times[0]);
        let is_over = |at: usize, by: usize| pieces[at].times.last() <= pieces[by].times.first();
        let one_by_one = order.windows(2).all(|two| is_over(two[0], two[1]));
        // Integers are persons by themselves.
        let names = |at: usize| match &pieces[at].persons {
            Persons::Integer(_) => None,
            persons => Some(persons),
        };
        shards.par_iter_mut().enumerate().for_each(|(shard, dwelling)| {
            if one_by_one {
                for at in &order {
                    let rows = dealt[*at].of(shard);
                    let named = names(*at).map(|persons| (persons, &dealt[*at].rows[rows.clone()]));
                    dwelling.add(&dealt[*at].steps[rows], named, holds_ms);
                }
                return;
            }
            // Files overlap in time.
            let mut steps: Vec<(Millis, usize, usize)> = Vec::new();
            for at in &order {
                let since_ms = |row: usize| dealt[*at].steps[row].since_ms();
                steps.extend(dealt[*at].of(shard).map(|row| (since_ms(row), *at, row)));
            }
            steps.sort_unstable();
            for (_, at, row) in steps {
                let named = names(at).map(|persons| (persons, &dealt[at].rows[row..=row]));
                dwelling.add(&dealt[at].steps[row..=row], named, holds_ms);
            }
        });
        let bytes = |shards: &[Dwelling]| shards.iter().map(Dwelling::bytes).sum::<usize>();
        if bytes(shards) <= self.bytes_max {
            return true;
        }
        shards.par_iter_mut().for_each(Dwelling::shrink);
        bytes(shards) <= self.bytes_max
    }

    /// What it comes to; no rows come any more.
    pub fn finish(self) -> DwellSums {
        let Dwellings { shards, holds_ms, lookback_ms, .. } = self;
        DwellSums::new(
            shards.into_par_iter().map(|dwelling| dwelling.finish(lookback_ms, &holds_ms)).collect(),
        )
    }
}

impl Dealt {
    fn deal(&mut self, pings: &Pings<'_>, from: Millis, whereabouts: &mut Whereabouts<'_>) {
        let Dealt { spreads, keys, steps, rows, ends } = self;
        let ids = match &pings.persons {
            Persons::Integer(ids) => ids,
            persons => {
                persons.spreads(spreads);
                &**spreads
            }
        };
        whereabouts.keys(pings.lats, pings.lons, keys);
        *ends = [0; SHARDS + 1];
        ids.iter().for_each(|id| ends[shard(*id) + 1] += 1);
        for shard in 1..=SHARDS {
            ends[shard] += ends[shard - 1];
        }
        steps.resize(ids.len(), Step::default());
        let named = !matches!(pings.persons, Persons::Integer(_));
        rows.resize(if named { ids.len() } else { 0 }, 0);
        for (row, (id, key)) in ids.iter().zip(&*keys).enumerate() {
            let end = &mut ends[shard(*id)];
            steps[*end as usize] = Step::new(*id, pings.times[row] - from, pings.feed(row), *key);
            if named {
                rows[*end as usize] = row as u32;
            }
            *end += 1;
        }
    }

    /// Which of the steps are a shard's.
    fn of(&self, shard: usize) -> Range<usize> {
        let start = if shard == 0 { 0 } else { self.ends[shard - 1] };
        start as usize..self.ends[shard] as usize
    }
}
