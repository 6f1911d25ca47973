//! One life of the simulated server, from its start to its crash or orderly end: the real store and pipeline,
//! between simulated carriers, clients and webhook targets, and whatever befalls them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use heliograph::carrier::Carrier;
use heliograph::clock::Clock;
use heliograph::domain::text::TextWish;
use heliograph::domain::{
    AccountId, Address, Body, Message, MessageId, OnUnknown, SmParameters, Source,
    State as MessageState, TrafficClass,
};
use heliograph::pipeline::numbers::Numbers;
use heliograph::pipeline::{
    Account, Accounts, Carriers, Limits, Parts, Pipeline, Policy, Submission, SubmitError,
    dispatch, notify, receive,
};
use heliograph::plugin::{
    Host, HttpAnswer, HttpClient, HttpFailure, HttpLimits, HttpRequest, HttpResponse, MemoryState,
};
use heliograph::store::{
    Counted, Filter, Idempotency, InboundRecord, Options, OutboxKind, Store, StoreError,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::centre::numbered;
use super::defect::Defect;
use super::handsets;
use super::ledger::number_of;
use super::plugins;
use super::smsc::SimCarrier;
use super::world::{Machine, PLENTY_OCTETS, Power, State, World};

/// Clients send, and things break, for so long.
pub const HOUR_MS: u64 = 3_600_000;
/// Then nothing breaks any more, and what is owed is done.
const REST_MS: u64 = 2_400_000;
const MESSAGES_MAX: usize = 150;

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Without warning, at any step.
    Crash,
    Orderly,
    /// All has come to rest: the last one.
    Rest,
    /// A fault was found that leaves nothing to go on with.
    Broken,
}

struct Server {
    world: World,
    store: Store,
    clock: Clock,
    pipeline: Arc<Pipeline>,
    carriers: Vec<Arc<SimCarrier>>,
    stop: watch::Sender<bool>,
    work: Vec<JoinHandle<()>>,
    esme: JoinHandle<()>,
    back: JoinHandle<()>,
}

/// Lives until something ends it.
pub async fn live(world: &World, folder: &Path) -> End {
    world.lock().begin_life();
    let server = match Server::start(world, folder).await {
        Ok(server) => server,
        Err(error) => {
            world.fault(format!("the store does not open: {error}"));
            return End::Broken;
        }
    };
    for carrier in &server.carriers {
        if !carrier.is_up() {
            server.cut_off(carrier);
        }
    }
    server.look().await;
    let clients = tokio::spawn(clients(world.clone(), server.pipeline.clone()));
    let looking = tokio::spawn(keep_looking(world.clone(), server.store.clone()));
    let end = server.endure().await;
    clients.abort();
    looking.abort();
    match end {
        End::Crash => {
            // At whatever step anybody is just now.
            let steps = world.lock().pick(0..80);
            for _ in 0..steps {
                tokio::task::yield_now().await;
            }
            let mut world = world.lock();
            world.note(format_args!("crash"));
            world.crashed();
        }
        End::Orderly | End::Rest => server.shut_down(end).await,
        End::Broken => {}
    }
    end
}

impl Server {
    async fn start(world: &World, folder: &Path) -> Result<Server, StoreError> {
        let clock = Clock::of(Machine::new(world.clone()));
        let mut options = Options::new(folder);
        options.probes = world.probes();
        options.cache_octets = 1 << 20;
        // Little is written within an hour, and it shall be written over.
        options.segment_octets = 256 << 10;
        // Clocks are set by weeks, and what retention takes away is not lost.
        options.retention_days = 3_650;
        {
            let mut world = world.lock();
            options.sweep_interval = Duration::from_millis(world.pick(2_000..60_000));
            options.generation_age = Duration::from_millis(world.pick(5_000..120_000));
            options.ready_max = usize::try_from(world.pick(2..50)).unwrap_or(2);
            options.checkpoint_octets = world.pick(1..2 << 20);
            options.commit_max = usize::try_from(world.pick(1..20)).unwrap_or(1);
        }
        let store = open(&options, &clock)?;
        let http = Arc::new(Target(world.clone()));
        let host = Host {
            engine: plugins::engine(world),
            state: Arc::new(MemoryState::new(clock.clone())),
            http: http.clone(),
            pseudonym_key: [0; 32],
        };
        let names = ["north".to_owned(), "south".to_owned()];
        let base = folder.to_owned();
        let policy = Policy::open(host, store.clone(), clock.clone(), names, base).await?;
        plugins::resume(world, &policy).await;
        let (events, received) = mpsc::channel(64);
        let carriers: Vec<_> = (0..2)
            .map(|n| SimCarrier::new(n, world.clone(), events.clone()))
            .collect();
        let seed = world.lock().pick(0..u64::MAX);
        let mut limits = Limits::default();
        limits.reassembly.patience = Duration::from_secs(world.lock().pick(20..600));
        let plain = carriers.iter().map(|c| c.clone() as Arc<dyn Carrier>);
        let pipeline = Pipeline::new(Parts {
            carriers: Carriers::new(plain.collect(), store.clone(), clock.clone()),
            store: store.clone(),
            policy,
            accounts: Accounts::new([account()]),
            numbers: Numbers::new(BTreeMap::new()).expect("no zone of its own"),
            clock: clock.clone(),
            limits,
            recorder: None,
            seed,
            webhooks: http,
        });
        let (stop, stopped) = watch::channel(false);
        for (n, carrier) in carriers.iter().enumerate() {
            tokio::spawn(carrier.clone().report());
            tokio::spawn(handsets::write(world.clone(), n, carrier.clone()));
        }
        let render: notify::Render = Arc::new(|entry, subject| match (entry.kind, subject) {
            (OutboxKind::Status(state), notify::Subject::Message(message)) => {
                format!("{} {}", message.reference, state.name()).into_bytes()
            }
            (_, notify::Subject::Inbound(record)) => {
                format!("text {}", record.inbound.id).into_bytes()
            }
            _ => Vec::new(),
        });
        let esme = handsets::esme(world.clone(), store.clone(), clock.clone());
        let work = vec![
            tokio::spawn(dispatch::run(pipeline.clone(), stopped.clone())),
            tokio::spawn(notify::run(pipeline.clone(), render, stopped.clone())),
        ];
        let back = tokio::spawn(receive::run(pipeline.clone(), received, stopped));
        world.note(format_args!("the server is up"));
        Ok(Server {
            world: world.clone(),
            store,
            clock,
            pipeline,
            carriers,
            stop,
            work,
            esme: tokio::spawn(esme),
            back,
        })
    }

    /// What befalls it, until it ends.
    async fn endure(&self) -> End {
        let world = &self.world;
        loop {
            if let Err(error) = self.store_runs() {
                world.note(format_args!("the store has stopped: {error}"));
                return End::Crash;
            }
            let until_rest = HOUR_MS.saturating_sub(world.now_ms());
            if until_rest == 0 {
                return self.rest().await;
            }
            let wait = world.lock().pick(1..240_000).min(until_rest);
            world.lock().leave_clock_for(wait);
            world.sleep(wait).await;
            let what = world.lock().pick(0..100);
            match what {
                0..18 => {
                    if what < 9 {
                        world.lock().power = Power::Failing(None);
                        world.pause(1..5_000).await;
                    }
                    return End::Crash;
                }
                18..24 => return End::Orderly,
                24..54 => self.cut_off(&self.carriers[usize::from(what.is_multiple_of(2))]),
                54..60 => {
                    world.lock().sync_fails = true;
                    // Nobody notices at once.
                    world.pause(1..5_000).await;
                }
                60..70 => self.fill_disk().await,
                70..80 => self.set_clock(),
                80..90 => {
                    let mut world = world.lock();
                    let ms = world.pick(1_000..600_000);
                    world.webhooks_fail_until = world.now_ms() + ms;
                    world.note(format_args!("webhooks fail for {ms} ms"));
                }
                90..94 => {
                    let mut world = world.lock();
                    let ms = world.pick(1_000..120_000);
                    world.plugins_sick_until = world.now_ms() + ms;
                    world.note(format_args!("plugins are sick for {ms} ms"));
                }
                _ => {
                    let (world, pipeline) = (world.clone(), self.pipeline.clone());
                    tokio::spawn(async move { plugins::swap(&world, &pipeline.policy).await });
                }
            }
        }
    }

    fn store_runs(&self) -> Result<(), StoreError> {
        match self.world.lock().stopped {
            true => Err(StoreError::Stopped("a sync failed".to_owned())),
            false => Ok(()),
        }
    }

    fn cut_off(&self, carrier: &Arc<SimCarrier>) {
        let (long, silent, ms) = {
            let mut world = self.world.lock();
            (
                world.chance(30),
                world.chance(30),
                world.pick(1_000..120_000),
            )
        };
        if silent && carrier.is_up() && carrier.fall_silent(ms) {
            return;
        }
        carrier.set_up(false);
        let (world, carrier) = (self.world.clone(), carrier.clone());
        tokio::spawn(async move {
            world.pause(1..if long { 600_000 } else { 10_000 }).await;
            carrier.set_up(true);
        });
    }

    async fn fill_disk(&self) {
        let free = {
            let mut world = self.world.lock();
            let free = [100 << 20, 1 << 20][usize::from(world.chance(50))];
            world.free_octets = free;
            world.note(format_args!("disk: {free} octets free"));
            free
        };
        if free < 4 << 20 {
            // Nothing is written meanwhile.
            let mut world = self.world.lock();
            let now = world.now_ms();
            world.store_faulty_since.get_or_insert(now);
        }
        self.world.pause(100..60_000).await;
        let mut world = self.world.lock();
        world.free_octets = PLENTY_OCTETS;
        if !world.stopped {
            world.store_faulty_since = None;
        }
        world.note(format_args!("disk: room again"));
    }

    fn set_clock(&self) {
        let mut world = self.world.lock();
        let by = [1_000, 60_000, 3_600_000, 86_400_000, 20 * 86_400_000];
        let by = by[usize::try_from(world.pick(0..5)).unwrap_or(0)];
        let by = i64::try_from(world.pick(1..by)).unwrap_or(0);
        let by = if world.chance(50) { by } else { -by };
        world.clock_off_ms += by;
        // Also what is taken back counts.
        world.clock_was_ahead = true;
        world.note(format_args!("the clock is set by {by} ms"));
    }

    async fn rest(&self) -> End {
        {
            let mut world = self.world.lock();
            world.calm = true;
            world.sync_fails = false;
            world.webhooks_fail_until = 0;
            world.plugins_sick_until = 0;
            world.leave_clock_for(REST_MS);
            world.note(format_args!("calm"));
        }
        for carrier in &self.carriers {
            carrier.set_up(true);
        }
        self.world.sleep(REST_MS).await;
        if let Err(error) = self.store_runs() {
            self.world.fault(format!("stopped while at rest: {error}"));
        }
        let (counted, texts) = self.look().await;
        let stats = self.store.stats();
        // A clock that was days ahead when it started makes a dead letter of what has failed once.
        let dead = match self.world.lock().taken_over_ms {
            0 => 0,
            _ => stats.dead,
        };
        let owed = stats.outbox + dead;
        let now = self.clock.now();
        let mut world = self.world.lock();
        let untold = handsets::untold(&world, &texts);
        world.settled(&counted, (owed, untold), now.0);
        drop(world);
        End::Rest
    }

    async fn look(&self) -> (Counted, Vec<InboundRecord>) {
        let mut counted = Counted::default();
        let texts = look(&self.world, &self.store, &mut counted).await;
        (counted, texts)
    }

    async fn shut_down(self, end: End) {
        let began = self.world.now_ms();
        self.stop.send_replace(true);
        self.esme.abort();
        for task in self.work {
            let _ = task.await;
        }
        for carrier in &self.carriers {
            carrier.shutdown().await;
        }
        let _ = self.back.await;
        self.store.shutdown().await;
        let mut world = self.world.lock();
        if world.store_faulty_since.is_some() {
            world.crashed();
        }
        let took = world.now_ms() - began;
        world.note(format_args!("shut down ({end:?}) in {took} ms"));
    }
}

/// The lock of the one before goes with its last thread.
fn open(options: &Options, clock: &Clock) -> Result<Store, StoreError> {
    let mut tries = 0;
    loop {
        match Store::open_in_task(options.clone(), clock.clone()) {
            Err(error) if tries < 2_000 && is_locked(&error) => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            opened => return opened,
        }
    }
}

async fn keep_looking(world: World, store: Store) {
    let mut counted = Counted::default();
    loop {
        world.pause(10_000..300_000).await;
        look(&world, &store, &mut counted).await;
    }
}

fn is_locked(error: &StoreError) -> bool {
    let why = error.to_string();
    why.contains("in use") || why.contains("lock")
}

/// A part of the list: from which message on, and how many at most. Who looks for the first time reads it whole.
fn window(world: &mut State, counted: &Counted) -> (Option<MessageId>, usize) {
    let known = counted.messages().count() as u64;
    if known == 0 {
        return (None, 10 * MESSAGES_MAX);
    }
    let from = world.pick(0..known + 1);
    let from = counted.messages().nth(usize::try_from(from).unwrap_or(0));
    (
        from.map(|m| m.id),
        usize::try_from(world.pick(1..40)).unwrap_or(1),
    )
}

/// Compares what the store holds with itself and with the ledger. Returns what handsets wrote.
async fn look(world: &World, store: &Store, counted: &mut Counted) -> Vec<InboundRecord> {
    if world.lock().store_faulty_since.is_some() {
        return Vec::new();
    }
    let (from, most) = window(&mut world.lock(), counted);
    let read = async {
        let wrong = store.recount(counted).await?;
        let listed = store.list(Filter::default(), from, most).await?;
        Ok::<_, StoreError>((wrong, listed, handsets::look(world, store).await?))
    };
    let (wrong, listed, texts) = match read.await {
        Ok(read) => read,
        Err(error) => {
            world.fault(format!("the store cannot be read: {error}"));
            return Vec::new();
        }
    };
    let mut world = world.lock();
    wrong.into_iter().for_each(|w| world.fault(w));
    let before: Vec<&Message> = counted
        .messages()
        .take_while(|message| from.is_none_or(|from| message.id < from))
        .collect();
    // The newest is listed first.
    let next = before.iter().rev().take(most);
    let goes_on = before.len() > listed.items.len();
    if !next.copied().eq(listed.items.iter()) || goes_on && listed.next.is_none() {
        world.fault(format!(
            "the list from {from:?} on tells something else than the records"
        ));
    }
    for message in counted.messages() {
        match number_of(message) {
            Some(n) => world.seen(n, message),
            None => world.fault(format!("{} is nobody's", message.id)),
        }
    }
    let gone: Vec<usize> = (0..world.ledger.entries.len())
        .filter(|n| {
            let id = world.ledger.entries[*n].id;
            id.is_some_and(|id| counted.get(id).is_none())
        })
        .collect();
    if !gone.is_empty() {
        world.fault(format!("acknowledged and lost: {gone:?}"));
    }
    let digest: Vec<&str> = counted.messages().map(|m| m.state.name()).collect();
    let digest = digest.join(" ");
    world.note(format_args!("look: {digest}, {} texts", texts.len()));
    texts
}

fn account() -> Account {
    Account {
        id: AccountId::from("acme"),
        default_class: TrafficClass::Transactional,
        receipt_url: None,
        inbound_url: Some("http://hooks.example/in".to_owned()),
        inbound_esme: Some(handsets::ESME.into()),
        webhook_secret: None,
        numbers: Vec::new(),
        throughput: None,
        text: TextWish::default(),
        silent: false,
    }
}

/// Clients send in bursts, ask again where they got no answer, and change their minds.
async fn clients(world: World, pipeline: Arc<Pipeline>) {
    loop {
        let burst = {
            let mut world = world.lock();
            let sent = world.ledger.entries.len();
            if sent >= MESSAGES_MAX || world.now_ms() >= HOUR_MS {
                return;
            }
            world.pick(1..12)
        };
        for _ in 0..burst {
            tokio::spawn(client(world.clone(), pipeline.clone()));
            let close = world.lock().chance(60);
            world.pause(0..if close { 5 } else { 2_000 }).await;
        }
        world.pause(1_000..400_000).await;
    }
}

async fn client(world: World, pipeline: Arc<Pipeline>) {
    let now = pipeline.clock.now();
    let (n, submission, key) = {
        let mut world = world.lock();
        let valid = [20, 120, 600, 1_800][usize::try_from(world.pick(0..4)).unwrap_or(0)];
        let scheduled = world.chance(10).then(|| world.pick(1_000..600_000));
        let webhook = world.chance(70);
        let long = world.chance(20);
        let text = "x".repeat(if long { 200 } else { 20 });
        let n = world.submitting(valid * 1_000 + scheduled.unwrap_or(0), webhook, &text);
        let on_unknown = match world.pick(0..4) {
            0 => OnUnknown::Fail,
            1 => OnUnknown::Hold,
            _ => OnUnknown::Resend,
        };
        let handset = format!("+4477009{:05}", world.pick(0..100_000));
        let submission = Submission {
            originator: Address::originator("60777").expect("an originator"),
            recipient: Address::international(&handset).expect("a number"),
            body: Body::Text(text),
            class: None,
            send_at: scheduled.map(|ms| now.plus(Duration::from_millis(ms))),
            validity_seconds: Some(valid),
            receipt_url: webhook.then(|| "http://hooks.example/".to_owned()),
            reference: n.to_string(),
            metadata: Vec::new(),
            tlvs: vec![numbered(n)],
            sm: SmParameters::default(),
            source: Source::Http,
            on_unknown,
        };
        (n, submission, world.chance(40))
    };
    let account = account();
    let idempotency = key.then(|| Idempotency {
        account: account.id.clone(),
        key: format!("key-{n}"),
        fingerprint: [7; 32],
    });
    world.note(format_args!("client: submits {n}"));
    let tries = if key { 3 } else { 1 };
    for _ in 0..tries {
        let answer = pipeline
            .submit(&account, submission.clone(), idempotency.clone())
            .await;
        match answer {
            Ok(submitted) => {
                let id = submitted.message.id;
                let mut world = world.lock();
                world.note(format_args!("client: {n} is {id}"));
                world.acknowledged(n, id);
                break;
            }
            Err(SubmitError::Store(error)) => {
                world.note(format_args!("client: {n} is refused: {error}"));
            }
            Err(SubmitError::Refused { .. })
                if world.lock().ledger.entries[n].refused_by_policy =>
            {
                return world.note(format_args!("client: {n} is refused by a policy"));
            }
            Err(error) => {
                world.fault(format!("message {n} is refused: {error:?}"));
                return;
            }
        }
        world.pause(1_000..20_000).await;
    }
    let id = world.lock().ledger.entries[n].id;
    let Some(id) = id.filter(|_| world.lock().chance(6)) else {
        return;
    };
    world.pause(1..30_000).await;
    world.lock().ledger.entries[n].cancel_asked = true;
    let canceled = pipeline.cancel(id, "changed their mind").await.is_ok();
    world.note(format_args!("client: cancels {n}: {canceled}"));
}

/// The clients' webhooks.
struct Target(World);

impl HttpClient for Target {
    fn send<'a>(&'a self, request: HttpRequest, limits: &'a HttpLimits) -> HttpAnswer<'a> {
        Box::pin(async move {
            let world = &self.0;
            world.pause(1..500).await;
            let (hangs, fails) = {
                let mut world = world.lock();
                let down = world.now_ms() < world.webhooks_fail_until;
                let calm = world.calm;
                (
                    !calm && world.chance(if down { 30 } else { 2 }),
                    down || !calm && world.chance(10),
                )
            };
            if hangs {
                tokio::time::sleep(limits.timeout).await;
                return Err(HttpFailure::Timeout);
            }
            if fails {
                return Ok(HttpResponse {
                    status: 503,
                    ..HttpResponse::default()
                });
            }
            let text = String::from_utf8_lossy(&request.body).into_owned();
            let mut world = world.lock();
            if world.shows(Defect::WebhookForgotten) {
                return Ok(HttpResponse {
                    status: 204,
                    ..HttpResponse::default()
                });
            }
            world.note(format_args!("webhook: {text}"));
            if let Some(id) = text.strip_prefix("text ").and_then(|id| id.parse().ok()) {
                world.handsets.told.insert(id);
                return Ok(HttpResponse {
                    status: 204,
                    ..HttpResponse::default()
                });
            }
            let told = text
                .split_once(' ')
                .and_then(|(n, state)| Some((n.parse().ok()?, MessageState::from_name(state)?)));
            match told {
                Some((n, state)) => world.webhook_told(n, state),
                None => world.fault(format!("a webhook says {text:?}")),
            }
            Ok(HttpResponse {
                status: 204,
                ..HttpResponse::default()
            })
        })
    }
}
