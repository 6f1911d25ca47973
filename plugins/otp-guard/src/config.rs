//! The configuration as the operator writes it, and its checks. The defaults suit an application that sends one-time
//! passwords to people; whatever is larger than that is said under the account.

use std::collections::BTreeMap;

use heliograph_plugin::TrafficClass;
use schemars::JsonSchema;
use serde::Deserialize;

/// Slots that numbers are hashed into. More would not fit into the state that the host keeps for a plugin (4 MiB).
const SLOTS: std::ops::RangeInclusive<u32> = 256..=8_192;
const PREFIXES_MAX: usize = 5_000;
const ACCOUNTS_MAX: usize = 5_000;
/// A field of the block counter holds no more.
const PER_RECIPIENT_MAX: u32 = 60;
const WINDOW_MINUTES_MAX: u32 = 1_440;

/// What a stream of one-time passwords may look like.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Classes that are looked at. All others pass.
    pub classes: Vec<Class>,
    /// False: nothing is denied; what would have been is logged, without the number.
    pub enforce: bool,
    /// Limits of every account. 0 switches one off.
    pub limits: Limits,
    /// Accounts that differ, by id.
    pub accounts: BTreeMap<String, Account>,
    /// Countries that are served (ISO 3166-1 alpha-2). Empty: all.
    pub countries: Vec<String>,
    /// Destinations with stricter limits.
    pub high_risk: HighRisk,
    /// Number prefixes (digits, with or without '+') that are neither counted nor denied.
    pub allow_prefixes: Vec<String>,
    /// Number prefixes that are denied. The longest prefix of both lists counts.
    pub block_prefixes: Vec<String>,
    /// The key of the client's metadata that names the end user: an address, a device, a session.
    pub client_metadata: Option<String>,
    /// Slots that numbers are hashed into, a power of two from 256 to 8192. Fewer need less state and let strangers
    /// share a counter sooner.
    pub slots: u32,
    /// Mixed into the hash, so that nobody outside can choose numbers that share a slot.
    pub salt: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            classes: vec![Class::Otp],
            enforce: true,
            limits: Limits::default(),
            accounts: BTreeMap::new(),
            countries: Vec::new(),
            high_risk: HighRisk::default(),
            allow_prefixes: Vec::new(),
            block_prefixes: Vec::new(),
            client_metadata: None,
            slots: 8_192,
            salt: String::new(),
        }
    }
}

/// The most that is let through. A window or an hour begins with the first message that is counted in it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The window of `per_recipient` and `neighbours`.
    pub window_minutes: u32,
    /// Messages to one number in a window, from all accounts (60 at most).
    pub per_recipient: u32,
    /// Messages of one account, of whatever class, to one number in 24 hours, as the host counts them.
    pub per_recipient_day: u32,
    /// So many different numbers out of ten that differ in their last digit alone, in a window, are too many: 3 to 10.
    pub neighbours: u32,
    /// Messages to one range of numbers in an hour.
    pub range_per_hour: u32,
    /// Digits at the end of a number that do not count for its range, 2 to 6. Four: ten thousand numbers are a range.
    pub range_digits: u8,
    /// Messages of one account in an hour.
    pub account_per_hour: u32,
    /// Messages of one account to one country in a day that are always let through; above, `country_growth` decides.
    pub country_per_day: u32,
    /// Above `country_per_day`: so many times the mean of the seven days before. 0: nothing above.
    pub country_growth: f32,
    /// Messages of one end user in an hour, where `client_metadata` names them.
    pub client_per_hour: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window_minutes: 30,
            per_recipient: 4,
            per_recipient_day: 10,
            neighbours: 5,
            range_per_hour: 30,
            range_digits: 4,
            account_per_hour: 0,
            country_per_day: 100,
            country_growth: 2.0,
            client_per_hour: 10,
        }
    }
}

/// Where an account differs.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Account {
    /// True: nothing of this account is looked at.
    pub exempt: bool,
    /// Countries that this account may send to, instead of the common list.
    pub countries: Option<Vec<String>>,
    /// Multiplies `range_per_hour`, `account_per_hour` and `country_per_day`.
    pub factor: f32,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            exempt: false,
            countries: None,
            factor: 1.0,
        }
    }
}

/// Destinations that fraud prefers. Which these are changes with the season; the operator names them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HighRisk {
    /// Countries (ISO 3166-1 alpha-2).
    pub countries: Vec<String>,
    /// Number prefixes.
    pub prefixes: Vec<String>,
    /// Multiplies `range_per_hour` and `country_per_day` there. 0: nothing is let through.
    pub factor: f32,
}

impl Default for HighRisk {
    fn default() -> Self {
        Self {
            countries: Vec::new(),
            prefixes: Vec::new(),
            factor: 0.2,
        }
    }
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

impl Config {
    /// The error names the field and the rule.
    pub fn check(&self) -> Result<(), String> {
        let limits = &self.limits;
        if limits.per_recipient > PER_RECIPIENT_MAX {
            return Err(format!(
                "limits.per_recipient: {} is more than {PER_RECIPIENT_MAX}",
                limits.per_recipient
            ));
        }
        if !(1..=WINDOW_MINUTES_MAX).contains(&limits.window_minutes) {
            return Err(format!(
                "limits.window_minutes: {} is not 1 to {WINDOW_MINUTES_MAX}",
                limits.window_minutes
            ));
        }
        if limits.neighbours != 0 && !(3..=10).contains(&limits.neighbours) {
            return Err(format!(
                "limits.neighbours: {} is neither 0 nor 3 to 10",
                limits.neighbours
            ));
        }
        if !(2..=6).contains(&limits.range_digits) {
            return Err(format!(
                "limits.range_digits: {} is not 2 to 6",
                limits.range_digits
            ));
        }
        not_negative("limits.country_growth", limits.country_growth)?;
        not_negative("high_risk.factor", self.high_risk.factor)?;
        if !SLOTS.contains(&self.slots) || !self.slots.is_power_of_two() {
            return Err(format!(
                "slots: {} is not a power of two from 256 to 8192",
                self.slots
            ));
        }
        if self.accounts.len() > ACCOUNTS_MAX {
            return Err(format!(
                "accounts: {} entries, at most {ACCOUNTS_MAX} are allowed",
                self.accounts.len()
            ));
        }
        for (id, account) in &self.accounts {
            not_negative(&format!("accounts.{id}.factor"), account.factor)?;
            check_countries(
                &format!("accounts.{id}.countries"),
                account.countries.iter().flatten(),
            )?;
        }
        check_countries("countries", &self.countries)?;
        check_countries("high_risk.countries", &self.high_risk.countries)
    }
}

fn not_negative(field: &str, value: f32) -> Result<(), String> {
    if value.is_finite() && value >= 0.0 {
        Ok(())
    } else {
        Err(format!("{field}: {value} is not 0 or more"))
    }
}

fn check_countries<'a>(
    field: &str,
    countries: impl IntoIterator<Item = &'a String>,
) -> Result<(), String> {
    for country in countries {
        if country.len() != 2 || !country.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(format!(
                "{field}: `{country}` is not an ISO 3166-1 alpha-2 country code in capitals, like GB"
            ));
        }
    }
    Ok(())
}

/// The digits of each prefix. The error names the field and the entry.
pub fn prefixes(field: &str, listed: &[String]) -> Result<Vec<String>, String> {
    if listed.len() > PREFIXES_MAX {
        return Err(format!(
            "{field}: {} prefixes, at most {PREFIXES_MAX} are allowed",
            listed.len()
        ));
    }
    let digits = listed.iter().map(|entry| {
        let digits = entry.trim().trim_start_matches('+');
        let valid =
            (1..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        match valid {
            true => Ok(digits.to_owned()),
            false => Err(format!("{field}: `{entry}` is not 1 to 15 digits")),
        }
    });
    digits.collect()
}
