//! The accept loop: connections are counted, bounded in number and in time, and served over HTTP/1.1,
//! with TLS or without. Owns sockets and deadlines; knows no routes. Deadlines are one atomic per connection that a single
//! task looks at, so that a request costs no timer. Where every place is taken, the address that has most of
//! them gives some up.

mod turns;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONNECTION, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use axum::response::IntoResponse as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::AbortHandle;
use tower::Service as _;

use self::turns::Turns;
use super::problem::{Code, Problem};
use crate::smpp::server::network;
use crate::tls::{self, Acceptor, Stream};

/// How long the accept loop rests after an error such as EMFILE, which does not pass by itself.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(50);
/// How long a newcomer waits for the place that another is told to leave.
const ROOM_WAIT: Duration = Duration::from_millis(200);
/// Where nobody could be told to leave, nobody is looked for so long.
const ROOM_PAUSE: Duration = Duration::from_millis(100);
/// Octets of a request's head and of one read.
const BUFFER_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 64;

/// Bounds of one listener.
#[derive(Clone, Debug)]
pub struct EdgeLimits {
    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    /// From the connection, or the end of its TLS handshake, to its first octet.
    pub first_byte: Duration,
    /// From a request's first octet to the end of its head.
    pub head: Duration,
    /// From a request's head to its answer: body and work together.
    pub request: Duration,
    /// Between two requests, and for the client to take the answer.
    pub idle: Duration,
    /// What is under way when the server stops may take this long.
    pub shutdown: Duration,
}

impl Default for EdgeLimits {
    fn default() -> EdgeLimits {
        EdgeLimits {
            max_connections: 10_000,
            max_connections_per_ip: 1_000,
            first_byte: Duration::from_secs(5),
            head: Duration::from_secs(10),
            request: Duration::from_secs(120),
            idle: Duration::from_secs(75),
            shutdown: Duration::from_secs(10),
        }
    }
}

/// The other side of the connection, found in a request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Counters of all listeners together.
#[derive(Debug, Default)]
pub struct EdgeStats {
    pub open: AtomicUsize,
    pub accepted: AtomicU64,
    /// Closed at once: too many connections, or too many of one address.
    pub refused_total: AtomicU64,
    pub refused_per_ip: AtomicU64,
    /// Closed between requests to make room for somebody who had fewer.
    pub made_room: AtomicU64,
    /// Closed because a deadline passed.
    pub timed_out: AtomicU64,
    /// Closed because no TLS came about, in time or at all.
    pub handshakes_failed: AtomicU64,
    pub accept_errors: AtomicU64,
}

/// Serves `router` until `stop` turns true; then lets what is under way finish. With `tls` every
/// connection begins with a handshake, which counts as a connection from its first octet.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Acceptor>,
    router: Router,
    limits: EdgeLimits,
    stats: Arc<EdgeStats>,
    mut stop: watch::Receiver<bool>,
) {
    let max = limits.max_connections.clamp(1, u32::MAX as usize >> 3);
    let places = Arc::new(Semaphore::new(max));
    let connections = Arc::new(Connections {
        start: Instant::now(),
        all: Mutex::default(),
        per_ip: Mutex::default(),
        turns: Turns::default(),
    });
    let sweeper = tokio::spawn(sweep(connections.clone(), stats.clone()));
    let mut full = Full {
        until: Instant::now(),
        own: 0,
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let ip = network(peer.ip());
                let mut place = places.clone().try_acquire_owned().ok();
                if place.is_none() && connections.make_room(ip, &mut full, &stats) {
                    let freed = places.clone().acquire_owned();
                    let freed = tokio::time::timeout(ROOM_WAIT, freed).await;
                    place = freed.ok().and_then(Result::ok);
                }
                let Some(place) = place else {
                    stats.refused_total.fetch_add(1, Relaxed);
                    turn_away(stream, tls.is_some());
                    continue;
                };
                if !connections.enter(ip, limits.max_connections_per_ip) {
                    stats.refused_per_ip.fetch_add(1, Relaxed);
                    turn_away(stream, tls.is_some());
                    continue;
                }
                stats.accepted.fetch_add(1, Relaxed);
                stats.open.fetch_add(1, Relaxed);
                let guest = Guest {
                    ip,
                    peer: Peer(peer.ip().to_canonical()),
                    connections: connections.clone(),
                    stats: stats.clone(),
                    _place: place,
                };
                let tls = tls.clone();
                start(stream, tls, guest, router.clone(), &limits, stop.clone());
            }
            Err(error) => {
                stats.accept_errors.fetch_add(1, Relaxed);
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_ERROR_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(max).unwrap_or(u32::MAX);
    if tokio::time::timeout(limits.shutdown, places.acquire_many(all))
        .await
        .is_err()
    {
        tracing::warn!("connections that did not finish in time are closed");
        connections.all.lock().values().for_each(|c| c.task.abort());
    }
    sweeper.abort();
}

/// All connections of one listener.
struct Connections {
    start: Instant,
    all: Mutex<HashMap<u64, Connection>>,
    per_ip: Mutex<HashMap<IpAddr, usize>>,
    turns: Turns,
}

struct Connection {
    ip: IpAddr,
    task: AbortHandle,
    deadline: Arc<Deadline>,
}

/// Nobody made room for an address with so many connections: until then nobody is looked for again for one that
/// has as many.
struct Full {
    until: Instant,
    own: usize,
}

impl Full {
    fn of(own: usize) -> Full {
        Full {
            until: Instant::now() + ROOM_PAUSE,
            own,
        }
    }
}

/// When a connection is closed unless something happens: milliseconds since the listener began.
struct Deadline {
    at: AtomicU64,
    phase: AtomicU8,
}

/// Phases of a connection. Only an octet that arrives between requests begins a head.
const BETWEEN: u8 = 0;
const HEAD: u8 = 1;
const REQUEST: u8 = 2;

/// Holds a connection's place and gives it back, however the connection ends.
struct Guest {
    /// Whose place it is: of an IPv6 address its /64.
    ip: IpAddr,
    peer: Peer,
    connections: Arc<Connections>,
    stats: Arc<EdgeStats>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stats.open.fetch_sub(1, Relaxed);
        let mut per_ip = self.connections.per_ip.lock();
        if let Some(count) = per_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                per_ip.remove(&self.ip);
            }
        }
    }
}

impl Connections {
    fn enter(&self, ip: IpAddr, max: usize) -> bool {
        let mut per_ip = self.per_ip.lock();
        let count = per_ip.entry(ip).or_insert(0);
        let fits = *count < max.max(1);
        *count += usize::from(fits);
        fits
    }

    /// Closes what the address with most connections keeps open between requests or within a head: those that
    /// have waited longest, half of what it has at most. False where nobody has more than the newcomer, so that
    /// no one pushes out who takes less than he.
    fn make_room(&self, newcomer: IpAddr, full: &mut Full, stats: &EdgeStats) -> bool {
        let (own, most) = {
            let per_ip = self.per_ip.lock();
            let own = per_ip.get(&newcomer).copied().unwrap_or(0);
            if own >= full.own && Instant::now() < full.until {
                return false;
            }
            let most = per_ip.iter().max_by_key(|(_, count)| **count);
            (own, most.map(|(ip, count)| (*ip, *count)))
        };
        let Some((ip, count)) = most.filter(|(_, count)| *count > own + 1) else {
            *full = Full::of(own);
            return false;
        };
        let mut all = self.all.lock();
        let mut waiting: Vec<(u64, u64)> = all
            .iter()
            .filter(|(_, c)| c.ip == ip && c.deadline.phase.load(Relaxed) != REQUEST)
            .map(|(number, c)| (c.deadline.at.load(Relaxed), *number))
            .collect();
        waiting.sort_unstable();
        waiting.truncate(count / 2);
        for (_, number) in &waiting {
            if let Some(connection) = all.remove(number) {
                connection.task.abort();
                stats.made_room.fetch_add(1, Relaxed);
            }
        }
        if waiting.is_empty() {
            *full = Full::of(0);
        }
        !waiting.is_empty()
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Deadline {
    fn set(&self, phase: u8, now: u64, after: Duration) {
        self.phase.store(phase, Relaxed);
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.at.store(now.saturating_add(after), Relaxed);
    }
}

fn start(
    stream: TcpStream,
    tls: Option<Acceptor>,
    guest: Guest,
    router: Router,
    limits: &EdgeLimits,
    stop: watch::Receiver<bool>,
) {
    // Answers are small and wanted now. Where it fails the connection is gone anyway.
    let _ = stream.set_nodelay(true);
    let connections = guest.connections.clone();
    let deadline = Arc::new(Deadline {
        at: AtomicU64::new(u64::MAX),
        phase: AtomicU8::new(BETWEEN),
    });
    // A handshake ends by its own limit; this one is for what it may leave hanging.
    let first = match tls {
        None => limits.first_byte,
        Some(_) => tls::HANDSHAKE + limits.first_byte,
    };
    deadline.set(BETWEEN, connections.millis(), first);
    // The number of connections ever accepted is unique among those open.
    let number = guest.stats.accepted.load(Relaxed);
    let mut all = connections.all.lock();
    let ip = guest.ip;
    let visit = Visit {
        guest,
        number,
        deadline: deadline.clone(),
        limits: limits.clone(),
    };
    let task = tokio::spawn(run(stream, tls, visit, router, stop));
    all.insert(
        number,
        Connection {
            ip,
            task: task.abort_handle(),
            deadline,
        },
    );
}

/// One connection's place and times.
struct Visit {
    guest: Guest,
    number: u64,
    deadline: Arc<Deadline>,
    limits: EdgeLimits,
}

async fn run(
    stream: TcpStream,
    tls: Option<Acceptor>,
    visit: Visit,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let stream = match tls {
        None => Some(Stream::Plain(stream)),
        Some(tls) => tokio::select! {
            stream = shake_hands(&tls, stream, &visit) => stream,
            _ = stop.wait_for(|stop| *stop) => None,
        },
    };
    if let Some(stream) = stream {
        converse(stream, &visit, router, stop).await;
    }
    visit.guest.connections.all.lock().remove(&visit.number);
}

/// None where no TLS came about; nobody is there to be told but the log.
async fn shake_hands(tls: &Acceptor, stream: TcpStream, visit: &Visit) -> Option<Stream> {
    match tls.accept(stream).await {
        Ok(stream) => {
            let now = visit.guest.connections.millis();
            visit.deadline.set(BETWEEN, now, visit.limits.first_byte);
            Some(stream)
        }
        Err(error) => {
            let failed = &visit.guest.stats.handshakes_failed;
            failed.fetch_add(1, Relaxed);
            tracing::debug!(%error, peer = %visit.guest.peer.0, "connection ended");
            None
        }
    }
}

async fn converse(stream: Stream, visit: &Visit, router: Router, mut stop: watch::Receiver<bool>) {
    let Visit {
        guest,
        deadline,
        limits,
        ..
    } = visit;
    let peer = guest.peer;
    let connections = &guest.connections;
    let stream = TokioIo::new(Timed {
        stream,
        deadline: deadline.clone(),
        connections: connections.clone(),
        head: limits.head,
    });
    let service = hyper::service::service_fn(|mut request: Request<Incoming>| {
        deadline.set(REQUEST, connections.millis(), limits.request);
        request.extensions_mut().insert(peer);
        let irregular = irregular(request.version(), request.headers());
        let answer = irregular.is_none().then(|| router.clone().call(request));
        async move {
            let answer: Result<Response<Body>, Infallible> = match (answer, irregular) {
                (Some(answer), _) => answer.await,
                (None, why) => Ok(refused(why.unwrap_or_default())),
            };
            if let Ok(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) =
                answer.as_ref().map(Response::status)
                && let Some(wait) = connections.turns.take(connections.micros())
            {
                tokio::time::sleep(wait).await;
            }
            deadline.set(BETWEEN, connections.millis(), limits.idle);
            answer
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(BUFFER_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(stream, service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// What hyper reads in one way and others may read in another: such a request ends its connection, lest a proxy
/// before us and we disagree where the next one begins. hyper itself refuses the rest (folded lines, spaces before
/// colons, lengths that differ or are none), and where a length stands beside `chunked` the chunks count and the
/// connection ends (RFC 9112, 6.3).
fn irregular(version: Version, headers: &HeaderMap) -> Option<&'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Some("the header Host stands twice"),
        (None, None) if version == Version::HTTP_11 => return Some("there is no header Host"),
        _ => {}
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => None,
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => None,
        _ => Some("Transfer-Encoding is anything but one `chunked`"),
    }
}

fn refused(why: &str) -> Response<Body> {
    let mut answer = Problem::new(Code::InvalidHeader, why).into_response();
    answer
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// Closes connections whose deadline passed.
async fn sweep(connections: Arc<Connections>, stats: Arc<EdgeStats>) {
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    loop {
        tick.tick().await;
        let now = connections.millis();
        connections.all.lock().retain(|_, connection| {
            let late = connection.deadline.at.load(Relaxed) <= now;
            if late {
                stats.timed_out.fetch_add(1, Relaxed);
                connection.task.abort();
            }
            !late
        });
    }
}

/// Says why in passing. What does not fit into the socket's buffer at once is not said, and a client
/// of TLS would not understand it.
fn turn_away(stream: TcpStream, tls: bool) {
    const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    if !tls && let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(BUSY);
    }
}

/// A stream that notes when a request's head begins.
struct Timed {
    stream: Stream,
    deadline: Arc<Deadline>,
    connections: Arc<Connections>,
    head: Duration,
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before && self.deadline.phase.load(Relaxed) == BETWEEN {
            self.deadline
                .set(HEAD, self.connections.millis(), self.head);
        }
        polled
    }
}

impl AsyncWrite for Timed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
