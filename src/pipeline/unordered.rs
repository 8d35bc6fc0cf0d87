//! Rows in no order: one pass parts them by person, in memory or in the spill folder. Each part, read back
//! whole, is sieved; the rows of persons with a mark nearby are put in order, and give stays.

use super::Job;
use super::intake::Intake;
use super::order::Unit;
use super::parts::Gathering;
use super::person_order::follow;
use crate::error::Result;
use crate::index::sieve::Sieve;
use crate::ping::{PingColumns, Pings, person_order};
use crate::rule::Source;
use crate::stay::StayColumns;
use crate::time::Millis;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use rayon::prelude::*;

/// Bits for each row of a part in the set of (person, time slot) pairs that matter.
const BITS_PER_ROW: usize = 8;

/// Counts a source's rows, keeps the cases' pings, and parts all rows by person.
pub fn gather(
    job: &Job<'_>,
    source: Source,
    units: &[Unit],
    gathering: &Gathering<'_, '_>,
) -> Result<Intake> {
    // Which venues matter is known when the cases' own scans have been seen.
    let mut intake = Intake::new(job);
    if source == Source::Venue {
        intake = scan(job, units, true, None)?;
        scan(job, units, false, Some(gathering))?;
        return Ok(intake);
    }
    intake.merge(scan(job, units, true, Some(gathering))?);
    Ok(intake)
}

fn scan(
    job: &Job<'_>,
    units: &[Unit],
    counts: bool,
    gathering: Option<&Gathering<'_, '_>>,
) -> Result<Intake> {
    let visitors = (counts && gathering.is_none()).then(|| job.case_persons.set());
    units
        .par_iter()
        .try_fold(
            || Intake::new(job),
            |mut intake, unit| {
                job.read(unit, None, visitors, &mut |decoded| {
                    if counts {
                        intake.take(job, unit, &decoded, true)?;
                    }
                    gathering.map_or(Ok(()), |g| g.add(&decoded.pings))
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
    let hold_ms = job.hold_ms(source).max(60_000);
    let bit = |spread: u64, slot: Millis| {
        let slot = if all { 0 } else { slot };
        let key = spread ^ (slot as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        crate::index::lattice::mixed(key) as usize & (bits - 1)
    };
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
