//! A case: a person with a report that confirms it and an infectious range.

use crate::person::PersonId;
use crate::time::{HOUR_MS, Millis};

/// How long before onset or sampling a case counts as infectious: 48 h, as in WHO's "Contact tracing
/// in the context of COVID-19" (interim guidance, 1 February 2021) and the CDC's definition of a close contact.
pub const BEFORE_ONSET_MS: Millis = 48 * HOUR_MS;

/// One row of the cases table, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Its name in the report.
    pub case_id: String,
    /// Whose pings are its stays.
    pub person: PersonId,
    /// Start of the infectious range.
    pub infectious_from: Millis,
    /// End of the infectious range.
    pub infectious_to: Millis,
    /// Onset of symptoms, where it is known.
    pub onset_at: Option<Millis>,
}

/// The instants of a cases row, each already on the side of the range that it stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Course {
    /// Onset of symptoms.
    pub onset_at: Option<Millis>,
    /// When the confirming sample was taken.
    pub sampled_at: Option<Millis>,
    /// When the case was confirmed.
    pub confirmed_at: Option<Millis>,
    /// When the case was isolated.
    pub isolated_at: Option<Millis>,
    /// The start, where the epidemiologist gave one.
    pub infectious_from: Option<Millis>,
    /// The end, where the epidemiologist gave one.
    pub infectious_to: Option<Millis>,
}

/// Why a row has no infectious range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRange {
    /// Neither infectious_from nor onset_at nor sampled_at is known.
    StartMissing,
    /// It ends before or when it starts.
    UpsideDown {
        /// Its start.
        from: Millis,
        /// Its end.
        to: Millis,
    },
}

impl Course {
    /// The infectious range [from, to).
    pub fn infectious_range(&self, as_of: Millis) -> Result<(Millis, Millis), NoRange> {
        let first_sign = match (self.onset_at, self.sampled_at) {
            (Some(onset), Some(sampled)) => Some(onset.min(sampled)),
            (onset, sampled) => onset.or(sampled),
        };
        let from = self
            .infectious_from
            .or(first_sign.map(|at| at - BEFORE_ONSET_MS))
            .ok_or(NoRange::StartMissing)?;
        let to = self.infectious_to.or(self.isolated_at).or(self.confirmed_at).unwrap_or(as_of);
        if to <= from { Err(NoRange::UpsideDown { from, to }) } else { Ok((from, to)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_follows_the_order_of_evidence() {
        let mut course =
            Course { onset_at: Some(300 * HOUR_MS), sampled_at: Some(290 * HOUR_MS), ..Course::default() };
        assert_eq!(course.infectious_range(400 * HOUR_MS), Ok((242 * HOUR_MS, 400 * HOUR_MS)));
        course.confirmed_at = Some(310 * HOUR_MS);
        course.isolated_at = Some(305 * HOUR_MS);
        assert_eq!(course.infectious_range(400 * HOUR_MS), Ok((242 * HOUR_MS, 305 * HOUR_MS)));
        course.infectious_from = Some(305 * HOUR_MS);
        assert!(matches!(course.infectious_range(0), Err(NoRange::UpsideDown { .. })));
        assert_eq!(Course::default().infectious_range(0), Err(NoRange::StartMissing));
    }
}
