//! The settings that are written as one word, as in `447700900999=UNDELIV:001`: one grammar for flags
//! and for JSON. Knows how they are read and written, not what they do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A system_id and its password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Credentials {
    pub system_id: String,
    pub password: String,
}

/// The password stays out of logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:***", self.system_id)
    }
}

/// A share of submit_sm refused with `status`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ErrorRate {
    pub status: u32,
    pub rate: f64,
}

/// A share of messages that end in `end`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FinalRate {
    pub end: FinalState,
    pub rate: f64,
}

/// What becomes of every message to a number with `prefix`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    /// Digits without '+'.
    pub prefix: String,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Taken, and its receipt says so.
    Final(FinalState),
    /// Refused with this command_status.
    Status(u32),
    /// Taken, never answered.
    Swallow,
    /// The connection is cut, the message not taken.
    Drop,
    /// Taken and answered, its receipt never comes.
    NoReceipt,
}

/// How a message ends, as its receipt tells (SMPP 3.4, Appendix B and 5.2.28).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinalState {
    pub state: MessageState,
    /// The receipt's `err`.
    pub error: [u8; 3],
}

impl FinalState {
    pub const DELIVERED: FinalState = FinalState {
        state: MessageState::Delivered,
        error: *b"000",
    };
}

/// message_state (SMPP 3.4, 5.2.28).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MessageState {
    Enroute = 1,
    Delivered = 2,
    Expired = 3,
    Deleted = 4,
    Undeliverable = 5,
    Accepted = 6,
    Unknown = 7,
    Rejected = 8,
}

impl MessageState {
    const ALL: [MessageState; 8] = [
        MessageState::Enroute,
        MessageState::Delivered,
        MessageState::Expired,
        MessageState::Deleted,
        MessageState::Undeliverable,
        MessageState::Accepted,
        MessageState::Unknown,
        MessageState::Rejected,
    ];

    /// The word in a receipt's text (SMPP 3.4, Appendix B).
    pub fn stat(self) -> &'static str {
        match self {
            MessageState::Enroute => "ENROUTE",
            MessageState::Delivered => "DELIVRD",
            MessageState::Expired => "EXPIRED",
            MessageState::Deleted => "DELETED",
            MessageState::Undeliverable => "UNDELIV",
            MessageState::Accepted => "ACCEPTD",
            MessageState::Unknown => "UNKNOWN",
            MessageState::Rejected => "REJECTD",
        }
    }

    fn from_stat(word: &str) -> Option<MessageState> {
        MessageState::ALL.into_iter().find(|s| s.stat() == word)
    }
}

/// A command_status as people write it: `8`, `0x08`.
pub fn parse_status(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is no command_status; write it as 0x58 or 88"))
}

fn split<'a>(text: &'a str, at: char, form: &str) -> Result<(&'a str, &'a str), String> {
    text.split_once(at)
        .ok_or_else(|| format!("{text:?} has no {at:?}; write {form}"))
}

fn parse_rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|r| (0.0..=1.0).contains(r))
        .ok_or_else(|| format!("{text:?} is no rate; rates go from 0 to 1"))
}

/// One grammar for flags and JSON: each of these types is a string in both.
macro_rules! as_string {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<$name, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    };
}
as_string!(Credentials);
as_string!(ErrorRate);
as_string!(FinalRate);
as_string!(Rule);

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.system_id, self.password)
    }
}

impl FromStr for Credentials {
    type Err = String;

    fn from_str(text: &str) -> Result<Credentials, String> {
        let Some((system_id, password)) = text.split_once(':') else {
            // The text may be a password: it is not repeated.
            return Err("credentials have no ':'; write SYSTEM_ID:PASSWORD".to_owned());
        };
        if system_id.is_empty() {
            return Err("the system_id is empty; write SYSTEM_ID:PASSWORD".to_owned());
        }
        Ok(Credentials {
            system_id: system_id.to_owned(),
            password: password.to_owned(),
        })
    }
}

impl fmt::Display for ErrorRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x}={}", self.status, self.rate)
    }
}

impl FromStr for ErrorRate {
    type Err = String;

    fn from_str(text: &str) -> Result<ErrorRate, String> {
        let (status, rate) = split(text, '=', "STATUS=RATE, as in 0x08=0.05")?;
        let status = parse_status(status)?;
        if status == 0 {
            return Err("0x00 is ESME_ROK, no error".to_owned());
        }
        Ok(ErrorRate {
            status,
            rate: parse_rate(rate)?,
        })
    }
}

impl fmt::Display for FinalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = String::from_utf8_lossy(&self.error);
        write!(f, "{}:{error}", self.state.stat())
    }
}

impl FromStr for FinalState {
    type Err = String;

    fn from_str(text: &str) -> Result<FinalState, String> {
        let (word, error) = text.split_once(':').unwrap_or((text, "000"));
        let state = MessageState::from_stat(word).ok_or_else(|| {
            let known: Vec<&str> = MessageState::ALL.iter().map(|s| s.stat()).collect();
            format!("{word:?} is no state; one of {}", known.join(", "))
        })?;
        let error: [u8; 3] = error
            .as_bytes()
            .try_into()
            .ok()
            .filter(|e: &[u8; 3]| e.iter().all(u8::is_ascii_alphanumeric))
            .ok_or_else(|| format!("{error:?} is no err; three letters or digits, as in 001"))?;
        Ok(FinalState { state, error })
    }
}

impl fmt::Display for FinalRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.end, self.rate)
    }
}

impl FromStr for FinalRate {
    type Err = String;

    fn from_str(text: &str) -> Result<FinalRate, String> {
        let (end, rate) = split(text, '=', "STATE[:ERR]=RATE, as in UNDELIV:001=0.05")?;
        Ok(FinalRate {
            end: end.parse()?,
            rate: parse_rate(rate)?,
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.prefix)?;
        match self.outcome {
            Outcome::Final(end) => write!(f, "{end}"),
            Outcome::Status(status) => write!(f, "{status:#04x}"),
            Outcome::Swallow => f.write_str("swallow"),
            Outcome::Drop => f.write_str("drop"),
            Outcome::NoReceipt => f.write_str("no-receipt"),
        }
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Rule, String> {
        let (prefix, outcome) = split(text, '=', "PREFIX=OUTCOME, as in 447700900999=UNDELIV:001")?;
        let prefix = prefix.strip_prefix('+').unwrap_or(prefix);
        if prefix.len() > 20 || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("{prefix:?} is no prefix; at most 20 digits"));
        }
        let outcome = match outcome {
            "swallow" => Outcome::Swallow,
            "drop" => Outcome::Drop,
            "no-receipt" => Outcome::NoReceipt,
            status if status.starts_with(|c: char| c.is_ascii_digit()) => {
                match parse_status(status)? {
                    0 => return Err("0x00 is ESME_ROK; use DELIVRD for a good end".to_owned()),
                    status => Outcome::Status(status),
                }
            }
            end => Outcome::Final(
                end.parse()
                    .map_err(|e| format!("{e}; or a command_status, swallow, drop, no-receipt"))?,
            ),
        };
        Ok(Rule {
            prefix: prefix.to_owned(),
            outcome,
        })
    }
}
