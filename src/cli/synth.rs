//! `synth OUT`: a made-up city.

use super::progress::{Progress, Style};
use super::{interrupt, thousands};
use crate::city;
use crate::error::Result;
use crate::io::machine;
use crate::io::output::{Kind, Staging};
use crate::ping::Order;
use crate::pipeline;
use crate::pipeline::watch::Watch;
use crate::rule::Source;
use crate::synth::{self, Ids, Recipe, VERSION};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Persons and days of a city, where nobody says.
const PERSONS: u64 = 10_000;
const DAYS: u64 = 14;

const EXAMPLE: &str = r#"A city whose truth is known, and what a rule makes of it:

  copresence synth town --persons 20000 --days 14
  copresence run town/job.toml
  copresence sweep town/job.toml --truth town/truth --vary rule.encounter.distance_m_max=10,25,50

Pings alone, to measure with:

  copresence synth many --rows 1e9 --order time --threads 8

A city's folder holds a feed for each source (gps, tower, venue, trip), towers.parquet, venues.parquet, cases.parquet, areas.csv,
job.toml, and in truth/ who truly was near whom and was infected; docs/city.md describes it. Pings alone are pings/part-*.parquet,
cases.parquet and job.toml. Nobody in either exists. The days end at 2022-03-22T00:00:00+08:00. The same arguments make the same
bytes, for any number of threads, until the version of synth changes; --sources, --order, --ids change no ping."#;

/// Write a made-up city whose truth is known; or, with --rows, pings alone, of any number.
///
/// The city's persons live in households, work, learn, shop, eat out and ride, second by second; feeds tell of it with the flaws of
/// their kinds: gaps and inaccurate positions, towers that change to and fro, codes that few scan and nobody checks out of.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLE)]
pub struct Synth {
    /// The folder to write, which must not exist yet.
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Persons [default: 10000; with --rows as many as give each 200 pings a day].
    #[arg(long, value_name = "N", value_parser = count)]
    persons: Option<u64>,
    /// Days; a person's home and workplace stay the same [default: 14; with --rows 1].
    #[arg(long, value_name = "N", value_parser = count)]
    days: Option<u64>,
    /// Persons who are cases [default: one in ten thousand, ten at least; with --rows 100, or a tenth of fewer persons, infectious all of the last day].
    #[arg(long, value_name = "N", value_parser = count)]
    cases: Option<u64>,
    /// Another seed makes another city and other persons.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The city's feeds.
    #[arg(
        long,
        value_name = "SOURCES",
        value_delimiter = ',',
        default_value = "gps,tower,venue,trip",
        conflicts_with = "rows"
    )]
    sources: Vec<SourceWord>,
    /// The datum of the city's positions.
    #[arg(long, value_enum, default_value_t = DatumWord::Wgs84, conflicts_with = "rows")]
    datum: DatumWord,
    /// Share of the city's gps and tower rows that are broken: no person, no time, no such place.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, conflicts_with = "rows")]
    broken_share: f64,
    /// Pings alone: so many in all, as 100000000 or 1e8; of GPS, 7 minutes apart in the mean, in an area that does not grow with the
    /// persons.
    #[arg(long, value_name = "N", value_parser = count)]
    rows: Option<u64>,
    /// In which order pings alone are written: the same pings in each.
    #[arg(long, value_enum, default_value_t = OrderWord::Time, requires = "rows")]
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

/// A kind of feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SourceWord {
    /// Telephones' own positions.
    Gps,
    /// The base stations that served them.
    Tower,
    /// Codes that were scanned.
    Venue,
    /// Rides in buses and trains.
    Trip,
}

/// A datum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DatumWord {
    /// What GPS reports.
    Wgs84,
    /// What Chinese maps show.
    Gcj02,
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
        match self.rows {
            Some(rows) => self.write_pings(rows),
            None => self.write_city(),
        }
    }

    fn threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or(cores, usize::from)
    }

    fn ids(&self) -> Ids {
        match self.ids {
            IdsWord::Integer => Ids::Integer,
            IdsWord::Text => Ids::Text,
        }
    }

    fn write_city(&self) -> Result<u8> {
        let clock = Instant::now();
        let persons = self.persons.unwrap_or(PERSONS);
        let mut sources: Vec<Source> = self.sources.iter().map(|word| word.source()).collect();
        sources.sort_unstable();
        sources.dedup();
        let recipe = city::Recipe {
            persons,
            days: self.days.unwrap_or(DAYS),
            cases: self.cases.unwrap_or_else(|| city::Recipe::cases_for(persons)),
            seed: self.seed,
            sources,
            gcj02: self.datum == DatumWord::Gcj02,
            broken_share: self.broken_share,
            ids: self.ids(),
        };
        recipe.check()?;
        let watch = Arc::new(Watch::default());
        interrupt::install(&watch);
        let staging = Staging::new(Kind::City, &self.out, self.force)?;
        let progress = Progress::start(self.progress, &watch);
        let city = city::City::new(recipe);
        let (bytes, tally) = pipeline::city::write(&city, &staging, self.threads(), &watch)?;
        watch.advance(0)?;
        staging.commit()?;
        drop(progress);
        let recipe = city.recipe();
        out!("city version {}, seed {}", city::VERSION, recipe.seed);
        let rows: Vec<String> = recipe
            .sources
            .iter()
            .map(|source| {
                format!("{source} {}", thousands(tally["rows"][source.name()].as_u64().unwrap_or(0)))
            })
            .collect();
        let all: u64 = recipe.sources.iter().filter_map(|source| tally["rows"][source.name()].as_u64()).sum();
        line("persons", format!("{}, for {} days", thousands(recipe.persons), recipe.days));
        line("cases", thousands(recipe.cases));
        line("rows", format!("{}: {}", thousands(all), rows.join(", ")));
        let near = |name: &str| thousands(tally[name].as_u64().unwrap_or(0));
        line(
            "truth",
            format!(
                "{} pairs of a person and a case within 50 m, {} of them 15 minutes within 10 m; {} infected",
                near("pairs_within_50_m"),
                near("pairs_within_10_m_for_15_min"),
                near("infections")
            ),
        );
        self.close(all, bytes, clock.elapsed().as_secs_f64());
        Ok(0)
    }

    fn write_pings(&self, rows: u64) -> Result<u8> {
        let clock = Instant::now();
        let days = self.days.unwrap_or(1);
        let persons = self.persons.unwrap_or_else(|| Recipe::persons_for(rows, days));
        let recipe = Recipe {
            rows,
            persons,
            days,
            cases: self.cases.unwrap_or_else(|| Recipe::cases_for(persons)),
            seed: self.seed,
            order: match self.order {
                OrderWord::Time => Order::Time,
                OrderWord::Person => Order::Person,
                OrderWord::None => Order::None,
            },
            ids: self.ids(),
        };
        recipe.check()?;
        let watch = Arc::new(Watch::default());
        interrupt::install(&watch);
        let staging = Staging::new(Kind::City, &self.out, self.force)?;
        let progress = Progress::start(self.progress, &watch);
        let city = synth::Synth::new(recipe);
        let bytes = pipeline::synth::write(&city, &staging, self.threads(), &watch)?;
        watch.advance(0)?;
        staging.commit()?;
        drop(progress);
        let recipe = city.recipe();
        out!("synth version {VERSION}, seed {}", recipe.seed);
        let each = bytes as f64 / recipe.rows as f64;
        line("rows", format!("{}, {each:.1} bytes each", thousands(recipe.rows)));
        line("persons", format!("{}, for {} days", thousands(recipe.persons), recipe.days));
        line("cases", thousands(recipe.cases));
        self.close(recipe.rows, bytes, clock.elapsed().as_secs_f64());
        Ok(0)
    }

    fn close(&self, rows: u64, bytes: u64, seconds: f64) {
        let rate = thousands((rows as f64 / seconds) as u64);
        let size = thousands(bytes >> 20);
        line("time", format!("{seconds:.2} s, {rate} rows/s, {} threads, {size} MiB", self.threads()));
        if let Some(peak) = machine::memory_peak_bytes() {
            line("memory", format!("{} MiB at its peak", peak >> 20));
        }
        line("to run", format!("copresence run {}", self.out.join(crate::io::synth::JOB).display()));
    }
}

fn line(name: &str, text: String) {
    out!("  {name:<11}{text}");
}

impl SourceWord {
    fn source(self) -> Source {
        match self {
            SourceWord::Gps => Source::Gps,
            SourceWord::Tower => Source::Tower,
            SourceWord::Venue => Source::Venue,
            SourceWord::Trip => Source::Trip,
        }
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
