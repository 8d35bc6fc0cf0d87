//! `store`: what is in a prepared store, and whether it is whole.

use super::thousands;
use crate::error::Result;
use crate::io::purge;
use crate::io::store::{self, Store as Opened};
use chrono::NaiveDate;
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Look into a prepared store.
#[derive(Debug, Args)]
pub struct Store {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the days of each source, and the files that were ingested.
    List {
        /// The folder of the store, or its URL.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Put what is small and scattered together, and remove files that are not in force. Days are always whole: an ingest
    /// makes each anew.
    Compact {
        /// The folder of the store, or its URL.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Take the days before a date out of the store; their files go when nobody reads. `purge` also proves it.
    Drop {
        /// The folder of the store, or its URL.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// The first day that is kept, as 2022-03-08.
        #[arg(long, value_name = "DATE")]
        before: NaiveDate,
    },
    /// Read the whole store: digests, the order of rows, and next pings. Exit code 1 if anything is wrong.
    Check {
        /// The folder of the store, or its URL.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

impl Store {
    /// Does what is asked.
    pub fn run(&self) -> Result<u8> {
        match &self.command {
            Command::List { folder } => list(&Opened::open(folder)?),
            Command::Check { folder } => check(&Opened::open(folder)?),
            Command::Compact { folder } => {
                let version = purge::compact(&mut store::change(folder)?)?;
                out!("{}: version {version}, compact", folder.display());
                Ok(())
            }
            Command::Drop { folder, before } => {
                let version = purge::drop_days(&mut store::change(folder)?, *before)?;
                out!("{}: version {version} keeps days from {before} on", folder.display());
                Ok(())
            }
        }
        .map(|()| 0)
    }
}

/// Remove the days before a date from a prepared store for good, and prove it.
///
/// It waits until nobody reads, removes the files of these days and every file that is not in force, looks whether they are gone and
/// whether all that is left is younger, and leaves a list of what was removed, with digests and without persons, below the store's
/// hidden folder. Nothing of these days is ingested again.
#[derive(Debug, Args)]
pub struct Purge {
    /// The folder of the store, or its URL.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The first day that is kept, as 2022-03-08, in the store's time zone.
    #[arg(long, value_name = "DATE")]
    before: NaiveDate,
}

impl Purge {
    /// Purges, and says what is gone.
    pub fn run(&self) -> Result<u8> {
        let folder = self.folder.display();
        let now = super::run::chrono_now();
        let done = purge::purge(&mut store::change(&self.folder)?, self.before, now)?;
        out!("{folder}: version {} keeps days from {} on", done.version, self.before);
        let rows = thousands(done.rows);
        out!("  removed    {} files, {rows} rows, {} bytes", thousands(done.files), thousands(done.bytes));
        let days: Vec<String> = done.days.iter().map(|(source, day)| format!("{source} {day}")).collect();
        out!(
            "  days       {}",
            if days.is_empty() { "none".into() } else { super::ingest::shortened(&days) }
        );
        match done.proof {
            Some(proof) => out!("  proof      {folder}/{proof}"),
            None => out!("  proof      nothing was there to remove"),
        }
        Ok(0)
    }
}

fn list(store: &Opened) -> Result<()> {
    let catalogue = &store.catalogue;
    out!("{}: version {}, days in {}", store.folder.display(), catalogue.version, catalogue.time_zone);
    let mut days: BTreeMap<(&str, &str), (u64, u64, u64)> = BTreeMap::new();
    for segment in &catalogue.segments {
        let sums = days.entry((&segment.source, &segment.day)).or_default();
        *sums = (sums.0 + segment.rows, sums.1 + segment.bytes, sums.2 + 1);
    }
    for ((source, day), (rows, bytes, files)) in days {
        out!("  {source} {day}: {} rows, {} bytes, {files} files", thousands(rows), thousands(bytes));
    }
    out!("ingested: {} files", thousands(catalogue.inputs.len() as u64));
    for input in &catalogue.inputs {
        let rows = thousands(input.days.values().flatten().sum());
        let faulty = thousands(input.faulty);
        out!("  version {}: {}, {rows} rows, {faulty} not usable", input.version, input.name);
    }
    Ok(())
}

fn check(store: &Opened) -> Result<()> {
    let rows = store::check(store)?;
    out!(
        "{}: version {}: {} files whole, {} rows in order, each with its person's next ping",
        store.folder.display(),
        store.catalogue.version,
        thousands(store.catalogue.segments.len() as u64),
        thousands(rows)
    );
    Ok(())
}
