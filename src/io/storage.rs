//! Where bytes are: a file on a disk, or an object behind a URL (feature `cloud`), by the same calls. A path that
//! [`is_url`] is a URL; what reads and writes through this module need not ask which of the two it has.

#[cfg(feature = "cloud")]
pub mod objects;
#[cfg(not(feature = "cloud"))]
#[path = "storage/no_objects.rs"]
pub mod objects;

pub use crate::config::is_url;

use bytes::Bytes;
use objects::Reader;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use std::fs::{self, File};
use std::io::{BufReader, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// What the edge of the program knows of its surroundings.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The variables of the environment: addresses and credentials of object stores are among them.
    pub variables: Vec<(String, String)>,
    /// A folder for what is on its way to a URL.
    pub scratch: PathBuf,
}

static SURROUNDINGS: OnceLock<Surroundings> = OnceLock::new();

/// Tells where the program runs; the first word counts.
pub fn surround(with: Surroundings) {
    drop(SURROUNDINGS.set(with));
}

/// Where the program runs.
pub fn surroundings() -> &'static Surroundings {
    SURROUNDINGS.get_or_init(|| Surroundings { variables: Vec::new(), scratch: PathBuf::from(".") })
}

/// Something to read from at any offset.
#[derive(Debug, Clone)]
pub enum Opened {
    /// A file, and its bytes.
    File(Arc<File>, u64),
    /// An object.
    Object(Arc<Reader>),
}

impl Opened {
    /// Opens a file, or an object of so many bytes.
    pub fn open(path: &Path, bytes: u64) -> std::io::Result<Self> {
        if is_url(path) {
            return Ok(Opened::Object(Arc::new(Reader::open(path, bytes)?)));
        }
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Opened::File(Arc::new(file), bytes))
    }

    /// Reads bytes from an offset on: all that are wanted, or those up to the end.
    pub fn read_at(&self, to: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let file = match self {
            Opened::File(file, _) => file,
            Opened::Object(reader) => return reader.read_at(to, offset),
        };
        let mut read = 0;
        while read < to.len() {
            match file.read_at(&mut to[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(read)
    }

    /// All from an offset on, in order.
    pub fn from(&self, at: u64) -> Following {
        Following { source: self.clone(), at }
    }
}

impl Length for Opened {
    fn len(&self) -> u64 {
        match self {
            Opened::File(_, bytes) => *bytes,
            Opened::Object(reader) => reader.bytes(),
        }
    }
}

impl ChunkReader for Opened {
    type T = BufReader<Following>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(BufReader::new(self.from(start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let mut bytes = vec![0; length];
        let found = self.read_at(&mut bytes, start)?;
        if found < length {
            return Err(ParquetError::EOF(format!("{found} bytes where {length} were promised")));
        }
        Ok(Bytes::from(bytes))
    }
}

/// A source as it is read from the front.
#[derive(Debug)]
pub struct Following {
    source: Opened,
    at: u64,
}

impl Read for Following {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read_at(to, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// How many bytes there are at a path.
pub fn size(path: &Path) -> std::io::Result<u64> {
    if is_url(path) { objects::size(path) } else { Ok(fs::metadata(path)?.len()) }
}

/// Whether there is a file or an object.
pub fn exists(path: &Path) -> bool {
    if is_url(path) { objects::size(path).is_ok() } else { path.exists() }
}

/// All bytes at a path.
pub fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if is_url(path) { objects::get(path).map(|(bytes, _)| bytes) } else { fs::read(path) }
}

/// All text at a path.
pub fn read_text(path: &Path) -> std::io::Result<String> {
    String::from_utf8(read(path)?).map_err(|e| std::io::Error::new(ErrorKind::InvalidData, e.utf8_error()))
}

/// What to do about an object of which a Parquet reader says something that comes from the store behind it; nothing, if it is
/// the bytes' fault.
pub fn cure_of_reading(path: &Path, why: &str) -> Option<&'static str> {
    (is_url(path) && why.contains("External: ")).then_some(
        "run again once the network and the store are well; if the object is gone or another one, somebody removed it or wrote it anew meanwhile (docs/cloud.md)",
    )
}

/// What to do about a path that could not be read or written.
pub fn cure(path: &str, error: &std::io::Error) -> &'static str {
    match (is_url(Path::new(path)), error.kind()) {
        (false, _) => "check the file and its permissions",
        (true, ErrorKind::Unsupported) if cfg!(feature = "cloud") => {
            "keep stores on a disk, or on an object store that has conditional writes (docs/cloud.md)"
        }
        (true, ErrorKind::Unsupported) => {
            "install copresence with the feature cloud, or copy the files to a disk"
        }
        (true, ErrorKind::InvalidInput) => {
            "give a URL such as s3://bucket/key, and variables of the environment as docs/cloud.md has them"
        }
        (true, ErrorKind::ResourceBusy) => {
            "run again; if it stays so, the object is not the one that was written: bring it back from a backup"
        }
        (true, ErrorKind::NotFound) => {
            "check the URL, and the endpoint if the store is not the provider's own"
        }
        (true, ErrorKind::PermissionDenied) => {
            "check the credentials in the environment, and what they are allowed to do; docs/cloud.md names the variables"
        }
        (true, _) => {
            "check the endpoint, the credentials and the network (docs/cloud.md names the variables), then run again"
        }
    }
}
