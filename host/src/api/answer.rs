//! What clients get: messages, traces, previews, webhooks and lists as JSON. The other of the two
//! files that know both JSON and messages; it decides nothing.

mod rendering;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use self::rendering::RenderingView;
use super::numbers::NetworkView;
use super::wire::rfc3339;
use crate::clock::Timestamp;
use crate::domain::receipt::network_type_name;
use crate::domain::{
    Attempt, AttemptOutcome, Body, CallOutcome, Decision, Event, FailedDelivery, Hook, HookCall,
    Message, Outcome, Part, Plan, SetId, Tlv,
};
use crate::pipeline::Preview;
use crate::plugin::SetSummary;

/// Finds the plugins of a policy set by position; empty where history no longer holds the set.
pub type Sets<'a> = dyn Fn(&SetId) -> Vec<PluginRef> + 'a;

/// A plugin as a trace names it.
#[derive(Clone, Debug)]
pub struct PluginRef {
    /// The entry's name in the policy.
    pub name: String,
    pub version: String,
    pub digest: String,
    /// The hooks it serves; none where only its name was kept.
    pub hooks: Option<Vec<&'static str>>,
}

impl PluginRef {
    pub fn all(summary: &SetSummary) -> Vec<PluginRef> {
        let plugins = summary.plugins.iter().map(|p| PluginRef {
            name: p.name.clone(),
            version: p.version.clone(),
            digest: p.digest.clone(),
            hooks: Some(p.hooks.iter().map(|h| h.hook).collect()),
        });
        plugins.collect()
    }
}

/// A message in few words: the answer to a submission, and a line of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Message")]
pub struct Summary<'a> {
    pub id: String,
    pub status: &'static str,
    /// Why it is where it is.
    pub reason: &'static str,
    pub to: String,
    pub from: String,
    pub segments: u8,
    pub encoding: &'static str,
    pub class: &'static str,
    pub reference: &'a str,
    pub accepted_at: String,
    pub send_at: String,
    pub expires_at: String,
}

impl<'a> Summary<'a> {
    pub fn of(message: &'a Message) -> Summary<'a> {
        Summary {
            id: message.id.to_string(),
            status: message.state.name(),
            reason: message.reason().name(),
            to: message.recipient.to_string(),
            from: message.originator.to_string(),
            segments: message.segments,
            encoding: message.alphabet.name(),
            class: message.class.name(),
            reference: &message.reference,
            accepted_at: rfc3339(message.accepted_at),
            send_at: rfc3339(message.send_at),
            expires_at: rfc3339(message.expires_at),
        }
    }
}

/// Everything about a message.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MessageDetail")]
pub struct Detail<'a> {
    #[serde(flatten)]
    pub summary: Summary<'a>,
    pub account: &'a str,
    pub country: Option<String>,
    pub network: NetworkView,
    #[serde(flatten)]
    pub body: BodyView<'a>,
    /// What the client sent, where a hook changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submitted: Option<BodyView<'a>>,
    pub metadata: BTreeMap<&'a str, &'a str>,
    pub tlvs: Vec<TlvView>,
    pub receipt_url: Option<&'a str>,
    pub on_unknown: &'static str,
    /// An earlier copy may have reached the carrier.
    pub duplicate_risk: bool,
    /// When it is worked on next.
    pub next_attempt_at: Option<String>,
    pub route: RouteView<'a>,
    pub attempts: Vec<AttemptView<'a>>,
    /// One for each segment that a carrier took.
    pub receipts: Vec<ReceiptView<'a>>,
    /// Carriers that had it before, the first one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed_deliveries: Vec<FailedView<'a>>,
    /// Of all segments that carriers took, in millionths of the deck's currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
    pub events: Vec<EventView<'a>>,
    pub decisions: Vec<DecisionView>,
}

impl<'a> Detail<'a> {
    pub fn of(message: &'a Message, sets: &Sets<'_>) -> Detail<'a> {
        Detail {
            summary: Summary::of(message),
            account: message.account.as_str(),
            country: message
                .network
                .country
                .map(|c| c.iter().map(|b| char::from(*b)).collect()),
            network: NetworkView::of(&message.network),
            body: BodyView::of(&message.body),
            submitted: message.submitted_body.as_ref().map(BodyView::of),
            metadata: pairs(&message.metadata),
            tlvs: message.tlvs.iter().map(TlvView::of).collect(),
            receipt_url: message.receipt_url.as_deref(),
            on_unknown: message.on_unknown.name(),
            duplicate_risk: message.duplicate_risk,
            next_attempt_at: message.due.as_ref().map(|due| rfc3339(due.at)),
            route: RouteView::of(&message.plan, message.hop),
            attempts: message.attempts.iter().map(AttemptView::of).collect(),
            receipts: receipts(&message.parts),
            failed_deliveries: message.failed.iter().map(FailedView::of).collect(),
            cost_micros: cost(message),
            events: message.events.iter().map(EventView::of).collect(),
            decisions: message
                .decisions
                .iter()
                .map(|d| DecisionView::of(d, sets))
                .collect(),
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Body")]
pub enum BodyView<'a> {
    Text(&'a str),
    /// Hexadecimal.
    Binary {
        udh: String,
        data: String,
    },
}

impl<'a> BodyView<'a> {
    pub fn of(body: &'a Body) -> BodyView<'a> {
        match body {
            Body::Text(text) => BodyView::Text(text),
            Body::Binary { udh, data } => BodyView::Binary {
                udh: hex(udh),
                data: hex(data),
            },
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Tlv")]
pub struct TlvView {
    /// As `"0x1400"`.
    pub tag: String,
    pub value: String,
}

impl TlvView {
    fn of(tlv: &Tlv) -> TlvView {
        TlvView {
            tag: format!("0x{:04x}", tlv.tag),
            value: hex(&tlv.value),
        }
    }
}

/// The carriers that were chosen, in order.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Route")]
pub struct RouteView<'a> {
    pub reason: &'a str,
    pub hops: Vec<HopView<'a>>,
    /// Position of the hop in use.
    pub current: u8,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Hop")]
pub struct HopView<'a> {
    pub carrier: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Of one segment, in millionths of the deck's currency.
    pub price_micros: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tlvs: Vec<TlvView>,
}

impl<'a> RouteView<'a> {
    fn of(plan: &'a Plan, current: u8) -> RouteView<'a> {
        RouteView {
            reason: &plan.reason,
            hops: plan
                .hops
                .iter()
                .map(|hop| HopView {
                    carrier: hop.carrier.as_str(),
                    from: hop.originator.as_ref().map(ToString::to_string),
                    price_micros: hop.price_micros,
                    tlvs: hop.tlvs.iter().map(TlvView::of).collect(),
                })
                .collect(),
            current,
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Attempt")]
pub struct AttemptView<'a> {
    pub carrier: &'a str,
    pub at: String,
    pub outcome: &'static str,
    /// command_status (SMPP 3.4, 5.1.3) or HTTP status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u32>,
    /// The receipt's `err`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
}

impl<'a> AttemptView<'a> {
    fn of(attempt: &'a Attempt) -> AttemptView<'a> {
        let (outcome, status, error) = match &attempt.outcome {
            AttemptOutcome::Sent => ("sent", None, None),
            AttemptOutcome::Throttled => ("throttled", None, None),
            AttemptOutcome::TemporaryFailure(status) => ("temporary_failure", Some(*status), None),
            AttemptOutcome::PermanentFailure(status) => ("permanent_failure", Some(*status), None),
            AttemptOutcome::TimedOut => ("timed_out", None, None),
            AttemptOutcome::Unavailable => ("unavailable", None, None),
            AttemptOutcome::Undelivered(error) => ("undelivered", None, Some(error.as_str())),
        };
        AttemptView {
            carrier: attempt.carrier.as_str(),
            at: rfc3339(attempt.at),
            outcome,
            status,
            error,
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Receipt")]
pub struct ReceiptView<'a> {
    /// From 1 on.
    pub segment: usize,
    pub carrier: &'a str,
    pub carrier_message_id: &'a str,
    pub status: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub error: &'a str,
    /// Whose code that is (SMPP 3.4, 5.3.2.31): `gsm`, `ansi-136`, `is-95`, `reserved`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_type: Option<&'static str>,
    pub done_at: Option<String>,
}

/// A carrier that had the message before, and reported that it failed.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "FailedDelivery")]
pub struct FailedView<'a> {
    pub carrier: Option<&'a str>,
    /// Of all its segments, where the policy knew it.
    pub price_micros: Option<u64>,
    pub receipts: Vec<ReceiptView<'a>>,
}

impl<'a> FailedView<'a> {
    fn of(delivery: &'a FailedDelivery) -> FailedView<'a> {
        FailedView {
            carrier: delivery.carrier().map(|c| c.as_str()),
            price_micros: delivery.price_micros,
            receipts: receipts(&delivery.parts),
        }
    }
}

/// What all segments cost that carriers took, where the policy knew every price.
fn cost(message: &Message) -> Option<u64> {
    let now = match message.parts.is_empty() {
        true => 0,
        false => message.price_of_parts()?,
    };
    let earlier = message.failed.iter().map(|d| d.price_micros);
    let earlier: u64 = earlier.sum::<Option<u64>>()?;
    (now > 0 || earlier > 0).then(|| now.saturating_add(earlier))
}

pub(super) fn receipts(parts: &[Part]) -> Vec<ReceiptView<'_>> {
    let views = parts.iter().enumerate().map(|(i, part)| ReceiptView {
        segment: i + 1,
        carrier: part.carrier.as_str(),
        carrier_message_id: &part.carrier_message_id,
        status: part.state.name(),
        error: &part.error,
        network_type: part.network_type.map(network_type_name),
        done_at: part.done_at.map(rfc3339),
    });
    views.collect()
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Event")]
pub struct EventView<'a> {
    pub at: String,
    pub status: &'static str,
    pub reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carrier: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_set: Option<String>,
}

impl<'a> EventView<'a> {
    fn of(event: &'a Event) -> EventView<'a> {
        EventView {
            at: rfc3339(event.at),
            status: event.state.name(),
            reason: event.reason.name(),
            carrier: event.carrier.as_ref().map(|c| c.as_str()),
            detail: &event.detail,
            policy_set: event.set.map(|set| set.to_string()),
        }
    }
}

/// One decision by one policy set.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Decision")]
pub struct DecisionView {
    pub at: String,
    pub phase: &'static str,
    pub policy_set: String,
    pub calls: Vec<CallView>,
}

/// What one plugin said, or the host itself.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HookCall")]
pub struct CallView {
    /// The entry's name in the policy; `host` for the host's own decisions.
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Time in the plugin and at its border.
    pub us: f64,
}

impl DecisionView {
    pub fn of(decision: &Decision, sets: &Sets<'_>) -> DecisionView {
        let plugins = sets(&decision.set);
        let mut reached = Hook::Enrichment;
        DecisionView {
            at: rfc3339(decision.at),
            phase: decision.phase.name(),
            policy_set: decision.set.to_string(),
            calls: decision
                .calls
                .iter()
                .map(|call| CallView::of(call, &plugins, &mut reached))
                .collect(),
        }
    }
}

impl CallView {
    fn of(call: &HookCall, plugins: &[PluginRef], reached: &mut Hook) -> CallView {
        let view = CallView {
            name: "host".to_owned(),
            hook: None,
            version: None,
            digest: None,
            outcome: call.outcome.name(),
            why: call.why.clone(),
            us: f64::from(call.nanos / 10) / 100.0,
        };
        if call.entry == HookCall::HOST {
            return view;
        }
        let Some(plugin) = plugins.get(usize::from(call.entry)) else {
            // History no longer holds the set: the position is what is left.
            return CallView {
                name: format!("entry {}", call.entry),
                ..view
            };
        };
        let hook = hook_of(plugin, call.outcome, *reached);
        *reached = hook.unwrap_or(*reached);
        CallView {
            name: plugin.name.clone(),
            hook: hook.map(Hook::name),
            version: Some(plugin.version.clone()),
            digest: Some(plugin.digest.clone()),
            ..view
        }
    }
}

/// Which hook gave this answer: one that the plugin serves, that can answer so, and that comes no
/// earlier than the one before. None where what is known leaves a choice.
fn hook_of(plugin: &PluginRef, outcome: CallOutcome, reached: Hook) -> Option<Hook> {
    let mut possible = [
        Hook::Enrichment,
        Hook::ContentFilter,
        Hook::ComplianceCheck,
        Hook::RoutingPolicy,
    ]
    .into_iter()
    .filter(|hook| *hook >= reached && may_answer(*hook, outcome))
    .filter(|hook| {
        plugin
            .hooks
            .as_ref()
            .is_none_or(|hooks| hooks.contains(&hook.name()))
    });
    let first = possible.next();
    match plugin.hooks {
        Some(_) => first,
        None => first.filter(|_| possible.next().is_none()),
    }
}

/// Hooks run in the order of the path, so that with the answer the hook is known too.
fn may_answer(hook: Hook, outcome: CallOutcome) -> bool {
    match outcome {
        CallOutcome::Replace | CallOutcome::Hold | CallOutcome::Drop => hook == Hook::ContentFilter,
        CallOutcome::Enrich => hook == Hook::Enrichment,
        CallOutcome::Pass => matches!(
            hook,
            Hook::Enrichment | Hook::ContentFilter | Hook::RoutingPolicy
        ),
        CallOutcome::Refuse => matches!(hook, Hook::ContentFilter | Hook::RoutingPolicy),
        CallOutcome::Allow | CallOutcome::Amend | CallOutcome::Deny => {
            hook == Hook::ComplianceCheck
        }
        CallOutcome::Defer => matches!(hook, Hook::ComplianceCheck | Hook::RoutingPolicy),
        CallOutcome::Send => hook == Hook::RoutingPolicy,
        CallOutcome::Fault | CallOutcome::Skipped | CallOutcome::Host => true,
    }
}

/// What would happen to a submission.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Preview")]
pub struct PreviewView<'a> {
    /// `send`, `refuse`, `hold`, `drop`, `defer` or `unavailable`.
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    pub to: String,
    pub from: String,
    pub country: Option<String>,
    pub network: NetworkView,
    pub class: &'static str,
    pub encoding: &'static str,
    pub segments: u8,
    /// As the hooks left it.
    #[serde(flatten)]
    pub body: BodyView<'a>,
    pub send_at: String,
    pub expires_at: String,
    pub route: RouteView<'a>,
    /// Of all segments on the first hop, where the policy knows it.
    pub price_micros: Option<u64>,
    /// Exactly as it would travel.
    pub rendering: RenderingView<'a>,
    pub policy_set: String,
    pub decisions: Vec<DecisionView>,
}

impl<'a> PreviewView<'a> {
    pub fn of(preview: &'a Preview) -> PreviewView<'a> {
        let message = &preview.message;
        let plugins = PluginRef::all(preview.set.summary());
        let (outcome, code, reason, until) = match &preview.outcome {
            Outcome::Send => ("send", None, None, None),
            Outcome::Refuse(refusal) => {
                ("refuse", Some(&*refusal.code), Some(&*refusal.reason), None)
            }
            Outcome::OptedOut => (
                "refuse",
                Some("opted_out"),
                Some("the recipient asked for no more messages"),
                None,
            ),
            Outcome::Hold(reason) => ("hold", None, Some(&**reason), None),
            Outcome::Drop(reason) => ("drop", None, Some(&**reason), None),
            Outcome::Defer { until, reason } => {
                ("defer", None, Some(&**reason), Some(rfc3339(*until)))
            }
            Outcome::Unavailable(reason) => ("unavailable", None, Some(&**reason), None),
        };
        let price = message.plan.hops.first().and_then(|hop| hop.price_micros);
        PreviewView {
            outcome,
            code,
            reason,
            until,
            to: message.recipient.to_string(),
            from: message.originator.to_string(),
            country: message
                .network
                .country
                .map(|c| c.iter().map(|b| char::from(*b)).collect()),
            network: NetworkView::of(&message.network),
            class: message.class.name(),
            encoding: message.alphabet.name(),
            segments: message.segments,
            body: BodyView::of(&message.body),
            send_at: rfc3339(message.send_at),
            expires_at: rfc3339(message.expires_at),
            route: RouteView::of(&message.plan, message.hop),
            price_micros: price.map(|p| p.saturating_mul(u64::from(message.segments))),
            rendering: RenderingView::of(&message.body, &preview.segmented, &preview.style),
            policy_set: preview.set.id().to_string(),
            decisions: message
                .decisions
                .iter()
                .map(|d| DecisionView::of(d, &|_| plugins.clone()))
                .collect(),
        }
    }
}

/// JSON of one of our own types: strings, numbers and lists, which cannot fail.
pub fn json<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    match serde_json::to_writer(&mut out, value) {
        Ok(()) => out,
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            b"{}".to_vec()
        }
    }
}

pub(super) fn pairs(list: &[(String, String)]) -> BTreeMap<&str, &str> {
    list.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
}

fn hex(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    octets
        .iter()
        .fold(String::with_capacity(octets.len() * 2), |mut out, octet| {
            let _ = write!(out, "{octet:02x}");
            out
        })
}

/// When something happened, for lists that other floors describe in their own words.
pub fn time(at: Timestamp) -> serde_json::Value {
    rfc3339(at).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::tests_support::message;
    use crate::domain::receipt::Report;
    use crate::domain::{CarrierId, PartState, Phase, Reason, State};
    use serde_json::{Value, json};

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn written<T: Serialize>(value: &T) -> Value {
        serde_json::from_slice(&super::json(value)).unwrap()
    }

    fn delivered() -> Message {
        let mut m = message(NOW);
        m.reference = "order-1".to_owned();
        m.metadata = vec![("k".to_owned(), "v".to_owned())];
        m.parts = vec![Part {
            carrier: CarrierId::from("north"),
            carrier_message_id: "0A".to_owned(),
            state: PartState::Enroute,
            error: String::new(),
            network_type: None,
            done_at: None,
        }];
        m.enter(NOW, State::Enroute, Reason::TakenByCarrier, "");
        m.apply_receipt(
            NOW.plus(std::time::Duration::from_secs(2)),
            0,
            &Report::of(PartState::Delivered),
        );
        m
    }

    #[test]
    fn the_answer_to_a_submission_has_the_promised_members() {
        let m = message(NOW);
        let json = written(&Summary::of(&m));
        assert_eq!(json["id"], m.id.to_string());
        assert_eq!(json["to"], "+447700900123");
        assert_eq!(json["status"], "queued");
        assert_eq!(json["encoding"], "gsm7");
        assert_eq!(json["send_at"], "2027-01-15T08:00:00.000Z");
    }

    #[test]
    fn a_detail_shows_text_receipts_and_events() {
        let m = delivered();
        let json = written(&Detail::of(&m, &|_| Vec::new()));
        assert_eq!(json["text"], "Your parcel arrives today.");
        assert_eq!(json["status"], "delivered");
        assert_eq!(json["receipts"][0]["carrier_message_id"], "0A");
        assert_eq!(json["receipts"][0]["status"], "delivered");
        assert_eq!(json["events"][2]["reason"], "receipt");
        assert!(json.get("submitted").is_none());
    }

    #[test]
    fn a_body_that_hooks_changed_is_shown_with_the_clients_own() {
        let mut m = message(NOW);
        m.submitted_body = Some(std::mem::replace(&mut m.body, Body::Text("new".to_owned())));
        let json = written(&Detail::of(&m, &|_| Vec::new()));
        assert_eq!(json["text"], "new");
        assert_eq!(json["submitted"]["text"], "Your parcel arrives today.");
        m.body = Body::Binary {
            udh: vec![1],
            data: vec![0xFF],
        };
        let json = written(&Detail::of(&m, &|_| Vec::new()));
        assert_eq!(json["binary"], json!({ "udh": "01", "data": "ff" }));
    }

    #[test]
    fn a_decision_of_a_forgotten_set_still_tells_what_was_decided() {
        let decision = Decision {
            set: SetId([1; 16]),
            at: NOW,
            phase: Phase::Admission,
            calls: vec![
                HookCall {
                    entry: 3,
                    outcome: CallOutcome::Pass,
                    why: String::new(),
                    nanos: 1_234,
                },
                HookCall {
                    entry: HookCall::HOST,
                    outcome: CallOutcome::Host,
                    why: "no_route".to_owned(),
                    nanos: 0,
                },
            ],
        };
        let json = written(&DecisionView::of(&decision, &|_| Vec::new()));
        assert_eq!(json["calls"][0]["name"], "entry 3");
        assert_eq!(json["calls"][0]["us"], 1.23);
        assert_eq!(json["calls"][1]["name"], "host");
        assert_eq!(json["policy_set"], "01".repeat(16));
    }

    #[test]
    fn the_hook_follows_from_the_plugin_the_answer_and_the_order() {
        let plugin = |hooks: Option<&[Hook]>| PluginRef {
            name: "guard".to_owned(),
            version: "1.0.0".to_owned(),
            digest: "sha256:00".to_owned(),
            hooks: hooks.map(|h| h.iter().map(|h| h.name()).collect()),
        };
        let both = plugin(Some(&[Hook::ContentFilter, Hook::RoutingPolicy]));
        let (filter, check, route) = (
            Hook::ContentFilter,
            Hook::ComplianceCheck,
            Hook::RoutingPolicy,
        );
        assert_eq!(hook_of(&both, CallOutcome::Pass, filter), Some(filter));
        assert_eq!(hook_of(&both, CallOutcome::Pass, check), Some(route));
        assert_eq!(
            hook_of(&plugin(None), CallOutcome::Allow, filter),
            Some(check)
        );
        assert_eq!(hook_of(&plugin(None), CallOutcome::Pass, filter), None);
        assert_eq!(
            hook_of(&plugin(None), CallOutcome::Pass, route),
            Some(route)
        );
    }
}
