//! A candidate: a person whose exposures pass the rule; to be reviewed by people, then notified.

use crate::dose::risk;
use crate::exposure::Exposure;
use crate::rule::CandidateRule;
use crate::time::Millis;

/// One row of the candidates table, without its person.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Cases whose exposure passes, or, under `across_cases`, that all exposures together are to.
    pub case_count: u64,
    /// The case of the strongest passing exposure.
    pub case: u32,
    /// That exposure's direct time, or that of all together.
    pub direct_ms: Millis,
    /// That exposure's confirmed time, or that of all together.
    pub confirmed_ms: Millis,
    /// Its expected time, or that of all together; no number where the rule does not weigh it.
    pub expected_ms: f64,
    /// Its dose in hours, likewise.
    pub dose_h: f64,
    /// Start of the first encounter of all passing exposures.
    pub first_at: Millis,
    /// End of the last encounter of all passing exposures.
    pub last_at: Millis,
    /// Encounters of all passing exposures.
    pub evidence_count: u64,
}

/// Whether an exposure reaches every threshold that is set, and its person is no case.
pub fn passes(exposure: &Exposure, rule: &CandidateRule) -> bool {
    exposure.is_resident && passes_by_itself(exposure, rule)
}

/// The same but for how long anybody dwells there.
pub fn passes_by_itself(exposure: &Exposure, rule: &CandidateRule) -> bool {
    let reaches = |value: Millis, least: Option<Millis>| least.is_none_or(|least| value >= least);
    !exposure.person_is_case
        && exposure.direct_ms >= rule.direct_ms_min
        && reaches(exposure.confirmed_ms, rule.confirmed_ms_min)
        && reaches(exposure.longest_ms, rule.longest_ms_min)
        && reaches(exposure.peak_24h_ms, rule.peak_24h_ms_min)
        && rule.expected_ms_min.is_none_or(|least| exposure.expected_ms >= least as f64)
        && rule.risk_min.is_none_or(|least| risk(exposure.dose_h) >= least)
}

/// The candidate that a person's exposures make, if any of them passes, or, under `across_cases`, if
/// `together`, all of them as one, passes: then each counts. Exposures come in the order of their cases; the
/// strongest has the largest direct time, then the smallest case_id.
pub fn candidate(
    exposures: &[Exposure],
    together: Option<&Exposure>,
    rule: &CandidateRule,
) -> Option<Candidate> {
    if together.is_some_and(|all| !passes(all, rule)) {
        return None;
    }
    let mut candidate: Option<Candidate> = None;
    for exposure in exposures.iter().filter(|e| together.is_some() || passes(e, rule)) {
        let row = candidate.get_or_insert(Candidate {
            case_count: 0,
            case: exposure.case,
            direct_ms: exposure.direct_ms,
            confirmed_ms: exposure.confirmed_ms,
            expected_ms: exposure.expected_ms,
            dose_h: exposure.dose_h,
            first_at: exposure.first_at,
            last_at: exposure.last_at,
            evidence_count: 0,
        });
        row.case_count += 1;
        row.evidence_count += exposure.encounter_count;
        row.first_at = row.first_at.min(exposure.first_at);
        row.last_at = row.last_at.max(exposure.last_at);
        if exposure.direct_ms > row.direct_ms {
            row.case = exposure.case;
            row.take_figures(exposure);
        }
    }
    if let (Some(row), Some(all)) = (&mut candidate, together) {
        row.take_figures(all);
    }
    candidate
}

impl Candidate {
    fn take_figures(&mut self, exposure: &Exposure) {
        (self.direct_ms, self.confirmed_ms) = (exposure.direct_ms, exposure.confirmed_ms);
        (self.expected_ms, self.dose_h) = (exposure.expected_ms, exposure.dose_h);
    }
}
