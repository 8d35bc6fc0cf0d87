//! What it costs to make stays of one person's pings after the other's, by rule.

#[expect(dead_code, reason = "tracks need but the pings of a town")]
mod city;

use city::{Town, stays_of};
use copresence::place::PlaceRule;
use copresence::rule::{Source, StayRule};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn track(c: &mut Criterion) {
    let mut group = c.benchmark_group("track");
    let plain = StayRule::of(Source::Gps);
    let filtered = StayRule { speed_m_per_s_max: 100.0, ..plain };
    let distance = PlaceRule::Distance { distance_m_max: 50.0 };
    for (name, place, feed) in [
        ("grid", PlaceRule::Grid { square_m: 800.0 }, plain),
        ("cell", PlaceRule::Cell { resolution: 8 }, plain),
        ("distance", distance, plain),
        ("distance, impossible travel dropped", distance, filtered),
    ] {
        let town = Town::new(1_000, 20, place);
        group.throughput(Throughput::Elements(town.pings.num_rows() as u64));
        group.bench_function(name, |b| b.iter(|| stays_of(&town.pings, &[feed], &place)));
    }
    group.finish();
}

criterion_group!(benches, track);
criterion_main!(benches);
