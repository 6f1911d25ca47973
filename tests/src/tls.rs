//! Certificates made on the spot, and both ends of TLS that trust them.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// An authority and a certificate for `localhost` by it.
pub struct Certificates {
    pub ca_pem: String,
    pub certificate_pem: String,
    pub key_pem: String,
    /// SHA-256 of the certificate.
    pub fingerprint: String,
    pub acceptor: TlsAcceptor,
    roots: RootCertStore,
}

pub fn certificates(change: impl FnOnce(&mut CertificateParams)) -> Certificates {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
        .expect("an authority");
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    change(&mut params);
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
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
        fingerprint: fingerprint.iter().map(|b| format!("{b:02x}")).collect(),
        acceptor: TlsAcceptor::from(Arc::new(config)),
        roots,
    }
}

impl Certificates {
    /// A client that trusts the authority.
    pub fn connector(&self) -> TlsConnector {
        let provider = rustls::crypto::ring::default_provider();
        TlsConnector::from(Arc::new(self.client(provider, rustls::DEFAULT_VERSIONS)))
    }

    /// The same, of these versions and what `provider` has.
    pub fn client(
        &self,
        provider: rustls::crypto::CryptoProvider,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ClientConfig {
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth()
    }
}
