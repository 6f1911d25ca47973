//! Messages over HTTP: submit, show, list, cancel, release, preview, batches, inbound. Each handler
//! reads, asks the pipeline or the store, and answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::answer::{Detail, PluginRef, PreviewView, Summary};
use super::auth::{Caller, Scope};
use super::http::{
    LIMIT_DEFAULT, List, bad_parameter, body_max, idempotency_key, json_response, limit,
    parameters, read_body,
};
use super::problem::{Code, FieldError, Problem, ProblemBody};
use super::{Api, id_in, json, wire};
use crate::carrier::CallBackError;
use crate::domain::text::TextError;
use crate::domain::{
    AccountId, Address, Body, Lane, Message, MessageId, Reason, SetId, State, TrafficClass,
};
use crate::pipeline::{Account, Policy, Submission, SubmitError, alter};
use crate::store::{Filter, Idempotency, StoreError, UpdateError};

/// Submissions of one batch that are decided and written at once.
const BATCH_CONCURRENCY: usize = 128;

/// `POST /v1/messages`
pub async fn submit(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let caller = api.authorize(&parts, Scope::Send)?;
    let key = idempotency_key(&parts.headers)?;
    let bytes = read_body(&parts.headers, body, body_max::MESSAGE).await?;
    if api.pipeline.is_full(&caller.account.id) {
        return Err(store_problem(StoreError::Busy));
    }
    let idempotency = key.map(|key| idempotency(caller, key.to_owned(), &bytes));
    let submission = api.requests.submission(
        json::parse(&bytes)?,
        &api.pipeline.numbers,
        &caller.account.id,
    )?;
    let (message, replayed) = accept(&api, &caller.account, submission, idempotency).await?;
    let mut response = json_response(StatusCode::ACCEPTED, &Summary::of(&message));
    if replayed {
        response
            .headers_mut()
            .insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    api.stats.submitted(started.elapsed());
    Ok(response)
}

/// `POST /v1/messages/preview`
pub async fn preview(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = api.authorize(&parts, Scope::Send)?;
    let bytes = read_body(&parts.headers, body, body_max::MESSAGE).await?;
    let submission = api.requests.submission(
        json::parse(&bytes)?,
        &api.pipeline.numbers,
        &caller.account.id,
    )?;
    let binary = matches!(submission.body, Body::Binary { .. });
    let preview = api
        .pipeline
        .preview(&caller.account, submission)
        .await
        .map_err(|e| submit_problem(e, binary))?;
    Ok(json_response(StatusCode::OK, &PreviewView::of(&preview)))
}

/// One line of a batch's answer: what the submission alone would have been answered.
#[derive(Serialize)]
struct BatchResult {
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<ProblemBody>,
}

/// `POST /v1/batches`
pub async fn batch(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = api.authorize(&parts, Scope::Send)?.clone();
    let key = idempotency_key(&parts.headers)?;
    let bytes = read_body(&parts.headers, body, body_max::BATCH).await?;
    let Value::Array(items) = json::parse(&bytes)? else {
        let error = FieldError::new("", "is no array of submissions");
        return Err(Problem::invalid(Code::InvalidRequest, vec![error]));
    };
    if items.is_empty() || items.len() > wire::BATCH_MAX {
        let rule = format!(
            "has {} submissions; a batch has 1 to {}",
            items.len(),
            wire::BATCH_MAX
        );
        return Err(Problem::invalid(
            Code::InvalidRequest,
            vec![FieldError::new("", rule)],
        ));
    }
    let places = Arc::new(Semaphore::new(BATCH_CONCURRENCY));
    let mut running = JoinSet::new();
    let mut results: Vec<Option<BatchResult>> = items.iter().map(|_| None).collect();
    for (index, item) in items.into_iter().enumerate() {
        // Each submission has a key of its own, so that a batch sent again finishes what is missing.
        let idempotency = key.map(|key| idempotency(&caller, format!("{key}#{index}"), &bytes));
        let (api, account, places) = (api.clone(), caller.account.clone(), places.clone());
        running.spawn(async move {
            let _place = places.acquire_owned().await;
            (index, batch_item(&api, &account, item, idempotency).await)
        });
    }
    while let Some(done) = running.join_next().await {
        if let Ok((index, result)) = done
            && let Some(slot) = results.get_mut(index)
        {
            *slot = Some(result);
        }
    }
    let results: Vec<BatchResult> = results
        .into_iter()
        .map(|r| r.unwrap_or_else(unfinished))
        .collect();
    Ok(json_response(
        StatusCode::OK,
        &serde_json::json!({ "results": results }),
    ))
}

async fn batch_item(
    api: &Api,
    account: &Account,
    item: Value,
    key: Option<Idempotency>,
) -> BatchResult {
    let accepted = match api
        .requests
        .submission(item, &api.pipeline.numbers, &account.id)
    {
        Ok(submission) => accept(api, account, submission, key).await,
        Err(problem) => Err(problem),
    };
    match accepted {
        Ok((message, _)) => BatchResult {
            status: StatusCode::ACCEPTED.as_u16(),
            message: serde_json::to_value(Summary::of(&message)).ok(),
            problem: None,
        },
        Err(problem) => BatchResult {
            status: problem.status.as_u16(),
            message: None,
            problem: Some(*problem.body),
        },
    }
}

fn unfinished() -> BatchResult {
    let problem = Problem::new(
        Code::Internal,
        "the submission could not be finished; this is our fault",
    );
    BatchResult {
        status: problem.status.as_u16(),
        message: None,
        problem: Some(*problem.body),
    }
}

/// Durable when it returns; the flag tells whether the answer is that of an earlier request.
async fn accept(
    api: &Api,
    account: &Account,
    submission: Submission,
    idempotency: Option<Idempotency>,
) -> Result<(Box<Message>, bool), Problem> {
    let binary = matches!(submission.body, Body::Binary { .. });
    let submitted = api
        .pipeline
        .submit(account, submission, idempotency)
        .await
        .map_err(|e| submit_problem(e, binary))?;
    if submitted.replayed
        && let Some(problem) = first_refusal(&submitted.message)
    {
        return Err(problem);
    }
    Ok((submitted.message, submitted.replayed))
}

/// `GET /v1/messages/{id}`
pub async fn show(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = api.authorize(&parts, Scope::Read)?;
    let message = find(&api, caller, id_in(&parts)?).await?;
    let policy = &api.pipeline.policy;
    Ok(json_response(
        StatusCode::OK,
        &Detail::of(&message, &|set| plugins_of(policy, *set)),
    ))
}

/// `GET /v1/messages`
pub async fn list(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = api.authorize(&parts, Scope::Read)?;
    let (filter, cursor, limit) = filter_of(&parts.uri, caller)?;
    let page = api
        .pipeline
        .store
        .list(filter, cursor, limit)
        .await
        .map_err(store_problem)?;
    let items = page.items.iter().map(Summary::of).collect();
    Ok(json_response(
        StatusCode::OK,
        &List {
            items,
            next_cursor: page.next.map(wire::cursor_of),
        },
    ))
}

/// `POST /v1/messages/{id}/cancel`
pub async fn cancel(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = api.authorize(&parts, Scope::Send)?;
    let now = api.pipeline.clock.now();
    let id = id_in(&parts)?;
    let called_back = call_back(&api, caller, id).await?;
    change(&api, caller, id, "canceled", move |message| {
        match message.state {
            State::Enroute if called_back => {
                message.enter(now, State::Canceled, Reason::CanceledByClient, "")
            }
            _ => alter::cancel(message, now, ""),
        }
    })
    .await
}

/// Whether a carrier that has the message has forgotten it at our word.
async fn call_back(api: &Api, caller: &Caller, id: MessageId) -> Result<bool, Problem> {
    let message = find(api, caller, id).await?;
    let detail = match api.pipeline.call_back(&message).await {
        Ok(()) => return Ok(true),
        Err(CallBackError::NotSupported) => return Ok(false),
        Err(CallBackError::Refused { status }) => {
            format!("the carrier has the message and does not cancel it: 0x{status:08x}")
        }
        Err(CallBackError::Unanswered) => {
            "the carrier has the message and did not answer whether it is canceled".to_owned()
        }
    };
    Err(Problem::new(Code::Conflict, detail))
}

/// `POST /v1/messages/{id}/release`: a person lets a held message go.
pub async fn release(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = api.authorize(&parts, Scope::Admin)?;
    let (now, by) = (api.pipeline.clock.now(), caller.name());
    change(&api, caller, id_in(&parts)?, "released", move |message| {
        let held = message.state == State::Held;
        if held {
            message.enter(now, State::Queued, Reason::ReleasedByOperator, by);
            message.wait(Lane::Decide, now);
        }
        held
    })
    .await
}

/// What the store's failures mean to a client.
pub fn store_problem(error: StoreError) -> Problem {
    let (code, after) = match &error {
        StoreError::Busy => (Code::Busy, 1),
        StoreError::StorageFull { .. } => (Code::StorageFull, 30),
        StoreError::Stopped(_) => (Code::StoreUnavailable, 30),
        StoreError::Io(_)
        | StoreError::Corrupt(_)
        | StoreError::Lost(_)
        | StoreError::Format(_)
        | StoreError::Limit(_) => {
            tracing::error!(%error, "the store failed a request");
            return Problem::new(
                Code::Internal,
                "the store failed; the operator's log says more",
            );
        }
    };
    Problem::new(code, error.to_string()).retry_after(Duration::from_secs(after))
}

/// The plugins of a set that is in force, or was.
fn plugins_of(policy: &Policy, set: SetId) -> Vec<PluginRef> {
    let active = policy.active();
    if active.id() == set {
        return PluginRef::all(active.summary());
    }
    let known = policy.plugins_of(set).into_iter();
    known
        .map(|p| PluginRef {
            name: p.name,
            version: p.version,
            digest: p.digest,
            hooks: None,
        })
        .collect()
}

/// Changes a message that the caller may see; 409 where its state does not allow it.
async fn change(
    api: &Api,
    caller: &Caller,
    id: MessageId,
    what: &str,
    change: impl FnOnce(&mut Message) -> bool + Send + 'static,
) -> Result<Response, Problem> {
    find(api, caller, id).await?;
    let changed = api
        .pipeline
        .store
        .update(id, move |message| (change(message), message.clone()))
        .await;
    match changed {
        Ok((true, message)) => Ok(json_response(StatusCode::OK, &Summary::of(&message))),
        Ok((false, message)) => {
            let detail = format!(
                "the message is {} and cannot be {what} any more",
                message.state.name()
            );
            Err(Problem::new(Code::Conflict, detail))
        }
        Err(UpdateError::NotFound) => Err(Problem::not_found("message")),
        Err(UpdateError::Leased) => {
            let detail = format!("the message is being sent just now and cannot be {what}");
            Err(Problem::new(Code::Conflict, detail))
        }
        Err(UpdateError::Store(error)) => Err(store_problem(error)),
    }
}

pub(super) async fn find(api: &Api, caller: &Caller, id: MessageId) -> Result<Message, Problem> {
    let found = api.pipeline.store.find(id).await.map_err(store_problem)?;
    found
        .filter(|message| visible(caller).is_none_or(|account| account == message.account))
        .ok_or_else(|| Problem::not_found("message"))
}

/// The one account whose messages a caller sees; none: an operator sees all.
pub(super) fn visible(caller: &Caller) -> Option<AccountId> {
    (!caller.has(Scope::Admin)).then(|| caller.account.id.clone())
}

fn idempotency(caller: &Caller, key: String, body: &[u8]) -> Idempotency {
    Idempotency {
        account: caller.account.id.clone(),
        key,
        fingerprint: Sha256::digest(body).into(),
    }
}

/// The refusal that the first request with this Idempotency-Key was answered with.
fn first_refusal(message: &Message) -> Option<Problem> {
    let first = message.events.first()?;
    if first.state != State::Rejected || first.reason == Reason::DroppedByPolicy {
        return None;
    }
    let (code, reason) = first
        .detail
        .split_once(": ")
        .unwrap_or((first.reason.name(), &first.detail));
    let mut problem = Problem::refused(code, reason, Some(message.id));
    if reason.is_empty() {
        problem.body.detail =
            "the recipient asked for no more messages from this sender".to_owned();
    }
    Some(problem)
}

fn submit_problem(error: SubmitError, binary: bool) -> Problem {
    let field = |pointer: &str, rule: String| {
        Problem::invalid(Code::InvalidRequest, vec![FieldError::new(pointer, rule)])
    };
    let body = if binary { "/binary/data" } else { "/text" };
    match error {
        SubmitError::Text(TextError::Udh(error)) => field("/binary/udh", error.to_string()),
        SubmitError::Text(error) => field(body, error.to_string()),
        SubmitError::TooManySegments { segments, max } => field(
            body,
            format!("needs {segments} segments; this server takes at most {max}"),
        ),
        SubmitError::Silent => field(
            "/protocol_id",
            "is 64, a message that its phone shows nobody; this account may not send those"
                .to_owned(),
        ),
        SubmitError::SendAtTooFar { max_seconds } => field(
            "/send_at",
            format!("lies more than {} days ahead", max_seconds / 86_400),
        ),
        SubmitError::Validity { max_seconds } => field(
            "/validity_seconds",
            format!("is not between 1 and {max_seconds}"),
        ),
        SubmitError::Refused { id, refusal } => {
            Problem::refused(&refusal.code, refusal.reason, Some(id))
        }
        SubmitError::IdempotencyMismatch => {
            let detail = "this Idempotency-Key came with another body within the last 24 hours";
            Problem::new(Code::IdempotencyMismatch, detail)
        }
        SubmitError::IdempotencyRunning => {
            let detail = "a request with this Idempotency-Key is being worked on";
            Problem::new(Code::IdempotencyRunning, detail).retry_after(Duration::from_secs(1))
        }
        SubmitError::Throttled { retry_after } => Problem::new(
            Code::Throttled,
            "the account sends more than its throughput",
        )
        .retry_after(retry_after),
        SubmitError::Store(error) => store_problem(error),
    }
}

const FILTERS: [&str; 9] = [
    "status", "to", "from", "class", "since", "until", "account", "limit", "cursor",
];

fn filter_of(uri: &Uri, caller: &Caller) -> Result<(Filter, Option<MessageId>, usize), Problem> {
    let mut filter = Filter {
        account: visible(caller),
        ..Filter::default()
    };
    let (mut cursor, mut size) = (None, LIMIT_DEFAULT);
    for (name, value) in parameters(uri, &FILTERS)? {
        let time = || wire::timestamp(&value).map_err(|rule| bad_parameter(&name, rule));
        match name.as_str() {
            "status" => {
                let names = || format!("is none of {}", State::ALL.map(State::name).join(", "));
                filter.status =
                    Some(State::from_name(&value).ok_or_else(|| bad_parameter(&name, names()))?);
            }
            "to" => {
                filter.to = Some(
                    Address::international(&value)
                        .map_err(|e| bad_parameter(&name, e))?
                        .value,
                )
            }
            "from" => {
                filter.from = Some(
                    Address::originator(&value)
                        .map_err(|e| bad_parameter(&name, e))?
                        .value,
                )
            }
            "class" => {
                let names = || {
                    format!(
                        "is none of {}",
                        TrafficClass::ALL.map(TrafficClass::name).join(", ")
                    )
                };
                filter.class = Some(
                    TrafficClass::from_name(&value).ok_or_else(|| bad_parameter(&name, names()))?,
                );
            }
            "since" => filter.since = Some(time()?),
            "until" => filter.until = Some(time()?),
            "account" => {
                let account = AccountId::from(value.as_str());
                if filter.account.as_ref().is_some_and(|own| *own != account) {
                    return Err(Problem::new(
                        Code::Forbidden,
                        "other accounts need a key with the scope `admin`",
                    ));
                }
                filter.account = Some(account);
            }
            "limit" => size = limit(&value)?,
            _ => cursor = Some(cursor_of(&value)?),
        }
    }
    Ok((filter, cursor, size))
}

pub(super) fn cursor_of(text: &str) -> Result<MessageId, Problem> {
    wire::cursor_from(text)
        .ok_or_else(|| bad_parameter("cursor", "is not one that this server gave"))
}

/// The account and scope for requests that name neither a message nor a filter.
pub fn only(api: &Api, parts: &Parts, scope: Scope) -> Result<Caller, Problem> {
    api.authorize(parts, scope).cloned()
}
