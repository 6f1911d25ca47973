//! What an operator may say: the shape of the configuration, its defaults and the words that become its JSON
//! Schema. It does not know how a carrier is chosen; `policy.rs` compiles this once into what `route` reads.

use std::collections::BTreeMap;

use heliograph_plugin::TrafficClass;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Chooses carriers by price, quality and load. `{}` is a working configuration: every connected carrier, the one
/// with most headroom first.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Uploaded table of prices. Key: leading digits of the number, as in `4477`. Value: the price of one segment
    /// for each carrier in millionths of your currency, as in `north=4200; south=5100`. Only the row with the
    /// longest key counts: for a carrier that it does not name, `rates` and `default_price_micros` follow.
    pub deck: Option<String>,
    /// Uploaded table of prices by network. Key: mobile country code and mobile network code of the recipient, without
    /// leading zeros, as in `234-10`. Value as in `deck`. Comes before `deck`, for messages whose network is known,
    /// as from a number-portability enrichment.
    pub network_deck: Option<String>,
    /// Prices for small set-ups, used where neither the carrier's own deck nor `deck` has one.
    pub rates: Vec<Rate>,
    /// Price of a carrier that no deck and no rate names for the number. Without it such a carrier is not used, as
    /// soon as there is any deck or rate.
    pub default_price_micros: Option<u64>,
    /// When no carrier has a price for the number: `refuse` it as `no_rate`, or `pass` to the next policy.
    pub unpriced: Unpriced,
    /// When every carrier is down or saturated: let the message `wait` for the best ones, or `refuse` it as
    /// `no_carrier_available`.
    pub unavailable: Unavailable,
    /// Carriers in a plan at most: the first and those that follow after a refusal or a timeout.
    #[schemars(range(min = 1, max = 16))]
    pub max_hops: u8,
    /// What a better carrier is worth, for all traffic classes that do not say otherwise.
    pub weights: Option<Weights>,
    /// Carriers whose scores differ from the best one's by no more than this share the traffic by their `weight`.
    #[schemars(range(min = 0.0))]
    pub spread: f32,
    /// Scored for a carrier whose delivered ratio is not known yet.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub assumed_delivered_ratio: f32,
    /// Scored for a carrier whose receipt latency is not known yet.
    pub assumed_receipt_ms: u32,
    /// A carrier with less headroom than this, in submissions per second, counts as saturated.
    #[schemars(range(min = 0.0))]
    pub min_headroom: f32,
    /// A carrier with more messages queued than this counts as saturated.
    pub max_queued: u32,
    /// What is particular to a carrier, by its id.
    pub carriers: BTreeMap<String, CarrierRule>,
    /// What is particular to a traffic class.
    pub classes: Classes,
    /// Destinations that are refused as `destination_denied`.
    pub deny: Vec<DenyRule>,
    /// Uploaded table of number prefixes that are refused as `destination_denied`. The value is the reason.
    pub deny_table: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            deck: None,
            network_deck: None,
            rates: Vec::new(),
            default_price_micros: None,
            unpriced: Unpriced::Refuse,
            unavailable: Unavailable::Wait,
            max_hops: 3,
            weights: None,
            spread: 0.02,
            assumed_delivered_ratio: 0.9,
            assumed_receipt_ms: 10_000,
            min_headroom: 0.1,
            max_queued: 10_000,
            carriers: BTreeMap::new(),
            classes: Classes::default(),
            deny: Vec::new(),
            deny_table: None,
        }
    }
}

/// The price of one carrier for one prefix.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Leading digits of the number, without `+`. Empty for every number.
    #[schemars(regex(pattern = r"^[0-9]{0,15}$"))]
    pub prefix: String,
    /// Carrier id.
    pub carrier: String,
    /// Price of one segment in millionths of your currency.
    pub price_micros: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unpriced {
    Refuse,
    Pass,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unavailable {
    Wait,
    Refuse,
}

/// The score of a carrier, lowest first, is `price × (its price / the lowest price - 1)` + `delivery × (1 - its
/// delivered ratio)` + `latency × minutes of its median receipt latency (1 at most)`. With `price` and `delivery`
/// both 1, ten points of delivered ratio are worth ten per cent of price.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Weight of being dearer than the cheapest carrier.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub price: f32,
    /// Weight of not delivering.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub delivery: f32,
    /// Weight of slow receipts, for each minute.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub latency: f32,
}

impl Weights {
    pub const BALANCED: Weights = Weights {
        price: 1.0,
        delivery: 1.0,
        latency: 0.1,
    };
    pub const QUALITY: Weights = Weights {
        price: 0.1,
        delivery: 2.0,
        latency: 1.0,
    };
    pub const PRICE: Weights = Weights {
        price: 1.0,
        delivery: 0.1,
        latency: 0.0,
    };

    /// Where the operator said nothing.
    pub fn for_class(traffic: TrafficClass) -> Weights {
        match traffic {
            TrafficClass::Otp | TrafficClass::Alert => Self::QUALITY,
            TrafficClass::Transactional => Self::BALANCED,
            TrafficClass::Promotional => Self::PRICE,
        }
    }
}

/// What is particular to one carrier.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CarrierRule {
    /// Take the carrier out of every plan.
    pub disabled: bool,
    /// Uploaded table of this carrier's own prices. Key: leading digits of the number. Value: the price of one
    /// segment in millionths of your currency. Comes before the common `deck`.
    pub deck: Option<String>,
    /// Share of the traffic among carriers of nearly the same score. 0: only after the others.
    pub weight: u32,
    /// Replaces the originator on this carrier: `+` and an international number, a short code, or an alphanumeric
    /// sender of at most 11 characters.
    pub originator: Option<String>,
    /// The same for single countries, by ISO 3166-1 alpha-2 code. Comes before `originator`.
    pub originator_by_country: BTreeMap<String, String>,
    /// Optional parameters added to every message on this carrier, such as Indian DLT identifiers.
    pub tlvs: Vec<TlvRule>,
}

impl Default for CarrierRule {
    fn default() -> Self {
        Self {
            disabled: false,
            deck: None,
            weight: 100,
            originator: None,
            originator_by_country: BTreeMap::new(),
            tlvs: Vec::new(),
        }
    }
}

/// An optional parameter: its tag, and its value as `text` or as `hex`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlvRule {
    /// SMPP 3.4, 5.3.2. Vendor tags are 0x1400 to 0x3FFF (5120 to 16383).
    pub tag: u16,
    /// The value as text.
    pub text: Option<String>,
    /// The value as hexadecimal octets.
    pub hex: Option<String>,
}

/// What is particular to each traffic class.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Classes {
    /// One-time passwords. Prefer quality where nothing else is said.
    pub otp: ClassRule,
    /// Messages that somebody asked for.
    pub transactional: ClassRule,
    /// Advertising. Prefers price where nothing else is said.
    pub promotional: ClassRule,
    /// Warnings. Prefer quality where nothing else is said.
    pub alert: ClassRule,
}

/// What is particular to one traffic class.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClassRule {
    /// What a better carrier is worth to this class.
    pub weights: Option<Weights>,
    /// Only carriers that have all of these tags.
    pub require_tags: Vec<String>,
    /// No carrier that has one of these tags.
    pub avoid_tags: Vec<String>,
    /// No carrier whose segment costs more. When none is left: `price_too_high`.
    pub max_price_micros: Option<u64>,
    /// A carrier that is known to deliver less is used only when no better one is ready.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_delivered_ratio: Option<f32>,
    /// Carriers in a plan at most, instead of the common `max_hops`.
    #[schemars(range(min = 1, max = 16))]
    pub max_hops: Option<u8>,
}

/// A destination that is refused: a number prefix or a country, and to whom it applies.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DenyRule {
    /// Leading digits of the number, without `+`.
    #[schemars(regex(pattern = r"^[0-9]{1,15}$"))]
    pub prefix: Option<String>,
    /// ISO 3166-1 alpha-2 code, upper case.
    #[schemars(regex(pattern = r"^[A-Z]{2}$"))]
    pub country: Option<String>,
    /// Only these traffic classes; all of them where empty.
    pub classes: Vec<Class>,
    /// Shown to the client.
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Otp,
    Transactional,
    Promotional,
    Alert,
}

impl Class {
    pub fn of(traffic: TrafficClass) -> Class {
        match traffic {
            TrafficClass::Otp => Class::Otp,
            TrafficClass::Transactional => Class::Transactional,
            TrafficClass::Promotional => Class::Promotional,
            TrafficClass::Alert => Class::Alert,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Class::Otp => "otp",
            Class::Transactional => "transactional",
            Class::Promotional => "promotional",
            Class::Alert => "alert",
        }
    }
}
