//! Plugins' key-value state: in memory, bounded per namespace, written behind by the committer.
//! Answers at once, because plugins ask during a decision; a crash loses what was set in the last
//! moment. Who may use which namespace is decided above.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;

use super::types::StoreError;
use crate::clock::Timestamp;

/// What a key's bookkeeping counts towards the limit.
const ENTRY_OCTETS: usize = 32;

pub(super) type Change = (String, String, Option<(Timestamp, Vec<u8>)>);

pub(super) struct PluginState {
    octets_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    namespaces: HashMap<String, Namespace>,
    /// Keys that changed since they were written, each once.
    changed: BTreeMap<(String, String), ()>,
}

#[derive(Default)]
struct Namespace {
    values: HashMap<String, (Timestamp, Vec<u8>)>,
    octets: usize,
}

impl PluginState {
    pub fn new(octets_max: usize) -> PluginState {
        PluginState {
            octets_max,
            inner: Mutex::default(),
        }
    }

    pub fn get(&self, namespace: &str, key: &str, now: Timestamp) -> Option<Vec<u8>> {
        let inner = self.inner.lock();
        let (expires, value) = inner.namespaces.get(namespace)?.values.get(key)?;
        (*expires > now).then(|| value.clone())
    }

    /// True where the committer should be woken: nothing waited to be written before.
    pub fn set(
        &self,
        namespace: &str,
        key: &str,
        value: Vec<u8>,
        expires: Timestamp,
        now: Timestamp,
        quota: usize,
    ) -> Result<bool, StoreError> {
        let octets_max = quota.min(self.octets_max);
        let mut inner = self.inner.lock();
        inner.put(namespace, key, value, expires, now, octets_max)?;
        Ok(inner.note(namespace, key))
    }

    /// Octets that count towards the namespace's limit.
    pub fn used(&self, namespace: &str) -> usize {
        let inner = self.inner.lock();
        inner.namespaces.get(namespace).map_or(0, |n| n.octets)
    }

    pub fn delete(&self, namespace: &str, key: &str) -> bool {
        let mut inner = self.inner.lock();
        let gone = inner
            .namespaces
            .get_mut(namespace)
            .is_some_and(|n| n.remove(key));
        gone && inner.note(namespace, key)
    }

    /// Adds to a number of eight octets, little-endian; a missing, expired or other value counts as 0.
    pub fn increment(
        &self,
        namespace: &str,
        key: &str,
        by: i64,
        expires: Timestamp,
        now: Timestamp,
        quota: usize,
    ) -> Result<(i64, bool), StoreError> {
        let octets_max = quota.min(self.octets_max);
        let mut inner = self.inner.lock();
        let old = inner
            .namespaces
            .get(namespace)
            .and_then(|n| n.values.get(key))
            .filter(|(e, _)| *e > now);
        let (expires, old) = match old {
            Some((kept, value)) => (
                *kept,
                value.as_slice().try_into().map_or(0, i64::from_le_bytes),
            ),
            None => (expires, 0),
        };
        let new = old.saturating_add(by);
        inner.put(
            namespace,
            key,
            new.to_le_bytes().to_vec(),
            expires,
            now,
            octets_max,
        )?;
        Ok((new, inner.note(namespace, key)))
    }

    pub fn restore(
        &self,
        namespace: &str,
        key: &str,
        value: Vec<u8>,
        expires: Timestamp,
        now: Timestamp,
    ) {
        // What was within the limit when it was written is kept even if the limit was lowered.
        let _ = self
            .inner
            .lock()
            .put(namespace, key, value, expires, now, usize::MAX);
    }

    /// What is to be written: the current value of each key that changed.
    pub fn take_changes(&self) -> Vec<Change> {
        let mut inner = self.inner.lock();
        if inner.changed.is_empty() {
            return Vec::new();
        }
        let changed = std::mem::take(&mut inner.changed);
        let current = |(namespace, key): (String, String)| {
            let value = inner
                .namespaces
                .get(&namespace)
                .and_then(|n| n.values.get(&key))
                .cloned();
            (namespace, key, value)
        };
        changed.into_keys().map(current).collect()
    }

    /// Removes what has expired.
    pub fn sweep(&self, now: Timestamp) {
        let mut inner = self.inner.lock();
        let mut expired = Vec::new();
        for (name, namespace) in &inner.namespaces {
            let old = namespace
                .values
                .iter()
                .filter(|(_, (expires, _))| *expires <= now);
            expired.extend(old.map(|(key, _)| (name.clone(), key.clone())));
        }
        for (name, key) in expired {
            inner.namespaces.get_mut(&name).map(|n| n.remove(&key));
            inner.changed.insert((name, key), ());
        }
    }
}

impl Inner {
    fn note(&mut self, namespace: &str, key: &str) -> bool {
        let first = self.changed.is_empty();
        self.changed
            .insert((namespace.to_owned(), key.to_owned()), ());
        first
    }

    fn put(
        &mut self,
        namespace: &str,
        key: &str,
        value: Vec<u8>,
        expires: Timestamp,
        now: Timestamp,
        octets_max: usize,
    ) -> Result<(), StoreError> {
        let space = self.namespaces.entry(namespace.to_owned()).or_default();
        let new = key.len() + value.len() + ENTRY_OCTETS;
        let old = space
            .values
            .get(key)
            .map_or(0, |(_, v)| key.len() + v.len() + ENTRY_OCTETS);
        if space.octets - old + new > octets_max {
            let expired: Vec<String> = space
                .values
                .iter()
                .filter(|(k, (e, _))| *e <= now && *k != key)
                .map(|(k, _)| k.clone())
                .collect();
            for key in expired {
                space.remove(&key);
                self.changed.insert((namespace.to_owned(), key), ());
            }
            let old = space
                .values
                .get(key)
                .map_or(0, |(_, v)| key.len() + v.len() + ENTRY_OCTETS);
            if space.octets - old + new > octets_max {
                return Err(StoreError::Limit(format!(
                    "the state of {namespace} would exceed its limit of {octets_max} octets"
                )));
            }
        }
        space.remove(key);
        space.octets += new;
        space.values.insert(key.to_owned(), (expires, value));
        Ok(())
    }
}

impl Namespace {
    fn remove(&mut self, key: &str) -> bool {
        let old = self.values.remove(key);
        if let Some((_, value)) = &old {
            self.octets -= key.len() + value.len() + ENTRY_OCTETS;
        }
        old.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);
    const LATER: Timestamp = Timestamp(2_000);

    #[test]
    fn values_end_with_their_time() {
        let state = PluginState::new(1_000);
        state
            .set("a", "k", b"v".to_vec(), LATER, NOW, usize::MAX)
            .unwrap();
        assert_eq!(state.get("a", "k", NOW), Some(b"v".to_vec()));
        assert_eq!(state.get("a", "k", LATER), None);
        assert_eq!(state.get("b", "k", NOW), None);
    }

    #[test]
    fn a_namespace_beyond_its_limit_is_refused_and_makes_room_by_what_expired() {
        let state = PluginState::new(100);
        state
            .set("a", "first", vec![0; 40], LATER, NOW, usize::MAX)
            .unwrap();
        let refused = state.set("a", "second", vec![0; 40], LATER, NOW, usize::MAX);
        assert!(matches!(refused, Err(StoreError::Limit(_))));
        assert!(
            state
                .set("b", "second", vec![0; 40], LATER, NOW, usize::MAX)
                .is_ok()
        );
        assert!(
            state
                .set(
                    "a",
                    "second",
                    vec![0; 40],
                    Timestamp(3_000),
                    LATER,
                    usize::MAX
                )
                .is_ok()
        );
        let own = state.set("c", "third", vec![0; 40], LATER, NOW, 30);
        assert!(matches!(own, Err(StoreError::Limit(_))));
    }

    #[test]
    fn a_counter_keeps_the_end_it_began_with() {
        let state = PluginState::new(1_000);
        assert_eq!(
            state
                .increment("a", "n", 2, LATER, NOW, usize::MAX)
                .unwrap()
                .0,
            2
        );
        assert_eq!(
            state
                .increment("a", "n", 3, Timestamp(9_000), NOW, usize::MAX)
                .unwrap()
                .0,
            5
        );
        assert_eq!(
            state
                .increment("a", "n", 1, Timestamp(9_000), LATER, usize::MAX)
                .unwrap()
                .0,
            1
        );
    }

    #[test]
    fn each_changed_key_is_written_once_with_its_last_value() {
        let state = PluginState::new(1_000);
        assert!(
            state
                .set("a", "k", b"1".to_vec(), LATER, NOW, usize::MAX)
                .unwrap()
        );
        assert!(
            !state
                .set("a", "k", b"2".to_vec(), LATER, NOW, usize::MAX)
                .unwrap()
        );
        state
            .set("a", "gone", b"x".to_vec(), LATER, NOW, usize::MAX)
            .unwrap();
        state.delete("a", "gone");
        let changes = state.take_changes();
        assert_eq!(
            changes,
            vec![
                ("a".into(), "gone".into(), None),
                ("a".into(), "k".into(), Some((LATER, b"2".to_vec()))),
            ]
        );
        assert!(state.take_changes().is_empty());
    }
}
