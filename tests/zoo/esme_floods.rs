//! Hostile ESMEs: too much, too slowly, too often, and gone in the middle of it. Every bound of our own
//! SMPP listener is leaned on, and holds; the others are beside it as in `esme.rs`.

use std::time::{Duration, Instant};

use heliograph::smpp::pdu::{Bind, Body, Sm, TlvBuf, tag};
use heliograph::smpp::status;
use heliograph_tests::esme::{Esme, Mode, encoded};
use heliograph_tests::eventually;
use rusmpp::{CommandId, CommandStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::served::{Siege, Wild, last_words, quiet, submission, text};

/// An address of loopback that is nobody's but the hostile client's.
const ELSEWHERE: [u8; 4] = [127, 0, 0, 2];

/// Writes an octet each second until the server has enough of it; how long that took.
async fn trickle(esme: &mut Esme, octets: &[u8]) -> Duration {
    let start = Instant::now();
    for octet in octets.iter().cycle() {
        if esme.session.stream.write_all(&[*octet]).await.is_err() {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "never cut");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn binds_and_pdus_that_come_an_octet_a_second_are_cut_off() {
    let wild = Wild::open(Siege::default()).await;
    let bind = Body::BindTransceiver(Bind {
        system_id: b"wild",
        password: b"secret",
        ..Bind::default()
    });
    let bind = encoded(1, &bind);
    let (mut slow, mut header_only, mut silent) = (
        wild.connect().await,
        wild.connect().await,
        wild.connect().await,
    );
    let (mut trickling, mut stopped) = (
        wild.bound(Mode::Transceiver).await,
        wild.bound(Mode::Transmitter).await,
    );
    header_only.write(&bind[..16]).await;
    let pdu = submission(2, quiet("slow"));
    stopped.write(&pdu[..20]).await;
    let start = Instant::now();
    let unbound = async {
        tokio::join!(
            trickle(&mut slow, &bind[..20]),
            last_words(&mut header_only),
            last_words(&mut silent)
        );
        start.elapsed()
    };
    let bound = async {
        tokio::join!(trickle(&mut trickling, &pdu), last_words(&mut stopped));
        start.elapsed()
    };
    let (unbound, bound) = tokio::join!(unbound, bound);
    // session_init_timer is 5 s, a PDU has 10.
    assert!(unbound >= Duration::from_secs(4), "{unbound:?}");
    assert!(bound >= Duration::from_secs(9), "{bound:?}");
    wild.counts("bind_timeouts", 3).await;
    wild.counts("pdu_timeouts", 1).await;
    let mut again = wild.bound(Mode::Transceiver).await;
    wild.goes_on(&mut again).await;
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_connections_is_its_addresss_own() {
    let wild = Wild::open(Siege {
        smpp: "max_unbound_per_ip = 8".to_owned(),
        ..Siege::default()
    })
    .await;
    let mut flood = Vec::new();
    for _ in 0..200 {
        flood.push(Esme::connect_from(&wild.address, ELSEWHERE).await);
    }
    wild.counts("unbound_floods", 192).await;
    // From another address everybody binds at once.
    let mut esme = wild.bound(Mode::Transceiver).await;
    wild.goes_on(&mut esme).await;
    let mut closed = 0;
    for mut esme in flood {
        assert!(last_words(&mut esme).await.is_none());
        closed += 1;
    }
    assert_eq!(closed, 200);
    wild.counts("bind_timeouts", 8).await;
    // Their places are free again.
    let mut late = Esme::connect_from(&wild.address, ELSEWHERE).await;
    let status = late.bind(Mode::Transceiver, "wild", "secret").await;
    assert_eq!(status, CommandStatus::EsmeRok);
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_are_never_completed_wait_for_nothing() {
    let wild = Wild::open(Siege::of("window = 200")).await;
    let mut esme = wild.bound(Mode::Transmitter).await;
    const COUNT: u32 = 1_000;
    let mut all = Vec::new();
    for n in 0..COUNT {
        let [.., high, low] = n.to_be_bytes();
        let message = [&[6, 8, 4, high, low, 255, 1], b"part".as_slice()].concat();
        let first = Sm {
            esm_class: 0x40,
            short_message: &message,
            ..quiet("")
        };
        all.extend(submission(1 + n, first));
    }
    esme.write(&all).await;
    for _ in 0..COUNT {
        assert_eq!(esme.response().await.status, CommandStatus::EsmeRok);
    }
    assert_eq!(wild.of("wild", "accepted").await, u64::from(COUNT));
    wild.goes_on(&mut esme).await;
    wild.close_within(96).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_window_and_throughput_waits_and_is_throttled() {
    let wild = Wild::open(Siege::of("window = 5\nthroughput = 20")).await;
    let mut esme = wild.bound(Mode::Transmitter).await;
    const COUNT: u32 = 3_000;
    let all: Vec<u8> = (1..=COUNT)
        .flat_map(|n| submission(n, quiet("flood")))
        .collect();
    esme.write(&all).await;
    let (mut taken, mut throttled) = (0, 0);
    for _ in 0..COUNT {
        match esme.response().await.status {
            CommandStatus::EsmeRok => taken += 1,
            CommandStatus::EsmeRthrottled => throttled += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(taken >= 20, "{taken} of {COUNT}");
    assert_eq!(wild.of("wild", "accepted").await, taken);
    assert_eq!(wild.of("wild", "throttled").await, throttled);
    wild.close().await;
}

/// At most a gigabyte of `one`, for as long as the server takes it; whether it stopped taking it.
async fn unread_flood(wild: &Wild, esme: &mut Esme, one: &[u8], max_mib: u64) -> bool {
    let start = Instant::now();
    let mut sent = 0_u64;
    loop {
        let write = esme.session.stream.write_all(one);
        match tokio::time::timeout(Duration::from_secs(5), write).await {
            Err(_) | Ok(Err(_)) => return true,
            Ok(Ok(())) => sent += one.len() as u64,
        }
        wild.assert_growth(max_mib);
        if start.elapsed() > Duration::from_secs(60) || sent > 1 << 30 {
            return false;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_no_answer_is_stopped_and_then_closed() {
    let wild = Wild::open(Siege::default()).await;
    let mut esme = wild.bound(Mode::Transceiver).await;
    let some: Vec<u8> = (0..4_000)
        .flat_map(|n| encoded(n, &Body::EnquireLink))
        .collect();
    assert!(
        unread_flood(&wild, &mut esme, &some, 48).await,
        "was never stopped"
    );
    wild.counts("write_timeouts", 1).await;
    let mut again = wild.bound(Mode::Transceiver).await;
    wild.goes_on(&mut again).await;
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_submissions_without_end_take_up_no_more_than_their_session_may() {
    let wild = Wild::open(Siege::of("window = 4000")).await;
    let mut esme = wild.bound(Mode::Transceiver).await;
    let payload = vec![b'x'; 60_000];
    let mut tlvs = TlvBuf::new();
    tlvs.push(tag::MESSAGE_PAYLOAD, &payload).expect("60,000");
    let sm = Sm {
        tlvs: tlvs.as_tlvs(),
        ..quiet("")
    };
    let one = submission(1, sm);
    const COUNT: usize = 1_000;
    let (mut reader, mut writer) = tokio::io::split(esme.session.stream);
    let writing = tokio::spawn(async move {
        for _ in 0..COUNT {
            writer.write_all(&one).await.expect("an open connection");
        }
        writer
    });
    // ESME_RINVMSGLEN each: 16 octets.
    let mut answers = vec![0; COUNT * 16];
    reader.read_exact(&mut answers).await.expect("all answers");
    for answer in answers.chunks(16) {
        assert_eq!(answer[8..12], status::ESME_RINVMSGLEN.to_be_bytes());
    }
    let writer = writing.await.expect("written");
    esme.session.stream = Box::new(reader.unsplit(writer));
    wild.goes_on(&mut esme).await;
    wild.close_within(64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_answers_no_delivery_holds_its_window_and_nothing_else() {
    let wild = Wild::open(Siege {
        smpp: "response_timeout_ms = 4000".to_owned(),
        wild: "deliver_window = 7".to_owned(),
        ..Siege::default()
    })
    .await;
    let mut deaf = wild.bound(Mode::Transceiver).await;
    const COUNT: usize = 30;
    let mut owed = Vec::new();
    for _ in 0..COUNT {
        owed.push(deaf.submit(&text("owed")).await);
    }
    let mut heard = 0;
    let quiet = async {
        loop {
            deaf.unanswered_delivery().await;
            heard += 1;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), quiet).await;
    assert_eq!(heard, 7, "deliver_sm without an answer");
    wild.counts("unanswered", 7).await;
    // All of it comes to the next who listens.
    drop(deaf);
    let mut receiver = wild.bound(Mode::Receiver).await;
    while !owed.is_empty() {
        let receipt = receiver.delivery(CommandStatus::EsmeRok).await;
        let words = String::from_utf8_lossy(receipt.short_message().as_ref()).into_owned();
        owed.retain(|id| !words.contains(id.as_str()));
    }
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guessed_passwords_lock_their_address_and_tell_nothing() {
    let wild = Wild::open(Siege::default()).await;
    let mut guesser = Esme::connect_from(&wild.address, ELSEWHERE).await;
    let mut refused = 0_u64;
    for n in 0..100 {
        for (system_id, password) in [("wild", format!("guess-{n}")), ("nobody", n.to_string())] {
            let status = guesser.bind(Mode::Transceiver, system_id, &password).await;
            assert_eq!(u32::from(status), status::ESME_RBINDFAIL);
            refused += 1;
        }
    }
    // It would be the right one now.
    let status = guesser.bind(Mode::Transceiver, "wild", "secret").await;
    assert_eq!(u32::from(status), status::ESME_RBINDFAIL);
    assert!(
        last_words(&mut guesser).await.is_none(),
        "closed when its time to bind is over"
    );
    let metric = async |name| wild.rig.metric(&[name]).await;
    let total = metric("heliograph_esme_binds_refused_total ").await as u64;
    assert_eq!(total, refused + 1);
    // One for the name that exists, one for all that do not.
    assert_eq!(metric("heliograph_esme_lockouts_total ").await, 2.0);
    let mut elsewhere = wild.bound(Mode::Transceiver).await;
    wild.goes_on(&mut elsewhere).await;
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn binds_without_end_take_the_places_of_their_own_system_id_alone() {
    let wild = Wild::open(Siege::of("max_binds = 4")).await;
    let (mut bound, mut full) = (Vec::new(), 0);
    for _ in 0..40 {
        let mut esme = wild.connect().await;
        match u32::from(esme.bind(Mode::Transceiver, "wild", "secret").await) {
            0 => bound.push(esme),
            status => {
                assert_eq!(status, status::ESME_RALYBND);
                full += 1;
            }
        }
    }
    assert_eq!((bound.len(), full), (4, 36));
    drop(bound);
    // Bound and gone, politely and not: the place is free again each time.
    for n in 0..100 {
        let esme = eventually("its place is free", async || {
            let mut esme = wild.connect().await;
            let status = esme.bind(Mode::Transceiver, "wild", "secret").await;
            (status == CommandStatus::EsmeRok).then_some(esme)
        })
        .await;
        if n % 2 == 0 {
            esme.unbind().await;
        }
    }
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_unbinds_closes_half_or_vanishes_with_requests_under_way_loses_no_message() {
    let wild = Wild::open(Siege::default()).await;
    const COUNT: u32 = 30;
    let all: Vec<u8> = (1..=COUNT)
        .flat_map(|n| submission(n, quiet("under way")))
        .collect();
    // An unbind behind 30 requests is answered behind their answers.
    let mut esme = wild.bound(Mode::Transmitter).await;
    let unbind = encoded(99, &Body::Unbind);
    esme.write(&[&all[..], &unbind].concat()).await;
    for _ in 0..COUNT {
        let answer = esme.response().await;
        assert_eq!(
            (answer.id(), answer.status),
            (CommandId::SubmitSmResp, CommandStatus::EsmeRok)
        );
    }
    assert_eq!(
        last_words(&mut esme).await.map(|c| c.id()),
        Some(CommandId::UnbindResp)
    );
    // A half-closed connection takes its answers.
    let mut esme = wild.bound(Mode::Transmitter).await;
    esme.write(&all).await;
    esme.session.stream.shutdown().await.expect("half closed");
    for _ in 0..COUNT {
        assert_eq!(esme.response().await.status, CommandStatus::EsmeRok);
    }
    assert!(last_words(&mut esme).await.is_none());
    assert_eq!(wild.of("wild", "accepted").await, 2 * u64::from(COUNT));
    // Nobody hears the answers of one that is gone; what was taken is sent all the same (`close`).
    let mut esme = wild.bound(Mode::Transmitter).await;
    esme.write(&all).await;
    drop(esme);
    let mut again = wild.bound(Mode::Transmitter).await;
    wild.goes_on(&mut again).await;
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_enquire_link_is_answered_and_delays_nobody() {
    let wild = Wild::open(Siege::default()).await;
    let mut esme = wild.bound(Mode::Transceiver).await;
    const COUNT: u32 = 100_000;
    let flood: Vec<u8> = (1..=COUNT)
        .flat_map(|n| encoded(n, &Body::EnquireLink))
        .collect();
    let (mut reader, mut writer) = tokio::io::split(esme.session.stream);
    let writing = tokio::spawn(async move {
        writer.write_all(&flood).await.expect("an open connection");
        writer
    });
    let mut answers = vec![0; COUNT as usize * 16];
    reader.read_exact(&mut answers).await.expect("all answers");
    for (n, answer) in (1..=COUNT).zip(answers.chunks(16)) {
        assert_eq!(answer[4..12], [0x80, 0, 0, 0x15, 0, 0, 0, 0]);
        assert_eq!(answer[12..], n.to_be_bytes());
    }
    let writer = writing.await.expect("written");
    esme.session.stream = Box::new(reader.unsplit(writer));
    wild.goes_on(&mut esme).await;
    wild.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_refuses_everything_makes_dead_letters_of_its_own() {
    let wild = Wild::open(Siege::default()).await;
    let mut esme = wild.bound(Mode::Transceiver).await;
    for _ in 0..5 {
        esme.submit(&text("refused")).await;
        let (sequence, _) = esme.unanswered_delivery().await;
        let refusal = rusmpp::pdus::DeliverSmResp::default();
        let rejected = CommandStatus::EsmeRxRAppn;
        esme.session.say(rejected, sequence, refusal).await;
    }
    eventually("five dead letters", async || {
        (wild.of("wild", "dead").await == 5).then_some(())
    })
    .await;
    assert_eq!(wild.of("good", "dead").await, 0);
    wild.close().await;
}
