//! The first scan: what is there, day by day, what cannot be read, and the cases' own pings.

use super::watch::{Stage, Watch};
use crate::answer::{FeedSurvey, Rejection, Survey};
use crate::config::Config;
use crate::error::{Error, Problem, Result};
use crate::io::decode::{Decoded, Fault};
use crate::io::inputs::{Inputs, Task};
use crate::person::{PersonSet, Persons, PersonsSeen};
use crate::time::{Millis, days_in, utc_text};
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use chrono::NaiveDate;
use rayon::prelude::*;

struct Part {
    feeds: Vec<FeedSurvey>,
    persons: PersonsSeen,
    case_pings: Vec<RecordBatch>,
    faults: Vec<(Task, Fault)>,
}

impl Part {
    fn new(feeds: usize, days: usize) -> Self {
        let feed = FeedSurvey { by_day: vec![0; days], ..FeedSurvey::default() };
        Part {
            feeds: vec![feed; feeds],
            persons: PersonsSeen::default(),
            case_pings: Vec::new(),
            faults: Vec::new(),
        }
    }

    fn merge(mut self, mut other: Part) -> Part {
        for (mine, theirs) in self.feeds.iter_mut().zip(&other.feeds) {
            mine.add(theirs);
        }
        self.persons.merge(&other.persons);
        self.case_pings.append(&mut other.case_pings);
        self.faults.append(&mut other.faults);
        self
    }
}

/// Reads every row once.
pub fn survey(config: &Config, inputs: &Inputs, watch: &Watch) -> Result<Survey> {
    let (tasks, rows) = inputs.tasks();
    watch.start(Stage::Survey, rows);
    let days = days_in(config.lookback_start(), config.as_of, config.zone());
    let case_persons: PersonSet = inputs.cases.cases.iter().map(|c| c.person.clone()).collect();
    let new_part = || Part::new(inputs.feeds.len(), days.len());
    let limits: Vec<u64> =
        (0..inputs.feeds.len()).map(|feed| share_of(inputs.rows_to_read(feed), config)).collect();
    let part = tasks
        .par_iter()
        .try_fold(new_part, |mut part, task| {
            let feed = &inputs.feeds[task.feed];
            inputs.decoder.read(
                feed,
                &feed.files[task.file],
                task.group,
                Some(&case_persons),
                &mut |decoded| {
                    watch.advance(decoded.rows)?;
                    take_in(&mut part, *task, &decoded, &days, &case_persons)?;
                    if part.feeds[task.feed].rejected_rows() > limits[task.feed] {
                        return Err(too_many_rejected(
                            config,
                            inputs,
                            task.feed,
                            &part,
                            limits[task.feed],
                            inputs.rows_to_read(task.feed),
                        ));
                    }
                    Ok(())
                },
            )?;
            Ok(part)
        })
        .try_reduce(new_part, |a, b| Ok(a.merge(b)))?;
    for (feed, found) in part.feeds.iter().enumerate() {
        // Of the rows inside the lookback, as how many outside it are read depends on the files.
        let inside = found.rows_kept + found.rejected_rows();
        let limit = share_of(inside, config);
        if found.rejected_rows() > limit {
            return Err(too_many_rejected(config, inputs, feed, &part, limit, inside));
        }
    }
    refuse_all_outside(config, inputs, &part.feeds)?;
    let case_pings = concat_batches(&inputs.decoder.schema, &part.case_pings).map_err(super::too_large)?;
    let mut rejections: Vec<Rejection> = inputs.rejections.clone();
    rejections.extend(part.faults.iter().map(|(task, fault)| rejection(inputs, *task, *fault)));
    rejections.sort();
    Ok(Survey { feeds: part.feeds, days, persons: part.persons, case_pings, rejections })
}

fn rejection(inputs: &Inputs, task: Task, fault: Fault) -> Rejection {
    let feed = &inputs.feeds[task.feed];
    Rejection {
        feed: feed.config.label.clone(),
        file: feed.files[task.file].input.name.clone(),
        row: fault.row,
        reason: fault.reason,
        column: fault.column,
    }
}

fn take_in(
    part: &mut Part,
    task: Task,
    decoded: &Decoded,
    days: &[(Millis, NaiveDate)],
    case_persons: &PersonSet,
) -> Result<()> {
    let kept = decoded.pings.num_rows();
    let mut here = FeedSurvey {
        rows_read: decoded.rows,
        rows_kept: kept as u64,
        before: decoded.before,
        after: decoded.after,
        span: decoded.span,
        ..FeedSurvey::default()
    };
    for fault in &decoded.faults {
        *here.rejected.entry(fault.reason).or_default() += 1;
        part.faults.push((task, *fault));
    }
    part.feeds[task.feed].add(&here);
    let pings = crate::ping::Pings::of(&decoded.pings);
    let by_day = &mut part.feeds[task.feed].by_day;
    let mut day = 0;
    for &time in pings.times {
        // Times come in runs of a day, so the last day is tried first.
        let inside = |day: usize| days[day].0 <= time && days.get(day + 1).is_none_or(|next| time < next.0);
        if !inside(day) {
            day = days.partition_point(|(start, _)| *start <= time).saturating_sub(1);
        }
        by_day[day] += 1;
    }
    let persons: &Persons = &pings.persons;
    let mut wanted = Vec::with_capacity(kept);
    for row in 0..kept {
        let person = persons.at(row);
        part.persons.see(person.spread());
        wanted.push(case_persons.contains(&person));
    }
    if wanted.contains(&true) {
        let rows =
            filter_record_batch(&decoded.pings, &BooleanArray::from(wanted)).map_err(super::too_large)?;
        part.case_pings.push(rows);
    }
    Ok(())
}

/// How many of so many rows may be unreadable.
fn share_of(rows: u64, config: &Config) -> u64 {
    (rows as f64 * config.rejected_share_max + 1e-9).floor() as u64
}

fn too_many_rejected(
    config: &Config,
    inputs: &Inputs,
    feed: usize,
    part: &Part,
    limit: u64,
    rows: u64,
) -> Error {
    let first = part
        .faults
        .iter()
        .filter(|(task, _)| task.feed == feed)
        .map(|(task, fault)| rejection(inputs, *task, *fault))
        .min();
    let example =
        first.map_or(String::new(), |r| format!("; the first: {}, row {}: {}", r.file, r.row, r.reason));
    Error::Input(Problem::new(
        format!("{} ({} feed)", inputs.feeds[feed].config.label, inputs.feeds[feed].config.stay.source),
        format!(
            "at most {:.4}% of its rows unreadable (rejected_share_max)",
            config.rejected_share_max * 100.0
        ),
        format!("more than {limit} of {rows} rows{example}"),
        "mend the feed or its mapping (columns, time_unit, datum); raise rejected_share_max only if the loss is understood",
    ))
}

/// Not one ping inside the lookback, though there are pings: as_of or a unit is wrong, and an empty
/// answer would look like good news.
fn refuse_all_outside(config: &Config, inputs: &Inputs, feeds: &[FeedSurvey]) -> Result<()> {
    let rows: u64 = inputs.feeds.iter().flat_map(|f| &f.files).map(|f| f.rows()).sum();
    if rows == 0 || feeds.iter().any(|f| f.rows_kept > 0) {
        return Ok(());
    }
    let skipped =
        inputs.feeds.iter().flat_map(|f| &f.files).flat_map(|f| &f.groups).filter_map(|g| g.time_range);
    let spans = feeds.iter().filter_map(|f| f.span).chain(skipped);
    let Some((from, to)) = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else { return Ok(()) };
    Err(Error::Input(Problem::new(
        format!("all feeds ({rows} rows)"),
        format!(
            "pings inside the lookback, {} to {}",
            utc_text(config.lookback_start()),
            utc_text(config.as_of)
        ),
        format!("times from {} to {}", utc_text(from), utc_text(to)),
        "check as_of, lookback_days, time_unit and time_zone",
    )))
}
