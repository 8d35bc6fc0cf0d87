//! Sweeps that are held against the truth: each figure from the tables of a run and of the truth, by other code.

use crate::oracle::rice::within as likely_within;
use crate::support::{Sandbox, column, read, text, times};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Float64Type, UInt64Type};
use copresence::geo::haversine_m;
use copresence::rice::probability_within;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

const DAY_MS: i64 = 86_400_000;
const AS_OF: i64 = 1_647_878_400_000;

fn ids(batch: &RecordBatch) -> Vec<u64> {
    column(batch, "person_id").as_primitive::<UInt64Type>().values().to_vec()
}

fn u64s(batch: &RecordBatch, name: &str) -> Vec<u64> {
    column(batch, name).as_primitive::<UInt64Type>().values().to_vec()
}

fn f64s(batch: &RecordBatch, name: &str) -> Vec<Option<f64>> {
    column(batch, name).as_primitive::<Float64Type>().iter().collect()
}

fn pairs(batch: &RecordBatch) -> Vec<(u64, String)> {
    ids(batch).into_iter().zip(text(batch, "case_id")).collect()
}

fn city(flags: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let mut args = vec!["synth", "city", "--progress", "none"];
    args.extend(flags.split_whitespace());
    sandbox.copresence(&args).succeeds();
    sandbox
}

#[test]
fn scores_are_what_the_tables_say() {
    let sandbox = city("--persons 1200 --days 3 --cases 20");
    let vary = ["rule.encounter.distance_m_max=10,50", "rule.candidate.expected_s_min=60,900,7200"];
    let judge = |out: &str, more: &[&str]| {
        let mut args = vec!["sweep", "city/job.toml", "--progress", "none", "--out", out];
        vary.iter().for_each(|vary| args.extend(["--vary", vary]));
        args.extend(more);
        sandbox.copresence(&args)
    };
    judge("swept", &["--truth", "city/truth"]).succeeds().stdout_has("precision");
    let swept = read(sandbox.path("swept/sweep.parquet"));
    let contacts = read(sandbox.path("city/truth/contacts.parquet"));
    let cases: HashSet<u64> = ids(&read(sandbox.path("city/cases.parquet"))).into_iter().collect();
    let (within, phones) =
        (u64s(&contacts, "within_10m_s"), column(&contacts, "has_phone").as_boolean().clone());
    let truly: BTreeMap<u64, bool> = ids(&contacts)
        .into_iter()
        .enumerate()
        .filter(|(row, id)| within[*row] >= 900 && !cases.contains(id))
        .map(|(row, id)| (id, phones.value(row)))
        .collect();
    let infected: BTreeSet<u64> = ids(&read(sandbox.path("city/truth/infections.parquet")))
        .into_iter()
        .filter(|id| !cases.contains(id))
        .collect();
    assert!(truly.len() > 100 && !infected.is_empty(), "{} {}", truly.len(), infected.len());
    let mut row = 0;
    for metres in ["10", "50"] {
        for seconds in ["60", "900", "7200"] {
            let out = format!("run-{metres}-{seconds}");
            let sets = [
                format!("rule.encounter.distance_m_max={metres}"),
                format!("rule.candidate.expected_s_min={seconds}"),
            ];
            sandbox
                .copresence(&["run", "city/job.toml", "--out", &out, "--set", &sets[0], "--set", &sets[1]])
                .succeeds();
            let found: BTreeSet<u64> =
                ids(&read(sandbox.path(&format!("{out}/candidates.parquet")))).into_iter().collect();
            let right = found.iter().filter(|id| truly.contains_key(id)).count() as f64;
            let count = |name: &str| u64s(&swept, name)[row] as f64;
            assert_eq!(count("candidates"), found.len() as f64);
            assert_eq!(count("true_positives"), right);
            assert_eq!(count("false_positives"), found.len() as f64 - right);
            assert_eq!(count("false_negatives"), truly.len() as f64 - right);
            let of_phones = truly.values().filter(|phone| **phone).count() as f64;
            let of_infected = infected.iter().filter(|id| found.contains(id)).count() as f64;
            let (precision, recall) = (right / found.len() as f64, right / truly.len() as f64);
            for (name, expected) in [
                ("precision", precision),
                ("recall", recall),
                ("f1", 2.0 * precision * recall / (precision + recall)),
                ("notified_per_true_contact", 1.0 / precision),
                ("recall_of_phones", right / of_phones),
                ("recall_of_infected", of_infected / infected.len() as f64),
            ] {
                let value = f64s(&swept, name)[row].expect("a figure");
                assert!((value - expected).abs() < 1e-12, "{name} of {out}: {value}, {expected} expected");
                if let Some(column) = swept.column_by_name(&format!("{name}_low")) {
                    let low = column.as_primitive::<Float64Type>().value(row);
                    let high = f64s(&swept, &format!("{name}_high"))[row].expect("a figure");
                    assert!(
                        low < value && value < high && high - low < 2.0 * value,
                        "{name}: {low} to {high}"
                    );
                }
            }
            row += 1;
        }
    }
    assert_eq!(swept.num_rows(), row);

    // How often a risk comes true, from the exposures.
    let infections: HashSet<(u64, String)> =
        pairs(&read(sandbox.path("city/truth/infections.parquet"))).into_iter().collect();
    sandbox
        .copresence(&[
            "run",
            "city/job.toml",
            "--out",
            "all",
            "--exposures",
            "all",
            "--set",
            "rule.encounter.distance_m_max=10",
        ])
        .succeeds();
    let exposures = read(sandbox.path("all/exposures.parquet"));
    let is_case = column(&exposures, "person_is_case").as_boolean().clone();
    let (mut squares, mut count) = (0.0, 0.0);
    for (row, (pair, risk)) in pairs(&exposures).into_iter().zip(f64s(&exposures, "risk")).enumerate() {
        if !is_case.value(row) {
            let off = risk.expect("a risk") - f64::from(u8::from(infections.contains(&pair)));
            squares += off * off;
            count += 1.0;
        }
    }
    let brier = f64s(&swept, "brier_risk")[0].expect("a score");
    assert!((brier - squares / count).abs() < 1e-9, "{brier}, {} expected", squares / count);

    // The same from a table of one's own, and by another measure.
    let rows = pairs(&contacts).into_iter().zip(&within).map(|((id, case), s)| format!("{id},{case},{s}\n"));
    sandbox.write("mine.csv", &format!("person_id,case_id,near_s\n{}", rows.collect::<String>()));
    judge("mine", &["--truth", "mine.csv", "--true-contact", "near_s=900"]).succeeds();
    let mine = read(sandbox.path("mine/sweep.parquet"));
    for name in ["precision", "recall", "recall_low", "f1_high"] {
        assert_eq!(f64s(&mine, name), f64s(&swept, name), "{name}");
    }
    for unknown in ["recall_of_phones", "recall_of_infected", "brier_risk", "brier_probability"] {
        assert_eq!(f64s(&mine, unknown), vec![None; 6], "{unknown}");
    }
    assert!(!sandbox.path("mine/reliability.csv").exists());
    // Rows of one pair add up.
    let halves = pairs(&contacts).into_iter().zip(&within).flat_map(|((id, case), s)| {
        [format!("{id},{case},{}\n", *s as f64 / 2.0), format!("{id},{case},{}\n", *s as f64 / 2.0)]
    });
    sandbox.write("halves.csv", &format!("person_id,case_id,near_s\n{}", halves.collect::<String>()));
    judge("halves", &["--truth", "halves.csv", "--true-contact", "near_s=900"]).succeeds();
    let halves = read(sandbox.path("halves/sweep.parquet"));
    assert_eq!(halves.columns(), mine.columns());
    // Of other cases nothing is known.
    sandbox.write("others.csv", "person_id,case_id,near_s\n1,somebody,5000\n");
    judge("others", &["--truth", "others.csv", "--true-contact", "near_s=900"])
        .succeeds()
        .stderr_has("no true contact");
    judge("two", &["--truth", "city/truth", "--true-contact", "within_2m_s=60", "--threads", "1"]).succeeds();
    let two = read(sandbox.path("two/sweep.parquet"));
    assert_ne!(u64s(&two, "true_positives"), u64s(&swept, "true_positives"));
    for (more, named) in [
        (vec!["--truth", "nowhere"], "nowhere"),
        (vec!["--truth", "city/truth", "--true-contact", "near_s=900"], "near_s"),
        (vec!["--truth", "city/truth", "--true-contact", "within_2m_s"], "COLUMN=SECONDS"),
        (vec!["--true-contact", "within_2m_s=1"], "--truth"),
    ] {
        let run = judge("wrong", &more);
        let code = if more[0] == "--truth" && !named.contains('=') { 1 } else { 2 };
        run.fails_with(code).stderr_has(named);
        assert!(!sandbox.path("wrong").exists());
    }
}

/// A person's pings, in the order of time; of two at one instant the first is the more accurate.
type Track = Vec<(i64, f64, f64, f64)>;

fn tracks(sandbox: &Sandbox) -> BTreeMap<u64, Track> {
    let mut tracks: BTreeMap<u64, Track> = BTreeMap::new();
    for day in std::fs::read_dir(sandbox.path("city/gps")).expect("days") {
        for part in std::fs::read_dir(day.expect("a day").path()).expect("parts") {
            let batch = read(part.expect("a part").path());
            let (at, lats, lons) = (times(&batch, "time"), f64s(&batch, "lat"), f64s(&batch, "lon"));
            let accuracies = column(&batch, "accuracy_m").as_primitive::<Float32Type>().values().to_vec();
            for (row, id) in ids(&batch).into_iter().enumerate() {
                let place = (lats[row].expect("a number"), lons[row].expect("a number"));
                tracks.entry(id).or_default().push((at[row], place.0, place.1, f64::from(accuracies[row])));
            }
        }
    }
    for track in tracks.values_mut() {
        track.sort_by(|a, b| (a.0, a.3).partial_cmp(&(b.0, b.3)).expect("numbers"));
        track.dedup_by_key(|ping| ping.0);
    }
    tracks
}

/// Every pair of stays that begin within a minute of each other, by brute force: how likely they are within 50 m, and whether they are.
#[test]
fn probabilities_are_held_against_where_people_were() {
    let sandbox = city("--persons 300 --days 1 --cases 5 --sources gps");
    sandbox
        .copresence(&[
            "sweep",
            "city/job.toml",
            "--truth",
            "city/truth",
            "--out",
            "swept",
            "--vary",
            "rule.encounter.distance_m_max=50",
        ])
        .succeeds();
    // A rule that finds nobody misses all.
    sandbox
        .copresence(&[
            "sweep",
            "city/job.toml",
            "--truth",
            "city",
            "--out",
            "nobody",
            "--set",
            "rule.preset=cdc-15min",
            "--set",
            "rule.encounter.distance_m_max=0.000001",
            "--vary",
            "rule.encounter.lag_s_max=0",
        ])
        .succeeds();
    let nobody = read(sandbox.path("nobody/sweep.parquet"));
    assert_eq!((u64s(&nobody, "candidates")[0], u64s(&nobody, "true_positives")[0]), (0, 0));
    assert!(u64s(&nobody, "false_negatives")[0] > 10 && f64s(&nobody, "recall")[0] == Some(0.0));
    let cases = read(sandbox.path("city/cases.parquet"));
    let (onset, sampled, isolated) =
        (times(&cases, "onset_at"), times(&cases, "sampled_at"), times(&cases, "isolated_at"));
    let meetings = read(sandbox.path("city/truth/meetings.parquet"));
    let (starts, ends, within) =
        (times(&meetings, "start"), times(&meetings, "end"), f64s(&meetings, "within_m"));
    let mut truly: HashMap<(u64, String), Vec<(i64, i64)>> = HashMap::new();
    for (row, pair) in pairs(&meetings).into_iter().enumerate() {
        if within[row] == Some(50.0) {
            truly.entry(pair).or_default().push((starts[row], ends[row]));
        }
    }
    let tracks = tracks(&sandbox);
    let whose: BTreeSet<u64> = ids(&cases).into_iter().collect();
    let mut bins = [[0.0f64; 3]; 10];
    let hold = |track: &Track, n: usize| {
        let end = track[n].0 + 900_000;
        track.get(n + 1).map_or(end, |next| next.0.min(end)).min(AS_OF)
    };
    for (n, (case, person)) in text(&cases, "case_id").into_iter().zip(ids(&cases)).enumerate() {
        let (from, to) = (onset[n].min(sampled[n]) - 2 * DAY_MS, isolated[n]);
        let theirs = &tracks[&person];
        for (id, mine) in tracks.iter().filter(|(id, _)| !whose.contains(id)) {
            let near = truly.get(&(*id, case.clone()));
            for (i, a) in mine.iter().enumerate() {
                let first = theirs.partition_point(|b| b.0 < a.0 - 900_000);
                for (j, b) in theirs.iter().enumerate().skip(first).take_while(|(_, b)| b.0 < hold(mine, i)) {
                    let start = a.0.max(b.0.max(from));
                    let end = hold(mine, i).min(hold(theirs, j)).min(to);
                    // A stay that was cut begins where the infectious range does.
                    let held = start - a.0.min(b.0.max(from));
                    if start >= end || held > 60_000 {
                        continue;
                    }
                    let sigma = (a.3 / 1.5096).hypot(b.3 / 1.5096);
                    let metres = haversine_m(a.1, a.2, b.1, b.2);
                    if metres > 50.0 + 5.0 * sigma {
                        continue;
                    }
                    let p = likely_within(metres, sigma, 50.0);
                    if p < 0.01 {
                        continue;
                    }
                    let happened =
                        near.is_some_and(|near| near.iter().any(|(from, to)| (*from..*to).contains(&start)));
                    let bin = &mut bins[((p * 10.0) as usize).min(9)];
                    *bin = [bin[0] + 1.0, bin[1] + p, bin[2] + f64::from(u8::from(happened))];
                }
            }
        }
    }
    let reliability = read(sandbox.path("swept/reliability.parquet"));
    let rows: Vec<usize> = text(&reliability, "foretold")
        .iter()
        .enumerate()
        .filter(|(_, what)| *what == "probability at pings")
        .map(|(row, _)| row)
        .collect();
    assert!(rows.len() == 10 && bins.iter().map(|bin| bin[0]).sum::<f64>() > 500.0, "{bins:?}");
    let (counts, means, shares) = (
        u64s(&reliability, "count"),
        f64s(&reliability, "mean_foretold"),
        f64s(&reliability, "happened_share"),
    );
    for (row, bin) in rows.into_iter().zip(bins) {
        // A probability may fall to the other side of a bin's edge.
        assert!((counts[row] as f64 - bin[0]).abs() <= 1.0, "{} and {bin:?}", counts[row]);
        assert!((means[row].expect("a mean") - bin[1] / bin[0]).abs() < 2e-3, "{:?} and {bin:?}", means[row]);
        assert!(
            (shares[row].expect("a share") - bin[2] / bin[0]).abs() < 0.02,
            "{:?} and {bin:?}",
            shares[row]
        );
    }
}

/// Where people are spread evenly, and positions err as they say, probabilities come true: what they are off by in a city comes of how
/// people live together there.
#[test]
fn probabilities_come_true_where_people_are_spread_evenly() {
    let mut state = 7u64;
    let mut unit = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut bins = [[0.0f64; 3]; 10];
    for _ in 0..400_000 {
        let (x, y) = (400.0 * unit() - 200.0, 400.0 * unit() - 200.0);
        let sigma = 5.0 + 25.0 * unit();
        let (out, angle) = (sigma * (-2.0 * (1.0 - unit()).ln()).sqrt(), std::f64::consts::TAU * unit());
        let seen = (x + out * angle.cos()).hypot(y + out * angle.sin());
        let p = probability_within(seen, sigma, 50.0);
        // What is seen far out can be of nobody, as nobody is outside of the square.
        if p >= 0.01 {
            let bin = &mut bins[((p * 10.0) as usize).min(9)];
            *bin = [bin[0] + 1.0, bin[1] + p, bin[2] + f64::from(u8::from(x.hypot(y) <= 50.0))];
        }
    }
    for bin in bins {
        let (mean, share) = (bin[1] / bin[0], bin[2] / bin[0]);
        assert!(
            bin[0] > 500.0 && (mean - share).abs() < 0.03,
            "{mean} foretold, {share} happened, of {}",
            bin[0]
        );
    }
}
