//! Small worlds written as Parquet, in a layout, with their job.

use crate::oracle::{Aboard, Case, Facts, Feed, Motion, Ms, Ping, Place, Source, Weighing, World};
use crate::world_areas;
use crate::worlds::{Deal, Layout, PersonAs, RowOrder, TimeAs};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, UInt64Array,
};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// So short pages are, that row groups have several.
const PAGE_ROWS: usize = 7;

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
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(row_group_rows))
        .set_write_batch_size(PAGE_ROWS)
        .set_data_page_row_count_limit(PAGE_ROWS);
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
