//! The operator's routes for trying a policy before it is in force: replay over recorded traffic,
//! shadow and canary on live traffic. All need the scope `admin`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::admin::{policy_problem, spec_problem};
use super::answer::time;
use super::auth::Scope;
use super::http::{body_max, json_response, read_body};
use super::messages::only;
use super::problem::{Code, FieldError, Problem};
use super::{Api, detached, json as strict, wire};
use crate::clock::Timestamp;
use crate::pipeline::canary::{ArmReport, Canary, CanarySettings};
use crate::pipeline::compare::{Example, Moves, Tally, Told};
use crate::pipeline::replay::{ReplayReport, ReplayRequest};
use crate::pipeline::shadow::{CPU_SHARE_DEFAULT, Shadow};
use crate::plugin::PolicySpec;

const REPLAY_LIMIT_DEFAULT: u64 = 100_000;
const REPLAY_LIMIT_MAX: u64 = 10_000_000;
const EXAMPLES_DEFAULT: usize = 20;
const EXAMPLES_MAX: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayBody {
    since: Option<String>,
    until: Option<String>,
    limit: Option<u64>,
    examples: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShadowBody {
    cpu_share: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CanaryBody {
    canary: Option<CanarySettings>,
}

/// `POST /v1/policy/replay`
pub async fn replay(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    only(&api, &parts, Scope::Admin)?;
    let bytes = read_body(&parts.headers, body, body_max::POLICY).await?;
    let (spec, rest): (_, ReplayBody) = body_of(&api, &bytes)?;
    let request = replay_request(&api, &rest)?;
    let pipeline = api.pipeline.clone();
    // Not detached: a client that goes away needs no report.
    let report = pipeline.replay(&spec, None, &request).await;
    let report = report.map_err(policy_problem)?;
    Ok(json_response(StatusCode::OK, &replay_view(&report)))
}

fn replay_request(api: &Api, body: &ReplayBody) -> Result<ReplayRequest, Problem> {
    let mut errors = Vec::new();
    let mut at = |field: &str, value: &Option<String>, default| match value {
        None => default,
        Some(text) => wire::timestamp(text).unwrap_or_else(|rule| {
            errors.push(FieldError::new(format!("/{field}"), rule));
            default
        }),
    };
    let now = api.pipeline.clock.now();
    let day_ago = Timestamp(now.millis().saturating_sub(86_400_000));
    let since = at("since", &body.since, day_ago);
    let until = at("until", &body.until, Timestamp::MAX);
    let limit = body.limit.unwrap_or(REPLAY_LIMIT_DEFAULT);
    if !(1..=REPLAY_LIMIT_MAX).contains(&limit) {
        let rule = format!("is {limit}, not 1 to {REPLAY_LIMIT_MAX}");
        errors.push(FieldError::new("/limit", rule));
    }
    let examples = body.examples.unwrap_or(EXAMPLES_DEFAULT);
    if examples > EXAMPLES_MAX {
        let rule = format!("is {examples}, more than {EXAMPLES_MAX}");
        errors.push(FieldError::new("/examples", rule));
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(Code::InvalidRequest, errors));
    }
    Ok(ReplayRequest {
        since,
        until,
        limit,
        examples,
    })
}

/// `GET /v1/policy/shadow`
pub async fn shadow(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    only(&api, &parts, Scope::Admin)?;
    match api.pipeline.observers.shadow() {
        Some(shadow) => Ok(json_response(StatusCode::OK, &shadow_view(&shadow))),
        None => Err(Problem::not_found("shadow")),
    }
}

/// `PUT /v1/policy/shadow`
pub async fn start_shadow(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = only(&api, &parts, Scope::Admin)?;
    let bytes = read_body(&parts.headers, body, body_max::POLICY).await?;
    let (spec, rest): (_, ShadowBody) = body_of(&api, &bytes)?;
    let share = rest.cpu_share.unwrap_or(CPU_SHARE_DEFAULT);
    let (pipeline, by) = (api.pipeline.clone(), format!("api: {}", caller.name()));
    let started =
        detached(async move { pipeline.start_shadow(&spec, None, share, &by).await }).await?;
    let shadow = started.map_err(policy_problem)?;
    Ok(json_response(StatusCode::OK, &shadow_view(&shadow)))
}

/// `DELETE /v1/policy/shadow`: answers with the last look at it.
pub async fn stop_shadow(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = only(&api, &parts, Scope::Admin)?;
    let (pipeline, by) = (api.pipeline.clone(), format!("api: {}", caller.name()));
    match detached(async move { pipeline.stop_shadow(&by).await }).await? {
        Some(shadow) => Ok(json_response(StatusCode::OK, &shadow_view(&shadow))),
        None => Err(Problem::not_found("shadow")),
    }
}

/// `GET /v1/policy/canary`
pub async fn canary(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    only(&api, &parts, Scope::Admin)?;
    match &api.pipeline.policy.in_force().canary {
        Some(canary) => Ok(json_response(StatusCode::OK, &canary_view(canary))),
        None => Err(Problem::not_found("canary")),
    }
}

/// `PUT /v1/policy/canary`
pub async fn start_canary(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = only(&api, &parts, Scope::Admin)?;
    let bytes = read_body(&parts.headers, body, body_max::POLICY).await?;
    let (spec, rest): (_, CanaryBody) = body_of(&api, &bytes)?;
    let settings = rest.canary.unwrap_or_default();
    let (policy, by) = (
        api.pipeline.policy.clone(),
        format!("api: {}", caller.name()),
    );
    let started =
        detached(async move { policy.start_canary(&spec, None, settings, &by).await }).await?;
    let canary = started.map_err(policy_problem)?;
    Ok(json_response(StatusCode::OK, &canary_view(&canary)))
}

/// `DELETE /v1/policy/canary`
pub async fn abort_canary(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = only(&api, &parts, Scope::Admin)?;
    let (policy, by) = (
        api.pipeline.policy.clone(),
        format!("api: {}", caller.name()),
    );
    let ended = detached(async move { policy.abort_canary(&by).await }).await?;
    let set = ended.map_err(policy_problem)?;
    Ok(json_response(
        StatusCode::OK,
        &json!({ "set": set.to_string(), "aborted": true }),
    ))
}

/// `POST /v1/policy/canary/promote`
pub async fn promote_canary(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = only(&api, &parts, Scope::Admin)?;
    let (policy, by) = (
        api.pipeline.policy.clone(),
        format!("promoted: {}", caller.name()),
    );
    let promoted = detached(async move { policy.promote_canary(&by).await }).await?;
    let applied = promoted.map_err(policy_problem)?;
    Ok(json_response(
        StatusCode::OK,
        &json!({ "set": applied.set.to_string(), "changed": applied.changed }),
    ))
}

/// `{"policy": {...}, ...}`: the candidate, and what else is asked. Without `policy` it is the one in
/// force.
fn body_of<T: DeserializeOwned>(api: &Api, bytes: &Bytes) -> Result<(PolicySpec, T), Problem> {
    let mut value = strict::parse(bytes)?;
    let Some(fields) = value.as_object_mut() else {
        return Err(Problem::new(Code::InvalidRequest, "the body is no object"));
    };
    let spec = match fields.remove("policy") {
        None => api.pipeline.policy.spec(),
        Some(policy) => {
            PolicySpec::from_json(policy.to_string().as_bytes()).map_err(spec_problem)?
        }
    };
    let rest = serde_path_to_error::deserialize(value).map_err(|error| {
        let pointer = format!("/{}", error.path().to_string().replace('.', "/"));
        let detail = error.into_inner().to_string();
        Problem::invalid(Code::InvalidRequest, vec![FieldError::new(pointer, detail)])
    })?;
    Ok((spec, rest))
}

// ---------------------------------------------------------------------------- answers

fn replay_view(report: &ReplayReport) -> Value {
    let mut view = json!({
        "candidate": report.candidate.to_string(),
        "recorded": report.recorded.decisions,
        "replayed": report.tally.compared,
        "damaged_blocks": report.damaged,
        "first": report.first.map(time),
        "last": report.last.map(time),
        "recorded_by": report.sets,
        "inbound": {
            "replayed": report.tally.inbound.compared,
            "different": report.tally.inbound.different,
            "actions": moves_view(&report.tally.inbound.actions),
        },
    });
    merge(&mut view, tally_view(&report.tally));
    view
}

fn shadow_view(shadow: &Shadow) -> Value {
    let report = shadow.report();
    let mut view = json!({
        "set": shadow.set.id().to_string(),
        "since": time(shadow.since),
        "by": shadow.by,
        "cpu_share": shadow.cpu_share,
        "shown": report.shown,
        "not_shown": report.not_shown,
    });
    merge(&mut view, tally_view(&report.tally));
    view
}

/// A canary as `GET /v1/policy/canary` and `GET /v1/policy` show it.
pub fn canary_view(canary: &Canary) -> Value {
    let (candidate, baseline) = canary.arms();
    json!({
        "set": canary.set.id().to_string(),
        "baseline": canary.baseline_set.to_string(),
        "since": time(canary.since),
        "by": canary.by,
        "step": canary.step() + 1,
        "percent": canary.percent(),
        "settings": canary.settings,
        "candidate": arm_view(&candidate),
        "in_force": arm_view(&baseline),
    })
}

fn arm_view(arm: &ArmReport) -> Value {
    let rate = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    json!({
        "decisions": arm.decisions,
        "faults": arm.faults,
        "fault_rate": rate(arm.faults, arm.decisions),
        "refusals": arm.refusals,
        "refusal_rate": rate(arm.refusals, arm.decisions),
        "receipts": arm.receipts,
        "failed_receipt_rate": rate(arm.failed_receipts, arm.receipts),
        "price_micros_per_segment": rate(arm.price_micros, arm.priced_segments),
    })
}

fn tally_view(tally: &Tally) -> Value {
    let by_change: BTreeMap<&str, u64> = tally
        .by_change
        .iter()
        .map(|(change, count)| (change.name(), *count))
        .collect();
    let faults: Vec<Value> = tally
        .faults
        .iter()
        .map(|((entry, fault), count)| json!({ "entry": entry, "fault": fault, "count": count }))
        .collect();
    json!({
        "compared": tally.compared,
        "different": tally.different,
        "not_comparable": tally.not_comparable,
        "by_change": by_change,
        "carriers": moves_view(&tally.carriers),
        "codes": moves_view(&tally.codes),
        "price_micros": { "before": tally.price_before_micros, "after": tally.price_after_micros },
        "segments": { "before": tally.segments_before, "after": tally.segments_after },
        "candidate_faults": faults,
        "examples": tally.examples.iter().map(example_view).collect::<Vec<_>>(),
    })
}

fn moves_view(moves: &Moves) -> Vec<Value> {
    let mut sorted: Vec<_> = moves.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    sorted
        .into_iter()
        .map(|((from, to), count)| json!({ "before": from, "after": to, "count": count }))
        .collect()
}

fn example_view(example: &Example) -> Value {
    json!({
        "id": example.id,
        "account": example.account,
        "class": example.class,
        "recipient": example.recipient,
        "changes": example.changes.iter().map(|c| c.name()).collect::<Vec<_>>(),
        "before": told_view(&example.before),
        "after": told_view(&example.after),
    })
}

fn told_view(told: &Told) -> Value {
    json!({
        "outcome": told.outcome,
        "code": (!told.code.is_empty()).then_some(&told.code),
        "carriers": told.carriers,
        "price_micros": told.price_micros,
        "segments": told.segments,
        "reason": told.reason,
    })
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}
