//! Object stores, in a program that was built without the feature `cloud`: there are none, and it says so.

use std::convert::Infallible;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// An object that is read; there is none.
#[derive(Debug)]
pub struct Reader(Infallible);

/// Which bytes an object has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version;

/// An object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its URL.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// When it was written, ms UTC by the store's clock.
    pub written_at: i64,
}

fn none<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "a URL, and this program was built without the feature cloud"))
}

impl Reader {
    /// Opens an object.
    pub fn open(_url: &Path, _bytes: u64) -> Result<Self> {
        none()
    }

    /// Its bytes.
    pub fn bytes(&self) -> u64 {
        match self.0 {}
    }

    /// Reads from an offset on.
    pub fn read_at(&self, _to: &mut [u8], _offset: u64) -> Result<usize> {
        match self.0 {}
    }
}

/// How many bytes an object has.
pub fn size(_url: &Path) -> Result<u64> {
    none()
}

/// All bytes of an object.
pub fn get(_url: &Path) -> Result<(Vec<u8>, Version)> {
    none()
}

/// Writes a small object.
pub fn put(_url: &Path, _bytes: Vec<u8>) -> Result<()> {
    none()
}

/// Writes a small object where its bytes are the expected ones.
pub fn put_if(_url: &Path, _bytes: Vec<u8>, _expected: Option<&Version>) -> Result<Option<Version>> {
    none()
}

/// Writes objects from files.
pub fn upload(_files: Vec<(PathBuf, PathBuf)>) -> Result<()> {
    none()
}

/// Removes an object.
pub fn remove(_url: &Path) -> Result<()> {
    none()
}

/// Lets no file be sent from now on.
pub fn stop_sending() {}

/// Removes objects.
pub fn remove_all(_urls: &[PathBuf]) {}

/// The objects below a URL.
pub fn list(_url: &Path) -> Result<Vec<Listed>> {
    none()
}

/// One object as a listing tells of it.
pub fn look(_url: &Path) -> Result<Listed> {
    none()
}
