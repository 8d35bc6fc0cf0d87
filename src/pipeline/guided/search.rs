//! The search itself: which pings stand where and when cases did, and the stay of each.

use super::{Guided, OWNER, PLACE, Runs, Wanted, Windows};
use crate::error::Result;
use crate::index::CaseIndex;
use crate::io::guide::{self, First};
use crate::person::{PersonId, PersonRef, PersonSet};
use crate::ping::{NO_FLOOR, NO_PLACE, NO_UNTIL, Ping, Pings};
use crate::pipeline::Job;
use crate::pipeline::linking::column;
use crate::pipeline::parts::{Gathering, Handing, Parts, To};
use crate::place::PlaceKey;
use crate::rule::Source;
use crate::stay::{Stay, join};
use crate::time::{Millis, unite};
use crate::track::{Track, TrackRule};
use arrow::array::{Array, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use hashbrown::{HashMap, HashTable};
use rayon::prelude::*;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

/// The columns that say what follows a row.
const TOLD: [&str; 5] = ["next_time", "next_lat", "next_lon", "apart", "repeated"];
/// Stays that wait for the person's next at once, at most.
const OPEN_MAX: usize = 1 << 14;

/// What marked rows leave to be looked for elsewhere.
#[derive(Default)]
pub struct Left {
    /// Instants of persons, and when the hold is over, that only all rows of the person from then on tell of.
    apart: Vec<(PersonId, Millis, Millis)>,
    /// The last pings of days, each with its day and when its hold is over.
    last: Vec<(usize, PersonId, Ping, Millis)>,
}

/// What a thread uses again.
pub struct Room<'s, 'r> {
    out: Handing<'s, 'r>,
    rule: TrackRule<'s>,
    /// Where pings of one square or cell share their place, stays that the person's next may go on.
    open: Option<HashTable<(PersonId, (Stay, PlaceKey))>>,
}

impl<'s, 'r> Room<'s, 'r> {
    /// Nothing yet, of a source's rule, for these parts.
    pub fn new(job: &'s Job<'s>, source: Source, stays: &'s Parts<'r>) -> Self {
        let shares = job.rule().place.metres().is_none();
        let (out, rule) =
            (Handing::new(To::Parts(stays, &job.packing), &job.stay_schema), job.track_rule(source));
        Room { out, rule, open: shares.then(HashTable::new) }
    }

    /// Takes the stay of a ping that this follows, or none.
    fn take(&mut self, person: PersonRef<'_>, ping: Ping, next: Option<(Millis, f64, f64)>) {
        let Some((stay, key)) = self.rule.stay_of(ping, next) else { return };
        let spread = person.spread();
        let Some(open) = &mut self.open else { return self.out.take(person, spread, &stay) };
        if let Some((_, run)) = open.find_mut(spread, |(whose, _)| whose.as_ref() == person) {
            if !join(run, &stay, key, false) {
                let (done, _) = std::mem::replace(run, (stay, key));
                self.out.take(person, spread, &done);
            }
            return;
        }
        if open.len() >= OPEN_MAX {
            self.close();
        }
        if let Some(open) = &mut self.open {
            open.insert_unique(spread, (person.to_id(), (stay, key)), |(whose, _)| whose.as_ref().spread());
        }
    }

    /// Ends the stays that are open.
    fn close(&mut self) {
        for (person, (stay, _)) in self.open.iter_mut().flat_map(HashTable::drain) {
            self.out.take(person.as_ref(), person.as_ref().spread(), &stay);
        }
    }

    /// Hands everything over.
    pub fn finish(mut self) -> Result<()> {
        self.close();
        self.out.hand_over()
    }
}

/// A search for what the cases touched.
pub struct Search<'s, 'r> {
    /// Where.
    pub guided: &'s Guided,
    /// The run.
    pub job: &'s Job<'s>,
    /// Whose pings.
    pub source: Source,
    /// The cases' stays.
    pub index: &'s CaseIndex,
    /// What is found goes there.
    pub stays: &'s Parts<'r>,
}

impl Search<'_, '_> {
    /// Calls `each` with the pings that the sieve marks, and what follows them.
    fn marked(&self, wanted: &Wanted, each: &mut dyn FnMut(PersonRef<'_>, Ping, Next)) -> Result<u64> {
        let by_places = self.source == Source::Gps && self.index.sieve().asks_places_only(self.source);
        if by_places { self.marked_by_places(wanted, each) } else { self.marked_by_all(wanted, each) }
    }

    /// Where and when rows are first, as most are elsewhere; then the rest of those that are marked.
    fn marked_by_places(
        &self,
        wanted: &Wanted,
        each: &mut dyn FnMut(PersonRef<'_>, Ping, Next),
    ) -> Result<u64> {
        let (job, guided) = (self.job, self.guided);
        let feed = &job.inputs.feeds[wanted.feed];
        let file = &feed.files[wanted.file];
        let rest: Vec<&str> = OWNER.into_iter().chain(TOLD).collect();
        let pages = guided.open_pages(job, wanted, &[&rest[..], &PLACE].concat())?;
        let (mut found, mut runs, mut rows) = (Vec::new(), Runs::default(), Vec::new());
        let mut numbers = wanted.rows.iter().cloned().flatten();
        guided.count(&pages, &PLACE, &wanted.rows);
        job.decoder.read_places(file, &pages, &wanted.rows, true, &mut |times, lats, lons| {
            job.watch.advance(times.len() as u64)?;
            rows.clear();
            self.index.sieve().marks_of_places((times, lats, lons), self.source, &mut rows);
            rows.retain(|row| (job.decoder.from..job.decoder.to).contains(&times[*row as usize]));
            let mut before = 0;
            for row in rows.iter().map(|row| *row as usize) {
                let Some(number) = numbers.nth(row - before) else { break };
                before = row + 1;
                // Adding zero turns -0 into 0, so that equal positions are equal bits.
                found.push((number, times[row], lats[row] + 0.0, lons[row] + 0.0));
                runs.add(number);
            }
            (times.len() - before).checked_sub(1).and_then(|last| numbers.nth(last));
            Ok(())
        })?;
        guided.count(&pages, &rest, &runs.ranges);
        let mut numbers = runs.ranges.iter().cloned().flatten();
        let mut marked = found.iter().peekable();
        job.decoder.read_owners(file, &pages, &runs.ranges, &TOLD, &mut |persons, told| {
            let nexts = Nexts::of(told)?;
            for (row, number) in (0..persons.len()).zip(numbers.by_ref()) {
                let Some((_, time, lat, lon)) = marked.next_if(|(marked, ..)| *marked == number) else {
                    continue;
                };
                let (until, accuracy_m, place, floor) = (NO_UNTIL, 0.0, NO_PLACE, NO_FLOOR);
                let (time, lat, lon, feed) = (*time, *lat, *lon, feed.number);
                let ping = Ping { time, until, lat, lon, accuracy_m, place, floor, feed };
                each(persons.at(row), ping, nexts.at(row));
            }
            Ok(())
        })?;
        Ok(found.len() as u64)
    }

    fn marked_by_all(&self, wanted: &Wanted, each: &mut dyn FnMut(PersonRef<'_>, Ping, Next)) -> Result<u64> {
        let (job, guided) = (self.job, self.guided);
        let feed = &job.inputs.feeds[wanted.feed];
        let file = &feed.files[wanted.file];
        let columns: Vec<&str> = job.decoder.columns_of(file).into_iter().chain(TOLD).collect();
        let pages = guided.open_pages(job, wanted, &columns)?;
        guided.count(&pages, &columns, &wanted.rows);
        let mut count = 0;
        job.decoder.read_stored(feed, file, &pages, &wanted.rows, &TOLD, None, &mut |decoded, told| {
            job.watch.advance(decoded.rows)?;
            let (pings, nexts) = (Pings::of(&decoded.pings), Nexts::of(&told)?);
            let mut marks = Vec::new();
            self.index.sieve().marks(&pings, self.source, &mut marks);
            count += marks.len() as u64;
            for row in marks.iter().map(|mark| mark.row() as usize) {
                each(pings.persons.at(row), pings.at(row), nexts.at(row));
            }
            Ok(())
        })?;
        Ok(count)
    }

    /// Where every ping of a track matters: who has a marked ping, and then all of theirs.
    pub fn whole_tracks(&self, wanted: &[Wanted], gathering: &Gathering<'_, '_>) -> Result<u64> {
        let found: Vec<(u64, PersonSet)> = wanted
            .par_iter()
            .map(|wanted| {
                let mut persons = PersonSet::default();
                let marked = self.marked(wanted, &mut |person, _, _| {
                    if !persons.contains(&person) {
                        persons.insert(person.to_id());
                    }
                })?;
                Ok((marked, persons))
            })
            .collect::<Result<_>>()?;
        let marked = found.iter().map(|(marked, _)| marked).sum();
        let persons: PersonSet = found.into_iter().flat_map(|(_, persons)| persons).collect();
        self.guided.gather_persons(self.job, &persons, gathering)?;
        Ok(marked)
    }

    /// Where a ping matters with what follows it: the marked pings, and their persons' until each one's hold is over.
    pub fn parts_of_tracks(&self, wanted: &[Wanted], gathering: &Gathering<'_, '_>) -> Result<u64> {
        let hold_ms = self.job.hold_ms(self.source);
        let found: Vec<(u64, Windows)> = wanted
            .par_iter()
            .map(|wanted| {
                let mut windows = Windows::new();
                let marked = self.marked(wanted, &mut |person, ping, _| {
                    let own = windows.entry(person.to_id()).or_default();
                    own.push((ping.time, ping.time.saturating_add(hold_ms)));
                })?;
                Ok((marked, windows))
            })
            .collect::<Result<_>>()?;
        let marked = found.iter().map(|(marked, _)| marked).sum();
        let mut by_day: HashMap<usize, Windows> = HashMap::new();
        for (person, times) in found.into_iter().flat_map(|(_, windows)| windows) {
            for time in times {
                self.add_window(&person, time, &mut by_day);
            }
        }
        by_day.values_mut().flat_map(HashMap::values_mut).for_each(unite);
        self.guided.gather_windows(self.job, &by_day, gathering)?;
        Ok(marked)
    }

    /// Adds a time of a person to those of the days that it touches.
    fn add_window(
        &self,
        person: &PersonId,
        (from, to): (Millis, Millis),
        by_day: &mut HashMap<usize, Windows>,
    ) {
        for (number, day) in self.guided.days.iter().enumerate() {
            if day.stored.times.0 <= to && from < day.stored.times.1 {
                by_day.entry(number).or_default().entry(person.clone()).or_default().push((from, to));
            }
        }
    }

    /// Hands over the stays of marked rows, as far as these tell what follows them.
    pub fn near(&self, wanted: &Wanted, room: &mut Room<'_, '_>) -> Result<(u64, Left)> {
        let (job, mut left) = (self.job, Left::default());
        let day_end = self.guided.days[wanted.day].stored.times.1;
        let marked = self.marked(wanted, &mut |person, ping, next| {
            let until = ping.time + job.feeds[usize::from(ping.feed)].hold_ms;
            if next.is_repeated {
                return;
            }
            if next.is_apart {
                left.apart.push((person.to_id(), ping.time, until));
            } else if next.at.is_none() && until >= day_end && day_end < job.decoder.to {
                left.last.push((wanted.day, person.to_id(), ping, until));
            } else {
                let next = next.at.filter(|(at, ..)| *at < job.decoder.to);
                room.take(person, ping, next);
            }
        })?;
        room.out.hand_over_enough()?;
        Ok((marked, left))
    }

    /// Hands over the stays of marked rows that need rows of other days, or all of their person's at some time.
    pub fn rest(&self, left: Vec<Left>) -> Result<()> {
        let (job, days) = (self.job, &self.guided.days);
        let (mut apart, mut open) = (Vec::new(), Vec::new());
        for left in left {
            apart.extend(left.apart);
            open.extend(left.last);
        }
        self.guided.next_day.fetch_add(open.len() as u64, Ordering::Relaxed);
        let mut room = Room::new(job, self.source, self.stays);
        let mut hand_over = |person: &PersonId, ping: Ping, next: Option<(Millis, f64, f64)>| {
            room.take(person.as_ref(), ping, next);
        };
        for (number, day) in days.iter().enumerate() {
            let begins = day.stored.times.0;
            let asks = |(after, _, _, until): &(usize, PersonId, Ping, Millis)| {
                *after < number && *until >= begins && begins < job.decoder.to
            };
            let persons: Vec<PersonId> =
                open.iter().filter(|o| asks(o)).map(|(_, person, ..)| person.clone()).collect();
            if persons.is_empty() {
                continue;
            }
            let mut firsts: HashMap<PersonId, First> = HashMap::new();
            guide::firsts(&day.stored.firsts, job.decoder.person, &persons, &mut |whose, first| {
                firsts.insert(whose.to_id(), first);
            })?;
            let (asking, rest) = open.into_iter().partition(|o| asks(o));
            open = rest;
            for (after, person, ping, until) in asking {
                match firsts.get(&person) {
                    None => open.push((after, person, ping, until)),
                    Some(First { at, place: None, .. }) if *at <= until => {
                        apart.push((person, ping.time, until));
                    }
                    Some(first) => {
                        let next = first.place.map(|(lat, lon)| (first.at, lat, lon));
                        hand_over(&person, ping, next.filter(|(at, ..)| *at < job.decoder.to));
                    }
                }
            }
        }
        open.iter().for_each(|(_, person, ping, _)| hand_over(person, *ping, None));
        room.finish()?;
        self.by_person(apart)
    }

    /// Hands over the stays of instants at which somebody's pings differ, or of whom the next do: by all of the person's
    /// rows from then until the hold is over.
    fn by_person(&self, mut apart: Vec<(PersonId, Millis, Millis)>) -> Result<()> {
        if apart.is_empty() {
            return Ok(());
        }
        let job = self.job;
        apart.sort_unstable();
        // The longest of an instant.
        apart.dedup_by(|next, kept| {
            let same = (&next.0, next.1) == (&kept.0, kept.1);
            kept.2 = if same { kept.2.max(next.2) } else { kept.2 };
            same
        });
        self.guided.by_person.fetch_add(apart.len() as u64, Ordering::Relaxed);
        let mut windows: HashMap<usize, Windows> = HashMap::new();
        for (person, from, until) in &apart {
            let until = until.saturating_add(job.hold_ms(self.source));
            self.add_window(person, (*from, until), &mut windows);
        }
        windows.values_mut().flat_map(HashMap::values_mut).for_each(unite);
        let found: Mutex<HashMap<PersonId, Vec<Ping>>> = Mutex::default();
        self.guided.rows_of(job, &windows, None, &|decoded, rows| {
            let pings = Pings::of(&decoded.pings);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            for row in rows.iter().map(|row| *row as usize) {
                found.entry(pings.persons.at(row).to_id()).or_default().push(pings.at(row));
            }
            Ok(())
        })?;
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.values_mut().for_each(|own| own.sort_by_key(|ping| ping.time));
        let mut room = Room::new(job, self.source, self.stays);
        for (person, at, until) in &apart {
            let Some(own) = found.get(person) else { continue };
            let (whose, mut track) = (person.as_ref(), Track::default());
            let mut take = |stay: &Stay| room.out.take(whose, whose.spread(), stay);
            let later = own.partition_point(|ping| ping.time < *at);
            for ping in own[later..].iter().take_while(|ping| ping.time <= *until) {
                track.push(*ping, ping.time == *at, &mut room.rule, &mut take);
            }
            track.finish(&mut room.rule, &mut take);
        }
        room.out.hand_over()
    }
}

/// What follows a row.
struct Next {
    /// When and where its person is next.
    at: Option<(Millis, f64, f64)>,
    is_apart: bool,
    is_repeated: bool,
}

/// What follows the rows of a batch.
struct Nexts {
    times: Int64Array,
    lats: Float64Array,
    lons: Float64Array,
    aparts: BooleanArray,
    repeats: BooleanArray,
}

impl Nexts {
    fn of(told: &RecordBatch) -> Result<Self> {
        let times = cast(column(told, "next_time"), &DataType::Int64).map_err(crate::pipeline::too_large)?;
        let degrees = |name: &str| column(told, name).as_primitive::<Float64Type>().clone();
        let flags = |name: &str| column(told, name).as_boolean().clone();
        Ok(Nexts {
            times: times.as_primitive::<Int64Type>().clone(),
            lats: degrees("next_lat"),
            lons: degrees("next_lon"),
            aparts: flags("apart"),
            repeats: flags("repeated"),
        })
    }

    fn at(&self, row: usize) -> Next {
        let flag = |flags: &BooleanArray| flags.is_valid(row) && flags.value(row);
        let at = self.times.is_valid(row);
        Next {
            at: at.then(|| (self.times.value(row), self.lats.value(row), self.lons.value(row))),
            is_apart: flag(&self.aparts),
            is_repeated: flag(&self.repeats),
        }
    }
}
