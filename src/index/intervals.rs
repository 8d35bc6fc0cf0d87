//! Time ranges by place, found by overlap: one array, in which the ranges of a place stand together, sorted. Where there are many,
//! they are dealt to slots of time that hold a few of them each, so that what overlaps another is found in one stretch of the
//! array, whatever there is of that place before and after; a range that lasts longer stands in each of its slots. What is far
//! away is passed over before it is looked at closely.

use crate::time::Millis;
use hashbrown::HashMap;
use std::hash::Hash;

/// So few ranges of a place are looked at one by one; of more a slot has about so many.
const FEW: usize = 16;
const SLOT_RANGES: u32 = 8;
/// Marks the number of an item whose range began before this slot.
const BEGAN_BEFORE: u32 = 1 << 31;
/// Degrees by which a position can be off, which is kept in 32 bits: a step at 180 degrees, and more.
const OFF_DEGREES: f32 = 4e-5;

/// One range and what it stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// First instant.
    pub start: Millis,
    /// First instant after.
    pub end: Millis,
    /// Where, degrees; no number where places are the same by themselves.
    pub lat: f64,
    /// Where, degrees.
    pub lon: f64,
    /// What it stands for.
    pub item: u32,
}

/// What is asked for: ranges that overlap [start, end), and lie so near.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Query {
    /// First instant.
    pub start: Millis,
    /// First instant after.
    pub end: Millis,
    /// Where, degrees.
    pub lat: f64,
    /// Where, degrees.
    pub lon: f64,
    /// At most so many degrees of latitude away.
    pub lat_reach: f64,
    /// At most so many degrees of longitude away.
    pub lon_reach: f64,
}

impl Query {
    /// All that overlap a time range, wherever they are.
    pub fn anywhere(start: Millis, end: Millis) -> Self {
        let (lat_reach, lon_reach) = (f64::INFINITY, f64::INFINITY);
        Query { start, end, lat: 0.0, lon: 0.0, lat_reach, lon_reach }
    }
}

/// A range as it is kept: times in units from the first instant of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Range {
    start: u32,
    end: u32,
    /// The number of what it stands for, and whether it began before the slot that it stands in.
    item: u32,
    /// The bits of degrees.
    lat: u32,
    lon: u32,
}

/// Where the ranges of a place stand.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    from: u32,
    length: u32,
    /// Where among the starts of slots its own are; none has a single slot.
    slots: Option<Slots>,
}

/// Slots of one place, of two to the power of `shift` units each.
#[derive(Debug, Clone, Copy)]
struct Slots {
    first: u32,
    shift: u32,
    /// The number of its last slot.
    last: u32,
    /// Where the start of its first slot stands; after that of the last, the end follows.
    at: u32,
}

impl Slots {
    #[inline]
    fn of(&self, time: u32) -> u32 {
        (time.saturating_sub(self.first) >> self.shift).min(self.last)
    }
}

/// A query in the same units.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    start: u32,
    end: u32,
    lat: f32,
    lon: f32,
    lat_reach: f32,
    lon_reach: f32,
}

impl Wanted {
    #[inline]
    fn meets(&self, range: &Range) -> bool {
        // What is no number is not too far.
        let far = |at: u32, here: f32, reach: f32| (f32::from_bits(at) - here).abs() > reach;
        // All at once: which of them decides is hard to foretell.
        (range.start < self.end)
            & (range.end > self.start)
            & !far(range.lat, self.lat, self.lat_reach)
            & !far(range.lon, self.lon, self.lon_reach)
    }
}

/// A query, and where the ranges are that it may find: those of its first slot, and those of further ones.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    from: u32,
    further: u32,
    end: u32,
    wanted: Wanted,
}

/// Ranges that can be asked, by place, which of them overlap another.
#[derive(Debug, Clone)]
pub struct Intervals<K> {
    places: HashMap<K, Place>,
    first: Millis,
    unit_ms: Millis,
    sorted: Vec<Range>,
    /// Where slots start among these.
    slots: Vec<u32>,
}

impl<K> Default for Intervals<K> {
    fn default() -> Self {
        Intervals { places: HashMap::new(), first: 0, unit_ms: 1, sorted: Vec::new(), slots: Vec::new() }
    }
}

impl<K: Eq + Hash> Intervals<K> {
    /// Takes all ranges that `all` gives to what it is called with, the same each time.
    pub fn new(all: impl Fn(&mut dyn FnMut(K, Interval))) -> Self {
        let mut places: HashMap<K, Place> = HashMap::new();
        let (mut first, mut last) = (Millis::MAX, Millis::MIN);
        all(&mut |place, range| {
            places.entry(place).or_default().length += 1;
            (first, last) = (first.min(range.start), last.max(range.end));
        });
        let mut count = 0;
        for Place { from, length, .. } in places.values_mut() {
            *from = count;
            count += std::mem::take(length);
        }
        let unit_ms = last.saturating_sub(first) / Millis::from(u32::MAX - 1) + 1;
        let sorted = vec![Range::default(); count as usize];
        let mut intervals = Intervals { places, first, unit_ms, sorted, slots: Vec::new() };
        all(&mut |place, range| {
            let (start, end) = intervals.units(range.start, range.end);
            if let Some(Place { from, length, .. }) = intervals.places.get_mut(&place) {
                let (lat, lon) = ((range.lat as f32).to_bits(), (range.lon as f32).to_bits());
                intervals.sorted[(*from + *length) as usize] =
                    Range { start, end, item: range.item, lat, lon };
                *length += 1;
            }
        });
        for Place { from, length, .. } in intervals.places.values() {
            intervals.sorted[*from as usize..(from + length) as usize].sort_unstable();
        }
        if intervals.places.values().any(|place| place.length as usize > FEW) {
            intervals.deal();
        }
        intervals
    }

    /// Deals the ranges of places that have many of them to slots.
    fn deal(&mut self) {
        let Intervals { places, sorted, slots, .. } = self;
        let mut dealt: Vec<Range> = Vec::with_capacity(sorted.len() + sorted.len() / 2);
        for place in places.values_mut() {
            let own = &sorted[place.from as usize..(place.from + place.length) as usize];
            place.from = dealt.len() as u32;
            if own.len() <= FEW {
                dealt.extend_from_slice(own);
                continue;
            }
            let (first, end) = (own[0].start, own.iter().map(|range| range.end).max().unwrap_or(0));
            // Not so short that most ranges would stand in several.
            let lasting: u64 = own.iter().map(|range| u64::from(range.end.saturating_sub(range.start))).sum();
            let slot = u64::from(end.saturating_sub(first)) * u64::from(SLOT_RANGES) / own.len() as u64;
            let slot = slot.max(lasting / own.len() as u64).max(1);
            let mut own_slots = Slots {
                first,
                shift: slot.next_power_of_two().ilog2().min(31),
                last: u32::MAX,
                at: slots.len() as u32,
            };
            own_slots.last = own_slots.of(end.saturating_sub(1));
            let last_of = |range: &Range| own_slots.of(range.end.max(range.start + 1) - 1);
            let (mut next, mut lasting): (usize, Vec<Range>) = (0, Vec::new());
            for slot in 0..=own_slots.last {
                slots.push(dealt.len() as u32);
                // Those that go on come first: they began before.
                dealt.extend(lasting.iter().map(|range| Range { item: range.item | BEGAN_BEFORE, ..*range }));
                while let Some(range) = own.get(next).filter(|range| own_slots.of(range.start) == slot) {
                    dealt.push(*range);
                    lasting.push(*range);
                    next += 1;
                }
                lasting.retain(|range| last_of(range) > slot);
            }
            slots.push(dealt.len() as u32);
            (place.length, place.slots) = (0, Some(own_slots));
        }
        dealt.shrink_to_fit();
        *sorted = dealt;
    }

    /// Rounded outwards, where a unit is more than a millisecond.
    #[inline]
    fn units(&self, start: Millis, end: Millis) -> (u32, u32) {
        let since = |at: Millis| at.saturating_sub(self.first).max(0);
        let unit = |count: Millis| count.min(Millis::from(u32::MAX)) as u32;
        if self.unit_ms == 1 {
            return (unit(since(start)), unit(since(end)));
        }
        let (start, end) = (since(start), since(end));
        (unit(start / self.unit_ms), unit(end / self.unit_ms + Millis::from(end % self.unit_ms > 0)))
    }

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        self.sorted.len() * size_of::<Range>()
            + self.places.capacity() * (size_of::<K>() + size_of::<Place>() + 1)
            + self.slots.len() * size_of::<u32>()
    }

    /// Calls `each` with the item of every range of a place that overlaps the query, and perhaps of some that
    /// nearly do.
    #[inline]
    pub fn overlapping(&self, place: &K, query: &Query, each: &mut impl FnMut(u32)) {
        if let Some(asked) = self.ask(place, query) {
            self.find(&asked, each);
        }
    }

    /// Where what a query asks for is found; `None` where there is nothing.
    #[inline]
    pub fn ask(&self, place: &K, query: &Query) -> Option<Asked> {
        let Place { from, length, slots } = *self.places.get(place)?;
        let (start, end) = self.units(query.start, query.end);
        let wanted = Wanted {
            start,
            end,
            lat: query.lat as f32,
            lon: query.lon as f32,
            lat_reach: query.lat_reach as f32 + OFF_DEGREES,
            lon_reach: query.lon_reach as f32 + OFF_DEGREES,
        };
        let (from, further, end) = match slots {
            None => (from, from + length, from + length),
            Some(slots) => {
                let start_of = |slot: u32| self.slots[(slots.at + slot) as usize];
                let first = slots.of(start);
                let last = slots.of(end.max(start.saturating_add(1)) - 1);
                (start_of(first), start_of(first + 1), start_of(last + 1))
            }
        };
        (from < end).then_some(Asked { from, further, end, wanted })
    }

    /// Something of what [`Intervals::find`] looks at first, which means nothing: to have it near.
    #[inline]
    pub fn touch(&self, asked: &Asked) -> u32 {
        self.sorted[asked.from as usize].start
    }

    /// What [`Intervals::overlapping`] finds.
    #[inline]
    pub fn find(&self, Asked { from, further, end, wanted }: &Asked, each: &mut impl FnMut(u32)) {
        let range = |from: u32, to: u32| self.sorted[from as usize..to as usize].iter();
        range(*from, *further)
            .filter(|range| wanted.meets(range))
            .for_each(|range| each(range.item & !BEGAN_BEFORE));
        // What began before was found in the slot before.
        range(*further, *end)
            .filter(|range| range.item & BEGAN_BEFORE == 0 && wanted.meets(range))
            .for_each(|range| each(range.item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_what_a_loop_finds(
            ranges in prop::collection::vec((0i64..50, 1i64..20, 0u8..3), 0..120),
            from in prop_oneof![-9i64..90, Just(1 << 35)],
            length in 0i64..10,
            unit in prop::sample::select(vec![1, 1 << 26, 1 << 40]),
            many in 1usize..40,
        ) {
            let all: Vec<(u8, Interval)> = ranges.iter().cycle().take(ranges.len() * many).zip(0..).map(|(&(start, dwell, place), item)| {
                let (start, end) = (start * unit, (start + dwell) * unit);
                (place, Interval { start, end, lat: f64::NAN, lon: 0.0, item })
            }).collect();
            let intervals = Intervals::new(|add| all.iter().for_each(|(place, range)| add(*place, *range)));
            for place in 0..3 {
                let mut found = Vec::new();
                let query = Query::anywhere(from.saturating_mul(unit), (from + length).saturating_mul(unit));
                intervals.overlapping(&place, &query, &mut |item| found.push(item));
                found.sort_unstable();
                let overlap = |i: &Interval| i.start < query.end && query.start < i.end;
                let expected: Vec<u32> =
                    all.iter().filter(|(p, i)| *p == place && overlap(i)).map(|(_, i)| i.item).collect();
                if unit == 1 {
                    prop_assert_eq!(found, expected);
                } else {
                    prop_assert!(expected.iter().all(|item| found.contains(item)));
                }
            }
        }

        #[test]
        fn passes_over_only_what_is_far(lat in -80.0..80.0, lon in -179.0..179.0, dlat in -2e-3..2e-3, dlon in -2e-3..2e-3) {
            let range = Interval { start: 0, end: 10, lat: lat + dlat, lon: lon + dlon, item: 7 };
            let intervals = Intervals::new(|add| add((), range));
            let query = Query { start: 5, end: 6, lat, lon, lat_reach: 1e-3, lon_reach: 1e-3 };
            let mut found = false;
            intervals.overlapping(&(), &query, &mut |_| found = true);
            if f64::abs(dlat) <= 1e-3 && f64::abs(dlon) <= 1e-3 {
                prop_assert!(found);
            }
            if f64::abs(dlat) > 1.2e-3 || f64::abs(dlon) > 1.2e-3 {
                prop_assert!(!found);
            }
        }
    }
}
