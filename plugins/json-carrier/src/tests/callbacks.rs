//! Call-backs that bring nothing readable, or too much.

use super::*;

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
