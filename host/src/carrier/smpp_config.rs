//! What an operator says of an SMPP carrier, the rules it must keep, and what is counted of it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::SendOutcome;
use crate::domain::CarrierId;
use crate::domain::receipt::{IdForm, Per};
use crate::domain::text::TextStyle;
use crate::smpp::encode::{CREDENTIAL_MAX, SERVICE_TYPE_MAX, SYSTEM_TYPE_MAX};

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
    /// `host:port`.
    pub address: String,
    pub system_id: String,
    pub password: String,
    pub system_type: String,
    pub service_type: String,
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
            address: address.to_owned(),
            system_id: system_id.to_owned(),
            password: password.to_owned(),
            system_type: String::new(),
            service_type: String::new(),
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
        too_long("service_type", &self.service_type, SERVICE_TYPE_MAX)?;
        let rules = [
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
            ("address", self.address.contains(':'), "is host:port"),
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
            SendOutcome::Unknown => &self.unknown,
            SendOutcome::Unavailable => &self.unavailable,
        });
    }
}
