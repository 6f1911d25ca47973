//! What guests that import WASI find: nothing of the machine, time and chance of the decision, a log.

use std::io;
use std::sync::{Arc, Mutex};

use super::test_guests::*;
use super::*;
use crate::domain::{Context, Hook, Verdict};

const CLOCKS: &str = r#"
    (import "wasi:clocks/wall-clock@0.2.3" "now" (func $wall (param i32)))
    (import "wasi:clocks/monotonic-clock@0.2.3" "now" (func $monotonic (result i64)))
    (import "wasi:clocks/monotonic-clock@0.2.3" "subscribe-duration" (func $sleep (param i64) (result i32)))
    (import "wasi:io/poll@0.2.3" "[method]pollable.block" (func $block (param i32)))
    (import "wasi:random/random@0.2.3" "get-random-u64" (func $random (result i64)))"#;
const EXIT: &str = r#"(import "wasi:cli/exit@0.2.3" "exit" (func $exit (param i32)))"#;
const STDOUT: &str = r#"
    (import "wasi:cli/stdout@0.2.3" "get-stdout" (func $stdout (result i32)))
    (import "wasi:io/streams@0.2.3" "[method]output-stream.blocking-write-and-flush"
        (func $write (param i32 i32 i32 i32)))"#;
const SOCKET: &str = r#"(import "wasi:sockets/tcp-create-socket@0.2.3" "create-tcp-socket"
    (func $socket (param i32 i32)))"#;
const TIMEZONE: &str =
    r#"(import "wasi:clocks/timezone@0.2.3" "utc-offset" (func $offset (result i32)))"#;
const EMPTY: &str = r#"
    (import "wasi:cli/environment@0.2.3" "get-environment" (func $environment (param i32)))
    (import "wasi:cli/environment@0.2.3" "get-arguments" (func $arguments (param i32)))
    (import "wasi:filesystem/preopens@0.2.3" "get-directories" (func $directories (param i32)))"#;

fn guest(imports: &'static str, answer: &str) -> Guest {
    Guest {
        imports,
        answer: answer.into(),
        ..Guest::default()
    }
}

async fn set(guest: &Guest) -> PolicySet {
    set_of(guest, "").await.unwrap()
}

async fn inspected(set: &PolicySet, context: &Context) -> Result<Verdict, Fault> {
    let entry = set.entries(Hook::ContentFilter).next().unwrap();
    entry
        .inspect(&message(), context, &mut Witness::absent())
        .await
        .0
}

/// Holds with eight letters made of the `i64` that `value` leaves on the stack.
fn telling(value: &str) -> Guest {
    let at = FREE;
    guest(
        CLOCKS,
        &format!(
            "(i64.store (i32.const {text}) (i64.or (i64.const 0x4040404040404040)
                 (i64.and (i64.const 0x0f0f0f0f0f0f0f0f) {value})))
             (i32.store (i32.const {at}) (i32.const 3))
             (i32.store offset=4 (i32.const {at}) (i32.const {text}))
             (i32.store offset=8 (i32.const {at}) (i32.const 8))
             (i32.const {at})",
            text = at + 64
        ),
    )
}

/// Passes where `holds` leaves 1 on the stack, traps where it leaves 0.
fn passing(imports: &'static str, holds: &str) -> Guest {
    guest(
        imports,
        &format!("(if (i32.eqz {holds}) (then (unreachable))) (i32.const 2048)"),
    )
}

#[tokio::test]
async fn randomness_comes_from_the_decision() {
    let set = set(&telling("(call $random)")).await;
    let with = |random| Context {
        random,
        ..context()
    };
    let first = inspected(&set, &with(1)).await.unwrap();
    assert_eq!(
        inspected(&set, &with(1)).await.unwrap(),
        first,
        "run again, the same"
    );
    assert_ne!(inspected(&set, &with(2)).await.unwrap(), first);
}

#[tokio::test]
async fn the_wall_clock_stands_at_the_decisions_time() {
    // context().now is one second after the epoch.
    let guest = passing(
        CLOCKS,
        "(block (result i32) (call $wall (i32.const 9000))
             (i32.and (i64.eq (i64.load (i32.const 9000)) (i64.const 1))
                      (i32.eqz (i32.load offset=8 (i32.const 9000)))))",
    );
    assert_eq!(
        inspected(&set(&guest).await, &context()).await,
        Ok(Verdict::Pass)
    );
}

#[tokio::test]
async fn a_sleep_takes_no_time_and_moves_the_monotonic_clock() {
    let guest = passing(
        CLOCKS,
        "(block (result i32)
             (i64.store (i32.const 9000) (call $monotonic))
             (call $block (call $sleep (i64.const 3600000000000)))
             (i64.eq (i64.sub (call $monotonic) (i64.load (i32.const 9000))) (i64.const 3600000000000)))",
    );
    let started = std::time::Instant::now();
    assert_eq!(
        inspected(&set(&guest).await, &context()).await,
        Ok(Verdict::Pass)
    );
    assert!(started.elapsed().as_secs() < 600);
}

#[tokio::test]
async fn a_start_function_finds_a_fixed_time_and_fixed_chance() {
    // Kept by the start function, told by the call.
    let guest = Guest {
        more: "(global $kept (mut i64) (i64.const 0))
               (func $start (global.set $kept (i64.xor (call $random) (call $monotonic)))) (start $start)"
            .into(),
        ..telling("(global.get $kept)")
    };
    let (one, two) = (set(&guest).await, set(&guest).await);
    let other = Context {
        random: 99,
        ..context()
    };
    assert_eq!(
        inspected(&one, &context()).await,
        inspected(&two, &other).await
    );
}

#[tokio::test]
async fn there_is_no_environment_no_argument_and_no_file() {
    let guest = passing(
        EMPTY,
        "(block (result i32)
             (call $environment (i32.const 9000)) (call $arguments (i32.const 9008))
             (call $directories (i32.const 9016))
             (i32.eqz (i32.or (i32.load offset=4 (i32.const 9000))
                 (i32.or (i32.load offset=4 (i32.const 9008)) (i32.load offset=4 (i32.const 9016))))))",
    );
    assert_eq!(
        inspected(&set(&guest).await, &context()).await,
        Ok(Verdict::Pass)
    );
}

#[tokio::test]
async fn no_socket_is_made() {
    // The second enum case of the test's `error-code` is `access-denied`.
    let guest = passing(
        SOCKET,
        "(block (result i32) (call $socket (i32.const 0) (i32.const 9000))
             (i32.and (i32.load8_u (i32.const 9000)) (i32.eq (i32.load8_u offset=4 (i32.const 9000)) (i32.const 1))))",
    );
    assert_eq!(
        inspected(&set(&guest).await, &context()).await,
        Ok(Verdict::Pass)
    );
}

#[tokio::test]
async fn a_guest_that_ends_itself_costs_that_call() {
    let set = set(&guest(EXIT, "(call $exit (i32.const 1)) (unreachable)")).await;
    let ended = Err(Fault::Trap("it ended itself with status 1".into()));
    assert_eq!(inspected(&set, &context()).await, ended);
    assert_eq!(inspected(&set, &context()).await, ended);
}

#[tokio::test]
async fn a_function_without_anything_behind_it_is_named() {
    let set = set(&guest(TIMEZONE, "(drop (call $offset)) (unreachable)")).await;
    let Err(Fault::Trap(why)) = inspected(&set, &context()).await else {
        panic!("no trap");
    };
    assert!(why.contains("wasi:clocks/timezone#utc-offset"), "{why}");
}

#[tokio::test]
async fn calls_of_wasi_have_a_limit() {
    let set = set(&guest(
        CLOCKS,
        "(loop $l (drop (call $random)) (br $l)) (unreachable)",
    ))
    .await;
    let answer = inspected(&set, &context()).await;
    // Whichever comes first on this machine.
    assert!(
        matches!(answer, Err(Fault::HostCallLimit(_) | Fault::Timeout { .. })),
        "{answer:?}"
    );
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_is_printed_is_logged_line_by_line_and_inert() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _here = tracing::subscriber::set_default(subscriber);
    // The last line has no end.
    let guest = Guest {
        more: r#"(data (i32.const 9000) "one\r\n\1b[31mtwo\nthree")"#.into(),
        ..guest(
            STDOUT,
            "(call $write (call $stdout) (i32.const 9000) (i32.const 19) (i32.const 9100)) (i32.const 2048)",
        )
    };
    assert_eq!(
        inspected(&set(&guest).await, &context()).await,
        Ok(Verdict::Pass)
    );
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let printed: Vec<&str> = text
        .lines()
        .filter(|l| l.contains("stream=stdout"))
        .collect();
    assert_eq!(printed.len(), 3, "{text}");
    assert!(printed[0].contains(" one "), "{text}");
    assert!(printed[1].contains("\\u{1b}[31mtwo"), "{text}");
    assert!(printed[2].contains(" three "), "{text}");
}

#[tokio::test]
async fn printing_too_much_is_thinned_and_stops_nobody() {
    let guest = Guest {
        more: r#"(data (i32.const 9000) "x\n")"#.into(),
        ..guest(
            STDOUT,
            "(local.set $n (i32.const 1000))
             (loop $l
                 (call $write (call $stdout) (i32.const 9000) (i32.const 2) (i32.const 9100))
                 (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
             (i32.const 2048)",
        )
    };
    let set = set_of(&guest, "limits = { deadline_ms = 1000 }")
        .await
        .unwrap();
    assert_eq!(inspected(&set, &context()).await, Ok(Verdict::Pass));
    let entry = set.entries(Hook::ContentFilter).next().unwrap();
    assert_eq!(entry.stats().log_lines_dropped, 900);
}

#[tokio::test]
async fn wasi_is_told_among_the_imports() {
    let bytes = build(&guest(EXIT, RESULT));
    let inspection = inspect_component(&engine(), bytes).await.unwrap();
    assert_eq!(inspection.imports, ["wasi (empty)"]);
}
