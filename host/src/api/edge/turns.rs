//! When the connections of a crowd hear that they are refused. Whoever asks again at once, whatever Retry-After
//! says, would be refused as fast as he asks, and the work of that costs those who are served: refusals beyond a
//! rate take turns. A few are told at once, and who is served waits for none.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Between two refusals, of all connections together.
const INTERVAL_US: u64 = 100;
/// However many they are, nobody waits for longer: who is refused shall know it soon.
const WAIT_MAX_US: u64 = 150_000;
/// No timer is exact enough for less.
const WAIT_MIN_US: u64 = 1_000;

#[derive(Debug, Default)]
pub struct Turns {
    /// The last one that was given away: microseconds since the listener began.
    last: AtomicU64,
}

impl Turns {
    /// How long this refusal waits for its turn.
    pub fn take(&self, now_us: u64) -> Option<Duration> {
        let after = |last: u64| (last.max(now_us) + INTERVAL_US).min(now_us + WAIT_MAX_US);
        let taken = self
            .last
            .fetch_update(Relaxed, Relaxed, |last| Some(after(last)));
        let (Ok(last) | Err(last)) = taken;
        let wait = after(last) - now_us;
        (wait >= WAIT_MIN_US).then(|| Duration::from_micros(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_refusals_are_followed_by_no_wait() {
        let turns = Turns::default();
        for n in 0..10_000 {
            assert_eq!(turns.take(n * 2 * INTERVAL_US), None);
        }
    }

    #[test]
    fn beyond_the_rate_each_waits_for_its_turn() {
        let turns = Turns::default();
        let waits: Vec<_> = (0..500).map(|_| turns.take(7)).collect();
        assert_eq!(waits[8], None);
        assert_eq!(waits[9], Some(Duration::from_millis(1)));
        assert_eq!(waits[499], Some(Duration::from_millis(50)));
    }

    #[test]
    fn a_crowd_waits_no_longer_than_the_most_and_is_forgotten_when_it_is_gone() {
        let turns = Turns::default();
        let waits = (0..100_000).filter_map(|_| turns.take(0));
        assert_eq!(waits.max(), Some(Duration::from_micros(WAIT_MAX_US)));
        assert_eq!(turns.take(WAIT_MAX_US), None);
    }
}
