//! Which policy set is in force: checks, activates by one pointer swap, keeps the history and rolls
//! back. What a set is and how its plugins run is the plugin module's; files are read here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::canary::Canary;
use super::events::{EventKind, Events};
use super::signatures;
use super::sources::Files;
use crate::clock::Clock;
use crate::domain::{Hook, SetId};
use crate::plugin::{
    Fail, Host, Inspection, Ledger, LoadError, PolicySet, PolicySpec, PrefixTable, Problem,
    Signatures, Signer, SpecError, Untrusted, digest_text, fill_previous, inspect_component,
    signers_text,
};
use crate::store::{Store, StoreError};

/// Sets that stay compiled and configured for a rollback at once.
const HOT_MAX: usize = 8;

/// History that is kept and shown.
const HISTORY_MAX: usize = 1_000;

/// Characters of an event that tells why a policy was refused.
const EVENT_DETAIL_MAX: usize = 1_000;

/// Rows of each kind that are read back.
const SCAN_MAX: usize = 10_000;

const HISTORY_PREFIX: &str = "policy/history/";
const TABLE_PREFIX: &str = "policy/table/";
const STAGED_PREFIX: &str = "policy/staged/";

/// The policy of one server. A clone is the same policy.
#[derive(Clone)]
pub struct Policy(pub(super) Arc<Inner>);

/// What decides now: one pointer, so that a decision sees one moment of it.
pub struct InForce {
    pub active: Arc<PolicySet>,
    /// A candidate that decides a share of the messages.
    pub canary: Option<Arc<Canary>>,
}

pub(super) struct Inner {
    pub(super) in_force: RwLock<Arc<InForce>>,
    /// The spec of the active set, its paths replaced by digests.
    pub(super) spec: RwLock<PolicySpec>,
    hot: Mutex<VecDeque<Arc<PolicySet>>>,
    history: RwLock<Vec<HistoryEntry>>,
    /// One change at a time.
    pub(super) changing: tokio::sync::Mutex<()>,
    host: Host,
    pub(super) store: Store,
    pub(super) clock: Clock,
    events: Events,
    /// Names that `default_route` may use.
    carriers: BTreeSet<String>,
    /// What relative paths of a policy over the API are relative to.
    base: PathBuf,
}

/// One activation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    pub sequence: u64,
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// Who or what asked: `file`, `api`, `rollback`, `table rates`, `start`.
    pub by: String,
    /// The set's id, 32 hexadecimal digits.
    pub set: String,
    /// Digests instead of paths, so that it can be built again whatever happened to the files.
    pub spec: PolicySpec,
    /// Names, versions and digests by position, for traces of messages decided then.
    pub plugins: Vec<PluginName>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginName {
    pub name: String,
    pub version: String,
    pub digest: String,
}

/// A component that was uploaded and waits for a policy to name it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Staged {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    pub name: String,
    pub version: String,
    pub summary: String,
    pub hooks: Vec<String>,
    pub imports: Vec<String>,
    pub wit_version: String,
    pub size: usize,
    pub staged_at: u64,
    pub config_schema: serde_json::Value,
    /// By whom it was signed when it was staged.
    #[serde(default)]
    pub signatures: Vec<Signer>,
}

/// What came of an activation.
#[derive(Clone, Debug)]
pub struct Applied {
    pub set: SetId,
    /// False: it was in force already.
    pub changed: bool,
}

/// A policy that could be activated.
#[derive(Clone, Debug)]
pub struct Checked {
    pub set: SetId,
    /// What whoever activates it should know.
    pub notes: Vec<Problem>,
}

/// Why a policy was not activated. The one in force stays.
#[derive(Debug)]
pub enum PolicyError {
    /// It cannot be read.
    Spec(SpecError),
    /// It breaks rules; each names its place.
    Refused(Vec<Problem>),
    /// There is nothing to go back to.
    NoHistory,
    /// What was asked for does not go with the trial that is, or is not, under way.
    Trial(String),
    Store(StoreError),
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyError::Spec(error) => error.fmt(f),
            PolicyError::Refused(problems) => {
                for (i, problem) in problems.iter().enumerate() {
                    let line_end = if i == 0 { "" } else { "\n" };
                    write!(f, "{line_end}{problem}")?;
                }
                Ok(())
            }
            PolicyError::NoHistory => write!(f, "there is no earlier policy to go back to"),
            PolicyError::Trial(why) => f.write_str(why),
            PolicyError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PolicyError {}

impl Policy {
    /// Without any policy yet; messages take the default route.
    pub async fn open(
        host: Host,
        store: Store,
        clock: Clock,
        carriers: impl IntoIterator<Item = String>,
        base: PathBuf,
    ) -> Result<Policy, StoreError> {
        let mut history = Vec::new();
        for (_, value) in store.scan_meta(HISTORY_PREFIX, SCAN_MAX).await? {
            match serde_json::from_slice::<HistoryEntry>(&value) {
                Ok(entry) => history.push(entry),
                Err(error) => tracing::warn!(%error, "a line of the policy history cannot be read"),
            }
        }
        history.sort_by_key(|e| e.sequence);
        Ok(Policy(Arc::new(Inner {
            in_force: RwLock::new(Arc::new(InForce {
                active: Arc::new(PolicySet::empty(Vec::new())),
                canary: None,
            })),
            spec: RwLock::new(PolicySpec::default()),
            hot: Mutex::new(VecDeque::new()),
            history: RwLock::new(history),
            changing: tokio::sync::Mutex::new(()),
            host,
            store,
            events: Events::new(clock.clone()),
            clock,
            carriers: carriers.into_iter().collect(),
            base,
        })))
    }

    /// The set in force. A decision takes it once and keeps it to its end.
    pub fn active(&self) -> Arc<PolicySet> {
        self.0.in_force.read().active.clone()
    }

    /// The set in force, and the canary beside it.
    pub fn in_force(&self) -> Arc<InForce> {
        self.0.in_force.read().clone()
    }

    /// What happens to the policy, and to the server, for operators.
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// What plugins did and used since the server started.
    pub fn ledger(&self) -> &Ledger {
        self.0.host.engine.ledger()
    }

    /// What the set in force was built from, its paths replaced by digests.
    pub fn spec(&self) -> PolicySpec {
        self.0.spec.read().clone()
    }

    /// Newest first.
    pub fn history(&self) -> Vec<HistoryEntry> {
        self.0.history.read().iter().rev().cloned().collect()
    }

    /// The plugins of a set that was in force once, by position.
    pub fn plugins_of(&self, set: SetId) -> Vec<PluginName> {
        let active = self.active();
        if active.id() == set {
            return plugin_names(&active);
        }
        let id = set.to_string();
        let history = self.0.history.read();
        let entry = history.iter().rev().find(|e| e.set == id);
        entry.map(|e| e.plugins.clone()).unwrap_or_default()
    }

    /// All checks of [`Policy::apply`]; activates nothing.
    pub async fn check(
        &self,
        spec: &PolicySpec,
        base: Option<&Path>,
    ) -> Result<Checked, PolicyError> {
        let (set, _) = self.build(spec, base).await?;
        Ok(Checked {
            set: set.id(),
            notes: set.notes().to_vec(),
        })
    }

    /// Checks the whole, then activates it by one pointer swap; or refuses the whole and changes nothing.
    pub async fn apply(
        &self,
        spec: &PolicySpec,
        base: Option<&Path>,
        by: &str,
    ) -> Result<Applied, PolicyError> {
        let _changing = self.0.changing.lock().await;
        let applied = self.apply_alone(spec, base, by).await;
        if let Err(error) = &applied {
            let why = format!("{by}: {error}");
            let why: String = why.chars().take(EVENT_DETAIL_MAX).collect();
            self.0.events.emit(EventKind::PolicyRefused, "", why);
        }
        applied
    }

    async fn apply_alone(
        &self,
        spec: &PolicySpec,
        base: Option<&Path>,
        by: &str,
    ) -> Result<Applied, PolicyError> {
        let (set, files) = self.build(spec, base).await?;
        let set = Arc::new(set);
        let id = set.id();
        let active = self.active();
        files.keep_signatures().await.map_err(PolicyError::Store)?;
        if id == active.id() && !self.0.history.read().is_empty() {
            let changed = !set.runs_as(&active);
            // The same policy with a secret of another value, or with other signatures: in force at
            // once, and no news.
            if changed || set.summary() != active.summary() {
                self.swap(set);
            }
            return Ok(Applied { set: id, changed });
        }
        let pinned = self.pin(spec, files).await.map_err(PolicyError::Store)?;
        self.supersede_canary(by).await;
        self.record(&set, &pinned, by)
            .await
            .map_err(PolicyError::Store)?;
        *self.0.spec.write() = pinned;
        for plugin in &set.summary().plugins {
            let signed = signers_text(&plugin.signatures);
            tracing::info!(plugin = plugin.name, version = plugin.version, digest = plugin.digest, %signed, "in the policy");
        }
        let open = open_compliance(&set);
        self.swap(set);
        self.0
            .events
            .emit(EventKind::PolicyActivated, id.to_string(), by);
        for entry in open {
            let detail = format!(
                "set {id}, by {by}: while this compliance-check fails, messages go out unchecked"
            );
            self.0
                .events
                .emit(EventKind::ComplianceOpened, entry, detail);
        }
        Ok(Applied {
            set: id,
            changed: true,
        })
    }

    /// Back to the policy before the one in force, or to the newest with the id `to`.
    pub async fn rollback(&self, to: Option<&str>, by: &str) -> Result<Applied, PolicyError> {
        let _changing = self.0.changing.lock().await;
        // A canary under way is the last change: going back is ending it.
        if to.is_none() && self.end_running_canary(by).await {
            return Ok(Applied {
                set: self.active().id(),
                changed: true,
            });
        }
        let active = self.active().id().to_string();
        let target = self
            .history()
            .into_iter()
            .find(|e| match to {
                Some(id) => e.set == id,
                None => e.set != active,
            })
            .ok_or(PolicyError::NoHistory)?;
        let hot = self
            .0
            .hot
            .lock()
            .iter()
            .find(|s| s.id().to_string() == target.set)
            .cloned();
        let Some(set) = hot else {
            return self.apply_alone(&target.spec, None, by).await;
        };
        let id = set.id();
        if id.to_string() == active {
            return Ok(Applied {
                set: id,
                changed: false,
            });
        }
        self.supersede_canary(by).await;
        self.record(&set, &target.spec, by)
            .await
            .map_err(PolicyError::Store)?;
        *self.0.spec.write() = target.spec;
        self.swap(set);
        self.0
            .events
            .emit(EventKind::PolicyRolledBack, id.to_string(), by);
        Ok(Applied {
            set: id,
            changed: true,
        })
    }

    /// The policy that was in force when the server stopped.
    pub async fn resume(&self) -> Result<Option<Applied>, PolicyError> {
        let _changing = self.0.changing.lock().await;
        let Some(last) = self.0.history.read().last().cloned() else {
            return Ok(None);
        };
        let (set, _) = self.build(&last.spec, None).await?;
        let id = set.id();
        *self.0.spec.write() = last.spec;
        self.swap(Arc::new(set));
        Ok(Some(Applied {
            set: id,
            changed: true,
        }))
    }

    /// Checks a component and keeps it with its signatures, inert, until a policy names its digest.
    /// Nothing is compiled that is not signed as the configuration asks.
    pub async fn stage(&self, bytes: Vec<u8>, given: Signatures) -> Result<Staged, StageError> {
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let name = hex(&digest);
        let kept = signatures::kept(&self.0.store, &name).await;
        let kept = kept.map_err(StageError::Store)?;
        let all = kept
            .merged(&given)
            .map_err(|e| StageError::Signatures(e.0))?;
        let trust = &self.0.host.engine.limits().trust;
        let signers = trust.check(&bytes, &all).map_err(StageError::Untrusted)?;
        let inspection = self
            .inspect(bytes.clone())
            .await
            .map_err(StageError::Load)?;
        let mut staged = staged_of(&inspection, self.0.clock.now().millis());
        staged.signatures = signers;
        self.0
            .store
            .put_blob(&name, bytes)
            .await
            .map_err(StageError::Store)?;
        {
            // Two uploads of one component must not lose each other's signatures.
            let _changing = self.0.changing.lock().await;
            let keep = signatures::keep(&self.0.store, &name, &given).await;
            keep.map_err(StageError::Store)?;
        }
        let signed = signers_text(&staged.signatures);
        let what = format!("{} {}, {signed}", staged.name, staged.version);
        self.0
            .events
            .emit(EventKind::PluginStaged, &*staged.digest, what);
        let value = serde_json::to_vec(&staged).unwrap_or_default();
        let key = format!("{STAGED_PREFIX}{name}");
        self.0
            .store
            .put_meta(&key, value)
            .await
            .map_err(StageError::Store)?;
        Ok(staged)
    }

    /// `plugins.max_component_mib`
    pub fn component_max_mib(&self) -> u32 {
        self.0.host.engine.limits().component.max_mib
    }

    pub async fn inspect(&self, bytes: Vec<u8>) -> Result<Inspection, LoadError> {
        inspect_component(&self.0.host.engine, bytes).await
    }

    pub async fn staged(&self) -> Result<Vec<Staged>, StoreError> {
        let rows = self.0.store.scan_meta(STAGED_PREFIX, SCAN_MAX).await?;
        let trust = &self.0.host.engine.limits().trust;
        let rows = rows.iter().filter_map(|(_, row)| {
            let mut staged: Staged = serde_json::from_slice(row).ok()?;
            staged.signatures = trust.again(&staged.signatures);
            Some(staged)
        });
        Ok(rows.collect())
    }

    /// Keeps a table; where the policy in force uses one of that name, it is in force with the new
    /// rows when this returns.
    pub async fn put_table(&self, name: &str, bytes: Vec<u8>) -> Result<TableStored, TableProblem> {
        let table = PrefixTable::parse(&bytes).map_err(|e| TableProblem::Rows(e.to_string()))?;
        let rows = table.len();
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let text = digest_text(&digest);
        self.0
            .store
            .put_blob(&hex(&digest), bytes)
            .await
            .map_err(TableProblem::Store)?;
        self.0
            .store
            .put_meta(&format!("{TABLE_PREFIX}{name}"), text.clone().into_bytes())
            .await
            .map_err(TableProblem::Store)?;
        let _changing = self.0.changing.lock().await;
        let mut spec = self.spec();
        let in_force = match spec.tables.get_mut(name) {
            Some(table) => {
                table.file = None;
                table.digest = Some(text.clone());
                self.apply_alone(&spec, None, &format!("table {name}"))
                    .await
                    .map_err(TableProblem::Policy)?;
                true
            }
            None => false,
        };
        Ok(TableStored {
            digest: text,
            rows,
            in_force,
        })
    }

    /// A component or a table by its digest, `sha256:` and 64 hexadecimal digits.
    pub async fn blob(&self, digest: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        // The name of a file: nothing but a digest may become one.
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(None);
        }
        self.0.store.get_blob(&hex.to_ascii_lowercase()).await
    }

    /// Names and digests of uploaded tables.
    pub async fn tables(&self) -> Result<Vec<(String, String)>, StoreError> {
        let rows = self.0.store.scan_meta(TABLE_PREFIX, SCAN_MAX).await?;
        let named = |(key, value): (String, Vec<u8>)| {
            let name = key.strip_prefix(TABLE_PREFIX).unwrap_or(&key).to_owned();
            (name, String::from_utf8_lossy(&value).into_owned())
        };
        Ok(rows.into_iter().map(named).collect())
    }

    pub(super) async fn build(
        &self,
        spec: &PolicySpec,
        base: Option<&Path>,
    ) -> Result<(PolicySet, Arc<Files>), PolicyError> {
        let active = self.active();
        self.build_beside(spec, base, Some(&active)).await
    }

    /// A set that shares no instance, counter or breaker with the one in force: for rehearsals.
    pub(super) async fn build_apart(
        &self,
        spec: &PolicySpec,
        base: Option<&Path>,
    ) -> Result<(PolicySet, Arc<Files>), PolicyError> {
        self.build_beside(spec, base, None).await
    }

    async fn build_beside(
        &self,
        spec: &PolicySpec,
        base: Option<&Path>,
        previous: Option<&PolicySet>,
    ) -> Result<(PolicySet, Arc<Files>), PolicyError> {
        let unknown = spec
            .default_route
            .iter()
            .enumerate()
            .filter(|(_, c)| !self.0.carriers.contains(*c))
            .map(|(i, carrier)| Problem {
                pointer: format!("/default_route/{i}"),
                entry: None,
                detail: format!("no carrier {carrier:?} is configured"),
                upgrade: None,
            });
        let unknown: Vec<Problem> = unknown.collect();
        if !unknown.is_empty() {
            return Err(PolicyError::Refused(unknown));
        }
        let mut spec = spec.clone();
        let files = Arc::new(Files {
            base: base.unwrap_or(&self.0.base).to_owned(),
            store: self.0.store.clone(),
            runtime: tokio::runtime::Handle::current(),
            read: Mutex::new(Vec::new()),
            signed: Mutex::new(Vec::new()),
            component_octets_max: self.0.host.engine.limits().component.bytes(),
            previous: Mutex::new(BTreeMap::new()),
        });
        if spec.plugins.iter().any(|p| p.fail == Some(Fail::Previous)) {
            spec = self.with_previous(spec, files.clone()).await;
        }
        let set = PolicySet::build(&spec, files.clone(), &self.0.host, previous)
            .await
            .map_err(|e| PolicyError::Refused(e.0))?;
        Ok((set, files))
    }

    /// The version before of each entry, where the policy leaves it to us: that of the newest line of
    /// the history, which is in force, or was when the server stopped.
    async fn with_previous(&self, spec: PolicySpec, files: Arc<Files>) -> PolicySpec {
        let before = self.0.history.read().last().map(|e| e.spec.clone());
        let Some(before) = before else { return spec };
        let mut filled = spec.clone();
        let reading = tokio::task::spawn_blocking(move || {
            fill_previous(&mut filled, &before, files.as_ref());
            let found = filled.plugins.iter();
            let found = found.filter_map(|p| Some((p.name.clone(), p.previous.clone()?)));
            *files.previous.lock() = found.collect();
            filled
        });
        // A panic is our own bug; the hook's default holds then, which is the safe side.
        reading.await.unwrap_or(spec)
    }

    /// Keeps what was read from files under its digest, and names it so.
    pub(super) async fn pin(
        &self,
        spec: &PolicySpec,
        files: Arc<Files>,
    ) -> Result<PolicySpec, StoreError> {
        files.keep_signatures().await?;
        let mut pinned = spec.clone();
        for plugin in &mut pinned.plugins {
            if plugin.previous.is_none() {
                plugin.previous = files.previous.lock().get(&plugin.name).cloned();
            }
        }
        let read = std::mem::take(&mut *files.read.lock());
        for (path, bytes) in read {
            let digest: [u8; 32] = Sha256::digest(&bytes).into();
            let text = digest_text(&digest);
            self.0.store.put_blob(&hex(&digest), bytes).await?;
            for plugin in &mut pinned.plugins {
                if plugin.path.as_deref() == Some(&path) {
                    plugin.path = None;
                    plugin.digest = Some(text.clone());
                }
                if let Some(previous) = &mut plugin.previous
                    && previous.path.as_deref() == Some(&path)
                {
                    previous.path = None;
                    previous.digest = Some(text.clone());
                }
            }
            for table in pinned.tables.values_mut() {
                if table.file.as_deref() == Some(&path) {
                    table.file = None;
                    table.digest = Some(text.clone());
                }
            }
        }
        Ok(pinned)
    }

    pub(super) async fn record(
        &self,
        set: &PolicySet,
        spec: &PolicySpec,
        by: &str,
    ) -> Result<(), StoreError> {
        let sequence = self.0.history.read().last().map_or(1, |e| e.sequence + 1);
        let entry = HistoryEntry {
            sequence,
            at: self.0.clock.now().millis(),
            by: by.to_owned(),
            set: set.id().to_string(),
            spec: spec.clone(),
            plugins: plugin_names(set),
        };
        let value = serde_json::to_vec(&entry).unwrap_or_default();
        let key = |n: u64| format!("{HISTORY_PREFIX}{n:020}");
        self.0.store.put_meta(&key(sequence), value).await?;
        let dropped = {
            let mut history = self.0.history.write();
            history.push(entry);
            (history.len() > HISTORY_MAX).then(|| history.remove(0).sequence)
        };
        if let Some(sequence) = dropped {
            self.0.store.delete_meta(&key(sequence)).await?;
        }
        Ok(())
    }

    /// The one place where a set comes into force. A canary does not outlive it.
    pub(super) fn swap(&self, set: Arc<PolicySet>) {
        let next = Arc::new(InForce {
            active: set.clone(),
            canary: None,
        });
        let old = std::mem::replace(&mut *self.0.in_force.write(), next);
        let old = old.active.clone();
        let mut hot = self.0.hot.lock();
        hot.retain(|s| s.id() != set.id() && s.id() != old.id());
        old.cool(&set);
        hot.push_front(old);
        hot.truncate(HOT_MAX);
    }
}

/// What became of an uploaded table.
#[derive(Clone, Debug)]
pub struct TableStored {
    pub digest: String,
    pub rows: usize,
    pub in_force: bool,
}

/// Why a table was not taken.
#[derive(Debug)]
pub enum TableProblem {
    Rows(String),
    Policy(PolicyError),
    Store(StoreError),
}

/// Why a component was not staged.
#[derive(Debug)]
pub enum StageError {
    Untrusted(Untrusted),
    /// There are more than a component may have.
    Signatures(String),
    Load(LoadError),
    Store(StoreError),
}

/// Compliance checks that let messages through while they fail.
fn open_compliance(set: &PolicySet) -> Vec<String> {
    let checks = set.entries(Hook::ComplianceCheck);
    let open = checks.filter(|e| e.fail() == Fail::Open);
    let mut names: Vec<String> = open.map(|e| e.name().to_owned()).collect();
    names.dedup();
    names
}

fn plugin_names(set: &PolicySet) -> Vec<PluginName> {
    let plugins = set.summary().plugins.iter();
    plugins
        .map(|p| PluginName {
            name: p.name.clone(),
            version: p.version.clone(),
            digest: p.digest.clone(),
        })
        .collect()
}

fn staged_of(inspection: &Inspection, at: u64) -> Staged {
    let schema = &inspection.manifest.config_schema;
    Staged {
        digest: digest_text(&inspection.digest),
        name: inspection.manifest.name.clone(),
        version: inspection.manifest.version.clone(),
        summary: inspection.manifest.summary.clone(),
        hooks: inspection
            .hooks
            .iter()
            .map(|h| h.name().to_owned())
            .collect(),
        imports: inspection.imports.iter().map(|i| (*i).to_owned()).collect(),
        wit_version: inspection.wit_version.clone(),
        size: inspection.size,
        staged_at: at,
        config_schema: serde_json::from_str(schema).unwrap_or(serde_json::Value::Null),
        signatures: Vec::new(),
    }
}

pub(super) fn hex(digest: &[u8; 32]) -> String {
    let mut text = digest_text(digest);
    text.drain(.."sha256:".len());
    text
}
