//! What truly happened: who was how near to which case, for how long, and whom the cases infected.

use super::day::Piece;
use super::map::{Point, Setting};
use crate::dose::RISK_PER_HOUR;
use crate::rule::infectiousness::Infectiousness;
use crate::synth::draw::{Stream, unit};
use crate::time::{DAY_MS, HOUR_MS, Millis};
use hashbrown::HashMap;

/// How near, metres along a straight line; the widest last.
pub const WITHIN_M: [f64; 3] = [2.0, 10.0, 50.0];
/// The cases' pieces are found by squares of this side and by slots of time.
const SQUARE_M: f64 = 100.0;
const SLOT_MS: Millis = HOUR_MS;
/// Ways are looked at in stretches of at most this length.
const STRETCH_M: f64 = 150.0;
/// What the open air leaves of a dose. Reviews find the odds of transmission 19 times lower there than indoors (Nishiura et al.,
/// medRxiv 2020) and fewer than 10% of infections there (Bulfone et al., Journal of Infectious Diseases 223, 2021).
const OUTDOORS: f64 = 0.1;
/// So long within two metres in one air is a contact of a day, as surveys count them.
const CONTACT_MS: Millis = 300_000;
/// Two days before onset or sampling a case starts to be infectious, as in the contract of the case list.
const BEFORE_MS: Millis = 2 * DAY_MS;

/// A case of the city.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ill {
    /// The person's number.
    pub person: u64,
    /// Onset of symptoms.
    pub onset_at: Millis,
    /// Sampling.
    pub sampled_at: Millis,
    /// Confirmation.
    pub confirmed_at: Millis,
    /// Isolation.
    pub isolated_at: Millis,
}

impl Ill {
    /// The infectious range that the case list gives.
    pub fn infectious(&self) -> (Millis, Millis) {
        (self.onset_at.min(self.sampled_at) - BEFORE_MS, self.isolated_at)
    }
}

/// The cases, and where they were while infectious.
#[derive(Debug)]
pub struct Cases {
    /// The cases.
    pub ill: Vec<Ill>,
    infectiousness: Infectiousness,
    pieces: Vec<(u32, Piece)>,
    found_by: HashMap<(i64, i32, i32), Vec<u32>>,
    /// A bit for each place of `found_by`, many places sharing one: most pieces are nowhere near.
    bits: Vec<u64>,
}

/// Bits of [`Cases::bits`], a power of two.
const BITS: usize = 1 << 22;

fn bit(place: (i64, i32, i32)) -> usize {
    let mixed = (place.0 as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ (place.1 as u64).wrapping_mul(0xC2B2_AE3D_27D4_EB4F)
        ^ (place.2 as u64).wrapping_mul(0x1656_67B1_9E37_79F9);
    (mixed >> 40) as usize & (BITS - 1)
}

/// A person and a case.
#[derive(Debug, Clone, Copy)]
pub struct Contact {
    /// Within each of [`WITHIN_M`], ms.
    pub within_ms: [Millis; 3],
    /// Of that within 10 m: under a roof, ms.
    pub indoors_ms: Millis,
    /// Of that within 10 m: with no wall between, ms.
    pub one_air_ms: Millis,
    /// Within 10 m by setting of the person, ms.
    by_setting_ms: [u32; Setting::ALL.len()],
    /// First instant within 50 m.
    pub first_at: Millis,
    /// Last instant within 50 m.
    pub last_at: Millis,
    /// Hours within 2 m in one air, weighted by infectiousness and by the open air.
    pub dose_h: f64,
    /// When the person was infected by the case, if so, and where.
    pub infected: Option<(Millis, Setting)>,
    /// The dose that infects.
    limit_h: f64,
    open: [(Millis, Millis); 3],
    today: (Millis, Millis),
}

impl Contact {
    fn new(draw: u64) -> Self {
        Contact {
            within_ms: [0; 3],
            indoors_ms: 0,
            one_air_ms: 0,
            by_setting_ms: [0; Setting::ALL.len()],
            first_at: Millis::MAX,
            last_at: Millis::MIN,
            dose_h: 0.0,
            infected: None,
            // P(infected) = 1 - exp(-0.011 dose): the dose at which it happens is exponential.
            limit_h: -(1.0 - unit(draw)).ln() / RISK_PER_HOUR,
            open: [(0, 0); 3],
            today: (Millis::MIN, 0),
        }
    }

    /// Where most of the time within 10 m was.
    pub fn setting(&self) -> Option<Setting> {
        let most = self.by_setting_ms.iter().copied().max().filter(|ms| *ms > 0)?;
        Setting::ALL.into_iter().find(|setting| self.by_setting_ms[*setting as usize] == most)
    }
}

/// A stretch of time within one of [`WITHIN_M`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Meeting {
    /// The person's number in the district.
    pub person: u32,
    /// The case's number.
    pub case: u32,
    /// Which of [`WITHIN_M`].
    pub within: u8,
    /// First instant.
    pub start: Millis,
    /// First instant after.
    pub end: Millis,
}

/// What is true of a district's persons.
#[derive(Debug, Default)]
pub struct Truth {
    /// By person's number in the district, and case.
    pub contacts: HashMap<(u32, u32), Contact>,
    /// Stretches of time that are over.
    pub meetings: Vec<Meeting>,
    /// Contacts of cases, each a day.
    pub contacts_a_day: u64,
    /// Pieces of cases that one of a person may be near, when they start and their numbers.
    near: Vec<(Millis, u32)>,
}

impl Cases {
    /// These cases, where they were in these pieces, of which the ones outside the infectious ranges are left out.
    pub fn new(ill: Vec<Ill>, pieces: impl Iterator<Item = (u32, Piece)>) -> Self {
        let mut cases = Cases {
            ill,
            infectiousness: Infectiousness::published(),
            pieces: Vec::new(),
            found_by: HashMap::new(),
            bits: vec![0; BITS / 64],
        };
        for (case, piece) in pieces {
            let (from, to) = cases.ill[case as usize].infectious();
            for stretch in clipped(piece, from, to).into_iter().flat_map(stretches) {
                let number = cases.pieces.len() as u32;
                each_place(&stretch, 0.0, &mut |place| {
                    cases.bits[bit(place) / 64] |= 1 << (bit(place) % 64);
                    cases.found_by.entry(place).or_default().push(number);
                });
                cases.pieces.push((case, stretch));
            }
        }
        cases
    }

    /// The days on which any case is infectious.
    pub fn range(&self) -> (Millis, Millis) {
        let ranges = || self.ill.iter().map(Ill::infectious);
        (ranges().map(|r| r.0).min().unwrap_or(0), ranges().map(|r| r.1).max().unwrap_or(0))
    }

    /// Adds what a piece of a person's day has of cases.
    pub fn meet(&self, (row, number): (u32, u64), piece: &Piece, draws: Stream, truth: &mut Truth) {
        let mut near = std::mem::take(&mut truth.near);
        for stretch in stretches(*piece) {
            near.clear();
            each_place(&stretch, WITHIN_M[2], &mut |place| {
                if self.bits[bit(place) / 64] & (1 << (bit(place) % 64)) == 0 {
                    return;
                }
                for found in self.found_by.get(&place).into_iter().flatten() {
                    let (case, theirs) = &self.pieces[*found as usize];
                    // Pieces that share several places are looked at in the first one.
                    if first_shared(&stretch, theirs) == place && self.ill[*case as usize].person != number {
                        near.push((theirs.start, *found));
                    }
                }
            });
            // In the order of time, as doses add up.
            near.sort_unstable();
            for (_, found) in &near {
                let (case, theirs) = &self.pieces[*found as usize];
                self.add((row, *case), &stretch, theirs, draws, truth);
            }
        }
        truth.near = near;
    }

    fn add(&self, pair: (u32, u32), mine: &Piece, theirs: &Piece, draws: Stream, truth: &mut Truth) {
        let Some(ranges) = together(mine, theirs) else { return };
        let draw = || draws.stream(3 << 32).draw(u64::from(pair.1));
        let contact = truth.contacts.entry(pair).or_insert_with(|| Contact::new(draw()));
        for (within, range) in ranges.iter().enumerate() {
            let Some((start, end)) = *range else { continue };
            contact.within_ms[within] += end - start;
            let open = &mut contact.open[within];
            if open.1 == start && open.0 < open.1 {
                open.1 = end;
            } else {
                let over = std::mem::replace(open, (start, end));
                truth.meetings.extend(meeting(pair, within, over));
            }
        }
        if let Some((start, end)) = ranges[2] {
            contact.first_at = contact.first_at.min(start);
            contact.last_at = contact.last_at.max(end);
        }
        // Under a roof one air is one room; the open air is the same for all who are near.
        let one_air = mine.air == theirs.air;
        if let Some((start, end)) = ranges[1] {
            contact.by_setting_ms[mine.setting as usize] += (end - start) as u32;
            contact.indoors_ms += if mine.air != 0 { end - start } else { 0 };
            contact.one_air_ms += if one_air { end - start } else { 0 };
        }
        let Some((start, end)) = ranges[0].filter(|_| one_air) else { return };
        let day = start.div_euclid(DAY_MS);
        if contact.today.0 != day {
            contact.today = (day, 0);
        }
        let before = contact.today.1;
        contact.today.1 += end - start;
        truth.contacts_a_day += u64::from(before < CONTACT_MS && contact.today.1 >= CONTACT_MS);
        self.infect(pair.1, contact, mine, (start, end));
    }

    fn infect(&self, case: u32, contact: &mut Contact, mine: &Piece, (mut start, end): (Millis, Millis)) {
        let onset_at = self.ill[case as usize].onset_at;
        let weight = if mine.air == 0 { OUTDOORS } else { 1.0 };
        while start < end {
            let day = Infectiousness::day_of(start, onset_at);
            let until = (onset_at + (day + 1) * DAY_MS).min(end);
            let rate = weight * self.infectiousness.at(day) / HOUR_MS as f64;
            let more_h = rate * (until - start) as f64;
            if contact.infected.is_none() && contact.dose_h + more_h >= contact.limit_h {
                let at = start + ((contact.limit_h - contact.dose_h) / rate) as Millis;
                contact.infected = Some((at, mine.setting));
            }
            contact.dose_h += more_h;
            start = until;
        }
    }
}

impl Truth {
    /// Ends all that is going on.
    pub fn finish(&mut self) {
        for (pair, contact) in &mut self.contacts {
            for (within, open) in contact.open.iter_mut().enumerate() {
                self.meetings.extend(meeting(*pair, within, std::mem::take(open)));
            }
        }
        self.meetings.sort_unstable_by_key(|m| (m.person, m.case, m.within, m.start));
    }
}

fn meeting((person, case): (u32, u32), within: usize, (start, end): (Millis, Millis)) -> Option<Meeting> {
    (start < end).then_some(Meeting { person, case, within: within as u8, start, end })
}

fn clipped(piece: Piece, from: Millis, to: Millis) -> Option<Piece> {
    let (start, end) = (piece.start.max(from), piece.end.min(to));
    let at = |at| super::day::spot_at(&piece, at);
    (start < end).then(|| Piece { start, end, from: at(start), to: at(end), ..piece })
}

/// A piece in parts that are short enough.
fn stretches(piece: Piece) -> impl Iterator<Item = Piece> {
    let parts =
        ((piece.from.metres_to(piece.to) / STRETCH_M).ceil() as i64).clamp(1, piece.end - piece.start);
    let at = move |part: i64| piece.start + (piece.end - piece.start) * part / parts;
    let spot = move |part: i64| if part == parts { piece.to } else { super::day::spot_at(&piece, at(part)) };
    (0..parts).map(move |part| Piece {
        start: at(part),
        end: at(part + 1),
        from: spot(part),
        to: spot(part + 1),
        ..piece
    })
}

/// The first slot, column and row of what lies within so many metres of a piece, and the last ones.
fn places(piece: &Piece, reach_m: f64) -> ((i64, i32, i32), (i64, i32, i32)) {
    let square = |m: f64| (m / SQUARE_M + f64::from(1 << 20)) as i32 - (1 << 20);
    let (a, b) = (piece.from, piece.to);
    (
        (piece.start.div_euclid(SLOT_MS), square(a.x.min(b.x) - reach_m), square(a.y.min(b.y) - reach_m)),
        ((piece.end - 1).div_euclid(SLOT_MS), square(a.x.max(b.x) + reach_m), square(a.y.max(b.y) + reach_m)),
    )
}

fn each_place(piece: &Piece, reach_m: f64, each: &mut dyn FnMut((i64, i32, i32))) {
    let (first, last) = places(piece, reach_m);
    for slot in first.0..=last.0 {
        for column in first.1..=last.1 {
            for row in first.2..=last.2 {
                each((slot, column, row));
            }
        }
    }
}

/// The first place that a person's piece, with what is near it, and a case's have in common.
fn first_shared(mine: &Piece, theirs: &Piece) -> (i64, i32, i32) {
    let (mine, theirs) = (places(mine, WITHIN_M[2]).0, places(theirs, 0.0).0);
    (mine.0.max(theirs.0), mine.1.max(theirs.1), mine.2.max(theirs.2))
}

/// When two pieces are within each of [`WITHIN_M`]; nothing where they are never within the widest.
fn together(mine: &Piece, theirs: &Piece) -> Option<[Option<(Millis, Millis)>; 3]> {
    let (start, end) = (mine.start.max(theirs.start), mine.end.min(theirs.end));
    if start >= end {
        return None;
    }
    let gap = |at: Millis| {
        let (a, b) = (super::day::spot_at(mine, at), super::day::spot_at(theirs, at));
        Point { x: a.x - b.x, y: a.y - b.y, z: a.z - b.z }
    };
    let dot = |a: Point, b: Point| a.x * b.x + a.y * b.y + a.z * b.z;
    let length = (end - start) as f64;
    let from = gap(start);
    let stands = mine.from == mine.to && theirs.from == theirs.to;
    let change = if stands { Point::default() } else { gap(end).moved(-from.x, -from.y, -from.z) };
    // |from + share * change|^2 = metres^2
    let (a, b, c) = (dot(change, change), dot(from, change), dot(from, from));
    let mut ranges = [None; 3];
    for (range, metres) in ranges.iter_mut().zip(WITHIN_M) {
        let c = c - metres * metres;
        let shares = if a < 1e-9 {
            (c <= 0.0).then_some((0.0, 1.0))
        } else {
            let under_root = b * b - a * c;
            (under_root >= 0.0).then(|| {
                let root = under_root.sqrt();
                (((-b - root) / a).clamp(0.0, 1.0), ((-b + root) / a).clamp(0.0, 1.0))
            })
        };
        *range = shares
            .map(|(from, to)| {
                (start + (from * length).round() as Millis, start + (to * length).round() as Millis)
            })
            .filter(|(from, to)| from < to);
    }
    ranges[2].is_some().then_some(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(start: Millis, end: Millis, from: (f64, f64), to: (f64, f64), air: u64) -> Piece {
        let at = |(x, y)| Point { x, y, z: 0.0 };
        Piece { start, end, from: at(from), to: at(to), setting: Setting::Work, air }
    }

    fn cases(theirs: &[Piece]) -> Cases {
        let ill = Ill { person: 7, onset_at: 0, sampled_at: 0, confirmed_at: DAY_MS, isolated_at: DAY_MS };
        Cases::new(vec![ill], theirs.iter().map(|piece| (0, *piece)))
    }

    #[test]
    fn passing_by_is_measured() {
        // Past a case at 10 m/s, 6 m away: within 10 m for 16 m, within 50 m for 2 sqrt(2500 - 36) m.
        let cases = cases(&[piece(0, 1_000_000, (0.0, 6.0), (0.0, 6.0), 5)]);
        let mut truth = Truth::default();
        cases.meet(
            (3, 9),
            &piece(100_000, 200_000, (-500.0, 0.0), (500.0, 0.0), 0),
            Stream::of_seed(1),
            &mut truth,
        );
        truth.finish();
        let contact = truth.contacts[&(3, 0)];
        assert_eq!(contact.within_ms[0], 0);
        assert!((contact.within_ms[1] - 1_600).abs() <= 2, "{:?}", contact.within_ms);
        assert!((contact.within_ms[2] - 9_928).abs() <= 4, "{:?}", contact.within_ms);
        assert_eq!((contact.indoors_ms, contact.one_air_ms), (0, 0), "one is outside");
        assert_eq!(truth.meetings.len(), 2);
        assert!((truth.meetings[0].start - 149_200).abs() <= 2 && truth.meetings[0].within == 1);
    }

    #[test]
    fn a_night_beside_a_case_counts_once() {
        // Eleven slots of time and four squares are shared.
        let theirs = piece(0, 11 * HOUR_MS, (99.5, 99.5), (99.5, 99.5), 5);
        let mut truth = Truth::default();
        let cases = cases(&[theirs]);
        let mine = piece(HOUR_MS / 2, 10 * HOUR_MS, (100.5, 100.5), (100.5, 100.5), 5);
        cases.meet((0, 1), &mine, Stream::of_seed(1), &mut truth);
        cases.meet((1, 7), &mine, Stream::of_seed(1), &mut truth);
        truth.finish();
        let contact = truth.contacts[&(0, 0)];
        let ms = 19 * HOUR_MS / 2;
        assert_eq!(contact.within_ms, [ms; 3]);
        assert_eq!((contact.indoors_ms, contact.one_air_ms), (ms, ms));
        assert_eq!((truth.contacts_a_day, truth.contacts.len()), (1, 1), "nobody meets oneself");
        // The day of onset weighs 1.
        assert!((contact.dose_h - 9.5).abs() < 1e-9, "{}", contact.dose_h);
        assert_eq!(contact.setting(), Some(Setting::Work));
    }

    #[test]
    fn a_dose_infects_as_often_as_the_model_says() {
        let cases = cases(&[piece(0, 20 * HOUR_MS, (0.0, 0.0), (0.0, 0.0), 5)]);
        let mut truth = Truth::default();
        let mine = piece(0, 20 * HOUR_MS, (1.0, 0.0), (1.0, 0.0), 5);
        for person in 0..20_000 {
            cases.meet(
                (person, 100 + u64::from(person)),
                &mine,
                Stream::of_seed(u64::from(person)),
                &mut truth,
            );
        }
        let infected = truth.contacts.values().filter(|c| c.infected.is_some()).count() as f64 / 20_000.0;
        let expected = 1.0 - (-0.011f64 * 20.0).exp();
        assert!((infected - expected).abs() < 0.01, "{infected}, {expected} expected");
        let mut first_half = 0.0;
        for contact in truth.contacts.values() {
            first_half += f64::from(u8::from(contact.infected.is_some_and(|(at, _)| at < 10 * HOUR_MS)));
        }
        assert!((first_half / 20_000.0 - (1.0 - (-0.11f64).exp())).abs() < 0.01);
    }
}
