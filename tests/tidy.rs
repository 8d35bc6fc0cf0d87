//! The house keeps its order: `use` lines run one way, one word stands for one thing, and some tools
//! stay in their rooms.

use std::path::{Path, PathBuf};

/// Modules in their order: each may use those above it (and its own inside).
const ORDER: [&str; 38] = [
    "error",
    "wide",
    "time",
    "packed",
    "geo",
    "lattice",
    "rice",
    "datum",
    "person",
    "place",
    "trip",
    "case",
    "control",
    "rule",
    "ping",
    "uncertainty",
    "stay",
    "region",
    "risk_area",
    "track",
    "contradiction",
    "resident",
    "index",
    "encounter",
    "dose",
    "exposure",
    "candidate",
    "truth",
    "resolve",
    "answer",
    "synth",
    "city",
    "config",
    "sweep",
    "io",
    "pipeline",
    "cli",
    "main",
];

/// Words of the glossary that are never used, as whole identifiers or words of comments.
const BANNED: [&str; 12] = [
    "device",
    "subscriber",
    "patient",
    "waypoint",
    "tile",
    "poi",
    "suspect",
    "visits_of",
    "manager",
    "helper",
    "processor",
    "utils",
];

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files: Vec<PathBuf> = vec![root.clone()];
    let mut texts = Vec::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).expect("a folder").map(|e| e.expect("an entry").path()));
        } else {
            let name = path.strip_prefix(&root).expect("inside src").display().to_string();
            texts.push((name, std::fs::read_to_string(&path).expect("a source file")));
        }
    }
    texts.sort();
    assert!(texts.len() > 30, "the sources are there");
    texts
}

fn room(file: &str) -> usize {
    let room = file.split('/').next().expect("a name").trim_end_matches(".rs");
    ORDER
        .iter()
        .position(|m| *m == room)
        .unwrap_or_else(|| panic!("{file} has no place in the order of rooms"))
}

#[test]
fn use_lines_run_one_way() {
    for (file, text) in sources().iter().filter(|(file, _)| file != "lib.rs") {
        let code = text.split("#[cfg(test)]").next().expect("the code");
        for line in code.lines().filter(|l| !l.trim_start().starts_with("//")) {
            for part in line.split("crate::").skip(1) {
                let used: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let Some(used_room) = ORDER.iter().position(|m| *m == used) else { continue };
                assert!(used_room <= room(file), "{file} uses {used}, which stands above it: {line}");
            }
        }
    }
}

#[test]
fn one_word_for_one_thing() {
    for (file, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_lowercase);
            for word in words {
                assert!(!BANNED.contains(&word.as_str()), "{file}, line {}: {word}", number + 1);
            }
        }
    }
}

#[test]
fn tools_stay_in_their_rooms() {
    let rooms = [
        ("rayon", &["pipeline/"][..]),
        ("parquet::", &["io/"][..]),
        ("std::fs", &["io/", "cli/mod.rs", "cli/explain.rs"][..]),
        ("println!", &[][..]),
        ("SystemTime", &["cli/"][..]),
        ("Instant::now", &["cli/", "pipeline/"][..]),
        ("std::env", &["cli/"][..]),
        ("unsafe", &[][..]),
        (".unwrap()", &[][..]),
        ("panic!(", &[][..]),
    ];
    for (file, text) in sources() {
        let code = text.split("#[cfg(test)]").next().expect("the code");
        for line in code.lines().filter(|l| !l.trim_start().starts_with("//")) {
            for (tool, allowed) in rooms {
                let at_home = allowed.iter().any(|room| file.starts_with(room));
                assert!(at_home || !line.contains(tool), "{file} uses {tool}: {line}");
            }
        }
    }
}

/// One Earth radius in the whole crate: the datum's ellipsoid is not a radius that distances use.
#[test]
fn one_earth_radius() {
    let radius = |text: &str| text.replace('_', "").matches("6371").count();
    let found: Vec<String> =
        sources().into_iter().filter(|(_, text)| radius(text) > 0).map(|(file, _)| file).collect();
    assert_eq!(found, ["geo.rs"]);
}
