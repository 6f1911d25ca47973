//! Vonage's SMS API as its pages describe it: `POST /sms/json`, always 200, one element of `messages`
//! for each part with `status` as text ("0" taken, "1" throttled, "4" credentials...) and
//! `remaining-balance`; delivery receipts as JSON with a `sig` over the sorted fields.

use ring::hmac;
use serde_json::{Value, json};

use super::{Reply, Seen};

pub const KEY: &str = "abcd1234";
pub const SECRET: &str = "abcdef0123456789";
pub const SIGNATURE_SECRET: &str = "a-signature-secret-of-vonage";

pub fn manners(request: &Seen, before: usize) -> Reply {
    let fail = |status: &str, text: &str| {
        Reply::json(
            200,
            &json!({ "message-count": "1", "messages": [{ "status": status, "error-text": text }] }),
        )
    };
    let Ok(body) = serde_json::from_str::<Value>(&request.body) else {
        return fail("3", "Invalid request");
    };
    if request.path() != "/sms/json" {
        return Reply::text(404, "");
    }
    if body["api_key"] != KEY || body["api_secret"] != SECRET {
        return fail("4", "Bad Credentials");
    }
    let Some(to) = body["to"].as_str() else {
        return fail("2", "Missing to param");
    };
    if to.ends_with("00007") {
        return fail("7", "Number barred");
    }
    let text = body["text"].as_str().unwrap_or_default();
    // As they count: 160 in one, else 153 in each.
    let parts = if text.len() <= 160 {
        1
    } else {
        text.len().div_ceil(153)
    };
    let messages: Vec<Value> = (0..parts)
        .map(|part| {
            json!({
                "to": to, "message-id": id(before, part), "status": "0",
                "remaining-balance": "3.14159265", "message-price": "0.03330000", "network": "23410",
            })
        })
        .collect();
    Reply::json(
        200,
        &json!({ "message-count": parts.to_string(), "messages": messages }),
    )
}

pub fn id(request: usize, part: usize) -> String {
    format!("0A00000{request:04X}{part:04X}")
}

/// A receipt with its signature (HMAC-SHA256), signed at `seconds`.
pub fn signed(mut fields: Vec<(&str, String)>, seconds: u64) -> String {
    fields.push(("timestamp", seconds.to_string()));
    fields.sort();
    let text: String = fields
        .iter()
        .map(|(n, v)| format!("&{n}={}", v.replace(['&', '='], "_")))
        .collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SIGNATURE_SECRET.as_bytes());
    let sig: String = hmac::sign(&key, text.as_bytes())
        .as_ref()
        .iter()
        .map(|b| format!("{b:02X}"))
        .collect();
    let mut body = serde_json::Map::new();
    for (name, value) in fields {
        body.insert(name.to_owned(), Value::String(value));
    }
    body.insert("sig".to_owned(), Value::String(sig));
    Value::Object(body).to_string()
}

pub fn receipt(id: &str, status: &str) -> Vec<(&'static str, String)> {
    vec![
        ("msisdn", "447700900123".to_owned()),
        ("to", "60777".to_owned()),
        ("network-code", "23410".to_owned()),
        ("messageId", id.to_owned()),
        ("price", "0.03330000".to_owned()),
        ("status", status.to_owned()),
        ("scts", "2606151200".to_owned()),
        ("err-code", "0".to_owned()),
        ("api-key", KEY.to_owned()),
        ("message-timestamp", "2026-06-15 12:00:00".to_owned()),
    ]
}
