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

impl Staging {
    /// Makes the folder. An existing output stops it at once, unless `force` says to replace it.
    pub fn new(target: &Path, force: bool) -> Result<Self> {
        if target.symlink_metadata().is_ok() {
            let ours = target.join("manifest.json").is_file();
            let (expected, cure) = match (force, ours) {
                (true, true) => ("", ""),
                (true, false) => (
                    "an earlier output to replace",
                    "remove it yourself if nobody needs it, or give another --out",
                ),
                (false, false) => ("a folder that does not exist yet", "give another --out"),
                (false, true) => (
                    "a folder that does not exist yet",
                    "give another --out, or --force to replace an earlier output",
                ),
            };
            if !expected.is_empty() {
                let found =
                    if ours { "an earlier output" } else { "something that is no output of copresence" };
                return Err(Error::Output(Problem::new(
                    format!("--out {}", target.display()),
                    expected,
                    found,
                    cure,
                )));
            }
        }
        let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let made: Vec<PathBuf> = parent
            .ancestors()
            .take_while(|p| !p.as_os_str().is_empty() && !p.exists())
            .map(Path::to_path_buf)
            .collect();
        fs::create_dir_all(parent).map_err(|e| cannot_write(parent, &e))?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        sweep(parent, &format!(".{name}.partial-"));
        let folder = parent.join(format!(".{name}.partial-{}", std::process::id()));
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|e| cannot_write(&folder, &e))?;
        }
        fs::create_dir(&folder).map_err(|e| cannot_write(&folder, &e))?;
        UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).push((folder.clone(), made.clone()));
        Ok(Staging { target: target.to_path_buf(), folder, made, done: false })
    }

    /// Where a file goes for now.
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
        let sync = || -> std::io::Result<()> {
            for entry in fs::read_dir(&self.folder)? {
                File::open(entry?.path())?.sync_all()?;
            }
            File::open(&self.folder)?.sync_all()
        };
        sync().map_err(|e| cannot_write(&self.target, &e))?;
        let name = self.target.file_name().unwrap_or_default().to_string_lossy();
        let old = self.target.with_file_name(format!(".{name}.replaced-{}", std::process::id()));
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
            fs::remove_dir_all(&old).map_err(|e| cannot_write(&old, &e))?;
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

/// Removes what runs to the same output left behind that were killed: folders named after a process that
/// is no more (as far as the system tells).
fn sweep(parent: &Path, prefix: &str) {
    let processes = Path::new("/proc");
    if !processes.join("self").exists() {
        return;
    }
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(prefix).and_then(|id| id.parse::<u32>().ok());
        if process.is_some_and(|id| !processes.join(id.to_string()).exists()) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}
