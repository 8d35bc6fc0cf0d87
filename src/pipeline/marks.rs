//! The marked set: which persons matter in which time slots, as one bitmap of a fixed size.
//!
//! Bits are shared, so that some rows are gathered that need not be; none that need be is missed.

use crate::person::PersonRef;
use crate::ping::{NO_UNTIL, Ping};
use crate::rule::{Source, StayRule};
use crate::time::Millis;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits for each row that might be marked.
const BITS_PER_ROW: u64 = 8;
const BITS_MIN: u64 = 1 << 16;

/// The marked (person, source, time slot) set.
#[derive(Debug)]
pub struct Marks {
    bits: Vec<AtomicU64>,
    mask: u64,
    /// By source: length of a slot; `None` where a filter makes all of a track matter.
    slot_ms: [Option<Millis>; 3],
}

impl Marks {
    /// A set for so many rows, of at most so many bytes.
    pub fn new(rows: u64, bytes_max: u64, feeds: &[StayRule]) -> Self {
        let wanted = (rows * BITS_PER_ROW).max(BITS_MIN).next_power_of_two();
        let mut bits = wanted;
        while bits > BITS_MIN && bits / 8 > bytes_max {
            bits /= 2;
        }
        let slot_ms = Source::ALL.map(|source| {
            let of_source = || feeds.iter().filter(|f| f.source == source);
            let longest = of_source().map(|f| f.hold_ms).max().unwrap_or(0).max(60_000);
            (!of_source().any(StayRule::filters)).then_some(longest)
        });
        Marks { bits: (0..bits / 64).map(|_| AtomicU64::new(0)).collect(), mask: bits - 1, slot_ms }
    }

    /// Marks a ping: its own instant, and all in which its closer can come.
    pub fn mark(&self, person: PersonRef<'_>, ping: &Ping, rule: &StayRule) {
        let spread = person.spread();
        let last = if ping.until == NO_UNTIL { ping.time + rule.hold_ms } else { ping.time };
        for slot in self.slot(rule.source, ping.time)..=self.slot(rule.source, last) {
            let bit = self.bit(spread, rule.source, slot);
            let (word, mask) = (&self.bits[(bit >> 6) as usize], 1 << (bit & 63));
            // Most bits are set already, by the same person's ping before: looking is cheaper than locking.
            if word.load(Ordering::Relaxed) & mask == 0 {
                word.fetch_or(mask, Ordering::Relaxed);
            }
        }
    }

    /// Whether a row of this person, source and time may be needed.
    #[inline]
    pub fn has(&self, spread: u64, source: Source, time: Millis) -> bool {
        let bit = self.bit(spread, source, self.slot(source, time));
        self.bits[(bit >> 6) as usize].load(Ordering::Relaxed) >> (bit & 63) & 1 == 1
    }

    #[inline]
    fn slot(&self, source: Source, time: Millis) -> i64 {
        self.slot_ms[source as usize].map_or(0, |slot_ms| time.div_euclid(slot_ms))
    }

    #[inline]
    fn bit(&self, spread: u64, source: Source, slot: i64) -> u64 {
        let key = spread ^ (slot as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ ((source as u64) << 61);
        let mixed = (key ^ (key >> 31)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 29)) & self.mask
    }
}
