//! From what an operator says of mobile-originated messages to the table that routes them.

use std::sync::Arc;
use std::time::Duration;

use super::{StartError, failed};
use crate::config::{CarrierSection, Config, InboundRouteSection, InboundSection};
use crate::domain::{AccountId, CarrierId};
use crate::pipeline::inbound_routes::{InboundRoute, InboundRoutes, Keyword, NumberPattern};
use crate::pipeline::reassembly::ReassemblyLimits;
use crate::store::TwoWay;

/// The routes of the file, and behind them the accounts' own numbers.
pub fn routes(config: &Config) -> Result<Arc<InboundRoutes>, StartError> {
    let mut places = Vec::new();
    let mut all = Vec::new();
    for (i, section) in config.inbound.routes.iter().enumerate() {
        let at = format!("inbound.routes[{i}]");
        all.push(route(section, config, &at)?);
        places.push(at);
    }
    for (i, account) in config.accounts.iter().enumerate() {
        for (n, number) in account.numbers.iter().enumerate() {
            let at = format!("accounts[{i}].numbers[{n}]");
            let pattern = NumberPattern::parse(number)
                .map_err(|rule| failed(&at, format!("{number:?} {rule}")))?;
            // A route of the file says more than that the number is somebody's.
            let overridden =
                all.iter()
                    .take(config.inbound.routes.len())
                    .any(|r: &InboundRoute| {
                        r.number == pattern && r.keyword.is_none() && r.carrier.is_none()
                    });
            if !overridden {
                all.push(InboundRoute {
                    number: pattern,
                    keyword: None,
                    carrier: None,
                    account: AccountId::from(account.id.as_str()),
                });
                places.push(at);
            }
        }
    }
    let built = InboundRoutes::new(all).map_err(|(first, second)| {
        let place = |n: usize| places.get(n).map_or("", String::as_str);
        let why = format!(
            "is the same as {}: nothing tells whose a text is; add a keyword or a carrier",
            place(first)
        );
        failed(place(second), why)
    })?;
    Ok(Arc::new(built))
}

fn route(
    section: &InboundRouteSection,
    config: &Config,
    at: &str,
) -> Result<InboundRoute, StartError> {
    let number = NumberPattern::parse(&section.number).map_err(|rule| {
        failed(
            &format!("{at}.number"),
            format!("{:?} {rule}", section.number),
        )
    })?;
    let keyword = match &section.keyword {
        Some(text) => Some(
            Keyword::parse(text)
                .map_err(|rule| failed(&format!("{at}.keyword"), format!("{text:?} {rule}")))?,
        ),
        None => None,
    };
    if !config.accounts.iter().any(|a| a.id == section.account) {
        let why = format!("{:?} is no account of this file", section.account);
        return Err(failed(&format!("{at}.account"), why));
    }
    if let Some(carrier) = &section.carrier
        && !config
            .carriers
            .iter()
            .map(CarrierSection::id)
            .any(|id| id == carrier)
    {
        let why = format!("{carrier:?} is no carrier of this file");
        return Err(failed(&format!("{at}.carrier"), why));
    }
    Ok(InboundRoute {
        number,
        keyword,
        carrier: section.carrier.as_deref().map(CarrierId::from),
        account: AccountId::from(section.account.as_str()),
    })
}

pub fn reassembly(section: &InboundSection) -> ReassemblyLimits {
    ReassemblyLimits {
        patience: Duration::from_secs(section.reassembly_seconds),
        per_source: section.reassembly_per_source,
        total: section.reassembly_total,
        octets: section.reassembly_mib << 20,
    }
}

/// Numbers that texts come to: what is sent from them stands in conversations.
pub fn two_way(routes: Arc<InboundRoutes>) -> TwoWay {
    TwoWay(Arc::new(move |number| routes.is_ours(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let accounts = "[[accounts]]\nid = \"a\"\nnumbers = [\"+447700900123\", \"60777\"]\n[[accounts]]\nid = \"b\"\n";
        let text = format!("{text}\n{accounts}");
        Config::parse(&text, "test.toml", std::iter::empty()).expect("a configuration")
    }

    fn broken(text: &str) -> String {
        routes(&config(text)).expect_err("accepted").0
    }

    #[test]
    fn a_route_of_the_file_takes_an_accounts_number_over() {
        let routes = routes(&config(
            "[[inbound.routes]]\nnumber = \"60777\"\naccount = \"b\"\n",
        ));
        let routes = routes.expect("routes");
        let north = CarrierId::from("north");
        let owner = |n: &str| routes.find(&north, n, Some("hi")).map(ToString::to_string);
        assert_eq!(owner("60777").as_deref(), Some("b"));
        assert_eq!(owner("447700900123").as_deref(), Some("a"));
        assert!(routes.is_ours("60777") && !routes.is_ours("Acme"));
    }

    #[test]
    fn what_is_wrong_is_named_where_it_is() {
        let route = |lines: &str| format!("[[inbound.routes]]\n{lines}\n");
        for (lines, place) in [
            (
                "number = \"6*7\"\naccount = \"a\"",
                "inbound.routes[0].number",
            ),
            (
                "keyword = \"!\"\naccount = \"a\"",
                "inbound.routes[0].keyword",
            ),
            ("account = \"c\"", "inbound.routes[0].account"),
            (
                "carrier = \"x\"\naccount = \"a\"",
                "inbound.routes[0].carrier",
            ),
        ] {
            let error = broken(&route(lines));
            assert!(error.starts_with(place), "{error}");
        }
        let twice = route("keyword = \"win\"\naccount = \"a\"").repeat(2);
        let error = broken(&twice);
        assert!(
            error.contains("inbound.routes[1]: is the same as inbound.routes[0]"),
            "{error}"
        );
    }
}
