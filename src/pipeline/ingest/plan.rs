//! What an ingest has to do: which files are new, known, or in the place of others.

use super::Ingestion;
use crate::config::Config;
use crate::error::{Error, Problem, Result};
use crate::io::files::{self, Input};
use crate::io::store::{Catalogue, Ingested};
use hashbrown::HashSet;
use rayon::prelude::*;

/// What the feeds' files are to the store.
pub struct Plan {
    /// By feed: files that are read.
    pub new: Vec<Vec<New>>,
    /// The catalogue with the names that files have now.
    pub next: Catalogue,
    /// Numbers of inputs whose rows go.
    pub gone: HashSet<u32>,
    /// What is known so far of what is done.
    pub ingestion: Ingestion,
}

/// What a file is known by: the digest of its bytes, and the folders that may be columns of it.
fn identity(input: &Input) -> Result<String> {
    let digest = files::digest(input, true)?;
    let folders =
        input.partitions.iter().map(|(key, value)| format!("/{key}={}", value.as_deref().unwrap_or("")));
    Ok(std::iter::once(digest).chain(folders).collect())
}

/// A file that is read.
pub struct New {
    /// The file.
    pub input: Input,
    /// Its [`identity`].
    pub digest: String,
    /// Other files of the same bytes.
    pub also: Vec<String>,
}

/// Sets the feeds' files against what the store has.
pub fn plan(config: &Config, catalogue: &Catalogue, replace: bool) -> Result<Plan> {
    let (next, ingestion) = (catalogue.clone(), Ingestion::default());
    let mut plan = Plan { new: Vec::new(), next, gone: HashSet::new(), ingestion };
    for (number, feed) in (0u16..).zip(&config.feeds) {
        let place = format!("{}.path", feed.label);
        let inputs = files::resolve(&config.base, &feed.path, &place)?;
        let digests: Vec<Result<String>> = inputs.par_iter().map(identity).collect();
        let mut new: Vec<New> = Vec::new();
        for (input, digest) in inputs.into_iter().zip(digests) {
            let (digest, name) = (digest?, input.name.clone());
            let is_this = |known: &Ingested| known.feed == number && known.sha256 == digest;
            // Of rows in the wrong feed; files without any are alike whichever feed brings them.
            let is_that =
                |known: &Ingested| known.feed != number && known.sha256 == digest && known.has_rows();
            let known = &catalogue.inputs;
            if known.iter().any(is_that) && !known.iter().any(is_this) {
                return Err(Error::Input(Problem::new(
                    format!("{name} ({})", feed.label),
                    "files of which another feed of the store has none",
                    "bytes that the store has in another feed",
                    "bring the feeds in the order that they had, or make another store",
                )));
            }
            if catalogue.inputs.iter().any(|known| is_this(known) && known.is_called(&name)) {
                plan.ingestion.known += 1;
                continue;
            }
            // Other bytes had this name before.
            if catalogue.inputs.iter().any(|known| known.feed == number && known.is_called(&name)) {
                if !replace {
                    return Err(Error::Input(Problem::new(
                        format!("{} ({})", input.name, feed.label),
                        "the file that the store has under this name, or one of another name",
                        "other bytes than were ingested",
                        "give --replace if it takes the place of the earlier one; else rename it",
                    )));
                }
                plan.gone.extend(plan.next.drop_name(number, &name));
                plan.ingestion.replaced += 1;
            }
            let gone = &plan.gone;
            let same = plan.next.inputs.iter_mut().find(|k| is_this(k) && !gone.contains(&k.number));
            if let Some(also) = match same {
                Some(known) => Some(&mut known.also),
                None => new.iter_mut().find(|other| other.digest == digest).map(|other| &mut other.also),
            } {
                also.push(name);
                plan.ingestion.known += 1;
            } else {
                new.push(New { input, digest, also: Vec::new() });
            }
        }
        plan.ingestion.files += new.len() as u64;
        plan.new.push(new);
    }
    Ok(plan)
}
