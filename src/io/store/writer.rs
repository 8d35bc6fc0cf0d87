//! Changing a store: new files beside the old ones, put in force by one rename.

use super::{CACHE, CATALOGUE, Catalogue, HIDDEN, INCOMING, files_of, input, read_catalogue};
use crate::error::{Error, Problem, Result};
use crate::io::files::{Input, unreadable};
use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The only one who changes a store.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    /// What is in force.
    pub catalogue: Catalogue,
    writing: File,
}

/// Opens a store that there is, to change it.
pub fn change(folder: &Path) -> Result<Writer> {
    Writer::open(folder, &read_catalogue(folder)?.time_zone)
}

impl Writer {
    /// Opens a store to change it, a new one if there is nothing yet; its days are those of `time_zone`.
    pub fn open(folder: &Path, time_zone: &str) -> Result<Self> {
        let hidden = folder.join(HIDDEN);
        let is_new = !hidden.join(CATALOGUE).exists();
        if is_new
            && fs::read_dir(folder)
                .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name() != HIDDEN))
        {
            return Err(Error::Output(Problem::new(
                format!("--store {}", folder.display()),
                "a prepared store, an empty folder, or nothing yet",
                "a folder with other things in it",
                "give another folder",
            )));
        }
        fs::create_dir_all(hidden.join(INCOMING)).map_err(|e| failed(&hidden, &e))?;
        let open = |name: &str| {
            let path = hidden.join(name);
            File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .read(true)
                .open(&path)
                .map_err(|e| failed(&path, &e))
        };
        let writing = open("writer.lock")?;
        match writing.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Output(Problem::new(
                    format!("--store {}", folder.display()),
                    "a store that nobody else is changing",
                    "another program that is changing it",
                    "wait until it has ended; readers need not wait",
                )));
            }
            Err(TryLockError::Error(e)) => return Err(failed(&hidden.join("writer.lock"), &e)),
        }
        drop(open("readers.lock")?);
        let catalogue = if is_new { Catalogue::new(time_zone) } else { read_catalogue(folder)? };
        if catalogue.time_zone != time_zone {
            return Err(Error::Job(Problem::new(
                "job.time_zone",
                format!("{}, by whose days the store is laid out", catalogue.time_zone),
                time_zone,
                "take the same time_zone, or another store",
            )));
        }
        let writer = Writer { folder: folder.to_path_buf(), catalogue, writing };
        writer.sweep();
        Ok(writer)
    }

    /// Where a file is made before it is in force; `name` is its path in the store.
    pub fn incoming(&self, name: &str) -> PathBuf {
        self.folder.join(HIDDEN).join(INCOMING).join(name.replace('/', "~") + ".new")
    }

    /// Where what does not fit the memory goes meanwhile.
    pub fn spill(&self) -> PathBuf {
        self.folder.join(HIDDEN).join(INCOMING).join("spill")
    }

    /// A file that is in force, as an input.
    pub fn input(&self, file: &str) -> Result<Input> {
        input(&self.folder, file)
    }

    /// The path of a small file of this name.
    pub fn hidden_name(name: &str) -> String {
        format!("{HIDDEN}/{name}")
    }

    /// Copies a file to where new ones are made.
    pub fn copy(&self, from: &Path, name: &str) -> Result<()> {
        let to = self.incoming(name);
        let copied = fs::copy(from, &to).and_then(|_| File::open(&to)?.sync_all());
        copied.map_err(|e| failed(&to, &e))
    }

    /// A folder of all that is no pings.
    pub fn hidden(&self, name: &str) -> PathBuf {
        self.folder.join(HIDDEN).join(name)
    }

    /// Waits until nobody reads, and lets nobody begin as long as the file is held.
    pub fn wait_for_readers(&self) -> Result<ReadersOut> {
        let path = self.hidden("readers.lock");
        let readers = File::open(&path).map_err(|e| unreadable(&path.display().to_string(), &e))?;
        readers.lock().map_err(|e| failed(&path, &e))?;
        Ok(ReadersOut(readers))
    }

    /// Writes a small file of the store's own, and syncs it.
    pub fn write_small(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
            let mut file = File::create(&path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|e| failed(&path, &e))?;
        sync_up(path.parent().unwrap_or(&self.folder), &self.folder);
        Ok(())
    }

    /// Removes every file of the store that is not in force, while nobody reads, and all answers that are kept; looks whether
    /// they are gone. Gives them with their bytes.
    pub fn remove_unlisted(&self) -> Result<Vec<(String, u64)>> {
        drop(fs::remove_dir_all(self.hidden(CACHE)));
        let mut removed = Vec::new();
        for path in self.unlisted() {
            let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            fs::remove_file(&path).map_err(|e| failed(&path, &e))?;
            if path.exists() {
                return Err(failed(&path, &std::io::Error::other("a file that does not go away")));
            }
            let name = path.strip_prefix(&self.folder).unwrap_or(&path).display().to_string();
            removed.push((name, bytes));
            let parent = path.parent().unwrap_or(&self.folder);
            drop(fs::remove_dir(parent));
            sync_up(parent.parent().unwrap_or(&self.folder), &self.folder);
        }
        removed.sort();
        Ok(removed)
    }

    /// An error for a file that could not be written.
    pub fn failed(&self, name: &str, error: &std::io::Error) -> Error {
        failed(&self.folder.join(name), error)
    }

    /// Puts a catalogue in force, whose new files are all made and synced: with it or not at all.
    pub fn commit(&mut self, mut next: Catalogue) -> Result<()> {
        next.version = self.catalogue.version + 1;
        let mut folders = HashSet::new();
        for name in files_of(&next) {
            let (from, to) = (self.incoming(name), self.folder.join(name));
            if !from.exists() {
                continue;
            }
            let parent = to.parent().unwrap_or(&self.folder).to_path_buf();
            fs::create_dir_all(&parent).map_err(|e| failed(&parent, &e))?;
            fs::rename(&from, &to).map_err(|e| failed(&to, &e))?;
            folders.insert(parent);
        }
        for folder in folders {
            sync_up(&folder, &self.folder);
        }
        let text = serde_json::to_string_pretty(&next)
            .map_err(|e| failed(&self.folder, &std::io::Error::other(e)))?;
        let (path, new) = (self.folder.join(HIDDEN).join(CATALOGUE), self.incoming(CATALOGUE));
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(|e| failed(&path, &e))?;
        sync_up(&self.folder.join(HIDDEN), &self.folder);
        self.catalogue = next;
        self.sweep();
        Ok(())
    }

    /// Removes what is not in force, unless somebody reads: then it goes another time. What an interrupted writer left goes
    /// in any case.
    fn sweep(&self) {
        let hidden = self.folder.join(HIDDEN);
        drop(fs::remove_dir_all(hidden.join(INCOMING)));
        drop(fs::create_dir_all(hidden.join(INCOMING)));
        let Ok(readers) = File::open(hidden.join("readers.lock")) else { return };
        if readers.try_lock().is_err() {
            return;
        }
        let current = format!("v{:06}-", self.catalogue.version);
        for entry in fs::read_dir(hidden.join(CACHE)).into_iter().flatten().flatten() {
            if !entry.file_name().to_string_lossy().starts_with(&current) {
                drop(fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path())));
            }
        }
        for path in self.unlisted() {
            drop(fs::remove_file(&path));
            // The folder of a day may be empty now.
            drop(path.parent().map(fs::remove_dir));
        }
    }

    /// Files that an ingest wrote and that are not in force. Only what it writes where it writes it: other things in the
    /// folder are somebody's.
    fn unlisted(&self) -> Vec<PathBuf> {
        let kept: HashSet<PathBuf> = files_of(&self.catalogue).map(|name| self.folder.join(name)).collect();
        let of_ours = |path: &Path| {
            let within = path.strip_prefix(&self.folder).unwrap_or(path).to_string_lossy().into_owned();
            let named =
                |start: &str| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start));
            (within.starts_with("source=") && named("feed") && within.ends_with(".parquet"))
                || (within.starts_with(&Writer::hidden_name("faulty/")) && named("v"))
                || (within.starts_with(&Writer::hidden_name("guide/")) && named("v"))
                || (within.starts_with(&Writer::hidden_name("places/")) && named("feed"))
        };
        let entries = walkdir::WalkDir::new(&self.folder).into_iter().flatten();
        let files = entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
        files.filter(|path| of_ours(path) && !kept.contains(path)).collect()
    }
}

/// Nobody reads as long as this lives.
#[derive(Debug)]
pub struct ReadersOut(File);

impl Drop for ReadersOut {
    fn drop(&mut self) {
        drop(self.0.unlock());
    }
}

/// What was not put in force goes at once.
impl Drop for Writer {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(self.folder.join(HIDDEN).join(INCOMING)));
        // Said outright: a process that was just forked off holds what is only closed a moment longer.
        drop(self.writing.unlock());
    }
}

/// Syncs a folder and those above it, up to the store's own. Some file systems cannot; the renames stand all the same.
fn sync_up(folder: &Path, top: &Path) {
    for folder in folder.ancestors().take_while(|folder| folder.starts_with(top)) {
        drop(File::open(folder).and_then(|folder| folder.sync_all()));
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::Output(Problem::new(
        path.display().to_string(),
        "a store that can be written",
        error.to_string(),
        "check its permissions and the free space; what the store held is still in force",
    ))
}
