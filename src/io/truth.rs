//! The tables of truth that rules are judged by.

use super::cases::{Cases, NoPerson, persons};
use super::files::Input;
use super::table::{self, Table};
use crate::config::{Config, TruthConfig};
use crate::error::{Error, Problem, Result};
use crate::person::{PersonId, PersonType};
use crate::time::{Edge, Millis};
use crate::truth::{Contact, Meeting, Truth};
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The files of a folder of truth, the first of which has to be there.
const FILES: [&str; 3] = ["contacts.parquet", "infections.parquet", "meetings.parquet"];

/// Reads what is true of the job's cases.
pub fn read(
    config: &Config,
    truth: &TruthConfig,
    cases: &Cases,
    person: PersonType,
) -> Result<(Truth, Vec<Input>)> {
    let [contacts, infections, meetings] = files(&truth.path);
    let numbers: HashMap<&str, u32> = cases.cases.iter().map(|case| case.case_id.as_str()).zip(0..).collect();
    let ill: HashSet<&PersonId> = cases.cases.iter().map(|case| &case.person).collect();
    let mut read = Truth { cases: cases.cases.len(), ..Truth::default() };
    let mut inputs = Vec::new();
    let mut sums: HashMap<(PersonId, u32), (f64, Option<bool>)> = HashMap::new();
    for file in open(contacts.as_ref())? {
        let (pairs, seconds) = (pairs(&file, &numbers, person)?, numbers_of(&file, &truth.column)?);
        let phones = file.optional("has_phone")?.map(|column| file.flags("has_phone", column)).transpose()?;
        for (row, pair) in pairs.into_iter().enumerate() {
            if let Some(pair) = pair.filter(|(person, _)| !ill.contains(person)) {
                let (sum, has_phone) = sums.entry(pair).or_insert((0.0, None));
                *sum += seconds[row];
                *has_phone = phones.as_ref().and_then(|phones| phones[row]).or(*has_phone);
            }
        }
        inputs.push(file.input);
    }
    let mut longest: HashMap<PersonId, f64> = HashMap::new();
    for ((person, case), (seconds, has_phone)) in sums {
        if seconds < truth.seconds_min {
            continue;
        }
        let most = longest.entry(person.clone()).or_insert(f64::NEG_INFINITY);
        let contact = read.contacts.entry(person).or_insert(Contact { case, has_phone });
        if seconds > *most || (seconds == *most && case < contact.case) {
            *most = seconds;
            *contact = Contact { case, has_phone };
        }
    }
    read.tells_infections = infections.is_some();
    for file in open(infections.as_ref())? {
        for (person, case) in pairs(&file, &numbers, person)?.into_iter().flatten() {
            if !ill.contains(&person) {
                read.infected.entry(person).or_default().push(case);
            }
        }
        inputs.push(file.input);
    }
    // They only tell how probabilities come true.
    let uncertain = config.rule.encounter.place.is_uncertain();
    for file in open(meetings.as_ref().filter(|_| uncertain))? {
        let within = numbers_of(&file, "within_m")?;
        let (starts, ends) = (instants(&file, "start", config)?, instants(&file, "end", config)?);
        for (row, pair) in pairs(&file, &numbers, person)?.into_iter().enumerate() {
            let Some((person, case)) = pair else { continue };
            read.distances_m.insert(within[row].to_bits());
            let meeting = Meeting { case, within_m: within[row], start: starts[row], end: ends[row] };
            read.meetings.entry(person).or_default().push(meeting);
        }
        inputs.push(file.input);
    }
    for own in read.meetings.values_mut() {
        own.sort_unstable_by(|a, b| {
            a.case.cmp(&b.case).then(a.within_m.total_cmp(&b.within_m)).then(a.start.cmp(&b.start))
        });
    }
    Ok((read, inputs))
}

/// Contacts, and infections and meetings where they stand beside them.
fn files(path: &Path) -> [Option<PathBuf>; 3] {
    // A city's folder may be named as well as its truth.
    for folder in [path.to_path_buf(), path.join("truth")] {
        if folder.join(FILES[0]).is_file() {
            return FILES.map(|name| Some(folder.join(name)).filter(|path| path.is_file()));
        }
    }
    [Some(path.to_path_buf()), None, None]
}

fn open(path: Option<&PathBuf>) -> Result<Vec<Table>> {
    let Some(path) = path else { return Ok(Vec::new()) };
    table::read(Path::new(""), &path.to_string_lossy(), "--truth", &BTreeMap::new())
}

/// The persons of a table's rows with the numbers of their cases; nothing where the job does not know the case.
fn pairs(
    file: &Table,
    cases: &HashMap<&str, u32>,
    person: PersonType,
) -> Result<Vec<Option<(PersonId, u32)>>> {
    let ids = file.texts("case_id", file.required("case_id")?)?;
    let mut pairs = Vec::with_capacity(file.rows());
    for ((row, person), id) in persons(file, person)?.into_iter().enumerate().zip(&ids) {
        let case = id.and_then(|id| cases.get(id.trim()));
        let person = person.map_err(|why| {
            let found = match why {
                NoPerson::Missing => "nothing",
                NoPerson::Unreadable => "something else",
            };
            let place = format!("{}, column person_id", file.place(row));
            Error::Input(Problem::new(place, "a person_id of the feeds' own type", found, "mend the row"))
        })?;
        pairs.push(case.map(|case| (person, *case)));
    }
    Ok(pairs)
}

/// A column of numbers; what is missing counts as 0.
fn numbers_of(file: &Table, name: &str) -> Result<Vec<f64>> {
    let values = file.numbers(name, file.required(name)?)?;
    if let Some(row) = values.iter().position(|value| value.is_some_and(f64::is_nan)) {
        let place = format!("{}, column {name}", file.place(row));
        return Err(Error::Input(Problem::new(place, "a number", "something else", "mend the row")));
    }
    Ok(values.into_iter().map(|value| value.unwrap_or(0.0)).collect())
}

fn instants(file: &Table, name: &str, config: &Config) -> Result<Vec<Millis>> {
    file.required(name)?;
    let times = file.times(name, Edge::Start, config.time_zone)?;
    let known = |(row, time): (usize, std::result::Result<Millis, super::columns::NoTime>)| {
        time.map_err(|_| {
            let place = format!("{}, column {name}", file.place(row));
            Error::Input(Problem::new(place, "a time", "something else, or nothing", "mend the row"))
        })
    };
    times.into_iter().enumerate().map(known).collect()
}
