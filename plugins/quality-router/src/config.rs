//! The configuration as the operator writes it, its defaults by traffic class, and its checks. It decides nothing.

use std::collections::BTreeMap;

use heliograph_plugin::TrafficClass;
use schemars::JsonSchema;
use serde::Deserialize;

const MAX_HOPS: u8 = 16;

/// How good a carrier must be, and what else counts.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Carriers in the order in which they are preferred while they are about equally good. Those not listed follow in
    /// the order of the server's configuration.
    pub prefer: Vec<String>,
    /// What differs for single carriers, by id.
    pub carriers: BTreeMap<String, CarrierRule>,
    /// Table of prices: number prefix to `north=4200; south=5100`, millionths for one segment.
    pub deck: Option<String>,
    /// Table of measured quality: country or network to `north=0.93/4200; south=0.88`, delivered ratio and, after the
    /// slash, median receipt latency in milliseconds.
    pub quality: Option<String>,
    /// Delivered ratio below which a carrier gets no more than the exploration and what nobody else takes.
    pub floor: f32,
    /// A preferred carrier keeps its place while it is no more than this behind the best. From here to twice as much,
    /// traffic moves over gradually.
    pub band: f32,
    /// Share of the traffic that tries a carrier which would get none, 0 to 0.5.
    pub explore: f32,
    /// Classes that explore.
    pub explore_classes: Vec<Class>,
    /// Taken while a carrier's delivered ratio is not known.
    pub assumed_delivered_ratio: f32,
    /// Taken while a carrier's latency is not known.
    pub assumed_receipt_ms: u32,
    /// Carriers in a plan at most, 1 to 16.
    pub max_hops: u8,
    /// Less than this many submissions per second is saturated.
    pub min_headroom: f32,
    /// More messages than this queued is saturated.
    pub max_queued: u32,
    /// What differs by traffic class.
    pub classes: Classes,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            prefer: Vec::new(),
            carriers: BTreeMap::new(),
            deck: None,
            quality: None,
            floor: 0.5,
            band: 0.03,
            explore: 0.02,
            explore_classes: vec![Class::Transactional, Class::Promotional],
            assumed_delivered_ratio: 0.9,
            assumed_receipt_ms: 10_000,
            max_hops: 3,
            min_headroom: 0.1,
            max_queued: 10_000,
            classes: Classes::default(),
        }
    }
}

/// One carrier.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CarrierRule {
    /// Out of every plan.
    pub disabled: bool,
    /// Countries it is used for (ISO 3166-1 alpha-2). Empty: all.
    pub countries: Vec<String>,
    /// Added to its points, such as -0.05 for one that nobody likes.
    pub bonus: f32,
}

/// What differs by traffic class.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Classes {
    /// One-time passwords.
    pub otp: ClassRule,
    /// Messages about a transaction.
    pub transactional: ClassRule,
    /// Advertisements.
    pub promotional: ClassRule,
    /// Alerts.
    pub alert: ClassRule,
}

/// One traffic class.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClassRule {
    /// Instead of those of the class.
    pub weights: Option<Weights>,
    /// Instead of the common floor.
    pub floor: Option<f32>,
    /// The most that a segment may cost. A carrier without a price is then out.
    pub max_price_micros: Option<u64>,
}

/// What a point is made of.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Times the delivered ratio.
    pub delivery: f32,
    /// Times the minutes to the median receipt, 1 at most; taken off.
    #[serde(default)]
    pub latency: f32,
    /// Times how much dearer it is than the cheapest (1: twice the price); taken off.
    #[serde(default)]
    pub price: f32,
    /// Times the seconds of queue before the message over 60, 1 at most; taken off.
    #[serde(default)]
    pub load: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Otp,
    Transactional,
    Promotional,
    Alert,
}

impl Class {
    pub fn of(class: TrafficClass) -> Self {
        match class {
            TrafficClass::Otp => Self::Otp,
            TrafficClass::Transactional => Self::Transactional,
            TrafficClass::Promotional => Self::Promotional,
            TrafficClass::Alert => Self::Alert,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Otp => "otp",
            Self::Transactional => "transactional",
            Self::Promotional => "promotional",
            Self::Alert => "alert",
        }
    }
}

impl Weights {
    fn of(class: Class) -> Self {
        let weights = |delivery, latency, price, load| Self {
            delivery,
            latency,
            price,
            load,
        };
        match class {
            Class::Otp | Class::Alert => weights(1.0, 0.5, 0.02, 0.5),
            Class::Transactional => weights(1.0, 0.1, 0.1, 0.1),
            Class::Promotional => weights(1.0, 0.0, 0.3, 0.0),
        }
    }
}

impl Config {
    pub fn class(&self, class: Class) -> &ClassRule {
        match class {
            Class::Otp => &self.classes.otp,
            Class::Transactional => &self.classes.transactional,
            Class::Promotional => &self.classes.promotional,
            Class::Alert => &self.classes.alert,
        }
    }

    pub fn weights(&self, class: Class) -> Weights {
        self.class(class).weights.unwrap_or(Weights::of(class))
    }

    /// The error names the field and the rule.
    pub fn check(&self) -> Result<(), String> {
        within("floor", self.floor, 0.0, 1.0)?;
        within("band", self.band, 0.0, 1.0)?;
        within("explore", self.explore, 0.0, 0.5)?;
        let assumed = self.assumed_delivered_ratio;
        within("assumed_delivered_ratio", assumed, 0.0, 1.0)?;
        within("min_headroom", self.min_headroom, 0.0, f32::MAX)?;
        if !(1..=MAX_HOPS).contains(&self.max_hops) {
            return Err(format!(
                "max_hops: {} is not 1 to {MAX_HOPS}",
                self.max_hops
            ));
        }
        for (id, carrier) in &self.carriers {
            within(&format!("carriers.{id}.bonus"), carrier.bonus, -1.0, 1.0)?;
            for country in &carrier.countries {
                if country.len() != 2 || !country.bytes().all(|byte| byte.is_ascii_uppercase()) {
                    return Err(format!(
                        "carriers.{id}.countries: `{country}` is not an ISO 3166-1 alpha-2 country code in capitals, like GB"
                    ));
                }
            }
        }
        for class in [
            Class::Otp,
            Class::Transactional,
            Class::Promotional,
            Class::Alert,
        ] {
            let name = class.name();
            let rule = self.class(class);
            if let Some(floor) = rule.floor {
                within(&format!("classes.{name}.floor"), floor, 0.0, 1.0)?;
            }
            if let Some(w) = &rule.weights {
                for (field, weight) in [
                    ("delivery", w.delivery),
                    ("latency", w.latency),
                    ("price", w.price),
                    ("load", w.load),
                ] {
                    let at = format!("classes.{name}.weights.{field}");
                    within(&at, weight, 0.0, 1_000.0)?;
                }
            }
            if rule.max_price_micros.is_some() && self.deck.is_none() {
                return Err(format!(
                    "classes.{name}.max_price_micros: there is no `deck` that has prices"
                ));
            }
        }
        Ok(())
    }
}

fn within(field: &str, value: f32, least: f32, most: f32) -> Result<(), String> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(format!("{field}: {value} is not {least} to {most}"))
    }
}
