//! What it costs to bring a position to WGS84, and to its square and its cell.

use copresence::datum::Datum;
use copresence::place::{Squares, cell, square};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

fn positions(c: &mut Criterion) {
    let (lat, lon) = (black_box(34.75), black_box(113.68));
    c.bench_function("datum/gcj02", |b| b.iter(|| Datum::Gcj02.to_wgs84(black_box(lat), lon)));
    c.bench_function("datum/bd09", |b| b.iter(|| Datum::Bd09.to_wgs84(black_box(lat), lon)));
    c.bench_function("place/square", |b| b.iter(|| square(black_box(lat), lon, 800.0)));
    let mut squares = Squares::default();
    c.bench_function("place/square of a known row", |b| {
        b.iter(|| squares.square(black_box(lat), lon, 800.0))
    });
    c.bench_function("place/cell", |b| b.iter(|| cell(black_box(lat), lon, 8)));
}

criterion_group!(benches, positions);
criterion_main!(benches);
