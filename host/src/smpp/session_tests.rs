//! Transcripts: octets in, octets out, at times that the test names.

use super::super::pdu::encode;
use super::super::pdu::{AlertNotification, Framing, Outbind, Sm, SmResp, frame};
use super::*;
use std::time::Duration;

const S: Duration = Duration::from_secs(1);

fn settings() -> Settings {
    Settings {
        window: 3,
        bind: 5 * S,
        response: 10 * S,
        enquire_link: 30 * S,
        inactivity: Duration::ZERO,
    }
}

fn esme(now: Instant, settings: Settings) -> Session<u32> {
    let credentials = Credentials {
        mode: BindMode::Transceiver,
        system_id: "id".to_owned(),
        password: "pw".to_owned(),
        system_type: String::new(),
        interface_version: INTERFACE_VERSION,
        address_range: String::new(),
        addr_ton: 0,
        addr_npi: 0,
    };
    Session::new(Role::Esme(credentials), settings, now).unwrap()
}

fn smsc(now: Instant) -> Session<u32> {
    Session::new(Role::Smsc, settings(), now).unwrap()
}

/// Everything that the session wants written: command_id, command_status, sequence_number.
fn written(session: &mut Session<u32>) -> Vec<(u32, u32, u32)> {
    let octets = session.output().to_vec();
    session.wrote(octets.len());
    let (mut at, mut list) = (0, Vec::new());
    while let Framing::Frame(length) = frame(&octets[at..]) {
        let header = pdu::Header::parse(&octets[at..]).unwrap();
        list.push((
            header.command_id,
            header.command_status,
            header.sequence_number,
        ));
        at += length;
    }
    assert_eq!(at, octets.len());
    list
}

fn octets(sequence_number: u32, command_status: u32, body: Body<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode(
        &Pdu::response(sequence_number, command_status, body),
        &mut out,
    )
    .unwrap();
    out
}

fn bound(now: Instant, settings: Settings) -> Session<u32> {
    let mut session = esme(now, settings);
    assert_eq!(
        written(&mut session),
        [(command_id::BIND_TRANSCEIVER, 0, 1)]
    );
    let resp = octets(1, 0, Body::BindTransceiverResp(BindResp::default()));
    assert!(matches!(session.handle(now, &resp), Event::Bound));
    session
}

fn submit() -> Body<'static> {
    Body::SubmitSm(Sm {
        destination_addr: b"447700900123",
        short_message: b"hi",
        ..Sm::default()
    })
}

fn submit_resp(sequence_number: u32) -> Vec<u8> {
    let resp = SmResp {
        message_id: b"id",
        ..SmResp::default()
    };
    octets(sequence_number, 0, Body::SubmitSmResp(resp))
}

fn answer(session: &mut Session<u32>, now: Instant, octets: &[u8]) -> Option<(u32, u32)> {
    match session.handle(now, octets) {
        Event::Answer {
            token,
            command_status,
            ..
        } => Some((token, command_status)),
        Event::None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers_find_their_requests_in_any_order() {
    let now = Instant::now();
    let mut session = bound(now, settings());
    for token in [10, 11, 12] {
        session.request(now, submit(), token).unwrap();
    }
    let sent: Vec<u32> = written(&mut session).iter().map(|w| w.2).collect();
    assert_eq!(sent, [2, 3, 4]);
    assert_eq!(answer(&mut session, now, &submit_resp(4)), Some((12, 0)));
    assert_eq!(answer(&mut session, now, &submit_resp(2)), Some((10, 0)));
    assert_eq!(session.in_flight(), 1);
}

#[test]
fn the_window_is_kept() {
    let now = Instant::now();
    let mut session = bound(now, settings());
    for token in 0..3 {
        session.request(now, submit(), token).unwrap();
    }
    assert_eq!(session.window_free(), 0);
    assert_eq!(
        session.request(now, submit(), 3),
        Err(RequestError::WindowFull)
    );
    answer(&mut session, now, &submit_resp(2));
    assert!(session.request(now, submit(), 3).is_ok());
}

#[test]
fn nothing_is_sent_before_the_bind_is_answered() {
    let now = Instant::now();
    let mut session = esme(now, settings());
    assert_eq!(session.window_free(), 0);
    assert_eq!(
        session.request(now, submit(), 0),
        Err(RequestError::NotBound)
    );
}

#[test]
fn a_refused_bind_ends_the_session_with_its_status() {
    let now = Instant::now();
    for refusal in [
        octets(
            1,
            status::ESME_RINVPASWD,
            Body::BindTransceiverResp(BindResp::default()),
        ),
        octets(1, status::ESME_RINVPASWD, Body::GenericNack),
    ] {
        let mut session = esme(now, settings());
        assert!(matches!(session.handle(now, &refusal), Event::None));
        assert_eq!(
            session.closed(),
            Some(CloseReason::BindRefused(status::ESME_RINVPASWD))
        );
    }
}

#[test]
fn a_bind_without_an_answer_ends_the_session() {
    let now = Instant::now();
    let mut session = esme(now, settings());
    assert_eq!(session.next_timeout(), Some(now + 5 * S));
    session.handle_timeout(now + 5 * S, &mut Vec::new());
    assert_eq!(session.closed(), Some(CloseReason::BindTimeout));
}

#[test]
fn a_request_without_an_answer_expires_and_its_late_answer_is_ignored() {
    let now = Instant::now();
    let mut session = bound(now, settings());
    session.request(now, submit(), 1).unwrap();
    session.request(now + 4 * S, submit(), 2).unwrap();
    let mut expired = Vec::new();
    session.handle_timeout(now + 9 * S, &mut expired);
    assert_eq!(expired, [0u32; 0]);
    session.handle_timeout(now + 10 * S, &mut expired);
    assert_eq!(expired, [1]);
    assert_eq!(answer(&mut session, now + 11 * S, &submit_resp(2)), None);
    assert_eq!(session.counters().stray_responses, 1);
    assert_eq!(session.next_timeout(), Some(now + 14 * S));
    session.handle_timeout(now + 14 * S, &mut expired);
    assert_eq!(expired, [1, 2]);
}

#[test]
fn answers_given_twice_or_to_nothing_are_counted_and_ignored() {
    let now = Instant::now();
    let mut session = bound(now, settings());
    session.request(now, submit(), 1).unwrap();
    written(&mut session);
    assert!(answer(&mut session, now, &submit_resp(2)).is_some());
    assert_eq!(answer(&mut session, now, &submit_resp(2)), None);
    assert_eq!(answer(&mut session, now, &submit_resp(0)), None);
    assert_eq!(answer(&mut session, now, &submit_resp(77)), None);
    assert_eq!(session.counters().stray_responses, 3);
    assert_eq!(written(&mut session), []);
}

#[test]
fn an_answer_of_another_kind_is_none() {
    let now = Instant::now();
    let mut session = bound(now, settings());
    session.request(now, submit(), 1).unwrap();
    let data_sm_resp = octets(2, 0, Body::DataSmResp(SmResp::default()));
    assert_eq!(answer(&mut session, now, &data_sm_resp), None);
    assert_eq!(session.in_flight(), 1);
}

#[test]
fn a_generic_nack_is_a_refusal_whatever_its_status_says() {
    let now = Instant::now();
    let mut session = bound(now, settings());
    session.request(now, submit(), 1).unwrap();
    session.request(now, submit(), 2).unwrap();
    let nack = |sequence_number, command_status| {
        octets(sequence_number, command_status, Body::GenericNack)
    };
    let refused = answer(&mut session, now, &nack(2, status::ESME_RINVCMDID));
    assert_eq!(refused, Some((1, status::ESME_RINVCMDID)));
    assert_eq!(
        answer(&mut session, now, &nack(3, 0)),
        Some((2, status::ESME_RUNKNOWNERR))
    );
}

#[test]
fn a_silent_peer_is_asked_and_then_left() {
    let now = Instant::now();
    let mut session = bound(now, settings());
    assert_eq!(session.next_timeout(), Some(now + 30 * S));
    session.handle_timeout(now + 30 * S, &mut Vec::new());
    assert_eq!(written(&mut session), [(command_id::ENQUIRE_LINK, 0, 2)]);
    assert_eq!(session.next_timeout(), Some(now + 40 * S));
    session.handle_timeout(now + 40 * S, &mut Vec::new());
    assert_eq!(session.closed(), Some(CloseReason::EnquireLinkTimeout));
}

#[test]
fn a_peer_that_answers_enquire_link_stays() {
    let now = Instant::now();
    let mut session = bound(now, settings());
    session.handle_timeout(now + 30 * S, &mut Vec::new());
    session.handle(now + 31 * S, &octets(2, 0, Body::EnquireLinkResp));
    session.handle_timeout(now + 40 * S, &mut Vec::new());
    assert_eq!(session.closed(), None);
    assert_eq!(session.next_timeout(), Some(now + 61 * S));
}

#[test]
fn enquire_link_of_the_peer_is_answered_even_before_the_bind() {
    let now = Instant::now();
    let mut session = smsc(now);
    session.handle(now, &octets(5, 0, Body::EnquireLink));
    assert_eq!(
        written(&mut session),
        [(command_id::ENQUIRE_LINK_RESP, 0, 5)]
    );
}

#[test]
fn unbind_waits_for_answers_under_way_and_for_its_own() {
    let now = Instant::now();
    let mut session = bound(now, settings());
    session.request(now, submit(), 1).unwrap();
    session.unbind(now);
    assert_eq!(
        written(&mut session).last(),
        Some(&(command_id::UNBIND, 0, 3))
    );
    assert_eq!(
        session.request(now, submit(), 2),
        Err(RequestError::NotBound)
    );
    assert!(answer(&mut session, now, &submit_resp(2)).is_some());
    session.handle(now, &octets(3, 0, Body::UnbindResp));
    assert_eq!(session.closed(), Some(CloseReason::Unbound));
}

#[test]
fn an_unanswered_unbind_ends_in_time() {
    let now = Instant::now();
    let mut session = bound(now, settings());
    session.unbind(now);
    session.handle_timeout(now + 10 * S, &mut Vec::new());
    assert_eq!(session.closed(), Some(CloseReason::UnbindTimeout));
}

#[test]
fn the_peers_unbind_is_answered_and_unsent_requests_are_taken_back() {
    let now = Instant::now();
    let mut session = bound(now, settings());
    session.request(now, submit(), 1).unwrap();
    written(&mut session);
    session.request(now, submit(), 2).unwrap();
    let unbind = octets(9, 0, Body::Unbind);
    assert!(matches!(session.handle(now, &unbind), Event::UnbindRequest));
    session.let_go();
    assert_eq!(session.closed(), Some(CloseReason::UnboundByPeer));
    let mut abandoned = session.abandon();
    abandoned.sort_unstable();
    assert_eq!(abandoned, [(1, true), (2, false)]);
    assert_eq!(written(&mut session), [(command_id::UNBIND_RESP, 0, 9)]);
}

/// A message centre with a transceiver bound, and its response written.
fn serving(now: Instant) -> Session<u32> {
    let mut session = smsc(now);
    session.accept_bind(now, 1, BindMode::Transceiver, INTERFACE_VERSION, b"smsc");
    written(&mut session);
    session
}

#[test]
fn a_peer_that_unbinds_has_its_answers_first_and_asks_for_nothing_more() {
    let now = Instant::now();
    let mut session = serving(now);
    session.handle(now, &octets(2, 0, submit()));
    let unbind = octets(3, 0, Body::Unbind);
    assert!(matches!(session.handle(now, &unbind), Event::UnbindRequest));
    session.handle(now, &octets(4, 0, submit()));
    session.handle(now, &octets(5, 0, Body::Unbind));
    assert_eq!(
        session.request(now, submit(), 1),
        Err(RequestError::NotBound)
    );
    let refusal = (command_id::SUBMIT_SM_RESP, status::ESME_RINVBNDSTS, 4);
    assert_eq!(written(&mut session), [refusal]);
    assert!(session.is_leaving() && session.closed().is_none());
    session.respond(
        now,
        &Pdu::response(2, 0, Body::SubmitSmResp(SmResp::default())),
    );
    session.let_go();
    assert_eq!(session.closed(), Some(CloseReason::UnboundByPeer));
    assert_eq!(
        written(&mut session),
        [
            (command_id::SUBMIT_SM_RESP, 0, 2),
            (command_id::UNBIND_RESP, 0, 3)
        ]
    );
}

#[test]
fn a_peer_that_unbinds_is_not_kept_for_answers_that_never_come() {
    let now = Instant::now();
    let mut session = serving(now);
    session.handle(now, &octets(2, 0, submit()));
    session.handle(now, &octets(3, 0, Body::Unbind));
    assert_eq!(session.next_timeout(), Some(now + 10 * S));
    session.handle_timeout(now + 10 * S, &mut Vec::new());
    assert_eq!(session.closed(), Some(CloseReason::UnboundByPeer));
    assert_eq!(written(&mut session), [(command_id::UNBIND_RESP, 0, 3)]);
}

#[test]
fn answers_behind_requests_that_never_left_are_kept() {
    let now = Instant::now();
    let mut session = serving(now);
    session.request(now, submit(), 1).unwrap();
    session.handle(now, &octets(2, 0, submit()));
    session.respond(
        now,
        &Pdu::response(2, 0, Body::SubmitSmResp(SmResp::default())),
    );
    session.request(now, submit(), 2).unwrap();
    session.handle(now, &octets(3, 0, Body::Unbind));
    session.let_go();
    let mut abandoned = session.abandon();
    abandoned.sort_unstable();
    assert_eq!(abandoned, [(1, false), (2, false)]);
    assert_eq!(
        written(&mut session),
        [
            (command_id::SUBMIT_SM_RESP, 0, 2),
            (command_id::UNBIND_RESP, 0, 3)
        ]
    );
}

#[test]
fn a_request_of_which_one_octet_left_may_have_arrived() {
    let now = Instant::now();
    let mut session = bound(now, settings());
    session.request(now, submit(), 1).unwrap();
    session.wrote(1);
    session.close(CloseReason::ClosedByPeer);
    assert_eq!(session.abandon(), [(1, true)]);
}

#[test]
fn no_message_for_the_inactivity_time_and_we_unbind() {
    let now = Instant::now();
    let mut session = bound(
        now,
        Settings {
            inactivity: 60 * S,
            enquire_link: Duration::ZERO,
            ..settings()
        },
    );
    session.handle(now + 40 * S, &octets(5, 0, Body::EnquireLink));
    written(&mut session);
    session.handle_timeout(now + 60 * S, &mut Vec::new());
    assert_eq!(written(&mut session), [(command_id::UNBIND, 0, 2)]);
}

#[test]
fn deliver_sm_before_the_bind_is_refused() {
    let now = Instant::now();
    let mut session = esme(now, settings());
    written(&mut session);
    session.handle(now, &octets(5, 0, Body::DeliverSm(Sm::default())));
    let refusal = (command_id::DELIVER_SM_RESP, status::ESME_RINVBNDSTS, 5);
    assert_eq!(written(&mut session), [refusal]);
}

#[test]
fn unknown_and_misplaced_commands_are_refused_and_the_session_stays() {
    let now = Instant::now();
    let mut session = bound(now, settings());
    let vendor = Body::Other {
        command_id: 0x0001_0200,
        octets: b"x",
    };
    session.handle(now, &octets(5, 0, vendor));
    session.handle(now, &octets(6, 0, submit()));
    session.handle(now, &octets(7, 0, Body::BindTransmitter(Bind::default())));
    session.handle(now, &octets(8, 0, Body::Outbind(Outbind::default())));
    assert_eq!(
        written(&mut session),
        [
            (command_id::GENERIC_NACK, status::ESME_RINVCMDID, 5),
            (command_id::SUBMIT_SM_RESP, status::ESME_RINVBNDSTS, 6),
            (
                command_id::BIND_TRANSMITTER_RESP,
                status::ESME_RINVBNDSTS,
                7
            ),
        ]
    );
    assert_eq!(session.closed(), None);
    let counters = session.counters();
    assert_eq!((counters.refused, counters.unknown_commands), (3, 1));
}

#[test]
fn a_bad_body_is_answered_and_the_session_stays() {
    let now = Instant::now();
    let mut session = bound(now, settings());
    let mut bad = octets(
        5,
        0,
        Body::DeliverSm(Sm {
            short_message: b"abc",
            ..Sm::default()
        }),
    );
    let length = bad.len();
    bad[length - 4] = 200;
    session.handle(now, &bad);
    let refusal = (command_id::DELIVER_SM_RESP, status::ESME_RINVMSGLEN, 5);
    assert_eq!(written(&mut session), [refusal]);
    assert_eq!(session.counters().malformed, 1);
    assert_eq!(session.closed(), None);
}

#[test]
fn a_length_that_cannot_be_is_nacked_and_ends_the_session() {
    let now = Instant::now();
    let mut session = bound(now, settings());
    session.unframeable(u32::MAX);
    assert_eq!(
        written(&mut session),
        [(command_id::GENERIC_NACK, status::ESME_RINVCMDLEN, 0)]
    );
    assert_eq!(
        session.closed(),
        Some(CloseReason::BadCommandLength(u32::MAX))
    );
}

#[test]
fn sequence_numbers_begin_again_and_skip_those_in_flight() {
    let now = Instant::now();
    let mut session = bound(now, settings());
    let first = session.request(now, submit(), 0).unwrap();
    session.next_sequence = SEQUENCE_NUMBER_MAX;
    assert_eq!(session.request(now, submit(), 1), Ok(SEQUENCE_NUMBER_MAX));
    assert_eq!(session.request(now, submit(), 2), Ok(1));
    assert_eq!(first, 2);
    answer(&mut session, now, &submit_resp(1));
    assert_eq!(session.request(now, submit(), 3), Ok(3));
}

#[test]
fn as_an_smsc_a_submit_needs_a_bind_that_transmits() {
    let now = Instant::now();
    let mut session = smsc(now);
    session.handle(now, &octets(1, 0, submit()));
    assert_eq!(
        written(&mut session),
        [(command_id::SUBMIT_SM_RESP, status::ESME_RINVBNDSTS, 1)]
    );
    let bind = octets(
        2,
        0,
        Body::BindReceiver(Bind {
            interface_version: 0x34,
            ..Bind::default()
        }),
    );
    let Event::BindRequest {
        sequence_number: 2,
        mode: BindMode::Receiver,
        ..
    } = session.handle(now, &bind)
    else {
        panic!()
    };
    session.accept_bind(now, 2, BindMode::Receiver, 0x34, b"SMSC");
    session.handle(now, &octets(3, 0, submit()));
    session.handle(now, &bind);
    assert_eq!(
        written(&mut session),
        [
            (command_id::BIND_RECEIVER_RESP, 0, 2),
            (command_id::SUBMIT_SM_RESP, status::ESME_RINVBNDSTS, 3),
            (command_id::BIND_RECEIVER_RESP, status::ESME_RALYBND, 2),
        ]
    );
    assert!(
        session
            .request(now, Body::DeliverSm(Sm::default()), 1)
            .is_ok()
    );
}

#[test]
fn as_an_smsc_who_does_not_bind_in_time_is_left() {
    let now = Instant::now();
    let mut session = smsc(now);
    session.refuse_bind(1, BindMode::Transceiver, status::ESME_RINVPASWD);
    session.handle_timeout(now + 5 * S, &mut Vec::new());
    assert_eq!(session.closed(), Some(CloseReason::BindTimeout));
}

#[test]
fn after_the_end_nothing_is_heard() {
    let now = Instant::now();
    let mut session = bound(now, settings());
    session.close(CloseReason::Aborted);
    session.close(CloseReason::ClosedByPeer);
    session.handle(now, &octets(5, 0, Body::EnquireLink));
    assert_eq!(written(&mut session), []);
    assert_eq!(session.closed(), Some(CloseReason::Aborted));
    assert_eq!(session.next_timeout(), None);
}

#[test]
fn a_bind_response_under_another_number_is_that_of_the_only_bind() {
    let now = Instant::now();
    let mut session = esme(now, settings());
    let resp = octets(0, 0, Body::BindTransceiverResp(BindResp::default()));
    assert!(matches!(session.handle(now, &resp), Event::Bound));
    // A second one is nobody's.
    assert!(matches!(session.handle(now, &resp), Event::None));
    assert_eq!(session.counters().stray_responses, 1);
}

#[test]
fn an_unasked_generic_nack_disturbs_nothing() {
    let now = Instant::now();
    let mut session = bound(now, settings());
    session.request(now, submit(), 7).unwrap();
    written(&mut session);
    let nack = octets(0, status::ESME_RINVCMDID, Body::GenericNack);
    assert_eq!(answer(&mut session, now, &nack), None);
    assert_eq!(session.counters().stray_responses, 1);
    assert_eq!(answer(&mut session, now, &submit_resp(2)), Some((7, 0)));
}

#[test]
fn an_alert_notification_is_told_to_an_esme_and_has_no_response() {
    let now = Instant::now();
    let alert = octets(
        9,
        0,
        Body::AlertNotification(AlertNotification {
            source_addr: b"447700900123",
            ..AlertNotification::default()
        }),
    );
    let mut session = bound(now, settings());
    written(&mut session);
    assert!(matches!(
        session.handle(now, &alert),
        Event::Notice { body: Body::AlertNotification(a) } if a.source_addr == b"447700900123"
    ));
    // One that cannot be read has none either.
    let endless = [&[0xFF; 300][..], b"\0"].concat();
    let mut bad = octets(10, 0, Body::Unbind);
    bad[7] = 0x02;
    bad[6] = 0x01;
    bad.extend_from_slice(&[1, 1]);
    bad.extend_from_slice(&endless);
    let length = u32::try_from(bad.len()).unwrap();
    bad[..4].copy_from_slice(&length.to_be_bytes());
    assert!(matches!(session.handle(now, &bad), Event::None));
    assert_eq!(session.counters().malformed, 1);
    assert!(written(&mut session).is_empty());
    assert!(session.is_bound());
    // Before the bind, and as an SMSC, it means nothing.
    assert!(matches!(
        esme(now, settings()).handle(now, &alert),
        Event::None
    ));
    let mut smsc = smsc(now);
    assert!(matches!(smsc.handle(now, &alert), Event::None));
    assert!(written(&mut smsc).is_empty());
}

#[test]
fn what_has_no_response_takes_no_place_in_the_window() {
    let now = Instant::now();
    let mut session = smsc(now);
    let alert = octets(0, 0, Body::AlertNotification(AlertNotification::default()));
    assert_eq!(
        session.notify_encoded(now, &alert),
        Err(RequestError::NotBound)
    );
    session.accept_bind(now, 1, BindMode::Receiver, INTERFACE_VERSION, b"smsc");
    written(&mut session);
    for _ in 0..5 {
        assert_eq!(session.notify_encoded(now, &alert), Ok(()));
    }
    assert_eq!((session.in_flight(), session.window_free()), (0, 3));
    let sent = written(&mut session);
    let ids: Vec<u32> = sent.iter().map(|(id, _, _)| *id).collect();
    assert_eq!(ids, [command_id::ALERT_NOTIFICATION; 5]);
    let mut numbers: Vec<u32> = sent.iter().map(|(_, _, number)| *number).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), 5);
}
