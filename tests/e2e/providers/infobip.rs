//! Infobip's SMS API (`/sms/2/text/advanced`) as its pages describe it: `Authorization: App KEY`,
//! statuses by groups, errors as `requestError`; delivery reports as arrays with prices in them, sent
//! with the user and password that the webhook was given.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Reply, Seen};

pub const KEY: &str = "0123456789abcdef-key-of-infobip";
pub const LOGIN: &str = "infobip:a-long-password";

pub fn authorization() -> String {
    format!("Basic {}", STANDARD.encode(LOGIN))
}

pub fn manners(request: &Seen, _: usize) -> Reply {
    if request.header("authorization") != format!("App {KEY}") {
        let exception = json!({ "messageId": "UNAUTHORIZED", "text": "Invalid login details" });
        return Reply::json(
            401,
            &json!({ "requestError": { "serviceException": exception } }),
        );
    }
    let body: Value = serde_json::from_str(&request.body).expect("JSON");
    let message = &body["messages"][0];
    assert!(message["validityPeriod"].is_u64(), "{body}");
    let destination = &message["destinations"][0];
    let to = destination["to"].as_str().expect("a number");
    let (group, group_name, id, name, description) = if to.ends_with("00005") {
        (
            5,
            "REJECTED",
            12,
            "REJECTED_NOT_ENOUGH_CREDITS",
            "Not enough credits, balance is EUR 0.0125",
        )
    } else if to.ends_with("00006") {
        (5, "REJECTED", 6, "REJECTED_NETWORK", "Network is forbidden")
    } else {
        (
            1,
            "PENDING",
            26,
            "PENDING_ACCEPTED",
            "Message sent to next instance",
        )
    };
    let status = json!({
        "groupId": group, "groupName": group_name, "id": id, "name": name, "description": description,
    });
    Reply::json(
        200,
        &json!({
            "bulkId": "2034072219640523072",
            "messages": [{ "to": to, "status": status, "messageId": destination["messageId"] }],
        }),
    )
}

/// One report of a batch.
pub fn report(id: &str, group: &str, error: &str) -> Value {
    json!({
        "bulkId": "2034072219640523072", "messageId": id, "to": "447700900123",
        "sentAt": "2026-06-15T12:00:00.000+0000", "doneAt": "2026-06-15T12:00:05.000+0000", "smsCount": 1,
        "price": { "pricePerMessage": 0.0333, "currency": "EUR" },
        "status": { "groupId": 3, "groupName": group, "id": 5, "name": "DELIVERED_TO_HANDSET", "description": "..." },
        "error": { "groupId": 0, "groupName": "OK", "id": 0, "name": error, "description": "...", "permanent": false },
    })
}
