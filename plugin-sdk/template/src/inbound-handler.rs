//! A Heliograph plugin: answers a keyword.

use heliograph_plugin::{Action, Context, Inbound, InboundHandler, Plugin, export};

/// Everything an operator can set. Doc comments become the descriptions of the published JSON Schema.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The first word of the texts to answer, in any case.
    keyword: String,
    /// What to text back.
    answer: String,
}

pub struct ExamplePlugin {
    config: Config,
}

impl Plugin for ExamplePlugin {
    type Config = Config;
    const NAME: &'static str = "example-plugin";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Answers one keyword.";

    fn new(config: Config) -> Result<Self, String> {
        Ok(Self { config })
    }
}

impl InboundHandler for ExamplePlugin {
    fn receive(&self, inbound: &Inbound, _context: &Context) -> Vec<Action> {
        let text = inbound.body.as_text().unwrap_or_default();
        let first = text.split_whitespace().next().unwrap_or_default();
        if first.eq_ignore_ascii_case(&self.config.keyword) {
            vec![
                Action::Label(self.config.keyword.clone()),
                Action::Reply(self.config.answer.clone()),
            ]
        } else {
            Vec::new()
        }
    }
}

export!(ExamplePlugin: InboundHandler);

#[cfg(test)]
mod tests {
    use super::*;
    use heliograph_plugin::{configure, testing};

    fn receive(keyword: &str) -> Vec<Action> {
        let config = format!(r#"{{"keyword": "{keyword}", "answer": "Thank you"}}"#);
        let plugin: ExamplePlugin = configure(&config).expect("a valid configuration");
        let inbound = testing::inbound("+447700900123", "Reply me please");
        plugin.receive(&inbound, &testing::context())
    }

    #[test]
    fn the_keyword_is_answered_in_any_case() {
        assert_eq!(
            receive("reply"),
            vec![
                Action::Label("reply".to_owned()),
                Action::Reply("Thank you".to_owned())
            ]
        );
    }

    #[test]
    fn another_text_is_left_alone() {
        assert_eq!(receive("HELP"), Vec::new());
    }
}
