//! The configuration as the operator writes it, and how its senders are read. It decides nothing.

use std::collections::BTreeMap;

use heliograph_plugin::{Address, Digits, NumberingPlan, TrafficClass, TypeOfNumber};
use schemars::JsonSchema;
use serde::Deserialize;

/// Pools of senders, and what countries take.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The first pool that fits a message is used.
    pub pools: Vec<Pool>,
    /// What kinds of originators a country takes (ISO 3166-1 alpha-2), `*` for all others and for unknown ones.
    /// Not listed: all kinds.
    pub countries: BTreeMap<String, Vec<Kind>>,
    /// Carriers in order, for pools that name none. Empty: as the host offers them.
    pub carriers: Vec<String>,
    /// No pool fits: `pass` to the next policy, or `refuse`.
    pub no_pool: NoPool,
    /// Mixed into the choice. Another salt gives every recipient a sender anew.
    pub salt: String,
}

/// Senders that stand for one another.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Shown in reasons.
    pub name: String,
    /// Accounts it is for. Empty: all.
    #[serde(default)]
    pub accounts: Vec<String>,
    /// Countries it is for (ISO 3166-1 alpha-2). Empty: all, unknown ones too.
    #[serde(default)]
    pub countries: Vec<String>,
    /// Classes it is for. Empty: all.
    #[serde(default)]
    pub classes: Vec<Class>,
    /// Client originators it replaces, such as a placeholder. Empty: all.
    #[serde(default)]
    pub replaces: Vec<String>,
    /// The senders, 500 at most.
    pub senders: Vec<Sender>,
    /// Carriers in order. Empty: the common ones.
    #[serde(default)]
    pub carriers: Vec<String>,
    /// True: an originator of the client's that is in the pool and allowed in the country stays.
    #[serde(default = "yes")]
    pub keep_listed: bool,
    /// What follows when all carriers of the recipient's sender are down: `wait` for them, or the `next_sender`.
    #[serde(default)]
    pub failover: Failover,
}

/// One sender of a pool.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sender {
    /// '+' and a number, a short code of 3 to 8 digits, or at most 11 letters and digits.
    pub originator: String,
    /// Its share of the recipients, 0 to 1000. 0: keeps nobody, so that a sender can be retired.
    #[serde(default = "one")]
    pub weight: u32,
    /// Countries it may be used in. Empty: all.
    #[serde(default)]
    pub countries: Vec<String>,
    /// Carriers on which it is provisioned. Empty: all.
    #[serde(default)]
    pub carriers: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An international number.
    Number,
    /// A short code.
    ShortCode,
    /// A name.
    Alphanumeric,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoPool {
    #[default]
    Pass,
    /// With `no_pool`.
    Refuse,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Failover {
    #[default]
    Wait,
    NextSender,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Otp,
    Transactional,
    Promotional,
    Alert,
}

impl Class {
    pub fn of(class: TrafficClass) -> Self {
        match class {
            TrafficClass::Otp => Self::Otp,
            TrafficClass::Transactional => Self::Transactional,
            TrafficClass::Promotional => Self::Promotional,
            TrafficClass::Alert => Self::Alert,
        }
    }
}

impl Kind {
    pub fn of(ton: TypeOfNumber) -> Self {
        match ton {
            TypeOfNumber::Alphanumeric => Self::Alphanumeric,
            TypeOfNumber::Abbreviated | TypeOfNumber::NetworkSpecific => Self::ShortCode,
            TypeOfNumber::International
            | TypeOfNumber::National
            | TypeOfNumber::Unknown
            | TypeOfNumber::Subscriber => Self::Number,
        }
    }
}

/// As the platform reads a sender: `+` and a number, a short code of 3 to 8 digits (SMPP 3.4, 5.2.5), a number of 9
/// to 15 digits, or an alphanumeric sender of at most 11 characters (3GPP TS 23.040, 9.1.2.5).
pub fn originator(text: &str) -> Result<Address, String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let numeric = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let with_plus = digits.len() < text.len();
    let (ton, npi) = match (numeric, with_plus, digits.len()) {
        (true, true, 7..=15) | (true, false, 9..=15) if !digits.starts_with('0') => {
            (TypeOfNumber::International, NumberingPlan::Isdn)
        }
        (true, false, 3..=8) => (TypeOfNumber::Abbreviated, NumberingPlan::Unknown),
        (false, false, 1..=11)
            if text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b" -_.&+!'".contains(&b)) =>
        {
            (TypeOfNumber::Alphanumeric, NumberingPlan::Unknown)
        }
        _ => {
            return Err(format!(
                "`{text}` is no sender; give '+' and 7 to 15 digits, a short code of 3 to 8 digits, or at most 11 \
                 letters, digits, spaces and - _ . & + ! '"
            ));
        }
    };
    let prefix = if numeric { digits } else { "" };
    Ok(Address {
        ton,
        npi,
        value: digits.to_owned(),
        prefix: Digits::new(prefix),
        withheld: false,
    })
}

/// The error names the field.
pub fn check_countries<'a>(
    field: &str,
    countries: impl IntoIterator<Item = &'a String>,
    wildcard: bool,
) -> Result<(), String> {
    for country in countries {
        let is_code = country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase());
        let is_star = wildcard && country == "*";
        if !is_code && !is_star {
            return Err(format!(
                "{field}: `{country}` is not an ISO 3166-1 alpha-2 country code in capitals, like GB"
            ));
        }
    }
    Ok(())
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}
