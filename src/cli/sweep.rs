//! `sweep JOB`: what other values of a rule's keys would give.

use super::progress::Progress;
use super::run::chrono_now;
use super::{JobArgs, interrupt, thousands};
use crate::config::{Config, Overrides, TruthConfig};
use crate::error::{Error, Problem, Result};
use crate::io::output::{Kind, Staging};
use crate::io::store::Store;
use crate::io::sweep::{Row, reliability, table, write};
use crate::io::{inputs, machine};
use crate::pipeline;
use crate::pipeline::watch::Watch;
use crate::resolve::{Found, OfVariant};
use crate::sweep::{Estimate, Pass, Scoring, Vary, passes, sets};
use crate::time::utc_text;
use crate::truth::Judged;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
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
    /// What is true: a folder with contacts.parquet (and infections.parquet, meetings.parquet), as `copresence synth` writes it, or a table
    /// of contacts with person_id, case_id and a column of seconds, Parquet or CSV. Every set is held against it.
    #[arg(long, value_name = "PATH")]
    truth: Option<PathBuf>,
    /// Which column of the contacts makes a true contact, from how many seconds on.
    #[arg(long, value_name = "COLUMN=SECONDS", default_value = "within_10m_s=900", value_parser = true_contact, requires = "truth")]
    true_contact: (String, f64),
}

fn true_contact(text: &str) -> std::result::Result<(String, f64), String> {
    let wrong = || "write COLUMN=SECONDS, as within_10m_s=900".to_string();
    let (column, seconds) = text.split_once('=').ok_or_else(wrong)?;
    let seconds =
        seconds.trim().parse::<f64>().ok().filter(|s| s.is_finite() && *s >= 0.0).ok_or_else(wrong)?;
    Ok((column.trim().to_string(), seconds))
}

impl Sweep {
    /// Reads as often as it takes, writes, and sums up.
    pub fn run(&self) -> Result<u8> {
        let (clock, started_at) = (Instant::now(), chrono_now());
        let sets = sets(&self.vary)?;
        let (mut configs, store) = self.job.configs(Overrides::default(), &sets)?;
        let (column, seconds_min) = self.true_contact.clone();
        let truth = self.truth.clone().map(|path| TruthConfig { path, column, seconds_min });
        configs.iter_mut().for_each(|config| config.truth.clone_from(&truth));
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
        let no_table = |e: arrow::error::ArrowError| {
            Error::Output(Problem::new("sweep.parquet", "a table", e.to_string(), "give keys of other names"))
        };
        let found = table(&self.vary, &sets, &rows).map_err(no_table)?;
        let reliability = reliability(&rows).map_err(no_table)?;
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
            "truth": self.truth.as_ref().map(|path| path.display().to_string()),
            "true_contact": self.truth.as_ref().map(|_| format!("{} >= {}", self.true_contact.0, self.true_contact.1)),
            "sets": sets.len(),
            "readings": passes.len(),
            "started_at": utc_text(started_at),
            "warnings": warnings,
            "seconds": seconds,
            "memory_peak_bytes": machine::memory_peak_bytes(),
        });
        write(&staging, &first, &found, reliability.as_ref(), &says)?;
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
        let judged = rows.iter().any(|row| row.score.is_some());
        let scores = if judged { "  precision     recall         f1" } else { "" };
        out!("  {}  {:>12}  {:>12}{scores}", head.join("  "), "exposures", "candidates");
        for (set, row) in sets.iter().zip(rows).take(SHOWN) {
            let values =
                set.iter().zip(&widths).map(|(text, width)| format!("{:>width$}", &text[width + 1..]));
            let values: Vec<String> = values.collect();
            let (exposures, candidates) = (thousands(row.exposures), thousands(row.found.candidates));
            let scores = row.score.map_or_else(String::new, |score| {
                // A share of nobody is none.
                let share =
                    |e: Estimate| if e.value.is_nan() { "-".into() } else { format!("{:.3}", e.value) };
                let [precision, recall, f1]: [String; 3] =
                    [score.precision, score.recall, score.f1].map(share);
                format!("  {precision:>9}  {recall:>9}  {f1:>9}")
            });
            out!("  {}  {exposures:>12}  {candidates:>12}{scores}", values.join("  "));
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
    let scoring = inputs.truth.as_ref().map(Scoring::new);
    // Where nobody met a case there was nothing to count.
    let mut variants = answer.variants.clone();
    variants.resize(sets.len(), OfVariant::default());
    for (variant, numbers) in variants.iter_mut().zip(sets) {
        variant.sets.resize(numbers.len(), Found::default());
        variant.judged.resize(numbers.len(), Judged::default());
        for (found, number) in variant.sets.iter().zip(numbers) {
            let OfVariant { encounters, exposures, .. } = *variant;
            rows[*number] = Row { found: *found, exposures, encounters, ..Row::default() };
        }
        let Some(scoring) = &scoring else { continue };
        for (judged, number) in variant.judged.iter().zip(numbers) {
            let row = &mut rows[*number];
            (row.score, row.reliability) = (Some(scoring.score(judged)), Some(variant.reliability));
        }
    }
    let mut warnings = pipeline::warnings::of_inputs(config, &inputs, &answer);
    if inputs.truth.as_ref().is_some_and(|truth| truth.contacts.is_empty()) {
        warnings.push(
            "the truth has no true contact of the job's cases: check case_id, person_id and --true-contact"
                .into(),
        );
    }
    Ok(warnings)
}
