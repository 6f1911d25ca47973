//! A submit_sm that gets no answer: may be a message, may be none. The client says what follows.

use std::time::Duration;

use heliograph::carrier::simulator::Settings;
use heliograph_tests::smsc::Smsc;
use heliograph_tests::{CarrierSpec, Plan, Rig, sms};
use serde_json::json;

/// A carrier that takes everything and answers nothing, until it is changed.
async fn start() -> Rig {
    Rig::start(Plan {
        simulators: vec![Settings {
            swallow_rate: 1.0,
            receipts: false,
            ..Settings::default()
        }],
        carrier_extra: "response_timeout_ms = 200".to_owned(),
        ..Plan::default()
    })
    .await
}

async fn submit(rig: &Rig, on_unknown: &str) -> String {
    let mut body = sms("+447700900123", on_unknown);
    body["on_unknown"] = json!(on_unknown);
    rig.submit(body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_message_is_sent_again_marked_or_failed_or_held_as_its_client_says() {
    let rig = start().await;
    let resend = submit(&rig, "resend").await;
    let fail = submit(&rig, "fail").await;
    let hold = submit(&rig, "hold").await;
    let message = rig.wait_for(&fail, "unknown").await;
    assert_eq!(message["reason"], "response_timeout");
    rig.wait_for(&hold, "submit_unknown").await;
    let message = rig.wait_for(&resend, "submit_unknown").await;
    assert_eq!(message["duplicate_risk"], true);

    rig.simulators[0]
        .change(Settings::default())
        .expect("good settings");
    let message = rig.wait_for(&resend, "delivered").await;
    assert_eq!(message["duplicate_risk"], true);
    assert_eq!(rig.message(&hold).await["status"], "submit_unknown");
    let copies = |text: &str| {
        rig.taken(0)
            .iter()
            .filter(|sm| sm.text.as_deref() == Some(text))
            .count()
    };
    assert_eq!(
        (copies("resend"), copies("fail"), copies("hold")),
        (2, 1, 1)
    );
}

/// The carrier answers for one segment of two and goes silent, goes away, and is left out
/// of the policy meanwhile: the text is finished there, and no segment goes anywhere twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_a_carrier_has_in_part_is_finished_there() {
    let smsc = Smsc::listen().await;
    let address = smsc.address();
    let rig = Rig::start(Plan {
        carriers: vec![CarrierSpec {
            id: "scripted".to_owned(),
            address: address.clone(),
            extra: "response_timeout_ms = 1000".to_owned(),
        }],
        policy: "default_route = [\"scripted\", \"sim0\"]".to_owned(),
        ..Plan::default()
    })
    .await;
    let (mut session, _) = smsc.bound().await;
    let id = rig
        .submit(sms("+447700900123", &"a long text ".repeat(20)))
        .await;
    let (first, one) = session.hear_submit().await;
    let (_, two) = session.hear_submit().await;
    session.take(first, "1").await;
    let message = rig.wait_for(&id, "submit_unknown").await;
    assert_eq!(message["receipts"].as_array().map(Vec::len), Some(2));

    drop((session, smsc));
    let (status, answer) = rig.put_policy("default_route = [\"sim0\"]").await;
    assert_eq!(status, 200, "{answer}");
    // Long enough for the carrier to count as down, and for what is unanswered to be due again.
    for _ in 0..12 {
        let other = rig.submit(sms("+447700900124", "hello")).await;
        let other = rig.wait_for(&other, "delivered").await;
        assert_eq!(other["attempts"][0]["carrier"], "sim0");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(rig.message(&id).await["status"], "submit_unknown");

    let smsc = Smsc::listen_on(&address).await;
    let (mut session, _) = smsc.bound().await;
    let (last, repeated) = session.hear_submit().await;
    assert_eq!(repeated.short_message(), two.short_message());
    assert_ne!(repeated.short_message(), one.short_message());
    session.take(last, "2").await;
    let message = rig.wait_for(&id, "enroute").await;
    assert_eq!(message["duplicate_risk"], true);
    let elsewhere = rig.taken(0);
    let of_this = |text: &str| text.starts_with("a long");
    assert!(
        elsewhere
            .iter()
            .all(|sm| !sm.text.as_deref().is_some_and(of_this))
    );
}
