//! Handshakes over loopback with certificates made on the spot.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData as _,
    date_time_ymd,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    fn pem(&self) -> Vec<u8> {
        self.issuer.pem().into_bytes()
    }

    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            pem: certificate.pem().into_bytes(),
            certificate: Fingerprint(sha256(certificate.der())),
            public_key: Fingerprint(sha256(&key.subject_public_key_info())),
            key: key.serialize_pem().into_bytes(),
        }
    }
}

struct Issued {
    pem: Vec<u8>,
    key: Vec<u8>,
    certificate: Fingerprint,
    public_key: Fingerprint,
}

impl Issued {
    fn identity(&self) -> Identity {
        Identity::from_pem(&self.pem, &self.key).unwrap()
    }
}

/// One handshake, and on success one octet each way.
async fn meet(
    acceptor: &Acceptor,
    connector: &Connector,
) -> (Result<(), String>, Result<(), String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.map_err(|e| e.to_string())?;
        let octet = stream.read_u8().await.map_err(|e| e.to_string())?;
        stream
            .write_u8(octet + 1)
            .await
            .map_err(|e| e.to_string())?;
        stream.shutdown().await.map_err(|e| e.to_string())
    };
    let client = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = server_name("smsc.example").unwrap();
        let mut stream = connector
            .connect(stream, name)
            .await
            .map_err(|e| e.to_string())?;
        stream.write_u8(7).await.map_err(|e| e.to_string())?;
        stream.flush().await.map_err(|e| e.to_string())?;
        let octet = stream.read_u8().await.map_err(|e| e.to_string())?;
        assert_eq!(octet, 8);
        Ok(())
    };
    tokio::join!(server, client)
}

fn connector(settings: ClientSettings) -> Connector {
    Connector::new(settings).unwrap()
}

fn trusting(authority: &Authority) -> ClientSettings {
    ClientSettings {
        ca: Some(authority.pem()),
        ..ClientSettings::default()
    }
}

#[tokio::test]
async fn a_certificate_of_the_own_authority_is_trusted_and_others_are_not() {
    let (own, other) = (Authority::new(), Authority::new());
    let server = Acceptor::new(own.issue("smsc.example", |_| {}).identity(), None).unwrap();
    assert_eq!(
        meet(&server, &connector(trusting(&own))).await,
        (Ok(()), Ok(()))
    );
    for stranger in [trusting(&other), ClientSettings::default()] {
        let error = meet(&server, &connector(stranger)).await.1.unwrap_err();
        assert!(error.contains("nobody who is trusted"), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_name_and_an_old_certificate_are_told_apart() {
    let own = Authority::new();
    let named = Acceptor::new(own.issue("other.example", |_| {}).identity(), None).unwrap();
    let error = meet(&named, &connector(trusting(&own)))
        .await
        .1
        .unwrap_err();
    assert!(error.contains("server_name"), "{error}");
    let old = own.issue("smsc.example", |p| {
        p.not_before = date_time_ymd(2001, 1, 1);
        p.not_after = date_time_ymd(2002, 1, 1);
    });
    let old = Acceptor::new(old.identity(), None).unwrap();
    let error = meet(&old, &connector(trusting(&own))).await.1.unwrap_err();
    assert!(error.contains("has expired"), "{error}");
}

#[tokio::test]
async fn a_pin_is_of_the_certificate_or_of_its_key_and_stands_for_a_chain() {
    let own = Authority::new();
    // Neither its name nor its dates are right.
    let issued = own.issue("other.example", |p| p.not_after = date_time_ymd(2002, 1, 1));
    let server = Acceptor::new(issued.identity(), None).unwrap();
    let pinned = |pins: &[Fingerprint]| ClientSettings {
        pins: pins.to_vec(),
        ..ClientSettings::default()
    };
    for pin in [issued.certificate, issued.public_key] {
        let both = connector(pinned(&[Fingerprint([1; 32]), pin]));
        assert_eq!(meet(&server, &both).await, (Ok(()), Ok(())));
    }
    let error = meet(&server, &connector(pinned(&[Fingerprint([1; 32])])))
        .await
        .1
        .unwrap_err();
    assert!(error.contains("not pinned"), "{error}");
    // With an authority too, both count.
    let both = ClientSettings {
        ca: Some(own.pem()),
        ..pinned(&[issued.certificate])
    };
    assert!(meet(&server, &connector(both)).await.1.is_err());
}

#[tokio::test]
async fn trusting_anybody_has_to_be_said() {
    let issued = Authority::new().issue("other.example", |_| {});
    let server = Acceptor::new(issued.identity(), None).unwrap();
    let insecure = ClientSettings {
        insecure: true,
        ..ClientSettings::default()
    };
    assert_eq!(meet(&server, &connector(insecure)).await, (Ok(()), Ok(())));
}

#[tokio::test]
async fn a_client_shows_its_certificate_where_one_is_required() {
    let (own, other) = (Authority::new(), Authority::new());
    let identity = own.issue("smsc.example", |_| {}).identity();
    let server = Acceptor::new(identity, Some(&own.pem())).unwrap();
    let with = |authority: &Authority| ClientSettings {
        identity: Some(authority.issue("esme.example", |_| {}).identity()),
        ..trusting(&own)
    };
    assert_eq!(
        meet(&server, &connector(with(&own))).await,
        (Ok(()), Ok(()))
    );
    let error = meet(&server, &connector(trusting(&own)))
        .await
        .0
        .unwrap_err();
    assert!(error.contains("no certificate"), "{error}");
    let error = meet(&server, &connector(with(&other))).await.0.unwrap_err();
    assert!(error.contains("nobody who is trusted"), "{error}");
}

#[tokio::test]
async fn a_replaced_certificate_is_shown_from_the_next_handshake_on() {
    let own = Authority::new();
    let (first, second) = (
        own.issue("smsc.example", |_| {}),
        own.issue("smsc.example", |_| {}),
    );
    let server = Acceptor::new(first.identity(), None).unwrap();
    let pinned = connector(ClientSettings {
        pins: vec![second.certificate],
        ..ClientSettings::default()
    });
    assert!(meet(&server, &pinned).await.1.is_err());
    let mixed = Identity::from_pem(&first.pem, &second.key).unwrap();
    assert_eq!(server.replace(mixed).unwrap_err().field, "key");
    server.replace(second.identity()).unwrap();
    assert_eq!(meet(&server, &pinned).await, (Ok(()), Ok(())));
}

#[tokio::test]
async fn a_peer_without_tls_is_told_from_one_that_says_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let plain = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // A generic_nack.
        let _ = stream
            .write_all(b"\0\0\0\x10\x80\0\0\0\0\0\0\x03\0\0\0\0")
            .await;
        let (silent, _) = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
        drop(silent);
    });
    let mut connector = connector(ClientSettings::default());
    let name = server_name("smsc.example").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let error = connector
        .connect(stream, name.clone())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("does not speak TLS"), "{error}");
    let stream = TcpStream::connect(address).await.unwrap();
    connector.limit = Duration::from_millis(50);
    let error = connector.connect(stream, name).await.unwrap_err();
    assert!(matches!(error, HandshakeError::Timeout(_)), "{error}");
    plain.abort();
}

#[test]
fn a_fingerprint_is_read_in_every_usual_form() {
    let octets: Vec<u8> = (0..32).collect();
    let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
    let colons: Vec<&str> = (0..32).map(|i| &hex[i * 2..i * 2 + 2]).collect();
    let base64 = STANDARD.encode(&octets);
    for text in [hex, &colons.join(":"), &base64, &format!("sha256/{base64}")] {
        assert_eq!(
            text.parse::<Fingerprint>().unwrap().0.to_vec(),
            octets,
            "{text}"
        );
    }
    for text in ["", "abc", &hex[2..], "sha256/AAAA"] {
        assert_eq!(text.parse::<Fingerprint>().unwrap_err().field, "pin_sha256");
    }
}

#[test]
fn material_that_is_none_names_its_field() {
    let no_certificate = Identity::from_pem(b"hello", b"hello").unwrap_err();
    assert_eq!(
        no_certificate.to_string(),
        "certificate holds no CERTIFICATE in PEM"
    );
    let issued = Authority::new().issue("smsc.example", |_| {});
    assert_eq!(
        Identity::from_pem(&issued.pem, b"hello").unwrap_err().field,
        "key"
    );
    let settings = ClientSettings {
        ca: Some(b"hello".to_vec()),
        ..ClientSettings::default()
    };
    assert_eq!(Connector::new(settings).unwrap_err().field, "ca");
    assert_eq!(server_name("a b").unwrap_err().field, "server_name");
}
