//! How one carrier wants text: its default alphabet, its data_coding values, how long messages are
//! tied together, how a message class is told. Settings and what follows from them; writes no octet.

use super::segment::Reference;
use super::{Charset, gsm};

/// A carrier's ways. The default is SMPP 3.4 as most SMSCs have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextStyle {
    pub multipart: Multipart,
    pub default_alphabet: DefaultAlphabet,
    pub data_coding: DataCodings,
    /// Text that ISO-8859-1 holds and GSM does not travels in it, 140 octets a message.
    pub latin1: bool,
    /// National shift tables never reach it where false.
    pub no_shift_tables: bool,
    /// Texts are rewritten where that saves segments and their client does not say.
    pub transliterate: bool,
    pub message_class: ClassStyle,
}

/// How the parts of a long message are tied together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Multipart {
    /// By a user data header with an 8-bit reference (3GPP TS 23.040, 9.2.3.24.1).
    #[default]
    Udh8,
    /// By one with a 16-bit reference (9.2.3.24.8).
    Udh16,
    /// By sar_msg_ref_num, sar_total_segments and sar_segment_seqnum (SMPP 3.4, 5.3.2.22 to 24);
    /// the SMSC makes the header.
    Sar,
    /// Not by us: the whole text in message_payload (SMPP 3.4, 5.3.2.32), and the SMSC cuts.
    Payload,
}

impl Multipart {
    /// The reference in the header of each part as it reaches the phone; SMSCs that write it
    /// themselves write the short one.
    pub fn reference(self, number: u16) -> Reference {
        match self {
            Multipart::Udh16 => Reference::Bits16(number),
            Multipart::Udh8 | Multipart::Sar | Multipart::Payload => {
                Reference::Bits8((number & 0xFF) as u8)
            }
        }
    }

    /// A header of our own leaves an SMSC no place for its: such parts are tied together by us.
    pub fn beside(self, elements: &[u8]) -> Multipart {
        match self {
            Multipart::Sar | Multipart::Payload if !elements.is_empty() => Multipart::Udh8,
            own => own,
        }
    }
}

/// What a carrier reads octets under its default data_coding as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultAlphabet {
    /// 3GPP TS 23.038, 6.2.1: one septet an octet.
    #[default]
    Gsm7,
    /// ISO-8859-1, which the SMSC turns into GSM.
    Latin1,
    /// IA5 (ITU-T T.50), which the SMSC turns into GSM.
    Ascii,
}

impl DefaultAlphabet {
    /// The octet of a character of the GSM default alphabet.
    pub fn octet(self, character: char) -> Option<u8> {
        match self {
            DefaultAlphabet::Gsm7 => None,
            DefaultAlphabet::Latin1 => latin1(character),
            DefaultAlphabet::Ascii => latin1(character).filter(u8::is_ascii),
        }
    }
}

/// The octet of a character of ISO-8859-1 that a phone can show.
pub fn latin1(character: char) -> Option<u8> {
    match character {
        '\n' | '\r' | ' '..='~' | '\u{a0}'..='\u{ff}' => u8::try_from(u32::from(character)).ok(),
        _ => None,
    }
}

/// The data_coding of each alphabet (SMPP 3.4, 5.2.19).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataCodings {
    /// Of the carrier's default alphabet.
    pub default: u8,
    pub latin1: u8,
    pub ucs2: u8,
    pub octets: u8,
}

impl Default for DataCodings {
    fn default() -> DataCodings {
        DataCodings {
            default: 0,
            latin1: 3,
            ucs2: 8,
            octets: 4,
        }
    }
}

/// How a message class (3GPP TS 23.038, 4) is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClassStyle {
    /// data_coding 0x10 to 0x1B: general data coding.
    #[default]
    General,
    /// data_coding 0xF0 to 0xF7, the group "data coding and message class"; UCS-2, for which it has
    /// no room, as `General`.
    GroupF,
    /// The parameter dest_addr_subunit (SMPP 3.4, 5.3.2.1).
    Subunit,
}

/// What octets are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Gsm7,
    /// GSM text in the carrier's own default alphabet, counted as GSM.
    Default(DefaultAlphabet),
    Latin1,
    Ucs2,
    Octets,
}

impl Wire {
    pub fn name(self) -> &'static str {
        match self {
            Wire::Gsm7 => "gsm7",
            Wire::Default(DefaultAlphabet::Gsm7) => "gsm7",
            Wire::Default(DefaultAlphabet::Ascii) => "ascii",
            Wire::Default(DefaultAlphabet::Latin1) | Wire::Latin1 => "latin1",
            Wire::Ucs2 => "ucs2",
            Wire::Octets => "octets",
        }
    }
}

/// What a submit_sm says of its octets beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    pub data_coding: u8,
    /// dest_addr_subunit.
    pub dest_addr_subunit: Option<u8>,
}

impl TextStyle {
    /// Whether a class is told by data_coding, which then names the alphabet too.
    fn class_in_data_coding(&self, class: Option<u8>) -> bool {
        class.is_some() && self.message_class != ClassStyle::Subunit
    }

    /// What GSM text is written as; none: this carrier cannot take this text so.
    pub fn gsm_wire(&self, text: &str, class: Option<u8>) -> Option<Wire> {
        let alphabet = self.default_alphabet;
        // A data coding scheme with a class means the alphabet of 3GPP TS 23.038.
        if alphabet == DefaultAlphabet::Gsm7 || self.class_in_data_coding(class) {
            return Some(Wire::Gsm7);
        }
        let holds = text.chars().all(|c| alphabet.octet(c).is_some());
        holds.then_some(Wire::Default(alphabet))
    }

    /// Whether text may travel as ISO-8859-1.
    pub fn takes_latin1(&self, text: &str, class: Option<u8>) -> bool {
        self.latin1
            && !self.class_in_data_coding(class)
            && text.chars().all(|c| latin1(c).is_some())
    }

    pub fn takes_shift_tables(&self) -> bool {
        !self.no_shift_tables && self.default_alphabet == DefaultAlphabet::Gsm7
    }

    pub fn labels(&self, wire: Wire, class: Option<u8>) -> Labels {
        let codings = &self.data_coding;
        let plain = match wire {
            Wire::Gsm7 | Wire::Default(_) => codings.default,
            Wire::Latin1 => codings.latin1,
            Wire::Ucs2 => codings.ucs2,
            Wire::Octets => codings.octets,
        };
        let Some(class) = class.map(|c| c & 3) else {
            return Labels {
                data_coding: plain,
                dest_addr_subunit: None,
            };
        };
        // Bits 3 and 2 of both groups: GSM, octets, UCS-2.
        let general = match wire {
            Wire::Gsm7 | Wire::Default(_) | Wire::Latin1 => 0x10,
            Wire::Octets => 0x14,
            Wire::Ucs2 => 0x18,
        };
        match self.message_class {
            // 1 is the display, 2 the phone, 3 the card, 4 what is connected to it.
            ClassStyle::Subunit => Labels {
                data_coding: plain,
                dest_addr_subunit: Some(class + 1),
            },
            ClassStyle::GroupF if wire != Wire::Ucs2 => Labels {
                data_coding: general | 0xF0 | class,
                dest_addr_subunit: None,
            },
            ClassStyle::General | ClassStyle::GroupF => Labels {
                data_coding: general | class,
                dest_addr_subunit: None,
            },
        }
    }

    /// What text under this data_coding is, mobile-originated: the default one by the carrier's
    /// default alphabet, the others by SMPP.
    pub fn inbound_data_coding(&self, data_coding: u8) -> u8 {
        let codings = &self.data_coding;
        let default = DataCodings::default();
        match self.default_alphabet {
            DefaultAlphabet::Latin1 | DefaultAlphabet::Ascii if data_coding == codings.default => {
                default.latin1
            }
            DefaultAlphabet::Gsm7 if data_coding == codings.default => default.default,
            _ if data_coding == codings.ucs2 => default.ucs2,
            _ if data_coding == codings.latin1 => default.latin1,
            _ if data_coding == codings.octets => default.octets,
            _ => data_coding,
        }
    }
}

/// What binary data of a message with a data_coding of its own is counted in, and cut by.
pub fn charset_of(data_coding: Option<u8>) -> Charset {
    data_coding.map_or(Charset::Octets, Charset::of)
}

/// Whether septets of the default alphabet, ending here, end inside a pair.
pub fn ends_in_escape(septets: &[u8]) -> bool {
    // Of a row of escapes each second one is the first of a pair.
    let row = septets.iter().rev().take_while(|s| **s == gsm::ESCAPE);
    row.count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_told_as_the_carrier_wants_them() {
        let told = |message_class, wire| {
            let style = TextStyle {
                message_class,
                ..TextStyle::default()
            };
            let labels = style.labels(wire, Some(0));
            (labels.data_coding, labels.dest_addr_subunit)
        };
        assert_eq!(told(ClassStyle::General, Wire::Gsm7), (0x10, None));
        assert_eq!(told(ClassStyle::General, Wire::Ucs2), (0x18, None));
        assert_eq!(told(ClassStyle::General, Wire::Octets), (0x14, None));
        assert_eq!(told(ClassStyle::GroupF, Wire::Gsm7), (0xF0, None));
        assert_eq!(told(ClassStyle::GroupF, Wire::Octets), (0xF4, None));
        assert_eq!(told(ClassStyle::GroupF, Wire::Ucs2), (0x18, None));
        assert_eq!(told(ClassStyle::Subunit, Wire::Gsm7), (0, Some(1)));
        assert_eq!(told(ClassStyle::Subunit, Wire::Ucs2), (8, Some(1)));
        let none = TextStyle::default().labels(Wire::Ucs2, None);
        assert_eq!((none.data_coding, none.dest_addr_subunit), (8, None));
    }

    #[test]
    fn inbound_codings_are_read_by_the_carriers_own_numbers() {
        let style = TextStyle {
            default_alphabet: DefaultAlphabet::Latin1,
            data_coding: DataCodings {
                ucs2: 0x18,
                ..DataCodings::default()
            },
            ..TextStyle::default()
        };
        assert_eq!(style.inbound_data_coding(0), 3);
        assert_eq!(style.inbound_data_coding(0x18), 8);
        assert_eq!(style.inbound_data_coding(8), 8);
        assert_eq!(style.inbound_data_coding(0xF0), 0xF0);
        let plain = TextStyle::default();
        assert!((0..=255).all(|dc| plain.inbound_data_coding(dc) == dc));
    }

    #[test]
    fn a_row_of_escapes_is_read_in_pairs() {
        assert!(!ends_in_escape(b"a"));
        assert!(ends_in_escape(b"a\x1b"));
        assert!(!ends_in_escape(b"a\x1b\x1b"));
        assert!(ends_in_escape(b"\x1b\x1b\x1b"));
    }
}
