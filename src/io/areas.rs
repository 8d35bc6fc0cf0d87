//! Risk areas, and the job's own area: from WKT, WKB (GeoParquet) and GeoJSON to regions.

use super::columns::{NoTime, wrong_type};
use super::files::{Input, guarded};
use super::table::{self, Table};
use super::wkb::{self, Polygons};
use crate::config::{AreaConfig, Config, TableConfig};
use crate::datum::Datum;
use crate::error::{Error, Problem, Result};
use crate::region::Region;
use crate::risk_area::RiskArea;
use crate::time::{Edge, Millis, seconds_to_millis};
use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::DataType;
use geo_types::{Geometry, LineString, Polygon};
use geozero::ToGeo;
use geozero::wkt::Wkt;
use std::collections::BTreeMap;

/// 9999-12-31T00:00:00Z: later ends stand for none.
const LAST: Millis = 253_402_214_400_000;

/// What `[risk_areas]` gives.
#[derive(Debug, Default)]
pub struct Areas {
    /// Every listing with its region.
    pub listed: Vec<(RiskArea, Region)>,
    /// The files.
    pub inputs: Vec<Input>,
}

/// A fault of one row; all of them stop the run: an area that nobody answers for, or that is not where it seems to be, would
/// make candidates of people for nothing.
struct Fault {
    column: &'static str,
    expected: &'static str,
    found: String,
    cure: &'static str,
}

/// Reads the risk areas.
pub fn read(config: &Config, table: &TableConfig) -> Result<Areas> {
    let mut all = Areas::default();
    // By id: where each listing stands, and when it holds.
    let mut seen: BTreeMap<String, Vec<(Millis, Millis, String)>> = BTreeMap::new();
    for file in table::read(&config.base, &table.path, &table.label, &table.columns)? {
        if file.rows() == 0 {
            all.inputs.push(file.input);
            continue;
        }
        let geometries = Geometries::new(&file, table.datum, &table.label)?;
        let text = |name| file.texts(name, file.required(name)?);
        let (ids, levels, reports, authorities) =
            (text("area_id")?, text("level")?, text("report_id")?, text("authority")?);
        file.required("valid_from")?;
        let from = file.times("valid_from", Edge::Start, config.time_zone)?;
        let to = file.times("valid_to", Edge::End, config.time_zone)?;
        let dwells = file.optional("dwell_s_min")?.map(|c| file.numbers("dwell_s_min", c)).transpose()?;
        for row in 0..file.rows() {
            let read = || -> std::result::Result<(RiskArea, Region), Fault> {
                let area_id = filled(&ids, row).ok_or_else(|| absent("area_id"))?;
                let level = filled(&levels, row).ok_or_else(|| absent("level"))?;
                let report_id = filled(&reports, row).ok_or_else(|| absent("report_id"))?;
                let authority = filled(&authorities, row).ok_or_else(|| absent("authority"))?;
                let valid_from = instant(from[row], "valid_from")?.ok_or_else(|| absent("valid_from"))?;
                // Without an end it is listed still; beyond what calendars write, an end means that there is none.
                let valid_to = instant(to[row], "valid_to")?.filter(|at| *at < LAST);
                if let Some(valid_to) = valid_to.filter(|at| *at <= valid_from) {
                    return Err(Fault {
                        column: "valid_to",
                        expected: "an end of the listing after its start",
                        found: format!(
                            "{} to {}",
                            crate::time::utc_text(valid_from),
                            crate::time::utc_text(valid_to)
                        ),
                        cure: "mend the dates, or leave valid_to empty while it is listed",
                    });
                }
                let dwell_ms_min =
                    least_dwell(dwells.as_ref().and_then(|c| c[row]), config.rule.candidate.dwell_ms_min)?;
                let region = geometries.region(row)?;
                let area =
                    RiskArea { area_id, level, valid_from, valid_to, dwell_ms_min, report_id, authority };
                Ok((area, region))
            };
            let id = filled(&ids, row);
            let fail = |fault: Fault| {
                let name = id.clone().map_or(String::new(), |id| format!(" (area {id})"));
                let place = format!("{}{name}, column {}", file.place(row), fault.column);
                Error::Input(Problem::new(place, fault.expected, fault.found, fault.cure))
            };
            let (area, region) = read().map_err(fail)?;
            let others = seen.entry(area.area_id.clone()).or_default();
            if let Some((.., first)) =
                others.iter().find(|(from, to, _)| area.valid_from < *to && *from < area.end())
            {
                return Err(fail(Fault {
                    column: "area_id",
                    expected: "one listing of an area at a time",
                    found: format!("area {} again, while {first} lists it", area.area_id),
                    cure: "give the other area an id of its own, or end one listing before the next",
                }));
            }
            others.push((area.valid_from, area.end(), file.place(row)));
            all.listed.push((area, region));
        }
        all.inputs.push(file.input);
    }
    Ok(all)
}

/// Reads the polygons of the job's own area as one region.
pub fn read_home(config: &Config, area: &AreaConfig) -> Result<(Region, Vec<Input>)> {
    let (mut home, mut inputs) = (Region::default(), Vec::new());
    for file in table::read(&config.base, &area.path, "job.area", &BTreeMap::new())? {
        let geometries = Geometries::new(&file, area.datum, "job.area")?;
        for row in 0..file.rows() {
            home.extend(geometries.region(row).map_err(|fault| {
                let place = format!("{}, column {}", file.place(row), fault.column);
                Error::Input(Problem::new(place, fault.expected, fault.found, fault.cure))
            })?);
        }
        inputs.push(file.input);
    }
    if home.is_empty() {
        return Err(Error::Input(Problem::new(
            format!("job.area = \"{}\"", area.path),
            "at least one polygon",
            "none",
            "write the polygons of the area into the file",
        )));
    }
    Ok((home, inputs))
}

fn filled(column: &StringArray, row: usize) -> Option<String> {
    (!column.is_null(row)).then(|| column.value(row).trim()).filter(|t| !t.is_empty()).map(str::to_string)
}

fn absent(column: &'static str) -> Fault {
    Fault {
        column,
        expected: match column {
            "report_id" => "the report that lists the area: without one it is no risk area",
            "authority" => "the authority that answers for the listing",
            "valid_from" => "the instant from which the area is listed",
            "geometry" => "the polygon or multipolygon of the area",
            "level" => "the level of the risk, in the authority's words",
            _ => "an id of its own",
        },
        found: "nothing".into(),
        cure: "fill it in",
    }
}

fn instant(
    value: std::result::Result<Millis, NoTime>,
    column: &'static str,
) -> std::result::Result<Option<Millis>, Fault> {
    match value {
        Ok(at) => Ok(Some(at)),
        Err(NoTime::Missing) => Ok(None),
        Err(why) => Err(Fault {
            column,
            expected: "a day such as 2022-03-21, or a time such as 2022-03-21T10:00:00+08:00",
            found: match why {
                NoTime::NotInZone => "a time that the zone's clock skips".into(),
                _ => "something that is no time".into(),
            },
            cure: "mend the time",
        }),
    }
}

/// The listing's own, else the rule's.
fn least_dwell(own_s: Option<f64>, of_rule: Option<Millis>) -> std::result::Result<Millis, Fault> {
    let dwell_ms = match own_s {
        None => of_rule,
        Some(seconds) => seconds_to_millis(seconds).filter(|ms| *ms > 0),
    };
    dwell_ms.ok_or_else(|| Fault {
        column: "dwell_s_min",
        expected: "how long somebody has to dwell in the area, in seconds above 0",
        found: match own_s {
            None => "nothing, and no rule.candidate.dwell_s_min".into(),
            Some(seconds) if seconds.is_nan() => "something that is no number".into(),
            Some(seconds) => seconds.to_string(),
        },
        cure: "fill it in, or take a rule that says it, such as area-4h",
    })
}

/// The column of geometries of a file.
struct Geometries {
    column: ArrayRef,
    datum: Datum,
}

impl Geometries {
    /// GeoJSON and GeoParquet say themselves that they are in WGS84; of other files the job has to say it.
    fn new(file: &Table, datum: Option<Datum>, label: &str) -> Result<Self> {
        let column = file.required("geometry")?.clone();
        let name = &file.input.name;
        let known = matches!(
            column.data_type(),
            DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
        );
        if !known {
            let expected = "WKB in a binary column, or WKT in a string column";
            return Err(wrong_type(name, "geometry", expected, column.data_type()));
        }
        let declared = match datum {
            Some(datum) => Some(datum),
            None if file.is_geojson() => Some(Datum::Wgs84),
            None => geoparquet_datum(file)?,
        };
        let Some(datum) = declared else {
            let place = if label == "job.area" { "job.area".to_string() } else { format!("{label}.datum") };
            return Err(Error::Job(Problem::new(
                place,
                format!("the datum of the polygons of {name}: wgs84, gcj02 or bd09"),
                "nothing",
                if label == "job.area" {
                    "write area = { path = \"...\", datum = \"wgs84\" }, or take GeoJSON or GeoParquet, which say it themselves"
                } else {
                    "add it, or take GeoJSON or GeoParquet, which say it themselves: a Chinese map's offset moves an area by 100 to 700 m, and others into it"
                },
            )));
        };
        Ok(Geometries { column, datum })
    }

    fn region(&self, row: usize) -> std::result::Result<Region, Fault> {
        if self.column.is_null(row) {
            return Err(absent("geometry"));
        }
        let fault = |found: String| Fault {
            column: "geometry",
            expected: "a polygon or multipolygon, as WKT or GeoJSON in a string column or WKB in a binary one, longitude before latitude",
            found,
            cure: "write one polygon or multipolygon a cell, such as POLYGON ((113.6 34.7, 113.7 34.7, 113.7 34.8, 113.6 34.7))",
        };
        let parsed = guarded(|| self.polygons(row));
        let polygons = parsed.unwrap_or_else(|_| Err("bytes that are no geometry".into())).map_err(fault)?;
        let mut region = Region::default();
        for rings in polygons {
            region.add(self.in_wgs84(rings)).map_err(|why| fault(why.found().to_string()))?;
        }
        if region.is_empty() { Err(fault("an empty one".into())) } else { Ok(region) }
    }

    fn polygons(&self, row: usize) -> std::result::Result<Polygons, String> {
        match self.column.data_type() {
            DataType::Utf8 => from_text(self.column.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => from_text(self.column.as_string::<i64>().value(row)),
            DataType::Utf8View => from_text(self.column.as_string_view().value(row)),
            DataType::Binary => wkb::polygons(self.column.as_binary::<i32>().value(row)),
            DataType::LargeBinary => wkb::polygons(self.column.as_binary::<i64>().value(row)),
            _ => wkb::polygons(self.column.as_binary_view().value(row)),
        }
    }

    fn in_wgs84(&self, mut rings: Vec<Vec<(f64, f64)>>) -> Vec<Vec<(f64, f64)>> {
        for (lon, lat) in rings.iter_mut().flatten() {
            let (north, east) = self.datum.to_wgs84(*lat, *lon);
            // Adding zero turns -0 into 0, as of pings.
            (*lon, *lat) = (east + 0.0, north + 0.0);
        }
        rings
    }
}

/// From WKT, or the geometry of a GeoJSON feature.
fn from_text(text: &str) -> std::result::Result<Polygons, String> {
    let text = text.trim();
    let geometry = if text.starts_with('{') {
        geozero::geojson::GeoJson(text).to_geo().map_err(|e| e.to_string())?
    } else {
        // PostGIS writes the number of the reference system before it.
        let plain = match text.split_once(';') {
            Some((srid, rest)) if srid.trim().eq_ignore_ascii_case("SRID=4326") => rest,
            Some((srid, _)) if srid.trim_start().to_ascii_uppercase().starts_with("SRID=") => {
                return Err(format!("{srid}, which is not WGS84 (4326)"));
            }
            _ => text,
        };
        refuse_more_than_one(plain)?;
        Wkt(plain).to_geo().map_err(|e| format!("WKT that cannot be read ({e})"))?
    };
    let rings = |polygon: Polygon<f64>| {
        let (outer, holes) = polygon.into_inner();
        let ring = |line: LineString<f64>| line.0.into_iter().map(|c| (c.x, c.y)).collect();
        std::iter::once(outer).chain(holes).map(ring).collect()
    };
    match geometry {
        Geometry::Polygon(polygon) => Ok(vec![rings(polygon)]),
        Geometry::MultiPolygon(polygons) => Ok(polygons.0.into_iter().map(rings).collect()),
        other => Err(kind_of(&other).to_string()),
    }
}

/// A cell holds one geometry: a second one would get lost.
fn refuse_more_than_one(wkt: &str) -> std::result::Result<(), String> {
    let mut depth = 0;
    for (at, letter) in wkt.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 0 => return Err("WKT with a parenthesis too much".into()),
            ')' => depth -= 1,
            _ => continue,
        }
        if depth == 0 && !wkt[at + 1..].trim().is_empty() {
            return Err("WKT with something after its end".into());
        }
    }
    Ok(())
}

fn kind_of(geometry: &Geometry<f64>) -> &'static str {
    match geometry {
        Geometry::Point(_) | Geometry::MultiPoint(_) => "points",
        Geometry::Line(_) | Geometry::LineString(_) | Geometry::MultiLineString(_) => "lines",
        Geometry::GeometryCollection(_) => "a collection of geometries",
        _ => "a geometry of another kind",
    }
}

/// The datum that GeoParquet declares: WGS84 where it names no reference system, or this one.
fn geoparquet_datum(file: &Table) -> Result<Option<Datum>> {
    let Some(text) = file.metadata("geo") else { return Ok(None) };
    let read: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let Some(column) = read["columns"].get(file.name_of("geometry")) else { return Ok(None) };
    if column["edges"] == "spherical" {
        return Err(Error::Input(Problem::new(
            format!("{}, column {}", file.input.name, file.name_of("geometry")),
            "edges that are straight in longitude and latitude (planar)",
            "spherical edges",
            "write the file with planar edges, with corners close enough along long ones",
        )));
    }
    let Some(crs) = column.get("crs") else { return Ok(Some(Datum::Wgs84)) };
    if crs.is_null() {
        return Ok(None);
    }
    let id = |part: &serde_json::Value| {
        let text = |key: &str| match &part[key] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        (text("authority"), text("code"))
    };
    let (authority, code) = id(&crs["id"]);
    // China's CGCS2000 (4490) and WGS84 are the same to centimetres.
    let is_wgs84 =
        [("OGC", "CRS84"), ("EPSG", "4326"), ("EPSG", "4490")].contains(&(authority.as_str(), code.as_str()));
    if is_wgs84 {
        return Ok(Some(Datum::Wgs84));
    }
    Err(Error::Input(Problem::new(
        format!("{}, column {}", file.input.name, file.name_of("geometry")),
        "polygons in WGS84 (OGC:CRS84 or EPSG:4326)",
        format!("the reference system {authority}:{code}"),
        "write the file again in WGS84, longitude before latitude",
    )))
}
