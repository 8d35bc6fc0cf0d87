//! What the sieve costs a ping, by rule.

#[expect(dead_code, reason = "the sieve needs but the pings and the index of a town")]
mod city;

use city::Town;
use copresence::place::PlaceRule;
use copresence::rule::Source;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn sieve(c: &mut Criterion) {
    let mut group = c.benchmark_group("sieve");
    for (name, place) in [
        ("grid", PlaceRule::Grid { square_m: 800.0 }),
        ("cell", PlaceRule::Cell { resolution: 8 }),
        ("distance", PlaceRule::Distance { distance_m_max: 50.0 }),
    ] {
        // Nearly nobody is near 1 case in 1,000, and nearly everybody near one of 500.
        for cases in [1, 20, 500] {
            let town = Town::new(1_000, cases, place);
            group.throughput(Throughput::Elements(town.pings.num_rows() as u64));
            group.bench_function(format!("{name}, {cases} cases"), |b| {
                b.iter(|| town.index.sieve().mark(&town.pings, Source::Gps));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, sieve);
criterion_main!(benches);
