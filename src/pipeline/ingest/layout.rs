//! How the rows of a source become files: each a day and a run of cells, in the order of space and time.

use crate::pipeline::linking::{column, times};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{UInt16Type, UInt32Type, UInt64Type};
use hashbrown::HashMap;

/// How many rows of each day lie in each cell.
pub type Census = HashMap<String, HashMap<u64, u64>>;

/// The rows of a feed in the order of space and time.
pub fn order_in_space(rows: &RecordBatch, feed: u16) -> Vec<u32> {
    let feeds = column(rows, "feed").as_primitive::<UInt16Type>().values();
    let cells = column(rows, "cell").as_primitive::<UInt64Type>().values();
    let inputs = column(rows, "input").as_primitive::<UInt32Type>().values();
    let numbers = column(rows, "row").as_primitive::<UInt64Type>().values();
    let times = times(rows).values();
    let mut order: Vec<u32> =
        (0..rows.num_rows() as u32).filter(|row| feeds[*row as usize] == feed).collect();
    order.sort_unstable_by_key(|row| {
        let row = *row as usize;
        (cells[row], times[row], inputs[row], numbers[row])
    });
    order
}

/// The parts that become files: each a day and a run of cells.
pub struct Layout {
    /// Day and first cell, in this order.
    pub parts: Vec<(String, u64)>,
}

impl Layout {
    /// Parts of so many rows, at most, about.
    pub fn new(census: Census, file_rows: u64) -> Self {
        let mut parts = Vec::new();
        for (day, counts) in census {
            let mut counts: Vec<(u64, u64)> = counts.into_iter().collect();
            counts.sort_unstable();
            let mut rows = u64::MAX;
            for (cell, count) in counts {
                if rows.saturating_add(count) > file_rows {
                    // The first part of a day begins at no cell at all.
                    parts.push((day.clone(), if rows == u64::MAX { 0 } else { cell }));
                    rows = 0;
                }
                rows += count;
            }
        }
        parts.sort();
        Layout { parts }
    }

    /// The part of a row.
    pub fn part(&self, day: &str, cell: u64) -> usize {
        self.parts.partition_point(|(other, first)| (other.as_str(), *first) <= (day, cell)).saturating_sub(1)
    }
}
