//! `copresence rules`: the rules that come with the program, and the schemas of job and rule files.

use crate::config::schema;
use crate::error::{Error, Problem, Result, nearest};
use crate::rule::preset::PRESETS;
use crate::trip::VEHICLES;
use clap::{Args, ValueEnum};
use toml::{Table, Value};

/// List the rules that come with the program, print one, or print the JSON Schema of job or rule files.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Rules {
    /// The rule whose file is printed; all are listed without.
    #[arg(value_name = "NAME", conflicts_with = "schema")]
    name: Option<String>,
    /// Print the JSON Schema of a kind of file: editors complete and check by it.
    #[arg(long, value_enum, value_name = "KIND")]
    schema: Option<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Job files.
    Job,
    /// Rule files.
    Rule,
}

const EXAMPLES: &str = "Try:
  copresence rules
  copresence rules companion-800m > my-rule.toml
  copresence rules --schema job > job.schema.json

A job takes a rule by its name, and changes what it needs to:
  [rule]
  preset = \"companion-800m\"
  [rule.candidate]
  direct_s_min = 900";

impl Rules {
    /// Prints.
    pub fn run(self) -> Result<u8> {
        match (self.schema, self.name) {
            (Some(Kind::Job), _) => out!("{:#}", schema::job()),
            (Some(Kind::Rule), _) => out!("{:#}", schema::rule()),
            (None, Some(name)) => super::say(text_of(&name)?),
            (None, None) => list(),
        }
        Ok(0)
    }
}

fn text_of(name: &str) -> Result<&'static str> {
    if name == VEHICLES_NAME {
        return Ok(VEHICLES);
    }
    if let Some((_, text)) = PRESETS.iter().find(|(preset, _)| *preset == name) {
        return Ok(text);
    }
    let names = PRESETS.map(|(name, _)| name);
    let cure = match nearest(name, names) {
        Some(near) => format!("did you mean {near}?"),
        None => "copresence rules lists them".to_string(),
    };
    Err(Error::Job(Problem::new(
        "NAME",
        format!("one of {}, {VEHICLES_NAME}", names.join(", ")),
        format!("\"{name}\""),
        cure,
    )))
}

/// The file of the rules for trips, which every rule uses.
const VEHICLES_NAME: &str = "vehicles";

fn list() {
    for (name, text) in PRESETS {
        let table: Table = text.parse().unwrap_or_default();
        let rule = table.get("rule").and_then(Value::as_table);
        let of = |key: &str| rule.and_then(|rule| rule.get(key)).and_then(Value::as_str).unwrap_or("-");
        out!("{name}@{}, from {} to {}", of("version"), of("effective_from"), of("expires_on"));
        // The first sentence of the file says what the rule is.
        let comment: Vec<&str> = text
            .lines()
            .map_while(|line| line.strip_prefix('#'))
            .take_while(|l| !l.contains("Source"))
            .collect();
        out!("  {}", comment.join(" ").split_whitespace().collect::<Vec<_>>().join(" "));
    }
    out!("{VEHICLES_NAME}");
    out!("  Who is near whom on a trip, by kind of vehicle; part of every rule.");
}
