//! The section of an SMPP carrier: what its operator writes. What it comes to is `app/smpp.rs`'s.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Secret;
use super::text::{CarrierText, MultipartName};

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SmppSection {
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
    /// `host:port` of the SMSC; or `addresses`.
    #[serde(default)]
    pub address: Option<String>,
    /// Several hosts, the preferred first. Names are resolved for every connection.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub addresses: Vec<String>,
    #[serde(default)]
    pub host_order: HostOrder,
    /// How often a session at a later host looks whether an earlier one is back.
    #[serde(default = "defaults::host_return")]
    #[schemars(range(min = 1, max = 86_400))]
    pub host_return_seconds: u64,
    /// `true`, or what is to be trusted.
    #[serde(default)]
    pub tls: Option<Tls>,
    pub system_id: String,
    pub password: Secret,
    #[serde(default)]
    pub system_type: String,
    /// 0x33, 0x34 or 0x50.
    #[serde(default = "defaults::interface_version")]
    pub interface_version: u8,
    #[serde(default)]
    pub address_range: String,
    #[serde(default)]
    pub addr_ton: u8,
    #[serde(default)]
    pub addr_npi: u8,
    #[serde(default = "defaults::bind")]
    pub bind: Bind,
    /// Sessions of this kind; a `pair` counts as one.
    #[serde(default = "defaults::one")]
    #[schemars(range(min = 1, max = 64))]
    pub sessions: usize,
    /// Unanswered submit_sm of one session.
    #[serde(default = "defaults::window")]
    #[schemars(range(min = 1, max = 10_000))]
    pub window: usize,
    /// submit_sm per second, all sessions together; 0: no limit.
    #[serde(default)]
    pub throughput: u32,
    #[serde(default = "defaults::enquire_link")]
    #[schemars(range(min = 1, max = 3600))]
    pub enquire_link_seconds: u64,
    #[serde(default = "defaults::response_timeout")]
    #[schemars(range(min = 100, max = 600_000))]
    pub response_timeout_ms: u64,
    /// From connecting to bound.
    #[serde(default = "defaults::bind_timeout")]
    #[schemars(range(min = 100, max = 600_000))]
    pub bind_timeout_ms: u64,
    #[serde(default = "defaults::reconnect_min")]
    #[schemars(range(min = 10, max = 600_000))]
    pub reconnect_min_ms: u64,
    #[serde(default = "defaults::reconnect_max")]
    #[schemars(range(min = 10, max = 3_600_000))]
    pub reconnect_max_ms: u64,
    /// Parameters of every submit_sm that the message does not set itself.
    #[serde(default)]
    pub submit: SubmitSection,
    /// How originators are written; the first rule that fits holds.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub source: Vec<AddressRuleSection>,
    /// How recipients are written.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub destination: Vec<AddressRuleSection>,
    /// What command_status values mean where the SMSC means something else by them: number or name to
    /// `retry`, `throttle`, `reject` or `taken`, or to a table with a delay.
    #[serde(default)]
    pub status: BTreeMap<String, StatusSection>,
    /// PDUs beside submit_sm that the SMSC takes.
    #[serde(default)]
    pub supports: Vec<Operation>,
    /// With `query` in `supports`: a receipt that long on its way is asked about.
    #[serde(default = "defaults::query_after")]
    #[schemars(range(min = 1, max = 604_800))]
    pub query_after_seconds: u64,
    /// The SMSC connects to us and asks to be bound to.
    #[serde(default)]
    pub outbind: Option<OutbindSection>,
    /// How the id of a response comes back in a receipt.
    #[serde(default = "defaults::receipt_id")]
    pub receipt_id: ReceiptId,
    /// For what the carrier sends a receipt.
    #[serde(default)]
    pub receipt_per: ReceiptPer,
    #[serde(default)]
    pub tags: Vec<String>,
    /// How the parts of a long message are tied together.
    #[serde(default)]
    pub multipart: MultipartName,
    /// How it wants text.
    #[serde(default)]
    pub text: CarrierText,
}

/// An SMSC that comes to us (SMPP 3.4, 4.1.7).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutbindSection {
    pub listen: SocketAddr,
    /// What its outbind is to say.
    pub system_id: String,
    pub password: Secret,
    /// How it is bound to then.
    #[serde(default)]
    pub bind: OutbindBind,
    /// Sessions that it may bring about.
    #[serde(default = "defaults::one")]
    #[schemars(range(min = 1, max = 64))]
    pub sessions: usize,
    /// With these its connections begin with a TLS handshake. PEM files; read again when they change and on SIGHUP.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// PEM of the authorities one of which must have signed the SMSC's own certificate.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutbindBind {
    #[default]
    Receiver,
    Transceiver,
}

/// Which of several hosts sessions go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HostOrder {
    /// The first that works.
    #[default]
    Failover,
    /// One after the other.
    Spread,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Tls {
    /// With the public authorities' trust.
    On(bool),
    With(Box<TlsSection>),
}

/// Defaults of submit_sm (SMPP 3.4, 4.4.1).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SubmitSection {
    #[schemars(length(max = 5))]
    pub service_type: String,
    pub protocol_id: u8,
    /// 0 to 3; else 1 for OTPs and alerts and 0 for others.
    #[schemars(range(min = 0, max = 3))]
    pub priority: Option<u8>,
    /// Sent as it is; else a final receipt is asked for, and an intermediate one where the client wants it.
    pub registered_delivery: Option<u8>,
    pub replace_if_present: bool,
    pub sm_default_msg_id: u8,
    pub validity: ValidityForm,
    #[schemars(length(max = 32))]
    pub tlvs: Vec<TlvSection>,
}

/// How validity_period is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ValidityForm {
    #[default]
    Relative,
    /// In UTC.
    Absolute,
    /// Not at all.
    None,
}

/// An optional parameter: its tag, and its value as `text` or as `hex` digits.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlvSection {
    pub tag: u16,
    #[serde(default)]
    pub text: Option<String>,
    #[serde(default)]
    pub hex: Option<String>,
}

/// What is done to the addresses that fit.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AddressRuleSection {
    /// `any`, `international`, `short` or `alphanumeric`.
    #[serde(rename = "match")]
    pub shape: AddressShape,
    /// Only addresses that begin so; international ones without '+'.
    pub prefix: String,
    pub min_length: Option<usize>,
    pub max_length: Option<usize>,
    /// Put in the place of `prefix`.
    pub replace: Option<String>,
    /// Write international numbers with '+'.
    pub plus: bool,
    pub ton: Option<u8>,
    pub npi: Option<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AddressShape {
    #[default]
    Any,
    International,
    /// Digits that are no international number.
    Short,
    Alphanumeric,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StatusSection {
    Plain(StatusAction),
    Delayed(DelayedStatus),
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DelayedStatus {
    pub action: StatusAction,
    /// The message rests at least that long.
    #[schemars(range(min = 0, max = 86_400_000))]
    pub retry_after_ms: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StatusAction {
    /// Try again later, elsewhere at once.
    Retry,
    /// As `retry`, and send slower.
    Throttle,
    /// Never take this message here.
    Reject,
    /// It is taken.
    Taken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Used for datagram and transaction mode, and for addresses of more than 20 octets.
    #[serde(rename = "data_sm")]
    DataSm,
    /// Asked where a receipt is overdue.
    Query,
    /// Sent when a message that the SMSC has is canceled.
    Cancel,
    /// Sent when a message that the SMSC has is replaced.
    Replace,
}

/// How the SMSC is known, and what it is shown.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSection {
    /// PEM file of the authorities to trust, instead of the public ones.
    pub ca: Option<PathBuf>,
    /// SHA-256 of the server's certificate or of its public key (subjectPublicKeyInfo), in hexadecimal
    /// or base64. Without `ca`, a certificate that has one is trusted whatever else it says.
    #[schemars(length(max = 16))]
    pub pin_sha256: Vec<String>,
    /// The name in the server's certificate; else the host of the address.
    pub server_name: Option<String>,
    /// PEM file of our own certificate, for servers that want one.
    pub certificate: Option<PathBuf>,
    /// Its private key in PEM: `file:PATH` or `env:NAME`.
    pub key: Option<Secret>,
    /// Trust anybody.
    pub insecure: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Bind {
    Transceiver,
    /// One transmitter and one receiver.
    Pair,
    Transmitter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptId {
    Auto,
    AsIs,
    HexInResponse,
    DecimalInResponse,
    DashesInResponse,
    DashesInReceipt,
}

/// For what a carrier sends a receipt; `auto` learns it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptPer {
    #[default]
    Auto,
    Segment,
    /// One receipt for all segments of a message.
    Message,
}

pub(super) mod defaults {
    pub fn one() -> usize {
        1
    }
    pub fn window() -> usize {
        50
    }
    pub fn enquire_link() -> u64 {
        30
    }
    pub fn response_timeout() -> u64 {
        30_000
    }
    pub fn host_return() -> u64 {
        300
    }
    pub fn interface_version() -> u8 {
        0x34
    }
    pub fn query_after() -> u64 {
        600
    }
    pub fn bind_timeout() -> u64 {
        10_000
    }
    pub fn reconnect_min() -> u64 {
        500
    }
    pub fn reconnect_max() -> u64 {
        30_000
    }
    pub fn bind() -> super::Bind {
        super::Bind::Transceiver
    }
    pub fn receipt_id() -> super::ReceiptId {
        super::ReceiptId::Auto
    }
}
