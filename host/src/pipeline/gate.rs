//! How many submissions are worked on at once. Whatever more would only wait, for longer than its client does,
//! and make all others wait: it is refused at once. The limit finds itself, by how long submissions take.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Where half of the submissions take longer than this, there are too many at once.
const SLOW: Duration = Duration::from_millis(100);
/// How often the limit is thought over, and how many submissions tell enough.
const WINDOW: Duration = Duration::from_millis(100);
const TELLING: u32 = 32;
const LIMIT_FIRST: usize = 2_048;
/// A slow disk makes few submissions slow as well: so many are always let in.
const LIMIT_MIN: usize = 256;
const LIMIT_MAX: usize = 32_768;

/// The way in.
#[derive(Debug)]
pub struct Gate {
    under_way: AtomicUsize,
    limit: AtomicUsize,
    refused: AtomicU64,
    window: Mutex<Window>,
}

/// What has passed since the limit was last thought over.
#[derive(Debug)]
struct Window {
    since: Instant,
    passed: u32,
    slow: u32,
}

/// A submission that is under way; dropped, it is not any more.
#[derive(Debug)]
pub struct Pass<'a> {
    gate: &'a Gate,
    since: Instant,
}

/// Figures for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateStats {
    pub under_way: u64,
    pub limit: u64,
    pub refused: u64,
}

impl Gate {
    pub fn new(now: Instant) -> Gate {
        Gate {
            under_way: AtomicUsize::new(0),
            limit: AtomicUsize::new(LIMIT_FIRST),
            refused: AtomicU64::new(0),
            window: Mutex::new(Window {
                since: now,
                passed: 0,
                slow: 0,
            }),
        }
    }

    /// None where there are too many already.
    pub fn enter(&self, now: Instant) -> Option<Pass<'_>> {
        let before = self.under_way.fetch_add(1, Relaxed);
        if before >= self.limit.load(Relaxed) {
            self.under_way.fetch_sub(1, Relaxed);
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        Some(Pass {
            gate: self,
            since: now,
        })
    }

    fn leave(&self, since: Instant, now: Instant) {
        let before = self.under_way.fetch_sub(1, Relaxed);
        let mut window = self.window.lock();
        window.passed = window.passed.saturating_add(1);
        if now.saturating_duration_since(since) > SLOW {
            window.slow = window.slow.saturating_add(1);
        }
        let over = now.saturating_duration_since(window.since) >= WINDOW;
        if !over || window.passed < TELLING {
            return;
        }
        let limit = self.limit.load(Relaxed);
        let next = if window.slow > window.passed / 2 {
            before.min(limit).saturating_mul(3) / 4
        } else if before > limit / 2 {
            limit + limit / 16
        } else {
            limit
        };
        self.limit.store(next.clamp(LIMIT_MIN, LIMIT_MAX), Relaxed);
        *window = Window {
            since: now,
            passed: 0,
            slow: 0,
        };
    }

    pub fn stats(&self) -> GateStats {
        GateStats {
            under_way: self.under_way.load(Relaxed) as u64,
            limit: self.limit.load(Relaxed) as u64,
            refused: self.refused.load(Relaxed),
        }
    }
}

impl Pass<'_> {
    /// Ends it at a time of the caller's.
    #[cfg(test)]
    fn end(self, now: Instant) {
        self.gate.leave(self.since, now);
        std::mem::forget(self);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.gate.leave(self.since, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A server that can do `capacity` in a millisecond, asked for `offered`: what share of the capacity it used
    /// over the last half of `ms`, and the longest wait of what it took then.
    fn run(capacity: usize, offered: usize, ms: u64) -> (f64, Duration) {
        let start = Instant::now();
        let gate = Gate::new(start);
        let mut waiting = VecDeque::new();
        let (mut done, mut longest) = (0, Duration::ZERO);
        for n in 0..ms {
            let now = start + Duration::from_millis(n);
            waiting.extend((0..offered).filter_map(|_| gate.enter(now)));
            for pass in waiting.drain(..capacity.min(waiting.len())) {
                if n >= ms / 2 {
                    done += 1;
                    longest = longest.max(now - pass.since);
                }
                pass.end(now);
            }
        }
        let most = capacity as f64 * (ms - ms / 2) as f64;
        assert_eq!(gate.stats().under_way as usize, waiting.len());
        waiting.drain(..).for_each(|pass| pass.end(start));
        (done as f64 / most, longest)
    }

    #[test]
    fn what_there_is_room_for_is_never_refused() {
        let (used, longest) = run(10, 9, 20_000);
        assert!(used > 0.89, "{used}");
        assert!(longest < Duration::from_millis(5), "{longest:?}");
    }

    #[test]
    fn overload_costs_no_throughput_and_the_wait_stays_short() {
        for capacity in [3, 10, 40] {
            for times in [2, 5, 10] {
                let (used, longest) = run(capacity, capacity * times, 20_000);
                assert!(used > 0.99, "{capacity} x {times}: {used}");
                assert!(
                    longest < Duration::from_millis(200),
                    "{capacity} x {times}: {longest:?}"
                );
            }
        }
    }

    #[test]
    fn a_slow_disk_alone_shuts_nobody_out() {
        let start = Instant::now();
        let gate = Gate::new(start);
        for n in 0..200 {
            let now = start + Duration::from_millis(300 * n);
            let all: Vec<_> = (0..LIMIT_MIN).filter_map(|_| gate.enter(now)).collect();
            assert_eq!(all.len(), LIMIT_MIN);
            for pass in all {
                pass.end(now + Duration::from_millis(250));
            }
        }
        assert_eq!(gate.stats().refused, 0);
    }

    #[test]
    fn it_opens_again_when_the_load_is_over() {
        let start = Instant::now();
        let gate = Gate::new(start);
        let crowd: Vec<_> = (0..5_000).filter_map(|_| gate.enter(start)).collect();
        assert_eq!(crowd.len(), LIMIT_FIRST);
        for pass in crowd {
            pass.end(start + Duration::from_secs(2));
        }
        let low = gate.stats().limit;
        assert!(low < LIMIT_FIRST as u64);
        let mut now = start + Duration::from_secs(3);
        for _ in 0..100 {
            let all: Vec<_> = (0..4_000).filter_map(|_| gate.enter(now)).collect();
            now += Duration::from_millis(50);
            all.into_iter().for_each(|pass| pass.end(now));
            now += Duration::from_millis(60);
        }
        assert!(gate.stats().limit > low);
    }
}
