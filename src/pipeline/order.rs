//! The order that the rows of a source come in, by the promises of its files: statistics, and for files of
//! one row group a look at their first rows. What is promised is verified while reading.

use super::Job;
use crate::error::Result;
use crate::person::PersonId;
use crate::ping::Order;
use crate::rule::Source;
use crate::time::Millis;
use std::ops::Range;

/// Files of one row group that are looked into before the others are believed to be like them.
const LOOKS_MAX: usize = 8;
/// Rows that such a look reads.
const LOOK_ROWS: u64 = 4_096;
/// A unit of work has at most so many rows.
const UNIT_ROWS: u64 = 1 << 20;

/// Rows of one row group that are read in one go.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Feed.
    pub feed: usize,
    /// File of the feed.
    pub file: usize,
    /// Row group of the file.
    pub group: usize,
    /// Rows of the row group; all, if none are named.
    pub rows: Option<Range<u64>>,
    /// How many rows these are.
    pub count: u64,
    /// No row of it is earlier.
    pub from: Millis,
    /// No row of it is later.
    pub to: Millis,
}

/// The units of a source in the order of their files.
pub fn units(job: &Job<'_>, source: Source) -> Vec<Unit> {
    let mut units = Vec::new();
    for (feed, open) in job.inputs.feeds.iter().enumerate().filter(|(_, f)| f.config.stay.source == source) {
        for (file, ping_file) in open.files.iter().enumerate() {
            for (group, facts) in ping_file.groups.iter().enumerate() {
                if !job.decoder.wants(facts) || facts.rows == 0 {
                    continue;
                }
                let (from, to) = facts.time_range.unwrap_or((Millis::MIN, Millis::MAX));
                let parts = facts.rows.div_ceil(UNIT_ROWS);
                for part in 0..parts {
                    let range = facts.rows * part / parts..facts.rows * (part + 1) / parts;
                    let count = range.end - range.start;
                    let rows = (parts > 1).then_some(range);
                    units.push(Unit { feed, file, group, rows, count, from, to });
                }
            }
        }
    }
    units
}

/// The order of a source: the most useful that all its files promise.
pub fn order_of(job: &Job<'_>, source: Source, units: &[Unit]) -> Result<Order> {
    // Scans may say themselves when they end, and what places matter is known only after the cases' own.
    if source.is_by_id() || units.is_empty() {
        return Ok(Order::None);
    }
    let (mut by_time, mut by_person) = (true, persons_apart(job, units));
    let mut looks = 0;
    for file in units.chunk_by(|a, b| (a.feed, a.file) == (b.feed, b.file)) {
        by_time &= file.windows(2).all(|w| w[0].group == w[1].group || w[0].to <= w[1].from);
        by_time &= file.iter().all(|u| u.from > Millis::MIN);
        let groups = || file.chunk_by(|a, b| a.group == b.group);
        // Row groups that follow one another say enough; a single one says nothing of its rows.
        if groups().count() < 3 && looks < LOOKS_MAX && (by_time || by_person) {
            looks += 1;
            let look = look(job, &file[0])?;
            by_time &= look.by_time;
            by_person &= look.by_person;
        }
    }
    by_time &= !job.config.rule.encounter.cross_source && job.window_fits(source, units);
    Ok(match (by_person, by_time) {
        (true, _) => Order::Person,
        (false, true) => Order::Time,
        (false, false) => Order::None,
    })
}

/// Whether the row groups promise ranges of persons that follow one another, over all files.
fn persons_apart(job: &Job<'_>, units: &[Unit]) -> bool {
    let mut ranges = Vec::new();
    for unit in units.chunk_by(|a, b| (a.feed, a.file, a.group) == (b.feed, b.file, b.group)) {
        match job.person_range(&unit[0]) {
            Some(range) => ranges.push(range),
            None => return false,
        }
    }
    ranges.sort();
    ranges.windows(2).all(|w| w[0].1 <= w[1].0)
}

struct Look {
    by_time: bool,
    by_person: bool,
}

fn look(job: &Job<'_>, unit: &Unit) -> Result<Look> {
    let start = unit.rows.as_ref().map_or(0, |rows| rows.start);
    let rows = start..start + unit.count.min(LOOK_ROWS);
    let mut look = Look { by_time: true, by_person: true };
    let mut last: Option<(Millis, PersonId)> = None;
    job.read(unit, Some(&[rows]), None, &mut |decoded| {
        let pings = crate::ping::Pings::of(&decoded.pings);
        for row in 0..pings.times.len() {
            let (time, person) = (pings.times[row], pings.persons.at(row));
            if let Some((before, whose)) = &last {
                look.by_time &= *before <= time;
                look.by_person &= whose.as_ref() <= person;
            }
            if !look.by_time && !look.by_person {
                break;
            }
            last = Some((time, person.to_id()));
        }
        Ok(())
    })?;
    Ok(look)
}
