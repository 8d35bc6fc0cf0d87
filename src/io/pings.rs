//! Feeds of pings: Parquet files, opened and checked at once.

use super::columns::{Clock, Role, ambiguous, clock, missing, wrong_type};
use super::files::{self, Input, open_parquet, open_stored, resolve};
use super::guide::range_of;
use super::places::Places;
use crate::config::{Config, FeedConfig, columns_of};
use crate::error::{Error, Problem, Result};
use crate::person::{PersonId, PersonType};
use crate::rule::Source;
use crate::time::{Millis, TimeUnit, Tz};
use arrow::datatypes::DataType;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::{LogicalType, TimeUnit as ParquetUnit};
use parquet::file::metadata::{ColumnChunkMask, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::statistics::Statistics;
use std::ops::Range;
use std::sync::Arc;

/// A feed whose files are open and whose columns are known to be there.
#[derive(Debug)]
pub struct OpenFeed {
    /// Its number in the job.
    pub number: u16,
    /// Its part of the job file.
    pub config: FeedConfig,
    /// Its files.
    pub files: Vec<PingFile>,
    /// Where its towers or venues stand.
    pub places: Places,
}

/// One file of a feed.
#[derive(Debug)]
pub struct PingFile {
    /// The file.
    pub input: Input,
    /// Its row groups.
    pub groups: Vec<Group>,
    /// Type of its person_id; none where the column has no type, as in a file without rows.
    pub person: Option<PersonType>,
    pub(super) metadata: ArrowReaderMetadata,
    pub(super) columns: Vec<(&'static str, Origin)>,
    clocks: Vec<(&'static str, Clock)>,
}

/// One row group of a file.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its first row, counted in the file.
    pub first_row: u64,
    /// Its rows.
    pub rows: u64,
    /// Compressed bytes of the columns that are read.
    pub bytes: u64,
    /// From the earliest to the latest time, by the file's statistics.
    pub time_range: Option<(Millis, Millis)>,
    /// From the first to the last person, by the file's statistics; a bound may lie beyond the persons.
    pub person_range: Option<(PersonId, PersonId)>,
}

/// Where the pages of a row group's columns are.
#[derive(Debug)]
pub struct Pages {
    pub(super) group: usize,
    /// Of this row group alone, which is its first.
    pub(super) metadata: ArrowReaderMetadata,
}

impl Pages {
    /// The places of columns among the top-level ones.
    pub(super) fn roots(&self, columns: &[&str]) -> Vec<usize> {
        columns.iter().filter_map(|name| self.metadata.schema().index_of(name).ok()).collect()
    }

    /// How many bytes have to be read for these rows of some columns.
    pub fn bytes(&self, columns: &[&str], rows: &[Range<u64>]) -> u64 {
        let (roots, schema) = (self.roots(columns), self.metadata.parquet_schema());
        let index = self.metadata.metadata().page_index_for_row_group(0);
        let mut bytes = 0;
        for leaf in
            (0..schema.num_columns()).filter(|leaf| roots.contains(&schema.get_column_root_idx(*leaf)))
        {
            let Some(pages) = index.offset_index(leaf).map(|index| index.page_locations()) else { continue };
            for (number, page) in pages.iter().enumerate() {
                let start = page.first_row_index.max(0) as u64;
                let end = pages.get(number + 1).map_or(u64::MAX, |next| next.first_row_index.max(0) as u64);
                let next = rows.partition_point(|rows| rows.end <= start);
                if rows.get(next).is_some_and(|rows| rows.start < end) {
                    bytes += page.compressed_page_size.max(0) as u64;
                }
            }
            let column = self.metadata.metadata().row_group(0).column(leaf);
            let dictionary = column.dictionary_page_offset().map_or(0, |at| column.data_page_offset() - at);
            bytes += dictionary.max(0) as u64;
        }
        bytes
    }
}

/// Where the values of a column come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A column of the file, by its place among the top-level ones.
    Column(usize),
    /// A `key=value` folder.
    Folder(Option<String>),
}

/// The column that only decides between pings of one instant, or makes its row unreadable.
const ACCURACY: &str = "accuracy_m";

fn role(name: &str) -> Role {
    match name {
        "person_id" => Role::Person,
        "time" | "until" => Role::Time,
        "lat" | "lon" | "accuracy_m" => Role::Number,
        "seat_row" | "bay" | "input" | "row" => Role::Ordinal,
        _ => Role::Text,
    }
}

/// Opens the files of a feed, and checks that each has the columns and types that its source needs.
pub fn open(config: &Config, number: u16, places: Places) -> Result<OpenFeed> {
    let feed = config.feeds[usize::from(number)].clone();
    let inputs = match &feed.stored {
        Some(paths) => paths
            .iter()
            .map(|(path, bytes)| files::input(&config.base, path.clone(), Some(*bytes)))
            .collect::<Result<_>>()?,
        None => resolve(&config.base, &feed.path, &format!("{}.path", feed.label))?,
    };
    let open = |input: &Input| open_file(input.clone(), &feed, config.time_zone, config.store.is_some());
    let files = files::each_of(&inputs, config.threads, &open).into_iter().collect::<Result<Vec<_>>>()?;
    Ok(OpenFeed { number, config: feed, files, places })
}

fn open_file(input: Input, feed: &FeedConfig, zone: Option<Tz>, is_stored: bool) -> Result<PingFile> {
    let metadata = if is_stored { open_stored(&input)? } else { open_parquet(&input)? };
    let schema = metadata.schema().clone();
    let (mut columns, mut clocks, mut person) = (Vec::new(), Vec::new(), None);
    // Of scans it may have to be told where they came from.
    let tells: &[&str] = if is_stored && feed.stay.source == Source::Venue { &["input", "row"] } else { &[] };
    for name in columns_of(feed.stay.source).iter().chain(tells) {
        let optional = name.ends_with('?');
        let name = name.trim_end_matches('?');
        let theirs = feed.columns.get(name).map_or(name, String::as_str);
        if schema.fields().iter().filter(|f| f.name() == theirs).count() > 1 {
            return Err(ambiguous(&input.name, theirs));
        }
        let (origin, kind) = match schema.fields().iter().position(|f| f.name() == theirs) {
            Some(at) => (Origin::Column(at), schema.field(at).data_type().clone()),
            None => match input.partitions.iter().find(|(key, _)| key == theirs) {
                Some((_, value)) => (Origin::Folder(value.clone()), DataType::Utf8),
                None if optional && !feed.columns.contains_key(name) => continue,
                None => return Err(missing(&input.name, name, theirs, &schema, &feed.label)),
            },
        };
        if role(name) == Role::Person && matches!(origin, Origin::Folder(_)) {
            return Err(Error::Input(Problem::new(
                format!("{}, column {theirs}", feed.label),
                "a person_id in a column of the files",
                "folders named after persons",
                "write person_id as a column: names of files appear in messages and outputs, a person_id must not",
            )));
        }
        let accepted = role(name).accepts(&kind);
        accepted.map_err(|expected| wrong_type(&input.name, theirs, expected, &kind))?;
        match role(name) {
            Role::Person => person = PersonType::of(&kind),
            Role::Time => {
                clocks.push((name, clock(&input.name, theirs, &kind, feed.time_unit, zone, &feed.label)?));
            }
            Role::Number | Role::Text | Role::Ordinal => {}
        }
        columns.push((name, origin));
    }
    let mut file = PingFile { input, groups: Vec::new(), person, metadata, columns, clocks };
    file.groups = file.row_groups();
    Ok(file)
}

impl OpenFeed {
    /// The least and the largest accuracy that a ping can have, metres. Statistics only propose, so that they say
    /// nothing of it.
    pub(super) fn accuracies_m(&self) -> (f64, f64) {
        let given = self.files.iter().any(|file| file.type_of(ACCURACY).is_some());
        let own = self.config.stay.accuracy_m;
        if given { (0.0, f64::INFINITY) } else { (own, own) }
    }
}

impl OpenFeed {
    /// The least and the largest accuracy, metres, as statistics have it; `None` where they say nothing.
    pub fn accuracies_by_statistics(&self) -> Option<(f64, f64)> {
        let ranges = self.files.iter().flat_map(PingFile::accuracies_by_statistics);
        ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }
}

impl PingFile {
    fn accuracies_by_statistics(&self) -> Vec<(f64, f64)> {
        let Some((_, Origin::Column(at))) = self.columns.iter().find(|(name, _)| *name == ACCURACY) else {
            return Vec::new();
        };
        let schema = self.metadata.parquet_schema();
        let leaf = (0..schema.num_columns()).find(|leaf| schema.get_column_root_idx(*leaf) == *at);
        let groups = self.metadata.metadata().row_groups().iter();
        let range = |statistics: &Statistics| match statistics {
            Statistics::Float(s) => Some((f64::from(*s.min_opt()?), f64::from(*s.max_opt()?))),
            Statistics::Double(s) => Some((*s.min_opt()?, *s.max_opt()?)),
            Statistics::Int32(s) => Some((f64::from(*s.min_opt()?), f64::from(*s.max_opt()?))),
            _ => None,
        };
        groups.filter_map(|group| range(group.column(leaf?).statistics()?)).collect()
    }

    /// Where the pages of some columns of a row group are.
    pub fn pages(&self, group: usize, columns: &[&str]) -> Result<Pages> {
        let names = self.metadata.schema();
        let schema = self.metadata.parquet_schema();
        let roots: Vec<usize> = columns.iter().filter_map(|name| names.index_of(name).ok()).collect();
        let leaves: Vec<usize> = (0..schema.num_columns())
            .filter(|leaf| roots.contains(&schema.get_column_root_idx(*leaf)))
            .collect();
        self.page_indexes(group, leaves, None)
    }

    /// The rows of a row group, whole pages of them, that may be of some persons, as far as its page index promises: `any_in`
    /// says whether one of them lies between two.
    pub fn rows_that_may_be_of(
        &self,
        group: usize,
        any_in: &dyn Fn(&PersonId, &PersonId) -> bool,
    ) -> Result<Vec<Range<u64>>> {
        let all = 0..self.groups[group].rows;
        let schema = self.metadata.parquet_schema();
        let origin = self.columns.iter().find(|(name, _)| *name == "person_id").map(|(_, origin)| origin);
        let leaf = (0..schema.num_columns())
            .find(|leaf| origin == Some(&Origin::Column(schema.get_column_root_idx(*leaf))));
        let (Some(person), Some(leaf)) = (self.person, leaf) else { return Ok(vec![all]) };
        // What cannot be told is read; if it cannot be read either, that is told then.
        let Ok(pages) = self.page_indexes(group, vec![leaf], Some(leaf)) else { return Ok(vec![all]) };
        let index = pages.metadata.metadata().page_index_for_row_group(0);
        let Some((persons, places)) = index.column_index(leaf).zip(index.offset_index(leaf)) else {
            return Ok(vec![all]);
        };
        let starts: Vec<u64> =
            places.page_locations().iter().map(|page| page.first_row_index.max(0) as u64).collect();
        let agree = persons.num_pages() == starts.len() as u64;
        if !agree || !starts.is_sorted() || starts.last().is_some_and(|last| *last > all.end) {
            return Ok(vec![all]);
        }
        let mut rows: Vec<Range<u64>> = Vec::new();
        for (page, start) in starts.iter().enumerate() {
            let end = starts.get(page + 1).copied().unwrap_or(all.end);
            if range_of(persons, page, person).is_some_and(|(first, last)| !any_in(&first, &last)) {
                continue;
            }
            match rows.last_mut() {
                Some(run) if run.end == *start => run.end = end,
                _ => rows.push(*start..end),
            }
        }
        Ok(rows)
    }

    /// Where the pages of some columns of a row group are, and the least and the greatest values of one column's.
    fn page_indexes(&self, group: usize, leaves: Vec<usize>, ends_of: Option<usize>) -> Result<Pages> {
        let file = self.input.open()?;
        let read = files::guarded(|| {
            let known = self.metadata.metadata();
            let of_group = vec![known.row_group(group).clone()];
            let of_group = ParquetMetaData::new(known.file_metadata().clone(), of_group);
            let mut reader = ParquetMetaDataReader::new_with_metadata(of_group)
                .with_offset_index_policy(PageIndexPolicy::Optional)
                .with_offset_index_mask(ColumnChunkMask::row_groups_and_columns([0], leaves));
            if let Some(leaf) = ends_of {
                reader = reader
                    .with_column_index_policy(PageIndexPolicy::Optional)
                    .with_column_index_mask(ColumnChunkMask::row_groups_and_columns([0], [leaf]));
            }
            reader.read_page_indexes(&file)?;
            ArrowReaderMetadata::try_new(Arc::new(reader.finish()?), ArrowReaderOptions::new())
        });
        match read {
            Ok(Ok(metadata)) => Ok(Pages { group, metadata }),
            Ok(Err(e)) => Err(super::decode::broken(self, group, &e.to_string())),
            Err(_) => Err(super::decode::broken(self, group, "page indexes that cannot be read")),
        }
    }

    /// Rows.
    pub fn rows(&self) -> u64 {
        self.groups.iter().map(|g| g.rows).sum()
    }

    /// The names of its columns that are read, each with the name in the file and its type.
    pub fn mapping(&self) -> Vec<(&'static str, String, String)> {
        let schema = self.metadata.schema();
        let describe = |origin: &Origin| match origin {
            Origin::Column(at) => {
                (schema.field(*at).name().clone(), schema.field(*at).data_type().to_string())
            }
            Origin::Folder(value) => {
                (format!("folder ={}", value.as_deref().unwrap_or("")), DataType::Utf8.to_string())
            }
        };
        self.columns
            .iter()
            .map(|(name, origin)| {
                let (theirs, kind) = describe(origin);
                (*name, theirs, kind)
            })
            .collect()
    }

    /// The type of one of its columns, if the file has it.
    pub(super) fn type_of(&self, name: &str) -> Option<DataType> {
        let (_, origin) = self.columns.iter().find(|(column, _)| *column == name)?;
        match origin {
            Origin::Column(at) => Some(self.metadata.schema().field(*at).data_type().clone()),
            Origin::Folder(_) => Some(DataType::Utf8),
        }
    }

    pub(super) fn clock(&self, name: &str) -> Option<Clock> {
        self.clocks.iter().find(|(column, _)| *column == name).map(|(_, clock)| *clock)
    }

    /// The top-level columns that are read, with or without accuracies.
    pub(super) fn roots(&self, accuracies: bool) -> Vec<usize> {
        let wanted = self.columns.iter().filter(|(name, _)| accuracies || *name != ACCURACY);
        let roots = wanted.filter_map(|(_, origin)| match origin {
            Origin::Column(at) => Some(*at),
            Origin::Folder(_) => None,
        });
        roots.collect()
    }

    /// Whether statistics tell that no accuracy is negative or infinite, so that none makes its row unreadable.
    pub(super) fn accuracies_are_proper(&self) -> bool {
        let Some((_, origin)) = self.columns.iter().find(|(name, _)| *name == ACCURACY) else { return true };
        let Origin::Column(at) = origin else { return false };
        let schema = self.metadata.parquet_schema();
        let Some(leaf) = (0..schema.num_columns()).find(|leaf| schema.get_column_root_idx(*leaf) == *at)
        else {
            return false;
        };
        let proper = |min: f64, max: f64| min >= 0.0 && max < f64::INFINITY;
        let mut groups = self.metadata.metadata().row_groups().iter().filter(|group| group.num_rows() > 0);
        groups.all(|group| match group.column(leaf).statistics() {
            Some(s) if s.is_min_max_deprecated() => false,
            Some(s) if s.null_count_opt() == Some(group.num_rows().max(0) as u64) => true,
            Some(Statistics::Float(s)) => {
                s.min_opt().zip(s.max_opt()).is_some_and(|(min, max)| proper((*min).into(), (*max).into()))
            }
            Some(Statistics::Double(s)) => {
                s.min_opt().zip(s.max_opt()).is_some_and(|(min, max)| proper(*min, *max))
            }
            _ => false,
        })
    }

    fn row_groups(&self) -> Vec<Group> {
        let schema = self.metadata.parquet_schema();
        let roots = self.roots(true);
        let leaves: Vec<usize> = (0..schema.num_columns())
            .filter(|leaf| roots.contains(&schema.get_column_root_idx(*leaf)))
            .collect();
        let leaf_of = |wanted: &str| {
            let root = self.columns.iter().find_map(|(name, origin)| match origin {
                Origin::Column(at) if *name == wanted => Some(*at),
                _ => None,
            });
            leaves.iter().copied().find(|leaf| Some(schema.get_column_root_idx(*leaf)) == root)
        };
        let (time_leaf, person_leaf) = (leaf_of("time"), leaf_of("person_id"));
        let mut first_row = 0;
        let groups = self.metadata.metadata().row_groups();
        groups
            .iter()
            .map(|group| {
                let rows = group.num_rows().max(0) as u64;
                let start = first_row;
                first_row += rows;
                Group {
                    first_row: start,
                    rows,
                    bytes: leaves
                        .iter()
                        .map(|leaf| group.column(*leaf).compressed_size().max(0) as u64)
                        .sum(),
                    time_range: time_leaf.and_then(|leaf| self.time_range(group.column(leaf))),
                    person_range: person_leaf.and_then(|leaf| self.person_range(group.column(leaf))),
                }
            })
            .collect()
    }

    fn time_is_unsigned(&self) -> bool {
        let time = self.columns.iter().find(|(name, _)| *name == "time").map(|(_, origin)| origin);
        matches!(time, Some(Origin::Column(at)) if self.metadata.schema().field(*at).data_type().is_unsigned_integer())
    }

    /// The time range that statistics promise; `None` where they promise nothing.
    fn time_range(&self, column: &parquet::file::metadata::ColumnChunkMetaData) -> Option<(Millis, Millis)> {
        let (min, max) = match column.statistics()? {
            Statistics::Int64(s) => (*s.min_opt()?, *s.max_opt()?),
            Statistics::Int32(s) if self.time_is_unsigned() => {
                (i64::from(*s.min_opt()? as u32), i64::from(*s.max_opt()? as u32))
            }
            Statistics::Int32(s) => (i64::from(*s.min_opt()?), i64::from(*s.max_opt()?)),
            _ => return None,
        };
        if self.time_is_unsigned() && (min < 0 || max < 0) {
            return None;
        }
        // Statistics count in the file's own unit, which a reader may have translated.
        let stored = match column.column_descr().logical_type_ref() {
            Some(LogicalType::Timestamp(stamp)) => Some(match stamp.unit {
                ParquetUnit::MILLIS => TimeUnit::Ms,
                ParquetUnit::MICROS => TimeUnit::Us,
                ParquetUnit::NANOS => TimeUnit::Ns,
            }),
            _ => None,
        };
        // A wall clock that is set back shows the earlier instant twice, so its order is that of UTC.
        let clock = match self.clock("time")? {
            Clock::Utc(unit) => Clock::Utc(stored.unwrap_or(unit)),
            Clock::Local(unit, zone) => Clock::Local(stored.unwrap_or(unit), zone),
        };
        let (from, to) = (clock.millis(min).ok()?, clock.millis(max).ok()?);
        (from <= to).then_some((from, to))
    }

    /// The range of persons that statistics promise; `None` where they promise nothing.
    fn person_range(
        &self,
        column: &parquet::file::metadata::ColumnChunkMetaData,
    ) -> Option<(PersonId, PersonId)> {
        let person = self.person?;
        let integer = |v: i64| person.integer(v as u64);
        let (first, last) = match (column.statistics()?, person) {
            (Statistics::Int64(s), PersonType::Int64 | PersonType::UInt64) => {
                (integer(*s.min_opt()?), integer(*s.max_opt()?))
            }
            (Statistics::ByteArray(s), PersonType::Text | PersonType::Binary) => {
                (PersonId::Bytes(s.min_opt()?.data().into()), PersonId::Bytes(s.max_opt()?.data().into()))
            }
            _ => return None,
        };
        (first <= last).then_some((first, last))
    }
}
