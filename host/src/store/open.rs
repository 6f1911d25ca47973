//! Opening: checks the directory against its manifest, restores what is kept in memory, resolves
//! what was in flight, starts the threads. Closing is here too, because it is the same in
//! reverse.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::mpsc as thread_channel;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::apply::damage;
use super::behind::{Behind, Rounds};
use super::checkpoint::Checkpoints;
use super::commit::{Command, Committer, Hand, LaneQueue};
use super::engine::{Engine, Opening};
use super::journal::Journal;
use super::keys;
use super::manifest::Manifest;
use super::optout::{self, OptOuts};
use super::outbox::Outbox;
use super::plugin_state::PluginState;
use super::queue::ReadyQueue;
use super::readers::Readers;
use super::receipt_book::ReceiptBook;
use super::recency::Recency;
use super::records::{self, Ledger};
use super::salvage;
use super::seeded::Seed;
use super::settled::SettledReceipts;
use super::shared::Shared;
use super::types::{Options, StoreError};
use super::{Inner, Store};
use crate::clock::{Clock, Timestamp};
use crate::domain::{CarrierId, Lane};

/// Entries read at a time.
const CHUNK: usize = 10_000;
const SEED_KEY: &str = "\0seed";

/// What does the store's work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Threads: sled blocks.
    Threads,
    /// A task of the runtime that it is opened in, and whoever reads: nothing depends on how threads
    /// happen to run.
    Task,
}

pub(super) fn open(options: Options, clock: Clock, work: Work) -> Result<Store, StoreError> {
    let directory = options.path.clone();
    std::fs::create_dir_all(&directory)
        .map_err(|e| StoreError::Io(format!("{}: {e}", directory.display())))?;
    let manifest = Manifest::read(&directory)?;
    // sled zeroes what it takes for a torn end, so damage has to be found before it opens.
    salvage::before_open(&directory, manifest)?;
    let (engine, mut journal) = Engine::open(
        &directory.join("sled"),
        Opening {
            cache_octets: options.cache_octets,
            segment_octets: options.segment_octets,
            sync: options.sync,
            seals: options.seals.clone(),
            ..Opening::new(options.probes.clone())
        },
    )?;
    let ledger = match engine.get(keys::LEDGER)? {
        Some(value) => records::decode_ledger(&value).map_err(damage)?,
        None => Ledger::default(),
    };
    journal.set_sequence(ledger.sequence);
    if let Some(manifest) = manifest {
        manifest.check(journal.sequence(), salvage::ADVICE)?;
        if !manifest.clean {
            tracing::info!(
                commit = journal.sequence(),
                "the store was not closed in good order; resuming"
            );
        }
    }
    let corrections = super::ahead::corrections(&engine, &clock)?;
    let seed = seed(&engine, &mut journal)?;
    let opt_outs = OptOuts::new(seed);
    let recency = Arc::new(Recency::new(options.recency_max));
    let state = Arc::new(PluginState::new(options.state_octets_max));
    restore(&engine, &clock, &opt_outs, &recency, &state)?;
    let book = Arc::new(ReceiptBook::default());
    restore_book(&engine, &book)?;

    let mut settled = SettledReceipts::new(seed);
    for (fingerprint, id) in settled.restore(&engine, clock.now())? {
        journal.note_settled(fingerprint, id);
    }

    let shared = Arc::new(Shared::default());
    let (commands, receiver) = mpsc::channel(options.command_queue_max.max(1));
    let (hand, woken) = match work {
        Work::Threads => {
            let (wake, woken) = thread_channel::sync_channel(1);
            (Hand::Thread(wake), Woken::Thread(woken))
        }
        Work::Task => {
            let notify = Arc::new(Notify::new());
            (Hand::Task(notify.clone()), Woken::Task(notify))
        }
    };
    let (lanes, lane_numbers) = lanes(&engine)?;
    let two_way = options.two_way.clone();
    let mut committer = Committer {
        engine: engine.clone(),
        journal,
        shared: shared.clone(),
        clock: clock.clone(),
        queues: lanes
            .iter()
            .map(|_| resuming_lane(options.ready_max))
            .collect(),
        outbox: Outbox::new(options.ready_max),
        options,
        ledger,
        lanes,
        lane_numbers,
        leases: HashMap::new(),
        claims: HashMap::new(),
        handed: Vec::new(),
        recency: recency.clone(),
        book: book.clone(),
        settled,
        state: state.clone(),
        replies: Vec::new(),
        scratch: Vec::new(),
        generation_since: Instant::now(),
        commit_began: Instant::now(),
        behind: hand,
        retiring: BTreeSet::new(),
        corrections,
        time_noted: Timestamp(0),
    };
    resolve_claims(&mut committer)?;
    // The first commit proves that the disk takes writes, and gives the manifest its sequence.
    committer.touch();
    committer.commit(0);
    shared.check_running()?;
    let behind = Behind {
        engine: engine.clone(),
        shared: shared.clone(),
        state: state.clone(),
        clock: clock.clone(),
        directory: directory.clone(),
        retention_days: committer.options.retention_days,
        delivery_give_up: committer.options.delivery_give_up,
        free_octets_min: committer.options.free_octets_min,
        sweep_interval: committer.options.sweep_interval,
        checkpoints: Checkpoints::new(
            committer.options.checkpoint_octets,
            committer.options.free_octets_min,
            work,
        ),
        commands: commands.downgrade(),
    };
    behind.check_free_space();
    behind.write_manifest(false);
    let (threads, readers) = match woken {
        Woken::Thread(woken) => {
            let readers = Readers::start().map_err(no_threads)?;
            let threads = spawn(committer, receiver, behind, woken)?;
            (Some(threads), Some(readers))
        }
        Woken::Task(woken) => {
            tokio::spawn(run_in_task(committer, receiver, behind, woken));
            (None, None)
        }
    };
    Ok(Store {
        inner: Arc::new(Inner {
            commands,
            engine,
            shared,
            opt_outs,
            recency,
            book,
            state,
            two_way,
            seed,
            clock,
            blobs: directory.join("blobs"),
            readers,
            committer: Mutex::new(threads),
        }),
    })
}

enum Woken {
    Thread(thread_channel::Receiver<()>),
    Task(Arc<Notify>),
}

fn no_threads(error: std::io::Error) -> StoreError {
    StoreError::Io(format!("cannot start the store's threads: {error}"))
}

fn resuming_lane(ready_max: usize) -> LaneQueue {
    LaneQueue {
        ready: ReadyQueue::resuming(ready_max),
        waiters: VecDeque::new(),
    }
}

fn spawn(
    mut committer: Committer,
    mut commands: mpsc::Receiver<Command>,
    behind: Behind,
    woken: thread_channel::Receiver<()>,
) -> Result<std::thread::JoinHandle<()>, StoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(no_threads)?;
    let behind_thread = std::thread::Builder::new()
        .name("store-behind".into())
        .spawn(move || {
            guarded(&behind.shared, || behind.run(&woken));
            behind
        })
        .map_err(no_threads)?;
    std::thread::Builder::new()
        .name("store-commit".into())
        .spawn(move || {
            let shared = committer.shared.clone();
            let mut goodbye = None;
            guarded(&shared, || {
                goodbye = runtime.block_on(committer.run(&mut commands));
                committer.finish(|other| {
                    other.wake();
                    std::thread::sleep(std::time::Duration::from_millis(1));
                });
            });
            drop(committer);
            // Whoever still waits hears that the store is closed; the other thread among them.
            drop(commands);
            if let Ok(behind) = behind_thread.join()
                && shared.check_running().is_ok()
            {
                behind.write_manifest(true);
            }
            if let Some(goodbye) = goodbye {
                let _ = goodbye.send(());
            }
        })
        .map_err(no_threads)
}

/// The work of the two threads, one step of it at a time.
async fn run_in_task(
    mut committer: Committer,
    mut commands: mpsc::Receiver<Command>,
    behind: Behind,
    woken: Arc<Notify>,
) {
    let shared = committer.shared.clone();
    let mut rounds = match Rounds::begin(&committer.engine) {
        Ok(rounds) => rounds,
        Err(error) => return shared.stop(&error.to_string()),
    };
    let goodbye = {
        let mut committing = std::pin::pin!(committer.run(&mut commands));
        loop {
            tokio::select! {
                biased;
                goodbye = &mut committing => break goodbye,
                () = woken.notified() => {}
                () = tokio::time::sleep(behind.sweep_interval) => {}
            }
            behind.write_generation(&mut rounds);
            behind.round(&mut rounds);
        }
    };
    shared
        .closing
        .store(true, std::sync::atomic::Ordering::Release);
    committer.finish(|_| behind.write_generation(&mut rounds));
    drop(committer);
    drop(commands);
    behind.write_generation(&mut rounds);
    if shared.check_running().is_ok() {
        behind.write_manifest(true);
    }
    if let Some(goodbye) = goodbye {
        let _ = goodbye.send(());
    }
}

/// sled may panic where its file is damaged or its disk fails: that stops intake and is said, and
/// is no silent end of a thread.
fn guarded(shared: &Shared, work: impl FnOnce()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
        shared.stop("a thread of the store failed; the log tells where");
    }
}

impl Committer {
    /// An entry that changes with every opening, so that there is something to commit.
    fn touch(&mut self) {
        let now = records::encode_time(self.clock.now());
        self.journal.put(keys::meta("\0opened"), now.into(), false);
    }

    /// The last commit, and everything into the trees, which `write` sees to.
    fn finish(&mut self, mut write: impl FnMut(&Hand)) {
        self.write_recency();
        self.commit(0);
        for _ in 0..2 {
            // The one before may still be on its way.
            while self.shared.check_running().is_ok() && self.engine.frozen().is_some() {
                write(&self.behind);
            }
            self.journal.freeze(true);
        }
    }
}

pub(super) fn lanes(engine: &Engine) -> Result<(Vec<Lane>, HashMap<Lane, u16>), StoreError> {
    let mut lanes = vec![Lane::Decide];
    for (key, name) in engine.scan_prefix(keys::LANE, usize::from(u16::MAX))? {
        if u16::try_from(lanes.len()).map(keys::lane_name) != Ok(key) {
            return Err(StoreError::Corrupt("a lane's name is missing".into()));
        }
        let name = std::str::from_utf8(&name)
            .map_err(|_| StoreError::Corrupt("a lane's name is no text".into()))?;
        lanes.push(Lane::Carrier(CarrierId::from(name)));
    }
    let numbers = lanes
        .iter()
        .enumerate()
        .filter_map(|(n, lane)| Some((lane.clone(), u16::try_from(n).ok()?)));
    let numbers = numbers.collect();
    Ok((lanes, numbers))
}

fn resolve_claims(committer: &mut Committer) -> Result<(), StoreError> {
    let mut unknown = 0;
    loop {
        let claims = committer.engine.scan_prefix(keys::CLAIM, CHUNK)?;
        if claims.is_empty() {
            break;
        }
        for (key, value) in claims {
            let number = key
                .get(1..)
                .and_then(|b| b.try_into().ok())
                .map_or(0, u64::from_be_bytes);
            unknown +=
                committer.resolve_claim(number, &records::decode_claim(&value).map_err(damage)?)?;
        }
    }
    if unknown > 0 {
        tracing::warn!(
            messages = unknown,
            "may have been on the wire when the last process ended"
        );
    }
    Ok(())
}

/// What is answered from memory.
fn restore(
    engine: &Engine,
    clock: &Clock,
    opt_outs: &OptOuts,
    recency: &Recency,
    state: &PluginState,
) -> Result<(), StoreError> {
    let now = clock.now();
    each(engine, keys::WISH, |key, value| {
        if let Some(entry) = optout::entry(&engine.names, key, value) {
            opt_outs.set(&entry.scope, &entry.recipient, true);
        }
        Ok(())
    })?;
    each(engine, keys::RECENT, |key, value| {
        if let Some(window) = keys::recent_window(key) {
            recency.restore(window, &records::decode_recent(value).map_err(damage)?, now);
        }
        Ok(())
    })?;
    each(engine, keys::STATE, |key, value| {
        if let Some((namespace, name, value)) = keys::state_parts(&engine.names, key, value) {
            let (expires, value) = records::decode_state(value).map_err(damage)?;
            state.restore(&namespace, &name, value.to_vec(), expires, now);
        }
        Ok(())
    })
}

/// What carriers' receipts taught, and how many wait of each carrier.
fn restore_book(engine: &Engine, book: &ReceiptBook) -> Result<(), StoreError> {
    each(engine, keys::LESSONS, |key, value| {
        if let Some(carrier) = keys::carrier_of(key) {
            book.restore(&carrier, records::decode_lessons(value).map_err(damage)?);
        }
        Ok(())
    })?;
    each(engine, keys::ORPHAN, |key, value| {
        let first = records::decode_orphan(value)
            .map_err(damage)?
            .keys
            .into_iter();
        let counts = first.take(1).any(|k| Some(&*k) == keys::correlated_id(key));
        if let Some(carrier) = keys::carrier_of(key).filter(|_| counts) {
            let orphans = &book.page(&carrier).orphans;
            orphans.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    })
}

fn each(
    engine: &Engine,
    prefix: &[u8],
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut start = prefix.to_vec();
    let end = keys::after_prefix(prefix).unwrap_or_default();
    loop {
        let entries = engine.scan(&start, &end, CHUNK)?;
        for (key, value) in &entries {
            take(key, value)?;
        }
        match entries.last() {
            Some((last, _)) if entries.len() == CHUNK => start = [&**last, &[0]].concat(),
            _ => return Ok(()),
        }
    }
}

fn seed(engine: &Engine, journal: &mut Journal) -> Result<Seed, StoreError> {
    let key = keys::meta(SEED_KEY);
    if let Some(value) = engine.get(&key)? {
        let octets = (*value)
            .try_into()
            .map_err(|_| StoreError::Corrupt("its seed has not 8 octets".into()))?;
        return Ok(Seed(u64::from_be_bytes(octets)));
    }
    // Drawn from the operating system once, by the hasher that the standard library seeds so.
    let seed = std::hash::RandomState::new().build_hasher().finish();
    journal.put(key, seed.to_be_bytes()[..].into(), true);
    Ok(Seed(seed))
}
