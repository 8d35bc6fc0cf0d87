//! Contacts of 92, 217 and 403 people over days, as check-ins: the venue feed must give them back
//! to the second.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, RecordBatch};

use super::{Pair, Ranges, data, encounters, pairs, run_both_ways, total_ms, turned, write_cases};
use crate::support::{Sandbox, bools, column, i64s, read, text, text_array, time_array, times};

/// Time 0 of each set is laid on 2013-06-24T00:00Z, so that the sets' days of 86,400 s are days of
/// UTC.
const ZERO_MS: i64 = 1_372_032_000_000;
const DAY_MS: i64 = 86_400_000;

const JOB: &str = r#"
[job]
name = "sociopatterns"
purpose = "test against known contacts"
as_of = "2013-07-06T00:00:00Z"
time_zone = "UTC"
exposures = "all"
encounters = "all"

[[feeds]]
source = "venue"
path = "scans.parquet"

[cases]
path = "cases.csv"

[rule]
name = "sociopatterns"
version = "1"
lookback_days = 14

[rule.candidate]
direct_s_min = 900
"#;

#[test]
fn office_2013_gives_every_contact_back() {
    every_contact_comes_back("InVS13");
}

#[test]
fn office_2015_gives_every_contact_back() {
    every_contact_comes_back("InVS15");
}

#[test]
fn conference_gives_every_contact_back() {
    every_contact_comes_back("SFHH");
}

#[test]
fn office_2013_names_the_candidates_of_three_cases() {
    three_cases_find_their_candidates("InVS13");
}

#[test]
fn office_2015_names_the_candidates_of_three_cases() {
    three_cases_find_their_candidates("InVS15");
}

#[test]
fn conference_names_the_candidates_of_three_cases() {
    three_cases_find_their_candidates("SFHH");
}

/// Every person is a case, so each contact must show in both directions.
fn every_contact_comes_back(set: &str) {
    let sandbox = run(set, &text(&table(set, "venue_checkins"), "device_id").into_iter().collect());

    let known = known_encounters(set);
    let found = encounters(&sandbox);
    assert!(found.keys().eq(known.keys()), "{set}: other pairs than the known ones");
    for (pair, ranges) in &known {
        assert_eq!(found[pair], *ranges, "{set} {pair:?}");
    }
    exposures_add_up(&sandbox, set, &known);
    days_add_up(set, &found);
}

/// Each line of the exposures file against the set's own sums. No two encounters of a pair touch,
/// so its longest encounter is its longest run; both people check out, so every second is
/// confirmed.
fn exposures_add_up(sandbox: &Sandbox, set: &str, known: &Ranges) {
    let exposures = read(sandbox.path("out/exposures.parquet"));
    let found_pairs = pairs(&exposures, "person_id", "case_id");
    assert!(found_pairs.iter().eq(known.keys()), "{set}: other pairs than the known ones, or not sorted");
    assert!(bools(&exposures, "person_is_case").into_iter().all(|is_case| is_case));
    assert!(text(&exposures, "sources").iter().all(|sources| sources == "venue"));
    assert!(i64s(&exposures, "indirect_s").into_iter().all(|indirect_s| indirect_s == 0));
    for name in ["expected_s", "dose_h", "risk", "distance_m_min"] {
        assert_eq!(column(&exposures, name).null_count(), exposures.num_rows(), "{name} has no meaning here");
    }

    let sums = known_sums(set);
    let [count, direct, longest, confirmed, peak] =
        ["encounter_count", "direct_s", "longest_s", "confirmed_s", "peak_24h_s"]
            .map(|name| i64s(&exposures, name));
    let [first, last] = ["first_at", "last_at"].map(|name| times(&exposures, name));
    for (row, pair) in found_pairs.iter().enumerate() {
        let found = Sums {
            encounter_count: count[row],
            direct_s: direct[row],
            longest_s: longest[row],
            first_at: first[row],
            last_at: last[row],
        };
        assert_eq!(found, sums[pair], "{set} {pair:?}");
        assert_eq!(confirmed[row], direct[row], "{set} {pair:?}");
        assert_eq!(peak[row], peak_24h_ms(&known[pair]) / 1000, "{set} {pair:?}");
    }
}

/// The encounters cut at the set's days give its daily seconds, and from these its close contacts:
/// 900 s in one day.
fn days_add_up(set: &str, found: &Ranges) {
    let mut by_day: BTreeMap<(&Pair, i64), i64> = BTreeMap::new();
    for (pair, ranges) in found {
        for &(start, end) in ranges {
            let (mut start, end) = (start - ZERO_MS, end - ZERO_MS);
            while start < end {
                let day = start.div_euclid(DAY_MS);
                let stop = end.min((day + 1) * DAY_MS);
                *by_day.entry((pair, day)).or_default() += stop - start;
                start = stop;
            }
        }
    }

    let daily = table(set, "expected_daily");
    let (days, seconds) = (i64s(&daily, "day"), i64s(&daily, "seconds"));
    assert_eq!(by_day.len(), 2 * daily.num_rows(), "{set}: pairs and days, in both directions");
    for (row, pair) in pairs(&daily, "person_a", "person_b").iter().enumerate() {
        for pair in [pair, &turned(pair)] {
            assert_eq!(
                by_day[&(pair, days[row])],
                seconds[row] * 1000,
                "{set} {pair:?} on day {}",
                days[row]
            );
        }
    }

    let contacts = table(set, "expected_candidates");
    let (most, close) = (i64s(&contacts, "max_day_seconds"), bools(&contacts, "close_contact_15min_day"));
    for (row, pair) in pairs(&contacts, "contact", "index_case").iter().enumerate() {
        let days = by_day.range((pair, i64::MIN)..=(pair, i64::MAX));
        let most_s = days.map(|(_, ms)| ms / 1000).max().unwrap_or(0);
        assert_eq!((most_s, most_s >= 900), (most[row], close[row]), "{set} {pair:?}");
    }
}

/// With the set's three cases alone, whoever else was with one of them for 900 s is a candidate,
/// the strongest first.
fn three_cases_find_their_candidates(set: &str) {
    let contacts = table(set, "expected_candidates");
    let cases: BTreeSet<String> = text(&contacts, "index_case").into_iter().collect();
    assert_eq!(cases.len(), 3);
    let sandbox = run(set, &cases);

    let mut passing: BTreeMap<String, Vec<(String, Sums)>> = BTreeMap::new();
    for ((person, case), sums) in known_sums(set) {
        if cases.contains(&case) && !cases.contains(&person) && sums.direct_s >= 900 {
            passing.entry(person).or_default().push((case, sums));
        }
    }
    let mut expected: Vec<Candidate> = passing
        .into_iter()
        .map(|(person_id, exposures)| {
            // Cases come in ascending order, and the first of equals stays.
            let mut strongest = &exposures[0];
            for exposure in &exposures[1..] {
                if exposure.1.direct_s > strongest.1.direct_s {
                    strongest = exposure;
                }
            }
            Candidate {
                person_id,
                case_id: strongest.0.clone(),
                direct_s: strongest.1.direct_s,
                case_count: exposures.len() as i64,
                evidence_count: exposures.iter().map(|(_, sums)| sums.encounter_count).sum(),
                first_at: exposures.iter().map(|(_, sums)| sums.first_at).min().expect("an exposure"),
                last_at: exposures.iter().map(|(_, sums)| sums.last_at).max().expect("an exposure"),
            }
        })
        .collect();
    expected.sort_by(|one, other| {
        other.direct_s.cmp(&one.direct_s).then_with(|| one.person_id.cmp(&other.person_id))
    });
    assert!(!expected.is_empty());

    let found = read(sandbox.path("out/candidates.parquet"));
    assert_eq!(candidates(&found), expected, "{set}");
    assert_eq!(i64s(&found, "confirmed_s"), i64s(&found, "direct_s"), "{set}");
    assert!(text(&found, "code").iter().all(|code| code == "yellow"));
    assert!(text(&found, "status").iter().all(|status| status == "pending_review"));
    // A notice runs out a week after the last encounter unless the rule says otherwise.
    let week_later: Vec<i64> = times(&found, "last_at").iter().map(|at| at + 7 * DAY_MS).collect();
    assert_eq!(times(&found, "expires_at"), week_later, "{set}");
}

/// One line of the set's expected pairs, in the words of the exposures file.
#[derive(Clone, Debug, PartialEq)]
struct Sums {
    encounter_count: i64,
    direct_s: i64,
    longest_s: i64,
    first_at: i64,
    last_at: i64,
}

/// The columns of one candidate that follow from the set.
#[derive(Debug, PartialEq)]
struct Candidate {
    person_id: String,
    case_id: String,
    direct_s: i64,
    case_count: i64,
    evidence_count: i64,
    first_at: i64,
    last_at: i64,
}

/// Writes the set's check-ins as scans with a check-out, and runs the job over them.
fn run(set: &str, cases: &BTreeSet<String>) -> Sandbox {
    let sandbox = Sandbox::new();
    let checkins = table(set, "venue_checkins");
    let at = |name| time_array(i64s(&checkins, name).into_iter().map(|ms| ms + ZERO_MS));
    sandbox.write_parquet(
        "scans.parquet",
        vec![
            ("person_id", text_array(text(&checkins, "device_id"))),
            ("time", at("in_ms")),
            ("venue_id", text_array(text(&checkins, "venue_id"))),
            ("until", at("out_ms")),
        ],
    );
    write_cases(&sandbox, cases, "2013-06-24T00:00:00Z", "2013-07-06T00:00:00Z");
    sandbox.write("job.toml", JOB);
    run_both_ways(&sandbox);
    sandbox
}

fn table(set: &str, name: &str) -> RecordBatch {
    read(data(&format!("sociopatterns_cc0/{set}_{name}.parquet")))
}

/// The set's encounters, in both directions and in order of time.
fn known_encounters(set: &str) -> Ranges {
    let batch = table(set, "encounters");
    let (starts, ends) = (i64s(&batch, "start_ms"), i64s(&batch, "end_ms"));
    let mut ranges = Ranges::new();
    for (row, pair) in pairs(&batch, "person_a", "person_b").into_iter().enumerate() {
        let range = (starts[row] + ZERO_MS, ends[row] + ZERO_MS);
        ranges.entry(turned(&pair)).or_default().push(range);
        ranges.entry(pair).or_default().push(range);
    }
    ranges.values_mut().for_each(|ranges| ranges.sort_unstable());
    ranges
}

/// The set's sums for each pair, in both directions.
fn known_sums(set: &str) -> BTreeMap<Pair, Sums> {
    let batch = table(set, "expected_pairs");
    let [count, total, longest, first, last] =
        ["n_encounters", "total_seconds", "longest_seconds", "first_ms", "last_ms"]
            .map(|name| i64s(&batch, name));
    let mut all = BTreeMap::new();
    for (row, pair) in pairs(&batch, "person_a", "person_b").into_iter().enumerate() {
        let sums = Sums {
            encounter_count: count[row],
            direct_s: total[row],
            longest_s: longest[row],
            first_at: first[row] + ZERO_MS,
            last_at: last[row] + ZERO_MS,
        };
        all.insert(turned(&pair), sums.clone());
        all.insert(pair, sums);
    }
    all
}

/// The most time inside any 24 hours, which start with a range or end with one.
fn peak_24h_ms(ranges: &[(i64, i64)]) -> i64 {
    let starts = ranges.iter().map(|&(start, _)| start);
    let starts = starts.chain(ranges.iter().map(|&(_, end)| end - DAY_MS));
    let within = |from: i64| -> Vec<(i64, i64)> {
        let cut = ranges.iter().map(|&(start, end)| (start.max(from), end.min(from + DAY_MS)));
        cut.filter(|(start, end)| start < end).collect()
    };
    starts.map(|from| total_ms(&within(from))).max().unwrap_or(0)
}

fn candidates(batch: &RecordBatch) -> Vec<Candidate> {
    let [direct, cases, evidence] =
        ["direct_s", "case_count", "evidence_count"].map(|name| i64s(batch, name));
    let [first, last] = ["first_at", "last_at"].map(|name| times(batch, name));
    pairs(batch, "person_id", "case_id")
        .into_iter()
        .enumerate()
        .map(|(row, (person_id, case_id))| Candidate {
            person_id,
            case_id,
            direct_s: direct[row],
            case_count: cases[row],
            evidence_count: evidence[row],
            first_at: first[row],
            last_at: last[row],
        })
        .collect()
}
