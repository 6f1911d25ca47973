//! A carrier behind TLS: trusted by its authority, by a pin, or not at all.

use std::sync::Arc;

use heliograph_tests::smsc::Smsc;
use heliograph_tests::{CarrierSpec, Plan, Rig, eventually, sms};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

/// An authority and a certificate for `localhost` by it.
struct Certificates {
    ca_pem: String,
    acceptor: TlsAcceptor,
    fingerprint: String,
}

fn certificates() -> Certificates {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
        .expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &authority).expect("a certificate");
    let fingerprint = Sha256::digest(certificate.der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .expect("a certificate with its key");
    Certificates {
        ca_pem: authority.pem(),
        acceptor: TlsAcceptor::from(Arc::new(config)),
        fingerprint: fingerprint.iter().map(|b| format!("{b:02x}")).collect(),
    }
}

async fn rig(address: String, ca: &str, tls: &str) -> Rig {
    Rig::start(Plan {
        simulators: Vec::new(),
        carriers: vec![CarrierSpec {
            id: "secure".to_owned(),
            address,
            extra: format!("tls = {tls}"),
        }],
        files: vec![("ca.pem".to_owned(), ca.as_bytes().to_vec())],
        ..Plan::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_over_tls_to_a_carrier_of_the_own_authority_or_a_pinned_one() {
    let made = certificates();
    let fingerprint = &made.fingerprint;
    for tls in [
        "{ ca = \"ca.pem\", server_name = \"localhost\" }".to_owned(),
        format!("{{ pin_sha256 = [\"{fingerprint}\"] }}"),
    ] {
        let smsc = Smsc::listen_tls(made.acceptor.clone()).await;
        let rig = rig(smsc.address(), &made.ca_pem, &tls).await;
        let (mut session, _) = smsc.bound().await;
        let id = rig.submit(sms("+447700900123", "in confidence")).await;
        let (sequence, sm) = session.hear_submit().await;
        assert_eq!(sm.short_message().as_ref(), b"in confidence");
        session.take(sequence, "tls-1").await;
        rig.wait_for(&id, "enroute").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_that_is_not_trusted_gets_no_bind_and_the_log_says_why() {
    let made = certificates();
    for (tls, why) in [
        ("true", "nobody who is trusted here"),
        ("{ ca = \"ca.pem\" }", "for another name"),
        (
            "{ pin_sha256 = [\"0000000000000000000000000000000000000000000000000000000000000000\"] }",
            "is not pinned",
        ),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let acceptor = made.acceptor.clone();
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                // In TLS 1.3 the server is through before the client has judged it.
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut heard = Vec::new();
                    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut heard).await;
                    assert_eq!(heard, b"", "a bind went to a stranger");
                }
            }
        });
        let rig = rig(address, &made.ca_pem, tls).await;
        eventually(why, async || rig.log().contains(why).then_some(())).await;
        assert!(!server.is_finished());
        server.abort();
    }
}
