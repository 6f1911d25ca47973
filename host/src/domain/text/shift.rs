//! GSM text under national language tables (3GPP TS 23.038, 6.2.1.2): a locking shift table takes
//! the place of the default alphabet, a single shift table that of its extension. Characters to
//! septets and back, and the information elements that name the tables. Which tables a text is to
//! use is for others to choose.

use super::gsm::{self, ESCAPE};
use super::language::{Language, ShiftTables};
use super::shift_tables as tables;
use super::udh::Udh;

/// National Language Single Shift (3GPP TS 23.040, 9.2.3.24.15).
pub const IE_SINGLE_SHIFT: u8 = 0x24;
/// National Language Locking Shift (3GPP TS 23.040, 9.2.3.24.16).
pub const IE_LOCKING_SHIFT: u8 = 0x25;

/// One table, to be read in both directions.
struct Table {
    characters: &'static [u16; 128],
    /// The characters in their own order, so that one is found by halving; [`NOTHING`] where there
    /// are fewer.
    sorted: [u16; 128],
    /// The codes of `sorted`.
    codes: [u8; 128],
}

/// Sorts behind every character of a table.
const NOTHING: u16 = u16::MAX;

impl Table {
    /// Of a character that stands twice the first code is written.
    const fn new(characters: &'static [u16; 128]) -> Table {
        let mut table = Table {
            characters,
            sorted: [NOTHING; 128],
            codes: [0; 128],
        };
        let mut length = 0;
        let mut code = 0;
        while code < 128 {
            let point = characters[code];
            if point != tables::____ && !(is_misprint(characters, code)) {
                let mut at = length;
                while at > 0 && table.sorted[at - 1] > point {
                    at -= 1;
                }
                if at == 0 || table.sorted[at - 1] != point {
                    let mut i = length;
                    while i > at {
                        table.sorted[i] = table.sorted[i - 1];
                        table.codes[i] = table.codes[i - 1];
                        i -= 1;
                    }
                    table.sorted[at] = point;
                    // There are 128 codes.
                    table.codes[at] = code as u8;
                    length += 1;
                }
            }
            code += 1;
        }
        table
    }

    fn code(&self, character: char) -> Option<u8> {
        let point = u16::try_from(u32::from(character)).ok()?;
        if point == NOTHING {
            return None;
        }
        let at = self.sorted.binary_search(&point).ok()?;
        Some(self.codes[at])
    }

    fn character(&self, code: u8) -> Option<char> {
        match self.characters[usize::from(code & 0x7F)] {
            tables::____ => None,
            point => char::from_u32(u32::from(point)),
        }
    }
}

/// Handsets do not agree on what 0x24 of the Kannada locking shift table is (see there), so it is
/// read and never written.
const fn is_misprint(characters: &[u16; 128], code: usize) -> bool {
    code == 0x24 && characters[code] == 0x0CA1
}

fn locking(language: Language) -> Option<&'static Table> {
    macro_rules! table {
        ($name:ident) => {{
            const TABLE: &Table = &Table::new(&tables::$name);
            Some(TABLE)
        }};
    }
    match language {
        Language::Turkish => table!(TURKISH_LOCKING),
        Language::Spanish => None,
        Language::Portuguese => table!(PORTUGUESE_LOCKING),
        Language::Bengali => table!(BENGALI_LOCKING),
        Language::Gujarati => table!(GUJARATI_LOCKING),
        Language::Hindi => table!(HINDI_LOCKING),
        Language::Kannada => table!(KANNADA_LOCKING),
        Language::Malayalam => table!(MALAYALAM_LOCKING),
        Language::Oriya => table!(ORIYA_LOCKING),
        Language::Punjabi => table!(PUNJABI_LOCKING),
        Language::Tamil => table!(TAMIL_LOCKING),
        Language::Telugu => table!(TELUGU_LOCKING),
        Language::Urdu => table!(URDU_LOCKING),
    }
}

fn single(language: Language) -> &'static Table {
    macro_rules! table {
        ($name:ident) => {{
            const TABLE: &Table = &Table::new(&tables::$name);
            TABLE
        }};
    }
    match language {
        Language::Turkish => table!(TURKISH_SINGLE),
        Language::Spanish => table!(SPANISH_SINGLE),
        Language::Portuguese => table!(PORTUGUESE_SINGLE),
        Language::Bengali => table!(BENGALI_SINGLE),
        Language::Gujarati => table!(GUJARATI_SINGLE),
        Language::Hindi => table!(HINDI_SINGLE),
        Language::Kannada => table!(KANNADA_SINGLE),
        Language::Malayalam => table!(MALAYALAM_SINGLE),
        Language::Oriya => table!(ORIYA_SINGLE),
        Language::Punjabi => table!(PUNJABI_SINGLE),
        Language::Tamil => table!(TAMIL_SINGLE),
        Language::Telugu => table!(TELUGU_SINGLE),
        Language::Urdu => table!(URDU_SINGLE),
    }
}

/// Whether a language has a locking shift table; a single shift table has each.
pub fn has_locking(language: Language) -> bool {
    locking(language).is_some()
}

/// The two tables of a text, looked up once.
#[derive(Clone, Copy)]
pub struct Codec {
    /// None: the default alphabet.
    locking: Option<&'static Table>,
    /// None: its extension table.
    single: Option<&'static Table>,
}

impl Codec {
    /// A language without a locking shift table has the default alphabet in its place.
    pub fn of(shift: ShiftTables) -> Codec {
        Codec {
            locking: shift.locking.and_then(locking),
            single: shift.single.map(single),
        }
    }

    fn locking_code(self, character: char) -> Option<u8> {
        match self.locking {
            Some(table) => table.code(character),
            None => gsm::default_code(character),
        }
    }

    fn single_code(self, character: char) -> Option<u8> {
        match self.single {
            Some(table) => table.code(character),
            None => gsm::extension_code(character),
        }
    }

    /// Septets that `character` needs: 1, 2 behind an escape, 0 where it is in neither table.
    pub fn septets(self, character: char) -> usize {
        if self.locking_code(character).is_some() {
            1
        } else if self.single_code(character).is_some() {
            2
        } else {
            0
        }
    }

    /// Septets that `text` needs, or `None` where a character is in neither table.
    pub fn count(self, text: &str) -> Option<usize> {
        let mut units = 0;
        for character in text.chars() {
            match self.septets(character) {
                0 => return None,
                n => units += n,
            }
        }
        Some(units)
    }

    /// Appends `text` as unpacked septets, or returns the first character that is in neither
    /// table; `out` is then as it was.
    pub fn encode(self, text: &str, out: &mut Vec<u8>) -> Result<(), char> {
        let start = out.len();
        for character in text.chars() {
            if let Some(code) = self.locking_code(character) {
                out.push(code);
            } else if let Some(code) = self.single_code(character) {
                out.extend_from_slice(&[ESCAPE, code]);
            } else {
                out.truncate(start);
                return Err(character);
            }
        }
        Ok(())
    }

    /// Reads unpacked septets; total. An escape before a code that the single shift table does not
    /// have reads as that code in the locking shift table, an escape before an escape or at the end
    /// as a space (3GPP TS 23.038, 6.2.1.2.2 and 6.2.1.1). A code that stands for nothing reads as
    /// U+FFFD, an octet above 0x7F as Latin-1, as [`gsm::decode`] does.
    pub fn decode(self, octets: &[u8]) -> String {
        let mut text = String::with_capacity(octets.len());
        let mut rest = octets.iter().copied();
        while let Some(octet) = rest.next() {
            text.push(match octet {
                ESCAPE => match rest.next() {
                    None | Some(ESCAPE) => ' ',
                    Some(code @ 0x80..) => char::from(code),
                    Some(code) => self.escaped(code).unwrap_or_else(|| self.plain(code)),
                },
                0x80.. => char::from(octet),
                code => self.plain(code),
            });
        }
        text
    }

    fn plain(self, code: u8) -> char {
        match self.locking {
            Some(table) => table.character(code).unwrap_or(char::REPLACEMENT_CHARACTER),
            None => gsm::default_character(code),
        }
    }

    fn escaped(self, code: u8) -> Option<char> {
        match self.single {
            Some(table) => table.character(code),
            None => gsm::extension_character(code),
        }
    }
}

impl ShiftTables {
    /// The information elements that name the tables; empty for the default ones.
    pub fn elements(self) -> Vec<u8> {
        let mut header = Vec::new();
        if let Some(language) = self.locking {
            header.extend_from_slice(&[IE_LOCKING_SHIFT, 1, language as u8]);
        }
        if let Some(language) = self.single {
            header.extend_from_slice(&[IE_SINGLE_SHIFT, 1, language as u8]);
        }
        header
    }

    /// Octets of [`ShiftTables::elements`].
    pub fn element_octets(self) -> usize {
        3 * (usize::from(self.locking.is_some()) + usize::from(self.single.is_some()))
    }

    /// The tables that a header names. One that we do not know is the default one (3GPP TS 23.040,
    /// 9.2.3.24.15: a reserved identifier is ignored); of several elements the last counts.
    pub fn named_by(udh: &Udh<'_>) -> ShiftTables {
        let mut shift = ShiftTables::default();
        for element in udh.elements() {
            let language = match element.data {
                [code] => Language::from_code(*code),
                _ => continue,
            };
            match element.id {
                IE_LOCKING_SHIFT => shift.locking = language.filter(|l| has_locking(*l)),
                IE_SINGLE_SHIFT => shift.single = language,
                _ => {}
            }
        }
        shift
    }
}

#[cfg(test)]
#[path = "shift_tests.rs"]
mod tests;
