//! Rows of a store, found by its guides: the cases' own pings by where each person was, then the pings that stand where and
//! when cases did. As each tells what follows it, it gives its stay by itself; nothing else is read.

mod marks;
mod search;

use super::Job;
use super::intake::Intake;
use super::parts::{Dealing, Gathering, Parts};
use super::watch::Stage;
use crate::answer::FoundInStore;
use crate::error::Result;
use crate::index::CaseIndex;
use crate::io::blocks::BlockTree;
use crate::io::decode::Decoded;
use crate::io::guide::{self, Visit};
use crate::io::pings::Pages;
use crate::io::store::{self, StoredDay};
use crate::io::stored::{BLOCK_ROWS, cell_of_venue};
use crate::person::{PersonId, PersonRef, PersonSet, PersonsSeen};
use crate::ping::Pings;
use crate::place::PlaceKey;
use crate::rule::{Motion, Source};
use crate::stay::{Stay, StayColumns, Stays, join};
use crate::time::{HOUR_MS, Millis, unite};
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use hashbrown::HashMap;
use marks::{Marks, within};
use rayon::prelude::*;
use search::{Left, Room, Search};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Those that say whose it is, and when and where.
const OWNER: [&str; 1] = ["person_id"];
const PLACE: [&str; 3] = ["time", "lat", "lon"];
/// Visits are no longer than a day.
const VISIT_MS_MAX: Millis = 25 * HOUR_MS;
/// Rows between two that are wanted, which are read along, at most.
const GAP_ROWS: u64 = 32;
/// A person is in so many blocks of a day, about; who asks for most blocks reads them all, without asking where each is.
const BLOCKS_PER_PERSON: u64 = 16;

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
    tree: BlockTree,
    /// In which cells the cases' persons are, unless they are in most blocks.
    visits: Vec<(PersonId, Visit)>,
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

/// Whether so many persons are in most blocks of a day.
fn is_for_most(day: &StoredDay, persons: usize) -> bool {
    persons as u64 * BLOCKS_PER_PERSON > day.rows.div_ceil(BLOCK_ROWS as u64)
}

/// Whose rows at which times are looked for, whatever the cell.
type Windows = HashMap<PersonId, Vec<(Millis, Millis)>>;

impl Guided {
    /// The days of a source, if a run can find its rows by their guides.
    pub fn open(job: &Job<'_>, source: Source) -> Result<Option<Self>> {
        let moves = job.feeds.iter().any(|feed| feed.motion == Motion::Linear);
        // Venues are found by their ids alone.
        let is_by_position = source == Source::Venue && job.rule().cross_source;
        if source == Source::Trip || is_by_position || moves {
            return Ok(None);
        }
        if job.inputs.areas.is_some() || job.config.store.is_none() {
            return Ok(None);
        }
        let Some(stored) = job.inputs.stored_days.get(&source) else { return Ok(None) };
        let mut places: HashMap<PathBuf, (usize, usize)> = HashMap::new();
        for (feed, open) in job.inputs.feeds.iter().enumerate() {
            let files = open.files.iter().enumerate();
            places.extend(files.map(|(file, ping_file)| (ping_file.input.path.clone(), (feed, file))));
        }
        if source != Source::Venue && !stored.iter().all(|day| day.is_current) {
            return Ok(None);
        }
        let persons: Vec<PersonId> = job.case_persons.set().iter().cloned().collect();
        let visits = |day: &StoredDay| {
            let mut visits = Vec::new();
            if !is_for_most(day, persons.len()) {
                guide::visits(&day.visits, job.decoder.person, &persons, &mut |whose, visit| {
                    visits.push((whose.to_id(), visit));
                })?;
            }
            Ok(visits)
        };
        let read: Vec<_> = stored
            .par_iter()
            .map(|day| {
                let (tree, visits) = rayon::join(|| BlockTree::open(&day.blocks), || visits(day));
                Ok((tree?, visits?))
            })
            .collect::<Result<_>>()?;
        let (mut days, mut seen) = (Vec::new(), PersonsSeen::default());
        for (stored, (tree, visits)) in stored.iter().zip(read) {
            let mut files = Vec::new();
            for (name, ..) in &tree.files {
                let Some(place) = places.get(&store::path_in(job.config, name)?) else { return Ok(None) };
                files.push(*place);
            }
            if stored.times.1 > job.decoder.from && stored.times.0 < job.decoder.to {
                seen.merge(&tree.seen);
            }
            days.push(Day { stored: stored.clone(), tree, visits, files });
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
            blocks: self.days.iter().map(|day| day.tree.count() as u64).sum(),
            bytes_read: self.bytes.load(Ordering::Relaxed),
            sought_by_person: self.by_person.load(Ordering::Relaxed),
            sought_next_day: self.next_day.load(Ordering::Relaxed),
        }
    }

    fn wanted(&self, day: usize, marks: &Marks, wanted: &mut Vec<Wanted>) {
        let of = &self.days[day];
        for (place, (feed, file)) in of.files.iter().enumerate() {
            let own = of.tree.of_file(place);
            let marked = marks.0[own].iter().enumerate().filter(|(_, mark)| **mark);
            for (number, _) in marked {
                let (group, rows) = BlockTree::rows(number, of.tree.files[place].1);
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

    /// The blocks of a day in which rows of some persons are, in a time of each.
    fn blocks_with(&self, job: &Job<'_>, day: usize, windows: &Windows) -> Result<Marks> {
        let of = &self.days[day];
        if is_for_most(&of.stored, windows.len()) {
            return Ok(Marks::all(of));
        }
        let persons: Vec<PersonId> = windows.keys().cloned().collect();
        let mut cells = Vec::new();
        guide::visits(&of.stored.visits, job.decoder.person, &persons, &mut |whose, visit| {
            cells.extend(within(visit, windows.get(&whose)));
        })?;
        Marks::at(of, &cells)
    }

    /// The same of the cases' persons.
    fn blocks_with_cases(&self, day: usize, windows: &Windows) -> Result<Marks> {
        let of = &self.days[day];
        if is_for_most(&of.stored, windows.len()) {
            return Ok(Marks::all(of));
        }
        let visits = of.visits.iter();
        let cells: Vec<_> = visits.flat_map(|(whose, visit)| within(*visit, windows.get(whose))).collect();
        Marks::at(of, &cells)
    }

    /// Calls `each` with the rows of some persons, in a time of each, by day.
    fn rows_of(
        &self,
        job: &Job<'_>,
        windows: &HashMap<usize, Windows>,
        visitors: Option<&PersonSet>,
        each: &(dyn Fn(&Decoded, &[u32]) -> Result<()> + Sync),
    ) -> Result<()> {
        let days: Vec<(&usize, &Windows)> = windows.iter().filter(|(_, own)| !own.is_empty()).collect();
        let marks: Vec<(usize, Marks)> = days
            .par_iter()
            .map(|(day, own)| Ok((**day, self.blocks_with(job, **day, own)?)))
            .collect::<Result<_>>()?;
        self.rows_in(job, &marks, windows, visitors, each)
    }

    /// The same in blocks that are known.
    fn rows_in(
        &self,
        job: &Job<'_>,
        marks: &[(usize, Marks)],
        windows: &HashMap<usize, Windows>,
        visitors: Option<&PersonSet>,
        each: &(dyn Fn(&Decoded, &[u32]) -> Result<()> + Sync),
    ) -> Result<()> {
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
            job.decoder.read_stored(feed, file, &pages, &own.ranges, &[], visitors, &mut |decoded, _| {
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
        let windows = (0..self.days.len()).map(|day| (day, always().collect())).collect();
        self.rows_of(job, &windows, None, each)
    }

    /// Gathers all pings of some persons.
    pub fn gather_persons(
        &self,
        job: &Job<'_>,
        persons: &PersonSet,
        gathering: &Gathering<'_, '_>,
    ) -> Result<()> {
        self.all_rows_of(job, persons, &|decoded, rows| gather(decoded, rows, gathering))
    }

    /// Gathers the pings of some persons, in a time of each, by day.
    fn gather_windows(
        &self,
        job: &Job<'_>,
        windows: &HashMap<usize, Windows>,
        gathering: &Gathering<'_, '_>,
    ) -> Result<()> {
        self.rows_of(job, windows, None, &|decoded, rows| gather(decoded, rows, gathering))
    }

    /// When pings of the cases matter: while they are infectious, and as long around it as a ping stands. All of them do
    /// where a ping far away may decide, and where asking who has any is no cheaper than reading them.
    fn case_windows(&self, job: &Job<'_>, source: Source) -> Windows {
        let persons = job.case_persons.set();
        // Of visits only the ends are told, which a lookback shorter than they are may lie between.
        let is_short = job.decoder.to.saturating_sub(job.decoder.from) <= VISIT_MS_MAX;
        // A scan may have a check-out long after.
        let all_matter = is_short
            || source.is_by_id()
            || job.resident().is_some()
            || job.contradiction().is_some()
            || job.track_rule(source).filters()
            || self.days.iter().any(|day| is_for_most(&day.stored, persons.len()));
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

    /// The cases' persons who have a ping in the lookback, as far as the guides tell.
    fn seen(&self, job: &Job<'_>) -> PersonSet {
        let lookback = job.decoder.from..job.decoder.to;
        let visits = self.days.iter().flat_map(|day| &day.visits);
        let within =
            visits.filter(|(_, visit)| [visit.from, visit.to].iter().any(|at| lookback.contains(at)));
        within.map(|(whose, _)| whose.clone()).collect()
    }

    /// Counts what there is, and reads the cases' own pings, as far as they matter.
    pub fn case_pings(&self, job: &Job<'_>, source: Source) -> Result<Intake> {
        let mut intake = self.survey(job)?;
        let windows = self.case_windows(job, source);
        if windows.values().flatten().any(|(from, _)| *from > Millis::MIN) {
            intake.cases_seen = self.seen(job);
        }
        let found = Mutex::new(Vec::new());
        let marks: Vec<(usize, Marks)> = (0..self.days.len())
            .into_par_iter()
            .map(|day| Ok((day, self.blocks_with_cases(day, &windows)?)))
            .collect::<Result<_>>()?;
        let by_day = (0..self.days.len()).map(|day| (day, windows.clone())).collect();
        self.rows_in(job, &marks, &by_day, Some(job.case_persons.set()), &|decoded, rows| {
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
        let is_cut =
            |times: (Millis, Millis)| times.0 < to && times.1 >= from && (times.0 < from || times.1 >= to);
        for (day, of) in self.days.iter().enumerate() {
            let twigs = of.tree.twigs();
            let (cut, whole): (Vec<usize>, Vec<usize>) =
                (0..twigs.len()).partition(|twig| is_cut(twigs[*twig].times));
            for twig in whole.into_iter().map(|twig| &twigs[twig]) {
                intake.count_block(job, of.files[twig.file].0, twig.rows, twig.times);
            }
            let (blocks, mut marks) = (of.tree.read(&cut)?, Marks::none(of));
            for twig in cut.into_iter().map(|twig| &twigs[twig]) {
                let (_, of_rows, start) = of.tree.files[twig.file];
                for block in twig.blocks.clone() {
                    let times = blocks.times(block);
                    marks.0[block] = is_cut(times);
                    if !is_cut(times) {
                        let (_, rows) = BlockTree::rows(block - start, of_rows);
                        intake.count_block(job, of.files[twig.file].0, rows.end - rows.start, times);
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
        let marks = match source {
            Source::Venue => self.near_venues(job, index)?,
            _ => {
                let region = index.touched(source, job.hold_ms(source), job.uncertainty());
                self.days.par_iter().map(|day| Marks::near(day, &region)).collect::<Result<_>>()?
            }
        };
        let mut wanted = Vec::new();
        marks.iter().enumerate().for_each(|(day, marks)| self.wanted(day, marks, &mut wanted));
        job.watch.start(Stage::Sieve, wanted.iter().flat_map(|w| &w.rows).map(|r| r.end - r.start).sum());
        let search = Search { guided: self, job, source, index, stays };
        if source == Source::Venue {
            return search.parts_of_tracks(&wanted, gathering);
        }
        if job.track_rule(source).filters() {
            return search.whole_tracks(&wanted, gathering);
        }
        // As many rooms as threads: what they hold is handed over when there is enough.
        let rooms: Mutex<Vec<Room<'_, '_>>> = Mutex::default();
        let found: Vec<(u64, Left)> = wanted
            .par_iter()
            .with_max_len(1)
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

    /// The blocks that may hold a scan that meets a case's.
    fn near_venues(&self, job: &Job<'_>, index: &CaseIndex) -> Result<Vec<Marks>> {
        let cells: Vec<u64> = job.decoder.venues.all().iter().map(|id| cell_of_venue(id)).collect();
        let near = |day: &Day| {
            let hold_ms = job.hold_ms(Source::Venue).max(day.tree.longest_ms);
            let touched = index.touched_venues(hold_ms);
            let own = touched.filter_map(|(venue, times)| Some((*cells.get(venue as usize)?, times)));
            Marks::at(day, &own.collect::<Vec<_>>())
        };
        self.days.par_iter().map(near).collect()
    }

    /// The stays of a part, those of a person together, joined where the rule cannot tell them apart.
    pub fn joined(job: &Job<'_>, source: Source, batches: Vec<RecordBatch>) -> Result<Option<RecordBatch>> {
        if batches.is_empty() {
            return Ok(None);
        }
        let grouped = job.packing.grouped(batches).map_err(super::too_large)?;
        let view = Stays::of(&grouped);
        let mut rule = job.track_rule(source);
        let mut keyed = |row: usize| {
            let stay = view.at(row);
            (stay, rule.key_of_stay(&stay))
        };
        // Where metres decide, hardly any ever are.
        let mut before = keyed(0);
        let any_join = (1..view.starts.len()).any(|row| {
            let next = keyed(row);
            let mut run = std::mem::replace(&mut before, next);
            view.persons.at(row - 1) == view.persons.at(row) && join(&mut run, &next.0, next.1, false)
        });
        if !any_join {
            return Ok(Some(grouped));
        }
        let mut out = StayColumns::new(&job.stay_schema);
        let mut run: Option<(PersonRef<'_>, (Stay, PlaceKey))> = None;
        for row in 0..view.starts.len() {
            let (person, (stay, key)) = (view.persons.at(row), keyed(row));
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

fn gather(decoded: &Decoded, rows: &[u32], gathering: &Gathering<'_, '_>) -> Result<()> {
    let mut spreads = Vec::new();
    Pings::of(&decoded.pings).persons.spreads(&mut spreads);
    gathering.add(&decoded.pings, &spreads, Some(rows), &mut Dealing::default())
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
