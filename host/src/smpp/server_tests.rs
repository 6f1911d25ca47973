//! The server on loopback sockets, against peers that behave and peers that do not.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::link::{Answer, Requests};
use super::super::pdu::{Header, Sm, command_id, encode};
use super::super::session::{CloseReason, Credentials, INTERFACE_VERSION};
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

struct Rig {
    address: SocketAddr,
    sessions: mpsc::Receiver<ServerSession>,
    faults: Arc<WireFaults>,
    stop: watch::Sender<bool>,
    server: tokio::task::JoinHandle<()>,
}

impl Rig {
    /// Those kinds of faults that were counted.
    fn counted(&self) -> Vec<(&'static str, u64)> {
        let figures = self.faults.figures().into_iter();
        figures.filter(|(_, count)| *count > 0).collect()
    }
}

async fn rig(change: impl FnOnce(&mut ServerSettings)) -> Rig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut settings = ServerSettings::default();
    change(&mut settings);
    let (sender, sessions) = mpsc::channel(16);
    let (stop, stopped) = watch::channel(false);
    let judge = |_, _, bind: &Bind<'_>| {
        if bind.password == b"pw" {
            Ok(())
        } else {
            Err(status::ESME_RINVPASWD)
        }
    };
    let faults = Arc::<WireFaults>::default();
    let server = tokio::spawn(serve(
        listener,
        settings,
        None,
        Arc::new(judge),
        sender,
        faults.clone(),
        stopped,
    ));
    Rig {
        address,
        sessions,
        faults,
        stop,
        server,
    }
}

/// An ESME that refuses whatever it is sent.
struct Deaf;

impl Inlet for Deaf {
    type Event = ();

    fn bind(&mut self, _: BindMode, _: &Bind<'_>) -> Result<BindLimits, u32> {
        Err(status::ESME_RINVBNDSTS)
    }

    fn request(&mut self, _: &Bytes, _: &Body<'_>, _: Responder) -> Reaction<()> {
        Reaction::Respond {
            command_status: status::ESME_ROK,
        }
    }
}

async fn esme(address: SocketAddr, password: &str, window: usize) -> Link {
    let stream = TcpStream::connect(address).await.unwrap();
    let credentials = Credentials {
        mode: BindMode::Transceiver,
        system_id: "acme".to_owned(),
        password: password.to_owned(),
        system_type: String::new(),
        interface_version: INTERFACE_VERSION,
        address_range: String::new(),
        addr_ton: 0,
        addr_npi: 0,
    };
    let mut settings = LinkSettings::default();
    settings.session.window = window;
    let (events, keep) = mpsc::channel(1);
    let (link, driver) = link(stream, Role::Esme(credentials), settings, Deaf, events).unwrap();
    tokio::spawn(async move {
        driver.run().await;
        drop(keep);
    });
    link
}

fn submits(count: usize) -> Requests {
    let mut requests = Requests::new();
    for _ in 0..count {
        let sm = Sm {
            destination_addr: b"447700900123",
            short_message: b"hi",
            ..Sm::default()
        };
        requests.push(&Body::SubmitSm(sm)).unwrap();
    }
    requests
}

async fn session(rig: &mut Rig) -> ServerSession {
    timeout(PATIENCE, rig.sessions.recv())
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn a_session_brings_requests_and_takes_deliveries() {
    let mut rig = rig(|_| {}).await;
    let link = esme(rig.address, "pw", 10).await;
    let mut session = session(&mut rig).await;
    assert_eq!(
        (session.system_id.as_str(), session.mode),
        ("acme", BindMode::Transceiver)
    );
    let sending = tokio::spawn({
        let link = link.clone();
        async move { link.send(submits(3)).await }
    });
    for id in ["a", "b", "c"] {
        let request = session.requests.recv().await.unwrap();
        request.responder.message_id(id.to_owned());
    }
    let ids: Vec<String> = timeout(PATIENCE, sending)
        .await
        .unwrap()
        .unwrap()
        .into_iter()
        .map(|a| match a {
            Answer::Answered { message_id, .. } => message_id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, ["a", "b", "c"]);
    let mut deliveries = Requests::new();
    deliveries.push(&Body::DeliverSm(Sm::default())).unwrap();
    let answers = timeout(PATIENCE, session.link.send(deliveries))
        .await
        .unwrap();
    assert!(matches!(
        answers[..],
        [Answer::Answered {
            command_status: 0,
            ..
        }]
    ));
}

#[tokio::test]
async fn a_wrong_password_is_refused_by_its_status() {
    let rig = rig(|_| {}).await;
    let link = esme(rig.address, "wrong", 10).await;
    let reason = timeout(PATIENCE, link.closed()).await.unwrap();
    assert_eq!(reason, CloseReason::BindRefused(status::ESME_RINVPASWD));
}

/// Reads until the server closes.
async fn last_words(mut stream: TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut heard))
        .await
        .unwrap();
    heard
}

#[tokio::test]
async fn who_does_not_bind_is_closed() {
    let rig = rig(|s| s.link.session.bind = Duration::from_millis(50)).await;
    let stream = TcpStream::connect(rig.address).await.unwrap();
    assert_eq!(last_words(stream).await, b"");
    assert_eq!(rig.counted(), [("bind_timeouts", 1)]);
}

#[tokio::test]
async fn half_a_pdu_is_waited_for_and_then_closed() {
    let rig = rig(|s| s.link.pdu_read = Duration::from_millis(50)).await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let began = Instant::now();
    stream.write_all(b"\0\0\0\x10\0\0").await.unwrap();
    assert_eq!(last_words(stream).await, b"");
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "the bind timer closed it"
    );
    assert_eq!(rig.counted(), [("pdu_timeouts", 1)]);
}

#[tokio::test]
async fn a_length_that_cannot_be_is_nacked_and_closed() {
    let rig = rig(|_| {}).await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(b"\xff\xff\xff\xff").await.unwrap();
    let nack = Header::parse(&last_words(stream).await).unwrap();
    assert_eq!(nack.command_id, command_id::GENERIC_NACK);
    assert_eq!(nack.command_status, status::ESME_RINVCMDLEN);
    assert_eq!(rig.counted(), [("bad_lengths", 1), ("malformed", 1)]);
}

#[tokio::test]
async fn unbound_connections_of_one_address_are_few_and_bound_ones_do_not_count() {
    let mut rig = rig(|s| s.unbound_per_ip_max = 1).await;
    let link = esme(rig.address, "pw", 10).await;
    session(&mut rig).await;
    let _first = TcpStream::connect(rig.address).await.unwrap();
    let second = TcpStream::connect(rig.address).await.unwrap();
    assert_eq!(last_words(second).await, b"");
    assert!(link.is_bound());
    assert_eq!(rig.counted(), [("unbound_floods", 1)]);
}

#[tokio::test]
async fn requests_that_nobody_reads_stop_the_peer_and_are_then_throttled() {
    let mut rig = rig(|s| {
        s.requests_queue = 2;
        s.link.overload = Duration::from_millis(50);
    })
    .await;
    let link = esme(rig.address, "pw", 10).await;
    let mut session = session(&mut rig).await;
    let sending = tokio::spawn({
        let link = link.clone();
        async move { link.send(submits(5)).await }
    });
    while link.in_flight() != 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(session.requests.len(), 2);
    for _ in 0..2 {
        let request = session.requests.recv().await.unwrap();
        request.responder.message_id("1".to_owned());
    }
    let statuses: Vec<u32> = timeout(PATIENCE, sending)
        .await
        .unwrap()
        .unwrap()
        .into_iter()
        .map(|a| match a {
            Answer::Answered { command_status, .. } => command_status,
            other => panic!("{other:?}"),
        })
        .collect();
    let throttled = status::ESME_RTHROTTLED;
    assert_eq!(statuses, [0, 0, throttled, throttled, throttled]);
    assert_eq!(rig.counted(), [("overloaded", 3)]);
}

#[tokio::test]
async fn shutdown_says_goodbye() {
    let mut rig = rig(|_| {}).await;
    let link = esme(rig.address, "pw", 10).await;
    session(&mut rig).await;
    rig.stop.send_replace(true);
    let reason = timeout(PATIENCE, link.closed()).await.unwrap();
    assert_eq!(reason, CloseReason::UnboundByPeer);
    timeout(PATIENCE, rig.server).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_bad_body_costs_its_own_request_only() {
    let rig = rig(|_| {}).await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let mut octets = Vec::new();
    let bind = Bind {
        system_id: b"acme",
        password: b"pw",
        interface_version: 0x34,
        ..Bind::default()
    };
    encode(&Pdu::request(1, Body::BindTransceiver(bind)), &mut octets).unwrap();
    octets.extend_from_slice(b"\0\0\0\x14\0\0\0\x04\0\0\0\0\0\0\0\x02\0\0\0\0");
    encode(&Pdu::request(3, Body::Unbind), &mut octets).unwrap();
    stream.write_all(&octets).await.unwrap();
    let heard = last_words(stream).await;
    let bind_resp = decode(&heard[..32]).unwrap();
    assert_eq!(bind_resp.command_id(), command_id::BIND_TRANSCEIVER_RESP);
    let refusal = Header::parse(&heard[32..]).unwrap();
    assert_eq!(refusal.command_id, command_id::SUBMIT_SM_RESP);
    assert_ne!(refusal.command_status, 0);
    assert_eq!(
        Header::parse(&heard[48..]).unwrap().command_id,
        command_id::UNBIND_RESP
    );
}

/// Binds, and submits `count` messages from sequence_number 2 on; then what `more` has.
async fn submitting(address: SocketAddr, count: u32, more: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let bind = Bind {
        system_id: b"acme",
        password: b"pw",
        interface_version: 0x34,
        ..Bind::default()
    };
    let mut octets = Vec::new();
    encode(&Pdu::request(1, Body::BindTransceiver(bind)), &mut octets).unwrap();
    for n in 0..count {
        encode(
            &Pdu::request(2 + n, Body::SubmitSm(Sm::default())),
            &mut octets,
        )
        .unwrap();
    }
    octets.extend_from_slice(more);
    stream.write_all(&octets).await.unwrap();
    stream
}

/// command_id and sequence_number of every PDU.
fn pdus(mut octets: &[u8]) -> Vec<(u32, u32)> {
    let mut all = Vec::new();
    while let Some(header) = Header::parse(octets) {
        all.push((header.command_id, header.sequence_number));
        octets = &octets[header.command_length as usize..];
    }
    all
}

#[tokio::test]
async fn who_unbinds_or_closes_one_half_has_the_answers_that_are_owed() {
    let mut rig = rig(|_| {}).await;
    let mut unbind = Vec::new();
    encode(&Pdu::request(9, Body::Unbind), &mut unbind).unwrap();
    for (more, last) in [
        (&unbind[..], Some((command_id::UNBIND_RESP, 9))),
        (b"", None),
    ] {
        let mut stream = submitting(rig.address, 2, more).await;
        if more.is_empty() {
            stream.shutdown().await.unwrap();
        }
        let mut session = session(&mut rig).await;
        let heard = tokio::spawn(last_words(stream));
        let first = session.requests.recv().await.unwrap();
        let second = session.requests.recv().await.unwrap();
        second.responder.message_id("b".to_owned());
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!heard.is_finished(), "an answer is owed");
        first.responder.message_id("a".to_owned());
        let mut expect = vec![
            (command_id::BIND_TRANSCEIVER_RESP, 1),
            (command_id::SUBMIT_SM_RESP, 3),
            (command_id::SUBMIT_SM_RESP, 2),
        ];
        expect.extend(last);
        assert_eq!(pdus(&heard.await.unwrap()), expect);
    }
    assert_eq!(rig.counted(), []);
}

#[test]
fn addresses_of_one_network_count_together() {
    let same = |a: &str, b: &str| network(a.parse().unwrap()) == network(b.parse().unwrap());
    assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff::1"));
    assert!(!same("2001:db8:1:2::1", "2001:db8:1:3::1"));
    assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
    assert!(!same("192.0.2.1", "192.0.2.2"));
}
