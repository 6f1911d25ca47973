//! SMPP for customers' applications: the message centre that ESMEs bind to. The same floor as the HTTP
//! API and the same admission behind it; `smpp/server.rs` has the sockets and the protocol.
//!
//! Reading order: `system` (who may bind), `gate` (who does), `session` (what it asks), `submission` and
//! `submit` (messages in), `courier` (receipts and messages out).

mod alerts;
mod binds;
mod courier;
mod gate;
mod inbound;
mod lockout;
mod operations;
mod receipt;
mod refusal;
mod session;
mod submission;
mod submit;
mod system;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

pub use binds::{Binds, Bound};
pub use system::{Cidr, DefaultAlphabet, LongInbound, ReceiptForm, System, SystemSpec};

use crate::pipeline::{Pipeline, lasting};
use crate::smpp::server::{self, ServerSession, ServerSettings};
use crate::smpp::wire::WireFaults;
use crate::tls::Acceptor;
use gate::Gate;

/// Searches through an account's messages at once: cancel_sm without an id, replace_if_present. Of
/// one system_id one at a time (`system`).
const SEARCHES_MAX: usize = 2;
/// Sessions on their way from the sockets to here.
const SESSIONS_QUEUE: usize = 64;
/// How long sessions may take to finish what is under way when the server ends.
const DRAIN: Duration = Duration::from_secs(10);

/// What all sessions share.
pub struct Esme {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) binds: Arc<Binds>,
    pub(super) searches: Semaphore,
}

/// Where ESMEs connect.
pub struct Door {
    pub listener: TcpListener,
    pub tls: Option<Acceptor>,
}

pub struct Parts {
    pub pipeline: Arc<Pipeline>,
    pub binds: Arc<Binds>,
    pub doors: Vec<Door>,
    pub settings: ServerSettings,
    /// After this a delivery that no session takes is a dead letter.
    pub give_up: Duration,
}

/// The running server.
pub struct Server {
    gate: Arc<Gate>,
    binds: Arc<Binds>,
    faults: Arc<WireFaults>,
    stop_sessions: watch::Sender<bool>,
    stop_sockets: watch::Sender<bool>,
    sessions: tokio::task::JoinHandle<()>,
    sockets: JoinSet<()>,
    couriers: JoinSet<()>,
}

impl Server {
    pub fn start(parts: Parts) -> Server {
        let gate = Arc::new(Gate::new(
            parts.binds.clone(),
            parts.pipeline.events.clone(),
        ));
        let faults = Arc::new(WireFaults::default());
        let (stop_sessions, stopped) = watch::channel(false);
        let (stop_sockets, closed) = watch::channel(false);
        let (bound, arriving) = mpsc::channel(SESSIONS_QUEUE);
        let mut sockets = JoinSet::new();
        for door in parts.doors {
            sockets.spawn(server::serve(
                door.listener,
                parts.settings,
                door.tls,
                gate.clone(),
                bound.clone(),
                faults.clone(),
                closed.clone(),
            ));
        }
        let mut couriers = JoinSet::new();
        for party in parts.binds.parties() {
            let (pipeline, party) = (parts.pipeline.clone(), party.clone());
            let (give_up, stopped) = (parts.give_up, stopped.clone());
            couriers.spawn(lasting(move || {
                courier::run(pipeline.clone(), party.clone(), give_up, stopped.clone())
            }));
        }
        couriers.spawn(alerts::run(
            parts.pipeline.clone(),
            parts.binds.clone(),
            stopped.clone(),
        ));
        let binds = parts.binds.clone();
        let esme = Arc::new(Esme {
            pipeline: parts.pipeline,
            binds: parts.binds,
            searches: Semaphore::new(SEARCHES_MAX),
        });
        Server {
            sessions: tokio::spawn(attend(esme, arriving, stopped)),
            gate,
            binds,
            faults,
            stop_sessions,
            stop_sockets,
            sockets,
            couriers,
        }
    }

    /// Lets nobody in any more, finishes what is under way, unbinds every session.
    pub async fn shutdown(mut self) {
        self.gate.close();
        let _ = self.stop_sessions.send(true);
        let finished = async { while self.couriers.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(DRAIN, finished).await;
        if tokio::time::timeout(DRAIN, &mut self.sessions)
            .await
            .is_err()
        {
            tracing::warn!("sessions of ESMEs that did not finish in time are closed");
            self.sessions.abort();
        }
        let _ = self.stop_sockets.send(true);
        while self.sockets.join_next().await.is_some() {}
    }

    /// Writes lines for `/metrics`.
    pub fn metrics(&self) -> impl Fn(&mut String) + Send + Sync + use<> {
        let (gate, binds) = (self.gate.clone(), self.binds.clone());
        let faults = self.faults.clone();
        move |out| {
            binds.metrics(out);
            let _ = writeln!(out, "# TYPE heliograph_esme_binds_refused_total counter");
            let refused = gate.refused.load(Ordering::Relaxed);
            let _ = writeln!(out, "heliograph_esme_binds_refused_total {refused}");
            let _ = writeln!(out, "# TYPE heliograph_esme_lockouts_total counter");
            let locks = gate.locks.load(Ordering::Relaxed);
            let _ = writeln!(out, "heliograph_esme_lockouts_total {locks}");
            let _ = writeln!(out, "# TYPE heliograph_esme_wire_total counter");
            for (what, count) in faults.figures() {
                let _ = writeln!(out, "heliograph_esme_wire_total{{what=\"{what}\"}} {count}");
            }
        }
    }
}

/// Attends to sessions as they come, until the server ends and all of them have.
async fn attend(
    esme: Arc<Esme>,
    mut arriving: mpsc::Receiver<ServerSession>,
    stopped: watch::Receiver<bool>,
) {
    let mut sessions = JoinSet::new();
    let mut stop = stopped.clone();
    loop {
        let session = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = sessions.join_next() => continue,
            session = arriving.recv() => match session {
                Some(session) => session,
                None => break,
            },
        };
        sessions.spawn(session::run(esme.clone(), session, stopped.clone()));
    }
    while sessions.join_next().await.is_some() {}
}

impl Binds {
    /// Lines for `/metrics`, by system_id.
    pub fn metrics(&self, out: &mut String) {
        let _ = writeln!(out, "# TYPE heliograph_esme_total counter");
        let mut gauges = String::new();
        for party in self.parties() {
            let counters = &party.system.counters;
            // A name comes from the configuration, where quotes and backslashes may stand.
            let id = party.system.id.replace('\\', "\\\\").replace('"', "\\\"");
            let figures: [(&str, &AtomicU64); 11] = [
                ("binds", &counters.binds),
                ("accepted", &counters.accepted),
                ("refused", &counters.refused),
                ("throttled", &counters.throttled),
                ("receipts", &counters.receipts),
                ("intermediate", &counters.intermediate),
                ("inbound", &counters.inbound),
                ("alerts", &counters.alerts),
                ("alerts_unheard", &counters.alerts_unheard),
                ("delivery_retries", &counters.delivery_retries),
                ("dead", &counters.dead),
            ];
            for (what, figure) in figures {
                let value = figure.load(Ordering::Relaxed);
                let _ = writeln!(
                    out,
                    "heliograph_esme_total{{system_id=\"{id}\",what=\"{what}\"}} {value}"
                );
            }
            let (bound, delivering) = party.load();
            let _ = writeln!(
                gauges,
                "heliograph_esme_bound{{system_id=\"{id}\"}} {bound}"
            );
            let _ = writeln!(
                gauges,
                "heliograph_esme_delivering{{system_id=\"{id}\"}} {delivering}"
            );
        }
        out.push_str(&gauges);
    }
}

#[cfg(test)]
mod tests_support;
