//! SME addresses (SMPP 3.4, 4.7.1 and 5.2.5 to 5.2.6; 3GPP TS 23.040, 9.1.2.5): parsed once at
//! the edge, never checked again. Knows the syntax of numbers, not who owns them.

use std::fmt;

/// Type of number (SMPP 3.4, 5.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TypeOfNumber {
    Unknown = 0,
    International = 1,
    National = 2,
    NetworkSpecific = 3,
    Subscriber = 4,
    Alphanumeric = 5,
    Abbreviated = 6,
}

impl TypeOfNumber {
    /// Reserved values read as `Unknown`: peers send them.
    pub fn from_u8(value: u8) -> TypeOfNumber {
        match value {
            1 => TypeOfNumber::International,
            2 => TypeOfNumber::National,
            3 => TypeOfNumber::NetworkSpecific,
            4 => TypeOfNumber::Subscriber,
            5 => TypeOfNumber::Alphanumeric,
            6 => TypeOfNumber::Abbreviated,
            _ => TypeOfNumber::Unknown,
        }
    }
}

/// Numbering plan indicator (SMPP 3.4, 5.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum NumberingPlan {
    Unknown = 0,
    Isdn = 1,
    Data = 3,
    Telex = 4,
    LandMobile = 6,
    National = 8,
    Private = 9,
    Ermes = 10,
    Internet = 14,
    Wap = 18,
}

impl NumberingPlan {
    /// Reserved values read as `Unknown`: peers send them.
    pub fn from_u8(value: u8) -> NumberingPlan {
        match value {
            1 => NumberingPlan::Isdn,
            3 => NumberingPlan::Data,
            4 => NumberingPlan::Telex,
            6 => NumberingPlan::LandMobile,
            8 => NumberingPlan::National,
            9 => NumberingPlan::Private,
            10 => NumberingPlan::Ermes,
            14 => NumberingPlan::Internet,
            18 => NumberingPlan::Wap,
            _ => NumberingPlan::Unknown,
        }
    }
}

/// An SME address. For `International` numbers `value` is 7 to 15 E.164 digits without '+'.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    pub ton: TypeOfNumber,
    pub npi: NumberingPlan,
    pub value: String,
}

/// Why a string is no address. The text names the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressError {
    Empty,
    /// International numbers have 7 to 15 digits after '+' (E.164, 6.2).
    Length(usize),
    /// A character that has no place in a number.
    Character(char),
    /// No country code begins with 0 (E.164, annex A).
    LeadingZero,
    /// Alphanumeric originators have at most 11 characters (3GPP TS 23.040, 9.1.2.5).
    TooLong(usize),
    /// Alphanumeric originators are GSM 7-bit default alphabet; we take its printable ASCII part.
    Alphabet(char),
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressError::Empty => write!(f, "is empty"),
            AddressError::Length(digits) => write!(
                f,
                "has {digits} digits; an international number has 7 to 15 after '+'"
            ),
            AddressError::Character(c) => write!(
                f,
                "contains {c:?}; a number is '+' and digits, with spaces, dots, dashes and brackets ignored"
            ),
            AddressError::LeadingZero => write!(
                f,
                "begins with 0 after '+'; give the country code first, as in +447700900123"
            ),
            AddressError::TooLong(n) => write!(
                f,
                "has {n} characters; an alphanumeric sender has at most 11"
            ),
            AddressError::Alphabet(c) => write!(
                f,
                "contains {c:?}; an alphanumeric sender is letters, digits, space and - _ . & + ! ' "
            ),
        }
    }
}

impl std::error::Error for AddressError {}

impl Address {
    /// A recipient as people write it: `+44 7700 900123`, with or without '+'.
    pub fn international(text: &str) -> Result<Address, AddressError> {
        let trimmed = text.trim();
        let digits = trimmed.strip_prefix('+').unwrap_or(trimmed);
        let mut value = String::with_capacity(15);
        for c in digits.chars() {
            match c {
                '0'..='9' => value.push(c),
                ' ' | '.' | '-' | '(' | ')' | '\u{a0}' => {}
                other => return Err(AddressError::Character(other)),
            }
        }
        match value.len() {
            0 => Err(AddressError::Empty),
            7..=15 if value.starts_with('0') => Err(AddressError::LeadingZero),
            7..=15 => Ok(Address {
                ton: TypeOfNumber::International,
                npi: NumberingPlan::Isdn,
                value,
            }),
            n => Err(AddressError::Length(n)),
        }
    }

    /// An originator: `+` and an international number, a short code of 3 to 8 digits
    /// (abbreviated, SMPP 3.4, 5.2.5), an international number without '+', or an alphanumeric
    /// sender of at most 11 characters with at least one that is no digit.
    pub fn originator(text: &str) -> Result<Address, AddressError> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(AddressError::Empty);
        }
        if trimmed.starts_with('+') {
            return Address::international(trimmed);
        }
        if trimmed.bytes().all(|b| b.is_ascii_digit()) {
            if (3..=8).contains(&trimmed.len()) {
                return Ok(Address {
                    ton: TypeOfNumber::Abbreviated,
                    npi: NumberingPlan::Unknown,
                    value: trimmed.to_owned(),
                });
            }
            return Address::international(trimmed);
        }
        let characters = trimmed.chars().count();
        if characters > 11 {
            return Err(AddressError::TooLong(characters));
        }
        if let Some(c) = trimmed
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || " -_.&+!'".contains(*c)))
        {
            return Err(AddressError::Alphabet(c));
        }
        Ok(Address {
            ton: TypeOfNumber::Alphanumeric,
            npi: NumberingPlan::Unknown,
            value: trimmed.to_owned(),
        })
    }

    pub fn is_international(&self) -> bool {
        self.ton == TypeOfNumber::International
    }

    /// Last two digits kept, the rest hidden: the only form that may reach a log.
    pub fn masked(&self) -> String {
        let keep = self.value.len().saturating_sub(2);
        self.value
            .char_indices()
            .map(|(i, c)| if i < keep { '*' } else { c })
            .collect()
    }
}

/// `+447700900123` for international numbers, the value as it is otherwise.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_international() {
            write!(f, "+{}", self.value)
        } else {
            f.write_str(&self.value)
        }
    }
}

/// Where a number lives, as far as the host knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// ISO 3166-1 alpha-2, upper case.
    pub country: Option<[u8; 2]>,
    pub mcc: Option<u16>,
    pub mnc: Option<u16>,
    pub ported: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &str, expect: Result<(TypeOfNumber, &str), AddressError>) {
        let got = Address::originator(input);
        assert_eq!(
            got.map(|a| (a.ton, a.value)),
            expect.map(|(t, v)| (t, v.to_owned()))
        );
    }

    #[test]
    fn originators() {
        check(
            "+44 7700 900123",
            Ok((TypeOfNumber::International, "447700900123")),
        );
        check(
            "447700900123",
            Ok((TypeOfNumber::International, "447700900123")),
        );
        check("60777", Ok((TypeOfNumber::Abbreviated, "60777")));
        check("Acme", Ok((TypeOfNumber::Alphanumeric, "Acme")));
        check("Acme & Sons Ltd", Err(AddressError::TooLong(15)));
        check("Ac\u{e9}me", Err(AddressError::Alphabet('\u{e9}')));
        check("", Err(AddressError::Empty));
        check("12", Err(AddressError::Length(2)));
    }

    #[test]
    fn recipients() {
        assert_eq!(
            Address::international("+1 (202) 555-0143").unwrap().value,
            "12025550143"
        );
        assert_eq!(
            Address::international("+0123456789"),
            Err(AddressError::LeadingZero)
        );
        assert_eq!(
            Address::international("+12345"),
            Err(AddressError::Length(5))
        );
        assert_eq!(
            Address::international("+1234567890123456"),
            Err(AddressError::Length(16))
        );
        assert_eq!(
            Address::international("call me"),
            Err(AddressError::Character('c'))
        );
        assert_eq!(Address::international("+"), Err(AddressError::Empty));
    }

    #[test]
    fn a_masked_number_shows_its_last_two_digits() {
        assert_eq!(
            Address::international("+447700900123").unwrap().masked(),
            "**********23"
        );
    }
}
