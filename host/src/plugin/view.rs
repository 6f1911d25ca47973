//! What a plugin may see of a number: all of it, or a stable pseudonym and the digits that routing
//! needs. Knows no WIT; `contract_v*` asks it when it lowers an address.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::spec::{ContentGrant, NumbersGrant};
use crate::domain::{Address, TypeOfNumber};

/// Digits that stay hidden at the end of a number, whatever its length.
const HIDDEN_DIGITS_MIN: usize = 4;
/// Digits of `prefix`: country code, destination code and the thousands block are within them.
const PREFIX_DIGITS_MAX: usize = 8;

/// An entry's grant over what messages say.
#[derive(Clone, Debug)]
pub(super) struct Disclosure {
    pub numbers: NumbersGrant,
    pub content: ContentGrant,
    /// Pseudonyms of one entry mean nothing to another.
    pub key: [u8; 32],
}

impl Disclosure {
    /// `value` of an address as the plugin sees it; none where it is the real one.
    pub fn pseudonym(&self, address: &Address) -> Option<String> {
        match (self.numbers, address.ton) {
            // A sender's name and a short code are public; they name no person.
            (NumbersGrant::Full, _)
            | (_, TypeOfNumber::Alphanumeric | TypeOfNumber::Abbreviated) => None,
            (
                NumbersGrant::Prefix | NumbersGrant::Pseudonym,
                TypeOfNumber::Unknown
                | TypeOfNumber::International
                | TypeOfNumber::National
                | TypeOfNumber::NetworkSpecific
                | TypeOfNumber::Subscriber,
            ) => Some(self.keyed(address)),
        }
    }

    /// The leading digits that are always real.
    pub fn prefix<'a>(&self, address: &'a Address) -> &'a str {
        if address.ton != TypeOfNumber::International {
            return "";
        }
        let digits = match self.numbers {
            NumbersGrant::Full | NumbersGrant::Prefix => PREFIX_DIGITS_MAX,
            NumbersGrant::Pseudonym => country_code_digits(&address.value),
        };
        let end = digits.min(address.value.len().saturating_sub(HIDDEN_DIGITS_MIN));
        address.value.get(..end).unwrap_or("")
    }

    fn keyed(&self, address: &Address) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else {
            return "p".into();
        };
        mac.update(&[address.ton as u8]);
        mac.update(address.value.as_bytes());
        let tag = mac.finalize().into_bytes();
        let mut text = String::with_capacity(21);
        text.push('p');
        for octet in tag.iter().take(10) {
            text.push(hex_digit(octet >> 4));
            text.push(hex_digit(octet & 15));
        }
        text
    }
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0')
}

/// Length of an E.164 country code (ITU-T E.164, list of assigned codes): zones 1 and 7 have one
/// digit, these have two, all others three.
fn country_code_digits(number: &str) -> usize {
    const TWO: [&str; 44] = [
        "20", "27", "30", "31", "32", "33", "34", "36", "39", "40", "41", "43", "44", "45", "46",
        "47", "48", "49", "51", "52", "53", "54", "55", "56", "57", "58", "60", "61", "62", "63",
        "64", "65", "66", "81", "82", "84", "86", "90", "91", "92", "93", "94", "95", "98",
    ];
    match number.as_bytes() {
        [b'1' | b'7', ..] => 1,
        _ => match number.get(..2) {
            Some(two) if TWO.contains(&two) => 2,
            _ => 3,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disclosure(numbers: NumbersGrant) -> Disclosure {
        Disclosure {
            numbers,
            content: ContentGrant::Full,
            key: [7; 32],
        }
    }

    fn handset() -> Address {
        Address::international("+447700900123").unwrap()
    }

    #[test]
    fn a_full_grant_shows_the_number() {
        let d = disclosure(NumbersGrant::Full);
        assert_eq!(d.pseudonym(&handset()), None);
        assert_eq!(d.prefix(&handset()), "44770090");
    }

    #[test]
    fn a_prefix_grant_hides_at_least_four_digits() {
        let d = disclosure(NumbersGrant::Prefix);
        let short = Address::international("+29012345").unwrap();
        assert_eq!(d.prefix(&short), "2901");
        let shown = d.pseudonym(&handset()).unwrap();
        assert!(!shown.contains("0900123"), "{shown}");
    }

    #[test]
    fn a_pseudonym_grant_shows_the_country_alone() {
        let d = disclosure(NumbersGrant::Pseudonym);
        assert_eq!(d.prefix(&handset()), "44");
        assert_eq!(
            d.prefix(&Address::international("+12025550143").unwrap()),
            "1"
        );
        assert_eq!(
            d.prefix(&Address::international("+35312345678").unwrap()),
            "353"
        );
    }

    #[test]
    fn a_pseudonym_is_stable_and_belongs_to_one_entry() {
        let here = disclosure(NumbersGrant::Prefix);
        let there = Disclosure {
            key: [8; 32],
            ..here.clone()
        };
        assert_eq!(here.pseudonym(&handset()), here.pseudonym(&handset()));
        assert_ne!(here.pseudonym(&handset()), there.pseudonym(&handset()));
    }

    #[test]
    fn names_and_short_codes_are_never_hidden() {
        let d = disclosure(NumbersGrant::Pseudonym);
        for public in ["Acme", "60777"] {
            let address = Address::originator(public).unwrap();
            assert_eq!(d.pseudonym(&address), None);
            assert_eq!(d.prefix(&address), "");
        }
    }
}
