//! Rows of a store, found by its guides: the cases' own pings by where each person was, then the pings that stand where and
//! when cases did. As each tells what follows it, it gives its stay by itself; nothing else is read.

use super::Job;
use super::intake::Intake;
use super::linking::column;
use super::parts::{Dealing, Gathering, Handing, Parts};
use super::watch::Stage;
use crate::answer::FoundInStore;
use crate::error::Result;
use crate::index::CaseIndex;
use crate::io::decode::Decoded;
use crate::io::guide::{self, Blocks, First};
use crate::io::pings::Pages;
use crate::io::store::{self, StoredDay};
use crate::person::{PersonId, PersonRef, PersonSet, PersonsSeen};
use crate::ping::{NO_FLOOR, NO_PLACE, NO_UNTIL, Ping, Pings, person_order};
use crate::place::PlaceKey;
use crate::place::region::Region;
use crate::rule::{Motion, Source};
use crate::stay::{Stay, StayColumns, Stays, join};
use crate::time::{HOUR_MS, Millis, unite};
use crate::track::{Track, TrackRule};
use arrow::array::{Array, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use hashbrown::{HashMap, HashTable};
use rayon::prelude::*;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The columns that say what follows a row.
const TOLD: [&str; 5] = ["next_time", "next_lat", "next_lon", "apart", "repeated"];
/// Those that say whose it is, and when and where.
const OWNER: [&str; 1] = ["person_id"];
const PLACE: [&str; 3] = ["time", "lat", "lon"];
/// Visits are no longer than a day.
const VISIT_MS_MAX: Millis = 25 * HOUR_MS;
/// Stays that wait for the person's next at once, at most.
const OPEN_MAX: usize = 1 << 14;
/// Rows between two that are wanted, which are read along, at most.
const GAP_ROWS: u64 = 32;
/// A person is in so many blocks of a day, about; who asks for most blocks reads them all, without asking where each is.
const BLOCKS_PER_PERSON: usize = 16;

/// A source's days in a store, each with what its guide says of blocks.
pub struct Guided {
    days: Vec<Day>,
    seen: PersonsSeen,
    /// By feed.
    rows: Vec<AtomicU64>,
    row_groups: AtomicU64,
    blocks: AtomicU64,
    bytes: AtomicU64,
    by_person: AtomicU64,
    next_day: AtomicU64,
}

struct Day {
    stored: StoredDay,
    blocks: Blocks,
    /// Its files by feed and their place among the job's, in the order of the blocks' own.
    files: Vec<(usize, usize)>,
}

/// Rows of a row group that are to be read.
struct Wanted {
    day: usize,
    feed: usize,
    file: usize,
    group: usize,
    rows: Vec<Range<u64>>,
    blocks: u64,
}

/// Which blocks of a day are wanted.
struct Marks(Vec<bool>);

impl Marks {
    fn none(day: &Day) -> Self {
        Marks(vec![false; day.blocks.cells.len()])
    }

    fn all(day: &Day) -> Self {
        Marks(vec![true; day.blocks.cells.len()])
    }

    /// The blocks that may hold something of a region.
    fn near(day: &Day, region: &Region) -> Self {
        let touches = |(block, times): (usize, &(Millis, Millis))| {
            region.may_touch(day.blocks.bounds[block], *times)
                && region.touches(&day.blocks.area(block), *times)
        };
        Marks(day.blocks.times.iter().enumerate().map(touches).collect())
    }

    /// Marks the blocks that may hold a row of a cell at some time.
    fn set(&mut self, day: &Day, cell: u64, (from, to): (Millis, Millis)) {
        for file in 0..day.files.len() {
            let own = day.blocks.of_file(file);
            let cells = &day.blocks.cells[own.clone()];
            let first = own.start + cells.partition_point(|(_, last)| *last < cell);
            for block in (first..own.end).take_while(|block| day.blocks.cells[*block].0 <= cell) {
                let times = day.blocks.times[block];
                self.0[block] |= times.0 <= to && from <= times.1;
            }
        }
    }
}

/// Whose rows at which times are looked for, whatever the cell.
type Windows = HashMap<PersonId, Vec<(Millis, Millis)>>;

/// What marked rows leave to be looked for elsewhere.
#[derive(Default)]
struct Left {
    /// Instants of persons, and when the hold is over, that only all rows of the person from then on tell of.
    apart: Vec<(PersonId, Millis, Millis)>,
    /// The last pings of days, each with its day and when its hold is over.
    last: Vec<(usize, PersonId, Ping, Millis)>,
}

impl Guided {
    /// The days of a source, if a run can find its rows by their guides.
    pub fn open(job: &Job<'_>, source: Source) -> Result<Option<Self>> {
        let moves = job.feeds.iter().any(|feed| feed.motion == Motion::Linear);
        if source.is_by_id() || moves || job.inputs.areas.is_some() || job.config.store.is_none() {
            return Ok(None);
        }
        let Some(stored) = store::days(job.config, source)? else { return Ok(None) };
        let mut places: HashMap<PathBuf, (usize, usize)> = HashMap::new();
        for (feed, open) in job.inputs.feeds.iter().enumerate() {
            let files = open.files.iter().enumerate();
            places.extend(files.map(|(file, ping_file)| (ping_file.input.path.clone(), (feed, file))));
        }
        let read: Vec<_> =
            stored.par_iter().map(|day| guide::read_blocks(&day.blocks)).collect::<Result<_>>()?;
        let (mut days, mut seen) = (Vec::new(), PersonsSeen::default());
        for (stored, (blocks, own)) in stored.into_iter().zip(read) {
            let mut files = Vec::new();
            for (name, ..) in &blocks.files {
                let Some(place) = places.get(&store::path_in(job.config, name)?) else { return Ok(None) };
                files.push(*place);
            }
            if !stored.is_current {
                return Ok(None);
            }
            if stored.times.1 > job.decoder.from && stored.times.0 < job.decoder.to {
                seen.merge(&own);
            }
            days.push(Day { stored, blocks, files });
        }
        let (row_groups, blocks, bytes, by_person, next_day) = Default::default();
        let rows = super::intake::no_rows(job.feeds.len());
        Ok(Some(Guided { days, seen, rows, row_groups, blocks, bytes, by_person, next_day }))
    }

    /// Counts what was read so far as read.
    pub fn count_in(&self, intake: &mut Intake) {
        for (feed, rows) in self.rows.iter().enumerate() {
            intake.count_read(feed, rows.swap(0, Ordering::Relaxed));
        }
    }

    /// What was read so far.
    pub fn found(&self) -> FoundInStore {
        FoundInStore {
            row_groups_read: self.row_groups.load(Ordering::Relaxed),
            blocks_read: self.blocks.load(Ordering::Relaxed),
            blocks: self.days.iter().map(|day| day.blocks.cells.len() as u64).sum(),
            bytes_read: self.bytes.load(Ordering::Relaxed),
            sought_by_person: self.by_person.load(Ordering::Relaxed),
            sought_next_day: self.next_day.load(Ordering::Relaxed),
        }
    }

    fn wanted(&self, day: usize, marks: &Marks, wanted: &mut Vec<Wanted>) {
        let of = &self.days[day];
        for (place, (feed, file)) in of.files.iter().enumerate() {
            let own = of.blocks.of_file(place);
            let marked = marks.0[own].iter().enumerate().filter(|(_, mark)| **mark);
            for (number, _) in marked {
                let (group, rows) = Blocks::rows(number, of.blocks.files[place].1);
                let same = |last: &&mut Wanted| {
                    (last.day, last.feed, last.file, last.group) == (day, *feed, *file, group)
                };
                match wanted.last_mut().filter(same) {
                    Some(last) => {
                        last.blocks += 1;
                        match last.rows.last_mut().filter(|before| before.end == rows.start) {
                            Some(before) => before.end = rows.end,
                            None => last.rows.push(rows),
                        }
                    }
                    None => {
                        let (feed, file, rows) = (*feed, *file, vec![rows]);
                        wanted.push(Wanted { day, feed, file, group, rows, blocks: 1 });
                    }
                }
            }
        }
    }

    /// What is read of a file of a store for these rows, in one or several steps.
    fn open_pages(&self, job: &Job<'_>, wanted: &Wanted, columns: &[&str]) -> Result<Pages> {
        job.watch.advance(0)?;
        self.row_groups.fetch_add(1, Ordering::Relaxed);
        self.blocks.fetch_add(wanted.blocks, Ordering::Relaxed);
        let rows = wanted.rows.iter().map(|rows| rows.end - rows.start).sum();
        self.rows[wanted.feed].fetch_add(rows, Ordering::Relaxed);
        job.inputs.feeds[wanted.feed].files[wanted.file].pages(wanted.group, columns)
    }

    /// Counts what reading these rows of some columns takes.
    fn count(&self, pages: &Pages, columns: &[&str], rows: &[Range<u64>]) {
        self.bytes.fetch_add(pages.bytes(columns, rows), Ordering::Relaxed);
    }

    /// Whether so many persons are in most blocks of a day.
    fn is_for_most(&self, day: usize, persons: usize) -> bool {
        persons * BLOCKS_PER_PERSON > self.days[day].blocks.cells.len()
    }

    /// The blocks of a day in which rows of some persons are, in a time of each.
    fn blocks_with(&self, job: &Job<'_>, day: usize, windows: &Windows) -> Result<Marks> {
        let of = &self.days[day];
        if self.is_for_most(day, windows.len()) {
            return Ok(Marks::all(of));
        }
        let mut marks = Marks::none(of);
        let persons: Vec<PersonId> = windows.keys().cloned().collect();
        let mut visits: Vec<(u64, (Millis, Millis))> = Vec::new();
        guide::visits(&of.stored.visits, job.decoder.person, &persons, &mut |whose, visit| {
            let own = windows.get(&whose).into_iter().flatten();
            visits.extend(own.map(|(from, to)| (visit.cell, (visit.from.max(*from), visit.to.min(*to)))));
        })?;
        for (cell, times) in visits.into_iter().filter(|(_, (from, to))| from <= to) {
            marks.set(of, cell, times);
        }
        Ok(marks)
    }

    /// Calls `each` with the rows of some persons, in a time of each, by day.
    fn rows_of(
        &self,
        job: &Job<'_>,
        windows: &HashMap<usize, Windows>,
        each: &(dyn Fn(&Decoded, &[u32]) -> Result<()> + Sync),
    ) -> Result<()> {
        let days: Vec<(&usize, &Windows)> = windows.iter().filter(|(_, own)| !own.is_empty()).collect();
        let marks: Vec<(usize, Marks)> = days
            .par_iter()
            .map(|(day, own)| Ok((**day, self.blocks_with(job, **day, own)?)))
            .collect::<Result<_>>()?;
        let mut wanted = Vec::new();
        marks.iter().for_each(|(day, marks)| self.wanted(*day, marks, &mut wanted));
        wanted.par_iter().try_for_each(|wanted| {
            let Some(windows) = windows.get(&wanted.day) else { return Ok(()) };
            let feed = &job.inputs.feeds[wanted.feed];
            let file = &feed.files[wanted.file];
            let columns = job.decoder.columns_of(file);
            let pages = self.open_pages(job, wanted, &columns)?;
            // Whose they are first, as few rows are theirs.
            self.count(&pages, &OWNER, &wanted.rows);
            let mut numbers = wanted.rows.iter().cloned().flatten();
            let mut own = Runs::default();
            job.decoder.read_owners(file, &pages, &wanted.rows, &[], &mut |persons, _| {
                for (row, number) in (0..persons.len()).zip(numbers.by_ref()) {
                    if windows.contains_key(&persons.at(row)) {
                        own.add(number);
                    }
                }
                Ok(())
            })?;
            self.count(&pages, &columns, &own.ranges);
            job.decoder.read_stored(feed, file, &pages, &own.ranges, &[], &mut |decoded, _| {
                job.watch.advance(decoded.rows)?;
                let pings = Pings::of(&decoded.pings);
                let is_wanted = |row: &u32| {
                    let row = *row as usize;
                    let own = windows.get(&pings.persons.at(row));
                    let at = pings.times[row];
                    own.is_some_and(|own| own.iter().any(|(from, to)| (*from..=*to).contains(&at)))
                };
                let rows: Vec<u32> = (0..pings.times.len() as u32).filter(is_wanted).collect();
                if rows.is_empty() { Ok(()) } else { each(&decoded, &rows) }
            })
        })
    }

    /// The same of whole days.
    fn all_rows_of(
        &self,
        job: &Job<'_>,
        persons: &PersonSet,
        each: &(dyn Fn(&Decoded, &[u32]) -> Result<()> + Sync),
    ) -> Result<()> {
        let always = || persons.iter().map(|person| (person.clone(), vec![(Millis::MIN, Millis::MAX)]));
        self.rows_of(job, &(0..self.days.len()).map(|day| (day, always().collect())).collect(), each)
    }

    /// Gathers all pings of some persons.
    pub fn gather_persons(
        &self,
        job: &Job<'_>,
        persons: &PersonSet,
        gathering: &Gathering<'_, '_>,
    ) -> Result<()> {
        self.all_rows_of(job, persons, &|decoded, rows| {
            let mut spreads = Vec::new();
            Pings::of(&decoded.pings).persons.spreads(&mut spreads);
            gathering.add(&decoded.pings, &spreads, Some(rows), &mut Dealing::default())
        })
    }

    /// When pings of the cases matter: while they are infectious, and as long around it as a ping stands. All of them do
    /// where a ping far away may decide, and where asking who has any is no cheaper than reading them.
    fn case_windows(&self, job: &Job<'_>, source: Source) -> Windows {
        let persons = job.case_persons.set();
        // Of visits only the ends are told, which a lookback shorter than they are may lie between.
        let is_short = job.decoder.to.saturating_sub(job.decoder.from) <= VISIT_MS_MAX;
        let all_matter = is_short
            || job.resident().is_some()
            || job.contradiction().is_some()
            || job.track_rule(source).filters()
            || (0..self.days.len()).any(|day| self.is_for_most(day, persons.len()));
        let hold_ms = job.hold_ms(source);
        let mut windows = Windows::new();
        for case in job.inputs.cases.cases.iter().filter(|case| persons.contains(&case.person)) {
            let from = case.infectious_from.saturating_sub(hold_ms);
            let to = case.infectious_to.saturating_add(hold_ms);
            let times = if all_matter { (Millis::MIN, Millis::MAX) } else { (from, to) };
            windows.entry(case.person.clone()).or_default().push(times);
        }
        windows.values_mut().for_each(unite);
        windows
    }

    /// Of some persons those who have a ping in the lookback, as far as the guides tell.
    fn seen(&self, job: &Job<'_>, windows: &Windows) -> Result<PersonSet> {
        let persons: Vec<PersonId> = windows.keys().cloned().collect();
        let lookback = job.decoder.from..job.decoder.to;
        let found: Vec<PersonSet> = self
            .days
            .par_iter()
            .map(|day| {
                let mut seen = PersonSet::default();
                guide::visits(&day.stored.visits, job.decoder.person, &persons, &mut |whose, visit| {
                    if lookback.contains(&visit.from) || lookback.contains(&visit.to) {
                        seen.insert(whose.to_id());
                    }
                })?;
                Ok(seen)
            })
            .collect::<Result<_>>()?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Counts what there is, and reads the cases' own pings, as far as they matter.
    pub fn case_pings(&self, job: &Job<'_>, source: Source) -> Result<Intake> {
        let mut intake = self.survey(job)?;
        let windows = self.case_windows(job, source);
        if windows.values().flatten().any(|(from, _)| *from > Millis::MIN) {
            intake.cases_seen = self.seen(job, &windows)?;
        }
        let found = Mutex::new(Vec::new());
        let by_day = (0..self.days.len()).map(|day| (day, windows.clone())).collect();
        self.rows_of(job, &by_day, &|decoded, rows| {
            let own = take_record_batch(&decoded.pings, &UInt32Array::from(rows.to_vec()));
            let own = own.map_err(super::too_large)?;
            job.hold_case_rows(own.num_rows() as u64)?;
            found.lock().unwrap_or_else(PoisonError::into_inner).push(own);
            Ok(())
        })?;
        intake.case_pings = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(intake)
    }

    /// Counts rows by what the guides say of blocks; where a block lies on an end of the lookback, its times are read.
    fn survey(&self, job: &Job<'_>) -> Result<Intake> {
        let mut intake = Intake::new(job);
        let (from, to) = (job.decoder.from, job.decoder.to);
        let mut wanted = Vec::new();
        for (day, of) in self.days.iter().enumerate() {
            let mut marks = Marks::none(of);
            for (place, (feed, _)) in of.files.iter().enumerate() {
                for (number, block) in of.blocks.of_file(place).enumerate() {
                    let times = of.blocks.times[block];
                    let is_cut = times.0 < to && times.1 >= from && (times.0 < from || times.1 >= to);
                    marks.0[block] = is_cut;
                    if !is_cut {
                        let (_, rows) = Blocks::rows(number, of.blocks.files[place].1);
                        intake.count_block(job, *feed, rows.end - rows.start, times);
                    }
                }
            }
            self.wanted(day, &marks, &mut wanted);
        }
        let cut: Vec<(usize, Vec<Millis>)> = wanted
            .par_iter()
            .map(|wanted| {
                let file = &job.inputs.feeds[wanted.feed].files[wanted.file];
                let pages = self.open_pages(job, wanted, &PLACE[..1])?;
                self.count(&pages, &PLACE[..1], &wanted.rows);
                let mut all = Vec::new();
                job.decoder.read_places(file, &pages, &wanted.rows, false, &mut |times, _, _| {
                    all.extend_from_slice(times);
                    Ok(())
                })?;
                Ok((wanted.feed, all))
            })
            .collect::<Result<_>>()?;
        for (feed, times) in cut {
            times.into_iter().for_each(|at| intake.count_block(job, feed, 1, (at, at)));
        }
        intake.persons.merge(&self.seen);
        Ok(intake)
    }

    /// Finds the pings that stand where and when cases did, and hands over the stay of each; where a filter may drop pings,
    /// all pings of those persons are gathered instead. Gives how many rows the sieve marks.
    pub fn find(
        &self,
        job: &Job<'_>,
        source: Source,
        index: &CaseIndex,
        stays: &Parts<'_>,
        gathering: &Gathering<'_, '_>,
    ) -> Result<u64> {
        let region = index.touched(source, job.hold_ms(source), job.uncertainty());
        let marks: Vec<Marks> = self.days.par_iter().map(|day| Marks::near(day, &region)).collect();
        let mut wanted = Vec::new();
        marks.iter().enumerate().for_each(|(day, marks)| self.wanted(day, marks, &mut wanted));
        job.watch.start(Stage::Sieve, wanted.iter().flat_map(|w| &w.rows).map(|r| r.end - r.start).sum());
        let search = Search { guided: self, job, source, index, stays };
        if job.track_rule(source).filters() {
            return search.whole_tracks(&wanted, gathering);
        }
        // As many rooms as threads: what they hold is handed over when there is enough.
        let rooms: Mutex<Vec<Room<'_, '_>>> = Mutex::default();
        let found: Vec<(u64, Left)> = wanted
            .par_iter()
            .map(|wanted| {
                let free = rooms.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let mut room = free.unwrap_or_else(|| Room::new(job, source, stays));
                let found = search.near(wanted, &mut room);
                rooms.lock().unwrap_or_else(PoisonError::into_inner).push(room);
                found
            })
            .collect::<Result<_>>()?;
        let rooms = rooms.into_inner().unwrap_or_else(PoisonError::into_inner);
        rooms.into_iter().try_for_each(Room::finish)?;
        let marked = found.iter().map(|(marked, _)| marked).sum();
        search.rest(found.into_iter().map(|(_, left)| left).collect())?;
        Ok(marked)
    }

    /// The stays of a part, those of a person together, joined where the rule cannot tell them apart.
    pub fn joined(job: &Job<'_>, source: Source, batches: &[RecordBatch]) -> Result<Option<RecordBatch>> {
        if batches.is_empty() {
            return Ok(None);
        }
        let all = concat_batches(&job.stay_schema, batches).map_err(super::too_large)?;
        let view = Stays::of(&all);
        let (mut rule, mut out) = (job.track_rule(source), StayColumns::new(&job.stay_schema));
        let mut run: Option<(PersonRef<'_>, (Stay, PlaceKey))> = None;
        for row in person_order(&view.persons, |row| view.starts[row]) {
            let (person, stay) = (view.persons.at(row as usize), view.at(row as usize));
            let key = rule.key_of_stay(&stay);
            if let Some((last, run)) = &mut run
                && *last == person
                && join(run, &stay, key, false)
            {
                continue;
            }
            if let Some((person, (stay, _))) = run.replace((person, (stay, key))) {
                out.push(person, &stay);
            }
        }
        if let Some((person, (stay, _))) = run {
            out.push(person, &stay);
        }
        out.finish().map(Some).map_err(super::too_large)
    }
}

/// Rows of a row group as ranges, which may hold some more.
#[derive(Default)]
struct Runs {
    ranges: Vec<Range<u64>>,
}

impl Runs {
    /// Adds the next row.
    fn add(&mut self, row: u64) {
        match self.ranges.last_mut().filter(|last| row < last.end + GAP_ROWS) {
            Some(last) => last.end = row + 1,
            None => self.ranges.push(row..row + 1),
        }
    }
}

/// What a thread uses again.
struct Room<'s, 'r> {
    out: Handing<'s, 'r>,
    rule: TrackRule<'s>,
    /// Where pings of one square or cell share their place, stays that the person's next may go on.
    open: Option<HashTable<(PersonId, (Stay, PlaceKey))>>,
}

impl<'s, 'r> Room<'s, 'r> {
    fn new(job: &'s Job<'s>, source: Source, stays: &'s Parts<'r>) -> Self {
        let shares = job.rule().place.metres().is_none();
        let (out, rule) = (Handing::new(stays, &job.stay_schema), job.track_rule(source));
        Room { out, rule, open: shares.then(HashTable::new) }
    }

    /// Takes the stay of a ping that this follows, or none.
    fn take(&mut self, person: PersonRef<'_>, ping: Ping, next: Option<(Millis, f64, f64)>) {
        let Some(stay) = self.rule.stay_of(ping, next) else { return };
        let spread = person.spread();
        let Some(open) = &mut self.open else { return self.out.take(person, spread, &stay) };
        let key = self.rule.key_of_stay(&stay);
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
    fn finish(mut self) -> Result<()> {
        self.close();
        self.out.hand_over()
    }
}

struct Search<'s, 'r> {
    guided: &'s Guided,
    job: &'s Job<'s>,
    source: Source,
    index: &'s CaseIndex,
    stays: &'s Parts<'r>,
}

impl Search<'_, '_> {
    /// Calls `each` with the pings that the sieve marks, and what follows them.
    fn marked(&self, wanted: &Wanted, each: &mut dyn FnMut(PersonRef<'_>, Ping, Next)) -> Result<u64> {
        let by_places = self.source == Source::Gps && self.index.sieve.asks_places_only(self.source);
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
            self.index.sieve.marks_of_places((times, lats, lons), self.source, &mut rows);
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
        job.decoder.read_stored(feed, file, &pages, &wanted.rows, &TOLD, &mut |decoded, told| {
            job.watch.advance(decoded.rows)?;
            let (pings, nexts) = (Pings::of(&decoded.pings), Nexts::of(&told)?);
            let mut marks = Vec::new();
            self.index.sieve.marks(&pings, self.source, &mut marks);
            count += marks.len() as u64;
            for row in marks.iter().map(|mark| mark.row() as usize) {
                each(pings.persons.at(row), pings.at(row), nexts.at(row));
            }
            Ok(())
        })?;
        Ok(count)
    }

    /// Where every ping of a track matters: who has a marked ping, and then all of theirs.
    fn whole_tracks(&self, wanted: &[Wanted], gathering: &Gathering<'_, '_>) -> Result<u64> {
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

    /// Hands over the stays of marked rows, as far as these tell what follows them.
    fn near(&self, wanted: &Wanted, room: &mut Room<'_, '_>) -> Result<(u64, Left)> {
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
    fn rest(&self, left: Vec<Left>) -> Result<()> {
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
        let (job, days) = (self.job, &self.guided.days);
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
            let (from, until) = (*from, until.saturating_add(job.hold_ms(self.source)));
            for (number, day) in days.iter().enumerate() {
                if day.stored.times.0 <= until && from < day.stored.times.1 {
                    let own = windows.entry(number).or_default().entry(person.clone()).or_default();
                    own.push((from, until));
                }
            }
        }
        windows.values_mut().flat_map(HashMap::values_mut).for_each(unite);
        let found: Mutex<HashMap<PersonId, Vec<Ping>>> = Mutex::default();
        self.guided.rows_of(job, &windows, &|decoded, rows| {
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
        let times = cast(column(told, "next_time"), &DataType::Int64).map_err(super::too_large)?;
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
