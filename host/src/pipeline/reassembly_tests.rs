//! Parts in every order and number, and what does not fit.

use proptest::prelude::*;

use super::*;
use crate::domain::Address;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const HANDSET: &str = "+447700900123";

fn part(from: &str, text: &str, reference: u16, total: u8, index: u8) -> InboundPart {
    InboundPart {
        originator: Address::international(from).unwrap(),
        recipient: Address::originator("60777").unwrap(),
        data_coding: 0,
        udh: Vec::new(),
        payload: text.as_bytes().to_vec(),
        concat: Some(Concat::new(reference, total, index).unwrap()),
    }
}

fn north() -> CarrierId {
    CarrierId::from("north")
}

fn add(table: &mut Reassembly, part: InboundPart) -> Added {
    table.add(&north(), part, NOW)
}

/// The text, where the part completed one.
fn completed(added: Added) -> Option<String> {
    match added {
        Added::Complete(joined) => Some(text_of(&joined)),
        Added::Waiting | Added::Repeated | Added::Renewed(_) | Added::Alone(_) => None,
    }
}

fn text_of(joined: &Joined) -> String {
    String::from_utf8(joined.whole().unwrap().payload).unwrap()
}

fn is_empty(table: &Reassembly) -> bool {
    table.table.is_empty() && table.per_source.is_empty() && table.octets == 0
}

#[test]
fn parts_meet_in_any_order_and_repeats_do_no_harm() {
    let mut table = Reassembly::default();
    assert!(matches!(
        add(&mut table, part(HANDSET, "c", 7, 3, 3)),
        Added::Waiting
    ));
    assert!(matches!(
        add(&mut table, part(HANDSET, "a", 7, 3, 1)),
        Added::Waiting
    ));
    assert!(matches!(
        add(&mut table, part(HANDSET, "a", 7, 3, 1)),
        Added::Repeated
    ));
    let whole = completed(add(&mut table, part(HANDSET, "b", 7, 3, 2)));
    assert_eq!(whole.as_deref(), Some("abc"));
    assert!(is_empty(&table));
    // The carrier did not hear that the last one was taken.
    assert!(matches!(
        add(&mut table, part(HANDSET, "b", 7, 3, 2)),
        Added::Repeated
    ));
    assert!(is_empty(&table));
}

#[test]
fn the_same_reference_of_two_handsets_is_two_messages() {
    let mut table = Reassembly::default();
    add(&mut table, part(HANDSET, "a", 7, 2, 1));
    let other = add(&mut table, part("+447700900124", "b", 7, 2, 2));
    assert!(matches!(other, Added::Waiting));
}

#[test]
fn what_came_before_under_a_reference_can_be_taken_out_first() {
    let mut table = Reassembly::default();
    let concat = |p: &InboundPart| p.concat.unwrap();
    let old = part(HANDSET, "old ", 7, 2, 1);
    add(&mut table, old.clone());
    assert!(table.before(&north(), &old, concat(&old)).is_none());
    let other = part(HANDSET, "er", 7, 2, 2);
    assert!(table.before(&north(), &other, concat(&other)).is_none());

    let new = part(HANDSET, "new ", 7, 2, 1);
    let before = table.before(&north(), &new, concat(&new)).unwrap();
    assert_eq!(text_of(&before), "old ");
    assert!(is_empty(&table));
    assert!(matches!(add(&mut table, new), Added::Waiting));
    let all = completed(add(&mut table, part(HANDSET, "one", 7, 2, 2)));
    assert_eq!(all.as_deref(), Some("new one"));
}

#[test]
fn a_reference_that_comes_round_ends_what_was_never_completed() {
    let mut table = Reassembly::default();
    add(&mut table, part(HANDSET, "old", 7, 2, 1));
    let Added::Renewed(before) = add(&mut table, part(HANDSET, "new ", 7, 2, 1)) else {
        panic!("another message begins");
    };
    assert_eq!((text_of(&before).as_str(), before.complete), ("old", false));
    let whole = completed(add(&mut table, part(HANDSET, "text", 7, 2, 2)));
    assert_eq!(whole.as_deref(), Some("new text"));
}

#[test]
fn totals_that_contradict_each_other_are_two_messages() {
    let mut table = Reassembly::default();
    add(&mut table, part(HANDSET, "a", 7, 2, 1));
    let added = add(&mut table, part(HANDSET, "b", 7, 3, 2));
    assert!(matches!(added, Added::Waiting));
    assert_eq!(table.len(), 2);
    let whole = completed(add(&mut table, part(HANDSET, "c", 7, 2, 2)));
    assert_eq!(whole.as_deref(), Some("ac"));
}

#[test]
fn one_handset_cannot_fill_the_table() {
    let mut table = Reassembly::default();
    let mut alone = 0;
    for reference in 0..1_000 {
        let added = add(&mut table, part(HANDSET, "a", reference, 2, 1));
        alone += usize::from(matches!(added, Added::Alone(_)));
    }
    assert_eq!((table.len(), alone), (100, 900));
    // What is under way there can still be completed.
    let whole = completed(add(&mut table, part(HANDSET, "b", 5, 2, 2)));
    assert_eq!(whole.as_deref(), Some("ab"));
}

#[test]
fn parts_of_255_that_never_complete_cost_what_they_hold() {
    let mut table = Reassembly::new(ReassemblyLimits {
        octets: 1 << 20,
        ..ReassemblyLimits::default()
    });
    let text = "x".repeat(134);
    for handset in 0..10_000u64 {
        let from = format!("+44770{:07}", handset);
        for index in [1, 255] {
            add(&mut table, part(&from, &text, 7, 255, index));
        }
    }
    assert!(table.octets <= 1 << 20);
    assert!(table.len() > 1_000, "{}", table.len());
}

#[test]
fn what_never_completes_is_passed_on_as_far_as_it_came() {
    let mut table = Reassembly::default();
    add(&mut table, part(HANDSET, "c", 7, 3, 3));
    add(&mut table, part(HANDSET, "b", 7, 3, 2));
    assert!(table.overdue(NOW, 10).is_empty());
    let patience = ReassemblyLimits::default().patience;
    let late = table.overdue(NOW.plus(patience), 10);
    assert_eq!(late.len(), 1);
    assert_eq!(
        (text_of(&late[0]).as_str(), late[0].complete),
        ("bc", false)
    );
    let indices: Vec<u8> = late[0].concats.iter().map(|c| c.index).collect();
    assert_eq!(indices, [2, 3]);
    assert!(is_empty(&table));
}

#[test]
fn what_could_not_be_stored_waits_for_its_last_part_again() {
    let mut table = Reassembly::default();
    add(&mut table, part(HANDSET, "a", 7, 2, 1));
    let Added::Complete(joined) = add(&mut table, part(HANDSET, "b", 7, 2, 2)) else {
        panic!("complete");
    };
    table.put_back(joined, Some(2));
    let whole = completed(add(&mut table, part(HANDSET, "b", 7, 2, 2)));
    assert_eq!(whole.as_deref(), Some("ab"));
}

#[test]
fn parts_of_different_codings_are_one_text() {
    let mut table = Reassembly::default();
    add(&mut table, part(HANDSET, "a", 7, 2, 1));
    let second = InboundPart {
        data_coding: 8,
        ..part(HANDSET, "\0b", 7, 2, 2)
    };
    let Added::Complete(joined) = add(&mut table, second) else {
        panic!("complete");
    };
    let whole = joined.whole().unwrap();
    assert_eq!((whole.data_coding, &whole.payload[..]), (8, &b"\0a\0b"[..]));
}

proptest! {
    /// Any handsets, references, totals and orders, with repeats: every complete set comes out
    /// exactly once, whole and in order, and nothing stays behind but what is incomplete.
    #[test]
    fn every_complete_set_comes_out_once(
        messages in proptest::collection::vec((0u8..4, 0u16..3, 2u8..6), 1..12),
        order in any::<prop::sample::Index>(),
        repeats in proptest::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let mut messages = messages;
        messages.sort_unstable();
        messages.dedup();
        let mut parts: Vec<InboundPart> = messages.iter().flat_map(|(handset, reference, total)| {
            let from = format!("+44770090012{handset}");
            (1..=*total).map(move |index| part(&from, &format!("{handset}/{reference}/{total}:{index} "), *reference, *total, index))
        }).collect();
        for repeat in repeats {
            parts.push(parts[repeat.index(parts.len())].clone());
        }
        let mut table = Reassembly::default();
        let mut seen = Vec::new();
        let start = order.index(parts.len());
        parts.rotate_left(start);
        for (n, part) in parts.into_iter().rev().enumerate() {
            let at = NOW.plus(Duration::from_secs(n as u64));
            if let Added::Complete(joined) = table.add(&north(), part, at) {
                prop_assert!(joined.complete);
                seen.push(text_of(&joined));
            }
        }
        let mut expected: Vec<String> = messages.iter().map(|(handset, reference, total)| {
            (1..=*total).map(|index| format!("{handset}/{reference}/{total}:{index} ")).collect()
        }).collect();
        seen.sort();
        expected.sort();
        prop_assert_eq!(seen, expected);
        prop_assert!(is_empty(&table));
    }
}
