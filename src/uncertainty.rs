//! How uncertain a reported position is: the sigma of an isotropic Gaussian about it.

use crate::ping::Ping;
use crate::rule::{Source, StayRule};
use std::sync::Arc;

/// A GPS accuracy is the radius of the circle that holds the true position with 68% (Android's `Location.getAccuracy`):
/// of a two-dimensional Gaussian, sqrt(-2 ln 0.32) = 1.5096 sigmas.
pub const SIGMAS_PER_ACCURACY: f64 = 1.5096;
/// The range of a tower and the radius of a venue are taken for two sigmas: 86% of a two-dimensional Gaussian.
pub const SIGMAS_PER_RANGE: f64 = 2.0;

/// The sigma of every ping of a job, metres.
#[derive(Debug, Clone)]
pub struct Uncertainty {
    by_feed: Arc<[OfFeed]>,
}

#[derive(Debug)]
enum OfFeed {
    Accuracy,
    /// By the number of the tower or venue; of others this.
    Places(Vec<f64>, f64),
}

impl Uncertainty {
    /// Of these feeds; towers and venues bring their ranges and radii, metres, by feed and number of the place. A
    /// venue that is not listed, or without a radius, counts as accurate to the feed's `accuracy_m`.
    pub fn new(feeds: &[StayRule], ranges_m: &[Vec<f64>]) -> Self {
        let none = Vec::new();
        let of_feed = |(number, feed): (usize, &StayRule)| match feed.source {
            Source::Gps => OfFeed::Accuracy,
            Source::Tower | Source::Venue => {
                let sigma = |range_m: f64| range_m / SIGMAS_PER_RANGE;
                let ranges = ranges_m.get(number).unwrap_or(&none);
                let known = |range_m: &f64| if range_m.is_nan() { feed.accuracy_m } else { *range_m };
                OfFeed::Places(ranges.iter().map(known).map(sigma).collect(), sigma(feed.accuracy_m))
            }
        };
        Uncertainty { by_feed: feeds.iter().enumerate().map(of_feed).collect() }
    }

    /// The sigma of a ping, metres.
    #[inline]
    pub fn sigma_m(&self, ping: &Ping) -> f64 {
        self.of(ping.feed, ping.accuracy_m, ping.place)
    }

    /// The same from what it hangs on.
    #[inline]
    pub fn of(&self, feed: u16, accuracy_m: f64, place: u32) -> f64 {
        match &self.by_feed[usize::from(feed)] {
            OfFeed::Accuracy => accuracy_m / SIGMAS_PER_ACCURACY,
            OfFeed::Places(sigmas, other) => sigmas.get(place as usize).copied().unwrap_or(*other),
        }
    }
}
