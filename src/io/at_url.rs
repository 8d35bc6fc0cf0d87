//! The objects that a URL names: itself, the Parquet objects below it, or what a glob matches, as [`super::files`] has it of
//! files.

use super::files::{Input, hidden, is_parquet, partitions};
use super::storage::{self, objects};
use crate::error::{Error, Result, nearest};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;

type Problem<'a> = dyn Fn(&str, String, String) -> Error + 'a;

/// The objects of a URL, sorted.
pub fn resolve(url: &str, problem: &Problem<'_>) -> Result<Vec<Input>> {
    let url = url.trim_end_matches('/');
    let failed = |error: std::io::Error| {
        let cure = storage::cure(url, &error).to_string();
        problem("objects of a store that can be read", error.to_string(), cure)
    };
    let (root, key) = parts_of(url);
    let inputs = |listed: Vec<objects::Listed>| listed.into_iter().map(input).collect::<Vec<Input>>();
    if key.iter().any(|part| is_glob(part)) {
        // As of files: what is there under just this name is meant.
        if let Ok(one) = objects::look(Path::new(url)) {
            return Ok(inputs(vec![one]));
        }
        let literal: Vec<&str> = key.iter().copied().take_while(|part| !is_glob(part)).collect();
        let patterns = key.iter().map(|part| Part::new(part)).collect::<std::result::Result<Vec<_>, _>>();
        let patterns = patterns.map_err(|e| problem("a glob", e.to_string(), "mend the pattern".into()))?;
        let below = std::iter::once(root).chain(literal).collect::<Vec<_>>().join("/");
        let mut listed = objects::list(Path::new(&below)).map_err(failed)?;
        listed.retain(|listed| matches(&patterns, &parts_of(&listed.path.to_string_lossy()).1));
        if listed.is_empty() {
            return Err(problem(
                "a glob that matches at least one object",
                "no match (names that start with _ or . do not count)".into(),
                "check the pattern".into(),
            ));
        }
        return Ok(inputs(listed));
    }
    let look = || match objects::look(Path::new(url)) {
        Ok(listed) => Ok(Some(inputs(vec![listed]))),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(e)),
    };
    // Who may read an object may not be allowed to list; who lists need not ask for an object of a folder's name.
    let is_named = key.last().is_some_and(|name| name.contains('.'));
    if is_named && let Some(one) = look()? {
        return Ok(one);
    }
    let all = objects::list(Path::new(url)).map_err(failed)?;
    if all.is_empty()
        && !is_named
        && !key.is_empty()
        && let Some(one) = look()?
    {
        return Ok(one);
    }
    let is_below = |listed: &objects::Listed| below(&parts_of(&listed.path.to_string_lossy()).1[key.len()..]);
    let (is_empty, found) = (all.is_empty(), all.into_iter().filter(is_below).collect::<Vec<_>>());
    match (is_empty, found.is_empty()) {
        (_, false) => Ok(inputs(found)),
        (false, true) => Err(problem(
            "objects below it that end in .parquet, .parq or .pq",
            "no such object (names that start with _ or . do not count)".into(),
            "check the URL, or name the objects by a glob".into(),
        )),
        (true, true) => {
            Err(problem("an object, or objects below it", "nothing there".into(), near(root, &key)))
        }
    }
}

fn input(listed: objects::Listed) -> Input {
    let name = listed.path.display().to_string();
    Input { partitions: partitions(&name), path: listed.path, name, bytes: listed.bytes }
}

/// `s3://bucket`, and the parts of the key.
fn parts_of(url: &str) -> (&str, Vec<&str>) {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    (&url[..end], url[end..].split('/').filter(|part| !part.is_empty()).collect())
}

fn is_glob(part: &str) -> bool {
    part.contains(['*', '?', '['])
}

fn near(root: &str, key: &[&str]) -> String {
    let Some((wanted, above)) = key.split_last() else { return "check the URL".into() };
    let above = std::iter::once(root).chain(above.iter().copied()).collect::<Vec<_>>().join("/");
    let there: Vec<String> = objects::list(Path::new(&above))
        .into_iter()
        .flatten()
        .filter_map(|listed| {
            parts_of(&listed.path.to_string_lossy()).1.get(key.len() - 1).map(|part| part.to_string())
        })
        .collect();
    match nearest(wanted, there.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None => "check the URL".into(),
    }
}

/// A part of a glob.
enum Part {
    /// Any folders, or none.
    Folders,
    /// A name, and whether it may be a hidden one.
    Name(glob::Pattern, bool),
}

impl Part {
    fn new(part: &str) -> std::result::Result<Self, glob::PatternError> {
        if part == "**" {
            return Ok(Part::Folders);
        }
        let pattern = if is_glob(part) { part.to_string() } else { glob::Pattern::escape(part) };
        Ok(Part::Name(glob::Pattern::new(&pattern)?, !is_glob(part) || part.starts_with(['.', '_'])))
    }
}

/// Whether a key is what a glob matches, or a Parquet object below it.
fn matches(patterns: &[Part], key: &[&str]) -> bool {
    match patterns.split_first() {
        None => key.is_empty() || below(key),
        Some((Part::Folders, rest)) => {
            matches(rest, key)
                || key.split_first().is_some_and(|(first, others)| {
                    !others.is_empty() && !is_hidden(first) && matches(patterns, others)
                })
        }
        Some((Part::Name(pattern, may_hide), rest)) => key.split_first().is_some_and(|(first, others)| {
            pattern.matches(first) && (*may_hide || !is_hidden(first)) && matches(rest, others)
        }),
    }
}

/// Whether a key, as seen from a folder, is one of a Parquet object that is not hidden.
fn below(key: &[&str]) -> bool {
    key.last().is_some_and(|name| is_parquet(Path::new(name))) && !key.iter().any(|part| is_hidden(part))
}

fn is_hidden(part: &str) -> bool {
    hidden(OsStr::new(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_keys_as_they_match_files() {
        let cases = [
            ("s3://b/p/*.parquet", "s3://b/p/a.parquet", true),
            ("s3://b/p/*.parquet", "s3://b/p/q/a.parquet", false),
            ("s3://b/p/*.parquet", "s3://b/p/_a.parquet", false),
            ("s3://b/p/_*.parquet", "s3://b/p/_a.parquet", true),
            ("s3://b/p/**/*.parquet", "s3://b/p/a.parquet", true),
            ("s3://b/p/**/*.parquet", "s3://b/p/day=1/h=2/a.parquet", true),
            ("s3://b/p/**/*.parquet", "s3://b/p/_tmp/a.parquet", false),
            ("s3://b/p/**", "s3://b/p/x/a.parquet", true),
            ("s3://b/p/**", "s3://b/p/x/a.txt", false),
            ("s3://b/*/day=[12]", "s3://b/gps/day=1/x/a.pq", true),
            ("s3://b/*/day=[12]", "s3://b/gps/day=3/x/a.pq", false),
            ("s3://b/*/day=?/a.csv", "s3://b/gps/day=3/a.csv", true),
        ];
        for (pattern, key, wanted) in cases {
            let parts: Vec<Part> =
                parts_of(pattern).1.iter().map(|part| Part::new(part).expect("a pattern")).collect();
            assert_eq!(matches(&parts, &parts_of(key).1), wanted, "{pattern} {key}");
        }
    }
}
