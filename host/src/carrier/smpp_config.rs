//! What an operator says of an SMPP carrier, the rules it must keep, and what is counted of it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::SendOutcome;
use super::smpp_hosts::HostOrder;
use super::smpp_outbind::OutbindConfig;
use super::smpp_parameters::SubmitDefaults;
use super::smpp_status::Statuses;
use super::smpp_submit;
use crate::domain::CarrierId;
use crate::domain::receipt::{IdForm, Per};
use crate::domain::text::TextStyle;
use crate::smpp::encode::{ADDRESS_RANGE_MAX, CREDENTIAL_MAX, SERVICE_TYPE_MAX, SYSTEM_TYPE_MAX};
use crate::smpp::session::INTERFACE_VERSION;
use crate::tls::Connector;

/// How a carrier is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    Transceiver,
    /// A transmitter and a receiver for each session.
    Pair,
    /// Submits only: receipts come another way, or not at all.
    Transmitter,
}

/// An SMPP carrier as its operator describes it.
#[derive(Clone)]
pub struct SmppConfig {
    pub id: CarrierId,
    /// `host:port`, at least one. Names are resolved anew for every connection.
    pub addresses: Vec<String>,
    pub host_order: HostOrder,
    /// How often a session at a later host looks whether an earlier one is back.
    pub host_return: Duration,
    pub tls: Option<TlsConfig>,
    pub system_id: String,
    pub password: String,
    pub system_type: String,
    /// 0x33, 0x34 or 0x50 (SMPP 3.4, 5.2.4).
    pub interface_version: u8,
    /// Which addresses are ours, for carriers that ask (SMPP 3.4, 5.2.7).
    pub address_range: String,
    pub addr_ton: u8,
    pub addr_npi: u8,
    pub submit: SubmitDefaults,
    /// What its command_status values mean where they mean something else.
    pub statuses: Statuses,
    /// Operations beside submit_sm that it has.
    pub supports: Supports,
    /// With query_sm: a receipt that long on its way is asked about.
    pub query_after: Duration,
    /// The carrier comes to us; beside `addresses` or in their place.
    pub outbind: Option<OutbindConfig>,
    pub binding: Binding,
    pub sessions: usize,
    /// submit_sm without an answer, on each session.
    pub window: usize,
    /// submit_sm per second, all sessions together; 0: no limit.
    pub throughput: u32,
    pub enquire_link: Duration,
    pub response_timeout: Duration,
    /// From connecting to bound.
    pub bind_timeout: Duration,
    pub reconnect_min: Duration,
    pub reconnect_max: Duration,
    /// How long without a session until messages should go elsewhere.
    pub down_after: Duration,
    /// How long a shutdown waits for answers.
    pub drain: Duration,
    pub id_form: IdForm,
    /// For what it sends a receipt.
    pub receipt_per: Per,
    /// Believe receipts that do not say so in esm_class. Subscribers can forge those.
    pub receipts_by_text: bool,
    /// Send user_message_reference, so that copies of a message can be told.
    pub user_message_reference: bool,
    pub tags: Vec<String>,
    /// How it wants text.
    pub text: TextStyle,
}

impl SmppConfig {
    /// The usual values for all that a carrier need not say.
    pub fn new(id: CarrierId, address: &str, system_id: &str, password: &str) -> SmppConfig {
        SmppConfig {
            id,
            addresses: vec![address.to_owned()],
            host_order: HostOrder::Failover,
            host_return: Duration::from_secs(300),
            tls: None,
            system_id: system_id.to_owned(),
            password: password.to_owned(),
            system_type: String::new(),
            interface_version: INTERFACE_VERSION,
            address_range: String::new(),
            addr_ton: 0,
            addr_npi: 0,
            submit: SubmitDefaults::default(),
            statuses: Statuses::default(),
            supports: Supports::default(),
            query_after: Duration::from_secs(600),
            outbind: None,
            binding: Binding::Transceiver,
            sessions: 1,
            window: 10,
            throughput: 0,
            enquire_link: Duration::from_secs(30),
            response_timeout: Duration::from_secs(60),
            bind_timeout: Duration::from_secs(10),
            reconnect_min: Duration::from_millis(500),
            reconnect_max: Duration::from_secs(30),
            down_after: Duration::from_secs(2),
            drain: Duration::from_secs(5),
            id_form: IdForm::Auto,
            receipt_per: Per::Auto,
            receipts_by_text: false,
            user_message_reference: true,
            tags: Vec::new(),
            text: TextStyle::default(),
        }
    }

    /// Places of sessions that we bring about.
    pub(super) fn own_sessions(&self) -> usize {
        if self.addresses.is_empty() {
            0
        } else {
            self.sessions
        }
    }

    /// Places of all sessions.
    pub(super) fn slots(&self) -> usize {
        self.own_sessions() + self.outbind.as_ref().map_or(0, |o| o.sessions)
    }

    /// The first broken rule, by field.
    pub fn check(&self) -> Result<(), ConfigError> {
        let too_long = |field, value: &str, max| {
            if value.len() > max {
                Err(ConfigError {
                    field,
                    rule: format!("has {} octets; at most {max} are allowed", value.len()),
                })
            } else if value.contains('\0') {
                Err(ConfigError {
                    field,
                    rule: "contains a NUL".to_owned(),
                })
            } else {
                Ok(())
            }
        };
        too_long("system_id", &self.system_id, CREDENTIAL_MAX)?;
        too_long("password", &self.password, CREDENTIAL_MAX)?;
        too_long("system_type", &self.system_type, SYSTEM_TYPE_MAX)?;
        too_long("address_range", &self.address_range, ADDRESS_RANGE_MAX)?;
        too_long("service_type", &self.submit.service_type, SERVICE_TYPE_MAX)?;
        for tlv in &self.submit.tlvs {
            smpp_submit::fits(tlv).map_err(|unfit| ConfigError {
                field: "submit.tlvs",
                rule: unfit.to_string(),
            })?;
        }
        let rules = [
            (
                "submit.tlvs",
                self.interface_version >= INTERFACE_VERSION || self.submit.tlvs.is_empty(),
                "need interface_version 0x34 at least",
            ),
            (
                "submit.priority",
                self.submit.priority_flag.is_none_or(|p| p <= 3),
                "is 0 to 3",
            ),
            (
                "sessions",
                self.sessions >= 1 && self.sessions <= 64,
                "is 1 to 64",
            ),
            (
                "window",
                self.window >= 1 && self.window <= 10_000,
                "is 1 to 10000",
            ),
            (
                "response_timeout",
                !self.response_timeout.is_zero(),
                "is more than 0",
            ),
            (
                "bind_timeout",
                !self.bind_timeout.is_zero(),
                "is more than 0",
            ),
            (
                "reconnect_max",
                self.reconnect_max >= self.reconnect_min && !self.reconnect_max.is_zero(),
                "is not less than reconnect_min, and more than 0",
            ),
            (
                "addresses",
                self.addresses.len() <= 16
                    && (!self.addresses.is_empty() || self.outbind.is_some())
                    && self.addresses.iter().all(|a| is_address(a)),
                "are 1 to 16, each host:port",
            ),
            ("host_return", !self.host_return.is_zero(), "is more than 0"),
            (
                "interface_version",
                matches!(self.interface_version, 0x33 | 0x34 | 0x50),
                "is 0x33, 0x34 or 0x50",
            ),
        ];
        for (field, holds, rule) in rules {
            if !holds {
                return Err(ConfigError {
                    field,
                    rule: rule.to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// PDUs that not every message centre has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Supports {
    pub data_sm: bool,
    pub query_sm: bool,
    pub cancel_sm: bool,
    pub replace_sm: bool,
}

/// How a carrier is spoken to over TLS.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    pub connector: Connector,
    /// The name that its certificate is to have; none: the host that is connected to.
    pub server_name: Option<ServerName<'static>>,
}

fn is_address(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
}

/// A rule of the configuration that is broken: the operator's to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub field: &'static str,
    pub rule: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.rule)
    }
}

impl std::error::Error for ConfigError {}

/// What happened so far, for metrics.
#[derive(Debug, Default)]
pub struct SmppCounters {
    pub submitted: AtomicU64,
    pub sent: AtomicU64,
    pub throttled: AtomicU64,
    pub temporary: AtomicU64,
    pub permanent: AtomicU64,
    pub unknown: AtomicU64,
    pub unavailable: AtomicU64,
    pub receipts: AtomicU64,
    pub inbound: AtomicU64,
    /// deliver_sm that call themselves receipts and are none; answered ESME_ROK, so that they do not come again.
    pub unreadable_receipts: AtomicU64,
    pub binds: AtomicU64,
    pub bind_failures: AtomicU64,
    pub disconnects: AtomicU64,
    /// PDUs that could not be read, lengths that no PDU has.
    pub malformed: AtomicU64,
    /// Answers to nothing we asked: late, twice, or invented.
    pub stray_responses: AtomicU64,
    /// Requests that no SMSC may make, or not then.
    pub refused: AtomicU64,
    /// alert_notifications, and those of them for which there was no room.
    pub alerts: AtomicU64,
    pub alerts_lost: AtomicU64,
    /// query_sm that were answered.
    pub queries: AtomicU64,
}

impl SmppCounters {
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn outcome(&self, outcome: &SendOutcome) {
        SmppCounters::count(match outcome {
            SendOutcome::Sent { .. } => &self.sent,
            SendOutcome::Throttled { .. } => &self.throttled,
            SendOutcome::Temporary { .. } => &self.temporary,
            SendOutcome::Permanent { .. } => &self.permanent,
            SendOutcome::Unknown { .. } => &self.unknown,
            SendOutcome::Unavailable => &self.unavailable,
            SendOutcome::Begun { .. } => return,
        });
    }
}
