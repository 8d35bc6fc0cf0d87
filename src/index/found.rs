//! What many stays meet, looked up together: whatever a look-up hangs on is fetched for all of them before it is looked at
//! for any, as an index of many cases lies far from the caches.

use super::intervals::{Asked, Query};
use super::{By, CaseIndex, CaseStay, Near, in_tree, keyed};
use crate::person::PersonRef;
use crate::place::PlaceKey;
use crate::rule::Source;
use crate::stay::{Stay, key_of};
use std::hint::black_box;

/// Case's stays that are found at once, but for those of the last stay.
const HITS: usize = 1 << 12;

/// What is to be looked up for one of the stays.
#[derive(Debug, Clone, Copy)]
enum Ask {
    /// Who shares an id, or a square or a cell.
    Keyed { row: u32, by_id: bool, asked: Asked },
    /// Who stands in a box, by band and source.
    Boxed { row: u32, near: (u8, u8), asked: Asked },
    /// Who else is near.
    Tree { row: u32, near: (u8, u8) },
}

impl Ask {
    fn row(&self) -> u32 {
        match *self {
            Ask::Keyed { row, .. } | Ask::Boxed { row, .. } | Ask::Tree { row, .. } => row,
        }
    }
}

/// A case's stay that one of the stays may meet.
#[derive(Debug, Clone, Copy)]
pub struct Hit {
    /// The stay, by its place among those that were asked for.
    pub row: u32,
    item: u32,
    by_id: bool,
}

/// What was found of some stays; its room is used again.
#[derive(Debug, Default)]
pub struct Found {
    asks: Vec<Ask>,
    /// By row: what it may share with a case's.
    keys: Vec<PlaceKey>,
    /// In the order of the stays.
    pub hits: Vec<Hit>,
}

impl CaseIndex {
    /// Finds every case's stay that may meet one of these: it overlaps it in time, or did so at most the lag before, and
    /// shares its key or is near. Who is alone meets nobody. Gives for how many of the stays it did so: all, or one at least,
    /// as many as meet what the near caches hold.
    pub fn find(&self, stays: &[Stay], found: &mut Found) -> usize {
        let Found { asks, keys, hits } = found;
        asks.clear();
        keys.clear();
        hits.clear();
        for (stay, row) in stays.iter().zip(0..) {
            keys.push(if stay.alone { PlaceKey::Near } else { self.ask(stay, row, asks) });
        }
        let touch = |ask: &Ask| match ask {
            Ask::Keyed { asked, .. } => self.keyed.touch(asked),
            Ask::Boxed { near, asked, .. } => self.near(*near).boxes.touch(asked),
            Ask::Tree { .. } => 0,
        };
        black_box(asks.iter().fold(0, |seen, ask| seen ^ touch(ask)));
        let mut done = stays.len();
        for ask in asks.iter() {
            let row = ask.row();
            if hits.len() >= HITS && hits.last().is_some_and(|hit| hit.row != row) {
                done = row as usize;
                break;
            }
            match *ask {
                Ask::Keyed { by_id, ref asked, .. } => {
                    self.keyed.find(asked, &mut |item| hits.push(Hit { row, item, by_id }));
                }
                Ask::Boxed { near, ref asked, .. } => {
                    let hit = |item| Hit { row, item, by_id: false };
                    self.near(near).boxes.find(asked, &mut |item| hits.push(hit(item)));
                }
                Ask::Tree { near, .. } => {
                    let near = self.near(near);
                    let items = in_tree(&near.tree, &stays[row as usize], near.reach_m);
                    hits.extend(items.into_iter().map(|item| Hit { row, item, by_id: false }));
                }
            }
        }
        let touch = |hit: &Hit| {
            let case: &CaseStay = &self.stays[hit.item as usize];
            case.case
        };
        black_box(hits.iter().fold(0, |seen, hit| seen ^ touch(hit)));
        done
    }

    /// The case's stay of a hit, and how it was found; none if it is of the person `own`.
    #[inline]
    pub fn met(&self, hit: &Hit, found: &Found, own: Option<u32>) -> Option<(By, &CaseStay)> {
        let case = &self.stays[hit.item as usize];
        let by = if hit.by_id { By::Id } else { By::Position(found.keys[hit.row as usize]) };
        (Some(self.persons[case.case as usize]) != own).then_some((by, case))
    }

    fn near(&self, (band, source): (u8, u8)) -> &Near {
        &self.near[usize::from(band)].1[usize::from(source)]
    }

    /// Adds what is to be looked up for a stay. Gives what it may share with a case's by its position.
    #[inline]
    fn ask(&self, stay: &Stay, row: u32, asks: &mut Vec<Ask>) -> PlaceKey {
        let anywhere = Query::anywhere(stay.start, stay.end);
        if stay.source.is_by_id() {
            let key = keyed(key_of(stay, &self.rule.place), stay.source);
            let asked = self.keyed.ask(&key, &anywhere);
            asks.extend(asked.map(|asked| Ask::Keyed { row, by_id: true, asked }));
        }
        if !stay.has_position() {
            return PlaceKey::Near;
        }
        let meets = |case: &Source| match (stay.source, *case) {
            (Source::Venue, Source::Venue) => false,
            (mine, theirs) => mine == theirs || self.rule.cross_source,
        };
        if self.near.is_empty() {
            // No case is in the row of a square without a key.
            let Some(key) = self.key_of(stay) else { return PlaceKey::Near };
            for source in Source::ALL.iter().filter(|s| meets(s)) {
                let asked = self.keyed.ask(&keyed(key, *source), &anywhere);
                asks.extend(asked.map(|asked| Ask::Keyed { row, by_id: false, asked }));
            }
            return key;
        }
        let band = self.near.iter().position(|(band, _)| stay.sigma_m <= band.up_to);
        let band = band.unwrap_or(self.near.len() - 1);
        for source in Source::ALL.iter().filter(|s| meets(s)) {
            let near = (band as u8, *source as u8);
            let own = self.near(near);
            if let Some(spot) = own.lattice.as_ref().and_then(|l| l.spot(stay.lat, stay.lon)) {
                let asked = own.boxes.ask(&spot, &own.reach.query(stay, spot));
                asks.extend(asked.map(|asked| Ask::Boxed { row, near, asked }));
            }
            if own.tree.size() > 0 {
                asks.push(Ask::Tree { row, near });
            }
        }
        PlaceKey::Near
    }

    /// The number of a person who is a case.
    pub fn person_number(&self, person: PersonRef<'_>) -> Option<u32> {
        self.person_numbers.get(&person).copied()
    }
}
