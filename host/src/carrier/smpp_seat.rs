//! One session's place at an SMPP carrier: chosen host, connection, TLS, bind, life and end; then
//! filled again. Knows hosts and links, not what is submitted.

use std::sync::{Arc, PoisonError};

use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::CarrierEvent;
use super::smpp::{Inner, SmppConfig, SmppCounters};
use super::smpp_hosts::Trouble;
use super::smpp_inbound::Inbox;
use super::smpp_network::Octets;
use crate::domain::receipt::ReceiptStyle;
use crate::smpp::link::{Link, LinkSettings, LinkState, link};
use crate::smpp::session::{BindMode, CloseReason, Credentials, Role};
use crate::smpp::status;

/// Fills its place for as long as the carrier runs.
pub(super) struct Seat {
    pub(super) inner: Arc<Inner>,
    /// Which of the carrier's places; the two seats of a pair share one.
    pub(super) slot: usize,
    pub(super) mode: BindMode,
    pub(super) events: mpsc::Sender<CarrierEvent>,
    pub(super) random: StdRng,
}

/// How a session ended.
enum End {
    /// We wanted it so: the carrier stops.
    Told,
    /// We left for a better host.
    Moved,
    Trouble(Trouble),
}

impl Seat {
    pub(super) async fn keep(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let choice = self.inner.hosts().choose(self.slot, now());
            if !choice.wait.is_zero() {
                // Those who waited for the same host do not all come back in the same moment.
                let spread = choice.wait.min(self.inner.config.reconnect_min);
                let wait = choice.wait + spread.mul_f64(self.random.random_range(0.0..=1.0));
                tokio::select! {
                    biased;
                    () = told_to_stop(&mut stop) => return,
                    () = sleep(wait) => {}
                }
                // Another session may have found out more meanwhile.
                continue;
            }
            let began = Instant::now();
            let end = self.session(choice.host, &mut stop).await;
            if *stop.borrow() {
                return;
            }
            match end {
                End::Told => return,
                End::Moved => {}
                End::Trouble(trouble) => {
                    let unit = self.random.random_range(0.0..1.0);
                    let (lived, at) = (began.elapsed(), now());
                    let mut hosts = self.inner.hosts();
                    hosts.trouble(choice.host, trouble, lived, at, unit);
                }
            }
        }
    }

    /// Connects, binds and stays until the session ends.
    async fn session(&self, host: usize, stop: &mut watch::Receiver<bool>) -> End {
        let inner = &self.inner;
        let config = &inner.config;
        let address = inner.hosts().address(host).to_owned();
        // Few at a time: a message centre that has just come up is not stormed.
        let permit = tokio::select! {
            biased;
            () = told_to_stop(stop) => return End::Told,
            permit = inner.connecting.acquire() => permit,
        };
        // While this one waited, another may have found the host away.
        let again = inner.hosts().choose(self.slot, now());
        if again.host != host || !again.wait.is_zero() {
            return End::Moved;
        }
        let connected = tokio::select! {
            biased;
            () = told_to_stop(stop) => return End::Told,
            connected = inner.network.connect(config, &address) => connected,
        };
        let stream = match connected {
            Ok(stream) => stream,
            Err(error) => {
                SmppCounters::count(&inner.counters.bind_failures);
                warn!(carrier = %config.id, address, %error, "cannot connect");
                return End::Trouble(Trouble::Failed);
            }
        };
        let place = Place {
            slot: self.slot,
            mode: self.mode,
            host: Some(host),
        };
        let reason = place
            .occupy(inner, stream, &self.events, stop, || drop(permit))
            .await;
        match reason {
            None => End::Moved,
            Some(CloseReason::BindRefused(command_status)) => {
                End::Trouble(Trouble::Refused(command_status))
            }
            Some(_) => End::Trouble(Trouble::Failed),
        }
    }
}

/// Where a connection goes to, once there is one.
pub(super) struct Place {
    pub(super) slot: usize,
    pub(super) mode: BindMode,
    /// None: the message centre came to us.
    pub(super) host: Option<usize>,
}

impl Place {
    /// Binds on a connection and offers the session to senders until it ends. Calls `settled` once
    /// the bind is answered. Returns why it ended; none where we left for a better host.
    pub(super) async fn occupy(
        &self,
        inner: &Arc<Inner>,
        stream: Box<dyn Octets>,
        events: &mpsc::Sender<CarrierEvent>,
        stop: &mut watch::Receiver<bool>,
        settled: impl FnOnce(),
    ) -> Option<CloseReason> {
        let config = &inner.config;
        let counters = &inner.counters;
        let inbox = Inbox {
            carrier: config.id.clone(),
            receipts: ReceiptStyle {
                id_form: config.id_form,
                per: config.receipt_per,
            },
            receipts_by_text: config.receipts_by_text,
            text: config.text,
            counters: Arc::clone(counters),
            overdue: config.supports.query_sm.then(|| Arc::clone(inner)),
        };
        let role = Role::Esme(credentials(config, self.mode));
        let made = link(stream, role, link_settings(config), inbox, events.clone());
        let (link, driver) = match made {
            Ok(pair) => pair,
            Err(error) => {
                warn!(carrier = %config.id, %error, "cannot bind");
                return Some(CloseReason::Aborted);
            }
        };
        let driver = tokio::spawn(driver.run());
        let moved = self.attend(inner, &link, stop, settled).await;
        let reason = link.closed().await;
        // The driver ends with its session; a panic in it has closed the session as well.
        let _ = driver.await;
        match reason {
            CloseReason::BindRefused(_) | CloseReason::BindTimeout => {
                SmppCounters::count(&counters.bind_failures);
            }
            _ => SmppCounters::count(&counters.disconnects),
        }
        if moved || *stop.borrow() {
            debug!(carrier = %config.id, mode = self.mode.name(), %reason, "session ended");
        } else {
            warn!(carrier = %config.id, mode = self.mode.name(), %reason, "session ended");
        }
        (!moved).then_some(reason)
    }

    /// Until the session ends, the carrier is to stop or a better host is there (true); then its
    /// window empties and it is unbound.
    async fn attend(
        &self,
        inner: &Arc<Inner>,
        link: &Link,
        stop: &mut watch::Receiver<bool>,
        settled: impl FnOnce(),
    ) -> bool {
        let config = &inner.config;
        let bound = tokio::select! {
            biased;
            () = told_to_stop(stop) => false,
            state = link.settled() => state == LinkState::Bound,
        };
        settled();
        if !bound {
            link.unbind();
            return false;
        }
        SmppCounters::count(&inner.counters.binds);
        info!(carrier = %config.id, mode = self.mode.name(), "bound");
        let slot = &inner.slots[self.slot];
        let offer = |link: Option<Link>| {
            if self.mode.transmits() {
                *slot.link.lock().unwrap_or_else(PoisonError::into_inner) = link;
                inner.note_connection();
            }
        };
        offer(Some(link.clone()));
        let moved = tokio::select! {
            biased;
            _ = link.closed() => false,
            () = told_to_stop(stop) => false,
            () = self.better_host(inner) => true,
        };
        offer(None);
        let window = u32::try_from(config.window).unwrap_or(u32::MAX);
        if self.mode.transmits() && !matches!(link.state(), LinkState::Closed(_)) {
            // Too late is too late: what has no answer by then is unknown.
            let _ = timeout(config.drain, slot.permits.acquire_many(window)).await;
        }
        link.unbind();
        if timeout(config.drain, link.closed()).await.is_err() {
            link.abort();
        }
        moved
    }

    /// Resolves when a host that comes before ours can be connected to again.
    async fn better_host(&self, inner: &Inner) {
        let config = &inner.config;
        let Some(current) = self.host else {
            return std::future::pending().await;
        };
        loop {
            // Sessions do not all leave at once.
            let share = self.slot as f64 / inner.slots.len().max(1) as f64;
            sleep(config.host_return.mul_f64(1.0 + share)).await;
            let better = inner.hosts().better(self.slot, current, now());
            let Some(better) = better else {
                continue;
            };
            let address = inner.hosts().address(better).to_owned();
            match inner.network.connect(config, &address).await {
                Ok(_) => {
                    info!(carrier = %config.id, address, "a better host is back");
                    return;
                }
                Err(error) => {
                    debug!(carrier = %config.id, address, %error, "a better host is still away");
                }
            }
        }
    }
}

fn credentials(config: &SmppConfig, mode: BindMode) -> Credentials {
    Credentials {
        mode,
        system_id: config.system_id.clone(),
        password: config.password.clone(),
        system_type: config.system_type.clone(),
        interface_version: config.interface_version,
        address_range: config.address_range.clone(),
        addr_ton: config.addr_ton,
        addr_npi: config.addr_npi,
    }
}

fn link_settings(config: &SmppConfig) -> LinkSettings {
    let mut settings = LinkSettings {
        // Whole messages wait here for a window of segments; the slot's permits bound them.
        commands_max: config.window,
        overload_status: status::ESME_RMSGQFUL,
        ..LinkSettings::default()
    };
    settings.session.window = config.window;
    settings.session.bind = config.bind_timeout;
    settings.session.response = config.response_timeout;
    settings.session.enquire_link = config.enquire_link;
    settings
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Also when whoever could tell us is gone.
pub(super) async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
