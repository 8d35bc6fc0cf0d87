//! A candidate: a person with a reason to be reviewed by people, then notified.

use crate::dose::risk;
use crate::exposure::Exposure;
use crate::risk_area::Dwelt;
use crate::rule::CandidateRule;
use crate::time::Millis;

/// Why somebody is a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A dwell in a listed risk area.
    Area,
    /// An exposure that reaches every threshold that is set.
    Exposure,
    /// A seat near a case's on a trip, at once.
    Trip,
}

impl Reason {
    /// All of them, in the order of their names.
    pub const ALL: [Reason; 3] = [Reason::Area, Reason::Exposure, Reason::Trip];

    /// Its word in outputs.
    pub fn name(self) -> &'static str {
        ["area", "exposure", "trip"][self as usize]
    }

    /// Its bit in a set of reasons.
    pub fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// One row of the candidates table, without its person.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Why, a bit each ([`Reason::bit`]).
    pub reasons: u8,
    /// Cases whose exposure passes, or, under `across_cases`, that all exposures together are to.
    pub case_count: u64,
    /// The case of the strongest passing exposure, if any passes.
    pub case: Option<u32>,
    /// That exposure's direct time, or that of all together.
    pub direct_ms: Millis,
    /// That exposure's confirmed time, or that of all together.
    pub confirmed_ms: Millis,
    /// Its expected time, or that of all together; no number where the rule does not weigh it.
    pub expected_ms: f64,
    /// Its dose in hours, likewise.
    pub dose_h: f64,
    /// Start of the first encounter of all passing exposures, or of the first dwell.
    pub first_at: Millis,
    /// End of the last encounter of all passing exposures, or of the last dwell.
    pub last_at: Millis,
    /// Encounters of all passing exposures, and dwells.
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

/// Why an exposure makes its person a candidate, a bit each. Under `across_cases` the thresholds are for `together`,
/// all of the person's exposures as one.
pub fn reasons(exposure: &Exposure, together: Option<&Exposure>, rule: &CandidateRule) -> u8 {
    let by_thresholds = passes(together.unwrap_or(exposure), rule);
    let by_trip = exposure.by_trip && !exposure.person_is_case;
    let bit_if = |holds: bool, reason: Reason| if holds { reason.bit() } else { 0 };
    bit_if(by_thresholds, Reason::Exposure) | bit_if(by_trip, Reason::Trip)
}

/// Whether a person's exposures and dwells in risk areas are a reason to be a candidate.
pub fn is_candidate(
    exposures: &[Exposure],
    together: Option<&Exposure>,
    dwelt: &[Dwelt],
    rule: &CandidateRule,
) -> bool {
    !dwelt.is_empty() || exposures.iter().any(|exposure| reasons(exposure, together, rule) != 0)
}

/// The candidate that a person's exposures and dwells in risk areas make, if any of them is a reason. Exposures come in the
/// order of their cases; the strongest has the largest direct time, then the smallest case_id.
pub fn candidate(
    exposures: &[Exposure],
    together: Option<&Exposure>,
    dwelt: &[Dwelt],
    rule: &CandidateRule,
) -> Option<Candidate> {
    let mut candidate: Option<Candidate> = None;
    for exposure in exposures {
        let reasons = reasons(exposure, together, rule);
        if reasons == 0 {
            continue;
        }
        let row = candidate.get_or_insert(Candidate::from_exposure(exposure));
        row.reasons |= reasons;
        row.case_count += 1;
        row.evidence_count += exposure.encounter_count;
        row.first_at = row.first_at.min(exposure.first_at);
        row.last_at = row.last_at.max(exposure.last_at);
        if exposure.direct_ms > row.direct_ms {
            row.case = Some(exposure.case);
            row.take_figures(exposure);
        }
    }
    if let (Some(row), Some(all)) = (&mut candidate, together)
        && passes(all, rule)
    {
        row.take_figures(all);
    }
    for dwelt in dwelt {
        let row = candidate.get_or_insert(Candidate::from_dwelt(dwelt));
        row.reasons |= Reason::Area.bit();
        row.evidence_count += 1;
        row.first_at = row.first_at.min(dwelt.first_at);
        row.last_at = row.last_at.max(dwelt.last_at);
    }
    candidate
}

impl Candidate {
    /// By this exposure, of which nothing is counted yet.
    fn from_exposure(exposure: &Exposure) -> Self {
        Candidate {
            reasons: 0,
            case_count: 0,
            case: Some(exposure.case),
            direct_ms: exposure.direct_ms,
            confirmed_ms: exposure.confirmed_ms,
            expected_ms: exposure.expected_ms,
            dose_h: exposure.dose_h,
            first_at: exposure.first_at,
            last_at: exposure.last_at,
            evidence_count: 0,
        }
    }

    /// By a dwell alone, of which nothing is counted yet.
    fn from_dwelt(dwelt: &Dwelt) -> Self {
        Candidate {
            reasons: 0,
            case_count: 0,
            case: None,
            direct_ms: 0,
            confirmed_ms: 0,
            expected_ms: f64::NAN,
            dose_h: f64::NAN,
            first_at: dwelt.first_at,
            last_at: dwelt.last_at,
            evidence_count: 0,
        }
    }

    fn take_figures(&mut self, exposure: &Exposure) {
        (self.direct_ms, self.confirmed_ms) = (exposure.direct_ms, exposure.confirmed_ms);
        (self.expected_ms, self.dose_h) = (exposure.expected_ms, exposure.dose_h);
    }
}
