//! One pool of senders, and which of them is a recipient's: weighted rendezvous hashing, so that a sender that joins
//! takes only its share, and one that leaves gives up only its own. Nothing is remembered. Knows no carriers' state.

use heliograph_plugin::{Address, Message};

use crate::config::{self, Class, Kind};

const SENDERS_MAX: usize = 500;
const WEIGHT_MAX: u32 = 1_000;

/// A pool, ready to choose from.
#[derive(Debug)]
pub struct Pool {
    pub config: config::Pool,
    replaces: Vec<Address>,
    pub senders: Vec<Sender>,
}

#[derive(Debug)]
pub struct Sender {
    pub address: Address,
    kind: Kind,
    weight: f64,
    hash: u64,
    countries: Vec<String>,
    pub carriers: Vec<String>,
}

impl Pool {
    /// The error names the field.
    pub fn new(mut config: config::Pool, salt: &str) -> Result<Self, String> {
        config::check_countries("countries", &config.countries, false)?;
        if config.senders.is_empty() || config.senders.len() > SENDERS_MAX {
            return Err(format!(
                "senders: {} of them, it takes 1 to {SENDERS_MAX}",
                config.senders.len()
            ));
        }
        let replaces = config.replaces.iter().map(|text| config::originator(text));
        let replaces = replaces
            .collect::<Result<_, _>>()
            .map_err(|error| format!("replaces: {error}"))?;
        let mut senders: Vec<Sender> = Vec::with_capacity(config.senders.len());
        for (index, listed) in std::mem::take(&mut config.senders).into_iter().enumerate() {
            let sender =
                Sender::new(listed, salt).map_err(|error| format!("senders[{index}].{error}"))?;
            if senders.iter().any(|other| other.address == sender.address) {
                return Err(format!(
                    "senders[{index}].originator: `{}` is listed twice",
                    sender.address.value
                ));
            }
            senders.push(sender);
        }
        if senders.iter().all(|sender| sender.weight == 0.0) {
            return Err("senders: all have a weight of 0".to_owned());
        }
        Ok(Self {
            config,
            replaces,
            senders,
        })
    }

    pub fn is_for(&self, message: &Message) -> bool {
        let country = message.network.country.as_deref();
        let config = &self.config;
        (config.classes.is_empty() || config.classes.contains(&Class::of(message.traffic)))
            && (config.accounts.is_empty() || config.accounts.contains(&message.account))
            && (config.countries.is_empty()
                || country.is_some_and(|country| config.countries.iter().any(|c| c == country)))
            && (self.replaces.is_empty()
                || self
                    .replaces
                    .iter()
                    .any(|a| is_same(a, &message.originator))
                || self.listed(&message.originator).is_some())
    }

    /// The sender that the client asked for, if it is one of the pool.
    pub fn listed(&self, originator: &Address) -> Option<&Sender> {
        self.senders
            .iter()
            .find(|sender| is_same(&sender.address, originator))
    }

    /// The recipient's sender: the first by rank of those that `fits` lets stand.
    pub fn choose(&self, recipient: u64, fits: impl Fn(&Sender) -> bool) -> Option<&Sender> {
        let mut best: Option<(&Sender, f64)> = None;
        for sender in &self.senders {
            if sender.weight == 0.0 || !fits(sender) {
                continue;
            }
            let rank = sender.rank(recipient);
            if best.is_none_or(|(_, before)| rank < before) {
                best = Some((sender, rank));
            }
        }
        best.map(|(sender, _)| sender)
    }
}

impl Sender {
    fn new(listed: config::Sender, salt: &str) -> Result<Self, String> {
        let address = config::originator(&listed.originator)
            .map_err(|error| format!("originator: {error}"))?;
        if listed.weight > WEIGHT_MAX {
            return Err(format!(
                "weight: {} is more than {WEIGHT_MAX}",
                listed.weight
            ));
        }
        config::check_countries("countries", &listed.countries, false)?;
        Ok(Self {
            kind: Kind::of(address.ton),
            weight: f64::from(listed.weight),
            hash: hash(&[salt, &listed.originator]),
            countries: listed.countries,
            carriers: listed.carriers,
            address,
        })
    }

    /// Whether the sender may be used in the country, which takes these kinds.
    pub fn is_allowed(&self, country: Option<&str>, kinds: Option<&Vec<Kind>>) -> bool {
        kinds.is_none_or(|kinds| kinds.contains(&self.kind))
            && (self.countries.is_empty()
                || country.is_some_and(|country| self.countries.iter().any(|c| c == country)))
    }

    /// An exponential variable of rate `weight`, drawn by hashing: the least of several is each one's in proportion to
    /// its weight.
    fn rank(&self, recipient: u64) -> f64 {
        let mixed = mix(self.hash ^ recipient);
        // 53 bits, never 0, so that the logarithm is finite.
        let unit = ((mixed >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -unit.ln() / self.weight
    }
}

/// The hash of a recipient, for `choose`.
pub fn recipient_hash(message: &Message) -> u64 {
    hash(&[&message.recipient.value])
}

fn is_same(one: &Address, other: &Address) -> bool {
    match (Kind::of(one.ton), Kind::of(other.ton)) {
        (Kind::Alphanumeric, Kind::Alphanumeric) => one.value.eq_ignore_ascii_case(&other.value),
        (one_kind, other_kind) => one_kind == other_kind && one.value == other.value,
    }
}

/// FNV-1a over the parts, a separator between them.
fn hash(parts: &[&str]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325u64;
    for part in parts {
        for octet in part.bytes().chain([0xff]) {
            state = (state ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    mix(state)
}

/// The finaliser of SplitMix64.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn pool(senders: &[(&str, u32)]) -> Pool {
        let senders: Vec<_> = senders
            .iter()
            .map(|(originator, weight)| {
                serde_json::json!({"originator": originator, "weight": weight})
            })
            .collect();
        let config = serde_json::json!({"name": "p", "senders": senders});
        Pool::new(serde_json::from_value(config).unwrap(), "").unwrap()
    }

    fn choice(pool: &Pool, person: u32) -> &str {
        let recipient = hash(&[&format!("4477{person:08}")]);
        &pool.choose(recipient, |_| true).unwrap().address.value
    }

    const PEOPLE: u32 = 20_000;

    #[test]
    fn recipients_are_shared_by_weight() {
        let pool = pool(&[
            ("+12025550101", 1),
            ("+12025550102", 2),
            ("+12025550103", 1),
        ]);
        let mut shares: BTreeMap<&str, u32> = BTreeMap::new();
        for person in 0..PEOPLE {
            *shares.entry(choice(&pool, person)).or_default() += 1;
        }
        for (sender, expected) in [("12025550101", 4), ("12025550102", 2), ("12025550103", 4)] {
            let expected = PEOPLE / expected;
            assert!(
                shares[sender].abs_diff(expected) < expected / 20,
                "{shares:?}"
            );
        }
    }

    #[test]
    fn a_sender_that_joins_takes_its_share_and_moves_nobody_else() {
        let before = pool(&[
            ("+12025550101", 1),
            ("+12025550102", 1),
            ("+12025550103", 1),
        ]);
        let after = pool(&[
            ("+12025550104", 1),
            ("+12025550103", 1),
            ("+12025550102", 1),
            ("+12025550101", 1),
        ]);
        let mut moved = 0;
        for person in 0..PEOPLE {
            let (old, new) = (choice(&before, person), choice(&after, person));
            if old != new {
                assert_eq!(new, "12025550104");
                moved += 1;
            }
        }
        assert!(u32::abs_diff(moved, PEOPLE / 4) < PEOPLE / 80, "{moved}");
    }

    #[test]
    fn a_heavier_sender_only_gains_recipients() {
        let before = pool(&[("+12025550101", 1), ("+12025550102", 1)]);
        let after = pool(&[("+12025550101", 3), ("+12025550102", 1)]);
        for person in 0..PEOPLE {
            let (old, new) = (choice(&before, person), choice(&after, person));
            assert!(old == new || new == "12025550101");
        }
    }

    #[test]
    fn a_retired_sender_keeps_nobody() {
        let pool = pool(&[("+12025550101", 0), ("+12025550102", 1)]);
        assert!((0..1_000).all(|person| choice(&pool, person) == "12025550102"));
    }
}
