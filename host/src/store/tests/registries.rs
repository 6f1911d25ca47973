//! Mobile-originated messages, webhooks owed, lists, and the registries beside the messages.

use super::threads::received;
use super::*;

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
        .settle_owed(entry, WebhookOutcome::RetryAt(Timestamp(START.0 + 1_000)))
        .await
        .unwrap();
    let mut early = std::pin::pin!(rig.store.claim_webhooks(10));
    assert!(is_pending(&mut early).await, "before its time");
    rig.at(1_000);
    let entry = within(early).await.remove(0);
    assert_eq!((entry.event, entry.attempts), (event, 1));
    rig.store
        .settle_owed(entry, WebhookOutcome::Dead)
        .await
        .unwrap();
    rig.until("the dead letter", async |store| store.stats().dead == 1)
        .await;
    assert_eq!(rig.store.list_dead(None, 10).await.unwrap().len(), 1);
    assert_eq!(rig.store.redeliver(event).await, Ok(true));
    assert_eq!(rig.store.redeliver(event).await, Ok(false));
    let entry = within(rig.store.claim_webhooks(10)).await.remove(0);
    rig.store
        .settle_owed(entry, WebhookOutcome::Done)
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
        in_reply_to: Some(MessageId(7)),
        system_id: None,
    };
    rig.store
        .insert_inbound(record.clone(), &[], None)
        .await
        .unwrap();
    let of = |account: &str| InboundFilter {
        account: Some(account.into()),
        ..InboundFilter::default()
    };
    let page = rig.store.list_inbound(of("acme"), None, 10).await.unwrap();
    assert_eq!(page.items, vec![record.clone()]);
    let page = rig.store.list_inbound(of("bolt"), None, 10).await.unwrap();
    assert!(page.items.is_empty());
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
        .state_set("plugin", "k", b"v".to_vec(), None, usize::MAX)
        .unwrap();
    rig.store
        .state_increment("plugin", "n", 3, Some(Duration::from_secs(60)), usize::MAX)
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
    assert_eq!(
        after
            .store
            .state_increment("plugin", "n", 1, None, usize::MAX),
        Ok(4)
    );
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
    let mut whole = received(1, "ab", &from.value);
    whole.inbound.carrier = carrier.clone();
    let joined_of = [fragment(1, 1).concat, fragment(1, 2).concat];
    rig.store
        .insert_inbound(whole, &joined_of, None)
        .await
        .unwrap();
    assert_eq!(rig.store.fragments().await, vec![fragment(2, 1)]);
}

#[tokio::test]
async fn a_text_is_stored_once_under_its_providers_id_for_three_days() {
    let rig = Rig::new();
    let text = |n: u128, carrier: &str| InboundRecord {
        inbound: Inbound {
            id: MessageId::new(rig.clock.now(), n),
            carrier: carrier.into(),
            originator: Address::international("+447700900123").unwrap(),
            recipient: Address::originator("60777").unwrap(),
            body: Body::Text("hello".into()),
            received_at: rig.clock.now(),
            opted_out: false,
        },
        account: None,
        labels: Vec::new(),
        consumed: false,
        webhook_url: None,
        in_reply_to: None,
        system_id: None,
    };
    let insert = async |store: &Store, record: InboundRecord, id: Option<&str>| {
        store.insert_inbound(record, &[], id).await.unwrap()
    };
    assert!(insert(&rig.store, text(1, "web"), Some("SM1")).await);
    assert!(!insert(&rig.store, text(2, "web"), Some("SM1")).await);
    assert!(insert(&rig.store, text(3, "other"), Some("SM1")).await);
    assert!(insert(&rig.store, text(4, "web"), Some("SM2")).await);
    for n in 5..7 {
        assert!(
            insert(&rig.store, text(n, "web"), None).await,
            "nothing tells"
        );
    }
    let again = rig.crash();
    assert!(
        again
            .store
            .knows_inbound(&"web".into(), "SM1")
            .await
            .unwrap()
    );
    assert!(
        !again
            .store
            .knows_inbound(&"web".into(), "SM9")
            .await
            .unwrap()
    );
    assert!(!insert(&again.store, text(8, "web"), Some("SM1")).await);
    let all = again
        .store
        .list_inbound(InboundFilter::default(), None, 50)
        .await;
    assert_eq!(all.unwrap().items.len(), 5);
    rig.at(72 * HOUR);
    assert!(
        !again
            .store
            .knows_inbound(&"web".into(), "SM1")
            .await
            .unwrap()
    );
    assert!(insert(&again.store, text(9, "web"), Some("SM1")).await);
}
