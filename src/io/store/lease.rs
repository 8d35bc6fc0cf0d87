//! Who may change a store of objects: one who holds an object and renews it. No lock is safe on a network; this one only keeps
//! two writers from working for nothing. What decides is that a catalogue is replaced only where it is still the one that its
//! writer began with.

use super::unfinished::{abandoned, registered, sending};
use crate::io::machine;
use crate::io::storage::objects::{self, Version};
use std::io::Result;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a lease is renewed, and after how long without that it is nobody's.
const RENEWED_S: u64 = 20;
pub(super) const DEAD_S: u64 = 120;

/// The object that says who changes a store.
#[derive(Debug)]
pub struct Lease {
    state: Arc<Mutex<State>>,
    stop: Option<Sender<()>>,
    renews: Option<JoinHandle<()>>,
    /// When it was taken, ms UTC by the store's clock.
    taken_at: i64,
}

#[derive(Debug)]
struct State {
    path: PathBuf,
    renewals: u64,
    version: Option<Version>,
}

/// Who holds a lease.
#[derive(Debug)]
pub struct Holder {
    /// As it calls itself.
    pub name: String,
    /// How long it has not been heard of, seconds.
    pub silent_s: u64,
}

fn text_of(renewals: u64) -> Vec<u8> {
    let (machine, process) = (machine::name(), std::process::id());
    let (space, began) = (machine::space(), machine::began(process));
    let own = serde_json::json!({
        "machine": machine, "space": space, "process": process, "began": began, "renewals": renewals
    });
    own.to_string().into_bytes()
}

/// Whether the holder was a process of this machine that is no more.
fn is_gone(held: &serde_json::Value) -> bool {
    let process = held["process"].as_u64().and_then(|process| u32::try_from(process).ok());
    let is_here = machine::space().is_some_and(|space| held["space"] == space);
    let began = held["began"].as_u64();
    is_here && began.is_some() && process.is_some_and(|process| machine::began(process) != began)
}

impl Lease {
    /// Takes the lease that is at a URL, unless somebody has it.
    pub fn take(path: &Path) -> Result<std::result::Result<Self, Holder>> {
        let stopped = || std::io::Error::other("stopped on request");
        let _on_its_way = sending().ok_or_else(stopped)?;
        let mut version = objects::put_if(path, text_of(0), None)?;
        if version.is_none() {
            let (held, theirs) = objects::get(path)?;
            let held: serde_json::Value = serde_json::from_slice(&held).unwrap_or_default();
            let since = objects::look(path)?.written_at;
            let silent_s = u64::try_from((now_by(path)? - since) / 1000).unwrap_or(0);
            if silent_s >= DEAD_S || is_gone(&held) {
                version = objects::put_if(path, text_of(0), Some(&theirs))?;
            }
            if version.is_none() {
                let machine = held["machine"].as_str().unwrap_or("unknown");
                let name = format!("process {} on {machine}", held["process"]);
                return Ok(Err(Holder { name, silent_s }));
            }
        }
        registered(|own| own.lease = Some(path.to_path_buf()));
        let prove = || {
            let taken_at = objects::look(path)?.written_at;
            Ok((taken_at, version.map(|version| proven(path, version)).transpose()?))
        };
        let (taken_at, version) = prove().inspect_err(|_: &std::io::Error| {
            drop(objects::remove(path));
            registered(|own| own.lease = None);
        })?;
        let state = Arc::new(Mutex::new(State { path: path.to_path_buf(), renewals: 0, version }));
        let (stop, stopped) = channel();
        let renewed = state.clone();
        let renews = std::thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_secs(RENEWED_S)) == Err(RecvTimeoutError::Timeout) {
                // What fails now may go through next time; who needs to know asks [`Lease::renew`].
                drop(renew(&mut locked(&renewed)));
            }
        });
        Ok(Ok(Lease { state, stop: Some(stop), renews: Some(renews), taken_at }))
    }

    /// Renews it; `false` if somebody else has it now.
    pub fn renew(&self) -> Result<bool> {
        renew(&mut locked(&self.state))
    }

    /// Whether it was still its own when that was last looked at.
    pub fn holds(&self) -> bool {
        locked(&self.state).version.is_some()
    }

    /// What names things so that no other writer does.
    pub fn label(&self) -> String {
        let (space, process) = (machine::space(), std::process::id());
        let whose = format!("{} {space:?} {process} {}", machine::name(), self.taken_at);
        crate::io::files::digest_of_text(&whose)[..8].to_string()
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn renew(state: &mut State) -> Result<bool> {
    // A renewal that comes after the lease was taken away would make it anew, on a server whose conditions are not safe.
    let Some(_on_its_way) = sending() else { return Ok(state.version.is_some()) };
    if let Some(version) = &state.version {
        state.renewals += 1;
        state.version = objects::put_if(&state.path, text_of(state.renewals), Some(version))?;
    }
    Ok(state.version.is_some())
}

/// Looks whether the server writes only where a condition allows it, as without that two writers could undo each other's work.
/// Gives the version that stands then.
fn proven(path: &Path, version: Version) -> Result<Version> {
    let heeds_none = objects::put_if(path, text_of(1), None)?.is_none();
    let next = objects::put_if(path, text_of(2), Some(&version))?;
    let heeds_other = next.is_some() && objects::put_if(path, text_of(3), Some(&version))?.is_none();
    match next {
        Some(next) if heeds_none && heeds_other => Ok(next),
        _ => {
            let why = "a server that writes whatever If-Match and If-None-Match say";
            Err(std::io::Error::new(std::io::ErrorKind::Unsupported, why))
        }
    }
}

/// The time by the clock of the store that has an object, ms UTC.
fn now_by(path: &Path) -> Result<i64> {
    let probe = path.with_file_name(format!("clock-{}-{}", machine::name(), std::process::id()));
    objects::put(&probe, Vec::new())?;
    let now = objects::look(&probe)?.written_at;
    objects::remove(&probe)?;
    Ok(now)
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.stop.take());
        drop(self.renews.take().map(JoinHandle::join));
        let state = locked(&self.state);
        // A process that ends at once has taken it away itself, and somebody else may have it.
        if registered(|own| own.lease.take().is_none()) {
            abandoned();
        } else if state.version.is_some() {
            drop(objects::remove(&state.path));
        }
    }
}
