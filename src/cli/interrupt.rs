//! Ctrl-C and SIGTERM: stop within a second, leave nothing behind.

use crate::pipeline::watch::Watch;
use std::sync::Arc;
use std::time::Duration;

/// How long a run may take to stop by itself.
const GRACE: Duration = Duration::from_millis(700);

/// Stops the run at its next batch; ends the process if that takes too long.
pub fn install(watch: &Arc<Watch>) {
    let watch = Arc::clone(watch);
    let handler = move || {
        watch.stop();
        std::thread::sleep(GRACE);
        let is_in_force = crate::io::store::abandon();
        crate::io::output::abandon();
        match is_in_force {
            true => super::tell(
                "error: stopped on request; the store was being changed: copresence store list tells its version",
            ),
            false => super::tell(&format!("error: {}", crate::error::Error::Interrupted)),
        }
        std::process::exit(130);
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::warn!("signals cannot be caught ({error}): an interrupted run may leave a .partial folder");
    }
}
