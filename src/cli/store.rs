//! `store`: what is in a prepared store, and whether it is whole.

use super::thousands;
use crate::error::Result;
use crate::io::store::{self, Store as Opened};
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
        /// The folder of the store.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Read the whole store: digests, the order of rows, and next pings. Exit code 1 if anything is wrong.
    Check {
        /// The folder of the store.
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
        }
        .map(|()| 0)
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
