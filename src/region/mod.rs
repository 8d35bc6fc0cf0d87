//! A region: polygons on the map, with holes, and who is inside. Edges are straight in longitude and latitude, as in GeoJSON
//! (RFC 7946, 3.1.1) and simple features; who is on one is inside.

mod index;

pub use index::Regions;

use crate::geo::{LatLonBox, wrap_degrees};
use crate::stay::Stay;
use crate::time::Millis;
use robust::{Coord, orient2d};

/// Longitude and latitude, degrees. A ring that crosses the antimeridian goes on beyond 180.
type Point = (f64, f64);

/// Polygons that count as one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Region {
    parts: Vec<Part>,
}

/// One polygon.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The corners of the outer ring, then those of holes; each ends where it starts.
    points: Vec<Point>,
    /// Where each ring ends.
    ends: Vec<usize>,
    /// Which edges a latitude meets.
    slabs: Slabs,
    /// The box of the outer ring; longitudes from [-180, 180) on, as far as it goes.
    bounds: LatLonBox,
}

/// The edges of a polygon by slabs of latitude, so that of many corners only few are looked at.
#[derive(Debug, Clone, Default, PartialEq)]
struct Slabs {
    lat_first: f64,
    per_degree: f64,
    /// Where the edges of each slab start, and the last one's end.
    starts: Vec<u32>,
    /// Edges by the number of the corner that they start at; in a slab in their order.
    edges: Vec<u32>,
}

/// Degrees around a way in which edges are looked at, so that rounding loses none.
const NEAR: f64 = 1e-8;
/// Edges of a slab, about.
const EDGES_A_SLAB: usize = 4;

impl Slabs {
    fn new(points: &[Point], ends: &[usize], bounds: &LatLonBox) -> Self {
        let count = (points.len() / EDGES_A_SLAB).max(1);
        let height = bounds.lat_max - bounds.lat_min;
        let per_degree = if height > 0.0 { count as f64 / height } else { 0.0 };
        let mut slabs = Slabs { lat_first: bounds.lat_min, per_degree, ..Slabs::default() };
        let last = |at: usize| ends.contains(&(at + 1)) || at + 1 == points.len();
        let lasts: Vec<bool> = (0..points.len()).map(last).collect();
        let spans = |at: u32| {
            let (a, b) = (points[at as usize].1, points[at as usize + 1].1);
            (slabs.slab(a.min(b), count), slabs.slab(a.max(b), count))
        };
        let edges: Vec<(u32, (usize, usize))> =
            (0..points.len() as u32).filter(|at| !lasts[*at as usize]).map(|at| (at, spans(at))).collect();
        let mut starts = vec![0u32; count + 2];
        edges.iter().flat_map(|(_, (from, to))| *from..=*to).for_each(|slab| starts[slab + 2] += 1);
        for slab in 1..starts.len() {
            starts[slab] += starts[slab - 1];
        }
        let mut dealt = vec![0; starts[count + 1] as usize];
        for (at, (from, to)) in edges {
            for slab in from..=to {
                dealt[starts[slab + 1] as usize] = at;
                starts[slab + 1] += 1;
            }
        }
        starts.pop();
        (slabs.starts, slabs.edges) = (starts, dealt);
        slabs
    }

    /// The slab of a latitude, of so many; what lies beyond belongs to the outermost.
    fn slab(&self, lat: f64, count: usize) -> usize {
        // Casts of floats saturate.
        (((lat - self.lat_first) * self.per_degree) as usize).min(count - 1)
    }

    /// The edges that a latitude may meet.
    fn at(&self, lat: f64) -> &[u32] {
        let slab = self.slab(lat, self.starts.len() - 1);
        &self.edges[self.starts[slab] as usize..self.starts[slab + 1] as usize]
    }

    /// The edges that latitudes from one to another may meet, each once or more often.
    fn between(&self, south: f64, north: f64) -> &[u32] {
        let count = self.starts.len() - 1;
        let (from, to) = (self.slab(south, count), self.slab(north, count));
        &self.edges[self.starts[from] as usize..self.starts[to + 1] as usize]
    }
}

/// Why rings are no polygon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPolygon {
    /// A ring of fewer than three different corners.
    TooFewCorners,
    /// A latitude or longitude that is none.
    OutOfRange,
    /// A ring that goes round a pole, whose inside nobody can tell.
    RoundAPole,
}

impl NoPolygon {
    /// What is wrong, in words.
    pub fn found(self) -> &'static str {
        match self {
            NoPolygon::TooFewCorners => "a ring of fewer than three corners",
            NoPolygon::OutOfRange => "a latitude outside -90 to 90, or a longitude outside -360 to 360",
            NoPolygon::RoundAPole => "a ring that goes round a pole",
        }
    }
}

impl Region {
    /// Adds a polygon: its outer ring and its holes, longitude before latitude, in WGS84 degrees. Of two corners farther
    /// apart than half round, the edge between them goes the short way, across the antimeridian.
    pub fn add(&mut self, rings: Vec<Vec<Point>>) -> Result<(), NoPolygon> {
        let mut unwrapped: Vec<Vec<Point>> = Vec::with_capacity(rings.len());
        for ring in rings {
            let start = unwrapped.first().map(|outer| outer[0].0);
            unwrapped.push(unwrap(ring, start)?);
        }
        let Some(outer) = unwrapped.first() else { return Err(NoPolygon::TooFewCorners) };
        let span = |of: fn(&Point) -> f64| {
            let values = || outer.iter().map(of);
            (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max))
        };
        let ((lon_min, lon_max), (lat_min, lat_max)) = (span(|p| p.0), span(|p| p.1));
        // A box starts in [-180, 180), wherever the ring begins.
        let shift = ((lon_min + 180.0) / 360.0).floor() * -360.0;
        if shift != 0.0 {
            unwrapped.iter_mut().flatten().for_each(|point| point.0 += shift);
        }
        let bounds = LatLonBox { lat_min, lat_max, lon_min: lon_min + shift, lon_max: lon_max + shift };
        let mut end = 0;
        let ends = unwrapped.iter().map(|ring| {
            end += ring.len();
            end
        });
        let (points, ends) = (unwrapped.concat(), ends.collect::<Vec<_>>());
        let slabs = Slabs::new(&points, &ends, &bounds);
        self.parts.push(Part { points, ends, slabs, bounds });
        Ok(())
    }

    /// Adds the polygons of another.
    pub fn extend(&mut self, other: Region) {
        self.parts.extend(other.parts);
    }

    /// Whether there are no polygons.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether a position is inside, or on an edge.
    pub fn holds(&self, lat: f64, lon: f64) -> bool {
        self.parts.iter().any(|part| part.holds(lat, lon))
    }
}

/// A ring whose longitudes follow one another, and that ends where it starts.
fn unwrap(mut ring: Vec<Point>, start: Option<f64>) -> Result<Vec<Point>, NoPolygon> {
    if ring.iter().any(|(lon, lat)| !(-90.0..=90.0).contains(lat) || !(-360.0..=360.0).contains(lon)) {
        return Err(NoPolygon::OutOfRange);
    }
    if ring.first() != ring.last() {
        ring.extend(ring.first().copied());
    }
    ring.dedup();
    if ring.len() < 4 {
        return Err(NoPolygon::TooFewCorners);
    }
    // Holes go where their outer ring is.
    let mut turn = start.map_or(0.0, |start| ((start - ring[0].0) / 360.0).round() * 360.0);
    let mut last = ring[0].0;
    for point in &mut ring {
        let step = point.0 - last;
        last = point.0;
        // All round the world is no step back over the antimeridian.
        if step.abs() > 180.0 && step.abs() < 360.0 {
            turn -= 360.0 * step.signum();
        }
        point.0 += turn;
    }
    let closes = ring.first().map(|p| p.0) == ring.last().map(|p| p.0);
    if closes { Ok(ring) } else { Err(NoPolygon::RoundAPole) }
}

impl Part {
    /// Whether a position is inside, or on an edge.
    pub fn holds(&self, lat: f64, lon: f64) -> bool {
        let LatLonBox { lat_min, lat_max, lon_min, lon_max } = self.bounds;
        (lat_min..=lat_max).contains(&lat)
            && [lon, lon + 360.0]
                .iter()
                .any(|lon| (lon_min..=lon_max).contains(lon) && self.holds_here((*lon, lat)))
    }

    /// The same of a point whose longitude goes on beyond 180 as the rings' do: by the crossings of a ray eastwards
    /// (even-odd), in the outer ring and in no hole; exact, with the adaptive predicates of Shewchuk (1997).
    fn holds_here(&self, point: Point) -> bool {
        let mut edges = self.slabs.at(point.1).iter().map(|at| *at as usize).peekable();
        for (ring, end) in self.ends.iter().enumerate() {
            let (mut inside, mut on_edge) = (false, false);
            while let Some(at) = edges.next_if(|at| at < end) {
                match crossing(self.points[at], self.points[at + 1], point) {
                    Crossing::None => {}
                    Crossing::East => inside = !inside,
                    Crossing::Here => on_edge = true,
                }
            }
            let holds = if ring == 0 { inside || on_edge } else { !inside || on_edge };
            if !holds {
                return false;
            }
        }
        true
    }

    fn rings(&self) -> impl Iterator<Item = &[Point]> {
        let mut start = 0;
        self.ends.iter().map(move |end| &self.points[std::mem::replace(&mut start, *end)..*end])
    }

    fn edges(&self) -> impl Iterator<Item = (Point, Point)> {
        self.rings().flat_map(|ring| ring.iter().copied().zip(ring[1..].iter().copied()))
    }

    /// The shares of the way from one point to another, from 0 to 1, on which it is inside, in their order.
    fn along(&self, from: Point, to: Point) -> Vec<(f64, f64)> {
        let way = (to.0 - from.0, to.1 - from.1);
        let at = |share: f64| (from.0 + way.0 * share, from.1 + way.1 * share);
        let mut cuts = vec![0.0, 1.0];
        let (west, east) = (from.0.min(to.0) - NEAR, from.0.max(to.0) + NEAR);
        let near = self.slabs.between(from.1.min(to.1) - NEAR, from.1.max(to.1) + NEAR);
        let edges = near.iter().map(|at| (self.points[*at as usize], self.points[*at as usize + 1]));
        for (a, b) in edges.filter(|(a, b)| a.0.min(b.0) <= east && a.0.max(b.0) >= west) {
            let edge = (b.0 - a.0, b.1 - a.1);
            let gap = (a.0 - from.0, a.1 - from.1);
            let across = way.0 * edge.1 - way.1 * edge.0;
            if across != 0.0 {
                let share = (gap.0 * edge.1 - gap.1 * edge.0) / across;
                let on_edge = (gap.0 * way.1 - gap.1 * way.0) / across;
                if (-1e-9..=1.0 + 1e-9).contains(&on_edge) {
                    cuts.push(share);
                }
            } else {
                // Along an edge, it may end at either corner of it.
                let length = way.0 * way.0 + way.1 * way.1;
                cuts.extend([a, b].map(|p| ((p.0 - from.0) * way.0 + (p.1 - from.1) * way.1) / length));
            }
        }
        cuts.retain(|share| (0.0..=1.0).contains(share));
        cuts.sort_unstable_by(f64::total_cmp);
        let mut inside: Vec<(f64, f64)> = Vec::new();
        for cut in
            cuts.windows(2).filter(|cut| cut[0] < cut[1] && self.holds_here(at((cut[0] + cut[1]) / 2.0)))
        {
            match inside.last_mut() {
                Some(last) if last.1 == cut[0] => last.1 = cut[1],
                _ => inside.push((cut[0], cut[1])),
            }
        }
        inside
    }

    /// Calls `each` with the times at which a stay is inside: of one that moves, to the nearest millisecond, half up.
    fn during(&self, stay: &Stay, each: &mut impl FnMut(Millis, Millis)) {
        let Some(leg) = stay.leg else {
            if self.holds(stay.lat, stay.lon) {
                each(stay.start, stay.end);
            }
            return;
        };
        let time = |share: f64| leg.from + (leg.lasts_ms.get() as f64 * share + 0.5).floor() as Millis;
        for turn in [-360.0, 0.0, 360.0] {
            let from = (stay.lon + turn, stay.lat);
            for (enters, leaves) in self.along(from, (from.0 + leg.dlon, from.1 + leg.dlat)) {
                let (start, end) = (time(enters).max(stay.start), time(leaves).min(stay.end));
                if start < end {
                    each(start, end);
                }
            }
        }
    }
}

/// How an edge crosses the ray eastwards from a point.
enum Crossing {
    None,
    East,
    /// The point lies on it.
    Here,
}

fn crossing(a: Point, b: Point, (lon, lat): Point) -> Crossing {
    let (low, high) = if a.1 <= b.1 { (a, b) } else { (b, a) };
    if lat < low.1 || lat > high.1 {
        return Crossing::None;
    }
    if low.1 == high.1 {
        let along = (a.0.min(b.0)..=a.0.max(b.0)).contains(&lon);
        return if along { Crossing::Here } else { Crossing::None };
    }
    let coord = |(x, y): Point| Coord { x, y };
    let left = orient2d(coord(low), coord(high), coord((lon, lat)));
    match left {
        0.0 => Crossing::Here,
        // An edge counts with its lower end and without its upper one.
        left if left > 0.0 && lat < high.1 => Crossing::East,
        _ => Crossing::None,
    }
}

/// Everywhere in [-180, 180) that a box is, from where its longitudes start.
fn wrapped(bounds: LatLonBox) -> LatLonBox {
    let lon_min = wrap_degrees(bounds.lon_min);
    LatLonBox { lon_min, lon_max: lon_min + (bounds.lon_max - bounds.lon_min), ..bounds }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stay::Leg;
    use proptest::prelude::*;

    fn ring(corners: &[(f64, f64)]) -> Vec<Point> {
        corners.to_vec()
    }

    fn region(polygons: &[&[&[(f64, f64)]]]) -> Region {
        let mut region = Region::default();
        for rings in polygons {
            region.add(rings.iter().map(|corners| ring(corners)).collect()).expect("a polygon");
        }
        region
    }

    const BLOCK: [(f64, f64); 4] = [(0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0)];
    const HOLE: [(f64, f64); 4] = [(1.0, 1.0), (1.0, 2.0), (2.0, 2.0), (2.0, 1.0)];

    #[test]
    fn borders_are_inside_and_holes_are_not() {
        let block = region(&[&[&BLOCK, &HOLE]]);
        for (lat, lon) in [(0.0, 0.0), (4.0, 4.0), (0.0, 2.0), (2.5, 0.0), (3.0, 3.0), (1.0, 1.5), (2.0, 2.0)]
        {
            assert!(block.holds(lat, lon), "{lat} {lon}");
        }
        for (lat, lon) in
            [(1.5, 1.5), (-1e-12, 2.0), (4.0 + 1e-12, 4.0), (2.0, 4.1), (2.0, -0.1), (f64::NAN, 1.0)]
        {
            assert!(!block.holds(lat, lon), "{lat} {lon}");
        }
        // A second polygon inside the hole.
        let island = region(&[&[&BLOCK, &HOLE], &[&[(1.4, 1.4), (1.6, 1.4), (1.5, 1.6)]]]);
        assert!(island.holds(1.5, 1.5) && !island.holds(1.2, 1.2));
    }

    #[test]
    fn across_the_antimeridian() {
        for corners in [
            [(179.0, -1.0), (-179.0, -1.0), (-179.0, 1.0), (179.0, 1.0)],
            [(-179.0, -1.0), (-179.0, 1.0), (179.0, 1.0), (179.0, -1.0)],
            [(179.0, -1.0), (181.0, -1.0), (181.0, 1.0), (179.0, 1.0)],
            [(-181.0, -1.0), (-179.0, -1.0), (-179.0, 1.0), (-181.0, 1.0)],
        ] {
            let across = region(&[&[&corners]]);
            for lon in [179.0, 179.5, -180.0, -179.5, -179.0] {
                assert!(across.holds(0.0, lon), "{corners:?} {lon}");
            }
            for lon in [178.9, -178.9, 0.0] {
                assert!(!across.holds(0.0, lon), "{corners:?} {lon}");
            }
        }
        // Cut at the antimeridian, as GeoJSON has it: the border of the first half is where the other starts.
        let west = region(&[&[&[(179.0, -1.0), (180.0, -1.0), (180.0, 1.0), (179.0, 1.0)]]]);
        assert!(west.holds(0.0, -180.0) && west.holds(0.0, 179.5) && !west.holds(0.0, -179.9));
        // Its hole is across too.
        let outer = [(178.0, -2.0), (-178.0, -2.0), (-178.0, 2.0), (178.0, 2.0)];
        let hole = [(-179.5, -1.0), (-179.5, 1.0), (179.5, 1.0), (179.5, -1.0)];
        let ring = region(&[&[&outer, &hole]]);
        assert!(
            !ring.holds(0.0, -180.0)
                && !ring.holds(0.0, 179.9)
                && ring.holds(0.0, 179.0)
                && ring.holds(1.5, -179.9)
        );
        let world = region(&[&[&[(-180.0, -90.0), (180.0, -90.0), (180.0, 90.0), (-180.0, 90.0)]]]);
        assert!(world.holds(0.0, 0.0) && world.holds(90.0, -180.0) && world.holds(-45.0, 179.0));
    }

    #[test]
    fn what_is_no_polygon() {
        let add = |corners: &[(f64, f64)]| Region::default().add(vec![ring(corners)]);
        assert_eq!(add(&[(0.0, 0.0), (1.0, 1.0)]), Err(NoPolygon::TooFewCorners));
        assert_eq!(add(&[(0.0, 0.0), (0.0, 0.0), (1.0, 1.0), (1.0, 1.0)]), Err(NoPolygon::TooFewCorners));
        assert_eq!(add(&[(0.0, 0.0), (1.0, 91.0), (2.0, 0.0)]), Err(NoPolygon::OutOfRange));
        assert_eq!(add(&[(0.0, 0.0), (f64::NAN, 1.0), (2.0, 0.0)]), Err(NoPolygon::OutOfRange));
        assert_eq!(
            add(&[(0.0, 60.0), (90.0, 60.0), (179.0, 60.0), (-90.0, 60.0)]),
            Err(NoPolygon::RoundAPole)
        );
    }

    #[test]
    fn a_way_through_is_timed() {
        let block = region(&[&[&BLOCK, &HOLE]]);
        // From 2 degrees west of it to 2 east, at the height of the hole, a degree a second.
        let leg = Leg::new((0, 8_000), 0.0, 8.0);
        let stay = |lat: f64, start, end| Stay {
            start,
            sure: start,
            end,
            ending: crate::stay::Ending::default(),
            lat,
            lon: -2.0,
            sigma_m: 0.0,
            leg,
            place: 0,
            floor: 0,
            source: crate::rule::Source::Gps,
            alone: false,
        };
        let during = |stay: &Stay| {
            let mut ranges = Vec::new();
            block.parts[0].during(stay, &mut |start, end| ranges.push((start, end)));
            ranges
        };
        assert_eq!(during(&stay(1.5, 0, 8_000)), [(2_000, 3_000), (4_000, 6_000)]);
        assert_eq!(during(&stay(1.5, 2_500, 4_500)), [(2_500, 3_000), (4_000, 4_500)]);
        // Along the edge, and past it.
        assert_eq!(during(&stay(4.0, 0, 8_000)), [(2_000, 6_000)]);
        assert_eq!(during(&stay(4.1, 0, 8_000)), []);
    }

    proptest! {
        #[test]
        fn the_geo_crate_agrees(
            corners in prop::collection::vec((-4i32..=4, -4i32..=4), 3..8),
            points in prop::collection::vec((-5i32..=5, -5i32..=5), 20),
        ) {
            use geo::Intersects;
            // Thirds are no round numbers, and corners coincide with points.
            let at = |(x, y): (i32, i32)| (f64::from(x) / 3.0, f64::from(y) / 3.0);
            let mut region = Region::default();
            prop_assume!(region.add(vec![corners.iter().map(|c| at(*c)).collect()]).is_ok());
            // Even-odd and winding differ where a ring crosses itself.
            let line: Vec<(f64, f64)> = corners.iter().map(|c| at(*c)).collect();
            let simple = |i: usize, j: usize| {
                let edge = |k: usize| geo::Line::new(line[k], line[(k + 1) % line.len()]);
                let next = (i + 1) % line.len() == j || (j + 1) % line.len() == i;
                next || !edge(i).intersects(&edge(j))
            };
            prop_assume!((0..line.len()).all(|i| (0..i).all(|j| simple(i, j))));
            let polygon = geo::Polygon::new(line.clone().into(), vec![]);
            for point in points {
                let (lon, lat) = at(point);
                prop_assert_eq!(region.holds(lat, lon), polygon.intersects(&geo::Point::new(lon, lat)), "{:?}", point);
            }
        }
    }
}
