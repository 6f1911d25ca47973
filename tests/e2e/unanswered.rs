//! A submit_sm that gets no answer: may be a message, may be none. The client says what follows.

use heliograph::carrier::simulator::Settings;
use heliograph_tests::{Plan, Rig, sms};
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
