//! Where everything stands: districts around a middle, their buildings, stops and base stations. All of it is a function of the
//! seed and a number, but for a few tables of a size that goes with the districts.

use crate::geo::METRES_PER_DEGREE;
use crate::synth::draw::{Stream, unit};
use std::f64::consts::TAU;

/// Persons of a district at most, all neighbours.
pub const DISTRICT_PERSONS: u64 = 4_096;
/// The middle of the city, degrees.
const MIDDLE: (f64, f64) = (34.75, 113.65);
/// The district of number d lies at this distance times (d + 1/2) to the power [`SPREAD`] from the middle, turned by the golden
/// angle against the one before (Vogel, "A better way to construct the sunflower head", 1979). Above one half the density falls to the
/// outside: 9,500 persons on a square kilometre in the middle, 6,000 in a city of 100,000, 3,700 in one of ten million.
const DISTRICT_M: f64 = 370.0;
const SPREAD: f64 = 0.56;
/// pi (3 - sqrt 5).
const GOLDEN_ANGLE: f64 = 2.399_963_229_728_653;
/// Districts that count as near.
const NEAR: usize = 8;
/// Towers of a district; its spread is the district's, so that they are dense in the middle.
const TOWERS: u64 = 3;
/// Towers are found by squares of this side.
const TOWER_SQUARE_M: f64 = 1_000.0;
/// Towers from which a phone chooses.
const TOWERS_HEARD: usize = 5;
/// Side of the squares that have a stop each.
const ZONE_M: f64 = 2_000.0;
/// Persons of a workplace, in the mean.
const WORKPLACE_PERSONS: f64 = 25.0;
/// Share of workers whose workplace is in their own or a near district; the others' are the likelier the nearer to the middle.
pub const NEAR_WORK: f64 = 0.35;

/// Metres to the east, to the north and up from the middle of the city.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    /// To the east.
    pub x: f64,
    /// To the north.
    pub y: f64,
    /// Up.
    pub z: f64,
}

impl Point {
    /// The point so far away.
    pub fn moved(self, east_m: f64, north_m: f64, up_m: f64) -> Self {
        Point { x: self.x + east_m, y: self.y + north_m, z: self.z + up_m }
    }

    /// Metres along a straight line.
    pub fn metres_to(self, other: Point) -> f64 {
        let (x, y, z) = (other.x - self.x, other.y - self.y, other.z - self.z);
        (x * x + y * y + z * z).sqrt()
    }

    /// The point at a share of the way.
    pub fn towards(self, other: Point, share: f64) -> Self {
        self.moved((other.x - self.x) * share, (other.y - self.y) * share, (other.z - self.z) * share)
    }

    /// Latitude and longitude, degrees: east is measured along the point's own parallel.
    pub fn degrees(self) -> (f64, f64) {
        let (lat, lon, _) = self.degrees_and_step();
        (lat, lon)
    }

    /// The same, and the degrees of longitude that a metre to the east is.
    pub fn degrees_and_step(self) -> (f64, f64, f64) {
        let lat = MIDDLE.0 + self.y / METRES_PER_DEGREE;
        let step = 1.0 / (METRES_PER_DEGREE * lat.to_radians().cos());
        (lat, MIDDLE.1 + self.x * step, step)
    }
}

/// What is done at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Setting {
    /// One's own flat.
    Home,
    /// A workplace.
    Work,
    /// A school or kindergarten.
    School,
    /// A shop or a market.
    Shop,
    /// A restaurant or a cafe.
    Restaurant,
    /// A mall.
    Mall,
    /// A park, in the open.
    Park,
    /// A bus or a train.
    Transit,
    /// On the way otherwise: on foot or by bicycle in the open, or alone in a car.
    Way,
    /// Where cases are isolated, each alone.
    Isolation,
}

impl Setting {
    /// All of them.
    pub const ALL: [Setting; 10] = [
        Setting::Home,
        Setting::Work,
        Setting::School,
        Setting::Shop,
        Setting::Restaurant,
        Setting::Mall,
        Setting::Park,
        Setting::Transit,
        Setting::Way,
        Setting::Isolation,
    ];

    /// Its word.
    pub fn name(self) -> &'static str {
        ["home", "work", "school", "shop", "restaurant", "mall", "park", "transit", "way", "isolation"]
            [self as usize]
    }
}

/// A kind of venue: how many a district has, and what it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VenueKind {
    /// Its word in the table of venues.
    pub name: &'static str,
    /// What is done there.
    pub setting: Setting,
    /// In a district.
    pub count: u64,
    /// Side of its ground, metres.
    pub side_m: f64,
    /// Floors.
    pub floors: u64,
    /// How long somebody stands at one spot, minutes.
    pub stands_min: f64,
    /// Whether it has a code to be scanned.
    pub scanned: bool,
}

/// All kinds of venues.
pub const VENUE_KINDS: [VenueKind; 6] = [
    VenueKind {
        name: "shop",
        setting: Setting::Shop,
        count: 8,
        side_m: 15.0,
        floors: 1,
        stands_min: 4.0,
        scanned: true,
    },
    VenueKind {
        name: "market",
        setting: Setting::Shop,
        count: 1,
        side_m: 45.0,
        floors: 1,
        stands_min: 3.0,
        scanned: true,
    },
    VenueKind {
        name: "restaurant",
        setting: Setting::Restaurant,
        count: 10,
        side_m: 14.0,
        floors: 1,
        stands_min: 300.0,
        scanned: true,
    },
    VenueKind {
        name: "cafe",
        setting: Setting::Restaurant,
        count: 3,
        side_m: 10.0,
        floors: 1,
        stands_min: 300.0,
        scanned: true,
    },
    VenueKind {
        name: "mall",
        setting: Setting::Mall,
        count: 1,
        side_m: 90.0,
        floors: 4,
        stands_min: 7.0,
        scanned: true,
    },
    VenueKind {
        name: "park",
        setting: Setting::Park,
        count: 1,
        side_m: 180.0,
        floors: 1,
        stands_min: 6.0,
        scanned: false,
    },
];

/// One venue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Venue {
    /// Its district.
    pub district: u64,
    /// Its place in [`VENUE_KINDS`].
    pub kind: usize,
    /// Its number among those of its kind and district.
    pub number: u64,
    /// The middle of its ground.
    pub middle: Point,
}

impl Venue {
    /// What it is.
    pub fn kind(&self) -> &'static VenueKind {
        &VENUE_KINDS[self.kind]
    }

    /// Its number in the city.
    pub fn key(&self) -> u64 {
        (self.district << 12) | ((self.kind as u64) << 8) | self.number
    }

    /// Its venue_id.
    pub fn id(&self) -> String {
        format!("{}-{}-{}", self.kind().name, self.district, self.number)
    }
}

/// Towers, the nearest first, with their distances, metres.
pub type Heard = [(f64, u32); TOWERS_HEARD];

/// A base station.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tower {
    /// Where it stands.
    pub at: Point,
    /// How far it reaches, metres.
    pub range_m: f64,
}

/// The fixed tables of a city.
#[derive(Debug)]
pub struct Map {
    draws: Stream,
    districts: Vec<Point>,
    /// By district: those near it, the nearest first.
    near: Vec<[u32; NEAR]>,
    /// All towers.
    pub towers: Vec<Tower>,
    /// By square: the towers in it. Squares are counted from `origin`.
    tower_squares: Vec<Vec<u32>>,
    squares_a_side: i64,
    reach_m: f64,
    workers: f64,
}

impl Map {
    /// The map of a city of so many persons.
    pub fn new(persons: u64, draws: Stream) -> Self {
        let count = persons.div_ceil(DISTRICT_PERSONS);
        let districts: Vec<Point> = (0..count).map(district).collect();
        let reach_m = DISTRICT_M * (count as f64 + 1.0).powf(SPREAD) + 1_500.0;
        let near = districts.iter().map(|at| nearest(&districts, *at)).collect();
        let mut map = Map {
            draws,
            districts,
            near,
            towers: Vec::new(),
            tower_squares: Vec::new(),
            squares_a_side: (2.0 * reach_m / TOWER_SQUARE_M).ceil() as i64,
            reach_m,
            workers: persons as f64 * WORKERS,
        };
        map.tower_squares = vec![Vec::new(); (map.squares_a_side * map.squares_a_side) as usize];
        for number in 0..count * TOWERS {
            let at = map.ground(number / TOWERS, map.draws.stream(1).stream(number));
            let square = map.tower_square(at);
            map.tower_squares[square].push(number as u32);
            map.towers.push(Tower { at: at.moved(0.0, 0.0, 25.0), range_m: 0.0 });
        }
        let ranges: Vec<f64> = map.towers.iter().map(|tower| map.range_of(tower.at)).collect();
        map.towers.iter_mut().zip(ranges).for_each(|(tower, range_m)| tower.range_m = range_m);
        map
    }

    /// Districts.
    pub fn districts(&self) -> u64 {
        self.districts.len() as u64
    }

    /// A spot for a building in a district, even over its ground.
    pub fn ground(&self, district: u64, draws: Stream) -> Point {
        let middle = self.districts[district as usize];
        let radius_m = DISTRICT_M * (2.0 * SPREAD * (district as f64 + 0.5).powf(2.0 * SPREAD - 1.0)).sqrt();
        let (angle, out) = (TAU * unit(draws.draw(0)), unit(draws.draw(1)).sqrt() * radius_m);
        middle.moved(angle.cos() * out, angle.sin() * out, 0.0)
    }

    /// A building of a district for a purpose.
    pub fn building(&self, district: u64, purpose: u64, number: u64) -> Point {
        self.ground(district, self.draws.stream(2).stream(district).stream(purpose).stream(number))
    }

    /// Where a person is isolated: outside of the city, far from all others.
    pub fn isolation(&self, person: u64) -> Point {
        let room = |n: u64| (n % 317) as f64 * 60.0;
        Point { x: -self.reach_m - 3_000.0 - room(person), y: room(person / 317), z: 0.0 }
    }

    /// What is the same for all who share a key.
    pub fn common(&self, key: u64) -> Stream {
        self.draws.stream(3).stream(key)
    }

    /// A district near another, the nearer the likelier.
    pub fn near(&self, district: u64, draw: u64) -> u64 {
        let share = unit(draw);
        u64::from(self.near[district as usize][(share * share * NEAR as f64) as usize])
    }

    /// A district anywhere, the likelier the nearer to the middle.
    pub fn central(&self, draw: u64) -> u64 {
        let share = unit(draw);
        ((share * share * self.districts.len() as f64) as u64).min(self.districts() - 1)
    }

    /// Workplaces of a district: as many as its workers fill.
    pub fn workplaces(&self, district: u64) -> u64 {
        let count = self.districts.len() as f64;
        let share_to = |district: u64| (district as f64 / count).sqrt();
        let central = share_to(district + 1) - share_to(district);
        let workers = self.workers * ((1.0 - NEAR_WORK) * central + NEAR_WORK / count);
        ((workers / WORKPLACE_PERSONS) as u64).max(1)
    }

    /// A venue.
    pub fn venue(&self, district: u64, kind: usize, number: u64) -> Venue {
        Venue { district, kind, number, middle: self.building(district, 16 + kind as u64, number) }
    }

    /// A venue of a kind in a district, the first ones the likeliest.
    pub fn some_venue(&self, district: u64, kind: usize, draw: u64) -> Venue {
        let share = unit(draw);
        self.venue(district, kind, (share * share.sqrt() * VENUE_KINDS[kind].count as f64) as u64)
    }

    /// All venues.
    pub fn venues(&self) -> impl Iterator<Item = Venue> {
        (0..self.districts()).flat_map(move |district| {
            VENUE_KINDS.iter().enumerate().flat_map(move |(kind, of)| {
                (0..of.count).map(move |number| self.venue(district, kind, number))
            })
        })
    }

    /// The stop that serves a spot, and its number.
    pub fn stop(&self, at: Point) -> (Point, u64) {
        let zone = |m: f64| (m / ZONE_M).floor();
        let (column, row) = (zone(at.x), zone(at.y));
        let middle = Point { x: (column + 0.5) * ZONE_M, y: (row + 0.5) * ZONE_M, z: 0.0 };
        let number = |zone: f64| (zone as i64 + (1 << 15)) as u64;
        (middle, (number(column) << 16) | number(row))
    }

    /// The towers nearest to a spot, the nearest first, with their distances, metres.
    pub fn towers_near(&self, at: Point) -> Heard {
        let mut found = [(f64::INFINITY, 0); TOWERS_HEARD];
        let (column, row) = self.tower_place(at);
        for ring in 0..self.squares_a_side {
            // What is nearer than the ring can hold is known.
            if found[TOWERS_HEARD.min(self.towers.len()) - 1].0 <= (ring - 1).max(0) as f64 * TOWER_SQUARE_M {
                break;
            }
            for north in -ring..=ring {
                for east in -ring..=ring {
                    let (c, r) = (column + east, row + north);
                    let inside =
                        (0..self.squares_a_side).contains(&c) && (0..self.squares_a_side).contains(&r);
                    if !inside || (north.abs() != ring && east.abs() != ring) {
                        continue;
                    }
                    for number in &self.tower_squares[(r * self.squares_a_side + c) as usize] {
                        let metres = flat_metres(self.towers[*number as usize].at, at);
                        insert(&mut found, (metres, *number));
                    }
                }
            }
        }
        found
    }

    /// A range that reaches a little beyond the third nearest other tower.
    fn range_of(&self, at: Point) -> f64 {
        let near = self.towers_near(at);
        let third = near.iter().filter(|(m, _)| m.is_finite()).nth(3).map_or(1_000.0, |(metres, _)| *metres);
        (third * 1.1).clamp(150.0, 3_000.0).round()
    }

    fn tower_place(&self, at: Point) -> (i64, i64) {
        let place = |m: f64| ((m + self.reach_m) / TOWER_SQUARE_M) as i64;
        let within = |n: i64| n.clamp(0, self.squares_a_side - 1);
        (within(place(at.x)), within(place(at.y)))
    }

    fn tower_square(&self, at: Point) -> usize {
        let (column, row) = self.tower_place(at);
        (row * self.squares_a_side + column) as usize
    }
}

/// Share of persons who work, about: what its households give.
const WORKERS: f64 = 0.44;

fn district(number: u64) -> Point {
    let out = DISTRICT_M * (number as f64 + 0.5).powf(SPREAD);
    let angle = number as f64 * GOLDEN_ANGLE;
    Point { x: out * angle.cos(), y: out * angle.sin(), z: 0.0 }
}

/// Metres on the map.
pub fn flat_metres(a: Point, b: Point) -> f64 {
    ((a.x - b.x) * (a.x - b.x) + (a.y - b.y) * (a.y - b.y)).sqrt()
}

fn nearest(districts: &[Point], at: Point) -> [u32; NEAR] {
    let mut found = [(f64::INFINITY, 0); NEAR];
    for (number, other) in (0u32..).zip(districts) {
        insert(&mut found, (flat_metres(*other, at), number));
    }
    // A small city has fewer districts: the last one stands for those that are missing.
    let known = districts.len().min(NEAR);
    std::array::from_fn(|n| found[n.min(known - 1)].1)
}

/// Puts a number where it belongs among the smallest.
fn insert(found: &mut [(f64, u32)], new: (f64, u32)) {
    let at = found.partition_point(|old| *old <= new);
    if at < found.len() {
        found[at..].rotate_right(1);
        found[at] = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_towers_are_found() {
        let map = Map::new(60_000, Stream::of_seed(2));
        for n in 0..200 {
            let at = map.ground(n % map.districts(), Stream::of_seed(n)).moved(n as f64 * 3.0, 0.0, 0.0);
            let mut all: Vec<(f64, u32)> = (0u32..)
                .zip(&map.towers)
                .map(|(number, tower)| (flat_metres(tower.at, at), number))
                .collect();
            all.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
            assert_eq!(map.towers_near(at)[..], all[..TOWERS_HEARD], "{n}");
        }
        assert!(map.towers.iter().all(|tower| (150.0..=3_000.0).contains(&tower.range_m)));
    }

    #[test]
    fn a_city_is_denser_in_the_middle() {
        let density = |persons: u64| {
            let map = Map::new(persons, Stream::of_seed(1));
            let reach_km =
                map.districts.iter().map(|at| at.metres_to(Point::default())).fold(0.0, f64::max) / 1e3;
            persons as f64 / (std::f64::consts::PI * reach_km * reach_km)
        };
        assert!(density(100_000) > density(1_000_000) && density(1_000_000) > 3_000.0);
        let map = Map::new(1_000_000, Stream::of_seed(1));
        assert!(map.workplaces(0) > 3 * map.workplaces(200));
    }

    #[test]
    fn degrees_are_metres() {
        let a = Point { x: 12_000.0, y: -9_000.0, z: 0.0 };
        let b = a.moved(30.0, 40.0, 0.0);
        let ((lat, lon), (lat_b, lon_b)) = (a.degrees(), b.degrees());
        let metres = crate::geo::haversine_m(lat, lon, lat_b, lon_b);
        assert!((metres - 50.0).abs() < 0.1, "{metres}");
    }
}
