//! What there is: rows by feed and day, persons seen, rejections, and the cases' own pings, counted as
//! the rows pass.

use super::Job;
use super::order::Unit;
use crate::answer::{FeedSurvey, Rejection, Survey};
use crate::error::{Error, Problem, Result};
use crate::io::decode::{Decoded, Fault};
use crate::person::{PersonId, PersonRef, PersonSet, PersonsSeen};
use crate::ping::Pings;
use crate::time::{Millis, utc_text};
use crate::track::dwelling::DwellSums;
use crate::wide::wide;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use std::sync::atomic::{AtomicU64, Ordering};

/// The persons who are cases, with a bitmap that most others fail.
#[derive(Debug)]
pub struct CasePersons {
    set: PersonSet,
    sorted: Vec<PersonId>,
    bits: Vec<u64>,
    mask: u64,
}

impl CasePersons {
    /// The set of these persons.
    pub fn new(persons: impl Iterator<Item = PersonId>) -> Self {
        let set: PersonSet = persons.collect();
        let mut sorted: Vec<PersonId> = set.iter().cloned().collect();
        sorted.sort();
        let size = (set.len() * 64).next_power_of_two().clamp(1 << 12, 1 << 26);
        let mut bits = vec![0u64; size / 64];
        let mask = size as u64 - 1;
        for person in &set {
            let bit = person.as_ref().spread() & mask;
            bits[(bit >> 6) as usize] |= 1 << (bit & 63);
        }
        CasePersons { set, sorted, bits, mask }
    }

    /// The persons.
    pub fn set(&self) -> &PersonSet {
        &self.set
    }

    /// Whether a person of this [`PersonRef::spread`] may be a case; most others fail.
    #[inline(always)]
    pub fn may_have(&self, spread: u64) -> bool {
        let bit = spread & self.mask;
        self.bits[(bit >> 6) as usize] >> (bit & 63) & 1 == 1
    }

    /// Whether somebody is a case; `spread` is that person's.
    #[inline]
    pub fn has(&self, person: PersonRef<'_>, spread: u64) -> bool {
        self.may_have(spread) && self.set.contains(&person)
    }

    /// Whether some case's person lies in [first, last].
    pub fn any_in(&self, first: &PersonId, last: &PersonId) -> bool {
        let at = self.sorted.partition_point(|p| p < first);
        self.sorted.get(at).is_some_and(|p| p <= last)
    }
}

/// What a part of the rows gave.
#[derive(Debug)]
pub struct Intake {
    feeds: Vec<FeedSurvey>,
    /// The persons who were seen.
    pub persons: PersonsSeen,
    /// The pings of persons who are cases.
    pub case_pings: Vec<RecordBatch>,
    /// Persons who are cases and have pings, whether or not these are among them.
    pub cases_seen: PersonSet,
    /// Rows of persons who are cases, where persons come in runs.
    pub case_rows: u64,
    faults: Vec<(usize, usize, Fault)>,
}

impl Intake {
    /// Nothing yet.
    pub fn new(job: &Job<'_>) -> Self {
        let feed = FeedSurvey { by_day: vec![0; job.days.len()], ..FeedSurvey::default() };
        Intake {
            feeds: vec![feed; job.inputs.feeds.len()],
            persons: PersonsSeen::default(),
            case_pings: Vec::new(),
            cases_seen: PersonSet::default(),
            case_rows: 0,
            faults: Vec::new(),
        }
    }

    /// Adds what another part gave.
    pub fn merge(&mut self, mut other: Intake) {
        for (mine, theirs) in self.feeds.iter_mut().zip(&other.feeds) {
            mine.add(theirs);
        }
        self.persons.merge(&other.persons);
        self.case_pings.append(&mut other.case_pings);
        self.cases_seen.extend(other.cases_seen);
        self.case_rows += other.case_rows;
        self.faults.append(&mut other.faults);
    }

    /// Counts a batch in, and its persons, and keeps the pings of those who are cases. Every row's [`PersonRef::spread`] stands
    /// in `spreads` then, if that is given.
    pub fn take(
        &mut self,
        job: &Job<'_>,
        unit: &Unit,
        decoded: &Decoded,
        spreads: Option<&mut Vec<u64>>,
    ) -> Result<()> {
        self.count(job, unit, decoded)?;
        let persons = Pings::of(&decoded.pings).persons;
        let (seen, cases) = (&mut self.persons, &job.case_persons);
        let mut wanted: Vec<u32> = wide(
            #[inline(always)]
            move || {
                let (mut row, mut wanted) = (0, Vec::new());
                match spreads {
                    Some(spreads) => {
                        persons.spreads(spreads);
                        spreads.iter().for_each(
                            #[inline(always)]
                            |spread| see(*spread, seen, cases, &mut row, &mut wanted),
                        );
                    }
                    None => persons.each_spread(
                        #[inline(always)]
                        |spread| see(spread, seen, cases, &mut row, &mut wanted),
                    ),
                }
                wanted
            },
        );
        wanted.retain(|row| job.case_persons.set().contains(&persons.at(*row as usize)));
        if !wanted.is_empty() {
            let rows = take_record_batch(&decoded.pings, &UInt32Array::from(wanted));
            let rows = rows.map_err(super::too_large)?;
            job.hold_case_rows(rows.num_rows() as u64)?;
            self.case_pings.push(rows);
        }
        Ok(())
    }

    /// Counts rows of a feed that were read.
    pub fn count_read(&mut self, feed: usize, rows: u64) {
        self.feeds[feed].rows_read += rows;
    }

    /// Counts rows of a feed in that are told of, all of one day, and either all inside the lookback or all outside.
    pub fn count_block(&mut self, job: &Job<'_>, feed: usize, rows: u64, (first, last): (Millis, Millis)) {
        let feed = &mut self.feeds[feed];
        feed.span = Some(feed.span.map_or((first, last), |span| (span.0.min(first), span.1.max(last))));
        if last < job.decoder.from {
            feed.before += rows;
        } else if first >= job.decoder.to {
            feed.after += rows;
        } else {
            feed.rows_kept += rows;
            feed.by_day[job.days.partition_point(|(start, _)| *start <= first).saturating_sub(1)] += rows;
        }
    }

    /// Counts a batch in, and its persons, whose rows stand together.
    pub fn take_runs(&mut self, job: &Job<'_>, unit: &Unit, decoded: &Decoded) -> Result<()> {
        self.count(job, unit, decoded)?;
        let persons = Pings::of(&decoded.pings).persons;
        let mut start = 0;
        while start < persons.len() {
            let (person, end) = (persons.at(start), persons.end_of_run(start));
            let spread = person.spread();
            self.persons.see(spread);
            if job.case_persons.has(person, spread) {
                self.case_rows += (end - start) as u64;
            }
            start = end;
        }
        Ok(())
    }

    /// Counts a batch in, but not its persons.
    pub fn count(&mut self, job: &Job<'_>, unit: &Unit, decoded: &Decoded) -> Result<()> {
        let pings = Pings::of(&decoded.pings);
        let feed = &mut self.feeds[unit.feed];
        feed.rows_read += decoded.rows;
        feed.rows_kept += pings.times.len() as u64;
        feed.before += decoded.before;
        feed.after += decoded.after;
        feed.seatless += decoded.seatless;
        feed.span = match (feed.span, decoded.span) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
        for fault in &decoded.faults {
            *feed.rejected.entry(fault.reason).or_default() += 1;
            self.faults.push((unit.feed, unit.file, *fault));
        }
        count_days(&mut feed.by_day, &pings, decoded.span, job);
        if !decoded.faults.is_empty() {
            self.refuse_faulty(job, unit.feed, decoded.faults.len() as u64)?;
        }
        Ok(())
    }

    /// Stops early where a feed has more faults than it may, whatever the rest of it holds.
    fn refuse_faulty(&self, job: &Job<'_>, feed: usize, faults: u64) -> Result<()> {
        let rows = job.inputs.rows_to_read(feed);
        let limit = share_of(rows, job);
        if job.rejected[feed].fetch_add(faults, Ordering::Relaxed) + faults > limit {
            return Err(self.too_many_rejected(job, feed, limit, rows));
        }
        Ok(())
    }

    /// The survey of a whole run.
    pub fn finish(mut self, job: &Job<'_>) -> Result<Survey> {
        // A store has kept what was unreadable apart.
        for (feed, rejection) in &job.inputs.stored_faults {
            self.feeds[*feed].rows_read += 1;
            *self.feeds[*feed].rejected.entry(rejection.reason).or_default() += 1;
        }
        for (feed, found) in self.feeds.iter().enumerate() {
            // Of the rows inside the lookback, as how many outside it are read depends on the files.
            let inside = found.rows_kept + found.rejected_rows();
            let limit = share_of(inside, job);
            if found.rejected_rows() > limit {
                return Err(self.too_many_rejected(job, feed, limit, inside));
            }
        }
        refuse_all_outside(job, &self.feeds)?;
        let mut rejections: Vec<Rejection> = job.inputs.rejections.clone();
        rejections.extend(self.faults.iter().map(|fault| rejection(job, fault)));
        rejections.extend(job.inputs.stored_faults.iter().map(|(_, rejection)| rejection.clone()));
        rejections.sort();
        let days = job.days.clone();
        Ok(Survey { feeds: self.feeds, days, persons: self.persons, rejections })
    }

    fn too_many_rejected(&self, job: &Job<'_>, feed: usize, limit: u64, rows: u64) -> Error {
        let open = &job.inputs.feeds[feed];
        let first = self.faults.iter().filter(|f| f.0 == feed).map(|f| rejection(job, f)).min();
        let example =
            first.map_or(String::new(), |r| format!("; the first: {}, row {}: {}", r.file, r.row, r.reason));
        Error::Input(Problem::new(
            format!("{} ({} feed)", open.config.label, open.config.stay.source),
            format!(
                "at most {:.4}% of its rows unreadable (rejected_share_max)",
                job.config.rejected_share_max * 100.0
            ),
            format!("more than {limit} of {rows} rows{example}"),
            "mend the feed or its mapping (columns, time_unit, datum); raise rejected_share_max only if the loss is understood",
        ))
    }
}

/// What a pass gave.
#[derive(Debug)]
pub struct Found {
    /// Counts, and the cases' pings.
    pub intake: Intake,
    /// Rows that the sieve marked.
    pub marked: u64,
    /// Rows that went to tracks.
    pub tracked: u64,
    /// How long everyone dwells where it may count, if that was added up.
    pub dwellings: Option<DwellSums>,
}

impl Found {
    /// Nothing yet.
    pub fn new(job: &Job<'_>) -> Self {
        Found { intake: Intake::new(job), marked: 0, tracked: 0, dwellings: None }
    }
}

/// Counts the person of the next row in, and notes the row if that may be a case.
#[inline(always)]
fn see(spread: u64, seen: &mut PersonsSeen, cases: &CasePersons, row: &mut u32, wanted: &mut Vec<u32>) {
    seen.see(spread);
    if cases.may_have(spread) {
        wanted.push(*row);
    }
    *row += 1;
}

fn count_days(by_day: &mut [u64], pings: &Pings<'_>, span: Option<(Millis, Millis)>, job: &Job<'_>) {
    let day_of = |time: Millis| job.days.partition_point(|(start, _)| *start <= time).saturating_sub(1);
    if let Some((first, last)) = span
        && first >= job.decoder.from
        && last < job.decoder.to
        && day_of(first) == day_of(last)
    {
        by_day[day_of(first)] += pings.times.len() as u64;
        return;
    }
    let mut day = 0;
    for &time in pings.times {
        // Times come in runs of a day, so the last day is tried first.
        let inside = job.days[day].0 <= time && job.days.get(day + 1).is_none_or(|next| time < next.0);
        if !inside {
            day = day_of(time);
        }
        by_day[day] += 1;
    }
}

fn rejection(job: &Job<'_>, (feed, file, fault): &(usize, usize, Fault)) -> Rejection {
    let feed = &job.inputs.feeds[*feed];
    Rejection {
        feed: feed.config.label.clone(),
        file: feed.files[*file].input.name.clone(),
        row: fault.row,
        reason: fault.reason,
        column: fault.column,
    }
}

/// How many of so many rows may be unreadable.
fn share_of(rows: u64, job: &Job<'_>) -> u64 {
    (rows as f64 * job.config.rejected_share_max + 1e-9).floor() as u64
}

/// Rows by feed, counted over all threads: none yet.
pub fn no_rows(feeds: usize) -> Vec<AtomicU64> {
    (0..feeds).map(|_| AtomicU64::new(0)).collect()
}

/// Not one ping inside the lookback, though there are pings: as_of or a unit is wrong, and an empty
/// answer would look like good news.
fn refuse_all_outside(job: &Job<'_>, feeds: &[FeedSurvey]) -> Result<()> {
    let inputs = job.inputs;
    let rows: u64 = inputs.feeds.iter().flat_map(|f| &f.files).map(|f| f.rows()).sum();
    if feeds.iter().any(|f| f.rows_kept > 0 || f.rejected_rows() > 0) {
        return Ok(());
    }
    // What there was may have gone with the days that a store keeps no longer.
    if rows == 0 && inputs.kept_from.is_none() {
        return Ok(());
    }
    let skipped =
        inputs.feeds.iter().flat_map(|f| &f.files).flat_map(|f| &f.groups).filter_map(|g| g.time_range);
    let spans = feeds.iter().filter_map(|f| f.span).chain(skipped);
    let span = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let found = match (span, inputs.kept_from) {
        (Some((from, to)), _) => format!("times from {} to {}", utc_text(from), utc_text(to)),
        (None, Some(from)) => format!("none at all; the store keeps nothing before {}", utc_text(from)),
        (None, None) => return Ok(()),
    };
    Err(Error::Input(Problem::new(
        format!("all feeds ({rows} rows)"),
        format!(
            "pings inside the lookback, {} to {}",
            utc_text(job.config.lookback_start()),
            utc_text(job.config.as_of)
        ),
        found,
        "check as_of, lookback_days, time_unit and time_zone, and whether the feeds still come",
    )))
}
