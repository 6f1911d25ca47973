//! A carrier spoken to over SMPP as an ESME: several sessions that bind, reconnect and share one
//! pace; one submit_sm for each segment. Knows sessions and PDUs, not what retries are worth.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::pace::Pacer;
pub use super::smpp_config::{Binding, ConfigError, SmppConfig, SmppCounters};
use super::smpp_inbound::Inbox;
use super::smpp_submit::{self, Part, SubmitStyle, Verdict};
use super::{BoxFuture, Carrier, CarrierEvent, CarrierStatus, Outgoing, SendOutcome};
use crate::domain::CarrierId;
use crate::domain::receipt::ReceiptStyle;
use crate::domain::text::TextStyle;
use crate::smpp::encode::{PASSWORD_MAX, SYSTEM_ID_MAX};
use crate::smpp::link::{Answer, Link, LinkSettings, LinkState, link};
use crate::smpp::session::{BindMode, CloseReason, Credentials, Role};
use crate::smpp::status;

/// A running SMPP carrier.
pub struct SmppCarrier {
    inner: Arc<Inner>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

struct Inner {
    config: SmppConfig,
    style: SubmitStyle,
    /// One for each session that may submit.
    slots: Vec<Slot>,
    pacer: Mutex<Pacer>,
    /// Those whom the pacer makes wait, in their order.
    queue: Semaphore,
    /// Something that `ready` waits for may have changed.
    changed: Notify,
    /// Since when no session may submit; none while one may.
    down_since: watch::Sender<Option<Instant>>,
    counters: Arc<SmppCounters>,
}

struct Slot {
    link: Mutex<Option<Link>>,
    /// The session's window.
    permits: Arc<Semaphore>,
}

impl Slot {
    fn link(&self) -> Option<Link> {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.clone().filter(Link::is_bound)
    }
}

/// With no throughput agreed, an idle carrier's headroom.
const HEADROOM_UNLIMITED: f32 = 10_000.0;
/// `ready` looks again at least that often.
const READY_RECHECK: Duration = Duration::from_millis(200);
/// A message of which some segments are taken already is completed with that many more tries.
const COMPLETION_TRIES: u32 = 3;
const COMPLETION_PAUSE: Duration = Duration::from_millis(500);
/// A session that lived so long has earned a quick reconnect.
const STABLE: Duration = Duration::from_secs(10);

impl SmppCarrier {
    /// Begins to connect. Must be called within a tokio runtime. `seed` spreads reconnects: carriers
    /// and hosts are to have different ones.
    pub fn start(
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
                service_type: config.service_type.clone(),
                user_message_reference: config.user_message_reference,
                registered_delivery: config.binding != Binding::Transmitter,
            },
            slots: (0..config.sessions)
                .map(|_| Slot {
                    link: Mutex::new(None),
                    permits: Arc::new(Semaphore::new(config.window)),
                })
                .collect(),
            pacer: Mutex::new(Pacer::new(config.throughput, now.into_std())),
            queue: Semaphore::new(1),
            changed: Notify::new(),
            down_since,
            counters: Arc::new(SmppCounters::default()),
            config,
        });
        let (stop, stopped) = watch::channel(false);
        let mut random = StdRng::seed_from_u64(seed);
        let mut tasks = Vec::new();
        for slot in 0..inner.slots.len() {
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

    fn send<'a>(&'a self, outgoing: Outgoing<'a>) -> BoxFuture<'a, SendOutcome> {
        Box::pin(async move {
            let outcome = self.inner.send(&outgoing).await;
            self.inner.counters.outcome(&outcome);
            self.inner.changed.notify_waiters();
            outcome
        })
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

fn modes(binding: Binding) -> &'static [BindMode] {
    match binding {
        Binding::Transceiver => &[BindMode::Transceiver],
        Binding::Pair => &[BindMode::Transmitter, BindMode::Receiver],
        Binding::Transmitter => &[BindMode::Transmitter],
    }
}

impl Inner {
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
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
        match (pacer.rate(now), pacer.available(now)) {
            (Some(rate), Some(available)) => {
                (rate * (available / (rate / 10.0).max(1.0)).min(1.0)) as f32
            }
            _ => HEADROOM_UNLIMITED * free as f32 / all as f32,
        }
    }

    async fn ready(&self) -> usize {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let room = self.room();
            if room > 0 {
                return room;
            }
            // The pacer's tokens come by themselves, so time is a reason to look again too.
            let recheck = if self.window_free() > 0 {
                Duration::from_millis(5)
            } else {
                READY_RECHECK
            };
            let _ = timeout(recheck, changed).await;
        }
    }

    fn room(&self) -> usize {
        let free = self.window_free();
        // Nothing more is claimed while something claimed waits for its pace.
        if free == 0 || self.queue.available_permits() == 0 {
            return 0;
        }
        let now = Instant::now().into_std();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        match self.pacer().available(now) {
            Some(available) => free.min(available as usize),
            None => free,
        }
    }

    fn window_free(&self) -> usize {
        let bound = self.slots.iter().filter(|s| s.link().is_some());
        bound.map(|s| s.permits.available_permits()).sum()
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

    /// All segments on one session. Where a carrier takes some and puts others off, the others are
    /// tried again here: a message sent anew would double the ones that it took.
    async fn send(&self, outgoing: &Outgoing<'_>) -> SendOutcome {
        let mut parts = match smpp_submit::parts(outgoing, &self.style) {
            Ok(parts) => parts,
            Err(error) => {
                return SendOutcome::Permanent {
                    status: 0,
                    detail: error.to_string(),
                };
            }
        };
        let mut pause = COMPLETION_PAUSE;
        for tries_left in (0..=COMPLETION_TRIES).rev() {
            self.submit(&mut parts).await;
            match smpp_submit::verdict(&parts) {
                Verdict::Final(outcome) => return outcome,
                Verdict::Incomplete if tries_left == 0 => return SendOutcome::Unknown,
                Verdict::Incomplete => sleep(pause).await,
            }
            pause *= 2;
        }
        SendOutcome::Unknown
    }

    /// Submits those parts that have no final answer.
    async fn submit(&self, parts: &mut [Part]) {
        let open = parts.iter().filter(|p| p.is_open()).count();
        if !self.wait_for_pace(open).await {
            return;
        }
        let Some((link, permits)) = self.take_window(open).await else {
            return;
        };
        self.counters
            .submitted
            .fetch_add(open as u64, Ordering::Relaxed);
        let requests = smpp_submit::requests(parts);
        let answers = link.send(requests).await;
        drop(permits);
        let complains = |a: &Answer| match a {
            Answer::Answered { command_status, .. } => {
                status::class(*command_status) == status::Class::Throttled
            }
            Answer::TimedOut | Answer::Lost | Answer::Unsent => false,
        };
        if answers.iter().any(complains) && self.pacer().complaint(Instant::now().into_std()) {
            info!(carrier = %self.config.id, "throttled by the carrier: sending slower");
        }
        for (part, answer) in parts.iter_mut().filter(|p| p.is_open()).zip(answers) {
            part.answer = answer;
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
    async fn take_window(&self, count: usize) -> Option<(Link, OwnedSemaphorePermit)> {
        let wanted = u32::try_from(count.min(self.config.window)).unwrap_or(u32::MAX);
        loop {
            let bound = self.slots.iter().filter(|s| s.link().is_some());
            let slot = bound.max_by_key(|s| s.permits.available_permits())?;
            let permits = Arc::clone(&slot.permits)
                .acquire_many_owned(wanted)
                .await
                .ok()?;
            if let Some(link) = slot.link() {
                return Some((link, permits));
            }
        }
    }

    /// Notes whether any session may submit.
    fn note_connection(&self) {
        let connected = self.slots.iter().any(|s| s.link().is_some());
        self.down_since.send_if_modified(|since| {
            if connected == since.is_none() {
                return false;
            }
            *since = (!connected).then(Instant::now);
            true
        });
        self.changed.notify_waiters();
    }
}

/// One session's place: fills it, and fills it again.
struct Seat {
    inner: Arc<Inner>,
    slot: usize,
    mode: BindMode,
    events: mpsc::Sender<CarrierEvent>,
    random: StdRng,
}

impl Seat {
    async fn keep(mut self, mut stop: watch::Receiver<bool>) {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let end = self.session(&mut stop).await;
            if *stop.borrow() {
                return;
            }
            let refused = matches!(end, Some(CloseReason::BindRefused(_)));
            failures = if began.elapsed() >= STABLE && !refused {
                0
            } else {
                failures + 1
            };
            let pause = self.back_off(failures, refused);
            tokio::select! {
                () = sleep(pause) => {}
                () = told_to_stop(&mut stop) => return,
            }
        }
    }

    /// Connects, binds and stays until the session ends.
    async fn session(&mut self, stop: &mut watch::Receiver<bool>) -> Option<CloseReason> {
        let config = &self.inner.config;
        let counters = &self.inner.counters;
        let connecting = timeout(
            config.bind_timeout,
            TcpStream::connect(config.address.as_str()),
        );
        let connected = tokio::select! {
            connected = connecting => connected,
            () = told_to_stop(stop) => return None,
        };
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                SmppCounters::count(&counters.bind_failures);
                warn!(carrier = %config.id, address = %config.address, %error, "cannot connect");
                return None;
            }
            Err(_) => {
                SmppCounters::count(&counters.bind_failures);
                warn!(carrier = %config.id, address = %config.address, "cannot connect in time");
                return None;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(carrier = %config.id, %error, "TCP_NODELAY");
        }
        let inbox = Inbox {
            carrier: config.id.clone(),
            receipts: ReceiptStyle {
                id_form: config.id_form,
                per: config.receipt_per,
            },
            receipts_by_text: config.receipts_by_text,
            text: config.text,
            counters: Arc::clone(counters),
        };
        let role = Role::Esme(self.credentials());
        let (link, driver) = match link(
            stream,
            role,
            self.link_settings(),
            inbox,
            self.events.clone(),
        ) {
            Ok(pair) => pair,
            Err(error) => {
                warn!(carrier = %config.id, %error, "cannot bind");
                return None;
            }
        };
        let driver = tokio::spawn(driver.run());
        self.attend(&link, stop).await;
        let reason = link.closed().await;
        // The driver ends with its session; a panic in it has closed the session as well.
        let _ = driver.await;
        match reason {
            CloseReason::BindRefused(_) | CloseReason::BindTimeout => {
                SmppCounters::count(&counters.bind_failures);
            }
            _ => SmppCounters::count(&counters.disconnects),
        }
        let stopping = *stop.borrow();
        if stopping {
            debug!(carrier = %config.id, mode = self.mode.name(), %reason, "session ended");
        } else {
            warn!(carrier = %config.id, mode = self.mode.name(), %reason, "session ended");
        }
        Some(reason)
    }

    /// Offers the bound session to senders until it ends or the carrier is to stop; then waits for
    /// its window to empty and unbinds.
    async fn attend(&self, link: &Link, stop: &mut watch::Receiver<bool>) {
        let config = &self.inner.config;
        let bound = tokio::select! {
            state = link.settled() => state == LinkState::Bound,
            () = told_to_stop(stop) => false,
        };
        if !bound {
            return link.unbind();
        }
        SmppCounters::count(&self.inner.counters.binds);
        info!(carrier = %config.id, mode = self.mode.name(), "bound");
        let slot = &self.inner.slots[self.slot];
        let offer = |link: Option<Link>| {
            if self.mode.transmits() {
                *slot.link.lock().unwrap_or_else(PoisonError::into_inner) = link;
                self.inner.note_connection();
            }
        };
        offer(Some(link.clone()));
        tokio::select! {
            _ = link.closed() => {}
            () = told_to_stop(stop) => {}
        }
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
    }

    /// Full jitter: anything up to a bound that doubles with every failure, so that carriers' restarts
    /// do not bring all sessions back at once. A refused bind waits long: retries lock accounts.
    fn back_off(&mut self, failures: u32, refused: bool) -> Duration {
        let (min, max) = (
            self.inner.config.reconnect_min,
            self.inner.config.reconnect_max,
        );
        let bound = min.saturating_mul(1 << failures.min(20)).clamp(min, max);
        if refused {
            return max.mul_f64(self.random.random_range(0.5..=1.0));
        }
        bound
            .mul_f64(self.random.random_range(0.0..=1.0))
            .max(Duration::from_millis(1))
    }

    fn credentials(&self) -> Credentials {
        let config = &self.inner.config;
        Credentials {
            mode: self.mode,
            system_id: config.system_id.clone(),
            password: config.password.clone(),
            system_type: config.system_type.clone(),
            address_range: String::new(),
            addr_ton: 0,
            addr_npi: 0,
        }
    }

    fn link_settings(&self) -> LinkSettings {
        let config = &self.inner.config;
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
}

/// Also when whoever could tell us is gone.
async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
#[path = "smpp_tests.rs"]
mod tests;
