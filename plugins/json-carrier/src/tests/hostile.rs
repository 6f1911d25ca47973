//! What no message and no carrier may do.

use super::*;

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
        for title in ["twilio", "vonage", "infobip", "kannel"] {
            let host = FakeHost::new();
            let carrier = example(title);
            host.answer(Ok(HttpResponse { status, headers: Vec::new(), body: bytes.clone() }));
            let _ = carrier.submit(&message(UK, "hi"), &context());
            let _ = carrier.callback(&HttpRequest { body: bytes.clone(), ..request("POST", &url) }, &context());
        }
    }
}
