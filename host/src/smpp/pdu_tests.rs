//! The codec's tests: octets of the specification, an independent codec in both directions, what
//! peers really send, and hostile input.

use bytes::BytesMut;
use proptest::prelude::*;
use rusmpp::decode::DecodeWithLength;
use rusmpp::encode::Length;
use rusmpp::encode::owned::Encode;

use super::pdu::*;
use super::status;

fn encoded(pdu: &Pdu<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode(pdu, &mut out).unwrap();
    out
}

fn framed(command_id: u32, command_status: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_LEN + body.len()).unwrap();
    let mut out = Vec::new();
    for word in [length, command_id, command_status, 7] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(body);
    out
}

fn sm() -> Sm<'static> {
    Sm {
        service_type: b"CMT",
        source_addr_ton: 5,
        source_addr: b"Acme",
        dest_addr_ton: 1,
        dest_addr_npi: 1,
        destination_addr: b"447700900123",
        esm_class: esm_class::UDHI,
        protocol_id: 0,
        priority_flag: 1,
        schedule_delivery_time: b"",
        validity_period: b"000003000000000R",
        registered_delivery: 1,
        data_coding: 8,
        short_message: b"\x05\x00\x03\x2a\x02\x01\x00h\x00i",
        tlvs: Tlvs::parse(b"\x02\x04\x00\x02\x12\x34\x14\x01\x00\x03dlt"),
        ..Sm::default()
    }
}

fn management() -> [Body<'static>; 4] {
    let replace_sm = ReplaceSm {
        message_id: b"42",
        source_addr: b"60777",
        validity_period: b"000003000000000R",
        registered_delivery: 1,
        short_message: b"instead",
        ..ReplaceSm::default()
    };
    let query_sm = QuerySm {
        message_id: b"42",
        source_addr: b"60777",
        ..QuerySm::default()
    };
    let query_sm_resp = QuerySmResp {
        message_id: b"42",
        final_date: b"231114221300000+",
        message_state: 2,
        error_code: 0,
    };
    let cancel_sm = CancelSm {
        message_id: b"42",
        source_addr: b"60777",
        ..CancelSm::default()
    };
    [
        Body::QuerySm(query_sm),
        Body::QuerySmResp(query_sm_resp),
        Body::CancelSm(cancel_sm),
        Body::ReplaceSm(replace_sm),
    ]
}

/// One of every PDU, as it should look.
fn samples() -> Vec<Pdu<'static>> {
    let bind = Bind {
        system_id: b"SMPP3TEST",
        password: b"secret08",
        system_type: b"SUBMIT1",
        interface_version: 0x34,
        addr_ton: 1,
        addr_npi: 1,
        address_range: b"",
    };
    let bind_resp = BindResp {
        system_id: b"SMSC",
        tlvs: Tlvs::parse(b"\x02\x10\x00\x01\x34"),
    };
    let resp = SmResp {
        message_id: b"0042aF",
        tlvs: Tlvs::default(),
    };
    let data_sm = DataSm {
        source_addr: b"447700900123",
        destination_addr: b"60777",
        data_coding: 4,
        tlvs: Tlvs::parse(b"\x04\x24\x00\x05hello"),
        ..DataSm::default()
    };
    let [query_sm, query_sm_resp, cancel_sm, replace_sm] = management();
    [
        Body::GenericNack,
        Body::BindReceiver(bind),
        Body::BindReceiverResp(bind_resp),
        Body::BindTransmitter(bind),
        Body::BindTransmitterResp(bind_resp),
        Body::BindTransceiver(bind),
        Body::BindTransceiverResp(bind_resp),
        Body::Outbind(Outbind {
            system_id: b"SMSC",
            password: b"pw",
        }),
        Body::Unbind,
        Body::UnbindResp,
        Body::EnquireLink,
        Body::EnquireLinkResp,
        Body::SubmitSm(sm()),
        Body::SubmitSmResp(resp),
        Body::DeliverSm(sm()),
        Body::DeliverSmResp(SmResp::default()),
        Body::DataSm(data_sm),
        Body::DataSmResp(resp),
        query_sm,
        query_sm_resp,
        cancel_sm,
        Body::CancelSmResp,
        replace_sm,
        Body::ReplaceSmResp,
        Body::AlertNotification(AlertNotification {
            source_addr_ton: 1,
            source_addr_npi: 1,
            source_addr: b"447700900123",
            esme_addr_ton: 5,
            esme_addr_npi: 0,
            esme_addr: b"Acme",
            tlvs: Tlvs::parse(&[0x04, 0x22, 0, 1, 0]),
        }),
    ]
    .into_iter()
    .map(|body| Pdu::request(0x0102_0304, body))
    .collect()
}

#[test]
fn the_bind_transmitter_of_the_specification() {
    // SMPP 3.4, 2.7.1 (with its interface_version 0x50, which we take).
    let octets =
        b"\0\0\0\x2F\0\0\0\x02\0\0\0\0\0\0\0\x01SMPP3TEST\0secret08\0SUBMIT1\0\x50\x01\x01\0";
    let pdu = decode(octets).unwrap();
    assert_eq!(pdu.sequence_number, 1);
    let Body::BindTransmitter(bind) = pdu.body else {
        panic!("{pdu:?}")
    };
    assert_eq!(bind.system_id, b"SMPP3TEST");
    assert_eq!(bind.password, b"secret08");
    assert_eq!(bind.system_type, b"SUBMIT1");
    assert_eq!(
        (bind.interface_version, bind.addr_ton, bind.addr_npi),
        (0x50, 1, 1)
    );
    assert_eq!(encoded(&pdu), octets);
}

#[test]
fn every_pdu_survives() {
    for pdu in samples() {
        let octets = encoded(&pdu);
        assert_eq!(frame(&octets), Framing::Frame(octets.len()));
        assert_eq!(decode(&octets), Ok(pdu));
    }
}

fn judged(octets: &[u8]) -> rusmpp::Command {
    let mut rest = BytesMut::from(&octets[4..]);
    let length = rest.len();
    let (command, read) = rusmpp::Command::decode(&mut rest, length)
        .unwrap_or_else(|e| panic!("{octets:02x?} refused: {e:?}"));
    assert_eq!(read, length);
    command
}

fn judges_octets(command: &rusmpp::Command) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.extend_from_slice(&u32::try_from(command.length() + 4).unwrap().to_be_bytes());
    command.encode(&mut out);
    out.to_vec()
}

#[test]
fn an_independent_codec_reads_what_we_write_and_writes_it_the_same() {
    for pdu in samples() {
        let octets = encoded(&pdu);
        let command = judged(&octets);
        assert_eq!(u32::from(command.id()), pdu.command_id());
        assert_eq!(command.sequence_number, pdu.sequence_number);
        assert_eq!(judges_octets(&command), octets, "{pdu:?}");
    }
}

#[test]
fn an_independent_codec_sees_the_same_submit_sm() {
    let octets = encoded(&Pdu::request(9, Body::SubmitSm(sm())));
    let command = judged(&octets);
    let Some(rusmpp::Pdu::SubmitSm(theirs)) = command.pdu() else {
        panic!("{command:?}")
    };
    assert_eq!(theirs.source_addr.as_str(), "Acme");
    assert_eq!(theirs.destination_addr.as_str(), "447700900123");
    assert_eq!(u8::from(theirs.esm_class), esm_class::UDHI);
    assert_eq!(u8::from(theirs.data_coding), 8);
    assert_eq!(theirs.short_message().as_ref(), sm().short_message);
    assert_eq!(theirs.tlvs().len(), 2);
}

#[test]
fn we_read_what_an_independent_codec_writes() {
    use rusmpp::pdus::DeliverSm;
    use rusmpp::types::{COctetString, OctetString};
    use rusmpp::values::{DataCoding, Npi, Ton};
    let theirs = DeliverSm::builder()
        .source_addr_ton(Ton::International)
        .source_addr_npi(Npi::Isdn)
        .source_addr(COctetString::from_slice(b"447700900123\0").unwrap())
        .destination_addr(COctetString::from_slice(b"60777\0").unwrap())
        .data_coding(DataCoding::Ucs2)
        .short_message(OctetString::from_slice(b"\0h\0i").unwrap())
        .build();
    let command = rusmpp::Command::new(rusmpp::CommandStatus::EsmeRok, 3, theirs);
    let octets = judges_octets(&command);
    let Ok(Pdu {
        body: Body::DeliverSm(sm),
        sequence_number: 3,
        ..
    }) = decode(&octets)
    else {
        panic!("{:?}", decode(&octets))
    };
    assert_eq!((sm.source_addr_ton, sm.source_addr_npi), (1, 1));
    assert_eq!(sm.source_addr, b"447700900123");
    assert_eq!(sm.destination_addr, b"60777");
    assert_eq!(sm.data_coding, 8);
    assert_eq!(sm.payload(), b"\0h\0i");
    assert_eq!(encoded(&decode(&octets).unwrap()), octets);
}

#[test]
fn nothing_is_read_before_the_length_is_believed() {
    for (octets, expect) in [
        (&b"\0\0\0"[..], Framing::Incomplete),
        (b"\0\0\0\x10", Framing::Incomplete),
        (b"\0\0\0\0", Framing::Bad(0)),
        (b"\0\0\0\x0F", Framing::Bad(15)),
        (b"\x00\x01\x00\x01", Framing::Bad(65_537)),
        (b"\x80\0\0\0", Framing::Bad(1 << 31)),
        (b"\xFF\xFF\xFF\xFF", Framing::Bad(u32::MAX)),
        (
            b"\0\0\0\x10\0\0\0\x15\0\0\0\0\0\0\0\x01\0\0",
            Framing::Frame(16),
        ),
    ] {
        assert_eq!(frame(octets), expect, "{octets:02x?}");
    }
}

/// A submit_sm body from its fields' octets, for what no encoder would write.
fn submit_body(
    service_type: &[u8],
    source: &[u8],
    destination: &[u8],
    validity: &[u8],
    tail: &[u8],
) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(service_type);
    body.extend_from_slice(b"\0\x05\x00");
    body.extend_from_slice(source);
    body.extend_from_slice(b"\0\x01\x01");
    body.extend_from_slice(destination);
    body.extend_from_slice(b"\0\x00\x00\x00\0");
    body.extend_from_slice(validity);
    body.extend_from_slice(b"\0\x01\x00\x00\x00");
    body.extend_from_slice(tail);
    body
}

/// What it is, command_id, command_status, body.
type Oddity = (&'static str, u32, u32, Vec<u8>);

fn odd_responses() -> Vec<Oddity> {
    let long_id = [b'7'; 80];
    vec![
        ("submit_sm_resp, header only", 0x8000_0004, 8, vec![]),
        (
            "bind_transceiver_resp, header only",
            0x8000_0009,
            0x0E,
            vec![],
        ),
        (
            "deliver_sm_resp, header only, ESME_ROK",
            0x8000_0005,
            0,
            vec![],
        ),
        (
            "message_id of 80",
            0x8000_0004,
            0,
            [&long_id[..], b"\0"].concat(),
        ),
        ("message_id without NUL", 0x8000_0004, 0, b"42".to_vec()),
        ("query_sm_resp, header only", 0x8000_0003, 0x67, vec![]),
    ]
}

fn odd_binds() -> Vec<Oddity> {
    vec![
        (
            "password 12, system_id 20, system_type 16",
            9,
            0,
            b"twenty-octet-systemi\0twelve-octet\0sixteen-octet-ty\0\x34\0\0\0".to_vec(),
        ),
        (
            "interface_version 5.0",
            9,
            0,
            b"id\0pw\0\0\x50\0\0\0".to_vec(),
        ),
        (
            "interface_version 3.3",
            9,
            0,
            b"id\0pw\0\0\x33\0\0\0".to_vec(),
        ),
        (
            "address_range without NUL",
            9,
            0,
            b"id\0pw\0\0\x34\0\0".to_vec(),
        ),
    ]
}

fn odd_requests() -> Vec<Oddity> {
    let plain = submit_body(b"", b"Acme", b"447700900123", b"", b"\x02hi");
    let mut payload = submit_body(b"", b"Acme", b"447700900123", b"", b"\x00\x04\x24\xEA\x60");
    payload.extend_from_slice(&[b'x'; 60_000]);
    let with = |tail: &[u8]| [&plain[..], tail].concat();
    vec![
        (
            "receipted_message_id without NUL",
            5,
            0,
            with(b"\x00\x1e\x00\x03abc"),
        ),
        (
            "Latin-1 in the sender",
            4,
            0,
            submit_body(b"", b"Caf\xe9", b"447700900123", b"", b"\x02hi"),
        ),
        (
            "addresses of 21",
            4,
            0,
            submit_body(b"", &[b'1'; 21], &[b'2'; 21], b"", b"\x02hi"),
        ),
        (
            "service_type of 8",
            4,
            0,
            submit_body(b"LONGTYPE", b"A", b"447700900123", b"", b"\x02hi"),
        ),
        (
            "validity_period of 3",
            4,
            0,
            submit_body(b"", b"A", b"447700900123", b"72h", b"\x02hi"),
        ),
        (
            "sar_msg_ref_num of one octet",
            4,
            0,
            with(b"\x02\x0c\x00\x01\x07"),
        ),
        (
            "network_error_code of two",
            5,
            0,
            with(b"\x04\x23\x00\x02\x00\x01"),
        ),
        ("a stray octet after the body", 4, 0, with(b"\0")),
        (
            "a TLV longer than the PDU",
            4,
            0,
            with(b"\x14\x01\x00\xff\x00"),
        ),
        ("a vendor TLV", 4, 0, with(b"\x3f\xff\x00\x01x")),
        ("message_payload of 60000", 4, 0, payload),
        (
            "the same TLV twice",
            4,
            0,
            with(b"\x02\x04\x00\x02\x00\x01\x02\x04\x00\x02\x00\x02"),
        ),
    ]
}

#[test]
fn what_peers_really_send_is_taken() {
    let table = [odd_responses(), odd_binds(), odd_requests()].concat();
    for (what, command_id, command_status, body) in table {
        let octets = framed(command_id, command_status, &body);
        assert_eq!(frame(&octets), Framing::Frame(octets.len()), "{what}");
        let pdu = decode(&octets).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(pdu.command_id(), command_id, "{what}");
        assert_eq!(pdu.command_status, command_status, "{what}");
    }
}

#[test]
fn reserved_values_are_kept_as_they_came() {
    let mut sm = sm();
    (
        sm.source_addr_ton,
        sm.source_addr_npi,
        sm.data_coding,
        sm.esm_class,
    ) = (0xFF, 0xFE, 0xEF, 0xBF);
    let octets = encoded(&Pdu::request(1, Body::DeliverSm(sm)));
    assert_eq!(decode(&octets).unwrap().body, Body::DeliverSm(sm));
}

#[test]
fn a_command_that_nobody_knows_is_kept_whole() {
    let octets = framed(0x0001_0200, 0, b"vendor\0stuff");
    let pdu = decode(&octets).unwrap();
    assert_eq!(
        pdu.body,
        Body::Other {
            command_id: 0x0001_0200,
            octets: b"vendor\0stuff"
        }
    );
    assert_eq!(encoded(&pdu), octets);
}

#[test]
fn a_bad_body_is_answered_by_its_own_response() {
    let long = [b'1'; C_OCTETS_MAX + 1];
    for (body, command_status, field) in [
        (
            submit_body(b"", b"A", b"4477", b"", b"\x09hi"),
            status::ESME_RINVMSGLEN,
            "sm_length",
        ),
        (
            submit_body(b"", &long, b"4477", b"", b"\x02hi"),
            status::ESME_RINVSRCADR,
            "source_addr",
        ),
        (
            submit_body(b"", b"A", &long, b"", b"\x02hi"),
            status::ESME_RINVDSTADR,
            "destination_addr",
        ),
        (
            submit_body(b"", b"A", b"4477", &long, b"\x02hi"),
            status::ESME_RINVEXPIRY,
            "validity_period",
        ),
        (
            b"no NUL anywhere".to_vec(),
            status::ESME_RINVCMDLEN,
            "source_addr_ton",
        ),
        (vec![], status::ESME_RINVCMDLEN, "source_addr_ton"),
    ] {
        let octets = framed(command_id::SUBMIT_SM, 0, &body);
        let error = decode(&octets).unwrap_err();
        assert_eq!((error.command_status, error.field), (command_status, field));
        let response = error.response().unwrap();
        assert_eq!(response.command_id(), command_id::SUBMIT_SM_RESP);
        assert_eq!(
            (response.sequence_number, response.command_status),
            (7, command_status)
        );
        assert_eq!(encoded(&response).len(), HEADER_LEN);
    }
}

#[test]
fn the_payload_is_wherever_the_sender_put_it() {
    let short = Sm {
        short_message: b"short",
        tlvs: Tlvs::parse(b"\x04\x24\x00\x04long"),
        ..Sm::default()
    };
    assert_eq!(short.payload(), b"short");
    assert_eq!(
        Sm {
            short_message: b"",
            ..short
        }
        .payload(),
        b"long"
    );
    assert_eq!(Sm::default().payload(), b"");
}

#[test]
fn what_may_not_be_sent_leaves_no_trace() {
    let refused = |sm: Sm<'_>| {
        let mut out = b"before".to_vec();
        let error = encode(&Pdu::request(1, Body::SubmitSm(sm)), &mut out).unwrap_err();
        assert_eq!(out, b"before");
        error
    };
    let long = [b'x'; 255];
    let error = refused(Sm {
        short_message: &long,
        ..sm()
    });
    assert_eq!(
        error,
        EncodeError::TooLong {
            field: "short_message",
            length: 255,
            max: 254
        }
    );
    let error = refused(Sm {
        source_addr: b"Ac\0me",
        ..sm()
    });
    assert_eq!(
        error,
        EncodeError::Nul {
            field: "source_addr"
        }
    );
    let error = refused(Sm {
        validity_period: b"72h",
        ..sm()
    });
    assert_eq!(
        error,
        EncodeError::Time {
            field: "validity_period",
            length: 3
        }
    );
    assert_eq!(
        refused(Sm {
            destination_addr: &long[..21],
            ..sm()
        })
        .field(),
        "destination_addr"
    );
    let mut tlvs = TlvBuf::new();
    tlvs.push(tag::MESSAGE_PAYLOAD, &[0; 65_535]).unwrap();
    assert_eq!(
        refused(Sm {
            tlvs: tlvs.as_tlvs(),
            ..sm()
        })
        .field(),
        "command_length"
    );
}

#[test]
fn neither_text_nor_password_nor_number_is_in_the_debug_form() {
    let bind = Bind {
        system_id: b"id",
        password: b"hunter2",
        ..Bind::default()
    };
    let sm = Sm {
        short_message: b"the code is 4711",
        ..sm()
    };
    let shown = format!("{:?} {:?}", Body::BindTransceiver(bind), Body::SubmitSm(sm));
    for secret in ["hunter2", "4711", "447700900123", "104, 117"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

fn any_command_id() -> impl Strategy<Value = u32> {
    prop_oneof![
        proptest::sample::select(samples().iter().map(Pdu::command_id).collect::<Vec<_>>()),
        any::<u32>(),
    ]
}

/// Whatever decodes and may be sent encodes to a form that stays the same.
fn check_canonical(octets: &[u8]) -> Result<(), TestCaseError> {
    let Ok(pdu) = decode(octets) else {
        return Ok(());
    };
    let mut once = Vec::new();
    if encode(&pdu, &mut once).is_err() {
        return Ok(());
    }
    prop_assert_eq!(frame(&once), Framing::Frame(once.len()));
    let again = decode(&once).map_err(|e| TestCaseError::fail(e.to_string()))?;
    prop_assert_eq!(again, pdu);
    prop_assert_eq!(encoded(&again), once);
    Ok(())
}

proptest! {
    #[test]
    fn any_body_decodes_or_is_refused(id in any_command_id(), body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let octets = framed(id, 0, &body);
        if let Err(error) = decode(&octets) {
            prop_assert_eq!(error.header.sequence_number, 7);
        }
        check_canonical(&octets)?;
    }

    #[test]
    fn a_mutated_pdu_decodes_or_is_refused(
        which in 0..samples().len(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut octets = encoded(&samples()[which]);
        for (at, value) in changes {
            let at = at.index(octets.len());
            octets[at] = value;
        }
        let _ = frame(&octets);
        check_canonical(&octets)?;
        let _ = decode(&octets[..cut.index(octets.len())]);
    }

    #[test]
    fn text_of_any_kind_survives(
        source in "[A-Za-z0-9]{0,11}",
        short_message in proptest::collection::vec(any::<u8>(), 0..=254),
        values in proptest::collection::vec((any::<u16>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..5),
    ) {
        let mut tlvs = TlvBuf::new();
        for (tag, value) in &values {
            tlvs.push(*tag, value).unwrap();
        }
        let sm = Sm { source_addr: source.as_bytes(), short_message: &short_message, tlvs: tlvs.as_tlvs(), ..sm() };
        let octets = encoded(&Pdu::request(1, Body::SubmitSm(sm)));
        prop_assert_eq!(decode(&octets).unwrap().body, Body::SubmitSm(sm));
    }
}

#[test]
fn the_alert_notification_of_the_specification() {
    // SMPP 3.4, 4.12.1, written by hand from its table.
    let octets = b"\x00\x00\x00\x2B\x00\x00\x01\x02\x00\x00\x00\x00\x00\x00\x00\x07\x01\x01447700900123\0\x05\x00Acme\0\x04\x22\x00\x01\x02";
    let pdu = decode(octets).unwrap();
    let Body::AlertNotification(alert) = pdu.body else {
        panic!("{pdu:?}");
    };
    assert_eq!(
        (
            alert.source_addr_ton,
            alert.source_addr_npi,
            alert.source_addr
        ),
        (1, 1, &b"447700900123"[..])
    );
    assert_eq!(
        (alert.esme_addr_ton, alert.esme_addr_npi, alert.esme_addr),
        (5, 0, &b"Acme"[..])
    );
    assert_eq!(alert.tlvs.integer(tag::MS_AVAILABILITY_STATUS), Some(2));
    let mut again = Vec::new();
    encode(&pdu, &mut again).unwrap();
    assert_eq!(again, octets);
}
