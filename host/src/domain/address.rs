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

/// Why a string is no address, or none that a message can go to. The text names the rule and what
/// to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressError {
    Empty,
    /// International numbers have 7 to 15 digits after '+' (E.164, 6.2).
    Length(usize),
    /// A character that has no place in a number.
    Character(char),
    /// No country code begins with 0 (E.164, annex A).
    LeadingZero,
    /// What follows the number, as it was written: `ext. 5`.
    Extension(String),
    /// Alphanumeric originators have at most 11 characters (3GPP TS 23.040, 9.1.2.5).
    TooLong(usize),
    /// Alphanumeric originators are of the GSM 7-bit default alphabet (3GPP TS 23.040, 9.1.2.5), and
    /// an SMPP address is ASCII (SMPP 3.4, 3.1): what both have is taken.
    Alphabet(char),
    /// An originator of neither letters nor a number.
    NoLetter,
    /// No country has this code.
    CountryCode,
    /// A short code, where only numbers are written to.
    ShortCode(usize),
    /// A region that is none of ISO 3166-1 with a numbering plan.
    Region(String),
    /// The country has no numbers of this length.
    NationalLength {
        country: String,
        digits: usize,
        /// As in `7, 9 or 10`.
        lengths: String,
    },
    /// A 0 after the country code, where numbers of the country have none.
    TrunkZero(String),
    /// No range in use of the country has it.
    Unassigned(String),
    /// A kind of number that the operator does not send to.
    Kind(&'static str),
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
                "contains {c:?}; a number is '+' and digits, with spaces, dots, dashes, slashes and brackets ignored"
            ),
            AddressError::LeadingZero => write!(
                f,
                "begins with 0; give the country code first, as in +447700900123, or a `region` such as \"GB\" that the number is dialled in"
            ),
            AddressError::Extension(text) => write!(
                f,
                "has the extension {text:?}; a message goes to a number alone, leave the extension out"
            ),
            AddressError::TooLong(n) => write!(
                f,
                "has {n} characters; an alphanumeric sender has at most 11"
            ),
            AddressError::Alphabet(c) => write!(
                f,
                "contains {c:?}; an alphanumeric sender is made of what ASCII and the GSM default alphabet share: letters, digits, space and {ALPHANUMERIC_SIGNS}"
            ),
            AddressError::NoLetter => write!(
                f,
                "has no letter and is no number; an alphanumeric sender has at least one letter"
            ),
            AddressError::CountryCode => write!(
                f,
                "begins with no country code; give it first, as in +447700900123"
            ),
            AddressError::ShortCode(digits) => write!(
                f,
                "has {digits} digits, as a short code; messages go to numbers in international form, such as +447700900123"
            ),
            AddressError::Region(text) => write!(
                f,
                "{text:?} is no region with a numbering plan; write two letters of ISO 3166-1, such as \"GB\""
            ),
            AddressError::NationalLength {
                country,
                digits,
                lengths,
            } => write!(
                f,
                "has {digits} digits after the country code; numbers of {country} have {lengths}"
            ),
            AddressError::TrunkZero(country) => write!(
                f,
                "has a 0 after the country code, which numbers of {country} have only when they are dialled at home; leave it out"
            ),
            AddressError::Unassigned(country) => write!(
                f,
                "is of no number range that is in use in {country}; check its digits"
            ),
            AddressError::Kind(kind) => {
                write!(f, "is a {kind} number, which this server does not send to")
            }
        }
    }
}

impl std::error::Error for AddressError {}

/// Signs of an alphanumeric originator: all of ASCII that the GSM default alphabet has without its
/// extension table (3GPP TS 23.038, 6.2.1).
const ALPHANUMERIC_SIGNS: &str = "!\"#$%&'()*+,-./:;<=>?@_";

const ALPHANUMERIC_CHARACTERS_MAX: usize = 11;

/// A number as people write it, taken apart: its digits, and whether a '+' came first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub plus: bool,
    pub digits: String,
    /// Its trunk prefix is in brackets, as in `+44 (0)7700 900123`.
    pub bracketed_zero: bool,
}

impl Written {
    /// Spaces, dots, dashes, slashes and brackets are passed over, and so are the invisible marks of
    /// direction that address books put around numbers. Digits may be those of other scripts.
    pub fn parse(text: &str) -> Result<Written, AddressError> {
        let (number, extension) = split_extension(text.trim());
        if !extension.is_empty() {
            return Err(AddressError::Extension(extension.to_owned()));
        }
        let mut written = Written {
            plus: false,
            digits: String::with_capacity(number.len()),
            bracketed_zero: number.contains("(0)"),
        };
        for c in number.chars() {
            match c {
                '0'..='9' => written.digits.push(c),
                '+' | '\u{ff0b}' if written.digits.is_empty() && !written.plus => {
                    written.plus = true;
                }
                ' ' | '.' | '-' | '/' | '(' | ')' | '\t' | '\u{a0}' | '\u{2007}' | '\u{202f}' => {}
                '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{ad}' | '\u{200b}'..='\u{200f}' => {}
                '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {}
                other => match digit_of_another_script(other) {
                    Some(digit) => written.digits.push(digit),
                    None => return Err(AddressError::Character(other)),
                },
            }
        }
        if written.digits.is_empty() {
            return Err(AddressError::Empty);
        }
        Ok(written)
    }
}

/// `ext. 5`, `x5`, `;ext=5`, `#5` and their like at the end of a number.
fn split_extension(text: &str) -> (&str, &str) {
    let begins = |(at, c): &(usize, char)| match c {
        ';' | '#' => true,
        'x' | 'X' | '\u{d7}' | 'e' | 'E' => {
            let tail = text[*at..].to_lowercase();
            let tail = ["extension", "extn", "ext", "x", "\u{d7}"]
                .iter()
                .find_map(|word| tail.strip_prefix(word))
                .unwrap_or("-");
            tail.chars()
                .all(|c| c.is_ascii_digit() || " .:=".contains(c))
        }
        _ => false,
    };
    match text.char_indices().find(begins) {
        // A sign with nothing before it is no extension but no number either.
        Some((at, _)) if text[..at].contains(|c: char| c.is_ascii_digit()) => {
            (text[..at].trim_end(), text[at..].trim_end())
        }
        _ => (text, ""),
    }
}

/// Decimal digits of full-width, Arabic, Persian, Devanagari and Bengali writing.
fn digit_of_another_script(c: char) -> Option<char> {
    const ZEROS: [u32; 5] = [0xff10, 0x0660, 0x06f0, 0x0966, 0x09e6];
    let value = ZEROS
        .iter()
        .find_map(|zero| u32::from(c).checked_sub(*zero).filter(|v| *v < 10))?;
    char::from_digit(value, 10)
}

impl Address {
    /// A recipient as people write it: `+44 7700 900123`, with or without '+'. Shape alone: whether
    /// there is such a country, or such a number in it, is `pipeline::numbers`' to know.
    pub fn international(text: &str) -> Result<Address, AddressError> {
        let trimmed = text.trim();
        let digits = trimmed.strip_prefix('+').unwrap_or(trimmed);
        if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            return Address::of_digits(digits.to_owned());
        }
        let written = Written::parse(text)?;
        Address::of_digits(written.digits)
    }

    /// International digits, the country code first.
    pub fn of_digits(value: String) -> Result<Address, AddressError> {
        match value.len() {
            0 => Err(AddressError::Empty),
            7..=15 if value.starts_with('0') => Err(AddressError::LeadingZero),
            7..=15 if value.bytes().all(|b| b.is_ascii_digit()) => Ok(Address {
                ton: TypeOfNumber::International,
                npi: NumberingPlan::Isdn,
                value,
            }),
            n => Err(AddressError::Length(n)),
        }
    }

    /// An originator: `+` and an international number, a short code of 3 to 8 digits
    /// (abbreviated, SMPP 3.4, 5.2.5), an international number without '+', or an alphanumeric
    /// sender of at most 11 characters with at least one letter.
    pub fn originator(text: &str) -> Result<Address, AddressError> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(AddressError::Empty);
        }
        if trimmed.starts_with('+') {
            return Address::international(trimmed);
        }
        if trimmed.bytes().all(|b| b.is_ascii_digit()) {
            return Address::short_code(trimmed)
                .map_or_else(|| Address::international(trimmed), Ok);
        }
        if is_number_like(trimmed) {
            return Address::international(trimmed);
        }
        Address::alphanumeric(trimmed)
    }

    /// A short code: 3 to 8 digits.
    pub fn short_code(digits: &str) -> Option<Address> {
        let fits = (3..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| Address {
            ton: TypeOfNumber::Abbreviated,
            npi: NumberingPlan::Unknown,
            value: digits.to_owned(),
        })
    }

    /// A sender of 1 to 11 characters, at least one a letter (3GPP TS 23.040, 9.1.2.5).
    pub fn alphanumeric(text: &str) -> Result<Address, AddressError> {
        let characters = text.chars().count();
        if let Some(c) = text
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || *c == ' ' || ALPHANUMERIC_SIGNS.contains(*c)))
        {
            return Err(AddressError::Alphabet(c));
        }
        if characters > ALPHANUMERIC_CHARACTERS_MAX {
            return Err(AddressError::TooLong(characters));
        }
        if !text.bytes().any(|b| b.is_ascii_alphabetic()) {
            return Err(AddressError::NoLetter);
        }
        Ok(Address {
            ton: TypeOfNumber::Alphanumeric,
            npi: NumberingPlan::Unknown,
            value: text.to_owned(),
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

/// Nothing but digits and what separates them, and enough digits for a number.
pub fn is_number_like(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    digits >= 7
        && text
            .chars()
            .all(|c| c.is_ascii_digit() || " .-()/\u{a0}".contains(c))
}

/// Who said where a number lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum NetworkSource {
    /// Nobody, or a message that was stored before this was kept.
    #[default]
    Unknown = 0,
    /// The numbering plan: the country alone.
    Plan = 1,
    /// The operator's table of networks, by prefix.
    Table = 2,
    /// The operator's portability table.
    Ported = 3,
    /// An enrichment of the policy set.
    Plugin = 4,
}

impl NetworkSource {
    pub fn from_u8(value: u8) -> Option<NetworkSource> {
        Some(match value {
            0 => NetworkSource::Unknown,
            1 => NetworkSource::Plan,
            2 => NetworkSource::Table,
            3 => NetworkSource::Ported,
            4 => NetworkSource::Plugin,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            NetworkSource::Unknown => "unknown",
            NetworkSource::Plan => "numbering_plan",
            NetworkSource::Table => "networks",
            NetworkSource::Ported => "portability",
            NetworkSource::Plugin => "plugin",
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
    pub source: NetworkSource,
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
        check(
            "Acme#1@UK/x",
            Ok((TypeOfNumber::Alphanumeric, "Acme#1@UK/x")),
        );
        check("(020) 7946-0123", Err(AddressError::LeadingZero));
        check(
            "44 7700-900123",
            Ok((TypeOfNumber::International, "447700900123")),
        );
        check("##", Err(AddressError::NoLetter));
        check("Acme{1}", Err(AddressError::Alphabet('{')));
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
    fn numbers_as_they_are_pasted() {
        for text in [
            "\u{202a}+44 7700\u{a0}900123\u{202c}",
            "+44\u{2011}7700\u{2013}900 123",
            "\u{ff0b}\u{ff14}\u{ff14}7700900123",
            "+\u{664}\u{664}\u{667}\u{667}\u{660}\u{660}\u{669}\u{660}\u{660}\u{661}\u{662}\u{663}",
            "+44/7700/900123",
        ] {
            let address = Address::international(text).map(|a| a.value);
            assert_eq!(address.as_deref(), Ok("447700900123"), "{text:?}");
        }
        assert!(Written::parse("+44 (0)7700 900123").unwrap().bracketed_zero);
    }

    #[test]
    fn an_extension_is_named() {
        for (text, extension) in [
            ("+44 20 7946 0123 ext. 5", "ext. 5"),
            ("+442079460123x5", "x5"),
            ("+442079460123;ext=5", ";ext=5"),
            ("+442079460123 Extn 12", "Extn 12"),
            ("+442079460123 #5", "#5"),
        ] {
            let expect = AddressError::Extension(extension.to_owned());
            assert_eq!(Address::international(text), Err(expect), "{text}");
        }
        for (text, c) in [("x5", 'x'), ("12345 extra", 'e'), ("+44+7700900123", '+')] {
            let expect = AddressError::Character(c);
            assert_eq!(Address::international(text), Err(expect), "{text}");
        }
    }

    #[test]
    fn a_masked_number_shows_its_last_two_digits() {
        assert_eq!(
            Address::international("+447700900123").unwrap().masked(),
            "**********23"
        );
    }
}
