//! `synth OUT`: a made-up city.

use super::progress::{Progress, Style};
use super::{interrupt, thousands};
use crate::error::Result;
use crate::io::machine;
use crate::io::output::{Kind, Staging};
use crate::ping::Order;
use crate::pipeline;
use crate::pipeline::watch::Watch;
use crate::synth::{self, Ids, Recipe, VERSION};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

const EXAMPLE: &str = r#"A city to try a rule on, and a large one to measure with:

  copresence synth town --rows 1e6
  copresence run town/job.toml
  copresence synth city --rows 1e9 --order time --threads 8

OUT holds pings/part-*.parquet, cases.parquet and job.toml; nobody in it exists.
The days end at 2022-03-22T00:00:00+08:00. The same arguments make the same bytes,
for any number of threads, until the version of synth changes; --order, --ids and
--cases change no ping. Memory does not grow with the rows."#;

/// Write a made-up city: pings and cases of any number, and the job that reads them.
///
/// Its persons live, work and go out in one metropolitan area of 55 by 33 km; it does not grow with them, so
/// that more persons meet more often. Pings are of GPS, 7 minutes apart in the mean.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLE)]
pub struct Synth {
    /// The folder to write, which must not exist yet.
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Pings in all, as 100000000 or 1e8.
    #[arg(long, value_name = "N", default_value = "1e7", value_parser = count)]
    rows: u64,
    /// Persons [default: as many as give each 200 pings a day].
    #[arg(long, value_name = "N", value_parser = count)]
    persons: Option<u64>,
    /// Days; a person's home and workplace stay the same.
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    days: u64,
    /// Persons who are cases, infectious all of the last day [default: 100, or a tenth of fewer persons].
    #[arg(long, value_name = "N", value_parser = count)]
    cases: Option<u64>,
    /// Another seed makes another city and other persons.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// In which order the pings are written: the same pings in each.
    #[arg(long, value_enum, default_value_t = OrderWord::Time)]
    order: OrderWord,
    /// What person_ids are.
    #[arg(long, value_enum, default_value_t = IdsWord::Integer)]
    ids: IdsWord,
    /// Worker threads [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Replace an earlier city.
    #[arg(long)]
    force: bool,
    /// How progress is shown on standard error: auto is a bar on a terminal and plain lines elsewhere.
    #[arg(long, value_enum, default_value_t = Style::Auto)]
    progress: Style,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OrderWord {
    /// By time, as a collector writes them.
    Time,
    /// By person_id, then time, as a prepared table is.
    Person,
    /// Shuffled.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum IdsWord {
    /// Unsigned integers of 63 bits.
    Integer,
    /// Text of 36 characters in the form of a UUID.
    Text,
}

impl Synth {
    /// Makes the city, and says what it is.
    pub fn run(&self) -> Result<u8> {
        let clock = Instant::now();
        let persons = self.persons.unwrap_or_else(|| Recipe::persons_for(self.rows, self.days));
        let recipe = Recipe {
            rows: self.rows,
            persons,
            days: self.days,
            cases: self.cases.unwrap_or_else(|| Recipe::cases_for(persons)),
            seed: self.seed,
            order: match self.order {
                OrderWord::Time => Order::Time,
                OrderWord::Person => Order::Person,
                OrderWord::None => Order::None,
            },
            ids: match self.ids {
                IdsWord::Integer => Ids::Integer,
                IdsWord::Text => Ids::Text,
            },
        };
        recipe.check()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.map_or(cores, usize::from);
        let watch = Arc::new(Watch::default());
        interrupt::install(&watch);
        let staging = Staging::new(Kind::City, &self.out, self.force)?;
        let progress = Progress::start(self.progress, &watch);
        let city = synth::Synth::new(recipe);
        let bytes = pipeline::synth::write(&city, &staging, threads, &watch)?;
        watch.advance(0)?;
        staging.commit()?;
        drop(progress);
        self.sum_up(city.recipe(), bytes, clock.elapsed().as_secs_f64(), threads);
        Ok(0)
    }

    fn sum_up(&self, recipe: &Recipe, bytes: u64, seconds: f64, threads: usize) {
        let line = |name: &str, text: String| out!("  {name:<11}{text}");
        out!("synth version {VERSION}, seed {}", recipe.seed);
        let each = bytes as f64 / recipe.rows as f64;
        line("rows", format!("{}, {each:.1} bytes each", thousands(recipe.rows)));
        line("persons", format!("{}, for {} days", thousands(recipe.persons), recipe.days));
        line("cases", thousands(recipe.cases));
        let rate = thousands((recipe.rows as f64 / seconds) as u64);
        line("time", format!("{seconds:.2} s, {rate} rows/s, {threads} threads"));
        if let Some(peak) = machine::memory_peak_bytes() {
            line("memory", format!("{} MiB at its peak", peak >> 20));
        }
        line("to run", format!("copresence run {}", self.out.join(crate::io::synth::JOB).display()));
    }
}

/// A whole number, as 100000000, 100_000_000 or 1e8.
fn count(text: &str) -> std::result::Result<u64, String> {
    let plain = text.replace('_', "");
    let wrong = || "write a whole number of at least 1, as 100000000 or 1e8".to_string();
    if let Ok(n) = plain.parse::<u64>() {
        return if n > 0 { Ok(n) } else { Err(wrong()) };
    }
    match plain.parse::<f64>() {
        // Beyond 2^53 not every whole number can be said this way.
        Ok(n) if (1.0..=9e15).contains(&n) && n.fract() == 0.0 => Ok(n as u64),
        _ => Err(wrong()),
    }
}
