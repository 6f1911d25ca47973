//! Mobile-originated messages: the wish to be left alone, texts in several parts, whose they are, and
//! the conversations they belong to.

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

#[tokio::test(flavor = "multi_thread")]
async fn parts_survive_a_kill_and_meet_after_it() {
    let mut rig = Rig::start(Plan::default()).await;
    let part = |index: u8, text: &str| {
        let octets = [&[5, 0, 3, 42, 2, index], text.as_bytes()].concat();
        Mo {
            short_message: octets.iter().map(|b| format!("{b:02x}")).collect(),
            esm_class: 0x40,
            data_coding: Some(0),
            ..text_from(HANDSET, "")
        }
    };
    rig.text_in(&part(2, "world")).await;
    eventually("the part is taken", async || {
        let taken = rig.simulators[0].counters().mo_acked;
        (taken == 1).then_some(())
    })
    .await;
    rig.kill().await;
    rig.launch().await;
    rig.text_in(&part(1, "hello ")).await;
    let texts = eventually("the whole text", async || {
        let items = rig.items("/v1/inbound").await;
        (!items.is_empty()).then_some(items)
    })
    .await;
    assert_eq!(texts.len(), 1);
    assert_eq!(texts[0]["text"], "hello world");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_completes_is_passed_on_as_it_is() {
    let rig = Rig::start(Plan {
        config_extra: "[inbound]\nreassembly_seconds = 1".to_owned(),
        ..Plan::default()
    })
    .await;
    let octets = [&[5, 0, 3, 42, 3, 2][..], b"the middle"].concat();
    let lonely = Mo {
        short_message: octets.iter().map(|b| format!("{b:02x}")).collect(),
        esm_class: 0x40,
        data_coding: Some(0),
        ..text_from(HANDSET, "")
    };
    rig.text_in(&lonely).await;
    let item = eventually("its end", async || rig.items("/v1/inbound").await.pop()).await;
    assert_eq!(
        (&item["text"], &item["labels"]),
        (&json!("the middle"), &json!(["incomplete"]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_short_code_is_routed_by_keyword_and_what_is_nobodys_is_listed() {
    let rig = Rig::start(Plan {
        config_extra: r#"
[[inbound.routes]]
number = "60777"
keyword = "win"
account = "other"
"#
        .to_owned(),
        ..Plan::default()
    })
    .await;
    let lost = Mo {
        to: "12345".to_owned(),
        ..text_from(HANDSET, "anybody?")
    };
    for mo in [
        text_from(HANDSET, "hello"),
        text_from(HANDSET, "WIN! a car"),
        lost,
    ] {
        rig.text_in(&mo).await;
    }
    eventually("all three", async || {
        (rig.items("/v1/inbound").await.len() == 3).then_some(())
    })
    .await;
    let texts = async |path: &str| {
        let items = rig.items(path).await.into_iter();
        items.map(|i| i["text"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(texts("/v1/inbound?account=acme").await, [json!("hello")]);
    assert_eq!(
        texts("/v1/inbound?account=other").await,
        [json!("WIN! a car")]
    );
    assert_eq!(
        texts("/v1/inbound?unrouted=true").await,
        [json!("anybody?")]
    );
    assert_eq!(texts("/v1/inbound?to=12345").await, [json!("anybody?")]);
    // Another account's key sees its own, whatever it asks for.
    let key = heliograph_tests::OTHER_KEY;
    let (status, page) = rig.call_as(key, "GET", "/v1/inbound", None).await;
    assert_eq!(
        (status, page["items"].as_array().map(Vec::len)),
        (200, Some(1))
    );
    let (status, _) = rig
        .call_as(key, "GET", "/v1/inbound?account=acme", None)
        .await;
    assert_eq!(status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_ties_texts_to_what_they_answer() {
    let rig = Rig::start(Plan::default()).await;
    let to = format!("+{HANDSET}");
    let asked = rig.submit(sms(&to, "Are you coming?")).await;
    rig.wait_for(&asked, "delivered").await;
    rig.text_in(&text_from(HANDSET, "Yes")).await;
    let answer = eventually("the answer", async || rig.items("/v1/inbound").await.pop()).await;
    assert_eq!(answer["in_reply_to"], json!(asked));
    rig.submit(sms(&to, "See you")).await;
    // To a handset that never wrote: no conversation.
    rig.submit(sms("+447700900999", "Hello")).await;

    let (_, threads) = rig.call("GET", "/v1/threads", None).await;
    let threads = threads["items"].as_array().cloned().unwrap_or_default();
    assert_eq!(threads.len(), 1, "{threads:?}");
    assert_eq!(
        (
            &threads[0]["number"],
            &threads[0]["with"],
            &threads[0]["last_inbound"]["text"]
        ),
        (&json!("60777"), &json!(to), &json!("Yes"))
    );
    let id = threads[0]["id"].as_str().expect("an id");
    let (status, thread) = rig.call("GET", &format!("/v1/threads/{id}"), None).await;
    assert_eq!(status, 200, "{thread}");
    let said: Vec<_> = thread["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|i| {
            (
                i["direction"].as_str().unwrap_or(""),
                i["text"].as_str().unwrap_or(""),
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            ("outbound", "See you"),
            ("inbound", "Yes"),
            ("outbound", "Are you coming?")
        ]
    );
    // Page by page, and not for anybody else.
    let path = format!("/v1/threads/{id}?limit=1");
    let (_, page) = rig.call("GET", &path, None).await;
    let cursor = page["next_cursor"].as_str().expect("more");
    let (_, page) = rig
        .call("GET", &format!("{path}&cursor={cursor}"), None)
        .await;
    assert_eq!(page["items"][0]["text"], "Yes");
    let other = heliograph_tests::OTHER_KEY;
    let (status, _) = rig
        .call_as(other, "GET", &format!("/v1/threads/{id}"), None)
        .await;
    assert_eq!(status, 404);
}
