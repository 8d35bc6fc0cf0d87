//! Small random worlds, written as Parquet, run through the engine, and compared with the oracle.

use crate::oracle::{
    self, Aboard, Case, Facts, Feed, Motion, Ms, Ping, Place, Rule, Source, Weighing, World,
};
use crate::support::Ran;
use crate::world_areas::{self, areas, shapes_near};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt8Type, UInt32Type, UInt64Type};
use copresence::answer::Answer;
use copresence::config::{Config, Overrides};
use copresence::error::Error;
use copresence::io::inputs;
use copresence::pipeline::{self, watch::Watch};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// Start of all worlds: 2022-03-20T15:00:00Z, an hour before midnight in Shanghai.
const T0: Ms = 1_647_788_400_000;
const METRES_PER_DEGREE: f64 = 111_195.08;

/// How a world is laid out in files and run; none of it may change the answer.
#[derive(Debug, Clone)]
pub struct Layout {
    pub threads: usize,
    pub batch_rows: usize,
    pub files: usize,
    pub deal: Deal,
    pub row_group_rows: usize,
    /// Feed n has the nth of these, counted round.
    pub orders: [RowOrder; 2],
    /// What is shuffled or drawn hangs on it.
    pub seed: u64,
    pub person: PersonAs,
    pub time: TimeAs,
    pub memory_bytes: u64,
}

/// In which order the rows of a feed are written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RowOrder {
    AsTheyAre,
    Shuffled,
    Time,
    PersonTime,
    /// By person, each person's in any order.
    Person,
    /// By time, but for two rows of one row group, so that its statistics are those of rows in order.
    AlmostTime,
    /// By person and time, but for two rows of one row group.
    AlmostPerson,
}

/// How the rows of a feed, in their order, go to its files.
#[derive(Debug, Clone, Copy)]
pub enum Deal {
    /// The first file has the first rows.
    Runs,
    /// Like cards: each file has rows from all over, in the same order.
    Cards,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PersonAs {
    Text,
    /// Texts longer than statistics keep, alike from the start.
    LongHead,
    /// Texts longer than statistics keep, alike at the end.
    LongTail,
    Binary,
    Integer,
    Unsigned,
    /// Signed and unsigned integers, file by file.
    Mixed,
}

#[derive(Debug, Clone, Copy)]
pub enum TimeAs {
    Millis,
    Micros,
    Integer,
    /// On the clock of Shanghai, which has no summer time.
    Local,
}

pub const PLAIN: Layout = Layout {
    threads: 1,
    batch_rows: 65_536,
    files: 1,
    deal: Deal::Runs,
    row_group_rows: 1_000,
    orders: [RowOrder::AsTheyAre; 2],
    seed: 0,
    person: PersonAs::Text,
    time: TimeAs::Millis,
    memory_bytes: 1 << 30,
};

fn orders() -> impl Strategy<Value = [RowOrder; 2]> {
    let one = prop_oneof![
        1 => Just(RowOrder::AsTheyAre),
        1 => Just(RowOrder::Shuffled),
        5 => Just(RowOrder::Time),
        2 => Just(RowOrder::PersonTime),
        2 => Just(RowOrder::Person),
        4 => Just(RowOrder::AlmostTime),
        5 => Just(RowOrder::AlmostPerson),
    ];
    // Feeds of one source in one order, more often than not.
    (one.clone(), one, prop::bool::weighted(0.8)).prop_map(|(a, b, alike)| [a, if alike { a } else { b }])
}

pub fn layouts() -> impl Strategy<Value = Layout> {
    let deals = prop::sample::select(vec![Deal::Runs, Deal::Runs, Deal::Cards]);
    let persons = prop::sample::select(vec![
        PersonAs::Text,
        PersonAs::LongHead,
        PersonAs::LongTail,
        PersonAs::Binary,
        PersonAs::Integer,
        PersonAs::Unsigned,
        PersonAs::Mixed,
    ]);
    (
        prop::sample::select(vec![1, 2, 7]),
        prop::sample::select(vec![1, 7, 100, 8_192]),
        (prop::sample::select(vec![1, 1, 2, 3]), deals, prop::sample::select(vec![3, 3, 10, 50, 1_000])),
        orders(),
        any::<u64>(),
        persons,
        prop::sample::select(vec![TimeAs::Millis, TimeAs::Micros, TimeAs::Integer, TimeAs::Local]),
        prop::sample::select(vec![
            1 << 30,
            1 << 30,
            1 << 30,
            1 << 17,
            1 << 16,
            1 << 14,
            1 << 12,
            1 << 11,
            1 << 11,
        ]),
    )
        .prop_map(|(threads, batch_rows, files, orders, seed, person, time, memory_bytes)| Layout {
            threads,
            batch_rows,
            files: files.0,
            deal: files.1,
            row_group_rows: files.2,
            orders,
            seed,
            person,
            time,
            memory_bytes,
        })
}

// ------------------------------------------------------------------------------------------ worlds

const ANCHORS: [(f64, f64); 8] = [
    (34.75, 113.68),
    (0.0, 0.0),
    (0.000_01, -179.999_9),
    (52.52, 179.999_5),
    (69.65, 18.96),
    (-54.8, -68.3),
    (85.0, 179.99),
    (-89.5, 10.0),
];

/// A person by number, as every kind of id sorts alike.
pub fn person(number: usize) -> String {
    format!("{}", 10 + number)
}

pub fn at(anchor: (f64, f64), east_m: f64, north_m: f64) -> (f64, f64) {
    let lat = (anchor.0 + north_m / METRES_PER_DEGREE).clamp(-90.0, 90.0);
    let lon = anchor.1 + east_m / (METRES_PER_DEGREE * anchor.0.to_radians().cos());
    (lat, (lon + 180.0).rem_euclid(360.0) - 180.0)
}

/// Offsets in metres: round numbers that lie on squares' lines, pairs just inside and outside 50 m.
pub fn offset() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => prop::sample::select(vec![0.0, 10.0, 49.9, 50.1, -30.0, 100.0, 400.0, -400.0, 799.9, 800.1]),
        1 => -1_000.0..1_000.0f64,
    ]
}

#[derive(Debug, Clone)]
pub struct Shape {
    pub anchor: (f64, f64),
    pub unit_ms: Ms,
    spots: Vec<(f64, f64)>,
}

fn shapes() -> impl Strategy<Value = Shape> {
    (
        prop::sample::select(ANCHORS.to_vec()),
        prop::sample::select(vec![1, 999, 10_000, 60_000, 600_000, 5_400_000]),
        prop::collection::vec((offset(), offset()), 1..6),
    )
        .prop_map(|(anchor, unit_ms, spots)| Shape { anchor, unit_ms, spots })
}

/// Who, when, where, how exactly, until, on which floor: as small numbers.
type Row = (usize, Ms, usize, Option<u8>, Option<Ms>, Option<u8>);

fn rows(most: usize) -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec(
        (
            0..5usize,
            0..60i64,
            0..6usize,
            prop::option::weighted(0.3, 0..6u8),
            prop::option::weighted(0.3, 0..20i64),
            prop::option::weighted(0.3, 0..2u8),
        ),
        0..most,
    )
}

fn ping(shape: &Shape, source: Source, row: &Row) -> Ping {
    let &(who, when, spot, accuracy, until, floor) = row;
    let number = spot % shape.spots.len();
    let (east_m, north_m) = shape.spots[number];
    let (lat, lon) = at(shape.anchor, east_m, north_m);
    let tower = source == Source::Tower;
    let radius_m = RADII_M[number % RADII_M.len()];
    let facts = Facts {
        range_m: if tower { Some(RANGES_M[number % RANGES_M.len()]) } else { radius_m },
        kind: Some(["shop", "bar", "office"][number % 3].to_string()).filter(|_| number % 4 != 3),
        indoor: [Some(true), Some(false), None][number / 2 % 3],
        stay_ms: [None, Some(7 * shape.unit_ms), None, Some(40 * shape.unit_ms)][number % 4],
        closes_at: [None, None, Some(1_395_000), Some(82_860_000), Some(86_400_000)][number % 5],
    };
    // Every third venue has no coordinates, and no trip has.
    let placed = source != Source::Trip && (source != Source::Venue || number % 3 != 2);
    let seat = (accuracy != Some(4)).then_some((who as i64 * 2 + when / 3) % 9);
    let compartment = (accuracy != Some(5)).then(|| floor.unwrap_or(0).to_string());
    let aboard = Aboard {
        vehicle: VEHICLES[number],
        coach: compartment.clone(),
        bay: seat,
        row: seat,
        cabin: compartment,
    };
    Ping {
        person: person(who),
        t: T0 + when * shape.unit_ms,
        lat: placed.then_some(lat),
        lon: placed.then_some(lon),
        accuracy_m: accuracy.filter(|_| source == Source::Gps).map(|a| ACCURACIES_M[usize::from(a)]),
        place_id: (source != Source::Gps).then(|| match source {
            Source::Tower => format!("t{number}"),
            // Two kinds of vehicles on one trip.
            Source::Trip => format!("k{}", number / 2),
            _ => format!("v{number}"),
        }),
        aboard: (source == Source::Trip).then_some(aboard),
        until: match source {
            Source::Venue => until,
            Source::Trip => Some(until.unwrap_or(when % 15)),
            _ => None,
        }
        .map(|u| T0 + (when + u) * shape.unit_ms),
        floor: floor.filter(|_| source == Source::Venue).map(|f| format!("f{f}")),
        facts: if matches!(source, Source::Gps | Source::Trip) { Facts::default() } else { facts },
    }
}

/// From a few metres to some kilometres, exact positions among them.
const ACCURACIES_M: [f64; 6] = [0.0, 20.0, 40.0, 3.0, 400.0, 5_000.0];
const RANGES_M: [f64; 6] = [300.0, 30.0, 5_000.0, 100.0, 900.0, 0.0];
const VEHICLES: [&str; 6] =
    ["bus-ventilated", "air", "train-sealed", "train-ventilated", "bus-sealed", "ship"];
const RADII_M: [Option<f64>; 4] = [Some(10.0), None, Some(80.0), Some(600.0)];

fn feeds(shape: &Shape, linear: bool) -> impl Strategy<Value = Vec<Feed>> + use<> {
    let shape = shape.clone();
    let sources = prop_oneof![
        4 => Just(Source::Gps),
        2 => Just(Source::Tower),
        1 => Just(Source::Trip),
        2 => Just(Source::Venue),
    ];
    let one = (
        sources,
        prop_oneof![3 => rows(70), 1 => rows(240)],
        0..30i64,
        prop::sample::select(vec![0, 5, 60]),
        prop::sample::select(vec![0.0, 0.0, 0.0, 0.001, 1.0, 50.0]),
        any::<bool>(),
    );
    let feeds = prop_oneof![prop::collection::vec(one.clone(), 1..2), prop::collection::vec(one, 1..4)];
    feeds.prop_map(move |feeds| {
        feeds
            .into_iter()
            .map(|(source, rows, hold, pingpong, speed, moves)| Feed {
                source,
                hold_ms: hold * shape.unit_ms,
                motion: if linear && moves && source == Source::Gps { Motion::Linear } else { Motion::Hold },
                accuracy_m: 20.0,
                pingpong_ms: if source == Source::Tower { pingpong * shape.unit_ms } else { 0 },
                speed_m_per_s_max: if source == Source::Gps { speed } else { 0.0 },
                pings: rows.iter().map(|row| ping(&shape, source, row)).collect(),
            })
            .collect()
    })
}

/// Cases, of whom the last person never pings.
fn cases(unit_ms: Ms) -> impl Strategy<Value = Vec<Case>> {
    let onset = prop::option::weighted(0.5, -200..60i64);
    prop::collection::vec((0..6usize, -5..60i64, 1..80i64, onset), 1..4).prop_map(move |cases| {
        let rows = cases.into_iter().enumerate();
        rows.map(|(number, (who, from, dwell, onset))| Case {
            case_id: format!("c{number}"),
            person: person(who),
            from: T0 + from * unit_ms,
            to: T0 + (from + dwell) * unit_ms,
            onset: onset.map(|onset| T0 + onset * unit_ms),
        })
        .collect()
    })
}

fn rules(unit_ms: Ms, linear: bool) -> impl Strategy<Value = Rule> {
    // At a limit of 0 m moving stays can only touch, and rounding decides whether they do.
    let zero = if linear { 1.0 } else { 0.0 };
    let distances = prop::sample::select(vec![zero, 10.0, 50.0, 60.0, 450.0, 2_000.0]);
    let distance = distances.prop_map(|m_max| Place::Distance { m_max });
    let within = prop::sample::select(vec![10.0, 50.0, 50.0, 450.0]);
    let least = prop::sample::select(vec![0.01, 0.01, 0.000_01, 0.2, 0.9]);
    let probability = (within, least).prop_map(|(m_max, p_min)| Place::Probability { m_max, p_min });
    let place = if linear {
        distance.boxed()
    } else {
        prop_oneof![
            prop::sample::select(vec![50.0, 400.0, 800.0]).prop_map(|square_m| Place::Grid { square_m }),
            prop::sample::select(vec![3u8, 7, 8, 9, 11, 13])
                .prop_map(|resolution| Place::Cell { resolution }),
            distance,
            probability,
        ]
        .boxed()
    };
    let lag = if linear { Just(0).boxed() } else { prop::sample::select(vec![0, 0, 1, 7, 40]).boxed() };
    let threshold = || prop::option::weighted(0.3, 0..20i64);
    let lookback = prop::sample::select(vec![40i64, 70]);
    (
        place,
        prop::bool::weighted(0.3),
        lag,
        0..4i64,
        0..10i64,
        threshold(),
        threshold(),
        threshold(),
        prop::bool::weighted(0.25),
        lookback,
        (40..70i64, weighings(unit_ms)),
    )
        .prop_map(
            move |(
                place,
                cross_source,
                lag,
                gap,
                direct,
                confirmed,
                longest,
                peak,
                across_cases,
                lookback,
                (as_of, weighing),
            )| {
                // Only uncertain positions are weighed.
                let uncertain = matches!(place, Place::Probability { .. });
                let thresholds = (None, None);
                let (expected_ms_min, risk_min) =
                    if uncertain { (weighing.expected_ms_min, weighing.risk_min) } else { thresholds };
                // Only squares and cells are places to dwell in.
                let metres = uncertain || matches!(place, Place::Distance { .. });
                let scope = |scope| if metres && scope == "place" { "any" } else { scope };
                let resident = weighing.resident.map(|(ms, of, where_)| (ms, of, scope(where_)));
                let weighing = Weighing { expected_ms_min, risk_min, resident, ..weighing };
                // Thresholds and lengths are whole milliseconds in the job file too.
                Rule {
                    as_of: T0 + as_of * unit_ms,
                    lookback_ms: lookback * unit_ms,
                    place,
                    cross_source,
                    lag_ms: lag * unit_ms,
                    merge_gap_ms: gap * unit_ms,
                    notice_ms: 7 * 86_400_000,
                    direct_ms_min: direct * unit_ms,
                    confirmed_ms_min: confirmed.map(|n| n * unit_ms),
                    longest_ms_min: longest.map(|n| n * unit_ms),
                    peak_24h_ms_min: peak.map(|n| n * unit_ms),
                    across_cases,
                    weighing,
                }
            },
        )
}

fn weighings(unit_ms: Ms) -> impl Strategy<Value = Weighing> {
    let resident = prop::option::weighted(
        0.35,
        (
            1..25i64,
            prop::sample::select(vec!["person", "case", "either"]),
            prop::sample::select(vec!["any", "area", "place", "place"]),
        ),
    );
    let curve = (-4..2i64, prop::collection::vec(prop::sample::select(vec![0.0, 0.2, 0.7, 1.0]), 1..5));
    (
        prop::sample::select(vec![2.0, 2.0, 30.0]),
        prop::option::weighted(0.6, 1..20i64),
        prop::option::weighted(0.6, curve),
        prop::option::weighted(0.5, prop::sample::select(vec![0.0, 0.5, 2.0])),
        prop::option::weighted(0.5, prop::sample::select(vec![0.1, 1.5])),
        // Off whole units, as what is expected may come to one but for rounding.
        prop::option::weighted(0.2, (0..8i64).prop_map(move |n| n * unit_ms + 1)),
        prop::option::weighted(0.2, prop::sample::select(vec![0.000_012_3, 0.003_21])),
        (
            prop::option::weighted(0.3, 0..50i64),
            prop::sample::select(vec![0.0, 150.0, 2_000.0, 1e9]),
            resident,
        ),
    )
        .prop_map(
            move |(
                risk_distance_m,
                half_life,
                infectiousness,
                bar,
                outdoor,
                expected,
                risk,
                (shop, contradiction_m, resident),
            )| {
                Weighing {
                    risk_distance_m,
                    half_life_ms: half_life.map(|n| n * unit_ms),
                    infectiousness,
                    kinds: bar.into_iter().map(|weight| ("bar".to_string(), weight)).collect(),
                    indoor_outdoor: (Some(1.25), outdoor),
                    expected_ms_min: expected,
                    risk_min: risk,
                    stays_ms: shop.into_iter().map(|n| ("shop".to_string(), n * unit_ms)).collect(),
                    contradiction_m,
                    resident: resident.map(|(n, of, scope)| (n * unit_ms, of, scope)),
                }
            },
        )
}

pub fn worlds(linear: bool) -> impl Strategy<Value = World> {
    shapes().prop_flat_map(move |shape| {
        // The oracle knows no area of who moves.
        let areas = if linear { Just(Vec::new()).boxed() } else { areas(&shape, T0).boxed() };
        let all = (
            feeds(&shape, linear),
            cases(shape.unit_ms),
            rules(shape.unit_ms, linear),
            areas,
            shapes_near(&shape),
        );
        all.prop_map(move |(feeds, cases, mut rule, areas, home)| {
            rule.weighing.resident = rule.weighing.resident.filter(|(.., scope)| !linear || *scope != "area");
            let asks = rule.weighing.resident.is_some_and(|(.., scope)| scope == "area");
            World { feeds, cases, rule, areas, home: asks.then_some(home) }
        })
    })
}

// --------------------------------------------------------------------------------- files and a job

/// Writes a world in a layout; returns the text of its job file.
pub fn write(world: &World, layout: &Layout, dir: &Path) -> String {
    let rule = &world.rule;
    let mut job = format!(
        "[job]\nname = \"world\"\npurpose = \"test\"\nas_of = \"{}\"\ntime_zone = \"Asia/Shanghai\"\nrejected_share_max = 0\nencounters = \"all\"\n",
        copresence::time::utc_text(rule.as_of)
    );
    if let Some(home) = &world.home {
        world_areas::write_home(home, dir);
        job.push_str("area = \"home.geojson\"\n");
    }
    for (number, feed) in world.feeds.iter().enumerate() {
        write_feed(number, feed, layout, dir, &mut job);
    }
    write_cases(&world.cases, layout, dir);
    if !world.areas.is_empty() {
        job.push_str(&world_areas::write(&world.areas, layout.seed, dir));
    }
    let seconds = |ms: Ms| ms as f64 / 1_000.0;
    let place = match rule.place {
        Place::Grid { square_m } => format!("place = \"grid\"\nsquare_m = {square_m}"),
        Place::Cell { resolution } => format!("place = \"cell\"\nresolution = {resolution}"),
        Place::Distance { m_max } => format!("place = \"distance\"\ndistance_m_max = {m_max}"),
        Place::Probability { m_max, p_min } => {
            format!("place = \"probability\"\ndistance_m_max = {m_max}\nprobability_min = {p_min}")
        }
    };
    let lookback_days = rule.lookback_ms as f64 / 86_400_000.0;
    write!(
        job,
        "[cases]\npath = \"cases.parquet\"\n[rule]\nname = \"world\"\nversion = \"1\"\nlookback_days = {lookback_days}\n[rule.encounter]\n{place}\ncross_source = {}\nlag_s_max = {}\n{}contradiction_m = {}\n[rule.exposure]\nmerge_gap_s_max = {}\n{}[rule.candidate]\ndirect_s_min = {}\n",
        rule.cross_source,
        seconds(rule.lag_ms),
        stays_by_kind(&rule.weighing),
        rule.weighing.contradiction_m,
        seconds(rule.merge_gap_ms),
        weighing_keys(&rule.weighing),
        seconds(rule.direct_ms_min)
    )
    .expect("a string");
    for (key, value) in [
        ("confirmed_s_min", rule.confirmed_ms_min),
        ("longest_s_min", rule.longest_ms_min),
        ("peak_24h_s_min", rule.peak_24h_ms_min),
        ("expected_s_min", rule.weighing.expected_ms_min),
    ] {
        if let Some(ms) = value {
            writeln!(job, "{key} = {}", seconds(ms)).expect("a string");
        }
    }
    if let Some(risk) = rule.weighing.risk_min {
        writeln!(job, "risk_min = {risk}").expect("a string");
    }
    if let Some((ms, of, scope)) = rule.weighing.resident {
        let hours = ms as f64 / 3_600_000.0;
        writeln!(job, "resident_h_min = {hours}\nresident_of = \"{of}\"\nresident_scope = \"{scope}\"")
            .expect("a string");
    }
    writeln!(job, "across_cases = {}", rule.across_cases).expect("a string");
    job
}

fn stays_by_kind(weighing: &Weighing) -> String {
    let stays = weighing.stays_ms.iter();
    let stays: Vec<String> = stays.map(|(kind, ms)| format!("{kind} = {}", *ms as f64 / 1_000.0)).collect();
    if stays.is_empty() { String::new() } else { format!("stay_s_by_kind = {{ {} }}\n", stays.join(", ")) }
}

fn time_of_day(ms: Ms) -> String {
    let seconds = ms / 1_000;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// The keys of `[rule.exposure]` that only dose and risk hang on.
fn weighing_keys(weighing: &Weighing) -> String {
    let mut keys = format!("risk_distance_m = {}\n", weighing.risk_distance_m);
    if let Some(ms) = weighing.half_life_ms {
        writeln!(keys, "lag_half_life_s = {}", ms as f64 / 1_000.0).expect("a string");
    }
    if let Some((first_day, weights)) = &weighing.infectiousness {
        writeln!(keys, "infectiousness = {{ first_day = {first_day}, weights = {weights:?} }}")
            .expect("a string");
    }
    let mut settings: Vec<String> = Vec::new();
    let (indoor, outdoor) = weighing.indoor_outdoor;
    settings.extend(indoor.map(|weight| format!("indoor = {weight}")));
    settings.extend(outdoor.map(|weight| format!("outdoor = {weight}")));
    let kinds: Vec<String> =
        weighing.kinds.iter().map(|(kind, weight)| format!("{kind} = {weight}")).collect();
    settings.push(format!("kinds = {{ {} }}", kinds.join(", ")));
    writeln!(keys, "setting_weights = {{ {} }}", settings.join(", ")).expect("a string");
    keys
}

fn write_feed(number: usize, feed: &Feed, layout: &Layout, dir: &Path, job: &mut String) {
    let seconds = |ms: Ms| ms as f64 / 1_000.0;
    let source = match feed.source {
        Source::Gps => "gps",
        Source::Tower => "tower",
        Source::Trip => "trip",
        Source::Venue => "venue",
    };
    write!(
        job,
        "[[feeds]]\nsource = \"{source}\"\npath = \"feed{number}/*.parquet\"\nhold_s_max = {}\naccuracy_m = {}\n",
        seconds(feed.hold_ms),
        feed.accuracy_m
    )
    .expect("a string");
    match feed.source {
        Source::Gps => {
            let motion = if feed.motion == Motion::Linear { "linear" } else { "hold" };
            let speed = feed.speed_m_per_s_max;
            write!(job, "datum = \"wgs84\"\nmotion = \"{motion}\"\nspeed_m_per_s_max = {speed}\n")
        }
        Source::Tower => write!(
            job,
            "pingpong_s_max = {}\ntowers = {{ path = \"places{number}.parquet\", datum = \"wgs84\" }}\n",
            seconds(feed.pingpong_ms)
        ),
        Source::Trip => Ok(()),
        Source::Venue => {
            writeln!(job, "venues = {{ path = \"places{number}.parquet\", datum = \"wgs84\" }}")
        }
    }
    .expect("a string");
    if matches!(layout.time, TimeAs::Integer) {
        job.push_str("time_unit = \"ms\"\n");
    }
    let place = |p: &Ping| p.place_id.clone().map(|id| (id, p.lat, p.lon, p.facts.clone()));
    let mut places: Vec<(String, Option<f64>, Option<f64>, Facts)> =
        feed.pings.iter().filter_map(place).collect();
    places.sort_by(|a, b| a.0.cmp(&b.0));
    places.dedup_by(|a, b| a.0 == b.0);
    let id = if feed.source == Source::Tower { "tower_id" } else { "venue_id" };
    let columns: Vec<(&str, ArrayRef)> = vec![
        (id, Arc::new(StringArray::from_iter_values(places.iter().map(|p| &p.0)))),
        ("lat", Arc::new(places.iter().map(|p| p.1).collect::<Float64Array>())),
        ("lon", Arc::new(places.iter().map(|p| p.2).collect::<Float64Array>())),
        (
            if feed.source == Source::Tower { "range_m" } else { "radius_m" },
            Arc::new(places.iter().map(|p| p.3.range_m).collect::<Float64Array>()),
        ),
        ("kind", Arc::new(places.iter().map(|p| p.3.kind.clone()).collect::<StringArray>())),
        ("indoor", Arc::new(places.iter().map(|p| p.3.indoor).collect::<BooleanArray>())),
        (
            "stay_s",
            Arc::new(
                places.iter().map(|p| p.3.stay_ms.map(|ms| ms as f64 / 1_000.0)).collect::<Float64Array>(),
            ),
        ),
        (
            "closes_at",
            Arc::new(places.iter().map(|p| p.3.closes_at.map(time_of_day)).collect::<StringArray>()),
        ),
    ];
    let table = RecordBatch::try_from_iter(columns).expect("columns of one length");
    save(&dir.join(format!("places{number}.parquet")), &table, 1_000);
    let folder = dir.join(format!("feed{number}"));
    std::fs::create_dir_all(&folder).expect("a folder");
    let order = layout.orders[number % layout.orders.len()];
    for (part, rows) in rows_of_files(&feed.pings, order, layout).into_iter().enumerate() {
        let pings: Vec<&Ping> = rows.into_iter().map(|row| &feed.pings[row]).collect();
        let batch = ping_batch(feed.source, &pings, layout, part);
        // Names run against the order of rows, so that the order of files is shuffled too.
        save(&folder.join(format!("part-{}.parquet", layout.files - part)), &batch, layout.row_group_rows);
    }
}

/// Numbers that look drawn by lot.
pub fn mixed(number: usize, seed: u64) -> usize {
    let spread = (number as u64 + 1).wrapping_mul(seed | 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (spread ^ (spread >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) as usize >> 20
}

/// The pings of each file by their numbers.
fn rows_of_files(pings: &[Ping], order: RowOrder, layout: &Layout) -> Vec<Vec<usize>> {
    let mut rows: Vec<usize> = (0..pings.len()).collect();
    if order != RowOrder::AsTheyAre {
        rows.sort_by_key(|row| mixed(*row, layout.seed));
    }
    match order {
        RowOrder::AsTheyAre | RowOrder::Shuffled => {}
        RowOrder::Time | RowOrder::AlmostTime => rows.sort_by_key(|row| pings[*row].t),
        RowOrder::PersonTime | RowOrder::AlmostPerson => {
            rows.sort_by(|a, b| (&pings[*a].person, pings[*a].t).cmp(&(&pings[*b].person, pings[*b].t)));
        }
        RowOrder::Person => rows.sort_by(|a, b| pings[*a].person.cmp(&pings[*b].person)),
    }
    let step = rows.len().div_ceil(layout.files).max(1);
    let mut files = vec![Vec::new(); layout.files];
    for (at, row) in rows.into_iter().enumerate() {
        let file = match layout.deal {
            Deal::Runs => at / step,
            Deal::Cards => mixed(at, layout.seed ^ 1) % layout.files,
        };
        files[file].push(row);
    }
    for file in &mut files {
        match order {
            RowOrder::AlmostTime => misplace(file, layout, |row| pings[row].t),
            RowOrder::AlmostPerson => misplace(file, layout, |row| pings[row].person.clone()),
            _ => {}
        }
    }
    files
}

/// Swaps two rows of one row group that differ by `key`, not in the first group if there is another.
fn misplace<K: PartialEq>(rows: &mut [usize], layout: &Layout, key: impl Fn(usize) -> K) {
    let mut groups: Vec<&mut [usize]> = rows.chunks_mut(layout.row_group_rows).collect();
    let differ = |group: &[usize]| group.iter().any(|row| key(*row) != key(group[0]));
    let mut able: Vec<usize> = (0..groups.len()).filter(|at| differ(groups[*at])).collect();
    if able.len() > 1 {
        able.retain(|at| *at > 0);
    }
    let Some(at) = able.get(mixed(1, layout.seed) % able.len().max(1)) else { return };
    let group = &mut groups[*at];
    let first = mixed(2, layout.seed) % group.len();
    let others: Vec<usize> = (0..group.len()).filter(|row| key(group[*row]) != key(group[first])).collect();
    group.swap(first, others[mixed(3, layout.seed) % others.len()]);
}

/// Writes a file of row groups of so many rows.
pub fn save(path: &Path, batch: &RecordBatch, row_group_rows: usize) {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(row_group_rows));
    save_as(path, batch, properties.build());
}

/// Writes a file with these properties.
pub fn save_as(path: &Path, batch: &RecordBatch, properties: WriterProperties) {
    let file = File::create(path).expect("a file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("a writer");
    writer.write(batch).expect("rows");
    writer.close().expect("a footer");
}

/// What long texts are filled up with.
const FILL: &str = "pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp";

fn persons<'a>(persons: impl Iterator<Item = &'a String>, kind: PersonAs) -> ArrayRef {
    let number = |p: &String| p.parse::<i64>().expect("a number");
    match kind {
        PersonAs::Text => Arc::new(StringArray::from_iter_values(persons)),
        PersonAs::LongHead => Arc::new(StringArray::from_iter_values(persons.map(|p| format!("{FILL}{p}")))),
        PersonAs::LongTail => Arc::new(StringArray::from_iter_values(persons.map(|p| format!("{p}{FILL}")))),
        PersonAs::Binary => Arc::new(BinaryArray::from_iter_values(persons)),
        PersonAs::Integer | PersonAs::Mixed => Arc::new(Int64Array::from_iter_values(persons.map(number))),
        PersonAs::Unsigned => {
            Arc::new(UInt64Array::from_iter_values(persons.map(|p| number(p).unsigned_abs())))
        }
    }
}

fn times(values: impl Iterator<Item = Option<Ms>>, layout: &Layout) -> ArrayRef {
    const SHANGHAI_MS: Ms = 8 * 3_600_000;
    match layout.time {
        TimeAs::Millis => Arc::new(values.collect::<TimestampMillisecondArray>().with_timezone("UTC")),
        TimeAs::Micros => Arc::new(
            values
                .map(|v| v.map(|v| v * 1_000 + 999))
                .collect::<TimestampMicrosecondArray>()
                .with_timezone("+08:00"),
        ),
        TimeAs::Integer => Arc::new(values.collect::<Int64Array>()),
        TimeAs::Local => {
            Arc::new(values.map(|v| v.map(|v| v + SHANGHAI_MS)).collect::<TimestampMillisecondArray>())
        }
    }
}

fn ping_batch(source: Source, pings: &[&Ping], layout: &Layout, part: usize) -> RecordBatch {
    let kind = match layout.person {
        PersonAs::Mixed if part % 2 == 1 => PersonAs::Unsigned,
        kind => kind,
    };
    let mut columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("person_id", persons(pings.iter().map(|p| &p.person), kind), false),
        ("time", times(pings.iter().map(|p| Some(p.t)), layout), false),
    ];
    let ids = || Arc::new(pings.iter().map(|p| p.place_id.clone()).collect::<StringArray>()) as ArrayRef;
    match source {
        Source::Gps => {
            columns.push(("lat", Arc::new(pings.iter().map(|p| p.lat).collect::<Float64Array>()), false));
            columns.push(("lon", Arc::new(pings.iter().map(|p| p.lon).collect::<Float64Array>()), false));
            columns.push((
                "accuracy_m",
                Arc::new(pings.iter().map(|p| p.accuracy_m).collect::<Float64Array>()),
                true,
            ));
        }
        Source::Tower => columns.push(("tower_id", ids(), false)),
        Source::Trip => {
            let text = |value: &dyn Fn(&Aboard) -> Option<String>| -> ArrayRef {
                Arc::new(pings.iter().map(|p| p.aboard.as_ref().and_then(value)).collect::<StringArray>())
            };
            let rows = pings.iter().map(|p| p.aboard.as_ref().and_then(|a| a.row));
            columns.push(("trip_id", ids(), false));
            columns.push(("until", times(pings.iter().map(|p| p.until), layout), true));
            columns.push(("vehicle", text(&|a| Some(a.vehicle.to_uppercase().replace('-', "_"))), true));
            columns.push(("coach", text(&|a| a.coach.clone()), true));
            columns.push(("bay", text(&|a| a.bay.map(|n| n.to_string())), true));
            columns.push(("seat_row", Arc::new(rows.collect::<Int64Array>()), true));
            columns.push(("cabin", text(&|a| a.cabin.clone()), true));
        }
        Source::Venue => {
            columns.push(("venue_id", ids(), false));
            columns.push(("until", times(pings.iter().map(|p| p.until), layout), true));
            columns.push((
                "floor",
                Arc::new(pings.iter().map(|p| p.floor.clone()).collect::<StringArray>()),
                true,
            ));
        }
    }
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

fn write_cases(cases: &[Case], layout: &Layout, dir: &Path) {
    let text = |value: &dyn Fn(&Case) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(cases.iter().map(value)))
    };
    let stamps = |value: &dyn Fn(&Case) -> Ms| -> ArrayRef {
        let values: TimestampMillisecondArray = cases.iter().map(|c| Some(value(c))).collect();
        Arc::new(values.with_timezone("UTC"))
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("case_id", text(&|c| c.case_id.clone())),
        ("person_id", persons(cases.iter().map(|c| &c.person), layout.person)),
        ("infectious_from", stamps(&|c| c.from)),
        ("infectious_to", stamps(&|c| c.to)),
        (
            "onset_at",
            Arc::new(
                cases.iter().map(|c| c.onset).collect::<TimestampMillisecondArray>().with_timezone("UTC"),
            ),
        ),
        ("report_id", text(&|c| format!("r-{}", c.case_id))),
        ("authority", text(&|_| "test".into())),
    ];
    save(&dir.join("cases.parquet"), &RecordBatch::try_from_iter(columns).expect("columns"), 1_000);
}

// ------------------------------------------------------------------------------ the engine's answer

/// Writes a world and runs it, up to the answer in memory.
pub fn run(world: &World, layout: &Layout) -> copresence::error::Result<Ran> {
    let dir = TempDir::new().expect("a temporary folder");
    let job = write(world, layout, dir.path());
    let overrides = Overrides {
        threads: Some(layout.threads),
        batch_rows: Some(layout.batch_rows),
        ..Overrides::default()
    };
    let mut config = Config::new(&dir.path().join("job.toml"), &job, &overrides, 8 << 30, 2)?;
    config.memory_bytes = layout.memory_bytes;
    let inputs = inputs::open(&config)?;
    let answer = pipeline::compute(&config, &inputs, &dir.path().join("spill"), &Watch::default())?;
    Ok(Ran::new(answer, dir))
}

/// The ways that runs took through the engine, counted.
#[derive(Debug, Default)]
pub struct Ways(Mutex<BTreeMap<&'static str, usize>>);

impl Ways {
    fn count(&self, world: &World, layout: &Layout, answer: &Answer) {
        let mut ways = self.0.lock().expect("no panic while counting");
        let mut add = |way| *ways.entry(way).or_default() += 1;
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
                    if layout.person == PersonAs::LongTail {
                        add("person, long");
                    }
                    if filters {
                        add("person, filtered");
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

fn refused(world: &World, error: &Error) -> bool {
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

    fn number(&self, name: &str, row: usize) -> Option<f64> {
        let column = self.batch.column_by_name(name).expect(name).as_primitive::<Float64Type>();
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
