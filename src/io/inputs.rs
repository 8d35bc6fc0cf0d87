//! Everything a job reads, opened and checked before any long work.

use super::areas;
use super::cases::{self, Cases};
use super::decode::Decoder;
use super::files::Input;
use super::pings::{self, OpenFeed, PingFile};
use super::places::{self, AllPlaces, Numbers};
use super::store::{Store, StoredDay};
use super::truth;
use crate::answer::Rejection;
use crate::config::Config;
use crate::control::Rotation;
use crate::error::{Error, Problem, Result};
use crate::person::PersonType;
use crate::ping::ping_schema;
use crate::place::{PlaceKey, PlaceRule};
use crate::region::Regions;
use crate::risk_area::RiskAreas;
use crate::rule::{Source, StayRule};
use crate::time::Millis;
use crate::truth::Truth;
use crate::uncertainty::Uncertainty;
use arrow::datatypes::DataType;
use hashbrown::HashMap;
use std::sync::Arc;

/// A job's inputs, open.
#[derive(Debug)]
pub struct Inputs {
    /// What rules are judged by, if anything is known.
    pub truth: Option<Truth>,
    /// Its files.
    pub truth_inputs: Vec<Input>,
    /// Feeds, in their order.
    pub feeds: Vec<OpenFeed>,
    /// Cases.
    pub cases: Cases,
    /// How files become pings.
    pub decoder: Decoder,
    /// Files of towers and venues, with their labels.
    pub place_inputs: Vec<(String, Input)>,
    /// Rows of the small tables that could not be used.
    pub rejections: Vec<Rejection>,
    /// How uncertain pings are.
    pub uncertainty: Uncertainty,
    /// Whether the rule weighs that.
    pub is_uncertain: bool,
    /// Risk areas, if the job has any.
    pub areas: Option<Arc<RiskAreas>>,
    /// The job's own area, where the rule asks for it.
    pub home: Option<Regions>,
    /// Files of risk areas and of the job's own, with their labels.
    pub area_inputs: Vec<(String, Input)>,
    /// Whether scans are held against their person's own positions.
    pub contradicts: bool,
    /// Rows of the lookback that were unreadable when they came to the store, by feed.
    pub stored_faults: Vec<(usize, Rejection)>,
    /// Names of the files that a store was made from, by number.
    pub stored_names: HashMap<u32, String>,
    /// When what the store keeps begins, if days before it were dropped.
    pub kept_from: Option<Millis>,
    /// How days are moved, and of how many persons, where these are put in the cases' place: false cases, by the moved days, come
    /// first among [`Inputs::cases`], then as many as they are.
    pub controls: Option<(Rotation, u32)>,
    /// Its days that this job reads, of sources all of whose days have a guide.
    pub stored_days: HashMap<Source, Vec<StoredDay>>,
}

/// One row group to read.
#[derive(Debug, Clone, Copy)]
pub struct Task {
    /// Feed.
    pub feed: usize,
    /// File of the feed.
    pub file: usize,
    /// Row group of the file.
    pub group: usize,
}

/// A job's feeds, open, and the tables of their places.
#[derive(Debug)]
pub struct OpenFeeds {
    /// Feeds, in their order.
    pub feeds: Vec<OpenFeed>,
    /// What was read of towers and venues, but for the places themselves, which their feeds have.
    pub places: AllPlaces,
    /// The one kind of person_id that all files share.
    pub person: PersonType,
}

impl OpenFeeds {
    /// All row groups that have rows.
    pub fn tasks(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        for (feed, open) in self.feeds.iter().enumerate() {
            for (file, ping_file) in open.files.iter().enumerate() {
                let groups = ping_file.groups.iter().enumerate().filter(|(_, facts)| facts.rows > 0);
                tasks.extend(groups.map(|(group, _)| Task { feed, file, group }));
            }
        }
        tasks
    }
}

/// Opens the feeds of a job.
pub fn open_feeds(config: &Config) -> Result<OpenFeeds> {
    let mut places = places::read(config)?;
    let mut feeds = Vec::with_capacity(config.feeds.len());
    for (number, places) in (0u16..).zip(std::mem::take(&mut places.by_feed)).take(config.feeds.len()) {
        feeds.push(pings::open(config, number, places)?);
    }
    let person = shared_person_type(&feeds, config.stored_person)?;
    Ok(OpenFeeds { feeds, places, person })
}

/// The decoder of a job's files that leaves no time out.
pub fn decoder_of_all_times(config: &Config, open: &OpenFeeds, person: PersonType) -> Decoder {
    Decoder {
        person,
        schema: ping_schema(&person.inner(), config.sources(), Some(DataType::Float64), open.feeds.len()),
        accuracies: true,
        from: Millis::MIN,
        to: Millis::MAX,
        batch_rows: config.batch_rows,
        zone: config.zone(),
        venues: Numbers::default(),
        floors: Numbers::default(),
        trips: Numbers::default(),
        seats: Numbers::default(),
    }
}

/// Opens all inputs of a job.
pub fn open(config: &Config, store: Option<&Store>) -> Result<Inputs> {
    let OpenFeeds { feeds, places, person } = open_feeds(config)?;
    let mut cases = cases::read(config, person)?;
    if let Some(only) = &config.only_case {
        cases.keep_only(only)?;
    }
    let (truth, truth_inputs) = match &config.truth {
        None => (None, Vec::new()),
        Some(wanted) => {
            let (truth, inputs) = truth::read(config, wanted, &cases, person)?;
            (Some(truth), inputs)
        }
    };
    let mut area_inputs = Vec::new();
    let areas = match &config.risk_areas {
        None => None,
        Some(table) => {
            let read = areas::read(config, table)?;
            area_inputs.extend(read.inputs.into_iter().map(|input| ("risk_areas".to_string(), input)));
            Some(read.listed)
        }
    };
    let home = match &config.area {
        None => None,
        Some(area) => {
            let (home, inputs) = areas::read_home(config, area)?;
            area_inputs.extend(inputs.into_iter().map(|input| ("job.area".to_string(), input)));
            Some(Regions::new(vec![home]))
        }
    };
    let venues = Numbers::default();
    let contradicts = contradicts(&feeds);
    // Where it matters which venue it is, though no case was there, all listed ones have a number.
    let rule = &config.rule;
    let matters = rule.encounter.cross_source || contradicts || areas.is_some();
    if matters || rule.candidate.resident.is_some() {
        for feed in feeds.iter().filter(|f| f.config.stay.source == Source::Venue) {
            let mut ids: Vec<&String> = feed.places.keys().collect();
            ids.sort();
            ids.into_iter().for_each(|id| {
                venues.number(id);
            });
        }
    }
    let uncertain = config.rule.encounter.place.is_uncertain();
    let accuracies_m: Vec<(f64, f64)> = feeds.iter().map(OpenFeed::accuracies_m).collect();
    let uncertainty = Uncertainty::new(&config.stay_rules(), &ranges_m(&feeds, &venues), &accuracies_m);
    let decoder = Decoder {
        person,
        schema: ping_schema(
            &person.inner(),
            config.sources(),
            accuracy_type(&feeds, uncertain || contradicts),
            feeds.len(),
        ),
        accuracies: true,
        from: config.lookback_start(),
        to: config.as_of,
        batch_rows: config.batch_rows,
        zone: config.zone(),
        venues,
        floors: Numbers::default(),
        trips: Numbers::default(),
        seats: Numbers::default(),
    };
    let mut rejections = places.rejections;
    rejections.extend(cases.rejections.iter().cloned());
    let mut inputs = Inputs {
        truth,
        truth_inputs,
        feeds,
        areas: None,
        home,
        area_inputs,
        cases,
        decoder,
        place_inputs: places.inputs,
        rejections,
        uncertainty,
        is_uncertain: uncertain,
        contradicts,
        stored_faults: Vec::new(),
        stored_names: HashMap::new(),
        stored_days: HashMap::new(),
        kept_from: None,
        controls: None,
    };
    if let Some(store) = store {
        (inputs.stored_faults, inputs.stored_names) = store.origins(config)?;
        inputs.kept_from = store.kept_from();
        for source in Source::ALL {
            inputs.stored_days.extend(store.days(config, source)?.map(|days| (source, days)));
        }
    }
    inputs.areas = areas.map(|listed| Arc::new(RiskAreas::new(listed, &inputs.stay_rules())));
    Ok(inputs)
}

/// The digests of the small tables that an answer hangs on beside its feeds: cases, and areas.
pub fn digests_of_tables(config: &Config) -> Result<Vec<String>> {
    let mut digests = Vec::new();
    let tables = [
        config.cases.as_ref().map(|table| (&table.path, "cases")),
        config.risk_areas.as_ref().map(|table| (&table.path, "risk_areas")),
        config.area.as_ref().map(|area| (&area.path, "job.area")),
    ];
    for (path, place) in tables.into_iter().flatten() {
        for input in super::files::resolve(&config.base, path, place)? {
            digests.push(super::files::digest(&input, true)?);
        }
    }
    Ok(digests)
}

/// The one kind that all files share. Integers come back signed if any file has signed ones, so that the
/// order of files makes no difference.
fn shared_person_type(feeds: &[OpenFeed], stored: Option<PersonType>) -> Result<PersonType> {
    let files = feeds.iter().flat_map(|feed| feed.files.iter().map(move |file| (feed, file)));
    let mut typed = files.filter_map(|(feed, file)| file.person.map(|person| (feed, file, person)));
    let Some((_, first, mut shared)) = typed.next() else {
        // Only files without rows have no type of person_id; whoever the cases are, nobody is there.
        return Ok(stored.unwrap_or(PersonType::Text));
    };
    for (feed, file, person) in typed {
        if person.kind() != shared.kind() {
            return Err(Error::Input(Problem::new(
                format!("{} ({}), column person_id", file.input.name, feed.config.label),
                format!(
                    "{}, as in {}: all feeds and cases of a job share one kind of person_id",
                    shared.kind(),
                    first.input.name
                ),
                person.kind().to_string(),
                "write person_id in one type everywhere; as text 7 and 07 are two people, as numbers one",
            )));
        }
        if person == PersonType::Int64 {
            shared = person;
        }
    }
    Ok(shared)
}

/// How accuracies are kept: not at all if no file gives any and the feeds' own are the same, short if that
/// loses nothing. Where uncertainties count they are all needed.
fn accuracy_type(feeds: &[OpenFeed], needed: bool) -> Option<DataType> {
    let of_feed = |f: &OpenFeed| f.config.stay.accuracy_m;
    let alike = feeds.iter().all(|f| of_feed(f).to_bits() == of_feed(&feeds[0]).to_bits());
    let given: Vec<DataType> =
        feeds.iter().flat_map(|f| &f.files).filter_map(|f| f.type_of("accuracy_m")).collect();
    let short = given.iter().all(|kind| *kind == DataType::Float32)
        && feeds.iter().all(|f| f64::from(of_feed(f) as f32).to_bits() == of_feed(f).to_bits());
    match (given.is_empty() && alike && !needed, short) {
        (true, _) => None,
        (false, true) => Some(DataType::Float32),
        (false, false) => Some(DataType::Float64),
    }
}

/// Whether some scan can be held against a position.
fn contradicts(feeds: &[OpenFeed]) -> bool {
    let is_scan = |feed: &OpenFeed| feed.config.stay.source == Source::Venue;
    let stands = |feed: &OpenFeed| feed.places.values().any(|standing| !standing.lat.is_nan());
    feeds.iter().any(|feed| !is_scan(feed)) && feeds.iter().any(|feed| is_scan(feed) && stands(feed))
}

/// Ranges of towers and radii of venues, by feed and number of the place.
fn ranges_m(feeds: &[OpenFeed], venues: &Numbers) -> Vec<Vec<f64>> {
    let of_feed = |feed: &OpenFeed| {
        let mut ranges = Vec::new();
        for (id, standing) in &feed.places {
            let number = match feed.config.stay.source {
                Source::Venue => venues.find(id),
                _ => Some(standing.number),
            };
            let Some(number) = number.map(|n| n as usize) else { continue };
            if ranges.len() <= number {
                ranges.resize(number + 1, f64::NAN);
            }
            ranges[number] = standing.range_m;
        }
        ranges
    };
    feeds.iter().map(of_feed).collect()
}

impl Inputs {
    /// How the pings of each feed become stays, no scan lasting longer than its feed's hold.
    pub fn stay_rules(&self) -> Vec<StayRule> {
        let rule = |feed: &OpenFeed| {
            let stays_ms =
                feed.places.values().filter_map(|standing| standing.lasts).map(|(stay_ms, _)| stay_ms);
            let stay = feed.config.stay;
            StayRule { hold_ms: stays_ms.fold(stay.hold_ms, Millis::max), ..stay }
        };
        self.feeds.iter().map(rule).collect()
    }

    /// What the settings of venues add to a dose, by the numbers of these ids: as the first feed says that lists one.
    pub fn setting_weights(&self, ids: &[String]) -> Vec<f64> {
        let venues = || self.feeds.iter().filter(|f| f.config.stay.source == Source::Venue);
        ids.iter()
            .map(|id| venues().find_map(|feed| feed.places.get(id)).map_or(1.0, |standing| standing.weight))
            .collect()
    }

    /// The squares or cells of venues, in short, by the numbers of these ids: as the first feed says that has coordinates.
    pub fn venue_squares(&self, ids: &[String], place: &PlaceRule) -> Vec<Option<u64>> {
        let venues = || self.feeds.iter().filter(|f| f.config.stay.source == Source::Venue);
        let placed = |id: &String| {
            let standing = venues().filter_map(|feed| feed.places.get(id));
            standing.filter(|standing| !standing.lat.is_nan()).map(|s| (s.lat, s.lon)).next()
        };
        let square = |(lat, lon)| PlaceKey::of_position(place, lat, lon).short();
        ids.iter().map(|id| placed(id).map(square)).collect()
    }

    /// The decoder that leaves accuracies unread, where statistics tell that none makes its row unreadable: they
    /// matter then only between pings of one person at one instant, which few data have.
    pub fn decoder_without_accuracies(&self) -> Option<Decoder> {
        let given = self.decoder.schema.column_with_name("accuracy_m").is_some();
        let proper = given
            && !self.is_uncertain
            && !self.contradicts
            && self.feeds.iter().all(|feed| feed.config.stored.is_none())
            && self.feeds.iter().flat_map(|f| &f.files).all(PingFile::accuracies_are_proper);
        proper.then(|| self.decoder.without_accuracies())
    }

    /// The row groups that can hold a ping of the lookback, and the rows they have.
    pub fn tasks(&self) -> (Vec<Task>, u64) {
        let mut tasks = Vec::new();
        let mut rows = 0;
        for (feed, open) in self.feeds.iter().enumerate() {
            for (file, ping_file) in open.files.iter().enumerate() {
                for (group, facts) in ping_file.groups.iter().enumerate() {
                    if self.decoder.wants(facts) && facts.rows > 0 {
                        rows += facts.rows;
                        tasks.push(Task { feed, file, group });
                    }
                }
            }
        }
        (tasks, rows)
    }

    /// Rows of one feed in the row groups that are read.
    pub fn rows_to_read(&self, feed: usize) -> u64 {
        let groups = self.feeds[feed].files.iter().flat_map(|f| &f.groups);
        groups.filter(|g| self.decoder.wants(g)).map(|g| g.rows).sum()
    }
}
