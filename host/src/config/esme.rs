//! SMPP for the customers' applications: where the server listens, and the ESMEs of each account.
//! Carriers, which we bind to, are next door.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Secret;

/// `[smpp]`: without an address to listen on there is no SMPP server.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SmppServerSection {
    /// Without TLS: for private networks, and clients that know no better.
    pub listen: Option<SocketAddr>,
    pub tls_listen: Option<SocketAddr>,
    /// PEM: the certificate with its chain, and its key. Needed for `tls_listen`; read again when
    /// they change and on SIGHUP.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// PEM: the authorities one of which must have signed each client's certificate.
    pub client_ca: Option<PathBuf>,
    /// Connections of one listener, bound or not.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_connections: usize,
    /// Connections that have not bound yet, in all and of one address.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_unbound: usize,
    #[schemars(range(min = 1, max = 10_000))]
    pub max_unbound_per_ip: usize,
    /// Time from connecting to bound.
    #[schemars(range(min = 100, max = 60_000))]
    pub bind_timeout_ms: u64,
    /// Silence after which a client is asked whether it is there.
    #[schemars(range(min = 1, max = 3_600))]
    pub enquire_link_seconds: u64,
    /// Time for a client's answers: deliver_sm_resp, enquire_link_resp, unbind_resp.
    #[schemars(range(min = 100, max = 600_000))]
    pub response_timeout_ms: u64,
    /// A session without a message in this time is unbound; 0: never.
    #[schemars(range(min = 0, max = 604_800))]
    pub inactivity_seconds: u64,
    /// A receipt or mobile-originated message that no session takes in this time is a dead letter.
    #[schemars(range(min = 60, max = 2_592_000))]
    pub give_up_seconds: u64,
}

impl Default for SmppServerSection {
    fn default() -> SmppServerSection {
        SmppServerSection {
            listen: None,
            tls_listen: None,
            certificate: None,
            key: None,
            client_ca: None,
            max_connections: 4_096,
            max_unbound: 1_024,
            max_unbound_per_ip: 64,
            bind_timeout_ms: 5_000,
            enquire_link_seconds: 30,
            response_timeout_ms: 30_000,
            inactivity_seconds: 0,
            give_up_seconds: 72 * 3_600,
        }
    }
}

/// One `[[accounts.smpp]]`: an application of the account that speaks SMPP.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EsmeSection {
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[!-~]+$"))]
    pub system_id: String,
    pub password: Secret,
    /// Addresses and blocks that it may come from: `192.0.2.0/24`. None: from anywhere.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub allowed_ips: Vec<String>,
    /// Sessions at once.
    #[serde(default = "defaults::max_binds")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_binds: usize,
    /// The client's requests without an answer, of one session.
    #[serde(default = "defaults::window")]
    #[schemars(range(min = 1, max = 4_096))]
    pub window: usize,
    /// deliver_sm without an answer, of one session.
    #[serde(default = "defaults::deliver_window")]
    #[schemars(range(min = 1, max = 4_096))]
    pub deliver_window: usize,
    /// Submissions per second, all sessions together; beside the account's own.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub throughput: Option<u32>,
    /// How long a submission in forward mode waits for its carrier's answer.
    #[serde(default = "defaults::forward")]
    #[schemars(range(min = 1, max = 600))]
    pub forward_seconds: u64,
    #[serde(default = "defaults::bind")]
    #[schemars(length(min = 1))]
    pub bind: Vec<BindModeName>,
    /// What a bind must name as its system_type.
    #[serde(default)]
    pub system_type: Option<String>,
    /// The sender of submissions that name none.
    #[serde(default)]
    pub originator: Option<String>,
    /// The only senders that it may use. None: any.
    #[serde(default)]
    #[schemars(length(max = 10_000))]
    pub originators: Vec<String>,
    /// `otp`, `transactional`, `promotional` or `alert`; the account's default where absent.
    #[serde(default)]
    pub class: Option<String>,
    /// What its data_coding 0 means.
    #[serde(default = "defaults::gsm7")]
    pub default_alphabet: AlphabetName,
    #[serde(default = "defaults::receipts")]
    pub receipts: ReceiptFormName,
    /// Whether the account's mobile-originated messages go to it.
    #[serde(default)]
    pub inbound: bool,
    /// How those go that are longer than a short message.
    #[serde(default = "defaults::udh")]
    pub long_inbound: LongInboundName,
    /// The optional parameter in which the client sends its idempotency keys: a vendor's tag.
    #[serde(default)]
    #[schemars(range(min = 0x1400, max = 0x3FFF))]
    pub idempotency_tag: Option<u16>,
    /// sm_default_msg_id ("1" to "254") to text.
    #[serde(default)]
    pub default_messages: BTreeMap<String, String>,
    /// Distribution lists for submit_multi: name to numbers.
    #[serde(default)]
    pub lists: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BindModeName {
    Transmitter,
    Receiver,
    Transceiver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlphabetName {
    Gsm7,
    Latin1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptFormName {
    TextAndTlvs,
    Text,
    Tlvs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LongInboundName {
    Udh,
    Payload,
}

mod defaults {
    use super::{AlphabetName, BindModeName, LongInboundName, ReceiptFormName};

    pub fn max_binds() -> usize {
        4
    }
    pub fn window() -> usize {
        100
    }
    pub fn deliver_window() -> usize {
        10
    }
    pub fn forward() -> u64 {
        10
    }
    pub fn bind() -> Vec<BindModeName> {
        vec![
            BindModeName::Transmitter,
            BindModeName::Receiver,
            BindModeName::Transceiver,
        ]
    }
    pub fn gsm7() -> AlphabetName {
        AlphabetName::Gsm7
    }
    pub fn receipts() -> ReceiptFormName {
        ReceiptFormName::TextAndTlvs
    }
    pub fn udh() -> LongInboundName {
        LongInboundName::Udh
    }
}
