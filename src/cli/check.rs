//! `check JOB`: inputs only; nothing is computed or written.

use super::{JobArgs, thousands};
use crate::config::{Config, Overrides};
use crate::datum::Datum;
use crate::error::Result;
use crate::io::inputs::{self, Inputs};
use crate::io::manifest;
use crate::time::{Millis, utc_text};
use clap::Args;

/// Check a job and its inputs; nothing is computed or written.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub(super) job: JobArgs,
}

impl Check {
    /// Opens every input and says what is there.
    pub fn run(&self) -> Result<u8> {
        let config = self.job.config(Overrides::default())?;
        let inputs = inputs::open(&config)?;
        out!("{}: {}", config.name, config.purpose);
        out!("  rule       {}", config.rule);
        out!("  lookback   {} to {}", utc_text(config.lookback_start()), utc_text(config.as_of));
        out!(
            "  time zone  {}",
            config.time_zone.map_or("none: times without an offset are refused", |z| z.name())
        );
        for feed in 0..inputs.feeds.len() {
            print_feed(&inputs, feed);
        }
        print_cases(&inputs);
        if !inputs.rejections.is_empty() {
            out!("rejected rows of small tables: {}", inputs.rejections.len());
            for r in inputs.rejections.iter().take(10) {
                out!("  {}, row {}: {} ({})", r.file, r.row, r.reason, r.column);
            }
        }
        print_rule(&config);
        if config.out.exists() && !config.force {
            let text = format!("{} exists: run will want --force or another --out", config.out.display());
            super::warn(&text, self.job.log_format);
        }
        out!("ok");
        Ok(0)
    }
}

fn print_feed(inputs: &Inputs, number: usize) {
    let feed = &inputs.feeds[number];
    let groups = || feed.files.iter().flat_map(|f| &f.groups);
    let rows: u64 = groups().map(|g| g.rows).sum();
    let skipped = groups().filter(|g| !inputs.decoder.wants(g)).count();
    out!("{} ({} feed): {}", feed.config.label, feed.config.stay.source, feed.config.path);
    out!("  files      {}, {} rows in {} row groups", feed.files.len(), thousands(rows), groups().count());
    out!(
        "  to read    {} rows; {skipped} row groups lie outside the lookback",
        thousands(inputs.rows_to_read(number))
    );
    let range = groups().filter_map(|g| g.time_range).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    match range {
        Some((from, to)) => out!("  times      {} to {} (by statistics)", utc_text(from), utc_text(to)),
        None => out!("  times      unknown: the files have no statistics of time"),
    }
    if let Some(datum) = feed.config.datum {
        out!("  datum      {}", datum_name(datum));
    }
    if let Some(table) = &feed.config.places {
        let datum = table.datum.map(|d| format!(", {}", datum_name(d))).unwrap_or_default();
        out!("  places     {} in {}{datum}", thousands(feed.places.len() as u64), table.path);
    }
    if let Some(file) = feed.files.first() {
        for (name, theirs, kind) in file.mapping() {
            out!("  column     {name} = {theirs} ({kind})");
        }
    }
}

fn datum_name(datum: Datum) -> &'static str {
    match datum {
        Datum::Wgs84 => "wgs84",
        Datum::Gcj02 => "gcj02",
        Datum::Bd09 => "bd09",
    }
}

fn print_cases(inputs: &Inputs) {
    let cases = &inputs.cases.cases;
    out!("cases: {}, {} rejected", cases.len(), inputs.cases.rejections.len());
    let widest = |a: (Millis, Millis), b: (Millis, Millis)| (a.0.min(b.0), a.1.max(b.1));
    if let Some((from, to)) = cases.iter().map(|c| (c.infectious_from, c.infectious_to)).reduce(widest) {
        out!("  infectious {} to {}", utc_text(from), utc_text(to));
    }
}

fn print_rule(config: &Config) {
    out!("rule: {:#}", manifest::rule(&config.rule));
}
