//! What a submission says of its way beside addresses and text: the parameters of submit_sm (SMPP
//! 3.4, 5.2) in the client's words, which receipts it wants, and which door it came by.

use super::cut::Cut;
use super::text::{Manner, TextWish};

/// Parameters of submit_sm that a client may set for one message. The default says nothing: the
/// carrier's own settings hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SmParameters {
    /// SMPP 3.4, 5.2.11; at most 5 octets. Empty: the carrier's.
    pub service_type: String,
    /// 3GPP TS 23.040, 9.2.3.9.
    pub protocol_id: Option<u8>,
    /// 0 to 3 (SMPP 3.4, 5.2.14). None: by the message's class.
    pub priority_flag: Option<u8>,
    /// SMPP 3.4, 5.2.18.
    pub replace_if_present: bool,
    /// Sent as it is, for binary messages. None: by the alphabet and `message_class`.
    pub data_coding: Option<u8>,
    /// 0 to 3; 0 is shown at once and not kept (3GPP TS 23.038, 4).
    pub message_class: Option<u8>,
    /// A text that the SMSC keeps; 0: none (SMPP 3.4, 5.2.20).
    pub sm_default_msg_id: u8,
    /// esm_class bit 7 (SMPP 3.4, 5.2.12).
    pub reply_path: bool,
    /// esm_class bits 1 and 0: 0 default, 1 datagram, 2 forward, 3 store and forward.
    pub messaging_mode: u8,
    pub receipts: ReceiptsWanted,
    /// One part of a longer message, as the client cut it. Boxed: few messages are.
    pub cut: Option<Box<Cut>>,
    /// In which encodings a text may travel.
    pub text: TextWish,
}

impl SmParameters {
    /// What they say of the octets.
    pub fn manner(&self) -> Manner {
        Manner {
            wish: self.text,
            message_class: self.message_class,
            data_coding: self.data_coding,
        }
    }
}

/// What a client wants to hear of its message: registered_delivery (SMPP 3.4, 5.2.17).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiptsWanted {
    pub last: FinalReceipt,
    /// Bit 4.
    pub intermediate: bool,
    /// Bits 3 and 2: acknowledgements by the recipient's handset or its user.
    pub sme_acknowledgement: u8,
}

/// Bits 1 and 0 of registered_delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum FinalReceipt {
    /// Over HTTP every change of state is told where a URL is known.
    #[default]
    Always = 1,
    Never = 0,
    OnFailure = 2,
    /// 3 is reserved in SMPP 3.4 and means this in 5.0, 4.7.21.
    OnSuccess = 3,
}

impl FinalReceipt {
    pub fn from_bits(bits: u8) -> FinalReceipt {
        match bits & 3 {
            0 => FinalReceipt::Never,
            1 => FinalReceipt::Always,
            2 => FinalReceipt::OnFailure,
            _ => FinalReceipt::OnSuccess,
        }
    }

    /// Whether a message that ended so is reported.
    pub fn wants(self, delivered: bool) -> bool {
        match self {
            FinalReceipt::Always => true,
            FinalReceipt::Never => false,
            FinalReceipt::OnFailure => !delivered,
            FinalReceipt::OnSuccess => delivered,
        }
    }
}

impl ReceiptsWanted {
    pub fn from_registered_delivery(octet: u8) -> ReceiptsWanted {
        ReceiptsWanted {
            last: FinalReceipt::from_bits(octet),
            intermediate: octet & 0x10 != 0,
            sme_acknowledgement: octet >> 2 & 3,
        }
    }

    pub fn registered_delivery(self) -> u8 {
        self.last as u8 | u8::from(self.intermediate) << 4 | (self.sme_acknowledgement & 3) << 2
    }
}

/// The door a message came by: where its receipts go back to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    #[default]
    Http,
    /// A bind of the account with this system_id.
    Smpp { system_id: String },
}

impl Source {
    pub fn system_id(&self) -> Option<&str> {
        match self {
            Source::Http => None,
            Source::Smpp { system_id } => Some(system_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registered_delivery_survives_both_ways() {
        for octet in 0..=0x1F {
            let wanted = ReceiptsWanted::from_registered_delivery(octet);
            assert_eq!(wanted.registered_delivery(), octet);
        }
    }

    #[test]
    fn receipts_are_wanted_by_outcome() {
        let wants = |octet| {
            let last = ReceiptsWanted::from_registered_delivery(octet).last;
            (last.wants(true), last.wants(false))
        };
        assert_eq!(wants(0), (false, false));
        assert_eq!(wants(1), (true, true));
        assert_eq!(wants(2), (false, true));
        assert_eq!(wants(3), (true, false));
    }
}
