//! A file that goes to the disk while more of it is made, so that little is left to wait for in the end.

use std::fs::File;
use std::io::{Result, Write};
use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle};

/// So many bytes go to the disk together.
const STEP: usize = 8 << 20;

/// A file that is synced by and by, on a thread of its own, if it is long enough.
#[derive(Debug)]
pub struct Syncing {
    file: File,
    /// Bytes since that was last asked for.
    since: usize,
    thread: Option<(Sender<()>, JoinHandle<Result<()>>)>,
    /// Whether that is wanted, and possible.
    syncs: bool,
}

impl Syncing {
    /// Nothing written yet; with `syncs` it is to be on the disk in the end.
    pub fn new(file: File, syncs: bool) -> Self {
        Syncing { file, since: 0, thread: None, syncs }
    }

    /// Begins to sync what is written. Whoever made the file syncs it in the end, so that it does not matter if that fails.
    fn ask(&mut self) {
        if self.thread.is_none() {
            self.thread = self.begin().ok();
            self.syncs = self.thread.is_some();
        }
        // It has ended where the disk is at fault, as the end tells.
        self.thread.iter().for_each(|(ask, _)| ask.send(()).unwrap_or_default());
    }

    fn begin(&self) -> Result<(Sender<()>, JoinHandle<Result<()>>)> {
        let (ask, asked) = channel();
        let file = self.file.try_clone()?;
        // A fault of the disk is told once only, so that it has to be kept.
        let syncs = move || {
            while asked.recv().is_ok() {
                // What was asked for meanwhile is done with it.
                asked.try_iter().for_each(drop);
                file.sync_data()?;
            }
            Ok(())
        };
        Ok((ask, Builder::new().spawn(syncs)?))
    }

    fn end(&mut self) -> Result<()> {
        let Some((ask, syncs)) = self.thread.take() else { return Ok(()) };
        drop(ask);
        syncs.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Waits until all that was asked for is on the disk.
    pub fn finish(mut self) -> Result<()> {
        self.end()
    }
}

impl Drop for Syncing {
    /// Nothing holds the file any more.
    fn drop(&mut self) {
        drop(self.end());
    }
}

impl Write for Syncing {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let written = self.file.write(bytes)?;
        self.since += written;
        if self.syncs && self.since >= STEP {
            self.since = 0;
            self.ask();
        }
        Ok(written)
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_there() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("long");
        let mut file = Syncing::new(File::create(&path).expect("a file"), true);
        let piece: Vec<u8> = (0..=255).cycle().take((1 << 20) + 3).collect();
        (0..20).for_each(|_| file.write_all(&piece).expect("room"));
        file.finish().expect("a disk");
        assert!(std::fs::read(&path).expect("the file") == piece.repeat(20));
    }
}
