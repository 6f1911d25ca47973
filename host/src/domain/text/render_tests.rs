//! Segments as carriers of different ways get them.

use proptest::prelude::*;

use super::*;
use crate::domain::text::{
    ClassStyle, DefaultAlphabet, EncodingWish, Language, Languages, decode, decode_content,
    decode_payload, ports_element,
};

fn text(text: impl Into<String>) -> Body {
    Body::Text(text.into())
}

fn national() -> Manner {
    Manner {
        wish: TextWish {
            encoding: Some(EncodingWish::National),
            ..TextWish::default()
        },
        ..Manner::default()
    }
}

fn tied_by(multipart: Multipart) -> TextStyle {
    TextStyle {
        multipart,
        ..TextStyle::default()
    }
}

fn lengths(segmented: &Segmented) -> Vec<usize> {
    segmented.segments.iter().map(|s| s.payload.len()).collect()
}

#[test]
fn shift_tables_cost_what_the_specification_says() {
    let one = |multipart| {
        let plan = |n: usize| {
            // Spanish has no locking shift table, so á takes two septets.
            let body = text(format!("á{}", "a".repeat(n - 2)));
            let mut manner = national();
            manner.wish.languages = [Language::Spanish].into_iter().collect();
            plan_for(&body, &manner, &tied_by(multipart)).unwrap()
        };
        assert_eq!(plan(155).shift.single, Some(Language::Spanish));
        (2..700)
            .filter(|n| plan(*n).alphabet == Alphabet::Gsm7)
            .scan(0, |last, n| {
                let segments = plan(n).segments;
                let new = segments != std::mem::replace(last, segments);
                Some((n, new))
            })
            .filter(|(_, new)| *new)
            .map(|(n, _)| n)
            .collect::<Vec<_>>()
    };
    // Below 71 characters UCS-2 costs no more; then the last of each count of segments is n - 1.
    assert_eq!(one(Multipart::Udh8), [72, 156, 299, 448, 597]);
    assert_eq!(one(Multipart::Udh16), [72, 156, 297, 445, 593]);
    let limits = |elements, reference| Limits::of(Unit::Septet, elements, reference);
    let two = limits(6, Reference::Bits8(0));
    assert_eq!((two.single, two.part), (152, 146));
    let two = limits(6, Reference::Bits16(0));
    assert_eq!((two.single, two.part), (152, 145));
}

#[test]
fn shift_tables_stand_in_the_header_of_every_part() {
    let body = text(format!("{}ğ", "a".repeat(160)));
    let segmented = render(&body, &national(), &TextStyle::default(), 0x1234).unwrap();
    assert_eq!(segmented.data_coding, 0);
    assert_eq!(segmented.segments[0].udh, [0, 3, 0x34, 2, 1, 0x24, 1, 1]);
    assert_eq!(segmented.segments[1].udh, [0, 3, 0x34, 2, 2, 0x24, 1, 1]);
    assert_eq!(lengths(&segmented), [149, 13]);
    let single = render(
        &text(format!("{}ğ", "a".repeat(100))),
        &national(),
        &TextStyle::default(),
        1,
    );
    let single = single.unwrap().segments.remove(0);
    assert_eq!(single.udh, [0x24, 1, 1]);
    let octets = single.short_message();
    assert_eq!(octets[..4], [3, 0x24, 1, 1]);
    assert_eq!(
        decode(0, true, &octets).body,
        text(format!("{}ğ", "a".repeat(100)))
    );
}

#[test]
fn sar_parts_have_no_header_and_their_numbers() {
    let segmented = render(
        &text("a".repeat(310)),
        &Manner::default(),
        &tied_by(Multipart::Sar),
        0xABCD,
    )
    .unwrap();
    assert_eq!(lengths(&segmented), [153, 153, 4]);
    for (i, segment) in (1..).zip(&segmented.segments) {
        assert!(!segment.udhi());
        assert_eq!(
            segment.sar,
            Some(Concat {
                reference: 0xABCD,
                total: 3,
                index: i
            })
        );
    }
    let single = render(&text("a"), &Manner::default(), &tied_by(Multipart::Sar), 1).unwrap();
    assert_eq!(single.segments[0].sar, None);
}

#[test]
fn a_payload_is_one_submission_of_many_segments() {
    let segmented = render(
        &text("a".repeat(500)),
        &Manner::default(),
        &tied_by(Multipart::Payload),
        1,
    )
    .unwrap();
    assert_eq!((lengths(&segmented), segmented.count), (vec![500], 4));
    assert!(segmented.is_payload());
    assert_eq!(segmented.segments[0].end, 500);
    let short = render(
        &text("a"),
        &Manner::default(),
        &tied_by(Multipart::Payload),
        1,
    )
    .unwrap();
    assert!(!short.is_payload());
}

#[test]
fn a_header_of_our_own_ties_parts_together_itself() {
    let body = text(format!("{}ğ", "a".repeat(160)));
    for multipart in [Multipart::Sar, Multipart::Payload] {
        let segmented = render(&body, &national(), &tied_by(multipart), 7).unwrap();
        assert_eq!(segmented.segments.len(), 2);
        assert_eq!(segmented.segments[0].udh[..5], [0, 3, 7, 2, 1]);
    }
}

#[test]
fn a_carrier_with_another_default_alphabet_gets_its_octets() {
    let style = |default_alphabet| TextStyle {
        default_alphabet,
        ..TextStyle::default()
    };
    let latin1 = style(DefaultAlphabet::Latin1);
    let segmented = render(&text("é@_[ñ"), &Manner::default(), &latin1, 1).unwrap();
    assert_eq!(
        segmented.segments[0].payload,
        [0xE9, b'@', b'_', b'[', 0xF1]
    );
    assert_eq!(
        (segmented.data_coding, segmented.units),
        (0, 6),
        "as the phone counts it"
    );
    // No euro sign in ISO-8859-1, no accent in ASCII.
    let euro = render(&text("5 €"), &Manner::default(), &latin1, 1).unwrap();
    assert_eq!((euro.data_coding, euro.wire), (8, Wire::Ucs2));
    let ascii = style(DefaultAlphabet::Ascii);
    assert_eq!(
        render(&text("a@"), &Manner::default(), &ascii, 1)
            .unwrap()
            .segments[0]
            .payload,
        b"a@"
    );
    assert_eq!(
        render(&text("é"), &Manner::default(), &ascii, 1)
            .unwrap()
            .wire,
        Wire::Ucs2
    );
    // Its SMSC turns ISO-8859-1 into GSM by itself, so it cannot know shift tables.
    let long = text(format!("{}ğ", "a".repeat(100)));
    assert_eq!(
        render(&long, &national(), &latin1, 1).unwrap().wire,
        Wire::Ucs2
    );
}

#[test]
fn iso_8859_1_travels_where_the_carrier_takes_it() {
    let style = TextStyle {
        latin1: true,
        ..TextStyle::default()
    };
    let segmented = render(&text("façade".repeat(23)), &Manner::default(), &style, 1).unwrap();
    assert_eq!((segmented.data_coding, segmented.count), (3, 1));
    assert_eq!(
        segmented.segments[0].payload[..6],
        [b'f', b'a', 0xE7, b'a', b'd', b'e']
    );
    let long = render(&text("façade".repeat(24)), &Manner::default(), &style, 1).unwrap();
    assert_eq!(lengths(&long), [134, 10]);
    assert_eq!(
        render(&text("plain"), &Manner::default(), &style, 1)
            .unwrap()
            .data_coding,
        0
    );
    assert_eq!(
        render(&text("ça 😀"), &Manner::default(), &style, 1)
            .unwrap()
            .data_coding,
        8
    );
    let flash = Manner {
        message_class: Some(0),
        ..Manner::default()
    };
    assert_eq!(
        render(&text("ça"), &flash, &style, 1).unwrap().data_coding,
        0x18
    );
}

#[test]
fn a_class_changes_data_coding_and_no_octet() {
    let flash = Manner {
        message_class: Some(0),
        ..Manner::default()
    };
    let segmented = render(&text("now"), &flash, &TextStyle::default(), 1).unwrap();
    assert_eq!(
        (
            segmented.data_coding,
            segmented.segments[0].payload.as_slice()
        ),
        (0x10, b"now".as_slice())
    );
    let subunit = TextStyle {
        message_class: ClassStyle::Subunit,
        ..TextStyle::default()
    };
    let segmented = render(&text("ж"), &flash, &subunit, 1).unwrap();
    assert_eq!(
        (segmented.data_coding, segmented.dest_addr_subunit),
        (8, Some(1))
    );
}

#[test]
fn data_for_a_port_is_cut_with_its_port_in_every_part() {
    let body = Body::Binary {
        udh: ports_element(2948, 9200).to_vec(),
        data: (0..=255).collect(),
    };
    let segmented = render(&body, &Manner::default(), &tied_by(Multipart::Sar), 9).unwrap();
    assert_eq!(lengths(&segmented), [128, 128]);
    for (i, segment) in (1..).zip(&segmented.segments) {
        assert_eq!(segment.udh, [0, 3, 9, 2, i, 5, 4, 0x0B, 0x84, 0x23, 0xF0]);
        assert_eq!(segment.short_message_len(), 140);
    }
}

#[test]
fn data_under_a_coding_of_its_own_is_counted_by_it() {
    let under = |data_coding, data: Vec<u8>| {
        let manner = Manner {
            data_coding: Some(data_coding),
            ..Manner::default()
        };
        let body = Body::Binary { udh: vec![], data };
        render(&body, &manner, &TextStyle::default(), 1).unwrap()
    };
    assert_eq!(lengths(&under(0, vec![b'a'; 160])), [160]);
    let mut septets = vec![b'a'; 161];
    septets[152] = gsm::ESCAPE;
    assert_eq!(
        lengths(&under(0, septets)),
        [152, 9],
        "an escape stays with what it announces"
    );
    let mut units = vec![0; 142];
    units[132] = 0xD8;
    let cut = under(8, units);
    assert_eq!((lengths(&cut), cut.data_coding), (vec![132, 10], 8));
    assert_eq!(lengths(&under(0xF5, vec![1; 140])), [140]);
}

#[test]
fn headers_without_room_for_data_are_refused() {
    let ports = ports_element(1, 2).repeat(22);
    let body = |n| Body::Binary {
        udh: ports.clone(),
        data: vec![1; n],
    };
    assert!(plan(&body(7)).is_ok());
    assert_eq!(
        plan(&body(8)),
        Err(TextError::BinaryTooLong { octets: 141 })
    );
    let huge = Body::Binary {
        udh: ports_element(1, 2).repeat(40),
        data: vec![],
    };
    assert_eq!(plan(&huge), Err(TextError::BinaryTooLong { octets: 241 }));
}

#[test]
fn what_was_rewritten_is_told() {
    let manner = Manner {
        wish: TextWish {
            transliterate: Some(true),
            ..TextWish::default()
        },
        ..Manner::default()
    };
    let segmented = render(&text("“ok”"), &manner, &TextStyle::default(), 1).unwrap();
    assert_eq!(segmented.segments[0].payload, b"\"ok\"");
    assert_eq!(segmented.rewritten.unwrap().changes.len(), 2);
}

#[test]
fn content_with_shift_tables_is_text_and_with_ports_is_not() {
    assert_eq!(decode_content(0, &[0x24, 1, 1], b"\x1bg"), text("ğ"));
    let ports = ports_element(80, 0);
    let binary = Body::Binary {
        udh: ports.to_vec(),
        data: b"x".to_vec(),
    };
    assert_eq!(decode_content(0, &ports, b"x"), binary);
    assert_eq!(decode_content(8, &[0x24, 1, 1], &[0, 0x61]), text("a"));
}

/// Letters of many tables, pairs and sequences.
fn awkward() -> impl Strategy<Value = String> {
    let parts = |all: &'static [&'static str], n: usize| {
        proptest::collection::vec(proptest::sample::select(all), 1..n).prop_map(|c| c.concat())
    };
    prop_oneof![
        parts(&["a", "ğ", "ş", "€", "[", "I", "İ", "é", "\n"], 600),
        parts(&["क", "्", "।", "०", "A", "a", " ", "ि"], 500),
        parts(&["ã", "õ", "Ω", "ç", "a", "€", "^"], 500),
        parts(&["“", "a", "é", "e\u{301}", "😀", "ﬁ"], 400),
        parts(&["ç", "a", "é", "@", "ÿ"], 400),
    ]
}

fn any_style() -> impl Strategy<Value = TextStyle> {
    use Multipart::{Payload, Sar, Udh8, Udh16};
    (
        proptest::sample::select(vec![Udh8, Udh16, Sar, Payload]),
        proptest::sample::select(vec![
            DefaultAlphabet::Gsm7,
            DefaultAlphabet::Latin1,
            DefaultAlphabet::Ascii,
        ]),
        any::<[bool; 3]>(),
    )
        .prop_map(
            |(multipart, default_alphabet, [latin1, no_shift_tables, transliterate])| TextStyle {
                multipart,
                default_alphabet,
                latin1,
                no_shift_tables,
                transliterate,
                ..TextStyle::default()
            },
        )
}

fn any_manner() -> impl Strategy<Value = Manner> {
    let encodings = vec![
        EncodingWish::Auto,
        EncodingWish::Ucs2,
        EncodingWish::National,
    ];
    (
        proptest::option::of(proptest::sample::select(encodings)),
        any::<u16>(),
        proptest::option::of(any::<bool>()),
        proptest::option::of(0_u8..4),
    )
        .prop_map(
            |(encoding, languages, transliterate, message_class)| Manner {
                wish: TextWish {
                    encoding,
                    languages: Languages::from_bits(languages),
                    transliterate,
                },
                message_class,
                data_coding: None,
            },
        )
}

/// As a phone reads it: each part by its own header, all of them joined.
fn read_back(segmented: &Segmented, style: &TextStyle) -> String {
    let data_coding = style.inbound_data_coding(segmented.data_coding);
    let parts = segmented.segments.iter().map(|segment| {
        let decoded = decode(data_coding, segment.udhi(), &segment.short_message());
        assert_eq!(decoded.fault, None);
        let concat = decoded.concat.or(segment.sar);
        let many = segmented.segments.len() > 1;
        assert_eq!(
            concat.map(|c| usize::from(c.total)),
            many.then_some(segmented.segments.len())
        );
        match decoded.body {
            Body::Text(text) => text,
            Body::Binary { .. } => panic!("text became binary"),
        }
    });
    parts.collect()
}

proptest! {
    #[test]
    fn parts_join_to_the_text_whatever_the_carrier(
        body in awkward(), style in any_style(), manner in any_manner(), number: u16,
    ) {
        let segmented = render(&text(body.clone()), &manner, &style, number).unwrap();
        let sent = segmented.rewritten.as_ref().map_or(&body, |r| &r.text);
        prop_assert_eq!(&read_back(&segmented, &style), sent);
        // Each end is where the next part begins.
        let mut start = 0;
        for segment in &segmented.segments {
            prop_assert!(sent.get(start..segment.end).is_some_and(|part| !part.is_empty()));
            start = segment.end;
        }
        prop_assert_eq!(start, sent.len());
    }

    #[test]
    fn the_plan_counts_what_is_rendered(
        body in awkward(), style in any_style(), manner in any_manner(), number: u16,
    ) {
        let body = text(body);
        let segmented = render(&body, &manner, &style, number).unwrap();
        let plan = plan_for(&body, &manner, &style).unwrap();
        prop_assert_eq!((plan.segments, plan.units, plan.shift), (segmented.count, segmented.units, segmented.shift));
        if !segmented.is_payload() {
            prop_assert_eq!(usize::from(segmented.count), segmented.segments.len());
        }
    }

    #[test]
    fn no_part_is_too_long_for_the_phone_or_ends_inside_a_character(
        body in awkward(), style in any_style(), manner in any_manner(), number: u16,
    ) {
        let segmented = render(&text(body), &manner, &style, number).unwrap();
        for segment in &segmented.segments {
            let payload = &segment.payload;
            // Where the SMSC writes the reference it needs its room.
            let header = segment.short_message_len() - payload.len() + if segment.sar.is_some() { 6 } else { 0 };
            if segmented.is_payload() {
                continue;
            }
            match segmented.wire {
                Wire::Gsm7 => {
                    let packed = gsm::pack(payload, gsm::fill_bits(header));
                    prop_assert!(header + packed.len() <= 140);
                    prop_assert_ne!(payload.last(), Some(&gsm::ESCAPE));
                }
                Wire::Ucs2 => {
                    prop_assert!(header + payload.len() <= 140);
                    prop_assert!(!(0xD8..0xDC).contains(&payload[payload.len() - 2]));
                }
                Wire::Latin1 | Wire::Octets => prop_assert!(header + payload.len() <= 140),
                Wire::Default(_) => prop_assert!(payload.len() <= 160),
            }
        }
    }

    #[test]
    fn data_of_any_coding_joins_again(
        data in proptest::collection::vec(any::<u8>(), 1..1500),
        data_coding in proptest::option::of(any::<u8>()),
        ports: bool, style in any_style(), number: u16,
    ) {
        let udh = if ports { ports_element(1, 2).to_vec() } else { vec![] };
        let manner = Manner { data_coding, ..Manner::default() };
        let body = Body::Binary { udh: udh.clone(), data: data.clone() };
        let segmented = render(&body, &manner, &style, number).unwrap();
        prop_assert_eq!(plan_for(&body, &manner, &style).unwrap().segments, segmented.count);
        let mut joined: Vec<u8> = Vec::new();
        for segment in &segmented.segments {
            joined.extend(&segment.payload);
            prop_assert!(segmented.is_payload() || segment.short_message_len() <= 160);
            if ports {
                prop_assert!(segment.udh.ends_with(&udh));
            }
        }
        prop_assert_eq!(joined, data);
    }

    #[test]
    fn any_text_is_rendered_or_refused(body: String, udh: Vec<u8>, style in any_style(), manner in any_manner()) {
        let data = body.clone().into_bytes();
        for body in [Body::Text(body), Body::Binary { udh, data }] {
            if let Ok(segmented) = render(&body, &manner, &style, 1) {
                prop_assert!((1..=255).contains(&segmented.segments.len()));
                decode_payload(segmented.data_coding, &segmented.segments[0].payload);
            }
        }
    }
}
