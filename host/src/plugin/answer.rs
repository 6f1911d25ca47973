//! What a plugin's answer may hold, in whichever version of the contract it came: every bound and every
//! rule, and the words for what breaks one. Knows no WIT; each `contract_v*` asks it field by field.

use std::fmt;

use super::host_calls::is_unprintable;
use super::load::Manifest;
use super::{CarrierView, HttpResponse};
use crate::domain::{
    Address, Body, CarrierId, Network, NetworkSource, NumberingPlan, Refusal, Tlv, TypeOfNumber,
};

// Limits on what a plugin returns. Copying is bounded before any of them by wasmtime's host-call
// fuel (`pool::COPY_BYTES_MAX`).
pub(super) const REASON_CHARS_MAX: usize = 512;
const CODE_CHARS_MAX: usize = 64;
const LABEL_CHARS_MAX: usize = 64;
const HOPS_MAX: usize = 8;
const ACTIONS_MAX: usize = 16;
const TLVS_MAX: usize = 16;
const TLV_OCTETS_MAX: usize = 255;
/// 255 parts of 153 septets (3GPP TS 23.040, 9.2.3.24.1 and TS 23.038, 6.1.2.1).
const TEXT_CHARS_MAX: usize = 255 * 153;
/// 255 parts of 134 octets.
const DATA_OCTETS_MAX: usize = 255 * 134;
/// A user data header without its length octet (3GPP TS 23.040, 9.2.3.24).
const UDH_OCTETS_MAX: usize = 139;
const CARRIER_IDS_MAX: usize = 255;
/// message_id is a C-octet string of at most 65 (SMPP 3.4, 4.4.2).
const CARRIER_ID_CHARS_MAX: usize = 64;
const EVENTS_MAX: usize = 1_000;
const EVENT_ADDRESS_CHARS_MAX: usize = 21;
const EVENT_ERROR_CHARS_MAX: usize = 64;
const HEADERS_MAX: usize = 64;
const HEADER_CHARS_MAX: usize = 8 << 10;
const CALLBACK_BODY_MAX: usize = 256 << 10;
const MANIFEST_NAME_CHARS_MAX: usize = 64;
const MANIFEST_VERSION_CHARS_MAX: usize = 64;
const MANIFEST_SUMMARY_CHARS_MAX: usize = 256;
const CONFIG_SCHEMA_BYTES_MAX: usize = 256 << 10;
/// What one enrichment adds to a message's metadata; names and values are as long as a client's.
const LABELS_MAX: usize = 8;
const LABEL_NAME_CHARS_MAX: usize = 64;
const LABEL_VALUE_CHARS_MAX: usize = 256;
/// Mobile country and network codes have at most three digits (ITU-T E.212).
const MCC_MAX: u16 = 999;
const MNC_MAX: u16 = 999;

/// A field of an answer and the rule it breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad(pub String);

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The answer of a call that returned: as the host reads it, or what is wrong with it.
pub(super) type Raised<T> = wasmtime::Result<Result<T, Bad>>;

pub(super) fn bad<T>(field: &str, rule: impl fmt::Display) -> Result<T, Bad> {
    Err(Bad(format!("{field} {rule}")))
}

/// Bounds what the plugin says of itself.
pub(super) fn manifest(m: Manifest) -> Result<Manifest, Bad> {
    let name_ok = !m.name.is_empty()
        && m.name.len() <= MANIFEST_NAME_CHARS_MAX
        && m.name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !name_ok {
        return bad(
            "manifest.name",
            "is not 1 to 64 lower-case letters, digits and hyphens",
        );
    }
    let version_ok = m.version.len() <= MANIFEST_VERSION_CHARS_MAX
        && m.version.split(['-', '+']).next().is_some_and(|core| {
            core.split('.').count() == 3
                && core
                    .split('.')
                    .all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        })
        && m.version.bytes().all(|b| b.is_ascii_graphic());
    if !version_ok {
        return bad("manifest.version", "is no semantic version such as 1.0.0");
    }
    if m.config_schema.len() > CONFIG_SCHEMA_BYTES_MAX {
        return bad(
            "manifest.config-schema",
            format_args!("is longer than {CONFIG_SCHEMA_BYTES_MAX} bytes"),
        );
    }
    Ok(Manifest {
        summary: shortened(m.summary, MANIFEST_SUMMARY_CHARS_MAX),
        ..m
    })
}

pub(super) fn hop_count(hops: usize) -> Result<(), Bad> {
    if hops == 0 || hops > HOPS_MAX {
        return bad(
            "send.hops",
            format_args!("has {hops} hops, not 1 to {HOPS_MAX}"),
        );
    }
    Ok(())
}

/// The carrier of a hop, by the name that it was offered under.
pub(super) fn carrier_named(
    hop: usize,
    name: String,
    carriers: &[CarrierView],
) -> Result<CarrierId, Bad> {
    match carriers.iter().find(|c| c.id.as_str() == name) {
        Some(carrier) => Ok(carrier.id.clone()),
        None => {
            let name = shortened(name, CARRIER_ID_CHARS_MAX);
            bad(
                &format!("send.hops[{hop}].carrier"),
                format_args!("names {name:?}, which is no carrier it was offered"),
            )
        }
    }
}

/// The carrier of a hop, by its place among those that were offered.
pub(super) fn carrier_at(
    hop: usize,
    place: u32,
    carriers: &[CarrierView],
) -> Result<CarrierId, Bad> {
    let index = usize::try_from(place).unwrap_or(usize::MAX);
    match carriers.get(index) {
        Some(carrier) => Ok(carrier.id.clone()),
        None => bad(
            &format!("send.hops[{hop}].carrier"),
            format_args!("is {place}, and {} carriers were offered", carriers.len()),
        ),
    }
}

pub(super) fn tlvs(hop: usize, tlvs: Vec<(u16, Vec<u8>)>) -> Result<Vec<Tlv>, Bad> {
    let field = || format!("send.hops[{hop}].tlvs");
    if tlvs.len() > TLVS_MAX {
        return bad(&field(), format_args!("has more than {TLVS_MAX} entries"));
    }
    if let Some((tag, _)) = tlvs.iter().find(|(_, v)| v.len() > TLV_OCTETS_MAX) {
        return bad(
            &field(),
            format_args!("has tag {tag:#06x} with more than {TLV_OCTETS_MAX} octets"),
        );
    }
    Ok(tlvs
        .into_iter()
        .map(|(tag, value)| Tlv { tag, value })
        .collect())
}

/// A plugin that was shown a pseudonym cannot send it back: it is no number.
pub(super) fn originator(
    hop: usize,
    ton: TypeOfNumber,
    npi: NumberingPlan,
    value: String,
) -> Result<Address, Bad> {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    let fits = match ton {
        TypeOfNumber::International => digits && (7..=15).contains(&value.len()),
        TypeOfNumber::Alphanumeric => {
            (1..=11).contains(&value.len()) && value.bytes().all(|b| (0x20..0x7f).contains(&b))
        }
        TypeOfNumber::Unknown
        | TypeOfNumber::National
        | TypeOfNumber::NetworkSpecific
        | TypeOfNumber::Subscriber
        | TypeOfNumber::Abbreviated => digits && (1..=20).contains(&value.len()),
    };
    if !fits {
        return bad(
            &format!("send.hops[{hop}].originator"),
            "is no address: 7 to 15 digits (international), 1 to 11 printable ASCII (alphanumeric), else 1 to 20 digits",
        );
    }
    Ok(Address { ton, npi, value })
}

pub(super) fn text_body(field: &str, text: String) -> Result<Body, Bad> {
    if is_long(&text) {
        return bad(
            field,
            format_args!("has more than {TEXT_CHARS_MAX} characters (255 segments)"),
        );
    }
    Ok(Body::Text(text))
}

pub(super) fn binary_body(field: &str, udh: Vec<u8>, data: Vec<u8>) -> Result<Body, Bad> {
    if udh.len() > UDH_OCTETS_MAX {
        return bad(
            field,
            format_args!("has a user data header of more than {UDH_OCTETS_MAX} octets"),
        );
    }
    if data.len() > DATA_OCTETS_MAX {
        return bad(
            field,
            format_args!("has more than {DATA_OCTETS_MAX} octets (255 segments)"),
        );
    }
    Ok(Body::Binary { udh, data })
}

pub(super) fn withheld_body(field: &str) -> Result<Body, Bad> {
    bad(field, "is `withheld`; only the host withholds content")
}

pub(super) fn refusal(field: &str, code: String, why: String) -> Result<Refusal, Bad> {
    let fits = (1..=CODE_CHARS_MAX).contains(&code.len())
        && code
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && code.starts_with(|c: char| c.is_ascii_lowercase());
    if !fits {
        return bad(
            &format!("{field}.code"),
            format_args!("is not lower_snake_case of 1 to {CODE_CHARS_MAX} characters"),
        );
    }
    Ok(Refusal {
        code,
        reason: reason(why),
    })
}

/// Where a number lives, as an enrichment found out.
pub(super) fn network(
    country: Option<[char; 2]>,
    mcc: Option<u16>,
    mnc: Option<u16>,
    ported: bool,
) -> Result<Network, Bad> {
    let letter = |c: char| {
        u8::try_from(c)
            .ok()
            .filter(u8::is_ascii_uppercase)
            .ok_or(Bad(
                "network.country is not two upper-case letters (ISO 3166-1)".into(),
            ))
    };
    let country = match country {
        Some([first, second]) => Some([letter(first)?, letter(second)?]),
        None => None,
    };
    if mcc.is_some_and(|mcc| mcc == 0 || mcc > MCC_MAX) {
        return bad("network.mcc", format_args!("is not 1 to {MCC_MAX}"));
    }
    if mnc.is_some_and(|mnc| mnc > MNC_MAX) {
        return bad("network.mnc", format_args!("is not 0 to {MNC_MAX}"));
    }
    if mnc.is_some() && mcc.is_none() {
        return bad("network.mnc", "means nothing without an mcc");
    }
    Ok(Network {
        country,
        mcc,
        mnc,
        ported,
        source: NetworkSource::Plugin,
    })
}

pub(super) fn labels(labels: Vec<(String, String)>) -> Result<Vec<(String, String)>, Bad> {
    if labels.len() > LABELS_MAX {
        return bad(
            "labels",
            format_args!("has {} entries, more than {LABELS_MAX}", labels.len()),
        );
    }
    for (name, value) in &labels {
        let named = (1..=LABEL_NAME_CHARS_MAX).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        if !named {
            return bad(
                "labels",
                format_args!(
                    "has a name that is not 1 to {LABEL_NAME_CHARS_MAX} letters, digits, '_', '-' and '.'"
                ),
            );
        }
        if value.chars().count() > LABEL_VALUE_CHARS_MAX || value.chars().any(is_unprintable) {
            return bad(
                "labels",
                format_args!(
                    "has a value of {name} that is not at most {LABEL_VALUE_CHARS_MAX} printable characters"
                ),
            );
        }
    }
    Ok(labels)
}

pub(super) fn action_count(actions: usize) -> Result<(), Bad> {
    if actions > ACTIONS_MAX {
        return bad(
            "actions",
            format_args!("has {actions} entries, more than {ACTIONS_MAX}"),
        );
    }
    Ok(())
}

pub(super) fn reply(text: String) -> Result<String, Bad> {
    if text.is_empty() {
        return bad("reply", "is empty");
    }
    if is_long(&text) {
        return bad(
            "reply",
            format_args!("has more than {TEXT_CHARS_MAX} characters (255 segments)"),
        );
    }
    Ok(text)
}

/// What an inbound handler attaches to a stored message.
pub(super) fn inbound_label(label: String) -> String {
    shortened(label, LABEL_CHARS_MAX)
}

pub(super) fn carrier_ids(ids: Vec<String>) -> Result<Vec<String>, Bad> {
    if ids.is_empty() || ids.len() > CARRIER_IDS_MAX {
        return bad(
            "submit",
            format_args!(
                "answered {} message ids, not 1 to {CARRIER_IDS_MAX}",
                ids.len()
            ),
        );
    }
    for id in &ids {
        carrier_id("submit", id)?;
    }
    Ok(ids)
}

pub(super) fn carrier_id(field: &str, id: &str) -> Result<(), Bad> {
    if id.is_empty()
        || id.len() > CARRIER_ID_CHARS_MAX
        || !id.bytes().all(|b| (0x20..0x7f).contains(&b))
    {
        return bad(
            field,
            format_args!(
                "has a message id that is not 1 to {CARRIER_ID_CHARS_MAX} printable ASCII characters"
            ),
        );
    }
    Ok(())
}

pub(super) fn callback_response(r: HttpResponse) -> Result<HttpResponse, Bad> {
    if !(100..=599).contains(&r.status) {
        return bad(
            "response.status",
            format_args!("is {}, not 100 to 599", r.status),
        );
    }
    let headers_fit = r.headers.len() <= HEADERS_MAX
        && r.headers
            .iter()
            .all(|(n, v)| n.len() + v.len() <= HEADER_CHARS_MAX);
    if !headers_fit {
        return bad(
            "response.headers",
            format_args!("has more than {HEADERS_MAX} entries, or one of more than 8 KiB"),
        );
    }
    if r.body.len() > CALLBACK_BODY_MAX {
        return bad(
            "response.body",
            format_args!("has more than {CALLBACK_BODY_MAX} octets"),
        );
    }
    Ok(r)
}

pub(super) fn event_count(events: usize) -> Result<(), Bad> {
    if events > EVENTS_MAX {
        return bad("events", format_args!("has more than {EVENTS_MAX} entries"));
    }
    Ok(())
}

/// The `err` of a receipt that a carrier called back.
pub(super) fn event_error(error: String) -> String {
    shortened(error, EVENT_ERROR_CHARS_MAX)
}

/// A text that a carrier called back.
pub(super) fn event_inbound(originator: &str, recipient: &str, text: &str) -> Result<(), Bad> {
    if originator.len() > EVENT_ADDRESS_CHARS_MAX || recipient.len() > EVENT_ADDRESS_CHARS_MAX {
        return bad(
            "events.inbound",
            format_args!("has an address of more than {EVENT_ADDRESS_CHARS_MAX} characters"),
        );
    }
    if is_long(text) {
        return bad(
            "events.inbound.text",
            format_args!("has more than {TEXT_CHARS_MAX} characters"),
        );
    }
    Ok(())
}

fn is_long(text: &str) -> bool {
    text.len() > TEXT_CHARS_MAX && text.chars().count() > TEXT_CHARS_MAX
}

pub(super) fn reason(text: String) -> String {
    shortened(text, REASON_CHARS_MAX)
}

/// Whether no octet of it may belong to an unprintable character: what nearly all texts are, told without
/// taking them apart. The lead octets are those of U+061C, U+2000 to U+2FFF and U+F000 to U+FFFF.
fn is_plain(text: &str) -> bool {
    let mut before = 0;
    text.bytes().all(|octet| {
        let is_control = octet < 0x20 || octet == 0x7f || (before == 0xc2 && octet < 0xa0);
        before = octet;
        !is_control && !matches!(octet, 0xd8 | 0xe2 | 0xef)
    })
}

/// At most `chars` characters, without control characters: it will be shown to people.
fn shortened(text: String, chars: usize) -> String {
    if text.len() <= chars && is_plain(&text) {
        return text;
    }
    text.chars()
        .take(chars)
        .map(|c| if is_unprintable(c) { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_unprintable_character_looks_plain() {
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            let text = format!("ab{c}é");
            assert!(
                !(is_plain(&text) && is_unprintable(c)),
                "{:x}",
                u32::from(c)
            );
        }
        assert!(is_plain("cheapest of 3: north 4200µ, naïve"));
        assert!(!is_plain("\u{85}"));
    }

    #[test]
    fn what_is_shown_has_no_control_characters_and_is_short() {
        assert_eq!(shortened("a\r\nb\u{202e}–".into(), 10), "a  b –");
        assert_eq!(shortened("naïve".into(), 3), "naï");
    }
}
