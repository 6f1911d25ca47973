//! Records as octets: what is written is read back, and octets of another format are refused.

use proptest::prelude::*;

use super::*;
use crate::domain::text::{Alphabet, EncodingWish, Language, Languages, ShiftTables, TextWish};
use crate::domain::{
    Attempt, AttemptOutcome, CallOutcome, Decision, Due, Event, FailedDelivery, HookCall, Hop,
    Lane, Network, NetworkSource, OnUnknown, Part, Phase, Plan, Reason, ReceiptsWanted, Reroute,
    SetId, SmParameters, Source, Tlv, TrafficClass,
};

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,12}"
}

fn name() -> impl Strategy<Value = CarrierId> {
    prop_oneof![Just("north"), Just("south"), Just("")].prop_map(CarrierId::from)
}

fn set() -> impl Strategy<Value = SetId> {
    (0u8..3).prop_map(|n| SetId([n; 16]))
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![any::<u64>(), 1_700_000_000_000u64..1_700_000_100_000].prop_map(Timestamp)
}

fn octets() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..20)
}

fn some_address() -> impl Strategy<Value = Address> {
    (0u8..7, 0u8..19, text()).prop_map(|(ton, npi, value)| Address {
        ton: TypeOfNumber::from_u8(ton),
        npi: NumberingPlan::from_u8(npi),
        value,
    })
}

fn some_body() -> impl Strategy<Value = Body> {
    prop_oneof![
        text().prop_map(Body::Text),
        (octets(), octets()).prop_map(|(udh, data)| Body::Binary { udh, data }),
    ]
}

fn some_tlv() -> impl Strategy<Value = Tlv> {
    (any::<u16>(), octets()).prop_map(|(tag, value)| Tlv { tag, value })
}

fn few<T: std::fmt::Debug>(element: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    proptest::collection::vec(element, 0..4)
}

fn some_network() -> impl Strategy<Value = Network> {
    let country = proptest::option::of(any::<[u8; 2]>());
    (
        country,
        any::<Option<u16>>(),
        any::<Option<u16>>(),
        any::<bool>(),
        0u8..5,
    )
        .prop_map(|(country, mcc, mnc, ported, source)| Network {
            country,
            mcc,
            mnc,
            ported,
            source: NetworkSource::from_u8(source).unwrap(),
        })
}

fn some_plan() -> impl Strategy<Value = Plan> {
    let hop = (
        name(),
        proptest::option::of(some_address()),
        any::<Option<u64>>(),
        few(some_tlv()),
    );
    let hop = hop.prop_map(|(carrier, originator, price_micros, tlvs)| Hop {
        carrier,
        originator,
        price_micros,
        tlvs,
    });
    (few(hop), text()).prop_map(|(hops, reason)| Plan {
        hops,
        reason,
        reroute: None,
    })
}

fn some_outcome() -> impl Strategy<Value = AttemptOutcome> {
    prop_oneof![
        Just(AttemptOutcome::Sent),
        Just(AttemptOutcome::Throttled),
        any::<u32>().prop_map(AttemptOutcome::TemporaryFailure),
        any::<u32>().prop_map(AttemptOutcome::PermanentFailure),
        Just(AttemptOutcome::TimedOut),
        Just(AttemptOutcome::Unavailable),
        text().prop_map(AttemptOutcome::Undelivered),
    ]
}

fn some_decision() -> impl Strategy<Value = Decision> {
    let call = (any::<u8>(), 0u8..13, text(), any::<u32>()).prop_filter_map(
        "outcome",
        |(entry, n, why, nanos)| {
            Some(HookCall {
                entry,
                outcome: CallOutcome::from_u8(n)?,
                why,
                nanos,
            })
        },
    );
    (set(), time(), 0u8..4, few(call)).prop_filter_map("phase", |(set, at, phase, calls)| {
        Some(Decision {
            set,
            at,
            phase: Phase::from_u8(phase)?,
            calls,
        })
    })
}

fn some_event() -> impl Strategy<Value = Event> {
    let reason = (0u8..64).prop_filter_map("reason", Reason::from_u8);
    let state = proptest::sample::select(&State::ALL[..]);
    (
        time(),
        state,
        reason,
        proptest::option::of(name()),
        text(),
        proptest::option::of(set()),
    )
        .prop_map(|(at, state, reason, carrier, detail, set)| Event {
            at,
            state,
            reason,
            carrier,
            detail,
            set,
        })
}

fn some_part() -> impl Strategy<Value = Part> {
    let state = proptest::sample::select(&PartState::ALL[..]);
    let ids = (name(), text());
    (
        ids,
        state,
        text(),
        any::<Option<u8>>(),
        proptest::option::of(time()),
    )
        .prop_map(
            |((carrier, carrier_message_id), state, error, network_type, done_at)| Part {
                carrier,
                carrier_message_id,
                state,
                error,
                network_type,
                done_at,
            },
        )
}

fn some_reroute() -> impl Strategy<Value = Reroute> {
    let on = few(proptest::sample::select(&State::ALL[..]));
    (on, few(text()), any::<u8>(), any::<Option<u32>>()).prop_map(|(on, errors, max, within)| {
        Reroute {
            on,
            errors,
            max,
            within: within.map(|s| std::time::Duration::from_secs(s.into())),
        }
    })
}

fn some_failed() -> impl Strategy<Value = Vec<FailedDelivery>> {
    few(
        (few(some_part()), any::<Option<u64>>()).prop_map(|(parts, price_micros)| FailedDelivery {
            parts,
            price_micros,
        }),
    )
}

fn some_due() -> impl Strategy<Value = Due> {
    let lane = prop_oneof![Just(Lane::Decide), name().prop_map(Lane::Carrier)];
    (time(), lane).prop_map(|(at, lane)| Due { at, lane })
}

prop_compose! {
    fn content()(
        id: u128,
        account in text(),
        originator in some_address(),
        recipient in some_address(),
        network in some_network(),
        class in proptest::sample::select(&TrafficClass::ALL[..]),
        body in some_body(),
        submitted_body in proptest::option::of(some_body()),
        alphabet in proptest::sample::select(&Alphabet::ALL[..]),
        segments: u8,
        times in (time(), time(), time()),
    ) -> Message {
        Message {
            id: MessageId(id), account: AccountId::from(account.as_str()), originator, recipient, network, class,
            body, submitted_body, alphabet, segments, accepted_at: times.0, send_at: times.1, expires_at: times.2,
            reference: String::new(), metadata: Vec::new(), tlvs: Vec::new(), receipt_url: None,
            sm: SmParameters::default(), source: Source::Http, shift: ShiftTables::default(),
            on_unknown: OnUnknown::Resend, duplicate_risk: false, state: State::Queued, due: None,
            plan: Plan::default(), hop: 0, attempts: Vec::new(), parts: Vec::new(), failed: Vec::new(), decisions: Vec::new(),
            events: Vec::new(),
        }
    }
}

fn some_extras() -> impl Strategy<Value = (SmParameters, Source, ShiftTables)> {
    let octet = || proptest::option::of(any::<u8>());
    let language = || proptest::option::of(proptest::sample::select(Language::ALL));
    let octets = (octet(), octet(), octet(), octet(), any::<u8>(), 0u8..0x20);
    let rest = (any::<bool>(), any::<bool>(), 0u8..4, language(), language());
    (text(), proptest::option::of(text()), octets, rest).prop_map(
        |(service_type, system_id, o, r)| {
            let sm = SmParameters {
                service_type,
                protocol_id: o.0,
                priority_flag: o.1,
                data_coding: o.2,
                message_class: o.3,
                sm_default_msg_id: o.4,
                receipts: ReceiptsWanted::from_registered_delivery(o.5),
                replace_if_present: r.0,
                reply_path: r.1,
                messaging_mode: r.2,
                cut: o.0.map(|data_coding| {
                    Box::new(crate::domain::Cut {
                        data_coding,
                        udh: vec![0, 3, 1, 2, 1],
                        octets: vec![o.4; 3],
                    })
                }),
                text: TextWish {
                    // As arbitrary as the fields they are taken from.
                    encoding: o.0.and_then(|octet| EncodingWish::from_u8(octet % 5)),
                    languages: Languages::from_bits(u16::from(o.4) << 6),
                    transliterate: o.1.map(|octet| octet & 1 != 0),
                },
            };
            let source = system_id.map_or(Source::Http, |system_id| Source::Smpp { system_id });
            (
                sm,
                source,
                ShiftTables {
                    locking: r.3,
                    single: r.4,
                },
            )
        },
    )
}

prop_compose! {
    fn message()(
        content in content(),
        extras in proptest::option::of(some_extras()),
        returns in proptest::option::of((proptest::option::of(some_reroute()), some_failed())),
        reference in text(),
        metadata in few((text(), text())),
        tlvs in few(some_tlv()),
        receipt_url in proptest::option::of(text()),
        on_unknown in proptest::sample::select(vec![OnUnknown::Resend, OnUnknown::Fail, OnUnknown::Hold]),
        state in proptest::sample::select(&State::ALL[..]),
        rest in (any::<bool>(), any::<u8>(), proptest::option::of(some_due()), some_plan()),
        attempts in few((name(), time(), some_outcome())),
        parts in few(some_part()),
        decisions in few(some_decision()),
        events in few(some_event()),
    ) -> Message {
        let (duplicate_risk, hop, due, plan) = rest;
        let attempts = attempts.into_iter().map(|(carrier, at, outcome)| Attempt { carrier, at, outcome }).collect();
        let (sm, source, shift) = extras.unwrap_or_default();
        let (reroute, failed) = returns.unwrap_or_default();
        let plan = Plan { reroute, ..plan };
        Message {
            failed,
            sm, source, shift, reference, metadata, tlvs, receipt_url, on_unknown, state, duplicate_risk, hop, due, plan, attempts,
            parts, decisions, events, ..content
        }
    }
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    encode_message(message, &mut out);
    out
}

/// Octets as a damaged but well-checksummed record has them: beyond the checksum's protection.
fn resealed(mut octets: Vec<u8>) -> Vec<u8> {
    let end = octets.len().saturating_sub(4);
    octets.truncate(end);
    let sum = crc32fast::hash(&octets);
    octets.extend_from_slice(&sum.to_be_bytes());
    octets
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_message_comes_back(message in message()) {
        prop_assert_eq!(decode_message(&encoded(&message)), Ok(message));
    }

    #[test]
    fn a_changed_octet_is_noticed(message in message(), at: prop::sample::Index, bit in 0u8..8) {
        let mut octets = encoded(&message);
        let at = at.index(octets.len());
        octets[at] ^= 1 << bit;
        prop_assert!(decode_message(&octets).is_err());
    }

    #[test]
    fn octets_that_nobody_wrote_are_an_error_or_a_message(
        message in message(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut octets = encoded(&message);
        for (at, value) in changes {
            let at = at.index(octets.len().saturating_sub(6).max(1)) + 2;
            if let Some(octet) = octets.get_mut(at) {
                *octet = value;
            }
        }
        let _ = decode_message(&resealed(octets));
    }

    #[test]
    fn arbitrary_octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = (decode_awaited(&octets), decode_claim(&octets), decode_recent(&octets), decode_state(&octets));
        let _ = (decode_wish(&octets), decode_fingerprint(&octets));
        for kind in 1..=7 {
            let record = resealed([&[VERSION, kind], &octets[..], &[0; 4]].concat());
            let _ = (decode_message(&record), decode_inbound(&record), decode_outbox(&record));
            let _ = decode_lessons(&record);
            let _ = (decode_orphan(&record), decode_ledger(&record), decode_fragment(&record));
        }
    }

    #[test]
    fn inbound_and_outbox_records_come_back(
        parts in (any::<u128>(), name(), some_address(), some_address(), some_body(), time()),
        flags in any::<(bool, bool)>(),
        labels in few(text()),
        url in proptest::option::of(text()),
        account in proptest::option::of(text()),
        attempts: u32,
    ) {
        let (id, carrier, originator, recipient, body, received_at) = parts;
        let id = MessageId(id);
        let record = InboundRecord {
            inbound: Inbound { id, carrier, originator, recipient, body, received_at, opted_out: flags.0 },
            account: account.as_deref().map(AccountId::from), labels, consumed: flags.1, webhook_url: url,
            in_reply_to: flags.0.then_some(MessageId(7)),
            system_id: (attempts % 2 == 0).then(|| "acme".to_owned()),
        };
        let mut out = Vec::new();
        encode_inbound(&record, &mut out);
        prop_assert_eq!(decode_inbound(&out), Ok(record));
        let entry = OutboxEntry {
            event: id.0, account: AccountId::from("acme"),
            target: if flags.0 { OutboxTarget::Esme("acme".into()) } else { OutboxTarget::Url("https://example.org/".into()) },
            kind: if flags.1 { OutboxKind::Status(State::Delivered) } else { OutboxKind::Inbound }, message: id, at: received_at, due: Timestamp(7), attempts,
        };
        out.clear();
        encode_outbox(&entry, &mut out);
        prop_assert_eq!(decode_outbox(&out), Ok(entry));
    }
}

#[test]
fn a_newer_version_is_named() {
    let mut octets = vec![VERSION + 1, Kind::Message as u8];
    octets.extend_from_slice(&[0; 40]);
    let error = decode_message(&resealed(octets));
    assert_eq!(error, Err(Damage::Version(VERSION + 1)));
}

#[test]
fn another_kind_is_no_message() {
    let mut out = Vec::new();
    encode_ledger(&Ledger::default(), &mut out);
    assert_eq!(decode_message(&out), Err(Damage::Kind(Kind::Ledger as u8)));
}

#[test]
fn the_ledger_comes_back() {
    let ledger = Ledger {
        sequence: 9,
        accepted: 8,
        orphans: 7,
        outbox: 6,
        dead: 5,
        awaiting: 4,
        claim: 3,
        live: [(20_000, 1)].into(),
        queued: [(0, 2), (1, u64::MAX)].into(),
    };
    let mut out = Vec::new();
    encode_ledger(&ledger, &mut out);
    assert_eq!(decode_ledger(&out), Ok(ledger));
}

/// What a release wrote that knew one segment under a key, and of an orphan no more than its keys.
#[test]
fn what_earlier_releases_wrote_of_receipts_is_read() {
    let mut octets = 7u128.to_be_bytes().to_vec();
    octets.extend_from_slice(&[2, 0xE8, 0x07]);
    let awaited = Awaited {
        id: MessageId(7),
        part: 2,
        deadline: Timestamp(1_000),
    };
    assert_eq!(decode_awaited(&octets), Ok(vec![awaited]));

    // State delivered, error 000, received at 1000, done at 990, keys 26 and 1a.
    let fields = b"\x01\x03000\xE8\x07\x01\x13\x02\x0226\x021a";
    let record = resealed([&[1, Kind::Orphan as u8], &fields[..], &[0; 4]].concat());
    let orphan = decode_orphan(&record).unwrap();
    assert_eq!(orphan.keys, ["26", "1a"]);
    assert_eq!(orphan.receipt.id, "26");
    assert_eq!(orphan.style, ReceiptStyle::default());
    let report = Report {
        error: "000".into(),
        done_at: Some(Timestamp(990)),
        ..Report::of(PartState::Delivered)
    };
    assert_eq!(orphan.receipt.report, report);
}

#[test]
fn orphans_and_lessons_come_back() {
    let orphan = Orphan {
        receipt: Receipt {
            id: "1A".into(),
            report: Report {
                state: PartState::Rejected,
                error: "034".into(),
                network_type: Some(3),
                done_at: Some(Timestamp(5)),
            },
            evidence: Evidence::of(["447700900123", "Acme"], Some(0xBEEF)),
        },
        style: ReceiptStyle {
            id_form: IdForm::DashesInReceipt,
            per: Per::Message,
        },
        received_at: Timestamp(9),
        keys: vec!["1a".into()],
    };
    let mut out = Vec::new();
    encode_orphan(&orphan, &mut out);
    assert_eq!(decode_orphan(&out), Ok(orphan));
    for learned in IdForm::KNOWN.map(Some).into_iter().chain([None]) {
        let lessons = Lessons {
            ids: IdMemory {
                learned,
                votes: [1, 2, 3, 4, 5],
                undecided: 6,
            },
            per: Some(Per::Segment),
        };
        out.clear();
        encode_lessons(&lessons, &mut out);
        assert_eq!(decode_lessons(&out), Ok(lessons));
    }
}

#[test]
fn the_end_of_a_state_entry_may_be_never() {
    let octets = encode_state(Timestamp::MAX, b"value");
    assert_eq!(decode_state(&octets), Ok((Timestamp::MAX, &b"value"[..])));
}
