//! "dwell in a listed risk area, while listed, of at least its `dwell_s_min`": by the polygons of the geo crate, which takes
//! who is on a border for inside.

use super::{Ms, Range, Stay, World, length, shared, union};
use geo::{Coord, Intersects, LineString, Point, Polygon};

/// Polygons, each an outer ring and holes, of longitudes and latitudes as they stand in files.
pub type Shapes = Vec<Vec<Vec<(f64, f64)>>>;

/// One listing of a risk area.
#[derive(Clone, Debug)]
pub struct Area {
    /// Its id.
    pub area_id: String,
    /// Where it is.
    pub shapes: Shapes,
    /// Listed from.
    pub from: Ms,
    /// Listed up to.
    pub to: Ms,
    /// The least dwell.
    pub dwell_ms_min: Ms,
}

/// A dwell that is long enough.
#[derive(Clone, Debug, PartialEq)]
pub struct Dwell {
    /// Who.
    pub person: String,
    /// Where.
    pub area_id: String,
    /// For how long in all.
    pub dwell_ms: Ms,
    /// Start of the first stay.
    pub first_at: Ms,
    /// End of the last.
    pub last_at: Ms,
}

/// Longitudes of a ring, each the short way from the one before.
fn ring(corners: &[(f64, f64)]) -> LineString<f64> {
    let mut unwrapped: Vec<Coord<f64>> = Vec::new();
    for &(lon, lat) in corners {
        let mut x = lon;
        if let Some(first) = unwrapped.first() {
            // Small polygons only, so that each corner is near the first.
            while x - first.x > 180.0 {
                x -= 360.0;
            }
            while x - first.x < -180.0 {
                x += 360.0;
            }
        }
        unwrapped.push(Coord { x, y: lat });
    }
    LineString::new(unwrapped)
}

/// Whether somebody who holds is inside.
pub fn holds(shapes: &Shapes, lat: f64, lon: f64) -> bool {
    shapes.iter().any(|rings| {
        [-360.0, 0.0, 360.0].iter().any(|turn| {
            let moved = |corners: &Vec<(f64, f64)>| {
                let mut line = ring(corners);
                // Holes follow the outer ring.
                let outer = ring(&rings[0]).0[0].x;
                let start = line.0[0].x;
                let shift = ((outer - start) / 360.0).round() * 360.0;
                line.0.iter_mut().for_each(|c| c.x += shift);
                line
            };
            let polygon = Polygon::new(moved(&rings[0]), rings[1..].iter().map(moved).collect());
            polygon.intersects(&Point::new(lon + turn, lat))
        })
    })
}

/// When somebody who holds was inside.
fn ranges_in(shapes: &Shapes, stays: &[Stay]) -> Vec<Range> {
    let inside = |stay: &&Stay| stay.position.is_some_and(|at| holds(shapes, at.lat, at.lon));
    stays.iter().filter(inside).map(|stay| stay.range).collect()
}

/// "the union of the track stays in the lookback, [...] in the job's area"
pub fn dwell_in(shapes: &Shapes, stays: &[Stay]) -> Ms {
    length(&union(&ranges_in(shapes, stays)))
}

/// The dwells of a person that make a candidate of them.
pub fn dwells(world: &World, person: &str, stays: &[Stay]) -> Vec<Dwell> {
    let mut found = Vec::new();
    // "A person who is no case of the job"
    if world.cases.iter().any(|case| case.person == person) {
        return found;
    }
    for area in &world.areas {
        let listed = Range { start: area.from, end: area.to };
        let ranges: Vec<Range> =
            ranges_in(&area.shapes, stays).into_iter().filter_map(|range| shared(range, listed)).collect();
        let ranges = union(&ranges);
        let dwell_ms = length(&ranges);
        if dwell_ms > 0 && dwell_ms >= area.dwell_ms_min {
            found.push(Dwell {
                person: person.to_string(),
                area_id: area.area_id.clone(),
                dwell_ms,
                first_at: ranges[0].start,
                last_at: ranges[ranges.len() - 1].end,
            });
        }
    }
    found
}
