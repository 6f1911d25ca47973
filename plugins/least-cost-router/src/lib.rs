//! Least-cost router: which carriers a message may take, in what order, and why. Prices come from tables that the
//! operator uploads or from the configuration, load and quality from the host; nothing is remembered between
//! decisions, so the same question always gets the same answer.

mod config;
mod deck;
mod policy;
mod rank;

use heliograph_plugin::{
    Address, Carrier, Context, Hop, Message, Plan, Plugin, Routing, RoutingPolicy,
};

pub use crate::config::Config;
use crate::config::{Class, ClassRule, Unavailable, Unpriced};
use crate::deck::Entry;
use crate::policy::{Policy, Price, parse_row, shown};
use crate::rank::{Candidate, Ranking, Standing, Thresholds, explain, order, standing};

pub struct LeastCostRouter {
    policy: Policy,
}

impl Plugin for LeastCostRouter {
    type Config = Config;
    const NAME: &'static str = "least-cost-router";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str =
        "Chooses carriers by price, quality and load, with failover in order.";
    const SCHEMA: Option<&'static str> = Some(include_str!("../schema.json"));

    fn new(config: Config) -> Result<Self, String> {
        Ok(Self {
            policy: Policy::new(config)?,
        })
    }
}

impl RoutingPolicy for LeastCostRouter {
    fn route(&self, message: &Message, carriers: &[Carrier], context: &Context) -> Routing {
        let number = destination(&message.recipient);
        if let Some(reason) = self.policy.denial(message, number) {
            return Routing::refuse("destination_denied", reason);
        }
        let row = self.policy.row(message, number);
        let entries = row
            .as_ref()
            .map_or_else(Vec::new, |row| parse_row(row.deck, &row.key, &row.value));
        let (mut candidates, excluded) = self.candidates(message, number, carriers, &entries);
        let Some(ready) = candidates.iter().map(|c| c.standing).min() else {
            return self.nobody(message, number, &excluded);
        };
        if ready > Standing::Poor && self.policy.config.unavailable == Unavailable::Refuse {
            let count = candidates.len();
            let reason = format!(
                "{count} of {count} carriers for this message are down, saturated or refused it"
            );
            return Routing::refuse("no_carrier_available", reason);
        }
        let ranking = self.ranking(message);
        order(&mut candidates, ranking, context.random);
        Routing::Send(self.plan(message, &candidates, &excluded, ranking))
    }
}

heliograph_plugin::export!(LeastCostRouter: RoutingPolicy);

/// Why a carrier is no candidate at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exclusion {
    Disabled,
    Tags,
    NoRate,
    TooDear(u64),
}

impl Exclusion {
    fn word(self) -> &'static str {
        match self {
            Exclusion::Disabled => "disabled",
            Exclusion::Tags => "not for this class",
            Exclusion::NoRate => "without a rate",
            Exclusion::TooDear(_) => "too dear",
        }
    }
}

impl LeastCostRouter {
    /// Who may carry the message, and who may not and why.
    fn candidates<'a>(
        &'a self,
        message: &Message,
        number: &str,
        carriers: &'a [Carrier],
        row: &[Entry<'_>],
    ) -> (Vec<Candidate<'a>>, Vec<(&'a str, Exclusion)>) {
        let class = self.policy.class(message.traffic);
        let thresholds = Thresholds {
            min_headroom: self.policy.config.min_headroom,
            max_queued: self.policy.config.max_queued,
            min_delivered_ratio: class.min_delivered_ratio,
        };
        let mut candidates = Vec::with_capacity(carriers.len());
        let mut excluded = Vec::new();
        for carrier in carriers {
            match self.admit(class, number, carrier, row) {
                Ok(price) => candidates.push(Candidate {
                    carrier,
                    policy: self.policy.carrier(&carrier.id),
                    price,
                    standing: standing(carrier, &message.attempts, thresholds),
                    score: 0.0,
                }),
                Err(exclusion) => excluded.push((carrier.id.as_str(), exclusion)),
            }
        }
        (candidates, excluded)
    }

    /// The price at which this carrier may carry the message.
    fn admit(
        &self,
        class: &ClassRule,
        number: &str,
        carrier: &Carrier,
        row: &[Entry<'_>],
    ) -> Result<Option<u64>, Exclusion> {
        let policy = self.policy.carrier(&carrier.id);
        if policy.disabled {
            return Err(Exclusion::Disabled);
        }
        let has = |tag: &String| carrier.tags.contains(tag);
        if !class.require_tags.iter().all(has) || class.avoid_tags.iter().any(has) {
            return Err(Exclusion::Tags);
        }
        match (
            self.policy.price(&carrier.id, policy, number, row),
            class.max_price_micros,
        ) {
            (Price::Known(price), Some(limit)) if price > limit => Err(Exclusion::TooDear(price)),
            (Price::Known(price), _) => Ok(Some(price)),
            (Price::Unasked, _) => Ok(None),
            (Price::Missing | Price::Malformed, _) => Err(Exclusion::NoRate),
        }
    }

    /// The answer where no carrier is a candidate. The nearest miss names the reason.
    fn nobody(&self, message: &Message, number: &str, excluded: &[(&str, Exclusion)]) -> Routing {
        let class = Class::of(message.traffic).name();
        let nearest = excluded
            .iter()
            .filter_map(|(id, exclusion)| match exclusion {
                Exclusion::TooDear(price) => Some((*price, *id)),
                Exclusion::Disabled | Exclusion::Tags | Exclusion::NoRate => None,
            })
            .min();
        if let Some((price, id)) = nearest {
            let limit = self
                .policy
                .class(message.traffic)
                .max_price_micros
                .unwrap_or(0);
            let reason = format!(
                "the cheapest carrier, {id}, asks {price}µ a segment; {class} may cost {limit}µ"
            );
            return Routing::refuse("price_too_high", reason);
        }
        if excluded
            .iter()
            .any(|(_, exclusion)| *exclusion == Exclusion::NoRate)
        {
            return match self.policy.config.unpriced {
                Unpriced::Pass => Routing::Pass,
                Unpriced::Refuse => Routing::refuse(
                    "no_rate",
                    format!("no carrier has a rate for {}", shown(number)),
                ),
            };
        }
        if excluded.is_empty() {
            return Routing::Pass;
        }
        let reason =
            format!("no carrier has the tags that {class} needs, or all that have are disabled");
        Routing::refuse("no_carrier_for_class", reason)
    }

    fn ranking(&self, message: &Message) -> Ranking {
        let config = &self.policy.config;
        match self.policy.weights(message.traffic) {
            None => Ranking::Headroom,
            Some(weights) => Ranking::Score {
                weights,
                assumed_delivered_ratio: config.assumed_delivered_ratio,
                assumed_receipt_ms: config.assumed_receipt_ms,
                spread: config.spread,
            },
        }
    }

    /// The ordered candidates as hops: those that are usable, or else the best of the others, for which it waits.
    fn plan(
        &self,
        message: &Message,
        ordered: &[Candidate<'_>],
        excluded: &[(&str, Exclusion)],
        ranking: Ranking,
    ) -> Plan {
        let usable = ordered
            .iter()
            .take_while(|c| c.standing.is_usable())
            .count();
        let eligible = if usable == 0 { ordered.len() } else { usable };
        let max_hops = self
            .policy
            .class(message.traffic)
            .max_hops
            .unwrap_or(self.policy.config.max_hops);
        let (hops, left_out) = ordered.split_at(eligible.min(usize::from(max_hops)));
        let excluded: Vec<_> = excluded
            .iter()
            .map(|(id, exclusion)| (*id, exclusion.word()))
            .collect();
        let country = message.network.country.as_deref();
        Plan {
            reason: explain(hops, left_out, &excluded, ranking).into(),
            hops: hops
                .iter()
                .map(|hop| Hop {
                    originator: hop.policy.originator(country).cloned(),
                    price_micros: hop.price,
                    tlvs: hop.policy.tlvs.clone(),
                    ..hop.carrier.hop()
                })
                .collect(),
        }
    }
}

/// The digits to look up: the number, or as much of it as the grant shows.
fn destination(recipient: &Address) -> &str {
    let is_number = recipient.value.bytes().all(|b| b.is_ascii_digit());
    if is_number && recipient.value.starts_with(&*recipient.prefix) {
        &recipient.value
    } else {
        &recipient.prefix
    }
}

#[cfg(test)]
mod tests;
