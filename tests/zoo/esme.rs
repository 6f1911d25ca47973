//! Hostile ESMEs: PDUs that lie, at the wrong time and of the wrong side, sent to our own SMPP listener,
//! and what becomes of each. It has its session alone to spoil: meanwhile an ordinary ESME and an
//! ordinary HTTP client go on submitting to the same server, its memory stays where it was, and what
//! happened is counted (`heliograph_esme_wire_total`).

use std::time::Duration;

use heliograph::carrier::simulator::Mo;
use heliograph::smpp::pdu::{Bind, Body, CancelSm, DataSm, QuerySm, ReplaceSm, Sm, command_id};
use heliograph::smpp::status;
use heliograph_tests::esme::{Esme, Mode, message_id};
use heliograph_tests::{eventually, sms};
use rusmpp::{CommandId, CommandStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::HANDSET;
use super::served::{Siege, Wild, answered, last_words, quiet, raw, status_of, submission, text};

#[tokio::test(flavor = "multi_thread")]
async fn lengths_that_lie_end_their_session_with_generic_nack_and_nothing_is_allocated() {
    let wild = Wild::open(Siege::default()).await;
    let lies = [0_u32, 4, 15, 65_537, 16 << 20, u32::MAX];
    for length in lies {
        for bound in [false, true] {
            let mut esme = match bound {
                false => wild.connect().await,
                true => wild.bound(Mode::Transceiver).await,
            };
            let mut header = length.to_be_bytes().to_vec();
            header.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 9]);
            esme.write(&header).await;
            let farewell = last_words(&mut esme).await.expect("a farewell");
            assert_eq!(farewell.id(), CommandId::GenericNack, "{length}");
            assert_eq!(farewell.status, CommandStatus::EsmeRinvcmdlen, "{length}");
        }
    }
    wild.counts("bad_lengths", 2 * lies.len() as u64).await;
    // A PDU that is cut by the end of the connection is none.
    let mut esme = wild.bound(Mode::Transceiver).await;
    let pdu = submission(7, quiet("cut"));
    esme.write(&pdu[..pdu.len() - 3]).await;
    esme.session.stream.shutdown().await.expect("half closed");
    assert!(last_words(&mut esme).await.is_none());
    assert_eq!(wild.of("wild", "accepted").await, 0);
    wild.close().await;
}

/// Every request that an ESME has for a message centre.
fn requests() -> Vec<(u32, Body<'static>)> {
    let multi: &[u8] = b"\0\x05\0Acme\0\x01\x01\x01\x01447700900123\0\0\0\0\0\0\0\0\0\0\x02hi";
    vec![
        (command_id::SUBMIT_SM, Body::SubmitSm(text("hello"))),
        (command_id::DATA_SM, Body::DataSm(DataSm::default())),
        (command_id::QUERY_SM, Body::QuerySm(QuerySm::default())),
        (command_id::CANCEL_SM, Body::CancelSm(CancelSm::default())),
        (
            command_id::REPLACE_SM,
            Body::ReplaceSm(ReplaceSm::default()),
        ),
        (
            command_id::SUBMIT_MULTI,
            Body::Other {
                command_id: command_id::SUBMIT_MULTI,
                octets: multi,
            },
        ),
    ]
}

/// Each is answered ESME_RINVBNDSTS by its own response.
async fn out_of_place(esme: &mut Esme) {
    for (command_id, body) in requests() {
        let answer = esme.ask(&body).await;
        let expect = CommandId::from(command_id | command_id::RESPONSE);
        assert_eq!(
            (answer.id(), status_of(&answer)),
            (expect, status::ESME_RINVBNDSTS)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_out_of_place_are_refused_and_the_session_goes_on() {
    let wild = Wild::open(Siege::of("max_binds = 10")).await;
    // Before the bind.
    let mut esme = wild.connect().await;
    out_of_place(&mut esme).await;
    assert_eq!(
        esme.ask(&Body::EnquireLink).await.status,
        CommandStatus::EsmeRok
    );
    let status = esme.bind(Mode::Transceiver, "wild", "secret").await;
    assert_eq!(status, CommandStatus::EsmeRok);
    // A second bind of any kind; the session keeps its mode.
    let bind = Bind {
        system_id: b"wild",
        password: b"secret",
        ..Bind::default()
    };
    for again in [
        Body::BindTransceiver(bind),
        Body::BindReceiver(bind),
        Body::BindTransmitter(bind),
    ] {
        let answer = esme.ask(&again).await;
        assert_eq!(status_of(&answer), status::ESME_RALYBND);
    }
    // What only a message centre sends.
    let answer = esme.ask(&Body::DeliverSm(text("not yours"))).await;
    assert_eq!(answer.id(), CommandId::DeliverSmResp);
    assert_eq!(status_of(&answer), status::ESME_RINVBNDSTS);
    wild.goes_on(&mut esme).await;
    // A receiver has nothing to submit.
    let mut receiver = wild.bound(Mode::Receiver).await;
    out_of_place(&mut receiver).await;
    wild.counts("wrong_state", 2 * 6 + 3 + 1).await;
    // Unbind without a bind is answered too.
    let early = wild.connect().await;
    early.unbind().await;
    esme.unbind().await;
    receiver.unbind().await;
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transmitter_is_sent_nothing() {
    let wild = Wild::open(Siege::of("inbound = true")).await;
    let mut transmitter = wild.bound(Mode::Transmitter).await;
    transmitter.submit(&text("with a receipt")).await;
    let heard = transmitter.unanswered_delivery();
    let quiet = tokio::time::timeout(Duration::from_millis(700), heard).await;
    assert!(quiet.is_err(), "a transmitter was sent something");
    let mut receiver = wild.bound(Mode::Receiver).await;
    let receipt = receiver.delivery(CommandStatus::EsmeRok).await;
    let words = String::from_utf8_lossy(receipt.short_message().as_ref()).into_owned();
    assert!(words.contains("stat:DELIVRD"), "{words}");
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sequence_numbers_are_the_clients_own_affair() {
    let wild = Wild::open(Siege::default()).await;
    let mut esme = wild.bound(Mode::Transceiver).await;
    // 0, the last one and those beyond, the same one again and again, backwards.
    let numbers = [0, 0x7FFF_FFFF, 1, 0x8000_0000, u32::MAX, 5, 5, 5, 4, 0];
    let mut ids = Vec::new();
    for sequence in numbers {
        let answer = answered(&mut esme, sequence, &submission(sequence, quiet("counted"))).await;
        assert_eq!(answer.status, CommandStatus::EsmeRok, "{sequence:#x}");
        ids.push(message_id(&answer));
    }
    // All at once: each has an answer of its own.
    let pdus: Vec<u8> = (0..20).flat_map(|_| submission(7, quiet("same"))).collect();
    esme.write(&pdus).await;
    for _ in 0..20 {
        let answer = esme.response().await;
        assert_eq!(
            (answer.sequence_number, answer.status),
            (7, CommandStatus::EsmeRok)
        );
        ids.push(message_id(&answer));
    }
    ids.sort();
    ids.dedup();
    assert_eq!(
        ids.len(),
        numbers.len() + 20,
        "each is a message of its own"
    );
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_nothing_change_nothing_and_commands_of_nobody_are_nacked() {
    let wild = Wild::open(Siege::default()).await;
    let mut esme = wild.bound(Mode::Transceiver).await;
    let mut stray = raw(0x8000_0004, 77, b"id\0");
    stray.extend(raw(0x8000_0005, 78, b"\0"));
    stray.extend(raw(0x8000_0000, 1, b""));
    stray.extend(raw(0x8000_0009, 1, b"smsc\0"));
    stray.extend(raw(0x8000_FFFF, 3, b""));
    esme.write(&stray).await;
    wild.counts("stray_responses", 5).await;
    // A receipt that is answered twice, first well and then badly, is settled by the first.
    esme.submit(&text("once")).await;
    let (sequence, _) = esme.unanswered_delivery().await;
    let mut twice = raw(0x8000_0005, sequence, b"\0");
    twice.extend(raw(0x8000_0000, sequence, b""));
    esme.write(&twice).await;
    wild.counts("stray_responses", 6).await;
    assert_eq!(wild.of("wild", "dead").await, 0);
    for (n, command_id) in [0_u32, 0x0A, 0xFF, 0x0001_0204, 0x7FFF_FFFF]
        .into_iter()
        .enumerate()
    {
        let sequence = 100 + n as u32;
        let answer = answered(&mut esme, sequence, &raw(command_id, sequence, b"vendor")).await;
        assert_eq!(answer.id(), CommandId::GenericNack, "{command_id:#x}");
        assert_eq!(status_of(&answer), status::ESME_RINVCMDID);
    }
    wild.counts("unknown_commands", 5).await;
    // Neither asks for an answer, and neither has one.
    let mut unheard = raw(command_id::OUTBIND, 8, b"smsc\0password\0");
    unheard.extend(raw(
        command_id::ALERT_NOTIFICATION,
        9,
        b"\x01\x01447700900123\0\x01\x0160777\0",
    ));
    esme.write(&unheard).await;
    wild.goes_on(&mut esme).await;
    wild.close().await;
}

/// service_type to source_addr_npi, then what follows source_addr up to sm_default_msg_id.
const HEAD: &[u8] = b"\0\x01\x01";
const TAIL: &[u8] = b"\x01\x01447700900123\0\0\0\0\0\0\0\0\0\0";

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_lie_are_refused_by_the_field_and_what_can_be_read_is_taken() {
    let wild = Wild::open(Siege::default()).await;
    let mut esme = wild.bound(Mode::Transmitter).await;
    let good = [HEAD, b"447700900100\0", TAIL].concat();
    let with = |rest: &[u8]| [&good, rest].concat();
    let long = [b'4'; 300];
    let many: Vec<u8> = (0..200_u16)
        .flat_map(|n| [&(0x1400 + n).to_be_bytes()[..], b"\0\x01x"].concat())
        .collect();
    let refused: [(&str, Vec<u8>, u32); 11] = [
        ("empty", Vec::new(), status::ESME_RINVCMDLEN),
        (
            "ends in the middle of a field",
            b"CMT\0".to_vec(),
            status::ESME_RINVCMDLEN,
        ),
        (
            "no NUL anywhere",
            [0x41; 40].to_vec(),
            status::ESME_RINVCMDLEN,
        ),
        (
            "a source of 300 octets",
            [HEAD, &long, b"\0", TAIL, b"\0"].concat(),
            status::ESME_RINVSRCADR,
        ),
        (
            "a destination of 300 octets",
            [HEAD, b"447700900100\0\x01\x01", &long, b"\0"].concat(),
            status::ESME_RINVDSTADR,
        ),
        (
            "sm_length of 200, and 5 octets",
            with(b"\xC8short"),
            status::ESME_RINVMSGLEN,
        ),
        ("no message", with(b"\0"), status::ESME_RINVMSGLEN),
        (
            "a parameter of another size",
            with(b"\x05hello\x02\x04\x00\x05abcde"),
            status::ESME_RINVPARLEN,
        ),
        (
            "short_message and message_payload",
            with(b"\x05short\x04\x24\x00\x04long"),
            status::ESME_ROPTPARNOTALLWD,
        ),
        (
            "one SAR parameter of three",
            with(b"\x05hello\x02\x0C\x00\x02\x00\x01"),
            status::ESME_RMISSINGOPTPARAM,
        ),
        (
            "200 parameters",
            with(&[b"\x05hello", &many[..]].concat()),
            status::ESME_RINVOPTPARSTREAM,
        ),
    ];
    for (sequence, (what, body, expect)) in (1..).zip(refused) {
        let answer = answered(&mut esme, sequence, &raw(0x04, sequence, &body)).await;
        assert_eq!(answer.id(), CommandId::SubmitSmResp, "{what}");
        assert_eq!(
            status_of(&answer),
            expect,
            "{what}: {:#x}",
            status_of(&answer)
        );
    }
    wild.counts("malformed", 6).await;
    // What went before the lie counts, and of two the first.
    let taken: [(&[u8], &str); 4] = [
        (b"\x05hello\x02\x04\x00\xC8\x00\x01", "hello"),
        (b"\x00\x04\x24\x00\x05first\x04\x24\x00\x06second", "first"),
        (b"\x05stray\x00\x01\x02", "stray"),
        (
            b"\x05twice\x02\x04\x00\x02\x00\x01\x02\x04\x00\x02\x00\x02",
            "twice",
        ),
    ];
    for (n, (rest, words)) in taken.into_iter().enumerate() {
        let sequence = 100 + n as u32;
        let answer = answered(&mut esme, sequence, &raw(0x04, sequence, &with(rest))).await;
        assert_eq!(answer.status, CommandStatus::EsmeRok, "{words}");
        let simulator = &wild.rig;
        eventually(words, async || {
            let taken = simulator.taken(0);
            taken.into_iter().find(|r| r.text.as_deref() == Some(words))
        })
        .await;
    }
    wild.goes_on(&mut esme).await;
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bind_that_lies_is_refused_by_the_field_and_may_come_again() {
    let wild = Wild::open(Siege::default()).await;
    let mut esme = wild.connect().await;
    let long = [b'x'; 300];
    for (sequence, (body, expect)) in (1..).zip([
        (b"wild".to_vec(), status::ESME_RINVCMDLEN),
        (
            [&long[..], b"\0secret\0\0\x34\0\0\0"].concat(),
            status::ESME_RINVSYSID,
        ),
        (
            [b"wild\0", &long[..], b"\0\0\x34\0\0\0"].concat(),
            status::ESME_RINVPASWD,
        ),
        (b"wild\0secret\0".to_vec(), status::ESME_RINVCMDLEN),
    ]) {
        let pdu = raw(command_id::BIND_TRANSCEIVER, sequence, &body);
        let answer = answered(&mut esme, sequence, &pdu).await;
        assert_eq!(answer.id(), CommandId::BindTransceiverResp);
        assert_eq!(status_of(&answer), expect, "{:#x}", status_of(&answer));
    }
    let status = esme.bind(Mode::Transceiver, "wild", "secret").await;
    assert_eq!(status, CommandStatus::EsmeRok);
    wild.goes_on(&mut esme).await;
    wild.counts("malformed", 4).await;
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_lie_are_refused() {
    let wild = Wild::open(Siege::default()).await;
    let mut esme = wild.bound(Mode::Transmitter).await;
    // Longer than the message, an element longer than its header, part 0 of 0, part 9 of 3, and
    // nothing behind the length.
    let lies: [&[u8]; 5] = [
        b"\xFFhello",
        b"\x05\x00\x09\x01\x02\x01hello",
        b"\x05\x00\x03\x01\x00\x00zero",
        b"\x05\x00\x03\x01\x03\x09nine",
        b"\x7F",
    ];
    for short_message in lies {
        let sm = Sm {
            esm_class: 0x40,
            short_message,
            ..quiet("")
        };
        let status = u32::from(esme.refused(&sm).await);
        assert_eq!(status, status::ESME_RINVESMCLASS, "{short_message:02x?}");
    }
    wild.goes_on(&mut esme).await;
    wild.close().await;
}

/// A submit_multi whose destinations are as given.
fn multi(count: u8, destinations: &[u8], rest: &[u8]) -> Vec<u8> {
    [
        b"\0\x05\0Acme\0",
        &[count][..],
        destinations,
        b"\0\0\0\0\0\0\0\0\0",
        rest,
    ]
    .concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_multi_that_lies_is_refused_whole() {
    let wild = Wild::open(Siege::default()).await;
    let mut esme = wild.bound(Mode::Transmitter).await;
    let one = b"\x01\x01\x01447700900123\0".as_slice();
    let hi = b"\x02hi".as_slice();
    let cases: [(&str, Vec<u8>, u32); 9] = [
        ("empty", Vec::new(), status::ESME_RINVCMDLEN),
        (
            "no destination",
            multi(0, b"", hi),
            status::ESME_RINVNUMDESTS,
        ),
        (
            "255 destinations",
            multi(255, &one.repeat(255), hi),
            status::ESME_RINVNUMDESTS,
        ),
        (
            "200 destinations, and two",
            multi(200, &one.repeat(2), hi),
            status::ESME_RINVDESTFLAG,
        ),
        (
            "cut in a destination",
            b"\0\x05\0Acme\0\x02\x01\x01".to_vec(),
            status::ESME_RINVCMDLEN,
        ),
        (
            "a flag that is none",
            multi(1, b"\x07x\0", hi),
            status::ESME_RINVDESTFLAG,
        ),
        (
            "an address of 300 octets",
            multi(1, &[b"\x01\x01\x01", &[b'4'; 300][..], b"\0"].concat(), hi),
            status::ESME_RINVDSTADR,
        ),
        (
            "a list that is none",
            multi(1, b"\x02nobody\0", hi),
            status::ESME_RINVDLNAME,
        ),
        (
            "sm_length of 200, and 2 octets",
            multi(1, one, b"\xC8hi"),
            status::ESME_RINVMSGLEN,
        ),
    ];
    for (sequence, (what, body, expect)) in (1..).zip(cases) {
        let pdu = raw(command_id::SUBMIT_MULTI, sequence, &body);
        let answer = answered(&mut esme, sequence, &pdu).await;
        assert_eq!(answer.id(), CommandId::SubmitMultiResp, "{what}");
        assert_eq!(
            status_of(&answer),
            expect,
            "{what}: {:#x}",
            status_of(&answer)
        );
    }
    assert_eq!(wild.of("wild", "accepted").await, 0);
    wild.goes_on(&mut esme).await;
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_another_account_are_nobodys() {
    let mut wild = Wild::open(Siege::default()).await;
    let id = wild
        .rig
        .submit(sms(HANDSET, "not the wild account's"))
        .await;
    let mut esme = wild.bound(Mode::Transceiver).await;
    let message_id = id.as_bytes();
    let source_addr = b"60777".as_slice();
    for body in [
        Body::QuerySm(QuerySm {
            message_id,
            source_addr,
            ..QuerySm::default()
        }),
        Body::CancelSm(CancelSm {
            message_id,
            source_addr,
            ..CancelSm::default()
        }),
        Body::ReplaceSm(ReplaceSm {
            message_id,
            source_addr,
            short_message: b"mine now",
            ..ReplaceSm::default()
        }),
    ] {
        let theirs = esme.ask(&body).await;
        assert_eq!(status_of(&theirs), status::ESME_RINVMSGID);
    }
    wild.rig.wait_for(&id, "delivered").await;
    // Nor do texts from handsets come to an account that has not their number.
    let mo = Mo {
        from: "447700900123".to_owned(),
        to: "60777".to_owned(),
        text: "for acme".to_owned(),
        ..Mo::default()
    };
    wild.rig.text_in(&mo).await;
    let heard = tokio::time::timeout(Duration::from_secs(1), esme.unanswered_delivery()).await;
    assert!(heard.is_err(), "it was told another account's text");
    wild.beside = 1;
    wild.close().await;
}

/// Random octets of every length, before the bind and after.
#[tokio::test(flavor = "multi_thread")]
async fn noise_ends_its_connection_and_nothing_else() {
    let wild = Wild::open(Siege::of("max_binds = 100")).await;
    let mut random = 0x9E37_79B9_u32;
    for length in [1, 3, 4, 15, 16, 17, 64, 1_000, 70_000] {
        for bound in [false, true] {
            let mut esme = match bound {
                false => wild.connect().await,
                true => wild.bound(Mode::Transceiver).await,
            };
            let noise: Vec<u8> = (0..length)
                .map(|_| {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (random >> 24) as u8
                })
                .collect();
            let _ = esme.session.stream.write_all(&noise).await;
            let _ = esme.session.stream.shutdown().await;
            let mut rest = Vec::new();
            let read = esme.session.stream.read_to_end(&mut rest);
            let read = tokio::time::timeout(Duration::from_secs(20), read).await;
            assert!(
                read.is_ok(),
                "{length} octets of noise keep the session open"
            );
        }
    }
    assert_eq!(wild.of("wild", "accepted").await, 0);
    let mut esme = wild.bound(Mode::Transceiver).await;
    wild.goes_on(&mut esme).await;
    wild.close().await;
}
