//! Customers' ESMEs against the real server: binds, submissions, what becomes of them, and deliveries
//! that wait for a client that is away. Answers are read by a codec that is not ours.

use std::time::Duration;

use heliograph::carrier::simulator::{Mo, Settings};
use heliograph::smpp::pdu::{Body, CancelSm, DataSm, QuerySm, ReplaceSm, Sm, TlvBuf, command_id};
use heliograph_tests::esme::{Esme, Mode, encoded, message_id};
use heliograph_tests::{Plan, Rig, eventually, free_address};
use rusmpp::pdus::DeliverSm;
use rusmpp::tlvs::TlvTag;
use rusmpp::values::MessageState;
use rusmpp::{CommandId, CommandStatus, Pdu};
use serde_json::{Value, json};

const HANDSET: &[u8] = b"447700900123";

/// A server with one application, `app`, whose section has `extra`.
async fn served(extra: &str, change: impl FnOnce(&mut Plan)) -> (Rig, String) {
    let address = free_address().await;
    let mut plan = Plan {
        config_extra: format!("[smpp]\nlisten = \"{address}\"\n"),
        account_extra: format!(
            "[[accounts.smpp]]\nsystem_id = \"app\"\npassword = \"literal:secret\"\n{extra}\n"
        ),
        ..Plan::default()
    };
    change(&mut plan);
    (Rig::start(plan).await, address)
}

/// Settings with one rule of the simulator's grammar.
fn ruled(rule: &str) -> Settings {
    Settings {
        rules: vec![rule.parse().expect("a rule")],
        ..Settings::default()
    }
}

fn sm<'a>(text: &'a str) -> Sm<'a> {
    Sm {
        source_addr_ton: 5,
        source_addr: b"Acme",
        dest_addr_ton: 1,
        dest_addr_npi: 1,
        destination_addr: HANDSET,
        registered_delivery: 1,
        short_message: text.as_bytes(),
        ..Sm::default()
    }
}

fn text_of(sm: &DeliverSm) -> String {
    String::from_utf8(sm.short_message().as_ref().to_vec()).expect("ASCII")
}

fn has_tag(sm: &DeliverSm, tag: TlvTag) -> bool {
    sm.tlvs().iter().any(|t| t.tag() == tag)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_is_durable_delivered_and_reported() {
    let (rig, address) = served("", |_| {}).await;
    let mut esme = Esme::bound(&address, Mode::Transceiver, "app").await;
    let id = esme.submit(&sm("Your parcel arrives today.")).await;
    assert_eq!(id.len(), 32);
    let receipt = esme.delivery(CommandStatus::EsmeRok).await;
    let text = text_of(&receipt);
    assert!(
        text.starts_with(&format!("id:{id} sub:001 dlvrd:001 submit date:")),
        "{text}"
    );
    assert!(
        text.contains(" stat:DELIVRD err:000 text:Your parcel arrives "),
        "{text}"
    );
    assert_eq!(u8::from(receipt.esm_class), 0x04);
    assert_eq!(receipt.source_addr.as_str(), "447700900123");
    assert_eq!(receipt.destination_addr.as_str(), "Acme");
    assert!(has_tag(&receipt, TlvTag::ReceiptedMessageId));
    assert!(has_tag(&receipt, TlvTag::MessageState));
    let message = rig.wait_for(&id, "delivered").await;
    assert_eq!(message["text"], "Your parcel arrives today.");
    assert_eq!(message["from"], "Acme");
    esme.unbind().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_sent_only_where_they_are_asked_for() {
    let (rig, address) = served("", |plan| {
        plan.simulators = vec![ruled("447700900123=UNDELIV:027")];
    })
    .await;
    let mut esme = Esme::bound(&address, Mode::Transceiver, "app").await;
    for (registered_delivery, text) in [(0, "never"), (3, "on success"), (2, "on failure")] {
        let sm = Sm {
            registered_delivery,
            ..sm(text)
        };
        let id = esme.submit(&sm).await;
        rig.wait_for(&id, "undeliverable").await;
    }
    // Of the three only the last one's is owed.
    let receipt = esme.delivery(CommandStatus::EsmeRok).await;
    let text = text_of(&receipt);
    assert!(text.contains("stat:UNDELIV"), "{text}");
    assert!(text.ends_with("text:on failure"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intermediate_notification_comes_before_the_receipt() {
    let (_rig, address) = served("", |_| {}).await;
    let mut esme = Esme::bound(&address, Mode::Transceiver, "app").await;
    let asked = Sm {
        registered_delivery: 0x11,
        ..sm("hello")
    };
    esme.submit(&asked).await;
    let first = esme.delivery(CommandStatus::EsmeRok).await;
    let last = esme.delivery(CommandStatus::EsmeRok).await;
    assert_eq!(u8::from(first.esm_class), 0x20);
    assert!(text_of(&first).contains("stat:ENROUTE"));
    assert_eq!(u8::from(last.esm_class), 0x04);
    assert!(text_of(&last).contains("stat:DELIVRD"));
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_wait_for_a_client_that_is_away_and_outlive_kill_9() {
    let (mut rig, address) = served("", |_| {}).await;
    let mut esme = Esme::bound(&address, Mode::Transmitter, "app").await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(esme.submit(&sm(&format!("message {n}"))).await);
    }
    esme.unbind().await;
    rig.wait_for_all(&ids, "delivered").await;
    rig.kill().await;
    rig.launch().await;
    // A transmitter is told nothing; the receiver gets all of it, in order, and once.
    let mut receiver = Esme::bound(&address, Mode::Receiver, "app").await;
    let mut told = Vec::new();
    for _ in 0..ids.len() {
        let receipt = receiver.delivery(CommandStatus::EsmeRok).await;
        let text = text_of(&receipt);
        told.push(text[3..35].to_owned());
    }
    let mut sorted = told.clone();
    sorted.sort();
    ids.sort();
    assert_eq!(sorted, ids, "each once");
    receiver.unbind().await;
    // What was answered is settled: it does not come again.
    let mut receiver = Esme::bound(&address, Mode::Receiver, "app").await;
    let quiet = tokio::time::timeout(Duration::from_millis(500), receiver.unanswered_delivery());
    assert!(quiet.await.is_err(), "a receipt came twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_is_not_taken_comes_again_and_one_refused_for_good_is_a_dead_letter() {
    let (rig, address) = served("", |_| {}).await;
    let mut esme = Esme::bound(&address, Mode::Transceiver, "app").await;
    esme.submit(&sm("again")).await;
    let first = esme.delivery(CommandStatus::EsmeRxTAppn).await;
    let second = esme.delivery(CommandStatus::EsmeRok).await;
    assert_eq!(text_of(&first), text_of(&second));
    esme.submit(&sm("never")).await;
    esme.delivery(CommandStatus::EsmeRxPAppn).await;
    let dead = eventually("the dead letter", async || {
        rig.items("/v1/webhooks/dead").await.pop()
    })
    .await;
    assert_eq!(dead["url"], "smpp:app");
    assert_eq!(dead["type"], "message.delivered");
    // Delivered again on request.
    let path = format!(
        "/v1/webhooks/{}/redeliver",
        dead["id"].as_str().expect("an id")
    );
    assert_eq!(rig.admin("POST", &path, None).await.0, 202);
    let again = esme.delivery(CommandStatus::EsmeRok).await;
    assert!(text_of(&again).ends_with("text:never"));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_the_status_that_fits() {
    let (rig, address) = served("originators = [\"Acme\"]", |_| {}).await;
    let mut esme = Esme::bound(&address, Mode::Transceiver, "app").await;
    let wish = json!({ "recipient": "+447700900199", "scope": "everything" });
    assert_eq!(rig.admin("PUT", "/v1/opt-outs", Some(wish)).await.0, 200);
    let cases = [
        (
            Sm {
                destination_addr: b"12",
                ..sm("x")
            },
            CommandStatus::EsmeRinvdstadr,
        ),
        (
            Sm {
                source_addr: b"Other",
                ..sm("x")
            },
            CommandStatus::EsmeRinvsrcadr,
        ),
        (
            Sm {
                schedule_delivery_time: b"tomorrow, maybe!",
                ..sm("x")
            },
            CommandStatus::EsmeRinvsched,
        ),
        (
            Sm {
                esm_class: 0x40,
                short_message: b"\x7fno header",
                ..sm("x")
            },
            CommandStatus::EsmeRinvesmclass,
        ),
        (
            Sm {
                destination_addr: b"447700900199",
                ..sm("x")
            },
            CommandStatus::EsmeRprohibited,
        ),
    ];
    for (sm, expect) in cases {
        assert_eq!(esme.refused(&sm).await, expect, "{sm:?}");
    }
    esme.submit(&sm("still here")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_lock_their_own_address_alone() {
    let (rig, address) = served("", |_| {}).await;
    let elsewhere = [127, 0, 0, 2];
    for _ in 0..5 {
        let mut esme = Esme::connect_from(&address, elsewhere).await;
        let status = esme.bind(Mode::Transceiver, "app", "wrong").await;
        assert_eq!(status, CommandStatus::EsmeRbindfail);
    }
    let mut locked = Esme::connect_from(&address, elsewhere).await;
    let status = locked.bind(Mode::Transceiver, "app", "secret").await;
    assert_eq!(
        status,
        CommandStatus::EsmeRbindfail,
        "a lock looks like a wrong password"
    );
    let mut unknown = Esme::connect(&address).await;
    let status = unknown.bind(Mode::Transceiver, "nobody", "secret").await;
    assert_eq!(
        status,
        CommandStatus::EsmeRbindfail,
        "and so does an unknown name"
    );
    Esme::bound(&address, Mode::Transceiver, "app").await;
    let events = rig.items("/v1/events?format=json").await;
    assert!(
        events
            .iter()
            .any(|e| e["type"] == "esme.locked_out" && e["subject"] == "app"),
        "{events:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_application_may_not_is_refused_at_the_bind() {
    let extra = "bind = [\"transmitter\"]\nmax_binds = 1\nallowed_ips = [\"127.0.0.1\"]";
    let (_rig, address) = served(extra, |_| {}).await;
    let bind = async |mode| {
        let mut esme = Esme::connect(&address).await;
        let status = esme.bind(mode, "app", "secret").await;
        (esme, status)
    };
    assert_eq!(bind(Mode::Receiver).await.1, CommandStatus::EsmeRinvbndsts);
    let mut away = Esme::connect_from(&address, [127, 0, 0, 3]).await;
    let status = away.bind(Mode::Transmitter, "app", "secret").await;
    assert_eq!(status, CommandStatus::EsmeRbindfail);
    let (first, status) = bind(Mode::Transmitter).await;
    assert_eq!(status, CommandStatus::EsmeRok);
    assert_eq!(bind(Mode::Transmitter).await.1, CommandStatus::EsmeRalybnd);
    first.unbind().await;
    eventually("its place is free again", async || {
        let (_esme, status) = bind(Mode::Transmitter).await;
        (status == CommandStatus::EsmeRok).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_window_waits_its_turn() {
    let (rig, address) = served("window = 5", |_| {}).await;
    let mut esme = Esme::bound(&address, Mode::Transceiver, "app").await;
    const COUNT: u32 = 500;
    let mut all = Vec::new();
    for n in 0..COUNT {
        let text = format!("burst {n}");
        let quiet = Sm {
            registered_delivery: 0,
            ..sm(&text)
        };
        all.extend(encoded(1_000 + n, &Body::SubmitSm(quiet)));
    }
    esme.write(&all).await;
    let mut ids = Vec::new();
    for _ in 0..COUNT {
        let answer = esme.response().await;
        assert_eq!(answer.status, CommandStatus::EsmeRok);
        ids.push(message_id(&answer));
    }
    rig.wait_for_all(&ids[..10], "delivered").await;
    eventually("the carrier has all of them", async || {
        (rig.taken(0).len() == COUNT as usize).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_throughput_is_throttled() {
    let (_rig, address) = served("throughput = 10", |_| {}).await;
    let mut esme = Esme::bound(&address, Mode::Transmitter, "app").await;
    let mut answers = Vec::new();
    for _ in 0..30 {
        answers.push(esme.refused(&sm("fast")).await);
    }
    let throttled = answers
        .iter()
        .filter(|s| **s == CommandStatus::EsmeRthrottled);
    assert!(throttled.count() >= 15, "{answers:?}");
    assert_eq!(answers[0], CommandStatus::EsmeRok);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_is_one_message() {
    let (rig, address) = served("idempotency_tag = 0x1400", |_| {}).await;
    let mut esme = Esme::bound(&address, Mode::Transmitter, "app").await;
    let mut tlvs = TlvBuf::new();
    tlvs.push(0x1400, b"order-17").expect("a parameter");
    let keyed = |text| Sm {
        tlvs: tlvs.as_tlvs(),
        ..sm(text)
    };
    let first = esme.submit(&keyed("once")).await;
    assert_eq!(esme.submit(&keyed("once")).await, first);
    let other = esme.refused(&keyed("something else")).await;
    assert_eq!(other, CommandStatus::EsmeRinvtlvval);
    rig.wait_for(&first, "delivered").await;
    assert_eq!(rig.taken(0).len(), 1);
}

/// A submission for tomorrow, so that it can be changed.
fn tomorrow(text: &str) -> Sm<'_> {
    Sm {
        schedule_delivery_time: b"000001000000000R",
        ..sm(text)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_asked_for_replaced_and_taken_back() {
    let (rig, address) = served("", |_| {}).await;
    let mut esme = Esme::bound(&address, Mode::Transceiver, "app").await;
    let id = esme.submit(&tomorrow("first words")).await;
    let query = |id: &'static str| QuerySm {
        message_id: id.as_bytes(),
        source_addr_ton: 5,
        source_addr_npi: 0,
        source_addr: b"Acme",
    };
    let id: &'static str = Box::leak(id.into_boxed_str());
    let state = async |esme: &mut Esme| match esme.ask(&Body::QuerySm(query(id))).await.pdu() {
        Some(Pdu::QuerySmResp(resp)) => (resp.message_state, resp.final_date.as_str().to_owned()),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        state(&mut esme).await,
        (MessageState::Enroute, String::new())
    );

    let replace = ReplaceSm {
        message_id: id.as_bytes(),
        source_addr_ton: 5,
        source_addr: b"Acme",
        registered_delivery: 1,
        short_message: b"other words",
        ..ReplaceSm::default()
    };
    let answer = esme.ask(&Body::ReplaceSm(replace)).await;
    assert_eq!(answer.status, CommandStatus::EsmeRok);
    eventually("the new text is decided", async || {
        let message = rig.message(id).await;
        (message["text"] == "other words" && message["status"] == "scheduled").then_some(())
    })
    .await;

    let stranger = CancelSm {
        message_id: id.as_bytes(),
        source_addr_ton: 5,
        source_addr: b"Other",
        ..CancelSm::default()
    };
    let answer = esme.ask(&Body::CancelSm(stranger)).await;
    assert_eq!(
        answer.status,
        CommandStatus::EsmeRinvmsgid,
        "not its source"
    );
    let cancel = CancelSm {
        source_addr: b"Acme",
        ..stranger
    };
    assert_eq!(
        esme.ask(&Body::CancelSm(cancel)).await.status,
        CommandStatus::EsmeRok
    );
    let (ended, at) = state(&mut esme).await;
    assert_eq!((ended, at.len()), (MessageState::Deleted, 16));
    let receipt = esme.delivery(CommandStatus::EsmeRok).await;
    assert!(text_of(&receipt).contains("stat:DELETED"));
    let answer = esme.ask(&Body::ReplaceSm(replace)).await;
    assert_eq!(answer.status, CommandStatus::EsmeRreplacefail);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_between_two_addresses_is_taken_back_at_once() {
    let (rig, address) = served("", |_| {}).await;
    let mut esme = Esme::bound(&address, Mode::Transmitter, "app").await;
    let mut ids = Vec::new();
    for text in ["one", "two"] {
        ids.push(esme.submit(&tomorrow(text)).await);
    }
    let other = Sm {
        source_addr: b"Other",
        ..tomorrow("three")
    };
    let kept = esme.submit(&other).await;
    let cancel = CancelSm {
        source_addr_ton: 5,
        source_addr: b"Acme",
        dest_addr_ton: 1,
        dest_addr_npi: 1,
        destination_addr: HANDSET,
        ..CancelSm::default()
    };
    assert_eq!(
        esme.ask(&Body::CancelSm(cancel)).await.status,
        CommandStatus::EsmeRok
    );
    rig.wait_for_all(&ids, "canceled").await;
    assert_eq!(rig.message(&kept).await["status"], "scheduled");
    assert_eq!(
        esme.ask(&Body::CancelSm(cancel)).await.status,
        CommandStatus::EsmeRcancelfail,
        "nothing is left"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_replaces_the_one_before_it() {
    let (rig, address) = served("", |_| {}).await;
    let mut esme = Esme::bound(&address, Mode::Transmitter, "app").await;
    let old = esme.submit(&tomorrow("your balance is 5")).await;
    let new = Sm {
        replace_if_present_flag: 1,
        ..tomorrow("your balance is 6")
    };
    let new = esme.submit(&new).await;
    rig.wait_for(&old, "canceled").await;
    assert_eq!(rig.message(&new).await["status"], "scheduled");
}

/// A submit_multi of `text` to numbers and lists.
fn multi(text: &str, numbers: &[&str], lists: &[&str]) -> Vec<u8> {
    let mut body = b"\0\x05\x00Acme\0".to_vec();
    body.push((numbers.len() + lists.len()) as u8);
    for number in numbers {
        body.extend_from_slice(b"\x01\x01\x01");
        body.extend_from_slice(number.as_bytes());
        body.push(0);
    }
    for list in lists {
        body.push(2);
        body.extend_from_slice(list.as_bytes());
        body.push(0);
    }
    // esm_class to sm_default_msg_id, a receipt asked for.
    body.extend_from_slice(b"\0\0\0\0\0\x01\0\0\0");
    body.push(text.len() as u8);
    body.extend_from_slice(text.as_bytes());
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_goes_to_many_and_each_is_reported_under_one_id() {
    let extra = "[accounts.smpp.lists]\nteam = [\"+447700900124\", \"+447700900125\"]";
    let (rig, address) = served(extra, |_| {}).await;
    let mut esme = Esme::bound(&address, Mode::Transceiver, "app").await;
    let body = multi("to all", &["447700900123", "12"], &["team"]);
    let answer = esme
        .ask(&Body::Other {
            command_id: command_id::SUBMIT_MULTI,
            octets: &body,
        })
        .await;
    assert_eq!(answer.status, CommandStatus::EsmeRok);
    let Some(Pdu::SubmitMultiResp(resp)) = answer.pdu() else {
        panic!("{answer:?}");
    };
    assert_eq!(resp.no_unsuccess(), 1);
    let failed = &resp.unsuccess_sme()[0];
    assert_eq!(failed.destination_addr.as_str(), "12");
    assert_eq!(failed.error_status_code, CommandStatus::EsmeRinvdstadr);
    let id = resp.message_id.as_str().to_owned();
    let mut from = Vec::new();
    for _ in 0..3 {
        let receipt = esme.delivery(CommandStatus::EsmeRok).await;
        assert!(text_of(&receipt).starts_with(&format!("id:{id} ")));
        from.push(receipt.source_addr.as_str().to_owned());
    }
    from.sort();
    assert_eq!(from, ["447700900123", "447700900124", "447700900125"]);
    assert_eq!(rig.taken(0).len(), 3);
    let body = multi("to nobody", &[], &["nobody"]);
    let answer = esme
        .ask(&Body::Other {
            command_id: command_id::SUBMIT_MULTI,
            octets: &body,
        })
        .await;
    assert_eq!(answer.id(), CommandId::SubmitMultiResp);
    assert_eq!(answer.status, CommandStatus::EsmeRinvdlname);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_a_client_cut_reach_the_carrier_as_they_are() {
    let (rig, address) = served("", |_| {}).await;
    let mut esme = Esme::bound(&address, Mode::Transceiver, "app").await;
    // A surrogate pair cut in two, as clients do.
    let octets: Vec<u8> = "a😀b".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let parts = [
        [&[5, 0, 3, 0x77, 2, 1], &octets[..4]].concat(),
        [&[5, 0, 3, 0x77, 2, 2], &octets[4..]].concat(),
    ];
    let mut ids = Vec::new();
    for part in &parts {
        let part = Sm {
            esm_class: 0x40,
            data_coding: 8,
            short_message: part,
            ..sm("")
        };
        ids.push(esme.submit(&part).await);
    }
    assert_ne!(ids[0], ids[1]);
    rig.wait_for_all(&ids, "delivered").await;
    let mut told = Vec::new();
    for _ in 0..2 {
        told.push(text_of(&esme.delivery(CommandStatus::EsmeRok).await)[3..35].to_owned());
    }
    told.sort();
    ids.sort();
    assert_eq!(told, ids, "each part has its receipt");
    let taken = rig.taken(0);
    let mut sent: Vec<_> = taken.iter().map(|r| r.short_message.clone()).collect();
    sent.sort();
    let hexadecimal = |part: &Vec<u8>| part.iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(sent, parts.iter().map(hexadecimal).collect::<Vec<_>>());
    assert!(
        taken
            .iter()
            .all(|r| r.data_coding == 8 && r.esm_class == 0x40)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_sm_is_a_submission_and_its_refusal_says_why() {
    let (rig, address) = served("", |_| {}).await;
    let mut esme = Esme::bound(&address, Mode::Transceiver, "app").await;
    let mut tlvs = TlvBuf::new();
    tlvs.push(0x0424, b"payload").expect("a parameter");
    let data = DataSm {
        source_addr_ton: 5,
        source_addr: b"Acme",
        dest_addr_ton: 1,
        dest_addr_npi: 1,
        destination_addr: HANDSET,
        tlvs: tlvs.as_tlvs(),
        ..DataSm::default()
    };
    let answer = esme.ask(&Body::DataSm(data)).await;
    assert_eq!(answer.status, CommandStatus::EsmeRok);
    let message = rig.wait_for(&message_id(&answer), "delivered").await;
    assert_eq!(message["text"], "payload");
    let bad = DataSm {
        destination_addr: b"1",
        ..data
    };
    let answer = esme.ask(&Body::DataSm(bad)).await;
    assert_eq!(answer.status, CommandStatus::EsmeRinvdstadr);
    let Some(Pdu::DataSmResp(resp)) = answer.pdu() else {
        panic!("{answer:?}");
    };
    assert_eq!(resp.tlvs()[0].tag(), TlvTag::AdditionalStatusInfoText);
}

#[tokio::test(flavor = "multi_thread")]
async fn forward_mode_answers_with_what_the_carrier_said() {
    let patient = "forward_seconds = 60";
    let (rig, address) = served(patient, |_| {}).await;
    let mut esme = Esme::bound(&address, Mode::Transmitter, "app").await;
    let forward = Sm {
        esm_class: 2,
        ..sm("now")
    };
    let id = esme.submit(&forward).await;
    let status = rig.message(&id).await["status"].clone();
    assert!(status == "enroute" || status == "delivered", "{status}");
    let (_rig, address) = served(patient, |plan| {
        plan.simulators = vec![ruled("447700900123=0x0B")];
    })
    .await;
    let mut esme = Esme::bound(&address, Mode::Transmitter, "app").await;
    let refused = esme.refused(&forward).await;
    assert_eq!(refused, CommandStatus::EsmeRdeliveryfailure);
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_from_handsets_reach_the_application_whole() {
    let (rig, address) = served("inbound = true", |_| {}).await;
    let mo = |text: &str| Mo {
        from: "447700900123".to_owned(),
        to: "60777".to_owned(),
        text: text.to_owned(),
        ..Mo::default()
    };
    // While nobody is bound it waits.
    rig.text_in(&mo("hello")).await;
    eventually("it is stored", async || {
        rig.items("/v1/inbound").await.pop()
    })
    .await;
    let mut esme = Esme::bound(&address, Mode::Receiver, "app").await;
    let first = esme.delivery(CommandStatus::EsmeRok).await;
    assert_eq!(text_of(&first), "hello");
    assert_eq!(u8::from(first.esm_class), 0);
    assert_eq!(first.source_addr.as_str(), "447700900123");
    assert_eq!(first.destination_addr.as_str(), "60777");
    let long: String = ('a'..='z').cycle().take(300).collect();
    rig.text_in(&mo(&long)).await;
    let mut parts = Vec::new();
    for _ in 0..2 {
        let part = esme.delivery(CommandStatus::EsmeRok).await;
        assert_eq!(u8::from(part.esm_class), 0x40);
        parts.push(part.short_message().as_ref().to_vec());
    }
    parts.sort();
    assert_eq!([&parts[0][6..], &parts[1][6..]].concat(), long.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_who_is_bound_and_ends_a_session() {
    let (rig, address) = served("", |_| {}).await;
    let mut esme = Esme::bound(&address, Mode::Transceiver, "app").await;
    esme.submit(&sm("hello")).await;
    let binds = rig.items("/v1/binds").await;
    let [bind]: [Value; 1] = binds.try_into().expect("one session");
    assert_eq!(bind["system_id"], "app");
    assert_eq!(bind["account"], "acme");
    assert_eq!(bind["mode"], "transceiver");
    assert_eq!(
        (&bind["window"], &bind["submitted"]),
        (&json!(100), &json!(1))
    );
    assert_eq!(bind["interface_version"], "3.4");
    let path = format!("/v1/binds/{}", bind["id"]);
    assert_eq!(rig.call("DELETE", &path, None).await.0, 403);
    assert_eq!(rig.admin("DELETE", &path, None).await.0, 202);
    loop {
        let command = esme.response().await;
        if command.id() == CommandId::Unbind {
            let sequence = command.sequence_number;
            esme.session
                .say(CommandStatus::EsmeRok, sequence, Pdu::UnbindResp)
                .await;
            break;
        }
    }
    eventually("it is gone", async || {
        rig.items("/v1/binds").await.is_empty().then_some(())
    })
    .await;
    assert_eq!(rig.admin("DELETE", &path, None).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_unbinds_every_session_politely() {
    let (mut rig, address) = served("", |_| {}).await;
    let mut esme = Esme::bound(&address, Mode::Transceiver, "app").await;
    esme.submit(&sm("hello")).await;
    let client = tokio::spawn(async move {
        loop {
            let command = esme.response().await;
            if command.id() == CommandId::Unbind {
                let sequence = command.sequence_number;
                esme.session
                    .say(CommandStatus::EsmeRok, sequence, Pdu::UnbindResp)
                    .await;
                return esme.session.hear().await.is_none();
            }
        }
    });
    assert!(rig.terminate().await.success());
    assert!(client.await.expect("the client heard unbind"));
}

/// KiB of the server's memory.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.trim().strip_suffix(" kB"));
    kib.and_then(|k| k.trim().parse().ok()).expect("its VmRSS")
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_sessions_are_small() {
    const SESSIONS: usize = 300;
    let (rig, address) = served("max_binds = 1000", |plan| {
        plan.config_extra.push_str("max_unbound_per_ip = 1000\n");
    })
    .await;
    // What the first sessions cost is the server's own.
    let mut bound = vec![Esme::bound(&address, Mode::Transceiver, "app").await];
    bound[0].submit(&sm("warm")).await;
    let pid = rig.pid();
    let before = resident(pid);
    for _ in 0..SESSIONS {
        bound.push(Esme::bound(&address, Mode::Transceiver, "app").await);
    }
    let each = resident(pid).saturating_sub(before) as f64 / SESSIONS as f64;
    assert!(each < 32.0, "{each} KiB an idle session");
}
