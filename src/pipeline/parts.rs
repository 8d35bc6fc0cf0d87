//! Batches parted by the hash of their person, in memory as long as the budget holds, then in the spill
//! folder. A part is small enough to be worked on whole.

use super::resolving::AtOnce;
use crate::error::Result;
use crate::io::spill::Spill;
use crate::person::{PersonRef, part_of};
use crate::ping::packed::{Packed, PackedColumns, Packing};
use crate::ping::{PingColumns, Pings};
use crate::stay::{self, Stay, StayColumns};
use crate::time::Millis;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Fewer bytes than these are not worth a file.
const SPILL_BYTES_MIN: u64 = 1 << 12;
/// Stays that gather before they go to their parts.
const STAYS_AT_ONCE: usize = 65_536;
/// Rows that gather before they become a batch.
const CHUNK_ROWS: usize = 16_384;

/// The memory that all parts share.
#[derive(Debug)]
pub struct Room {
    held: AtomicU64,
    most: AtomicU64,
    budget: u64,
    spill: Arc<Spill>,
}

impl Room {
    /// Room for so many bytes; the rest goes to the spill folder.
    pub fn new(budget: u64, spill: Arc<Spill>) -> Self {
        Room { held: AtomicU64::new(0), most: AtomicU64::new(0), budget, spill }
    }

    fn add(&self, bytes: u64) -> u64 {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.most.fetch_max(held, Ordering::Relaxed);
        held
    }

    fn free(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Held {
    batches: Vec<RecordBatch>,
    files: Vec<PathBuf>,
}

/// One kind of batches, by part.
#[derive(Debug)]
pub struct Parts<'r> {
    room: &'r Room,
    parts: Vec<Mutex<Held>>,
    bytes: Vec<AtomicU64>,
}

/// Room for dealing rows out to parts, used again for the next.
#[derive(Debug, Default)]
pub struct Dealing {
    ends: Vec<u32>,
    dealt: Vec<u32>,
    packed: Packed,
}

impl Dealing {
    /// Calls `each` with the rows of every part that has any, of these rows with [`PersonRef::spread`] by row.
    pub fn deal(
        &mut self,
        spreads: &[u64],
        rows: impl Iterator<Item = u32> + Clone,
        parts: usize,
        mut each: impl FnMut(usize, &[u32]),
    ) {
        let part = |row: u32| part_of(spreads[row as usize], parts);
        self.ends.clear();
        self.ends.resize(parts + 1, 0);
        rows.clone().for_each(|row| self.ends[part(row) + 1] += 1);
        for part in 1..=parts {
            self.ends[part] += self.ends[part - 1];
        }
        self.dealt.resize(self.ends[parts] as usize, 0);
        for row in rows {
            let end = &mut self.ends[part(row)];
            self.dealt[*end as usize] = row;
            *end += 1;
        }
        let mut start = 0;
        for part in 0..parts {
            let end = self.ends[part] as usize;
            if start < end {
                each(part, &self.dealt[start..end]);
            }
            start = end;
        }
    }
}

impl<'r> Parts<'r> {
    /// So many empty parts.
    pub fn new(room: &'r Room, parts: usize) -> Self {
        Parts {
            room,
            parts: (0..parts).map(|_| Mutex::default()).collect(),
            bytes: (0..parts).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Bytes of all parts; `None` if some of them are in the spill folder.
    pub fn bytes(&self) -> Option<u64> {
        let held = self.parts.iter().map(|held| held.lock().unwrap_or_else(PoisonError::into_inner));
        let here = held.map(|held| held.files.is_empty()).fold(true, |all, here| all & here);
        here.then(|| self.bytes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum())
    }

    /// Adds a batch to a part.
    pub fn push(&self, part: usize, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let bytes = batch.get_array_memory_size() as u64;
        let mut held = self.parts[part].lock().unwrap_or_else(PoisonError::into_inner);
        // Counted before another thread can take the batch away.
        let all = self.room.add(bytes);
        held.batches.push(batch);
        self.bytes[part].fetch_add(bytes, Ordering::Relaxed);
        drop(held);
        if all > self.room.budget { self.shed() } else { Ok(()) }
    }

    /// Spills the largest parts until the rest fits.
    fn shed(&self) -> Result<()> {
        while self.room.held.load(Ordering::Relaxed) > self.room.budget {
            let sizes = self.bytes.iter().map(|b| b.load(Ordering::Relaxed)).zip(0..);
            let Some((size, part)) = sizes.max() else { return Ok(()) };
            if size < SPILL_BYTES_MIN {
                return Ok(());
            }
            let mut held = self.parts[part].lock().unwrap_or_else(PoisonError::into_inner);
            let batches = std::mem::take(&mut held.batches);
            if batches.is_empty() {
                continue;
            }
            let freed = self.bytes[part].swap(0, Ordering::Relaxed);
            // Packed ones and others, each in a file of their own.
            let mut rest = batches;
            while let Some(schema) = rest.first().map(RecordBatch::schema) {
                let (alike, others): (Vec<_>, Vec<_>) =
                    rest.into_iter().partition(|batch| *batch.schema_ref() == schema);
                held.files.push(self.room.spill.write(&alike)?);
                rest = others;
            }
            self.room.free(freed);
        }
        Ok(())
    }

    /// All batches of a part, which is empty from then on.
    pub fn take(&self, part: usize) -> Result<Vec<RecordBatch>> {
        let mut held = self.parts[part].lock().unwrap_or_else(PoisonError::into_inner);
        let mut batches = std::mem::take(&mut held.batches);
        self.room.free(self.bytes[part].swap(0, Ordering::Relaxed));
        for file in std::mem::take(&mut held.files) {
            batches.extend(self.room.spill.read(&file)?);
        }
        Ok(batches)
    }

    /// Throws everything away.
    pub fn clear(&self) -> Result<()> {
        for (part, held) in self.parts.iter().enumerate() {
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            held.batches.clear();
            self.room.free(self.bytes[part].swap(0, Ordering::Relaxed));
            for file in std::mem::take(&mut held.files) {
                self.room.spill.remove(&file)?;
            }
        }
        Ok(())
    }
}

/// Stays on their way to their parts, or to be resolved at once, some together.
pub struct Handing<'s, 'r> {
    to: To<'s, 'r>,
    out: Vec<StayColumns>,
    rows: usize,
    enough: usize,
}

/// Where stays go.
#[derive(Clone, Copy)]
pub enum To<'s, 'r> {
    /// To the parts of their persons, packed.
    Parts(&'s Parts<'r>, &'s stay::packed::Packing),
    /// To the kernel; persons come whole, one after the other.
    Kernel(&'s AtOnce<'s>),
}

impl<'s, 'r> Handing<'s, 'r> {
    /// Nothing on its way yet.
    pub fn new(to: To<'s, 'r>, schema: &SchemaRef) -> Self {
        let (ways, enough) = match to {
            To::Parts(parts, _) => (parts.len(), STAYS_AT_ONCE),
            To::Kernel(kernel) => (1, kernel.enough()),
        };
        Handing { to, out: (0..ways).map(|_| StayColumns::new(schema)).collect(), rows: 0, enough }
    }

    /// Takes a person's stay; `spread` is that person's.
    #[inline]
    pub fn take(&mut self, person: PersonRef<'_>, spread: u64, stay: &Stay) {
        let part = part_of(spread, self.out.len());
        self.out[part].push(person, stay);
        self.rows += 1;
    }

    /// Hands over, if there is enough.
    pub fn hand_over_enough(&mut self) -> Result<()> {
        if self.rows < self.enough { Ok(()) } else { self.hand_over() }
    }

    /// Hands everything over.
    pub fn hand_over(&mut self) -> Result<()> {
        self.rows = 0;
        for (part, out) in self.out.iter_mut().enumerate().filter(|(_, out)| !out.is_empty()) {
            match self.to {
                To::Parts(parts, packing) => {
                    parts.push(part, packing.pack(out).map_err(super::too_large)?)?
                }
                To::Kernel(kernel) => {
                    let next = out.like();
                    let full = std::mem::replace(out, next);
                    kernel.take(&full.finish().map_err(super::too_large)?)?;
                }
            }
        }
        Ok(())
    }
}

/// Pings that gather by part until there are enough for a batch.
#[derive(Debug)]
pub struct Gathering<'p, 'r> {
    parts: &'p Parts<'r>,
    schema: SchemaRef,
    open: Vec<Mutex<Open>>,
    /// Bytes of a part at which its rows become a batch.
    chunk_bytes: usize,
    /// How rows are packed, if they are; as long as all before suited that.
    packing: Option<Packing>,
    suits: AtomicBool,
}

/// Rows of a part that are no batch yet.
#[derive(Debug)]
enum Open {
    Plain(PingColumns),
    Packed(PackedColumns),
}

impl<'p, 'r> Gathering<'p, 'r> {
    /// Pings of this shape for these parts.
    pub fn new(parts: &'p Parts<'r>, schema: &SchemaRef) -> Self {
        let none = |_| Mutex::new(Open::Plain(PingColumns::new(schema)));
        let open = (0..parts.len()).map(none).collect();
        // What is open counts for nothing in the room, so all of it together is kept below a half of that.
        let share = parts.room.budget / 2 / parts.len().max(1) as u64;
        Gathering {
            parts,
            schema: schema.clone(),
            open,
            chunk_bytes: share.clamp(1 << 10, 1 << 24) as usize,
            packing: None,
            suits: AtomicBool::new(true),
        }
    }

    /// The same, which packs what suits that; no ping is before `from`.
    pub fn packed(mut self, from: Millis) -> Self {
        self.packing = Some(Packing::new(&self.schema, from));
        self
    }

    /// Adds rows of a batch, all if none are named, to the parts of their persons, whose
    /// [`PersonRef::spread`] is given for every row of the batch.
    pub fn add(
        &self,
        batch: &RecordBatch,
        spreads: &[u64],
        rows: Option<&[u32]>,
        room: &mut Dealing,
    ) -> Result<()> {
        if rows.is_some_and(<[u32]>::is_empty) {
            return Ok(());
        }
        let pings = Pings::of(batch);
        let mut packed = std::mem::take(&mut room.packed);
        let packing = self.packing.as_ref().filter(|_| self.suits.load(Ordering::Relaxed));
        let packing = packing.filter(|packing| {
            let suits = packing.pack(&pings, &mut packed);
            // What follows will not suit it either.
            self.suits.fetch_and(suits, Ordering::Relaxed);
            suits
        });
        let mut full: Vec<(usize, Result<RecordBatch>)> = Vec::new();
        let mut add = |part: usize, rows: &[u32]| {
            let mut open = self.open[part].lock().unwrap_or_else(PoisonError::into_inner);
            let mut close = |open: &mut Open, room: usize| {
                let next = match (packing, &*open) {
                    (Some(_), Open::Packed(open)) => Open::Packed(open.like(room)),
                    (Some(packing), Open::Plain(_)) => Open::Packed(packing.columns()),
                    (None, _) => Open::Plain(PingColumns::with_capacity(&self.schema, room)),
                };
                full.push((part, std::mem::replace(open, next).finish()));
            };
            // Making room copies all that is there: what does not fit goes to the next chunk.
            if open.len() > 0 && open.len() + rows.len() > CHUNK_ROWS {
                close(&mut open, CHUNK_ROWS);
            }
            if matches!(*open, Open::Packed(_)) != packing.is_some() {
                close(&mut open, 0);
            }
            match &mut *open {
                Open::Plain(open) => open.extend(&pings, rows),
                Open::Packed(open) => open.extend(&pings, &packed, rows),
            }
            if open.bytes() > self.chunk_bytes {
                let room = open.len() + rows.len();
                close(&mut open, room);
            }
        };
        match rows {
            Some(rows) => room.deal(spreads, rows.iter().copied(), self.parts.len(), &mut add),
            None => room.deal(spreads, 0..spreads.len() as u32, self.parts.len(), &mut add),
        }
        room.packed = packed;
        full.into_iter().try_for_each(|(part, batch)| self.parts.push(part, batch?))
    }

    /// Puts the rest into the parts.
    pub fn finish(self) -> Result<()> {
        for (part, open) in self.open.into_iter().enumerate() {
            let rest = open.into_inner().unwrap_or_else(PoisonError::into_inner);
            self.parts.push(part, rest.finish()?)?;
        }
        Ok(())
    }
}

impl Open {
    fn len(&self) -> usize {
        match self {
            Open::Plain(columns) => columns.len(),
            Open::Packed(columns) => columns.len(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Open::Plain(columns) => columns.bytes(),
            Open::Packed(columns) => columns.bytes(),
        }
    }

    fn finish(self) -> Result<RecordBatch> {
        match self {
            Open::Plain(columns) => columns.finish(),
            Open::Packed(columns) => columns.finish(),
        }
        .map_err(super::too_large)
    }
}
