//! Keeps short what a start reads. sled 0.34 notes where its pages are only as it opens, so that the next start reads
//! all of the log that was written since: of a server that ran for a month, the whole file, twice with our own check.
//! Here the note is brought up to date while the store is in use (`salvage::checkpoint`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::engine::Engine;
use super::open::Work;
use super::salvage;
use super::shared::Shared;
use super::types::StoreError;

/// Between two segments, so that whoever has work for the processor gets it.
const BREATH: Duration = Duration::from_millis(5);

/// Whatever is committed is in the log once at least: how often that is looked at before there can be enough.
const LOOKS: u64 = 8;

pub(super) struct Checkpoints {
    /// Of new log, before it is worth it.
    pub least_octets: u64,
    pub free_octets_min: u64,
    pub work: Work,
    at_work: Arc<AtomicBool>,
    /// Octets that were committed when it was looked last.
    looked_at: AtomicU64,
    /// Why there was none, where that was said already.
    told: Arc<Mutex<Option<String>>>,
}

impl Checkpoints {
    pub fn new(least_octets: u64, free_octets_min: u64, work: Work) -> Checkpoints {
        Checkpoints {
            least_octets,
            free_octets_min,
            work,
            at_work: Arc::default(),
            looked_at: AtomicU64::new(0),
            told: Arc::default(),
        }
    }

    /// Makes one where there is enough new log; in a thread of its own, where threads do the store's work.
    pub fn make_where_due(&self, engine: &Arc<Engine>, shared: &Arc<Shared>) {
        let committed = engine.committed.load(Ordering::Relaxed);
        let since = committed - self.looked_at.load(Ordering::Relaxed);
        if since < self.least_octets / LOOKS
            || engine.lacks_room(self.free_octets_min).is_some()
            || self.at_work.swap(true, Ordering::AcqRel)
        {
            return;
        }
        self.looked_at.store(committed, Ordering::Relaxed);
        let (engine, shared) = (engine.clone(), shared.clone());
        let (least, at_work, told) = (self.least_octets, self.at_work.clone(), self.told.clone());
        let make = move |breath: Duration| {
            let made = make(&engine, &shared, least, breath);
            let why = made.err().map(|error| error.to_string());
            if let Some(why) = why.as_ref().filter(|why| told.lock().as_ref() != Some(why)) {
                tracing::error!(
                    why,
                    "no checkpoint: the next start reads more than it had to"
                );
            }
            *told.lock() = why;
            at_work.store(false, Ordering::Release);
        };
        match self.work {
            Work::Task => make(Duration::ZERO),
            Work::Threads => {
                let thread = std::thread::Builder::new().name("store-checkpoint".into());
                if let Err(error) = thread.spawn(move || make(BREATH)) {
                    self.at_work.store(false, Ordering::Release);
                    tracing::error!(%error, "no thread for a checkpoint");
                }
            }
        }
    }
}

/// What cannot be written is tried again; only a failed sync stops the store.
fn make(engine: &Engine, shared: &Shared, least: u64, breath: Duration) -> Result<(), StoreError> {
    let sync = || {
        engine
            .sync()
            .inspect_err(|error| shared.stop(&error.to_string()))
    };
    let goes_on = || {
        std::thread::sleep(breath);
        !shared.closing.load(Ordering::Acquire) && shared.check_running().is_ok()
    };
    if salvage::checkpoint(engine.directory(), least, sync, goes_on)? {
        shared.checkpoints.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::super::engine::{Opening, Value};
    use super::super::journal::Journal;
    use super::super::keys::Key;
    use super::super::types::Probes;
    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::MessageId;

    fn small() -> Opening {
        Opening {
            cache_octets: 1 << 20,
            segment_octets: 64 << 10,
            sync: false,
            ..Opening::new(Probes::default())
        }
    }

    /// Messages that are written, changed and forgotten, generations of them, over segments that are written over
    /// again and again.
    fn live(engine: &Engine, journal: &mut Journal, rng: &mut StdRng) {
        for _ in 0..rng.random_range(1..40) {
            for _ in 0..rng.random_range(1..30) {
                let n: u64 = rng.random_range(0..400);
                let (key, octets) = (n.to_be_bytes(), rng.random_range(0..1_500));
                match rng.random_range(0..4) {
                    0 => journal.remove(&key),
                    1 => {
                        let id = MessageId::new(Timestamp(n * 7), 1);
                        journal.put_record(id, Value::from(&vec![n as u8; octets][..]));
                    }
                    _ => journal.put(
                        Key::from(&key[..]),
                        Value::from(&vec![n as u8; octets][..]),
                        false,
                    ),
                }
            }
            journal.commit().unwrap();
            if rng.random_range(0..3) == 0 {
                journal.freeze(true);
                if let Some(generation) = engine.frozen() {
                    engine.write_behind(&generation, Vec::new()).unwrap();
                }
            }
        }
    }

    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => copy(&entry.path(), &target),
                false => drop(std::fs::copy(entry.path(), target).unwrap()),
            }
        }
    }

    fn snapshots(directory: &Path) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
        let snapshots = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name.starts_with("snap.")).then(|| (name, std::fs::read(entry.path()).unwrap()))
        });
        snapshots.collect()
    }

    /// Trees with what is in them, and sled's own snapshot.
    type Made = (
        Vec<(sled::IVec, Vec<(sled::IVec, sled::IVec)>)>,
        BTreeMap<String, Vec<u8>>,
    );

    /// What sled makes of a database.
    fn opened(directory: &Path) -> Made {
        let config = sled::Config::new().path(directory).segment_size(64 << 10);
        let db = config.flush_every_ms(None).open().unwrap();
        let own = snapshots(directory);
        let trees = db.tree_names().into_iter().map(|name| {
            let tree = db.open_tree(&name).unwrap();
            let entries = tree.iter().map(Result::unwrap).collect();
            (name, entries)
        });
        (trees.collect(), own)
    }

    /// The same of a database as it is, and of one without the checkpoints since its start.
    fn assert_same(directory: &Path, at_start: BTreeMap<String, Vec<u8>>, what: &str) {
        let folder = tempfile::tempdir().unwrap();
        let (with, without) = (folder.path().join("with"), folder.path().join("without"));
        copy(directory, &with);
        copy(directory, &without);
        for name in snapshots(&without).keys() {
            std::fs::remove_file(without.join(name)).unwrap();
        }
        for (name, octets) in at_start {
            std::fs::write(without.join(name), octets).unwrap();
        }
        assert!(opened(&with) == opened(&without), "{what}");
    }

    #[test]
    fn what_sled_makes_of_a_database_is_the_same_with_checkpoints_and_without() {
        let mut made = 0;
        for seed in 0..12 {
            let mut rng = StdRng::seed_from_u64(seed);
            let folder = tempfile::tempdir().unwrap();
            let directory = folder.path().join("sled");
            for life in 0..3 {
                let (engine, mut journal) = Engine::open(&directory, small()).unwrap();
                let at_start = snapshots(&directory);
                for _ in 0..rng.random_range(1..6) {
                    live(&engine, &mut journal, &mut rng);
                    let sync = || engine.sync();
                    made += u32::from(salvage::checkpoint(&directory, 1, sync, || true).unwrap());
                }
                live(&engine, &mut journal, &mut rng);
                drop((journal, engine));
                assert_same(&directory, at_start, &format!("seed {seed}, life {life}"));
            }
        }
        assert!(made > 30, "{made}");
    }

    #[test]
    fn checkpoints_are_made_beside_whoever_writes() {
        let mut made = 0;
        for seed in 0..6 {
            let mut rng = StdRng::seed_from_u64(seed);
            let folder = tempfile::tempdir().unwrap();
            let directory = folder.path().join("sled");
            let (engine, mut journal) = Engine::open(&directory, small()).unwrap();
            let at_start = snapshots(&directory);
            let over = AtomicBool::new(false);
            made += std::thread::scope(|scope| {
                let checkpoints = scope.spawn(|| {
                    // Segments come and go meanwhile.
                    salvage::SLOW.set(Duration::from_micros([0, 300][usize::from(seed % 2 == 1)]));
                    let mut made = 0;
                    while !over.load(Ordering::Acquire) {
                        let sync = || engine.sync();
                        // What is about to be written over may look damaged until it is.
                        made += u32::from(
                            salvage::checkpoint(&directory, 1, sync, || true).unwrap_or(false),
                        );
                    }
                    made
                });
                (0..30).for_each(|_| live(&engine, &mut journal, &mut rng));
                over.store(true, Ordering::Release);
                checkpoints.join().unwrap()
            });
            drop((journal, engine));
            assert_same(&directory, at_start, &format!("seed {seed}"));
        }
        assert!(made > 100, "{made}");
    }

    #[test]
    fn damage_is_told_and_leaves_the_note_of_before() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, mut journal) = Engine::open(folder.path(), small()).unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        (0..6).for_each(|_| live(&engine, &mut journal, &mut rng));
        let before = snapshots(folder.path());
        let make =
            |goes_on: bool| salvage::checkpoint(folder.path(), 1, || engine.sync(), || goes_on);
        assert!(!make(false).unwrap(), "the store ends");
        assert!(before == snapshots(folder.path()));
        let path = folder.path().join("db");
        let mut octets = std::fs::read(&path).unwrap();
        octets[(64 << 10) + 100] ^= 1;
        std::fs::write(&path, &octets).unwrap();
        let why = make(true).unwrap_err().to_string();
        assert!(why.contains("messages of the log are damaged"), "{why}");
        assert!(before == snapshots(folder.path()));
        octets[(64 << 10) + 100] ^= 1;
        std::fs::write(&path, &octets).unwrap();
        assert!(make(true).unwrap());
        let after = snapshots(folder.path());
        assert!(before != after);
        let (name, mut octets) = after.into_iter().next_back().unwrap();
        octets[20] ^= 1;
        std::fs::write(folder.path().join(name), octets).unwrap();
        let why = make(true).unwrap_err().to_string();
        assert!(
            why.contains("the snapshot of the page table fails"),
            "{why}"
        );
    }
}
