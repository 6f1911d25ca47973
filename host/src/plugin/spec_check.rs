//! What of a policy can be checked before any component is compiled: names, references, ranges; and
//! the fetching of what it names through the caller's resolver. Reads no file and no environment itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::breaker::Settings;
use super::engine::EngineLimits;
use super::load::{Component, digest_text};
use super::signature::{Signatures, Signer, Trust};
use super::spec::{
    BreakerSpec, Fail, Grants, Limits, PluginSpec, PolicySpec, RerouteSpec, Source, escaped_key,
    parse_digest,
};
use super::table::PrefixTable;
use super::tenant::Quota;
use super::upgrade::Upgrade;
use crate::domain::receipt::ERROR_CHARACTERS_MAX;
use crate::domain::{Hook, State, TrafficClass};

/// Well below 255, which a decision trace uses for the host itself.
const PLUGINS_MAX: usize = 64;
const TABLES_MAX: usize = 64;
const DEFAULT_ROUTE_MAX: usize = 8;
const NAME_CHARS_MAX: usize = 64;
const CONFIG_BYTES_MAX: usize = 1 << 20;
const SECRET_BYTES_MAX: usize = 4 << 10;
const ACCOUNTS_MAX: usize = 10_000;
const ENTRY_ACCOUNTS_MAX: usize = 64;
const ACCOUNT_BYTES_MAX: usize = 64;
/// An entry of an account's own holds up nobody for longer than this.
const TENANT_DEADLINE_MS_MAX: u64 = 100;

/// One thing that is wrong with a policy: where, and the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// JSON pointer into the policy, as in `/plugin/0/grants/http`.
    pub pointer: String,
    /// The entry's name, where one is at fault.
    pub entry: Option<String>,
    pub detail: String,
    /// What the entry's component wants more than the one in force, where that is the reason.
    pub upgrade: Option<Box<Upgrade>>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.entry {
            Some(entry) => write!(f, "{} ({entry}): {}", self.pointer, self.detail),
            None => write!(f, "{}: {}", self.pointer, self.detail),
        }
    }
}

/// Gives what a policy only names. Called on a thread that may block. The errors are for the operator.
pub trait Resolver: Send + Sync {
    fn component(&self, source: &Source) -> Result<Vec<u8>, String>;
    fn table(&self, source: &Source) -> Result<Vec<u8>, String>;
    /// The signatures that go with the component of this digest, which `source` gave; none where it
    /// is not signed.
    fn signatures(&self, _source: &Source, _digest: &[u8; 32]) -> Result<Signatures, String> {
        Ok(Signatures::default())
    }
    /// `env:NAME` or `file:PATH`.
    fn secret(&self, reference: &str) -> Result<String, String>;
}

/// What the resolver gave.
#[derive(Default)]
pub(super) struct Materials {
    pub tables: BTreeMap<String, ([u8; 32], Arc<PrefixTable>)>,
    /// By position of the plugin.
    pub components: Vec<Fetched>,
    /// By position of the plugin, where it names a version before.
    pub previous: Vec<Option<Fetched>>,
    pub secrets: Vec<BTreeMap<String, String>>,
}

/// A component as the resolver gave it; one that is not trusted enough does not become one.
#[derive(Clone)]
pub(super) struct Fetched {
    pub component: Component,
    pub signers: Vec<Signer>,
}

/// The resolver's answers for one policy: several entries may name the same component.
struct Fetching<'a> {
    resolver: &'a dyn Resolver,
    trust: &'a Trust,
    known: Vec<(Source, Fetched)>,
}

pub(super) fn check(spec: &PolicySpec, engine: &EngineLimits) -> Vec<Problem> {
    let mut found = Found::default();
    if spec.default_route.len() > DEFAULT_ROUTE_MAX {
        found.add(
            "/default_route",
            format!("has more than {DEFAULT_ROUTE_MAX} carriers"),
        );
    }
    for (n, carrier) in spec.default_route.iter().enumerate() {
        if spec.default_route[..n].contains(carrier) {
            found.add(
                &format!("/default_route/{n}"),
                format!("names {carrier:?} a second time"),
            );
        }
    }
    if let Some(reroute) = &spec.reroute {
        check_reroute(reroute, &mut found);
    }
    if spec.tables.len() > TABLES_MAX {
        found.add("/tables", format!("has more than {TABLES_MAX} tables"));
    }
    for (name, table) in &spec.tables {
        let pointer = format!("/tables/{}", escaped_key(name));
        if !is_name(name) {
            found.add(&pointer, name_rule(name));
        }
        source(&pointer, "file", &table.file, &table.digest, &mut found);
    }
    if spec.plugins.len() > PLUGINS_MAX {
        found.add("/plugin", format!("has more than {PLUGINS_MAX} entries"));
    }
    found.problems.extend(check_quotas(spec, engine));
    let mut names = BTreeSet::new();
    for (n, plugin) in spec.plugins.iter().enumerate() {
        found.entry = Some(plugin.name.clone());
        if !names.insert(&plugin.name) {
            found.add(
                &format!("/plugin/{n}/name"),
                "is the name of an earlier entry; give each its own".into(),
            );
        }
        check_plugin(&format!("/plugin/{n}"), plugin, spec, engine, &mut found);
    }
    found.problems
}

const REROUTE_MAX: u8 = 8;
const REROUTE_ERRORS_MAX: usize = 64;

fn check_reroute(reroute: &RerouteSpec, found: &mut Found) {
    if reroute.on.is_empty() {
        let rule = "names no state; without any, leave [reroute] out";
        found.add("/reroute/on", rule.into());
    }
    for (n, name) in reroute.on.iter().enumerate() {
        if reroute_state(name).is_none() {
            let rule = format!(
                "{name:?} is none of {}",
                REROUTE_STATES.map(State::name).join(", ")
            );
            found.add(&format!("/reroute/on/{n}"), rule);
        }
    }
    for (n, name) in reroute.classes.iter().enumerate() {
        if TrafficClass::from_name(name).is_none() {
            let names = TrafficClass::ALL.map(TrafficClass::name).join(", ");
            let rule = format!("{name:?} is none of {names}");
            found.add(&format!("/reroute/classes/{n}"), rule);
        }
    }
    if reroute.errors.len() > REROUTE_ERRORS_MAX {
        let rule = format!("has more than {REROUTE_ERRORS_MAX} codes");
        found.add("/reroute/errors", rule);
    }
    for (n, code) in reroute.errors.iter().enumerate() {
        if code.is_empty() || code.chars().count() > ERROR_CHARACTERS_MAX {
            let rule = format!("is no code of 1 to {ERROR_CHARACTERS_MAX} characters");
            found.add(&format!("/reroute/errors/{n}"), rule);
        }
    }
    if reroute.max == 0 || reroute.max > REROUTE_MAX {
        found.add(
            "/reroute/max",
            format!("is not between 1 and {REROUTE_MAX}"),
        );
    }
    if reroute.within_seconds == Some(0) {
        found.add(
            "/reroute/within_seconds",
            "is 0; leave it out for no limit".into(),
        );
    }
}

/// States that a failed message can end in.
const REROUTE_STATES: [State; 4] = [
    State::Undeliverable,
    State::Rejected,
    State::Expired,
    State::Unknown,
];

pub(super) fn reroute_state(name: &str) -> Option<State> {
    REROUTE_STATES.into_iter().find(|s| s.name() == name)
}

#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
    entry: Option<String>,
}

impl Found {
    fn add(&mut self, pointer: &str, detail: String) {
        self.problems.push(Problem {
            pointer: pointer.to_owned(),
            entry: self.entry.clone(),
            detail,
            upgrade: None,
        });
    }

    /// A range whose end an operator moves by a key of the server's configuration.
    fn up_to(&mut self, pointer: String, value: Option<u32>, max: u32, setting: &str) {
        if let Some(value) = value
            && !(1..=max).contains(&value)
        {
            self.add(&pointer, format!("is {value}, not 1 to {setting} = {max}"));
        }
    }

    fn range(&mut self, pointer: String, value: Option<u64>, min: u64, max: u64) {
        if let Some(value) = value
            && !(min..=max).contains(&value)
        {
            self.add(&pointer, format!("is {value}, not {min} to {max}"));
        }
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

fn name_rule(name: &str) -> String {
    format!(
        "{name:?} is not 1 to {NAME_CHARS_MAX} lower-case letters, digits, hyphens and underscores"
    )
}

fn check_plugin(
    at: &str,
    plugin: &PluginSpec,
    spec: &PolicySpec,
    engine: &EngineLimits,
    found: &mut Found,
) {
    if !is_name(&plugin.name) {
        found.add(&format!("{at}/name"), name_rule(&plugin.name));
    }
    source(at, "path", &plugin.path, &plugin.digest, found);
    if let Some(hooks) = &plugin.hooks {
        if hooks.is_empty() {
            found.add(
                &format!("{at}/hooks"),
                "is empty; leave it out for all hooks that the component exports".into(),
            );
        }
        for (n, hook) in hooks.iter().enumerate() {
            let pointer = format!("{at}/hooks/{n}");
            if Hook::from_name(hook).is_none() {
                let known: Vec<_> = Hook::ALL.iter().map(|h| h.name()).collect();
                found.add(
                    &pointer,
                    format!("{hook:?} is no hook; there are {}", known.join(", ")),
                );
            } else if hooks[..n].contains(hook) {
                found.add(&pointer, format!("names {hook} a second time"));
            }
        }
    }
    if plugin.config.to_string().len() > CONFIG_BYTES_MAX {
        found.add(
            &format!("{at}/config"),
            format!("has more than {CONFIG_BYTES_MAX} bytes; put rows into a table"),
        );
    }
    check_grants(&format!("{at}/grants"), &plugin.grants, spec, found);
    check_limits(&format!("{at}/limits"), &plugin.limits, engine, found);
    check_accounts(at, plugin, found);
    check_breaker(&format!("{at}/breaker"), &plugin.breaker, found);
    if let Some(previous) = &plugin.previous {
        let at = format!("{at}/previous");
        source(&at, "path", &previous.path, &previous.digest, found);
        if plugin.fail != Some(Fail::Previous) {
            found.add(&at, "goes with fail = \"previous\" alone".into());
        }
        let config = previous.config.as_ref().map(|c| c.to_string().len());
        if config.is_some_and(|bytes| bytes > CONFIG_BYTES_MAX) {
            let rule = format!("has more than {CONFIG_BYTES_MAX} bytes; put rows into a table");
            found.add(&format!("{at}/config"), rule);
        }
    }
}

fn check_breaker(at: &str, breaker: &BreakerSpec, found: &mut Found) {
    let all = [
        ("faults", breaker.faults, 1, Settings::WINDOW_MAX),
        ("window", breaker.window, 1, Settings::WINDOW_MAX),
        ("pause_s", breaker.pause_s, 1, Settings::PAUSE_S_MAX),
        ("max_pause_s", breaker.max_pause_s, 1, Settings::PAUSE_S_MAX),
    ];
    for (field, value, min, max) in all {
        found.range(
            format!("{at}/{field}"),
            value.map(u64::from),
            min,
            max.into(),
        );
    }
    let settings = Settings::new(breaker);
    if settings.faults > settings.window {
        found.add(
            &format!("{at}/faults"),
            format!(
                "is {}, more than the window = {}: it would never open",
                settings.faults, settings.window
            ),
        );
    }
    if settings.pause > settings.max_pause {
        found.add(
            &format!("{at}/pause_s"),
            format!(
                "is more than max_pause_s = {}",
                settings.max_pause.as_secs()
            ),
        );
    }
}

/// An account's traffic is its own: what its entries may do is bounded tighter than the operator's.
fn check_accounts(at: &str, plugin: &PluginSpec, found: &mut Found) {
    if plugin.accounts.is_empty() {
        return;
    }
    if plugin.accounts.len() > ENTRY_ACCOUNTS_MAX {
        found.add(
            &format!("{at}/accounts"),
            format!("has more than {ENTRY_ACCOUNTS_MAX} accounts"),
        );
    }
    for (n, account) in plugin.accounts.iter().enumerate() {
        let pointer = format!("{at}/accounts/{n}");
        if account.is_empty() || account.len() > ACCOUNT_BYTES_MAX {
            found.add(
                &pointer,
                format!("is not 1 to {ACCOUNT_BYTES_MAX} bytes of an account's id"),
            );
        }
        if plugin.accounts[..n].contains(account) {
            found.add(&pointer, format!("names {account:?} a second time"));
        }
    }
    found.range(
        format!("{at}/limits/deadline_ms"),
        plugin.limits.deadline_ms.map(u64::from),
        1,
        TENANT_DEADLINE_MS_MAX,
    );
}

/// Quotas within their bounds, and no account's entries reserving more than its quota.
fn check_quotas(spec: &PolicySpec, engine: &EngineLimits) -> Vec<Problem> {
    let mut found = Found::default();
    if spec.accounts.len() > ACCOUNTS_MAX {
        found.add(
            "/accounts",
            format!("has more than {ACCOUNTS_MAX} accounts"),
        );
    }
    for (account, quota) in &spec.accounts {
        let at = format!("/accounts/{}", escaped_key(account));
        if account.is_empty() || account.len() > ACCOUNT_BYTES_MAX {
            found.add(
                &at,
                format!("is not 1 to {ACCOUNT_BYTES_MAX} bytes of an account's id"),
            );
        }
        let all = [
            ("cpu_ms_per_s", quota.cpu_ms_per_s.map(u64::from), 100_000),
            ("cpu_burst_ms", quota.cpu_burst_ms.map(u64::from), 100_000),
            (
                "instances",
                quota.instances.map(u64::from),
                engine.instances.into(),
            ),
            ("memory_mib", quota.memory_mib.map(u64::from), 1 << 20),
            ("state_bytes", quota.state_bytes, 1 << 40),
        ];
        for (field, value, max) in all {
            found.range(format!("{at}/{field}"), value, 1, max);
        }
    }
    let mut reserved: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (n, plugin) in spec.plugins.iter().enumerate() {
        found.entry = Some(plugin.name.clone());
        for account in &plugin.accounts {
            let quota = Quota::of(spec, account);
            let (memory, state) = reserved.entry(account).or_default();
            // A version before has instances of its own, but only where the present one failed.
            let versions = 1 + u64::from(plugin.fail == Some(Fail::Previous));
            *memory += versions * quota.reserved_mib(&plugin.limits);
            *state += plugin.grants.state.as_ref().map_or(0, |g| g.bytes);
            if *memory > quota.memory_mib.into() {
                found.add(
                    &format!("/plugin/{n}/limits/memory_mib"),
                    format!(
                        "the entries of account {account:?} reserve {memory} MiB, more than its accounts.memory_mib = {}: lower memory_mib or instances",
                        quota.memory_mib
                    ),
                );
            }
            if *state > quota.state_bytes {
                found.add(
                    &format!("/plugin/{n}/grants/state/bytes"),
                    format!(
                        "the entries of account {account:?} are granted {state} bytes, more than its accounts.state_bytes = {}",
                        quota.state_bytes
                    ),
                );
            }
        }
    }
    found.problems
}

fn check_grants(at: &str, grants: &Grants, spec: &PolicySpec, found: &mut Found) {
    for (n, table) in grants.tables.iter().enumerate() {
        if !spec.tables.contains_key(table) {
            found.add(
                &format!("{at}/tables/{n}"),
                format!("{table:?} is not in [tables]"),
            );
        }
    }
    if let Some(state) = &grants.state {
        found.range(format!("{at}/state/bytes"), Some(state.bytes), 1, 1 << 30);
    }
    match &grants.http {
        Some(http) => {
            if http.hosts.is_empty() {
                found.add(
                    &format!("{at}/http/hosts"),
                    "is empty; name the hosts, as in api.example.com:443".into(),
                );
            }
            found.range(
                format!("{at}/http/timeout_ms"),
                Some(http.timeout_ms.into()),
                1,
                60_000,
            );
            found.range(
                format!("{at}/http/max_request"),
                Some(http.max_request.into()),
                0,
                1 << 20,
            );
            found.range(
                format!("{at}/http/max_response"),
                Some(http.max_response.into()),
                0,
                4 << 20,
            );
        }
        None if !grants.secrets.is_empty() => {
            found.add(
                &format!("{at}/secrets"),
                "needs grants.http: secrets are filled into requests".into(),
            );
        }
        None => {}
    }
    for (name, reference) in &grants.secrets {
        if !reference.starts_with("env:") && !reference.starts_with("file:") {
            // The value is not repeated: it may be the secret itself.
            found.add(
                &format!("{at}/secrets/{}", escaped_key(name)),
                "is no reference; write env:NAME or file:PATH, never the secret itself".into(),
            );
        }
    }
}

fn check_limits(at: &str, limits: &Limits, engine: &EngineLimits, found: &mut Found) {
    let wide = |value: Option<u32>| value.map(u64::from);
    found.range(
        format!("{at}/deadline_ms"),
        wide(limits.deadline_ms),
        1,
        60_000,
    );
    found.range(
        format!("{at}/configure_ms"),
        wide(limits.configure_ms),
        1,
        10_000,
    );
    found.up_to(
        format!("{at}/memory_mib"),
        limits.memory_mib,
        engine.memory_max_mib,
        "plugins.max_memory_mib",
    );
    found.range(
        format!("{at}/calls"),
        wide(limits.calls),
        1,
        u32::MAX.into(),
    );
    found.up_to(
        format!("{at}/instances"),
        limits.instances,
        engine.instances,
        "plugins.instances",
    );
}

/// Exactly one of a path and a digest.
fn source(
    at: &str,
    path_field: &str,
    path: &Option<String>,
    digest: &Option<String>,
    found: &mut Found,
) -> Option<Source> {
    match (path, digest) {
        (Some(path), None) => Some(Source::Path(path.clone())),
        (None, Some(digest)) => {
            let parsed = parse_digest(digest);
            if parsed.is_none() {
                let rule = "is not sha256: and 64 hexadecimal digits".to_owned();
                found.add(&format!("{at}/digest"), rule);
            }
            parsed.map(Source::Digest)
        }
        (Some(_), Some(_)) | (None, None) => {
            found.add(at, format!("needs exactly one of {path_field} and digest"));
            None
        }
    }
}

/// Fetches components, tables and secrets; `known` are tables that need not be read again.
pub(super) async fn gather(
    spec: PolicySpec,
    resolver: Arc<dyn Resolver>,
    known: BTreeMap<String, ([u8; 32], Arc<PrefixTable>)>,
    trust: Trust,
) -> Result<Materials, Vec<Problem>> {
    tokio::task::spawn_blocking(move || gather_blocking(&spec, resolver.as_ref(), &known, &trust))
        .await
        .unwrap_or_else(|e| {
            Err(vec![Problem {
                pointer: String::new(),
                entry: None,
                detail: format!("the policy's files could not be read: {e}"),
                upgrade: None,
            }])
        })
}

fn gather_blocking(
    spec: &PolicySpec,
    resolver: &dyn Resolver,
    known: &BTreeMap<String, ([u8; 32], Arc<PrefixTable>)>,
    trust: &Trust,
) -> Result<Materials, Vec<Problem>> {
    let mut found = Found::default();
    let mut materials = Materials::default();
    for (name, table) in &spec.tables {
        let at = format!("/tables/{}", escaped_key(name));
        let field = if table.file.is_some() {
            "file"
        } else {
            "digest"
        };
        let Some(source) = source(&at, "file", &table.file, &table.digest, &mut found) else {
            continue;
        };
        match fetched_table(&source, resolver, known) {
            Ok(table) => {
                materials.tables.insert(name.clone(), table);
            }
            Err(why) => found.add(&format!("{at}/{field}"), why),
        }
    }
    let mut fetching = Fetching {
        resolver,
        trust,
        known: Vec::new(),
    };
    for (n, plugin) in spec.plugins.iter().enumerate() {
        found.entry = Some(plugin.name.clone());
        let at = format!("/plugin/{n}");
        let field = if plugin.path.is_some() {
            "path"
        } else {
            "digest"
        };
        if let Some(source) = source(&at, "path", &plugin.path, &plugin.digest, &mut found) {
            match fetching.component(source) {
                Ok(fetched) => materials.components.push(fetched),
                Err(why) => found.add(&format!("{at}/{field}"), why),
            }
        }
        let previous = previous_component(&at, plugin, &mut fetching, &mut found);
        materials.previous.push(previous);
        let mut secrets = BTreeMap::new();
        for (name, reference) in &plugin.grants.secrets {
            let pointer = format!("{at}/grants/secrets/{}", escaped_key(name));
            match resolver.secret(reference) {
                Ok(secret) if secret.is_empty() || secret.len() > SECRET_BYTES_MAX => {
                    found.add(
                        &pointer,
                        format!("{reference} is not 1 to {SECRET_BYTES_MAX} bytes"),
                    );
                }
                Ok(secret) => {
                    secrets.insert(name.clone(), secret);
                }
                Err(why) => found.add(&pointer, why),
            }
        }
        materials.secrets.push(secrets);
    }
    if found.problems.is_empty() {
        Ok(materials)
    } else {
        Err(found.problems)
    }
}

impl Fetching<'_> {
    /// Signatures are checked before anything is parsed or compiled.
    fn component(&mut self, source: Source) -> Result<Fetched, String> {
        if let Some((_, fetched)) = self.known.iter().find(|(known, _)| *known == source) {
            return Ok(fetched.clone());
        }
        let component = Component::new(self.resolver.component(&source)?);
        same_digest(&source, &component.digest)?;
        let given = self.resolver.signatures(&source, &component.digest)?;
        let signers = self.trust.check(&component.bytes, &given);
        let fetched = Fetched {
            signers: signers.map_err(|e| format!("the component {e}"))?,
            component,
        };
        self.known.push((source, fetched.clone()));
        Ok(fetched)
    }
}

fn previous_component(
    at: &str,
    plugin: &PluginSpec,
    fetching: &mut Fetching<'_>,
    found: &mut Found,
) -> Option<Fetched> {
    let previous = plugin.previous.as_ref()?;
    let at = format!("{at}/previous");
    let source = source(&at, "path", &previous.path, &previous.digest, found)?;
    let fetched = fetching.component(source);
    fetched.map_err(|why| found.add(&at, why)).ok()
}

fn same_digest(source: &Source, digest: &[u8; 32]) -> Result<(), String> {
    match source {
        Source::Digest(wanted) if wanted != digest => Err(format!(
            "what is stored under it is {}",
            digest_text(digest)
        )),
        Source::Digest(_) | Source::Path(_) => Ok(()),
    }
}

fn fetched_table(
    source: &Source,
    resolver: &dyn Resolver,
    known: &BTreeMap<String, ([u8; 32], Arc<PrefixTable>)>,
) -> Result<([u8; 32], Arc<PrefixTable>), String> {
    let bytes = resolver.table(source)?;
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    same_digest(source, &digest)?;
    if let Some((_, table)) = known.values().find(|(known, _)| *known == digest) {
        return Ok((digest, table.clone()));
    }
    let table = PrefixTable::parse(&bytes).map_err(|e| e.to_string())?;
    Ok((digest, Arc::new(table)))
}
