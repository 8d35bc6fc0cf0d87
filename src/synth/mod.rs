//! Made-up pings of any number, to measure with: pings of a city's persons for some days, each of them a pure function of the seed, the
//! person, the day and the number of the ping. An order is only an order of the same pings, and nothing
//! has to be held or sorted beyond one slice of time.
//!
//! Persons are numbered from 0. A person has a home, three quarters have a workplace, and each day takes
//! them through six stays, among them venues, the popular ones most; they go there in straight lines. What truly
//! happened in a city is the matter of [`crate::city`].

mod city;
mod clock;
mod day;
pub mod draw;
mod order;

pub use city::BOUNDS;
pub use order::{BATCH_ROWS, Batch, Synth};

use crate::error::{Error, Problem, Result};
use crate::ping::Order;
use crate::time::{DAY_MS, Millis};
use clock::PINGS_A_DAY_MAX;

/// Version of what is drawn: a change of any row for any arguments makes it the next one.
pub const VERSION: u32 = 1;
/// End of the last day: 2022-03-22T00:00:00+08:00.
pub const AS_OF: Millis = 1_647_878_400_000;
/// The city's zone; its clock has not been changed since 1991.
pub const TIME_ZONE: &str = "Asia/Shanghai";
/// Pings a person and day, where nobody says.
const PINGS_A_DAY: u64 = 200;
/// Most rows, persons, days and cases: what the numbers of this room hold.
const ROWS_MAX: u64 = 1_000_000_000_000;
const PERSONS_MAX: u64 = 1 << 35;
const DAYS_MAX: u64 = 3_650;
const CASES_MAX: u64 = 1_000_000;

/// What person_ids are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// Unsigned integers of 63 bits.
    Integer,
    /// Text of 36 characters in the form of a UUID.
    Text,
}

impl Ids {
    /// Its word.
    pub fn name(self) -> &'static str {
        ["integer", "text"][self as usize]
    }
}

/// What is asked for: the same answers make the same city.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Pings in all.
    pub rows: u64,
    /// Persons.
    pub persons: u64,
    /// Days, the last of which ends at [`AS_OF`].
    pub days: u64,
    /// Persons who are cases.
    pub cases: u64,
    /// The seed.
    pub seed: u64,
    /// In which order the pings are written.
    pub order: Order,
    /// What person_ids are.
    pub ids: Ids,
}

impl Recipe {
    /// As many persons as give each of them 200 pings a day.
    pub fn persons_for(rows: u64, days: u64) -> u64 {
        (rows / PINGS_A_DAY / days.max(1)).max(1)
    }

    /// 100 cases, or a tenth of fewer persons.
    pub fn cases_for(persons: u64) -> u64 {
        (persons / 10).clamp(1, 100)
    }

    /// Stops what cannot be made.
    pub fn check(&self) -> Result<()> {
        let within = |flag: &str, value: u64, most: u64| {
            if (1..=most).contains(&value) {
                return Ok(());
            }
            Err(problem(flag, format!("1 to {most}"), value.to_string(), "give a number in between"))
        };
        within("--rows", self.rows, ROWS_MAX)?;
        within("--persons", self.persons, PERSONS_MAX)?;
        within("--days", self.days, DAYS_MAX)?;
        within("--cases", self.cases, CASES_MAX.min(self.persons))?;
        let person_days = self.persons * self.days;
        if self.rows < person_days || self.rows.div_ceil(person_days) > PINGS_A_DAY_MAX {
            return Err(problem(
                "--rows",
                format!("1 to {PINGS_A_DAY_MAX} pings for each person and day"),
                format!("{} pings for {} persons and {} days", self.rows, self.persons, self.days),
                "give other --rows, --persons or --days; without --persons each person has 200 pings a day",
            ));
        }
        Ok(())
    }

    /// Start of the first day.
    pub fn start(&self) -> Millis {
        AS_OF - self.days as Millis * DAY_MS
    }

    /// The flags that make this city.
    pub fn flags(&self) -> String {
        format!(
            "--rows {} --persons {} --days {} --cases {} --seed {} --order {} --ids {}",
            self.rows,
            self.persons,
            self.days,
            self.cases,
            self.seed,
            self.order.name(),
            self.ids.name()
        )
    }

    /// Pings of a person's day: those left over by an even share go to the first days of the first persons.
    #[inline]
    fn pings_of(&self, person: u64, day: u64) -> u64 {
        let even = self.rows / (self.persons * self.days);
        even + u64::from(person < self.persons_with_one_more(day))
    }

    /// How many of the first persons have one ping more on a day.
    #[inline]
    fn persons_with_one_more(&self, day: u64) -> u64 {
        let left_over = self.rows % (self.persons * self.days);
        left_over.saturating_sub(day * self.persons).min(self.persons)
    }
}

fn problem(flag: &str, expected: String, found: String, cure: &str) -> Error {
    Error::Job(Problem::new(flag, expected, found, cure))
}

/// A person_id as text in the form of a UUID; texts are in the order of their numbers.
pub fn text_id(id: u64) -> [u8; 36] {
    // A number of its own for each id, so that the end of the text is no constant.
    let end = id.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (id >> 29);
    let bits = (u128::from(id) << 64) | u128::from(end);
    let mut text = *b"00000000-0000-4000-8000-000000000000";
    let mut shift = 128;
    for (place, letter) in text.iter_mut().enumerate() {
        // Hyphens, and the two letters that name the version and the variant, stay.
        if !matches!(place, 8 | 13 | 14 | 18 | 19 | 23) {
            shift -= 4;
            *letter = b"0123456789abcdef"[(bits >> shift) as usize & 15];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_keep_the_order_of_numbers() {
        let ids = [0, 1, 2, 255, 1 << 20, (1 << 40) + 1, (1 << 63) - 1];
        let texts: Vec<[u8; 36]> = ids.iter().map(|id| text_id(*id)).collect();
        assert!(texts.is_sorted_by(|a, b| a < b));
        assert_eq!(std::str::from_utf8(&texts[4]), Ok("00000000-0010-4000-809b-97f4a7c15000"));
    }

    #[test]
    fn pings_of_all_days_are_the_rows() {
        for (rows, persons, days) in [(10, 3, 2), (6, 3, 2), (1_001, 5, 1), (12_345, 17, 3)] {
            let (order, ids) = (Order::None, Ids::Integer);
            let recipe = Recipe { rows, persons, days, cases: 1, seed: 1, order, ids };
            recipe.check().expect("a recipe that can be made");
            let all = (0..persons).flat_map(|p| (0..days).map(move |d| (p, d)));
            assert_eq!(all.map(|(p, d)| recipe.pings_of(p, d)).sum::<u64>(), rows);
        }
    }
}
