//! A carrier behind TLS: trusted by its authority, by a pin, or not at all.

use heliograph_tests::smsc::Smsc;
use heliograph_tests::tls::certificates;
use heliograph_tests::{CarrierSpec, Plan, Rig, eventually, sms};

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
    let made = certificates(|_| {});
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
    let made = certificates(|_| {});
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
