//! What a plugin answered, and what it did on the way, as one canonical JSON object: the same decision
//! is always the same text. Fields that say nothing are left out. Also finds where two of them differ.

use base64::Engine as _;
use serde_json::{Map, Value, json};

use super::input::header_pairs;
use crate::api::wire::rfc3339;
use crate::domain::{
    Address, Body, Enriched, Hop, InboundAction, Network, Refusal, Routing, Ruling, Tlv,
    TypeOfNumber, Verdict, WishScope,
};
use crate::plugin::{AdapterEvent, AdapterState, CallbackAnswer, Fault, SubmitError};

pub fn enriched(enriched: &Enriched) -> Value {
    match enriched {
        Enriched::Pass => json!({ "outcome": "pass" }),
        Enriched::Found {
            network,
            labels,
            reason,
        } => {
            let mut told = json!({ "outcome": "enrich", "reason": reason });
            if let Some(network) = network {
                told["network"] = network_told(network);
            }
            if !labels.is_empty() {
                let labels: Map<String, Value> = labels
                    .iter()
                    .map(|(name, value)| (name.clone(), json!(value)))
                    .collect();
                told["labels"] = Value::Object(labels);
            }
            told
        }
    }
}

fn network_told(network: &Network) -> Value {
    let mut told = Map::new();
    if let Some(country) = network.country {
        let letters: String = country.iter().copied().map(char::from).collect();
        told.insert("country".to_owned(), json!(letters));
    }
    for (name, code) in [("mcc", network.mcc), ("mnc", network.mnc)] {
        if let Some(code) = code {
            told.insert(name.to_owned(), json!(code));
        }
    }
    if network.ported {
        told.insert("ported".to_owned(), json!(true));
    }
    Value::Object(told)
}

pub fn verdict(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Pass => json!({ "outcome": "pass" }),
        Verdict::Replace { body, reason } => {
            json!({ "outcome": "replace", "body": message_body(body), "reason": reason })
        }
        Verdict::Refuse(refusal) => refused("refuse", refusal),
        Verdict::Hold(reason) => json!({ "outcome": "hold", "reason": reason }),
        Verdict::Drop(reason) => json!({ "outcome": "drop", "reason": reason }),
    }
}

pub fn ruling(ruling: &Ruling) -> Value {
    match ruling {
        Ruling::Allow => json!({ "outcome": "allow" }),
        Ruling::Amend { body, reason } => {
            json!({ "outcome": "amend", "body": message_body(body), "reason": reason })
        }
        Ruling::Defer { until, reason } => {
            json!({ "outcome": "defer", "until": rfc3339(*until), "reason": reason })
        }
        Ruling::Deny(refusal) => refused("deny", refusal),
    }
}

pub fn routing(routing: &Routing) -> Value {
    match routing {
        Routing::Send(plan) => {
            let hops: Vec<Value> = plan.hops.iter().map(hop).collect();
            json!({ "outcome": "send", "hops": hops, "reason": plan.reason })
        }
        Routing::Defer { until, reason } => {
            json!({ "outcome": "defer", "until": rfc3339(*until), "reason": reason })
        }
        Routing::Refuse(refusal) => refused("refuse", refusal),
        Routing::Pass => json!({ "outcome": "pass" }),
    }
}

pub fn submitted(answer: &Result<Vec<String>, SubmitError>) -> Value {
    match answer {
        Ok(ids) => json!({ "outcome": "sent", "ids": ids }),
        Err(SubmitError::Throttled(wait_ms)) => {
            json!({ "outcome": "throttled", "wait_ms": wait_ms })
        }
        Err(SubmitError::Temporary(reason)) => {
            json!({ "outcome": "temporary", "reason": reason })
        }
        Err(SubmitError::Permanent(reason)) => {
            json!({ "outcome": "permanent", "reason": reason })
        }
        Err(SubmitError::Unknown(reason)) => json!({ "outcome": "unknown", "reason": reason }),
    }
}

pub fn called_back(answer: &Result<CallbackAnswer, String>) -> Value {
    match answer {
        Err(reason) => json!({ "outcome": "refused", "reason": reason }),
        Ok(answer) => {
            let mut response = json!({ "status": answer.response.status });
            if !answer.response.headers.is_empty() {
                response["headers"] = header_pairs(&answer.response.headers);
            }
            if let Some((name, body)) = body_value(&answer.response.body) {
                response[name] = body;
            }
            let events: Vec<Value> = answer.events.iter().map(event).collect();
            json!({ "outcome": "answered", "response": response, "events": events })
        }
    }
}

pub fn received(actions: &[InboundAction]) -> Value {
    let actions: Vec<Value> = actions
        .iter()
        .map(|action| match action {
            InboundAction::Reply(text) => json!({ "reply": text }),
            InboundAction::OptOut(scope) => json!({ "opt_out": scope_name(*scope) }),
            InboundAction::OptIn(scope) => json!({ "opt_in": scope_name(*scope) }),
            InboundAction::Label(label) => json!({ "label": label }),
            InboundAction::Consume => json!("consume"),
        })
        .collect();
    json!({ "actions": actions })
}

/// The kind alone: what a runtime says of a trap may change with its version, and what a plugin did
/// before it was stopped depends on the machine.
pub fn fault(fault: &Fault) -> Value {
    json!({ "fault": fault.kind() })
}

/// Adds what the plugin did beside answering.
pub fn with_effects(
    mut decision: Value,
    state: Map<String, Value>,
    http: Vec<Value>,
    log: Vec<String>,
) -> Value {
    if !state.is_empty() {
        decision["state"] = Value::Object(state);
    }
    if !http.is_empty() {
        decision["http"] = Value::from(http);
    }
    if !log.is_empty() {
        decision["log"] = Value::from(log);
    }
    decision
}

/// A few words of it, for a line.
pub fn summary(decision: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value, name: fn(&Value) -> String| {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    if let Some(kind) = decision["fault"].as_str() {
        return format!("fault {kind}");
    }
    if decision["refused"].is_array() {
        return "refused by the host".to_owned();
    }
    if decision["actions"].is_array() {
        let actions = list(&decision["actions"], |action| match action.as_object() {
            Some(object) => object.keys().cloned().collect(),
            None => action.as_str().unwrap_or_default().to_owned(),
        });
        return match actions.is_empty() {
            true => "no action".to_owned(),
            false => actions,
        };
    }
    let detail = match text(&decision["outcome"]).as_str() {
        "refuse" | "deny" => text(&decision["code"]),
        "send" => list(&decision["hops"], |hop| {
            hop["carrier"].as_str().unwrap_or_default().to_owned()
        }),
        "sent" => list(&decision["ids"], |id| {
            id.as_str().unwrap_or_default().to_owned()
        }),
        "defer" => text(&decision["until"]),
        "throttled" => format!("{} ms", decision["wait_ms"]),
        "answered" => format!(
            "{}, {} events",
            decision["response"]["status"],
            decision["events"].as_array().map_or(0, Vec::len)
        ),
        _ => String::new(),
    };
    format!("{} {detail}", text(&decision["outcome"]))
        .trim_end()
        .to_owned()
}

fn refused(outcome: &str, refusal: &Refusal) -> Value {
    json!({ "outcome": outcome, "code": refusal.code, "reason": refusal.reason })
}

fn message_body(body: &Body) -> Value {
    match body {
        Body::Text(text) => json!({ "text": text }),
        Body::Binary { udh, data } => {
            json!({ "binary": { "udh": hex(udh), "data": hex(data) } })
        }
    }
}

fn hop(hop: &Hop) -> Value {
    let mut value = json!({ "carrier": hop.carrier.as_str() });
    if let Some(originator) = &hop.originator {
        value["originator"] = json!(address(originator));
    }
    if let Some(price) = hop.price_micros {
        value["price_micros"] = json!(price);
    }
    if !hop.tlvs.is_empty() {
        value["tlvs"] = hop.tlvs.iter().map(tlv).collect();
    }
    value
}

fn tlv(tlv: &Tlv) -> Value {
    json!({ "tag": tlv.tag, "value": hex(&tlv.value) })
}

/// As people write it: `+` before an international number.
fn address(address: &Address) -> String {
    match address.ton {
        TypeOfNumber::International => format!("+{}", address.value),
        TypeOfNumber::Unknown
        | TypeOfNumber::National
        | TypeOfNumber::NetworkSpecific
        | TypeOfNumber::Subscriber
        | TypeOfNumber::Alphanumeric
        | TypeOfNumber::Abbreviated => address.value.clone(),
    }
}

fn scope_name(scope: WishScope) -> &'static str {
    match scope {
        WishScope::Number => "number",
        WishScope::Account => "account",
        WishScope::Everything => "everything",
    }
}

fn event(event: &AdapterEvent) -> Value {
    let (name, mut value, at) = match event {
        AdapterEvent::Receipt {
            carrier_message_id,
            state,
            error,
            at,
        } => {
            let mut value =
                json!({ "carrier_message_id": carrier_message_id, "state": state_name(*state) });
            if let Some(error) = error {
                value["error"] = json!(error);
            }
            ("receipt", value, at)
        }
        AdapterEvent::Inbound {
            originator,
            recipient,
            text,
            at,
        } => {
            let value = json!({ "from": originator, "to": recipient, "text": text });
            ("inbound", value, at)
        }
    };
    if let Some(at) = at {
        value["at"] = json!(rfc3339(*at));
    }
    json!({ name: value })
}

fn state_name(state: AdapterState) -> &'static str {
    match state {
        AdapterState::Enroute => "enroute",
        AdapterState::Delivered => "delivered",
        AdapterState::Expired => "expired",
        AdapterState::Deleted => "deleted",
        AdapterState::Undeliverable => "undeliverable",
        AdapterState::Accepted => "accepted",
        AdapterState::Unknown => "unknown",
        AdapterState::Rejected => "rejected",
    }
}

/// A body under the name of the form that shows it best: `json`, `body` or `base64`.
pub fn body_value(body: &[u8]) -> Option<(&'static str, Value)> {
    if body.is_empty() {
        return None;
    }
    // A bare number or word is text as well, and text says more of it.
    match serde_json::from_slice::<Value>(body) {
        Ok(json @ (Value::Object(_) | Value::Array(_))) => Some(("json", json)),
        _ => match octets_value(body) {
            text @ Value::String(_) => Some(("body", text)),
            other => Some(("base64", other["base64"].clone())),
        },
    }
}

/// Text where the octets are some, else base64.
pub fn octets_value(octets: &[u8]) -> Value {
    match std::str::from_utf8(octets) {
        Ok(text)
            if !text.contains(|c: char| c.is_control() && c != '\n' && c != '\r' && c != '\t') =>
        {
            Value::from(text)
        }
        _ => json!({ "base64": base64::engine::general_purpose::STANDARD.encode(octets) }),
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// One place where the decision is not the expected one.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// As in `hops[1].carrier`; empty for the whole.
    pub path: String,
    pub expected: Option<Value>,
    pub actual: Option<Value>,
}

pub fn differences(expected: &Value, actual: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(String::new(), Some(expected), Some(actual), &mut found);
    found
}

fn compare(
    path: String,
    expected: Option<&Value>,
    actual: Option<&Value>,
    found: &mut Vec<Difference>,
) {
    match (expected, actual) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                let dot = if path.is_empty() { "" } else { "." };
                compare(
                    format!("{path}{dot}{name}"),
                    old.get(name),
                    new.get(name),
                    found,
                );
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for n in 0..old.len().max(new.len()) {
                compare(format!("{path}[{n}]"), old.get(n), new.get(n), found);
            }
        }
        (expected, actual) if expected == actual => {}
        (expected, actual) => found.push(Difference {
            path,
            expected: expected.cloned(),
            actual: actual.cloned(),
        }),
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |value: &Option<Value>| match value {
            Some(value) => value.to_string(),
            None => "nothing".to_owned(),
        };
        let path = match self.path.as_str() {
            "" => "decision",
            path => path,
        };
        write!(
            f,
            "{path}: {} -> {}",
            shown(&self.expected),
            shown(&self.actual)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_by_their_place() {
        let expected =
            json!({"outcome": "send", "hops": [{"carrier": "north"}, {"carrier": "south"}]});
        let actual = json!({"outcome": "send", "hops": [{"carrier": "west"}], "log": ["x"]});
        let told: Vec<String> = differences(&expected, &actual)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            told,
            [
                r#"hops[0].carrier: "north" -> "west""#,
                r#"hops[1]: {"carrier":"south"} -> nothing"#,
                r#"log: nothing -> ["x"]"#,
            ]
        );
        assert!(differences(&expected, &expected).is_empty());
    }

    #[test]
    fn what_says_nothing_is_left_out() {
        let plain = Hop {
            carrier: "north".into(),
            originator: None,
            price_micros: None,
            tlvs: Vec::new(),
        };
        assert_eq!(hop(&plain), json!({"carrier": "north"}));
        let bare = with_effects(verdict(&Verdict::Pass), Map::new(), Vec::new(), Vec::new());
        assert_eq!(bare, json!({"outcome": "pass"}));
    }

    #[test]
    fn a_body_is_shown_in_the_form_that_says_most() {
        assert_eq!(body_value(b""), None);
        assert_eq!(body_value(b"{\"a\":1}"), Some(("json", json!({"a": 1}))));
        assert_eq!(body_value(b"12"), Some(("body", json!("12"))));
        assert_eq!(body_value(&[0, 255]), Some(("base64", json!("AP8="))));
    }

    #[test]
    fn a_summary_is_a_few_words() {
        for (decision, words) in [
            (json!({"outcome": "pass"}), "pass"),
            (json!({"outcome": "deny", "code": "cap"}), "deny cap"),
            (json!({"fault": "timeout"}), "fault timeout"),
            (json!({"actions": []}), "no action"),
            (
                json!({"actions": [{"label": "x"}, "consume"]}),
                "label, consume",
            ),
            (
                json!({"outcome": "send", "hops": [{"carrier": "north"}, {"carrier": "south"}]}),
                "send north, south",
            ),
        ] {
            assert_eq!(summary(&decision), words);
        }
    }
}
