//! The ESME side against scripted message centres: parameters, hosts, deaths, questions, outbind. All
//! octets are judged by a codec that is not ours.

use std::collections::HashMap;

use heliograph_tests::smsc::{Session, Smsc};
use heliograph_tests::{CarrierSpec, Plan, Rig, free_address, sms};
use rusmpp::pdus::{Outbind, QuerySmResp, SubmitSmResp};
use rusmpp::types::{COctetString, EmptyOrFullCOctetString};
use rusmpp::values::{InterfaceVersion, MessageState, Npi, ServiceType, Ton};
use rusmpp::{CommandId, CommandStatus, Pdu};
use serde_json::json;

const HANDSET: &str = "+447700900123";

async fn rig(address: &str, extra: &str) -> Rig {
    Rig::start(Plan {
        simulators: Vec::new(),
        carriers: vec![CarrierSpec {
            id: "scripted".to_owned(),
            address: address.to_owned(),
            extra: extra.to_owned(),
        }],
        webhooks: true,
        ..Plan::default()
    })
    .await
}

async fn refuse(session: &mut Session, sequence: u32, status: CommandStatus) {
    let nothing = SubmitSmResp::new(COctetString::empty(), Vec::new());
    session.say(status, sequence, nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_that_the_operator_sets_goes_over_the_wire() {
    let smsc = Smsc::listen().await;
    let rig = rig(
        &smsc.address(),
        r#"
system_type = "VMS"
interface_version = 0x50
address_range = "^4477"
addr_ton = 1
addr_npi = 1
submit.service_type = "CMT"
submit.protocol_id = 0x41
submit.priority = 2
submit.registered_delivery = 0x11
submit.replace_if_present = true
submit.sm_default_msg_id = 7
submit.validity = "absolute"
submit.tlvs = [{ tag = 0x1400, text = "entity" }, { tag = 0x0204, hex = "0102" }]
source = [{ match = "alphanumeric", ton = 0, npi = 0 }, { match = "short", ton = 3, npi = 8 }]
destination = [{ match = "international", prefix = "44", replace = "0", ton = 2, npi = 8 }, { plus = true }]
"#,
    )
    .await;
    let (mut session, bind) = smsc.bound().await;
    let Some(Pdu::BindTransceiver(bind)) = bind.pdu() else {
        panic!("{bind:?}");
    };
    assert_eq!(bind.system_type.as_str(), "VMS");
    assert_eq!(bind.interface_version, InterfaceVersion::Smpp5_0);
    assert_eq!(
        (bind.addr_ton, bind.addr_npi),
        (Ton::International, Npi::Isdn)
    );
    assert_eq!(bind.address_range.as_str(), "^4477");

    rig.submit(sms(HANDSET, "hello")).await;
    let (sequence, sm) = session.hear_submit().await;
    session.take(sequence, "1").await;
    assert_eq!(
        (
            sm.source_addr_ton,
            sm.source_addr_npi,
            sm.source_addr.as_str()
        ),
        (Ton::NetworkSpecific, Npi::National, "60777")
    );
    assert_eq!(
        (
            sm.dest_addr_ton,
            sm.dest_addr_npi,
            sm.destination_addr.as_str()
        ),
        (Ton::National, Npi::National, "07700900123")
    );
    let service_type: &ServiceType = &sm.service_type;
    assert_eq!(service_type.value().as_str(), "CMT");
    assert_eq!(sm.protocol_id, 0x41);
    assert_eq!(u8::from(sm.priority_flag), 2);
    assert_eq!(u8::from(sm.registered_delivery), 0x11);
    assert_eq!(u8::from(sm.replace_if_present_flag), 1);
    assert_eq!(sm.sm_default_msg_id, 7);
    let validity = sm.validity_period.as_str();
    assert!(
        validity.len() == 16 && validity.ends_with('+'),
        "{validity}"
    );
    let tags: Vec<u16> = sm.tlvs().iter().map(|t| u16::from(t.tag())).collect();
    assert_eq!(
        tags,
        [0x1400, 0x0204],
        "the operator's reference replaces ours"
    );

    // A route or message of another country falls to the next rule.
    let mut other = sms("+4915112345678", "hello");
    other["from"] = json!("Acme");
    other["tlvs"] = json!([{ "tag": "0x1400", "value": "6d696e65" }]);
    rig.submit(other).await;
    let (sequence, sm) = session.hear_submit().await;
    session.take(sequence, "2").await;
    assert_eq!(
        (sm.source_addr_ton, sm.source_addr.as_str()),
        (Ton::Unknown, "Acme")
    );
    assert_eq!(sm.destination_addr.as_str(), "+4915112345678");
    let own = sm.tlvs().iter().filter(|t| u16::from(t.tag()) == 0x1400);
    assert_eq!(own.map(|t| t.value_length()).collect::<Vec<_>>(), [4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tlv_that_cannot_be_is_refused_for_good_and_says_why() {
    let smsc = Smsc::listen().await;
    let rig = rig(&smsc.address(), "").await;
    let (_session, _) = smsc.bound().await;
    for (tag, value, why) in [
        (
            "0x020a",
            "01",
            "TLV 0x020a has 1 octets; SMPP has 2 to 2 for it",
        ),
        (
            "0x0424",
            "6869",
            "TLV 0x0424 is set from the text and cannot be given",
        ),
    ] {
        let mut body = sms(HANDSET, "hello");
        body["tlvs"] = json!([{ "tag": tag, "value": value }]);
        let id = rig.submit(body).await;
        let message = rig.wait_for(&id, "rejected").await;
        assert!(message.to_string().contains(why), "{message:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_means_what_the_operator_says() {
    let smsc = Smsc::listen().await;
    let rig = rig(
        &smsc.address(),
        r#"status = { 0x0B = { action = "retry", retry_after_ms = 100 }, ESME_RSYSERR = "reject", 0x412 = "taken" }"#,
    )
    .await;
    let (mut session, _) = smsc.bound().await;
    let id = rig.submit(sms(HANDSET, "again")).await;
    let (sequence, _) = session.hear_submit().await;
    refuse(&mut session, sequence, CommandStatus::EsmeRinvdstadr).await;
    rig.wait_for(&id, "queued").await;
    let id_rejected = rig.submit(sms(HANDSET, "never")).await;
    let (sequence, sm) = session.hear_submit().await;
    assert_eq!(sm.short_message().as_ref(), b"never");
    refuse(&mut session, sequence, CommandStatus::EsmeRsyserr).await;
    rig.wait_for(&id_rejected, "rejected").await;
    // Five seconds later, as temporary failures are.
    let (sequence, sm) = session.hear_submit().await;
    assert_eq!(sm.short_message().as_ref(), b"again");
    refuse(&mut session, sequence, CommandStatus::Other(0x412)).await;
    rig.wait_for(&id, "enroute").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_a_session_doubles_at_most_its_window_and_marks_what_it_doubles() {
    const WINDOW: usize = 5;
    let smsc = Smsc::listen().await;
    let rig = rig(&smsc.address(), &format!("window = {WINDOW}")).await;
    let (mut session, _) = smsc.bound().await;
    let mut ids = HashMap::new();
    for n in 0..12 {
        let text = format!("number {n}");
        ids.insert(text.clone(), rig.submit(sms(HANDSET, &text)).await);
    }
    let mut copies: HashMap<String, usize> = HashMap::new();
    let mut note = |sm: &rusmpp::pdus::SubmitSm| {
        let text = String::from_utf8(sm.short_message().as_ref().to_vec()).expect("ASCII");
        *copies.entry(text.clone()).or_default() += 1;
        text
    };
    // Three are answered; the window fills again, and then the connection is gone.
    let mut answered = Vec::new();
    for n in 0..3 + WINDOW {
        let (sequence, sm) = session.hear_submit().await;
        let text = note(&sm);
        if n < 3 {
            session.take(sequence, &format!("first-{n}")).await;
            rig.wait_for(&ids[&text], "enroute").await;
            answered.push(text);
        }
    }
    drop(session);
    let (mut session, _) = smsc.bound().await;
    for n in 0..12 - 3 {
        let (sequence, sm) = session.hear_submit().await;
        note(&sm);
        session.take(sequence, &format!("second-{n}")).await;
    }
    for id in ids.values() {
        rig.wait_for(id, "enroute").await;
    }
    assert_eq!(copies.len(), 12);
    let doubled: Vec<&String> = copies
        .iter()
        .filter(|(_, n)| **n > 1)
        .map(|(t, _)| t)
        .collect();
    assert!(doubled.len() <= WINDOW, "{doubled:?}");
    assert!(copies.values().all(|n| *n <= 2), "{copies:?}");
    for (text, id) in &ids {
        let marked = rig.message(id).await["duplicate_risk"] == true;
        assert_eq!(marked, doubled.contains(&text), "{text}");
        assert!(!(marked && answered.contains(text)), "{text}");
    }
}

/// A window of one and a text of three: killed at any point, no more than one goes again.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_of_more_segments_than_the_window_is_written_down_as_it_goes() {
    let smsc = Smsc::listen().await;
    let mut rig = rig(&smsc.address(), "window = 1").await;
    let (mut session, _) = smsc.bound().await;
    let long = rig.submit(sms(HANDSET, &"x".repeat(400))).await;
    // None where it is one of the others.
    let segment = |sm: &rusmpp::pdus::SubmitSm| match sm.short_message().as_ref() {
        b"short" => None,
        long => Some(long[5]),
    };
    let (sequence, sm) = session.hear_submit().await;
    assert_eq!(segment(&sm), Some(1));
    let mut shorts = Vec::new();
    for _ in 0..10 {
        shorts.push(rig.submit(sms(HANDSET, "short")).await);
    }
    session.take(sequence, "part-1").await;
    // Behind what was claimed meanwhile, and before all that waits.
    let mut before = 0;
    loop {
        let (sequence, sm) = session.hear_submit().await;
        if segment(&sm) == Some(2) {
            break;
        }
        before += 1;
        session.take(sequence, &format!("before-{before}")).await;
    }
    assert!(before <= 2, "{before}");
    let message = rig.wait_for(&long, "submit_unknown").await;
    assert_eq!(message["reason"], "taken_by_carrier", "{message:#}");
    assert_eq!(message["duplicate_risk"], false);

    rig.kill().await;
    rig.launch().await;
    let (mut session, _) = smsc.bound().await;
    let (mut segments, mut others) = (Vec::new(), before);
    while segments.len() < 2 || others < 10 {
        let (sequence, sm) = session.hear_submit().await;
        match segment(&sm) {
            Some(segment) => segments.push(segment),
            None => others += 1,
        }
        let id = format!("again-{}", segments.len() + others);
        session.take(sequence, &id).await;
    }
    assert_eq!((segments, others), (vec![2, 3], 10));
    let message = rig.wait_for(&long, "enroute").await;
    assert_eq!(message["duplicate_risk"], true, "segment 2 went twice");
    rig.wait_for_all(&shorts, "enroute").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_that_were_answered_are_not_sent_again() {
    let smsc = Smsc::listen().await;
    let rig = rig(&smsc.address(), "response_timeout_ms = 2000").await;
    let (mut session, _) = smsc.bound().await;
    let id = rig.submit(sms(HANDSET, &"x".repeat(400))).await;
    let number = |sm: &rusmpp::pdus::SubmitSm| sm.short_message().as_ref()[5];
    for expected in 1..=3 {
        let (sequence, sm) = session.hear_submit().await;
        assert_eq!(number(&sm), expected);
        if expected != 2 {
            session.take(sequence, &format!("part-{expected}")).await;
        }
    }
    let message = rig.wait_for(&id, "submit_unknown").await;
    assert_eq!(message["duplicate_risk"], true);
    let (sequence, sm) = session.hear_submit().await;
    assert_eq!(number(&sm), 2);
    session.take(sequence, "part-2").await;
    let message = rig.wait_for(&id, "enroute").await;
    let taken: Vec<&str> = message["receipts"]
        .as_array()
        .expect("segments")
        .iter()
        .filter_map(|r| r["carrier_message_id"].as_str())
        .collect();
    assert_eq!(taken, ["part-1", "part-2", "part-3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overdue_receipt_is_asked_for() {
    let smsc = Smsc::listen().await;
    let extra = "supports = [\"query\"]\nquery_after_seconds = 1";
    let rig = rig(&smsc.address(), extra).await;
    let (mut session, _) = smsc.bound().await;
    let id = rig.submit(sms(HANDSET, "hello")).await;
    let (sequence, _) = session.hear_submit().await;
    session.take(sequence, "q-1").await;
    // Not done yet the first time, done the second.
    for state in [MessageState::Enroute, MessageState::Delivered] {
        let command = session.hear_request().await;
        let Some(Pdu::QuerySm(query)) = command.pdu() else {
            panic!("{command:?}");
        };
        assert_eq!(query.message_id.as_str(), "q-1");
        assert_eq!(query.source_addr.as_str(), "60777");
        let id = COctetString::from_string("q-1".to_owned()).expect("a message_id");
        let resp = QuerySmResp::new(id, EmptyOrFullCOctetString::empty(), state, 0);
        session
            .say(CommandStatus::EsmeRok, command.sequence_number, resp)
            .await;
    }
    rig.wait_for(&id, "delivered").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_carrier_has_is_called_back_where_it_can_be() {
    let smsc = Smsc::listen().await;
    let rig = rig(&smsc.address(), "supports = [\"cancel\"]").await;
    let (mut session, _) = smsc.bound().await;
    for (status, code) in [
        (CommandStatus::EsmeRcancelfail, 409),
        (CommandStatus::EsmeRok, 200),
    ] {
        let id = rig.submit(sms(HANDSET, "hello")).await;
        let (sequence, _) = session.hear_submit().await;
        session.take(sequence, "c-1").await;
        rig.wait_for(&id, "enroute").await;
        let path = format!("/v1/messages/{id}/cancel");
        let canceling = rig.call("POST", &path, None);
        let answering = async {
            let command = session.hear_request().await;
            let Some(Pdu::CancelSm(cancel)) = command.pdu() else {
                panic!("{command:?}");
            };
            assert_eq!(cancel.message_id.as_str(), "c-1");
            assert_eq!(cancel.source_addr.as_str(), "60777");
            assert_eq!(cancel.destination_addr.as_str(), "447700900123");
            session
                .say(status, command.sequence_number, Pdu::CancelSmResp)
                .await;
        };
        let ((got, answer), ()) = tokio::join!(canceling, answering);
        assert_eq!(got, code, "{answer}");
        let expected = if code == 200 { "canceled" } else { "enroute" };
        assert_eq!(rig.message(&id).await["status"], expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_fail_over_to_another_host_and_messages_with_them() {
    let (first, second) = (Smsc::listen().await, Smsc::listen().await);
    let addresses = format!(
        "addresses = [\"{}\", \"{}\"]",
        first.address(),
        second.address()
    );
    let rig = rig("", &addresses).await;
    let (session, _) = first.bound().await;
    drop(session);
    drop(first);
    let (mut session, _) = second.bound().await;
    let id = rig.submit(sms(HANDSET, "hello")).await;
    let (sequence, _) = session.hear_submit().await;
    session.take(sequence, "2").await;
    rig.wait_for(&id, "enroute").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_that_comes_to_us_is_bound_on_its_own_connection() {
    let listen = free_address().await;
    let extra = format!(
        "outbind = {{ listen = \"{listen}\", system_id = \"smsc\", password = \"literal:knock\", bind = \"transceiver\" }}"
    );
    let rig = rig("", &extra).await;
    let text = |t: &str| t.to_owned();
    let outbind = |password: &str| {
        Outbind::new(
            COctetString::from_string(text("smsc")).expect("a system_id"),
            COctetString::from_string(text(password)).expect("a password"),
        )
    };
    let mut stranger = Session::connect(&listen).await;
    stranger
        .say(CommandStatus::EsmeRok, 1, outbind("guess"))
        .await;
    assert!(stranger.hear().await.is_none(), "a stranger was bound to");
    let mut session = Session::connect(&listen).await;
    session
        .say(CommandStatus::EsmeRok, 1, outbind("knock"))
        .await;
    let bind = session.hear().await.expect("a bind");
    assert_eq!(bind.id(), CommandId::BindTransceiver);
    session.accept(&bind).await;
    let id = rig.submit(sms(HANDSET, "hello")).await;
    let (sequence, _) = session.hear_submit().await;
    session.take(sequence, "o-1").await;
    rig.wait_for(&id, "enroute").await;
}

/// Hears a replace_sm and answers it.
async fn replaced_by(session: &mut Session, status: CommandStatus) -> rusmpp::pdus::ReplaceSm {
    let command = session.hear_request().await;
    let Some(Pdu::ReplaceSm(replace)) = command.pdu() else {
        panic!("no replace_sm but {command:?}");
    };
    let replace = replace.clone();
    let sequence = command.sequence_number;
    session.say(status, sequence, Pdu::ReplaceSmResp).await;
    replace
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_carrier_has_is_replaced_there_where_it_can_be() {
    use heliograph::smpp::pdu::{Body, ReplaceSm, Sm};
    use heliograph_tests::esme::{Esme, Mode};
    let (smsc, door) = (Smsc::listen().await, free_address().await);
    let rig = Rig::start(Plan {
        simulators: Vec::new(),
        carriers: vec![CarrierSpec {
            id: "scripted".to_owned(),
            address: smsc.address(),
            extra: "supports = [\"replace\"]".to_owned(),
        }],
        policy: r#"
            [[plugin]]
            name = "words"
            path = "{plugins}/content-filter.wasm"
            config = { rules = [{ name = "house", kind = "words", words = ["casino"], action = "refuse" }] }
        "#
        .to_owned(),
        config_extra: format!("[smpp]\nlisten = \"{door}\"\n"),
        account_extra: "[[accounts.smpp]]\nsystem_id = \"app\"\npassword = \"literal:secret\"\n"
            .to_owned(),
        ..Plan::default()
    })
    .await;
    let (mut session, _) = smsc.bound().await;
    let id = rig.submit(sms(HANDSET, "before")).await;
    let (sequence, _) = session.hear_submit().await;
    session.take(sequence, "r-1").await;
    rig.wait_for(&id, "enroute").await;
    let path = format!("/v1/messages/{id}/replace");
    let wanted = json!({ "text": "after", "validity_seconds": 3_600 });
    let (replace, replaced) = tokio::join!(
        replaced_by(&mut session, CommandStatus::EsmeRok),
        rig.call("POST", &path, Some(wanted))
    );
    assert_eq!(replaced.0, 200, "{}", replaced.1);
    assert_eq!(replace.message_id.as_str(), "r-1");
    assert_eq!(replace.short_message().as_ref(), b"after");
    assert_eq!(u8::from(replace.registered_delivery), 1);
    assert_eq!(replace.validity_period.as_str().len(), 16);
    assert_eq!(replace.schedule_delivery_time.as_str(), "");
    let message = rig.message(&id).await;
    assert_eq!(
        (&message["text"], &message["status"]),
        (&json!("after"), &json!("enroute"))
    );
    assert!(
        message.to_string().contains("replaced at its carrier"),
        "{message:#}"
    );

    // What cannot be: another data_coding, several parts, what policy forbids, nothing at all.
    for (text, status, why) in [
        ("\u{43f}\u{440}", 409, "another data_coding"),
        (&*"x".repeat(161), 409, "several parts"),
        ("a casino", 422, "casino"),
    ] {
        let (code, problem) = rig.call("POST", &path, Some(json!({ "text": text }))).await;
        assert_eq!(code, status, "{problem}");
        if status == 409 {
            assert!(problem["detail"].to_string().contains(why), "{problem}");
        }
    }
    assert_eq!(rig.call("POST", &path, Some(json!({}))).await.0, 400);
    let (_, problem) = tokio::join!(
        replaced_by(&mut session, CommandStatus::EsmeRreplacefail),
        rig.call("POST", &path, Some(json!({ "text": "again" })))
    );
    assert_eq!(problem.0, 409);
    assert!(
        problem.1["detail"].to_string().contains("0x00000013"),
        "{}",
        problem.1
    );
    assert_eq!(rig.message(&id).await["text"], "after");

    // The same for an application.
    let mut app = Esme::bound(&door, Mode::Transceiver, "app").await;
    let sm = Sm {
        source_addr_ton: 5,
        source_addr: b"Acme",
        dest_addr_ton: 1,
        dest_addr_npi: 1,
        destination_addr: b"447700900123",
        short_message: b"first",
        ..Sm::default()
    };
    let message_id = app.submit(&sm).await;
    let (sequence, _) = session.hear_submit().await;
    session.take(sequence, "r-2").await;
    rig.wait_for(&message_id, "enroute").await;
    for (status, text) in [
        (CommandStatus::EsmeRok, &b"second"[..]),
        (CommandStatus::EsmeRreplacefail, b"third"),
    ] {
        let replace = Body::ReplaceSm(ReplaceSm {
            message_id: message_id.as_bytes(),
            source_addr_ton: 5,
            source_addr: b"Acme",
            registered_delivery: 1,
            short_message: text,
            ..ReplaceSm::default()
        });
        let smsc = replaced_by(&mut session, status);
        let (replaced, response) = tokio::join!(smsc, app.ask(&replace));
        assert_eq!(replaced.message_id.as_str(), "r-2");
        assert_eq!(replaced.short_message().as_ref(), text);
        assert_eq!(response.status, status);
    }
    assert_eq!(rig.message(&message_id).await["text"], "second");
}
