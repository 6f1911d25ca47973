//! The committer: one thread that owns every write. It drains the commands that wait, applies them,
//! serves the claims, commits once and then answers all of them. What a command does to messages is
//! in `apply.rs`, to the outbox in `outbox.rs`; how a commit reaches the disk in `engine.rs`.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::ahead::Correction;
use super::engine::{Engine, Value};
use super::erase::{Erased, Suspects};
use super::journal::Journal;
use super::keys::{self, Key};
use super::outbox::{Outbox, OutletName};
use super::plugin_state::PluginState;
use super::prepared::Prepared;
use super::queue::{ReadyQueue, Slot};
use super::receipt_book::ReceiptBook;
use super::receipts::IncomingReceipt;
use super::recency::Recency;
use super::records::{self, Ledger};
use super::settled::SettledReceipts;
use super::shared::Shared;
use super::types::{
    Held, Idempotency, Options, OutboxEntry, ReceiptMatch, StoreError, UpdateError, WebhookOutcome,
};
use crate::clock::{Clock, Timestamp};
use crate::domain::{Lane, Message, MessageId};

/// How soon room on a full disk is noticed.
const ROOM_POLL: Duration = Duration::from_millis(20);
/// How soon an abandoned claim goes back to its queue.
const TICKET_POLL: Duration = Duration::from_millis(5);
/// How often to look round where nothing is due.
const IDLE_POLL: Duration = Duration::from_secs(1);
/// Pairs that are counted in one entry: sled writes an entry's neighbours anew with it, and those of others.
const RECENT_PIECE: usize = 100;

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) enum Command {
    Accept {
        prepared: Box<Prepared>,
        recipient_hash: u64,
        /// Its entry in a conversation.
        thread: Option<Key>,
        idempotency: Option<Idempotency>,
        reply: Answer<AcceptedAs>,
    },
    Claim {
        lane: Lane,
        max: usize,
        ticket: Arc<Ticket>,
        reply: oneshot::Sender<Vec<Value>>,
    },
    Settle(Vec<Prepared>, Option<Held>),
    Update {
        id: MessageId,
        change: Box<dyn FnOnce(&mut Message) + Send>,
        reply: oneshot::Sender<Result<(), UpdateError>>,
    },
    Receipt(Box<IncomingReceipt>, Answer<ReceiptMatch>),
    InsertInbound {
        id: MessageId,
        record: Value,
        entries: Vec<(Key, Value)>,
        parts: Vec<Key>,
        owed: Vec<OutboxEntry>,
        /// Stored once under this key.
        once: Option<Key>,
        reply: Answer<bool>,
    },
    ClaimOwed {
        outlet: OutletName,
        max: usize,
        ticket: Arc<Ticket>,
        reply: oneshot::Sender<Vec<Value>>,
    },
    SettleOwed(Box<OutboxEntry>, WebhookOutcome),
    Redeliver(u128, Answer<bool>),
    /// What speaks of a number that is to be forgotten.
    Erase(Suspects, Answer<Erased>),
    /// Entries of the floors above and of the registries: `None` removes.
    Write(Vec<(Key, Option<Value>)>, Answer<()>),
    /// Due entries whose message's validity has ended.
    Expired(Vec<(u16, Timestamp, MessageId)>),
    /// Correlation entries past their deadline.
    ReceiptsOverdue(Vec<Key>),
    OrphansOverdue(Vec<Key>),
    /// Entries that time has overtaken.
    Forget(Vec<Key>),
    DeliveriesOverdue(Vec<Key>),
    /// Dead letters as old as messages get.
    DeadOverdue(Vec<Key>),
    /// Which days hold no live message.
    SettledDays(Vec<u32>, oneshot::Sender<Vec<u32>>),
    /// Of those, which were left alone since and are therefore not read any more.
    RetireDays(Vec<u32>, oneshot::Sender<Vec<u32>>),
    /// Something waits outside of the channel: plugin state.
    Nudge,
    Shutdown(oneshot::Sender<()>),
}

pub(super) enum AcceptedAs {
    Fresh,
    Replay(Value),
    Mismatch,
}

/// Says whether the claim's caller got what it was handed: a claim that is dropped half-way leaves
/// the ticket unmarked with no other holder, and what it was handed goes back to the queue.
#[derive(Default)]
pub(super) struct Ticket {
    taken: AtomicBool,
}

impl Ticket {
    pub fn take(&self) {
        self.taken.store(true, Ordering::Release);
    }
}

/// An answer that waits for the commit.
pub(super) enum Reply {
    Accepted(Answer<AcceptedAs>, AcceptedAs),
    Claimed(oneshot::Sender<Vec<Value>>, Vec<Value>),
    Updated(oneshot::Sender<Result<(), UpdateError>>),
    Receipt(Answer<ReceiptMatch>, ReceiptMatch),
    Found(Answer<bool>, bool),
    Erased(Answer<Erased>, Erased),
    Done(Answer<()>),
    Held(Held),
}

/// A message that is out with a worker.
pub(super) struct Lease {
    pub lane: u16,
    pub due: Timestamp,
    /// Segments of an earlier attempt still wait for receipts.
    pub awaits: bool,
    pub claim: Option<u64>,
    /// Receipts that came meanwhile: their correlation keys.
    pub deferred: Vec<Key>,
}

pub(super) struct Waiter {
    max: usize,
    ticket: Arc<Ticket>,
    reply: oneshot::Sender<Vec<Value>>,
}

impl Waiter {
    pub fn new(max: usize, ticket: Arc<Ticket>, reply: oneshot::Sender<Vec<Value>>) -> Waiter {
        Waiter {
            max: max.max(1),
            ticket,
            reply,
        }
    }

    pub fn max(&self) -> usize {
        self.max
    }

    /// The claim was dropped while it waited.
    pub fn is_gone(&self) -> bool {
        self.reply.is_closed()
    }

    pub fn into_parts(self) -> (Arc<Ticket>, oneshot::Sender<Vec<Value>>) {
        (self.ticket, self.reply)
    }
}

pub(super) struct LaneQueue {
    pub ready: ReadyQueue<bool>,
    pub waiters: VecDeque<Waiter>,
}

pub(super) enum Handed {
    Messages(Vec<MessageId>),
    Outbox(OutletName, Vec<Slot>),
}

pub(super) struct Committer {
    pub engine: Arc<Engine>,
    pub journal: Journal,
    pub shared: Arc<Shared>,
    pub clock: Clock,
    pub options: Options,
    pub ledger: Ledger,
    pub lanes: Vec<Lane>,
    pub lane_numbers: HashMap<Lane, u16>,
    pub queues: Vec<LaneQueue>,
    pub leases: HashMap<MessageId, Lease>,
    /// Claims in flight: how many of each are still out.
    pub claims: HashMap<u64, usize>,
    pub outbox: Outbox,
    pub handed: Vec<(Arc<Ticket>, Handed)>,
    pub recency: Arc<Recency>,
    pub book: Arc<ReceiptBook>,
    pub settled: SettledReceipts,
    pub state: Arc<PluginState>,
    pub replies: Vec<Reply>,
    pub scratch: Vec<u8>,
    pub generation_since: Instant,
    pub commit_began: Instant,
    pub behind: Hand,
    /// Days that are about to be dropped, as long as nothing of them is written.
    pub retiring: BTreeSet<u32>,
    /// What is to be brought back before anything is handed out.
    pub corrections: Vec<Correction>,
    /// What the clock said when that was last noted.
    pub time_noted: Timestamp,
}

/// What writes behind: a thread, or the task that the committer is in.
pub(super) enum Hand {
    Thread(std::sync::mpsc::SyncSender<()>),
    Task(Arc<tokio::sync::Notify>),
}

impl Hand {
    /// There is something to write; one that is woken already needs no second call.
    pub fn wake(&self) {
        match self {
            Hand::Thread(thread) => drop(thread.try_send(())),
            Hand::Task(task) => task.notify_one(),
        }
    }
}

impl Committer {
    /// Runs until shutdown or until the last handle is gone; what is applied is then committed.
    /// Returns whom to tell that all is done.
    pub async fn run(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Option<oneshot::Sender<()>> {
        if let Err(error) = self.correct() {
            self.shared.stop(&error.to_string());
        }
        let mut batch = Vec::with_capacity(self.options.commit_max);
        loop {
            let wait = self.next_wake();
            tokio::select! {
                biased;
                n = commands.recv_many(&mut batch, self.options.commit_max) => if n == 0 { return None },
                () = tokio::time::sleep(wait) => {}
            }
            self.gather(commands, &mut batch).await;
            self.wait_for_room(commands, &mut batch).await;
            let mut goodbye = None;
            let size = batch.len();
            for command in batch.drain(..) {
                if let Some(reply) = self.apply(command) {
                    goodbye = Some(reply);
                }
            }
            self.take_back_abandoned();
            self.write_state();
            self.serve_claims();
            self.serve_outbox();
            self.commit(size);
            self.close_generation();
            if goodbye.is_some() {
                commands.close();
                while commands.try_recv().is_ok() {}
                return goodbye;
            }
        }
    }

    /// Lets more commands come in where the last commit began only just now.
    async fn gather(&mut self, commands: &mut mpsc::Receiver<Command>, batch: &mut Vec<Command>) {
        let wait = self
            .options
            .commit_interval
            .saturating_sub(self.commit_began.elapsed());
        let room = self.options.commit_max.saturating_sub(batch.len());
        if !wait.is_zero() && room > 0 && !batch.is_empty() {
            tokio::time::sleep(wait).await;
            while batch.len() < self.options.commit_max
                && let Ok(command) = commands.try_recv()
            {
                batch.push(command);
            }
        }
        self.commit_began = Instant::now();
    }

    /// A write that finds the disk full is the last that sled takes, so what waits is held back until
    /// there is room. New messages are refused meanwhile; whoever shuts down takes the risk.
    async fn wait_for_room(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        batch: &mut Vec<Command>,
    ) {
        let minimum = self.options.free_octets_min;
        while !batch.iter().any(|c| matches!(c, Command::Shutdown(_)))
            && self.shared.check_running().is_ok()
            && let Some(free) = self.engine.lacks_room(minimum)
        {
            self.shared.note_free_space(free, minimum);
            for command in std::mem::take(batch) {
                match (command, self.shared.check_intake()) {
                    (Command::Accept { reply, .. }, Err(full)) => drop(reply.send(Err(full))),
                    (command, _) => batch.push(command),
                }
            }
            tokio::time::sleep(ROOM_POLL).await;
            while batch.len() < self.options.commit_max
                && let Ok(command) = commands.try_recv()
            {
                batch.push(command);
            }
        }
    }

    fn apply(&mut self, command: Command) -> Option<oneshot::Sender<()>> {
        let now = self.clock.now();
        let done = match command {
            Command::Accept {
                prepared,
                recipient_hash,
                thread,
                idempotency,
                reply,
            } => self.accept(*prepared, recipient_hash, thread, idempotency, reply, now),
            Command::Claim {
                lane,
                max,
                ticket,
                reply,
            } => self.wait_for(&lane, Waiter::new(max, ticket, reply)),
            Command::Settle(messages, held) => {
                self.replies.extend(held.map(Reply::Held));
                messages.into_iter().try_for_each(|m| self.settle(m, now))
            }
            Command::Update { id, change, reply } => self.update(id, change, reply, now),
            Command::Receipt(receipt, reply) => self.receipt(*receipt, reply, now),
            Command::InsertInbound {
                id,
                record,
                entries,
                parts,
                owed,
                once,
                reply,
            } => {
                if let Err(error) = self.shared.check_running() {
                    let _ = reply.send(Err(error));
                    return None;
                }
                self.is_first(once, now).map(|first| {
                    if first {
                        self.put_inbound(id, record, entries, &parts);
                        owed.iter().for_each(|entry| self.owe(entry));
                    }
                    self.replies.push(Reply::Found(reply, first));
                })
            }
            Command::ClaimOwed {
                outlet,
                max,
                ticket,
                reply,
            } => {
                self.outbox
                    .wait_for(&outlet, Waiter::new(max, ticket, reply));
                Ok(())
            }
            Command::SettleOwed(entry, outcome) => self.settle_owed(*entry, outcome),
            Command::Redeliver(event, reply) => self.redeliver(event, reply, now),
            Command::Erase(suspects, reply) => self.erase(suspects, reply, now),
            Command::Write(entries, reply) => self.write(entries, reply),
            Command::Expired(entries) => entries.into_iter().try_for_each(|e| self.expire(e, now)),
            Command::ReceiptsOverdue(keys) => {
                keys.iter().try_for_each(|k| self.receipt_overdue(k, now))
            }
            Command::OrphansOverdue(keys) => keys.iter().try_for_each(|k| self.drop_orphan(k)),
            Command::DeliveriesOverdue(keys) => keys.iter().try_for_each(|k| self.give_up(k)),
            Command::DeadOverdue(keys) => keys.iter().try_for_each(|k| self.drop_dead(k)),
            Command::Forget(keys) => {
                keys.iter().for_each(|k| self.journal.remove(k));
                Ok(())
            }
            Command::SettledDays(days, reply) => {
                let settled = days.into_iter();
                self.retiring = settled
                    .filter(|d| !self.ledger.live.contains_key(d))
                    .collect();
                let _ = reply.send(self.retiring.iter().copied().collect());
                Ok(())
            }
            Command::RetireDays(days, reply) => {
                let left_alone = std::mem::take(&mut self.retiring);
                let retired = days
                    .into_iter()
                    .filter(|d| left_alone.contains(d) && self.engine.retire_day(*d))
                    .collect();
                let _ = reply.send(retired);
                Ok(())
            }
            Command::Nudge => Ok(()),
            Command::Shutdown(reply) => {
                self.shared.closing.store(true, Ordering::Release);
                return Some(reply);
            }
        };
        if let Err(error) = done {
            self.shared.stop(&error.to_string());
        }
        None
    }

    /// Every record goes this way.
    pub fn put_record(&mut self, id: MessageId, record: Value) {
        self.keep_day_of(id);
        self.journal.put_record(id, record);
    }

    /// Something of this message is written: its day is not left alone.
    pub fn keep_day_of(&mut self, id: MessageId) {
        if !self.retiring.is_empty() {
            self.retiring.remove(&id.timestamp().day());
        }
    }

    fn write(
        &mut self,
        entries: Vec<(Key, Option<Value>)>,
        reply: Answer<()>,
    ) -> Result<(), StoreError> {
        if let Err(error) = self.shared.check_running() {
            let _ = reply.send(Err(error));
            return Ok(());
        }
        for (key, value) in entries {
            match value {
                Some(value) => self.journal.put(key, value, false),
                None => self.journal.remove(&key),
            }
        }
        self.replies.push(Reply::Done(reply));
        Ok(())
    }

    /// Makes everything applied so far durable and answers; or, where that fails, stops intake.
    pub fn commit(&mut self, size: usize) {
        if self.journal.is_clean() || self.shared.check_running().is_err() {
            self.answer();
            return;
        }
        self.note_time();
        self.write_ledger();
        let start = Instant::now();
        match self.journal.commit() {
            Ok(octets) => {
                self.shared.note_commit(size, octets, start.elapsed());
                self.shared.note_ledger(&self.ledger, &self.lanes);
                self.shared
                    .leased
                    .store(self.leases.len() as u64, Ordering::Relaxed);
            }
            Err(error) => self.shared.stop(&error.to_string()),
        }
        self.answer();
        if self.journal.throttle(Duration::from_secs(60)) {
            self.shared
                .stop("writing behind has stood still for a minute");
        }
    }

    fn write_ledger(&mut self) {
        self.ledger.sequence = self.journal.sequence() + 1;
        let mut octets = Vec::with_capacity(96);
        records::encode_ledger(&self.ledger, &mut octets);
        self.journal.put(keys::LEDGER.into(), octets.into(), false);
    }

    fn answer(&mut self) {
        let outcome = self.shared.check_running();
        for reply in self.replies.drain(..) {
            // Who does not wait any more does not want an answer.
            match (reply, &outcome) {
                (Reply::Accepted(to, value), Ok(())) => drop(to.send(Ok(value))),
                (Reply::Claimed(to, messages), Ok(())) => drop(to.send(messages)),
                (Reply::Updated(to), Ok(())) => drop(to.send(Ok(()))),
                (Reply::Receipt(to, value), Ok(())) => drop(to.send(Ok(value))),
                (Reply::Found(to, value), Ok(())) => drop(to.send(Ok(value))),
                (Reply::Erased(to, value), Ok(())) => drop(to.send(Ok(value))),
                (Reply::Done(to), Ok(())) => drop(to.send(Ok(()))),
                (Reply::Accepted(to, _), Err(e)) => drop(to.send(Err(e.clone()))),
                (Reply::Held(held), outcome) => held(outcome.is_ok()),
                // Nothing that is not durable may go on the wire.
                (Reply::Claimed(to, _), Err(_)) => drop(to),
                (Reply::Updated(to), Err(e)) => drop(to.send(Err(UpdateError::Store(e.clone())))),
                (Reply::Receipt(to, _), Err(e)) => drop(to.send(Err(e.clone()))),
                (Reply::Found(to, _), Err(e)) => drop(to.send(Err(e.clone()))),
                (Reply::Erased(to, _), Err(e)) => drop(to.send(Err(e.clone()))),
                (Reply::Done(to), Err(e)) => drop(to.send(Err(e.clone()))),
            }
        }
    }

    pub fn close_generation(&mut self) {
        let old = self.generation_since.elapsed() >= self.options.generation_age;
        if old {
            self.write_recency();
            self.commit(0);
        }
        if self.shared.check_running().is_ok()
            && self.journal.is_clean()
            && self.journal.freeze(old)
        {
            self.generation_since = Instant::now();
            self.behind.wake();
        } else if old {
            self.generation_since = Instant::now();
        }
    }

    pub fn write_recency(&mut self) {
        let sequence = self.journal.sequence();
        for (window, counts) in self.recency.take_delta() {
            for (n, piece) in (0_u32..).zip(counts.chunks(RECENT_PIECE)) {
                let value = records::encode_recent(piece);
                self.journal
                    .put(keys::recent(window, sequence, n), value.into(), false);
            }
        }
    }

    fn write_state(&mut self) {
        for (namespace, key, value) in self.state.take_changes() {
            let names = &self.engine.names;
            let place = keys::state(names, &namespace, &key);
            match value {
                Some((expires, value)) => {
                    let value = records::encode_state(expires, &value);
                    let value = keys::named(names, &namespace, &key, value);
                    self.journal.put(place, value.into(), false);
                }
                None => self.journal.remove(&place),
            }
        }
    }

    /// How long to sleep where no command comes.
    fn next_wake(&self) -> Duration {
        // What is due is not handed out any more, and would wake this at once for ever.
        if self.shared.check_running().is_err() {
            return IDLE_POLL;
        }
        if !self.handed.is_empty() {
            return TICKET_POLL;
        }
        let waited_for = self
            .queues
            .iter()
            .filter(|q| !q.waiters.is_empty())
            .map(|q| q.ready.next_due());
        let due = waited_for.flatten().chain(self.outbox.next_due()).min();
        let wait = match due {
            Some(at) => self.clock.sleep_until(at),
            None => self.clock.sleep_until(Timestamp::MAX).max(IDLE_POLL),
        };
        if wait <= IDLE_POLL {
            return wait;
        }
        // Only where the clock is known to go steadily.
        let generation = self.options.generation_age;
        let left = generation.saturating_sub(self.generation_since.elapsed());
        wait.min(left.max(IDLE_POLL))
    }

    /// The number of a lane; a new lane's name is written with the commit that first uses it.
    pub fn lane_number(&mut self, lane: &Lane) -> Result<u16, StoreError> {
        if let Some(number) = self.lane_numbers.get(lane) {
            return Ok(*number);
        }
        let number = u16::try_from(self.lanes.len())
            .map_err(|_| StoreError::Limit("more than 65,535 lanes".into()))?;
        if let Lane::Carrier(carrier) = lane {
            self.journal.put(
                keys::lane_name(number),
                carrier.as_str().as_bytes().into(),
                false,
            );
        }
        self.lanes.push(lane.clone());
        self.lane_numbers.insert(lane.clone(), number);
        self.queues.push(LaneQueue {
            ready: ReadyQueue::empty(self.options.ready_max),
            waiters: VecDeque::new(),
        });
        Ok(number)
    }

    fn wait_for(&mut self, lane: &Lane, waiter: Waiter) -> Result<(), StoreError> {
        let number = self.lane_number(lane)?;
        self.queues[usize::from(number)].waiters.push_back(waiter);
        Ok(())
    }

    /// Hands what is due to whom waits for it.
    fn serve_claims(&mut self) {
        if self.shared.check_running().is_err() {
            return;
        }
        let now = self.clock.now();
        for lane in 0..self.queues.len() {
            loop {
                let queue = &mut self.queues[lane];
                while queue.waiters.front().is_some_and(Waiter::is_gone) {
                    queue.waiters.pop_front();
                }
                let Some(max) = queue.waiters.front().map(|w| w.max) else {
                    break;
                };
                if let Err(error) = self.refill(lane, max) {
                    self.shared.stop(&error.to_string());
                    return;
                }
                let claimed = self.take_due(lane, max, now);
                if claimed.is_empty() {
                    break;
                }
                if let Some(waiter) = self.queues[lane].waiters.pop_front() {
                    self.hand_out(lane, claimed, waiter);
                }
            }
        }
    }

    fn refill(&mut self, lane: usize, max: usize) -> Result<(), StoreError> {
        let prefix = keys::lane_prefix(u16::try_from(lane).unwrap_or(u16::MAX));
        // More than once where all that was read is leased.
        while let Some((after, asked)) = self.queues[lane].ready.wants_refill(max) {
            let entries = self.read_queue(&prefix, after, asked)?.into_iter();
            let entries = entries
                .map(|(slot, value)| (slot, super::prepared::due_awaits(&value)))
                .collect();
            let leases = &self.leases;
            self.queues[lane].ready.refill(asked, entries, |(_, id)| {
                leases.contains_key(&MessageId(id))
            });
        }
        Ok(())
    }

    pub fn read_queue(
        &self,
        prefix: &[u8],
        after: Option<Slot>,
        limit: usize,
    ) -> Result<Vec<(Slot, Value)>, StoreError> {
        let start = match after {
            None => prefix.to_vec(),
            Some((at, id)) => [&*keys::queue_key(prefix, at, id), &[0]].concat(),
        };
        let end = keys::after_prefix(prefix).unwrap_or_default();
        let found = self.engine.scan(&start, &end, limit)?;
        Ok(found
            .into_iter()
            .filter_map(|(key, value)| Some((keys::queue_entry(prefix, &key)?, value)))
            .collect())
    }

    fn take_due(&mut self, lane: usize, max: usize, now: Timestamp) -> Vec<(Slot, bool)> {
        let ready = &mut self.queues[lane].ready;
        std::iter::from_fn(|| ready.pop_due(now))
            .take(max)
            .collect()
    }

    fn hand_out(&mut self, lane: usize, claimed: Vec<(Slot, bool)>, waiter: Waiter) {
        let number = u16::try_from(lane).unwrap_or(u16::MAX);
        // A decision puts nothing on the wire: after a restart it is simply made again.
        let claim = (self.lanes[lane] != Lane::Decide).then(|| {
            self.ledger.claim += 1;
            let ids: Vec<_> = claimed
                .iter()
                .map(|((at, id), _)| (MessageId(*id), *at))
                .collect();
            self.journal.put(
                keys::claim(self.ledger.claim),
                records::encode_claim(&ids).into(),
                true,
            );
            self.claims.insert(self.ledger.claim, ids.len());
            self.ledger.claim
        });
        let (mut messages, mut ids) = (
            Vec::with_capacity(claimed.len()),
            Vec::with_capacity(claimed.len()),
        );
        for ((due, id), awaits) in claimed {
            let id = MessageId(id);
            ids.push(id);
            self.leases.insert(
                id,
                Lease {
                    lane: number,
                    due,
                    awaits,
                    claim,
                    deferred: Vec::new(),
                },
            );
            match self.engine.record(id) {
                Ok(Some(value)) => messages.push(value),
                Ok(None) => self.shared.quarantine(id.0, &"a due entry has no record"),
                Err(StoreError::Corrupt(why)) => self.shared.quarantine(id.0, &why),
                Err(error) => self.shared.stop(&error.to_string()),
            }
        }
        self.handed.push((waiter.ticket, Handed::Messages(ids)));
        self.replies.push(Reply::Claimed(waiter.reply, messages));
    }

    /// Takes back what was handed to claims that were dropped before they returned.
    fn take_back_abandoned(&mut self) {
        let mut handed = std::mem::take(&mut self.handed);
        handed.retain_mut(|(ticket, what)| {
            if ticket.taken.load(Ordering::Acquire) {
                return false;
            }
            // The only holder is left: nobody can take it any more.
            let abandoned = Arc::get_mut(ticket).is_some_and(|t| !*t.taken.get_mut());
            if abandoned {
                match what {
                    Handed::Messages(ids) => ids.iter().for_each(|id| self.return_lease(*id)),
                    Handed::Outbox(outlet, slots) => {
                        for slot in slots.iter() {
                            self.outbox.take_back(outlet, *slot);
                        }
                    }
                }
            }
            !abandoned
        });
        self.handed.append(&mut handed);
    }

    fn return_lease(&mut self, id: MessageId) {
        if let Some(lease) = self.leases.remove(&id) {
            self.end_claim(lease.claim);
            self.queues[usize::from(lease.lane)]
                .ready
                .insert((lease.due, id.0), lease.awaits);
        }
    }

    /// One message of this claim is settled; the last one removes the claim's entry.
    pub fn end_claim(&mut self, claim: Option<u64>) {
        let Some(claim) = claim else { return };
        if let Some(left) = self.claims.get_mut(&claim) {
            *left -= 1;
            if *left == 0 {
                self.claims.remove(&claim);
                self.journal.remove(&keys::claim(claim));
            }
        }
    }
}
