//! Rows of a store, found by its guides: the cases' own pings by where each person was, then the pings that stand where and
//! when cases did, each with what follows it. Nothing else is read.

use super::Job;
use super::intake::Intake;
use super::linking::column;
use super::parts::{Dealing, Gathering};
use super::watch::Stage;
use crate::answer::FoundInStore;
use crate::error::Result;
use crate::index::CaseIndex;
use crate::io::decode::Decoded;
use crate::io::guide::{self, Block, Visit};
use crate::io::store::{self, StoredDay};
use crate::person::{PersonId, PersonSet, PersonsSeen};
use crate::ping::{NO_FLOOR, NO_PLACE, NO_UNTIL, Ping, PingColumns, Pings};
use crate::place::cells::{Cells, Region};
use crate::rule::{Motion, Source};
use crate::time::Millis;
use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Float64Type, Int64Type, UInt64Type};
use hashbrown::{HashMap, HashSet};
use rayon::prelude::*;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The columns that say where a row lies and what follows it.
const TOLD: [&str; 5] = ["cell", "next_time", "next_lat", "next_lon", "apart"];
/// A person is in so many blocks of a day, about; who asks for most blocks reads them all, without asking where each is.
const BLOCKS_PER_PERSON: usize = 16;

/// A source's days in a store, each with what its guide says of blocks.
pub struct Guided {
    days: Vec<Day>,
    seen: PersonsSeen,
    row_groups: AtomicU64,
    blocks: AtomicU64,
    bytes: AtomicU64,
    by_person: AtomicU64,
    next_day: AtomicU64,
}

struct Day {
    stored: StoredDay,
    files: Vec<File>,
}

/// A file of a day, by its place among the job's.
struct File {
    feed: usize,
    file: usize,
    blocks: Vec<Block>,
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

/// Which blocks of a day are wanted, by file.
struct Marks(Vec<Vec<bool>>);

impl Marks {
    fn none(day: &Day) -> Self {
        Marks(day.files.iter().map(|file| vec![false; file.blocks.len()]).collect())
    }

    fn all(day: &Day) -> Self {
        Marks(day.files.iter().map(|file| vec![true; file.blocks.len()]).collect())
    }

    /// Marks the blocks that may hold a row of these cells at these times.
    fn set(&mut self, day: &Day, (first, last): (u64, u64), times: &[(Millis, Millis)]) {
        for (file, marks) in day.files.iter().zip(&mut self.0) {
            let from = file.blocks.partition_point(|block| block.cells.1 < first);
            let own = file.blocks.iter().zip(marks).skip(from).take_while(|(block, _)| block.cells.0 <= last);
            for (block, mark) in own {
                let next = times.partition_point(|(_, to)| *to < block.times.0);
                *mark |= times.get(next).is_some_and(|(from, _)| *from <= block.times.1);
            }
        }
    }
}

/// Whose rows at which times are looked for, whatever the cell.
type Windows = HashMap<PersonId, Vec<(Millis, Millis)>>;

/// What marked rows leave to be looked for elsewhere.
#[derive(Default)]
struct Left {
    /// By day, all rows of somebody in a time.
    windows: Vec<(usize, PersonId, (Millis, Millis))>,
    /// The first pings of somebody on a later day: the day before, and up to when.
    first: Vec<(usize, PersonId, Millis)>,
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
            for (name, blocks) in blocks {
                let Some((feed, file)) = places.get(&store::path_in(job.config, &name)?) else {
                    return Ok(None);
                };
                files.push(File { feed: *feed, file: *file, blocks });
            }
            if !stored.is_current {
                return Ok(None);
            }
            if stored.times.1 > job.decoder.from && stored.times.0 < job.decoder.to {
                seen.merge(&own);
            }
            days.push(Day { stored, files });
        }
        let (row_groups, blocks, bytes, by_person, next_day) = Default::default();
        Ok(Some(Guided { days, seen, row_groups, blocks, bytes, by_person, next_day }))
    }

    /// What was read so far.
    pub fn found(&self) -> FoundInStore {
        FoundInStore {
            row_groups_read: self.row_groups.load(Ordering::Relaxed),
            blocks_read: self.blocks.load(Ordering::Relaxed),
            blocks: self.days.iter().flat_map(|day| &day.files).map(|file| file.blocks.len() as u64).sum(),
            bytes_read: self.bytes.load(Ordering::Relaxed),
            sought_by_person: self.by_person.load(Ordering::Relaxed),
            sought_next_day: self.next_day.load(Ordering::Relaxed),
        }
    }

    fn wanted(&self, day: usize, marks: &Marks, wanted: &mut Vec<Wanted>) {
        for (file, marks) in self.days[day].files.iter().zip(&marks.0) {
            let marked = file.blocks.iter().zip(marks).filter(|(_, mark)| **mark).map(|(block, _)| block);
            for block in marked {
                let (group, rows) = (block.group(), block.rows_in_group());
                let same = |last: &&mut Wanted| {
                    (last.day, last.feed, last.file, last.group) == (day, file.feed, file.file, group)
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
                        let (feed, file, rows) = (file.feed, file.file, vec![rows]);
                        wanted.push(Wanted { day, feed, file, group, rows, blocks: 1 });
                    }
                }
            }
        }
    }

    fn read(
        &self,
        job: &Job<'_>,
        wanted: &Wanted,
        told: &[&str],
        each: &mut dyn FnMut(Decoded, RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let feed = &job.inputs.feeds[wanted.feed];
        let file = &feed.files[wanted.file];
        let bytes =
            job.decoder.read_stored(feed, file, wanted.group, &wanted.rows, told, &mut |decoded, told| {
                job.watch.advance(decoded.rows)?;
                each(decoded, told)
            })?;
        self.row_groups.fetch_add(1, Ordering::Relaxed);
        self.blocks.fetch_add(wanted.blocks, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The blocks of a day in which rows of some persons are, in a time of each.
    fn blocks_with(&self, job: &Job<'_>, day: usize, windows: &Windows) -> Result<Marks> {
        let of = &self.days[day];
        let blocks: usize = of.files.iter().map(|file| file.blocks.len()).sum();
        if windows.len() * BLOCKS_PER_PERSON > blocks {
            return Ok(Marks::all(of));
        }
        let mut marks = Marks::none(of);
        let persons: Vec<PersonId> = windows.keys().cloned().collect();
        let mut visits: Vec<(Visit, (Millis, Millis))> = Vec::new();
        guide::visits(&of.stored.visits, job.decoder.person, &persons, &mut |whose, visit| {
            let own = windows.get(&whose).into_iter().flatten();
            visits.extend(own.map(|(from, to)| (visit, (visit.from.max(*from), visit.to.min(*to)))));
        })?;
        for (visit, times) in visits.into_iter().filter(|(_, (from, to))| from <= to) {
            marks.set(of, (visit.cell, visit.cell), &[times]);
        }
        Ok(marks)
    }

    /// Calls `each` with the rows of some persons, in a time of each, by day.
    fn rows_of(
        &self,
        job: &Job<'_>,
        windows: &HashMap<usize, Windows>,
        each: &(dyn Fn(&Wanted, &Decoded, &RecordBatch, &[u32]) -> Result<()> + Sync),
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
            self.read(job, wanted, &TOLD[..1], &mut |decoded, told| {
                let pings = Pings::of(&decoded.pings);
                let is_wanted = |row: &u32| {
                    let row = *row as usize;
                    let at = pings.times[row];
                    let own = windows.get(&pings.persons.at(row));
                    own.is_some_and(|own| own.iter().any(|(from, to)| (*from..=*to).contains(&at)))
                };
                let rows: Vec<u32> = (0..pings.times.len() as u32).filter(is_wanted).collect();
                if rows.is_empty() { Ok(()) } else { each(wanted, &decoded, &told, &rows) }
            })
        })
    }

    /// The same of whole days.
    fn all_rows_of(
        &self,
        job: &Job<'_>,
        persons: &PersonSet,
        each: &(dyn Fn(&Wanted, &Decoded, &RecordBatch, &[u32]) -> Result<()> + Sync),
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
        self.all_rows_of(job, persons, &|_, decoded, _, rows| {
            let mut spreads = Vec::new();
            Pings::of(&decoded.pings).persons.spreads(&mut spreads);
            gathering.add(&decoded.pings, &spreads, Some(rows), &mut Dealing::default())
        })
    }

    /// Counts what there is, and reads the cases' own pings.
    pub fn case_pings(&self, job: &Job<'_>) -> Result<Intake> {
        let mut intake = self.survey(job)?;
        let found = Mutex::new(Vec::new());
        self.all_rows_of(job, job.case_persons.set(), &|_, decoded, _, rows| {
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
            for (file, marks) in of.files.iter().zip(&mut marks.0) {
                for (block, mark) in file.blocks.iter().zip(marks) {
                    let (first, last) = block.times;
                    let is_cut = first < to && last >= from && (first < from || last >= to);
                    *mark = is_cut;
                    if !is_cut {
                        intake.count_block(job, file.feed, block.rows, block.times);
                    }
                }
            }
            self.wanted(day, &marks, &mut wanted);
        }
        let cut: Vec<(usize, Vec<Millis>)> = wanted
            .par_iter()
            .map(|wanted| {
                let feed = &job.inputs.feeds[wanted.feed];
                let mut times = Vec::new();
                let file = &feed.files[wanted.file];
                let bytes =
                    job.decoder.read_times(file, wanted.group, &wanted.rows, &mut |own| times.extend(own))?;
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                Ok((wanted.feed, times))
            })
            .collect::<Result<_>>()?;
        for (feed, times) in cut {
            times.into_iter().for_each(|at| intake.count_block(job, feed, 1, (at, at)));
        }
        intake.persons.merge(&self.seen);
        Ok(intake)
    }

    /// Gathers the pings that stand where and when cases did, with those that each is followed by. Gives how many rows the
    /// sieve marks among them.
    pub fn gather(
        &self,
        job: &Job<'_>,
        source: Source,
        index: &CaseIndex,
        gathering: &Gathering<'_, '_>,
    ) -> Result<()> {
        let region = index.touched(source, job.hold_ms(source), job.uncertainty());
        let mut wanted = Vec::new();
        let marks: Vec<Marks> = self
            .days
            .par_iter()
            .map(|day| {
                let mut marks = Marks::none(day);
                region.ranges().for_each(|(cells, times)| marks.set(day, cells, times));
                marks
            })
            .collect();
        marks.iter().enumerate().for_each(|(day, marks)| self.wanted(day, marks, &mut wanted));
        job.watch.start(Stage::Sieve, wanted.iter().flat_map(|w| &w.rows).map(|r| r.end - r.start).sum());
        let filters = job.track_rule(source).filters();
        let search = Search { guided: self, job, source, index, region: &region, gathering };
        if filters {
            return search.whole_tracks(&wanted);
        }
        let left: Vec<Left> = wanted
            .par_iter()
            .map_init(Room::default, |room, wanted| search.near(wanted, room))
            .collect::<Result<_>>()?;
        search.rest(left)
    }
}

/// What a thread uses again.
#[derive(Default)]
struct Room {
    dealing: Dealing,
    cells: Cells,
    spreads: Vec<u64>,
}

struct Search<'s, 'p, 'r> {
    guided: &'s Guided,
    job: &'s Job<'s>,
    source: Source,
    index: &'s CaseIndex,
    region: &'s Region,
    gathering: &'s Gathering<'p, 'r>,
}

impl Search<'_, '_, '_> {
    /// The rows of a batch that stand in the region.
    fn rows_in(&self, cells: &[u64], times: &[Millis]) -> Vec<u32> {
        let mut rows = Vec::new();
        let mut start = 0;
        for run in cells.chunk_by(|a, b| a == b) {
            let of_cell = self.region.times_in(run[0]);
            if !of_cell.is_empty() {
                for (row, at) in (start as u32..).zip(&times[start..start + run.len()]) {
                    let next = of_cell.partition_point(|(_, to)| to < at);
                    if of_cell.get(next).is_some_and(|(from, _)| from <= at) {
                        rows.push(row);
                    }
                }
            }
            start += run.len();
        }
        rows
    }

    /// Rows of the region that the sieve marks, as their places in `rows`.
    fn marked(&self, pings: &RecordBatch, rows: &[u32]) -> Result<Vec<u32>> {
        let near = take_record_batch(pings, &UInt32Array::from(rows.to_vec())).map_err(super::too_large)?;
        let mut marks = Vec::new();
        self.index.sieve.marks(&Pings::of(&near), self.source, &mut marks);
        Ok(marks.iter().map(|mark| rows[mark.row() as usize]).collect())
    }

    /// Where every ping of a track matters: who has a marked ping, and then all of theirs.
    fn whole_tracks(&self, wanted: &[Wanted]) -> Result<()> {
        let persons = Mutex::new(PersonSet::default());
        wanted.par_iter().try_for_each(|wanted| {
            self.guided.read(self.job, wanted, &TOLD[..1], &mut |decoded, told| {
                let pings = Pings::of(&decoded.pings);
                let rows = self.rows_in(cells_of(&told), pings.times);
                let marked = self.marked(&decoded.pings, &rows)?;
                let whose = marked.iter().map(|row| pings.persons.at(*row as usize).to_id());
                let whose: PersonSet = whose.collect();
                persons.lock().unwrap_or_else(PoisonError::into_inner).extend(whose);
                Ok(())
            })
        })?;
        let persons = persons.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.guided.gather_persons(self.job, &persons, self.gathering)
    }

    /// Gathers rows of the region, and the pings that follow marked ones elsewhere, as far as they tell.
    fn near(&self, wanted: &Wanted, room: &mut Room) -> Result<Left> {
        let (job, mut left) = (self.job, Left::default());
        let day_end = self.guided.days[wanted.day].stored.times.1;
        room.cells.tidy();
        self.guided.read(job, wanted, &TOLD, &mut |decoded, told| {
            let pings = Pings::of(&decoded.pings);
            let rows = self.rows_in(cells_of(&told), pings.times);
            if rows.is_empty() {
                return Ok(());
            }
            pings.persons.spreads(&mut room.spreads);
            self.gathering.add(&decoded.pings, &room.spreads, Some(&rows), &mut room.dealing)?;
            let next_times = column(&told, "next_time");
            let next_times = arrow::compute::cast(next_times, &arrow::datatypes::DataType::Int64);
            let next_times = next_times.map_err(super::too_large)?;
            let next_times = next_times.as_primitive::<Int64Type>();
            let degrees = |name: &str| column(&told, name).as_primitive::<Float64Type>();
            let (lats, lons) = (degrees("next_lat"), degrees("next_lon"));
            let aparts = column(&told, "apart").as_boolean();
            let mut closers = PingColumns::new(&job.decoder.schema);
            for row in self.marked(&decoded.pings, &rows)?.into_iter().map(|row| row as usize) {
                let ping = pings.at(row);
                let until = ping.time + job.feeds[usize::from(ping.feed)].hold_ms;
                let next = next_times.is_valid(row).then(|| next_times.value(row));
                if aparts.is_valid(row) && aparts.value(row) {
                    left.windows.push((wanted.day, pings.persons.at(row).to_id(), (ping.time, until)));
                }
                match next {
                    Some(at) if at <= until && at < job.decoder.to && lats.is_valid(row) => {
                        let (lat, lon) = (lats.value(row), lons.value(row));
                        if !self.region.holds(room.cells.of(lat, lon), at) {
                            closers.push(pings.persons.at(row), &closer(at, (lat, lon), ping.feed));
                        }
                    }
                    None if until >= day_end => {
                        left.first.push((wanted.day, pings.persons.at(row).to_id(), until));
                    }
                    _ => {}
                }
            }
            self.add(closers, room)
        })?;
        Ok(left)
    }

    fn add(&self, closers: PingColumns, room: &mut Room) -> Result<()> {
        if closers.is_empty() {
            return Ok(());
        }
        let closers = closers.finish().map_err(super::too_large)?;
        Pings::of(&closers).persons.spreads(&mut room.spreads);
        self.gathering.add(&closers, &room.spreads, None, &mut room.dealing)
    }

    /// Gathers what marked rows left: first pings of days after, and rows that only a person's whole day tells of.
    fn rest(&self, left: Vec<Left>) -> Result<()> {
        let days = &self.guided.days;
        let mut by_day: HashMap<usize, Windows> = HashMap::new();
        let mut window = |day: usize, person: PersonId, times: (Millis, Millis)| {
            by_day.entry(day).or_default().entry(person).or_default().push(times);
        };
        let mut open: Vec<(usize, PersonId, Millis)> = Vec::new();
        for left in left {
            self.guided.by_person.fetch_add(left.windows.len() as u64, Ordering::Relaxed);
            self.guided.next_day.fetch_add(left.first.len() as u64, Ordering::Relaxed);
            left.windows.into_iter().for_each(|(day, person, times)| window(day, person, times));
            open.extend(left.first);
        }
        let mut room = Room::default();
        let mut closers = PingColumns::new(&self.job.decoder.schema);
        for (number, day) in days.iter().enumerate() {
            let begins = day.stored.times.0;
            let asks = |(after, _, until): &&(usize, PersonId, Millis)| {
                *after < number && *until >= begins && begins < self.job.decoder.to
            };
            let mut untils: HashMap<PersonId, Millis> = HashMap::new();
            for (_, person, until) in open.iter().filter(asks) {
                let latest = untils.entry(person.clone()).or_insert(*until);
                *latest = (*latest).max(*until);
            }
            if untils.is_empty() {
                continue;
            }
            let persons: Vec<PersonId> = untils.keys().cloned().collect();
            let mut found: HashSet<PersonId> = HashSet::new();
            let (firsts, decoder) = (&day.stored.firsts, &self.job.decoder);
            guide::firsts(firsts, decoder.person, &persons, &mut |whose, first| {
                found.insert(whose.to_id());
                let asked = untils.get(&whose).is_some_and(|until| first.at <= *until);
                match first.place {
                    Some(place) if asked && first.at < decoder.to => {
                        if !self.region.holds(room.cells.of(place.0, place.1), first.at) {
                            closers.push(whose, &closer(first.at, place, first.feed));
                        }
                    }
                    None if asked => window(number, whose.to_id(), (first.at, first.at)),
                    _ => {}
                }
            })?;
            open.retain(|(after, person, _)| *after >= number || !found.contains(person));
        }
        self.add(closers, &mut room)?;
        self.guided.rows_of(self.job, &by_day, &|_, decoded, told, rows| {
            let pings = Pings::of(&decoded.pings);
            let cells = cells_of(told);
            // The others are gathered already.
            let elsewhere =
                |row: &&u32| !self.region.holds(cells[**row as usize], pings.times[**row as usize]);
            let rows: Vec<u32> = rows.iter().filter(elsewhere).copied().collect();
            let mut spreads = Vec::new();
            pings.persons.spreads(&mut spreads);
            self.gathering.add(&decoded.pings, &spreads, Some(&rows), &mut Dealing::default())
        })
    }
}

fn cells_of(told: &RecordBatch) -> &[u64] {
    column(told, "cell").as_primitive::<UInt64Type>().values()
}

/// A ping that is known only to end the stay of the one before.
fn closer(time: Millis, (lat, lon): (f64, f64), feed: u16) -> Ping {
    let (until, place, floor) = (NO_UNTIL, NO_PLACE, NO_FLOOR);
    Ping { time, until, lat, lon, accuracy_m: 0.0, place, floor, feed }
}
