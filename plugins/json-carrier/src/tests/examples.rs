//! The configurations of `examples/` against what such carriers send.

use super::*;

#[test]
fn twilio_like_submission() {
    let host = FakeHost::new();
    host.answer(Ok(response(201, r#"{"sid": "SM1", "status": "queued"}"#)));
    let ids = example("twilio").submit(&message(UK, "50% off & more"), &context());
    assert_eq!(ids, Ok(vec!["SM1".to_owned()]));
    let request = sent(&host);
    assert_eq!(request.method, "POST");
    assert_eq!(
        request.url,
        "https://api.twilio.example/2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef/Messages.json"
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
         %2Fcallback&To=%2B447700900123&ValidityPeriod=172800"
    );
}

#[test]
fn twilio_like_failures() {
    let host = FakeHost::new();
    let carrier = example("twilio");
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
    let carrier = example("twilio");
    let url = "/v1/carriers/twilio/callback";
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
    let carrier = json_body(
        json!({"text": "{text}"}),
        json!({"callback": {
            "verify": {"at": {"field": "token"}, "sha256": "1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0"},
            "receipt": {"id": {"field": "id"}, "status": {"field": "status"}, "statuses": {"1": "delivered"}}
        }}),
    );
    let call = |url: &str| carrier.callback(&form(url, "id=1&status=1"), &context());
    assert_eq!(call("/cb?token=s3cret").expect("read").events.len(), 1);
    for url in [
        "/cb",
        "/cb?token=",
        "/cb?token=S3cret",
        "/cb?token=s3cret%00",
    ] {
        let error = call(url).expect_err(url);
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
        example("vonage").submit(&message, &context()),
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
    let carrier = example("vonage");
    let answer = |status: &str| {
        ok(&json!({"messages": [{"status": status, "error-text": "no"}]}).to_string())
    };
    host.answer(ok(&json!({"messages": [{"status": "0", "message-id": "A"}, {"status": "1", "error-text": "too fast"}]}).to_string()));
    let partly = carrier.submit(&message(UK, "hi"), &context());
    assert_eq!(
        partly,
        Err(SubmitError::Unknown("HTTP 200: too fast".to_owned())),
        "a part was taken"
    );
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
        example("vonage").submit(&message, &context()),
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
    let answer = example("vonage")
        .callback(&form("/cb", body), &context())
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
        example("infobip").submit(&message(UK, "hi"), &context()),
        Ok(vec!["X".to_owned()])
    );
    let sent: Value = serde_json::from_str(&body(&sent(&host))).expect("JSON");
    let expect = json!({"messages": [{
        "from": "Heliograph", "text": "hi", "validityPeriod": 2880,
        "destinations": [{"to": "447700900123", "messageId": "01890a5dac96774bbcceb302099a8057"}],
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
    let answer = example("infobip")
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
    let carrier = example("kannel");
    host.answer(Ok(response(202, "0: Accepted for delivery")));
    let message = message(UK, "a b&c=d#é{secret:GATEWAY_PASSWORD}");
    assert_eq!(
        carrier.submit(&message, &context()),
        Ok(vec![message.id.to_string()])
    );
    let request = sent(&host);
    assert_eq!(request.method, "GET");
    assert!(request.body.is_empty());
    assert!(request.url.starts_with(
        "http://127.0.0.1:13013/cgi-bin/sendsms?username=heliograph&password={secret:KANNEL_PASSWORD}&charset=utf-8&coding=0&dlr-mask=31&dlr-url="
    ), "{}", request.url);
    assert!(request.url.ends_with("&from=Heliograph&text=a%20b%26c%3Dd%23%C3%A9%7Bsecret%3AGATEWAY_PASSWORD%7D&to=%2B447700900123"), "{}", request.url);
    host.answer(ok("Authorization failed for sendsms"));
    assert_eq!(
        carrier.submit(&message, &context()),
        Err(SubmitError::Temporary(
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
