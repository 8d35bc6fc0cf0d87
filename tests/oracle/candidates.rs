//! Who becomes a candidate, and why.

use super::*;

/// "`resident_of` = person | case | either (either) and `resident_scope` = any | area | place (place): the union of
/// the track stays in the lookback, anywhere, [...], or (`grid`) in the squares of the exposure"
pub(super) fn is_resident(world: &World, person: &str, encounters: &[Encounter]) -> bool {
    let Some((least, of, scope)) = world.rule.weighing.resident else { return true };
    let mut squares: BTreeSet<String> = BTreeSet::new();
    for encounter in encounters {
        // Two scans meet by the venue's id, and so in its square, where it has a position; trips are in none.
        if encounter.source == Source::Venue && encounter.case_source == Source::Venue {
            let mut pings = world.feeds.iter().filter(|f| f.source == Source::Venue).flat_map(|f| &f.pings);
            let here = pings.find(|p| p.place_id == encounter.place && p.lat.is_some());
            let position = here.map(|p| Position { lat: p.lat.unwrap(), lon: wrapped(p.lon.unwrap()) });
            squares.extend(position.and_then(|position| square_or_cell(world, position)));
        } else if encounter.source != Source::Trip {
            squares.extend(encounter.place.clone());
        }
    }
    let dwells = |whose: &str| {
        if scope == "area" {
            let home = world.home.as_ref().expect("an area for the scope");
            return areas::dwell_in(home, &stays_of_person(world, whose)) >= least;
        }
        let mut ranges: Vec<Range> = Vec::new();
        for stay in stays_of_person(world, whose) {
            let square = stay.position.and_then(|position| square_or_cell(world, position));
            if scope == "any" || square.is_some_and(|square| squares.contains(&square)) {
                ranges.push(stay.range);
            }
        }
        length(&union(&ranges)) >= least
    };
    let case_dwells = || {
        let met = |case: &&Case| encounters.iter().any(|encounter| encounter.case_id == case.case_id);
        world.cases.iter().filter(met).any(|case| dwells(&case.person))
    };
    match of {
        "person" => dwells(person),
        "case" => case_dwells(),
        _ => dwells(person) || case_dwells(),
    }
}

fn square_or_cell(world: &World, position: Position) -> Option<String> {
    match world.rule.place {
        Place::Grid { square_m } => Some(square(position, square_m)),
        Place::Cell { resolution } => Some(cell(position, resolution)),
        _ => None,
    }
}

/// "A person who is no case of the job, with an exposure that reaches every threshold set in
/// `[rule.candidate]`"
pub(super) fn candidates(
    rule: &Rule,
    exposures: &[Exposure],
    together: &BTreeMap<String, Exposure>,
    residents: &BTreeMap<(String, String), bool>,
    by_trip: &BTreeSet<(String, String)>,
    dwells: &[Dwell],
) -> Vec<Candidate> {
    let mut reasons: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut passing: BTreeMap<&str, Vec<&Exposure>> = BTreeMap::new();
    for exposure in exposures {
        // "With `across_cases = true` the thresholds hold for the union over cases."
        let judged = if rule.across_cases { &together[&exposure.person] } else { exposure };
        let resident = residents[&(judged.person.clone(), judged.case_id.clone())];
        let by_exposure = resident && passes(rule, judged);
        // "Two more reasons make a candidate: `area` [...] and `trip` (the vehicle rules)"
        let by_trip = by_trip.contains(&(exposure.person.clone(), exposure.case_id.clone()));
        if !exposure.person_is_case && (by_exposure || by_trip) {
            passing.entry(&exposure.person).or_default().push(exposure);
            let why = reasons.entry(&exposure.person).or_default();
            if by_exposure {
                why.insert("exposure");
            }
            if by_trip {
                why.insert("trip");
            }
        }
    }
    let mut dwelt: BTreeMap<&str, Vec<&Dwell>> = BTreeMap::new();
    for dwell in dwells {
        reasons.entry(&dwell.person).or_default().insert("area");
        dwelt.entry(&dwell.person).or_default().push(dwell);
    }

    let mut candidates: Vec<Candidate> = Vec::new();
    for (person, why) in reasons {
        // "several reasons are sorted and joined by commas"
        let reason = why.into_iter().collect::<Vec<_>>().join(",");
        let of_person = passing.remove(person).unwrap_or_default();
        let of_areas = dwelt.remove(person).unwrap_or_default();
        let first_at = of_person.iter().map(|exposure| exposure.first_at);
        let first_at = first_at.chain(of_areas.iter().map(|dwell| dwell.first_at)).min().unwrap();
        let last_at = of_person.iter().map(|exposure| exposure.last_at);
        let last_at = last_at.chain(of_areas.iter().map(|dwell| dwell.last_at)).max().unwrap();
        if of_person.is_empty() {
            candidates.push(Candidate {
                person: person.to_string(),
                reason,
                case_count: 0,
                case_id: None,
                direct_ms: 0,
                confirmed_ms: 0,
                expected_ms: None,
                dose_h: None,
                first_at,
                last_at,
                expires_at: last_at + rule.notice_ms,
                evidence_count: of_areas.len() as u64,
            });
            continue;
        }
        // "The row's figures are those of its strongest passing exposure (largest direct_s, then
        // smallest case_id)"
        let mut strongest = of_person[0];
        for exposure in &of_person {
            let order = exposure.direct_ms.cmp(&strongest.direct_ms);
            if order == Ordering::Greater
                || (order == Ordering::Equal && exposure.case_id < strongest.case_id)
            {
                strongest = exposure;
            }
        }
        // "case_count, evidence_count, first_at and last_at span all passing exposures"
        // "... or of the union"
        let by_union = rule.across_cases && reason.contains("exposure");
        let figures = if by_union { &together[person] } else { strongest };
        candidates.push(Candidate {
            person: person.to_string(),
            reason,
            case_count: of_person.len() as u64,
            case_id: Some(strongest.case_id.clone()),
            direct_ms: figures.direct_ms,
            confirmed_ms: figures.confirmed_ms,
            expected_ms: figures.expected_ms,
            dose_h: figures.dose_h,
            first_at,
            last_at,
            // "expires_at is last_at plus notice_days"
            expires_at: last_at + rule.notice_ms,
            evidence_count: of_person.iter().map(|exposure| exposure.encounter_count).sum::<u64>()
                + of_areas.len() as u64,
        });
    }

    // "sorted by direct_s descending, then person_id"; "output columns ending in `_s` are whole
    // seconds, rounded down"
    candidates.sort_by(|a, b| (b.direct_ms / 1000).cmp(&(a.direct_ms / 1000)).then(a.person.cmp(&b.person)));
    candidates
}

/// "Durations are measured and compared in milliseconds"
pub(super) fn passes(rule: &Rule, exposure: &Exposure) -> bool {
    exposure.direct_ms >= rule.direct_ms_min
        && rule.confirmed_ms_min.is_none_or(|least| exposure.confirmed_ms >= least)
        && rule.longest_ms_min.is_none_or(|least| exposure.longest_ms >= least)
        && rule.peak_24h_ms_min.is_none_or(|least| exposure.peak_24h_ms >= least)
        && rule.weighing.expected_ms_min.is_none_or(|least| exposure.expected_ms >= Some(least as f64))
        // "risk = 1 - exp(-0.011 * dose_h)"
        && rule.weighing.risk_min.is_none_or(|least| 1.0 - (-0.011 * exposure.dose_h.unwrap()).exp() >= least)
}

pub(super) fn is_probability(rule: &Rule) -> bool {
    matches!(rule.place, Place::Probability { .. })
}
