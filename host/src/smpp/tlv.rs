//! Optional parameters (SMPP 3.4, 5.3): a view over the raw octets, kept as they came so that they
//! can be sent on unchanged. Knows tags and lengths, not which PDU allows which.

use std::fmt;
use std::ops::RangeInclusive;

/// Tags by their names in the specification (SMPP 3.4, 5.3.2).
pub mod tag {
    pub const DEST_ADDR_SUBUNIT: u16 = 0x0005;
    pub const SOURCE_ADDR_SUBUNIT: u16 = 0x000D;
    pub const QOS_TIME_TO_LIVE: u16 = 0x0017;
    pub const PAYLOAD_TYPE: u16 = 0x0019;
    pub const ADDITIONAL_STATUS_INFO_TEXT: u16 = 0x001D;
    pub const RECEIPTED_MESSAGE_ID: u16 = 0x001E;
    pub const PRIVACY_INDICATOR: u16 = 0x0201;
    pub const USER_MESSAGE_REFERENCE: u16 = 0x0204;
    pub const USER_RESPONSE_CODE: u16 = 0x0205;
    pub const SOURCE_PORT: u16 = 0x020A;
    pub const DESTINATION_PORT: u16 = 0x020B;
    pub const SAR_MSG_REF_NUM: u16 = 0x020C;
    pub const LANGUAGE_INDICATOR: u16 = 0x020D;
    pub const SAR_TOTAL_SEGMENTS: u16 = 0x020E;
    pub const SAR_SEGMENT_SEQNUM: u16 = 0x020F;
    pub const SC_INTERFACE_VERSION: u16 = 0x0210;
    pub const CALLBACK_NUM_PRES_IND: u16 = 0x0302;
    pub const NUMBER_OF_MESSAGES: u16 = 0x0304;
    pub const SET_DPF: u16 = 0x0421;
    pub const MS_AVAILABILITY_STATUS: u16 = 0x0422;
    pub const DELIVERY_FAILURE_REASON: u16 = 0x0425;
    pub const NETWORK_ERROR_CODE: u16 = 0x0423;
    pub const MESSAGE_PAYLOAD: u16 = 0x0424;
    pub const MORE_MESSAGES_TO_SEND: u16 = 0x0426;
    pub const MESSAGE_STATE: u16 = 0x0427;
    /// How busy the peer is, 0 to 100 (SMPP 5.0, 4.8.4.18).
    pub const CONGESTION_STATE: u16 = 0x0428;
    pub const DISPLAY_TIME: u16 = 0x1201;
    pub const SMS_SIGNAL: u16 = 0x1203;
    pub const MS_VALIDITY: u16 = 0x1204;
    pub const MS_MSG_WAIT_FACILITIES: u16 = 0x0030;
    pub const ITS_REPLY_TYPE: u16 = 0x1380;
    pub const ITS_SESSION_INFO: u16 = 0x1383;
    /// Vendor tags (SMPP 3.4, 5.3.2.1) are 0x1400 to 0x3FFF.
    pub const VENDOR: std::ops::RangeInclusive<u16> = 0x1400..=0x3FFF;
}

/// Octets that a parameter of the specification has (SMPP 3.4, 5.3.2; SMPP 5.0, 4.8.4); none for
/// those of any length, of vendors and unknown ones.
pub fn lengths(tag: u16) -> Option<RangeInclusive<usize>> {
    Some(match tag {
        // dest_ and source_: addr_subunit, network_type, bearer_type, telematics_id.
        0x0005..=0x0007 | 0x000D..=0x000F | 0x0010 => 1..=1,
        0x0008 => 2..=2,
        tag::QOS_TIME_TO_LIVE => 4..=4,
        tag::PAYLOAD_TYPE => 1..=1,
        tag::ADDITIONAL_STATUS_INFO_TEXT => 1..=256,
        tag::RECEIPTED_MESSAGE_ID => 1..=65,
        // ms_msg_wait_facilities, privacy_indicator.
        0x0030 | tag::PRIVACY_INDICATOR => 1..=1,
        // source_subaddress, dest_subaddress.
        0x0202 | 0x0203 => 2..=23,
        tag::USER_MESSAGE_REFERENCE => 2..=2,
        // user_response_code.
        0x0205 => 1..=1,
        tag::SOURCE_PORT | tag::DESTINATION_PORT | tag::SAR_MSG_REF_NUM => 2..=2,
        tag::LANGUAGE_INDICATOR
        | tag::SAR_TOTAL_SEGMENTS
        | tag::SAR_SEGMENT_SEQNUM
        | tag::SC_INTERFACE_VERSION => 1..=1,
        // callback_num_pres_ind, callback_num_atag, number_of_messages, callback_num.
        0x0302 => 1..=1,
        0x0303 => 1..=65,
        0x0304 => 1..=1,
        0x0381 => 4..=19,
        // dpf_result, set_dpf, ms_availability_status.
        0x0420..=0x0422 => 1..=1,
        tag::NETWORK_ERROR_CODE => 3..=3,
        tag::DELIVERY_FAILURE_REASON
        | tag::MORE_MESSAGES_TO_SEND
        | tag::MESSAGE_STATE
        | tag::CONGESTION_STATE => 1..=1,
        // ussd_service_op, display_time, sms_signal, ms_validity, alert_on_message_delivery,
        // its_reply_type, its_session_info.
        0x0501 | 0x1201 => 1..=1,
        0x1203 => 2..=2,
        0x1204 => 1..=4,
        0x130C => 0..=1,
        0x1380 => 1..=1,
        0x1383 => 2..=2,
        _ => return None,
    })
}

/// One optional parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlvRef<'a> {
    pub tag: u16,
    pub value: &'a [u8],
}

/// Well-formed optional parameters, in the order in which they came.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Tlvs<'a> {
    raw: &'a [u8],
}

impl<'a> Tlvs<'a> {
    /// Takes the well-formed beginning. Stray octets, and a parameter that claims to be longer
    /// than what is left, end the list: peers send both, and what went before still counts.
    pub fn parse(octets: &'a [u8]) -> Tlvs<'a> {
        let mut end = 0;
        while let Some((_, next)) = read(octets, end) {
            end = next;
        }
        Tlvs {
            raw: &octets[..end],
        }
    }

    /// The octets of the whole list, ready to be sent.
    pub fn raw(self) -> &'a [u8] {
        self.raw
    }

    pub fn is_empty(self) -> bool {
        self.raw.is_empty()
    }

    pub fn iter(self) -> TlvIter<'a> {
        TlvIter {
            raw: self.raw,
            at: 0,
        }
    }

    /// The first parameter of that tag.
    pub fn get(self, tag: u16) -> Option<&'a [u8]> {
        self.iter().find(|t| t.tag == tag).map(|t| t.value)
    }

    /// A C-octet string parameter without its NUL, which some peers forget.
    pub fn c_octets(self, tag: u16) -> Option<&'a [u8]> {
        let value = self.get(tag)?;
        let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
        Some(&value[..end])
    }

    /// A number of one to four octets, whatever width the peer chose.
    pub fn integer(self, tag: u16) -> Option<u32> {
        let value = self.get(tag)?;
        if value.is_empty() || value.len() > 4 {
            return None;
        }
        Some(value.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
    }
}

impl<'a> IntoIterator for Tlvs<'a> {
    type Item = TlvRef<'a>;
    type IntoIter = TlvIter<'a>;

    fn into_iter(self) -> TlvIter<'a> {
        self.iter()
    }
}

/// Tags and lengths only: values may hold message text.
impl fmt::Debug for Tlvs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter()
                    .map(|t| (format!("{:#06x}", t.tag), t.value.len())),
            )
            .finish()
    }
}

#[derive(Clone, Debug)]
pub struct TlvIter<'a> {
    raw: &'a [u8],
    at: usize,
}

impl<'a> Iterator for TlvIter<'a> {
    type Item = TlvRef<'a>;

    fn next(&mut self) -> Option<TlvRef<'a>> {
        let (tlv, next) = read(self.raw, self.at)?;
        self.at = next;
        Some(tlv)
    }
}

/// A value does not fit the 16-bit length of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Builds a list for sending; the buffer is reused by `clear`.
#[derive(Clone, Debug, Default)]
pub struct TlvBuf {
    raw: Vec<u8>,
}

impl TlvBuf {
    pub fn new() -> TlvBuf {
        TlvBuf::default()
    }

    pub fn push(&mut self, tag: u16, value: &[u8]) -> Result<(), TooLong> {
        let length = u16::try_from(value.len()).map_err(|_| TooLong)?;
        self.raw.reserve(4 + value.len());
        self.raw.extend_from_slice(&tag.to_be_bytes());
        self.raw.extend_from_slice(&length.to_be_bytes());
        self.raw.extend_from_slice(value);
        Ok(())
    }

    pub fn clear(&mut self) {
        self.raw.clear();
    }

    pub fn as_tlvs(&self) -> Tlvs<'_> {
        Tlvs { raw: &self.raw }
    }
}

/// The parameter at `at` and where the next one begins.
fn read(raw: &[u8], at: usize) -> Option<(TlvRef<'_>, usize)> {
    let head = raw.get(at..at + 4)?;
    let tag = u16::from_be_bytes([head[0], head[1]]);
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let end = at + 4 + length;
    let value = raw.get(at + 4..end)?;
    Some((TlvRef { tag, value }, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_in_order_and_kept_raw() {
        let raw = b"\x02\x04\x00\x02\x00\x07\x14\x01\x00\x03dlt";
        let tlvs = Tlvs::parse(raw);
        assert_eq!(tlvs.raw(), raw);
        assert_eq!(tlvs.integer(tag::USER_MESSAGE_REFERENCE), Some(7));
        assert_eq!(tlvs.get(0x1401), Some(&b"dlt"[..]));
        assert_eq!(tlvs.iter().count(), 2);
        let mut built = TlvBuf::new();
        built.push(tag::USER_MESSAGE_REFERENCE, &[0, 7]).unwrap();
        built.push(0x1401, b"dlt").unwrap();
        assert_eq!(built.as_tlvs(), tlvs);
    }

    #[test]
    fn stray_octets_end_the_list() {
        let tlvs = Tlvs::parse(b"\x04\x27\x00\x01\x02\x00\x00");
        assert_eq!(tlvs.get(tag::MESSAGE_STATE), Some(&[2][..]));
        assert_eq!(tlvs.raw().len(), 5);
    }

    #[test]
    fn a_parameter_longer_than_the_pdu_ends_the_list() {
        let tlvs = Tlvs::parse(b"\x04\x27\x00\x01\x02\x04\x24\x00\x09abc");
        assert_eq!(tlvs.iter().count(), 1);
    }

    #[test]
    fn a_c_octet_string_needs_no_nul() {
        assert_eq!(
            Tlvs::parse(b"\x00\x1e\x00\x03abc").c_octets(tag::RECEIPTED_MESSAGE_ID),
            Some(&b"abc"[..])
        );
        assert_eq!(
            Tlvs::parse(b"\x00\x1e\x00\x04abc\0").c_octets(tag::RECEIPTED_MESSAGE_ID),
            Some(&b"abc"[..])
        );
    }

    #[test]
    fn a_value_beyond_the_length_field_is_refused() {
        assert_eq!(
            TlvBuf::new().push(tag::MESSAGE_PAYLOAD, &[0; 65_536]),
            Err(TooLong)
        );
    }
}
