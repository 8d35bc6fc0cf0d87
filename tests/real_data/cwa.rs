//! Check-ins and warnings of the German Corona-Warn-App: how many minutes of a check-in fall into a
//! warning.

use std::collections::BTreeMap;
use std::fs;

use chrono::DateTime;
use serde_json::Value;

use super::{data, pairs};
use crate::support::{Sandbox, i64s, read, text_array, time_array};

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
    sandbox.write_parquet(
        "scans.parquet",
        vec![
            ("person_id", text_array(persons)),
            ("time", time_array(starts)),
            ("venue_id", text_array(venues)),
            ("until", time_array(ends)),
        ],
    );
    sandbox.write("cases.csv", &cases);
    sandbox.write("job.toml", JOB);
    sandbox.copresence(&["run", "job.toml", "--out", "out"]).succeeds();

    let exposures = read(sandbox.path("out/exposures.parquet"));
    let minutes = i64s(&exposures, "direct_s").into_iter().map(|seconds| (seconds + 30) / 60);
    let found: BTreeMap<_, _> = pairs(&exposures, "person_id", "case_id").into_iter().zip(minutes).collect();
    assert_eq!(found, expected);
}

/// The vectors leave the seconds out where there are none.
fn instant_ms(value: &Value) -> i64 {
    let text = value.as_str().expect("a time is text");
    DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%:z")
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M%:z"))
        .expect("a time with an offset")
        .timestamp_millis()
}
