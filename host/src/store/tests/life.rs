//! The life of messages in the store: accepted, claimed, settled, confirmed.

use super::*;

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
            rig.store.settle(&message, None).await;
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
    rig.store.settle(&message, None).await;
    let message = rig.claim("north").await.remove(0);
    assert_eq!(
        rig.receipt("1", PartState::Delivered).await,
        ReceiptMatch::Deferred(id)
    );
    assert_eq!(rig.find(id).await.state, State::SubmitUnknown);
    rig.store.settle(&message, None).await;
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
    rig.store.settle(&message, None).await;
    let effect = |m: ReceiptMatch| match m {
        ReceiptMatch::Matched { effect, .. } => Some(effect),
        ReceiptMatch::Deferred(_) | ReceiptMatch::Orphaned | ReceiptMatch::Ambiguous => None,
    };
    assert_eq!(
        effect(rig.receipt("1", PartState::Delivered).await),
        Some(ReceiptEffect::Progress)
    );
    assert_eq!(rig.store.stats().awaiting, 1);
    assert_eq!(
        effect(rig.receipt("1", PartState::Delivered).await),
        Some(ReceiptEffect::None)
    );
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
                rig.store.settle(&message, None).await;
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
