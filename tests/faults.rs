//! No input, however hostile, panics: broken bytes are an error or rejections, never a crash.

use crate::support::Sandbox;
use copresence::config::{Config, Overrides};
use copresence::io::inputs;
use copresence::pipeline::{self, watch::Watch};
use proptest::prelude::*;
use std::path::Path;

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/office").join(name)).expect("the sample")
}

/// Runs the sample with these files in the place of its own; an answer or an error, never a panic.
fn attempt(job: &[u8], cases: &[u8], scans: &[u8]) {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("cases.csv"), cases).expect("a file");
    std::fs::write(sandbox.path("scans.parquet"), scans).expect("a file");
    let text = String::from_utf8_lossy(job).into_owned();
    let Ok(config) = Config::new(&sandbox.path("job.toml"), &text, &Overrides::default(), 1 << 30, 1) else {
        return;
    };
    if let Ok(inputs) = inputs::open(&config, None) {
        // Whether it runs is the bytes' business; that it comes back is ours.
        drop(pipeline::compute(&config, &inputs, &sandbox.path("spill"), &Watch::default()));
    }
}

fn spoilt(
    mut bytes: Vec<u8>,
    flips: &[(prop::sample::Index, u8)],
    cut: Option<prop::sample::Index>,
) -> Vec<u8> {
    for (at, value) in flips {
        let at = at.index(bytes.len());
        bytes[at] = *value;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len()));
    }
    bytes
}

fn flips() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn broken_parquet(flips in flips(), cut in prop::option::weighted(0.1, any::<prop::sample::Index>())) {
        copresence::cli::quiet_decoder_panics();
        attempt(&sample("job.toml"), &sample("cases.csv"), &spoilt(sample("scans.parquet"), &flips, cut));
    }

    #[test]
    fn broken_footers(flips in flips()) {
        copresence::cli::quiet_decoder_panics();
        let scans = sample("scans.parquet");
        let footer = scans.split_at(scans.len() - 4_000);
        let bytes = [footer.0, &spoilt(footer.1.to_vec(), &flips, None)].concat();
        attempt(&sample("job.toml"), &sample("cases.csv"), &bytes);
    }

    #[test]
    fn broken_cases(flips in flips(), cut in prop::option::weighted(0.3, any::<prop::sample::Index>())) {
        attempt(&sample("job.toml"), &spoilt(sample("cases.csv"), &flips, cut), &sample("scans.parquet"));
    }

    #[test]
    fn broken_jobs(flips in flips(), cut in prop::option::weighted(0.3, any::<prop::sample::Index>())) {
        attempt(&spoilt(sample("job.toml"), &flips, cut), &sample("cases.csv"), &sample("scans.parquet"));
    }
}
