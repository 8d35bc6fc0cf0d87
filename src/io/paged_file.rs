//! A Parquet file as its pages are read: a page with its header in one call, into memory that stays warm.

use super::storage::Opened;
use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use std::cell::RefCell;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes that are read where nothing tells how long a page is.
const FIRST_READ: usize = 1 << 14;
/// A page's header is this short, nearly always; a longer one is read in further pieces.
const HEADER: usize = 1 << 8;
/// Columns whose pages are followed at once; with more, some pages take two reads.
const COLUMNS: usize = 16;
/// Rooms for pages that a thread keeps, and the largest of them.
const ROOMS: usize = 16;
const ROOM_MAX: usize = 1 << 22;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Room for a page; it goes back to its thread.
#[derive(Debug)]
struct Room(Vec<u8>);

impl Room {
    fn new() -> Self {
        Room(FREE.with_borrow_mut(Vec::pop).unwrap_or_default())
    }

    /// At least so many bytes, of any value where nothing was read.
    fn grow(&mut self, bytes: usize) {
        if self.0.len() < bytes {
            self.0.resize(bytes, 0);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.0);
        FREE.with_borrow_mut(|free| {
            if free.len() < ROOMS && bytes.len() <= ROOM_MAX {
                free.push(bytes);
            }
        });
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A file whose pages are read one after the other, column by column.
#[derive(Debug)]
pub struct PagedFile {
    file: Opened,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// So many bytes are read from `start` on: a header, and its page as far as it was foreseen.
    room: Option<Room>,
    start: u64,
    read: usize,
    /// By column, where its next page starts, and how long the last one was.
    next: Vec<(u64, usize)>,
    /// Whether nobody wanted the page whose header was read last, as where few rows are.
    skips: bool,
}

impl State {
    /// How many of the bytes that are read lie before an offset, if it is among them.
    fn before(&self, start: u64) -> Option<usize> {
        let before = usize::try_from(start.checked_sub(self.start)?).ok()?;
        (self.room.is_some() && before <= self.read).then_some(before)
    }
}

impl PagedFile {
    /// Opens a file, or an object of so many bytes.
    pub fn open(path: &Path, bytes: u64) -> std::io::Result<Self> {
        Ok(PagedFile { file: Opened::open(path, bytes)?, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Length for PagedFile {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl ChunkReader for PagedFile {
    type T = Header;

    fn get_read(&self, start: u64) -> Result<Header> {
        let mut state = self.state();
        // The reader asks for a header's page in the same way.
        let before = match state.before(start) {
            Some(before) if before < state.read => before,
            _ => {
                let last = state.next.iter().find(|(at, _)| *at == start);
                let unknown = if state.skips { HEADER } else { FIRST_READ };
                let wanted = last.map_or(unknown, |(_, bytes)| bytes + bytes / 16 + HEADER);
                let mut room = state.room.take().unwrap_or_else(Room::new);
                room.grow(wanted);
                let read = self.file.read_at(&mut room.0[..wanted], start)?;
                (state.room, state.start, state.read, state.skips) = (Some(room), start, read, true);
                0
            }
        };
        let mut header = Header { file: self.file.clone(), at: start, known: [0; HEADER], from: 0, to: 0 };
        if let Some(room) = &state.room {
            header.to = (state.read - before).min(HEADER);
            header.known[..header.to].copy_from_slice(&room.0[before..before + header.to]);
        }
        Ok(header)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let mut state = self.state();
        state.skips = false;
        let (before, known) = state.before(start).map_or((0, 0), |before| (before, state.read));
        let mut room = state.room.take().unwrap_or_else(Room::new);
        let end = before + length;
        if known < end {
            room.grow(end);
            let offset = start + (known - before) as u64;
            let found = known + self.file.read_at(&mut room.0[known..end], offset)? - before;
            if found < length {
                return Err(ParquetError::EOF(format!("{found} bytes where {length} were promised")));
            }
        }
        let next = (start + length as u64, length);
        let here = |(at, _): &(u64, usize)| *at <= start && start - *at <= HEADER as u64;
        match state.next.iter().position(here) {
            Some(at) => state.next[at] = next,
            None => {
                let dropped = usize::from(state.next.len() == COLUMNS);
                state.next.drain(..dropped);
                state.next.push(next);
            }
        }
        Ok(Bytes::from_owner(room).slice(before..end))
    }
}

/// The start of a page as it is read, byte by byte.
#[derive(Debug)]
pub struct Header {
    file: Opened,
    at: u64,
    known: [u8; HEADER],
    from: usize,
    to: usize,
}

impl Read for Header {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        if self.from == self.to {
            self.to = self.file.read_at(&mut self.known, self.at)?;
            self.from = 0;
        }
        let bytes = to.len().min(self.to - self.from);
        to[..bytes].copy_from_slice(&self.known[self.from..self.from + bytes]);
        (self.from, self.at) = (self.from + bytes, self.at + bytes as u64);
        Ok(bytes)
    }
}
