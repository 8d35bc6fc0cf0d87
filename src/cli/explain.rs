//! `explain OUT --person ID`: the evidence about one person, as text or JSON.

use crate::error::{Error, Problem, Result};
use crate::io::read_back;
use crate::person::PersonId;
use crate::time::{Tz, local_text};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType, UInt64Type};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Show the evidence about one person in an output folder.
#[derive(Debug, Args)]
pub struct Explain {
    /// The output folder of a run.
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// The person, as person_id is written in the files; binary ids in hexadecimal.
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    person: String,
    /// How to write it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Explain {
    /// Reads the tables and says what they hold about the person.
    pub fn run(&self) -> Result<u8> {
        let manifest = self.manifest()?;
        let kind = read_back::person_type(&self.out, "exposures.parquet")?;
        let person = kind.and_then(|kind| kind.parse(&self.person)).ok_or_else(|| {
            Error::Job(Problem::new(
                "--person",
                match kind {
                    Some(kind) => format!("a person_id of kind {}, as in this output", kind.kind()),
                    None => "an output with person_id".to_string(),
                },
                "something else",
                "write it as it stands in the files",
            ))
        })?;
        let evidence = json!({
            "job": manifest["job"],
            "purpose": manifest["purpose"],
            "as_of": manifest["as_of"],
            "rule": manifest["rule"],
            "candidate": self.rows("candidates.parquet", &person)?.into_iter().next(),
            "exposures": self.rows("exposures.parquet", &person)?,
            "encounters": self.rows("encounters.parquet", &person)?,
            "dwells": if crate::io::storage::exists(&self.out.join("dwells.parquet")) {
                self.rows("dwells.parquet", &person)?
            } else {
                Vec::new()
            },
            "is_case": self.rows("cases.parquet", &person)?,
        });
        let text = match self.format {
            Format::Json => format!("{evidence:#}\n"),
            Format::Text => as_text(&evidence, &manifest),
        };
        super::say(&text);
        Ok(0)
    }

    fn manifest(&self) -> Result<Value> {
        let path = self.out.join("manifest.json");
        let problem = |found: String| {
            Error::Input(Problem::new(
                path.display().to_string(),
                "the manifest of a run",
                found,
                "give the folder that a run wrote",
            ))
        };
        let text = crate::io::storage::read_text(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => problem(e.to_string()),
            _ => crate::io::files::unreadable(&path.display().to_string(), &e),
        })?;
        match serde_json::from_str::<Value>(&text) {
            Ok(manifest) if manifest["copresence"].is_string() => Ok(manifest),
            Ok(_) => Err(problem("JSON that is no manifest of a run".into())),
            Err(e) => Err(problem(e.to_string())),
        }
    }

    fn rows(&self, name: &str, person: &PersonId) -> Result<Vec<Value>> {
        let batches = read_back::table(&self.out, name)?;
        let rows = read_back::rows_of(&batches, person)?;
        Ok(rows.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| row_value(batch, row))).collect())
    }
}

/// One row as JSON; the person's own id is left out, as whoever asks knows it.
pub(super) fn row_value(batch: &RecordBatch, row: usize) -> Value {
    let schema = batch.schema();
    let fields = schema.fields().iter().zip(batch.columns()).filter(|(f, _)| f.name() != "person_id");
    let cells = fields.map(|(field, column)| (field.name().clone(), cell(column.as_ref(), row)));
    Value::Object(cells.collect::<Map<_, _>>())
}

pub(super) fn cell(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Utf8 => json!(column.as_string::<i32>().value(row)),
        DataType::Int64 => json!(column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt64 => json!(column.as_primitive::<UInt64Type>().value(row)),
        DataType::Float64 => json!(column.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => json!(column.as_boolean().value(row)),
        kind if *kind == read_back::stamp_type() => {
            json!(crate::time::utc_text(column.as_primitive::<TimestampMillisecondType>().value(row)))
        }
        _ => Value::Null,
    }
}

/// What a rule that weighs makes of an exposure or a candidate.
fn weighed(row: &Value) -> String {
    match (row["expected_s"].as_i64(), row["risk"].as_f64()) {
        (Some(expected_s), Some(risk)) => format!(", expected {expected_s} s, risk {risk:.6}"),
        _ => String::new(),
    }
}

fn as_text(evidence: &Value, manifest: &Value) -> String {
    let zone: Tz = manifest["time_zone"].as_str().and_then(|z| z.parse().ok()).unwrap_or(Tz::UTC);
    let rule = &manifest["rule"];
    let at = |value: &Value| match value.as_str().and_then(crate::time::parse) {
        Some(crate::time::Written::Instant(at)) => local_text(at, zone),
        _ => "unknown".to_string(),
    };
    let word = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "unknown".to_string(),
        other => other.to_string(),
    };
    let mut text = format!(
        "{}: {}\nrule {}, as of {} ({})\n",
        word(&evidence["job"]),
        word(&evidence["purpose"]),
        word(&rule["rule"]),
        at(&evidence["as_of"]),
        zone.name()
    );
    match &evidence["candidate"] {
        Value::Null => text.push_str("\nNo candidate.\n"),
        c => text.push_str(&format!(
            "\nCandidate: code {}, {}, reason {}\n  {}\n  {} case(s), {} piece(s) of evidence from {} to {}\n  expires {}\n",
            word(&c["code"]),
            word(&c["status"]).replace('_', " "),
            word(&c["reason"]).replace(',', " and "),
            match c["case_id"].as_str() {
                None => "by no case".to_string(),
                Some(case) => format!(
                    "strongest with case {case}: direct {} s, of it confirmed {} s{}",
                    c["direct_s"],
                    c["confirmed_s"],
                    weighed(c)
                ),
            },
            c["case_count"],
            c["evidence_count"],
            at(&c["first_at"]),
            at(&c["last_at"]),
            at(&c["expires_at"])
        )),
    }
    for d in evidence["dwells"].as_array().into_iter().flatten() {
        text.push_str(&format!(
            "\nDwell of {} s in risk area {} ({}), from {} to {}; at least {} s while listed, {} to {}\n  report {}, {}\n",
            d["dwell_s"],
            word(&d["area_id"]),
            word(&d["level"]),
            at(&d["first_at"]),
            at(&d["last_at"]),
            d["dwell_s_min"],
            at(&d["valid_from"]),
            if d["valid_to"].is_null() { "now".to_string() } else { at(&d["valid_to"]) },
            word(&d["report_id"]),
            word(&d["authority"])
        ));
    }
    for case in evidence["is_case"].as_array().into_iter().flatten() {
        text.push_str(&format!(
            "\nThe person is case {} itself, infectious from {} to {}.\n",
            word(&case["case_id"]),
            at(&case["infectious_from"]),
            at(&case["infectious_to"])
        ));
    }
    let none = Vec::new();
    let encounters = evidence["encounters"].as_array().unwrap_or(&none);
    let exposures = evidence["exposures"].as_array().unwrap_or(&none);
    if exposures.is_empty() {
        text.push_str("\nNo exposure is kept in this output.\n");
    }
    for e in exposures {
        text.push_str(&format!(
            "\nExposure to case {} by {}\n  direct {} s (longest run {} s, most in 24 h {} s), confirmed {} s, indirect {} s{}\n  nearest {}, {} encounter(s) from {} to {}\n",
            word(&e["case_id"]),
            word(&e["sources"]),
            e["direct_s"],
            e["longest_s"],
            e["peak_24h_s"],
            e["confirmed_s"],
            e["indirect_s"],
            weighed(e),
            e["distance_m_min"].as_f64().map_or("not measured".to_string(), |m| format!("{m:.1} m")),
            e["encounter_count"],
            at(&e["first_at"]),
            at(&e["last_at"])
        ));
        let of_case: Vec<&Value> = encounters.iter().filter(|m| m["case_id"] == e["case_id"]).collect();
        if of_case.is_empty() {
            text.push_str("  its encounters are not kept in this output (run with --encounters all)\n");
        }
        for m in of_case {
            text.push_str(&format!(
                "  {} to {}  {:<8} {} with the case's {}{}{}{}, {}\n",
                at(&m["start"]),
                at(&m["end"]),
                word(&m["kind"]),
                word(&m["source"]),
                word(&m["case_source"]),
                m["place"].as_str().map_or(String::new(), |p| format!(" at {p}")),
                m["distance_m"].as_f64().map_or(String::new(), |d| format!(", {d:.1} m apart")),
                m["probability"].as_f64().map_or(String::new(), |p| format!(", together with P = {p:.4}")),
                if m["bracketed"] == json!(true) {
                    "confirmed throughout"
                } else {
                    "not confirmed throughout"
                }
            ));
        }
    }
    text
}
