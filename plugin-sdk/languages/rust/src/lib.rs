//! A routing policy: the longest prefix of the recipient chooses the carriers, in order.

use std::collections::BTreeMap;

use heliograph_plugin::{
    Carrier, Context, Hop, Message, Plan, Plugin, Routing, RoutingPolicy, export,
};

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Leading digits of the recipient to carriers, the preferred one first. The longest prefix decides.
    routes: BTreeMap<String, Carriers>,
    /// Carriers for recipients that no prefix matches; without it they are the next policy's.
    #[serde(default)]
    otherwise: Option<Carriers>,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Carriers(#[schemars(length(min = 1, max = 8))] Vec<String>);

pub struct PrefixRouter {
    config: Config,
}

impl Plugin for PrefixRouter {
    type Config = Config;
    const NAME: &'static str = "prefix-router-rust";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Routes by the longest prefix of the recipient.";

    fn new(config: Config) -> Result<Self, String> {
        // As much of a number as every grant shows.
        let is_prefix =
            |p: &&String| (1..=8).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit());
        match config.routes.keys().find(|p| !is_prefix(p)) {
            None => Ok(Self { config }),
            Some(prefix) => Err(format!("routes: {prefix:?} is not 1 to 8 digits")),
        }
    }
}

impl RoutingPolicy for PrefixRouter {
    fn route(&self, message: &Message, carriers: &[Carrier], _context: &Context) -> Routing {
        let (rule, wanted) = self.choose(&message.recipient.prefix);
        let known: Vec<&Carrier> = wanted
            .iter()
            .filter_map(|id| carriers.iter().find(|carrier| carrier.id == *id))
            .collect();
        let (mut hops, mut skipped): (Vec<&Carrier>, Vec<&Carrier>) =
            known.iter().partition(|carrier| carrier.connected);
        if hops.is_empty() {
            (hops, skipped) = (known, Vec::new());
        }
        if hops.is_empty() {
            return Routing::Pass;
        }
        let mut reason = format!("{rule}: {}", names(&hops));
        if !skipped.is_empty() {
            reason += &format!("; not connected: {}", names(&skipped));
        }
        Routing::Send(Plan {
            hops: hops.iter().map(|carrier| Hop::to(&carrier.id)).collect(),
            reason,
        })
    }
}

impl PrefixRouter {
    /// The rule that holds for a recipient, and its carriers.
    fn choose(&self, digits: &str) -> (String, &[String]) {
        for length in (1..=digits.len()).rev() {
            let prefix = &digits[..length];
            if let Some(carriers) = self.config.routes.get(prefix) {
                return (format!("prefix {prefix}"), &carriers.0);
            }
        }
        let otherwise = self.config.otherwise.as_ref();
        (
            "otherwise".to_owned(),
            otherwise.map_or(&[], |carriers| &carriers.0),
        )
    }
}

fn names(carriers: &[&Carrier]) -> String {
    let names: Vec<&str> = carriers.iter().map(|carrier| carrier.id.as_str()).collect();
    names.join(", ")
}

export!(PrefixRouter: RoutingPolicy);

#[cfg(test)]
mod tests {
    use super::*;
    use heliograph_plugin::{configure, testing};

    fn router() -> PrefixRouter {
        configure(r#"{"routes": {"44": ["north", "south"], "4477": ["south"]}}"#)
            .expect("a configuration")
    }

    fn hops(to: &str, carriers: &[Carrier]) -> Option<Vec<String>> {
        match router().route(&testing::message(to, "x"), carriers, &testing::context()) {
            Routing::Send(plan) => Some(plan.hops.into_iter().map(|hop| hop.carrier).collect()),
            Routing::Pass => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_longest_prefix_decides_and_what_is_down_is_skipped() {
        let both = [testing::carrier("north"), testing::carrier("south")];
        assert_eq!(hops("+447700900123", &both), Some(vec!["south".to_owned()]));
        assert_eq!(hops("+442079460000", &both).map(|h| h.len()), Some(2));
        let mut down = both.clone();
        down[0].connected = false;
        assert_eq!(hops("+442079460000", &down), Some(vec!["south".to_owned()]));
        assert_eq!(hops("+4930123456", &both), None);
    }

    #[test]
    fn a_prefix_that_is_none_is_refused() {
        let refused = configure::<PrefixRouter>(r#"{"routes": {"+44": ["north"]}}"#);
        assert!(refused.is_err_and(|why| why.contains("+44")));
    }
}
