//! What it costs to turn stays into encounters and exposures, by rule.

mod city;

use city::{DAY, Town};
use copresence::index::{Beside, CaseIndex};
use copresence::person::PersonType;
use copresence::place::PlaceRule;
use copresence::resolve::{Dwells, Scope, Setting, resolve};
use copresence::time::{DAY_MS, HOUR_MS};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn resolved(c: &mut Criterion) {
    let mut group = c.benchmark_group("resolve");
    group.sample_size(20);
    let grid = PlaceRule::Grid { square_m: 800.0 };
    for (name, place, lag_ms) in [
        ("grid", grid, 0),
        ("cell", PlaceRule::Cell { resolution: 8 }, 0),
        ("distance", PlaceRule::Distance { distance_m_max: 50.0 }, 0),
        ("grid, lag 2 h", grid, 2 * HOUR_MS),
    ] {
        let mut town = Town::new(1_000, 20, place);
        town.rule.encounter.lag_ms = lag_ms;
        town.index = CaseIndex::build(
            &town.pings,
            &town.cases,
            &town.rule.encounter,
            &town.feeds,
            DAY + DAY_MS,
            Beside::default(),
        );
        let setting = Setting {
            index: &town.index,
            person: PersonType::UInt64,
            rule: &town.rule,
            venues: &[],
            venue_squares: &[],
            trips: &[],
            seats: &[],
            areas: None,
            settings: &[],
            holds_scanners: false,
            dwells: Dwells::Unknown,
            variants: &[],
            truth: None,
            controls: 0,
            exposures: Scope::All,
            encounters: Scope::Candidates,
        };
        group.throughput(Throughput::Elements(town.stays.num_rows() as u64));
        group.bench_function(name, |b| b.iter(|| resolve(&town.stays, &setting).expect("an answer")));
    }
    group.finish();
}

criterion_group!(benches, resolved);
criterion_main!(benches);
