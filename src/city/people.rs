//! Who lives in a district: households, their flats, and what each person does all year.

use super::map::{DISTRICT_PERSONS, Map, NEAR_WORK, Point, flat_metres};
use crate::synth::draw::{Stream, below, unit};

/// Shares of households by their size, one to six: the census of China of 2020 (National Bureau of Statistics, "China Population
/// Census Yearbook 2020", table 1-13; six and more count as six). Their mean is 2.6.
const HOUSEHOLDS: [f64; 6] = [0.254, 0.297, 0.210, 0.132, 0.062, 0.045];
/// Flats of a floor, and floors of a residential building.
const FLATS_A_FLOOR: u64 = 6;
const FLOORS: u64 = 6;
/// A flat's ground, metres, and the height of a floor.
const FLAT_M: (f64, f64) = (12.0, 8.0);
/// Height of a floor, metres.
pub const FLOOR_M: f64 = 3.0;
/// Share of adults who work: of those from 16 to 59 years in Chinese cities about three quarters do.
const WORKING: f64 = 0.75;
/// Shares of persons with a telephone, by age: small children have none, pupils often a watch that tells where they are.
const PHONES: [f64; 4] = [0.0, 0.75, 1.0, 0.92];
/// Share of adults who go by car where it is too far to walk.
const CARS: f64 = 0.4;
/// Share of persons with a telephone who scan codes at all.
const SCANNERS: f64 = 0.9;
/// Persons of a team at work, who share a room.
const TEAM: u64 = 8;
/// Persons of a class, about.
const CLASSES_A_YEAR: u64 = 2;

/// An age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Age {
    /// Below six years.
    Child,
    /// Six to eighteen.
    Pupil,
    /// Up to sixty.
    Adult,
    /// Above.
    Senior,
}

impl Age {
    /// Its word.
    pub fn name(self) -> &'static str {
        ["child", "pupil", "adult", "senior"][self as usize]
    }
}

/// A workplace, or a class of a school, as one of those in it knows it.
#[derive(Debug, Clone, Copy)]
pub struct Desk {
    /// The building's middle.
    pub building: Point,
    /// Number of the building in the city.
    pub key: u64,
    /// Number of the team or class in it.
    pub team: u64,
    /// One's place in the room.
    pub place: u64,
}

/// A person.
#[derive(Debug, Clone, Copy)]
pub struct Person {
    /// The number.
    pub number: u64,
    /// The district.
    pub district: u64,
    /// Number of the household in the city.
    pub household: u64,
    /// The number in the household, from 0.
    pub member: u64,
    /// Age.
    pub age: Age,
    /// The middle of the flat.
    pub flat: Point,
    /// Where the person works or learns, if anywhere.
    pub desk: Option<Desk>,
    /// Whether a car is at hand.
    pub drives: bool,
    /// Whether there is a telephone.
    pub has_phone: bool,
    /// Whether codes are scanned at all.
    pub scans: bool,
    /// What all else is drawn from.
    pub draws: Stream,
    /// What the household's common plans are drawn from.
    pub household_draws: Stream,
}

/// Everyone who lives in a district, of a city of so many persons.
pub fn people(map: &Map, district: u64, persons: u64, draws: Stream) -> Vec<Person> {
    let first = district * DISTRICT_PERSONS;
    let last = persons.min(first + DISTRICT_PERSONS);
    let households = draws.stream(0).stream(district);
    let all = draws.stream(1);
    let mut people = Vec::with_capacity((last - first) as usize);
    let mut household = 0;
    while first + (people.len() as u64) < last {
        let own = households.stream(household);
        let left = last - first - people.len() as u64;
        let size = size_of(unit(own.draw(0))).min(left);
        let ages = ages_of(size, unit(own.draw(1)));
        let flat = flat_of(map, district, household);
        for member in 0..size {
            let number = first + people.len() as u64;
            let draws = all.stream(number);
            let age = ages[member as usize];
            let [work, phone, car, scan] = [0, 1, 2, 3].map(|n| unit(draws.draw(n)));
            let has_phone = phone < PHONES[age as usize];
            let desk = match age {
                Age::Child | Age::Pupil => Some(class_of(map, district, age, draws)),
                Age::Adult if work < WORKING => Some(desk_of(map, district, draws)),
                _ => None,
            };
            people.push(Person {
                number,
                district,
                household: (district << 16) | household,
                member,
                age,
                flat,
                desk,
                drives: age == Age::Adult && car < CARS,
                has_phone,
                scans: has_phone && scan < SCANNERS,
                draws,
                household_draws: own,
            });
        }
        household += 1;
    }
    people
}

fn size_of(share: f64) -> u64 {
    let mut sum = 0.0;
    let reached = HOUSEHOLDS.iter().position(|part| {
        sum += part;
        share < sum
    });
    reached.unwrap_or(HOUSEHOLDS.len() - 1) as u64 + 1
}

/// Ages of a household, so that one person in five is old, as in 2020 (the same census); the first two are a couple where there are two of an age.
fn ages_of(size: u64, share: f64) -> [Age; 6] {
    use Age::{Adult, Child, Pupil, Senior};
    match size {
        1 if share < 0.75 => [Adult; 6],
        1 => [Senior; 6],
        2 if share < 0.6 => [Adult; 6],
        2 if share < 0.85 => [Senior; 6],
        2 => [Adult, Pupil, Adult, Adult, Adult, Adult],
        3 if share < 0.25 => [Adult, Adult, Child, Adult, Adult, Adult],
        3 if share < 0.65 => [Adult, Adult, Pupil, Adult, Adult, Adult],
        3 => [Adult, Adult, Senior, Adult, Adult, Adult],
        4 if share < 0.4 => [Adult, Adult, Pupil, Child, Adult, Adult],
        4 if share < 0.7 => [Adult, Adult, Pupil, Senior, Adult, Adult],
        4 => [Senior, Senior, Adult, Adult, Adult, Adult],
        5 => [Adult, Adult, Pupil, Senior, Child, Child],
        _ => [Adult, Adult, Pupil, Pupil, Senior, Adult],
    }
}

fn flat_of(map: &Map, district: u64, household: u64) -> Point {
    let (building, flat) = (household / (FLATS_A_FLOOR * FLOORS), household % (FLATS_A_FLOOR * FLOORS));
    let (floor, door) = (flat / FLATS_A_FLOOR, flat % FLATS_A_FLOOR);
    let (column, row) = (door % 3, door / 3);
    let middle = map.building(district, 0, building);
    middle.moved((column as f64 - 1.0) * FLAT_M.0, (row as f64 - 0.5) * FLAT_M.1, floor as f64 * FLOOR_M)
}

fn desk_of(map: &Map, home: u64, draws: Stream) -> Desk {
    let district = if unit(draws.draw(8)) < NEAR_WORK {
        map.near(home, draws.draw(9))
    } else {
        map.central(draws.draw(9))
    };
    // The first workplaces are the largest: the share of the first n of W grows as (n / W)^(1 / 1.6).
    let count = map.workplaces(district) as f64;
    let number = (count * unit(draws.draw(10)).powf(1.6)) as u64;
    let size = |n: u64| (n as f64 / count).powf(1.0 / 1.6);
    let persons = (size(number + 1) - size(number)) * count * 25.0;
    let teams = (persons / TEAM as f64).ceil().max(1.0) as u64;
    Desk {
        building: map.building(district, 1, number),
        key: (1 << 40) | (district << 16) | number,
        team: below(draws.draw(11), teams),
        place: below(draws.draw(12), TEAM),
    }
}

/// Schools and kindergartens are in one's own district.
fn class_of(map: &Map, district: u64, age: Age, draws: Stream) -> Desk {
    let years = if age == Age::Child { 4 } else { 12 };
    Desk {
        building: map.building(district, 2 + age as u64, 0),
        key: (2 << 40) | (district << 16) | age as u64,
        team: below(draws.draw(8), years * CLASSES_A_YEAR),
        place: below(draws.draw(9), 24),
    }
}

impl Desk {
    /// The middle of the room: rooms of 9 by 7 m, four in a row, four rows on a floor.
    pub fn room(&self) -> Point {
        let (column, row, floor) = (self.team % 4, self.team / 4 % 4, self.team / 16);
        self.building.moved((column as f64 - 1.5) * 9.0, (row as f64 - 1.5) * 7.0, floor as f64 * FLOOR_M)
    }

    /// One's own place in it; places stand 1.5 m apart, four in a row.
    pub fn seat(&self) -> Point {
        let (column, row) = (self.place % 4, self.place / 4);
        self.room().moved((column as f64 - 1.5) * 1.5, (row as f64 - 1.5) * 1.3, 0.0)
    }
}

impl Person {
    /// Whether home and another spot are so near that one walks.
    pub fn walks(from: Point, to: Point) -> bool {
        flat_metres(from, to) < 1_200.0
    }

    /// Where the person sleeps: couples share a bed, the others have a corner each.
    pub fn bed(&self) -> Point {
        match self.member {
            0 => self.flat.moved(-4.0, 2.5, 0.0),
            1 => self.flat.moved(-4.0, 3.3, 0.0),
            n => self.flat.moved(4.0, [2.8, -2.8][n as usize % 2], 0.0).moved((n / 4) as f64, 0.0, 0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_district_is_like_the_census() {
        let map = Map::new(8_192, Stream::of_seed(1));
        let people = people(&map, 1, 8_192, Stream::of_seed(5));
        assert_eq!(people.len(), 4_096);
        assert!(people.iter().zip(4_096..).all(|(person, number)| person.number == number));
        let households = people.iter().filter(|p| p.member == 0).count() as f64;
        let mean = 4_096.0 / households;
        let expected: f64 = HOUSEHOLDS.iter().zip(1..).map(|(share, size)| share * f64::from(size)).sum();
        assert!((mean - expected).abs() < 0.12, "{mean} persons a household, {expected} expected");
        let share = |of: &dyn Fn(&Person) -> bool| people.iter().filter(|p| of(p)).count() as f64 / 4_096.0;
        assert!((0.40..0.48).contains(&share(&|p| p.age == Age::Adult && p.desk.is_some())));
        assert!((0.17..0.23).contains(&share(&|p| p.age == Age::Senior)));
        assert!((0.80..0.95).contains(&share(&|p| p.has_phone)));
        assert!(people.iter().all(|p| p.age != Age::Child || !p.has_phone));
    }
}
