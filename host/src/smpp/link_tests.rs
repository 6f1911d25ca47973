//! Links over memory pipes; timers that are to run out are short, all others long.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::super::pdu::{BindResp, Framing, Header, Sm, SmResp, command_id, decode, frame, tag};
use super::super::session::{Credentials, INTERFACE_VERSION};
use super::*;

const SHORT: Duration = Duration::from_millis(50);

struct Keep;

impl Inlet for Keep {
    type Event = Responder;

    fn bind(&mut self, _: BindMode, _: &Bind<'_>) -> Result<BindLimits, u32> {
        Ok(BindLimits::default())
    }

    fn request(&mut self, _: &Bytes, _: &Body<'_>, responder: Responder) -> Reaction<Responder> {
        Reaction::Forward(responder)
    }
}

/// The far end, spoken by hand.
struct Peer {
    stream: DuplexStream,
    buffer: Vec<u8>,
}

impl Peer {
    async fn hear(&mut self) -> Header {
        loop {
            if let Framing::Frame(length) = frame(&self.buffer) {
                let header = Header::parse(&self.buffer).unwrap();
                self.buffer.drain(..length);
                return header;
            }
            let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert_ne!(read, 0, "closed");
        }
    }

    async fn say(&mut self, sequence_number: u32, command_status: u32, body: Body<'_>) {
        let mut octets = Vec::new();
        encode(
            &Pdu::response(sequence_number, command_status, body),
            &mut octets,
        )
        .unwrap();
        self.stream.write_all(&octets).await.unwrap();
    }
}

struct Rig {
    link: Link,
    peer: Peer,
    events: mpsc::Receiver<Responder>,
}

async fn rig(pipe: usize, change: impl FnOnce(&mut LinkSettings)) -> Rig {
    let (near, far) = duplex(pipe);
    let mut settings = LinkSettings::default();
    change(&mut settings);
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
    let (sender, events) = mpsc::channel(1);
    let (link, driver) = link(near, Role::Esme(credentials), settings, Keep, sender).unwrap();
    tokio::spawn(driver.run());
    let mut peer = Peer {
        stream: far,
        buffer: Vec::new(),
    };
    assert_eq!(peer.hear().await.command_id, command_id::BIND_TRANSCEIVER);
    peer.say(1, 0, Body::BindTransceiverResp(BindResp::default()))
        .await;
    assert_eq!(link.settled().await, LinkState::Bound);
    Rig { link, peer, events }
}

fn submits(count: usize) -> Requests {
    let mut requests = Requests::new();
    for _ in 0..count {
        let sm = Sm {
            destination_addr: b"447700900123",
            short_message: &[b'x'; 150],
            ..Sm::default()
        };
        requests.push(&Body::SubmitSm(sm)).unwrap();
    }
    requests
}

fn sending(link: &Link, count: usize) -> tokio::task::JoinHandle<Vec<Answer>> {
    let link = link.clone();
    tokio::spawn(async move { link.send(submits(count)).await })
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_requests() {
    let mut rig = rig(64 * 1024, |_| {}).await;
    let sending = sending(&rig.link, 2);
    let (first, second) = (rig.peer.hear().await, rig.peer.hear().await);
    for (header, message_id) in [(second, &b"two"[..]), (first, b"one")] {
        let resp = SmResp {
            message_id,
            ..SmResp::default()
        };
        rig.peer
            .say(header.sequence_number, 0, Body::SubmitSmResp(resp))
            .await;
    }
    let answered = |message_id: &str| Answer::Answered {
        command_status: 0,
        message_id: message_id.to_owned(),
    };
    assert_eq!(sending.await.unwrap(), [answered("one"), answered("two")]);
}

#[tokio::test]
async fn an_id_beyond_all_measure_is_none() {
    let mut rig = rig(64 * 1024, |_| {}).await;
    let sending = sending(&rig.link, 1);
    let sequence_number = rig.peer.hear().await.sequence_number;
    let mut octets = Vec::new();
    for word in [16 + 5000, command_id::SUBMIT_SM_RESP, 0, sequence_number] {
        octets.extend_from_slice(&word.to_be_bytes());
    }
    octets.extend_from_slice(&[b'7'; 5000]);
    rig.peer.stream.write_all(&octets).await.unwrap();
    let taken = Answer::Answered {
        command_status: 0,
        message_id: String::new(),
    };
    assert_eq!(sending.await.unwrap(), [taken]);
}

#[tokio::test]
async fn at_the_end_every_request_has_its_answer() {
    let mut rig = rig(64 * 1024, |s| s.session.window = 2).await;
    let half_sent = sending(&rig.link, 3);
    rig.peer.hear().await;
    rig.peer.hear().await;
    let waiting = sending(&rig.link, 1);
    tokio::task::yield_now().await;
    drop(rig.peer);
    assert_eq!(
        half_sent.await.unwrap(),
        [Answer::Lost, Answer::Lost, Answer::Unsent]
    );
    assert_eq!(waiting.await.unwrap(), [Answer::Unsent]);
    assert_eq!(rig.link.closed().await, CloseReason::ClosedByPeer);
    assert_eq!(rig.link.send(submits(1)).await, [Answer::Unsent]);
}

#[tokio::test]
async fn a_request_without_an_answer_times_out_and_frees_its_place() {
    let mut rig = rig(64 * 1024, |s| {
        s.session.window = 1;
        s.session.response = SHORT;
    })
    .await;
    let sending = sending(&rig.link, 2);
    rig.peer.hear().await;
    assert_eq!(rig.peer.hear().await.command_id, command_id::SUBMIT_SM);
    assert_eq!(sending.await.unwrap(), [Answer::TimedOut, Answer::TimedOut]);
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_left() {
    let rig = rig(256, |s| {
        s.session.window = 1000;
        s.write_stall = SHORT;
        s.linger = SHORT;
    })
    .await;
    let sending = sending(&rig.link, 100);
    assert_eq!(rig.link.closed().await, CloseReason::WriteTimeout);
    let answers = sending.await.unwrap();
    assert_eq!(answers.first(), Some(&Answer::Lost));
    assert_eq!(answers.last(), Some(&Answer::Unsent));
}

#[tokio::test]
async fn a_full_events_channel_stops_the_reading_and_then_refuses() {
    let mut rig = rig(64 * 1024, |s| s.overload = SHORT).await;
    for sequence_number in 1..=3 {
        rig.peer
            .say(sequence_number, 0, Body::DeliverSm(Sm::default()))
            .await;
    }
    let began = Instant::now();
    for _ in 0..2 {
        let refusal = rig.peer.hear().await;
        assert_eq!(refusal.command_status, status::ESME_RMSGQFUL);
    }
    assert!(began.elapsed() >= SHORT);
    rig.events.recv().await.unwrap().status(status::ESME_ROK);
    let taken = rig.peer.hear().await;
    assert_eq!((taken.sequence_number, taken.command_status), (1, 0));
    rig.peer.say(4, 0, Body::DeliverSm(Sm::default())).await;
    rig.events.recv().await.unwrap().message_id("7".to_owned());
    assert_eq!(rig.peer.hear().await.sequence_number, 4);
}

#[tokio::test]
async fn a_short_stall_of_the_consumer_refuses_nothing() {
    let mut rig = rig(64 * 1024, |s| s.overload = Duration::from_secs(600)).await;
    for sequence_number in 1..=3 {
        rig.peer
            .say(sequence_number, 0, Body::DeliverSm(Sm::default()))
            .await;
    }
    tokio::time::sleep(SHORT).await;
    for sequence_number in 1..=3 {
        rig.events.recv().await.unwrap().status(status::ESME_ROK);
        let taken = rig.peer.hear().await;
        assert_eq!(
            (taken.sequence_number, taken.command_status),
            (sequence_number, 0)
        );
    }
}

#[tokio::test]
async fn unanswered_requests_are_bounded_in_octets() {
    let mut rig = rig(64 * 1024, |s| {
        s.request_octets_max = 100;
        s.overload = SHORT;
    })
    .await;
    let large = Sm {
        short_message: &[b'x'; 90],
        ..Sm::default()
    };
    // With its header it is larger than the room: taken, and the last for now.
    rig.peer.say(1, 0, Body::DeliverSm(large)).await;
    let first = rig.events.recv().await.unwrap();
    rig.peer.say(2, 0, Body::DeliverSm(Sm::default())).await;
    let refused = rig.peer.hear().await;
    assert_eq!(
        (refused.sequence_number, refused.command_status),
        (2, status::ESME_RMSGQFUL)
    );
    first.status(status::ESME_ROK);
    assert_eq!(rig.peer.hear().await.sequence_number, 1);
    rig.peer.say(3, 0, Body::DeliverSm(large)).await;
    rig.events.recv().await.unwrap().status(status::ESME_ROK);
    let taken = rig.peer.hear().await;
    assert_eq!((taken.sequence_number, taken.command_status), (3, 0));
}

#[tokio::test]
async fn a_dropped_responder_gives_its_place_back() {
    let mut rig = rig(64 * 1024, |s| s.requests_max = 1).await;
    rig.peer.say(1, 0, Body::DeliverSm(Sm::default())).await;
    drop(rig.events.recv().await);
    rig.peer.say(2, 0, Body::DeliverSm(Sm::default())).await;
    rig.events.recv().await.unwrap().status(status::ESME_ROK);
    assert_eq!(rig.peer.hear().await.sequence_number, 2);
}

#[tokio::test]
async fn a_response_may_have_any_body() {
    let mut rig = rig(64 * 1024, |_| {}).await;
    rig.peer.say(1, 0, Body::DataSm(Default::default())).await;
    let responder = rig.events.recv().await.unwrap();
    assert_eq!(responder.command_id(), command_id::DATA_SM);
    let mut tlvs = super::super::pdu::TlvBuf::new();
    tlvs.push(tag::DELIVERY_FAILURE_REASON, &[1]).unwrap();
    let resp = SmResp {
        message_id: b"7",
        tlvs: tlvs.as_tlvs(),
    };
    responder.body(0, &Body::DataSmResp(resp)).unwrap();
    while !matches!(frame(&rig.peer.buffer), Framing::Frame(_)) {
        rig.peer
            .stream
            .read_buf(&mut rig.peer.buffer)
            .await
            .unwrap();
    }
    let heard = decode(&rig.peer.buffer).unwrap();
    assert_eq!(
        (heard.sequence_number, heard.body),
        (1, Body::DataSmResp(resp))
    );
}

#[tokio::test]
async fn a_pdu_that_does_not_end_ends_the_link() {
    let mut rig = rig(64 * 1024, |s| s.pdu_read = SHORT).await;
    rig.peer.stream.write_all(b"\0\0\0\x20").await.unwrap();
    assert_eq!(rig.link.closed().await, CloseReason::PduTimeout);
}

#[tokio::test]
async fn a_pdu_in_single_octets_is_one_pdu() {
    let mut rig = rig(64 * 1024, |_| {}).await;
    for octet in b"\0\0\0\x10\0\0\0\x15\0\0\0\0\0\0\0\x05" {
        rig.peer.stream.write_all(&[*octet]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let heard = rig.peer.hear().await;
    assert_eq!(
        (heard.command_id, heard.sequence_number),
        (command_id::ENQUIRE_LINK_RESP, 5)
    );
}

#[tokio::test]
async fn unbind_is_a_handshake() {
    let mut rig = rig(64 * 1024, |_| {}).await;
    rig.link.unbind();
    let heard = rig.peer.hear().await;
    assert_eq!(heard.command_id, command_id::UNBIND);
    rig.peer
        .say(heard.sequence_number, 0, Body::UnbindResp)
        .await;
    assert_eq!(rig.link.closed().await, CloseReason::Unbound);
}

#[tokio::test]
async fn a_question_gets_its_whole_response_and_shares_the_window_with_messages() {
    use super::super::pdu::{QuerySm, QuerySmResp};
    let mut rig = rig(64 * 1024, |_| {}).await;
    let link = rig.link.clone();
    let asking = tokio::spawn(async move {
        let query = QuerySm {
            message_id: b"42",
            ..QuerySm::default()
        };
        link.ask(&Body::QuerySm(query)).await
    });
    let heard = rig.peer.hear().await;
    assert_eq!(heard.command_id, command_id::QUERY_SM);
    assert_eq!(rig.link.in_flight(), 1);
    let resp = QuerySmResp {
        message_id: b"42",
        message_state: 2,
        ..QuerySmResp::default()
    };
    rig.peer
        .say(heard.sequence_number, 0, Body::QuerySmResp(resp))
        .await;
    let response = asking.await.unwrap().unwrap();
    assert_eq!(response.pdu().unwrap().body, Body::QuerySmResp(resp));

    let link = rig.link.clone();
    let asking = tokio::spawn(async move { link.ask(&Body::CancelSm(Default::default())).await });
    rig.peer.hear().await;
    drop(rig.peer);
    assert_eq!(asking.await.unwrap().unwrap_err(), Answer::Lost);
    let query = Body::QuerySm(QuerySm::default());
    assert_eq!(rig.link.ask(&query).await.unwrap_err(), Answer::Unsent);
}

#[tokio::test]
async fn the_congestion_state_of_a_response_is_told() {
    let mut rig = rig(64 * 1024, |_| {}).await;
    assert_eq!(rig.link.congestion(), None);
    for (state, told) in [(&[85][..], 85), (&[200], 100), (&[0], 0)] {
        let sending = sending(&rig.link, 1);
        let sequence_number = rig.peer.hear().await.sequence_number;
        let mut tlvs = super::super::pdu::TlvBuf::new();
        tlvs.push(tag::CONGESTION_STATE, state).unwrap();
        let resp = SmResp {
            message_id: b"7",
            tlvs: tlvs.as_tlvs(),
        };
        rig.peer
            .say(sequence_number, 0, Body::SubmitSmResp(resp))
            .await;
        sending.await.unwrap();
        assert_eq!(rig.link.congestion(), Some(told));
    }
}
