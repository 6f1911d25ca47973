//! What is out at once, and what keeps its place for how long.

use super::*;

/// As the pipeline has it once these segments are written down.
fn begun(message: &mut Message, taken: &[Option<&str>]) {
    let part = |id: &Option<&str>| crate::domain::Part {
        carrier: CarrierId::from("north"),
        carrier_message_id: id.unwrap_or_default().to_owned(),
        state: match id {
            Some(_) => PartState::Enroute,
            None => PartState::Unanswered,
        },
        error: String::new(),
        network_type: None,
        done_at: None,
    };
    message.state = State::SubmitUnknown;
    message.parts = taken.iter().map(part).collect();
}

async fn hand(carrier: &SmppCarrier, message: &Message) -> super::super::Handed {
    let segmented = segmented(message);
    let outgoing = Outgoing {
        message,
        originator: &message.originator,
        segmented: &segmented,
        tlvs: &[],
        now: NOW,
    };
    timeout(PATIENCE, carrier.send(outgoing)).await.unwrap()
}

fn in_part(ids: &[Option<&str>]) -> SendOutcome {
    SendOutcome::Begun {
        taken: ids.iter().map(|id| id.map(str::to_owned)).collect(),
    }
}

/// Answers the next request, which has to be of this segment.
async fn answer(
    session: &mut ServerSession,
    segment: u8,
    how: impl FnOnce(crate::smpp::link::Responder),
) {
    let request = request(session).await;
    let pdu = request.pdu().unwrap();
    let pdu::Body::SubmitSm(sm) = pdu.body else {
        panic!("{pdu:?}")
    };
    assert_eq!(sm.short_message[5], segment);
    how(request.responder);
}

#[tokio::test]
async fn a_message_of_more_segments_than_places_goes_on_when_the_first_are_written_down() {
    let mut rig = rig(|c| c.window = 1).await;
    let mut message = message(&LONG.repeat(2));
    let take = answer(&mut rig.session, 1, |r| r.message_id("1".to_owned()));
    let (first, ()) = tokio::join!(hand(&rig.carrier, &message), take);
    assert_eq!(first.outcome, in_part(&[Some("1"), None, None]));
    // Not before, not even by another attempt.
    begun(&mut message, &[Some("1"), None, None]);
    let once_more = message.clone();
    let mut rest = std::pin::pin!(hand(&rig.carrier, &once_more));
    assert!(timeout(Duration::from_millis(50), &mut rest).await.is_err());
    assert!(rig.session.requests.is_empty());
    first.place.unwrap().settle().0.end(true);
    let take = answer(&mut rig.session, 2, |r| r.message_id("2".to_owned()));
    let (second, ()) = tokio::join!(rest, take);
    assert_eq!(second.outcome, in_part(&[Some("1"), Some("2"), None]));
    second.place.unwrap().settle().0.end(true);
    begun(&mut message, &[Some("1"), Some("2"), None]);
    let take = answer(&mut rig.session, 3, |r| r.message_id("3".to_owned()));
    let (third, ()) = tokio::join!(hand(&rig.carrier, &message), take);
    assert_eq!(third.outcome, sent(&["1", "2", "3"]));
}

#[tokio::test]
async fn where_no_session_is_left_for_the_rest_nothing_of_it_went() {
    let rig = rig(|c| c.window = 1).await;
    let mut message = message(LONG);
    begun(&mut message, &[Some("1"), None]);
    rig.smsc.stop.send_replace(true);
    rig.session.link.abort();
    timeout(PATIENCE, rig.session.link.closed()).await.unwrap();
    while rig.carrier.inner.slots[0].link().is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let rest = hand(&rig.carrier, &message).await;
    assert_eq!(rest.outcome, SendOutcome::Unavailable);
}

#[tokio::test]
async fn segments_that_are_put_off_are_tried_in_the_room_that_those_taken_leave() {
    let mut rig = rig(|c| c.window = 2).await;
    let mut message = message(&LONG.repeat(2));
    let session = &mut rig.session;
    let take = async {
        answer(session, 1, |r| r.message_id("1".to_owned())).await;
        answer(session, 2, |r| r.status(status::ESME_RMSGQFUL)).await;
        answer(session, 2, |r| r.message_id("2".to_owned())).await;
        assert!(session.requests.is_empty());
    };
    let (first, ()) = tokio::join!(hand(&rig.carrier, &message), take);
    assert_eq!(first.outcome, in_part(&[Some("1"), Some("2"), None]));
    begun(&mut message, &[Some("1"), Some("2"), None]);
    drop(first);
    let take = answer(&mut rig.session, 3, |r| r.message_id("3".to_owned()));
    let (second, ()) = tokio::join!(hand(&rig.carrier, &message), take);
    assert_eq!(second.outcome, sent(&["1", "2", "3"]));
}

#[tokio::test]
async fn no_more_go_out_than_the_window_holds() {
    let mut rig = rig(|c| c.window = 2).await;
    let sendings: Vec<_> = (0..5).map(|_| sending(&rig.carrier, "hello")).collect();
    for _ in 0..5 {
        let first = request(&mut rig.session).await;
        assert!(rig.session.requests.len() <= 1);
        assert!(rig.carrier.status().in_flight <= 2);
        first.responder.message_id("1".to_owned());
    }
    for sending in sendings {
        assert_eq!(outcome(sending).await, sent(&["1"]));
    }
    assert_eq!(rig.carrier.status().in_flight, 0);
}

#[tokio::test]
async fn a_full_window_leaves_no_room_and_no_headroom() {
    let mut rig = rig(|c| c.window = 1).await;
    assert_eq!(rig.carrier.ready().await, 1);
    let sending = sending(&rig.carrier, "hello");
    let request = request(&mut rig.session).await;
    assert_eq!(rig.carrier.status().headroom, 0.0);
    assert!(
        timeout(Duration::from_millis(20), rig.carrier.ready())
            .await
            .is_err()
    );
    request.responder.message_id("1".to_owned());
    outcome(sending).await;
    assert_eq!(timeout(PATIENCE, rig.carrier.ready()).await, Ok(1));
}

/// A carrier that takes `answered` of what its window holds and dies.
#[tokio::test]
async fn a_session_that_dies_leaves_no_more_unknown_than_its_window_and_none_that_was_answered() {
    let mut rig = rig(|c| c.window = 4).await;
    let sendings: Vec<_> = (0..10).map(|_| sending(&rig.carrier, "hello")).collect();
    for id in ["1", "2"] {
        request(&mut rig.session)
            .await
            .responder
            .message_id(id.to_owned());
    }
    // The window has filled up again.
    let mut unanswered = Vec::new();
    for _ in 0..4 {
        unanswered.push(request(&mut rig.session).await);
    }
    rig.session.link.abort();
    let (mut taken, mut lost, mut unsent) = (0, 0, 0);
    for sending in sendings {
        match outcome(sending).await {
            SendOutcome::Sent { .. } => taken += 1,
            SendOutcome::Unknown { taken } => {
                assert_eq!(taken, [None]);
                lost += 1;
            }
            SendOutcome::Unavailable => unsent += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((taken, lost), (2, 4));
    assert_eq!(unsent, 4);
}

#[tokio::test]
async fn segments_that_were_answered_before_a_session_died_are_not_sent_again() {
    let Rig {
        mut smsc,
        mut session,
        carrier,
        events: _events,
    } = rig(|_| {}).await;
    let mut message = message(LONG);
    let segmented = segmented(&message);
    let send = async |message: &Message| {
        let outgoing = Outgoing {
            message,
            originator: &message.originator,
            segmented: &segmented,
            tlvs: &[],
            now: NOW,
        };
        timeout(PATIENCE, carrier.send(outgoing)).await.unwrap()
    };
    let die = async {
        request(&mut session)
            .await
            .responder
            .message_id("1".to_owned());
        let _unanswered = request(&mut session).await;
        // The first answer is read before the end comes.
        while carrier.inner.slots[0].link().unwrap().in_flight() > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        session.link.abort();
    };
    let (first, ()) = tokio::join!(send(&message), die);
    let taken = vec![Some("1".to_owned()), None];
    assert_eq!(first.outcome, SendOutcome::Unknown { taken });
    drop(first);

    message.state = State::SubmitUnknown;
    let part = |id: &str, state| crate::domain::Part {
        carrier: CarrierId::from("north"),
        carrier_message_id: id.to_owned(),
        state,
        error: String::new(),
        network_type: None,
        done_at: None,
    };
    message.parts = vec![
        part("1", PartState::Delivered),
        part("", PartState::Unanswered),
    ];
    let mut session = smsc.session().await;
    timeout(PATIENCE, carrier.ready()).await.unwrap();
    let take = async {
        let again = request(&mut session).await;
        let pdu = again.pdu().unwrap();
        let pdu::Body::SubmitSm(sm) = pdu.body else {
            panic!("{pdu:?}")
        };
        assert_eq!(&sm.short_message[..6], b"\x05\x00\x03\x07\x02\x02");
        again.responder.message_id("2".to_owned());
    };
    let (again, ()) = tokio::join!(send(&message), take);
    assert_eq!(again.outcome, sent(&["1", "2"]));
    assert!(session.requests.is_empty());
}

/// A message that the carrier has answered, with its place.
async fn first_is_taken(rig: &mut Rig) -> super::super::Handed {
    let first = message("first");
    let take = async {
        let first = request(&mut rig.session).await;
        first.responder.message_id("1".to_owned());
    };
    let (handed, ()) = tokio::join!(hand(&rig.carrier, &first), take);
    assert_eq!(handed.outcome, sent(&["1"]));
    handed
}

#[tokio::test]
async fn an_answered_message_keeps_its_place_until_its_outcome_is_durable() {
    let mut rig = rig(|c| c.window = 1).await;
    let handed = first_is_taken(&mut rig).await;
    assert_eq!(rig.carrier.status().in_flight, 1);

    let mut second = sending(&rig.carrier, "second");
    let room = timeout(Duration::from_millis(50), rig.carrier.ready());
    assert!(room.await.is_err());
    assert!(rig.session.requests.is_empty());
    assert!(
        timeout(Duration::from_millis(1), &mut second)
            .await
            .is_err()
    );
    // One may be claimed for it, and still does not go out.
    let (place, notice) = handed.place.unwrap().settle();
    notice.give();
    assert_eq!(timeout(PATIENCE, rig.carrier.ready()).await.unwrap(), 1);
    assert!(
        timeout(Duration::from_millis(50), &mut second)
            .await
            .is_err()
    );
    assert!(rig.session.requests.is_empty());
    place.end(true);
    let request = request(&mut rig.session).await;
    request.responder.message_id("2".to_owned());
    assert_eq!(outcome(second).await, sent(&["2"]));
    timeout(PATIENCE, rig.carrier.ready()).await.unwrap();
}

/// Who was to write it down has gone away, and the store goes on.
#[tokio::test]
async fn a_place_that_is_dropped_while_it_is_settled_is_given_back() {
    let mut rig = rig(|c| c.window = 1).await;
    let handed = first_is_taken(&mut rig).await;
    drop(handed.place.unwrap().settle());
    let second = sending(&rig.carrier, "second");
    let request = request(&mut rig.session).await;
    request.responder.message_id("2".to_owned());
    assert_eq!(outcome(second).await, sent(&["2"]));
    assert_eq!(timeout(PATIENCE, rig.carrier.ready()).await, Ok(1));
}

/// The store has stopped: were the place given back, one more would be out than the window has places.
#[tokio::test]
async fn where_an_outcome_is_never_durable_who_waits_for_its_place_learns_that_nothing_goes_out() {
    let mut rig = rig(|c| c.window = 1).await;
    let handed = first_is_taken(&mut rig).await;
    let mut second = sending(&rig.carrier, "second");
    assert!(
        timeout(Duration::from_millis(50), &mut second)
            .await
            .is_err()
    );
    handed.place.unwrap().settle().0.end(false);
    assert_eq!(outcome(second).await, SendOutcome::Unavailable);
    let third = sending(&rig.carrier, "third");
    assert_eq!(outcome(third).await, SendOutcome::Unavailable);
    assert!(rig.session.requests.is_empty());
    timeout(PATIENCE, rig.carrier.shutdown()).await.unwrap();
}
