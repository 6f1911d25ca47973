//! TLS misused, from both sides: clients of our own listener that speak none, an old one, half of one
//! or too much of it, while an ordinary ESME goes on over TLS; and carriers that do the like to us,
//! while another carrier takes its messages. Nothing of SMPP is said to whoever has not shaken hands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use heliograph::smpp::pdu::{Bind, Body, Framing, frame};
use heliograph_tests::esme::{Esme, Mode, encoded};
use heliograph_tests::tls::{Certificates, certificates};
use heliograph_tests::{CarrierSpec, Plan, Rig, Traffic, eventually, free_address, sms};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rusmpp::CommandStatus;
use rustls::ConnectionTrafficSecrets;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::HANDSET;
use super::served::{SecureDoor, Siege, Wild, secure};

/// TLSCiphertext: type, version, length (RFC 8446, 5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const FATAL: u8 = 2;
const HANDSHAKE_FAILURE: u8 = 40;
const PROTOCOL_VERSION: u8 = 70;
const NO_RENEGOTIATION: [u8; 2] = [1, 100];

struct Secure {
    wild: Wild,
    address: String,
    made: Certificates,
}

impl Secure {
    async fn open() -> Secure {
        let (address, made) = (free_address().await, certificates(|_| {}));
        let wild = Wild::open(Siege {
            smpp: format!(
                "tls_listen = \"{address}\"\ncertificate = \"smpp.crt\"\nkey = \"smpp.key\""
            ),
            files: vec![
                ("smpp.crt".to_owned(), made.certificate_pem.clone().into()),
                ("smpp.key".to_owned(), made.key_pem.clone().into()),
            ],
            door: Some(SecureDoor {
                address: address.clone(),
                connector: made.connector(),
            }),
            ..Siege::default()
        })
        .await;
        Secure {
            wild,
            address,
            made,
        }
    }

    async fn raw(&self) -> TcpStream {
        TcpStream::connect(&self.address)
            .await
            .expect("a connection")
    }

    /// The wild ESME's TLS stream, bound.
    async fn bound(&self, connector: &TlsConnector) -> TlsStream<TcpStream> {
        let name = "localhost".try_into().expect("a name");
        let mut stream = connector
            .connect(name, self.raw().await)
            .await
            .expect("a handshake");
        stream.write_all(&bind()).await.expect("written");
        stream.flush().await.expect("written");
        let mut resp = [0; 16];
        stream.read_exact(&mut resp).await.expect("a bind_resp");
        assert_eq!(resp[4..12], [0x80, 0, 0, 9, 0, 0, 0, 0]);
        let mut rest = vec![0; usize::from(resp[3]) - 16];
        stream.read_exact(&mut rest).await.expect("all of it");
        stream
    }

    /// Over TLS the wild ESME works as it should.
    async fn close(self) {
        let mut esme = secure(&self.address, &self.made.connector()).await;
        let status = esme.bind(Mode::Transceiver, "wild", "secret").await;
        assert_eq!(status, CommandStatus::EsmeRok);
        self.wild.goes_on(&mut esme).await;
        self.wild.close().await;
    }
}

fn bind() -> Vec<u8> {
    let bind = Bind {
        system_id: b"wild",
        password: b"secret",
        interface_version: 0x34,
        ..Bind::default()
    };
    encoded(1, &Body::BindTransceiver(bind))
}

/// A record of TLS that nobody protected.
fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 3, 1];
    out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A ClientHello of `version` (RFC 5246, 7.4.1.2), with the extensions that TLS 1.2 wants: signatures
/// by ECDSA with P-256, groups X25519 and P-256.
fn client_hello(version: [u8; 2]) -> Vec<u8> {
    let mut message = old_client_hello(version);
    let extensions = b"\0\x0D\0\x04\0\x02\x04\x03\0\x0A\0\x06\0\x04\0\x1D\0\x17\0\x0B\0\x02\x01\0";
    message.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
    message.extend_from_slice(extensions);
    message[3] = (message.len() - 4) as u8;
    message
}

/// Without extensions, as clients of TLS 1.0 send it.
fn old_client_hello(version: [u8; 2]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend_from_slice(&[7; 32]);
    // No session; ECDHE-ECDSA with ChaCha20 or AES-CBC; no compression.
    body.extend_from_slice(&[0, 0, 4, 0xCC, 0xA9, 0xC0, 0x09, 1, 0]);
    let mut message = vec![1, 0, 0, body.len() as u8];
    message.extend_from_slice(&body);
    message
}

/// All that the server says until it closes.
async fn heard(mut stream: TcpStream) -> Vec<u8> {
    let mut octets = Vec::new();
    let read = stream.read_to_end(&mut octets);
    // A reset is an end too.
    let _ = tokio::time::timeout(heliograph_tests::PATIENCE, read)
        .await
        .expect("the server closes");
    octets
}

/// A fatal alert and nothing else.
fn assert_alert(octets: &[u8], what: &str) -> u8 {
    assert!(
        octets.len() == 7 && octets[0] == ALERT && octets[5] == FATAL,
        "{what}: {octets:02x?}"
    );
    octets[6]
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_no_tls_or_an_old_one_is_told_so_in_an_alert_and_closed() {
    let secure = Secure::open().await;
    let garbage: Vec<u8> = (0..300_u32).map(|n| (n * 167 + 41) as u8).collect();
    let hello = |message: Vec<u8>| record(HANDSHAKE, &message);
    let http = b"GET / HTTP/1.1\r\nHost: smsc\r\n\r\n".to_vec();
    let ssl = b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".to_vec();
    let cases: [(&str, Vec<u8>, Option<u8>); 8] = [
        ("a bind in the clear", bind(), None),
        ("HTTP", http, None),
        ("garbage", garbage, None),
        ("SSL 2.0", ssl, None),
        (
            "TLS 1.0",
            hello(old_client_hello([3, 1])),
            Some(HANDSHAKE_FAILURE),
        ),
        (
            "TLS 1.1",
            hello(old_client_hello([3, 2])),
            Some(HANDSHAKE_FAILURE),
        ),
        (
            "TLS 1.1 in newer words",
            hello(client_hello([3, 2])),
            Some(PROTOCOL_VERSION),
        ),
        ("application data", record(APPLICATION_DATA, &bind()), None),
    ];
    let count = cases.len() as u64;
    for (what, octets, expect) in cases {
        let mut stream = secure.raw().await;
        stream.write_all(&octets).await.expect("written");
        let alert = assert_alert(&heard(stream).await, what);
        assert!(expect.is_none_or(|e| e == alert), "{what}: {alert}");
    }
    secure.wild.counts("tls_failures", count).await;
    secure.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_to_the_plain_port_is_a_length_that_lies() {
    let secure = Secure::open().await;
    let mut stream = TcpStream::connect(&secure.wild.address)
        .await
        .expect("a connection");
    let hello = record(HANDSHAKE, &client_hello([3, 3]));
    stream.write_all(&hello).await.expect("written");
    let nack = heard(stream).await;
    assert_eq!(nack, b"\0\0\0\x10\x80\0\0\0\0\0\0\x02\0\0\0\0");
    secure.wild.counts("bad_lengths", 1).await;
    secure.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_without_end_are_cut_off() {
    let secure = Secure::open().await;
    let hello = record(HANDSHAKE, &client_hello([3, 3]));
    let silent = secure.raw().await;
    let mut half = secure.raw().await;
    half.write_all(&hello[..20]).await.expect("written");
    let mut begun = secure.raw().await;
    begun.write_all(&hello).await.expect("written");
    let mut slow = secure.raw().await;
    let trickle = async move {
        let start = Instant::now();
        for octet in hello {
            if slow.write_all(&[octet]).await.is_err() {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "never cut");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let start = Instant::now();
    let (nothing, half, begun, ()) =
        tokio::join!(heard(silent), heard(half), heard(begun), trickle);
    assert!(start.elapsed() >= Duration::from_secs(4));
    assert!(nothing.is_empty() && half.is_empty());
    // It had its ServerHello, and no more of it came.
    assert_eq!(begun.first(), Some(&HANDSHAKE));
    secure.wild.counts("tls_timeouts", 4).await;
    secure.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hellos_beyond_all_measure_are_refused_before_they_are_kept() {
    let secure = Secure::open().await;
    // A record longer than TLS has; a message of 16 MiB in records of 16 KiB.
    let mut long_record = vec![HANDSHAKE, 3, 1, 0xFF, 0xFF];
    long_record.resize(5 + 0xFFFF, 1);
    let mut long_hello = record(
        HANDSHAKE,
        &[&[1, 0xFF, 0xFF, 0xFF][..], &[0; 16_000]].concat(),
    );
    for _ in 0..1_048 {
        long_hello.extend(record(HANDSHAKE, &[0; 16_000]));
    }
    for octets in [long_record, long_hello] {
        for _ in 0..10 {
            let (mut reader, mut writer) = secure.raw().await.into_split();
            let octets = octets.clone();
            // Cut off in the middle of it.
            let writing = tokio::spawn(async move {
                let _ = writer.write_all(&octets).await;
                let _ = writer.shutdown().await;
            });
            let mut said = Vec::new();
            let _ = reader.read_to_end(&mut said).await;
            writing.await.expect("written or refused");
            assert!(said.len() <= 7, "{said:02x?}");
        }
    }
    secure.wild.counts("tls_failures", 20).await;
    secure.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_cut_or_forged_ends_its_session() {
    let secure = Secure::open().await;
    let connector = secure.made.connector();
    // 256 octets are promised, ten come.
    let (mut stream, _) = secure.bound(&connector).await.into_inner();
    stream
        .write_all(&[APPLICATION_DATA, 3, 3, 1, 0])
        .await
        .expect("written");
    stream.write_all(&[0x5A; 10]).await.expect("written");
    stream.shutdown().await.expect("half closed");
    assert!(heard(stream).await.len() < 64);
    // One that nobody sealed.
    let (mut stream, _) = secure.bound(&connector).await.into_inner();
    let mut forged = record(APPLICATION_DATA, &[0x5A; 64]);
    forged[2] = 3;
    stream.write_all(&forged).await.expect("written");
    assert!(heard(stream).await.len() < 64);
    // And one in the clear on a session that is not.
    let (mut stream, _) = secure.bound(&connector).await.into_inner();
    stream
        .write_all(&encoded(2, &Body::EnquireLink))
        .await
        .expect("written");
    assert!(heard(stream).await.len() < 64);
    secure.wild.counts("broken", 2).await;
    eventually("all three places are free", async || {
        let bound = secure
            .wild
            .rig
            .metric(&["heliograph_esme_bound", "\"wild\""]);
        (bound.await == 0.0).then_some(())
    })
    .await;
    secure.close().await;
}

/// A TLS 1.2 connection whose records are sealed by hand, with ChaCha20-Poly1305 (RFC 7905): no
/// library begins a renegotiation any more.
struct ByHand {
    stream: TcpStream,
    sending: Half,
    receiving: Half,
}

struct Half {
    sequence: u64,
    key: LessSafeKey,
    iv: Vec<u8>,
}

impl Half {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Half {
        let ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } = secrets else {
            panic!("ChaCha20-Poly1305 was the only one offered");
        };
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).expect("a key");
        Half {
            sequence,
            key: LessSafeKey::new(key),
            iv: iv.as_ref().to_vec(),
        }
    }

    /// Nonce and additional data of the next record (RFC 7905, 2; RFC 5246, 6.2.3.3).
    fn next(&mut self, kind: u8, length: usize) -> (Nonce, Aad<Vec<u8>>) {
        let number = self.sequence.to_be_bytes();
        self.sequence += 1;
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&self.iv);
        for (octet, n) in nonce[4..].iter_mut().zip(number) {
            *octet ^= n;
        }
        let mut additional = number.to_vec();
        additional.extend_from_slice(&[kind, 3, 3]);
        additional.extend_from_slice(&(length as u16).to_be_bytes());
        (Nonce::assume_unique_for_key(nonce), Aad::from(additional))
    }
}

impl ByHand {
    async fn say(&mut self, kind: u8, octets: &[u8]) {
        let (nonce, additional) = self.sending.next(kind, octets.len());
        let mut sealed = octets.to_vec();
        let key = &self.sending.key;
        key.seal_in_place_append_tag(nonce, additional, &mut sealed)
            .expect("sealed");
        let mut out = record(kind, &sealed);
        out[2] = 3;
        self.stream
            .write_all(&out)
            .await
            .expect("an open connection");
    }

    /// The next record, opened; none at the end.
    async fn hear(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 5];
        self.stream.read_exact(&mut header).await.ok()?;
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let mut sealed = vec![0; length];
        self.stream.read_exact(&mut sealed).await.ok()?;
        let (nonce, additional) = self.receiving.next(header[0], length - 16);
        let opened = self
            .receiving
            .key
            .open_in_place(nonce, additional, &mut sealed);
        Some((header[0], opened.expect("sealed by the server").to_vec()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn renegotiation_is_refused_once_and_asked_for_again_ends_the_session() {
    let secure = Secure::open().await;
    let mut provider = rustls::crypto::ring::default_provider();
    let only = rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256;
    provider.cipher_suites.retain(|suite| suite.suite() == only);
    let mut config = secure.made.client(provider, &[&rustls::version::TLS12]);
    config.enable_secret_extraction = true;
    let stream = secure.bound(&TlsConnector::from(Arc::new(config))).await;
    let (stream, session) = stream.into_inner();
    let secrets = session.dangerous_extract_secrets().expect("its secrets");
    let mut session = ByHand {
        stream,
        sending: Half::new(secrets.tx),
        receiving: Half::new(secrets.rx),
    };
    session.say(HANDSHAKE, &client_hello([3, 3])).await;
    session
        .say(APPLICATION_DATA, &encoded(2, &Body::EnquireLink))
        .await;
    let refusal = session.hear().await.expect("an alert");
    assert_eq!(
        (refusal.0, refusal.1.as_slice()),
        (ALERT, NO_RENEGOTIATION.as_slice())
    );
    let (kind, answer) = session.hear().await.expect("the session goes on");
    assert_eq!(
        (kind, frame(&answer)),
        (APPLICATION_DATA, Framing::Frame(16))
    );
    assert_eq!(answer[4..8], [0x80, 0, 0, 0x15]);
    session.say(HANDSHAKE, &client_hello([3, 3])).await;
    let end = async { while session.hear().await.is_some() {} };
    tokio::time::timeout(heliograph_tests::PATIENCE, end)
        .await
        .expect("the server closes");
    secure.wild.counts("broken", 1).await;
    secure.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_are_given_now_and_then_and_not_without_end() {
    let secure = Secure::open().await;
    let connector = secure.made.connector();
    let mut stream = secure.bound(&connector).await;
    for n in 0..20 {
        stream.get_mut().1.refresh_traffic_keys().expect("TLS 1.3");
        stream
            .write_all(&encoded(2 + n, &Body::EnquireLink))
            .await
            .expect("written");
        stream.flush().await.expect("written");
        let mut answer = [0; 16];
        stream
            .read_exact(&mut answer)
            .await
            .expect("the session goes on");
    }
    // Nothing but key updates: 32 are borne.
    for _ in 0..40 {
        stream.get_mut().1.refresh_traffic_keys().expect("TLS 1.3");
    }
    let _ = stream.flush().await;
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    let _ = tokio::time::timeout(heliograph_tests::PATIENCE, read)
        .await
        .expect("the server closes");
    secure.wild.counts("broken", 1).await;
    secure.close().await;
}

/// What a carrier does in the place of a handshake.
#[derive(Clone, Copy, Debug)]
enum Misdeed {
    Plain,
    Silent,
    Closes,
    OldVersion,
    FatalAlert,
    Endless,
    CutInARecord,
}

impl Misdeed {
    /// Name of the carrier, and what the log says of it.
    const ALL: [(Misdeed, &'static str, &'static str); 7] = [
        (Misdeed::Plain, "plain", "does not speak TLS on this port"),
        (Misdeed::Silent, "silent", "did not end within 5s"),
        (
            Misdeed::Closes,
            "closes",
            "closed the connection during the TLS handshake",
        ),
        (
            Misdeed::OldVersion,
            "old",
            "the TLS handshake failed: peer is incompatible",
        ),
        (
            Misdeed::FatalAlert,
            "alert",
            "the TLS handshake failed: received fatal alert",
        ),
        (Misdeed::Endless, "endless", "the TLS handshake failed"),
        (Misdeed::CutInARecord, "cut", ""),
    ];

    async fn serve(self, listener: TcpListener, made: Arc<Certificates>) {
        while let Ok((stream, _)) = listener.accept().await {
            self.meet(stream, &made).await;
        }
    }

    async fn meet(self, mut stream: TcpStream, made: &Certificates) {
        if let Misdeed::CutInARecord = self {
            let mut esme = made.acceptor.accept(stream).await.expect("a handshake");
            let mut bind = [0; 16];
            esme.read_exact(&mut bind).await.expect("a bind");
            let (mut stream, _) = esme.into_inner();
            let _ = stream
                .write_all(&[APPLICATION_DATA, 3, 3, 1, 0, 7, 7])
                .await;
            return;
        }
        let answer = match self {
            Misdeed::Plain => b"\0\0\0\x10\x80\0\0\0\0\0\0\x03\0\0\0\0".to_vec(),
            Misdeed::OldVersion => record(HANDSHAKE, &server_hello([3, 1])),
            Misdeed::FatalAlert => record(ALERT, &[FATAL, HANDSHAKE_FAILURE]),
            Misdeed::Endless => {
                let first = record(
                    HANDSHAKE,
                    &[&[2, 0xFF, 0xFF, 0xFF][..], &[0; 16_000]].concat(),
                );
                first.repeat(16)
            }
            Misdeed::Closes => return,
            Misdeed::Silent | Misdeed::CutInARecord => Vec::new(),
        };
        let _ = stream.write_all(&answer).await;
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        assert!(
            said.is_empty() || said[0] == HANDSHAKE || said[0] == ALERT,
            "{self:?} heard something in the clear"
        );
        assert!(
            !said.windows(6).any(|w| w == b"secret"),
            "{self:?} heard the password"
        );
    }
}

/// A ServerHello of `version` that takes the AES-CBC suite.
fn server_hello(version: [u8; 2]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0xC0, 0x09, 0]);
    let mut message = vec![2, 0, 0, body.len() as u8];
    message.extend_from_slice(&body);
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn carriers_that_misuse_tls_are_left_alone_named_and_told_nothing() {
    let made = Arc::new(certificates(|_| {}));
    let expired = certificates(|p| p.not_after = rcgen::date_time_ymd(2002, 1, 1));
    let (mut carriers, mut servers) = (Vec::new(), Vec::new());
    for (misdeed, id, _) in Misdeed::ALL {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        carriers.push(CarrierSpec {
            id: id.to_owned(),
            address: listener.local_addr().expect("an address").to_string(),
            extra: "tls = { ca = \"ca.pem\", server_name = \"localhost\" }".to_owned(),
        });
        servers.push(tokio::spawn(misdeed.serve(listener, Arc::clone(&made))));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    carriers.push(CarrierSpec {
        id: "expired".to_owned(),
        address: listener.local_addr().expect("an address").to_string(),
        extra: "tls = { ca = \"expired.pem\", server_name = \"localhost\" }".to_owned(),
    });
    let acceptor = expired.acceptor.clone();
    servers.push(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut said = Vec::new();
                let _ = stream.read_to_end(&mut said).await;
                assert_eq!(said, b"", "a bind went under an expired certificate");
            }
        }
    }));
    let mut rig = Rig::start(Plan {
        carriers,
        policy: "default_route = [\"sim0\"]".to_owned(),
        files: vec![
            ("ca.pem".to_owned(), made.ca_pem.clone().into()),
            ("expired.pem".to_owned(), expired.ca_pem.clone().into()),
        ],
        ..Plan::default()
    })
    .await;
    let traffic = Traffic::start(&rig, 1, |n| sms(HANDSET, &format!("harmless {n}")));
    let said = Misdeed::ALL.iter().map(|(_, id, why)| (*id, *why));
    for (id, why) in said.chain([("expired", "the peer's certificate has expired")]) {
        // Tried again, and no better.
        eventually(&format!("{id} fails again"), async || {
            let carrier = format!("carrier=\"{id}\"");
            // One that was let in ended without a word about the bind.
            let what = match id {
                "cut" => "\"disconnects\"",
                _ => "\"bind_failures\"",
            };
            let failures = ["heliograph_smpp_total", &carrier, what];
            (rig.metric(&failures).await >= 2.0).then_some(())
        })
        .await;
        let log = rig.log();
        let line = log.lines().find(|l| l.contains(why) && l.contains(id));
        assert!(line.is_some(), "{id}: {why}: {log}");
    }
    let sent = traffic.stop().await;
    assert!(sent.refused.is_empty() && sent.unanswered.is_empty());
    rig.wait_for_all(&sent.accepted, "delivered").await;
    assert!(servers.iter().all(|s| !s.is_finished()));
    assert!(rig.is_running() && !rig.log().contains("panicked"));
}

/// The ordinary connection of the scenarios is one that really is secured.
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_sees_which_sessions_are_secured() {
    let secure = Secure::open().await;
    let mut plain: Esme = secure.wild.bound(Mode::Transceiver).await;
    let binds = secure.wild.rig.items("/v1/binds").await;
    let tls = |id: &str| {
        let bind = binds.iter().find(|b| b["system_id"] == id);
        bind.expect("a session")["tls"].clone()
    };
    assert_eq!((tls("good"), tls("wild")), (true.into(), false.into()));
    secure.wild.goes_on(&mut plain).await;
    secure.close().await;
}
