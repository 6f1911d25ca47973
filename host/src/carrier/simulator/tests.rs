//! The simulator over real sockets: each setting visibly does what it says. The client is the bare
//! codec, so that nothing of Heliograph's own sessions can hide a fault.

use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::smpp::pdu::{self, Bind, Body, Framing, Pdu, Sm, SmResp, encode, tag};

pub(super) const TO: &[u8] = b"447700900123";
/// Nothing in these tests takes that long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn simulator(patch: Value) -> Simulator {
    let settings = Settings::default().patched(patch).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let control = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Simulator::start(settings, Clock::system(), listener, Some(control)).unwrap()
}

/// One PDU as it came.
pub(super) struct Frame(Vec<u8>);

impl Frame {
    pub(super) fn pdu(&self) -> Pdu<'_> {
        pdu::decode(&self.0).unwrap()
    }

    pub(super) fn status(&self) -> u32 {
        self.pdu().command_status
    }

    #[track_caller]
    pub(super) fn message_id(&self) -> String {
        match self.pdu().body {
            Body::SubmitSmResp(resp) | Body::DataSmResp(resp) => {
                String::from_utf8_lossy(resp.message_id).into_owned()
            }
            other => panic!("no submit_sm_resp: {other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn deliver(&self) -> Sm<'_> {
        match self.pdu().body {
            Body::DeliverSm(sm) => sm,
            other => panic!("no deliver_sm: {other:?}"),
        }
    }

    pub(super) fn is_answer(&self) -> bool {
        matches!(self.pdu().body, Body::SubmitSmResp(_))
    }

    pub(super) fn is_deliver(&self) -> bool {
        matches!(self.pdu().body, Body::DeliverSm(_))
    }

    #[track_caller]
    pub(super) fn receipted_id(&self) -> String {
        let id = self
            .deliver()
            .tlvs
            .c_octets(tag::RECEIPTED_MESSAGE_ID)
            .unwrap();
        String::from_utf8_lossy(id).into_owned()
    }
}

pub(super) struct Esme {
    stream: TcpStream,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Esme {
    pub(super) async fn connect(simulator: &Simulator) -> Esme {
        let stream = TcpStream::connect(simulator.address()).await.unwrap();
        Esme {
            stream,
            buffer: Vec::new(),
            sequence: 0,
        }
    }

    /// Bound as a transceiver.
    pub(super) async fn bound(simulator: &Simulator) -> Esme {
        let mut esme = Esme::connect(simulator).await;
        assert_eq!(esme.bind(Body::BindTransceiver, "esme", "").await, 0);
        esme
    }

    pub(super) async fn bind<'a>(
        &mut self,
        kind: fn(Bind<'a>) -> Body<'a>,
        system_id: &'a str,
        password: &'a str,
    ) -> u32 {
        let bind = Bind {
            system_id: system_id.as_bytes(),
            password: password.as_bytes(),
            interface_version: 0x34,
            ..Bind::default()
        };
        self.send(kind(bind)).await;
        self.next().await.status()
    }

    pub(super) async fn send(&mut self, body: Body<'_>) -> u32 {
        self.sequence += 1;
        let mut octets = Vec::new();
        encode(&Pdu::request(self.sequence, body), &mut octets).unwrap();
        self.stream.write_all(&octets).await.unwrap();
        self.sequence
    }

    pub(super) async fn submit(&mut self, destination_addr: &[u8], text: &[u8]) -> u32 {
        let sm = Sm {
            source_addr: b"Acme",
            source_addr_ton: 5,
            destination_addr,
            registered_delivery: 1,
            short_message: text,
            ..Sm::default()
        };
        self.send(Body::SubmitSm(sm)).await
    }

    pub(super) async fn answer(&mut self, deliver: &Frame, status: u32) {
        let mut octets = Vec::new();
        let body = Body::DeliverSmResp(SmResp::default());
        encode(
            &Pdu::response(deliver.pdu().sequence_number, status, body),
            &mut octets,
        )
        .unwrap();
        self.stream.write_all(&octets).await.unwrap();
    }

    /// The next PDU; None when the simulator closed the connection.
    pub(super) async fn try_next(&mut self) -> Option<Frame> {
        loop {
            if let Framing::Frame(length) = pdu::frame(&self.buffer) {
                let rest = self.buffer.split_off(length);
                return Some(Frame(std::mem::replace(&mut self.buffer, rest)));
            }
            let read = self.stream.read_buf(&mut self.buffer);
            match tokio::time::timeout(PATIENCE, read)
                .await
                .expect("nothing came")
            {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// All octets until the connection is closed.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        let mut octets = std::mem::take(&mut self.buffer);
        let read = self.stream.read_to_end(&mut octets);
        let read = tokio::time::timeout(PATIENCE, read).await;
        read.expect("it was closed").expect("octets");
        octets
    }

    pub(super) async fn next(&mut self) -> Frame {
        self.try_next().await.expect("the connection was closed")
    }

    pub(super) async fn next_n(&mut self, n: usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        while frames.len() < n {
            frames.push(self.next().await);
        }
        frames
    }

    /// Everything that comes before the answer to an enquire_link.
    pub(super) async fn until_quiet(&mut self) -> Vec<Frame> {
        self.send(Body::EnquireLink).await;
        let mut frames = Vec::new();
        loop {
            let frame = self.next().await;
            if matches!(frame.pdu().body, Body::EnquireLinkResp) {
                return frames;
            }
            frames.push(frame);
        }
    }
}

/// Asks until it is so: counters follow the sockets a moment later.
pub(super) async fn eventually(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn only_known_credentials_bind() {
    let smsc = simulator(json!({"binds": ["esme:secret"]})).await;
    let mut esme = Esme::connect(&smsc).await;
    assert_eq!(
        esme.bind(Body::BindTransceiver, "other", "secret").await,
        0x0F
    );
    assert_eq!(
        esme.bind(Body::BindTransceiver, "esme", "wrong").await,
        0x0E
    );
    assert_eq!(esme.bind(Body::BindTransceiver, "esme", "secret").await, 0);
    assert_eq!(
        esme.bind(Body::BindTransceiver, "esme", "secret").await,
        0x05
    );
    let counters = smsc.counters();
    assert_eq!(
        (counters.binds, counters.binds_refused, counters.bound),
        (1, 3, 1)
    );
}

#[tokio::test]
async fn binds_are_refused_with_the_status_that_is_set() {
    let smsc = simulator(json!({"bind_status": 0x0D})).await;
    let mut esme = Esme::connect(&smsc).await;
    assert_eq!(esme.bind(Body::BindReceiver, "esme", "").await, 0x0D);
}

#[tokio::test]
async fn a_submit_sm_needs_a_session_that_may_send() {
    let smsc = simulator(json!({})).await;
    let mut esme = Esme::connect(&smsc).await;
    esme.submit(TO, b"hi").await;
    assert_eq!(esme.next().await.status(), 0x04);
    assert_eq!(esme.bind(Body::BindReceiver, "esme", "").await, 0);
    esme.submit(TO, b"hi").await;
    assert_eq!(esme.next().await.status(), 0x04);
    assert_eq!(smsc.counters().submits, 0);
}

#[tokio::test]
async fn a_message_is_taken_recorded_confirmed_and_the_receipt_acknowledged() {
    let smsc = simulator(json!({"receipt_delay_ms": 5})).await;
    let mut esme = Esme::bound(&smsc).await;
    let sequence = esme.submit(TO, b"hello").await;
    let resp = esme.next().await;
    assert_eq!((resp.status(), resp.pdu().sequence_number), (0, sequence));
    let receipt = esme.next().await;
    assert_eq!(receipt.receipted_id(), resp.message_id());
    assert_eq!(
        (receipt.deliver().esm_class, receipt.deliver().source_addr),
        (0x04, TO)
    );
    esme.answer(&receipt, 0).await;
    eventually("acknowledged", || smsc.counters().receipts_acked == 1).await;

    let received = smsc.received(0, 10);
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].message_id, resp.message_id());
    assert_eq!(received[0].system_id, "esme");
    assert_eq!(
        (
            received[0].text.as_deref(),
            received[0].short_message.as_str()
        ),
        (Some("hello"), "68656c6c6f")
    );
    assert_eq!(
        smsc.received_keys().get(&message_key(TO, None, b"hello")),
        Some(&1)
    );
}

#[tokio::test]
async fn data_sm_is_a_message_too() {
    let smsc = simulator(json!({"receipts": false})).await;
    let mut esme = Esme::bound(&smsc).await;
    let mut tlvs = pdu::TlvBuf::new();
    tlvs.push(tag::MESSAGE_PAYLOAD, b"hello").unwrap();
    let data_sm = pdu::DataSm {
        destination_addr: TO,
        tlvs: tlvs.as_tlvs(),
        ..Default::default()
    };
    esme.send(Body::DataSm(data_sm)).await;
    assert_eq!(
        esme.next().await.message_id(),
        smsc.received(0, 1)[0].message_id
    );
    assert_eq!(smsc.received(0, 1)[0].text.as_deref(), Some("hello"));
}

async fn check_ids(more: Value, response: &str, receipt: &str) {
    let mut patch = json!({"first_id": 48_879, "receipt_delay_ms": 0});
    patch
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let smsc = simulator(patch).await;
    let mut esme = Esme::bound(&smsc).await;
    esme.submit(TO, b"hello").await;
    let frames = esme.next_n(2).await;
    assert_eq!(
        (
            frames[0].message_id().as_str(),
            frames[1].receipted_id().as_str()
        ),
        (response, receipt)
    );
}

#[tokio::test]
async fn ids_differ_between_response_and_receipt_as_they_are_set_to() {
    check_ids(json!({}), "48879", "48879").await;
    check_ids(json!({"id_response": "hex-lower"}), "beef", "48879").await;
    check_ids(json!({"id_receipt": "hex-upper"}), "48879", "BEEF").await;
    check_ids(
        json!({"id_response": "hex-lower", "id_receipt": "hex-upper"}),
        "beef",
        "BEEF",
    )
    .await;
    check_ids(json!({"id_response_width": 10}), "0000048879", "48879").await;
}

#[tokio::test]
async fn a_response_comes_after_its_latency() {
    let smsc = simulator(json!({"latency_ms": 40})).await;
    let mut esme = Esme::bound(&smsc).await;
    let start = Instant::now();
    esme.submit(TO, b"hello").await;
    assert_eq!(esme.next().await.status(), 0);
    assert!(start.elapsed() >= Duration::from_millis(40));
}

#[tokio::test]
async fn beyond_the_throughput_a_session_is_throttled() {
    let smsc = simulator(json!({"throughput": 5, "receipts": false})).await;
    let mut esme = Esme::bound(&smsc).await;
    for _ in 0..30 {
        esme.submit(TO, b"hello").await;
    }
    let frames = esme.next_n(30).await;
    assert!(frames[..5].iter().all(|f| f.status() == 0));
    let throttled = frames.iter().filter(|f| f.status() == 0x58).count();
    assert!(throttled > 0);
    assert_eq!(smsc.counters().submits_by_status[&0x58], throttled as u64);
}

#[tokio::test]
async fn beyond_the_window_the_queue_is_full() {
    let smsc = simulator(json!({"window": 5, "latency_ms": 60_000, "receipts": false})).await;
    let mut esme = Esme::bound(&smsc).await;
    for _ in 0..8 {
        esme.submit(TO, b"hello").await;
    }
    let frames = esme.until_quiet().await;
    let statuses: Vec<u32> = frames.iter().map(Frame::status).collect();
    assert_eq!(statuses, [0x14, 0x14, 0x14]);
    assert_eq!(smsc.counters().accepted, 5);
}

#[tokio::test]
async fn beyond_the_window_reading_stops_and_goes_on() {
    let smsc = simulator(
        json!({"window": 2, "window_policy": "stop", "latency_ms": 30, "receipts": false}),
    )
    .await;
    let mut esme = Esme::bound(&smsc).await;
    let start = Instant::now();
    for _ in 0..6 {
        esme.submit(TO, b"hello").await;
    }
    let frames = esme.next_n(6).await;
    assert!(frames.iter().all(|f| f.status() == 0));
    assert!(
        start.elapsed() >= Duration::from_millis(90),
        "three rounds of two"
    );
}

#[tokio::test]
async fn errors_come_at_their_rate() {
    let smsc = simulator(json!({"errors": ["0x08=1"]})).await;
    let mut esme = Esme::bound(&smsc).await;
    esme.submit(TO, b"hello").await;
    assert_eq!(esme.next().await.status(), 0x08);
    assert_eq!(smsc.counters().accepted, 0);
    assert_eq!(smsc.received(0, 1)[0].command_status, Some(0x08));
}

#[tokio::test]
async fn a_dropped_connection_is_closed_and_the_message_not_taken() {
    let smsc = simulator(json!({"drop_rate": 1})).await;
    let mut esme = Esme::bound(&smsc).await;
    esme.submit(TO, b"hello").await;
    assert!(esme.try_next().await.is_none());
    assert_eq!((smsc.counters().dropped, smsc.counters().accepted), (1, 0));
}

#[tokio::test]
async fn a_swallowed_message_is_taken_and_confirmed_but_never_answered() {
    let smsc = simulator(json!({"swallow_rate": 1, "receipt_delay_ms": 0})).await;
    let mut esme = Esme::bound(&smsc).await;
    esme.submit(TO, b"hello").await;
    let frames = esme.until_quiet().await;
    assert_eq!(frames.len(), 1);
    assert!(frames[0].is_deliver());
    let received = &smsc.received(0, 1)[0];
    assert_eq!((received.accepted, received.command_status), (true, None));
    assert_eq!(smsc.counters().swallowed, 1);
}

#[tokio::test]
async fn receipts_are_lost_switched_off_or_not_asked_for() {
    for (patch, lost) in [
        (json!({"receipt_delay_ms": 0, "receipt_loss_rate": 1}), 1),
        (json!({"receipt_delay_ms": 0, "receipts": false}), 0),
        (
            json!({"receipt_delay_ms": 0, "rules": ["44=no-receipt"]}),
            1,
        ),
    ] {
        let smsc = simulator(patch).await;
        let mut esme = Esme::bound(&smsc).await;
        esme.submit(TO, b"hello").await;
        let frames = esme.until_quiet().await;
        assert_eq!((frames.len(), frames[0].status()), (1, 0));
        assert_eq!(smsc.counters().receipts_lost, lost);
    }
    let smsc = simulator(json!({"receipt_delay_ms": 0})).await;
    let mut esme = Esme::bound(&smsc).await;
    esme.send(Body::SubmitSm(Sm {
        destination_addr: TO,
        short_message: b"hi",
        ..Sm::default()
    }))
    .await;
    assert_eq!(esme.until_quiet().await.len(), 1);
}

#[tokio::test]
async fn a_receipt_comes_twice_with_one_id() {
    let smsc = simulator(json!({"receipt_delay_ms": 0, "receipt_duplicate_rate": 1})).await;
    let mut esme = Esme::bound(&smsc).await;
    esme.submit(TO, b"hello").await;
    let frames = esme.next_n(3).await;
    assert_eq!(frames[1].receipted_id(), frames[0].message_id());
    assert_eq!(frames[2].receipted_id(), frames[0].message_id());
}

#[tokio::test]
async fn an_early_receipt_comes_before_the_response() {
    let smsc = simulator(json!({"receipt_early_rate": 1})).await;
    let mut esme = Esme::bound(&smsc).await;
    esme.submit(TO, b"hello").await;
    let receipt = esme.next().await;
    let resp = esme.next().await;
    assert_eq!(receipt.receipted_id(), resp.message_id());
}

#[tokio::test]
async fn shuffled_receipts_come_in_another_order_and_all_of_them() {
    let smsc =
        simulator(json!({"receipt_delay_ms": 0, "receipt_shuffle": 20, "first_id": 100})).await;
    let mut esme = Esme::bound(&smsc).await;
    for _ in 0..20 {
        esme.submit(TO, b"hello").await;
    }
    let frames = esme.next_n(40).await;
    let mut ids: Vec<String> = frames
        .iter()
        .filter(|f| f.is_deliver())
        .map(Frame::receipted_id)
        .collect();
    let given: Vec<String> = (100..120).map(|id: u32| id.to_string()).collect();
    assert_ne!(ids, given);
    ids.sort_unstable();
    assert_eq!(ids, given);
}

#[tokio::test]
async fn fewer_receipts_than_a_shuffle_gathers_come_all_the_same() {
    let smsc = simulator(json!({"receipt_delay_ms": 0, "receipt_shuffle": 100})).await;
    let mut esme = Esme::bound(&smsc).await;
    esme.submit(TO, b"hello").await;
    assert!(esme.next_n(2).await[1].is_deliver());
}

#[tokio::test]
async fn a_rule_ends_messages_to_its_prefix_and_no_others() {
    let smsc =
        simulator(json!({"receipt_delay_ms": 0, "rules": ["447700900999=UNDELIV:001"]})).await;
    let mut esme = Esme::bound(&smsc).await;
    esme.submit(b"447700900999", b"hello").await;
    esme.submit(TO, b"hello").await;
    let frames = esme.next_n(4).await;
    let text = |f: &Frame| String::from_utf8_lossy(f.deliver().short_message).into_owned();
    assert!(text(&frames[1]).contains("stat:UNDELIV err:001"));
    assert!(text(&frames[3]).contains("stat:DELIVRD err:000"));
}

#[tokio::test]
async fn receipts_wait_until_a_receiver_of_the_same_system_id_binds() {
    let smsc = simulator(json!({"receipt_delay_ms": 0})).await;
    let mut sender = Esme::connect(&smsc).await;
    assert_eq!(sender.bind(Body::BindTransmitter, "esme", "").await, 0);
    sender.submit(TO, b"hello").await;
    let id = sender.next().await.message_id();
    let mut stranger = Esme::connect(&smsc).await;
    assert_eq!(stranger.bind(Body::BindReceiver, "other", "").await, 0);
    assert_eq!(smsc.counters().deliveries_waiting, 1);
    let mut receiver = Esme::connect(&smsc).await;
    assert_eq!(receiver.bind(Body::BindReceiver, "esme", "").await, 0);
    assert_eq!(receiver.next().await.receipted_id(), id);
    assert_eq!(stranger.until_quiet().await.len(), 0);
}

#[tokio::test]
async fn what_waits_is_bounded_and_what_overflows_is_counted() {
    let smsc = simulator(json!({"receipt_delay_ms": 0, "pending_max": 3})).await;
    let mut sender = Esme::connect(&smsc).await;
    assert_eq!(sender.bind(Body::BindTransmitter, "esme", "").await, 0);
    for _ in 0..5 {
        sender.submit(TO, b"hello").await;
    }
    sender.next_n(5).await;
    let counters = smsc.counters();
    assert_eq!(
        (counters.deliveries_waiting, counters.deliveries_overflowed),
        (3, 2)
    );
}

#[tokio::test]
async fn a_receipt_that_a_lost_session_did_not_confirm_comes_again() {
    let smsc = simulator(json!({"receipt_delay_ms": 0})).await;
    let mut esme = Esme::bound(&smsc).await;
    esme.submit(TO, b"hello").await;
    let first = esme.next_n(2).await[1].receipted_id();
    drop(esme);
    eventually("closed", || smsc.counters().connections == 0).await;
    let mut esme = Esme::bound(&smsc).await;
    assert_eq!(esme.next().await.receipted_id(), first);
    assert_eq!(smsc.counters().deliveries_repeated, 1);
}

#[tokio::test]
async fn a_receipt_refused_for_now_comes_again_and_one_refused_for_good_does_not() {
    let smsc = simulator(json!({"receipt_delay_ms": 0, "deliver_retry_ms": 5})).await;
    let mut esme = Esme::bound(&smsc).await;
    esme.submit(TO, b"hello").await;
    let id = esme.next().await.message_id();
    for status in [0x58, 0x14, 0x08, 0x64] {
        let receipt = esme.next().await;
        assert_eq!(receipt.receipted_id(), id);
        esme.answer(&receipt, status).await;
    }
    let last = esme.next().await;
    esme.answer(&last, 0x65).await;
    eventually("given up", || smsc.counters().deliveries_refused == 1).await;
    let counters = smsc.counters();
    assert_eq!(
        (counters.deliveries_repeated, counters.deliveries_waiting),
        (4, 0)
    );
}

#[tokio::test]
async fn a_receipt_without_an_answer_comes_again() {
    let smsc =
        simulator(json!({"receipt_delay_ms": 0, "deliver_timeout_ms": 0, "deliver_retry_ms": 0}))
            .await;
    let mut esme = Esme::bound(&smsc).await;
    esme.submit(TO, b"hello").await;
    let frames = esme.next_n(3).await;
    assert_eq!(frames[1].receipted_id(), frames[2].receipted_id());
    assert_ne!(
        frames[1].pdu().sequence_number,
        frames[2].pdu().sequence_number
    );
}

#[tokio::test]
async fn no_more_deliver_sm_are_out_than_the_window_allows() {
    let smsc = simulator(json!({"receipt_delay_ms": 0, "deliver_window": 2})).await;
    let mut esme = Esme::bound(&smsc).await;
    for _ in 0..5 {
        esme.submit(TO, b"hello").await;
    }
    let frames = esme.until_quiet().await;
    let receipts: Vec<&Frame> = frames.iter().filter(|f| f.is_deliver()).collect();
    assert_eq!((receipts.len(), smsc.counters().deliveries_waiting), (2, 3));
    // Out of order: the second first.
    esme.answer(receipts[1], 0).await;
    assert!(esme.next().await.is_deliver());
    esme.answer(receipts[0], 0).await;
    assert!(esme.next().await.is_deliver());
    assert_eq!(smsc.counters().receipts_acked, 2);
}

#[tokio::test]
async fn junk_is_answered_and_only_a_lost_frame_ends_the_session() {
    let smsc = simulator(json!({})).await;
    let mut esme = Esme::bound(&smsc).await;
    esme.send(Body::Other {
        command_id: 0x7777,
        octets: b"junk",
    })
    .await;
    let nack = esme.next().await;
    assert_eq!((nack.pdu().body, nack.status()), (Body::GenericNack, 0x03));
    // A submit_sm that ends within its addresses.
    esme.send(Body::Other {
        command_id: 0x04,
        octets: b"\0\x01",
    })
    .await;
    assert_ne!(esme.next().await.status(), 0);
    esme.submit(b"", b"hello").await;
    assert_eq!(esme.next().await.status(), 0x0B);
    esme.stream
        .write_all(&[0, 0, 0, 8, 0, 0, 0, 0])
        .await
        .unwrap();
    let nack = esme.next().await;
    assert_eq!((nack.pdu().body, nack.status()), (Body::GenericNack, 0x02));
    assert!(esme.try_next().await.is_none());
}

#[tokio::test]
async fn unbind_is_answered_and_ends_the_session() {
    let smsc = simulator(json!({})).await;
    let mut esme = Esme::bound(&smsc).await;
    esme.send(Body::Unbind).await;
    assert_eq!(esme.next().await.pdu().body, Body::UnbindResp);
    assert!(esme.try_next().await.is_none());
    eventually("unbound", || smsc.counters().bound == 0).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused() {
    let smsc = simulator(json!({"connections_max": 1})).await;
    let _first = Esme::bound(&smsc).await;
    let mut second = Esme::connect(&smsc).await;
    assert!(second.try_next().await.is_none());
    assert_eq!(smsc.counters().connections_refused, 1);
}

#[tokio::test]
async fn a_pdu_in_single_octets_is_one_pdu() {
    let smsc = simulator(json!({})).await;
    let mut esme = Esme::bound(&smsc).await;
    for octet in [0, 0, 0, 16, 0, 0, 0, 0x15, 0, 0, 0, 0, 0, 0, 0, 9] {
        esme.stream.write_all(&[octet]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(esme.next().await.pdu().sequence_number, 9);
}

#[tokio::test]
async fn shutdown_closes_connections_and_listeners() {
    let smsc = simulator(json!({})).await;
    let mut esme = Esme::bound(&smsc).await;
    let address = smsc.address();
    smsc.shutdown().await;
    assert!(esme.try_next().await.is_none());
    assert!(TcpStream::connect(address).await.is_err());
}
