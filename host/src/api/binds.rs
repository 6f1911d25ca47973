//! `/v1/binds`: the sessions of customers' ESMEs, for operators: who is bound, from where, how busy; and
//! the end of one, politely.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::auth::Scope;
use super::esme::Bound;
use super::http::{LIMIT_DEFAULT, List, bad_parameter, json_response, limit, parameters};
use super::messages::only;
use super::problem::Problem;
use super::wire::rfc3339;
use super::{Api, step_in};

/// One bound session.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Bind")]
pub struct BindView {
    /// Counts up from 1 since the server started.
    pub id: u64,
    pub system_id: String,
    pub account: String,
    /// `transmitter`, `receiver` or `transceiver`.
    pub mode: &'static str,
    /// Address and port of the client.
    pub peer: String,
    pub tls: bool,
    /// As the client's bind has it: `3.4`.
    pub interface_version: String,
    pub system_type: String,
    pub bound_at: String,
    /// Requests that the client may have without an answer.
    pub window: usize,
    pub deliver_window: usize,
    /// deliver_sm without an answer.
    pub delivering: usize,
    /// Submissions accepted.
    pub submitted: u64,
    /// deliver_sm answered with ESME_ROK.
    pub delivered: u64,
    pub pdus_in: u64,
    pub pdus_out: u64,
    /// PDUs that could not be read.
    pub malformed: u64,
}

impl BindView {
    fn of(bound: &Bound) -> BindView {
        let counters = bound.link.counters();
        let version = bound.interface_version;
        BindView {
            id: bound.id,
            system_id: bound.system.id.to_string(),
            account: bound.system.account.id.to_string(),
            mode: bound.mode.name(),
            peer: bound.peer.to_string(),
            tls: bound.tls,
            interface_version: format!("{}.{}", version >> 4, version & 0xF),
            system_type: bound.system_type.clone(),
            bound_at: rfc3339(bound.since),
            window: bound.system.spec.window,
            deliver_window: bound.system.spec.deliver_window,
            delivering: bound.delivering(),
            submitted: bound.submitted.load(Ordering::Relaxed),
            delivered: bound.delivered.load(Ordering::Relaxed),
            pdus_in: counters.pdus_in,
            pdus_out: counters.pdus_out,
            malformed: counters.malformed,
        }
    }
}

/// `GET /v1/binds`, the oldest first.
pub async fn list(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    only(&api, &parts, Scope::Admin)?;
    let (mut after, mut size) = (0, LIMIT_DEFAULT);
    let (mut system_id, mut account) = (None, None);
    let names = ["system_id", "account", "limit", "cursor"];
    for (name, value) in parameters(&parts.uri, &names)? {
        match name.as_str() {
            "limit" => size = limit(&value)?,
            "system_id" => system_id = Some(value),
            "account" => account = Some(value),
            _ => {
                let rule = "is not one that this server gave";
                after = value.parse().map_err(|_| bad_parameter("cursor", rule))?;
            }
        }
    }
    let shown = |bound: &&Arc<Bound>| {
        bound.id > after
            && system_id.as_ref().is_none_or(|id| **id == *bound.system.id)
            && account
                .as_ref()
                .is_none_or(|id| id == bound.system.account.id.as_str())
    };
    let all = api.esmes.list();
    let mut items: Vec<BindView> = all
        .iter()
        .filter(shown)
        .take(size + 1)
        .map(|bound| BindView::of(bound))
        .collect();
    let more = items.len() > size;
    items.truncate(size);
    let next_cursor = items
        .last()
        .filter(|_| more)
        .map(|last| last.id.to_string());
    Ok(json_response(StatusCode::OK, &List { items, next_cursor }))
}

/// `DELETE /v1/binds/{id}`: sends unbind. The client may bind again.
pub async fn unbind(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = only(&api, &parts, Scope::Admin)?;
    let id = step_in(&parts).parse::<u64>().ok();
    let bound = id.and_then(|id| api.esmes.find(id));
    let bound = bound.ok_or_else(|| Problem::not_found("bind"))?;
    tracing::info!(system_id = %bound.system.id, bind = bound.id, by = caller.name(), "unbound by an operator");
    bound.link.unbind();
    Ok(json_response(StatusCode::ACCEPTED, &BindView::of(&bound)))
}
