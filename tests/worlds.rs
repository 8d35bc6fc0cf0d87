//! Small random worlds and the layouts in which they are written and run.

use crate::oracle::{Aboard, Case, Facts, Feed, Motion, Ms, Ping, Place, Rule, Source, Weighing, World};
use crate::world_areas::{areas, shapes_near};
use proptest::prelude::*;

/// Start of all worlds: 2022-03-20T15:00:00Z, an hour before midnight in Shanghai.
/// Shortly before a midnight in Shanghai.
const T0: Ms = 1_647_792_000_000 - 40;
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
