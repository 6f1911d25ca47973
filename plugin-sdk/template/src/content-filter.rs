//! A Heliograph plugin: refuses messages that hold a given word.

use heliograph_plugin::{ContentFilter, Context, Message, Plugin, Verdict, export};

/// Everything an operator can set. Doc comments become the descriptions of the published JSON Schema.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Messages that hold this word, in any case, are refused.
    word: String,
}

pub struct ExamplePlugin {
    config: Config,
}

impl Plugin for ExamplePlugin {
    type Config = Config;
    const NAME: &'static str = "example-plugin";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Refuses messages that hold a word.";

    fn new(config: Config) -> Result<Self, String> {
        if config.word.is_empty() {
            return Err("word: must not be empty".to_owned());
        }
        Ok(Self { config })
    }
}

impl ContentFilter for ExamplePlugin {
    fn inspect(&self, message: &Message, _context: &Context) -> Verdict {
        let Some(text) = message.text() else {
            return Verdict::Pass;
        };
        if text
            .to_lowercase()
            .contains(&self.config.word.to_lowercase())
        {
            Verdict::refuse(
                "word_blocked",
                format!("the text holds \"{}\"", self.config.word),
            )
        } else {
            Verdict::Pass
        }
    }
}

export!(ExamplePlugin: ContentFilter);

#[cfg(test)]
mod tests {
    use super::*;
    use heliograph_plugin::{configure, testing};

    fn inspect(text: &str) -> Verdict {
        let plugin: ExamplePlugin =
            configure(r#"{"word": "prize"}"#).expect("a valid configuration");
        plugin.inspect(
            &testing::message("+447700900123", text),
            &testing::context(),
        )
    }

    #[test]
    fn the_word_is_found_in_any_case() {
        let verdict = inspect("Reply PRIZE to claim your reward");
        assert!(matches!(verdict, Verdict::Refuse(refusal) if refusal.code == "word_blocked"));
    }

    #[test]
    fn other_texts_pass() {
        assert_eq!(inspect("See you at eight"), Verdict::Pass);
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let error = configure::<ExamplePlugin>(r#"{"wrod": "prize"}"#)
            .err()
            .expect("no such key");
        assert!(error.contains("wrod"), "{error}");
    }
}
