//! The clock goes on through restarts: what the time was is noted beside the store, and believed at the next
//! start rather than a system's clock that was set ahead meanwhile.

use std::path::Path;
use std::time::Duration;

use crate::clock::{Anchor, Clock};

const FILE: &str = "clock";
/// The note is good however old it is; a new one follows corrections of the clock.
const INTERVAL: Duration = Duration::from_secs(10);

/// Before anything asks for the time. None where the machine does not tell what is needed.
pub fn resume(data: &Path, clock: &Clock) -> Option<Anchor> {
    let anchor = Anchor::new(data.join(FILE))?;
    if anchor
        .expected(clock.pace())
        .is_some_and(|at| clock.go_on_from(at))
    {
        tracing::warn!(
            ahead_ms = clock.ahead_ms(),
            note = %anchor.file().display(),
            "the system's clock was set ahead since the last start; it is followed slowly: remove the note and start again to have it believed at once"
        );
    }
    Some(anchor)
}

/// Notes the time for as long as the server runs.
pub async fn keep(anchor: Anchor, clock: Clock) {
    let mut tick = tokio::time::interval(INTERVAL);
    loop {
        tick.tick().await;
        let (anchor, clock) = (anchor.clone(), clock.clone());
        let noted = tokio::task::spawn_blocking(move || anchor.note(&clock)).await;
        if let Ok(Err(error)) = noted {
            tracing::debug!(%error, "the time could not be noted");
        }
    }
}
