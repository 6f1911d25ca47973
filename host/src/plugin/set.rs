//! Policy sets: an immutable, content-addressed list of plugins that are compiled, linked, configured
//! and ready. Built whole or not at all; which set is active, and which were before, is decided above.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::breaker::Settings;
use super::child::Care;
use super::engine::Engine;
use super::entry::Entry;
use super::entry_check::{
    default_fail, fail_of, granted, hooks_of, not_an_accounts, schema_problems, ungranted,
};
use super::host_calls::{Capabilities, HttpClient, LogRate};
use super::http::HttpCaller;
use super::lane::Lane;
use super::load::{self, Component, LoadError, Loaded, digest_text};
use super::pool::{Bounds, NotConfigured, Pool, Terms};
use super::signature::Signer;
use super::spec::{
    AccountQuota, BreakerSpec, Fail, NumbersGrant, PluginSpec, PolicySpec, RerouteSpec, escaped_key,
};
use super::spec_check::{Fetched, Materials, Problem, Resolver, check, gather, reroute_state};
use super::state::StateStore;
use super::table::PrefixTable;
use super::tenant::{Quota, Tenant};
use super::view::Disclosure;
use crate::domain::{AccountId, Hook, Reroute, SetId, TrafficClass};

/// What plugins are run with, the same for every set.
#[derive(Clone)]
pub struct Host {
    pub engine: Engine,
    pub state: Arc<dyn StateStore>,
    pub http: Arc<dyn HttpClient>,
    /// Pseudonyms of numbers are made with it; as long as it stays, so do they.
    pub pseudonym_key: [u8; 32],
}

/// All that is wrong with a policy, or as much as could be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetError(pub Vec<Problem>);

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SetError {}

/// The plugins that decide together.
pub struct PolicySet {
    id: SetId,
    default_route: Vec<String>,
    reroute: Option<Reroute>,
    reroute_classes: Vec<TrafficClass>,
    entries: Vec<Entry>,
    tables: BTreeMap<String, ([u8; 32], Arc<PrefixTable>)>,
    /// By all that made them what they are: the next set takes over those that it needs as well.
    pools: Vec<([u8; 32], Arc<Pool>)>,
    summary: SetSummary,
    notes: Vec<Problem>,
}

/// A set as `GET /v1/policy` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetSummary {
    pub id: String,
    pub default_route: Vec<String>,
    pub tables: Vec<TableSummary>,
    pub plugins: Vec<EntrySummary>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub accounts: BTreeMap<String, AccountQuota>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reroute: Option<RerouteSpec>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableSummary {
    pub name: String,
    pub rows: usize,
    pub digest: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EntrySummary {
    /// The entry's name in the policy.
    pub name: String,
    /// The plugin's own name and version.
    pub plugin: String,
    pub version: String,
    pub digest: String,
    /// By whom the component is signed; it decides nothing, and is no part of the set's id.
    pub signatures: Vec<Signer>,
    pub hooks: Vec<EntryHook>,
    pub imports: Vec<&'static str>,
    pub config: Value,
    pub grants: super::spec::Grants,
    pub limits: super::spec::Limits,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousSummary>,
    #[serde(skip_serializing_if = "BreakerSpec::is_default")]
    pub breaker: BreakerSpec,
}

/// The version that answers where the present one fails.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PreviousSummary {
    pub plugin: String,
    pub version: String,
    pub digest: String,
    pub hooks: Vec<&'static str>,
    pub config: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EntryHook {
    pub hook: &'static str,
    pub fail: &'static str,
    pub deadline_ms: u32,
}

impl PolicySet {
    /// Checks everything, then makes and configures an instance of each plugin. Entries that
    /// `previous` has in the very same form keep their instances, counters and breakers.
    pub async fn build(
        spec: &PolicySpec,
        resolver: Arc<dyn Resolver>,
        host: &Host,
        previous: Option<&PolicySet>,
    ) -> Result<PolicySet, SetError> {
        let problems = check(spec, host.engine.limits());
        if !problems.is_empty() {
            return Err(SetError(problems));
        }
        let known = previous.map(|p| p.tables.clone()).unwrap_or_default();
        let trust = host.engine.limits().trust.clone();
        let materials = gather(spec.clone(), resolver, known, trust)
            .await
            .map_err(SetError)?;
        let mut problems = Vec::new();
        let mut built = Vec::new();
        let _building = host.engine.begin_building();
        let loads = load_all(&host.engine, &materials.components).await;
        for ((index, plugin), loaded) in spec.plugins.iter().enumerate().zip(loads) {
            match build_entry(index, spec, plugin, loaded, &materials, host, previous).await {
                Ok(entry) => built.push(entry),
                Err(more) => problems.extend(more),
            }
        }
        if !problems.is_empty() {
            return Err(SetError(problems));
        }
        host.engine.begin_serving();
        Ok(PolicySet::of(spec, materials, built))
    }

    /// A set without plugins: everything goes by `default_route`.
    pub fn empty(default_route: Vec<String>) -> PolicySet {
        let spec = PolicySpec {
            default_route,
            ..PolicySpec::default()
        };
        PolicySet::of(&spec, Materials::default(), Vec::new())
    }

    fn of(spec: &PolicySpec, materials: Materials, built: Vec<Built>) -> PolicySet {
        let summary = SetSummary {
            id: String::new(),
            default_route: spec.default_route.clone(),
            tables: materials
                .tables
                .iter()
                .map(|(name, (digest, table))| TableSummary {
                    name: name.clone(),
                    rows: table.len(),
                    digest: digest_text(digest),
                })
                .collect(),
            plugins: built.iter().map(|b| b.summary.clone()).collect(),
            accounts: spec.accounts.clone(),
            reroute: spec.reroute.clone(),
        };
        // The summary names all that decides: digests of components and tables, configuration,
        // grants, limits and fail modes.
        let mut decides = serde_json::to_value(&summary).unwrap_or_default();
        for plugin in decides["plugins"].as_array_mut().into_iter().flatten() {
            if let Some(plugin) = plugin.as_object_mut() {
                plugin.remove("signatures");
            }
        }
        let canonical = canonical(&decides);
        let digest = Sha256::digest(canonical.as_bytes());
        let mut id = SetId::default();
        id.0.copy_from_slice(&digest[..16]);
        PolicySet {
            id,
            default_route: spec.default_route.clone(),
            reroute: spec.reroute.as_ref().map(reroute_of),
            reroute_classes: spec
                .reroute
                .iter()
                .flat_map(|r| &r.classes)
                .filter_map(|name| TrafficClass::from_name(name))
                .collect(),
            tables: materials.tables,
            pools: built.iter().flat_map(|b| b.pools.clone()).collect(),
            notes: built
                .iter()
                .flat_map(|b| b.notes.clone())
                .chain(unused_quotas(spec))
                .collect(),
            entries: built.into_iter().flat_map(|b| b.entries).collect(),
            summary: SetSummary {
                id: id.to_string(),
                ..summary
            },
        }
    }

    pub fn id(&self) -> SetId {
        self.id
    }

    /// Entries over all hooks.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn default_route(&self) -> &[String] {
        &self.default_route
    }

    /// What becomes of messages of this class that a receipt says have failed.
    pub fn reroute(&self, class: TrafficClass) -> Option<&Reroute> {
        let all = self.reroute_classes.is_empty();
        let reroute = self.reroute.as_ref();
        reroute.filter(|_| all || self.reroute_classes.contains(&class))
    }

    /// In the order in which they are asked.
    pub fn entries(&self, hook: Hook) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |e| e.hook == hook)
    }

    /// Those of [`PolicySet::entries`] that have a say in the traffic of `account`: everybody's, and
    /// its own.
    pub fn entries_for<'s>(
        &'s self,
        hook: Hook,
        account: Option<&AccountId>,
    ) -> impl Iterator<Item = &'s Entry> {
        self.entries(hook)
            .filter(move |e| e.account.is_none() || e.account.as_ref() == account)
    }

    /// What whoever puts it in force should know, though nothing is wrong with it.
    pub fn notes(&self) -> &[Problem] {
        &self.notes
    }

    /// All entries, for metrics.
    pub fn all(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of this name that serves `hook`.
    pub fn entry(&self, name: &str, hook: Hook) -> Option<&Entry> {
        self.entries(hook).find(|e| e.name() == name)
    }

    pub fn summary(&self) -> &SetSummary {
        &self.summary
    }

    /// Whether the very same instances would run: two sets with one id can differ in the values of
    /// their secrets, which no id tells.
    pub fn runs_as(&self, other: &PolicySet) -> bool {
        let ours = self.pools.iter().map(|(identity, _)| identity);
        ours.eq(other.pools.iter().map(|(identity, _)| identity))
    }

    /// Lets go of the idle instances that `active` does not use: a set that is only kept for a
    /// rollback needs none.
    pub fn cool(&self, active: &PolicySet) {
        for (_, pool) in &self.pools {
            if !active.pools.iter().any(|(_, used)| Arc::ptr_eq(used, pool)) {
                pool.cool();
            }
        }
    }
}

fn reroute_of(spec: &RerouteSpec) -> Reroute {
    Reroute {
        on: spec
            .on
            .iter()
            .filter_map(|name| reroute_state(name))
            .collect(),
        errors: spec.errors.clone(),
        max: spec.max,
        within: spec.within_seconds.map(Duration::from_secs),
    }
}

/// One plugin of the policy, ready.
struct Built {
    pools: Vec<([u8; 32], Arc<Pool>)>,
    entries: Vec<Entry>,
    summary: EntrySummary,
    notes: Vec<Problem>,
}

/// A place in the policy, and what is wrong there.
pub(super) type At<'a> = &'a (dyn Fn(&str, String) -> Problem + Sync);

/// What an entry is built with.
struct Ground<'a> {
    index: usize,
    policy: &'a PolicySpec,
    materials: &'a Materials,
    host: &'a Host,
    previous: Option<&'a PolicySet>,
}

/// Loads components side by side, as many at once as the machine has cores; each once, however often
/// it stands in the policy, and the largest first, so that none is left over at the end.
async fn load_all(engine: &Engine, components: &[Fetched]) -> Vec<Result<Arc<Loaded>, LoadError>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let turns = Arc::new(tokio::sync::Semaphore::new(cores));
    let mut under_way: Vec<([u8; 32], tokio::task::JoinHandle<_>)> = Vec::new();
    let mut places = Vec::with_capacity(components.len());
    let mut by_size: Vec<&Component> = components.iter().map(|f| &f.component).collect();
    by_size.sort_by_key(|component| std::cmp::Reverse(component.bytes.len()));
    for component in by_size {
        if under_way.iter().any(|(same, _)| *same == component.digest) {
            continue;
        }
        // Never closed.
        let turn = turns.clone().acquire_owned().await;
        let (engine, owned) = (engine.clone(), component.clone());
        let load = async move {
            let _turn = turn;
            load::load(&engine, owned, Care::Quick).await
        };
        under_way.push((component.digest, tokio::spawn(load)));
    }
    for fetched in components {
        let mut all = under_way.iter();
        places.extend(all.position(|(same, _)| *same == fetched.component.digest));
    }
    let mut loaded = Vec::with_capacity(under_way.len());
    for (_, load) in under_way {
        let ended = load.await;
        loaded.push(ended.unwrap_or_else(|e| Err(LoadError::Compiler(e.to_string()))));
    }
    places.into_iter().map(|n| loaded[n].clone()).collect()
}

async fn build_entry(
    index: usize,
    policy: &PolicySpec,
    spec: &PluginSpec,
    loaded: Result<Arc<Loaded>, LoadError>,
    materials: &Materials,
    host: &Host,
    previous: Option<&PolicySet>,
) -> Result<Built, Vec<Problem>> {
    let at = |field: &str, detail: String| Problem {
        pointer: format!("/plugin/{index}{field}"),
        entry: Some(spec.name.clone()),
        detail,
        upgrade: None,
    };
    let ground = Ground {
        index,
        policy,
        materials,
        host,
        previous,
    };
    let source = if spec.path.is_some() {
        "/path"
    } else {
        "/digest"
    };
    let loaded = loaded.map_err(|e| vec![at(source, format!("the component {e}"))])?;
    let (hooks, mut problems) = hooks_of(spec, &loaded, &at);
    problems.extend(ungranted(spec, &loaded, &hooks, previous, &at));
    problems.extend(schema_problems(spec, &loaded, &at));
    problems.extend(not_an_accounts(spec, &hooks, &at));
    let older = older_version(&ground, spec, &hooks, &at).await;
    let older = older.unwrap_or_else(|more| {
        problems.extend(more);
        None
    });
    let fails: Result<Vec<(Hook, Fail)>, String> = hooks
        .iter()
        .map(|hook| fail_of(spec, *hook).map(|fail| (*hook, in_effect(fail, *hook, &older))))
        .collect();
    let fails = fails.unwrap_or_else(|why| {
        problems.push(at("/fail", why));
        Vec::new()
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    let notes = notes_of(spec, &fails, older.as_ref(), &at);
    let summary = summary_of(spec, &loaded, &fails, older.as_ref());
    let mut built = Built {
        pools: Vec::new(),
        entries: Vec::new(),
        summary,
        notes,
    };
    let fetched = materials.components.get(index);
    built.summary.signatures = fetched.map(|f| f.signers.clone()).unwrap_or_default();
    for account in whose(spec) {
        let account = account.as_ref();
        let (identity, pool) = pool_of(&ground, spec, &loaded, &hooks, account, false)
            .await
            .map_err(|(field, detail)| vec![at(field, detail)])?;
        built.pools.push((identity, pool.clone()));
        let behind = match &older {
            Some(older) => {
                let found = pool_of(
                    &ground,
                    &older.spec,
                    &older.loaded,
                    &older.hooks,
                    account,
                    true,
                );
                let (identity, pool) = found
                    .await
                    .map_err(|(field, detail)| vec![at(&format!("/previous{field}"), detail)])?;
                built.pools.push((identity, pool.clone()));
                Some(pool)
            }
            None => None,
        };
        let entries = fails
            .iter()
            .map(|(hook, fail)| entry_of(index, spec, *hook, *fail, account, &pool, &behind));
        built.entries.extend(entries);
    }
    Ok(built)
}

/// Everybody, or each account by itself: no instance ever serves two of them.
fn whose(spec: &PluginSpec) -> Vec<Option<AccountId>> {
    if spec.accounts.is_empty() {
        return vec![None];
    }
    let accounts = spec.accounts.iter();
    accounts
        .map(|a| Some(AccountId::from(a.as_str())))
        .collect()
}

fn entry_of(
    index: usize,
    spec: &PluginSpec,
    hook: Hook,
    fail: Fail,
    account: Option<&AccountId>,
    pool: &Arc<Pool>,
    behind: &Option<Arc<Pool>>,
) -> Entry {
    let entry = |fail: Fail, pool: &Arc<Pool>, previous: Option<Box<Entry>>, stands_in| Entry {
        // `check` allows far fewer.
        index: u8::try_from(index).unwrap_or(u8::MAX),
        name: spec.name.as_str().into(),
        hook,
        fail,
        pool: pool.clone(),
        account: account.cloned(),
        previous,
        stands_in,
    };
    let previous = match (fail, behind) {
        (Fail::Previous, Some(behind)) => {
            Some(Box::new(entry(default_fail(hook), behind, None, true)))
        }
        (Fail::Previous | Fail::Closed | Fail::Open | Fail::Default, _) => None,
    };
    entry(fail, pool, previous, false)
}

fn summary_of(
    spec: &PluginSpec,
    loaded: &Loaded,
    fails: &[(Hook, Fail)],
    older: Option<&Older>,
) -> EntrySummary {
    let bounds = Bounds::new(&spec.limits);
    EntrySummary {
        name: spec.name.clone(),
        plugin: loaded.manifest.name.clone(),
        version: loaded.manifest.version.clone(),
        digest: digest_text(&loaded.digest),
        signatures: Vec::new(),
        hooks: fails
            .iter()
            .map(|(hook, fail)| EntryHook {
                hook: hook.name(),
                fail: fail.name(),
                deadline_ms: bounds.deadline_ms(*hook),
            })
            .collect(),
        imports: loaded.imports.iter().map(|c| c.name()).collect(),
        config: spec.config.clone(),
        grants: spec.grants.clone(),
        limits: spec.limits.clone(),
        accounts: spec.accounts.clone(),
        previous: older.map(|older| PreviousSummary {
            plugin: older.loaded.manifest.name.clone(),
            version: older.loaded.manifest.version.clone(),
            digest: digest_text(&older.loaded.digest),
            hooks: older.hooks.iter().map(|h| h.name()).collect(),
            config: older.spec.config.clone(),
        }),
        breaker: spec.breaker.clone(),
    }
}

/// The version before of an entry with `fail = "previous"`.
struct Older {
    /// The entry's, with the older component and configuration.
    spec: PluginSpec,
    loaded: Arc<Loaded>,
    hooks: Vec<Hook>,
}

async fn older_version(
    ground: &Ground<'_>,
    spec: &PluginSpec,
    hooks: &[Hook],
    at: At<'_>,
) -> Result<Option<Older>, Vec<Problem>> {
    let stored = ground.materials.previous.get(ground.index);
    let (Some(previous), Some(Some(fetched))) = (&spec.previous, stored) else {
        return Ok(None);
    };
    let there = |field: &str, detail: String| at(&format!("/previous{field}"), detail);
    let loaded = load::load(&ground.host.engine, fetched.component.clone(), Care::Quick)
        .await
        .map_err(|e| vec![there("", format!("the component {e}"))])?;
    let config = previous.config.as_ref().unwrap_or(&spec.config);
    let spec = PluginSpec {
        config: config.clone(),
        ..spec.clone()
    };
    let hooks: Vec<Hook> = hooks
        .iter()
        .copied()
        .filter(|h| loaded.hooks.contains(h))
        .collect();
    let mut problems = ungranted(&spec, &loaded, &hooks, None, &there);
    problems.extend(schema_problems(&spec, &loaded, &there));
    if hooks.is_empty() {
        problems.push(there("", "exports no hook of this entry".into()));
    }
    if problems.is_empty() {
        Ok(Some(Older {
            spec,
            loaded,
            hooks,
        }))
    } else {
        Err(problems)
    }
}

/// Without a version before that serves the hook, the hook's default holds.
fn in_effect(fail: Fail, hook: Hook, older: &Option<Older>) -> Fail {
    let known = older.as_ref().is_some_and(|o| o.hooks.contains(&hook));
    match fail {
        Fail::Previous if !known => default_fail(hook),
        Fail::Previous | Fail::Closed | Fail::Open | Fail::Default => fail,
    }
}

fn notes_of(
    spec: &PluginSpec,
    fails: &[(Hook, Fail)],
    older: Option<&Older>,
    at: At<'_>,
) -> Vec<Problem> {
    let mut notes = Vec::new();
    for (hook, fail) in fails {
        if (*hook, *fail) == (Hook::ComplianceCheck, Fail::Open) {
            notes.push(at(
                "/fail",
                "compliance is open: while this plugin fails, messages go out that it would have stopped (allow_open_compliance)".into(),
            ));
        }
        if spec.fail == Some(Fail::Previous) && *fail != Fail::Previous {
            let why = match older {
                Some(_) => format!("the version before does not export {}", hook.name()),
                None => "no version before is known".to_owned(),
            };
            let fail = fail.name();
            notes.push(at(
                "/fail",
                format!("{why}: {} fails {fail:?} for now", hook.name()),
            ));
        }
        if *hook == Hook::CarrierAdapter && spec.grants.numbers != NumbersGrant::Full {
            notes.push(at(
                "/grants/numbers",
                "a carrier-adapter cannot send to a pseudonym, and a carrier's call-back reaches it as the carrier wrote it".into(),
            ));
        }
    }
    notes
}

fn unused_quotas(spec: &PolicySpec) -> Vec<Problem> {
    let used = |account: &String| spec.plugins.iter().any(|p| p.accounts.contains(account));
    let unused = spec.accounts.keys().filter(|a| !used(a));
    unused
        .map(|account| Problem {
            pointer: format!("/accounts/{}", escaped_key(account)),
            entry: None,
            detail: "no entry is this account's own: its quota bounds nothing".to_owned(),
            upgrade: None,
        })
        .collect()
}

/// The pool that `ground.previous` has in the very same form, or a new one.
async fn pool_of(
    ground: &Ground<'_>,
    spec: &PluginSpec,
    loaded: &Arc<Loaded>,
    hooks: &[Hook],
    account: Option<&AccountId>,
    previous: bool,
) -> Result<([u8; 32], Arc<Pool>), (&'static str, String)> {
    let quota = account.map(|a| Quota::of(ground.policy, a.as_str()));
    let whose = json!({
        "account": account.map(AccountId::as_str),
        "quota": quota.map(|q| format!("{q:?}")),
        "previous": previous,
    });
    let identity = identity(ground, spec, loaded, hooks, &whose);
    let kept = ground
        .previous
        .and_then(|p| p.pools.iter().find(|(known, _)| *known == identity));
    if let Some((_, pool)) = kept {
        return Ok((identity, pool.clone()));
    }
    let tenant = account
        .zip(quota)
        .map(|(a, quota)| ground.host.engine.ledger().tenant(a.as_str(), quota));
    let pool = make_pool(ground, spec, loaded.clone(), hooks, tenant, previous).await?;
    Ok((identity, pool))
}

async fn make_pool(
    ground: &Ground<'_>,
    spec: &PluginSpec,
    loaded: Arc<Loaded>,
    hooks: &[Hook],
    tenant: Option<Arc<Tenant>>,
    previous: bool,
) -> Result<Arc<Pool>, (&'static str, String)> {
    let (grants, host, materials) = (&spec.grants, ground.host, ground.materials);
    let http = match &grants.http {
        Some(grant) => {
            let secrets = materials.secrets.get(ground.index);
            let secrets = secrets.cloned().unwrap_or_default();
            let caller = HttpCaller::new(host.http.clone(), grant, secrets);
            Some(caller.map_err(|why| ("/grants/http/hosts", why))?)
        }
        None => None,
    };
    let tables = materials
        .tables
        .iter()
        .filter(|(name, _)| grants.tables.contains(name));
    // No entry's name has an @: state and pseudonyms of one account are never another's.
    let owner = match &tenant {
        Some(tenant) => format!("{}@{}", spec.name, tenant.usage.account),
        None => spec.name.clone(),
    };
    let mut key = Sha256::new();
    key.update(host.pseudonym_key);
    key.update(owner.as_bytes());
    let capabilities = Capabilities {
        owner,
        version: loaded.manifest.version.clone(),
        state: grants.state.as_ref().map(|g| (host.state.clone(), g.bytes)),
        tables: tables
            .map(|(name, (_, table))| (name.clone(), table.clone()))
            .collect(),
        http,
        log_rate: LogRate::new(),
        lane: Lane::new(),
    };
    let disclosure = Disclosure {
        numbers: grants.numbers,
        content: grants.content,
        key: key.finalize().into(),
    };
    let terms = Terms {
        linked: granted(spec),
        grants: capabilities,
        disclosure,
        config: spec.config.to_string(),
        bounds: match &tenant {
            Some(tenant) => tenant.quota.bounds(&spec.limits),
            None => Bounds::new(&spec.limits),
        },
        breaker: Settings::new(&spec.breaker),
        tenant,
        previous,
        name: spec.name.clone(),
    };
    let unlinked = |why| ("", format!("the component cannot be linked: {why}"));
    let with_first = !loaded.code.is_improved();
    let pool = Arc::new(Pool::new(&host.engine, loaded, hooks, terms).map_err(unlinked)?);
    if let Some(better) = pool.loaded.code.joined_by(&pool, with_first) {
        let taken = pool.take_over(&host.engine, &better).await;
        taken.map_err(unlinked)?;
    }
    match pool.warm_up().await {
        Ok(()) => Ok(pool),
        Err(NotConfigured::Refused(why)) => {
            Err(("/config", format!("the plugin refuses it: {why}")))
        }
        Err(NotConfigured::Fault(fault)) => Err(("/config", format!("configure failed: {fault}"))),
    }
}

/// Everything that makes an entry's instances what they are, secrets' values included.
fn identity(
    ground: &Ground<'_>,
    spec: &PluginSpec,
    loaded: &Loaded,
    hooks: &[Hook],
    whose: &Value,
) -> [u8; 32] {
    let materials = ground.materials;
    let tables: BTreeMap<&String, String> = spec
        .grants
        .tables
        .iter()
        .filter_map(|name| {
            materials
                .tables
                .get(name)
                .map(|(digest, _)| (name, digest_text(digest)))
        })
        .collect();
    let all = json!({
        "name": spec.name,
        "component": digest_text(&loaded.digest),
        "hooks": hooks.iter().map(|h| h.name()).collect::<Vec<_>>(),
        "config": spec.config,
        "grants": spec.grants,
        "limits": spec.limits,
        "tables": tables,
        "secrets": materials.secrets.get(ground.index),
        "breaker": spec.breaker,
        "whose": whose,
    });
    Sha256::digest(canonical(&all).as_bytes()).into()
}

/// JSON with sorted keys and no spaces: the same value is the same text.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            let fields: Vec<String> = sorted
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}
