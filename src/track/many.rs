//! The tracks of many persons at once, fed with rows in the order of time, where pings just follow one
//! another: no filter, no scans, nobody moves. What a person's next ping needs to know stands in one line of a
//! table.

use super::TrackRule;
use crate::geo::is_within_m;
use crate::person::{PersonColumn, PersonRef};
use crate::ping::{Mark, NO_FLOOR, NO_PLACE, NO_UNTIL, Ping, Pings};
use crate::rule::Motion;
use crate::stay::{Ending, Stay};
use crate::time::Millis;
use std::cmp::Ordering;
use std::hint::black_box;

/// Lines of a table, at least.
const LINES_MIN: usize = 1 << 6;
/// Rows whose lines are fetched at once.
const FETCHED: usize = 64;

/// A ping on its way to its track.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The person's integer, or the [`PersonRef::spread`] of another pseudonym.
    id: u64,
    time: Millis,
    lat: f64,
    lon: f64,
    accuracy_m: f64,
    place: u32,
    feed: u16,
    mark: Mark,
}

impl Row {
    /// A row of a batch; `spread` is its person's.
    #[inline(always)]
    pub fn new(pings: &Pings<'_>, row: usize, spread: u64, mark: Mark) -> Self {
        let id = id_of(pings.persons.at(row), spread);
        let (lat, lon, accuracy_m) = (pings.lat(row), pings.lon(row), pings.accuracy_m(row));
        let (time, place, feed) = (pings.times[row], pings.place(row), pings.feed(row));
        Row { id, time, lat, lon, accuracy_m, place, feed, mark }
    }

    /// Somebody's ping.
    #[inline(always)]
    pub fn of(person: PersonRef<'_>, spread: u64, ping: &Ping, mark: Mark) -> Self {
        let Ping { time, lat, lon, accuracy_m, place, feed, .. } = *ping;
        Row { id: id_of(person, spread), time, lat, lon, accuracy_m, place, feed, mark }
    }

    /// When.
    pub fn time(&self) -> Millis {
        self.time
    }

    /// Whose, where persons are integers.
    pub fn person(&self) -> PersonRef<'static> {
        PersonRef::Integer(self.id)
    }

    fn ping(&self) -> Ping {
        let Row { time, lat, lon, accuracy_m, place, feed, .. } = *self;
        Ping { time, until: NO_UNTIL, lat, lon, accuracy_m, place, floor: NO_FLOOR, feed }
    }
}

#[inline(always)]
fn id_of(person: PersonRef<'_>, spread: u64) -> u64 {
    match person {
        PersonRef::Integer(id) => id,
        PersonRef::Bytes(_) => spread,
    }
}

/// A run of marked pings that waits for the ping that ends its last stay.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Its first ping, and where that stands.
    start: Millis,
    lat: f64,
    lon: f64,
    /// What its pings share, in short; where metres decide, how uncertain they are; of pings that no case can be near
    /// the set of risk areas that hold them.
    key: u64,
    /// Whether no case can be near.
    alone: bool,
    /// Its last ping, up to which it is bracketed, and when that one's hold is over.
    last: Millis,
    hold_end: Millis,
}

/// One person's track as far as it has come: a line of the table, or by itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Line {
    /// The last row, which others may yet share an instant with; a line of the table without one is free.
    now: Option<Row>,
    run: Option<Run>,
}

/// The tracks of some persons from one source.
#[derive(Debug, Default)]
pub struct Tracks {
    /// By the hash of the person, a power of two of them.
    lines: Vec<Line>,
    /// Pseudonyms that are no integers, by line.
    names: Vec<Option<Box<[u8]>>>,
    taken: usize,
}

impl Tracks {
    /// Whether pings just follow one another by this rule.
    pub fn suit(rule: &TrackRule<'_>) -> bool {
        let mut feeds = rule.feeds.iter().filter(|f| f.source == rule.source);
        rule.is_plain() && rule.joins && feeds.all(|f| f.motion == Motion::Hold)
    }

    /// Goes on with rows that are not earlier than those before, and in the order of time. Persons that are no
    /// integers stand beside, row by row. The stays of marked rows come out, with the person's spread.
    pub fn follow(
        &mut self,
        rows: &[Row],
        names: Option<&PersonColumn>,
        rule: &mut TrackRule<'_>,
        out: &mut impl FnMut(PersonRef<'_>, &Stay),
    ) {
        let Some(first) = rows.first() else { return };
        let now = first.time;
        let person = |row: usize| match names {
            Some(names) => names.at(row),
            None => PersonRef::Integer(rows[row].id),
        };
        let mut spreads = [0; FETCHED];
        for start in (0..rows.len()).step_by(FETCHED) {
            let block = start..rows.len().min(start + FETCHED);
            if (self.taken + FETCHED) * 4 > self.lines.len() * 3 {
                self.make_room(now, rule, out);
            }
            // All lines are fetched at once, before what any of them holds decides anything.
            let (mask, mut fetched) = (self.lines.len() - 1, 0);
            for (row, spread) in block.clone().zip(&mut spreads) {
                *spread = if names.is_some() { rows[row].id } else { person(row).spread() };
                let line = &self.lines[*spread as usize & mask];
                fetched ^= line.run.map_or(0, |run| run.key) ^ line.now.map_or(0, |now| now.id);
            }
            black_box(fetched);
            for (row, spread) in block.zip(spreads) {
                let whose = person(row);
                let at = self.enter(whose, spread, &rows[row]);
                self.lines[at].push(&rows[row], rule, &mut |stay| out(whose, stay));
            }
        }
    }

    /// Ends all tracks: the last pings stand for their hold.
    pub fn finish(&mut self, rule: &mut TrackRule<'_>, out: &mut impl FnMut(PersonRef<'_>, &Stay)) {
        let mut tracks = std::mem::take(self);
        for at in 0..tracks.lines.len() {
            let Some(whose) = tracks.person(at) else { continue };
            let whose = whose.to_id();
            tracks.lines[at].finish(rule, &mut |stay| out(whose.as_ref(), stay));
        }
    }

    fn person(&self, at: usize) -> Option<PersonRef<'_>> {
        let row = self.lines[at].now?;
        Some(match self.names.get(at) {
            Some(Some(name)) => PersonRef::Bytes(name),
            _ => PersonRef::Integer(row.id),
        })
    }

    /// The line of a person, a new one if there was none.
    #[inline]
    fn enter(&mut self, person: PersonRef<'_>, spread: u64, row: &Row) -> usize {
        let mask = self.lines.len() - 1;
        let mut at = spread as usize & mask;
        while let Some(known) = &self.lines[at].now {
            let same = known.id == row.id
                && match person {
                    PersonRef::Integer(_) => true,
                    PersonRef::Bytes(name) => self.names[at].as_deref() == Some(name),
                };
            if same {
                return at;
            }
            at = (at + 1) & mask;
        }
        self.put(
            at,
            person,
            Line { now: Some(Row { mark: Mark::None, time: Millis::MIN, ..*row }), run: None },
        );
        at
    }

    fn put(&mut self, at: usize, person: PersonRef<'_>, line: Line) {
        self.taken += 1;
        self.lines[at] = line;
        if let PersonRef::Bytes(name) = person {
            self.names.resize(self.lines.len(), None);
            self.names[at] = Some(name.into());
        }
    }

    /// Makes room for more persons; those who wait for nothing by `now` leave.
    fn make_room(
        &mut self,
        now: Millis,
        rule: &mut TrackRule<'_>,
        out: &mut impl FnMut(PersonRef<'_>, &Stay),
    ) {
        let mut old = std::mem::take(self);
        let waits = |line: &Line, rule: &TrackRule<'_>| {
            let hold_ms = |row: &Row| rule.feeds[usize::from(row.feed)].hold_ms;
            line.run.is_some_and(|run| run.hold_end >= now)
                || line.now.is_some_and(|row| {
                    row.time >= now || row.mark != Mark::None && row.time + hold_ms(&row) >= now
                })
        };
        let waiting = old.lines.iter().filter(|line| waits(line, rule)).count();
        let lines = ((waiting + FETCHED) * 2).next_power_of_two().max(LINES_MIN);
        self.lines = vec![Line::default(); lines];
        for at in 0..old.lines.len() {
            let Some(whose) = old.person(at).map(PersonRef::to_id) else { continue };
            if !waits(&old.lines[at], rule) {
                old.lines[at].finish(rule, &mut |stay| out(whose.as_ref(), stay));
                continue;
            }
            let mask = lines - 1;
            let mut free = whose.as_ref().spread() as usize & mask;
            while self.lines[free].now.is_some() {
                free = (free + 1) & mask;
            }
            self.put(free, whose.as_ref(), old.lines[at]);
        }
    }
}

impl Line {
    /// Adds a row, not earlier than the one before. Of rows at one instant one stands.
    #[inline]
    pub fn push(&mut self, row: &Row, rule: &mut TrackRule<'_>, out: &mut impl FnMut(&Stay)) {
        match &mut self.now {
            Some(now) if now.time == row.time => {
                if rule.before(&row.ping(), &now.ping()) == Ordering::Less {
                    *now = *row;
                }
            }
            _ => {
                self.settle(rule, out);
                self.now = Some(*row);
            }
        }
    }

    /// Adds a row that no other shares its instant with, to a line that is in no table.
    #[inline]
    pub fn push_alone(&mut self, row: &Row, rule: &mut TrackRule<'_>, out: &mut impl FnMut(&Stay)) {
        if self.now.is_some() {
            self.settle(rule, out);
            self.now = None;
        }
        self.stand(row, rule, out);
    }

    /// Adds a row at an instant and a position that is marked for an encounter, as [`Line::push_alone`] does, if all it does is to
    /// go on with a run in its square. Says whether it was so.
    #[inline(always)]
    pub fn goes_on(&mut self, at: (Millis, f64, f64), feed: u16, rule: &TrackRule<'_>) -> bool {
        let run = self.run.as_mut().filter(|_| self.now.is_none());
        run.is_some_and(|run| run.goes_on(at, feed, rule))
    }

    #[inline]
    fn settle(&mut self, rule: &mut TrackRule<'_>, out: &mut impl FnMut(&Stay)) {
        if let Some(row) = self.now {
            self.stand(&row, rule, out);
        }
    }

    /// A row stands: it ends the stay of the one before, and goes on with its run or begins one.
    #[inline]
    fn stand(&mut self, row: &Row, rule: &mut TrackRule<'_>, out: &mut impl FnMut(&Stay)) {
        let at = (row.time, row.lat, row.lon);
        let is_done = match &mut self.run {
            None => row.mark == Mark::None,
            Some(run) => row.mark == Mark::Case && run.goes_on(at, row.feed, rule),
        };
        if is_done {
            return;
        }
        let place = match rule.place.metres() {
            Some(_) => rule.sigma_m(&row.ping()).to_bits(),
            None => rule.key_of_position(row.lat, row.lon).short(),
        };
        let alone = row.mark == Mark::Area;
        let areas = rule.areas.filter(|_| alone).map_or(0, |areas| areas.set_at(row.lat, row.lon));
        let key = if alone { areas } else { place };
        // In no area after all, it only ends what was before.
        let counts = row.mark == Mark::Case || areas != 0;
        let hold_end = row.time + rule.feeds[usize::from(row.feed)].hold_ms;
        if let Some(run) = &mut self.run {
            if row.time > run.hold_end {
                run.end(run.last, run.hold_end, Ending::default(), rule, out);
            } else if run.alone {
                // Wherever in the areas.
                if alone && run.key == key {
                    (run.last, run.hold_end) = (row.time, hold_end);
                    return;
                }
                run.end(run.last, row.time, Ending::default(), rule, out);
            } else {
                let (same, joins) = match rule.place.metres() {
                    Some(metres) => (
                        is_within_m(run.lat, run.lon, row.lat, row.lon, metres),
                        !rule.moving && (run.lat, run.lon, run.key) == (row.lat, row.lon, place),
                    ),
                    None => (run.key == place, !rule.may_differ((run.lat, run.lon), (row.lat, row.lon))),
                };
                if same && joins && row.mark == Mark::Case {
                    (run.last, run.hold_end) = (row.time, hold_end);
                    return;
                }
                let ending = rule.ending((run.lat, run.lon), (row.lat, row.lon), run.last);
                run.end(if same { row.time } else { run.last }, row.time, ending, rule, out);
            }
        }
        let Row { time: start, lat, lon, .. } = *row;
        self.run = counts.then_some(Run { start, lat, lon, key, alone, last: start, hold_end });
    }

    /// No ping comes after the last.
    pub fn finish(&mut self, rule: &mut TrackRule<'_>, out: &mut impl FnMut(&Stay)) {
        self.settle(rule, out);
        if let Some(run) = self.run.take() {
            run.end(run.last, run.hold_end, Ending::default(), rule, out);
        }
    }
}

impl Run {
    /// Goes on with a ping that is marked for an encounter, if it surely is in the run's square. Says whether it did.
    #[inline(always)]
    fn goes_on(&mut self, (time, lat, lon): (Millis, f64, f64), feed: u16, rule: &TrackRule<'_>) -> bool {
        let goes_on = !self.alone && time <= self.hold_end && rule.is_in_last_square(lat, lon, self.key);
        if goes_on {
            (self.last, self.hold_end) = (time, time + rule.feeds[usize::from(feed)].hold_ms);
        }
        goes_on
    }

    #[inline]
    fn end(
        &self,
        sure: Millis,
        end: Millis,
        ending: Ending,
        rule: &TrackRule<'_>,
        out: &mut impl FnMut(&Stay),
    ) {
        let Run { start, lat, lon, key, alone, .. } = *self;
        let source = rule.source;
        let sigma_m = if rule.place.is_uncertain() && !alone { f64::from_bits(key) } else { 0.0 };
        let (leg, place, floor) = (None, NO_PLACE, NO_FLOOR);
        let stay = Stay { start, sure, end, ending, lat, lon, sigma_m, leg, place, floor, source, alone };
        if let Some(stay) = stay.clipped(Millis::MIN, rule.as_of) {
            out(&stay);
        }
    }
}
