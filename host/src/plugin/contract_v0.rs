//! WIT 0.1 and nothing else: the generated bindings, domain values lowered to what a plugin may see,
//! and a plugin's answers raised to domain values with every field bounded. The only file that
//! knows `heliograph:sms@0.1`; another version is another file beside it.

use std::fmt;

use wasmtime::component::{HasSelf, Instance, InstancePre, Linker};
use wasmtime::{AsContextMut, Store};

use self::bindings::exports::heliograph::sms as guest;
use self::bindings::heliograph::sms::{http, logging, state, tables, types};
use super::host_calls::{CallState, HttpFailure, LogLevel};
use super::load::Manifest;
use super::spec::ContentGrant;
use super::view::Disclosure;
use super::{
    AdapterEvent, AdapterState, CallbackAnswer, CarrierView, HttpRequest, HttpResponse, SubmitError,
};
use crate::clock::Timestamp;
use crate::domain::text::Alphabet;
use crate::domain::{
    Address, Attempt, AttemptOutcome, Body, Context, Hook, Hop, Inbound, InboundAction, Message,
    NumberingPlan, Phase, Plan, RecipientProfile, Refusal, Routing, Ruling, Tlv, TrafficClass,
    TypeOfNumber, Verdict, WishScope,
};

#[allow(unsafe_code, non_camel_case_types, unused_variables, clippy::all)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "host",
        imports: { "heliograph:sms/http": async | trappable, default: trappable },
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
        require_store_data_send: true,
    });
}

pub(super) const PACKAGE: &str = "heliograph:sms";
pub(super) const VERSION: &str = "0.1.0";

// Limits on what a plugin returns. Copying is bounded before any of them by wasmtime's host-call
// fuel (`pool::COPY_BYTES_MAX`).
const REASON_CHARS_MAX: usize = 512;
const CODE_CHARS_MAX: usize = 64;
const LABEL_CHARS_MAX: usize = 64;
const HOPS_MAX: usize = 8;
const ACTIONS_MAX: usize = 16;
const TLVS_MAX: usize = 16;
const TLV_OCTETS_MAX: usize = 255;
/// 255 parts of 153 septets (3GPP TS 23.040, 9.2.3.24.1 and TS 23.038, 6.1.2.1).
const TEXT_CHARS_MAX: usize = 255 * 153;
/// 255 parts of 134 octets.
const DATA_OCTETS_MAX: usize = 255 * 134;
/// A user data header without its length octet (3GPP TS 23.040, 9.2.3.24).
const UDH_OCTETS_MAX: usize = 139;
const CARRIER_IDS_MAX: usize = 255;
/// message_id is a C-octet string of at most 65 (SMPP 3.4, 4.4.2).
const CARRIER_ID_CHARS_MAX: usize = 64;
const EVENTS_MAX: usize = 1_000;
const HEADERS_MAX: usize = 64;
const HEADER_CHARS_MAX: usize = 8 << 10;
const CALLBACK_BODY_MAX: usize = 256 << 10;
const MANIFEST_NAME_CHARS_MAX: usize = 64;
const MANIFEST_SUMMARY_CHARS_MAX: usize = 256;
const CONFIG_SCHEMA_BYTES_MAX: usize = 256 << 10;

/// A field of an answer and the rule it breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad(pub String);

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn bad<T>(field: &str, rule: impl fmt::Display) -> Result<T, Bad> {
    Err(Bad(format!("{field} {rule}")))
}

/// The answer of a call that returned: as the host reads it, or what is wrong with it.
pub(super) type Raised<T> = wasmtime::Result<Result<T, Bad>>;

// ---------------------------------------------------------------------------- exports and imports

/// Where a component keeps the hooks that it exports.
#[derive(Clone)]
pub(super) struct Exports {
    plugin: guest::plugin::GuestIndices,
    content_filter: Option<guest::content_filter::GuestIndices>,
    compliance_check: Option<guest::compliance_check::GuestIndices>,
    routing_policy: Option<guest::routing_policy::GuestIndices>,
    carrier_adapter: Option<guest::carrier_adapter::GuestIndices>,
    inbound_handler: Option<guest::inbound_handler::GuestIndices>,
}

/// The functions of one instance.
pub(super) struct Guest {
    plugin: guest::plugin::Guest,
    content_filter: Option<guest::content_filter::Guest>,
    compliance_check: Option<guest::compliance_check::Guest>,
    routing_policy: Option<guest::routing_policy::Guest>,
    carrier_adapter: Option<guest::carrier_adapter::Guest>,
    inbound_handler: Option<guest::inbound_handler::Guest>,
}

/// The name under which a component exports `interface`.
pub(super) fn interface_name(interface: &str) -> String {
    format!("{PACKAGE}/{interface}@{VERSION}")
}

impl Exports {
    /// Finds what `hooks` names; a hook that lacks a function of the contract is an error.
    pub fn find(pre: &InstancePre<CallState>, hooks: &[Hook]) -> wasmtime::Result<Exports> {
        let has = |hook| hooks.contains(&hook);
        Ok(Exports {
            plugin: guest::plugin::GuestIndices::new(pre)?,
            content_filter: has(Hook::ContentFilter)
                .then(|| guest::content_filter::GuestIndices::new(pre))
                .transpose()?,
            compliance_check: has(Hook::ComplianceCheck)
                .then(|| guest::compliance_check::GuestIndices::new(pre))
                .transpose()?,
            routing_policy: has(Hook::RoutingPolicy)
                .then(|| guest::routing_policy::GuestIndices::new(pre))
                .transpose()?,
            carrier_adapter: has(Hook::CarrierAdapter)
                .then(|| guest::carrier_adapter::GuestIndices::new(pre))
                .transpose()?,
            inbound_handler: has(Hook::InboundHandler)
                .then(|| guest::inbound_handler::GuestIndices::new(pre))
                .transpose()?,
        })
    }

    /// Checks the types of the functions: some mismatches show only here.
    pub fn load(&self, store: &mut Store<CallState>, instance: &Instance) -> wasmtime::Result<Guest> {
        let mut store = store.as_context_mut();
        let filter = self.content_filter.as_ref();
        let check = self.compliance_check.as_ref();
        let route = self.routing_policy.as_ref();
        let adapter = self.carrier_adapter.as_ref();
        let inbound = self.inbound_handler.as_ref();
        Ok(Guest {
            plugin: self.plugin.load(&mut store, instance)?,
            content_filter: filter.map(|i| i.load(&mut store, instance)).transpose()?,
            compliance_check: check.map(|i| i.load(&mut store, instance)).transpose()?,
            routing_policy: route.map(|i| i.load(&mut store, instance)).transpose()?,
            carrier_adapter: adapter.map(|i| i.load(&mut store, instance)).transpose()?,
            inbound_handler: inbound.map(|i| i.load(&mut store, instance)).transpose()?,
        })
    }
}

/// A capability that a component may import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Capability {
    Logging,
    State,
    Tables,
    Http,
}

impl Capability {
    pub const ALL: [Capability; 4] = [
        Capability::Logging,
        Capability::State,
        Capability::Tables,
        Capability::Http,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Capability::Logging => "logging",
            Capability::State => "state",
            Capability::Tables => "tables",
            Capability::Http => "http",
        }
    }

    /// `types` is no capability: it has no functions.
    pub const FREE: &'static str = "types";
}

/// Links what is granted and nothing else.
pub(super) fn link(linker: &mut Linker<CallState>, granted: &[Capability]) -> wasmtime::Result<()> {
    for capability in granted {
        match capability {
            Capability::Logging => logging::add_to_linker::<_, HasSelf<CallState>>(linker, |s| s)?,
            Capability::State => state::add_to_linker::<_, HasSelf<CallState>>(linker, |s| s)?,
            Capability::Tables => tables::add_to_linker::<_, HasSelf<CallState>>(linker, |s| s)?,
            Capability::Http => http::add_to_linker::<_, HasSelf<CallState>>(linker, |s| s)?,
        }
    }
    types::add_to_linker::<_, HasSelf<CallState>>(linker, |s| s)
}

impl types::Host for CallState {}

impl logging::Host for CallState {
    fn log(
        &mut self,
        level: logging::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let level = match level {
            logging::Level::Debug => LogLevel::Debug,
            logging::Level::Info => LogLevel::Info,
            logging::Level::Warn => LogLevel::Warn,
            logging::Level::Error => LogLevel::Error,
        };
        Ok(self.log(level, &message, &fields)?)
    }
}

impl state::Host for CallState {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.state_get(&key)?)
    }

    fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_seconds: Option<u32>,
    ) -> wasmtime::Result<Result<(), String>> {
        Ok(self.state_set(&key, &value, ttl_seconds)?)
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<()> {
        Ok(self.state_delete(&key)?)
    }

    fn increment(&mut self, key: String, by: i64, ttl_seconds: u32) -> wasmtime::Result<i64> {
        Ok(self.state_increment(&key, by, ttl_seconds)?)
    }
}

impl tables::Host for CallState {
    fn lookup(&mut self, table: String, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.table_lookup(&table, &key)?)
    }

    fn longest_prefix(
        &mut self,
        table: String,
        key: String,
    ) -> wasmtime::Result<Option<(String, String)>> {
        Ok(self.table_longest_prefix(&table, &key)?)
    }
}

impl http::Host for CallState {
    async fn send(
        &mut self,
        request: http::HttpRequest,
    ) -> wasmtime::Result<Result<http::HttpResponse, http::Failure>> {
        let request = HttpRequest {
            method: request.method,
            url: request.url,
            headers: request.headers,
            body: request.body,
        };
        Ok(match self.http_send(request).await? {
            Ok(r) => Ok(http::HttpResponse {
                status: r.status,
                headers: r.headers,
                body: r.body,
            }),
            Err(HttpFailure::Denied(why)) => Err(http::Failure::Denied(why)),
            Err(HttpFailure::Connect(why)) => Err(http::Failure::Connect(why)),
            Err(HttpFailure::Timeout) => Err(http::Failure::Timeout),
            Err(HttpFailure::TooLarge) => Err(http::Failure::TooLarge),
            Err(HttpFailure::Other(why)) => Err(http::Failure::Other(why)),
        })
    }
}

// ---------------------------------------------------------------------------- calls

fn absent(hook: Hook) -> wasmtime::Error {
    wasmtime::Error::msg(format!("the plugin does not export {}", hook.name()))
}

impl Guest {
    pub async fn describe(&self, store: &mut Store<CallState>) -> Raised<Manifest> {
        Ok(manifest(self.plugin.call_describe(store).await?))
    }

    /// The inner error is the plugin's own word on why it cannot work with `config`.
    pub async fn configure(
        &self,
        store: &mut Store<CallState>,
        config: &str,
    ) -> wasmtime::Result<Result<(), String>> {
        let answer = self.plugin.call_configure(store, config).await?;
        Ok(answer.map_err(|why| shortened(why, REASON_CHARS_MAX)))
    }

    pub async fn inspect(
        &self,
        store: &mut Store<CallState>,
        lent: &Lent<'_>,
        context: &Context,
    ) -> Raised<Verdict> {
        let hook = self.content_filter.as_ref().ok_or_else(|| absent(Hook::ContentFilter))?;
        let answer = hook.call_inspect(store, lent.message(), lowered_context(context)).await?;
        Ok(verdict(answer))
    }

    pub async fn check(
        &self,
        store: &mut Store<CallState>,
        lent: &Lent<'_>,
        recipient: &RecipientProfile,
        context: &Context,
    ) -> Raised<Ruling> {
        let hook = self.compliance_check.as_ref().ok_or_else(|| absent(Hook::ComplianceCheck))?;
        let profile = guest::compliance_check::RecipientProfile {
            opted_out: recipient.opted_out,
            consent: None,
            utc_offset_minutes: recipient.utc_offset_minutes,
            sent_last_day: recipient.sent_last_day,
        };
        let answer = hook
            .call_check(store, lent.message(), profile, lowered_context(context))
            .await?;
        Ok(ruling(answer))
    }

    pub async fn route(
        &self,
        store: &mut Store<CallState>,
        lent: &Lent<'_>,
        carriers: &[CarrierView],
        context: &Context,
    ) -> Raised<Routing> {
        let hook = self.routing_policy.as_ref().ok_or_else(|| absent(Hook::RoutingPolicy))?;
        let tags: Vec<Vec<&str>> = carriers
            .iter()
            .map(|c| c.tags.iter().map(String::as_str).collect())
            .collect();
        let lowered: Vec<_> = carriers
            .iter()
            .zip(&tags)
            .map(|(c, tags)| guest::routing_policy::Carrier {
                id: c.id.as_str(),
                connected: c.connected,
                queued: c.queued,
                in_flight: c.in_flight,
                headroom: c.headroom,
                delivered_ratio: c.delivered_ratio,
                p50_receipt_ms: c.p50_receipt_ms,
                tags,
            })
            .collect();
        let answer = hook
            .call_route(store, lent.message(), &lowered, lowered_context(context))
            .await?;
        Ok(routing(answer, carriers))
    }

    pub async fn receive(
        &self,
        store: &mut Store<CallState>,
        inbound: &Inbound,
        disclosure: &Disclosure,
        context: &Context,
    ) -> Raised<Vec<InboundAction>> {
        let hook = self.inbound_handler.as_ref().ok_or_else(|| absent(Hook::InboundHandler))?;
        let id = inbound.id.to_string();
        let originator = disclosure.pseudonym(&inbound.originator);
        let recipient = disclosure.pseudonym(&inbound.recipient);
        let lowered = guest::inbound_handler::Inbound {
            id: &id,
            carrier: inbound.carrier.as_str(),
            originator: lowered_address(&inbound.originator, originator.as_deref(), disclosure),
            recipient: lowered_address(&inbound.recipient, recipient.as_deref(), disclosure),
            body: lowered_body(&inbound.body, disclosure.content),
            received_at: inbound.received_at.millis(),
            opted_out: inbound.opted_out,
        };
        let answer = hook.call_receive(store, lowered, lowered_context(context)).await?;
        Ok(actions(answer))
    }

    pub async fn submit(
        &self,
        store: &mut Store<CallState>,
        lent: &Lent<'_>,
        context: &Context,
    ) -> Raised<Result<Vec<String>, SubmitError>> {
        let hook = self.carrier_adapter.as_ref().ok_or_else(|| absent(Hook::CarrierAdapter))?;
        let answer = hook.call_submit(store, lent.message(), lowered_context(context)).await?;
        Ok(match answer {
            Ok(ids) => carrier_ids(ids).map(Ok),
            Err(error) => Ok(Err(submit_error(error))),
        })
    }

    pub async fn callback(
        &self,
        store: &mut Store<CallState>,
        request: &HttpRequest,
        context: &Context,
    ) -> Raised<Result<CallbackAnswer, String>> {
        let hook = self.carrier_adapter.as_ref().ok_or_else(|| absent(Hook::CarrierAdapter))?;
        let headers: Vec<(&str, &str)> = request
            .headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        let lowered = types::HttpRequestParam {
            method: &request.method,
            url: &request.url,
            headers: &headers,
            body: &request.body,
        };
        let answer = hook.call_callback(store, lowered, lowered_context(context)).await?;
        Ok(match answer {
            Ok(answer) => callback_answer(answer).map(Ok),
            Err(why) => Ok(Err(shortened(why, REASON_CHARS_MAX))),
        })
    }
}

// ---------------------------------------------------------------------------- domain to WIT

/// A message as the plugin may see it: what has to be made is made here, the rest is borrowed.
pub(super) struct Lent<'a> {
    of: &'a Message,
    disclosure: &'a Disclosure,
    id: String,
    originator: Option<String>,
    recipient: Option<String>,
    country: Option<String>,
    attempts: Vec<types::Attempt<'a>>,
    tlvs: Vec<types::TlvParam<'a>>,
    metadata: Vec<(&'a str, &'a str)>,
}

impl<'a> Lent<'a> {
    pub fn new(of: &'a Message, disclosure: &'a Disclosure) -> Lent<'a> {
        Lent {
            of,
            disclosure,
            id: of.id.to_string(),
            originator: disclosure.pseudonym(&of.originator),
            recipient: disclosure.pseudonym(&of.recipient),
            country: of
                .network
                .country
                .map(|c| c.iter().copied().map(char::from).collect()),
            attempts: of.attempts.iter().map(lowered_attempt).collect(),
            tlvs: of
                .tlvs
                .iter()
                .map(|t| types::TlvParam { tag: t.tag, value: &t.value })
                .collect(),
            metadata: of.metadata.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect(),
        }
    }

    fn message(&self) -> types::Message<'_> {
        let of = self.of;
        types::Message {
            id: &self.id,
            account: of.account.as_str(),
            originator: lowered_address(&of.originator, self.originator.as_deref(), self.disclosure),
            recipient: lowered_address(&of.recipient, self.recipient.as_deref(), self.disclosure),
            network: types::Network {
                country: self.country.as_deref(),
                mcc: of.network.mcc,
                mnc: of.network.mnc,
                ported: of.network.ported,
            },
            body: lowered_body(&of.body, self.disclosure.content),
            alphabet: match of.alphabet {
                Alphabet::Gsm7 => types::Alphabet::Gsm7,
                Alphabet::Ucs2 => types::Alphabet::Ucs2,
                Alphabet::Octets => types::Alphabet::Octets,
            },
            segments: of.segments,
            traffic: match of.class {
                TrafficClass::Otp => types::TrafficClass::Otp,
                TrafficClass::Transactional => types::TrafficClass::Transactional,
                TrafficClass::Promotional => types::TrafficClass::Promotional,
                TrafficClass::Alert => types::TrafficClass::Alert,
            },
            accepted_at: of.accepted_at.millis(),
            send_at: of.send_at.millis(),
            expires_at: of.expires_at.millis(),
            reference: &of.reference,
            attempts: &self.attempts,
            tlvs: &self.tlvs,
            metadata: &self.metadata,
        }
    }
}

fn lowered_context(context: &Context) -> types::Context {
    types::Context {
        now: context.now.millis(),
        random: context.random,
        phase: match context.phase {
            Phase::Admission => types::Phase::Admission,
            Phase::Dispatch => types::Phase::Dispatch,
            Phase::Retry => types::Phase::Retry,
            Phase::Preview => types::Phase::Preview,
        },
    }
}

fn lowered_address<'a>(
    address: &'a Address,
    pseudonym: Option<&'a str>,
    disclosure: &Disclosure,
) -> types::AddressParam<'a> {
    types::AddressParam {
        ton: match address.ton {
            TypeOfNumber::Unknown => types::TypeOfNumber::Unknown,
            TypeOfNumber::International => types::TypeOfNumber::International,
            TypeOfNumber::National => types::TypeOfNumber::National,
            TypeOfNumber::NetworkSpecific => types::TypeOfNumber::NetworkSpecific,
            TypeOfNumber::Subscriber => types::TypeOfNumber::Subscriber,
            TypeOfNumber::Alphanumeric => types::TypeOfNumber::Alphanumeric,
            TypeOfNumber::Abbreviated => types::TypeOfNumber::Abbreviated,
        },
        npi: match address.npi {
            NumberingPlan::Unknown => types::NumberingPlan::Unknown,
            NumberingPlan::Isdn => types::NumberingPlan::Isdn,
            NumberingPlan::Data => types::NumberingPlan::Data,
            NumberingPlan::Telex => types::NumberingPlan::Telex,
            NumberingPlan::LandMobile => types::NumberingPlan::LandMobile,
            NumberingPlan::National => types::NumberingPlan::National,
            NumberingPlan::Private => types::NumberingPlan::Private,
            NumberingPlan::Ermes => types::NumberingPlan::Ermes,
            NumberingPlan::Internet => types::NumberingPlan::Internet,
            NumberingPlan::Wap => types::NumberingPlan::Wap,
        },
        value: pseudonym.unwrap_or(&address.value),
        prefix: disclosure.prefix(address),
    }
}

fn lowered_body(body: &Body, grant: ContentGrant) -> types::BodyParam<'_> {
    let length = |n: usize| types::BodyParam::Withheld(u32::try_from(n).unwrap_or(u32::MAX));
    match (grant, body) {
        (ContentGrant::Full, Body::Text(text)) => types::BodyParam::Text(text),
        (ContentGrant::Full, Body::Binary { udh, data }) => types::BodyParam::Binary(types::OctetsParam {
            user_data_header: udh,
            data,
        }),
        (ContentGrant::Length, Body::Text(text)) => length(text.chars().count()),
        (ContentGrant::Length, Body::Binary { data, .. }) => length(data.len()),
    }
}

fn lowered_attempt(attempt: &Attempt) -> types::Attempt<'_> {
    types::Attempt {
        carrier: attempt.carrier.as_str(),
        at: attempt.at.millis(),
        outcome: match &attempt.outcome {
            AttemptOutcome::Sent => types::Outcome::Sent,
            AttemptOutcome::Throttled => types::Outcome::Throttled,
            AttemptOutcome::TemporaryFailure(status) => types::Outcome::TemporaryFailure(*status),
            AttemptOutcome::PermanentFailure(status) => types::Outcome::PermanentFailure(*status),
            AttemptOutcome::TimedOut => types::Outcome::TimedOut,
            AttemptOutcome::Unavailable => types::Outcome::Unavailable,
            AttemptOutcome::Undelivered(error) => types::Outcome::Undelivered(error),
        },
    }
}

// ---------------------------------------------------------------------------- WIT to domain

fn manifest(m: guest::plugin::Manifest) -> Result<Manifest, Bad> {
    let name_ok = !m.name.is_empty()
        && m.name.len() <= MANIFEST_NAME_CHARS_MAX
        && m.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !name_ok {
        return bad("manifest.name", "is not 1 to 64 lower-case letters, digits and hyphens");
    }
    let version_ok = m.version.len() <= 64
        && m.version.split(['-', '+']).next().is_some_and(|core| {
            core.split('.').count() == 3
                && core.split('.').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        })
        && m.version.bytes().all(|b| b.is_ascii_graphic());
    if !version_ok {
        return bad("manifest.version", "is no semantic version such as 1.0.0");
    }
    if m.config_schema.len() > CONFIG_SCHEMA_BYTES_MAX {
        return bad("manifest.config-schema", format_args!("is longer than {CONFIG_SCHEMA_BYTES_MAX} bytes"));
    }
    Ok(Manifest {
        name: m.name,
        version: m.version,
        summary: shortened(m.summary, MANIFEST_SUMMARY_CHARS_MAX),
        config_schema: m.config_schema,
    })
}

fn verdict(answer: guest::content_filter::Verdict) -> Result<Verdict, Bad> {
    use guest::content_filter::Verdict as W;
    Ok(match answer {
        W::Pass => Verdict::Pass,
        W::Replace(r) => Verdict::Replace {
            body: body("replace.body", r.body)?,
            reason: reason(r.reason),
        },
        W::Refuse(r) => Verdict::Refuse(refusal("refuse", r)?),
        W::Hold(why) => Verdict::Hold(reason(why)),
        W::Drop(why) => Verdict::Drop(reason(why)),
    })
}

fn ruling(answer: guest::compliance_check::Ruling) -> Result<Ruling, Bad> {
    use guest::compliance_check::Ruling as W;
    Ok(match answer {
        W::Allow => Ruling::Allow,
        W::Amend(a) => Ruling::Amend {
            body: body("amend.body", a.body)?,
            reason: reason(a.reason),
        },
        W::Defer(d) => Ruling::Defer {
            until: Timestamp(d.until),
            reason: reason(d.reason),
        },
        W::Deny(r) => Ruling::Deny(refusal("deny", r)?),
    })
}

fn routing(answer: guest::routing_policy::Routing, carriers: &[CarrierView]) -> Result<Routing, Bad> {
    use guest::routing_policy::Routing as W;
    Ok(match answer {
        W::Pass => Routing::Pass,
        W::Defer(p) => Routing::Defer {
            until: Timestamp(p.until),
            reason: reason(p.reason),
        },
        W::Refuse(r) => Routing::Refuse(refusal("refuse", r)?),
        W::Send(plan) => {
            if plan.hops.is_empty() || plan.hops.len() > HOPS_MAX {
                return bad("send.hops", format_args!("has {} hops, not 1 to {HOPS_MAX}", plan.hops.len()));
            }
            let hops = plan.hops.into_iter().enumerate().map(|(i, h)| hop(i, h, carriers));
            Routing::Send(Plan {
                hops: hops.collect::<Result<_, _>>()?,
                reason: reason(plan.reason),
            })
        }
    })
}

fn hop(index: usize, hop: guest::routing_policy::Hop, carriers: &[CarrierView]) -> Result<Hop, Bad> {
    let Some(carrier) = carriers.iter().find(|c| c.id.as_str() == hop.carrier) else {
        let name = shortened(hop.carrier, CARRIER_ID_CHARS_MAX);
        return bad(&format!("send.hops[{index}].carrier"), format_args!("names {name:?}, which is no carrier it was offered"));
    };
    if hop.tlvs.len() > TLVS_MAX {
        return bad(&format!("send.hops[{index}].tlvs"), format_args!("has more than {TLVS_MAX} entries"));
    }
    let mut tlvs = Vec::with_capacity(hop.tlvs.len());
    for tlv in hop.tlvs {
        if tlv.value.len() > TLV_OCTETS_MAX {
            return bad(
                &format!("send.hops[{index}].tlvs"),
                format_args!("has tag {:#06x} with more than {TLV_OCTETS_MAX} octets", tlv.tag),
            );
        }
        tlvs.push(Tlv { tag: tlv.tag, value: tlv.value });
    }
    Ok(Hop {
        carrier: carrier.id.clone(),
        originator: hop
            .originator
            .map(|a| address(&format!("send.hops[{index}].originator"), a))
            .transpose()?,
        price_micros: hop.price_micros,
        tlvs,
    })
}

/// A plugin that was shown a pseudonym cannot send it back: it is no number.
fn address(field: &str, a: types::AddressResult) -> Result<Address, Bad> {
    let ton = match a.ton {
        types::TypeOfNumber::Unknown => TypeOfNumber::Unknown,
        types::TypeOfNumber::International => TypeOfNumber::International,
        types::TypeOfNumber::National => TypeOfNumber::National,
        types::TypeOfNumber::NetworkSpecific => TypeOfNumber::NetworkSpecific,
        types::TypeOfNumber::Subscriber => TypeOfNumber::Subscriber,
        types::TypeOfNumber::Alphanumeric => TypeOfNumber::Alphanumeric,
        types::TypeOfNumber::Abbreviated => TypeOfNumber::Abbreviated,
    };
    let npi = match a.npi {
        types::NumberingPlan::Unknown => NumberingPlan::Unknown,
        types::NumberingPlan::Isdn => NumberingPlan::Isdn,
        types::NumberingPlan::Data => NumberingPlan::Data,
        types::NumberingPlan::Telex => NumberingPlan::Telex,
        types::NumberingPlan::LandMobile => NumberingPlan::LandMobile,
        types::NumberingPlan::National => NumberingPlan::National,
        types::NumberingPlan::Private => NumberingPlan::Private,
        types::NumberingPlan::Ermes => NumberingPlan::Ermes,
        types::NumberingPlan::Internet => NumberingPlan::Internet,
        types::NumberingPlan::Wap => NumberingPlan::Wap,
    };
    let digits = a.value.bytes().all(|b| b.is_ascii_digit());
    let fits = match ton {
        TypeOfNumber::International => digits && (7..=15).contains(&a.value.len()),
        TypeOfNumber::Alphanumeric => {
            (1..=11).contains(&a.value.len()) && a.value.bytes().all(|b| (0x20..0x7f).contains(&b))
        }
        TypeOfNumber::Unknown
        | TypeOfNumber::National
        | TypeOfNumber::NetworkSpecific
        | TypeOfNumber::Subscriber
        | TypeOfNumber::Abbreviated => digits && (1..=20).contains(&a.value.len()),
    };
    if !fits {
        return bad(
            field,
            "is no address: 7 to 15 digits (international), 1 to 11 printable ASCII (alphanumeric), else 1 to 20 digits",
        );
    }
    Ok(Address { ton, npi, value: a.value })
}

fn body(field: &str, body: types::BodyResult) -> Result<Body, Bad> {
    match body {
        types::BodyResult::Text(text) => {
            if text.len() > TEXT_CHARS_MAX && text.chars().count() > TEXT_CHARS_MAX {
                return bad(field, format_args!("has more than {TEXT_CHARS_MAX} characters (255 segments)"));
            }
            Ok(Body::Text(text))
        }
        types::BodyResult::Binary(octets) => {
            if octets.user_data_header.len() > UDH_OCTETS_MAX {
                return bad(field, format_args!("has a user data header of more than {UDH_OCTETS_MAX} octets"));
            }
            if octets.data.len() > DATA_OCTETS_MAX {
                return bad(field, format_args!("has more than {DATA_OCTETS_MAX} octets (255 segments)"));
            }
            Ok(Body::Binary {
                udh: octets.user_data_header,
                data: octets.data,
            })
        }
        types::BodyResult::Withheld(_) => bad(field, "is `withheld`; only the host withholds content"),
    }
}

fn refusal(field: &str, refusal: types::Refusal) -> Result<Refusal, Bad> {
    let code = &refusal.code;
    let fits = (1..=CODE_CHARS_MAX).contains(&code.len())
        && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && code.starts_with(|c: char| c.is_ascii_lowercase());
    if !fits {
        return bad(
            &format!("{field}.code"),
            format_args!("is not lower_snake_case of 1 to {CODE_CHARS_MAX} characters"),
        );
    }
    Ok(Refusal {
        code: refusal.code,
        reason: reason(refusal.reason),
    })
}

fn actions(answer: Vec<guest::inbound_handler::Action>) -> Result<Vec<InboundAction>, Bad> {
    use guest::inbound_handler::{Action as W, Scope};
    if answer.len() > ACTIONS_MAX {
        return bad("actions", format_args!("has {} entries, more than {ACTIONS_MAX}", answer.len()));
    }
    let scope = |s| match s {
        Scope::Number => WishScope::Number,
        Scope::Account => WishScope::Account,
        Scope::Everything => WishScope::Everything,
    };
    answer
        .into_iter()
        .map(|action| {
            Ok(match action {
                W::Reply(text) if text.chars().count() > TEXT_CHARS_MAX => {
                    return bad("reply", format_args!("has more than {TEXT_CHARS_MAX} characters (255 segments)"));
                }
                W::Reply(text) if text.is_empty() => return bad("reply", "is empty"),
                W::Reply(text) => InboundAction::Reply(text),
                W::OptOut(s) => InboundAction::OptOut(scope(s)),
                W::OptIn(s) => InboundAction::OptIn(scope(s)),
                W::Label(label) => InboundAction::Label(shortened(label, LABEL_CHARS_MAX)),
                W::Consume => InboundAction::Consume,
            })
        })
        .collect()
}

fn carrier_ids(ids: Vec<String>) -> Result<Vec<String>, Bad> {
    if ids.is_empty() || ids.len() > CARRIER_IDS_MAX {
        return bad("submit", format_args!("answered {} message ids, not 1 to {CARRIER_IDS_MAX}", ids.len()));
    }
    for id in &ids {
        carrier_id("submit", id)?;
    }
    Ok(ids)
}

fn carrier_id(field: &str, id: &str) -> Result<(), Bad> {
    if id.is_empty() || id.len() > CARRIER_ID_CHARS_MAX || !id.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return bad(
            field,
            format_args!("has a message id that is not 1 to {CARRIER_ID_CHARS_MAX} printable ASCII characters"),
        );
    }
    Ok(())
}

fn submit_error(error: guest::carrier_adapter::SubmitError) -> SubmitError {
    use guest::carrier_adapter::SubmitError as W;
    match error {
        W::Throttled(wait_ms) => SubmitError::Throttled(wait_ms),
        W::Temporary(why) => SubmitError::Temporary(reason(why)),
        W::Permanent(why) => SubmitError::Permanent(reason(why)),
        W::Unknown(why) => SubmitError::Unknown(reason(why)),
    }
}

fn callback_answer(answer: guest::carrier_adapter::CallbackAnswer) -> Result<CallbackAnswer, Bad> {
    let r = answer.response;
    if !(100..=599).contains(&r.status) {
        return bad("response.status", format_args!("is {}, not 100 to 599", r.status));
    }
    let headers_fit = r.headers.len() <= HEADERS_MAX
        && r.headers.iter().all(|(n, v)| n.len() + v.len() <= HEADER_CHARS_MAX);
    if !headers_fit {
        return bad("response.headers", format_args!("has more than {HEADERS_MAX} entries, or one of more than 8 KiB"));
    }
    if r.body.len() > CALLBACK_BODY_MAX {
        return bad("response.body", format_args!("has more than {CALLBACK_BODY_MAX} octets"));
    }
    if answer.events.len() > EVENTS_MAX {
        return bad("events", format_args!("has more than {EVENTS_MAX} entries"));
    }
    Ok(CallbackAnswer {
        response: HttpResponse {
            status: r.status,
            headers: r.headers,
            body: r.body,
        },
        events: answer.events.into_iter().map(event).collect::<Result<_, _>>()?,
    })
}

fn event(event: guest::carrier_adapter::Event) -> Result<AdapterEvent, Bad> {
    use guest::carrier_adapter::{Event as W, MessageState as S};
    Ok(match event {
        W::Receipt(r) => {
            carrier_id("events.receipt", &r.carrier_message_id)?;
            AdapterEvent::Receipt {
                carrier_message_id: r.carrier_message_id,
                state: match r.state {
                    S::Enroute => AdapterState::Enroute,
                    S::Delivered => AdapterState::Delivered,
                    S::Expired => AdapterState::Expired,
                    S::Deleted => AdapterState::Deleted,
                    S::Undeliverable => AdapterState::Undeliverable,
                    S::Accepted => AdapterState::Accepted,
                    S::Unknown => AdapterState::Unknown,
                    S::Rejected => AdapterState::Rejected,
                },
                error: r.error.map(|e| shortened(e, 64)),
                at: r.at.map(Timestamp),
            }
        }
        W::Inbound(m) => {
            if m.originator.len() > 21 || m.recipient.len() > 21 {
                return bad("events.inbound", "has an address of more than 21 characters");
            }
            if m.text.chars().count() > TEXT_CHARS_MAX {
                return bad("events.inbound.text", format_args!("has more than {TEXT_CHARS_MAX} characters"));
            }
            AdapterEvent::Inbound {
                originator: m.originator,
                recipient: m.recipient,
                text: m.text,
                at: m.at.map(Timestamp),
            }
        }
    })
}

fn reason(text: String) -> String {
    shortened(text, REASON_CHARS_MAX)
}

/// At most `chars` characters, without control characters: it will be shown to people.
fn shortened(text: String, chars: usize) -> String {
    if text.len() <= chars && !text.chars().any(super::host_calls::is_unprintable) {
        return text;
    }
    text.chars()
        .take(chars)
        .map(|c| if super::host_calls::is_unprintable(c) { ' ' } else { c })
        .collect()
}
