//! Messages that wait: for their time, for the end of quiet hours, for a person, for a carrier, for
//! their cancellation.

use std::time::Duration;

use heliograph::carrier::simulator::{Settings, Simulator};
use heliograph::clock::Clock;
use heliograph_tests::{CarrierSpec, Pace, Plan, Rig, free_address, sms};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpListener;

fn in_seconds(seconds: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(seconds)
}

fn time_of(value: &Value) -> Timestamp {
    value.as_str().and_then(|t| t.parse().ok()).expect("a time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_message_is_sent_at_its_time_and_not_before() {
    let rig = Rig::start(Plan::default()).await;
    let at = in_seconds(3);
    let mut body = sms("+447700900123", "later");
    body["send_at"] = json!(at.to_string());
    let id = rig.submit(body).await;
    assert_eq!(rig.message(&id).await["status"], "scheduled");
    rig.wait_for(&id, "delivered").await;
    let taken = rig.taken(0);
    assert_eq!(taken.len(), 1);
    let taken_at = i64::try_from(taken[0].at).expect("a time of this age");
    assert!(
        taken_at >= at.as_millisecond(),
        "sent {} ms early",
        at.as_millisecond() - taken_at
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_message_is_canceled_once_and_for_all() {
    let rig = Rig::start(Plan::default()).await;
    let mut body = sms("+447700900123", "never");
    body["send_at"] = json!(in_seconds(2).to_string());
    let id = rig.submit(body).await;
    let path = format!("/v1/messages/{id}/cancel");
    for _ in 0..2 {
        let (status, answer) = rig.call("POST", &path, None).await;
        assert_eq!(
            (status, &answer["status"]),
            (200, &json!("canceled")),
            "{answer}"
        );
    }
    // A message with a later time proves that the canceled one's time has passed.
    let mut body = sms("+447700900124", "after");
    body["send_at"] = json!(in_seconds(3).to_string());
    let after = rig.submit(body).await;
    rig.wait_for(&after, "delivered").await;
    assert_eq!(rig.message(&id).await["status"], "canceled");
    assert_eq!(rig.simulators[0].counters().submits, 1);
    let (status, problem) = rig
        .call("POST", &format!("/v1/messages/{after}/cancel"), None)
        .await;
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")));
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_hours_defer_promotion_to_their_end_and_let_otp_pass() {
    // India has one clock, five and a half hours ahead, all year.
    const OFFSET_MINUTES: i64 = 330;
    let now = Timestamp::now();
    let local = |minutes: i64| {
        let at = now.as_second() / 60 + OFFSET_MINUTES + minutes;
        let of_day = at.rem_euclid(24 * 60);
        format!("{:02}:{:02}", of_day / 60, of_day % 60)
    };
    let rig = Rig::start(Plan {
        policy: format!(
            r#"
            [[plugin]]
            name = "guard"
            path = "{{plugins}}/compliance-guard.wasm"
            [plugin.config.quiet_hours]
            start = "{}"
            end = "{}"
            spread_minutes = 0
            "#,
            local(-120),
            local(120)
        ),
        ..Plan::default()
    })
    .await;
    let submit = async |class: &str| {
        let mut body = sms("+919876543210", "Sale!");
        body["class"] = json!(class);
        rig.submit(body).await
    };
    let promotional = submit("promotional").await;
    let otp = submit("otp").await;
    rig.wait_for(&otp, "delivered").await;
    let message = rig.message(&promotional).await;
    assert_eq!(
        (&message["status"], &message["reason"]),
        (&json!("scheduled"), &json!("deferred_by_policy"))
    );
    assert_eq!(message["decisions"][0]["calls"][0]["outcome"], "defer");
    let wait = time_of(&message["next_attempt_at"]).as_second() - now.as_second();
    assert!(
        (119 * 60..=121 * 60).contains(&wait),
        "deferred by {wait} s"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_message_waits_for_a_person_who_lets_it_go() {
    let rig = Rig::start(Plan {
        policy: r#"
            [[plugin]]
            name = "filter"
            path = "{plugins}/content-filter.wasm"
            config = { rules = [{ name = "ask", kind = "words", words = ["loan"], action = "hold" }] }
        "#
        .to_owned(),
        ..Plan::default()
    })
    .await;
    let id = rig.submit(sms("+447700900123", "A loan for you")).await;
    let message = rig.message(&id).await;
    assert_eq!(
        (&message["status"], &message["reason"]),
        (&json!("held"), &json!("held_by_policy"))
    );
    let path = format!("/v1/messages/{id}/release");
    let (status, problem) = rig.call("POST", &path, None).await;
    assert_eq!((status, &problem["code"]), (403, &json!("forbidden")));
    let (status, answer) = rig.admin("POST", &path, None).await;
    assert_eq!(status, 200, "{answer}");
    let message = rig.wait_for(&id, "delivered").await;
    let reasons: Vec<_> = message["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|e| &e["reason"])
        .collect();
    assert_eq!(
        reasons,
        [
            "held_by_policy",
            "released_by_operator",
            "decided_again",
            "taken_by_carrier",
            "receipt"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_expires_while_its_carrier_is_away_and_others_wait_for_it() {
    let address = free_address().await;
    let rig = Rig::start(Plan {
        simulators: Vec::new(),
        carriers: vec![CarrierSpec {
            id: "away".to_owned(),
            address: address.clone(),
            extra: String::new(),
        }],
        ..Plan::default()
    })
    .await;
    let mut body = sms("+447700900123", "short-lived");
    body["validity_seconds"] = json!(1);
    let short = rig.submit(body).await;
    let patient = rig.submit(sms("+447700900123", "patient")).await;
    let message = rig.wait_for(&short, "expired").await;
    assert_eq!(message["reason"], "validity_expired");

    let listener = TcpListener::bind(&address)
        .await
        .expect("the port is still free");
    let back = Simulator::start(Settings::default(), Clock::system(), listener, None)
        .expect("a simulator");
    rig.wait_for(&patient, "delivered").await;
    assert_eq!(back.counters().accepted, 1);
}

/// By a clock that goes 3,600 times as fast a decision is old after 80 ms, and this queue takes two seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_outlasts_its_decisions_is_sent_all_the_same() {
    let day = Duration::from_secs(24);
    let rig = Rig::start(Plan {
        pace: Some(Pace::of_days(day, day)),
        simulators: vec![Settings {
            latency_ms: 25,
            ..Settings::default()
        }],
        carrier_extra: "window = 1\nsessions = 1".to_owned(),
        ..Plan::default()
    })
    .await;
    let mut ids = Vec::new();
    for n in 0..80 {
        let body = sms("+447700900123", &format!("number {n}"));
        ids.push(rig.submit(body).await);
    }
    rig.wait_for_all(&ids, "delivered").await;
    assert_eq!(rig.simulators[0].counters().submits, 80);
}
