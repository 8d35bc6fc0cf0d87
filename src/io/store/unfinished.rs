//! What this process has written for a change of a store of objects, as long as that is not in force: what a process takes away
//! that is about to end at once.

use crate::io::storage::objects;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a process that is to end waits for a server: for what is on its way, and for what is taken away.
const PATIENCE: Duration = Duration::from_secs(6);
/// How often it looks.
const LOOKS: Duration = Duration::from_millis(10);

/// What it is about.
#[derive(Debug)]
pub struct Own {
    /// The lease that it holds.
    pub lease: Option<PathBuf>,
    /// Objects that no catalogue names yet.
    pub sent: Vec<PathBuf>,
    /// How many threads have something of it on its way.
    sending: usize,
    is_stopped: bool,
    is_over: bool,
    is_in_force: bool,
}

static OWN: Mutex<Own> = Mutex::new(Own {
    lease: None,
    sent: Vec::new(),
    sending: 0,
    is_stopped: false,
    is_over: false,
    is_in_force: false,
});

fn own() -> MutexGuard<'static, Own> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes what was written, or is no concern any more.
pub fn registered<T>(change: impl FnOnce(&mut Own) -> T) -> T {
    change(&mut own())
}

/// Whether the process is about to end.
pub fn is_stopped() -> bool {
    own().is_stopped
}

/// Something is on its way to the store as long as this lives; what is taken away waits for it, as it would come after.
#[derive(Debug)]
pub struct Sending(());

/// Begins to send, unless the process is about to end.
pub fn sending() -> Option<Sending> {
    let mut own = own();
    (!own.is_stopped).then(|| {
        own.sending += 1;
        Sending(())
    })
}

impl Drop for Sending {
    fn drop(&mut self) {
        own().sending -= 1;
    }
}

/// Does what puts objects in force, unless the process is about to end; none of them is taken away then.
pub fn unless_stopped<T>(does: impl FnOnce() -> T) -> Option<T> {
    let _on_its_way = sending()?;
    registered(|own| {
        own.sent.clear();
        own.is_in_force = true;
    });
    Some(does())
}

/// Waits, for a while, until a process that is about to end has taken away what is not in force.
pub fn abandoned() {
    wait_while(|own| own.is_stopped && !own.is_over);
}

fn wait_while(is_so: impl Fn(&Own) -> bool) {
    let mut waited = Duration::ZERO;
    while is_so(&own()) && waited < PATIENCE {
        std::thread::sleep(LOOKS);
        waited += LOOKS;
    }
}

/// Takes away what is not in force: for a process that is about to end at once. Says whether something of it may be in force.
pub fn abandon() -> bool {
    own().is_stopped = true;
    objects::stop_sending();
    // What is on its way would come after it was taken away.
    wait_while(|own| own.sending > 0);
    let left = |own: &mut Own| -> Vec<PathBuf> { own.sent.drain(..).chain(own.lease.take()).collect() };
    let left = registered(left);
    if !left.is_empty() {
        take_away(left);
    }
    registered(|own| {
        own.is_over = true;
        own.is_in_force
    })
}

fn take_away(left: Vec<PathBuf>) {
    let (done, waits) = channel();
    std::thread::spawn(move || {
        objects::remove_all(&left);
        // Nobody waits for it any more where it took too long.
        done.send(()).ok();
    });
    // A server that does not answer keeps nobody.
    waits.recv_timeout(PATIENCE).ok();
}
