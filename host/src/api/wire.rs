//! What clients send: typed requests, their JSON Schemas, and the step from them to the domain's
//! types. One of the two files that know both JSON and messages; `answer.rs` is the other.

mod manner;

use std::collections::BTreeMap;

use axum::http::Uri;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;

use self::manner::{
    BinaryRequest, Content, Manner, PushRequest, encoding_schema, languages_schema,
};
use super::json::Checked;
use super::problem::{Code, FieldError, Problem};
use crate::clock::Timestamp;
use crate::domain::{AccountId, Body, MessageId, OnUnknown, Source, Tlv, TrafficClass};
use crate::pipeline::Submission;
use crate::pipeline::numbers::{Numbers, Region};
use crate::store::{OptOut, OptOutScope};

/// Submissions of one batch.
pub const BATCH_MAX: usize = 1_000;
/// Octets of one TLV's value that a client may set.
const TLV_OCTETS_MAX: usize = 254;
const URL_CHARACTERS_MAX: usize = 2_048;

/// Body of `POST /v1/messages` and `POST /v1/messages/preview`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmissionRequest {
    /// The recipient in international form, `+447700900123`, or as it is dialled in `region`.
    #[schemars(length(min = 1, max = 64))]
    pub to: String,
    /// The sender: a number, a short code, or at most 11 characters.
    #[schemars(length(min = 1, max = 64))]
    pub from: String,
    /// Where `to` and `from` are dialled if they have no country code: ISO 3166-1 alpha-2, `GB`. The
    /// account's default region where absent.
    #[serde(default)]
    #[schemars(with = "String", length(min = 2, max = 2))]
    pub region: Option<String>,
    /// One of `text`, `binary` and `push`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 39_015))]
    pub text: Option<String>,
    #[serde(default)]
    #[schemars(with = "BinaryRequest")]
    pub binary: Option<BinaryRequest>,
    #[serde(default)]
    #[schemars(with = "PushRequest")]
    pub push: Option<PushRequest>,
    /// In which encodings the text may travel: `auto`, the cheapest of the GSM default alphabet, the
    /// shift tables of `languages` and UCS-2; `gsm7` or `ucs2` alone; `national`, as `auto` with the
    /// tables of every language. The account's where absent.
    #[serde(default)]
    #[schemars(schema_with = "encoding_schema")]
    pub encoding: Option<String>,
    /// Whose national shift tables (3GPP TS 23.038) the text may use; the account's where absent.
    #[serde(default)]
    #[schemars(schema_with = "languages_schema")]
    pub languages: Vec<String>,
    /// Whether typographic marks, look-alikes and accents may be rewritten where that saves segments;
    /// the account's or the carrier's where absent.
    #[serde(default)]
    #[schemars(with = "bool")]
    pub transliterate: Option<bool>,
    /// Shown at once and not kept: `message_class` 0.
    #[serde(default)]
    #[schemars(with = "bool")]
    pub flash: Option<bool>,
    /// 0 is shown at once, 1 kept by the phone, 2 by its card, 3 for what is connected to it
    /// (3GPP TS 23.038, 4).
    #[serde(default)]
    #[schemars(with = "u8", range(max = 3))]
    pub message_class: Option<u8>,
    /// Takes the place of a message to the same recipient that the SMSC still holds (SMPP 3.4, 5.2.18).
    #[serde(default)]
    pub replace_if_present: bool,
    /// Takes the place, on the phone, of an older message of the same type from the same sender
    /// (3GPP TS 23.040, 9.2.3.9: protocol_id 0x41 to 0x47).
    #[serde(default)]
    #[schemars(with = "u8", range(min = 1, max = 7))]
    pub replace_type: Option<u8>,
    /// TP-Protocol-Identifier (SMPP 3.4, 5.2.13). 64 is shown to nobody, and not for every account.
    #[serde(default)]
    #[schemars(with = "u8")]
    pub protocol_id: Option<u8>,
    /// What the message is for; the account's default where absent.
    #[serde(default)]
    #[schemars(schema_with = "class_schema")]
    pub class: Option<String>,
    /// RFC 3339, UTC or with an offset: `2026-11-22T09:00:00Z`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 64), extend("format" = "date-time"))]
    pub send_at: Option<String>,
    /// How long the message may wait for its phone, from `send_at` on.
    #[serde(default)]
    #[schemars(with = "u64", range(min = 1, max = 31_536_000))]
    pub validity_seconds: Option<u64>,
    /// Where the message's receipts go: http or https.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 2_048), extend("format" = "uri"))]
    pub receipt_url: Option<String>,
    /// The client's own name for the message.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub reference: String,
    /// At most 20 pairs; keys of at most 64 characters, values of at most 256.
    #[serde(default)]
    #[schemars(schema_with = "metadata_schema")]
    pub metadata: BTreeMap<String, String>,
    /// Parameters for the carrier (SMPP 3.4, 5.3).
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub tlvs: Vec<TlvRequest>,
    /// What to do when a submit_sm went out and no answer came.
    #[serde(default)]
    #[schemars(schema_with = "on_unknown_schema")]
    pub on_unknown: Option<String>,
}

/// Body of `POST /v1/messages/{id}/replace`; what is absent stays as it is.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplacementRequest {
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 39_015))]
    pub text: Option<String>,
    /// RFC 3339, UTC or with an offset.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 64), extend("format" = "date-time"))]
    pub send_at: Option<String>,
    /// From `send_at` on.
    #[serde(default)]
    #[schemars(with = "u64", range(min = 1, max = 31_536_000))]
    pub validity_seconds: Option<u64>,
}

/// The same, its syntax checked.
#[derive(Clone, Debug)]
pub struct WantedReplacement {
    pub text: Option<String>,
    pub send_at: Option<Timestamp>,
    pub validity_seconds: Option<u64>,
}

impl ReplacementRequest {
    fn into_wanted(self) -> Result<WantedReplacement, Vec<FieldError>> {
        let mut errors = Vec::new();
        if self.text.is_none() && self.send_at.is_none() && self.validity_seconds.is_none() {
            errors.push(FieldError::new(
                "",
                "replaces nothing: give text, send_at or validity_seconds",
            ));
        }
        let send_at = self.send_at;
        let send_at = send_at.and_then(|text| kept(&mut errors, "/send_at", timestamp(&text)));
        match errors.is_empty() {
            true => Ok(WantedReplacement {
                text: self.text,
                send_at,
                validity_seconds: self.validity_seconds,
            }),
            false => Err(errors),
        }
    }
}

/// One TLV. `tag` is a number or hexadecimal text: 5120 or "0x1400".
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlvRequest {
    #[schemars(schema_with = "tag_schema")]
    pub tag: Value,
    /// Hexadecimal.
    #[schemars(length(max = 508))]
    pub value: String,
}

/// Body of `PUT` and `DELETE /v1/opt-outs`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptOutRequest {
    #[schemars(length(min = 1, max = 64))]
    pub recipient: String,
    #[schemars(schema_with = "scope_schema")]
    pub scope: String,
    /// The number or sender that the wish is about, with the scope `number`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 64))]
    pub number: Option<String>,
}

fn one_of(names: &[&str]) -> Schema {
    json_schema!({ "type": "string", "enum": names })
}

fn class_schema(_: &mut SchemaGenerator) -> Schema {
    one_of(&TrafficClass::ALL.map(TrafficClass::name))
}

fn on_unknown_schema(_: &mut SchemaGenerator) -> Schema {
    one_of(&[OnUnknown::Resend, OnUnknown::Fail, OnUnknown::Hold].map(OnUnknown::name))
}

fn scope_schema(_: &mut SchemaGenerator) -> Schema {
    one_of(&["number", "account", "everything"])
}

fn metadata_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 20,
        "propertyNames": { "minLength": 1, "maxLength": 64 },
        "additionalProperties": { "type": "string", "maxLength": 256 },
    })
}

fn tag_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["integer", "string"], "minimum": 0, "maximum": 65_535, "maxLength": 6 })
}

/// The compiled schemas of all requests.
#[derive(Default)]
pub struct Requests {
    pub submission: Checked<SubmissionRequest>,
    pub opt_out: Checked<OptOutRequest>,
    pub replacement: Checked<ReplacementRequest>,
}

impl Requests {
    /// A submission, its syntax checked: every broken rule is told at once.
    pub fn submission(
        &self,
        value: Value,
        numbers: &Numbers,
        account: &AccountId,
    ) -> Result<Submission, Problem> {
        self.submission
            .read(value)
            .and_then(|request| request.into_submission(numbers, account))
            .map_err(|errors| Problem::invalid(Code::InvalidRequest, errors))
    }

    pub fn replacement(&self, value: Value) -> Result<WantedReplacement, Problem> {
        self.replacement
            .read(value)
            .and_then(ReplacementRequest::into_wanted)
            .map_err(|errors| Problem::invalid(Code::InvalidRequest, errors))
    }

    pub fn opt_out(&self, value: Value) -> Result<OptOutRequest, Problem> {
        self.opt_out
            .read(value)
            .map_err(|errors| Problem::invalid(Code::InvalidRequest, errors))
    }
}

impl SubmissionRequest {
    fn into_submission(
        self,
        numbers: &Numbers,
        account: &AccountId,
    ) -> Result<Submission, Vec<FieldError>> {
        let mut errors = Vec::new();
        let region = self
            .region
            .as_deref()
            .and_then(|text| kept(&mut errors, "/region", Region::parse(text)));
        let rules = numbers.rules(account, region);
        let recipient = kept(&mut errors, "/to", numbers.recipient(&self.to, &rules));
        let originator = kept(&mut errors, "/from", numbers.originator(&self.from, &rules));
        let content = Content {
            text: self.text,
            binary: self.binary,
            push: self.push,
        };
        let body = content.into_body(&mut errors);
        let manner = Manner {
            encoding: self.encoding,
            languages: self.languages,
            transliterate: self.transliterate,
            message_class: self.message_class,
            flash: self.flash,
            replace_if_present: self.replace_if_present,
            replace_type: self.replace_type,
            protocol_id: self.protocol_id,
        };
        let sm = body.as_ref().map(|(body, data_coding)| {
            let is_text = matches!(body, Body::Text(_));
            manner.into_parameters(is_text, *data_coding, &mut errors)
        });
        let send_at = self
            .send_at
            .and_then(|text| kept(&mut errors, "/send_at", timestamp(&text)));
        let receipt_url = self
            .receipt_url
            .and_then(|url| kept(&mut errors, "/receipt_url", web_address(url)));
        let tlvs = tlvs_of(self.tlvs, &mut errors);
        let (Some(recipient), Some(originator), Some((body, _)), Some(sm), true) =
            (recipient, originator, body, sm, errors.is_empty())
        else {
            return Err(errors);
        };
        Ok(Submission {
            originator,
            recipient,
            body,
            class: self.class.as_deref().and_then(TrafficClass::from_name),
            send_at,
            validity_seconds: self.validity_seconds,
            receipt_url,
            reference: self.reference,
            metadata: self.metadata.into_iter().collect(),
            tlvs,
            sm,
            source: Source::Http,
            on_unknown: self
                .on_unknown
                .as_deref()
                .and_then(OnUnknown::from_name)
                .unwrap_or(OnUnknown::Resend),
        })
    }
}

/// RFC 3339 to milliseconds.
pub fn timestamp(text: &str) -> Result<Timestamp, String> {
    const RULE: &str = "is no RFC 3339 time such as 2026-11-22T09:00:00Z";
    let parsed: jiff::Timestamp = text.parse().map_err(|_| RULE.to_owned())?;
    let millis =
        u64::try_from(parsed.as_millisecond()).map_err(|_| "lies before 1970".to_owned())?;
    Ok(Timestamp(millis))
}

/// Milliseconds to RFC 3339, UTC, always with three decimals.
pub fn rfc3339(at: Timestamp) -> String {
    i64::try_from(at.millis())
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .map_or_else(
            || "9999-12-31T23:59:59.999Z".to_owned(),
            |t| format!("{t:.3}"),
        )
}

/// A place in a list, opaque to clients: URL-safe base64 of a version octet and the last id.
pub fn cursor_of(id: MessageId) -> String {
    use base64::Engine as _;
    let mut octets = vec![1];
    octets.extend(id.0.to_be_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(octets)
}

pub fn cursor_from(text: &str) -> Option<MessageId> {
    use base64::Engine as _;
    let octets = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(text)
        .ok()?;
    let (1, id) = octets.split_first().map(|(version, id)| (*version, id))? else {
        return None;
    };
    id.try_into()
        .ok()
        .map(|id| MessageId(u128::from_be_bytes(id)))
}

/// The same for the opt-out registry, whose order is its own: the scope and recipient of the last.
pub fn opt_out_cursor(last: &OptOut) -> String {
    use base64::Engine as _;
    let (kind, name) = match &last.scope {
        OptOutScope::Number(number) => ('n', number.as_str()),
        OptOutScope::Account(account) => ('a', account.as_str()),
        OptOutScope::Everything => ('e', ""),
    };
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .encode(format!("{kind}{}:{name}", last.recipient))
}

pub fn opt_out_from(cursor: &str) -> Option<OptOut> {
    use base64::Engine as _;
    let octets = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()?;
    let text = String::from_utf8(octets).ok()?;
    let (kind, rest) = text.split_at_checked(1)?;
    let (recipient, name) = rest.split_once(':')?;
    let scope = match kind {
        "n" => OptOutScope::Number(name.to_owned()),
        "a" => OptOutScope::Account(AccountId::from(name)),
        "e" => OptOutScope::Everything,
        _ => return None,
    };
    Some(OptOut {
        scope,
        recipient: recipient.to_owned(),
        at: Timestamp(0),
        source: String::new(),
    })
}

fn kept<T, E: std::fmt::Display>(
    errors: &mut Vec<FieldError>,
    pointer: &str,
    result: Result<T, E>,
) -> Option<T> {
    result
        .map_err(|error| errors.push(FieldError::new(pointer, error.to_string())))
        .ok()
}

fn hex(text: &str) -> Result<Vec<u8>, &'static str> {
    const RULE: &str = "is not hexadecimal: two digits for each octet";
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return Err(RULE);
    }
    let digit = |c: u8| {
        char::from(c)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    digits
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect::<Option<Vec<u8>>>()
        .ok_or(RULE)
}

/// An absolute http or https address with a host and without credentials.
fn web_address(url: String) -> Result<String, &'static str> {
    let parsed: Uri = url.parse().map_err(|_| "is no URL")?;
    if !matches!(parsed.scheme_str(), Some("http" | "https")) {
        return Err("is neither http:// nor https://");
    }
    match parsed.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err("holds credentials; receipts are signed instead")
        }
        Some(authority) if !authority.host().is_empty() && url.len() <= URL_CHARACTERS_MAX => {
            Ok(url)
        }
        _ => Err("has no host"),
    }
}

fn tlvs_of(requests: Vec<TlvRequest>, errors: &mut Vec<FieldError>) -> Vec<Tlv> {
    let mut tlvs: Vec<Tlv> = Vec::with_capacity(requests.len());
    for (i, request) in requests.into_iter().enumerate() {
        let tag = kept(errors, &format!("/tlvs/{i}/tag"), tag_of(&request.tag));
        let value = kept(errors, &format!("/tlvs/{i}/value"), hex(&request.value));
        let (Some(tag), Some(value)) = (tag, value) else {
            continue;
        };
        if value.len() > TLV_OCTETS_MAX {
            let detail = format!("has {} octets; at most {TLV_OCTETS_MAX}", value.len());
            errors.push(FieldError::new(format!("/tlvs/{i}/value"), detail));
        } else if tlvs.iter().any(|t| t.tag == tag) {
            errors.push(FieldError::new(
                format!("/tlvs/{i}/tag"),
                format!("0x{tag:04x} stands twice"),
            ));
        } else {
            tlvs.push(Tlv { tag, value });
        }
    }
    tlvs
}

fn tag_of(value: &Value) -> Result<u16, &'static str> {
    let tag = match value {
        Value::Number(number) => number.as_u64().and_then(|n| u16::try_from(n).ok()),
        Value::String(text) => text
            .strip_prefix("0x")
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u16::from_str_radix(digits, 16).ok()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    tag.ok_or("is no tag: a number from 0 to 65535, or hexadecimal text such as \"0x1400\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Submission, Vec<FieldError>> {
        let numbers = Numbers::new([]).unwrap();
        let read = Requests::default().submission(value, &numbers, &AccountId::from("acme"));
        read.map_err(|problem| {
            assert_eq!(problem.status.as_u16(), 400);
            assert_eq!(problem.body.code, "invalid_request");
            problem.body.errors
        })
    }

    fn with(field: &str, value: Value) -> Value {
        let mut request = json!({ "to": "+447700900123", "from": "Acme", "text": "hello" });
        request[field] = value;
        request
    }

    /// Pointers of the broken rules.
    fn broken(value: Value) -> Vec<String> {
        let mut all: Vec<_> = read(value)
            .expect_err("accepted")
            .into_iter()
            .map(|e| e.pointer)
            .collect();
        all.sort();
        all
    }

    #[test]
    fn the_smallest_submission() {
        let submission =
            read(json!({ "to": "+44 7700 900123", "from": "60777", "text": "hi" })).unwrap();
        assert_eq!(submission.recipient.value, "447700900123");
        assert_eq!(submission.body, Body::Text("hi".to_owned()));
        assert_eq!(
            (submission.class, submission.on_unknown),
            (None, OnUnknown::Resend)
        );
    }

    #[test]
    fn the_largest_submission() {
        let submission = read(json!({
            "to": "447700900123", "from": "+447700900999",
            "binary": { "udh": "0605040B8423F0", "data": "00ff" },
            "class": "otp", "send_at": "2026-11-22T10:00:00+01:00", "validity_seconds": 60,
            "receipt_url": "https://example.com/hook?x=1", "reference": "order-1",
            "metadata": { "b": "2", "a": "1" },
            "tlvs": [{ "tag": 5120, "value": "31" }, { "tag": "0x1401", "value": "" }],
            "on_unknown": "hold",
        }))
        .unwrap();
        let udh = vec![0x06, 0x05, 0x04, 0x0B, 0x84, 0x23, 0xF0];
        assert_eq!(
            submission.body,
            Body::Binary {
                udh,
                data: vec![0, 255]
            }
        );
        assert_eq!(
            submission.send_at.map(rfc3339).as_deref(),
            Some("2026-11-22T09:00:00.000Z")
        );
        assert_eq!(submission.class, Some(TrafficClass::Otp));
        assert_eq!(submission.on_unknown, OnUnknown::Hold);
        let tags: Vec<u16> = submission.tlvs.iter().map(|t| t.tag).collect();
        assert_eq!(tags, [0x1400, 0x1401]);
        assert_eq!(submission.metadata[0], ("a".to_owned(), "1".to_owned()));
    }

    #[test]
    fn null_counts_as_absent() {
        assert!(read(with("send_at", Value::Null)).is_ok());
        assert_eq!(broken(with("to", Value::Null)), ["/to"]);
    }

    #[test]
    fn each_broken_rule_is_named_where_it_is() {
        let long = |n: usize| json!("x".repeat(n));
        let cases = [
            ("to", json!("0044 7700"), "/to"),
            ("to", json!("+44 77OO 900123"), "/to"),
            ("to", json!(447_700_900_123_u64), "/to"),
            ("to", json!(""), "/to"),
            ("from", json!("MuchTooLongName"), "/from"),
            ("from", json!("Acmé"), "/from"),
            ("text", json!(""), "/text"),
            ("text", json!(5), "/text"),
            ("text", long(39_016), "/text"),
            ("txet", json!("hello"), "/txet"),
            ("a/b", json!(1), "/a~1b"),
            ("binary", json!({ "data": "00" }), ""),
            ("class", json!("otpp"), "/class"),
            ("send_at", json!("tomorrow"), "/send_at"),
            ("send_at", json!("2026-11-22T10:00:00"), "/send_at"),
            ("send_at", json!("1969-11-22T10:00:00Z"), "/send_at"),
            ("send_at", json!("2026-02-30T10:00:00Z"), "/send_at"),
            ("validity_seconds", json!(0), "/validity_seconds"),
            ("validity_seconds", json!(-1), "/validity_seconds"),
            ("validity_seconds", json!(1.5), "/validity_seconds"),
            ("validity_seconds", json!("60"), "/validity_seconds"),
            ("receipt_url", json!("ftp://example.com/"), "/receipt_url"),
            ("receipt_url", json!("/relative"), "/receipt_url"),
            (
                "receipt_url",
                json!("https://user:pw@example.com/"),
                "/receipt_url",
            ),
            (
                "receipt_url",
                json!("https://exa mple.com/"),
                "/receipt_url",
            ),
            ("receipt_url", json!("javascript:alert(1)"), "/receipt_url"),
            ("reference", long(129), "/reference"),
            ("metadata", json!({ "k": 1 }), "/metadata/k"),
            ("metadata", json!({ "k": "x".repeat(257) }), "/metadata/k"),
            ("metadata", json!([]), "/metadata"),
            (
                "tlvs",
                json!([{ "tag": 65_536, "value": "" }]),
                "/tlvs/0/tag",
            ),
            (
                "tlvs",
                json!([{ "tag": "1400", "value": "" }]),
                "/tlvs/0/tag",
            ),
            (
                "tlvs",
                json!([{ "tag": "0x+1", "value": "" }]),
                "/tlvs/0/tag",
            ),
            ("tlvs", json!([{ "tag": 1, "value": "0" }]), "/tlvs/0/value"),
            (
                "tlvs",
                json!([{ "tag": 1, "value": "" }, { "tag": 1, "value": "" }]),
                "/tlvs/1/tag",
            ),
            ("tlvs", json!([{ "tag": 1 }]), "/tlvs/0/value"),
            ("on_unknown", json!("retry"), "/on_unknown"),
        ];
        for (field, value, pointer) in cases {
            assert_eq!(
                broken(with(field, value.clone())),
                [pointer],
                "{field}: {value}"
            );
        }
    }

    #[test]
    fn all_broken_rules_are_told_at_once() {
        let request = json!({ "from": 7, "text": "", "class": "x", "extra": 1 });
        assert_eq!(
            broken(request),
            ["/class", "/extra", "/from", "/text", "/to"]
        );
        let request = json!({ "to": "12", "from": "", "text": "a" });
        assert_eq!(broken(request), ["/from"]);
        let request = json!({ "to": "12", "from": "é", "binary": { "data": "0g" } });
        assert_eq!(broken(request), ["/binary/data", "/from", "/to"]);
    }

    #[test]
    fn metadata_has_bounds() {
        let many: BTreeMap<String, String> =
            (0..21).map(|i| (i.to_string(), String::new())).collect();
        assert_eq!(broken(with("metadata", json!(many))), ["/metadata"]);
        assert_eq!(
            broken(with("metadata", json!({ "k".repeat(65): "" }))),
            ["/metadata"]
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for value in [json!([]), json!("x"), json!(1), Value::Null] {
            assert_eq!(broken(value), [""]);
        }
    }

    #[test]
    fn an_error_never_quotes_a_whole_novel() {
        let errors = read(with("class", json!("x".repeat(100_000)))).unwrap_err();
        assert!(errors[0].detail.chars().count() <= 301);
    }

    #[test]
    fn times_are_written_in_utc_with_milliseconds() {
        assert_eq!(rfc3339(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            rfc3339(Timestamp(1_800_000_000_123)),
            "2027-01-15T08:00:00.123Z"
        );
        assert_eq!(rfc3339(Timestamp::MAX), "9999-12-31T23:59:59.999Z");
        assert_eq!(
            timestamp("2027-01-15T08:00:00.123Z"),
            Ok(Timestamp(1_800_000_000_123))
        );
    }

    proptest::proptest! {
        #[test]
        fn a_cursor_comes_back_as_it_went(id: u128) {
            proptest::prop_assert_eq!(cursor_from(&cursor_of(MessageId(id))), Some(MessageId(id)));
        }

        #[test]
        fn an_opt_outs_cursor_comes_back_as_it_went(recipient in "[0-9]{7,15}", name in "[a-z:0-9]{0,11}") {
            for scope in [OptOutScope::Number(name.clone()), OptOutScope::Account(AccountId::from(&*name)), OptOutScope::Everything] {
                let last = OptOut { scope, recipient: recipient.clone(), at: Timestamp(0), source: String::new() };
                proptest::prop_assert_eq!(opt_out_from(&opt_out_cursor(&last)), Some(last));
            }
        }

        /// A stranger's text is a cursor only where it reads as one of ours.
        #[test]
        fn what_is_no_cursor_is_none(text in "\\PC{0,40}") {
            if let Some(id) = cursor_from(&text) {
                proptest::prop_assert_eq!(cursor_of(id), text);
            }
        }
    }
}
