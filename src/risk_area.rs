//! A risk area: a region that an authority listed for some time. Who dwells in it long enough, while it is listed, may be
//! a candidate. Positions count as they are reported, whatever the rule makes of their uncertainty.

use crate::ping::{Ping, Pings};
use crate::region::{Region, Regions};
use crate::rule::{Motion, Source, StayRule};
use crate::stay::Stay;
use crate::time::{Millis, unite};

/// One listing of an area.
#[derive(Debug, Clone, PartialEq)]
pub struct RiskArea {
    /// Its name in the report.
    pub area_id: String,
    /// How high the risk is, in the authority's words.
    pub level: String,
    /// First instant of the listing.
    pub valid_from: Millis,
    /// First instant after it, unless it is listed still.
    pub valid_to: Option<Millis>,
    /// The least dwell that counts.
    pub dwell_ms_min: Millis,
    /// The report that lists it.
    pub report_id: String,
    /// The authority that answers for it.
    pub authority: String,
}

impl RiskArea {
    /// The first instant after the listing.
    #[inline]
    pub fn end(&self) -> Millis {
        self.valid_to.unwrap_or(Millis::MAX)
    }
}

/// All listings of a job, in the order of their ids, then of their start.
#[derive(Debug)]
pub struct RiskAreas {
    /// By number.
    pub list: Vec<RiskArea>,
    regions: Regions,
    first: Millis,
    last: Millis,
    /// By source, the longest that a ping without an end of its own stands for.
    hold_ms: [Millis; Source::ALL.len()],
    /// The sources, a bit each, of which someone moves between pings.
    moving: u8,
}

/// A person's dwell in an area while it was listed, long enough to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dwelt {
    /// The listing, by its number.
    pub area: u32,
    /// Length of the union of the stays in it.
    pub dwell_ms: Millis,
    /// Start of the first of them.
    pub first_at: Millis,
    /// End of the last.
    pub last_at: Millis,
}

impl RiskAreas {
    /// These listings, each with its region.
    pub fn new(mut listed: Vec<(RiskArea, Region)>, feeds: &[StayRule]) -> Self {
        listed.sort_by(|(a, _), (b, _)| (&a.area_id, a.valid_from).cmp(&(&b.area_id, b.valid_from)));
        let (list, regions): (Vec<RiskArea>, Vec<Region>) = listed.into_iter().unzip();
        let of_source = |source| feeds.iter().filter(move |feed| feed.source == source);
        RiskAreas {
            first: list.iter().map(|area| area.valid_from).min().unwrap_or(Millis::MAX),
            last: list.iter().map(RiskArea::end).max().unwrap_or(Millis::MIN),
            regions: Regions::new(regions),
            hold_ms: Source::ALL.map(|source| of_source(source).map(|feed| feed.hold_ms).max().unwrap_or(0)),
            moving: feeds
                .iter()
                .filter(|f| f.motion == Motion::Linear)
                .fold(0, |set, f| set | f.source.bit()),
            list,
        }
    }

    /// Whether a position may be in an area at all.
    #[inline]
    pub fn may_hold(&self, lat: f64, lon: f64) -> bool {
        self.regions.may_hold(lat, lon)
    }

    /// Calls `each` with the number of every area that holds a position and is listed at that instant.
    pub fn each_at(&self, lat: f64, lon: f64, at: Millis, each: &mut impl FnMut(u32)) {
        self.regions.each_at(lat, lon, &mut |number| {
            let area = &self.list[number as usize];
            if area.valid_from <= at && at < area.end() {
                each(number);
            }
        });
    }

    /// The set of areas that hold a position, listed or not, as a hash; 0 if none does.
    #[inline]
    pub fn set_at(&self, lat: f64, lon: f64) -> u64 {
        self.regions.set_at(lat, lon)
    }

    /// Adds the rows of a batch of pings of one source to `rows` that may be in an area while it is listed, were each to
    /// stand for its whole hold.
    pub fn marked(&self, pings: &Pings<'_>, source: Source, rows: &mut Vec<u32>) {
        let hold_ms = self.hold_ms[source as usize];
        let (from, to) = (self.first.saturating_sub(hold_ms), self.last);
        let while_listed = |row: u32| (from..to).contains(&pings.times[row as usize]);
        if self.moving & source.bit() != 0 {
            // Where a leg leads is told by the next ping.
            rows.extend((0..pings.times.len() as u32).filter(|row| while_listed(*row)));
            return;
        }
        let (start, mut kept) = (rows.len(), rows.len());
        self.regions.rows(pings.lats, pings.lons, rows);
        for at in start..rows.len() {
            rows[kept] = rows[at];
            kept += usize::from(while_listed(rows[at]));
        }
        rows.truncate(kept);
    }

    /// Whether one ping, standing as long as it can, may be in an area while it is listed.
    pub fn may_hold_from(&self, ping: &Ping, feed: &StayRule) -> bool {
        let end = ping.end(feed);
        let moves = self.moving & feed.source.bit() != 0;
        ping.time < self.last && end >= self.first && (moves || self.may_hold(ping.lat, ping.lon))
    }

    /// The dwells of a person, from all stays, that are long enough, in the order of the areas.
    pub fn dwelt(&self, stays: impl Iterator<Item = Stay>) -> Vec<Dwelt> {
        let mut found: Vec<(u32, Millis, Millis)> = Vec::new();
        for stay in stays {
            self.regions.during(&stay, &mut |number, start, end| {
                let area = &self.list[number as usize];
                let (start, end) = (start.max(area.valid_from), end.min(area.end()));
                if start < end {
                    found.push((number, start, end));
                }
            });
        }
        found.sort_unstable();
        let mut dwelt = Vec::new();
        let mut ranges: Vec<(Millis, Millis)> = Vec::new();
        for own in found.chunk_by(|a, b| a.0 == b.0) {
            ranges.clear();
            ranges.extend(own.iter().map(|(_, start, end)| (*start, *end)));
            unite(&mut ranges);
            let dwell_ms: Millis = ranges.iter().map(|(start, end)| end - start).sum();
            let area = own[0].0;
            if dwell_ms >= self.list[area as usize].dwell_ms_min {
                let (first_at, last_at) = (ranges[0].0, ranges[ranges.len() - 1].1);
                dwelt.push(Dwelt { area, dwell_ms, first_at, last_at });
            }
        }
        dwelt
    }
}
