//! Scans that their person's own position speaks against: a code that was forwarded is scanned from home.

use crate::geo::haversine_m;
use crate::ping::Pings;
use crate::rule::{Source, StayRule};
use crate::stay::Stay;
use crate::time::Millis;
use crate::track::{TrackRule, whole_track};
use crate::uncertainty::Uncertainty;
use std::ops::Range;

/// How scans are held against positions.
#[derive(Debug, Clone, Copy)]
pub struct Contradiction<'a> {
    /// So much farther than the uncertainties allow is too far, metres.
    pub metres: f64,
    /// How uncertain positions are.
    pub uncertainty: &'a Uncertainty,
}

/// A scan, by its time and the number of its venue.
pub type Scan = (Millis, u32);

impl Contradiction<'_> {
    /// The scans among the pings of one person, which are in the order of time, while whose own gps or tower stay is
    /// farther from the venue than both their uncertainties and `metres` together. `rules` are those of gps and tower.
    pub fn scans(
        &self,
        pings: &Pings<'_>,
        rows: Range<usize>,
        feeds: &[StayRule],
        rules: &mut [TrackRule<'_>],
    ) -> Vec<Scan> {
        // A scan that ends when it begins is none.
        let lasts = |row: usize, feed: &StayRule| {
            let scan = pings.at(row);
            scan.check_out().map_or(scan.hold_ms(feed) > 0, |until| until > scan.time)
        };
        let is_scan = |row: &usize| {
            let feed = &feeds[usize::from(pings.feed(*row))];
            feed.source == Source::Venue && !pings.lat(*row).is_nan() && lasts(*row, feed)
        };
        let scans: Vec<usize> = rows.clone().filter(is_scan).collect();
        if scans.is_empty() {
            return Vec::new();
        }
        let tracks: Vec<(Source, Vec<Stay>)> = rules
            .iter_mut()
            .map(|rule| (rule.source, whole_track(pings, rows.clone(), feeds, rule)))
            .collect();
        let contradicted = |row: &usize| {
            let scan = pings.at(*row);
            let radius_m = self.uncertainty.radius_m(&scan);
            tracks.iter().any(|(source, stays)| {
                let after = stays.partition_point(|stay| stay.start <= scan.time);
                let Some(stay) = after.checked_sub(1).map(|at| &stays[at]) else { return false };
                let (lat, lon) = stay.position_at(scan.time);
                scan.time < stay.end
                    && haversine_m(lat, lon, scan.lat, scan.lon)
                        > Uncertainty::radius_of(*source, stay.sigma_m) + radius_m + self.metres
            })
        };
        let mut found: Vec<Scan> =
            scans.into_iter().filter(contradicted).map(|row| (pings.times[row], pings.place(row))).collect();
        found.dedup();
        found
    }
}
