//! What survives a crash, a full disk and a torn file.

use super::*;

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

/// Whose syncs fail while the switch is on.
fn breakable() -> (Rig, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let switch = broken.clone();
    let rig = Rig::with(|o| {
        o.probes.sync = Arc::new(move |file| match switch.load(Ordering::Relaxed) {
            true => Err(std::io::Error::other("I/O error")),
            false => file.sync_data(),
        });
    });
    (rig, broken)
}

#[tokio::test]
async fn a_failed_sync_stops_intake_and_hands_nothing_out_but_reads_go_on() {
    let (rig, broken) = breakable();
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

/// A clock that counts how often it is looked at.
struct Watched {
    looks: Arc<AtomicU64>,
    began: std::time::Instant,
}

impl crate::clock::Times for Watched {
    fn wall(&self) -> u64 {
        1_800_000_000_000 + self.steady()
    }

    fn steady(&self) -> u64 {
        self.looks.fetch_add(1, Ordering::Relaxed);
        u64::try_from(self.began.elapsed().as_millis()).unwrap()
    }
}

#[tokio::test]
async fn a_store_that_has_stopped_is_not_woken_by_what_is_due() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    let broken = Arc::new(AtomicBool::new(false));
    let switch = broken.clone();
    options.probes.sync = Arc::new(move |_| match switch.load(Ordering::Relaxed) {
        true => Err(std::io::Error::other("I/O error")),
        false => Ok(()),
    });
    let looks = Arc::new(AtomicU64::new(0));
    let clock = Clock::of(Watched {
        looks: looks.clone(),
        began: std::time::Instant::now(),
    });
    let store = Store::open(options, clock.clone()).unwrap();
    let due = message(clock.now(), 1);
    store.accept(due, None).await.unwrap();
    broken.store(true, Ordering::Relaxed);
    let refused = store.accept(message(clock.now(), 2), None).await;
    assert!(
        matches!(refused, Err(StoreError::Stopped(_))),
        "{refused:?}"
    );
    let north = lane("north");
    let mut claim = std::pin::pin!(store.claim(&north, 1));
    assert!(is_pending(&mut claim).await);
    let before = looks.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let looks = looks.load(Ordering::Relaxed) - before;
    // It was one a millisecond.
    assert!(looks < 50, "{looks} looks at the clock in half a second");
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

/// What is owed is made of the message's record: an outage of its target outlasts retention now and then.
#[tokio::test]
async fn a_day_is_kept_until_its_webhooks_are_delivered() {
    let rig = Rig::with(|o| o.retention_days = 1);
    let mut message = rig.message();
    message.receipt_url = Some("https://example.com/".into());
    message.enter(START, State::Rejected, Reason::RefusedByPolicy, "");
    let told = message.id;
    rig.store.accept(message, None).await.unwrap();
    let owed = within(rig.store.claim_webhooks(1)).await.remove(0);
    let again = WebhookOutcome::RetryAt(Timestamp(START.0 + 240 * HOUR));
    rig.store.settle_owed(owed, again).await.unwrap();
    rig.at(24 * HOUR);
    let mut silent = rig.message();
    silent.enter(
        rig.clock.now(),
        State::Rejected,
        Reason::RefusedByPolicy,
        "",
    );
    let gone = silent.id;
    rig.store.accept(silent, None).await.unwrap();
    rig.store.shutdown().await;
    rig.clock.set(Timestamp(START.0 + 240 * HOUR));
    let Rig {
        store,
        clock,
        directory,
        next,
    } = rig;
    drop(store);
    let options = Options {
        retention_days: 1,
        ..options(directory.path())
    };
    let rig = Rig {
        store: Store::open(options, clock.clone()).unwrap(),
        clock,
        directory,
        next,
    };
    rig.until("the drop of the day after", async |store| {
        store.find(gone).await.unwrap().is_none()
    })
    .await;
    assert_eq!(rig.find(told).await.id, told);
    let owed = within(rig.store.claim_webhooks(1)).await.remove(0);
    let done = WebhookOutcome::Done;
    rig.store.settle_owed(owed, done).await.unwrap();
    rig.at(241 * HOUR);
    rig.until("its drop", async |store| {
        store.find(told).await.unwrap().is_none()
    })
    .await;
}

#[tokio::test]
async fn a_full_command_queue_is_busy_for_messages() {
    let closed = Arc::new(AtomicBool::new(false));
    let gate = closed.clone();
    let rig = Rig::with(|o| {
        o.command_queue_max = 4;
        o.commit_max = 1;
        o.probes.sync = Arc::new(move |file| {
            while gate.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            file.sync_data()
        });
    });
    closed.store(true, Ordering::Relaxed);
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (store, message) = (rig.store.clone(), rig.message());
            tokio::spawn(async move { store.accept(message, None).await })
        })
        .collect();
    rig.until("a refusal", async |store| store.stats().refused_busy > 0)
        .await;
    closed.store(false, Ordering::Relaxed);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_until_an_outcome_is_durable_is_let_go_then_and_not_before() {
    let closed = Arc::new(AtomicBool::new(false));
    let gate = closed.clone();
    let rig = Rig::with(|o| {
        o.probes.sync = Arc::new(move |file| {
            while gate.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            file.sync_data()
        });
    });
    let id = rig.accept().await;
    let mut message = rig.claim("north").await.remove(0);
    sent(&mut message, START, "a1");
    closed.store(true, Ordering::Relaxed);
    let (held, mut let_go) = tokio::sync::oneshot::channel::<bool>();
    let held = Box::new(move |durable| held.send(durable).unwrap());
    rig.store.settle(&message, Some(held)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(let_go.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty));
    closed.store(false, Ordering::Relaxed);
    assert!(let_go.await.unwrap());
    let directory = tempfile::tempdir().unwrap();
    copy(rig.directory.path(), directory.path());
    let after = rig.reopen(Arc::new(directory));
    let found = after.store.find(id).await.unwrap().unwrap();
    assert_eq!(found.state, State::Enroute);
}

#[tokio::test]
async fn what_is_held_for_an_outcome_that_is_never_durable_is_told_so() {
    let (rig, broken) = breakable();
    rig.accept().await;
    rig.accept().await;
    let messages = rig.claim("north").await;
    broken.store(true, Ordering::Relaxed);
    for mut message in messages {
        sent(&mut message, START, "a1");
        let (held, let_go) = tokio::sync::oneshot::channel::<bool>();
        let held = Box::new(move |durable| held.send(durable).unwrap());
        rig.store.settle(&message, Some(held)).await;
        assert!(!let_go.await.unwrap());
        // Not by a later commit either.
        broken.store(false, Ordering::Relaxed);
    }
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
                worker.store.settle(&message, None).await;
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

/// Times that stand where they are put.
struct Standing(u64);

impl crate::clock::Times for Standing {
    fn wall(&self) -> u64 {
        self.0
    }

    fn steady(&self) -> u64 {
        0
    }
}

#[tokio::test]
async fn what_waits_since_a_clock_was_far_ahead_is_due_when_it_is_right_again() {
    const TODAY: Timestamp = Timestamp(1_800_000_000_000);
    let ahead = Timestamp(TODAY.0 + 400 * 24 * HOUR);
    let rig = Rig::new();
    rig.clock.set(ahead);
    let id = rig.accept().await;
    let mut later = rig.message();
    later.wait(lane("north"), Timestamp(ahead.0 + HOUR));
    let later_id = later.id;
    rig.store.accept(later, None).await.unwrap();
    let directory = Arc::new(tempfile::tempdir().unwrap());
    copy(rig.directory.path(), directory.path());
    let clock = Clock::of(Standing(TODAY.0));
    let store = Store::open(options(directory.path()), clock).unwrap();
    let claimed = within(store.claim(&lane("north"), 100)).await;
    let ids: Vec<_> = claimed.iter().map(|m| m.id).collect();
    assert_eq!(ids, [id]);
    assert!(claimed[0].expires_at > TODAY && claimed[0].expires_at < ahead);
    let later = store.find(later_id).await.unwrap().unwrap();
    let due = later.due.expect("it waits").at;
    assert!(due > TODAY && due.0 <= TODAY.0 + HOUR, "{due:?}");
}
