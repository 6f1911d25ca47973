//! A Heliograph plugin: tells in which country a number lives, by an uploaded table of prefixes.

use heliograph_plugin::{
    Context, Country, Enriched, Enrichment, Message, Network, Plugin, export, tables,
};

/// Everything an operator can set. Doc comments become the descriptions of the published JSON Schema.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Uploaded table. Key: leading digits of the number, as in `4477`. Value: the country, as in `GB`.
    table: String,
}

pub struct ExamplePlugin {
    config: Config,
}

impl Plugin for ExamplePlugin {
    type Config = Config;
    const NAME: &'static str = "example-plugin";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Tells the country of a number by a table of prefixes.";

    fn new(config: Config) -> Result<Self, String> {
        if config.table.is_empty() {
            return Err("table: must name an uploaded table".to_owned());
        }
        Ok(Self { config })
    }
}

impl Enrichment for ExamplePlugin {
    fn enrich(&self, message: &Message, _context: &Context) -> Enriched {
        let row = tables::longest_prefix(&self.config.table, &message.recipient.prefix);
        let Some((prefix, value)) = row else {
            return Enriched::Pass;
        };
        let Some(country) = Country::new(&value) else {
            return Enriched::Pass;
        };
        let network = Network {
            country: Some(country),
            ..message.network
        };
        Enriched::found(network, format!("{prefix} is {country}"))
    }
}

export!(ExamplePlugin: Enrichment);

#[cfg(test)]
mod tests {
    use super::*;
    use heliograph_plugin::{
        configure,
        testing::{self, FakeHost},
    };

    fn enrich() -> Enriched {
        let plugin: ExamplePlugin =
            configure(r#"{"table": "networks"}"#).expect("a valid configuration");
        let message = testing::message("+447700900123", "See you at eight");
        plugin.enrich(&message, &testing::context())
    }

    #[test]
    fn the_longest_prefix_tells_the_country() {
        let host = FakeHost::new();
        host.set_table("networks", &[("44", "GB"), ("441481", "GG")]);
        let Enriched::Found(finding) = enrich() else {
            panic!("44 is in the table");
        };
        let country = finding.network.and_then(|network| network.country);
        assert_eq!(country.as_deref(), Some("GB"));
        assert_eq!(finding.reason, "44 is GB");
    }

    #[test]
    fn a_number_that_no_row_covers_stays_as_it_is() {
        FakeHost::new();
        assert_eq!(enrich(), Enriched::Pass);
    }
}
