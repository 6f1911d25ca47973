//! Receipts find their message: whatever form their ids have, whatever a carrier does with its ids,
//! whenever they come.

use super::*;
use crate::domain::Reroute;
use crate::domain::receipt::IdLearner;

const NUMBERS: [&str; 3] = ["+447700900123", "+447700900456", "+447700900789"];

impl Rig {
    /// Accepts a message to each recipient, in order.
    async fn accept_to(&self, recipients: &[&str]) -> Vec<MessageId> {
        let mut ids = Vec::new();
        for recipient in recipients {
            let mut message = self.message();
            message.recipient = Address::international(recipient).unwrap();
            ids.push(message.id);
            self.store.accept(message, None).await.unwrap();
        }
        ids
    }

    /// A receipt that names its handset.
    async fn receipt_from(&self, handset: &str, id: &str) -> ReceiptMatch {
        let receipt = Receipt {
            evidence: Evidence::of([handset, "Acme"], None),
            ..receipt(id, PartState::Delivered)
        };
        let style = ReceiptStyle::default();
        let matched = self.store.receipt("north".into(), receipt, style).await;
        matched.unwrap()
    }

    async fn state(&self, id: MessageId) -> State {
        self.find(id).await.state
    }

    fn counted(&self, what: &str) -> u64 {
        let report = self.store.receipt_report(&"north".into());
        let counts = report.counts.into_iter();
        let mut counts = counts.filter(|(name, _)| *name == what);
        counts.next().map(|(_, n)| n).expect("a count")
    }
}

fn effect(matched: ReceiptMatch) -> Option<ReceiptEffect> {
    match matched {
        ReceiptMatch::Matched { effect, .. } => Some(effect),
        ReceiptMatch::Deferred(_) | ReceiptMatch::Orphaned | ReceiptMatch::Ambiguous => None,
    }
}

#[tokio::test]
async fn a_receipt_is_matched_at_its_own_carrier_and_under_any_candidate() {
    let rig = Rig::new();
    let id = rig.accept().await;
    rig.send("north", &["1A"]).await;
    let style = ReceiptStyle::default();
    let elsewhere = receipt("1a", PartState::Delivered);
    let other = rig.store.receipt("south".into(), elsewhere, style).await;
    assert_eq!(other, Ok(ReceiptMatch::Orphaned));
    // 26 is 0x1A.
    let matched = rig.receipt("26", PartState::Undeliverable).await;
    assert_eq!(effect(matched), Some(ReceiptEffect::Settled));
    assert_eq!(rig.state(id).await, State::Undeliverable);
}

#[tokio::test]
async fn a_receipt_under_a_set_form_meets_no_other() {
    let rig = Rig::new();
    rig.accept().await;
    rig.send("north", &["1A"]).await;
    let style = ReceiptStyle {
        id_form: IdForm::AsIs,
        per: Per::Auto,
    };
    let hex = receipt("26", PartState::Delivered);
    let matched = rig.store.receipt("north".into(), hex, style).await;
    assert_eq!(matched, Ok(ReceiptMatch::Orphaned));
}

#[tokio::test]
async fn two_readings_of_an_id_are_told_apart_by_the_handset() {
    let rig = Rig::new();
    let ids = rig.accept_to(&NUMBERS[..2]).await;
    // The receipt's 16 is one message's id as it stands, and the other's 0x10.
    rig.send("north", &["16", "10"]).await;
    let matched = rig.receipt_from(NUMBERS[1], "16").await;
    assert_eq!(effect(matched), Some(ReceiptEffect::Settled));
    assert_eq!(
        (rig.state(ids[0]).await, rig.state(ids[1]).await),
        (State::Enroute, State::Delivered)
    );
}

#[tokio::test]
async fn what_nothing_decides_is_applied_to_none() {
    let rig = Rig::new();
    let ids = rig.accept_to(&[NUMBERS[0], NUMBERS[0]]).await;
    rig.send("north", &["16", "10"]).await;
    let matched = rig.receipt_from(NUMBERS[0], "16").await;
    assert_eq!(matched, ReceiptMatch::Ambiguous);
    assert_eq!(
        (rig.state(ids[0]).await, rig.state(ids[1]).await),
        (State::Enroute, State::Enroute)
    );
    assert_eq!(rig.counted("ambiguous"), 1);
    assert!(rig.store.stats().orphans > 0, "it stays visible");
}

#[tokio::test]
async fn a_reading_is_not_believed_against_the_handset() {
    let rig = Rig::new();
    let ids = rig.accept_to(&NUMBERS[..1]).await;
    rig.send("north", &["10"]).await;
    let matched = rig.receipt_from(NUMBERS[1], "16").await;
    assert_eq!(matched, ReceiptMatch::Orphaned);
    assert_eq!(rig.state(ids[0]).await, State::Enroute);
}

#[tokio::test]
async fn a_form_is_learned_kept_and_looked_up_first() {
    let rig = Rig::new();
    let count = IdLearner::PAIRS as usize;
    for n in 0..count {
        rig.accept().await;
        let response = format!("{:x}", 0xAA_0000 + n);
        rig.send("north", &[&response]).await;
        rig.receipt(&(0xAA_0000 + n).to_string(), PartState::Delivered)
            .await;
    }
    let report = |rig: &Rig| rig.store.receipt_report(&"north".into());
    assert_eq!(report(&rig).learned_form, Some(IdForm::HexInResponse));
    assert_eq!(report(&rig).pairs, IdLearner::PAIRS);
    let again = rig.crash();
    assert_eq!(report(&again).learned_form, Some(IdForm::HexInResponse));
    assert_eq!(
        again.store.receipt_report(&"south".into()).learned_form,
        None,
        "each carrier for itself"
    );
    // Known: one reading is left, so that 16 and 10 are no riddle any more.
    let ids = again.accept_to(&[NUMBERS[0], NUMBERS[0]]).await;
    again.send("north", &["16", "10"]).await;
    let matched = again.receipt_from(NUMBERS[0], "16").await;
    assert_eq!(effect(matched), Some(ReceiptEffect::Settled));
    assert_eq!(again.state(ids[1]).await, State::Delivered);
    // Another form is believed where the receipt names the handset, and there alone.
    let ids = again.accept_to(&NUMBERS[..1]).await;
    again.send("north", &["880001"]).await;
    assert_eq!(
        again.receipt("880001", PartState::Delivered).await,
        ReceiptMatch::Orphaned
    );
    let matched = again.receipt_from(NUMBERS[0], "880001").await;
    assert_eq!(effect(matched), Some(ReceiptEffect::Settled));
    assert_eq!(again.state(ids[0]).await, State::Delivered);
}

#[tokio::test]
async fn early_receipts_teach_too() {
    let rig = Rig::new();
    for n in 0..IdLearner::PAIRS {
        rig.accept().await;
        let claimed = rig.claim("north").await;
        rig.receipt(&(0xAA_0000 + n).to_string(), PartState::Delivered)
            .await;
        for mut message in claimed {
            sent(&mut message, START, &format!("{:X}", 0xAA_0000 + n));
            rig.store.settle(&message, None).await;
        }
    }
    let report = || rig.store.receipt_report(&"north".into());
    rig.until("the lesson", async |_| report().learned_form.is_some())
        .await;
    assert_eq!(report().learned_form, Some(IdForm::HexInResponse));
    rig.until("no orphan is left", async |s| s.stats().orphans == 0)
        .await;
    assert_eq!(rig.counted("adopted"), u64::from(IdLearner::PAIRS));
}

#[tokio::test]
async fn one_id_for_several_messages_is_told_apart_by_the_handset() {
    let rig = Rig::new();
    let ids = rig.accept_to(&NUMBERS).await;
    rig.send("north", &["0", "0", "0"]).await;
    rig.until("three wait", async |s| s.stats().awaiting == 3)
        .await;
    for n in [1, 2, 0] {
        let matched = rig.receipt_from(NUMBERS[n], "0").await;
        assert_eq!(effect(matched), Some(ReceiptEffect::Settled));
        assert_eq!(rig.state(ids[n]).await, State::Delivered);
    }
    assert_eq!(
        (rig.counted("reused_id"), rig.store.stats().awaiting),
        (2, 0)
    );
}

#[tokio::test]
async fn a_carrier_that_names_handsets_rightly_is_believed_against_an_id() {
    let rig = Rig::new();
    for n in 0..20 {
        rig.accept_to(&NUMBERS[..1]).await;
        rig.send("north", &[&format!("m-{n}")]).await;
        rig.receipt_from(NUMBERS[0], &format!("m-{n}")).await;
    }
    // The id of another message, given to this one by mistake.
    let ids = rig.accept_to(&NUMBERS[..1]).await;
    rig.send("north", &["x-1"]).await;
    let matched = rig.receipt_from(NUMBERS[1], "x-1").await;
    assert_eq!(matched, ReceiptMatch::Orphaned);
    assert_eq!(rig.state(ids[0]).await, State::Enroute);
    assert_eq!(rig.counted("wrong_handset"), 1);
}

#[tokio::test]
async fn a_carrier_that_names_other_numbers_all_the_time_is_matched_by_id_alone() {
    let rig = Rig::new();
    for n in 0..30 {
        let ids = rig.accept_to(&NUMBERS[..1]).await;
        rig.send("north", &[&format!("m-{n}")]).await;
        rig.receipt_from("4400000000", &format!("m-{n}")).await;
        assert_eq!(rig.state(ids[0]).await, State::Delivered);
    }
}

#[tokio::test]
async fn a_carrier_that_answers_everything_with_one_id_fills_nothing() {
    let rig = Rig::new();
    for _ in 0..40 {
        rig.accept().await;
        rig.send("north", &["7"]).await;
    }
    rig.until("all wait", async |s| s.stats().awaiting == 40)
        .await;
    assert_eq!(
        rig.receipt("7", PartState::Delivered).await,
        ReceiptMatch::Ambiguous
    );
    // Every one of them ends.
    rig.at(49 * HOUR);
    rig.until("the timeout", async |store| store.stats().awaiting == 0)
        .await;
    assert_eq!(rig.store.stats().live, 0);
}

#[tokio::test]
async fn empty_and_overlong_ids_are_counted_and_their_messages_end() {
    let rig = Rig::new();
    let long = "f".repeat(65);
    let ids = rig.accept_to(&NUMBERS[..2]).await;
    rig.send("north", &["", &long]).await;
    let matched = rig.receipt(&long, PartState::Delivered).await;
    assert_eq!(effect(matched), Some(ReceiptEffect::Settled));
    assert_eq!(
        (rig.counted("empty_id"), rig.counted("overlong_id")),
        (1, 1)
    );
    rig.at(49 * HOUR);
    rig.until("the timeout", async |store| store.stats().awaiting == 0)
        .await;
    assert_eq!(
        (rig.state(ids[0]).await, rig.state(ids[1]).await),
        (State::Unknown, State::Delivered)
    );
}

#[tokio::test]
async fn ids_that_differ_in_case_alone_are_told_apart() {
    let rig = Rig::new();
    let ids = rig.accept_to(&[NUMBERS[0], NUMBERS[0]]).await;
    rig.send("north", &["17a", "17A"]).await;
    let matched = rig.receipt_from(NUMBERS[0], "17A").await;
    assert_eq!(effect(matched), Some(ReceiptEffect::Settled));
    assert_eq!(
        (rig.state(ids[0]).await, rig.state(ids[1]).await),
        (State::Enroute, State::Delivered)
    );
}

#[tokio::test]
async fn segments_under_one_id_report_one_after_the_other() {
    let rig = Rig::new();
    let id = rig.accept().await;
    let mut message = rig.claim("north").await.remove(0);
    sent(&mut message, START, "5");
    message.parts = vec![message.parts[0].clone(); 3];
    rig.store.settle(&message, None).await;
    let mut effects = Vec::new();
    for _ in 0..3 {
        effects.extend(effect(rig.receipt("5", PartState::Delivered).await));
    }
    assert_eq!(
        effects,
        [
            ReceiptEffect::Progress,
            ReceiptEffect::Progress,
            ReceiptEffect::Settled
        ]
    );
    assert_eq!(rig.state(id).await, State::Delivered);
}

async fn three_segments(rig: &Rig, name: &str) -> MessageId {
    let id = rig.accept().await;
    let mut message = rig.claim("north").await.remove(0);
    sent(&mut message, rig.clock.now(), &format!("{name}-0"));
    let first = message.parts[0].clone();
    message.parts.extend((1..3).map(|n| Part {
        carrier_message_id: format!("{name}-{n}"),
        ..first.clone()
    }));
    rig.store.settle(&message, None).await;
    id
}

#[tokio::test]
async fn one_receipt_for_all_segments_is_believed_where_the_operator_says_so() {
    let rig = Rig::new();
    let id = three_segments(&rig, "m").await;
    let style = ReceiptStyle {
        id_form: IdForm::Auto,
        per: Per::Message,
    };
    let last = receipt("m-2", PartState::Delivered);
    let matched = rig.store.receipt("north".into(), last, style).await;
    assert_eq!(effect(matched.unwrap()), Some(ReceiptEffect::Settled));
    assert_eq!(rig.state(id).await, State::Delivered);
    assert_eq!(rig.store.stats().awaiting, 0);
}

#[tokio::test]
async fn one_receipt_for_all_segments_is_learned() {
    use crate::domain::receipt::PerLearner;
    let rig = Rig::new();
    let mut ids = Vec::new();
    for n in 0..=PerLearner::MESSAGES {
        ids.push(three_segments(&rig, &format!("m{n}")).await);
        rig.receipt(&format!("m{n}-0"), PartState::Delivered).await;
        let waited = PerLearner::PATIENCE.as_millis() as u64 * (n as u64 + 1);
        rig.at(waited);
    }
    let report = rig.store.receipt_report(&"north".into());
    assert_eq!(report.learned_per, Some(Per::Message));
    // Those that taught it need not wait for what never comes; the last one is not among them.
    for id in &ids[..PerLearner::MESSAGES] {
        assert_eq!(rig.state(*id).await, State::Delivered);
    }
    let next = three_segments(&rig, "next").await;
    rig.receipt("next-1", PartState::Undeliverable).await;
    assert_eq!(rig.state(next).await, State::Undeliverable);
}

#[tokio::test]
async fn a_repeat_is_counted_and_no_orphan() {
    let rig = Rig::new();
    rig.accept().await;
    rig.send("north", &["1"]).await;
    for _ in 0..5 {
        rig.receipt("1", PartState::Delivered).await;
    }
    assert_eq!(
        (
            rig.counted("matched"),
            rig.counted("duplicate"),
            rig.store.stats().orphans
        ),
        (1, 4, 0)
    );
}

#[tokio::test]
async fn a_repeat_after_a_restart_is_no_orphan() {
    let mut rig = Rig::new();
    // After a crash, and after a restart in order once all is in the trees.
    for in_order in [false, true, true] {
        rig.accept().await;
        let name = format!("{in_order}-{}", rig.next.load(Ordering::Relaxed));
        rig.send("north", &[&name]).await;
        let first = rig.receipt(&name, PartState::Delivered).await;
        assert_eq!(effect(first), Some(ReceiptEffect::Settled));
        let again = match in_order {
            false => rig.crash(),
            // A copy: the first one's lock ends with its last handle.
            true => {
                rig.store.shutdown().await;
                rig.crash()
            }
        };
        again
            .next
            .store(rig.next.load(Ordering::Relaxed), Ordering::Relaxed);
        rig = again;
        let repeat = rig.receipt(&name, PartState::Delivered).await;
        assert_eq!(effect(repeat), Some(ReceiptEffect::None));
        let contradicts = rig.receipt(&name, PartState::Undeliverable).await;
        assert_eq!(effect(contradicts), Some(ReceiptEffect::Contradiction));
        assert_eq!(
            (rig.counted("duplicate"), rig.store.stats().orphans),
            (1, 0)
        );
    }
    assert_eq!(
        rig.receipt("never", PartState::Delivered).await,
        ReceiptMatch::Orphaned
    );
}

#[tokio::test]
async fn a_wrong_lesson_of_one_receipt_for_all_is_unlearned_for_good() {
    use crate::domain::receipt::PerLearner;
    let rig = Rig::new();
    for n in 0..=PerLearner::MESSAGES {
        three_segments(&rig, &format!("m{n}")).await;
        rig.receipt(&format!("m{n}-0"), PartState::Delivered).await;
        rig.at(PerLearner::PATIENCE.as_millis() as u64 * (n as u64 + 1));
    }
    let learned = |rig: &Rig| rig.store.receipt_report(&"north".into()).learned_per;
    assert_eq!(learned(&rig), Some(Per::Message));
    // It was slow, no more: the other segments of one that taught it report, and those of new ones.
    rig.receipt("m0-1", PartState::Delivered).await;
    for n in 1..PerLearner::MISFITS {
        assert_eq!(learned(&rig), Some(Per::Message));
        three_segments(&rig, &format!("late{n}")).await;
        for segment in [1, 1, 2, 0] {
            rig.receipt(&format!("late{n}-{segment}"), PartState::Delivered)
                .await;
        }
    }
    assert_eq!(learned(&rig), Some(Per::Segment));
    let rig = rig.crash();
    assert_eq!(learned(&rig), Some(Per::Segment));
    let id = three_segments(&rig, "next").await;
    rig.receipt("next-1", PartState::Delivered).await;
    assert_eq!(rig.state(id).await, State::Enroute);
    for segment in [0, 2] {
        rig.receipt(&format!("next-{segment}"), PartState::Delivered)
            .await;
    }
    assert_eq!(rig.state(id).await, State::Delivered);
}

#[tokio::test]
async fn a_later_contradiction_is_history() {
    let rig = Rig::new();
    let id = rig.accept().await;
    rig.send("north", &["1"]).await;
    rig.receipt("1", PartState::Delivered).await;
    let matched = rig.receipt("1", PartState::Undeliverable).await;
    assert_eq!(effect(matched), Some(ReceiptEffect::Contradiction));
    let message = rig.crash().find(id).await;
    assert_eq!(message.state, State::Delivered);
    let last = message.events.last().unwrap();
    assert_eq!(
        (last.reason, &*last.detail),
        (Reason::ContradictoryReceipt, "undeliverable")
    );
}

#[tokio::test]
async fn an_intermediate_notification_is_kept_and_told_where_the_client_asked() {
    let rig = Rig::new();
    for asked in [false, true] {
        let mut message = rig.message();
        message.receipt_url = Some("https://example.org/".into());
        message.sm.receipts.intermediate = asked;
        let id = message.id;
        rig.store.accept(message, None).await.unwrap();
        rig.send("north", &["1"]).await;
        let owed = rig.store.stats().outbox;
        let matched = rig.receipt("1", PartState::Enroute).await;
        assert_eq!(effect(matched), Some(ReceiptEffect::Intermediate));
        let found = rig.find(id).await;
        assert_eq!(
            (found.state, found.reason()),
            (State::Enroute, Reason::IntermediateReceipt)
        );
        assert_eq!(rig.store.stats().outbox - owed, u64::from(asked));
        rig.receipt("1", PartState::Delivered).await;
        assert_eq!(rig.state(id).await, State::Delivered);
    }
}

#[tokio::test]
async fn a_failed_message_goes_on_and_a_late_truth_about_its_first_carrier_is_kept() {
    let rig = Rig::new();
    let mut message = rig.message();
    message.plan.hops.push(Hop {
        carrier: "south".into(),
        ..message.plan.hops[0].clone()
    });
    message.plan.reroute = Some(Reroute {
        on: vec![State::Undeliverable],
        errors: Vec::new(),
        max: 1,
        within: None,
    });
    let id = message.id;
    rig.store.accept(message, None).await.unwrap();
    rig.send("north", &["1"]).await;
    let matched = rig.receipt("1", PartState::Undeliverable).await;
    assert_eq!(effect(matched), Some(ReceiptEffect::Rerouted));
    assert_eq!(rig.store.stats().outbox, 0);
    // It is with the next carrier just now: what the first one says waits for it.
    let mut again = rig.claim("south").await.remove(0);
    assert_eq!(
        rig.receipt("1", PartState::Delivered).await,
        ReceiptMatch::Deferred(id)
    );
    sent(&mut again, START, "s1");
    rig.store.settle(&again, None).await;
    rig.until("the late truth", async |store| store.stats().orphans == 0)
        .await;
    let found = rig.crash().find(id).await;
    assert_eq!(found.state, State::Enroute);
    assert!(found.duplicate_risk);
    assert_eq!(found.failed[0].parts[0].carrier_message_id, "1");
    assert_eq!(
        found.events.last().map(|e| e.reason),
        Some(Reason::ContradictoryReceipt)
    );
    let last = receipt("s1", PartState::Delivered);
    let style = ReceiptStyle::default();
    rig.store
        .receipt("south".into(), last, style)
        .await
        .unwrap();
    assert_eq!(rig.state(id).await, State::Delivered);
}

#[tokio::test]
async fn orphans_are_listed_once_each_whatever_they_are_filed_under() {
    let rig = Rig::new();
    for id in ["11", "12", "x-1"] {
        rig.receipt(id, PartState::Delivered).await;
    }
    let style = ReceiptStyle::default();
    let elsewhere = receipt("11", PartState::Expired);
    rig.store
        .receipt("south".into(), elsewhere, style)
        .await
        .unwrap();
    let ids = async |carrier: Option<&str>| {
        let (mut cursor, mut found) = (None, Vec::new());
        loop {
            let carrier = carrier.map(CarrierId::from);
            let page = rig.store.list_orphans(carrier, cursor, 1).await.unwrap();
            found.extend(page.0.into_iter().map(|o| o.receipt.id));
            cursor = page.1;
            if cursor.is_none() {
                return found;
            }
        }
    };
    let mut all = ids(None).await;
    all.sort();
    assert_eq!(all, ["11", "11", "12", "x-1"]);
    assert_eq!(ids(Some("south")).await, ["11"]);
}

#[tokio::test]
async fn one_carriers_orphans_leave_room_for_the_others() {
    let rig = Rig::with(|o| o.orphans_max = 10);
    for n in 0..20 {
        rig.receipt(&format!("x-{n}"), PartState::Delivered).await;
    }
    assert!(rig.counted("dropped") > 0);
    let style = ReceiptStyle::default();
    let other = receipt("x-1", PartState::Delivered);
    rig.store
        .receipt("south".into(), other, style)
        .await
        .unwrap();
    let found = rig.store.list_orphans(Some("south".into()), None, 5).await;
    assert_eq!(found.unwrap().0.len(), 1);
}
