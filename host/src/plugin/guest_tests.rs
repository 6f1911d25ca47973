//! What a guest can do to the host, and what it costs: one call and one instance.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::test_guests::*;
use super::*;
use crate::domain::{
    Body, Context, Hook, Inbound, InboundAction, Phase, Plan, RecipientProfile, Routing, Ruling,
    Verdict,
};

async fn inspected(guest: &Guest, lines: &str) -> Result<Verdict, Fault> {
    let set = set_of(guest, lines).await.unwrap();
    let entry = set.entries(Hook::ContentFilter).next().unwrap();
    entry
        .inspect(&message(), &context(), &mut Witness::absent())
        .await
        .0
}

fn answering(answer: &str) -> Guest {
    Guest {
        answer: answer.into(),
        ..Guest::default()
    }
}

/// Stores `octets` at the free place and answers with its address.
fn returning(octets: &[u8]) -> Guest {
    let data: String = octets.iter().map(|o| format!("\\{o:02x}")).collect();
    Guest {
        more: format!(r#"(data (i32.const {FREE}) "{data}")"#),
        ..answering(&format!("(i32.const {FREE})"))
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

#[tokio::test]
async fn a_pass_is_a_pass_and_is_counted() {
    let set = set_of(&Guest::default(), "").await.unwrap();
    let entry = set.entries(Hook::ContentFilter).next().unwrap();
    let (answer, nanos) = entry
        .inspect(&message(), &context(), &mut Witness::absent())
        .await;
    assert_eq!(answer, Ok(Verdict::Pass));
    assert!(nanos > 0);
    let stats = entry.stats();
    assert_eq!((stats.calls, stats.outcomes), (1, vec![("pass", 1)]));
    assert_eq!(
        stats.instances_made, 0,
        "the instance that was configured answers"
    );
}

#[tokio::test]
async fn an_endless_loop_ends_at_its_deadline_and_others_run_meanwhile() {
    let set = set_of(
        &answering("(loop $l (br $l)) (unreachable)"),
        "limits = { deadline_ms = 20 }",
    )
    .await
    .unwrap();
    let entry = set.entries(Hook::ContentFilter).next().unwrap();
    let done = Cell::new(false);
    let looping = async {
        let answer = entry
            .inspect(&message(), &context(), &mut Witness::absent())
            .await
            .0;
        done.set(true);
        answer
    };
    let other = async {
        let mut turns = 0;
        while !done.get() {
            turns += 1;
            tokio::task::yield_now().await;
        }
        turns
    };
    let (answer, turns) = tokio::join!(looping, other);
    assert_eq!(answer, Err(Fault::Timeout { deadline_ms: 20 }));
    assert!(
        turns >= 20,
        "one thread, and the other task had {turns} turns"
    );
}

#[tokio::test]
async fn a_trap_costs_one_call_and_one_instance() {
    // Traps at every second call of an instance.
    let guest = Guest {
        more: "(global $n (mut i32) (i32.const 0))".into(),
        ..answering(
            "(global.set $n (i32.add (global.get $n) (i32.const 1)))
             (if (i32.eq (global.get $n) (i32.const 2)) (then (unreachable))) (i32.const 2048)",
        )
    };
    let set = set_of(&guest, "").await.unwrap();
    let entry = set.entries(Hook::ContentFilter).next().unwrap();
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(
            entry
                .inspect(&message(), &context(), &mut Witness::absent())
                .await
                .0,
        );
    }
    let trap = Err(Fault::Trap(
        "wasm `unreachable` instruction executed".into(),
    ));
    assert_eq!(
        answers,
        [Ok(Verdict::Pass), trap.clone(), Ok(Verdict::Pass), trap]
    );
}

#[tokio::test]
async fn faults_in_a_row_open_the_breaker() {
    let set = set_of(&answering("(unreachable)"), "").await.unwrap();
    let entry = set.entries(Hook::ContentFilter).next().unwrap();
    for _ in 0..5 {
        assert!(matches!(
            entry
                .inspect(&message(), &context(), &mut Witness::absent())
                .await
                .0,
            Err(Fault::Trap(_))
        ));
    }
    assert_eq!(
        entry
            .inspect(&message(), &context(), &mut Witness::absent())
            .await
            .0,
        Err(Fault::Skipped)
    );
    assert_eq!(entry.breaker(), BreakerState::Open);
    assert!(entry.stats().faults.contains(&("skipped", 1)));
}

#[tokio::test]
async fn a_plugin_that_is_busy_is_not_at_fault_and_a_queue_leaves_room_at_the_door() {
    let set = set_of(&Guest::default(), "limits = { instances = 2 }").await;
    let set = set.unwrap();
    let entry = set.entries(Hook::ContentFilter).next().unwrap();
    let queued = Context {
        phase: Phase::Retry,
        ..context()
    };
    let hook = Hook::ContentFilter;
    let pool = &entry.pool;
    let mut no = Witness::absent();
    let first = pool.begin(hook, &queued, None, &mut no).await.unwrap();
    // Another of the queue waits, and nobody else for it.
    let mut absent = Witness::absent();
    let message = message();
    let second = entry.inspect(&message, &queued, &mut absent);
    tokio::pin!(second);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut second).await;
    assert!(early.is_err());
    assert_eq!(
        entry.inspect(&message, &context(), &mut no).await.0,
        Ok(Verdict::Pass)
    );
    let at_the_door = pool.begin(hook, &context(), None, &mut no).await.unwrap();
    for _ in 0..6 {
        let (answer, _) = entry.inspect(&message, &context(), &mut no).await;
        assert!(matches!(answer, Err(Fault::Busy { instances: 2, .. })));
    }
    assert_eq!(entry.breaker(), BreakerState::Closed);
    assert!(entry.stats().faults.contains(&("busy", 6)));
    drop((first, at_the_door));
    assert_eq!(second.await.0, Ok(Verdict::Pass));
}

#[tokio::test]
async fn deep_recursion_exhausts_its_own_stack() {
    let guest = Guest {
        more: "(func $deep (param i32) (result i32) (i32.add (call $deep (local.get 0)) (local.get 0)))".into(),
        ..answering("(call $deep (i32.const 1))")
    };
    assert_eq!(
        inspected(&guest, "").await,
        Err(Fault::Trap("call stack exhausted".into()))
    );
}

#[tokio::test]
async fn a_memory_bomb_stops_at_the_limit() {
    let bomb = answering(
        "(if (i32.eq (memory.grow (i32.const 1000)) (i32.const -1)) (then (unreachable))) (i32.const 2048)",
    );
    assert_eq!(
        inspected(&bomb, "").await,
        Err(Fault::MemoryLimit {
            limit_bytes: 16 << 20
        })
    );
    assert_eq!(
        inspected(&bomb, "limits = { memory_mib = 64 }").await,
        Ok(Verdict::Pass)
    );
}

#[tokio::test]
async fn a_memory_that_begins_too_large_is_refused_with_the_policy() {
    let guest = Guest {
        pages: "20",
        ..Guest::default()
    };
    let error = set_of(&guest, "limits = { memory_mib = 1 }")
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("memory"), "{error}");
}

#[tokio::test]
async fn strings_that_lie_are_bad_output() {
    let hold = |pointer: u32, length: u32| words(&[3, pointer, length]);
    for (what, octets) in [
        ("longer than may be copied", hold(0, 3 << 20)),
        ("out of bounds", hold(0xffff_0000, 16)),
        ("not UTF-8", [hold(FREE + 12, 2), vec![0xff, 0xfe]].concat()),
        ("no case of the variant", words(&[9, 0, 0])),
    ] {
        let guest = Guest {
            pages: "64",
            ..returning(&octets)
        };
        let answer = inspected(&guest, "").await;
        assert!(
            matches!(answer, Err(Fault::BadOutput(_) | Fault::Trap(_))),
            "{what}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn a_refusal_is_checked_and_its_reason_shortened() {
    // refuse(code at +32, reason at 16384, 2,000 octets of zero).
    let refuse = |code: &str| {
        let head = words(&[2, FREE + 32, code.len() as u32, 16_384, 2_000, 0, 0, 0]);
        returning(&[head, code.as_bytes().to_vec()].concat())
    };
    let Ok(Verdict::Refuse(refusal)) = inspected(&refuse("blocked_word"), "").await else {
        panic!("not refused");
    };
    assert_eq!(refusal.code, "blocked_word");
    assert_eq!(
        refusal.reason,
        " ".repeat(512),
        "control characters are blanks"
    );
    for code in ["Blocked", "", "9lives", "with space"] {
        let answer = inspected(&refuse(code), "").await;
        assert!(
            matches!(&answer, Err(Fault::BadOutput(why)) if why.starts_with("refuse.code")),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn a_flood_of_host_calls_ends_the_call() {
    let flood = |lines: u32| {
        answering(&format!(
            "(loop $l
                (call $log (i32.const 1) (i32.const 1024) (i32.const 5) (i32.const 0) (i32.const 0))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $l (i32.lt_u (local.get $n) (i32.const {lines}))))
            (i32.const 2048)"
        ))
    };
    assert_eq!(inspected(&flood(100), "").await, Ok(Verdict::Pass));
    let answer = inspected(&flood(101), "").await;
    assert!(
        matches!(&answer, Err(Fault::HostCallLimit(why)) if why.contains("100 log lines")),
        "{answer:?}"
    );

    let counting = Guest {
        imports: INCREMENT,
        ..answering(
            "(loop $l (drop (call $increment (i32.const 1024) (i32.const 5) (i64.const 1) (i32.const 60))) (br $l))
             (unreachable)",
        )
    };
    let answer = inspected(
        &counting,
        "grants = { state = {} }\nlimits = { deadline_ms = 1000 }",
    )
    .await;
    assert!(
        matches!(&answer, Err(Fault::HostCallLimit(why)) if why.contains("1000 calls")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_log_line_over_the_byte_limit_ends_the_call() {
    let long = "(call $log (i32.const 1) (i32.const 100000) (i32.const 70000) (i32.const 0) (i32.const 0))";
    let answer = inspected(&answering(&format!("{long} (i32.const 2048)")), "").await;
    assert!(
        matches!(&answer, Err(Fault::HostCallLimit(why)) if why.contains("65536 bytes")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn an_instance_is_replaced_after_its_calls() {
    // Holds once it has been called three times.
    let guest = Guest {
        more: format!(
            "(global $n (mut i32) (i32.const 0)) (data (i32.const {FREE}) \"\\03\\00\\00\\00\\00\\04\\00\\00\\05\\00\\00\\00\")"
        ),
        ..answering(&format!(
            "(global.set $n (i32.add (global.get $n) (i32.const 1)))
             (select (i32.const {FREE}) (i32.const 2048) (i32.ge_u (global.get $n) (i32.const 3)))"
        ))
    };
    let set = set_of(&guest, "limits = { calls = 2 }").await.unwrap();
    let entry = set.entries(Hook::ContentFilter).next().unwrap();
    for _ in 0..6 {
        assert_eq!(
            entry
                .inspect(&message(), &context(), &mut Witness::absent())
                .await
                .0,
            Ok(Verdict::Pass)
        );
    }
    assert_eq!(entry.stats().instances_made, 2);
    assert_eq!(
        inspected_thrice(&guest).await,
        Ok(Verdict::Hold("guest".into()))
    );
}

async fn inspected_thrice(guest: &Guest) -> Result<Verdict, Fault> {
    let set = set_of(guest, "").await.unwrap();
    let entry = set.entries(Hook::ContentFilter).next().unwrap();
    let _ = entry
        .inspect(&message(), &context(), &mut Witness::absent())
        .await;
    let _ = entry
        .inspect(&message(), &context(), &mut Witness::absent())
        .await;
    entry
        .inspect(&message(), &context(), &mut Witness::absent())
        .await
        .0
}

#[tokio::test]
async fn a_call_that_is_dropped_takes_its_instance_with_it() {
    let set = set_of(
        &answering("(loop $l (br $l)) (unreachable)"),
        "limits = { deadline_ms = 1000 }",
    )
    .await
    .unwrap();
    let entry = set.entries(Hook::ContentFilter).next().unwrap();
    let dropped = tokio::time::timeout(
        Duration::from_millis(5),
        entry.inspect(&message(), &context(), &mut Witness::absent()),
    )
    .await;
    assert!(dropped.is_err());
    let again = tokio::time::timeout(
        Duration::from_millis(5),
        entry.inspect(&message(), &context(), &mut Witness::absent()),
    )
    .await;
    assert!(again.is_err());
    assert_eq!(
        entry.stats().instances_made,
        1,
        "the first was not used again"
    );
}

/// A filter that holds with what it was shown: `offset` is where a string is in its parameters.
fn echo(offset: u32) -> Guest {
    answering(&format!(
        "(i32.store (i32.const 2048) (i32.const 3))
         (i32.store (i32.const 2052) (i32.load offset={offset} (local.get $args)))
         (i32.store (i32.const 2056) (i32.load offset={} (local.get $args)))
         (i32.const 2048)",
        offset + 4
    ))
}

#[tokio::test]
async fn a_plugin_sees_what_it_was_granted() {
    // Of the record `message`: recipient.value and recipient.prefix (canonical ABI, 36 + 4 and + 12).
    let (value, prefix) = (echo(40), echo(48));
    let held = |answer| match answer {
        Ok(Verdict::Hold(shown)) => shown,
        other => panic!("{other:?}"),
    };
    assert_eq!(held(inspected(&value, "").await), "447700900123");
    assert_eq!(held(inspected(&prefix, "").await), "44770090");
    let hidden = held(inspected(&value, "grants = { numbers = \"prefix\" }").await);
    assert!(hidden.starts_with('p') && hidden.len() == 21, "{hidden}");
    assert_eq!(
        held(inspected(&prefix, "grants = { numbers = \"pseudonym\" }").await),
        "44"
    );
}

#[tokio::test]
async fn a_table_answers_with_the_longest_prefix() {
    // longest-prefix("rates", recipient.value) -> option<tuple>; holds with the value.
    let guest = Guest {
        imports: LONGEST_PREFIX,
        more: format!("(data (i32.const {FREE}) \"rates\")"),
        ..answering(&format!(
            "(call $longest (i32.const {FREE}) (i32.const 5)
                (i32.load offset=40 (local.get $args)) (i32.load offset=44 (local.get $args)) (i32.const 9000))
             (i32.store (i32.const 2048) (i32.const 3))
             (i32.store (i32.const 2052) (i32.load (i32.const 9012)))
             (i32.store (i32.const 2056) (i32.load (i32.const 9016)))
             (i32.const 2048)"
        ))
    };
    let answer = inspected(&guest, "grants = { tables = [\"rates\"] }").await;
    assert_eq!(answer, Ok(Verdict::Hold("uk mobile".into())));
}

fn carriers() -> Vec<CarrierView> {
    ["north", "south"]
        .map(|id| CarrierView {
            id: id.into(),
            connected: true,
            queued: 0,
            in_flight: 0,
            headroom: 10.0,
            delivered_ratio: None,
            p50_receipt_ms: None,
            tags: vec!["gold".into()],
        })
        .to_vec()
}

async fn routed(octets: &[u8]) -> Result<Routing, Fault> {
    let guest = Guest {
        hooks: vec![Hook::RoutingPolicy],
        ..returning(octets)
    };
    let set = set_of(&guest, "").await.unwrap();
    let entry = set.entries(Hook::RoutingPolicy).next().unwrap();
    entry
        .route(&message(), &carriers(), &context(), &mut Witness::absent())
        .await
        .0
}

/// send([hop; count]) with the carrier's name at +640; hops of 56 octets from +32.
fn plan(count: u32, carrier: &str) -> Vec<u8> {
    let mut octets = words(&[0, 0, FREE + 32, count, 0, 0, 0, 0]);
    for _ in 0..count {
        let mut hop = words(&[FREE + 640, carrier.len() as u32]);
        hop.resize(56, 0);
        octets.extend(hop);
    }
    octets.resize(640, 0);
    octets.extend(carrier.as_bytes());
    octets
}

#[tokio::test]
async fn a_plan_names_carriers_that_were_offered() {
    let Ok(Routing::Send(Plan { hops, .. })) = routed(&plan(1, "south")).await else {
        panic!("no plan");
    };
    assert_eq!(hops[0].carrier.as_str(), "south");
    assert_eq!(
        (hops[0].price_micros, hops[0].originator.as_ref()),
        (None, None)
    );
    for (octets, field) in [
        (plan(1, "west"), "send.hops[0].carrier"),
        (plan(0, ""), "send.hops"),
        (plan(9, "south"), "send.hops"),
    ] {
        let answer = routed(&octets).await;
        assert!(
            matches!(&answer, Err(Fault::BadOutput(why)) if why.starts_with(field)),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn the_other_hooks_are_called_and_answer() {
    let hooks = vec![Hook::ComplianceCheck, Hook::InboundHandler];
    let set = set_of(
        &Guest {
            hooks,
            ..Guest::default()
        },
        "",
    )
    .await
    .unwrap();
    let check = set.entries(Hook::ComplianceCheck).next().unwrap();
    let profile = RecipientProfile::default();
    assert_eq!(
        check
            .check(&message(), &profile, &context(), &mut Witness::absent())
            .await
            .0,
        Ok(Ruling::Allow)
    );
    let inbound = Inbound {
        id: message().id,
        carrier: "north".into(),
        originator: message().recipient,
        recipient: message().originator,
        body: Body::Text("STOP".into()),
        received_at: context().now,
        opted_out: false,
    };
    let receive = set.entries(Hook::InboundHandler).next().unwrap();
    assert_eq!(
        receive
            .receive(&inbound, &context(), &mut Witness::absent())
            .await
            .0,
        Ok(Vec::<InboundAction>::new())
    );
}

/// submit() that posts to `http://127.0.0.1:port/` and answers throttled(status).
fn posting(port: u16) -> Guest {
    let url = format!("http://127.0.0.1:{port}/");
    Guest {
        hooks: vec![Hook::CarrierAdapter],
        imports: SEND,
        more: format!(r#"(data (i32.const {FREE}) "POST{url}")"#),
        ..answering(&format!(
            "(call $send (i32.const {FREE}) (i32.const 4) (i32.const {}) (i32.const {}) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 9000))
             (i32.store (i32.const 2048) (i32.const 1))
             (i32.store (i32.const 2056) (i32.load16_u (i32.const 9004)))
             (i32.const 2048)",
            FREE + 4,
            url.len()
        ))
    }
}

fn http_grant(port: u16) -> String {
    format!(
        "grants = {{ http = {{ hosts = [\"http://127.0.0.1:{port}\"], private = true }} }}\nlimits = {{ deadline_ms = 100 }}"
    )
}

#[tokio::test]
async fn an_adapter_sends_where_it_may_and_a_preview_sends_nothing() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let _ = socket.read(&mut [0; 1024]).await;
        let _ = socket
            .write_all(b"HTTP/1.1 429 Slow\r\ncontent-length: 0\r\n\r\n")
            .await;
    });
    let lines = http_grant(port).replace("100", "5000");
    let set = set_of(&posting(port), &lines).await.unwrap();
    let entry = set.entry("it", Hook::CarrierAdapter).unwrap();
    let preview = Context {
        phase: Phase::Preview,
        ..context()
    };
    assert_ne!(
        entry.submit(&message(), &preview).await.0,
        Ok(Err(SubmitError::Throttled(429)))
    );
    assert_eq!(
        entry.submit(&message(), &context()).await.0,
        Ok(Err(SubmitError::Throttled(429)))
    );
}

#[tokio::test]
async fn an_adapter_that_waits_too_long_times_out() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let set = set_of(&posting(port), &http_grant(port)).await.unwrap();
    let entry = set.entry("it", Hook::CarrierAdapter).unwrap();
    assert_eq!(
        entry.submit(&message(), &context()).await.0,
        Err(Fault::Timeout { deadline_ms: 100 })
    );
}

#[tokio::test]
async fn a_call_back_without_a_sensible_status_is_bad_output() {
    let guest = Guest {
        hooks: vec![Hook::CarrierAdapter],
        ..Guest::default()
    };
    let set = set_of(&guest, "").await.unwrap();
    let entry = set.entry("it", Hook::CarrierAdapter).unwrap();
    let answer = entry.callback(&HttpRequest::default(), &context()).await.0;
    assert!(
        matches!(&answer, Err(Fault::BadOutput(why)) if why.starts_with("response.status")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn an_engine_without_room_says_so_and_blames_no_plugin() {
    let engine = Engine::new(EngineLimits {
        instances: 1,
        ..EngineLimits::default()
    });
    let host = Host {
        engine: engine.unwrap(),
        ..host()
    };
    let shelf = Shelf {
        components: BTreeMap::from([("guest.wasm", build(&Guest::default()))]),
        ..Shelf::default()
    };
    let entry = |name: &str| {
        format!(
            "[[plugin]]\nname = \"{name}\"\npath = \"guest.wasm\"\nlimits = {{ instances = 1 }}\n"
        )
    };
    let spec = PolicySpec::from_toml(&(entry("one") + &entry("two"))).unwrap();
    let error = PolicySet::build(&spec, Arc::new(shelf), &host, None)
        .await
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("no room for another instance"),
        "{error}"
    );
}
