//! The life of a message: single scenarios, and any sequence of moves at all.

use std::time::Duration;

use proptest::prelude::*;

use super::tests_support::message;
use super::*;
use crate::domain::receipt::Report;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn enroute(parts: usize) -> Message {
    let mut m = message(NOW);
    m.parts = (0..parts)
        .map(|i| Part {
            carrier: CarrierId::from("north"),
            carrier_message_id: format!("{i}"),
            state: PartState::Enroute,
            error: String::new(),
            network_type: None,
            done_at: None,
        })
        .collect();
    m.enter(NOW, State::Enroute, Reason::TakenByCarrier, "");
    m
}

#[test]
fn an_id_is_a_uuid_of_version_7() {
    let id = MessageId::new(NOW, u128::MAX);
    let uuid = uuid::Uuid::from_u128(id.0);
    assert_eq!(uuid.get_version_num(), 7);
    assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
    assert_eq!(id.timestamp(), NOW);
    assert_eq!(id.to_string().parse(), Ok(id));
    assert_eq!(uuid.to_string().parse(), Ok(id));
    assert_eq!("zz".parse::<MessageId>(), Err(NotAnId));
}

#[test]
fn a_terminal_state_never_regresses() {
    let mut m = enroute(1);
    m.apply_receipt(NOW, 0, &Report::of(PartState::Delivered));
    m.apply_receipt(NOW, 0, &Report::of(PartState::Undeliverable));
    assert!(!m.enter(NOW, State::Expired, Reason::ValidityExpired, ""));
    assert_eq!(m.state, State::Delivered);
}

#[test]
fn an_unanswered_submission_follows_the_clients_choice() {
    let mut m = message(NOW);
    m.submit_unknown(NOW, Reason::ResponseTimeout);
    assert!(m.duplicate_risk);
    assert_eq!(
        m.due.as_ref().map(|d| d.at),
        Some(NOW.plus(Duration::from_secs(10)))
    );

    let mut m = message(NOW);
    m.on_unknown = OnUnknown::Fail;
    m.submit_unknown(NOW, Reason::ResponseTimeout);
    assert_eq!((m.state, m.due), (State::Unknown, None));

    let mut m = message(NOW);
    m.on_unknown = OnUnknown::Hold;
    m.submit_unknown(NOW, Reason::ResponseTimeout);
    assert_eq!(m.due.map(|d| d.at), Some(m.expires_at));
    assert!(!m.duplicate_risk);
}

#[test]
fn history_is_bounded_and_keeps_its_beginning() {
    let mut m = message(NOW);
    for i in 0..1000 {
        m.enter(
            NOW.plus(Duration::from_secs(i)),
            State::Queued,
            Reason::CarrierThrottled,
            "",
        );
    }
    assert_eq!(m.events.len(), Message::EVENTS_MAX);
    assert_eq!(m.events[0].reason, Reason::Accepted);
}

/// Anything that can happen to a message, in any order.
#[derive(Clone, Debug)]
enum Move {
    Enter(State, Reason),
    Unknown(OnUnknown),
    Receipt(usize, PartState),
    Wait(u64),
    Take(usize),
}

fn any_move() -> impl Strategy<Value = Move> {
    let state = proptest::sample::select(State::ALL.to_vec());
    let reason = (0u8..28).prop_filter_map("a reason", Reason::from_u8);
    let part_state = proptest::sample::select(PartState::ALL.to_vec());
    let on_unknown = (0u8..3).prop_filter_map("a choice", OnUnknown::from_u8);
    prop_oneof![
        (state, reason).prop_map(|(s, r)| Move::Enter(s, r)),
        on_unknown.prop_map(Move::Unknown),
        (0usize..5, part_state).prop_map(|(i, s)| Move::Receipt(i, s)),
        (0u64..1_000_000).prop_map(Move::Wait),
        (1usize..4).prop_map(Move::Take),
    ]
}

fn apply(m: &mut Message, at: Timestamp, step: Move) {
    match step {
        Move::Enter(state, reason) => {
            m.enter(at, state, reason, "");
        }
        Move::Unknown(choice) => {
            m.on_unknown = choice;
            m.submit_unknown(at, Reason::ResponseTimeout);
        }
        Move::Receipt(index, state) => {
            m.apply_receipt(at, index, &Report::of(state));
        }
        Move::Wait(millis) if !m.state.is_terminal() => m.wait(Lane::Decide, Timestamp(millis)),
        Move::Wait(_) => {}
        Move::Take(parts) if !m.state.is_terminal() => m.parts = enroute(parts).parts,
        Move::Take(_) => {}
    }
}

proptest! {
    #[test]
    fn no_sequence_of_moves_breaks_a_rule_of_life(moves in proptest::collection::vec(any_move(), 0..200)) {
        let mut m = message(NOW);
        let mut ended: Option<State> = None;
        for (i, step) in moves.into_iter().enumerate() {
            let parts_before: Vec<PartState> = m.parts.iter().map(|p| p.state).collect();
            let taken = matches!(step, Move::Take(_));
            apply(&mut m, NOW.plus(Duration::from_millis(i as u64)), step);
            // A terminal state is never left, and nobody works on it any more.
            if let Some(state) = ended {
                prop_assert_eq!(m.state, state);
            }
            if m.state.is_terminal() {
                ended = Some(m.state);
                prop_assert!(m.due.is_none());
            }
            // A segment that reported never changes its mind.
            if !taken {
                for (before, after) in parts_before.iter().zip(&m.parts) {
                    prop_assert!(*before == PartState::Enroute || *before == after.state);
                }
            }
            // The last line of history is the present, and history is bounded.
            prop_assert_eq!(m.events.last().map(|e| e.state), Some(m.state));
            prop_assert!(m.events.len() <= Message::EVENTS_MAX);
        }
    }
}
