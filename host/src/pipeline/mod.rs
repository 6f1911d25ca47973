//! The message's path, one file a step: `submit` (admit, decide, store), `dispatch` (claim, send,
//! settle), `receive` (receipts and mobile-originated messages), `notify` (webhooks), with
//! `decide` and `retry` as the two places where judgement lives, and `policy` as the one that
//! swaps it. Knows no JSON, no SMPP and no bytes on disk.

pub mod account;
pub mod alter;
pub mod call_back;
pub mod canary;
pub mod carriers;
pub mod compare;
pub mod decide;
pub mod dispatch;
pub mod erase;
pub mod events;
pub mod exchange;
mod gate;
pub mod inbound;
pub mod inbound_hooks;
pub mod inbound_routes;
pub mod judge;
mod lease;
pub mod notify;
pub mod numbers;
pub mod observers;
mod part_routes;
pub mod phones;
pub mod policy;
pub mod reassembly;
pub mod receive;
pub mod rehearse;
pub mod replay;
pub mod retry;
pub mod shadow;
pub mod signatures;
pub mod sources;
pub mod submit;
pub mod trial;
pub mod watch;

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

pub use account::{Account, Accounts};
pub use alter::{Changed, Replacement};
pub use carriers::Carriers;
pub use events::{EventKind, Events};
pub use exchange::NotExchanged;
pub use lease::{Debt, lasting};
pub use policy::Policy;
pub use submit::{Preview, Submission, SubmitError, Submitted};

use crate::clock::Clock;
use crate::domain::AccountId;
use crate::plugin::HttpClient;
use crate::store::{Recorder, Store};
use numbers::Numbers;

/// Everything a message meets on its way. One per server, shared by every task.
pub struct Pipeline {
    pub store: Store,
    pub policy: Policy,
    pub carriers: Carriers,
    pub accounts: Accounts,
    pub numbers: Numbers,
    pub clock: Clock,
    pub limits: Limits,
    pub events: Events,
    pub observers: observers::Observers,
    pub inbound_counts: inbound::InboundCounts,
    /// One replay at a time.
    replaying: tokio::sync::Mutex<()>,
    random: parking_lot::Mutex<SmallRng>,
    running_keys: submit::RunningKeys,
    gate: gate::Gate,
    part_routes: part_routes::PartRoutes,
    pub phones: phones::Phones,
    webhooks: Arc<dyn HttpClient>,
}

/// Bounds of the pipeline, from the configuration.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A message waits this long for its phone at most where its client names no validity.
    pub default_validity_seconds: u64,
    pub max_validity_seconds: u64,
    /// How far ahead `send_at` may lie.
    pub max_schedule_seconds: u64,
    /// Segments of one message.
    pub max_segments: u8,
    /// Attempts over all carriers.
    pub max_attempts: usize,
    /// Parts of mobile-originated messages that wait for each other.
    pub reassembly: reassembly::ReassemblyLimits,
    /// How old a message may be for a text to answer it.
    pub reply_window: Duration,
    /// Receipts and mobile-originated messages being written at once, all carriers together.
    pub max_receiving: usize,
    /// Webhook calls under way at once, and to one host.
    pub max_webhooks: usize,
    pub max_webhooks_per_host: usize,
    pub webhook_timeout_ms: u64,
    /// Whether targets may have private, loopback and link-local addresses.
    pub webhooks_private: bool,
    /// After this a webhook is a dead letter.
    pub webhook_give_up_seconds: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            default_validity_seconds: 72 * 3600,
            max_validity_seconds: 7 * 86_400,
            max_schedule_seconds: 35 * 86_400,
            max_segments: 10,
            max_attempts: 32,
            reassembly: reassembly::ReassemblyLimits::default(),
            reply_window: Duration::from_secs(72 * 3_600),
            max_receiving: 4096,
            max_webhooks: 256,
            max_webhooks_per_host: 32,
            webhook_timeout_ms: 15_000,
            webhooks_private: false,
            webhook_give_up_seconds: 72 * 3600,
        }
    }
}

/// The parts that a pipeline is made of.
pub struct Parts {
    pub store: Store,
    pub policy: Policy,
    pub carriers: Carriers,
    pub accounts: Accounts,
    pub numbers: Numbers,
    pub clock: Clock,
    pub limits: Limits,
    /// Where decisions are kept for replay.
    pub recorder: Option<Recorder>,
    pub seed: u64,
    pub webhooks: Arc<dyn HttpClient>,
}

impl Pipeline {
    pub fn new(parts: Parts) -> Arc<Pipeline> {
        Arc::new(Pipeline {
            events: parts.policy.events().clone(),
            gate: gate::Gate::new(parts.clock.monotonic()),
            observers: observers::Observers::new(parts.recorder, parts.clock.clone()),
            store: parts.store,
            policy: parts.policy,
            carriers: parts.carriers,
            accounts: parts.accounts,
            numbers: parts.numbers,
            clock: parts.clock,
            limits: parts.limits,
            inbound_counts: inbound::InboundCounts::default(),
            replaying: tokio::sync::Mutex::new(()),
            random: parking_lot::Mutex::new(SmallRng::seed_from_u64(parts.seed)),
            running_keys: submit::RunningKeys::default(),
            part_routes: part_routes::PartRoutes::default(),
            phones: phones::Phones::default(),
            webhooks: parts.webhooks,
        })
    }

    /// Submissions that are worked on, how many may be, and how many were refused for that.
    pub fn gate(&self) -> gate::GateStats {
        self.gate.stats()
    }

    /// Whether a submission of this account would find no room: who asks first spares himself the reading of it.
    pub fn is_full(&self, account: &AccountId) -> bool {
        self.gate.is_full(account)
    }

    fn random_u64(&self) -> u64 {
        self.random.lock().random()
    }

    fn random_u128(&self) -> u128 {
        self.random.lock().random()
    }

    /// Uniform in [0, 1).
    fn random_unit(&self) -> f64 {
        self.random.lock().random()
    }
}

/// Resolves once `stop` is true.
async fn stopped(stop: &mut tokio::sync::watch::Receiver<bool>) {
    // An error means that nobody is left to say stop, which is one.
    let _ = stop.wait_for(|stop| *stop).await;
}
