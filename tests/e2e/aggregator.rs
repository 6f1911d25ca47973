//! A carrier without SMPP: the bundled json-carrier against an HTTP aggregator that is ours.

use heliograph_tests::{Plan, Rig, Webhooks, eventually, sms};
use serde_json::{Value, json};

const HANDSET: &str = "+447700900123";

/// A server whose first carrier is the aggregator and whose second is a simulator.
async fn rig_with(aggregator: &Webhooks) -> Rig {
    let origin = aggregator.origin();
    Rig::start(Plan {
        policy: format!(
            r#"
            default_route = ["http", "sim0"]
            [[plugin]]
            name = "aggregator"
            path = "{{plugins}}/json-carrier.wasm"
            [plugin.grants.http]
            hosts = ["{origin}"]
            private = true
            [plugin.config.request]
            url = "{origin}/send"
            body.json = {{ to = "{{to}}", from = "{{from}}", text = "{{text}}", ref = "{{id}}" }}
            [plugin.config.response]
            id = {{ json = "/id" }}
            [plugin.config.callback.receipt]
            when = [{{ at = {{ json = "/status" }} }}]
            id = {{ json = "/id" }}
            status = {{ json = "/status" }}
            statuses = {{ ok = "delivered", bad = "undeliverable" }}
            [plugin.config.callback.inbound]
            when = [{{ at = {{ json = "/text" }} }}]
            from = {{ json = "/from" }}
            to = {{ json = "/to" }}
            text = {{ json = "/text" }}
            "#
        ),
        config_extra: "[[carriers]]\nid = \"http\"\nkind = \"plugin\"\nplugin = \"aggregator\"\n"
            .to_owned(),
        ..Plan::default()
    })
    .await
}

fn octets(body: &Value) -> Vec<u8> {
    body.to_string().into_bytes()
}

async fn call_back(rig: &Rig, body: Vec<u8>) -> u16 {
    let answer = rig
        .try_call("POST", "/v1/carriers/http/callback", Some(body), &[])
        .await;
    answer.expect("an answer").0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_travels_over_http_and_its_call_back_settles_it() {
    let aggregator = Webhooks::start().await;
    aggregator.answer_with(&json!({ "id": "agg-1" }));
    let rig = rig_with(&aggregator).await;
    let text = "Say \"hello\" {secret:X} \\ €";
    let id = rig.submit(sms(HANDSET, text)).await;
    rig.wait_for(&id, "enroute").await;
    let request = aggregator.received()[0].json();
    assert_eq!(
        request,
        json!({ "to": "447700900123", "from": "60777", "text": text, "ref": id })
    );

    let receipt = json!({ "id": "agg-1", "status": "ok" });
    assert_eq!(call_back(&rig, octets(&receipt)).await, 200);
    let message = rig.wait_for(&id, "delivered").await;
    assert_eq!(message["receipts"][0]["carrier"], "http");
    assert_eq!(message["receipts"][0]["carrier_message_id"], "agg-1");

    assert_eq!(call_back(&rig, b"no report".to_vec()).await, 400);
    let inbound = json!({ "from": "447700900123", "to": "60777", "text": "Hi there" });
    assert_eq!(call_back(&rig, octets(&inbound)).await, 200);
    let stored = eventually("the text arrives", async || {
        rig.items("/v1/inbound").await.pop()
    })
    .await;
    assert_eq!(
        (&stored["text"], &stored["carrier"]),
        (&json!("Hi there"), &json!("http"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_aggregator_refuses_goes_to_the_next_carrier() {
    let aggregator = Webhooks::start().await;
    aggregator.answer_next(&[400]);
    let rig = rig_with(&aggregator).await;
    let id = rig.submit(sms(HANDSET, "hello")).await;
    let message = rig.wait_for(&id, "delivered").await;
    assert_eq!(message["attempts"][0]["carrier"], "http");
    assert_eq!(message["attempts"][0]["outcome"], "permanent_failure");
    assert_eq!(message["receipts"][0]["carrier"], "sim0");
}
