//! Personalities and scripts over real sockets: what each carrier does is seen from outside.

use serde_json::json;

use super::tests::{Esme, TO, eventually, simulator};
use super::*;
use crate::smpp::pdu::{Body, CancelSm, QuerySm, ReplaceSm};
use crate::smpp::status;

/// A simulator of that script with those settings over it.
async fn scripted(text: &str, over: serde_json::Value) -> Simulator {
    let script = Script::parse(text).unwrap();
    let program = script.program(over.as_object().unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Simulator::start(program, Clock::system(), listener, None).unwrap()
}

async fn persona(name: &str, over: serde_json::Value) -> Simulator {
    scripted(Persona::find(name).unwrap().text, over).await
}

/// Submits so many, and returns the answers and whatever came between them, until the carrier is quiet.
async fn submitted(esme: &mut Esme, n: usize) -> Vec<super::tests::Frame> {
    for _ in 0..n {
        esme.submit(TO, b"hello").await;
    }
    let mut frames = Vec::new();
    while frames
        .iter()
        .filter(|f: &&super::tests::Frame| f.is_answer())
        .count()
        < n
    {
        frames.push(esme.next().await);
    }
    frames
}

#[tokio::test]
async fn strict_refuses_what_is_not_by_the_letter() {
    let smsc = persona("strict", json!({"latency_ms": 0})).await;
    let mut esme = Esme::bound(&smsc).await;
    esme.submit(b"+447700900123", b"hello").await;
    assert_eq!(esme.next().await.status(), status::ESME_RINVDSTADR);
    esme.submit(TO, b"hello").await;
    assert_eq!(esme.next().await.status(), 0);
}

#[tokio::test]
async fn slow_answers_late() {
    let smsc = persona("slow", json!({"latency_ms": 200, "latency_jitter_ms": 0})).await;
    let mut esme = Esme::bound(&smsc).await;
    let start = Instant::now();
    esme.submit(TO, b"hello").await;
    assert_eq!(esme.next().await.status(), 0);
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_stalled_carrier_reads_nothing_until_it_goes_on() {
    let smsc = simulator(json!({})).await;
    let mut esme = Esme::bound(&smsc).await;
    let stalled = smsc.settings().patched(json!({"stalled": true})).unwrap();
    smsc.change(stalled).unwrap();
    esme.submit(TO, b"hello").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(smsc.counters().submits, 0);
    smsc.change(Settings::default()).unwrap();
    assert_eq!(esme.next().await.status(), 0);
}

/// A script's steps follow one another, each with its own settings and its act.
#[tokio::test]
async fn a_script_cuts_refuses_unbinds_and_begins_again() {
    let text = r#"
        [[step]]
        for_ms = 60
        [[step]]
        act = "drop"
        for_ms = 60
        set = { bind_status = 0x0d }
        [[step]]
        for_ms = 60
        [[step]]
        act = "unbind"
        for_ms = 60
    "#;
    let smsc = scripted(text, json!({})).await;
    let (mut refused, mut unbound, mut cut) = (0, 0, 0);
    while refused == 0 || unbound == 0 || cut == 0 {
        let mut esme = Esme::connect(&smsc).await;
        match esme.bind(Body::BindTransceiver, "esme", "").await {
            0 => match esme.try_next().await {
                Some(frame) if matches!(frame.pdu().body, Body::Unbind) => unbound += 1,
                Some(frame) => panic!("{:?}", frame.pdu()),
                None => cut += 1,
            },
            status => {
                assert_eq!(status, 0x0D);
                refused += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    eventually("the script repeats", || smsc.counters().steps > 4).await;
}

#[tokio::test]
async fn a_script_without_repeat_stays_at_its_last_step() {
    let text =
        "repeat = false\n[[step]]\nfor_ms = 1\n[[step]]\nfor_ms = 1\nset = { throughput = 3 }";
    let smsc = scripted(text, json!({})).await;
    eventually("the last step", || smsc.settings().throughput == 3).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!((smsc.settings().throughput, smsc.counters().steps), (3, 2));
}

#[tokio::test]
async fn throttling_takes_some_and_throttles_the_rest() {
    let smsc = persona("throttling", json!({"latency_ms": 0, "receipts": false})).await;
    let mut esme = Esme::bound(&smsc).await;
    let frames = submitted(&mut esme, 100).await;
    let throttled = frames
        .iter()
        .filter(|f| f.status() == status::ESME_RTHROTTLED);
    assert!((60..=80).contains(&throttled.count()));
}

#[tokio::test]
async fn lying_ids_are_empty_zero_too_long_or_given_twice_and_answers_come_twice() {
    let over =
        json!({"receipts": false, "latency_ms": 0, "latency_jitter_ms": 0, "first_id": 1000});
    let smsc = persona("lying-ids", over).await;
    let mut esme = Esme::bound(&smsc).await;
    for _ in 0..400 {
        esme.submit(TO, b"hello").await;
    }
    let frames = esme.until_quiet().await;
    let ids: Vec<String> = frames
        .iter()
        .filter(|f| f.is_answer() && f.status() == 0)
        .map(|f| f.message_id())
        .collect();
    let of = |is: &dyn Fn(&String) -> bool| ids.iter().filter(|id| is(id)).count();
    assert!(of(&|id| id.is_empty()) > 5);
    assert!(of(&|id| id == "0") > 5);
    assert!(of(&|id| id.len() == 65) > 5);
    assert!(ids.windows(2).any(|w| w[0] == w[1] && w[0].len() == 8));
    assert!(frames.len() > 420, "{} answers to 400", frames.len());
    let nacks = frames
        .iter()
        .filter(|f| matches!(f.pdu().body, Body::GenericNack));
    assert!(nacks.count() > 5);
    let counters = smsc.counters();
    assert!(counters.id_faults > 40 && counters.answered_twice > 20);
}

#[tokio::test]
async fn receipts_storm_with_states_that_contradict_each_other() {
    let over = json!({"receipt_delay_ms": 10, "receipt_jitter_ms": 10, "first_id": 1});
    let smsc = persona("receipt-storming", over).await;
    let mut esme = Esme::bound(&smsc).await;
    esme.submit(TO, b"hello").await;
    let mut states = Vec::new();
    while states.len() < 11 {
        let frame = esme.next().await;
        if frame.is_deliver() {
            assert_eq!(frame.receipted_id(), "1");
            states.push(frame.deliver().tlvs.integer(0x0427));
            esme.answer(&frame, 0).await;
        }
    }
    states.sort_unstable();
    states.dedup();
    assert!(states.len() > 2, "{states:?}");
    assert_eq!(smsc.counters().receipts_duplicated, 10);
}

#[tokio::test]
async fn swallowing_takes_what_it_never_answers() {
    let smsc = persona("swallowing", json!({"receipts": false, "latency_ms": 0})).await;
    let mut esme = Esme::bound(&smsc).await;
    for _ in 0..200 {
        esme.submit(TO, b"hello").await;
    }
    let answers = esme.until_quiet().await.len();
    assert!((160..200).contains(&answers), "{answers}");
    assert_eq!(smsc.counters().accepted, 200);
}

#[tokio::test]
async fn garbage_comes_between_answers_and_the_same_seed_speaks_the_same() {
    let heard = async || {
        let text = Persona::find("garbage").unwrap().text;
        // Without the steps, which come by the clock.
        let text = text.split("[[step]]").next().unwrap();
        let over = json!({"latency_ms": 0, "latency_jitter_ms": 0, "receipts": false, "first_id": 1, "seed": 7});
        let smsc = scripted(text, over).await;
        let mut esme = Esme::bound(&smsc).await;
        for _ in 0..40 {
            esme.submit(TO, b"hello").await;
        }
        eventually("all are taken", || smsc.counters().submits == 40).await;
        smsc.drop_connections();
        let octets = esme.rest().await;
        (octets, smsc.counters().garbage)
    };
    let (first, count) = heard().await;
    assert!(count > 0);
    assert_eq!((first, count), heard().await);
}

#[tokio::test]
async fn a_message_can_be_asked_about_replaced_and_canceled_until_its_end() {
    let smsc = simulator(json!({"receipt_delay_ms": 60_000, "first_id": 7})).await;
    let mut esme = Esme::bound(&smsc).await;
    esme.submit(TO, b"hello").await;
    let id = esme.next().await.message_id();
    let query = QuerySm {
        message_id: id.as_bytes(),
        ..QuerySm::default()
    };
    let state = async |esme: &mut Esme| {
        esme.send(Body::QuerySm(query)).await;
        let frame = esme.next().await;
        match frame.pdu().body {
            Body::QuerySmResp(resp) => (
                frame.status(),
                resp.message_state,
                resp.final_date.is_empty(),
            ),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(state(&mut esme).await, (0, 1, true));
    let replace = ReplaceSm {
        message_id: id.as_bytes(),
        short_message: b"new",
        ..ReplaceSm::default()
    };
    esme.send(Body::ReplaceSm(replace)).await;
    assert_eq!(esme.next().await.status(), 0);
    let with = smsc.received(0, 1)[0].replaced_with.clone();
    assert_eq!(with.as_deref(), Some("6e6577"));
    let cancel = CancelSm {
        message_id: id.as_bytes(),
        ..CancelSm::default()
    };
    for expect in [0, status::ESME_RCANCELFAIL] {
        esme.send(Body::CancelSm(cancel)).await;
        assert_eq!(esme.next().await.status(), expect);
    }
    assert_eq!(state(&mut esme).await, (0, 4, false));
    esme.send(Body::ReplaceSm(replace)).await;
    assert_eq!(esme.next().await.status(), status::ESME_RREPLACEFAIL);

    let mut other = Esme::connect(&smsc).await;
    other.bind(Body::BindTransceiver, "other", "").await;
    other.send(Body::QuerySm(query)).await;
    assert_eq!(other.next().await.status(), status::ESME_RQUERYFAIL);
}

#[tokio::test]
async fn the_receipt_of_a_canceled_message_says_so() {
    let smsc = simulator(json!({"receipt_delay_ms": 300})).await;
    let mut esme = Esme::bound(&smsc).await;
    esme.submit(TO, b"hello").await;
    let id = esme.next().await.message_id();
    let cancel = CancelSm {
        message_id: id.as_bytes(),
        ..CancelSm::default()
    };
    esme.send(Body::CancelSm(cancel)).await;
    assert_eq!(esme.next().await.status(), 0);
    let receipt = esme.next().await;
    let text = String::from_utf8_lossy(receipt.deliver().short_message).into_owned();
    assert!(text.contains("stat:DELETED"), "{text}");
}

#[tokio::test]
async fn a_carrier_that_knows_no_queries_says_so() {
    let smsc = simulator(json!({"queries": false})).await;
    let mut esme = Esme::bound(&smsc).await;
    esme.send(Body::QuerySm(QuerySm::default())).await;
    assert_eq!(esme.next().await.status(), status::ESME_RINVCMDID);
}
