//! Text as it travels: alphabets, segments, user data headers (3GPP TS 23.038 and 23.040;
//! SMPP 3.4, 5.2.19). Owns the octets of short_message in both directions; deliberately knows no
//! PDU and no carrier.

mod choice;
mod cluster;
pub mod gsm;
mod language;
mod render;
mod replacements;
mod segment;
pub mod shift;
mod shift_tables;
mod style;
mod transliterate;
mod udh;

use super::message::Body;

pub use choice::{EncodingWish, Languages, TextWish};
pub use language::{Language, ShiftTables};
pub use render::{Manner, Rewritten, Segment, Segmented, plan, plan_for, render, segment};
pub use segment::{ESM_CLASS_UDHI, SEGMENTS_MAX, SegmentPlan, TextError, Unit};
pub use shift::{IE_LOCKING_SHIFT, IE_SINGLE_SHIFT};
pub use style::{ClassStyle, DataCodings, DefaultAlphabet, Multipart, TextStyle, Wire};
pub use transliterate::Change;
pub use udh::{
    Concat, Element, IE_CONCAT_8, IE_CONCAT_16, IE_PORTS_8, IE_PORTS_16, Udh, UdhError, parse_udh,
    ports_element,
};

/// Which alphabet a message travels in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Alphabet {
    Gsm7 = 0,
    Ucs2 = 1,
    Octets = 2,
}

impl Alphabet {
    pub const ALL: [Alphabet; 3] = [Alphabet::Gsm7, Alphabet::Ucs2, Alphabet::Octets];

    /// The cheapest alphabet that carries `text` unchanged.
    pub fn of(text: &str) -> Alphabet {
        match gsm::count(text) {
            Some(_) => Alphabet::Gsm7,
            None => Alphabet::Ucs2,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Alphabet::Gsm7 => "gsm7",
            Alphabet::Ucs2 => "ucs2",
            Alphabet::Octets => "octets",
        }
    }

    pub fn from_name(name: &str) -> Option<Alphabet> {
        Alphabet::ALL.into_iter().find(|a| a.name() == name)
    }

    pub fn from_u8(value: u8) -> Option<Alphabet> {
        Alphabet::ALL.get(usize::from(value)).copied()
    }

    /// The data_coding we send it under (SMPP 3.4, 5.2.19).
    pub fn data_coding(self) -> u8 {
        match self {
            Alphabet::Gsm7 => 0,
            Alphabet::Ucs2 => 8,
            Alphabet::Octets => 4,
        }
    }
}

/// The user data of one deliver_sm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedText {
    /// The user data header as it came, without its length octet; empty where there was none.
    pub udh: Vec<u8>,
    /// The content of this part. A binary body's header is `udh` without concatenation.
    pub body: Body,
    pub concat: Option<Concat>,
    /// The octets behind the header. To join parts, join these and call [`decode_payload`]: peers
    /// do cut surrogate and escape pairs in two, and the halves mean nothing alone.
    pub payload: Vec<u8>,
    /// What was wrong with the header. Where its lengths lie nothing in the octets can be
    /// trusted, so all of them are the body, as binary; a bad concatenation element alone is
    /// ignored (3GPP TS 23.040, 9.2.3.24.1).
    pub fault: Option<UdhError>,
}

/// Reads short_message (or message_payload) of a mobile-originated message; total, because a
/// message with a bad header is still a message. `udhi` is bit 6 of esm_class.
///
/// A carrier whose default alphabet (data_coding 0) is Latin-1 is read by passing 3 instead.
pub fn decode(data_coding: u8, udhi: bool, short_message: &[u8]) -> DecodedText {
    let whole = |data_coding, fault| DecodedText {
        udh: Vec::new(),
        body: decode_payload(data_coding, short_message),
        concat: None,
        payload: short_message.to_vec(),
        fault,
    };
    if !udhi {
        return whole(data_coding, None);
    }
    let (udh, payload) = match parse_udh(short_message) {
        Ok(parsed) => parsed,
        Err(fault) => return whole(DATA_CODING_OCTETS, Some(fault)),
    };
    let shift = ShiftTables::named_by(&udh);
    let body = match decode_shifted(data_coding, shift, payload) {
        Body::Binary { data, .. } => Body::Binary {
            udh: udh.without_concat(),
            data,
        },
        text @ Body::Text(_) => text,
    };
    let (concat, fault) = match udh.concat() {
        Ok(concat) => (concat, None),
        Err(fault) => (None, Some(fault)),
    };
    DecodedText {
        udh: udh.as_bytes().to_vec(),
        body,
        concat,
        payload: payload.to_vec(),
        fault,
    }
}

/// Reads octets without a user data header; total. What is no text, or text in a character set
/// we have no table for, is binary.
pub fn decode_payload(data_coding: u8, octets: &[u8]) -> Body {
    decode_shifted(data_coding, ShiftTables::default(), octets)
}

/// Reads what stood behind the header `udh`, given without its length octet and without
/// concatenation; total. Shift tables belong to the text; what else a header says, such as port
/// numbers, makes the message data for a program.
pub fn decode_content(data_coding: u8, udh: &[u8], payload: &[u8]) -> Body {
    let binary = |udh: &[u8]| Body::Binary {
        udh: udh.to_vec(),
        data: payload.to_vec(),
    };
    let Ok(header) = Udh::new(udh) else {
        return binary(udh);
    };
    let rest = header.without(|id| id == IE_SINGLE_SHIFT || id == IE_LOCKING_SHIFT);
    match decode_shifted(data_coding, ShiftTables::named_by(&header), payload) {
        text @ Body::Text(_) if rest.is_empty() => text,
        Body::Text(_) | Body::Binary { .. } => binary(udh),
    }
}

/// The content of a message from those of its parts, each as [`decode_content`] takes it. Octets are
/// joined before they are read, because phones cut pairs in two. A phone may write each part in
/// another alphabet or under other tables (3GPP TS 23.040, 9.2.3.24.15); texts of such parts are
/// joined as UTF-16, under data_coding 8. None where there is no part.
pub fn join_contents<'a>(
    parts: impl Iterator<Item = (u8, &'a [u8], &'a [u8])> + Clone,
) -> Option<(u8, Vec<u8>, Vec<u8>)> {
    let (data_coding, udh, _) = parts.clone().next()?;
    let mut octets = Vec::new();
    if parts.clone().all(|p| (p.0, p.1) == (data_coding, udh)) {
        parts.for_each(|(_, _, payload)| octets.extend_from_slice(payload));
        return Some((data_coding, udh.to_vec(), octets));
    }
    let texts = parts.clone().map(|(data_coding, udh, payload)| {
        match decode_content(data_coding, udh, payload) {
            Body::Text(text) => Some(text),
            Body::Binary { .. } => None,
        }
    });
    match texts.collect::<Option<Vec<String>>>() {
        Some(texts) => {
            for text in texts {
                encode_ucs2(&text, &mut octets);
            }
            Some((Alphabet::Ucs2.data_coding(), Vec::new(), octets))
        }
        None => {
            parts.for_each(|(_, _, payload)| octets.extend_from_slice(payload));
            Some((data_coding, udh.to_vec(), octets))
        }
    }
}

fn decode_shifted(data_coding: u8, shift: ShiftTables, octets: &[u8]) -> Body {
    match Charset::of(data_coding) {
        Charset::Gsm7 if shift.is_default() => Body::Text(gsm::decode(octets)),
        Charset::Gsm7 => Body::Text(shift::Codec::of(shift).decode(octets)),
        Charset::Latin1 => Body::Text(octets.iter().copied().map(char::from).collect()),
        Charset::Cyrillic => Body::Text(octets.iter().copied().map(cyrillic).collect()),
        Charset::Hebrew => Body::Text(octets.iter().copied().map(hebrew).collect()),
        Charset::Ucs2 => Body::Text(decode_ucs2(octets)),
        Charset::Octets => Body::Binary {
            udh: Vec::new(),
            data: octets.to_vec(),
        },
    }
}

/// How the octets under a data_coding are counted: as septets, as code units, or one by one.
pub fn charset_alphabet(data_coding: u8) -> Alphabet {
    match Charset::of(data_coding) {
        Charset::Gsm7 => Alphabet::Gsm7,
        Charset::Ucs2 => Alphabet::Ucs2,
        Charset::Latin1 | Charset::Cyrillic | Charset::Hebrew | Charset::Octets => Alphabet::Octets,
    }
}

/// Appends `text` as UTF-16BE: UCS-2, with surrogate pairs for what lies beyond it, as handsets do.
pub fn encode_ucs2(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() * 2);
    for unit in text.encode_utf16() {
        out.extend_from_slice(&unit.to_be_bytes());
    }
}

/// Reads UTF-16BE; total. Lone surrogates and a last odd octet read as U+FFFD.
pub fn decode_ucs2(octets: &[u8]) -> String {
    let pairs = octets.chunks_exact(2);
    let odd = !pairs.remainder().is_empty();
    let mut text: String = char::decode_utf16(pairs.map(|p| u16::from_be_bytes([p[0], p[1]])))
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    if odd {
        text.push(char::REPLACEMENT_CHARACTER);
    }
    text
}

const DATA_CODING_OCTETS: u8 = 4;

/// What data_coding says of the octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    Gsm7,
    Latin1,
    Cyrillic,
    Hebrew,
    Ucs2,
    Octets,
}

impl Charset {
    /// SMPP 3.4, 5.2.19. Values 0x10 to 0x1F are reserved there; peers that hand the handset's
    /// data coding scheme through send them, and mean 3GPP TS 23.038, 4.
    pub fn of(data_coding: u8) -> Charset {
        match data_coding {
            0x00 => Charset::Gsm7,
            // IA5 is the lower half of Latin-1.
            0x01 | 0x03 => Charset::Latin1,
            0x06 => Charset::Cyrillic,
            0x07 => Charset::Hebrew,
            0x08 => Charset::Ucs2,
            0x10..=0x13 => Charset::Gsm7,
            0x18..=0x1B => Charset::Ucs2,
            // Message waiting indication groups, then message class.
            0xC0..=0xDF => Charset::Gsm7,
            0xE0..=0xEF => Charset::Ucs2,
            0xF0..=0xFF if data_coding & 0x04 == 0 => Charset::Gsm7,
            _ => Charset::Octets,
        }
    }
}

/// ISO-8859-5.
fn cyrillic(octet: u8) -> char {
    match octet {
        0xF0 => '№',
        0xFD => '§',
        0xA1..=0xAC | 0xAE..=0xFF => {
            char::from_u32(u32::from(octet) + 0x360).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        _ => char::from(octet),
    }
}

/// ISO-8859-8.
fn hebrew(octet: u8) -> char {
    match octet {
        0xAA => '×',
        0xBA => '÷',
        0xDF => '‗',
        0xE0..=0xFA => {
            char::from_u32(u32::from(octet) + 0x4F0).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        0xFD => '\u{200e}',
        0xFE => '\u{200f}',
        0xA1 | 0xBF..=0xDE | 0xFB | 0xFC | 0xFF => char::REPLACEMENT_CHARACTER,
        _ => char::from(octet),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(decoded: DecodedText) -> String {
        match decoded.body {
            Body::Text(text) => text,
            Body::Binary { .. } => panic!("binary: {decoded:?}"),
        }
    }

    #[test]
    fn the_cheapest_alphabet_is_chosen() {
        assert_eq!(Alphabet::of("Hello @£€{}"), Alphabet::Gsm7);
        assert_eq!(Alphabet::of("Привет"), Alphabet::Ucs2);
        assert_eq!(Alphabet::of("façade"), Alphabet::Ucs2);
        assert_eq!(Alphabet::of("😀"), Alphabet::Ucs2);
    }

    #[test]
    fn alphabets_are_found_by_number_and_name() {
        for alphabet in Alphabet::ALL {
            assert_eq!(Alphabet::from_u8(alphabet as u8), Some(alphabet));
            assert_eq!(Alphabet::from_name(alphabet.name()), Some(alphabet));
        }
        assert_eq!(Alphabet::from_u8(3), None);
    }

    #[test]
    fn ucs2_is_big_endian_with_surrogate_pairs() {
        let mut out = Vec::new();
        encode_ucs2("Жa😀", &mut out);
        // U+0416, U+0061, U+1F600.
        assert_eq!(out, [0x04, 0x16, 0x00, 0x61, 0xD8, 0x3D, 0xDE, 0x00]);
        assert_eq!(decode_ucs2(&out), "Жa😀");
    }

    #[test]
    fn broken_ucs2_reads_with_replacement_characters() {
        assert_eq!(decode_ucs2(&[0xD8, 0x3D, 0x00, 0x61]), "\u{fffd}a");
        assert_eq!(decode_ucs2(&[0x00, 0x61, 0x00]), "a\u{fffd}");
    }

    #[test]
    fn data_coding_chooses_the_character_set() {
        assert_eq!(text(decode(0, false, &[0x00, 0x1B, 0x65])), "@€");
        assert_eq!(text(decode(1, false, b"a@_b")), "a@_b");
        assert_eq!(text(decode(3, false, &[0xE9, 0x40])), "é@");
        assert_eq!(text(decode(6, false, &[0xBF, 0xE0, 0xD8])), "При");
        assert_eq!(text(decode(7, false, &[0xF9, 0xEC])), "של");
        assert_eq!(text(decode(8, false, &[0x04, 0x1F])), "П");
        assert_eq!(text(decode(0xF0, false, &[0x02])), "$");
        assert_eq!(text(decode(0x18, false, &[0x04, 0x1F])), "П");
        for binary in [2, 4, 0xF5, 0x15, 10] {
            assert_eq!(
                decode(binary, false, &[1, 2]).body,
                Body::Binary {
                    udh: vec![],
                    data: vec![1, 2]
                },
                "data_coding {binary}"
            );
        }
    }

    #[test]
    fn a_part_shows_its_place_and_its_text() {
        let decoded = decode(0, true, &[5, 0, 3, 9, 2, 1, b'h', b'i']);
        assert_eq!(
            decoded.concat,
            Some(Concat {
                reference: 9,
                total: 2,
                index: 1
            })
        );
        assert_eq!(decoded.udh, [0, 3, 9, 2, 1]);
        assert_eq!(decoded.payload, b"hi");
        assert_eq!(text(decoded), "hi");
    }

    #[test]
    fn a_binary_part_keeps_its_other_elements() {
        let decoded = decode(4, true, &[11, 5, 4, 0x0B, 0x84, 0, 0, 0, 3, 7, 2, 1, 0xAA]);
        assert_eq!(
            decoded.body,
            Body::Binary {
                udh: vec![5, 4, 0x0B, 0x84, 0, 0],
                data: vec![0xAA]
            }
        );
    }

    #[test]
    fn a_lying_header_loses_no_octet() {
        let octets = [50, 0, 3, 9, 2, 1, b'h', b'i'];
        let decoded = decode(0, true, &octets);
        assert!(decoded.fault.is_some());
        assert_eq!(decoded.concat, None);
        assert_eq!(
            decoded.body,
            Body::Binary {
                udh: vec![],
                data: octets.to_vec()
            }
        );
    }

    #[test]
    fn a_bad_part_number_is_ignored_and_reported() {
        let decoded = decode(0, true, &[5, 0, 3, 9, 3, 9, b'h', b'i']);
        assert_eq!(decoded.concat, None);
        assert_eq!(
            decoded.fault,
            Some(UdhError::ConcatNumbers { total: 3, index: 9 })
        );
        assert_eq!(text(decoded), "hi");
    }

    #[test]
    fn parts_that_a_peer_cut_inside_a_pair_still_join() {
        let mut octets = Vec::new();
        encode_ucs2("a😀b", &mut octets);
        let first = decode(8, true, &[&[5, 0, 3, 1, 2, 1], &octets[..4]].concat());
        let second = decode(8, true, &[&[5, 0, 3, 1, 2, 2], &octets[4..]].concat());
        assert_eq!(
            first.concat,
            Some(Concat {
                reference: 1,
                total: 2,
                index: 1
            })
        );
        let joined = [first.payload, second.payload].concat();
        assert_eq!(decode_payload(8, &joined), Body::Text("a😀b".into()));
    }

    #[test]
    fn parts_of_several_alphabets_and_tables_join_as_text() {
        let joined = |parts: &[(u8, &[u8], &[u8])]| {
            let (data_coding, udh, octets) = join_contents(parts.iter().copied()).unwrap();
            decode_content(data_coding, &udh, &octets)
        };
        let turkish: &[u8] = &[0x24, 1, 1];
        let text = |text: &str| Body::Text(text.to_owned());
        // One pair cut in two, under tables that every part names.
        assert_eq!(
            joined(&[(0, turkish, b"a\x1b"), (0, turkish, b"gb")]),
            text("ağb")
        );
        // Tables that only one part names, then UCS-2.
        let parts: [(u8, &[u8], &[u8]); 3] = [
            (0, turkish, b"\x1bg"),
            (0, &[], b"\x1be"),
            (8, &[], &[4, 0x16]),
        ];
        assert_eq!(joined(&parts), text("ğ€Ж"));
        let ports: &[u8] = &[5, 4, 0, 1, 0, 2];
        let binary = Body::Binary {
            udh: ports.to_vec(),
            data: b"ab".to_vec(),
        };
        assert_eq!(joined(&[(4, ports, b"a"), (4, &[], b"b")]), binary);
        assert_eq!(join_contents([].into_iter()), None);
    }

    proptest! {
        #[test]
        fn any_text_survives_ucs2(text: String) {
            let mut out = Vec::new();
            encode_ucs2(&text, &mut out);
            prop_assert_eq!(decode_ucs2(&out), text);
        }

        #[test]
        fn decoding_is_total(data_coding: u8, udhi: bool, octets: Vec<u8>) {
            let decoded = decode(data_coding, udhi, &octets);
            prop_assert!(decoded.payload.len() <= octets.len());
        }
    }
}
