//! The API behind TLS: who is trusted, what is refused, and certificates that change under way.

use std::sync::Arc;

use heliograph_tests::{KEY, Plan, Rig, eventually, free_address, run_in, sms};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A certificate for `localhost`, its key, and the authority that signed it.
struct Made {
    ca: CertificateDer<'static>,
    ca_pem: String,
    certificate: String,
    key: String,
}

fn made() -> Made {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
        .expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &authority).expect("a certificate");
    Made {
        ca: authority.der().clone(),
        ca_pem: authority.pem(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

/// A server that listens with TLS too; the address where it does.
async fn rig(made: &Made) -> (Rig, String) {
    let address = free_address().await;
    let rig = Rig::start(Plan {
        http_extra: format!(
            "tls_listen = \"{address}\"\ncertificate = \"http.crt\"\nkey = \"http.key\""
        ),
        files: vec![
            ("http.crt".to_owned(), made.certificate.clone().into_bytes()),
            ("http.key".to_owned(), made.key.clone().into_bytes()),
            ("ca.pem".to_owned(), made.ca_pem.clone().into_bytes()),
        ],
        ..Plan::default()
    })
    .await;
    (rig, address)
}

async fn connect(
    address: &str,
    made: &Made,
    alpn: &[&[u8]],
) -> Result<TlsStream<TcpStream>, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(made.ca.clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

fn https(address: &str) -> String {
    let port = address.rsplit(':').next().expect("a port");
    format!("https://localhost:{port}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_speaks_https_to_whom_it_trusts() {
    let made = made();
    let (rig, address) = rig(&made).await;
    let url = https(&address);
    let send = ["send", "+447700900123", "in confidence", "--from", "60777"];
    let target = ["--url", &url, "--key", KEY, "--json"];

    let trusting = [&send[..], &target, &["--ca", "ca.pem"]].concat();
    let (code, out, err) = rig.run(&trusting).await;
    assert_eq!(code, Some(0), "{err}");
    let answer: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let id = answer["id"].as_str().expect("an id");
    rig.wait_for(id, "delivered").await;
    let show = [&["message", "show", id][..], &target, &["--ca", "ca.pem"]].concat();
    let (code, out, err) = rig.run(&show).await;
    assert_eq!(
        (code, out.contains("in confidence")),
        (Some(0), true),
        "{err}"
    );

    let (code, _, err) = rig.run(&[&send[..], &target].concat()).await;
    assert_eq!(code, Some(1), "a stranger was trusted");
    assert!(err.contains("certificate"), "{err}");
    let (code, _, err) = rig
        .run(&[&send[..], &target, &["--ca", "http.key"]].concat())
        .await;
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("--ca http.key"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_good_tls_gets_nothing_and_harms_nobody() {
    let made = made();
    let (rig, address) = rig(&made).await;

    let stream = connect(&address, &made, &[b"h2", b"http/1.1"])
        .await
        .expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(
        connect(&address, &made, &[b"h2"]).await.is_err(),
        "h2 was agreed on"
    );

    let mut plain = TcpStream::connect(&address).await.expect("a connection");
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("written");
    let mut heard = Vec::new();
    let _ = plain.read_to_end(&mut heard).await;
    assert!(!heard.starts_with(b"HTTP"), "{heard:?}");

    // A ClientHello of TLS 1.1 (RFC 4346, 7.4.1.2) with TLS_RSA_WITH_AES_128_CBC_SHA.
    let mut old = TcpStream::connect(&address).await.expect("a connection");
    let mut hello = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2F, 1, 0]);
    old.write_all(&hello).await.expect("written");
    let mut alert = Vec::new();
    let _ = old.read_to_end(&mut alert).await;
    // A fatal alert (RFC 8446, 6), and nothing else.
    assert_eq!((alert.len(), alert[0], alert[5]), (7, 21, 2), "{alert:?}");

    let mut silent = TcpStream::connect(&address).await.expect("a connection");
    let mut one = [0; 1];
    let closed = tokio::time::timeout(heliograph_tests::PATIENCE, silent.read(&mut one));
    let closed = closed.await.expect("a silent client is let go");
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");

    // The last is counted after its connection is closed.
    let series = ["heliograph_http_connections_total", "handshake_failed"];
    eventually("four failures are counted", async || {
        (rig.metric(&series).await >= 4.0).then_some(())
    })
    .await;
    let id = rig.submit(sms("+447700900123", "still here")).await;
    rig.wait_for(&id, "delivered").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_replaced_under_way() {
    let old = made();
    let (rig, address) = rig(&old).await;
    let mut kept = connect(&address, &old, &[]).await.expect("TLS");
    let new = made();
    let file = |name: &str| rig.dir.path().join(name);

    // The key of another certificate: what was in use stays.
    std::fs::write(file("http.key"), &new.key).expect("a file");
    eventually("the refusal", async || {
        rig.log()
            .contains("the certificate stays the one before")
            .then_some(())
    })
    .await;
    connect(&address, &old, &[])
        .await
        .expect("the old certificate");

    std::fs::write(file("http.crt"), &new.certificate).expect("a file");
    eventually("the new certificate", async || {
        connect(&address, &new, &[]).await.ok()
    })
    .await;
    assert!(connect(&address, &old, &[]).await.is_err());

    // What was up goes on.
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .expect("written");
    let mut answer = String::new();
    let _ = kept.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let reads = || rig.log().matches("the certificate was read again").count();
    let before = reads();
    rig.signal("-HUP").await;
    eventually("SIGHUP", async || (reads() > before).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_without_a_good_certificate_is_refused() {
    let made = made();
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("a file");
    };
    write("http.crt", &made.certificate);
    write("other.key", &self::made().key);
    for (lines, named) in [
        ("tls_listen = \"127.0.0.1:0\"", "http.certificate"),
        (
            "tls_listen = \"127.0.0.1:0\"\ncertificate = \"http.crt\"",
            "http.key",
        ),
        (
            "tls_listen = \"127.0.0.1:0\"\ncertificate = \"http.crt\"\nkey = \"none.key\"",
            "none.key",
        ),
        (
            "tls_listen = \"127.0.0.1:0\"\ncertificate = \"http.crt\"\nkey = \"other.key\"",
            "http: key",
        ),
        (
            "certificate = \"http.crt\"\nkey = \"other.key\"",
            "nothing listens with TLS",
        ),
    ] {
        write("heliograph.toml", &format!("[http]\n{lines}\n"));
        let (code, _, error) = run_in(folder.path(), &["check"]).await;
        assert_eq!(code, Some(1), "{lines}");
        assert!(error.contains(named), "{lines}: {error}");
    }
}
