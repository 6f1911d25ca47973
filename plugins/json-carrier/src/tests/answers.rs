//! What answers mean, with and without rules.

use super::*;

#[test]
fn statuses_without_a_rule_mean_what_http_says() {
    for (status, expect) in [
        (408, SubmitError::Temporary("HTTP 408".to_owned())),
        (400, SubmitError::Permanent("HTTP 400".to_owned())),
        (401, SubmitError::Temporary("HTTP 401".to_owned())),
        (404, SubmitError::Permanent("HTTP 404".to_owned())),
        (429, SubmitError::Throttled(1000)),
        (502, SubmitError::Temporary("HTTP 502".to_owned())),
        (302, SubmitError::Temporary("HTTP 302".to_owned())),
        (100, SubmitError::Unknown("HTTP 100".to_owned())),
    ] {
        assert_eq!(judged(json!({}), Ok(response(status, ""))), Err(expect));
    }
    assert_eq!(
        judged(json!({}), Ok(response(204, ""))),
        Ok(vec!["01890a5dac96774bbcceb302099a8057".to_owned()])
    );
}

#[test]
fn transport_failures_say_whether_something_was_sent() {
    for (failure, expect) in [
        (
            HttpFailure::Timeout,
            SubmitError::Unknown("no whole answer in time".to_owned()),
        ),
        (
            HttpFailure::TooLarge,
            SubmitError::Unknown("the answer is larger than the plugin's grant allows".to_owned()),
        ),
        (
            HttpFailure::Other("reset".to_owned()),
            SubmitError::Unknown("reset".to_owned()),
        ),
        (
            HttpFailure::Connect("refused".to_owned()),
            SubmitError::Temporary("no connection: refused".to_owned()),
        ),
        (
            HttpFailure::Denied("c.example".to_owned()),
            SubmitError::Temporary("not allowed by the plugin's grant: c.example".to_owned()),
        ),
    ] {
        assert_eq!(judged(json!({}), Err(failure)), Err(expect));
    }
}

#[test]
fn retry_after_is_honoured_as_seconds_or_date_and_capped() {
    let throttled = |value: &str| {
        let headers = vec![("Retry-After".to_owned(), value.to_owned())];
        judged(
            json!({"retry_after_ms": 700}),
            Ok(HttpResponse {
                headers,
                ..response(429, "")
            }),
        )
    };
    assert_eq!(throttled("30"), Err(SubmitError::Throttled(30_000)));
    assert_eq!(
        throttled("Mon, 15 Jun 2026 12:00:05 GMT"),
        Err(SubmitError::Throttled(5_000))
    );
    assert_eq!(
        throttled("Mon, 15 Jun 2026 11:00:00 GMT"),
        Err(SubmitError::Throttled(0))
    );
    assert_eq!(
        throttled("99999999999999999999999"),
        Err(SubmitError::Throttled(600_000))
    );
    assert_eq!(throttled("soon"), Err(SubmitError::Throttled(700)));
}

#[test]
fn taken_without_an_id_is_unknown_or_gets_ours() {
    let id = json!({"json": "/id"});
    let missing = judged(json!({"id": id}), ok(r#"{"id": null}"#));
    assert!(
        matches!(missing, Err(SubmitError::Unknown(_))),
        "{missing:?}"
    );
    let html = judged(json!({"id": id}), ok("<html>Welcome to our Wi-Fi</html>"));
    assert!(matches!(html, Err(SubmitError::Unknown(_))), "{html:?}");
    let own = judged(json!({"id": id, "missing_id": "use_own"}), ok("{}"));
    assert_eq!(own, Ok(vec!["01890a5dac96774bbcceb302099a8057".to_owned()]));
    let long = judged(
        json!({"id": id}),
        ok(&json!({"id": "x".repeat(256)}).to_string()),
    );
    assert!(matches!(long, Err(SubmitError::Unknown(_))), "{long:?}");
}

#[test]
fn ids_come_from_headers_text_and_numbers() {
    let with_header = HttpResponse {
        headers: vec![("X-Id".to_owned(), "h1".to_owned())],
        ..response(200, "")
    };
    assert_eq!(
        judged(json!({"id": {"header": "x-id"}}), Ok(with_header)),
        Ok(vec!["h1".to_owned()])
    );
    assert_eq!(
        judged(json!({"id": {"text_after": "ID: "}}), ok("OK\nID: 42\n")),
        Ok(vec!["42".to_owned()])
    );
    assert_eq!(
        judged(
            json!({"id": {"json": "/id"}}),
            ok(r#"{"id": 18446744073709551615}"#)
        ),
        Ok(vec!["18446744073709551615".to_owned()])
    );
}

#[test]
fn a_number_of_ids_that_fits_no_segments_keeps_the_first() {
    let host = FakeHost::new();
    host.answer(ok(r#"["a", "b", "c"]"#));
    let carrier = json_body(json!({}), json!({"response": {"id": {"json": "/*"}}}));
    assert_eq!(
        carrier.submit(&message(UK, "hi"), &context()),
        Ok(vec!["a".to_owned()])
    );
    assert_eq!(host.logs().len(), 1);
}

#[test]
fn the_first_rule_that_fits_counts_and_not_turns_a_condition_round() {
    let settings = json!({
        "success_when": [{"at": {"json": "/error"}, "not": true}],
        "errors": [
            {"status": ["2xx"], "when": [{"at": {"json": "/error"}, "one_of": ["BUSY"]}], "kind": "throttled", "retry_after_ms": 50},
            {"when": [{"at": {"json": "/error"}}], "kind": "unknown"}
        ]
    });
    assert!(judged(settings.clone(), ok("{}")).is_ok());
    assert_eq!(
        judged(settings.clone(), ok(r#"{"error": "busy"}"#)),
        Err(SubmitError::Throttled(50))
    );
    assert_eq!(
        judged(settings.clone(), ok(r#"{"error": 7}"#)),
        Err(SubmitError::Unknown("HTTP 200".to_owned()))
    );
    assert_eq!(
        judged(settings, Ok(response(500, r#"{"error": 7}"#))),
        Err(SubmitError::Unknown("HTTP 500".to_owned()))
    );
}
