//! A compliance check: sender registry, consent, daily caps, quiet hours by the recipient's clock, opt-out wording.
//! Checked in this order, cheapest and most final first. Pure: what it knows of the recipient the host tells it.
//! Opt-outs are not its business: the host keeps that registry and enforces it after all plugins.

mod config;
mod quiet;
mod senders;
mod wording;

use std::collections::BTreeMap;

use heliograph_plugin::{
    ComplianceCheck, Context, Message, Plugin, RecipientProfile, Ruling, Timestamp,
};

pub use config::{
    Class, Config, ConsentRule, CountryHours, Day, DayHours, DayWord, Hours, QuietHours, Sender,
    SenderPolicy, Senders, UnknownZone, Wording,
};

use quiet::Calendar;
use senders::{Fault, Registry};
use wording::Notice;

const DAY_MS: u64 = 86_400_000;
/// A spread over more than half a day would defer into the next quiet hours.
const MAX_SPREAD_MINUTES: u16 = 720;
/// Time zones lie between UTC-12 and UTC+14.
const OFFSETS: std::ops::RangeInclusive<i16> = -720..=840;

pub struct Guard {
    general: Hourly,
    by_country: BTreeMap<String, Hourly>,
    unknown_zone: UnknownZone,
    spread_ms: u64,
    caps: BTreeMap<Class, u32>,
    senders: BTreeMap<String, Registry>,
    notices: Vec<Notice>,
    consent: ConsentRule,
}

/// Quiet hours of one country, or of all others.
struct Hourly {
    enabled: bool,
    exempt: Vec<Class>,
    calendar: Calendar,
    assumed_offset: i16,
}

impl Plugin for Guard {
    type Config = Config;
    const NAME: &'static str = "compliance-guard";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Keeps quiet hours, daily caps, sender registries, consent and opt-out wording, by country and traffic class.";
    const SCHEMA: Option<&'static str> = Some(include_str!("../schema.json"));

    fn new(config: Config) -> Result<Self, String> {
        let hours = &config.quiet_hours;
        config::check_countries("quiet_hours.countries", hours.countries.keys(), false)?;
        config::check_countries("senders", config.senders.keys(), true)?;
        config::check_countries("consent.countries", &config.consent.countries, false)?;
        let wordings = config.opt_out_wording.iter();
        config::check_countries(
            "opt_out_wording.countries",
            wordings.flat_map(|wording| &wording.countries),
            false,
        )?;
        if hours.spread_minutes > MAX_SPREAD_MINUTES {
            let given = hours.spread_minutes;
            return Err(format!(
                "`quiet_hours.spread_minutes` is {given}, at most {MAX_SPREAD_MINUTES} is allowed"
            ));
        }
        let general =
            Hourly::new(hours, None).map_err(|error| format!("`quiet_hours`: {error}"))?;
        let by_country = hours.countries.iter().map(|(country, own)| {
            let hourly = Hourly::new(hours, Some(own));
            hourly
                .map(|hourly| (country.clone(), hourly))
                .map_err(|error| format!("`quiet_hours.countries.{country}`: {error}"))
        });
        let senders = config.senders.iter().map(|(country, senders)| {
            let registry = Registry::new(senders);
            registry
                .map(|registry| (country.clone(), registry))
                .map_err(|error| format!("`senders.{country}`: {error}"))
        });
        Ok(Self {
            general,
            by_country: by_country.collect::<Result<_, String>>()?,
            unknown_zone: hours.unknown_zone,
            spread_ms: u64::from(hours.spread_minutes) * 60_000,
            caps: config.daily_caps,
            senders: senders.collect::<Result<_, String>>()?,
            notices: config
                .opt_out_wording
                .iter()
                .map(Notice::new)
                .collect::<Result<_, _>>()?,
            consent: config.consent,
        })
    }
}

impl ComplianceCheck for Guard {
    fn check(&self, message: &Message, recipient: &RecipientProfile, context: &Context) -> Ruling {
        let class = Class::of(message.traffic);
        self.sender(message, class)
            .or_else(|| self.consent(message, recipient, class, context.now))
            .or_else(|| self.cap(recipient, class))
            .or_else(|| self.quiet_hours(message, recipient, class, context))
            .or_else(|| self.wording(message, class))
            .unwrap_or(Ruling::Allow)
    }
}

heliograph_plugin::export!(Guard: ComplianceCheck);

impl Guard {
    fn sender(&self, message: &Message, class: Class) -> Option<Ruling> {
        if self.senders.is_empty() {
            return None;
        }
        let country = message.network.country.as_deref().unwrap_or("*");
        let registry = self
            .senders
            .get(country)
            .or_else(|| self.senders.get("*"))?;
        let originator = &message.originator.value;
        let place = if country == "*" {
            "this destination"
        } else {
            country
        };
        Some(
            match registry.fault(&message.originator, &message.account, class)? {
                Fault::NotRegistered => Ruling::deny(
                    "sender_not_registered",
                    format!(
                        "originator `{originator}` is not registered for {place} and this account"
                    ),
                ),
                Fault::Alphanumeric => Ruling::deny(
                    "sender_not_numeric",
                    format!(
                        "originator `{originator}` is alphanumeric; {place} takes numbers only"
                    ),
                ),
            },
        )
    }

    fn consent(
        &self,
        message: &Message,
        recipient: &RecipientProfile,
        class: Class,
        now: Timestamp,
    ) -> Option<Ruling> {
        let rule = &self.consent;
        let country = message.network.country.as_deref();
        // A country that is not known may be one that asks for consent.
        let concerns = rule.countries.is_empty()
            || country.is_none_or(|country| rule.countries.iter().any(|listed| listed == country));
        if !rule.classes.contains(&class) || !concerns {
            return None;
        }
        let Some(consent) = &recipient.consent else {
            let reason = format!(
                "no consent of this recipient is on record, and {} messages need it",
                class.name()
            );
            return Some(Ruling::deny("consent_missing", reason));
        };
        let days = rule.max_age_days?;
        let expired = now.saturating_sub(consent.at) > u64::from(days).saturating_mul(DAY_MS);
        expired.then(|| {
            Ruling::deny(
                "consent_expired",
                format!("the recipient's consent is more than {days} days old"),
            )
        })
    }

    fn cap(&self, recipient: &RecipientProfile, class: Class) -> Option<Ruling> {
        let cap = *self.caps.get(&class)?;
        let sent = recipient.sent_last_day;
        (sent >= cap).then(|| {
            let reason = format!(
                "{sent} messages to this recipient in 24 hours, at most {cap} for {}",
                class.name()
            );
            Ruling::deny("frequency_cap", reason)
        })
    }

    fn quiet_hours(
        &self,
        message: &Message,
        recipient: &RecipientProfile,
        class: Class,
        context: &Context,
    ) -> Option<Ruling> {
        let country = message.network.country.as_deref();
        let hourly = country
            .and_then(|country| self.by_country.get(country))
            .unwrap_or(&self.general);
        if !hourly.enabled || hourly.exempt.contains(&class) {
            return None;
        }
        let offset = match (recipient.utc_offset_minutes, self.unknown_zone) {
            (Some(offset), _) => offset,
            (None, UnknownZone::Assume) => hourly.assumed_offset,
            (None, UnknownZone::Allow) => return None,
            (None, UnknownZone::Deny) => {
                let reason =
                    "the recipient's time zone is not known, so quiet hours cannot be kept";
                return Some(Ruling::deny("timezone_unknown", reason));
            }
        };
        let expires = |what: &str| {
            Ruling::deny(
                "quiet_hours_expires",
                format!("{what} after the message expires; give it a longer validity"),
            )
        };
        let end = match hourly.calendar.quiet_until(context.now, offset)? {
            Ok(end) if end < message.expires_at => end,
            Ok(_) => return Some(expires("the recipient's quiet hours end")),
            Err(quiet::NoEnd) => return Some(expires("the recipient's quiet days end")),
        };
        let until = end + self.spread(hourly, end, offset, message.expires_at, context.random);
        Some(Ruling::defer(
            until,
            format!("quiet hours until {} recipient's time", clock(end, offset)),
        ))
    }

    /// From 0 up to the spread, short of the expiry and of the next quiet hours.
    fn spread(
        &self,
        hourly: &Hourly,
        end: Timestamp,
        offset: i16,
        expires_at: Timestamp,
        random: u64,
    ) -> u64 {
        let room = self.spread_ms.min((expires_at - end) / 2);
        if room == 0 {
            return 0;
        }
        let jitter = random % room;
        let lands_quietly = hourly.calendar.quiet_until(end + jitter, offset).is_some();
        if lands_quietly { 0 } else { jitter }
    }

    fn wording(&self, message: &Message, class: Class) -> Option<Ruling> {
        let country = message.network.country.as_deref();
        let notice = self
            .notices
            .iter()
            .find(|notice| notice.is_for(country, class, &message.account))?;
        // Binary content has no place for words; withheld content cannot be amended.
        let amended = notice.append_to(message.text()?)?;
        Some(Ruling::amend(amended, "opt-out wording appended"))
    }
}

impl Hourly {
    fn new(general: &QuietHours, country: Option<&CountryHours>) -> Result<Self, String> {
        let offset = country
            .and_then(|country| country.utc_offset_minutes)
            .unwrap_or(general.assume_utc_offset_minutes);
        if !OFFSETS.contains(&offset) {
            return Err(format!(
                "a UTC offset of {offset} minutes is not between -720 and 840"
            ));
        }
        Ok(Self {
            enabled: country
                .and_then(|country| country.enabled)
                .unwrap_or(general.enabled),
            exempt: country
                .and_then(|country| country.exempt.clone())
                .unwrap_or_else(|| general.exempt.clone()),
            calendar: Calendar::new(general, country)?,
            assumed_offset: offset,
        })
    }
}

fn clock(at: Timestamp, offset_minutes: i16) -> String {
    let minutes = ((at / 60_000) as i64 + i64::from(offset_minutes)).rem_euclid(1_440);
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests;
