//! What lies in the blocks of a day of a store: in which cells, when, and inside which box. On disk it is a packed R-tree of
//! two levels in one Parquet file, in the order of the cells, which is one of space: a row is a block, a page is a twig, and
//! the page index tells what lies in each twig. A run reads that, and of the rows those of the twigs that it asks about.

use super::files::{Input, guarded};
use super::guide::{batch, column, finish, reading, says};
use super::storage::Opened;
use super::stored::{BLOCK_ROWS, GROUP_ROWS};
use crate::error::Result;
use crate::geo::LatLonBox;
use crate::person::PersonsSeen;
use crate::time::Millis;
use arrow::array::{ArrayRef, AsArray, Float32Array, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, UInt64Type};
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::file::metadata::{KeyValue, PageIndexPolicy};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::io::BufWriter;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Blocks of a twig, at most: as many rows of pings as a row group has.
const TWIG_BLOCKS: usize = GROUP_ROWS / BLOCK_ROWS;
/// Blocks that are read in two threads, at least.
const MANY_BLOCKS: usize = 1 << 14;
/// Keys of the file's metadata.
const PERSONS_SEEN: &str = "copresence.persons_seen";
const FILES: &str = "copresence.files";
const LONGEST: &str = "copresence.longest_ms";
/// The columns, in their order.
const COLUMNS: [&str; 8] =
    ["cell_min", "cell_max", "time_min", "time_max", "lat_min", "lat_max", "lon_min", "lon_max"];

type Read<T> = std::result::Result<T, ArrowError>;

/// The blocks of some files of a day: rows that follow one another, [`BLOCK_ROWS`] of them but for the last of a file.
#[derive(Debug, Clone, Default)]
pub struct Blocks {
    /// The files' names, each with its rows and where its blocks begin among all.
    files: Vec<(String, u64, usize)>,
    cells_min: Vec<u64>,
    cells_max: Vec<u64>,
    times_min: Vec<Millis>,
    times_max: Vec<Millis>,
    /// The sides of boxes.
    bounds: [Vec<f32>; 4],
    /// From a scan to its check-out at most, ms.
    longest_ms: Millis,
}

impl Blocks {
    fn len(&self) -> usize {
        self.cells_min.len()
    }

    /// Which of some blocks of one file may hold a cell.
    pub fn with_cell(&self, among: Range<usize>, cell: u64) -> Range<usize> {
        let first = self.cells_max[among.clone()].partition_point(|last| *last < cell);
        let end = self.cells_min[among.clone()].partition_point(|first| *first <= cell);
        among.start + first..among.start + end.max(first)
    }

    /// The earliest and the latest time of a block.
    #[inline]
    pub fn times(&self, block: usize) -> (Millis, Millis) {
        (self.times_min[block], self.times_max[block])
    }

    /// A box that holds all positions of a block, on whatever side of the antimeridian they are: south, north, west, east.
    #[inline]
    pub fn bounds(&self, block: usize) -> [f32; 4] {
        [0, 1, 2, 3].map(|side: usize| self.bounds[side][block])
    }

    /// Adds the blocks of a file, whose rows are in their order.
    pub fn add(&mut self, file: &str, rows: &RecordBatch) {
        let column = |name: &str| rows.column_by_name(name);
        let degrees = |name: &str| column(name).map(|c| c.as_primitive::<Float64Type>().values().as_ref());
        let cells = column("cell").map(|c| c.as_primitive::<UInt64Type>().values().as_ref());
        let times = column("time").map(|c| c.as_primitive::<Int64Type>().values().as_ref());
        let (Some(cells), Some(times)) = (cells, times) else { return };
        let ends = |values: Option<&[f64]>, rows: Range<usize>| {
            let own = values.map_or(&[][..], |values| &values[rows]);
            let (least, most) =
                own.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
            // Outward, whatever rounding does.
            ((least as f32).next_down(), (most as f32).next_up())
        };
        self.files.push((file.to_string(), rows.num_rows() as u64, self.len()));
        if let Some(untils) = column("until").map(|c| c.as_primitive::<Int64Type>()) {
            let stays = untils.iter().zip(times).filter_map(|(until, time)| Some(until? - time));
            self.longest_ms = stays.fold(self.longest_ms, Millis::max);
        }
        for first in (0..cells.len()).step_by(BLOCK_ROWS) {
            let rows = first..cells.len().min(first + BLOCK_ROWS);
            let times = &times[rows.clone()];
            let (south, north) = ends(degrees("lat"), rows.clone());
            let (west, east) = ends(degrees("lon"), rows.clone());
            self.cells_min.push(cells[rows.start]);
            self.cells_max.push(cells[rows.end - 1]);
            let ends = times.iter().fold((Millis::MAX, Millis::MIN), |(a, b), t| (a.min(*t), b.max(*t)));
            self.times_min.push(ends.0);
            self.times_max.push(ends.1);
            let sides = self.bounds.iter_mut().zip([south, north, west, east]);
            sides.for_each(|(side, value)| side.push(value));
        }
    }

    /// Adds those of other files.
    pub fn append(&mut self, mut other: Blocks) {
        let before = self.len();
        self.files.extend(other.files.into_iter().map(|(file, rows, start)| (file, rows, start + before)));
        self.longest_ms = self.longest_ms.max(other.longest_ms);
        self.cells_min.append(&mut other.cells_min);
        self.cells_max.append(&mut other.cells_max);
        self.times_min.append(&mut other.times_min);
        self.times_max.append(&mut other.times_max);
        self.bounds.iter_mut().zip(&mut other.bounds).for_each(|(side, more)| side.append(more));
    }
}

/// Writes the blocks of a day's files, and about how many persons are in them: a row group for each file. Plain and without
/// compression, as what is read of it is read at once.
pub fn write(path: &Path, blocks: &Blocks, seen: &PersonsSeen) -> Read<()> {
    let cells = |of: &Vec<u64>| -> ArrayRef { Arc::new(UInt64Array::from(of.clone())) };
    let times = |of: &Vec<Millis>| -> ArrayRef { Arc::new(Int64Array::from(of.clone())) };
    let mut columns = vec![
        cells(&blocks.cells_min),
        cells(&blocks.cells_max),
        times(&blocks.times_min),
        times(&blocks.times_max),
    ];
    columns.extend(blocks.bounds.iter().map(|side| Arc::new(Float32Array::from(side.clone())) as ArrayRef));
    let rows = batch(COLUMNS.into_iter().zip(columns).collect())?;
    let files: Vec<String> = blocks.files.iter().map(|(file, rows, _)| format!("{rows} {file}")).collect();
    let longest = (LONGEST, blocks.longest_ms.to_string());
    let says = [(PERSONS_SEEN, seen.to_text()), (FILES, files.join("\n")), longest];
    let says = says.into_iter().map(|(key, value)| KeyValue::new(key.to_string(), value)).collect();
    let properties = WriterProperties::builder()
        .set_created_by(format!("copresence {}", env!("CARGO_PKG_VERSION")))
        .set_dictionary_enabled(false)
        .set_key_value_metadata(Some(says))
        .set_data_page_row_count_limit(TWIG_BLOCKS)
        .set_write_batch_size(TWIG_BLOCKS)
        .build();
    let file = BufWriter::new(File::create(path)?);
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties))?;
    for (number, (.., start)) in blocks.files.iter().enumerate() {
        let end = blocks.files.get(number + 1).map_or(blocks.len(), |(.., next)| *next);
        writer.write(&rows.slice(*start, end - start))?;
        writer.flush()?;
    }
    finish(writer)
}

/// Blocks that follow one another in a file, and what lies in all of them.
#[derive(Debug, Clone)]
pub struct Twig {
    /// The file's place among those of the day.
    pub file: usize,
    /// The blocks, counted among those of the day.
    pub blocks: Range<usize>,
    /// Rows of pings.
    pub rows: u64,
    /// The first and the last cell.
    pub cells: (u64, u64),
    /// The earliest and the latest time.
    pub times: (Millis, Millis),
    /// See [`Blocks::bounds`].
    pub bounds: [f32; 4],
}

/// A box as degrees.
pub fn area([lat_min, lat_max, lon_min, lon_max]: [f32; 4]) -> LatLonBox {
    let [lat_min, lat_max, lon_min, lon_max] = [lat_min, lat_max, lon_min, lon_max].map(f64::from);
    LatLonBox { lat_min, lat_max, lon_min, lon_max }
}

/// The blocks of a day, as far as they were asked about.
#[derive(Debug)]
pub struct BlockTree {
    input: Input,
    metadata: ArrowReaderMetadata,
    /// The files' names, each with its rows and where its blocks begin among all.
    pub files: Vec<(String, u64, usize)>,
    /// From a scan to its check-out at most, ms.
    pub longest_ms: Millis,
    /// About how many persons there are.
    pub seen: PersonsSeen,
    twigs: Vec<Twig>,
    of_files: Vec<Range<usize>>,
    count: usize,
    /// What was read, and of which twigs; zeros for the others.
    read: Mutex<(Vec<bool>, Arc<Blocks>)>,
}

impl BlockTree {
    /// Reads the upper level.
    pub fn open(input: &Input) -> Result<Self> {
        reading(input, |file| {
            let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
            let metadata = ArrowReaderMetadata::load(&file, options)?;
            let seen = says(&metadata, PERSONS_SEEN).and_then(PersonsSeen::from_text).unwrap_or_default();
            let longest_ms = says(&metadata, LONGEST).and_then(|text| text.parse().ok()).unwrap_or(0);
            let (mut files, mut count) = (Vec::new(), 0);
            for line in says(&metadata, FILES).unwrap_or_default().lines() {
                let wrong = || ArrowError::SchemaError("a list of files that cannot be read".into());
                let (rows, file) = line.split_once(' ').ok_or_else(wrong)?;
                let rows: u64 = rows.parse().map_err(|_| wrong())?;
                files.push((file.to_string(), rows, count));
                count += rows.div_ceil(BLOCK_ROWS as u64) as usize;
            }
            if files.len() != metadata.metadata().num_row_groups() {
                return Err(ArrowError::SchemaError("other files than it has row groups".into()));
            }
            let (mut twigs, mut of_files) = (Vec::new(), Vec::new());
            for (file, (_, rows, start)) in files.iter().enumerate() {
                twigs_of(&metadata, file, *rows, *start, &mut twigs)
                    .ok_or_else(|| ArrowError::SchemaError("a page index that cannot be used".into()))?;
                let before = of_files.last().map_or(0, |own: &Range<usize>| own.end);
                of_files.push(before..twigs.len());
            }
            let read = Mutex::new((vec![false; twigs.len()], Arc::default()));
            Ok(BlockTree {
                input: input.clone(),
                metadata,
                files,
                longest_ms,
                seen,
                twigs,
                of_files,
                count,
                read,
            })
        })
    }

    /// How many blocks there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Which blocks are those of a file.
    pub fn of_file(&self, file: usize) -> Range<usize> {
        let end = self.files.get(file + 1).map_or(self.count, |(.., start)| *start);
        self.files[file].2..end
    }

    /// All twigs, in the order of files and, within each, of cells.
    pub fn twigs(&self) -> &[Twig] {
        &self.twigs
    }

    /// Which twigs of a file may hold a cell.
    pub fn twigs_with_cell(&self, file: usize, cell: u64) -> Range<usize> {
        let among = self.of_files[file].clone();
        let twigs = &self.twigs[among.clone()];
        let first = twigs.partition_point(|twig| twig.cells.1 < cell);
        let end = twigs.partition_point(|twig| twig.cells.0 <= cell);
        among.start + first..among.start + end.max(first)
    }

    /// The blocks, those of these twigs among them.
    pub fn read(&self, wanted: &[usize]) -> Result<Arc<Blocks>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, blocks) = &mut *read;
        let mut missing: Vec<usize> = wanted.iter().copied().filter(|twig| !known[*twig]).collect();
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            let blocks = Arc::make_mut(blocks);
            if blocks.len() == 0 {
                (blocks.cells_min, blocks.cells_max) = (vec![0; self.count], vec![0; self.count]);
                (blocks.times_min, blocks.times_max) = (vec![0; self.count], vec![0; self.count]);
                blocks.bounds = std::array::from_fn(|_| vec![0.0; self.count]);
            }
            reading(&self.input, |file| self.fill(&file, &missing, blocks))?;
            missing.iter().for_each(|twig| known[*twig] = true);
        }
        Ok(Arc::clone(blocks))
    }

    /// Reads the blocks of some twigs.
    fn fill(&self, file: &Opened, twigs: &[usize], blocks: &mut Blocks) -> Read<()> {
        let (mut groups, mut selectors, mut places) = (Vec::new(), Vec::new(), Vec::new());
        let mut end = 0;
        for twig in twigs.iter().map(|twig| &self.twigs[*twig]) {
            let start = twig.blocks.start;
            if groups.last() != Some(&twig.file) {
                // What is left of the group before is passed over, and what is between two is not opened.
                let before = groups.last().map_or(0, |last| self.of_file(*last).end - end);
                selectors.push(RowSelector::skip(before));
                end = self.of_file(twig.file).start;
                groups.push(twig.file);
            }
            selectors.push(RowSelector::skip(start - end));
            selectors.push(RowSelector::select(twig.blocks.len()));
            places.push(twig.blocks.clone());
            end = twig.blocks.end;
        }
        let selection = RowSelection::from(selectors);
        let Blocks { cells_min, cells_max, times_min, times_max, bounds, .. } = blocks;
        let [south, north, west, east] = bounds.each_mut().map(|side| To::Degrees(side));
        let mut whens =
            [To::Cells(cells_min), To::Cells(cells_max), To::Times(times_min), To::Times(times_max)];
        let mut wheres = [south, north, west, east];
        let read = |columns: Range<usize>, to: &mut [To<'_>]| -> Read<()> {
            let mut places = places.iter().cloned();
            let mut place = 0..0;
            let reader =
                ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), self.metadata.clone())
                    .with_projection(ProjectionMask::roots(self.metadata.parquet_schema(), columns.clone()))
                    .with_row_groups(groups.clone())
                    .with_row_selection(selection.clone())
                    .with_batch_size(1 << 12)
                    .build()?;
            for batch in reader {
                let batch = batch?;
                let mut from = 0;
                while from < batch.num_rows() {
                    if place.is_empty() {
                        let more = || ArrowError::SchemaError("more blocks than those of its files".into());
                        place = places.next().ok_or_else(more)?;
                    }
                    let rows = place.len().min(batch.num_rows() - from);
                    for (name, to) in COLUMNS[columns.clone()].iter().zip(&mut *to) {
                        to.copy(&batch, name, from..from + rows, place.start)?;
                    }
                    (from, place.start) = (from + rows, place.start + rows);
                }
            }
            match place.is_empty() && places.next().is_none() {
                true => Ok(()),
                false => Err(ArrowError::SchemaError("fewer blocks than those of its files".into())),
            }
        };
        if places.iter().map(Range::len).sum::<usize>() < MANY_BLOCKS {
            read(0..4, &mut whens)?;
            return read(4..8, &mut wheres);
        }
        // Half of the columns are read beside the others.
        std::thread::scope(|scope| {
            let beside = scope.spawn(|| guarded(|| read(4..8, &mut wheres)));
            read(0..4, &mut whens)?;
            match beside.join() {
                Ok(Ok(read)) => read,
                _ => Err(ArrowError::ParquetError("bytes that are no column".into())),
            }
        })
    }

    /// The row group of a block of a file, by its number there, and its rows in that.
    pub fn rows(number: usize, of_rows: u64) -> (usize, Range<u64>) {
        let first = (number * BLOCK_ROWS) as u64;
        let end = of_rows.min(first + BLOCK_ROWS as u64);
        let group = first / GROUP_ROWS as u64;
        (group as usize, first - group * GROUP_ROWS as u64..end - group * GROUP_ROWS as u64)
    }
}

/// Where a column is read to.
enum To<'b> {
    Cells(&'b mut [u64]),
    Times(&'b mut [Millis]),
    Degrees(&'b mut [f32]),
}

impl To<'_> {
    /// Copies some rows of a column to a place.
    fn copy(&mut self, batch: &RecordBatch, name: &str, rows: Range<usize>, at: usize) -> Read<()> {
        let place = at..at + rows.len();
        match self {
            To::Cells(to) => {
                let own = column(batch, name, &DataType::UInt64)?;
                to[place].copy_from_slice(&own.as_primitive::<UInt64Type>().values()[rows]);
            }
            To::Times(to) => {
                let own = column(batch, name, &DataType::Int64)?;
                to[place].copy_from_slice(&own.as_primitive::<Int64Type>().values()[rows]);
            }
            To::Degrees(to) => {
                let own = column(batch, name, &DataType::Float32)?;
                to[place].copy_from_slice(&own.as_primitive::<Float32Type>().values()[rows]);
            }
        }
        Ok(())
    }
}

/// The twigs of a file, by the page index of its row group; nothing, if that tells too little.
fn twigs_of(
    metadata: &ArrowReaderMetadata,
    file: usize,
    of_rows: u64,
    first: usize,
    twigs: &mut Vec<Twig>,
) -> Option<()> {
    let count = of_rows.div_ceil(BLOCK_ROWS as u64) as usize;
    let group = metadata.metadata().row_groups().get(file)?;
    if group.num_rows() != count as i64 || group.num_columns() != COLUMNS.len() {
        return None;
    }
    let index = metadata.metadata().page_index_for_row_group(file);
    let starts = |leaf: usize| -> Option<Vec<usize>> {
        let pages = index.offset_index(leaf)?.page_locations().iter();
        pages.map(|page| usize::try_from(page.first_row_index).ok()).collect()
    };
    let all = starts(0)?;
    if (1..COLUMNS.len()).any(|leaf| starts(leaf).as_ref() != Some(&all)) {
        return None;
    }
    let whole = |leaf: usize, page: usize, is_least: bool| match index.column_index(leaf)? {
        ColumnIndexMetaData::INT64(own) if is_least => own.min_value(page).copied(),
        ColumnIndexMetaData::INT64(own) => own.max_value(page).copied(),
        _ => None,
    };
    let degrees = |leaf: usize, page: usize, is_least: bool| match index.column_index(leaf)? {
        ColumnIndexMetaData::FLOAT(own) if is_least => own.min_value(page).copied(),
        ColumnIndexMetaData::FLOAT(own) => own.max_value(page).copied(),
        _ => None,
    };
    for (page, start) in all.iter().enumerate() {
        let end = all.get(page + 1).copied().unwrap_or(count);
        let rows = of_rows.min((end * BLOCK_ROWS) as u64).checked_sub((start * BLOCK_ROWS) as u64)?;
        twigs.push(Twig {
            file,
            blocks: first + start..first + end,
            rows,
            cells: (whole(0, page, true)? as u64, whole(1, page, false)? as u64),
            times: (whole(2, page, true)?, whole(3, page, false)?),
            bounds: [
                degrees(4, page, true)?,
                degrees(5, page, false)?,
                degrees(6, page, true)?,
                degrees(7, page, false)?,
            ],
        });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::files::input;
    use super::*;
    use arrow::array::Float64Array;

    fn rows(first: u64, count: u64) -> RecordBatch {
        // Cells of all 64 bits, in order; times and places that go up and down.
        let cells = (0..count).map(|row| first + row / 700 * (u64::MAX / 1_000_000));
        let times = (0..count as i64).map(|row| 1_000_000 - row * row % 9_973);
        let degrees = |by: f64| {
            Float64Array::from_iter_values((0..count).map(move |row| (row as f64 * by).sin() * 80.0))
        };
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("cell", Arc::new(UInt64Array::from_iter_values(cells))),
            ("time", Arc::new(Int64Array::from_iter_values(times))),
            ("lat", Arc::new(degrees(0.001))),
            ("lon", Arc::new(degrees(0.007))),
        ];
        batch(columns).expect("rows")
    }

    #[test]
    fn what_is_read_is_what_was_written_and_twigs_hold_their_blocks() {
        let path = std::env::temp_dir().join(format!("copresence-blocks-{}", std::process::id()));
        let mut all = Blocks::default();
        let block = BLOCK_ROWS as u64;
        for (file, count) in
            [("a", block * 600 + 5), ("b", 10), ("c", block * TWIG_BLOCKS as u64), ("d", block * 300)]
        {
            let mut own = Blocks::default();
            own.add(file, &rows(u64::MAX / 2 - 1_000, count));
            all.append(own);
        }
        write(&path, &all, &PersonsSeen::default()).expect("a file");
        let input = input(Path::new("."), path.clone(), None).expect("a file");
        let tree = BlockTree::open(&input).expect("a tree");
        assert_eq!((tree.count(), tree.twigs().len()), (601 + 1 + 256 + 300, 3 + 1 + 1 + 2));
        assert_eq!(tree.of_file(2), 602..858);
        let same = |read: &Blocks, block: usize| {
            assert_eq!(
                (read.cells_min[block], read.cells_max[block]),
                (all.cells_min[block], all.cells_max[block])
            );
            assert_eq!((read.times(block), read.bounds(block)), (all.times(block), all.bounds(block)));
        };
        let mut rows = 0;
        // Some at first, which lie in several files; then others, and some again.
        for wanted in [&[2, 3, 6][..], &[], &[0, 2], &[5, 4, 1]] {
            let read = tree.read(wanted).expect("blocks");
            for twig in wanted.iter().map(|twig| &tree.twigs()[*twig]) {
                twig.blocks.clone().for_each(|block| same(&read, block));
            }
        }
        let read = tree.read(&[]).expect("blocks");
        (0..tree.count()).for_each(|block| same(&read, block));
        for twig in tree.twigs() {
            rows += twig.rows;
            for block in twig.blocks.clone() {
                assert!(twig.cells.0 <= all.cells_min[block] && all.cells_max[block] <= twig.cells.1);
                assert!(twig.times.0 <= all.times(block).0 && all.times(block).1 <= twig.times.1);
                let (own, of) = (all.bounds(block), twig.bounds);
                assert!(of[0] <= own[0] && own[1] <= of[1] && of[2] <= own[2] && own[3] <= of[3]);
            }
        }
        assert_eq!(rows, block * (600 + 256 + 300) + 15);
        // Cells are found by binary search in twigs and blocks, as they would be by looking at each.
        for cell in (0..600).map(|n| u64::MAX / 2 - 1_000 + n * (u64::MAX / 1_000_000)) {
            let holds = |block: &usize| (all.cells_min[*block]..=all.cells_max[*block]).contains(&cell);
            for file in 0..4 {
                let twigs = tree.twigs_with_cell(file, cell).map(|twig| tree.twigs()[twig].blocks.clone());
                let found: Vec<usize> = twigs.flat_map(|own| read.with_cell(own, cell)).collect();
                assert_eq!(found, tree.of_file(file).filter(holds).collect::<Vec<_>>());
            }
        }
        std::fs::remove_file(path).expect("a file");
    }
}
