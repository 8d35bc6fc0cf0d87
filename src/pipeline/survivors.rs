//! Persons whose answer hangs on pings that no case was near: who met a case by a scan has it held against their own
//! positions, and of others it has to be known how long they dwell anywhere. Their stays wait, all their pings are read once
//! more, and what is left of their stays is resolved.

use super::lane::Lane;
use super::order::Unit;
use super::parts::{Dealing, Gathering, Parts, Room};
use super::resolving::resolve_part;
use super::tables::Tables;
use super::watch::Stage;
use super::{Job, too_large, unordered};
use crate::answer::Rejection;
use crate::contradiction::Scan;
use crate::error::Result;
use crate::person::{PersonId, PersonSet, Persons};
use crate::ping::{Pings, group_by_person};
use crate::resident::Dwell;
use crate::resolve::{Dwells, Setting};
use crate::rule::{ResidentScope, Source};
use crate::stay::{Stay, Stays};
use crate::track::{TrackRule, whole_track};
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use hashbrown::{HashMap, HashSet};
use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};

/// Why a scan is in the rejections.
const CONTRADICTED: &str = "contradicted";

/// Those who wait, and their stays.
#[derive(Debug)]
pub struct Survivors<'r> {
    room: &'r Room,
    stays: Parts<'r>,
    persons: Mutex<PersonSet>,
    /// Those of them who met a case by a scan.
    scanners: Mutex<PersonSet>,
}

impl<'r> Survivors<'r> {
    /// Nobody yet.
    pub fn new(room: &'r Room, parts: usize) -> Self {
        Survivors {
            room,
            stays: Parts::new(room, parts),
            persons: Mutex::default(),
            scanners: Mutex::default(),
        }
    }

    /// Adds stays of a part, and who of it met a case by a scan.
    pub fn add(&self, part: usize, stays: RecordBatch, scanners: Vec<PersonId>) -> Result<()> {
        let persons = Stays::of(&stays).persons;
        let whose = persons.groups().into_iter().map(|group| persons.at(group.start).to_id());
        self.persons.lock().unwrap_or_else(PoisonError::into_inner).extend(whose);
        self.scanners.lock().unwrap_or_else(PoisonError::into_inner).extend(scanners);
        self.stays.push(part, stays)
    }
}

/// The contradicted scans of each person who has any.
type Contradicted = HashMap<PersonId, HashSet<Scan>>;

/// Holds the scans of those who wait, and of cases, against their positions, resolves what is left, and adds the rows of
/// contradicted scans to the rejections. Gives how many scans these are.
pub fn check(
    job: &Job<'_>,
    lanes: &[Lane<'_>],
    setting: &Setting<'_>,
    tables: &Tables,
    survivors: Survivors<'_>,
    mut rejections: Vec<Rejection>,
) -> Result<(u64, Vec<Rejection>)> {
    let Survivors { room, stays, persons, scanners } = survivors;
    let mut persons = persons.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut scanners = scanners.into_inner().unwrap_or_else(PoisonError::into_inner);
    if persons.is_empty() && !setting.index.contradicted {
        return Ok((0, rejections));
    }
    if setting.index.contradicted {
        persons.extend(job.case_persons.set().iter().cloned());
        scanners.extend(job.case_persons.set().iter().cloned());
    }
    let units = |scans: bool| {
        let wanted = move |lane: &&Lane<'_>| !scans || lane.source == Source::Venue;
        lanes.iter().filter(wanted).flat_map(|lane| &lane.units).cloned().collect::<Vec<_>>()
    };
    job.watch.start(Stage::Resolve, units(false).iter().map(|unit| unit.count).sum());
    // Where nothing but squares matters, who was elsewhere need not be followed.
    let scope = job.resident().map(|resident| resident.scope);
    let places = (scope == Some(ResidentScope::Place) && job.contradiction().is_none())
        .then(|| setting.index.places_sieve((job.decoder.from, job.config.as_of), &job.feeds));
    // By lane: what is followed already, and pings that are not.
    let mut found: Vec<(Source, Parts<'_>, Parts<'_>)> = Vec::new();
    for lane in lanes {
        let (stays, pings) = match &places {
            Some(places) => lane.stays_in(job, places, &persons, room)?,
            None => {
                let pings = Parts::new(room, job.parts);
                let gathering = Gathering::new(&pings, &job.decoder.schema);
                lane.gather_persons(job, &persons, &gathering)?;
                gathering.finish()?;
                (Parts::new(room, job.parts), pings)
            }
        };
        found.push((lane.source, stays, pings));
    }
    let by_part: Vec<Contradicted> = (0..job.parts)
        .into_par_iter()
        .map(|part| {
            let (mut followed, mut pings) = (Vec::new(), Vec::new());
            for (source, stays, own) in &found {
                followed.extend(stays.take(part)?);
                match &places {
                    Some(places) => {
                        let own = own.take(part)?;
                        followed.extend(unordered::stays_of(job, *source, places, own, &mut (0, 0))?);
                    }
                    None => pings.extend(own.take(part)?),
                }
            }
            let (contradicted, dwells) = match &places {
                Some(_) => (Contradicted::new(), dwells_of(job, followed, &persons)?),
                None => look_at(job, pings)?,
            };
            let kept =
                stays.take(part)?.iter().map(|batch| without(batch, &contradicted)).collect::<Result<_>>()?;
            let setting = Setting { holds_scanners: false, dwells: Dwells::Known(&dwells), ..*setting };
            // Nobody waits any more.
            resolve_part(kept, part, job, &setting, tables, &Survivors::new(room, job.parts))?;
            Ok(contradicted)
        })
        .collect::<Result<_>>()?;
    // Of others a scan says nothing, whether or not they were there.
    let of_scanners = by_part.into_iter().flatten().filter(|(person, _)| scanners.contains(person));
    let contradicted: Contradicted = of_scanners.collect();
    let found: Vec<Vec<Rejection>> = units(true)
        .par_iter()
        .map(|unit| {
            let mut found = Vec::new();
            job.read(unit, None, None, &mut |decoded| {
                let view = Pings::of(&decoded.pings);
                for (row, number) in decoded.scan_rows.iter().enumerate() {
                    let scans = contradicted.get(&view.persons.at(row));
                    if scans.is_some_and(|scans| scans.contains(&(view.times[row], view.place(row)))) {
                        let from = decoded.scan_inputs.get(row).copied();
                        found.push(rejection(job, unit.feed, unit.file, from, *number));
                    }
                }
                Ok(())
            })?;
            Ok(found)
        })
        .collect::<Result<_>>()?;
    rejections.extend(found.into_iter().flatten());
    rejections.sort();
    Ok((contradicted.values().map(|scans| scans.len() as u64).sum(), rejections))
}

fn rejection(job: &Job<'_>, feed: usize, file: usize, from: Option<u32>, row: u64) -> Rejection {
    let open = &job.inputs.feeds[feed];
    let name = from.and_then(|number| job.inputs.stored_names.get(&number));
    let file = name.unwrap_or(&open.files[file].input.name).clone();
    Rejection { feed: open.config.label.clone(), file, row, reason: CONTRADICTED, column: "venue_id" }
}

/// The rows of some persons.
fn rows_of(column: &Persons<'_>, persons: &PersonSet, rows: &mut Vec<u32>) {
    rows.clear();
    rows.extend((0..column.len() as u32).filter(|row| persons.contains(&column.at(*row as usize))));
}

/// How long those persons of a part who wait dwell where these stays are.
fn dwells_of(
    job: &Job<'_>,
    stays: Vec<RecordBatch>,
    persons: &PersonSet,
) -> Result<HashMap<PersonId, Dwell>> {
    let grouped = job.packing.grouped(stays).map_err(too_large)?;
    let view = Stays::of(&grouped);
    let mut dwells = HashMap::new();
    for rows in view.persons.groups() {
        let person = view.persons.at(rows.start);
        if persons.contains(&person) {
            let own: Vec<Stay> = rows.map(|row| view.at(row)).collect();
            dwells.insert(person.to_id(), Dwell::new(&own, &job.rule().place, None));
        }
    }
    Ok(dwells)
}

/// Gathers all pings of these persons.
pub fn gather(
    job: &Job<'_>,
    units: &[Unit],
    persons: &PersonSet,
    gathering: &Gathering<'_, '_>,
) -> Result<()> {
    units.par_iter().try_for_each(|unit| {
        let (mut spreads, mut rows, mut room) = (Vec::new(), Vec::new(), Dealing::default());
        job.read(unit, None, None, &mut |decoded| {
            let view = Pings::of(&decoded.pings);
            view.persons.spreads(&mut spreads);
            rows_of(&view.persons, persons, &mut rows);
            gathering.add(&decoded.pings, &spreads, Some(&rows), &mut room)
        })
    })
}

/// The contradicted scans of a part's persons, and how long they dwell anywhere, if that counts.
fn look_at(job: &Job<'_>, batches: Vec<RecordBatch>) -> Result<(Contradicted, HashMap<PersonId, Dwell>)> {
    let (feeds, place) = (&job.feeds, &job.rule().place);
    let uncertainty = Some(&job.inputs.uncertainty);
    let rule_of =
        |source| TrackRule::new(source, feeds, place, job.config.as_of, false).with_uncertainty(uncertainty);
    let mut rules = Source::ALL.map(rule_of);
    let joined = concat_batches(&job.decoder.schema, &batches).map_err(too_large)?;
    drop(batches);
    let times = Pings::of(&joined).times;
    let grouped = group_by_person(&joined, |row| times[row]).map_err(too_large)?;
    let view = Pings::of(&grouped);
    let (mut contradicted, mut dwells) = (Contradicted::new(), HashMap::new());
    for group in view.groups() {
        let person = view.persons.at(group.start);
        let scans: HashSet<Scan> = job.contradiction().map_or_else(HashSet::new, |contradiction| {
            contradiction.scans(&view, group.clone(), feeds, &mut rules).into_iter().collect()
        });
        if job.resident().is_some() {
            let mut dwelt: Vec<Stay> = Vec::new();
            for rule in &mut rules {
                let is_scan = rule.source == Source::Venue;
                let stays = whole_track(&view, group.clone(), feeds, rule);
                let kept = stays.iter().filter(|s| !is_scan || !scans.contains(&(s.start, s.place)));
                dwelt.extend(kept);
            }
            dwells.insert(person.to_id(), Dwell::new(&dwelt, place, job.inputs.home.as_ref()));
        }
        if !scans.is_empty() {
            contradicted.insert(person.to_id(), scans);
        }
    }
    Ok((contradicted, dwells))
}

/// Stays but for those of contradicted scans.
fn without(batch: &RecordBatch, contradicted: &Contradicted) -> Result<RecordBatch> {
    let view = Stays::of(batch);
    let kept = (0..batch.num_rows()).map(|row| {
        let stay = view.at(row);
        let scans = contradicted.get(&view.persons.at(row)).filter(|_| stay.source == Source::Venue);
        !scans.is_some_and(|scans| scans.contains(&(stay.start, stay.place)))
    });
    filter_record_batch(batch, &kept.map(Some).collect::<BooleanArray>()).map_err(too_large)
}
