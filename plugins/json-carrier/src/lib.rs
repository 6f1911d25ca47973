//! JSON carrier: an HTTP aggregator described wholly by configuration. It turns a message into a request, an answer
//! into ids or a failure, and a call-back into receipts and mobile-originated messages; it keeps nothing between calls
//! and knows no aggregator by name.

mod callback;
mod config;
mod locate;
mod request;
mod response;
mod template;
mod time;

use std::collections::BTreeMap;

use heliograph_plugin::{
    Body, CallbackAnswer, CarrierAdapter, Context, HttpRequest, Message, Plugin, SubmitError,
    TypeOfNumber, http,
};

use crate::callback::Callback;
pub use crate::config::Config;
use crate::config::{Class, Encoding};
use crate::request::RequestTemplate;
use crate::response::{Meaning, failure};
use crate::template::{Constants, Values};

pub struct JsonCarrier {
    request: RequestTemplate,
    binary_request: Option<RequestTemplate>,
    encoding_names: BTreeMap<Encoding, String>,
    class_names: BTreeMap<Class, String>,
    meaning: Meaning,
    callback: Option<Callback>,
}

impl Plugin for JsonCarrier {
    type Config = Config;
    const NAME: &'static str = "json-carrier";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str =
        "Speaks to an HTTP aggregator that is described wholly by configuration.";
    const SCHEMA: Option<&'static str> = Some(include_str!("../schema.json"));

    fn new(config: Config) -> Result<Self, String> {
        let callback_url = config
            .callback
            .as_ref()
            .and_then(|callback| callback.url.as_deref());
        let constants = Constants {
            variables: &config.variables,
            callback_url,
        };
        let binary_request = config
            .binary_request
            .as_ref()
            .map(|request| RequestTemplate::new(request, constants));
        Ok(Self {
            request: RequestTemplate::new(&config.request, constants)
                .map_err(|e| format!("request.{e}"))?,
            binary_request: binary_request
                .transpose()
                .map_err(|e| format!("binary_request.{e}"))?,
            meaning: Meaning::new(&config.response).map_err(|e| format!("response.{e}"))?,
            callback: config
                .callback
                .as_ref()
                .map(Callback::new)
                .transpose()
                .map_err(|e| format!("callback.{e}"))?,
            encoding_names: config.encoding_names,
            class_names: config.class_names,
        })
    }
}

impl CarrierAdapter for JsonCarrier {
    fn submit(&self, message: &Message, context: &Context) -> Result<Vec<String>, SubmitError> {
        let template = match &message.body {
            Body::Text(_) => &self.request,
            Body::Binary(_) => self.binary_request.as_ref().ok_or_else(|| {
                SubmitError::Permanent("this carrier takes no binary messages".to_owned())
            })?,
            // The operator can mend the grant; the message is sound.
            Body::Withheld(_) => {
                return Err(SubmitError::Temporary(
                    "the plugin's grant withholds the content, which this carrier needs".to_owned(),
                ));
            }
        };
        let recipient = &message.recipient;
        if recipient.ton == TypeOfNumber::International
            && !recipient.value.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(SubmitError::Temporary(
                "the plugin's grant withholds the number, which this carrier needs".to_owned(),
            ));
        }
        let values = Values {
            message,
            now: context.now,
            encoding_names: &self.encoding_names,
            class_names: &self.class_names,
        };
        let request = template.render(&values).map_err(|why| {
            SubmitError::Permanent(format!("the message does not fit this carrier: {why}"))
        })?;
        let response = http::send(request).map_err(failure)?;
        self.meaning.judge(&response, message, context.now)
    }

    fn callback(
        &self,
        request: &HttpRequest,
        _context: &Context,
    ) -> Result<CallbackAnswer, String> {
        let callback = self
            .callback
            .as_ref()
            .ok_or("this carrier has no call-backs configured")?;
        callback.read(request)
    }
}

heliograph_plugin::export!(JsonCarrier: CarrierAdapter);

#[cfg(test)]
mod tests;
