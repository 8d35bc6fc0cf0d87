//! Rows in no order, parted by person, in memory or in the spill folder. Each part, read back whole, is sieved;
//! the rows of persons with a mark nearby are put in order, and give stays.
//!
//! All are parted in one pass, if they fit the memory, or most of them matter, or they are dear to read. Else three
//! passes, each little more than decoding, part only those that may matter: the cases' rows, the marks, the rows of
//! persons with a mark nearby.

use super::Job;
use super::intake::Intake;
use super::order::Unit;
use super::parts::{Dealing, Gathering};
use super::person_order::follow;
use crate::datum::Datum;
use crate::error::Result;
use crate::index::sieve::Sieve;
use crate::lattice::mixed;
use crate::person::{PersonRef, PersonSet, Persons};
use crate::ping::packed::{Kept, Unpacked};
use crate::ping::{Mark, Marked, PingColumns, Pings, person_order};
use crate::rule::Source;
use crate::stay::StayColumns;
use crate::time::Millis;
use crate::track::TrackRule;
use crate::track::many::{self, Line, Row};
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
/// Rows of a person that are fetched at once.
const FETCHED: usize = 256;
/// Rows of a bucket, about, when rows are dealt to persons.
const ROWS_PER_BUCKET: usize = 64;
/// A slot of time of these sets is at least this long.
const SLOT_MS_MIN: Millis = 60_000;

/// Counts a source's rows, keeps the cases' pings, and parts all rows by person.
pub fn gather(
    job: &Job<'_>,
    source: Source,
    units: &[Unit],
    gathering: &Gathering<'_, '_>,
) -> Result<Intake> {
    // Which venues and trips matter is known when the cases' own have been seen.
    if source.is_by_id() {
        let intake = scan(job, units, true, Some(job.case_persons.set()), None)?;
        scan(job, units, false, None, Some(gathering))?;
        return Ok(intake);
    }
    scan(job, units, true, None, Some(gathering))
}

/// Whether a source's rows are worth reading three times, to keep only those that may matter: all sources share
/// the room that they would need.
pub fn is_worth_reading_again(job: &Job<'_>, source: Source) -> bool {
    if job.inputs.tasks().1 * job.row_bytes() <= job.room_bytes() {
        return false;
    }
    let mut feeds = job.config.feeds.iter().filter(|f| f.stay.source == source);
    let filters = job.track_rule(source).filters();
    // Of squares and cells, a handful of cases touches a third of a city's rows: too many to be worth it.
    let few = job.rule().place.metres().is_some();
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
        sieve.marks(&Pings::of(&decoded.pings), source, &mut marks);
        Ok(())
    })?;
    let rows: u64 = units.iter().map(|u| u.count).sum();
    let likely = rows as f64 * marks.len() as f64 / first.count.max(1) as f64;
    let near = Near::new((likely * BITS_PER_MARK) as u64, Slots::new(job, source));
    units.par_iter().try_for_each(|unit| {
        let mut marks = Vec::new();
        job.read(unit, None, None, &mut |decoded| {
            let pings = Pings::of(&decoded.pings);
            marks.clear();
            sieve.marks(&pings, source, &mut marks);
            marks.iter().for_each(|mark| near.set(&pings, mark.row() as usize));
            Ok(())
        })
    })?;
    units.par_iter().try_for_each(|unit| {
        let (mut rows, mut spreads, mut room) = (Vec::new(), Vec::new(), Dealing::default());
        job.read(unit, None, None, &mut |decoded| {
            let pings = Pings::of(&decoded.pings);
            pings.persons.spreads(&mut spreads);
            near.rows(&pings, &spreads, &mut rows);
            gathering.add(&decoded.pings, &spreads, Some(&rows), &mut room)
        })
    })
}

/// Slots of time a little longer than the longest hold, so that a closer comes in its ping's slot or the next.
#[derive(Clone, Copy)]
struct Slots {
    from: Millis,
    slots_per_ms: f64,
}

impl Slots {
    fn new(job: &Job<'_>, source: Source) -> Self {
        // More than a hold by far more than what rounding does.
        let slot_ms = job.hold_ms(source).max(SLOT_MS_MIN) + 1;
        Slots { from: job.decoder.from, slots_per_ms: 1.0 / slot_ms as f64 }
    }

    /// The slot of an instant of the lookback.
    #[inline]
    fn of(&self, time: Millis) -> u64 {
        ((time - self.from) as f64 * self.slots_per_ms) as i64 as u64
    }
}

/// The persons with a marked ping, each in the slots of time in which the closers of the marked pings come; by
/// a hash, so some others too.
struct Near {
    slots: Slots,
    words: Vec<AtomicU64>,
}

impl Near {
    fn new(bits: u64, slots: Slots) -> Self {
        let bits = bits.next_power_of_two().clamp(NEAR_BITS_MIN, NEAR_BITS_MAX);
        Near { slots, words: (0..bits / 64).map(|_| AtomicU64::new(0)).collect() }
    }

    #[inline]
    fn bit(&self, spread: u64, slot: u64) -> (&AtomicU64, u64) {
        let bit = hashed(spread, slot) as usize & (self.words.len() * 64 - 1);
        (&self.words[bit >> 6], 1 << (bit & 63))
    }

    fn set(&self, pings: &Pings<'_>, row: usize) {
        let (spread, slot) = (pings.persons.at(row).spread(), self.slots.of(pings.times[row]));
        for slot in [slot, slot + 1] {
            let (word, bit) = self.bit(spread, slot);
            // Looking is cheaper than locking.
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    /// The rows that are in it.
    fn rows(&self, pings: &Pings<'_>, spreads: &[u64], rows: &mut Vec<u32>) {
        rows.resize(spreads.len(), 0);
        let mut kept = 0;
        // Without branches: whether a row matters is hard to foretell.
        for ((row, time), spread) in (0u32..).zip(pings.times).zip(spreads) {
            let (word, bit) = self.bit(*spread, self.slots.of(*time));
            rows[kept] = row;
            kept += usize::from(word.load(Ordering::Relaxed) & bit != 0);
        }
        rows.truncate(kept);
    }
}

#[inline]
fn hashed(spread: u64, slot: u64) -> u64 {
    mixed(spread ^ slot.wrapping_mul(0x9E37_79B9_7F4A_7C15))
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
            || (Intake::new(job), Vec::new(), Dealing::default()),
            |(mut intake, mut spreads, mut room), unit| {
                job.read(unit, None, visitors, &mut |decoded| {
                    if counts {
                        intake.take(job, unit, &decoded, gathering.map(|_| &mut spreads))?;
                    } else {
                        Pings::of(&decoded.pings).persons.spreads(&mut spreads);
                    }
                    gathering.map_or(Ok(()), |g| g.add(&decoded.pings, &spreads, None, &mut room))
                })?;
                Ok((intake, spreads, room))
            },
        )
        .map(|done: Result<(Intake, Vec<u64>, Dealing)>| done.map(|(intake, ..)| intake))
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
    let kept: Vec<Kept<'_>> = batches.iter().map(|batch| Kept::of(batch, job.decoder.from)).collect();
    let mattering = mattering(job, source, sieve, &kept, rule.filters());
    counts.0 += mattering.marked;
    let mut out = StayColumns::new(&job.stay_schema);
    if many::Tracks::suit(&rule) {
        counts.1 += line_by_line(job, &kept, &mattering.rows, &mut rule, &mut out);
    } else {
        counts.1 += track_by_track(job, batches, mattering.rows, &mut rule, &mut out)?;
    }
    out.finish().map(Some).map_err(super::too_large)
}

struct MatteringRows {
    /// By batch.
    rows: Vec<Vec<Marked>>,
    marked: u64,
}

/// Pairs of a part's persons and slots of time, by a hash, so some others too.
struct Pairs {
    words: Vec<u64>,
    shift: u32,
}

impl Pairs {
    /// None yet, but room for those of so many rows.
    fn new(rows: usize) -> Self {
        let bits = (rows * BITS_PER_ROW).next_power_of_two().max(1 << 10);
        Pairs { words: vec![0; bits / 64], shift: 64 - bits.trailing_zeros() }
    }

    /// The bit of a pair: the highest of a product, as all rows of a part are asked for.
    #[inline(always)]
    fn bit(&self, id: u64, slot: u64) -> usize {
        let mixed = (id ^ slot.wrapping_mul(0xBF58_476D_1CE4_E5B9)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> self.shift) as usize
    }

    fn set(&mut self, id: u64, slot: u64) {
        let bit = self.bit(id, slot);
        self.words[bit >> 6] |= 1 << (bit & 63);
    }

    #[inline(always)]
    fn has(&self, id: u64, slot: u64) -> bool {
        let bit = self.bit(id, slot);
        self.words[bit >> 6] >> (bit & 63) & 1 == 1
    }

    /// The rows that are in it. Without branches: whether a row matters is hard to foretell.
    #[inline(always)]
    fn rows(&self, ids: &[u64], times: &[Millis], slot_of: impl Fn(Millis) -> u64) -> Vec<Marked> {
        let mut rows = vec![Marked::new(0, Mark::None); ids.len()];
        let mut count = 0;
        for (row, (id, time)) in (0u32..).zip(ids.iter().zip(times)) {
            rows[count] = Marked::new(row, Mark::None);
            count += usize::from(self.has(*id, slot_of(*time)));
        }
        rows.truncate(count);
        rows
    }
}

/// The rows of persons with a mark in the same or the last slot of time, or of persons with any mark at all.
fn mattering(job: &Job<'_>, source: Source, sieve: &Sieve, batches: &[Kept<'_>], all: bool) -> MatteringRows {
    let mut pairs = Pairs::new(batches.iter().map(|batch| batch.persons().len()).sum());
    let slots = Slots::new(job, source);
    let slot_of = |time: Millis| if all { 0 } else { slots.of(time) };
    let mut marks_of: Vec<Vec<Marked>> = Vec::with_capacity(batches.len());
    let mut marked = 0;
    let mut room = Unpacked::default();
    for batch in batches {
        let pings = batch.pings(&mut room);
        let mut marks = Vec::new();
        sieve.marks(&pings, source, &mut marks);
        marked += marks.len() as u64;
        for row in marks.iter().map(|mark| mark.row() as usize) {
            let (id, slot) = (pings.persons.at(row).integer_or_spread(), slot_of(pings.times[row]));
            pairs.set(id, slot);
            pairs.set(id, slot + 1);
        }
        marks_of.push(marks);
    }
    let mut spreads: Vec<u64> = Vec::new();
    let rows = batches.iter().zip(marks_of).map(|(batch, marks)| {
        let times = batch.times(&mut room);
        let ids = match batch.persons() {
            Persons::Integer(ids) => ids,
            persons => {
                persons.spreads(&mut spreads);
                spreads.as_slice()
            }
        };
        let mut rows = pairs.rows(ids, times, slot_of);
        // Every marked row is among them, as its pair is set.
        let mut marks = marks.iter().peekable();
        for row in &mut rows {
            if let Some(mark) = marks.next_if(|mark| mark.row() == row.row()) {
                *row = *mark;
            }
        }
        rows
    });
    MatteringRows { rows: rows.collect(), marked }
}

/// Where pings just follow one another: rows are dealt to persons, and each person's are followed. Gives how
/// many.
fn line_by_line(
    job: &Job<'_>,
    batches: &[Kept<'_>],
    mattering: &[Vec<Marked>],
    rule: &mut TrackRule<'_>,
    out: &mut StayColumns,
) -> u64 {
    let count: usize = mattering.iter().map(Vec::len).sum();
    let mut rows: Vec<Row> = Vec::with_capacity(count);
    let mut keys: Vec<Key> = Vec::with_capacity(count);
    // Where the persons stand that are no integers: batch and row.
    let mut places: Vec<(u32, u32)> = Vec::new();
    for (number, (batch, mattering)) in (0u32..).zip(batches.iter().zip(mattering)) {
        let persons = batch.persons();
        if let Persons::Bytes(..) = persons {
            places.extend(mattering.iter().map(|mark| (number, mark.row())));
        }
        for marked in mattering {
            let ping = batch.at(marked.row() as usize);
            let person = persons.at(marked.row() as usize);
            let spread = person.spread();
            keys.push(Key::new(spread, ping.time - job.decoder.from, rows.len()));
            rows.push(Row::of(person, spread, &ping, marked.mark()));
        }
    }
    let person = |row: u32| match places.get(row as usize) {
        Some((batch, row)) => batches[*batch as usize].persons().at(*row as usize),
        None => rows[row as usize].person(),
    };
    let mut tracked: Vec<Row> = Vec::new();
    for own in sort_by_person(keys).chunk_by(|a, b| a.person() == b.person()) {
        let first = person(own[0].row());
        if own.iter().all(|key| person(key.row()) == first) {
            let mut line = Line::default();
            for keys in own.chunks(FETCHED) {
                // Many of them at once, as they stand far from one another.
                tracked.clear();
                tracked.extend(keys.iter().map(|key| rows[key.row() as usize]));
                tracked.iter().for_each(|row| line.push(row, rule, &mut |stay| out.push(first, stay)));
            }
            line.finish(rule, &mut |stay| out.push(first, stay));
            continue;
        }
        // Persons who share these bits of a hash: seldom, but it can be.
        let mut persons: Vec<PersonRef<'_>> = own.iter().map(|key| person(key.row())).collect();
        persons.sort_unstable();
        persons.dedup();
        for whose in persons {
            let mut line = Line::default();
            for key in own.iter().filter(|key| person(key.row()) == whose) {
                line.push(&rows[key.row() as usize], rule, &mut |stay| out.push(whose, stay));
            }
            line.finish(rule, &mut |stay| out.push(whose, stay));
        }
    }
    count as u64
}

/// A row's place in its person's track: the low bits of the person's [`PersonRef::spread`], the time since the first that can come,
/// the row's number; one number, as these are compared at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Key(u128);

/// Bits of a key: above them are those of the person. A lookback is far shorter than so many milliseconds.
const TIME_BITS: u32 = 52;
const ROW_BITS: u32 = 32;

impl Key {
    fn new(spread: u64, since_ms: Millis, row: usize) -> Self {
        Key(u128::from(spread) << (TIME_BITS + ROW_BITS) | (since_ms as u128) << ROW_BITS | row as u128)
    }

    fn person(self) -> u64 {
        (self.0 >> (TIME_BITS + ROW_BITS)) as u64
    }

    fn row(self) -> u32 {
        self.0 as u32
    }
}

/// Sorts keys so that equal hashes stand together, each by time: dealt to about as many buckets as there are
/// persons first, which is several times as fast as sorting them all.
fn sort_by_person(keys: Vec<Key>) -> Vec<Key> {
    let buckets = (keys.len() / ROWS_PER_BUCKET).next_power_of_two();
    let bucket = |key: &Key| key.person() as usize & (buckets - 1);
    let mut ends = vec![0u32; buckets + 1];
    keys.iter().for_each(|key| ends[bucket(key) + 1] += 1);
    for bucket in 0..buckets {
        ends[bucket + 1] += ends[bucket];
    }
    let mut dealt = vec![Key::default(); keys.len()];
    for key in keys {
        let end = &mut ends[bucket(&key)];
        dealt[*end as usize] = key;
        *end += 1;
    }
    let mut start = 0;
    for end in &ends[..buckets] {
        dealt[start..*end as usize].sort_unstable();
        start = *end as usize;
    }
    dealt
}

/// By any rule: rows are put in the order of persons and times, and tracks follow them. Gives how many.
fn track_by_track(
    job: &Job<'_>,
    batches: Vec<RecordBatch>,
    mattering: Vec<Vec<Marked>>,
    rule: &mut TrackRule<'_>,
    out: &mut StayColumns,
) -> Result<u64> {
    let schema = &job.decoder.schema;
    let mut kept = PingColumns::new(schema);
    let mut room = Unpacked::default();
    let mut mark_of: Vec<Mark> = Vec::new();
    let mut chunks = Vec::new();
    for (batch, marked) in batches.into_iter().zip(mattering) {
        mark_of.extend(marked.iter().map(|marked| marked.mark()));
        let rows: Vec<u32> = marked.iter().map(|marked| marked.row()).collect();
        kept.extend(&Kept::of(&batch, job.decoder.from).pings(&mut room), &rows);
        if kept.bytes() > 1 << 30 {
            let full = std::mem::replace(&mut kept, PingColumns::new(schema));
            chunks.push(full.finish().map_err(super::too_large)?);
        }
    }
    chunks.push(kept.finish().map_err(super::too_large)?);
    let joined = concat_batches(schema, &chunks).map_err(super::too_large)?;
    drop(chunks);
    let pings = Pings::of(&joined);
    let order = person_order(&pings.persons, |row| pings.times[row]);
    let marks = (0u32..).zip(&order).map(|(at, row)| Marked::new(at, mark_of[*row as usize]));
    let marks: Vec<Marked> = marks.filter(|marked| marked.mark() != Mark::None).collect();
    let grouped = take_record_batch(&joined, &UInt32Array::from(order)).map_err(super::too_large)?;
    let pings = Pings::of(&grouped);
    let (mut marks, mut tracked) = (marks.as_slice(), 0);
    for group in pings.groups() {
        let own = marks.partition_point(|mark| (mark.row() as usize) < group.end);
        if own > 0 {
            let person = pings.persons.at(group.start);
            tracked += follow(&pings, group, &marks[..own], rule, &mut |stay| out.push(person, stay));
        }
        marks = &marks[own..];
    }
    Ok(tracked)
}
