//! Bad input: each gets a clear error with its place and rule, nothing is accepted by half, and
//! nothing running is disturbed. What is hostile on purpose is statement 8's (`tests/prove/edge`).

use heliograph_tests::{ADMIN_KEY, KEY, Plan, READ_KEY, Rig, bearer, run_in, sms};
use serde_json::{Value, json};

const HANDSET: &str = "+447700900123";

type Headers<'a> = &'a [(&'a str, &'a str)];
/// Status, code and the pointer of a field that is named.
type Expected = (u16, &'static str, &'static str);

async fn post(rig: &Rig, path: &str, body: Vec<u8>, headers: Headers<'_>) -> (u16, Value) {
    rig.try_call("POST", path, Some(body), headers)
        .await
        .expect("an answer")
}

/// `sms` with one field changed.
fn with(field: &str, value: Value) -> Vec<u8> {
    let mut body = sms(HANDSET, "hello");
    body[field] = value;
    body.to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_submission_is_told_its_place_and_rule_and_nothing_is_kept() {
    let rig = Rig::start(Plan::default()).await;
    let invalid = |pointer: &'static str| (400, "invalid_request", pointer);
    let json = (400, "invalid_json", "");
    let deep = format!("{{\"text\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let cases: Vec<(Vec<u8>, Expected)> = vec![
        (Vec::new(), json),
        (b"to=1&text=2".to_vec(), json),
        (b"{\"to\": \"+447700900123\"".to_vec(), json),
        (b"{\"to\": 1, \"to\": 2}".to_vec(), json),
        (b"{\"text\": \"\xff\"}".to_vec(), json),
        (
            br#"{"to": "+447700900123", "from": "60777", "text": "\ud83d"}"#.to_vec(),
            json,
        ),
        (deep.into_bytes(), json),
        (b"[]".to_vec(), invalid("")),
        (b"{}".to_vec(), invalid("/to")),
        (with("txet", json!("x")), invalid("/txet")),
        (with("to", json!("07700 900123")), invalid("/to")),
        (with("to", json!("call me")), invalid("/to")),
        (with("from", json!("MuchTooLongName")), invalid("/from")),
        (with("text", json!("")), invalid("/text")),
        (with("text", json!("x".repeat(5_000))), invalid("/text")),
        (with("class", json!("spam")), invalid("/class")),
        (with("send_at", json!("tomorrow")), invalid("/send_at")),
        (
            with("send_at", json!("2999-01-01T00:00:00Z")),
            invalid("/send_at"),
        ),
        (
            with("validity_seconds", json!(0)),
            invalid("/validity_seconds"),
        ),
        (
            with("validity_seconds", json!(30_000_000)),
            invalid("/validity_seconds"),
        ),
        (with("binary", json!({ "data": "00" })), invalid("")),
        (
            with("receipt_url", json!("ftp://example.com")),
            invalid("/receipt_url"),
        ),
        (
            with("reference", json!("x".repeat(300_000))),
            (413, "body_too_large", ""),
        ),
    ];
    for (body, (status, code, pointer)) in cases {
        let shown: String = String::from_utf8_lossy(&body).chars().take(200).collect();
        let (got, problem) = post(
            &rig,
            "/v1/messages",
            body,
            &[("authorization", &bearer(KEY))],
        )
        .await;
        assert_eq!(
            (got, &problem["code"]),
            (status, &json!(code)),
            "{shown}\n{problem}"
        );
        assert!(
            problem["detail"].as_str().is_some_and(|d| !d.is_empty()),
            "{problem}"
        );
        if code == "invalid_request" {
            let pointers: Vec<_> = problem["errors"]
                .as_array()
                .expect("errors")
                .iter()
                .map(|e| &e["pointer"])
                .collect();
            assert!(pointers.contains(&&json!(pointer)), "{shown}\n{problem}");
        }
    }
    assert!(rig.items("/v1/messages").await.is_empty());
    assert_eq!(rig.simulators[0].counters().submits, 0);
    let id = rig.submit(sms(HANDSET, "still here")).await;
    rig.wait_for(&id, "delivered").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_headers_keys_and_ids_are_refused() {
    let rig = Rig::start(Plan::default()).await;
    let good = || sms(HANDSET, "hello").to_string().into_bytes();
    let key = bearer(KEY);
    let long = "x".repeat(256);
    let cases: [(Headers<'_>, u16, &str); 7] = [
        (&[], 401, "unauthorized"),
        (
            &[("authorization", "Bearer hg_no_such_key")],
            401,
            "unauthorized",
        ),
        (
            &[("authorization", "Basic dXNlcjpwdw==")],
            401,
            "unauthorized",
        ),
        (&[("authorization", &bearer(READ_KEY))], 403, "forbidden"),
        (
            &[("authorization", &key), ("idempotency-key", "two words")],
            400,
            "invalid_header",
        ),
        (
            &[("authorization", &key), ("idempotency-key", &long)],
            400,
            "invalid_header",
        ),
        (
            &[("authorization", &key), ("content-encoding", "gzip")],
            415,
            "unsupported_media_type",
        ),
    ];
    for (headers, status, code) in cases {
        let (got, problem) = post(&rig, "/v1/messages", good(), headers).await;
        assert_eq!(
            (got, &problem["code"]),
            (status, &json!(code)),
            "{headers:?}\n{problem}"
        );
    }
    for (key, method, path, status, code) in [
        (KEY, "GET", "/v1/policy", 403, "forbidden"),
        (KEY, "DELETE", "/v1/messages", 405, "method_not_allowed"),
        (KEY, "GET", "/v2/messages", 404, "not_found"),
        (KEY, "GET", "/v1/messages?limit=0", 400, "invalid_parameter"),
        (
            KEY,
            "GET",
            "/v1/messages?statsu=held",
            400,
            "invalid_parameter",
        ),
        (
            KEY,
            "GET",
            "/v1/messages?cursor=x",
            400,
            "invalid_parameter",
        ),
        (KEY, "GET", "/v1/messages?account=other", 403, "forbidden"),
        (
            ADMIN_KEY,
            "PUT",
            "/v1/tables/Rates",
            400,
            "invalid_parameter",
        ),
    ] {
        let (got, problem) = rig.call_as(key, method, path, None).await;
        assert_eq!(
            (got, &problem["code"]),
            (status, &json!(code)),
            "{method} {path}\n{problem}"
        );
    }
}

const CONFIG: &str = r#"[http]
listen = "127.0.0.1:0"
[store]
path = "data"
[policy]
file = "policy.toml"
[[accounts]]
id = "acme"
keys = ["literal:hg_test_key_of_the_rig_0000000000000000000000000000000000"]
[[carriers]]
id = "north"
kind = "smpp"
address = "127.0.0.1:2775"
system_id = "heliograph"
password = "literal:secret"
window = 10
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_is_told_its_line_and_key_and_starts_nothing() {
    let cases = [
        ("window = 10", "windwo = 10", ["windwo", "line 10"]),
        (
            "window = 10",
            "window = 0",
            ["carriers[0].window", "heliograph.toml:16"],
        ),
        ("[http]", "[htpt]", ["htpt", "line 1"]),
        (
            "listen = \"127.0.0.1:0\"",
            "listen = \"here\"",
            ["listen", "line 2"],
        ),
        (
            "id = \"acme\"",
            "id = \"\"",
            ["accounts[0].id", "heliograph.toml:8"],
        ),
        (
            "\"literal:secret\"",
            "\"secret\"",
            ["carriers[0] (north).password", "env:NAME"],
        ),
        (
            "\"literal:secret\"",
            "\"env:NO_SUCH\"",
            ["carriers[0] (north).password", "NO_SUCH"],
        ),
        (
            "path = \"data\"",
            "path = \"data",
            ["heliograph.toml", "line 4"],
        ),
    ];
    for (good, bad, words) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        let text = CONFIG.replace(good, bad);
        assert_ne!(text, CONFIG);
        std::fs::write(folder.path().join("heliograph.toml"), text).expect("written");
        std::fs::write(folder.path().join("policy.toml"), "").expect("written");
        for command in ["check", "serve"] {
            let (code, _, error) = run_in(folder.path(), &[command]).await;
            assert_eq!(code, Some(1), "{command}, {bad}: {error}");
            for word in words {
                assert!(
                    error.contains(word),
                    "{command}, {bad}: {word} is missing in:\n{error}"
                );
            }
            assert!(!error.contains("panicked"), "{error}");
        }
        assert!(
            !folder.path().join("data").exists(),
            "{bad}: a store was made"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_good_or_what_is_bad_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let write =
        |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write("heliograph.toml", CONFIG);
    write("policy.toml", "default_route = [\"north\"]\n");
    let (code, out, error) = run_in(folder.path(), &["check"]).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("good"), "{out}");
    let (code, out, _) = run_in(folder.path(), &["check", "--json"]).await;
    let answer: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &answer["good"]), (Some(0), &json!(true)));

    write("policy.toml", "default_route = [\"nobody\"]\n");
    let (code, _, error) = run_in(folder.path(), &["check"]).await;
    assert_eq!(code, Some(1));
    assert!(
        error.contains("policy.toml") && error.contains("nobody"),
        "{error}"
    );
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .expect("the folder")
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    assert_eq!(names, ["heliograph.toml", "policy.toml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_failure_from_wrong_usage() {
    let folder = tempfile::tempdir().expect("a folder");
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["--version"], 0),
        (&["serve", "--help"], 0),
        (&["check", "--config", "missing.toml"], 1),
        (&["serve", "--config", "missing.toml"], 1),
        (&["frobnicate"], 2),
        (&["serve", "--frobnicate"], 2),
        (&["send"], 2),
    ] {
        let (got, out, error) = run_in(folder.path(), arguments).await;
        assert_eq!(got, Some(code), "{arguments:?}\n{out}\n{error}");
        if code != 0 {
            assert!(!error.is_empty(), "{arguments:?} fails without a word");
        }
    }
}
