//! The letter of SMPP 3.4 for a submit_sm: what an SMSC refuses that takes the specification at its
//! word. Pure; shares nothing with the sender's own checks.

use crate::smpp::pdu::{Sm, tag};
use crate::smpp::status;

/// Digits of an address without its NUL (SMPP 3.4, 5.2.8 and 5.2.9).
const ADDRESS_MAX: usize = 20;
/// Characters of an alphanumeric originator (3GPP TS 23.040, 9.1.2.5).
const ALPHANUMERIC_MAX: usize = 11;
/// service_type without its NUL (SMPP 3.4, 5.2.11).
const SERVICE_TYPE_MAX: usize = 5;
/// short_message (SMPP 3.4, 5.2.22).
const SHORT_MESSAGE_MAX: usize = 254;
/// A time is 16 characters, or none (SMPP 3.4, 7.1.1).
const TIME_LENGTH: usize = 16;
/// Type of Number: alphanumeric (SMPP 3.4, 5.2.5).
const TON_ALPHANUMERIC: u8 = 5;
const TON_MAX: u8 = 6;
/// Numbering Plan Indicators (SMPP 3.4, 5.2.6).
const NPIS: [u8; 10] = [0, 1, 3, 4, 6, 8, 9, 10, 14, 18];
/// Parameters of submit_sm (SMPP 3.4, 4.4.1); vendors' own are allowed beside them.
const TLVS: [u16; 27] = [
    tag::USER_MESSAGE_REFERENCE,
    tag::SOURCE_PORT,
    tag::SOURCE_ADDR_SUBUNIT,
    tag::DESTINATION_PORT,
    tag::DEST_ADDR_SUBUNIT,
    tag::SAR_MSG_REF_NUM,
    tag::SAR_TOTAL_SEGMENTS,
    tag::SAR_SEGMENT_SEQNUM,
    tag::MORE_MESSAGES_TO_SEND,
    tag::PAYLOAD_TYPE,
    tag::MESSAGE_PAYLOAD,
    tag::PRIVACY_INDICATOR,
    // callback_num, callback_num_pres_ind, callback_num_atag
    0x0381,
    0x0302,
    0x0303,
    // source_subaddress, dest_subaddress, user_response_code, display_time, sms_signal
    0x0202,
    0x0203,
    0x0205,
    0x1201,
    0x1203,
    // ms_validity, ms_msg_wait_facilities, number_of_messages, alert_on_message_delivery
    0x1204,
    0x0030,
    0x0304,
    0x130C,
    tag::LANGUAGE_INDICATOR,
    // its_reply_type, its_session_info
    0x1380,
    0x1383,
];

/// The command_status to refuse `sm` with.
pub fn check(sm: &Sm<'_>) -> Result<(), u32> {
    let rule = |holds: bool, command_status: u32| match holds {
        true => Ok(()),
        false => Err(command_status),
    };
    rule(
        sm.service_type.len() <= SERVICE_TYPE_MAX,
        status::ESME_RINVSERTYP,
    )?;
    rule(sm.source_addr_ton <= TON_MAX, status::ESME_RINVSRCTON)?;
    rule(NPIS.contains(&sm.source_addr_npi), status::ESME_RINVSRCNPI)?;
    rule(
        address(sm.source_addr_ton, sm.source_addr),
        status::ESME_RINVSRCADR,
    )?;
    rule(sm.dest_addr_ton <= TON_MAX, status::ESME_RINVDSTTON)?;
    rule(NPIS.contains(&sm.dest_addr_npi), status::ESME_RINVDSTNPI)?;
    rule(
        !sm.destination_addr.is_empty()
            && sm.dest_addr_ton != TON_ALPHANUMERIC
            && address(sm.dest_addr_ton, sm.destination_addr),
        status::ESME_RINVDSTADR,
    )?;
    // Message type: default, delivery acknowledgement or manual acknowledgement (SMPP 3.4, 5.2.12).
    rule(
        matches!(sm.esm_class >> 2 & 0b1111, 0b0000 | 0b0010 | 0b0100),
        status::ESME_RINVESMCLASS,
    )?;
    rule(sm.priority_flag <= 3, status::ESME_RINVPRTFLG)?;
    rule(time(sm.schedule_delivery_time), status::ESME_RINVSCHED)?;
    rule(time(sm.validity_period), status::ESME_RINVEXPIRY)?;
    // Bits 5 to 7 are reserved, and so is 11 in bits 0 and 1 (SMPP 3.4, 5.2.17).
    rule(
        sm.registered_delivery & 0b1110_0000 == 0 && sm.registered_delivery & 0b11 != 0b11,
        status::ESME_RINVREGDLVFLG,
    )?;
    rule(sm.replace_if_present_flag <= 1, status::ESME_RINVREPFLAG)?;
    rule(
        sm.short_message.len() <= SHORT_MESSAGE_MAX,
        status::ESME_RINVMSGLEN,
    )?;
    let mut seen: Vec<u16> = Vec::new();
    for tlv in sm.tlvs {
        let known = TLVS.contains(&tlv.tag) || tag::VENDOR.contains(&tlv.tag);
        rule(
            known && !seen.contains(&tlv.tag),
            status::ESME_ROPTPARNOTALLWD,
        )?;
        rule(length(tlv.tag, tlv.value.len()), status::ESME_RINVPARLEN)?;
        seen.push(tlv.tag);
    }
    let payload = sm.tlvs.get(tag::MESSAGE_PAYLOAD);
    // Not both (SMPP 3.4, 3.2.3).
    rule(
        payload.is_none() || sm.short_message.is_empty(),
        status::ESME_ROPTPARNOTALLWD,
    )?;
    // All three or none (SMPP 3.4, 5.3.2.22 to 5.3.2.24).
    let sar = [
        tag::SAR_MSG_REF_NUM,
        tag::SAR_TOTAL_SEGMENTS,
        tag::SAR_SEGMENT_SEQNUM,
    ];
    let present = sar.iter().filter(|t| seen.contains(t)).count();
    rule(
        present == 0 || present == sar.len(),
        status::ESME_RMISSINGOPTPARAM,
    )?;
    if present == sar.len() {
        let total = sm.tlvs.integer(tag::SAR_TOTAL_SEGMENTS).unwrap_or(0);
        let number = sm.tlvs.integer(tag::SAR_SEGMENT_SEQNUM).unwrap_or(0);
        rule((1..=total).contains(&number), status::ESME_RINVOPTPARAMVAL)?;
    }
    Ok(())
}

/// Digits, or an originator's letters where its Type of Number says so.
fn address(ton: u8, octets: &[u8]) -> bool {
    match ton {
        TON_ALPHANUMERIC => octets.len() <= ALPHANUMERIC_MAX && octets.iter().all(|b| *b >= 0x20),
        _ => octets.len() <= ADDRESS_MAX && octets.iter().all(u8::is_ascii_digit),
    }
}

/// `YYMMDDhhmmsstnnp`, or nothing (SMPP 3.4, 7.1.1).
fn time(octets: &[u8]) -> bool {
    let Ok(octets): Result<&[u8; TIME_LENGTH], _> = octets.try_into() else {
        return octets.is_empty();
    };
    octets[..15].iter().all(u8::is_ascii_digit) && matches!(octets[15], b'+' | b'-' | b'R')
}

/// Lengths of the parameters that have one (SMPP 3.4, 5.3.2).
fn length(tag: u16, octets: usize) -> bool {
    match tag {
        tag::USER_MESSAGE_REFERENCE
        | tag::SOURCE_PORT
        | tag::DESTINATION_PORT
        | tag::SAR_MSG_REF_NUM => octets == 2,
        tag::SAR_TOTAL_SEGMENTS
        | tag::SAR_SEGMENT_SEQNUM
        | tag::MORE_MESSAGES_TO_SEND
        | tag::PAYLOAD_TYPE
        | tag::PRIVACY_INDICATOR
        | tag::LANGUAGE_INDICATOR
        | tag::SOURCE_ADDR_SUBUNIT
        | tag::DEST_ADDR_SUBUNIT => octets == 1,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smpp::pdu::TlvBuf;

    fn good() -> Sm<'static> {
        Sm {
            source_addr_ton: 5,
            source_addr: b"Acme",
            dest_addr_ton: 1,
            dest_addr_npi: 1,
            destination_addr: b"447700900123",
            registered_delivery: 1,
            validity_period: b"000000010000000R",
            short_message: b"hello",
            ..Sm::default()
        }
    }

    #[test]
    fn what_is_by_the_letter_passes() {
        let mut tlvs = TlvBuf::new();
        tlvs.push(tag::USER_MESSAGE_REFERENCE, &[0, 1]).unwrap();
        tlvs.push(0x1400, b"vendor").unwrap();
        let sm = Sm {
            tlvs: tlvs.as_tlvs(),
            ..good()
        };
        assert_eq!(check(&sm), Ok(()));
    }

    #[test]
    fn each_field_is_refused_with_its_own_status() {
        let cases: [(Sm<'_>, u32); 14] = [
            (
                Sm {
                    service_type: b"TOOBIG",
                    ..good()
                },
                status::ESME_RINVSERTYP,
            ),
            (
                Sm {
                    source_addr_ton: 7,
                    ..good()
                },
                status::ESME_RINVSRCTON,
            ),
            (
                Sm {
                    source_addr_npi: 2,
                    ..good()
                },
                status::ESME_RINVSRCNPI,
            ),
            (
                Sm {
                    source_addr: b"Twelve chars",
                    ..good()
                },
                status::ESME_RINVSRCADR,
            ),
            (
                Sm {
                    dest_addr_ton: 7,
                    ..good()
                },
                status::ESME_RINVDSTTON,
            ),
            (
                Sm {
                    dest_addr_npi: 2,
                    ..good()
                },
                status::ESME_RINVDSTNPI,
            ),
            (
                Sm {
                    destination_addr: b"+447700900123",
                    ..good()
                },
                status::ESME_RINVDSTADR,
            ),
            (
                Sm {
                    destination_addr: b"",
                    ..good()
                },
                status::ESME_RINVDSTADR,
            ),
            (
                Sm {
                    esm_class: 0x04,
                    ..good()
                },
                status::ESME_RINVESMCLASS,
            ),
            (
                Sm {
                    priority_flag: 4,
                    ..good()
                },
                status::ESME_RINVPRTFLG,
            ),
            (
                Sm {
                    schedule_delivery_time: b"tomorrow",
                    ..good()
                },
                status::ESME_RINVSCHED,
            ),
            (
                Sm {
                    validity_period: b"0000000100000000",
                    ..good()
                },
                status::ESME_RINVEXPIRY,
            ),
            (
                Sm {
                    registered_delivery: 3,
                    ..good()
                },
                status::ESME_RINVREGDLVFLG,
            ),
            (
                Sm {
                    replace_if_present_flag: 2,
                    ..good()
                },
                status::ESME_RINVREPFLAG,
            ),
        ];
        for (sm, expect) in cases {
            assert_eq!(check(&sm), Err(expect), "{}", status::describe(expect));
        }
    }

    #[test]
    fn parameters_are_held_to_their_place_and_length() {
        let refused = |list: &[(u16, &[u8])]| {
            let mut tlvs = TlvBuf::new();
            for (tag, value) in list {
                tlvs.push(*tag, value).unwrap();
            }
            check(&Sm {
                tlvs: tlvs.as_tlvs(),
                ..good()
            })
        };
        let not_allowed = Err(status::ESME_ROPTPARNOTALLWD);
        assert_eq!(refused(&[(tag::MESSAGE_STATE, &[2])]), not_allowed);
        assert_eq!(refused(&[(tag::MESSAGE_PAYLOAD, b"both")]), not_allowed);
        let twice: [(u16, &[u8]); 2] = [(0x1400, b"a"), (0x1400, b"b")];
        assert_eq!(refused(&twice), not_allowed);
        assert_eq!(
            refused(&[(tag::USER_MESSAGE_REFERENCE, &[1])]),
            Err(status::ESME_RINVPARLEN)
        );
        assert_eq!(
            refused(&[(tag::SAR_MSG_REF_NUM, &[0, 1])]),
            Err(status::ESME_RMISSINGOPTPARAM)
        );
        let beyond: [(u16, &[u8]); 3] = [
            (tag::SAR_MSG_REF_NUM, &[0, 1]),
            (tag::SAR_TOTAL_SEGMENTS, &[2]),
            (tag::SAR_SEGMENT_SEQNUM, &[3]),
        ];
        assert_eq!(refused(&beyond), Err(status::ESME_RINVOPTPARAMVAL));
    }
}
