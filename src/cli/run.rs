//! `run JOB`: the nightly batch.

use super::progress::Progress;
use super::{JobArgs, interrupt, summary};
use crate::config::Overrides;
use crate::error::Result;
use crate::io::manifest::{self, Circumstances};
use crate::io::output::{Kind, Staging};
use crate::io::{inputs, machine};
use crate::pipeline;
use crate::pipeline::watch::{Stage, Watch};
use clap::{Args, ValueEnum};
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
    /// What the digests of Parquet inputs cover.
    #[arg(long, value_enum, default_value_t = Digest::Footer)]
    digest: Digest,
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
        let (clock, started_at) = (Instant::now(), chrono_now());
        let (config, _store) = self.job.config(Overrides {
            exposures: self.exposures.clone(),
            encounters: self.encounters.clone(),
            digest_full: self.digest == Digest::Full,
            ..Overrides::default()
        })?;
        let watch = Arc::new(Watch::default());
        interrupt::install(&watch);
        let staging = Staging::new(Kind::Answer, &config.out, config.force)?;
        let progress = Progress::start(self.job.progress, &watch);
        let inputs = inputs::open(&config)?;
        let mut answer = pipeline::compute(&config, &inputs, &staging.path("spill"), &watch)?;
        pipeline::safeguards::check(&config, &answer.survey)?;
        watch.start(Stage::Write, 0);
        pipeline::write(&config, &inputs, &staging, &mut answer)?;
        let warnings = pipeline::warnings::warnings(&config, &inputs, &answer);
        let circumstances = Circumstances {
            started_at,
            seconds: clock.elapsed().as_secs_f64(),
            memory_peak_bytes: machine::memory_peak_bytes(),
            warnings: warnings.clone(),
        };
        manifest::write(&staging, &config, &inputs, &answer, &circumstances)?;
        watch.advance(0)?;
        staging.commit()?;
        drop(progress);
        for warning in &warnings {
            super::warn(warning, self.job.log_format);
        }
        summary::print(&config, &inputs, &answer, &circumstances);
        Ok(if self.strict && !warnings.is_empty() { 4 } else { 0 })
    }
}

/// The wall clock, ms UTC.
fn chrono_now() -> crate::time::Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis() as i64)
}
