//! A city, written: its districts side by side, each day by day to files of its own, and the truth in the order of districts.

use super::watch::{Stage, Watch};
use crate::city::City;
use crate::error::Result;
use crate::io::city::{self, Names, TruthFiles};
use crate::io::output::Staging;
use crate::rule::Source;
use rayon::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Districts that are done, and wait for those before them.
struct Waiting<'a, 'c> {
    next: u64,
    done: BTreeMap<u64, (crate::city::District<'c>, Names)>,
    files: TruthFiles<'a>,
}

/// Writes all files of a city; the bytes of its feeds, and what it comes to.
pub fn write(city: &City, staging: &Staging, threads: usize, watch: &Watch) -> Result<(u64, Value)> {
    let recipe = city.recipe();
    watch.start(Stage::Write, recipe.persons * recipe.days);
    city::begin(staging, recipe)?;
    city::write_tables(staging, city)?;
    let files = TruthFiles::new(staging, city)?;
    let waiting = Mutex::new(Waiting { next: 0, done: BTreeMap::new(), files });
    let next = AtomicU64::new(0);
    let sends = |source: Source| recipe.sources.contains(&source);
    let bytes = super::pool(threads)?.install(|| {
        // Each thread takes the first district that nobody has, so that few wait.
        (0..threads)
            .into_par_iter()
            .with_max_len(1)
            .map(|_| {
                let mut bytes = 0;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= city.map.districts() {
                        return Ok(bytes);
                    }
                    let mut district = city.district(number);
                    let names = Names::new(city, &district);
                    for day in 0..recipe.days {
                        district.live(day);
                        let signals = &district.signals;
                        if sends(Source::Gps) {
                            bytes +=
                                city::write_pings(staging, city, &names, (day, number), &signals.pings.now)?;
                        }
                        if sends(Source::Tower) {
                            bytes += city::write_signals(
                                staging,
                                city,
                                &names,
                                (day, number),
                                &signals.signals.now,
                            )?;
                        }
                        watch.advance(district.people.len() as u64)?;
                    }
                    district.finish();
                    if sends(Source::Venue) {
                        bytes += city::write_scans(staging, city, &names, number, &district.signals.scans)?;
                    }
                    if sends(Source::Trip) {
                        bytes += city::write_trips(staging, city, &names, number, &district.signals.trips)?;
                    }
                    district.signals.forget_days();
                    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    waiting.done.insert(number, (district, names));
                    let Waiting { next, done, files } = &mut *waiting;
                    while let Some((district, names)) = done.remove(next) {
                        files.add(&district, &names)?;
                        *next += 1;
                    }
                }
            })
            .try_reduce(|| 0, |a, b| Ok(a + b))
    })?;
    let files = waiting.into_inner().unwrap_or_else(PoisonError::into_inner).files;
    Ok((bytes, files.close()?))
}
