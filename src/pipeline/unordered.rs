//! Rows in no order, parted by person, in memory or in the spill folder. Each part, read back whole, is sieved;
//! the rows of persons with a mark nearby are put in order, and give stays.
//!
//! Where all rows matter, or are dear to read, all are parted in one pass. Else three passes, each little more than
//! decoding, part only those that may matter: the cases' rows, the marks, the rows of persons with a mark nearby.

use super::Job;
use super::intake::Intake;
use super::order::Unit;
use super::parts::Gathering;
use super::person_order::follow;
use crate::datum::Datum;
use crate::error::Result;
use crate::index::lattice::mixed;
use crate::index::sieve::Sieve;
use crate::person::PersonSet;
use crate::ping::{PingColumns, Pings, person_order};
use crate::place::PlaceRule;
use crate::rule::Source;
use crate::stay::StayColumns;
use crate::time::Millis;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use rayon::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits for each row of a part in the set of (person, time slot) pairs that matter.
const BITS_PER_ROW: usize = 2;
/// Bits of the set for all rows for each mark, and how many at least and at most.
const BITS_PER_MARK: f64 = 8.0;
const NEAR_BITS_MIN: u64 = 1 << 12;
const NEAR_BITS_MAX: u64 = 1 << 33;
/// A slot of time of these sets is at least this long.
const SLOT_MS_MIN: Millis = 60_000;

/// Counts a source's rows, keeps the cases' pings, and parts all rows by person.
pub fn gather(
    job: &Job<'_>,
    source: Source,
    units: &[Unit],
    gathering: &Gathering<'_, '_>,
) -> Result<Intake> {
    // Which venues matter is known when the cases' own scans have been seen.
    if source == Source::Venue {
        let intake = scan(job, units, true, Some(job.case_persons.set()), None)?;
        scan(job, units, false, None, Some(gathering))?;
        return Ok(intake);
    }
    scan(job, units, true, None, Some(gathering))
}

/// Whether a source's rows are worth reading three times, to keep only those that may matter.
pub fn is_worth_reading_again(job: &Job<'_>, source: Source) -> bool {
    let mut feeds = job.config.feeds.iter().filter(|f| f.stay.source == source);
    let filters = job.track_rule(source).filters();
    // Of squares and cells, a handful of cases touches a third of a city's rows: too many to be worth it.
    let few = matches!(job.rule().place, PlaceRule::Distance { .. });
    few && source == Source::Gps && !filters && feeds.all(|f| f.datum == Some(Datum::Wgs84))
}

/// Counts a source's rows, and keeps the cases' pings.
pub fn survey(job: &Job<'_>, units: &[Unit]) -> Result<Intake> {
    scan(job, units, true, None, None)
}

/// Parts the rows of persons with a marked ping nearby in time, when the cases are known.
pub fn gather_near(
    job: &Job<'_>,
    source: Source,
    units: &[Unit],
    sieve: &Sieve,
    gathering: &Gathering<'_, '_>,
) -> Result<()> {
    if sieve.is_empty() {
        return Ok(());
    }
    // In no order, what holds for some rows holds for all.
    let Some(first) = units.first() else { return Ok(()) };
    let mut marks = Vec::new();
    job.read(first, None, None, &mut |decoded| {
        sieve.marked(&Pings::of(&decoded.pings), source, &mut marks);
        Ok(())
    })?;
    let rows: u64 = units.iter().map(|u| u.count).sum();
    let likely = rows as f64 * marks.len() as f64 / first.count.max(1) as f64;
    let near = Near::new((likely * BITS_PER_MARK) as u64, job.hold_ms(source));
    units.par_iter().try_for_each(|unit| {
        let mut marks = Vec::new();
        job.read(unit, None, None, &mut |decoded| {
            let pings = Pings::of(&decoded.pings);
            marks.clear();
            sieve.marked(&pings, source, &mut marks);
            marks.iter().for_each(|row| near.set(&pings, *row as usize));
            Ok(())
        })
    })?;
    units.par_iter().try_for_each(|unit| {
        let mut rows = Vec::new();
        job.read(unit, None, None, &mut |decoded| {
            near.rows(&Pings::of(&decoded.pings), &mut rows);
            gathering.add(&decoded.pings, Some(&rows))
        })
    })
}

/// The persons with a marked ping, each in the slots of time in which the closers of the marked pings come; by
/// a hash, so some others too.
struct Near {
    slot_ms: Millis,
    words: Vec<AtomicU64>,
}

impl Near {
    fn new(bits: u64, hold_ms: Millis) -> Self {
        let bits = bits.next_power_of_two().clamp(NEAR_BITS_MIN, NEAR_BITS_MAX);
        let words = (0..bits / 64).map(|_| AtomicU64::new(0)).collect();
        Near { slot_ms: hold_ms.max(SLOT_MS_MIN), words }
    }

    #[inline]
    fn bit(&self, spread: u64, slot: Millis) -> (&AtomicU64, u64) {
        let bit = hashed(spread, slot) as usize & (self.words.len() * 64 - 1);
        (&self.words[bit >> 6], 1 << (bit & 63))
    }

    fn set(&self, pings: &Pings<'_>, row: usize) {
        let (spread, slot) = (pings.persons.at(row).spread(), pings.times[row].div_euclid(self.slot_ms));
        for slot in [slot, slot + 1] {
            let (word, bit) = self.bit(spread, slot);
            // Looking is cheaper than locking.
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    /// The rows that are in it.
    fn rows(&self, pings: &Pings<'_>, rows: &mut Vec<u32>) {
        rows.resize(pings.times.len(), 0);
        let mut kept = 0;
        // Without branches: whether a row matters is hard to foretell.
        for (row, time) in pings.times.iter().enumerate() {
            let (word, bit) = self.bit(pings.persons.at(row).spread(), time.div_euclid(self.slot_ms));
            rows[kept] = row as u32;
            kept += usize::from(word.load(Ordering::Relaxed) & bit != 0);
        }
        rows.truncate(kept);
    }
}

#[inline]
fn hashed(spread: u64, slot: Millis) -> u64 {
    mixed(spread ^ (slot as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn scan(
    job: &Job<'_>,
    units: &[Unit],
    counts: bool,
    visitors: Option<&PersonSet>,
    gathering: Option<&Gathering<'_, '_>>,
) -> Result<Intake> {
    units
        .par_iter()
        .try_fold(
            || Intake::new(job),
            |mut intake, unit| {
                job.read(unit, None, visitors, &mut |decoded| {
                    if counts {
                        intake.take(job, unit, &decoded, true)?;
                    }
                    gathering.map_or(Ok(()), |g| g.add(&decoded.pings, None))
                })?;
                Ok(intake)
            },
        )
        .try_reduce(
            || Intake::new(job),
            |mut a, b| {
                a.merge(b);
                Ok(a)
            },
        )
}

/// The stays that a part's pings of one source give; adds how many rows were marked, and how many tracked.
pub fn stays_of(
    job: &Job<'_>,
    source: Source,
    sieve: &Sieve,
    batches: Vec<RecordBatch>,
    counts: &mut (u64, u64),
) -> Result<Option<RecordBatch>> {
    if sieve.is_empty() || batches.is_empty() {
        return Ok(None);
    }
    let mut rule = job.track_rule(source);
    let (grouped, marks) = mattering(job, source, sieve, batches, rule.filters(), counts)?;
    let pings = Pings::of(&grouped);
    let mut marks = marks.as_slice();
    let mut out = StayColumns::new(&job.stay_schema);
    for group in pings.groups() {
        let own = marks.partition_point(|row| (*row as usize) < group.end);
        if own > 0 {
            let person = pings.persons.at(group.start);
            counts.1 += follow(&pings, group, &marks[..own], &mut rule, &mut |stay| out.push(person, stay));
        }
        marks = &marks[own..];
    }
    out.finish().map(Some).map_err(super::too_large)
}

/// The rows of persons with a mark in the same or the last slot of time, by person and time, and which of
/// them are marked.
fn mattering(
    job: &Job<'_>,
    source: Source,
    sieve: &Sieve,
    batches: Vec<RecordBatch>,
    all: bool,
    counts: &mut (u64, u64),
) -> Result<(RecordBatch, Vec<u32>)> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let bits = (rows * BITS_PER_ROW).next_power_of_two().max(1 << 10);
    let mut set = vec![0u64; bits / 64];
    let hold_ms = job.hold_ms(source).max(SLOT_MS_MIN);
    let bit = |spread: u64, slot: Millis| hashed(spread, if all { 0 } else { slot }) as usize & (bits - 1);
    let mut marks_of: Vec<Vec<u32>> = Vec::with_capacity(batches.len());
    for batch in &batches {
        let pings = Pings::of(batch);
        let mut marks = Vec::new();
        sieve.marked(&pings, source, &mut marks);
        counts.0 += marks.len() as u64;
        for &row in &marks {
            let (spread, slot) =
                (pings.persons.at(row as usize).spread(), pings.times[row as usize].div_euclid(hold_ms));
            // The closer comes in this slot or the next, if it comes within the hold.
            for bit in [bit(spread, slot), bit(spread, slot + 1)] {
                set[bit >> 6] |= 1 << (bit & 63);
            }
        }
        marks_of.push(marks);
    }
    let mut kept = PingColumns::new(&job.inputs.decoder.schema);
    let mut wanted: Vec<u32> = Vec::new();
    let mut is_marked: Vec<bool> = Vec::new();
    let mut chunks = Vec::new();
    for (batch, marks) in batches.into_iter().zip(marks_of) {
        let pings = Pings::of(&batch);
        wanted.clear();
        let mut marks = marks.into_iter().peekable();
        for (row, &time) in pings.times.iter().enumerate() {
            let bit = bit(pings.persons.at(row).spread(), time.div_euclid(hold_ms));
            if set[bit >> 6] >> (bit & 63) & 1 == 1 {
                wanted.push(row as u32);
                // Whoever is marked is in the set.
                is_marked.push(marks.next_if_eq(&(row as u32)).is_some());
            }
        }
        kept.extend(&pings, &wanted);
        if kept.bytes() > 1 << 30 {
            let full = std::mem::replace(&mut kept, PingColumns::new(&job.inputs.decoder.schema));
            chunks.push(full.finish().map_err(super::too_large)?);
        }
    }
    chunks.push(kept.finish().map_err(super::too_large)?);
    let joined = concat_batches(&job.inputs.decoder.schema, &chunks).map_err(super::too_large)?;
    drop(chunks);
    let pings = Pings::of(&joined);
    let order = person_order(&pings.persons, |row| pings.times[row]);
    let marked =
        (0u32..).zip(&order).filter(|(_, row)| is_marked[**row as usize]).map(|(at, _)| at).collect();
    Ok((take_record_batch(&joined, &UInt32Array::from(order)).map_err(super::too_large)?, marked))
}
