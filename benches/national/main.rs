//! The whole program beside a bare scan of the same rows: `cargo bench --bench national -- --rows 1e8`.
//!
//! The bare scan reads person_id, time, lat and lon of all rows and adds them up, in a process of its own: what
//! reading alone costs. Both run in turn, some pairs of them, on files in the page cache; medians are printed.
//! A smoke run (`-- --test`) does all of it once on few rows.

mod data;
mod measure;
mod options;
mod scan;
mod shapes;

use clap::Parser;
use data::{Data, Source};
use measure::{Place, Setting, ingest, line, line_head, measure};
use options::{Options, Order};
use std::path::Path;

/// Rows of a smoke run, of a city and of a shape.
const SMOKE_ROWS: u64 = 40_000;
const SMOKE_SHAPE_ROWS: u64 = 20_000;
const PAIRS: usize = 5;
const CITY_ROWS: u64 = 10_000_000;

fn main() {
    let options = Options::parse();
    if let Some([folder, threads]) = options.bare_scan.as_deref() {
        return scan::run(Path::new(folder), threads.parse().expect("a number of threads"));
    }
    // `cargo bench -- NAME` runs what is called so.
    if !options.names.is_empty() && !options.names.iter().any(|name| "national".contains(name.as_str())) {
        return;
    }
    println!("{}", measure::circumstances());
    let mut lines = Vec::new();
    for source in sources(&options) {
        let data = Data::prepare(&options, source);
        if options.store {
            lines.extend(through_a_store(&options, &data));
            continue;
        }
        if options.test && matches!(source, Source::City { order: Order::Time, .. }) {
            lines.extend(through_a_store(&options, &data));
        }
        for place in options.place.map_or(Place::ALL.to_vec(), |place| vec![place]) {
            let setting = Setting {
                place,
                threads: options.threads(),
                pairs: options.pairs.unwrap_or(if options.test { 1 } else { PAIRS }),
                memory: options.memory.clone(),
                store: None,
                cases: None,
            };
            let measured = measure(&data, &setting);
            // Of a smoke run the table at the end is enough.
            if !options.test {
                println!("\n{measured}");
            }
            lines.push(line(&measured));
        }
    }
    if lines.len() > 1 {
        println!("\n{}\n{}", line_head(), lines.join("\n"));
    }
}

/// What a store takes and gives: its ingest, one case, and all cases.
fn through_a_store(options: &Options, data: &Data) -> Vec<String> {
    let store = Some(data.folder.with_extension("store"));
    let setting = |place, cases| Setting {
        place,
        threads: options.threads(),
        pairs: options.pairs.unwrap_or(if options.test { 1 } else { PAIRS }),
        memory: options.memory.clone(),
        store: store.clone(),
        cases,
    };
    let made = ingest(data, &setting(Place::Distance, None));
    if !options.test {
        println!("\n{made}");
    }
    let asked = [(Place::Distance, Some(data.first_case())), (Place::Distance, None), (Place::Grid, None)];
    let of_all = asked.into_iter().map(|(place, cases)| {
        let measured = measure(data, &setting(place, cases));
        if !options.test {
            println!("\n{measured}");
        }
        line(&measured)
    });
    of_all.collect()
}

/// What is measured: one city or one shape, or all of a smoke run.
fn sources(options: &Options) -> Vec<Source> {
    let city = |rows, order| Source::City { rows: options.rows.unwrap_or(rows), order };
    let shape = |shape| Source::Shape {
        shape,
        rows: options.rows.unwrap_or(if options.test { SMOKE_SHAPE_ROWS } else { shape.rows() }),
        order: options.order.unwrap_or(Order::Time),
    };
    let shapes = options.shape.as_ref().map(options::ShapeWord::shapes);
    match (shapes, options.test) {
        (Some(shapes), _) => shapes.into_iter().map(shape).collect(),
        (None, true) => {
            let cities = Order::ALL.into_iter().map(|order| city(SMOKE_ROWS, order));
            cities.chain(shapes::Shape::ALL.into_iter().map(shape)).collect()
        }
        (None, false) => vec![city(CITY_ROWS, options.order.unwrap_or(Order::Time))],
    }
}
