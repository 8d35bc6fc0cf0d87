//! The job file and the command line become one checked configuration, here and nowhere else.

mod inputs;
mod rules;
pub mod schema;
mod section;

use crate::control::Rotation;
use crate::datum::Datum;
use crate::error::{Error, Problem, Result};
use crate::person::PersonType;
use crate::resolve::Scope;
use crate::rule::{Rule, Source, StayRule, Variant};
use crate::time::{DAY_MS, Edge, Millis, TimeUnit, Tz, Written, parse};
use section::{Job, Section};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Default rows of a batch that is decoded at once.
pub const BATCH_ROWS: usize = 8_192;
/// The smallest budget, bytes.
pub const MEMORY_BYTES_MIN: u64 = 64 << 20;

/// What the command line says beside the job file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--out`.
    pub out: Option<PathBuf>,
    /// `--threads`.
    pub threads: Option<usize>,
    /// `--memory`, bytes.
    pub memory_bytes: Option<u64>,
    /// `--batch-rows`.
    pub batch_rows: Option<usize>,
    /// `--as-of`.
    pub as_of: Option<String>,
    /// `--set key=value`, in their order.
    pub set: Vec<String>,
    /// `--exposures`.
    pub exposures: Option<String>,
    /// `--encounters`.
    pub encounters: Option<String>,
    /// `--digest full`.
    pub digest_full: bool,
    /// `--controls`.
    pub controls: Option<u32>,
    /// `--force`.
    pub force: bool,
    /// `--store`: read this store instead of the feeds.
    pub store: Option<PathBuf>,
    /// The feeds of the store, in TOML, for a job that has none itself.
    pub stored_feeds: Option<String>,
}

/// Where the truth is that rules are judged by, and who was near a case long enough for a true contact.
#[derive(Debug, Clone, PartialEq)]
pub struct TruthConfig {
    /// A folder of tables, or the table of contacts.
    pub path: PathBuf,
    /// Its column of seconds.
    pub column: String,
    /// The least of these.
    pub seconds_min: f64,
}

/// A whole job, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The job's name.
    pub name: String,
    /// Why it is run.
    pub purpose: String,
    /// Folder that relative paths start at.
    pub base: PathBuf,
    /// End of the lookback.
    pub as_of: Millis,
    /// For times without an offset, for dates, and for the days of the manifest.
    pub time_zone: Option<Tz>,
    /// Largest share of a feed's rows that may be unreadable.
    pub rejected_share_max: f64,
    /// Whose exposures are written.
    pub exposures: Scope,
    /// Whose encounters are written.
    pub encounters: Scope,
    /// Where pings come from.
    pub feeds: Vec<FeedConfig>,
    /// The same as TOML, with what the command line changed in it.
    pub feeds_text: String,
    /// The prepared store that is read in the place of the feeds' own files.
    pub store: Option<PathBuf>,
    /// The type of person_id in the store.
    pub stored_person: Option<PersonType>,
    /// Where cases come from; a job with risk areas can do without.
    pub cases: Option<CasesConfig>,
    /// Where risk areas come from.
    pub risk_areas: Option<TableConfig>,
    /// The job's own area.
    pub area: Option<AreaConfig>,
    /// The rule in force.
    pub rule: Rule,
    /// The least share of the median day's rows that a feed's last whole day has to have.
    pub rows_share_min: Option<f64>,
    /// The output folder.
    pub out: PathBuf,
    /// Whether an existing output is replaced.
    pub force: bool,
    /// Worker threads.
    pub threads: usize,
    /// The budget; half of the machine's memory where none is given.
    pub memory_bytes: u64,
    /// Rows of a batch.
    pub batch_rows: usize,
    /// Whether input digests read whole files.
    pub digest_full: bool,
    /// The only case whom others can meet, if one was asked about.
    pub only_case: Option<String>,
    /// What rules are judged by.
    pub truth: Option<TruthConfig>,
    /// How many persons are put in the cases' place, to see what habit alone makes of them.
    pub controls: Option<u32>,
    /// Rules that a sweep counts by instead, each of which finds nothing that [`Config::rule`] does not find.
    pub variants: Vec<Variant>,
}

/// One `[[feeds]]`.
#[derive(Debug, Clone)]
pub struct FeedConfig {
    /// `feeds[0]`, as messages name it.
    pub label: String,
    /// File, folder or glob.
    pub path: String,
    /// Datum of its own coordinates (gps).
    pub datum: Option<Datum>,
    /// Names of columns in the files, by their names here.
    pub columns: BTreeMap<String, String>,
    /// Unit of integer times.
    pub time_unit: Option<TimeUnit>,
    /// Towers or venues.
    pub places: Option<TableConfig>,
    /// How its pings become stays.
    pub stay: StayRule,
    /// Its files where they are named one by one, as those of a store are, and their bytes.
    pub stored: Option<Vec<(PathBuf, u64)>>,
}

/// A small table of places, or of risk areas.
#[derive(Debug, Clone)]
pub struct TableConfig {
    /// `feeds[0].towers`, as messages name it.
    pub label: String,
    /// File, folder or glob.
    pub path: String,
    /// Datum of its coordinates.
    pub datum: Option<Datum>,
    /// Names of columns in the files, by their names here.
    pub columns: BTreeMap<String, String>,
}

/// `job.area`.
#[derive(Debug, Clone)]
pub struct AreaConfig {
    /// File, folder or glob.
    pub path: String,
    /// Datum of its coordinates, where the files do not say it themselves.
    pub datum: Option<Datum>,
}

/// `[cases]`.
#[derive(Debug, Clone)]
pub struct CasesConfig {
    /// File, folder or glob.
    pub path: String,
    /// Names of columns in the files, by their names here.
    pub columns: BTreeMap<String, String>,
    /// Whether a faulty case is a rejection and not the end of the run.
    pub reject: bool,
}

/// Columns that a table may have; `?` marks those that may be missing.
pub fn columns_of(source: Source) -> &'static [&'static str] {
    match source {
        Source::Gps => &["person_id", "time", "lat", "lon", "accuracy_m?"],
        Source::Tower => &["person_id", "time", "tower_id"],
        Source::Trip => {
            &["person_id", "time", "until", "trip_id", "vehicle", "coach?", "bay?", "seat_row?", "cabin?"]
        }
        Source::Venue => &["person_id", "time", "venue_id", "until?", "floor?"],
    }
}

/// Columns of the cases table.
pub const CASE_COLUMNS: [&str; 10] = [
    "case_id",
    "person_id",
    "report_id",
    "authority",
    "onset_at?",
    "sampled_at?",
    "confirmed_at?",
    "isolated_at?",
    "infectious_from?",
    "infectious_to?",
];
/// Columns of a towers table.
pub const TOWER_COLUMNS: [&str; 4] = ["tower_id", "lat", "lon", "range_m?"];
/// Columns of a venues table.
pub const VENUE_COLUMNS: [&str; 8] =
    ["venue_id", "lat?", "lon?", "radius_m?", "kind?", "indoor?", "closes_at?", "stay_s?"];

/// Columns of the risk areas table.
pub const RISK_AREA_COLUMNS: [&str; 8] =
    ["area_id", "level", "geometry", "valid_from", "valid_to?", "dwell_s_min?", "report_id", "authority"];

/// Whether a path is the URL of an object or of what lies below it: it has a scheme and `://`.
pub fn is_url(path: &Path) -> bool {
    let scheme = path.to_str().and_then(|text| text.split_once("://")).map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// A path that a job file names: beside the job file, unless it is a URL.
fn beside(job: &Path, named: &str) -> PathBuf {
    if is_url(Path::new(named)) { named.into() } else { job.parent().unwrap_or(Path::new("")).join(named) }
}

impl Config {
    /// Reads a job from its text. `machine_bytes` is the machine's memory, if known; `cores` its cores.
    pub fn new(
        path: &Path,
        text: &str,
        overrides: &Overrides,
        machine_bytes: u64,
        cores: usize,
    ) -> Result<Self> {
        let job = Job::new(path, text.to_string(), &overrides.set);
        let mut table: Table = text.parse().map_err(|e: toml::de::Error| {
            let line = e.span().map(|s| text[..s.start.min(text.len())].matches('\n').count() + 1);
            let place = line.map_or(job.name.clone(), |line| format!("{}, line {line}", job.name));
            Error::Job(Problem::new(
                place,
                "a job file in TOML",
                e.message().to_string(),
                "mend the line; https://toml.io explains the format",
            ))
        })?;
        for set in &overrides.set {
            apply_set(&mut table, set)?;
        }
        if let (false, Some(feeds)) = (table.contains_key("feeds"), &overrides.stored_feeds) {
            table.extend(feeds.parse::<Table>().unwrap_or_default());
        }
        let root = Section::new(&job, "", Some(&table));
        for key in ["job", "feeds", "cases", "risk_areas", "rule"] {
            root.get(key);
        }
        root.check()?;
        let mut config = Self::from_root(&root, path, overrides)?;
        let feeds = table.get("feeds").map(|feeds| Table::from_iter([("feeds".to_string(), feeds.clone())]));
        config.feeds_text = feeds.map(|feeds| feeds.to_string()).unwrap_or_default();
        config.threads = overrides.threads.unwrap_or(cores).max(1);
        config.batch_rows = overrides.batch_rows.unwrap_or(BATCH_ROWS).max(1);
        config.memory_bytes = overrides.memory_bytes.unwrap_or(machine_bytes / 2).max(MEMORY_BYTES_MIN);
        Ok(config)
    }

    fn from_root(root: &Section<'_>, path: &Path, overrides: &Overrides) -> Result<Self> {
        let job = root.section("job")?;
        let stem = path.file_stem().map_or("job".into(), |s| s.to_string_lossy().into_owned());
        let name = job.text("name")?.map_or(stem, str::to_string);
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            return Err(job.problem(
                "name",
                "a name that can be a folder's",
                format!("\"{name}\""),
                "use letters, digits and dashes",
            ));
        }
        let purpose =
            job.required("purpose", "what this run is for: it is printed on every output")?.to_string();
        let time_zone = time_zone(&job)?;
        let as_of = as_of(&job, overrides, time_zone)?;
        let share = job.number("rejected_share_max", "shares, 0 to 1")?.unwrap_or(0.01);
        if share > 1.0 {
            return Err(job.problem(
                "rejected_share_max",
                "a share, 0 to 1",
                share.to_string(),
                "1% is 0.01",
            ));
        }
        let exposures =
            scope(&job, "exposures", &overrides.exposures, &["all", "candidates"])?.unwrap_or(Scope::All);
        let encounters = scope(&job, "encounters", &overrides.encounters, &["all", "candidates", "none"])?
            .unwrap_or(Scope::Candidates);
        let area = inputs::area(&job)?;
        let store = job.text("store")?.map(|store| beside(path, store));
        let store = overrides.store.clone().or(store);
        job.check()?;

        let feeds = inputs::feeds(root)?;
        let risk_areas = inputs::risk_areas(root)?;
        let cases = inputs::cases(root, risk_areas.is_some())?;
        let rule = rules::rule(root, &overrides.set, as_of, time_zone)?;
        if overrides.controls.is_some() && Rotation::new(as_of - rule.lookback_ms, as_of).is_none() {
            return Err(Error::Job(Problem::new(
                "--controls",
                "a lookback of two days or more, within which days can be moved",
                format!("lookback_days = {}", rule.lookback_ms as f64 / DAY_MS as f64),
                "look back for longer: 14 days is usual",
            )));
        }
        let rows_share_min = rules::rows_share_min_of(root)?;
        rules::check_area(root, area.as_ref(), &rule)?;
        rules::check_motion(root, &feeds, &rule)?;
        let base = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let out = overrides.out.clone().unwrap_or_else(|| base.join("out").join(&name));
        Ok(Config {
            name,
            purpose,
            base,
            as_of,
            time_zone,
            rejected_share_max: share,
            exposures,
            encounters,
            feeds,
            feeds_text: String::new(),
            store,
            stored_person: None,
            cases,
            risk_areas,
            area,
            rule,
            rows_share_min,
            out,
            force: overrides.force,
            threads: 1,
            memory_bytes: 0,
            batch_rows: BATCH_ROWS,
            digest_full: overrides.digest_full,
            only_case: None,
            truth: None,
            controls: overrides.controls,
            variants: Vec::new(),
        })
    }

    /// The store that a job is to be read from, if any; what else is in the job does not matter yet.
    pub fn store_of(path: &Path, text: &str, overrides: &Overrides) -> Option<PathBuf> {
        let mut table = text.parse::<Table>().ok()?;
        overrides.set.iter().for_each(|set| drop(apply_set(&mut table, set)));
        let named = table.get("job").and_then(|job| job.get("store")).and_then(Value::as_str);
        let named = named.map(|store| beside(path, store));
        overrides.store.clone().or(named)
    }

    /// First instant of the lookback.
    pub fn lookback_start(&self) -> Millis {
        self.as_of - self.rule.lookback_ms
    }

    /// The zone that days are counted in: the job's, else UTC.
    pub fn zone(&self) -> Tz {
        self.time_zone.unwrap_or(Tz::UTC)
    }

    /// The stay rules of all feeds, in their order.
    pub fn stay_rules(&self) -> Vec<StayRule> {
        self.feeds.iter().map(|f| f.stay).collect()
    }

    /// The sources of all feeds, a bit each.
    pub fn sources(&self) -> u8 {
        self.feeds.iter().fold(0, |set, f| set | f.stay.source.bit())
    }
}

/// The sources of feeds in TOML, in their order.
pub fn sources_of(feeds: &str) -> Vec<String> {
    let table = feeds.parse::<Table>().unwrap_or_default();
    let feeds = table.get("feeds").and_then(Value::as_array).cloned().unwrap_or_default();
    let source = |feed: &Value| feed.get("source").and_then(Value::as_str).unwrap_or_default().to_string();
    feeds.iter().map(source).collect()
}

/// How the files of feeds in TOML are read: what a store cannot change afterwards.
pub fn reading_of(feeds: &str) -> Vec<String> {
    let table = feeds.parse::<Table>().unwrap_or_default();
    let feeds = table.get("feeds").and_then(Value::as_array).cloned().unwrap_or_default();
    let key = |feed: &Value, key: &str| feed.get(key).map(|value| format!("{key} = {value}"));
    let keys =
        |feed: &Value| ["datum", "columns", "time_unit"].iter().filter_map(|name| key(feed, name)).collect();
    let all: Vec<Vec<String>> = feeds.iter().map(keys).collect();
    (0..).zip(all).map(|(n, keys): (u32, Vec<String>)| format!("feeds[{n}]: {}", keys.join(", "))).collect()
}

fn time_zone(job: &Section<'_>) -> Result<Option<Tz>> {
    let Some(name) = job.text("time_zone")? else { return Ok(None) };
    name.parse::<Tz>().map(Some).map_err(|_| {
        let cure = match crate::error::nearest(name, chrono_tz::TZ_VARIANTS.iter().map(|z| z.name())) {
            Some(zone) => format!("did you mean \"{zone}\"?"),
            None => "write its IANA name".to_string(),
        };
        job.problem("time_zone", "an IANA time zone such as \"Asia/Shanghai\"", format!("\"{name}\""), cure)
    })
}

fn as_of(job: &Section<'_>, overrides: &Overrides, zone: Option<Tz>) -> Result<Millis> {
    let expected = "the instant that this run looks back from";
    const EXAMPLE: &str = "2022-03-22T00:00:00+08:00";
    let in_job = match job.get("as_of") {
        None => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Datetime(at)) => Some(at.to_string()),
        Some(other) => Some(other.to_string()),
    };
    let text = overrides.as_of.clone().or(in_job);
    let wrong = |found: String, cure: String| match &overrides.as_of {
        Some(_) => Err(Error::Job(Problem::new("--as-of", expected, found, cure))),
        None => Err(job.problem("as_of", expected, found, cure)),
    };
    let Some(text) = text else {
        return wrong("nothing".into(), format!("add as_of = \"{EXAMPLE}\" to [job], or give --as-of"));
    };
    match parse(&text) {
        Some(written @ (Written::Instant(_) | Written::Local(_))) => match written.instant(Edge::Start, zone)
        {
            Ok(at) => Ok(at),
            Err(_) => wrong(
                format!("\"{text}\""),
                format!("give its offset as in \"{EXAMPLE}\", or a time_zone in whose clock it exists"),
            ),
        },
        Some(Written::Date(_)) => wrong(
            format!("the day \"{text}\", which may mean its start or its end"),
            format!("write the instant, as in \"{EXAMPLE}\""),
        ),
        None => wrong(format!("\"{text}\", which is no time"), format!("write it as in \"{EXAMPLE}\"")),
    }
}

fn scope(
    job: &Section<'_>,
    key: &'static str,
    flag: &Option<String>,
    allowed: &[&str],
) -> Result<Option<Scope>> {
    let all = [("all", Scope::All), ("candidates", Scope::Candidates), ("none", Scope::None)];
    let choices: Vec<(&str, Scope)> = all.into_iter().filter(|(word, _)| allowed.contains(word)).collect();
    let in_job = job.choice(key, &choices)?;
    Ok(flag.as_ref().and_then(|f| choices.iter().find(|(word, _)| word == f)).map(|(_, s)| *s).or(in_job))
}

/// Applies one `--set key=value`; the value is TOML, or else a text.
fn apply_set(table: &mut Table, set: &str) -> Result<()> {
    let problem = |found: &str, cure: &str| {
        Error::Job(Problem::new(format!("--set {set}"), "table.key=value", found, cure))
    };
    let (path, text) =
        set.split_once('=').ok_or_else(|| problem("no =", "write it as rule.candidate.direct_s_min=900"))?;
    let value = format!("v = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| Value::String(text.to_string()));
    let path = path.trim().replace('[', ".").replace(']', "");
    let mut keys: Vec<&str> = path.split('.').collect();
    let last =
        keys.pop().filter(|k| !k.is_empty()).ok_or_else(|| problem("no key", "name the key before the ="))?;
    let mut here = table;
    let mut keys = keys.into_iter().peekable();
    while let Some(key) = keys.next() {
        let entry = here.entry(key).or_insert_with(|| Value::Table(Table::new()));
        here = match entry {
            Value::Table(inner) => inner,
            Value::Array(items) => {
                let number = keys.next().and_then(|n| n.parse::<usize>().ok());
                number.and_then(|n| items.get_mut(n)).and_then(Value::as_table_mut).ok_or_else(|| {
                    problem("no such feed", "count feeds from 0, as in feeds[0].hold_s_max=600")
                })?
            }
            _ => return Err(problem("a path through a value", "name a key of a table")),
        };
    }
    here.insert(last.to_string(), value);
    Ok(())
}
