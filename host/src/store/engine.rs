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

use std::borrow::Cow;
use std::cmp::Ordering::{Equal, Greater, Less};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};

use super::blocks::{self, Block};
use super::cleaning::{Cleaning, Reuse};
use super::journal::Journal;
use super::keys::{self, Key};
use super::overlay::{Generation, Overlay};
use super::sealed::{Header, PLAIN_ENTRIES};
use super::sealing::{Names, NamesKey, Seals};
use super::types::{Probes, StoreError};
use crate::domain::MessageId;

/// A value, shared with the readers.
pub(super) type Value = Arc<[u8]>;

pub(super) const DAY: u8 = b'D';

/// One of the plain entries: what is in no tree yet, or what is.
pub(super) enum Entry<'a> {
    Newer(Key, Value),
    Older(&'a [u8], &'a [u8]),
}

impl Entry<'_> {
    pub fn key(&self) -> &[u8] {
        match self {
            Entry::Newer(key, _) => key,
            Entry::Older(key, _) => key,
        }
    }

    pub fn value(&self) -> &[u8] {
        match self {
            Entry::Newer(_, value) => value,
            Entry::Older(_, value) => value,
        }
    }

    fn kept(self) -> (Key, Value) {
        match self {
            Entry::Newer(key, value) => (key, value),
            Entry::Older(key, value) => (key.into(), value.into()),
        }
    }
}

pub(super) struct Engine {
    pub db: sled::Db,
    /// Ours, on sled's file: for fdatasync.
    file: File,
    /// What seals octets on their way to the disk, and what stands for names in keys.
    pub seals: Option<Seals>,
    pub names: Names,
    pub main: sled::Tree,
    /// The generation that holds what was replayed.
    replayed: AtomicU64,
    days: Mutex<Days>,
    /// Told when a day's tree is gone.
    dropped: Condvar,
    pub overlay: RwLock<Overlay>,
    /// Told when the overlay has become smaller.
    pub written_behind: Condvar,
    pub waiting: Mutex<()>,
    probes: Probes,
    sync: bool,
    pub disk_octets: AtomicU64,
    /// Commits that are on the disk, and their octets.
    pub commits: AtomicU64,
    pub committed: AtomicU64,
    pub cleaning: Cleaning,
    directory: PathBuf,
}

/// The trees of days, and those days whose tree is being dropped: nothing of them is read any more.
struct Days {
    trees: BTreeMap<u32, sled::Tree>,
    going: BTreeSet<u32>,
}

pub(super) fn sled_error(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Corruption { .. } => StoreError::Corrupt("sled cannot read a page".into()),
        error => StoreError::Io(format!("sled: {error}")),
    }
}

/// A day may be dropped between taking its tree and reading it: nothing is there any more.
pub(super) fn gone_is_none<T>(read: sled::Result<Option<T>>) -> Result<Option<T>, StoreError> {
    match read {
        Err(sled::Error::CollectionNotFound(_)) => Ok(None),
        read => read.map_err(sled_error),
    }
}

/// How long the database may be held by somebody else before opening it is given up.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_LOOK: Duration = Duration::from_millis(20);

/// Attempts to take the database until one finds it free, or `None` after two seconds: who has it may be a
/// server that is just ending, or a child of one, which holds its descriptors until it runs its own program.
pub(super) fn wait_for_lock<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let given_up = Instant::now() + LOCK_PATIENCE;
    loop {
        match attempt() {
            None if Instant::now() < given_up => std::thread::sleep(LOCK_LOOK),
            ended => return ended,
        }
    }
}

fn open_database(config: &sled::Config, directory: &Path) -> Result<sled::Db, StoreError> {
    let opened = wait_for_lock(|| {
        // sled panics on some kinds of damage; that must end in a message, not in an abort.
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open())) {
            Ok(Err(error)) if is_locked(&error) => None,
            ended => Some(ended),
        }
    });
    match opened {
        Some(Ok(Ok(db))) => Ok(db),
        Some(Ok(Err(error))) => Err(StoreError::Io(format!("{}: {error}", directory.display()))),
        Some(Err(_)) => Err(StoreError::Corrupt(
            "sled could not recover its log: restore a copy of the directory".into(),
        )),
        None => Err(StoreError::Io(format!(
            "{}: another process has this database open",
            directory.display()
        ))),
    }
}

/// sled wraps the refusal in an error of kind `Other`, so that its text is all there is to tell it by.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(inner) if inner.to_string().contains("could not acquire lock"))
}

/// How the database is opened.
pub(super) struct Opening {
    pub cache_octets: u64,
    pub segment_octets: usize,
    pub sync: bool,
    pub probes: Probes,
    pub seals: Option<Seals>,
    /// What hashes names where it is sealed for the first time; else one is drawn.
    pub names_key: Option<NamesKey>,
}

impl Opening {
    pub fn new(probes: Probes) -> Opening {
        Opening {
            cache_octets: 32 << 20,
            segment_octets: SEGMENT_OCTETS,
            sync: true,
            probes,
            seals: None,
            names_key: None,
        }
    }
}

impl Engine {
    /// Opens or creates the database under `directory` and replays its journal.
    pub fn open(directory: &Path, opening: Opening) -> Result<(Arc<Engine>, Journal), StoreError> {
        let Opening {
            cache_octets,
            segment_octets,
            sync,
            probes,
            seals,
            names_key,
        } = opening;
        let created = !directory.join("db").exists();
        std::fs::create_dir_all(directory)
            .map_err(|e| StoreError::Io(format!("{}: {e}", directory.display())))?;
        let config = sled::Config::new()
            .path(directory)
            .cache_capacity(cache_octets)
            .segment_size(segment_octets)
            .flush_every_ms(Some(FLUSH_EVERY_MS));
        let db = open_database(&config, directory)?;
        let header = Header::read(&db)?;
        let seals = match (&header, seals) {
            (Some(header), None) => return Err(header.locked()),
            (_, seals) => seals,
        };
        let main = db.open_tree(PLAIN_ENTRIES).map_err(sled_error)?;
        let file = File::open(directory.join("db")).map_err(|e| StoreError::Io(e.to_string()))?;
        let mut engine = Engine {
            seals: None,
            names: Names::default(),
            replayed: AtomicU64::new(0),
            main,
            days: Mutex::new(Days {
                trees: day_trees(&db)?,
                going: BTreeSet::new(),
            }),
            dropped: Condvar::new(),
            file,
            overlay: RwLock::default(),
            written_behind: Condvar::new(),
            waiting: Mutex::new(()),
            probes,
            sync,
            disk_octets: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            cleaning: Cleaning::default(),
            directory: directory.to_owned(),
            db,
        };
        engine.sync()?;
        if created {
            sync_creation(directory)?;
        }
        match (header, seals) {
            (_, None) => {}
            (Some(header), Some(seals)) => engine.unlock(header, seals)?,
            (None, Some(seals)) => {
                engine = engine.with_empty_journal()?;
                engine.seal_all(seals, names_key)?;
            }
        }
        let engine = Arc::new(engine);
        let journal = Journal::replay(engine.clone())?;
        let first = engine.overlay.read().active.number;
        engine.replayed.store(first, Ordering::Relaxed);
        Ok((engine, journal))
    }

    /// Brings into the trees what the journal has.
    fn with_empty_journal(self) -> Result<Engine, StoreError> {
        let engine = Arc::new(self);
        let mut journal = Journal::replay(engine.clone())?;
        journal.freeze(true);
        if let Some(generation) = engine.frozen() {
            engine.write_behind(&generation, Vec::new())?;
        }
        drop(journal);
        let mut engine = Arc::into_inner(engine)
            .ok_or_else(|| StoreError::Io("the store is open elsewhere".into()))?;
        engine.overlay = RwLock::default();
        Ok(engine)
    }

    /// Whether all that was replayed at the opening is in the trees, and its journal gone.
    pub fn replayed_is_written(&self) -> bool {
        let first = self.replayed.load(Ordering::Relaxed);
        let overlay = self.overlay.read();
        let waits = overlay.frozen.as_ref().is_some_and(|g| g.number <= first);
        overlay.active.number > first && !waits
    }

    fn to_disk<'a>(&self, key: &[u8], value: &'a [u8]) -> Result<Cow<'a, [u8]>, StoreError> {
        let Some(seals) = &self.seals else {
            return Ok(Cow::Borrowed(value));
        };
        let mut octets = Vec::new();
        seals.seal(key, value, &mut octets)?;
        Ok(Cow::Owned(octets))
    }

    fn read_back(&self, key: &[u8], value: &[u8]) -> Result<Value, StoreError> {
        match &self.seals {
            Some(seals) => Ok(seals.open(key, value)?.into()),
            None => Ok(value.into()),
        }
    }

    /// Plain entries: the newest value of `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        if let Some(entry) = self.overlay.read().find(key) {
            return Ok(entry);
        }
        let found = match keys::idempotency_day(key) {
            None => {
                let found = self.main.get(key).map_err(sled_error)?;
                return found.map(|v| self.read_back(key, &v)).transpose();
            }
            Some(day) => match self.day(day, false)? {
                Some(tree) => gone_is_none(tree.get(key))?,
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
            Some(tree) => blocks::find(&tree, self.seals.as_ref(), id),
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
        let mut out = Vec::new();
        self.each(start, end, limit, |entry| out.push(entry.kept()))?;
        Ok(out)
    }

    /// The same, shown one by one.
    pub fn each(
        &self,
        start: &[u8],
        end: &[u8],
        limit: usize,
        mut show: impl FnMut(Entry<'_>),
    ) -> Result<(), StoreError> {
        if start >= end {
            return Ok(());
        }
        let (newer, complete_to) = self.overlay.read().range(start, end, limit);
        let mut newer = newer.into_iter().peekable();
        let mut tree = self.main.range(start..end);
        let mut older = tree.next().transpose().map_err(sled_error)?;
        let mut shown = 0;
        while shown < limit {
            let order = match (newer.peek(), &older) {
                (None, None) => break,
                (Some(_), None) => Less,
                (None, Some(_)) => Greater,
                (Some((a, _)), Some((b, _))) => (**a).cmp(b),
            };
            if order == Equal {
                older = tree.next().transpose().map_err(sled_error)?;
            }
            if order != Greater {
                // A removal hides the older entry and shows nothing.
                if let Some((key, Some(value))) = newer.next() {
                    show(Entry::Newer(key, value));
                    shown += 1;
                }
            } else if let Some((key, value)) = older.take() {
                if complete_to.as_ref().is_some_and(|to| *key > **to) {
                    break;
                }
                match &self.seals {
                    Some(seals) => show(Entry::Older(&key, &seals.open(&key, &value)?)),
                    None => show(Entry::Older(&key, &value)),
                }
                shown += 1;
                older = tree.next().transpose().map_err(sled_error)?;
            }
        }
        Ok(())
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
            .trees
            .range(..=last_day)
            .rev()
            .map(|(_, t)| t.clone())
            .collect();
        let mut from_trees = 0;
        for tree in trees {
            let full = blocks::before(
                (&tree, self.seals.as_ref()),
                before,
                since,
                limit - from_trees,
                &mut |id, value| {
                    from_trees += 1;
                    newest.entry(id).or_insert_with(|| value.into());
                },
            );
            if full? {
                break;
            }
        }
        Ok(newest.into_iter().rev().take(limit).collect())
    }

    /// Records that are in no tree yet.
    pub fn unwritten(&self) -> Vec<Value> {
        let overlay = self.overlay.read();
        let frozen = overlay.frozen.iter().flat_map(|g| g.records.values());
        frozen
            .chain(overlay.active.records.values())
            .cloned()
            .collect()
    }

    /// Days that have a tree.
    pub fn days(&self) -> Vec<u32> {
        self.days.lock().trees.keys().copied().collect()
    }

    /// Takes a day out of reading, before it is dropped; false where it has no tree, or where something of it
    /// waits to be written: that would bring it back.
    pub fn retire_day(&self, day: u32) -> bool {
        let overlay = self.overlay.read();
        if overlay.holds(day) {
            return false;
        }
        let mut days = self.days.lock();
        days.trees.remove(&day).is_some() && days.going.insert(day)
    }

    /// Drops a day that is retired, whole.
    pub fn drop_day(&self, day: u32) -> Result<(), StoreError> {
        let dropped = self.db.drop_tree(day_name(day)).map_err(sled_error);
        self.days.lock().going.remove(&day);
        self.dropped.notify_all();
        dropped.map(|_| ())
    }

    /// A generation is complete and waits to be written to the trees.
    pub fn frozen(&self) -> Option<Arc<Generation>> {
        self.overlay.read().frozen.clone()
    }

    /// Writes a complete generation to the trees, with `more` of plain entries that no journal has;
    /// syncs, forgets it and drops its journal.
    pub fn write_behind(
        &self,
        generation: &Generation,
        more: Vec<(Key, Option<Value>)>,
    ) -> Result<(), StoreError> {
        let mut reuse = Reuse::begin(self);
        let mut records = generation.records.iter().peekable();
        while let Some((first, _)) = records.peek() {
            let (day, bucket) = (first.timestamp().day(), blocks::bucket(**first));
            let tree = self
                .day(day, true)?
                .ok_or_else(|| StoreError::Io("no tree for the day".into()))?;
            let mut chain = blocks::load(&tree, self.seals.as_ref(), bucket)?;
            while let Some((id, value)) = records.next_if(|(id, _)| blocks::bucket(**id) == bucket)
            {
                Block::put(&mut chain, *id, value);
            }
            reuse.wrote(blocks::store(&tree, self.seals.as_ref(), bucket, &chain)?);
            reuse.sync_where_due(self)?;
        }
        for (key, entry) in &generation.plain {
            let (tree, value) = match keys::idempotency_day(key) {
                None => {
                    let value = entry.value.as_deref().map(|v| self.to_disk(key, v));
                    (self.main.clone(), value.transpose()?)
                }
                // A digest and an id: nothing to hide.
                Some(day) => match self.day(day, true)? {
                    Some(tree) => (tree, entry.value.as_deref().map(Cow::Borrowed)),
                    None => continue,
                },
            };
            match value {
                Some(value) => tree.insert(&**key, &*value).map_err(sled_error)?,
                None => tree.remove(&**key).map_err(sled_error)?,
            };
            reuse.wrote(ENTRY_OCTETS + entry.value.as_ref().map_or(0, |v| v.len()));
            reuse.sync_where_due(self)?;
        }
        for (key, value) in more {
            match value {
                Some(value) => {
                    let value = self.to_disk(&key, &value)?;
                    self.main.insert(&*key, &*value).map_err(sled_error)?
                }
                None => self.main.remove(&*key).map_err(sled_error)?,
            };
            reuse.wrote(ENTRY_OCTETS);
            reuse.sync_where_due(self)?;
        }
        self.cleaning.note_written(generation.octets);
        self.make_durable()?;
        self.overlay.write().frozen = None;
        drop(self.waiting.lock());
        self.written_behind.notify_all();
        for name in &generation.journal {
            self.db.drop_tree(name).map_err(sled_error)?;
        }
        Ok(())
    }

    /// sled's.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// sled's file alone.
    pub fn file_octets(&self) -> u64 {
        self.file.metadata().map_or(0, |m| m.len())
    }

    pub fn overlay_octets(&self) -> usize {
        let overlay = self.overlay.read();
        overlay.active.octets + overlay.frozen.as_ref().map_or(0, |g| g.octets)
    }

    pub fn free_octets(&self) -> std::io::Result<u64> {
        (self.probes.free_octets)(&self.directory)
    }

    /// What is free, where that is too little to write anything: some MiB of what new messages need.
    pub fn lacks_room(&self, free_octets_min: u64) -> Option<u64> {
        let enough = ROOM_OCTETS.min(free_octets_min / 4);
        self.free_octets().ok().filter(|free| *free < enough)
    }

    pub fn measure_disk(&self) {
        if let Ok(octets) = self.db.size_on_disk() {
            self.disk_octets.store(octets, Ordering::Relaxed);
        }
    }

    /// Brings to the disk what was written so far, but for large leaves.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(sled_error)?;
        if self.sync {
            (self.probes.sync)(&self.file)
                .map_err(|e| StoreError::Io(format!("fdatasync: {e}")))?;
        }
        Ok(())
    }

    /// sled puts a leaf that is larger than a quarter of a segment into a file of its own, which it
    /// never syncs. Rare, so that they are all synced again each time.
    pub fn sync_large_leaves(&self) -> Result<(), StoreError> {
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

    pub fn day(&self, day: u32, create: bool) -> Result<Option<sled::Tree>, StoreError> {
        let mut days = self.days.lock();
        if let Some(tree) = days.trees.get(&day) {
            return Ok(Some(tree.clone()));
        }
        if !create {
            return Ok(None);
        }
        // A clock that was set back accepts messages of a day that is just going: they are of its next life.
        while days.going.contains(&day) {
            self.dropped.wait(&mut days);
        }
        let tree = self.db.open_tree(day_name(day)).map_err(sled_error)?;
        days.trees.insert(day, tree.clone());
        Ok(Some(tree))
    }
}

/// Nothing is written with less free than this.
const ROOM_OCTETS: u64 = 4 << 20;

/// What sled writes anew for a plain entry, its neighbours with it, at the mean.
const ENTRY_OCTETS: usize = 1 << 10;

/// sled's flusher moves what is left of one segment each time, for half of this at most, so that up to ten segments a
/// second are given back. Each time it syncs the file too, also where nothing was written.
const FLUSH_EVERY_MS: u64 = 100;

/// A quarter of it is the largest leaf that sled keeps in its log.
pub(super) const SEGMENT_OCTETS: usize = 2 << 20;

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
