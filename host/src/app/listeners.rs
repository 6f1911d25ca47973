//! Where the HTTP API listens: with TLS, without, or both, and admin routes apart where the
//! configuration says so.

use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpListener;

use super::certificates::Certificate;
use super::{StartError, failed, listen, local};
use crate::api::Surface;
use crate::config::Http;
use crate::tls::Acceptor;

/// One listener of the API.
pub struct Listener {
    pub listener: TcpListener,
    pub tls: Option<Acceptor>,
    pub surface: Surface,
}

/// All of them; of each kind there is one at most.
#[derive(Default)]
pub struct Listeners {
    pub all: Vec<Listener>,
    pub address: Option<SocketAddr>,
    pub tls_address: Option<SocketAddr>,
    pub admin_address: Option<SocketAddr>,
    pub admin_tls_address: Option<SocketAddr>,
}

/// None where nobody connects with TLS.
pub fn certificate(section: &Http, base: &Path) -> Result<Option<Certificate>, StartError> {
    if section.tls_listen.is_none() && section.admin_tls_listen.is_none() {
        return match (&section.certificate, &section.key) {
            (None, None) => Ok(None),
            _ => Err(failed(
                "http.certificate",
                "nothing listens with TLS: http.tls_listen says where",
            )),
        };
    }
    let (certificate, key) = (&section.certificate, &section.key);
    Certificate::open("http", certificate, key, None, base).map(Some)
}

/// Listens where the configuration says. `certificate` is what [`certificate`] gave.
pub async fn open(
    section: &Http,
    certificate: Option<&Certificate>,
) -> Result<Listeners, StartError> {
    let apart = section.admin_listen.is_some() || section.admin_tls_listen.is_some();
    let public = match apart {
        true => Surface::Public,
        false => Surface::All,
    };
    let tls = certificate.map(|c| c.acceptor().speaking(b"http/1.1"));
    let mut opened = Listeners::default();
    opened.address = opened.add(section.plain(), None, public).await?;
    opened.tls_address = opened.add(section.tls_listen, tls.clone(), public).await?;
    let admin = Surface::Admin;
    opened.admin_address = opened.add(section.admin_listen, None, admin).await?;
    opened.admin_tls_address = opened.add(section.admin_tls_listen, tls, admin).await?;
    Ok(opened)
}

impl Listeners {
    async fn add(
        &mut self,
        address: Option<SocketAddr>,
        tls: Option<Acceptor>,
        surface: Surface,
    ) -> Result<Option<SocketAddr>, StartError> {
        let Some(address) = address else {
            return Ok(None);
        };
        let listener = listen(address).await?;
        let address = local(&listener);
        self.all.push(Listener {
            listener,
            tls,
            surface,
        });
        Ok(Some(address))
    }
}
