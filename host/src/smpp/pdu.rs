//! SMPP 3.4 PDUs as views over a frame: framing and decoding, lenient where the field is and strict
//! where memory is at stake. `encode` is the other direction; sessions and sockets are elsewhere.

use std::fmt;

pub use super::decode::decode;
pub use super::encode::{EncodeError, encode};
pub use super::multi::{Destination, SubmitMulti, Unsuccess, submit_multi_resp};
use super::status;
pub use super::tlv::{TlvBuf, TlvIter, TlvRef, Tlvs, tag};

pub const HEADER_LEN: usize = 16;
/// The longest PDU taken: message_payload may hold 64 KiB (SMPP 3.4, 5.3.2.32), less its frame.
pub const COMMAND_LENGTH_MAX: usize = 65_536;
/// The longest C-octet string taken in any field. The specification's limits are shorter and
/// peers exceed them; beyond this the field's ESME_RINV status is the answer.
pub const C_OCTETS_MAX: usize = 255;

/// command_id values (SMPP 3.4, 5.1.2.1). An open set: vendors have their own.
pub mod command_id {
    pub const RESPONSE: u32 = 0x8000_0000;
    pub const GENERIC_NACK: u32 = 0x8000_0000;
    pub const BIND_RECEIVER: u32 = 0x01;
    pub const BIND_RECEIVER_RESP: u32 = 0x8000_0001;
    pub const BIND_TRANSMITTER: u32 = 0x02;
    pub const BIND_TRANSMITTER_RESP: u32 = 0x8000_0002;
    pub const QUERY_SM: u32 = 0x03;
    pub const QUERY_SM_RESP: u32 = 0x8000_0003;
    pub const SUBMIT_SM: u32 = 0x04;
    pub const SUBMIT_SM_RESP: u32 = 0x8000_0004;
    pub const DELIVER_SM: u32 = 0x05;
    pub const DELIVER_SM_RESP: u32 = 0x8000_0005;
    pub const UNBIND: u32 = 0x06;
    pub const UNBIND_RESP: u32 = 0x8000_0006;
    pub const REPLACE_SM: u32 = 0x07;
    pub const REPLACE_SM_RESP: u32 = 0x8000_0007;
    pub const CANCEL_SM: u32 = 0x08;
    pub const CANCEL_SM_RESP: u32 = 0x8000_0008;
    pub const BIND_TRANSCEIVER: u32 = 0x09;
    pub const BIND_TRANSCEIVER_RESP: u32 = 0x8000_0009;
    pub const OUTBIND: u32 = 0x0B;
    pub const ENQUIRE_LINK: u32 = 0x15;
    pub const ENQUIRE_LINK_RESP: u32 = 0x8000_0015;
    pub const SUBMIT_MULTI: u32 = 0x21;
    pub const SUBMIT_MULTI_RESP: u32 = 0x8000_0021;
    pub const ALERT_NOTIFICATION: u32 = 0x102;
    pub const DATA_SM: u32 = 0x103;
    pub const DATA_SM_RESP: u32 = 0x8000_0103;

    pub fn is_response(command_id: u32) -> bool {
        command_id & RESPONSE != 0
    }

    /// The specification's name, `unknown` for vendors' own.
    pub fn name(command_id: u32) -> &'static str {
        match command_id {
            GENERIC_NACK => "generic_nack",
            BIND_RECEIVER => "bind_receiver",
            BIND_RECEIVER_RESP => "bind_receiver_resp",
            BIND_TRANSMITTER => "bind_transmitter",
            BIND_TRANSMITTER_RESP => "bind_transmitter_resp",
            QUERY_SM => "query_sm",
            QUERY_SM_RESP => "query_sm_resp",
            SUBMIT_SM => "submit_sm",
            SUBMIT_SM_RESP => "submit_sm_resp",
            DELIVER_SM => "deliver_sm",
            DELIVER_SM_RESP => "deliver_sm_resp",
            UNBIND => "unbind",
            UNBIND_RESP => "unbind_resp",
            REPLACE_SM => "replace_sm",
            REPLACE_SM_RESP => "replace_sm_resp",
            CANCEL_SM => "cancel_sm",
            CANCEL_SM_RESP => "cancel_sm_resp",
            BIND_TRANSCEIVER => "bind_transceiver",
            BIND_TRANSCEIVER_RESP => "bind_transceiver_resp",
            OUTBIND => "outbind",
            ENQUIRE_LINK => "enquire_link",
            ENQUIRE_LINK_RESP => "enquire_link_resp",
            SUBMIT_MULTI => "submit_multi",
            SUBMIT_MULTI_RESP => "submit_multi_resp",
            ALERT_NOTIFICATION => "alert_notification",
            DATA_SM => "data_sm",
            DATA_SM_RESP => "data_sm_resp",
            _ => "unknown",
        }
    }
}

/// esm_class bits (SMPP 3.4, 5.2.12).
pub mod esm_class {
    /// Message type bits of a deliver_sm: 0 is an ordinary mobile-originated message.
    pub const TYPE_MASK: u8 = 0x3C;
    pub const DELIVERY_RECEIPT: u8 = 0x04;
    pub const INTERMEDIATE_NOTIFICATION: u8 = 0x20;
    /// Messaging mode bits of a submit_sm: 0 the SMSC's default, 1 datagram, 2 forward, 3 store and forward.
    pub const MODE_MASK: u8 = 0x03;
    /// The message begins with a user data header.
    pub const UDHI: u8 = 0x40;
    pub const REPLY_PATH: u8 = 0x80;
}

/// What stands at the front of a receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Incomplete,
    /// A whole PDU of that many octets.
    Frame(usize),
    /// A command_length below 16 or above [`COMMAND_LENGTH_MAX`]: the stream cannot be followed any
    /// further. Answer generic_nack with ESME_RINVCMDLEN and close.
    Bad(u32),
}

/// Looks at command_length alone, before anything is read, kept or allocated.
pub fn frame(buffer: &[u8]) -> Framing {
    let Some(head) = buffer.first_chunk::<4>() else {
        return Framing::Incomplete;
    };
    let command_length = u32::from_be_bytes(*head);
    let length = command_length as usize;
    if !(HEADER_LEN..=COMMAND_LENGTH_MAX).contains(&length) {
        Framing::Bad(command_length)
    } else if buffer.len() < length {
        Framing::Incomplete
    } else {
        Framing::Frame(length)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub command_length: u32,
    pub command_id: u32,
    pub command_status: u32,
    pub sequence_number: u32,
}

impl Header {
    /// The first 16 octets; none where there are fewer.
    pub fn parse(frame: &[u8]) -> Option<Header> {
        let octets = frame.first_chunk::<HEADER_LEN>()?;
        let word =
            |i: usize| u32::from_be_bytes([octets[i], octets[i + 1], octets[i + 2], octets[i + 3]]);
        Some(Header {
            command_length: word(0),
            command_id: word(4),
            command_status: word(8),
            sequence_number: word(12),
        })
    }
}

/// A decoded PDU, or one to be encoded. command_length and command_id follow from the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pdu<'a> {
    pub command_status: u32,
    pub sequence_number: u32,
    pub body: Body<'a>,
}

/// The parameters of each PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    GenericNack,
    BindReceiver(Bind<'a>),
    BindReceiverResp(BindResp<'a>),
    BindTransmitter(Bind<'a>),
    BindTransmitterResp(BindResp<'a>),
    BindTransceiver(Bind<'a>),
    BindTransceiverResp(BindResp<'a>),
    Outbind(Outbind<'a>),
    Unbind,
    UnbindResp,
    EnquireLink,
    EnquireLinkResp,
    SubmitSm(Sm<'a>),
    SubmitSmResp(SmResp<'a>),
    DeliverSm(Sm<'a>),
    DeliverSmResp(SmResp<'a>),
    DataSm(DataSm<'a>),
    DataSmResp(SmResp<'a>),
    QuerySm(QuerySm<'a>),
    QuerySmResp(QuerySmResp<'a>),
    CancelSm(CancelSm<'a>),
    CancelSmResp,
    ReplaceSm(ReplaceSm<'a>),
    ReplaceSmResp,
    AlertNotification(AlertNotification<'a>),
    /// Any other command, as it came: submit_multi, vendors' own.
    Other {
        command_id: u32,
        octets: &'a [u8],
    },
}

/// bind_transmitter, bind_receiver, bind_transceiver (SMPP 3.4, 4.1.1, 4.1.3, 4.1.5).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Bind<'a> {
    pub system_id: &'a [u8],
    pub password: &'a [u8],
    pub system_type: &'a [u8],
    pub interface_version: u8,
    pub addr_ton: u8,
    pub addr_npi: u8,
    pub address_range: &'a [u8],
}

/// SMPP 3.4, 4.1.2, 4.1.4, 4.1.6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindResp<'a> {
    pub system_id: &'a [u8],
    pub tlvs: Tlvs<'a>,
}

/// SMPP 3.4, 4.1.7.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Outbind<'a> {
    pub system_id: &'a [u8],
    pub password: &'a [u8],
}

/// submit_sm and deliver_sm, which have one layout (SMPP 3.4, 4.4.1 and 4.6.1).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Sm<'a> {
    pub service_type: &'a [u8],
    pub source_addr_ton: u8,
    pub source_addr_npi: u8,
    pub source_addr: &'a [u8],
    pub dest_addr_ton: u8,
    pub dest_addr_npi: u8,
    pub destination_addr: &'a [u8],
    pub esm_class: u8,
    pub protocol_id: u8,
    pub priority_flag: u8,
    pub schedule_delivery_time: &'a [u8],
    pub validity_period: &'a [u8],
    pub registered_delivery: u8,
    pub replace_if_present_flag: u8,
    pub data_coding: u8,
    pub sm_default_msg_id: u8,
    pub short_message: &'a [u8],
    pub tlvs: Tlvs<'a>,
}

/// submit_sm_resp, deliver_sm_resp, data_sm_resp (SMPP 3.4, 4.4.2, 4.6.2, 4.7.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SmResp<'a> {
    pub message_id: &'a [u8],
    pub tlvs: Tlvs<'a>,
}

/// SMPP 3.4, 4.7.1.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct DataSm<'a> {
    pub service_type: &'a [u8],
    pub source_addr_ton: u8,
    pub source_addr_npi: u8,
    pub source_addr: &'a [u8],
    pub dest_addr_ton: u8,
    pub dest_addr_npi: u8,
    pub destination_addr: &'a [u8],
    pub esm_class: u8,
    pub registered_delivery: u8,
    pub data_coding: u8,
    pub tlvs: Tlvs<'a>,
}

/// SMPP 3.4, 4.8.1.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct QuerySm<'a> {
    pub message_id: &'a [u8],
    pub source_addr_ton: u8,
    pub source_addr_npi: u8,
    pub source_addr: &'a [u8],
}

/// SMPP 3.4, 4.8.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuerySmResp<'a> {
    pub message_id: &'a [u8],
    pub final_date: &'a [u8],
    pub message_state: u8,
    pub error_code: u8,
}

/// SMPP 3.4, 4.9.1.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct CancelSm<'a> {
    pub service_type: &'a [u8],
    pub message_id: &'a [u8],
    pub source_addr_ton: u8,
    pub source_addr_npi: u8,
    pub source_addr: &'a [u8],
    pub dest_addr_ton: u8,
    pub dest_addr_npi: u8,
    pub destination_addr: &'a [u8],
}

/// SMPP 3.4, 4.10.1.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplaceSm<'a> {
    pub message_id: &'a [u8],
    pub source_addr_ton: u8,
    pub source_addr_npi: u8,
    pub source_addr: &'a [u8],
    pub schedule_delivery_time: &'a [u8],
    pub validity_period: &'a [u8],
    pub registered_delivery: u8,
    pub sm_default_msg_id: u8,
    pub short_message: &'a [u8],
}

/// SMPP 3.4, 4.12.1: a handset is back. It has no response.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct AlertNotification<'a> {
    pub source_addr_ton: u8,
    pub source_addr_npi: u8,
    /// The handset.
    pub source_addr: &'a [u8],
    pub esme_addr_ton: u8,
    pub esme_addr_npi: u8,
    /// Who asked to be told.
    pub esme_addr: &'a [u8],
    pub tlvs: Tlvs<'a>,
}

/// A body that cannot be read. The header survives, so the peer gets an answer to its request
/// and the session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    pub header: Header,
    /// The parameter at fault, by its name in the specification.
    pub field: &'static str,
    /// What to answer.
    pub command_status: u32,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the peer's {} has a bad {} ({})",
            command_id::name(self.header.command_id),
            self.field,
            status::describe(self.command_status)
        )
    }
}

impl std::error::Error for DecodeError {}

impl DecodeError {
    /// The answer that the peer is owed; none where the broken PDU was itself a response, or is of a
    /// kind that has none.
    pub fn response(&self) -> Option<Pdu<'static>> {
        let owed = !command_id::is_response(self.header.command_id)
            && self.header.command_id != command_id::ALERT_NOTIFICATION;
        owed.then(|| {
            reject(
                self.header.command_id,
                self.header.sequence_number,
                self.command_status,
            )
        })
    }
}

/// The error response to a request: its own resp without a body, or generic_nack where the
/// specification knows none.
pub fn reject(command_id: u32, sequence_number: u32, command_status: u32) -> Pdu<'static> {
    let body = match command_id {
        command_id::BIND_RECEIVER => Body::BindReceiverResp(BindResp::default()),
        command_id::BIND_TRANSMITTER => Body::BindTransmitterResp(BindResp::default()),
        command_id::BIND_TRANSCEIVER => Body::BindTransceiverResp(BindResp::default()),
        command_id::UNBIND => Body::UnbindResp,
        command_id::ENQUIRE_LINK => Body::EnquireLinkResp,
        command_id::SUBMIT_SM => Body::SubmitSmResp(SmResp::default()),
        command_id::DELIVER_SM => Body::DeliverSmResp(SmResp::default()),
        command_id::DATA_SM => Body::DataSmResp(SmResp::default()),
        command_id::QUERY_SM => Body::QuerySmResp(QuerySmResp::default()),
        command_id::CANCEL_SM => Body::CancelSmResp,
        command_id::REPLACE_SM => Body::ReplaceSmResp,
        command_id::SUBMIT_MULTI => Body::Other {
            command_id: command_id::SUBMIT_MULTI_RESP,
            octets: &[],
        },
        _ => Body::GenericNack,
    };
    Pdu {
        command_status,
        sequence_number,
        body,
    }
}

impl<'a> Pdu<'a> {
    pub fn request(sequence_number: u32, body: Body<'a>) -> Pdu<'a> {
        Pdu {
            command_status: status::ESME_ROK,
            sequence_number,
            body,
        }
    }

    pub fn response(sequence_number: u32, command_status: u32, body: Body<'a>) -> Pdu<'a> {
        Pdu {
            command_status,
            sequence_number,
            body,
        }
    }

    pub fn command_id(&self) -> u32 {
        self.body.command_id()
    }

    pub fn is_response(&self) -> bool {
        command_id::is_response(self.command_id())
    }
}

impl Body<'_> {
    pub fn command_id(&self) -> u32 {
        match self {
            Body::GenericNack => command_id::GENERIC_NACK,
            Body::BindReceiver(_) => command_id::BIND_RECEIVER,
            Body::BindReceiverResp(_) => command_id::BIND_RECEIVER_RESP,
            Body::BindTransmitter(_) => command_id::BIND_TRANSMITTER,
            Body::BindTransmitterResp(_) => command_id::BIND_TRANSMITTER_RESP,
            Body::BindTransceiver(_) => command_id::BIND_TRANSCEIVER,
            Body::BindTransceiverResp(_) => command_id::BIND_TRANSCEIVER_RESP,
            Body::Outbind(_) => command_id::OUTBIND,
            Body::Unbind => command_id::UNBIND,
            Body::UnbindResp => command_id::UNBIND_RESP,
            Body::EnquireLink => command_id::ENQUIRE_LINK,
            Body::EnquireLinkResp => command_id::ENQUIRE_LINK_RESP,
            Body::SubmitSm(_) => command_id::SUBMIT_SM,
            Body::SubmitSmResp(_) => command_id::SUBMIT_SM_RESP,
            Body::DeliverSm(_) => command_id::DELIVER_SM,
            Body::DeliverSmResp(_) => command_id::DELIVER_SM_RESP,
            Body::DataSm(_) => command_id::DATA_SM,
            Body::DataSmResp(_) => command_id::DATA_SM_RESP,
            Body::QuerySm(_) => command_id::QUERY_SM,
            Body::QuerySmResp(_) => command_id::QUERY_SM_RESP,
            Body::CancelSm(_) => command_id::CANCEL_SM,
            Body::CancelSmResp => command_id::CANCEL_SM_RESP,
            Body::ReplaceSm(_) => command_id::REPLACE_SM,
            Body::ReplaceSmResp => command_id::REPLACE_SM_RESP,
            Body::AlertNotification(_) => command_id::ALERT_NOTIFICATION,
            Body::Other { command_id, .. } => *command_id,
        }
    }
}

impl<'a> Sm<'a> {
    /// The message, wherever the sender put it: short_message, else the message_payload parameter
    /// (SMPP 3.4, 3.2.3: not both; where both came, short_message counts).
    pub fn payload(&self) -> &'a [u8] {
        if self.short_message.is_empty() {
            self.tlvs.get(tag::MESSAGE_PAYLOAD).unwrap_or_default()
        } else {
            self.short_message
        }
    }

    pub fn has_udh(&self) -> bool {
        self.esm_class & esm_class::UDHI != 0
    }
}

impl<'a> DataSm<'a> {
    pub fn payload(&self) -> &'a [u8] {
        self.tlvs.get(tag::MESSAGE_PAYLOAD).unwrap_or_default()
    }

    /// The same message in the layout of submit_sm, so that receivers know one shape only.
    pub fn as_sm(&self) -> Sm<'a> {
        Sm {
            service_type: self.service_type,
            source_addr_ton: self.source_addr_ton,
            source_addr_npi: self.source_addr_npi,
            source_addr: self.source_addr,
            dest_addr_ton: self.dest_addr_ton,
            dest_addr_npi: self.dest_addr_npi,
            destination_addr: self.destination_addr,
            esm_class: self.esm_class,
            registered_delivery: self.registered_delivery,
            data_coding: self.data_coding,
            tlvs: self.tlvs,
            ..Sm::default()
        }
    }
}

/// Bodies hold message text, whole numbers and passwords, which may not reach a log: `Debug` shows
/// lengths and flags alone.
macro_rules! reticent {
    ($name:ident: $($shown:ident),* ; $($hidden:ident),*) => {
        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    $(.field(stringify!($shown), &self.$shown))*
                    $(.field(stringify!($hidden), &format_args!("({} octets)", self.$hidden.len())))*
                    .finish()
            }
        }
    };
}

reticent!(Bind: interface_version, addr_ton, addr_npi; system_id, password, system_type, address_range);
reticent!(Outbind: ; system_id, password);
reticent!(Sm: esm_class, data_coding, registered_delivery, priority_flag, tlvs; source_addr, destination_addr, short_message);
reticent!(DataSm: esm_class, data_coding, registered_delivery, tlvs; source_addr, destination_addr);
reticent!(QuerySm: ; message_id, source_addr);
reticent!(CancelSm: ; message_id, source_addr, destination_addr);
reticent!(AlertNotification: tlvs; source_addr, esme_addr);
reticent!(ReplaceSm: registered_delivery; message_id, source_addr, short_message);
