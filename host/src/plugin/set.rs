//! Policy sets: an immutable, content-addressed list of plugins that are compiled, linked, configured
//! and ready. Built whole or not at all; which set is active, and which were before, is decided above.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::contract::Capability;
use super::engine::Engine;
use super::entry::Entry;
use super::host_calls::{Capabilities, HttpClient, LogRate};
use super::http::HttpCaller;
use super::load::{self, Loaded, digest_text};
use super::pool::{Bounds, NotConfigured, Pool, Terms};
use super::signature::Signer;
use super::spec::{Fail, PluginSpec, PolicySpec};
use super::spec_check::{Materials, Problem, Resolver, check, gather};
use super::state::StateStore;
use super::table::PrefixTable;
use super::upgrade::{Build, Upgrade};
use super::view::Disclosure;
use crate::domain::{Hook, SetId};

const SCHEMA_PROBLEMS_MAX: usize = 10;
const SCHEMA_PROBLEM_CHARS_MAX: usize = 300;

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
    entries: Vec<Entry>,
    tables: BTreeMap<String, ([u8; 32], Arc<PrefixTable>)>,
    /// By all that made them what they are: the next set takes over those that it needs as well.
    pools: Vec<([u8; 32], Arc<Pool>)>,
    summary: SetSummary,
}

/// A set as `GET /v1/policy` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetSummary {
    pub id: String,
    pub default_route: Vec<String>,
    pub tables: Vec<TableSummary>,
    pub plugins: Vec<EntrySummary>,
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
        for (index, plugin) in spec.plugins.iter().enumerate() {
            match build_entry(index, plugin, &materials, host, previous).await {
                Ok(entry) => built.push(entry),
                Err(more) => problems.extend(more),
            }
        }
        if !problems.is_empty() {
            return Err(SetError(problems));
        }
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
            tables: materials.tables,
            pools: built.iter().map(|b| (b.identity, b.pool.clone())).collect(),
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

    /// In the order in which they are asked.
    pub fn entries(&self, hook: Hook) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |e| e.hook == hook)
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

/// One plugin of the policy, ready.
struct Built {
    identity: [u8; 32],
    pool: Arc<Pool>,
    entries: Vec<Entry>,
    summary: EntrySummary,
}

async fn build_entry(
    index: usize,
    spec: &PluginSpec,
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
    let source = if spec.path.is_some() {
        "/path"
    } else {
        "/digest"
    };
    let bytes = materials.components.get(index).cloned().unwrap_or_default();
    let loaded = load::load(&host.engine, bytes)
        .await
        .map_err(|e| vec![at(source, format!("the component {e}"))])?;
    let (hooks, mut problems) = hooks_of(spec, &loaded, &at);
    problems.extend(ungranted(spec, &loaded, &hooks, previous, &at));
    problems.extend(schema_problems(spec, &loaded, &at));
    let entry_hooks = hooks
        .iter()
        .map(|hook| fail_of(spec, *hook).map(|fail| (*hook, fail)));
    let entry_hooks: Result<Vec<(Hook, Fail)>, String> = entry_hooks.collect();
    let entry_hooks = entry_hooks.unwrap_or_else(|why| {
        problems.push(at("/fail", why));
        Vec::new()
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    let bounds = Bounds::new(&spec.limits);
    let identity = identity(index, spec, &loaded, &hooks, materials);
    let kept = previous.and_then(|p| p.pools.iter().find(|(known, _)| *known == identity));
    let pool = match kept {
        Some((_, pool)) => pool.clone(),
        None => make_pool(index, spec, loaded.clone(), &hooks, materials, host, bounds)
            .await
            .map_err(|(field, detail)| vec![at(field, detail)])?,
    };
    let signers = materials.signers.get(index).cloned().unwrap_or_default();
    let mut built = ready(index, spec, loaded, &entry_hooks, identity, pool, bounds);
    built.summary.signatures = signers;
    Ok(built)
}

fn ready(
    index: usize,
    spec: &PluginSpec,
    loaded: Arc<Loaded>,
    hooks: &[(Hook, Fail)],
    identity: [u8; 32],
    pool: Arc<Pool>,
    bounds: Bounds,
) -> Built {
    let name: Arc<str> = spec.name.as_str().into();
    Built {
        identity,
        entries: hooks
            .iter()
            .map(|(hook, fail)| Entry {
                // `check` allows far fewer.
                index: u8::try_from(index).unwrap_or(u8::MAX),
                name: name.clone(),
                hook: *hook,
                fail: *fail,
                pool: pool.clone(),
            })
            .collect(),
        summary: EntrySummary {
            name: spec.name.clone(),
            plugin: loaded.manifest.name.clone(),
            version: loaded.manifest.version.clone(),
            digest: digest_text(&loaded.digest),
            signatures: Vec::new(),
            hooks: hooks
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
        },
        pool,
    }
}

/// The hooks that an entry serves, in the order of the path.
fn hooks_of(
    spec: &PluginSpec,
    loaded: &Loaded,
    at: &impl Fn(&str, String) -> Problem,
) -> (Vec<Hook>, Vec<Problem>) {
    let Some(named) = &spec.hooks else {
        return (loaded.hooks.clone(), Vec::new());
    };
    let mut hooks: Vec<Hook> = named.iter().filter_map(|n| Hook::from_name(n)).collect();
    hooks.sort_unstable();
    let exported: Vec<_> = loaded.hooks.iter().map(|h| h.name()).collect();
    let problems = named
        .iter()
        .enumerate()
        .filter(|(_, n)| !exported.contains(&n.as_str()));
    let problems = problems
        .map(|(n, name)| {
            let exports = exported.join(", ");
            at(
                &format!("/hooks/{n}"),
                format!("the component does not export {name}; it exports {exports}"),
            )
        })
        .collect();
    (hooks, problems)
}

fn ungranted(
    spec: &PluginSpec,
    loaded: &Loaded,
    hooks: &[Hook],
    previous: Option<&PolicySet>,
    at: &impl Fn(&str, String) -> Problem,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let in_force = previous.and_then(|p| p.summary.plugins.iter().find(|e| e.name == spec.name));
    let upgrade = in_force.and_then(|before| upgrade(before, spec, loaded));
    for capability in &loaded.imports {
        let granted = granted(spec).contains(capability);
        if !granted {
            let name = capability.name();
            let why = upgrade.as_ref().map_or(String::new(), |u| format!(". {u}"));
            let mut problem = at(
                &format!("/grants/{name}"),
                format!(
                    "the component imports {name}, which is not granted: grant it here, or use another plugin{why}"
                ),
            );
            problem.upgrade = upgrade.clone().map(Box::new);
            problems.push(problem);
        }
    }
    if spec.grants.http.is_some()
        && let Some(pure) = hooks.iter().find(|h| **h != Hook::CarrierAdapter)
    {
        problems.push(at(
            "/grants/http",
            format!(
                "cannot be granted to {}: decision hooks do no I/O, carrier adapters alone do",
                pure.name()
            ),
        ));
    }
    problems
}

/// How the entry's new component differs in what it wants from the one in force; none where it is
/// the same component.
fn upgrade(before: &EntrySummary, spec: &PluginSpec, loaded: &Loaded) -> Option<Upgrade> {
    let names = |capabilities: &[Capability]| -> Vec<&'static str> {
        capabilities.iter().map(|c| c.name()).collect()
    };
    let now = Build {
        version: loaded.manifest.version.clone(),
        digest: digest_text(&loaded.digest),
        imports: names(&loaded.imports),
    };
    let before = Build {
        version: before.version.clone(),
        digest: before.digest.clone(),
        imports: before.imports.clone(),
    };
    Upgrade::of(&spec.name, before, now, names(&granted(spec)))
}

fn granted(spec: &PluginSpec) -> Vec<Capability> {
    let grants = &spec.grants;
    Capability::ALL
        .into_iter()
        .filter(|capability| match capability {
            Capability::Logging => true,
            Capability::State => grants.state.is_some(),
            Capability::Tables => !grants.tables.is_empty(),
            Capability::Http => grants.http.is_some(),
        })
        .collect()
}

fn schema_problems(
    spec: &PluginSpec,
    loaded: &Loaded,
    at: &impl Fn(&str, String) -> Problem,
) -> Vec<Problem> {
    loaded
        .schema
        .iter_errors(&spec.config)
        .take(SCHEMA_PROBLEMS_MAX)
        .map(|error| {
            let place = format!("/config{}", error.instance_path());
            at(
                &place,
                error
                    .to_string()
                    .chars()
                    .take(SCHEMA_PROBLEM_CHARS_MAX)
                    .collect(),
            )
        })
        .collect()
}

fn fail_of(spec: &PluginSpec, hook: Hook) -> Result<Fail, String> {
    let default = match hook {
        Hook::ContentFilter | Hook::ComplianceCheck | Hook::CarrierAdapter => Fail::Closed,
        Hook::RoutingPolicy => Fail::Default,
        Hook::InboundHandler | Hook::Enrichment => Fail::Open,
    };
    match (spec.fail, hook) {
        (None, _) => Ok(default),
        (Some(_), Hook::CarrierAdapter) => {
            Err("a carrier-adapter has no fail mode: its faults are the carrier's temporary failures".into())
        }
        (Some(Fail::Default), Hook::Enrichment | Hook::ContentFilter | Hook::ComplianceCheck | Hook::InboundHandler) => Err(format!(
            "\"default\" is for routing-policy, whose default is default_route; {} takes \"closed\" or \"open\"",
            hook.name()
        )),
        (Some(Fail::Open), Hook::ComplianceCheck) if !spec.allow_open_compliance => Err(
            "\"open\" lets through what a failing compliance-check would have stopped; it needs allow_open_compliance = true"
                .into(),
        ),
        (
            Some(fail),
            Hook::Enrichment
            | Hook::ContentFilter
            | Hook::ComplianceCheck
            | Hook::RoutingPolicy
            | Hook::InboundHandler,
        ) => Ok(fail),
    }
}

async fn make_pool(
    index: usize,
    spec: &PluginSpec,
    loaded: Arc<Loaded>,
    hooks: &[Hook],
    materials: &Materials,
    host: &Host,
    bounds: Bounds,
) -> Result<Arc<Pool>, (&'static str, String)> {
    let grants = &spec.grants;
    let http = match &grants.http {
        Some(grant) => {
            let secrets = materials.secrets.get(index).cloned().unwrap_or_default();
            let caller = HttpCaller::new(host.http.clone(), grant, secrets);
            Some(caller.map_err(|why| ("/grants/http/hosts", why))?)
        }
        None => None,
    };
    let tables = materials
        .tables
        .iter()
        .filter(|(name, _)| grants.tables.contains(name));
    let capabilities = Capabilities {
        owner: spec.name.clone(),
        state: grants.state.as_ref().map(|g| (host.state.clone(), g.bytes)),
        tables: tables
            .map(|(name, (_, table))| (name.clone(), table.clone()))
            .collect(),
        http,
        log_rate: LogRate::new(),
    };
    let mut key = Sha256::new();
    key.update(host.pseudonym_key);
    key.update(spec.name.as_bytes());
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
        bounds,
    };
    let pool = Pool::new(&host.engine, loaded, hooks, terms)
        .map_err(|why| ("", format!("the component cannot be linked: {why}")))?;
    match pool.warm_up().await {
        Ok(()) => Ok(Arc::new(pool)),
        Err(NotConfigured::Refused(why)) => {
            Err(("/config", format!("the plugin refuses it: {why}")))
        }
        Err(NotConfigured::Fault(fault)) => Err(("/config", format!("configure failed: {fault}"))),
    }
}

/// Everything that makes an entry's instances what they are, secrets' values included.
fn identity(
    index: usize,
    spec: &PluginSpec,
    loaded: &Loaded,
    hooks: &[Hook],
    materials: &Materials,
) -> [u8; 32] {
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
        "secrets": materials.secrets.get(index),
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
