//! What comes back from carriers: mobile-originated messages, the conversations they belong to, and
//! receipts that wait for their message.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Api;
use super::auth::{Caller, Scope};
use super::http::{LIMIT_DEFAULT, List, bad_parameter, json_response, limit, parameters};
use super::messages::{cursor_of, store_problem, visible};
use super::problem::{Code, Problem};
use super::reports::{InboundView, OrphanView, ThreadItemView, ThreadView};
use super::{step_in, wire};
use crate::domain::{AccountId, Address, CarrierId};
use crate::store::InboundFilter;

/// `GET /v1/receipts/orphans`
pub async fn orphans(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    api.authorize(&parts, Scope::Admin)?;
    let (mut carrier, mut cursor, mut size) = (None, None, LIMIT_DEFAULT);
    for (name, value) in parameters(&parts.uri, &["carrier", "limit", "cursor"])? {
        match name.as_str() {
            "carrier" => carrier = Some(CarrierId::from(value.as_str())),
            "limit" => size = limit(&value)?,
            _ => {
                let octets = URL_SAFE_NO_PAD.decode(&value);
                let octets = octets
                    .map_err(|_| bad_parameter("cursor", "is not one that this server gave"))?;
                cursor = Some(octets);
            }
        }
    }
    let store = &api.pipeline.store;
    let (found, next) = store
        .list_orphans(carrier, cursor, size)
        .await
        .map_err(store_problem)?;
    Ok(json_response(
        StatusCode::OK,
        &List {
            items: found.into_iter().map(OrphanView::of).collect(),
            next_cursor: next.map(|key| URL_SAFE_NO_PAD.encode(key)),
        },
    ))
}

const INBOUND_FILTERS: [&str; 9] = [
    "account", "unrouted", "from", "to", "label", "since", "until", "limit", "cursor",
];

/// `GET /v1/inbound`
pub async fn inbound(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = api.authorize(&parts, Scope::Read)?;
    let mut filter = InboundFilter {
        account: visible(caller),
        ..InboundFilter::default()
    };
    let (mut cursor, mut size) = (None, LIMIT_DEFAULT);
    for (name, value) in parameters(&parts.uri, &INBOUND_FILTERS)? {
        let time = || wire::timestamp(&value).map_err(|rule| bad_parameter(&name, rule));
        match name.as_str() {
            "account" => filter.account = Some(account_of(caller, &value)?),
            "unrouted" => filter.unrouted = unrouted(caller, &value)?,
            "from" => filter.from = Some(number(&name, &value)?),
            "to" => filter.to = Some(number(&name, &value)?),
            "label" => filter.label = Some(value),
            "since" => filter.since = Some(time()?),
            "until" => filter.until = Some(time()?),
            "limit" => size = limit(&value)?,
            _ => cursor = Some(cursor_of(&value)?),
        }
    }
    if filter.unrouted && filter.account.is_some() {
        let rule = "is about what is nobody's; leave `account` out";
        return Err(bad_parameter("unrouted", rule));
    }
    let listed = api.pipeline.store.list_inbound(filter, cursor, size);
    let page = listed.await.map_err(store_problem)?;
    Ok(json_response(
        StatusCode::OK,
        &List {
            items: page.items.iter().map(InboundView::of).collect(),
            next_cursor: page.next.map(wire::cursor_of),
        },
    ))
}

/// `GET /v1/threads`
pub async fn threads(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = api.authorize(&parts, Scope::Read)?;
    let mut account = caller.account.id.clone();
    let (mut number_of, mut with, mut cursor, mut size) = (None, None, None, LIMIT_DEFAULT);
    for (name, value) in parameters(
        &parts.uri,
        &["account", "number", "with", "limit", "cursor"],
    )? {
        match name.as_str() {
            "account" => account = account_of(caller, &value)?,
            "number" => number_of = Some(number(&name, &value)?),
            "with" => with = Some(number(&name, &value)?),
            "limit" => size = limit(&value)?,
            _ => cursor = Some(cursor_of(&value)?),
        }
    }
    let store = &api.pipeline.store;
    let listed = store.threads(&account, number_of, with, cursor, size);
    let page = listed.await.map_err(store_problem)?;
    Ok(json_response(
        StatusCode::OK,
        &List {
            items: page.items.iter().map(ThreadView::of).collect(),
            next_cursor: page.next.map(wire::cursor_of),
        },
    ))
}

/// `GET /v1/threads/{id}`: one of the account's numbers, a dash, the handset.
pub async fn thread(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = api.authorize(&parts, Scope::Read)?;
    let mut account = caller.account.id.clone();
    let (mut cursor, mut size) = (None, LIMIT_DEFAULT);
    for (name, value) in parameters(&parts.uri, &["account", "limit", "cursor"])? {
        match name.as_str() {
            "account" => account = account_of(caller, &value)?,
            "limit" => size = limit(&value)?,
            _ => cursor = Some(cursor_of(&value)?),
        }
    }
    let id = decoded(step_in(&parts)).ok_or_else(|| Problem::not_found("thread"))?;
    let (number, handset) = id
        .split_once('-')
        .map(|(number, handset)| {
            (
                number.trim_start_matches('+'),
                handset.trim_start_matches('+'),
            )
        })
        .ok_or_else(|| Problem::not_found("thread"))?;
    let store = &api.pipeline.store;
    let listed = store.thread(&account, number, handset, cursor, size);
    let page = listed.await.map_err(store_problem)?;
    if page.items.is_empty() && cursor.is_none() {
        return Err(Problem::not_found("thread"));
    }
    Ok(json_response(
        StatusCode::OK,
        &List {
            items: page.items.iter().map(ThreadItemView::of).collect(),
            next_cursor: page.next.map(wire::cursor_of),
        },
    ))
}

/// An account that the caller names: its own, unless it administers.
fn account_of(caller: &Caller, name: &str) -> Result<AccountId, Problem> {
    let account = AccountId::from(name);
    if visible(caller).is_some_and(|own| own != account) {
        let detail = "other accounts need a key with the scope `admin`";
        return Err(Problem::new(Code::Forbidden, detail));
    }
    Ok(account)
}

fn unrouted(caller: &Caller, value: &str) -> Result<bool, Problem> {
    caller.require(Scope::Admin)?;
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(bad_parameter("unrouted", "is true or false")),
    }
}

/// A number, short code or name, as addresses hold it.
fn number(name: &str, value: &str) -> Result<String, Problem> {
    let address = match Address::international(value) {
        Ok(address) => Ok(address),
        Err(_) => Address::originator(value),
    };
    address
        .map(|a| a.value)
        .map_err(|rule| bad_parameter(name, rule))
}

/// A step of a path without its percent signs (RFC 3986, 2.1).
fn decoded(step: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(step.len());
    let mut rest = step.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'%' {
            octets.push(octet);
            continue;
        }
        let digit = |octet: Option<u8>| char::from(octet?).to_digit(16);
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        octets.push(u8::try_from(high << 4 | low).ok()?);
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_a_path_is_decoded_or_refused() {
        assert_eq!(
            decoded("60777-447700900123").as_deref(),
            Some("60777-447700900123")
        );
        assert_eq!(decoded("60777-Info%201").as_deref(), Some("60777-Info 1"));
        for bad in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }
}
