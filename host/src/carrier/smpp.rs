//! A carrier spoken to over SMPP as an ESME: several sessions that bind, reconnect and share one
//! pace; one submit_sm for each segment. Knows sessions and PDUs, not what retries are worth.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info};

use super::pace::Pacer;
pub use super::smpp_config::Supports;
pub use super::smpp_config::{Binding, ConfigError, SmppConfig, SmppCounters, TlsConfig};
pub use super::smpp_hosts::HostOrder;
use super::smpp_hosts::Hosts;
use super::smpp_network::Tcp;
pub use super::smpp_network::{ConnectError, Network, Octets};
use super::smpp_outbind;
pub use super::smpp_outbind::OutbindConfig;
use super::smpp_parameters::wire_address;
pub use super::smpp_parameters::{AddressRule, Shape, SubmitDefaults, Validity};
use super::smpp_query::{Overdue, ask_overdue};
use super::smpp_seat::Seat;
pub use super::smpp_status::{StatusRule, Statuses};
use super::smpp_submit::{self, Part, SubmitStyle, Verdict};
use super::{
    BoxFuture, CallBackError, Carrier, CarrierEvent, CarrierStatus, Exchange, Handed, Outgoing,
    Place, SendOutcome, Turnover,
};
use crate::domain::text::TextStyle;
use crate::domain::{CarrierId, Message, PartState};
use crate::smpp::encode::{PASSWORD_MAX, SYSTEM_ID_MAX};
use crate::smpp::link::{Answer, Link, Response};
use crate::smpp::pdu::{Body, CancelSm, ReplaceSm};
use crate::smpp::session::BindMode;
use crate::smpp::status::{self, Class};
use crate::smpp::time;

/// A running SMPP carrier.
pub struct SmppCarrier {
    inner: Arc<Inner>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

pub(super) struct Inner {
    pub(super) config: SmppConfig,
    pub(super) network: Arc<dyn Network>,
    style: SubmitStyle,
    /// One for each session that may submit.
    pub(super) slots: Vec<Slot>,
    hosts: Mutex<Hosts>,
    /// Connections in the making.
    pub(super) connecting: Semaphore,
    pacer: Mutex<Pacer>,
    overdue: Mutex<Overdue>,
    /// Those whom the pacer makes wait, in their order.
    queue: Semaphore,
    /// Tells that something that `ready` waits for may have changed.
    turnover: Arc<Turnover>,
    /// Since when no session may submit; none while one may.
    down_since: watch::Sender<Option<Instant>>,
    pub(super) counters: Arc<SmppCounters>,
}

pub(super) struct Slot {
    pub(super) link: Mutex<Option<Link>>,
    /// The session's window.
    pub(super) permits: Arc<Semaphore>,
}

impl Slot {
    fn link(&self) -> Option<Link> {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.clone().filter(Link::is_bound)
    }
}

/// With no throughput agreed, an idle carrier's headroom.
const HEADROOM_UNLIMITED: f32 = 10_000.0;
/// How long places of a window that was full are gathered before messages are claimed for them.
const READY_GATHER: Duration = Duration::from_millis(2);
/// `ready` looks again at least that often.
const READY_RECHECK: Duration = Duration::from_millis(200);
/// A message of which some segments are taken already is completed with that many more tries.
const COMPLETION_TRIES: u32 = 3;
const COMPLETION_PAUSE: Duration = Duration::from_millis(500);
/// Connections that are made at once.
const CONNECTING_MAX: usize = 4;

impl SmppCarrier {
    /// Begins to connect. Must be called within a tokio runtime. `seed` spreads reconnects: carriers
    /// and hosts are to have different ones.
    pub fn start(
        config: SmppConfig,
        seed: u64,
        events: mpsc::Sender<CarrierEvent>,
    ) -> Result<Arc<SmppCarrier>, ConfigError> {
        SmppCarrier::start_over(Arc::new(Tcp), config, seed, events)
    }

    /// The same over another network than the machine's.
    pub fn start_over(
        network: Arc<dyn Network>,
        config: SmppConfig,
        seed: u64,
        events: mpsc::Sender<CarrierEvent>,
    ) -> Result<Arc<SmppCarrier>, ConfigError> {
        config.check()?;
        if config.system_id.len() > SYSTEM_ID_MAX || config.password.len() > PASSWORD_MAX {
            debug!(carrier = %config.id, "system_id or password is longer than SMPP 3.4 has it; sent as it is");
        }
        let now = Instant::now();
        let (down_since, _) = watch::channel(Some(now));
        let inner = Arc::new(Inner {
            style: SubmitStyle {
                carrier: config.id.clone(),
                defaults: config.submit.clone(),
                interface_version: config.interface_version,
                user_message_reference: config.user_message_reference,
                receives: config.binding != Binding::Transmitter,
                data_sm: config.supports.data_sm,
                statuses: config.statuses.clone(),
            },
            slots: (0..config.slots())
                .map(|_| Slot {
                    link: Mutex::new(None),
                    permits: Arc::new(Semaphore::new(config.window)),
                })
                .collect(),
            hosts: Mutex::new(Hosts::new(
                &config.addresses,
                config.host_order,
                config.reconnect_min,
                config.reconnect_max,
            )),
            connecting: Semaphore::new(CONNECTING_MAX),
            pacer: Mutex::new(Pacer::new(config.throughput, now.into_std())),
            overdue: Mutex::new(Overdue::new(config.query_after)),
            queue: Semaphore::new(1),
            turnover: Arc::default(),
            down_since,
            counters: Arc::new(SmppCounters::default()),
            network,
            config,
        });
        let (stop, stopped) = watch::channel(false);
        let mut random = StdRng::seed_from_u64(seed);
        let mut tasks = Vec::new();
        if let Some(outbind) = &inner.config.outbind {
            let slots = inner.config.own_sessions()..inner.slots.len();
            let listener = listener(outbind)?;
            let listen = smpp_outbind::listen(
                Arc::clone(&inner),
                outbind.clone(),
                listener,
                slots,
                events.clone(),
                stopped.clone(),
            );
            tasks.push(tokio::spawn(listen));
        }
        if inner.config.supports.query_sm {
            let ask = ask_overdue(Arc::clone(&inner), events.clone(), stopped.clone());
            tasks.push(tokio::spawn(ask));
        }
        for slot in 0..inner.config.own_sessions() {
            for mode in modes(inner.config.binding) {
                let seat = Seat {
                    inner: Arc::clone(&inner),
                    slot,
                    mode: *mode,
                    events: events.clone(),
                    random: StdRng::from_rng(&mut random),
                };
                tasks.push(tokio::spawn(seat.keep(stopped.clone())));
            }
        }
        Ok(Arc::new(SmppCarrier {
            inner,
            stop,
            tasks: Mutex::new(tasks),
        }))
    }

    pub fn counters(&self) -> &SmppCounters {
        &self.inner.counters
    }
}

impl Carrier for SmppCarrier {
    fn id(&self) -> &CarrierId {
        &self.inner.config.id
    }

    fn tags(&self) -> &[String] {
        &self.inner.config.tags
    }

    fn status(&self) -> CarrierStatus {
        self.inner.status()
    }

    fn text_style(&self) -> TextStyle {
        self.inner.config.text
    }

    fn ready(&self) -> BoxFuture<'_, usize> {
        Box::pin(self.inner.ready())
    }

    fn down(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.inner.down())
    }

    fn send<'a>(&'a self, outgoing: Outgoing<'a>) -> BoxFuture<'a, Handed> {
        Box::pin(async move {
            let mut window = None;
            let outcome = self.inner.send(&outgoing, &mut window).await;
            self.inner.counters.outcome(&outcome);
            Handed {
                outcome,
                place: window.map(|(_, place)| place),
            }
        })
    }

    fn call_back<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Result<(), CallBackError>> {
        Box::pin(self.inner.cancel(message))
    }

    fn exchanges(&self) -> bool {
        self.inner.config.supports.replace_sm
    }

    fn exchange<'a>(&'a self, exchange: Exchange<'a>) -> BoxFuture<'a, Result<(), CallBackError>> {
        Box::pin(async move { self.inner.replace(&exchange).await })
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.stop.send_replace(true);
            let tasks =
                std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
            for task in tasks {
                // A seat that panicked has nothing left to shut down.
                let _ = task.await;
            }
        })
    }
}

fn listener(outbind: &OutbindConfig) -> Result<TcpListener, ConfigError> {
    let listen = || {
        let listener = std::net::TcpListener::bind(outbind.listen)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    listen().map_err(|error| ConfigError {
        field: "outbind.listen",
        rule: format!("{} cannot be listened on: {error}", outbind.listen),
    })
}

fn modes(binding: Binding) -> &'static [BindMode] {
    match binding {
        Binding::Transceiver => &[BindMode::Transceiver],
        Binding::Pair => &[BindMode::Transmitter, BindMode::Receiver],
        Binding::Transmitter => &[BindMode::Transmitter],
    }
}

impl Inner {
    pub(super) fn hosts(&self) -> std::sync::MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn overdue(&self) -> std::sync::MutexGuard<'_, Overdue> {
        self.overdue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pacer(&self) -> std::sync::MutexGuard<'_, Pacer> {
        self.pacer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> CarrierStatus {
        let bound = self.slots.iter().filter(|s| s.link().is_some());
        let free: usize = bound.map(|s| s.permits.available_permits()).sum();
        let all = self.config.window * self.slots.len();
        let idle: usize = self
            .slots
            .iter()
            .map(|s| s.permits.available_permits())
            .sum();
        let connected = self.down_since.borrow().is_none();
        CarrierStatus {
            connected,
            in_flight: u32::try_from(all - idle).unwrap_or(u32::MAX),
            headroom: if connected {
                self.headroom(free, all)
            } else {
                0.0
            },
        }
    }

    /// The part of the rate that is not used up, and none without window.
    fn headroom(&self, free: usize, all: usize) -> f32 {
        if free == 0 {
            return 0.0;
        }
        let now = Instant::now().into_std();
        let mut pacer = self.pacer();
        match (pacer.rate(now), pacer.available(now)) {
            (Some(rate), Some(available)) => {
                (rate * (available / (rate / 10.0).max(1.0)).min(1.0)) as f32
            }
            _ => HEADROOM_UNLIMITED * free as f32 / all as f32,
        }
    }

    async fn ready(&self) -> usize {
        // Places come back one by one with the answers: were each claimed for alone, a full window would cost a
        // claim for every message.
        let many = (self.config.window * self.slots.len() / 4).max(1);
        let mut waited = false;
        loop {
            let changed = self.turnover.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let room = self.room();
            if room >= many || room > 0 && !waited {
                return room;
            }
            if room > 0 {
                sleep(READY_GATHER).await;
                waited = false;
                continue;
            }
            waited = true;
            // The pacer's tokens come by themselves, so time is a reason to look again too.
            let recheck = if self.window_soon_free() > 0 {
                Duration::from_millis(5)
            } else {
                READY_RECHECK
            };
            let _ = timeout(recheck, changed).await;
        }
    }

    fn room(&self) -> usize {
        let free = self.window_soon_free();
        // Nothing more is claimed while something claimed waits for its pace.
        if free == 0 || self.queue.available_permits() == 0 {
            return 0;
        }
        let now = Instant::now().into_std();
        match self.pacer().available(now) {
            Some(available) => free.min(available as usize),
            None => free,
        }
    }

    /// Places for messages that are claimed now: those that are free, and those that will be by then.
    fn window_soon_free(&self) -> usize {
        let bound = self.slots.iter().filter(|s| s.link().is_some());
        let free = bound.map(|s| s.permits.available_permits());
        free.reduce(|a, b| a + b)
            .map_or(0, |free| free + self.turnover.settling())
    }

    async fn down(&self) {
        let mut down_since = self.down_since.subscribe();
        loop {
            let since = *down_since.borrow_and_update();
            let over = async {
                match since {
                    Some(since) => sleep_until(since + self.config.down_after).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = down_since.changed() => if changed.is_err() {
                    return;
                },
                () = over => return,
            }
        }
    }

    /// One request beside messages, on any session; none where it got no response.
    pub(super) async fn ask(&self, body: &Body<'_>) -> Option<Response> {
        let (link, _place) = self.take_window(1).await?;
        link.ask(body).await.ok()
    }

    /// cancel_sm for every segment that the carrier has (SMPP 3.4, 4.9.1).
    async fn cancel(&self, message: &Message) -> Result<(), CallBackError> {
        if !self.config.supports.cancel_sm {
            return Err(CallBackError::NotSupported);
        }
        let there = message.parts.iter().filter(|p| {
            p.carrier == self.config.id
                && p.state == PartState::Enroute
                && !p.carrier_message_id.is_empty()
        });
        let ids: Vec<&str> = there.map(|p| p.carrier_message_id.as_str()).collect();
        if ids.is_empty() {
            return Err(CallBackError::NotSupported);
        }
        let defaults = &self.config.submit;
        let source = wire_address(message.sent_originator(), &defaults.source);
        let destination = wire_address(&message.recipient, &defaults.destination);
        let mut refused = None;
        for id in ids {
            let cancel = Body::CancelSm(CancelSm {
                service_type: defaults.service_type(&message.sm).as_bytes(),
                message_id: id.as_bytes(),
                source_addr_ton: source.ton,
                source_addr_npi: source.npi,
                source_addr: source.value.as_bytes(),
                dest_addr_ton: destination.ton,
                dest_addr_npi: destination.npi,
                destination_addr: destination.value.as_bytes(),
            });
            let response = self.ask(&cancel).await.ok_or(CallBackError::Unanswered)?;
            let status = response
                .pdu()
                .map_or(status::ESME_RUNKNOWNERR, |pdu| pdu.command_status);
            if status != status::ESME_ROK {
                refused = refused.or(Some(status));
            }
        }
        // All segments were asked about, so that no more of them arrive than must.
        refused.map_or(Ok(()), |status| Err(CallBackError::Refused { status }))
    }

    /// replace_sm for a message of one segment (SMPP 3.4, 4.10.1), which says neither data_coding nor
    /// header: those of what is replaced stay.
    async fn replace(&self, exchange: &Exchange<'_>) -> Result<(), CallBackError> {
        let message = exchange.message;
        let [part] = &message.parts[..] else {
            return Err(CallBackError::NotSupported);
        };
        let known = part.carrier == self.config.id
            && part.state == PartState::Enroute
            && !part.carrier_message_id.is_empty();
        if !known || !self.config.supports.replace_sm {
            return Err(CallBackError::NotSupported);
        }
        let defaults = &self.config.submit;
        let source = wire_address(message.sent_originator(), &defaults.source);
        let mut sm = message.sm.clone();
        sm.receipts = exchange.receipts.unwrap_or(sm.receipts);
        let schedule = exchange.send_at.filter(|at| *at > exchange.now);
        let schedule = schedule.and_then(time::absolute);
        let validity = exchange.expires_at.and_then(|at| match defaults.validity {
            Validity::Relative => Some(time::relative(at.since(exchange.now))),
            Validity::Absolute => time::absolute(at),
            Validity::None => None,
        });
        let replace = Body::ReplaceSm(ReplaceSm {
            message_id: part.carrier_message_id.as_bytes(),
            source_addr_ton: source.ton,
            source_addr_npi: source.npi,
            source_addr: source.value.as_bytes(),
            schedule_delivery_time: schedule.as_ref().map_or(&[], |at| at),
            validity_period: validity.as_ref().map_or(&[], |at| at),
            registered_delivery: defaults.registered_delivery(&sm, self.style.receives),
            sm_default_msg_id: 0,
            short_message: exchange.short_message,
        });
        let response = self.ask(&replace).await.ok_or(CallBackError::Unanswered)?;
        let status = response
            .pdu()
            .map_or(status::ESME_RUNKNOWNERR, |pdu| pdu.command_status);
        match status {
            status::ESME_ROK => Ok(()),
            status => Err(CallBackError::Refused { status }),
        }
    }

    /// All segments on one session. Where a carrier takes some and puts others off, the others are
    /// tried again here: a message sent anew would double the ones that it took.
    async fn send(
        &self,
        outgoing: &Outgoing<'_>,
        window: &mut Option<(Link, Place)>,
    ) -> SendOutcome {
        let mut parts = match smpp_submit::parts(outgoing, &self.style) {
            Ok(parts) => parts,
            Err(error) => {
                return SendOutcome::Permanent {
                    status: 0,
                    detail: error.to_string(),
                };
            }
        };
        let statuses = &self.style.statuses;
        let taken_before = smpp_submit::taken(&parts, statuses);
        let (mut room, mut pause) = (self.config.window, COMPLETION_PAUSE);
        for tries_left in (0..=COMPLETION_TRIES).rev() {
            self.submit(&mut parts, room, window).await;
            if let Verdict::Final(outcome) = smpp_submit::verdict(&parts, statuses) {
                self.await_receipts(outgoing, &outcome);
                return outcome;
            }
            // What was taken just now has its place until it is written down.
            let taken = smpp_submit::taken(&parts, statuses) - taken_before;
            room = self.config.window.saturating_sub(taken);
            if room == 0 || smpp_submit::none_went(&parts, statuses) {
                return match taken {
                    0 => SendOutcome::Unavailable,
                    _ => SendOutcome::Begun {
                        taken: smpp_submit::ids(&parts, statuses),
                    },
                };
            }
            if tries_left > 0 {
                sleep(pause).await;
                pause *= 2;
            }
        }
        smpp_submit::unanswered(&parts, statuses)
    }

    /// Has the carrier asked about what it took, should it stay silent.
    fn await_receipts(&self, outgoing: &Outgoing<'_>, outcome: &SendOutcome) {
        let SendOutcome::Sent { ids } = outcome else {
            return;
        };
        if !self.config.supports.query_sm {
            return;
        }
        let source = wire_address(outgoing.originator, &self.config.submit.source).into_owned();
        let now = Instant::now().into_std();
        let mut overdue = self.overdue();
        for id in ids {
            overdue.sent(now, id, source.clone());
        }
    }

    /// Submits those parts that have no final answer, as many as there is room for.
    async fn submit(&self, parts: &mut [Part], room: usize, window: &mut Option<(Link, Place)>) {
        let statuses = &self.style.statuses;
        let open = parts.iter().filter(|p| p.is_open(statuses)).count();
        let open = open.min(room);
        if !self.wait_for_pace(open).await {
            return;
        }
        // The places of an earlier try are kept while its session lasts: what was taken then is not
        // durable yet.
        if !window.as_ref().is_some_and(|(link, _)| link.is_bound()) {
            *window = None;
            *window = self.take_window(open).await;
        }
        let Some((link, _)) = window else {
            return;
        };
        self.counters
            .submitted
            .fetch_add(open as u64, Ordering::Relaxed);
        let requests = smpp_submit::requests(parts, open, statuses);
        let began = Instant::now();
        let answers = link.send(requests).await;
        self.heed(&answers, link.congestion(), began.elapsed());
        let waiting = parts.iter_mut().filter(|p| p.is_open(statuses));
        for (part, answer) in waiting.zip(answers) {
            part.answer = answer;
        }
    }

    /// Lets the pace follow what the carrier makes of what it was sent.
    fn heed(&self, answers: &[Answer], congestion: Option<u8>, latency: Duration) {
        let (mut taken, mut complains) = (0, false);
        for answer in answers {
            match answer {
                Answer::Answered { command_status, .. } => {
                    match self.style.statuses.class(*command_status) {
                        Class::Throttled => complains = true,
                        Class::Ok => taken += 1,
                        Class::Temporary | Class::Permanent => {}
                    }
                }
                Answer::TimedOut | Answer::Lost | Answer::Unsent => {}
            }
        }
        let now = Instant::now().into_std();
        let mut pacer = self.pacer();
        if taken > 0 && pacer.took(now, taken, latency) {
            debug!(carrier = %self.config.id, "the carrier answers slowly: sending slower");
        }
        if complains && pacer.complaint(now) {
            info!(carrier = %self.config.id, rate = pacer.rate(now), "throttled by the carrier: sending slower");
        }
        if let Some(state) = congestion
            && pacer.congestion(now, state)
        {
            debug!(carrier = %self.config.id, state, "the carrier is congested: sending slower");
        }
    }

    /// False where the carrier went down meanwhile.
    async fn wait_for_pace(&self, count: usize) -> bool {
        if self.down_since.borrow().is_some() {
            return false;
        }
        let now = Instant::now().into_std();
        // Past nobody who waits: a long message needs several tokens at once, and newcomers with one
        // segment would take them from under it.
        let nobody_waits = self.queue.available_permits() > 0;
        if nobody_waits && self.pacer().take(now, count).is_ok() {
            return true;
        }
        // Closed by nobody.
        let Ok(_turn) = self.queue.acquire().await else {
            return false;
        };
        loop {
            if self.down_since.borrow().is_some() {
                return false;
            }
            let now = Instant::now().into_std();
            let taken = self.pacer().take(now, count);
            match taken {
                Ok(()) => return true,
                Err(wait) => sleep(wait.min(READY_RECHECK)).await,
            }
        }
    }

    /// The least loaded session and its window; none where no session is left.
    async fn take_window(&self, count: usize) -> Option<(Link, Place)> {
        let wanted = u32::try_from(count.min(self.config.window)).unwrap_or(u32::MAX);
        loop {
            let bound = self.slots.iter().filter(|s| s.link().is_some());
            let slot = bound.max_by_key(|s| s.permits.available_permits())?;
            let permits = Arc::clone(&slot.permits)
                .acquire_many_owned(wanted)
                .await
                .ok()?;
            if let Some(link) = slot.link() {
                return Some((link, Place::new(permits, &self.turnover)));
            }
        }
    }

    /// Notes whether any session may submit.
    pub(super) fn note_connection(&self) {
        let connected = self.slots.iter().any(|s| s.link().is_some());
        self.down_since.send_if_modified(|since| {
            if connected == since.is_none() {
                return false;
            }
            *since = (!connected).then(Instant::now);
            true
        });
        self.turnover.changed.notify_waiters();
    }
}

#[cfg(test)]
#[path = "smpp_tests.rs"]
mod tests;
