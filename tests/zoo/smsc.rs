//! Hostile message centres: what a carrier can do to us over SMPP, and what becomes of it. Each has its
//! session alone to spoil: meanwhile other messages go through the same server by another carrier, its
//! memory stays where it was, and what happened is counted.

use std::time::{Duration, Instant};

use heliograph::smpp::pdu::{self, Body, Pdu, Sm, SmResp, TlvBuf, encode, tag};
use heliograph_tests::smsc::{Session, Smsc};
use heliograph_tests::{CarrierSpec, Plan, Rig, Traffic, eventually, sms};
use rusmpp::{Command, CommandId, CommandStatus};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::HANDSET;

/// To these numbers the wild carrier leads; to all others the good one.
const WILD: &str = "+4479";
/// What the server may grow by, whatever it is sent.
const GROWTH_MAX_MIB: u64 = 48;

const POLICY: &str = r#"
    [tables.rates]
    file = "rates.csv"
    [[plugin]]
    name = "router"
    path = "{plugins}/least-cost-router.wasm"
    grants = { tables = ["rates"] }
    config = { deck = "rates" }
"#;

/// A server with a good carrier and a wild one, and traffic by the good one.
struct Wild {
    rig: Rig,
    smsc: Smsc,
    traffic: Traffic,
    rss_before: u64,
}

impl Wild {
    async fn open(extra: &str) -> Wild {
        let smsc = Smsc::listen().await;
        let rig = Rig::start(Plan {
            carriers: vec![CarrierSpec {
                id: "wild".to_owned(),
                address: smsc.address(),
                extra: extra.to_owned(),
            }],
            policy: POLICY.to_owned(),
            files: vec![(
                "rates.csv".to_owned(),
                b"4477,sim0=1\n4479,wild=1\n".to_vec(),
            )],
            webhooks: true,
            ..Plan::default()
        })
        .await;
        let traffic = Traffic::start(&rig, 1, |n| sms(HANDSET, &format!("harmless {n}")));
        let first = rig.submit(sms(HANDSET, "first")).await;
        rig.wait_for(&first, "delivered").await;
        Wild {
            rss_before: rig.rss_mib(),
            rig,
            smsc,
            traffic,
        }
    }

    /// The wild carrier's next session, bound.
    async fn bound(&self) -> Session {
        self.smsc.bound().await.0
    }

    /// Submits through the wild carrier, and takes the submit_sm.
    async fn submitted(&self, session: &mut Session, text: &str) -> (String, u32) {
        let id = self.rig.submit(sms(&format!("{WILD}00900123"), text)).await;
        let (sequence, _) = session.hear_submit().await;
        (id, sequence)
    }

    /// The session still works, whatever was sent on it.
    async fn goes_on(&self, session: &mut Session) {
        let (id, sequence) = self.submitted(session, "still here").await;
        session.take(sequence, &format!("alive-{sequence}")).await;
        self.rig.wait_for(&id, "enroute").await;
    }

    async fn counted(&self, what: &str) -> f64 {
        let what = format!("what=\"{what}\"");
        self.rig
            .metric(&["heliograph_smpp_total", "carrier=\"wild\"", &what])
            .await
    }

    /// Waits until `what` has been counted so often.
    async fn counts(&self, what: &str, least: f64) {
        eventually(&format!("{least} {what}"), async || {
            (self.counted(what).await >= least).then_some(())
        })
        .await;
    }

    fn assert_memory(&self) {
        let now = self.rig.rss_mib();
        assert!(
            now <= self.rss_before + GROWTH_MAX_MIB,
            "grew from {} to {now} MiB",
            self.rss_before
        );
    }

    async fn traffic_flows(&self) {
        let before = self.traffic.begun();
        eventually("traffic flows", async || {
            (self.traffic.begun() > before + 2).then_some(())
        })
        .await;
    }

    /// The good carrier's messages all arrived, once, in the same process.
    async fn close(mut self) {
        self.assert_memory();
        self.traffic_flows().await;
        let sent = self.traffic.stop().await;
        assert!(sent.refused.is_empty() && sent.unanswered.is_empty());
        self.rig.wait_for_all(&sent.accepted, "delivered").await;
        let counters = self.rig.simulators[0].counters();
        assert_eq!(
            (counters.unique, counters.duplicated, counters.binds),
            (sent.accepted.len() as u64 + 1, 0, 1)
        );
        assert!(self.rig.is_running());
        assert!(!self.rig.log().contains("panicked"), "{}", self.rig.log());
    }
}

fn octets(pdu: &Pdu<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode(pdu, &mut out).expect("a PDU");
    out
}

/// A PDU whose body nobody checks.
fn raw(command_id: u32, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut out = ((16 + body.len()) as u32).to_be_bytes().to_vec();
    out.extend_from_slice(&command_id.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn text_from<'a>(source: &'a [u8], message: &'a [u8]) -> Sm<'a> {
    Sm {
        source_addr_ton: 1,
        source_addr_npi: 1,
        source_addr: source,
        destination_addr: b"60777",
        short_message: message,
        ..Sm::default()
    }
}

/// Sends a deliver_sm and says how it was answered.
async fn delivered(session: &mut Session, sequence: u32, sm: Sm<'_>) -> CommandStatus {
    let pdu = octets(&Pdu::request(sequence, Body::DeliverSm(sm)));
    answered(session, sequence, &pdu).await
}

async fn answered(session: &mut Session, sequence: u32, pdu: &[u8]) -> CommandStatus {
    session.stream.write_all(pdu).await.expect("written");
    let answer = session.hear_request().await;
    assert_eq!(answer.sequence_number, sequence, "{answer:?}");
    answer.status
}

fn submit_resp(sequence: u32, id: &[u8]) -> Vec<u8> {
    raw(0x8000_0004, sequence, &[id, b"\0"].concat())
}

/// Reads until the server closes; what it said last.
async fn last_words(session: &mut Session) -> Option<Command> {
    let mut last = None;
    while let Some(command) = session.hear().await {
        last = Some(command);
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_that_lie_end_their_session_with_generic_nack_and_nothing_is_allocated() {
    let wild = Wild::open("").await;
    for (n, length) in [0_u32, 4, 15, 65_537, 16 << 20, u32::MAX]
        .into_iter()
        .enumerate()
    {
        let mut session = wild.bound().await;
        let mut header = length.to_be_bytes().to_vec();
        header.extend_from_slice(&[0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 9]);
        session.stream.write_all(&header).await.expect("written");
        let farewell = last_words(&mut session).await.expect("a farewell");
        assert_eq!(farewell.id(), CommandId::GenericNack, "{length}");
        assert_eq!(farewell.status, CommandStatus::EsmeRinvcmdlen, "{length}");
        wild.counts("disconnects", n as f64 + 1.0).await;
        wild.counts("malformed", n as f64 + 1.0).await;
        wild.assert_memory();
    }
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pdu_that_never_ends_costs_its_session_after_ten_seconds() {
    let wild = Wild::open("").await;
    let mut session = wild.bound().await;
    let start = Instant::now();
    // A header that promises 200 octets, one more each second.
    let header = raw(0x05, 1, &[0; 184]);
    session
        .stream
        .write_all(&header[..16])
        .await
        .expect("written");
    let mut sent = 16;
    while session
        .stream
        .write_all(&header[sent..sent + 1])
        .await
        .is_ok()
    {
        sent += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(start.elapsed() < Duration::from_secs(20), "never cut");
    }
    assert!(start.elapsed() >= Duration::from_secs(9));
    let mut again = wild.bound().await;
    wild.goes_on(&mut again).await;
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bind_that_is_never_answered_is_given_up_and_tried_again() {
    let wild = Wild::open("").await;
    {
        let mut session = wild.smsc.accept().await;
        let bind = session.hear().await.expect("a bind");
        assert_eq!(bind.id(), CommandId::BindTransceiver);
        // Not a bind_resp, and so none.
        let stray = submit_resp(bind.sequence_number, b"x");
        session.stream.write_all(&stray).await.expect("written");
        assert!(last_words(&mut session).await.is_none());
    }
    let mut session = wild.bound().await;
    wild.goes_on(&mut session).await;
    wild.counts("bind_failures", 1.0).await;
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_from_the_wrong_side_are_refused_and_the_session_goes_on() {
    let wild = Wild::open("").await;
    let mut session = wild.bound().await;
    let sm = text_from(b"447900900123", b"hello");
    let bind = pdu::Bind {
        system_id: b"smsc",
        ..pdu::Bind::default()
    };
    let cases: [(Body<'_>, CommandStatus); 4] = [
        (Body::SubmitSm(sm), CommandStatus::EsmeRinvbndsts),
        (Body::BindTransceiver(bind), CommandStatus::EsmeRinvbndsts),
        (
            Body::QuerySm(pdu::QuerySm::default()),
            CommandStatus::EsmeRinvbndsts,
        ),
        (
            Body::Other {
                command_id: 0x0001_0204,
                octets: b"vendor",
            },
            CommandStatus::EsmeRinvcmdid,
        ),
    ];
    for (sequence, (body, expect)) in (1..).zip(cases) {
        let pdu = octets(&Pdu::request(sequence, body));
        assert_eq!(answered(&mut session, sequence, &pdu).await, expect);
    }
    wild.counts("refused", 4.0).await;
    wild.goes_on(&mut session).await;
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_nothing_twice_and_nacks_after_ok_change_nothing_and_are_counted() {
    let wild = Wild::open("").await;
    let mut session = wild.bound().await;
    let (id, sequence) = wild.submitted(&mut session, "hello").await;
    let mut stray = submit_resp(sequence + 1000, b"nobody");
    stray.extend(submit_resp(sequence, b"once"));
    stray.extend(submit_resp(sequence, b"twice"));
    stray.extend(raw(0x8000_0000, sequence, b""));
    stray.extend(raw(0x8000_0005, 77, b"\0"));
    session.stream.write_all(&stray).await.expect("written");
    let message = wild.rig.wait_for(&id, "enroute").await;
    wild.counts("stray_responses", 4.0).await;
    let receipt = b"id:once stat:DELIVRD err:000 done date:2611220900 text:";
    let sm = Sm {
        esm_class: 4,
        ..text_from(b"447900900123", receipt)
    };
    let status = delivered(&mut session, 1, sm).await;
    assert_eq!(status, CommandStatus::EsmeRok, "{message:#}");
    wild.rig.wait_for(&id, "delivered").await;
    wild.goes_on(&mut session).await;
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_lie_are_refused_by_the_field_and_what_can_be_read_is_taken() {
    let wild = Wild::open("").await;
    let mut session = wild.bound().await;
    // service_type to source_addr_npi, then what follows source_addr.
    let head = b"\0\x01\x01".as_slice();
    let tail = b"\x01\x0160777\0\0\0\0\0\0\0\0\0\0".as_slice();
    let long = [b'4'; 300];
    let refused: [(&str, Vec<u8>, CommandStatus); 4] = [
        (
            "ends in the middle of a field",
            b"CMT\0".to_vec(),
            CommandStatus::EsmeRinvcmdlen,
        ),
        (
            "no NUL anywhere",
            [0x41; 40].to_vec(),
            CommandStatus::EsmeRinvcmdlen,
        ),
        (
            "an address of 300 octets",
            [head, &long, b"\0", tail, b"\0"].concat(),
            CommandStatus::EsmeRinvsrcadr,
        ),
        (
            "sm_length of 200, and 5 octets",
            [head, b"447900900123\0", tail, b"\xC8short"].concat(),
            CommandStatus::EsmeRinvmsglen,
        ),
    ];
    for (sequence, (what, body, expect)) in (1..).zip(refused) {
        let pdu = raw(0x05, sequence, &body);
        assert_eq!(
            answered(&mut session, sequence, &pdu).await,
            expect,
            "{what}"
        );
    }
    wild.counts("malformed", 4.0).await;
    // What went before the lie counts, of two the first, and short_message before message_payload.
    let good = [head, b"447900900123\0", tail].concat();
    let taken: [(&[u8], &str); 4] = [
        (
            b"\x05hello\x02\x04\x00\x02\x00\x01\x04\x24\x00\x99abc",
            "hello",
        ),
        (b"\x00\x04\x24\x00\x05first\x04\x24\x00\x06second", "first"),
        (b"\x05short\x04\x24\x00\x04long", "short"),
        (b"\x05stray\x00\x01\x02", "stray"),
    ];
    for (n, (rest, text)) in taken.into_iter().enumerate() {
        let sequence = 10 + n as u32;
        let pdu = raw(0x05, sequence, &[&good, rest].concat());
        let status = answered(&mut session, sequence, &pdu).await;
        assert_eq!(status, CommandStatus::EsmeRok, "{text}");
        eventually(text, async || {
            let all = wild.rig.items("/v1/inbound").await;
            all.into_iter().find(|m| m["text"] == text)
        })
        .await;
    }
    wild.goes_on(&mut session).await;
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_lie_are_kept_as_they_came_and_parts_of_different_senders_never_mix() {
    let wild = Wild::open("").await;
    let mut session = wild.bound().await;
    let lies: [&[u8]; 5] = [
        // Longer than the message; an element longer than the header; part 0 of 0; part 9 of 3; no length.
        b"\xFFhello",
        b"\x05\x00\x09\x01\x02\x01hello",
        b"\x05\x00\x03\x01\x00\x00zero",
        b"\x05\x00\x03\x01\x03\x09nine",
        b"\x00",
    ];
    for (n, message) in lies.into_iter().enumerate() {
        let sm = Sm {
            esm_class: 0x40,
            ..text_from(b"447900900123", message)
        };
        let status = delivered(&mut session, 1 + n as u32, sm).await;
        assert_eq!(status, CommandStatus::EsmeRok, "{message:?}");
    }
    eventually("all are kept", async || {
        (wild.rig.items("/v1/inbound").await.len() == lies.len()).then_some(())
    })
    .await;
    // One reference, three handsets.
    for (n, sender) in ["447900900001", "447900900002", "447900900003"]
        .iter()
        .enumerate()
    {
        for (index, half) in [(1_u8, "one of"), (2, sender)] {
            let message = [&[5, 0, 3, 9, 2, index], half.as_bytes()].concat();
            let sm = Sm {
                esm_class: 0x40,
                ..text_from(sender.as_bytes(), &message)
            };
            let sequence = 100 + n as u32 * 2 + u32::from(index);
            assert_eq!(
                delivered(&mut session, sequence, sm).await,
                CommandStatus::EsmeRok
            );
        }
    }
    for sender in ["447900900001", "447900900002", "447900900003"] {
        eventually(sender, async || {
            let all = wild.rig.items("/v1/inbound").await;
            let text = format!("one of{sender}");
            all.into_iter()
                .find(|m| m["text"] == text && m["from"] == format!("+{sender}"))
        })
        .await;
    }
    wild.goes_on(&mut session).await;
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_are_never_completed_are_bounded_for_each_sender() {
    let wild = Wild::open("").await;
    let mut session = wild.bound().await;
    // 300 messages of 255 parts, of which one comes: a handset has room for fewer.
    let mut all = Vec::new();
    for n in 0..300_u32 {
        let [.., high, low] = n.to_be_bytes();
        let message = [&[6, 8, 4, high, low, 255, 1], b"part".as_slice()].concat();
        let sm = Sm {
            esm_class: 0x40,
            ..text_from(b"447900900123", &message)
        };
        all.extend(octets(&Pdu::request(1 + n, Body::DeliverSm(sm))));
    }
    session.stream.write_all(&all).await.expect("written");
    for _ in 0..300 {
        assert_eq!(session.hear_request().await.status, CommandStatus::EsmeRok);
    }
    // What finds no room goes on alone: nothing is thrown away.
    eventually("the overflow arrives as it came", async || {
        let kept = wild.rig.items("/v1/inbound?limit=200").await;
        (kept.len() >= 150 && kept.iter().all(|m| m["text"] == "part")).then_some(())
    })
    .await;
    wild.goes_on(&mut session).await;
    wild.close().await;
}

/// Receipts that are none, wrong or endless.
#[tokio::test(flavor = "multi_thread")]
async fn receipts_without_sense_are_taken_once_and_counted() {
    let wild = Wild::open("").await;
    let mut session = wild.bound().await;
    let (id, sequence) = wild.submitted(&mut session, "hello").await;
    session.take(sequence, "right").await;
    wild.rig.wait_for(&id, "enroute").await;
    let endless = [b"id:".as_slice(), &[b'7'; 60_000]].concat();
    let unreadable: [&[u8]; 6] = [
        b"",
        b"\x00\xFF\xFE\x80binary\x01\x02",
        b"sub:001 dlvrd:001 stat:DELIVRD err:000",
        b"id: stat:",
        b"id:right stat:PERHAPS",
        &endless,
    ];
    for (n, text) in unreadable.into_iter().enumerate() {
        let mut tlvs = TlvBuf::new();
        let in_payload = text.len() > 254;
        if in_payload {
            tlvs.push(tag::MESSAGE_PAYLOAD, text).expect("64 KiB");
        }
        let sm = Sm {
            esm_class: 4,
            tlvs: tlvs.as_tlvs(),
            ..text_from(b"447900900123", if in_payload { b"" } else { text })
        };
        let status = delivered(&mut session, 1 + n as u32, sm).await;
        assert_eq!(
            status,
            CommandStatus::EsmeRok,
            "sent again it would be no better"
        );
    }
    wild.counts("unreadable_receipts", 6.0).await;
    // A date that is none, an id that nobody gave: readable, and settles nothing else.
    for (n, text) in [
        "id:nobody stat:DELIVRD done date:99",
        "id:right stat:DELIVRD done date:9913329999",
    ]
    .iter()
    .enumerate()
    {
        let sm = Sm {
            esm_class: 4,
            ..text_from(b"447900900123", text.as_bytes())
        };
        let status = delivered(&mut session, 50 + n as u32, sm).await;
        assert_eq!(status, CommandStatus::EsmeRok);
    }
    let message = wild.rig.wait_for(&id, "delivered").await;
    assert_eq!(
        message["receipts"].as_array().map(Vec::len),
        Some(1),
        "{message:#}"
    );
    wild.goes_on(&mut session).await;
    wild.close().await;
}

/// What one session leaves unanswered is 4 MiB; the rest is the store's: its cache of 64 MiB, and what
/// it has not written behind yet of the messages that were taken.
fn assert_growth(wild: &Wild, sent: u64) {
    let grown = wild.rig.rss_mib().saturating_sub(wild.rss_before);
    assert!(grown < 256, "grew by {grown} MiB after {sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_deliver_sm_from_a_carrier_that_reads_no_answer_is_stopped() {
    let wild = Wild::open("").await;
    let mut session = wild.bound().await;
    let payload = vec![b'x'; 8_000];
    let mut tlvs = TlvBuf::new();
    tlvs.push(tag::MESSAGE_PAYLOAD, &payload).expect("8,000");
    let sm = Sm {
        tlvs: tlvs.as_tlvs(),
        ..text_from(b"447900900123", b"")
    };
    let one = octets(&Pdu::request(1, Body::DeliverSm(sm)));
    let start = Instant::now();
    let mut sent = 0_u64;
    // At most a gigabyte, at most for 15 s, reading nothing.
    let stopped = loop {
        let write = session.stream.write_all(&one);
        match tokio::time::timeout(Duration::from_secs(5), write).await {
            Err(_) => break true,
            Ok(Err(_)) => break true,
            Ok(Ok(())) => sent += 1,
        }
        if start.elapsed() > Duration::from_secs(15) || sent > 125_000 {
            break false;
        }
        if sent.is_multiple_of(500) {
            assert_growth(&wild, sent);
        }
    };
    assert_growth(&wild, sent);
    eprintln!("{sent} deliver_sm of 8 KB; stopped: {stopped}");
    drop(session);
    let mut again = wild.bound().await;
    wild.goes_on(&mut again).await;
    wild.traffic_flows().await;
    assert!(!wild.rig.log().contains("panicked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_identify_nothing_settle_nobody_else() {
    let wild = Wild::open("").await;
    let mut session = wild.bound().await;
    let long = [b'9'; 300];
    let mut ids = Vec::new();
    for id in [b"".as_slice(), b"0", b"same", b"same", &[b'8'; 65], &long] {
        let (message, sequence) = wild.submitted(&mut session, "hello").await;
        session
            .stream
            .write_all(&submit_resp(sequence, id))
            .await
            .expect("written");
        wild.rig.wait_for(&message, "enroute").await;
        ids.push(message);
    }
    // A receipt without an id is none; one with the id of 65 characters finds its message.
    let eights = format!("id:{} stat:DELIVRD", "8".repeat(65));
    for (n, text) in ["id: stat:DELIVRD", &eights].iter().enumerate() {
        let sm = Sm {
            esm_class: 4,
            ..text_from(b"447900900123", text.as_bytes())
        };
        delivered(&mut session, 1 + n as u32, sm).await;
    }
    wild.rig.wait_for(&ids[4], "delivered").await;
    for n in [0, 1, 2, 3, 5] {
        assert_eq!(wild.rig.message(&ids[n]).await["status"], "enroute", "{n}");
    }
    wild.goes_on(&mut session).await;
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_out_of_order_find_their_messages() {
    let wild = Wild::open("window = 20").await;
    let mut session = wild.bound().await;
    let mut sent = Vec::new();
    for n in 0..10 {
        let text = format!("number {n}");
        sent.push(wild.submitted(&mut session, &text).await);
    }
    for (n, (_, sequence)) in sent.iter().enumerate().rev() {
        session.take(*sequence, &format!("of-{n}")).await;
    }
    for (n, (id, _)) in sent.iter().enumerate() {
        let message = wild.rig.wait_for(id, "enroute").await;
        let text = message.to_string();
        assert!(text.contains(&format!("of-{n}")), "{message:#}");
    }
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_for_ever_and_statuses_that_nobody_knows_hold_messages_back_and_lose_none() {
    let wild = Wild::open("").await;
    let mut session = wild.bound().await;
    let mut waiting = Vec::new();
    for status in [0x58_u32, 0x14, 0x400, 0x4FF] {
        let (id, sequence) = wild.submitted(&mut session, "hello").await;
        let refusal = Pdu::response(sequence, status, Body::SubmitSmResp(SmResp::default()));
        session
            .stream
            .write_all(&octets(&refusal))
            .await
            .expect("written");
        let message = wild.rig.wait_for(&id, "queued").await;
        assert_eq!(message["status"], "queued", "{status:#x}: {message:#}");
        waiting.push(id);
        // What is tried again meanwhile is refused again.
        drop(session);
        session = wild.bound().await;
    }
    for id in &waiting {
        let status = wild.rig.message(id).await["status"].clone();
        assert_eq!(status, json!("queued"));
    }
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_that_unbinds_again_and_again_is_bound_to_again_with_its_messages() {
    let wild = Wild::open("").await;
    for n in 0..5 {
        let mut session = wild.bound().await;
        let (id, sequence) = wild.submitted(&mut session, "hello").await;
        // With a message outstanding; its answer still counts.
        let mut pdus = submit_resp(sequence, format!("u-{n}").as_bytes());
        pdus.extend(raw(0x06, 500 + n, b""));
        session.stream.write_all(&pdus).await.expect("written");
        let answer = last_words(&mut session).await.expect("unbind_resp");
        assert_eq!(answer.id(), CommandId::UnbindResp);
        wild.rig.wait_for(&id, "enroute").await;
    }
    wild.counts("disconnects", 5.0).await;
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outbind_and_alerts_of_strangers_are_heard_and_nothing_follows() {
    let wild = Wild::open("").await;
    let mut session = wild.bound().await;
    session
        .stream
        .write_all(&raw(0x0B, 1, b"smsc\0password\0"))
        .await
        .expect("written");
    let alert = raw(0x102, 2, b"\x01\x01447900900123\0\x01\x0160777\0");
    session.stream.write_all(&alert).await.expect("written");
    wild.goes_on(&mut session).await;
    wild.close().await;
}

/// Random octets of every length, before the bind and after.
#[tokio::test(flavor = "multi_thread")]
async fn noise_ends_sessions_and_nothing_else() {
    let wild = Wild::open("").await;
    let mut random = 0x9E37_79B9_u32;
    for length in [1, 3, 4, 15, 16, 17, 64, 1_000, 70_000] {
        let mut session = wild.bound().await;
        let noise: Vec<u8> = (0..length)
            .map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 24) as u8
            })
            .collect();
        let _ = session.stream.write_all(&noise).await;
        let _ = session.stream.shutdown().await;
        let mut rest = Vec::new();
        let read = session.stream.read_to_end(&mut rest);
        let read = tokio::time::timeout(Duration::from_secs(20), read).await;
        assert!(
            read.is_ok(),
            "{length} octets of noise keep the session open"
        );
    }
    let mut session = wild.bound().await;
    wild.goes_on(&mut session).await;
    let inbound: Vec<Value> = wild.rig.items("/v1/inbound").await;
    assert!(inbound.is_empty(), "{inbound:#?}");
    wild.close().await;
}
