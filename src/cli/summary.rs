//! What `run` says at its end.

use super::thousands;
use crate::answer::Answer;
use crate::config::Config;
use crate::io::inputs::Inputs;
use crate::io::manifest::Circumstances;

/// Prints the summary to standard output.
pub fn print(config: &Config, inputs: &Inputs, answer: &Answer, circumstances: &Circumstances) {
    let counts = &answer.counts;
    let rejected_cases = inputs.cases.rejections.len();
    if rejected_cases > 0 {
        out!(
            "{rejected_cases} of {} cases rejected: see rejections.parquet",
            rejected_cases + answer.cases.len()
        );
    }
    out!("{}: rule {}, as of {}", config.name, config.rule, crate::time::utc_text(config.as_of));
    let with_pings = answer.cases.iter().filter(|c| c.has_pings).count();
    let line = |name: &str, text: String| out!("  {name:<11}{text}");
    line(
        "rows",
        format!(
            "{} read, {} rejected, {} in the lookback",
            thousands(counts.rows_read),
            thousands(counts.rows_rejected),
            thousands(counts.rows_kept)
        ),
    );
    line("persons", format!("about {}", thousands(counts.persons)));
    line(
        "cases",
        format!(
            "{}: {with_pings} with pings, {} without",
            answer.cases.len(),
            answer.cases.len() - with_pings
        ),
    );
    line("encounters", thousands(counts.encounters));
    line("exposures", thousands(counts.exposures));
    if let Some(areas) = &inputs.areas {
        line(
            "dwells",
            format!("{} in {} risk areas", thousands(counts.dwells), thousands(areas.list.len() as u64)),
        );
    }
    line("candidates", thousands(counts.candidates));
    if let Some(controls) = &answer.controls {
        line(
            "controls",
            format!(
                "{} persons on days moved by {} would make {} candidates by {} exposures",
                thousands(controls.persons),
                controls.rotated_days,
                thousands(controls.candidates),
                thousands(controls.exposures)
            ),
        );
    }
    let memory = match circumstances.memory_peak_bytes {
        Some(bytes) => format!("{} MiB at its peak", thousands(bytes >> 20)),
        None => "unknown on this system".to_string(),
    };
    line(
        "time",
        format!(
            "{:.2} s, {} rows/s, {} threads",
            circumstances.seconds,
            thousands((counts.rows_read as f64 / circumstances.seconds.max(1e-9)) as u64),
            config.threads
        ),
    );
    line("memory", memory);
    line("result", config.out.display().to_string());
}
