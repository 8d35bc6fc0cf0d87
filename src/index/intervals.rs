//! Time ranges by place, found by overlap: one array, in which the ranges of a place stand together, sorted, and
//! are read as a balanced tree, each node of which knows the latest end below it (the augmented interval tree
//! of Cormen et al., laid out flat). What is far away is passed over before it is looked at closely.

use crate::time::Millis;
use hashbrown::HashMap;
use std::hash::Hash;

/// So few ranges are looked at one by one.
const FEW: usize = 16;
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
    item: u32,
    /// The bits of degrees.
    lat: u32,
    lon: u32,
    /// The latest end of those that it is the middle of.
    end_max: u32,
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
        range.end > self.start
            && !far(range.lat, self.lat, self.lat_reach)
            && !far(range.lon, self.lon, self.lon_reach)
    }
}

/// A query, and where the ranges of its place are.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    from: u32,
    length: u32,
    wanted: Wanted,
}

/// Ranges that can be asked, by place, which of them overlap another.
#[derive(Debug, Clone)]
pub struct Intervals<K> {
    places: HashMap<K, (u32, u32)>,
    first: Millis,
    unit_ms: Millis,
    sorted: Vec<Range>,
}

impl<K> Default for Intervals<K> {
    fn default() -> Self {
        Intervals { places: HashMap::new(), first: 0, unit_ms: 1, sorted: Vec::new() }
    }
}

impl<K: Eq + Hash> Intervals<K> {
    /// Takes all ranges that `all` gives to what it is called with, the same each time.
    pub fn new(all: impl Fn(&mut dyn FnMut(K, Interval))) -> Self {
        let mut places: HashMap<K, (u32, u32)> = HashMap::new();
        let (mut first, mut last) = (Millis::MAX, Millis::MIN);
        all(&mut |place, range| {
            places.entry(place).or_default().1 += 1;
            (first, last) = (first.min(range.start), last.max(range.end));
        });
        let mut count = 0;
        for (start, length) in places.values_mut() {
            *start = count;
            count += std::mem::take(length);
        }
        let unit_ms = last.saturating_sub(first) / Millis::from(u32::MAX - 1) + 1;
        let mut intervals =
            Intervals { places, first, unit_ms, sorted: vec![Range::default(); count as usize] };
        all(&mut |place, range| {
            let (start, end) = intervals.units(range.start, range.end);
            if let Some((from, length)) = intervals.places.get_mut(&place) {
                let (lat, lon) = ((range.lat as f32).to_bits(), (range.lon as f32).to_bits());
                intervals.sorted[(*from + *length) as usize] =
                    Range { start, end, item: range.item, lat, lon, end_max: end };
                *length += 1;
            }
        });
        for (from, length) in intervals.places.values() {
            let place = *from as usize..(from + length) as usize;
            intervals.sorted[place.clone()].sort_unstable();
            note_ends(&mut intervals.sorted[place]);
        }
        intervals
    }

    /// Rounded outwards, where a unit is more than a millisecond.
    #[inline]
    fn units(&self, start: Millis, end: Millis) -> (u32, u32) {
        let since = |at: Millis| at.saturating_sub(self.first).max(0);
        let unit = |count: Millis| count.min(Millis::from(u32::MAX)) as u32;
        if self.unit_ms == 1 {
            return (unit(since(start)), unit(since(end)));
        }
        (unit(since(start) / self.unit_ms), unit((since(end) + self.unit_ms - 1) / self.unit_ms))
    }

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        self.sorted.len() * size_of::<Range>()
            + self.places.capacity() * (size_of::<K>() + size_of::<(u32, u32)>() + 1)
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
        let (from, length) = *self.places.get(place)?;
        let (start, end) = self.units(query.start, query.end);
        let wanted = Wanted {
            start,
            end,
            lat: query.lat as f32,
            lon: query.lon as f32,
            lat_reach: query.lat_reach as f32 + OFF_DEGREES,
            lon_reach: query.lon_reach as f32 + OFF_DEGREES,
        };
        Some(Asked { from, length, wanted })
    }

    /// Something of what [`Intervals::find`] looks at first, which means nothing: to have it near.
    #[inline]
    pub fn touch(&self, asked: &Asked) -> u32 {
        let middle = (asked.from + asked.length / 2) as usize;
        self.sorted[middle].start
    }

    /// What [`Intervals::overlapping`] finds.
    #[inline]
    pub fn find(&self, Asked { from, length, wanted }: &Asked, each: &mut impl FnMut(u32)) {
        let place = *from as usize..(from + length) as usize;
        visit(&self.sorted[place], wanted, each);
    }
}

fn visit(sorted: &[Range], wanted: &Wanted, each: &mut impl FnMut(u32)) {
    if sorted.len() <= FEW {
        let begun = sorted.iter().take_while(|range| range.start < wanted.end);
        begun.filter(|range| wanted.meets(range)).for_each(|range| each(range.item));
        return;
    }
    let middle = sorted.len() / 2;
    let here = &sorted[middle];
    if here.end_max <= wanted.start {
        return;
    }
    visit(&sorted[..middle], wanted, each);
    if here.start < wanted.end {
        if wanted.meets(here) {
            each(here.item);
        }
        visit(&sorted[middle + 1..], wanted, each);
    }
}

fn note_ends(sorted: &mut [Range]) -> u32 {
    let (before, rest) = sorted.split_at_mut(sorted.len() / 2);
    let Some((middle, after)) = rest.split_first_mut() else { return 0 };
    middle.end_max = middle.end.max(note_ends(before)).max(note_ends(after));
    middle.end_max
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_what_a_loop_finds(
            ranges in prop::collection::vec((0i64..50, 1i64..20, 0u8..3), 0..120),
            from in 0i64..60,
            length in 1i64..10,
            unit in prop::sample::select(vec![1, 1 << 40]),
        ) {
            let all: Vec<(u8, Interval)> = ranges.iter().zip(0..).map(|(&(start, dwell, place), item)| {
                let (start, end) = (start * unit, (start + dwell) * unit);
                (place, Interval { start, end, lat: f64::NAN, lon: 0.0, item })
            }).collect();
            let intervals = Intervals::new(|add| all.iter().for_each(|(place, range)| add(*place, *range)));
            for place in 0..3 {
                let mut found = Vec::new();
                let query = Query::anywhere(from * unit, (from + length) * unit);
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
