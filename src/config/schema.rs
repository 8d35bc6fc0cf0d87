//! The JSON Schemas of job and rule files, made from one list of keys, so that editors complete and check them.

use super::{CASE_COLUMNS, RISK_AREA_COLUMNS, TOWER_COLUMNS, VENUE_COLUMNS, columns_of};
use crate::rule::Source;
use crate::rule::preset::PRESETS;
use serde_json::{Map, Value, json};

/// What a key takes.
#[derive(Debug, Clone, Copy)]
enum Takes {
    Text,
    /// A number of 0 or more.
    Number,
    /// A number above 0, up to 1.
    Share,
    /// A whole number from one to another.
    Whole(i64, i64),
    Flag,
    Word(&'static [&'static str]),
    /// An instant, as text or as TOML's own.
    Instant,
    /// Numbers under names of one's own.
    Named,
    /// A path, or a path and a datum.
    Polygons,
    /// `"flat"`, the published curve, or one's own.
    Curve,
}

/// A key: its table, its name, what it takes, its default as the file would write it, and what it means.
type Key = (&'static str, &'static str, Takes, &'static str, &'static str);

const KEYS: &[Key] = &[
    ("job", "name", Takes::Text, "the file's name", "name of the job and of its output folder"),
    ("job", "purpose", Takes::Text, "", "what the run is for; printed on every output"),
    ("job", "as_of", Takes::Instant, "", "the instant that the run looks back from"),
    (
        "job",
        "time_zone",
        Takes::Text,
        "",
        "IANA zone of times without an offset, of dates, and of closing times",
    ),
    (
        "job",
        "rejected_share_max",
        Takes::Number,
        "0.01",
        "largest share of a feed's rows that may be unreadable",
    ),
    (
        "job",
        "store",
        Takes::Text,
        "",
        "folder of a prepared store, which is read in the place of the feeds; these need not be named then",
    ),
    (
        "job",
        "area",
        Takes::Polygons,
        "",
        "file of the job's own polygons, for resident_scope = \"area\"; as { path, datum } where it does not say its datum",
    ),
    ("job", "exposures", Takes::Word(&["all", "candidates"]), "\"all\"", "whose exposures are written"),
    (
        "job",
        "encounters",
        Takes::Word(&["all", "candidates", "none"]),
        "\"candidates\"",
        "whose encounters are written",
    ),
    ("feeds", "source", Takes::Word(&["gps", "tower", "trip", "venue"]), "", "kind of the pings"),
    ("feeds", "path", Takes::Text, "", "a file, a folder or a glob of Parquet"),
    ("feeds", "datum", DATUM, "", "datum of a gps feed's coordinates; there is no default"),
    (
        "feeds",
        "hold_s_max",
        Takes::Number,
        "900, 3600, 1800",
        "longest that a ping stands for, s (gps, tower, venue)",
    ),
    ("feeds", "accuracy_m", Takes::Number, "20", "accuracy of a ping that gives none, m"),
    (
        "feeds",
        "motion",
        Takes::Word(&["hold", "linear"]),
        "\"hold\"",
        "gps: what a person does between two pings",
    ),
    (
        "feeds",
        "speed_m_per_s_max",
        Takes::Number,
        "0",
        "gps: drop a ping reached and left faster than this; 0 is off",
    ),
    (
        "feeds",
        "pingpong_s_max",
        Takes::Number,
        "120",
        "tower: drop a ping between two at one other tower, so far apart at most",
    ),
    ("feeds", "time_unit", Takes::Word(&["s", "ms", "us", "ns"]), "", "unit of integer times"),
    ("feeds.towers", "path", Takes::Text, "", "the table of towers, Parquet or CSV"),
    ("feeds.towers", "datum", DATUM, "", "datum of the towers' coordinates"),
    ("feeds.venues", "path", Takes::Text, "", "the table of venues, Parquet or CSV"),
    ("feeds.venues", "datum", DATUM, "", "datum of the venues' coordinates"),
    ("risk_areas", "path", Takes::Text, "", "the table of risk areas: GeoJSON, GeoParquet, CSV or Parquet"),
    (
        "risk_areas",
        "datum",
        DATUM,
        "",
        "datum of the polygons, where the files do not say it themselves, as GeoJSON and GeoParquet do",
    ),
    ("cases", "path", Takes::Text, "", "the table of cases, Parquet or CSV"),
    ("cases", "on_error", Takes::Word(&["stop", "reject"]), "\"stop\"", "what a faulty case does"),
    ("rule", "name", Takes::Text, "", "name of the rule; every output says by which it came"),
    ("rule", "version", Takes::Text, "", "version of the rule"),
    ("rule", "lookback_days", Takes::Number, "14", "how far back pings count, days"),
    (
        "rule",
        "notice_days",
        Takes::Number,
        "7",
        "how long after its last encounter a candidate expires, days",
    ),
    ("rule", "effective_from", Takes::Instant, "", "day from which the rule may be used"),
    ("rule", "expires_on", Takes::Instant, "", "last day on which the rule may be used"),
    (
        "rule.encounter",
        "place",
        Takes::Word(&["grid", "cell", "distance", "probability"]),
        "\"distance\"",
        "when two positions are the same place",
    ),
    ("rule.encounter", "square_m", Takes::Number, "800", "grid: side of a square, m"),
    ("rule.encounter", "resolution", Takes::Whole(0, 15), "8", "cell: H3 resolution"),
    (
        "rule.encounter",
        "distance_m_max",
        Takes::Number,
        "50",
        "distance, probability: how far apart still is together, m",
    ),
    (
        "rule.encounter",
        "probability_min",
        Takes::Share,
        "0.01",
        "probability: least probability of being together",
    ),
    (
        "rule.encounter",
        "cross_source",
        Takes::Flag,
        "false",
        "stays of different sources meet too, by position",
    ),
    (
        "rule.encounter",
        "lag_s_max",
        Takes::Number,
        "0",
        "how long a place stays infectious after the case left, s",
    ),
    (
        "rule.encounter",
        "contradiction_m",
        Takes::Number,
        "2000",
        "a scan farther than this, and the uncertainties, from its person's own position gives no exposure, m",
    ),
    (
        "rule.encounter",
        "stay_s_by_kind",
        Takes::Named,
        "",
        "how long a scan without a check-out stands for by kind of venue, s",
    ),
    ("rule.exposure", "merge_gap_s_max", Takes::Number, "0", "gaps that longest_s bridges, s"),
    ("rule.exposure", "risk_distance_m", Takes::Number, "2", "probability: how near a dose is taken in, m"),
    (
        "rule.exposure",
        "infectiousness",
        Takes::Curve,
        "\"flat\"",
        "probability: how infectious a case is by day from onset",
    ),
    (
        "rule.exposure",
        "lag_half_life_s",
        Takes::Number,
        "",
        "probability: within how long half of what a case left is gone, s",
    ),
    ("rule.exposure.setting_weights", "indoor", Takes::Number, "1", "weight of venues indoors"),
    ("rule.exposure.setting_weights", "outdoor", Takes::Number, "1", "weight of venues outdoors"),
    ("rule.exposure.setting_weights", "kinds", Takes::Named, "", "weights by kind of venue"),
    ("rule.candidate", "direct_s_min", Takes::Number, "600", "least direct_s"),
    ("rule.candidate", "confirmed_s_min", Takes::Number, "", "least confirmed_s"),
    ("rule.candidate", "longest_s_min", Takes::Number, "", "least longest_s"),
    ("rule.candidate", "peak_24h_s_min", Takes::Number, "", "least peak_24h_s"),
    ("rule.candidate", "expected_s_min", Takes::Number, "", "probability: least expected_s"),
    ("rule.candidate", "risk_min", Takes::Number, "", "probability: least risk"),
    (
        "rule.candidate",
        "resident_h_min",
        Takes::Number,
        "",
        "least hours that somebody dwells where the exposure was, in the lookback",
    ),
    (
        "rule.candidate",
        "resident_of",
        Takes::Word(&["person", "case", "either"]),
        "\"either\"",
        "whose dwell counts",
    ),
    (
        "rule.candidate",
        "resident_scope",
        Takes::Word(&["any", "area", "place"]),
        "\"place\"",
        "which stays count: all, those in the job's area, or those in the squares of the exposure",
    ),
    (
        "rule.candidate",
        "dwell_s_min",
        Takes::Number,
        "",
        "least dwell in a risk area whose listing gives none of its own, s",
    ),
    (
        "rule.candidate",
        "across_cases",
        Takes::Flag,
        "false",
        "whether the thresholds hold for all cases as one",
    ),
    (
        "rule.safeguards",
        "rows_share_min",
        Takes::Number,
        "",
        "least share of the median day's rows that a feed's last whole day has to have; else ingest and run stop with exit code 3",
    ),
];

const DATUM: Takes = Takes::Word(&["wgs84", "gcj02", "bd09"]);
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

impl Takes {
    fn schema(self) -> Value {
        match self {
            Takes::Text => json!({ "type": "string", "minLength": 1 }),
            Takes::Number => json!({ "type": "number", "minimum": 0 }),
            Takes::Share => json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1 }),
            Takes::Whole(from, to) => json!({ "type": "integer", "minimum": from, "maximum": to }),
            Takes::Flag => json!({ "type": "boolean" }),
            Takes::Word(words) => json!({ "enum": words }),
            Takes::Instant => json!({ "type": "string" }),
            Takes::Named => {
                json!({ "type": "object", "additionalProperties": { "type": "number", "minimum": 0 } })
            }
            Takes::Polygons => json!({ "oneOf": [
                { "type": "string", "minLength": 1 },
                {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["path"],
                    "properties": { "path": Takes::Text.schema(), "datum": DATUM.schema() },
                },
            ] }),
            Takes::Curve => json!({ "oneOf": [
                { "enum": ["flat", crate::rule::infectiousness::PUBLISHED] },
                {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["first_day", "weights"],
                    "properties": {
                        "first_day": { "type": "integer", "minimum": -100, "maximum": 100 },
                        "weights": {
                            "type": "array", "minItems": 1, "maxItems": 366, "items": { "type": "number", "minimum": 0 },
                        },
                    },
                },
            ] }),
        }
    }
}

/// The keys of a table.
pub fn keys_of(table: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter(move |key| key.0 == table).map(|key| key.1)
}

/// A table with its keys, and tables inside it.
fn table(path: &str, inner: &[(&str, Value)], required: &[&str]) -> Value {
    let mut properties = Map::new();
    for (_, name, takes, default, says) in KEYS.iter().filter(|key| key.0 == path) {
        let mut schema = takes.schema();
        let default = if default.is_empty() { String::new() } else { format!(" (default {default})") };
        schema["description"] = json!(format!("{says}{default}"));
        properties.insert((*name).to_string(), schema);
    }
    properties.extend(inner.iter().map(|(name, schema)| ((*name).to_string(), schema.clone())));
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// Names of columns in files, by their names here.
fn columns<'a>(names: impl IntoIterator<Item = &'a &'a str>) -> Value {
    let name = |name: &&str| (name.trim_end_matches('?').to_string(), json!({ "type": "string" }));
    let properties: Map<String, Value> = names.into_iter().map(name).collect();
    json!({
        "type": "object",
        "description": "names of the columns in the files, by their names here",
        "additionalProperties": false,
        "properties": properties,
    })
}

fn rule_table(in_job: bool) -> Value {
    let settings = table("rule.exposure.setting_weights", &[], &[]);
    let mut inner = vec![
        ("encounter", table("rule.encounter", &[], &[])),
        ("exposure", table("rule.exposure", &[("setting_weights", settings)], &[])),
        ("candidate", table("rule.candidate", &[], &[])),
        ("safeguards", table("rule.safeguards", &[], &[])),
    ];
    if in_job {
        let presets = PRESETS.map(|(name, _)| name);
        inner.push((
            "preset",
            json!({ "enum": presets, "description": "a rule that comes with the program" }),
        ));
    }
    let mut schema = table("rule", &inner, if in_job { &[] } else { &["name", "version"] });
    if in_job {
        schema["anyOf"] = json!([{ "required": ["preset"] }, { "required": ["name", "version"] }]);
    }
    schema
}

/// The schema of job files.
pub fn job() -> Value {
    let all: Vec<&str> = Source::ALL.iter().flat_map(|source| columns_of(*source)).copied().collect();
    let towers = table("feeds.towers", &[("columns", columns(&TOWER_COLUMNS))], &["path", "datum"]);
    let venues = table("feeds.venues", &[("columns", columns(&VENUE_COLUMNS))], &["path"]);
    let feed = table(
        "feeds",
        &[("columns", columns(&all)), ("towers", towers), ("venues", venues)],
        &["source", "path"],
    );
    let areas = table("risk_areas", &[("columns", columns(&RISK_AREA_COLUMNS))], &["path"]);
    let cases = table("cases", &[("columns", columns(&CASE_COLUMNS))], &["path"]);
    json!({
        "$schema": DIALECT,
        "title": "copresence job",
        "type": "object",
        "additionalProperties": false,
        "required": ["job", "rule"],
        "allOf": [
            { "anyOf": [{ "required": ["cases"] }, { "required": ["risk_areas"] }] },
            { "anyOf": [{ "required": ["feeds"] }, { "properties": { "job": { "required": ["store"] } } }] },
        ],
        "properties": {
            "job": table("job", &[], &["purpose"]),
            "feeds": { "type": "array", "minItems": 1, "items": feed },
            "cases": cases,
            "risk_areas": areas,
            "rule": rule_table(true),
        },
    })
}

/// The schema of rule files.
pub fn rule() -> Value {
    json!({
        "$schema": DIALECT,
        "title": "copresence rule",
        "type": "object",
        "additionalProperties": false,
        "required": ["rule"],
        "properties": { "rule": rule_table(false) },
    })
}
