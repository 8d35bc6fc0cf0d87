//! What unions of time ranges cost, and the figures of an exposure that are read off them.

use copresence::encounter::{Encounter, Keys, Kind, encounters};
use copresence::exposure::{Adding, exposures, longest_ms, peak_ms};
use copresence::place::PlaceKey;
use copresence::rule::{ExposureRule, Source};
use copresence::time::{DAY_MS, Millis, union};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const SIZES: [usize; 3] = [10, 1_000, 100_000];

/// Ranges spread over a day, of which neighbours partly overlap, in no order.
fn ranges(many: usize) -> Vec<(Millis, Millis)> {
    let step = DAY_MS / many as i64;
    let range = |n: usize| {
        let spread = (n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let start = (spread % DAY_MS as u64) as i64;
        (start, start + 1 + (spread >> 40) as i64 % step)
    };
    (0..many).map(range).collect()
}

fn unions(c: &mut Criterion) {
    let mut group = c.benchmark_group("union/time");
    for many in SIZES {
        let (shuffled, mut sorted) = (ranges(many), ranges(many));
        sorted.sort_unstable();
        group.throughput(Throughput::Elements(many as u64));
        for (name, ranges) in [("in no order", shuffled), ("in order", sorted)] {
            group.bench_function(BenchmarkId::new(name, many), |b| {
                b.iter_batched(|| ranges.clone(), union, BatchSize::LargeInput);
            });
        }
    }
    group.finish();
    let mut group = c.benchmark_group("union/figures");
    for many in SIZES {
        let union = union(ranges(many));
        group.throughput(Throughput::Elements(union.len() as u64));
        group.bench_function(BenchmarkId::new("longest", many), |b| b.iter(|| longest_ms(&union, 60_000)));
        group.bench_function(BenchmarkId::new("peak", many), |b| b.iter(|| peak_ms(&union, DAY_MS / 4)));
    }
    group.finish();
}

/// One person's overlaps with ten cases, up to what is written of them.
fn exposure(c: &mut Criterion) {
    let mut group = c.benchmark_group("union/exposure");
    let rule = ExposureRule { merge_gap_ms: 60_000, ..ExposureRule::default() };
    let adding = Adding { rule: &rule, onsets: None };
    for many in SIZES {
        let overlap = |((start, end), n): ((Millis, Millis), u32)| Encounter {
            case: n % 10,
            kind: if n % 3 == 0 { Kind::Indirect } else { Kind::Direct },
            source: Source::Gps,
            case_source: Source::Gps,
            place: PlaceKey::Near,
            start,
            sure: end,
            end,
            distance_m: 10.0,
            bracketed: true,
            probability: f64::NAN,
            rate: f64::NAN,
            left: end,
        };
        let overlaps: Vec<Encounter> = ranges(many).into_iter().zip(0..).map(overlap).collect();
        group.throughput(Throughput::Elements(many as u64));
        group.bench_function(BenchmarkId::from_parameter(many), |b| {
            b.iter_batched(
                || overlaps.clone(),
                |mut found| {
                    let (mut met, mut exposed) = (Vec::new(), Vec::new());
                    let (mut ranges, mut keys) = (Vec::new(), Keys::default());
                    encounters(&mut found, &mut met, &mut keys);
                    exposures(&found, &met, false, &adding, &mut ranges, &mut exposed);
                    exposed
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, unions, exposure);
criterion_main!(benches);
