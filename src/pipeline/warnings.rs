//! What an operator should know of a run that went through: absent data, and why an answer is empty.

use crate::answer::{Answer, CaseRow};
use crate::config::Config;
use crate::io::inputs::Inputs;
use crate::rule::Source;
use crate::time::{Millis, utc_text};

/// Cases that a warning names before it only counts.
const NAMED_MAX: usize = 20;

/// The warnings of a run.
pub fn warnings(config: &Config, inputs: &Inputs, answer: &Answer) -> Vec<String> {
    let mut warnings = of_inputs(config, inputs, answer);
    if let Some(controls) = answer.controls.filter(|c| c.persons > 0 && c.exposures + c.left_out_pairs == 0) {
        warnings.push(format!(
            "no control met anybody: moved by {} days their pings lie where nobody has any; with fewer days of pings set rule.lookback_days to as many",
            controls.rotated_days
        ));
    }
    if answer.counts.candidates == 0 {
        warnings.push(format!("no candidates: {}", likely_cause(config, inputs, answer)));
    }
    warnings
}

/// Those of them that say what was absent, whatever was found in the rest.
pub fn of_inputs(config: &Config, inputs: &Inputs, answer: &Answer) -> Vec<String> {
    let mut warnings = Vec::new();
    for (feed, survey) in inputs.feeds.iter().zip(&answer.survey.feeds) {
        let rows: u64 = feed.files.iter().map(|f| f.rows()).sum();
        let label = format!("{} ({} feed)", feed.config.label, feed.config.stay.source);
        if rows == 0 {
            warnings.push(format!("{label} has no rows"));
        } else if survey.rows_kept == 0 {
            let rejected = match survey.rejected_rows() {
                0 => String::new(),
                rows => format!(" that can be read; {rows} rows were rejected: see rejections.parquet"),
            };
            warnings.push(format!("{label} has no ping inside the lookback{rejected}"));
        }
        if survey.seatless > 0 {
            warnings.push(format!(
                "{label}: {} of {} trips do not say the coach, bay, row or cabin that the rule of their vehicle asks for: they are near nobody (copresence rules vehicles)",
                survey.seatless, survey.rows_kept
            ));
        }
    }
    if let Some(from) = inputs.kept_from.filter(|from| *from > config.lookback_start()) {
        warnings.push(format!(
            "the store keeps nothing before {}, but the lookback begins at {}: what happened in between is not seen",
            utc_text(from),
            utc_text(config.lookback_start())
        ));
    }
    for (label, _) in &inputs.place_inputs {
        let rejected = inputs.rejections.iter().filter(|r| r.feed == *label).count();
        if rejected > 0 {
            warnings.push(format!("rejected in {label}: {rejected}; see rejections.parquet"));
        }
    }
    let without = |wanted: &dyn Fn(&CaseRow) -> bool| -> Vec<&str> {
        // Of cases that nobody asked about nothing was read.
        let is_asked = |c: &&CaseRow| config.only_case.as_ref().is_none_or(|only| *only == c.case.case_id);
        answer.cases.iter().filter(is_asked).filter(|c| wanted(c)).map(|c| c.case.case_id.as_str()).collect()
    };
    let silent = without(&|c| !c.has_pings);
    if !silent.is_empty() {
        warnings.push(format!(
            "{} without any ping of the person in the lookback, so that nobody can be found by it: {}",
            cases(silent.len()),
            named(&silent)
        ));
    }
    let outside = without(&|c| c.has_pings && c.observed.iter().all(|o| o.stays == 0));
    if !outside.is_empty() {
        warnings.push(format!(
            "{} without a ping inside the infectious range: {}",
            cases(outside.len()),
            named(&outside)
        ));
    }
    if config.rule.candidate.dwell_ms_min.is_some() && config.risk_areas.is_none() {
        warnings.push(
            "the rule asks for a dwell in risk areas (dwell_s_min), and the job has none: add [risk_areas]"
                .into(),
        );
    }
    let is_placed = |source: Source| source != Source::Trip;
    if config.risk_areas.is_some() && !config.feeds.iter().any(|f| is_placed(f.stay.source)) {
        warnings.push("no feed has positions, so that nobody can dwell in a risk area".into());
    }
    warnings
}

fn cases(count: usize) -> String {
    if count == 1 { "1 case".into() } else { format!("{count} cases") }
}

fn named(ids: &[&str]) -> String {
    let shown = ids.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    match ids.len().saturating_sub(NAMED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Why nobody was found, as far as the counts tell.
fn likely_cause(config: &Config, inputs: &Inputs, answer: &Answer) -> String {
    let counts = &answer.counts;
    if answer.cases.is_empty() && config.cases.is_none() {
        return "nobody dwelt in a risk area, while it was listed, for as long as it asks; copresence check counts the people in each".into();
    }
    if answer.cases.is_empty() {
        return "the cases table has no usable row".into();
    }
    if counts.rows_kept == 0 {
        return match counts.rows_rejected {
            0 => "the feeds have no rows".into(),
            rejected => format!("all {rejected} rows were rejected: see rejections.parquet"),
        };
    }
    if answer.cases.iter().all(|c| !c.has_pings) {
        return "no case's person occurs in the feeds; is person_id written alike (prefix, leading zeros, the same pseudonyms)?".into();
    }
    if counts.case_stays == 0 {
        let range =
            answer.cases.iter().map(|c| (c.case.infectious_from, c.case.infectious_to)).reduce(widest);
        let span = answer.survey.feeds.iter().filter_map(|f| f.span).reduce(widest);
        return format!(
            "the cases' pings lie outside their infectious ranges ({}; pings: {}); are the dates, the time zone and time_unit right?",
            range.map_or(String::new(), span_text),
            span.map_or(String::new(), span_text)
        );
    }
    if counts.encounters == 0 {
        let observed = |s: &&Source| answer.cases.iter().any(|c| c.observed[**s as usize].stays > 0);
        let of_cases: Vec<&str> = Source::ALL.iter().filter(observed).map(|s| s.name()).collect();
        let mixed = inputs.feeds.len() > 1 && !config.rule.encounter.cross_source;
        let hint = if mixed { "; stays of different sources meet only with cross_source = true" } else { "" };
        return format!(
            "nobody else was at a case's place and time (cases were seen by {}); check the datum, the distance and the hold{hint}",
            of_cases.join(", ")
        );
    }
    let least = config.rule.candidate.direct_ms_min;
    if answer.cases.iter().map(|c| c.tally.exposures).sum::<u64>() > 0 && counts.direct_ms_max < least {
        return format!(
            "the longest direct exposure of anyone who is no case is {} s, direct_s_min is {} s",
            counts.direct_ms_max / 1_000,
            least / 1_000
        );
    }
    "exposures reach direct_s_min, but not every other threshold of the rule".into()
}

fn widest(a: (Millis, Millis), b: (Millis, Millis)) -> (Millis, Millis) {
    (a.0.min(b.0), a.1.max(b.1))
}

fn span_text((from, to): (Millis, Millis)) -> String {
    format!("{} to {}", utc_text(from), utc_text(to))
}
