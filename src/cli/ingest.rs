//! `ingest JOB --store DIR`: the feeds' files into the prepared store.

use super::metrics::Metrics;
use super::progress::Progress;
use super::{JobArgs, interrupt, thousands};
use crate::config::Overrides;
use crate::error::{Error, Problem, Result};
use crate::io::machine;
use crate::io::store::Writer;
use crate::pipeline::ingest;
use crate::pipeline::watch::Watch;
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

const EXAMPLE: &str = r"Each night, with the job whose feeds name that night's files (or all files there are):

  copresence ingest job.toml --store /data/store
  copresence run job.toml --store /data/store

A file that the store has already, by the digest of all its bytes, is left unread, so that the same command may be repeated
after any failure. What was read comes into force at once when all of it is written; until then, and for those who are reading
meanwhile, the store is what it was.";

/// Read feeds into a prepared store, which runs then read in their place.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLE)]
pub struct Ingest {
    #[command(flatten)]
    pub(super) job: JobArgs,
    /// Let files of a known name but other bytes take the place of the earlier ones.
    #[arg(long)]
    replace: bool,
    /// Also write the ingest's figures to this file, for Prometheus (the textfile collector of its node_exporter).
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
}

impl Ingest {
    /// Ingests, and says what came of it.
    pub fn run(&self) -> Result<u8> {
        let clock = Instant::now();
        let Some(folder) = &self.job.store else {
            return Err(Error::Job(Problem::new(
                "--store",
                "the folder of the store",
                "nothing",
                "add --store DIR; a new one is made where there is none",
            )));
        };
        let config = self.job.config_of_feeds(Overrides::default())?;
        let watch = Arc::new(Watch::default());
        interrupt::install(&watch);
        let mut writer = Writer::open(folder, config.zone().name())?;
        let progress = Progress::start(self.job.progress, &watch);
        let done = ingest::ingest(&config, &mut writer, self.replace, &watch)?;
        drop(progress);
        let line = |name: &str, text: String| out!("  {name:<11}{text}");
        out!("{}: version {}", folder.display(), done.version);
        let also = format!("{} known already, {} replaced", thousands(done.known), thousands(done.replaced));
        line("files", format!("{} read, {also}", thousands(done.files)));
        let seconds = clock.elapsed().as_secs_f64();
        let usable = thousands(done.rows - done.faulty - done.past);
        line("rows", format!("{} read, {usable} of them usable", thousands(done.rows)));
        if done.past > 0 {
            let past = thousands(done.past);
            line("past", format!("{past} of days that the store keeps no longer, left out"));
        }
        let days: Vec<String> = done.days.iter().map(|(source, day)| format!("{source} {day}")).collect();
        line("days", if days.is_empty() { "none touched".into() } else { shortened(&days) });
        let each = done.store_bytes as f64 / done.store_rows.max(1) as f64;
        line("store", format!("{} rows, {each:.1} bytes each", thousands(done.store_rows)));
        let rate = thousands((done.rows as f64 / seconds) as u64);
        line("time", format!("{seconds:.2} s, {rate} rows/s, {} threads", config.threads));
        if let Some(path) = &self.metrics {
            let mut metrics = Metrics::default();
            let labels = || vec![("job", config.name.clone())];
            let mut one = |name: &str, help: &str, value: f64| metrics.add(name, help, &[(labels(), value)]);
            let now = super::run::chrono_now() as f64 / 1e3;
            one("ingest_timestamp_seconds", "When the last ingest that went through ended.", now);
            one("ingest_duration_seconds", "How long it took.", seconds);
            one("ingest_files", "Files that it read.", done.files as f64);
            one("ingest_rows", "Rows that it read.", done.rows as f64);
            one("ingest_rows_unusable", "Rows among them that could not be used.", done.faulty as f64);
            one("store_rows", "Rows of the store.", done.store_rows as f64);
            one("store_bytes", "Bytes of the store.", done.store_bytes as f64);
            metrics.write(path)?;
        }
        if let Some(peak) = machine::memory_peak_bytes() {
            line("memory", format!("{} MiB at its peak", peak >> 20));
        }
        Ok(0)
    }
}

/// The first and the last of many.
pub(super) fn shortened(days: &[String]) -> String {
    match days {
        [first, .., last] if days.len() > 4 => format!("{first} to {last}, {} in all", days.len()),
        _ => days.join(", "),
    }
}
