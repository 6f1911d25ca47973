//! Numbers as people write them, judged by PyPI `phonenumbers` where it has an opinion
//! (`tests/vectors/numbers/make.py`).

use proptest::prelude::*;

use super::*;
use crate::domain::TypeOfNumber;

const VECTORS: &str = include_str!("../../../../../tests/vectors/numbers/vectors.tsv");

struct Vector {
    region: Option<Region>,
    text: &'static str,
    e164: &'static str,
    possible: &'static str,
    valid: bool,
    kind: &'static str,
    country: &'static str,
}

fn vectors() -> impl Iterator<Item = Vector> {
    VECTORS.lines().map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [region, text, e164, possible, valid, kind, country] = columns[..] else {
            panic!("{line}");
        };
        let region = (!region.is_empty()).then(|| Region::parse(region).unwrap());
        let valid = valid == "valid";
        Vector {
            region,
            text,
            e164,
            possible,
            valid,
            kind,
            country,
        }
    })
}

fn rules(region: Option<&str>, validate: Validate) -> Rules {
    Rules {
        region: region.map(|text| Region::parse(text).unwrap()),
        validate,
        ..Rules::default()
    }
}

/// E.164 has no shortest number; ours have 7 digits, which leaves out a few of islands.
fn fits(v: &Vector) -> bool {
    v.e164.len() >= 7
}

#[test]
fn every_valid_number_of_the_world_is_read_as_it_is() {
    let mut count = 0;
    let mut wrong = Vec::new();
    // A local number without its area code is valid to the yardstick where it is a short service.
    for v in vectors().filter(|v| v.valid && fits(v) && v.possible == "possible") {
        let rules = Rules {
            region: v.region,
            validate: Validate::Valid,
            ..Rules::default()
        };
        let read = recipient(v.text, &rules).map(|a| a.value);
        if read.as_deref() != Ok(v.e164) {
            wrong.push(format!(
                "{:?} {}: {read:?}, not {}",
                v.region, v.text, v.e164
            ));
        }
        count += 1;
    }
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(count > 2_000, "{count}");
}

#[test]
fn lengths_are_judged_as_by_the_yardstick() {
    let mut refused = 0;
    for v in vectors().filter(|v| v.region.is_none() && fits(v)) {
        let read = recipient(v.text, &rules(None, Validate::Possible));
        let written: String = v.text.chars().filter(char::is_ascii_digit).collect();
        // Where the yardstick took a trunk prefix out of an international number, ours is refused or
        // kept as it is, never changed.
        if written != v.e164 {
            continue;
        }
        if matches!(read, Err(AddressError::TrunkZero(_))) {
            // Stricter than the yardstick, which judges by the length alone.
            assert!(!v.valid, "{}", v.text);
            continue;
        }
        assert_eq!(
            read.is_ok(),
            v.possible == "possible",
            "{}: {read:?}",
            v.text
        );
        if let Err(error) = read {
            assert!(
                matches!(
                    error,
                    AddressError::NationalLength { .. } | AddressError::Length(_)
                ),
                "{error}"
            );
            refused += 1;
        }
    }
    assert!(refused > 300, "{refused}");
}

#[test]
fn validity_kind_and_country_are_the_yardsticks() {
    for v in vectors().filter(fits) {
        let described = describe(v.e164).unwrap_or_else(|| panic!("{}", v.e164));
        assert_eq!(described.valid, v.valid, "{}", v.e164);
        assert_eq!(described.kind.unwrap_or(""), v.kind, "{}", v.e164);
        let found = country(v.e164).map(|c| String::from_utf8_lossy(&c).into_owned());
        if v.country != "001" && !v.country.is_empty() {
            assert_eq!(found.as_deref(), Some(v.country), "{}", v.e164);
        }
    }
}

#[track_caller]
fn reads(region: Option<&str>, text: &str, expect: &str) {
    let read = recipient(text, &rules(region, Validate::Possible)).map(|a| a.value);
    assert_eq!(read.as_deref(), Ok(expect), "{region:?} {text}");
}

#[test]
fn without_a_region_a_number_has_its_country_code() {
    reads(None, "+447700900123", "447700900123");
    reads(None, "447700900123", "447700900123");
    reads(None, "00447700900123", "447700900123");
    reads(None, "+44 (0)7700 900-123", "447700900123");
    reads(None, "+39 (0)2 3661 8300", "390236618300");
    reads(None, "+44 07400 123456", "447400123456");
    reads(None, "+2250712345678", "2250712345678");
}

#[test]
fn with_a_region_a_number_is_read_as_it_is_dialled_there() {
    reads(Some("GB"), "07700 900123", "447700900123");
    reads(Some("GB"), "7700 900123", "447700900123");
    reads(Some("GB"), "00 33 6 12 34 56 78", "33612345678");
    reads(Some("GB"), "447700900123", "447700900123");
    reads(Some("GB"), "33612345678", "33612345678");
    reads(Some("GB"), "+33612345678", "33612345678");
    reads(Some("US"), "(202) 555-0143", "12025550143");
    reads(Some("US"), "1-202-555-0143", "12025550143");
    reads(Some("US"), "011 44 7400 123456", "447400123456");
    reads(Some("US"), "447400123456", "447400123456");
    reads(Some("DE"), "33612345678", "33612345678");
    reads(Some("DE"), "03361 2345678", "4933612345678");
    reads(Some("IT"), "333 123 4567", "393331234567");
    reads(Some("NO"), "40612345", "4740612345");
}

#[track_caller]
fn refuses(region: Option<&str>, text: &str, rule: &str) {
    let error = recipient(text, &rules(region, Validate::Possible)).unwrap_err();
    assert!(error.to_string().contains(rule), "{text}: {error}");
}

#[test]
fn what_is_refused_names_its_rule() {
    refuses(None, "07700900123", "begins with 0");
    refuses(
        None,
        "+4477009001",
        "has 8 digits after the country code; numbers of GB have 7, 9 or 10",
    );
    refuses(None, "+15550143", "numbers of US have 10");
    refuses(None, "+2101234567", "begins with no country code");
    refuses(None, "+44077009001", "has a 0 after the country code");
    refuses(None, "60777", "as a short code");
    refuses(Some("GB"), "60777", "as a short code");
    refuses(None, "+60777", "has 5 digits; an international number");
    refuses(
        None,
        "+44 20 7946 0123 ext. 5",
        "has the extension \"ext. 5\"",
    );
    refuses(None, "1-800-FLOWERS", "contains 'F'");
    refuses(Some("GB"), "077009001", "numbers of GB have");
    refuses(Some("GB"), "0", "has 1 digits");
    refuses(None, "", "is empty");
    refuses(None, "+", "is empty");
    for text in ["G", "ZZ", "001", "GBR", "é", ""] {
        assert!(Region::parse(text).is_err(), "{text}");
    }
}

#[test]
fn validity_and_kinds_are_the_operators_choice() {
    let film = "+447700900123";
    assert!(recipient(film, &rules(None, Validate::Possible)).is_ok());
    let error = recipient(film, &rules(None, Validate::Valid)).unwrap_err();
    assert_eq!(error, AddressError::Unassigned("GB".to_owned()));
    let shape = rules(None, Validate::Shape);
    assert!(recipient("+999123456789", &shape).is_ok());
    let refused = Rules {
        refused: Kinds::named(["premium_rate", "fixed_line"]).unwrap(),
        ..shape
    };
    let kind = |text| recipient(text, &refused).map(|_| ());
    assert_eq!(kind("+442079460123"), Err(AddressError::Kind("fixed_line")));
    assert_eq!(
        kind("+449091234567"),
        Err(AddressError::Kind("premium_rate"))
    );
    assert_eq!(kind("+447400123456"), Ok(()));
    assert!(
        Kinds::named(["landline"])
            .unwrap_err()
            .contains("fixed_line")
    );
}

#[test]
fn short_codes_are_written_to_where_the_operator_says_so() {
    let allowed = Rules {
        short_codes: true,
        ..rules(Some("GB"), Validate::Possible)
    };
    let code = recipient("60777", &allowed).unwrap();
    assert_eq!(
        (code.ton, code.value.as_str()),
        (TypeOfNumber::Abbreviated, "60777")
    );
    assert_eq!(
        recipient("07700 900123", &allowed).unwrap().value,
        "447700900123"
    );
}

#[test]
fn originators() {
    let of = |region, text| {
        originator(text, &rules(region, Validate::Possible)).map(|a| (a.ton, a.value))
    };
    let is = |region, text, ton, value: &str| {
        assert_eq!(of(region, text), Ok((ton, value.to_owned())), "{text}");
    };
    use TypeOfNumber::{Abbreviated, Alphanumeric, International};
    is(Some("GB"), "07700 900123", International, "447700900123");
    is(None, "447700900123", International, "447700900123");
    is(Some("GB"), "60777", Abbreviated, "60777");
    is(None, "40612345", Abbreviated, "40612345");
    is(Some("NO"), "40612345", International, "4740612345");
    is(Some("NO"), "Acme", Alphanumeric, "Acme");
    is(None, "+1 202 555 0143", International, "12025550143");
    assert_eq!(
        of(Some("GB"), "Acme & Sons Ltd"),
        Err(AddressError::TooLong(15))
    );
    assert_eq!(of(None, "07700900123"), Err(AddressError::LeadingZero));
}

proptest! {
    #[test]
    fn reading_is_total(text in "\\PC{0,40}", region in prop::sample::select(vec![None, Some("GB"), Some("US"), Some("IT"), Some("BR")])) {
        for validate in [Validate::Shape, Validate::Possible, Validate::Valid] {
            let rules = rules(region, validate);
            for address in [recipient(&text, &rules), originator(&text, &rules)].into_iter().flatten() {
                if address.is_international() {
                    prop_assert!((7..=15).contains(&address.value.len()));
                    prop_assert!(address.value.bytes().all(|b| b.is_ascii_digit()));
                }
            }
        }
    }

    #[test]
    fn whatever_looks_like_a_number_is_read_or_refused(
        text in "[+0-9 ()./;#xet-]{0,30}",
        region in prop::sample::select(vec![None, Some("GB"), Some("US"), Some("DE"), Some("MX"), Some("AR")]),
    ) {
        let rules = rules(region, Validate::Possible);
        if let Ok(address) = recipient(&text, &rules) {
            // Read again, it is itself.
            prop_assert_eq!(recipient(&address.to_string(), &rules), Ok(address.clone()));
            let _ = (describe(&address.value), country(&address.value));
        }
        let _ = originator(&text, &rules);
    }
}
