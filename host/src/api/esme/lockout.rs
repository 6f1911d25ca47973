//! Patience with wrong passwords: five of them lock a system_id for the address that they came from,
//! for a minute and then for longer and longer. Never for anybody else, or whoever knows a customer's
//! name could keep him out. Pure and bounded; time is passed in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Wrong passwords until the lock.
const FAILURES_MAX: u32 = 5;
const FIRST_LOCK: Duration = Duration::from_secs(60);
const LOCK_MAX: Duration = Duration::from_secs(3600);
/// Failures are forgotten, and locks begin at a minute again, after this long without one.
const MEMORY: Duration = Duration::from_secs(3600);
/// Pairs that are remembered.
const ENTRIES_MAX: usize = 10_000;

/// Who failed where. All names that nobody has count as one.
pub type Key = (IpAddr, Option<Arc<str>>);

#[derive(Debug, Default)]
pub struct Lockouts {
    entries: HashMap<Key, Entry>,
}

#[derive(Debug)]
struct Entry {
    failures: u32,
    locks: u32,
    until: Option<Instant>,
    last: Instant,
}

impl Entry {
    fn is_locked(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        !self.is_locked(now)
            && now.saturating_duration_since(self.until.unwrap_or(self.last)) >= MEMORY
    }
}

impl Lockouts {
    pub fn is_locked(&self, key: &Key, now: Instant) -> bool {
        self.entries.get(key).is_some_and(|e| e.is_locked(now))
    }

    /// One more wrong password; the lock that follows from it, where one does.
    pub fn failed(&mut self, key: Key, now: Instant) -> Option<Duration> {
        if !self.entries.contains_key(&key) {
            self.make_room(now);
        }
        let fresh = || Entry {
            failures: 0,
            locks: 0,
            until: None,
            last: now,
        };
        let entry = self.entries.entry(key).or_insert_with(fresh);
        if entry.is_forgotten(now) {
            *entry = fresh();
        }
        entry.last = now;
        entry.failures += 1;
        if entry.failures < FAILURES_MAX {
            return None;
        }
        let lock = FIRST_LOCK
            .saturating_mul(1 << entry.locks.min(10))
            .min(LOCK_MAX);
        entry.failures = 0;
        entry.locks += 1;
        entry.until = Some(now + lock);
        Some(lock)
    }

    pub fn succeeded(&mut self, key: &Key) {
        self.entries.remove(key);
    }

    fn make_room(&mut self, now: Instant) {
        if self.entries.len() < ENTRIES_MAX {
            return;
        }
        self.entries.retain(|_, e| !e.is_forgotten(now));
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.retain(|_, e| e.is_locked(now));
        }
        if self.entries.len() >= ENTRIES_MAX {
            // All are locked: the one that ends first makes room.
            let first = self.entries.iter().min_by_key(|(_, e)| e.until);
            if let Some(key) = first.map(|(key, _)| key.clone()) {
                self.entries.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn key(ip: IpAddr) -> Key {
        (ip, Some("acme".into()))
    }

    fn fail(locks: &mut Lockouts, times: u32, now: Instant) -> Option<Duration> {
        (0..times).fold(None, |_, _| locks.failed(key(HERE), now))
    }

    #[test]
    fn five_failures_lock_for_a_minute_and_then_for_longer() {
        let (mut locks, start) = (Lockouts::default(), Instant::now());
        assert_eq!(fail(&mut locks, 4, start), None);
        assert!(!locks.is_locked(&key(HERE), start));
        assert_eq!(fail(&mut locks, 1, start), Some(FIRST_LOCK));
        assert!(locks.is_locked(&key(HERE), start + FIRST_LOCK - Duration::from_millis(1)));
        let after = start + FIRST_LOCK;
        assert!(!locks.is_locked(&key(HERE), after));
        assert_eq!(fail(&mut locks, 5, after), Some(FIRST_LOCK * 2));
        let mut now = after;
        for _ in 0..20 {
            now += LOCK_MAX;
            assert!(fail(&mut locks, 5, now).unwrap() <= LOCK_MAX);
        }
        assert_eq!(
            fail(&mut locks, 5, now + LOCK_MAX + MEMORY),
            Some(FIRST_LOCK)
        );
    }

    #[test]
    fn nobody_else_is_locked_out() {
        let (mut locks, now) = (Lockouts::default(), Instant::now());
        fail(&mut locks, 5, now);
        assert!(locks.is_locked(&key(HERE), now));
        assert!(!locks.is_locked(&key(THERE), now));
        assert!(!locks.is_locked(&(HERE, Some("other".into())), now));
        assert!(!locks.is_locked(&(HERE, None), now));
    }

    #[test]
    fn a_good_bind_forgets_the_failures_before_it() {
        let (mut locks, now) = (Lockouts::default(), Instant::now());
        fail(&mut locks, 4, now);
        locks.succeeded(&key(HERE));
        assert_eq!(fail(&mut locks, 4, now), None);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_locks() {
        let (mut locks, now) = (Lockouts::default(), Instant::now());
        fail(&mut locks, 5, now);
        for n in 0..2 * ENTRIES_MAX as u32 {
            locks.failed((IpAddr::from(n.to_be_bytes()), None), now);
        }
        assert!(locks.entries.len() <= ENTRIES_MAX);
        assert!(locks.is_locked(&key(HERE), now));
    }
}
