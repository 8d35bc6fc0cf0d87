//! Towers and venues: where each stands, in WGS84, and a number for each id.

use super::files::Input;
use super::table::{self, Table};
use crate::answer::Rejection;
use crate::config::{Config, TableConfig};
use crate::datum::Datum;
use crate::error::{Error, Problem, Result};
use crate::geo::wrap_degrees;
use crate::rule::{Rule, Source, StayRule};
use crate::time::{DAY_MS, Millis, seconds_to_millis};
use arrow::array::Array;
use hashbrown::{Equivalent, HashMap};
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

/// Where a place stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// Towers: their number, in the order of their ids; venues: 0.
    pub number: u32,
    /// WGS84 degrees; NaN where unknown.
    pub lat: f64,
    /// WGS84 degrees; NaN where unknown.
    pub lon: f64,
    /// Range of a tower, radius of a venue, metres; NaN where unknown.
    pub range_m: f64,
    /// What a venue's setting adds to a dose.
    pub weight: f64,
    /// How long a scan of a venue stands for, and until which time of day, ms; where anything is known of either.
    pub lasts: Option<(Millis, u32)>,
}

impl Standing {
    fn is_alike(&self, other: &Standing) -> bool {
        let bits = |s: &Standing| [s.lat, s.lon, s.range_m, s.weight].map(f64::to_bits);
        bits(self) == bits(other) && self.lasts == other.lasts
    }
}

/// The places of one feed, by id.
pub type Places = HashMap<String, Standing>;

/// The places of all feeds, by feed, and what was read for them.
#[derive(Debug, Default)]
pub struct AllPlaces {
    /// By feed.
    pub by_feed: Vec<Places>,
    /// Their files, each with the label of its table.
    pub inputs: Vec<(String, Input)>,
    /// Rows that could not be used.
    pub rejections: Vec<Rejection>,
}

/// Reads the towers and venues of all feeds.
pub fn read(config: &Config) -> Result<AllPlaces> {
    let mut all = AllPlaces::default();
    // Towers are numbered in the order of their ids over all feeds: numbers as numbers where every
    // table has integers, else by their text.
    let mut numeric = true;
    for feed in &config.feeds {
        let mut places = Places::new();
        if let Some(table) = &feed.places {
            for file in table::read(&config.base, &table.path, &table.label, &table.columns)? {
                let is_tower = feed.stay.source == Source::Tower;
                numeric &=
                    read_file(&file, table, feed.stay, &config.rule, &mut places, &mut all.rejections)?
                        || !is_tower;
                all.inputs.push((table.label.clone(), file.input));
            }
        }
        all.by_feed.push(places);
    }
    let towers = |feed: usize| config.feeds[feed].stay.source == Source::Tower;
    let mut ids: Vec<String> = Vec::new();
    for (feed, places) in all.by_feed.iter().enumerate() {
        if towers(feed) {
            ids.extend(places.keys().cloned());
        }
    }
    if numeric {
        ids.sort_by_cached_key(|id| (id.parse::<i128>().unwrap_or_default(), id.clone()));
    } else {
        ids.sort();
    }
    ids.dedup();
    let numbers: HashMap<&str, u32> = ids.iter().map(String::as_str).zip(0..).collect();
    for (feed, places) in all.by_feed.iter_mut().enumerate() {
        if towers(feed) {
            for (id, standing) in places.iter_mut() {
                standing.number = numbers.get(id.as_str()).copied().unwrap_or_default();
            }
        }
    }
    Ok(all)
}

/// Reads one file of places; whether its ids are integers.
fn read_file(
    file: &Table,
    config: &TableConfig,
    StayRule { source, hold_ms, .. }: StayRule,
    rule: &Rule,
    places: &mut Places,
    rejections: &mut Vec<Rejection>,
) -> Result<bool> {
    let id_name = if source == Source::Tower { "tower_id" } else { "venue_id" };
    let id_column = file.required(id_name)?;
    let ids = file.texts(id_name, id_column)?;
    let position = |name| {
        let column = if source == Source::Tower { Some(file.required(name)?) } else { file.optional(name)? };
        column.map(|c| file.numbers(name, c)).transpose()
    };
    let (lats, lons) = (position("lat")?, position("lon")?);
    // Whether a tower has to say how far it reaches.
    let uncertain = rule.encounter.place.is_uncertain();
    let range_name = if source == Source::Tower { "range_m" } else { "radius_m" };
    let ranges = match source {
        Source::Tower if uncertain => Some(file.numbers(range_name, file.required(range_name)?)?),
        _ => file.optional(range_name)?.map(|c| file.numbers(range_name, c)).transpose()?,
    };
    let indoors =
        file.optional("indoor")?.filter(|_| uncertain).map(|c| file.flags("indoor", c)).transpose()?;
    let venue = |name| file.optional(name).map(|c| c.filter(|_| source == Source::Venue));
    let by_kind = uncertain || !rule.stay_ms_by_kind.is_empty();
    let kinds = venue("kind")?.filter(|_| by_kind).map(|c| file.texts("kind", c)).transpose()?;
    let stays = venue("stay_s")?.map(|c| file.numbers("stay_s", c)).transpose()?;
    let closings = venue("closes_at")?.map(|c| file.times_of_day("closes_at", c)).transpose()?;
    let datum = match (config.datum, &lats) {
        (Some(datum), _) => datum,
        (None, None) => Datum::Wgs84,
        (None, Some(_)) => {
            return Err(Error::Job(Problem::new(
                format!("{}.datum", config.label),
                "the datum of the venues' coordinates: wgs84, gcj02 or bd09",
                "nothing",
                "add it: a Chinese map's offset moves venues by 100 to 700 m, so there is no default",
            )));
        }
    };
    for row in 0..file.rows() {
        let mut reject = |reason, column| {
            rejections.push(Rejection {
                feed: config.label.clone(),
                file: file.input.name.clone(),
                row: row as u64,
                reason,
                column,
            });
        };
        if ids.is_null(row) || ids.value(row).is_empty() {
            reject(if source == Source::Tower { "tower_id_missing" } else { "venue_id_missing" }, id_name);
            continue;
        }
        let lat = lats.as_ref().and_then(|c| c[row]);
        let lon = lons.as_ref().and_then(|c| c[row]);
        let (lat, lon) = match position_of(lat, lon, datum) {
            Ok(position) => position,
            // A venue without coordinates still meets by its id.
            Err(("lat_missing" | "lon_missing", _)) if source == Source::Venue => (f64::NAN, f64::NAN),
            Err((reason, column)) => {
                reject(reason, column);
                continue;
            }
        };
        let range_m = ranges.as_ref().and_then(|c| c[row]).filter(|m| !m.is_nan());
        match range_m {
            Some(m) if !(0.0..f64::INFINITY).contains(&m) => {
                reject(
                    if source == Source::Tower { "range_m_out_of_range" } else { "radius_m_out_of_range" },
                    range_name,
                );
                continue;
            }
            // A tower of which it is not known how far it reaches may be anywhere.
            None if uncertain && source == Source::Tower => {
                reject("range_m_missing", range_name);
                continue;
            }
            _ => {}
        }
        let kind = kinds.as_ref().filter(|c| !c.is_null(row)).map(|c| c.value(row));
        let indoor = indoors.as_ref().and_then(|c| c[row]);
        let weight = rule.exposure.setting_weights.of(kind, indoor);
        let stay_ms = match stays.as_ref().and_then(|c| c[row]).map(seconds_to_millis) {
            Some(None) => {
                reject("stay_s_out_of_range", "stay_s");
                continue;
            }
            Some(stay_ms) => stay_ms,
            None => kind.and_then(|kind| rule.stay_ms_by_kind.get(kind)).copied(),
        };
        let Ok(closes) = closings.as_ref().map_or(Ok(None), |c| c[row]) else {
            reject("closes_at_unreadable", "closes_at");
            continue;
        };
        let lasts = match (stay_ms, closes) {
            (None, None) => None,
            // Who forgot to check out is gone by midnight.
            (stay_ms, closes) => Some((stay_ms.unwrap_or(hold_ms), closes.unwrap_or(DAY_MS as u32))),
        };
        let range_m = range_m.unwrap_or(f64::NAN);
        let standing = Standing { number: 0, lat, lon, range_m, weight, lasts };
        let id = ids.value(row).to_string();
        if let Some(other) = places.get(&id)
            && !other.is_alike(&standing)
        {
            return Err(Error::Input(Problem::new(
                file.place(row),
                format!("one row for each {id_name}"),
                format!("{id_name} {id} again, at another position or with other properties"),
                "keep the row that holds for the whole lookback",
            )));
        }
        places.insert(id, standing);
    }
    Ok(id_column.data_type().is_integer()
        || (file.is_text_file()
            && ids.iter().flatten().all(|id| id.parse::<i64>().is_ok_and(|n| n.to_string() == id))))
}

/// A reported position in WGS84, longitude 180 as -180, or the reason and column why it is none.
#[inline]
pub fn position_of(
    lat: Option<f64>,
    lon: Option<f64>,
    datum: Datum,
) -> std::result::Result<(f64, f64), (&'static str, &'static str)> {
    let lat = lat.ok_or(("lat_missing", "lat"))?;
    let lon = lon.ok_or(("lon_missing", "lon"))?;
    if !(-90.0..=90.0).contains(&lat) {
        return Err(("lat_out_of_range", "lat"));
    }
    if !(-180.0..=180.0).contains(&lon) {
        return Err(("lon_out_of_range", "lon"));
    }
    let (lat, lon) = datum.to_wgs84(lat, lon);
    // Adding zero turns -0 into 0, so that equal positions are equal bits.
    Ok((lat + 0.0, wrap_degrees(lon) + 0.0))
}

/// Numbers for what several threads meet: venues and trips that cases were in, floors, seats. A clone shares them.
#[derive(Debug, Clone)]
pub struct Numbers<T = String> {
    known: Arc<RwLock<Known<T>>>,
}

/// The number of each, and what has each number.
type Known<T> = (HashMap<T, u32>, Vec<T>);

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Numbers { known: Arc::default() }
    }
}

impl<T: Clone + Eq + Hash> Numbers<T> {
    /// The number of an id, if it has one.
    pub fn find<Q: Hash + Equivalent<T> + ?Sized>(&self, id: &Q) -> Option<u32> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).0.get(id).copied()
    }

    /// The number of an id, a new one if it has none.
    pub fn number<Q: Hash + Equivalent<T> + ToOwned<Owned = T> + ?Sized>(&self, id: &Q) -> u32 {
        if let Some(number) = self.find(id) {
            return number;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let next = known.1.len() as u32;
        let number = *known.0.entry(id.to_owned()).or_insert(next);
        if number == next {
            known.1.push(id.to_owned());
        }
        number
    }

    /// All of them, by their number.
    pub fn all(&self) -> Vec<T> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}
