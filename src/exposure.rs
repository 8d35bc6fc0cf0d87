//! An exposure: all encounters of one person with one case, added up.

use crate::dose::{dose_h, expected_ms};
use crate::encounter::{Encounter, Kind};
use crate::rule::{ExposureRule, PEAK_MS, Source};
use crate::time::{Millis, unite};

/// What one person shared with one case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exposure {
    /// The case, by its number.
    pub case: u32,
    /// Whether the person is a case of the job too.
    pub person_is_case: bool,
    /// Whether somebody dwells there as long as the rule asks.
    pub is_resident: bool,
    /// Length of the union of the direct overlaps.
    pub direct_ms: Millis,
    /// Length of the union of the indirect overlaps.
    pub indirect_ms: Millis,
    /// Length of the union of the direct overlaps of two bracketed stays.
    pub confirmed_ms: Millis,
    /// Longest run of the direct union, short gaps closed.
    pub longest_ms: Millis,
    /// Most direct time within some 24 hours.
    pub peak_24h_ms: Millis,
    /// The time that they are expected to have been together, where the rule weighs that; else no number.
    pub expected_ms: f64,
    /// The dose in hours, likewise.
    pub dose_h: f64,
    /// Encounters of both kinds.
    pub encounter_count: u64,
    /// Smallest distance, metres; NaN where none was compared.
    pub distance_m_min: f64,
    /// Start of the first encounter.
    pub first_at: Millis,
    /// End of the last encounter.
    pub last_at: Millis,
    /// The person's sources, a bit each ([`crate::rule::Source::bit`]).
    pub sources: u8,
    /// Whether both sat near each other on a trip, at once.
    pub by_trip: bool,
}

/// How overlaps are added up.
#[derive(Debug, Clone, Copy)]
pub struct Adding<'a> {
    /// The rule.
    pub rule: &'a ExposureRule,
    /// The cases' onsets, by their number, where the rule weighs how sure encounters are.
    pub onsets: Option<&'a [Option<Millis>]>,
}

/// The exposures of one person, in the order of the cases, from the overlaps and the encounters that
/// [`crate::encounter::encounters`] leaves, both sorted by case. `ranges` is room to work in; `exposures`
/// holds only these on return.
pub fn exposures(
    overlaps: &[Encounter],
    encounters: &[Encounter],
    person_is_case: bool,
    rule: &Adding<'_>,
    ranges: &mut Vec<(Millis, Millis)>,
    exposures: &mut Vec<Exposure>,
) {
    exposures.clear();
    let pairs = overlaps.chunk_by(|a, b| a.case == b.case).zip(encounters.chunk_by(|a, b| a.case == b.case));
    exposures.extend(
        pairs.map(|(overlaps, encounters)| exposure(overlaps, encounters, person_is_case, rule, ranges)),
    );
}

/// One exposure from all of these overlaps and encounters: of one case, or of several as if they were one (it
/// bears the first one's number then).
pub fn exposure(
    overlaps: &[Encounter],
    encounters: &[Encounter],
    person_is_case: bool,
    Adding { rule, onsets }: &Adding<'_>,
    ranges: &mut Vec<(Millis, Millis)>,
) -> Exposure {
    let mut union_of = |kind: Kind, end: &dyn Fn(&Encounter) -> Millis| {
        let found = overlaps.iter().filter(|e| e.kind == kind).map(|e| (e.start, end(e)));
        ranges.clear();
        ranges.extend(found.filter(|(start, end)| start < end));
        unite(ranges);
        length(ranges)
    };
    let confirmed_ms = union_of(Kind::Direct, &|e| e.sure);
    let indirect_ms = union_of(Kind::Indirect, &|e| e.end);
    let direct_ms = union_of(Kind::Direct, &|e| e.end);
    let spans = encounters
        .iter()
        .fold((Millis::MAX, Millis::MIN), |(first, last), e| (first.min(e.start), last.max(e.end)));
    Exposure {
        case: encounters[0].case,
        person_is_case,
        is_resident: true,
        direct_ms,
        indirect_ms,
        confirmed_ms,
        longest_ms: longest_ms(ranges, rule.merge_gap_ms),
        // What all happened within the stretch is all inside it.
        peak_24h_ms: if spans.1 - spans.0 <= PEAK_MS { direct_ms } else { peak_ms(ranges, PEAK_MS) },
        expected_ms: onsets.map_or(f64::NAN, |_| expected_ms(overlaps)),
        dose_h: onsets.map_or(f64::NAN, |onsets| dose_h(overlaps, onsets, rule)),
        encounter_count: encounters.len() as u64,
        distance_m_min: encounters.iter().map(|e| e.distance_m).fold(f64::NAN, f64::min),
        first_at: spans.0,
        last_at: spans.1,
        sources: encounters.iter().fold(0, |set, e| set | e.source.bit()),
        by_trip: encounters.iter().any(|e| e.source == Source::Trip && e.kind == Kind::Direct),
    }
}

fn length(union: &[(Millis, Millis)]) -> Millis {
    union.iter().map(|(start, end)| end - start).sum()
}

/// The longest run of a union after gaps of at most `gap_ms_max` are closed; a closed gap counts.
pub fn longest_ms(union: &[(Millis, Millis)], gap_ms_max: Millis) -> Millis {
    let mut longest = 0;
    let mut run: Option<(Millis, Millis)> = None;
    for &(start, end) in union {
        let from = match run {
            Some((from, to)) if start - to <= gap_ms_max => from,
            _ => start,
        };
        run = Some((from, end));
        longest = longest.max(end - from);
    }
    longest
}

/// The most of a union that lies within some stretch of `stretch_ms`. Moving the stretch, its content
/// can only stop growing where it starts with a range or ends with one, so these are tried.
pub fn peak_ms(union: &[(Millis, Millis)], stretch_ms: Millis) -> Millis {
    let mut peak = 0;
    // Starting with each range; `ahead` is the first range that ends beyond the stretch.
    let (mut ahead, mut inside) = (0, 0);
    for &(start, end) in union {
        let stop = start + stretch_ms;
        while let Some(&(from, to)) = union.get(ahead).filter(|r| r.1 <= stop) {
            inside += to - from;
            ahead += 1;
        }
        let part = union.get(ahead).map_or(0, |r| (stop - r.0).max(0));
        peak = peak.max(inside + part);
        // A range longer than the stretch was never counted as inside.
        if end <= stop {
            inside -= end - start;
        } else {
            ahead += 1;
        }
    }
    // Ending with each range, the same seen from the other side.
    let (mut behind, mut inside) = (union.len(), 0);
    for &(start, end) in union.iter().rev() {
        let stop = end - stretch_ms;
        while let Some(&(from, to)) = behind.checked_sub(1).and_then(|i| union.get(i)).filter(|r| r.0 >= stop)
        {
            inside += to - from;
            behind -= 1;
        }
        let part = behind.checked_sub(1).and_then(|i| union.get(i)).map_or(0, |r| (r.1 - stop).max(0));
        peak = peak.max(inside + part);
        if start >= stop {
            inside -= end - start;
        } else {
            behind -= 1;
        }
    }
    peak
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::union;
    use proptest::prelude::*;

    #[test]
    fn gaps_count_in_the_longest_run() {
        let union = [(0, 10), (15, 20), (40, 45)];
        assert_eq!(longest_ms(&union, 0), 10);
        assert_eq!(longest_ms(&union, 5), 20);
        assert_eq!(longest_ms(&union, 20), 45);
    }

    proptest! {
        #[test]
        fn the_peak_is_what_sliding_by_a_millisecond_finds(
            ranges in prop::collection::vec((0i64..80, 1i64..15), 0..8),
            stretch in 1i64..30,
        ) {
            let union = union(ranges.iter().map(|&(start, dwell)| (start, start + dwell)).collect());
            let slid = (-30..120).map(|from: i64| {
                union.iter().map(|&(s, e)| (e.min(from + stretch) - s.max(from)).max(0)).sum::<i64>()
            }).max().unwrap_or(0);
            prop_assert_eq!(peak_ms(&union, stretch), slid);
        }
    }
}
