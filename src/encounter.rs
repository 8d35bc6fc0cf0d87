//! An encounter: one overlap of two stays at the same place, one of them a case's; a fact, unscored.

use crate::geo::{METRES_PER_DEGREE, cos_lat, haversine_of_m, wrap_degrees};
use crate::index::{By, CaseIndex, CaseStay, Found};
use crate::ping::{NO_FLOOR, NO_PLACE};
use crate::place::{PlaceKey, PlaceRule};
use crate::rice::{Within, probability_within};
use crate::rule::{EncounterRule, ExposureRule, Source};
use crate::stay::{Stay, Stays};
use crate::time::{Millis, union};
use crate::trip::Seat;
use std::ops::Range;

/// Whether the case was there at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Both at once.
    Direct,
    /// After the case, within the lag.
    Indirect,
}

impl Kind {
    /// Its name in outputs.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Indirect => "indirect",
        }
    }
}

/// One overlap, or several that touch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Encounter {
    /// The case, by its number.
    pub case: u32,
    /// Direct or indirect.
    pub kind: Kind,
    /// Source of the person's stays.
    pub source: Source,
    /// Source of the case's stays.
    pub case_source: Source,
    /// What the stays share.
    pub place: PlaceKey,
    /// First instant.
    pub start: Millis,
    /// Of an overlap: up to here both stays are bracketed.
    pub sure: Millis,
    /// First instant after.
    pub end: Millis,
    /// Smallest distance in metres; NaN where no metres were compared.
    pub distance_m: f64,
    /// Whether the stays on both sides are bracketed.
    pub bracketed: bool,
    /// Largest probability of being together, where the rule weighs that; else no number. Who meets by an id is.
    pub probability: f64,
    /// Of an overlap: the probability of being as near as a dose is taken in, times the weight of the setting.
    pub rate: f64,
    /// Of an overlap: when the case's stay ends.
    pub left: Millis,
}

/// How overlaps are weighed, where the rule weighs how uncertain positions are.
#[derive(Debug, Clone)]
pub struct Weighing<'a> {
    within: Within,
    risk_distance_m: f64,
    /// By the number of the venue.
    settings: &'a [f64],
}

impl<'a> Weighing<'a> {
    /// How a rule weighs; `settings` are the weights of venues, by their number.
    pub fn new(place: &PlaceRule, exposure: &ExposureRule, settings: &'a [f64]) -> Option<Self> {
        let PlaceRule::Probability { distance_m_max, probability_min } = *place else {
            return None;
        };
        let within = Within::new(distance_m_max, probability_min);
        Some(Weighing { within, risk_distance_m: exposure.risk_distance_m, settings })
    }

    /// The weight of where two stays meet: that of the venue, if one of them is a scan.
    fn setting(&self, mine: &Stay, theirs: &Stay) -> f64 {
        let venue = [mine, theirs].into_iter().find(|s| s.source == Source::Venue);
        venue.and_then(|s| self.settings.get(s.place as usize)).copied().unwrap_or(1.0)
    }
}

impl Encounter {
    /// A part of an overlap: bracketed if it ends no later than what is sure.
    fn part(&self, start: Millis, end: Millis) -> Self {
        Encounter { start, end, bracketed: self.sure >= end, ..*self }
    }
}

/// What decides whether two stays meet.
#[derive(Debug, Clone, Copy)]
pub struct Meets<'a> {
    /// The rule.
    pub rule: &'a EncounterRule,
    /// How overlaps are weighed, if they are.
    pub weighing: Option<&'a Weighing<'a>>,
    /// The seats of trips, by their number.
    pub seats: &'a [Seat],
}

/// Stays whose neighbours are looked up together, at most.
const TOGETHER: usize = 256;

/// A way through the stays of many persons, which finds what they overlap.
pub struct Walk<'a> {
    view: &'a Stays<'a>,
    index: &'a CaseIndex,
    /// Stays from a row on, what is found of them, and how many hits are done.
    first: usize,
    stays: Vec<Stay>,
    found: Found,
    done: usize,
}

impl<'a> Walk<'a> {
    /// At the first row.
    pub fn new(view: &'a Stays<'a>, index: &'a CaseIndex) -> Self {
        Walk { view, index, first: 0, stays: Vec::new(), found: Found::default(), done: 0 }
    }

    /// Adds every overlap of a person's stays with the cases' stays, by each of these rules to its own list. The index is over
    /// what any of them may find. All rows have to be walked, in their order.
    pub fn overlaps(
        &mut self,
        rows: Range<usize>,
        own: Option<u32>,
        rules: &[Meets<'_>],
        lists: &mut [Vec<Encounter>],
    ) {
        let mut row = rows.start;
        while row < rows.end {
            if row >= self.first + self.stays.len() {
                let end = self.view.starts.len().min(row + TOGETHER);
                self.first = row;
                self.stays.clear();
                self.stays.extend((row..end).map(|row| self.view.at(row)));
                let found = self.index.find(&self.stays, &mut self.found);
                self.stays.truncate(found);
                self.done = 0;
            }
            let end = rows.end.min(self.first + self.stays.len());
            let mut last = None;
            for hit in &self.found.hits[self.done..] {
                let at = hit.row as usize;
                if self.first + at >= end {
                    break;
                }
                self.done += 1;
                let Some((by, neighbour)) = self.index.met(hit, &self.found, own) else { continue };
                let stay = &self.stays[at];
                let (_, mut cos) = last.filter(|(before, _)| *before == at).unwrap_or((at, None));
                let mut distance_m = None;
                for (meets, list) in rules.iter().zip(&mut *lists) {
                    if let Some(meeting) = meet(by, stay, &mut cos, &mut distance_m, neighbour, meets) {
                        add(stay, neighbour, &meeting, meets.rule, list);
                    }
                }
                last = Some((at, cos));
            }
            row = end;
        }
    }
}

/// Two stays that are likely enough to be together by position.
#[derive(Debug, Clone, Copy)]
pub struct Likely {
    /// The case, by its number.
    pub case: u32,
    /// The first instant at which both are there.
    pub at: Millis,
    /// How much older the earlier of the two is.
    pub held_ms: Millis,
    /// Whether both are telephones' own positions.
    pub both_gps: bool,
    /// How likely they are together.
    pub probability: f64,
}

/// Calls `each` with all of a person's stay that a rule weighs by how uncertain positions are.
pub fn likely(
    stay: &Stay,
    own: Option<u32>,
    index: &CaseIndex,
    meets: &Meets<'_>,
    each: &mut dyn FnMut(Likely),
) {
    let (mut cos, mut found) = (None, Found::default());
    index.find(std::slice::from_ref(stay), &mut found);
    for (by, neighbour) in found.hits.iter().filter_map(|hit| index.met(hit, &found, own)) {
        let meeting =
            matches!(by, By::Position(_)).then(|| meet(by, stay, &mut cos, &mut None, neighbour, meets));
        let theirs = &neighbour.stay;
        let Some(Meeting { within: (at, end), probability, .. }) = meeting.flatten() else { continue };
        if at < end {
            each(Likely {
                case: neighbour.case,
                at,
                held_ms: at - stay.start.min(theirs.start),
                both_gps: (stay.source, theirs.source) == (Source::Gps, Source::Gps),
                probability,
            });
        }
    }
}

/// Adds the overlaps, direct and indirect, of two stays that are at the same place.
#[inline(always)]
fn add(
    stay: &Stay,
    CaseStay { case, stay: theirs, is_plain, .. }: &CaseStay,
    meeting: &Meeting,
    rule: &EncounterRule,
    found: &mut Vec<Encounter>,
) {
    let Meeting { place, distance_m, within, probability, rate } = *meeting;
    let mut add = |kind, start: Millis, end: Millis, sure: Millis| {
        let sure = sure.clamp(start, end.max(start));
        if start < end {
            found.push(Encounter {
                case: *case,
                kind,
                source: stay.source,
                case_source: theirs.source,
                place,
                start,
                sure,
                end,
                distance_m,
                bracketed: sure == end,
                probability,
                rate,
                left: theirs.end,
            });
        }
    };
    let metres = rule.place.metres();
    let case_sure = if *is_plain { theirs.sure } else { theirs.sure_within(metres) };
    let sure = stay.sure_within(metres);
    add(Kind::Direct, within.0, within.1, sure.min(case_sure));
    if rule.lag_ms > 0 {
        // The case's stay is over then: what counts is whether all of it was bracketed.
        let sure = if case_sure == theirs.end { sure } else { Millis::MIN };
        add(Kind::Indirect, stay.start.max(theirs.end), stay.end.min(theirs.end + rule.lag_ms), sure);
    }
}

struct Meeting {
    place: PlaceKey,
    distance_m: f64,
    /// When they are together, both being there.
    within: (Millis, Millis),
    probability: f64,
    rate: f64,
}

impl Meeting {
    /// Where nothing is weighed.
    fn sure(place: PlaceKey, distance_m: f64, within: (Millis, Millis)) -> Self {
        Meeting { place, distance_m, within, probability: f64::NAN, rate: f64::NAN }
    }
}

/// Whether two stays meet, and how; what is asked by the million is told where it is asked. `cos` is that of the latitude of
/// `mine`, once it is known, and `apart_m` how far apart the two stand.
#[inline(always)]
fn meet(
    by: By,
    mine: &Stay,
    cos: &mut Option<f64>,
    apart_m: &mut Option<f64>,
    case: &CaseStay,
    meets: &Meets<'_>,
) -> Option<Meeting> {
    let theirs = &case.stay;
    let both = (mine.start.max(theirs.start), mine.end.min(theirs.end));
    let mut apart_m = || {
        *apart_m.get_or_insert_with(|| {
            let cos = *cos.get_or_insert_with(|| cos_lat(mine.lat));
            haversine_of_m((mine.lat, mine.lon, cos), (theirs.lat, theirs.lon, case.cos_lat))
        })
    };
    match (by, meets.rule.place) {
        (By::Id, _) => meet_by_id(mine, theirs, both, meets),
        (By::Position(_), PlaceRule::Distance { distance_m_max }) => {
            if mine.leg.is_some() || !case.is_plain && theirs.leg.is_some() {
                let (start, end, distance_m) = together(mine, theirs, both, distance_m_max)?;
                return Some(Meeting::sure(PlaceKey::Near, distance_m, (start, end)));
            }
            let distance_m = apart_m();
            (distance_m <= distance_m_max).then(|| Meeting::sure(PlaceKey::Near, distance_m, both))
        }
        (By::Position(_), PlaceRule::Probability { .. }) => meet_likely(mine, theirs, apart_m(), both, meets),
        (By::Position(place), _) => Some(Meeting::sure(place, f64::NAN, both)),
    }
}

/// Whether those who share an id are near enough by it.
#[inline(never)]
fn meet_by_id(
    mine: &Stay,
    theirs: &Stay,
    both: (Millis, Millis),
    &Meets { weighing, seats, .. }: &Meets<'_>,
) -> Option<Meeting> {
    let (place, near) = match mine.source {
        Source::Trip => (PlaceKey::Trip(mine.place), seats_are_near(mine.floor, theirs.floor, seats)),
        _ => (PlaceKey::Venue(mine.place), floors_agree(mine.floor, theirs.floor)),
    };
    (near && mine.place != NO_PLACE).then(|| {
        let met = Meeting::sure(place, f64::NAN, both);
        let weigh = |w: &Weighing<'_>| Meeting { probability: 1.0, rate: w.setting(mine, theirs), ..met };
        weighing.map_or(Meeting { ..met }, weigh)
    })
}

/// Whether those who stand so far apart are likely enough to be near.
#[inline(never)]
fn meet_likely(
    mine: &Stay,
    theirs: &Stay,
    distance_m: f64,
    both: (Millis, Millis),
    meets: &Meets<'_>,
) -> Option<Meeting> {
    let weighing = meets.weighing?;
    let sigma_m = mine.sigma_m.hypot(theirs.sigma_m);
    let probability = weighing.within.probability(distance_m, sigma_m)?;
    let near = probability_within(distance_m, sigma_m, weighing.risk_distance_m);
    let rate = near * weighing.setting(mine, theirs);
    Some(Meeting { place: PlaceKey::Near, distance_m, within: both, probability, rate })
}

/// Whether two floors are the same, where both are known.
fn floors_agree(mine: u32, theirs: u32) -> bool {
    mine == theirs || mine == NO_FLOOR || theirs == NO_FLOOR
}

/// Whether two seats are near each other by the rule of the vehicle; number 0 is none.
fn seats_are_near(mine: u32, theirs: u32, seats: &[Seat]) -> bool {
    let seat = |number: u32| seats.get((number as usize).wrapping_sub(1));
    seat(mine).zip(seat(theirs)).is_some_and(|(mine, theirs)| mine.is_near(theirs))
}

/// When two stays, one of which moves, are at most `distance_m_max` apart within [start, end), and how
/// near they come: the roots of a quadratic in the plane x = M*cos(phi)*dlon, y = M*dlat, phi being the
/// mean latitude of the four end points. Rounded to the nearest millisecond, half up.
#[inline(never)]
fn together(
    mine: &Stay,
    theirs: &Stay,
    (start, end): (Millis, Millis),
    distance_m_max: f64,
) -> Option<(Millis, Millis, f64)> {
    if start >= end {
        return None;
    }
    let length = (end - start) as f64;
    let (lat, lon) = mine.position_at(start);
    let (case_lat, case_lon) = theirs.position_at(start);
    let (speed_lat, speed_lon) = mine.velocity();
    let (case_speed_lat, case_speed_lon) = theirs.velocity();
    let mean_lat = (lat + mine.position_at(end).0 + case_lat + theirs.position_at(end).0) / 4.0;
    let metres_of_lon = METRES_PER_DEGREE * mean_lat.to_radians().cos();
    let (x, y) = (metres_of_lon * wrap_degrees(lon - case_lon), METRES_PER_DEGREE * (lat - case_lat));
    let (vx, vy) =
        (metres_of_lon * (speed_lon - case_speed_lon), METRES_PER_DEGREE * (speed_lat - case_speed_lat));
    let (a, b, c) = (vx * vx + vy * vy, x * vx + y * vy, x * x + y * y - distance_m_max * distance_m_max);
    let nearest = if a > 0.0 { (-b / a).clamp(0.0, length) } else { 0.0 };
    let distance_m = (x + vx * nearest).hypot(y + vy * nearest);
    let (from, to) = if a > 0.0 {
        let under_root = b * b - a * c;
        if under_root < 0.0 {
            return None;
        }
        let root = under_root.sqrt();
        (((-b - root) / a).clamp(0.0, length), ((-b + root) / a).clamp(0.0, length))
    } else if c <= 0.0 {
        (0.0, length)
    } else {
        return None;
    };
    let (from, to) = (start + (from + 0.5).floor() as Millis, start + (to + 0.5).floor() as Millis);
    (from < to).then_some((from, to, distance_m))
}

/// Turns one person's overlaps into encounters: of each case's pair the direct union is taken out of
/// the indirect overlaps, and overlaps of one kind, source on each side and place that touch are one.
/// `keys` is room to work in. On return `found` holds the overlaps themselves, sorted by case, and `encounters` only these, sorted by
/// case, kind, source, case_source, place and start.
pub fn encounters(found: &mut Vec<Encounter>, encounters: &mut Vec<Encounter>, keys: &mut Keys) {
    if found.iter().any(|e| e.kind == Kind::Indirect) {
        *found = without_direct(std::mem::take(found));
    }
    sort(found, encounters, keys);
    encounters.clear();
    for overlap in found.iter() {
        match encounters.last_mut() {
            Some(run) if same_run(run, overlap) && overlap.start <= run.end => {
                run.end = run.end.max(overlap.end);
                run.distance_m = run.distance_m.min(overlap.distance_m);
                run.bracketed &= overlap.bracketed;
                run.probability = run.probability.max(overlap.probability);
            }
            _ => encounters.push(*overlap),
        }
    }
}

/// What overlaps sort by.
#[derive(Debug, Default)]
pub struct Keys {
    /// Case, kind, source, case_source, place in short, start, end; and their row.
    long: Vec<(u64, u64, Millis, Millis, u32)>,
    /// Case, place in short and start, end and row, of overlaps that are of one kind and of the same sources: times in 32 bits,
    /// counted from the first.
    of_a_kind: Vec<(u128, u64)>,
    /// Case, start, end and row, of overlaps that share their place too.
    of_a_place: Vec<u128>,
}

/// Sorts by case, kind, source, case_source, place in short, start, end and row; an overlap is long, so it is moved once,
/// through `room`.
fn sort(found: &mut Vec<Encounter>, room: &mut Vec<Encounter>, keys: &mut Keys) {
    let Keys { long, of_a_kind, of_a_place } = keys;
    let Some(alike) = Alike::new(found) else {
        let key = |e: &Encounter, row: u32| {
            let first = u64::from(e.case) << 32 | kinds(e);
            (first, e.place.short(), e.start, e.end, row)
        };
        return sort_by(found, room, long, key, |key| key.4);
    };
    let since = |at: Millis| (at - alike.first) as u32;
    let end = |e: &Encounter, row: u32| u64::from(since(e.end)) << 32 | u64::from(row);
    if alike.share_place {
        let key = |e: &Encounter, row: u32| {
            u128::from(e.case) << 96 | u128::from(since(e.start)) << 64 | u128::from(end(e, row))
        };
        return sort_by(found, room, of_a_place, key, |key| *key as u32);
    }
    let key = |e: &Encounter, row: u32| {
        let first = u128::from(e.case) << 96 | u128::from(e.place.short()) << 32 | u128::from(since(e.start));
        (first, end(e, row))
    };
    sort_by(found, room, of_a_kind, key, |key| key.1 as u32);
}

fn sort_by<K: Ord>(
    found: &mut Vec<Encounter>,
    room: &mut Vec<Encounter>,
    keys: &mut Vec<K>,
    key: impl Fn(&Encounter, u32) -> K,
    row: impl Fn(&K) -> u32,
) {
    keys.clear();
    keys.extend(found.iter().zip(0..).map(|(e, row)| key(e, row)));
    if keys.is_sorted() {
        return;
    }
    keys.sort_unstable();
    room.clear();
    room.extend(keys.iter().map(|key| found[row(key) as usize]));
    std::mem::swap(found, room);
}

/// Kind, sources, and the kind of the key, which comes before its place, as short ones of several kinds may be the same.
fn kinds(e: &Encounter) -> u64 {
    let kind_of_key = u64::from(matches!(e.place, PlaceKey::Venue(_) | PlaceKey::Trip(_)));
    (e.kind as u64) << 24 | (e.source as u64) << 16 | (e.case_source as u64) << 8 | kind_of_key
}

/// Overlaps of one kind and of the same sources, whose times differ by less than 32 bits of milliseconds.
struct Alike {
    first: Millis,
    share_place: bool,
}

impl Alike {
    fn new(found: &[Encounter]) -> Option<Self> {
        let one = found.first()?;
        let (mut first, mut last) = (one.start, one.end);
        let (mut alike, mut share_place) = (true, true);
        for e in found {
            (first, last) = (first.min(e.start), last.max(e.end));
            alike &= kinds(e) == kinds(one);
            share_place &= e.place == one.place;
        }
        (alike && last - first <= Millis::from(u32::MAX)).then_some(Alike { first, share_place })
    }
}

fn same_run(a: &Encounter, b: &Encounter) -> bool {
    (a.case, a.kind, a.source, a.case_source, a.place) == (b.case, b.kind, b.source, b.case_source, b.place)
}

fn without_direct(mut found: Vec<Encounter>) -> Vec<Encounter> {
    found.sort_unstable_by_key(|e| e.case);
    let mut kept = Vec::with_capacity(found.len());
    for pair in found.chunk_by(|a, b| a.case == b.case) {
        let direct =
            union(pair.iter().filter(|e| e.kind == Kind::Direct).map(|e| (e.start, e.end)).collect());
        for overlap in pair {
            if overlap.kind == Kind::Direct {
                kept.push(*overlap);
                continue;
            }
            let mut start = overlap.start;
            let first = direct.partition_point(|range| range.1 <= start);
            for &(from, to) in direct[first..].iter().take_while(|range| range.0 < overlap.end) {
                if start < from {
                    kept.push(overlap.part(start, from));
                }
                start = start.max(to);
            }
            if start < overlap.end {
                kept.push(overlap.part(start, overlap.end));
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Short keys or long ones, the order is the same.
        #[test]
        fn overlaps_come_in_their_order(
            drawn in prop::collection::vec((0..4u32, 0..6i64, 1..4i64, 0..3i64), 0..60),
            first in prop::sample::select(vec![-5, 0, 1_600_000_000_000]),
            step in prop::sample::select(vec![1, 1 << 20, 1 << 31]),
            places in 1..3i64,
        ) {
            let overlap = |(row, (case, start, length, place)): (usize, &(u32, i64, i64, i64))| {
                let start = first + start * step;
                let place = PlaceKey::Square(crate::place::Square { row: place % places, col: 0 });
                Encounter {
                    case: *case,
                    kind: Kind::Direct,
                    source: Source::Gps,
                    case_source: Source::Gps,
                    place,
                    start,
                    sure: start,
                    end: start + length * step,
                    distance_m: row as f64,
                    bracketed: false,
                    probability: 0.0,
                    rate: 0.0,
                    left: 0,
                }
            };
            let mut found: Vec<Encounter> = drawn.iter().enumerate().map(overlap).collect();
            let mut expected = found.clone();
            expected.sort_by_key(|e| (e.case, e.place, e.start, e.end));
            sort(&mut found, &mut Vec::new(), &mut Keys::default());
            prop_assert_eq!(found, expected);
        }
    }
}
