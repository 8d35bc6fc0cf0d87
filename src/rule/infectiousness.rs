//! How infectious a case is, by day from the onset of symptoms.

use crate::time::{DAY_MS, Millis};

/// A weight for each day from onset, day 0 being the 24 h from it on; 0 outside.
#[derive(Debug, Clone, PartialEq)]
pub struct Infectiousness {
    /// The day of the first weight.
    pub first_day: i64,
    /// Weights, day by day.
    pub weights: Vec<f64>,
}

/// The name of the published curve in rule files.
pub const PUBLISHED: &str = "he-2020";
/// He et al., "Temporal dynamics in viral shedding and transmissibility of COVID-19", Nature Medicine 26 (2020), with the
/// authors' correction of 7 August 2020: a gamma distribution of shape 20.516508 and rate 1.592124, which begins 12.272481 days
/// before onset. The mass of each day, over that of the day of most (the day before onset); days of less than 1% are 0.
const HE_2020: (i64, [f64; 18]) = (
    -7,
    [
        0.014, 0.062, 0.181, 0.386, 0.640, 0.870, 1.0, 1.0, 0.888, 0.711, 0.521, 0.353, 0.223, 0.132, 0.074,
        0.040, 0.020, 0.010,
    ],
);

impl Infectiousness {
    /// The published curve.
    pub fn published() -> Self {
        Infectiousness { first_day: HE_2020.0, weights: HE_2020.1.to_vec() }
    }

    /// The weight of an instant.
    pub fn at(&self, day: i64) -> f64 {
        let number = usize::try_from(day - self.first_day).ok();
        number.and_then(|number| self.weights.get(number)).copied().unwrap_or(0.0)
    }

    /// The day of an instant, from onset.
    pub fn day_of(at: Millis, onset_at: Millis) -> i64 {
        (at - onset_at).div_euclid(DAY_MS)
    }
}
