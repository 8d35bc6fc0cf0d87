//! The cases table: from rows to cases with an infectious range, or to a complaint that names the row.

use super::columns::{NoTime, Role, wrong_type};
use super::files::Input;
use super::table::{self, Table};
use crate::answer::Rejection;
use crate::case::{Case, Course, NoRange};
use crate::config::Config;
use crate::error::{Error, Problem, Result};
use crate::person::{PersonId, PersonKind, PersonType, Persons};
use crate::time::{Edge, Millis, utc_text};
use arrow::array::{Array, AsArray};
use hashbrown::HashMap;

/// What the cases table gives.
#[derive(Debug, Default)]
pub struct Cases {
    /// In the order of their ids.
    pub cases: Vec<Case>,
    /// The files.
    pub inputs: Vec<Input>,
    /// Faulty rows, where the job says `on_error = "reject"`.
    pub rejections: Vec<Rejection>,
}

impl Cases {
    /// Lets nobody be met but this case; the persons of the others are cases all the same.
    pub fn keep_only(&mut self, case_id: &str) -> Result<()> {
        if !self.cases.iter().any(|case| case.case_id == case_id) {
            return Err(Error::Job(Problem::new(
                "CASE_ID",
                format!("one of the {} cases of the job's list", self.cases.len()),
                "another word",
                "write case_id as it stands there; who is no case cannot be asked about",
            )));
        }
        let others = self.cases.iter_mut().filter(|case| case.case_id != case_id);
        others.for_each(|case| case.infectious_to = case.infectious_from);
        Ok(())
    }
}

/// A fault of one row.
struct Fault {
    reason: &'static str,
    column: &'static str,
    expected: &'static str,
    found: String,
    cure: &'static str,
}

/// Reads the cases. Their persons are of `person`, the type of the feeds.
pub fn read(config: &Config, person: PersonType) -> Result<Cases> {
    let mut all = Cases::default();
    let mut rows: Vec<(Case, String, Input, u64)> = Vec::new();
    let Some(table) = &config.cases else { return Ok(all) };
    for file in table::read(&config.base, &table.path, "cases", &table.columns)? {
        read_file(&file, (config, table.reject), person, &mut rows, &mut all.rejections)?;
        all.inputs.push(file.input);
    }
    refuse_duplicates(&mut rows, table.reject, &mut all.rejections)?;
    all.cases = rows.into_iter().map(|(case, ..)| case).collect();
    all.cases.sort_by(|a, b| a.case_id.cmp(&b.case_id));
    all.rejections.sort();
    Ok(all)
}

fn read_file(
    file: &Table,
    (config, reject): (&Config, bool),
    person: PersonType,
    rows: &mut Vec<(Case, String, Input, u64)>,
    rejections: &mut Vec<Rejection>,
) -> Result<()> {
    let persons = persons(file, person)?;
    let text = |name| file.texts(name, file.required(name)?);
    let (case_ids, reports, authorities) = (text("case_id")?, text("report_id")?, text("authority")?);
    let zone = config.time_zone;
    let start = |name| file.times(name, Edge::Start, zone);
    let end = |name| file.times(name, Edge::End, zone);
    let times: [(&'static str, Vec<std::result::Result<Millis, NoTime>>); 6] = [
        ("onset_at", start("onset_at")?),
        ("sampled_at", start("sampled_at")?),
        ("confirmed_at", end("confirmed_at")?),
        ("isolated_at", end("isolated_at")?),
        ("infectious_from", start("infectious_from")?),
        ("infectious_to", end("infectious_to")?),
    ];
    for row in 0..file.rows() {
        let filled = |column: &arrow::array::StringArray| {
            (!column.is_null(row))
                .then(|| column.value(row).trim())
                .filter(|t| !t.is_empty())
                .map(str::to_string)
        };
        let case_id = filled(&case_ids);
        let read = || -> std::result::Result<Case, Fault> {
            let case_id = case_id.clone().ok_or_else(|| absent("case_id", "case_id_missing"))?;
            let person = match &persons[row] {
                Ok(person) => person.clone(),
                Err(NoPerson::Missing) => return Err(absent("person_id", "person_id_missing")),
                Err(NoPerson::Unreadable) => return Err(no_person()),
            };
            filled(&reports).ok_or_else(|| absent("report_id", "report_id_missing"))?;
            filled(&authorities).ok_or_else(|| absent("authority", "authority_missing"))?;
            let mut instants = [None; 6];
            for (instant, (column, values)) in instants.iter_mut().zip(&times) {
                *instant = match values[row] {
                    Ok(at) => Some(at),
                    Err(NoTime::Missing) => None,
                    Err(why) => return Err(unreadable(column, why)),
                };
            }
            let [onset_at, sampled_at, confirmed_at, isolated_at, infectious_from, infectious_to] = instants;
            let course =
                Course { onset_at, sampled_at, confirmed_at, isolated_at, infectious_from, infectious_to };
            let (infectious_from, infectious_to) = course.infectious_range(config.as_of).map_err(no_range)?;
            Ok(Case { case_id, person, infectious_from, infectious_to, onset_at })
        };
        match read() {
            Ok(case) => rows.push((case, file.place(row), file.input.clone(), row as u64)),
            Err(fault) if reject => {
                rejections.push(rejection(&file.input, row as u64, fault.reason, fault.column));
            }
            Err(fault) => {
                let name = case_id.map_or(String::new(), |id| format!(" (case {id})"));
                return Err(Error::Input(Problem::new(
                    format!("{}{name}, column {}", file.place(row), fault.column),
                    fault.expected,
                    fault.found,
                    format!("{}; or set on_error = \"reject\" in [cases] to go on without it", fault.cure),
                )));
            }
        }
    }
    Ok(())
}

fn rejection(input: &Input, row: u64, reason: &'static str, column: &'static str) -> Rejection {
    Rejection { feed: "cases".into(), file: input.name.clone(), row, reason, column }
}

fn absent(column: &'static str, reason: &'static str) -> Fault {
    Fault {
        reason,
        column,
        expected: match column {
            "report_id" => "the report that confirms the case: without one it is no case",
            "authority" => "the authority that answers for the report",
            "person_id" => "the person whose pings are the case's",
            _ => "an id of its own",
        },
        found: "nothing".into(),
        cure: "fill it in",
    }
}

fn unreadable(column: &'static str, why: NoTime) -> Fault {
    let (reason, found) = match why {
        NoTime::NotInZone => ("time_not_in_zone", "a time that the zone's clock skips"),
        NoTime::Missing | NoTime::Unreadable => ("time_unreadable", "something that is no time"),
    };
    Fault {
        reason,
        column,
        expected: "a day such as 2022-03-21, or a time such as 2022-03-21T10:00:00+08:00",
        found: found.into(),
        cure: "mend the time",
    }
}

fn no_range(why: NoRange) -> Fault {
    match why {
        NoRange::StartMissing => Fault {
            reason: "infectious_from_missing",
            column: "infectious_from",
            expected: "infectious_from, onset_at or sampled_at, to know when the case began to infect",
            found: "none of them".into(),
            cure: "fill one in",
        },
        NoRange::UpsideDown { from, to } => Fault {
            reason: "infectious_range_upside_down",
            column: "infectious_to",
            expected: "an infectious range that ends after it starts",
            found: format!("{} to {}", utc_text(from), utc_text(to)),
            cure: "mend the dates, and check the time zone and the unit",
        },
    }
}

/// Why a cell is no person.
#[derive(Clone, Copy)]
pub(super) enum NoPerson {
    Missing,
    Unreadable,
}

fn no_person() -> Fault {
    Fault {
        reason: "person_id_unreadable",
        column: "person_id",
        expected: "a person_id of the feeds' own type: a number in their range, or bytes in hexadecimal",
        found: "something else".into(),
        cure: "write it as the feeds do",
    }
}

/// The persons of a cases file, in the feeds' own type.
pub(super) fn persons(
    file: &Table,
    person: PersonType,
) -> Result<Vec<std::result::Result<PersonId, NoPerson>>> {
    let column = file.required("person_id")?;
    if file.is_text_file() {
        let read = |text: Option<&str>| {
            text.map_or(Err(NoPerson::Missing), |t| person.parse(t).ok_or(NoPerson::Unreadable))
        };
        let ids: Vec<_> = column.as_string::<i32>().iter().map(read).collect();
        // Not one that can be read: these are ids of another kind.
        if ids.iter().any(|id| matches!(id, Err(NoPerson::Unreadable))) && !ids.iter().any(|id| id.is_ok()) {
            return Err(other_kind(&file.input.name, person.kind(), "text"));
        }
        return Ok(ids);
    }
    let name = &file.input.name;
    if column.data_type().is_null() {
        return Ok(vec![Err(NoPerson::Missing); file.rows()]);
    }
    let expected = Role::Person.accepts(column.data_type()).err().unwrap_or("an id");
    let kind = PersonType::of(column.data_type())
        .ok_or_else(|| wrong_type(name, "person_id", expected, column.data_type()))?;
    if kind.kind() != person.kind() {
        return Err(other_kind(name, person.kind(), &format!("{} ({})", kind.kind(), column.data_type())));
    }
    let inner =
        person.adopt(column).map_err(|_| wrong_type(name, "person_id", expected, column.data_type()))?;
    let ids = Persons::of(&inner);
    let read = |row: usize| match (inner.is_null(row), column.is_null(row)) {
        (false, _) => Ok(ids.at(row).to_id()),
        (true, false) if person.kind() == PersonKind::Integer => Err(NoPerson::Unreadable),
        (true, _) => Err(NoPerson::Missing),
    };
    Ok((0..ids.len()).map(read).collect())
}

fn other_kind(place: &str, feeds: PersonKind, found: &str) -> Error {
    Error::Input(Problem::new(
        format!("{place}, column person_id"),
        format!("{feeds} as in the first feed: all feeds and cases of a job share one kind of person_id"),
        found.to_string(),
        "write person_id in one type everywhere; as text 7 and 07 are two people, as numbers one",
    ))
}

fn refuse_duplicates(
    rows: &mut Vec<(Case, String, Input, u64)>,
    reject: bool,
    rejections: &mut Vec<Rejection>,
) -> Result<()> {
    let mut count: HashMap<String, usize> = HashMap::new();
    for (case, ..) in rows.iter() {
        *count.entry(case.case_id.clone()).or_default() += 1;
    }
    let twice = |case: &Case| count.get(&case.case_id).is_some_and(|n| *n > 1);
    if reject {
        // Which of them is meant cannot be told, so none counts.
        for (_, _, input, row) in rows.iter().filter(|(case, ..)| twice(case)) {
            rejections.push(rejection(input, *row, "case_id_duplicate", "case_id"));
        }
        rows.retain(|(case, ..)| !twice(case));
        return Ok(());
    }
    let Some((case, first, ..)) = rows.iter().find(|(case, ..)| twice(case)) else { return Ok(()) };
    let second = rows
        .iter()
        .filter(|(other, ..)| other.case_id == case.case_id)
        .nth(1)
        .map_or("", |(_, place, ..)| place);
    Err(Error::Input(Problem::new(
        format!("{second}, column case_id"),
        "case_ids that differ",
        format!("case {} again, after {first}", case.case_id),
        "give each case an id of its own, or remove the copy; or set on_error = \"reject\" in [cases] to go on without both",
    )))
}
