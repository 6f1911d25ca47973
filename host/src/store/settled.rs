//! The memory of segments that have reported: a receipt that comes again finds its message here and no
//! orphan is made of it. Bounded, and kept over a restart without a write of its own: each generation
//! takes what was noted while it lasted to the trees, and what a crash leaves in the journal is read
//! out of the records there.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::engine::{Engine, Value};
use super::keys::{self, Key};
use super::overlay::Generation;
use super::read::is;
use super::records::{self, Kind};
use super::seeded::{BuildAsIs, Seed};
use super::types::StoreError;
use crate::clock::Timestamp;
use crate::domain::receipt::response_key;
use crate::domain::{Message, MessageId};

/// Segments that are remembered, in memory and on disk.
const SETTLED_MAX: usize = 200_000;
/// As long as an orphan would be kept.
const SETTLED_AGE: Duration = Duration::from_secs(72 * 3_600);
/// Entries of one piece on disk: sled likes small values.
const PIECE_MAX: usize = 512;
/// Fingerprint and message id.
const ENTRY_OCTETS: usize = 24;

/// Messages by the correlation keys of their segments that have reported.
pub(super) struct SettledReceipts {
    seed: Seed,
    new: HashMap<u64, MessageId, BuildAsIs>,
    old: HashMap<u64, MessageId, BuildAsIs>,
}

impl SettledReceipts {
    pub fn new(seed: Seed) -> SettledReceipts {
        SettledReceipts {
            seed,
            new: HashMap::default(),
            old: HashMap::default(),
        }
    }

    /// What was remembered when the last process ended; and, to be noted in the generation that is
    /// open, what it had not written.
    pub fn restore(
        &mut self,
        engine: &Engine,
        now: Timestamp,
    ) -> Result<Vec<(u64, MessageId)>, StoreError> {
        for (key, value) in engine.scan_prefix(keys::SETTLED, usize::MAX)? {
            let young = keys::settled_at(&key).is_some_and(|at| now.since(at) < SETTLED_AGE);
            if young {
                entries(&value).for_each(|(fingerprint, id)| self.remember(fingerprint, id));
            }
        }
        let mut unwritten = Vec::new();
        for record in engine.unwritten() {
            if !is(&record, Kind::Message) {
                continue;
            }
            // A damaged record is told of where it is asked for.
            let Ok(message) = records::decode_message(&record) else {
                continue;
            };
            for key in reported(&message) {
                unwritten.push((self.note(&key, message.id), message.id));
            }
        }
        Ok(unwritten)
    }

    /// Returns the key's fingerprint.
    pub fn note(&mut self, key: &[u8], id: MessageId) -> u64 {
        let fingerprint = self.seed.hash(&[key]);
        self.remember(fingerprint, id);
        fingerprint
    }

    fn remember(&mut self, fingerprint: u64, id: MessageId) {
        if self.new.len() >= SETTLED_MAX / 2 {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(fingerprint, id);
    }

    /// A collision costs a look at the wrong message, which has no such segment.
    pub fn find(&self, key: &[u8]) -> Option<MessageId> {
        let fingerprint = self.seed.hash(&[key]);
        let found = self.new.get(&fingerprint);
        found.or_else(|| self.old.get(&fingerprint)).copied()
    }
}

/// The correlation keys of a message's segments that have reported, at carriers that had it before too.
fn reported(message: &Message) -> impl Iterator<Item = Key> {
    let earlier = message.failed.iter().flat_map(|delivery| &delivery.parts);
    let parts = message.parts.iter().chain(earlier);
    parts.filter(|p| p.state.is_reported()).filter_map(|part| {
        let key = response_key(&part.carrier_message_id)?;
        Some(keys::correlation(&part.carrier, &key))
    })
}

fn entries(value: &[u8]) -> impl Iterator<Item = (u64, MessageId)> {
    value.chunks_exact(ENTRY_OCTETS).filter_map(|entry| {
        let (fingerprint, id) = entry.split_first_chunk::<8>()?;
        let id = u128::from_be_bytes(id.try_into().ok()?);
        Some((u64::from_be_bytes(*fingerprint), MessageId(id)))
    })
}

/// The pieces on disk, the oldest first. Owned by the thread that writes behind.
pub(super) struct SettledLog {
    pieces: VecDeque<(Key, usize)>,
    count: usize,
}

impl SettledLog {
    pub fn open(engine: &Engine) -> Result<SettledLog, StoreError> {
        let found = engine.scan_prefix(keys::SETTLED, usize::MAX)?;
        let pieces = found.into_iter();
        let pieces: VecDeque<_> = pieces
            .map(|(key, value)| (key, value.len() / ENTRY_OCTETS))
            .collect();
        Ok(SettledLog {
            count: pieces.iter().map(|(_, count)| count).sum(),
            pieces,
        })
    }

    /// What is to be written with this generation, and what may go.
    pub fn changes(
        &mut self,
        generation: &Generation,
        now: Timestamp,
    ) -> Vec<(Key, Option<Value>)> {
        let mut changes = Vec::new();
        for (n, piece) in generation.settled.chunks(PIECE_MAX).enumerate() {
            let mut octets = Vec::with_capacity(piece.len() * ENTRY_OCTETS);
            for (fingerprint, id) in piece {
                octets.extend_from_slice(&fingerprint.to_be_bytes());
                octets.extend_from_slice(&id.0.to_be_bytes());
            }
            let n = u16::try_from(n).unwrap_or(u16::MAX);
            let key = keys::settled(now, generation.number, n);
            self.count += piece.len();
            self.pieces.push_back((key.clone(), piece.len()));
            changes.push((key, Some(octets.into())));
        }
        let is_old =
            |key: &Key| keys::settled_at(key).is_none_or(|at| now.since(at) >= SETTLED_AGE);
        while let Some((key, count)) = self
            .pieces
            .pop_front_if(|(key, _)| self.count > SETTLED_MAX || is_old(key))
        {
            self.count -= count;
            changes.push((key, None));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn generation(number: u64, ids: std::ops::Range<usize>) -> Generation {
        Generation {
            number,
            settled: ids.map(|n| (n as u64, MessageId(n as u128))).collect(),
            ..Generation::default()
        }
    }

    #[test]
    fn what_is_on_disk_is_bounded_and_goes_with_age() {
        let mut log = SettledLog {
            pieces: VecDeque::new(),
            count: 0,
        };
        let mut disk = std::collections::BTreeMap::new();
        let mut apply = |changes: Vec<(Key, Option<Value>)>| {
            for (key, value) in changes {
                match value {
                    Some(value) => drop(disk.insert(key, value)),
                    None => assert!(disk.remove(&key).is_some()),
                }
            }
            let on_disk = disk.values().map(|v| entries(v).count());
            on_disk.sum::<usize>()
        };
        for n in 0..30 {
            let at = NOW.plus(Duration::from_secs(n));
            let generation = generation(n, 0..10_000);
            assert!(apply(log.changes(&generation, at)) <= SETTLED_MAX);
        }
        let late = NOW.plus(SETTLED_AGE + Duration::from_secs(60));
        assert_eq!(apply(log.changes(&generation(31, 0..700), late)), 700);
        assert_eq!((log.pieces.len(), log.count), (2, 700));
    }

    #[test]
    fn memory_is_bounded_and_keeps_the_newest() {
        let mut settled = SettledReceipts::new(Seed(7));
        for n in 0..SETTLED_MAX as u128 * 2 {
            settled.note(&n.to_be_bytes(), MessageId(n));
        }
        assert!(settled.new.len() + settled.old.len() <= SETTLED_MAX);
        let newest = SETTLED_MAX as u128 * 2 - 1;
        assert_eq!(settled.find(&newest.to_be_bytes()), Some(MessageId(newest)));
        assert_eq!(settled.find(&0u128.to_be_bytes()), None);
    }
}
