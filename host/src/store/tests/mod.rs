//! Scenarios of the whole store, by what they are about, and the rig they share.

mod ahead;
mod deliveries;
mod durability;
mod erase;
mod life;
mod receipts;
mod registries;
mod salvage;
mod sealed;
mod threads;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::domain::message::ReceiptEffect;
use crate::domain::receipt::{Evidence, IdForm, Per, Report};
use crate::domain::text::Alphabet;
use crate::domain::{
    Address, Attempt, AttemptOutcome, Body, Hop, Inbound, Network, OnUnknown, Part, PartState,
    Plan, Reason, State, TrafficClass,
};

const START: Timestamp = Timestamp(1_700_000_000_000);
const HOUR: u64 = 3_600_000;
/// Longer than anything takes that does happen.
const PATIENCE: Duration = Duration::from_secs(20);

struct Rig {
    store: Store,
    clock: Clock,
    directory: Arc<tempfile::TempDir>,
    next: AtomicU64,
}

fn options(directory: &Path) -> Options {
    Options {
        free_octets_min: 0,
        cache_octets: 8 << 20,
        ..Options::new(directory)
    }
}

impl Rig {
    fn new() -> Rig {
        Rig::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut Options)) -> Rig {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let clock = Clock::manual(START);
        let mut options = options(directory.path());
        change(&mut options);
        let store = Store::open(options, clock.clone()).unwrap();
        Rig {
            store,
            clock,
            directory,
            next: AtomicU64::new(1),
        }
    }

    fn at(&self, since_start: u64) -> Timestamp {
        let at = Timestamp(START.0 + since_start);
        self.clock.set(at);
        at
    }

    fn message(&self) -> Box<Message> {
        message(self.clock.now(), self.next.fetch_add(1, Ordering::Relaxed))
    }

    async fn accept(&self) -> MessageId {
        let message = self.message();
        let id = message.id;
        assert!(matches!(
            self.store.accept(message, None).await,
            Ok(Accepted::Fresh(_))
        ));
        id
    }

    async fn claim(&self, carrier: &str) -> Vec<Box<Message>> {
        within(self.store.claim(&lane(carrier), 100)).await
    }

    /// Claims all that is due at the carrier and settles it as sent, its segment known as `ids[n]`.
    async fn send(&self, carrier: &str, ids: &[&str]) {
        let mut messages = self.claim(carrier).await;
        assert_eq!(messages.len(), ids.len());
        for (message, id) in messages.iter_mut().zip(ids) {
            sent(message, self.clock.now(), id);
        }
        self.store.settle_many(messages).await;
    }

    async fn receipt(&self, key: &str, state: PartState) -> ReceiptMatch {
        self.store
            .receipt("north".into(), receipt(key, state), ReceiptStyle::default())
            .await
            .unwrap()
    }

    async fn find(&self, id: MessageId) -> Message {
        self.store.find(id).await.unwrap().unwrap()
    }

    /// Polls what another thread does in its own time.
    async fn until(&self, what: &str, mut done: impl AsyncFnMut(&Store) -> bool) {
        let end = std::time::Instant::now() + PATIENCE;
        while !done(&self.store).await {
            assert!(std::time::Instant::now() < end, "did not happen: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// As after a kill: opens a copy of the directory as it is on disk right now.
    fn crash(&self) -> Rig {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        copy(self.directory.path(), directory.path());
        self.reopen(directory)
    }

    fn reopen(&self, directory: Arc<tempfile::TempDir>) -> Rig {
        let store = Store::open(options(directory.path()), self.clock.clone()).unwrap();
        Rig {
            store,
            clock: self.clock.clone(),
            directory,
            next: AtomicU64::new(1_000),
        }
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("took too long")
}

/// Lets whatever is ready run, and says whether the future is.
async fn is_pending<T>(future: &mut std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
    tokio::time::timeout(Duration::from_millis(30), future)
        .await
        .is_err()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn lane(carrier: &str) -> Lane {
    Lane::Carrier(carrier.into())
}

fn message(now: Timestamp, n: u64) -> Box<Message> {
    let mut message = Message {
        id: MessageId::new(now, u128::from(n)),
        account: "acme".into(),
        originator: Address::originator("Acme").unwrap(),
        recipient: Address::international("+447700900123").unwrap(),
        network: Network::default(),
        class: TrafficClass::Transactional,
        body: Body::Text(format!("number {n}")),
        submitted_body: None,
        alphabet: Alphabet::Gsm7,
        segments: 1,
        accepted_at: now,
        send_at: now,
        expires_at: Timestamp(now.0 + 24 * HOUR),
        reference: String::new(),
        metadata: Vec::new(),
        tlvs: Vec::new(),
        receipt_url: None,
        sm: crate::domain::SmParameters::default(),
        source: crate::domain::Source::Http,
        shift: crate::domain::text::ShiftTables::default(),
        on_unknown: OnUnknown::Resend,
        duplicate_risk: false,
        state: State::Queued,
        due: None,
        plan: plan("north"),
        hop: 0,
        attempts: Vec::new(),
        parts: Vec::new(),
        failed: Vec::new(),
        decisions: Vec::new(),
        events: Vec::new(),
    };
    message.enter(now, State::Queued, Reason::Accepted, "");
    message.wait(lane("north"), now);
    Box::new(message)
}

fn plan(carrier: &str) -> Plan {
    let hop = Hop {
        carrier: carrier.into(),
        originator: None,
        price_micros: None,
        tlvs: Vec::new(),
    };
    Plan {
        hops: vec![hop],
        ..Plan::default()
    }
}

fn sent(message: &mut Message, now: Timestamp, carrier_message_id: &str) {
    let carrier = message.next_hop_carrier().unwrap().clone();
    message.record_attempt(Attempt {
        carrier: carrier.clone(),
        at: now,
        outcome: AttemptOutcome::Sent,
    });
    message.parts = vec![Part {
        carrier,
        carrier_message_id: carrier_message_id.to_owned(),
        state: PartState::Enroute,
        error: String::new(),
        network_type: None,
        done_at: None,
    }];
    message.due = None;
    message.enter(now, State::Enroute, Reason::TakenByCarrier, "");
}

fn receipt(id: &str, state: PartState) -> Receipt {
    Receipt {
        id: id.to_owned(),
        report: Report::of(state),
        evidence: Evidence::default(),
    }
}

fn key_of(n: u8) -> Idempotency {
    Idempotency {
        account: "acme".into(),
        key: "order-1".into(),
        fingerprint: [n; 32],
    }
}
