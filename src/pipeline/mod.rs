//! The run: survey, index, sieve, gather, resolve. The only place that spreads work over threads.

mod gather;
mod marks;
mod survey;
pub mod synth;
pub mod warnings;
pub mod watch;

use crate::answer::{Answer, CaseRow, Counts, Sorted, Survey};
use crate::config::Config;
use crate::error::{Error, Problem, Result};
use crate::index::CaseIndex;
use crate::io::inputs::Inputs;
use crate::ping::{Pings, group_by_person};
use crate::resolve::{
    Resolved, Setting, Tally, candidate_schema, encounter_schema, exposure_schema, resolve,
};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use gather::{PARTS, gather};
use hashbrown::HashMap;
use marks::Marks;
use rayon::prelude::*;
use std::sync::Mutex;
use std::time::Instant;
use watch::{Stage, Watch};

/// Rows that one call of the resolve kernel gets, about; persons stay whole.
const RESOLVE_ROWS: usize = 65_536;

/// A batch that Arrow cannot hold: 2^31 bytes of ids in one.
fn too_large(error: ArrowError) -> Error {
    Error::Memory(Problem::new(
        "pings of a group of persons",
        "at most 2 GiB of ids at once",
        error.to_string(),
        "give less --memory, so that fewer persons are gathered at once",
    ))
}

/// Runs a job up to its answer.
pub fn compute(config: &Config, inputs: &Inputs, watch: &Watch) -> Result<Answer> {
    pool(config.threads)?.install(|| compute_here(config, inputs, watch))
}

/// So many threads of one's own.
fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|e| {
        Error::Memory(Problem::new(
            "--threads",
            "threads that the system grants",
            e.to_string(),
            "ask for fewer",
        ))
    })
}

fn compute_here(config: &Config, inputs: &Inputs, watch: &Watch) -> Result<Answer> {
    let mut clock = Clock::default();
    let survey = survey::survey(config, inputs, watch)?;
    clock.lap(Stage::Survey);

    watch.start(Stage::Index, survey.case_pings.num_rows() as u64);
    let feeds = config.stay_rules();
    let case_pings = group_by_person(&survey.case_pings).map_err(too_large)?;
    let index =
        CaseIndex::build(&case_pings, &inputs.cases.cases, &config.rule.encounter, &feeds, config.as_of);
    watch.advance(0)?;
    clock.lap(Stage::Index);

    let mut counts = Counts { case_stays: index.len() as u64, ..Counts::default() };
    for (feed, open) in survey.feeds.iter().zip(&inputs.feeds) {
        counts.rows += open.files.iter().map(|f| f.rows()).sum::<u64>();
        counts.rows_read += feed.rows_read;
        counts.rows_kept += feed.rows_kept;
        counts.rows_rejected += feed.rejected_rows();
    }
    counts.persons = survey.persons.estimate();
    let mut resolved = Vec::new();
    if !index.is_empty() {
        let places = inputs.decoder.venues.ids();
        let setting = Setting {
            index: &index,
            feeds: &feeds,
            rule: &config.rule,
            as_of: config.as_of,
            places: &places,
            exposures: config.exposures,
            encounters: config.encounters,
        };
        let marks = Marks::new(counts.rows_kept, config.memory_bytes / 8, &feeds);
        counts.rows_marked = mark(inputs, &setting, &marks, watch)?;
        clock.lap(Stage::Sieve);
        let mut first = 0;
        let mut width = PARTS;
        while first < PARTS && counts.rows_marked > 0 {
            let wanted = first..(first + width).min(PARTS);
            let (kept, parts) = gather(config, inputs, &marks, wanted, watch)?;
            clock.lap(Stage::Gather);
            counts.passes += 1;
            let rows = parts.iter().flatten().map(RecordBatch::num_rows).sum::<usize>() as u64;
            counts.rows_gathered += rows;
            watch.start(Stage::Resolve, rows);
            resolved.extend(resolve_parts(parts, &setting, watch)?);
            clock.lap(Stage::Resolve);
            (first, width) = (kept.end, kept.len().max(1));
        }
    }
    let answer = collect(inputs, survey, &index, &case_pings, resolved, counts, clock)?;
    watch.advance(0)?;
    Ok(answer)
}

/// Marks every row that the sieve lets through; returns how many.
fn mark(inputs: &Inputs, setting: &Setting<'_>, marks: &Marks, watch: &Watch) -> Result<u64> {
    let (tasks, rows) = inputs.tasks();
    watch.start(Stage::Sieve, rows);
    tasks
        .par_iter()
        .map(|task| {
            let feed = &inputs.feeds[task.feed];
            let mut marked = 0;
            inputs.decoder.read(feed, &feed.files[task.file], task.group, None, &mut |decoded| {
                watch.advance(decoded.rows)?;
                let sieved = setting.index.sieve.mark(&decoded.pings);
                let pings = Pings::of(&decoded.pings);
                for row in sieved.values().set_indices() {
                    marks.mark(pings.persons.at(row), &pings.at(row), &feed.config.stay);
                    marked += 1;
                }
                Ok(())
            })?;
            Ok(marked)
        })
        .try_reduce(|| 0, |a, b| Ok(a + b))
}

/// Resolves each part on its own.
fn resolve_parts(
    parts: Vec<Vec<RecordBatch>>,
    setting: &Setting<'_>,
    watch: &Watch,
) -> Result<Vec<Resolved>> {
    let results = Mutex::new(Vec::new());
    parts.into_par_iter().try_for_each(|batches| {
        let Some(first) = batches.first() else { return Ok(()) };
        let joined = concat_batches(first.schema_ref(), &batches).map_err(too_large)?;
        drop(batches);
        let grouped = group_by_person(&joined).map_err(too_large)?;
        drop(joined);
        let groups = Pings::of(&grouped).groups();
        let mut start = 0;
        for (i, group) in groups.iter().enumerate() {
            let last = i + 1 == groups.len();
            if last || group.end - start >= RESOLVE_ROWS {
                let resolved =
                    resolve(&grouped.slice(start, group.end - start), setting).map_err(too_large)?;
                watch.advance((group.end - start) as u64)?;
                results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(resolved);
                start = group.end;
            }
        }
        Ok(())
    })?;
    Ok(results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn collect(
    inputs: &Inputs,
    survey: Survey,
    index: &CaseIndex,
    case_pings: &RecordBatch,
    resolved: Vec<Resolved>,
    mut counts: Counts,
    mut clock: Clock,
) -> Result<Answer> {
    let person = inputs.decoder.person;
    let inner = person.inner();
    let mut tallies: HashMap<u32, Tally> = HashMap::new();
    let (mut encounters, mut exposures, mut candidates) = (Vec::new(), Vec::new(), Vec::new());
    for part in resolved {
        counts.encounters += part.encounter_count;
        counts.direct_ms_max = counts.direct_ms_max.max(part.direct_ms_max);
        for (case, tally) in part.tallies {
            counts.exposures += tally.exposures;
            let sum = tallies.entry(case).or_default();
            sum.exposures += tally.exposures;
            sum.candidates += tally.candidates;
        }
        counts.candidates += part.candidates.num_rows() as u64;
        encounters.push(part.encounters);
        exposures.push(part.exposures);
        candidates.push(part.candidates);
    }
    let full =
        |batches: Vec<RecordBatch>| batches.into_iter().filter(|b| b.num_rows() > 0).collect::<Vec<_>>();
    let view = Pings::of(case_pings);
    let seen: crate::person::PersonSet =
        view.groups().into_iter().map(|group| view.persons.at(group.start).to_id()).collect();
    let cases = (0u32..).zip(&inputs.cases.cases).map(|(number, case)| CaseRow {
        observed: index.observed[number as usize],
        has_pings: seen.contains(&case.person),
        tally: tallies.get(&number).copied().unwrap_or_default(),
        case: case.clone(),
    });
    let mut answer = Answer {
        person,
        cases: cases.collect(),
        encounters: Sorted::by_person(
            encounter_schema(&inner),
            full(encounters),
            &["case", "start", "indirect", "source", "case_source", "place", "end"],
        ),
        exposures: Sorted::by_person(exposure_schema(&inner), full(exposures), &["case"]),
        candidates: Sorted::by_seconds_down(candidate_schema(&inner), full(candidates), "direct_ms"),
        survey,
        counts,
        timings_s: Vec::new(),
    };
    clock.lap_as("sort");
    answer.timings_s = clock.laps;
    Ok(answer)
}

/// Seconds by stage; a stage that comes again adds up.
struct Clock {
    last: Instant,
    laps: Vec<(&'static str, f64)>,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { last: Instant::now(), laps: Vec::new() }
    }
}

impl Clock {
    fn lap(&mut self, stage: Stage) {
        self.lap_as(stage.name());
    }

    fn lap_as(&mut self, name: &'static str) {
        let seconds = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        match self.laps.iter_mut().find(|(lap, _)| *lap == name) {
            Some((_, sum)) => *sum += seconds,
            None => self.laps.push((name, seconds)),
        }
    }
}
