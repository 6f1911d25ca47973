//! Mobile-originated messages: the wish to be left alone, and texts in several parts.

use heliograph::carrier::simulator::{Mo, Multipart};
use heliograph_tests::{Plan, Rig, eventually, sms};
use serde_json::json;

const HANDSET: &str = "447700900123";

const RESPONDER: &str = r#"
    [[plugin]]
    name = "responder"
    path = "{plugins}/keyword-responder.wasm"
    grants = { state = {} }
    config = { brand = "Acme" }
"#;

fn text_from(handset: &str, text: &str) -> Mo {
    Mo {
        from: handset.to_owned(),
        to: "60777".to_owned(),
        text: text.to_owned(),
        ..Mo::default()
    }
}

/// Sends a keyword and waits for the reply that says it was heard.
async fn texted_and_answered(rig: &Rig, text: &str) -> String {
    let before = rig.taken(0).len();
    rig.text_in(&text_from(HANDSET, text)).await;
    let reply = eventually("a reply", async || rig.taken(0).into_iter().nth(before)).await;
    assert_eq!(
        (&*reply.source_addr, &*reply.destination_addr),
        ("60777", HANDSET)
    );
    reply.text.expect("a text")
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_is_obeyed_and_answered_and_start_undoes_it() {
    let rig = Rig::start(Plan {
        policy: RESPONDER.to_owned(),
        ..Plan::default()
    })
    .await;
    let to = format!("+{HANDSET}");
    let reply = texted_and_answered(&rig, "Stop!").await;
    assert!(reply.contains("Acme"), "{reply}");
    let problem = rig.refused(sms(&to, "hello")).await;
    assert_eq!(problem["code"], "opted_out");
    let (status, wishes) = rig.admin("GET", "/v1/opt-outs", None).await;
    assert_eq!(
        (status, &wishes["items"][0]["recipient"]),
        (200, &json!(to)),
        "{wishes}"
    );

    texted_and_answered(&rig, "START").await;
    let id = rig.submit(sms(&to, "welcome back")).await;
    rig.wait_for(&id, "delivered").await;
    let items = rig.items("/v1/inbound").await;
    let labels: Vec<_> = items
        .iter()
        .map(|i| (&i["text"], &i["labels"][0]))
        .collect();
    assert_eq!(
        labels,
        [
            (&json!("START"), &json!("opt-in")),
            (&json!("Stop!"), &json!("opt-out"))
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_in_parts_is_put_together_however_it_is_tied() {
    let rig = Rig::start(Plan {
        webhooks: true,
        ..Plan::default()
    })
    .await;
    let plain: String = ('a'..='z').cycle().take(400).collect();
    let emoji = "Grüße 👋🏽 ".repeat(20);
    let cases = [
        (&plain, Multipart::Udh, true),
        (&plain, Multipart::Sar, true),
        (&plain, Multipart::Payload, false),
        (&emoji, Multipart::Udh, true),
    ];
    for (n, (text, multipart, in_parts)) in cases.into_iter().enumerate() {
        let mo = Mo {
            multipart,
            reference: u8::try_from(n).expect("few cases"),
            ..text_from(HANDSET, text)
        };
        let sent = rig.text_in(&mo).await;
        assert_eq!(sent > 1, in_parts, "{multipart:?}");
        let hook = eventually("the application is told", async || {
            rig.webhooks.of_type("message.received").into_iter().nth(n)
        })
        .await;
        assert!(hook.is_signed());
        assert_eq!(hook.json()["data"]["text"], json!(text), "{multipart:?}");
    }
    let items = rig.items("/v1/inbound").await;
    assert_eq!(items.len(), cases.len());
    assert_eq!(
        (&items[0]["from"], &items[0]["to"]),
        (&json!(format!("+{HANDSET}")), &json!("60777"))
    );
}
