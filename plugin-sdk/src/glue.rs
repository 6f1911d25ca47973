//! Between the traits that an author implements and the exports that the host calls: the configured plugin is
//! kept for the life of the instance, and what the host packed is read and lent to it.

use std::cell::OnceCell;
use std::marker::PhantomData;

use crate::bindings::{
    carrier_adapter::exports::heliograph::sms::carrier_adapter,
    compliance_check::exports::heliograph::sms::compliance_check,
    content_filter::exports::heliograph::sms::content_filter,
    enrichment::exports::heliograph::sms::enrichment,
    inbound_handler::exports::heliograph::sms::inbound_handler,
    plugin::exports::heliograph::sms::plugin,
    routing_policy::exports::heliograph::sms::routing_policy,
};
use crate::packed::Packed;
use crate::*;

/// Builds a plugin from configuration JSON exactly as the host does. The error names the place in the
/// document, as in `rules[2].action: unknown variant ...`.
pub fn configure<P: Plugin>(config: &str) -> Result<P, String> {
    P::new(serde_json::from_str(config).map_err(|error| place::placed(config, &error))?)
}

/// The JSON Schema (2020-12) of a plugin's configuration, as `describe` publishes it.
pub fn config_schema<P: Plugin>() -> String {
    match P::SCHEMA {
        Some(text) => text.to_owned(),
        None => derived_schema::<P>().to_string(),
    }
}

/// By the type alone.
pub(crate) fn derived_schema<P: Plugin>() -> serde_json::Value {
    schemars::schema_for!(P::Config).to_value()
}

/// Where the one configured plugin of a component lives. Implemented by `export!`.
#[doc(hidden)]
pub trait Slot: Plugin {
    fn with<R>(use_slot: impl FnOnce(&OnceCell<Self>) -> R) -> R;
}

/// Stands for `P` before the generated bindings.
#[doc(hidden)]
pub struct Glue<P>(PhantomData<P>);

impl<P: Slot> Glue<P> {
    fn call<R>(hook: impl FnOnce(&P) -> R) -> R {
        P::with(|slot| match slot.get() {
            Some(plugin) => hook(plugin),
            None => panic!("the host called a hook before `configure`"),
        })
    }
}

impl<P: Slot> plugin::Guest for Glue<P> {
    fn describe() -> plugin::Manifest {
        plugin::Manifest {
            name: P::NAME.to_owned(),
            version: P::VERSION.to_owned(),
            summary: P::SUMMARY.to_owned(),
            config_schema: config_schema::<P>(),
        }
    }

    fn configure(config: String) -> Result<(), String> {
        let plugin = configure::<P>(&config)?;
        P::with(|slot| slot.set(plugin))
            .map_err(|_| "this instance is configured already".to_owned())
    }
}

impl<P: Slot + Enrichment> enrichment::Guest for Glue<P> {
    fn enrich(call: Vec<u8>) -> enrichment::Enriched {
        let (message, context): (Message, Context) = Packed::new(&call).read();
        Self::call(|plugin| plugin.enrich(&message, &context).into())
    }
}

impl<P: Slot + ContentFilter> content_filter::Guest for Glue<P> {
    fn inspect(call: Vec<u8>) -> Verdict {
        let (message, context): (Message, Context) = Packed::new(&call).read();
        Self::call(|plugin| plugin.inspect(&message, &context))
    }
}

impl<P: Slot + ComplianceCheck> compliance_check::Guest for Glue<P> {
    fn check(call: Vec<u8>) -> Ruling {
        let call = &mut Packed::new(&call);
        let (message, recipient): (Message, RecipientProfile) = call.read();
        let context: Context = call.read();
        Self::call(|plugin| plugin.check(&message, &recipient, &context))
    }
}

impl<P: Slot + RoutingPolicy> routing_policy::Guest for Glue<P> {
    fn route(call: Vec<u8>) -> routing_policy::Routing {
        let call = &mut Packed::new(&call);
        let (message, carriers): (Message, Vec<Carrier>) = call.read();
        let context: Context = call.read();
        Self::call(|plugin| plugin.route(&message, &carriers, &context).among(&carriers))
    }
}

impl<P: Slot + CarrierAdapter> carrier_adapter::Guest for Glue<P> {
    fn submit(call: Vec<u8>) -> Result<Vec<String>, SubmitError> {
        let (message, context): (Message, Context) = Packed::new(&call).read();
        Self::call(|plugin| plugin.submit(&message, &context))
    }

    fn callback(call: Vec<u8>) -> Result<CallbackAnswer, String> {
        let (request, context): (HttpRequest, Context) = Packed::new(&call).read();
        Self::call(|plugin| plugin.callback(&request, &context))
    }
}

impl<P: Slot + InboundHandler> inbound_handler::Guest for Glue<P> {
    fn receive(call: Vec<u8>) -> Vec<Action> {
        let (inbound, context): (Inbound, Context) = Packed::new(&call).read();
        Self::call(|plugin| plugin.receive(&inbound, &context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Probe;

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Config {
        /// What to do.
        rules: Vec<Rule>,
    }

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    #[allow(dead_code)]
    struct Rule {
        limit: u32,
    }

    impl Plugin for Probe {
        type Config = Config;
        const NAME: &'static str = "probe";
        const VERSION: &'static str = "1.2.3";
        const SUMMARY: &'static str = "Probes.";

        fn new(_config: Config) -> Result<Self, String> {
            Ok(Self)
        }
    }

    fn refusal(config: &str) -> String {
        configure::<Probe>(config)
            .err()
            .expect("a bad configuration")
    }

    #[test]
    fn a_configuration_error_names_the_place() {
        let error = refusal(r#"{"rules": [{"limit": 1}, {"limit": "many"}]}"#);
        assert!(
            error.starts_with("rules[1].limit: invalid type: string"),
            "{error}"
        );
    }

    #[test]
    fn what_follows_the_document_is_refused() {
        assert!(refusal(r#"{"rules": []} x"#).contains("trailing characters"));
    }

    #[test]
    fn the_schema_is_of_draft_2020_12_with_the_authors_words() {
        let schema: serde_json::Value =
            serde_json::from_str(&config_schema::<Probe>()).expect("JSON");
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
        assert_eq!(schema["properties"]["rules"]["description"], "What to do.");
        assert_eq!(schema["additionalProperties"], false);
    }
}
