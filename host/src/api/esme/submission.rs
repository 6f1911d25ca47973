//! From a submit_sm to a submission (SMPP 3.4, 4.4 and 5.2): every parameter read, checked and put into
//! the host's words, or refused with its own command_status. Pure; who asks and what becomes of it
//! is elsewhere.

use std::time::Duration;

use super::refusal::Refused;
use super::system::{DefaultAlphabet, System};
use crate::clock::Timestamp;
use crate::domain::address::AddressError;
use crate::domain::cut::cut_of;
use crate::domain::text::{self, Concat, TextError};
use crate::domain::{
    Address, Body, Cut, NumberingPlan, OnUnknown, ReceiptsWanted, SmParameters, Source, Tlv,
    TypeOfNumber,
};
use crate::pipeline::{Limits, Submission};
use crate::smpp::pdu::{Sm, Tlvs, esm_class, tag};
use crate::smpp::status;
use crate::smpp::time::{self, SmppTime};

/// Optional parameters of one message, and the octets of all their values.
const TLVS_MAX: usize = 64;
const TLV_OCTETS_MAX: usize = 4_096;
/// SMPP 3.4, 5.2.11.
const SERVICE_TYPE_MAX: usize = 5;
/// SMPP 3.4, 5.2.14.
const PRIORITY_MAX: u8 = 3;
/// 3GPP TS 23.040, 9.1.2.5.
const ALPHANUMERIC_MAX: usize = 11;
const MODE_MASK: u8 = 0b11;
pub const MODE_DATAGRAM: u8 = 1;
pub const MODE_FORWARD: u8 = 2;
const REPLY_PATH: u8 = 0x80;
const MESSAGE_WAITING: std::ops::RangeInclusive<u8> = 0xC0..=0xEF;
/// The octets of data_coding that are Latin-1 (SMPP 3.4, 5.2.19).
const DATA_CODING_LATIN1: u8 = 3;

/// How the account's numbers are read: by the numbering plan, in its region.
pub type ReadNumber<'a> = &'a dyn Fn(&str) -> Result<Address, AddressError>;

/// Reads what a client submits. `now` is when the PDU came.
pub fn submission(
    sm: &Sm<'_>,
    system: &System,
    limits: &Limits,
    now: Timestamp,
    read: ReadNumber<'_>,
) -> Result<Submission, Refused> {
    let recipient = recipient(sm.dest_addr_ton, sm.destination_addr, read)?;
    let originator = originator(sm, system)?;
    let parameters = parameters(sm)?;
    let (body, data_coding, cut) = body(sm, system)?;
    let send_at = schedule(sm.schedule_delivery_time, now)?;
    let validity = validity(sm, send_at.unwrap_or(now), now, limits)?;
    let message_class = message_class(data_coding);
    let raw = matches!(body, Body::Binary { .. }) && cut.is_none();
    Ok(Submission {
        originator,
        recipient,
        class: system.spec.class,
        send_at,
        validity_seconds: validity,
        receipt_url: None,
        reference: String::new(),
        metadata: Vec::new(),
        tlvs: kept_tlvs(sm.tlvs, system)?,
        on_unknown: match parameters.messaging_mode {
            MODE_DATAGRAM => OnUnknown::Fail,
            _ => OnUnknown::Resend,
        },
        sm: SmParameters {
            data_coding: raw.then_some(data_coding),
            message_class,
            cut: cut.map(Box::new),
            ..parameters
        },
        source: Source::Smpp {
            system_id: system.spec.system_id.clone(),
        },
        body,
    })
}

/// Everything of submit_sm that is neither an address, nor a time, nor the message.
fn parameters(sm: &Sm<'_>) -> Result<SmParameters, Refused> {
    if sm.service_type.len() > SERVICE_TYPE_MAX || !sm.service_type.is_ascii() {
        return Err(Refused::new(
            status::ESME_RINVSERTYP,
            format!("service_type has at most {SERVICE_TYPE_MAX} ASCII characters"),
        ));
    }
    if sm.esm_class & esm_class::TYPE_MASK != 0 {
        // Receipts and acknowledgements come from SMSCs and handsets, not from clients.
        return Err(Refused::new(
            status::ESME_RINVESMCLASS,
            "esm_class names a message type that a client does not submit",
        ));
    }
    if sm.priority_flag > PRIORITY_MAX {
        return Err(Refused::new(
            status::ESME_RINVPRTFLG,
            format!("priority_flag is 0 to {PRIORITY_MAX}"),
        ));
    }
    if sm.registered_delivery & 0xE0 != 0 {
        return Err(Refused::new(
            status::ESME_RINVREGDLVFLG,
            "registered_delivery has bits set that are reserved",
        ));
    }
    if sm.replace_if_present_flag > 1 {
        return Err(Refused::new(
            status::ESME_RINVREPFLAG,
            "replace_if_present_flag is 0 or 1",
        ));
    }
    Ok(SmParameters {
        service_type: String::from_utf8_lossy(sm.service_type).into_owned(),
        protocol_id: Some(sm.protocol_id).filter(|id| *id != 0),
        priority_flag: Some(sm.priority_flag).filter(|flag| *flag != 0),
        replace_if_present: sm.replace_if_present_flag == 1,
        sm_default_msg_id: 0,
        reply_path: sm.esm_class & REPLY_PATH != 0,
        messaging_mode: sm.esm_class & MODE_MASK,
        receipts: ReceiptsWanted::from_registered_delivery(sm.registered_delivery),
        ..SmParameters::default()
    })
}

/// The message, under which data_coding, and as which part of a longer one.
fn body(sm: &Sm<'_>, system: &System) -> Result<(Body, u8, Option<Cut>), Refused> {
    let payload = sm.tlvs.get(tag::MESSAGE_PAYLOAD);
    let octets = match (sm.short_message, payload) {
        ([], Some(payload)) => payload,
        (short_message, None) => short_message,
        (_, Some([])) => sm.short_message,
        (_, Some(_)) => {
            return Err(Refused::new(
                status::ESME_ROPTPARNOTALLWD,
                "short_message and message_payload are not both given (SMPP 3.4, 3.2.3)",
            ));
        }
    };
    // Of both, the message counts (SMPP 3.4, 5.2.20).
    if octets.is_empty() && sm.sm_default_msg_id != 0 {
        let text = system.spec.default_messages.get(&sm.sm_default_msg_id);
        let text = text.ok_or_else(|| {
            Refused::new(
                status::ESME_RINVDFTMSGID,
                "no message is configured under this sm_default_msg_id",
            )
        })?;
        return Ok((Body::Text(text.clone()), 0, None));
    }
    let data_coding = match (sm.data_coding, system.spec.default_alphabet) {
        (0, DefaultAlphabet::Latin1) => DATA_CODING_LATIN1,
        (data_coding, _) => data_coding,
    };
    if let Some(cut) = cut(sm, data_coding, octets)? {
        return Ok((shown(&cut), data_coding, Some(cut)));
    }
    if octets.is_empty() {
        return Err(Refused::new(
            status::ESME_RINVMSGLEN,
            "has neither short_message nor message_payload",
        ));
    }
    if !sm.has_udh() {
        let body = text::decode_payload(data_coding, octets);
        // Message waiting (3GPP TS 23.038, 4): the octet says more than a character set.
        let keep = MESSAGE_WAITING.contains(&data_coding) && matches!(body, Body::Text(_));
        let cut = keep.then(|| Cut {
            udh: Vec::new(),
            data_coding,
            octets: octets.to_vec(),
        });
        return Ok((body, data_coding, cut));
    }
    // A header without concatenation: ports and the like make it a program's message.
    let cut = cut_of(data_coding, octets).map_err(bad_header)?;
    let body = match text::decode_payload(data_coding, &cut.octets) {
        Body::Text(_) if !cut.udh.is_empty() => return Ok((shown(&cut), data_coding, Some(cut))),
        Body::Text(text) => Body::Text(text),
        Body::Binary { data, .. } => Body::Binary { udh: cut.udh, data },
    };
    Ok((body, data_coding, None))
}

/// The part of a longer message that this is, if it is one.
fn cut(sm: &Sm<'_>, data_coding: u8, octets: &[u8]) -> Result<Option<Cut>, Refused> {
    if sm.has_udh() {
        let cut = cut_of(data_coding, octets).map_err(bad_header)?;
        return Ok(cut.concat().is_some_and(|c| c.total > 1).then_some(cut));
    }
    Ok(sar(sm.tlvs)?.map(|concat| Cut {
        udh: Cut::header(concat),
        data_coding,
        octets: octets.to_vec(),
    }))
}

fn bad_header(error: TextError) -> Refused {
    Refused::new(status::ESME_RINVESMCLASS, error.to_string())
}

/// What policy is shown of a part: its text where it is one.
fn shown(cut: &Cut) -> Body {
    match text::decode_payload(cut.data_coding, &cut.octets) {
        text @ Body::Text(_) => text,
        Body::Binary { data, .. } => Body::Binary {
            udh: cut.udh.clone(),
            data,
        },
    }
}

/// sar_msg_ref_num, sar_total_segments and sar_segment_seqnum (SMPP 3.4, 5.3.2.22 to 5.3.2.24): all
/// three or none.
fn sar(tlvs: Tlvs<'_>) -> Result<Option<Concat>, Refused> {
    let parameter = |tag| tlvs.integer(tag);
    let all = (
        parameter(tag::SAR_MSG_REF_NUM),
        parameter(tag::SAR_TOTAL_SEGMENTS),
        parameter(tag::SAR_SEGMENT_SEQNUM),
    );
    let (reference, total, index) = match all {
        (None, None, None) => return Ok(None),
        (Some(reference), Some(total), Some(index)) => (reference, total, index),
        _ => {
            return Err(Refused::new(
                status::ESME_RMISSINGOPTPARAM,
                "sar_msg_ref_num, sar_total_segments and sar_segment_seqnum come together",
            ));
        }
    };
    let small = |n: u32| u8::try_from(n).ok();
    let concat = u16::try_from(reference)
        .ok()
        .zip(small(total).zip(small(index)))
        .and_then(|(reference, (total, index))| Concat::new(reference, total, index).ok());
    match concat {
        None => Err(Refused::new(
            status::ESME_RINVOPTPARAMVAL,
            "sar_segment_seqnum is 1 to sar_total_segments",
        )),
        Some(concat) => Ok(Some(concat).filter(|c| c.total > 1)),
    }
}

/// 3GPP TS 23.038, 4: the class within a data coding scheme that has one. Values of SMPP 3.4 that
/// read the same (0x10 to 0x1F are reserved there) are sent by peers that mean the handset's.
fn message_class(data_coding: u8) -> Option<u8> {
    match data_coding {
        0x10..=0x1F | 0xF0..=0xFF => Some(data_coding & 3),
        _ => None,
    }
}

/// Empty and past times mean at once: clients' clocks differ.
fn schedule(text: &[u8], now: Timestamp) -> Result<Option<Timestamp>, Refused> {
    let time = time::parse(text).map_err(|_| {
        Refused::new(
            status::ESME_RINVSCHED,
            "schedule_delivery_time is no time (SMPP 3.4, 7.1.1)",
        )
    })?;
    Ok(time.resolve(now).filter(|at| *at > now))
}

/// Seconds from `send_at` on. A relative validity counts from the submission (SMPP 3.4, 5.2.16), as an
/// absolute one does by nature; beyond the most that is allowed it is the most.
fn validity(
    sm: &Sm<'_>,
    send_at: Timestamp,
    now: Timestamp,
    limits: &Limits,
) -> Result<Option<u64>, Refused> {
    let bad = |why: &str| Refused::new(status::ESME_RINVEXPIRY, why);
    let ends = match time::parse(sm.validity_period) {
        Err(_) => return Err(bad("validity_period is no time (SMPP 3.4, 7.1.1)")),
        Ok(SmppTime::Default) => match sm.tlvs.integer(tag::QOS_TIME_TO_LIVE) {
            None | Some(0) => return Ok(None),
            Some(seconds) => now.plus(Duration::from_secs(seconds.into())),
        },
        Ok(SmppTime::Relative(after)) => now.plus(after),
        Ok(SmppTime::Absolute(at)) => at,
    };
    let seconds = ends.since(send_at).as_millis().div_ceil(1000);
    match u64::try_from(seconds).unwrap_or(u64::MAX) {
        0 => Err(bad("validity_period ends before the message would be sent")),
        seconds => Ok(Some(seconds.min(limits.max_validity_seconds))),
    }
}

/// Where the message goes. What its sender calls international is; all else is read as it is dialled
/// in the account's region.
pub fn recipient(ton: u8, value: &[u8], read: ReadNumber<'_>) -> Result<Address, Refused> {
    let bad = |why: String| Refused::new(status::ESME_RINVDSTADR, why);
    if ton > TypeOfNumber::Abbreviated as u8 || ton == TypeOfNumber::Alphanumeric as u8 {
        return Err(Refused::new(
            status::ESME_RINVDSTTON,
            "dest_addr_ton is none that a recipient can have",
        ));
    }
    let text = std::str::from_utf8(value).map_err(|_| bad("is no number".to_owned()))?;
    let digits = text.strip_prefix('+').unwrap_or(text);
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad(
            "destination_addr has other characters than digits".to_owned()
        ));
    }
    let number = match ton == TypeOfNumber::International as u8 {
        true => read(&format!("+{digits}")),
        false => read(text),
    };
    number.map_err(|error| bad(format!("destination_addr {error}")))
}

/// Who it is from: what the client says, within what it may say, or what is configured for it.
fn originator(sm: &Sm<'_>, system: &System) -> Result<Address, Refused> {
    let bad = |why: String| Refused::new(status::ESME_RINVSRCADR, why);
    let given = match sm.source_addr {
        [] => system
            .spec
            .originator
            .clone()
            .ok_or_else(|| bad("source_addr is empty and none is configured".to_owned()))?,
        value => source(sm.source_addr_ton, sm.source_addr_npi, value)?,
    };
    let allowed = &system.spec.originators;
    if !allowed.is_empty() && !allowed.contains(&given.value) {
        return Err(bad("this originator is not one of the account's".to_owned()));
    }
    Ok(given)
}

/// A source address as its type of number has it (SMPP 3.4, 5.2.5).
pub fn source(ton: u8, npi: u8, value: &[u8]) -> Result<Address, Refused> {
    let bad = |why: String| Refused::new(status::ESME_RINVSRCADR, why);
    if ton > TypeOfNumber::Abbreviated as u8 {
        return Err(Refused::new(
            status::ESME_RINVSRCTON,
            "source_addr_ton is reserved",
        ));
    }
    let text = std::str::from_utf8(value).map_err(|_| bad("is no address".to_owned()))?;
    let kind = TypeOfNumber::from_u8(ton);
    let parsed = match kind {
        TypeOfNumber::International => Address::international(text),
        TypeOfNumber::Unknown | TypeOfNumber::Alphanumeric | TypeOfNumber::Abbreviated => {
            Address::originator(text)
        }
        TypeOfNumber::National | TypeOfNumber::NetworkSpecific | TypeOfNumber::Subscriber => {
            let digits = !text.is_empty() && text.len() <= 20;
            if !digits || !text.bytes().all(|b| b.is_ascii_digit()) {
                return Err(bad(
                    "source_addr has other characters than 1 to 20 digits".to_owned()
                ));
            }
            Ok(Address {
                ton: kind,
                npi: NumberingPlan::from_u8(npi),
                value: text.to_owned(),
            })
        }
    };
    let mut address = parsed.map_err(|error| bad(format!("source_addr {error}")))?;
    match kind {
        TypeOfNumber::Abbreviated if !address.value.bytes().all(|b| b.is_ascii_digit()) => {
            return Err(bad(
                "source_addr is a short code and has no digits".to_owned()
            ));
        }
        TypeOfNumber::Alphanumeric if text.len() > ALPHANUMERIC_MAX => {
            return Err(bad(format!(
                "source_addr has more than {ALPHANUMERIC_MAX} characters"
            )));
        }
        _ => {}
    }
    // What the client says of its own address holds, where it says anything.
    if kind != TypeOfNumber::Unknown && kind != TypeOfNumber::International {
        address.ton = kind;
        address.npi = NumberingPlan::from_u8(npi);
    }
    Ok(address)
}

/// Sizes of the parameters that have one (SMPP 3.4, 5.3.2).
const SIZES: [(u16, usize); 19] = [
    (tag::DEST_ADDR_SUBUNIT, 1),
    (tag::SOURCE_ADDR_SUBUNIT, 1),
    (tag::PAYLOAD_TYPE, 1),
    (tag::PRIVACY_INDICATOR, 1),
    (tag::USER_MESSAGE_REFERENCE, 2),
    (tag::USER_RESPONSE_CODE, 1),
    (tag::SOURCE_PORT, 2),
    (tag::DESTINATION_PORT, 2),
    (tag::LANGUAGE_INDICATOR, 1),
    (tag::CALLBACK_NUM_PRES_IND, 1),
    (tag::NUMBER_OF_MESSAGES, 1),
    (tag::MORE_MESSAGES_TO_SEND, 1),
    (tag::SET_DPF, 1),
    (tag::DISPLAY_TIME, 1),
    (tag::SMS_SIGNAL, 2),
    (tag::MS_VALIDITY, 1),
    (tag::MS_MSG_WAIT_FACILITIES, 1),
    (tag::ITS_REPLY_TYPE, 1),
    (tag::ITS_SESSION_INFO, 2),
];

/// The parameters that go on to the carrier: all but those that are read here.
fn kept_tlvs(tlvs: Tlvs<'_>, system: &System) -> Result<Vec<Tlv>, Refused> {
    let mut kept: Vec<Tlv> = Vec::new();
    let mut octets = 0;
    for tlv in tlvs {
        let size = SIZES.iter().find(|(tag, _)| *tag == tlv.tag);
        if let Some((_, size)) = size
            && tlv.value.len() != *size
        {
            return Err(Refused::new(
                status::ESME_RINVPARLEN,
                format!("parameter {:#06x} has {size} octets", tlv.tag),
            ));
        }
        let read_here = matches!(
            tlv.tag,
            tag::MESSAGE_PAYLOAD
                | tag::SAR_MSG_REF_NUM
                | tag::SAR_TOTAL_SEGMENTS
                | tag::SAR_SEGMENT_SEQNUM
                | tag::QOS_TIME_TO_LIVE
        ) || Some(tlv.tag) == system.spec.idempotency_tag;
        // Of one that comes twice the first counts, as everywhere.
        if read_here || kept.iter().any(|k| k.tag == tlv.tag) {
            continue;
        }
        octets += tlv.value.len();
        if kept.len() == TLVS_MAX || octets > TLV_OCTETS_MAX {
            return Err(Refused::new(
                status::ESME_RINVOPTPARSTREAM,
                format!("at most {TLVS_MAX} parameters of {TLV_OCTETS_MAX} octets together"),
            ));
        }
        kept.push(Tlv {
            tag: tlv.tag,
            value: tlv.value.to_vec(),
        });
    }
    Ok(kept)
}

#[cfg(test)]
#[path = "submission_tests.rs"]
mod tests;
