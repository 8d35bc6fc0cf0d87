//! The flags.

use crate::measure::Place;
use crate::shapes::Shape;
use clap::{Parser, ValueEnum};
use std::path::PathBuf;

/// Measures the whole program beside a bare scan of the same rows.
#[derive(Debug, Parser)]
#[command(name = "national")]
pub struct Options {
    /// Pings, as 100000000 or 1e8 [default: 1e7; of a shape, what ends within a minute].
    #[arg(long, value_name = "N", value_parser = rows)]
    pub rows: Option<u64>,
    /// In which order the pings are written [default: time].
    #[arg(long, value_enum)]
    pub order: Option<Order>,
    /// Cases [default: 100, or a tenth of fewer persons].
    #[arg(long, value_name = "N", value_parser = rows)]
    pub cases: Option<u64>,
    /// Persons of the city [default: as many as give each 200 pings a day].
    #[arg(long, value_name = "N", value_parser = rows)]
    pub persons: Option<u64>,
    /// Days that the pings are spread over [default: 1].
    #[arg(long, value_name = "N", value_parser = rows)]
    pub days: Option<u64>,
    /// Squares of 800 m from 600 s on, or 50 m from 900 s on [default: both].
    #[arg(long, value_enum)]
    pub place: Option<Place>,
    /// What person_ids are.
    #[arg(long, value_enum, default_value_t = Ids::Integer)]
    pub ids: Ids,
    /// Worker threads [default: all cores].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Runs of each, in turn [default: 5].
    #[arg(long, value_name = "N")]
    pub pairs: Option<usize>,
    /// The program's --memory.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Where data is made, or found again [default: below the build folder].
    #[arg(long, value_name = "FOLDER", default_value = env!("CARGO_TARGET_TMPDIR"))]
    pub data: PathBuf,
    /// Pings of a shape that is hard, in place of a city.
    #[arg(long, value_enum, value_name = "NAME")]
    pub shape: Option<ShapeWord>,
    /// Through a prepared store, which is made anew: what its ingest takes, then one case, and all cases by both rules.
    #[arg(long)]
    pub store: bool,
    /// A smoke run: few rows, one pair, all orders, both places, all shapes.
    #[arg(long)]
    pub test: bool,
    /// The bare scan of a folder, by so many threads.
    #[arg(long, hide = true, num_args = 2)]
    pub bare_scan: Option<Vec<String>>,
    /// Cargo says this to every bench.
    #[arg(long, hide = true)]
    bench: bool,
    /// Names of the benches to run.
    #[arg(hide = true)]
    pub names: Vec<String>,
}

impl Options {
    /// Threads of the program and of the bare scan.
    pub fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }
}

/// The order in which pings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// By time, then person_id.
    Time,
    /// By person_id, then time.
    Person,
    /// Shuffled.
    None,
}

impl Order {
    /// All.
    pub const ALL: [Order; 3] = [Order::Time, Order::Person, Order::None];
}

/// What person_ids are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ids {
    /// 63-bit numbers.
    Integer,
    /// Text of 36 characters.
    Text,
}

/// One shape, or all.
#[derive(Debug, Clone, Copy)]
pub struct ShapeWord(Option<Shape>);

impl ShapeWord {
    /// The shapes meant.
    pub fn shapes(&self) -> Vec<Shape> {
        self.0.map_or(Shape::ALL.to_vec(), |shape| vec![shape])
    }
}

impl ValueEnum for ShapeWord {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [ShapeWord; Shape::ALL.len() + 1] = {
            let mut words = [ShapeWord(None); Shape::ALL.len() + 1];
            let mut number = 0;
            while number < Shape::ALL.len() {
                words[number] = ShapeWord(Some(Shape::ALL[number]));
                number += 1;
            }
            words
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        match self.0 {
            Some(shape) => shape.to_possible_value(),
            None => Some(clap::builder::PossibleValue::new("all")),
        }
    }
}

/// A value's name on the command line.
pub fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |v| v.get_name().to_string())
}

fn rows(text: &str) -> Result<u64, String> {
    match text.replace('_', "").parse::<f64>() {
        Ok(n) if (1.0..=1e12).contains(&n) && n.fract() == 0.0 => Ok(n as u64),
        _ => Err("write a whole number of at least 1, as 100000000 or 1e8".into()),
    }
}
