//! Writes what the simulated SMSC sends to an ESME by itself: delivery receipts (SMPP 3.4, Appendix
//! B and 5.2.12) and mobile-originated messages. Yields whole deliver_sm PDUs whose sequence_number
//! is set when they are sent; when and to whom is decided elsewhere.

use std::fmt;

use serde::Deserialize;

use super::behaviour::write_id;
use super::record::parts_of;
use super::settings::{FinalState, MessageState, ReceiptShape, Settings};
use crate::clock::Timestamp;
use crate::domain::message::Body;
use crate::domain::text::{self, Alphabet, gsm};
use crate::smpp::pdu::{self, EncodeError, Pdu, Sm, TlvBuf, encode, esm_class, tag};
use crate::smpp::time;

/// data_coding of the SMSC default alphabet, IA5, Latin-1, binary and UCS-2 (SMPP 3.4, 5.2.19).
const DEFAULT_ALPHABET: u8 = 0;
const IA5: u8 = 1;
const LATIN_1: u8 = 3;
const OCTETS: u8 = 4;
const UCS_2: u8 = 8;
/// Characters of the message that a receipt repeats (SMPP 3.4, Appendix B).
const RECEIPT_TEXT_MAX: usize = 20;

/// A mobile-originated message to inject.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mo {
    /// The handset.
    pub from: String,
    /// The service's number.
    pub to: String,
    pub text: String,
    /// Content as hexadecimal octets instead of `text`, sent as it is in one deliver_sm.
    pub short_message: String,
    /// Default: 0 where the GSM alphabet holds the text, else 8 (UCS-2).
    pub data_coding: Option<u8>,
    /// Added to what the message needs: 0x40 for a header in `short_message`.
    pub esm_class: u8,
    pub multipart: Multipart,
    /// Concatenation reference.
    pub reference: u8,
    /// Who gets it; default: the ESME that bound first.
    pub system_id: Option<String>,
}

/// How a text that is too long for one deliver_sm travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Multipart {
    /// Several, tied by user data headers.
    #[default]
    Udh,
    /// Several, tied by sar_msg_ref_num, sar_total_segments and sar_segment_seqnum.
    Sar,
    /// One, in message_payload.
    Payload,
}

/// Why a message cannot be injected. The caller's fault; trying again helps only with `NoReceiver`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoError {
    /// The field and what is wrong with it.
    Field(&'static str, String),
    /// No ESME has bound yet and none is named.
    NoReceiver,
    /// As many deliver_sm wait as may.
    Full,
}

impl fmt::Display for MoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MoError::Field(field, rule) => write!(f, "{field} {rule}"),
            MoError::NoReceiver => {
                write!(f, "no ESME has bound yet; bind one, or name its system_id")
            }
            MoError::Full => write!(
                f,
                "as many deliver_sm wait as pending_max allows; bind a receiver"
            ),
        }
    }
}

impl std::error::Error for MoError {}

/// When a message came and when its fate was sealed.
#[derive(Clone, Copy, Debug)]
pub struct Dates {
    pub submitted: Timestamp,
    pub done: Timestamp,
}

/// Buffers used again and again, so that a receipt costs one allocation.
#[derive(Default)]
pub struct Scratch {
    text: Vec<u8>,
    pub id: Vec<u8>,
    tlvs: TlvBuf,
    pdu: Vec<u8>,
}

/// The receipt of `sm`, which was taken as `id`. None where `sm`'s own addresses are longer than a
/// deliver_sm can hold.
pub fn receipt(
    scratch: &mut Scratch,
    settings: &Settings,
    sm: &Sm<'_>,
    id: u64,
    end: FinalState,
    dates: Dates,
) -> Option<Box<[u8]>> {
    let Scratch {
        text,
        id: id_text,
        tlvs,
        pdu,
    } = scratch;
    text.clear();
    id_text.clear();
    tlvs.clear();
    write_id(id_text, id, settings.id_receipt, settings.id_receipt_width);
    let (with_text, with_tlvs) = match settings.receipt_shape {
        ReceiptShape::Text => (true, false),
        ReceiptShape::Tlv => (false, true),
        ReceiptShape::Both => (true, true),
    };
    if with_text {
        write_text(text, id_text, sm, end, dates);
    }
    if with_tlvs {
        id_text.push(0);
        tlvs.push(tag::RECEIPTED_MESSAGE_ID, id_text).ok()?;
        tlvs.push(tag::MESSAGE_STATE, &[end.state as u8]).ok()?;
        if let Some(code) = network_error_code(end.error) {
            tlvs.push(tag::NETWORK_ERROR_CODE, &code).ok()?;
        }
    }
    let receipt = Sm {
        source_addr_ton: sm.dest_addr_ton,
        source_addr_npi: sm.dest_addr_npi,
        source_addr: sm.destination_addr,
        dest_addr_ton: sm.source_addr_ton,
        dest_addr_npi: sm.source_addr_npi,
        destination_addr: sm.source_addr,
        esm_class: esm_class::DELIVERY_RECEIPT,
        short_message: text,
        tlvs: tlvs.as_tlvs(),
        ..Sm::default()
    };
    pdu.clear();
    encode(&Pdu::request(0, pdu::Body::DeliverSm(receipt)), pdu).ok()?;
    Some(pdu.as_slice().into())
}

/// Makes a receipt that was written already say DELETED, in its text and in message_state.
pub fn say_deleted(pdu: &mut [u8]) {
    // All words of a state have seven letters, so nothing moves (SMPP 3.4, Appendix B).
    let patches: [(&[u8], &[u8]); 3] = [
        (b" stat:", MessageState::Deleted.stat().as_bytes()),
        (b" dlvrd:", b"000"),
        // message_state, one octet long (SMPP 3.4, 5.3.2.35).
        (&[0x04, 0x27, 0, 1], &[MessageState::Deleted as u8]),
    ];
    for (before, value) in patches {
        let found = pdu.windows(before.len()).position(|w| w == before);
        let place = found.map(|at| at + before.len());
        if let Some(place) = place.and_then(|at| pdu.get_mut(at..at + value.len())) {
            place.copy_from_slice(value);
        }
    }
}

/// The deliver_sm PDUs that carry `mo`.
pub fn mobile_originated(mo: &Mo) -> Result<Vec<Box<[u8]>>, MoError> {
    let (data_coding, parts) = if mo.short_message.is_empty() {
        text_parts(mo)?
    } else {
        let octets = unhex(&mo.short_message).ok_or_else(|| {
            MoError::Field(
                "short_message",
                "is no even number of hexadecimal digits".to_owned(),
            )
        })?;
        (
            mo.data_coding.unwrap_or(OCTETS),
            vec![Content::plain(octets)],
        )
    };
    let total = u8::try_from(parts.len()).unwrap_or(u8::MAX);
    let mut tlvs = TlvBuf::new();
    let mut pdus = Vec::with_capacity(parts.len());
    for (number, Content { octets, udhi }) in (1..=total).zip(&parts) {
        tlvs.clear();
        let in_payload = mo.multipart == Multipart::Payload || octets.len() > 254;
        let too_long = |_| MoError::Field("text", "is longer than a PDU".to_owned());
        if in_payload {
            tlvs.push(tag::MESSAGE_PAYLOAD, octets).map_err(too_long)?;
        }
        if mo.multipart == Multipart::Sar && total > 1 {
            tlvs.push(tag::SAR_MSG_REF_NUM, &[0, mo.reference])
                .map_err(too_long)?;
            tlvs.push(tag::SAR_TOTAL_SEGMENTS, &[total])
                .map_err(too_long)?;
            tlvs.push(tag::SAR_SEGMENT_SEQNUM, &[number])
                .map_err(too_long)?;
        }
        let (source_addr_ton, source_addr_npi, source_addr) = address(&mo.from);
        let (dest_addr_ton, dest_addr_npi, destination_addr) = address(&mo.to);
        let sm = Sm {
            source_addr_ton,
            source_addr_npi,
            source_addr,
            dest_addr_ton,
            dest_addr_npi,
            destination_addr,
            esm_class: mo.esm_class | if *udhi { esm_class::UDHI } else { 0 },
            data_coding,
            short_message: if in_payload { b"" } else { octets },
            tlvs: tlvs.as_tlvs(),
            ..Sm::default()
        };
        let mut pdu = Vec::new();
        encode(&Pdu::request(0, pdu::Body::DeliverSm(sm)), &mut pdu).map_err(field_error)?;
        pdus.push(pdu.into());
    }
    Ok(pdus)
}

/// `id:IIIIIIIIII sub:SSS dlvrd:DDD submit date:YYMMDDhhmm done date:YYMMDDhhmm stat:DDDDDDD err:EEE text:...`
fn write_text(out: &mut Vec<u8>, id: &[u8], sm: &Sm<'_>, end: FinalState, dates: Dates) {
    out.extend_from_slice(b"id:");
    out.extend_from_slice(id);
    out.extend_from_slice(b" sub:001 dlvrd:");
    let delivered = end.state == MessageState::Delivered;
    out.extend_from_slice(if delivered { b"001" } else { b"000" });
    out.extend_from_slice(b" submit date:");
    out.extend_from_slice(&time::receipt_date(dates.submitted));
    out.extend_from_slice(b" done date:");
    out.extend_from_slice(&time::receipt_date(dates.done));
    out.extend_from_slice(b" stat:");
    out.extend_from_slice(end.state.stat().as_bytes());
    out.extend_from_slice(b" err:");
    out.extend_from_slice(&end.error);
    out.extend_from_slice(b" text:");
    // The receipt itself is in the default alphabet: only such a text can be repeated as it is.
    if matches!(sm.data_coding, DEFAULT_ALPHABET | IA5) {
        let (_, content) = parts_of(sm);
        out.extend_from_slice(&content[..content.len().min(RECEIPT_TEXT_MAX)]);
    }
}

/// network_error_code (SMPP 3.4, 5.3.2.31): network type 3, GSM, and a number; only a numeric and
/// true error can be told so.
fn network_error_code(error: [u8; 3]) -> Option<[u8; 3]> {
    let number: u16 = std::str::from_utf8(&error).ok()?.parse().ok()?;
    let [high, low] = number.to_be_bytes();
    (number != 0).then_some([3, high, low])
}

/// short_message of one part.
struct Content {
    octets: Vec<u8>,
    /// It begins with a user data header.
    udhi: bool,
}

impl Content {
    fn plain(octets: Vec<u8>) -> Content {
        Content {
            octets,
            udhi: false,
        }
    }
}

/// data_coding and the parts of a text.
fn text_parts(mo: &Mo) -> Result<(u8, Vec<Content>), MoError> {
    let bad = |rule: String| MoError::Field("text", rule);
    let whole = |data_coding: u8| -> Result<Vec<u8>, MoError> {
        let mut octets = Vec::new();
        match data_coding {
            UCS_2 => text::encode_ucs2(&mo.text, &mut octets),
            LATIN_1 => {
                for c in mo.text.chars() {
                    let octet = u8::try_from(u32::from(c));
                    octets
                        .push(octet.map_err(|_| bad(format!("has {c:?}, which Latin-1 has not")))?);
                }
            }
            DEFAULT_ALPHABET | IA5 => gsm::encode(&mo.text, &mut octets)
                .map_err(|c| bad(format!("has {c:?}, which the GSM alphabet has not")))?,
            other => {
                let rule = format!("{other} has no text; use 0, 1, 3, 8, or short_message");
                return Err(MoError::Field("data_coding", rule));
            }
        }
        Ok(octets)
    };
    let natural = match Alphabet::of(&mo.text) {
        Alphabet::Gsm7 => DEFAULT_ALPHABET,
        Alphabet::Ucs2 | Alphabet::Octets => UCS_2,
    };
    let data_coding = mo.data_coding.unwrap_or(natural);
    if mo.multipart == Multipart::Payload {
        return Ok((data_coding, vec![Content::plain(whole(data_coding)?)]));
    }
    if data_coding != natural {
        // Cut by octets where the text's own alphabet is not asked for.
        let octets = whole(data_coding)?;
        if octets.len() > 140 {
            return Err(MoError::Field(
                "text",
                format!(
                    "needs several parts; use multipart \"payload\" with data_coding {data_coding}"
                ),
            ));
        }
        return Ok((data_coding, vec![Content::plain(octets)]));
    }
    let body = Body::Text(mo.text.clone());
    let cut = text::segment(&body, mo.reference).map_err(|e| bad(e.to_string()))?;
    let sar = mo.multipart == Multipart::Sar;
    let part = |s: &text::Segment| match sar {
        true => Content::plain(s.payload.clone()),
        false => Content {
            octets: s.short_message(),
            udhi: s.udhi(),
        },
    };
    Ok((data_coding, cut.segments.iter().map(part).collect()))
}

/// International for '+' and long numbers, alphanumeric for letters (SMPP 3.4, 5.2.5 and 5.2.6).
fn address(text: &str) -> (u8, u8, &[u8]) {
    let digits = text.strip_prefix('+').unwrap_or(text);
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return (5, 0, text.as_bytes());
    }
    match digits.len() {
        0..=8 => (3, 0, digits.as_bytes()),
        _ => (1, 1, digits.as_bytes()),
    }
}

fn field_error(error: EncodeError) -> MoError {
    let field = match error.field() {
        "source_addr" => "from",
        "destination_addr" => "to",
        _ => "text",
    };
    MoError::Field(field, format!("cannot be sent: {error}"))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect();
    let digits = digits.filter(|d| d.len().is_multiple_of(2))?;
    Some(
        digits
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sm_of(pdu: &[u8]) -> Sm<'_> {
        match pdu::decode(pdu).unwrap().body {
            pdu::Body::DeliverSm(sm) => sm,
            other => panic!("{other:?}"),
        }
    }

    /// 2026-01-02 03:04:05 UTC.
    const AT: Timestamp = Timestamp(1_767_323_045_000);

    fn receipt_of(patch: serde_json::Value, end: FinalState) -> Box<[u8]> {
        let settings = Settings::default().patched(patch).unwrap();
        let sm = Sm {
            source_addr: b"Acme",
            source_addr_ton: 5,
            destination_addr: b"447700900123",
            dest_addr_ton: 1,
            dest_addr_npi: 1,
            short_message: b"A text of more than twenty characters",
            ..Sm::default()
        };
        let dates = Dates {
            submitted: AT,
            done: Timestamp(AT.0 + 60_000),
        };
        receipt(&mut Scratch::default(), &settings, &sm, 48_879, end, dates).unwrap()
    }

    #[test]
    fn a_receipt_has_the_text_of_appendix_b() {
        let pdu = receipt_of(json!({"receipt_shape": "text"}), FinalState::DELIVERED);
        let sm = sm_of(&pdu);
        let text = "id:48879 sub:001 dlvrd:001 submit date:2601020304 done date:2601020305 \
                    stat:DELIVRD err:000 text:A text of more than ";
        assert_eq!(String::from_utf8_lossy(sm.short_message), text);
        assert_eq!(
            (sm.source_addr, sm.destination_addr),
            (&b"447700900123"[..], &b"Acme"[..])
        );
        assert_eq!(
            (sm.source_addr_ton, sm.dest_addr_ton, sm.esm_class),
            (1, 5, 4)
        );
        assert!(sm.tlvs.is_empty());
    }

    #[test]
    fn a_receipt_that_was_written_can_be_made_to_say_deleted() {
        let mut pdu = receipt_of(json!({"receipt_shape": "both"}), FinalState::DELIVERED);
        say_deleted(&mut pdu);
        let sm = sm_of(&pdu);
        let text = String::from_utf8_lossy(sm.short_message);
        assert!(
            text.contains(" dlvrd:000 ") && text.contains(" stat:DELETED err:000 "),
            "{text}"
        );
        assert_eq!(sm.tlvs.get(tag::MESSAGE_STATE), Some(&[4][..]));
        assert_eq!(
            sm.tlvs.get(tag::RECEIPTED_MESSAGE_ID),
            Some(&b"48879\0"[..])
        );
    }

    #[test]
    fn a_receipt_by_parameters_has_no_text() {
        let end: FinalState = "UNDELIV:017".parse().unwrap();
        let pdu = receipt_of(
            json!({"receipt_shape": "tlv", "id_receipt": "hex-upper", "id_receipt_width": 6}),
            end,
        );
        let sm = sm_of(&pdu);
        assert_eq!(sm.short_message, b"");
        assert_eq!(
            sm.tlvs.get(tag::RECEIPTED_MESSAGE_ID),
            Some(&b"00BEEF\0"[..])
        );
        assert_eq!(sm.tlvs.get(tag::MESSAGE_STATE), Some(&[5][..]));
        assert_eq!(sm.tlvs.get(tag::NETWORK_ERROR_CODE), Some(&[3, 0, 17][..]));
    }

    fn mo(fields: serde_json::Value) -> Result<Vec<Box<[u8]>>, MoError> {
        mobile_originated(&serde_json::from_value(fields).unwrap())
    }

    #[test]
    fn a_long_mo_travels_in_parts_by_header_by_sar_or_whole() {
        let long = "x".repeat(200);
        let parts =
            mo(json!({"from": "+447700900123", "to": "60777", "text": long, "reference": 9}))
                .unwrap();
        let (first, second) = (sm_of(&parts[0]), sm_of(&parts[1]));
        assert_eq!(first.short_message[..6], [5, 0, 3, 9, 2, 1]);
        assert_eq!(second.short_message[..6], [5, 0, 3, 9, 2, 2]);
        assert_eq!(first.esm_class, 0x40);

        let parts =
            mo(json!({"from": "1", "to": "2", "text": long, "multipart": "sar", "reference": 9}))
                .unwrap();
        let second = sm_of(&parts[1]);
        assert_eq!(second.esm_class, 0);
        assert_eq!(second.tlvs.integer(tag::SAR_MSG_REF_NUM), Some(9));
        assert_eq!(second.tlvs.integer(tag::SAR_SEGMENT_SEQNUM), Some(2));

        let parts =
            mo(json!({"from": "1", "to": "2", "text": long, "multipart": "payload"})).unwrap();
        assert_eq!((parts.len(), sm_of(&parts[0]).payload().len()), (1, 200));
    }

    #[test]
    fn an_mo_chooses_its_alphabet_or_takes_the_one_that_is_named() {
        let coding = |fields| sm_of(&mo(fields).unwrap()[0]).data_coding;
        assert_eq!(coding(json!({"from": "1", "to": "2", "text": "STOP"})), 0);
        assert_eq!(
            coding(json!({"from": "1", "to": "2", "text": "\u{1F600}"})),
            8
        );
        assert_eq!(
            coding(json!({"from": "1", "to": "2", "text": "\u{e7}a", "data_coding": 3})),
            3
        );
        assert_eq!(
            coding(json!({"from": "1", "to": "2", "short_message": "00ff"})),
            4
        );
    }

    #[test]
    fn an_mo_that_cannot_be_names_the_field() {
        let field = |fields| match mo(fields).unwrap_err() {
            MoError::Field(field, _) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            field(json!({"from": "1".repeat(21), "to": "2", "text": "a"})),
            "from"
        );
        assert_eq!(
            field(json!({"from": "1", "to": "2".repeat(21), "text": "a"})),
            "to"
        );
        assert_eq!(field(json!({"from": "1", "to": "2"})), "text");
        assert_eq!(
            field(json!({"from": "1", "to": "2", "short_message": "0"})),
            "short_message"
        );
        assert_eq!(
            field(json!({"from": "1", "to": "2", "text": "\u{4e00}", "data_coding": 0})),
            "text"
        );
        assert_eq!(
            field(json!({"from": "1", "to": "2", "text": "a", "data_coding": 200})),
            "data_coding"
        );
    }
}
