//! What the index over the cases' stays costs to build, and to ask, by rule.

mod city;

use city::{DAY, Town};
use copresence::index::intervals::{Interval, Intervals, Query};
use copresence::index::{Beside, CaseIndex, Found};
use copresence::place::PlaceRule;
use copresence::stay::{Stay, Stays};
use copresence::time::DAY_MS;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const RULES: [(&str, PlaceRule); 3] = [
    ("grid", PlaceRule::Grid { square_m: 800.0 }),
    ("cell", PlaceRule::Cell { resolution: 8 }),
    ("distance", PlaceRule::Distance { distance_m_max: 50.0 }),
];

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("index/build");
    group.sample_size(20);
    for (name, place) in RULES {
        let town = Town::new(1_000, 20, place);
        group.throughput(Throughput::Elements(town.cases.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                CaseIndex::build(
                    &town.pings,
                    &town.cases,
                    &town.rule.encounter,
                    &town.feeds,
                    DAY + DAY_MS,
                    Beside::default(),
                )
            });
        });
    }
    group.finish();
}

fn probe(c: &mut Criterion) {
    let mut group = c.benchmark_group("index/probe");
    for (name, place) in RULES {
        let town = Town::new(1_000, 20, place);
        let view = Stays::of(&town.stays);
        let stays: Vec<Stay> = (0..town.stays.num_rows()).map(|row| view.at(row)).collect();
        let mut found = Found::default();
        group.throughput(Throughput::Elements(stays.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let (mut done, mut hits) = (0, 0);
                while done < stays.len() {
                    let next = &stays[done..stays.len().min(done + 256)];
                    done += town.index.find(next, &mut found);
                    hits += found.hits.len();
                }
                hits
            });
        });
    }
    group.finish();
}

/// Many stays of one place, of which few overlap what is asked.
fn intervals(c: &mut Criterion) {
    let mut group = c.benchmark_group("index/intervals");
    for many in [100u32, 10_000] {
        let step = DAY_MS / i64::from(many);
        let range = |item: u32| {
            let start = DAY + step * i64::from(item);
            Interval { start, end: start + 2 * step, lat: 0.0, lon: 0.0, item }
        };
        let all = Intervals::new(|add| (0..many).for_each(|item| add((), range(item))));
        let asked: Vec<i64> = (0..1_000).map(|n| DAY + n * 86_399).collect();
        group.throughput(Throughput::Elements(asked.len() as u64));
        group.bench_function(format!("of {many}"), |b| {
            b.iter(|| {
                let mut found = 0u64;
                let query = |at| Query::anywhere(at, at + step);
                asked.iter().for_each(|&at| all.overlapping(&(), &query(at), &mut |_| found += 1));
                found
            });
        });
    }
    group.finish();
}

criterion_group!(benches, build, probe, intervals);
criterion_main!(benches);
