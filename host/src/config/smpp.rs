//! The section of an SMPP carrier: what its operator writes. What it comes to is `app/smpp.rs`'s.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Secret;
use super::text::{CarrierText, MultipartName};

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SmppSection {
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
    /// `host:port` of the SMSC.
    pub address: String,
    pub system_id: String,
    pub password: Secret,
    #[serde(default)]
    pub system_type: String,
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
    #[serde(default = "defaults::reconnect_min")]
    #[schemars(range(min = 10, max = 600_000))]
    pub reconnect_min_ms: u64,
    #[serde(default = "defaults::reconnect_max")]
    #[schemars(range(min = 10, max = 3_600_000))]
    pub reconnect_max_ms: u64,
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
