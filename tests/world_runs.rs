//! Small worlds run through the engine, and its answer in the oracle's words.

use crate::oracle::{self, Feed, Motion, Ping, Source, World};
use crate::support::{Ran, read};
use crate::world_files::{save, write};
use crate::worlds::{Layout, PersonAs};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt8Type, UInt32Type, UInt64Type};
use copresence::answer::Answer;
use copresence::config::{Config, Overrides};
use copresence::control::Controls;
use copresence::error::Error;
use copresence::io::inputs;
use copresence::io::store::{self, Store, Writer};
use copresence::pipeline::ingest::ingest;
use copresence::pipeline::{self, watch::Watch};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tempfile::TempDir;

/// A world on disk, as files or in a store, and the job over it.
pub struct OnDisk {
    dir: TempDir,
    job: String,
    overrides: Overrides,
    memory_bytes: u64,
    store: Option<Store>,
}

impl OnDisk {
    /// Its feeds as files.
    pub fn raw(world: &World, layout: &Layout) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let job = write(world, layout, dir.path());
        let overrides = Overrides {
            threads: Some(layout.threads),
            batch_rows: Some(layout.batch_rows),
            ..Overrides::default()
        };
        OnDisk { dir, job, overrides, memory_bytes: layout.memory_bytes, store: None }
    }

    /// Its feeds in a store: its files come one night after the other, in any order, the first one at first with half of
    /// its rows only.
    pub fn stored(world: &World, layout: &Layout) -> copresence::error::Result<Self> {
        let OnDisk { dir, job, overrides, memory_bytes, .. } = OnDisk::raw(world, layout);
        let mut hidden: Vec<PathBuf> = Vec::new();
        for number in 0..world.feeds.len() {
            let entries = std::fs::read_dir(dir.path().join(format!("feed{number}"))).expect("a folder");
            let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
            files.sort();
            // What a store takes for one file the feeds have twice.
            let bytes: BTreeSet<Vec<u8>> =
                files.iter().map(|path| std::fs::read(path).expect("a file")).collect();
            if bytes.len() < files.len() {
                return Ok(OnDisk::raw(world, layout));
            }
            // One file of each feed is there from the beginning.
            hidden.extend(files.split_off(1));
        }
        let away = |path: &Path| path.with_extension("away");
        hidden.iter().for_each(|path| std::fs::rename(path, away(path)).expect("a rename"));
        hidden.sort_by_key(|path| {
            copresence::lattice::mixed(layout.seed ^ path.display().to_string().len() as u64)
        });
        let store = dir.path().join("store");
        let overrides = Overrides { store: Some(store.clone()), ..overrides };
        let night = |replace: bool| -> copresence::error::Result<()> {
            let mut config = Config::new(&dir.path().join("job.toml"), &job, &overrides, 8 << 30, 2)?;
            config.memory_bytes = memory_bytes;
            let mut writer = Writer::open(&store, config.zone().name())?;
            ingest(&config, &mut writer, replace, &Watch::default())?;
            Ok(())
        };
        if let Some(first) = hidden.first() {
            let whole = read(away(first));
            save(first, &whole.slice(0, whole.num_rows() / 2), 100);
            night(false)?;
        }
        night(false)?;
        for file in &hidden {
            std::fs::rename(away(file), file).expect("a rename");
            if layout.seed.is_multiple_of(2) || Some(file) == hidden.first() {
                night(Some(file) == hidden.first())?;
            }
        }
        night(true)?;
        // What the feeds were is in the store.
        let own: String = job.split("[[feeds]]").take(1).collect();
        let rest = job.find("[risk_areas]").or(job.find("[cases]")).map_or("", |at| &job[at..]);
        let job = if layout.seed.is_multiple_of(3) { job.clone() } else { format!("{own}{rest}") };
        let opened = Store::open(&store)?;
        store::check(&opened)?;
        let overrides = Overrides { stored_feeds: Some(opened.catalogue.feeds.clone()), ..overrides };
        Ok(OnDisk { dir, job, overrides, memory_bytes, store: Some(opened) })
    }

    /// The job with other values of some keys.
    pub fn config(&self, set: &[String]) -> copresence::error::Result<Config> {
        let overrides = Overrides { set: set.to_vec(), ..self.overrides.clone() };
        let mut config = Config::new(&self.dir.path().join("job.toml"), &self.job, &overrides, 8 << 30, 2)?;
        config.memory_bytes = self.memory_bytes;
        self.store.iter().try_for_each(|store| store.attach(&mut config))?;
        Ok(config)
    }

    /// What controls come to, of a job that asks for them.
    pub fn controls(&self, config: &Config) -> copresence::error::Result<Option<Controls>> {
        let inputs = inputs::open(config, self.store.as_ref())?;
        let spill = self.dir.path().join("spill");
        pipeline::controls::count(config, &inputs, self.store.as_ref(), &spill, &Watch::default())
    }

    /// Runs up to the answer in memory.
    pub fn compute(&self, config: &Config, spill: &str) -> copresence::error::Result<Answer> {
        let inputs = inputs::open(config, self.store.as_ref())?;
        pipeline::compute(config, &inputs, &self.dir.path().join(spill), &Watch::default())
    }
}

/// Writes a world and runs it, up to the answer in memory.
pub fn run(world: &World, layout: &Layout) -> copresence::error::Result<Ran> {
    let on_disk = OnDisk::raw(world, layout);
    let answer = on_disk.compute(&on_disk.config(&[])?, "spill")?;
    Ok(Ran::new(answer, on_disk.dir))
}

/// The same through a store.
pub fn run_stored(world: &World, layout: &Layout) -> copresence::error::Result<Ran> {
    let on_disk = OnDisk::stored(world, layout)?;
    let mut config = on_disk.config(&[])?;
    let answer = on_disk.compute(&config, "spill")?;
    // Asked about one case, it says of that the same.
    let asked = (layout.seed as usize).checked_rem(answer.cases.len());
    if let (Some(_), Some(number)) = (&on_disk.store, asked) {
        config.only_case = Some(answer.cases[number].case.case_id.clone());
        let own = on_disk.compute(&config, "own")?;
        let of_case = |answer: &Answer| {
            let exposures = answer.exposures.whole().expect("exposures");
            let cases = exposures.column_by_name("case").expect("case").as_primitive::<UInt32Type>();
            let is_own = cases.values().iter().map(|case| Some(*case == number as u32)).collect();
            filter_record_batch(&exposures, &is_own).expect("rows")
        };
        assert_eq!(of_case(&own), of_case(&answer));
        assert_eq!(of_case(&own).num_rows(), own.exposures.whole().expect("exposures").num_rows());
    }
    Ok(Ran::new(answer, on_disk.dir))
}

/// The ways that runs took through the engine, counted.
#[derive(Debug, Default)]
pub struct Ways(Mutex<BTreeMap<&'static str, usize>>);

impl Ways {
    fn count(&self, world: &World, layout: &Layout, answer: &Answer) {
        let mut ways = self.0.lock().expect("no panic while counting");
        let mut add = |way| *ways.entry(way).or_default() += 1;
        if answer.counts.paths.iter().any(|path| (path.source, path.order) == ("venue", "space")) {
            add("space, venues");
            if answer.counts.scans_contradicted > 0 {
                add("space, venues, contradicted");
            }
        }
        for path in answer.counts.paths.iter().filter(|p| p.source != "venue" && p.source != "trip") {
            let feeds: Vec<&Feed> =
                world.feeds.iter().filter(|f| NAMES[f.source as usize] == path.source).collect();
            let rows: usize = feeds.iter().map(|f| f.pings.len()).sum();
            let filters = feeds.iter().any(|f| f.pingpong_ms > 0 || f.speed_m_per_s_max > 0.0);
            // An even number of readings begins with one that found accuracies wanting.
            let began_again = path.source != "venue" && path.readings % 2 == 0;
            if began_again {
                add("ties");
            }
            if path.dwells_summed && answer.counts.encounters > 0 {
                add("dwells summed");
                let instants = |pings: &[Ping]| {
                    let mut at: Vec<_> = pings.iter().map(|p| (&p.person, p.t)).collect();
                    at.sort();
                    at.windows(2).any(|two| two[0] == two[1])
                };
                if feeds.iter().any(|feed| instants(&feed.pings)) {
                    add("dwells summed, ties");
                }
                if feeds.len() > 1 {
                    add("dwells summed, several feeds");
                }
            }
            match (path.broken_promise, path.order) {
                (Some("time"), _) => add("time, broken"),
                (Some(_), _) => add("person, broken"),
                (None, "time") => {
                    add("time");
                    if filters {
                        add("time, filtered");
                    }
                    if world.rule.lag_ms > 0 {
                        add("time, lag");
                    }
                    if feeds.iter().any(|f| f.motion == Motion::Linear) {
                        add("time, moving");
                    }
                    // At most a twelfth of the memory is a round, of rows of 40 bytes or more.
                    if rows as u64 * 480 > layout.memory_bytes {
                        add("time, in rounds");
                        if filters {
                            add("time, filtered in rounds");
                        }
                    }
                }
                (None, "person") => {
                    add("person");
                    if path.resolved_at_once && answer.counts.encounters > 0 {
                        add("person, at once");
                        if answer.counts.spilled_files > 0 {
                            add("person, at once, spilled");
                        }
                    }
                    if layout.person == PersonAs::LongTail {
                        add("person, long");
                    }
                    if filters {
                        add("person, filtered");
                    }
                }
                (None, "space") => {
                    add("space");
                    if filters {
                        add("space, filtered");
                    }
                    let found = path.found.unwrap_or_default();
                    if found.sought_by_person > 0 {
                        add("space, by person");
                    }
                    if found.sought_next_day > 0 {
                        add("space, next day");
                    }
                }
                (None, _) if path.source != "venue" && path.readings >= 3 => {
                    add("none, read again");
                    if world.feeds.len() > feeds.len() {
                        add("none, read again, among others");
                    }
                }
                (None, _) => add("none"),
            }
        }
        if answer.counts.spilled_files > 0 {
            add("spilled");
        }
        if answer.counts.scans_contradicted > 0 {
            add("contradicted");
        }
        if answer.dwells.whole().is_ok_and(|dwells| dwells.num_rows() > 0) {
            add("dwells");
        }
        let candidates = answer.candidates.whole().expect("candidates");
        let reasons = candidates.column_by_name("reasons").expect("reasons").as_primitive::<UInt8Type>();
        if reasons.values().iter().any(|bits| bits & 4 > 0) {
            add("trips");
        }
        if world.home.is_some() && !candidates.columns()[0].is_empty() {
            add("residents of an area");
        }
    }

    /// Every way was taken so often.
    #[track_caller]
    pub fn at_least(&self, least: &[(&'static str, usize)]) {
        let ways = self.0.lock().expect("no panic while counting");
        println!("{ways:?}");
        for (way, times) in least {
            assert!(ways.get(way).is_some_and(|n| n >= times), "{way}, less than {times} times: {ways:?}");
        }
    }
}

/// The engine's answer in the oracle's words, through a store.
pub fn engine_stored(
    world: &World,
    layout: &Layout,
    ways: &Ways,
) -> copresence::error::Result<oracle::Answer> {
    match run_stored(world, layout) {
        Ok(answer) => {
            ways.count(world, layout, &answer);
            // Rows that gave nothing are named as the feeds have them.
            let rejections = run(world, layout).map(|answer| answer.survey.rejections.clone());
            assert_eq!(rejections.expect("an answer too"), answer.survey.rejections);
            Ok(in_the_oracles_words(&answer, world))
        }
        Err(error) if refused(world, &error) => Ok(oracle::answer(world)),
        Err(error) => Err(error),
    }
}

/// The engine's answer in the oracle's words. It refuses a job all of whose pings lie outside the
/// lookback; the oracle finds nothing in one.
pub fn engine(world: &World, layout: &Layout, ways: &Ways) -> copresence::error::Result<oracle::Answer> {
    match run(world, layout) {
        Ok(answer) => {
            ways.count(world, layout, &answer);
            Ok(in_the_oracles_words(&answer, world))
        }
        Err(error) if refused(world, &error) => Ok(oracle::answer(world)),
        Err(error) => Err(error),
    }
}

/// Whether a run is refused as all pings lie outside the lookback.
pub fn refused(world: &World, error: &Error) -> bool {
    let from = world.rule.as_of - world.rule.lookback_ms;
    let mut pings = world.feeds.iter().flat_map(|f| &f.pings);
    matches!(error, Error::Input(p) if p.place.starts_with("all feeds"))
        && pings.all(|p| p.t < from || p.t >= world.rule.as_of)
}

struct Reader {
    batch: RecordBatch,
}

impl Reader {
    fn i64(&self, name: &str, row: usize) -> i64 {
        self.batch.column_by_name(name).expect(name).as_primitive::<Int64Type>().value(row)
    }

    fn flag(&self, name: &str, row: usize) -> bool {
        self.batch.column_by_name(name).expect(name).as_boolean().value(row)
    }

    /// What a rule cannot tell has no column.
    fn number(&self, name: &str, row: usize) -> Option<f64> {
        let column = self.batch.column_by_name(name)?.as_primitive::<Float64Type>();
        (!column.is_null(row)).then(|| column.value(row))
    }

    fn code(&self, name: &str, row: usize) -> u8 {
        self.batch.column_by_name(name).expect(name).as_primitive::<UInt8Type>().value(row)
    }

    fn case(&self, row: usize, answer: &Answer) -> String {
        let number = self.batch.column_by_name("case").expect("case").as_primitive::<UInt32Type>().value(row);
        answer.cases[number as usize].case.case_id.clone()
    }
}

const SOURCES: [Source; 4] = [Source::Gps, Source::Tower, Source::Trip, Source::Venue];
const NAMES: [&str; 4] = ["gps", "tower", "trip", "venue"];
const REASONS: [&str; 3] = ["area", "exposure", "trip"];

fn in_words(bits: u8, words: &[&str]) -> String {
    let set = words.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
    set.map(|(_, word)| *word).collect::<Vec<_>>().join(",")
}

fn in_the_oracles_words(answer: &Answer, world: &World) -> oracle::Answer {
    let person_at = |reader: &Reader, row: usize| -> String {
        let column = answer.person.restore(reader.batch.column(0)).expect("persons");
        match column.data_type() {
            DataType::Utf8 => column.as_string::<i32>().value(row).trim_matches('p').to_string(),
            DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
            DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).to_string(),
            _ => String::from_utf8(column.as_binary::<i32>().value(row).to_vec()).expect("our own ids"),
        }
    };
    let met = Reader { batch: answer.encounters.whole().expect("encounters") };
    let encounters = (0..met.batch.num_rows()).map(|row| {
        let place = met.batch.column_by_name("place").expect("place").as_string::<i32>();
        oracle::Encounter {
            person: person_at(&met, row),
            case_id: met.case(row, answer),
            start: met.i64("start", row),
            end: met.i64("end", row),
            kind: if met.flag("indirect", row) { "indirect" } else { "direct" },
            source: SOURCES[usize::from(met.code("source", row))],
            case_source: SOURCES[usize::from(met.code("case_source", row))],
            place: (!place.is_null(row)).then(|| place.value(row).to_string()),
            distance_m: met.number("distance_m", row),
            bracketed: met.flag("bracketed", row),
            probability: met.number("probability", row),
        }
    });
    let exposed = Reader { batch: answer.exposures.whole().expect("exposures") };
    let exposures = (0..exposed.batch.num_rows()).map(|row| oracle::Exposure {
        person: person_at(&exposed, row),
        case_id: exposed.case(row, answer),
        person_is_case: exposed.flag("person_is_case", row),
        direct_ms: exposed.i64("direct_ms", row),
        indirect_ms: exposed.i64("indirect_ms", row),
        confirmed_ms: exposed.i64("confirmed_ms", row),
        longest_ms: exposed.i64("longest_ms", row),
        peak_24h_ms: exposed.i64("peak_24h_ms", row),
        expected_ms: exposed.number("expected_ms", row),
        dose_h: exposed.number("dose_h", row),
        encounter_count: exposed.i64("encounter_count", row) as u64,
        distance_m_min: exposed.number("distance_m_min", row),
        first_at: exposed.i64("first_at", row),
        last_at: exposed.i64("last_at", row),
        sources: in_words(exposed.code("sources", row), &NAMES),
    });
    let chosen = Reader { batch: answer.candidates.whole().expect("candidates") };
    let candidates = (0..chosen.batch.num_rows()).map(|row| oracle::Candidate {
        person: person_at(&chosen, row),
        reason: in_words(chosen.code("reasons", row), &REASONS),
        case_count: chosen.i64("case_count", row) as u64,
        case_id: chosen
            .batch
            .column_by_name("case")
            .expect("case")
            .is_valid(row)
            .then(|| chosen.case(row, answer)),
        direct_ms: chosen.i64("direct_ms", row),
        confirmed_ms: chosen.i64("confirmed_ms", row),
        expected_ms: chosen.number("expected_ms", row),
        dose_h: chosen.number("dose_h", row),
        first_at: chosen.i64("first_at", row),
        last_at: chosen.i64("last_at", row),
        expires_at: chosen.i64("last_at", row) + world.rule.notice_ms,
        evidence_count: chosen.i64("evidence_count", row) as u64,
    });
    let dwelt = Reader { batch: answer.dwells.whole().expect("dwells") };
    let areas = dwelt.batch.column_by_name("area").expect("area").as_primitive::<UInt32Type>();
    let dwells = (0..dwelt.batch.num_rows()).map(|row| oracle::Dwell {
        person: person_at(&dwelt, row),
        area_id: world.areas[areas.value(row) as usize].area_id.clone(),
        dwell_ms: dwelt.i64("dwell_ms", row),
        first_at: dwelt.i64("first_at", row),
        last_at: dwelt.i64("last_at", row),
    });
    let observed = answer.cases.iter().flat_map(|case| {
        SOURCES.iter().map(|source| {
            let seen = case.observed[*source as usize];
            oracle::Observed {
                case_id: case.case.case_id.clone(),
                source: *source,
                stays: seen.stays,
                observed_ms: seen.observed_ms,
            }
        })
    });
    oracle::Answer {
        encounters: encounters.collect(),
        exposures: exposures.collect(),
        candidates: candidates.collect(),
        dwells: dwells.collect(),
        observed: observed.collect(),
        contradicted: answer.counts.scans_contradicted,
    }
}
