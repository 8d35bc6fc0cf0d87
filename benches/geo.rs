//! What a distance costs, and the box around a place.

use copresence::geo::{LatLonBox, haversine_m};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const PAIRS: usize = 1_000;

/// Pairs of positions, the second this many degrees from the first, at bearings all around.
fn pairs(degrees: f64) -> Vec<[f64; 4]> {
    let pair = |n: usize| {
        let (lat, lon) = (34.7 + 1e-4 * n as f64, 113.6 + 1.7e-4 * n as f64);
        let (north, east) = (n as f64).sin_cos();
        [lat, lon, lat + degrees * north, lon + degrees * east]
    };
    (0..PAIRS).map(pair).collect()
}

fn distance(c: &mut Criterion) {
    let mut group = c.benchmark_group("geo/haversine");
    group.throughput(Throughput::Elements(PAIRS as u64));
    for (name, degrees) in [("50 m", 4.5e-4), ("5 km", 4.5e-2)] {
        let pairs = pairs(degrees);
        group.bench_function(name, |b| {
            b.iter(|| pairs.iter().filter(|[a, b, c, d]| haversine_m(*a, *b, *c, *d) <= 50.0).count());
        });
    }
    group.finish();
    let mut group = c.benchmark_group("geo/box");
    group.throughput(Throughput::Elements(PAIRS as u64));
    let pairs = pairs(4.5e-4);
    group.bench_function("grown by 50 m", |b| {
        let grown = |[lat, lon, ..]: &[f64; 4]| LatLonBox::of_path(*lat, *lon, 0.0, 0.0).grown(50.0).lat_max;
        b.iter(|| pairs.iter().map(grown).sum::<f64>());
    });
    group.finish();
}

criterion_group!(benches, distance);
criterion_main!(benches);
