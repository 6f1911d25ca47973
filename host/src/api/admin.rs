//! The operator's routes: plugins, policy, tables, opt-outs, dead webhooks. All need the scope `admin`.
//! Changes run to their end even where the client goes away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::json;

use super::answer::time;
use super::audit::{Noted, masked};
use super::auth::Scope;
use super::http::{
    LIMIT_DEFAULT, List, bad_parameter, body_max, json_response, limit, parameters, read_body,
    read_component, signatures,
};
use super::messages::{only, store_problem};
use super::problem::{Code, FieldError, Problem};
use super::reports::{DeadView, OptOutView};
use super::trial::canary_view;
use super::wire::{self, OptOutRequest};
use super::{Api, detached, json as strict, step_in};
use crate::clock::Timestamp;
use crate::domain::{Address, Hook, MessageId};
use crate::pipeline::policy::{
    Applied, HistoryEntry, PolicyError, StageError, Staged, TableProblem,
};
use crate::plugin::{
    AccountUsage, Entry, LoadError, PolicySpec, Problem as Note, Signer, SpecError,
};
use crate::store::OptOutScope;

/// Characters of a table's name.
const TABLE_NAME_MAX: usize = 64;
/// Lines of the history that one answer shows.
const HISTORY_SHOWN: usize = 100;

/// `POST /v1/plugins`
pub async fn stage(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    only(&api, &parts, Scope::Admin)?;
    let signatures = signatures(&parts.headers)?;
    let _upload = api.uploads.acquire().await;
    let bytes = read_component(
        &parts.headers,
        body,
        api.pipeline.policy.component_max_mib(),
    )
    .await?;
    let policy = api.pipeline.policy.clone();
    let staged = detached(async move { policy.stage(bytes.to_vec(), signatures).await })
        .await?
        .map_err(|error| match error {
            StageError::Untrusted(error) => {
                Problem::new(Code::UntrustedPlugin, format!("the component {error}"))
            }
            StageError::Signatures(why) => Problem::new(Code::InvalidPlugin, why),
            StageError::Load(LoadError::Compiler(why)) => Problem::new(
                Code::InvalidPlugin,
                format!("it cannot be compiled within the limits: {why}"),
            ),
            StageError::Load(error) => {
                Problem::new(Code::InvalidPlugin, format!("the component {error}"))
            }
            StageError::Store(error) => store_problem(error),
        })?;
    let answer = json_response(StatusCode::CREATED, &staged_view(&staged));
    Ok(with_note(answer, staged.digest.clone()))
}

/// `GET /v1/plugins`
pub async fn plugins(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    only(&api, &parts, Scope::Admin)?;
    let staged = api.pipeline.policy.staged().await.map_err(store_problem)?;
    let items = staged.iter().map(staged_view).collect();
    Ok(json_response(
        StatusCode::OK,
        &List {
            items,
            next_cursor: None,
        },
    ))
}

/// `GET /v1/plugins/{digest}`: a component that was uploaded or once in force.
pub async fn component(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    only(&api, &parts, Scope::Admin)?;
    blob(&api, &digest_in(&parts), "plugin", "application/wasm").await
}

/// `GET /v1/tables/{name}`: by name, or by digest.
pub async fn table(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    only(&api, &parts, Scope::Admin)?;
    let mut wanted = digest_in(&parts);
    if !wanted.starts_with("sha256:") {
        let tables = api.pipeline.policy.tables().await.map_err(store_problem)?;
        let named = tables.into_iter().find(|(name, _)| *name == wanted);
        wanted = named.ok_or_else(|| Problem::not_found("table"))?.1;
    }
    blob(&api, &wanted, "table", "text/csv").await
}

/// The colon of a digest may come escaped.
fn digest_in(parts: &Parts) -> String {
    step_in(parts).replace("%3A", ":").replace("%3a", ":")
}

async fn blob(
    api: &Api,
    digest: &str,
    what: &str,
    kind: &'static str,
) -> Result<Response, Problem> {
    let found = api.pipeline.policy.blob(digest).await;
    let bytes = found
        .map_err(store_problem)?
        .ok_or_else(|| Problem::not_found(what))?;
    // A file to keep, not a page to show.
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_DISPOSITION, "attachment"),
    ];
    Ok((headers, bytes).into_response())
}

/// `GET /v1/policy`
pub async fn policy(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    only(&api, &parts, Scope::Admin)?;
    let in_force = api.pipeline.policy.in_force();
    let set = &in_force.active;
    let mut answer = serde_json::to_value(set.summary()).unwrap_or_default();
    answer["canary"] = in_force.canary.as_deref().map(canary_view).into();
    let shadow = api.pipeline.observers.shadow();
    answer["shadow"] = shadow.map(|s| s.set.id().to_string()).into();
    answer["policy"] = serde_json::to_value(api.pipeline.policy.spec()).unwrap_or_default();
    let now = api.pipeline.clock.now();
    for plugin in answer["plugins"].as_array_mut().into_iter().flatten() {
        let name = plugin["name"].as_str().unwrap_or_default().to_owned();
        for hook in plugin["hooks"].as_array_mut().into_iter().flatten() {
            let Some(known) = hook["hook"].as_str().and_then(Hook::from_name) else {
                continue;
            };
            let all: Vec<&Entry> = set.entries(known).filter(|e| e.name() == name).collect();
            for entry in all {
                show(hook, entry, now);
            }
        }
    }
    let usages = api.pipeline.policy.ledger().usages();
    answer["usage"] = usages.iter().map(usage_view).collect();
    answer["notes"] = notes_view(set.notes());
    Ok(json_response(StatusCode::OK, &answer))
}

/// An entry of everybody's has its figures beside its hook, one of accounts' own a list of them.
fn show(hook: &mut serde_json::Value, entry: &Entry, now: Timestamp) {
    let mut stats = stats_view(entry, now);
    if let Some(previous) = entry.previous() {
        stats["previous"] = stats_view(previous, now);
        stats["previous"]["version"] = json!(previous.plugin().1);
    }
    let Some(account) = entry.account() else {
        hook["stats"] = stats;
        return;
    };
    stats["account"] = json!(account.as_str());
    if let Some(quota) = entry.quota() {
        stats["quota"] = json!({
            "cpu_ms_per_s": quota.cpu_ms_per_s,
            "cpu_burst_ms": quota.cpu_burst_ms,
            "instances": quota.instances,
            "memory_mib": quota.memory_mib,
            "state_bytes": quota.state_bytes,
        });
    }
    match hook["accounts"].as_array_mut() {
        Some(all) => all.push(stats),
        None => hook["accounts"] = json!([stats]),
    }
}

fn usage_view(usage: &AccountUsage) -> serde_json::Value {
    json!({
        "account": usage.account,
        "calls": usage.calls,
        "cpu_ms": usage.cpu_nanos / 1_000_000,
        "refused": usage.refused,
    })
}

fn notes_view(notes: &[Note]) -> serde_json::Value {
    let view = |note: &Note| json!({ "pointer": note.pointer, "entry": note.entry, "detail": note.detail });
    notes.iter().map(view).collect()
}

/// How one hook of one plugin has been doing since it came into its set.
fn stats_view(entry: &Entry, now: Timestamp) -> serde_json::Value {
    let stats = entry.stats();
    let breaker = entry.breaker_report();
    let faults = stats.faults.into_iter().filter(|(_, count)| *count > 0);
    let calls = stats.host_calls.into_iter().filter(|(_, count)| *count > 0);
    let mut view = json!({
        "calls": stats.calls,
        "outcomes": stats.outcomes.into_iter().collect::<BTreeMap<_, _>>(),
        "faults": faults.collect::<BTreeMap<_, _>>(),
        "host_calls": calls.collect::<BTreeMap<_, _>>(),
        "p50_ns": stats.p50_nanos,
        "p99_ns": stats.p99_nanos,
        "cpu_ms": stats.cpu_nanos as f64 / 1e6,
        "breaker": breaker.state.name(),
        "breaker_since": time(Timestamp(now.millis().saturating_sub(millis(breaker.since)))),
        "breaker_opened": breaker.opened,
        "window": { "calls": breaker.window, "faults": breaker.window_faults.into_iter().collect::<BTreeMap<_, _>>() },
        "instances_made": stats.instances_made,
        "memory_high_water_bytes": stats.memory_high_water_bytes,
        "log_lines": stats.log_lines,
        "log_lines_dropped": stats.log_lines_dropped,
    });
    if let Some(probe) = breaker.next_probe {
        view["next_probe"] = time(now.plus(probe));
    }
    if let Some(fault) = breaker.last_fault {
        view["last_fault"] = json!(fault);
    }
    if let Some((used, granted)) = entry.state_used() {
        view["state"] = json!({ "bytes": used, "granted": granted });
    }
    view
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `PUT /v1/policy`
pub async fn apply(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = only(&api, &parts, Scope::Admin)?;
    let bytes = read_body(&parts.headers, body, body_max::POLICY).await?;
    let spec = spec_of(&parts, &bytes)?;
    let policy = api.pipeline.policy.clone();
    let by = format!("api: {}", caller.name());
    let applied = detached(async move { policy.apply(&spec, None, &by).await }).await?;
    applied
        .map(|a| applied_response(&api, &a))
        .map_err(policy_problem)
}

/// `POST /v1/policy/check`
pub async fn check(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    only(&api, &parts, Scope::Admin)?;
    let bytes = read_body(&parts.headers, body, body_max::POLICY).await?;
    let spec = spec_of(&parts, &bytes)?;
    let policy = api.pipeline.policy.clone();
    let checked = detached(async move { policy.check(&spec, None).await })
        .await?
        .map_err(policy_problem)?;
    let active = api.pipeline.policy.active().id();
    Ok(json_response(
        StatusCode::OK,
        &json!({
            "set": checked.set.to_string(),
            "in_force": checked.set == active,
            "notes": notes_view(&checked.notes),
        }),
    ))
}

/// `GET /v1/policy/history`, newest first.
pub async fn history(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    only(&api, &parts, Scope::Admin)?;
    let history = api.pipeline.policy.history();
    let items = history
        .iter()
        .take(HISTORY_SHOWN)
        .map(history_view)
        .collect();
    Ok(json_response(
        StatusCode::OK,
        &List {
            items,
            next_cursor: None,
        },
    ))
}

/// `POST /v1/policy/rollback`: to the one before, or to `?set=ID`.
pub async fn rollback(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = only(&api, &parts, Scope::Admin)?;
    let to = parameters(&parts.uri, &["set"])?.pop().map(|(_, id)| id);
    let policy = api.pipeline.policy.clone();
    let by = format!("rollback: {}", caller.name());
    let applied = detached(async move { policy.rollback(to.as_deref(), &by).await }).await?;
    applied
        .map(|a| applied_response(&api, &a))
        .map_err(policy_problem)
}

/// `GET /v1/tables`
pub async fn tables(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    only(&api, &parts, Scope::Admin)?;
    let tables = api.pipeline.policy.tables().await.map_err(store_problem)?;
    let items = tables
        .into_iter()
        .map(|(name, digest)| json!({ "name": name, "digest": digest }))
        .collect();
    Ok(json_response(
        StatusCode::OK,
        &List {
            items,
            next_cursor: None,
        },
    ))
}

/// `PUT /v1/tables/{name}`
pub async fn put_table(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    only(&api, &parts, Scope::Admin)?;
    let name = step_in(&parts).to_owned();
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > TABLE_NAME_MAX || !name.bytes().all(good) {
        let detail = format!("a table's name is 1 to {TABLE_NAME_MAX} of a-z, 0-9, - and _");
        return Err(Problem::new(Code::InvalidParameter, detail));
    }
    let _upload = api.uploads.acquire().await;
    let bytes = read_body(&parts.headers, body, body_max::TABLE).await?;
    let policy = api.pipeline.policy.clone();
    let stored = detached(async move { policy.put_table(&name, bytes.to_vec()).await })
        .await?
        .map_err(|e| match e {
            TableProblem::Rows(why) => Problem::new(Code::InvalidTable, why),
            TableProblem::Policy(error) => policy_problem(error),
            TableProblem::Store(error) => store_problem(error),
        })?;
    let answer =
        json!({ "digest": stored.digest, "rows": stored.rows, "in_force": stored.in_force });
    let answer = json_response(StatusCode::OK, &answer);
    Ok(with_note(answer, stored.digest))
}

/// `GET /v1/opt-outs`
pub async fn opt_outs(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    only(&api, &parts, Scope::Admin)?;
    let (mut after, mut size) = (None, LIMIT_DEFAULT);
    for (name, value) in parameters(&parts.uri, &["limit", "cursor"])? {
        match name.as_str() {
            "limit" => size = limit(&value)?,
            _ => {
                let last = wire::opt_out_from(&value);
                after =
                    Some(last.ok_or_else(|| {
                        bad_parameter("cursor", "is not one that this server gave")
                    })?);
            }
        }
    }
    let found = api
        .pipeline
        .store
        .list_opt_outs(after, size)
        .await
        .map_err(store_problem)?;
    let next_cursor = found
        .last()
        .filter(|_| found.len() >= size)
        .map(wire::opt_out_cursor);
    let items = found.iter().map(OptOutView::of).collect();
    Ok(json_response(StatusCode::OK, &List { items, next_cursor }))
}

/// `PUT /v1/opt-outs`
pub async fn opt_out(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    set_opt_out(api, request, true).await
}

/// `DELETE /v1/opt-outs`
pub async fn opt_in(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    set_opt_out(api, request, false).await
}

async fn set_opt_out(
    api: Arc<Api>,
    request: Request,
    opted_out: bool,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = only(&api, &parts, Scope::Admin)?;
    let bytes = read_body(&parts.headers, body, body_max::SMALL).await?;
    let wanted = api.requests.opt_out(strict::parse(&bytes)?)?;
    let (recipient, scope) = wish_of(&wanted, &caller.account.id)?;
    let now = api.pipeline.clock.now();
    let source = format!("api: {}", caller.name());
    let store = &api.pipeline.store;
    store
        .set_opt_out(scope.clone(), &recipient, opted_out, now, &source)
        .await
        .map_err(store_problem)?;
    let recipient = format!("+{recipient}");
    let answer = json!({ "recipient": recipient, "scope": wanted.scope, "opted_out": opted_out, "at": time(now) });
    let answer = json_response(StatusCode::OK, &answer);
    Ok(with_note(
        answer,
        format!("{} scope {}", masked(&recipient), wanted.scope),
    ))
}

fn wish_of(
    wanted: &OptOutRequest,
    account: &crate::domain::AccountId,
) -> Result<(String, OptOutScope), Problem> {
    let mut errors = Vec::new();
    let recipient = Address::international(&wanted.recipient)
        .map_err(|e| errors.push(FieldError::new("/recipient", e.to_string())))
        .ok();
    let scope = match (wanted.scope.as_str(), wanted.number.as_deref()) {
        ("number", Some(number)) => Address::originator(number)
            .map(|number| OptOutScope::Number(number.value))
            .map_err(|e| errors.push(FieldError::new("/number", e.to_string())))
            .ok(),
        ("number", None) => {
            errors.push(FieldError::new(
                "/number",
                "is required with the scope `number`",
            ));
            None
        }
        (_, Some(_)) => {
            errors.push(FieldError::new(
                "/number",
                "goes with the scope `number` alone",
            ));
            None
        }
        ("account", None) => Some(OptOutScope::Account(account.clone())),
        (_, None) => Some(OptOutScope::Everything),
    };
    match (recipient, scope) {
        (Some(recipient), Some(scope)) => Ok((recipient.value, scope)),
        _ => Err(Problem::invalid(Code::InvalidRequest, errors)),
    }
}

/// `GET /v1/webhooks/dead`
pub async fn dead_webhooks(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    only(&api, &parts, Scope::Admin)?;
    let (mut after, mut size) = (None, LIMIT_DEFAULT);
    for (name, value) in parameters(&parts.uri, &["limit", "cursor"])? {
        match name.as_str() {
            "limit" => size = limit(&value)?,
            _ => {
                let last = wire::cursor_from(&value);
                after = Some(
                    last.ok_or_else(|| {
                        bad_parameter("cursor", "is not one that this server gave")
                    })?
                    .0,
                );
            }
        }
    }
    let found = api
        .pipeline
        .store
        .list_dead(after, size)
        .await
        .map_err(store_problem)?;
    let last = found.last().filter(|_| found.len() >= size);
    let next_cursor = last.map(|entry| wire::cursor_of(MessageId(entry.event)));
    let items = found.iter().map(DeadView::of).collect();
    Ok(json_response(StatusCode::OK, &List { items, next_cursor }))
}

/// `POST /v1/webhooks/{id}/redeliver`
pub async fn redeliver(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    only(&api, &parts, Scope::Admin)?;
    let step = step_in(&parts);
    let event: MessageId = step
        .strip_prefix("evt_")
        .unwrap_or(step)
        .parse()
        .map_err(|_| Problem::not_found("dead webhook"))?;
    match api
        .pipeline
        .store
        .redeliver(event.0)
        .await
        .map_err(store_problem)?
    {
        true => Ok(json_response(StatusCode::ACCEPTED, &json!({ "id": step }))),
        false => Err(Problem::not_found("dead webhook")),
    }
}

/// TOML or JSON: by Content-Type, else by how it begins.
fn spec_of(parts: &Parts, bytes: &Bytes) -> Result<PolicySpec, Problem> {
    let kind = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let json = kind.contains("json")
        || (!kind.contains("toml") && bytes.trim_ascii_start().starts_with(b"{"));
    if json {
        // Twice: what is doubled or nested too deep is refused first.
        strict::parse(bytes)?;
        return PolicySpec::from_json(bytes).map_err(spec_problem);
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(Problem::new(Code::InvalidPolicy, "the policy is not UTF-8"));
    };
    PolicySpec::from_toml(text).map_err(spec_problem)
}

pub(super) fn spec_problem(error: SpecError) -> Problem {
    Problem::invalid(
        Code::InvalidPolicy,
        vec![FieldError::new(error.pointer, error.detail)],
    )
}

pub(super) fn policy_problem(error: PolicyError) -> Problem {
    match error {
        PolicyError::Spec(error) => spec_problem(error),
        PolicyError::Refused(problems) => {
            let errors = problems.into_iter().map(|problem| {
                let detail = match problem.entry {
                    Some(entry) => format!("{entry}: {}", problem.detail),
                    None => problem.detail,
                };
                FieldError {
                    upgrade: problem.upgrade,
                    ..FieldError::new(problem.pointer, detail)
                }
            });
            Problem::invalid(Code::InvalidPolicy, errors.collect())
        }
        PolicyError::NoHistory => Problem::new(
            Code::Conflict,
            "there is no such earlier policy to go back to",
        ),
        PolicyError::Trial(why) => Problem::new(Code::Conflict, why),
        PolicyError::Store(error) => store_problem(error),
    }
}

fn applied_response(api: &Api, applied: &Applied) -> Response {
    let active = api.pipeline.policy.active();
    let set = applied.set.to_string();
    let answer = json_response(
        StatusCode::OK,
        &json!({
            "set": set,
            "changed": applied.changed,
            "notes": notes_view(active.notes()),
        }),
    );
    with_note(answer, format!("set {set}"))
}

/// An answer with what the audit log is to say of it.
fn with_note(mut answer: Response, note: String) -> Response {
    answer.extensions_mut().insert(Noted(note));
    answer
}

/// `Staged` with its time as the API writes times.
#[derive(Serialize)]
struct StagedView<'a> {
    digest: &'a str,
    name: &'a str,
    version: &'a str,
    summary: &'a str,
    hooks: &'a [String],
    imports: &'a [String],
    wit_version: &'a str,
    size: usize,
    staged_at: serde_json::Value,
    config_schema: &'a serde_json::Value,
    signatures: &'a [Signer],
}

fn staged_view(staged: &Staged) -> StagedView<'_> {
    StagedView {
        digest: &staged.digest,
        name: &staged.name,
        version: &staged.version,
        summary: &staged.summary,
        hooks: &staged.hooks,
        imports: &staged.imports,
        wit_version: &staged.wit_version,
        size: staged.size,
        staged_at: time(Timestamp(staged.staged_at)),
        config_schema: &staged.config_schema,
        signatures: &staged.signatures,
    }
}

fn history_view(entry: &HistoryEntry) -> serde_json::Value {
    json!({
        "sequence": entry.sequence,
        "at": time(Timestamp(entry.at)),
        "by": entry.by,
        "set": entry.set,
        "plugins": entry.plugins,
        "policy": entry.spec,
    })
}
