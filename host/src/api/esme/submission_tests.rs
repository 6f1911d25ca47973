//! What a submit_sm comes to, parameter by parameter.

use proptest::prelude::*;

use super::super::system::SystemSpec;
use super::super::tests_support::{spec, system};
use super::*;
use crate::domain::{FinalReceipt, TrafficClass};
use crate::smpp::pdu::TlvBuf;

/// 2027-01-15 08:00:00 UTC.
const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn sm<'a>() -> Sm<'a> {
    Sm {
        source_addr_ton: 5,
        source_addr: b"Acme",
        dest_addr_ton: 1,
        dest_addr_npi: 1,
        destination_addr: b"447700900123",
        short_message: b"hello",
        ..Sm::default()
    }
}

fn read_by(sm: &Sm<'_>, change: impl FnOnce(&mut SystemSpec)) -> Result<Submission, u32> {
    let mut spec = spec("app");
    change(&mut spec);
    let limits = Limits::default();
    submission(sm, &system(spec), &limits, NOW, &Address::international)
        .map_err(|r| r.command_status)
}

fn read(sm: &Sm<'_>) -> Result<Submission, u32> {
    read_by(sm, |_| {})
}

fn tlvs(list: &[(u16, &[u8])]) -> TlvBuf {
    let mut tlvs = TlvBuf::new();
    for (tag, value) in list {
        tlvs.push(*tag, value).unwrap();
    }
    tlvs
}

#[test]
fn the_smallest_submission() {
    let s = read(&sm()).unwrap();
    assert_eq!(s.originator.value, "Acme");
    assert_eq!(s.originator.ton, TypeOfNumber::Alphanumeric);
    assert_eq!(s.recipient.to_string(), "+447700900123");
    assert_eq!(s.body, Body::Text("hello".to_owned()));
    assert_eq!((s.send_at, s.validity_seconds, s.class), (None, None, None));
    assert_eq!(s.source.system_id(), Some("app"));
    assert_eq!(s.sm.receipts.last, FinalReceipt::Never);
    assert_eq!(s.on_unknown, OnUnknown::Resend);
    assert!(s.tlvs.is_empty() && s.sm.cut.is_none());
}

#[test]
fn every_parameter_is_kept() {
    let kept = tlvs(&[
        (tag::USER_MESSAGE_REFERENCE, &[0, 7]),
        (0x1400, b"vendor"),
        (0x1400, b"twice"),
    ]);
    let s = read_by(
        &Sm {
            service_type: b"CMT",
            esm_class: 0x80 | 0x03,
            protocol_id: 0x41,
            priority_flag: 2,
            schedule_delivery_time: b"000001000000000R",
            validity_period: b"000003000000000R",
            registered_delivery: 0x1D,
            replace_if_present_flag: 1,
            data_coding: 0xF0,
            tlvs: kept.as_tlvs(),
            ..sm()
        },
        |spec| spec.class = Some(TrafficClass::Otp),
    )
    .unwrap();
    assert_eq!(s.class, Some(TrafficClass::Otp));
    assert_eq!(s.sm.service_type, "CMT");
    assert_eq!(s.sm.protocol_id, Some(0x41));
    assert_eq!(s.sm.priority_flag, Some(2));
    assert!(s.sm.replace_if_present && s.sm.reply_path);
    assert_eq!((s.sm.messaging_mode, s.sm.message_class), (3, Some(0)));
    assert_eq!(s.sm.receipts.registered_delivery(), 0x1D);
    assert_eq!(s.send_at, Some(NOW.plus(Duration::from_secs(86_400))));
    // Three days from now are two from the moment it is sent.
    assert_eq!(s.validity_seconds, Some(2 * 86_400));
    let tags: Vec<_> = s.tlvs.iter().map(|t| (t.tag, &*t.value)).collect();
    assert_eq!(tags, [(0x0204, &[0, 7][..]), (0x1400, b"vendor")]);
}

#[test]
fn what_is_wrong_has_its_own_status() {
    let long = [b'1'; 25];
    let cases: [(Sm<'_>, u32); 21] = [
        (
            Sm {
                service_type: b"TOOLONG",
                ..sm()
            },
            status::ESME_RINVSERTYP,
        ),
        (
            Sm {
                esm_class: 0x04,
                ..sm()
            },
            status::ESME_RINVESMCLASS,
        ),
        (
            Sm {
                esm_class: 0x40,
                ..sm()
            },
            status::ESME_RINVESMCLASS,
        ),
        (
            Sm {
                priority_flag: 4,
                ..sm()
            },
            status::ESME_RINVPRTFLG,
        ),
        (
            Sm {
                registered_delivery: 0x20,
                ..sm()
            },
            status::ESME_RINVREGDLVFLG,
        ),
        (
            Sm {
                replace_if_present_flag: 2,
                ..sm()
            },
            status::ESME_RINVREPFLAG,
        ),
        (
            Sm {
                schedule_delivery_time: b"soon",
                ..sm()
            },
            status::ESME_RINVSCHED,
        ),
        (
            Sm {
                validity_period: b"long",
                ..sm()
            },
            status::ESME_RINVEXPIRY,
        ),
        (
            Sm {
                validity_period: b"260101000000000+",
                ..sm()
            },
            status::ESME_RINVEXPIRY,
        ),
        (
            Sm {
                destination_addr: b"",
                ..sm()
            },
            status::ESME_RINVDSTADR,
        ),
        (
            Sm {
                destination_addr: b"12345",
                ..sm()
            },
            status::ESME_RINVDSTADR,
        ),
        (
            Sm {
                destination_addr: b"44x7700900123",
                ..sm()
            },
            status::ESME_RINVDSTADR,
        ),
        (
            Sm {
                dest_addr_ton: 5,
                ..sm()
            },
            status::ESME_RINVDSTTON,
        ),
        (
            Sm {
                dest_addr_ton: 9,
                ..sm()
            },
            status::ESME_RINVDSTTON,
        ),
        (
            Sm {
                source_addr: b"",
                ..sm()
            },
            status::ESME_RINVSRCADR,
        ),
        (
            Sm {
                source_addr: b"TwelveLetter",
                ..sm()
            },
            status::ESME_RINVSRCADR,
        ),
        (
            Sm {
                source_addr: b"A\xFFe",
                ..sm()
            },
            status::ESME_RINVSRCADR,
        ),
        (
            Sm {
                source_addr_ton: 3,
                source_addr: &long,
                ..sm()
            },
            status::ESME_RINVSRCADR,
        ),
        (
            Sm {
                source_addr_ton: 7,
                ..sm()
            },
            status::ESME_RINVSRCTON,
        ),
        (
            Sm {
                short_message: b"",
                ..sm()
            },
            status::ESME_RINVMSGLEN,
        ),
        (
            Sm {
                short_message: b"",
                sm_default_msg_id: 3,
                ..sm()
            },
            status::ESME_RINVDFTMSGID,
        ),
    ];
    for (sm, expect) in cases {
        let got = read(&sm).map(|_| ());
        assert_eq!(got, Err(expect), "{sm:?}");
    }
}

#[test]
fn parameters_are_measured() {
    let refused = |list: &[(u16, &[u8])]| {
        let list = tlvs(list);
        let sm = Sm {
            tlvs: list.as_tlvs(),
            ..sm()
        };
        read(&sm).map(|_| ())
    };
    assert_eq!(
        refused(&[(tag::USER_MESSAGE_REFERENCE, &[7])]),
        Err(status::ESME_RINVPARLEN)
    );
    assert_eq!(
        refused(&[(0x1400, &[0; 5_000])]),
        Err(status::ESME_RINVOPTPARSTREAM)
    );
    assert_eq!(
        refused(&[(tag::MESSAGE_PAYLOAD, b"too")]),
        Err(status::ESME_ROPTPARNOTALLWD)
    );
    assert_eq!(
        refused(&[(tag::SAR_MSG_REF_NUM, &[0, 7])]),
        Err(status::ESME_RMISSINGOPTPARAM)
    );
    let sar = |total, index| {
        refused(&[
            (tag::SAR_MSG_REF_NUM, &[0, 7]),
            (tag::SAR_TOTAL_SEGMENTS, &[total]),
            (tag::SAR_SEGMENT_SEQNUM, &[index]),
        ])
    };
    assert_eq!(sar(2, 3), Err(status::ESME_RINVOPTPARAMVAL));
    assert_eq!(sar(2, 0), Err(status::ESME_RINVOPTPARAMVAL));
    assert_eq!(sar(2, 2), Ok(()));
    assert_eq!(sar(1, 1), Ok(()));
}

#[test]
fn a_time_in_the_past_is_now_and_a_long_validity_is_the_longest() {
    let s = read(&Sm {
        schedule_delivery_time: b"260101000000000+",
        validity_period: b"990000000000000R",
        ..sm()
    })
    .unwrap();
    assert_eq!(s.send_at, None);
    assert_eq!(
        s.validity_seconds,
        Some(Limits::default().max_validity_seconds)
    );
    let absolute = read(&Sm {
        // An hour from now, told from an hour east of it.
        validity_period: b"270115100000004+",
        ..sm()
    });
    assert_eq!(absolute.unwrap().validity_seconds, Some(3600));
}

#[test]
fn text_is_read_by_its_data_coding() {
    let text = |data_coding, octets: &[u8], latin1: bool| {
        let sm = Sm {
            data_coding,
            short_message: octets,
            ..sm()
        };
        let read = read_by(&sm, |spec| {
            if latin1 {
                spec.default_alphabet = DefaultAlphabet::Latin1;
            }
        });
        match read.unwrap().body {
            Body::Text(text) => text,
            Body::Binary { .. } => "(binary)".to_owned(),
        }
    };
    assert_eq!(text(0, b"\x1b\x65\x00", false), "€@");
    assert_eq!(text(0, b"\xE9@", true), "é@");
    assert_eq!(text(3, b"\xE9", false), "é");
    assert_eq!(text(8, &[0x04, 0x16], true), "Ж");
    assert_eq!(text(4, &[1, 2], false), "(binary)");
}

#[test]
fn a_part_shows_its_text_and_keeps_its_octets() {
    let octets = b"\x05\x00\x03\x09\x02\x01one ";
    let s = read(&Sm {
        esm_class: 0x40,
        short_message: octets,
        ..sm()
    })
    .unwrap();
    assert_eq!(s.body, Body::Text("one ".to_owned()));
    let cut = s.sm.cut.expect("a part");
    assert_eq!(cut.udh, [0, 3, 9, 2, 1]);
    assert_eq!(cut.octets, b"one ");
    let sar = tlvs(&[
        (tag::SAR_MSG_REF_NUM, &[0, 9]),
        (tag::SAR_TOTAL_SEGMENTS, &[2]),
        (tag::SAR_SEGMENT_SEQNUM, &[1]),
    ]);
    let s = read(&Sm {
        short_message: b"one ",
        tlvs: sar.as_tlvs(),
        ..sm()
    })
    .unwrap();
    assert_eq!(s.sm.cut.expect("a part").udh, [0, 3, 9, 2, 1]);
    assert!(s.tlvs.is_empty(), "the header says it now");
}

#[test]
fn ports_make_octets_a_programs_and_text_stays_visible() {
    let octets = b"\x06\x05\x04\x0b\x84\x23\xf0\x00\xff";
    let binary = Sm {
        esm_class: 0x40,
        data_coding: 4,
        short_message: octets,
        ..sm()
    };
    let s = read(&binary).unwrap();
    assert_eq!(
        s.body,
        Body::Binary {
            udh: vec![5, 4, 0x0b, 0x84, 0x23, 0xf0],
            data: vec![0, 0xff]
        }
    );
    assert_eq!((s.sm.data_coding, s.sm.cut), (Some(4), None));
    let text = Sm {
        data_coding: 0,
        short_message: b"\x06\x05\x04\x0b\x84\x23\xf0hi",
        ..binary
    };
    let s = read(&text).unwrap();
    assert_eq!(s.body, Body::Text("hi".to_owned()));
    assert!(s.sm.cut.is_some());
}

#[test]
fn a_message_may_be_payload_or_a_kept_text() {
    let payload = "long ".repeat(60);
    let list = tlvs(&[(tag::MESSAGE_PAYLOAD, payload.as_bytes())]);
    let s = read(&Sm {
        short_message: b"",
        tlvs: list.as_tlvs(),
        ..sm()
    })
    .unwrap();
    assert_eq!(s.body, Body::Text(payload));
    let kept = Sm {
        short_message: b"",
        sm_default_msg_id: 3,
        ..sm()
    };
    let s = read_by(&kept, |spec| {
        spec.default_messages.insert(3, "Call us.".to_owned());
    });
    assert_eq!(s.unwrap().body, Body::Text("Call us.".to_owned()));
}

#[test]
fn originators_are_those_of_the_configuration() {
    let fallback = |spec: &mut SystemSpec| {
        spec.originator = Some(Address::originator("60777").unwrap());
    };
    let nobody = Sm {
        source_addr: b"",
        source_addr_ton: 0,
        ..sm()
    };
    assert_eq!(
        read_by(&nobody, fallback).unwrap().originator.value,
        "60777"
    );
    let only = |spec: &mut SystemSpec| spec.originators = vec!["Acme".to_owned()];
    assert!(read_by(&sm(), only).is_ok());
    let other = Sm {
        source_addr: b"Other",
        ..sm()
    };
    assert_eq!(
        read_by(&other, only).map(|_| ()),
        Err(status::ESME_RINVSRCADR)
    );
}

#[test]
fn what_a_client_says_of_its_address_holds() {
    let from = |ton, npi, value: &'static [u8]| {
        let s = read(&Sm {
            source_addr_ton: ton,
            source_addr_npi: npi,
            source_addr: value,
            ..sm()
        });
        let address = s.unwrap().originator;
        (address.ton, address.npi as u8, address.value)
    };
    assert_eq!(
        from(1, 1, b"447700900999"),
        (TypeOfNumber::International, 1, "447700900999".to_owned())
    );
    assert_eq!(
        from(3, 1, b"60777"),
        (TypeOfNumber::NetworkSpecific, 1, "60777".to_owned())
    );
    assert_eq!(
        from(0, 0, b"60777"),
        (TypeOfNumber::Abbreviated, 0, "60777".to_owned())
    );
    assert_eq!(
        from(5, 0, b"60777"),
        (TypeOfNumber::Alphanumeric, 0, "60777".to_owned())
    );
}

#[test]
fn a_datagram_is_not_repeated() {
    let s = read(&Sm {
        esm_class: MODE_DATAGRAM,
        ..sm()
    });
    assert_eq!(s.unwrap().on_unknown, OnUnknown::Fail);
}

proptest! {
    #[test]
    fn any_submit_sm_is_a_submission_or_refused(
        esm_class: u8,
        data_coding: u8,
        message in proptest::collection::vec(any::<u8>(), 0..200),
        source in proptest::collection::vec(any::<u8>(), 0..30),
        destination in "[+0-9a]{0,20}",
        ton: u8,
        time in "[0-9]{15}[R+-]",
        raw in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let sm = Sm {
            esm_class,
            data_coding,
            short_message: &message,
            source_addr_ton: ton,
            source_addr: &source,
            destination_addr: destination.as_bytes(),
            dest_addr_ton: ton,
            validity_period: time.as_bytes(),
            schedule_delivery_time: time.as_bytes(),
            tlvs: Tlvs::parse(&raw),
            ..Sm::default()
        };
        if let Ok(submission) = read(&sm) {
            prop_assert!(submission.recipient.is_international());
            prop_assert!(submission.validity_seconds != Some(0));
            prop_assert!(!submission.originator.value.is_empty());
        }
    }
}
