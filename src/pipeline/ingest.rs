//! Ingest: the rows of files that a store does not know yet are parted by person, each finds its person's next ping of the
//! day, they are parted by day and space, and each such part becomes a file in the order of space and time. Days that get
//! rows, or lose some, are made anew from what the store has of them.

mod layout;
mod plan;

use super::linking::{DayClock, HOURS, column, link, times};
use super::parts::{Parts, Room};
use super::safeguards::{ByDay, refuse_incomplete};
use super::watch::{Stage, Watch};
use super::{pool, too_large};
use crate::config::Config;
use crate::error::{Error, Problem, Result};
use crate::io::blocks::{self, Blocks};
use crate::io::decode::Decoder;
use crate::io::files::{self, Input};
use crate::io::guide::TraceWriter;
use crate::io::inputs::{self, OpenFeeds, Task};
use crate::io::purge;
use crate::io::spill::Spill;
use crate::io::store::{Catalogue, Copied, Guide, Ingested, Piece, Segment, Writer, person_name};
use crate::io::stored::{self, Faulty, Stamp};
use crate::person::{PersonType, Persons, part_of};
use crate::place::cells::Cells;
use crate::rule::Source;
use crate::time::Tz;
use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{UInt32Type, UInt64Type};
use hashbrown::HashMap;
use layout::{Census, Layout, order_in_space};
use plan::{New, Plan, plan};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a row while it is worked on, about.
const ROW_BYTES: u64 = 160;
/// Rows of a file of pings, at most, about.
const FILE_ROWS: u64 = 1 << 21;
/// Rows that are dealt to their persons' parts at once, at least.
const DEALT_ROWS: usize = 1 << 19;
/// Parts of the persons, at least.
const PARTS_MIN: usize = 16;
const PARTS_MAX: usize = 4_096;

/// What an ingest did.
#[derive(Debug, Clone, Default)]
pub struct Ingestion {
    /// Files that were read.
    pub files: u64,
    /// Files that the store had already.
    pub known: u64,
    /// Files that took the place of others.
    pub replaced: u64,
    /// Rows that were read.
    pub rows: u64,
    /// Rows among them that could not be used.
    pub faulty: u64,
    /// Rows among them of days that the store keeps no longer.
    pub past: u64,
    /// Days of a source that were made, or made anew.
    pub days: BTreeSet<(Source, String)>,
    /// Rows and bytes of the store now.
    pub store_rows: u64,
    /// See [`Ingestion::store_rows`].
    pub store_bytes: u64,
    /// The version of the store now.
    pub version: u64,
}

/// Reads what the store does not have yet, and puts it in force.
pub fn ingest(config: &Config, writer: &mut Writer, replace: bool, watch: &Watch) -> Result<Ingestion> {
    pool(config.threads)?.install(|| {
        let plan = plan(config, &writer.catalogue, replace)?;
        Ingest::new(config, writer, plan, watch)?.run()
    })
}

struct Ingest<'a> {
    config: &'a Config,
    writer: &'a mut Writer,
    plan: Plan,
    watch: &'a Watch,
    zone: Tz,
    open: OpenFeeds,
    decoder: Decoder,
    parts: usize,
    room: Room,
    first_input: u32,
}

/// What came of the new files.
#[derive(Default)]
struct Found {
    /// By input: rows by day and hour.
    days: BTreeMap<u32, ByDay>,
    faulty: Vec<(u32, Faulty)>,
    rows: u64,
    past: u64,
}

impl<'a> Ingest<'a> {
    fn new(config: &'a Config, writer: &'a mut Writer, plan: Plan, watch: &'a Watch) -> Result<Self> {
        let mut reading = config.clone();
        reading.store = None;
        for (feed, new) in reading.feeds.iter_mut().zip(&plan.new) {
            feed.stored = Some(new.iter().map(|new| (new.input.path.clone(), new.input.bytes)).collect());
        }
        let open = inputs::open_feeds(&reading)?;
        let has_files = open.feeds.iter().any(|feed| !feed.files.is_empty());
        let person = match (writer.catalogue.person(), open.person) {
            (Some(known), new) if has_files && known.kind() != new.kind() => {
                return Err(Error::Input(Problem::new(
                    "column person_id of the new files",
                    format!("{}, as in the store", known.kind()),
                    new.kind().to_string(),
                    "write person_id in one type everywhere, or make another store",
                )));
            }
            (Some(PersonType::UInt64), PersonType::Int64)
                if has_files
                    && stored::has_large_persons(&writer.catalogue.segments, &|f| writer.input(f))? =>
            {
                return Err(Error::Input(Problem::new(
                    "column person_id of the new files",
                    "unsigned integers, as in the store, which has some of 2^63 and more",
                    "signed integers, which cannot hold these",
                    "write person_id as uint64, or make another store",
                )));
            }
            // Signed once, signed for ever: other numbers would not fit.
            (Some(PersonType::Int64), PersonType::UInt64) => PersonType::Int64,
            (Some(known), _) if !has_files => known,
            (_, new) => new,
        };
        let decoder = inputs::decoder_of_all_times(config, &open, person);
        let rows: u64 = open.feeds.iter().flat_map(|f| &f.files).map(|file| file.rows()).sum();
        let a_part = config.memory_bytes / (8 * config.threads as u64);
        let mut parts = PARTS_MIN;
        while rows * ROW_BYTES / parts as u64 > a_part && parts < PARTS_MAX {
            parts *= 2;
        }
        let spill = Arc::new(Spill::new(&writer.spill()));
        let first_input = writer.catalogue.next_input;
        Ok(Ingest {
            config,
            plan,
            watch,
            zone: config.zone(),
            open,
            decoder,
            parts,
            room: Room::new(config.memory_bytes / 5 * 2, spill),
            first_input,
            writer,
        })
    }

    fn run(mut self) -> Result<Ingestion> {
        let mut next = self.plan.next.clone();
        next.person = Some(person_name(self.decoder.person).to_string());
        self.check_feeds(&mut next)?;
        self.copy_places(&mut next)?;
        let sources: BTreeSet<Source> = self.open.feeds.iter().map(|feed| feed.config.stay.source).collect();
        let mut found = Found::default();
        for source in sources {
            self.add_source(source, &mut next, &mut found)?;
        }
        self.note_inputs(&mut next, &mut found)?;
        self.refuse_incomplete(&next)?;
        let mut ingestion = std::mem::take(&mut self.plan.ingestion);
        ingestion.rows = found.rows;
        ingestion.faulty = found.faulty.len() as u64;
        ingestion.past = found.past;
        self.watch.advance(0)?;
        if next != self.writer.catalogue {
            self.writer.commit(next)?;
        }
        let catalogue = &self.writer.catalogue;
        ingestion.store_rows = catalogue.segments.iter().map(|segment| segment.rows).sum();
        let guides = catalogue.guides.iter().flat_map(Guide::pieces).map(|piece| piece.bytes);
        ingestion.store_bytes = catalogue.segments.iter().map(|segment| segment.bytes).chain(guides).sum();
        ingestion.version = catalogue.version;
        Ok(ingestion)
    }

    /// A night that is not all there does not come into force.
    fn refuse_incomplete(&self, next: &Catalogue) -> Result<()> {
        for (number, feed) in (0u16..).zip(&self.config.feeds) {
            let (mut days, mut new) = (ByDay::new(), BTreeSet::new());
            for input in next.inputs.iter().filter(|input| input.feed == number) {
                for (day, hours) in &input.days {
                    add_hours(days.entry(day.clone()).or_default(), hours);
                    if input.number >= self.first_input {
                        new.insert(day.as_str());
                    }
                }
            }
            refuse_incomplete(self.config, feed, &days, &|day| new.contains(day))?;
        }
        Ok(())
    }

    /// A store keeps the feeds that it began with, in their order.
    fn check_feeds(&self, next: &mut Catalogue) -> Result<()> {
        let sources = |text: &str| crate::config::sources_of(text);
        let (now, known) = (sources(&self.config.feeds_text), sources(&next.feeds));
        if !known.is_empty() && now != known {
            return Err(Error::Job(Problem::new(
                "[[feeds]]",
                format!("the feeds of the store, in their order: {}", known.join(", ")),
                now.join(", "),
                "bring them in that order, or make another store",
            )));
        }
        let reading = |text: &str| crate::config::reading_of(text);
        if let Some((now, known)) = reading(&self.config.feeds_text)
            .into_iter()
            .zip(reading(&next.feeds))
            .find(|(now, known)| now != known)
        {
            return Err(Error::Job(Problem::new(
                "[[feeds]]",
                format!("datum, columns and time_unit as when the store was made: {known}"),
                now,
                "make another store: what is in this one was read in that way",
            )));
        }
        next.feeds = self.config.feeds_text.clone();
        Ok(())
    }

    /// Runs on the store read the towers and venues as they were when it was last added to.
    fn copy_places(&self, next: &mut Catalogue) -> Result<()> {
        let mut copies: Vec<Copied> = Vec::new();
        for (label, input) in &self.open.places.inputs {
            let feed =
                self.config.feeds.iter().position(|f| f.places.as_ref().is_some_and(|p| p.label == *label));
            let Some(feed) = feed.and_then(|feed| u16::try_from(feed).ok()) else { continue };
            let digest = files::digest(input, true)?;
            let ending = input.path.extension().map_or("csv".into(), |e| e.to_string_lossy().to_lowercase());
            // The name says the content, so that what is there already is the same.
            let file = Writer::hidden_name(&format!("places/feed{feed}-{}.{ending}", &digest[..16]));
            if !next.places.iter().any(|known| known.file == file) {
                self.writer.copy(input, &file)?;
            }
            copies.push(Copied { feed, file });
        }
        next.places = copies;
        Ok(())
    }

    /// The number in the store of a new file.
    fn number_of(&self, feed: usize, file: usize) -> u32 {
        let before: usize = self.plan.new[..feed].iter().map(Vec::len).sum();
        self.first_input + (before + file) as u32
    }

    fn add_source(&mut self, source: Source, next: &mut Catalogue, found: &mut Found) -> Result<()> {
        let by_person = Parts::new(&self.room, self.parts);
        let census = Mutex::new(Census::new());
        let found_here = Mutex::new(Found::default());
        let tasks: Vec<Task> = self
            .open
            .tasks()
            .into_iter()
            .filter(|t| self.open.feeds[t.feed].config.stay.source == source)
            .collect();
        self.watch.start(
            Stage::Scan,
            tasks.iter().map(|t| self.open.feeds[t.feed].files[t.file].groups[t.group].rows).sum(),
        );
        tasks.par_iter().try_for_each_init(Cells::default, |cells, task| {
            self.read_new(cells, task, &by_person, &census, &found_here)
        })?;
        let mut here = found_here.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut touched: BTreeSet<String> =
            here.days.values().flat_map(|days| days.keys().cloned()).collect();
        let gone = next.inputs.iter().filter(|input| self.plan.gone.contains(&input.number));
        let gone = gone.filter(|input| self.open.feeds[usize::from(input.feed)].config.stay.source == source);
        touched.extend(gone.flat_map(|input| input.days.keys().cloned()));
        let old: Vec<Segment> = next
            .segments
            .iter()
            .filter(|segment| segment.source == source.name() && touched.contains(&segment.day))
            .cloned()
            .collect();
        old.par_iter().try_for_each(|segment| self.read_old(segment, source, &by_person, &census))?;
        let census = census.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (made, mut guides) = self.make_files(source, &by_person, census)?;
        let places = self.copies_of(source, next);
        for guide in &mut guides {
            let earlier = next.guides.iter().find(|g| (&g.source, &g.day) == (&guide.source, &guide.day));
            // Rows that were there before stand where the tables of their time said.
            let is_alike = earlier.is_none_or(|earlier| earlier.places.as_ref() == Some(&places));
            guide.places = is_alike.then(|| places.clone());
        }
        next.segments.retain(|segment| !old.contains(segment));
        next.segments.extend(made);
        next.segments.sort_by(|a, b| a.file.cmp(&b.file));
        next.guides.retain(|guide| guide.source != source.name() || !touched.contains(&guide.day));
        next.guides.extend(guides);
        next.guides.sort_by(|a, b| (&a.source, &a.day).cmp(&(&b.source, &b.day)));
        self.plan.ingestion.days.extend(touched.into_iter().map(|day| (source, day)));
        found.days.append(&mut here.days);
        found.faulty.append(&mut here.faulty);
        found.rows += here.rows;
        found.past += here.past;
        Ok(())
    }

    fn read_new(
        &self,
        cells: &mut Cells,
        task: &Task,
        by_person: &Parts<'_>,
        census: &Mutex<Census>,
        found: &Mutex<Found>,
    ) -> Result<()> {
        let feed = &self.open.feeds[task.feed];
        let file = &feed.files[task.file];
        let input = self.number_of(task.feed, task.file);
        let schema = stored::schema(feed.config.stay.source, &self.decoder.person.inner());
        let (mut faulty, mut rows) = (Vec::new(), 0);
        let (mut batches, mut waiting) = (Vec::new(), 0);
        let (mut days, mut past) = (ByDay::new(), 0);
        let kept_from = purge::kept_from(&self.writer.catalogue);
        let mut pass_on = |batches: &mut Vec<RecordBatch>| -> Result<()> {
            let mut joined = concat_batches(&schema, &*batches).map_err(too_large)?;
            batches.clear();
            if let Some(from) = kept_from {
                let before = joined.num_rows();
                let kept = times(&joined).values().iter().map(|time| Some(*time >= from)).collect();
                joined = filter_record_batch(&joined, &kept).map_err(too_large)?;
                past += (before - joined.num_rows()) as u64;
            }
            self.count(&joined, census)
                .into_iter()
                .for_each(|(day, count)| add_hours(days.entry(day).or_default(), &count));
            deal(by_person, &joined)
        };
        stored::read_raw(&self.decoder, feed, file, task.group, input, cells, &mut |batch, wrong| {
            let read = batch.num_rows() as u64 + wrong.len() as u64;
            rows += read;
            self.watch.advance(read)?;
            let is_kept = |wrong: &Faulty| wrong.time.zip(kept_from).is_none_or(|(time, from)| time >= from);
            faulty.extend(wrong.into_iter().filter(is_kept).map(|wrong| (input, wrong)));
            waiting += batch.num_rows();
            batches.push(batch);
            if waiting >= DEALT_ROWS {
                waiting = 0;
                pass_on(&mut batches)?;
            }
            Ok(())
        })?;
        pass_on(&mut batches)?;
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        found.rows += rows;
        found.past += past;
        found.faulty.append(&mut faulty);
        let of_input = found.days.entry(input).or_default();
        days.into_iter().for_each(|(day, count)| add_hours(of_input.entry(day).or_default(), &count));
        Ok(())
    }

    /// Brings the rows of a day back, but for those of files that are gone.
    fn read_old(
        &self,
        segment: &Segment,
        source: Source,
        by_person: &Parts<'_>,
        census: &Mutex<Census>,
    ) -> Result<()> {
        let input = self.writer.input(&segment.file)?;
        stored::read_back(&input, source, segment.feed, self.decoder.person, &mut |batch| {
            self.watch.advance(0)?;
            let inputs = column(&batch, "input").as_primitive::<UInt32Type>();
            let kept = (0..batch.num_rows() as u32)
                .filter(|row| !self.plan.gone.contains(&inputs.value(*row as usize)));
            let kept = UInt32Array::from_iter_values(kept);
            let batch = take_record_batch(&batch, &kept).map_err(too_large)?;
            self.count(&batch, census);
            deal(by_person, &batch)
        })
    }

    /// Counts rows by day and hour, and by cell of each day.
    fn count(&self, rows: &RecordBatch, census: &Mutex<Census>) -> ByDay {
        let mut clock = DayClock::new(self.zone);
        let mut by_day: BTreeMap<String, (Vec<u64>, HashMap<u64, u64>)> = BTreeMap::new();
        let cells = column(rows, "cell").as_primitive::<UInt64Type>();
        for (time, cell) in times(rows).values().iter().zip(cells.values()) {
            let day = clock.day(*time);
            if !by_day.contains_key(day) {
                by_day.insert(day.to_string(), (vec![0; HOURS], HashMap::new()));
            }
            if let Some((hours, counts)) = by_day.get_mut(day) {
                hours[clock.hour(*time)] += 1;
                *counts.entry(*cell).or_default() += 1;
            }
        }
        let days = by_day.iter().map(|(day, (hours, _))| (day.clone(), hours.clone())).collect();
        let mut census = census.lock().unwrap_or_else(PoisonError::into_inner);
        for (day, (_, counts)) in by_day {
            let all = census.entry(day).or_default();
            counts.into_iter().for_each(|(cell, count)| *all.entry(cell).or_default() += count);
        }
        days
    }

    /// The copies of the tables by which rows of a source have their places.
    fn copies_of(&self, source: Source, catalogue: &Catalogue) -> Vec<String> {
        let of_source = |copy: &&Copied| {
            let feed = self.open.feeds.get(usize::from(copy.feed));
            feed.is_some_and(|feed| feed.config.stay.source == source)
        };
        catalogue.places.iter().filter(of_source).map(|copy| copy.file.clone()).collect()
    }

    fn make_files(
        &self,
        source: Source,
        by_person: &Parts<'_>,
        census: Census,
    ) -> Result<(Vec<Segment>, Vec<Guide>)> {
        let share = self.config.memory_bytes / (6 * self.config.threads as u64 * ROW_BYTES);
        let layout = Layout::new(census, FILE_ROWS.min(share).max(1));
        let by_space = Parts::new(&self.room, layout.parts.len());
        let tracers = Mutex::new(BTreeMap::<String, TraceWriter>::new());
        self.watch.start(Stage::Sieve, self.parts as u64);
        (0..self.parts).into_par_iter().try_for_each(|part| {
            let batches = by_person.take(part)?;
            self.watch.advance(1)?;
            if batches.is_empty() {
                return Ok(());
            }
            let schema = stored::schema(source, &self.decoder.person.inner());
            let joined = concat_batches(&schema, &batches).map_err(too_large)?;
            drop(batches);
            let (linked, traces) = link(&joined, self.zone, source != Source::Trip)?;
            drop(joined);
            for (day, traces) in traces {
                let mut tracers = tracers.lock().unwrap_or_else(PoisonError::into_inner);
                if !tracers.contains_key(&day) {
                    tracers.insert(day.clone(), self.tracer(source, &day)?);
                }
                if let Some(tracer) = tracers.get_mut(&day) {
                    let added = tracer.add(part, traces);
                    added.map_err(|e| self.not_written(&self.guide_name(source, &day, "visits"), e))?;
                }
            }
            let mut clock = DayClock::new(self.zone);
            let cells = column(&linked, "cell").as_primitive::<UInt64Type>();
            let part = |row: usize| layout.part(clock.day(times(&linked).value(row)), cells.value(row));
            deal_to(&by_space, &linked, part)
        })?;
        self.watch.start(Stage::Write, layout.parts.len() as u64);
        let made: Vec<Vec<(Segment, Blocks)>> = (0..layout.parts.len())
            .into_par_iter()
            .map(|part| {
                self.watch.advance(1)?;
                self.make_file(source, &layout.parts[part].0, part, by_space.take(part)?)
            })
            .collect::<Result<_>>()?;
        let mut made: Vec<(Segment, Blocks)> = made.into_iter().flatten().collect();
        made.sort_by(|a, b| a.0.file.cmp(&b.0.file));
        let tracers = tracers.into_inner().unwrap_or_else(PoisonError::into_inner);
        let guides = tracers.into_iter().map(|(day, tracer)| self.guide(source, day, tracer, &made));
        let guides = guides.collect::<Result<_>>()?;
        Ok((made.into_iter().map(|(segment, _)| segment).collect(), guides))
    }

    fn guide_name(&self, source: Source, day: &str, table: &str) -> String {
        let version = self.writer.next_version();
        Writer::hidden_name(&format!("guide/source={source}/day={day}/{version}-{table}.parquet"))
    }

    fn not_written(&self, name: &str, error: arrow::error::ArrowError) -> Error {
        self.writer.failed(name, &std::io::Error::other(error.to_string()))
    }

    fn tracer(&self, source: Source, day: &str) -> Result<TraceWriter> {
        let [visits, firsts] = ["visits", "firsts"].map(|table| self.guide_name(source, day, table));
        let paths = (self.writer.incoming(&visits), self.writer.incoming(&firsts));
        TraceWriter::create(&paths.0, &paths.1, self.decoder.person, self.parts)
            .map_err(|e| self.not_written(&visits, e))
    }

    /// The guide to a day whose files are made.
    fn guide(
        &self,
        source: Source,
        day: String,
        tracer: TraceWriter,
        made: &[(Segment, Blocks)],
    ) -> Result<Guide> {
        let names = ["blocks", "visits", "firsts"].map(|table| self.guide_name(source, &day, table));
        let seen = tracer.finish().map_err(|e| self.not_written(&names[1], e))?;
        let of_day = made.iter().filter(|(segment, _)| segment.day == day);
        let mut all = Blocks::default();
        of_day.for_each(|(_, own)| all.append(own.clone()));
        blocks::write(&self.writer.incoming(&names[0]), &all, &seen)
            .map_err(|e| self.not_written(&names[0], e))?;
        let [blocks, visits, firsts] = names.map(|name| self.piece(name));
        let (source, places) = (source.name().to_string(), None);
        Ok(Guide { source, day, blocks: blocks?, visits: visits?, firsts: firsts?, places })
    }

    /// A new file as the catalogue has it.
    fn piece(&self, file: String) -> Result<Piece> {
        let path = self.writer.incoming(&file);
        let input = files::input(&self.config.base, path, None)?;
        Ok(Piece { bytes: input.bytes, sha256: files::digest(&input, true)?, file })
    }

    /// Files of one part of a day, one for each feed.
    fn make_file(
        &self,
        source: Source,
        day: &str,
        part: usize,
        batches: Vec<RecordBatch>,
    ) -> Result<Vec<(Segment, Blocks)>> {
        let schema = stored::schema(source, &self.decoder.person.inner());
        let joined = concat_batches(&schema, &batches).map_err(too_large)?;
        drop(batches);
        let mut segments = Vec::new();
        for (number, feed) in (0u16..).zip(&self.open.feeds) {
            let order = order_in_space(&joined, number);
            if feed.config.stay.source != source || order.is_empty() {
                continue;
            }
            let rows = take_record_batch(&joined, &UInt32Array::from(order)).map_err(too_large)?;
            let version = self.writer.next_version();
            let file = format!("source={source}/day={day}/feed{number}-{version}-{part:05}.parquet");
            let stamp = Stamp {
                source,
                feed: number,
                day: day.to_string(),
                zone: self.zone.name().to_string(),
                person: self.decoder.person,
            };
            let path = self.writer.incoming(&file);
            let bytes = stored::write(&path, &rows, &stamp).map_err(|e| self.not_written(&file, e))?;
            let input = Input { name: file.clone(), path, partitions: Vec::new(), bytes };
            let mut blocks = Blocks::default();
            blocks.add(&file, &rows);
            let segment = Segment {
                source: source.name().to_string(),
                feed: number,
                day: day.to_string(),
                rows: rows.num_rows() as u64,
                bytes,
                sha256: files::digest(&input, true)?,
                file,
            };
            segments.push((segment, blocks));
        }
        Ok(segments)
    }

    fn note_inputs(&self, next: &mut Catalogue, found: &mut Found) -> Result<()> {
        next.inputs.retain(|input| !self.plan.gone.contains(&input.number));
        next.next_input = self.first_input + self.plan.new.iter().map(Vec::len).sum::<usize>() as u32;
        found.faulty.sort_by_key(|(input, wrong)| (*input, wrong.fault.row));
        for (feed, new) in self.plan.new.iter().enumerate() {
            for (file, New { input, digest, also }) in new.iter().enumerate() {
                let number = self.number_of(feed, file);
                next.inputs.push(Ingested {
                    number,
                    feed: feed as u16,
                    name: input.name.clone(),
                    also: also.clone(),
                    bytes: input.bytes,
                    sha256: digest.clone(),
                    days: found.days.remove(&number).unwrap_or_default(),
                    faulty: found.faulty.iter().filter(|(of, _)| *of == number).count() as u64,
                    version: self.writer.catalogue.version + 1,
                });
            }
        }
        if !found.faulty.is_empty() {
            let file = Writer::hidden_name(&format!("faulty/{}.parquet", self.writer.next_version()));
            stored::write_faulty(&self.writer.incoming(&file), &found.faulty)
                .map_err(|e| self.not_written(&file, e))?;
            next.faulty.push(file);
        }
        Ok(())
    }
}

fn add_hours(sum: &mut Vec<u64>, more: &[u64]) {
    sum.resize(sum.len().max(more.len()), 0);
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

/// Deals rows to the parts of their persons.
fn deal(parts: &Parts<'_>, rows: &RecordBatch) -> Result<()> {
    let mut spreads = Vec::new();
    Persons::of(rows.column(0)).spreads(&mut spreads);
    deal_to(parts, rows, |row| part_of(spreads[row], parts.len()))
}

fn deal_to(parts: &Parts<'_>, rows: &RecordBatch, mut part: impl FnMut(usize) -> usize) -> Result<()> {
    let mut by_part: Vec<Vec<u32>> = vec![Vec::new(); parts.len()];
    (0..rows.num_rows()).for_each(|row| by_part[part(row)].push(row as u32));
    for (part, own) in by_part.into_iter().enumerate().filter(|(_, own)| !own.is_empty()) {
        parts.push(part, take_record_batch(rows, &UInt32Array::from(own)).map_err(too_large)?)?;
    }
    Ok(())
}
