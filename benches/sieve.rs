//! What the sieve costs a ping, and the index a case, by rule.

mod city;

use city::{DAY, Town};
use copresence::index::CaseIndex;
use copresence::place::PlaceRule;
use copresence::rule::Source;
use copresence::time::DAY_MS;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn sieve(c: &mut Criterion) {
    let mut group = c.benchmark_group("sieve");
    for (name, place) in [
        ("grid", PlaceRule::Grid { square_m: 800.0 }),
        ("cell", PlaceRule::Cell { resolution: 8 }),
        ("distance", PlaceRule::Distance { distance_m_max: 50.0 }),
    ] {
        let town = Town::new(1_000, 20, place);
        group.throughput(Throughput::Elements(town.pings.num_rows() as u64));
        group.bench_function(name, |b| b.iter(|| town.index.sieve.mark(&town.pings, Source::Gps)));
    }
}

fn index(c: &mut Criterion) {
    let mut group = c.benchmark_group("index/build");
    group.sample_size(20);
    for (name, place) in [
        ("grid", PlaceRule::Grid { square_m: 800.0 }),
        ("distance", PlaceRule::Distance { distance_m_max: 50.0 }),
    ] {
        let town = Town::new(1_000, 20, place);
        group.throughput(Throughput::Elements(town.cases.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                CaseIndex::build(&town.pings, &town.cases, &town.rule.encounter, &town.feeds, DAY + DAY_MS)
            });
        });
    }
}

criterion_group!(benches, sieve, index);
criterion_main!(benches);
