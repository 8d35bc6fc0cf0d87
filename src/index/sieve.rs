//! The sieve: may a ping that stands here from now on meet a case at all? A few nanoseconds a ping.
//!
//! It never says no where an encounter is possible; a wrong yes only costs the exact test. How far away a case can be met
//! hangs on how uncertain both positions are, where that counts, so that pings of each band of uncertainties have
//! bitmaps of their own.

use super::bits::Bits;
use crate::ping::{Mark, Marked, Ping, Pings};
use crate::place::Band;
use crate::risk_area::RiskAreas;
use crate::rule::{EncounterRule, Source, StayRule};
use crate::stay::Stay;
use crate::time::Millis;
use crate::uncertainty::Uncertainty;
use arrow::array::{BooleanArray, RecordBatch};
use std::sync::Arc;

/// The bitmaps of each band.
#[derive(Debug, Clone)]
pub struct Sieve {
    bands: Vec<(Band, Bits)>,
    uncertainty: Option<Uncertainty>,
    feeds: Vec<StayRule>,
    /// Areas that a dwell in counts too.
    areas: Option<Arc<RiskAreas>>,
}

/// Whether positions of cases from a source are ever met by persons' stays of a band.
pub fn is_met(source: Source, band: Band, rule: &EncounterRule, uncertainty: Option<&Uncertainty>) -> bool {
    let Some(uncertainty) = uncertainty else { return true };
    let mut meet = Source::ALL.into_iter().filter(|other| rule.cross_source || *other == source);
    meet.any(|other| band.overlaps(uncertainty.range_of(other)))
}

/// Pings of one band, and which rows they are.
struct OfBand {
    rows: Vec<u32>,
    times: Vec<Millis>,
    lats: Vec<f64>,
    lons: Vec<f64>,
}

impl Sieve {
    /// A sieve that lets through what may meet one of these stays. Nothing that comes from `as_of` on can meet them.
    pub fn new(
        stays: &[Stay],
        rule: &EncounterRule,
        feeds: &[StayRule],
        as_of: Millis,
        uncertainty: Option<&Uncertainty>,
    ) -> Self {
        let bits = |band: Band| {
            let meets = Source::ALL.map(|source| is_met(source, band, rule, uncertainty));
            let reach_m = |stay: &Stay| band.reach_m(stay.sigma_m).filter(|_| meets[stay.source as usize]);
            let reaches_m: Vec<Option<f64>> = stays.iter().map(reach_m).collect();
            (band, Bits::new(stays, &reaches_m, rule, feeds, as_of))
        };
        Sieve {
            bands: rule.place.bands().into_iter().map(bits).collect(),
            uncertainty: uncertainty.cloned(),
            feeds: feeds.to_vec(),
            areas: None,
        }
    }

    /// The same that also lets through what may be in one of these areas.
    pub fn with_areas(mut self, areas: Option<&Arc<RiskAreas>>) -> Self {
        self.areas = areas.cloned();
        self
    }

    /// Whether nothing at all can pass.
    pub fn is_empty(&self) -> bool {
        self.areas.is_none() && self.meets_nobody()
    }

    fn meets_nobody(&self) -> bool {
        self.bands.iter().all(|(_, bits)| bits.is_empty())
    }

    /// The kernel: which rows of a batch of pings of one source may meet a case, were each to stand for its
    /// whole hold.
    pub fn mark(&self, batch: &RecordBatch, source: Source) -> BooleanArray {
        let mut found = Vec::new();
        self.marks(&Pings::of(batch), source, &mut found);
        let mut marks = vec![false; batch.num_rows()];
        found.iter().for_each(|mark| marks[mark.row() as usize] = true);
        BooleanArray::from(marks)
    }

    /// The same as the numbers of the rows and what they are marked for, which are added to `marks`.
    pub fn marks(&self, pings: &Pings<'_>, source: Source, marks: &mut Vec<Marked>) {
        let mut by_cases: Vec<u32> = Vec::new();
        self.marked_by_cases(pings, source, &mut by_cases);
        let areas = self.areas.as_ref().filter(|_| !self.one_by_one(source));
        let Some(areas) = areas else {
            let by_cases = by_cases.into_iter().map(|row| Marked::new(row, Mark::Case));
            if marks.is_empty() {
                // In the room that the rows have.
                *marks = by_cases.collect();
            } else {
                marks.extend(by_cases);
            }
            return;
        };
        let case = |row: &u32| Marked::new(*row, Mark::Case);
        let mut in_areas: Vec<u32> = Vec::new();
        areas.marked(pings, source, &mut in_areas);
        let mut by_cases = by_cases.iter().peekable();
        for row in in_areas {
            while let Some(other) = by_cases.next_if(|other| **other < row) {
                marks.push(case(other));
            }
            let mark = if by_cases.next_if_eq(&&row).is_some() { Mark::Case } else { Mark::Area };
            marks.push(Marked::new(row, mark));
        }
        marks.extend(by_cases.map(case));
    }

    /// Whether where and when pings of a source are is all that this asks.
    pub fn asks_places_only(&self, source: Source) -> bool {
        self.bands.len() == 1 && self.areas.is_none() && !self.one_by_one(source)
    }

    /// The rows that may meet a case, of pings of which only that is known.
    pub fn marks_of_places(&self, places: (&[Millis], &[f64], &[f64]), source: Source, rows: &mut Vec<u32>) {
        if let Some((_, bits)) = self.bands.first().filter(|(_, bits)| !bits.is_empty()) {
            bits.marked(places, source, rows);
        }
    }

    /// Whether pings of a source have to be looked at one by one.
    fn one_by_one(&self, source: Source) -> bool {
        self.bands.iter().any(|(_, bits)| bits.one_by_one(source))
    }

    fn marked_by_cases(&self, pings: &Pings<'_>, source: Source, rows: &mut Vec<u32>) {
        if self.is_empty() || (self.meets_nobody() && !self.one_by_one(source)) {
            return;
        }
        if self.one_by_one(source) {
            let all = 0..pings.times.len();
            rows.extend(all.filter(|row| self.may_meet_from(&pings.at(*row))).map(|row| row as u32));
            return;
        }
        match (self.bands.as_slice(), &self.uncertainty) {
            ([(_, bits)], _) => bits.marked((pings.times, pings.lats, pings.lons), source, rows),
            (bands, Some(uncertainty)) => {
                let start = rows.len();
                for (of_band, (_, bits)) in self.dealt(pings, uncertainty).iter().zip(bands) {
                    let found = rows.len();
                    bits.marked((&of_band.times, &of_band.lats, &of_band.lons), source, rows);
                    rows[found..].iter_mut().for_each(|row| *row = of_band.rows[*row as usize]);
                }
                rows[start..].sort_unstable();
            }
            // Without uncertainties nothing is in doubt.
            (_, None) => {}
        }
    }

    /// Pings dealt to their bands.
    fn dealt(&self, pings: &Pings<'_>, uncertainty: &Uncertainty) -> Vec<OfBand> {
        let rows = pings.times.len();
        let sigma_m = |row| uncertainty.of(pings.feed(row), pings.accuracy_m(row), pings.place(row));
        let bands: Vec<u8> = (0..rows).map(|row| self.band_of(sigma_m(row)) as u8).collect();
        let of_band = |band: u8| {
            let rows: Vec<u32> =
                (0u32..).zip(&bands).filter(|(_, b)| **b == band).map(|(row, _)| row).collect();
            let times = rows.iter().map(|row| pings.times[*row as usize]).collect();
            let lats = rows.iter().map(|row| pings.lats[*row as usize]).collect();
            let lons = rows.iter().map(|row| pings.lons[*row as usize]).collect();
            OfBand { rows, times, lats, lons }
        };
        (0..self.bands.len() as u8).map(of_band).collect()
    }

    fn band_of(&self, sigma_m: f64) -> usize {
        let known = self.bands.iter().position(|(band, _)| sigma_m <= band.up_to);
        known.unwrap_or(self.bands.len() - 1)
    }

    /// Whether a ping, standing as long as it can, may meet a case, or be in an area.
    pub fn may_meet_from(&self, ping: &Ping) -> bool {
        let feed = &self.feeds[usize::from(ping.feed)];
        if self.areas.as_ref().is_some_and(|areas| areas.may_hold_from(ping, feed)) {
            return true;
        }
        let sigma_m = self.uncertainty.as_ref().map_or(0.0, |u| u.sigma_m(ping));
        self.bands[self.band_of(sigma_m)].1.may_meet_from(ping)
    }
}
