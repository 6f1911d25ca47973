//! What an operator may say about an HTTP carrier: the shape of the configuration, its defaults and the words that
//! become its JSON Schema. It does not check templates or pointers; the modules that use them compile and check them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An HTTP carrier, described: how a message becomes a request, what its answer means, and what its call-backs say.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The request that hands over a text message.
    pub request: RequestConfig,
    /// The request that hands over a binary message. Without it, binary messages are refused for good.
    pub binary_request: Option<RequestConfig>,
    /// Values of your own for templates: `account` here is `{var.account}` there. Secrets do not belong here.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// What the carrier calls an alphabet in `{encoding}`: `gsm7`, `ucs2`, `octets`. Our own word where it is not named.
    #[serde(default)]
    pub encoding_names: BTreeMap<Encoding, String>,
    /// What the carrier calls a traffic class in `{class}`. Our own word where it is not named.
    #[serde(default)]
    pub class_names: BTreeMap<Class, String>,
    /// What the carrier's answer means.
    #[serde(default)]
    pub response: ResponseConfig,
    /// What the carrier's call-backs say. Without it, call-backs are refused.
    pub callback: Option<CallbackConfig>,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    Gsm7,
    Ucs2,
    Octets,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Otp,
    Transactional,
    Promotional,
    Alert,
}

/// An HTTP request as a template. Placeholders stand in `{braces}`; `{{` and `}}` are braces themselves;
/// `{secret:NAME}` is filled in by the host.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestConfig {
    /// HTTP method.
    #[serde(default = "post")]
    pub method: Method,
    /// Absolute URL. Placeholders are percent-encoded; none may stand in the host name, and none that carries free
    /// text in the path. Secrets may stand in its query only.
    pub url: String,
    /// Parameters added to the URL's query, percent-encoded.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Header fields. Placeholders that carry free text are not allowed here.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body and how it is encoded. Its content type is set unless `headers` names one.
    pub body: Option<BodyConfig>,
    /// Leave out a parameter or an object member whose placeholders are all empty.
    #[serde(default = "yes")]
    pub omit_empty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Get,
    Post,
    Put,
}

/// A request's body.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BodyConfig {
    /// Any JSON. Placeholders are filled in inside its strings and nowhere else, so that no message can change its
    /// structure. A string that is one placeholder with `:number`, as in `"{segments:number}"`, becomes a number.
    Json(serde_json::Value),
    /// Form fields (`application/x-www-form-urlencoded`), percent-encoded.
    Form(BTreeMap<String, String>),
}

/// Where a value stands in an answer or a call-back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// In the JSON body, by JSON Pointer (RFC 6901). `*` in place of a name or an index takes all of them.
    Json(String),
    /// In the header field of this name.
    Header(String),
    /// In the form field of this name or, if there is none, in the URL's query parameter of this name.
    Field(String),
    /// In a plain-text body: what follows these words up to the end of the line. The empty string takes the first
    /// line.
    TextAfter(String),
}

/// Something that a value must be.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Where the value stands.
    pub at: Source,
    /// The values of which it must be one, upper and lower case being the same. Empty: any value, if it is there.
    #[serde(default)]
    pub one_of: Vec<String>,
    /// The condition holds when it would otherwise not.
    #[serde(default)]
    pub not: bool,
}

/// What the carrier's answer means.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResponseConfig {
    /// HTTP statuses that say the message was taken: `200`, `200-299`, `2xx`.
    pub success_status: Vec<String>,
    /// What else must hold, all of it. Where `*` finds several values, each of them must fit.
    pub success_when: Vec<Condition>,
    /// Where the carrier's message id stands: one, or with `*` one for each segment in order. Without it, our own id
    /// is the carrier's.
    pub id: Option<Source>,
    /// What it means when the message was taken but no id is found: `unknown`, which follows the message's
    /// `on_unknown`, or `use_own`, which takes our own id for the carrier's.
    pub missing_id: MissingId,
    /// What failures mean. The first rule that fits counts.
    pub errors: Vec<ErrorRule>,
    /// What a failure means that no rule fits and whose HTTP status is one of success.
    pub otherwise: ErrorKind,
    /// Where the carrier explains a failure.
    pub reason: Option<Source>,
    /// Milliseconds to wait after throttling where neither rule nor `Retry-After` says.
    pub retry_after_ms: u32,
    /// Milliseconds to wait at most, whatever `Retry-After` says.
    pub max_retry_after_ms: u32,
}

impl Default for ResponseConfig {
    fn default() -> Self {
        Self {
            success_status: vec!["2xx".to_owned()],
            success_when: Vec::new(),
            id: None,
            missing_id: MissingId::Unknown,
            errors: Vec::new(),
            otherwise: ErrorKind::Permanent,
            reason: None,
            retry_after_ms: 1_000,
            max_retry_after_ms: 600_000,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissingId {
    Unknown,
    UseOwn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Too fast: the carrier is left alone for a while.
    Throttled,
    /// Trying again helps.
    Temporary,
    /// Trying again does not help.
    Permanent,
    /// The carrier may or may not have taken the message.
    Unknown,
}

/// When an answer is which failure.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorRule {
    /// HTTP statuses that fit: `429`, `500-599`, `5xx`. Empty: all.
    #[serde(default)]
    pub status: Vec<String>,
    /// What else must hold, all of it. Where `*` finds several values, one that fits is enough.
    #[serde(default)]
    pub when: Vec<Condition>,
    /// What it is.
    pub kind: ErrorKind,
    /// Milliseconds to wait when throttled, where there is no `Retry-After`.
    pub retry_after_ms: Option<u32>,
}

/// What the carrier's call-backs say.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallbackConfig {
    /// The URL under which the carrier reaches us, for `{callback_url}`.
    pub url: Option<String>,
    /// Proof that the call-back is the carrier's. Without it, whoever knows the URL can report receipts.
    pub verify: Option<VerifyConfig>,
    /// Delivery receipts.
    pub receipt: Option<ReceiptConfig>,
    /// Mobile-originated messages.
    pub inbound: Option<InboundConfig>,
    /// What the carrier is answered.
    #[serde(default)]
    pub answer: AnswerConfig,
}

/// A shared secret that comes with each call-back.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyConfig {
    /// Where the secret stands: a header field, or a field of the query or the form.
    pub at: Source,
    /// SHA-256 of the secret, in hexadecimal, so that the secret itself stands in no configuration:
    /// `printf %s SECRET | sha256sum`.
    #[schemars(regex(pattern = r"^[0-9a-fA-F]{64}$"))]
    pub sha256: String,
}

/// How a call-back reports what became of a message.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiptConfig {
    /// JSON Pointer to the array of reports, where one call-back brings several. Pointers below are relative to one
    /// report. Empty: the whole body.
    #[serde(default)]
    pub each: String,
    /// It is a receipt only when all of this holds.
    #[serde(default)]
    pub when: Vec<Condition>,
    /// Where the carrier's message id stands.
    pub id: Source,
    /// Where the status stands.
    pub status: Source,
    /// What the carrier's statuses mean, upper and lower case being the same.
    pub statuses: BTreeMap<String, State>,
    /// What a status means that `statuses` does not name.
    #[serde(default = "unknown_state")]
    pub other_status: OtherStatus,
    /// Where the error code stands.
    pub error: Option<Source>,
    /// Where the time stands.
    pub at: Option<TimeSource>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Enroute,
    Delivered,
    Expired,
    Deleted,
    Undeliverable,
    Accepted,
    Unknown,
    Rejected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OtherStatus {
    /// A receipt whose state is unknown.
    Unknown,
    /// No receipt; the carrier is answered as usual.
    Ignore,
}

/// How a call-back brings a mobile-originated message.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InboundConfig {
    /// JSON Pointer to the array of messages, where one call-back brings several. Pointers below are relative to one
    /// message. Empty: the whole body.
    #[serde(default)]
    pub each: String,
    /// It is a mobile-originated message only when all of this holds.
    #[serde(default)]
    pub when: Vec<Condition>,
    /// Where the handset's number stands.
    pub from: Source,
    /// Where the number that was texted stands.
    pub to: Source,
    /// Where the text stands.
    pub text: Source,
    /// Where the time stands.
    pub at: Option<TimeSource>,
}

/// Where a time stands, and how it is written.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeSource {
    /// Where it stands.
    pub source: Source,
    /// How it is written.
    #[serde(default)]
    pub format: TimeFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
    /// RFC 3339 and what resembles it: `2026-06-15T12:00:00Z`, `2026-06-15 12:00:00`, `2026-06-15T12:00:00.000+0200`.
    /// UTC where there is no offset.
    #[default]
    Rfc3339,
    /// RFC 5322: `Mon, 15 Jun 2026 12:00:00 +0000`.
    Rfc5322,
    /// Seconds since 1970.
    UnixSeconds,
    /// Milliseconds since 1970.
    UnixMilliseconds,
    /// `2606151200` or `260615120000`, as in SMPP receipts, UTC.
    Compact,
}

/// What the carrier is answered.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AnswerConfig {
    /// HTTP status.
    #[schemars(range(min = 200, max = 299))]
    pub status: u16,
    /// Content type of the body, which is sent only where there is one.
    pub content_type: String,
    /// The body as it is.
    pub body: String,
}

impl Default for AnswerConfig {
    fn default() -> Self {
        Self {
            status: 200,
            content_type: "text/plain".to_owned(),
            body: String::new(),
        }
    }
}

fn post() -> Method {
    Method::Post
}

fn yes() -> bool {
    true
}

fn unknown_state() -> OtherStatus {
    OtherStatus::Unknown
}
