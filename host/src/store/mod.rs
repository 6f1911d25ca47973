//! The durable queue and store: every message from its acceptance to the end of its retention.
//! Speaks in messages (`accept`, `claim`, `settle`, `receipt`, `find`), never in keys; knows no
//! protocol, no plugin and no retry rule. [`Store`] is a handle; one committer thread writes.
//!
//! Reading order: `types` (what goes in and out), `commit` (the loop), `apply` (what commands do),
//! `engine` (how it becomes durable), `keys` and `records` (what is on disk).

mod ahead;
mod apply;
mod audit;
mod behind;
mod blobs;
mod blocks;
mod bytes;
mod checkpoint;
mod cleaning;
mod commit;
mod engine;
mod erase;
mod journal;
mod keys;
mod manifest;
mod message_record;
mod open;
mod optout;
mod outbox;
mod overlay;
mod plugin_state;
mod prepared;
mod queue;
mod read;
mod readers;
mod receipt_book;
mod receipts;
mod recency;
mod recording;
mod records;
mod recount;
pub mod salvage;
mod sealed;
mod sealing;
mod seeded;
mod settled;
mod shared;
mod threads;
mod types;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::clock::{Clock, Timestamp};
use crate::domain::receipt::{Receipt, ReceiptStyle};
use crate::domain::text::Concat;
use crate::domain::{AccountId, CarrierId, Lane, Message, MessageId};
use commit::{AcceptedAs, Command, Ticket};
use engine::{Engine, Value};
use keys::Key;
use optout::OptOuts;
use plugin_state::PluginState;
use prepared::Prepared;
use readers::Readers;
use receipt_book::ReceiptBook;
use receipts::IncomingReceipt;
use recency::Recency;
use seeded::Seed;
use shared::Shared;

pub use audit::{Act, AuditLog, Sound, Unsound, verify as verify_audit};
pub use erase::{EraseFrom, Erased};
pub use recording::{
    Cases, Forgotten, Recorded, RecordedBlock, Recorder, RecordingOptions, RecordingStats, cases,
};
pub use recount::Counted;
pub use sealing::{KeyUse, SealingKey, Seals};
pub use threads::TwoWay;
pub use types::{
    Accepted, Filter, Fragment, Held, Idempotency, InboundFilter, InboundRecord, OptOut,
    OptOutScope, Options, OrphanReceipt, OutboxEntry, OutboxKind, OutboxTarget, Page, Probes,
    ReceiptMatch, ReceiptReport, StoreError, StoreHealth, StoreStats, Thread, ThreadItem,
    UpdateError, WebhookOutcome,
};

/// Cheap to clone. The store ends, in good order, with `shutdown` or with its last handle.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    commands: mpsc::Sender<Command>,
    engine: Arc<Engine>,
    shared: Arc<Shared>,
    opt_outs: OptOuts,
    recency: Arc<Recency>,
    book: Arc<ReceiptBook>,
    state: Arc<PluginState>,
    two_way: TwoWay,
    seed: Seed,
    clock: Clock,
    blobs: std::path::PathBuf,
    /// None where all is done in the task that asks.
    readers: Option<Readers>,
    committer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Store {
    /// Opens or creates the store. Blocks; a message that may have been on the wire when the last
    /// process ended becomes `submit_unknown` before this returns.
    pub fn open(options: Options, clock: Clock) -> Result<Store, StoreError> {
        open::open(options, clock, open::Work::Threads)
    }

    /// The same without threads of its own, as a task of the runtime that this is called in: for
    /// simulations, which step through it.
    pub fn open_in_task(options: Options, clock: Clock) -> Result<Store, StoreError> {
        open::open(options, clock, open::Work::Task)
    }

    /// Makes a new message durable, or says what became of its idempotency key before.
    pub async fn accept(
        &self,
        message: Box<Message>,
        idempotency: Option<Idempotency>,
    ) -> Result<Accepted, StoreError> {
        self.inner.shared.check_intake()?;
        let prepared = Prepared::new(&message, &mut Vec::with_capacity(512));
        let recipient_hash = self.inner.pair(&message.account, &message.recipient.value);
        let names = &self.inner.engine.names;
        let thread = self.inner.two_way.entry(names, &message);
        let (reply, answer) = oneshot::channel();
        let command = Command::Accept {
            prepared: Box::new(prepared),
            recipient_hash,
            thread,
            idempotency,
            reply,
        };
        if let Err(error) = self.inner.commands.try_send(command) {
            return Err(match error {
                mpsc::error::TrySendError::Full(_) => {
                    self.inner
                        .shared
                        .refused_busy
                        .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    StoreError::Busy
                }
                mpsc::error::TrySendError::Closed(_) => closed(),
            });
        }
        Ok(match self.inner.wait(answer).await? {
            AcceptedAs::Fresh => Accepted::Fresh(message),
            AcceptedAs::Replay(record) => Accepted::Replay(Box::new(
                records::decode_message(&record).map_err(apply::damage)?,
            )),
            AcceptedAs::Mismatch => Accepted::Mismatch,
        })
    }

    /// Messages of `lane` that are due, at most `max`; waits until there is one. They are leased to
    /// the caller until it settles them. A dropped call strands nothing. Pends for ever once the
    /// store has ended.
    pub async fn claim(&self, lane: &Lane, max: usize) -> Vec<Box<Message>> {
        let ticket = Arc::new(Ticket::default());
        let (reply, answer) = oneshot::channel();
        let command = Command::Claim {
            lane: lane.clone(),
            max,
            ticket: ticket.clone(),
            reply,
        };
        let records = self.inner.claimed(command, answer).await;
        // From here to the return nothing waits: the caller has them, or never will.
        ticket.take();
        let decode = |record: Value| match records::decode_message(&record) {
            Ok(message) => Some(Box::new(message)),
            Err(damage) => {
                self.inner.shared.quarantine_octets(&record, &damage);
                None
            }
        };
        records.into_iter().filter_map(decode).collect()
    }

    /// Gives a lease back with what became of the message; durable with the next commit.
    pub async fn settle(&self, message: &Message, held: Option<Held>) {
        let prepared = Prepared::new(message, &mut Vec::with_capacity(640));
        self.inner.settle(vec![prepared], held).await;
    }

    pub async fn settle_many(&self, messages: Vec<Box<Message>>) {
        let mut scratch = Vec::with_capacity(640);
        let prepared = messages
            .iter()
            .map(|m| Prepared::new(m, &mut scratch))
            .collect();
        self.inner.settle(prepared, None).await;
    }

    /// Changes a message that is not being sent just now; durable on return.
    pub async fn update<R: Send + 'static>(
        &self,
        id: MessageId,
        change: impl FnOnce(&mut Message) -> R + Send + 'static,
    ) -> Result<R, UpdateError> {
        let result = Arc::new(Mutex::new(None));
        let slot = result.clone();
        let change = Box::new(move |message: &mut Message| *slot.lock() = Some(change(message)));
        let (reply, answer) = oneshot::channel();
        let command = Command::Update { id, change, reply };
        self.inner
            .commands
            .send(command)
            .await
            .map_err(|_| UpdateError::Store(closed()))?;
        answer
            .await
            .map_err(|_| UpdateError::Store(self.inner.gone()))??;
        let result = result.lock().take();
        result.ok_or(UpdateError::NotFound)
    }

    /// Applies a delivery receipt to the segment that it speaks of; durable on return. `style` is
    /// what the carrier's operator set: where that is `Auto`, what its receipts taught holds.
    pub async fn receipt(
        &self,
        carrier: CarrierId,
        receipt: Receipt,
        style: ReceiptStyle,
    ) -> Result<ReceiptMatch, StoreError> {
        let page = self.inner.book.page(&carrier);
        let receipt = Box::new(IncomingReceipt::new(carrier, receipt, style, &page));
        self.inner
            .ask(|reply| Command::Receipt(receipt, reply))
            .await
    }

    /// What is known of a carrier's receipts.
    pub fn receipt_report(&self, carrier: &CarrierId) -> ReceiptReport {
        self.inner.book.report(carrier)
    }

    /// A mobile-originated message; durable on return. Whom it is for is owed it from then on, and
    /// the parts that it was joined of are forgotten with the same commit. False where the carrier's
    /// `provider_id` was stored within three days: nothing is then stored.
    pub async fn insert_inbound(
        &self,
        record: InboundRecord,
        joined_of: &[Concat],
        provider_id: Option<&str>,
    ) -> Result<bool, StoreError> {
        let (id, now) = (record.inbound.id, self.inner.clock.now());
        let inbound = &record.inbound;
        let (carrier, from, to) = (&inbound.carrier, &inbound.originator, &inbound.recipient);
        let names = &self.inner.engine.names;
        let parts = joined_of
            .iter()
            .map(|concat| keys::fragment(names, carrier, from, to, *concat))
            .collect();
        let once = provider_id.map(|id| keys::once(carrier, id));
        let entries = threads::entries_of(names, &record, true);
        let mut bytes = Vec::with_capacity(256);
        records::encode_inbound(&record, &mut bytes);
        let url = record.webhook_url.map(OutboxTarget::Url);
        let esme = record.system_id.map(|id| OutboxTarget::Esme(id.into()));
        let owed = [(id.0, url), (OutboxEntry::esme_event(id, 0), esme)];
        let owed = owed.into_iter().filter_map(|(event, target)| {
            Some(OutboxEntry {
                event,
                account: record.account.clone()?,
                target: target?,
                kind: OutboxKind::Inbound,
                message: id,
                at: now,
                due: now,
                attempts: 0,
            })
        });
        let owed = owed.collect();
        let record = Value::from(bytes);
        self.inner
            .ask(|reply| Command::InsertInbound {
                id,
                record,
                entries,
                parts,
                owed,
                once,
                reply,
            })
            .await
    }

    /// A part of an inbound message whose other parts are awaited; durable on return.
    pub async fn put_fragment(&self, fragment: &Fragment) -> Result<(), StoreError> {
        let mut bytes = Vec::with_capacity(256);
        records::encode_fragment(fragment, &mut bytes);
        let key = keys::fragment(
            &self.inner.engine.names,
            &fragment.carrier,
            &fragment.originator,
            &fragment.recipient,
            fragment.concat,
        );
        self.inner.write(vec![(key, Some(bytes.into()))]).await
    }

    /// Webhooks that are due, at most `max`; waits until there is one. Leased until settled; a
    /// dropped call and a restart give them back.
    pub async fn claim_webhooks(&self, max: usize) -> Vec<OutboxEntry> {
        self.claim_owed(None, max).await
    }

    /// The same of what waits for an ESME.
    pub async fn claim_deliveries(&self, system_id: &Arc<str>, max: usize) -> Vec<OutboxEntry> {
        self.claim_owed(Some(system_id.clone()), max).await
    }

    async fn claim_owed(&self, outlet: Option<Arc<str>>, max: usize) -> Vec<OutboxEntry> {
        let ticket = Arc::new(Ticket::default());
        let (reply, answer) = oneshot::channel();
        let command = Command::ClaimOwed {
            outlet,
            max,
            ticket: ticket.clone(),
            reply,
        };
        let entries = self.inner.claimed(command, answer).await;
        ticket.take();
        let decode = |value: Value| match records::decode_outbox(&value) {
            Ok(entry) => Some(entry),
            Err(damage) => {
                self.inner.shared.quarantine_octets(&value, &damage);
                None
            }
        };
        entries.into_iter().filter_map(decode).collect()
    }

    /// Counts one more attempt and does as `outcome` says; durable with the next commit.
    pub async fn settle_owed(
        &self,
        entry: OutboxEntry,
        outcome: WebhookOutcome,
    ) -> Result<(), StoreError> {
        self.inner.shared.check_running()?;
        let command = Command::SettleOwed(Box::new(entry), outcome);
        self.inner
            .commands
            .send(command)
            .await
            .map_err(|_| closed())
    }

    /// Puts a dead letter back into the outbox; false where there is none of this event.
    pub async fn redeliver(&self, event: u128) -> Result<bool, StoreError> {
        self.inner
            .ask(|reply| Command::Redeliver(event, reply))
            .await
    }

    /// Records a wish; durable and in force on return.
    pub async fn set_opt_out(
        &self,
        scope: OptOutScope,
        recipient: &str,
        opted_out: bool,
        at: Timestamp,
        source: &str,
    ) -> Result<(), StoreError> {
        // A wish not to be written to holds from now on, the opposite only once it is durable.
        if opted_out {
            self.inner.opt_outs.set(&scope, recipient, true);
        }
        let names = &self.inner.engine.names;
        let wish = records::encode_wish(opted_out, at, source);
        let value = optout::value(names, &scope, recipient, wish);
        let key = optout::key(names, &scope, recipient);
        self.inner.write(vec![(key, Some(value.into()))]).await?;
        self.inner.opt_outs.set(&scope, recipient, opted_out);
        Ok(())
    }

    /// Whether `recipient` asked for no messages from this originator or account, or from anyone.
    pub fn opted_out(&self, account: &AccountId, originator: &str, recipient: &str) -> bool {
        self.inner
            .opt_outs
            .is_opted_out(account, originator, recipient)
    }

    /// Messages that `account` sent to `recipient` within at least 24 and at most 28 hours.
    pub fn sent_last_day(&self, account: &AccountId, recipient: &str) -> u32 {
        self.inner
            .recency
            .last_day(self.inner.pair(account, recipient), self.inner.clock.now())
    }

    /// Keeps a value of the floors above; durable on return.
    pub async fn put_meta(&self, key: &str, value: Vec<u8>) -> Result<(), StoreError> {
        if value.len() > META_OCTETS_MAX {
            return Err(StoreError::Limit(format!(
                "a value has at most {META_OCTETS_MAX} octets; put_blob takes more"
            )));
        }
        self.inner
            .write(vec![(keys::meta(key), Some(value.into()))])
            .await
    }

    pub async fn delete_meta(&self, key: &str) -> Result<(), StoreError> {
        self.inner.write(vec![(keys::meta(key), None)]).await
    }

    /// Octets of the namespace that count towards its limit.
    pub fn state_used(&self, namespace: &str) -> usize {
        self.inner.state.used(namespace)
    }

    pub fn state_get(&self, namespace: &str, key: &str) -> Option<Vec<u8>> {
        self.inner.state.get(namespace, key, self.inner.clock.now())
    }

    /// `ttl`: `None` keeps the value until it is deleted. `quota`: octets of keys and values that this
    /// namespace may hold, within the store's own bound.
    pub fn state_set(
        &self,
        namespace: &str,
        key: &str,
        value: Vec<u8>,
        ttl: Option<Duration>,
        quota: usize,
    ) -> Result<(), StoreError> {
        let now = self.inner.clock.now();
        let wake = self
            .inner
            .state
            .set(namespace, key, value, end_of(ttl, now), now, quota)?;
        self.inner.nudge(wake);
        Ok(())
    }

    pub fn state_delete(&self, namespace: &str, key: &str) {
        self.inner.nudge(self.inner.state.delete(namespace, key));
    }

    /// Adds to a counter and returns it; `ttl` counts from its first increment.
    pub fn state_increment(
        &self,
        namespace: &str,
        key: &str,
        by: i64,
        ttl: Option<Duration>,
        quota: usize,
    ) -> Result<i64, StoreError> {
        let now = self.inner.clock.now();
        let (value, wake) =
            self.inner
                .state
                .increment(namespace, key, by, end_of(ttl, now), now, quota)?;
        self.inner.nudge(wake);
        Ok(value)
    }

    /// Due entries of a lane, those being worked on included.
    pub fn queued(&self, lane: &Lane) -> u64 {
        self.inner.shared.queued(lane)
    }

    pub fn queues(&self) -> Vec<(Lane, u64)> {
        self.inner.shared.queues()
    }

    pub fn health(&self) -> StoreHealth {
        self.inner.shared.health()
    }

    /// The keys that it is sealed under, none where it is not.
    pub fn key_uses(&self) -> Vec<KeyUse> {
        let seals = self.inner.engine.seals.as_ref();
        seals.map(Seals::uses).unwrap_or_default()
    }

    pub fn stats(&self) -> StoreStats {
        StoreStats {
            recency_dropped: self.inner.recency.dropped(),
            disk_octets: self
                .inner
                .engine
                .disk_octets
                .load(std::sync::atomic::Ordering::Relaxed),
            ..self.inner.shared.stats()
        }
    }

    /// Applies what waits, writes everything, marks the directory as cleanly closed. What is
    /// called afterwards fails.
    pub async fn shutdown(&self) {
        let (reply, done) = oneshot::channel();
        if self
            .inner
            .commands
            .send(Command::Shutdown(reply))
            .await
            .is_ok()
        {
            let _ = done.await;
        }
        let thread = self.inner.committer.lock().take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// What `put_meta` takes; larger values are blobs.
const META_OCTETS_MAX: usize = 1 << 20;

impl Inner {
    fn pair(&self, account: &AccountId, recipient: &str) -> u64 {
        self.seed.hash(&[account.as_str(), recipient])
    }

    async fn settle(&self, messages: Vec<Prepared>, held: Option<Held>) {
        let command = Command::Settle(messages, held);
        if let Err(mpsc::error::SendError(unsent)) = self.commands.send(command).await {
            tracing::warn!("messages settled after the store ended; the restart resolves them");
            if let Command::Settle(_, Some(held)) = unsent {
                held(false);
            }
        }
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(commit::Answer<T>) -> Command,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| closed())?;
        self.wait(answer).await
    }

    async fn wait<T>(
        &self,
        answer: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        answer.await.unwrap_or_else(|_| Err(self.gone()))
    }

    async fn write(&self, entries: Vec<(Key, Option<Value>)>) -> Result<(), StoreError> {
        self.ask(|reply| Command::Write(entries, reply)).await
    }

    /// Waits for a claim; a store that stopped or ended hands out nothing any more.
    async fn claimed(&self, command: Command, answer: oneshot::Receiver<Vec<Value>>) -> Vec<Value> {
        if self.commands.send(command).await.is_ok()
            && let Ok(records) = answer.await
        {
            return records;
        }
        std::future::pending().await
    }

    /// Reads off the async threads: sled may go to the disk.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Engine) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let Some(readers) = &self.readers else {
            return read(&self.engine);
        };
        let engine = self.engine.clone();
        let done = readers.read(move || read(&engine)).await;
        done.unwrap_or_else(|| Err(StoreError::Io("a read of the store failed".into())))
    }

    /// A full queue needs no waking.
    fn nudge(&self, wake: bool) {
        if wake {
            let _ = self.commands.try_send(Command::Nudge);
        }
    }

    /// Why an answer never came.
    fn gone(&self) -> StoreError {
        self.shared.check_running().err().unwrap_or_else(closed)
    }
}

fn closed() -> StoreError {
    StoreError::Stopped("it was shut down".into())
}

fn end_of(ttl: Option<Duration>, now: Timestamp) -> Timestamp {
    ttl.map_or(Timestamp::MAX, |ttl| now.plus(ttl))
}

#[cfg(test)]
mod tests;
