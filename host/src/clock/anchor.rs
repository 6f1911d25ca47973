//! The clock goes on through a restart: a small file says what time it was at which time since the machine
//! was started. While the machine has not been started anew that is better knowledge than a system's clock
//! that somebody set ahead, under which everything that waits would expire at once.

use std::io;
use std::path::{Path, PathBuf};

use super::{Clock, Timestamp};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const UPTIME: &str = "/proc/uptime";

/// Where the anchor is, and which run of the machine this is.
#[derive(Clone, Debug)]
pub struct Anchor {
    file: PathBuf,
    boot: String,
}

impl Anchor {
    /// None where the machine does not tell what is needed.
    pub fn new(file: PathBuf) -> Option<Anchor> {
        let boot = std::fs::read_to_string(BOOT_ID).ok()?.trim().to_owned();
        uptime_ms()?;
        (!boot.is_empty()).then_some(Anchor { file, boot })
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What the time must be now by what was noted earlier in this run of the machine, of a clock of that pace.
    pub fn expected(&self, pace: u32) -> Option<Timestamp> {
        let text = std::fs::read_to_string(&self.file).ok()?;
        expected(&text, &self.boot, uptime_ms()?, pace)
    }

    /// Notes the time. Nothing is synced: it is of use to this run of the machine alone.
    pub fn note(&self, clock: &Clock) -> io::Result<()> {
        let Some(uptime) = uptime_ms() else {
            return Ok(());
        };
        let new = self.file.with_extension("new");
        let text = format!("{} {uptime} {}\n", self.boot, clock.now().millis());
        std::fs::write(&new, text)?;
        std::fs::rename(&new, &self.file)
    }
}

fn expected(text: &str, boot: &str, uptime: u64, pace: u32) -> Option<Timestamp> {
    let mut words = text.split_whitespace();
    let same = words.next() == Some(boot);
    let then: u64 = words.next()?.parse().ok()?;
    let at: u64 = words.next()?.parse().ok()?;
    let passed = uptime.checked_sub(then)?.saturating_mul(pace.into());
    (same && words.next().is_none()).then(|| Timestamp(at.saturating_add(passed)))
}

/// Milliseconds since the machine was started, suspension included.
fn uptime_ms() -> Option<u64> {
    let text = std::fs::read_to_string(UPTIME).ok()?;
    let (seconds, rest) = text.split_whitespace().next()?.split_once('.')?;
    let hundredths: u64 = rest.parse().ok().filter(|_| rest.len() == 2)?;
    Some(seconds.parse::<u64>().ok()? * 1_000 + hundredths * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_counts_for_the_same_run_of_the_machine() {
        let note = "boot-1 5000 1800000000000\n";
        let time = Some(Timestamp(1_800_000_002_500));
        assert_eq!(expected(note, "boot-1", 7_500, 1), time);
        assert_eq!(expected(note, "boot-2", 7_500, 1), None);
        assert_eq!(expected(note, "boot-1", 4_000, 1), None);
        for bad in ["", "boot-1", "boot-1 5000", "boot-1 x 7", "boot-1 5 7 9"] {
            assert_eq!(expected(bad, "boot-1", 7_500, 1), None, "{bad}");
        }
    }

    #[test]
    fn a_note_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let Some(anchor) = Anchor::new(folder.path().join("clock")) else {
            return;
        };
        assert_eq!(anchor.expected(1), None);
        let at = Timestamp(1_800_000_000_000);
        anchor.note(&Clock::manual(at)).unwrap();
        let expected = anchor.expected(1).unwrap();
        assert!(
            expected >= at && expected.since(at).as_secs() < 60,
            "{expected:?}"
        );
    }
}
