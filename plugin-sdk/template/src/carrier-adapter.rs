//! A Heliograph plugin: hands messages to a carrier by HTTP.

use heliograph_plugin::{
    CallbackAnswer, CarrierAdapter, Context, HttpFailure, HttpRequest, HttpResponse, Message,
    Plugin, SubmitError, export, http,
};

/// Everything an operator can set. Doc comments become the descriptions of the published JSON Schema.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to post a message. The policy's grant must list its host.
    url: String,
}

pub struct ExamplePlugin {
    config: Config,
}

impl Plugin for ExamplePlugin {
    type Config = Config;
    const NAME: &'static str = "example-plugin";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Posts messages to an HTTP carrier.";

    fn new(config: Config) -> Result<Self, String> {
        if !config.url.starts_with("https://") && !config.url.starts_with("http://") {
            return Err(format!("url: \"{}\" is no HTTP address", config.url));
        }
        Ok(Self { config })
    }
}

impl CarrierAdapter for ExamplePlugin {
    fn submit(&self, message: &Message, _context: &Context) -> Result<Vec<String>, SubmitError> {
        let Some(text) = message.text() else {
            return Err(SubmitError::Permanent(
                "this carrier takes text only".to_owned(),
            ));
        };
        let answer = http::send(HttpRequest {
            method: "POST".to_owned(),
            url: self.config.url.clone(),
            headers: vec![
                (
                    "content-type".to_owned(),
                    "text/plain; charset=utf-8".to_owned(),
                ),
                ("x-recipient".to_owned(), message.recipient.value.clone()),
            ],
            body: text.as_bytes().to_vec(),
        });
        match answer {
            Ok(HttpResponse {
                status: 200..=299,
                body,
                ..
            }) => match String::from_utf8(body) {
                Ok(id) if !id.trim().is_empty() => Ok(vec![id.trim().to_owned()]),
                Ok(_) | Err(_) => Err(SubmitError::Unknown(
                    "the carrier answered without an id".to_owned(),
                )),
            },
            Ok(HttpResponse { status: 429, .. }) => Err(SubmitError::Throttled(1000)),
            Ok(HttpResponse {
                status: 400..=499, ..
            }) => Err(SubmitError::Permanent("the carrier refused".to_owned())),
            Ok(HttpResponse { status, .. }) => {
                Err(SubmitError::Temporary(format!("HTTP status {status}")))
            }
            Err(HttpFailure::Denied(reason) | HttpFailure::Connect(reason)) => {
                Err(SubmitError::Temporary(reason))
            }
            Err(HttpFailure::Timeout | HttpFailure::TooLarge) => {
                Err(SubmitError::Unknown("no usable answer".to_owned()))
            }
            Err(HttpFailure::Other(reason)) => Err(SubmitError::Unknown(reason)),
        }
    }

    fn callback(
        &self,
        _request: &HttpRequest,
        _context: &Context,
    ) -> Result<CallbackAnswer, String> {
        Err("this carrier sends no call-backs".to_owned())
    }
}

export!(ExamplePlugin: CarrierAdapter);

#[cfg(test)]
mod tests {
    use super::*;
    use heliograph_plugin::{configure, testing};

    fn submit(answer: Result<HttpResponse, HttpFailure>) -> Result<Vec<String>, SubmitError> {
        let host = testing::FakeHost::new();
        host.answer(answer);
        let plugin: ExamplePlugin =
            configure(r#"{"url": "https://carrier.example/sms"}"#).expect("a valid configuration");
        let message = testing::message("+447700900123", "Your code is 4711");
        let outcome = plugin.submit(&message, &testing::context());
        assert_eq!(host.requests()[0].body, b"Your code is 4711");
        outcome
    }

    #[test]
    fn the_answer_is_the_carriers_id() {
        assert_eq!(
            submit(Ok(testing::response(200, "abc-1\n"))),
            Ok(vec!["abc-1".to_owned()])
        );
    }

    #[test]
    fn a_timeout_leaves_the_outcome_unknown() {
        assert!(matches!(
            submit(Err(HttpFailure::Timeout)),
            Err(SubmitError::Unknown(_))
        ));
    }

    #[test]
    fn status_429_is_throttling() {
        assert_eq!(
            submit(Ok(testing::response(429, ""))),
            Err(SubmitError::Throttled(1000))
        );
    }
}
