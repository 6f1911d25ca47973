//! A Heliograph plugin: lets a recipient have no more than a number of messages a day.

use heliograph_plugin::{
    ComplianceCheck, Context, Message, Plugin, RecipientProfile, Ruling, TrafficClass, export,
};

/// Everything an operator can set. Doc comments become the descriptions of the published JSON Schema.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Promotional messages that one recipient may get in 24 hours.
    daily_limit: u32,
}

pub struct ExamplePlugin {
    config: Config,
}

impl Plugin for ExamplePlugin {
    type Config = Config;
    const NAME: &'static str = "example-plugin";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Caps promotional messages per recipient and day.";

    fn new(config: Config) -> Result<Self, String> {
        Ok(Self { config })
    }
}

impl ComplianceCheck for ExamplePlugin {
    fn check(&self, message: &Message, recipient: &RecipientProfile, _context: &Context) -> Ruling {
        if message.traffic == TrafficClass::Promotional
            && recipient.sent_last_day >= self.config.daily_limit
        {
            Ruling::deny(
                "daily_limit",
                format!("{} messages in the last 24 hours", recipient.sent_last_day),
            )
        } else {
            Ruling::Allow
        }
    }
}

export!(ExamplePlugin: ComplianceCheck);

#[cfg(test)]
mod tests {
    use super::*;
    use heliograph_plugin::{configure, testing};

    fn check(sent_last_day: u32) -> Ruling {
        let plugin: ExamplePlugin =
            configure(r#"{"daily_limit": 3}"#).expect("a valid configuration");
        let mut message = testing::message("+447700900123", "Half price today");
        message.traffic = TrafficClass::Promotional;
        let recipient = RecipientProfile {
            sent_last_day,
            ..testing::recipient()
        };
        plugin.check(&message, &recipient, &testing::context())
    }

    #[test]
    fn below_the_limit_is_allowed() {
        assert_eq!(check(2), Ruling::Allow);
    }

    #[test]
    fn at_the_limit_is_denied() {
        assert!(matches!(check(3), Ruling::Deny(refusal) if refusal.code == "daily_limit"));
    }
}
