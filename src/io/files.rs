//! From a path in the job file to the files it names.

use super::at_url;
use super::storage::{self, Opened, is_url};
use crate::error::{Error, Problem, Result, nearest};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::ParquetStatisticsPolicy;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// One input file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Where it is.
    pub path: PathBuf,
    /// Its path as seen from the job file: what messages and the rejections table show.
    pub name: String,
    /// `key=value` folders on the way to it (Hive partitions); no value where Hive writes null.
    pub partitions: Vec<(String, Option<String>)>,
    /// Its size, bytes.
    pub bytes: u64,
}

const PARQUET_ENDINGS: [&str; 3] = ["parquet", "parq", "pq"];

/// The files of a path: itself, the Parquet files below a folder, or what a glob matches; sorted.
/// `place` is the job key, for messages.
pub fn resolve(base: &Path, path: &str, place: &str) -> Result<Vec<Input>> {
    let problem = |expected: &str, found: String, cure: String| {
        Error::Input(Problem::new(format!("{place} = \"{path}\""), expected, found, cure))
    };
    if is_url(Path::new(path)) {
        return at_url::resolve(path, &problem);
    }
    let full = base.join(path);
    let mut paths = Vec::new();
    if full.is_file() {
        paths.push(full);
    } else if full.is_dir() {
        paths = below(&full)
            .map_err(|e| problem("a folder that can be read", e, "check its permissions".into()))?;
        if paths.is_empty() {
            return Err(problem(
                "a folder with files that end in .parquet, .parq or .pq",
                "no such file in it or below (names that start with _ or . do not count)".into(),
                "check the path, or name the files by a glob".into(),
            ));
        }
    } else if path.contains(['*', '?', '[']) {
        paths = matching(base, path).map_err(|e| {
            problem("a glob whose folders can be read", e, "mend the pattern, or what it leads to".into())
        })?;
        if paths.is_empty() {
            return Err(problem(
                "a glob that matches at least one file",
                "no match (names that start with _ or . do not count)".into(),
                format!("check the pattern; relative paths start at the job file's folder, {}", folder(base)),
            ));
        }
    } else {
        return Err(problem("a file, a folder or a glob", "nothing there".into(), missing_cure(base, &full)));
    }
    // A file that two links lead to is read once, under the first of its names.
    paths.sort();
    let mut seen = hashbrown::HashSet::new();
    paths.retain(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
    paths.into_iter().map(|path| input(base, path, None)).collect()
}

fn folder(base: &Path) -> std::path::Display<'_> {
    if base.as_os_str().is_empty() { Path::new(".").display() } else { base.display() }
}

fn missing_cure(base: &Path, full: &Path) -> String {
    let wanted = full.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let there: Vec<String> = full
        .parent()
        .map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p })
        .and_then(|p| std::fs::read_dir(p).ok())
        .into_iter()
        .flatten()
        .filter_map(|e| e.ok().map(|e| e.file_name().to_string_lossy().into_owned()))
        .collect();
    match nearest(&wanted, there.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("check the path; relative paths start at the job file's folder, {}", folder(base)),
    }
}

pub(super) fn is_parquet(path: &Path) -> bool {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    ending.is_some_and(|e| PARQUET_ENDINGS.contains(&e.as_str()))
}

pub(super) fn hidden(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with(['.', '_'])
}

/// What lies below a folder: files, or folders with itself among them. Links are followed, but for those
/// that lead back; hidden names do not count, and nor do links that lead nowhere, unless a wanted file's
/// name is on them.
fn walk(folder: &Path, folders: bool) -> std::result::Result<Vec<PathBuf>, String> {
    let mut paths = Vec::new();
    let walk = walkdir::WalkDir::new(folder).follow_links(true);
    for entry in walk.into_iter().filter_entry(|e| e.depth() == 0 || !hidden(e.file_name())) {
        match entry {
            Ok(entry) if entry.file_type().is_dir() == folders => paths.push(entry.into_path()),
            Ok(_) => {}
            Err(e) if e.loop_ancestor().is_some() => {}
            Err(e) if e.path().is_some_and(|p| p.is_symlink() && !p.exists() && !is_parquet(p)) => {}
            Err(e) => return Err(e.to_string()),
        }
    }
    Ok(paths)
}

fn below(folder: &Path) -> std::result::Result<Vec<PathBuf>, String> {
    Ok(walk(folder, false)?.into_iter().filter(|path| is_parquet(path)).collect())
}

/// The files that a glob matches, and the Parquet files below the folders it matches.
fn matching(base: &Path, path: &str) -> std::result::Result<Vec<PathBuf>, String> {
    let root = if path.starts_with('/') { PathBuf::from("/") } else { base.to_path_buf() };
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let mut found = Vec::new();
    expand(&root, &parts, &mut found)?;
    Ok(found)
}

/// Follows a glob part by part, and enters no folder that it does not name.
fn expand(here: &Path, parts: &[&str], found: &mut Vec<PathBuf>) -> std::result::Result<(), String> {
    let failed = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    let Some((part, rest)) = parts.split_first() else {
        if std::fs::metadata(here).map_err(|e| failed(here, e))?.is_dir() {
            found.extend(below(here)?);
        } else {
            found.push(here.to_path_buf());
        }
        return Ok(());
    };
    let folder = if here.as_os_str().is_empty() { Path::new(".") } else { here };
    if *part == "**" {
        for inner in walk(folder, true)? {
            // A walk from "." names what it finds "./x"; the job file's own spelling has no dot.
            expand(inner.strip_prefix(".").unwrap_or(&inner), rest, found)?;
        }
    } else if part.contains(['*', '?', '[']) {
        let pattern = glob::Pattern::new(part).map_err(|e| format!("{part}: {e}"))?;
        if !folder.is_dir() {
            return Ok(());
        }
        for entry in std::fs::read_dir(folder).map_err(|e| failed(folder, e))? {
            let name = entry.map_err(|e| failed(folder, e))?.file_name();
            let wanted = pattern.matches(&name.to_string_lossy());
            if wanted && (!hidden(&name) || part.starts_with(['.', '_'])) {
                expand(&here.join(name), rest, found)?;
            }
        }
    } else if here.join(part).symlink_metadata().is_ok() {
        expand(&here.join(part), rest, found)?;
    }
    Ok(())
}

/// A file that exists, as seen from a folder; an object has the `known` bytes, if they are known.
pub fn input(base: &Path, path: PathBuf, known: Option<u64>) -> Result<Input> {
    let name = path.strip_prefix(base).unwrap_or(&path).display().to_string();
    let bytes = match known {
        Some(bytes) if is_url(&path) => bytes,
        _ => storage::size(&path).map_err(|e| unreadable(&name, &e))?,
    };
    Ok(Input { partitions: partitions(&name), path, name, bytes })
}

/// The `key=value` folders of a name.
pub(super) fn partitions(name: &str) -> Vec<(String, Option<String>)> {
    Path::new(name)
        .parent()
        .into_iter()
        .flat_map(Path::components)
        .filter_map(|c| {
            let folder = c.as_os_str().to_string_lossy().into_owned();
            folder
                .split_once('=')
                .map(|(key, value)| (decoded(key), Some(decoded(value)).filter(|v| v != HIVE_NULL)))
        })
        .collect()
}

impl Input {
    /// Opens it.
    pub fn open(&self) -> Result<Opened> {
        Opened::open(&self.path, self.bytes).map_err(|e| unreadable(&self.name, &e))
    }

    /// All its bytes.
    pub fn read(&self) -> Result<Vec<u8>> {
        storage::read(&self.path).map_err(|e| unreadable(&self.name, &e))
    }
}

/// How Hive writes a folder for rows without a value.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// Hive writes characters that a folder's name cannot have as %XX.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// A file that the system will not let us read.
pub fn unreadable(name: &str, error: &std::io::Error) -> Error {
    Error::Input(Problem::new(name, "a file that can be read", error.to_string(), storage::cure(name, error)))
}

/// Opens a Parquet file and reads its footer.
pub fn open_parquet(input: &Input) -> Result<ArrowReaderMetadata> {
    open_with(input, ArrowReaderOptions::new())
}

/// The same of a file of a store, of which no statistics are needed but those of time, its second column.
pub fn open_stored(input: &Input) -> Result<ArrowReaderMetadata> {
    let skip = ParquetStatisticsPolicy::SkipAll;
    let options = ArrowReaderOptions::new()
        .with_column_stats_policy(ParquetStatisticsPolicy::skip_except(&[1]))
        .with_size_stats_policy(skip.clone())
        .with_encoding_stats_policy(skip);
    open_with(input, options)
}

fn open_with(input: &Input, options: ArrowReaderOptions) -> Result<ArrowReaderMetadata> {
    let file = input.open()?;
    let problem = |found: &str, cure: &str| {
        Err(Error::Input(Problem::new(&*input.name, "a whole Parquet file", found, cure)))
    };
    let mut magic = [0u8; 4];
    let mut starts = |offset: u64| -> Result<bool> {
        let read = file.read_at(&mut magic, offset).map_err(|e| unreadable(&input.name, &e))?;
        Ok(read == magic.len() && &magic == b"PAR1")
    };
    let head = starts(0)?;
    if !head {
        return problem(
            if input.bytes == 0 { "an empty file" } else { "a file that does not start as Parquet does" },
            "check the path; convert other formats to Parquet first",
        );
    }
    let tail = input.bytes >= 4 && starts(input.bytes - 4)?;
    if !tail || input.bytes < 12 {
        return problem(
            "a Parquet file that stops before its footer",
            "copy or write the file again: it was cut off",
        );
    }
    let loaded = guarded(|| ArrowReaderMetadata::load(&file, options));
    match loaded {
        Ok(Ok(metadata)) => Ok(metadata),
        Ok(Err(e)) => {
            let why = format!("a footer that cannot be read ({e})");
            problem(&why, storage::cure_of_reading(&input.path, &why).unwrap_or("write the file again"))
        }
        Err(Panicked) => problem("a footer that cannot be read", "write the file again"),
    }
}

/// How many objects are asked for at once: the network takes longer than the machine.
const OBJECTS_AT_ONCE: usize = 16;
/// With fewer files, threads cost more than they save.
const FILES_PER_THREAD: usize = 8;

/// What is made of each of some files, in their order, several at a time.
pub fn each_of<T: Send>(inputs: &[Input], threads: usize, make: &(dyn Fn(&Input) -> T + Sync)) -> Vec<T> {
    let threads = match inputs.first() {
        Some(first) if is_url(&first.path) => OBJECTS_AT_ONCE.min(inputs.len()),
        _ => threads.min(inputs.len() / FILES_PER_THREAD),
    };
    if threads < 2 {
        return inputs.iter().map(make).collect();
    }
    let share = inputs.len().div_ceil(threads);
    let shares = std::thread::scope(|scope| {
        let started: Vec<_> = inputs
            .chunks(share)
            .map(|own| scope.spawn(move || own.iter().map(make).collect::<Vec<T>>()))
            .collect();
        started.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    shares
        .into_iter()
        .flat_map(|share| share.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        .collect()
}

thread_local! {
    static GUARDED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether this thread is inside [`guarded`], where a panic is a broken file and not a bug of ours.
pub fn in_guard() -> bool {
    GUARDED.get()
}

/// A decoder panicked, which says that its bytes are broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panicked;

/// Runs a decoder; a file broken in a way that makes it panic is an error like any other.
pub fn guarded<T>(decode: impl FnOnce() -> T) -> std::result::Result<T, Panicked> {
    let before = GUARDED.replace(true);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode)).map_err(|_| Panicked);
    GUARDED.set(before);
    result
}

/// SHA-256 of a Parquet file's footer and size, or (`full`, and for other files) of all its bytes; hex.
pub fn digest(input: &Input, full: bool) -> Result<String> {
    let read = || -> std::io::Result<String> {
        let file = Opened::open(&input.path, input.bytes)?;
        let mut hasher = Sha256::new();
        let mut tail = [0u8; 8];
        let footer = if full || input.bytes < 12 {
            None
        } else {
            if file.read_at(&mut tail, input.bytes - 8)? < tail.len() {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let length = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]])) + 8;
            (&tail[4..] == b"PAR1" && length <= input.bytes).then_some(length)
        };
        if footer.is_some() {
            hasher.update(input.bytes.to_le_bytes());
        }
        let mut rest = file.from(footer.map_or(0, |length| input.bytes - length));
        let mut buffer = vec![0; footer.unwrap_or(input.bytes).clamp(1, 1 << 20) as usize];
        loop {
            let n = rest.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
        }
        Ok(hex(&hasher.finalize()))
    };
    read().map_err(|e| unreadable(&input.name, &e))
}

/// What digests all that is written through it.
pub struct Digesting<W> {
    inner: W,
    hasher: Sha256,
    bytes: u64,
}

impl<W> Digesting<W> {
    /// Nothing written yet.
    pub fn new(inner: W) -> Self {
        Digesting { inner, hasher: Sha256::new(), bytes: 0 }
    }

    /// What is below, how many bytes went there, and their SHA-256; hex.
    pub fn finish(self) -> (W, u64, String) {
        (self.inner, self.bytes, hex(&self.hasher.finalize()))
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// SHA-256 of a text; hex.
pub fn digest_of_text(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
