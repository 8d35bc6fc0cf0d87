//! `[[feeds]]`, `[cases]`, `[risk_areas]` and `job.area`: what is read, and how.

use super::section::Section;
use super::{
    AreaConfig, CASE_COLUMNS, CasesConfig, FeedConfig, RISK_AREA_COLUMNS, TOWER_COLUMNS, TableConfig,
    VENUE_COLUMNS, columns_of,
};
use crate::datum::Datum;
use crate::error::{Error, Result};
use crate::rule::{Motion, Source, StayRule};
use crate::time::{Millis, TimeUnit, seconds_to_millis};
use std::collections::BTreeMap;
use toml::Value;

pub(super) fn feeds(root: &Section<'_>) -> Result<Vec<FeedConfig>> {
    let tables = match root.get("feeds") {
        Some(Value::Array(tables)) if !tables.is_empty() => tables,
        found => {
            return Err(root.problem(
                "[[feeds]]",
                "at least one feed of pings",
                found.map_or("nothing".to_string(), |v| v.type_str().to_string()),
                "add [[feeds]] with source, path and what the source needs",
            ));
        }
    };
    if tables.len() > usize::from(u16::MAX) {
        return Err(root.problem(
            "[[feeds]]",
            "at most 65,535 feeds",
            tables.len().to_string(),
            "join files into folders",
        ));
    }
    tables.iter().enumerate().map(|(i, value)| feed(root, i, value)).collect()
}

fn feed(root: &Section<'_>, number: usize, value: &Value) -> Result<FeedConfig> {
    let label = format!("feeds[{number}]");
    let Value::Table(table) = value else {
        return Err(root.problem(
            "[[feeds]]",
            "tables",
            value.type_str(),
            "write [[feeds]] on a line of its own",
        ));
    };
    let section = root.sibling(&label, Some(table));
    section.required("source", "one of gps, tower, trip, venue")?;
    let sources = Source::ALL.map(|source| (source.name(), source));
    let source = section.choice("source", &sources)?.unwrap_or(Source::Gps);
    let path = section.required("path", "a file, a folder or a glob")?.to_string();
    let names: Vec<&'static str> = columns_of(source).to_vec();
    let columns = columns(&section.section("columns")?, &names)?;
    let mut stay = StayRule::of(source);
    if let Some(hold_s) = section.number("hold_s_max", "seconds")? {
        stay.hold_ms = millis(&section, "hold_s_max", hold_s)?;
    }
    stay.accuracy_m = section.number("accuracy_m", "metres")?.unwrap_or(stay.accuracy_m);
    if let Some(motion) = section.choice("motion", &[("hold", Motion::Hold), ("linear", Motion::Linear)])? {
        stay.motion = motion;
        only_for(&section, "motion", source, Source::Gps, motion != Motion::Hold)?;
    }
    if let Some(speed) = section.number("speed_m_per_s_max", "metres per second")? {
        stay.speed_m_per_s_max = speed;
        only_for(&section, "speed_m_per_s_max", source, Source::Gps, speed != 0.0)?;
    }
    if let Some(pingpong_s) = section.number("pingpong_s_max", "seconds")? {
        stay.pingpong_ms = millis(&section, "pingpong_s_max", pingpong_s)?;
        only_for(&section, "pingpong_s_max", source, Source::Tower, pingpong_s != 0.0)?;
    }
    let units = [("s", TimeUnit::S), ("ms", TimeUnit::Ms), ("us", TimeUnit::Us), ("ns", TimeUnit::Ns)];
    let time_unit = section.choice("time_unit", &units)?;
    let datum = datum(&section)?;
    let places = match source {
        Source::Gps => {
            if datum.is_none() {
                return Err(no_datum(&section, "the coordinates of this feed"));
            }
            None
        }
        Source::Tower => Some(places(&section, "towers", &TOWER_COLUMNS)?.ok_or_else(|| {
            section.problem(
                "towers",
                "the table that says where each tower stands",
                "nothing",
                "add towers = { path = \"towers.parquet\", datum = \"wgs84\" }",
            )
        })?),
        Source::Venue => places(&section, "venues", &VENUE_COLUMNS)?,
        Source::Trip => None,
    };
    if source == Source::Trip && datum.is_some() {
        return Err(section.problem(
            "datum",
            "no datum on a trip feed",
            "one",
            "remove it: trips have no coordinates",
        ));
    }
    if source != Source::Gps && datum.is_some() {
        let table = if source == Source::Tower { "towers" } else { "venues" };
        return Err(section.problem(
            "datum",
            format!("a datum beside the coordinates, which are in {table}"),
            "one on the feed",
            format!("write it inside {table} = {{ ... }}"),
        ));
    }
    section.check()?;
    Ok(FeedConfig { label, path, datum, columns, time_unit, places, stay, stored: None })
}

fn only_for(section: &Section<'_>, key: &str, source: Source, wanted: Source, on: bool) -> Result<()> {
    if source == wanted || !on {
        return Ok(());
    }
    Err(section.problem(
        key,
        format!("this key on {wanted} feeds only"),
        format!("a {source} feed"),
        "remove the key",
    ))
}

fn places(section: &Section<'_>, key: &'static str, names: &[&'static str]) -> Result<Option<TableConfig>> {
    let table = section.section(key)?;
    if !table.is_there() {
        return Ok(None);
    }
    let path = table.required("path", "a Parquet or CSV file")?.to_string();
    let datum = datum(&table)?;
    if datum.is_none() && key == "towers" {
        return Err(no_datum(&table, "the towers' coordinates"));
    }
    let columns = columns(&table.section("columns")?, names)?;
    let label = table.path().to_string();
    table.check()?;
    Ok(Some(TableConfig { label, path, datum, columns }))
}

fn datum(section: &Section<'_>) -> Result<Option<Datum>> {
    section.choice("datum", &[("wgs84", Datum::Wgs84), ("gcj02", Datum::Gcj02), ("bd09", Datum::Bd09)])
}

/// There is no default datum: the error says why.
fn no_datum(section: &Section<'_>, what: &str) -> Error {
    section.problem(
        "datum",
        format!("the datum of {what}: wgs84, gcj02 or bd09"),
        "nothing",
        "ask whoever wrote the files: a Chinese map's offset moves people by 100 to 700 m, as far as the rule itself reaches, so there is no default",
    )
}

/// A path, or a table of path and datum.
pub(super) fn area(job: &Section<'_>) -> Result<Option<AreaConfig>> {
    if let Some(Value::String(path)) = job.get("area") {
        return Ok(Some(AreaConfig { path: path.clone(), datum: None }));
    }
    let table = job.section("area")?;
    if !table.is_there() {
        return Ok(None);
    }
    let path = table.required("path", "a file of polygons")?.to_string();
    let datum = datum(&table)?;
    table.check()?;
    Ok(Some(AreaConfig { path, datum }))
}

pub(super) fn risk_areas(root: &Section<'_>) -> Result<Option<TableConfig>> {
    let section = root.section("risk_areas")?;
    if !section.is_there() {
        return Ok(None);
    }
    let path = section
        .required("path", "the table of risk areas: GeoJSON, GeoParquet, or CSV or Parquet with WKT or WKB")?
        .to_string();
    let datum = datum(&section)?;
    let columns = columns(&section.section("columns")?, &RISK_AREA_COLUMNS)?;
    section.check()?;
    Ok(Some(TableConfig { label: "risk_areas".into(), path, datum, columns }))
}

/// A job needs cases, unless it has risk areas.
pub(super) fn cases(root: &Section<'_>, has_areas: bool) -> Result<Option<CasesConfig>> {
    let section = root.section("cases")?;
    if has_areas && !section.is_there() {
        return Ok(None);
    }
    let path = section.required("path", "the table of cases, Parquet or CSV")?.to_string();
    let columns = columns(&section.section("columns")?, &CASE_COLUMNS)?;
    let reject = section.choice("on_error", &[("stop", false), ("reject", true)])?.unwrap_or(false);
    section.refuse("signatures", None)?;
    section.refuse("require_signatures", Some(Value::Integer(0)))?;
    section.check()?;
    Ok(Some(CasesConfig { path, columns, reject }))
}

/// The names of a table's columns in its files.
fn columns(section: &Section<'_>, names: &[&'static str]) -> Result<BTreeMap<String, String>> {
    let mut columns = BTreeMap::new();
    for name in names {
        let name: &'static str = name.trim_end_matches('?');
        if let Some(mapped) = section.text(name)? {
            columns.insert(name.to_string(), mapped.to_string());
        }
    }
    section.check()?;
    Ok(columns)
}

pub(super) fn millis(section: &Section<'_>, key: &str, seconds: f64) -> Result<Millis> {
    seconds_to_millis(seconds).ok_or_else(|| {
        section.problem(key, "a number of seconds", seconds.to_string(), "write fewer seconds")
    })
}
