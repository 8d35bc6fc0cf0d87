//! The output folder: written under another name beside it, synced, then renamed; whole or not at all. Behind a URL nothing is
//! renamed: there the manifest comes last, and what has none is no output.

use super::files::digest_of_text;
use super::storage::{self, is_url, objects, surroundings};
use super::{city, sweep, synth};
use crate::error::{Error, Problem, Result};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The folder that is being written, and the parents made for it, so that a signal can remove them.
static UNFINISHED: Mutex<Vec<(PathBuf, Vec<PathBuf>)>> = Mutex::new(Vec::new());

/// What an output folder holds: only one of the same kind is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The answer of a run.
    Answer,
    /// A made-up city.
    City,
    /// What a sweep found.
    Sweep,
}

impl Kind {
    /// What names the folder on the command line.
    fn argument(self) -> &'static str {
        match self {
            Kind::Answer | Kind::Sweep => "--out",
            Kind::City => "OUT",
        }
    }

    /// The file without which there is no output.
    fn last(self) -> &'static str {
        match self {
            Kind::Answer => "manifest.json",
            Kind::City => synth::JOB,
            Kind::Sweep => sweep::LAST,
        }
    }
}

/// A folder on its way to becoming the output.
#[derive(Debug)]
pub struct Staging {
    kind: Kind,
    target: PathBuf,
    folder: PathBuf,
    /// Parents that were made for it, the innermost first.
    made: Vec<PathBuf>,
    force: bool,
    _lock: File,
    done: bool,
}

/// A write that failed, with the cure for a full disk.
pub fn cannot_write(kind: Kind, path: &Path, error: &std::io::Error) -> Error {
    let full = matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge | ErrorKind::WriteZero
    );
    let (expected, cure) = if full {
        ("room for the result", "free some space, or give another {}; nothing was left behind")
    } else {
        ("a folder that can be written", "check its permissions, or give another {}")
    };
    let cure = match is_url(path) {
        true => storage::cure(&path.display().to_string(), error).to_string(),
        false => cure.replace("{}", kind.argument()),
    };
    Error::Output(Problem::new(path.display().to_string(), expected, error.to_string(), cure))
}

/// Puts a text in the place of a file, by one rename.
pub fn replace_text(path: &Path, text: &str) -> std::io::Result<()> {
    if is_url(path) {
        return objects::put(path, text.into());
    }
    let new = beside(path, ".new");
    fs::write(&new, text)?;
    fs::rename(&new, path)
}

/// Ends the name of the file that a run keeps locked, beside its folder, as long as it lives.
const LOCK: &str = ".lock";
/// Ends the name of an earlier output that is being replaced.
const REPLACED: &str = "-replaced";
/// How often a run tries to get its output in place when others do the same.
const COMMITS_MAX: usize = 20;

fn beside(folder: &Path, ending: &str) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!("{name}{ending}"))
}

/// Why a folder cannot become the output.
fn refuse_existing(kind: Kind, target: &Path, force: bool) -> Result<()> {
    if is_url(target) {
        let there = names_at(target).map_err(|e| cannot_write(kind, target, &e))?;
        // What an upload that was broken off left is no output yet.
        let is_rest =
            there.iter().all(|name| is_known(kind, name)) && !there.iter().any(|name| name == kind.last());
        return if is_rest { Ok(()) } else { refuse(kind, target, force) };
    }
    if target.symlink_metadata().is_err() {
        return Ok(());
    }
    refuse(kind, target, force)
}

/// The names of the objects below a URL, as seen from there.
fn names_at(target: &Path) -> std::io::Result<Vec<String>> {
    let listed = objects::list(target)?.into_iter();
    Ok(listed
        .map(|l| l.path.strip_prefix(target).unwrap_or(&l.path).to_string_lossy().into_owned())
        .collect())
}

fn refuse(kind: Kind, target: &Path, force: bool) -> Result<()> {
    let ours = is_output(kind, target);
    let (expected, cure) = match (force, ours) {
        (true, true) => return Ok(()),
        (true, false) if fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none()) => {
            return Ok(());
        }
        (true, false) => {
            ("an earlier output to replace", "remove it yourself if nobody needs it, or give another {}")
        }
        (false, false) => ("a folder that does not exist yet", "give another {}"),
        (false, true) => {
            ("a folder that does not exist yet", "give another {}, or --force to replace an earlier output")
        }
    };
    let found = match (ours, kind) {
        (true, _) => "an earlier output",
        (false, Kind::Answer) => "something that is no output of copresence, or more than that",
        (false, Kind::City) => "something that is no city of copresence synth, or more than that",
        (false, Kind::Sweep) => "something that is no result of copresence sweep, or more than that",
    };
    let cure = cure.replace("{}", kind.argument());
    let place = format!("{} {}", kind.argument(), target.display());
    Err(Error::Output(Problem::new(place, expected, found, cure)))
}

fn is_output(kind: Kind, folder: &Path) -> bool {
    match kind {
        Kind::Answer => is_written(folder, kind),
        Kind::City => is_city(folder),
        Kind::Sweep => is_written(folder, kind),
    }
}

/// Whether an output of a kind has a file of this name.
fn is_known(kind: Kind, name: &str) -> bool {
    match kind {
        Kind::Answer => name == kind.last() || super::OUTPUT_FILES.contains(&name),
        Kind::City => {
            let part = name.strip_prefix(synth::PINGS).and_then(|name| name.strip_prefix('/'));
            part.is_some_and(synth::is_part)
                || [synth::PINGS, synth::CASES, synth::JOB].contains(&name)
                || city::is_known(name)
        }
        Kind::Sweep => sweep::FILES.contains(&name),
    }
}

/// Whether a folder is what a run or a sweep wrote and nothing else: it has our manifest, and no file that these do not write.
fn is_written(folder: &Path, kind: Kind) -> bool {
    let manifest = storage::read_text(&folder.join(kind.last())).unwrap_or_default();
    let ours = serde_json::from_str::<serde_json::Value>(&manifest)
        .is_ok_and(|m| m["copresence"].is_string() && m["schema_version"].is_string());
    if is_url(folder) {
        return ours && names_at(folder).is_ok_and(|names| names.iter().all(|name| is_known(kind, name)));
    }
    ours && holds_only(folder, &|name| is_known(kind, name))
}

/// Whether a folder is a city and nothing else: its job file says so, and there is no file that is not written
/// with one.
fn is_city(folder: &Path) -> bool {
    let job = storage::read_text(&folder.join(synth::JOB)).unwrap_or_default();
    if is_url(folder) {
        let all_known =
            names_at(folder).is_ok_and(|names| names.iter().all(|name| is_known(Kind::City, name)));
        return job.starts_with(synth::MARK) && all_known;
    }
    let known = |entry: walkdir::DirEntry| {
        let name = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        is_known(Kind::City, &name.to_string_lossy())
    };
    let within = walkdir::WalkDir::new(folder).min_depth(1);
    job.starts_with(synth::MARK) && within.into_iter().all(|entry| entry.is_ok_and(known))
}

fn holds_only(folder: &Path, known: &dyn Fn(&str) -> bool) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| {
        entries.all(|entry| entry.is_ok_and(|e| known(&e.file_name().to_string_lossy())))
    })
}

impl Staging {
    /// Makes the folder. An existing output stops it at once, unless `force` says to replace it.
    pub fn new(kind: Kind, target: &Path, force: bool) -> Result<Self> {
        let (parent, prefix) = if is_url(target) {
            (surroundings().scratch.as_path(), scratch_prefix(target))
        } else {
            let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let name = target.file_name().unwrap_or_default().to_string_lossy();
            (parent, format!(".{name}.partial-"))
        };
        sweep(parent, if is_url(target) { SCRATCH } else { &prefix }, target);
        refuse_existing(kind, target, force)?;
        let made: Vec<PathBuf> = parent
            .ancestors()
            .take_while(|p| !p.as_os_str().is_empty() && !p.exists())
            .map(Path::to_path_buf)
            .collect();
        fs::create_dir_all(parent).map_err(|e| cannot_write(kind, parent, &e))?;
        let named = format!("{prefix}{}", std::process::id());
        let (folder, lock) = make_locked(parent, &named, is_url(target)).map_err(|e| {
            if is_url(target) { cannot_make(parent, &e) } else { cannot_write(kind, parent, &e) }
        })?;
        UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).push((folder.clone(), made.clone()));
        let staging =
            Staging { kind, target: target.to_path_buf(), folder, made, force, _lock: lock, done: false };
        Ok(staging)
    }

    /// Where a file goes until the folder is whole.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether its files are to be on the disk in the end.
    pub fn syncs(&self) -> bool {
        !is_url(&self.target)
    }

    /// Where a file will be.
    pub fn final_path(&self, name: &str) -> PathBuf {
        self.target.join(name)
    }

    /// An error for a file that could not be written.
    pub fn failed(&self, name: &str, error: &std::io::Error) -> Error {
        if is_url(&self.target) {
            return cannot_make(&self.folder.join(name), error);
        }
        cannot_write(self.kind, &self.final_path(name), error)
    }

    /// Syncs all files and makes the folder the output.
    pub fn commit(mut self) -> Result<()> {
        if is_url(&self.target) {
            return self.upload();
        }
        sync(&self.folder).map_err(|e| cannot_write(self.kind, &self.target, &e))?;
        let old = beside(&self.folder, REPLACED);
        let mut tries = 0;
        loop {
            // Another run may have put something there meanwhile.
            refuse_existing(self.kind, &self.target, self.force)?;
            let moved = match fs::rename(&self.target, &old) {
                Ok(()) => fs::rename(&self.folder, &self.target),
                Err(e) if e.kind() == ErrorKind::NotFound => fs::rename(&self.folder, &self.target),
                Err(e) => Err(e),
            };
            tries += 1;
            match moved {
                Ok(()) => break,
                Err(e) if contended(&e) && tries < COMMITS_MAX => drop(fs::remove_dir_all(&old)),
                Err(e) => {
                    // The earlier output goes back to where it was, if that place is still free.
                    drop(fs::rename(&old, &self.target));
                    return Err(cannot_write(self.kind, &self.target, &e));
                }
            }
        }
        self.done = true;
        forget(&self.folder);
        // The new output stands; what is left of the old one is no failure.
        drop(fs::remove_dir_all(&old));
        drop(fs::remove_file(beside(&self.folder, LOCK)));
        if let Some(parent) = self.target.parent().and_then(|p| File::open(p).ok()) {
            // Some file systems cannot sync a folder; the rename stands all the same.
            drop(parent.sync_all());
        }
        Ok(())
    }
}

impl Staging {
    /// Puts all files behind the URL, the last one last; takes away what is there if one of them fails.
    fn upload(self) -> Result<()> {
        let failed = |e: std::io::Error| cannot_write(self.kind, &self.target, &e);
        refuse_existing(self.kind, &self.target, self.force)?;
        let mut there = names_at(&self.target).map_err(failed)?;
        there.sort_by_key(|name| name != self.kind.last());
        for name in &there {
            objects::remove(&self.target.join(name)).map_err(failed)?;
        }
        let is_file = |entry: &walkdir::DirEntry| entry.file_type().is_file();
        let made = walkdir::WalkDir::new(&self.folder).into_iter().flatten().filter(is_file);
        let named = made.map(|file| {
            let to = self.target.join(file.path().strip_prefix(&self.folder).unwrap_or(file.path()));
            (file.into_path(), to)
        });
        let (last, others): (Vec<_>, Vec<_>) = named.partition(|(_, to)| to.ends_with(self.kind.last()));
        let sent = objects::upload(others.clone()).and_then(|()| objects::upload(last));
        if let Err(e) = sent {
            for (_, to) in others {
                drop(objects::remove(&to));
            }
            return Err(failed(e));
        }
        Ok(())
    }
}

/// How the names of folders begin in which things for URLs are made, whatever the URL.
const SCRATCH: &str = ".copresence-";

fn scratch_prefix(target: &Path) -> String {
    format!("{SCRATCH}{}-", &digest_of_text(&target.to_string_lossy())[..16])
}

/// An error for something on its way to a URL that has no room on the disk.
pub fn cannot_make(path: &Path, error: &std::io::Error) -> Error {
    Error::Output(Problem::new(
        path.display().to_string(),
        "a folder for what is on its way to a URL",
        error.to_string(),
        "free some space there, or set TMPDIR to a folder that has more and can be written",
    ))
}

/// A folder on a disk for what is on its way to a URL; it goes when this does.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes one, and removes those of programs that were killed on their way to a URL.
    pub fn new(target: &Path) -> std::io::Result<Self> {
        let (parent, prefix) = (surroundings().scratch.as_path(), scratch_prefix(target));
        sweep(parent, SCRATCH, target);
        let (folder, lock) = make_locked(parent, &format!("{prefix}{}", std::process::id()), true)?;
        Ok(Scratch { folder, _lock: lock })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.folder, &[]);
    }
}

/// How many files are synced at once: the disk writes its journal for all of them together.
const SYNCS: usize = 8;

/// Syncs a folder and all below it.
fn sync(folder: &Path) -> std::io::Result<()> {
    let mut paths = Vec::new();
    for entry in walkdir::WalkDir::new(folder) {
        paths.push(entry?.into_path());
    }
    let sync_all = |paths: &[PathBuf]| paths.iter().try_for_each(|path| File::open(path)?.sync_all());
    std::thread::scope(|scope| {
        let shares = paths.chunks(paths.len().div_ceil(SYNCS).max(1));
        let started: Vec<_> = shares.map(|own| scope.spawn(move || sync_all(own))).collect();
        started
            .into_iter()
            .try_for_each(|own| own.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn forget(folder: &Path) {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).retain(|(f, _)| f != folder);
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.done {
            remove(&self.folder, &self.made);
            forget(&self.folder);
        }
    }
}

/// Removes what is unfinished: for a process that is about to end at once.
pub fn abandon() {
    let folders = std::mem::take(&mut *UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner));
    for (folder, made) in folders {
        remove(&folder, &made);
    }
}

/// Removes a folder, and the parents made for it if nobody else has used them since. Nothing more can be
/// done about what cannot be removed.
fn remove(folder: &Path, made: &[PathBuf]) {
    drop(fs::remove_dir_all(folder));
    drop(fs::remove_file(beside(folder, LOCK)));
    for parent in made {
        drop(fs::remove_dir(parent));
    }
}

/// Whether a rename failed because another run was there first.
fn contended(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists | ErrorKind::NotFound)
}

/// Makes a folder of a name that nobody has yet, which nobody else may look into if it is `private`, and locks the file beside
/// it.
fn make_locked(parent: &Path, name: &str, private: bool) -> std::io::Result<(PathBuf, File)> {
    let mut builder = fs::DirBuilder::new();
    if private {
        builder.mode(0o700);
    }
    for number in 0..u32::MAX {
        let folder = parent.join(format!("{name}-{number}"));
        let lock_path = beside(&folder, LOCK);
        let lock = match File::create_new(&lock_path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
            Err(e) => return Err(e),
            Ok(lock) => lock,
        };
        // Where locks do not exist, a killed run's folder may be swept away early by a run to the same
        // output; nothing else depends on them.
        drop(lock.try_lock());
        match builder.create(&folder) {
            Ok(()) => return Ok((folder, lock)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => drop(fs::remove_file(&lock_path)),
            Err(e) => {
                drop(fs::remove_file(&lock_path));
                return Err(e);
            }
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// Removes what runs to the same output left behind that were killed: folders whose lock nobody holds. An
/// earlier output that was on its way out goes back if nothing has taken its place.
fn sweep(parent: &Path, prefix: &str, target: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(prefix) || !entry.path().is_dir() {
            continue;
        }
        let lock_path = parent.join(format!("{}{LOCK}", name.strip_suffix(REPLACED).unwrap_or(&name)));
        let dead = match File::open(&lock_path) {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(e) => e.kind() == ErrorKind::NotFound,
        };
        if dead {
            if !(name.ends_with(REPLACED) && !target.exists() && fs::rename(entry.path(), target).is_ok()) {
                drop(fs::remove_dir_all(entry.path()));
            }
            drop(fs::remove_file(&lock_path));
        }
    }
}
