//! What the store takes and gives, in messages and never in keys: options, errors, results and the
//! records that are not the message itself.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::engine::SEGMENT_OCTETS;
use super::sealing::Seals;
use super::threads::TwoWay;
use crate::clock::Timestamp;
use crate::domain::message::ReceiptEffect;
use crate::domain::receipt::{IdForm, Per, Receipt};
use crate::domain::text::Concat;
use crate::domain::{
    AccountId, Address, CarrierId, Inbound, Message, MessageId, SetId, State, TrafficClass,
};

/// Called with whether what it was given with is durable; where it is not, it never will be, because the store has
/// stopped.
pub type Held = Box<dyn FnOnce(bool) + Send>;

/// Limits and places. Every bound has a name here and a default.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory that holds everything.
    pub path: PathBuf,
    /// Days that a terminal message is kept.
    pub retention_days: u32,
    /// fdatasync before anything is answered. Off only where losing acknowledged messages at a
    /// power cut is acceptable.
    pub sync: bool,
    /// Commands that wait for the committer; beyond it `accept` answers [`StoreError::Busy`].
    pub command_queue_max: usize,
    /// Commands of one group commit.
    pub commit_max: usize,
    /// Commits begin at least this far apart: a sync costs the same for one command as for a
    /// hundred. A command that comes to an idle store does not wait.
    pub commit_interval: Duration,
    /// After this what waits for an ESME that does not bind is a dead letter.
    pub delivery_give_up: Duration,
    /// Due entries held in memory per lane; the others stay in the due index.
    pub ready_max: usize,
    /// sled's page cache.
    pub cache_octets: u64,
    /// What sled writes and uses again as one piece. A store keeps that which it was created with.
    pub segment_octets: usize,
    /// Below this much free space `accept` answers [`StoreError::StorageFull`]; receipts still land.
    pub free_octets_min: u64,
    /// Receipts without a message that are kept.
    pub orphans_max: u64,
    /// (account, recipient) pairs whose messages of the last day are counted.
    pub recency_max: usize,
    /// Octets of keys and values of one plugin's state.
    pub state_octets_max: usize,
    /// Which originators can be answered: their messages stand in conversations.
    pub two_way: TwoWay,
    /// What is sealed before it is written, and how; none: nothing is.
    pub seals: Option<Seals>,
    /// A start reads as much of sled's log as was written since the last note of where its pages are; a new one is
    /// made after so much.
    pub checkpoint_octets: u64,
    /// How often a piece of the indices is read for what time has overtaken.
    pub sweep_interval: Duration,
    /// What is committed is written behind at this age, however little it is.
    pub generation_age: Duration,
    pub probes: Probes,
}

impl Options {
    pub fn new(path: impl Into<PathBuf>) -> Options {
        Options {
            path: path.into(),
            retention_days: 30,
            sync: true,
            command_queue_max: 8_192,
            commit_max: 1_024,
            commit_interval: Duration::from_millis(2),
            delivery_give_up: Duration::from_secs(72 * 3_600),
            ready_max: 10_000,
            cache_octets: 32 << 20,
            segment_octets: SEGMENT_OCTETS,
            free_octets_min: 512 << 20,
            orphans_max: 100_000,
            recency_max: 1_000_000,
            state_octets_max: 4 << 20,
            two_way: TwoWay::default(),
            seals: None,
            checkpoint_octets: 128 << 20,
            sweep_interval: Duration::from_millis(250),
            generation_age: Duration::from_secs(5),
            probes: Probes::default(),
        }
    }
}

pub type SyncProbe = Arc<dyn Fn(&File) -> std::io::Result<()> + Send + Sync>;
pub type SpaceProbe = Arc<dyn Fn(&Path) -> std::io::Result<u64> + Send + Sync>;

/// How the disk is synced and measured; a test passes its own.
#[derive(Clone)]
pub struct Probes {
    pub sync: SyncProbe,
    pub free_octets: SpaceProbe,
}

impl Default for Probes {
    fn default() -> Probes {
        Probes {
            sync: Arc::new(File::sync_data),
            free_octets: Arc::new(|path| fs2::available_space(path)),
        }
    }
}

#[cfg(test)]
impl Probes {
    /// Those that sync nothing and tell how often they were to.
    pub fn counting() -> (Probes, Arc<std::sync::atomic::AtomicU64>) {
        let syncs = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counted = syncs.clone();
        let probes = Probes {
            sync: Arc::new(move |_: &File| {
                counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok(())
            }),
            ..Probes::default()
        };
        (probes, syncs)
    }
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probes")
    }
}

/// All of these are ours or the machine's, none the client's. `Busy` and `StorageFull` pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// More work waits than the store takes: try again shortly.
    Busy,
    /// A write or sync failed; intake is stopped until the process is restarted.
    Stopped(String),
    StorageFull {
        free_octets: u64,
        needed_octets: u64,
    },
    Io(String),
    /// What is on disk cannot be read.
    Corrupt(String),
    /// The directory holds less than its manifest says it should.
    Lost(String),
    /// Written by a newer release, or no store at all.
    Format(String),
    /// A limit of the store; the text names it.
    Limit(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Busy => write!(
                f,
                "the store has more work waiting than it takes; try again shortly"
            ),
            StoreError::Stopped(why) => write!(f, "the store has stopped taking messages: {why}"),
            StoreError::StorageFull {
                free_octets,
                needed_octets,
            } => write!(
                f,
                "{} MiB are free on the store's disk, {} MiB are needed to take messages",
                free_octets >> 20,
                needed_octets >> 20
            ),
            StoreError::Io(why) => write!(f, "the store cannot reach its disk: {why}"),
            StoreError::Corrupt(why) => write!(f, "the store is damaged: {why}"),
            StoreError::Lost(why) => write!(f, "the store holds less than it should: {why}"),
            StoreError::Format(why) => write!(f, "the store's format: {why}"),
            StoreError::Limit(which) => write!(f, "{which}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// A client's Idempotency-Key with the digest of what it came with.
#[derive(Clone, Debug)]
pub struct Idempotency {
    pub account: AccountId,
    pub key: String,
    pub fingerprint: [u8; 32],
}

/// What became of an accepted message. All are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    Fresh(Box<Message>),
    /// The same key and fingerprint within 24 hours: the message of then, as it stands now.
    Replay(Box<Message>),
    /// The same key with another fingerprint: nothing was stored.
    Mismatch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptMatch {
    Matched {
        id: MessageId,
        effect: ReceiptEffect,
        /// When the last attempt at this message began.
        taken_at: Timestamp,
        /// The policy set that decided it.
        set: Option<SetId>,
        /// [`Message::asks_for_alert`].
        asks_for_alert: bool,
    },
    /// The message is being sent again just now; applied when that attempt settles.
    Deferred(MessageId),
    /// No segment waits for it yet; kept for 72 hours, because it may precede the response.
    Orphaned,
    /// Several messages may be meant, and nothing decides between them: kept like an orphan.
    Ambiguous,
}

/// What is known of one carrier's receipts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptReport {
    /// What the operator set; none until a receipt came.
    pub set_form: Option<IdForm>,
    pub set_per: Option<Per>,
    /// In which form its ids come back, once its receipts have taught that.
    pub learned_form: Option<IdForm>,
    /// Pairs of ids that the present lesson has seen, and for which form each speaks.
    pub pairs: u32,
    pub votes: Vec<(IdForm, u32)>,
    /// Lessons that ended without a form.
    pub undecided: u32,
    pub learned_per: Option<Per>,
    /// Receipts that wait for their message just now.
    pub orphans: u64,
    /// Since the server started, by a stable name.
    pub counts: Vec<(&'static str, u64)>,
}

/// A receipt that waits for its message.
#[derive(Clone, Debug, PartialEq)]
pub struct OrphanReceipt {
    pub carrier: CarrierId,
    pub receipt: Receipt,
    pub received_at: Timestamp,
    /// Ids of responses that it would meet.
    pub keys: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateError {
    NotFound,
    /// An attempt is under way: it may be on the wire.
    Leased,
    Store(StoreError),
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpdateError::NotFound => write!(f, "no message has this id"),
            UpdateError::Leased => write!(f, "the message is being sent just now"),
            UpdateError::Store(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for UpdateError {}

/// Which messages a list shows. `since` is inclusive, `until` exclusive, both times of acceptance.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub account: Option<AccountId>,
    pub status: Option<State>,
    /// A recipient's value, as [`crate::domain::Address`] holds it.
    pub to: Option<String>,
    pub from: Option<String>,
    pub class: Option<TrafficClass>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// A page, newest first. `next` goes on from there; it may be set on an empty page, because one
/// call reads a bounded number of records.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<MessageId>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct InboundRecord {
    pub inbound: Inbound,
    /// Whose number was texted, where one of ours owns it.
    pub account: Option<AccountId>,
    pub labels: Vec<String>,
    /// A plugin took it: nobody is told.
    pub consumed: bool,
    pub webhook_url: Option<String>,
    /// The message that it answers, as far as can be told: the last one from that number to that
    /// handset, within some days.
    pub in_reply_to: Option<MessageId>,
    /// The ESME it is delivered to.
    pub system_id: Option<String>,
}

/// Which mobile-originated messages a list shows.
#[derive(Clone, Debug, Default)]
pub struct InboundFilter {
    /// None: everybody's.
    pub account: Option<AccountId>,
    /// Only what is nobody's.
    pub unrouted: bool,
    /// The handset, as [`crate::domain::Address`] holds it.
    pub from: Option<String>,
    /// The number that was texted.
    pub to: Option<String>,
    pub label: Option<String>,
    /// Inclusive.
    pub since: Option<Timestamp>,
    /// Exclusive.
    pub until: Option<Timestamp>,
}

impl InboundFilter {
    pub(super) fn admits(&self, record: &InboundRecord) -> bool {
        let inbound = &record.inbound;
        let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|w| w == value);
        (self.account.is_none() || self.account == record.account)
            && (!self.unrouted || record.account.is_none())
            && is(&self.from, &inbound.originator.value)
            && is(&self.to, &inbound.recipient.value)
            && self
                .label
                .as_ref()
                .is_none_or(|l| record.labels.contains(l))
            && self.since.is_none_or(|at| inbound.id.timestamp() >= at)
            && self.until.is_none_or(|at| inbound.id.timestamp() < at)
    }
}

/// One of an account's numbers and a handset that wrote to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Thread {
    pub number: String,
    pub handset: String,
    pub last_inbound: InboundRecord,
    /// The newest message either way.
    pub last: MessageId,
}

/// What stands in a conversation.
#[derive(Clone, Debug, PartialEq)]
pub enum ThreadItem {
    Message(Box<Message>),
    Inbound(Box<InboundRecord>),
}

/// One part of a mobile-originated message whose other parts have not come yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    pub carrier: CarrierId,
    pub originator: Address,
    pub recipient: Address,
    pub data_coding: u8,
    pub udh: Vec<u8>,
    pub payload: Vec<u8>,
    pub concat: Concat,
    pub received_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxKind {
    /// A message entered this state, or was tried again within it.
    Status(State),
    Inbound,
}

/// Who is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxTarget {
    Url(String),
    /// A receiving bind of this system_id, whenever there is one.
    Esme(Arc<str>),
}

/// What a client is owed: a webhook or a deliver_sm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEntry {
    /// Stable over all its attempts.
    pub event: u128,
    pub account: AccountId,
    pub target: OutboxTarget,
    pub kind: OutboxKind,
    /// The message, or the inbound message.
    pub message: MessageId,
    pub at: Timestamp,
    /// The next attempt.
    pub due: Timestamp,
    /// Attempts made.
    pub attempts: u32,
}

impl OutboxEntry {
    /// The event of what is told to an ESME, another one than the webhook's about the same message.
    /// `attempts`: how many there were, for an intermediate notification; none for the last word.
    pub fn esme_event(message: MessageId, attempts: usize) -> u128 {
        // Ids are random in their low octets, so no other message's event is met.
        message.0 ^ (0x5A << 56) ^ (attempts as u128) << 32
    }
}

/// How an attempt at telling ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookOutcome {
    Done,
    RetryAt(Timestamp),
    /// Not attempted: its target has as many calls under way as it may.
    Busy(Timestamp),
    /// Given up; listed, and delivered again on request.
    Dead,
}

/// What an opt-out reaches: a number that was texted, all of an account, or everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptOutScope {
    Number(String),
    Account(AccountId),
    Everything,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptOut {
    pub scope: OptOutScope,
    pub recipient: String,
    pub at: Timestamp,
    /// Who said so: a keyword, an operator.
    pub source: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreHealth {
    pub accepting: bool,
    /// Why not, empty otherwise.
    pub reason: String,
}

/// Counters and gauges at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    pub commits: u64,
    pub committed_commands: u64,
    pub journal_octets: u64,
    /// Commits by duration: up to each of [`StoreStats::SYNC_BOUNDS_US`], the last beyond them all.
    pub sync_us: [u64; 9],
    pub sync_us_sum: u64,
    pub accepted: u64,
    pub refused_busy: u64,
    /// Not yet terminal.
    pub live: u64,
    /// Segments that wait for a receipt.
    pub awaiting: u64,
    pub orphans: u64,
    pub orphans_dropped: u64,
    pub outbox: u64,
    pub dead: u64,
    pub leased: u64,
    /// Records that were met and cannot be read.
    pub unreadable: u64,
    pub recency_dropped: u64,
    pub disk_octets: u64,
    /// Days with records: the oldest one, counted from 1970, and how many; those whose retention
    /// ended since the start.
    pub oldest_day: u64,
    pub days: u64,
    pub days_dropped: u64,
    /// Notes of where its pages are, made while in use since the start.
    pub checkpoints: u64,
}

impl StoreStats {
    pub const SYNC_BOUNDS_US: [u64; 8] = [250, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 250_000];
}
