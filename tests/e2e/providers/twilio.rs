//! Twilio's Programmable Messaging API as its pages describe it: `POST
//! /2010-04-01/Accounts/{Sid}/Messages.json`, a form and basic authentication, 201 with the message
//! resource, errors as `{code, message, more_info, status}`; status call-backs as forms with
//! `X-Twilio-Signature` (HMAC-SHA1 over the URL and the sorted fields).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::json;

use super::{Reply, Seen, encoded};

pub const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The Base64 of `ACCOUNT:TOKEN`.
pub fn basic() -> String {
    STANDARD.encode(format!("{ACCOUNT}:{TOKEN}"))
}

pub fn sid(n: usize) -> String {
    format!("SM{n:032x}")
}

pub fn manners(request: &Seen, before: usize) -> Reply {
    let error = |status: u16, code: u32, message: &str| {
        let more_info = format!("https://www.twilio.com/docs/errors/{code}");
        Reply::json(
            status,
            &json!({ "code": code, "message": message, "more_info": more_info, "status": status }),
        )
    };
    if request.header("authorization") != format!("Basic {}", basic()) {
        return error(401, 20003, "Authenticate");
    }
    if request.method != "POST"
        || request.path() != format!("/2010-04-01/Accounts/{ACCOUNT}/Messages.json")
    {
        return error(404, 20404, "The requested resource was not found");
    }
    let to = request.field("To");
    let body = request.field("Body");
    if !to.starts_with('+') {
        return error(
            400,
            21211,
            &format!("The 'To' number {to} is not a valid phone number."),
        );
    }
    if to.ends_with("21211") {
        return error(
            400,
            21211,
            &format!("The 'To' number {to} is not a valid phone number."),
        );
    }
    if to.ends_with("21610") {
        return error(400, 21610, "Attempt to send to unsubscribed recipient");
    }
    if body.is_empty() {
        return error(400, 21602, "Message body is required.");
    }
    let sid = sid(before);
    Reply::json(
        201,
        &json!({
            "sid": sid, "account_sid": ACCOUNT, "api_version": "2010-04-01", "status": "queued",
            "to": to, "from": request.field("From"), "body": body, "num_segments": "1", "num_media": "0",
            "direction": "outbound-api", "date_created": "Mon, 15 Jun 2026 12:00:00 +0000", "date_sent": null,
            "price": null, "price_unit": "USD", "error_code": null, "error_message": null,
            "uri": format!("/2010-04-01/Accounts/{ACCOUNT}/Messages/{sid}.json"),
        }),
    )
}

/// A call-back's form and its signature, for our address as Twilio has it.
pub fn signed(url: &str, token: &str, fields: &[(&str, &str)]) -> (String, String) {
    let form: Vec<String> = fields
        .iter()
        .map(|(n, v)| format!("{}={}", encoded(n), encoded(v)))
        .collect();
    let mut sorted = fields.to_vec();
    sorted.sort_unstable();
    let text = sorted
        .iter()
        .fold(url.to_owned(), |text, (n, v)| text + n + v);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
    let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
    (form.join("&"), signature)
}
