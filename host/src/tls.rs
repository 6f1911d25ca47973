//! TLS for SMPP and HTTP, both ends: what trusts whom, certificates that can be replaced while
//! connections last, handshakes with a time limit, and errors a person can act on. TLS 1.2 and 1.3
//! are all that rustls speaks. Knows PEM and certificates, no files and no configuration.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin as Pinned;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, InvalidMessage, RootCertStore,
    ServerConfig, SignatureScheme,
};
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// From the connection to the end of the handshake, on either side.
pub const HANDSHAKE: Duration = Duration::from_secs(5);

/// What is wrong with the material of a configuration: the operator's to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    /// `ca`, `certificate`, `key`, `pin_sha256`, `server_name`.
    pub field: &'static str,
    pub rule: String,
}

impl TlsError {
    fn new(field: &'static str, rule: impl fmt::Display) -> TlsError {
        TlsError {
            field,
            rule: rule.to_string(),
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.rule)
    }
}

impl std::error::Error for TlsError {}

/// Why no TLS came about on a connection.
#[derive(Debug)]
pub enum HandshakeError {
    /// Not finished within that time, [`HANDSHAKE`].
    Timeout(Duration),
    Failed(io::Error),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = match self {
            HandshakeError::Timeout(limit) => {
                return write!(f, "the TLS handshake did not end within {limit:?}");
            }
            HandshakeError::Failed(error) => error,
        };
        let tls = error.get_ref().and_then(|e| e.downcast_ref());
        match tls {
            Some(rustls::Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            )) => write!(f, "the peer does not speak TLS on this port"),
            Some(rustls::Error::InvalidCertificate(reason)) => certificate_fault(f, reason),
            Some(rustls::Error::NoCertificatesPresented) => {
                write!(f, "the peer presented no certificate, and one is required")
            }
            Some(other) => write!(f, "the TLS handshake failed: {other}"),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                write!(f, "the peer closed the connection during the TLS handshake")
            }
            None => write!(f, "the connection failed during the TLS handshake: {error}"),
        }
    }
}

impl std::error::Error for HandshakeError {}

fn certificate_fault(f: &mut fmt::Formatter<'_>, reason: &CertificateError) -> fmt::Result {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            write!(f, "the peer's certificate has expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            write!(f, "the peer's certificate is not valid yet")
        }
        // A namesake of a trusted authority is no authority.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => write!(
            f,
            "the peer's certificate is signed by nobody who is trusted here: give its authority as `ca`, or pin it with `pin_sha256`"
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            write!(
                f,
                "the peer's certificate is for another name ({reason}): give the name it has as `server_name`"
            )
        }
        CertificateError::Other(other) => write!(f, "{}", other.0),
        other => write!(f, "the peer's certificate is refused: {other}"),
    }
}

/// A certificate chain and the key of its first certificate.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Both in PEM; the chain begins with our own certificate, intermediate authorities follow.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Identity, TlsError> {
        Ok(Identity {
            chain: certificates("certificate", certificate)?,
            key: PrivateKeyDer::from_pem_slice(key)
                .map_err(|e| TlsError::new("key", format_args!("holds no private key: {e}")))?,
        })
    }

    fn certified(self) -> Result<CertifiedKey, TlsError> {
        let key = provider()
            .key_provider
            .load_private_key(self.key)
            .map_err(|e| TlsError::new("key", format_args!("cannot be used: {e}")))?;
        let certified = CertifiedKey::new(self.chain, key);
        certified.keys_match().map_err(|e| {
            TlsError::new(
                "key",
                format_args!("is not the key of the certificate: {e}"),
            )
        })?;
        Ok(certified)
    }
}

/// Key material stays out of logs.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("chain", &self.chain.len())
            .finish_non_exhaustive()
    }
}

/// The SHA-256 of a certificate in DER, or of its subjectPublicKeyInfo (RFC 7469, 2.4): both are
/// looked for, because operators are given either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl FromStr for Fingerprint {
    type Err = TlsError;

    /// 64 hexadecimal digits, colons between them or not, as openssl prints them; or base64, `sha256/`
    /// before it or not, as in RFC 7469.
    fn from_str(text: &str) -> Result<Fingerprint, TlsError> {
        let hex: Vec<u8> = text.bytes().filter(|b| *b != b':').collect();
        let octets = if hex.len() == 64 && hex.iter().all(u8::is_ascii_hexdigit) {
            let digit = |b: u8| (b as char).to_digit(16).unwrap_or(0) as u8;
            Some(
                hex.chunks(2)
                    .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
                    .collect(),
            )
        } else {
            STANDARD
                .decode(text.strip_prefix("sha256/").unwrap_or(text))
                .ok()
        };
        octets
            .and_then(|o: Vec<u8>| <[u8; 32]>::try_from(o).ok())
            .map(Fingerprint)
            .ok_or_else(|| {
                TlsError::new(
                    "pin_sha256",
                    format_args!("{text:?} is no SHA-256: 64 hexadecimal digits, or its base64"),
                )
            })
    }
}

/// How a client decides whom it speaks to.
#[derive(Debug, Default)]
pub struct ClientSettings {
    /// PEM of the authorities to trust; with none the public ones (Mozilla's list, built in) are.
    pub ca: Option<Vec<u8>>,
    /// Where there are any, the server's certificate has one of them. Without `ca` that is all that
    /// is asked of it: neither its name nor its dates nor its issuer count.
    pub pins: Vec<Fingerprint>,
    /// Shown to servers that ask for a certificate.
    pub identity: Option<Identity>,
    /// Trust anybody. Encrypts against those who only listen.
    pub insecure: bool,
}

/// Makes TLS connections.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    limit: Duration,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector(..)")
    }
}

impl ClientSettings {
    pub fn config(self) -> Result<ClientConfig, TlsError> {
        let ClientSettings {
            ca,
            pins,
            identity,
            insecure,
        } = self;
        let chain = if insecure || (ca.is_none() && !pins.is_empty()) {
            None
        } else {
            let roots = match &ca {
                Some(pem) => roots(pem)?,
                None => RootCertStore {
                    roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
                },
            };
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            Some(verifier.map_err(|e| TlsError::new("ca", e))?)
        };
        let verifier = Arc::new(Judge {
            chain,
            pins,
            provider: provider(),
        });
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::new("tls", e))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        Ok(match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let certified = Arc::new(identity.certified()?);
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
                    certified,
                )))
            }
        })
    }
}

impl Connector {
    pub fn new(settings: ClientSettings) -> Result<Connector, TlsError> {
        Ok(Connector {
            config: Arc::new(settings.config()?),
            limit: HANDSHAKE,
        })
    }

    /// Shakes hands with `server_name` over a fresh connection.
    pub async fn connect(
        &self,
        stream: TcpStream,
        server_name: ServerName<'static>,
    ) -> Result<Stream, HandshakeError> {
        let connecting = TlsConnector::from(Arc::clone(&self.config)).connect(server_name, stream);
        match timeout(self.limit, connecting).await {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream.into()))),
            Ok(Err(error)) => Err(HandshakeError::Failed(error)),
            Err(_) => Err(HandshakeError::Timeout(self.limit)),
        }
    }
}

/// A DNS name or an IP address as certificates have it.
pub fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| {
        TlsError::new(
            "server_name",
            format_args!("{name:?} is neither a DNS name nor an IP address"),
        )
    })
}

/// Accepts TLS connections; its certificate can be replaced while it does.
#[derive(Clone)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    certificate: Arc<Replaceable>,
    limit: Duration,
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor(..)")
    }
}

impl Acceptor {
    /// `client_ca`: PEM of the authorities one of which must have signed each client's certificate;
    /// with none clients need no certificate.
    pub fn new(identity: Identity, client_ca: Option<&[u8]>) -> Result<Acceptor, TlsError> {
        let certificate = Arc::new(Replaceable(RwLock::new(Arc::new(identity.certified()?))));
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::new("tls", e))?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let roots = Arc::new(roots(pem).map_err(|e| TlsError {
                    field: "client_ca",
                    ..e
                })?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let verifier = verifier.build();
                builder
                    .with_client_cert_verifier(verifier.map_err(|e| TlsError::new("client_ca", e))?)
            }
        };
        let config = builder.with_cert_resolver(Arc::clone(&certificate) as _);
        Ok(Acceptor {
            config: Arc::new(config),
            certificate,
            limit: HANDSHAKE,
        })
    }

    /// What clients may ask for by ALPN (RFC 7301); one that asks for something else gets no connection.
    pub fn speaking(mut self, protocol: &[u8]) -> Acceptor {
        let mut config = ServerConfig::clone(&self.config);
        config.alpn_protocols = vec![protocol.to_vec()];
        self.config = Arc::new(config);
        self
    }

    /// From the next handshake on; connections that are up go on. An error leaves things as they were.
    pub fn replace(&self, identity: Identity) -> Result<(), TlsError> {
        let certified = Arc::new(identity.certified()?);
        *self
            .certificate
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner) = certified;
        Ok(())
    }

    pub async fn accept(&self, stream: TcpStream) -> Result<Stream, HandshakeError> {
        let accepting = TlsAcceptor::from(Arc::clone(&self.config)).accept(stream);
        match timeout(self.limit, accepting).await {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream.into()))),
            Ok(Err(error)) => Err(HandshakeError::Failed(error)),
            Err(_) => Err(HandshakeError::Timeout(self.limit)),
        }
    }
}

#[derive(Debug)]
struct Replaceable(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Replaceable {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certified = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&certified))
    }
}

/// A connection, with TLS or without. What was written counts as sent once `flush` is through: TLS
/// keeps records that the socket would not take.
#[derive(Debug)]
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Plain(stream) => stream.peer_addr(),
            Stream::Tls(stream) => stream.get_ref().0.peer_addr(),
        }
    }

    pub fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pinned<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pinned::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pinned::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pinned<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pinned::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pinned::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pinned<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pinned::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pinned::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pinned<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pinned::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pinned::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pinned<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pinned::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pinned::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

/// Chain and pins, whichever were asked for.
#[derive(Debug)]
struct Judge {
    chain: Option<Arc<WebPkiServerVerifier>>,
    pins: Vec<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(chain) = &self.chain {
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        }
        if !self.pins.is_empty() && !self.is_pinned(end_entity)? {
            return Err(
                CertificateError::Other(rustls::OtherError(Arc::new(NotPinned {
                    certificate: sha256(end_entity),
                })))
                .into(),
            );
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl Judge {
    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> Result<bool, rustls::Error> {
        let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        let shown = [sha256(certificate), sha256(&key)];
        let same = |pin: &Fingerprint| shown.iter().any(|s| bool::from(s.ct_eq(&pin.0)));
        Ok(self.pins.iter().any(same))
    }
}

#[derive(Debug)]
struct NotPinned {
    certificate: [u8; 32],
}

impl fmt::Display for NotPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the peer's certificate is not pinned: the SHA-256 of what it presents is "
        )?;
        self.certificate
            .iter()
            .try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl std::error::Error for NotPinned {}

fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, octets).as_ref());
    out
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(field: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|e| TlsError::new(field, format_args!("is no PEM: {e}")))?;
    if found.is_empty() {
        return Err(TlsError::new(field, "holds no CERTIFICATE in PEM"));
    }
    Ok(found)
}

fn roots(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca", pem)? {
        roots
            .add(certificate)
            .map_err(|e| TlsError::new("ca", format_args!("cannot be trusted: {e}")))?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests;
