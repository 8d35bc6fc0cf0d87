//! The output folder: written under another name beside it, synced, then renamed; whole or not at all.

use crate::error::{Error, Problem, Result};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The folder that is being written, and the parents made for it, so that a signal can remove them.
static UNFINISHED: Mutex<Vec<(PathBuf, Vec<PathBuf>)>> = Mutex::new(Vec::new());

/// A folder on its way to becoming the output.
#[derive(Debug)]
pub struct Staging {
    target: PathBuf,
    folder: PathBuf,
    /// Parents that were made for it, the innermost first.
    made: Vec<PathBuf>,
    force: bool,
    lock: Option<File>,
    done: bool,
}

/// A write that failed, with the cure for a full disk.
pub fn cannot_write(path: &Path, error: &std::io::Error) -> Error {
    let full = matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge | ErrorKind::WriteZero
    );
    let (expected, cure) = if full {
        ("room for the result", "free some space, or give another --out; nothing was left behind")
    } else {
        ("a folder that can be written", "check its permissions, or give another --out")
    };
    Error::Output(Problem::new(path.display().to_string(), expected, error.to_string(), cure))
}

/// The lock that a run holds on its folder as long as it lives.
const LOCK: &str = ".lock";

/// Why a folder cannot become the output.
fn refuse_existing(target: &Path, force: bool) -> Result<()> {
    if target.symlink_metadata().is_err() {
        return Ok(());
    }
    let ours = is_output(target);
    let (expected, cure) = match (force, ours) {
        (true, true) => return Ok(()),
        (true, false) if fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none()) => {
            return Ok(());
        }
        (true, false) => {
            ("an earlier output to replace", "remove it yourself if nobody needs it, or give another --out")
        }
        (false, false) => ("a folder that does not exist yet", "give another --out"),
        (false, true) => (
            "a folder that does not exist yet",
            "give another --out, or --force to replace an earlier output",
        ),
    };
    let found = if ours {
        "an earlier output"
    } else {
        "something that is no output of copresence, or more than that"
    };
    Err(Error::Output(Problem::new(format!("--out {}", target.display()), expected, found, cure)))
}

/// Whether a folder is an output and nothing else: it has our manifest, and no file that a run does not write.
fn is_output(folder: &Path) -> bool {
    let manifest = fs::read_to_string(folder.join("manifest.json")).unwrap_or_default();
    let ours = serde_json::from_str::<serde_json::Value>(&manifest)
        .is_ok_and(|m| m["copresence"].is_string() && m["schema_version"].is_string());
    let known = |name: &str| name == "manifest.json" || super::OUTPUT_FILES.contains(&name);
    ours && fs::read_dir(folder).is_ok_and(|mut entries| {
        entries.all(|entry| entry.is_ok_and(|e| known(&e.file_name().to_string_lossy())))
    })
}

impl Staging {
    /// Makes the folder. An existing output stops it at once, unless `force` says to replace it.
    pub fn new(target: &Path, force: bool) -> Result<Self> {
        refuse_existing(target, force)?;
        let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let made: Vec<PathBuf> = parent
            .ancestors()
            .take_while(|p| !p.as_os_str().is_empty() && !p.exists())
            .map(Path::to_path_buf)
            .collect();
        fs::create_dir_all(parent).map_err(|e| cannot_write(parent, &e))?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{name}.partial-");
        sweep(parent, &prefix);
        let folder = make_folder(parent, &format!("{prefix}{}", std::process::id()))?;
        UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).push((folder.clone(), made.clone()));
        let mut staging =
            Staging { target: target.to_path_buf(), folder, made, force, lock: None, done: false };
        let lock = File::create(staging.path(LOCK)).map_err(|e| staging.failed(LOCK, &e))?;
        // Where locks do not exist, a killed run's folder is not swept away; nothing else depends on it.
        drop(lock.try_lock());
        staging.lock = Some(lock);
        Ok(staging)
    }

    /// Where a file goes until the folder is whole.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where a file will be.
    pub fn final_path(&self, name: &str) -> PathBuf {
        self.target.join(name)
    }

    /// An error for a file that could not be written.
    pub fn failed(&self, name: &str, error: &std::io::Error) -> Error {
        cannot_write(&self.final_path(name), error)
    }

    /// Syncs all files and makes the folder the output.
    pub fn commit(mut self) -> Result<()> {
        if let Some(lock) = self.lock.take() {
            fs::remove_file(self.path(LOCK)).map_err(|e| self.failed(LOCK, &e))?;
            drop(lock);
        }
        let sync = || -> std::io::Result<()> {
            for entry in fs::read_dir(&self.folder)? {
                File::open(entry?.path())?.sync_all()?;
            }
            File::open(&self.folder)?.sync_all()
        };
        sync().map_err(|e| cannot_write(&self.target, &e))?;
        // Another run may have put something there meanwhile.
        refuse_existing(&self.target, self.force)?;
        let old = self.folder.with_extension("replaced");
        let replaces = self.target.exists();
        if replaces {
            fs::rename(&self.target, &old).map_err(|e| cannot_write(&self.target, &e))?;
        }
        if let Err(e) = fs::rename(&self.folder, &self.target) {
            if replaces {
                // The earlier output goes back to where it was.
                fs::rename(&old, &self.target).map_err(|e| cannot_write(&old, &e))?;
            }
            return Err(cannot_write(&self.target, &e));
        }
        self.done = true;
        forget(&self.folder);
        if replaces {
            // The new output stands; what is left of the old one is no failure.
            drop(fs::remove_dir_all(&old));
        }
        if let Some(parent) = self.target.parent().and_then(|p| File::open(p).ok()) {
            // Some file systems cannot sync a folder; the rename stands all the same.
            drop(parent.sync_all());
        }
        Ok(())
    }
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
    for parent in made {
        drop(fs::remove_dir(parent));
    }
}

/// Makes a folder of a name that nobody has yet.
fn make_folder(parent: &Path, name: &str) -> Result<PathBuf> {
    for number in 0..u32::MAX {
        let folder = parent.join(format!("{name}-{number}"));
        match fs::create_dir(&folder) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(cannot_write(&folder, &e)),
            Ok(()) => return Ok(folder),
        }
    }
    Err(cannot_write(parent, &std::io::Error::from(ErrorKind::AlreadyExists)))
}

/// Removes what runs to the same output left behind that were killed: folders whose lock nobody holds.
fn sweep(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let lock = File::open(entry.path().join(LOCK));
            if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
                drop(fs::remove_dir_all(entry.path()));
            }
        }
    }
}
