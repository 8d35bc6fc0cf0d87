//! Time ranges of one place, found by overlap: a sorted array read as a balanced tree, each node of
//! which knows the latest end below it (the augmented interval tree of Cormen et al., laid out flat).

use crate::time::Millis;

/// One range and what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval {
    /// First instant.
    pub start: Millis,
    /// First instant after.
    pub end: Millis,
    /// What it stands for.
    pub item: u32,
}

/// So few ranges are looked at one by one.
const FEW: usize = 16;

/// Ranges that can be asked which of them overlap another.
#[derive(Debug, Clone, Default)]
pub struct Intervals {
    sorted: Vec<Interval>,
    end_max: Vec<Millis>,
}

impl Intervals {
    /// Sorts the ranges and notes the latest end below each.
    pub fn new(mut intervals: Vec<Interval>) -> Self {
        intervals.sort_unstable();
        let mut end_max = vec![Millis::MIN; intervals.len()];
        note_ends(&intervals, &mut end_max, 0, intervals.len());
        Intervals { sorted: intervals, end_max }
    }

    /// Calls `each` with the item of every range that overlaps [start, end).
    pub fn overlapping(&self, start: Millis, end: Millis, each: &mut impl FnMut(u32)) {
        self.visit(0, self.sorted.len(), start, end, each);
    }

    fn visit(&self, low: usize, high: usize, start: Millis, end: Millis, each: &mut impl FnMut(u32)) {
        if high - low <= FEW {
            let few = self.sorted[low..high].iter().take_while(|range| range.start < end);
            few.filter(|range| range.end > start).for_each(|range| each(range.item));
            return;
        }
        let middle = low + (high - low) / 2;
        if self.end_max[middle] <= start {
            return;
        }
        self.visit(low, middle, start, end, each);
        let here = self.sorted[middle];
        if here.start < end {
            if here.end > start {
                each(here.item);
            }
            self.visit(middle + 1, high, start, end, each);
        }
    }
}

fn note_ends(sorted: &[Interval], end_max: &mut [Millis], low: usize, high: usize) -> Millis {
    if low >= high {
        return Millis::MIN;
    }
    let middle = low + (high - low) / 2;
    let below = note_ends(sorted, end_max, low, middle).max(note_ends(sorted, end_max, middle + 1, high));
    end_max[middle] = below.max(sorted[middle].end);
    end_max[middle]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_what_a_loop_finds(
            ranges in prop::collection::vec((0i64..50, 1i64..20), 0..60),
            from in 0i64..60,
            length in 1i64..10,
        ) {
            let all: Vec<Interval> = ranges.iter().zip(0..)
                .map(|(&(start, dwell), item)| Interval { start, end: start + dwell, item }).collect();
            let mut found = Vec::new();
            Intervals::new(all.clone()).overlapping(from, from + length, &mut |item| found.push(item));
            found.sort_unstable();
            let expected: Vec<u32> = all.iter()
                .filter(|i| i.start < from + length && from < i.end).map(|i| i.item).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
