//! The world's numbering plans, by libphonenumber's data: what a number dialled in a region means,
//! whether there can be such a number, and what kind it is. Knows no table of the operator's.

use std::sync::LazyLock;

use rlibphonenumber::{
    NumberLengthType, PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberFormat, PhoneNumberType,
};

use crate::domain::Address;
use crate::domain::address::{AddressError, Written, is_number_like};

/// A region with a numbering plan: ISO 3166-1 alpha-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region(rlibphonenumber::Region);

impl Region {
    /// `GB`; lower case is the same.
    pub fn parse(text: &str) -> Result<Region, AddressError> {
        let unknown = || AddressError::Region(text.chars().take(16).collect());
        let upper = text.to_ascii_uppercase();
        if upper.len() != 2 || !upper.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err(unknown());
        }
        let region = rlibphonenumber::Region::from_code(&upper).map_err(|_| unknown())?;
        let known = PHONE_NUMBER_UTIL.get_country_code_for_region(region);
        known.map(|_| Region(region)).ok_or_else(unknown)
    }
}

/// How much a recipient's number must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validate {
    /// 7 to 15 digits.
    Shape,
    /// A country's code, and as many digits as numbers there have. Says nothing about ranges, so that
    /// a range that was opened yesterday is no trouble.
    #[default]
    Possible,
    /// Of a range that is in use, by libphonenumber's data. Ranges younger than it are refused.
    Valid,
}

/// Kinds of numbers, by the names that configuration and answers have for them.
const KINDS: [(&str, PhoneNumberType); 11] = [
    ("fixed_line", PhoneNumberType::FixedLine),
    ("mobile", PhoneNumberType::Mobile),
    ("fixed_line_or_mobile", PhoneNumberType::FixedLineOrMobile),
    ("toll_free", PhoneNumberType::TollFree),
    ("premium_rate", PhoneNumberType::PremiumRate),
    ("shared_cost", PhoneNumberType::SharedCost),
    ("voip", PhoneNumberType::VoIP),
    ("personal_number", PhoneNumberType::PersonalNumber),
    ("pager", PhoneNumberType::Pager),
    ("uan", PhoneNumberType::UAN),
    ("voicemail", PhoneNumberType::VoiceMail),
];

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u16);

impl Kinds {
    /// The error is the name that is none.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Kinds, String> {
        let mut kinds = Kinds::default();
        for name in names {
            let place = KINDS.iter().position(|(known, _)| *known == name);
            let place = place.ok_or_else(|| {
                let known = KINDS.map(|(known, _)| known).join(", ");
                format!("{name:?} is none of {known}")
            })?;
            kinds.0 |= 1 << place;
        }
        Ok(kinds)
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn has(self, kind: PhoneNumberType) -> bool {
        let place = KINDS.iter().position(|(_, known)| *known == kind);
        place.is_some_and(|place| self.0 & 1 << place != 0)
    }
}

/// What a number must be, and how its national form is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Where numbers without a country code are dialled.
    pub region: Option<Region>,
    pub validate: Validate,
    pub refused: Kinds,
    /// Whether a short code may be written to.
    pub short_codes: bool,
}

impl Rules {
    /// The same without judging a number: any that can be read, short codes too.
    pub fn by_shape(self) -> Rules {
        Rules {
            validate: Validate::Shape,
            refused: Kinds::default(),
            short_codes: true,
            ..self
        }
    }
}

/// The recipient that a client wrote. `+` and digits take no library and no allocation but the
/// number's own.
pub fn recipient(text: &str, rules: &Rules) -> Result<Address, AddressError> {
    let text = text.trim();
    if let Some(digits) = text.strip_prefix('+')
        && !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
    {
        return checked(Address::of_digits(digits.to_owned())?, rules);
    }
    let written = Written::parse(text)?;
    if rules.short_codes
        && !written.plus
        && let Some(code) = short_code(&written.digits, rules.region)
    {
        return Ok(code);
    }
    let digits = written.digits.len();
    match number(&written, rules) {
        Err(_) if !written.plus && (3..=6).contains(&digits) => {
            Err(AddressError::ShortCode(digits))
        }
        other => checked(other?, rules),
    }
}

/// The originator that a client wrote: as [`Address::originator`], and national forms where there is
/// a region. Whether a carrier takes it is the carrier's and the policy's to say.
pub fn originator(text: &str, rules: &Rules) -> Result<Address, AddressError> {
    let text = text.trim();
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if text.starts_with('+') || !(plain || is_number_like(text)) {
        return Address::originator(text);
    }
    let written = Written::parse(text)?;
    if plain && let Some(code) = short_code(&written.digits, rules.region) {
        return Ok(code);
    }
    number(&written, rules)
}

/// 3 to 6 digits are a short code everywhere; 7 and 8 where they are no number of the region's.
fn short_code(digits: &str, region: Option<Region>) -> Option<Address> {
    let code = Address::short_code(digits)?;
    let is_number = digits.len() > 6
        && region.is_some_and(|region| national(digits, region).is_some_and(|n| n.is_valid()));
    (!is_number).then_some(code)
}

/// Every form but `+` and plain digits.
fn number(written: &Written, rules: &Rules) -> Result<Address, AddressError> {
    let digits = &written.digits;
    if written.plus {
        // The trunk prefix in brackets is for those who dial within the country; Italy's zero is none.
        let parsed = written.bracketed_zero.then(|| of_international(digits));
        return match parsed.flatten() {
            Some(number) => address_of(&number),
            None => Address::of_digits(digits.clone()),
        };
    }
    match rules.region {
        Some(region) => dialled(digits, region),
        // ITU-T E.123 and E.164 recommend 00; with no region no other prefix is known.
        None => Address::of_digits(digits.strip_prefix("00").unwrap_or(digits).to_owned()),
    }
}

/// Digits as they are dialled in a region: with its international prefix, as a national number, or a
/// country code without '+'. The first reading that is a valid number counts, then the first that is
/// a possible one. Where national numbers are dialled with a leading 0, digits without it are read as
/// international first.
fn dialled(digits: &str, region: Region) -> Result<Address, AddressError> {
    let at_home = national(digits, region);
    let abroad = (!digits.starts_with('0'))
        .then(|| of_international(digits))
        .flatten();
    let trunk_zero = at_home.as_ref().is_some_and(has_trunk_zero);
    let readings = if trunk_zero && !digits.starts_with('0') {
        [abroad, at_home]
    } else {
        [at_home, abroad]
    };
    let mut readings = readings.into_iter().flatten();
    let first = readings.next().ok_or(AddressError::Length(digits.len()))?;
    let second = readings.next();
    let all = || [Some(&first), second.as_ref()].into_iter().flatten();
    let best = all()
        .find(|n| n.is_valid())
        .or_else(|| all().find(|n| is_possible(n) && !has_odd_zero(n)));
    match best {
        Some(number) => address_of(number),
        None => Err(impossible(&first)),
    }
}

/// Dialled with a 0 at home that is no digit of the number (in Italy it is one).
fn has_trunk_zero(number: &PhoneNumber) -> bool {
    number
        .format_as(PhoneNumberFormat::National)
        .starts_with('0')
        && !number.get_national_significant_number().starts_with('0')
}

fn national(digits: &str, region: Region) -> Option<PhoneNumber> {
    PhoneNumber::parse(digits, Some(region.0)).ok()
}

fn of_international(digits: &str) -> Option<PhoneNumber> {
    PhoneNumber::parse(format!("+{digits}"), None).ok()
}

/// A local number without its area code is none that can be reached from elsewhere.
fn is_possible(number: &PhoneNumber) -> bool {
    number.is_possible_with_reason() == Ok(NumberLengthType::IsPossible)
}

/// A 0 in front belongs to the number in few countries: there is a range that says so, or it is a
/// trunk prefix that the library could make no sense of.
fn has_odd_zero(number: &PhoneNumber) -> bool {
    number.get_national_significant_number().starts_with('0') && !number.is_valid()
}

fn address_of(number: &PhoneNumber) -> Result<Address, AddressError> {
    Address::of_digits(format!(
        "{}{}",
        number.country_code,
        number.get_national_significant_number()
    ))
}

fn checked(address: Address, rules: &Rules) -> Result<Address, AddressError> {
    if rules.validate == Validate::Shape && rules.refused.is_empty() {
        return Ok(address);
    }
    let address = match rules.validate {
        Validate::Shape => address,
        Validate::Possible | Validate::Valid => possible(address)?,
    };
    if rules.validate == Validate::Possible && rules.refused.is_empty() {
        return Ok(address);
    }
    let Some(number) = of_international(&address.value) else {
        return Err(AddressError::CountryCode);
    };
    if rules.validate == Validate::Valid && !number.is_valid() {
        return Err(AddressError::Unassigned(main_region(number.country_code)));
    }
    let kind = number.get_type();
    match KINDS.iter().find(|(_, known)| *known == kind) {
        Some((name, _)) if rules.refused.has(kind) => Err(AddressError::Kind(name)),
        _ => Ok(address),
    }
}

/// A number that its country can have. A trunk prefix that was left in, as in +44 07700 900123, is
/// taken out where that makes a valid number.
fn possible(address: Address) -> Result<Address, AddressError> {
    match CALLING_CODES.check(&address.value) {
        Ok(()) => Ok(address),
        Err(AddressError::CountryCode) => Err(AddressError::CountryCode),
        Err(error) => match of_international(&address.value).filter(PhoneNumber::is_valid) {
            Some(number) if is_possible(&number) => address_of(&number),
            _ => Err(error),
        },
    }
}

fn impossible(number: &PhoneNumber) -> AddressError {
    let nsn = number.get_national_significant_number();
    let nsn = nsn.trim_start_matches('0');
    let code = usize::try_from(number.country_code).unwrap_or_default();
    CALLING_CODES.wrong_length(code, nsn.len())
}

/// ISO 3166-1 of a country code's main country, or the code where it is nobody's.
fn main_region(country_code: i32) -> String {
    PHONE_NUMBER_UTIL
        .get_region_for_country_code(country_code)
        .map(|region| region.as_region_str().to_string())
        .filter(|region| region.len() == 2)
        .unwrap_or_else(|| format!("+{country_code}"))
}

/// ISO 3166-1 of the country that a number of E.164 digits lives in.
pub fn country(digits: &str) -> Option<[u8; 2]> {
    let number = of_international(digits)?;
    // Numbers of no range in use (test numbers, ranges younger than the data) live in the main
    // country of their country code.
    let region = number
        .get_region_code()
        .or_else(|| PHONE_NUMBER_UTIL.get_region_for_country_code(number.country_code))?;
    match region.as_region_str().as_bytes() {
        [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Some([*a, *b]),
        _ => None,
    }
}

/// What the numbering plan says of a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub possible: bool,
    pub valid: bool,
    /// One of the kinds; none where the plan does not tell.
    pub kind: Option<&'static str>,
    /// As it is written in its own country.
    pub national: String,
    /// As it is written for abroad, grouped.
    pub international: String,
}

pub fn describe(digits: &str) -> Option<Described> {
    let number = of_international(digits)?;
    let kind = number.get_type();
    Some(Described {
        possible: is_possible(&number),
        valid: number.is_valid(),
        kind: KINDS
            .iter()
            .find(|(_, k)| *k == kind)
            .map(|(name, _)| *name),
        national: number.format_as(PhoneNumberFormat::National).into_owned(),
        international: number
            .format_as(PhoneNumberFormat::International)
            .into_owned(),
    })
}

/// How many digits follow each country code: asked of the library once, because every submission
/// wants to know.
static CALLING_CODES: LazyLock<CallingCodes> = LazyLock::new(CallingCodes::of_library);

struct CallingCodes {
    /// By country code; bit n: numbers of n digits. Zero: no country's.
    lengths: Vec<u32>,
}

impl CallingCodes {
    fn of_library() -> CallingCodes {
        let mut lengths = vec![0u32; 1000];
        for code in PHONE_NUMBER_UTIL.get_supported_calling_codes() {
            let Some(slot) = usize::try_from(code).ok().and_then(|c| lengths.get_mut(c)) else {
                continue;
            };
            for digits in 1..=17u32 {
                let number = PhoneNumber {
                    country_code: code,
                    national_number: 10u64.pow(digits - 1),
                    ..PhoneNumber::default()
                };
                *slot |= u32::from(is_possible(&number)) << digits;
            }
        }
        CallingCodes { lengths }
    }

    fn check(&self, digits: &str) -> Result<(), AddressError> {
        // No country code begins another.
        let split = (1..=3).find_map(|n| {
            let code: usize = digits.get(..n)?.parse().ok()?;
            let known = self.lengths.get(code).is_some_and(|lengths| *lengths != 0);
            known.then_some((code, digits.len() - n))
        });
        let (code, national) = split.ok_or(AddressError::CountryCode)?;
        if self.lengths[code] & 1 << national == 0 {
            return Err(self.wrong_length(code, national));
        }
        if digits[digits.len() - national..].starts_with('0') {
            return Err(AddressError::TrunkZero(main_region(code as i32)));
        }
        Ok(())
    }

    fn wrong_length(&self, code: usize, digits: usize) -> AddressError {
        let lengths = self.lengths.get(code).copied().unwrap_or_default();
        let known: Vec<String> = (1..=17)
            .filter(|n| lengths & 1 << n != 0)
            .map(|n: u32| n.to_string())
            .collect();
        let lengths = match known.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
            None => "none".to_owned(),
        };
        AddressError::NationalLength {
            country: main_region(i32::try_from(code).unwrap_or_default()),
            digits,
            lengths,
        }
    }
}

#[cfg(test)]
mod tests;
