//! sled, made durable: one journal entry per group commit, trees written behind it. Owns the
//! database handle, the order of writes and what is not yet in the trees; knows keys and octets,
//! not messages.
//!
//! A commit is one entry in a journal tree, then sled's `flush`, then our own fdatasync of sled's
//! file (`flush` in sled 0.34 does not reach the disk on Linux). What it changed stays in memory,
//! in the *overlay*, and is written to the trees in sorted batches, a *generation* at a time; most
//! short-lived index entries never get that far. A generation's journal trees are dropped once its
//! content is synced. Opening replays what is left. Records are packed: all that were accepted in
//! one millisecond share a block, because sled's cost is per key.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex, RwLock};

use super::blocks::{self, Block};
use super::keys::{self, Key};
use super::types::{Probes, StoreError};
use crate::domain::MessageId;

/// A value, shared with the readers.
pub(super) type Value = Arc<[u8]>;

/// One journal entry is at most this; a larger commit is several entries, replayed whole or not at all.
const CHUNK_OCTETS: usize = 48 * 1024;
/// A journal tree is closed before sled begins to rewrite its leaf: at nine large entries.
const TREE_CHUNKS_LARGE: usize = 9;
const TREE_CHUNKS_SMALL: usize = 128;
const TREE_OCTETS_SMALL: usize = 64 * 1024;
/// A generation is closed at this size, this many journal trees, or by its age.
const GENERATION_OCTETS: usize = 8 << 20;
const GENERATION_TREES: usize = 64;
/// Commits wait for the trees beyond this: the bound of what is held in memory.
const OVERLAY_OCTETS_MAX: usize = 24 << 20;
/// What an overlay entry costs besides its octets.
const ENTRY_OVERHEAD: usize = 96;

const JOURNAL: u8 = b'j';
const DAY: u8 = b'D';

#[derive(Clone)]
struct Entry {
    /// `None`: removed.
    value: Option<Value>,
    /// No tree and no older generation holds this key, so removing it leaves nothing to remember.
    born_here: bool,
}

#[derive(Default)]
pub(super) struct Generation {
    number: u64,
    records: BTreeMap<MessageId, Value>,
    plain: BTreeMap<Key, Entry>,
    octets: usize,
    /// The journal trees that hold all of it.
    journal: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Overlay {
    active: Generation,
    frozen: Option<Arc<Generation>>,
}

pub(super) struct Engine {
    db: sled::Db,
    /// Ours, on sled's file: for fdatasync.
    file: File,
    main: sled::Tree,
    days: Mutex<BTreeMap<u32, sled::Tree>>,
    overlay: RwLock<Overlay>,
    written_behind: Condvar,
    waiting: Mutex<()>,
    probes: Probes,
    sync: bool,
    pub disk_octets: AtomicU64,
    directory: PathBuf,
}

/// The writing half, owned by the committer alone.
pub(super) struct Journal {
    engine: Arc<Engine>,
    buffer: Vec<u8>,
    sequence: u64,
    generation: u64,
    tree: Option<OpenTree>,
    trees: Vec<Vec<u8>>,
}

struct OpenTree {
    tree: sled::Tree,
    chunks: usize,
    octets: usize,
}

fn sled_error(error: sled::Error) -> StoreError {
    StoreError::Io(format!("sled: {error}"))
}

impl Engine {
    /// Opens or creates the database under `directory` and replays its journal.
    pub fn open(
        directory: &Path,
        cache_octets: u64,
        sync: bool,
        probes: Probes,
    ) -> Result<(Arc<Engine>, Journal), StoreError> {
        let created = !directory.join("db").exists();
        std::fs::create_dir_all(directory)
            .map_err(|e| StoreError::Io(format!("{}: {e}", directory.display())))?;
        let config = sled::Config::new()
            .path(directory)
            .cache_capacity(cache_octets)
            .segment_size(SEGMENT_OCTETS)
            .flush_every_ms(Some(1_000));
        // sled panics on some kinds of damage; that must end in a message, not in an abort.
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open()));
        let db = opened
            .map_err(|_| {
                StoreError::Corrupt(
                    "sled could not recover its log: restore a copy of the directory".into(),
                )
            })?
            .map_err(|e| StoreError::Io(format!("{}: {e}", directory.display())))?;
        let main = db.open_tree("main").map_err(sled_error)?;
        let file = File::open(directory.join("db")).map_err(|e| StoreError::Io(e.to_string()))?;
        let engine = Arc::new(Engine {
            main,
            days: Mutex::new(day_trees(&db)?),
            file,
            overlay: RwLock::default(),
            written_behind: Condvar::new(),
            waiting: Mutex::new(()),
            probes,
            sync,
            disk_octets: AtomicU64::new(0),
            directory: directory.to_owned(),
            db,
        });
        engine.db.flush().map_err(sled_error)?;
        engine.sync_file()?;
        if created {
            sync_creation(directory)?;
        }
        let journal = engine.replay()?;
        Ok((engine, journal))
    }

    /// Plain entries: the newest value of `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        if let Some(entry) = self.overlay.read().find(key) {
            return Ok(entry);
        }
        let found = match keys::idempotency_day(key) {
            None => self.main.get(key).map_err(sled_error)?,
            Some(day) => match self.day(day, false)? {
                Some(tree) => tree.get(key).map_err(sled_error)?,
                None => None,
            },
        };
        Ok(found.map(|v| Value::from(&*v)))
    }

    pub fn record(&self, id: MessageId) -> Result<Option<Value>, StoreError> {
        {
            let overlay = self.overlay.read();
            let hit = overlay.active.records.get(&id);
            if let Some(value) = hit.or_else(|| overlay.frozen.as_ref()?.records.get(&id)) {
                return Ok(Some(value.clone()));
            }
        }
        match self.day(id.timestamp().day(), false)? {
            Some(tree) => blocks::find(&tree, id).map_err(sled_error),
            None => Ok(None),
        }
    }

    /// Plain entries of the main tree from `start` on to `end`, in order, at most `limit`.
    pub fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, StoreError> {
        if start >= end {
            return Ok(Vec::new());
        }
        let (newer, complete_to) = self.overlay.read().range(start, end, limit);
        let mut out = Vec::new();
        let mut newer = newer.into_iter().peekable();
        let mut tree = self.main.range(start..end);
        let mut older = tree.next().transpose().map_err(sled_error)?;
        while out.len() < limit {
            let take_newer = match (newer.peek(), &older) {
                (None, None) => break,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some((a, _)), Some((b, _))) => {
                    if **a == **b {
                        older = tree.next().transpose().map_err(sled_error)?;
                        continue_with(&mut newer, &mut out);
                        continue;
                    }
                    **a < **b
                }
            };
            if take_newer {
                continue_with(&mut newer, &mut out);
            } else if let Some((key, value)) = older.take() {
                if complete_to.as_ref().is_some_and(|to| *key > **to) {
                    break;
                }
                out.push((Key::from(&*key), Value::from(&*value)));
                older = tree.next().transpose().map_err(sled_error)?;
            }
        }
        Ok(out)
    }

    pub fn scan_prefix(
        &self,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, StoreError> {
        let end = keys::after_prefix(prefix).unwrap_or_else(|| vec![0xFF; 64]);
        self.scan(prefix, &end, limit)
    }

    /// Records with ids below `before` and from `since` on, newest first; reads at most `limit` of them.
    pub fn records_before(
        &self,
        before: MessageId,
        since: MessageId,
        limit: usize,
    ) -> Result<Vec<(MessageId, Value)>, StoreError> {
        let mut newest: BTreeMap<MessageId, Value> = BTreeMap::new();
        {
            let overlay = self.overlay.read();
            for generation in overlay
                .frozen
                .as_deref()
                .into_iter()
                .chain([&overlay.active])
            {
                let range = generation.records.range(since..before).rev().take(limit);
                newest.extend(range.map(|(id, v)| (*id, v.clone())));
            }
        }
        let last_day = before.timestamp().day();
        let trees: Vec<sled::Tree> = self
            .days
            .lock()
            .range(..=last_day)
            .rev()
            .map(|(_, t)| t.clone())
            .collect();
        let mut from_trees = 0;
        for tree in trees {
            let full = blocks::before(
                &tree,
                before,
                since,
                limit - from_trees,
                &mut |id, value| {
                    from_trees += 1;
                    newest.entry(id).or_insert_with(|| value.into());
                },
            );
            if full.map_err(sled_error)? {
                break;
            }
        }
        Ok(newest.into_iter().rev().take(limit).collect())
    }

    /// Days that have a tree.
    pub fn days(&self) -> Vec<u32> {
        self.days.lock().keys().copied().collect()
    }

    /// Drops a day whole.
    pub fn drop_day(&self, day: u32) -> Result<(), StoreError> {
        let tree = self.days.lock().remove(&day);
        if tree.is_some() {
            self.db.drop_tree(day_name(day)).map_err(sled_error)?;
        }
        Ok(())
    }

    /// A generation is complete and waits to be written to the trees.
    pub fn frozen(&self) -> Option<Arc<Generation>> {
        self.overlay.read().frozen.clone()
    }

    /// Writes a complete generation to the trees, syncs, forgets it and drops its journal.
    pub fn write_behind(&self, generation: &Generation) -> Result<(), StoreError> {
        let mut records = generation.records.iter().peekable();
        while let Some((first, _)) = records.peek() {
            let (day, bucket) = (first.timestamp().day(), blocks::bucket(**first));
            let tree = self
                .day(day, true)?
                .ok_or_else(|| StoreError::Io("no tree for the day".into()))?;
            let mut chain = blocks::load(&tree, bucket).map_err(sled_error)?;
            while let Some((id, value)) = records.next_if(|(id, _)| blocks::bucket(**id) == bucket)
            {
                Block::put(&mut chain, *id, value);
            }
            blocks::store(&tree, bucket, &chain).map_err(sled_error)?;
        }
        for (key, entry) in &generation.plain {
            let tree = match keys::idempotency_day(key) {
                None => self.main.clone(),
                Some(day) => match self.day(day, true)? {
                    Some(tree) => tree,
                    None => continue,
                },
            };
            match &entry.value {
                Some(value) => tree.insert(&**key, &**value).map_err(sled_error)?,
                None => tree.remove(&**key).map_err(sled_error)?,
            };
        }
        self.db.flush().map_err(sled_error)?;
        self.sync_file()?;
        self.sync_large_leaves()?;
        self.overlay.write().frozen = None;
        drop(self.waiting.lock());
        self.written_behind.notify_all();
        for name in &generation.journal {
            self.db.drop_tree(name).map_err(sled_error)?;
        }
        Ok(())
    }

    pub fn overlay_octets(&self) -> usize {
        let overlay = self.overlay.read();
        overlay.active.octets + overlay.frozen.as_ref().map_or(0, |g| g.octets)
    }

    pub fn free_octets(&self) -> std::io::Result<u64> {
        (self.probes.free_octets)(&self.directory)
    }

    pub fn measure_disk(&self) {
        if let Ok(octets) = self.db.size_on_disk() {
            self.disk_octets.store(octets, Ordering::Relaxed);
        }
    }

    fn sync_file(&self) -> Result<(), StoreError> {
        if self.sync {
            (self.probes.sync)(&self.file)
                .map_err(|e| StoreError::Io(format!("fdatasync: {e}")))?;
        }
        Ok(())
    }

    /// sled puts a leaf that is larger than a quarter of a segment into a file of its own, which it
    /// never syncs. Rare, so that they are all synced again each time.
    fn sync_large_leaves(&self) -> Result<(), StoreError> {
        let sync = || -> std::io::Result<()> {
            let directory = self.directory.join("blobs");
            let mut found = false;
            for entry in std::fs::read_dir(&directory)? {
                match File::open(entry?.path()) {
                    Ok(file) => file.sync_all()?,
                    // sled has replaced it meanwhile.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
                found = true;
            }
            if found {
                File::open(&directory)?.sync_all()
            } else {
                Ok(())
            }
        };
        if !self.sync {
            return Ok(());
        }
        sync().map_err(|e| StoreError::Io(format!("fsync of sled's large leaves: {e}")))
    }

    fn day(&self, day: u32, create: bool) -> Result<Option<sled::Tree>, StoreError> {
        let mut days = self.days.lock();
        if let Some(tree) = days.get(&day) {
            return Ok(Some(tree.clone()));
        }
        if !create {
            return Ok(None);
        }
        let tree = self.db.open_tree(day_name(day)).map_err(sled_error)?;
        days.insert(day, tree.clone());
        Ok(Some(tree))
    }

    /// Brings every whole commit that is still in the journal into the overlay.
    fn replay(self: &Arc<Engine>) -> Result<Journal, StoreError> {
        let mut names: Vec<Vec<u8>> = self
            .db
            .tree_names()
            .iter()
            .map(|n| n.to_vec())
            .filter(|n| is_journal(n))
            .collect();
        names.sort();
        let mut journal = Journal {
            engine: self.clone(),
            buffer: Vec::new(),
            sequence: 0,
            generation: names.iter().map(|n| generation_of(n)).max().unwrap_or(0) + 1,
            tree: None,
            trees: names.clone(),
        };
        let mut partial = Vec::new();
        let mut overlay = self.overlay.write();
        for name in &names {
            let tree = self.db.open_tree(name).map_err(sled_error)?;
            for item in tree.iter() {
                let (_, chunk) = item.map_err(sled_error)?;
                let (sequence, last, payload) = read_chunk(&chunk).ok_or_else(|| {
                    StoreError::Corrupt("a journal entry fails its checksum".into())
                })?;
                if sequence != journal.sequence {
                    partial.clear();
                }
                journal.sequence = sequence;
                partial.extend_from_slice(payload);
                if last {
                    replay_commit(&partial, &mut overlay.active).ok_or_else(|| {
                        StoreError::Corrupt("a journal entry cannot be read".into())
                    })?;
                    partial.clear();
                }
            }
        }
        overlay.active.number = journal.generation;
        drop(overlay);
        Ok(journal)
    }
}

/// Moves on in the overlay's part of a scan; a removal hides the older entry and yields nothing.
fn continue_with(
    newer: &mut std::iter::Peekable<std::vec::IntoIter<(Key, Option<Value>)>>,
    out: &mut Vec<(Key, Value)>,
) {
    if let Some((key, Some(value))) = newer.next() {
        out.push((key, value));
    }
}

impl Overlay {
    /// `Some(None)`: removed.
    fn find(&self, key: &[u8]) -> Option<Option<Value>> {
        let entry = self
            .active
            .plain
            .get(key)
            .or_else(|| self.frozen.as_ref()?.plain.get(key))?;
        Some(entry.value.clone())
    }

    /// Entries from `start` to `end` with at most `limit` that hold a value, and, where that cut
    /// the range short, the key up to which they are complete.
    fn range(
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
    fn put(&mut self, key: Key, value: Value, fresh: bool) {
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

    fn remove(&mut self, key: &[u8]) {
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

    fn put_record(&mut self, id: MessageId, value: Value) {
        self.octets += value.len() + ENTRY_OVERHEAD;
        if let Some(old) = self.records.insert(id, value) {
            self.octets -= old.len() + ENTRY_OVERHEAD;
        }
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.plain.is_empty() && self.journal.is_empty()
    }
}

impl Journal {
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
            self.append(payload, n + 1 == chunks)?;
        }
        let octets = buffer.len();
        self.buffer = buffer;
        self.buffer.clear();
        self.buffer.shrink_to(1 << 20);
        self.engine.db.flush().map_err(sled_error)?;
        self.engine.sync_file()?;
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

    fn append(&mut self, payload: &[u8], last: bool) -> Result<(), StoreError> {
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
        let chunk = write_chunk(self.sequence, last, payload);
        open.octets += chunk.len();
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

/// A quarter of it is the largest leaf that sled keeps in its log.
const SEGMENT_OCTETS: usize = 2 << 20;

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

/// sequence u64, last u8, CRC-32 of both and the payload, payload.
fn write_chunk(sequence: u64, last: bool, payload: &[u8]) -> Vec<u8> {
    let mut chunk = Vec::with_capacity(13 + payload.len());
    chunk.extend_from_slice(&sequence.to_be_bytes());
    chunk.push(u8::from(last));
    let mut sum = crc32fast::Hasher::new();
    sum.update(&chunk);
    sum.update(payload);
    chunk.extend_from_slice(&sum.finalize().to_be_bytes());
    chunk.extend_from_slice(payload);
    chunk
}

fn read_chunk(chunk: &[u8]) -> Option<(u64, bool, &[u8])> {
    let (head, rest) = chunk.split_first_chunk::<9>()?;
    let (sum, payload) = rest.split_first_chunk::<4>()?;
    let mut expected = crc32fast::Hasher::new();
    expected.update(head);
    expected.update(payload);
    if expected.finalize() != u32::from_be_bytes(*sum) {
        return None;
    }
    Some((
        u64::from_be_bytes(*head.first_chunk()?),
        head[8] != 0,
        payload,
    ))
}

fn journal_name(generation: u64, n: usize) -> Vec<u8> {
    let n = u32::try_from(n).unwrap_or(u32::MAX);
    [&[JOURNAL][..], &generation.to_be_bytes(), &n.to_be_bytes()].concat()
}

fn is_journal(name: &[u8]) -> bool {
    name.len() == 13 && name[0] == JOURNAL
}

fn generation_of(name: &[u8]) -> u64 {
    name.get(1..9)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_be_bytes)
}

fn day_name(day: u32) -> [u8; 5] {
    let [a, b, c, d] = day.to_be_bytes();
    [DAY, a, b, c, d]
}

fn day_trees(db: &sled::Db) -> Result<BTreeMap<u32, sled::Tree>, StoreError> {
    let mut days = BTreeMap::new();
    for name in db.tree_names() {
        if let [DAY, a, b, c, d] = *name {
            days.insert(
                u32::from_be_bytes([a, b, c, d]),
                db.open_tree(&name).map_err(sled_error)?,
            );
        }
    }
    Ok(days)
}

/// A new file is only there after a power cut if its directory was synced too; sled does neither.
fn sync_creation(directory: &Path) -> Result<(), StoreError> {
    let sync = |path: &Path| File::open(path).and_then(|f| f.sync_all());
    let conf = directory.join("conf");
    let all = [Some(conf.as_path()), Some(directory), directory.parent()];
    for path in all
        .into_iter()
        .flatten()
        .filter(|p| !p.as_os_str().is_empty())
    {
        sync(path).map_err(|e| StoreError::Io(format!("fsync {}: {e}", path.display())))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
