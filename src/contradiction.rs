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
    /// farther from the venue than both their uncertainties and `metres` together. `rules` are those of all sources.
    pub fn scans(
        &self,
        pings: &Pings<'_>,
        rows: Range<usize>,
        feeds: &[StayRule],
        rules: &mut [TrackRule<'_>],
    ) -> Vec<Scan> {
        let has_scans = rows.clone().any(|row| feeds[usize::from(pings.feed(row))].source == Source::Venue);
        if !has_scans {
            return Vec::new();
        }
        let mut tracks = |sources: &[Source]| -> Vec<Vec<Stay>> {
            let wanted = rules.iter_mut().filter(|rule| sources.contains(&rule.source));
            wanted.map(|rule| whole_track(pings, rows.clone(), feeds, rule)).collect()
        };
        let (scans, positions) = (tracks(&[Source::Venue]).concat(), tracks(&[Source::Gps, Source::Tower]));
        let contradicted = |scan: &&Stay| {
            let radius_m = Uncertainty::radius_of(Source::Venue, scan.sigma_m);
            positions.iter().any(|stays| {
                let after = stays.partition_point(|stay| stay.start <= scan.start);
                let Some(stay) = after.checked_sub(1).map(|at| &stays[at]) else { return false };
                let (lat, lon) = stay.position_at(scan.start);
                scan.start < stay.end
                    && haversine_m(lat, lon, scan.lat, scan.lon)
                        > Uncertainty::radius_of(stay.source, stay.sigma_m) + radius_m + self.metres
            })
        };
        let placed = scans.iter().filter(|scan| scan.has_position());
        placed.filter(contradicted).map(|scan| (scan.start, scan.place)).collect()
    }
}
