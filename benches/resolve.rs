//! What it costs to turn gathered pings into encounters and exposures, by rule.

mod city;

use city::Town;
use copresence::place::PlaceRule;
use copresence::resolve::{Scope, Setting, resolve};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn resolved(c: &mut Criterion) {
    let mut group = c.benchmark_group("resolve");
    group.sample_size(20);
    for (name, place) in [
        ("grid", PlaceRule::Grid { square_m: 800.0 }),
        ("cell", PlaceRule::Cell { resolution: 8 }),
        ("distance", PlaceRule::Distance { distance_m_max: 50.0 }),
    ] {
        let town = Town::new(1_000, 20, place);
        let setting = Setting {
            index: &town.index,
            rule: &town.rule,
            places: &[],
            exposures: Scope::All,
            encounters: Scope::Candidates,
        };
        group.throughput(Throughput::Elements(town.stays.num_rows() as u64));
        assert_eq!(town.cases.len(), 20);
        group.bench_function(name, |b| b.iter(|| resolve(&town.stays, &setting).expect("an answer")));
    }
}

criterion_group!(benches, resolved);
criterion_main!(benches);
