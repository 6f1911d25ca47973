//! Quality router: carriers by what they deliver and how fast, with price and load weighed in. Nothing is remembered
//! between decisions: quality comes from the host and from a table that the operator uploads, and traffic moves over
//! gradually instead of flapping.

mod config;
mod rank;
mod rows;

use heliograph_plugin::{
    Address, Carrier, Context, Hop, Message, Plan, Plugin, Reason, Routing, RoutingPolicy, tables,
};

pub use config::{CarrierRule, Class, ClassRule, Classes, Config, Weights};

use rank::{Candidate, Standing, Thresholds};

/// Left-out carriers that a reason names at most.
const NAMED_OUT_MAX: usize = 6;

pub struct QualityRouter {
    config: Config,
}

impl Plugin for QualityRouter {
    type Config = Config;
    const NAME: &'static str = "quality-router";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Chooses carriers by delivered ratio and latency, keeps a floor, and tries poor ones again.";
    const SCHEMA: Option<&'static str> = Some(include_str!("../schema.json"));

    fn new(config: Config) -> Result<Self, String> {
        config.check()?;
        Ok(Self { config })
    }
}

impl RoutingPolicy for QualityRouter {
    fn route(&self, message: &Message, carriers: &[Carrier], context: &Context) -> Routing {
        if carriers.is_empty() {
            return Routing::Pass;
        }
        let class = Class::of(message.traffic);
        let (mut candidates, excluded) = self.candidates(message, carriers, class);
        if candidates.is_empty() {
            return nobody(class, &excluded);
        }
        rank::score(&mut candidates, self.config.weights(class));
        let recipient = unit(hash(message.recipient.value.as_bytes()));
        let preferred = rank::prefer(&mut candidates, self.config.band, recipient);
        let explored = self.explores(message, class, context.random)
            && rank::explore(&mut candidates, context.random >> 32);
        let how = match (explored, preferred) {
            (true, _) => "tried again",
            (false, true) => "preferred, about as good as the best",
            (false, false) => "best",
        };
        Routing::Send(self.plan(&candidates, &excluded, how))
    }
}

heliograph_plugin::export!(QualityRouter: RoutingPolicy);

/// Why a carrier is no candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exclusion {
    Disabled,
    Country,
    NoPrice,
    TooDear,
}

impl Exclusion {
    fn word(self) -> &'static str {
        match self {
            Exclusion::Disabled => "disabled",
            Exclusion::Country => "not for this country",
            Exclusion::NoPrice => "without a price",
            Exclusion::TooDear => "too dear",
        }
    }
}

impl QualityRouter {
    fn candidates<'a>(
        &self,
        message: &Message,
        carriers: &'a [Carrier],
        class: Class,
    ) -> (Vec<Candidate<'a>>, Vec<(&'a str, Exclusion)>) {
        let config = &self.config;
        let rule = config.class(class);
        let prices = config
            .deck
            .as_deref()
            .and_then(|deck| tables::longest_prefix(deck, destination(&message.recipient)))
            .map(|(_, row)| row);
        let quality = self.quality_row(message);
        let thresholds = Thresholds {
            min_headroom: config.min_headroom,
            max_queued: config.max_queued,
            floor: rule.floor.unwrap_or(config.floor),
        };
        let country = message.network.country.as_deref();
        let mut candidates = Vec::with_capacity(carriers.len());
        let mut excluded = Vec::new();
        for (index, carrier) in carriers.iter().enumerate() {
            let own = config.carriers.get(&carrier.id);
            let price = prices
                .as_deref()
                .and_then(|row| rows::price(row, &carrier.id));
            let fault = if own.is_some_and(|own| own.disabled) {
                Some(Exclusion::Disabled)
            } else if own.is_some_and(|own| {
                !own.countries.is_empty()
                    && country.is_none_or(|c| !own.countries.iter().any(|own| own == c))
            }) {
                Some(Exclusion::Country)
            } else {
                match (rule.max_price_micros, price) {
                    (Some(_), None) => Some(Exclusion::NoPrice),
                    (Some(most), Some(price)) if price > most => Some(Exclusion::TooDear),
                    (Some(_), Some(_)) | (None, _) => None,
                }
            };
            if let Some(fault) = fault {
                excluded.push((carrier.id.as_str(), fault));
                continue;
            }
            let measured = quality
                .as_deref()
                .and_then(|row| rows::measured(row, &carrier.id));
            // The worse of what it delivers now and what it delivers there.
            let known = [carrier.delivered_ratio, measured.map(|m| m.delivered_ratio)];
            let known = known
                .into_iter()
                .flatten()
                .filter(|ratio| ratio.is_finite())
                .reduce(f32::min);
            let delivered_ratio = known
                .unwrap_or(config.assumed_delivered_ratio)
                .clamp(0.0, 1.0);
            let receipts = [carrier.p50_receipt_ms, measured.and_then(|m| m.receipt_ms)];
            let listed = config.prefer.iter().position(|id| *id == carrier.id);
            candidates.push(Candidate {
                carrier,
                standing: rank::standing(carrier, &message.attempts, delivered_ratio, thresholds),
                delivered_ratio,
                is_known: known.is_some(),
                receipt_ms: receipts
                    .into_iter()
                    .flatten()
                    .max()
                    .unwrap_or(config.assumed_receipt_ms),
                price,
                bonus: own.map_or(0.0, |own| own.bonus),
                preference: listed.unwrap_or(config.prefer.len() + index),
                points: 0.0,
            });
        }
        (candidates, excluded)
    }

    /// The row of the network, else that of the country.
    fn quality_row(&self, message: &Message) -> Option<String> {
        let table = self.config.quality.as_deref()?;
        let network = &message.network;
        let of_network = match (network.mcc, network.mnc) {
            (Some(mcc), Some(mnc)) => tables::lookup(table, &format!("{mcc}-{mnc}")),
            _ => None,
        };
        of_network.or_else(|| tables::lookup(table, network.country.as_deref()?))
    }

    /// A first attempt of a class that explores, when the dice say so.
    fn explores(&self, message: &Message, class: Class, random: u64) -> bool {
        message.attempts.is_empty()
            && self.config.explore_classes.contains(&class)
            && unit(random << 32) < self.config.explore
    }

    fn plan(&self, ordered: &[Candidate<'_>], excluded: &[(&str, Exclusion)], how: &str) -> Plan {
        // Exploring or preferring moved only usable ones to the front.
        let usable = ordered.iter().filter(|c| c.standing.is_usable()).count();
        let eligible = if usable == 0 { ordered.len() } else { usable };
        let (hops, left_out) = ordered.split_at(eligible.min(usize::from(self.config.max_hops)));
        let mut reason = Reason::with_capacity(160);
        let lead = if usable == 0 { "none is ready" } else { how };
        reason.text(lead).text(" of ");
        reason.number(ordered.len() as u64).text(": ");
        for (i, hop) in hops.iter().enumerate() {
            reason.text(if i == 0 { "" } else { ", " });
            describe(&mut reason, hop);
        }
        let out = left_out
            .iter()
            .filter(|c| !c.standing.is_usable())
            .map(|c| (c.carrier.id.as_str(), c.standing.word()));
        let out = out.chain(excluded.iter().map(|(id, why)| (*id, why.word())));
        for (i, (id, why)) in out.take(NAMED_OUT_MAX).enumerate() {
            reason.text(if i == 0 { "; not " } else { ", " });
            reason.text(id).text(" ").text(why);
        }
        let hop = |c: &Candidate<'_>| Hop {
            price_micros: c.price,
            ..c.carrier.hop()
        };
        Plan {
            hops: hops.iter().map(hop).collect(),
            reason: reason.into(),
        }
    }
}

fn describe(reason: &mut Reason, hop: &Candidate<'_>) {
    reason.text(&hop.carrier.id).text(" ");
    reason.decimal(hop.points, 3);
    reason.text(if hop.is_known { " (" } else { " (~" });
    reason.decimal(hop.delivered_ratio * 100.0, 0).text("% ");
    reason.number(u64::from(hop.receipt_ms / 1000)).text(".");
    reason
        .number(u64::from(hop.receipt_ms % 1000 / 100))
        .text("s");
    if let Some(price) = hop.price {
        reason.text(" ").number(price).text("µ");
    }
    match hop.standing {
        Standing::Ready => reason.text(")"),
        other => reason.text(", ").text(other.word()).text(")"),
    };
}

/// The answer where no carrier is a candidate.
fn nobody(class: Class, excluded: &[(&str, Exclusion)]) -> Routing {
    let by_price = |(_, why): &(&str, Exclusion)| match why {
        Exclusion::NoPrice | Exclusion::TooDear => true,
        Exclusion::Disabled | Exclusion::Country => false,
    };
    let class = class.name();
    if excluded.iter().any(by_price) {
        let reason = format!("no carrier has a price that {class} may cost");
        return Routing::refuse("price_too_high", reason);
    }
    Routing::refuse(
        "no_carrier",
        "all carriers are disabled, or not for this country",
    )
}

/// The digits to look up: the number, or as much of it as the grant shows.
fn destination(recipient: &Address) -> &str {
    match recipient.value.bytes().all(|byte| byte.is_ascii_digit()) {
        true => &recipient.value,
        false => &recipient.prefix,
    }
}

/// FNV-1a, then the finaliser of MurmurHash3.
fn hash(octets: &[u8]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325u64;
    for octet in octets {
        state = (state ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    state = (state ^ (state >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    state ^ (state >> 33)
}

/// From 0 up to 1, by the upper bits.
fn unit(random: u64) -> f32 {
    (random >> 40) as f32 / (1u64 << 24) as f32
}

#[cfg(test)]
mod tests;
