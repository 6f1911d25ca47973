//! A number's data are deleted on request.

use heliograph::carrier::simulator::Mo;
use heliograph_tests::{ADMIN_KEY, KEY, Plan, Rig, eventually, sms};
use serde_json::{Value, json};

const NUMBER: &str = "447700900123";

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_forgotten_and_its_wish_is_not() {
    let rig = Rig::start(Plan::default()).await;
    let to = format!("+{NUMBER}");
    let mut body = sms(&to, "in confidence");
    body["reference"] = json!("order 17");
    body["metadata"] = json!({ "phone": to });
    let delivered = rig.submit(body).await;
    rig.wait_for(&delivered, "delivered").await;
    let mut later = sms(&to, "not yet");
    later["send_at"] = json!("2099-01-01T00:00:00Z");
    let (status, problem) = rig.call("POST", "/v1/messages", Some(later.clone())).await;
    assert_eq!(status, 400, "{problem}");
    let soon = heliograph::clock::Clock::system().now().0 + 3_600_000;
    let soon = jiff::Timestamp::from_millisecond(i64::try_from(soon).expect("a time"));
    later["send_at"] = json!(soon.expect("a time").to_string());
    let scheduled = rig.submit(later).await;
    let other = rig.submit(sms("+447700900456", "somebody else's")).await;
    rig.wait_for(&other, "delivered").await;
    rig.text_in(&Mo {
        from: NUMBER.to_owned(),
        to: "60777".to_owned(),
        text: "my secret".to_owned(),
        ..Mo::default()
    })
    .await;
    eventually("the text", async || rig.items("/v1/inbound").await.pop()).await;
    let wish = json!({ "recipient": to, "scope": "everything" });
    assert_eq!(rig.admin("PUT", "/v1/opt-outs", Some(wish)).await.0, 200);

    let path = format!("/v1/numbers/{to}/data");
    assert_eq!(rig.call("DELETE", &path, None).await.0, 403);
    let (status, problem) = rig.admin("DELETE", &format!("{path}?cursor=x"), None).await;
    assert_eq!(
        (status, &problem["code"]),
        (400, &json!("invalid_parameter"))
    );
    let (status, problem) = rig.admin("DELETE", "/v1/numbers/nobody/data", None).await;
    assert_eq!(
        (status, &problem["code"]),
        (400, &json!("invalid_parameter"))
    );

    let url = format!("http://{}", rig.address);
    let target = ["--url", &url, "--key", ADMIN_KEY, "--json"];
    let (code, out, err) = rig
        .run(&[&["numbers", "forget", &to][..], &target].concat())
        .await;
    assert_eq!(code, Some(0), "{err}");
    let counts: Value = serde_json::from_str(&out).expect("JSON");
    for (name, count) in [
        ("messages", 2),
        ("canceled", 1),
        ("under_way", 0),
        ("inbound", 1),
    ] {
        assert_eq!(counts[name], count, "{name}: {counts}");
    }
    assert_ne!(counts["recorded"], 0, "{counts}");

    for (id, state) in [(&delivered, "delivered"), (&scheduled, "canceled")] {
        let message = rig.message(id).await;
        assert_eq!(
            (&message["status"], &message["to"]),
            (&json!(state), &json!("erased"))
        );
        let all = message.to_string();
        for gone in [NUMBER, "in confidence", "not yet", "order 17"] {
            assert!(!all.contains(gone), "{gone}: {all}");
        }
    }
    let inbound = rig.items("/v1/inbound").await;
    assert_eq!(
        (&inbound[0]["from"], &inbound[0]["text"]),
        (&json!("erased"), &json!(""))
    );
    assert!(rig.items("/v1/threads").await.is_empty());
    assert_eq!(rig.message(&other).await["text"], "somebody else's");
    let problem = rig.refused(sms(&to, "again")).await;
    assert_eq!(problem["code"], "opted_out");
    // The refusal of just now is another message.
    let (_, again) = rig.admin("DELETE", &path, None).await;
    assert_eq!(
        (&again["messages"], &again["inbound"]),
        (&json!(1), &json!(0)),
        "{again}"
    );
    eventually("a day with records", async || {
        (rig.metric(&["heliograph_store_days "]).await >= 1.0).then_some(())
    })
    .await;
    assert_eq!(
        rig.call_as(KEY, "GET", &format!("/v1/messages?to=%2B{NUMBER}"), None)
            .await
            .1["items"],
        json!([])
    );
}
