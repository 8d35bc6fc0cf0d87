//! The command line: one command a file, and the only place that prints.

/// A line of results; like `println!`, but a reader who has seen enough (`| head`) is no failure.
macro_rules! out {
    ($($arg:tt)*) => { $crate::cli::say(&format!("{}\n", format_args!($($arg)*))) };
}

mod case;
mod check;
mod explain;
mod ingest;
mod interrupt;
mod metrics;
mod progress;
mod rules;
mod run;
mod store;
mod summary;
mod sweep;
mod synth;

use crate::config::{Config, Overrides};
use crate::error::{Error, Problem, Result};
use crate::io::storage::Surroundings;
use crate::io::store::Store;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Finds who shared place and time with confirmed cases, from location pings in Parquet.
///
/// It writes candidates, each with its evidence, for people to review. It assigns no code by itself,
/// and it accepts no list of persons to look for.
#[derive(Debug, Parser)]
#[command(name = "copresence", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 bad usage or job file, 3 stopped by a safeguard, \
4 done with warnings under --strict, 130 stopped by a signal.\nResults go to standard output, all else to standard error.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a job: read pings and cases, write candidates with their evidence.
    Run(run::Run),
    /// Show whom one case of a job met, from a prepared store, at once.
    Case(case::Case),
    /// Check a job and its inputs; nothing is computed or written.
    Check(check::Check),
    /// Show the evidence about one person in an output folder.
    Explain(explain::Explain),
    /// List the rules that come with the program; print one, or the schema of job and rule files.
    Rules(rules::Rules),
    /// Read feeds into a prepared store, which runs then read in their place.
    Ingest(ingest::Ingest),
    /// Remove the days before a date from a prepared store for good, and prove it.
    Purge(store::Purge),
    /// Look into a prepared store: what it holds, whether it is whole; drop days, make it compact.
    Store(store::Store),
    /// Evaluate many rules on the same pings: who would be a candidate by each.
    Sweep(sweep::Sweep),
    /// Write a made-up city: pings and cases of any number, and the job that reads them.
    Synth(synth::Synth),
}

/// Flags of all commands that take a job.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// The job file (TOML).
    #[arg(value_name = "JOB")]
    job: PathBuf,
    /// Output folder, or a URL for one [default: out/NAME beside the job file].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Worker threads [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Memory budget, as 4GiB or 500MB [default: half of the machine's].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<u64>,
    /// Look back from this instant instead of the job's as_of, as 2022-03-22T00:00:00+08:00.
    #[arg(long, value_name = "TIME")]
    as_of: Option<String>,
    /// Override one key of the job file, as rule.candidate.direct_s_min=900; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How progress is shown on standard error: auto is a bar on a terminal and plain lines elsewhere.
    #[arg(long, value_enum, default_value_t = progress::Style::Auto)]
    progress: progress::Style,
    /// How warnings and errors are written.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Replace an earlier output.
    #[arg(long)]
    force: bool,
    /// Rows decoded at once by each thread.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_048_576), hide_short_help = true)]
    batch_rows: Option<u32>,
    /// Read this prepared store (a folder or a URL) instead of the feeds' files.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

/// How warnings and errors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Reads the command line. What is wrong with it is shown, but for `explain`, whose arguments hold a
/// person_id: of these none is shown again.
pub fn parse() -> std::result::Result<Cli, u8> {
    use clap::error::ErrorKind;
    Cli::try_parse().map_err(|error| {
        let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
        let explains = std::env::args_os().nth(1).is_some_and(|command| command == "explain");
        if explains && !asked {
            tell("error: explain takes an output folder and one person: copresence explain OUT --person ID");
            return 2;
        }
        // Clap shows help and errors where each belongs; a closed pipe is no failure.
        drop(error.print());
        u8::try_from(error.exit_code()).unwrap_or(2)
    })
}

impl Cli {
    /// How warnings and errors are to be written.
    pub fn log_format(&self) -> LogFormat {
        match &self.command {
            Command::Run(run) => run.job.log_format,
            Command::Case(case) => case.job.log_format,
            Command::Check(check) => check.job.log_format,
            Command::Ingest(ingest) => ingest.job.log_format,
            Command::Sweep(sweep) => sweep.job.log_format,
            Command::Explain(_)
            | Command::Purge(_)
            | Command::Rules(_)
            | Command::Store(_)
            | Command::Synth(_) => LogFormat::Text,
        }
    }

    /// Runs the command; its exit code.
    pub fn run(self) -> Result<u8> {
        let text = |name: std::ffi::OsString| name.into_string().ok();
        let variables = std::env::vars_os().filter_map(|(name, value)| text(name).zip(text(value)));
        let scratch = std::env::temp_dir();
        crate::io::storage::surround(Surroundings { variables: variables.collect(), scratch });
        match self.command {
            Command::Run(run) => run.run(),
            Command::Case(case) => case.run(),
            Command::Check(check) => check.run(),
            Command::Explain(explain) => explain.run(),
            Command::Ingest(ingest) => ingest.run(),
            Command::Rules(rules) => rules.run(),
            Command::Purge(purge) => purge.run(),
            Command::Store(store) => store.run(),
            Command::Sweep(sweep) => sweep.run(),
            Command::Synth(synth) => synth.run(),
        }
    }
}

impl JobArgs {
    /// The configuration that the job file and these flags make, and the store that it is read from, if any.
    fn config(&self, overrides: Overrides) -> Result<(Config, Option<Store>)> {
        let (mut configs, store) = self.configs(overrides, &[Vec::new()])?;
        Ok((configs.remove(0), store))
    }

    /// The same for sets of keys with other values, each over all that these flags set.
    fn configs(&self, overrides: Overrides, sets: &[Vec<String>]) -> Result<(Vec<Config>, Option<Store>)> {
        let overrides = Overrides { store: self.store.clone(), ..overrides };
        let (text, mut overrides) = self.text(overrides)?;
        let folder = Config::store_of(&self.job, &text, &overrides);
        let store = folder.map(|folder| Store::open(&folder)).transpose()?;
        overrides.stored_feeds = store.as_ref().map(|store| store.catalogue.feeds.clone());
        let with = |set: &Vec<String>| {
            let set = self.set.iter().chain(set).cloned().collect();
            let mut config = self.config_from(&text, &Overrides { set, ..overrides.clone() })?;
            store.iter().try_for_each(|store| store.attach(&mut config))?;
            Ok(config)
        };
        Ok((sets.iter().map(with).collect::<Result<_>>()?, store))
    }

    /// The same, but the feeds' own files are read, whatever store there is.
    fn config_of_feeds(&self, overrides: Overrides) -> Result<Config> {
        let (text, overrides) = self.text(overrides)?;
        let mut config = self.config_from(&text, &overrides)?;
        config.store = None;
        Ok(config)
    }

    /// The job file, and all that these flags say.
    fn text(&self, overrides: Overrides) -> Result<(String, Overrides)> {
        let text = std::fs::read_to_string(&self.job).map_err(|e| {
            Error::Job(Problem::new(
                self.job.display().to_string(),
                "a job file",
                e.to_string(),
                "check the path; README.md shows a job file",
            ))
        })?;
        let overrides = Overrides {
            out: self.out.clone(),
            threads: self.threads.map(usize::from),
            memory_bytes: self.memory,
            batch_rows: self.batch_rows.map(|n| n as usize),
            as_of: self.as_of.clone(),
            set: self.set.clone(),
            force: self.force,
            ..overrides
        };
        Ok((text, overrides))
    }

    fn config_from(&self, text: &str, overrides: &Overrides) -> Result<Config> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let machine_bytes = crate::io::machine::memory_bytes().unwrap_or(8 << 30);
        Config::new(&self.job, text, overrides, machine_bytes, cores)
    }
}

fn parse_size(text: &str) -> std::result::Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        "tib" => 1_099_511_627_776.0,
        _ => return Err("write a size as 4GiB, 500MB or a number of bytes".into()),
    };
    match number.parse::<f64>() {
        Ok(n) if n * factor >= crate::config::MEMORY_BYTES_MIN as f64 => Ok((n * factor) as u64),
        Ok(_) => Err("at least 64MiB".into()),
        Err(_) => Err("write a size as 4GiB, 500MB or a number of bytes".into()),
    }
}

/// Sends warnings to standard error.
pub fn start_log(format: LogFormat) {
    let builder = tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false);
    // A second logger in one process is no fault: the first one stays.
    drop(match format {
        LogFormat::Text => builder.without_time().with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    });
}

/// Writes results to standard output. A reader who has seen enough (`| head`) is no failure.
fn say(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    if let Err(e) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        && e.kind() != std::io::ErrorKind::BrokenPipe
    {
        tell(&format!("error: standard output cannot be written: {e}"));
        std::process::exit(1);
    }
}

/// Writes a line to standard error, which may be closed.
fn tell(text: &str) {
    use std::io::Write;
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Writes a warning.
fn warn(text: &str, format: LogFormat) {
    match format {
        LogFormat::Text => tell(&format!("warning: {text}")),
        LogFormat::Json => tracing::warn!("{text}"),
    }
}

/// Writes the error that ended the program.
pub fn show_error(error: &Error, format: LogFormat) {
    match (format, error) {
        (LogFormat::Text, _) => tell(&format!("error: {error}")),
        (LogFormat::Json, Error::Interrupted) => tracing::error!("{error}"),
        (
            LogFormat::Json,
            Error::Job(p) | Error::Input(p) | Error::Output(p) | Error::Memory(p) | Error::Safeguard(p),
        ) => {
            tracing::error!(place = p.place, expected = p.expected, found = p.found, cure = p.cure, "failed");
        }
    }
}

/// A decoder that panics on a broken file is an error like any other, so it says nothing by itself.
pub fn quiet_decoder_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !crate::io::files::in_guard() {
            usual(info);
        }
    }));
}

/// 1234567 as 1,234,567.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
