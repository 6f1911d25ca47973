//! Whole exchanges: the configurations of `examples/` against what such carriers send, and what must never happen whatever
//! a message or a carrier says.

mod answers;
mod callbacks;
mod examples;
mod hostile;
mod requests;
mod rules;

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

/// The plugin's configuration in one of `examples/`.
fn example(name: &str) -> JsonCarrier {
    let policy = match name {
        "twilio" => include_str!("../../examples/twilio/policy.toml"),
        "vonage" => include_str!("../../examples/vonage/policy.toml"),
        "infobip" => include_str!("../../examples/infobip/policy.toml"),
        "kannel" => include_str!("../../examples/kannel/policy.toml"),
        _ => panic!("no example {name}"),
    };
    let policy: Value = toml::from_str(policy).expect("a policy");
    carrier(&policy["plugin"][0]["config"].to_string())
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
    answer
        .events
        .iter()
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
