//! Check-ins and warnings of the German Corona-Warn-App: how many minutes of a check-in fall into a
//! warning.

use std::collections::BTreeMap;
use std::fs;

use chrono::DateTime;
use serde_json::Value;

use super::{data, pairs, run_both_ways};
use crate::support::{Sandbox, i64s, opt_f64s, read, text_array, time_array, times};

const JOB: &str = r#"
[job]
name = "check-ins"
purpose = "test against known overlaps"
as_of = "2021-03-05T00:00:00Z"
time_zone = "UTC"
exposures = "all"

[[feeds]]
source = "venue"
path = "scans.parquet"

[cases]
path = "cases.csv"

[rule]
name = "check-ins"
version = "1"
"#;

/// Each vector is a person's check-in and, as the case's, the check-in that led to the warning, at
/// venues of its own. A warning from one's own check-in makes the person the case.
#[test]
fn minutes_of_a_check_in_within_a_warning() {
    let text = fs::read_to_string(data("cwa_vectors/checkin_vectors.json")).expect("the vectors can be read");
    let vectors: Value = serde_json::from_str(&text).expect("the vectors are JSON");
    let vectors = vectors["overlap"].as_array().expect("a list of overlaps");
    assert_eq!(vectors.len(), 14);

    let (mut persons, mut venues, mut starts, mut ends) = (vec![], vec![], vec![], vec![]);
    let mut cases = String::from("case_id,person_id,infectious_from,infectious_to,report_id,authority\n");
    let mut expected = BTreeMap::new();
    for (number, vector) in vectors.iter().enumerate() {
        let (checkin, warning) = (&vector["checkin"], &vector["warning"]);
        let person = format!("person-{number}");
        let own = vector["own_checkin"].as_bool().expect("own_checkin is a flag");
        let case_person = if own { person.clone() } else { format!("warner-{number}") };
        cases.push_str(&format!(
            "case-{number},{case_person},2021-03-04T00:00:00Z,2021-03-05T00:00:00Z,\
             report-{number},test authority\n"
        ));
        let warned_ms = warning["period_10min"].as_i64().expect("a number of periods") * 600_000;
        let warned_from = instant_ms(&warning["start"]);
        for (person, venue, start, end) in [
            (&person, &checkin["venue"], instant_ms(&checkin["start"]), instant_ms(&checkin["end"])),
            (&case_person, &warning["venue"], warned_from, warned_from + warned_ms),
        ] {
            persons.push(person.clone());
            venues.push(format!("{number}-{}", venue.as_str().expect("a venue is text")));
            starts.push(start);
            ends.push(end);
        }
        if let Some(minutes) = vector["expected_rounded_minutes"].as_i64() {
            expected.insert((person, format!("case-{number}")), minutes);
        }
    }

    let sandbox = Sandbox::new();
    write_scans(&sandbox, persons, starts, venues, ends);
    sandbox.write("cases.csv", &cases);
    sandbox.write("job.toml", JOB);
    run_both_ways(&sandbox);

    let exposures = read(sandbox.path("out/exposures.parquet"));
    let minutes = i64s(&exposures, "direct_s").into_iter().map(|seconds| (seconds + 30) / 60);
    let found: BTreeMap<_, _> = pairs(&exposures, "person_id", "case_id").into_iter().zip(minutes).collect();
    assert_eq!(found, expected);
}

/// Scans with a check-out: who, from when, where, until when.
fn write_scans(
    sandbox: &Sandbox,
    persons: Vec<String>,
    starts: Vec<i64>,
    venues: Vec<String>,
    ends: Vec<i64>,
) {
    sandbox.write_parquet(
        "scans.parquet",
        vec![
            ("person_id", text_array(persons)),
            ("time", time_array(starts)),
            ("venue_id", text_array(venues)),
            ("until", time_array(ends)),
        ],
    );
}

/// The vectors leave the seconds out where there are none.
fn instant_ms(value: &Value) -> i64 {
    let text = value.as_str().expect("a time is text").replace('Z', "+00:00");
    let text = text.as_str();
    DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%:z")
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%:z"))
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M%:z"))
        .expect("a time with an offset")
        .timestamp_millis()
}

const SPLITS_JOB: &str = r#"
[job]
purpose = "test against known splits"
as_of = "2022-02-01T00:00:00Z"
time_zone = "UTC"
rejected_share_max = 1

[[feeds]]
source = "venue"
path = "scans.parquet"

[cases]
path = "cases.csv"

[rule]
name = "splits"
version = "1"
lookback_days = 800
"#;

/// A check-in that somebody shares all along, with a case for each day, is cut where the days are. One that ends
/// when or before it begins is no stay here, and so has no parts; the app keeps the one of no length.
#[test]
fn a_check_in_is_cut_at_midnight_by_cases_of_a_day() {
    let text = fs::read_to_string(data("cwa_vectors/checkin_vectors.json")).expect("the vectors can be read");
    let vectors: Value = serde_json::from_str(&text).expect("the vectors are JSON");
    let vectors = vectors["split_by_midnight_utc"].as_array().expect("a list of splits");
    assert_eq!(vectors.len(), 14);

    const DAY_MS: i64 = 86_400_000;
    let (mut persons, mut venues, mut starts, mut ends) = (vec![], vec![], vec![], vec![]);
    let mut cases = String::from("case_id,person_id,infectious_from,infectious_to,report_id,authority\n");
    let mut expected = BTreeMap::new();
    for (number, vector) in vectors.iter().enumerate() {
        let (start, end) = (instant_ms(&vector["start"]), instant_ms(&vector["end"]));
        let first = start.min(end).div_euclid(DAY_MS) * DAY_MS;
        let days = (start.max(end) - first) / DAY_MS + 1;
        for (person, start, end) in
            [(format!("p{number}"), start, end), (format!("w{number}"), first, first + days * DAY_MS)]
        {
            persons.push(person);
            venues.push(format!("v{number}"));
            starts.push(start);
            ends.push(end);
        }
        for day in 0..days {
            let at = |day: i64| copresence::time::utc_text(first + day * DAY_MS);
            let case = format!("{number}-{day}");
            cases.push_str(&format!("{case},w{number},{},{},r-{case},test\n", at(day), at(day + 1)));
        }
        for part in vector["expected_parts"].as_array().expect("a list of parts") {
            let (start, end) = (instant_ms(&part[0]), instant_ms(&part[1]));
            if start < end {
                let case = format!("{number}-{}", (start - first) / DAY_MS);
                expected.insert((format!("p{number}"), case), (start, end));
            }
        }
    }
    let sandbox = Sandbox::new();
    write_scans(&sandbox, persons, starts, venues, ends);
    sandbox.write("cases.csv", &cases);
    sandbox.write("job.toml", SPLITS_JOB);
    run_both_ways(&sandbox);
    let exposures = read(sandbox.path("out/exposures.parquet"));
    let ranges = times(&exposures, "first_at").into_iter().zip(times(&exposures, "last_at"));
    let found: BTreeMap<_, _> = pairs(&exposures, "person_id", "case_id").into_iter().zip(ranges).collect();
    assert_eq!(found, expected);
}

/// The app's minutes at an attenuation, weighted by it and by the transmission risk of the window, are hours at a venue
/// of a kind with that weight here: dose_h is the app's normalised time. From it the test draws the app's risk of a day
/// and of all days. Where the models do not coincide: the app also counts distinct encounters by day, risk and confidence,
/// which says nothing of places and times; and an attenuation is no distance, so that only weights can carry it.
#[test]
fn weighted_minutes_of_exposure_windows() {
    let name = "cwa_vectors/exposure-windows-risk-calculation.json";
    let text = fs::read_to_string(data(name)).expect("the vectors can be read");
    let vectors: Value = serde_json::from_str(&text).expect("the vectors are JSON");
    let rules = &vectors["defaultRiskCalculationConfiguration"];
    let tests = vectors["testCases"].as_array().expect("test cases");
    assert_eq!(tests.len(), 29);

    const DAY_MS: i64 = 86_400_000;
    let as_of = 1_646_092_800_000; // 2022-03-01T00:00:00Z
    let whole = |value: &Value| value.as_i64().expect("a whole number");
    let number = |value: &Value| value.as_f64().expect("a number");
    let (mut persons, mut venues, mut starts, mut ends) = (vec![], vec![], vec![], vec![]);
    let mut cases = String::from("case_id,person_id,infectious_from,infectious_to,report_id,authority\n");
    let mut kinds: BTreeMap<String, f64> = BTreeMap::new();
    for (test, vector) in tests.iter().enumerate() {
        for (number_of, window) in vector["exposureWindows"].as_array().expect("windows").iter().enumerate() {
            let levels = &rules["trlEncoding"];
            let report = match whole(&window["reportType"]) {
                1 => "reportTypeOffsetConfirmedTest",
                2 => "reportTypeOffsetConfirmedClinicalDiagnosis",
                3 => "reportTypeOffsetSelfReport",
                _ => "reportTypeOffsetRecursive",
            };
            let high = whole(&window["infectiousness"]) == 2;
            let infectious = if high { "infectiousnessOffsetHigh" } else { "infectiousnessOffsetStandard" };
            let level = whole(&levels[report]) + whole(&levels[infectious]);
            let risks = rules["transmissionRiskValueMapping"].as_array().expect("risks");
            let risk = risks.iter().find(|r| whole(&r["transmissionRiskLevel"]) == level).expect("a level");
            let risk = number(&risk["transmissionRiskValue"]);
            let case = format!("{test}-{number_of}");
            let day = as_of - DAY_MS * (1 + whole(&window["ageInDays"]));
            let at = copresence::time::utc_text;
            cases.push_str(&format!("{case},w{case},{},{},r-{case},test\n", at(day), at(day + DAY_MS)));
            // One window after the other, each scan after the one before.
            let mut time = day + number_of as i64 * DAY_MS / 8;
            for scan in window["scanInstances"].as_array().expect("scans") {
                let attenuation = whole(&scan["minAttenuation"]);
                let weights = rules["minutesAtAttenuationWeights"].as_array().expect("weights");
                let holds = |w: &&Value| {
                    let range = &w["attenuationRange"];
                    (whole(&range["min"])..whole(&range["max"])).contains(&attenuation)
                };
                let weight = weights.iter().find(holds).map_or(0.0, |w| number(&w["weight"]));
                let kind = format!("k{}-{level}", (weight * 10.0).round());
                kinds.insert(kind.clone(), weight * risk);
                let seconds = whole(&scan["secondsSinceLastScan"]);
                for person in [format!("p{test}"), format!("w{case}")] {
                    persons.push(person);
                    venues.push(kind.clone());
                    starts.push(time);
                    ends.push(time + 1_000 * seconds);
                }
                time += 1_000 * seconds.max(0);
            }
        }
    }
    let sandbox = Sandbox::new();
    write_scans(&sandbox, persons, starts, venues, ends);
    sandbox.write("cases.csv", &cases);
    let rows: Vec<String> = kinds.keys().map(|kind| format!("{kind},{kind}\n")).collect();
    sandbox.write("venues.csv", &format!("venue_id,kind\n{}", rows.concat()));
    let weights: Vec<String> = kinds.iter().map(|(kind, weight)| format!("{kind} = {weight}")).collect();
    let job = SPLITS_JOB
        .replace("2022-02-01", "2022-03-01")
        .replace("[cases]", "venues = { path = \"venues.csv\" }\n[cases]");
    sandbox.write(
        "job.toml",
        &format!(
            "{job}[rule.encounter]\nplace = \"probability\"\n[rule.exposure]\nsetting_weights = {{ kinds = {{ {} }} }}\n",
            weights.join(", ")
        ),
    );
    run_both_ways(&sandbox);

    let exposures = read(sandbox.path("out/exposures.parquet"));
    let doses = opt_f64s(&exposures, "dose_h").into_iter().map(|h| h.expect("a dose") * 60.0);
    let found: BTreeMap<_, _> = pairs(&exposures, "person_id", "case_id").into_iter().zip(doses).collect();
    for (test, vector) in tests.iter().enumerate() {
        let mut by_day: BTreeMap<i64, f64> = BTreeMap::new();
        for (number_of, window) in vector["exposureWindows"].as_array().expect("windows").iter().enumerate() {
            let minutes = found.get(&(format!("p{test}"), format!("{test}-{number_of}"))).unwrap_or(&0.0);
            *by_day.entry(whole(&window["ageInDays"])).or_default() += minutes;
        }
        // Low from 5 minutes on, high from 9: as doubles are, to a billionth.
        let levels: Vec<i64> = by_day
            .values()
            .map(|minutes| match minutes + 1e-9 {
                m if m >= 9.0 => 2,
                m if m >= 5.0 => 1,
                _ => 0,
            })
            .collect();
        let days = |level: i64| levels.iter().filter(|l| **l == level).count() as i64;
        let description = &vector["description"];
        assert_eq!(days(1), whole(&vector["expNumberOfDaysWithLowRisk"]), "{description}: {by_day:?}");
        assert_eq!(days(2), whole(&vector["expNumberOfDaysWithHighRisk"]), "{description}: {by_day:?}");
        let total = if days(2) > 0 { 2 } else { 1 };
        assert_eq!(total, whole(&vector["expTotalRiskLevel"]), "{description}");
    }
}
