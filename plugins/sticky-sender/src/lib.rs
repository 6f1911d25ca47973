//! Gives each recipient the same originator out of a pool, by hashing and not by memory, and routes in the carriers'
//! order. It is a routing policy because only a plan carries originators, and the first policy with an opinion decides:
//! it decides messages that a pool is for and leaves all others to the next policy.

mod config;
mod pool;

use std::collections::BTreeMap;

use heliograph_plugin::{
    Carrier, Context, Hop, Message, Outcome, Plan, Plugin, Routing, RoutingPolicy,
};

pub use config::{Class, Config, Failover, Kind, NoPool};

use pool::{Pool, Sender, recipient_hash};

const POOLS_MAX: usize = 200;
/// Hops that a plan has at most.
const HOPS_MAX: usize = 16;

pub struct StickySender {
    pools: Vec<Pool>,
    countries: BTreeMap<String, Vec<Kind>>,
    carriers: Vec<String>,
    no_pool: NoPool,
}

impl Plugin for StickySender {
    type Config = Config;
    const NAME: &'static str = "sticky-sender";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Picks the originator out of a pool, the same for a recipient every time, and routes in order.";
    const SCHEMA: Option<&'static str> = Some(include_str!("../schema.json"));

    fn new(config: Config) -> Result<Self, String> {
        config::check_countries("countries", config.countries.keys(), true)?;
        if config.pools.len() > POOLS_MAX {
            return Err(format!(
                "pools: {} entries, at most {POOLS_MAX} are allowed",
                config.pools.len()
            ));
        }
        let salt = config.salt;
        let pools = config.pools.into_iter().enumerate().map(|(index, pool)| {
            Pool::new(pool, &salt).map_err(|error| format!("pools[{index}].{error}"))
        });
        Ok(Self {
            pools: pools.collect::<Result<_, _>>()?,
            countries: config.countries,
            carriers: config.carriers,
            no_pool: config.no_pool,
        })
    }
}

impl RoutingPolicy for StickySender {
    fn route(&self, message: &Message, carriers: &[Carrier], _context: &Context) -> Routing {
        let Some(pool) = self.pools.iter().find(|pool| pool.is_for(message)) else {
            return match self.no_pool {
                NoPool::Pass => Routing::Pass,
                NoPool::Refuse => Routing::refuse(
                    "no_pool",
                    "no sender pool is for this account, country and class",
                ),
            };
        };
        let country = message.network.country.as_deref();
        let kinds = country
            .and_then(|country| self.countries.get(country))
            .or_else(|| self.countries.get("*"));
        let kept = pool
            .listed(&message.originator)
            .filter(|sender| pool.config.keep_listed && sender.is_allowed(country, kinds));
        let recipient = recipient_hash(message);
        let allowed = |sender: &Sender| sender.is_allowed(country, kinds);
        let Some(first) = kept.or_else(|| pool.choose(recipient, allowed)) else {
            let place = country.unwrap_or("a number of unknown country");
            return Routing::refuse(
                "no_sender",
                format!(
                    "pool {} has no sender that may be used for {place}",
                    pool.config.name
                ),
            );
        };
        let order = self.order(pool, carriers);
        let mut hops = hops(first, &order, message);
        let mut reason = reason(pool, first, kept.is_some());
        let is_ready =
            |carrier: &&Carrier| first.carries(&carrier.id) && stands_ready(carrier, message);
        let goes_on = match pool.config.failover {
            Failover::Wait => hops.is_empty(),
            Failover::NextSender => !order.iter().any(is_ready),
        };
        if goes_on {
            let other = |sender: &Sender| {
                sender.address != first.address
                    && allowed(sender)
                    && order.iter().any(|carrier| {
                        sender.carries(&carrier.id) && stands_ready(carrier, message)
                    })
            };
            if let Some(second) = pool.choose(recipient, other) {
                let mut before = self::hops(second, &order, message);
                before.append(&mut hops);
                hops = before;
                reason.push_str(", whose carriers are down; next in rank ");
                reason.push_str(&second.address.value);
            }
        }
        if hops.is_empty() {
            return Routing::refuse(
                "no_carrier",
                format!(
                    "no carrier that sender {} is provisioned on is configured",
                    first.address.value
                ),
            );
        }
        hops.truncate(HOPS_MAX);
        Routing::Send(Plan { hops, reason })
    }
}

heliograph_plugin::export!(StickySender: RoutingPolicy);

impl StickySender {
    /// The offered carriers in the pool's order, else in the common one, else as they come.
    fn order<'a>(&self, pool: &Pool, offered: &'a [Carrier]) -> Vec<&'a Carrier> {
        let names = match pool.config.carriers.is_empty() {
            true => &self.carriers,
            false => &pool.config.carriers,
        };
        if names.is_empty() {
            return offered.iter().collect();
        }
        let found = |name: &String| offered.iter().find(|carrier| carrier.id == *name);
        names.iter().filter_map(found).collect()
    }
}

impl Sender {
    fn carries(&self, carrier: &str) -> bool {
        self.carriers.is_empty() || self.carriers.iter().any(|listed| listed == carrier)
    }
}

/// The sender's carriers in order, those that cannot take the message now behind the others.
fn hops(sender: &Sender, order: &[&Carrier], message: &Message) -> Vec<Hop> {
    let hop = |carrier: &&Carrier| Hop {
        originator: Some(sender.address.clone()),
        ..carrier.hop()
    };
    let own = || order.iter().filter(|carrier| sender.carries(&carrier.id));
    let ready = own().filter(|carrier| stands_ready(carrier, message));
    let others = own().filter(|carrier| !stands_ready(carrier, message));
    ready.chain(others).map(hop).collect()
}

/// Connected, and has not refused this very message.
fn stands_ready(carrier: &Carrier, message: &Message) -> bool {
    let refused = message.attempts.iter().any(|attempt| {
        attempt.carrier == carrier.id
            && match attempt.outcome {
                Outcome::PermanentFailure(_) | Outcome::Undelivered(_) => true,
                Outcome::Sent
                | Outcome::Throttled
                | Outcome::TemporaryFailure(_)
                | Outcome::TimedOut
                | Outcome::Unavailable => false,
            }
    });
    carrier.connected && !refused
}

fn reason(pool: &Pool, sender: &Sender, kept: bool) -> String {
    let how = if kept {
        "as asked"
    } else {
        "the recipient's own"
    };
    let count = pool.senders.len();
    let name = &pool.config.name;
    format!(
        "sender {} of {count} in pool {name}, {how}",
        sender.address.value
    )
}

#[cfg(test)]
mod tests;
