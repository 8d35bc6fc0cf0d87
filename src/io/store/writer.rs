//! Changing a store: new files beside the old ones, put in force by one rename of the catalogue, or by one write of it that
//! fails if somebody else came first.

use super::lease::{DEAD_S, Lease};
use super::unfinished::{is_stopped, registered, sending, unless_stopped};
use super::{
    CACHE, CATALOGUE, Catalogue, HIDDEN, INCOMING, Retired, catalogue_of, files_of, input, read_catalogue,
};
use crate::error::{Error, Problem, Result};
use crate::io::files::{Input, unreadable};
use crate::io::output::{Scratch, cannot_make};
use crate::io::storage::objects::{self, Version};
use crate::io::storage::{self, is_url};
use crate::time::{DAY_MS, Millis};
use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The only one who changes a store.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    /// What is in force.
    pub catalogue: Catalogue,
    ground: Ground,
}

/// What a store stands on.
#[derive(Debug)]
enum Ground {
    /// A folder; the file is locked.
    Disk(File),
    /// Objects; the catalogue that is changed, if there is one, and where what is new is made.
    Objects { lease: Lease, catalogue: Option<Version>, incoming: Scratch },
}

/// How many files are sent before somebody looks whether the lease is still held.
const SENT_AT_ONCE: usize = 16;
/// What is there while the first change of a store is being put in force: a store that has no catalogue, and not this, lost it,
/// and is left alone.
const BEGUN: &str = "begun";
/// How long an object stays when it is in force no more, for those who read an earlier version.
const KEPT_MS: Millis = DAY_MS;

/// Opens a store that there is, to change it.
pub fn change(folder: &Path) -> Result<Writer> {
    Writer::open(folder, &read_catalogue(folder)?.time_zone)
}

impl Writer {
    /// Opens a store to change it, a new one if there is nothing yet; its days are those of `time_zone`.
    pub fn open(folder: &Path, time_zone: &str) -> Result<Self> {
        let writer = if is_url(folder) {
            Self::open_url(folder, time_zone)?
        } else {
            Self::open_folder(folder, time_zone)?
        };
        if writer.catalogue.time_zone != time_zone {
            return Err(Error::Job(Problem::new(
                "job.time_zone",
                format!("{}, by whose days the store is laid out", writer.catalogue.time_zone),
                time_zone,
                "take the same time_zone, or another store",
            )));
        }
        Ok(writer)
    }

    fn open_url(folder: &Path, time_zone: &str) -> Result<Self> {
        let hidden = folder.join(HIDDEN);
        let not_written =
            |e: std::io::Error| if is_stopped() { Error::Interrupted } else { failed(folder, &e) };
        let lease = match Lease::take(&hidden.join("writer.lock")).map_err(not_written)? {
            Ok(lease) => lease,
            Err(holder) => {
                return Err(Error::Output(Problem::new(
                    format!("--store {}", folder.display()),
                    "a store that nobody else is changing",
                    format!("{}, last heard of {} s ago", holder.name, holder.silent_s),
                    format!(
                        "wait until it has ended; if it was killed, its lease ends {DEAD_S} s after it was last heard of"
                    ),
                )));
            }
        };
        let path = hidden.join(CATALOGUE);
        let (known, version) = match objects::get(&path) {
            Ok((bytes, version)) => {
                let text = String::from_utf8(bytes)
                    .map_err(|e| std::io::Error::new(ErrorKind::InvalidData, e.utf8_error()));
                (catalogue_of(&path, text)?, Some(version))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let listed = objects::list(folder).map_err(not_written)?;
                let has_begun = listed.iter().any(|listed| listed.path == hidden.join(BEGUN));
                if !has_begun && listed.iter().any(|listed| !listed.path.starts_with(&hidden)) {
                    return Err(foreign(folder));
                }
                (Catalogue::new(time_zone), None)
            }
            Err(e) => return Err(not_written(e)),
        };
        let incoming = Scratch::new(folder).map_err(|e| cannot_make(&storage::surroundings().scratch, &e))?;
        let ground = Ground::Objects { lease, catalogue: version, incoming };
        Ok(Writer { folder: folder.to_path_buf(), catalogue: known, ground })
    }

    fn open_folder(folder: &Path, time_zone: &str) -> Result<Self> {
        let hidden = folder.join(HIDDEN);
        let is_new = !hidden.join(CATALOGUE).exists();
        if is_new
            && !hidden.join(BEGUN).exists()
            && fs::read_dir(folder)
                .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name() != HIDDEN))
        {
            return Err(foreign(folder));
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
        let writer = Writer { folder: folder.to_path_buf(), catalogue, ground: Ground::Disk(writing) };
        if writer.catalogue.time_zone == time_zone {
            writer.sweep();
        }
        Ok(writer)
    }

    /// Where a file is made before it is in force; `name` is its path in the store.
    pub fn incoming(&self, name: &str) -> PathBuf {
        self.making().join(name.replace('/', "~") + ".new")
    }

    fn making(&self) -> PathBuf {
        match &self.ground {
            Ground::Disk(_) => self.folder.join(HIDDEN).join(INCOMING),
            Ground::Objects { incoming, .. } => incoming.folder().to_path_buf(),
        }
    }

    /// What the names of new files have in them, so that no other file has the same.
    pub fn next_version(&self) -> String {
        let version = format!("v{:06}", self.catalogue.version + 1);
        match &self.ground {
            Ground::Disk(_) => version,
            Ground::Objects { lease, .. } => format!("{version}-{}", lease.label()),
        }
    }

    /// Where what does not fit the memory goes meanwhile.
    pub fn spill(&self) -> PathBuf {
        self.making().join("spill")
    }

    /// A file that is in force, as an input.
    pub fn input(&self, file: &str) -> Result<Input> {
        input(&self.folder, file, None)
    }

    /// The path of a small file of this name.
    pub fn hidden_name(name: &str) -> String {
        format!("{HIDDEN}/{name}")
    }

    /// Copies a file to where new ones are made.
    pub fn copy(&self, from: &Input, name: &str) -> Result<()> {
        let to = self.incoming(name);
        let bytes = from.read()?;
        let copied = fs::write(&to, bytes).and_then(|()| File::open(&to)?.sync_all());
        copied.map_err(|e| failed(&to, &e))
    }

    /// The names of what lies in a folder of all that is no pings.
    pub fn names_below(&self, name: &str) -> Result<Vec<String>> {
        let folder = self.hidden(name);
        let name_of = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_url(&folder) {
            let listed = objects::list(&folder).map_err(|e| unreadable(&folder.display().to_string(), &e))?;
            return Ok(listed.iter().map(|listed| name_of(&listed.path)).collect());
        }
        Ok(fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| name_of(&entry.path()))
            .collect())
    }

    /// A folder of all that is no pings.
    pub fn hidden(&self, name: &str) -> PathBuf {
        self.folder.join(HIDDEN).join(name)
    }

    /// Waits until nobody reads, and lets nobody begin as long as the file is held. Who reads objects is not known.
    pub fn wait_for_readers(&self) -> Result<ReadersOut> {
        if is_url(&self.folder) {
            return Ok(ReadersOut(None));
        }
        let path = self.hidden("readers.lock");
        let readers = File::open(&path).map_err(|e| unreadable(&path.display().to_string(), &e))?;
        readers.lock().map_err(|e| failed(&path, &e))?;
        Ok(ReadersOut(Some(readers)))
    }

    /// Writes a small file of the store's own, and syncs it.
    pub fn write_small(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        if is_url(&path) {
            return objects::put(&path, text.into()).map_err(|e| failed(&path, &e));
        }
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
        if is_url(&self.folder) {
            return self.remove_unlisted_objects().map_err(|e| failed(&self.folder, &e));
        }
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

    fn remove_unlisted_objects(&self) -> std::io::Result<Vec<(String, u64)>> {
        for listed in objects::list(&self.hidden(CACHE))? {
            objects::remove(&listed.path)?;
        }
        let unlisted = self.unlisted_objects()?;
        for listed in &unlisted {
            objects::remove(&listed.path)?;
        }
        let left = self.unlisted_objects()?;
        if let Some(stays) = left.iter().find(|left| unlisted.iter().any(|gone| gone.path == left.path)) {
            return Err(std::io::Error::other(format!(
                "an object that does not go away: {}",
                stays.path.display()
            )));
        }
        Ok(unlisted.into_iter().map(|gone| (self.within(&gone.path), gone.bytes)).collect())
    }

    /// The path in the store.
    fn within(&self, path: &Path) -> String {
        path.strip_prefix(&self.folder).unwrap_or(path).to_string_lossy().into_owned()
    }

    /// An error for a file that could not be written.
    pub fn failed(&self, name: &str, error: &std::io::Error) -> Error {
        if is_url(&self.folder) {
            return cannot_make(&self.incoming(name), error);
        }
        failed(&self.folder.join(name), error)
    }

    /// Puts a catalogue in force, whose new files are all made and synced: with it or not at all.
    pub fn commit(&mut self, mut next: Catalogue) -> Result<()> {
        next.version = self.catalogue.version + 1;
        if let Ground::Objects { .. } = self.ground {
            return self.commit_objects(next);
        }
        let begun = self.folder.join(HIDDEN).join(BEGUN);
        if self.catalogue.version == 0 {
            File::create(&begun).and_then(|file| file.sync_all()).map_err(|e| failed(&begun, &e))?;
            sync_up(&self.folder.join(HIDDEN), &self.folder);
        }
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
        drop(fs::remove_file(&begun));
        self.catalogue = next;
        self.sweep();
        Ok(())
    }

    /// The same of objects: who reads is not known, so what is in force no more stays for a day.
    fn commit_objects(&mut self, mut next: Catalogue) -> Result<()> {
        let folder = self.folder.clone();
        let new: Vec<(PathBuf, PathBuf)> = files_of(&next)
            .map(|name| (self.incoming(name), folder.join(name)))
            .filter(|(made, _)| made.exists())
            .collect();
        let Ground::Objects { lease, catalogue, .. } = &mut self.ground else { return Ok(()) };
        let path = folder.join(HIDDEN).join(CATALOGUE);
        let not_written = |e: std::io::Error| failed(&path, &e);
        let mut sent: Vec<PathBuf> = new.iter().map(|(_, to)| to.clone()).collect();
        let begun = folder.join(HIDDEN).join(BEGUN);
        sent.extend(catalogue.is_none().then(|| begun.clone()));
        let on_its_way = sending().ok_or(Error::Interrupted)?;
        registered(|own| own.sent.clone_from(&sent));
        // What is not in force and never will be goes at once, as nobody else can tell.
        let undo = || {
            registered(|own| own.sent.clone_from(&sent));
            objects::remove_all(&sent);
            registered(|own| own.sent.clear());
        };
        if catalogue.is_none() {
            objects::put(&begun, Vec::new()).inspect_err(|_| undo()).map_err(|e| failed(&begun, &e))?;
        }
        // Who lost the lease meanwhile writes no more than what is on its way.
        let going = new.chunks(SENT_AT_ONCE).try_for_each(|some| {
            if is_stopped() || !lease.holds() { Ok(()) } else { objects::upload(some.to_vec()) }
        });
        drop(on_its_way);
        if let Err(e) = going {
            undo();
            return Err(if is_stopped() { Error::Interrupted } else { failed(&folder, &e) });
        }
        // What went out of force with the last change did so when that was written.
        let changed_at = match catalogue {
            Some(_) => match objects::look(&path) {
                Ok(listed) => Some(listed.written_at),
                Err(e) => {
                    undo();
                    return Err(not_written(e));
                }
            },
            None => None,
        };
        let stays: HashSet<String> = files_of(&next).map(str::to_string).collect();
        let mut retired = self.catalogue.retired.clone();
        retired.iter_mut().for_each(|retired| retired.since = retired.since.or(changed_at));
        retired
            .retain(|retired| retired.since.zip(changed_at).is_none_or(|(since, at)| at - since <= KEPT_MS));
        let known: HashSet<String> = retired.iter().map(|retired| retired.file.clone()).collect();
        let goes = files_of(&self.catalogue).filter(|file| !stays.contains(*file) && !known.contains(*file));
        retired.extend(goes.map(|file| {
            let (rows, sha256) = self.catalogue.facts_of(file);
            Retired { file: file.to_string(), since: None, rows, sha256 }
        }));
        retired.retain(|retired| !stays.contains(&retired.file));
        next.retired = retired;
        let text = serde_json::to_string_pretty(&next).map_err(|e| not_written(std::io::Error::other(e)))?;
        let holds = lease.renew().inspect_err(|_| undo()).map_err(not_written)?;
        let put = || objects::put_if(&path, (text + "\n").into_bytes(), catalogue.as_ref());
        let written = match holds {
            // If no answer comes it may be in force all the same, and what it names has to stay.
            true => match unless_stopped(put) {
                Some(written) => written.map_err(not_written)?,
                None => {
                    undo();
                    return Err(Error::Interrupted);
                }
            },
            false => None,
        };
        let Some(written) = written else {
            undo();
            return Err(Error::Output(Problem::new(
                format!("--store {}", folder.display()),
                format!("a store at version {}, as it was when this began", self.catalogue.version),
                "another program that changed it meanwhile",
                "run again: nothing of this change is in force",
            )));
        };
        *catalogue = Some(written);
        self.catalogue = next;
        // What cannot be removed now goes another time.
        drop(self.sweep_objects(&path));
        Ok(())
    }

    /// Removes objects that went out of force long ago, and those of writers that were killed long ago.
    fn sweep_objects(&self, catalogue: &Path) -> std::io::Result<()> {
        let now = objects::look(catalogue)?.written_at;
        let current = format!("v{:06}-", self.catalogue.version);
        objects::remove(&self.hidden(BEGUN))?;
        let cache = self.hidden(CACHE);
        for listed in objects::list(&cache)? {
            let kept = listed.path.strip_prefix(&cache).unwrap_or(&listed.path);
            if !kept.to_string_lossy().starts_with(&current) {
                objects::remove(&listed.path)?;
            }
        }
        for listed in self.unlisted_objects()? {
            let name = self.within(&listed.path);
            let since = match self.catalogue.retired.iter().find(|retired| retired.file == name) {
                Some(retired) => retired.since,
                None => Some(listed.written_at),
            };
            if since.is_some_and(|since| now - since > KEPT_MS) {
                objects::remove(&listed.path)?;
            }
        }
        Ok(())
    }

    fn unlisted_objects(&self) -> std::io::Result<Vec<objects::Listed>> {
        let kept: HashSet<&str> = files_of(&self.catalogue).collect();
        let mut listed = objects::list(&self.folder)?;
        listed.retain(|listed| {
            let name = self.within(&listed.path);
            of_ours(&name) && !kept.contains(name.as_str())
        });
        Ok(listed)
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
        let entries = walkdir::WalkDir::new(&self.folder).into_iter().flatten();
        let files = entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
        files.filter(|path| of_ours(&self.within(path)) && !kept.contains(path)).collect()
    }
}

/// Whether an ingest writes files of this name.
fn of_ours(within: &str) -> bool {
    let named = |start: &str| within.rsplit('/').next().is_some_and(|name| name.starts_with(start));
    (within.starts_with("source=") && named("feed") && within.ends_with(".parquet"))
        || (within.starts_with(&Writer::hidden_name("faulty/")) && named("v"))
        || (within.starts_with(&Writer::hidden_name("guide/")) && named("v"))
        || (within.starts_with(&Writer::hidden_name("places/")) && named("feed"))
}

fn foreign(folder: &Path) -> Error {
    Error::Output(Problem::new(
        format!("--store {}", folder.display()),
        "a prepared store, an empty folder, or nothing yet",
        "a folder with other things in it",
        "give another folder",
    ))
}

/// Nobody reads as long as this lives.
#[derive(Debug)]
pub struct ReadersOut(Option<File>);

impl Drop for ReadersOut {
    fn drop(&mut self) {
        drop(self.0.as_ref().map(File::unlock));
    }
}

/// What was not put in force goes at once.
impl Drop for Writer {
    fn drop(&mut self) {
        let Ground::Disk(writing) = &self.ground else { return };
        drop(fs::remove_dir_all(self.folder.join(HIDDEN).join(INCOMING)));
        // Said outright: a process that was just forked off holds what is only closed a moment longer.
        drop(writing.unlock());
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
        if is_url(path) {
            format!(
                "{}; what the store held is still in force",
                storage::cure(&path.display().to_string(), error)
            )
        } else {
            "check its permissions and the free space; what the store held is still in force".into()
        },
    ))
}
