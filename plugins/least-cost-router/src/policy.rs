//! The configuration as `route` reads it: checked, with prefixes, originators and parameters parsed once. It decides
//! who is denied and what a carrier costs; it does not order carriers.

use std::borrow::Cow;

use heliograph_plugin::{
    Address, Digits, Message, Network, NumberingPlan, Tlv, TrafficClass, TypeOfNumber, log, tables,
};

use crate::config::{CarrierRule, Class, ClassRule, Config, DenyRule, TlvRule, Weights};
use crate::deck::{Entry, PrefixMap, entries, is_prefix, price_of};

/// Hops that a plan has at most, whatever is configured.
const MAX_HOPS: u8 = 16;

#[derive(Clone, Debug)]
pub struct Policy {
    pub config: Config,
    /// Sorted by id.
    carriers: Vec<CarrierPolicy>,
    /// For carriers of which nothing is configured.
    plain: CarrierPolicy,
    /// There is a deck, a rate or a default price: a carrier without a price is then out.
    pub has_prices: bool,
}

/// What is configured for one carrier.
#[derive(Clone, Debug, Default)]
pub struct CarrierPolicy {
    id: String,
    pub disabled: bool,
    deck: Option<String>,
    pub weight: u32,
    originator: Option<Address>,
    originator_by_country: Vec<(String, Address)>,
    pub tlvs: Vec<Tlv>,
    rates: PrefixMap<u64>,
}

/// What is known of a carrier's price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Price {
    Known(u64),
    /// No prices are configured at all.
    Unasked,
    Missing,
    /// A row names the carrier, with something that is no price. No other price is taken instead.
    Malformed,
}

/// A row of a deck, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    pub deck: &'a str,
    pub key: Cow<'a, str>,
    pub value: String,
}

impl Policy {
    pub fn new(config: Config) -> Result<Self, String> {
        hops_in_range("max_hops", config.max_hops)?;
        not_negative("spread", config.spread)?;
        not_negative("min_headroom", config.min_headroom)?;
        ratio("assumed_delivered_ratio", config.assumed_delivered_ratio)?;
        if let Some(weights) = &config.weights {
            check_weights("weights", weights)?;
        }
        for class in [
            Class::Otp,
            Class::Transactional,
            Class::Promotional,
            Class::Alert,
        ] {
            check_class(class.name(), class_rule(&config, class))?;
        }
        for (i, rule) in config.deny.iter().enumerate() {
            check_denial(rule).map_err(|e| format!("deny[{i}]{e}"))?;
        }
        let mut carriers = config
            .carriers
            .iter()
            .map(|(id, rule)| CarrierPolicy::new(id, rule).map_err(|e| format!("carriers.{id}{e}")))
            .collect::<Result<Vec<_>, _>>()?;
        let plain = CarrierPolicy {
            weight: CarrierRule::default().weight,
            ..CarrierPolicy::default()
        };
        for (i, rate) in config.rates.iter().enumerate() {
            if !is_prefix(&rate.prefix) {
                return Err(format!(
                    "rates[{i}].prefix: {:?} is not 0 to 15 digits",
                    rate.prefix
                ));
            }
            let place = match find(&carriers, &rate.carrier) {
                Ok(place) => place,
                Err(place) => {
                    carriers.insert(
                        place,
                        CarrierPolicy {
                            id: rate.carrier.clone(),
                            ..plain.clone()
                        },
                    );
                    place
                }
            };
            if !carriers[place]
                .rates
                .insert(&rate.prefix, rate.price_micros)
            {
                return Err(format!(
                    "rates[{i}]: {} has a rate for {:?} already",
                    rate.carrier, rate.prefix
                ));
            }
        }
        let has_prices = config.deck.is_some()
            || config.network_deck.is_some()
            || config.default_price_micros.is_some()
            || carriers
                .iter()
                .any(|c| c.deck.is_some() || !c.rates.is_empty());
        Ok(Self {
            config,
            carriers,
            plain,
            has_prices,
        })
    }

    pub fn carrier(&self, id: &str) -> &CarrierPolicy {
        find(&self.carriers, id)
            .ok()
            .and_then(|place| self.carriers.get(place))
            .unwrap_or(&self.plain)
    }

    pub fn class(&self, traffic: TrafficClass) -> &ClassRule {
        class_rule(&self.config, Class::of(traffic))
    }

    /// What a better carrier is worth; none where the operator named neither prices nor weights.
    pub fn weights(&self, traffic: TrafficClass) -> Option<Weights> {
        let said = self.class(traffic).weights.or(self.config.weights);
        said.or_else(|| self.has_prices.then(|| Weights::for_class(traffic)))
    }

    /// Why the destination is denied, if it is.
    pub fn denial(&self, message: &Message, number: &str) -> Option<String> {
        let class = Class::of(message.traffic);
        let country = message.network.country.as_deref();
        let listed = self.config.deny.iter().find(|rule| {
            (rule.classes.is_empty() || rule.classes.contains(&class))
                && (rule
                    .prefix
                    .as_deref()
                    .is_some_and(|prefix| number.starts_with(prefix))
                    || (rule.country.is_some() && rule.country.as_deref() == country))
        });
        if let Some(rule) = listed {
            let place = match (&rule.prefix, &rule.country) {
                (Some(prefix), _) => prefix,
                (None, Some(country)) => country,
                (None, None) => "",
            };
            let said = rule
                .reason
                .as_deref()
                .unwrap_or("the operator does not send there");
            return Some(format!("{place}: {said}"));
        }
        let table = self.config.deny_table.as_deref()?;
        let (prefix, said) = tables::longest_prefix(table, number)?;
        let said = if said.is_empty() {
            "the operator does not send there"
        } else {
            &said
        };
        Some(format!("{}: {said}", shown(prefix)))
    }

    /// The row that prices this message: its network's, where that is known and has one, else the common
    /// deck's for the number.
    pub fn row<'a>(&'a self, message: &Message, number: &'a str) -> Option<Row<'a>> {
        let Network { mcc, mnc, .. } = message.network;
        if let (Some(deck), Some(mcc), Some(mnc)) = (&self.config.network_deck, mcc, mnc) {
            let key = format!("{mcc}-{mnc}");
            if let Some(value) = tables::lookup(deck, &key) {
                let key = Cow::Owned(key);
                return Some(Row { deck, key, value });
            }
        }
        let deck = self.config.deck.as_deref()?;
        let (prefix, value) = tables::longest_prefix(deck, number)?;
        Some(Row {
            deck,
            key: Cow::Borrowed(prefix),
            value,
        })
    }

    /// What a segment to `number` costs on this carrier: by its own deck, the common row, the rates, the default.
    pub fn price(
        &self,
        carrier: &str,
        policy: &CarrierPolicy,
        number: &str,
        row: &[Entry<'_>],
    ) -> Price {
        if !self.has_prices {
            return Price::Unasked;
        }
        if let Some(deck) = policy.deck.as_deref()
            && let Some((prefix, value)) = tables::longest_prefix(deck, number)
        {
            return price_of(&value).map_or_else(
                || {
                    malformed(deck, prefix, carrier);
                    Price::Malformed
                },
                Price::Known,
            );
        }
        if let Some(entry) = row.iter().find(|entry| entry.carrier == carrier) {
            return entry.price.map_or(Price::Malformed, Price::Known);
        }
        let inline = policy.rates.longest(number).map(|(_, price)| *price);
        inline
            .or(self.config.default_price_micros)
            .map_or(Price::Missing, Price::Known)
    }
}

/// The entries of the common deck's row. One that is malformed is logged, and stays as a carrier without a price.
pub fn parse_row<'a>(deck: &str, prefix: &str, row: &'a str) -> Vec<Entry<'a>> {
    let mut parsed = Vec::with_capacity(8);
    for entry in entries(row).take(ROW_ENTRIES_MAX) {
        if entry.price.is_none() || entry.carrier.is_empty() {
            malformed(deck, prefix, entry.carrier);
        }
        parsed.push(entry);
    }
    parsed
}

/// Carriers that one row may price; what follows is not read.
const ROW_ENTRIES_MAX: usize = 64;

fn malformed(deck: &str, prefix: &str, carrier: &str) {
    let carrier = carrier.get(..carrier.len().min(64)).unwrap_or("");
    log::warn(
        "a row of the rate deck has no price in whole millionths for a carrier, which is left out",
        &[
            ("table", deck),
            ("row", shown(prefix)),
            ("carrier", carrier),
        ],
    );
}

/// As much of a number's digits as may be shown: a prefix, never a subscriber.
pub fn shown(prefix: &str) -> &str {
    prefix.get(..prefix.len().min(6)).unwrap_or("")
}

impl CarrierPolicy {
    fn new(id: &str, rule: &CarrierRule) -> Result<Self, String> {
        let originator = rule
            .originator
            .as_deref()
            .map(originator)
            .transpose()
            .map_err(|e| format!(".originator: {e}"))?;
        let originator_by_country = rule
            .originator_by_country
            .iter()
            .map(|(country, text)| {
                if !is_country(country) {
                    return Err(format!(".originator_by_country: {country:?} is no ISO 3166-1 alpha-2 code, as in \"GB\""));
                }
                let address = originator_at(country, text)?;
                Ok((country.clone(), address))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let tlvs = rule
            .tlvs
            .iter()
            .enumerate()
            .map(|(i, rule)| tlv(rule).map_err(|e| format!(".tlvs[{i}]: {e}")))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            id: id.to_owned(),
            disabled: rule.disabled,
            deck: rule.deck.clone(),
            weight: rule.weight,
            originator,
            originator_by_country,
            tlvs,
            rates: PrefixMap::default(),
        })
    }

    pub fn originator(&self, country: Option<&str>) -> Option<&Address> {
        let national = country.and_then(|country| {
            self.originator_by_country
                .iter()
                .find(|(c, _)| c == country)
        });
        national
            .map(|(_, address)| address)
            .or(self.originator.as_ref())
    }
}

fn originator_at(country: &str, text: &str) -> Result<Address, String> {
    originator(text).map_err(|e| format!(".originator_by_country.{country}: {e}"))
}

/// As the platform reads a sender: `+` and a number, a short code of 3 to 8 digits (SMPP 3.4, 5.2.5), a number of 9
/// to 15 digits, or an alphanumeric sender of at most 11 characters (3GPP TS 23.040, 9.1.2.5).
fn originator(text: &str) -> Result<Address, String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let numeric = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let with_plus = digits.len() < text.len();
    let (ton, npi) = match (numeric, with_plus, digits.len()) {
        (true, true, 7..=15) | (true, false, 9..=15) if !digits.starts_with('0') => {
            (TypeOfNumber::International, NumberingPlan::Isdn)
        }
        (true, false, 3..=8) => (TypeOfNumber::Abbreviated, NumberingPlan::Unknown),
        (false, false, 1..=11)
            if text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b" -_.&+!'".contains(&b)) =>
        {
            (TypeOfNumber::Alphanumeric, NumberingPlan::Unknown)
        }
        _ => {
            return Err(format!(
                "{text:?} is no sender; give '+' and 7 to 15 digits, a short code of 3 to 8 digits, or at most 11 \
                 letters, digits, spaces and - _ . & + ! '"
            ));
        }
    };
    Ok(Address {
        ton,
        npi,
        value: digits.to_owned(),
        prefix: Digits::default(),
        withheld: false,
    })
}

fn tlv(rule: &TlvRule) -> Result<Tlv, String> {
    let value = match (&rule.text, &rule.hex) {
        (Some(text), None) => text.clone().into_bytes(),
        (None, Some(hex)) => {
            octets(hex).ok_or_else(|| format!("hex {hex:?} is not pairs of hexadecimal digits"))?
        }
        (Some(_), Some(_)) | (None, None) => return Err("give either text or hex".to_owned()),
    };
    if value.len() > usize::from(u16::MAX) {
        return Err(format!(
            "the value has {} octets; a parameter has at most 65535",
            value.len()
        ));
    }
    Ok(Tlv {
        tag: rule.tag,
        value,
    })
}

fn octets(hex: &str) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(hex.get(i..i + 2)?, 16).ok())
        .collect()
}

fn check_denial(rule: &DenyRule) -> Result<(), String> {
    match (&rule.prefix, &rule.country) {
        (Some(prefix), None) if prefix.is_empty() || !is_prefix(prefix) => {
            Err(format!(".prefix: {prefix:?} is not 1 to 15 digits"))
        }
        (None, Some(country)) if !is_country(country) => Err(format!(
            ".country: {country:?} is no ISO 3166-1 alpha-2 code, as in \"GB\""
        )),
        (Some(_), None) | (None, Some(_)) => Ok(()),
        (Some(_), Some(_)) | (None, None) => Err(": give either prefix or country".to_owned()),
    }
}

fn check_class(name: &str, rule: &ClassRule) -> Result<(), String> {
    let at = |field: &str| format!("classes.{name}.{field}");
    if let Some(weights) = &rule.weights {
        check_weights(&at("weights"), weights)?;
    }
    if let Some(hops) = rule.max_hops {
        hops_in_range(&at("max_hops"), hops)?;
    }
    rule.min_delivered_ratio
        .map_or(Ok(()), |value| ratio(&at("min_delivered_ratio"), value))
}

fn check_weights(at: &str, weights: &Weights) -> Result<(), String> {
    not_negative(&format!("{at}.price"), weights.price)?;
    not_negative(&format!("{at}.delivery"), weights.delivery)?;
    not_negative(&format!("{at}.latency"), weights.latency)
}

fn hops_in_range(at: &str, hops: u8) -> Result<(), String> {
    if (1..=MAX_HOPS).contains(&hops) {
        Ok(())
    } else {
        Err(format!("{at}: {hops} is not 1 to {MAX_HOPS}"))
    }
}

fn not_negative(at: &str, value: f32) -> Result<(), String> {
    if value.is_finite() && value >= 0.0 {
        Ok(())
    } else {
        Err(format!("{at}: {value} is not 0 or more"))
    }
}

fn ratio(at: &str, value: f32) -> Result<(), String> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(format!("{at}: {value} is not 0 to 1"))
    }
}

fn is_country(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase())
}

fn class_rule(config: &Config, class: Class) -> &ClassRule {
    match class {
        Class::Otp => &config.classes.otp,
        Class::Transactional => &config.classes.transactional,
        Class::Promotional => &config.classes.promotional,
        Class::Alert => &config.classes.alert,
    }
}

fn find(carriers: &[CarrierPolicy], id: &str) -> Result<usize, usize> {
    carriers.binary_search_by(|carrier| carrier.id.as_str().cmp(id))
}
