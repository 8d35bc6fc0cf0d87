//! When pings are made: in blocks of three, so that any ping's time is found by itself, and gaps are uneven.

use super::draw::Stream;
use crate::time::DAY_MS;
use std::ops::Range;

/// Pings of a block. The times of a block are drawn together, evenly over the block, and sorted: at 200 a
/// day a gap lasts 7.2 minutes in the mean and 41 at most, and 8% of the gaps exceed 15 minutes.
pub const BLOCK: u64 = 3;
/// Pings of one person are at least this far apart, or a quarter of the mean gap where that is less.
const GAP_MS_MIN: u64 = 30_000;
/// Most pings a person and day: the mean gap is 4.3 s then, and the least is just above 1 s.
pub const PINGS_A_DAY_MAX: u64 = 20_000;

/// The times of day of all pings.
#[derive(Debug)]
pub struct Clock {
    draws: Stream,
    gap_ms: u64,
    /// Where each block starts in the day, and the day's end.
    starts_ms: Vec<u64>,
    /// What of each block is free of the least gaps, ms.
    free_ms: Vec<u64>,
}

/// One block of one day: what is the same for all persons.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    draws: Stream,
    start_ms: u64,
    free_ms: u64,
    gap_ms: u64,
    /// The number of its first ping.
    pub first: u64,
}

impl Clock {
    /// For at most so many pings a person and day.
    pub fn new(pings: u64, draws: Stream) -> Self {
        let gap_ms = GAP_MS_MIN.min(DAY_MS as u64 / pings / 4);
        let firsts = (0..pings).step_by(BLOCK as usize).chain([pings]);
        let starts_ms: Vec<u64> = firsts.map(|first| first * DAY_MS as u64 / pings).collect();
        let counts = (0..pings).step_by(BLOCK as usize).map(|first| (pings - first).min(BLOCK));
        let lengths_ms = starts_ms.windows(2).map(|w| w[1] - w[0]);
        let free_ms = lengths_ms.zip(counts).map(|(length_ms, count)| length_ms - count * gap_ms).collect();
        Clock { draws, gap_ms, starts_ms, free_ms }
    }

    /// Blocks of a day.
    pub fn blocks(&self) -> u64 {
        self.free_ms.len() as u64
    }

    /// Where a block lies in the day, ms.
    pub fn range_ms(&self, block: u64) -> Range<u64> {
        self.starts_ms[block as usize]..self.starts_ms[block as usize + 1]
    }

    /// A block of the day that lies so many days before the last.
    #[inline]
    pub fn block(&self, days_before: u64, block: u64) -> Block {
        Block {
            draws: self.draws.stream((days_before << 32) + block),
            start_ms: self.starts_ms[block as usize],
            free_ms: self.free_ms[block as usize],
            gap_ms: self.gap_ms,
            first: block * BLOCK,
        }
    }
}

impl Block {
    /// The times of day of a person's `count` pings in it, ms; those after them mean nothing.
    #[inline]
    pub fn times_ms(&self, person: u64, count: u64) -> [u64; BLOCK as usize] {
        const BITS: u32 = 21;
        let draw = self.draws.draw(person);
        let at = |n: u32| {
            let part = (draw >> (BITS * n)) & ((1 << BITS) - 1);
            self.start_ms + ((part * self.free_ms) >> BITS)
        };
        let (a, b, c) = match count {
            0 | 1 => (at(0), 0, 0),
            2 => (at(0).min(at(1)), at(0).max(at(1)), 0),
            _ => {
                let (low, high) = (at(0).min(at(1)), at(0).max(at(1)));
                (low.min(at(2)), low.max(high.min(at(2))), high.max(at(2)))
            }
        };
        [a, b + self.gap_ms, c + 2 * self.gap_ms]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_rise_and_keep_their_distance() {
        for pings in [1, 2, 3, 4, 7, 200, 5_000, PINGS_A_DAY_MAX] {
            let clock = Clock::new(pings, Stream::of_seed(1));
            assert_eq!(clock.range_ms(clock.blocks() - 1).end, DAY_MS as u64);
            for person in 0..20 {
                let mut last = None;
                for block in (0..clock.blocks()).map(|b| clock.block(0, b)) {
                    let count = (pings - block.first).min(BLOCK);
                    for time in block.times_ms(person, count).into_iter().take(count as usize) {
                        assert!(time < DAY_MS as u64);
                        assert!(last.is_none_or(|last| time >= last + 1_000), "{pings}: {last:?}, {time}");
                        last = Some(time);
                    }
                }
            }
        }
    }
}
