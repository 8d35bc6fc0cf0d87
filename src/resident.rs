//! How long a person dwells where an exposure took place: the published rule asks it of either side.

use crate::place::{PlaceKey, PlaceRule, Squares};
use crate::region::Regions;
use crate::rule::{Resident, ResidentOf, ResidentScope};
use crate::stay::Stay;
use crate::time::{Millis, unite};
use crate::track::dwelling::Summed;

/// Where a person was, and when, over the whole lookback.
#[derive(Debug, Clone, Default)]
pub struct Dwell {
    /// By square or cell, in short: the union of the stays there.
    places: Vec<(u64, Vec<(Millis, Millis)>)>,
    anywhere_ms: Millis,
    /// In the job's area.
    home_ms: Millis,
}

impl Dwell {
    /// From all stays of a person; `home` is the job's area, where the rule asks for it.
    pub fn new(stays: &[Stay], place: &PlaceRule, home: Option<&Regions>) -> Self {
        let mut all: Vec<(Millis, Millis)> = stays.iter().map(|stay| (stay.start, stay.end)).collect();
        unite(&mut all);
        let mut at_home: Vec<(Millis, Millis)> = Vec::new();
        for stay in home.map_or(&[][..], |_| stays) {
            home.inspect(|home| home.during(stay, &mut |_, start, end| at_home.push((start, end))));
        }
        unite(&mut at_home);
        let placed = stays.iter().filter(|stay| stay.has_position());
        let key = |stay: &Stay| PlaceKey::of_position(place, stay.lat, stay.lon).short();
        let mut keyed: Vec<(u64, Millis, Millis)> =
            placed.map(|stay| (key(stay), stay.start, stay.end)).collect();
        keyed.sort_unstable();
        let mut places: Vec<(u64, Vec<(Millis, Millis)>)> = Vec::new();
        for own in keyed.chunk_by(|a, b| a.0 == b.0) {
            let mut ranges: Vec<(Millis, Millis)> =
                own.iter().map(|(_, start, end)| (*start, *end)).collect();
            unite(&mut ranges);
            places.push((own[0].0, ranges));
        }
        Dwell { places, anywhere_ms: length(&all), home_ms: length(&at_home) }
    }

    /// Length of the union of the stays in these squares or cells.
    fn within_ms(&self, keys: &[u64], room: &mut Vec<(Millis, Millis)>) -> Millis {
        room.clear();
        for key in keys {
            if let Ok(at) = self.places.binary_search_by_key(key, |(key, _)| *key) {
                room.extend_from_slice(&self.places[at].1);
            }
        }
        unite(room);
        length(room)
    }

    fn reaches(&self, keys: &[u64], rule: &Resident, room: &mut Vec<(Millis, Millis)>) -> bool {
        match rule.scope {
            ResidentScope::Any => self.anywhere_ms >= rule.ms_min,
            ResidentScope::Area => self.home_ms >= rule.ms_min,
            ResidentScope::Place => self.within_ms(keys, room) >= rule.ms_min,
        }
    }
}

fn length(union: &[(Millis, Millis)]) -> Millis {
    union.iter().map(|(start, end)| end - start).sum()
}

/// How positions are told apart where lengths of stays are only added up: as far as the rule asks.
#[derive(Debug, Clone)]
pub enum Whereabouts<'a> {
    /// Not at all.
    Anywhere,
    /// In the job's area or not.
    Home(&'a Regions),
    /// By square.
    Squares(f64, Box<Squares>),
}

/// Where it counts, if places are not told apart.
const INSIDE: u64 = 1;

impl<'a> Whereabouts<'a> {
    /// What a rule asks; `None` if that takes too long to find out of every ping.
    pub fn new(rule: &Resident, place: &PlaceRule, home: Option<&'a Regions>) -> Option<Self> {
        match (rule.scope, *place) {
            (ResidentScope::Any, _) => Some(Whereabouts::Anywhere),
            (ResidentScope::Area, _) => home.map(Whereabouts::Home),
            (ResidentScope::Place, PlaceRule::Grid { square_m }) => {
                Some(Whereabouts::Squares(square_m, Box::default()))
            }
            (ResidentScope::Place, _) => None,
        }
    }

    /// Where positions are, in short, in the place of what `keys` held.
    pub fn keys(&mut self, lats: &[f64], lons: &[f64], keys: &mut Vec<u64>) {
        keys.clear();
        match self {
            Whereabouts::Anywhere => keys.resize(lats.len(), INSIDE),
            Whereabouts::Home(home) => {
                let inside = |(lat, lon): (&f64, &f64)| u64::from(home.set_at(*lat, *lon) != 0) * INSIDE;
                keys.extend(lats.iter().zip(lons).map(inside));
            }
            Whereabouts::Squares(square_m, squares) => squares.shorts(lats, lons, *square_m, keys),
        }
    }
}

impl Summed<'_> {
    /// `None` if it hangs on what is doubtful.
    fn reaches(&self, keys: &[u64], rule: &Resident) -> Option<bool> {
        let keys = match rule.scope {
            ResidentScope::Any | ResidentScope::Area => &[INSIDE],
            ResidentScope::Place => keys,
        };
        let within = self.places.iter().filter(|(key, _)| keys.binary_search(key).is_ok());
        let sure_ms: Millis = within.map(|(_, ms)| Millis::from(*ms)).sum();
        match sure_ms >= rule.ms_min {
            true => Some(true),
            false => (sure_ms + self.doubtful_ms < rule.ms_min).then_some(false),
        }
    }
}

/// What is known of where a person dwells.
#[derive(Debug, Clone, Copy)]
pub enum Known<'a> {
    /// When the person was where.
    Dwell(&'a Dwell),
    /// For how long.
    Summed(Summed<'a>),
}

/// Whether the person, or a case, or either, as the rule has it, dwells long enough where these exposures took place. `None`
/// if that hangs on the person, of whom it is not known yet.
pub fn is_resident<'a>(
    rule: &Resident,
    person: Option<Known<'_>>,
    mut cases: impl Iterator<Item = &'a Dwell>,
    keys: &[u64],
    room: &mut Vec<(Millis, Millis)>,
) -> Option<bool> {
    let of_case = rule.of != ResidentOf::Person && cases.any(|dwell| dwell.reaches(keys, rule, room));
    if of_case || rule.of == ResidentOf::Case {
        return Some(of_case);
    }
    match person? {
        Known::Dwell(dwell) => Some(dwell.reaches(keys, rule, room)),
        Known::Summed(summed) => summed.reaches(keys, rule),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Square;

    #[test]
    fn overlapping_stays_count_once() {
        let place = PlaceRule::Grid { square_m: 800.0 };
        let side = 800.0 / crate::geo::METRES_PER_DEGREE;
        let stay = |col: i64, start, end| Stay {
            start,
            sure: start,
            end,
            ending: crate::stay::Ending::default(),
            lat: 0.5 * side,
            lon: (col as f64 + 0.5) * side,
            sigma_m: 0.0,
            leg: None,
            place: 0,
            floor: 0,
            source: crate::rule::Source::Gps,
            alone: false,
        };
        let nowhere = Stay { lat: f64::NAN, lon: f64::NAN, ..stay(0, 30, 35) };
        let stays = [stay(1, 0, 10), stay(2, 5, 20), stay(1, 8, 12), nowhere];
        let dwell = Dwell::new(&stays, &place, None);
        let keys = |cols: &[i64]| -> Vec<u64> {
            cols.iter().map(|col| PlaceKey::Square(Square { row: 0, col: *col }).short()).collect()
        };
        let mut room = Vec::new();
        assert_eq!(dwell.within_ms(&keys(&[1]), &mut room), 12);
        assert_eq!(dwell.within_ms(&keys(&[1, 2]), &mut room), 20);
        assert_eq!(dwell.within_ms(&keys(&[3]), &mut room), 0);
        assert_eq!(dwell.anywhere_ms, 25);
    }
}
