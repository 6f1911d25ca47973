//! Keeps sled's file within a few times of what it holds.
//!
//! sled 0.34 frees a segment that is no more than half live by moving its pages: one with each replacement of a page,
//! and what is left of one segment each time that its flusher looks (`FLUSH_EVERY_MS`). It takes the segments by their
//! place in the file, so that those far behind wait until no other does. Where much more is written than that keeps up
//! with, segments of which a twentieth is live wait by the hundred while the file grows. So after so much has been
//! written to a file that is no longer small, a page of ours is replaced again and again: each time sled moves one of
//! those that wait. All at once, because pages that are moved one after the other come to lie in segments that are
//! live throughout.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::engine::{Engine, SEGMENT_OCTETS, sled_error};
use super::shared::Shared;
use super::types::StoreError;

/// The tree of our page; readers of sled's files pass over what they do not know.
const TREE: &str = "clean";
const KEY: &[u8] = b"\0";
/// sled replaces a page with so many changes behind it (`PAGE_CONSOLIDATION_THRESHOLD`).
const CHANGES: u64 = 10;
/// Pages that may wait for each segment's worth of what was written: as many as were seen, most of them short index
/// entries.
const PAGES_OF_SEGMENT: u64 = 512;
/// When it is cleaned: after so much was written, or this part of the file, where the file is not small.
pub(super) const LIMITS: Limits = Limits {
    written: 64 << 20,
    file: 256 << 20,
};
const WRITTEN_PART: u64 = 8;
/// Pages that are moved before it is asked for a sync.
const ROUND: u64 = 32;
/// Of what is written to the trees, before it is asked for a sync: sled writes the pages around it anew.
const REUSE_OCTETS: usize = 128 << 10;

pub(super) struct Limits {
    written: u64,
    file: u64,
}

#[derive(Default)]
pub(super) struct Cleaning {
    /// Octets of ours since it was cleaned.
    written: AtomicU64,
    at_work: AtomicBool,
}

impl Cleaning {
    pub fn note_written(&self, octets: usize) {
        self.written.fetch_add(octets as u64, Ordering::Relaxed);
    }

    /// How much was written, where that is enough for a file of this size; to one caller, until it has `ended`.
    fn begins(&self, file: u64, limits: &Limits) -> Option<u64> {
        let written = self.written.load(Ordering::Relaxed);
        let enough = limits.written.max(file / WRITTEN_PART);
        let begins =
            written >= enough && file >= limits.file && !self.at_work.swap(true, Ordering::AcqRel);
        begins.then(|| self.written.swap(0, Ordering::Relaxed))
    }

    fn ended(&self) {
        self.at_work.store(false, Ordering::Release);
    }
}

/// Where it is time, in a thread of its own, beside which others write.
pub(super) fn clean_where_due(
    engine: &Arc<Engine>,
    shared: &Arc<Shared>,
    limits: &Limits,
    free_octets_min: u64,
) {
    let Some(written) = engine.cleaning.begins(engine.file_octets(), limits) else {
        return;
    };
    let mut left = written.div_ceil(SEGMENT_OCTETS as u64) * PAGES_OF_SEGMENT;
    let mut reuse = Reuse::begin(engine);
    let (held, stopped) = (Arc::downgrade(engine), shared.clone());
    let thread = std::thread::Builder::new().name("store-clean".into());
    let begun = thread.spawn(move || {
        // The store may end before this does.
        while let Some(engine) = held.upgrade() {
            // What is moved takes room before any is given back.
            let room = engine
                .free_octets()
                .is_ok_and(|free| free >= free_octets_min);
            let ends = stopped.closing.load(Ordering::Acquire) || stopped.check_running().is_err();
            if left == 0 || !room || ends {
                return engine.cleaning.ended();
            }
            reuse.wrote(REUSE_OCTETS);
            let moved = engine.move_pages(left.min(ROUND));
            if let Err(error) = moved.and_then(|()| reuse.sync_where_due(&engine)) {
                return stopped.stop(&error.to_string());
            }
            left = left.saturating_sub(ROUND);
        }
    });
    if let Err(error) = begun {
        engine.cleaning.ended();
        tracing::error!(%error, "the store's file is not cleaned yet");
    }
}

impl Engine {
    /// Replaces our page so often, with which sled moves as many of those that wait.
    fn move_pages(&self, pages: u64) -> Result<(), StoreError> {
        let tree = self.db.open_tree(TREE).map_err(sled_error)?;
        for n in 0..pages * CHANGES {
            tree.insert(KEY, &n.to_le_bytes()[..1])
                .map_err(sled_error)?;
        }
        Ok(())
    }
}

/// Syncs while much is written: sled writes over a segment that has become empty a whole segment later at the
/// earliest, and what it held before, now elsewhere, has to be on the disk by then. Where commits come, they see to it.
/// What is not known to be on the disk is what was written since the time before last that it was asked, at most.
pub(super) struct Reuse {
    /// Written since it was last asked.
    octets: usize,
    /// Commits that were on the disk then.
    commits: u64,
}

impl Reuse {
    pub fn begin(engine: &Engine) -> Reuse {
        Reuse {
            octets: 0,
            commits: engine.commits.load(Ordering::Relaxed),
        }
    }

    pub fn wrote(&mut self, octets: usize) {
        self.octets += octets;
    }

    pub fn sync_where_due(&mut self, engine: &Engine) -> Result<(), StoreError> {
        if self.octets < REUSE_OCTETS {
            return Ok(());
        }
        self.octets = 0;
        let commits = engine.commits.load(Ordering::Relaxed);
        // Of two the second has begun since it was last asked.
        if commits < self.commits + 2 {
            engine.sync()?;
        }
        self.commits = commits;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::engine::{Opening, Value};
    use super::super::journal::Journal;
    use super::super::keys::Key;
    use super::super::types::Probes;
    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::MessageId;

    fn unsynced() -> Opening {
        Opening {
            sync: false,
            ..Opening::new(Probes::default())
        }
    }

    /// Generations of whose octets a tenth stays; `after` is called behind each.
    fn write(directory: &Path, generations: u64, after: impl Fn(&Arc<Engine>)) -> Arc<Engine> {
        let (engine, mut journal): (_, Journal) = Engine::open(directory, unsynced()).unwrap();
        let (record, passing) = (Value::from(&[7; 400][..]), Value::from(&[7; 40_000][..]));
        for n in 0..generations {
            for commit in 0..20 {
                for place in 0..10 {
                    let at = Timestamp((n * 20 + commit) * 10 + place);
                    journal.put_record(MessageId::new(at, 1), record.clone());
                }
                journal.put(Key::from(&b"x"[..]), passing.clone(), false);
                journal.commit().unwrap();
            }
            journal.freeze(true);
            let generation = engine.frozen().unwrap();
            engine.write_behind(&generation, Vec::new()).unwrap();
            after(&engine);
        }
        engine
    }

    fn clean(engine: &Arc<Engine>, limits: &Limits, free_octets_min: u64) {
        let shared = Arc::new(Shared::default());
        clean_where_due(engine, &shared, limits, free_octets_min);
        while engine.cleaning.at_work.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        shared.check_running().unwrap();
    }

    const SMALL: Limits = Limits {
        written: 8 << 20,
        file: 16 << 20,
    };

    fn assert_all_there(engine: &Engine, generations: u64) {
        for n in 0..generations * 200 {
            let id = MessageId::new(Timestamp(n), 1);
            assert!(engine.record(id).unwrap().is_some(), "{id}");
        }
    }

    #[test]
    fn a_file_of_which_little_stays_does_not_grow_on() {
        let (directory, generations) = (tempfile::tempdir().unwrap(), 150);
        let engine = write(directory.path(), generations, |e| clean(e, &SMALL, 0));
        let kept = generations * 200 * 400;
        let octets = engine.file_octets();
        assert!(octets < 4 * kept, "{octets} octets for {kept}");
        assert_all_there(&engine, generations);
    }

    #[test]
    fn what_is_written_beside_it_is_there_after_reopening() {
        let (directory, generations) = (tempfile::tempdir().unwrap(), 40);
        let shared = Arc::new(Shared::default());
        let always = Limits {
            written: 1,
            file: 0,
        };
        let clean = |engine: &Arc<Engine>| clean_where_due(engine, &shared, &always, 0);
        drop(write(directory.path(), generations, clean));
        shared.check_running().unwrap();
        let (engine, _journal) = Engine::open(directory.path(), unsynced()).unwrap();
        assert_all_there(&engine, generations);
    }

    #[test]
    fn what_is_written_is_synced_unless_commits_are() {
        let directory = tempfile::tempdir().unwrap();
        let (probes, syncs) = Probes::counting();
        let (engine, mut journal) = Engine::open(directory.path(), Opening::new(probes)).unwrap();
        let mut reuse = Reuse::begin(&engine);
        let mut synced_after = |octets: usize| {
            let before = syncs.load(Ordering::Relaxed);
            reuse.wrote(octets);
            reuse.sync_where_due(&engine).unwrap();
            syncs.load(Ordering::Relaxed) - before
        };
        let mut commit = || {
            journal.put(Key::from(&b"x"[..]), Value::from(&[7][..]), false);
            journal.commit().unwrap();
        };
        assert_eq!(synced_after(REUSE_OCTETS - 1), 0);
        assert_eq!(synced_after(1), 1);
        commit();
        assert_eq!(synced_after(REUSE_OCTETS), 1, "it may have begun before");
        commit();
        commit();
        assert_eq!(synced_after(REUSE_OCTETS), 0);
        assert_eq!(synced_after(REUSE_OCTETS), 1);
    }

    #[test]
    fn it_is_cleaned_by_one_after_so_much_was_written() {
        let limits = Limits {
            written: 100,
            file: 1_000,
        };
        let cleaning = Cleaning::default();
        cleaning.note_written(99);
        assert_eq!(cleaning.begins(1_000, &limits), None, "too little");
        cleaning.note_written(51);
        assert_eq!(cleaning.begins(999, &limits), None, "a small file");
        assert_eq!(cleaning.begins(8_000, &limits), None, "a large file");
        assert_eq!(cleaning.begins(1_000, &limits), Some(150));
        cleaning.note_written(1_000);
        assert_eq!(cleaning.begins(1_000, &limits), None, "somebody is at it");
        cleaning.ended();
        assert_eq!(cleaning.begins(8_000, &limits), Some(1_000));
    }

    #[test]
    fn without_room_nothing_is_moved() {
        let directory = tempfile::tempdir().unwrap();
        let (engine, _journal) = Engine::open(directory.path(), unsynced()).unwrap();
        let limits = Limits {
            written: 0,
            file: 0,
        };
        clean(&engine, &limits, u64::MAX);
        let trees = engine.db.tree_names();
        assert!(!trees.iter().any(|name| name == TREE.as_bytes()));
    }
}
