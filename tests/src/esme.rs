//! A customer's ESME: writes what it is told to, reads with a codec that is not ours (rusmpp). Judges
//! nothing itself: the scenarios do.

use std::collections::VecDeque;
use std::net::SocketAddr;

use heliograph::smpp::pdu::{self, Bind, Body, Sm};
use rusmpp::pdus::DeliverSm;
use rusmpp::{Command, CommandId, CommandStatus, Pdu};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::PATIENCE;
use crate::smsc::{Connection, Session};

/// How a bind goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Transmitter,
    Receiver,
    Transceiver,
}

pub struct Esme {
    pub session: Session,
    next: u32,
    /// deliver_sm that came while something else was waited for, with their sequence numbers.
    deliveries: VecDeque<(u32, DeliverSm)>,
}

impl Esme {
    pub async fn connect(address: &str) -> Esme {
        let stream = TcpStream::connect(address).await.expect("a connection");
        Esme::over(Box::new(stream))
    }

    /// From another loopback address than the usual one.
    pub async fn connect_from(address: &str, source: [u8; 4]) -> Esme {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .bind(SocketAddr::from((source, 0)))
            .expect("a loopback address");
        let address = address.parse().expect("an address");
        Esme::over(Box::new(
            socket.connect(address).await.expect("a connection"),
        ))
    }

    /// On a connection that somebody else made.
    pub fn over(stream: Box<dyn Connection>) -> Esme {
        Esme {
            session: Session::over(stream),
            next: 0,
            deliveries: VecDeque::new(),
        }
    }

    /// Connects and binds; fails where it is refused.
    pub async fn bound(address: &str, mode: Mode, system_id: &str) -> Esme {
        let mut esme = Esme::connect(address).await;
        let status = esme.bind(mode, system_id, "secret").await;
        assert_eq!(status, CommandStatus::EsmeRok, "{system_id}");
        esme
    }

    pub async fn bind(&mut self, mode: Mode, system_id: &str, password: &str) -> CommandStatus {
        let bind = Bind {
            system_id: system_id.as_bytes(),
            password: password.as_bytes(),
            interface_version: 0x34,
            ..Bind::default()
        };
        let body = match mode {
            Mode::Transmitter => Body::BindTransmitter(bind),
            Mode::Receiver => Body::BindReceiver(bind),
            Mode::Transceiver => Body::BindTransceiver(bind),
        };
        self.ask(&body).await.status
    }

    /// Sends one request; returns its sequence_number.
    pub async fn send(&mut self, body: &Body<'_>) -> u32 {
        self.next += 1;
        let octets = encoded(self.next, body);
        self.write(&octets).await;
        self.next
    }

    pub async fn write(&mut self, octets: &[u8]) {
        let written = self.session.stream.write_all(octets).await;
        written.expect("an open connection");
    }

    /// Sends one request and waits for its answer.
    pub async fn ask(&mut self, body: &Body<'_>) -> Command {
        let sequence = self.send(body).await;
        loop {
            let command = self.response().await;
            if command.sequence_number == sequence {
                return command;
            }
        }
    }

    /// The next response to anything. What is delivered meanwhile waits; enquire_link is answered.
    pub async fn response(&mut self) -> Command {
        loop {
            let command = self.session.hear_request().await;
            match command.pdu() {
                Some(Pdu::DeliverSm(sm)) => {
                    let delivery = (command.sequence_number, sm.clone());
                    self.deliveries.push_back(delivery);
                }
                _ => return command,
            }
        }
    }

    /// Submits and returns the message_id; fails where it is refused.
    pub async fn submit(&mut self, sm: &Sm<'_>) -> String {
        let answer = self.ask(&Body::SubmitSm(*sm)).await;
        assert_eq!(answer.status, CommandStatus::EsmeRok, "{sm:?}");
        message_id(&answer)
    }

    /// Submits and returns how it was refused.
    pub async fn refused(&mut self, sm: &Sm<'_>) -> CommandStatus {
        let answer = self.ask(&Body::SubmitSm(*sm)).await;
        assert_eq!(answer.id(), CommandId::SubmitSmResp);
        answer.status
    }

    /// The next deliver_sm, answered with `status`.
    pub async fn delivery(&mut self, status: CommandStatus) -> DeliverSm {
        let (sequence, sm) = self.unanswered_delivery().await;
        let resp = rusmpp::pdus::DeliverSmResp::default();
        self.session.say(status, sequence, resp).await;
        sm
    }

    /// A deliver_sm that came while something else was waited for, answered now.
    pub async fn delivery_at_hand(&mut self) -> Option<DeliverSm> {
        if self.deliveries.is_empty() {
            return None;
        }
        Some(self.delivery(CommandStatus::EsmeRok).await)
    }

    pub async fn unanswered_delivery(&mut self) -> (u32, DeliverSm) {
        if let Some(delivery) = self.deliveries.pop_front() {
            return delivery;
        }
        let command = self.session.hear_request().await;
        match command.pdu() {
            Some(Pdu::DeliverSm(sm)) => (command.sequence_number, sm.clone()),
            _ => panic!("no deliver_sm but {command:?}"),
        }
    }

    /// Says unbind and waits for the end of the connection.
    pub async fn unbind(mut self) {
        assert_eq!(self.ask(&Body::Unbind).await.id(), CommandId::UnbindResp);
        let end = tokio::time::timeout(PATIENCE, self.session.hear()).await;
        assert!(end.expect("the server closes").is_none());
    }
}

/// One PDU as octets.
pub fn encoded(sequence: u32, body: &Body<'_>) -> Vec<u8> {
    let mut octets = Vec::new();
    pdu::encode(&pdu::Pdu::request(sequence, *body), &mut octets).expect("a PDU");
    octets
}

/// The message_id of a submit_sm_resp or data_sm_resp.
pub fn message_id(answer: &Command) -> String {
    match answer.pdu() {
        Some(Pdu::SubmitSmResp(resp)) => resp.message_id().as_str().to_owned(),
        Some(Pdu::DataSmResp(resp)) => resp.message_id().as_str().to_owned(),
        other => panic!("no response with a message_id but {other:?}"),
    }
}
