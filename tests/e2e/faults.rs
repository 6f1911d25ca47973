//! A plugin that keeps failing: its breaker opens and operators hear of it, the version before stands
//! in, and it comes back when it works again. Compliance is opened by no accident.

use heliograph_tests::guests::{Guest, KEEP_MARK, ZERO, on_mark};
use heliograph_tests::{ADMIN_KEY, Plan, Rig, bearer, eventually, http, sms};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const HANDSET: &str = "+447700900123";

const GOOD: &str = r#"
    default_route = ["sim0"]
    [[plugin]]
    name = "words"
    path = "{dir}/good.wasm"
"#;

/// Traps at texts that begin with `!`.
const BETTER: &str = r#"
    default_route = ["sim0"]
    [[plugin]]
    name = "words"
    path = "{dir}/better.wasm"
    hooks = ["content-filter"]
    config = { on = "!" }
    fail = "previous"
    breaker = { faults = 2, window = 4, pause_s = 1, max_pause_s = 1 }
"#;

async fn rig() -> Rig {
    let better = Guest {
        hooks: vec![
            ("content-filter", "inspect", on_mark("(unreachable)", ZERO)),
            ("compliance-check", "check", on_mark("(unreachable)", ZERO)),
        ],
        configure: KEEP_MARK.to_owned(),
        ..Guest::default()
    };
    Rig::start(Plan {
        files: vec![
            ("good.wasm".to_owned(), Guest::default().build()),
            ("better.wasm".to_owned(), better.build()),
        ],
        policy_file: false,
        ..Plan::default()
    })
    .await
}

async fn put(rig: &Rig, policy: &str) -> Value {
    let (status, answer) = rig.put_policy(policy).await;
    assert_eq!(status, 200, "{answer:#}");
    answer
}

/// The calls of `words` in the first decision: outcome and reason.
fn calls(message: &Value) -> Vec<(&str, &str)> {
    let calls = message["decisions"][0]["calls"].as_array().expect("calls");
    let ours = calls.iter().filter(|c| c["name"] == "words");
    let text = |c: &'_ Value, name: &str| c[name].as_str().unwrap_or_default().to_owned();
    ours.map(|c| {
        let (outcome, why) = (text(c, "outcome"), text(c, "why"));
        (&*outcome.leak(), &*why.leak())
    })
    .collect()
}

async fn event(rig: &Rig, kind: &str) -> Value {
    eventually(kind, async || {
        let all = rig.items("/v1/events?format=json&limit=200").await;
        all.into_iter().find(|e| e["type"] == kind)
    })
    .await
}

async fn metrics(rig: &Rig) -> String {
    let key = bearer(ADMIN_KEY);
    let headers = [("authorization", key.as_str())];
    let (status, _, page) = http(&rig.address, "GET", "/metrics", None, &headers)
        .await
        .expect("metrics");
    assert_eq!(status, 200);
    String::from_utf8(page.to_vec()).expect("text")
}

/// The value of the first line that has all of `parts`.
fn figure(page: &str, parts: &[&str]) -> f64 {
    let line = page
        .lines()
        .find(|l| parts.iter().all(|p| l.contains(p)))
        .unwrap_or_else(|| panic!("no {parts:?} in:\n{page}"));
    let value = line.rsplit(' ').next().unwrap_or_default();
    value.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_before_stands_in_while_the_breaker_is_open() {
    let rig = rig().await;
    put(&rig, GOOD).await;
    let before = rig.submit(sms(HANDSET, "! by the good one")).await;
    rig.wait_for(&before, "delivered").await;
    put(&rig, BETTER).await;
    let (_, shown) = rig.admin("GET", "/v1/policy", None).await;
    assert_eq!(shown["plugins"][0]["hooks"][0]["fail"], "previous");
    let digest = shown["policy"]["plugin"][0]["previous"]["digest"].as_str();
    assert!(
        digest.is_some_and(|d| d.starts_with("sha256:")),
        "{:#}",
        shown["policy"]
    );

    for text in ["! one", "! two"] {
        let id = rig.submit(sms(HANDSET, text)).await;
        let message = rig.wait_for(&id, "delivered").await;
        let calls = calls(&message);
        let outcomes: Vec<&str> = calls.iter().map(|c| c.0).collect();
        assert_eq!(outcomes[..2], ["fault", "pass"], "{message:#}");
        assert!(calls[1].1.contains("stands in"), "{calls:?}");
    }
    let opened = event(&rig, "breaker.opened").await;
    assert_eq!(opened["subject"], "words");
    let detail = opened["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("the last fault: the plugin trapped"),
        "{detail}"
    );

    // The probe after the pause is answered, and the breaker closes.
    let closed = eventually("the breaker closes", async || {
        let id = rig.submit(sms(HANDSET, "harmless")).await;
        rig.wait_for(&id, "delivered").await;
        let all = rig.items("/v1/events?format=json&limit=200").await;
        all.into_iter().find(|e| e["type"] == "breaker.closed")
    })
    .await;
    assert!(closed["id"].as_u64() > opened["id"].as_u64());

    let page = metrics(&rig).await;
    let opened = figure(
        &page,
        &["heliograph_plugin_breaker_opened_total", "content-filter"],
    );
    assert!(opened >= 1.0);
    let stood_in = figure(
        &page,
        &[
            "heliograph_plugin_calls_total{",
            "hook=\"content-filter\"",
            "previous=\"true\"",
        ],
    );
    assert!(stood_in >= 2.0);
    let url = format!("http://{}", rig.address);
    let (code, out, error) = rig
        .run(&["events", "--url", &url, "--key", ADMIN_KEY])
        .await;
    assert_eq!(code, Some(0), "{error}");
    assert!(
        out.contains("breaker.opened") && out.contains("breaker.closed"),
        "{out}"
    );
    let (_, out, _) = rig
        .run(&["policy", "show", "--url", &url, "--key", ADMIN_KEY])
        .await;
    assert!(out.contains("stands in"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_go_on_over_a_change_of_policy() {
    let rig = rig().await;
    let calls = [
        "heliograph_plugin_calls_total{",
        "plugin=\"words\"",
        "content-filter",
    ];
    let mut expected = 0.0;
    for limit in [5, 6, 7] {
        put(&rig, &format!("{GOOD}limits = {{ deadline_ms = {limit} }}")).await;
        let id = rig.submit(sms(HANDSET, "counted")).await;
        rig.wait_for(&id, "delivered").await;
        let (_, policy) = rig.admin("GET", "/v1/policy", None).await;
        expected += policy["plugins"][0]["hooks"][0]["stats"]["calls"]
            .as_f64()
            .unwrap_or_default();
        assert_eq!(figure(&metrics(&rig).await, &calls), expected);
    }
    assert!(expected >= 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_streamed_from_where_the_reader_was() {
    let rig = rig().await;
    put(&rig, GOOD).await;
    put(&rig, BETTER).await;
    let all = rig.items("/v1/events?format=json").await;
    let first = all[0]["id"].as_u64().expect("an id");
    let mut stream = TcpStream::connect(&rig.address).await.expect("a socket");
    let request = format!(
        "GET /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\nlast-event-id: {first}\r\n\r\n",
        bearer(ADMIN_KEY)
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut read = String::new();
    let mut buffer = vec![0; 4096];
    put(&rig, GOOD).await;
    let wanted = format!("id: {}\n", all.len() as u64 + first);
    while !read.contains(&wanted) {
        let n = stream.read(&mut buffer).await.expect("octets");
        assert!(n > 0, "the stream ended: {read}");
        read.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    assert!(read.contains("content-type: text/event-stream"), "{read}");
    assert!(!read.contains(&format!("id: {first}\n")), "{read}");
    assert!(read.contains("event: policy.activated\ndata: {"), "{read}");
}

#[tokio::test(flavor = "multi_thread")]
async fn compliance_is_opened_by_nobody_unawares() {
    let rig = rig().await;
    let open = BETTER
        .replace("\"previous\"", "\"open\"")
        .replace("content-filter", "compliance-check");
    let (status, refused) = rig.put_policy(&open).await;
    assert_eq!(status, 422, "{refused:#}");
    assert_eq!(refused["errors"][0]["pointer"], "/plugin/0/fail");
    let allowed = format!("{open}\n    allow_open_compliance = true");
    let answer = put(&rig, &allowed).await;
    let note = answer["notes"][0]["detail"].as_str().unwrap_or_default();
    assert!(note.starts_with("compliance is open"), "{answer:#}");
    let told = event(&rig, "compliance.opened").await;
    assert_eq!(told["subject"], "words");
    let (_, shown) = rig.admin("GET", "/v1/policy", None).await;
    assert_eq!(shown["notes"], answer["notes"]);
}
