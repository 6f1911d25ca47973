//! Reports meet messages: one status for many segments, history without regress, the next carrier.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::message::tests_support::message;
use crate::domain::{Attempt, Hop, Part, Plan, Reroute};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn enroute(carrier: &str, parts: usize) -> Message {
    let mut m = message(NOW);
    m.plan = Plan {
        hops: ["a", "b", "c"].map(hop).to_vec(),
        ..Plan::default()
    };
    take(&mut m, carrier, parts);
    m
}

fn hop(carrier: &str) -> Hop {
    Hop {
        carrier: CarrierId::from(carrier),
        originator: None,
        price_micros: Some(100),
        tlvs: Vec::new(),
    }
}

/// A carrier takes the message.
fn take(m: &mut Message, carrier: &str, parts: usize) {
    m.record_attempt(Attempt {
        carrier: CarrierId::from(carrier),
        at: NOW,
        outcome: AttemptOutcome::Sent,
    });
    m.parts = (0..parts)
        .map(|i| Part {
            carrier: CarrierId::from(carrier),
            carrier_message_id: format!("{carrier}{i}"),
            state: PartState::Enroute,
            error: String::new(),
            network_type: None,
            done_at: None,
        })
        .collect();
    m.due = None;
    m.enter(NOW, State::Enroute, Reason::TakenByCarrier, "");
}

fn report(state: PartState, error: &str) -> Report {
    Report {
        error: error.to_owned(),
        ..Report::of(state)
    }
}

fn apply(m: &mut Message, index: usize, state: PartState, error: &str) -> ReceiptEffect {
    m.apply_receipt(NOW, index, &report(state, error))
}

fn wants_reroute(m: &mut Message, max: u8) {
    m.plan.reroute = Some(Reroute {
        on: vec![State::Undeliverable, State::Rejected],
        errors: Vec::new(),
        max,
        within: None,
    });
}

#[test]
fn a_multipart_message_is_delivered_when_all_parts_are() {
    let mut m = enroute("a", 2);
    assert_eq!(
        apply(&mut m, 1, PartState::Delivered, "000"),
        ReceiptEffect::Progress
    );
    assert_eq!(m.state, State::Enroute);
    assert_eq!(
        apply(&mut m, 0, PartState::Delivered, "000"),
        ReceiptEffect::Settled
    );
    assert_eq!(m.state, State::Delivered);
}

#[test]
fn one_failed_part_fails_the_message_once_all_reported() {
    let mut m = enroute("a", 2);
    apply(&mut m, 0, PartState::Undeliverable, "001");
    assert_eq!(m.state, State::Enroute);
    apply(&mut m, 1, PartState::Delivered, "000");
    assert_eq!(m.state, State::Undeliverable);
    assert_eq!(m.events.last().map(|e| e.detail.as_str()), Some("err:001"));
}

#[test]
fn a_contradiction_is_history_and_moves_nothing() {
    let mut m = enroute("a", 1);
    apply(&mut m, 0, PartState::Delivered, "000");
    let effect = apply(&mut m, 0, PartState::Undeliverable, "011");
    assert_eq!(effect, ReceiptEffect::Contradiction);
    assert_eq!(
        (m.state, m.parts[0].state),
        (State::Delivered, PartState::Delivered)
    );
    let last = m.events.last().unwrap();
    assert_eq!(
        (last.reason, last.state, last.detail.as_str()),
        (
            Reason::ContradictoryReceipt,
            State::Delivered,
            "undeliverable err:011"
        )
    );
    // Said twice it is one line; the first receipt said again is none.
    assert_eq!(
        apply(&mut m, 0, PartState::Undeliverable, "011"),
        ReceiptEffect::None
    );
    assert_eq!(
        apply(&mut m, 0, PartState::Delivered, ""),
        ReceiptEffect::None
    );
}

#[test]
fn an_intermediate_notification_is_history_and_keeps_the_segment_open() {
    let mut m = enroute("a", 1);
    assert_eq!(
        apply(&mut m, 0, PartState::Enroute, "027"),
        ReceiptEffect::Intermediate
    );
    let last = m.events.last().unwrap();
    assert_eq!(
        (last.reason, last.state, last.detail.as_str()),
        (Reason::IntermediateReceipt, State::Enroute, "err:027")
    );
    assert_eq!(
        apply(&mut m, 0, PartState::Delivered, ""),
        ReceiptEffect::Settled
    );
    assert_eq!(
        apply(&mut m, 0, PartState::Enroute, "027"),
        ReceiptEffect::None,
        "overtaken"
    );
}

#[test]
fn a_chatty_carrier_does_not_push_out_history() {
    let mut m = enroute("a", 1);
    for n in 0..1_000 {
        apply(&mut m, 0, PartState::Enroute, &format!("{}", n % 90 + 1));
    }
    assert_eq!(m.events.len(), 2 + NOTES_MAX);
    assert_eq!(m.events[0].reason, Reason::Accepted);
}

#[test]
fn one_receipt_for_all_settles_all() {
    let mut m = enroute("a", 3);
    let effect = m.apply_receipt_to_all(NOW, &report(PartState::Undeliverable, "034"));
    assert_eq!(effect, ReceiptEffect::Settled);
    assert!(m.parts.iter().all(|p| p.error == "034"));
    assert_eq!(m.state, State::Undeliverable);
}

#[test]
fn silence_of_some_segments_ends_in_what_the_others_said() {
    let mut m = enroute("a", 3);
    apply(&mut m, 1, PartState::Expired, "");
    assert!(m.receipts_overdue(NOW));
    assert_eq!(m.state, State::Expired);
    assert_eq!(m.events.last().unwrap().detail, "1 of 3 segments reported");

    let mut m = enroute("a", 2);
    apply(&mut m, 1, PartState::Delivered, "");
    m.receipts_overdue(NOW);
    assert_eq!(m.state, State::Unknown);
}

#[test]
fn a_truth_that_comes_late_reaches_the_segment_and_the_history() {
    let mut m = enroute("a", 1);
    m.enter(NOW, State::Unknown, Reason::ReceiptTimeout, "");
    assert_eq!(
        apply(&mut m, 0, PartState::Delivered, "000"),
        ReceiptEffect::Contradiction
    );
    assert_eq!(
        (m.state, m.parts[0].state),
        (State::Unknown, PartState::Delivered)
    );
    assert_eq!(m.events.last().unwrap().detail, "delivered");
}

#[test]
fn a_failed_message_goes_to_the_next_carrier_where_policy_says_so() {
    let mut m = enroute("a", 2);
    wants_reroute(&mut m, 1);
    apply(&mut m, 0, PartState::Undeliverable, "034");
    assert_eq!(
        apply(&mut m, 1, PartState::Undeliverable, "034"),
        ReceiptEffect::Rerouted
    );
    assert_eq!((m.state, m.hop), (State::Queued, 1));
    assert_eq!(
        m.due.as_ref().map(|d| &d.lane),
        Some(&Lane::Carrier("b".into()))
    );
    assert_eq!(m.failed[0].parts.len(), 2);
    assert_eq!(m.failed[0].price_micros, Some(200));
    assert_eq!(
        m.attempts[0].outcome,
        AttemptOutcome::Undelivered("034".to_owned())
    );
    let last = m.events.last().unwrap();
    assert_eq!(
        (
            last.reason,
            last.carrier.as_ref().map(CarrierId::as_str),
            &*last.detail
        ),
        (
            Reason::ReroutedByReceipt,
            Some("a"),
            "undeliverable err:034"
        )
    );
    // No more than `max` times.
    take(&mut m, "b", 1);
    assert_eq!(
        apply(&mut m, 0, PartState::Undeliverable, ""),
        ReceiptEffect::Settled
    );
    assert_eq!(m.state, State::Undeliverable);
}

#[test]
fn what_may_have_arrived_never_goes_out_again() {
    let one_arrived = [PartState::Delivered, PartState::Undeliverable];
    let one_unknown = [PartState::Unknown, PartState::Undeliverable];
    for states in [one_arrived, one_unknown] {
        let mut m = enroute("a", 2);
        wants_reroute(&mut m, 3);
        for (i, state) in states.into_iter().enumerate() {
            apply(&mut m, i, state, "");
        }
        assert_eq!(m.state, State::Undeliverable, "{states:?}");
        assert!(m.failed.is_empty());
    }
}

#[test]
fn limits_of_a_reroute_hold() {
    let end = |change: &dyn Fn(&mut Message)| {
        let mut m = enroute("a", 1);
        wants_reroute(&mut m, 1);
        change(&mut m);
        apply(&mut m, 0, PartState::Undeliverable, "034");
        m.state
    };
    assert_eq!(end(&|_| ()), State::Queued);
    assert_eq!(end(&|m| m.plan.reroute = None), State::Undeliverable);
    assert_eq!(end(&|m| m.expires_at = NOW), State::Undeliverable);
    assert_eq!(end(&|m| m.plan.hops.truncate(1)), State::Undeliverable);
    let limit = |m: &mut Message, change: &dyn Fn(&mut Reroute)| {
        if let Some(reroute) = &mut m.plan.reroute {
            change(reroute);
        }
    };
    assert_eq!(
        end(&|m| limit(m, &|r| r.errors = vec!["34".into()])),
        State::Queued
    );
    assert_eq!(
        end(&|m| limit(m, &|r| r.errors = vec!["069".into()])),
        State::Undeliverable
    );
    assert_eq!(
        end(&|m| limit(m, &|r| r.within = Some(Duration::ZERO))),
        State::Undeliverable
    );
    assert_eq!(
        end(&|m| limit(m, &|r| r.on = vec![State::Expired])),
        State::Undeliverable
    );
}

#[test]
fn a_delivery_that_was_denied_and_happened_is_marked() {
    let mut m = enroute("a", 1);
    wants_reroute(&mut m, 1);
    apply(&mut m, 0, PartState::Undeliverable, "034");
    take(&mut m, "b", 1);
    let late = report(PartState::Delivered, "000");
    assert_eq!(
        m.apply_late_receipt(NOW, 0, 0, &late),
        ReceiptEffect::Contradiction
    );
    assert!(m.duplicate_risk);
    assert_eq!(m.state, State::Enroute);
    assert_eq!(m.events.last().unwrap().carrier, Some(CarrierId::from("a")));
}

proptest! {
    /// Whatever is reported in whatever order: a final state stays, and so does a segment's.
    #[test]
    fn reports_never_unsay_anything(
        parts in 1usize..4,
        reroute in any::<bool>(),
        reports in proptest::collection::vec((0usize..4, proptest::sample::select(PartState::ALL.to_vec()), 0u8..3), 0..40),
    ) {
        let mut m = enroute("a", parts);
        if reroute { wants_reroute(&mut m, 2); }
        let mut ended = None;
        for (index, state, error) in reports {
            let known: Vec<_> = m.parts.iter().map(|p| p.state).collect();
            let tries = m.failed.len();
            let effect = apply(&mut m, index, state, &format!("{error:03}"));
            if m.failed.len() > tries {
                prop_assert_eq!(effect, ReceiptEffect::Rerouted);
                prop_assert!(m.failed.iter().flat_map(|d| &d.parts).all(|p| p.state != PartState::Delivered));
                let carrier = m.next_hop_carrier().unwrap().to_string();
                take(&mut m, &carrier, parts);
                continue;
            }
            for (before, part) in known.iter().zip(&m.parts) {
                prop_assert!(*before == PartState::Enroute || *before == part.state);
            }
            if let Some(state) = ended {
                prop_assert_eq!(m.state, state);
            }
            if m.state.is_terminal() { ended = Some(m.state); }
            prop_assert_eq!(m.events.last().map(|e| e.state), Some(m.state));
        }
        prop_assert!(m.failed.len() <= 2);
    }
}
