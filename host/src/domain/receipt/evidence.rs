//! What a receipt says beside an id, as evidence that it speaks of one message and of no other:
//! the two addresses of its deliver_sm and user_message_reference. Evidence never finds a message;
//! it decides between those that an id has found.

/// What came with a receipt's id. Empty where the carrier says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// source_addr and destination_addr of the deliver_sm: the handset and our originator, in
    /// either order.
    pub addresses: Vec<String>,
    /// user_message_reference (SMPP 3.4, 5.3.2.17), where the carrier gives it back.
    pub reference: Option<u16>,
}

/// Whether a receipt speaks of a message to a given handset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// One of its addresses is the handset.
    Same,
    /// It names no number that could be compared.
    Unsaid,
    /// It names numbers, and none is the handset.
    Other,
}

impl Evidence {
    /// Addresses that matter: what is empty says nothing.
    pub fn of(addresses: [&str; 2], reference: Option<u16>) -> Evidence {
        Evidence {
            addresses: addresses
                .into_iter()
                .filter(|a| !a.is_empty())
                .map(|a| a.chars().take(ADDRESS_CHARACTERS_MAX).collect())
                .collect(),
            reference,
        }
    }

    pub fn speaks_of(&self, handset: &str) -> Likeness {
        let mut said = Likeness::Unsaid;
        for address in &self.addresses {
            if same_subscriber(address, handset) {
                return Likeness::Same;
            }
            if digits(address).len() >= NATIONAL_DIGITS_MIN {
                said = Likeness::Other;
            }
        }
        said
    }
}

/// SMPP 3.4, 5.2.9: 20 characters; carriers go beyond.
const ADDRESS_CHARACTERS_MAX: usize = 32;

/// Digits that a number must have in common with another to be the same subscriber's in another
/// form.
const NATIONAL_DIGITS_MIN: usize = 7;

/// Whether two writings are one subscriber's: `+447700900123`, `00447700900123`, `07700900123` and
/// `7700900123` are. Prefixes that carriers put in front of a number do no harm.
pub fn same_subscriber(a: &str, b: &str) -> bool {
    let (a, b) = (digits(a), digits(b));
    if a.is_empty() || b.is_empty() {
        return false;
    }
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    long == short || (short.len() >= NATIONAL_DIGITS_MIN && long.ends_with(&short))
}

/// What two writings of one subscriber's number share, to look them up by: the last digits. Empty
/// where it is no number.
pub fn subscriber_key(address: &str) -> String {
    let digits = digits(address);
    let from = digits.len().saturating_sub(NATIONAL_DIGITS_MIN);
    digits[from..].to_owned()
}

/// The significant digits: no sign, no leading zeros. Empty where it is no number.
fn digits(address: &str) -> String {
    let number = address.trim().trim_start_matches('+');
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return String::new();
    }
    number.trim_start_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_subscriber_in_many_writings() {
        for other in [
            "+447700900123",
            "447700900123",
            "00447700900123",
            "07700900123",
            "7700900123",
        ] {
            assert!(same_subscriber("+447700900123", other), "{other}");
        }
        for other in ["+447700900124", "900123", "Acme", "", "+", "60777"] {
            assert!(!same_subscriber("+447700900123", other), "{other}");
        }
        assert!(same_subscriber("60777", "60777"));
        assert!(!same_subscriber("60777", "160777"), "short codes are whole");
    }

    #[test]
    fn evidence_speaks_for_against_or_not_at_all() {
        let of = |a, b| Evidence::of([a, b], None);
        let handset = "447700900123";
        assert_eq!(
            of("447700900123", "Acme").speaks_of(handset),
            Likeness::Same
        );
        assert_eq!(of("Acme", "07700900123").speaks_of(handset), Likeness::Same);
        assert_eq!(of("", "").speaks_of(handset), Likeness::Unsaid);
        assert_eq!(of("Acme", "60777").speaks_of(handset), Likeness::Unsaid);
        assert_eq!(
            of("447700900124", "Acme").speaks_of(handset),
            Likeness::Other
        );
    }
}
