//! The three orders: which ping comes next, in parts that are made side by side.

use super::city::City;
use super::clock::{BLOCK, Block, Clock};
use super::day::Day;
use super::draw::{Shuffle, Stream, below};
use super::{AS_OF, Recipe};
use crate::error::Result;
use crate::ping::Order;
use crate::time::{DAY_MS, Millis};
use std::ops::Range;

/// Rows that a part hands on at once.
pub const BATCH_ROWS: usize = 8_192;
/// Files of a day, and the rows from which on there are more of them.
const FILES_A_DAY: u64 = 16;
const FILE_ROWS: u64 = 8_000_000;
/// Rows of a slice of time, about: they are sorted at once.
const SLICE_ROWS: u64 = 1 << 20;
/// person_ids are below this.
const IDS: u64 = 1 << 63;

/// A number of rows, column by column.
#[derive(Debug, Default)]
pub struct Batch {
    /// person_id as a number.
    pub ids: Vec<u64>,
    /// Time.
    pub times: Vec<Millis>,
    /// Latitude, degrees.
    pub lats: Vec<f64>,
    /// Longitude, degrees.
    pub lons: Vec<f64>,
    /// accuracy_m.
    pub accuracies_m: Vec<f32>,
}

/// Takes batches.
pub type Sink<'a> = &'a mut dyn FnMut(Batch) -> Result<()>;

/// A city that is ready to be written.
#[derive(Debug)]
pub struct Synth {
    recipe: Recipe,
    city: City,
    clock: Clock,
    persons: Stream,
    ids: Stream,
    rows: Shuffle,
    cases: Shuffle,
    /// Slices of each block.
    slices: u64,
}

impl Synth {
    /// The city of a recipe that has been checked.
    pub fn new(recipe: Recipe) -> Self {
        let draws = Stream::of_seed(recipe.seed);
        let pings = recipe.rows.div_ceil(recipe.persons * recipe.days);
        Synth {
            city: City::new(draws.stream(0)),
            clock: Clock::new(pings, draws.stream(1)),
            persons: draws.stream(2),
            ids: draws.stream(3),
            rows: Shuffle::new(recipe.rows, draws.stream(4)),
            cases: Shuffle::new(recipe.persons, draws.stream(5)),
            slices: (recipe.persons * BLOCK.min(pings)).div_ceil(SLICE_ROWS),
            recipe,
        }
    }

    /// What was asked for.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The parts of the pings, a file each, in their order: ranges of slices of time, of persons, or of
    /// places in the shuffled order.
    pub fn parts(&self) -> Vec<Range<u64>> {
        let recipe = &self.recipe;
        let units = match recipe.order {
            Order::Time => recipe.days * self.clock.blocks() * self.slices,
            Order::Person => recipe.persons,
            Order::None => recipe.rows,
        };
        let files = (FILES_A_DAY * recipe.days).max(recipe.rows.div_ceil(FILE_ROWS)).min(units);
        let at = |file: u64| (u128::from(units) * u128::from(file) / u128::from(files)) as u64;
        (0..files).map(|file| at(file)..at(file + 1)).collect()
    }

    /// Makes one part's rows.
    pub fn make(&self, part: Range<u64>, sink: Sink<'_>) -> Result<()> {
        let mut rows = Rows { synth: self, batch: Batch::with_capacity(), sink };
        match self.recipe.order {
            Order::Time => rows.by_time(part),
            Order::Person => rows.by_person(part),
            Order::None => rows.shuffled(part),
        }?;
        rows.hand_on()
    }

    /// The person_ids of the cases, in no order.
    pub fn case_ids(&self) -> Vec<u64> {
        (0..self.recipe.cases).map(|place| self.id(self.cases.at(place))).collect()
    }

    /// person_ids rise with the persons' numbers: each is drawn from a share of the numbers of its own.
    #[inline]
    fn id(&self, person: u64) -> u64 {
        let share = IDS / self.recipe.persons;
        person * share + below(self.ids.draw(person), share)
    }

    /// A person's day, which may be left out after `until_ms`.
    #[inline]
    fn day(&self, person: u64, day: u64, until_ms: u64) -> Day {
        Day::new(&self.city, self.persons.stream(person), self.days_before(day), until_ms)
    }

    /// Days are drawn by their distance from the last, so that more days change none.
    #[inline]
    fn days_before(&self, day: u64) -> u64 {
        self.recipe.days - 1 - day
    }

    fn start_of(&self, day: u64) -> Millis {
        AS_OF - (self.recipe.days - day) as Millis * DAY_MS
    }
}

impl Batch {
    fn with_capacity() -> Self {
        Batch {
            ids: Vec::with_capacity(BATCH_ROWS),
            times: Vec::with_capacity(BATCH_ROWS),
            lats: Vec::with_capacity(BATCH_ROWS),
            lons: Vec::with_capacity(BATCH_ROWS),
            accuracies_m: Vec::with_capacity(BATCH_ROWS),
        }
    }
}

struct Rows<'a> {
    synth: &'a Synth,
    batch: Batch,
    sink: Sink<'a>,
}

/// A ping of a slice in 64 bits that sort by time, then person: 27 bits of milliseconds of the day, 35 of
/// the person, 2 of the place in the block.
fn pack(ms: u64, person: u64, place: u64) -> u64 {
    (ms << 37) | (person << 2) | place
}

impl Rows<'_> {
    /// Each slice of time: the times of all persons in its block, those inside it sorted.
    fn by_time(&mut self, slices: Range<u64>) -> Result<()> {
        let synth = self.synth;
        let mut keys: Vec<u64> = Vec::new();
        for slice in slices {
            let (all_before, piece) = (slice / synth.slices, slice % synth.slices);
            let (day, number) = (all_before / synth.clock.blocks(), all_before % synth.clock.blocks());
            let block = synth.clock.block(synth.days_before(day), number);
            let range = synth.clock.range_ms(number);
            let at = |piece: u64| range.start + (range.end - range.start) * piece / synth.slices;
            keys.clear();
            let more = synth.recipe.persons_with_one_more(day);
            for persons in [0..more, more..synth.recipe.persons] {
                let pings = synth.recipe.pings_of(persons.start, day);
                let count = pings.saturating_sub(block.first).min(BLOCK);
                collect(&block, persons, count, at(piece)..at(piece + 1), &mut keys);
            }
            keys.sort_unstable();
            let start = synth.start_of(day);
            for key in &keys {
                let (ms, person, place) = (key >> 37, (key >> 2) & ((1 << 35) - 1), key & 3);
                let today = synth.day(person, day, ms);
                self.push(synth.id(person), start, &today, block.first + place, ms)?;
            }
        }
        Ok(())
    }

    fn by_person(&mut self, persons: Range<u64>) -> Result<()> {
        let synth = self.synth;
        for number in persons {
            let id = synth.id(number);
            for day in 0..synth.recipe.days {
                let (start, days_before) = (synth.start_of(day), synth.days_before(day));
                let today = synth.day(number, day, DAY_MS as u64);
                let pings = synth.recipe.pings_of(number, day);
                for block in 0..pings.div_ceil(BLOCK) {
                    let block = synth.clock.block(days_before, block);
                    let count = (pings - block.first).min(BLOCK);
                    let times_ms = block.times_ms(number, count);
                    for (place, ms) in (0..count).zip(times_ms) {
                        self.push(id, start, &today, block.first + place, ms)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn shuffled(&mut self, places: Range<u64>) -> Result<()> {
        let synth = self.synth;
        let recipe = &synth.recipe;
        let person_days = recipe.persons * recipe.days;
        let (even, left_over) = (recipe.rows / person_days, recipe.rows % person_days);
        // Person-days with one ping more come first.
        let split = left_over * (even + 1);
        for place in places {
            let row = synth.rows.at(place);
            let (person_day, number) = if row < split {
                (row / (even + 1), row % (even + 1))
            } else {
                (left_over + (row - split) / even, (row - split) % even)
            };
            let (day, person) = (person_day / recipe.persons, person_day % recipe.persons);
            let days_before = synth.days_before(day);
            let block = synth.clock.block(days_before, number / BLOCK);
            let count = (recipe.pings_of(person, day) - block.first).min(BLOCK);
            let ms = block.times_ms(person, count)[(number % BLOCK) as usize];
            let today = synth.day(person, day, ms);
            self.push(synth.id(person), synth.start_of(day), &today, number, ms)?;
        }
        Ok(())
    }

    #[inline]
    fn push(&mut self, id: u64, start: Millis, today: &Day, number: u64, ms: u64) -> Result<()> {
        let position = today.position(&self.synth.city, number, ms);
        let batch = &mut self.batch;
        batch.ids.push(id);
        batch.times.push(start + ms as Millis);
        batch.lats.push(position.spot.lat);
        batch.lons.push(position.spot.lon);
        batch.accuracies_m.push(position.accuracy_m);
        if batch.ids.len() == BATCH_ROWS { self.hand_on() } else { Ok(()) }
    }

    fn hand_on(&mut self) -> Result<()> {
        if self.batch.ids.is_empty() {
            return Ok(());
        }
        (self.sink)(std::mem::replace(&mut self.batch, Batch::with_capacity()))
    }
}

/// The pings of some persons, so many each, in one block and one slice of time.
fn collect(block: &Block, persons: Range<u64>, count: u64, slice_ms: Range<u64>, keys: &mut Vec<u64>) {
    for person in persons {
        for (place, ms) in (0..count).zip(block.times_ms(person, count)) {
            if slice_ms.contains(&ms) {
                keys.push(pack(ms, person, place));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Ids;
    use super::*;

    fn rows(synth: &Synth) -> Vec<(Millis, u64, u64)> {
        let mut rows = Vec::new();
        for part in synth.parts() {
            let mut keep = |batch: Batch| {
                let lats = batch.lats.iter().map(|lat| lat.to_bits());
                rows.extend(
                    batch.times.iter().copied().zip(batch.ids).zip(lats).map(|((t, id), lat)| (t, id, lat)),
                );
                Ok(())
            };
            synth.make(part, &mut keep).expect("rows can be made");
        }
        rows
    }

    /// However finely time is sliced for the sake of memory, the rows and their order are the same.
    #[test]
    fn slices_only_bound_the_memory() {
        let (order, ids) = (Order::Time, Ids::Integer);
        let recipe = Recipe { rows: 20_011, persons: 70, days: 2, cases: 3, seed: 5, order, ids };
        let mut synth = Synth::new(recipe);
        assert_eq!(synth.slices, 1);
        let whole = rows(&synth);
        assert_eq!(whole.len(), 20_011);
        assert!(whole.is_sorted());
        synth.slices = 7;
        assert!(rows(&synth) == whole);
    }
}
