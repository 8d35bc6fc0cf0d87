//! `run JOB`: the nightly batch.

use super::metrics::Metrics;
use super::progress::Progress;
use super::{JobArgs, interrupt, summary};
use crate::answer::{Answer, FeedSurvey};
use crate::config::{Config, FeedConfig, Overrides};
use crate::error::Result;
use crate::io::inputs::{self, Inputs};
use crate::io::machine;
use crate::io::manifest::{self, Circumstances};
use crate::io::output::{Kind, Staging};
use crate::io::store::Store;
use crate::pipeline;
use crate::pipeline::watch::{Stage, Watch};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

const EXAMPLE: &str = r#"A job file, the least of one:

  [job]
  purpose = "notification, outbreak 2022-03"
  as_of = "2022-03-22T00:00:00+08:00"    # look back from here
  time_zone = "Asia/Shanghai"
  [[feeds]]
  source = "gps"                         # gps, tower, venue or trip
  path = "pings/**/*.parquet"            # person_id, time, lat, lon, accuracy_m?
  datum = "wgs84"                        # wgs84, gcj02 or bd09
  [cases]
  path = "cases.csv"                     # case_id, person_id, report_id, authority, onset_at? ...
  [rule]
  preset = "cdc-15min"

README.md has every key; `copresence check JOB` tells what a job would read."#;

/// Run a job: read pings and cases, write candidates with their evidence.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLE)]
pub struct Run {
    #[command(flatten)]
    pub(super) job: JobArgs,
    /// Whose exposures are written [default: the job's, else all].
    #[arg(long, value_name = "WHOSE", value_parser = ["all", "candidates"])]
    exposures: Option<String>,
    /// Whose encounters are written [default: the job's, else candidates].
    #[arg(long, value_name = "WHOSE", value_parser = ["all", "candidates", "none"])]
    encounters: Option<String>,
    /// Also count, in the manifest, the candidates that N persons who are no cases would make on other days, by habit alone.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    controls: Option<u32>,
    /// What the digests of Parquet inputs cover.
    #[arg(long, value_enum, default_value_t = Digest::Footer)]
    digest: Digest,
    /// Also write the run's figures to this file, for Prometheus (the textfile collector of its node_exporter).
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    /// Exit with 4 if there were warnings.
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Digest {
    /// The footer and the size.
    Footer,
    /// All bytes.
    Full,
}

impl Run {
    /// Checks, computes, writes, and sums up.
    pub fn run(&self) -> Result<u8> {
        let (config, store) = self.job.config(Overrides {
            exposures: self.exposures.clone(),
            encounters: self.encounters.clone(),
            controls: self.controls,
            digest_full: self.digest == Digest::Full,
            ..Overrides::default()
        })?;
        let watch = Arc::new(Watch::default());
        interrupt::install(&watch);
        let staging = Staging::new(Kind::Answer, &config.out, config.force)?;
        let progress = Progress::start(self.job.progress, &watch);
        let Night { inputs, answer, circumstances } =
            Night::compute(&config, store.as_ref(), &staging, &watch)?;
        staging.commit()?;
        drop(progress);
        for warning in &circumstances.warnings {
            super::warn(warning, self.job.log_format);
        }
        if let Some(path) = &self.metrics {
            figures(&config, &inputs, &answer, &circumstances).write(path)?;
        }
        summary::print(&config, &inputs, &answer, &circumstances);
        let code = if self.strict && !circumstances.warnings.is_empty() { 4 } else { 0 };
        // The program ends here, and the system takes all of it back at once.
        std::mem::forget((config, inputs, answer));
        Ok(code)
    }
}

/// The figures of a run.
fn figures(config: &Config, inputs: &Inputs, answer: &Answer, circumstances: &Circumstances) -> Metrics {
    let mut metrics = Metrics::default();
    let job = || ("job", config.name.clone());
    let mut one = |name: &str, help: &str, value: f64| metrics.add(name, help, &[(vec![job()], value)]);
    let counts = &answer.counts;
    one(
        "run_timestamp_seconds",
        "When the last run that went through began.",
        circumstances.started_at as f64 / 1e3,
    );
    one("run_as_of_timestamp_seconds", "Its as_of.", config.as_of as f64 / 1e3);
    one("run_duration_seconds", "How long it took.", circumstances.seconds);
    let peak = circumstances.memory_peak_bytes.unwrap_or(0);
    one("run_memory_peak_bytes", "Its memory at the peak.", peak as f64);
    one("run_warnings", "What it warned of.", circumstances.warnings.len() as f64);
    one("run_cases", "Cases of its list.", answer.cases.len() as f64);
    let without = answer.cases.iter().filter(|case| !case.has_pings).count();
    one("run_cases_without_pings", "Cases whose person has no ping in the lookback.", without as f64);
    one("run_persons", "Persons seen, about.", counts.persons as f64);
    one("run_exposures", "Exposures found.", counts.exposures as f64);
    one("run_candidates", "Candidates found.", counts.candidates as f64);
    let by_feed = |of: &dyn Fn(&FeedSurvey) -> u64| -> Vec<(Vec<(&str, String)>, f64)> {
        let feeds = inputs.feeds.iter().zip(&answer.survey.feeds);
        let labels = |feed: &FeedConfig| {
            let (label, source) = (feed.label.clone(), feed.stay.source.to_string());
            vec![job(), ("feed", label), ("source", source)]
        };
        feeds.map(|(open, survey)| (labels(&open.config), of(survey) as f64)).collect()
    };
    let kept = by_feed(&|feed| feed.rows_kept);
    metrics.add("run_rows", "Readable rows inside the lookback, by feed.", &kept);
    let rejected = by_feed(&|feed| feed.rejected_rows());
    metrics.add("run_rows_rejected", "Rows inside the lookback that could not be read, by feed.", &rejected);
    let last_day = by_feed(&|feed| feed.by_day.last().copied().unwrap_or(0));
    metrics.add("run_rows_last_day", "Readable rows of the lookback's last day, by feed.", &last_day);
    metrics
}

/// A job that was run, its answer written but not yet in place.
pub(super) struct Night {
    inputs: Inputs,
    answer: Answer,
    pub(super) circumstances: Circumstances,
}

impl Night {
    /// Computes, and writes into a folder on its way.
    pub(super) fn compute(
        config: &Config,
        store: Option<&Store>,
        staging: &Staging,
        watch: &Watch,
    ) -> Result<Self> {
        let (clock, started_at) = (Instant::now(), chrono_now());
        let inputs = inputs::open(config, store)?;
        let mut answer = pipeline::compute(config, &inputs, &staging.path("spill"), watch)?;
        pipeline::safeguards::check(config, &answer.survey)?;
        watch.start(Stage::Write, 0);
        let written = pipeline::write(config, &inputs, staging, &mut answer)?;
        answer.controls = pipeline::controls::count(config, &inputs, store, &staging.path("spill"), watch)?;
        let circumstances = Circumstances {
            started_at,
            seconds: clock.elapsed().as_secs_f64(),
            memory_peak_bytes: machine::memory_peak_bytes(),
            warnings: pipeline::warnings::warnings(config, &inputs, &answer),
        };
        manifest::write(staging, config, &inputs, &answer, &written, &circumstances)?;
        watch.advance(0)?;
        Ok(Night { inputs, answer, circumstances })
    }
}

/// The wall clock, ms UTC.
pub(super) fn chrono_now() -> crate::time::Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis() as i64)
}
