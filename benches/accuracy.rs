//! What the presets make of a city whose truth is known: `cargo bench --bench accuracy` prints docs/accuracy.md, and
//! `cargo bench --bench accuracy -- --write` writes it.

use clap::Parser;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Holds the presets against the truth of a made-up city.
#[derive(Debug, Parser)]
struct Options {
    /// Persons of the city.
    #[arg(long, default_value_t = 100_000)]
    persons: u64,
    /// Its days.
    #[arg(long, default_value_t = 14)]
    days: u64,
    /// Its cases [default: those of synth].
    #[arg(long)]
    cases: Option<u64>,
    /// Its seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where it is made, or found again [default: below the build folder].
    #[arg(long, value_name = "FOLDER", default_value = env!("CARGO_TARGET_TMPDIR"))]
    data: PathBuf,
    /// Write docs/accuracy.md, and do not only print it.
    #[arg(long)]
    write: bool,
    /// A smoke run: a small city.
    #[arg(long)]
    test: bool,
    /// Cargo says this to every bench.
    #[arg(long, hide = true)]
    bench: bool,
    /// Names of the benches to run.
    #[arg(hide = true)]
    names: Vec<String>,
}

const PRESETS: [&str; 4] = ["companion-800m", "cdc-15min", "venue-alert", "calibrated"];
const SOURCES: [&str; 4] = ["gps", "tower", "venue", "trip"];
const EXPECTED: &str = "rule.candidate.expected_s_min=60,120,300,600,900,1200,1800,3600";
/// A table as a sweep writes it, row by row.
type Rows = Vec<BTreeMap<String, String>>;

fn copresence(args: &[&str]) -> String {
    let clock = std::time::Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_copresence"))
        .args(args)
        .args(["--progress", "none"])
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    eprintln!("{:.0} s: copresence {}", clock.elapsed().as_secs_f64(), args.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn rows(path: &Path) -> Rows {
    let mut reader = csv::Reader::from_path(path).expect("a table");
    let names: Vec<String> = reader.headers().expect("a header").iter().map(str::to_string).collect();
    let row = |row: csv::Result<csv::StringRecord>| {
        names.iter().cloned().zip(row.expect("a row").iter().map(str::to_string)).collect()
    };
    reader.records().map(row).collect()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON")
}

fn number(row: &BTreeMap<String, String>, name: &str) -> f64 {
    row.get(name).and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

fn thousands(n: f64) -> String {
    let digits = format!("{n:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// 0.802 (0.74 to 0.86).
fn estimate(row: &BTreeMap<String, String>, name: &str) -> String {
    let [value, low, high] = ["", "_low", "_high"].map(|end| number(row, &format!("{name}{end}")));
    match value.is_nan() {
        true => "-".to_string(),
        false => format!("{value:.3} ({low:.2} to {high:.2})"),
    }
}

struct City {
    folder: PathBuf,
    summary: Value,
}

impl City {
    fn new(options: &Options) -> City {
        let (persons, days) = if options.test { (1_500, 2) } else { (options.persons, options.days) };
        let (persons, days) = (persons.to_string(), days.to_string());
        let (seed, cases) = (options.seed.to_string(), options.cases.map(|cases| cases.to_string()));
        let word = cases.clone().unwrap_or_else(|| "usual".to_string());
        let folder = options.data.join(format!("accuracy-{persons}-{days}-{word}-{seed}"));
        let mut args = vec![
            "synth",
            folder.to_str().expect("a path"),
            "--persons",
            &persons,
            "--days",
            &days,
            "--seed",
            &seed,
        ];
        args.extend(cases.iter().flat_map(|cases| ["--cases", cases.as_str()]));
        // A city of another version is another city.
        args.push("--force");
        copresence(&args);
        let summary = json(&folder.join("truth/summary.json"));
        City { folder, summary }
    }

    /// A job over some of the feeds; it stands beside the city's folder, so that this stays as it was written.
    fn job(&self, name: &str, sources: &[&str]) -> String {
        let text = std::fs::read_to_string(self.folder.join("job.toml")).expect("the job");
        let kept = |block: &&str| match block.strip_prefix("[[feeds]]\nsource = \"") {
            Some(rest) => sources.iter().any(|source| rest.starts_with(source)),
            None => true,
        };
        let here = self.folder.display();
        let job: Vec<String> = text
            .split("\n\n")
            .filter(kept)
            .map(|block| block.replace("path = \"", &format!("path = \"{here}/")))
            .collect();
        let path = self.folder.with_extension(format!("{name}.toml"));
        std::fs::write(&path, job.join("\n\n")).expect("a job");
        path.to_string_lossy().into_owned()
    }

    fn sweep(&self, job: &str, vary: &[&str]) -> (Rows, Rows) {
        let out = self.folder.with_extension("swept");
        let truth = self.folder.join("truth");
        let mut args = vec!["sweep", job, "--force", "--out", out.to_str().expect("a path")];
        args.extend(["--truth", truth.to_str().expect("a path")]);
        vary.iter().for_each(|vary| args.extend(["--vary", vary]));
        copresence(&args);
        let reliability = out.join("reliability.csv");
        let foretold = if reliability.is_file() { rows(&reliability) } else { Rows::new() };
        (rows(&out.join("sweep.csv")), foretold)
    }

    fn controls(&self, job: &str, preset: &str) -> Value {
        let out = self.folder.with_extension("controls");
        let set = format!("rule.preset={preset}");
        let mut args = vec!["run", job, "--force", "--out", out.to_str().expect("a path"), "--set", &set];
        let count = case_count(self).to_string();
        args.extend(["--controls", &count, "--encounters", "none", "--exposures", "candidates"]);
        copresence(&args);
        json(&out.join("manifest.json"))
    }
}

fn today() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    chrono::DateTime::from_timestamp(now.as_secs() as i64, 0).expect("a date").format("%Y-%m-%d").to_string()
}

fn main() {
    let options = Options::parse();
    if !options.names.is_empty() && !options.names.iter().any(|name| "accuracy".contains(name.as_str())) {
        return;
    }
    let city = City::new(&options);
    let text = document(&city);
    println!("{text}");
    if options.write {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/accuracy.md");
        std::fs::write(path, text).expect("the document");
    }
}

fn document(city: &City) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let flags = city.summary["flags"].as_str().expect("flags");
    let of_city = &city.summary["city"];
    let mut text = String::new();
    let mut say = |line: &str| writeln!(text, "{line}").expect("a text takes all");
    say("# Accuracy\n");
    say(&format!(
        "What the presets find in a made-up city whose truth is known ([city.md](city.md)), written by `cargo bench --bench accuracy -- --write` \
         ({}, {cores} cores). The city: `copresence synth OUT {flags}`.\n",
        today()
    ));
    say(&format!(
        "A **true contact** was within 10 m of a case for 15 minutes or more, along a straight line and through walls, while the case was \
         infectious; {} pairs of a person and a case are. **Recall** is the share of the true contacts who are candidates, **precision** the \
         share of the candidates who are true contacts; in brackets stand 95% intervals (1,000 draws of the cases, each with all who belong \
         to it). {} of {} persons have a telephone: *recall of phones* leaves the others out, whom no feed but trips can tell of.\n",
        thousands(of_city["pairs_within_10_m_for_15_min"].as_f64().expect("a number")),
        thousands(of_city["phones"].as_f64().expect("a number")),
        thousands(of_city["persons"].as_f64().expect("a number")),
    ));
    say("## The presets\n");
    say(
        "| feeds | preset | candidates | precision | recall | recall of phones | recall of the infected | notified for each true contact |",
    );
    say("|---|---|---|---|---|---|---|---|");
    let mut jobs: Vec<(&str, String)> =
        SOURCES.iter().map(|source| (*source, city.job(source, &[source]))).collect();
    jobs.push(("all", city.job("all", &SOURCES)));
    let vary = format!("rule.preset={}", PRESETS.join(","));
    let mut by_gps = BTreeMap::new();
    let mut foretold = Vec::new();
    for (feeds, job) in &jobs {
        let (found, reliability) = city.sweep(job, &[&vary]);
        for row in &found {
            let preset = row["rule.preset"].clone();
            let share = |name: &str| match number(row, name) {
                share if share.is_nan() => "-".to_string(),
                share => format!("{share:.3}"),
            };
            say(&format!(
                "| {feeds} | {preset} | {} | {} | {} | {} | {} | {} |",
                thousands(number(row, "candidates")),
                estimate(row, "precision"),
                estimate(row, "recall"),
                share("recall_of_phones"),
                share("recall_of_infected"),
                estimate(row, "notified_per_true_contact"),
            ));
            by_gps.insert((*feeds, preset), (number(row, "candidates"), number(row, "recall_of_phones")));
        }
        foretold.push((*feeds, reliability));
    }
    let of = |preset: &str| by_gps[&("gps", preset.to_string())];
    let (companions, calibrated) = (of("companion-800m"), of("calibrated"));
    say(&format!(
        "\nBy positions of telephones `calibrated` makes {:.1}% fewer candidates than `companion-800m`, at {:.3} of the true contacts with a \
         telephone. `venue-alert` without scans is ten minutes within 50 m. The presets `area-4h` and `area-1h` are about places and find no \
         contacts. With `cross_source`, as in `calibrated`, feeds together find more than each alone, and flag more, as a tower is near many.\n",
        100.0 * (1.0 - calibrated.0 / companions.0),
        calibrated.1,
    ));

    say("## How long is long enough\n");
    say(
        "`calibrated` by positions of telephones, with other distances and expected times: one reading answers all.\n",
    );
    say(
        "| distance_m_max | expected_s_min | candidates | precision | recall | recall of phones | fewer than companion-800m |",
    );
    say("|---|---|---|---|---|---|---|");
    let gps = &jobs[0].1;
    let (found, _) = city.sweep(gps, &["rule.encounter.distance_m_max=10,25,50", EXPECTED]);
    for row in &found {
        say(&format!(
            "| {} | {} | {} | {} | {} | {:.3} | {:.1}% |",
            number(row, "rule.encounter.distance_m_max"),
            number(row, "rule.candidate.expected_s_min"),
            thousands(number(row, "candidates")),
            estimate(row, "precision"),
            estimate(row, "recall"),
            number(row, "recall_of_phones"),
            100.0 * (1.0 - number(row, "candidates") / companions.0),
        ));
    }

    say("\n## How what is foretold comes true\n");
    say(
        "`calibrated`: by how probable it was that two reports of telephones at the same time (a minute apart at most), or reports that are held \
         for as long as the rule lets them, came from within 50 m, and how often they did; and by how large a risk was, how often the case infected the \
         person.\n",
    );
    say(
        "| feeds | foretold | bin | count | mean foretold | happened | off by |\n|---|---|---|---|---|---|---|",
    );
    let mut worst: f64 = 0.0;
    for (feeds, reliability) in &foretold {
        for row in reliability.iter().filter(|_| ["gps", "all"].contains(feeds)) {
            let (mean, share) = (number(row, "mean_foretold"), number(row, "happened_share"));
            if row["foretold"] == "probability at pings" && *feeds == "gps" {
                worst = worst.max((share - mean).abs());
            }
            say(&format!(
                "| {feeds} | {} | {} to {} | {} | {mean:.4} | {share:.4} | {:+.1} points |",
                row["foretold"],
                number(row, "from"),
                number(row, "to"),
                thousands(number(row, "count")),
                100.0 * (share - mean),
            ));
        }
    }
    say(&format!(
        "\nAt the instants of pings probabilities are off by up to {:.0} points, nearly all of them too low. They take every place for equally likely \
         beforehand, as they must without a map; people are not spread evenly, but sit in the same houses, offices and schools, so that of two who \
         seem 40 m apart more are in one building than the errors alone would say. **What to do about it**: read a probability as a lower \
         bound, choose `expected_s_min` by a table such as the one above for a city of one's own density, and never compare probabilities of a dense \
         district with those of the open land. Risks come out too low for the same reason and another: a position that is good to 20 m spreads the \
         dose of a table of 2 m over the whole neighbourhood. They rank people; they do not count infections.\n",
        100.0 * worst,
    ));

    let cases = case_count(city);
    say("## What habit alone flags\n");
    say(&format!(
        "`--controls {cases}`: as many persons who are no cases as there are cases take their place, on days that are not theirs \
         ([definitions.md](definitions.md#controls)). Whom they make candidates met nobody; the rule flags their habits.\n"
    ));
    say("| preset | candidates of the cases | of false cases | pairs left out |\n|---|---|---|---|");
    for preset in PRESETS {
        let manifest = city.controls(gps, preset);
        let count = |value: &Value| thousands(value.as_f64().unwrap_or(f64::NAN));
        let controls = &manifest["controls"];
        say(&format!(
            "| {preset} | {} | {} | {} |",
            count(&manifest["counts"]["candidates"]),
            count(&controls["candidates"]),
            count(&controls["left_out_pairs"]),
        ));
    }

    say("\n## The city beside the world\n");
    say("| | city | published |\n|---|---|---|");
    let figure = |name: &str| of_city[name].clone();
    say(&format!(
        "| contacts a person and day (five minutes within 2 m in one room, of cases) | {} | 13.4 of any length in eight countries of Europe (Mossong et \
         al., PLoS Medicine 5, 2008); 14.6 in Wuhan and 18.8 in Shanghai before 2020 (Zhang et al., Science 368, 2020) |",
        figure("contacts_a_case_and_day")
    ));
    say(&format!(
        "| hours at home a day | {} | 16.5 (69% of the day, Klepeis et al., Journal of Exposure Analysis and Environmental Epidemiology 11, 2001) |",
        figure("home_h_a_day")
    ));
    let range = |name: &str| {
        format!("{} ({} to {})", of_city[name]["median"], of_city[name]["p10"], of_city[name]["p90"])
    };
    say(&format!(
        "| radius of gyration, m: median (10% to 90%) | {} | one to several kilometres over whole countries (Gonzalez et al., Nature 453, 2008); a \
         city of this size is a few kilometres across |",
        range("radius_of_gyration_m")
    ));
    say(&format!(
        "| GPS pings a telephone and day: median (10% to 90%) | {} | none is known to us that holds for more than its collector |",
        range("pings_a_day_of_a_phone")
    ));
    say(&format!(
        "| share of infections within households | {} | 0.40 (Ferretti et al., Nature 626, 2023) |",
        figure("household_share_of_infections")
    ));
    say(&format!(
        "| secondary attack rate in households | {} | 0.166 and 0.189 (Madewell et al., JAMA Network Open 3, 2020 and 4, 2021) |",
        figure("household_secondary_attack_rate")
    ));
    say(&format!(
        "\n{} infections are few: the last two rows vary much from seed to seed.",
        figure("infections")
    ));
    text
}

fn case_count(city: &City) -> u64 {
    let flags = city.summary["flags"].as_str().expect("flags");
    let after = flags.split("--cases ").nth(1).expect("cases");
    after.split(' ').next().and_then(|n| n.parse().ok()).expect("a number")
}
