//! Limits, cuts and counts, against a second, slow way of cutting.

use proptest::prelude::*;

use super::*;
use crate::domain::message::Body;
use crate::domain::text::{
    Manner, Multipart, Segmented, TextStyle, decode, decode_payload, decode_ucs2, plan, plan_for,
    render, segment,
};

/// A carrier that ties parts together with that size of reference.
fn style(reference: Reference) -> TextStyle {
    TextStyle {
        multipart: match reference {
            Reference::Bits8(_) => Multipart::Udh8,
            Reference::Bits16(_) => Multipart::Udh16,
        },
        ..TextStyle::default()
    }
}

fn plan_with(body: &Body, reference: Reference) -> Result<SegmentPlan, TextError> {
    plan_for(body, &Manner::default(), &style(reference))
}

fn segment_with(body: &Body, reference: Reference) -> Result<Segmented, TextError> {
    let number = match reference {
        Reference::Bits8(number) => u16::from(number),
        Reference::Bits16(number) => number,
    };
    render(body, &Manner::default(), &style(reference), number)
}

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
    // An EMS sound at a place in the text (3GPP TS 23.040, 9.2.3.24.10.1.1) would be elsewhere in parts.
    let udh = vec![0x0B, 4, 0x0B, 0x84, 0x23, 0xF0];
    let body = |n| Body::Binary {
        udh: udh.clone(),
        data: vec![1; n],
    };
    let segmented = segment(&body(133), 1).unwrap();
    assert_eq!(segmented.data_coding, 4);
    assert_eq!(
        segmented.segments[0].short_message()[..8],
        [6, 0x0B, 4, 0x0B, 0x84, 0x23, 0xF0, 1]
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
        let limits = Limits::of(Unit::of(plan.alphabet), 0, Reference::Bits8(0));
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

#[test]
fn counts_are_those_of_another_calculator() {
    let mut lines = 0;
    for line in include_str!("golden/segments.tsv").lines() {
        let [piece, times, end, encoding, segments, units] =
            line.split('\t').collect::<Vec<_>>()[..]
        else {
            panic!("{line}");
        };
        let body = text(format!("{}{end}", piece.repeat(times.parse().unwrap())));
        let plan = plan(&body).unwrap();
        assert_eq!(plan.alphabet.name(), encoding, "{line}");
        assert_eq!(plan.units.to_string(), units, "{line}");
        let theirs: u8 = segments.parse().unwrap();
        // It never cuts a sequence of characters, even where that costs a segment.
        if matches!(piece, "e\u{301}" | "👍🏽" | "👩\u{200d}👧" | "🇫🇷" | "क्षि ")
        {
            assert!(plan.segments <= theirs, "{line}");
        } else {
            assert_eq!(plan.segments, theirs, "{line}");
        }
        lines += 1;
    }
    assert_eq!(lines, 18 * 26 * 3);
}
