//! submit_multi (SMPP 3.4, 4.5): one message for several destinations, SME addresses and names of
//! distribution lists, and the response that says which of them failed. What a list holds and who
//! may send to it is not known here.

use super::decode::{Fault, Reader};
use super::encode::{ADDRESS_MAX, MESSAGE_ID_MAX};
use super::pdu::Sm;
use super::status;

/// number_of_dests (SMPP 3.4, 5.2.24).
pub const DESTINATIONS_MAX: usize = 254;

/// A submit_multi as it came. `sm` is what all destinations share; its own destination is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmitMulti<'a> {
    pub sm: Sm<'a>,
    pub destinations: Vec<Destination<'a>>,
}

/// One dest_address (SMPP 3.4, 4.5.1.1).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Destination<'a> {
    Sme { ton: u8, npi: u8, address: &'a [u8] },
    List { name: &'a [u8] },
}

/// Numbers stay out of logs.
impl std::fmt::Debug for Destination<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Destination::Sme { .. } => "Sme(..)",
            Destination::List { .. } => "List(..)",
        })
    }
}

/// A destination that got nothing, with its error_status_code (SMPP 3.4, 4.5.2.1).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Unsuccess<'a> {
    pub ton: u8,
    pub npi: u8,
    pub address: &'a [u8],
    pub command_status: u32,
}

impl<'a> SubmitMulti<'a> {
    /// Reads a body; the error is the command_status to answer with.
    pub fn decode(body: &'a [u8]) -> Result<SubmitMulti<'a>, u32> {
        let mut reader = Reader { rest: body };
        read(&mut reader).map_err(|fault| fault.command_status)
    }
}

fn read<'a>(r: &mut Reader<'a>) -> Result<SubmitMulti<'a>, Fault> {
    let service_type = r.c_octets("service_type", status::ESME_RINVSERTYP)?;
    let source_addr_ton = r.octet("source_addr_ton")?;
    let source_addr_npi = r.octet("source_addr_npi")?;
    let source_addr = r.c_octets("source_addr", status::ESME_RINVSRCADR)?;
    let count = usize::from(r.octet("number_of_dests")?);
    if count == 0 || count > DESTINATIONS_MAX {
        return Err(Fault {
            field: "number_of_dests",
            command_status: status::ESME_RINVNUMDESTS,
        });
    }
    let mut destinations = Vec::with_capacity(count);
    for _ in 0..count {
        destinations.push(destination(r)?);
    }
    Ok(SubmitMulti {
        destinations,
        sm: Sm {
            service_type,
            source_addr_ton,
            source_addr_npi,
            source_addr,
            dest_addr_ton: 0,
            dest_addr_npi: 0,
            destination_addr: b"",
            esm_class: r.octet("esm_class")?,
            protocol_id: r.octet("protocol_id")?,
            priority_flag: r.octet("priority_flag")?,
            schedule_delivery_time: r.c_octets("schedule_delivery_time", status::ESME_RINVSCHED)?,
            validity_period: r.c_octets("validity_period", status::ESME_RINVEXPIRY)?,
            registered_delivery: r.octet("registered_delivery")?,
            replace_if_present_flag: r.octet("replace_if_present_flag")?,
            data_coding: r.octet("data_coding")?,
            sm_default_msg_id: r.octet("sm_default_msg_id")?,
            short_message: r.short_message()?,
            tlvs: r.tlvs(),
        },
    })
}

fn destination<'a>(r: &mut Reader<'a>) -> Result<Destination<'a>, Fault> {
    match r.octet("dest_flag")? {
        1 => Ok(Destination::Sme {
            ton: r.octet("dest_addr_ton")?,
            npi: r.octet("dest_addr_npi")?,
            address: r.c_octets("destination_addr", status::ESME_RINVDSTADR)?,
        }),
        2 => Ok(Destination::List {
            name: r.c_octets("dl_name", status::ESME_RINVDLNAME)?,
        }),
        _ => Err(Fault {
            field: "dest_flag",
            command_status: status::ESME_RINVDESTFLAG,
        }),
    }
}

/// The body of a submit_multi_resp: message_id, no_unsuccess and the destinations that failed. Of
/// more failures than the count's octet can say, the first 255 are told.
pub fn submit_multi_resp(message_id: &str, failed: &[Unsuccess<'_>]) -> Vec<u8> {
    let failed = &failed[..failed.len().min(255)];
    let mut out = Vec::with_capacity(message_id.len() + 2 + failed.len() * 24);
    c_octets(&mut out, message_id.as_bytes(), MESSAGE_ID_MAX);
    // At most 255, so the cast keeps it whole.
    out.push(failed.len() as u8);
    for one in failed {
        out.extend_from_slice(&[one.ton, one.npi]);
        c_octets(&mut out, one.address, ADDRESS_MAX);
        out.extend_from_slice(&one.command_status.to_be_bytes());
    }
    out
}

fn c_octets(out: &mut Vec<u8>, value: &[u8], max: usize) {
    let value = &value[..value.len().min(max)];
    out.extend(value.iter().copied().filter(|octet| *octet != 0));
    out.push(0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// service_type, source 5/0 "Acme", two numbers and a list, then what submit_sm has.
    const BODY: &[u8] = b"\0\x05\x00Acme\0\x03\
        \x01\x01\x01447700900123\0\x02team\0\x01\x01\x01447700900124\0\
        \x03\x00\x01\0\0\x01\x00\x00\x00\x05hello\x02\x04\x00\x02\x00\x07";

    #[test]
    fn destinations_of_both_kinds_are_read_in_order() {
        let multi = SubmitMulti::decode(BODY).unwrap();
        assert_eq!(
            multi.destinations,
            [
                Destination::Sme {
                    ton: 1,
                    npi: 1,
                    address: b"447700900123"
                },
                Destination::List { name: b"team" },
                Destination::Sme {
                    ton: 1,
                    npi: 1,
                    address: b"447700900124"
                },
            ]
        );
        assert_eq!(multi.sm.source_addr, b"Acme");
        assert_eq!((multi.sm.esm_class, multi.sm.priority_flag), (3, 1));
        assert_eq!(multi.sm.short_message, b"hello");
        assert_eq!(multi.sm.tlvs.integer(0x0204), Some(7));
    }

    #[test]
    fn what_is_wrong_has_its_own_status() {
        let no_destination = b"\0\x05\x00Acme\0\x00";
        assert_eq!(
            SubmitMulti::decode(no_destination),
            Err(status::ESME_RINVNUMDESTS)
        );
        let flag = b"\0\x05\x00Acme\0\x01\x07";
        assert_eq!(SubmitMulti::decode(flag), Err(status::ESME_RINVDESTFLAG));
        let short = b"\0\x05\x00Acme\0\x02\x01\x01\x01447700900123\0";
        assert_eq!(SubmitMulti::decode(short), Err(status::ESME_RINVCMDLEN));
    }

    #[test]
    fn a_response_counts_and_names_the_failures() {
        let failed = [Unsuccess {
            ton: 1,
            npi: 1,
            address: b"4477",
            command_status: status::ESME_RINVDSTADR,
        }];
        assert_eq!(
            submit_multi_resp("7f", &failed),
            b"7f\0\x01\x01\x014477\0\x00\x00\x00\x0b"
        );
        assert_eq!(submit_multi_resp("7f", &[]), b"7f\0\x00");
    }

    proptest! {
        #[test]
        fn any_octets_are_a_submit_multi_or_not(octets: Vec<u8>) {
            if let Ok(multi) = SubmitMulti::decode(&octets) {
                prop_assert!((1..=DESTINATIONS_MAX).contains(&multi.destinations.len()));
            }
        }
    }
}
