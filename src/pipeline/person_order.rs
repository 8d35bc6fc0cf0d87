//! Rows in the order of persons: the cases' own rows first, found by the person column alone, then one pass
//! in which each person's rows stand together.

use super::Job;
use super::intake::{Found, Intake};
use super::order::Unit;
use super::parts::{Dealing, Gathering, Handing, To};
use crate::error::{Error, Result};
use crate::index::sieve::Sieve;
use crate::person::{PersonId, PersonRef};
use crate::ping::{Mark, Marked, Pings};
use crate::rule::Source;
use crate::stay::Stay;
use crate::time::{Millis, are_ascending};
use crate::track::many::{self, Line, Row};
use crate::track::{Track, TrackRule};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The pings of the cases' persons, from the row groups that may hold any.
pub fn case_pings(job: &Job<'_>, units: &[Unit]) -> Result<Vec<RecordBatch>> {
    let may_hold = |unit: &&Unit| {
        job.person_range(unit).is_none_or(|(first, last)| job.case_persons.any_in(&first, &last))
    };
    let found: Vec<Result<Vec<RecordBatch>>> = units
        .par_iter()
        .filter(may_hold)
        .map(|unit| {
            let rows = job.rows_that_may_be_of_cases(unit)?;
            if rows.is_empty() {
                return Ok(Vec::new());
            }
            let mut wanted: Vec<Range<u64>> = Vec::new();
            let mut numbers = rows.iter().cloned().flatten();
            job.read_persons(unit, &rows, &mut |persons| {
                let mut last: Option<(PersonRef<'_>, bool)> = None;
                for (at, row) in (0..persons.len()).zip(&mut numbers) {
                    let person = persons.at(at);
                    let is_case = match last {
                        Some((same, is_case)) if same == person => is_case,
                        _ => job.case_persons.has(person, person.spread()),
                    };
                    last = Some((person, is_case));
                    match wanted.last_mut() {
                        Some(run) if is_case && run.end == row => run.end += 1,
                        _ if is_case => wanted.push(row..row + 1),
                        _ => {}
                    }
                }
                Ok(())
            })?;
            let mut pings = Vec::new();
            if !wanted.is_empty() {
                job.read(unit, Some(&wanted), None, &mut |decoded| {
                    job.hold_case_rows(decoded.pings.num_rows() as u64)?;
                    pings.push(decoded.pings);
                    Ok(())
                })?;
            }
            Ok(pings)
        })
        .collect();
    found.into_iter().collect::<Result<Vec<_>>>().map(|batches| batches.concat())
}

/// One pass over a source. Persons whose rows lie in two units go to `edges`, to be done when all are read.
/// `None` if some file is not in the order that it promised.
pub fn pass(
    job: &Job<'_>,
    source: Source,
    units: &[Unit],
    sieve: &Sieve,
    stays: To<'_, '_>,
    edges: &Gathering<'_, '_>,
) -> Result<Option<Found>> {
    let (marked, tracked) = (AtomicU64::new(0), AtomicU64::new(0));
    let spans: Mutex<Vec<(PersonId, PersonId)>> = Mutex::default();
    let broken = AtomicBool::new(false);
    // Each unit by itself: with several at a time one thread has the last of them when the others are done.
    let intake = units
        .par_iter()
        .with_max_len(1)
        .try_fold(
            || Intake::new(job),
            |mut intake, unit| {
                if broken.load(Ordering::Relaxed) {
                    return Ok(intake);
                }
                let mut walk = Walk {
                    sieve,
                    edges,
                    rule: job.track_rule(source),
                    out: Handing::new(stays, &job.stay_schema),
                    pending: Vec::new(),
                    first: None,
                    range: job.person_range(unit),
                    marked: 0,
                    tracked: 0,
                };
                let mut ordered = true;
                job.read(unit, None, None, &mut |decoded| {
                    intake.take_runs(job, unit, &decoded)?;
                    ordered = ordered && walk.batch(&decoded.pings)?;
                    Ok(())
                })?;
                let span = walk.finish()?;
                marked.fetch_add(walk.marked, Ordering::Relaxed);
                tracked.fetch_add(walk.tracked, Ordering::Relaxed);
                if let Some(span) = span {
                    spans.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(span);
                }
                broken.fetch_or(!ordered, Ordering::Relaxed);
                Ok(intake)
            },
        )
        .try_reduce(
            || Intake::new(job),
            |mut a, b| {
                a.merge(b);
                Ok::<_, Error>(a)
            },
        )?;
    let mut spans = spans.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    spans.sort();
    if broken.into_inner() || spans.windows(2).any(|w| w[0].1 > w[1].0) {
        return Ok(None);
    }
    Ok(Some(Found { intake, marked: marked.into_inner(), tracked: tracked.into_inner(), dwellings: None }))
}

/// The way through one unit.
struct Walk<'w, 'p, 'r> {
    sieve: &'w Sieve,
    edges: &'w Gathering<'p, 'r>,
    rule: TrackRule<'w>,
    out: Handing<'w, 'r>,
    /// The last person's rows so far, who may go on.
    pending: Vec<RecordBatch>,
    /// The first person, whose rows may have begun before.
    first: Option<PersonId>,
    range: Option<(PersonId, PersonId)>,
    marked: u64,
    tracked: u64,
}

impl Walk<'_, '_, '_> {
    /// Goes through a batch; says whether it is in order.
    fn batch(&mut self, batch: &RecordBatch) -> Result<bool> {
        let pings = Pings::of(batch);
        let rows = pings.times.len();
        if rows == 0 {
            return Ok(true);
        }
        let mut marks = Vec::new();
        self.sieve.marks(&pings, self.rule.source, &mut marks);
        self.marked += marks.len() as u64;
        if let Some((least, most)) = &self.range
            && (pings.persons.at(0) < least.as_ref() || pings.persons.at(rows - 1) > most.as_ref())
        {
            return Ok(false);
        }
        let mut start = 0;
        let mut marks = marks.as_slice();
        // The person of the rows before may go on.
        if let Some(last) = self.pending.last() {
            let before = Pings::of(last);
            let last = before.persons.at(before.times.len() - 1);
            if last > pings.persons.at(0) {
                return Ok(false);
            }
            if last == pings.persons.at(0) {
                start = pings.persons.end_of_run(0);
                self.pending.push(batch.slice(0, start));
                marks = &marks[marks.partition_point(|mark| (mark.row() as usize) < start)..];
                if start == rows {
                    return Ok(true);
                }
            }
            self.close_pending()?;
        }
        if self.first.is_none() {
            self.first = Some(pings.persons.at(0).to_id());
            start = pings.persons.end_of_run(0);
            let rest = batch.slice(0, start);
            marks = &marks[marks.partition_point(|mark| (mark.row() as usize) < start)..];
            self.pending.push(rest);
            if start == rows {
                return Ok(true);
            }
            self.close_pending()?;
        }
        if start > 0 && pings.persons.at(start) < pings.persons.at(start - 1) {
            return Ok(false);
        }
        while start < rows {
            let end = pings.persons.end_of_run(start);
            let person = pings.persons.at(start);
            if end == rows {
                self.pending.push(batch.slice(start, end - start));
                break;
            }
            if pings.persons.at(end) < person {
                return Ok(false);
            }
            let own = marks.partition_point(|mark| (mark.row() as usize) < end);
            if own > 0 {
                self.person(&pings, start..end, &marks[..own]);
            }
            marks = &marks[own..];
            start = end;
        }
        self.out.hand_over_enough()?;
        Ok(true)
    }

    /// One person's rows, of which these are marked.
    fn person(&mut self, pings: &Pings<'_>, rows: Range<usize>, marks: &[Marked]) {
        let person = pings.persons.at(rows.start);
        let (spread, out) = (person.spread(), &mut self.out);
        self.tracked +=
            follow(pings, rows, marks, &mut self.rule, &mut |stay| out.take(person, spread, stay));
    }

    /// The rows of the last person are all there, unless it is the unit's first.
    fn close_pending(&mut self) -> Result<()> {
        let batches = std::mem::take(&mut self.pending);
        let Some(first) = batches.first() else { return Ok(()) };
        let whose = Pings::of(first).persons.at(0).to_id();
        if self.first.as_ref() == Some(&whose) {
            return self.leave(&batches);
        }
        let joined = concat_batches(first.schema_ref(), &batches).map_err(super::too_large)?;
        let pings = Pings::of(&joined);
        let mut marks = Vec::new();
        self.sieve.marks(&pings, self.rule.source, &mut marks);
        self.person(&pings, 0..joined.num_rows(), &marks);
        Ok(())
    }

    /// The last person may go on in another unit. Gives the first and the last person.
    fn finish(&mut self) -> Result<Option<(PersonId, PersonId)>> {
        self.out.hand_over()?;
        let batches = std::mem::take(&mut self.pending);
        let last = batches.last().map(|batch| Pings::of(batch).persons.at(0).to_id());
        self.leave(&batches)?;
        Ok(self.first.take().zip(last))
    }

    /// Leaves rows of one person to be done when all are read.
    fn leave(&self, batches: &[RecordBatch]) -> Result<()> {
        let mut spreads = Vec::new();
        batches.iter().try_for_each(|batch| {
            Pings::of(batch).persons.spreads(&mut spreads);
            self.edges.add(batch, &spreads, None, &mut Dealing::default())
        })
    }
}

/// Lets a track follow one person's rows, of which these are marked, as far as they matter. Gives how many
/// rows those were.
pub fn follow(
    pings: &Pings<'_>,
    rows: Range<usize>,
    marks: &[Marked],
    rule: &mut TrackRule<'_>,
    out: &mut impl FnMut(&Stay),
) -> u64 {
    let times = &pings.times[rows.clone()];
    let ordered = are_ascending(times);
    if ordered && many::Tracks::suit(rule) {
        let mut line = Line::default();
        let tracked = each_that_matters(pings, rows, marks, &mut |row, mark, is_alone| {
            // Most rows only go on with a run.
            let at = (pings.times[row], pings.lat(row), pings.lon(row));
            if is_alone && mark == Mark::Case && line.goes_on(at, pings.feed(row), rule) {
                return;
            }
            let row = Row::new(pings, row, 0, mark);
            if is_alone { line.push_alone(&row, rule, out) } else { line.push(&row, rule, out) }
        });
        line.finish(rule, out);
        return tracked;
    }
    let mut track = Track::default();
    let mut tracked = (rows.end - rows.start) as u64;
    if !ordered {
        // Rows of one person in any order.
        let mut order: Vec<(Millis, usize)> = rows.map(|row| (pings.times[row], row)).collect();
        order.sort_unstable();
        for (_, row) in order {
            track.push(
                pings.at(row),
                marks.binary_search_by_key(&(row as u32), |mark| mark.row()).is_ok(),
                rule,
                out,
            );
        }
    } else if rule.filters() {
        let mut marks = marks.iter().peekable();
        for row in rows {
            let is_marked = marks.next_if(|mark| mark.row() as usize == row).is_some();
            track.push(pings.at(row), is_marked, rule, out);
        }
    } else {
        tracked = each_that_matters(pings, rows, marks, &mut |row, mark, _| {
            track.push(pings.at(row), mark != Mark::None, rule, out);
        });
    }
    track.finish(rule, out);
    tracked
}

/// Calls `each` with the rows that matter, and their marks: an instant matters if a ping of it or of
/// the instant before is marked, as it ends that one's stay; and with whether it has its instant to itself. Gives how many.
#[inline]
fn each_that_matters(
    pings: &Pings<'_>,
    rows: Range<usize>,
    marks: &[Marked],
    each: &mut impl FnMut(usize, Mark, bool),
) -> u64 {
    let mut count = 0;
    let mut marks = marks.iter().peekable();
    // Rows before it are done.
    let mut row = rows.start;
    while let Some(mark) = marks.peek().map(|mark| mark.row() as usize) {
        // Others of the mark's instant may stand before it.
        let first = (row..mark).rev().take_while(|before| pings.times[*before] == pings.times[mark]).count();
        row = mark - first;
        let mut after_mark = true;
        while row < rows.end {
            let now = pings.times[row];
            if row + 1 == rows.end || pings.times[row + 1] != now {
                let marked = marks.next_if(|mark| mark.row() as usize == row);
                if marked.is_none() && !after_mark {
                    break;
                }
                each(row, marked.map_or(Mark::None, |marked| marked.mark()), true);
                count += 1;
                (row, after_mark) = (row + 1, marked.is_some());
                continue;
            }
            let more = pings.times[row + 1..rows.end].iter().take_while(|time| **time == now).count();
            let end = row + 1 + more;
            let has_mark = marks.peek().is_some_and(|mark| (mark.row() as usize) < end);
            if !has_mark && !after_mark {
                break;
            }
            for row in row..end {
                let marked = marks.next_if(|mark| mark.row() as usize == row);
                each(row, marked.map_or(Mark::None, |marked| marked.mark()), false);
            }
            count += (end - row) as u64;
            (row, after_mark) = (end, has_mark);
        }
    }
    count
}
