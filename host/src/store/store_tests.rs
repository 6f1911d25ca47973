use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::domain::message::ReceiptEffect;
use crate::domain::text::Alphabet;
use crate::domain::{
    Attempt, AttemptOutcome, Body, Hop, Inbound, Network, OnUnknown, Part, Plan, Reason, State,
    TrafficClass,
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
            .receipt(
                "north".into(),
                vec![key.to_owned()],
                state,
                String::new(),
                None,
            )
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
        on_unknown: OnUnknown::Resend,
        duplicate_risk: false,
        state: State::Queued,
        due: None,
        plan: plan("north"),
        hop: 0,
        attempts: Vec::new(),
        parts: Vec::new(),
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
        reason: String::new(),
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
        done_at: None,
    }];
    message.due = None;
    message.enter(now, State::Enroute, Reason::TakenByCarrier, "");
}

fn key_of(n: u8) -> Idempotency {
    Idempotency {
        account: "acme".into(),
        key: "order-1".into(),
        fingerprint: [n; 32],
    }
}

#[tokio::test]
async fn a_message_goes_from_acceptance_to_its_receipt() {
    let rig = Rig::new();
    let id = rig.accept().await;
    rig.send("north", &["A1"]).await;
    let matched = rig.receipt("a1", PartState::Delivered).await;
    assert!(
        matches!(
            matched,
            ReceiptMatch::Matched {
                effect: ReceiptEffect::Settled,
                ..
            }
        ),
        "{matched:?}"
    );
    assert_eq!(rig.find(id).await.state, State::Delivered);
    let stats = rig.store.stats();
    assert_eq!(
        (
            stats.live,
            stats.awaiting,
            stats.leased,
            rig.store.queued(&lane("north"))
        ),
        (0, 0, 0, 0)
    );
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_crash_and_is_claimed_once() {
    let rig = Rig::new();
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(rig.accept().await);
    }
    let after = rig.crash();
    let claimed: Vec<_> = after.claim("north").await.iter().map(|m| m.id).collect();
    assert_eq!(claimed, ids);
    let north = lane("north");
    let mut more = std::pin::pin!(after.store.claim(&north, 100));
    assert!(
        is_pending(&mut more).await,
        "a leased message was handed out again"
    );
}

#[tokio::test]
async fn after_a_crash_what_was_in_flight_is_submit_unknown_and_what_was_settled_is_not() {
    let rig = Rig::new();
    let (first, second, third) = (rig.accept().await, rig.accept().await, rig.accept().await);
    let mut batch = rig.claim("north").await;
    let (mut done, mut retried) = (batch.remove(0), batch.remove(0));
    sent(&mut done, rig.clock.now(), "1");
    retried.wait(lane("north"), Timestamp(START.0 + 5_000));
    rig.store.settle_many(vec![done, retried]).await;
    rig.accept().await;
    let after = rig.crash();
    assert_eq!(after.find(first).await.state, State::Enroute);
    assert_eq!(after.find(second).await.state, State::Queued);
    let unknown = after.find(third).await;
    assert_eq!(
        (unknown.state, unknown.reason(), unknown.duplicate_risk),
        (State::SubmitUnknown, Reason::Restarted, true)
    );
    // Once resolved, a second crash does not count it again.
    assert_eq!(after.crash().find(third).await, unknown);
}

#[tokio::test]
async fn a_decision_in_flight_is_simply_made_again_after_a_crash() {
    let rig = Rig::new();
    let mut message = rig.message();
    message.wait(Lane::Decide, START);
    let id = message.id;
    rig.store.accept(message, None).await.unwrap();
    within(rig.store.claim(&Lane::Decide, 1)).await;
    rig.accept().await;
    let after = rig.crash();
    assert_eq!(after.find(id).await.state, State::Queued);
    assert_eq!(within(after.store.claim(&Lane::Decide, 1)).await.len(), 1);
}

#[tokio::test]
async fn a_claim_waits_for_its_own_lane_and_for_the_due_time() {
    let rig = Rig::new();
    let mut later = rig.message();
    later.wait(lane("north"), Timestamp(START.0 + HOUR));
    rig.store.accept(later, None).await.unwrap();
    let (north, south) = (lane("north"), lane("south"));
    let mut for_north = std::pin::pin!(rig.store.claim(&north, 10));
    let mut for_south = std::pin::pin!(rig.store.claim(&south, 10));
    assert!(
        is_pending(&mut for_north).await,
        "handed out before its time"
    );
    rig.at(HOUR);
    assert_eq!(within(for_north).await.len(), 1);
    assert!(
        is_pending(&mut for_south).await,
        "another carrier's message"
    );
}

#[tokio::test]
async fn a_dropped_claim_strands_nothing() {
    let rig = Rig::new();
    let north = lane("north");
    // Dropped at every stage: before it is heard, while it waits, while its answer is on the way.
    for pause in [0, 0, 1, 2, 3, 5, 8] {
        let claim = rig.store.claim(&north, 10);
        let waiting = tokio::time::timeout(Duration::from_millis(pause), claim);
        let (claimed, id) = tokio::join!(waiting, rig.accept());
        let claimed = match claimed {
            Ok(messages) => messages,
            Err(_) => rig.claim("north").await,
        };
        assert_eq!(claimed.iter().map(|m| m.id).collect::<Vec<_>>(), vec![id]);
        for mut message in claimed {
            message.enter(START, State::Canceled, Reason::CanceledByClient, "");
            rig.store.settle(message).await;
        }
    }
}

#[tokio::test]
async fn a_claim_that_was_answered_but_never_polled_gives_its_messages_back() {
    let rig = Rig::new();
    let north = lane("north");
    {
        let mut claim = std::pin::pin!(rig.store.claim(&north, 10));
        assert!(is_pending(&mut claim).await);
        rig.accept().await;
        rig.until("the lease", async |store| store.stats().leased == 1)
            .await;
    }
    assert_eq!(rig.claim("north").await.len(), 1);
}

#[tokio::test]
async fn an_idempotency_key_replays_for_a_day_and_tells_another_body() {
    let rig = Rig::new();
    let message = rig.message();
    let id = message.id;
    rig.store.accept(message, Some(key_of(1))).await.unwrap();
    let again = rig
        .store
        .accept(rig.message(), Some(key_of(1)))
        .await
        .unwrap();
    assert!(matches!(again, Accepted::Replay(m) if m.id == id));
    assert_eq!(
        rig.store.accept(rig.message(), Some(key_of(2))).await,
        Ok(Accepted::Mismatch)
    );
    assert_eq!(rig.store.stats().accepted, 1);
    let after = rig.crash();
    after.at(23 * HOUR);
    let again = after
        .store
        .accept(after.message(), Some(key_of(1)))
        .await
        .unwrap();
    assert!(matches!(again, Accepted::Replay(m) if m.id == id));
    after.at(24 * HOUR);
    let fresh = after
        .store
        .accept(after.message(), Some(key_of(2)))
        .await
        .unwrap();
    assert!(matches!(fresh, Accepted::Fresh(_)));
}

#[tokio::test]
async fn keys_that_arrive_together_make_one_message() {
    let rig = Rig::new();
    let calls = (0..8).map(|_| {
        let (store, message) = (rig.store.clone(), rig.message());
        tokio::spawn(async move { store.accept(message, Some(key_of(1))).await.unwrap() })
    });
    let mut fresh = 0;
    for call in calls.collect::<Vec<_>>() {
        fresh += u32::from(matches!(call.await.unwrap(), Accepted::Fresh(_)));
    }
    assert_eq!(fresh, 1);
}

#[tokio::test]
async fn a_receipt_that_precedes_the_response_is_applied_when_it_comes() {
    let rig = Rig::new();
    let id = rig.accept().await;
    assert_eq!(
        rig.receipt("77", PartState::Delivered).await,
        ReceiptMatch::Orphaned
    );
    assert_eq!(rig.store.stats().orphans, 1);
    let after = rig.crash();
    after.send("north", &["77"]).await;
    after
        .until("the receipt", async |store| store.stats().live == 0)
        .await;
    assert_eq!(after.find(id).await.state, State::Delivered);
    assert_eq!(after.store.stats().orphans, 0);
}

#[tokio::test]
async fn a_receipt_for_an_earlier_attempt_waits_for_the_one_under_way() {
    let rig = Rig::new();
    let id = rig.accept().await;
    let mut message = rig.claim("north").await.remove(0);
    sent(&mut message, START, "1");
    message.submit_unknown(START, Reason::ResponseTimeout);
    message.wait(lane("north"), START);
    rig.store.settle(message).await;
    let message = rig.claim("north").await.remove(0);
    assert_eq!(
        rig.receipt("1", PartState::Delivered).await,
        ReceiptMatch::Deferred(id)
    );
    assert_eq!(rig.find(id).await.state, State::SubmitUnknown);
    rig.store.settle(message).await;
    rig.until("the receipt", async |store| store.stats().live == 0)
        .await;
    let settled = rig.find(id).await;
    assert_eq!((settled.state, settled.due), (State::Delivered, None));
    assert_eq!(
        (rig.store.stats().orphans, rig.store.queued(&lane("north"))),
        (0, 0)
    );
}

#[tokio::test]
async fn a_receipt_is_matched_at_its_own_carrier_and_under_any_candidate() {
    let rig = Rig::new();
    let id = rig.accept().await;
    rig.send("north", &["1A"]).await;
    let other = rig
        .store
        .receipt(
            "south".into(),
            vec!["1a".into()],
            PartState::Delivered,
            String::new(),
            None,
        )
        .await;
    assert_eq!(other, Ok(ReceiptMatch::Orphaned));
    let keys = vec!["26".to_owned(), "1a".to_owned()];
    let matched = rig
        .store
        .receipt(
            "north".into(),
            keys,
            PartState::Undeliverable,
            "013".into(),
            None,
        )
        .await
        .unwrap();
    assert!(matches!(matched, ReceiptMatch::Matched { id: found, .. } if found == id));
    assert_eq!(rig.find(id).await.state, State::Undeliverable);
}

#[tokio::test]
async fn segments_report_one_by_one_and_a_repeat_changes_nothing() {
    let rig = Rig::new();
    let id = rig.accept().await;
    let mut message = rig.claim("north").await.remove(0);
    sent(&mut message, START, "1");
    let second = Part {
        carrier_message_id: "2".into(),
        ..message.parts[0].clone()
    };
    message.parts.push(second);
    rig.store.settle(message).await;
    let effect = |m: ReceiptMatch| match m {
        ReceiptMatch::Matched { effect, .. } => Some(effect),
        ReceiptMatch::Deferred(_) | ReceiptMatch::Orphaned => None,
    };
    assert_eq!(
        effect(rig.receipt("1", PartState::Delivered).await),
        Some(ReceiptEffect::Progress)
    );
    assert_eq!(rig.store.stats().awaiting, 1);
    assert_eq!(effect(rig.receipt("1", PartState::Delivered).await), None);
    assert_eq!(
        effect(rig.receipt("2", PartState::Delivered).await),
        Some(ReceiptEffect::Settled)
    );
    assert_eq!(rig.find(id).await.state, State::Delivered);
}

#[tokio::test]
async fn an_update_changes_a_waiting_message_and_never_a_leased_one() {
    let rig = Rig::new();
    let (first, second) = (rig.accept().await, rig.accept().await);
    let cancel = |m: &mut Message| m.enter(START, State::Canceled, Reason::CanceledByClient, "");
    assert_eq!(rig.store.update(second, cancel).await, Ok(true));
    let claimed = rig.claim("north").await;
    assert_eq!(
        claimed.iter().map(|m| m.id).collect::<Vec<_>>(),
        vec![first]
    );
    assert_eq!(
        rig.store.update(first, cancel).await,
        Err(UpdateError::Leased)
    );
    assert_eq!(
        rig.store.update(MessageId(7), cancel).await,
        Err(UpdateError::NotFound)
    );
    assert_eq!(rig.crash().find(second).await.state, State::Canceled);
}

#[tokio::test]
async fn more_messages_than_memory_may_hold_come_out_in_order_and_once() {
    let rig = Rig::with(|o| o.ready_max = 5);
    for _ in 0..40 {
        rig.accept().await;
    }
    let mut seen = Vec::new();
    while seen.len() < 40 {
        let batch = within(rig.store.claim(&lane("north"), 3)).await;
        seen.extend(batch.iter().map(|m| m.id));
        if seen.len() % 2 == 0 {
            for mut message in batch {
                let carrier_message_id = message.id.to_string();
                sent(&mut message, START, &carrier_message_id);
                rig.store.settle(message).await;
            }
        }
    }
    let mut sorted = seen.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(seen, sorted);
}

#[tokio::test]
async fn an_expired_message_at_a_dead_carrier_is_handed_to_the_decider() {
    let rig = Rig::new();
    let id = rig.accept().await;
    rig.at(25 * HOUR);
    let expired = within(rig.store.claim(&Lane::Decide, 10)).await;
    assert_eq!(expired.iter().map(|m| m.id).collect::<Vec<_>>(), vec![id]);
    assert_eq!(
        (
            rig.store.queued(&lane("north")),
            rig.store.queued(&Lane::Decide)
        ),
        (0, 1)
    );
}

#[tokio::test]
async fn a_receipt_that_never_comes_ends_in_unknown() {
    let rig = Rig::new();
    let id = rig.accept().await;
    rig.send("north", &["1"]).await;
    rig.accept().await;
    rig.at(49 * HOUR);
    rig.until("the timeout", async |store| store.stats().awaiting == 0)
        .await;
    let message = rig.find(id).await;
    assert_eq!(
        (message.state, message.reason()),
        (State::Unknown, Reason::ReceiptTimeout)
    );
}

#[tokio::test]
async fn orphans_are_bounded_and_end_after_three_days() {
    let rig = Rig::with(|o| o.orphans_max = 2);
    for key in ["1", "2", "3"] {
        rig.receipt(key, PartState::Delivered).await;
    }
    assert_eq!(
        (rig.store.stats().orphans, rig.store.stats().orphans_dropped),
        (2, 1)
    );
    rig.at(73 * HOUR);
    rig.until("their end", async |store| store.stats().orphans == 0)
        .await;
}

#[tokio::test]
async fn a_full_disk_refuses_messages_and_takes_receipts_until_there_is_room_again() {
    let free = Arc::new(AtomicU64::new(100));
    let measured = free.clone();
    let rig = Rig::with(|o| {
        o.free_octets_min = 50;
        o.probes.free_octets = Arc::new(move |_| Ok(measured.load(Ordering::Relaxed)));
    });
    let id = rig.accept().await;
    rig.send("north", &["1"]).await;
    free.store(49, Ordering::Relaxed);
    rig.until("the refusal", async |store| !store.health().accepting)
        .await;
    let refused = rig.store.accept(rig.message(), None).await;
    assert_eq!(
        refused,
        Err(StoreError::StorageFull {
            free_octets: 49,
            needed_octets: 50
        })
    );
    rig.receipt("1", PartState::Delivered).await;
    assert_eq!(rig.find(id).await.state, State::Delivered);
    free.store(100, Ordering::Relaxed);
    rig.until("room again", async |store| store.health().accepting)
        .await;
    rig.accept().await;
}

#[tokio::test]
async fn a_failed_sync_stops_intake_and_hands_nothing_out_but_reads_go_on() {
    let broken = Arc::new(AtomicBool::new(false));
    let switch = broken.clone();
    let rig = Rig::with(|o| {
        o.probes.sync = Arc::new(move |file| match switch.load(Ordering::Relaxed) {
            true => Err(std::io::Error::other("I/O error")),
            false => file.sync_data(),
        });
    });
    let id = rig.accept().await;
    broken.store(true, Ordering::Relaxed);
    let refused = rig.store.accept(rig.message(), None).await;
    assert!(
        matches!(&refused, Err(StoreError::Stopped(why)) if why.contains("I/O error")),
        "{refused:?}"
    );
    broken.store(false, Ordering::Relaxed);
    assert!(
        rig.store.accept(rig.message(), None).await.is_err(),
        "a failed sync cannot be mended by the next"
    );
    assert!(!rig.store.health().accepting);
    assert_eq!(rig.find(id).await.id, id);
    let north = lane("north");
    let mut claim = std::pin::pin!(rig.store.claim(&north, 1));
    assert!(is_pending(&mut claim).await);
}

#[tokio::test]
async fn an_emptier_database_than_the_manifest_knows_is_refused() {
    let rig = Rig::new();
    rig.accept().await;
    rig.store.shutdown().await;
    let directory = Arc::new(tempfile::tempdir().unwrap());
    std::fs::copy(
        rig.directory.path().join("manifest"),
        directory.path().join("manifest"),
    )
    .unwrap();
    let opened = Store::open(options(directory.path()), rig.clock.clone());
    assert!(
        matches!(opened.err(), Some(StoreError::Lost(why)) if why.contains("1 messages accepted"))
    );
}

#[tokio::test]
async fn a_closed_store_opens_as_it_was() {
    let rig = Rig::new();
    let id = rig.accept().await;
    rig.send("north", &["1"]).await;
    rig.store.shutdown().await;
    assert!(matches!(
        rig.store.accept(rig.message(), None).await,
        Err(StoreError::Stopped(_))
    ));
    let manifest = manifest::Manifest::read(rig.directory.path())
        .unwrap()
        .unwrap();
    assert!(manifest.clean);
    let after = rig.crash();
    assert_eq!(after.find(id).await.state, State::Enroute);
    assert!(matches!(
        after.receipt("1", PartState::Delivered).await,
        ReceiptMatch::Matched { .. }
    ));
}

#[tokio::test]
async fn a_day_is_dropped_once_it_is_old_and_nothing_of_it_lives() {
    let rig = Rig::with(|o| o.retention_days = 2);
    let ended = rig.accept().await;
    rig.store
        .update(ended, |m| {
            m.enter(START, State::Canceled, Reason::CanceledByClient, "")
        })
        .await
        .unwrap();
    rig.at(24 * HOUR);
    let live = rig.accept().await;
    rig.store
        .update(live, |m| m.expires_at = Timestamp::MAX)
        .await
        .unwrap();
    rig.store.shutdown().await;
    rig.clock.set(Timestamp(START.0 + 10 * 24 * HOUR));
    let Rig {
        store,
        clock,
        directory,
        next,
    } = rig;
    drop(store);
    let store = Store::open(
        Options {
            retention_days: 2,
            ..options(directory.path())
        },
        clock.clone(),
    )
    .unwrap();
    let rig = Rig {
        store,
        clock,
        directory,
        next,
    };
    rig.until("the drop", async |store| {
        store.find(ended).await.unwrap().is_none()
    })
    .await;
    assert_eq!(rig.find(live).await.id, live);
}

#[tokio::test]
async fn a_terminal_state_owes_one_webhook_that_survives_until_it_is_done() {
    let rig = Rig::new();
    let mut message = rig.message();
    message.receipt_url = Some("https://example.org/hook".into());
    let id = message.id;
    rig.store.accept(message, None).await.unwrap();
    rig.send("north", &["1"]).await;
    rig.receipt("1", PartState::Delivered).await;
    let entry = within(rig.store.claim_webhooks(10)).await.remove(0);
    assert_eq!(
        (entry.message, entry.kind, entry.attempts),
        (id, OutboxKind::Status(State::Delivered), 0)
    );
    let rig = rig.crash();
    let entry = within(rig.store.claim_webhooks(10)).await.remove(0);
    let event = entry.event;
    rig.store
        .settle_webhook(entry, WebhookOutcome::RetryAt(Timestamp(START.0 + 1_000)))
        .await
        .unwrap();
    let mut early = std::pin::pin!(rig.store.claim_webhooks(10));
    assert!(is_pending(&mut early).await, "before its time");
    rig.at(1_000);
    let entry = within(early).await.remove(0);
    assert_eq!((entry.event, entry.attempts), (event, 1));
    rig.store
        .settle_webhook(entry, WebhookOutcome::Dead)
        .await
        .unwrap();
    rig.until("the dead letter", async |store| store.stats().dead == 1)
        .await;
    assert_eq!(rig.store.list_dead(None, 10).await.unwrap().len(), 1);
    assert_eq!(rig.store.redeliver(event).await, Ok(true));
    assert_eq!(rig.store.redeliver(event).await, Ok(false));
    let entry = within(rig.store.claim_webhooks(10)).await.remove(0);
    rig.store
        .settle_webhook(entry, WebhookOutcome::Done)
        .await
        .unwrap();
    rig.until("an empty outbox", async |store| {
        store.stats().outbox == 0 && store.stats().dead == 0
    })
    .await;
}

#[tokio::test]
async fn inbound_messages_are_listed_apart_from_the_others_and_owe_their_webhook() {
    let rig = Rig::new();
    rig.accept().await;
    let inbound = Inbound {
        id: MessageId::new(START, 77),
        carrier: "north".into(),
        originator: Address::international("+447700900123").unwrap(),
        recipient: Address::originator("60777").unwrap(),
        body: Body::Text("STOP".into()),
        received_at: START,
        opted_out: false,
    };
    let record = InboundRecord {
        inbound,
        account: Some("acme".into()),
        labels: vec!["stop".into()],
        consumed: false,
        webhook_url: Some("https://example.org/in".into()),
    };
    rig.store.insert_inbound(record.clone()).await.unwrap();
    let page = rig
        .store
        .list_inbound(Some("acme".into()), None, 10)
        .await
        .unwrap();
    assert_eq!(page.items, vec![record.clone()]);
    assert!(
        rig.store
            .list_inbound(Some("bolt".into()), None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert_eq!(
        rig.store.find_inbound(record.inbound.id).await.unwrap(),
        Some(record.clone())
    );
    assert_eq!(rig.store.find(record.inbound.id).await.unwrap(), None);
    assert_eq!(
        within(rig.store.claim_webhooks(1)).await[0].kind,
        OutboxKind::Inbound
    );
}

#[tokio::test]
async fn a_list_is_newest_first_filtered_and_paged() {
    let rig = Rig::new();
    let mut ids = Vec::new();
    for n in 0..10 {
        rig.at(n * 1_000);
        ids.push(rig.accept().await);
    }
    rig.store
        .update(ids[3], |m| {
            m.enter(START, State::Canceled, Reason::CanceledByClient, "")
        })
        .await
        .unwrap();
    let queued = Filter {
        status: Some(State::Queued),
        ..Filter::default()
    };
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = rig.store.list(queued.clone(), cursor, 4).await.unwrap();
        seen.extend(page.items.iter().map(|m| m.id));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let mut expect: Vec<_> = ids.iter().rev().copied().collect();
    expect.retain(|id| *id != ids[3]);
    assert_eq!(seen, expect);
    let span = Filter {
        since: Some(Timestamp(START.0 + 2_000)),
        until: Some(Timestamp(START.0 + 5_000)),
        ..queued
    };
    let page = rig.store.list(span, None, 10).await.unwrap();
    assert_eq!(
        page.items.iter().map(|m| m.id).collect::<Vec<_>>(),
        vec![ids[4], ids[2]]
    );
    let nobody = Filter {
        to: Some("1".into()),
        ..Filter::default()
    };
    assert!(
        rig.store
            .list(nobody, None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn registries_and_values_survive_a_crash() {
    let rig = Rig::new();
    let acme = AccountId::from("acme");
    rig.accept().await;
    rig.store
        .set_opt_out(
            OptOutScope::Account(acme.clone()),
            "447700900123",
            true,
            START,
            "keyword",
        )
        .await
        .unwrap();
    rig.store
        .set_opt_out(OptOutScope::Everything, "1", true, START, "operator")
        .await
        .unwrap();
    rig.store
        .set_opt_out(OptOutScope::Everything, "1", false, START, "operator")
        .await
        .unwrap();
    rig.store
        .put_meta("policy/1", b"set".to_vec())
        .await
        .unwrap();
    rig.store
        .put_meta("policy/2", b"set".to_vec())
        .await
        .unwrap();
    rig.store.delete_meta("policy/2").await.unwrap();
    rig.store
        .state_set("plugin", "k", b"v".to_vec(), None)
        .unwrap();
    rig.store
        .state_increment("plugin", "n", 3, Some(Duration::from_secs(60)))
        .unwrap();
    rig.accept().await;
    let after = rig.crash();
    assert!(after.store.opted_out(&acme, "Acme", "447700900123"));
    assert!(!after.store.opted_out(&acme, "Acme", "1"));
    assert_eq!(after.store.list_opt_outs(None, 10).await.unwrap().len(), 1);
    assert_eq!(
        after.store.scan_meta("policy/", 10).await.unwrap(),
        vec![("policy/1".into(), b"set".to_vec())]
    );
    assert_eq!(after.store.get_meta("policy/2").await, Ok(None));
    assert_eq!(after.store.state_get("plugin", "k"), Some(b"v".to_vec()));
    assert_eq!(after.store.state_increment("plugin", "n", 1, None), Ok(4));
    after.at(61_000);
    assert_eq!(after.store.state_get("plugin", "n"), None);
}

#[tokio::test]
async fn messages_to_a_recipient_are_counted_for_a_day_and_over_a_restart() {
    let rig = Rig::new();
    let acme = AccountId::from("acme");
    for _ in 0..3 {
        rig.accept().await;
    }
    assert_eq!(rig.store.sent_last_day(&acme, "447700900123"), 3);
    rig.store.shutdown().await;
    let after = rig.crash();
    assert_eq!(after.store.sent_last_day(&acme, "447700900123"), 3);
    assert_eq!(
        after
            .store
            .sent_last_day(&AccountId::from("bolt"), "447700900123"),
        0
    );
    after.at(29 * HOUR);
    assert_eq!(after.store.sent_last_day(&acme, "447700900123"), 0);
}

#[tokio::test]
async fn parts_of_an_inbound_message_are_kept_until_it_is_whole() {
    let rig = Rig::new();
    let (from, to) = (
        Address::international("+447700900123").unwrap(),
        Address::originator("60777").unwrap(),
    );
    let carrier = CarrierId::from("north");
    let fragment = |reference, index| Fragment {
        carrier: carrier.clone(),
        originator: from.clone(),
        recipient: to.clone(),
        data_coding: 0,
        udh: Vec::new(),
        payload: vec![index],
        concat: Concat {
            reference,
            total: 2,
            index,
        },
        received_at: START,
    };
    for (reference, index) in [(1, 1), (1, 2), (2, 1)] {
        rig.store
            .put_fragment(&fragment(reference, index))
            .await
            .unwrap();
    }
    let rig = rig.crash();
    assert_eq!(rig.store.fragments().await.len(), 3);
    rig.store
        .remove_fragments(&carrier, &from, &to, fragment(1, 2).concat)
        .await
        .unwrap();
    assert_eq!(rig.store.fragments().await, vec![fragment(2, 1)]);
}

#[tokio::test]
async fn a_full_command_queue_is_busy_for_messages() {
    let gate = Arc::new(parking_lot::Mutex::new(()));
    let held = gate.clone();
    let rig = Rig::with(|o| {
        o.command_queue_max = 4;
        o.commit_max = 1;
        o.probes.sync = Arc::new(move |file| {
            drop(held.lock());
            file.sync_data()
        });
    });
    let guard = gate.lock();
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (store, message) = (rig.store.clone(), rig.message());
            tokio::spawn(async move { store.accept(message, None).await })
        })
        .collect();
    rig.until("a refusal", async |store| store.stats().refused_busy > 0)
        .await;
    drop(guard);
    let mut busy = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error, StoreError::Busy);
                busy += 1;
            }
        }
    }
    assert!((1..20).contains(&busy));
    assert_eq!(rig.store.stats().accepted, 20 - busy);
}

/// Work, and a kill at moments that nobody chose: nothing answered is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_a_copy_taken_at_any_moment_holds_all_that_was_answered() {
    let gate = Arc::new(Mutex::new(()));
    let held = gate.clone();
    let rig = Arc::new(Rig::with(|o| {
        o.probes.sync = Arc::new(move |file| {
            drop(held.lock());
            file.sync_data()
        });
    }));
    let answered = Arc::new(Mutex::new(Vec::new()));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (rig, answered, stopped) = (rig.clone(), answered.clone(), stopped.clone());
        tasks.push(tokio::spawn(async move {
            while !*stopped.borrow() {
                let id = rig.accept().await;
                answered.lock().push(id);
            }
        }));
    }
    let (worker, mut worker_stopped) = (rig.clone(), stopped.clone());
    tasks.push(tokio::spawn(async move {
        loop {
            let batch = tokio::select! {
                _ = worker_stopped.wait_for(|s| *s) => return,
                batch = worker.claim("north") => batch,
            };
            for mut message in batch {
                let carrier_message_id = message.id.to_string();
                sent(&mut message, START, &carrier_message_id);
                worker.store.settle(message).await;
            }
        }
    }));
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let (before, after) = tokio::task::block_in_place(|| {
            let before: Vec<MessageId> = answered.lock().clone();
            // Nobody gets past a sync, so that the copy is of one moment, as a kill leaves it.
            let held = gate.lock();
            std::thread::sleep(Duration::from_millis(20));
            let directory = tempfile::tempdir().unwrap();
            copy(rig.directory.path(), directory.path());
            drop(held);
            (before, rig.reopen(Arc::new(directory)))
        });
        assert!(!before.is_empty());
        for id in before {
            let state = after
                .store
                .find(id)
                .await
                .unwrap()
                .unwrap_or_else(|| panic!("lost {id}"))
                .state;
            assert!(
                matches!(state, State::Queued | State::Enroute | State::SubmitUnknown),
                "{state:?}"
            );
        }
    }
    stop.send_replace(true);
    for task in tasks {
        task.await.unwrap();
    }
}
