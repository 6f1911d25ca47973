//! An SMSC of one connection at a time, spoken by a codec that is not ours (rusmpp), and raw octets
//! for what no codec would write. Judges nothing itself: the scenarios do.

use rusmpp::pdus::{BindTransceiverResp, DeliverSm, SubmitSm, SubmitSmResp};
use rusmpp::tokio_codec::CommandCodec;
use rusmpp::types::COctetString;
use rusmpp::{Command, CommandStatus, Pdu};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

use crate::PATIENCE;

/// Listens; each accepted connection is one session.
pub struct Smsc {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Smsc {
    pub async fn listen() -> Smsc {
        Smsc::listen_on("127.0.0.1:0").await
    }

    pub async fn listen_on(address: &str) -> Smsc {
        let listener = TcpListener::bind(address).await.expect("a port");
        Smsc {
            listener,
            tls: None,
        }
    }

    /// With TLS from the first octet on.
    pub async fn listen_tls(acceptor: TlsAcceptor) -> Smsc {
        Smsc {
            tls: Some(acceptor),
            ..Smsc::listen().await
        }
    }

    pub fn address(&self) -> String {
        self.listener.local_addr().expect("an address").to_string()
    }

    /// The next connection, nothing said yet.
    pub async fn accept(&self) -> Session {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept());
        let (stream, _) = accepted
            .await
            .expect("a connection in time")
            .expect("a connection");
        let stream: Box<dyn Connection> = match &self.tls {
            None => Box::new(stream),
            Some(acceptor) => Box::new(acceptor.accept(stream).await.expect("a TLS handshake")),
        };
        Session::over(stream)
    }

    /// The next connection, bound as a transceiver. Returns its bind too.
    pub async fn bound(&self) -> (Session, Command) {
        let mut session = self.accept().await;
        let bind = session.hear().await.expect("a bind");
        session.accept(&bind).await;
        (session, bind)
    }
}

/// Plain or TLS.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

pub struct Session {
    pub stream: Box<dyn Connection>,
    codec: CommandCodec,
    input: BytesMut,
    next: u32,
}

impl Session {
    pub fn over(stream: Box<dyn Connection>) -> Session {
        Session {
            stream,
            codec: CommandCodec::new(),
            input: BytesMut::new(),
            next: 0,
        }
    }

    /// A connection of our own making, nothing said yet.
    pub async fn connect(address: &str) -> Session {
        let stream = TcpStream::connect(address).await;
        Session::over(Box::new(stream.expect("a connection")))
    }

    /// Accepts a bind_transceiver.
    pub async fn accept(&mut self, bind: &Command) {
        let name = COctetString::from_slice(b"independent\0").expect("a system_id");
        let answer = BindTransceiverResp::new(name, None);
        self.say(CommandStatus::EsmeRok, bind.sequence_number, answer)
            .await;
    }

    /// The next PDU, as the independent codec reads it; none at the end of the connection.
    pub async fn hear(&mut self) -> Option<Command> {
        loop {
            if let Some(command) = self.codec.decode(&mut self.input).expect("a readable PDU") {
                return Some(command);
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.input));
            match read.await.expect("a PDU in time") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next PDU but for enquire_link, which is answered.
    pub async fn hear_request(&mut self) -> Command {
        loop {
            let command = self.hear().await.expect("an open connection");
            if !matches!(command.pdu(), Some(Pdu::EnquireLink)) {
                return command;
            }
            self.say(
                CommandStatus::EsmeRok,
                command.sequence_number,
                Pdu::EnquireLinkResp,
            )
            .await;
        }
    }

    /// The next submit_sm and its sequence_number.
    pub async fn hear_submit(&mut self) -> (u32, SubmitSm) {
        let command = self.hear_request().await;
        match command.pdu() {
            Some(Pdu::SubmitSm(sm)) => (command.sequence_number, sm.clone()),
            _ => panic!("no submit_sm but {command:?}"),
        }
    }

    pub async fn say(&mut self, status: CommandStatus, sequence: u32, pdu: impl Into<Pdu>) {
        let mut out = BytesMut::new();
        self.codec
            .encode(Command::new(status, sequence, pdu), &mut out)
            .expect("an encoded PDU");
        self.stream
            .write_all(&out)
            .await
            .expect("an open connection");
        self.stream.flush().await.expect("an open connection");
    }

    /// The same where the connection may be gone.
    pub async fn try_say(&mut self, command: Command) -> Option<()> {
        let mut out = BytesMut::new();
        self.codec.encode(command, &mut out).ok()?;
        self.stream.write_all(&out).await.ok()
    }

    /// ESME_ROK with `message_id`.
    pub async fn take(&mut self, sequence: u32, message_id: &str) {
        let id = COctetString::from_string(message_id.to_owned()).expect("a message_id");
        self.say(
            CommandStatus::EsmeRok,
            sequence,
            SubmitSmResp::new(id, Vec::new()),
        )
        .await;
    }

    /// Sends a deliver_sm and returns how it was answered.
    pub async fn deliver(&mut self, sm: DeliverSm) -> CommandStatus {
        self.next += 1;
        let sequence = self.next;
        self.say(CommandStatus::EsmeRok, sequence, sm).await;
        let answer = self.hear_request().await;
        assert!(
            matches!(answer.pdu(), Some(Pdu::DeliverSmResp(_))),
            "{answer:?}"
        );
        assert_eq!(answer.sequence_number, sequence);
        answer.status
    }
}
