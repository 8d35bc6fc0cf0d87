//! `[rule]` and its tables, laid over a preset.

use super::inputs::millis;
use super::section::{Section, same_value};
use super::{AreaConfig, FeedConfig};
use crate::error::{Error, Problem, Result};
use crate::place::PlaceRule;
use crate::rule::infectiousness::{Infectiousness, PUBLISHED};
use crate::rule::preset::PRESETS;
use crate::rule::{
    CandidateRule, EncounterRule, ExposureRule, Motion, RISK_DISTANCE_M, Resident, ResidentOf, ResidentScope,
    Rule, SettingWeights,
};
use crate::time::{DAY_MS, Edge, Millis, Tz, parse, utc_text};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// Default of `contradiction_m`: farther than anybody walks while a stay holds, so that only what cannot be is left out.
const CONTRADICTION_M: f64 = 2_000.0;
/// Default of `probability_min`.
const PROBABILITY_MIN: f64 = 0.01;

/// The rule in force: the job's keys over its preset's.
///
/// `set` names the keys that the command line changed: they count as changes of the job's own rule.
pub fn rule(root: &Section<'_>, set: &[String], as_of: Millis, zone: Option<Tz>) -> Result<Rule> {
    let own = root.section("rule")?;
    let Some(preset) = own.text("preset")? else {
        let changed = set.iter().filter_map(|s| s.split('=').next()?.trim().strip_prefix("rule."));
        return read(&own, as_of, zone, changed.map(str::to_string).collect());
    };
    let text = preset_text(&own, preset)?;
    let base: Table = text.parse().map_err(|e: toml::de::Error| {
        Error::Job(Problem::new(
            format!("preset {preset}"),
            "a rule file",
            e.message().to_string(),
            "reinstall copresence",
        ))
    })?;
    let mut merged = match base.get("rule") {
        Some(Value::Table(rule)) => rule.clone(),
        _ => Table::new(),
    };
    let mut changed = Vec::new();
    for key in own.keys().filter(|key| *key != "preset") {
        if let Some(value) = own.raw(key) {
            lay_over(&mut merged, key, value, key, &mut changed);
        }
    }
    let merged_section = root.sibling("rule", Some(&merged));
    read(&merged_section, as_of, zone, changed)
}

fn preset_text(section: &Section<'_>, preset: &str) -> Result<&'static str> {
    if let Some((_, text)) = PRESETS.iter().find(|(name, _)| *name == preset) {
        return Ok(text);
    }
    let names = PRESETS.map(|(name, _)| name);
    let expected = format!("one of {}", names.join(", "));
    let cure = match crate::error::nearest(preset, names) {
        Some(name) => format!("did you mean \"{name}\"?"),
        None => "take one of these, or give the rule a name and a version of its own".to_string(),
    };
    Err(section.problem("preset", expected, format!("unknown preset \"{preset}\""), cure))
}

fn lay_over(base: &mut Table, key: &str, value: &Value, path: &str, changed: &mut Vec<String>) {
    match (base.get_mut(key), value) {
        (Some(Value::Table(inner)), Value::Table(over)) => {
            for (key, value) in over {
                lay_over(inner, key, value, &format!("{path}.{key}"), changed);
            }
        }
        (Some(old), new) if same_value(old, new) => {}
        _ => {
            base.insert(key.to_string(), value.clone());
            changed.push(path.to_string());
        }
    }
}

fn read(section: &Section<'_>, as_of: Millis, zone: Option<Tz>, changed: Vec<String>) -> Result<Rule> {
    section.get("preset");
    let name = section.required(
        "name",
        "a preset, or a name and a version for this rule: every output says by which rule it came",
    )?;
    let version = match section.get("version") {
        Some(Value::Integer(version)) => version.to_string(),
        _ => section
            .required("version", "the rule's version, so that results of two versions can be told apart")?
            .to_string(),
    };
    let days = |key, default: f64| -> Result<Millis> {
        let days = section.number(key, "days")?.unwrap_or(default);
        if days > 36_525.0 {
            return Err(section.problem(
                key,
                "at most a century of days",
                days.to_string(),
                "check the unit: it is days",
            ));
        }
        Ok((days * DAY_MS as f64).round() as Millis)
    };
    let lookback_ms = days("lookback_days", 14.0)?;
    if lookback_ms == 0 {
        return Err(section.problem("lookback_days", "a number of days above 0", "0", "14 is usual"));
    }
    let notice_ms = days("notice_days", 7.0)?;
    in_force(section, as_of, zone)?;
    let (encounter, stay_ms_by_kind) = encounter_rule(&section.section("encounter")?)?;
    let exposure = exposure_rule(&section.section("exposure")?)?;
    let candidate = candidate_rule(&section.section("candidate")?, &encounter.place)?;
    let safeguards = section.section("safeguards")?;
    for key in ["candidates_per_case_max", "population_share_max"] {
        safeguards.refuse(key, None)?;
    }
    rows_share_min(&safeguards)?;
    safeguards.check()?;
    section.check()?;
    Ok(Rule {
        name: name.to_string(),
        version,
        changed,
        lookback_ms,
        notice_ms,
        encounter,
        stay_ms_by_kind,
        exposure,
        candidate,
    })
}

/// A rule is refused before it takes effect and after it expired.
/// The least share of the usual rows that a night has to have.
fn rows_share_min(safeguards: &Section<'_>) -> Result<Option<f64>> {
    let share = safeguards.number("rows_share_min", "shares, 0 to 1")?;
    if share.is_some_and(|share| share > 1.0) {
        let found = share.unwrap_or_default().to_string();
        return Err(safeguards.problem("rows_share_min", "a share, 0 to 1", found, "half is 0.5"));
    }
    Ok(share)
}

/// The same, of a job.
pub(super) fn rows_share_min_of(root: &Section<'_>) -> Result<Option<f64>> {
    rows_share_min(&root.section("rule")?.section("safeguards")?)
}

fn in_force(section: &Section<'_>, as_of: Millis, zone: Option<Tz>) -> Result<()> {
    for (key, edge) in [("effective_from", Edge::Start), ("expires_on", Edge::End)] {
        let text = match section.get(key) {
            None => continue,
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let at =
            parse(&text).and_then(|w| w.instant(edge, zone.or(Some(Tz::UTC))).ok()).ok_or_else(|| {
                section.problem(key, "a day such as \"2022-03-22\"", format!("\"{text}\""), "write the day")
            })?;
        let refused = if edge == Edge::Start { as_of < at } else { as_of > at };
        if refused {
            return Err(section.problem(
                key,
                "a rule in force at as_of",
                format!("{key} = {text}, as_of = {}", utc_text(as_of)),
                "have the rule reviewed and give it a new version",
            ));
        }
    }
    Ok(())
}

fn encounter_rule(section: &Section<'_>) -> Result<(EncounterRule, BTreeMap<String, Millis>)> {
    let place = section.text("place")?.unwrap_or("distance");
    let square_m = section.number("square_m", "metres")?.unwrap_or(800.0);
    let resolution = section.number("resolution", "H3 resolutions, 0 to 15")?.unwrap_or(8.0);
    let probability_min = section.number("probability_min", "probabilities, above 0 to 1")?;
    let distance_m_max = section.number("distance_m_max", "metres")?.unwrap_or(50.0);
    let place = match place {
        "grid" if (1.0..=1e6).contains(&square_m) => PlaceRule::Grid { square_m },
        "grid" => {
            return Err(section.problem(
                "square_m",
                "a side of 1 to 1,000,000 metres",
                square_m.to_string(),
                "800 is the published rule's",
            ));
        }
        "cell" if resolution <= 15.0 && resolution.fract() == 0.0 => {
            PlaceRule::Cell { resolution: resolution as u8 }
        }
        "cell" => {
            return Err(section.problem(
                "resolution",
                "a whole H3 resolution, 0 to 15",
                resolution.to_string(),
                "8 is about 500 m, 10 about 70 m",
            ));
        }
        "distance" => PlaceRule::Distance { distance_m_max },
        "probability" => {
            let probability_min = probability_min.unwrap_or(PROBABILITY_MIN);
            if !(probability_min > 0.0 && probability_min <= 1.0) {
                return Err(section.problem(
                    "probability_min",
                    "a probability, above 0 and at most 1",
                    probability_min.to_string(),
                    "0.01 is the default: one in a hundred such pairs was as near",
                ));
            }
            if distance_m_max == 0.0 {
                return Err(section.problem(
                    "distance_m_max",
                    "metres above 0 with place = \"probability\"",
                    "0",
                    "uncertain positions are never the very same: 50 is the default",
                ));
            }
            PlaceRule::Probability { distance_m_max, probability_min }
        }
        _ => {
            let all = [("grid", ()), ("cell", ()), ("distance", ()), ("probability", ())];
            section.choice("place", &all)?;
            PlaceRule::Distance { distance_m_max }
        }
    };
    let lag_s = section.number("lag_s_max", "seconds")?.unwrap_or(0.0);
    let rule = EncounterRule {
        place,
        cross_source: section.boolean("cross_source")?.unwrap_or(false),
        lag_ms: millis(section, "lag_s_max", lag_s)?,
        contradiction_m: section.number("contradiction_m", "metres")?.unwrap_or(CONTRADICTION_M),
    };
    let mut stay_ms_by_kind = BTreeMap::new();
    for (kind, seconds) in numbers_by_name(&section.section("stay_s_by_kind")?, "seconds")? {
        stay_ms_by_kind.insert(kind, millis(section, "stay_s_by_kind", seconds)?);
    }
    section.check()?;
    Ok((rule, stay_ms_by_kind))
}

fn exposure_rule(section: &Section<'_>) -> Result<ExposureRule> {
    let gap_s = section.number("merge_gap_s_max", "seconds")?.unwrap_or(0.0);
    let half_life_s = section.number("lag_half_life_s", "seconds")?;
    if half_life_s == Some(0.0) {
        return Err(section.problem(
            "lag_half_life_s",
            "seconds above 0",
            "0",
            "leave it out: without it indirect time adds no dose",
        ));
    }
    let rule = ExposureRule {
        merge_gap_ms: millis(section, "merge_gap_s_max", gap_s)?,
        risk_distance_m: section.number("risk_distance_m", "metres")?.unwrap_or(RISK_DISTANCE_M),
        infectiousness: infectiousness(section)?,
        setting_weights: setting_weights(&section.section("setting_weights")?)?,
        lag_half_life_ms: half_life_s.map(|s| millis(section, "lag_half_life_s", s)).transpose()?,
    };
    section.check()?;
    Ok(rule)
}

/// `"flat"`, the name of the published curve, or a table of its own.
fn infectiousness(section: &Section<'_>) -> Result<Option<Infectiousness>> {
    if let Some(Value::String(_)) = section.get("infectiousness") {
        let is_flat = section.choice("infectiousness", &[("flat", true), (PUBLISHED, false)])?;
        return Ok((is_flat == Some(false)).then(Infectiousness::published));
    }
    let curve = section.section("infectiousness")?;
    if !curve.is_there() {
        return Ok(None);
    }
    let first_day = match curve.get("first_day") {
        Some(Value::Integer(day)) if (-100..=100).contains(day) => *day,
        found => {
            return Err(curve.problem(
                "first_day",
                "the day from onset of the first weight, -100 to 100",
                found.map_or("nothing".to_string(), Value::to_string),
                "write first_day = -3 for a curve that begins three days before onset",
            ));
        }
    };
    let number = |value: &Value| value.as_float().or(value.as_integer().map(|i| i as f64));
    let weights: Option<Vec<f64>> = match curve.get("weights") {
        Some(Value::Array(weights)) if !weights.is_empty() && weights.len() <= 366 => weights
            .iter()
            .map(|value| number(value).filter(|weight| (0.0..f64::INFINITY).contains(weight)))
            .collect(),
        _ => None,
    };
    let Some(weights) = weights else {
        return Err(curve.problem(
            "weights",
            "a weight of 0 or more for each day, 366 at most",
            curve.raw("weights").map_or("nothing".to_string(), Value::to_string),
            "write weights = [0.4, 1, 0.7]; days without a weight count 0",
        ));
    };
    curve.check()?;
    Ok(Some(Infectiousness { first_day, weights }))
}

fn setting_weights(section: &Section<'_>) -> Result<SettingWeights> {
    let weight = |key| section.number(key, "weights, 0 or more");
    let kinds = numbers_by_name(&section.section("kinds")?, "weights")?;
    let weights = SettingWeights { indoor: weight("indoor")?, outdoor: weight("outdoor")?, kinds };
    section.check()?;
    Ok(weights)
}

/// A table of numbers under names of one's own.
fn numbers_by_name(section: &Section<'_>, what: &str) -> Result<BTreeMap<String, f64>> {
    let number = |key: &String| {
        let value = section.raw(key);
        let number = value.and_then(|v| v.as_float().or(v.as_integer().map(|i| i as f64)));
        match number.filter(|number| (0.0..f64::INFINITY).contains(number)) {
            Some(number) => Ok((key.clone(), number)),
            None => Err(section.problem(
                key,
                format!("{what}: a number of 0 or more"),
                value.map_or(String::new(), Value::to_string),
                "write one, or remove the key",
            )),
        }
    };
    section.keys().map(number).collect()
}

/// Thresholds of expected time and risk need `place = "probability"`.
fn candidate_rule(section: &Section<'_>, place: &PlaceRule) -> Result<CandidateRule> {
    let threshold = |key| -> Result<Option<Millis>> {
        section.number(key, "seconds")?.map(|s| millis(section, key, s)).transpose()
    };
    let rule = CandidateRule {
        direct_ms_min: threshold("direct_s_min")?.unwrap_or(600_000),
        confirmed_ms_min: threshold("confirmed_s_min")?,
        longest_ms_min: threshold("longest_s_min")?,
        peak_24h_ms_min: threshold("peak_24h_s_min")?,
        expected_ms_min: threshold("expected_s_min")?,
        risk_min: risk_min(section)?,
        resident: resident(section, place)?,
        dwell_ms_min: threshold("dwell_s_min")?,
        across_cases: section.boolean("across_cases")?.unwrap_or(false),
    };
    if rule.dwell_ms_min == Some(0) {
        return Err(section.problem(
            "dwell_s_min",
            "seconds above 0",
            "0",
            "write how long somebody has to dwell in a risk area whose listing does not say: 14400 is four hours",
        ));
    }
    for (key, is_set) in
        [("expected_s_min", rule.expected_ms_min.is_some()), ("risk_min", rule.risk_min.is_some())]
    {
        if is_set && !place.is_uncertain() {
            return Err(section.problem(
                key,
                "place = \"probability\" with this threshold",
                "a rule that takes positions for exact, and knows no probability",
                "take rule.encounter.place = \"probability\", or direct_s_min",
            ));
        }
    }
    section.check()?;
    Ok(rule)
}

/// A risk that can be reached.
fn risk_min(section: &Section<'_>) -> Result<Option<f64>> {
    let least = section.number("risk_min", "probabilities, 0 to 1")?;
    match least {
        Some(risk) if risk > 1.0 => Err(section.problem(
            "risk_min",
            "a probability, 0 to 1",
            risk.to_string(),
            "write 1% as 0.01: no risk is above 1",
        )),
        _ => Ok(least),
    }
}

fn resident(section: &Section<'_>, place: &PlaceRule) -> Result<Option<Resident>> {
    let hours = section.number("resident_h_min", "hours")?;
    let of = [ResidentOf::Person, ResidentOf::Case, ResidentOf::Either].map(|of| (of.name(), of));
    let of = section.choice("resident_of", &of)?.unwrap_or(ResidentOf::Either);
    let scopes = [ResidentScope::Any, ResidentScope::Area, ResidentScope::Place];
    let scopes = scopes.map(|scope| (scope.name(), scope));
    let scope = section.choice("resident_scope", &scopes)?.unwrap_or(ResidentScope::Place);
    let Some(hours) = hours else { return Ok(None) };
    if scope == ResidentScope::Place && place.metres().is_some() {
        return Err(section.problem(
            "resident_scope",
            "place = \"grid\" or \"cell\" with a dwell in the squares of the exposure",
            "a rule of metres, whose exposures are in no square",
            "take resident_scope = \"any\", or rule.encounter.place = \"grid\"",
        ));
    }
    Ok(Some(Resident { ms_min: millis(section, "resident_h_min", hours * 3_600.0)?, of, scope }))
}

/// A dwell in the job's area needs one.
pub fn check_area(root: &Section<'_>, area: Option<&AreaConfig>, rule: &Rule) -> Result<()> {
    let wants = rule.candidate.resident.is_some_and(|resident| resident.scope == ResidentScope::Area);
    if !wants || area.is_some() {
        return Ok(());
    }
    Err(root.sibling("rule.candidate", None).problem(
        "resident_scope",
        "job.area with resident_scope = \"area\": the polygons in which a dwell counts",
        "no area",
        "add area = \"city.geojson\" to [job]; or take resident_scope = \"any\"",
    ))
}

/// Even motion is defined in metres and without a lag.
pub fn check_motion(root: &Section<'_>, feeds: &[FeedConfig], rule: &Rule) -> Result<()> {
    let Some(feed) = feeds.iter().find(|f| f.stay.motion == Motion::Linear) else { return Ok(()) };
    let at = root.sibling(&feed.label, None);
    if !matches!(rule.encounter.place, PlaceRule::Distance { .. }) {
        return Err(at.problem(
            "motion",
            "place = \"distance\" with motion = \"linear\"",
            "a rule whose place is a square or a cell",
            "take motion = \"hold\", or rule.encounter.place = \"distance\"",
        ));
    }
    if rule.encounter.lag_ms > 0 {
        return Err(at.problem(
            "motion",
            "no lag with motion = \"linear\"",
            format!("rule.encounter.lag_s_max = {}", rule.encounter.lag_ms / 1_000),
            "take motion = \"hold\", or lag_s_max = 0",
        ));
    }
    Ok(())
}
