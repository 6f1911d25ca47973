//! A carrier adapter that calls where it may not: every way to write a forbidden address, with the
//! host listed by an operator who did not look. Nothing connects, and the message fails with the
//! reason. What needs a false resolver is beside the code, in `host/src/plugin/http.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use heliograph_tests::guests::{FREE, Guest, KEEP_MARK, ROUTE_PASS, ZERO, on_mark, words};
use heliograph_tests::{Plan, eventually, sms};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::active::plan;
use super::{Zoo, text};

const CARRIER: &str = "\n[[carriers]]\nid = \"web\"\nkind = \"plugin\"\nplugin = \"adapter\"\n";
const SEND: &str = r#"(import "heliograph:sms/http@0.1.0" "send"
    (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#;

/// submit() that posts to `url` and fails for good, with what the host said or with the answer's body.
fn posting(url: &str) -> Guest {
    let answer = 12_000;
    Guest {
        hooks: vec![
            (
                "carrier-adapter",
                "submit",
                format!(
                    "(call $send (i32.const {FREE}) (i32.const 4) (i32.const {}) (i32.const {})
                        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const {answer}))
                     (i32.store8 (i32.const {ZERO}) (i32.const 1))
                     (i32.store8 (i32.const {}) (i32.const 2))
                     (if (i32.load8_u (i32.const {answer}))
                        (then
                            (i32.store (i32.const {}) (i32.load (i32.const {})))
                            (i32.store (i32.const {}) (i32.load (i32.const {}))))
                        (else
                            (i32.store (i32.const {}) (i32.load (i32.const {})))
                            (i32.store (i32.const {}) (i32.load (i32.const {})))))
                     (i32.const {ZERO})",
                    FREE + 4,
                    url.len(),
                    ZERO + 4,
                    ZERO + 8,
                    answer + 8,
                    ZERO + 12,
                    answer + 12,
                    // http-response: status, headers, body.
                    ZERO + 8,
                    answer + 16,
                    ZERO + 12,
                    answer + 20,
                ),
            ),
            ("carrier-adapter", "callback", format!("(i32.const {ZERO})")),
        ],
        imports: SEND,
        data: [b"POST".as_slice(), url.as_bytes()].concat(),
        ..Guest::default()
    }
}

/// Routes to the adapter's carrier what begins with `!`.
fn to_web() -> Guest {
    let body = on_mark(&format!("(return (i32.const {FREE}))"), ROUTE_PASS);
    Guest {
        hooks: vec![("routing-policy", "route", body)],
        configure: KEEP_MARK.to_owned(),
        data: plan(1, "web", &[]),
        ..Guest::default()
    }
}

/// A server on loopback that counts who comes.
async fn target(answer: String) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let came = Arc::new(AtomicUsize::new(0));
    let counted = came.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (port, came)
}

/// Sends one message by the adapter; what its attempt came to.
async fn attempt(zoo: &mut Zoo, guest: &Guest, lines: &str) -> Value {
    let folder = zoo.rig.dir.path();
    std::fs::write(folder.join("adapter.wasm"), guest.build()).expect("the component's file");
    std::fs::write(folder.join("to-web.wasm"), to_web().build()).expect("the component's file");
    let policy = format!(
        "{}
        [[plugin]]
        name = \"to-web\"
        path = \"{{dir}}/to-web.wasm\"
        config = {{ on = \"!\" }}
        [[plugin]]
        name = \"adapter\"
        path = \"{{dir}}/adapter.wasm\"
        {lines}
        ",
        super::HOUSE
    );
    let (status, answer) = zoo.rig.put_policy(&policy).await;
    assert_eq!(status, 200, "{lines}: {answer}");
    let id = zoo
        .rig
        .submit(sms(super::HANDSET, "! by the adapter"))
        .await;
    eventually("an attempt", async || {
        let message = zoo.rig.message(&id).await;
        let attempts = message["attempts"].as_array()?;
        let ended = attempts.last().is_some_and(|a| !a["outcome"].is_null());
        ended.then_some(message)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_of_writing_a_forbidden_address_reaches_it() {
    let mut zoo = Zoo::open(Plan {
        config_extra: CARRIER.to_owned(),
        ..Plan::default()
    })
    .await;
    let (port, came) = target("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into()).await;
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0177.0.0.1",
        "2130706433",
        "0",
        "0.0.0.0",
        "localhost",
        "LOCALHOST.",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:10.0.0.1]",
        "[64:ff9b::7f00:1]",
        "10.0.0.1",
        "169.254.169.254",
    ] {
        let url = format!("http://{host}:{port}");
        let lines = format!("grants = {{ http = {{ hosts = [\"{url}\"], timeout_ms = 500 }} }}");
        let message = attempt(&mut zoo, &posting(&format!("{url}/")), &lines).await;
        let said = message.to_string();
        assert!(
            ["public address", "failed to lookup"]
                .iter()
                .any(|w| said.contains(w)),
            "{host}: {message:#}"
        );
    }
    // Listed is another host than the one that is called.
    for url in [
        format!("http://api.example.com@127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{port}/api.example.com"),
        format!("http://127.0.0.1:{port}#@api.example.com/"),
        format!("http://api.example.com.127.0.0.1:{port}/"),
    ] {
        let lines = "grants = { http = { hosts = [\"http://api.example.com\"], private = true } }";
        let message = attempt(&mut zoo, &posting(&url), lines).await;
        let said = message.to_string();
        assert!(
            ["user name", "is not in grants.http.hosts", "malformed"]
                .iter()
                .any(|w| said.contains(w)),
            "{url}: {message:#}"
        );
    }
    assert_eq!(came.load(Ordering::Relaxed), 0, "something connected");
    zoo.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_inwards_is_not_followed_and_secrets_do_not_come_back() {
    let mut zoo = Zoo::open(Plan {
        config_extra: CARRIER.to_owned(),
        ..Plan::default()
    })
    .await;
    let (inner, came) = target("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into()).await;
    let moved = format!(
        "HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:{inner}/\r\ncontent-length: 5\r\n\r\nmoved"
    );
    let (port, _) = target(moved).await;
    let url = format!("http://127.0.0.1:{port}");
    let private = |url: &str| {
        format!(
            "grants = {{ http = {{ hosts = [\"{url}\", \"http://127.0.0.1:{inner}\"], private = true }} }}"
        )
    };
    let message = attempt(&mut zoo, &posting(&format!("{url}/")), &private(&url)).await;
    assert!(message.to_string().contains("moved"), "{message:#}");
    assert_eq!(came.load(Ordering::Relaxed), 0, "the redirect was followed");

    std::fs::write(zoo.rig.dir.path().join("secret"), "top-secret-value").expect("a file");
    let (port, _) =
        target("HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n[top-secret-value]".into()).await;
    let url = format!("http://127.0.0.1:{port}");
    let lines = format!(
        "[plugin.grants]\nhttp = {{ hosts = [\"{url}\"], private = true }}\nsecrets = {{ KEY = \"file:{{dir}}/secret\" }}"
    );
    let message = attempt(
        &mut zoo,
        &posting(&format!("{url}/?k={{secret:KEY}}")),
        &lines,
    )
    .await;
    let said = message.to_string();
    assert!(
        said.contains("[***]") && !said.contains("top-secret"),
        "{message:#}"
    );
    assert!(!zoo.rig.log().contains("top-secret"));
    zoo.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_answers_a_million_ids_or_none_is_no_carrier() {
    let mut zoo = Zoo::open(Plan {
        config_extra: CARRIER.to_owned(),
        ..Plan::default()
    })
    .await;
    // ok(list): pointer and count.
    for (name, answer) in [
        ("a million empty strings", words(&[0, 65_536, 1_000_000])),
        ("none", words(&[0, 65_536, 0])),
        ("one that is empty", words(&[0, 65_536, 1])),
    ] {
        let guest = Guest {
            hooks: vec![
                ("carrier-adapter", "submit", format!("(i32.const {FREE})")),
                ("carrier-adapter", "callback", format!("(i32.const {ZERO})")),
            ],
            memory: "150",
            data: answer,
            ..Guest::default()
        };
        attempt(&mut zoo, &guest, "").await;
        let stats = zoo.stats("adapter").await;
        let bad = stats["faults"]["bad_output"].as_u64();
        assert!(bad > Some(0), "{name}: {stats}");
        assert!(text(&stats["breaker"]) != "probing", "{name}");
    }
    zoo.close().await;
}
