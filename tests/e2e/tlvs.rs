//! Every optional parameter of SMPP 3.4 (5.3.2), octet by octet: from a client over HTTP and from an
//! application's submit_sm to the carrier's submit_sm, and in what a carrier sends of itself. The table
//! is the specification's, written by hand; frames are searched as they came.

use heliograph::smpp::pdu::{Sm, TlvBuf};
use heliograph_tests::esme::{Esme, Mode};
use heliograph_tests::smsc::{Session, Smsc};
use heliograph_tests::{CarrierSpec, Plan, Rig, free_address, sms};
use rusmpp::CommandStatus;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HANDSET: &str = "+447700900123";

/// Tag and a value of the length that the specification has for it. Without those that say how a text
/// is cut or where it stands, which are ours to write, and those of receipts and responses.
const PARAMETERS: [(u16, &[u8]); 34] = [
    (0x0005, &[1]),
    (0x0006, &[1]),
    (0x0007, &[1]),
    (0x0008, &[0, 8]),
    (0x000D, &[2]),
    (0x000E, &[4]),
    (0x000F, &[6]),
    (0x0010, &[8]),
    (0x0017, &[0, 0, 14, 16]),
    (0x0019, &[1]),
    (0x0030, &[0x81]),
    (0x0201, &[3]),
    (0x0202, &[0x80, 1, 2]),
    (0x0203, &[0xA0, 3, 4]),
    (0x0204, &[0xBE, 0xEF]),
    (0x0205, &[0x55]),
    (0x020A, &[0x23, 0xF0]),
    (0x020B, &[0x0B, 0x84]),
    (0x020D, &[2]),
    (0x0302, &[0x0C]),
    (0x0303, &[4, b'A', b'b']),
    (0x0304, &[99]),
    (0x0381, &[1, 1, 1, b'4', b'2']),
    (0x0421, &[0]),
    (0x0426, &[1]),
    (0x0501, &[16]),
    (0x1201, &[2]),
    (0x1203, &[0xAB, 0xCD]),
    (0x1204, &[3]),
    (0x130C, &[]),
    (0x1380, &[5]),
    (0x1383, &[7, 0x21]),
    (0x1400, b"entity"),
    (0x3FFF, &[0, 1, 2, 3]),
];
/// Read here and not sent on where an application sends it.
const QOS_TIME_TO_LIVE: u16 = 0x0017;
/// Of one submission.
const AT_ONCE: usize = 12;

fn octets(tag: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("a short value");
    [&tag.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
}

fn has(frame: &[u8], wanted: &[u8]) -> bool {
    frame.windows(wanted.len()).any(|w| w == wanted)
}

/// The next PDU but for enquire_link, whole and untouched.
async fn frame(session: &mut Session) -> Vec<u8> {
    loop {
        let mut frame = vec![0; 4];
        let read = session.stream.read_exact(&mut frame).await;
        read.expect("an open connection");
        let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
        frame.resize(length, 0);
        let read = session.stream.read_exact(&mut frame[4..]).await;
        read.expect("a whole PDU");
        if frame[4..8] != [0, 0, 0, 0x15] {
            return frame;
        }
        let mut answer = vec![0, 0, 0, 16, 0x80, 0, 0, 0x15, 0, 0, 0, 0];
        answer.extend_from_slice(&frame[12..16]);
        let written = session.stream.write_all(&answer).await;
        written.expect("an open connection");
    }
}

/// Answers a submit_sm with ESME_ROK, an id, and optional parameters as they are.
async fn take(session: &mut Session, submit: &[u8], id: &str, tlvs: &[u8]) {
    let body = [id.as_bytes(), &[0], tlvs].concat();
    let length = u32::try_from(16 + body.len()).expect("a short PDU");
    let head = [
        &length.to_be_bytes()[..],
        &[0x80, 0, 0, 4, 0, 0, 0, 0],
        &submit[12..16],
    ]
    .concat();
    let written = session.stream.write_all(&[head, body].concat()).await;
    written.expect("an open connection");
}

async fn served() -> (Rig, Session, Esme, Smsc) {
    let (smsc, door) = (Smsc::listen().await, free_address().await);
    let rig = Rig::start(Plan {
        simulators: Vec::new(),
        carriers: vec![CarrierSpec {
            id: "scripted".to_owned(),
            address: smsc.address(),
            extra: String::new(),
        }],
        config_extra: format!("[smpp]\nlisten = \"{door}\"\n"),
        account_extra:
            "[[accounts.smpp]]\nsystem_id = \"app\"\npassword = \"literal:secret\"\ninbound = true\n"
                .to_owned(),
        ..Plan::default()
    })
    .await;
    let (session, _) = smsc.bound().await;
    let app = Esme::bound(&door, Mode::Transceiver, "app").await;
    (rig, session, app, smsc)
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|b| format!("{b:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_of_a_client_reaches_the_carrier_octet_by_octet() {
    let (rig, mut session, mut app, _smsc) = served().await;
    for (n, some) in PARAMETERS.chunks(AT_ONCE).enumerate() {
        let tlvs: Vec<Value> = some
            .iter()
            .map(|(tag, value)| json!({ "tag": tag, "value": hex(value) }))
            .collect();
        let mut body = sms(HANDSET, "hello");
        body["tlvs"] = json!(tlvs);
        let id = rig.submit(body).await;
        let submit = frame(&mut session).await;
        take(&mut session, &submit, &format!("http-{n}"), &[]).await;
        rig.wait_for(&id, "enroute").await;
        for (tag, value) in some {
            let found = has(&submit, &octets(*tag, value));
            assert!(found, "{tag:#06x} over HTTP: {submit:02x?}");
        }

        let mut tlvs = TlvBuf::new();
        for (tag, value) in some {
            tlvs.push(*tag, value).expect("a short value");
        }
        let sm = Sm {
            source_addr_ton: 5,
            source_addr: b"Acme",
            dest_addr_ton: 1,
            dest_addr_npi: 1,
            destination_addr: b"447700900123",
            short_message: b"hello",
            tlvs: tlvs.as_tlvs(),
            ..Sm::default()
        };
        let id = app.submit(&sm).await;
        let submit = frame(&mut session).await;
        take(&mut session, &submit, &format!("smpp-{n}"), &[]).await;
        rig.wait_for(&id, "enroute").await;
        for (tag, value) in some {
            let found = has(&submit, &octets(*tag, value));
            let expect = *tag != QOS_TIME_TO_LIVE;
            assert_eq!(found, expect, "{tag:#06x} over SMPP: {submit:02x?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_a_carrier_sends_and_nobody_reads_change_nothing() {
    let (rig, mut session, mut app, _smsc) = served().await;
    // dpf_result, delivery_failure_reason, additional_status_info_text and a vendor's, in a response.
    let unread = [
        octets(0x0420, &[1]),
        octets(0x0425, &[2]),
        octets(0x001D, b"taken\0"),
        octets(0x1400, b"who knows"),
    ]
    .concat();
    let sm = Sm {
        source_addr_ton: 5,
        source_addr: b"Acme",
        dest_addr_ton: 1,
        dest_addr_npi: 1,
        destination_addr: b"447700900123",
        short_message: b"hello",
        ..Sm::default()
    };
    let id = app.submit(&sm).await;
    let submit = frame(&mut session).await;
    take(&mut session, &submit, "t-1", &unread).await;
    let message = rig.wait_for(&id, "enroute").await;
    assert_eq!(message["receipts"][0]["carrier_message_id"], "t-1");

    // All that a submit_sm can have, in a text from a handset: it arrives as its words alone.
    let tlvs: Vec<u8> = PARAMETERS
        .iter()
        .flat_map(|(tag, value)| octets(*tag, value))
        .collect();
    let mandatory = b"\0\x01\x01447700900123\0\0\x0160777\0\0\0\0\0\0\0\0\0\0\x05hello";
    let body = [&mandatory[..], &tlvs].concat();
    let length = u32::try_from(16 + body.len()).expect("a short PDU");
    let head = [
        &length.to_be_bytes()[..],
        &[0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 9],
    ]
    .concat();
    let written = session.stream.write_all(&[head, body].concat()).await;
    written.expect("an open connection");
    let answer = frame(&mut session).await;
    assert_eq!(
        answer[4..16],
        [0x80, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 9],
        "ESME_ROK"
    );
    let delivered = app.delivery(CommandStatus::EsmeRok).await;
    assert_eq!(delivered.short_message().as_ref(), b"hello");
    let tags: Vec<u16> = delivered
        .tlvs()
        .iter()
        .map(|t| u16::from(t.tag()))
        .collect();
    assert_eq!(tags, [0u16; 0], "nothing of it goes on");
    let stored = rig.items("/v1/inbound").await;
    assert_eq!((stored.len(), &stored[0]["text"]), (1, &json!("hello")));
}
