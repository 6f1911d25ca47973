//! Logs: set up once, at the start of the process. Message text and full numbers never get here.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging to standard error. `filter` is a tracing filter such as `info`; `RUST_LOG`
/// overrides it. A second call does nothing: the first subscriber stays.
pub fn start(filter: &str, json: bool) -> Result<(), String> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) => EnvFilter::try_new(text),
        Err(_) => EnvFilter::try_new(filter),
    }
    .map_err(|e| format!("log.filter: {e}"))?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = if json {
        registry.with(layer.json()).try_init()
    } else {
        registry.with(layer.with_target(true)).try_init()
    };
    // An error means that the process already has a subscriber: tests start several servers.
    drop(started);
    Ok(())
}
