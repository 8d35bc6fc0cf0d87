//! Stays on their way to the second kernel, and what comes of them on its way to the tables: part by part, or, where all that is known of
//! a person is read in one place, at once.

use super::lane::Lane;
use super::survivors::Survivors;
use super::tables::Tables;
use super::watch::Stage;
use super::{Job, too_large};
use crate::answer::Counts;
use crate::error::Result;
use crate::index::CaseIndex;
use crate::ping::Order;
use crate::resolve::{Dwells, Setting, resolve};
use crate::stay::Stays;
use crate::trip::Seat;
use arrow::array::RecordBatch;
use rayon::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

/// Stays that one call of the resolve kernel gets, about; persons stay whole.
const RESOLVE_ROWS: usize = 65_536;
/// The same where persons are resolved as their rows come: what is made of so many stays is still in the caches.
const AT_ONCE_ROWS: usize = 65_536;

/// What scans and trips are numbered by.
#[derive(Debug, Default)]
pub struct Numbered {
    venues: Vec<String>,
    venue_squares: Vec<Option<u64>>,
    settings: Vec<f64>,
    trips: Vec<String>,
    seats: Vec<Seat>,
}

impl Numbered {
    /// What all rows have had, when all are read.
    pub fn new(job: &Job<'_>) -> Self {
        let venues = job.decoder.venues.all();
        Numbered {
            venue_squares: job.inputs.venue_squares(&venues, &job.rule().place),
            settings: job.inputs.setting_weights(&venues),
            venues,
            trips: job.decoder.trips.all(),
            seats: job.decoder.seats.all(),
        }
    }

    /// What the kernel needs to know.
    pub fn setting<'a>(&'a self, job: &Job<'a>, index: &'a CaseIndex) -> Setting<'a> {
        let Job { config, inputs, .. } = *job;
        Setting {
            index,
            person: job.decoder.person,
            rule: &config.rule,
            venues: &self.venues,
            venue_squares: &self.venue_squares,
            trips: &self.trips,
            seats: &self.seats,
            settings: &self.settings,
            holds_scanners: inputs.contradicts,
            dwells: Dwells::Unknown,
            areas: inputs.areas.as_deref(),
            variants: &config.variants,
            truth: inputs.truth.as_ref(),
            controls: inputs.controls.map_or(0, |(_, count)| count),
            exposures: config.exposures,
            encounters: config.encounters,
        }
    }
}

/// Persons who are resolved where their rows are read.
#[derive(Debug)]
pub struct AtOnce<'a> {
    setting: Setting<'a>,
    tables: &'a Tables,
    stays: AtomicU64,
}

/// Whether all that is known of a person is read in one place, but for those at the edges of units: one source in the order of
/// persons, and nobody has to wait for what else is known.
pub fn may_be_at_once(job: &Job<'_>, lanes: &[Lane<'_>]) -> bool {
    let alone = matches!(lanes, [lane] if lane.order == Order::Person && !lane.source.is_by_id());
    alone && job.resident().is_none() && !job.inputs.contradicts
}

impl<'a> AtOnce<'a> {
    /// Nobody yet.
    pub fn new(setting: Setting<'a>, tables: &'a Tables) -> Self {
        AtOnce { setting, tables, stays: AtomicU64::new(0) }
    }

    /// How many stays are worth a call of the kernel, which counts by case.
    pub fn enough(&self) -> usize {
        AT_ONCE_ROWS.max(self.setting.index.cases())
    }

    /// Resolves all stays of some persons, grouped by person.
    pub fn take(&self, stays: &RecordBatch) -> Result<()> {
        self.stays.fetch_add(stays.num_rows() as u64, Ordering::Relaxed);
        self.tables.add(resolve(stays, &self.setting).map_err(too_large)?)
    }

    /// How many stays those were.
    pub fn stays(&self) -> u64 {
        self.stays.load(Ordering::Relaxed)
    }
}

/// Parts that are smaller together, bytes, and than this share of the memory, are resolved in so few bundles.
const FEW_BYTES: u64 = 1 << 24;
const FEW_SHARE: u64 = 16;
const BUNDLES: usize = 4;

/// Resolves each part on its own, or, if they are small, many together.
pub fn resolve_parts(
    job: &Job<'_>,
    lanes: &[Lane<'_>],
    setting: &Setting<'_>,
    tables: &Tables,
    survivors: &Survivors<'_>,
    counts: &mut Counts,
) -> Result<()> {
    let bytes: Option<u64> = lanes.iter().map(Lane::bytes).sum();
    // Who has to wait does so part by part.
    let none_waits = job.resident().is_none() && !job.inputs.contradicts;
    let few = FEW_BYTES.min(job.config.memory_bytes / FEW_SHARE);
    let together = none_waits && bytes.is_some_and(|bytes| bytes <= few);
    let bundles = if together { BUNDLES.min(job.parts) } else { job.parts };
    job.watch.start(Stage::Resolve, bundles as u64);
    let totals: Vec<(u64, u64, u64)> = (0..bundles)
        .into_par_iter()
        .with_max_len(1)
        .map(|bundle| {
            let parts = job.parts * bundle / bundles..job.parts * (bundle + 1) / bundles;
            let (mut marked, mut tracked) = (0, 0);
            let mut batches = Vec::new();
            for lane in lanes {
                job.go_on_unless_tied()?;
                let (stays, counts) = lane.stays_of(parts.clone(), job, setting.index)?;
                batches.extend(stays);
                (marked, tracked) = (marked + counts.0, tracked + counts.1);
            }
            let stays = batches.iter().map(|b| b.num_rows() as u64).sum();
            // They are of the only source there is.
            let sums = lanes.iter().find_map(|lane| lane.dwellings.as_ref());
            let dwells = sums.map_or(Dwells::Unknown, Dwells::Summed);
            resolve_part(batches, parts.start, job, &Setting { dwells, ..*setting }, tables, survivors)?;
            job.watch.advance(1)?;
            Ok((marked, tracked, stays))
        })
        .collect::<Result<_>>()?;
    counts.rows_marked =
        lanes.iter().map(|l| l.marked).sum::<u64>() + totals.iter().map(|t| t.0).sum::<u64>();
    counts.rows_tracked =
        lanes.iter().map(|l| l.tracked).sum::<u64>() + totals.iter().map(|t| t.1).sum::<u64>();
    counts.stays = totals.iter().map(|t| t.2).sum();
    Ok(())
}

pub fn resolve_part(
    batches: Vec<RecordBatch>,
    part: usize,
    job: &Job<'_>,
    setting: &Setting<'_>,
    tables: &Tables,
    survivors: &Survivors<'_>,
) -> Result<()> {
    if batches.is_empty() || (setting.index.is_empty() && setting.areas.is_none()) {
        return Ok(());
    }
    let grouped = job.packing.grouped(batches).map_err(too_large)?;
    let groups = Stays::of(&grouped).persons.groups();
    let mut start = 0;
    for (i, group) in groups.iter().enumerate() {
        let last = i + 1 == groups.len();
        if last || group.end - start >= RESOLVE_ROWS {
            let mut resolved =
                resolve(&grouped.slice(start, group.end - start), setting).map_err(too_large)?;
            if let Some(stays) = resolved.held.take() {
                survivors.add(part, stays, std::mem::take(&mut resolved.scanners))?;
            }
            tables.add(resolved)?;
            start = group.end;
        }
    }
    Ok(())
}
