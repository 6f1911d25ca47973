//! `GET /v1/numbers/{number}`: what is known of a number, and how a message's network is shown; and
//! `DELETE /v1/numbers/{number}/data`, after which nothing is known of it.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::Serialize;

use super::audit::Noted;
use super::auth::{Caller, Scope};
use super::http::{bad_parameter, json_response, parameters};
use super::messages::store_problem;
use super::problem::{Code, FieldError, Problem};
use super::{Api, detached, step_in};
use crate::domain::{Address, Network};
use crate::pipeline::erase::Stage;
use crate::pipeline::numbers::{Lookup, Region};

/// Where a number lives, and who said so.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Network")]
pub struct NetworkView {
    /// ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// Mobile country and network codes (ITU-T E.212), as numbers.
    pub mcc: Option<u16>,
    pub mnc: Option<u16>,
    pub ported: bool,
    /// `numbering_plan` (the country alone), `networks` or `portability` (the operator's tables),
    /// `plugin` (an enrichment), or `unknown`.
    pub source: &'static str,
}

impl NetworkView {
    pub fn of(network: &Network) -> NetworkView {
        NetworkView {
            country: network
                .country
                .map(|c| c.iter().map(|b| char::from(*b)).collect()),
            mcc: network.mcc,
            mnc: network.mnc,
            ported: network.ported,
            source: network.source.name(),
        }
    }
}

/// All that is known of a number.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "NumberLookup")]
pub struct LookupView {
    /// E.164 with '+'; a short code as it is.
    pub number: String,
    /// As it is written in its own country.
    pub national: String,
    /// As it is written for abroad, grouped.
    pub international: String,
    /// There can be such a number: its country has numbers of this length.
    pub possible: bool,
    /// It is of a range in use.
    pub valid: bool,
    /// `mobile`, `fixed_line`, `premium_rate` and so on; absent where the plan does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    pub network: NetworkView,
    /// `234-10`, with the zeros that belong to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcc_mnc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The row of the table by which the network was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched_prefix: Option<String>,
    /// The network that a ported number was first given to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range_mcc_mnc: Option<String>,
    /// Minutes to add to UTC for the wall clock there, now; absent where the number does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utc_offset_minutes: Option<i16>,
}

impl From<Lookup> for LookupView {
    fn from(lookup: Lookup) -> LookupView {
        LookupView {
            number: lookup.address.to_string(),
            national: lookup.national,
            international: lookup.international,
            possible: lookup.possible,
            valid: lookup.valid,
            kind: lookup.kind,
            network: NetworkView::of(&lookup.network),
            mcc_mnc: lookup.mcc_mnc,
            operator: lookup.operator,
            matched_prefix: lookup.matched,
            range_mcc_mnc: lookup.range_mcc_mnc,
            utc_offset_minutes: lookup.utc_offset_minutes,
        }
    }
}

/// `GET /v1/numbers/{number}?region=GB`: read as a submission's `to` would be, by its shape alone, so
/// that what is refused there can be looked at here.
pub async fn lookup(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = api.authorize(&parts, Scope::Read)?;
    let mut region = None;
    for (name, value) in parameters(&parts.uri, &["region"])? {
        region = Some(Region::parse(&value).map_err(|e| bad_parameter(&name, e))?);
    }
    let address = number_in(&api, &parts, caller, region)?;
    let found = api
        .pipeline
        .numbers
        .lookup(address, api.pipeline.clock.now());
    Ok(json_response(StatusCode::OK, &LookupView::from(found)))
}

/// The number of a path, read by its shape alone: what is stored may be anything that could be sent to.
fn number_in(
    api: &Api,
    parts: &Parts,
    caller: &Caller,
    region: Option<Region>,
) -> Result<Address, Problem> {
    let numbers = &api.pipeline.numbers;
    let refused = |rule: String| {
        Problem::invalid(
            Code::InvalidParameter,
            vec![FieldError::new("/number", rule)],
        )
    };
    let text = decoded(step_in(parts))
        .filter(|text| text.len() <= NUMBER_OCTETS_MAX)
        .ok_or_else(|| {
            refused(format!(
                "is not at most {NUMBER_OCTETS_MAX} octets of UTF-8"
            ))
        })?;
    let rules = numbers.rules(&caller.account.id, region).by_shape();
    numbers
        .recipient(&text, &rules)
        .map_err(|e| refused(e.to_string()))
}

/// What a piece of the work of forgetting came to. Everything is counted once: add the pieces up.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ForgottenData")]
pub struct ForgottenView {
    /// Messages that lost number, texts, reference, metadata and TLVs.
    messages: u64,
    /// Those of `messages` that still waited: they were canceled first.
    canceled: u64,
    /// Messages that a carrier has, or may have: left as they are until they have ended.
    under_way: u64,
    inbound: u64,
    /// Parts of incomplete inbound messages.
    fragments: u64,
    /// Receipts that met no message.
    receipts: u64,
    /// Decisions recorded for replay.
    recorded: u64,
    /// Ask again with `?cursor=` it; null where all is done.
    next_cursor: Option<String>,
}

/// `DELETE /v1/numbers/{number}/data?cursor=`: one bounded piece of the work.
pub async fn forget(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = api.authorize(&parts, Scope::Admin)?;
    let mut stage = Stage::first();
    for (name, value) in parameters(&parts.uri, &["cursor"])? {
        let octets = URL_SAFE_NO_PAD.decode(&value).ok();
        stage = octets
            .and_then(|octets| Stage::from_octets(&octets))
            .ok_or_else(|| bad_parameter(&name, "is not one that this server gave"))?;
    }
    let address = number_in(&api, &parts, caller, None)?;
    let pipeline = api.pipeline.clone();
    let (forgotten, next) = detached(async move { pipeline.forget(&address.value, stage).await })
        .await?
        .map_err(store_problem)?;
    let stored = forgotten.stored;
    let view = ForgottenView {
        messages: stored.messages,
        canceled: stored.canceled,
        under_way: stored.under_way,
        inbound: stored.inbound,
        fragments: stored.fragments,
        receipts: stored.orphans,
        recorded: forgotten.recorded,
        next_cursor: next.map(|stage| URL_SAFE_NO_PAD.encode(stage.octets())),
    };
    let mut answer = json_response(StatusCode::OK, &view);
    let note = format!(
        "{} messages, {} inbound, {} recorded",
        view.messages, view.inbound, view.recorded
    );
    answer.extensions_mut().insert(Noted(note));
    Ok(answer)
}

const NUMBER_OCTETS_MAX: usize = 128;

/// A step of a path with its `%` escapes undone (RFC 3986, 2.1); `+` stays what it is.
fn decoded(step: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(step.len());
    let mut rest = step.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'%' {
            octets.push(octet);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        octets.push(u8::try_from(digit()? << 4 | digit()?).ok()?);
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_a_path_is_decoded() {
        assert_eq!(decoded("+44%207700").as_deref(), Some("+44 7700"));
        assert_eq!(decoded("%2B44").as_deref(), Some("+44"));
        for broken in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(decoded(broken), None, "{broken}");
        }
    }
}
