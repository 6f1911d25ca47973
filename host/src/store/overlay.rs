//! What is committed but not in the trees yet: generations of changes, in memory, over which every
//! read looks first. Knows keys and values, neither sled nor what they mean.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::engine::Value;
use super::keys::Key;
use crate::domain::MessageId;

const DAY_MS: u64 = 86_400_000;
/// What an overlay entry costs besides its octets.
const ENTRY_OVERHEAD: usize = 96;

#[derive(Clone)]
pub(super) struct Entry {
    /// `None`: removed.
    pub value: Option<Value>,
    /// No tree and no older generation holds this key, so removing it leaves nothing to remember.
    pub born_here: bool,
}

#[derive(Default)]
pub(super) struct Generation {
    pub number: u64,
    pub records: BTreeMap<MessageId, Value>,
    pub plain: BTreeMap<Key, Entry>,
    /// Segments that have reported, by the fingerprint of their correlation key. They are in no journal:
    /// what a crash leaves of them is read out of the records.
    pub settled: Vec<(u64, MessageId)>,
    pub octets: usize,
    /// The journal trees that hold all of it.
    pub journal: Vec<Vec<u8>>,
}

#[derive(Default)]
pub(super) struct Overlay {
    pub active: Generation,
    pub frozen: Option<Arc<Generation>>,
}

impl Overlay {
    /// Whether a record that was accepted on this day is among what waits to be written.
    pub fn holds(&self, day: u32) -> bool {
        let first = MessageId((u128::from(day) * u128::from(DAY_MS)) << 80);
        let after = MessageId(((u128::from(day) + 1) * u128::from(DAY_MS)) << 80);
        let mut generations = self.frozen.as_deref().into_iter().chain([&self.active]);
        generations.any(|g| g.records.range(first..after).next().is_some())
    }

    /// `Some(None)`: removed.
    pub fn find(&self, key: &[u8]) -> Option<Option<Value>> {
        let entry = self
            .active
            .plain
            .get(key)
            .or_else(|| self.frozen.as_ref()?.plain.get(key))?;
        Some(entry.value.clone())
    }

    /// Entries from `start` to `end` with at most `limit` that hold a value, and, where that cut
    /// the range short, the key up to which they are complete.
    pub fn range(
        &self,
        start: &[u8],
        end: &[u8],
        limit: usize,
    ) -> (Vec<(Key, Option<Value>)>, Option<Key>) {
        use std::ops::Bound::{Excluded, Included};
        let bounds = (Included(start), Excluded(end));
        let mut active = self.active.plain.range::<[u8], _>(bounds).peekable();
        let mut frozen = self
            .frozen
            .as_ref()
            .map(|g| g.plain.range::<[u8], _>(bounds));
        let mut older = frozen.as_mut().and_then(Iterator::next);
        let (mut out, mut values) = (Vec::new(), 0);
        loop {
            let (key, entry) = match (active.peek().copied(), older) {
                (None, None) => return (out, None),
                (Some(a), None) => {
                    active.next();
                    a
                }
                (Some(a), Some(b)) if a.0 <= b.0 => {
                    active.next();
                    if a.0 == b.0 {
                        older = frozen.as_mut().and_then(Iterator::next);
                    }
                    a
                }
                (_, Some(b)) => {
                    older = frozen.as_mut().and_then(Iterator::next);
                    b
                }
            };
            values += usize::from(entry.value.is_some());
            out.push((key.clone(), entry.value.clone()));
            if values >= limit {
                return (out, Some(key.clone()));
            }
        }
    }
}

impl Generation {
    pub fn put(&mut self, key: Key, value: Value, fresh: bool) {
        self.octets += key.len() + value.len() + ENTRY_OVERHEAD;
        match self.plain.entry(key) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Entry {
                    value: Some(value),
                    born_here: fresh,
                });
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                self.octets -= entry.key().len()
                    + ENTRY_OVERHEAD
                    + entry.get().value.as_ref().map_or(0, |v| v.len());
                entry.get_mut().value = Some(value);
            }
        }
    }

    pub fn remove(&mut self, key: &[u8]) {
        match self.plain.get_mut(key) {
            Some(entry) if entry.born_here => {
                self.octets -=
                    key.len() + ENTRY_OVERHEAD + entry.value.as_ref().map_or(0, |v| v.len());
                self.plain.remove(key);
            }
            Some(entry) => {
                self.octets -= entry.value.take().map_or(0, |v| v.len());
            }
            None => {
                self.octets += key.len() + ENTRY_OVERHEAD;
                self.plain.insert(
                    key.into(),
                    Entry {
                        value: None,
                        born_here: false,
                    },
                );
            }
        }
    }

    pub fn note_settled(&mut self, fingerprint: u64, id: MessageId) {
        self.octets += size_of::<(u64, MessageId)>();
        self.settled.push((fingerprint, id));
    }

    pub fn put_record(&mut self, id: MessageId, value: Value) {
        self.octets += value.len() + ENTRY_OVERHEAD;
        if let Some(old) = self.records.insert(id, value) {
            self.octets -= old.len() + ENTRY_OVERHEAD;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.plain.is_empty() && self.journal.is_empty()
    }
}
