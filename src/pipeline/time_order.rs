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

/// Bits of the set of marked persons for each row of a round, within these bounds.
const MARK_BITS_PER_ROW: u64 = 4;
const MARK_BITS_MIN: u64 = 1 << 12;
const MARK_BITS_MAX: u64 = 1 << 25;

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

/// The persons marked in one round, each in the slots of time in which closers of the marked pings come: a
/// slot is as long as the longest hold.
struct Marked {
    /// Their pings' holds are over then.
    until: Millis,
    slot_ms: Millis,
    bits: Vec<AtomicU64>,
}

impl Marked {
    fn new(rows: u64, until: Millis, slot_ms: Millis) -> Self {
        let bits = (rows * MARK_BITS_PER_ROW).next_power_of_two().clamp(MARK_BITS_MIN, MARK_BITS_MAX);
        Marked { until, slot_ms, bits: (0..bits / 64).map(|_| AtomicU64::new(0)).collect() }
    }

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
        case_pings: Vec::new(),
        cases: cases_by_person(&job.inputs.cases.cases),
        marked: VecDeque::new(),
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
        {
            rows += unit.count;
            round.extend(queue.pop_front());
        }
        let decoded: Vec<Result<Option<(Vec<Piece>, Intake)>>> =
            round.par_iter().map(|unit| decode(job, unit)).collect();
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
fn decode(job: &Job<'_>, unit: &Unit) -> Result<Option<(Vec<Piece>, Intake)>> {
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
    /// The cases' pings that may still matter for the sieve.
    case_pings: Vec<RecordBatch>,
    cases: HashMap<PersonId, Vec<&'p Case>>,
    marked: VecDeque<Marked>,
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
        let pieces: Vec<(&Piece, std::ops::Range<usize>)> =
            window.iter().map(|p| (p, p.rows(from, to))).filter(|(_, rows)| !rows.is_empty()).collect();
        if pieces.is_empty() {
            return Ok(());
        }
        let rows: u64 = pieces.iter().map(|(_, rows)| rows.len() as u64).sum();
        let first = pieces.iter().map(|(piece, _)| piece.first).min().unwrap_or(from).max(from);
        self.marked.retain(|m| m.until >= first);
        let sieve = self.sieve(first, to)?;
        let all =
            TrackRule::new(self.source, &self.job.feeds, &self.job.rule().place, self.job.config.as_of, true)
                .filters();
        if !sieve.is_empty() || !self.marked.is_empty() || all {
            self.track(pieces, rows, &sieve, all)?;
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

    fn track(
        &mut self,
        mut pieces: Vec<(&Piece, std::ops::Range<usize>)>,
        rows: u64,
        sieve: &Sieve,
        all: bool,
    ) -> Result<()> {
        let (job, source, parts) = (self.job, self.source, self.tracks.len());
        let last = pieces.iter().map(|(piece, _)| piece.last).max().unwrap_or(0);
        let slot_ms = self.hold_ms.max(60_000);
        let marked = Marked::new(rows, last.saturating_add(slot_ms), slot_ms);
        pieces.sort_by_key(|(piece, _)| piece.first);
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
        self.found.marked += marks.iter().map(|m| m.len() as u64).sum::<u64>();
        self.marked.push_back(marked);
        let marked = &self.marked;
        // Some pieces together, so that what goes to a part is not too little at once.
        let together = pieces.len().div_ceil(rayon::current_num_threads() * 2).max(1);
        let chunks: Vec<(&[(&Piece, std::ops::Range<usize>)], &[Vec<u32>])> =
            pieces.chunks(together).zip(marks.chunks(together)).collect();
        let scattered: Vec<Vec<(PingColumns, Vec<bool>)>> = chunks
            .par_iter()
            .map(|(pieces, marks)| {
                let empty = || (PingColumns::new(&job.inputs.decoder.schema), Vec::new());
                let mut by_part: Vec<(PingColumns, Vec<bool>)> = (0..parts).map(|_| empty()).collect();
                for ((piece, rows), marks) in pieces.iter().zip(*marks) {
                    let matters = |spread, time: Millis| {
                        let slot = time.div_euclid(slot_ms);
                        all || marked.iter().any(|m| m.has(spread, slot))
                    };
                    scatter(piece, rows, marks, matters, &mut by_part);
                }
                by_part
            })
            .collect();
        job.watch.advance(0)?;
        self.found.tracked += scattered.iter().flatten().map(|(rows, _)| rows.len() as u64).sum::<u64>();
        let mut by_part: Vec<Vec<(PingColumns, Vec<bool>)>> = (0..parts).map(|_| Vec::new()).collect();
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

/// Sends the rows of persons that matter to their parts.
fn scatter(
    piece: &Piece,
    rows: &std::ops::Range<usize>,
    marks: &[u32],
    matters: impl Fn(u64, Millis) -> bool,
    by_part: &mut [(PingColumns, Vec<bool>)],
) {
    let pings = Pings::of(&piece.batch);
    let mut rows_of: Vec<Vec<u32>> = vec![Vec::new(); by_part.len()];
    let mut marks = marks.iter().map(|row| rows.start + *row as usize).peekable();
    for row in rows.clone() {
        let is_marked = marks.next_if_eq(&row).is_some();
        let spread = pings.persons.at(row).spread();
        if is_marked || matters(spread, pings.times[row]) {
            let part = part_of(spread, by_part.len());
            rows_of[part].push(row as u32);
            by_part[part].1.push(is_marked);
        }
    }
    for ((columns, _), rows) in by_part.iter_mut().zip(&rows_of) {
        columns.extend(&pings, rows);
    }
}

/// Lets the tracks of a part follow its rows.
fn follow(
    tracks: &mut HashTable<Open>,
    chunks: Vec<(PingColumns, Vec<bool>)>,
    rule: &mut TrackRule<'_>,
    out: &mut StayColumns,
) -> Result<()> {
    let chunks: Vec<(RecordBatch, Vec<bool>)> = chunks
        .into_iter()
        .map(|(rows, marks)| Ok((rows.finish().map_err(super::too_large)?, marks)))
        .collect::<Result<_>>()?;
    let views: Vec<(Pings<'_>, &Vec<bool>)> = chunks.iter().map(|(b, marks)| (Pings::of(b), marks)).collect();
    let ordered = {
        let mut last = Millis::MIN;
        views.iter().flat_map(|(v, _)| v.times).all(|t| std::mem::replace(&mut last, *t) <= *t)
    };
    let mut each = |chunk: usize, row: usize| {
        let (view, marks) = &views[chunk];
        let person = view.persons.at(row);
        let track = track_of(tracks, person);
        track.push(view.at(row), marks[row], rule, &mut |stay| out.push(person, stay));
    };
    if ordered {
        for (chunk, (view, _)) in views.iter().enumerate() {
            (0..view.times.len()).for_each(|row| each(chunk, row));
        }
        return Ok(());
    }
    // Files that overlap in time: their rows are merged.
    let mut rows: Vec<(Millis, usize, usize)> = views
        .iter()
        .enumerate()
        .flat_map(|(chunk, (v, _))| v.times.iter().enumerate().map(move |(row, time)| (*time, chunk, row)))
        .collect();
    rows.sort();
    rows.into_iter().for_each(|(_, chunk, row)| each(chunk, row));
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
