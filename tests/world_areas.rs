//! Risk areas of small worlds: drawn by lot, and written in each of the formats that the engine reads.

use crate::oracle::{Area, Ms, Shapes};
use crate::world_files::save_as;
use crate::worlds::{Shape, at, offset};
use arrow::array::{
    ArrayRef, BinaryArray, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

/// Blocks and triangles about spots, with holes and second parts now and then.
pub fn shapes_near(shape: &Shape) -> impl Strategy<Value = Shapes> + use<> {
    let anchor = shape.anchor;
    // Near the poles large blocks would go round them.
    let half_m_max = if anchor.0.abs() > 80.0 { 900.0 } else { f64::INFINITY };
    let size = prop::sample::select(vec![5.0, 30.0, 49.9, 200.0, 900.0, 30_000.0]);
    let hole = prop::option::weighted(0.4, prop::sample::select(vec![0.3, 0.5, 0.9]));
    let part = (offset(), offset(), size, hole, 0..3u8).prop_map(move |(east, north, half_m, hole, kind)| {
        let half_m = f64::min(half_m, half_m_max);
        let ring = |half_m: f64| -> Vec<(f64, f64)> {
            let corners: &[(f64, f64)] = match kind {
                0 => &[(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)],
                // A corner at the spot itself, so that who is there is on the border.
                1 => &[(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)],
                _ => &[(-1.0, -1.0), (1.0, -0.5), (0.2, 1.0)],
            };
            let corner = |(x, y): &(f64, f64)| {
                let (lat, lon) = at(anchor, east + x * half_m, north + y * half_m);
                (lon, lat)
            };
            let mut ring: Vec<(f64, f64)> = corners.iter().map(corner).collect();
            ring.push(ring[0]);
            ring
        };
        let inner = hole.map(|share| ring(half_m * share));
        std::iter::once(ring(half_m)).chain(inner).collect::<Vec<_>>()
    });
    prop::collection::vec(part, 1..3)
}

pub fn areas(shape: &Shape, t0: Ms) -> impl Strategy<Value = Vec<Area>> + use<> {
    let unit_ms = shape.unit_ms;
    let one = (shapes_near(shape), -5..50i64, 1..60i64, 1..15i64);
    let some = prop::collection::vec(one, 1..4).prop_map(move |areas| {
        let area = |(number, (shapes, from, dwell, least)): (usize, (Shapes, i64, i64, i64))| Area {
            area_id: format!("a{number}"),
            shapes,
            from: t0 + from * unit_ms,
            to: t0 + (from + dwell) * unit_ms,
            dwell_ms_min: least * unit_ms,
        };
        areas.into_iter().enumerate().map(area).collect::<Vec<_>>()
    });
    prop_oneof![Just(Vec::new()), some]
}

fn wkt(shapes: &Shapes) -> String {
    let ring = |ring: &Vec<(f64, f64)>| {
        let corners: Vec<String> = ring.iter().map(|(lon, lat)| format!("{lon} {lat}")).collect();
        format!("({})", corners.join(", "))
    };
    let polygon =
        |rings: &Vec<Vec<(f64, f64)>>| format!("({})", rings.iter().map(ring).collect::<Vec<_>>().join(", "));
    match shapes.as_slice() {
        [one] => format!("POLYGON {}", polygon(one)),
        all => format!("MULTIPOLYGON ({})", all.iter().map(polygon).collect::<Vec<_>>().join(", ")),
    }
}

/// Well-known binary, of alternating byte orders.
fn wkb(shapes: &Shapes) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    let polygon = |bytes: &mut Vec<u8>, rings: &Vec<Vec<(f64, f64)>>, big: bool| {
        let int = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let float = |n: f64| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        bytes.push(u8::from(!big));
        bytes.extend(int(3));
        bytes.extend(int(rings.len() as u32));
        for ring in rings {
            bytes.extend(int(ring.len() as u32));
            for (lon, lat) in ring {
                bytes.extend(float(*lon));
                bytes.extend(float(*lat));
            }
        }
    };
    if let [one] = shapes.as_slice() {
        polygon(&mut bytes, one, true);
        return bytes;
    }
    bytes.push(1);
    bytes.extend(6u32.to_le_bytes());
    bytes.extend((shapes.len() as u32).to_le_bytes());
    shapes.iter().for_each(|rings| polygon(&mut bytes, rings, false));
    bytes
}

fn geojson(shapes: &Shapes) -> serde_json::Value {
    match shapes.as_slice() {
        [one] => serde_json::json!({ "type": "Polygon", "coordinates": one }),
        all => serde_json::json!({ "type": "MultiPolygon", "coordinates": all }),
    }
}

/// Writes the areas of a world; returns what the job file says of them.
pub fn write(areas: &[Area], seed: u64, dir: &Path) -> String {
    let text = |ms: Ms| copresence::time::utc_text(ms);
    let seconds = |ms: Ms| ms as f64 / 1_000.0;
    match seed % 3 {
        0 => {
            let mut csv =
                "area_id,level,geometry,valid_from,valid_to,dwell_s_min,report_id,authority\n".to_string();
            for a in areas {
                let (from, to, dwell) = (text(a.from), text(a.to), seconds(a.dwell_ms_min));
                csv += &format!("{},high,\"{}\",{from},{to},{dwell},r,test\n", a.area_id, wkt(&a.shapes));
            }
            std::fs::write(dir.join("areas.csv"), csv).expect("a file");
            "[risk_areas]\npath = \"areas.csv\"\ndatum = \"wgs84\"\n".into()
        }
        1 => {
            let feature = |a: &Area| {
                serde_json::json!({
                    "type": "Feature",
                    "geometry": geojson(&a.shapes),
                    "properties": {
                        "area_id": a.area_id, "level": "high", "valid_from": text(a.from), "valid_to": text(a.to),
                        "dwell_s_min": seconds(a.dwell_ms_min), "report_id": "r", "authority": "test",
                    },
                })
            };
            let all: Vec<_> = areas.iter().rev().map(feature).collect();
            let all = serde_json::json!({ "type": "FeatureCollection", "features": all });
            std::fs::write(dir.join("areas.geojson"), all.to_string()).expect("a file");
            "[risk_areas]\npath = \"areas.geojson\"\n".into()
        }
        _ => {
            let texts = |value: &dyn Fn(&Area) -> String| -> ArrayRef {
                Arc::new(StringArray::from_iter_values(areas.iter().map(value)))
            };
            let stamps = |value: &dyn Fn(&Area) -> Ms| -> ArrayRef {
                let values: TimestampMillisecondArray = areas.iter().map(|a| Some(value(a))).collect();
                Arc::new(values.with_timezone("UTC"))
            };
            let columns: Vec<(&str, ArrayRef)> = vec![
                ("area_id", texts(&|a| a.area_id.clone())),
                ("level", texts(&|_| "high".into())),
                ("shape", Arc::new(BinaryArray::from_iter_values(areas.iter().map(|a| wkb(&a.shapes))))),
                ("valid_from", stamps(&|a| a.from)),
                ("valid_to", stamps(&|a| a.to)),
                (
                    "dwell_s_min",
                    Arc::new(Float64Array::from_iter_values(areas.iter().map(|a| seconds(a.dwell_ms_min)))),
                ),
                ("report_id", texts(&|_| "r".into())),
                ("authority", texts(&|_| "test".into())),
            ];
            let geo = r#"{"version":"1.1.0","primary_column":"shape","columns":{"shape":{"encoding":"WKB","geometry_types":[]}}}"#;
            let properties = WriterProperties::builder()
                .set_key_value_metadata(Some(vec![KeyValue::new("geo".to_string(), geo.to_string())]));
            let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
            save_as(&dir.join("areas.parquet"), &batch, properties.build());
            "[risk_areas]\npath = \"areas.parquet\"\ncolumns = { geometry = \"shape\" }\n".into()
        }
    }
}

/// Writes the job's own area.
pub fn write_home(shapes: &Shapes, dir: &Path) {
    std::fs::write(dir.join("home.geojson"), geojson(shapes).to_string()).expect("a file");
}
