//! Persistent state of plugins: what a store of it must do, and one that lives in memory. Knows
//! nothing of who asks; quotas and time to live come as arguments.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Clock, Timestamp};

/// Persistent state of plugins. `owner` is the entry's name, so that no key of one reaches another.
/// Calls come from async threads: an implementation answers from memory or nearly so.
pub trait StateStore: Send + Sync {
    fn get(&self, owner: &str, key: &str) -> Option<Vec<u8>>;
    /// `quota` is in bytes of keys and values over all of `owner`.
    fn set(
        &self,
        owner: &str,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        quota: u64,
    ) -> Result<(), StateError>;
    fn delete(&self, owner: &str, key: &str);
    /// The counter under `key`, zero where there is none.
    fn count(&self, owner: &str, key: &str) -> i64;
    /// Bytes that count towards `quota`; none where the store does not tell.
    fn used(&self, _owner: &str) -> Option<u64> {
        None
    }
    /// Adds to a counter that starts at zero and expires `ttl` after its first increment.
    fn increment(
        &self,
        owner: &str,
        key: &str,
        by: i64,
        ttl: Duration,
        quota: u64,
    ) -> Result<i64, StateError>;
}

/// Why state was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateError {
    /// The plugin's fault: it would hold more than it was granted.
    Quota { bytes: u64 },
    /// Ours: the store failed.
    Store(String),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::Quota { bytes } => write!(f, "grants.state.bytes = {bytes} is used up"),
            StateError::Store(why) => write!(f, "state cannot be written: {why}"),
        }
    }
}

impl std::error::Error for StateError {}

/// State that lives as long as the process: for previews, tests and servers without a data folder.
pub struct MemoryState {
    clock: Clock,
    all: Mutex<HashMap<String, HashMap<String, Value>>>,
}

struct Value {
    bytes: Vec<u8>,
    expires: Option<Timestamp>,
}

impl MemoryState {
    pub fn new(clock: Clock) -> MemoryState {
        MemoryState {
            clock,
            all: Mutex::new(HashMap::new()),
        }
    }
}

impl Value {
    fn live(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|at| at > now)
    }

    fn counter(&self) -> i64 {
        self.bytes
            .as_slice()
            .try_into()
            .map_or(0, i64::from_le_bytes)
    }
}

/// Writes `value`, or says that it does not fit; what has expired makes room first.
fn put(
    mine: &mut HashMap<String, Value>,
    key: &str,
    value: Value,
    now: Timestamp,
    quota: u64,
) -> Result<(), StateError> {
    let used = |mine: &HashMap<String, Value>| -> u64 {
        mine.iter()
            .filter(|(k, _)| *k != key)
            .map(|(k, v)| (k.len() + v.bytes.len()) as u64)
            .sum()
    };
    let wanted = (key.len() + value.bytes.len()) as u64;
    if used(mine).saturating_add(wanted) > quota {
        mine.retain(|_, v| v.live(now));
        if used(mine).saturating_add(wanted) > quota {
            return Err(StateError::Quota { bytes: quota });
        }
    }
    mine.insert(key.to_owned(), value);
    Ok(())
}

impl StateStore for MemoryState {
    fn get(&self, owner: &str, key: &str) -> Option<Vec<u8>> {
        let now = self.clock.now();
        let all = self.all.lock();
        let value = all.get(owner)?.get(key)?;
        value.live(now).then(|| value.bytes.clone())
    }

    fn set(
        &self,
        owner: &str,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        quota: u64,
    ) -> Result<(), StateError> {
        let now = self.clock.now();
        let value = Value {
            bytes: value.to_vec(),
            expires: ttl.map(|t| now.plus(t)),
        };
        let mut all = self.all.lock();
        put(
            all.entry(owner.to_owned()).or_default(),
            key,
            value,
            now,
            quota,
        )
    }

    fn delete(&self, owner: &str, key: &str) {
        if let Some(mine) = self.all.lock().get_mut(owner) {
            mine.remove(key);
        }
    }

    fn count(&self, owner: &str, key: &str) -> i64 {
        let now = self.clock.now();
        let all = self.all.lock();
        let value = all.get(owner).and_then(|mine| mine.get(key));
        value.filter(|v| v.live(now)).map_or(0, Value::counter)
    }

    fn used(&self, owner: &str) -> Option<u64> {
        let all = self.all.lock();
        let mine = all.get(owner).into_iter().flatten();
        Some(mine.map(|(k, v)| (k.len() + v.bytes.len()) as u64).sum())
    }

    fn increment(
        &self,
        owner: &str,
        key: &str,
        by: i64,
        ttl: Duration,
        quota: u64,
    ) -> Result<i64, StateError> {
        let now = self.clock.now();
        let mut all = self.all.lock();
        let mine = all.entry(owner.to_owned()).or_default();
        let (count, expires) = match mine.get(key).filter(|v| v.live(now)) {
            Some(v) => (v.counter(), v.expires),
            None => (0, Some(now.plus(ttl))),
        };
        let count = count.saturating_add(by);
        let value = Value {
            // As the store keeps it: a plugin may read its counter with `get`.
            bytes: count.to_le_bytes().to_vec(),
            expires,
        };
        put(mine, key, value, now, quota)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (MemoryState, Clock) {
        let clock = Clock::manual(Timestamp(1_000));
        (MemoryState::new(clock.clone()), clock)
    }

    #[test]
    fn no_key_of_one_plugin_reaches_another() {
        let (state, _) = state();
        state.set("a", "k", b"v", None, 100).unwrap();
        assert_eq!(state.get("b", "k"), None);
        assert_eq!(state.get("a", "k"), Some(b"v".to_vec()));
    }

    #[test]
    fn a_counter_expires_after_its_first_increment() {
        let (state, clock) = state();
        let second = Duration::from_secs(1);
        assert_eq!(state.increment("a", "k", 2, second, 100), Ok(2));
        clock.set(Timestamp(1_999));
        assert_eq!(state.increment("a", "k", 1, second, 100), Ok(3));
        clock.set(Timestamp(2_000));
        assert_eq!(state.count("a", "k"), 0);
        assert_eq!(state.increment("a", "k", 1, second, 100), Ok(1));
    }

    #[test]
    fn a_quota_counts_keys_and_values_and_expired_ones_make_room() {
        let (state, clock) = state();
        state
            .set("a", "k1", &[0; 8], Some(Duration::from_secs(1)), 20)
            .unwrap();
        assert_eq!(
            state.set("a", "k2", &[0; 9], None, 20),
            Err(StateError::Quota { bytes: 20 })
        );
        state
            .set("a", "k1", &[0; 18], Some(Duration::from_secs(1)), 20)
            .unwrap();
        assert_eq!((state.used("a"), state.used("b")), (Some(20), Some(0)));
        clock.set(Timestamp(3_000));
        assert_eq!(state.set("a", "k2", &[0; 9], None, 20), Ok(()));
    }
}
