//! Rows in the order of time: one pass. A window of rows moves over the files; behind its front, where the
//! cases' pings are known for a hold ahead, rows are sieved, and the rows of persons with a mark within a
//! hold before go to the tracks of their part, which give stays.

use super::Job;
use super::ahead::Promise;
use super::dwelling::Dwellings;
use super::intake::{Found, Intake};
use super::order::Unit;
use super::parts::Parts;
use super::tracks::{Sent, Tracks};
use crate::case::Case;
use crate::error::{Error, Result};
use crate::index::sieve::Sieve;
use crate::person::{PersonId, part_of};
use crate::ping::{Mark, Marked, Ping, Pings, group_by_person};
use crate::rule::Source;
use crate::stay::{Ending, Stay, StayColumns};
use crate::time::{Millis, are_ascending};
use crate::track::{TrackRule, whole_track};
use crate::wide::wide;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use hashbrown::HashMap;
use rayon::ScopeFifo;
use rayon::prelude::*;
use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Units of a round, at most: each counts what it reads in some room of its own.
const UNITS_AT_ONCE: usize = 256;
/// Rows that are sieved, and then sent, before the next are, about.
const STEP_ROWS: usize = 1 << 18;
/// Bits of a set of marked pings' persons for each of these, within these bounds: as many as let few others through, where
/// the set stays near the cores.
const BITS_PER_MARK: u64 = 8;
const BITS_PER_MARK_NEAR: u64 = 32;
const MARK_BITS_NEAR: u64 = 1 << 20;
const MARK_BITS_MIN: u64 = 1 << 12;
const MARK_BITS_MAX: u64 = 1 << 27;
/// Stays that there is room for before they come, at most.
const ROOM_ROWS_MAX: usize = 1 << 17;
/// Rows of which fewer than one in so many are sent are fetched first: of more, each line of the caches has some.
const FETCHED_ONE_IN: usize = 8;
/// A slot of time of these sets is at least this long, and a run has at most so many.
const SLOT_MS_MIN: Millis = 60_000;
const SLOTS_MAX: Millis = 1 << 16;
/// Rounds that a slot of time may last, as far as the sets' sizes go.
const SLOT_ROUNDS_MAX: f64 = 64.0;

/// A unit's rows, in the order of time, and what they came to.
struct Decoded {
    batches: Vec<RecordBatch>,
    ends: Option<(Millis, Millis)>,
    intake: Intake,
}

/// The persons with a marked ping, by the slots of time in which closers of the marked pings come: a slot is
/// at least as long as the longest hold.
struct MarkedPersons {
    slot_ms: Millis,
    slots: HashMap<Millis, Vec<AtomicU64>>,
}

impl MarkedPersons {
    /// Nobody yet, in the time from `first` to `last`.
    fn new(hold_ms: Millis, first: Millis, last: Millis) -> Self {
        MarkedPersons {
            slot_ms: hold_ms.max(SLOT_MS_MIN).max((last - first) / SLOTS_MAX),
            slots: HashMap::new(),
        }
    }

    /// Goes on to pings of these pieces, of which about this share is marked; what is before them is done.
    fn turn_to(&mut self, pieces: &[Pings<'_>], share: f64) {
        let ends = pieces.iter().filter_map(|p| Some((*p.times.first()?, *p.times.last()?, p.times.len())));
        let Some((first, last, rows)) = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1), a.2 + b.2)) else {
            return;
        };
        let span = (last - first).max(1_000) as f64;
        let marks = (rows as f64 * share * (self.slot_ms as f64 / span).min(SLOT_ROUNDS_MAX)) as u64;
        let bits = (marks * BITS_PER_MARK).max((marks * BITS_PER_MARK_NEAR).min(MARK_BITS_NEAR));
        let words = bits.next_power_of_two().clamp(MARK_BITS_MIN, MARK_BITS_MAX) / 64;
        self.slots.retain(|slot, _| *slot >= first.div_euclid(self.slot_ms));
        for times in pieces.iter().map(|piece| piece.times) {
            let mut at = 0;
            while at < times.len() {
                let slot = times[at].div_euclid(self.slot_ms);
                for slot in [slot, slot + 1] {
                    self.slots.entry(slot).or_insert_with(|| (0..words).map(|_| AtomicU64::new(0)).collect());
                }
                at += times[at..].partition_point(|t| *t < (slot + 1) * self.slot_ms);
            }
        }
    }

    /// The set of a slot, and the first instant after it.
    fn slot(&self, slot: Millis) -> (&[AtomicU64], Millis) {
        (self.slots.get(&slot).map_or(&[], Vec::as_slice), (slot + 1) * self.slot_ms)
    }
}

#[inline]
fn bit(words: &[AtomicU64], spread: u64) -> Option<(&AtomicU64, u64)> {
    let bit = spread as usize & (words.len() * 64).wrapping_sub(1);
    words.get(bit >> 6).map(|word| (word, bit as u64 & 63))
}

#[inline]
fn set(words: &[AtomicU64], spread: u64) {
    if let Some((word, bit)) = bit(words, spread)
        // Most bits are set already, by the same person's ping before: looking is cheaper than locking.
        && word.load(Ordering::Relaxed) >> bit & 1 == 0
    {
        word.fetch_or(1 << bit, Ordering::Relaxed);
    }
}

#[inline]
fn has(words: &[AtomicU64], spread: u64) -> bool {
    bit(words, spread).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) >> bit & 1 == 1)
}

/// One pass over a source. `None` if some file is not in the order that it promised. What is sieved for is what the cases
/// did by then, or what `sieve` lets through.
pub fn pass(
    job: &Job<'_>,
    source: Source,
    units: Vec<Unit>,
    sieve: Option<&Sieve>,
    stays: &Parts<'_>,
) -> Result<Option<Found>> {
    // Statistics may speak of times that nobody lives in; rows outside the lookback never come.
    let (from, to) = (job.decoder.from, job.decoder.to);
    let first = units.iter().map(|u| u.from).min().unwrap_or(from).max(from);
    let last = units.iter().map(|u| u.to).max().unwrap_or(to).min(to).max(first);
    let mut pass = Pass {
        job,
        source,
        hold_ms: job.hold_ms(source),
        ahead_ms: job.ahead_ms(source),
        window: Vec::new(),
        frontier: Millis::MIN,
        share: 1.0,
        marked: MarkedPersons::new(job.hold_ms(source), first, last),
        given: sieve,
        // Who is looked for in places is not added up.
        dwellings: if sieve.is_some() { None } else { Dwellings::new(job, source) },
        case_pings: Vec::new(),
        cases: cases_by_person(&job.inputs.cases.cases),
        tracks: (0..stays.len()).map(|_| Tracks::new(&job.track_rule(source))).collect(),
        rooms: Mutex::default(),
        sent: Vec::new(),
        idle: true,
        found: Found::new(job),
        stays,
    };
    let mut units = units;
    // The order of the files' rows stays within each file; between files it is that of their first instants.
    units.sort_by_key(|u| (u.from, u.feed, u.file, u.group, u.rows.as_ref().map_or(0, |r| r.start)));
    let ordered = rayon::in_place_scope_fifo(|scope| pass.all(&units, scope))?;
    if !ordered {
        return Ok(None);
    }
    pass.finish()?;
    pass.found.dwellings = pass.dwellings.take().map(Dwellings::finish);
    Ok(Some(pass.found))
}

/// How many of the units are read next.
fn next_round(job: &Job<'_>, units: &[Unit]) -> usize {
    let mut rows = 0;
    let fits = |unit: &&Unit| {
        rows += unit.count;
        rows <= job.round_rows
    };
    units.iter().take(UNITS_AT_ONCE).take_while(fits).count().max(units.len().min(1))
}

/// A unit's rows; `None` if they are not in the order of time.
fn decode(job: &Job<'_>, unit: &Unit) -> Result<Option<Decoded>> {
    let mut found = Decoded { batches: Vec::new(), ends: None, intake: Intake::new(job) };
    let mut ordered = true;
    job.read(unit, None, None, &mut |decoded| {
        found.intake.take(job, unit, &decoded, None)?;
        let pings = Pings::of(&decoded.pings);
        if let [first, .., last] | [first @ last] = pings.times {
            let (start, end) = found.ends.unwrap_or((*first, Millis::MIN));
            ordered &= end <= *first;
            ordered &= are_ascending(pings.times);
            found.ends = Some((start, *last));
            found.batches.push(decoded.pings);
        }
        Ok(())
    })?;
    Ok(ordered.then_some(found))
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
    /// Batches in the order of time, each; among them in no order.
    window: Vec<RecordBatch>,
    /// All rows before it are done.
    frontier: Millis,
    /// The share of the rows that the last round marked, and some more.
    share: f64,
    marked: MarkedPersons,
    given: Option<&'p Sieve>,
    /// How long everyone dwells where it may count, if the rule asks.
    dwellings: Option<Dwellings<'j>>,
    /// The cases' pings that may still matter for the sieve.
    case_pings: Vec<RecordBatch>,
    cases: HashMap<PersonId, Vec<&'p Case>>,
    tracks: Vec<Tracks>,
    /// Room for stays on their way to their part.
    rooms: Mutex<Vec<StayColumns>>,
    /// Room for the rows of a round, by chunk of it and part.
    sent: Vec<Vec<Sent>>,
    /// Whether no row has gone to a track yet.
    idle: bool,
    found: Found,
    stays: &'p Parts<'r>,
}

impl<'p, 'j> Pass<'p, 'j, '_> {
    /// Goes over all units; says whether they are in order. What is read by now is worked on while more is read.
    fn all<'s>(&mut self, units: &'s [Unit], scope: &ScopeFifo<'s>) -> Result<bool>
    where
        'p: 's,
        'j: 's,
    {
        let job = self.job;
        let mut begun: VecDeque<Promise<Result<Option<Decoded>>>> = VecDeque::new();
        let mut ends: HashMap<(usize, usize), Millis> = HashMap::new();
        let (mut done, mut to) = (0, Millis::MIN);
        loop {
            let round = &units[done..done + next_round(job, &units[done..])];
            // Some more, so that no thread has to wait for the last of a round; but not more than another round.
            let (mut ahead, mut rows) = (round.len(), 0);
            for unit in units[done + round.len()..].iter().take(rayon::current_num_threads()) {
                rows += unit.count;
                ahead += usize::from(rows <= job.round_rows);
            }
            for unit in units[done..].iter().take(ahead).skip(begun.len()) {
                begun.push_back(Promise::new(scope, move || decode(job, unit)));
            }
            self.advance(to)?;
            if round.is_empty() {
                return Ok(true);
            }
            for (unit, promise) in round.iter().zip(begun.drain(..round.len())) {
                let Some(decoded) = promise.take() else { return Err(Error::Interrupted) };
                let Some(mut decoded) = decoded? else { return Ok(false) };
                if self.given.is_none() {
                    self.case_pings.extend(decoded.intake.case_pings.iter().cloned());
                }
                self.found.intake.merge(decoded.intake);
                if let Some((first, last)) = decoded.ends {
                    let end = ends.entry((unit.feed, unit.file)).or_insert(Millis::MIN);
                    if first < (*end).max(self.frontier).max(unit.from) {
                        return Ok(false);
                    }
                    *end = last;
                }
                self.window.append(&mut decoded.batches);
            }
            done += round.len();
            // What is not read yet is not earlier than its row group, nor than its file has come.
            let ahead = |u: &Unit| u.from.max(ends.get(&(u.feed, u.file)).copied().unwrap_or(Millis::MIN));
            let bound = units[done..].iter().map(ahead).min().unwrap_or(Millis::MAX);
            to = if bound == Millis::MAX { bound } else { bound - self.ahead_ms };
        }
    }

    /// Does the rows up to `to`.
    fn advance(&mut self, to: Millis) -> Result<()> {
        if to <= self.frontier {
            return Ok(());
        }
        let from = std::mem::replace(&mut self.frontier, to);
        let mut window = std::mem::take(&mut self.window);
        self.process(&window, from, to)?;
        window.retain(|batch| Pings::of(batch).times.last().is_some_and(|last| *last >= to));
        self.window = window;
        Ok(())
    }

    fn process(&mut self, window: &[RecordBatch], from: Millis, to: Millis) -> Result<()> {
        let pieces: Vec<Piece<'_>> = window.iter().filter_map(|batch| Piece::new(Pings::of(batch))).collect();
        let pieces: Vec<Piece<'_>> = within(&pieces, from, to).into_iter().filter_map(Piece::new).collect();
        let ends = pieces.iter().map(|piece| (piece.first, piece.last));
        let Some((first, last)) = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else { return Ok(()) };
        let made;
        let sieve = match self.given {
            Some(sieve) => sieve,
            None => {
                made = self.sieve(first, to)?;
                &made
            }
        };
        let filters = self.job.track_rule(self.source).filters();
        let follows = !sieve.is_empty() || !self.idle || filters;
        if !follows && self.dwellings.is_none() {
            return Ok(());
        }
        self.idle = !follows;
        // Few rows at a time, so that what is sieved is sent, and what is dealt is added up, while it is in the caches.
        let rows: usize = pieces.iter().map(|piece| piece.pings.times.len()).sum();
        let steps = rows.div_ceil(STEP_ROWS) as i128;
        let step = |number: i128| first + (i128::from(last - first) * number / steps) as Millis;
        let mut chunks = 0;
        for number in 0..steps {
            let end = if number + 1 == steps { to } else { step(number + 1) };
            let pieces = within(&pieces, step(number), end);
            if let Some(dwellings) = &mut self.dwellings
                && !dwellings.add(&pieces)
            {
                // Too many persons and places: they are looked for when it is known which count.
                self.dwellings = None;
            }
            if follows && !pieces.is_empty() {
                chunks += self.send(pieces, chunks, sieve, filters)?;
            }
        }
        if follows { self.follow(to) } else { Ok(()) }
    }

    /// A sieve of what the cases did when pings of [first, to) could meet them.
    fn sieve(&mut self, first: Millis, to: Millis) -> Result<Sieve> {
        let job = self.job;
        let schema = &job.decoder.schema;
        // A case's stay matters until its lag is over, and a ping before it says how long it is.
        let back = first.saturating_sub(job.rule().lag_ms).saturating_sub(self.hold_ms);
        let until = to.saturating_add(self.ahead_ms);
        self.case_pings.retain(|b| Pings::of(b).times.last().is_some_and(|last| *last >= back));
        let known = concat_batches(schema, &self.case_pings).map_err(super::too_large)?;
        let times = Pings::of(&known).times.to_vec();
        let grouped = group_by_person(&known, |row| times[row]).map_err(super::too_large)?;
        let view = Pings::of(&grouped);
        let mut rule = TrackRule::new(self.source, &job.feeds, &job.rule().place, job.config.as_of, false)
            .with_uncertainty(job.uncertainty());
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
        let sieve = Sieve::new(&stays, job.rule(), &job.feeds, job.config.as_of, job.uncertainty());
        Ok(sieve.with_areas(job.inputs.areas.as_ref()))
    }

    /// Sieves rows, and sends those that matter to their parts, behind what `chunks` of this round hold. Gives how
    /// many chunks more.
    fn send(&mut self, mut pieces: Vec<Pings<'_>>, chunks: usize, sieve: &Sieve, all: bool) -> Result<usize> {
        let (job, source) = (self.job, self.source);
        pieces.sort_by_key(|piece| piece.times.first().copied());
        self.marked.turn_to(&pieces, self.share);
        let marked = &self.marked;
        let marks: Vec<Vec<Marked>> = pieces
            .par_iter()
            .map(|pings| {
                let mut marks = Vec::new();
                sieve.marks(pings, source, &mut marks);
                let (mut now, mut next, mut end): (&[AtomicU64], &[AtomicU64], _) = (&[], &[], Millis::MIN);
                for row in marks.iter().map(|mark| mark.row()) {
                    let time = pings.times[row as usize];
                    if time >= end {
                        let slot = time.div_euclid(marked.slot_ms);
                        ((now, end), next) = (marked.slot(slot), marked.slot(slot + 1).0);
                    }
                    let spread = pings.persons.at(row as usize).spread();
                    set(now, spread);
                    set(next, spread);
                }
                marks
            })
            .collect();
        let count = marks.iter().map(|m| m.len() as u64).sum::<u64>();
        self.found.marked += count;
        let rows: u64 = pieces.iter().map(|piece| piece.times.len() as u64).sum();
        self.share = (1.25 * count as f64 / rows as f64).min(1.0);
        // Some pieces together, so that what goes to a part is not too little at once.
        let together = pieces.len().div_ceil(rayon::current_num_threads()).max(1);
        let new: Vec<(&[Pings<'_>], &[Vec<Marked>])> =
            pieces.chunks(together).zip(marks.chunks(together)).collect();
        let (schema, kind) = (&job.decoder.schema, job.decoder.person.kind());
        while self.sent.len() < chunks + new.len() {
            self.sent.push(self.tracks.iter().map(|t| t.sends(schema, kind)).collect());
        }
        new.par_iter().zip(&mut self.sent[chunks..]).for_each(|((pieces, marks), by_part)| {
            let mut kept = Vec::new();
            by_part.iter_mut().for_each(Sent::open);
            for (pings, marks) in pieces.iter().zip(*marks) {
                scatter(pings, marks, marked, all, &mut kept, by_part);
            }
            by_part.iter_mut().for_each(Sent::close);
        });
        job.watch.advance(0)?;
        Ok(new.len())
    }

    /// Lets the tracks follow what was sent; the next rows are not earlier than `to`.
    fn follow(&mut self, to: Millis) -> Result<()> {
        let (job, source, stays) = (self.job, self.source, self.stays);
        self.found.tracked += self.sent.iter().flatten().map(|sent| sent.len() as u64).sum::<u64>();
        let mut by_part: Vec<Vec<&mut Sent>> = self.tracks.iter().map(|_| Vec::new()).collect();
        for chunk in &mut self.sent {
            for (part, sent) in by_part.iter_mut().zip(chunk) {
                if sent.len() > 0 {
                    part.push(sent);
                }
            }
        }
        let rooms = &self.rooms;
        self.tracks.par_iter_mut().zip(by_part).enumerate().try_for_each(|(part, (tracks, sent))| {
            let mut out = rooms
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop()
                .unwrap_or_else(|| StayColumns::new(&job.stay_schema));
            tracks.follow(sent, to, &mut job.track_rule(source).mixed(), &mut out)?;
            let rows = out.len();
            stays.push(part, job.packing.pack(&mut out).map_err(super::too_large)?)?;
            // What one part took that was far busier than the rest is not kept.
            if rows <= ROOM_ROWS_MAX {
                rooms.lock().unwrap_or_else(PoisonError::into_inner).push(out);
            }
            Ok(())
        })
    }

    fn finish(&mut self) -> Result<()> {
        let (job, source, stays) = (self.job, self.source, self.stays);
        self.tracks.par_iter_mut().enumerate().try_for_each(|(part, tracks)| {
            let mut out = StayColumns::new(&job.stay_schema);
            tracks.finish(&mut job.track_rule(source).mixed(), &mut out);
            stays.push(part, job.packing.pack(&mut out).map_err(super::too_large)?)
        })
    }
}

/// Rows in the order of time, and when the first and the last of them are.
struct Piece<'a> {
    first: Millis,
    last: Millis,
    pings: Pings<'a>,
}

impl<'a> Piece<'a> {
    /// Some rows.
    fn new(pings: Pings<'a>) -> Option<Self> {
        Some(Piece { first: *pings.times.first()?, last: *pings.times.last()?, pings })
    }
}

/// The rows of [from, to).
fn within<'a>(pieces: &[Piece<'a>], from: Millis, to: Millis) -> Vec<Pings<'a>> {
    let mut inside = Vec::new();
    for Piece { pings, .. } in pieces.iter().filter(|piece| piece.first < to && piece.last >= from) {
        let start = pings.times.partition_point(|t| *t < from);
        let end = pings.times.partition_point(|t| *t < to);
        if start < end {
            inside.push(pings.slice(start..end));
        }
    }
    inside
}

fn at_its_longest(ping: &Ping, job: &Job<'_>, source: Source) -> Stay {
    let end = ping.time + job.feeds[ping.feed as usize].hold_ms;
    let (place, floor, leg) = (ping.place, ping.floor, None);
    let sigma_m = job.uncertainty().map_or(0.0, |u| u.sigma_m(ping));
    Stay {
        start: ping.time,
        sure: end,
        end,
        ending: Ending::default(),
        lat: ping.lat,
        lon: ping.lon,
        sigma_m,
        leg,
        alone: false,
        place,
        floor,
        source,
    }
}

/// Sends the rows of persons that matter to their parts. `kept` is room for rows, and their persons' spreads.
fn scatter(
    pings: &Pings<'_>,
    marks: &[Marked],
    persons: &MarkedPersons,
    all: bool,
    kept: &mut Vec<(u64, Marked)>,
    by_part: &mut [Sent],
) {
    let rows = pings.times.len();
    kept.resize(rows, (0, Marked::new(0, Mark::None)));
    let (mut start, mut count) = (0, 0);
    while start < rows {
        let (set, slot_end) = persons.slot(pings.times[start].div_euclid(persons.slot_ms));
        let end = start + pings.times[start..].partition_point(|t| *t < slot_end);
        // Without branches: whether a row matters is hard to foretell.
        let (whose, room) = (pings.persons.slice(start..end), &mut kept[count..]);
        count += wide(
            #[inline(always)]
            move || {
                let (mut row, mut count) = (start as u32, 0);
                whose.each_spread(
                    #[inline(always)]
                    |spread| {
                        room[count] = (spread, Marked::new(row, Mark::None));
                        count += usize::from(all | has(set, spread));
                        row += 1;
                    },
                );
                count
            },
        );
        start = end;
    }
    // Where few of them matter, each is far from the caches: all are fetched before any is sent.
    if count * FETCHED_ONE_IN < rows {
        let touch =
            |row: usize| pings.times[row] as u64 ^ pings.lats[row].to_bits() ^ pings.lons[row].to_bits();
        black_box(kept[..count].iter().fold(0, |seen, (_, row)| seen ^ touch(row.row() as usize)));
    }
    // Every marked row is among them, as its person is in the set.
    let mut marks = marks.iter().peekable();
    let parts = by_part.len();
    for (spread, mut row) in kept[..count].iter().copied() {
        while let Some(mark) = marks.next_if(|mark| mark.row() <= row.row()) {
            row = if mark.row() == row.row() { *mark } else { row };
        }
        by_part[part_of(spread, parts)].push(pings, spread, row);
    }
}
