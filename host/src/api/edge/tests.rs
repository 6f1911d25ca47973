//! Connections over real sockets, with short deadlines.

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

#[test]
fn who_has_most_makes_room_for_who_has_fewer() {
    let rt = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
    let connections = Connections {
        start: Instant::now(),
        all: Mutex::default(),
        per_ip: Mutex::default(),
        turns: Turns::default(),
    };
    for number in 0..12 {
        // 10.0.0.1 has eight, 10.0.0.2 four; the last of the first is being answered.
        let owner = ip(if number < 8 { 1 } else { 2 });
        assert!(connections.enter(owner, 100));
        let phase = if number == 0 { REQUEST } else { BETWEEN };
        let deadline = Arc::new(Deadline {
            at: AtomicU64::new(number),
            phase: AtomicU8::new(phase),
        });
        let task = rt.spawn(std::future::pending::<()>()).abort_handle();
        connections.all.lock().insert(
            number,
            Connection {
                ip: owner,
                task,
                deadline,
            },
        );
    }
    let stats = EdgeStats::default();
    let mut full = Full {
        until: Instant::now(),
        own: 0,
    };
    assert!(
        !connections.make_room(ip(1), &mut full, &stats),
        "it has most itself"
    );
    assert!(connections.make_room(ip(2), &mut full, &stats));
    let left: std::collections::BTreeSet<u64> = connections.all.lock().keys().copied().collect();
    assert_eq!(
        left,
        [0, 5, 6, 7, 8, 9, 10, 11].into(),
        "the longest waiting half"
    );
    assert_eq!(stats.made_room.load(Relaxed), 4);
}

#[tokio::test]
async fn what_others_may_read_otherwise_ends_the_connection() {
    let server = server(EdgeLimits::default()).await;
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
        "POST /body HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ] {
        let mut stream = connect(&server).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let said = rest(&mut stream).await;
        assert!(said.starts_with("HTTP/1.1 400"), "{head}: {said}");
    }
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
