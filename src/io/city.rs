//! A city whose truth is known, as files: a feed for each source, its tables, the cases, the job that reads them, and the truth.

mod truth;

pub use truth::TruthFiles;

use super::output::Staging;
use super::results::internal;
use super::synth::{AUTHORITY, CASES, JOB, MARK, close, failed, ids, open, stamps};
use crate::city::map::{DISTRICT_PERSONS, Point, Setting};
use crate::city::signals::{Ping, Scan, Signal, Trip, broken};
use crate::city::truth::Ill;
use crate::city::{City, District, Recipe, VERSION};
use crate::datum::wgs84_to_gcj02;
use crate::error::Result;
use crate::rule::Source;
use crate::synth::draw::Stream;
use crate::synth::{AS_OF, TIME_ZONE};
use crate::time::{DAY_MS, HOUR_MS, Millis, utc_text};
use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float32Array, Float64Array, RecordBatch, StringArray,
    TimestampMillisecondArray, UInt32Array, UInt64Array,
};
use arrow::error::ArrowError;
use chrono::DateTime;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use std::sync::Arc;

/// Tables of a city beside those of any made-up pings.
const TOWERS: &str = "towers.parquet";
const VENUES: &str = "venues.parquet";
const AREAS: &str = "areas.csv";
const TRUTH: &str = "truth";
/// What is true: pairs that were near each other, when, who was infected, who everyone is, and what it comes to.
const CONTACTS: &str = "truth/contacts.parquet";
const MEETINGS: &str = "truth/meetings.parquet";
const INFECTIONS: &str = "truth/infections.parquet";
const PERSONS: &str = "truth/persons.parquet";
const SUMMARY: &str = "truth/summary.json";
/// Cases round whose homes a risk area is drawn, and half its side, metres.
const AREA_CASES: usize = 10;
const AREA_HALF_M: f64 = 100.0;
/// The city's clock is ahead of UTC.
const AHEAD_MS: Millis = 8 * HOUR_MS;

/// Whether a city has a file, or a folder, of this name.
pub fn is_known(name: &str) -> bool {
    if [TOWERS, VENUES, AREAS, TRUTH, CONTACTS, MEETINGS, INFECTIONS, PERSONS, SUMMARY, CASES, JOB]
        .contains(&name)
    {
        return true;
    }
    let Some((feed, rest)) = name.split_once('/') else {
        return Source::ALL.iter().any(|source| source.name() == name);
    };
    let rest = match rest.split_once('/') {
        Some((day, part)) if day.starts_with("day=") => part,
        Some(_) => return false,
        None if rest.starts_with("day=") => return true,
        None => rest,
    };
    Source::ALL.iter().any(|source| source.name() == feed) && super::synth::is_part(rest)
}

/// Makes the folders.
pub fn begin(staging: &Staging, recipe: &Recipe) -> Result<()> {
    let mut folders = vec![TRUTH.to_string()];
    for source in &recipe.sources {
        folders.push(source.name().to_string());
        if matches!(source, Source::Gps | Source::Tower) {
            folders.extend((0..recipe.days).map(|day| format!("{source}/{}", day_folder(recipe, day))));
        }
    }
    for folder in folders {
        std::fs::create_dir(staging.path(&folder)).map_err(|e| staging.failed(&folder, &e))?;
    }
    Ok(())
}

/// day=2022-03-21.
fn day_folder(recipe: &Recipe, day: u64) -> String {
    format!("day={}", date_of(recipe.start() + day as Millis * DAY_MS, "%Y-%m-%d"))
}

fn date_of(at: Millis, format: &str) -> String {
    DateTime::from_timestamp_millis(at + AHEAD_MS).unwrap_or_default().format(format).to_string()
}

/// What every file of a city says of itself.
fn properties(recipe: &Recipe) -> WriterPropertiesBuilder {
    let metadata = [
        ("copresence.purpose", purpose(recipe)),
        ("copresence.synth", recipe.flags()),
        ("copresence.city_version", VERSION.to_string()),
    ];
    let metadata = metadata.map(|(key, value)| KeyValue::new(key.to_string(), value)).to_vec();
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(format!("copresence {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(metadata))
}

/// Time-ordered, unless broken rows are among them.
fn feed_properties(recipe: &Recipe) -> WriterProperties {
    let by_time = SortingColumn { column_idx: 1, descending: false, nulls_first: false };
    let sorting = (recipe.broken_share == 0.0).then(|| vec![by_time]);
    let plain = |builder: WriterPropertiesBuilder, name: &str| {
        builder.set_column_dictionary_enabled(ColumnPath::from(name), false)
    };
    let builder = properties(recipe).set_sorting_columns(sorting);
    ["time", "lat", "lon"].into_iter().fold(builder, plain).build()
}

fn purpose(recipe: &Recipe) -> String {
    format!("test on a made-up city (copresence synth, city {VERSION}, seed {})", recipe.seed)
}

fn table(columns: Vec<(&str, ArrayRef)>) -> std::result::Result<RecordBatch, ArrowError> {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
}

fn write_whole(
    staging: &Staging,
    name: &str,
    columns: Vec<(&str, ArrayRef)>,
    properties: WriterProperties,
) -> Result<u64> {
    let batch = table(columns).map_err(|e| internal(name, &e))?;
    let mut writer = open(staging, name, &batch.schema(), properties)?;
    writer.write(&batch).map_err(|e| failed(staging, name, e))?;
    close(staging, name, writer)
}

fn optional_stamps(values: impl Iterator<Item = Option<Millis>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMillisecondArray>().with_timezone("UTC"))
}

fn texts(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn degrees(city: &City, at: Point) -> (f64, f64) {
    let (lat, lon) = at.degrees();
    let (lat, lon) = if city.recipe().gcj02 { wgs84_to_gcj02(lat, lon) } else { (lat, lon) };
    ((lat * 1e6).round() / 1e6, (lon * 1e6).round() / 1e6)
}

fn lats_lons(city: &City, points: impl Iterator<Item = Point>) -> (ArrayRef, ArrayRef) {
    let (lats, lons): (Vec<f64>, Vec<f64>) = points.map(|at| degrees(city, at)).unzip();
    (Arc::new(Float64Array::from(lats)), Arc::new(Float64Array::from(lons)))
}

/// A file's person_ids: those of the district's persons by their numbers there.
pub struct Names(Vec<u64>);

impl Names {
    /// Of a district.
    pub fn new(city: &City, district: &District<'_>) -> Self {
        Names(district.people.iter().map(|person| city.id(person.number)).collect())
    }

    fn column(&self, recipe: &Recipe, persons: impl Iterator<Item = u32>) -> ArrayRef {
        ids(persons.map(|row| self.0[row as usize]).collect(), recipe.ids)
    }
}

/// Which rows of a file are spoilt in a column.
struct Spoilt {
    draws: Stream,
    share: f64,
}

impl Spoilt {
    fn new(recipe: &Recipe, source: Source, day: u64, district: u64) -> Self {
        let draws = Stream::of_seed(recipe.seed).stream(5 + source as u64).stream(day).stream(district);
        Spoilt { draws, share: recipe.broken_share }
    }

    fn is(&self, row: usize, column: u64) -> bool {
        broken(self.draws, row as u64, self.share) == Some(column)
    }

    /// The column without what is spoilt.
    fn nulled(&self, column: &ArrayRef, number: u64) -> std::result::Result<ArrayRef, ArrowError> {
        if self.share == 0.0 {
            return Ok(column.clone());
        }
        let mask: BooleanArray = (0..column.len()).map(|row| Some(self.is(row, number))).collect();
        arrow::compute::nullif(column, &mask)
    }
}

/// Writes a district's pings of a day; the bytes of the file.
pub fn write_pings(
    staging: &Staging,
    city: &City,
    names: &Names,
    (day, district): (u64, u64),
    rows: &[Ping],
) -> Result<u64> {
    let recipe = city.recipe();
    let name = format!("gps/{}/part-{district:05}.parquet", day_folder(recipe, day));
    let spoilt = Spoilt::new(recipe, Source::Gps, day, district);
    let number = |of: &dyn Fn(&Ping) -> f64, column: u64, wrong: f64| -> ArrayRef {
        let value = |(row, ping): (usize, &Ping)| if spoilt.is(row, column) { wrong } else { of(ping) };
        Arc::new(Float64Array::from_iter_values(rows.iter().enumerate().map(value)))
    };
    let made = || -> std::result::Result<Vec<(&str, ArrayRef)>, ArrowError> {
        Ok(vec![
            ("person_id", spoilt.nulled(&names.column(recipe, rows.iter().map(|p| p.person)), 0)?),
            ("time", spoilt.nulled(&stamps(rows.iter().map(|p| p.time).collect()), 1)?),
            ("lat", number(&|p| p.lat, 2, 95.0)),
            ("lon", number(&|p| p.lon, 3, f64::NAN)),
            ("accuracy_m", Arc::new(Float32Array::from_iter_values(rows.iter().map(|p| p.accuracy_m)))),
        ])
    };
    write_whole(staging, &name, made().map_err(|e| internal(&name, &e))?, feed_properties(recipe))
}

/// Writes a district's signals of a day; the bytes of the file.
pub fn write_signals(
    staging: &Staging,
    city: &City,
    names: &Names,
    (day, district): (u64, u64),
    rows: &[Signal],
) -> Result<u64> {
    let recipe = city.recipe();
    let name = format!("tower/{}/part-{district:05}.parquet", day_folder(recipe, day));
    let spoilt = Spoilt::new(recipe, Source::Tower, day, district);
    // Numbers of the table of towers, the one that is not in it last.
    let unknown = city.map.towers.len() as u32;
    let towers = rows
        .iter()
        .enumerate()
        .map(|(row, signal)| if spoilt.is(row, 2) || spoilt.is(row, 3) { unknown } else { signal.tower });
    let keys = UInt32Array::from_iter_values(towers);
    let names_of_towers = texts((0..unknown).map(tower_id).chain(["t-unknown".to_string()]));
    let made = move || -> std::result::Result<Vec<(&str, ArrayRef)>, ArrowError> {
        Ok(vec![
            ("person_id", spoilt.nulled(&names.column(recipe, rows.iter().map(|s| s.person)), 0)?),
            ("time", spoilt.nulled(&stamps(rows.iter().map(|s| s.time).collect()), 1)?),
            ("tower_id", Arc::new(DictionaryArray::try_new(keys, names_of_towers)?) as ArrayRef),
        ])
    };
    write_whole(staging, &name, made().map_err(|e| internal(&name, &e))?, feed_properties(recipe))
}

fn tower_id(number: u32) -> String {
    format!("t-{number:05}")
}

/// Writes a district's scans of all days; the bytes of the file.
pub fn write_scans(
    staging: &Staging,
    city: &City,
    names: &Names,
    district: u64,
    rows: &[Scan],
) -> Result<u64> {
    let name = format!("venue/part-{district:05}.parquet");
    let floor = |scan: &Scan| scan.floor.map(|floor| format!("{}F", floor + 1));
    let columns = vec![
        ("person_id", names.column(city.recipe(), rows.iter().map(|s| s.person))),
        ("time", stamps(rows.iter().map(|s| s.time).collect())),
        ("venue_id", texts(rows.iter().map(|s| s.venue.id()))),
        ("until", optional_stamps(rows.iter().map(|s| s.until))),
        ("floor", Arc::new(rows.iter().map(floor).collect::<StringArray>()) as ArrayRef),
    ];
    write_whole(
        staging,
        &name,
        columns,
        feed_properties(&Recipe { broken_share: 0.0, ..city.recipe().clone() }),
    )
}

/// Writes a district's trips of all days; the bytes of the file.
pub fn write_trips(
    staging: &Staging,
    city: &City,
    names: &Names,
    district: u64,
    rows: &[Trip],
) -> Result<u64> {
    let name = format!("trip/part-{district:05}.parquet");
    let vehicle = |trip: &Trip| if trip.train { "train-sealed" } else { "bus-ventilated" };
    let trip_id = |trip: &Trip| {
        let day = AS_OF - (trip.departure.0 + 1) as Millis * DAY_MS;
        let word = if trip.train { "train" } else { "bus" };
        let (from, to) = trip.stops;
        format!("{word}-{from:08x}-{to:08x}-{}-{:03}", date_of(day, "%Y%m%d"), trip.departure.1)
    };
    let coach = |trip: &Trip| trip.train.then(|| trip.seat.to_string());
    let seat_row = |trip: &Trip| (!trip.train).then_some(trip.seat);
    let columns = vec![
        ("person_id", names.column(city.recipe(), rows.iter().map(|t| t.person))),
        ("time", stamps(rows.iter().map(|t| t.time).collect())),
        ("until", stamps(rows.iter().map(|t| t.until).collect())),
        ("trip_id", texts(rows.iter().map(trip_id))),
        ("vehicle", texts(rows.iter().map(|t| vehicle(t).to_string()))),
        ("coach", Arc::new(rows.iter().map(coach).collect::<StringArray>()) as ArrayRef),
        ("seat_row", Arc::new(rows.iter().map(seat_row).collect::<UInt64Array>()) as ArrayRef),
    ];
    write_whole(
        staging,
        &name,
        columns,
        feed_properties(&Recipe { broken_share: 0.0, ..city.recipe().clone() }),
    )
}

/// Writes the cases, the tables of towers and venues, the risk areas, and the job.
pub fn write_tables(staging: &Staging, city: &City) -> Result<()> {
    let recipe = city.recipe();
    let rows = &city.cases.ill;
    let numbered = |word: &'static str| (1..=rows.len()).map(move |n| format!("{word}-{n:04}"));
    let at = |of: &dyn Fn(&Ill) -> Millis| stamps(rows.iter().map(of).collect());
    let cases = vec![
        ("case_id", texts(numbered("case"))),
        ("person_id", ids(rows.iter().map(|ill| city.id(ill.person)).collect(), recipe.ids)),
        ("onset_at", at(&|ill| ill.onset_at)),
        ("sampled_at", at(&|ill| ill.sampled_at)),
        ("confirmed_at", at(&|ill| ill.confirmed_at)),
        ("isolated_at", at(&|ill| ill.isolated_at)),
        ("report_id", texts(numbered("report"))),
        ("authority", texts(rows.iter().map(|_| AUTHORITY.to_string()))),
    ];
    write_whole(staging, CASES, cases, properties(recipe).build())?;
    if recipe.sources.contains(&Source::Tower) {
        let towers = &city.map.towers;
        let (lats, lons) = lats_lons(city, towers.iter().map(|tower| tower.at));
        let columns = vec![
            ("tower_id", texts((0..towers.len() as u32).map(tower_id))),
            ("lat", lats),
            ("lon", lons),
            (
                "range_m",
                Arc::new(Float64Array::from_iter_values(towers.iter().map(|t| t.range_m))) as ArrayRef,
            ),
        ];
        write_whole(staging, TOWERS, columns, properties(recipe).build())?;
    }
    if recipe.sources.contains(&Source::Venue) {
        let venues: Vec<_> = city.map.venues().collect();
        let (lats, lons) = lats_lons(city, venues.iter().map(|venue| venue.middle));
        let indoor = venues.iter().map(|venue| Some(venue.kind().setting != Setting::Park));
        let columns = vec![
            ("venue_id", texts(venues.iter().map(|venue| venue.id()))),
            ("lat", lats),
            ("lon", lons),
            (
                "radius_m",
                Arc::new(Float64Array::from_iter_values(venues.iter().map(|venue| venue.kind().side_m / 2.0)))
                    as ArrayRef,
            ),
            ("kind", texts(venues.iter().map(|venue| venue.kind().name.to_string()))),
            ("indoor", Arc::new(indoor.collect::<BooleanArray>()) as ArrayRef),
        ];
        write_whole(staging, VENUES, columns, properties(recipe).build())?;
    }
    let write = |name: &str, text: String| {
        std::fs::write(staging.path(name), text).map_err(|e| staging.failed(name, &e))
    };
    write(AREAS, areas(city))?;
    write(JOB, job(recipe))
}

/// A square round the home of each of the first cases, listed from its confirmation on.
fn areas(city: &City) -> String {
    let mut text = "area_id,level,geometry,valid_from,valid_to,dwell_s_min,report_id,authority\n".to_string();
    for (number, ill) in (1..).zip(city.cases.ill.iter().take(AREA_CASES)) {
        let people = city.district(ill.person / DISTRICT_PERSONS).people;
        let home = people[(ill.person % DISTRICT_PERSONS) as usize].flat;
        let corners = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0)];
        let corners = corners.map(|(x, y)| {
            let (lat, lon) = degrees(city, home.moved(x * AREA_HALF_M, y * AREA_HALF_M, 0.0));
            format!("{lon:.6} {lat:.6}")
        });
        let from = utc_text(ill.confirmed_at);
        text += &format!(
            "area-{number:02},high,\"POLYGON(({}))\",{from},,14400,report-{number:04},{AUTHORITY}\n",
            corners.join(",")
        );
    }
    text
}

/// The job file.
fn job(recipe: &Recipe) -> String {
    let datum = if recipe.gcj02 { "gcj02" } else { "wgs84" };
    let mut feeds = String::new();
    for source in &recipe.sources {
        let more = match source {
            Source::Gps => format!("datum = \"{datum}\"\n"),
            Source::Tower => format!("towers = {{ path = \"{TOWERS}\", datum = \"{datum}\" }}\n"),
            Source::Venue => format!("venues = {{ path = \"{VENUES}\", datum = \"{datum}\" }}\n"),
            Source::Trip => String::new(),
        };
        feeds += &format!("[[feeds]]\nsource = \"{source}\"\npath = \"{source}/\"\n{more}\n");
    }
    // Broken rows are asked for, so that their share is no reason to stop.
    let rejected = if recipe.broken_share > 0.0 { "rejected_share_max = 1.0\n" } else { "" };
    format!(
        r#"{MARK}, city {VERSION}: {flags}
# A made-up city: nobody in it exists. Run the job, and hold rules against the truth:
#   copresence run job.toml
#   copresence run job.toml --set rule.preset=companion-800m
#   copresence sweep job.toml --truth truth --vary rule.encounter.distance_m_max=10,25,50

[job]
name = "city"
purpose = "{purpose}"
as_of = "2022-03-22T00:00:00+08:00"
time_zone = "{TIME_ZONE}"
{rejected}
{feeds}[cases]
path = "{CASES}"

# Squares of 200 m round the homes of the first cases:
# [risk_areas]
# path = "{AREAS}"
# datum = "{datum}"

[rule]
preset = "calibrated"
lookback_days = {lookback}
"#,
        flags = recipe.flags(),
        purpose = purpose(recipe),
        // Where there are fewer days than usual, days that are moved have to stay among them.
        lookback = recipe.days.max(2),
    )
}
