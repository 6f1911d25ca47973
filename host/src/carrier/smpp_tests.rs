//! A carrier against a message centre on loopback sockets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

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

#[path = "smpp_receive_tests.rs"]
mod receive;

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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
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
            Arc::new(judge),
            sender,
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
        carrier.send(outgoing).await
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
    let mut rig = rig(|c| c.window = 1).await;
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
    assert_eq!(outcome(sending).await, SendOutcome::Unknown);
}

#[tokio::test]
async fn a_connection_lost_after_the_submit_is_unknown_and_comes_back() {
    let mut rig = rig(|_| {}).await;
    let lost = sending(&rig.carrier, "hello");
    let _unanswered = request(&mut rig.session).await;
    rig.session.link.abort();
    assert_eq!(outcome(lost).await, SendOutcome::Unknown);
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
    let SendOutcome::Permanent { detail, .. } = rig.carrier.send(outgoing).await else {
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

#[test]
fn back_off_doubles_is_bounded_and_differs() {
    let (events, _keep) = mpsc::channel(1);
    let inner = Inner {
        style: SubmitStyle {
            service_type: String::new(),
            user_message_reference: true,
            registered_delivery: true,
        },
        slots: Vec::new(),
        pacer: Mutex::new(Pacer::new(0, Instant::now().into_std())),
        queue: Semaphore::new(1),
        changed: Notify::new(),
        down_since: watch::channel(None).0,
        counters: Arc::default(),
        config: SmppConfig {
            reconnect_min: Duration::from_secs(1),
            reconnect_max: Duration::from_secs(30),
            ..config("127.0.0.1:2775")
        },
    };
    let mut seat = Seat {
        inner: Arc::new(inner),
        slot: 0,
        mode: BindMode::Transceiver,
        events,
        random: StdRng::seed_from_u64(7),
    };
    let mut longest = |failures| {
        (0..200)
            .map(|_| seat.back_off(failures, false))
            .max()
            .unwrap()
    };
    assert!((1.5..=2.0).contains(&longest(1).as_secs_f64()));
    assert!((6.0..=8.0).contains(&longest(3).as_secs_f64()));
    assert!((25.0..=30.0).contains(&longest(60).as_secs_f64()));
    assert_ne!(seat.back_off(5, false), seat.back_off(5, false));
    assert!(seat.back_off(1, true) >= Duration::from_secs(15));
}
