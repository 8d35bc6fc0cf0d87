//! Ingests that are killed: whatever moment it is, a store is the one before or the one after, and can be gone on with.

use crate::store::{answer, away, bring, hide, ingest, office_by_day, parquet_below};
use crate::support::{Sandbox, read};
use crate::world_files::save;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Ingests that are killed; the long run sets more.
const KILLS: u64 = 20;

/// A generated city of three days, its pings in ten files that follow one another in time; the files' names.
fn city_in_ten() -> (Sandbox, Vec<PathBuf>) {
    let sandbox = Sandbox::new();
    let flags = ["--rows", "60000", "--persons", "120", "--days", "3", "--cases", "9", "--progress", "none"];
    sandbox.copresence(&[&["synth", "city"], &flags[..]].concat()).succeeds();
    for name in ["job.toml", "cases.parquet", "pings"] {
        std::fs::rename(sandbox.path("city").join(name), sandbox.path(name)).expect("a rename");
    }
    let made = parquet_below(&sandbox.path("pings"));
    let batches: Vec<_> = made.iter().map(read).collect();
    made.iter().for_each(|path| std::fs::remove_file(path).expect("a file"));
    let pings = arrow::compute::concat_batches(&batches[0].schema(), &batches).expect("rows");
    let share = pings.num_rows().div_ceil(10);
    let mut files = Vec::new();
    for first in (0..pings.num_rows()).step_by(share) {
        let path = sandbox.path(&format!("pings/{first:05}.parquet"));
        save(&path, &pings.slice(first, share.min(pings.num_rows() - first)), 1000);
        files.push(path);
    }
    (sandbox, files)
}

#[test]
fn the_first_ingest_may_be_killed_too_but_a_lost_catalogue_is_no_new_store() {
    let (sandbox, _files) = office_by_day();
    let expected = answer(&sandbox, &[]);
    // As if it had been killed when all files were in their places, but not the catalogue.
    ingest(&sandbox, []).succeeds();
    let hidden = sandbox.path("store/_copresence");
    std::fs::remove_file(hidden.join("catalogue.json")).expect("a catalogue");
    let lost = parquet_below(&sandbox.path("store"));
    ingest(&sandbox, []).fails_with(1).stderr_has("a folder with other things in it");
    assert_eq!(parquet_below(&sandbox.path("store")), lost);
    std::fs::write(hidden.join("begun"), "").expect("a file");
    ingest(&sandbox, []).succeeds().stdout_has("10 read");
    assert!(!hidden.join("begun").exists());
    assert_eq!(answer(&sandbox, &["--store", "store"]), expected);
    sandbox.copresence(&["store", "check", "store"]).succeeds().stdout_has("9,184 rows");
}

#[test]
fn ingests_of_scans_that_are_killed_leave_no_trace() {
    let (sandbox, files) = office_by_day();
    kill_ingests(&sandbox, &files, 25_000);
}

#[test]
fn ingests_of_positions_that_are_killed_leave_no_trace() {
    let (sandbox, files) = city_in_ten();
    kill_ingests(&sandbox, &files, 70_000);
}

/// Kills ingests of files, one of which comes from time to time, at some moment of so many microseconds. What stands is
/// whole after each, and the last one makes of it what was to be made.
fn kill_ingests(sandbox: &Sandbox, files: &[PathBuf], within_us: u64) {
    let expected = answer(sandbox, &[]);
    let kills = std::env::var("COPRESENCE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS);
    let mut killed = 0;
    for n in 0..kills {
        // So many kills for each store, so that there is something to do at most of them.
        let of_store = n % KILLS;
        if of_store == 0 {
            drop(std::fs::remove_dir_all(sandbox.path("store")));
            let here: Vec<PathBuf> = files[1..].iter().filter(|path| path.exists()).cloned().collect();
            hide(&here);
            ingest(sandbox, []).succeeds();
        }
        if of_store * 9 / KILLS > (of_store.max(1) - 1) * 9 / KILLS || of_store == 0 {
            let hidden = files.iter().find(|path| away(path).exists());
            hidden.inspect(|path| bring(path));
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_copresence"))
            .args(["ingest", "job.toml", "--store", "store", "--progress", "none"])
            .current_dir(sandbox.path(""))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        std::thread::sleep(Duration::from_micros(n.wrapping_mul(0x9E37_79B9) % within_us));
        child.kill().expect("a child");
        killed += u64::from(!child.wait().expect("an end").success());
        sandbox.copresence(&["store", "check", "store"]).succeeds();
    }
    assert!(killed * 4 > kills, "{killed} of {kills} were still at work");
    files.iter().filter(|path| away(path).exists()).for_each(|path| bring(path));
    ingest(sandbox, []).succeeds();
    assert_eq!(answer(sandbox, &["--store", "store"]), expected);
    // Nothing lies about that is not in the catalogue.
    let catalogue =
        std::fs::read_to_string(sandbox.path("store/_copresence/catalogue.json")).expect("a catalogue");
    let catalogue: serde_json::Value = serde_json::from_str(&catalogue).expect("JSON");
    let all = |list: &str| catalogue[list].as_array().expect(list).clone();
    let of_rows = all("segments").into_iter().map(|segment| segment["file"].clone());
    let guides = all("guides");
    let of_guides = ["blocks", "visits", "firsts"]
        .into_iter()
        .flat_map(|piece| guides.iter().map(move |guide| guide[piece]["file"].clone()));
    let named: BTreeSet<PathBuf> = of_rows
        .chain(of_guides)
        .map(|file| sandbox.path("store").join(file.as_str().expect("a path")))
        .collect();
    assert_eq!(parquet_below(&sandbox.path("store")).into_iter().collect::<BTreeSet<_>>(), named);
    assert!(!guides.is_empty());
}
