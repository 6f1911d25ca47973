//! The configuration as the operator writes it, and its checks. Everything has a default that suits promotional
//! traffic; whatever a country wants otherwise is said under that country.

use std::collections::BTreeMap;

use heliograph_plugin::TrafficClass;
use schemars::JsonSchema;
use serde::Deserialize;

/// What the law and the contract ask for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// When messages wait for the recipient's morning.
    pub quiet_hours: QuietHours,
    /// Most messages that one account may send to one recipient within 24 hours, by the class of the message at hand.
    /// Not listed: no cap.
    pub daily_caps: BTreeMap<Class, u32>,
    /// Who may be the originator, by country (ISO 3166-1 alpha-2), `*` for all others and for unknown ones.
    pub senders: BTreeMap<String, Senders>,
    /// Opt-out wording that messages must carry. The first entry that fits a message is used.
    pub opt_out_wording: Vec<Wording>,
    /// Who must have consented, and how fresh that must be.
    pub consent: ConsentRule,
}

/// Quiet hours by the recipient's own clock.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QuietHours {
    /// False switches quiet hours off.
    pub enabled: bool,
    /// First quiet minute, HH:MM.
    pub start: String,
    /// First minute that is not quiet any more, HH:MM. Before `start`: quiet over midnight.
    pub end: String,
    /// Weekdays that differ, as in `{"sunday": "all_day"}` or `{"saturday": {"start": "20:00", "end": "10:00"}}`.
    pub days: BTreeMap<Day, DayHours>,
    /// Dates that are quiet all day: `12-25` every year, `2026-04-06` once.
    pub holidays: Vec<String>,
    /// Classes that are sent at any time.
    pub exempt: Vec<Class>,
    /// What to do where the recipient's time zone is not known.
    pub unknown_zone: UnknownZone,
    /// For `unknown_zone = "assume"`: minutes to add to UTC.
    pub assume_utc_offset_minutes: i16,
    /// Deferred messages are spread over so many minutes after the quiet hours, so that they do not leave all at once.
    pub spread_minutes: u16,
    /// Countries that differ (ISO 3166-1 alpha-2). What they do not say is as above.
    pub countries: BTreeMap<String, CountryHours>,
}

impl Default for QuietHours {
    fn default() -> Self {
        Self {
            enabled: true,
            start: "21:00".to_owned(),
            end: "08:00".to_owned(),
            days: BTreeMap::new(),
            holidays: Vec::new(),
            exempt: vec![Class::Otp, Class::Alert, Class::Transactional],
            unknown_zone: UnknownZone::Assume,
            assume_utc_offset_minutes: 0,
            spread_minutes: 15,
            countries: BTreeMap::new(),
        }
    }
}

/// Where a country differs.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CountryHours {
    pub enabled: Option<bool>,
    /// HH:MM; give both `start` and `end` or neither.
    pub start: Option<String>,
    pub end: Option<String>,
    pub days: Option<BTreeMap<Day, DayHours>>,
    pub holidays: Option<Vec<String>>,
    pub exempt: Option<Vec<Class>>,
    /// Minutes to add to UTC where the recipient's own offset is not known.
    pub utc_offset_minutes: Option<i16>,
}

/// The quiet part of one weekday: its minutes are judged by this entry alone.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum DayHours {
    Word(DayWord),
    Hours(Hours),
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DayWord {
    /// Quiet from midnight to midnight.
    AllDay,
    /// Not quiet at all.
    Never,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// HH:MM
    pub start: String,
    /// HH:MM
    pub end: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Otp,
    Transactional,
    Promotional,
    Alert,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownZone {
    /// Take `assume_utc_offset_minutes`, or the country's `utc_offset_minutes`.
    Assume,
    /// Send at any time.
    Allow,
    /// Refuse with `timezone_unknown`.
    Deny,
}

/// Who may be the originator in one country.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Senders {
    pub policy: SenderPolicy,
    /// Registered originators.
    #[serde(default)]
    pub registered: Vec<Sender>,
    /// Classes that the policy does not apply to.
    #[serde(default)]
    pub exempt: Vec<Class>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SenderPolicy {
    /// Anything goes.
    Any,
    /// Every originator must be registered.
    Registered,
    /// Alphanumeric originators must be registered, numbers are free.
    AlphanumericRegistered,
    /// Alphanumeric originators are refused.
    NumericOnly,
}

/// A registered originator.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sender {
    /// As in the message: a name in any case, or digits with or without '+'.
    pub originator: String,
    /// Accounts that may use it. Empty: all.
    #[serde(default)]
    pub accounts: Vec<String>,
}

/// Opt-out wording.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wording {
    /// Appended to the text. Keep to GSM 03.38 letters, or the whole message becomes UCS-2.
    pub text: String,
    /// Countries it is for (ISO 3166-1 alpha-2). Empty: all, unknown ones too.
    #[serde(default)]
    pub countries: Vec<String>,
    /// Classes it is for.
    #[serde(default = "promotional")]
    pub classes: Vec<Class>,
    /// Accounts it is for. Empty: all.
    #[serde(default)]
    pub accounts: Vec<String>,
    /// Not appended where the text has one of these, in any case. `text` itself always counts.
    #[serde(default = "usual_wordings")]
    pub unless_present: Vec<String>,
    /// Between the message and the wording.
    #[serde(default = "space")]
    pub separator: String,
}

/// Consent that must be on record.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsentRule {
    /// Classes that need it. Empty: none.
    pub classes: Vec<Class>,
    /// Countries that ask for it. Empty: all.
    pub countries: Vec<String>,
    /// Older consent does not count. Not given: it never ages.
    pub max_age_days: Option<u32>,
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

    pub fn name(self) -> &'static str {
        match self {
            Self::Otp => "otp",
            Self::Transactional => "transactional",
            Self::Promotional => "promotional",
            Self::Alert => "alert",
        }
    }
}

/// The error names the field. `*` is allowed where `wildcard` says so.
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
                "`{field}`: `{country}` is not an ISO 3166-1 alpha-2 country code in capitals, like GB"
            ));
        }
    }
    Ok(())
}

fn promotional() -> Vec<Class> {
    vec![Class::Promotional]
}

fn space() -> String {
    " ".to_owned()
}

fn usual_wordings() -> Vec<String> {
    USUAL_WORDINGS
        .iter()
        .map(|&wording| wording.to_owned())
        .collect()
}

/// Phrases, not the bare word: "Don't stop the music" tells nobody how to opt out.
#[rustfmt::skip]
const USUAL_WORDINGS: &[&str] = &[
    "reply stop", "text stop", "send stop", "txt stop", "stop to ", "stop=", "stop:", "stop au ",
    "opt out", "opt-out", "optout", "opt2stop", "unsubscribe", "abmelde", "désinscr", "desinscr",
    "darse de baja", "responda baja", "disiscri", "afmelden",
];
