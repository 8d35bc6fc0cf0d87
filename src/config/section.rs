//! One table of a job file: typed access to its keys, and a complaint about those nobody asked for.

use crate::error::{Error, Problem, Result, nearest};
use std::cell::RefCell;
use std::path::Path;
use toml::{Table, Value};

/// A table, where it stands, and which of its keys are known.
pub struct Section<'a> {
    job: &'a Job,
    path: String,
    table: Option<&'a Table>,
    known: RefCell<Vec<&'static str>>,
    refused: RefCell<Vec<&'static str>>,
}

/// The job file as text, for line numbers.
pub struct Job {
    /// Its name as given.
    pub name: String,
    text: String,
    set: Vec<String>,
}

impl Job {
    /// Keeps the text of a job file, and the keys that `--set` changes.
    pub fn new(path: &Path, text: String, set: &[String]) -> Self {
        let keys = set.iter().filter_map(|s| s.split('=').next()).map(|key| key.trim().to_string());
        Job { name: path.display().to_string(), text, set: keys.collect() }
    }

    /// `job.toml, line 12: rule.candidate.direct_s_min`; without the line if the key came from elsewhere.
    pub fn place(&self, section: &str, key: &str) -> String {
        let name = match (section, key) {
            ("", key) => key.to_string(),
            (section, "") => format!("[{section}]"),
            (section, key) => format!("{section}.{key}"),
        };
        if self.set.contains(&name) {
            return format!("--set {name}");
        }
        match self.line_of(section, key) {
            Some(line) => format!("{}, line {line}: {name}", self.name),
            None => format!("{}: {name}", self.name),
        }
    }

    fn line_of(&self, section: &str, key: &str) -> Option<usize> {
        let mut here = String::new();
        let mut feeds = 0;
        for (number, line) in self.text.lines().enumerate() {
            let line = line.trim();
            if let Some(header) = line.strip_prefix('[') {
                let header = header.trim_start_matches('[').split(']').next().unwrap_or_default().trim();
                here = header.to_string();
                if header == "feeds" {
                    here = format!("feeds[{feeds}]");
                    feeds += 1;
                }
                if (key.is_empty() && here == section) || (section.is_empty() && here == key) {
                    return Some(number + 1);
                }
                continue;
            }
            let starts =
                |key: &str| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='));
            // A table written inline stands on the line of its own key.
            let inline = section.strip_prefix(&format!("{here}.")).is_some_and(starts);
            if !key.is_empty() && ((here == section && starts(key)) || inline) {
                return Some(number + 1);
            }
        }
        None
    }
}

/// Whether two values are the same, 2 and 2.0 being one number.
pub fn same_value(a: &Value, b: &Value) -> bool {
    let number = |v: &Value| v.as_float().or(v.as_integer().map(|i| i as f64));
    a == b || (number(a).is_some() && number(a) == number(b))
}

impl<'a> Section<'a> {
    /// The table at `path` ("" is the file itself); a missing table has no keys.
    pub fn new(job: &'a Job, path: impl Into<String>, table: Option<&'a Table>) -> Self {
        Section { job, path: path.into(), table, known: RefCell::default(), refused: RefCell::default() }
    }

    /// A table inside this one.
    pub fn section(&self, key: &'static str) -> Result<Section<'a>> {
        let path = if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) };
        let table = match self.get(key) {
            None => None,
            Some(Value::Table(table)) => Some(table),
            Some(other) => return Err(self.wrong(key, "a table", other)),
        };
        Ok(Section::new(self.job, path, table))
    }

    /// Whether the job file has this table.
    pub fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// Its keys.
    pub fn keys(&self) -> impl Iterator<Item = &'a String> {
        self.table.into_iter().flat_map(|t| t.keys())
    }

    /// The raw value of a key, which thereby is known.
    pub fn get(&self, key: &'static str) -> Option<&'a Value> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        self.table?.get(key)
    }

    /// Where a key stands.
    pub fn place(&self, key: &str) -> String {
        self.job.place(&self.path, key)
    }

    /// An error at a key.
    pub fn problem(
        &self,
        key: &str,
        expected: impl Into<String>,
        found: impl Into<String>,
        cure: impl Into<String>,
    ) -> Error {
        Error::Job(Problem::new(self.place(key), expected, found, cure))
    }

    fn wrong(&self, key: &str, expected: &str, found: &Value) -> Error {
        self.problem(key, expected, format!("{} {found}", found.type_str()), format!("write {expected}"))
    }

    /// A text.
    pub fn text(&self, key: &'static str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, "a text in quotes", other)),
        }
    }

    /// A text that has to be there and not be empty.
    pub fn required(&self, key: &'static str, what: &str) -> Result<&'a str> {
        match self.text(key)? {
            Some(text) if !text.trim().is_empty() => Ok(text),
            found => Err(self.problem(
                key,
                what,
                if found.is_some() { "an empty text" } else { "nothing" },
                match nearest(key, self.keys().map(String::as_str)).filter(|near| *near != key) {
                    Some(near) => format!("write {key} for {near}"),
                    None => format!("add {key} = \"...\" to [{}]", self.path),
                },
            )),
        }
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Result<Option<T>> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        match choices.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(Some(*value)),
            None => {
                let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
                let hint = nearest(text, words.iter().copied()).map_or_else(
                    || "write one of these".to_string(),
                    |word| format!("did you mean \"{word}\"?"),
                );
                Err(self.problem(key, format!("one of {}", words.join(", ")), format!("\"{text}\""), hint))
            }
        }
    }

    /// A truth value.
    pub fn boolean(&self, key: &'static str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Boolean(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong(key, "true or false", other)),
        }
    }

    /// A number of `unit` from 0 up.
    pub fn number(&self, key: &'static str, unit: &str) -> Result<Option<f64>> {
        let value = match self.get(key) {
            None => return Ok(None),
            Some(Value::Integer(value)) => *value as f64,
            Some(Value::Float(value)) => *value,
            Some(other) => return Err(self.wrong(key, &format!("a number of {unit}"), other)),
        };
        // Beyond 10^12 of any unit that the job file knows, a number is a slip of the hand.
        if !(0.0..=1e12).contains(&value) {
            return Err(self.problem(
                key,
                format!("a number of {unit}, 0 or more"),
                format!("{value}"),
                "mend the sign or the unit",
            ));
        }
        Ok(Some(value))
    }

    /// Refuses keys of the design that this version cannot honour, unless they say "off".
    pub fn refuse(&self, key: &'static str, off: Option<Value>) -> Result<()> {
        self.refused.borrow_mut().push(key);
        match self.raw(key) {
            Some(found) if !off.is_some_and(|off| same_value(found, &off)) => Err(self.problem(
                key,
                "a key that this version can honour",
                found.to_string(),
                format!("remove {key}: copresence {} does not know it yet", env!("CARGO_PKG_VERSION")),
            )),
            _ => Ok(()),
        }
    }

    /// Another table of the same file, at `path`.
    pub fn sibling<'b>(&self, path: &str, table: Option<&'b Table>) -> Section<'b>
    where
        'a: 'b,
    {
        Section::new(self.job, path, table)
    }

    /// A value by any key; it stays unknown.
    pub fn raw(&self, key: &str) -> Option<&'a Value> {
        self.table?.get(key)
    }

    /// Where it stands in the file, as keys.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Stops at a key that nobody asked for.
    pub fn check(&self) -> Result<()> {
        let known = self.known.borrow();
        for key in self.keys() {
            if !known.contains(&key.as_str()) && !self.refused.borrow().contains(&key.as_str()) {
                let cure = match nearest(key, known.iter().copied()) {
                    Some(word) => format!("did you mean {word}?"),
                    None => "remove it".to_string(),
                };
                return Err(self.problem(
                    key,
                    format!("one of {}", known.join(", ")),
                    format!("unknown key {key}"),
                    cure,
                ));
            }
        }
        Ok(())
    }
}
