//! Rows in the order of time: one pass. A window of rows moves over the files; behind its front, where the
//! cases' pings are known for a hold ahead, rows are sieved, and the rows of persons with a mark within a
//! hold before go to the tracks of their part, which give stays.

use super::Job;
use super::intake::Intake;
use super::order::Unit;
use super::parts::{Parts, part_of};
use crate::case::Case;
use crate::error::Result;
use crate::index::sieve::Sieve;
use crate::index::whole_track;
use crate::person::{PersonId, PersonRef};
use crate::ping::{Ping, PingColumns, Pings, group_by_person};
use crate::rule::Source;
use crate::stay::{Stay, StayColumns};
use crate::time::Millis;
use crate::track::{Track, TrackRule};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use hashbrown::{HashMap, HashTable};
use rayon::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

/// Units of a round, at most: each counts what it reads in some room of its own.
const UNITS_AT_ONCE: usize = 256;
/// Bits of the set of marked persons for each of its pairs, within these bounds.
const BITS_PER_PAIR: u64 = 8;
const MARK_BITS_MIN: u64 = 1 << 12;
const MARK_BITS_MAX: u64 = 1 << 24;

/// Some rows of one file, in the order of time.
struct Piece {
    batch: RecordBatch,
    first: Millis,
    last: Millis,
}

impl Piece {
    /// The rows of [from, to).
    fn rows(&self, from: Millis, to: Millis) -> std::ops::Range<usize> {
        let pings = Pings::of(&self.batch);
        let times = pings.times;
        times.partition_point(|t| *t < from)..times.partition_point(|t| *t < to)
    }
}

/// A unit's rows, and what they came to.
type Decoded = (Vec<Piece>, Intake);
/// Rows of a piece.
type Rows<'p> = (&'p Piece, std::ops::Range<usize>);
/// Rows that go to a part, and which of them are marked.
type Sent = (PingColumns, Vec<bool>);

/// What a pass gave.
pub struct Found {
    /// Counts, and the cases' pings.
    pub intake: Intake,
    /// Rows that the sieve marked.
    pub marked: u64,
    /// Rows that went to tracks.
    pub tracked: u64,
}

/// One person with the track as far as it has come.
type Open = (PersonId, Track);

/// The persons with a marked ping, each in the slots of time in which closers of the marked pings come: a
/// slot is as long as the longest hold.
struct Marked {
    slot_ms: Millis,
    bits: Vec<AtomicU64>,
}

impl Marked {
    /// A set for so many pairs of person and slot.
    fn new(pairs: u64, slot_ms: Millis) -> Self {
        let bits = (pairs * BITS_PER_PAIR).next_power_of_two().clamp(MARK_BITS_MIN, MARK_BITS_MAX);
        Marked { slot_ms, bits: (0..bits / 64).map(|_| AtomicU64::new(0)).collect() }
    }

    /// A person in the slot of an instant and the next.
    fn set(&self, spread: u64, time: Millis) {
        let slot = time.div_euclid(self.slot_ms);
        for slot in [slot, slot + 1] {
            let bit = self.bit(spread, slot);
            let (word, mask) = (&self.bits[(bit >> 6) as usize], 1 << (bit & 63));
            // Most bits are set already, by the same person's ping before: looking is cheaper than locking.
            if word.load(Ordering::Relaxed) & mask == 0 {
                word.fetch_or(mask, Ordering::Relaxed);
            }
        }
    }

    #[inline]
    fn has(&self, spread: u64, slot: Millis) -> bool {
        let bit = self.bit(spread, slot);
        self.bits[(bit >> 6) as usize].load(Ordering::Relaxed) >> (bit & 63) & 1 == 1
    }

    #[inline]
    fn bit(&self, spread: u64, slot: Millis) -> u64 {
        spread.wrapping_add((slot as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
            & (self.bits.len() as u64 * 64 - 1)
    }
}

/// One pass over a source. `None` if some file is not in the order that it promised.
pub fn pass(job: &Job<'_>, source: Source, units: Vec<Unit>, stays: &Parts<'_>) -> Result<Option<Found>> {
    let mut pass = Pass {
        job,
        source,
        hold_ms: job.hold_ms(source),
        ahead_ms: job.ahead_ms(source),
        window: Vec::new(),
        frontier: Millis::MIN,
        marked_last: None,
        case_pings: Vec::new(),
        cases: cases_by_person(&job.inputs.cases.cases),
        tracks: (0..stays.len()).map(|_| HashTable::new()).collect(),
        found: Found { intake: Intake::new(job), marked: 0, tracked: 0 },
        stays,
    };
    let mut queue = units;
    // The order of the files' rows stays within each file; between files it is that of their first instants.
    queue.sort_by_key(|u| (u.from, u.feed, u.file, u.group, u.rows.as_ref().map_or(0, |r| r.start)));
    let mut ends: HashMap<(usize, usize), Millis> = HashMap::new();
    let mut queue = VecDeque::from(queue);
    while !queue.is_empty() {
        let mut round: Vec<Unit> = Vec::new();
        let mut rows = 0;
        while let Some(unit) = queue.front()
            && (round.is_empty() || rows + unit.count <= job.round_rows)
            && round.len() < UNITS_AT_ONCE
        {
            rows += unit.count;
            round.extend(queue.pop_front());
        }
        let decoded: Vec<Result<Option<Decoded>>> = round.par_iter().map(|unit| decode(job, unit)).collect();
        for (unit, decoded) in round.iter().zip(decoded) {
            let Some((pieces, intake)) = decoded? else { return Ok(None) };
            pass.case_pings.extend(intake.case_pings.iter().cloned());
            pass.found.intake.merge(intake);
            let end = ends.entry((unit.feed, unit.file)).or_insert(Millis::MIN);
            for piece in &pieces {
                if piece.first < (*end).max(pass.frontier).max(unit.from) {
                    return Ok(None);
                }
                *end = piece.last;
            }
            pass.window.extend(pieces);
        }
        // What is not read yet is not earlier than its row group, nor than its file has come.
        let ahead = |u: &Unit| u.from.max(ends.get(&(u.feed, u.file)).copied().unwrap_or(Millis::MIN));
        let bound = queue.iter().map(ahead).min().unwrap_or(Millis::MAX);
        let to = if bound == Millis::MAX { bound } else { bound - pass.ahead_ms };
        pass.advance(to)?;
    }
    pass.finish()?;
    Ok(Some(pass.found))
}

/// A unit's rows as pieces; `None` if they are not in the order of time.
fn decode(job: &Job<'_>, unit: &Unit) -> Result<Option<Decoded>> {
    let mut intake = Intake::new(job);
    let mut pieces = Vec::new();
    let mut ordered = true;
    let whole = unit.rows.clone().map(|rows| vec![rows]);
    job.read(unit, whole.as_deref(), None, &mut |decoded| {
        intake.take(job, unit, &decoded, true)?;
        let pings = Pings::of(&decoded.pings);
        ordered &= pings.times.iter().zip(pings.times.iter().skip(1)).fold(true, |ok, (a, b)| ok & (a <= b));
        if let (Some(&first), Some(&last)) = (pings.times.first(), pings.times.last()) {
            pieces.push(Piece { batch: decoded.pings.clone(), first, last });
        }
        Ok(())
    })?;
    Ok(ordered.then_some((pieces, intake)))
}

fn cases_by_person(cases: &[Case]) -> HashMap<PersonId, Vec<&Case>> {
    let mut by_person: HashMap<PersonId, Vec<&Case>> = HashMap::new();
    for case in cases {
        by_person.entry(case.person.clone()).or_default().push(case);
    }
    by_person
}

struct Pass<'p, 'j, 'r> {
    job: &'p Job<'j>,
    source: Source,
    hold_ms: Millis,
    /// How far ahead of the frontier the cases' pings have to be known.
    ahead_ms: Millis,
    window: Vec<Piece>,
    /// All rows before it are done.
    frontier: Millis,
    /// Marks of the last round, and some more.
    marked_last: Option<u64>,
    /// The cases' pings that may still matter for the sieve.
    case_pings: Vec<RecordBatch>,
    cases: HashMap<PersonId, Vec<&'p Case>>,
    tracks: Vec<HashTable<Open>>,
    found: Found,
    stays: &'p Parts<'r>,
}

impl Pass<'_, '_, '_> {
    /// Does the rows up to `to`.
    fn advance(&mut self, to: Millis) -> Result<()> {
        if to <= self.frontier {
            return Ok(());
        }
        let from = std::mem::replace(&mut self.frontier, to);
        let mut window = std::mem::take(&mut self.window);
        self.process(&window, from, to)?;
        window.retain(|piece| piece.last >= to);
        self.window = window;
        Ok(())
    }

    fn process(&mut self, window: &[Piece], from: Millis, to: Millis) -> Result<()> {
        let pieces: Vec<Rows<'_>> =
            window.iter().map(|p| (p, p.rows(from, to))).filter(|(_, rows)| !rows.is_empty()).collect();
        if pieces.is_empty() {
            return Ok(());
        }
        let first = pieces.iter().map(|(piece, _)| piece.first).min().unwrap_or(from).max(from);
        let sieve = self.sieve(first, to)?;
        let all = self.job.track_rule(self.source).filters();
        if !sieve.is_empty() || self.tracks.iter().any(|t| !t.is_empty()) || all {
            self.track(pieces, first, &sieve, all)?;
        }
        Ok(())
    }

    /// A sieve of what the cases did when pings of [first, to) could meet them.
    fn sieve(&mut self, first: Millis, to: Millis) -> Result<Sieve> {
        let job = self.job;
        let schema = &job.inputs.decoder.schema;
        // A case's stay matters until its lag is over, and a ping before it says how long it is.
        let back = first.saturating_sub(job.rule().lag_ms).saturating_sub(self.hold_ms);
        let until = to.saturating_add(self.ahead_ms);
        self.case_pings.retain(|b| Pings::of(b).times.last().is_some_and(|last| *last >= back));
        let known = concat_batches(schema, &self.case_pings).map_err(super::too_large)?;
        let times = Pings::of(&known).times.to_vec();
        let grouped = group_by_person(&known, |row| times[row]).map_err(super::too_large)?;
        let view = Pings::of(&grouped);
        let mut rule = TrackRule::new(self.source, &job.feeds, &job.rule().place, job.config.as_of, false);
        let mut stays: Vec<Stay> = Vec::new();
        for group in view.groups() {
            let rows = view.times[group.clone()].partition_point(|t| *t < back)
                ..view.times[group.clone()].partition_point(|t| *t < until);
            let rows = group.start + rows.start..group.start + rows.end;
            if rows.is_empty() {
                continue;
            }
            let person = view.persons.at(rows.start);
            let whole = if rule.filters() {
                // What a filter will drop is not known yet, so each ping stands as long as it can.
                rows.map(|row| at_its_longest(&view.at(row), job, self.source)).collect()
            } else {
                whole_track(&view, rows, &job.feeds, &mut rule)
            };
            for case in self.cases.get(&person).into_iter().flatten() {
                let clipped =
                    whole.iter().filter_map(|s| s.clipped(case.infectious_from, case.infectious_to));
                stays.extend(clipped);
            }
        }
        Ok(Sieve::new(&stays, job.rule(), &job.feeds, job.config.as_of))
    }

    fn track(&mut self, mut pieces: Vec<Rows<'_>>, first: Millis, sieve: &Sieve, all: bool) -> Result<()> {
        let (job, source, parts) = (self.job, self.source, self.tracks.len());
        pieces.sort_by_key(|(piece, _)| piece.first);
        // Tracks that wait for a ping since the last round, and marks, about as many as in that.
        let waiting = self.tracks.iter().map(|t| t.len() as u64).sum::<u64>();
        let rows: u64 = pieces.iter().map(|(_, rows)| rows.len() as u64).sum();
        let likely =
            if self.frontier == Millis::MAX { rows } else { self.marked_last.unwrap_or(rows).min(rows) };
        let marked = Marked::new(2 * (likely + waiting), self.hold_ms.max(60_000));
        for (person, _) in self.tracks.iter().flatten() {
            marked.set(person.as_ref().spread(), first);
        }
        let marks: Vec<Vec<u32>> = pieces
            .par_iter()
            .map(|(piece, rows)| {
                let batch = piece.batch.slice(rows.start, rows.len());
                let pings = Pings::of(&batch);
                let mut marks = Vec::new();
                sieve.marked(&pings, source, &mut marks);
                for &row in &marks {
                    marked.set(pings.persons.at(row as usize).spread(), pings.times[row as usize]);
                }
                marks
            })
            .collect();
        let count = marks.iter().map(|m| m.len() as u64).sum::<u64>();
        self.found.marked += count;
        self.marked_last = Some(count + count / 4);
        let marked = &marked;
        // Some pieces together, so that what goes to a part is not too little at once.
        let together = pieces.len().div_ceil(rayon::current_num_threads() * 2).max(1);
        let chunks: Vec<(&[Rows<'_>], &[Vec<u32>])> =
            pieces.chunks(together).zip(marks.chunks(together)).collect();
        let scattered: Vec<Vec<Sent>> = chunks
            .par_iter()
            .map(|(pieces, marks)| {
                let empty = || (PingColumns::new(&job.inputs.decoder.schema), Vec::new());
                let mut by_part: Vec<Sent> = (0..parts).map(|_| empty()).collect();
                let mut room = Sending::default();
                for ((piece, rows), marks) in pieces.iter().zip(*marks) {
                    scatter(piece, rows, marks, marked, all, &mut room, &mut by_part);
                }
                by_part
            })
            .collect();
        job.watch.advance(0)?;
        self.found.tracked += scattered.iter().flatten().map(|(rows, _)| rows.len() as u64).sum::<u64>();
        let mut by_part: Vec<Vec<Sent>> = (0..parts).map(|_| Vec::new()).collect();
        for chunk in scattered {
            for (part, rows) in by_part.iter_mut().zip(chunk) {
                if !rows.0.is_empty() {
                    part.push(rows);
                }
            }
        }
        let (to, stays) = (self.frontier, self.stays);
        self.tracks.par_iter_mut().zip(by_part).enumerate().try_for_each(|(part, (tracks, chunks))| {
            let mut out = StayColumns::new(&job.stay_schema);
            let mut rule = job.track_rule(source);
            follow(tracks, chunks, &mut rule, &mut out)?;
            tracks.retain(|(person, track)| {
                track.settle(&mut rule, &mut |stay| out.push(person.as_ref(), stay));
                let open = track.is_open(to, &rule);
                if !open {
                    track.finish(&mut rule, &mut |stay| out.push(person.as_ref(), stay));
                }
                open
            });
            stays.push(part, out.finish().map_err(super::too_large)?)
        })
    }

    fn finish(&mut self) -> Result<()> {
        let (job, source, stays) = (self.job, self.source, self.stays);
        self.tracks.par_iter_mut().enumerate().try_for_each(|(part, tracks)| {
            let mut out = StayColumns::new(&job.stay_schema);
            let mut rule = job.track_rule(source);
            for (person, track) in tracks.iter_mut() {
                track.finish(&mut rule, &mut |stay| out.push(person.as_ref(), stay));
            }
            stays.push(part, out.finish().map_err(super::too_large)?)
        })
    }
}

fn at_its_longest(ping: &Ping, job: &Job<'_>, source: Source) -> Stay {
    let end = ping.time + job.feeds[ping.feed as usize].hold_ms;
    let (place, floor) = (ping.place, ping.floor);
    Stay { start: ping.time, sure: end, end, lat: ping.lat, lon: ping.lon, leg: None, place, floor, source }
}

/// Room for sending rows to parts, used again for the next.
#[derive(Default)]
struct Sending {
    is_marked: Vec<bool>,
    rows: Vec<u32>,
    part_of: Vec<u16>,
    sorted: Vec<u32>,
}

/// Sends the rows of persons that matter to their parts.
fn scatter(
    piece: &Piece,
    rows: &std::ops::Range<usize>,
    marks: &[u32],
    marked: &Marked,
    all: bool,
    room: &mut Sending,
    by_part: &mut [Sent],
) {
    let pings = Pings::of(&piece.batch);
    let Sending { is_marked, rows: kept, part_of: parts, sorted } = room;
    is_marked.clear();
    is_marked.resize(rows.len(), false);
    marks.iter().for_each(|row| is_marked[*row as usize] = true);
    kept.resize(rows.len(), 0);
    parts.resize(rows.len(), 0);
    let (mut slot, mut slot_end) = (0, Millis::MIN);
    let mut count = 0;
    // Without branches: whether a row matters is hard to foretell.
    for (row, is_marked) in rows.clone().zip(is_marked.iter()) {
        if pings.times[row] >= slot_end {
            slot = pings.times[row].div_euclid(marked.slot_ms);
            slot_end = (slot + 1) * marked.slot_ms;
        }
        let spread = pings.persons.at(row).spread();
        kept[count] = row as u32;
        parts[count] = part_of(spread, by_part.len()) as u16;
        count += usize::from(*is_marked | all | marked.has(spread, slot));
    }
    let (kept, parts) = (&kept[..count], &parts[..count]);
    let mut ends = vec![0u32; by_part.len() + 1];
    parts.iter().for_each(|part| ends[usize::from(*part) + 1] += 1);
    for part in 1..ends.len() {
        ends[part] += ends[part - 1];
    }
    sorted.resize(count, 0);
    for (row, part) in kept.iter().zip(parts) {
        let end = &mut ends[usize::from(*part)];
        sorted[*end as usize] = *row;
        *end += 1;
    }
    let mut start = 0;
    for ((columns, marks), end) in by_part.iter_mut().zip(ends) {
        let own = &sorted[start..end as usize];
        columns.extend(&pings, own);
        marks.extend(own.iter().map(|row| is_marked[*row as usize - rows.start]));
        start = end as usize;
    }
}

/// Lets the tracks of a part follow its rows.
fn follow(
    tracks: &mut HashTable<Open>,
    chunks: Vec<Sent>,
    rule: &mut TrackRule<'_>,
    out: &mut StayColumns,
) -> Result<()> {
    let chunks: Vec<(RecordBatch, Vec<bool>)> = chunks
        .into_iter()
        .map(|(rows, marks)| Ok((rows.finish().map_err(super::too_large)?, marks)))
        .collect::<Result<_>>()?;
    let views: Vec<(Pings<'_>, &Vec<bool>)> = chunks.iter().map(|(b, marks)| (Pings::of(b), marks)).collect();
    // Each person's rows one after the other, so that a track is fetched once; a person's are in the order
    // of time, also where files overlap in it.
    let mut rows: Vec<(u64, u32)> = Vec::new();
    for (chunk, (view, _)) in (0u32..).zip(&views) {
        rows.extend((0u32..).zip(view.times).map(|(row, _)| {
            let spread = view.persons.at(row as usize).spread() as u32;
            (u64::from(spread) << 32 | u64::from(chunk), row)
        }));
    }
    let mut last = Millis::MIN;
    let in_order = views.iter().flat_map(|(v, _)| v.times).all(|t| std::mem::replace(&mut last, *t) <= *t);
    let at = |(key, row): &(u64, u32)| (*key as u32 as usize, *row as usize);
    if in_order {
        rows.sort_unstable();
    } else {
        rows.sort_by_key(|row| {
            let (chunk, at) = at(row);
            (row.0 >> 32, views[chunk].0.times[at])
        });
    }
    let mut start = 0;
    while start < rows.len() {
        let (chunk, row) = at(&rows[start]);
        let view = &views[chunk].0;
        let person = view.persons.at(row);
        // The rows of this person in this chunk; the same hash may be another person's too.
        let same = |r: &(u64, u32)| r.0 == rows[start].0 && view.persons.at(r.1 as usize) == person;
        let end = start + rows[start..].iter().take_while(|r| same(r)).count();
        let marks = views[chunk].1;
        let own = || rows[start..end].iter().map(|r| (r.1 as usize, marks[r.1 as usize]));
        let track = track_of(tracks, person);
        let mut out = |stay: &Stay| out.push(person, stay);
        let apart =
            rows[start..end].windows(2).all(|w| view.times[w[0].1 as usize] < view.times[w[1].1 as usize]);
        // The last row may yet share its instant with one of another chunk.
        let mut own = own();
        if rule.is_plain() && apart && track.settle_before(view.times[row], rule, &mut out) {
            track.push_plain(view, own.by_ref().take(end - start - 1), rule, &mut out);
        }
        own.for_each(|(row, marked)| track.push(view.at(row), marked, rule, &mut out));
        start = end;
    }
    Ok(())
}

fn track_of<'t>(tracks: &'t mut HashTable<Open>, person: PersonRef<'_>) -> &'t mut Track {
    let entry = tracks.entry(
        person.spread(),
        |(known, _)| known.as_ref() == person,
        |(known, _)| known.as_ref().spread(),
    );
    &mut entry.or_insert_with(|| (person.to_id(), Track::default())).into_mut().1
}
