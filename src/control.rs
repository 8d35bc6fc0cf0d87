//! Controls: real persons who are no cases, put in the cases' place on other days. Whom they meet there they meet by habit
//! alone: nobody can have caught anything from somebody who was elsewhere.

use crate::case::Case;
use crate::person::{PersonId, PersonRef, PersonSet, PersonType};
use crate::time::{DAY_MS, Millis};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What is hashed before a person_id, so that who is drawn does not hang on who is asked about.
const SEED: &str = "copresence controls 1: ";
/// Lookbacks from so many days on are rotated by a whole week, so that weekdays stay.
const WEEKS_DAYS_MIN: i64 = 14;
const WEEK_DAYS: i64 = 7;

/// What controls would have made of others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Controls {
    /// Persons who were drawn.
    pub persons: u64,
    /// By how many days theirs were moved.
    pub rotated_days: i64,
    /// Exposures of everyone to them, but for pairs that are left out.
    pub exposures: u64,
    /// Persons whom these would make candidates.
    pub candidates: u64,
    /// Pairs that were left out, as they also meet on the true days.
    pub left_out_pairs: u64,
}

/// How days are moved within the whole days of a lookback: what leaves them at their end comes back at their start, so that
/// everything keeps its time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    until: Millis,
    length_ms: Millis,
    days: i64,
}

impl Rotation {
    /// That of a lookback [from, until); `None` if it has no two days.
    pub fn new(from: Millis, until: Millis) -> Option<Self> {
        let whole = (until - from) / DAY_MS;
        let days = match whole {
            ..=1 => return None,
            WEEKS_DAYS_MIN.. => WEEK_DAYS,
            few => few / 2,
        };
        Some(Rotation { until, length_ms: whole * DAY_MS, days })
    }

    /// By how many days.
    pub fn days(&self) -> i64 {
        self.days
    }

    /// Where an instant of the lookback comes to be, if it is in one of its whole days.
    pub fn at(&self, time: Millis) -> Option<Millis> {
        let from = self.until - self.length_ms;
        (time >= from).then(|| from + (time - from + self.days * DAY_MS).rem_euclid(self.length_ms))
    }
}

/// What a person is drawn by: the first 16 bytes (big-endian) of the SHA-256 of a fixed text and the person_id, an integer in
/// decimal digits.
pub fn lot_of(person: PersonRef<'_>, kind: PersonType) -> u128 {
    let mut hash = Sha256::new_with_prefix(SEED);
    match person {
        PersonRef::Integer(id) => hash.update(kind.digits(id)),
        PersonRef::Bytes(id) => hash.update(id),
    }
    hash.finalize().iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

/// Persons whose lots are remembered.
const REMEMBERED: usize = 1 << 16;

/// Those with the smallest lots of all who were seen.
#[derive(Debug)]
pub struct Draw {
    count: usize,
    drawn: BTreeMap<u128, PersonId>,
    /// The last persons by their [`PersonRef::spread`], of which none is looked at again.
    seen: Vec<u64>,
}

impl Draw {
    /// So many are drawn, and nobody yet.
    pub fn new(count: usize) -> Self {
        Draw { count, drawn: BTreeMap::new(), seen: Vec::new() }
    }

    /// Lets a person take part who is not among these.
    pub fn see(&mut self, person: PersonRef<'_>, kind: PersonType, cases: &PersonSet) {
        self.seen.resize(REMEMBERED, 0);
        let spread = person.spread();
        let seen = &mut self.seen[spread as usize % REMEMBERED];
        // Whoever shares a place in here with others is looked at more often, which changes nothing.
        if std::mem::replace(seen, spread) == spread || cases.contains(&person) {
            return;
        }
        let lot = lot_of(person, kind);
        let is_drawn =
            self.drawn.len() < self.count || self.drawn.last_key_value().is_some_and(|l| lot < *l.0);
        if is_drawn {
            self.drawn.insert(lot, person.to_id());
            self.cut();
        }
    }

    fn cut(&mut self) {
        while self.drawn.len() > self.count {
            self.drawn.pop_last();
        }
    }

    /// The draw of all that either saw.
    pub fn with(mut self, other: Self) -> Self {
        self.drawn.extend(other.drawn);
        self.cut();
        self
    }

    /// Who was drawn, by their lots.
    pub fn persons(self) -> Vec<PersonId> {
        self.drawn.into_values().collect()
    }
}

/// The false cases, each in the infectious range of a real one in turn; then the same persons as cases over the whole lookback, on
/// their true days; then the real cases, whom nobody meets.
pub fn cases(real: &[Case], persons: &[PersonId], (from, until): (Millis, Millis)) -> Vec<Case> {
    let false_cases = persons.iter().zip(real.iter().cycle());
    let false_cases = false_cases.map(|(person, case)| Case { person: person.clone(), ..case.clone() });
    let as_they_are = persons.iter().map(|person| Case {
        case_id: String::new(),
        person: person.clone(),
        infectious_from: from,
        infectious_to: until,
        onset_at: None,
    });
    let of_real = real.iter().map(|case| Case { infectious_to: case.infectious_from, ..case.clone() });
    false_cases.chain(as_they_are).chain(of_real).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_rotated() {
        let rotated = |days: i64| Rotation::new(0, days * DAY_MS).map(|rotation| rotation.days());
        let expected = [(1, None), (2, Some(1)), (3, Some(1)), (13, Some(6)), (14, Some(7)), (30, Some(7))];
        expected.into_iter().for_each(|(days, by)| assert_eq!(rotated(days), by, "{days}"));
        let rotation = Rotation::new(5, 5 + 4 * DAY_MS).expect("four days");
        assert_eq!(rotation.at(5), Some(5 + 2 * DAY_MS));
        assert_eq!(rotation.at(6 + 3 * DAY_MS), Some(6 + DAY_MS));
        let rotation = Rotation::new(0, 7 * DAY_MS / 2).expect("three days");
        assert_eq!(rotation.at(DAY_MS / 2 - 1), None);
        assert_eq!(rotation.at(7 * DAY_MS / 2 - 1), Some(3 * DAY_MS / 2 - 1));
    }

    #[test]
    fn whoever_comes_first_the_same_are_drawn() {
        let draw = |ids: &mut dyn Iterator<Item = u64>| {
            let mut draw = Draw::new(5);
            ids.for_each(|id| draw.see(PersonRef::Integer(id), PersonType::UInt64, &PersonSet::default()));
            draw
        };
        let all = draw(&mut (0..1_000)).persons();
        assert_eq!(all.len(), 5);
        assert_eq!(draw(&mut (0..1_000).rev()).persons(), all);
        assert_eq!(draw(&mut (300..1_000)).with(draw(&mut (0..400).chain(0..400))).persons(), all);
        assert_eq!(draw(&mut (0..3)).persons().len(), 3);
    }
}
