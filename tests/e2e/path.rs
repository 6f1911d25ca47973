//! The whole path of one message: submitted over HTTP, judged, sent over SMPP, confirmed, reported;
//! and the refusals, carriers' faults and lists around it.

use std::collections::BTreeSet;

use heliograph::carrier::simulator::{Received, Settings};
use heliograph_tests::{KEY, Plan, Rig, bearer, eventually, http, sms};
use serde_json::{Value, json};

const HANDSET: &str = "+447700900123";

/// Settings with one rule of the simulator's grammar, such as `4477=UNDELIV:001`.
fn ruled(rule: &str) -> Settings {
    Settings {
        rules: vec![rule.parse().expect("a rule")],
        ..Settings::default()
    }
}

async fn start(simulators: Vec<Settings>, policy: &str) -> Rig {
    Rig::start(Plan {
        simulators,
        policy: policy.to_owned(),
        ..Plan::default()
    })
    .await
}

async fn good(policy: &str) -> Rig {
    start(vec![Settings::default()], policy).await
}

/// Every call of the last decision, as `name outcome`.
fn calls(message: &Value) -> Vec<String> {
    let decisions = message["decisions"].as_array().expect("decisions");
    let calls = decisions.last().expect("a decision")["calls"]
        .as_array()
        .expect("calls");
    let word = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    calls
        .iter()
        .map(|c| format!("{} {}", word(&c["name"]), word(&c["outcome"])))
        .collect()
}

fn utf16_hex(text: &str) -> String {
    text.encode_utf16()
        .map(|unit| format!("{unit:04x}"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_delivered_and_reported_by_signed_webhooks_that_come_again_until_taken() {
    let rig = Rig::start(Plan {
        webhooks: true,
        ..Plan::default()
    })
    .await;
    rig.webhooks.answer_next(&[500]);
    let mut body = sms(HANDSET, "Your parcel arrives today.");
    body["reference"] = json!("order-1");
    let id = rig.submit(body).await;
    let message = rig.wait_for(&id, "delivered").await;
    assert_eq!(message["segments"], 1);
    assert_eq!(message["receipts"][0]["status"], "delivered");
    let reasons: Vec<_> = message["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|e| &e["reason"])
        .collect();
    assert_eq!(reasons, ["accepted", "taken_by_carrier", "receipt"]);

    let again = eventually("the refused webhook comes again", async || {
        let hooks = rig.webhooks.received();
        let first = hooks.first()?.clone();
        let again = hooks.into_iter().skip(1).find(|h| h.id() == first.id())?;
        Some((first, again))
    })
    .await;
    assert_eq!(again.0.body, again.1.body);
    let delivered = eventually("delivered is reported", async || {
        rig.webhooks.of_type("message.delivered").pop()
    })
    .await;
    assert_eq!(delivered.json()["data"]["id"], json!(id));
    assert_eq!(delivered.json()["data"]["reference"], "order-1");
    let hooks = rig.webhooks.received();
    assert!(hooks.iter().all(|h| h.is_signed()), "{hooks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_text_travels_in_two_segments_and_has_one_status() {
    let rig = good("").await;
    let text: String = ('a'..='z').cycle().take(300).collect();
    let id = rig.submit(sms(HANDSET, &text)).await;
    let message = rig.wait_for(&id, "delivered").await;
    assert_eq!(
        (&message["segments"], &message["encoding"]),
        (&json!(2), &json!("gsm7"))
    );
    let ends: Vec<_> = message["receipts"]
        .as_array()
        .expect("receipts")
        .iter()
        .map(|r| &r["status"])
        .collect();
    assert_eq!(ends, ["delivered", "delivered"]);

    let mut taken = rig.taken(0);
    taken.sort_by_key(|r| r.concat.map(|c| c.index));
    let [first, second] = taken.as_slice() else {
        panic!("{} submit_sm", taken.len());
    };
    let reference = first.concat.expect("a concatenation").reference;
    for (sm, index) in [(first, 1), (second, 2)] {
        assert_eq!(sm.esm_class, 0x40);
        assert_eq!(sm.data_coding, 0);
        let header = format!("050003{reference:02x}02{index:02x}");
        assert!(
            sm.short_message.starts_with(&header),
            "{}",
            sm.short_message
        );
    }
    let whole: String = taken.iter().filter_map(|r| r.text.clone()).collect();
    assert_eq!(whole, text);
}

#[tokio::test(flavor = "multi_thread")]
async fn emoji_travel_as_ucs2_and_no_segment_ends_within_one() {
    let rig = good("").await;
    let short = "Grüße 👋🏽";
    let long: String = "a".to_owned() + &"👨‍👩‍👧".repeat(30);
    for text in [short, &long] {
        let id = rig.submit(sms(HANDSET, text)).await;
        let message = rig.wait_for(&id, "delivered").await;
        assert_eq!(message["encoding"], "ucs2");
    }
    let mut taken = rig.taken(0);
    let first = taken.remove(0);
    assert_eq!((first.data_coding, first.esm_class), (8, 0));
    assert_eq!(first.short_message, utf16_hex(short));
    taken.sort_by_key(|r| r.concat.map(|c| c.index));
    let content = |sm: &Received| sm.short_message[12..].to_owned();
    assert_eq!(
        taken.iter().map(content).collect::<String>(),
        utf16_hex(&long)
    );
    for sm in &taken {
        let hex = content(sm);
        let units: Vec<u16> = (0..hex.len())
            .step_by(4)
            .map(|at| u16::from_str_radix(&hex[at..at + 4], 16).expect("hexadecimal"))
            .collect();
        assert!(
            String::from_utf16(&units).is_ok(),
            "a surrogate pair is torn: {hex}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn octets_travel_with_their_own_header() {
    let rig = good("").await;
    let binary = json!({ "udh": "05040b8423f0", "data": "01fe00ff" });
    let id = rig
        .submit(json!({ "to": HANDSET, "from": "60777", "binary": binary }))
        .await;
    let message = rig.wait_for(&id, "delivered").await;
    assert_eq!(message["binary"], binary);
    let taken = rig.taken(0);
    assert_eq!((taken[0].esm_class, taken[0].data_coding), (0x40, 4));
    assert_eq!(taken[0].short_message, "0605040b8423f001fe00ff");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opted_out_recipient_is_refused_and_the_trace_says_so() {
    let rig = good("").await;
    let wish = json!({ "recipient": HANDSET, "scope": "account" });
    let (status, answer) = rig.admin("PUT", "/v1/opt-outs", Some(wish)).await;
    assert_eq!(status, 200, "{answer}");
    let problem = rig.refused(sms(HANDSET, "hello")).await;
    assert_eq!(problem["code"], "opted_out");
    let message = rig
        .message(problem["message_id"].as_str().expect("an id"))
        .await;
    assert_eq!(
        (&message["status"], &message["reason"]),
        (&json!("rejected"), &json!("opted_out"))
    );
    assert_eq!(
        calls(&message).last().map(String::as_str),
        Some("host host")
    );
    assert_eq!(rig.simulators[0].counters().submits, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_word_is_refused_by_the_content_filter_however_it_is_written() {
    let rig = good(
        r#"
        [[plugin]]
        name = "filter"
        path = "{plugins}/content-filter.wasm"
        [[plugin.config.rules]]
        name = "gambling"
        kind = "words"
        words = ["casino"]
        code = "gambling_not_allowed"
        "#,
    )
    .await;
    for text in [
        "Best casino!",
        "Best c\u{0430}sino!",
        "c a s i n o",
        "ca\u{200b}sino",
    ] {
        let problem = rig.refused(sms(HANDSET, text)).await;
        assert_eq!(problem["code"], "gambling_not_allowed", "{text}");
        let message = rig
            .message(problem["message_id"].as_str().expect("an id"))
            .await;
        assert_eq!(calls(&message), ["filter refuse"]);
    }
    let id = rig
        .submit(sms(HANDSET, "The cassino of Monte Cassino"))
        .await;
    let message = rig.wait_for(&id, "delivered").await;
    assert_eq!(calls(&message), ["filter pass", "host host"]);
    let call = &message["decisions"][0]["calls"][0];
    assert!(
        call["digest"]
            .as_str()
            .is_some_and(|d| d.starts_with("sha256:")),
        "{call}"
    );
    assert!(call["us"].as_f64().is_some_and(|us| us > 0.0), "{call}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_carrier_refuses_goes_to_the_second() {
    let rig = start(
        vec![ruled("4477=0x0b"), Settings::default()],
        r#"default_route = ["sim0", "sim1"]"#,
    )
    .await;
    let id = rig.submit(sms(HANDSET, "hello")).await;
    let message = rig.wait_for(&id, "delivered").await;
    assert_eq!(message["attempts"][0]["carrier"], "sim0");
    assert_eq!(message["attempts"][0]["outcome"], "permanent_failure");
    assert_eq!(message["attempts"][0]["status"], 0x0b);
    assert_eq!(message["receipts"][0]["carrier"], "sim1");
    assert_eq!((rig.taken(0).len(), rig.taken(1).len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_that_is_gone_hands_over_to_the_second() {
    let nobody = heliograph_tests::free_address().await;
    let rig = Rig::start(Plan {
        carriers: vec![heliograph_tests::CarrierSpec {
            id: "gone".to_owned(),
            address: nobody,
            extra: String::new(),
        }],
        policy: r#"default_route = ["gone", "sim0"]"#.to_owned(),
        ..Plan::default()
    })
    .await;
    let id = rig.submit(sms(HANDSET, "hello")).await;
    let message = rig.wait_for(&id, "delivered").await;
    assert_eq!(message["receipts"][0]["carrier"], "sim0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_that_throttles_gets_all_messages_once() {
    let rig = start(
        vec![Settings {
            throughput: 40,
            ..Settings::default()
        }],
        "",
    )
    .await;
    let mut ids = Vec::new();
    for n in 0..100 {
        ids.push(rig.submit(sms(HANDSET, &format!("message {n}"))).await);
    }
    rig.wait_for_all(&ids, "delivered").await;
    let counters = rig.simulators[0].counters();
    assert_eq!((counters.unique, counters.duplicated), (100, 0));
    assert!(
        counters.submits > 100,
        "nothing was throttled: {counters:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_receipt_is_lost_stays_enroute() {
    let rig = start(vec![ruled("447700900999=no-receipt")], "").await;
    let lost = rig.submit(sms("+447700900999", "hello")).await;
    rig.wait_for(&lost, "enroute").await;
    let other = rig.submit(sms(HANDSET, "hello")).await;
    rig.wait_for(&other, "delivered").await;
    let message = rig.message(&lost).await;
    assert_eq!(message["status"], "enroute");
    assert_eq!(message["receipts"][0]["status"], "enroute");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undeliverable_message_says_why() {
    let rig = start(vec![ruled("447700900999=UNDELIV:027")], "").await;
    let id = rig.submit(sms("+447700900999", "hello")).await;
    let message = rig.wait_for(&id, "undeliverable").await;
    assert_eq!(message["receipts"][0]["error"], "027");
    assert_eq!(message["reason"], "receipt");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_gives_one_message_and_the_same_answer() {
    let rig = good("").await;
    let submit = async |key: &str, body: &Value| {
        let headers = [("authorization", &*bearer(KEY)), ("idempotency-key", key)];
        let body = Some(body.to_string().into_bytes());
        let (status, headers, body) = http(&rig.address, "POST", "/v1/messages", body, &headers)
            .await
            .expect("an answer");
        let replayed = headers.contains_key("idempotency-replayed");
        (
            status,
            replayed,
            serde_json::from_slice::<Value>(&body).expect("JSON"),
        )
    };
    let body = sms(HANDSET, "once");
    let (status, replayed, first) = submit("order-1", &body).await;
    assert_eq!((status, replayed), (202, false), "{first}");
    let id = first["id"].as_str().expect("an id").to_owned();
    rig.wait_for(&id, "delivered").await;
    let (status, replayed, again) = submit("order-1", &body).await;
    assert_eq!((status, replayed), (202, true), "{again}");
    assert_eq!(again["id"], first["id"]);
    let (status, _, problem) = submit("order-1", &sms(HANDSET, "twice")).await;
    assert_eq!(
        (status, &problem["code"]),
        (422, &json!("idempotency_mismatch"))
    );

    // At once: one is worked on, the others wait or get its answer.
    let race = || submit("order-2", &body);
    let (a, b, c, d) = tokio::join!(race(), race(), race(), race());
    let mut ids = BTreeSet::new();
    for answer in [a, b, c, d] {
        match answer {
            (202, _, message) => ids.extend(message["id"].as_str().map(str::to_owned)),
            (status, _, problem) => assert_eq!(
                (status, &problem["code"]),
                (409, &json!("idempotency_running"))
            ),
        }
    }
    assert_eq!(ids.len(), 1);
    rig.wait_for(ids.first().expect("an id"), "delivered").await;
    assert_eq!(rig.simulators[0].counters().accepted, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_and_paged_newest_first() {
    let rig = start(vec![ruled("447700900999=UNDELIV:001")], "").await;
    let mut sent = Vec::new();
    for n in 0..7 {
        let mut body = sms(HANDSET, &format!("message {n}"));
        body["class"] = json!(if n % 2 == 0 { "otp" } else { "alert" });
        sent.push(rig.submit(body).await);
    }
    let bad = rig.submit(sms("+447700900999", "hello")).await;
    rig.wait_for_all(&sent, "delivered").await;
    let message = rig.wait_for(&bad, "undeliverable").await;

    let ids = async |query: &str| -> Vec<String> {
        let items = rig.items(&format!("/v1/messages?{query}")).await;
        items
            .iter()
            .map(|i| i["id"].as_str().expect("an id").to_owned())
            .collect()
    };
    let just_bad = std::slice::from_ref(&bad);
    let newest_first: Vec<String> = sent.iter().rev().cloned().collect();
    assert_eq!(ids("status=delivered").await, newest_first);
    assert_eq!(ids("status=undeliverable").await, just_bad);
    assert_eq!(ids("to=%2B447700900999").await, just_bad);
    assert_eq!(ids("class=otp&from=60777").await.len(), 4);
    let at = message["accepted_at"].as_str().expect("a time");
    assert_eq!(ids(&format!("since={at}")).await, just_bad);
    assert_eq!(ids(&format!("until={at}")).await, newest_first);
    assert!(ids("account=other").await.is_empty());

    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for _ in 0..3 {
        let (status, page) = rig
            .call("GET", &format!("/v1/messages?limit=3{cursor}"), None)
            .await;
        assert_eq!(status, 200, "{page}");
        seen.extend(
            page["items"]
                .as_array()
                .expect("items")
                .iter()
                .map(|i| i["id"].as_str().expect("an id").to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let all: Vec<String> = std::iter::once(bad).chain(newest_first).collect();
    assert_eq!(seen, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_tells_everything_and_stores_nothing() {
    let policy = r#"
        [tables.rates]
        file = "rates.csv"
        [[plugin]]
        name = "filter"
        path = "{plugins}/content-filter.wasm"
        [[plugin.config.rules]]
        name = "language"
        kind = "words"
        words = ["damn"]
        action = "replace"
        [[plugin]]
        name = "router"
        path = "{plugins}/least-cost-router.wasm"
        grants = { tables = ["rates"] }
        config = { deck = "rates" }
    "#;
    let rig = Rig::start(Plan {
        simulators: vec![Settings::default(), Settings::default()],
        policy: policy.to_owned(),
        files: vec![(
            "rates.csv".to_owned(),
            b"44,sim0=9000\n4477,sim1=4200\n".to_vec(),
        )],
        ..Plan::default()
    })
    .await;
    let text = format!("damn {}", "x".repeat(200));
    let (status, preview) = rig
        .call("POST", "/v1/messages/preview", Some(sms(HANDSET, &text)))
        .await;
    assert_eq!(status, 200, "{preview}");
    assert_eq!(
        (&preview["outcome"], &preview["country"]),
        (&json!("send"), &json!("GB"))
    );
    assert_eq!(
        (&preview["segments"], &preview["encoding"]),
        (&json!(2), &json!("gsm7"))
    );
    assert_eq!(preview["text"], json!(text.replace("damn", "****")));
    assert_eq!(preview["route"]["hops"][0]["carrier"], "sim1");
    assert_eq!(preview["price_micros"], 8400);
    assert_eq!(preview["decisions"][0]["phase"], "preview");
    assert_eq!(calls(&preview), ["filter replace", "router send"]);
    assert!(rig.items("/v1/messages").await.is_empty());
    let submits: u64 = rig.simulators.iter().map(|s| s.counters().submits).sum();
    assert_eq!(submits, 0);
}
