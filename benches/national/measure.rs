//! Runs the bare scan and the program in turn, and says what each took.

use crate::data::Data;
use clap::ValueEnum;
use serde_json::Value;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// A hold after the end of the last day, so that the last pings stand as long as the others.
const AS_OF: &str = "2022-03-22T00:15:00+08:00";
/// Linux counts processor time for programs in hundredths of a second.
const TICKS_PER_S: f64 = 100.0;
const MIB: f64 = (1u64 << 20) as f64;

/// The rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// Squares of 800 m, from 600 s on.
    Grid,
    /// 50 m, from 900 s on.
    Distance,
}

impl Place {
    /// All.
    pub const ALL: [Place; 2] = [Place::Grid, Place::Distance];

    fn name(self) -> &'static str {
        match self {
            Place::Grid => "grid 800 m, 600 s",
            Place::Distance => "distance 50 m, 900 s",
        }
    }

    fn keys(self) -> &'static [&'static str] {
        match self {
            Place::Grid => &[
                "rule.encounter.place=grid",
                "rule.encounter.square_m=800",
                "rule.candidate.direct_s_min=600",
            ],
            Place::Distance => &[
                "rule.encounter.place=distance",
                "rule.encounter.distance_m_max=50",
                "rule.candidate.direct_s_min=900",
            ],
        }
    }
}

/// How it is measured.
#[derive(Debug)]
pub struct Setting {
    /// The rule.
    pub place: Place,
    /// Threads of both.
    pub threads: usize,
    /// Runs of each.
    pub pairs: usize,
    /// The program's --memory.
    pub memory: Option<String>,
    /// The prepared store that is read in the place of the pings.
    pub store: Option<PathBuf>,
    /// The list of cases, where it is not the job's own.
    pub cases: Option<PathBuf>,
}

/// What one process took, from its start to its end.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    wall_s: f64,
    cpu_s: f64,
    read_mib: f64,
    peak_mib: f64,
}

/// What the pairs took, and the manifests of the program's runs.
#[derive(Debug)]
pub struct Measured {
    title: String,
    rows: u64,
    scans: Vec<Run>,
    runs: Vec<Run>,
    manifests: Vec<Value>,
    /// Cores that other processes kept busy meanwhile; above a tenth, wall times are not to be trusted.
    others_cores: f64,
}

/// Runs the pairs.
pub fn measure(data: &Data, setting: &Setting) -> Measured {
    // Not counted: it brings the files into the page cache.
    let (_, found) = bare_scan(data, setting.threads);
    let mut measured = Measured {
        title: format!(
            "{}{}{}, {}, {} threads",
            data.title,
            if setting.store.is_some() { ", from a store" } else { "" },
            if setting.cases.is_some() { ", one case" } else { "" },
            setting.place.name(),
            setting.threads
        ),
        rows: found["rows"].as_u64().expect("a number of rows"),
        scans: Vec::new(),
        runs: Vec::new(),
        manifests: Vec::new(),
        others_cores: f64::NAN,
    };
    let (clock, busy_s, own_s) = (Instant::now(), machine_cpu_s(), children_cpu_s());
    let out = data.folder.with_extension("out");
    for _ in 0..setting.pairs.max(1) {
        measured.scans.push(bare_scan(data, setting.threads).0);
        let (mut run, manifest) = program(data, setting, &out);
        assert_eq!(manifest["counts"]["rows"].as_u64(), Some(measured.rows), "both read the same rows");
        run.peak_mib = mib(&manifest["memory_peak_bytes"]);
        measured.runs.push(run);
        measured.manifests.push(manifest);
    }
    let others_s = (machine_cpu_s() - busy_s) - (children_cpu_s() - own_s);
    measured.others_cores = others_s.max(0.0) / clock.elapsed().as_secs_f64();
    fs::remove_dir_all(&out).expect("the output can go");
    measured
}

fn bare_scan(data: &Data, threads: usize) -> (Run, Value) {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.arg("--bare-scan").arg(data.folder.join("pings")).arg(threads.to_string());
    let (mut run, printed) = timed(&mut command);
    let found: Value = serde_json::from_slice(&printed).expect("JSON");
    run.peak_mib = mib(&found["memory_peak_bytes"]);
    (run, found)
}

fn program(data: &Data, setting: &Setting, out: &Path) -> (Run, Value) {
    // What replacing an earlier output takes is no part of it.
    if out.exists() {
        fs::remove_dir_all(out).expect("the earlier output can go");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_copresence"));
    command.arg("run").arg(data.folder.join("job.toml")).arg("--out").arg(out);
    command.args(["--force", "--progress", "none", "--encounters", "none", "--as-of", AS_OF]);
    command.args(["--threads", &setting.threads.to_string()]);
    setting.place.keys().iter().for_each(|key| {
        command.args(["--set", key]);
    });
    setting.memory.iter().for_each(|memory| {
        command.args(["--memory", memory]);
    });
    setting.store.iter().for_each(|store| {
        command.arg("--store").arg(store);
    });
    setting.cases.iter().for_each(|cases| {
        command.arg("--set").arg(format!("cases.path={}", cases.display()));
    });
    let (run, _) = timed(&mut command);
    let manifest = fs::read_to_string(out.join("manifest.json")).expect("a manifest");
    (run, serde_json::from_str(&manifest).expect("JSON"))
}

/// Makes a store of the pings; what that took beside the bare scan, in words.
pub fn ingest(data: &Data, setting: &Setting) -> String {
    let store = setting.store.as_ref().expect("the folder of a store");
    if store.exists() {
        fs::remove_dir_all(store).expect("the earlier store can go");
    }
    bare_scan(data, setting.threads);
    let scan = bare_scan(data, setting.threads).0;
    let mut command = Command::new(env!("CARGO_BIN_EXE_copresence"));
    command.arg("ingest").arg(data.folder.join("job.toml")).arg("--store").arg(store);
    command.args(["--progress", "none", "--threads", &setting.threads.to_string()]);
    command.args(["--memory", setting.memory.as_deref().unwrap_or("2GiB")]);
    let (run, said) = timed(&mut command);
    let raw: u64 = fs::read_dir(data.folder.join("pings"))
        .expect("pings")
        .map(|entry| entry.and_then(|entry| entry.metadata()).expect("a file").len())
        .sum();
    format!(
        "## ingest of {}, {} threads, --memory {}\n{}  raw        {raw} bytes\n  ratio      {:.1} times the bare scan of {:.2} s by wall, {:.1} by CPU",
        data.title,
        setting.threads,
        setting.memory.as_deref().unwrap_or("2GiB"),
        String::from_utf8_lossy(&said),
        run.wall_s / scan.wall_s,
        scan.wall_s,
        run.cpu_s / scan.cpu_s,
    )
}

/// Runs a command to its end; what it took, and what it printed.
fn timed(command: &mut Command) -> (Run, Vec<u8>) {
    let (cpu_s, read_mib, clock) = (children_cpu_s(), children_read_mib(), Instant::now());
    let output = command.output().expect("the program starts");
    let wall_s = clock.elapsed().as_secs_f64();
    let (cpu_s, read_mib) = (children_cpu_s() - cpu_s, children_read_mib() - read_mib);
    assert!(output.status.success(), "{command:?} fails: {}", String::from_utf8_lossy(&output.stderr));
    (Run { wall_s, cpu_s, read_mib, peak_mib: f64::NAN }, output.stdout)
}

/// Processor seconds, user's and system's, of all children that ended so far.
fn children_cpu_s() -> f64 {
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return f64::NAN };
    // The name, in brackets, may hold spaces; cutime and cstime are fields 16 and 17, the name is field 2.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(13).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_S
}

/// Processor seconds of all processes of the machine so far.
fn machine_cpu_s() -> f64 {
    let Ok(stat) = fs::read_to_string("/proc/stat") else { return f64::NAN };
    // The first line: cpu, then user, nice and system.
    let fields = stat.lines().next().unwrap_or_default().split_whitespace();
    fields.skip(1).take(3).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_S
}

/// MiB read, from the page cache too, by this process and all children that ended so far.
fn children_read_mib() -> f64 {
    let Ok(io) = fs::read_to_string("/proc/self/io") else { return f64::NAN };
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    read.and_then(|bytes| bytes.parse::<f64>().ok()).map_or(f64::NAN, |bytes| bytes / MIB)
}

fn mib(bytes: &Value) -> f64 {
    bytes.as_f64().map_or(f64::NAN, |bytes| bytes / MIB)
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// The median of each figure.
fn medians(runs: &[Run]) -> Run {
    let of = |figure: fn(&Run) -> f64| median(runs.iter().map(figure));
    Run {
        wall_s: of(|r| r.wall_s),
        cpu_s: of(|r| r.cpu_s),
        read_mib: of(|r| r.read_mib),
        peak_mib: of(|r| r.peak_mib),
    }
}

impl Measured {
    /// By pair, how much longer the program took than the bare scan.
    fn ratios(&self, figure: fn(&Run) -> f64) -> Vec<f64> {
        self.runs.iter().zip(&self.scans).map(|(run, scan)| figure(run) / figure(scan)).collect()
    }

    fn rate(&self, run: &Run) -> f64 {
        self.rows as f64 / 1e6 / run.cpu_s
    }

    fn row(&self, name: &str, run: &Run) -> String {
        let Run { wall_s, cpu_s, read_mib, peak_mib } = *run;
        let rate = self.rate(run);
        format!("| {name} | {wall_s:.3} | {cpu_s:.2} | {rate:.2} | {peak_mib:.0} | {read_mib:.0} |")
    }

    /// Median seconds of the program by stage, in their order, with what lies around them.
    fn stages(&self) -> Vec<(String, f64)> {
        let of = |figure: &dyn Fn(&Value) -> f64| median(self.manifests.iter().map(figure));
        let stages = |manifest: &Value| manifest["seconds_by_stage"].as_object().cloned().unwrap_or_default();
        let sum = |manifest: &Value| stages(manifest).values().filter_map(Value::as_f64).sum::<f64>();
        let whole = |manifest: &Value| manifest["seconds"].as_f64().unwrap_or(f64::NAN);
        let mut list: Vec<(String, f64)> = stages(&self.manifests[0])
            .keys()
            .map(|name| (name.clone(), of(&|m| m["seconds_by_stage"][name].as_f64().unwrap_or(0.0))))
            .collect();
        list.push(("open, write".into(), of(&|m| whole(m) - sum(m))));
        let around = self.runs.iter().zip(&self.manifests).map(|(run, m)| run.wall_s - whole(m));
        list.push(("start, end".into(), median(around)));
        list
    }

    /// What the program counted.
    fn counts(&self) -> String {
        let counts = &self.manifests[0]["counts"];
        let count = |name: &str| thousands(counts[name].as_u64().unwrap_or(0));
        let orders: Vec<&str> = counts["paths"]
            .as_array()
            .map(|paths| paths.iter().filter_map(|path| path["order"].as_str()).collect())
            .unwrap_or_default();
        format!(
            "read in order {}: {} marked, {} tracked, {} stays, {} case stays, {} encounters, {} exposures, \
             {} candidates, {:.0} MiB spilled",
            orders.join(", "),
            count("rows_marked"),
            count("rows_tracked"),
            count("stays"),
            count("case_stays"),
            count("encounters"),
            count("exposures"),
            count("candidates"),
            mib(&counts["spilled_bytes"]),
        ) + &found(&counts["paths"][0]["found"])
    }
}

/// What was read of a store.
fn found(found: &Value) -> String {
    let count = |name: &str| thousands(found[name].as_u64().unwrap_or(0));
    if found.is_null() {
        return String::new();
    }
    format!(
        "; of the store {} row groups, {} of {} blocks, {:.1} MiB",
        count("row_groups_read"),
        count("blocks_read"),
        count("blocks"),
        mib(&found["bytes_read"]),
    )
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, pairs) = (thousands(self.rows), self.runs.len());
        writeln!(f, "## {rows} rows, {}, medians of {pairs}", self.title)?;
        writeln!(f, "| | wall s | CPU s | M rows/s a CPU second | peak MiB | MiB read |")?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        let (scan, run) = (medians(&self.scans), medians(&self.runs));
        writeln!(f, "{}", self.row("bare scan", &scan))?;
        writeln!(f, "{}", self.row("copresence run", &run))?;
        let (walls, cpus) = (self.ratios(|r| r.wall_s), self.ratios(|r| r.cpu_s));
        let least = walls.iter().copied().fold(f64::INFINITY, f64::min);
        let most = walls.iter().copied().fold(0.0, f64::max);
        let (wall, cpu) = (median(walls), median(cpus));
        writeln!(f, "| ratio by pairs | {wall:.3} ({least:.3} to {most:.3}) | {cpu:.2} | | | |")?;
        let stages = self.stages();
        let join =
            |cell: &dyn Fn(&(String, f64)) -> String| stages.iter().map(cell).collect::<Vec<_>>().join(" | ");
        writeln!(f, "\n| stage | {} |", join(&|s| s.0.clone()))?;
        writeln!(f, "|---|{}", "---|".repeat(stages.len()))?;
        writeln!(f, "| s | {} |", join(&|s| format!("{:.2}", s.1)))?;
        writeln!(f, "| share | {} |", join(&|s| format!("{:.0}%", 100.0 * s.1 / run.wall_s)))?;
        writeln!(f, "\n{}", self.counts())?;
        write!(f, "other processes: {:.2} cores busy", self.others_cores)
    }
}

/// The head of the table of all that was measured.
pub fn line_head() -> String {
    "| data, rule | rows | wall s | CPU s | M rows/s a CPU second | peak MiB | MiB read | bare scan, wall s | ratio |\n\
     |---|---|---|---|---|---|---|---|---|"
        .into()
}

/// A line of that table.
pub fn line(measured: &Measured) -> String {
    let (scan, run) = (medians(&measured.scans), medians(&measured.runs));
    format!(
        "| {} | {} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {:.2} | {:.2} |",
        measured.title,
        thousands(measured.rows),
        run.wall_s,
        run.cpu_s,
        measured.rate(&run),
        run.peak_mib,
        run.read_mib,
        scan.wall_s,
        median(measured.ratios(|r| r.wall_s)),
    )
}

/// The day and the machine.
pub fn circumstances() -> String {
    let today = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now()).format("%Y-%m-%d");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name")).and_then(|l| l.split(": ").nth(1));
    let version = env!("CARGO_PKG_VERSION");
    format!("{today}, copresence {version}, {cores} cores ({})", model.unwrap_or("unknown"))
}

fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let first = digits.len() % 3;
    let (head, tail) = digits.split_at(first);
    let mut groups: Vec<&str> = if head.is_empty() { Vec::new() } else { vec![head] };
    groups.extend((0..tail.len() / 3).map(|i| &tail[3 * i..3 * i + 3]));
    groups.join(",")
}
