//! What a run found, still in memory: the tables in their order, and what there was to find them in.

mod gather;
mod sorted;

pub use sorted::{Load, Ranges, Run, Sorted, Sorting, Spread};

use crate::case::Case;
use crate::control::Controls;
use crate::index::Observed;
use crate::person::{PersonType, PersonsSeen};
use crate::resolve::{OfVariant, Tally};
use crate::rule::Source;
use crate::time::Millis;
use chrono::NaiveDate;
use std::collections::BTreeMap;

/// One case with what became of it.
#[derive(Debug, Clone)]
pub struct CaseRow {
    /// The case.
    pub case: Case,
    /// Its stays by source.
    pub observed: [Observed; Source::ALL.len()],
    /// Whether its person has any ping in the lookback.
    pub has_pings: bool,
    /// Persons exposed, and candidates among them.
    pub tally: Tally,
}

/// What a run counted.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Counts {
    /// Rows of all feeds' files.
    pub rows: u64,
    /// Rows read, those skipped by statistics left out.
    pub rows_read: u64,
    /// Readable rows inside the lookback.
    pub rows_kept: u64,
    /// Rows left out as unreadable.
    pub rows_rejected: u64,
    /// Persons inside the lookback, about.
    #[serde(rename = "persons_seen_estimate")]
    pub persons: u64,
    /// Cases' stays in the index.
    pub case_stays: u64,
    /// Rows that the sieve marked.
    pub rows_marked: u64,
    /// Marked rows and those around them that tracks followed.
    pub rows_tracked: u64,
    /// Stays of marked rows, joined where the rule cannot tell them apart.
    pub stays: u64,
    /// Scans that their person's own position speaks against, of those who met a case by a scan, and of cases.
    pub scans_contradicted: u64,
    /// Parts that persons were parted into.
    pub parts: u64,
    /// Files, and their bytes, that went to the spill folder.
    pub spilled_files: u64,
    /// See `spilled_files`.
    pub spilled_bytes: u64,
    /// The way of each source through the run.
    pub paths: Vec<SourcePath>,
    /// Encounters of everyone.
    pub encounters: u64,
    /// Exposures of everyone.
    pub exposures: u64,
    /// Candidates.
    pub candidates: u64,
    /// Dwells in risk areas that are a reason for one.
    pub dwells: u64,
    /// The largest direct time of anyone who is no case, ms.
    pub direct_ms_max: i64,
}

/// How a source's rows were read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SourcePath {
    /// gps, tower, trip or venue.
    pub source: &'static str,
    /// The order in which they were read: time, person or none.
    pub order: &'static str,
    /// The order that files promised and did not keep.
    pub broken_promise: Option<&'static str>,
    /// How often all rows were read, but for those of a broken promise; once more where accuracies had to decide
    /// between pings of one instant.
    pub readings: u8,
    /// Whether it was added up in the first of them how long everyone dwells where it may count.
    pub dwells_summed: bool,
    /// Whether persons were resolved as their rows came, before all were read.
    pub resolved_at_once: bool,
    /// What was read of a store in the order of space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<FoundInStore>,
}

/// What was read of a store whose guides say where to look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct FoundInStore {
    /// Row groups that some rows were read of, each as often as it was.
    pub row_groups_read: u64,
    /// Blocks of up to 2,048 rows, each as often as it was read.
    pub blocks_read: u64,
    /// Blocks of the days that were looked at.
    pub blocks: u64,
    /// Bytes of their pages, compressed.
    pub bytes_read: u64,
    /// Pings after which rows of their person were looked for, as they do not tell all that follows them.
    pub sought_by_person: u64,
    /// Pings that are the last of their person's day, after which the next day's first was looked for.
    pub sought_next_day: u64,
}

/// The answer of a run.
#[derive(Debug)]
pub struct Answer {
    /// The type of person_id.
    pub person: PersonType,
    /// By case.
    pub cases: Vec<CaseRow>,
    /// Encounters that are kept.
    pub encounters: Sorted,
    /// Exposures that are kept.
    pub exposures: Sorted,
    /// Candidates.
    pub candidates: Sorted,
    /// Dwells of candidates in risk areas.
    pub dwells: Sorted,
    /// What the first scan found.
    pub survey: Survey,
    /// Counts.
    pub counts: Counts,
    /// By variant that is swept over, what it finds; empty if nobody is anything.
    pub variants: Vec<OfVariant>,
    /// What controls would have made of others, if the job asked.
    pub controls: Option<Controls>,
    /// Seconds by stage, in their order.
    pub timings_s: Vec<(&'static str, f64)>,
}

impl Answer {
    /// Lets go of the tables, which are written: of their memory, and of what is spilled of them.
    pub fn drop_tables(&mut self) {
        for table in [&mut self.encounters, &mut self.exposures, &mut self.candidates, &mut self.dwells] {
            *table = Sorted::default();
        }
    }
}

/// One row that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rejection {
    /// `feeds[0]`, `feeds[0].towers` or `cases`.
    pub feed: String,
    /// The file, as seen from the job file.
    pub file: String,
    /// The row, from 0.
    pub row: u64,
    /// Why.
    pub reason: &'static str,
    /// The column at fault.
    pub column: &'static str,
}

/// What one feed holds.
#[derive(Debug, Clone, Default)]
pub struct FeedSurvey {
    /// Rows read.
    pub rows_read: u64,
    /// Readable rows inside the lookback.
    pub rows_kept: u64,
    /// Rows left out as unreadable, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Readable rows before the lookback.
    pub before: u64,
    /// Readable rows from as_of on.
    pub after: u64,
    /// Trips that do not say what the rule of their vehicle asks for.
    pub seatless: u64,
    /// Earliest and latest readable time.
    pub span: Option<(Millis, Millis)>,
    /// Rows kept, by day of the lookback.
    pub by_day: Vec<u64>,
}

impl FeedSurvey {
    /// Rows left out as unreadable.
    pub fn rejected_rows(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Adds what another part of the feed holds.
    pub fn add(&mut self, other: &FeedSurvey) {
        self.rows_read += other.rows_read;
        self.rows_kept += other.rows_kept;
        self.before += other.before;
        self.after += other.after;
        self.seatless += other.seatless;
        self.span = match (self.span, other.span) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
        for (reason, rows) in &other.rejected {
            *self.rejected.entry(reason).or_default() += rows;
        }
        for (mine, theirs) in self.by_day.iter_mut().zip(&other.by_day) {
            *mine += theirs;
        }
    }
}

/// What the first scan found.
#[derive(Debug, Clone)]
pub struct Survey {
    /// By feed.
    pub feeds: Vec<FeedSurvey>,
    /// The days of the lookback: first instant, date.
    pub days: Vec<(Millis, NaiveDate)>,
    /// Persons seen inside the lookback.
    pub persons: PersonsSeen,
    /// Rows that could not be read.
    pub rejections: Vec<Rejection>,
}
