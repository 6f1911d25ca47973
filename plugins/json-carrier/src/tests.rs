//! Whole exchanges: the README's configurations against what such carriers send, and what must never happen whatever
//! a message or a carrier says.

use heliograph_plugin::testing::{FakeHost, Level, NOW, context, message, request, response};
use heliograph_plugin::{
    Alphabet, Body, CallbackAnswer, CarrierAdapter, Event, HttpFailure, HttpRequest, HttpResponse,
    Message, MessageState, Octets, Plugin, SubmitError, TrafficClass, TypeOfNumber, config_schema,
    configure,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::JsonCarrier;

const UK: &str = "+447700900123";

/// The README's examples, in order.
fn example(title: &str) -> JsonCarrier {
    let (_, rest) = include_str!("../README.md")
        .split_once(title)
        .expect("the example's title");
    let (_, rest) = rest.split_once("```json\n").expect("its code");
    carrier(rest.split_once("```").expect("its end").0)
}

#[track_caller]
fn carrier(config: &str) -> JsonCarrier {
    configure(config).unwrap_or_else(|error| panic!("{error}\n{config}"))
}

#[track_caller]
fn config_error(config: Value) -> String {
    match configure::<JsonCarrier>(&config.to_string()) {
        Ok(_) => panic!("accepted: {config}"),
        Err(error) => error,
    }
}

/// A carrier that takes `body` as JSON, with `extra` merged into the configuration.
#[track_caller]
fn json_body(body: Value, extra: Value) -> JsonCarrier {
    let mut config = json!({"request": {"url": "https://c.example/send", "body": {"json": body}}});
    for (key, value) in extra.as_object().expect("an object") {
        config[key] = value.clone();
    }
    carrier(&config.to_string())
}

fn ok(body: &str) -> Result<HttpResponse, HttpFailure> {
    Ok(response(200, body))
}

#[track_caller]
fn sent(host: &FakeHost) -> HttpRequest {
    host.requests().pop().expect("a request")
}

fn body(request: &HttpRequest) -> String {
    String::from_utf8(request.body.clone()).expect("UTF-8")
}

fn header<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request
        .headers
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

/// What a carrier with these `response` settings makes of an answer.
#[track_caller]
fn judged(
    settings: Value,
    answer: Result<HttpResponse, HttpFailure>,
) -> Result<Vec<String>, SubmitError> {
    let host = FakeHost::new();
    host.answer(answer);
    json_body(json!({"text": "{text}"}), json!({"response": settings}))
        .submit(&message(UK, "hi"), &context())
}

fn form(url: &str, body: &str) -> HttpRequest {
    HttpRequest {
        body: body.as_bytes().to_vec(),
        ..request("POST", url)
    }
}

fn receipts(answer: &CallbackAnswer) -> Vec<(&str, MessageState, Option<&str>, Option<u64>)> {
    let receipt = |event: &'_ Event| match event {
        Event::Receipt(_) => true,
        Event::Inbound(_) => false,
    };
    answer
        .events
        .iter()
        .filter(|event| receipt(event))
        .filter_map(|event| match event {
            Event::Receipt(r) => Some((
                r.carrier_message_id.as_str(),
                r.state,
                r.error.as_deref(),
                r.at,
            )),
            Event::Inbound(_) => None,
        })
        .collect()
}

// --- the README's carriers ---

#[test]
fn twilio_like_submission() {
    let host = FakeHost::new();
    host.answer(Ok(response(201, r#"{"sid": "SM1", "status": "queued"}"#)));
    let ids = example("### Twilio-like").submit(&message(UK, "50% off & more"), &context());
    assert_eq!(ids, Ok(vec!["SM1".to_owned()]));
    let request = sent(&host);
    assert_eq!(request.method, "POST");
    assert_eq!(
        request.url,
        "https://api.twilio.example/2010-04-01/Accounts/AC0123456789abcdef/Messages.json"
    );
    assert_eq!(
        header(&request, "authorization"),
        Some("Basic {secret:TWILIO_BASIC}")
    );
    assert_eq!(
        header(&request, "content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(
        body(&request),
        "Body=50%25%20off%20%26%20more&From=Heliograph&StatusCallback=https%3A%2F%2Fsms.example.com%2Fv1%2Fcarriers%2Ftwilio\
         %2Fcallback%3Ftoken%3D{secret:CALLBACK_TOKEN}&To=%2B447700900123&ValidityPeriod=172800"
    );
}

#[test]
fn twilio_like_failures() {
    let host = FakeHost::new();
    let carrier = example("### Twilio-like");
    for (status, body, expect) in [
        (
            429,
            r#"{"code": 20429, "message": "Too Many Requests"}"#,
            SubmitError::Throttled(2000),
        ),
        (
            401,
            r#"{"code": 20003, "message": "Authenticate"}"#,
            SubmitError::Temporary("HTTP 401: Authenticate".to_owned()),
        ),
        (
            400,
            r#"{"code": 21610, "message": "+447700900123 is unsubscribed"}"#,
            SubmitError::Permanent("HTTP 400: +447700****** is unsubscribed".to_owned()),
        ),
        (503, "<html>", SubmitError::Temporary("HTTP 503".to_owned())),
    ] {
        host.answer(Ok(response(status, body)));
        assert_eq!(carrier.submit(&message(UK, "hi"), &context()), Err(expect));
    }
}

#[test]
fn twilio_like_call_backs() {
    FakeHost::new();
    let carrier = example("### Twilio-like");
    let url = "/v1/carriers/twilio/callback?token=s3cret";
    let answer = carrier
        .callback(
            &form(
                url,
                "MessageSid=SM1&MessageStatus=undelivered&ErrorCode=30005",
            ),
            &context(),
        )
        .expect("read");
    assert_eq!(
        receipts(&answer),
        [("SM1", MessageState::Undeliverable, Some("30005"), None)]
    );
    assert_eq!(answer.response.body, b"<Response/>");
    assert_eq!(
        answer.response.headers,
        [("content-type".to_owned(), "text/xml".to_owned())]
    );
    let queued = carrier
        .callback(
            &form(url, "MessageSid=SM1&MessageStatus=queued"),
            &context(),
        )
        .expect("read");
    assert_eq!(queued.events, []);
    let inbound = carrier
        .callback(
            &form(url, "From=%2B447700900123&To=%2B447700900999&Body=STOP+it"),
            &context(),
        )
        .expect("read");
    let [Event::Inbound(mo)] = inbound.events.as_slice() else {
        panic!("{inbound:?}")
    };
    assert_eq!(
        (
            mo.originator.as_str(),
            mo.recipient.as_str(),
            mo.text.as_str()
        ),
        (UK, "+447700900999", "STOP it")
    );
}

#[test]
fn a_call_back_without_the_secret_is_refused() {
    FakeHost::new();
    let carrier = example("### Twilio-like");
    for url in [
        "/cb",
        "/cb?token=",
        "/cb?token=S3cret",
        "/cb?token=s3cret%00",
    ] {
        let error = carrier
            .callback(
                &form(url, "MessageSid=SM1&MessageStatus=delivered"),
                &context(),
            )
            .expect_err(url);
        assert_eq!(error, "callback.verify: the secret is missing or wrong");
    }
}

#[test]
fn vonage_like_submission_returns_an_id_for_each_part() {
    let host = FakeHost::new();
    host.answer(ok(r#"{"message-count": "2", "messages": [{"status": "0", "message-id": "A"}, {"status": "0", "message-id": "B"}]}"#));
    let message = Message {
        segments: 2,
        alphabet: Alphabet::Ucs2,
        ..message(UK, "žluť")
    };
    assert_eq!(
        example("### Vonage-like").submit(&message, &context()),
        Ok(vec!["A".to_owned(), "B".to_owned()])
    );
    let sent: Value = serde_json::from_str(&body(&sent(&host))).expect("JSON");
    assert_eq!(sent["type"], "unicode");
    assert_eq!(sent["text"], "žluť");
    assert_eq!(sent["api_secret"], "{secret:VONAGE_SECRET}");
}

#[test]
fn vonage_like_failures_hide_in_a_200() {
    let host = FakeHost::new();
    let carrier = example("### Vonage-like");
    let answer = |status: &str| {
        ok(&json!({"messages": [{"status": status, "error-text": "no"}]}).to_string())
    };
    for (status, expect) in [
        ("1", SubmitError::Throttled(1000)),
        ("9", SubmitError::Temporary("HTTP 200: no".to_owned())),
        ("6", SubmitError::Permanent("HTTP 200: no".to_owned())),
    ] {
        host.answer(answer(status));
        assert_eq!(carrier.submit(&message(UK, "hi"), &context()), Err(expect));
    }
}

#[test]
fn vonage_like_binary() {
    let host = FakeHost::new();
    host.answer(ok(r#"{"messages": [{"status": "0", "message-id": "A"}]}"#));
    let octets = Octets {
        user_data_header: vec![5, 4, 0x0b, 0x84, 0, 0],
        data: vec![0xde, 0xad],
    };
    let message = Message {
        body: Body::Binary(octets),
        alphabet: Alphabet::Octets,
        ..message(UK, "")
    };
    assert_eq!(
        example("### Vonage-like").submit(&message, &context()),
        Ok(vec!["A".to_owned()])
    );
    let sent: Value = serde_json::from_str(&body(&sent(&host))).expect("JSON");
    assert_eq!(
        (sent["body"].as_str(), sent["udh"].as_str()),
        (Some("dead"), Some("0605040b840000"))
    );
}

#[test]
fn vonage_like_receipt() {
    FakeHost::new();
    let body = r#"{"messageId": "A", "status": "expired", "err-code": "1", "scts": "2606151200"}"#;
    let answer = example("### Vonage-like")
        .callback(&form("/cb?token=s3cret", body), &context())
        .expect("read");
    assert_eq!(
        receipts(&answer),
        [("A", MessageState::Expired, Some("1"), Some(NOW))]
    );
}

#[test]
fn infobip_like_submission_has_numbers_as_numbers_and_leaves_out_what_is_empty() {
    let host = FakeHost::new();
    host.answer(ok(
        r#"{"messages": [{"messageId": "X", "status": {"groupName": "PENDING"}}]}"#,
    ));
    assert_eq!(
        example("### Infobip-like").submit(&message(UK, "hi"), &context()),
        Ok(vec!["X".to_owned()])
    );
    let sent: Value = serde_json::from_str(&body(&sent(&host))).expect("JSON");
    let expect = json!({"messages": [{
        "from": "Heliograph", "text": "hi", "validityPeriod": 2880,
        "destinations": [{"to": "447700900123", "messageId": "01890a5d-ac96-774b-bcce-b302099a8057"}],
        "notifyUrl": "https://sms.example.com/v1/carriers/infobip/callback"
    }]});
    assert_eq!(
        sent, expect,
        "and no callbackData: the message has no reference"
    );
}

#[test]
fn infobip_like_batch_keeps_the_good_reports() {
    let host = FakeHost::new();
    let body = json!({"results": [
        {"messageId": "X", "status": {"groupName": "DELIVERED"}, "error": {"name": "NO_ERROR"}, "doneAt": "2026-06-15T14:00:00.000+0200"},
        {"status": {"groupName": "DELIVERED"}},
        {"messageId": "Z", "status": {"groupName": "SURPRISE"}, "doneAt": "soon"},
        {"from": "447700900123", "to": "61616", "text": "", "receivedAt": "2026-06-15T12:00:00Z"}
    ]});
    let request = HttpRequest {
        headers: vec![("X-Callback-Token".to_owned(), "s3cret".to_owned())],
        ..form("/cb", &body.to_string())
    };
    let answer = example("### Infobip-like")
        .callback(&request, &context())
        .expect("read");
    assert_eq!(
        receipts(&answer),
        [
            ("X", MessageState::Delivered, Some("NO_ERROR"), Some(NOW)),
            ("Z", MessageState::Unknown, None, None)
        ]
    );
    assert!(
        matches!(&answer.events[2], Event::Inbound(mo) if mo.recipient == "61616" && mo.text.is_empty())
    );
    assert_eq!(
        host.logs()
            .iter()
            .filter(|line| line.level == Level::Warn)
            .count(),
        2,
        "the bad one and the new status"
    );
}

#[test]
fn plain_get() {
    let host = FakeHost::new();
    let carrier = example("### Plain GET");
    host.answer(Ok(response(202, "0: Accepted for delivery")));
    let message = message(UK, "a b&c=d#é{secret:GATEWAY_PASSWORD}");
    assert_eq!(
        carrier.submit(&message, &context()),
        Ok(vec![message.id.clone()])
    );
    let request = sent(&host);
    assert_eq!(request.method, "GET");
    assert!(request.body.is_empty());
    assert!(request.url.starts_with(
        "http://127.0.0.1:13013/cgi-bin/sendsms?username=heliograph&password={secret:GATEWAY_PASSWORD}&charset=utf-8&coding=0&dlr-url="
    ), "{}", request.url);
    assert!(request.url.ends_with("&from=Heliograph&text=a%20b%26c%3Dd%23%C3%A9%7Bsecret%3AGATEWAY_PASSWORD%7D&to=%2B447700900123"), "{}", request.url);
    host.answer(ok("Authorization failed for sendsms"));
    assert_eq!(
        carrier.submit(&message, &context()),
        Err(SubmitError::Permanent(
            "HTTP 200: Authorization failed for sendsms".to_owned()
        ))
    );
    let answer = carrier
        .callback(
            &heliograph_plugin::testing::request("GET", "/cb?id=m-1&status=16"),
            &context(),
        )
        .expect("read");
    assert_eq!(
        receipts(&answer),
        [("m-1", MessageState::Rejected, None, None)]
    );
    assert_eq!(
        (answer.response.status, answer.response.body.len()),
        (200, 0)
    );
}

// --- answers ---

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
        Ok(vec!["01890a5d-ac96-774b-bcce-b302099a8057".to_owned()])
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
    assert_eq!(
        own,
        Ok(vec!["01890a5d-ac96-774b-bcce-b302099a8057".to_owned()])
    );
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

// --- requests ---

#[test]
fn bodies_that_cannot_be_sent_are_told_apart() {
    let host = FakeHost::new();
    let carrier = json_body(json!({"text": "{text}"}), json!({}));
    let octets = Octets {
        user_data_header: Vec::new(),
        data: vec![1],
    };
    let binary = Message {
        body: Body::Binary(octets),
        ..message(UK, "")
    };
    assert_eq!(
        carrier.submit(&binary, &context()),
        Err(SubmitError::Permanent(
            "this carrier takes no binary messages".to_owned()
        ))
    );
    let withheld = Message {
        body: Body::Withheld(12),
        ..message(UK, "")
    };
    assert!(matches!(
        carrier.submit(&withheld, &context()),
        Err(SubmitError::Temporary(_))
    ));
    let mut pseudonym = message(UK, "hi");
    pseudonym.recipient.value = "p9f3a1".to_owned();
    assert!(matches!(
        carrier.submit(&pseudonym, &context()),
        Err(SubmitError::Temporary(_))
    ));
    assert_eq!(host.requests(), []);
}

#[test]
fn a_url_that_no_server_takes_is_not_sent() {
    let host = FakeHost::new();
    let carrier = carrier(
        r#"{"request": {"method": "GET", "url": "https://c.example/", "query": {"t": "{text}"}}}"#,
    );
    let refused = carrier.submit(&message(UK, &"€".repeat(1000)), &context());
    assert!(
        matches!(&refused, Err(SubmitError::Permanent(why)) if why.contains("9") && why.contains("8000")),
        "{refused:?}"
    );
    assert_eq!(host.requests(), []);
}

#[test]
fn names_classes_and_times_of_a_message() {
    let host = FakeHost::new();
    host.answer(ok(""));
    let carrier = json_body(
        json!({"c": "{class}", "e": "{encoding}", "n": "{segments:number}", "at": "{expires_at}", "h": "{text_ucs2_hex}", "m": "{metadata.campaign}", "b": "{{x}}", "k": [null, 1.5, true]}),
        json!({"class_names": {"otp": "T"}}),
    );
    let message = Message {
        traffic: TrafficClass::Otp,
        metadata: vec![("campaign".to_owned(), "spring".to_owned())],
        ..message(UK, "é😀")
    };
    carrier.submit(&message, &context()).expect("taken");
    let sent: Value = serde_json::from_str(&body(&sent(&host))).expect("JSON");
    assert_eq!(
        sent,
        json!({"c": "T", "e": "gsm7", "n": 1, "at": "2026-06-17T12:00:00Z", "h": "00e9d83dde00", "m": "spring", "b": "{x}", "k": [null, 1.5, true]})
    );
}

#[test]
fn what_should_be_a_number_and_is_none_is_not_sent() {
    let host = FakeHost::new();
    let mut odd = message(UK, "hi");
    odd.recipient.value = "1,\"x\":2".to_owned();
    odd.recipient.ton = TypeOfNumber::Unknown;
    let refused = json_body(json!({"to": "{to:number}"}), json!({})).submit(&odd, &context());
    assert!(
        matches!(refused, Err(SubmitError::Permanent(_))),
        "{refused:?}"
    );
    assert_eq!(host.requests(), []);
}

#[test]
fn configuration_errors_name_the_field_and_the_rule() {
    let with = |request: Value| json!({"request": request});
    let url = "https://c.example/";
    let json = |body: Value| json!({"request": {"url": url, "body": {"json": body}}});
    let callback = |callback: Value| json!({"request": {"url": url}, "callback": callback});
    let response = |response: Value| json!({"request": {"url": url}, "response": response});
    for (config, expect) in [
        (json!({}), "missing field `request`"),
        (
            with(json!({"url": "c.example"})),
            "request.url: it must begin with https://",
        ),
        (
            with(json!({"url": "https://{to}.example/"})),
            "request.url: \"{to}.example\" is no host name",
        ),
        (
            with(json!({"url": "https://me:pw@c.example/"})),
            "request.url: \"me:pw@c.example\" is no host name",
        ),
        (
            with(json!({"url": "https://c.example/{text}"})),
            "request.url: Text is free text",
        ),
        (
            with(json!({"url": "https://c.example/{secret:K}"})),
            "request.url: secrets may stand in the query",
        ),
        (
            with(json!({"url": "https://c.example/a b"})),
            "request.url: ' ' has no place in a URL",
        ),
        (
            with(json!({"url": url, "method": "GET", "body": {"json": 1}})),
            "request.body: a GET has none",
        ),
        (
            with(json!({"url": url, "headers": {"x": "{text}"}})),
            "request.headers.x: Text is free text",
        ),
        (
            with(json!({"url": url, "headers": {"x": "a\r\nb: c"}})),
            "request.headers.x: a header value is visible ASCII",
        ),
        (
            with(json!({"url": url, "headers": {"Host": "x"}})),
            "request.headers.Host: this field is set by the host",
        ),
        (
            with(json!({"url": url, "headers": {"a b": "x"}})),
            "request.headers.a b: this is no header name",
        ),
        (
            with(json!({"url": url, "querry": {}})),
            "request.querry: unknown field",
        ),
        (
            json(json!({"a": [{"b": "{txt}"}]})),
            "request.body.json/a/0/b: {txt} is no placeholder; there are to,",
        ),
        (
            json(json!("{text")),
            "request.body.json: a '{' is not closed",
        ),
        (
            json(json!("text}")),
            "request.body.json: a '}' closes nothing",
        ),
        (
            json(json!("{secret:a b}")),
            "request.body.json: {secret:a b}: a secret's name",
        ),
        (
            json(json!("{var.x}")),
            "request.body.json: {var.x}: variables has no \"x\"",
        ),
        (
            json(json!("{callback_url}")),
            "request.body.json: {callback_url}: callback.url is not set",
        ),
        (
            json(json!("{text:number}")),
            "request.body.json: {text} is never a number",
        ),
        (
            json(json!({"{text}": 1})),
            "request.body.json/{text}: placeholders belong into values",
        ),
        (
            response(json!({"success_status": []})),
            "response.success_status: give at least one",
        ),
        (
            response(json!({"success_status": ["2x"]})),
            "response.success_status: \"2x\" is no HTTP status",
        ),
        (
            response(json!({"id": {"json": "id"}})),
            "response.id: \"id\": a JSON Pointer begins with '/'",
        ),
        (
            response(json!({"errors": [{"kind": "permanent"}]})),
            "response.errors[0]: a rule without status and when",
        ),
        (
            response(json!({"errors": [{"status": ["9xx"], "kind": "permanent"}]})),
            "response.errors[0].status",
        ),
        (
            callback(json!({"verify": {"at": {"header": "x"}, "sha256": "12"}})),
            "callback.verify.sha256: give 64 hexadecimal digits",
        ),
        (
            callback(json!({"verify": {"at": {"json": "/x"}, "sha256": "0".repeat(64)}})),
            "callback.verify.at: a secret stands in a header",
        ),
        (
            callback(json!({"answer": {"status": 302}})),
            "callback.answer.status: 302 is not 200 to 299",
        ),
        (
            callback(json!({
                "receipt": {"id": {"json": "/a"}, "status": {"json": "/b"}, "statuses": {}},
                "inbound": {"from": {"json": "/a"}, "to": {"json": "/b"}, "text": {"json": "/c"}}
            })),
            "callback.receipt.when: give it and inbound.when",
        ),
    ] {
        let error = config_error(config.clone());
        assert!(
            error.contains(expect),
            "{config}\n  gave {error}\n  not  {expect}"
        );
    }
}

// --- call-backs ---

#[test]
fn a_call_back_that_says_nothing_readable_is_refused_with_the_cause() {
    FakeHost::new();
    let carrier = json_body(
        json!({}),
        json!({"callback": {"receipt": {"each": "/r", "id": {"json": "/id"}, "status": {"json": "/s"}, "statuses": {"D": "delivered"}}}}),
    );
    let read = |body: &str| carrier.callback(&form("/cb", body), &context());
    assert!(
        read("<xml/>")
            .expect_err("no JSON")
            .starts_with("the body is no JSON")
    );
    assert_eq!(
        read(r#"{"r": [{"s": "D"}]}"#).expect_err("no id"),
        "a receipt without an id where receipt.id says"
    );
    assert_eq!(
        read(r#"{"r": [{"id": 1}]}"#).expect_err("no status"),
        "a receipt without a status where receipt.status says"
    );
    assert_eq!(read(r#"{"r": []}"#).expect("an empty batch").events, []);
    assert_eq!(read(r#"{"other": 1}"#).expect("another kind").events, []);
    assert_eq!(
        receipts(&read(r#"{"r": {"id": 7, "s": "d"}}"#).expect("one, not in an array")),
        [("7", MessageState::Delivered, None, None)]
    );
    let many = json!({"r": vec![json!({"id": 1, "s": "D"}); 1001]}).to_string();
    assert!(read(&many).expect_err("too many").contains("at most 1000"));
    assert!(
        read(&" ".repeat((1 << 20) + 1))
            .expect_err("too large")
            .contains("at most 1048576")
    );
    assert!(
        read(&"[".repeat(100_000))
            .expect_err("too deep")
            .starts_with("the body is no JSON")
    );
}

#[test]
fn without_call_backs_configured_every_call_back_is_refused() {
    FakeHost::new();
    assert!(
        json_body(json!({}), json!({}))
            .callback(&form("/cb", "{}"), &context())
            .is_err()
    );
}

#[test]
fn the_schema_describes_every_field() {
    let schema: Value = serde_json::from_str(&config_schema::<JsonCarrier>()).expect("JSON");
    let definitions = schema["$defs"].as_object().cloned().unwrap_or_default();
    let undescribed: Vec<String> = definitions
        .into_iter()
        .chain([("Config".to_owned(), schema.clone())])
        .flat_map(|(name, definition)| {
            let properties = definition["properties"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            let bare = properties
                .into_iter()
                .filter(|(_, p)| p["description"].as_str().is_none_or(str::is_empty));
            bare.map(|(property, _)| format!("{name}.{property}"))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(undescribed, Vec::<String>::new());
    assert_eq!(JsonCarrier::NAME, "json-carrier");
}

// --- what no message may do ---

/// Text made of what breaks things.
fn nasty() -> impl Strategy<Value = String> {
    let bits = prop_oneof![
        Just("{secret:KEY}".to_owned()),
        Just("\"}],\"to\":\"".to_owned()),
        Just("\\".to_owned()),
        Just("\r\nx: y".to_owned()),
        Just("&to=1#?%00".to_owned()),
        Just("\u{0}\u{7f}\u{2028}".to_owned()),
        Just("{text}".to_owned()),
        any::<String>(),
    ];
    proptest::collection::vec(bits, 0..6).prop_map(|bits| bits.concat())
}

/// The host fills a secret in wherever the request says so: only the operator's own may be there.
fn secrets(request: &HttpRequest) -> usize {
    let headers = request
        .headers
        .iter()
        .map(|(_, value)| value.matches("{secret:").count())
        .sum::<usize>();
    request.url.matches("{secret:").count() + headers + body(request).matches("{secret:").count()
}

proptest! {
    #[test]
    fn no_text_changes_the_structure_of_a_json_body(text in nasty(), reference in nasty(), from in nasty()) {
        let host = FakeHost::new();
        host.answer(ok(""));
        let template = json!({"messages": [{"a": "{from}", "b": ["x {text} y", 1]}], "ref": "{reference}", "key": "{secret:KEY}", "z": {"}\"": "{text}"}});
        let carrier = carrier(&json!({"request": {"url": "https://c.example/", "omit_empty": false, "body": {"json": template}}}).to_string());
        let mut message = Message { reference: reference.clone(), ..message(UK, &text) };
        message.originator.value = from.clone();
        carrier.submit(&message, &context()).expect("taken");
        let request = sent(&host);
        let sent: Value = serde_json::from_slice(&request.body).expect("JSON");
        let expect = json!({"messages": [{"a": from, "b": [format!("x {text} y"), 1]}], "ref": reference, "key": "{secret:KEY}", "z": {"}\"": text}});
        prop_assert_eq!(sent, expect);
        prop_assert_eq!(secrets(&request), 1);
    }

    #[test]
    fn no_text_changes_the_fields_of_a_form_a_query_or_a_header(text in nasty(), to in nasty()) {
        let host = FakeHost::new();
        host.answer(ok(""));
        let carrier = carrier(&json!({"request": {
            "url": "https://c.example/to/{to}?k={secret:KEY}&t={text}", "query": {"q": "{text}"}, "omit_empty": false,
            "headers": {"x-to": "{to}", "authorization": "Bearer {secret:KEY}"},
            "body": {"form": {"a": "{text}", "b": "{secret:KEY}"}}
        }}).to_string());
        let mut message = message(UK, &text);
        message.recipient.value = to;
        message.recipient.ton = TypeOfNumber::Unknown;
        let submitted = carrier.submit(&message, &context());
        if let Err(SubmitError::Permanent(_)) = submitted {
            prop_assert_eq!(host.requests().len(), 0);
            return Ok(());
        }
        let request = sent(&host);
        prop_assert_eq!(secrets(&request), 3);
        prop_assert!(request.url.starts_with("https://c.example/to/"));
        prop_assert!(request.url.bytes().all(|b| matches!(b, b'!'..=b'~')));
        let (path, query) = request.url.split_once('?').expect("a query");
        prop_assert_eq!(path.matches('/').count(), 4);
        prop_assert_eq!(query.split('&').count(), 3);
        prop_assert_eq!(query.matches('=').count(), 3);
        prop_assert_eq!(body(&request).split('&').count(), 2);
        prop_assert!(request.headers.iter().all(|(_, value)| value.bytes().all(|b| matches!(b, b' '..=b'~'))));
    }

    #[test]
    fn no_answer_and_no_call_back_panics(status in any::<u16>(), bytes in proptest::collection::vec(any::<u8>(), 0..120), url in "\\PC{0,40}") {
        for title in ["### Twilio-like", "### Vonage-like", "### Infobip-like", "### Plain GET"] {
            let host = FakeHost::new();
            let carrier = example(title);
            host.answer(Ok(HttpResponse { status, headers: Vec::new(), body: bytes.clone() }));
            let _ = carrier.submit(&message(UK, "hi"), &context());
            let _ = carrier.callback(&HttpRequest { body: bytes.clone(), ..request("POST", &url) }, &context());
        }
    }
}
