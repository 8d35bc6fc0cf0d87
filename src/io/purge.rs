//! Days that a store keeps no longer: taken out of force, removed from the disk, and a proof of it left behind.

use super::files::{self, open_parquet, unreadable};
use super::storage;
use super::store::{self, Catalogue, Writer};
use super::stored;
use crate::error::{Error, Problem, Result};
use crate::time::{Edge, Millis, date_edge, utc_text};
use chrono::NaiveDate;
use parquet::file::statistics::Statistics;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What a purge did.
#[derive(Debug, Clone, Default)]
pub struct Purged {
    /// Files that are gone.
    pub files: u64,
    /// Rows of pings that were in them.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Days of a source.
    pub days: BTreeSet<(String, String)>,
    /// Rows that could not be used, and are not told of any more.
    pub faulty: u64,
    /// The version of the store now.
    pub version: u64,
    /// The proof, in the store; none if there was nothing to remove.
    pub proof: Option<String>,
}

/// The first instant that is kept.
fn edge_of(before: NaiveDate, catalogue: &Catalogue) -> Result<Millis> {
    date_edge(before, Edge::Start, catalogue.zone()).ok_or_else(|| {
        Error::Job(Problem::new(
            "--before",
            "a day that begins in the store's time zone",
            before.to_string(),
            "give another day",
        ))
    })
}

/// A catalogue without the days before a date, and how many rows that could not be used go with them; a file of those that
/// stay is made.
fn without(writer: &Writer, before: NaiveDate) -> Result<(Catalogue, u64)> {
    let edge = edge_of(before, &writer.catalogue)?;
    let day = before.to_string();
    // What no calendar knows stays.
    let stays = |other: &str| other.parse::<NaiveDate>().map_or(true, |other| other >= before);
    let mut next = writer.catalogue.clone();
    let had_days: Vec<u32> = next.inputs.iter().filter(|i| !i.days.is_empty()).map(|i| i.number).collect();
    next.segments.retain(|segment| stays(&segment.day));
    next.guides.retain(|guide| stays(&guide.day));
    next.inputs.iter_mut().for_each(|input| input.days.retain(|day, _| stays(day)));
    next.kept_from = next.kept_from.max(Some(day.clone()));
    let (mut kept, mut gone) = (Vec::new(), 0);
    for file in &writer.catalogue.faulty {
        for row in stored::read_faulty(&writer.input(file)?)? {
            // Who has no time is as old as the rest of its file.
            let is_old = || {
                let input = next.inputs.iter().find(|input| input.number == row.0);
                had_days.contains(&row.0) && input.is_none_or(|input| input.days.is_empty())
            };
            if row.1.time.map_or_else(is_old, |time| time < edge) {
                gone += 1;
            } else {
                kept.push(row);
            }
        }
    }
    if gone > 0 || next.faulty.len() > 1 {
        next.faulty.clear();
        if !kept.is_empty() {
            let name = Writer::hidden_name(&format!("faulty/{}.parquet", writer.next_version()));
            stored::write_faulty(&writer.incoming(&name), &kept)
                .map_err(|e| writer.failed(&name, &std::io::Error::other(e.to_string())))?;
            next.faulty.push(name);
        }
    }
    Ok((next, gone))
}

/// Takes the days before a date out of force. Their files go when nobody reads; nothing of these days is ingested again.
pub fn drop_days(writer: &mut Writer, before: NaiveDate) -> Result<u64> {
    let (next, _) = without(writer, before)?;
    if next != writer.catalogue {
        writer.commit(next)?;
    }
    Ok(writer.catalogue.version)
}

/// Puts rows that could not be used into one file, and removes what is not in force.
pub fn compact(writer: &mut Writer) -> Result<u64> {
    if writer.catalogue.faulty.len() > 1 {
        let earliest = writer.catalogue.kept_from.as_ref().and_then(|day| day.parse().ok());
        let (next, _) = without(writer, earliest.unwrap_or(NaiveDate::MIN))?;
        let kept_from = writer.catalogue.kept_from.clone();
        writer.commit(Catalogue { kept_from, ..next })?;
    }
    Ok(writer.catalogue.version)
}

/// Removes the days before a date for good, and every file that is not in force, and proves it: waits until nobody reads,
/// looks whether the files are gone and whether all that is left is younger, and leaves a list of what was removed.
pub fn purge(writer: &mut Writer, before: NaiveDate, at: Millis) -> Result<Purged> {
    let edge = edge_of(before, &writer.catalogue)?;
    let earlier = writer.catalogue.clone();
    let (next, faulty) = without(writer, before)?;
    let _nobody = writer.wait_for_readers()?;
    let changed = next != writer.catalogue;
    if changed {
        writer.commit(next)?;
    }
    let removed = writer.remove_unlisted()?;
    let left = earliest_left(writer)?;
    let mut purged = Purged { faulty, version: writer.catalogue.version, ..Purged::default() };
    let (mut files, mut of_days) = (Vec::new(), BTreeMap::<String, u64>::new());
    for (file, bytes) in &removed {
        let segment = earlier.segments.iter().find(|segment| segment.file == *file);
        // What an earlier change took out of force is known by its own catalogue.
        let (rows, sha256) = earlier.facts_of(file);
        if let Some(segment) = segment {
            purged.days.insert((segment.source.clone(), segment.day.clone()));
            *of_days.entry(format!("{} {}", segment.source, segment.day)).or_default() += segment.rows;
        }
        purged.files += 1;
        purged.bytes += bytes;
        purged.rows += rows.unwrap_or(0);
        files.push(json!({ "file": file, "bytes": bytes, "rows": rows, "sha256": sha256 }));
    }
    if files.is_empty() && !changed {
        return Ok(purged);
    }
    let proof = json!({
        "copresence": env!("CARGO_PKG_VERSION"),
        "purged_at": utc_text(at),
        "before": before.to_string(),
        "time_zone": earlier.time_zone,
        "version_before": earlier.version,
        "version_after": purged.version,
        "rows_by_day": of_days,
        "unusable_rows": faulty,
        "removed": files,
        "checked": {
            "files_are_gone": true,
            "earliest_time_left": left.as_ref().map(|(at, _)| utc_text(*at)),
            "all_left_is_younger": left.as_ref().is_none_or(|(at, _)| *at >= edge),
            "no_earlier_than": utc_text(edge),
        },
        "proof_before": last_proof(writer)?,
    });
    let name = Writer::hidden_name(&format!("purged/v{:06}-{at}.json", purged.version));
    writer.write_small(&name, &format!("{proof:#}\n"))?;
    purged.proof = Some(name);
    match left.filter(|(at, _)| *at < edge) {
        None => Ok(purged),
        Some((at, file)) => Err(Error::Output(Problem::new(
            file,
            format!("rows from {} on", utc_text(edge)),
            utc_text(at),
            "these are times that no calendar knows, or a damaged file: run copresence store check; what else was to go is gone",
        ))),
    }
}

/// The earliest time of all rows that are left, by the footers of their files, and its file.
fn earliest_left(writer: &Writer) -> Result<Option<(Millis, String)>> {
    let mut earliest: Option<(Millis, String)> = None;
    for segment in &writer.catalogue.segments {
        let input = writer.input(&segment.file)?;
        let metadata = open_parquet(&input)?;
        let schema = metadata.parquet_schema();
        let leaf = (0..schema.num_columns()).find(|leaf| schema.column(*leaf).name() == "time");
        for group in metadata.metadata().row_groups() {
            let least = match leaf.and_then(|leaf| group.column(leaf).statistics()) {
                Some(Statistics::Int64(own)) => own.min_opt().copied(),
                _ => None,
            };
            // What its footer does not tell may be of any time.
            let least = least.unwrap_or(Millis::MIN);
            if earliest.as_ref().is_none_or(|(at, _)| least < *at) {
                earliest = Some((least, input.name.clone()));
            }
        }
    }
    Ok(earliest)
}

/// The last proof and its digest, so that none can be taken away unseen.
fn last_proof(writer: &Writer) -> Result<Value> {
    let names = writer.names_below("purged")?;
    let Some(last) = names.into_iter().filter(|name| name.ends_with(".json")).max() else {
        return Ok(Value::Null);
    };
    let path = writer.hidden("purged").join(&last);
    let text = storage::read_text(&path).map_err(|e| unreadable(&path.display().to_string(), &e))?;
    Ok(json!({ "file": last, "sha256": files::digest_of_text(&text) }))
}

/// The first day that a job's store keeps, if days before it were purged.
pub fn kept_from(catalogue: &Catalogue) -> Option<Millis> {
    let day: NaiveDate = catalogue.kept_from.as_ref()?.parse().ok()?;
    date_edge(day, Edge::Start, store::Catalogue::zone(catalogue))
}
