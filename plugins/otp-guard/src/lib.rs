//! Keeps one-time passwords from being pumped: numbers that a fraudster owns, ordered by the thousand through a form
//! that sends codes. Velocity by number, range, end user, account and country, runs of neighbouring numbers, and lists.
//! Its one capability is `state`; what it counts lives in a bounded number of keys (see `counters`).

mod config;
mod counters;
mod prefixes;

use heliograph_plugin::{
    ComplianceCheck, Context, Message, Phase, Plugin, RecipientProfile, Refusal, Ruling, log,
};

pub use config::{Account, Class, Config, HighRisk, Limits};

use counters::{DAY, Slots};
use prefixes::{Listed, Prefixes};

pub struct OtpGuard {
    config: Config,
    prefixes: Prefixes,
    high_risk: Prefixes,
    slots: Slots,
    default_account: Account,
}

impl Plugin for OtpGuard {
    type Config = Config;
    const NAME: &'static str = "otp-guard";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Denies one-time passwords that look pumped: neighbouring numbers, velocity by range, recipient, account and country.";
    const SCHEMA: Option<&'static str> = Some(include_str!("../schema.json"));

    fn new(config: Config) -> Result<Self, String> {
        config.check()?;
        let allow = config::prefixes("allow_prefixes", &config.allow_prefixes)?;
        let block = config::prefixes("block_prefixes", &config.block_prefixes)?;
        let risky = config::prefixes("high_risk.prefixes", &config.high_risk.prefixes)?;
        Ok(Self {
            prefixes: Prefixes::new(allow, block)?,
            high_risk: Prefixes::new(Vec::new(), risky)?,
            slots: Slots::new(config.slots, &config.salt),
            default_account: Account::default(),
            config,
        })
    }
}

impl ComplianceCheck for OtpGuard {
    fn check(&self, message: &Message, recipient: &RecipientProfile, context: &Context) -> Ruling {
        if !self.config.classes.contains(&Class::of(message.traffic)) {
            return Ruling::Allow;
        }
        let account = self.account(&message.account);
        if account.exempt {
            return Ruling::Allow;
        }
        let verdict = match self.prefixes.longest(number(message)) {
            Some((_, Listed::Allow)) => Ok(()),
            Some((prefix, Listed::Block)) => Err(Refusal::new(
                "destination_blocked",
                format!("numbers under {prefix} are on the block list"),
            )),
            None => self
                .country(message, account)
                .and_then(|()| self.velocity(message, recipient, account, context)),
        };
        match verdict {
            Ok(()) => Ruling::Allow,
            Err(refusal) if self.config.enforce => Ruling::Deny(refusal),
            Err(refusal) => {
                let fields = [
                    ("code", refusal.code.as_str()),
                    ("reason", refusal.reason.as_str()),
                    ("account", message.account.as_str()),
                ];
                log::warn("would have been denied", &fields);
                Ruling::Allow
            }
        }
    }
}

heliograph_plugin::export!(OtpGuard: ComplianceCheck);

impl OtpGuard {
    fn account(&self, id: &str) -> &Account {
        self.config
            .accounts
            .get(id)
            .unwrap_or(&self.default_account)
    }

    fn country(&self, message: &Message, account: &Account) -> Result<(), Refusal> {
        let served = account.countries.as_ref().unwrap_or(&self.config.countries);
        let country = message.network.country.as_deref();
        let is_served = served.is_empty() || country.is_some_and(|c| served.iter().any(|s| s == c));
        if is_served {
            return Ok(());
        }
        Err(Refusal::new(
            "country_not_served",
            format!(
                "this account sends no one-time passwords to {}",
                country.unwrap_or("a number of unknown country")
            ),
        ))
    }

    /// What is counted is counted once, when the client hands the message in: a later decision about the same message
    /// must not count it again. A preview counts as the host lets it: without a trace.
    fn velocity(
        &self,
        message: &Message,
        recipient: &RecipientProfile,
        account: &Account,
        context: &Context,
    ) -> Result<(), Refusal> {
        match context.phase {
            Phase::Admission | Phase::Preview => {}
            Phase::Dispatch | Phase::Retry => return Ok(()),
        }
        let risk = self.risk(message);
        self.recipient(message, recipient)?;
        self.range(message, account.factor * risk)?;
        self.client(message)?;
        self.account_rate(message, account.factor)?;
        self.country_cap(message, account.factor * risk, context.now)
    }

    /// 1, or the factor of destinations with a high risk.
    fn risk(&self, message: &Message) -> f32 {
        let risky = &self.config.high_risk;
        let country = message.network.country.as_deref();
        let is_risky = country.is_some_and(|country| risky.countries.iter().any(|c| c == country))
            || self.high_risk.longest(number(message)).is_some();
        if is_risky { risky.factor } else { 1.0 }
    }

    fn recipient(&self, message: &Message, profile: &RecipientProfile) -> Result<(), Refusal> {
        let limits = &self.config.limits;
        let sent = profile.sent_last_day;
        if limits.per_recipient_day > 0 && sent >= limits.per_recipient_day {
            let reason = format!(
                "{sent} messages to this number in 24 hours; at most {} are let through",
                limits.per_recipient_day
            );
            return Err(Refusal::new("recipient_daily_cap", reason));
        }
        if limits.per_recipient == 0 && limits.neighbours == 0 {
            return Ok(());
        }
        let window = limits.window_minutes;
        let ten = self
            .slots
            .count_number(&message.recipient.value, window * 60);
        if limits.per_recipient > 0 && ten.recipient > limits.per_recipient {
            let reason = format!(
                "more than {} codes for one number in {window} minutes",
                limits.per_recipient
            );
            return Err(Refusal::new("recipient_velocity", reason));
        }
        if limits.neighbours > 0 && ten.neighbours >= limits.neighbours {
            let reason = format!(
                "codes for {} neighbouring numbers in {window} minutes",
                ten.neighbours
            );
            return Err(Refusal::new("consecutive_numbers", reason));
        }
        Ok(())
    }

    fn range(&self, message: &Message, factor: f32) -> Result<(), Refusal> {
        let limits = &self.config.limits;
        let Some(range) = range(message, limits.range_digits) else {
            return Ok(());
        };
        let Some(most) = scaled(limits.range_per_hour, factor) else {
            return Ok(());
        };
        if self.slots.count('r', range) > most {
            let reason = format!("more than {most} codes an hour for the numbers under {range}");
            return Err(Refusal::new("range_velocity", reason));
        }
        Ok(())
    }

    fn client(&self, message: &Message) -> Result<(), Refusal> {
        let most = self.config.limits.client_per_hour;
        let key = self.config.client_metadata.as_deref();
        let Some(client) = key.and_then(|key| message.metadata(key)) else {
            return Ok(());
        };
        // Two accounts may name their users alike.
        let name = [message.account.as_str(), "\n", client].concat();
        if most > 0 && self.slots.count('i', &name) > i64::from(most) {
            let reason = format!("more than {most} codes an hour for one end user");
            return Err(Refusal::new("client_velocity", reason));
        }
        Ok(())
    }

    fn account_rate(&self, message: &Message, factor: f32) -> Result<(), Refusal> {
        let Some(most) = scaled(self.config.limits.account_per_hour, factor) else {
            return Ok(());
        };
        if self.slots.count_account(&message.account) > most {
            let reason = format!("more than {most} codes an hour from this account");
            return Err(Refusal::new("account_velocity", reason));
        }
        Ok(())
    }

    fn country_cap(&self, message: &Message, factor: f32, now: u64) -> Result<(), Refusal> {
        let limits = &self.config.limits;
        let Some(floor) = scaled(limits.country_per_day, factor) else {
            return Ok(());
        };
        let country = message.network.country.as_deref().unwrap_or("");
        let today = now / (u64::from(DAY) * 1_000);
        let counted = self.slots.count_country(
            &message.account,
            country,
            today,
            floor,
            limits.country_growth,
        );
        counted.map_err(|cap| {
            let place = if country.is_empty() {
                "numbers of unknown country"
            } else {
                country
            };
            Refusal::new(
                "country_daily_cap",
                format!("more than {cap} codes today from this account to {place}"),
            )
        })
    }
}

/// The limit times the factor; none where the limit is switched off.
fn scaled(limit: u32, factor: f32) -> Option<i64> {
    (limit > 0).then(|| (f64::from(limit) * f64::from(factor)).round() as i64)
}

/// The digits to compare with prefixes: the number, or as much of it as the grant shows.
fn number(message: &Message) -> &str {
    let recipient = &message.recipient;
    match is_digits(&recipient.value) {
        true => &recipient.value,
        false => &recipient.prefix,
    }
}

/// The digits that the numbers of one range share; none where too little of the number is shown.
fn range(message: &Message, open_digits: u8) -> Option<&str> {
    const SHORTEST: usize = 4;
    let recipient = &message.recipient;
    let shown = match is_digits(&recipient.value) {
        true => recipient
            .value
            .get(..recipient.value.len().saturating_sub(open_digits.into()))?,
        // The grant hides the last digits already.
        false => &recipient.prefix,
    };
    (shown.len() >= SHORTEST).then_some(shown)
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
