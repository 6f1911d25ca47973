//! The server put together: what is made in which order, and taken apart in which. Knows every
//! part and does no part's work.

mod adapter;
mod audit;
mod certificates;
mod clock_anchor;
mod descriptors;
pub(crate) mod encryption;
mod esme;
mod inbound;
mod listeners;
mod numbers;
mod policy_file;
mod smpp;
mod trusted_keys;
mod watched;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};

use crate::api::esme::SystemSpec;
use crate::api::{self, Api, EdgeLimits, KeySpec, Keys, Scope};
use crate::carrier::adapter::{AdapterCarrier, AdapterConfig};
use crate::carrier::smpp::{SmppCarrier, SmppConfig};
use crate::carrier::{Carrier, CarrierEvent};
use crate::clock::Clock;
use crate::config::{AccountSection, CarrierSection, Config, ScopeName};
use crate::domain::{AccountId, TrafficClass};
use crate::pipeline::account::WebhookSecret;
use crate::pipeline::inbound_routes::InboundRoutes;
use crate::pipeline::numbers::{Numbers, TableFiles};
use crate::pipeline::{
    Account, Accounts, Carriers, Limits, Parts, Pipeline, Policy, dispatch, lasting,
    notify as outbox, phones, receive, trial, watch as watch_plugins,
};
use crate::plugin::{
    CodeCache, CompileMode, ComponentLimits, Engine, EngineLimits, Host, HyperClient,
};
use crate::store::{self, AuditLog, Recorder, RecordingOptions, Seals, Store};
use certificates::Certificate;
use listeners::{Listener, Listeners, Threads};
use policy_file::PolicyFile;

/// Newcomers that may wait to be accepted; the kernel has a bound of its own (net.core.somaxconn). One that finds no
/// room there tries again after seconds, and then after twice as long each time.
const BACKLOG: u32 = 65_535;
/// Events of all carriers on their way to the pipeline.
const EVENTS_MAX: usize = 8_192;

/// Why the server did not start, or a configuration is refused: for a person.
#[derive(Debug)]
pub struct StartError(pub String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

fn failed(what: &str, error: impl fmt::Display) -> StartError {
    StartError(format!("{what}: {error}"))
}

/// A running server.
pub struct Server {
    /// Where the API listens, without TLS and with it; and its admin routes, where apart.
    pub address: Option<SocketAddr>,
    pub tls_address: Option<SocketAddr>,
    pub admin_address: Option<SocketAddr>,
    pub admin_tls_address: Option<SocketAddr>,
    /// Where ESMEs bind, without TLS and with it.
    pub smpp_address: Option<SocketAddr>,
    pub smpp_tls_address: Option<SocketAddr>,
    pub pipeline: Arc<Pipeline>,
    stop_api: watch::Sender<bool>,
    stop_work: watch::Sender<bool>,
    stop_back: watch::Sender<bool>,
    api: Vec<JoinHandle<()>>,
    threads: Threads,
    work: Vec<JoinHandle<()>>,
    back: Vec<JoinHandle<()>>,
    reload: Arc<Notify>,
    /// Keep the policy file, the tables of numbers and the certificates applied for as long as the
    /// server runs.
    keepers: Vec<AbortHandle>,
    reload_tables: Arc<Notify>,
    reload_certificates: Arc<Notify>,
    esmes: Option<api::esme::Server>,
}

/// Everything of a configuration that can be checked without starting anything.
struct Checked {
    accounts: Vec<Account>,
    keys: Vec<KeySpec>,
    systems: Vec<SystemSpec>,
    numbers: Numbers,
    routes: Arc<InboundRoutes>,
    tables: TableFiles,
    smpp: Vec<SmppConfig>,
    adapters: Vec<AdapterConfig>,
    limits: Limits,
    seals: Option<Seals>,
    http_certificate: Option<Certificate>,
    smpp_certificate: Option<Certificate>,
    outbind_certificates: Vec<Certificate>,
}

/// Checks a configuration and the policy that it names; starts nothing and leaves nothing behind.
/// Returns what it found, for a person.
pub async fn check(config: &Config, base: &Path) -> Result<String, StartError> {
    let checked = check_config(config, base)?;
    let mut lines = vec![format!(
        "{} accounts, {} keys, {} carriers",
        checked.accounts.len(),
        checked.keys.len(),
        config.carriers.len()
    )];
    lines.extend(numbers::check(&checked.tables).await?);
    if let Some(file) = &config.policy.file {
        let mut file = PolicyFile::new(&base.join(file));
        let spec = file.read().await.map_err(|e| failed(&file.name(), e))?;
        let scratch = tempdir()?;
        let clock = Clock::system();
        let options = store::Options::new(scratch.path.join("data"));
        let store = open_store(options, clock.clone()).await?;
        let policy = open_policy(
            config,
            &store,
            &clock,
            &scratch.path,
            base,
            CompileMode::InProcess,
        )
        .await?;
        let set = policy.check(&spec, file.folder()).await;
        store.shutdown().await;
        let set = set.map_err(|e| failed(&file.name(), e))?;
        lines.push(format!(
            "{} plugins, policy set {}",
            spec.plugins.len(),
            set.set
        ));
        lines.extend(set.notes.iter().map(|note| format!("note: {note}")));
    }
    Ok(lines.join("\n"))
}

/// Starts the server. `base` is what relative paths of the configuration are relative to.
pub async fn start(config: &Config, base: &Path, clock: Clock) -> Result<Server, StartError> {
    let checked = check_config(config, base)?;
    numbers::load(&checked.tables, &checked.numbers).await?;
    let data = base.join(&config.store.path);
    let anchor = clock_anchor::resume(&data, &clock);
    let listeners = listeners::open(&config.http, checked.http_certificate.as_ref())?;
    let mut doors = esme::open(&config.smpp, checked.smpp_certificate.as_ref())?;
    let mut options = store::Options::new(&data);
    options.retention_days = config.store.retention_days;
    options.seals = checked.seals.clone();
    options.two_way = inbound::two_way(checked.routes.clone());
    options.commit_interval = Duration::from_micros(config.store.commit_interval_us);
    options.cache_octets = config.store.cache_mib << 20;
    options.free_octets_min = config.store.min_free_mib << 20;
    options.checkpoint_octets = config.store.checkpoint_mib << 20;
    options.delivery_give_up = Duration::from_secs(config.smpp.give_up_seconds);
    let store = open_store(options, clock.clone()).await?;
    let compile = match std::env::current_exe() {
        Ok(program) => CompileMode::Child { program },
        Err(_) => CompileMode::InProcess,
    };
    let policy = open_policy(config, &store, &clock, &data, base, compile).await?;
    let file = start_policy(&policy, config, base).await?;

    let (events, received) = mpsc::channel(EVENTS_MAX);
    let mut carriers: Vec<Arc<dyn Carrier>> = Vec::new();
    let mut sessions = Vec::new();
    for smpp in checked.smpp {
        let id = smpp.id.clone();
        let carrier = SmppCarrier::start(smpp, rand::random(), events.clone())
            .map_err(|e| failed(&format!("carrier {id}"), e))?;
        sessions.push(carrier.clone());
        carriers.push(carrier);
    }
    let mut callbacks = HashMap::new();
    let mut adapters = Vec::new();
    for adapter in checked.adapters {
        let in_force = policy.clone();
        let active = Arc::new(move || in_force.active());
        let carrier = AdapterCarrier::new(adapter, active, clock.clone(), events.clone());
        callbacks.insert(carrier.id().clone(), carrier.clone());
        adapters.push(carrier.clone());
        carriers.push(carrier);
    }
    drop(events);
    // In the order of the configuration: it is the default route.
    let order: Vec<&str> = config.carriers.iter().map(CarrierSection::id).collect();
    carriers.sort_by_key(|c| order.iter().position(|id| *id == c.id().as_str()));

    let accounts = Accounts::new(checked.accounts).with_routes(checked.routes);
    let binds = esme::binds(checked.systems, &accounts);
    let keys = Keys::new(checked.keys, &accounts).map_err(|e| failed("accounts", e))?;
    let webhooks = HyperClient::new().map_err(StartError)?;
    let recorder = recorder(config, &data, checked.seals, &clock)?;
    let pipeline = Pipeline::new(Parts {
        recorder,
        carriers: Carriers::new(carriers, store.clone(), clock.clone()),
        store,
        policy,
        accounts,
        numbers: checked.numbers,
        clock: clock.clone(),
        limits: checked.limits,
        seed: rand::random(),
        webhooks: Arc::new(webhooks),
    });
    pipeline.policy.resume_canary().await;
    pipeline.resume_shadow().await;
    let esmes = doors.attend(&config.smpp, &pipeline, &binds);
    let esme_metrics = esmes.as_ref().map(|esmes| esmes.metrics());
    let octets = u64::from(config.audit.keep_mib) << 20;
    let audit = AuditLog::open(&data.join("audit.jsonl"), octets)
        .map_err(|e| failed(&data.join("audit.jsonl").display().to_string(), e))?;
    let api = Api::new(api::Parts {
        audit: Some(audit.clone()),
        pipeline: pipeline.clone(),
        keys,
        callbacks,
        more_metrics: Arc::new(move |out| {
            smpp::metrics(&sessions, out);
            adapter::metrics(&adapters, out);
            if let Some(metrics) = &esme_metrics {
                metrics(out);
            }
        }),
        esmes: binds,
    });
    let mut server = run(config, file, pipeline, api, received, listeners)?;
    server.keep_tables(checked.tables);
    let noting = audit::note_events(server.pipeline.clone(), audit);
    server.keepers.push(tokio::spawn(noting).abort_handle());
    if let Some(anchor) = anchor {
        let noting = clock_anchor::keep(anchor, clock);
        server.keepers.push(tokio::spawn(noting).abort_handle());
    }
    let certificates = [checked.http_certificate, checked.smpp_certificate];
    let certificates = certificates.into_iter().flatten();
    let certificates = certificates.chain(checked.outbind_certificates);
    server.keep_certificates(certificates.collect());
    server.smpp_address = doors.address;
    server.smpp_tls_address = doors.tls_address;
    server.esmes = esmes;
    Ok(server)
}

fn run(
    config: &Config,
    file: Option<PolicyFile>,
    pipeline: Arc<Pipeline>,
    api: Arc<Api>,
    received: mpsc::Receiver<CarrierEvent>,
    listeners: Listeners,
) -> Result<Server, StartError> {
    let threads = Threads::start()?;
    let (stop_api, api_stopped) = watch::channel(false);
    let (stop_work, work_stopped) = watch::channel(false);
    let (stop_back, back_stopped) = watch::channel(false);
    let wanted = EdgeLimits {
        max_connections: config.http.max_connections,
        max_connections_per_ip: config.http.max_connections_per_ip,
        ..EdgeLimits::default()
    };
    let limits = descriptors::bounded(wanted, descriptors::raise());
    let serve = |door: Listener| {
        let (api, stop) = (api.clone(), api_stopped.clone());
        threads.spawn(api::serve(
            door.listener,
            door.tls,
            api,
            door.surface,
            limits.clone(),
            stop,
        ))
    };
    let api = listeners.all.into_iter().map(serve).collect();
    let work = vec![
        tokio::spawn(dispatch::run(pipeline.clone(), work_stopped.clone())),
        tokio::spawn(trial::run(pipeline.clone(), work_stopped.clone())),
        tokio::spawn(phones::run(pipeline.clone(), work_stopped.clone())),
        tokio::spawn(lasting({
            let (pipeline, stopped) = (pipeline.clone(), work_stopped.clone());
            move || outbox::run(pipeline.clone(), api::webhook_render(), stopped.clone())
        })),
        tokio::spawn(watch_plugins::run(pipeline.clone(), work_stopped.clone())),
    ];
    let back = vec![tokio::spawn(receive::run(
        pipeline.clone(),
        received,
        back_stopped,
    ))];
    let reload = Arc::new(Notify::new());
    let keeper = file.map(|file| {
        let keep = policy_file::keep(pipeline.policy.clone(), file, reload.clone());
        tokio::spawn(keep).abort_handle()
    });
    Ok(Server {
        address: listeners.address,
        tls_address: listeners.tls_address,
        admin_address: listeners.admin_address,
        admin_tls_address: listeners.admin_tls_address,
        smpp_address: None,
        smpp_tls_address: None,
        esmes: None,
        pipeline,
        stop_api,
        stop_work,
        stop_back,
        api,
        threads,
        work,
        back,
        reload,
        keepers: keeper.into_iter().collect(),
        reload_tables: Arc::default(),
        reload_certificates: Arc::default(),
    })
}

impl Server {
    /// Reads the policy file, the tables of numbers and the certificates again: SIGHUP.
    pub fn reload(&self) {
        self.reload.notify_one();
        self.reload_tables.notify_one();
        self.reload_certificates.notify_one();
    }

    fn keep_certificates(&mut self, certificates: Vec<Certificate>) {
        if certificates.is_empty() {
            return;
        }
        let keep = certificates::keep(certificates, self.reload_certificates.clone());
        self.keepers.push(tokio::spawn(keep).abort_handle());
    }

    fn keep_tables(&mut self, files: TableFiles) {
        if files == TableFiles::default() {
            return;
        }
        let keep = numbers::keep(self.pipeline.clone(), files, self.reload_tables.clone());
        self.keepers.push(tokio::spawn(keep).abort_handle());
    }

    /// No new submissions; what is under way is finished; carriers get their unbind; all is synced.
    pub async fn shutdown(self) {
        let _ = self.stop_api.send(true);
        join(self.api).await;
        if let Some(esmes) = self.esmes {
            esmes.shutdown().await;
        }
        for keeper in self.keepers {
            keeper.abort();
        }
        let _ = self.stop_work.send(true);
        join(self.work).await;
        for carrier in self.pipeline.carriers.iter() {
            carrier.shutdown().await;
        }
        let _ = self.stop_back.send(true);
        join(self.back).await;
        self.pipeline.observers.flush().await;
        self.pipeline.store.shutdown().await;
        drop(self.threads);
    }
}

async fn join(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        // A panic is our own bug and has been logged; the others still want to be joined.
        let _ = task.await;
    }
}

fn local(listener: &TcpListener) -> SocketAddr {
    listener
        .local_addr()
        .unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)))
}

fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        // After a restart the connections of the last run linger.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|e| failed(&format!("cannot listen on {address}"), e))
}

async fn open_store(options: store::Options, clock: Clock) -> Result<Store, StartError> {
    let path = options.path.display().to_string();
    let opened = tokio::task::spawn_blocking(move || Store::open(options, clock))
        .await
        .map_err(|e| failed(&path, e))?;
    opened.map_err(|e| failed(&format!("store {path}"), e))
}

fn recorder(
    config: &Config,
    data: &Path,
    seals: Option<Seals>,
    clock: &Clock,
) -> Result<Option<Recorder>, StartError> {
    let section = &config.recording;
    let folder = data.join("recording");
    if !section.enabled && !folder.exists() {
        return Ok(None);
    }
    let options = RecordingOptions {
        enabled: section.enabled,
        folder,
        retain: Duration::from_secs(section.retain_hours * 3_600),
        max_octets: section.max_mib << 20,
        // Recordings end well before submissions are refused.
        free_octets_min: (config.store.min_free_mib << 20) * 2,
        seals,
    };
    let folder = options.folder.display().to_string();
    let opened = Recorder::open(options, clock.clone());
    opened.map(Some).map_err(|e| failed(&folder, e))
}

async fn open_policy(
    config: &Config,
    store: &Store,
    clock: &Clock,
    data: &Path,
    base: &Path,
    compile: CompileMode,
) -> Result<Policy, StartError> {
    let key = secret_key(store).await?;
    let engine = Engine::new(EngineLimits {
        cache: Some(CodeCache {
            folder: data.join("compiled"),
            key,
            octets_max: u64::from(config.plugins.cache_mib) << 20,
        }),
        compile,
        trust: trusted_keys::trust(&config.plugins, base)?,
        instances: config.plugins.instances,
        memory_max_mib: config.plugins.max_memory_mib,
        component: ComponentLimits {
            max_mib: config.plugins.max_component_mib,
            max_functions: config.plugins.max_functions,
            compile_seconds: config.plugins.compile_seconds,
            compile_memory_mib: config.plugins.compile_memory_mib,
        },
    })
    .map_err(|e| failed("plugins", e))?;
    let http = HyperClient::new().map_err(StartError)?;
    let host = Host {
        engine,
        state: Arc::new(crate::pipeline::sources::PluginState(store.clone())),
        http: Arc::new(http),
        pseudonym_key: key,
    };
    let carriers = config.carriers.iter().map(|c| c.id().to_owned());
    let folder = config
        .policy
        .file
        .as_ref()
        .and_then(|f| base.join(f).parent().map(Path::to_owned))
        .unwrap_or_else(|| base.to_owned());
    Policy::open(host, store.clone(), clock.clone(), carriers, folder)
        .await
        .map_err(|e| failed("policy history", e))
}

/// The server's own key: it tells our compiled code from any other, and makes pseudonyms.
async fn secret_key(store: &Store) -> Result<[u8; 32], StartError> {
    const NAME: &str = "server/key";
    let stored = store
        .get_meta(NAME)
        .await
        .map_err(|e| failed("server key", e))?;
    if let Some(key) = stored.and_then(|k| <[u8; 32]>::try_from(k).ok()) {
        return Ok(key);
    }
    let key: [u8; 32] = rand::random();
    store
        .put_meta(NAME, key.to_vec())
        .await
        .map_err(|e| failed("server key", e))?;
    Ok(key)
}

/// The policy file where one is configured, else what was in force before. A file that is refused
/// does not stop a server that has a policy to go on with.
async fn start_policy(
    policy: &Policy,
    config: &Config,
    base: &Path,
) -> Result<Option<PolicyFile>, StartError> {
    let Some(file) = &config.policy.file else {
        policy
            .resume()
            .await
            .map_err(|e| failed("the policy in force before", e))?;
        return Ok(None);
    };
    let mut file = PolicyFile::new(&base.join(file));
    let applied = file.apply(policy).await;
    let Err(error) = applied else {
        return Ok(Some(file));
    };
    match policy.resume().await {
        Ok(Some(_)) => {
            tracing::error!(file = file.name(), %error, "the policy file is refused; the policy before stays in force");
            Ok(Some(file))
        }
        Ok(None) | Err(_) => Err(failed(&file.name(), error)),
    }
}

fn check_config(config: &Config, base: &Path) -> Result<Checked, StartError> {
    trusted_keys::trust(&config.plugins, base)?;
    let mut keys = Vec::new();
    let mut accounts = Vec::new();
    for (i, section) in config.accounts.iter().enumerate() {
        let at = format!("accounts[{i}] ({})", section.id);
        for (k, key) in section.keys.iter().enumerate() {
            let secret = key.secret().resolve(base);
            keys.push(KeySpec {
                secret: secret.map_err(|e| failed(&format!("{at}.keys[{k}]"), e))?,
                account: AccountId::from(section.id.as_str()),
                scopes: key.scopes().iter().map(|s| scope(*s)).collect(),
            });
        }
        accounts.push(account(section, base, &at)?);
    }
    let numbers = numbers::of(config)?;
    let mut smpp = Vec::new();
    let mut outbind_certificates = Vec::new();
    let mut adapters = Vec::new();
    for (i, carrier) in config.carriers.iter().enumerate() {
        let at = format!("carriers[{i}] ({})", carrier.id());
        match carrier {
            CarrierSection::Smpp(section) => {
                let made = smpp::carrier(section, base, &at)?;
                made.config.check().map_err(|e| failed(&at, e))?;
                smpp.push(made.config);
                outbind_certificates.extend(made.certificate);
            }
            CarrierSection::Plugin(section) => {
                adapters.push(adapter::carrier(section, base, &at)?);
            }
        }
    }
    Ok(Checked {
        systems: esme::systems(config, base)?,
        accounts,
        keys,
        numbers,
        routes: inbound::routes(config)?,
        tables: numbers::files(config, base),
        smpp,
        adapters,
        limits: limits(config),
        seals: encryption::seals(&config.store.encryption, base)?,
        http_certificate: listeners::certificate(&config.http, base)?,
        smpp_certificate: esme::certificate(&config.smpp, base)?,
        outbind_certificates,
    })
}

fn limits(config: &Config) -> Limits {
    Limits {
        default_validity_seconds: config.messages.default_validity_seconds,
        max_validity_seconds: config.messages.max_validity_seconds,
        max_schedule_seconds: config.messages.max_schedule_seconds,
        max_segments: config.messages.max_segments,
        max_attempts: config.messages.max_attempts,
        webhook_timeout_ms: config.webhooks.timeout_ms,
        webhook_give_up_seconds: config.webhooks.give_up_seconds,
        webhooks_private: config.webhooks.allow_private,
        reassembly: inbound::reassembly(&config.inbound),
        reply_window: Duration::from_secs(config.inbound.reply_window_seconds),
        ..Limits::default()
    }
}

fn scope(name: ScopeName) -> Scope {
    match name {
        ScopeName::Send => Scope::Send,
        ScopeName::Read => Scope::Read,
        ScopeName::Admin => Scope::Admin,
    }
}

fn account(section: &AccountSection, base: &Path, at: &str) -> Result<Account, StartError> {
    let webhook_secret = match &section.webhook_secret {
        None => None,
        Some(secret) => {
            let at = format!("{at}.webhook_secret");
            let text = secret.resolve(base).map_err(|e| failed(&at, e))?;
            let encoded = text.strip_prefix("whsec_").unwrap_or(&text);
            let key = STANDARD
                .decode(encoded)
                .ok()
                .filter(|k| (16..=128).contains(&k.len()))
                .ok_or_else(|| failed(&at, "is whsec_ and the base64 of 16 to 128 octets"))?;
            Some(WebhookSecret(key))
        }
    };
    for (field, url) in [
        ("receipt_url", &section.receipt_url),
        ("inbound_url", &section.inbound_url),
    ] {
        if let Some(url) = url
            && !(url.starts_with("https://") || url.starts_with("http://"))
        {
            return Err(failed(&format!("{at}.{field}"), "is an http or https URL"));
        }
    }
    let class = section
        .default_class
        .as_deref()
        .and_then(TrafficClass::from_name);
    let inbound = section.smpp.iter().find(|s| s.inbound);
    Ok(Account {
        id: AccountId::from(section.id.as_str()),
        default_class: class.unwrap_or(TrafficClass::Transactional),
        receipt_url: section.receipt_url.clone(),
        inbound_url: section.inbound_url.clone(),
        inbound_esme: inbound.map(|s| s.system_id.as_str().into()),
        webhook_secret,
        numbers: section.numbers.clone(),
        throughput: section.throughput,
        text: section.text.wish(),
        silent: section.silent_messages,
    })
}

/// A folder of our own under the system's temporary one, removed when it is dropped.
struct Scratch {
    path: PathBuf,
}

fn tempdir() -> Result<Scratch, StartError> {
    let name = format!("heliograph-check-{:016x}", rand::random::<u64>());
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir(&path).map_err(|e| failed(&path.display().to_string(), e))?;
    Ok(Scratch { path })
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
