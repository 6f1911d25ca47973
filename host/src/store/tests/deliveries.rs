//! What is owed to ESMEs: a queue for each system_id, there as long as its client is away.

use super::*;
use crate::domain::{FinalReceipt, Reason, Source};

/// A message of the ESME `system_id` with that registered_delivery.
fn message_of(rig: &Rig, system_id: &str, registered_delivery: u8) -> Box<Message> {
    let mut message = rig.message();
    message.source = Source::Smpp {
        system_id: system_id.to_owned(),
    };
    message.sm.receipts =
        crate::domain::ReceiptsWanted::from_registered_delivery(registered_delivery);
    message
}

async fn delivered(rig: &Rig, system_id: &str, carrier_id: &str) -> MessageId {
    let message = message_of(rig, system_id, 1);
    let id = message.id;
    rig.store.accept(message, None).await.unwrap();
    rig.send("north", &[carrier_id]).await;
    rig.receipt(carrier_id, PartState::Delivered).await;
    id
}

#[tokio::test]
async fn receipts_wait_in_order_for_their_own_client() {
    let rig = Rig::new();
    let first = delivered(&rig, "app", "1").await;
    rig.at(10);
    let second = delivered(&rig, "app", "2").await;
    let other = delivered(&rig, "other", "3").await;
    let rig = rig.crash();
    let app: Arc<str> = "app".into();
    let claimed = within(rig.store.claim_deliveries(&app, 10)).await;
    let ids: Vec<_> = claimed.iter().map(|e| e.message).collect();
    assert_eq!(ids, [first, second]);
    assert_eq!(claimed[0].target, OutboxTarget::Esme(app.clone()));
    let found = rig.store.find_many(ids).await.unwrap();
    assert!(found.iter().all(Option::is_some));
    for entry in claimed {
        rig.store
            .settle_owed(entry, WebhookOutcome::Done)
            .await
            .unwrap();
    }
    let mut more = std::pin::pin!(rig.store.claim_deliveries(&app, 10));
    assert!(is_pending(&mut more).await, "all is settled");
    let third = delivered(&rig, "app", "4").await;
    assert_eq!(within(more).await[0].message, third);
    let others = within(rig.store.claim_deliveries(&"other".into(), 10)).await;
    assert_eq!(others[0].message, other);
}

#[tokio::test]
async fn a_claim_that_is_dropped_gives_back_what_it_was_handed() {
    let rig = Rig::new();
    let app: Arc<str> = "app".into();
    {
        let mut nothing = std::pin::pin!(rig.store.claim_deliveries(&app, 10));
        assert!(is_pending(&mut nothing).await);
    }
    let id = delivered(&rig, "app", "1").await;
    let entry = within(rig.store.claim_deliveries(&app, 10)).await.remove(0);
    assert_eq!(entry.message, id);
    let due = entry.due;
    rig.store
        .settle_owed(entry, WebhookOutcome::Busy(due))
        .await
        .unwrap();
    let entry = within(rig.store.claim_deliveries(&app, 10)).await.remove(0);
    assert_eq!((entry.due, entry.attempts), (due, 0), "in its old place");
    let later = rig.clock.now().plus(Duration::from_secs(5));
    rig.store
        .settle_owed(entry, WebhookOutcome::RetryAt(later))
        .await
        .unwrap();
    let mut early = std::pin::pin!(rig.store.claim_deliveries(&app, 10));
    assert!(is_pending(&mut early).await, "before its time");
    rig.at(5_000);
    assert_eq!(within(early).await[0].attempts, 1);
}

#[tokio::test]
async fn only_what_registered_delivery_asks_for_is_owed() {
    let rig = Rig::new();
    for (n, octet) in [0, 2].into_iter().enumerate() {
        let message = message_of(&rig, "app", octet);
        rig.store.accept(message, None).await.unwrap();
        let name = format!("{n}");
        rig.send("north", &[&name]).await;
        rig.receipt(&name, PartState::Delivered).await;
    }
    assert_eq!(rig.store.stats().outbox, 0);
    // A refusal was heard in the response; a message that policy dropped was not.
    for (reason, owed) in [(Reason::RefusedByPolicy, 0), (Reason::DroppedByPolicy, 1)] {
        let mut message = message_of(&rig, "app", 1);
        message.events.clear();
        message.enter(rig.clock.now(), State::Rejected, reason, "");
        rig.store.accept(message, None).await.unwrap();
        assert_eq!(rig.store.stats().outbox, owed, "{reason:?}");
    }
    assert_eq!(FinalReceipt::from_bits(1), FinalReceipt::Always);
}

#[tokio::test]
async fn each_attempt_is_told_where_intermediate_notifications_are_asked_for() {
    let rig = Rig::new();
    let message = message_of(&rig, "app", 0x11);
    rig.store.accept(message, None).await.unwrap();
    rig.send("north", &["1"]).await;
    rig.receipt("1", PartState::Delivered).await;
    let claimed = within(rig.store.claim_deliveries(&"app".into(), 10)).await;
    let kinds: Vec<_> = claimed.iter().map(|e| e.kind).collect();
    let status = OutboxKind::Status;
    assert_eq!(kinds.len(), 2);
    assert!(kinds.contains(&status(State::Enroute)) && kinds.contains(&status(State::Delivered)));
    assert_ne!(claimed[0].event, claimed[1].event);
}

#[tokio::test]
async fn what_nobody_comes_for_is_a_dead_letter_in_the_end() {
    let rig = Rig::with(|options| options.delivery_give_up = Duration::from_secs(60));
    delivered(&rig, "gone", "1").await;
    rig.at(59_000);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(rig.store.stats().outbox, 1);
    rig.at(61_001);
    rig.until("the dead letter", async |store| {
        let stats = store.stats();
        stats.dead == 1 && stats.outbox == 0
    })
    .await;
    let dead = rig.store.list_dead(None, 10).await.unwrap();
    assert_eq!(dead[0].target, OutboxTarget::Esme("gone".into()));
    let gone: Arc<str> = "gone".into();
    let mut none = std::pin::pin!(rig.store.claim_deliveries(&gone, 10));
    assert!(is_pending(&mut none).await);
}
