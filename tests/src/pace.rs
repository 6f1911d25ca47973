//! Time that goes faster than it passes: one straight line for all processes of a rig, so that a server that
//! comes back finds the time where the others have it. The runtime's timers, and with them sockets, keep theirs.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use heliograph::clock::{Clock, Times};

/// At `real_ms` of the machine's clock it is `told_ms`, and `times` as much passes from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    real_ms: u64,
    told_ms: u64,
    times: u32,
}

const DAY_MS: u64 = 86_400_000;

fn machine_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

impl Pace {
    /// Midnight (UTC) comes when `until_midnight` has passed, and a day lasts `day` from then on.
    pub fn of_days(day: Duration, until_midnight: Duration) -> Pace {
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let times = DAY_MS / ms(day).max(1);
        let real_ms = machine_ms();
        let midnight = (real_ms / DAY_MS + 1) * DAY_MS;
        Pace {
            real_ms,
            told_ms: midnight - ms(until_midnight) * times,
            times: u32::try_from(times).unwrap_or(u32::MAX),
        }
    }

    /// What it is now.
    pub fn now_ms(self) -> u64 {
        let passed = machine_ms().saturating_sub(self.real_ms);
        self.told_ms + passed * u64::from(self.times)
    }

    /// How long `told` lasts.
    pub fn lasts(self, told: Duration) -> Duration {
        told / self.times
    }

    pub fn clock(self) -> Clock {
        Clock::of(Paced {
            wall: self.now_ms(),
            since: Instant::now(),
            times: self.times,
            last: AtomicU64::new(0),
        })
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.real_ms, self.told_ms, self.times)
    }
}

impl FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Pace, String> {
        let wrong = || format!("{text} is no pace: REAL_MS:TOLD_MS:TIMES");
        let mut words = text.split(':');
        let mut next = || words.next()?.parse::<u64>().ok();
        let (real_ms, told_ms, times) = (next(), next(), next());
        Ok(Pace {
            real_ms: real_ms.ok_or_else(wrong)?,
            told_ms: told_ms.ok_or_else(wrong)?,
            times: times
                .and_then(|t| u32::try_from(t).ok())
                .filter(|t| *t > 0)
                .ok_or_else(wrong)?,
        })
    }
}

struct Paced {
    wall: u64,
    since: Instant,
    times: u32,
    /// Steady time as last told: a wall clock that is read a microsecond later would seem to have been moved.
    last: AtomicU64,
}

impl Times for Paced {
    fn wall(&self) -> u64 {
        self.wall + self.last.load(Ordering::Relaxed)
    }

    fn steady(&self) -> u64 {
        let passed = self.since.elapsed() * self.times;
        let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        self.last.fetch_max(passed, Ordering::Relaxed).max(passed)
    }

    fn pace(&self) -> u32 {
        self.times
    }
}
