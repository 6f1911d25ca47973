//! A plugin's answers, WIT 0.1, raised to domain values: every field bounded, every bad one named.

use std::fmt;

use super::super::host_calls::is_unprintable;
use super::super::load::Manifest;
use super::super::{
    AdapterEvent, AdapterState, CallbackAnswer, CarrierView, HttpResponse, SubmitError,
};
use super::Bad;
use super::bindings::exports::heliograph::sms as guest;
use super::bindings::heliograph::sms::types;
use crate::clock::Timestamp;
use crate::domain::{
    Address, Body, Hop, InboundAction, NumberingPlan, Plan, Refusal, Routing, Ruling, Tlv,
    TypeOfNumber, Verdict, WishScope,
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
const HEADERS_MAX: usize = 64;
const HEADER_CHARS_MAX: usize = 8 << 10;
const CALLBACK_BODY_MAX: usize = 256 << 10;
const MANIFEST_NAME_CHARS_MAX: usize = 64;
const MANIFEST_SUMMARY_CHARS_MAX: usize = 256;
const CONFIG_SCHEMA_BYTES_MAX: usize = 256 << 10;

fn bad<T>(field: &str, rule: impl fmt::Display) -> Result<T, Bad> {
    Err(Bad(format!("{field} {rule}")))
}

pub(super) fn manifest(m: guest::plugin::Manifest) -> Result<Manifest, Bad> {
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
    let version_ok = m.version.len() <= 64
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
        name: m.name,
        version: m.version,
        summary: shortened(m.summary, MANIFEST_SUMMARY_CHARS_MAX),
        config_schema: m.config_schema,
    })
}

pub(super) fn verdict(answer: guest::content_filter::Verdict) -> Result<Verdict, Bad> {
    use guest::content_filter::Verdict as W;
    Ok(match answer {
        W::Pass => Verdict::Pass,
        W::Replace(r) => Verdict::Replace {
            body: body("replace.body", r.body)?,
            reason: reason(r.reason),
        },
        W::Refuse(r) => Verdict::Refuse(refusal("refuse", r)?),
        W::Hold(why) => Verdict::Hold(reason(why)),
        W::Drop(why) => Verdict::Drop(reason(why)),
    })
}

pub(super) fn ruling(answer: guest::compliance_check::Ruling) -> Result<Ruling, Bad> {
    use guest::compliance_check::Ruling as W;
    Ok(match answer {
        W::Allow => Ruling::Allow,
        W::Amend(a) => Ruling::Amend {
            body: body("amend.body", a.body)?,
            reason: reason(a.reason),
        },
        W::Defer(d) => Ruling::Defer {
            until: Timestamp(d.until),
            reason: reason(d.reason),
        },
        W::Deny(r) => Ruling::Deny(refusal("deny", r)?),
    })
}

pub(super) fn routing(
    answer: guest::routing_policy::Routing,
    carriers: &[CarrierView],
) -> Result<Routing, Bad> {
    use guest::routing_policy::Routing as W;
    Ok(match answer {
        W::Pass => Routing::Pass,
        W::Defer(p) => Routing::Defer {
            until: Timestamp(p.until),
            reason: reason(p.reason),
        },
        W::Refuse(r) => Routing::Refuse(refusal("refuse", r)?),
        W::Send(plan) => {
            if plan.hops.is_empty() || plan.hops.len() > HOPS_MAX {
                return bad(
                    "send.hops",
                    format_args!("has {} hops, not 1 to {HOPS_MAX}", plan.hops.len()),
                );
            }
            let hops = plan
                .hops
                .into_iter()
                .enumerate()
                .map(|(i, h)| hop(i, h, carriers));
            Routing::Send(Plan {
                hops: hops.collect::<Result<_, _>>()?,
                reason: reason(plan.reason),
            })
        }
    })
}

fn hop(
    index: usize,
    hop: guest::routing_policy::Hop,
    carriers: &[CarrierView],
) -> Result<Hop, Bad> {
    let Some(carrier) = carriers.iter().find(|c| c.id.as_str() == hop.carrier) else {
        let name = shortened(hop.carrier, CARRIER_ID_CHARS_MAX);
        return bad(
            &format!("send.hops[{index}].carrier"),
            format_args!("names {name:?}, which is no carrier it was offered"),
        );
    };
    if hop.tlvs.len() > TLVS_MAX {
        return bad(
            &format!("send.hops[{index}].tlvs"),
            format_args!("has more than {TLVS_MAX} entries"),
        );
    }
    let mut tlvs = Vec::with_capacity(hop.tlvs.len());
    for tlv in hop.tlvs {
        if tlv.value.len() > TLV_OCTETS_MAX {
            return bad(
                &format!("send.hops[{index}].tlvs"),
                format_args!(
                    "has tag {:#06x} with more than {TLV_OCTETS_MAX} octets",
                    tlv.tag
                ),
            );
        }
        tlvs.push(Tlv {
            tag: tlv.tag,
            value: tlv.value,
        });
    }
    Ok(Hop {
        carrier: carrier.id.clone(),
        originator: hop
            .originator
            .map(|a| address(&format!("send.hops[{index}].originator"), a))
            .transpose()?,
        price_micros: hop.price_micros,
        tlvs,
    })
}

/// A plugin that was shown a pseudonym cannot send it back: it is no number.
fn address(field: &str, a: types::AddressResult) -> Result<Address, Bad> {
    let ton = match a.ton {
        types::TypeOfNumber::Unknown => TypeOfNumber::Unknown,
        types::TypeOfNumber::International => TypeOfNumber::International,
        types::TypeOfNumber::National => TypeOfNumber::National,
        types::TypeOfNumber::NetworkSpecific => TypeOfNumber::NetworkSpecific,
        types::TypeOfNumber::Subscriber => TypeOfNumber::Subscriber,
        types::TypeOfNumber::Alphanumeric => TypeOfNumber::Alphanumeric,
        types::TypeOfNumber::Abbreviated => TypeOfNumber::Abbreviated,
    };
    let npi = match a.npi {
        types::NumberingPlan::Unknown => NumberingPlan::Unknown,
        types::NumberingPlan::Isdn => NumberingPlan::Isdn,
        types::NumberingPlan::Data => NumberingPlan::Data,
        types::NumberingPlan::Telex => NumberingPlan::Telex,
        types::NumberingPlan::LandMobile => NumberingPlan::LandMobile,
        types::NumberingPlan::National => NumberingPlan::National,
        types::NumberingPlan::Private => NumberingPlan::Private,
        types::NumberingPlan::Ermes => NumberingPlan::Ermes,
        types::NumberingPlan::Internet => NumberingPlan::Internet,
        types::NumberingPlan::Wap => NumberingPlan::Wap,
    };
    let digits = a.value.bytes().all(|b| b.is_ascii_digit());
    let fits = match ton {
        TypeOfNumber::International => digits && (7..=15).contains(&a.value.len()),
        TypeOfNumber::Alphanumeric => {
            (1..=11).contains(&a.value.len()) && a.value.bytes().all(|b| (0x20..0x7f).contains(&b))
        }
        TypeOfNumber::Unknown
        | TypeOfNumber::National
        | TypeOfNumber::NetworkSpecific
        | TypeOfNumber::Subscriber
        | TypeOfNumber::Abbreviated => digits && (1..=20).contains(&a.value.len()),
    };
    if !fits {
        return bad(
            field,
            "is no address: 7 to 15 digits (international), 1 to 11 printable ASCII (alphanumeric), else 1 to 20 digits",
        );
    }
    Ok(Address {
        ton,
        npi,
        value: a.value,
    })
}

fn body(field: &str, body: types::BodyResult) -> Result<Body, Bad> {
    match body {
        types::BodyResult::Text(text) => {
            if text.len() > TEXT_CHARS_MAX && text.chars().count() > TEXT_CHARS_MAX {
                return bad(
                    field,
                    format_args!("has more than {TEXT_CHARS_MAX} characters (255 segments)"),
                );
            }
            Ok(Body::Text(text))
        }
        types::BodyResult::Binary(octets) => {
            if octets.user_data_header.len() > UDH_OCTETS_MAX {
                return bad(
                    field,
                    format_args!("has a user data header of more than {UDH_OCTETS_MAX} octets"),
                );
            }
            if octets.data.len() > DATA_OCTETS_MAX {
                return bad(
                    field,
                    format_args!("has more than {DATA_OCTETS_MAX} octets (255 segments)"),
                );
            }
            Ok(Body::Binary {
                udh: octets.user_data_header,
                data: octets.data,
            })
        }
        types::BodyResult::Withheld(_) => {
            bad(field, "is `withheld`; only the host withholds content")
        }
    }
}

fn refusal(field: &str, refusal: types::Refusal) -> Result<Refusal, Bad> {
    let code = &refusal.code;
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
        code: refusal.code,
        reason: reason(refusal.reason),
    })
}

pub(super) fn actions(
    answer: Vec<guest::inbound_handler::Action>,
) -> Result<Vec<InboundAction>, Bad> {
    use guest::inbound_handler::{Action as W, Scope};
    if answer.len() > ACTIONS_MAX {
        return bad(
            "actions",
            format_args!("has {} entries, more than {ACTIONS_MAX}", answer.len()),
        );
    }
    let scope = |s| match s {
        Scope::Number => WishScope::Number,
        Scope::Account => WishScope::Account,
        Scope::Everything => WishScope::Everything,
    };
    answer
        .into_iter()
        .map(|action| {
            Ok(match action {
                W::Reply(text) if text.chars().count() > TEXT_CHARS_MAX => {
                    return bad(
                        "reply",
                        format_args!("has more than {TEXT_CHARS_MAX} characters (255 segments)"),
                    );
                }
                W::Reply(text) if text.is_empty() => return bad("reply", "is empty"),
                W::Reply(text) => InboundAction::Reply(text),
                W::OptOut(s) => InboundAction::OptOut(scope(s)),
                W::OptIn(s) => InboundAction::OptIn(scope(s)),
                W::Label(label) => InboundAction::Label(shortened(label, LABEL_CHARS_MAX)),
                W::Consume => InboundAction::Consume,
            })
        })
        .collect()
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

fn carrier_id(field: &str, id: &str) -> Result<(), Bad> {
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

pub(super) fn submit_error(error: guest::carrier_adapter::SubmitError) -> SubmitError {
    use guest::carrier_adapter::SubmitError as W;
    match error {
        W::Throttled(wait_ms) => SubmitError::Throttled(wait_ms),
        W::Temporary(why) => SubmitError::Temporary(reason(why)),
        W::Permanent(why) => SubmitError::Permanent(reason(why)),
        W::Unknown(why) => SubmitError::Unknown(reason(why)),
    }
}

pub(super) fn callback_answer(
    answer: guest::carrier_adapter::CallbackAnswer,
) -> Result<CallbackAnswer, Bad> {
    let r = answer.response;
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
    if answer.events.len() > EVENTS_MAX {
        return bad("events", format_args!("has more than {EVENTS_MAX} entries"));
    }
    Ok(CallbackAnswer {
        response: HttpResponse {
            status: r.status,
            headers: r.headers,
            body: r.body,
        },
        events: answer
            .events
            .into_iter()
            .map(event)
            .collect::<Result<_, _>>()?,
    })
}

fn event(event: guest::carrier_adapter::Event) -> Result<AdapterEvent, Bad> {
    use guest::carrier_adapter::{Event as W, MessageState as S};
    Ok(match event {
        W::Receipt(r) => {
            carrier_id("events.receipt", &r.carrier_message_id)?;
            AdapterEvent::Receipt {
                carrier_message_id: r.carrier_message_id,
                state: match r.state {
                    S::Enroute => AdapterState::Enroute,
                    S::Delivered => AdapterState::Delivered,
                    S::Expired => AdapterState::Expired,
                    S::Deleted => AdapterState::Deleted,
                    S::Undeliverable => AdapterState::Undeliverable,
                    S::Accepted => AdapterState::Accepted,
                    S::Unknown => AdapterState::Unknown,
                    S::Rejected => AdapterState::Rejected,
                },
                error: r.error.map(|e| shortened(e, 64)),
                at: r.at.map(Timestamp),
            }
        }
        W::Inbound(m) => {
            if m.originator.len() > 21 || m.recipient.len() > 21 {
                return bad(
                    "events.inbound",
                    "has an address of more than 21 characters",
                );
            }
            if m.text.chars().count() > TEXT_CHARS_MAX {
                return bad(
                    "events.inbound.text",
                    format_args!("has more than {TEXT_CHARS_MAX} characters"),
                );
            }
            AdapterEvent::Inbound {
                originator: m.originator,
                recipient: m.recipient,
                text: m.text,
                at: m.at.map(Timestamp),
            }
        }
    })
}

fn reason(text: String) -> String {
    shortened(text, REASON_CHARS_MAX)
}

/// At most `chars` characters, without control characters: it will be shown to people.
pub(super) fn shortened(text: String, chars: usize) -> String {
    if text.len() <= chars && !text.chars().any(is_unprintable) {
        return text;
    }
    text.chars()
        .take(chars)
        .map(|c| if is_unprintable(c) { ' ' } else { c })
        .collect()
}
