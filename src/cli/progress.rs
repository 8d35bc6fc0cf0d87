//! Progress on standard error: a bar, plain lines, or JSON.

use super::thousands;
use crate::pipeline::watch::{Stage, Watch};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// A bar on a terminal, plain lines elsewhere.
    Auto,
    /// A bar.
    Bar,
    /// One JSON object a line.
    Json,
    /// Nothing.
    None,
}

const TICK: Duration = Duration::from_millis(100);
const LINES_EVERY: Duration = Duration::from_secs(5);

/// A thread that shows progress until it is dropped.
pub struct Progress {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts to show what `watch` tells.
    pub fn start(style: Style, watch: &Arc<Watch>) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let thread = (style != Style::None).then(|| {
            let (watch, done) = (Arc::clone(watch), Arc::clone(&done));
            std::thread::spawn(move || show(style, &watch, &done))
        });
        Progress { done, thread }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A progress thread that failed has nothing to say about the run.
            drop(thread.join());
        }
    }
}

fn show(style: Style, watch: &Watch, done: &AtomicBool) {
    let bar = style == Style::Bar || (style == Style::Auto && std::io::stderr().is_terminal());
    if bar {
        return show_bar(watch, done);
    }
    let mut stage_start = Instant::now();
    let mut last: Option<(Stage, Instant)> = None;
    while !done.load(Ordering::Relaxed) {
        let (stage, rows, total) = watch.now();
        let due = match last {
            Some((shown, at)) if shown == stage => at.elapsed() >= LINES_EVERY,
            _ => {
                stage_start = a_tick_ago();
                true
            }
        };
        if due {
            last = Some((stage, Instant::now()));
            let (rate, remaining_s) = pace(rows, total, stage_start.elapsed());
            if style == Style::Json {
                let line = serde_json::json!({
                    "stage": stage.name(), "rows": rows, "rows_total": total,
                    "rows_per_s": rate, "remaining_s": remaining_s,
                });
                super::tell(&line.to_string());
            } else if rows > 0 {
                super::tell(&format!(
                    "{}: {} of {} rows, {} rows/s, {remaining_s:.0} s to go",
                    stage.name(),
                    thousands(rows),
                    thousands(total),
                    thousands(rate as u64)
                ));
            } else if total > 0 {
                super::tell(&format!("{}: {} rows", stage.name(), thousands(total)));
            }
        }
        std::thread::park_timeout(TICK);
    }
}

/// When a stage may have begun that is seen for the first time; from now on its rows would be too many.
fn a_tick_ago() -> Instant {
    let now = Instant::now();
    now.checked_sub(TICK).unwrap_or(now)
}

fn pace(rows: u64, total: u64, elapsed: Duration) -> (f64, f64) {
    let rate = rows as f64 / elapsed.as_secs_f64().max(1e-3);
    let remaining_s = if rows > 0 { total.saturating_sub(rows) as f64 / rate } else { 0.0 };
    (rate.round(), remaining_s)
}

fn show_bar(watch: &Watch, done: &AtomicBool) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{prefix:>8} {wide_bar} {human_pos} of {human_len} rows, {msg}");
    // The template is a constant; without it the bar still shows.
    if let Ok(style) = style {
        bar.set_style(style);
    }
    let mut shown = None;
    let mut stage_start = Instant::now();
    while !done.load(Ordering::Relaxed) {
        let (stage, rows, total) = watch.now();
        if shown != Some(stage) {
            shown = Some(stage);
            stage_start = a_tick_ago();
            bar.reset();
            bar.set_prefix(stage.name());
        }
        bar.set_length(total);
        bar.set_position(rows);
        let (rate, remaining_s) = pace(rows, total, stage_start.elapsed());
        bar.set_message(format!("{} rows/s, {remaining_s:.0} s to go", thousands(rate as u64)));
        std::thread::park_timeout(TICK);
    }
    bar.finish_and_clear();
}
