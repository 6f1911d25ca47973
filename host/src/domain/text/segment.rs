//! The arithmetic of segmentation: what one short message holds, how many a body needs, and where it
//! is cut so that no character is hurt (3GPP TS 23.040, 9.2.3.24.1 and 9.2.3.24.8). Deliberately
//! knows no carrier and writes no octet.

use std::fmt;

use super::cluster::soft_end;
use super::shift::Codec;
use super::udh::{IE_CONCAT_8, IE_CONCAT_16, UdhError};
use super::{Alphabet, ShiftTables, gsm};

/// The part number is one octet.
pub const SEGMENTS_MAX: usize = 255;
/// esm_class bit that announces a user data header (SMPP 3.4, 5.2.12).
pub const ESM_CLASS_UDHI: u8 = 0x40;
/// User data of one short message (3GPP TS 23.040, 9.2.3.24).
pub const USER_DATA_OCTETS: usize = 140;

/// What a body needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentPlan {
    pub alphabet: Alphabet,
    pub shift: ShiftTables,
    /// 1 to 255.
    pub segments: u8,
    /// Septets, UTF-16 code units or octets, by alphabet; headers are not counted.
    pub units: usize,
}

impl SegmentPlan {
    /// One segment, under no shift table.
    pub fn one(alphabet: Alphabet, units: usize) -> SegmentPlan {
        SegmentPlan {
            alphabet,
            shift: ShiftTables::default(),
            segments: 1,
            units,
        }
    }
}

/// Ties the parts of a message together; the number is to differ between messages to one
/// recipient that travel at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// 153 septets a part, understood by every handset.
    Bits8(u8),
    /// 152 septets a part.
    Bits16(u16),
}

/// Why a body cannot be sent. The client's (or a plugin's) fault; sending it again does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextError {
    Empty,
    /// It would need more than [`SEGMENTS_MAX`] segments.
    TooLong {
        alphabet: Alphabet,
        units: usize,
    },
    /// A binary message with its own header is never cut: where, only its sender knows.
    BinaryTooLong {
        octets: usize,
    },
    Udh(UdhError),
    /// A part that its client cut, longer than what a short message has room for behind its header.
    PartTooLong {
        alphabet: Alphabet,
        units: usize,
        max: usize,
    },
    /// The default alphabet was asked for and does not have this character; `position` in
    /// characters, from 0.
    NotGsm7 {
        character: char,
        position: usize,
    },
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TextError::Empty => {
                write!(f, "is empty; a message has at least one character or octet")
            }
            TextError::TooLong { alphabet, units } => {
                let unit = Unit::of(*alphabet);
                let most = SEGMENTS_MAX * Limits::of(unit, 0, Reference::Bits8(0)).part;
                write!(
                    f,
                    "has {units} {}; {SEGMENTS_MAX} segments, the most there can be, hold about {most}",
                    unit.name()
                )
            }
            TextError::BinaryTooLong { octets } => write!(
                f,
                "has {octets} octets with udh and its length octet; with a udh of its own it has at most \
                 {USER_DATA_OCTETS}; without one, or with port numbers alone, it is cut into segments"
            ),
            TextError::Udh(error) => write!(f, "has a malformed udh: {error}"),
            TextError::PartTooLong {
                alphabet,
                units,
                max,
            } => write!(
                f,
                "is a part with {units} units of {}; behind its header there is room for {max}",
                alphabet.name()
            ),
            TextError::NotGsm7 {
                character,
                position,
            } => write!(
                f,
                "has U+{:04X} at character {position}, which the GSM default alphabet lacks; \
                 the encoding `auto` or `transliterate` would take it",
                u32::from(*character)
            ),
        }
    }
}

impl std::error::Error for TextError {}

impl Reference {
    /// The concatenation element of part `index`.
    pub fn element(self, total: u8, index: u8) -> Vec<u8> {
        match self {
            Reference::Bits8(number) => vec![IE_CONCAT_8, 3, number, total, index],
            Reference::Bits16(number) => {
                let [high, low] = number.to_be_bytes();
                vec![IE_CONCAT_16, 4, high, low, total, index]
            }
        }
    }

    fn element_octets(self) -> usize {
        match self {
            Reference::Bits8(_) => 5,
            Reference::Bits16(_) => 6,
        }
    }
}

/// What a body is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Septet,
    /// Of UTF-16.
    CodeUnit,
    Octet,
}

impl Unit {
    pub fn of(alphabet: Alphabet) -> Unit {
        match alphabet {
            Alphabet::Gsm7 => Unit::Septet,
            Alphabet::Ucs2 => Unit::CodeUnit,
            Alphabet::Octets => Unit::Octet,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Unit::Septet => "septets",
            Unit::CodeUnit => "UTF-16 code units",
            Unit::Octet => "octets",
        }
    }

    /// Whole units in that many octets.
    fn fit(self, octets: usize) -> usize {
        match self {
            Unit::Septet => octets * 8 / 7,
            Unit::CodeUnit => octets / 2,
            Unit::Octet => octets,
        }
    }
}

/// Units that a short message holds: alone, and as a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub single: usize,
    pub part: usize,
}

impl Limits {
    /// 160/153/152 septets, 70/67/66 code units, 140/134/133 octets; less where each segment has
    /// `elements` octets of header elements beside the reference: with one shift table 155/149/148
    /// septets, with two 152/146/145.
    pub fn of(unit: Unit, elements: usize, reference: Reference) -> Limits {
        // A header begins with its length octet.
        let header = |octets: usize| if octets == 0 { 0 } else { 1 + octets };
        let room = |octets| unit.fit(USER_DATA_OCTETS.saturating_sub(header(octets)));
        Limits {
            single: room(elements),
            part: room(elements + reference.element_octets()),
        }
    }
}

/// Counts `text` in that alphabet, without allocating. `units` are its units, each character's by
/// `width`.
pub fn count_text(
    text: &str,
    units: usize,
    limits: Limits,
    width: impl Fn(char) -> usize,
) -> usize {
    if units <= limits.single {
        1
    } else if units > SEGMENTS_MAX * limits.part || units == text.chars().count() {
        // Too long in any case, or nothing that could not fill a part.
        units.div_ceil(limits.part)
    } else {
        count_parts(text, limits.part, width)
    }
}

/// Counts `text` in one alphabet and one pair of tables, which hold all of it.
pub fn plan_coded(
    text: &str,
    alphabet: Alphabet,
    shift: ShiftTables,
    reference: Reference,
) -> Result<SegmentPlan, TextError> {
    let limits = Limits::of(Unit::of(alphabet), shift.element_octets(), reference);
    let (units, segments) = match alphabet {
        Alphabet::Gsm7 if shift.is_default() => {
            let units = gsm::count(text).unwrap_or(usize::MAX);
            (units, count_text(text, units, limits, gsm::septets))
        }
        Alphabet::Gsm7 => {
            let codec = Codec::of(shift);
            let units = codec.count(text).unwrap_or(usize::MAX);
            (units, count_text(text, units, limits, |c| codec.septets(c)))
        }
        Alphabet::Ucs2 => {
            let units = text.chars().map(char::len_utf16).sum();
            (units, count_text(text, units, limits, char::len_utf16))
        }
        Alphabet::Octets => (text.len(), text.len().div_ceil(limits.part)),
    };
    finish(alphabet, shift, segments, units)
}

/// A plan of so many segments, if there can be so many.
pub fn finish(
    alphabet: Alphabet,
    shift: ShiftTables,
    segments: usize,
    units: usize,
) -> Result<SegmentPlan, TextError> {
    match u8::try_from(segments) {
        Ok(segments) => Ok(SegmentPlan {
            alphabet,
            shift,
            segments,
            units,
        }),
        Err(_) => Err(TextError::TooLong { alphabet, units }),
    }
}

/// Fills each part to the last character that fits: no way of cutting needs fewer.
fn count_parts(text: &str, limit: usize, width: impl Fn(char) -> usize) -> usize {
    let mut parts = 1;
    let mut used = 0;
    for character in text.chars() {
        let units = width(character);
        if used + units > limit {
            parts += 1;
            used = 0;
        }
        used += units;
    }
    parts
}

/// Cuts `text` into `count` parts, the fewest there can be: between characters, and where the
/// parts have room to spare for it between combining sequences.
pub fn cut(
    text: &str,
    count: usize,
    limit: usize,
    width: impl Fn(char) -> usize + Copy,
) -> Vec<&str> {
    let mut parts = Vec::with_capacity(count);
    // Seldom needed: few cuts meet a sequence.
    let mut earliest = None;
    let mut start = 0;
    for left in (1..count).rev() {
        let full = start + full_part(&text[start..], limit, width);
        // What follows the cut must fit the parts that are left.
        let end = soft_end(text, start, full, || {
            earliest.get_or_insert_with(|| earliest_starts(text, limit, width))[left]
        });
        parts.push(&text[start..end]);
        start = end;
    }
    parts.push(&text[start..]);
    parts
}

/// At index n: the earliest place from which n parts hold the rest. The last one is 0.
fn earliest_starts(text: &str, limit: usize, width: impl Fn(char) -> usize) -> Vec<usize> {
    let mut starts = vec![text.len()];
    let mut used = 0;
    let mut behind = text.len();
    for (at, character) in text.char_indices().rev() {
        let units = width(character);
        if used + units > limit {
            starts.push(behind);
            used = 0;
        }
        used += units;
        behind = at;
    }
    starts.push(0);
    starts
}

/// Octets of UTF-8 at the start of `text` that fill one part.
fn full_part(text: &str, limit: usize, width: impl Fn(char) -> usize) -> usize {
    let mut used = 0;
    for (at, character) in text.char_indices() {
        used += width(character);
        if used > limit {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
