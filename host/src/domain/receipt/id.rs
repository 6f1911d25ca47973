//! Under which keys a receipt's id meets the one of submit_sm_resp. Knows neither the store that
//! keeps those keys nor the carrier: the caller puts the carrier in front.
//!
//! The id of a receipt is often not written as the response wrote it: hexadecimal in one and
//! decimal in the other, other case, other leading zeros, a UUID with its dashes or without. The
//! store keeps exactly one key for an awaited segment, [`response_key`] of the response's id, and
//! looks a receipt up under at most four, [`id_candidates`] of the receipt's id, the likeliest first:
//!
//! | candidate | reads the receipt's id as | when |
//! | --- | --- | --- |
//! | [`IdForm::AsIs`] | what the response said | always |
//! | [`IdForm::HexInResponse`] | decimal, writes it in hexadecimal | decimal digits only |
//! | [`IdForm::DecimalInResponse`] | hexadecimal, writes it in decimal | hexadecimal digits only |
//! | [`IdForm::DashesInResponse`] | a UUID, writes its dashes | 32 hexadecimal digits |
//! | [`IdForm::DashesInReceipt`] | a UUID, leaves its dashes out | 8-4-4-4-12 hexadecimal digits |
//!
//! The key does not depend on a carrier's setting, so that changing the setting strands no
//! receipt that is still out.
//!
//! What stays ambiguous in the ids themselves, and is decided by the receipt's other evidence
//! (`evidence.rs`), or not at all:
//! - Under [`IdForm::Auto`] a receipt may meet another message whose id is, digit for digit, the
//!   other reading of its own: response ids `10` and `16`, where the carrier means 0x10. Counters
//!   from about six digits on do not meet so, because the two readings of one string are then too
//!   far apart to be out at the same time.
//! - An id in one case only is folded, one that mixes cases is kept, because only alphabets in
//!   which case counts mix them. So a carrier that counts in base 62 may have `17a` and `17A` out
//!   together, which share a key; and an id of mixed case whose carrier changes its case is missed.
//! - Ids that differ in leading zeros alone share a key.

/// SMPP 3.4 allows 65 octets; carriers go beyond.
pub const ID_OCTETS_MAX: usize = 255;

/// How a carrier writes the ids of its responses, measured by its receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdForm {
    /// The same in both, but for case and leading zeros.
    AsIs,
    /// Hexadecimal in the response, decimal in the receipt.
    HexInResponse,
    /// Decimal in the response, hexadecimal in the receipt.
    DecimalInResponse,
    /// A UUID, its dashes in the response alone.
    DashesInResponse,
    /// A UUID, its dashes in the receipt alone.
    DashesInReceipt,
    /// Not known: all of them, in that order.
    Auto,
}

impl IdForm {
    pub const ALL: [IdForm; 6] = [
        IdForm::AsIs,
        IdForm::HexInResponse,
        IdForm::DecimalInResponse,
        IdForm::DashesInResponse,
        IdForm::DashesInReceipt,
        IdForm::Auto,
    ];

    /// Those that a carrier can have: all but `Auto`.
    pub const KNOWN: [IdForm; 5] = [
        IdForm::AsIs,
        IdForm::HexInResponse,
        IdForm::DecimalInResponse,
        IdForm::DashesInResponse,
        IdForm::DashesInReceipt,
    ];

    pub fn name(self) -> &'static str {
        match self {
            IdForm::AsIs => "as_is",
            IdForm::HexInResponse => "hex_in_response",
            IdForm::DecimalInResponse => "decimal_in_response",
            IdForm::DashesInResponse => "dashes_in_response",
            IdForm::DashesInReceipt => "dashes_in_receipt",
            IdForm::Auto => "auto",
        }
    }

    pub fn from_name(name: &str) -> Option<IdForm> {
        IdForm::ALL.into_iter().find(|f| f.name() == name)
    }
}

/// A key to look a receipt up under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdCandidate {
    pub key: String,
    /// The form that the carrier has if this key is the one that meets. Never `Auto`.
    pub form: IdForm,
}

/// The one key that an awaited segment is indexed under, from the id of its submit_sm_resp.
/// `None`: the id is empty or longer than [`ID_OCTETS_MAX`], so no receipt can be matched.
pub fn response_key(id: &str) -> Option<String> {
    let id = trim(id);
    if id.is_empty() || id.len() > ID_OCTETS_MAX {
        return None;
    }
    let significant = significant(id);
    let upper = significant.bytes().any(|b| b.is_ascii_uppercase());
    let lower = significant.bytes().any(|b| b.is_ascii_lowercase());
    Some(match significant {
        "" => "0".to_owned(),
        mixed if upper && lower => mixed.to_owned(),
        folded => folded.to_ascii_lowercase(),
    })
}

/// The keys to look a receipt's id up under, at most four and none twice, the likeliest first.
/// A carrier whose form is set gets one: that form's, or where the id cannot be read so, as it is.
pub fn id_candidates(id: &str, form: IdForm) -> Vec<IdCandidate> {
    let Some(as_is) = response_key(id) else {
        return Vec::new();
    };
    let forms = match form {
        IdForm::Auto => &IdForm::KNOWN[..],
        ref set => std::slice::from_ref(set),
    };
    let mut all: Vec<IdCandidate> = Vec::with_capacity(forms.len());
    for form in forms {
        if let Some(key) = reading(id, *form)
            && all.iter().all(|c| c.key != key)
        {
            all.push(IdCandidate { key, form: *form });
        }
    }
    if all.is_empty() {
        all.push(IdCandidate {
            key: as_is,
            form: IdForm::AsIs,
        });
    }
    all
}

/// The key of the response that a receipt's id means where its carrier has `form`; `None` where the
/// id cannot be written so.
pub(super) fn reading(id: &str, form: IdForm) -> Option<String> {
    let digits = strip_hex_prefix(trim(id));
    match form {
        IdForm::AsIs | IdForm::Auto => response_key(id),
        // Beyond 128 bits an id is no number that somebody counted.
        IdForm::HexInResponse => decimal(digits).map(|n| format!("{n:x}")),
        IdForm::DecimalInResponse => hexadecimal(digits).map(|n| n.to_string()),
        IdForm::DashesInResponse => dashed(digits),
        IdForm::DashesInReceipt => undashed(digits),
    }
}

/// Where a UUID's dashes stand, in 32 digits.
const DASHES_AT: [usize; 4] = [8, 12, 16, 20];

/// The key of 32 hexadecimal digits written as a UUID.
fn dashed(digits: &str) -> Option<String> {
    if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut uuid = String::with_capacity(36);
    for (at, digit) in digits.char_indices() {
        if DASHES_AT.contains(&at) {
            uuid.push('-');
        }
        uuid.push(digit);
    }
    response_key(&uuid)
}

/// The key of a UUID without its dashes.
fn undashed(id: &str) -> Option<String> {
    let digits: String = id.chars().filter(|c| *c != '-').collect();
    let is_uuid = id.len() == 36 && dashed(&digits) == response_key(id);
    is_uuid.then(|| response_key(&digits))?
}

/// Without prefix and leading zeros, until nothing more goes: a key is its own key, whatever a peer writes.
fn significant(mut id: &str) -> &str {
    loop {
        let less = trim(strip_hex_prefix(id).trim_start_matches('0'));
        if less.len() == id.len() {
            return id;
        }
        id = less;
    }
}

fn trim(id: &str) -> &str {
    id.trim_matches(|c: char| c.is_whitespace() || c.is_control())
}

/// `0x1A` is the number 1A to those who write it.
fn strip_hex_prefix(id: &str) -> &str {
    match id.strip_prefix("0x").or_else(|| id.strip_prefix("0X")) {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
            digits
        }
        _ => id,
    }
}

fn decimal(digits: &str) -> Option<u128> {
    // `parse` alone would take a sign.
    let all_digits = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| all_digits)
}

fn hexadecimal(digits: &str) -> Option<u128> {
    let all_digits = digits.bytes().all(|b| b.is_ascii_hexdigit());
    u128::from_str_radix(digits, 16).ok().filter(|_| all_digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether a receipt's id finds the response's, and as which candidate.
    fn meets(response: &str, receipt: &str, form: IdForm) -> Option<IdForm> {
        let key = response_key(response)?;
        id_candidates(receipt, form)
            .into_iter()
            .find(|c| c.key == key)
            .map(|c| c.form)
    }

    #[test]
    fn every_form_of_the_field_meets() {
        for (response, receipt, form) in [
            ("1a2b3c", "1a2b3c", IdForm::AsIs),
            ("1A2B3C", "1a2b3c", IdForm::AsIs),
            ("001A2B3C", "1A2B3C", IdForm::AsIs),
            ("0x1A2B3C", "1a2b3c", IdForm::AsIs),
            (
                "8af6f73a-92e0-11f0-9E65",
                "8af6f73a-92e0-11f0-9E65",
                IdForm::AsIs,
            ),
            ("RDWJWXNS18", "rdwjwxns18", IdForm::AsIs),
            ("1A2B3C", "1715004", IdForm::HexInResponse),
            ("1715004", "001A2B3C", IdForm::DecimalInResponse),
            ("00000000", "0", IdForm::AsIs),
            (
                "8af6f73a-92e0-11f0-9e65-0242ac120002",
                "8af6f73a92e011f09e650242ac120002",
                IdForm::DashesInResponse,
            ),
            (
                "8AF6F73A92E011F09E650242AC120002",
                "8af6f73a-92e0-11f0-9e65-0242ac120002",
                IdForm::DashesInReceipt,
            ),
            (
                "0af6f73a-92e0-11f0-9e65-0242ac120002",
                "0AF6F73A92E011F09E650242AC120002",
                IdForm::DashesInResponse,
            ),
        ] {
            assert_eq!(
                meets(response, receipt, IdForm::Auto),
                Some(form),
                "{response} {receipt}"
            );
            assert_eq!(
                meets(response, receipt, form),
                Some(form),
                "{response} {receipt}"
            );
        }
    }

    #[test]
    fn opaque_ids_are_not_numbers() {
        assert_eq!(
            meets("aB3x", "AB3x", IdForm::Auto),
            None,
            "mixed case counts"
        );
        assert_eq!(id_candidates("rdwjwxns18", IdForm::Auto).len(), 1);
        assert_eq!(id_candidates("-12", IdForm::Auto).len(), 1);
        assert_eq!(id_candidates("+12", IdForm::Auto).len(), 1);
    }

    #[test]
    fn a_set_form_looks_under_one_key() {
        let keys = |id, form| -> Vec<String> {
            id_candidates(id, form).into_iter().map(|c| c.key).collect()
        };
        assert_eq!(keys("16", IdForm::AsIs), ["16"]);
        assert_eq!(keys("16", IdForm::HexInResponse), ["10"]);
        assert_eq!(keys("16", IdForm::DecimalInResponse), ["22"]);
        assert_eq!(keys("16", IdForm::Auto), ["16", "10", "22"]);
        assert_eq!(keys("x-16", IdForm::HexInResponse), ["x-16"]);
    }

    #[test]
    fn a_key_is_its_own_key() {
        for id in ["0 stat:UNDELIV", "0 0x1A", "0x00x1A", "00\u{a0}0", "0x0"] {
            let key = response_key(id).unwrap();
            assert_eq!(response_key(&key), Some(key.clone()), "{id:?}");
        }
        assert_eq!(response_key("0 0x1A").as_deref(), Some("1a"));
        assert_eq!(response_key("00\u{a0}0").as_deref(), Some("0"));
    }

    #[test]
    fn an_id_that_cannot_be_matched_has_no_key() {
        assert_eq!(response_key(" \0"), None);
        assert_eq!(response_key(&"a".repeat(256)), None);
        assert!(id_candidates("", IdForm::Auto).is_empty());
    }

    proptest! {
        #[test]
        fn any_writing_of_a_number_meets_any_other(n: u64, response in 0_usize..6, receipt in 0_usize..6) {
            let forms = [
                format!("{n}"), format!("{n:024}"), format!("{n:x}"),
                format!("{n:X}"), format!("{n:020x}"), format!("{n:016X}"),
            ];
            prop_assert!(meets(&forms[response], &forms[receipt], IdForm::Auto).is_some());
        }

        #[test]
        fn ids_written_as_the_response_wrote_them_meet_first(id in "[!-~]{1,65}") {
            prop_assert_eq!(meets(&id, &id, IdForm::Auto), Some(IdForm::AsIs));
            prop_assert_eq!(&id_candidates(&id, IdForm::Auto)[0].form, &IdForm::AsIs);
        }

        #[test]
        fn neighbours_of_a_counter_do_not_meet(n in 10_000_000_u64..u64::MAX / 2, step in 1_u64..1_000_000) {
            let m = n + step;
            for (a, b) in [
                (format!("{n}"), format!("{m}")),
                (format!("{n:x}"), format!("{m}")),
                (format!("{n}"), format!("{m:x}")),
                (format!("{n:X}"), format!("{m:x}")),
            ] {
                prop_assert_eq!(meets(&a, &b, IdForm::Auto), None, "{} {}", a, b);
            }
        }

        #[test]
        fn a_fixed_width_id_meets_itself_only(a in "[0-9a-zA-Z]{22}", b in "[0-9a-zA-Z]{22}") {
            prop_assume!(!a.eq_ignore_ascii_case(&b));
            prop_assert_eq!(meets(&a, &b, IdForm::AsIs), None);
        }
    }
}
