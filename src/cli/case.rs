//! `case JOB CASE_ID --store DIR`: whom one case of the job's list met, at once.

use super::explain::row_value;
use super::progress::Progress;
use super::run::Night;
use super::{JobArgs, interrupt};
use crate::config::{Config, Overrides};
use crate::error::{Error, Problem, Result};
use crate::io::files::digest_of_text;
use crate::io::output::{Kind, Staging};
use crate::io::store::Store;
use crate::io::{inputs, read_back, storage, store};
use crate::person::PersonType;
use crate::pipeline::watch::Watch;
use crate::time::{Tz, local_text, parse};
use arrow::array::{Array, AsArray, RecordBatch};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

const NOTES: &str = "\
The answer is what a run of the job says of this case, whatever other cases there are; who is a case is marked. A candidate is \
one by this case alone: rules that add up cases, and reasons other than exposures, may make more. Nobody but a case of the job's list can \
be asked about. The answer is kept in the store, below its hidden folder, until the store, the job or the case changes; \
--no-cache neither looks there nor leaves anything.";

/// Show whom one case of a job met, from a prepared store.
#[derive(Debug, Args)]
#[command(after_long_help = NOTES)]
pub struct Case {
    #[command(flatten)]
    pub(super) job: JobArgs,
    /// The case, as case_id stands in the job's list of cases.
    #[arg(value_name = "CASE_ID", allow_hyphen_values = true)]
    case_id: String,
    /// How to write it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Ask the store itself, and keep nothing.
    #[arg(long)]
    no_cache: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Where an answer stands: kept in the store, or on its way to nowhere.
enum Place {
    Kept(PathBuf),
    Passing(Staging),
}

impl Place {
    fn folder(&self) -> PathBuf {
        match self {
            Place::Kept(folder) => folder.clone(),
            Place::Passing(staging) => staging.path(""),
        }
    }
}

impl Case {
    /// Answers, and says it.
    pub fn run(&self) -> Result<u8> {
        let clock = Instant::now();
        let (mut config, opened) = self.job.config(Overrides {
            exposures: Some("all".into()),
            encounters: Some("none".into()),
            ..Overrides::default()
        })?;
        let Some(opened) = opened else {
            return Err(Error::Job(Problem::new(
                "--store",
                "the folder of a prepared store, from which a case is answered at once",
                "nothing",
                "add --store DIR, or store under [job]; copresence ingest makes a store",
            )));
        };
        config.only_case = Some(self.case_id.clone());
        let cached =
            store::cached(&config.store.clone().unwrap_or_default(), &opened, &self.key(&config, &opened)?);
        let was_kept = !self.no_cache && storage::exists(&cached.join("manifest.json"));
        let place = if was_kept { Place::Kept(cached) } else { self.answer(&mut config, &opened, cached)? };
        let text = match self.format {
            Format::Json => format!("{:#}\n", self.evidence(&place.folder())?),
            Format::Text => self.as_text(&config, &place.folder(), was_kept, clock)?,
        };
        super::say(&text);
        Ok(0)
    }

    /// What the answer hangs on.
    fn key(&self, config: &Config, opened: &Store) -> Result<String> {
        let same = Config {
            out: PathBuf::new(),
            threads: 0,
            memory_bytes: 0,
            batch_rows: 0,
            force: false,
            ..config.clone()
        };
        let tables = inputs::digests_of_tables(config)?;
        let catalogue = &opened.catalogue;
        let version = env!("CARGO_PKG_VERSION");
        Ok(digest_of_text(&format!("{version}\n{same:?}\n{tables:?}\n{catalogue:?}")))
    }

    fn answer(&self, config: &mut Config, opened: &Store, cached: PathBuf) -> Result<Place> {
        let watch = Arc::new(Watch::default());
        interrupt::install(&watch);
        // What passes stands where the store's own does, as nobody else may see it.
        let passing = || format!("{}-{}", cached.display(), std::process::id()).into();
        let folder: PathBuf = if self.no_cache { passing() } else { cached.clone() };
        config.out = folder.clone();
        let staging = Staging::new(Kind::Answer, &folder, true)?;
        let progress = Progress::start(self.job.progress, &watch);
        let night = Night::compute(config, Some(opened), &staging, &watch)?;
        drop(progress);
        for warning in
            night.circumstances.warnings.iter().filter(|warning| !warning.starts_with("no candidates"))
        {
            super::warn(warning, self.job.log_format);
        }
        if self.no_cache {
            return Ok(Place::Passing(staging));
        }
        staging.commit()?;
        Ok(Place::Kept(folder))
    }

    /// The rows of a table of the answer that are of the case, as JSON, with their persons.
    fn rows(&self, folder: &Path, table: &str) -> Result<Vec<Value>> {
        let mut rows = Vec::new();
        for batch in read_back::table(folder, table)? {
            for row in 0..batch.num_rows() {
                let mut value = row_value(&batch, row);
                if value["case_id"] == json!(self.case_id) {
                    value["person_id"] = person(&batch, row)?;
                    rows.push(value);
                }
            }
        }
        Ok(rows)
    }

    fn evidence(&self, folder: &Path) -> Result<Value> {
        let mut exposures = self.rows(folder, "exposures.parquet")?;
        let candidates = self.rows(folder, "candidates.parquet")?;
        for exposure in &mut exposures {
            let is_candidate = candidates.iter().any(|row| row["person_id"] == exposure["person_id"]);
            exposure["is_candidate"] = json!(is_candidate);
        }
        exposures.sort_by_key(|row| std::cmp::Reverse(row["direct_s"].as_i64()));
        let cases = self.rows(folder, "cases.parquet")?;
        Ok(json!({ "case": cases.first(), "exposures": exposures }))
    }

    fn as_text(&self, config: &Config, folder: &Path, was_kept: bool, clock: Instant) -> Result<String> {
        let evidence = self.evidence(folder)?;
        let zone = config.zone();
        let case = &evidence["case"];
        let none = Vec::new();
        let exposures = evidence["exposures"].as_array().unwrap_or(&none);
        let candidates = exposures.iter().filter(|row| row["is_candidate"] == json!(true)).count();
        let mut text = format!(
            "{}: {}\ncase {}, infectious from {} to {}; rule {}, as of {} ({})\n{} exposure(s), {candidates} of them candidate(s) by this case alone; {} in {:.3} s\n",
            config.name,
            config.purpose,
            self.case_id,
            at(&case["infectious_from"], zone),
            at(&case["infectious_to"], zone),
            config.rule,
            local_text(config.as_of, zone),
            zone.name(),
            exposures.len(),
            if was_kept { "kept from an earlier question, found" } else { "answered from the store" },
            clock.elapsed().as_secs_f64(),
        );
        if !exposures.is_empty() {
            text.push_str(&format!(
                "\n{:<38} {:<10} {:>9} {:>11} {:>9} {:>9}  {:<25} {:<25} by\n",
                "person_id", "", "direct_s", "confirmed_s", "longest_s", "nearest", "first", "last"
            ));
        }
        for row in exposures {
            let what = match (row["is_candidate"] == json!(true), row["person_is_case"] == json!(true)) {
                (true, _) => "candidate",
                (false, true) => "a case",
                (false, false) => "",
            };
            text.push_str(&format!(
                "{:<38} {:<10} {:>9} {:>11} {:>9} {:>9}  {:<25} {:<25} {}\n",
                row["person_id"].as_str().map_or_else(|| row["person_id"].to_string(), str::to_string),
                what,
                row["direct_s"].to_string(),
                row["confirmed_s"].to_string(),
                row["longest_s"].to_string(),
                row["distance_m_min"].as_f64().map_or("-".to_string(), |m| format!("{m:.1} m")),
                at(&row["first_at"], zone),
                at(&row["last_at"], zone),
                row["sources"].as_str().unwrap_or_default(),
            ));
        }
        Ok(text)
    }
}

fn at(value: &Value, zone: Tz) -> String {
    match value.as_str().and_then(parse) {
        Some(crate::time::Written::Instant(at)) => local_text(at, zone),
        _ => "unknown".to_string(),
    }
}

/// Whose a row is, as written in the files; binary in hexadecimal.
fn person(batch: &RecordBatch, row: usize) -> Result<Value> {
    let column = batch.column_by_name("person_id");
    let kind = column.and_then(|column| PersonType::of(column.data_type()));
    Ok(match (column, kind) {
        (Some(column), Some(PersonType::Binary)) => {
            let plain = arrow::compute::cast(column, &arrow::datatypes::DataType::Binary);
            let bytes =
                plain.ok().map(|plain| plain.as_binary::<i32>().value(row).to_vec()).unwrap_or_default();
            json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        (Some(column), Some(_)) => super::explain::cell(column.as_ref(), row),
        _ => Value::Null,
    })
}
