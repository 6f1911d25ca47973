//! Inhabitants that were let in and misbehave at some messages. Each is asked on all traffic and
//! harms its own messages alone: what becomes of those is its outcome.

use heliograph_tests::guests::{FREE, Guest, KEEP_MARK, ROUTE_PASS, ZERO, on_mark, words};
use heliograph_tests::{Plan, eventually, sms};
use serde_json::Value;

use super::{HANDSET, Zoo, call, text};

/// Fewer than open the breaker.
const HITS: u64 = 3;

/// What a message of the inhabitant's comes to.
enum Outcome {
    /// A fault of this kind with these words in the trace; the message goes on without the plugin.
    Fault(&'static str, &'static str),
    /// The same, and the message waits for the plugin: its fail mode is `closed`.
    Held(&'static str, &'static str),
    /// The plugin was denied what it wanted, and answered all the same.
    Goes,
    /// Taken, and put off until the message's own end.
    PutOff,
    /// Refused with this problem's code; the words are what the client sees.
    Refused(&'static str, &'static str),
}

struct Inhabitant {
    name: &'static str,
    /// The first letter of its messages; its configuration tells it.
    mark: char,
    guest: Guest,
    /// Of its entry: fail mode, grants, limits.
    lines: String,
    /// The text is filled up to so many octets; 0: it is as long as it is.
    octets: usize,
    outcome: Outcome,
}

/// A filter that does `then` at its mark; a fault of it lets the message go.
fn filter(name: &'static str, then: &str, outcome: Outcome) -> Inhabitant {
    Inhabitant {
        name,
        mark: '!',
        guest: Guest {
            hooks: vec![("content-filter", "inspect", on_mark(then, ZERO))],
            configure: KEEP_MARK.to_owned(),
            ..Guest::default()
        },
        lines: "fail = \"open\"".to_owned(),
        octets: 0,
        outcome,
    }
}

/// A filter that answers with the octets at [`FREE`].
fn answering(name: &'static str, answer: Vec<u8>, outcome: Outcome) -> Inhabitant {
    let mut one = filter(name, &format!("(return (i32.const {FREE}))"), outcome);
    one.guest.data = answer;
    one
}

fn router(name: &'static str, answer: Vec<u8>, outcome: Outcome) -> Inhabitant {
    let mut one = answering(name, answer, outcome);
    let body = on_mark(&format!("(return (i32.const {FREE}))"), ROUTE_PASS);
    one.guest.hooks = vec![("routing-policy", "route", body)];
    one.lines = "fail = \"default\"".to_owned();
    one
}

/// A filter whose `cabi_realloc` does `then` for a text of exactly this length.
fn allocator(name: &'static str, then: &str, outcome: Outcome) -> Inhabitant {
    const OCTETS: usize = 151;
    let mut one = filter(name, "", outcome);
    one.guest.realloc =
        format!("(if (i32.eq (local.get $len) (i32.const {OCTETS})) (then {then}))");
    one.octets = OCTETS;
    one
}

/// An allow-listed capability that a filter imports.
const LOG: &str =
    r#"(import "heliograph:sms/logging@0.1.0" "log" (func $log (param i32 i32 i32 i32 i32)))"#;
const STATE: &str = r#"
    (import "heliograph:sms/state@0.1.0" "increment" (func $increment (param i32 i32 i64 i32) (result i64)))
    (import "heliograph:sms/state@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32 i32 i32)))
    (import "heliograph:sms/state@0.1.0" "get" (func $get (param i32 i32 i32)))"#;

fn times(count: u32, body: &str) -> String {
    format!(
        "(loop $l {body}
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $n) (i32.const {count}))))"
    )
}

fn endless() -> Vec<Inhabitant> {
    use Outcome::{Fault, Held};
    const ENDLESS: &str = "(loop $l (br $l))";
    let late = "deadline_ms = 10";
    let mut fill = filter(
        "fills-memory-for-ever",
        "(drop (memory.grow (i32.const 200)))
         (loop $l (memory.fill (i32.const 65536) (i32.const 1) (i32.const 13000000)) (br $l))",
        Fault("timeout", late),
    );
    fill.guest.memory = "4";
    let mut closed = filter("loops-closed", ENDLESS, Held("timeout", late));
    closed.lines = "fail = \"closed\"".to_owned();
    // Its messages are tried again while others are here, who must not know them.
    closed.mark = '?';
    let mut deep = filter(
        "recurses",
        "(drop (call $deep (i32.const 1)))",
        Fault("trap", "call stack exhausted"),
    );
    deep.guest.more =
        "(func $deep (param i32) (result i32) (i32.add (call $deep (local.get 0)) (local.get 0)))"
            .to_owned();
    let zero = "(drop (i32.div_u (i32.const 1) (i32.const 0)))";
    let mut nth = filter("traps-every-16th-call", "", Outcome::Goes);
    nth.guest.more = "(global $calls (mut i32) (i32.const 0))".to_owned();
    nth.guest.hooks[0].2 = format!(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
         (if (i32.eqz (i32.rem_u (global.get $calls) (i32.const 16))) (then (unreachable)))
         (i32.const {ZERO})"
    );
    let mut always = filter("traps-always", "", Outcome::Goes);
    always.guest.hooks[0].2 = "(unreachable)".to_owned();
    // However slow the machine, no probe after the pause adds a trap to those that opened the breaker.
    always.lines += "\nbreaker = { pause_s = 3600 }";
    vec![
        closed,
        filter("loops", ENDLESS, Fault("timeout", late)),
        fill,
        allocator("loops-in-realloc", ENDLESS, Fault("timeout", late)),
        deep,
        filter("traps", "(unreachable)", Fault("trap", "unreachable")),
        filter("divides-by-zero", zero, Fault("trap", "divide by zero")),
        nth,
        always,
    ]
}

fn hoarders() -> Vec<Inhabitant> {
    use Outcome::{Fault, Goes};
    let grow = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))";
    let mut tables = filter(
        "table-bomb",
        "(if (i32.ne (table.grow $t (ref.null func) (i32.const 100000000)) (i32.const -1))
            (then (unreachable)))",
        Goes,
    );
    tables.guest.more = "(table $t 1 funcref)".to_owned();
    vec![
        filter(
            "memory-bomb",
            &format!("{grow} (unreachable)"),
            Fault("memory_limit", "limits.memory_mib = 16"),
        ),
        filter("memory-bomb-that-goes-on", grow, Goes),
        tables,
    ]
}

fn liars() -> Vec<Inhabitant> {
    use Outcome::{Fault, Refused};
    let bad = |words| Fault("bad_output", words);
    let hold = |pointer: u32, length: u32| words(&[3, pointer, length]);
    let mut large = answering("string-of-8-mib", hold(65_536, 8 << 20), bad(""));
    large.guest.memory = "160";
    let mut list = router(
        "list-of-200000-hops",
        words(&[0, 0, 65_536, 200_000, 0, 0, 0, 0]),
        bad(""),
    );
    list.guest.memory = "250";
    let refuse = |code: &str, reason: &str| {
        let (code_at, reason_at) = (FREE + 32, FREE + 32 + code.len() as u32);
        let head = words(&[
            2,
            code_at,
            code.len() as u32,
            reason_at,
            reason.len() as u32,
            0,
            0,
            0,
        ]);
        [head, code.as_bytes().to_vec(), reason.as_bytes().to_vec()].concat()
    };
    let replace_text = |length: u32| words(&[1, 0, 131_072, length, 0, 0, 0, 0]);
    let mut long = answering(
        "text-of-300-segments",
        replace_text(45_000),
        bad("255 segments"),
    );
    long.guest.data.resize(64, 0);
    vec![
        large,
        list,
        answering("pointer-out-of-bounds", hold(0xffff_0000, 16), bad("")),
        filter(
            "misaligned-result",
            &format!("(return (i32.const {}))", FREE + 1),
            bad(""),
        ),
        filter("result-out-of-bounds", "(return (i32.const -4))", bad("")),
        answering(
            "bad-utf-8",
            [hold(FREE + 12, 2), vec![0xff, 0xfe]].concat(),
            bad("utf-8"),
        ),
        answering("no-such-case", words(&[9, 0, 0]), bad("")),
        allocator("realloc-out-of-bounds", "(return (i32.const -16))", bad("")),
        allocator(
            "realloc-traps",
            "(unreachable)",
            Fault("trap", "unreachable"),
        ),
        answering(
            "code-with-escapes",
            refuse("\x1b[31mred", "why"),
            bad("refuse.code"),
        ),
        answering(
            "reason-with-escapes",
            refuse("blocked", "a\r\n\x1b[2J\u{202e}b"),
            Refused("blocked", "a   [2J b"),
        ),
        long,
        // Reported by the decision, which knows the message.
        answering(
            "text-becomes-binary",
            words(&[1, 1, FREE, 0, FREE, 4, 0, 0]),
            Fault("", "text cannot become binary"),
        ),
        answering(
            "withholds-content",
            words(&[1, 2, 5, 0, 0, 0, 0, 0]),
            bad("only the host withholds"),
        ),
    ]
}

/// send() of `hops` hops to the carrier at the end; of 56 octets each.
pub fn plan(hops: usize, carrier: &str, originator: &[u32]) -> Vec<u8> {
    let names = FREE + 32 + 56 * hops as u32;
    let mut octets = words(&[0, 0, FREE + 32, hops as u32, 0, 0, 0, 0]);
    for _ in 0..hops {
        let mut hop = words(&[names, carrier.len() as u32]);
        hop.extend(words(originator));
        hop.resize(56, 0);
        octets.extend(hop);
    }
    octets.extend(carrier.as_bytes());
    octets
}

fn deciders() -> Vec<Inhabitant> {
    let bad = |words| Outcome::Fault("bad_output", words);
    // option<address>: some, international and isdn, value: what `recipient.value` points to.
    let mut pseudonym = router(
        "pseudonym-as-address",
        plan(1, "sim0", &[1, 0x0101, 0, 0, FREE, 0]),
        bad("originator is no address"),
    );
    let hop = FREE + 32;
    pseudonym.guest.hooks[0].2 = on_mark(
        &format!(
            "(i32.store (i32.const {}) (i32.load offset=40 (local.get $args)))
             (i32.store (i32.const {}) (i32.load offset=44 (local.get $args)))
             (return (i32.const {FREE}))",
            hop + 16,
            hop + 20
        ),
        ROUTE_PASS,
    );
    pseudonym.lines += "\ngrants = { numbers = \"pseudonym\" }";
    // defer { until, reason }: an u64 of ones.
    let mut never = answering(
        "defers-to-the-end-of-time",
        words(&[2, 0, u32::MAX, u32::MAX, 0, 0]),
        Outcome::PutOff,
    );
    let body = on_mark(&format!("(return (i32.const {FREE}))"), ZERO);
    never.guest.hooks = vec![("compliance-check", "check", body.clone())];
    never.lines = "fail = \"closed\"".to_owned();
    let mut past = answering(
        "defers-to-the-past",
        words(&[2, 0, 0, 0, 0, 0]),
        Outcome::PutOff,
    );
    past.guest.hooks = vec![("compliance-check", "check", body)];
    past.lines = "fail = \"closed\"".to_owned();
    vec![
        router(
            "carrier-it-was-not-offered",
            plan(1, "west", &[]),
            bad("no carrier it was offered"),
        ),
        router(
            "hops-by-the-hundred",
            plan(256, "sim0", &[]),
            bad("256 hops"),
        ),
        router("no-hops", plan(0, "sim0", &[]), bad("0 hops")),
        pseudonym,
        never,
        past,
    ]
}

fn talkers() -> Vec<Inhabitant> {
    use Outcome::{Fault, Goes};
    let line = |length: u32| {
        format!(
            "(call $log (i32.const 1) (i32.const {FREE}) (i32.const {length}) (i32.const 0) (i32.const 0))"
        )
    };
    let logging = |name, then: &str, outcome| {
        let mut one = filter(name, then, outcome);
        one.guest.imports = LOG;
        one.guest.data = b"zoo: a line of the flood".to_vec();
        one
    };
    let count = format!(
        "(drop (call $increment (i32.const {FREE}) (i32.const 1) (i64.const 1) (i32.const 60)))"
    );
    let mut calls = filter(
        "host-call-flood",
        &times(100_000, &count),
        Fault("host_call_limit", "1000 calls"),
    );
    calls.guest.imports = STATE;
    calls.guest.data = b"n".to_vec();
    calls.lines += "\ngrants = { state = {} }\nlimits = { deadline_ms = 1000 }";
    // Keys of eight octets that change, until the quota of 64 is used up.
    let mut quota = filter(
        "state-over-quota",
        &times(
            100,
            &format!(
                "(i32.store (i32.const {FREE}) (local.get $n))
                 (drop (call $increment (i32.const {FREE}) (i32.const 4) (i64.const 1) (i32.const 60)))"
            ),
        ),
        Fault("host_call_limit", "grants.state.bytes = 64 is used up"),
    );
    quota.guest.imports = STATE;
    quota.lines += "\ngrants = { state = { bytes = 64 } }";
    let forged = "zoo\r\n2026-01-01T00:00:00Z  INFO forged: line\n\x1b[2J\x1b]0;owned\x07\u{202e}evil\u{2028}\u{0}";
    let mut injection = logging("log-injection", &line(forged.len() as u32), Goes);
    injection.guest.data = forged.as_bytes().to_vec();
    let mut long = logging(
        "log-line-of-1-mib",
        "(call $log (i32.const 1) (i32.const 131072) (i32.const 1000000) (i32.const 0) (i32.const 0))",
        Fault("host_call_limit", "bytes"),
    );
    long.guest.memory = "20";
    let mut huge = logging(
        "log-line-of-8-mib",
        "(call $log (i32.const 1) (i32.const 131072) (i32.const 8388608) (i32.const 0) (i32.const 0))",
        Fault("bad_output", ""),
    );
    huge.guest.memory = "160";
    let mut flood = logging(
        "log-flood",
        &times(100_000, &line(24)),
        Fault("host_call_limit", "100 log lines"),
    );
    // The count is to end it, on a busy machine too.
    flood.lines += "\nlimits = { deadline_ms = 1000 }";
    let mut within = logging("log-flood-within-a-call", &times(100, &line(24)), Goes);
    // All of its lines are to be written, on a busy machine too.
    within.lines += "\nlimits = { deadline_ms = 1000 }";
    vec![flood, within, injection, long, huge, calls, quota]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_inhabitant_harms_its_own_messages_alone() {
    let mut zoo = Zoo::open(Plan::default()).await;
    let all = [endless(), hoarders(), liars(), deciders(), talkers()];
    for inhabitant in all.into_iter().flatten() {
        visit(&mut zoo, &inhabitant).await;
    }
    let log = zoo.rig.log();
    let line = log.lines().find(|l| l.contains("forged: line"));
    let line = line.expect("the injected line is in the log");
    assert!(line.contains("zoo\\u{d}\\u{a}2026-01-01"), "{line}");
    // The one writer of colours and of line ends is the log itself.
    for hostile in ['\u{7}', '\u{202e}', '\u{2028}', '\0', '\r'] {
        assert!(!log.contains(hostile), "{hostile:?} is in the log");
    }
    assert!(!log.contains("\x1b[2J") && !log.contains("\x1b]0;"));
    assert!(log.matches("a line of the flood").count() <= 600 + 100 * 60);
    let sent = zoo.close().await;
    assert!(
        sent.accepted.len() > 200,
        "only {} others",
        sent.accepted.len()
    );
}

async fn visit(zoo: &mut Zoo, one: &Inhabitant) {
    let name = one.name;
    let lines = format!("config = {{ on = \"{}\" }}\n{}", one.mark, one.lines);
    zoo.let_in(name, &one.guest.build(), &lines).await;
    for n in 0..HITS {
        let body = sms(
            HANDSET,
            &format!("{:x<1$}", format!("{} {n} {name} ", one.mark), one.octets),
        );
        match &one.outcome {
            Outcome::Refused(code, words) => {
                let problem = zoo.rig.refused(body).await.to_string();
                assert!(
                    problem.contains(code) && problem.contains(words),
                    "{problem}"
                );
            }
            Outcome::Fault(_, why) => {
                let message = delivered(zoo, body).await;
                assert_fault(&message, name, why);
            }
            Outcome::Goes => {
                delivered(zoo, body).await;
            }
            Outcome::Held(_, why) => {
                let id = zoo.rig.submit(body).await;
                let message = zoo.rig.wait_for(&id, "held").await;
                assert_eq!(message["reason"], "policy_unavailable", "{name}");
                assert_fault(&message, name, why);
                zoo.owed.push(id);
            }
            Outcome::PutOff => {
                let id = zoo.rig.submit(body).await;
                let message = zoo.rig.wait_for(&id, "scheduled").await;
                assert_eq!(call(&message, name)["outcome"], "defer", "{message:#}");
                let (status, answer) = zoo
                    .rig
                    .call("POST", &format!("/v1/messages/{id}/cancel"), None)
                    .await;
                assert!(status < 300, "{name}: {answer}");
            }
        }
    }
    zoo.traffic_flows().await;
    let stats = zoo.stats(name).await;
    let faults = stats["faults"].clone();
    match (&one.outcome, name) {
        (_, "traps-always") => {
            assert_eq!(stats["breaker"], "open", "{stats}");
            assert_eq!(faults["trap"], 5, "{faults}");
            assert!(faults["skipped"].as_u64() > Some(0), "{faults}");
        }
        // Few instances, and one call of sixteen of each: never five of twenty, so it is not skipped.
        (_, "traps-every-16th-call") => {
            let faults = eventually("a call traps", async || {
                let faults = zoo.stats(name).await["faults"].clone();
                (faults["trap"].as_u64() > Some(0)).then_some(faults)
            })
            .await;
            assert_eq!(faults["skipped"], Value::Null, "{faults}");
        }
        (Outcome::Fault("", _), _)
        | (Outcome::Goes | Outcome::PutOff | Outcome::Refused(..), _) => {
            assert_eq!(faults, serde_json::json!({}), "{name}");
        }
        (Outcome::Fault(kind, _) | Outcome::Held(kind, _), _) => {
            assert_eq!(faults, serde_json::json!({ *kind: HITS }), "{name}");
            assert_eq!(stats["breaker"], "closed", "{name}");
        }
    }
    if name == "log-flood-within-a-call" {
        assert!(stats["log_lines_dropped"].as_u64() < Some(300), "{stats}");
    }
}

async fn delivered(zoo: &mut Zoo, body: Value) -> Value {
    let id = zoo.rig.submit(body).await;
    zoo.owed.push(id.clone());
    zoo.rig.wait_for(&id, "delivered").await
}

fn assert_fault(message: &Value, name: &str, why: &str) {
    let call = call(message, name);
    assert_eq!(call["outcome"], "fault", "{name}: {message:#}");
    assert!(text(&call["why"]).contains(why), "{name}: {call}");
}
