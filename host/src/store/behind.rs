//! The second thread: writes generations to the trees, and sweeps. It reads the indices in bounded
//! pieces for what time has overtaken and tells the committer, which alone changes anything.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::apply::damage;
use super::checkpoint::Checkpoints;
use super::cleaning::{self, clean_where_due};
use super::commit::Command;
use super::engine::{Engine, Value};
use super::keys::{self, Key};
use super::manifest::Manifest;
use super::plugin_state::PluginState;
use super::prepared;
use super::read::is;
use super::recency;
use super::records::{self, Kind};
use super::sealed::Resealing;
use super::settled::SettledLog;
use super::shared::Shared;
use super::threads;
use super::types::StoreError;
use crate::clock::{Clock, Timestamp};
use crate::domain::MessageId;

/// Entries of one index that one sweep reads.
const SWEEP_ENTRIES: usize = 2_000;
const ORPHAN_AGE: Duration = Duration::from_secs(72 * 3_600);
/// Stands in the store once every mobile-originated message has its entries.
const INDEXED_KEY: &str = "\0inbound-indexed";
const MANIFEST_EVERY: Duration = Duration::from_secs(10);
const RETENTION_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Behind {
    pub engine: Arc<Engine>,
    pub shared: Arc<Shared>,
    pub state: Arc<PluginState>,
    pub clock: Clock,
    pub directory: PathBuf,
    pub retention_days: u32,
    pub delivery_give_up: Duration,
    pub free_octets_min: u64,
    pub sweep_interval: Duration,
    pub checkpoints: Checkpoints,
    /// Weak, so that the store ends when its last handle is gone.
    pub commands: mpsc::WeakSender<Command>,
}

/// Where each sweep goes on.
#[derive(Default)]
struct Cursors {
    due: Vec<u8>,
    correlation: Vec<u8>,
    delivery: Vec<u8>,
    orphan: Pass,
    recent: Pass,
    dead: Pass,
    once: Pass,
    thread: Pass,
    head: Pass,
    inbound: Pass,
    /// How far back mobile-originated messages have their entries; 0: all have.
    indexed: Option<MessageId>,
    resealing: Resealing,
}

/// A sweep of entries that grow too old by the minute, the hour or the day: each of these has one pass, over
/// however many rounds, and not another one while nothing more can have become too old.
#[derive(Default)]
struct Pass {
    cursor: Vec<u8>,
    begun: Option<u32>,
    done: Option<u32>,
}

impl Pass {
    /// What `pick` takes of the next entries, where the pass of `period` is not over yet.
    fn next<T>(
        &mut self,
        engine: &Engine,
        prefix: &[u8],
        period: u32,
        pick: impl Fn(&[u8], &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        if self.done == Some(period) {
            return Ok(Vec::new());
        }
        if self.cursor.is_empty() {
            self.begun = Some(period);
        }
        let picked = next(engine, &mut self.cursor, prefix, pick)?;
        if self.cursor.is_empty() {
            self.done = self.begun;
        }
        Ok(picked)
    }

    /// Nobody heard of what was found: it is looked for again, by another pass of the same period.
    fn repeat(&mut self) {
        (self.begun, self.done) = (None, None);
    }
}

/// What one round leaves to the next.
pub(super) struct Rounds {
    cursors: Cursors,
    swept_at: Instant,
    manifest_at: Instant,
    /// As it was last written.
    manifest: Option<Manifest>,
    retention_at: Option<Timestamp>,
    retiring: Option<Retiring>,
    settled: SettledLog,
}

/// How far the end of days' retention has come. The committer is asked twice, and what it is asked is not waited
/// for: it may be waiting for this thread.
enum Retiring {
    /// Which of them have no live message.
    Settled(oneshot::Receiver<Vec<u32>>),
    /// Which of them nothing was written to since, and nobody reads any more.
    Retired(oneshot::Receiver<Vec<u32>>),
}

impl Rounds {
    pub fn begin(engine: &Engine) -> Result<Rounds, StoreError> {
        let now = Instant::now();
        Ok(Rounds {
            settled: SettledLog::open(engine)?,
            cursors: Cursors::default(),
            swept_at: now,
            manifest_at: now,
            manifest: None,
            retention_at: None,
            retiring: None,
        })
    }
}

impl Behind {
    /// Until the committer hangs up; what is complete by then is still written.
    pub fn run(&self, wake: &Receiver<()>) {
        let mut rounds = match Rounds::begin(&self.engine) {
            Ok(rounds) => rounds,
            Err(error) => return self.shared.stop(&error.to_string()),
        };
        loop {
            let woken = wake.recv_timeout(self.sweep_interval);
            self.write_generation(&mut rounds);
            if woken == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            self.round(&mut rounds);
        }
    }

    pub fn write_generation(&self, rounds: &mut Rounds) {
        if let Some(generation) = self.engine.frozen()
            && self.shared.check_running().is_ok()
            && self.may_write()
        {
            let more = rounds.settled.changes(&generation, self.clock.now());
            if let Err(error) = self.engine.write_behind(&generation, more) {
                self.shared.stop(&error.to_string());
            }
        }
    }

    /// What is done now and then, where it is time.
    pub fn round(&self, rounds: &mut Rounds) {
        if rounds.swept_at.elapsed() < self.sweep_interval {
            return;
        }
        rounds.swept_at = Instant::now();
        self.check_free_space();
        if self.shared.check_running().is_ok() {
            let free_min = self.free_octets_min;
            clean_where_due(&self.engine, &self.shared, &cleaning::LIMITS, free_min);
            self.checkpoints.make_where_due(&self.engine, &self.shared);
        }
        if let Err(error) = self.sweep(&mut rounds.cursors) {
            tracing::error!(%error, "a sweep of the store failed");
        }
        if rounds.manifest_at.elapsed() >= MANIFEST_EVERY {
            rounds.manifest_at = Instant::now();
            let manifest = self.manifest(false);
            if rounds.manifest != Some(manifest) {
                rounds.manifest = self.write(manifest).then_some(manifest);
            }
            self.engine.measure_disk();
        }
        let now = self.clock.now();
        let retention_at = rounds.retention_at;
        // An answer that is on its way is waited for: asked for anew by every round, none would ever be read.
        if rounds.retiring.is_none()
            && retention_at.is_none_or(|at| now.since(at) >= RETENTION_EVERY)
        {
            rounds.retention_at = Some(now);
            rounds.retiring = self.ask_for_settled_days();
        }
        rounds.retiring = rounds.retiring.take().and_then(|r| self.retire(r));
    }

    fn may_write(&self) -> bool {
        self.shared.closing.load(Ordering::Acquire)
            || self.engine.lacks_room(self.free_octets_min).is_none()
    }

    pub fn write_manifest(&self, clean: bool) {
        self.write(self.manifest(clean));
    }

    fn manifest(&self, clean: bool) -> Manifest {
        Manifest {
            sequence: self.shared.sequence.load(Ordering::Relaxed),
            accepted: self.shared.accepted.load(Ordering::Relaxed),
            clean,
        }
    }

    /// Whether it could be.
    fn write(&self, manifest: Manifest) -> bool {
        let written = manifest.write(&self.directory);
        if let Err(error) = &written {
            tracing::error!(%error, "the store's manifest could not be written");
        }
        written.is_ok()
    }

    pub fn check_free_space(&self) {
        match self.engine.free_octets() {
            Ok(free) => self.shared.note_free_space(free, self.free_octets_min),
            Err(error) => tracing::warn!(%error, "cannot tell how much of the disk is free"),
        }
    }

    fn sweep(&self, cursors: &mut Cursors) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.shared.note_days(&self.engine.days());
        self.state.sweep(now);
        let expired = next(&self.engine, &mut cursors.due, keys::DUE, |key, value| {
            let (lane, at, id) = keys::due_entry(key)?;
            let expires_at = prepared::due_expires_at(value)?;
            // The first lane is the one that decides: what is due there ends by itself.
            (expires_at <= now && (lane != 0 || at > now)).then_some((lane, at, id))
        })?;
        let receipts = next(
            &self.engine,
            &mut cursors.correlation,
            keys::CORRELATION,
            |key, value| {
                records::decode_awaited(value)
                    .is_ok_and(|all| all.iter().any(|a| a.deadline <= now))
                    .then(|| Key::from(key))
            },
        )?;
        let deliveries = next(
            &self.engine,
            &mut cursors.delivery,
            keys::DELIVERY,
            |key, value| {
                records::decode_outbox(value)
                    .is_ok_and(|e| now.since(e.at) > self.delivery_give_up)
                    .then(|| Key::from(key))
            },
        )?;
        self.tell(expired, Command::Expired);
        self.tell(receipts, Command::ReceiptsOverdue);
        self.tell(deliveries, Command::DeliveriesOverdue);
        self.sweep_what_ages(cursors, now)?;
        self.index_inbound(&mut cursors.indexed)?;
        cursors.resealing.step(&self.engine)
    }

    fn sweep_what_ages(&self, cursors: &mut Cursors, now: Timestamp) -> Result<(), StoreError> {
        let oldest = self.oldest_day();
        let minutes = u32::try_from(now.0 / 60_000).unwrap_or(u32::MAX);
        let window = recency::oldest_window(now);
        let forget = Command::Forget;
        self.age(
            &mut cursors.orphan,
            keys::ORPHAN,
            minutes,
            Command::OrphansOverdue,
            |_, value| {
                let old = |at: Timestamp| now.since(at) > ORPHAN_AGE;
                records::decode_orphan(value).map_or(true, |o| old(o.received_at))
            },
        )?;
        self.age(
            &mut cursors.recent,
            keys::RECENT,
            window,
            forget,
            |key, _| keys::recent_window(key).is_some_and(|w| w < window),
        )?;
        self.age(
            &mut cursors.dead,
            keys::DEAD,
            oldest,
            Command::DeadOverdue,
            |_, value| records::decode_outbox(value).is_ok_and(|e| e.at.day() < oldest),
        )?;
        self.age(
            &mut cursors.once,
            keys::ONCE,
            minutes / 60,
            forget,
            |_, value| threads::is_forgotten(value, now),
        )?;
        for (pass, prefix) in [
            (&mut cursors.thread, keys::THREAD),
            (&mut cursors.head, keys::THREAD_HEAD),
            (&mut cursors.inbound, keys::INBOUND),
        ] {
            self.age(pass, prefix, oldest, forget, |key, value| {
                threads::is_past(key, value, oldest)
            })?;
        }
        Ok(())
    }

    /// One piece of a pass over entries of which the committer hears when they are too old.
    fn age(
        &self,
        pass: &mut Pass,
        prefix: &[u8],
        period: u32,
        command: fn(Vec<Key>) -> Command,
        is_old: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let old = pass.next(&self.engine, prefix, period, |key, value| {
            is_old(key, value).then(|| Key::from(key))
        })?;
        if !self.tell(old, command) {
            pass.repeat();
        }
        Ok(())
    }

    /// Mobile-originated messages of releases that kept no list of them get their entries, newest
    /// first, a piece each round. Begun again after a restart, it does no harm.
    fn index_inbound(&self, at: &mut Option<MessageId>) -> Result<(), StoreError> {
        let marker = keys::meta(INDEXED_KEY);
        let before = match *at {
            Some(MessageId(0)) => return Ok(()),
            Some(before) => before,
            None if self.engine.get(&marker)?.is_some() => {
                *at = Some(MessageId(0));
                return Ok(());
            }
            None => MessageId(u128::MAX),
        };
        let found = self
            .engine
            .records_before(before, MessageId(0), SWEEP_ENTRIES)?;
        let mut entries = Vec::new();
        let mut heads = HashSet::new();
        let oldest = self.oldest_day();
        let kept = |(id, record): &&(MessageId, Value)| {
            is(record, Kind::Inbound) && id.timestamp().day() >= oldest
        };
        for (_, record) in found.iter().filter(kept) {
            let record = records::decode_inbound(record).map_err(damage)?;
            for (key, value) in threads::entries_of(&self.engine.names, &record, true) {
                // The newest of a conversation came first.
                let known = key.starts_with(keys::THREAD_HEAD)
                    && (!heads.insert(key.clone()) || self.engine.get(&key)?.is_some());
                if !known {
                    entries.push((key, Some(value)));
                }
            }
        }
        let last = found.last().map(|(id, _)| *id);
        let ended = found.len() < SWEEP_ENTRIES;
        if ended {
            entries.push((marker, Some(Value::from(&[1][..]))));
        }
        let (reply, _) = oneshot::channel();
        let told = self.commands.upgrade().is_some_and(|commands| {
            entries.is_empty() || commands.try_send(Command::Write(entries, reply)).is_ok()
        });
        if told {
            *at = if ended { Some(MessageId(0)) } else { last };
        }
        Ok(())
    }

    /// Whether the committer hears of it. A full queue loses nothing: another round finds the same.
    fn tell<T>(&self, found: Vec<T>, command: impl Fn(Vec<T>) -> Command) -> bool {
        found.is_empty()
            || (self.commands.upgrade()).is_some_and(|c| c.try_send(command(found)).is_ok())
    }

    fn ask_for_settled_days(&self) -> Option<Retiring> {
        let oldest = self.oldest_day();
        let mut days = self.engine.days();
        days.retain(|d| *d < oldest);
        self.ask_of(days, Command::SettledDays)
            .map(Retiring::Settled)
    }

    fn ask_of(
        &self,
        days: Vec<u32>,
        command: impl Fn(Vec<u32>, oneshot::Sender<Vec<u32>>) -> Command,
    ) -> Option<oneshot::Receiver<Vec<u32>>> {
        if days.is_empty() {
            return None;
        }
        let (reply, answer) = oneshot::channel();
        let asked = self.commands.upgrade()?.try_send(command(days, reply));
        asked.is_ok().then_some(answer)
    }

    /// The first day that is kept.
    fn oldest_day(&self) -> u32 {
        self.clock.now().day().saturating_sub(self.retention_days)
    }

    /// The days of whose messages nobody is to be told any more: what is owed is made of their records.
    fn without_owed(&self, mut days: Vec<u32>) -> Result<Vec<u32>, StoreError> {
        for prefix in [keys::WEBHOOK, keys::DELIVERY] {
            let end = keys::after_prefix(prefix).unwrap_or_default();
            let mut start = prefix.to_vec();
            while !days.is_empty() {
                let entries = self.engine.scan(&start, &end, SWEEP_ENTRIES)?;
                for (_, value) in &entries {
                    if let Ok(owed) = records::decode_outbox(value) {
                        days.retain(|day| *day != owed.message.timestamp().day());
                    }
                }
                match entries.last() {
                    Some((last, _)) if entries.len() == SWEEP_ENTRIES => {
                        start = [&**last, &[0]].concat();
                    }
                    _ => break,
                }
            }
        }
        Ok(days)
    }

    /// Goes a step on where an answer has come. What cannot be dropped now is looked at again a minute later.
    fn retire(&self, retiring: Retiring) -> Option<Retiring> {
        match retiring {
            Retiring::Settled(mut answer) => match answer.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => Some(Retiring::Settled(answer)),
                Err(oneshot::error::TryRecvError::Closed) => None,
                Ok(settled) => match self.without_owed(settled) {
                    Ok(days) => self
                        .ask_of(days, Command::RetireDays)
                        .map(Retiring::Retired),
                    Err(error) => {
                        tracing::error!(%error, "days whose retention has ended are not dropped yet");
                        None
                    }
                },
            },
            Retiring::Retired(mut answer) => match answer.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => Some(Retiring::Retired(answer)),
                Err(oneshot::error::TryRecvError::Closed) => None,
                Ok(retired) => {
                    self.drop_days(retired);
                    None
                }
            },
        }
    }

    /// A day of millions takes seconds, in which this thread has what is committed to write: another one does it.
    fn drop_days(&self, days: Vec<u32>) {
        let (engine, shared) = (self.engine.clone(), self.shared.clone());
        let (of_thread, of_shared, of_days) = (engine.clone(), shared.clone(), days.clone());
        let dropping = std::thread::Builder::new().name("store-retention".into());
        let dropping = dropping.spawn(move || drop_retired(&of_thread, &of_shared, &of_days));
        if dropping.is_err() {
            drop_retired(&engine, &shared, &days);
        }
    }
}

/// Nobody writes to these days any more, and a reader that meets one half gone finds nothing there.
fn drop_retired(engine: &Engine, shared: &Shared, days: &[u32]) {
    for day in days {
        match engine.drop_day(*day) {
            Ok(()) => {
                shared.days_dropped.fetch_add(1, Ordering::Relaxed);
                tracing::info!(day, "dropped a day whose retention has ended");
            }
            Err(error) => {
                tracing::error!(day, %error, "a day whose retention has ended could not be dropped")
            }
        }
    }
}

/// One piece of a sweep: what `pick` takes of the next entries; starts over at the end.
fn next<T>(
    engine: &Engine,
    cursor: &mut Vec<u8>,
    prefix: &[u8],
    pick: impl Fn(&[u8], &[u8]) -> Option<T>,
) -> Result<Vec<T>, StoreError> {
    if !cursor.starts_with(prefix) {
        *cursor = prefix.to_vec();
    }
    let end = keys::after_prefix(prefix).unwrap_or_default();
    let mut picked = Vec::new();
    let (mut seen, start) = (0, std::mem::take(cursor));
    engine.each(&start, &end, SWEEP_ENTRIES, |entry| {
        picked.extend(pick(entry.key(), entry.value()));
        seen += 1;
        if seen == SWEEP_ENTRIES {
            *cursor = [entry.key(), &[0]].concat();
        }
    })?;
    Ok(picked)
}

#[cfg(test)]
mod tests {
    use super::super::engine::Opening;
    use super::super::types::Probes;
    use super::*;

    #[test]
    fn each_period_has_one_pass_over_however_many_pieces() {
        let directory = tempfile::tempdir().unwrap();
        let opening = Opening::new(Probes::default());
        let (engine, mut journal) = Engine::open(directory.path(), opening).unwrap();
        let mut put = |from: u32, n: usize| {
            for n in from..from + n as u32 {
                let key = [keys::ONCE, &n.to_be_bytes()].concat();
                journal.put(Key::from(&key[..]), Value::from(&[7][..]), false);
            }
            journal.commit().unwrap();
        };
        put(0, SWEEP_ENTRIES + 10);
        let mut pass = Pass::default();
        let found = |pass: &mut Pass, period: u32| {
            let all = pass.next(&engine, keys::ONCE, period, |key, _| Some(key.to_vec()));
            all.unwrap().len()
        };
        assert_eq!(found(&mut pass, 1), SWEEP_ENTRIES);
        assert_eq!(found(&mut pass, 1), 10);
        put(0, 1);
        assert_eq!(found(&mut pass, 1), 0, "it is over");
        // A pass that goes on into another period is over for the one in which it began.
        assert_eq!(found(&mut pass, 2), SWEEP_ENTRIES);
        assert_eq!(found(&mut pass, 3), 10);
        assert_eq!(found(&mut pass, 3), SWEEP_ENTRIES);
        // What nobody heard of is looked for again.
        pass.repeat();
        assert_eq!(found(&mut pass, 3), 10);
        assert_eq!(found(&mut pass, 3), SWEEP_ENTRIES);
        assert_eq!(found(&mut pass, 3), 10);
        assert_eq!(found(&mut pass, 3), 0);
    }
}
