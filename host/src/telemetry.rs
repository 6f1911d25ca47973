//! Logs: set up once, at the start of the process. Message text and full numbers never get here; what
//! peers say of themselves does, and is made inert: an event is one line, whatever it quotes.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
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
    // Colours are escape sequences, and none of those gets through.
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(Lines);
    let started = if json {
        registry.with(layer.json()).try_init()
    } else {
        registry.with(layer.with_target(true)).try_init()
    };
    // An error means that the process already has a subscriber: tests start several servers.
    drop(started);
    Ok(())
}

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Panics since the process started: each a fault of ours.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// From now on a panic is an event of the log, counted, with the place where it came about. Of what
/// it says only fixed words are told: the others may quote a message's text.
pub fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        let at = panic.location().map(tracing::field::display);
        let why = panic.payload().downcast_ref::<&'static str>();
        tracing::error!(
            at,
            why,
            "a panic, a fault of Heliograph's own: please report it"
        );
    }));
}

/// Standard error, a line an event.
struct Lines;

struct Line;

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line
    }
}

impl Write for Line {
    /// An event comes in one piece.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let mut stderr = io::stderr().lock();
        match line.chars().any(is_unruly) {
            false => stderr.write_all(event)?,
            true => stderr.write_all((inert(line) + "\n").as_bytes())?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// What could end a line, move a cursor or turn the reading direction round.
fn is_unruly(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}' | '\u{2029}'
            | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// The same text with such characters as JSON writes them: `\u001b`.
pub fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_unruly(c) {
            // All of them are below U+10000.
            true => drop(write!(out, "\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_ends_no_line_and_turns_nothing_round() {
        assert_eq!(inert("a\r\nb"), "a\\u000d\\u000ab");
        assert_eq!(inert("\u{1b}[31m\0\u{9b}1m"), "\\u001b[31m\\u0000\\u009b1m");
        assert_eq!(inert("\u{202e}x\u{2066}\u{2028}"), "\\u202ex\\u2066\\u2028");
        assert_eq!(inert("naïve 你好 👋🏽"), "naïve 你好 👋🏽");
    }
}
