//! The run: every row is read once, the rows that can matter become stays, by person, and stays become the
//! answer. The only place that spreads work over threads.

mod ahead;
pub mod city;
mod clock;
pub mod controls;
pub mod covered;
mod dwelling;
mod guided;
pub mod ingest;
mod intake;
mod lane;
mod linking;
mod order;
mod parts;
mod person_order;
mod resolving;
pub mod safeguards;
mod survivors;
pub mod synth;
mod tables;
mod time_order;
mod tracks;
mod unordered;
pub mod warnings;
pub mod watch;

use crate::answer::{Answer, CaseRow, Counts, Survey};
use crate::config::{Config, MEMORY_BYTES_MIN};
use crate::contradiction::Contradiction;
use crate::error::{Error, Problem, Result};
use crate::index::{Beside, CaseIndex};
use crate::io::decode::{Decoded, Decoder};
use crate::io::inputs::Inputs;
use crate::io::output::Staging;
use crate::io::results::{self, Written};
use crate::io::spill::Spill;
use crate::person::{PersonId, PersonKind, PersonSet, Persons};
use crate::ping::{Pings, group_by_person, moved};
use crate::rule::{CandidateRule, EncounterRule, Motion, Resident, Source, StayRule};
use crate::stay::packed::Packing;
use crate::stay::stay_schema;
use crate::time::{Millis, days_in};
use crate::track::TrackRule;
use crate::uncertainty::Uncertainty;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use chrono::NaiveDate;
use clock::Clock;
use intake::{CasePersons, Intake};
use lane::Lane;
use order::Unit;
use parts::Room;
use resolving::{AtOnce, Numbered};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use survivors::Survivors;
use tables::Tables;
use watch::{Stage, Watch};

/// Rows that a thread decodes in one round of a pass in the order of time.
const ROUND_ROWS: u64 = 2 << 20;
/// Bytes of a decoded row, about, without a text's.
const ROW_BYTES: u64 = 40;
/// Bytes of a pseudonym that is a text, about.
const TEXT_BYTES: u64 = 44;
/// The cases' pings are in memory so often while they are indexed.
const CASE_PING_COPIES: u64 = 3;
/// Parts that persons are parted into, at least and at most.
const PARTS_MIN: usize = 64;
const PARTS_MAX: usize = 4_096;
/// Rows of a part, at most, so that it is worked on in the caches; but no more parts than this for their sake, as what
/// goes to each at once becomes too little.
const PART_ROWS: u64 = 1 << 20;
const PARTS_ENOUGH: usize = 128;

/// A batch that Arrow cannot hold: 2^31 bytes of ids in one.
fn too_large(error: ArrowError) -> Error {
    Error::Memory(Problem::new(
        "pings of a group of persons",
        "at most 2 GiB of ids at once",
        error.to_string(),
        "give less --memory, so that fewer persons are gathered at once",
    ))
}

/// Runs a job up to its answer. What does not fit the memory goes to the folder `spill`, which is removed.
pub fn compute(config: &Config, inputs: &Inputs, spill: &Path, watch: &Watch) -> Result<Answer> {
    pool(config.threads)?.install(|| {
        let Some(decoder) = inputs.decoder_without_accuracies() else {
            return compute_here(&Job::new(config, inputs, &inputs.decoder, watch), spill);
        };
        let job = Job::new(config, inputs, &decoder, watch);
        let answer = compute_here(&job, spill);
        if !job.tied.load(Ordering::Relaxed) {
            return answer;
        }
        // Accuracies have to decide after all: all starts again.
        let again = Job { began_before: true, ..Job::new(config, inputs, &inputs.decoder, watch) };
        compute_here(&again, spill)
    })
}

/// Writes an answer's tables, on as many threads as the run has, and tells what was written; the tables are gone then.
pub fn write(
    config: &Config,
    inputs: &Inputs,
    staging: &Staging,
    answer: &mut Answer,
) -> Result<Vec<Written>> {
    let areas = inputs.areas.as_deref();
    let write = || results::write(staging, config, areas, answer, &ahead::in_order);
    let written = pool(config.threads)?.install(write)?;
    answer.drop_tables();
    Ok(written)
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

/// What all passes of a run share.
struct Job<'a> {
    config: &'a Config,
    inputs: &'a Inputs,
    decoder: &'a Decoder,
    watch: &'a Watch,
    /// Whether two pings of a track at one instant wait for their accuracies, which are not read.
    tied: AtomicBool,
    /// Whether this is the second beginning, because of that.
    began_before: bool,
    feeds: Vec<StayRule>,
    days: Vec<(Millis, NaiveDate)>,
    case_persons: CasePersons,
    stay_schema: SchemaRef,
    /// How stays wait for the others of their persons.
    packing: Packing,
    /// Rows rejected so far, by feed.
    rejected: Vec<AtomicU64>,
    /// Rows of persons who are cases, so far.
    case_rows: AtomicU64,
    /// Rows that a round of a pass in the order of time decodes.
    round_rows: u64,
    parts: usize,
}

impl<'a> Job<'a> {
    fn new(config: &'a Config, inputs: &'a Inputs, decoder: &'a Decoder, watch: &'a Watch) -> Self {
        let feeds = inputs.stay_rules();
        let rows = inputs.tasks().1;
        let infectious = inputs.cases.cases.iter().filter(|c| c.infectious_from < c.infectious_to);
        let place = &config.rule.encounter.place;
        let stay_schema = stay_schema(&decoder.person.inner(), &feeds, place, asks_endings(config));
        let mut job = Job {
            config,
            inputs,
            decoder,
            watch,
            tied: AtomicBool::new(false),
            began_before: false,
            days: days_in(config.lookback_start(), config.as_of, config.zone()),
            case_persons: CasePersons::new(infectious.map(|c| c.person.clone())),
            rejected: intake::no_rows(feeds.len()),
            case_rows: AtomicU64::new(0),
            round_rows: 0,
            parts: PARTS_MIN,
            packing: Packing::new(&stay_schema, decoder.from),
            stay_schema,
            feeds,
        };
        let a_part = config.memory_bytes / (8 * config.threads as u64);
        while (rows / job.parts as u64 > PART_ROWS && job.parts < PARTS_ENOUGH)
            || (rows * job.row_bytes() / job.parts as u64 > a_part && job.parts < PARTS_MAX)
        {
            job.parts *= 2;
        }
        job.round_rows = (ROUND_ROWS * config.threads as u64).min(job.window_rows() / 3).max(1);
        job
    }

    fn rule(&self) -> &EncounterRule {
        &self.config.rule.encounter
    }

    fn row_bytes(&self) -> u64 {
        let text = self.decoder.person.kind() != PersonKind::Integer;
        ROW_BYTES + if text { TEXT_BYTES } else { 0 }
    }

    /// Bytes for what is kept by person.
    fn room_bytes(&self) -> u64 {
        self.config.memory_bytes / 5 * 2
    }

    /// Rows that a window over files in the order of time may hold.
    fn window_rows(&self) -> u64 {
        self.config.memory_bytes / 4 / self.row_bytes()
    }

    /// Counts rows of persons who are cases in. They and the index over them stay in memory.
    fn hold_case_rows(&self, rows: u64) -> Result<()> {
        let rows = self.case_rows.fetch_add(rows, Ordering::Relaxed) + rows;
        self.refuse_too_many_case_pings(rows * self.row_bytes() * CASE_PING_COPIES, false)
    }

    /// Half of the memory is for the cases' own.
    fn refuse_too_many_case_pings(&self, bytes: u64, all_are_read: bool) -> Result<()> {
        let half = self.config.memory_bytes.max(MEMORY_BYTES_MIN) / 2;
        if bytes <= half {
            return Ok(());
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let enough = mib(bytes * 2).next_multiple_of(64);
        if self.inputs.controls.is_some() {
            return Err(Error::Memory(Problem::new(
                "the controls' own pings, and the index over their stays",
                format!("at most half of --memory, {} MiB", mib(half)),
                format!("{} MiB", mib(bytes)),
                "ask for fewer --controls, or give more --memory",
            )));
        }
        let (found, give) = if all_are_read {
            (format!("{} MiB", mib(bytes)), format!("{enough}MiB or more"))
        } else {
            let found = format!("{} MiB before all are read", mib(bytes));
            (found, format!("far above {enough}MiB, as not all are read"))
        };
        Err(Error::Memory(Problem::new(
            format!(
                "the cases' own pings, and the index over their stays, of {} cases",
                self.inputs.cases.cases.len()
            ),
            format!("at most half of --memory, {} MiB", mib(half)),
            found,
            format!(
                "give --memory {give}; or run the cases in several jobs; if so many cannot be right, check the list of cases"
            ),
        )))
    }

    /// The longest hold of a source's feeds.
    fn hold_ms(&self, source: Source) -> Millis {
        self.feeds.iter().filter(|f| f.source == source).map(|f| f.hold_ms).max().unwrap_or(0)
    }

    /// How far ahead of a ping the cases' pings have to be known to tell whether it may meet them: a hold,
    /// and another one where stays move and each ends at the next ping.
    fn ahead_ms(&self, source: Source) -> Millis {
        let moves = self.feeds.iter().any(|f| f.source == source && f.motion == Motion::Linear);
        self.hold_ms(source) * if moves { 2 } else { 1 }
    }

    /// Whether a pass over these units in the order of time keeps within the memory, and knows enough.
    fn window_fits(&self, source: Source, units: &[Unit]) -> bool {
        let of_source = || self.feeds.iter().filter(|f| f.source == source);
        if of_source().any(|f| f.motion == Motion::Linear) && of_source().any(StayRule::filters) {
            return false;
        }
        // Where within its row group a unit lies is guessed from its rows.
        let mut spans: Vec<(Millis, Millis, u64)> = units.iter().map(|u| self.span_of(u)).collect();
        let rows_by = |spans: &[(Millis, Millis, u64)], key: &dyn Fn(&(Millis, Millis, u64)) -> Millis| {
            let mut sorted: Vec<(Millis, u64)> = spans.iter().map(|s| (key(s), s.2)).collect();
            sorted.sort_unstable();
            let mut sum = 0;
            sorted.iter_mut().for_each(|(_, rows)| {
                sum += *rows;
                *rows = sum;
            });
            sorted
        };
        let (begun, over) = (rows_by(&spans, &|s| s.0), rows_by(&spans, &|s| s.1));
        let sum = |sorted: &[(Millis, u64)], count: usize| count.checked_sub(1).map_or(0, |at| sorted[at].1);
        let ahead_ms = self.ahead_ms(source);
        spans.iter_mut().all(|(from, to, _)| {
            let begun_by = sum(&begun, begun.partition_point(|b| b.0 <= to.saturating_add(ahead_ms)));
            let over_by = sum(&over, over.partition_point(|o| o.0 < *from));
            begun_by - over_by <= self.window_rows()
        })
    }

    fn span_of(&self, unit: &Unit) -> (Millis, Millis, u64) {
        let rows = self.inputs.feeds[unit.feed].files[unit.file].groups[unit.group].rows;
        let Some(range) = &unit.rows else { return (unit.from, unit.to, unit.count) };
        let length = unit.to.saturating_sub(unit.from) as f64;
        let at = |row: u64| unit.from.saturating_add((length * row as f64 / rows as f64) as Millis);
        (at(range.start), at(range.end), unit.count)
    }

    fn track_rule(&self, source: Source) -> TrackRule<'_> {
        // Scans that are held against positions are looked at one by one.
        let joins = source != Source::Venue || !self.inputs.contradicts;
        let rule = TrackRule::new(source, &self.feeds, &self.rule().place, self.config.as_of, joins)
            .with_uncertainty(self.uncertainty())
            .with_areas(self.inputs.areas.as_deref())
            .with_endings(asks_endings(self.config));
        if self.decoder.accuracies { rule } else { rule.without_accuracies(&self.tied) }
    }

    /// How uncertain pings are, where the rule weighs that.
    fn uncertainty(&self) -> Option<&Uncertainty> {
        self.inputs.is_uncertain.then_some(&self.inputs.uncertainty)
    }

    /// How scans are held against positions, if they are.
    fn contradiction(&self) -> Option<Contradiction<'_>> {
        let metres = self.rule().contradiction_m;
        self.inputs.contradicts.then_some(Contradiction { metres, uncertainty: &self.inputs.uncertainty })
    }

    /// How long somebody has to dwell where an exposure was.
    fn resident(&self) -> Option<Resident> {
        self.config.rule.candidate.resident
    }

    /// The persons that statistics promise for a unit's row group.
    fn person_range(&self, unit: &Unit) -> Option<(PersonId, PersonId)> {
        let file = &self.inputs.feeds[unit.feed].files[unit.file];
        // Integers of another type are ordered otherwise.
        (file.person == Some(self.decoder.person)).then_some(())?;
        file.groups[unit.group].person_range.clone()
    }

    /// Reads rows of a unit in batches: these of its row group, or all of the unit's.
    fn read(
        &self,
        unit: &Unit,
        rows: Option<&[Range<u64>]>,
        visitors: Option<&PersonSet>,
        each: &mut dyn FnMut(Decoded) -> Result<()>,
    ) -> Result<()> {
        let feed = &self.inputs.feeds[unit.feed];
        let rows = rows.or(unit.rows.as_ref().map(std::slice::from_ref));
        self.decoder.read(feed, &feed.files[unit.file], unit.group, rows, visitors, &mut |decoded| {
            self.watch.advance(decoded.rows)?;
            self.go_on_unless_tied()?;
            each(decoded)
        })
    }

    /// An end to work that has to start again.
    fn go_on_unless_tied(&self) -> Result<()> {
        if self.tied.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// The rows of a unit that may be of cases' persons, as far as statistics promise.
    fn rows_that_may_be_of_cases(&self, unit: &Unit) -> Result<Vec<Range<u64>>> {
        let file = &self.inputs.feeds[unit.feed].files[unit.file];
        let any_in = |first: &PersonId, last: &PersonId| self.case_persons.any_in(first, last);
        // Integers of another type are ordered otherwise.
        let rows = match file.person == Some(self.decoder.person) {
            true => file.rows_that_may_be_of(unit.group, &any_in)?,
            false => std::iter::once(0..file.groups[unit.group].rows).collect(),
        };
        let Some(own) = &unit.rows else { return Ok(rows) };
        let inside = rows.iter().map(|rows| rows.start.max(own.start)..rows.end.min(own.end));
        Ok(inside.filter(|rows| !rows.is_empty()).collect())
    }

    fn read_persons(
        &self,
        unit: &Unit,
        rows: &[Range<u64>],
        each: &mut dyn FnMut(Persons<'_>) -> Result<()>,
    ) -> Result<()> {
        let file = &self.inputs.feeds[unit.feed].files[unit.file];
        self.decoder.read_persons(file, unit.group, Some(rows), &mut |persons| {
            self.watch.advance(0)?;
            each(persons)
        })
    }
}

/// Whether rules of other distances are asked, so that it counts how far from a stay the ping is that ends it.
fn asks_endings(config: &Config) -> bool {
    let metres = config.rule.encounter.place.metres();
    // Nothing else hangs on that.
    let confirms = |set: &CandidateRule| set.confirmed_ms_min.is_some();
    let mut variants = config.variants.iter();
    variants.any(|variant| variant.encounter.place.metres() != metres && variant.sets.iter().any(confirms))
}

fn compute_here(job: &Job<'_>, spill: &Path) -> Result<Answer> {
    let mut clock = Clock::default();
    let Job { config, inputs, watch, .. } = *job;
    let spill = Arc::new(Spill::new(spill));
    let room = Room::new(job.room_bytes(), spill.clone());
    watch.start(Stage::Scan, inputs.tasks().1);
    let mut lanes = Vec::new();
    for source in Source::ALL {
        if job.feeds.iter().any(|f| f.source == source) {
            lanes.push(Lane::new(job, source, &room)?);
        }
    }
    watch.start(Stage::Scan, inputs.tasks().1);
    for lane in &mut lanes {
        lane.first_pass(job)?;
    }
    clock.lap(Stage::Scan);
    let nothing = Numbered::default();
    let (index, with_pings, tables, stays_at_once) = loop {
        let (index, with_pings) = index_of(job, &lanes, watch)?;
        let (inner, place) = (job.decoder.person.inner(), &job.rule().place);
        let tables = Tables::new(&inner, place, index.cases(), config.memory_bytes / 8, spill.clone());
        clock.lap(Stage::Index);
        watch.start(Stage::Sieve, rows_after_cases(job, &lanes));
        let at_once = resolving::may_be_at_once(job, &lanes);
        let at_once = at_once.then(|| AtOnce::new(nothing.setting(job, &index), &tables));
        let mut broken = false;
        for lane in lanes.iter_mut().filter(|l| l.after_cases(job)) {
            broken |= !lane.second_pass(job, &index, at_once.as_ref())?;
            if broken {
                lane.give_up_order(job)?;
                break;
            }
        }
        clock.lap(Stage::Sieve);
        if !broken {
            let stays = at_once.map_or(0, |at_once| at_once.stays());
            break (index, with_pings, tables, stays);
        }
        // The cases' pings may have been others than the statistics promised, so all starts again.
        tables.discard()?;
        for lane in lanes.iter_mut().filter(|l| l.again) {
            lane.pings.clear()?;
        }
        for lane in lanes.iter_mut().filter(|l| l.is_read_in_order(job)) {
            let case_pings = std::mem::take(&mut lane.intake.case_pings);
            lane.reset(job)?;
            lane.intake.case_pings = case_pings;
        }
    };
    let mut intake = Intake::new(job);
    let mut counts = Counts { case_stays: index.len() as u64, ..Counts::default() };
    for lane in &mut lanes {
        intake.merge(std::mem::replace(&mut lane.intake, Intake::new(job)));
    }
    let mut survey = intake.finish(job)?;
    for (feed, open) in survey.feeds.iter().zip(&inputs.feeds) {
        counts.rows += open.files.iter().map(|f| f.rows()).sum::<u64>();
        counts.rows_read += feed.rows_read;
        counts.rows_kept += feed.rows_kept;
        counts.rows_rejected += feed.rejected_rows();
    }
    counts.persons = survey.persons.estimate();
    let numbered = Numbered::new(job);
    let setting = numbered.setting(job, &index);
    let survivors = Survivors::new(&room, job.parts);
    resolving::resolve_parts(job, &lanes, &setting, &tables, &survivors, &mut counts)?;
    counts.stays += stays_at_once;
    (counts.scans_contradicted, survey.rejections) =
        survivors::check(job, &lanes, &setting, &tables, survivors, survey.rejections)?;
    job.go_on_unless_tied()?;
    clock.lap(Stage::Resolve);
    counts.parts = job.parts as u64;
    counts.paths = lanes.iter().map(|lane| lane.path(job)).collect();
    drop(lanes);
    let mut answer = collect(inputs, survey, &index, &with_pings, tables, counts, clock)?;
    (answer.counts.spilled_files, answer.counts.spilled_bytes) = spill.written();
    watch.advance(0)?;
    Ok(answer)
}

/// Rows that are read when the cases are known, each as often as it is.
fn rows_after_cases(job: &Job<'_>, lanes: &[Lane<'_>]) -> u64 {
    let rows = |lane: &Lane<'_>| lane.units.iter().map(|u| u.count).sum::<u64>();
    lanes.iter().filter(|l| l.after_cases(job)).map(|l| rows(l) * if l.again { 2 } else { 1 }).sum()
}

/// The index over the cases' stays, and the cases' persons who have pings.
fn index_of(job: &Job<'_>, lanes: &[Lane<'_>], watch: &Watch) -> Result<(CaseIndex, PersonSet)> {
    let batches: Vec<&RecordBatch> = lanes.iter().flat_map(|l| &l.intake.case_pings).collect();
    let pings = concat_batches(&job.decoder.schema, batches).map_err(too_large)?;
    watch.start(Stage::Index, pings.num_rows() as u64);
    let view = Pings::of(&pings);
    let grouped = group_by_person(&pings, |row| view.times[row]).map_err(too_large)?;
    let cases = &job.inputs.cases.cases;
    let moved = job.inputs.controls.map(|(rotation, count)| {
        let moved = moved(&pings, |time| rotation.at(time)).map_err(too_large)?;
        let times = Pings::of(&moved).times;
        Ok((group_by_person(&moved, |row| times[row]).map_err(too_large)?, count))
    });
    let moved = moved.transpose()?;
    let ties = (!job.decoder.accuracies).then_some(&job.tied);
    let index = CaseIndex::build(
        &grouped,
        cases,
        job.rule(),
        &job.feeds,
        job.config.as_of,
        Beside {
            ties,
            uncertainty: job.uncertainty(),
            contradiction: job.contradiction(),
            residents: job.resident().is_some(),
            home: job.inputs.home.as_ref(),
            areas: job.inputs.areas.as_ref(),
            endings: asks_endings(job.config),
            moved: moved.as_ref().map(|(pings, count)| (pings, *count)),
        },
    );
    job.go_on_unless_tied()?;
    let bytes = pings.get_array_memory_size() as u64 * CASE_PING_COPIES + index.bytes as u64;
    job.refuse_too_many_case_pings(bytes, true)?;
    watch.advance(0)?;
    let view = Pings::of(&grouped);
    let here = view.groups().into_iter().map(|group| view.persons.at(group.start).to_id());
    let elsewhere = lanes.iter().flat_map(|lane| lane.intake.cases_seen.iter().cloned());
    let with_pings = here.chain(elsewhere).collect();
    Ok((index, with_pings))
}

fn collect(
    inputs: &Inputs,
    survey: Survey,
    index: &CaseIndex,
    with_pings: &PersonSet,
    tables: Tables,
    mut counts: Counts,
    mut clock: Clock,
) -> Result<Answer> {
    let ([encounters, exposures, candidates, dwells], sums) = tables.finish()?;
    counts.encounters = sums.encounters;
    counts.exposures = sums.exposures;
    counts.candidates = sums.candidates;
    counts.dwells = sums.dwells;
    counts.direct_ms_max = sums.direct_ms_max;
    let cases = (0u32..).zip(&inputs.cases.cases).map(|(number, case)| CaseRow {
        observed: index.observed[number as usize],
        has_pings: with_pings.contains(&case.person),
        tally: sums.tallies[number as usize],
        case: case.clone(),
    });
    let mut answer = Answer {
        person: inputs.decoder.person,
        cases: cases.collect(),
        encounters,
        exposures,
        candidates,
        dwells,
        survey,
        counts,
        variants: sums.variants,
        controls: None,
        timings_s: Vec::new(),
    };
    clock.lap_as("sort");
    answer.timings_s = clock.laps;
    Ok(answer)
}
