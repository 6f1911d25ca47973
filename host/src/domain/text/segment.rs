//! Segmentation: how many short messages a body needs, and their octets (3GPP TS 23.040,
//! 9.2.3.24.1 and 9.2.3.24.8). Cuts where no character is hurt; deliberately knows no carrier and
//! leaves the choice of the reference to the caller.

use std::fmt;

use super::cluster::soft_end;
use super::udh::{IE_CONCAT_8, IE_CONCAT_16, Udh, UdhError};
use super::{Alphabet, encode_ucs2, gsm};
use crate::domain::message::Body;

/// The part number is one octet.
pub const SEGMENTS_MAX: usize = 255;
/// esm_class bit that announces a user data header (SMPP 3.4, 5.2.12).
pub const ESM_CLASS_UDHI: u8 = 0x40;
/// User data of one short message (3GPP TS 23.040, 9.2.3.24).
const USER_DATA_OCTETS: usize = 140;

/// What a body needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentPlan {
    pub alphabet: Alphabet,
    /// 1 to 255.
    pub segments: u8,
    /// Septets, UTF-16 code units or octets, by alphabet; headers are not counted.
    pub units: usize,
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

/// One short message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// User data header without its length octet; empty where there is none.
    pub udh: Vec<u8>,
    pub payload: Vec<u8>,
}

/// A body as its carrier is to get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segmented {
    pub alphabet: Alphabet,
    /// SMPP 3.4, 5.2.19.
    pub data_coding: u8,
    pub segments: Vec<Segment>,
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
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TextError::Empty => {
                write!(f, "is empty; a message has at least one character or octet")
            }
            TextError::TooLong { alphabet, units } => {
                let unit = match alphabet {
                    Alphabet::Gsm7 => "septets",
                    Alphabet::Ucs2 => "UTF-16 code units",
                    Alphabet::Octets => "octets",
                };
                let most = SEGMENTS_MAX * Limits::of(*alphabet, Reference::Bits8(0)).part;
                write!(
                    f,
                    "has {units} {unit}; {SEGMENTS_MAX} segments, the most there can be, hold about {most}"
                )
            }
            TextError::BinaryTooLong { octets } => write!(
                f,
                "has {octets} octets with udh and its length octet; with a udh of its own it has at most \
                 {USER_DATA_OCTETS}, without one it is cut into segments"
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
        }
    }
}

impl std::error::Error for TextError {}

impl Segment {
    /// Whether esm_class needs [`ESM_CLASS_UDHI`].
    pub fn udhi(&self) -> bool {
        !self.udh.is_empty()
    }

    /// sm_length: at most 160, below SMPP's 254.
    pub fn short_message_len(&self) -> usize {
        match self.udh.len() {
            0 => self.payload.len(),
            n => 1 + n + self.payload.len(),
        }
    }

    /// Appends the octets of short_message: header length, header, payload.
    pub fn write_short_message(&self, out: &mut Vec<u8>) {
        if self.udhi() {
            // Both makers of a header keep it below 140 octets.
            out.push(self.udh.len() as u8);
            out.extend_from_slice(&self.udh);
        }
        out.extend_from_slice(&self.payload);
    }

    pub fn short_message(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.short_message_len());
        self.write_short_message(&mut out);
        out
    }
}

/// Counts without allocating. Assumes an 8-bit reference.
pub fn plan(body: &Body) -> Result<SegmentPlan, TextError> {
    plan_with(body, Reference::Bits8(0))
}

/// Counts for that size of reference; its number does not matter.
pub fn plan_with(body: &Body, reference: Reference) -> Result<SegmentPlan, TextError> {
    match body {
        Body::Text(text) => plan_text(text, reference),
        Body::Binary { udh, data } => plan_binary(udh, data, reference),
    }
}

/// Cuts `body` under an 8-bit concatenation reference.
pub fn segment(body: &Body, reference: u8) -> Result<Segmented, TextError> {
    segment_with(body, Reference::Bits8(reference))
}

/// Cuts `body` into exactly the segments that [`plan_with`] counts.
pub fn segment_with(body: &Body, reference: Reference) -> Result<Segmented, TextError> {
    let plan = plan_with(body, reference)?;
    let total = plan.segments;
    let payloads = match body {
        Body::Text(text) => text_payloads(text, plan, reference),
        Body::Binary { data, .. } if total == 1 => vec![data.clone()],
        Body::Binary { data, .. } => data
            .chunks(Limits::of(Alphabet::Octets, reference).part)
            .map(<[u8]>::to_vec)
            .collect(),
    };
    let own_header = match body {
        Body::Binary { udh, .. } => udh.clone(),
        Body::Text(_) => Vec::new(),
    };
    let segments = if total == 1 {
        payloads
            .into_iter()
            .map(|payload| Segment {
                udh: own_header.clone(),
                payload,
            })
            .collect()
    } else {
        (1..=total)
            .zip(payloads)
            .map(|(index, payload)| Segment {
                udh: reference.header(total, index),
                payload,
            })
            .collect()
    };
    Ok(Segmented {
        alphabet: plan.alphabet,
        data_coding: plan.alphabet.data_coding(),
        segments,
    })
}

impl Reference {
    fn header(self, total: u8, index: u8) -> Vec<u8> {
        match self {
            Reference::Bits8(number) => vec![IE_CONCAT_8, 3, number, total, index],
            Reference::Bits16(number) => {
                let [high, low] = number.to_be_bytes();
                vec![IE_CONCAT_16, 4, high, low, total, index]
            }
        }
    }

    /// With the length octet.
    fn header_octets(self) -> usize {
        match self {
            Reference::Bits8(_) => 6,
            Reference::Bits16(_) => 7,
        }
    }
}

/// Units that a short message holds: alone, and as a part.
struct Limits {
    single: usize,
    part: usize,
}

impl Limits {
    /// 160/153/152 septets, 70/67/66 code units, 140/134/133 octets.
    fn of(alphabet: Alphabet, reference: Reference) -> Limits {
        let octets = USER_DATA_OCTETS - reference.header_octets();
        match alphabet {
            Alphabet::Gsm7 => Limits {
                single: USER_DATA_OCTETS * 8 / 7,
                part: octets * 8 / 7,
            },
            Alphabet::Ucs2 => Limits {
                single: USER_DATA_OCTETS / 2,
                part: octets / 2,
            },
            Alphabet::Octets => Limits {
                single: USER_DATA_OCTETS,
                part: octets,
            },
        }
    }
}

fn plan_text(text: &str, reference: Reference) -> Result<SegmentPlan, TextError> {
    if text.is_empty() {
        return Err(TextError::Empty);
    }
    let (alphabet, units) = match gsm::count(text) {
        Some(units) => (Alphabet::Gsm7, units),
        None => (Alphabet::Ucs2, text.chars().map(char::len_utf16).sum()),
    };
    let limits = Limits::of(alphabet, reference);
    let segments = if units <= limits.single {
        1
    } else if units > SEGMENTS_MAX * limits.part || units == text.chars().count() {
        // Too long in any case, or nothing that could not fill a part.
        units.div_ceil(limits.part)
    } else {
        match alphabet {
            Alphabet::Gsm7 => count_parts(text, limits.part, gsm::septets),
            Alphabet::Ucs2 | Alphabet::Octets => count_parts(text, limits.part, char::len_utf16),
        }
    };
    finish(alphabet, segments, units)
}

fn plan_binary(udh: &[u8], data: &[u8], reference: Reference) -> Result<SegmentPlan, TextError> {
    let alphabet = Alphabet::Octets;
    if !udh.is_empty() {
        let octets = 1 + udh.len() + data.len();
        if octets > USER_DATA_OCTETS {
            return Err(TextError::BinaryTooLong { octets });
        }
        Udh::new(udh).map_err(TextError::Udh)?;
        return finish(alphabet, 1, data.len());
    }
    let limits = Limits::of(alphabet, reference);
    match data.len() {
        0 => Err(TextError::Empty),
        n if n <= limits.single => finish(alphabet, 1, n),
        n => finish(alphabet, n.div_ceil(limits.part), n),
    }
}

fn finish(alphabet: Alphabet, segments: usize, units: usize) -> Result<SegmentPlan, TextError> {
    match u8::try_from(segments) {
        Ok(segments) => Ok(SegmentPlan {
            alphabet,
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

fn text_payloads(text: &str, plan: SegmentPlan, reference: Reference) -> Vec<Vec<u8>> {
    let limit = Limits::of(plan.alphabet, reference).part;
    let parts = usize::from(plan.segments);
    match plan.alphabet {
        Alphabet::Gsm7 => cut(text, parts, limit, gsm::septets)
            .into_iter()
            .map(|part| {
                let mut payload = Vec::new();
                let encoded = gsm::encode(part, &mut payload);
                debug_assert!(encoded.is_ok(), "planned as GSM 7 bit: {encoded:?}");
                payload
            })
            .collect(),
        Alphabet::Ucs2 | Alphabet::Octets => cut(text, parts, limit, char::len_utf16)
            .into_iter()
            .map(|part| {
                let mut payload = Vec::new();
                encode_ucs2(part, &mut payload);
                payload
            })
            .collect(),
    }
}

/// Cuts `text` into `count` parts, the fewest there can be: between characters, and where the
/// parts have room to spare for it between combining sequences.
fn cut(text: &str, count: usize, limit: usize, width: impl Fn(char) -> usize + Copy) -> Vec<&str> {
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
mod tests {
    use super::*;
    use crate::domain::text::{decode, decode_payload, decode_ucs2};
    use proptest::prelude::*;

    fn text(text: impl Into<String>) -> Body {
        Body::Text(text.into())
    }

    fn planned(body: &Body) -> (Alphabet, u8, usize) {
        let plan = plan(body).unwrap();
        (plan.alphabet, plan.segments, plan.units)
    }

    fn sizes(body: &Body, reference: Reference) -> Vec<usize> {
        let segmented = segment_with(body, reference).unwrap();
        segmented.segments.iter().map(|s| s.payload.len()).collect()
    }

    #[test]
    fn limits_are_those_of_the_specification() {
        assert_eq!(planned(&text("a".repeat(160))), (Alphabet::Gsm7, 1, 160));
        assert_eq!(planned(&text("a".repeat(161))), (Alphabet::Gsm7, 2, 161));
        assert_eq!(planned(&text("a".repeat(306))), (Alphabet::Gsm7, 2, 306));
        assert_eq!(planned(&text("a".repeat(307))), (Alphabet::Gsm7, 3, 307));
        assert_eq!(planned(&text("ж".repeat(70))), (Alphabet::Ucs2, 1, 70));
        assert_eq!(planned(&text("ж".repeat(71))), (Alphabet::Ucs2, 2, 71));
        assert_eq!(planned(&text("ж".repeat(135))), (Alphabet::Ucs2, 3, 135));
        let binary = |n| Body::Binary {
            udh: vec![],
            data: vec![0; n],
        };
        assert_eq!(planned(&binary(140)), (Alphabet::Octets, 1, 140));
        assert_eq!(planned(&binary(141)), (Alphabet::Octets, 2, 141));
        assert_eq!(planned(&binary(269)), (Alphabet::Octets, 3, 269));
    }

    #[test]
    fn a_longer_reference_leaves_shorter_parts() {
        assert_eq!(
            sizes(&text("a".repeat(170)), Reference::Bits8(1)),
            [153, 17]
        );
        assert_eq!(
            sizes(&text("a".repeat(170)), Reference::Bits16(1)),
            [152, 18]
        );
        assert_eq!(sizes(&text("ж".repeat(75)), Reference::Bits8(1)), [134, 16]);
        assert_eq!(
            sizes(&text("ж".repeat(75)), Reference::Bits16(1)),
            [132, 18]
        );
        let binary = Body::Binary {
            udh: vec![],
            data: vec![0; 150],
        };
        assert_eq!(sizes(&binary, Reference::Bits8(1)), [134, 16]);
        assert_eq!(sizes(&binary, Reference::Bits16(1)), [133, 17]);
    }

    #[test]
    fn short_message_begins_with_the_header_of_the_specification() {
        let segmented = segment(&text("a".repeat(161)), 0xC3).unwrap();
        let first = segmented.segments[0].short_message();
        assert_eq!(first[..7], [0x05, 0x00, 0x03, 0xC3, 0x02, 0x01, b'a']);
        assert_eq!(first.len(), 159);
        assert!(segmented.segments[1].udhi());
        assert_eq!(
            segmented.segments[1].short_message()[..6],
            [0x05, 0x00, 0x03, 0xC3, 0x02, 0x02]
        );

        let wide = segment_with(&text("a".repeat(161)), Reference::Bits16(0x1234)).unwrap();
        assert_eq!(
            wide.segments[1].short_message()[..7],
            [0x06, 0x08, 0x04, 0x12, 0x34, 0x02, 0x02]
        );
    }

    #[test]
    fn a_single_segment_has_no_header() {
        let segmented = segment(&text("hi €"), 1).unwrap();
        assert_eq!(
            (segmented.alphabet, segmented.data_coding),
            (Alphabet::Gsm7, 0)
        );
        assert!(!segmented.segments[0].udhi());
        assert_eq!(
            segmented.segments[0].short_message(),
            [b'h', b'i', b' ', 0x1B, 0x65]
        );
        assert_eq!(segment(&text("ж"), 1).unwrap().data_coding, 8);
    }

    #[test]
    fn an_extension_character_moves_whole_to_the_next_part() {
        let body = text(format!("{}€{}", "a".repeat(152), "b".repeat(10)));
        let segments = segment(&body, 1).unwrap().segments;
        assert_eq!(segments[0].payload.len(), 152);
        assert_eq!(segments[1].payload[..2], [0x1B, 0x65]);
        // The septet that is lost can cost a part: 153 escapes fill 306 septets, 76 to a part.
        assert_eq!(planned(&text("€".repeat(153))), (Alphabet::Gsm7, 3, 306));
    }

    #[test]
    fn a_surrogate_pair_moves_whole_to_the_next_part() {
        let body = text(format!("{}😀{}", "ж".repeat(66), "ж".repeat(10)));
        assert_eq!(sizes(&body, Reference::Bits8(1)), [132, 24]);
    }

    #[test]
    fn a_family_of_emoji_stays_together_where_there_is_room() {
        let family = "👩\u{200d}👩\u{200d}👧";
        let body = text(format!("{}{family}{}", "ж".repeat(62), "ж".repeat(10)));
        assert_eq!(sizes(&body, Reference::Bits8(1)), [124, 36]);
    }

    #[test]
    fn a_flag_and_an_accent_stay_together() {
        // Two flags: the cut falls between their halves.
        let body = text(format!("{}🇫🇷🇩🇪 and more of it", "ж".repeat(60)));
        let parts = segment(&body, 1).unwrap().segments;
        assert!(decode_ucs2(&parts[0].payload).ends_with("ж🇫🇷"));
        let body = text(format!("{}e\u{301} and more", "ж".repeat(66)));
        let parts = segment(&body, 1).unwrap().segments;
        assert!(decode_ucs2(&parts[1].payload).starts_with("e\u{301}"));
    }

    #[test]
    fn a_sequence_is_cut_where_keeping_it_would_cost_a_part() {
        // 134 units are exactly two full parts.
        let body = text(format!("{}e\u{301}{}", "ж".repeat(66), "ж".repeat(66)));
        assert_eq!(sizes(&body, Reference::Bits8(1)), [134, 134]);
    }

    #[test]
    fn a_sequence_longer_than_a_part_is_cut() {
        let body = text(format!("e{}", "\u{301}".repeat(150)));
        assert_eq!(sizes(&body, Reference::Bits8(1)), [134, 134, 34]);
    }

    #[test]
    fn more_than_255_parts_are_refused() {
        assert_eq!(planned(&text("a".repeat(255 * 153))).1, 255);
        assert_eq!(
            plan(&text("a".repeat(255 * 153 + 1))),
            Err(TextError::TooLong {
                alphabet: Alphabet::Gsm7,
                units: 39016
            })
        );
        // Fits by units, but each part loses a septet to an escape pair.
        let lossy = text("€".repeat(255 * 153 / 2));
        assert!(matches!(plan(&lossy), Err(TextError::TooLong { .. })));
        assert!(matches!(segment(&lossy, 1), Err(TextError::TooLong { .. })));
    }

    #[test]
    fn empty_bodies_are_refused() {
        assert_eq!(plan(&text("")), Err(TextError::Empty));
        let nothing = Body::Binary {
            udh: vec![],
            data: vec![],
        };
        assert_eq!(plan(&nothing), Err(TextError::Empty));
    }

    #[test]
    fn a_binary_with_its_own_header_is_one_segment() {
        let udh = vec![5, 4, 0x0B, 0x84, 0x23, 0xF0];
        let body = |n| Body::Binary {
            udh: udh.clone(),
            data: vec![1; n],
        };
        let segmented = segment(&body(133), 1).unwrap();
        assert_eq!(segmented.data_coding, 4);
        assert_eq!(
            segmented.segments[0].short_message()[..8],
            [6, 5, 4, 0x0B, 0x84, 0x23, 0xF0, 1]
        );
        assert_eq!(segmented.segments[0].short_message_len(), 140);
        assert_eq!(
            plan(&body(134)),
            Err(TextError::BinaryTooLong { octets: 141 })
        );
        assert!(plan(&body(0)).is_ok(), "a header alone is content");
        let lying = Body::Binary {
            udh: vec![5, 9, 1],
            data: vec![1],
        };
        assert!(matches!(plan(&lying), Err(TextError::Udh(_))));
    }

    /// Text that is rich in what makes cutting hard.
    fn awkward() -> impl Strategy<Value = String> {
        let gsm = proptest::collection::vec(
            proptest::sample::select(vec!["a", "€", "{", "é", "\r", "\n"]),
            1..900,
        );
        let wide = proptest::collection::vec(
            proptest::sample::select(vec![
                "ж", "a", "😀", "\u{301}", "\u{200d}", "🇫", "🇷", "क", "\u{94d}", "€",
            ]),
            1..500,
        );
        prop_oneof![
            gsm.prop_map(|c| c.concat()),
            wide.prop_map(|c| c.concat()),
            ".{1,300}".prop_map(String::from),
        ]
    }

    fn any_reference() -> impl Strategy<Value = Reference> {
        prop_oneof![
            any::<u8>().prop_map(Reference::Bits8),
            any::<u16>().prop_map(Reference::Bits16)
        ]
    }

    /// The fewest parts there can be, by trying every cut.
    fn fewest(widths: &[usize], limit: usize) -> usize {
        let mut best = vec![0; widths.len() + 1];
        for start in (0..widths.len()).rev() {
            let mut used = 0;
            let mut least = usize::MAX;
            for end in start..widths.len() {
                used += widths[end];
                if used > limit {
                    break;
                }
                least = least.min(1 + best[end + 1]);
            }
            best[start] = least;
        }
        best[0]
    }

    proptest! {
        #[test]
        fn parts_join_to_the_text(body in awkward(), reference in any_reference()) {
            let segmented = segment_with(&text(body.clone()), reference).unwrap();
            let mut joined = String::new();
            for (i, part) in segmented.segments.iter().enumerate() {
                let decoded = decode(segmented.data_coding, part.udhi(), &part.short_message());
                prop_assert_eq!(decoded.fault, None);
                let place = decoded.concat.map(|c| (c.total, c.index));
                let expected = (segmented.segments.len() as u8, i as u8 + 1);
                prop_assert_eq!(place, (segmented.segments.len() > 1).then_some(expected));
                let Body::Text(part) = decoded.body else { panic!("binary") };
                joined.push_str(&part);
            }
            prop_assert_eq!(joined, body);
        }

        #[test]
        fn no_part_is_too_long_or_ends_inside_a_character(body in awkward(), reference in any_reference()) {
            let segmented = segment_with(&text(body), reference).unwrap();
            for part in &segmented.segments {
                prop_assert!(!part.payload.is_empty());
                let header = part.short_message_len() - part.payload.len();
                match segmented.alphabet {
                    Alphabet::Gsm7 => {
                        let fill = usize::from(gsm::fill_bits(header));
                        let packed = gsm::pack(&part.payload, fill as u8);
                        prop_assert!(header + packed.len() <= 140);
                        prop_assert_ne!(part.payload.last(), Some(&gsm::ESCAPE));
                    }
                    Alphabet::Ucs2 => {
                        prop_assert!(header + part.payload.len() <= 140);
                        let last = &part.payload[part.payload.len() - 2..];
                        prop_assert!(!(0xD8..0xDC).contains(&last[0]), "ends in a high surrogate");
                    }
                    Alphabet::Octets => prop_assert!(false, "text became octets"),
                }
            }
        }

        #[test]
        fn the_plan_counts_what_segmentation_makes(body in awkward(), reference in any_reference()) {
            let body = text(body);
            let plan = plan_with(&body, reference).unwrap();
            let segmented = segment_with(&body, reference).unwrap();
            prop_assert_eq!(usize::from(plan.segments), segmented.segments.len());
            prop_assert_eq!(plan.alphabet, segmented.alphabet);
            let octets: usize = segmented.segments.iter().map(|s| s.payload.len()).sum();
            let unit = if plan.alphabet == Alphabet::Ucs2 { 2 } else { 1 };
            prop_assert_eq!(plan.units * unit, octets);
        }

        #[test]
        fn no_way_of_cutting_needs_fewer_parts(body in awkward()) {
            let plan = plan(&text(body.clone())).unwrap();
            let width = if plan.alphabet == Alphabet::Gsm7 { gsm::septets } else { char::len_utf16 };
            let limits = Limits::of(plan.alphabet, Reference::Bits8(0));
            let widths: Vec<usize> = body.chars().map(width).collect();
            let least = if plan.units <= limits.single { 1 } else { fewest(&widths, limits.part) };
            prop_assert_eq!(usize::from(plan.segments), least);
        }

        #[test]
        fn binary_parts_join_to_the_data(data in proptest::collection::vec(any::<u8>(), 1..2000), reference in any_reference()) {
            let body = Body::Binary { udh: vec![], data };
            let segmented = segment_with(&body, reference).unwrap();
            prop_assert_eq!(segmented.segments.len(), usize::from(plan_with(&body, reference).unwrap().segments));
            let mut joined = Vec::new();
            for part in &segmented.segments {
                prop_assert!(part.short_message_len() <= 140);
                joined.extend(decode(4, part.udhi(), &part.short_message()).payload);
            }
            prop_assert_eq!(decode_payload(4, &joined), body);
        }
    }
}
