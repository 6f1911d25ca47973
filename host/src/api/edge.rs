//! The accept loop: connections are counted, bounded in number and in time, and served over HTTP/1.1,
//! with TLS or without. Owns sockets and deadlines; knows no routes. Deadlines are one atomic per connection that a single
//! task looks at, so that a request costs no timer.

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
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::AbortHandle;
use tower::Service as _;

use crate::tls::{self, Acceptor, Stream};

/// How long the accept loop rests after an error such as EMFILE, which does not pass by itself.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(50);
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
    });
    let sweeper = tokio::spawn(sweep(connections.clone(), stats.clone()));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Ok(place) = places.clone().try_acquire_owned() else {
                    stats.refused_total.fetch_add(1, Relaxed);
                    turn_away(stream, tls.is_some());
                    continue;
                };
                let ip = peer.ip().to_canonical();
                if !connections.enter(ip, limits.max_connections_per_ip) {
                    stats.refused_per_ip.fetch_add(1, Relaxed);
                    turn_away(stream, tls.is_some());
                    continue;
                }
                stats.accepted.fetch_add(1, Relaxed);
                stats.open.fetch_add(1, Relaxed);
                let guest = Guest {
                    ip,
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
}

struct Connection {
    task: AbortHandle,
    deadline: Arc<Deadline>,
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
    ip: IpAddr,
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

    fn millis(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
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
            tracing::debug!(%error, peer = %visit.guest.ip, "connection ended");
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
    let peer = Peer(guest.ip);
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
        let answer = router.clone().call(request);
        async move {
            let answer: Result<Response<Body>, Infallible> = answer.await;
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
mod tests {
    use std::net::SocketAddr;

    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Server {
        address: SocketAddr,
        stats: Arc<EdgeStats>,
        stop: watch::Sender<bool>,
        task: tokio::task::JoinHandle<()>,
    }

    async fn server(limits: EdgeLimits) -> Server {
        server_with(limits, None).await
    }

    async fn server_with(limits: EdgeLimits, tls: Option<Acceptor>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/", get(|| async { "hello" }))
            .route(
                "/slow",
                get(|| async {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    "done"
                }),
            )
            .route(
                "/body",
                post(|body: axum::body::Bytes| async move { body.len().to_string() }),
            );
        let stats = Arc::new(EdgeStats::default());
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve(listener, tls, router, limits, stats.clone(), stopped));
        Server {
            address,
            stats,
            stop,
            task,
        }
    }

    fn quick() -> EdgeLimits {
        let short = Duration::from_millis(100);
        EdgeLimits {
            first_byte: short,
            head: short,
            request: short * 10,
            ..EdgeLimits::default()
        }
    }

    async fn connect(server: &Server) -> TcpStream {
        TcpStream::connect(server.address).await.unwrap()
    }

    /// All that arrives until the server closes; a reset is a way to close.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut all = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut all));
        let _ = read.await.expect("the server did not close the connection");
        String::from_utf8_lossy(&all).into_owned()
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_is_closed() {
        let server = server(quick()).await;
        let mut stream = connect(&server).await;
        assert_eq!(rest(&mut stream).await, "");
        assert_eq!(server.stats.timed_out.load(Relaxed), 1);
    }

    #[tokio::test]
    async fn a_head_that_trickles_in_is_cut_off() {
        let server = server(quick()).await;
        let mut stream = connect(&server).await;
        let (mut reader, mut writer) = stream.split();
        let trickle = async {
            for octet in b"GET / HTTP/1.1\r\nx-padding: 0123456789012345678901234567890"
                .iter()
                .cycle()
            {
                if writer.write_all(&[*octet]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut all = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(5), reader.read_to_end(&mut all));
        tokio::select! {
            closed = closed => assert!(closed.is_ok() && all.is_empty()),
            () = trickle => {}
        }
    }

    #[tokio::test]
    async fn behind_tls_the_same_deadlines_hold() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let identity = tls::Identity::from_pem(pem.as_bytes(), key.as_bytes()).unwrap();
        let acceptor = Acceptor::new(identity, None).unwrap();
        let server = server_with(quick(), Some(acceptor.speaking(b"http/1.1"))).await;
        let trusting = tls::Connector::new(tls::ClientSettings {
            ca: Some(pem.into_bytes()),
            ..tls::ClientSettings::default()
        })
        .unwrap();
        for said in ["", "GET / HTTP/1.1\r\nx-never-"] {
            let name = tls::server_name("localhost").unwrap();
            let stream = connect(&server).await;
            let mut stream = trusting.connect(stream, name).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            let mut all = Vec::new();
            let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut all));
            let _ = read.await.expect("the server did not close the connection");
            assert!(all.is_empty());
        }
        assert_eq!(server.stats.timed_out.load(Relaxed), 2);
        let mut plain = connect(&server).await;
        plain
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        assert!(!rest(&mut plain).await.contains("hello"));
        assert_eq!(server.stats.handshakes_failed.load(Relaxed), 1);
    }

    #[tokio::test]
    async fn a_kept_connection_outlives_the_time_of_a_head() {
        let server = server(quick()).await;
        let mut stream = connect(&server).await;
        for _ in 0..2 {
            stream
                .write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
                .await
                .unwrap();
            let mut answer = vec![0; 512];
            let n = stream.read(&mut answer).await.unwrap();
            assert!(answer[..n].starts_with(b"HTTP/1.1 200"));
        }
    }

    #[tokio::test]
    async fn a_body_that_never_comes_ends_with_the_request() {
        let limits = EdgeLimits {
            request: Duration::from_millis(100),
            ..quick()
        };
        let server = server(limits).await;
        let mut stream = connect(&server).await;
        stream
            .write_all(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc")
            .await
            .unwrap();
        assert_eq!(rest(&mut stream).await, "");
    }

    #[tokio::test]
    async fn what_is_no_http_is_answered_400() {
        let server = server(quick()).await;
        let mut stream = connect(&server).await;
        stream
            .write_all(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
            .await
            .unwrap();
        assert!(rest(&mut stream).await.starts_with("HTTP/1.1 400"));
    }

    #[tokio::test]
    async fn a_head_without_end_is_answered_431() {
        let server = server(EdgeLimits::default()).await;
        let mut stream = connect(&server).await;
        let mut head = b"GET / HTTP/1.1\r\nx: ".to_vec();
        head.resize(BUFFER_MAX + 10_000, b'a');
        let _ = stream.write_all(&head).await;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 431");
    }

    #[tokio::test]
    async fn one_address_gets_no_more_than_its_share() {
        let limits = EdgeLimits {
            max_connections_per_ip: 1,
            ..EdgeLimits::default()
        };
        let server = server(limits).await;
        let mut first = connect(&server).await;
        first
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut byte = [0; 1];
        first.read_exact(&mut byte).await.unwrap();
        let mut second = connect(&server).await;
        assert!(rest(&mut second).await.starts_with("HTTP/1.1 503"));
        assert_eq!(server.stats.refused_per_ip.load(Relaxed), 1);
        drop(first);
        let again = async {
            loop {
                let mut stream = connect(&server).await;
                let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await;
                if rest(&mut stream).await.ends_with("hello") {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(5), again)
            .await
            .expect("the place is given back");
    }

    #[tokio::test]
    async fn a_full_house_turns_away() {
        let limits = EdgeLimits {
            max_connections: 1,
            ..EdgeLimits::default()
        };
        let server = server(limits).await;
        let mut first = connect(&server).await;
        first
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        first.read_exact(&mut [0; 1]).await.unwrap();
        let mut second = connect(&server).await;
        assert!(rest(&mut second).await.starts_with("HTTP/1.1 503"));
    }

    #[tokio::test]
    async fn stopping_lets_a_request_finish() {
        let server = server(EdgeLimits::default()).await;
        let mut stream = connect(&server).await;
        stream
            .write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        while server.stats.open.load(Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.stop.send_replace(true);
        assert!(rest(&mut stream).await.ends_with("done"));
        tokio::time::timeout(Duration::from_secs(5), server.task)
            .await
            .unwrap()
            .unwrap();
    }
}
