//! Where and when a ping has to be to meet a case, as areas of the map: what a store has to be searched for.

use super::CaseIndex;
use super::sieve::is_met;
use crate::geo::{LatLonBox, METRES_PER_DEGREE};
use crate::place::region::Region;
use crate::place::{PlaceKey, PlaceRule, cell, outline, row_cos, square};
use crate::rule::Source;
use crate::stay::Stay;
use crate::time::Millis;
use crate::uncertainty::Uncertainty;
use hashbrown::HashMap;

/// Degrees, and a share, by which the bounds of squares and cells are widened, so that rounding loses nothing.
const SLACK_DEG: f64 = 1e-7;
const SLACK: f64 = 1e-3;
/// The share for cells, whose edges are great circles that bend beyond their corners: by up to a fortieth of the largest.
const SLACK_OF_CELLS: f64 = 0.05;
/// Degrees of latitude beyond which corners of cells may lie around a pole.
const LAT_MAX: f64 = 70.0;

impl CaseIndex {
    /// The numbers of the venues in which cases were, each with a time in which scans, each standing for as long as
    /// `hold_ms`, meet one.
    pub fn touched_venues(&self, hold_ms: Millis) -> impl Iterator<Item = (u32, (Millis, Millis))> {
        let of_venues = self.stays.iter().map(|c| &c.stay).filter(|stay| stay.source == Source::Venue);
        let lag_ms = self.rule.lag_ms;
        of_venues.map(move |stay| {
            (stay.place, (stay.start.saturating_sub(hold_ms), stay.end.saturating_add(lag_ms)))
        })
    }

    /// Where and when pings of a source have to be, each standing for as long as `hold_ms`, to meet a case, where nobody moves.
    pub fn touched(&self, source: Source, hold_ms: Millis, uncertainty: Option<&Uncertainty>) -> Region {
        let mut region = Region::default();
        let times =
            |stay: &Stay| (stay.start.saturating_sub(hold_ms), stay.end.saturating_add(self.rule.lag_ms));
        let meets = |stay: &&Stay| {
            let same = stay.source == source;
            stay.has_position() && (same && !source.is_by_id() || self.rule.cross_source)
        };
        let stays = self.stays.iter().map(|c| &c.stay).filter(meets);
        if self.rule.place.metres().is_some() {
            let bands = self.rule.place.bands();
            for stay in stays {
                let own = bands.iter().filter(|band| {
                    let is_of_source = uncertainty.is_none_or(|u| band.overlaps(u.range_of(source)));
                    is_of_source && is_met(stay.source, **band, &self.rule, uncertainty)
                });
                let reach_m = own.filter_map(|band| band.reach_m(stay.sigma_m)).reduce(f64::max);
                if let Some(reach_m) = reach_m {
                    region.add(stay.bounds().grown(reach_m), &[times(stay)]);
                }
            }
        } else {
            let mut by_place: HashMap<u64, (LatLonBox, Vec<(Millis, Millis)>)> = HashMap::new();
            for stay in stays {
                let key = PlaceKey::of_position(&self.rule.place, stay.lat, stay.lon).short();
                let new = || (bounds_of(&self.rule.place, stay.lat, stay.lon), Vec::new());
                by_place.entry(key).or_insert_with(new).1.push(times(stay));
            }
            for (bounds, mut times) in by_place.into_values() {
                crate::time::unite(&mut times);
                region.add(bounds, &times);
            }
        }
        region.finish();
        region
    }
}

/// The bounds of a position's square or cell.
fn bounds_of(place: &PlaceRule, lat: f64, lon: f64) -> LatLonBox {
    let corners = match *place {
        PlaceRule::Grid { square_m } => {
            let square = square(lat, lon, square_m);
            let step = square_m / METRES_PER_DEGREE;
            let across = step / row_cos(square.row as f64, square_m);
            let (south, west) = (square.row as f64 * step, square.col as f64 * across);
            vec![(south, west), (south + step, west + across)]
        }
        PlaceRule::Cell { resolution } => outline(cell(lat, lon, resolution)),
        PlaceRule::Distance { .. } | PlaceRule::Probability { .. } => Vec::new(),
    };
    let around = LatLonBox::of_path(lat, lon, 0.0, 0.0);
    let bounds = corners.into_iter().map(|(lat, lon)| LatLonBox::of_path(lat, lon, 0.0, 0.0));
    let bounds = bounds.fold(around, LatLonBox::with);
    // Around a pole, and across the antimeridian, corners are no bounds.
    let is_plain =
        bounds.lat_min > -LAT_MAX && bounds.lat_max < LAT_MAX && bounds.lon_max - bounds.lon_min < 180.0;
    if !is_plain {
        let (south, north) = (bounds.lat_min < 0.0, bounds.lat_max > 0.0);
        return LatLonBox {
            lat_min: if south { -90.0 } else { 0.0 },
            lat_max: if north { 90.0 } else { 0.0 },
            lon_min: -180.0,
            lon_max: 180.0,
        };
    }
    let share = if matches!(place, PlaceRule::Cell { .. }) { SLACK_OF_CELLS } else { SLACK };
    let lat_slack = SLACK_DEG + share * (bounds.lat_max - bounds.lat_min);
    let lon_slack = SLACK_DEG + share * (bounds.lon_max - bounds.lon_min);
    LatLonBox {
        lat_min: bounds.lat_min - lat_slack,
        lat_max: bounds.lat_max + lat_slack,
        lon_min: bounds.lon_min - lon_slack,
        lon_max: bounds.lon_max + lon_slack,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use h3o::{CellIndex, LatLng};

    fn on_sphere((lat, lon): (f64, f64)) -> [f64; 3] {
        let (lat, lon) = (lat.to_radians(), lon.to_radians());
        [lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()]
    }

    fn in_degrees([x, y, z]: [f64; 3]) -> (f64, f64) {
        (z.atan2(x.hypot(y)).to_degrees(), y.atan2(x).to_degrees())
    }

    /// Middles of edges, where they bend most, are within the bounds of the cell, however large it is.
    #[test]
    fn bounds_hold_what_bends() {
        let mut state = 3u64;
        let mut random = move || {
            state = crate::lattice::mixed(state);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        for resolution in 0..=9u8 {
            let place = PlaceRule::Cell { resolution };
            for _ in 0..2_000 {
                let at = (
                    in_degrees(on_sphere(((random() * 2.0 - 1.0).asin().to_degrees(), random() * 360.0))).0,
                    random() * 359.9 - 179.95,
                );
                let own = cell(at.0, at.1, resolution);
                let middle = LatLng::from(CellIndex::try_from(own).expect("a cell"));
                let bounds = bounds_of(&place, middle.lat(), middle.lng());
                let corners = outline(own);
                let next = corners.iter().cycle().skip(1);
                let middles = corners.iter().zip(next).flat_map(|(a, b)| {
                    let (a, b) = (on_sphere(*a), on_sphere(*b));
                    [0.3, 0.5, 0.7].map(|t| in_degrees([0, 1, 2].map(|i: usize| a[i] * (1.0 - t) + b[i] * t)))
                });
                for (lat, lon) in middles.chain([at]) {
                    let lon = if lon < bounds.lon_min { lon + 360.0 } else { lon };
                    let holds = (bounds.lat_min..=bounds.lat_max).contains(&lat)
                        && (bounds.lon_min..=bounds.lon_max).contains(&lon);
                    assert!(holds, "{resolution} {own:x}: {lat} {lon} {bounds:?}");
                }
            }
        }
    }
}
