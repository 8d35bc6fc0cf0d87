//! The sieve's bitmaps over quantised place and time, made from the cases' stays. A bit says that a ping which starts in this
//! slot here may meet a case before its hold is over; a word holds 64 slots of time of a place. Squares of a city
//! are few, and each has its own words. Elsewhere words are found by a hash, and a map of the cases'
//! surroundings, small enough to stay near the cores, is asked first.

use crate::geo::{LatLonBox, METRES_PER_DEGREE};
use crate::lattice::{Lattice, Map, Timed, mixed};
use crate::ping::{NO_PLACE, Ping};
use crate::place::{PlaceRule, Square, Squares, row_cos, square};
use crate::rule::{EncounterRule, Motion, Source, StayRule};
use crate::stay::Stay;
use crate::time::Millis;
use crate::wide::{BLOCK, float, floor, whole, wide};
use h3o::{CellIndex, LatLng};

/// A hold has about so many slots, within these bounds.
const SLOTS_A_HOLD: Millis = 4;
const SLOT_MS_MIN: Millis = 30_000;
const SLOT_MS_MAX: Millis = 900_000;
/// What is later than so long after the first instant, thousands of years, shares a slot.
const SINCE_MS_MAX: Millis = 1 << 50;
/// Time slots of one sieve, about.
const SLOTS_MAX: i64 = 65_536;
/// Rows of latitude are at least this high.
const ROW_M_MIN: f64 = 25.0;
/// And the farthest reach has at most so many.
const REACH_ROWS: f64 = 4.0;
/// A stay that would fill more boxes than this marks its whole time slots instead.
const BOXES_MAX: usize = 4_096;
/// Words for each place and epoch of 64 slots.
const WORDS_PER_ENTRY: usize = 4;
const WORDS_MIN: usize = 1 << 10;
const WORDS_MAX: usize = 1 << 24;
/// Words of a block of squares, at most: they stay near the cores.
const BLOCK_WORDS_MAX: i64 = 1 << 18;
/// Bits that count entries.
const DISTINCT_BITS: usize = 1 << 22;

/// Stays that could meet share a class: positions of one source, positions of any, or venues' ids.
const CLASS_ANY: u8 = Source::ALL.len() as u8;
const CLASSES: usize = Source::ALL.len() + 1;

/// The bitmaps and their quanta.
#[derive(Debug, Clone)]
pub struct Bits {
    feeds: Vec<StayRule>,
    cross_source: bool,
    /// By the source of a case's stay, the longest hold of who may meet it: how long before it a ping may
    /// start to do so.
    hold_ms: [Millis; Source::ALL.len()],
    lag_ms: Millis,
    as_of: Millis,
    first: Millis,
    slots_per_ms: f64,
    last_slot: f64,
    /// By time slot: classes with a case's stay anywhere, and classes with one that may be everywhere.
    somewhere: Vec<u8>,
    everywhere: Vec<u8>,
    any_everywhere: bool,
    /// The side of the squares that are places, metres; else boxes of the lattice are.
    square_m: Option<f64>,
    /// By class, the words of the squares, where these are few enough.
    blocks: Option<[Block; CLASSES]>,
    lattice: Lattice,
    map: Map,
    words: Vec<u64>,
    word_mask: u64,
}

/// The words of all squares between the outermost that cases stay in.
#[derive(Debug, Clone, Default)]
struct Block {
    square_m: f64,
    row_first: i64,
    col_first: i64,
    height: u64,
    width: u64,
    epochs: usize,
    rows_per_degree: f64,
    /// By row from the first; no number for all other rows, so that their columns are none either.
    cols_per_degree: Vec<f64>,
    /// Row by row, the epochs of a square together; one square more, without slots.
    words: Vec<u64>,
}

/// Smaller squares have no blocks: so many are between the equator and a pole that rounding errs too much.
const SQUARE_M_MIN: f64 = 1.0;
/// So near an edge, in sides of a square, rounding may tell the wrong square; it errs far less.
const EDGE: f64 = 1e-6;

impl Block {
    /// A block that holds these squares; `None` if it would be too large.
    fn new(squares: impl Iterator<Item = Square> + Clone, square_m: f64, epochs: usize) -> Option<Self> {
        let rows = squares.clone().map(|s| s.row);
        let cols = squares.map(|s| s.col);
        let ends = rows.clone().min().zip(rows.max()).zip(cols.clone().min().zip(cols.max()));
        let Some(((south, north), (west, east))) = ends else {
            return Some(Block { cols_per_degree: vec![f64::NAN], ..Block::default() });
        };
        let (height, width) = (north - south + 1, east - west + 1);
        let words = height.checked_mul(width)?.checked_mul(epochs as i64)?;
        let rows_per_degree = METRES_PER_DEGREE / square_m;
        let cols_per_degree = |row: i64| rows_per_degree * row_cos(row as f64, square_m);
        (words <= BLOCK_WORDS_MAX && square_m >= SQUARE_M_MIN).then(|| Block {
            square_m,
            row_first: south,
            col_first: west,
            height: height as u64,
            width: width as u64,
            epochs,
            rows_per_degree,
            cols_per_degree: (south..=north).map(cols_per_degree).chain([f64::NAN]).collect(),
            words: vec![0; words as usize + epochs],
        })
    }

    /// Where the words of a square stand, or of the one more for a square outside.
    #[inline]
    fn at(&self, square: Square) -> usize {
        let row = square.row.wrapping_sub(self.row_first) as u64;
        let col = square.col.wrapping_sub(self.col_first) as u64;
        let inside = row < self.height && col < self.width;
        (if inside { row * self.width + col } else { self.height * self.width }) as usize * self.epochs
    }

    #[inline]
    fn slots(&self, at: usize, epoch: usize) -> u64 {
        // Without squares there are no words.
        self.words.get(at + epoch).copied().unwrap_or(0)
    }

    /// Where the words of positions' squares stand, a word outside for positions outside, without the divisions
    /// that a square itself takes; false where a position lies so near an edge that only these can tell. Short
    /// steps over all positions, so that none waits for another.
    #[inline(always)]
    fn find(&self, lats: &[f64], lons: &[f64], found: &mut [u32; BLOCK]) -> bool {
        let mut sure = true;
        let (mut rows, mut scales) = ([0.0; BLOCK], [0.0; BLOCK]);
        let row_first = self.row_first as f64;
        let (height, width, epochs) = (self.height as f64, self.width as f64, self.epochs as f64);
        for (lat, row) in lats.iter().zip(&mut rows) {
            let at = lat * self.rows_per_degree - row_first;
            let floor = floor(at);
            sure &= is_off_edges(at - floor);
            *row = if (floor >= 0.0) & (floor < height) { floor } else { height };
        }
        for (row, scale) in rows.iter().zip(&mut scales) {
            *scale = self.cols_per_degree[whole(*row) as usize];
        }
        let col_first = self.col_first as f64;
        let outside = height * width * epochs;
        for ((lon, (row, cols_per_degree)), found) in lons.iter().zip(rows.iter().zip(&scales)).zip(found) {
            let at = lon * cols_per_degree - col_first;
            let floor = floor(at);
            sure &= is_off_edges(at - floor);
            let inside = (floor >= 0.0) & (floor < width);
            *found = whole(if inside { (row * width + floor) * epochs } else { outside }) as u32;
        }
        sure
    }
}

/// Whether a position so far into its square is surely in it; what is no number is surely in none.
#[inline]
fn is_off_edges(into: f64) -> bool {
    ((into - 0.5).abs() < 0.5 - EDGE) | into.is_nan()
}

impl Bits {
    /// Bitmaps that let through what may meet one of these stays. `reaches_m` is how far from each stay a position may
    /// be to meet it, where metres decide; `None` if none is near enough. Nothing that comes from `as_of` on can meet them.
    pub fn new(
        stays: &[Stay],
        reaches_m: &[Option<f64>],
        rule: &EncounterRule,
        feeds: &[StayRule],
        as_of: Millis,
    ) -> Self {
        let end_of = |s: &Stay| (s.end + rule.lag_ms).min(as_of);
        let hold_ms = Source::ALL.map(|source| {
            let meets = feeds.iter().filter(|f| rule.cross_source || f.source == source);
            meets.map(|f| f.hold_ms).max().unwrap_or(0)
        });
        let shortest = feeds.iter().map(|f| f.hold_ms).min().unwrap_or(0);
        let first = stays.iter().map(|s| s.start).min().unwrap_or(0) - hold_ms.into_iter().max().unwrap_or(0);
        let last = stays.iter().map(end_of).max().unwrap_or(first);
        // A lookback of years has longer slots, so that their number stays small.
        let slot_ms =
            (shortest / SLOTS_A_HOLD).clamp(SLOT_MS_MIN, SLOT_MS_MAX).max((last - first) / SLOTS_MAX);
        let row_m = match rule.place {
            PlaceRule::Grid { square_m } => square_m / 4.0,
            PlaceRule::Cell { resolution } => cell_radius_m(resolution),
            PlaceRule::Distance { distance_m_max } | PlaceRule::Probability { distance_m_max, .. } => {
                let farthest = reaches_m.iter().flatten().copied().fold(0.0, f64::max);
                (distance_m_max / 2.0).max(farthest / REACH_ROWS)
            }
        }
        .max(ROW_M_MIN);
        let by_position = |s: &Stay| s.has_position() && (!s.source.is_by_id() || rule.cross_source);
        let areas: Vec<Option<LatLonBox>> = stays
            .iter()
            .zip(reaches_m)
            .map(|(s, reach_m)| {
                reach_m.filter(|_| by_position(s)).map(|reach_m| reach(s, &rule.place, reach_m))
            })
            .collect();
        let spans = || areas.iter().flatten();
        let lattice = Lattice::new(
            row_m,
            spans().map(|a| a.lat_min).fold(f64::INFINITY, f64::min),
            spans().map(|a| a.lat_max).fold(f64::NEG_INFINITY, f64::max),
        );
        let slots = (last - first) / slot_ms + 3;
        let mut bits = Bits {
            feeds: feeds.to_vec(),
            cross_source: rule.cross_source,
            hold_ms,
            lag_ms: rule.lag_ms,
            as_of,
            first,
            slots_per_ms: 1.0 / slot_ms as f64,
            last_slot: (slots.max(1) - 1) as f64,
            somewhere: vec![0; slots.max(1) as usize],
            everywhere: vec![0; slots.max(1) as usize],
            any_everywhere: false,
            square_m: match rule.place {
                PlaceRule::Grid { square_m } => Some(square_m),
                _ => None,
            },
            blocks: None,
            lattice,
            map: Map::default(),
            words: Vec::new(),
            word_mask: 0,
        };
        bits.blocks = bits.new_blocks(stays, &areas);
        if bits.blocks.is_none() {
            let timed = stays.iter().zip(&areas).filter_map(|(s, area)| Some(((*area)?, bits.slots_of(s))));
            bits.map = Map::new(&timed.collect::<Vec<Timed>>(), bits.somewhere.len(), row_m);
        }
        // All entries once to count them, and again into as many words as that takes.
        let mut distinct = Distinct::default();
        bits.enter_all(stays, &areas, &mut |at, _| distinct.see(at));
        let words = distinct.estimate() * WORDS_PER_ENTRY;
        // Counting entered the blocks' own already.
        if words > 0 {
            let mut words = vec![0; words.next_power_of_two().clamp(WORDS_MIN, WORDS_MAX)];
            let mask = words.len() - 1;
            bits.enter_all(stays, &areas, &mut |at, slots| words[at as usize & mask] |= slots);
            bits.word_mask = mask as u64;
            bits.words = words;
        }
        bits
    }

    /// Blocks, if squares are places and few enough.
    fn new_blocks(&self, stays: &[Stay], areas: &[Option<LatLonBox>]) -> Option<[Block; CLASSES]> {
        let square_m = self.square_m?;
        let epochs = self.somewhere.len() / 64 + 1;
        let mut blocks: [Block; CLASSES] = Default::default();
        for (class, block) in (0u8..).zip(&mut blocks) {
            let own =
                stays.iter().zip(areas).filter(|(s, area)| area.is_some() && self.class(s.source) == class);
            *block = Block::new(own.map(|(s, _)| square(s.lat, s.lon, square_m)), square_m, epochs)?;
        }
        Some(blocks)
    }

    /// Whether nothing at all can pass.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty() && self.somewhere.iter().all(|s| *s == 0)
    }

    /// Calls `add` with what [`spot_at`] gives for the places and epochs of all stays, and the slots there.
    fn enter_all(&mut self, stays: &[Stay], areas: &[Option<LatLonBox>], add: &mut impl FnMut(u64, u64)) {
        for (stay, area) in stays.iter().zip(areas) {
            self.enter(stay, *area, add);
        }
    }

    /// The first and last slot in which a ping may start that meets a stay.
    fn slots_of(&self, stay: &Stay) -> (usize, usize) {
        let last = self.slot((stay.end + self.lag_ms).min(self.as_of));
        (self.slot(stay.start - self.hold_ms[stay.source as usize]), last.min(self.somewhere.len() - 1))
    }

    fn enter(&mut self, stay: &Stay, area: Option<LatLonBox>, add: &mut impl FnMut(u64, u64)) {
        let (from, to) = self.slots_of(stay);
        let mut add = |spot: u64| {
            (from / 64..=to / 64).for_each(|epoch| add(spot_at(spot, epoch), slots_within(epoch, from, to)));
        };
        if stay.source.is_by_id() && stay.place != NO_PLACE {
            add(spot_of_id(stay.source, stay.place));
        }
        let Some(area) = area else { return };
        let class = self.class(stay.source);
        let square = self.square_m.map(|square_m| square(stay.lat, stay.lon, square_m));
        if let (Some(square), Some(blocks)) = (square, &mut self.blocks) {
            let block = &mut blocks[class as usize];
            let at = block.at(square);
            for epoch in from / 64..=to / 64 {
                block.words[at + epoch] |= slots_within(epoch, from, to);
            }
            self.somewhere[from..=to].iter_mut().for_each(|classes| *classes |= 1 << class);
            return;
        }
        let spots = match square {
            Some(square) => Some(vec![spot_of_square(square)]),
            None => self.lattice.spots(area, BOXES_MAX),
        };
        for slot in from..=to {
            self.somewhere[slot] |= 1 << class;
            if spots.is_none() {
                self.everywhere[slot] |= 1 << class;
                self.any_everywhere = true;
            }
        }
        spots.unwrap_or_default().into_iter().for_each(|spot| add(spot_of(class, spot)));
    }

    /// Whether pings of a source have to be looked at one by one, with [`Bits::may_meet_from`].
    pub fn one_by_one(&self, source: Source) -> bool {
        let moves = self.feeds.iter().any(|f| f.source == source && f.motion == Motion::Linear);
        source.is_by_id() || moves || self.any_everywhere
    }

    /// Adds the numbers of those pings of one source to `rows` that may meet a case, were each to stand for its whole
    /// hold.
    pub fn marked(
        &self,
        (times, lats, lons): (&[Millis], &[f64], &[f64]),
        source: Source,
        rows: &mut Vec<u32>,
    ) {
        let class = self.class(source);
        let start = rows.len();
        if let Some(blocks) = &self.blocks {
            let block = &blocks[class as usize];
            if block.words.is_empty() {
                return;
            }
            return wide(
                #[inline(always)]
                || self.marked_in_block(block, (times, lats, lons), rows),
            );
        }
        self.map.rows(
            (times, lats, lons),
            #[inline(always)]
            |time| self.slot(time),
            rows,
        );
        let mut squares = Squares::default();
        let (mut words, mut slots) = ([0; BLOCK], [0; BLOCK]);
        let (mut from, mut kept) = (start, start);
        while from < rows.len() {
            let to = rows.len().min(from + BLOCK);
            // Where each word is first, then the words: so that none waits for another.
            for ((row, word), slot) in rows[from..to].iter().zip(&mut words).zip(&mut slots) {
                let row = *row as usize;
                *slot = self.slot(times[row]);
                let (lat, lon) = (lats[row], lons[row]);
                let spot = match self.square_m {
                    Some(square_m) => Some(spot_of_square(squares.square(lat, lon, square_m))),
                    None => self.lattice.spot(lat, lon),
                };
                // Nowhere has no word.
                *word =
                    spot.map_or(u64::MAX, |spot| spot_at(spot_of(class, spot), *slot / 64) & self.word_mask);
            }
            for (at, (word, slot)) in (from..to).zip(words.iter().zip(&slots)) {
                let word = self.words.get(*word as usize).copied().unwrap_or(0);
                rows[kept] = rows[at];
                kept += (word >> (slot % 64) & 1) as usize;
            }
            from = to;
        }
        rows.truncate(kept);
    }

    /// The same, where squares have words of their own.
    #[inline(always)]
    fn marked_in_block(
        &self,
        block: &Block,
        (times, lats, lons): (&[Millis], &[f64], &[f64]),
        rows: &mut Vec<u32>,
    ) {
        let (mut kept, mut found, mut slots) = ([0; BLOCK], [0; BLOCK], [0; BLOCK]);
        let columns = times.chunks(BLOCK).zip(lats.chunks(BLOCK).zip(lons.chunks(BLOCK)));
        for (start, (times, (lats, lons))) in (0u32..).step_by(BLOCK).zip(columns) {
            if !block.find(lats, lons, &mut found) {
                for (found, (lat, lon)) in found.iter_mut().zip(lats.iter().zip(lons)) {
                    *found = block.at(square(*lat, *lon, block.square_m)) as u32;
                }
            }
            for (slot, time) in slots.iter_mut().zip(times) {
                *slot = self.slot(*time) as u32;
            }
            let mut count = 0;
            // Without branches: whether a row passes is hard to foretell.
            for (row, (slot, at)) in (start..).take(times.len()).zip(slots.iter().zip(found)) {
                kept[count % BLOCK] = row;
                count += (block.slots(at as usize, *slot as usize / 64) >> (slot % 64) & 1) as usize;
            }
            rows.extend_from_slice(&kept[..count]);
        }
    }

    /// Whether a ping, standing as long as it can, may meet a case.
    pub fn may_meet_from(&self, ping: &Ping) -> bool {
        let rule = &self.feeds[ping.feed as usize];
        let (source, moves) = (rule.source, rule.motion == Motion::Linear);
        let by_id = source.is_by_id() && ping.place != NO_PLACE;
        let by_position = !ping.lat.is_nan() && (!source.is_by_id() || self.cross_source);
        let class = self.class(source);
        let square = self.square_m.map(|square_m| square(ping.lat, ping.lon, square_m));
        let spot = match square {
            _ if !by_position || moves => None,
            Some(square) => Some(spot_of_square(square)),
            None => self.lattice.spot(ping.lat, ping.lon),
        };
        let here = |spot: u64, slot: usize| match (&self.blocks, square) {
            (Some(blocks), Some(square)) => {
                let block = &blocks[class as usize];
                block.slots(block.at(square), slot / 64) >> (slot % 64) & 1 == 1
            }
            _ => self.has(spot_of(class, spot), slot),
        };
        // A ping that says itself when it ends may meet a case at any time up to then.
        let last = ping.check_out().map_or(ping.time, |until| (until - 1).max(ping.time));
        if last < self.first {
            return false;
        }
        let slots = self.slot(ping.time)..=self.slot(last);
        slots.into_iter().any(|slot| {
            if by_id && self.has(spot_of_id(source, ping.place), slot) {
                return true;
            }
            let Some(everywhere) = self.everywhere.get(slot) else { return false };
            let everywhere = if moves { self.somewhere[slot] } else { *everywhere };
            by_position && (everywhere >> class & 1 == 1 || spot.is_some_and(|spot| here(spot, slot)))
        })
    }

    fn class(&self, source: Source) -> u8 {
        if self.cross_source { CLASS_ANY } else { source as u8 }
    }

    /// The slot of an instant; the last for what comes later, the first for what comes before any stay:
    /// nothing is entered there.
    #[inline]
    fn slot(&self, at: Millis) -> usize {
        let slot = float((at - self.first).clamp(0, SINCE_MS_MAX) as u64) * self.slots_per_ms;
        let slot = if slot < self.last_slot { slot } else { self.last_slot };
        whole(floor(slot)) as usize
    }

    #[inline]
    fn has(&self, spot: u64, slot: usize) -> bool {
        self.slots(spot, slot / 64) >> (slot % 64) & 1 == 1
    }

    #[inline]
    fn slots(&self, spot: u64, epoch: usize) -> u64 {
        // Without entries there are no words.
        self.words.get((spot_at(spot, epoch) & self.word_mask) as usize).copied().unwrap_or(0)
    }
}

/// The bits of an epoch's slots that lie within `from` to `to`, both included.
#[inline]
fn slots_within(epoch: usize, from: usize, to: usize) -> u64 {
    let low = if epoch == from / 64 { from % 64 } else { 0 };
    let high = if epoch == to / 64 { to % 64 } else { 63 };
    (u64::MAX << low) & (u64::MAX >> (63 - high))
}

/// How many different hashes there are, about: linear counting (Whang, Vander-Zanden, Taylor 1990), which is
/// good far beyond the most words that a sieve has.
struct Distinct {
    bits: Vec<u64>,
    set: usize,
}

impl Default for Distinct {
    fn default() -> Self {
        Distinct { bits: vec![0; DISTINCT_BITS / 64], set: 0 }
    }
}

impl Distinct {
    fn see(&mut self, hash: u64) {
        let bit = (hash >> 32) as usize & (DISTINCT_BITS - 1);
        let word = &mut self.bits[bit >> 6];
        self.set += usize::from(*word >> (bit & 63) & 1 == 0);
        *word |= 1 << (bit & 63);
    }

    fn estimate(&self) -> usize {
        let empty = (DISTINCT_BITS - self.set).max(1) as f64 / DISTINCT_BITS as f64;
        (-(DISTINCT_BITS as f64) * empty.ln()).ceil() as usize
    }
}

/// Everywhere that another may be to share this stay's place.
fn reach(stay: &Stay, place: &PlaceRule, reach_m: f64) -> LatLonBox {
    match *place {
        PlaceRule::Distance { .. } | PlaceRule::Probability { .. } => stay.bounds().grown(reach_m),
        PlaceRule::Grid { square_m } => {
            let at = square(stay.lat, stay.lon, square_m);
            let (side, cos) = (square_m / METRES_PER_DEGREE, row_cos(at.row as f64, square_m));
            let lat = at.row as f64 * side;
            let (lon, dlon) =
                if cos * 360.0 > side { (at.col as f64 * side / cos, side / cos) } else { (-180.0, 360.0) };
            LatLonBox::of_path(lat.clamp(-90.0, 90.0), lon, side, dlon).grown(0.0)
        }
        PlaceRule::Cell { resolution } => {
            let whole = || LatLonBox { lat_min: -90.0, lat_max: 90.0, lon_min: -180.0, lon_max: 180.0 };
            let Ok(cell) = CellIndex::try_from(crate::place::cell(stay.lat, stay.lon, resolution)) else {
                return whole();
            };
            let centre = LatLng::from(cell);
            LatLonBox::of_path(centre.lat(), centre.lng(), 0.0, 0.0).grown(cell_reach_m(cell))
        }
    }
}

/// Metres from a cell's centre within which all of it lies; edges bulge past their corners by far
/// less than the tenth that is added.
fn cell_reach_m(cell: CellIndex) -> f64 {
    let centre = LatLng::from(cell);
    let corner = cell.boundary().iter().map(|corner| centre.distance_m(*corner)).fold(0.0, f64::max);
    corner * 1.1 + 1.0
}

/// About the mean edge length at a resolution, metres (edges shrink by sqrt(7); 1,281,256 m at 0).
fn cell_radius_m(resolution: u8) -> f64 {
    1_281_256.0 / 7f64.sqrt().powi(i32::from(resolution))
}

/// A square among the places. One that has the number of another only lets more through.
#[inline]
fn spot_of_square(square: Square) -> u64 {
    mixed(square.row as u64) ^ square.col as u64
}

#[inline]
fn spot_of(class: u8, spot: u64) -> u64 {
    mixed(spot ^ u64::from(class) << 60)
}

#[inline]
fn spot_of_id(source: Source, place: u32) -> u64 {
    mixed(u64::from(place) ^ (CLASSES as u64 + u64::from(source as u8)) << 60)
}

#[inline]
fn spot_at(spot: u64, epoch: usize) -> u64 {
    mixed(spot ^ (epoch as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}
