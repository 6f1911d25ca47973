//! The message centre's side: accepts connections, has binds judged, and hands each bound session to
//! its owner as a stream of requests and a [`Link`] for deliveries. What a request means is the owner's.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::link::{
    BindLimits, Inlet, Link, LinkSettings, LinkState, Reaction, Responder, link, now,
};
use super::pdu::{Bind, Body, DecodeError, Pdu, decode};
use super::session::{BindMode, Counters, Role};
use super::status;
use super::wire::WireFaults;
use crate::tls::{Acceptor, Stream};

#[derive(Clone, Copy, Debug)]
pub struct ServerSettings {
    pub link: LinkSettings,
    /// Connections in all. Beyond it nobody is accepted until one ends.
    pub connections_max: usize,
    /// Connections that have not bound, in all and from one address (or /64 of IPv6): closed at once
    /// beyond it.
    pub unbound_max: usize,
    pub unbound_per_ip_max: usize,
    /// Requests of one session that wait for its owner.
    pub requests_queue: usize,
    /// Time for sessions to say goodbye when the server ends.
    pub drain: Duration,
}

impl Default for ServerSettings {
    fn default() -> ServerSettings {
        let mut link = LinkSettings {
            overload_status: status::ESME_RTHROTTLED,
            ..LinkSettings::default()
        };
        link.session.bind = Duration::from_secs(5);
        ServerSettings {
            link,
            connections_max: 4096,
            unbound_max: 1024,
            unbound_per_ip_max: 64,
            requests_queue: 256,
            drain: Duration::from_secs(5),
        }
    }
}

/// Judges binds. Called on a connection's task: may not block.
pub trait Authenticate: Send + Sync + 'static {
    /// The command_status to refuse with, as an error.
    fn authenticate(
        &self,
        peer: SocketAddr,
        mode: BindMode,
        bind: &Bind<'_>,
    ) -> Result<Admission, u32>;
}

/// A bind that was let in.
#[derive(Clone, Default)]
pub struct Admission {
    pub limits: BindLimits,
    /// Kept for as long as the connection lasts: whatever counts binds gives its place back when
    /// this is dropped.
    pub place: Option<Arc<dyn std::any::Any + Send + Sync>>,
}

/// Any function that says yes or no will do.
impl<F> Authenticate for F
where
    F: Fn(SocketAddr, BindMode, &Bind<'_>) -> Result<(), u32> + Send + Sync + 'static,
{
    fn authenticate(
        &self,
        peer: SocketAddr,
        mode: BindMode,
        bind: &Bind<'_>,
    ) -> Result<Admission, u32> {
        self(peer, mode, bind).map(|()| Admission::default())
    }
}

/// A bound session.
#[derive(Debug)]
pub struct ServerSession {
    /// Counts up from 1 in this server's life.
    pub id: u64,
    pub peer: SocketAddr,
    pub tls: bool,
    pub mode: BindMode,
    pub system_id: String,
    pub system_type: String,
    pub interface_version: u8,
    /// For deliver_sm and for closing.
    pub link: Link,
    /// Ends when the session does. Left unread, the peer is stopped and then throttled.
    pub requests: mpsc::Receiver<Request>,
}

/// A request that is owed an answer: submit_sm, data_sm, query_sm, cancel_sm, replace_sm, submit_multi.
pub struct Request {
    frame: Bytes,
    pub responder: Responder,
}

impl Request {
    pub fn pdu(&self) -> Result<Pdu<'_>, DecodeError> {
        decode(&self.frame)
    }

    /// The PDU's octets; its sequence_number is not kept.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    pub fn into_parts(self) -> (Bytes, Responder) {
        (self.frame, self.responder)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("octets", &self.frame.len())
            .finish_non_exhaustive()
    }
}

/// Serves until `shutdown` turns true or its sender is gone; then unbinds all sessions and returns.
/// Survives every error of `accept`. With `tls` every connection begins with a handshake, which
/// counts towards the time to bind. What goes wrong on the wire is added to `faults`.
pub async fn serve(
    listener: TcpListener,
    settings: ServerSettings,
    tls: Option<Acceptor>,
    authenticate: Arc<dyn Authenticate>,
    sessions: mpsc::Sender<ServerSession>,
    faults: Arc<WireFaults>,
    mut shutdown: watch::Receiver<bool>,
) {
    let unbound = Arc::new(Unbound {
        settings,
        waiting: Mutex::new(HashMap::new()),
    });
    let mut connections = JoinSet::new();
    let mut next_id = 1;
    let mut back_off = ACCEPT_BACK_OFF_MIN;
    loop {
        let full = connections.len() >= settings.connections_max;
        tokio::select! {
            biased;
            () = told_to_stop(&mut shutdown) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if !full => match accepted {
                Ok((stream, peer)) => {
                    back_off = ACCEPT_BACK_OFF_MIN;
                    if !unbound.enter(peer.ip()) {
                        WireFaults::one(&faults.unbound_floods);
                        debug!(%peer, "too many unbound connections: closed");
                        continue;
                    }
                    let connection = Connection {
                        id: next_id,
                        peer,
                        settings,
                        tls: tls.clone(),
                        authenticate: Arc::clone(&authenticate),
                        sessions: sessions.clone(),
                        faults: Arc::clone(&faults),
                        unbound: Arc::clone(&unbound),
                    };
                    next_id += 1;
                    connections.spawn(connection.run(stream, shutdown.clone()));
                }
                // EMFILE, ENFILE, ECONNABORTED: none of them is a reason to stop serving.
                Err(error) => {
                    warn!(%error, retry_ms = back_off.as_millis(), "accept failed");
                    tokio::select! {
                        () = sleep(back_off) => {}
                        () = told_to_stop(&mut shutdown) => break,
                    }
                    back_off = (back_off * 2).min(ACCEPT_BACK_OFF_MAX);
                }
            },
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(settings.drain, drained).await.is_err() {
        connections.shutdown().await;
    }
}

const ACCEPT_BACK_OFF_MIN: Duration = Duration::from_millis(5);
const ACCEPT_BACK_OFF_MAX: Duration = Duration::from_secs(1);

struct Connection {
    id: u64,
    peer: SocketAddr,
    settings: ServerSettings,
    tls: Option<Acceptor>,
    authenticate: Arc<dyn Authenticate>,
    sessions: mpsc::Sender<ServerSession>,
    faults: Arc<WireFaults>,
    unbound: Arc<Unbound>,
}

impl Connection {
    async fn run(self, stream: TcpStream, mut shutdown: watch::Receiver<bool>) {
        let Connection {
            id,
            peer,
            settings,
            tls,
            authenticate,
            sessions,
            faults,
            unbound,
        } = self;
        let connected = now();
        // Without it small responses wait for the peer's acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "TCP_NODELAY");
        }
        let stream = match tls {
            None => Ok(Stream::Plain(stream)),
            Some(tls) => tokio::select! {
                stream = tls.accept(stream) => stream.map_err(|error| {
                    faults.no_tls(&error);
                    error.to_string()
                }),
                () = told_to_stop(&mut shutdown) => Err("the server ends".to_owned()),
            },
        };
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                unbound.leave(peer.ip());
                debug!(%peer, %error, "no TLS");
                return;
            }
        };
        let tls = stream.is_tls();
        let (events, requests) = mpsc::channel(settings.requests_queue.max(1));
        let (identity, identified) = watch::channel(None);
        let inlet = Gate {
            peer,
            authenticate,
            identity,
            faults: Arc::clone(&faults),
        };
        let mut link_settings = settings.link;
        let bind = &mut link_settings.session.bind;
        *bind = bind.saturating_sub(now().duration_since(connected));
        let (link, driver) = match link(stream, Role::Smsc, link_settings, inlet, events) {
            Ok(pair) => pair,
            Err(error) => {
                unbound.leave(peer.ip());
                warn!(%peer, %error, "no session");
                return;
            }
        };
        let driver = driver.run();
        tokio::pin!(driver);
        let ended = tokio::select! {
            biased;
            reason = &mut driver => Some(reason),
            state = link.settled() => match state {
                LinkState::Closed(_) => Some(driver.as_mut().await),
                LinkState::Binding | LinkState::Bound => None,
            },
            () = told_to_stop(&mut shutdown) => {
                link.abort();
                Some(driver.as_mut().await)
            }
        };
        unbound.leave(peer.ip());
        if let Some(reason) = ended {
            faults.ended(reason);
        }
        let identity: Option<Identity> = identified.borrow().clone();
        let (None, Some(identity)) = (ended, identity) else {
            debug!(%peer, "a connection ended that never bound");
            return;
        };
        let session = identity.session(id, peer, tls, link.clone(), requests);
        let attend = async {
            if sessions.send(session).await.is_err() {
                link.abort();
                return;
            }
            told_to_stop(&mut shutdown).await;
            link.unbind();
        };
        let reason = tokio::select! {
            biased;
            reason = &mut driver => reason,
            () = attend => driver.await,
        };
        faults.ended(reason);
        debug!(%peer, %reason, "session ended");
    }
}

/// Also when whoever could tell us is gone.
async fn told_to_stop(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

#[derive(Clone)]
struct Identity {
    /// Until the connection ends.
    _place: Option<Arc<dyn std::any::Any + Send + Sync>>,
    mode: BindMode,
    system_id: String,
    system_type: String,
    interface_version: u8,
}

impl Identity {
    fn session(
        self,
        id: u64,
        peer: SocketAddr,
        tls: bool,
        link: Link,
        requests: mpsc::Receiver<Request>,
    ) -> ServerSession {
        ServerSession {
            id,
            peer,
            tls,
            mode: self.mode,
            system_id: self.system_id,
            system_type: self.system_type,
            interface_version: self.interface_version,
            link,
            requests,
        }
    }
}

/// A connection's inlet: asks who is there, passes requests on whole.
struct Gate {
    peer: SocketAddr,
    authenticate: Arc<dyn Authenticate>,
    identity: watch::Sender<Option<Identity>>,
    faults: Arc<WireFaults>,
}

impl Inlet for Gate {
    type Event = Request;

    fn bind(&mut self, mode: BindMode, bind: &Bind<'_>) -> Result<BindLimits, u32> {
        let admission = self.authenticate.authenticate(self.peer, mode, bind)?;
        self.identity.send_replace(Some(Identity {
            _place: admission.place,
            mode,
            system_id: String::from_utf8_lossy(bind.system_id).into_owned(),
            system_type: String::from_utf8_lossy(bind.system_type).into_owned(),
            interface_version: bind.interface_version,
        }));
        Ok(admission.limits)
    }

    fn counted(&mut self, more: &Counters) {
        self.faults.counted(more);
    }

    fn request(
        &mut self,
        frame: &Bytes,
        _body: &Body<'_>,
        responder: Responder,
    ) -> Reaction<Request> {
        Reaction::Forward(Request {
            frame: frame.clone(),
            responder,
        })
    }
}

/// One subscriber of IPv6 has a /64 at least: his addresses count as one.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

/// Counts connections that have not bound.
struct Unbound {
    settings: ServerSettings,
    waiting: Mutex<HashMap<IpAddr, usize>>,
}

impl Unbound {
    fn enter(&self, ip: IpAddr) -> bool {
        let ip = network(ip);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = waiting.values().sum();
        let here = waiting.get(&ip).copied().unwrap_or(0);
        if all >= self.settings.unbound_max || here >= self.settings.unbound_per_ip_max {
            return false;
        }
        waiting.insert(ip, here + 1);
        true
    }

    fn leave(&self, ip: IpAddr) {
        let ip = network(ip);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.get_mut(&ip) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => {
                waiting.remove(&ip);
            }
            None => {}
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
