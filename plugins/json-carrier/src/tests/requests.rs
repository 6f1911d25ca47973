//! What requests look like, and which are not sent.

use super::*;

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
