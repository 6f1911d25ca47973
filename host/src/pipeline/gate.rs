//! How many submissions are worked on at once. Whatever more would only wait, for longer than its client does,
//! and make all others wait: it is refused at once. The limit finds itself, by how long submissions take. No account
//! has more than half of it, so that there is always room for another one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::domain::AccountId;

/// Where half of the submissions take longer than this, there are too many at once.
const SLOW: Duration = Duration::from_millis(100);
/// How often the limit is thought over, and how many submissions tell enough.
const WINDOW: Duration = Duration::from_millis(100);
const TELLING: u32 = 32;
const LIMIT_FIRST: usize = 4_096;
/// A slow disk makes few submissions slow as well: so many are always let in.
const LIMIT_MIN: usize = 512;
const LIMIT_MAX: usize = 65_536;

/// The way in.
#[derive(Debug)]
pub struct Gate {
    under_way: AtomicUsize,
    limit: AtomicUsize,
    refused: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    by_account: HashMap<AccountId, usize>,
    window: Window,
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
    account: &'a AccountId,
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
            inner: Mutex::new(Inner {
                by_account: HashMap::new(),
                window: Window {
                    since: now,
                    passed: 0,
                    slow: 0,
                },
            }),
        }
    }

    /// None where there are too many already, or too many of this account.
    pub fn enter<'a>(&'a self, account: &'a AccountId, now: Instant) -> Option<Pass<'a>> {
        let limit = self.limit.load(Relaxed);
        let before = self.under_way.fetch_add(1, Relaxed);
        let let_in = before < limit && {
            let mut inner = self.inner.lock();
            match inner.by_account.get_mut(account) {
                Some(of_account) if *of_account >= limit / 2 => false,
                Some(of_account) => {
                    *of_account += 1;
                    true
                }
                None => {
                    inner.by_account.insert(account.clone(), 1);
                    true
                }
            }
        };
        if !let_in {
            self.under_way.fetch_sub(1, Relaxed);
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        Some(Pass {
            gate: self,
            account,
            since: now,
        })
    }

    /// Whether one more of this account would not be let in, before anything is made of it. One that is told so
    /// counts as refused.
    pub fn is_full(&self, account: &AccountId) -> bool {
        let limit = self.limit.load(Relaxed);
        let full = self.under_way.load(Relaxed) >= limit || {
            let inner = self.inner.lock();
            let of_account = inner.by_account.get(account);
            of_account.is_some_and(|n| *n >= limit / 2)
        };
        if full {
            self.refused.fetch_add(1, Relaxed);
        }
        full
    }

    fn leave(&self, account: &AccountId, since: Instant, now: Instant) {
        let before = self.under_way.fetch_sub(1, Relaxed);
        let mut inner = self.inner.lock();
        let Inner { by_account, window } = &mut *inner;
        if let Some(of_account) = by_account.get_mut(account) {
            *of_account -= 1;
            if *of_account == 0 {
                by_account.remove(account);
            }
        }
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
            // One account alone fills half.
            limit.min(before.saturating_mul(2)).saturating_mul(3) / 4
        } else if before > limit / 3 {
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
        self.gate.leave(self.account, self.since, now);
        std::mem::forget(self);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.gate.leave(self.account, self.since, Instant::now());
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
        let account = AccountId::from("acme");
        let mut waiting = VecDeque::new();
        let (mut done, mut longest) = (0, Duration::ZERO);
        for n in 0..ms {
            let now = start + Duration::from_millis(n);
            waiting.extend((0..offered).filter_map(|_| gate.enter(&account, now)));
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
        let (used, longest) = run(10, 9, 5_000);
        assert!(used > 0.89, "{used}");
        assert!(longest < Duration::from_millis(5), "{longest:?}");
    }

    #[test]
    fn overload_costs_no_throughput_and_the_wait_stays_short() {
        for capacity in [3, 10, 40] {
            for times in [2, 5, 10] {
                let (used, longest) = run(capacity, capacity * times, 5_000);
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
        let (gate, account) = (Gate::new(start), AccountId::from("acme"));
        for n in 0..200 {
            let now = start + Duration::from_millis(300 * n);
            let all: Vec<_> = (0..LIMIT_MIN / 2)
                .filter_map(|_| gate.enter(&account, now))
                .collect();
            assert_eq!(all.len(), LIMIT_MIN / 2);
            for pass in all {
                pass.end(now + Duration::from_millis(250));
            }
        }
        assert_eq!(gate.stats().refused, 0);
    }

    #[test]
    fn it_opens_again_when_the_load_is_over() {
        let start = Instant::now();
        let (gate, account) = (Gate::new(start), AccountId::from("acme"));
        let crowd: Vec<_> = (0..5_000)
            .filter_map(|_| gate.enter(&account, start))
            .collect();
        assert_eq!(crowd.len(), LIMIT_FIRST / 2);
        for pass in crowd {
            pass.end(start + Duration::from_secs(2));
        }
        let low = gate.stats().limit;
        assert!(low < LIMIT_FIRST as u64);
        let mut now = start + Duration::from_secs(3);
        for _ in 0..100 {
            let all: Vec<_> = (0..4_000)
                .filter_map(|_| gate.enter(&account, now))
                .collect();
            now += Duration::from_millis(50);
            all.into_iter().for_each(|pass| pass.end(now));
            now += Duration::from_millis(60);
        }
        assert!(gate.stats().limit > low);
    }

    #[test]
    fn one_account_leaves_room_for_another() {
        let start = Instant::now();
        let (gate, greedy, modest) = (
            Gate::new(start),
            AccountId::from("greedy"),
            AccountId::from("modest"),
        );
        let crowd: Vec<_> = (0..LIMIT_FIRST)
            .filter_map(|_| gate.enter(&greedy, start))
            .collect();
        assert_eq!(crowd.len(), LIMIT_FIRST / 2);
        assert!(gate.is_full(&greedy));
        assert!(!gate.is_full(&modest));
        assert_eq!(gate.stats().refused, LIMIT_FIRST as u64 / 2 + 1);
        assert!(gate.enter(&modest, start).is_some());
        drop(crowd);
        assert!(gate.enter(&greedy, start).is_some());
        assert_eq!(gate.stats().under_way, 0);
        assert!(gate.inner.lock().by_account.is_empty());
    }
}
