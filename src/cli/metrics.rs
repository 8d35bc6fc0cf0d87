//! The figures of a night as a text file that Prometheus' node_exporter collects (its textfile collector).

use crate::error::{Error, Problem, Result};
use crate::io::output::replace_text;
use std::path::Path;

/// Figures as they gather: lines in the order in which they were named.
#[derive(Debug, Default)]
pub struct Metrics {
    text: String,
}

/// A label's value, as the format wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Metrics {
    /// Adds a figure with what it says and all its values, each with its labels.
    pub fn add(&mut self, name: &str, help: &str, values: &[(Vec<(&str, String)>, f64)]) {
        self.text.push_str(&format!("# HELP copresence_{name} {help}\n# TYPE copresence_{name} gauge\n"));
        for (labels, value) in values {
            let labels: Vec<String> =
                labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
            self.text.push_str(&format!("copresence_{name}{{{}}} {value}\n", labels.join(",")));
        }
    }

    /// Writes the file, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        replace_text(path, &self.text).map_err(|e| {
            Error::Output(Problem::new(
                format!("--metrics {}", path.display()),
                "a file that can be written",
                e.to_string(),
                "check the folder and its permissions; the result itself is in place",
            ))
        })
    }
}
