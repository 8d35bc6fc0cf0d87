//! The guide to a day of a store: what lies in each block of its files, in which cells each person was and when, and where
//! each was first. By it a run finds the rows that a case touched, and leaves the rest unread.

use super::files::{Input, guarded};
use super::storage::{self, Opened};
use crate::error::{Error, Problem, Result};
use crate::person::{
    PersonColumn, PersonId, PersonRef, PersonSet, PersonType, Persons, PersonsSeen, part_of,
};
use crate::time::Millis;
use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, UInt16Array, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, UInt16Type, UInt64Type};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{
    ColumnChunkMask, KeyValue, PageIndexPolicy, ParquetMetaDataReader, ParquetStatisticsPolicy,
};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

/// Rows of a row group of visits, and of a page, at most.
const VISIT_GROUP_ROWS: usize = 1 << 17;
const VISIT_PAGE_ROWS: usize = 1 << 10;
/// Keys of the files' metadata.
const PARTS: &str = "copresence.parts";
const PART_OF_GROUPS: &str = "copresence.part_of_row_groups";

fn properties() -> WriterPropertiesBuilder {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(format!("copresence {}", env!("CARGO_PKG_VERSION")));
    for name in ["from", "to", "time"] {
        properties = properties
            .set_column_dictionary_enabled(ColumnPath::from(name), false)
            .set_column_encoding(ColumnPath::from(name), Encoding::DELTA_BINARY_PACKED);
    }
    properties
}

pub(super) fn batch(columns: Vec<(&str, ArrayRef)>) -> std::result::Result<RecordBatch, ArrowError> {
    let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns.into_iter().map(|(_, column)| column).collect())
}

pub(super) fn finish(writer: ArrowWriter<BufWriter<File>>) -> std::result::Result<(), ArrowError> {
    let file = writer.into_inner()?.into_inner().map_err(|e| ArrowError::from(e.into_error()))?;
    Ok(file.sync_all()?)
}

fn broken(input: &Input, why: &str) -> Error {
    Error::Input(Problem::new(
        &*input.name,
        "a file of a store's guide",
        why,
        storage::cure_of_reading(&input.path, why)
            .unwrap_or("bring the file back from a backup, or ingest its day into a new store"),
    ))
}

/// Calls `read`, whose troubles are those of the file.
pub(super) fn reading<T>(
    input: &Input,
    read: impl FnOnce(Opened) -> std::result::Result<T, ArrowError>,
) -> Result<T> {
    let file = input.open()?;
    match guarded(|| read(file)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(e)) => Err(broken(input, &e.to_string())),
        Err(_) => Err(broken(input, "bytes that are no column")),
    }
}

pub(super) fn column(
    batch: &RecordBatch,
    name: &str,
    kind: &DataType,
) -> std::result::Result<ArrayRef, ArrowError> {
    let found = batch.column_by_name(name);
    cast(found.ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")))?, kind)
}

pub(super) fn says<'a>(metadata: &'a ArrowReaderMetadata, key: &str) -> Option<&'a str> {
    let all = metadata.metadata().file_metadata().key_value_metadata()?;
    all.iter().find(|says| says.key == key)?.value.as_deref()
}

/// When somebody was in a cell: from the first to the last ping there of a day, whatever lay between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visit {
    /// The cell.
    pub cell: u64,
    /// The first ping.
    pub from: Millis,
    /// The last ping.
    pub to: Millis,
}

/// The first ping of somebody's day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct First {
    /// When.
    pub at: Millis,
    /// Its position in degrees; none, if there are several pings at that instant in several places.
    pub place: Option<(f64, f64)>,
    /// Its feed.
    pub feed: u16,
}

/// Visits and first pings of persons, as they gather.
#[derive(Debug)]
pub struct Traces {
    visitors: PersonColumn,
    visits: Vec<Visit>,
    persons: PersonColumn,
    firsts: Vec<First>,
}

impl Traces {
    /// None yet, of persons of an inner type.
    pub fn new(inner: &DataType) -> Self {
        let column = || PersonColumn::new(inner);
        Traces { visitors: column(), visits: Vec::new(), persons: column(), firsts: Vec::new() }
    }

    /// Adds the day of a person: pings (time, cell) in the order of time. Persons come in their order.
    pub fn add(&mut self, person: PersonRef<'_>, pings: &mut [(u64, Millis)], first: First) {
        self.persons.push(person);
        self.firsts.push(first);
        pings.sort_unstable();
        for same in pings.chunk_by(|a, b| a.0 == b.0) {
            self.visitors.push(person);
            self.visits.push(Visit { cell: same[0].0, from: same[0].1, to: same[same.len() - 1].1 });
        }
    }

    fn batches(
        self,
        person: PersonType,
    ) -> std::result::Result<(RecordBatch, RecordBatch, PersonsSeen), ArrowError> {
        let mut seen = PersonsSeen::default();
        (0..self.firsts.len()).for_each(|row| seen.see(self.persons.at(row).spread()));
        let visits = batch(vec![
            ("person_id", person.restore(&self.visitors.finish()?)?),
            ("cell", Arc::new(UInt64Array::from_iter_values(self.visits.iter().map(|v| v.cell)))),
            ("from", Arc::new(Int64Array::from_iter_values(self.visits.iter().map(|v| v.from)))),
            ("to", Arc::new(Int64Array::from_iter_values(self.visits.iter().map(|v| v.to)))),
        ])?;
        let place = |of: &dyn Fn((f64, f64)) -> f64| -> ArrayRef {
            Arc::new(self.firsts.iter().map(|first| first.place.map(of)).collect::<Float64Array>())
        };
        let firsts = batch(vec![
            ("person_id", person.restore(&self.persons.finish()?)?),
            ("time", Arc::new(Int64Array::from_iter_values(self.firsts.iter().map(|f| f.at)))),
            ("lat", place(&|(lat, _)| lat)),
            ("lon", place(&|(_, lon)| lon)),
            ("feed", Arc::new(UInt16Array::from_iter_values(self.firsts.iter().map(|f| f.feed)))),
        ])?;
        Ok((visits, firsts, seen))
    }
}

/// Writes visits and first pings of a day, part by part of the persons.
pub struct TraceWriter {
    visits: ArrowWriter<BufWriter<File>>,
    firsts: ArrowWriter<BufWriter<File>>,
    part_of_groups: [Vec<usize>; 2],
    parts: usize,
    person: PersonType,
    /// Who is in them.
    pub seen: PersonsSeen,
}

impl TraceWriter {
    /// Begins two files, for persons who come in so many parts.
    pub fn create(
        visits: &Path,
        firsts: &Path,
        person: PersonType,
        parts: usize,
    ) -> std::result::Result<Self, ArrowError> {
        let properties = properties()
            .set_column_dictionary_enabled(ColumnPath::from("lat"), false)
            .set_column_dictionary_enabled(ColumnPath::from("lon"), false)
            .set_max_row_group_row_count(Some(VISIT_GROUP_ROWS))
            .set_data_page_row_count_limit(VISIT_PAGE_ROWS)
            .set_write_batch_size(VISIT_PAGE_ROWS)
            .build();
        let (visit_rows, first_rows, seen) = Traces::new(&person.inner()).batches(person)?;
        let open = |path: &Path, schema: SchemaRef| -> std::result::Result<_, ArrowError> {
            let file = BufWriter::new(File::create(path)?);
            Ok(ArrowWriter::try_new(file, schema, Some(properties.clone()))?)
        };
        Ok(TraceWriter {
            visits: open(visits, visit_rows.schema())?,
            firsts: open(firsts, first_rows.schema())?,
            part_of_groups: Default::default(),
            parts,
            person,
            seen,
        })
    }

    /// Adds the persons of a part.
    pub fn add(&mut self, part: usize, traces: Traces) -> std::result::Result<(), ArrowError> {
        let (visits, firsts, seen) = traces.batches(self.person)?;
        self.seen.merge(&seen);
        let writers = [(&mut self.visits, visits), (&mut self.firsts, firsts)];
        for ((writer, rows), groups) in writers.into_iter().zip(&mut self.part_of_groups) {
            writer.write(&rows)?;
            writer.flush()?;
            groups.resize(writer.flushed_row_groups().len(), part);
        }
        Ok(())
    }

    /// Ends both files.
    pub fn finish(self) -> std::result::Result<PersonsSeen, ArrowError> {
        let TraceWriter { visits, firsts, part_of_groups, parts, seen, .. } = self;
        for (mut writer, groups) in [visits, firsts].into_iter().zip(part_of_groups) {
            let groups: Vec<String> = groups.iter().map(usize::to_string).collect();
            for (key, value) in [(PARTS, parts.to_string()), (PART_OF_GROUPS, groups.join(","))] {
                writer.append_key_value_metadata(KeyValue::new(key.to_string(), value));
            }
            finish(writer)?;
        }
        Ok(seen)
    }
}

/// Reads the rows of some persons (as `person` has them), from a file that is in the order of persons within parts.
fn rows_of(
    input: &Input,
    person: PersonType,
    wanted: &[PersonId],
    each: &mut dyn FnMut(PersonRef<'_>, &RecordBatch, usize) -> std::result::Result<(), ArrowError>,
) -> Result<()> {
    let set: PersonSet = wanted.iter().cloned().collect();
    reading(input, |file| {
        let options = ArrowReaderOptions::new()
            .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
            .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll);
        let metadata = ArrowReaderMetadata::load(&file, options)?;
        // Integers of another type are ordered otherwise.
        let stored = PersonType::of(metadata.schema().field(0).data_type());
        let parts = says(&metadata, PARTS).and_then(|text| text.parse::<usize>().ok()).unwrap_or(1);
        let listed = says(&metadata, PART_OF_GROUPS).unwrap_or_default();
        let of_groups: Vec<usize> = listed.split(',').filter_map(|part| part.parse().ok()).collect();
        let mut by_part: Vec<Vec<&PersonId>> = vec![Vec::new(); parts.max(1)];
        for id in wanted {
            by_part[part_of(id.as_ref().spread(), parts.max(1))].push(id);
        }
        by_part.iter_mut().for_each(|own| own.sort_unstable());
        let own_of = |group: usize| of_groups.get(group).map(|part| &by_part[*part % by_part.len()]);
        let touched: Vec<usize> = (0..metadata.metadata().num_row_groups())
            .filter(|group| own_of(*group).is_none_or(|own| !own.is_empty()))
            .collect();
        let metadata = with_pages_of(metadata, &file, &touched)?;
        let (mut groups, mut selectors) = (Vec::new(), Vec::new());
        for group in touched {
            let rows = metadata.metadata().row_group(group).num_rows().max(0) as usize;
            let own = own_of(group);
            let index = metadata.metadata().page_index_for_row_group(group);
            let pages = index.column_index(0).zip(index.offset_index(0));
            let (Some(own), Some((least, at)), true) = (own, pages, stored == Some(person)) else {
                groups.push(group);
                selectors.push(RowSelector::select(rows));
                continue;
            };
            let starts: Vec<usize> =
                at.page_locations().iter().map(|page| page.first_row_index.max(0) as usize).collect();
            let before = selectors.len();
            for (page, start) in starts.iter().enumerate() {
                let end = starts.get(page + 1).copied().unwrap_or(rows);
                let wants = range_of(least, page, person).is_none_or(|(first, last)| {
                    let next = own.partition_point(|id| **id < first);
                    own.get(next).is_some_and(|id| **id <= last)
                });
                selectors.push(if wants { RowSelector::select } else { RowSelector::skip }(end - start));
            }
            if selectors[before..].iter().all(|selector| selector.skip) {
                selectors.truncate(before);
            } else {
                groups.push(group);
            }
        }
        if groups.is_empty() {
            return Ok(());
        }
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
            .with_row_groups(groups)
            .with_row_selection(RowSelection::from(selectors))
            .with_batch_size(1 << 14)
            .build()?;
        for batch in reader {
            let batch = batch?;
            let column = person.adopt(batch.column(0))?;
            let persons = Persons::of(&column);
            for row in (0..batch.num_rows()).filter(|row| !column.is_null(*row)) {
                if set.contains(&persons.at(row)) {
                    each(persons.at(row), &batch, row)?;
                }
            }
        }
        Ok(())
    })
}

/// The same with where the pages of some row groups are, and the least and the greatest person of each.
fn with_pages_of(
    metadata: ArrowReaderMetadata,
    file: &Opened,
    groups: &[usize],
) -> std::result::Result<ArrowReaderMetadata, ArrowError> {
    let columns = metadata.parquet_schema().num_columns();
    let mask = |columns| ColumnChunkMask::row_groups_and_columns(groups.iter().copied(), 0..columns);
    let mut reader = ParquetMetaDataReader::new_with_metadata(metadata.metadata().as_ref().clone())
        .with_page_index_policy(PageIndexPolicy::Optional)
        .with_column_index_mask(mask(1))
        .with_offset_index_mask(mask(columns));
    reader.read_page_indexes(file)?;
    Ok(ArrowReaderMetadata::try_new(Arc::new(reader.finish()?), ArrowReaderOptions::new())?)
}

/// The first and the last person of a page, if its index tells.
pub(super) fn range_of(
    index: &ColumnIndexMetaData,
    page: usize,
    person: PersonType,
) -> Option<(PersonId, PersonId)> {
    match index {
        ColumnIndexMetaData::INT64(own) => {
            let at = |value: Option<&i64>| value.map(|value| person.integer(*value as u64));
            at(own.min_value(page)).zip(at(own.max_value(page)))
        }
        ColumnIndexMetaData::BYTE_ARRAY(own) => {
            let at = |value: Option<&[u8]>| value.map(|value| PersonId::Bytes(value.into()));
            at(own.min_value(page)).zip(at(own.max_value(page)))
        }
        _ => None,
    }
}

/// Calls `each` with the visits of some persons.
pub fn visits(
    input: &Input,
    person: PersonType,
    wanted: &[PersonId],
    each: &mut dyn FnMut(PersonRef<'_>, Visit),
) -> Result<()> {
    rows_of(input, person, wanted, &mut |whose, batch, row| {
        let cell = batch.column(1).as_primitive_opt::<UInt64Type>();
        let times = [2, 3].map(|at| batch.column(at).as_primitive_opt::<Int64Type>());
        let (Some(cell), [Some(from), Some(to)]) = (cell, times) else {
            return Err(ArrowError::SchemaError("columns of other types".into()));
        };
        each(whose, Visit { cell: cell.value(row), from: from.value(row), to: to.value(row) });
        Ok(())
    })
}

/// Calls `each` with the first ping of some persons' days.
pub fn firsts(
    input: &Input,
    person: PersonType,
    wanted: &[PersonId],
    each: &mut dyn FnMut(PersonRef<'_>, First),
) -> Result<()> {
    rows_of(input, person, wanted, &mut |whose, batch, row| {
        let times = batch.column(1).as_primitive_opt::<Int64Type>();
        let places = [2, 3].map(|at| batch.column(at).as_primitive_opt::<Float64Type>());
        let feeds = batch.column(4).as_primitive_opt::<UInt16Type>();
        let (Some(times), [Some(lats), Some(lons)], Some(feeds)) = (times, places, feeds) else {
            return Err(ArrowError::SchemaError("columns of other types".into()));
        };
        let place = (!lats.is_null(row)).then(|| (lats.value(row), lons.value(row)));
        each(whose, First { at: times.value(row), place, feed: feeds.value(row) });
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn persons_are_found_again() {
        let folder = std::env::temp_dir().join(format!("copresence-guide-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let [visits_at, firsts_at] = ["visits", "firsts"].map(|name| folder.join(name));
        for person in [PersonType::UInt64, PersonType::Int64, PersonType::Text] {
            let id = |n: u64| match person {
                PersonType::Text => PersonId::Bytes(format!("p{n:05}").into_bytes().into()),
                _ => person.integer(n.wrapping_sub(7)),
            };
            let parts = 4;
            let mut writer = TraceWriter::create(&visits_at, &firsts_at, person, parts).expect("files");
            for part in [2, 0, 3, 1] {
                let mut own: Vec<(PersonId, u64)> = (0..20_000).map(|n| (id(n), n)).collect();
                own.retain(|(id, _)| part_of(id.as_ref().spread(), parts) == part);
                own.sort();
                let mut traces = Traces::new(&person.inner());
                for (id, n) in own {
                    let at = n as i64;
                    let place = (n % 3 > 0).then_some((n as f64, -(n as f64)));
                    let first = First { at, place, feed: (n % 5) as u16 };
                    traces.add(id.as_ref(), &mut [(n, at + 9), (n, at), (n + 1, at + 4)], first);
                }
                writer.add(part, traces).expect("rows");
            }
            let seen = writer.finish().expect("whole files");
            assert!(seen.estimate().abs_diff(20_000) < 700);
            let input = |path: &Path| Input {
                name: path.display().to_string(),
                path: path.to_path_buf(),
                partitions: Vec::new(),
                bytes: 0,
            };
            let wanted: Vec<PersonId> = [3, 4_444, 19_999, 70_000].map(id).to_vec();
            let mut found = Vec::new();
            visits(&input(&visits_at), person, &wanted, &mut |whose, visit| {
                found.push((whose.to_id(), visit.cell, visit.from, visit.to));
            })
            .expect("visits");
            let expected = [3u64, 4_444, 19_999].into_iter().flat_map(|n| {
                let at = n as i64;
                [(id(n), n, at, at + 9), (id(n), n + 1, at + 4, at + 4)]
            });
            let mut expected: Vec<_> = expected.collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected);
            let mut found = Vec::new();
            firsts(&input(&firsts_at), person, &wanted, &mut |whose, first| {
                found.push((whose.to_id(), first.at, first.place, first.feed));
            })
            .expect("firsts");
            found.sort_by_key(|f| f.1);
            let expected = [3u64, 4_444, 19_999].map(|n| {
                let place = (n % 3 > 0).then_some((n as f64, -(n as f64)));
                (id(n), n as i64, place, (n % 5) as u16)
            });
            assert_eq!(found, expected);
        }
        std::fs::remove_dir_all(folder).expect("no folder");
    }
}
