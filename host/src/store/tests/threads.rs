//! Conversations and lists of mobile-originated messages.

use super::*;

const HANDSETS: [&str; 2] = ["447700900123", "447700900456"];

/// A text of a handset to 60777.
pub fn received(n: u64, text: &str, handset: &str) -> InboundRecord {
    let at = Timestamp(START.0 + n);
    InboundRecord {
        inbound: Inbound {
            id: MessageId::new(at, u128::from(n)),
            carrier: "north".into(),
            originator: Address::international(handset).unwrap(),
            recipient: Address::originator("60777").unwrap(),
            body: Body::Text(text.into()),
            received_at: at,
            opted_out: false,
        },
        account: Some("acme".into()),
        labels: Vec::new(),
        consumed: false,
        webhook_url: None,
        in_reply_to: None,
        system_id: None,
    }
}

fn two_way() -> Rig {
    Rig::with(|o| o.two_way = TwoWay(Arc::new(|number| number == "60777")))
}

impl Rig {
    /// Accepts a message from `from` to a handset.
    async fn send_to(&self, at: u64, from: &str, handset: &str) -> MessageId {
        self.at(at);
        let mut message = self.message();
        message.originator = Address::originator(from).unwrap();
        message.recipient = Address::international(handset).unwrap();
        let id = message.id;
        self.store.accept(message, None).await.unwrap();
        id
    }

    async fn receive(&self, n: u64, handset: &str) -> MessageId {
        let record = received(n, "hello", handset);
        let id = record.inbound.id;
        self.store.insert_inbound(record, &[], None).await.unwrap();
        id
    }

    /// Ids of a conversation, newest first, a page of one at a time.
    async fn conversation(&self, handset: &str) -> Vec<MessageId> {
        let (mut ids, mut cursor) = (Vec::new(), None);
        loop {
            let page = self
                .store
                .thread(&"acme".into(), "60777", handset, cursor, 1)
                .await
                .unwrap();
            ids.extend(page.items.iter().map(|item| match item {
                ThreadItem::Message(m) => m.id,
                ThreadItem::Inbound(i) => i.inbound.id,
            }));
            cursor = page.next;
            if cursor.is_none() {
                return ids;
            }
        }
    }
}

#[tokio::test]
async fn a_conversation_holds_both_ways_newest_first() {
    let rig = two_way();
    let first = rig.send_to(1_000, "60777", HANDSETS[0]).await;
    let answer = rig.receive(2_000, HANDSETS[0]).await;
    let last = rig.send_to(3_000, "60777", HANDSETS[0]).await;
    rig.send_to(4_000, "Acme", HANDSETS[0]).await;
    rig.send_to(4_000, "60777", HANDSETS[1]).await;
    assert_eq!(rig.conversation(HANDSETS[0]).await, [last, answer, first]);
    let again = rig.crash();
    assert_eq!(again.conversation(HANDSETS[0]).await, [last, answer, first]);
}

#[tokio::test]
async fn a_text_answers_the_last_message_within_its_window() {
    let rig = two_way();
    let acme = AccountId::from("acme");
    let answered = async |since: u64| {
        let since = Timestamp(START.0 + since);
        rig.store
            .last_sent(&acme, "60777", HANDSETS[0], since)
            .await
            .unwrap()
    };
    assert_eq!(answered(0).await, None);
    rig.send_to(1_000, "60777", HANDSETS[0]).await;
    let last = rig.send_to(2_000, "60777", HANDSETS[0]).await;
    rig.receive(3_000, HANDSETS[0]).await;
    assert_eq!(answered(0).await, Some(last));
    assert_eq!(answered(2_001).await, None);
}

#[tokio::test]
async fn threads_are_listed_once_by_their_last_text() {
    let rig = two_way();
    rig.receive(1_000, HANDSETS[0]).await;
    rig.receive(2_000, HANDSETS[1]).await;
    let newest = rig.receive(3_000, HANDSETS[0]).await;
    let sent = rig.send_to(4_000, "60777", HANDSETS[1]).await;
    let list = async |handset: Option<&str>, limit: usize| {
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let handset = handset.map(str::to_owned);
            let page = rig
                .store
                .threads(&"acme".into(), None, handset, cursor, limit)
                .await
                .unwrap();
            found.extend(page.items.into_iter().map(|t| (t.handset, t.last)));
            cursor = page.next;
            if cursor.is_none() {
                return found;
            }
        }
    };
    let all = vec![
        (HANDSETS[0].to_owned(), newest),
        (HANDSETS[1].to_owned(), sent),
    ];
    assert_eq!(list(None, 10).await, all);
    assert_eq!(list(None, 1).await, all);
    assert_eq!(list(Some(HANDSETS[1]), 10).await, all[1..]);
}

#[tokio::test]
async fn inbound_messages_are_filtered_by_index() {
    let rig = two_way();
    let mut ids = Vec::new();
    for n in 0..6u64 {
        ids.push(rig.receive(n * 1_000, HANDSETS[(n % 2) as usize]).await);
    }
    let mut nobodys = received(9_000, "lost", HANDSETS[0]);
    nobodys.account = None;
    nobodys.labels = vec!["odd".into()];
    let lost = nobodys.inbound.id;
    rig.store.insert_inbound(nobodys, &[], None).await.unwrap();
    let found = async |filter: InboundFilter| {
        let page = rig.store.list_inbound(filter, None, 10).await.unwrap();
        let ids = page.items.iter().map(|i| i.inbound.id);
        ids.collect::<Vec<_>>()
    };
    let acme = || InboundFilter {
        account: Some("acme".into()),
        ..InboundFilter::default()
    };
    ids.reverse();
    assert_eq!(found(acme()).await, ids);
    let from = InboundFilter {
        from: Some(HANDSETS[0].into()),
        ..acme()
    };
    assert_eq!(found(from).await, [ids[1], ids[3], ids[5]]);
    let between = InboundFilter {
        since: Some(Timestamp(START.0 + 1_000)),
        until: Some(Timestamp(START.0 + 3_000)),
        ..acme()
    };
    assert_eq!(found(between).await, [ids[3], ids[4]]);
    let unrouted = InboundFilter {
        unrouted: true,
        ..InboundFilter::default()
    };
    assert_eq!(found(unrouted).await, [lost]);
    let everybodys = found(InboundFilter::default()).await;
    assert_eq!((everybodys.len(), everybodys[0]), (7, lost));
    let labelled = InboundFilter {
        label: Some("odd".into()),
        ..InboundFilter::default()
    };
    assert_eq!(found(labelled).await, [lost]);
}

#[tokio::test]
async fn entries_end_with_their_retention() {
    let rig = two_way();
    rig.receive(1_000, HANDSETS[0]).await;
    rig.send_to(2_000, "60777", HANDSETS[0]).await;
    rig.at(40 * 24 * HOUR);
    let gone = async |store: &Store| {
        let list = async |prefix: &'static [u8]| {
            let read = store.inner.read(move |e| e.scan_prefix(prefix, 10));
            read.await.unwrap().len()
        };
        list(keys::THREAD).await + list(keys::THREAD_HEAD).await + list(keys::INBOUND).await == 0
    };
    rig.until("the entries' end", gone).await;
}
