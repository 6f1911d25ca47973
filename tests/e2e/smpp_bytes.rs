//! What goes over the wire, judged field by field by a codec that is not ours, and a peer that speaks
//! garbage.

use heliograph_tests::smsc::{Session, Smsc};
use heliograph_tests::{CarrierSpec, Plan, Rig, eventually, sms};
use rusmpp::pdus::{DeliverSm, SubmitSm};
use rusmpp::tlvs::{MessageDeliveryRequestTlvValue, TlvTag};
use rusmpp::types::{COctetString, OctetString};
use rusmpp::values::{DataCoding, EsmClass, InterfaceVersion, MessageState, Npi, Ton};
use rusmpp::{CommandId, CommandStatus, Pdu};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

const HANDSET: &str = "+447700900123";

fn carrier(id: &str, address: String) -> CarrierSpec {
    CarrierSpec {
        id: id.to_owned(),
        address,
        extra: String::new(),
    }
}

/// A server with the independent SMSC as its only carrier, bound.
async fn bound() -> (Rig, Smsc, Session) {
    let smsc = Smsc::listen().await;
    let rig = Rig::start(Plan {
        simulators: Vec::new(),
        carriers: vec![carrier("independent", smsc.address())],
        webhooks: true,
        ..Plan::default()
    })
    .await;
    let (session, bind) = smsc.bound().await;
    assert_eq!(bind.id(), CommandId::BindTransceiver);
    let Some(Pdu::BindTransceiver(bind)) = bind.pdu() else {
        panic!("{bind:?}");
    };
    assert_eq!(bind.system_id.as_str(), "heliograph");
    assert_eq!(bind.password.as_str(), "secret");
    assert_eq!(bind.interface_version, InterfaceVersion::Smpp3_4);
    (rig, smsc, session)
}

fn terminated<const MIN: usize, const MAX: usize>(text: &str) -> COctetString<MIN, MAX> {
    COctetString::from_string(text.to_owned()).expect("a C-octet string")
}

/// What is the same in every submit_sm of these scenarios.
fn assert_common(sm: &SubmitSm) {
    assert_eq!(sm.dest_addr_ton, Ton::International);
    assert_eq!(sm.dest_addr_npi, Npi::Isdn);
    assert_eq!(sm.destination_addr.as_str(), "447700900123");
    assert_eq!(sm.protocol_id, 0);
    assert_eq!(
        u8::from(sm.registered_delivery),
        1,
        "a receipt is asked for"
    );
    assert_eq!(sm.sm_default_msg_id, 0);
    assert_eq!(sm.schedule_delivery_time.as_str(), "");
    assert!(sm.tlvs().iter().all(|t| t.tag() != TlvTag::MessagePayload));
}

/// Submits `body` and takes what comes of it over the wire.
async fn submitted(rig: &Rig, session: &mut Session, body: Value) -> SubmitSm {
    let id = rig.submit(body).await;
    let (sequence, sm) = session.hear_submit().await;
    assert_common(&sm);
    session.take(sequence, &format!("id-{sequence}")).await;
    rig.wait_for(&id, "enroute").await;
    sm
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_gsm_text_is_as_the_specification_has_it() {
    let (rig, _smsc, mut session) = bound().await;
    let mut body = sms(HANDSET, "Fünf @ 5 € {é}");
    body["from"] = json!("Acme");
    body["class"] = json!("otp");
    body["validity_seconds"] = json!(3600);
    let sm = submitted(&rig, &mut session, body).await;
    assert_eq!(
        (sm.source_addr_ton, sm.source_addr_npi),
        (Ton::Alphanumeric, Npi::Unknown)
    );
    assert_eq!(sm.source_addr.as_str(), "Acme");
    assert_eq!((u8::from(sm.esm_class), u8::from(sm.data_coding)), (0, 0));
    // 3GPP TS 23.038, 6.2.1: ü 7E, @ 00, é 05; by the escape 1B: € 65, { 28, } 29.
    let expected = b"F\x7enf \x00 5 \x1b\x65 \x1b\x28\x05\x1b\x29";
    assert_eq!(sm.short_message().as_ref(), expected);
    // SMPP 3.4, 7.1.1: relative, YYMMDDhhmmss000R; an hour, less what has passed.
    let validity = sm.validity_period.as_str();
    assert!(
        ["000000010000000R", "000000005959000R", "000000005958000R"].contains(&validity),
        "{validity}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_ucs2_text_is_as_the_specification_has_it() {
    let (rig, _smsc, mut session) = bound().await;
    let text = "Привет 👋";
    let sm = submitted(&rig, &mut session, sms(HANDSET, text)).await;
    assert_eq!(
        (sm.source_addr_ton, sm.source_addr_npi),
        (Ton::Abbreviated, Npi::Unknown)
    );
    assert_eq!(sm.source_addr.as_str(), "60777");
    assert_eq!(
        (u8::from(sm.esm_class), sm.data_coding),
        (0, DataCoding::Ucs2)
    );
    let expected: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert_eq!(sm.short_message().as_ref(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_octets_with_a_header_and_tlvs_is_as_the_specification_has_it() {
    let (rig, _smsc, mut session) = bound().await;
    let body = json!({
        "to": HANDSET,
        "from": "+447700900999",
        "binary": { "udh": "05040b8423f0", "data": "00ff" },
        "tlvs": [{ "tag": "0x1400", "value": "3132" }],
    });
    let sm = submitted(&rig, &mut session, body).await;
    assert_eq!(
        (sm.source_addr_ton, sm.source_addr_npi),
        (Ton::International, Npi::Isdn)
    );
    assert_eq!(sm.source_addr.as_str(), "447700900999");
    assert_eq!(
        (u8::from(sm.esm_class), u8::from(sm.data_coding)),
        (0x40, 4)
    );
    assert_eq!(
        sm.short_message().as_ref(),
        b"\x06\x05\x04\x0b\x84\x23\xf0\x00\xff"
    );
    let vendor = sm
        .tlvs()
        .iter()
        .find(|t| u16::from(t.tag()) == 0x1400)
        .expect("the client's TLV");
    assert_eq!(vendor.value_length(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_segments_of_a_long_text_are_tied_by_their_headers() {
    let (rig, _smsc, mut session) = bound().await;
    let text: String = ('a'..='z').cycle().take(300).collect();
    rig.submit(sms(HANDSET, &text)).await;
    let mut parts = Vec::new();
    for _ in 0..2 {
        let (sequence, sm) = session.hear_submit().await;
        assert_common(&sm);
        assert_eq!(
            (u8::from(sm.esm_class), u8::from(sm.data_coding)),
            (0x40, 0)
        );
        session.take(sequence, &format!("id-{sequence}")).await;
        parts.push(sm.short_message().as_ref().to_vec());
    }
    parts.sort();
    // 3GPP TS 23.040, 9.2.3.24.1: length 5, concatenation 0, length 3, reference, total, number.
    let reference = parts[0][3];
    assert_eq!(parts[0][..6], [5, 0, 3, reference, 2, 1]);
    assert_eq!(parts[1][..6], [5, 0, 3, reference, 2, 2]);
    assert_eq!([&parts[0][6..], &parts[1][6..]].concat(), text.as_bytes());
    assert_eq!(parts[0].len(), 6 + 153, "the first segment is full");
}

/// A receipt as SMPP 3.4, Appendix B has it, and by its TLVs.
fn receipt(id: &str) -> DeliverSm {
    let text = format!(
        "id:{id} sub:001 dlvrd:001 submit date:2611220900 done date:2611220901 stat:DELIVRD err:000 text:hello"
    );
    DeliverSm::builder()
        .source_addr_ton(Ton::International)
        .source_addr_npi(Npi::Isdn)
        .source_addr(terminated("447700900123"))
        .destination_addr(terminated("60777"))
        .esm_class(EsmClass::from(0x04))
        .short_message(OctetString::from_string(text).expect("a short message"))
        .push_tlv(MessageDeliveryRequestTlvValue::ReceiptedMessageId(
            terminated(id),
        ))
        .push_tlv(MessageDeliveryRequestTlvValue::MessageState(
            MessageState::Delivered,
        ))
        .build()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_of_an_independent_codec_settles_its_message() {
    let (rig, _smsc, mut session) = bound().await;
    let id = rig.submit(sms(HANDSET, "hello")).await;
    let (sequence, _) = session.hear_submit().await;
    session.take(sequence, "A-17").await;
    assert_eq!(
        session.deliver(receipt("A-17")).await,
        CommandStatus::EsmeRok
    );
    let message = rig.wait_for(&id, "delivered").await;
    assert_eq!(message["receipts"][0]["carrier_message_id"], "A-17");
    assert_eq!(
        message["receipts"][0]["done_at"],
        "2026-11-22T09:01:00.000Z"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_from_handsets_of_an_independent_codec_are_read() {
    let (rig, _smsc, mut session) = bound().await;
    let from_handset = |esm_class: u8, coding: DataCoding, octets: &[u8]| {
        DeliverSm::builder()
            .source_addr_ton(Ton::International)
            .source_addr_npi(Npi::Isdn)
            .source_addr(terminated("447700900123"))
            .destination_addr(terminated("60777"))
            .esm_class(EsmClass::from(esm_class))
            .data_coding(coding)
            .short_message(OctetString::from_slice(octets).expect("a short message"))
            .build()
    };
    let ucs2: Vec<u8> = "Grüße 👋"
        .encode_utf16()
        .flat_map(u16::to_be_bytes)
        .collect();
    let cases = [
        (
            vec![from_handset(
                0,
                DataCoding::McSpecific,
                b"5 \x1b\x65 \x00 home",
            )],
            "5 € @ home",
        ),
        (vec![from_handset(0, DataCoding::Ucs2, &ucs2)], "Grüße 👋"),
        (
            vec![
                from_handset(0x40, DataCoding::McSpecific, b"\x05\x00\x03\x09\x02\x02two"),
                from_handset(
                    0x40,
                    DataCoding::McSpecific,
                    b"\x05\x00\x03\x09\x02\x01one ",
                ),
            ],
            "one two",
        ),
    ];
    for (n, (parts, text)) in cases.into_iter().enumerate() {
        for part in parts {
            assert_eq!(session.deliver(part).await, CommandStatus::EsmeRok);
        }
        let hook = eventually("the application is told", async || {
            rig.webhooks.of_type("message.received").into_iter().nth(n)
        })
        .await;
        assert_eq!(hook.json()["data"]["text"], text);
        assert_eq!(hook.json()["data"]["from"], HANDSET);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_that_speaks_garbage_disturbs_nobody_and_is_bound_to_again() {
    let smsc = Smsc::listen().await;
    let mut rig = Rig::start(Plan {
        carriers: vec![carrier("garbage", smsc.address())],
        policy: "default_route = [\"sim0\"]".to_owned(),
        ..Plan::default()
    })
    .await;
    let random: Vec<u8> = (0..4096u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    let garbage: [&[u8]; 7] = [
        &random,
        // command_length of 4 GiB, of 0, of less than a header, of more than any PDU has.
        b"\xff\xff\xff\xff\x00\x00\x00\x15\x00\x00\x00\x00\x00\x00\x00\x01",
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x0f\x00\x00\x00\x15\x00\x00\x00\x00\x00\x00\x01",
        b"\x00\x10\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"",
    ];
    for octets in garbage {
        // Before and after the bind: no connection of the server survives it, and it comes back.
        let mut session = smsc.accept().await;
        session.hear().await.expect("a bind");
        let _ = session.stream.write_all(octets).await;
        drop(session);
        let (mut session, _) = smsc.bound().await;
        let _ = session.stream.write_all(octets).await;
        drop(session);
        let id = rig.submit(sms(HANDSET, "hello")).await;
        let message = rig.wait_for(&id, "delivered").await;
        assert_eq!(message["receipts"][0]["carrier"], "sim0");
    }
    assert!(rig.is_running());
    assert_eq!(
        rig.simulators[0].counters().binds,
        1,
        "the good carrier was disturbed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_what_was_never_asked_and_truncated_bodies_leave_the_session_usable() {
    let (rig, _smsc, mut session) = bound().await;
    // A submit_sm_resp to nobody, and a deliver_sm whose body ends in the middle of a field.
    session.take(4711, "nobody").await;
    let truncated = b"\x00\x00\x00\x14\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x63CMT\x00";
    session.stream.write_all(truncated).await.expect("written");
    let refused = session.hear_request().await;
    assert_eq!(refused.sequence_number, 0x63);
    assert_ne!(refused.status, CommandStatus::EsmeRok, "{refused:?}");
    let sm = submitted(&rig, &mut session, sms(HANDSET, "hello")).await;
    assert_eq!(sm.short_message().as_ref(), b"hello");
}
