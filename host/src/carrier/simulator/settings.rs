//! What the simulated SMSC is told to do: every setting, its default, its grammar and its bounds.
//! The same words serve as command-line flags and as JSON over the control API. Knows nothing of
//! how a setting is carried out.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use super::grammar::{
    Credentials, ErrorRate, FinalRate, FinalState, MessageState, Outcome, Rule, parse_status,
};

/// Highest delay of any kind: an hour.
pub const DELAY_MAX_MS: u32 = 3_600_000;
/// Most entries in any list of the settings.
pub const LIST_MAX: usize = 1_000;

/// Everything that can be set, at the start and while it runs. A rate is a share from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seed of all randomness: the same seed and the same order of messages give the same outcomes
    #[arg(long, default_value_t = Settings::DEFAULT.seed)]
    pub seed: u64,
    /// Accepted credentials, repeatable; none: every bind is accepted
    #[arg(long = "bind", value_name = "SYSTEM_ID:PASSWORD")]
    pub binds: Vec<Credentials>,
    /// Answer every bind with this command_status
    #[arg(long, default_value = "0", value_parser = parse_status)]
    pub bind_status: u32,
    /// Fixed part of the time to submit_sm_resp
    #[arg(long, default_value_t = Settings::DEFAULT.latency_ms)]
    pub latency_ms: u32,
    /// Random part of the time to submit_sm_resp, 0 to this
    #[arg(long, default_value_t = Settings::DEFAULT.latency_jitter_ms)]
    pub latency_jitter_ms: u32,
    /// submit_sm per second over all sessions, beyond it ESME_RTHROTTLED; 0: no limit
    #[arg(long, default_value_t = Settings::DEFAULT.throughput)]
    pub throughput: u32,
    /// Unanswered submit_sm per session; 0: no limit
    #[arg(long, default_value_t = Settings::DEFAULT.window)]
    pub window: u32,
    /// Beyond the window: answer ESME_RMSGQFUL, or stop reading
    #[arg(long, value_enum, default_value_t = Settings::DEFAULT.window_policy)]
    pub window_policy: WindowPolicy,
    /// Share of submit_sm refused with a command_status, as in 0x08=0.05; repeatable
    #[arg(long = "error", value_name = "STATUS=RATE")]
    pub errors: Vec<ErrorRate>,
    /// Share of submit_sm at which the connection is cut, the message not taken
    #[arg(long, default_value_t = Settings::DEFAULT.drop_rate)]
    pub drop_rate: f64,
    /// Share of submit_sm that are taken and never answered
    #[arg(long, default_value_t = Settings::DEFAULT.swallow_rate)]
    pub swallow_rate: f64,
    /// Share of submit_sm_resp whose message_id is empty, 0, too long or another message's
    #[arg(long, default_value_t = Settings::DEFAULT.id_fault_rate)]
    pub id_fault_rate: f64,
    /// Share of submit_sm that are answered twice: the same, an error, or generic_nack after ESME_ROK
    #[arg(long, default_value_t = Settings::DEFAULT.answer_twice_rate)]
    pub answer_twice_rate: f64,
    /// Share of submit_sm whose answer is followed by octets that are out of place
    #[arg(long, default_value_t = Settings::DEFAULT.garbage_rate)]
    pub garbage_rate: f64,
    /// Refuse, with the status of the field, what is not to the letter of SMPP 3.4
    #[arg(long)]
    pub strict: bool,
    /// Read nothing from any session, and close none
    #[arg(long)]
    pub stalled: bool,
    /// Answer query_sm, cancel_sm and replace_sm; else they are ESME_RINVCMDID
    #[arg(long, default_value_t = Settings::DEFAULT.queries, action = clap::ArgAction::Set)]
    pub queries: bool,
    /// Send the delivery receipts that registered_delivery asks for
    #[arg(long, default_value_t = Settings::DEFAULT.receipts, action = clap::ArgAction::Set)]
    pub receipts: bool,
    /// Fixed part of the time from response to receipt
    #[arg(long, default_value_t = Settings::DEFAULT.receipt_delay_ms)]
    pub receipt_delay_ms: u32,
    /// Random part of the time from response to receipt, 0 to this
    #[arg(long, default_value_t = Settings::DEFAULT.receipt_jitter_ms)]
    pub receipt_jitter_ms: u32,
    /// Share of receipts that never come
    #[arg(long, default_value_t = Settings::DEFAULT.receipt_loss_rate)]
    pub receipt_loss_rate: f64,
    /// Share of receipts that come twice
    #[arg(long, default_value_t = Settings::DEFAULT.receipt_duplicate_rate)]
    pub receipt_duplicate_rate: f64,
    /// Share of receipts that come before the response
    #[arg(long, default_value_t = Settings::DEFAULT.receipt_early_rate)]
    pub receipt_early_rate: f64,
    /// Copies of each receipt, with states that contradict it
    #[arg(long, default_value_t = Settings::DEFAULT.receipt_copies)]
    pub receipt_copies: u8,
    /// Gather this many due receipts and send them in random order; 0 or 1: in order of time
    #[arg(long, default_value_t = Settings::DEFAULT.receipt_shuffle)]
    pub receipt_shuffle: u32,
    /// Where a receipt carries its facts
    #[arg(long, value_enum, default_value_t = Settings::DEFAULT.receipt_shape)]
    pub receipt_shape: ReceiptShape,
    /// Share of messages per final state, as in UNDELIV:001=0.05; repeatable; the rest is DELIVRD
    #[arg(long = "final-state", value_name = "STATE[:ERR]=RATE")]
    pub final_states: Vec<FinalRate>,
    /// Outcome for all recipients with a prefix, longest prefix first; repeatable. The outcome is
    /// STATE[:ERR], a command_status, `swallow`, `drop` or `no-receipt`
    #[arg(long = "rule", value_name = "PREFIX=OUTCOME")]
    pub rules: Vec<Rule>,
    /// How message_id is written in submit_sm_resp
    #[arg(long, value_enum, default_value_t = Settings::DEFAULT.id_response)]
    pub id_response: IdStyle,
    /// Least digits of message_id in submit_sm_resp, filled with leading zeros
    #[arg(long, default_value_t = Settings::DEFAULT.id_response_width)]
    pub id_response_width: u8,
    /// How the message's id is written in its receipt
    #[arg(long, value_enum, default_value_t = Settings::DEFAULT.id_receipt)]
    pub id_receipt: IdStyle,
    /// Least digits of the id in a receipt, filled with leading zeros
    #[arg(long, default_value_t = Settings::DEFAULT.id_receipt_width)]
    pub id_receipt_width: u8,
    /// First message id; default: from the time of the start, so that a restart repeats none
    #[arg(long)]
    pub first_id: Option<u64>,
    /// What is remembered of received messages
    #[arg(long, value_enum, default_value_t = Settings::DEFAULT.keep)]
    pub keep: Keep,
    /// Received messages remembered at most, the oldest go first
    #[arg(long, default_value_t = Settings::DEFAULT.received_max)]
    pub received_max: usize,
    /// Octets of received messages remembered at most
    #[arg(long, default_value_t = Settings::DEFAULT.received_bytes_max)]
    pub received_bytes_max: usize,
    /// Distinct messages told apart at most (16 to 32 octets each)
    #[arg(long, default_value_t = Settings::DEFAULT.keys_max)]
    pub keys_max: usize,
    /// Receipts and MO messages waiting at most, beyond it they are lost (and counted)
    #[arg(long, default_value_t = Settings::DEFAULT.pending_max)]
    pub pending_max: usize,
    /// Unanswered deliver_sm per session
    #[arg(long, default_value_t = Settings::DEFAULT.deliver_window)]
    pub deliver_window: u32,
    /// Time after which an unanswered deliver_sm is sent again
    #[arg(long, default_value_t = Settings::DEFAULT.deliver_timeout_ms)]
    pub deliver_timeout_ms: u32,
    /// Time before a temporarily refused deliver_sm is sent again
    #[arg(long, default_value_t = Settings::DEFAULT.deliver_retry_ms)]
    pub deliver_retry_ms: u32,
    /// Times a deliver_sm is sent at most
    #[arg(long, default_value_t = Settings::DEFAULT.deliver_attempts)]
    pub deliver_attempts: u8,
    /// Open connections at most
    #[arg(long, default_value_t = Settings::DEFAULT.connections_max)]
    pub connections_max: usize,
}

impl Settings {
    /// A good carrier: takes all, at once, and confirms after 100 ms.
    pub const DEFAULT: Settings = Settings {
        seed: 1,
        binds: Vec::new(),
        bind_status: 0,
        latency_ms: 0,
        latency_jitter_ms: 0,
        throughput: 0,
        window: 0,
        window_policy: WindowPolicy::Refuse,
        errors: Vec::new(),
        drop_rate: 0.0,
        swallow_rate: 0.0,
        id_fault_rate: 0.0,
        answer_twice_rate: 0.0,
        garbage_rate: 0.0,
        strict: false,
        stalled: false,
        queries: true,
        receipts: true,
        receipt_delay_ms: 100,
        receipt_jitter_ms: 0,
        receipt_loss_rate: 0.0,
        receipt_duplicate_rate: 0.0,
        receipt_early_rate: 0.0,
        receipt_copies: 0,
        receipt_shuffle: 0,
        receipt_shape: ReceiptShape::Both,
        final_states: Vec::new(),
        rules: Vec::new(),
        id_response: IdStyle::Decimal,
        id_response_width: 0,
        id_receipt: IdStyle::Decimal,
        id_receipt_width: 0,
        first_id: None,
        keep: Keep::Full,
        received_max: 1_000_000,
        received_bytes_max: 256 * 1024 * 1024,
        keys_max: 8_000_000,
        pending_max: 1_000_000,
        deliver_window: 500,
        deliver_timeout_ms: 30_000,
        deliver_retry_ms: 1_000,
        deliver_attempts: 100,
        connections_max: 256,
    };

    /// Bounds and sums that the types cannot hold. Names the field and the rule.
    pub fn validate(&self) -> Result<(), SettingsError> {
        for (field, rate) in [
            ("drop_rate", self.drop_rate),
            ("swallow_rate", self.swallow_rate),
            ("id_fault_rate", self.id_fault_rate),
            ("answer_twice_rate", self.answer_twice_rate),
            ("garbage_rate", self.garbage_rate),
            ("receipt_loss_rate", self.receipt_loss_rate),
            ("receipt_duplicate_rate", self.receipt_duplicate_rate),
            ("receipt_early_rate", self.receipt_early_rate),
            ("errors", self.errors.iter().map(|e| e.rate).sum()),
            (
                "final_states",
                self.final_states.iter().map(|e| e.rate).sum(),
            ),
        ] {
            // A sum of shares may miss 1 by rounding.
            if !(0.0..=1.000_001).contains(&rate) {
                return Err(SettingsError::Rate { field, rate });
            }
        }
        for (field, value) in [
            ("latency_ms", self.latency_ms),
            ("latency_jitter_ms", self.latency_jitter_ms),
            ("receipt_delay_ms", self.receipt_delay_ms),
            ("receipt_jitter_ms", self.receipt_jitter_ms),
            ("deliver_timeout_ms", self.deliver_timeout_ms),
            ("deliver_retry_ms", self.deliver_retry_ms),
        ] {
            bound(field, u64::from(value), 0, u64::from(DELAY_MAX_MS))?;
        }
        for (field, length) in [
            ("binds", self.binds.len()),
            ("errors", self.errors.len()),
            ("final_states", self.final_states.len()),
            ("rules", self.rules.len()),
        ] {
            bound(field, length as u64, 0, LIST_MAX as u64)?;
        }
        bound(
            "receipt_shuffle",
            u64::from(self.receipt_shuffle),
            0,
            10_000,
        )?;
        bound("receipt_copies", u64::from(self.receipt_copies), 0, 100)?;
        bound("deliver_window", u64::from(self.deliver_window), 1, 10_000)?;
        bound("deliver_attempts", u64::from(self.deliver_attempts), 1, 255)?;
        // message_id has at most 64 characters (SMPP 3.4, 5.2.23).
        bound(
            "id_response_width",
            u64::from(self.id_response_width),
            0,
            64,
        )?;
        bound("id_receipt_width", u64::from(self.id_receipt_width), 0, 64)?;
        bound("connections_max", self.connections_max as u64, 1, 10_000)
    }

    /// A copy with the fields of the JSON object `patch` replaced, checked as a whole.
    pub fn patched(&self, patch: serde_json::Value) -> Result<Settings, SettingsError> {
        let json = |e: serde_json::Error| SettingsError::Json(e.to_string());
        let serde_json::Value::Object(patch) = patch else {
            return Err(SettingsError::Json(
                "the body is not a JSON object".to_owned(),
            ));
        };
        let mut whole = serde_json::to_value(self).map_err(json)?;
        if let Some(object) = whole.as_object_mut() {
            object.extend(patch);
        }
        let settings: Settings = serde_json::from_value(whole).map_err(json)?;
        settings.validate()?;
        Ok(settings)
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::DEFAULT
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum WindowPolicy {
    /// ESME_RMSGQFUL.
    Refuse,
    /// TCP back-pressure.
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ReceiptShape {
    /// Appendix B text alone.
    Text,
    /// receipted_message_id, message_state and network_error_code alone.
    Tlv,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum IdStyle {
    Decimal,
    HexLower,
    HexUpper,
    /// Letters of both cases, digits and dashes: comparable only as it stands.
    Opaque,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Each message, and a key of it for telling duplicates.
    Full,
    /// Keys alone: for benchmarks.
    Keys,
    /// Counters alone.
    Nothing,
}

/// A setting that cannot be. The caller's fault; trying again does not help.
#[derive(Clone, Debug, PartialEq)]
pub enum SettingsError {
    Rate {
        field: &'static str,
        rate: f64,
    },
    Bound {
        field: &'static str,
        value: u64,
        least: u64,
        most: u64,
    },
    /// The message names the field.
    Json(String),
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingsError::Rate { field, rate } => {
                write!(
                    f,
                    "{field}: {rate} is no share; rates (and their sum) go from 0 to 1"
                )
            }
            SettingsError::Bound {
                field,
                value,
                least,
                most,
            } => {
                write!(
                    f,
                    "{field}: {value} is out of bounds; it goes from {least} to {most}"
                )
            }
            SettingsError::Json(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for SettingsError {}

fn bound(field: &'static str, value: u64, least: u64, most: u64) -> Result<(), SettingsError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(SettingsError::Bound {
        field,
        value,
        least,
        most,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_reads_back_as_it_was() {
        for text in [
            "447700900999=UNDELIV:001",
            "44=0x58",
            "=swallow",
            "1=drop",
            "1=no-receipt",
        ] {
            let rule: Rule = text.parse().unwrap();
            assert_eq!(rule.to_string(), text);
        }
        let rate: ErrorRate = "0x08=0.05".parse().unwrap();
        assert_eq!(
            rate,
            ErrorRate {
                status: 8,
                rate: 0.05
            }
        );
        assert_eq!(rate.to_string(), "0x08=0.05");
        let rate: FinalRate = "REJECTD=0.5".parse().unwrap();
        assert_eq!(rate.to_string(), "REJECTD:000=0.5");
    }

    #[track_caller]
    fn refused(patch: serde_json::Value, names: &str) {
        let error = Settings::default().patched(patch).unwrap_err().to_string();
        assert!(error.contains(names), "{error}");
    }

    #[test]
    fn a_patch_is_refused_whole_and_names_the_field() {
        refused(json!({"throughputs": 5}), "throughputs");
        refused(json!({"swallow_rate": 1.5}), "swallow_rate");
        refused(json!({"errors": ["0x08=0.6", "0x14=0.6"]}), "errors");
        refused(json!({"latency_ms": 3_600_001}), "latency_ms");
        refused(json!({"rules": ["44=NOSUCH"]}), "NOSUCH");
        refused(json!({"id_response_width": 65}), "id_response_width");
        refused(json!([1]), "object");
    }

    #[test]
    fn a_patch_replaces_what_it_names_and_keeps_the_rest() {
        let before = Settings {
            throughput: 7,
            ..Settings::default()
        };
        let after = before
            .patched(json!({"errors": ["0x08=0.25"], "id_receipt": "hex-upper"}))
            .unwrap();
        assert_eq!(after.throughput, 7);
        assert_eq!(after.id_receipt, IdStyle::HexUpper);
        assert_eq!(
            after.errors,
            vec![ErrorRate {
                status: 8,
                rate: 0.25
            }]
        );
    }

    #[test]
    fn a_password_never_shows_in_debug_output() {
        let credentials: Credentials = "esme:s3cret".parse().unwrap();
        assert_eq!(format!("{credentials:?}"), "esme:***");
    }
}
