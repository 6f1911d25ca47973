//! What a case hands to a hook: a message, a text from a handset or a carrier's call-back, written as
//! short as possible and filled in as the server would. Knows JSON and the domain, nothing of plugins' answers.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::{Value, json};

use super::world::body_octets;
use crate::api::wire;
use crate::clock::Timestamp;
use crate::domain::{
    Address, Attempt, AttemptOutcome, Body, CarrierId, Inbound, Message, MessageId, Network,
    OnUnknown, Plan, RecipientProfile, State, Tlv, TrafficClass, text,
};
use crate::pipeline::numbers::Numbers;
use crate::plugin::{CarrierView, HttpRequest};

const MESSAGE_ID: &str = "01890a5dac96774bbcceb302099a8057";
const INBOUND_ID: &str = "01890a5dac96774bbcceb302099a8058";
const VALIDITY: Duration = Duration::from_secs(48 * 3_600);

pub enum Input {
    Message {
        message: Box<Message>,
        /// None where the case names none: it is then no case for a routing policy.
        carriers: Option<Vec<CarrierView>>,
        recipient: RecipientProfile,
    },
    Inbound(Box<Inbound>),
    Callback(HttpRequest),
}

/// The fields of a case that make its input.
pub struct Given {
    pub message: Option<MessageIn>,
    pub inbound: Option<MobileOriginated>,
    pub callback: Option<Callback>,
    pub carriers: Option<Vec<Carrier>>,
    pub recipient: Option<Recipient>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageIn {
    to: String,
    #[serde(default = "from_default")]
    from: String,
    text: Option<String>,
    binary: Option<Binary>,
    id: Option<String>,
    #[serde(default = "account_default")]
    account: String,
    class: Option<String>,
    #[serde(default)]
    network: NetworkIn,
    #[serde(default)]
    reference: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    tlvs: Vec<TlvIn>,
    #[serde(default)]
    attempts: Vec<AttemptIn>,
    accepted_at: Option<String>,
    send_at: Option<String>,
    expires_at: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Binary {
    #[serde(default)]
    udh: String,
    data: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct NetworkIn {
    /// As the number tells where it is not given; null where nobody knows.
    #[serde(deserialize_with = "given")]
    country: Option<Option<String>>,
    mcc: Option<u16>,
    mnc: Option<u16>,
    ported: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlvIn {
    tag: Value,
    /// Hexadecimal.
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttemptIn {
    carrier: String,
    at: Option<String>,
    outcome: OutcomeIn,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutcomeIn {
    Sent,
    Throttled,
    TemporaryFailure(u32),
    PermanentFailure(u32),
    TimedOut,
    Unavailable,
    Undelivered(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MobileOriginated {
    from: String,
    to: String,
    text: Option<String>,
    binary: Option<Binary>,
    id: Option<String>,
    #[serde(default = "carrier_default")]
    carrier: String,
    received_at: Option<String>,
    #[serde(default)]
    opted_out: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Callback {
    #[serde(default = "post")]
    method: String,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    json: Option<Value>,
    base64: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Recipient {
    opted_out: bool,
    sent_last_day: u32,
    /// By the number's country where it is not given; null where nobody knows.
    #[serde(deserialize_with = "given")]
    utc_offset_minutes: Option<Option<i16>>,
}

/// A carrier's id, for a healthy and idle one, or all of it.
pub struct Carrier(CarrierView);

impl<'de> Deserialize<'de> for Carrier {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Carrier, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            id: String,
            #[serde(default = "yes")]
            connected: bool,
            #[serde(default)]
            queued: u32,
            #[serde(default)]
            in_flight: u32,
            #[serde(default = "headroom_default")]
            headroom: f32,
            delivered_ratio: Option<f32>,
            p50_receipt_ms: Option<u32>,
            #[serde(default)]
            tags: Vec<String>,
        }
        let long: Long = match Value::deserialize(from)? {
            Value::String(id) => serde_json::from_value(json!({ "id": id })),
            value => serde_json::from_value(value),
        }
        .map_err(D::Error::custom)?;
        Ok(Carrier(CarrierView {
            id: CarrierId::from(&*long.id),
            connected: long.connected,
            queued: long.queued,
            in_flight: long.in_flight,
            headroom: long.headroom,
            delivered_ratio: long.delivered_ratio,
            p50_receipt_ms: long.p50_receipt_ms,
            tags: long.tags,
        }))
    }
}

/// Tells a field that is null from one that is not there.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(from).map(Some)
}

fn from_default() -> String {
    "Heliograph".to_owned()
}

fn account_default() -> String {
    "acme".to_owned()
}

fn carrier_default() -> String {
    "north".to_owned()
}

fn post() -> String {
    "POST".to_owned()
}

fn yes() -> bool {
    true
}

fn headroom_default() -> f32 {
    100.0
}

/// The one input of a case; the error names the field and the rule.
pub fn of(given: Given, now: Timestamp, numbers: &Numbers) -> Result<Input, String> {
    let around = given.carriers.is_some() || given.recipient.is_some();
    match (given.message, given.inbound, given.callback) {
        (Some(message), None, None) => {
            let message = message_of(message, now, numbers).map_err(|e| format!("message.{e}"))?;
            let profile = given.recipient.unwrap_or_default();
            let offset = profile.utc_offset_minutes.unwrap_or_else(|| {
                numbers.utc_offset_minutes(&message.recipient, &message.network, now)
            });
            Ok(Input::Message {
                message: Box::new(message),
                carriers: given
                    .carriers
                    .map(|all| all.into_iter().map(|Carrier(view)| view).collect()),
                recipient: RecipientProfile {
                    opted_out: profile.opted_out,
                    utc_offset_minutes: offset,
                    sent_last_day: profile.sent_last_day,
                },
            })
        }
        (None, Some(inbound), None) if !around => inbound_of(inbound, now)
            .map(|inbound| Input::Inbound(Box::new(inbound)))
            .map_err(|e| format!("inbound.{e}")),
        (None, None, Some(callback)) if !around => callback_of(callback)
            .map(Input::Callback)
            .map_err(|e| format!("callback: {e}")),
        (None, Some(_), None) | (None, None, Some(_)) => {
            Err("carriers and recipient go with a message only".to_owned())
        }
        _ => Err("needs exactly one of message, inbound and callback".to_owned()),
    }
}

fn message_of(message: MessageIn, now: Timestamp, numbers: &Numbers) -> Result<Message, String> {
    let recipient =
        Address::international(&message.to).map_err(|e| format!("to: {:?} {e}", message.to))?;
    let originator =
        Address::originator(&message.from).map_err(|e| format!("from: {:?} {e}", message.from))?;
    let body = body_of(message.text, message.binary)?;
    let field = match body {
        Body::Text(_) => "text",
        Body::Binary { .. } => "binary",
    };
    let plan = text::plan(&body).map_err(|e| format!("{field}: {e}"))?;
    let class = match &message.class {
        None => TrafficClass::Transactional,
        Some(name) => TrafficClass::from_name(name).ok_or_else(|| {
            let known = TrafficClass::ALL.map(TrafficClass::name).join(", ");
            format!("class: {name:?} is no class; there are {known}")
        })?,
    };
    let accepted_at = time("accepted_at", message.accepted_at.as_deref(), now)?;
    let send_at = time("send_at", message.send_at.as_deref(), accepted_at)?;
    Ok(Message {
        id: id("id", message.id.as_deref(), MESSAGE_ID)?,
        account: message.account.as_str().into(),
        network: network_of(message.network, &recipient, numbers)?,
        originator,
        recipient,
        class,
        body,
        submitted_body: None,
        alphabet: plan.alphabet,
        segments: plan.segments,
        accepted_at,
        send_at,
        expires_at: time(
            "expires_at",
            message.expires_at.as_deref(),
            send_at.plus(VALIDITY),
        )?,
        reference: message.reference,
        metadata: message.metadata.into_iter().collect(),
        tlvs: message
            .tlvs
            .into_iter()
            .enumerate()
            .map(|(n, tlv)| tlv_of(tlv).map_err(|e| format!("tlvs[{n}].{e}")))
            .collect::<Result<_, _>>()?,
        receipt_url: None,
        sm: crate::domain::SmParameters::default(),
        source: crate::domain::Source::Http,
        shift: crate::domain::text::ShiftTables::default(),
        on_unknown: OnUnknown::Resend,
        duplicate_risk: false,
        state: State::Queued,
        due: None,
        plan: Plan::default(),
        hop: 0,
        attempts: message
            .attempts
            .into_iter()
            .enumerate()
            .map(|(n, a)| attempt_of(a, accepted_at).map_err(|e| format!("attempts[{n}].{e}")))
            .collect::<Result<_, _>>()?,
        parts: Vec::new(),
        failed: Vec::new(),
        decisions: Vec::new(),
        events: Vec::new(),
    })
}

fn body_of(text: Option<String>, binary: Option<Binary>) -> Result<Body, String> {
    match (text, binary) {
        (Some(text), None) => Ok(Body::Text(text)),
        (None, Some(binary)) => Ok(Body::Binary {
            udh: from_hex(&binary.udh).map_err(|e| format!("binary.udh: {e}"))?,
            data: from_hex(&binary.data).map_err(|e| format!("binary.data: {e}"))?,
        }),
        (None, None) | (Some(_), Some(_)) => {
            Err("text: needs exactly one of text and binary".to_owned())
        }
    }
}

fn network_of(
    network: NetworkIn,
    recipient: &Address,
    numbers: &Numbers,
) -> Result<Network, String> {
    let country = match network.country {
        None => numbers.network(recipient).country,
        Some(None) => None,
        Some(Some(text)) => match text.as_bytes() {
            [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Some([*a, *b]),
            _ => {
                return Err(format!(
                    "network.country: {text:?} is not two upper-case letters (ISO 3166-1)"
                ));
            }
        },
    };
    Ok(Network {
        country,
        mcc: network.mcc,
        mnc: network.mnc,
        ported: network.ported,
        source: Default::default(),
    })
}

fn tlv_of(tlv: TlvIn) -> Result<Tlv, String> {
    let hexadecimal = |text: &str| u16::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let tag = match &tlv.tag {
        Value::Number(number) => number.as_u64().and_then(|n| u16::try_from(n).ok()),
        Value::String(text) => hexadecimal(text),
        _ => None,
    };
    Ok(Tlv {
        tag: tag.ok_or("tag: is neither 0 to 65535 nor text such as \"0x1400\"")?,
        value: from_hex(&tlv.value).map_err(|e| format!("value: {e}"))?,
    })
}

fn attempt_of(attempt: AttemptIn, accepted_at: Timestamp) -> Result<Attempt, String> {
    Ok(Attempt {
        carrier: CarrierId::from(&*attempt.carrier),
        at: time("at", attempt.at.as_deref(), accepted_at)?,
        outcome: match attempt.outcome {
            OutcomeIn::Sent => AttemptOutcome::Sent,
            OutcomeIn::Throttled => AttemptOutcome::Throttled,
            OutcomeIn::TemporaryFailure(status) => AttemptOutcome::TemporaryFailure(status),
            OutcomeIn::PermanentFailure(status) => AttemptOutcome::PermanentFailure(status),
            OutcomeIn::TimedOut => AttemptOutcome::TimedOut,
            OutcomeIn::Unavailable => AttemptOutcome::Unavailable,
            OutcomeIn::Undelivered(error) => AttemptOutcome::Undelivered(error),
        },
    })
}

fn inbound_of(inbound: MobileOriginated, now: Timestamp) -> Result<Inbound, String> {
    Ok(Inbound {
        id: id("id", inbound.id.as_deref(), INBOUND_ID)?,
        carrier: CarrierId::from(&*inbound.carrier),
        originator: Address::originator(&inbound.from)
            .map_err(|e| format!("from: {:?} {e}", inbound.from))?,
        recipient: Address::originator(&inbound.to)
            .map_err(|e| format!("to: {:?} {e}", inbound.to))?,
        body: body_of(inbound.text, inbound.binary)?,
        received_at: time("received_at", inbound.received_at.as_deref(), now)?,
        opted_out: inbound.opted_out,
    })
}

fn callback_of(callback: Callback) -> Result<HttpRequest, String> {
    Ok(HttpRequest {
        method: callback.method,
        url: callback.url,
        headers: callback.headers.into_iter().collect(),
        body: body_octets(callback.body, callback.json, callback.base64)?,
    })
}

fn time(field: &str, text: Option<&str>, default: Timestamp) -> Result<Timestamp, String> {
    match text {
        None => Ok(default),
        Some(text) => wire::timestamp(text).map_err(|why| format!("{field}: {text:?} {why}")),
    }
}

fn id(field: &str, text: Option<&str>, default: &str) -> Result<MessageId, String> {
    text.unwrap_or(default)
        .parse()
        .map_err(|_| format!("{field}: is not 32 hexadecimal digits"))
}

// ---------------------------------------------------------------------------- octets as text

pub fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let rule = || "is not hexadecimal: two digits for each octet".to_owned();
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(rule());
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| {
            std::str::from_utf8(pair)
                .ok()
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .ok_or_else(rule)
        })
        .collect()
}

pub fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|e| format!("base64: {e}"))
}

/// Header fields as lines, in their order.
pub fn header_pairs(headers: &[(String, String)]) -> Value {
    headers
        .iter()
        .map(|(name, value)| Value::from(format!("{name}: {value}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(case: Value) -> Result<Message, String> {
        let numbers = Numbers::new([]).expect("no rows");
        let given: MessageIn = serde_json::from_value(case).expect("known fields");
        message_of(given, Timestamp(1_000), &numbers)
    }

    #[test]
    fn a_short_message_is_filled_in_as_the_server_would() {
        let message = message(json!({"to": "+447700900123", "text": "naïve 你好"})).expect("good");
        assert_eq!(message.network.country, Some(*b"GB"));
        assert_eq!(message.alphabet, text::Alphabet::Ucs2);
        assert_eq!((message.segments, message.send_at), (1, Timestamp(1_000)));
    }

    #[test]
    fn a_country_that_is_null_is_unknown() {
        let case =
            json!({"to": "+447700900123", "text": "x", "network": {"country": null, "mcc": 234}});
        let network = message(case).expect("good").network;
        assert_eq!((network.country, network.mcc), (None, Some(234)));
    }

    #[test]
    fn attempts_and_tlvs_are_the_contracts() {
        let message = message(json!({
            "to": "+447700900123", "binary": {"udh": "050423f40000", "data": "00ff"},
            "tlvs": [{"tag": "0x1400", "value": "31"}, {"tag": 5121, "value": ""}],
            "attempts": [
                {"carrier": "north", "outcome": {"temporary_failure": 88}},
                {"carrier": "north", "at": "2026-06-15T12:00:00Z", "outcome": "timed_out"},
            ],
        }))
        .expect("good");
        assert_eq!(
            message.tlvs[0],
            Tlv {
                tag: 0x1400,
                value: vec![0x31]
            }
        );
        assert_eq!(
            message.attempts[0].outcome,
            AttemptOutcome::TemporaryFailure(88)
        );
        assert_eq!(message.attempts[1].at, Timestamp(1_781_524_800_000));
    }

    #[test]
    fn a_bad_value_is_named() {
        let base = || json!({"to": "+447700900123", "text": "x"});
        let with = |field: &str, value: Value| {
            let mut case = base();
            case[field] = value;
            message(case).expect_err("a refusal")
        };
        assert!(with("from", json!("much too long a name")).starts_with("from:"));
        assert!(with("class", json!("vip")).contains("transactional"));
        assert!(with("network", json!({"country": "gb"})).starts_with("network.country"));
        assert!(with("tlvs", json!([{"tag": 70_000, "value": ""}])).starts_with("tlvs[0].tag"));
        assert!(with("tlvs", json!([{"tag": 1, "value": "+1"}])).starts_with("tlvs[0].value"));
        assert!(with("binary", json!({"data": "00"})).contains("exactly one"));
        assert!(with("id", json!("7")).starts_with("id:"));
    }

    #[test]
    fn a_carrier_is_an_id_or_all_of_it() {
        let carriers: Vec<Carrier> = serde_json::from_value(json!([
            "north", {"id": "south", "connected": false, "tags": ["direct"]}
        ]))
        .expect("carriers");
        assert!(carriers[0].0.connected && !carriers[1].0.connected);
        assert_eq!(carriers[1].0.tags, ["direct"]);
        let error = serde_json::from_value::<Carrier>(json!({"id": "x", "conected": true}));
        assert!(
            error
                .err()
                .is_some_and(|e| e.to_string().contains("conected"))
        );
    }
}
