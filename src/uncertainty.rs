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
    /// By source: the least and the largest sigma.
    ranges: [(f64, f64); Source::ALL.len()],
}

#[derive(Debug)]
enum OfFeed {
    Accuracy,
    /// Trips have no position.
    Nowhere,
    /// By the number of the tower or venue; of others this.
    Places(Vec<f64>, f64),
}

impl Uncertainty {
    /// Of these feeds; towers and venues bring their ranges and radii, metres, by feed and number of the place. A
    /// venue that is not listed, or without a radius, counts as accurate to the feed's `accuracy_m`. `accuracies_m` are the
    /// least and the largest of each feed, as far as they are known beforehand.
    pub fn new(feeds: &[StayRule], ranges_m: &[Vec<f64>], accuracies_m: &[(f64, f64)]) -> Self {
        let none = Vec::new();
        let of_feed = |(number, feed): (usize, &StayRule)| match feed.source {
            Source::Gps => OfFeed::Accuracy,
            Source::Trip => OfFeed::Nowhere,
            Source::Tower | Source::Venue => {
                let sigma = |range_m: f64| range_m / SIGMAS_PER_RANGE;
                let ranges = ranges_m.get(number).unwrap_or(&none);
                let known = |range_m: &f64| if range_m.is_nan() { feed.accuracy_m } else { *range_m };
                OfFeed::Places(ranges.iter().map(known).map(sigma).collect(), sigma(feed.accuracy_m))
            }
        };
        let by_feed: Arc<[OfFeed]> = feeds.iter().enumerate().map(of_feed).collect();
        let mut ranges: [(f64, f64); Source::ALL.len()] = [(f64::INFINITY, 0.0); Source::ALL.len()];
        for (number, (feed, of_feed)) in feeds.iter().zip(by_feed.iter()).enumerate() {
            let (least, most) = &mut ranges[feed.source as usize];
            let mut see = |sigma: f64| (*least, *most) = (least.min(sigma), most.max(sigma));
            match of_feed {
                OfFeed::Accuracy => {
                    let (from, to) = accuracies_m.get(number).copied().unwrap_or((0.0, f64::INFINITY));
                    [from, to].into_iter().for_each(|m| see(m / SIGMAS_PER_ACCURACY));
                }
                OfFeed::Nowhere => {}
                OfFeed::Places(sigmas, other) => sigmas.iter().chain([other]).for_each(|sigma| see(*sigma)),
            }
        }
        Uncertainty { by_feed, ranges }
    }

    /// The least and the largest sigma of a source's pings, metres.
    pub fn range_of(&self, source: Source) -> (f64, f64) {
        self.ranges[source as usize]
    }

    /// The sigma of a ping, metres.
    #[inline]
    pub fn sigma_m(&self, ping: &Ping) -> f64 {
        self.of(ping.feed, ping.accuracy_m, ping.place)
    }

    /// The reported radius that a sigma came from, metres: of an accuracy, a range, or a venue.
    #[inline]
    pub fn radius_of(source: Source, sigma_m: f64) -> f64 {
        sigma_m * if source == Source::Gps { SIGMAS_PER_ACCURACY } else { SIGMAS_PER_RANGE }
    }

    /// The same from what it hangs on.
    #[inline]
    pub fn of(&self, feed: u16, accuracy_m: f64, place: u32) -> f64 {
        match &self.by_feed[usize::from(feed)] {
            OfFeed::Accuracy => accuracy_m / SIGMAS_PER_ACCURACY,
            OfFeed::Nowhere => 0.0,
            OfFeed::Places(sigmas, other) => sigmas.get(place as usize).copied().unwrap_or(*other),
        }
    }
}
