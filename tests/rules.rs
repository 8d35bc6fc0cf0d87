//! Rules that come with the program, and the schemas of job and rule files.

use crate::support::Sandbox;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const HEAD: &str = "[job]\npurpose = \"test\"\nas_of = \"2022-03-22T00:00:00+08:00\"\n";
const FEED: &str = "[[feeds]]\nsource = \"gps\"\npath = \"pings.parquet\"\ndatum = \"wgs84\"\n";
const CASES: &str = "[cases]\npath = \"cases.csv\"\n";
const RULE: &str = "[rule]\nname = \"r\"\nversion = \"1\"\n";

fn schema(sandbox: &Sandbox, kind: &str) -> Value {
    let run = sandbox.copresence(&["rules", "--schema", kind]).succeeds();
    serde_json::from_str(&run.stdout).expect("JSON")
}

/// The rules' names and files; that of vehicles is a part of each rule.
fn rules(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(folder).expect("the rules").map(|entry| entry.expect("an entry").path());
    let named = entries.map(|path| (path.file_stem().expect("a name").to_string_lossy().into_owned(), path));
    let rules: Vec<_> = named.filter(|(name, _)| name != "vehicles").collect();
    assert!(rules.len() > 5, "the rules are there");
    rules
}

#[test]
fn rules_are_listed_and_printed_as_they_are() {
    let sandbox = Sandbox::new();
    let list = sandbox.copresence(&["rules"]).succeeds().stdout;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/rules");
    for (name, path) in rules(&folder) {
        let text = std::fs::read_to_string(&path).expect("a rule file");
        assert!(list.contains(&format!("{name}@1, from ")), "{name} in {list}");
        assert_eq!(sandbox.copresence(&["rules", &name]).succeeds().stdout, text);
        for key in ["effective_from", "expires_on", "# Source of"] {
            assert!(text.contains(key), "{name} has no {key}");
        }
    }
    let vehicles = std::fs::read_to_string(folder.join("vehicles.toml")).expect("the vehicles");
    assert_eq!(sandbox.copresence(&["rules", "vehicles"]).succeeds().stdout, vehicles);
    sandbox.copresence(&["rules", "calibrate"]).fails_with(2).stderr_has("did you mean calibrated?");
}

#[test]
fn the_schemas_stand_in_the_repository() {
    let sandbox = Sandbox::new();
    for kind in ["job", "rule"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data/schemas/{kind}.schema.json"));
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        let printed = sandbox.copresence(&["rules", "--schema", kind]).succeeds().stdout;
        assert!(
            stored == printed,
            "write it anew: copresence rules --schema {kind} > data/schemas/{kind}.schema.json"
        );
    }
}

/// The keys that an error names when one of a table is unknown.
fn known(sandbox: &Sandbox, job: &str) -> BTreeSet<String> {
    sandbox.write("job.toml", job);
    let run = sandbox.copresence(&["check", "job.toml"]).fails_with(2);
    let line = run.stderr.lines().find_map(|line| line.trim().strip_prefix("expected: one of "));
    line.unwrap_or_else(|| panic!("{}", run.stderr)).split(", ").map(str::to_string).collect()
}

fn properties(table: &Value) -> BTreeSet<String> {
    table["properties"].as_object().expect("properties").keys().cloned().collect()
}

#[test]
fn the_schema_has_the_keys_that_the_parser_knows() {
    let sandbox = Sandbox::new();
    let schema = schema(&sandbox, "job");
    let of = |path: &[&str]| {
        let table = path.iter().fold(&schema, |at, name| match *name {
            "feeds" => &at["properties"]["feeds"]["items"],
            name => &at["properties"][name],
        });
        properties(table)
    };
    let whole = format!("{HEAD}{FEED}{CASES}{RULE}");
    let unknown = "zzz = 1\n";
    assert_eq!(known(&sandbox, &format!("{unknown}{whole}")), of(&[]));
    assert_eq!(known(&sandbox, &format!("{HEAD}{unknown}{FEED}{CASES}{RULE}")), of(&["job"]));
    let feed = known(&sandbox, &format!("{HEAD}{FEED}{unknown}{CASES}{RULE}"));
    let tower = FEED.replace("gps", "tower").replace("datum = \"wgs84\"\n", "");
    let towers = "towers = { path = \"t.csv\", datum = \"wgs84\" }\n";
    let tower = known(&sandbox, &format!("{HEAD}{tower}{towers}{unknown}{CASES}{RULE}"));
    let venue = FEED.replace("gps", "venue").replace("datum = \"wgs84\"\n", "");
    let venue = known(&sandbox, &format!("{HEAD}{venue}{unknown}{CASES}{RULE}"));
    let areas = "[risk_areas]\npath = \"areas.csv\"\n";
    assert_eq!(known(&sandbox, &format!("{HEAD}{FEED}{areas}{unknown}{CASES}{RULE}")), of(&["risk_areas"]));
    let all: BTreeSet<String> = feed.into_iter().chain(tower).chain(venue).collect();
    assert_eq!(all, of(&["feeds"]));
    assert_eq!(known(&sandbox, &format!("{HEAD}{FEED}{CASES}{unknown}{RULE}")), of(&["cases"]));
    assert_eq!(known(&sandbox, &format!("{whole}safeguards = {{}}\n{unknown}")), {
        let mut keys = of(&["rule"]);
        keys.insert("safeguards".into());
        keys
    });
    for path in [
        vec!["rule", "encounter"],
        vec!["rule", "exposure"],
        vec!["rule", "candidate"],
        vec!["rule", "exposure", "setting_weights"],
        vec!["rule", "exposure", "infectiousness"],
    ] {
        let found = known(
            &sandbox,
            &match path.last() {
                Some(&"infectiousness") => {
                    format!("{whole}[{}]\nfirst_day = 0\nweights = [1]\n{unknown}", path.join("."))
                }
                _ => format!("{whole}[{}]\n{unknown}", path.join(".")),
            },
        );
        let schema = match path.last() {
            Some(&"infectiousness") => {
                let exposure = &schema["properties"]["rule"]["properties"]["exposure"];
                properties(&exposure["properties"]["infectiousness"]["oneOf"][1])
            }
            _ => of(&path),
        };
        assert_eq!(found, schema, "{path:?}");
    }
}

#[test]
fn every_rule_is_refused_after_its_last_day() {
    let sandbox = Sandbox::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/rules");
    for (name, _) in rules(&folder) {
        let head = HEAD.replace("2022-03-22", "2028-01-02");
        sandbox.write("job.toml", &format!("{head}{FEED}{CASES}[rule]\npreset = \"{name}\"\n"));
        sandbox.copresence(&["check", "job.toml"]).fails_with(2).stderr_has("expires_on");
    }
}
