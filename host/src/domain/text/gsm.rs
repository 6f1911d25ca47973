//! The GSM 7 bit default alphabet and its extension table (3GPP TS 23.038, 6.2.1): characters to
//! septets and back, one septet an octet as SMPP carries them, or packed as the radio path does.
//! Knows no message, no segment and no other alphabet.

/// Announces a character of the extension table (3GPP TS 23.038, 6.2.1.1).
pub const ESCAPE: u8 = 0x1B;

/// Septets that `character` needs: 1, 2 where it is in the extension table, 0 where it is in
/// neither table.
pub fn septets(character: char) -> usize {
    match code(character) {
        NONE => 0,
        EXTENDED.. => 2,
        _ => 1,
    }
}

/// Septets that `text` needs, or `None` where a character is in neither table.
pub fn count(text: &str) -> Option<usize> {
    if text.is_ascii() {
        return count_ascii(text.as_bytes());
    }
    let mut units = 0;
    for character in text.chars() {
        match septets(character) {
            0 => return None,
            n => units += n,
        }
    }
    Some(units)
}

/// Appends `text` as unpacked septets, or returns the first character that is in neither table;
/// `out` is then as it was.
pub fn encode(text: &str, out: &mut Vec<u8>) -> Result<(), char> {
    if text.is_ascii() && count_ascii(text.as_bytes()) == Some(text.len()) {
        out.extend(text.bytes().map(|octet| LATIN[usize::from(octet)]));
        return Ok(());
    }
    let start = out.len();
    out.reserve(text.len());
    for character in text.chars() {
        match code(character) {
            NONE => {
                out.truncate(start);
                return Err(character);
            }
            escaped @ EXTENDED.. => out.extend_from_slice(&[ESCAPE, escaped & 0x7F]),
            septet => out.push(septet),
        }
    }
    Ok(())
}

/// Reads unpacked septets; total. An escape before a code without extension reads as that code
/// in the default table, an escape before an escape or at the end as a space (3GPP TS 23.038,
/// 6.2.1 and 6.2.1.1). An octet above 0x7F is no septet: only peers that send Latin-1 under
/// data_coding 0 produce one, so it is read as Latin-1.
pub fn decode(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    let mut rest = octets.iter().copied();
    while let Some(octet) = rest.next() {
        match octet {
            ESCAPE => text.push(rest.next().map_or(' ', escaped_character)),
            0x80.. => text.push(char::from(octet)),
            _ => text.push(DEFAULT[usize::from(octet)]),
        }
    }
    text
}

/// Packs septets into octets, first bit lowest (3GPP TS 23.038, 6.1.2.1.1), after `fill_bits`
/// zero bits that bring the text to a septet boundary behind a user data header.
pub fn pack(septets: &[u8], fill_bits: u8) -> Vec<u8> {
    let mut octets = Vec::with_capacity((septets.len() * 7).div_ceil(8) + 1);
    let mut bits = u32::from(fill_bits.min(6));
    let mut pending = 0_u32;
    for septet in septets {
        pending |= u32::from(septet & 0x7F) << bits;
        bits += 7;
        if bits >= 8 {
            octets.push((pending & 0xFF) as u8);
            pending >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        octets.push((pending & 0xFF) as u8);
    }
    octets
}

/// Unpacks at most `count` septets behind `fill_bits` bits; fewer where the octets end earlier.
/// The count is not in the octets: seven octets hold as well eight septets as seven.
pub fn unpack(octets: &[u8], fill_bits: u8, count: usize) -> Vec<u8> {
    let mut septets = Vec::with_capacity(count.min(octets.len() * 8 / 7));
    let mut skip = u32::from(fill_bits.min(6));
    let mut bits = 0;
    let mut pending = 0_u32;
    for octet in octets {
        pending |= u32::from(*octet) << bits;
        bits += 8;
        if skip > 0 {
            pending >>= skip;
            bits -= skip;
            skip = 0;
        }
        while bits >= 7 && septets.len() < count {
            septets.push((pending & 0x7F) as u8);
            pending >>= 7;
            bits -= 7;
        }
        if septets.len() == count {
            break;
        }
    }
    septets
}

/// Fill bits behind a user data header of `header_octets`, its length octet included
/// (3GPP TS 23.040, 9.2.3.24).
pub fn fill_bits(header_octets: usize) -> u8 {
    match (header_octets % 7) as u8 {
        0 => 0,
        // Each octet of the header leaves one bit more in its last septet.
        odd => 7 - odd,
    }
}

/// In the tables below: the character is in neither table.
const NONE: u8 = 0xFF;
/// In the tables below: added to codes of the extension table.
const EXTENDED: u8 = 0x80;
const GREEK_START: u32 = 0x390;
const GREEK_END: u32 = 0x3AF;

/// 3GPP TS 23.038, 6.2.1, in code order.
#[rustfmt::skip]
const DEFAULT: [char; 128] = [
    '@', '£', '$', '¥', 'è', 'é', 'ù', 'ì', 'ò', 'Ç', '\n', 'Ø', 'ø', '\r', 'Å', 'å',
    'Δ', '_', 'Φ', 'Γ', 'Λ', 'Ω', 'Π', 'Ψ', 'Σ', 'Θ', 'Ξ', '\u{1b}', 'Æ', 'æ', 'ß', 'É',
    ' ', '!', '"', '#', '¤', '%', '&', '\'', '(', ')', '*', '+', ',', '-', '.', '/',
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ':', ';', '<', '=', '>', '?',
    '¡', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O',
    'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'Ä', 'Ö', 'Ñ', 'Ü', '§',
    '¿', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o',
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 'ä', 'ö', 'ñ', 'ü', 'à',
];

/// 3GPP TS 23.038, 6.2.1.1.
const EXTENSION: [(u8, char); 10] = [
    (0x0A, '\u{c}'),
    (0x14, '^'),
    (0x28, '{'),
    (0x29, '}'),
    (0x2F, '\\'),
    (0x3C, '['),
    (0x3D, '~'),
    (0x3E, ']'),
    (0x40, '|'),
    (0x65, '€'),
];

/// Codes of U+0000 to U+00FF.
const LATIN: [u8; 256] = codes(0);
/// Codes of U+0390 to U+03AF.
const GREEK: [u8; 32] = codes(GREEK_START);

/// The code of each of the `N` characters from `start` on.
const fn codes<const N: usize>(start: u32) -> [u8; N] {
    let mut table = [NONE; N];
    let mut i = 0;
    while i < DEFAULT.len() {
        let point = DEFAULT[i] as u32;
        if i != ESCAPE as usize && point >= start && point - start < N as u32 {
            table[(point - start) as usize] = i as u8;
        }
        i += 1;
    }
    let mut i = 0;
    while i < EXTENSION.len() {
        let point = EXTENSION[i].1 as u32;
        if point >= start && point - start < N as u32 {
            table[(point - start) as usize] = EXTENSION[i].0 | EXTENDED;
        }
        i += 1;
    }
    table
}

/// [`count`] for what most messages are; without a branch for each character it is several times
/// as fast.
fn count_ascii(octets: &[u8]) -> Option<usize> {
    let mut units = 0;
    let mut strangers = 0;
    for octet in octets {
        let code = LATIN[usize::from(*octet)];
        units += 1 + usize::from(code >= EXTENDED);
        strangers += usize::from(code == NONE);
    }
    (strangers == 0).then_some(units)
}

#[inline]
fn code(character: char) -> u8 {
    match u32::from(character) {
        point @ 0..=0xFF => LATIN[point as usize],
        point @ GREEK_START..=GREEK_END => GREEK[(point - GREEK_START) as usize],
        0x20AC => 0x65 | EXTENDED,
        _ => NONE,
    }
}

/// The code of a character of the default alphabet alone.
pub(super) fn default_code(character: char) -> Option<u8> {
    Some(code(character)).filter(|code| *code < EXTENDED)
}

/// The code behind an escape of a character of the extension table.
pub(super) fn extension_code(character: char) -> Option<u8> {
    match code(character) {
        NONE | 0..EXTENDED => None,
        escaped => Some(escaped & 0x7F),
    }
}

/// What a septet stands for in the default alphabet; its eighth bit is ignored.
pub(super) fn default_character(code: u8) -> char {
    DEFAULT[usize::from(code & 0x7F)]
}

pub(super) fn extension_character(code: u8) -> Option<char> {
    let found = EXTENSION.iter().find(|(known, _)| *known == code);
    found.map(|(_, character)| *character)
}

fn escaped_character(octet: u8) -> char {
    match extension_character(octet) {
        Some(character) => character,
        None if octet == ESCAPE => ' ',
        None if octet >= 0x80 => char::from(octet),
        None => DEFAULT[usize::from(octet)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        encode(text, &mut out).expect("in the alphabet");
        out
    }

    /// Every character of both tables, by the code points the specification prints.
    fn gsm_text() -> impl Strategy<Value = String> {
        let all: Vec<char> = DEFAULT
            .iter()
            .copied()
            .filter(|c| *c != '\u{1b}')
            .chain(EXTENSION.map(|(_, c)| c))
            .collect();
        proptest::collection::vec(proptest::sample::select(all), 0..400)
            .prop_map(|c| c.into_iter().collect())
    }

    #[test]
    fn default_table_codes_are_those_of_the_specification() {
        // 3GPP TS 23.038, 6.2.1, read off its table by column and row.
        for (character, septet) in [
            ('@', 0x00),
            ('£', 0x01),
            ('$', 0x02),
            ('Ç', 0x09),
            ('\n', 0x0A),
            ('\r', 0x0D),
            ('å', 0x0F),
            ('Δ', 0x10),
            ('_', 0x11),
            ('Ω', 0x15),
            ('Ξ', 0x1A),
            ('Æ', 0x1C),
            ('É', 0x1F),
            (' ', 0x20),
            ('¤', 0x24),
            ('?', 0x3F),
            ('¡', 0x40),
            ('Z', 0x5A),
            ('Ä', 0x5B),
            ('§', 0x5F),
            ('¿', 0x60),
            ('z', 0x7A),
            ('à', 0x7F),
        ] {
            assert_eq!(encoded(&character.to_string()), [septet], "{character:?}");
        }
    }

    #[test]
    fn extension_characters_take_an_escape_and_a_code() {
        assert_eq!(encoded("€"), [0x1B, 0x65]);
        assert_eq!(
            encoded("^{}\\[~]|\u{c}"),
            [
                0x1B, 0x14, 0x1B, 0x28, 0x1B, 0x29, 0x1B, 0x2F, 0x1B, 0x3C, 0x1B, 0x3D, 0x1B, 0x3E,
                0x1B, 0x40, 0x1B, 0x0A
            ]
        );
        assert_eq!(count("1 €"), Some(4));
    }

    #[test]
    fn characters_outside_both_tables_are_named() {
        for (text, stranger) in [
            ("a`b", '`'),
            ("ç", 'ç'),
            ("tab\t", '\t'),
            ("\u{1b}", '\u{1b}'),
            ("hi 😀", '😀'),
        ] {
            assert_eq!(count(text), None, "{text:?}");
            let mut out = vec![7];
            assert_eq!(encode(text, &mut out), Err(stranger));
            assert_eq!(out, [7], "nothing is left behind");
        }
    }

    #[test]
    fn unknown_extension_reads_as_the_default_character() {
        assert_eq!(decode(&[0x1B, 0x41]), "A");
        assert_eq!(decode(&[0x1B, 0x1B, 0x41]), " A");
        assert_eq!(decode(&[0x41, 0x1B]), "A ");
        assert_eq!(decode(&[0xE9, 0x1B, 0xE9]), "éé");
    }

    #[test]
    fn packing_follows_the_specification() {
        assert_eq!(
            pack(b"hellohello", 0),
            [0xE8, 0x32, 0x9B, 0xFD, 0x46, 0x97, 0xD9, 0xEC, 0x37]
        );
        assert_eq!(
            unpack(
                &[0xE8, 0x32, 0x9B, 0xFD, 0x46, 0x97, 0xD9, 0xEC, 0x37],
                0,
                10
            ),
            b"hellohello"
        );
        assert_eq!(pack(&encoded("€"), 0), [0x9B, 0x32]);
        assert_eq!(
            pack(b"12345678", 0),
            [0x31, 0xD9, 0x8C, 0x56, 0xB3, 0xDD, 0x70]
        );
    }

    #[test]
    fn a_header_of_six_octets_leaves_one_fill_bit() {
        assert_eq!(fill_bits(6), 1);
        assert_eq!(fill_bits(7), 0);
        assert_eq!(fill_bits(5), 2);
        assert_eq!(fill_bits(8), 6);
        assert_eq!(pack(b"A", 1), [0x82]);
        assert_eq!(unpack(&[0x82], 1, 1), b"A");
    }

    #[test]
    fn unpacking_stops_where_the_octets_end() {
        assert_eq!(unpack(&[0x31], 0, 160), [0x31]);
        assert!(unpack(&[], 3, 160).is_empty());
    }

    /// A second, slow packer: a string of bits.
    fn pack_slowly(septets: &[u8], fill: u8) -> Vec<u8> {
        let mut bits = vec![false; usize::from(fill)];
        for septet in septets {
            bits.extend((0..7).map(|i| septet >> i & 1 == 1));
        }
        bits.chunks(8)
            .map(|chunk| {
                chunk
                    .iter()
                    .enumerate()
                    .fold(0, |o, (i, b)| o | u8::from(*b) << i)
            })
            .collect()
    }

    proptest! {
        #[test]
        fn text_survives_septets(text in gsm_text()) {
            let septets = encoded(&text);
            prop_assert_eq!(Some(septets.len()), count(&text));
            prop_assert!(septets.iter().all(|s| *s < 0x80));
            prop_assert_eq!(decode(&septets), text);
        }

        #[test]
        fn septets_survive_packing(septets in proptest::collection::vec(0_u8..0x80, 0..200), fill in 0_u8..7) {
            let octets = pack(&septets, fill);
            prop_assert_eq!(&octets, &pack_slowly(&septets, fill));
            prop_assert_eq!(unpack(&octets, fill, septets.len()), septets);
        }

        #[test]
        fn decoding_is_total(octets: Vec<u8>, fill: u8, count in 0_usize..1000) {
            decode(&octets);
            prop_assert!(unpack(&octets, fill, count).len() <= count);
        }

        #[test]
        fn count_and_encode_agree_on_any_text(text: String) {
            let mut out = Vec::new();
            prop_assert_eq!(encode(&text, &mut out).ok().map(|()| out.len()), count(&text));
        }
    }
}
