//! Spares a plugin that keeps failing, and everyone who would wait for it: after too many faults it
//! is skipped for a while, then tried with a single call. Pure but for its lock; `now` is passed in.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// This many faults among the last [`WINDOW`] calls open it.
const FAULTS: u32 = 5;
const WINDOW: u32 = 20;
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Whether an entry is being called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    Closed,
    Open,
    /// One call is out to see whether the plugin works again.
    Probing,
}

pub(super) struct Breaker {
    /// False as long as all is well: then neither question takes the lock.
    troubled: AtomicBool,
    inner: Mutex<Inner>,
}

struct Inner {
    /// One bit for each of the last calls, the newest lowest; set for a fault.
    recent: u32,
    state: State,
    pause: Duration,
}

#[derive(Clone, Copy)]
enum State {
    Closed,
    Open { until: Instant },
    Probing { since: Instant },
}

impl Breaker {
    pub fn new() -> Breaker {
        Breaker {
            troubled: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                recent: 0,
                state: State::Closed,
                pause: FIRST_PAUSE,
            }),
        }
    }

    /// Whether the next call may be made.
    pub fn admits(&self, now: Instant) -> bool {
        if !self.troubled.load(Relaxed) {
            return true;
        }
        let mut inner = self.inner.lock();
        match inner.state {
            State::Closed => true,
            State::Open { until } if now < until => false,
            // A probe whose caller went away reports nothing: the next one may try in its place.
            State::Probing { since } if now.duration_since(since) < inner.pause => false,
            State::Open { .. } | State::Probing { .. } => {
                inner.state = State::Probing { since: now };
                true
            }
        }
    }

    pub fn succeeded(&self) {
        if !self.troubled.load(Relaxed) {
            return;
        }
        let mut inner = self.inner.lock();
        match inner.state {
            State::Probing { .. } => {
                inner.recent = 0;
                inner.state = State::Closed;
                inner.pause = FIRST_PAUSE;
            }
            State::Closed => inner.recent = (inner.recent << 1) & ((1 << WINDOW) - 1),
            // A call that began before it opened.
            State::Open { .. } => {}
        }
        if inner.recent == 0 && matches!(inner.state, State::Closed) {
            self.troubled.store(false, Relaxed);
        }
    }

    pub fn failed(&self, now: Instant) {
        let mut inner = self.inner.lock();
        self.troubled.store(true, Relaxed);
        match inner.state {
            State::Closed => {
                inner.recent = ((inner.recent << 1) | 1) & ((1 << WINDOW) - 1);
                if inner.recent.count_ones() >= FAULTS {
                    inner.state = State::Open {
                        until: now + inner.pause,
                    };
                }
            }
            State::Probing { .. } => {
                inner.pause = (inner.pause * 2).min(LONGEST_PAUSE);
                inner.state = State::Open {
                    until: now + inner.pause,
                };
            }
            State::Open { .. } => {}
        }
    }

    pub fn state(&self) -> BreakerState {
        match self.inner.lock().state {
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::Probing { .. } => BreakerState::Probing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(start: Instant) -> Breaker {
        let breaker = Breaker::new();
        (0..FAULTS).for_each(|_| breaker.failed(start));
        breaker
    }

    #[test]
    fn it_opens_at_five_faults_of_the_last_twenty() {
        let (breaker, now) = (Breaker::new(), Instant::now());
        (0..4).for_each(|_| breaker.failed(now));
        assert!(breaker.admits(now));
        breaker.failed(now);
        assert!(!breaker.admits(now));
    }

    #[test]
    fn faults_are_forgotten_after_twenty_calls() {
        let (breaker, now) = (Breaker::new(), Instant::now());
        (0..4).for_each(|_| breaker.failed(now));
        (0..20).for_each(|_| breaker.succeeded());
        (0..4).for_each(|_| breaker.failed(now));
        assert!(breaker.admits(now));
    }

    #[test]
    fn one_probe_at_a_time_and_its_success_closes() {
        let start = Instant::now();
        let breaker = opened(start);
        let later = start + FIRST_PAUSE;
        assert!(breaker.admits(later));
        assert_eq!(breaker.state(), BreakerState::Probing);
        assert!(!breaker.admits(later));
        breaker.succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert!(breaker.admits(later));
    }

    #[test]
    fn a_failed_probe_doubles_the_pause_up_to_a_minute() {
        let mut now = Instant::now();
        let breaker = opened(now);
        for pause in [5, 10, 20, 40, 60, 60] {
            assert!(!breaker.admits(now + Duration::from_secs(pause) - Duration::from_millis(1)));
            now += Duration::from_secs(pause);
            assert!(breaker.admits(now));
            breaker.failed(now);
        }
    }

    #[test]
    fn a_probe_that_never_reports_does_not_keep_it_shut() {
        let start = Instant::now();
        let breaker = opened(start);
        assert!(breaker.admits(start + FIRST_PAUSE));
        assert!(breaker.admits(start + FIRST_PAUSE * 2));
    }
}
