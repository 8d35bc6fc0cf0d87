//! `sweep JOB`: what other values of a rule's keys would give.

use super::progress::Progress;
use super::run::chrono_now;
use super::{JobArgs, interrupt, thousands};
use crate::config::{Config, Overrides};
use crate::error::{Error, Problem, Result};
use crate::io::output::{Kind, Staging};
use crate::io::store::Store;
use crate::io::sweep::{Row, table, write};
use crate::io::{inputs, machine};
use crate::pipeline;
use crate::pipeline::watch::Watch;
use crate::resolve::OfVariant;
use crate::sweep::{Pass, Vary, passes, sets};
use crate::time::utc_text;
use clap::Args;
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

const EXAMPLE: &str = r#"Every combination of the values is a set, and gives a row: what a run of the job with these values finds, no more and no less.

  copresence sweep job.toml --vary rule.encounter.distance_m_max=10,25,50 --vary rule.candidate.direct_s_min=300..3600/300

One reading of the feeds answers all sets (but not with resident_h_min) that differ only in distance_m_max, probability_min and
lag_s_max of rule.encounter; in the keys of rule.exposure but setting_weights; and in direct_s_min, confirmed_s_min, longest_s_min,
peak_24h_s_min, expected_s_min and risk_min of rule.candidate. Every other key takes a reading for each of its values."#;

/// Rows that are shown.
const SHOWN: usize = 40;

/// Evaluate many rules on the same pings: who would be a candidate by each.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLE)]
pub struct Sweep {
    #[command(flatten)]
    pub(super) job: JobArgs,
    /// A key below rule or feeds and its values: KEY=A,B,C or KEY=FROM..TO/STEP, both ends in it; several times for several keys.
    #[arg(long, value_name = "KEY=VALUES", required = true, value_parser = Vary::parse)]
    vary: Vec<Vary>,
}

impl Sweep {
    /// Reads as often as it takes, writes, and sums up.
    pub fn run(&self) -> Result<u8> {
        let (clock, started_at) = (Instant::now(), chrono_now());
        let sets = sets(&self.vary)?;
        let (configs, store) = self.job.configs(Overrides::default(), &sets)?;
        let Some(mut first) = configs.first().cloned() else { return Ok(0) };
        if self.job.out.is_none() {
            let name = first.out.file_name().unwrap_or_default().to_string_lossy().into_owned();
            first.out.set_file_name(format!("{name}-sweep"));
        }
        let passes = passes(configs);
        let watch = Arc::new(Watch::default());
        interrupt::install(&watch);
        let staging = Staging::new(Kind::Sweep, &first.out, first.force)?;
        let progress = Progress::start(self.job.progress, &watch);
        let mut rows = vec![Row::default(); sets.len()];
        let mut warnings: Vec<String> = Vec::new();
        for pass in &passes {
            for warning in answer(pass, store.as_ref(), &staging, &watch, &mut rows)? {
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
            }
        }
        let found = table(&self.vary, &sets, &rows).map_err(|e| {
            Error::Output(Problem::new("sweep.parquet", "a table", e.to_string(), "give keys of other names"))
        })?;
        let seconds = clock.elapsed().as_secs_f64();
        let varied: Vec<_> =
            self.vary.iter().map(|vary| json!({ "key": vary.key, "values": vary.values })).collect();
        let says = json!({
            "copresence": env!("CARGO_PKG_VERSION"),
            "schema_version": crate::io::results::SCHEMA_VERSION,
            "job": first.name,
            "purpose": first.purpose,
            "as_of": utc_text(first.as_of),
            "rule": format!("{}@{}", first.rule.name, first.rule.version),
            "varied": varied,
            "sets": sets.len(),
            "readings": passes.len(),
            "started_at": utc_text(started_at),
            "warnings": warnings,
            "seconds": seconds,
            "memory_peak_bytes": machine::memory_peak_bytes(),
        });
        write(&staging, &first, &found, &says)?;
        watch.advance(0)?;
        staging.commit()?;
        drop(progress);
        for warning in &warnings {
            super::warn(warning, self.job.log_format);
        }
        self.sum_up(&first, &sets, &rows, passes.len(), seconds);
        Ok(0)
    }

    fn sum_up(&self, config: &Config, sets: &[Vec<String>], rows: &[Row], readings: usize, seconds: f64) {
        out!("{}: {}", config.name, config.purpose);
        let widths: Vec<usize> = self.vary.iter().map(|vary| vary.key.len()).collect();
        let head: Vec<&str> = self.vary.iter().map(|vary| vary.key.as_str()).collect();
        out!("  {}  {:>12}  {:>12}", head.join("  "), "exposures", "candidates");
        for (set, row) in sets.iter().zip(rows).take(SHOWN) {
            let values =
                set.iter().zip(&widths).map(|(text, width)| format!("{:>width$}", &text[width + 1..]));
            let values: Vec<String> = values.collect();
            let (exposures, candidates) = (thousands(row.exposures), thousands(row.found.candidates));
            out!("  {}  {exposures:>12}  {candidates:>12}", values.join("  "));
        }
        if sets.len() > SHOWN {
            out!("  and {} more", sets.len() - SHOWN);
        }
        out!("  time       {seconds:.2} s, {} sets by {readings} reading(s)", thousands(sets.len() as u64));
        out!("  result     {}", config.out.display());
    }
}

/// Fills the rows that one reading answers; gives what a run would warn of.
fn answer(
    Pass { config, sets }: &Pass,
    store: Option<&Store>,
    staging: &Staging,
    watch: &Watch,
    rows: &mut [Row],
) -> Result<Vec<String>> {
    let inputs = inputs::open(config, store)?;
    let answer = pipeline::compute(config, &inputs, &staging.path("spill"), watch)?;
    pipeline::safeguards::check(config, &answer.survey)?;
    for (variant, numbers) in answer.variants.iter().zip(sets) {
        for (found, number) in variant.sets.iter().zip(numbers) {
            let OfVariant { encounters, exposures, .. } = *variant;
            rows[*number] = Row { found: *found, exposures, encounters };
        }
    }
    Ok(pipeline::warnings::of_inputs(config, &inputs, &answer))
}
