//! How long a run spends on what.

use super::watch::Stage;
use std::time::Instant;

/// Seconds by stage; a stage that comes again adds up.
pub struct Clock {
    last: Instant,
    /// So far, in the order in which they came first.
    pub laps: Vec<(&'static str, f64)>,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { last: Instant::now(), laps: Vec::new() }
    }
}

impl Clock {
    /// Ends a stage.
    pub fn lap(&mut self, stage: Stage) {
        self.lap_as(stage.name());
    }

    /// Ends what has this name.
    pub fn lap_as(&mut self, name: &'static str) {
        let seconds = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        match self.laps.iter_mut().find(|(lap, _)| *lap == name) {
            Some((_, sum)) => *sum += seconds,
            None => self.laps.push((name, seconds)),
        }
    }
}
