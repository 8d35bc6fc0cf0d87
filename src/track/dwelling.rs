//! How long many persons dwell in each square, or anywhere, added up while their rows come in the order of time: where pings
//! just follow one another, each stands until the person's next, and nothing but the sums is kept.

use crate::person::{PersonId, PersonRef, Persons};
use crate::time::Millis;
use hashbrown::HashMap;
use std::hint::black_box;

/// Rows whose lines are fetched at once.
const FETCHED: usize = 64;

/// A ping on its way to its person's sums, as short as may be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Step {
    id: u64,
    /// When, in ms since the lookback began, above the 16 bits of the feed.
    time_and_feed: u64,
    key: u64,
}

impl Step {
    /// `id` is the person's integer, or the [`PersonRef::spread`] of another pseudonym; `since_ms` counts from the
    /// lookback's start; `key` says where, as far as it counts.
    #[inline]
    pub fn new(id: u64, since_ms: Millis, feed: u16, key: u64) -> Self {
        Step { id, time_and_feed: (since_ms as u64) << 16 | u64::from(feed), key }
    }

    /// When, in ms since the lookback began.
    #[inline]
    pub fn since_ms(&self) -> Millis {
        (self.time_and_feed >> 16) as Millis
    }

    #[inline]
    fn feed(&self) -> u16 {
        self.time_and_feed as u16
    }
}

/// One person, as far as the rows have come: what is fetched at once.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line {
    id: u64,
    /// The last ping, in ms since the lookback began.
    time: Millis,
    key: u64,
    /// How long the person has been here, up to the last ping, as far as the sums do not know yet.
    here_ms: Millis,
    /// The place before, and the same of it: who is near a border comes and goes.
    before: (u64, Millis),
    /// The person's number, by which the sums are found.
    number: u32,
    feed: u16,
    /// Whether pings at the last one's instant disagree on where it was, or for how long it may stand.
    doubtful: bool,
}

impl Line {
    /// Nobody's: no ping comes at this instant.
    const FREE: Line = Line {
        id: 0,
        time: Millis::MIN,
        key: 0,
        here_ms: 0,
        before: (0, 0),
        number: 0,
        feed: 0,
        doubtful: false,
    };

    fn is_free(&self) -> bool {
        self.time == Millis::MIN
    }
}

/// The length of stays of one person, by number, in one place.
#[derive(Debug, Clone, Copy)]
struct Sum {
    number: u32,
    ms: u32,
    key: u64,
}

/// The sums, as they come: of a person and a place there may be several.
#[derive(Debug, Default)]
struct Sums {
    rows: Vec<Sum>,
    /// How many there were when they were last added up.
    single: usize,
}

impl Sums {
    #[inline]
    fn add(&mut self, number: u32, key: u64, ms: Millis) {
        let Ok(short) = u32::try_from(ms) else { return self.add_long(number, key, ms) };
        if short > 0 {
            self.rows.push(Sum { number, ms: short, key });
        }
    }

    /// A stay of weeks is several.
    #[cold]
    fn add_long(&mut self, number: u32, key: u64, mut ms: Millis) {
        while ms > 0 {
            let part = ms.min(Millis::from(u32::MAX)) as u32;
            self.rows.push(Sum { number, ms: part, key });
            ms -= Millis::from(part);
        }
    }

    /// Adds up what belongs together.
    fn add_up(&mut self) {
        self.rows.sort_unstable_by_key(|sum| (sum.number, sum.key));
        self.rows.dedup_by(|next, sum| {
            let same = (next.number, next.key) == (sum.number, sum.key);
            let ms = sum.ms.checked_add(next.ms).filter(|_| same);
            ms.inspect(|ms| sum.ms = *ms).is_some()
        });
        self.single = self.rows.len();
        self.rows.shrink_to(self.single);
    }

    /// Where the rows of each of so many persons begin, and the rows in the order of persons.
    fn by_person(self, persons: u32) -> (Vec<usize>, Vec<(u64, u32)>) {
        let mut starts = vec![0; persons as usize + 2];
        self.rows.iter().for_each(|sum| starts[sum.number as usize + 2] += 1);
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut dealt = vec![(0, 0); self.rows.len()];
        for sum in self.rows {
            let start = &mut starts[sum.number as usize + 1];
            dealt[*start] = (sum.key, sum.ms);
            *start += 1;
        }
        starts.pop();
        (starts, dealt)
    }
}

/// The sums of some persons.
#[derive(Debug, Default)]
pub struct Dwelling {
    /// By the hash of the person, a power of two of them.
    lines: Vec<Line>,
    /// Pseudonyms that are no integers, by number.
    names: Vec<Box<[u8]>>,
    named_bytes: usize,
    persons: u32,
    sums: Sums,
    /// By number: the length of stays of which it is not known where they were.
    doubtful: HashMap<u32, Millis>,
}

/// A cheap hash; its low bits are worth nothing.
#[inline]
fn hash(id: u64) -> u64 {
    // An odd number whose bits are in no order: the golden ratio's.
    (id ^ id >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Where a line is looked for first.
#[inline]
fn line(id: u64) -> usize {
    (hash(id) >> 24) as usize
}

/// Which of [`SHARDS`] a person belongs to, by the number that [`Step::new`] takes.
#[inline]
pub fn shard(id: u64) -> usize {
    (hash(id) >> 56) as usize & (SHARDS - 1)
}

/// Sums are added up in so many shards of the persons, side by side.
pub const SHARDS: usize = 16;

impl Dwelling {
    /// Adds pings that are not earlier than those before, and in the order of time. Persons who are no integers stand
    /// beside, each by the row in `rows`; `holds_ms` is how long a ping stands by its feed.
    pub fn add(&mut self, steps: &[Step], names: Option<(&Persons<'_>, &[u32])>, holds_ms: &[Millis]) {
        for (start, steps) in (0..).step_by(FETCHED).zip(steps.chunks(FETCHED)) {
            if (self.persons as usize + FETCHED) * 4 > self.lines.len() {
                self.make_room();
            }
            // All lines are fetched at once, before what any of them holds decides anything.
            let mask = self.lines.len() - 1;
            black_box(steps.iter().fold(0, |all, step| all ^ self.lines[line(step.id) & mask].time));
            for (number, step) in (start..).zip(steps) {
                let name = || names.map(|(persons, rows)| persons.at(rows[number] as usize));
                let mut at = line(step.id) & mask;
                loop {
                    let line = &self.lines[at];
                    if line.id == step.id && !line.is_free() && self.is_of(line, name()) {
                        self.go_on(at, step, holds_ms);
                        break;
                    }
                    if line.is_free() {
                        self.begin(at, step, name());
                        break;
                    }
                    at = (at + 1) & mask;
                }
            }
        }
    }

    #[inline]
    fn is_of(&self, line: &Line, name: Option<PersonRef<'_>>) -> bool {
        name.is_none_or(|name| name == PersonRef::Bytes(&self.names[line.number as usize]))
    }

    #[cold]
    fn begin(&mut self, at: usize, step: &Step, name: Option<PersonRef<'_>>) {
        let (Step { id, key, .. }, time, feed) = (*step, step.since_ms(), step.feed());
        self.lines[at] = Line { id, time, key, feed, number: self.persons, before: (key, 0), ..Line::FREE };
        if let Some(PersonRef::Bytes(name)) = name {
            self.named_bytes += name.len() + size_of::<Box<[u8]>>();
            self.names.push(name.into());
        }
        self.persons += 1;
    }

    #[inline]
    fn go_on(&mut self, at: usize, step: &Step, holds_ms: &[Millis]) {
        let line = &mut self.lines[at];
        let (since_ms, feed) = (step.since_ms(), step.feed());
        let lasted = since_ms - line.time;
        if lasted == 0 {
            if (line.key, line.feed) != (step.key, feed) {
                line.doubtful = true;
                // As long as any of them may stand.
                if holds_ms[usize::from(feed)] > holds_ms[usize::from(line.feed)] {
                    line.feed = feed;
                }
            }
            return;
        }
        let lasted = lasted.min(holds_ms[usize::from(line.feed)]);
        if line.doubtful {
            *self.doubtful.entry(line.number).or_default() += lasted;
            line.doubtful = false;
        } else {
            line.here_ms += lasted;
        }
        (line.time, line.feed) = (since_ms, feed);
        if line.key == step.key {
            return;
        }
        let before = std::mem::replace(&mut line.before, (line.key, line.here_ms));
        line.key = step.key;
        if before.0 == step.key {
            line.here_ms = before.1;
        } else {
            line.here_ms = 0;
            self.sums.add(line.number, before.0, before.1);
        }
    }

    /// What it came to: last pings stand for their hold, but not beyond the lookback's end.
    pub fn finish(mut self, lookback_ms: Millis, holds_ms: &[Millis]) -> Shard {
        self.lines.retain(|line| !line.is_free());
        for line in &self.lines {
            let Line { time, number, key, feed, doubtful, here_ms, before, .. } = *line;
            let lasted = holds_ms[usize::from(feed)].min(lookback_ms - time);
            self.sums.add(number, before.0, before.1);
            if doubtful {
                *self.doubtful.entry(number).or_default() += lasted;
                self.sums.add(number, key, here_ms);
            } else {
                self.sums.add(number, key, here_ms + lasted);
            }
        }
        let (starts, places) = self.sums.by_person(self.persons);
        let mut names = self.names;
        let numbers = self.lines.into_iter().map(|line| {
            let name = names.get_mut(line.number as usize).map(std::mem::take);
            (name.map_or(PersonId::Integer(line.id), PersonId::Bytes), line.number)
        });
        Shard { numbers: numbers.collect(), starts, places, doubtful: self.doubtful }
    }

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        // In the end they are dealt to their persons.
        let sums = self.sums.rows.capacity() * 2 * size_of::<Sum>();
        self.lines.len() * size_of::<Line>() + self.named_bytes + sums
    }

    /// Makes do with less memory, if it can.
    pub fn shrink(&mut self) {
        if self.sums.rows.len() >= 2 * self.sums.single {
            self.sums.add_up();
        }
    }

    #[cold]
    fn make_room(&mut self) {
        let lines = (self.lines.len() * 2).max(FETCHED * 4);
        let old = std::mem::replace(&mut self.lines, vec![Line::FREE; lines]);
        for line in old.into_iter().filter(|line| !line.is_free()) {
            let mut at = self::line(line.id) & (lines - 1);
            while !self.lines[at].is_free() {
                at = (at + 1) & (lines - 1);
            }
            self.lines[at] = line;
        }
    }
}

/// What is added up of a person: the length of stays by their place's key, a place perhaps more than once,
/// and that of stays of which it is not known in which of two places.
#[derive(Debug, Clone, Copy)]
pub struct Summed<'a> {
    /// By place.
    pub places: &'a [(u64, u32)],
    /// Anywhere.
    pub doubtful_ms: Millis,
}

/// How long everyone dwells where.
#[derive(Debug)]
pub struct DwellSums {
    shards: Vec<Shard>,
}

/// How long each of some persons dwells where.
#[derive(Debug)]
pub struct Shard {
    numbers: HashMap<PersonId, u32>,
    /// By number: where the person's places begin.
    starts: Vec<usize>,
    places: Vec<(u64, u32)>,
    doubtful: HashMap<u32, Millis>,
}

impl DwellSums {
    /// Of all shards.
    pub fn new(shards: Vec<Shard>) -> Self {
        DwellSums { shards }
    }

    /// Somebody's; nowhere, of whom no ping came.
    pub fn of(&self, person: PersonRef<'_>) -> Summed<'_> {
        let id = match person {
            PersonRef::Integer(id) => id,
            PersonRef::Bytes(_) => person.spread(),
        };
        let shard = &self.shards[shard(id)];
        let Some(number) = shard.numbers.get(&person) else { return Summed { places: &[], doubtful_ms: 0 } };
        let own = shard.starts[*number as usize]..shard.starts[*number as usize + 1];
        let doubtful_ms = shard.doubtful.get(number).copied().unwrap_or(0);
        Summed { places: &shard.places[own], doubtful_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::person::PersonColumn;
    use arrow::datatypes::DataType;
    use std::collections::BTreeMap;

    const HOLDS_MS: [Millis; 2] = [700, 5_000_000_000];
    const LOOKBACK_MS: Millis = 40_000_000_000;

    /// Who is where, drawn without a library: person, instant, feed, place.
    fn drawn() -> Vec<(u64, Millis, u16, u64)> {
        let (mut state, mut now, mut rows) = (7u64, 0, Vec::new());
        for _ in 0..40_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let draw = state >> 33;
            now += if draw % 5_000 == 0 { 1_000_000_000 } else { Millis::from(draw % 3 == 0) };
            rows.push((draw % 300, now, u16::from(draw % 300 == 3), draw / 300 % 4));
        }
        rows
    }

    #[test]
    fn sums_are_those_of_each_person_alone() {
        let rows = drawn();
        let mut by_person: BTreeMap<u64, Vec<(Millis, u16, u64)>> = BTreeMap::new();
        rows.iter().for_each(|(person, at, feed, key)| {
            by_person.entry(*person).or_default().push((*at, *feed, *key));
        });
        let mut expected: BTreeMap<(u64, u64), Millis> = BTreeMap::new();
        let mut doubtful: BTreeMap<u64, Millis> = BTreeMap::new();
        for (person, pings) in &by_person {
            let instants: Vec<_> = pings.chunk_by(|a, b| a.0 == b.0).collect();
            for (n, same) in instants.iter().enumerate() {
                let next = instants.get(n + 1).map_or(LOOKBACK_MS, |next| next[0].0);
                let hold_ms = same.iter().map(|ping| HOLDS_MS[usize::from(ping.1)]).max().expect("a ping");
                let lasts = hold_ms.min(next - same[0].0);
                match same.iter().all(|ping| *ping == same[0]) {
                    true => *expected.entry((*person, same[0].2)).or_default() += lasts,
                    false => *doubtful.entry(*person).or_default() += lasts,
                }
            }
        }
        assert!(doubtful.len() > 100 && expected.values().any(|ms| *ms > Millis::from(u32::MAX)));
        for named in [false, true] {
            let whose = |person: u64| match named {
                true => PersonId::Bytes(format!("p{person}").into_bytes().into()),
                false => PersonId::Integer(person),
            };
            let mut shards: Vec<Dwelling> = (0..SHARDS).map(|_| Dwelling::default()).collect();
            for chunk in rows.chunks(1_000) {
                let mut names = PersonColumn::new(&DataType::Binary);
                let mut steps: Vec<(Vec<Step>, Vec<u32>)> = vec![Default::default(); SHARDS];
                for (row, (person, at, feed, key)) in (0..).zip(chunk) {
                    names.push(whose(*person).as_ref());
                    let id = if named { whose(*person).as_ref().spread() } else { *person };
                    let (steps, rows) = &mut steps[shard(id)];
                    steps.push(Step::new(id, *at, *feed, *key));
                    rows.push(row);
                }
                let names = names.view();
                for (dwelling, (steps, rows)) in shards.iter_mut().zip(&steps) {
                    dwelling.add(steps, named.then_some((&names, &rows[..])), &HOLDS_MS);
                    dwelling.shrink();
                }
            }
            assert!(shards.iter().all(|shard| shard.bytes() > 0));
            let sums = DwellSums::new(shards.into_iter().map(|s| s.finish(LOOKBACK_MS, &HOLDS_MS)).collect());
            for person in by_person.keys() {
                let summed = sums.of(whose(*person).as_ref());
                assert_eq!(summed.doubtful_ms, doubtful.get(person).copied().unwrap_or(0));
                let mut places: BTreeMap<u64, Millis> = BTreeMap::new();
                summed
                    .places
                    .iter()
                    .for_each(|(key, ms)| *places.entry(*key).or_default() += Millis::from(*ms));
                let own = expected.range((*person, 0)..=(*person, u64::MAX));
                assert_eq!(places, own.map(|((_, key), ms)| (*key, *ms)).collect());
            }
            assert!(sums.of(whose(300).as_ref()).places.is_empty());
        }
    }
}
