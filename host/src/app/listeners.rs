//! Where the HTTP API listens: with TLS, without, or both, and admin routes apart where the
//! configuration says so.

use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;

use super::certificates::Certificate;
use super::{StartError, failed, listen, local};
use crate::api::Surface;
use crate::config::Http;
use crate::tls::Acceptor;

/// Tasks that a thread of the API goes through before it asks the sockets again who else has something to say. Each of
/// those would otherwise come before one that waits already, which of thousands waits for seconds.
const TURNS: u32 = 2_048;
/// How many of those it takes in at once. A thread's own line has 256 places, and sends the half that has waited longest
/// behind everybody else when they do not suffice; the system's line, where the others stay, is kept in order.
const TAKEN_IN: usize = 128;

/// Threads for the connections of the API alone. However many of them have something to say at once, the rest of the
/// server waits for its share of the processors and not for all of theirs: what is accepted goes out meanwhile.
pub struct Threads {
    handle: Handle,
    /// Nothing only while this is dropped.
    runtime: Option<Runtime>,
}

impl Threads {
    pub fn start() -> Result<Threads, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("http")
            .event_interval(TURNS)
            .max_io_events_per_tick(TAKEN_IN)
            .enable_all()
            .build()
            .map_err(|e| failed("cannot start the threads of the API", e))?;
        Ok(Threads {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.handle.spawn(task)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // In the midst of other tasks nothing can be waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

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
pub fn open(section: &Http, certificate: Option<&Certificate>) -> Result<Listeners, StartError> {
    let apart = section.admin_listen.is_some() || section.admin_tls_listen.is_some();
    let public = match apart {
        true => Surface::Public,
        false => Surface::All,
    };
    let tls = certificate.map(|c| c.acceptor().speaking(b"http/1.1"));
    let mut opened = Listeners::default();
    opened.address = opened.add(section.plain(), None, public)?;
    opened.tls_address = opened.add(section.tls_listen, tls.clone(), public)?;
    let admin = Surface::Admin;
    opened.admin_address = opened.add(section.admin_listen, None, admin)?;
    opened.admin_tls_address = opened.add(section.admin_tls_listen, tls, admin)?;
    Ok(opened)
}

impl Listeners {
    fn add(
        &mut self,
        address: Option<SocketAddr>,
        tls: Option<Acceptor>,
        surface: Surface,
    ) -> Result<Option<SocketAddr>, StartError> {
        let Some(address) = address else {
            return Ok(None);
        };
        let listener = listen(address)?;
        let address = local(&listener);
        self.all.push(Listener {
            listener,
            tls,
            surface,
        });
        Ok(Some(address))
    }
}
