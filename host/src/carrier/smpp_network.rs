//! How sessions reach their hosts: over TCP and TLS, or over what a simulation has in their place.

use std::fmt;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::BoxFuture;
use super::smpp_config::{SmppConfig, TlsConfig};
use crate::tls::{HandshakeError, Stream, server_name};

/// A connection.
pub trait Octets: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Octets for S {}

/// What connects to `host:port`.
pub trait Network: Send + Sync {
    fn connect<'a>(
        &'a self,
        config: &'a SmppConfig,
        address: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn Octets>, ConnectError>>;
}

/// The machine's.
pub(super) struct Tcp;

impl Network for Tcp {
    fn connect<'a>(
        &'a self,
        config: &'a SmppConfig,
        address: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn Octets>, ConnectError>> {
        Box::pin(async move {
            let stream = connect(config, address).await?;
            Ok(Box::new(stream) as Box<dyn Octets>)
        })
    }
}

/// Why no connection came about.
#[derive(Debug)]
pub enum ConnectError {
    Resolve(io::Error),
    NoAddress,
    Connect(io::Error),
    Timeout,
    Tls(HandshakeError),
    Name(String),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Resolve(error) => write!(f, "the name cannot be resolved: {error}"),
            ConnectError::NoAddress => write!(f, "the name has no address"),
            ConnectError::Connect(error) => write!(f, "{error}"),
            ConnectError::Timeout => write!(f, "no connection in time"),
            ConnectError::Tls(error) => write!(f, "{error}"),
            ConnectError::Name(error) => write!(f, "{error}"),
        }
    }
}

/// A connection to `host:port`, its name resolved anew, its addresses tried in turn.
async fn connect(config: &SmppConfig, address: &str) -> Result<Stream, ConnectError> {
    let until = Instant::now() + config.bind_timeout;
    let resolved = timeout(config.bind_timeout, lookup_host(address)).await;
    let addresses: Vec<_> = resolved
        .map_err(|_| ConnectError::Timeout)?
        .map_err(ConnectError::Resolve)?
        .take(ADDRESSES_TRIED)
        .collect();
    let mut last = ConnectError::NoAddress;
    for (i, socket_address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - i).unwrap_or(1);
        let share = until.saturating_duration_since(Instant::now()) / left;
        match timeout(share, TcpStream::connect(socket_address)).await {
            Ok(Ok(stream)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(carrier = %config.id, %error, "TCP_NODELAY");
                }
                return secure(config.tls.as_ref(), stream, address).await;
            }
            Ok(Err(error)) => last = ConnectError::Connect(error),
            Err(_) => last = ConnectError::Timeout,
        }
    }
    Err(last)
}

/// Of those that a name resolves to.
const ADDRESSES_TRIED: usize = 8;

async fn secure(
    tls: Option<&TlsConfig>,
    stream: TcpStream,
    address: &str,
) -> Result<Stream, ConnectError> {
    let Some(tls) = tls else {
        return Ok(Stream::Plain(stream));
    };
    let name = match &tls.server_name {
        Some(name) => name.clone(),
        None => server_name(host_of(address)).map_err(|e| ConnectError::Name(e.to_string()))?,
    };
    let connecting = tls.connector.connect(stream, name);
    connecting.await.map_err(ConnectError::Tls)
}

/// `smsc.example` of `smsc.example:2775`, `::1` of `[::1]:2775`.
pub(super) fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}
