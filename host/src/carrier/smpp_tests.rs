//! A carrier against a message centre on loopback sockets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::{Ack, InboundPart};
use super::*;
use crate::clock::Timestamp;
use crate::domain::text::{Segmented, segment};
use crate::domain::{
    AccountId, Address, Body, Message, MessageId, Network, OnUnknown, PartState, Plan, State, Tlv,
    TrafficClass,
};
use crate::smpp::link::Requests;
use crate::smpp::pdu::{self, Bind, Sm, Tlvs, command_id};
use crate::smpp::server::{Request, ServerSession, ServerSettings, serve};
use crate::smpp::session::CloseReason;
use crate::smpp::status;

#[path = "smpp_receive_tests.rs"]
mod receive;
#[path = "smpp_window_tests.rs"]
mod window;

use receive::{command_status, deliver, event, receipt_sm};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// Long enough for a machine under load, never waited for by a test that passes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Smsc {
    address: String,
    sessions: mpsc::Receiver<ServerSession>,
    stop: watch::Sender<bool>,
}

impl Smsc {
    async fn start() -> Smsc {
        Smsc::listen(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn listen(listener: TcpListener) -> Smsc {
        let address = listener.local_addr().unwrap().to_string();
        let (sender, sessions) = mpsc::channel(16);
        let (stop, stopped) = watch::channel(false);
        let judge = |_, _, bind: &Bind<'_>| {
            if bind.password == b"pw" {
                Ok(())
            } else {
                Err(status::ESME_RINVPASWD)
            }
        };
        tokio::spawn(serve(
            listener,
            ServerSettings::default(),
            None,
            Arc::new(judge),
            sender,
            Arc::default(),
            stopped,
        ));
        Smsc {
            address,
            sessions,
            stop,
        }
    }

    async fn session(&mut self) -> ServerSession {
        timeout(PATIENCE, self.sessions.recv())
            .await
            .unwrap()
            .unwrap()
    }
}

async fn request(session: &mut ServerSession) -> Request {
    timeout(PATIENCE, session.requests.recv())
        .await
        .unwrap()
        .unwrap()
}

fn config(address: &str) -> SmppConfig {
    SmppConfig {
        reconnect_min: Duration::from_millis(1),
        reconnect_max: Duration::from_millis(20),
        down_after: Duration::from_millis(10),
        ..SmppConfig::new(CarrierId::from("north"), address, "heliograph", "pw")
    }
}

struct Rig {
    smsc: Smsc,
    session: ServerSession,
    carrier: Arc<SmppCarrier>,
    events: mpsc::Receiver<CarrierEvent>,
}

async fn rig(change: impl FnOnce(&mut SmppConfig)) -> Rig {
    let mut smsc = Smsc::start().await;
    let mut config = config(&smsc.address);
    change(&mut config);
    let (sender, events) = mpsc::channel(16);
    let carrier = SmppCarrier::start(config, 1, sender).unwrap();
    let session = smsc.session().await;
    timeout(PATIENCE, carrier.ready()).await.unwrap();
    Rig {
        smsc,
        session,
        carrier,
        events,
    }
}

fn message(text: &str) -> Message {
    Message {
        id: MessageId::new(NOW, 0x1234),
        account: AccountId::from("acme"),
        originator: Address::originator("Acme").unwrap(),
        recipient: Address::international("+447700900123").unwrap(),
        network: Network::default(),
        class: TrafficClass::Otp,
        body: Body::Text(text.to_owned()),
        submitted_body: None,
        alphabet: crate::domain::text::Alphabet::of(text),
        segments: 1,
        accepted_at: NOW,
        send_at: NOW,
        expires_at: NOW.plus(Duration::from_secs(90)),
        reference: String::new(),
        metadata: Vec::new(),
        tlvs: Vec::new(),
        receipt_url: None,
        sm: crate::domain::SmParameters::default(),
        source: crate::domain::Source::Http,
        shift: crate::domain::text::ShiftTables::default(),
        on_unknown: OnUnknown::Resend,
        duplicate_risk: false,
        state: State::Queued,
        due: None,
        plan: Plan::default(),
        hop: 0,
        attempts: Vec::new(),
        parts: Vec::new(),
        failed: Vec::new(),
        decisions: Vec::new(),
        events: Vec::new(),
    }
}

fn segmented(message: &Message) -> Segmented {
    segment(&message.body, 7).unwrap()
}

/// Sends from a task of its own.
fn sending(carrier: &Arc<SmppCarrier>, text: &str) -> JoinHandle<SendOutcome> {
    let (carrier, message) = (Arc::clone(carrier), message(text));
    tokio::spawn(async move {
        let segmented = segmented(&message);
        let tlvs = [Tlv {
            tag: 0x1401,
            value: b"dlt".to_vec(),
        }];
        let outgoing = Outgoing {
            message: &message,
            originator: &message.originator,
            segmented: &segmented,
            tlvs: &tlvs,
            now: NOW,
        };
        carrier.send(outgoing).await.outcome
    })
}

async fn outcome(sending: JoinHandle<SendOutcome>) -> SendOutcome {
    timeout(PATIENCE, sending).await.unwrap().unwrap()
}

fn sent(ids: &[&str]) -> SendOutcome {
    SendOutcome::Sent {
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
    }
}

fn unknown() -> SendOutcome {
    SendOutcome::Unknown { taken: vec![None] }
}

const LONG: &str = "0123456789012345678901234567890123456789012345678901234567890123456789\
    01234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";

#[tokio::test]
async fn a_message_arrives_as_one_submit_sm() {
    let mut rig = rig(|_| {}).await;
    let sending = sending(&rig.carrier, "hello");
    let request = request(&mut rig.session).await;
    let pdu = request.pdu().unwrap();
    let pdu::Body::SubmitSm(sm) = pdu.body else {
        panic!("{pdu:?}")
    };
    assert_eq!((sm.source_addr_ton, sm.source_addr), (5, &b"Acme"[..]));
    assert_eq!(
        (sm.dest_addr_ton, sm.dest_addr_npi, sm.destination_addr),
        (1, 1, &b"447700900123"[..])
    );
    assert_eq!(sm.payload(), b"hello");
    assert_eq!(
        (
            sm.esm_class,
            sm.data_coding,
            sm.registered_delivery,
            sm.priority_flag
        ),
        (0, 0, 1, 1)
    );
    assert_eq!(sm.validity_period, b"000000000130000R");
    assert_eq!(sm.tlvs.get(0x1401), Some(&b"dlt"[..]));
    assert!(sm.tlvs.get(pdu::tag::USER_MESSAGE_REFERENCE).is_some());
    request.responder.message_id("42".to_owned());
    assert_eq!(outcome(sending).await, sent(&["42"]));
}

#[tokio::test]
async fn a_long_message_is_a_submit_sm_for_each_segment_on_one_session() {
    let mut rig = rig(|c| c.window = 2).await;
    let sending = sending(&rig.carrier, LONG);
    for id in ["1", "2"] {
        let request = request(&mut rig.session).await;
        let pdu = request.pdu().unwrap();
        let pdu::Body::SubmitSm(sm) = pdu.body else {
            panic!("{pdu:?}")
        };
        assert!(sm.has_udh());
        request.responder.message_id(id.to_owned());
    }
    assert_eq!(outcome(sending).await, sent(&["1", "2"]));
}

#[tokio::test]
async fn the_throughput_is_kept() {
    let mut rig = rig(|c| (c.throughput, c.window) = (50, 100)).await;
    let began = Instant::now();
    let sendings: Vec<_> = (0..15).map(|_| sending(&rig.carrier, "hello")).collect();
    for _ in 0..15 {
        request(&mut rig.session)
            .await
            .responder
            .message_id("1".to_owned());
    }
    // Five at once, which the bucket holds, and ten more at 50 a second.
    assert!(
        began.elapsed() >= Duration::from_millis(190),
        "{:?}",
        began.elapsed()
    );
    for sending in sendings {
        assert_eq!(outcome(sending).await, sent(&["1"]));
    }
}

#[tokio::test]
async fn no_answer_in_time_is_unknown() {
    let mut rig = rig(|c| c.response_timeout = Duration::from_millis(50)).await;
    let sending = sending(&rig.carrier, "hello");
    let _unanswered = request(&mut rig.session).await;
    assert_eq!(outcome(sending).await, unknown());
}

#[tokio::test]
async fn a_connection_lost_after_the_submit_is_unknown_and_comes_back() {
    let mut rig = rig(|_| {}).await;
    let lost = sending(&rig.carrier, "hello");
    let _unanswered = request(&mut rig.session).await;
    rig.session.link.abort();
    assert_eq!(outcome(lost).await, unknown());
    rig.session = rig.smsc.session().await;
    timeout(PATIENCE, rig.carrier.ready()).await.unwrap();
    let again = sending(&rig.carrier, "hello");
    request(&mut rig.session)
        .await
        .responder
        .message_id("2".to_owned());
    assert_eq!(outcome(again).await, sent(&["2"]));
}

#[tokio::test]
async fn without_a_message_centre_the_carrier_is_down() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let (events, _keep) = mpsc::channel(1);
    let carrier = SmppCarrier::start(config(&address), 1, events).unwrap();
    timeout(PATIENCE, carrier.down()).await.unwrap();
    assert!(!carrier.status().connected);
    assert_eq!(
        outcome(sending(&carrier, "hello")).await,
        SendOutcome::Unavailable
    );
    timeout(PATIENCE, carrier.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_is_no_connection() {
    let smsc = Smsc::start().await;
    let (events, _keep) = mpsc::channel(1);
    let wrong = SmppConfig {
        password: "wrong".to_owned(),
        ..config(&smsc.address)
    };
    let carrier = SmppCarrier::start(wrong, 1, events).unwrap();
    timeout(PATIENCE, carrier.down()).await.unwrap();
    while carrier.counters().bind_failures.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!carrier.status().connected);
}

#[tokio::test]
async fn throttling_slows_the_carrier_down() {
    let mut rig = rig(|c| c.throughput = 1000).await;
    let sending = sending(&rig.carrier, "hello");
    request(&mut rig.session)
        .await
        .responder
        .status(status::ESME_RTHROTTLED);
    let throttled = SendOutcome::Throttled {
        status: status::ESME_RTHROTTLED,
        retry_after_ms: None,
    };
    assert_eq!(outcome(sending).await, throttled);
    assert!(
        rig.carrier
            .inner
            .pacer()
            .rate(Instant::now().into_std())
            .unwrap()
            < 600.0
    );
}

#[tokio::test]
async fn refusals_keep_their_status() {
    let mut rig = rig(|_| {}).await;
    for (status, permanent) in [
        (status::ESME_RINVDSTADR, true),
        (status::ESME_RSYSERR, false),
    ] {
        let sending = sending(&rig.carrier, "hello");
        request(&mut rig.session).await.responder.status(status);
        match outcome(sending).await {
            SendOutcome::Permanent { status: got, .. } => {
                assert_eq!((got, true), (status, permanent))
            }
            SendOutcome::Temporary { status: got, .. } => {
                assert_eq!((got, false), (status, permanent))
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_message_taken_by_half_is_completed() {
    let mut rig = rig(|_| {}).await;
    let sending = sending(&rig.carrier, LONG);
    request(&mut rig.session)
        .await
        .responder
        .message_id("1".to_owned());
    request(&mut rig.session)
        .await
        .responder
        .status(status::ESME_RMSGQFUL);
    let again = request(&mut rig.session).await;
    let pdu = again.pdu().unwrap();
    let pdu::Body::SubmitSm(sm) = pdu.body else {
        panic!("{pdu:?}")
    };
    assert_eq!(&sm.short_message[..6], b"\x05\x00\x03\x07\x02\x02");
    again.responder.message_id("2".to_owned());
    assert_eq!(outcome(sending).await, sent(&["1", "2"]));
}

#[tokio::test]
async fn a_pair_sends_on_one_session_and_receives_on_the_other() {
    let mut rig = rig(|c| c.binding = Binding::Pair).await;
    let mut other = rig.smsc.session().await;
    if rig.session.mode == BindMode::Receiver {
        std::mem::swap(&mut rig.session, &mut other);
    }
    assert_eq!(
        (rig.session.mode, other.mode),
        (BindMode::Transmitter, BindMode::Receiver)
    );
    let sending = sending(&rig.carrier, "hello");
    request(&mut rig.session)
        .await
        .responder
        .message_id("1".to_owned());
    assert_eq!(outcome(sending).await, sent(&["1"]));
    let delivery = deliver(&other, &receipt_sm());
    let CarrierEvent::Receipt { ack, .. } = event(&mut rig).await else {
        panic!()
    };
    ack.send(Ack::Taken).unwrap();
    assert_eq!(command_status(delivery).await, status::ESME_ROK);
}

#[tokio::test]
async fn two_sessions_share_the_load() {
    let mut rig = rig(|c| (c.sessions, c.window) = (2, 2)).await;
    let mut other = rig.smsc.session().await;
    while rig.carrier.ready().await < 4 {
        tokio::task::yield_now().await;
    }
    let sendings: Vec<_> = (0..4).map(|_| sending(&rig.carrier, "hello")).collect();
    for session in [&mut rig.session, &mut other] {
        for _ in 0..2 {
            request(session).await.responder.message_id("1".to_owned());
        }
    }
    for sending in sendings {
        assert_eq!(outcome(sending).await, sent(&["1"]));
    }
}

#[tokio::test]
async fn shutdown_waits_for_answers_and_unbinds() {
    let mut rig = rig(|_| {}).await;
    let last = sending(&rig.carrier, "hello");
    let request = request(&mut rig.session).await;
    let carrier = Arc::clone(&rig.carrier);
    let shutdown = tokio::spawn(async move { carrier.shutdown().await });
    while rig.carrier.status().connected {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        outcome(sending(&rig.carrier, "too late")).await,
        SendOutcome::Unavailable
    );
    request.responder.message_id("1".to_owned());
    assert_eq!(outcome(last).await, sent(&["1"]));
    timeout(PATIENCE, shutdown).await.unwrap().unwrap();
    let reason = timeout(PATIENCE, rig.session.link.closed()).await.unwrap();
    assert_eq!(reason, CloseReason::UnboundByPeer);
}

#[tokio::test]
async fn the_message_centres_farewell_brings_the_session_back() {
    let mut rig = rig(|_| {}).await;
    rig.session.link.unbind();
    let again = rig.smsc.session().await;
    assert_eq!(again.mode, BindMode::Transceiver);
    rig.smsc.stop.send_replace(true);
}

#[tokio::test]
async fn a_peer_that_speaks_garbage_is_left_and_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (events, _keep) = mpsc::channel(1);
    let carrier = SmppCarrier::start(config(&address), 1, events).unwrap();
    for garbage in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"\0\0\0\x0f\0\0\0\0\0\0\0\0\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x10\x80\0\0\x09\0\0\0\x0d\0\0\0\x01",
        b"",
    ] {
        let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut heard = Vec::new();
        // It may be reset, because we do not read what we were not sent for.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut heard))
            .await
            .unwrap();
        assert_eq!(
            pdu::Header::parse(&heard).unwrap().command_id,
            command_id::BIND_TRANSCEIVER
        );
        assert!(!carrier.status().connected);
    }
    timeout(PATIENCE, carrier.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_field_that_does_not_fit_is_refused_before_anything_leaves() {
    let rig = rig(|_| {}).await;
    let mut message = message("hello");
    message.recipient.value = "4".repeat(21);
    let segmented = segmented(&message);
    let outgoing = Outgoing {
        message: &message,
        originator: &message.originator,
        segmented: &segmented,
        tlvs: &[],
        now: NOW,
    };
    let handed = rig.carrier.send(outgoing).await;
    let SendOutcome::Permanent { detail, .. } = handed.outcome else {
        panic!()
    };
    assert_eq!(
        detail,
        "destination_addr has 21 octets; at most 20 are allowed"
    );
}

#[test]
fn a_configuration_names_the_field_and_the_rule() {
    let broken = SmppConfig {
        window: 0,
        ..config("127.0.0.1:2775")
    };
    assert_eq!(
        broken.check().unwrap_err().to_string(),
        "window is 1 to 10000"
    );
    let broken = SmppConfig {
        system_type: "thirteen-char".to_owned(),
        ..config("127.0.0.1:2775")
    };
    assert_eq!(broken.check().unwrap_err().field, "system_type");
}

#[tokio::test]
async fn sessions_go_to_the_next_host_and_come_back_to_the_first() {
    let mut second = Smsc::start().await;
    // A port that nobody listens on yet.
    let first = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let mut config = config(&first.to_string());
    config.addresses.push(second.address.clone());
    config.host_return = Duration::from_millis(20);
    let (events, _keep) = mpsc::channel(1);
    let carrier = SmppCarrier::start(config, 1, events).unwrap();
    let mut session = second.session().await;
    timeout(PATIENCE, carrier.ready()).await.unwrap();
    // What is under way when the first comes back is answered before the session leaves.
    let under_way = sending(&carrier, "hello");
    let request = request(&mut session).await;
    let mut first = Smsc::listen(TcpListener::bind(first).await.unwrap());
    tokio::time::sleep(Duration::from_millis(50)).await;
    request.responder.message_id("1".to_owned());
    assert_eq!(outcome(under_way).await, sent(&["1"]));
    let _moved = first.session().await;
    let reason = timeout(PATIENCE, session.link.closed()).await.unwrap();
    assert_eq!(reason, CloseReason::UnboundByPeer);
    timeout(PATIENCE, carrier.shutdown()).await.unwrap();
}

#[tokio::test]
async fn spread_sessions_bind_to_different_hosts() {
    let (mut first, mut second) = (Smsc::start().await, Smsc::start().await);
    let mut config = config(&first.address);
    config.addresses.push(second.address.clone());
    config.host_order = HostOrder::Spread;
    config.sessions = 2;
    let (events, _keep) = mpsc::channel(1);
    let carrier = SmppCarrier::start(config, 1, events).unwrap();
    first.session().await;
    second.session().await;
    timeout(PATIENCE, carrier.shutdown()).await.unwrap();
}

/// As `sending`, without TLVs.
fn sending_message(carrier: &Arc<SmppCarrier>, message: Message) -> JoinHandle<SendOutcome> {
    let carrier = Arc::clone(carrier);
    tokio::spawn(async move {
        let segmented = segmented(&message);
        let outgoing = Outgoing {
            message: &message,
            originator: &message.originator,
            segmented: &segmented,
            tlvs: &[],
            now: NOW,
        };
        carrier.send(outgoing).await.outcome
    })
}

#[tokio::test]
async fn transaction_mode_goes_as_data_sm_where_the_carrier_has_it() {
    for has_data_sm in [true, false] {
        let mut rig = rig(|c| c.supports.data_sm = has_data_sm).await;
        let mut message = message("hello");
        message.sm.messaging_mode = 2;
        message.sm.reply_path = true;
        let sending = sending_message(&rig.carrier, message);
        let request = request(&mut rig.session).await;
        match request.pdu().unwrap().body {
            pdu::Body::DataSm(sm) if has_data_sm => {
                assert_eq!((sm.esm_class, sm.payload()), (0x82, &b"hello"[..]));
                let left = sm.tlvs.get(pdu::tag::QOS_TIME_TO_LIVE);
                assert_eq!(left, Some(&90u32.to_be_bytes()[..]));
            }
            pdu::Body::SubmitSm(sm) if !has_data_sm => {
                assert_eq!((sm.esm_class, sm.short_message), (0x82, &b"hello"[..]));
            }
            other => panic!("{other:?}"),
        }
        request.responder.message_id("1".to_owned());
        assert_eq!(outcome(sending).await, sent(&["1"]));
    }
}

#[tokio::test]
async fn a_carrier_of_smpp_3_3_gets_no_optional_parameters() {
    let mut rig = rig(|c| c.interface_version = 0x33).await;
    let plain = sending_message(&rig.carrier, message("hello"));
    let request = request(&mut rig.session).await;
    let pdu::Body::SubmitSm(sm) = request.pdu().unwrap().body else {
        panic!()
    };
    assert!(sm.tlvs.is_empty());
    request.responder.message_id("1".to_owned());
    assert_eq!(outcome(plain).await, sent(&["1"]));
    let SendOutcome::Permanent { detail, .. } = outcome(sending(&rig.carrier, "hello")).await
    else {
        panic!()
    };
    assert!(
        detail.contains("0x1401") && detail.contains("3.3"),
        "{detail}"
    );
}

async fn outbind_rig() -> (Arc<SmppCarrier>, String) {
    let listen = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let mut config = config("127.0.0.1:1");
    config.addresses.clear();
    config.outbind = Some(OutbindConfig {
        listen,
        system_id: "smsc".to_owned(),
        password: "knock".to_owned(),
        mode: BindMode::Transceiver,
        sessions: 1,
        tls: None,
    });
    let (events, _keep) = mpsc::channel(1);
    let carrier = SmppCarrier::start(config, 1, events).unwrap();
    (carrier, listen.to_string())
}

/// Says `octets` and returns what is heard until the end, or after the first PDU.
async fn said(address: &str, octets: &[u8]) -> (TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(octets).await.unwrap();
    let mut heard = vec![0; 64];
    let length = timeout(PATIENCE, stream.read(&mut heard)).await.unwrap();
    heard.truncate(length.unwrap_or(0));
    (stream, heard)
}

fn outbind(system_id: &[u8], password: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    let body = pdu::Body::Outbind(pdu::Outbind {
        system_id,
        password,
    });
    pdu::encode(&pdu::Pdu::request(1, body), &mut octets).unwrap();
    octets
}

#[tokio::test]
async fn only_the_carrier_itself_is_bound_to_on_outbind_and_has_its_places() {
    let (carrier, address) = outbind_rig().await;
    for stranger in [
        outbind(b"smsc", b"guess"),
        outbind(b"other", b"knock"),
        b"\xff\xff\xff\xff\0\0\0\x0b\0\0\0\0\0\0\0\x01".to_vec(),
        b"\0\0\0\x10\0\0\0\x15\0\0\0\0\0\0\0\x01".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let (_, heard) = said(&address, &stranger).await;
        assert_eq!(heard, b"", "{stranger:?}");
    }
    let (bound, heard) = said(&address, &outbind(b"smsc", b"knock")).await;
    let header = pdu::Header::parse(&heard).unwrap();
    assert_eq!(header.command_id, command_id::BIND_TRANSCEIVER);
    // One session was agreed: the next gets none, until the first is gone.
    let (_, heard) = said(&address, &outbind(b"smsc", b"knock")).await;
    assert_eq!(heard, b"");
    drop(bound);
    loop {
        let (_, heard) = said(&address, &outbind(b"smsc", b"knock")).await;
        if !heard.is_empty() {
            break;
        }
    }
    timeout(PATIENCE, carrier.shutdown()).await.unwrap();
}
