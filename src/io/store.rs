//! The folder of a prepared store: Parquet by source and day, and a catalogue that says which files are in it. A writer makes
//! new files beside the old ones; one rename of the catalogue puts them in force, all at once, and readers go on with what they
//! have opened.

mod lease;
mod unfinished;
mod writer;

pub use unfinished::abandon;
pub use writer::{ReadersOut, Writer, change};

use super::files::{self, Input, unreadable};
use super::storage::{self, is_url};
use super::stored;
use crate::answer::Rejection;
use crate::config::{Config, sources_of};
use crate::datum::Datum;
use crate::error::{Error, Problem, Result};
use crate::person::PersonType;
use crate::rule::Source;
use crate::time::{Edge, Millis, Tz, date_edge, day_at};
use chrono::NaiveDate;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The version of the catalogue and of the files' layout.
pub const FORMAT: u32 = 3;
/// The folder of all that is no pings; other tools leave names with an underscore alone.
const HIDDEN: &str = "_copresence";
const CATALOGUE: &str = "catalogue.json";
const INCOMING: &str = "incoming";
const CACHE: &str = "cache";

/// What is in a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Catalogue {
    /// [`FORMAT`].
    pub format: u32,
    /// Counts the changes.
    pub version: u64,
    /// The zone in which days begin and end.
    pub time_zone: String,
    /// The type of person_id: text, binary, int64 or uint64.
    pub person: Option<String>,
    /// The feeds as the last ingest's job has them, in TOML.
    pub feeds: String,
    /// Copies of the tables of towers and venues, by feed.
    pub places: Vec<Copied>,
    /// The number of the next file that is ingested.
    pub next_input: u32,
    /// The files that were ingested.
    pub inputs: Vec<Ingested>,
    /// The files of pings.
    pub segments: Vec<Segment>,
    /// The guides to days of sources that have positions.
    pub guides: Vec<Guide>,
    /// The files of rows that could not be used.
    pub faulty: Vec<String>,
    /// Objects that were in force before: who reads an earlier version may still need them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<Retired>,
    /// The first day that is kept, if those before were dropped; rows of these are not taken in again.
    #[serde(default)]
    pub kept_from: Option<String>,
}

/// An object that is in force no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// Its path in the store.
    pub file: String,
    /// Since when, ms UTC by the object store's clock; unknown until the next change.
    pub since: Option<Millis>,
    /// Rows of pings, if it has any.
    #[serde(default)]
    pub rows: Option<u64>,
    /// The digest of all bytes, where it is known.
    #[serde(default)]
    pub sha256: Option<String>,
}

/// A small file of the store's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Its path in the store.
    pub file: String,
    /// Bytes.
    pub bytes: u64,
    /// The digest of all bytes.
    pub sha256: String,
}

/// What finds rows of a source and day: see [`super::guide`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guide {
    /// gps, tower or venue.
    pub source: String,
    /// The day, in the store's zone.
    pub day: String,
    /// What lies in each block of the files.
    pub blocks: Piece,
    /// In which cells each person was.
    pub visits: Piece,
    /// Where each person was first.
    pub firsts: Piece,
    /// The copies of tables by which all rows have their places; none, if some had others.
    pub places: Option<Vec<String>>,
}

impl Guide {
    /// Its files.
    pub fn pieces(&self) -> [&Piece; 3] {
        [&self.blocks, &self.visits, &self.firsts]
    }
}

/// A copy of a small table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// The feed.
    pub feed: u16,
    /// The copy, in the store.
    pub file: String,
}

/// A file that was ingested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ingested {
    /// Its number in the store, never given again.
    pub number: u32,
    /// Its feed.
    pub feed: u16,
    /// Its name, as seen from its job file.
    pub name: String,
    /// Other names under which the same bytes came.
    #[serde(default)]
    pub also: Vec<String>,
    /// Its bytes.
    pub bytes: u64,
    /// The digest of all of them.
    pub sha256: String,
    /// Readable rows by day, and within it by hour after midnight.
    pub days: BTreeMap<String, Vec<u64>>,
    /// Rows that could not be used.
    pub faulty: u64,
    /// The version of the store that it came with.
    pub version: u64,
}

/// A file of pings of one feed and day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// gps, tower, trip or venue.
    pub source: String,
    /// The feed.
    pub feed: u16,
    /// The day, in the store's zone.
    pub day: String,
    /// Its path in the store.
    pub file: String,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// The digest of all bytes.
    pub sha256: String,
}

impl Catalogue {
    /// Rows and digest of a file that is in force, or was.
    pub fn facts_of(&self, file: &str) -> (Option<u64>, Option<String>) {
        if let Some(segment) = self.segments.iter().find(|segment| segment.file == file) {
            return (Some(segment.rows), Some(segment.sha256.clone()));
        }
        if let Some(retired) = self.retired.iter().find(|retired| retired.file == file) {
            return (retired.rows, retired.sha256.clone());
        }
        let piece = self.guides.iter().flat_map(Guide::pieces).find(|piece| piece.file == file);
        (None, piece.map(|piece| piece.sha256.clone()))
    }
}

impl Ingested {
    /// Whether it came under a name.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.also.iter().any(|also| also == name)
    }

    /// Whether it has any rows, usable or not.
    pub fn has_rows(&self) -> bool {
        self.faulty > 0 || !self.days.is_empty()
    }

    /// Takes a name away; `false` if it was the only one.
    fn drop_name(&mut self, name: &str) -> bool {
        if self.name == name {
            let Some(other) = self.also.pop() else { return false };
            self.name = other;
        }
        self.also.retain(|also| also != name);
        true
    }
}

impl Catalogue {
    /// Lets the file of a feed that has a name have it no longer. Gives its number if it has none then: its rows are to go.
    pub fn drop_name(&mut self, feed: u16, name: &str) -> Option<u32> {
        let of = self.inputs.iter_mut().find(|input| input.feed == feed && input.is_called(name))?;
        (!of.drop_name(name)).then_some(of.number)
    }

    /// Of an empty store.
    pub fn new(time_zone: &str) -> Self {
        Catalogue {
            format: FORMAT,
            version: 0,
            time_zone: time_zone.to_string(),
            person: None,
            feeds: String::new(),
            places: Vec::new(),
            next_input: 0,
            inputs: Vec::new(),
            segments: Vec::new(),
            guides: Vec::new(),
            faulty: Vec::new(),
            retired: Vec::new(),
            kept_from: None,
        }
    }

    /// The zone in which days begin and end.
    pub fn zone(&self) -> Tz {
        self.time_zone.parse().unwrap_or(Tz::UTC)
    }

    /// The files of the days that a job reads.
    fn days_read<'a>(&'a self, config: &Config) -> impl Iterator<Item = &'a Segment> {
        let within = lies_within(config);
        let lies_within = move |segment: &Segment| within(&segment.day);
        // Where the lookback holds nothing at all, a run has to see what there is to say so.
        let none_within = !self.segments.iter().any(&lies_within);
        self.segments.iter().filter(move |segment| none_within || lies_within(segment))
    }

    /// The type of person_id, as far as it is known.
    pub fn person(&self) -> Option<PersonType> {
        match self.person.as_deref()? {
            "text" => Some(PersonType::Text),
            "binary" => Some(PersonType::Binary),
            "int64" => Some(PersonType::Int64),
            _ => Some(PersonType::UInt64),
        }
    }
}

/// Whether a day may hold something of a job's lookback.
fn lies_within(config: &Config) -> impl Fn(&str) -> bool + use<> {
    let day = |at: Millis| day_at(at, config.zone()).map(|(day, ..)| day.to_string());
    let (from, to) = (day(config.lookback_start()), day(config.as_of.saturating_sub(1)));
    move |day| {
        let is_day = day.as_bytes().first().is_some_and(u8::is_ascii_digit);
        !is_day
            || (from.as_ref().is_none_or(|from| from.as_str() <= day)
                && to.as_ref().is_none_or(|to| day <= to.as_str()))
    }
}

/// What a catalogue calls a type of person_id.
pub fn person_name(person: PersonType) -> &'static str {
    match person {
        PersonType::Text => "text",
        PersonType::Binary => "binary",
        PersonType::Int64 => "int64",
        PersonType::UInt64 => "uint64",
    }
}

/// A store that is read: its files stay as long as this lives.
#[derive(Debug)]
pub struct Store {
    /// Its folder.
    pub folder: PathBuf,
    /// What is in it.
    pub catalogue: Catalogue,
    reading: Option<File>,
}

impl Store {
    /// Opens a store to read one version of it.
    pub fn open(folder: &Path) -> Result<Self> {
        if is_url(folder) {
            // Objects stay for a while when they are in force no more; see [`Catalogue::retired`].
            let catalogue = read_catalogue(folder)?;
            return Ok(Store { folder: folder.to_path_buf(), catalogue, reading: None });
        }
        let path = folder.join(HIDDEN).join("readers.lock");
        let reading = match File::open(&path) {
            Ok(reading) => reading,
            // Where there is no catalogue either, there is no store to lock.
            Err(e) => {
                return Err(read_catalogue(folder)
                    .err()
                    .unwrap_or(unreadable(&path.display().to_string(), &e)));
            }
        };
        // Held up only while somebody removes what nobody reads.
        reading.lock_shared().map_err(|e| unreadable(&path.display().to_string(), &e))?;
        Ok(Store { folder: folder.to_path_buf(), catalogue: read_catalogue(folder)?, reading: Some(reading) })
    }

    /// Lets a job's feeds be read from here: positions are WGS84 and columns have their own names.
    pub fn attach(&self, config: &mut Config) -> Result<()> {
        let catalogue = &self.catalogue;
        let (here, there) = (sources_of(&config.feeds_text), sources_of(&catalogue.feeds));
        if here != there {
            return Err(Error::Job(Problem::new(
                "[[feeds]]",
                format!("the feeds of the store, in their order: {}", there.join(", ")),
                if here.is_empty() { "none".to_string() } else { here.join(", ") },
                "bring them in that order, or leave them out: the store knows how its own were ingested",
            )));
        }
        if catalogue.time_zone != config.zone().name() {
            return Err(Error::Job(Problem::new(
                "job.time_zone",
                format!("{}, in which the store's times were read", catalogue.time_zone),
                config.zone().name(),
                "take the same time_zone, or another store",
            )));
        }
        config.stored_person = catalogue.person();
        let read: Vec<&Segment> = catalogue.days_read(config).collect();
        for (number, feed) in (0u16..).zip(&mut config.feeds) {
            let own = read.iter().filter(|segment| segment.feed == number);
            let mut paths = Vec::new();
            for segment in own {
                let path = absolute(&self.input(&segment.file, segment.bytes)?.path)?;
                paths.push((path, segment.bytes));
            }
            feed.stored = Some(paths);
            feed.columns.clear();
            feed.time_unit = None;
            feed.datum = feed.datum.map(|_| Datum::Wgs84);
            let copy = catalogue.places.iter().find(|copy| copy.feed == number);
            if let (Some(places), Some(copy)) = (&mut feed.places, copy) {
                places.path = absolute(&self.folder.join(&copy.file))?.display().to_string();
            }
        }
        Ok(())
    }

    /// The days of a source that a job reads; nothing, if some of them have no guide.
    pub fn days(&self, config: &Config, source: Source) -> Result<Option<Vec<StoredDay>>> {
        let catalogue = &self.catalogue;
        let read: HashSet<&str> = catalogue.days_read(config).map(|segment| segment.day.as_str()).collect();
        let of_source = catalogue.segments.iter().filter(|segment| segment.source == source.name());
        let wanted: BTreeSet<&str> =
            of_source.clone().map(|segment| segment.day.as_str()).filter(|day| read.contains(day)).collect();
        let is_of_source =
            |feed: u16| config.feeds.get(usize::from(feed)).is_some_and(|feed| feed.stay.source == source);
        let places: Vec<String> = catalogue
            .places
            .iter()
            .filter(|copy| is_of_source(copy.feed))
            .map(|copy| copy.file.clone())
            .collect();
        let mut days = Vec::new();
        for day in wanted {
            let guide =
                catalogue.guides.iter().find(|guide| guide.source == source.name() && guide.day == day);
            let date = day.parse::<NaiveDate>().ok();
            let edge = |edge: Edge| date.and_then(|date| date_edge(date, edge, config.zone()));
            let (Some(guide), Some(times)) = (guide, edge(Edge::Start).zip(edge(Edge::End))) else {
                return Ok(None);
            };
            let piece = |piece: &Piece| self.input(&piece.file, piece.bytes);
            days.push(StoredDay {
                source,
                times,
                rows: of_source
                    .clone()
                    .filter(|segment| segment.day == day)
                    .map(|segment| segment.rows)
                    .sum(),
                blocks: piece(&guide.blocks)?,
                visits: piece(&guide.visits)?,
                firsts: piece(&guide.firsts)?,
                is_current: guide.places.as_ref() == Some(&places),
            });
        }
        Ok(Some(days))
    }

    /// When what it keeps begins, if days before were dropped.
    pub fn kept_from(&self) -> Option<Millis> {
        super::purge::kept_from(&self.catalogue)
    }

    /// The rows of the lookback that were unreadable when they came to the store, by feed, and the names of the files
    /// that it was made from, by number.
    #[expect(clippy::type_complexity, reason = "two things that are read once, together")]
    pub fn origins(&self, config: &Config) -> Result<(Vec<(usize, Rejection)>, HashMap<u32, String>)> {
        let catalogue = &self.catalogue;
        let names = catalogue.inputs.iter().map(|input| (input.number, input.name.clone())).collect();
        let lies_within = lies_within(config);
        let mut faults = Vec::new();
        for file in &catalogue.faulty {
            for wrong in stored::read_faulty(&input(&self.folder, file, None)?)? {
                let Some(of) = catalogue.inputs.iter().find(|input| input.number == wrong.0) else {
                    continue;
                };
                // What lies outside the lookback does not exist, so it cannot be wrong either. A row without a time is taken
                // for one of the days of its file.
                let (fault, time) = (wrong.1.fault, wrong.1.time);
                let is_outside = |time: Millis| time < config.lookback_start() || time >= config.as_of;
                let is_of_others = || !of.days.is_empty() && !of.days.keys().any(|day| lies_within(day));
                if time.map_or_else(is_of_others, is_outside) {
                    continue;
                }
                let feed = usize::from(of.feed);
                let Some(label) = config.feeds.get(feed).map(|feed| feed.label.clone()) else { continue };
                let file = of.name.clone();
                faults.push((
                    feed,
                    Rejection {
                        feed: label,
                        file,
                        row: fault.row,
                        reason: fault.reason,
                        column: fault.column,
                    },
                ));
            }
        }
        Ok((faults, names))
    }

    /// A file of the store, of so many bytes by its catalogue, as an input.
    pub fn input(&self, file: &str, bytes: u64) -> Result<Input> {
        input(&self.folder, file, Some(bytes))
    }
}

/// A file of a store as an input. An object is not looked at if its bytes are known.
fn input(folder: &Path, file: &str, known: Option<u64>) -> Result<Input> {
    let path = folder.join(file);
    let bytes = match known {
        Some(bytes) if is_url(folder) => bytes,
        _ => storage::size(&path).map_err(|e| missing(&path, &e))?,
    };
    Ok(Input { name: path.display().to_string(), path, partitions: Vec::new(), bytes })
}

fn missing(path: &Path, error: &std::io::Error) -> Error {
    Error::Input(Problem::new(
        path.display().to_string(),
        "a file that the store's catalogue names",
        error.to_string(),
        "bring the file back from a backup, or ingest its day into a new store",
    ))
}

fn read_catalogue(folder: &Path) -> Result<Catalogue> {
    let path = folder.join(HIDDEN).join(CATALOGUE);
    catalogue_of(&path, storage::read_text(&path))
}

fn catalogue_of(path: &Path, text: std::io::Result<String>) -> Result<Catalogue> {
    let place = path.display().to_string();
    let wrong = |expected: &str, found: String, cure: &str| {
        Err(Error::Input(Problem::new(place.clone(), expected, found, cure)))
    };
    let text = match text {
        Ok(text) => text,
        Err(e) if is_url(path) && e.kind() != std::io::ErrorKind::NotFound => {
            return wrong("a prepared store", e.to_string(), storage::cure(&place, &e));
        }
        Err(e) => {
            let cure = "check the path; copresence ingest JOB --store DIR makes a store";
            return wrong("a prepared store", e.to_string(), cure);
        }
    };
    let catalogue: Catalogue = match serde_json::from_str(&text) {
        Ok(catalogue) => catalogue,
        Err(e) => return wrong("a store's catalogue", e.to_string(), "bring it back from a backup"),
    };
    if catalogue.format != FORMAT {
        let found = format!("format {}", catalogue.format);
        return wrong(
            &format!("a store of format {FORMAT}"),
            found,
            "read it with the version of copresence that wrote it, or ingest the feeds anew",
        );
    }
    Ok(catalogue)
}

/// A day of a source, in a store that a job reads.
#[derive(Debug, Clone)]
pub struct StoredDay {
    /// gps, tower or venue.
    pub source: Source,
    /// When the day begins, and when the next does.
    pub times: (Millis, Millis),
    /// How many it has.
    pub rows: u64,
    /// See [`Guide::blocks`].
    pub blocks: Input,
    /// See [`Guide::visits`].
    pub visits: Input,
    /// See [`Guide::firsts`].
    pub firsts: Input,
    /// Whether all rows stand where the tables of towers that the job reads have them.
    pub is_current: bool,
}

/// Where the answer to a question is kept, as long as the store is as it was.
pub fn cached(folder: &Path, store: &Store, key: &str) -> PathBuf {
    let kept = folder.join(HIDDEN).join(CACHE);
    kept.join(format!("v{:06}-{}", store.catalogue.version, key.get(..32).unwrap_or(key)))
}

/// The path of a file of a job's store.
pub fn path_in(config: &Config, file: &str) -> Result<PathBuf> {
    absolute(&config.store.clone().unwrap_or_default().join(file))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    if is_url(path) {
        return Ok(path.to_path_buf());
    }
    std::path::absolute(path).map_err(|e| unreadable(&path.display().to_string(), &e))
}

/// Reads a whole store: every file is the one that the catalogue names, its rows are in order, and each next ping is the
/// first later one of its person on that day. Gives the rows.
pub fn check(store: &Store) -> Result<u64> {
    let catalogue = &store.catalogue;
    let person = catalogue.person().unwrap_or(PersonType::Text);
    let mut days: BTreeMap<(&str, &str), Vec<&Segment>> = BTreeMap::new();
    catalogue.segments.iter().for_each(|s| days.entry((&s.source, &s.day)).or_default().push(s));
    let mut rows = 0;
    for piece in catalogue.guides.iter().flat_map(Guide::pieces) {
        let input = store.input(&piece.file, piece.bytes)?;
        let digest = files::digest(&input, true)?;
        if digest != piece.sha256 {
            let cure = "bring the file back from a backup, or ingest its day into a new store";
            let expected = format!("the file of digest {}", piece.sha256);
            return Err(Error::Input(Problem::new(&*input.name, expected, digest, cure)));
        }
    }
    for ((source, _), segments) in days {
        let Some(source) = Source::ALL.into_iter().find(|known| known.name() == source) else { continue };
        let mut batches = Vec::new();
        for segment in segments {
            let input = store.input(&segment.file, segment.bytes)?;
            let wrong = |expected: &str, found: String| {
                let cure = "bring the file back from a backup, or ingest its day into a new store";
                Err(Error::Input(Problem::new(&*input.name, expected, found, cure)))
            };
            let digest = files::digest(&input, true)?;
            if digest != segment.sha256 {
                return wrong(&format!("the file of digest {}", segment.sha256), digest);
            }
            let mut count = 0;
            stored::read_back(&input, source, segment.feed, person, &mut |batch| {
                count += batch.num_rows() as u64;
                batches.push(batch);
                Ok(())
            })?;
            if count != segment.rows {
                return wrong(&format!("{} rows", segment.rows), format!("{count}"));
            }
            rows += count;
        }
        if let Some(why) = stored::fault_of_day(&batches) {
            return Err(Error::Input(Problem::new(
                format!("{}, a day of {source}", store.folder.display()),
                "rows in the order of cells and times, each with its person's next ping",
                why,
                "ingest the day into a new store",
            )));
        }
    }
    Ok(rows)
}

/// The same of readers.
impl Drop for Store {
    fn drop(&mut self) {
        drop(self.reading.as_ref().map(File::unlock));
    }
}

fn files_of(catalogue: &Catalogue) -> impl Iterator<Item = &str> {
    let segments = catalogue.segments.iter().map(|segment| segment.file.as_str());
    let places = catalogue.places.iter().map(|copy| copy.file.as_str());
    let guides = catalogue.guides.iter().flat_map(Guide::pieces).map(|piece| piece.file.as_str());
    segments.chain(places).chain(guides).chain(catalogue.faulty.iter().map(String::as_str))
}
