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

/// Degrees, and a share, by which the bounds of squares and cells are widened, so that rounding and bending lose nothing.
const SLACK_DEG: f64 = 1e-7;
const SLACK: f64 = 1e-3;
/// Degrees of latitude beyond which corners of cells may lie around a pole.
const LAT_MAX: f64 = 70.0;

impl CaseIndex {
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
    // Edges of large cells bend.
    let lat_slack = SLACK_DEG + SLACK * (bounds.lat_max - bounds.lat_min);
    let lon_slack = SLACK_DEG + SLACK * (bounds.lon_max - bounds.lon_min);
    LatLonBox {
        lat_min: bounds.lat_min - lat_slack,
        lat_max: bounds.lat_max + lat_slack,
        lon_min: bounds.lon_min - lon_slack,
        lon_max: bounds.lon_max + lon_slack,
    }
}
