//! The configuration as the operator writes it. What it means by a clock is read in `window`.

use heliograph_plugin::TrafficClass;
use schemars::JsonSchema;
use serde::Deserialize;

/// Rules by the clock and the calendar.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whose clock: a zone of the IANA database such as `Europe/Paris`, `UTC`, or a fixed offset such as `+05:30`.
    pub zone: String,
    /// The first rule whose time it is and that the message fits decides. None: the next policy.
    pub rules: Vec<Rule>,
    /// Deferred messages are spread over so many minutes, 720 at most, so that they do not leave all at once.
    pub spread_minutes: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            zone: "UTC".to_owned(),
            rules: Vec::new(),
            spread_minutes: 15,
        }
    }
}

/// When, for what, and what then. Exactly one of `carriers`, `defer`, `refuse` and `pass`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Shown in reasons.
    pub name: String,
    /// Instead of the common zone.
    pub zone: Option<String>,
    /// First minute, HH:MM. Give both `from` and `to`, or neither for the whole day.
    pub from: Option<String>,
    /// First minute after, HH:MM up to 24:00. Before `from`: over midnight, and the hours after midnight belong to the
    /// day before.
    pub to: Option<String>,
    /// Weekdays. Empty: all.
    pub days: Vec<Day>,
    /// Dates: `12-25` every year, `2026-04-06` once, `12-24..12-26` or `2026-07-01..2026-08-31` from the first to the
    /// last. Empty: all.
    pub dates: Vec<String>,
    /// Dates on which the rule does not hold.
    pub except_dates: Vec<String>,
    /// Accounts it is for. Empty: all.
    pub accounts: Vec<String>,
    /// Recipients' countries (ISO 3166-1 alpha-2). Empty: all, unknown ones too.
    pub countries: Vec<String>,
    /// Recipients' number prefixes. Empty: all.
    pub prefixes: Vec<String>,
    /// Classes it is for. Empty: all.
    pub classes: Vec<Class>,
    /// Send over these, in this order; those that are down come last.
    pub carriers: Vec<String>,
    /// True: wait until the rule's time is over.
    pub defer: bool,
    /// Refuse with `refused_by_time`, for this reason.
    pub refuse: Option<String>,
    /// True: the next policy decides.
    pub pass: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
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
