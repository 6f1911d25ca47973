//! The writing half of the engine, owned by the committer alone: gathers the changes of a commit,
//! appends them to the journal as one entry, syncs; and, at opening, reads back what is there.
//!
//! Journal trees are small and many, because sled rewrites a leaf of large values again and again:
//! a tree is closed before that begins, and dropped whole once its generation is in the trees.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::engine::{Engine, Value, sled_error};
use super::keys::Key;
use super::overlay::Generation;
use super::sealing::{self, Seals};
use super::types::StoreError;
use crate::domain::MessageId;

/// One journal entry is at most this; a larger commit is several entries, replayed whole or not at all.
const CHUNK_OCTETS: usize = 48 * 1024;
/// Of a commit that is larger than half a segment, each so many are synced.
const SYNC_CHUNKS: usize = 20;
/// A journal tree is closed before sled begins to rewrite its leaf: at nine entries, where they are not so small that
/// more trees would cost more.
const TREE_CHUNKS_LARGE: usize = 9;
const TREE_CHUNKS_SMALL: usize = 128;
const TREE_OCTETS_SMALL: usize = 16 * 1024;
/// A generation is closed at this size, this many journal trees, or by its age.
const GENERATION_OCTETS: usize = 8 << 20;
const GENERATION_TREES: usize = 96;
/// Commits wait for the trees beyond this: the bound of what is held in memory.
const OVERLAY_OCTETS_MAX: usize = 24 << 20;

const JOURNAL: u8 = b'j';

/// The writing half, owned by the committer alone.
pub(super) struct Journal {
    engine: Arc<Engine>,
    buffer: Vec<u8>,
    sequence: u64,
    generation: u64,
    tree: Option<OpenTree>,
    trees: Vec<Vec<u8>>,
}

/// Puts commits together again, from chunks in their order.
#[derive(Default)]
pub(super) struct Replay {
    /// Of the last chunk.
    pub sequence: u64,
    partial: Vec<u8>,
    /// Whether `partial` has its commit's beginning. A crash between the drops of two trees of one
    /// generation leaves the end of a commit whose beginning, synced with all of its generation, is in
    /// the trees already: nothing of it is missing, and nothing of it can be read.
    whole: bool,
}

impl Replay {
    pub fn take(
        &mut self,
        chunk: &[u8],
        seals: Option<&Seals>,
        into: &mut Generation,
    ) -> Result<(), StoreError> {
        let (sequence, place, payload) = read_chunk(chunk)
            .ok_or_else(|| StoreError::Corrupt("a journal entry fails its checksum".into()))?;
        let payload = match (seals, place & SEALED) {
            (_, 0) => Cow::Borrowed(payload),
            (Some(seals), _) => Cow::Owned(seals.open(&chunk_place(sequence, place), payload)?),
            (None, _) => {
                let why = "a journal entry is sealed, and the store is not";
                return Err(StoreError::Corrupt(why.into()));
            }
        };
        if place & FIRST != 0 {
            self.partial.clear();
            self.whole = true;
        } else if sequence != self.sequence {
            self.whole = false;
        }
        self.sequence = sequence;
        if self.whole {
            self.partial.extend_from_slice(&payload);
        }
        if place & LAST != 0 && std::mem::take(&mut self.whole) {
            replay_commit(&self.partial, into)
                .ok_or_else(|| StoreError::Corrupt("a journal entry cannot be read".into()))?;
            self.partial.clear();
        }
        Ok(())
    }
}

/// The sequence of the commit that these octets are a chunk of.
pub(super) fn sequence_of(chunk: &[u8]) -> Option<u64> {
    read_chunk(chunk).map(|(sequence, _, _)| sequence)
}

struct OpenTree {
    tree: sled::Tree,
    chunks: usize,
    octets: usize,
}

impl Journal {
    /// Brings every whole commit that is still in the journal into the overlay.
    pub fn replay(engine: Arc<Engine>) -> Result<Journal, StoreError> {
        let mut names: Vec<Vec<u8>> = engine
            .db
            .tree_names()
            .iter()
            .map(|n| n.to_vec())
            .filter(|n| is_journal(n))
            .collect();
        names.sort();
        let mut journal = Journal {
            engine,
            buffer: Vec::new(),
            sequence: 0,
            generation: names.iter().map(|n| generation_of(n)).max().unwrap_or(0) + 1,
            tree: None,
            trees: names.clone(),
        };
        let mut replay = Replay::default();
        let engine = journal.engine.clone();
        let mut overlay = engine.overlay.write();
        for name in &names {
            let tree = engine.db.open_tree(name).map_err(sled_error)?;
            for item in tree.iter() {
                let (_, chunk) = item.map_err(sled_error)?;
                replay.take(&chunk, engine.seals.as_ref(), &mut overlay.active)?;
            }
        }
        journal.sequence = replay.sequence;
        overlay.active.number = journal.generation;
        drop(overlay);
        Ok(journal)
    }

    /// Writes an entry. `fresh`: this key was never written before, or its last entry was removed
    /// by the commit that is being made.
    pub fn put(&mut self, key: Key, value: Value, fresh: bool) {
        put_op(&mut self.buffer, OP_PUT, &key, &value);
        self.engine.overlay.write().active.put(key, value, fresh);
    }

    pub fn remove(&mut self, key: &[u8]) {
        put_op(&mut self.buffer, OP_REMOVE, key, &[]);
        self.engine.overlay.write().active.remove(key);
    }

    pub fn put_record(&mut self, id: MessageId, value: Value) {
        put_op(&mut self.buffer, OP_RECORD, &id.0.to_be_bytes(), &value);
        self.engine.overlay.write().active.put_record(id, value);
    }

    /// Remembers a segment that has reported; costs no write of its own.
    pub fn note_settled(&self, fingerprint: u64, id: MessageId) {
        let mut overlay = self.engine.overlay.write();
        overlay.active.note_settled(fingerprint, id);
    }

    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    pub fn set_sequence(&mut self, at_least: u64) {
        self.sequence = self.sequence.max(at_least);
    }

    pub fn is_clean(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Makes everything since the last commit durable, all of it or nothing.
    pub fn commit(&mut self) -> Result<usize, StoreError> {
        self.sequence += 1;
        let buffer = std::mem::take(&mut self.buffer);
        let chunks = buffer.chunks(CHUNK_OCTETS).count();
        for (n, payload) in buffer.chunks(CHUNK_OCTETS).enumerate() {
            let first = if n == 0 { FIRST } else { 0 };
            let last = if n + 1 == chunks { LAST } else { 0 };
            self.append(payload, first | last)?;
            // What a segment held that sled writes over has to be on the disk before: see `Reuse`.
            if (n + 1) % SYNC_CHUNKS == 0 && n + 1 < chunks {
                self.engine.sync()?;
            }
        }
        let octets = buffer.len();
        self.buffer = buffer;
        self.buffer.clear();
        self.buffer.shrink_to(1 << 20);
        self.engine.sync()?;
        self.engine.commits.fetch_add(1, Ordering::Relaxed);
        let committed = &self.engine.committed;
        committed.fetch_add(octets as u64, Ordering::Relaxed);
        Ok(octets)
    }

    /// Between commits: closes the generation where it is large enough (or `always`) and the one
    /// before it has been written. True where there is now one to write behind.
    pub fn freeze(&mut self, always: bool) -> bool {
        let mut overlay = self.engine.overlay.write();
        if overlay.frozen.is_some() {
            return false;
        }
        let large =
            overlay.active.octets >= GENERATION_OCTETS || self.trees.len() >= GENERATION_TREES;
        overlay.active.journal = std::mem::take(&mut self.trees);
        if !(large || always) || overlay.active.is_empty() {
            self.trees = std::mem::take(&mut overlay.active.journal);
            return false;
        }
        self.tree = None;
        self.generation += 1;
        let next = Generation {
            number: self.generation,
            ..Generation::default()
        };
        overlay.frozen = Some(Arc::new(std::mem::replace(&mut overlay.active, next)));
        true
    }

    /// Waits while memory holds more than it may. True where the wait was in vain for `patience`.
    pub fn throttle(&self, patience: std::time::Duration) -> bool {
        let mut guard = self.engine.waiting.lock();
        while self.engine.overlay_octets() > OVERLAY_OCTETS_MAX
            && self.engine.overlay.read().frozen.is_some()
        {
            if self
                .engine
                .written_behind
                .wait_for(&mut guard, patience)
                .timed_out()
            {
                return true;
            }
        }
        false
    }

    fn append(&mut self, payload: &[u8], place: u8) -> Result<(), StoreError> {
        let open = match self.tree.take() {
            Some(open) if open.has_room() => self.tree.insert(open),
            _ => {
                let name = journal_name(self.generation, self.trees.len());
                let tree = self.engine.db.open_tree(&name).map_err(sled_error)?;
                self.trees.push(name);
                self.tree.insert(OpenTree {
                    tree,
                    chunks: 0,
                    octets: 0,
                })
            }
        };
        let chunk = match &self.engine.seals {
            None => write_chunk(self.sequence, place, payload),
            Some(seals) => {
                let place = place | SEALED;
                let mut sealed = Vec::with_capacity(payload.len() + sealing::OVERHEAD);
                seals.seal(&chunk_place(self.sequence, place), payload, &mut sealed)?;
                write_chunk(self.sequence, place, &sealed)
            }
        };
        open.octets += chunk.len();
        self.engine.cleaning.note_written(chunk.len());
        let key = u32::try_from(open.chunks).unwrap_or(u32::MAX).to_be_bytes();
        open.chunks += 1;
        open.tree.insert(key, chunk).map_err(sled_error)?;
        Ok(())
    }
}

impl OpenTree {
    fn has_room(&self) -> bool {
        self.chunks < TREE_CHUNKS_LARGE
            || (self.octets < TREE_OCTETS_SMALL && self.chunks < TREE_CHUNKS_SMALL)
    }
}

const OP_PUT: u8 = 1;
const OP_REMOVE: u8 = 2;
const OP_RECORD: u8 = 3;

fn put_op(out: &mut Vec<u8>, op: u8, key: &[u8], value: &[u8]) {
    out.push(op);
    super::bytes::put_bytes(out, key);
    super::bytes::put_bytes(out, value);
}

fn replay_commit(ops: &[u8], into: &mut Generation) -> Option<()> {
    let mut reader = super::bytes::Reader::new(ops);
    while !reader.is_empty() {
        let op = reader.u8().ok()?;
        let (key, value) = (reader.bytes().ok()?, reader.bytes().ok()?);
        match op {
            OP_PUT => into.put(key.into(), value.into(), false),
            OP_REMOVE => into.remove(key),
            OP_RECORD => into.put_record(
                MessageId(u128::from_be_bytes(key.try_into().ok()?)),
                value.into(),
            ),
            _ => return None,
        }
    }
    Some(())
}

/// Where a chunk stands in its commit.
const LAST: u8 = 1;
const FIRST: u8 = 2;
/// Its payload is sealed.
const SEALED: u8 = 4;

fn chunk_place(sequence: u64, place: u8) -> [u8; 9] {
    let mut octets = [place; 9];
    octets[..8].copy_from_slice(&sequence.to_be_bytes());
    octets
}

/// sequence u64, place u8, CRC-32 of both and the payload, payload.
fn write_chunk(sequence: u64, place: u8, payload: &[u8]) -> Vec<u8> {
    let mut chunk = Vec::with_capacity(13 + payload.len());
    chunk.extend_from_slice(&sequence.to_be_bytes());
    chunk.push(place);
    let mut sum = crc32fast::Hasher::new();
    sum.update(&chunk);
    sum.update(payload);
    chunk.extend_from_slice(&sum.finalize().to_be_bytes());
    chunk.extend_from_slice(payload);
    chunk
}

fn read_chunk(chunk: &[u8]) -> Option<(u64, u8, &[u8])> {
    let (head, rest) = chunk.split_first_chunk::<9>()?;
    let (sum, payload) = rest.split_first_chunk::<4>()?;
    let mut expected = crc32fast::Hasher::new();
    expected.update(head);
    expected.update(payload);
    if expected.finalize() != u32::from_be_bytes(*sum) {
        return None;
    }
    Some((u64::from_be_bytes(*head.first_chunk()?), head[8], payload))
}

fn journal_name(generation: u64, n: usize) -> Vec<u8> {
    let n = u32::try_from(n).unwrap_or(u32::MAX);
    [&[JOURNAL][..], &generation.to_be_bytes(), &n.to_be_bytes()].concat()
}

pub(super) fn is_journal(name: &[u8]) -> bool {
    name.len() == 13 && name[0] == JOURNAL
}

fn generation_of(name: &[u8]) -> u64 {
    name.get(1..9)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::super::engine::Opening;
    use super::super::types::Probes;
    use super::*;

    #[test]
    fn a_large_commit_is_synced_as_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let (probes, syncs) = Probes::counting();
        let (_engine, mut journal) = Engine::open(directory.path(), Opening::new(probes)).unwrap();
        for (octets, expected) in [
            (10, 1),
            (SYNC_CHUNKS * CHUNK_OCTETS - 100, 1),
            (SYNC_CHUNKS * CHUNK_OCTETS + 100, 2),
            (3 * SYNC_CHUNKS * CHUNK_OCTETS, 4),
        ] {
            journal.put(Key::from(&b"x"[..]), vec![7; octets].into(), false);
            let before = syncs.load(Ordering::Relaxed);
            journal.commit().unwrap();
            let synced = syncs.load(Ordering::Relaxed) - before;
            assert_eq!(synced, expected, "{octets} octets");
        }
    }

    #[test]
    fn damaged_entries_are_refused() {
        let mut chunk = write_chunk(3, LAST, b"payload");
        assert_eq!(read_chunk(&chunk), Some((3, LAST, &b"payload"[..])));
        chunk[15] ^= 1;
        assert_eq!(read_chunk(&chunk), None);
        assert_eq!(read_chunk(b"short"), None);
    }
}
