//! Message centres that come to us and ask to be bound (outbind, SMPP 3.4, 2.2.1 and 4.1.7): who may,
//! how long they may take to say so, and the place they get. From the bind on it is a session as any.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::CarrierEvent;
use super::smpp::{Inner, SmppCounters};
use super::smpp_seat::{Place, told_to_stop};
use crate::smpp::pdu::{Body, Framing, HEADER_LEN, decode, frame};
use crate::smpp::session::BindMode;
use crate::tls::{Acceptor, HandshakeError, Stream};

/// Where a carrier comes to, and how it is known.
#[derive(Clone)]
pub struct OutbindConfig {
    pub listen: SocketAddr,
    /// What its outbind says.
    pub system_id: String,
    pub password: String,
    /// How it is bound to then.
    pub mode: BindMode,
    /// Sessions that it may bring about.
    pub sessions: usize,
    /// Connections begin with a handshake, in which we are the server.
    pub tls: Option<Acceptor>,
}

/// From the connection to the whole outbind, a handshake included.
const GREETING: Duration = Duration::from_secs(5);
/// Connections that have not said outbind yet.
const GREETINGS_MAX: usize = 16;
/// A header, system_id and password, and room for those who exceed the specification.
const OUTBIND_MAX: usize = 256;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a connection is closed again.
#[derive(Debug)]
enum Stranger {
    Silent,
    NoOutbind,
    Unknown,
    Io(io::Error),
    Handshake(HandshakeError),
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stranger::Silent => write!(f, "no outbind within {} s", GREETING.as_secs()),
            Stranger::NoOutbind => write!(f, "something else than outbind came"),
            Stranger::Unknown => write!(f, "its outbind has another system_id or password"),
            Stranger::Io(error) => write!(f, "{error}"),
            Stranger::Handshake(error) => write!(f, "{error}"),
        }
    }
}

enum Ended {
    Greeting(Option<Stream>),
    Session(usize),
}

/// Accepts outbinds until the carrier stops; each gets one of `slots` for as long as it lasts.
pub(super) async fn listen(
    inner: Arc<Inner>,
    config: OutbindConfig,
    listener: TcpListener,
    slots: Range<usize>,
    events: mpsc::Sender<CarrierEvent>,
    mut stop: watch::Receiver<bool>,
) {
    let config = Arc::new(config);
    let mut free: Vec<usize> = slots.rev().collect();
    let mut tasks = JoinSet::new();
    let mut greetings = 0;
    loop {
        tokio::select! {
            biased;
            () = told_to_stop(&mut stop) => break,
            Some(ended) = tasks.join_next() => match ended {
                Ok(Ended::Session(slot)) => free.push(slot),
                Ok(Ended::Greeting(stream)) => {
                    greetings -= 1;
                    let Some(stream) = stream else { continue };
                    let Some(slot) = free.pop() else {
                        warn!(carrier = %inner.config.id, "an outbind found every session taken");
                        continue;
                    };
                    let place = Place { slot, mode: config.mode, host: None };
                    let (inner, events, mut stop) = (inner.clone(), events.clone(), stop.clone());
                    tasks.spawn(async move {
                        place.occupy(&inner, Box::new(stream), &events, &mut stop, || ()).await;
                        Ended::Session(slot)
                    });
                }
                // Our own bug, logged by the runtime; its place is lost.
                Err(error) => warn!(carrier = %inner.config.id, %error, "an outbind's session failed"),
            },
            accepted = listener.accept(), if greetings < GREETINGS_MAX => match accepted {
                Ok((stream, peer)) => {
                    greetings += 1;
                    let (inner, config) = (inner.clone(), config.clone());
                    tasks.spawn(async move { Ended::Greeting(greeted(&inner, &config, stream, peer).await) });
                }
                Err(error) => {
                    warn!(carrier = %inner.config.id, %error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    while tasks.join_next().await.is_some() {}
}

async fn greeted(
    inner: &Inner,
    config: &OutbindConfig,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<Stream> {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY");
    }
    let failure = match timeout(GREETING, greeting(stream, config)).await {
        Ok(Ok(stream)) => {
            info!(carrier = %inner.config.id, %peer, tls = stream.is_tls(), "outbind");
            return Some(stream);
        }
        Ok(Err(stranger)) => stranger,
        Err(_) => Stranger::Silent,
    };
    SmppCounters::count(&inner.counters.bind_failures);
    warn!(carrier = %inner.config.id, %peer, %failure, "a connection is no outbind of this carrier");
    None
}

async fn greeting(stream: TcpStream, config: &OutbindConfig) -> Result<Stream, Stranger> {
    let mut stream = match &config.tls {
        None => Stream::Plain(stream),
        Some(tls) => tls.accept(stream).await.map_err(Stranger::Handshake)?,
    };
    outbind(&mut stream, config).await?;
    Ok(stream)
}

/// Reads exactly the outbind: what follows belongs to the session.
async fn outbind(stream: &mut Stream, config: &OutbindConfig) -> Result<(), Stranger> {
    let mut octets = vec![0; HEADER_LEN];
    let read = stream.read_exact(&mut octets).await;
    read.map_err(Stranger::Io)?;
    // The header says how long the whole is, and nothing is kept before that is looked at.
    let length = u32::from_be_bytes([octets[0], octets[1], octets[2], octets[3]]) as usize;
    if !(HEADER_LEN..=OUTBIND_MAX).contains(&length) {
        return Err(Stranger::NoOutbind);
    }
    octets.resize(length, 0);
    let read = stream.read_exact(&mut octets[HEADER_LEN..]).await;
    read.map_err(Stranger::Io)?;
    if frame(&octets) != Framing::Frame(length) {
        return Err(Stranger::NoOutbind);
    }
    match decode(&octets).map(|pdu| pdu.body) {
        Ok(Body::Outbind(outbind)) => {
            let same = outbind.system_id.ct_eq(config.system_id.as_bytes())
                & outbind.password.ct_eq(config.password.as_bytes());
            if bool::from(same) {
                Ok(())
            } else {
                Err(Stranger::Unknown)
            }
        }
        Ok(_) | Err(_) => Err(Stranger::NoOutbind),
    }
}
