//! `check JOB`: inputs only; nothing is written, and nothing computed but how many people risk areas cover.

use super::progress::Progress;
use super::{JobArgs, interrupt, thousands};
use crate::config::{Config, Overrides};
use crate::datum::Datum;
use crate::error::Result;
use crate::io::inputs::{self, Inputs};
use crate::io::manifest;
use crate::io::storage;
use crate::pipeline::covered;
use crate::pipeline::watch::Watch;
use crate::rule::Source;
use crate::time::{Millis, utc_text};
use clap::Args;
use std::sync::Arc;

/// Areas that are listed one by one, those that cover most people first.
const AREAS_LISTED: usize = 50;

/// Check a job and its inputs; nothing is written. Where the job has risk areas, all pings are read to count the people that
/// each covers: those with a ping in it while it is listed, cases among them, exact up to a thousand. The 50 that cover most are
/// listed.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub(super) job: JobArgs,
}

impl Check {
    /// Opens every input and says what is there.
    pub fn run(&self) -> Result<u8> {
        let (config, store) = self.job.config(Overrides::default())?;
        let inputs = inputs::open(&config, store.as_ref())?;
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
        self.print_areas(&config, &inputs)?;
        if !inputs.rejections.is_empty() {
            out!("rejected rows of small tables: {}", inputs.rejections.len());
            for r in inputs.rejections.iter().take(10) {
                out!("  {}, row {}: {} ({})", r.file, r.row, r.reason, r.column);
            }
        }
        print_rule(&config);
        let is_there = storage::exists(&config.out) || storage::exists(&config.out.join("manifest.json"));
        if is_there && !config.force {
            let text = format!("{} exists: run will want --force or another --out", config.out.display());
            super::warn(&text, self.job.log_format);
        }
        self.warn_of_accuracies(&config, &inputs);
        out!("ok");
        Ok(0)
    }

    /// The people whom each area covers.
    fn print_areas(&self, config: &Config, inputs: &Inputs) -> Result<()> {
        let Some(areas) = &inputs.areas else { return Ok(()) };
        let watch = Arc::new(Watch::default());
        interrupt::install(&watch);
        let progress = Progress::start(self.job.progress, &watch);
        let (counts, any) = covered::persons(config, inputs, areas, &watch)?;
        drop(progress);
        out!(
            "risk areas: {}; {} people have a ping in one while it is listed",
            areas.list.len(),
            thousands(any)
        );
        let mut order: Vec<usize> = (0..counts.len()).collect();
        order.sort_by_key(|area| std::cmp::Reverse(counts[*area]));
        for at in order.iter().take(AREAS_LISTED) {
            let area = &areas.list[*at];
            out!(
                "  {} ({}): {} people; {} to {}, at least {} s; report {}, {}",
                area.area_id,
                area.level,
                thousands(counts[*at]),
                utc_text(area.valid_from),
                area.valid_to.map_or("now".to_string(), utc_text),
                area.dwell_ms_min as f64 / 1_000.0,
                area.report_id,
                area.authority
            );
        }
        if counts.len() > AREAS_LISTED {
            out!("  and {} areas more, which cover no more people each", counts.len() - AREAS_LISTED);
        }
        Ok(())
    }

    /// A unit mixed up makes every position so uncertain that nobody is near anybody.
    fn warn_of_accuracies(&self, config: &Config, inputs: &Inputs) {
        if !config.rule.encounter.place.is_uncertain() {
            return;
        }
        let Some(limit_m) = config.rule.encounter.place.metres() else { return };
        for feed in inputs.feeds.iter().filter(|f| f.config.stay.source == Source::Gps) {
            if let Some((least, most)) = feed.accuracies_by_statistics()
                && least > limit_m
            {
                let text = format!(
                    "{}: every accuracy_m is {least} to {most} m, more than distance_m_max ({limit_m} m): few can be together with any probability; is it in metres?",
                    feed.config.label
                );
                super::warn(&text, self.job.log_format);
            }
        }
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
    if let Some((least, most)) = feed.accuracies_by_statistics() {
        out!("  accuracy   {least} to {most} m (by statistics)");
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
