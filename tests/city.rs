//! The city whose truth is known: the same for any number of threads, its feeds are what they promise, its job runs, and its tables of
//! truth agree with one another and with the feeds.

use crate::support::{Run, Sandbox, column, i64s, read, text, times};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float32Type, Float64Type, UInt64Type};
use copresence::geo::haversine_m;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// A person and a case.
type Pair = (u64, String);

const DAY_MS: i64 = 86_400_000;
const AS_OF: i64 = 1_647_878_400_000;

fn synth(sandbox: &Sandbox, out: &str, flags: &str) -> Run {
    let mut args = vec!["synth", out, "--progress", "none"];
    args.extend(flags.split_whitespace());
    sandbox.copresence(&args)
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).expect("a folder").map(|e| e.expect("an entry").path()));
        } else {
            let name = path.strip_prefix(folder).expect("inside").display().to_string();
            found.insert(name, std::fs::read(&path).expect("bytes"));
        }
    }
    found
}

/// All rows of a feed.
fn feed(sandbox: &Sandbox, out: &str, source: &str) -> RecordBatch {
    let mut paths: Vec<PathBuf> = files(&sandbox.path(out))
        .keys()
        .filter(|name| name.starts_with(&format!("{source}/")))
        .map(|name| sandbox.path(out).join(name))
        .collect();
    paths.sort();
    let batches: Vec<RecordBatch> = paths.iter().map(read).collect();
    concat_batches(&batches[0].schema(), &batches).expect("batches of one schema")
}

fn ids(batch: &RecordBatch) -> Vec<u64> {
    column(batch, "person_id").as_primitive::<UInt64Type>().values().to_vec()
}

fn f64s(batch: &RecordBatch, name: &str) -> Vec<f64> {
    column(batch, name).as_primitive::<Float64Type>().values().to_vec()
}

fn u64s(batch: &RecordBatch, name: &str) -> Vec<u64> {
    column(batch, name).as_primitive::<UInt64Type>().values().to_vec()
}

#[test]
fn any_number_of_threads_makes_the_same_city() {
    let sandbox = Sandbox::new();
    for flags in ["", "--datum gcj02 --broken-share 0.01 --ids text --sources tower,gps"] {
        let made = ["1", "2", "3"].map(|threads| {
            let flags = format!("--persons 9000 --days 1 --cases 20 {flags} --threads {threads} --force");
            synth(&sandbox, "city", &flags).succeeds();
            files(&sandbox.path("city"))
        });
        assert!(made[0] == made[1] && made[1] == made[2], "{flags}");
        assert!(made[0].contains_key("truth/meetings.parquet") && made[0].contains_key("job.toml"));
    }
    synth(&sandbox, "city", "--persons 9000 --days 1 --cases 20 --seed 2 --force").succeeds();
    let other = files(&sandbox.path("city"));
    synth(&sandbox, "city", "--persons 9000 --days 1 --cases 20 --force").succeeds();
    assert!(files(&sandbox.path("city"))["truth/contacts.parquet"] != other["truth/contacts.parquet"]);
}

#[test]
fn a_feed_is_the_same_whatever_stands_beside_it() {
    let sandbox = Sandbox::new();
    synth(&sandbox, "all", "--persons 6000 --days 1").succeeds();
    let all = files(&sandbox.path("all"));
    for source in ["gps", "tower", "venue", "trip"] {
        synth(&sandbox, source, &format!("--persons 6000 --days 1 --sources {source}")).succeeds();
        let (alone, beside) = (feed(&sandbox, source, source), feed(&sandbox, "all", source));
        assert!(alone.columns() == beside.columns() && alone.num_rows() > 0, "{source}");
        let truth = |out: &str| read(sandbox.path(out).join("truth/contacts.parquet"));
        assert!(truth(source).columns() == truth("all").columns());
        // Its own job runs.
        sandbox.copresence(&["run", &format!("{source}/job.toml")]).succeeds();
    }
    assert!(all.keys().filter(|name| name.starts_with("gps/day=2022-03-21/")).count() == 2);
}

#[test]
fn feeds_have_the_flaws_of_their_kinds() {
    let sandbox = Sandbox::new();
    synth(&sandbox, "city", "--persons 3000 --days 3").succeeds();
    let persons = read(sandbox.path("city/truth/persons.parquet"));
    let homes: HashMap<u64, (f64, f64)> = ids(&persons)
        .into_iter()
        .zip(f64s(&persons, "home_lat").into_iter().zip(f64s(&persons, "home_lon")))
        .collect();
    assert_eq!(homes.len(), 3_000);
    let phones = column(&persons, "has_phone").as_boolean().true_count();
    assert!((2_550..2_850).contains(&phones), "{phones}");

    let gps = feed(&sandbox, "city", "gps");
    let (whose, at) = (ids(&gps), times(&gps, "time"));
    assert!(at.iter().all(|t| (AS_OF - 3 * DAY_MS..AS_OF).contains(t)));
    assert!(whose.iter().collect::<HashSet<_>>().len() <= phones);
    let rows: Vec<(u64, i64)> = whose.iter().copied().zip(at.iter().copied()).collect();
    let twice = rows.len() - rows.iter().collect::<HashSet<_>>().len();
    let share = twice as f64 / rows.len() as f64;
    assert!((0.001..0.003).contains(&share), "{share} of the rows come twice");
    // Between 2 and 4 at night all are in bed, within 6 m of the middle of their flat: 68 of 100 positions are as accurate as they say.
    let (lats, lons) = (f64s(&gps, "lat"), f64s(&gps, "lon"));
    let accuracies = column(&gps, "accuracy_m").as_primitive::<Float32Type>().values().to_vec();
    let (mut inside, mut all) = (0.0, 0.0);
    for row in 0..gps.num_rows() {
        let hour = (at[row] - AS_OF).rem_euclid(DAY_MS) / 3_600_000;
        if !(2..4).contains(&hour) || accuracies[row] < 40.0 {
            continue;
        }
        let (lat, lon) = homes[&whose[row]];
        all += 1.0;
        inside +=
            f64::from(u8::from(haversine_m(lats[row], lons[row], lat, lon) <= f64::from(accuracies[row])));
    }
    // The isolated are elsewhere; the corner of the bed costs a little.
    assert!(all > 1_000.0 && (0.63..0.70).contains(&(inside / all)), "{} of {all}", inside / all);

    let towers = feed(&sandbox, "city", "tower");
    let known: HashSet<String> =
        text(&read(sandbox.path("city/towers.parquet")), "tower_id").into_iter().collect();
    let names =
        arrow::compute::cast(column(&towers, "tower_id"), &arrow::datatypes::DataType::Utf8).expect("texts");
    let names: Vec<&str> = names.as_string::<i32>().iter().flatten().collect();
    assert!(names.iter().all(|name| known.contains(*name)));
    let mut tracks: BTreeMap<u64, Vec<(i64, &str)>> = BTreeMap::new();
    for ((whose, at), name) in ids(&towers).into_iter().zip(times(&towers, "time")).zip(names) {
        tracks.entry(whose).or_default().push((at, name));
    }
    let to_and_fro = |track: &Vec<(i64, &str)>| {
        let mut track = track.clone();
        track.sort_unstable();
        track.windows(3).filter(|w| w[0].1 == w[2].1 && w[0].1 != w[1].1 && w[2].0 - w[0].0 < 120_000).count()
    };
    assert!(tracks.values().map(to_and_fro).sum::<usize>() > 1_000, "towers change to and fro");

    let scans = feed(&sandbox, "city", "venue");
    let out = column(&scans, "until");
    let share = 1.0 - out.null_count() as f64 / out.len() as f64;
    assert!(scans.num_rows() > 1_000 && (0.04..0.13).contains(&share), "{share} have a check-out");
    let late = files(&sandbox.path("city"))
        .into_keys()
        .filter(|name| name.starts_with("gps/day=2022-03-21"))
        .flat_map(|name| times(&read(sandbox.path("city").join(name)), "time"))
        .filter(|t| *t < AS_OF - DAY_MS)
        .count();
    assert!(late > 300, "{late} rows come with the next day's");
}

/// Contacts are the sums of meetings, infections are contacts, and all lie in the infectious ranges.
#[test]
fn the_tables_of_truth_agree() {
    let sandbox = Sandbox::new();
    synth(&sandbox, "city", "--persons 6000 --days 5 --cases 60").succeeds();
    let cases = read(sandbox.path("city/cases.parquet"));
    let (onset, sampled, isolated) =
        (times(&cases, "onset_at"), times(&cases, "sampled_at"), times(&cases, "isolated_at"));
    let mut ranges = HashMap::new();
    for (n, id) in text(&cases, "case_id").into_iter().enumerate() {
        assert!(onset[n] < sampled[n] && sampled[n] < isolated[n] && isolated[n] <= AS_OF);
        ranges.insert(id, (onset[n] - 2 * DAY_MS, isolated[n]));
    }
    assert_eq!(ranges.len(), 60);
    let meetings = read(sandbox.path("city/truth/meetings.parquet"));
    let mut sums: HashMap<(u64, String), [i64; 3]> = HashMap::new();
    let mut by_pair: HashMap<Pair, Vec<(f64, i64, i64)>> = HashMap::new();
    let (starts, ends, within) =
        (times(&meetings, "start"), times(&meetings, "end"), f64s(&meetings, "within_m"));
    for (n, pair) in ids(&meetings).into_iter().zip(text(&meetings, "case_id")).enumerate() {
        let (from, to) = ranges[&pair.1];
        assert!(from <= starts[n] && starts[n] < ends[n] && ends[n] <= to);
        let level = [2.0, 10.0, 50.0].iter().position(|m| *m == within[n]).expect("a level");
        sums.entry(pair.clone()).or_default()[level] += ends[n] - starts[n];
        by_pair.entry(pair).or_default().push((within[n], starts[n], ends[n]));
    }
    for ranges in by_pair.values() {
        for level in [2.0, 10.0, 50.0] {
            let mut own: Vec<(i64, i64)> =
                ranges.iter().filter(|r| r.0 == level).map(|r| (r.1, r.2)).collect();
            own.sort_unstable();
            assert!(own.windows(2).all(|w| w[0].1 < w[1].0), "meetings that touch are one");
        }
    }
    let contacts = read(sandbox.path("city/truth/contacts.parquet"));
    let levels = ["within_2m_s", "within_10m_s", "within_50m_s"].map(|name| u64s(&contacts, name));
    let (indoors, one_air) = (u64s(&contacts, "indoors_10m_s"), u64s(&contacts, "one_air_10m_s"));
    let pairs: Vec<(u64, String)> = ids(&contacts).into_iter().zip(text(&contacts, "case_id")).collect();
    assert_eq!(pairs.len(), sums.len());
    for (n, pair) in pairs.iter().enumerate() {
        for (level, ms) in levels.iter().zip(sums[pair]) {
            assert_eq!(level[n] as i64, ms / 1_000);
        }
        assert!(levels[0][n] <= levels[1][n] && levels[1][n] <= levels[2][n]);
        assert!(indoors[n] <= levels[1][n] && one_air[n] <= levels[1][n]);
    }
    let known: BTreeSet<&(u64, String)> = pairs.iter().collect();
    let infections = read(sandbox.path("city/truth/infections.parquet"));
    assert!(infections.num_rows() > 10);
    let infected: Vec<(u64, String)> =
        ids(&infections).into_iter().zip(text(&infections, "case_id")).collect();
    assert!(infected.iter().all(|pair| known.contains(pair)));
    assert_eq!(infected.iter().map(|pair| pair.0).collect::<BTreeSet<_>>().len(), infected.len());
    // P = 1 - exp(-0.011 dose): as many as that, within four standard deviations.
    let mut by_person: BTreeMap<u64, f64> = BTreeMap::new();
    for (pair, dose) in pairs.iter().zip(f64s(&contacts, "dose_h")) {
        *by_person.entry(pair.0).or_default() += dose;
    }
    let risks: Vec<f64> = by_person.values().map(|dose| 1.0 - (-0.011 * dose).exp()).collect();
    let (mean, variance): (f64, f64) = (risks.iter().sum(), risks.iter().map(|p| p * (1.0 - p)).sum());
    let off = (infected.len() as f64 - mean).abs() / variance.sqrt();
    assert!(off < 4.0, "{} infected, {mean} expected", infected.len());
    let household = column(&contacts, "household").as_boolean().true_count();
    assert!((60..240).contains(&household), "{household} pairs of one household");
}

#[test]
fn people_live_like_people() {
    let sandbox = Sandbox::new();
    synth(&sandbox, "city", "--persons 20000 --days 7 --cases 100 --sources venue").succeeds();
    let text = std::fs::read_to_string(sandbox.path("city/truth/summary.json")).expect("the summary");
    let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let number = |name: &str| all["city"][name].as_f64().expect("a number");
    assert!((14.0..19.0).contains(&number("home_h_a_day")), "{text}");
    // 13.4 in eight countries of Europe (Mossong et al. 2008).
    assert!((8.0..20.0).contains(&number("contacts_a_case_and_day")), "{text}");
    // 0.17 to 0.19 (Madewell et al. 2020, 2021).
    assert!((0.08..0.30).contains(&number("household_secondary_attack_rate")), "{text}");
    assert!((0.2..0.65).contains(&number("household_share_of_infections")), "{text}");
}

/// Positions in GCJ-02 are the same ones: the answer differs by no more than rounding does.
#[test]
fn a_shifted_city_gives_the_same_answer() {
    let sandbox = Sandbox::new();
    let answers = ["wgs84", "gcj02"].map(|datum| {
        synth(&sandbox, datum, &format!("--persons 800 --days 2 --sources gps,tower,venue --datum {datum}"))
            .succeeds();
        sandbox
            .copresence(&["run", &format!("{datum}/job.toml"), "--out", &format!("o-{datum}"), "--strict"])
            .succeeds();
        let candidates = read(sandbox.path(&format!("o-{datum}/candidates.parquet")));
        ids(&candidates).into_iter().zip(i64s(&candidates, "direct_s")).collect::<HashMap<u64, i64>>()
    });
    let [here, there] = &answers;
    let same = here.keys().filter(|id| there.contains_key(id)).count();
    assert!(here.len() > 50 && same as f64 > 0.99 * here.len() as f64, "{same} of {}", here.len());
    let lats = |out: &str| f64s(&feed(&sandbox, out, "gps"), "lat");
    let moved = lats("wgs84").iter().zip(lats("gcj02")).filter(|(a, b)| (*a - b).abs() > 0.0005).count();
    assert_eq!(moved, lats("wgs84").len(), "Chinese maps are off by more than 50 m to the north there");
}

#[test]
fn broken_rows_come_on_request() {
    let sandbox = Sandbox::new();
    synth(&sandbox, "city", "--persons 500 --days 1 --broken-share 0.02").succeeds();
    sandbox.copresence(&["run", "city/job.toml", "--out", "answer"]).succeeds();
    let rejections = read(sandbox.path("answer/rejections.parquet"));
    let rows = feed(&sandbox, "city", "gps").num_rows() + feed(&sandbox, "city", "tower").num_rows();
    let share = rejections.num_rows() as f64 / rows as f64;
    assert!((0.015..0.025).contains(&share), "{share}");
    let reasons: HashSet<String> = text(&rejections, "reason").into_iter().collect();
    assert!(reasons.len() >= 5, "{reasons:?}");
    for (flags, named) in [
        ("--persons 5", "--persons"),
        ("--persons 100 --cases 26", "--cases"),
        ("--days 400", "--days"),
        ("--broken-share 0.7", "--broken-share"),
        ("--sources gps,radio", "radio"),
        ("--rows 1e4 --sources gps", "--sources"),
        ("--order person", "--rows"),
    ] {
        synth(&sandbox, "wrong", flags).fails_with(2).stderr_has(named);
        assert!(!sandbox.path("wrong").exists());
    }
}
