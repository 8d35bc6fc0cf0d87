//! manifest.json: what went in, by which rule, what came of it; enough to see an incomplete night and to
//! repeat the run.

use super::files::{Input, digest, each_of};
use super::inputs::Inputs;
use super::output::Staging;
use super::results::Written;
use crate::answer::{Answer, FeedSurvey};
use crate::config::Config;
use crate::error::Result;
use crate::place::PlaceRule;
use crate::rule::{ExposureRule, Motion, Rule};
use crate::time::utc_text;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What the manifest adds to the answer.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// When the run began, ms UTC.
    pub started_at: crate::time::Millis,
    /// Seconds of the whole run up to here.
    pub seconds: f64,
    /// Peak resident memory, bytes, if the system tells.
    pub memory_peak_bytes: Option<u64>,
    /// What the run warned of.
    pub warnings: Vec<String>,
}

/// Writes the manifest beside the tables.
pub fn write(
    staging: &Staging,
    config: &Config,
    inputs: &Inputs,
    answer: &Answer,
    written: &[Written],
    circumstances: &Circumstances,
) -> Result<()> {
    let mut outputs = Map::new();
    for file in super::OUTPUT_FILES.iter().filter_map(|name| written.iter().find(|file| file.name == *name)) {
        outputs.insert(file.name.clone(), json!({ "bytes": file.bytes, "sha256": file.sha256 }));
    }
    let mut rejections: BTreeMap<&str, u64> = BTreeMap::new();
    for rejection in &answer.survey.rejections {
        *rejections.entry(rejection.reason).or_default() += 1;
    }
    let mut manifest = json!({
        "copresence": env!("CARGO_PKG_VERSION"),
        "schema_version": super::results::SCHEMA_VERSION,
        "job": config.name,
        "purpose": config.purpose,
        "as_of": utc_text(config.as_of),
        "lookback_from": utc_text(config.lookback_start()),
        "time_zone": config.zone().name(),
        "rule": rule(&config.rule),
        "feeds": feeds(config, inputs, answer)?,
        "places": files(inputs.place_inputs.iter().map(|(label, input)| (label.as_str(), input)))?,
        "areas": files(inputs.area_inputs.iter().map(|(label, input)| (label.as_str(), input)))?,
        "cases": files(inputs.cases.inputs.iter().map(|input| ("cases", input)))?,
        "counts": counts(answer),
        "rejections": rejections,
        "warnings": circumstances.warnings,
        "outputs": outputs,
        "started_at": utc_text(circumstances.started_at),
        "seconds": circumstances.seconds,
        "seconds_by_stage": answer.timings_s.iter().map(|(k, v)| ((*k).to_string(), json!(v))).collect::<Map<_, _>>(),
        "threads": config.threads,
        "memory_bytes": config.memory_bytes,
        "memory_peak_bytes": circumstances.memory_peak_bytes,
    });
    if let Some(controls) = &answer.controls {
        manifest["controls"] = json!(controls);
    }
    let text = format!("{manifest:#}\n");
    std::fs::write(staging.path("manifest.json"), text).map_err(|e| staging.failed("manifest.json", &e))
}

/// A rule with all its numbers, in the words of the job file.
pub fn rule(rule: &Rule) -> Value {
    let seconds = |ms: i64| json!(ms as f64 / 1_000.0);
    let optional = |ms: Option<i64>| ms.map_or(Value::Null, seconds);
    let mut encounter = match rule.encounter.place {
        PlaceRule::Grid { square_m } => json!({ "place": "grid", "square_m": square_m }),
        PlaceRule::Cell { resolution } => json!({ "place": "cell", "resolution": resolution }),
        PlaceRule::Distance { distance_m_max } => {
            json!({ "place": "distance", "distance_m_max": distance_m_max })
        }
        PlaceRule::Probability { distance_m_max, probability_min } => {
            json!({ "place": "probability", "distance_m_max": distance_m_max, "probability_min": probability_min })
        }
    };
    encounter["cross_source"] = json!(rule.encounter.cross_source);
    encounter["lag_s_max"] = seconds(rule.encounter.lag_ms);
    encounter["contradiction_m"] = json!(rule.encounter.contradiction_m);
    if !rule.stay_ms_by_kind.is_empty() {
        let by_kind = rule.stay_ms_by_kind.iter().map(|(kind, ms)| (kind.clone(), seconds(*ms)));
        encounter["stay_s_by_kind"] = Value::Object(by_kind.collect());
    }
    let mut exposure = json!({ "merge_gap_s_max": seconds(rule.exposure.merge_gap_ms) });
    if rule.encounter.place.is_uncertain() {
        let ExposureRule {
            risk_distance_m, infectiousness, setting_weights: weights, lag_half_life_ms, ..
        } = &rule.exposure;
        exposure["risk_distance_m"] = json!(risk_distance_m);
        exposure["infectiousness"] = infectiousness
            .as_ref()
            .map_or(json!("flat"), |curve| json!({ "first_day": curve.first_day, "weights": curve.weights }));
        exposure["setting_weights"] =
            json!({ "indoor": weights.indoor, "outdoor": weights.outdoor, "kinds": weights.kinds });
        exposure["lag_half_life_s"] = optional(*lag_half_life_ms);
    }
    json!({
        "rule": rule.to_string(),
        "name": rule.name,
        "version": rule.version,
        "changed": rule.changed,
        "lookback_days": rule.lookback_ms as f64 / crate::time::DAY_MS as f64,
        "notice_days": rule.notice_ms as f64 / crate::time::DAY_MS as f64,
        "encounter": encounter,
        "exposure": exposure,
        "candidate": {
            "direct_s_min": seconds(rule.candidate.direct_ms_min),
            "confirmed_s_min": optional(rule.candidate.confirmed_ms_min),
            "longest_s_min": optional(rule.candidate.longest_ms_min),
            "peak_24h_s_min": optional(rule.candidate.peak_24h_ms_min),
            "expected_s_min": optional(rule.candidate.expected_ms_min),
            "risk_min": rule.candidate.risk_min,
            "resident_h_min": optional(rule.candidate.resident.map(|r| r.ms_min / 3_600)),
            "resident_of": rule.candidate.resident.map(|r| r.of.name()),
            "resident_scope": rule.candidate.resident.map(|r| r.scope.name()),
            "dwell_s_min": optional(rule.candidate.dwell_ms_min),
            "across_cases": rule.candidate.across_cases,
        },
    })
}

fn feeds(config: &Config, inputs: &Inputs, answer: &Answer) -> Result<Vec<Value>> {
    let mut feeds = Vec::new();
    for (open, survey) in inputs.feeds.iter().zip(&answer.survey.feeds) {
        let mut list = Vec::new();
        let files: Vec<Input> = open.files.iter().map(|file| file.input.clone()).collect();
        let digests = each_of(&files, config.threads, &|input| digest(input, config.digest_full));
        for (file, digest) in open.files.iter().zip(digests) {
            let skipped = file.groups.iter().filter(|g| !inputs.decoder.wants(g)).count();
            list.push(json!({
                "file": file.input.name,
                "bytes": file.input.bytes,
                "sha256": digest?,
                "rows": file.rows(),
                "row_groups": file.groups.len(),
                "row_groups_skipped": skipped,
            }));
        }
        let stay = &open.config.stay;
        feeds.push(json!({
            "feed": open.config.label,
            "source": stay.source.name(),
            "path": open.config.path,
            "hold_s_max": stay.hold_ms as f64 / 1_000.0,
            "motion": match stay.motion { Motion::Hold => "hold", Motion::Linear => "linear" },
            "rows_read": survey.rows_read,
            "rows_kept": survey.rows_kept,
            "rows_rejected": survey.rejected_rows(),
            "rejections": survey.rejected,
            "rows_before_lookback": survey.before,
            "rows_after_as_of": survey.after,
            "earliest": survey.span.map(|s| utc_text(s.0)),
            "latest": survey.span.map(|s| utc_text(s.1)),
            "days": days(answer, survey),
            "files": list,
        }));
    }
    Ok(feeds)
}

fn days(answer: &Answer, survey: &FeedSurvey) -> Vec<Value> {
    let rows = answer.survey.days.iter().zip(&survey.by_day);
    rows.map(|((_, date), rows)| json!({ "day": date.to_string(), "rows": rows })).collect()
}

fn files<'a>(inputs: impl Iterator<Item = (&'a str, &'a Input)>) -> Result<Vec<Value>> {
    let mut list = Vec::new();
    for (label, input) in inputs {
        list.push(json!({
            "table": label,
            "file": input.name,
            "bytes": input.bytes,
            "sha256": digest(input, true)?,
        }));
    }
    Ok(list)
}

fn counts(answer: &Answer) -> Value {
    let mut counts = json!(answer.counts);
    counts["cases"] = json!(answer.cases.len());
    counts["cases_with_pings"] = json!(answer.cases.iter().filter(|c| c.has_pings).count());
    counts
}
