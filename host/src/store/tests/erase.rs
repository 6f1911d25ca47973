//! A number that is to be forgotten: what goes, what stays, what waits.

use super::threads::received;
use super::*;
use crate::store::{EraseFrom, Erased};

const NUMBER: &str = "447700900123";
const OTHER: &str = "447700900456";

impl Rig {
    async fn accept_for(&self, at: u64, number: &str) -> MessageId {
        self.at(at);
        let mut message = self.message();
        message.originator = Address::originator("60777").unwrap();
        message.recipient = Address::international(number).unwrap();
        let id = message.id;
        self.store.accept(message, None).await.unwrap();
        id
    }

    /// Every piece of the work, and how many there were.
    async fn forget(&self, number: &str) -> (Erased, usize) {
        let mut from = Some(EraseFrom::Records(MessageId(u128::MAX)));
        let (mut all, mut pieces) = (Erased::default(), 0);
        while let Some(at) = from {
            let (erased, next) = self.store.erase(number, at).await.unwrap();
            all.messages += erased.messages;
            all.canceled += erased.canceled;
            all.under_way += erased.under_way;
            all.inbound += erased.inbound;
            all.fragments += erased.fragments;
            all.orphans += erased.orphans;
            (from, pieces) = (next, pieces + 1);
        }
        (all, pieces)
    }
}

fn talking() -> Rig {
    Rig::with(|o| o.two_way = TwoWay(Arc::new(|number| number == "60777")))
}

#[tokio::test]
async fn what_ended_or_waits_is_forgotten_and_what_a_carrier_has_is_counted() {
    let rig = talking();
    let ended = rig.accept_for(1_000, NUMBER).await;
    rig.send("north", &["id-1"]).await;
    rig.receipt("id-1", PartState::Delivered).await;
    let enroute = rig.accept_for(2_000, NUMBER).await;
    rig.send("north", &["id-2"]).await;
    let leased = rig.accept_for(3_000, NUMBER).await;
    let held = rig.claim("north").await;
    let waits = rig.accept_for(4_000, NUMBER).await;
    let another = rig.accept_for(5_000, OTHER).await;

    let (erased, _) = rig.forget(NUMBER).await;
    let expected = Erased {
        messages: 2,
        canceled: 1,
        under_way: 2,
        ..Erased::default()
    };
    assert_eq!(erased, expected);
    for id in [ended, waits] {
        let message = rig.find(id).await;
        assert_eq!(message.recipient.value, "erased");
        assert_eq!(message.body, Body::Text(String::new()));
    }
    assert_eq!(rig.find(ended).await.state, State::Delivered);
    assert_eq!(rig.find(waits).await.state, State::Canceled);
    for (id, number) in [(enroute, NUMBER), (leased, NUMBER), (another, OTHER)] {
        assert_eq!(rig.find(id).await.recipient.value, number);
    }

    // Those end, and another turn finds them.
    let mut held = held;
    sent(&mut held[0], rig.clock.now(), "id-3");
    rig.store.settle_many(held).await;
    rig.receipt("id-2", PartState::Delivered).await;
    rig.receipt("id-3", PartState::Undeliverable).await;
    let (erased, _) = rig.forget(NUMBER).await;
    assert_eq!((erased.messages, erased.under_way), (2, 0));
    assert_eq!(rig.forget(NUMBER).await.0, Erased::default());
    let again = rig.crash();
    assert_eq!(again.find(leased).await.recipient.value, "erased");
    assert_eq!(again.find(another).await.recipient.value, OTHER);
}

#[tokio::test]
async fn conversations_parts_and_lost_receipts_go_and_the_wish_stays() {
    let rig = talking();
    let account = AccountId::from("acme");
    rig.accept_for(1_000, NUMBER).await;
    for (n, handset) in [(2_000, NUMBER), (3_000, OTHER)] {
        let record = received(n, "a secret", handset);
        rig.store.insert_inbound(record, &[], None).await.unwrap();
    }
    let fragment = Fragment {
        carrier: "north".into(),
        originator: Address::international(NUMBER).unwrap(),
        recipient: Address::originator("60777").unwrap(),
        data_coding: 0,
        udh: Vec::new(),
        payload: b"part".to_vec(),
        concat: Concat {
            reference: 7,
            total: 2,
            index: 1,
        },
        received_at: rig.clock.now(),
    };
    rig.store.put_fragment(&fragment).await.unwrap();
    let mut lost = receipt("nobody", PartState::Delivered);
    lost.evidence.addresses = vec![NUMBER.to_owned()];
    let met = rig
        .store
        .receipt("north".into(), lost, ReceiptStyle::default());
    assert_eq!(met.await, Ok(ReceiptMatch::Orphaned));
    let scope = OptOutScope::Everything;
    let at = rig.clock.now();
    let store = &rig.store;
    store
        .set_opt_out(scope, NUMBER, true, at, "STOP")
        .await
        .unwrap();

    let (erased, pieces) = rig.forget(NUMBER).await;
    let expected = Erased {
        messages: 1,
        canceled: 1,
        inbound: 1,
        fragments: 1,
        orphans: 1,
        ..Erased::default()
    };
    assert_eq!((erased, pieces), (expected, 3));
    let threads = store.threads(&account, None, None, None, 10).await.unwrap();
    let handsets: Vec<&str> = threads.items.iter().map(|t| &*t.handset).collect();
    assert_eq!(handsets, [OTHER]);
    let conversation = store.thread(&account, "60777", NUMBER, None, 10).await;
    assert!(conversation.unwrap().items.is_empty());
    let page = store.list_inbound(InboundFilter::default(), None, 10).await;
    let said: Vec<(String, Body)> = page
        .unwrap()
        .items
        .into_iter()
        .map(|i| (i.inbound.originator.value, i.inbound.body))
        .collect();
    let left = (OTHER.to_owned(), Body::Text("a secret".into()));
    assert_eq!(
        said,
        [left, ("erased".to_owned(), Body::Text(String::new()))]
    );
    assert!(store.opted_out(&account, "60777", NUMBER));
    assert_eq!(store.stats().orphans, 0);
}

#[tokio::test]
async fn a_dead_letter_is_kept_no_longer_than_its_message() {
    let rig = Rig::with(|o| o.retention_days = 1);
    let mut message = rig.message();
    message.receipt_url = Some("https://example.com/".into());
    message.enter(START, State::Rejected, Reason::RefusedByPolicy, "");
    rig.store.accept(message, None).await.unwrap();
    let owed = within(rig.store.claim_webhooks(1)).await.remove(0);
    rig.store
        .settle_owed(owed, WebhookOutcome::Dead)
        .await
        .unwrap();
    rig.until("dead", async |s| s.stats().dead == 1).await;
    rig.at(3 * 24 * HOUR);
    rig.until("let go", async |s| s.stats().dead == 0).await;
}
