//! A trip: a part of a journey in a vehicle. Who is near whom there is a matter of seats; the rules are data, in
//! `data/rules/vehicles.toml`, with their source.

use serde::Deserialize;
use std::sync::LazyLock;

/// The text of the file with the rules.
pub const VEHICLES: &str = include_str!("../data/rules/vehicles.toml");

/// A part of a vehicle that a seat belongs to: a column of a trip feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A coach of a train.
    Coach,
    /// A bay of a coach; they are numbered one after the other.
    Bay,
    /// A row of seats; they are numbered one after the other.
    SeatRow,
    /// A cabin of a ship.
    Cabin,
}

impl Part {
    /// The name of its column.
    pub fn column(self) -> &'static str {
        match self {
            Part::Coach => "coach",
            Part::Bay => "bay",
            Part::SeatRow => "seat_row",
            Part::Cabin => "cabin",
        }
    }
}

/// The rule of one kind of vehicle.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Vehicle {
    /// Its name in feeds.
    pub name: String,
    /// Other names for it.
    #[serde(default)]
    pub also: Vec<String>,
    /// What both have to share, if anything.
    pub same: Option<Part>,
    /// What they have to be near in, if anything.
    pub near: Option<Part>,
    /// How far apart there, at most.
    #[serde(default)]
    pub near_max: u64,
}

#[derive(Debug, Deserialize)]
struct File {
    vehicle: Vec<Vehicle>,
}

/// The rules of all kinds of vehicles.
pub fn vehicles() -> &'static [Vehicle] {
    static ALL: LazyLock<Vec<Vehicle>> =
        LazyLock::new(|| toml::from_str::<File>(VEHICLES).map_or_else(|_| Vec::new(), |file| file.vehicle));
    &ALL
}

/// The number of a kind of vehicle in [`vehicles`]; capitals, blanks, underscores and hyphens make no difference.
pub fn vehicle_number(name: &str) -> Option<u8> {
    static KNOWN: LazyLock<Vec<(Vec<u8>, u8)>> = LazyLock::new(|| {
        let names = |(number, vehicle): (u8, &'static Vehicle)| {
            let all = std::iter::once(&vehicle.name).chain(&vehicle.also);
            all.map(move |name| (letters(name).collect(), number)).collect::<Vec<_>>()
        };
        (0u8..).zip(vehicles()).flat_map(names).collect()
    });
    let known = KNOWN.iter().find(|(known, _)| letters(name).eq(known.iter().copied()));
    known.map(|(_, number)| *number)
}

/// What counts of a name.
fn letters(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().filter(|b| !b" _-".contains(b)).map(|b| b.to_ascii_lowercase())
}

/// Where somebody sits in a vehicle, as far as its rule asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Seat {
    /// The number of the kind of vehicle.
    pub vehicle: u8,
    /// The coach or cabin, where the rule asks for one and the trip says.
    pub same: Option<String>,
    /// The row or bay, likewise.
    pub near: Option<i64>,
}

impl Seat {
    /// Whether the trip says all that its vehicle's rule asks for.
    pub fn is_known(&self) -> bool {
        vehicles().get(usize::from(self.vehicle)).is_some_and(|vehicle| {
            vehicle.same.is_some() == self.same.is_some() && vehicle.near.is_some() == self.near.is_some()
        })
    }

    /// Whether who sits here, and who sits there on the same trip, are near each other by the rule of the vehicle.
    pub fn is_near(&self, other: &Seat) -> bool {
        let apart = match (self.near, other.near) {
            (Some(a), Some(b)) => a.abs_diff(b),
            _ => 0,
        };
        (self.vehicle, &self.same) == (other.vehicle, &other.same)
            && self.is_known()
            && other.is_known()
            && apart <= vehicles()[usize::from(self.vehicle)].near_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(vehicle: &str, same: Option<&str>, near: Option<i64>) -> Seat {
        let vehicle = vehicle_number(vehicle).expect("a vehicle of the file");
        Seat { vehicle, same: same.map(str::to_string), near }
    }

    #[test]
    fn the_guide_in_every_vehicle() {
        let near = |a: &Seat, b: &Seat| {
            assert_eq!(a.is_near(b), b.is_near(a));
            a.is_near(b)
        };
        let air = |row| seat("air", None, Some(row));
        assert!(near(&air(12), &air(12)) && near(&air(12), &air(15)) && near(&air(12), &air(9)));
        assert!(!near(&air(12), &air(16)) && !near(&air(12), &seat("air", None, None)));
        let coach = |coach| seat("Sealed Train", Some(coach), None);
        assert!(near(&coach("7"), &coach("7")) && !near(&coach("7"), &coach("07")));
        let bay = |coach, bay| seat("train_ventilated", Some(coach), Some(bay));
        assert!(near(&bay("7", 3), &bay("7", 3)) && near(&bay("7", 3), &bay("7", 4)));
        assert!(!near(&bay("7", 3), &bay("7", 5)) && !near(&bay("7", 3), &bay("8", 3)));
        assert_eq!(vehicle_number(" Bus  Sealed "), vehicle_number("sealedbus"));
        assert_eq!(vehicle_number("rocket"), None);
        assert!(near(&seat("bus-sealed", None, None), &seat("sealed bus", None, None)));
        let row = |row| seat("bus-ventilated", None, Some(row));
        assert!(near(&row(1), &row(4)) && !near(&row(1), &row(5)));
        assert!(!near(&row(1), &air(1)));
        let cabin = |cabin| seat("ship", cabin, None);
        assert!(
            near(&cabin(Some("B12")), &cabin(Some("B12"))) && !near(&cabin(Some("B12")), &cabin(Some("B13")))
        );
        assert!(!near(&cabin(None), &cabin(None)));
        assert!(!near(&row(i64::MIN), &row(i64::MAX)));
    }
}
