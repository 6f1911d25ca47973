//! A carrier behind TLS: trusted by its authority, by a pin, or not at all.

use heliograph_tests::smsc::{Session, Smsc};
use heliograph_tests::tls::{Certificates, certificates};
use heliograph_tests::{CarrierSpec, Plan, Rig, eventually, free_address, sms};
use rusmpp::pdus::Outbind;
use rusmpp::types::COctetString;
use rusmpp::{CommandId, CommandStatus};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

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

/// A message centre that comes to us and trusts that authority alone; none where it does not trust us.
async fn comes_over_tls(address: &str, made: &Certificates) -> Option<Session> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = made.connector().connect(name, stream).await.ok()?;
    Some(Session::over(Box::new(stream)))
}

fn outbind() -> Outbind {
    let text = |t: &str| COctetString::from_string(t.to_owned()).expect("short text");
    Outbind::new(
        text("smsc"),
        COctetString::from_slice(b"knock\0").expect("a password"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbind_comes_over_tls_and_the_certificate_is_read_again() {
    let listen = free_address().await;
    let extra = format!(
        "outbind = {{ listen = \"{listen}\", system_id = \"smsc\", password = \"literal:knock\", \
         bind = \"transceiver\", sessions = 2, certificate = \"our.crt\", key = \"our.key\" }}"
    );
    let made = certificates(|_| {});
    let rig = Rig::start(Plan {
        simulators: Vec::new(),
        carriers: vec![CarrierSpec {
            id: "comes".to_owned(),
            address: String::new(),
            extra,
        }],
        files: vec![
            (
                "our.crt".to_owned(),
                made.certificate_pem.clone().into_bytes(),
            ),
            ("our.key".to_owned(), made.key_pem.clone().into_bytes()),
        ],
        ..Plan::default()
    })
    .await;
    // Without TLS nobody is listened to.
    let mut plain = Session::connect(&listen).await;
    plain.say(CommandStatus::EsmeRok, 1, outbind()).await;
    let mut rest = Vec::new();
    let end = tokio::io::AsyncReadExt::read_to_end(&mut plain.stream, &mut rest).await;
    // An alert of TLS at most, and no bind.
    assert!(
        end.is_err() || !rest.windows(4).any(|w| w == [0, 0, 0, 9]),
        "{rest:x?}"
    );
    let mut session = comes_over_tls(&listen, &made).await.expect("a handshake");
    session.say(CommandStatus::EsmeRok, 1, outbind()).await;
    let bind = session.hear().await.expect("a bind");
    assert_eq!(bind.id(), CommandId::BindTransceiver);
    session.accept(&bind).await;
    let id = rig.submit(sms("+447700900123", "hello")).await;
    let (sequence, _) = session.hear_submit().await;
    session.take(sequence, "o-1").await;
    rig.wait_for(&id, "enroute").await;

    let other = certificates(|_| {});
    assert!(comes_over_tls(&listen, &other).await.is_none());
    std::fs::write(rig.dir.path().join("our.crt"), &other.certificate_pem).expect("a file");
    std::fs::write(rig.dir.path().join("our.key"), &other.key_pem).expect("a file");
    rig.signal("-HUP").await;
    let mut session = eventually("the new certificate is in use", async || {
        comes_over_tls(&listen, &other).await
    })
    .await;
    session.say(CommandStatus::EsmeRok, 1, outbind()).await;
    let bind = session.hear().await.expect("a bind");
    assert_eq!(bind.id(), CommandId::BindTransceiver);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_what_tls_needs_is_told_by_its_field() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = dir.path().join("heliograph.toml");
    let text = "[[carriers]]\nid = \"comes\"\nkind = \"smpp\"\nsystem_id = \"us\"\npassword = \"literal:pw\"\n\
        outbind = { listen = \"127.0.0.1:1\", system_id = \"smsc\", password = \"literal:knock\", key = \"our.key\" }\n";
    std::fs::write(&config, text).expect("a file");
    let checked = std::process::Command::new(heliograph_tests::binary())
        .args(["check", "--config"])
        .arg(&config)
        .output()
        .expect("the program");
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(!checked.status.success(), "{said}");
    assert!(
        said.contains("outbind.certificate: is needed to listen with TLS"),
        "{said}"
    );
}
