//! What no SMSC should say and some do: message ids that are none, second answers, and octets that
//! are no SMPP. Writes them; when they are said is decided elsewhere.

use crate::smpp::pdu::{HEADER_LEN, command_id};
use crate::smpp::status;

/// What is odd about the answer to one submit_sm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    pub id: Option<IdFault>,
    pub again: Option<Again>,
    pub garbage: Option<Garbage>,
}

/// A message_id in submit_sm_resp that identifies nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdFault {
    Empty,
    /// `0`, of every message.
    Zero,
    /// One character more than message_id may have with its NUL (SMPP 3.4, 5.2.23).
    TooLong,
    /// The id of the message before.
    Previous,
}

impl IdFault {
    pub const ALL: [IdFault; 4] = [
        IdFault::Empty,
        IdFault::Zero,
        IdFault::TooLong,
        IdFault::Previous,
    ];
}

/// How a submit_sm is answered a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// The same once more.
    Same,
    /// ESME_RSYSERR after ESME_ROK.
    Refusal,
    /// generic_nack after ESME_ROK.
    Nack,
}

impl Again {
    pub const ALL: [Again; 3] = [Again::Same, Again::Refusal, Again::Nack];
}

/// Octets out of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    /// A request that no version of SMPP has.
    UnknownCommand,
    /// submit_sm_resp to a request that was never made.
    StrayResponse,
    /// generic_nack of a sequence_number that was never used.
    StrayNack,
    /// deliver_sm that ends in the middle of a field.
    Truncated,
    /// deliver_sm whose sm_length is more than there is.
    LyingLength,
    /// bind_transceiver, from the side that is bound to.
    WrongWay,
    /// command_length of 15: nothing behind it can be told apart.
    ShortFrame,
    /// Random octets.
    Noise,
}

impl Garbage {
    pub const ALL: [Garbage; 8] = [
        Garbage::UnknownCommand,
        Garbage::StrayResponse,
        Garbage::StrayNack,
        Garbage::Truncated,
        Garbage::LyingLength,
        Garbage::WrongWay,
        Garbage::ShortFrame,
        Garbage::Noise,
    ];

    /// `random` yields 64 random bits at a time.
    pub fn write(self, out: &mut Vec<u8>, mut random: impl FnMut() -> u64) {
        // Beyond what either side has used in any session that lives so long.
        let sequence_number = 0x6000_0000 | (random() & 0x0FFF_FFFF) as u32;
        let mut pdu = |command: u32, command_status: u32, body: &[u8]| {
            let length = (HEADER_LEN + body.len()) as u32;
            for word in [length, command, command_status, sequence_number] {
                out.extend_from_slice(&word.to_be_bytes());
            }
            out.extend_from_slice(body);
        };
        match self {
            Garbage::UnknownCommand => pdu(0x0001_0204, 0, b"vendor"),
            Garbage::StrayResponse => pdu(command_id::SUBMIT_SM_RESP, 0, b"nobody\0"),
            Garbage::StrayNack => pdu(command_id::GENERIC_NACK, status::ESME_RINVCMDID, b""),
            Garbage::Truncated => pdu(command_id::DELIVER_SM, 0, b"CMT\0"),
            Garbage::LyingLength => {
                // Every mandatory field up to sm_length, which promises 200 octets.
                let mut body = b"\0\x01\x01447700900123\0\x01\x0160777\0".to_vec();
                body.extend_from_slice(&[0; 9]);
                body.extend_from_slice(b"\xC8short");
                pdu(command_id::DELIVER_SM, 0, &body);
            }
            Garbage::WrongWay => pdu(command_id::BIND_TRANSCEIVER, 0, b"smsc\0\0\0\x34\0\0\0"),
            Garbage::ShortFrame => out.extend_from_slice(&[0, 0, 0, 15, 0, 0, 0, 4]),
            Garbage::Noise => {
                // The first octet makes the command_length impossible: what follows is never
                // taken for the beginning of a PDU that may yet come.
                out.push(0xFF);
                for _ in 0..8 {
                    out.extend_from_slice(&random().to_be_bytes());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smpp::pdu::{self, Framing};

    /// The stream cannot be followed behind it.
    fn is_fatal(garbage: Garbage) -> bool {
        matches!(garbage, Garbage::ShortFrame | Garbage::Noise)
    }

    #[test]
    fn what_is_not_fatal_is_framed_and_what_is_is_not() {
        for garbage in Garbage::ALL {
            let mut out = Vec::new();
            garbage.write(&mut out, || 0x1234_5678_9ABC_DEF0);
            match pdu::frame(&out) {
                Framing::Frame(length) => {
                    assert!(!is_fatal(garbage) && length == out.len(), "{garbage:?}");
                }
                Framing::Bad(_) => assert!(is_fatal(garbage), "{garbage:?}"),
                Framing::Incomplete => panic!("{garbage:?} never ends"),
            }
        }
    }

    #[test]
    fn a_deliver_sm_that_lies_is_refused_by_the_field_that_lies() {
        let fault = |garbage: Garbage| {
            let mut out = Vec::new();
            garbage.write(&mut out, || 0);
            pdu::decode(&out).unwrap_err().field
        };
        assert_eq!(fault(Garbage::LyingLength), "sm_length");
        assert_eq!(fault(Garbage::Truncated), "source_addr_ton");
    }
}
