//! A Heliograph plugin: sends by the carriers that are connected, in a configured order.

use heliograph_plugin::{
    Carrier, Context, Hop, Message, Plan, Plugin, Routing, RoutingPolicy, export,
};

/// Everything an operator can set. Doc comments become the descriptions of the published JSON Schema.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Carrier ids, the one to try first at the front.
    order: Vec<String>,
}

pub struct ExamplePlugin {
    config: Config,
}

impl Plugin for ExamplePlugin {
    type Config = Config;
    const NAME: &'static str = "example-plugin";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Tries carriers in a fixed order.";

    fn new(config: Config) -> Result<Self, String> {
        if config.order.is_empty() {
            return Err("order: must name at least one carrier".to_owned());
        }
        Ok(Self { config })
    }
}

impl RoutingPolicy for ExamplePlugin {
    fn route(&self, _message: &Message, carriers: &[Carrier], _context: &Context) -> Routing {
        let connected = |id: &&String| {
            carriers
                .iter()
                .any(|carrier| carrier.id == **id && carrier.connected)
        };
        let hops: Vec<Hop> = self
            .config
            .order
            .iter()
            .filter(connected)
            .map(Hop::to)
            .collect();
        if hops.is_empty() {
            return Routing::refuse("no_carrier", "none of the configured carriers is connected");
        }
        Routing::Send(Plan {
            hops,
            reason: "the configured order".to_owned(),
        })
    }
}

export!(ExamplePlugin: RoutingPolicy);

#[cfg(test)]
mod tests {
    use super::*;
    use heliograph_plugin::{configure, testing};

    fn route(carriers: &[Carrier]) -> Routing {
        let plugin: ExamplePlugin =
            configure(r#"{"order": ["north", "south"]}"#).expect("a valid configuration");
        let message = testing::message("+447700900123", "Your code is 4711");
        plugin.route(&message, carriers, &testing::context())
    }

    #[test]
    fn a_carrier_that_is_down_is_skipped() {
        let mut north = testing::carrier("north");
        north.connected = false;
        let Routing::Send(plan) = route(&[north, testing::carrier("south")]) else {
            panic!("south is connected");
        };
        assert_eq!(plan.hops, vec![Hop::to("south")]);
    }

    #[test]
    fn no_connected_carrier_is_a_refusal() {
        assert!(matches!(route(&[]), Routing::Refuse(refusal) if refusal.code == "no_carrier"));
    }
}
