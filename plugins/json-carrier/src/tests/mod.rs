//! Whole exchanges: the README's configurations against what such carriers send, and what must never happen whatever
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

/// The README's examples, in order.
fn example(title: &str) -> JsonCarrier {
    let (_, rest) = include_str!("../../README.md")
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
