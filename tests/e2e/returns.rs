//! What comes back decides: forms of ids are learned and shown, failed messages go to the next
//! carrier, contradictions are history, receipts without a message wait in sight of the operator.

use heliograph::carrier::simulator::{IdStyle, Rule, Settings};
use heliograph_tests::{Plan, Rig, eventually, sms};
use serde_json::{Value, json};

const REROUTE: &str = r#"
    default_route = ["sim0", "sim1"]
    [reroute]
    on = ["undeliverable", "rejected"]
    errors = ["34"]
"#;

fn rules(rules: &[&str]) -> Settings {
    let rules = rules.iter().map(|r| r.parse::<Rule>().expect("a rule"));
    Settings {
        rules: rules.collect(),
        ..Settings::default()
    }
}

fn reasons(message: &Value) -> Vec<&str> {
    let events = message["events"].as_array().into_iter().flatten();
    events.filter_map(|e| e["reason"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_a_receipt_says_failed_goes_to_the_next_carrier_where_policy_says_so() {
    let rig = Rig::start(Plan {
        simulators: vec![
            rules(&["4477001=UNDELIV:034", "4477002=UNDELIV:069"]),
            rules(&["44770019=UNDELIV:034"]),
        ],
        policy: REROUTE.to_owned(),
        webhooks: true,
        ..Plan::default()
    })
    .await;
    let long = "a long text ".repeat(20);
    let saved = rig.submit(sms("+447700100001", &long)).await;
    let lost = rig.submit(sms("+447700190001", "hello")).await;
    let other_code = rig.submit(sms("+447700200001", "hello")).await;

    let message = rig.wait_for(&saved, "delivered").await;
    assert_eq!(message["receipts"][0]["carrier"], "sim1");
    assert_eq!(message["receipts"].as_array().map(Vec::len), Some(2));
    let failed = &message["failed_deliveries"][0];
    assert_eq!(failed["carrier"], "sim0");
    assert_eq!(failed["receipts"][1]["error"], "034");
    assert_eq!(message["attempts"][0]["outcome"], "undelivered");
    assert!(
        reasons(&message).contains(&"rerouted_by_receipt"),
        "{message:#}"
    );

    let message = rig.wait_for(&lost, "undeliverable").await;
    assert_eq!(
        message["attempts"].as_array().map(Vec::len),
        Some(2),
        "no more than once"
    );
    let message = rig.wait_for(&other_code, "undeliverable").await;
    assert!(message.get("failed_deliveries").is_none(), "{message:#}");

    // The client hears the end and nothing of the way there.
    let hooks = eventually("three ends", async || {
        let hooks = rig.webhooks.received();
        (hooks.len() >= 3).then_some(hooks)
    })
    .await;
    let about = |id: &str| {
        let about = hooks.iter().filter(|h| h.json()["data"]["id"] == id);
        about.map(|h| h.json()["type"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(about(&saved), [json!("message.delivered")]);
    assert_eq!(about(&lost), [json!("message.undeliverable")]);
    assert_eq!(rig.taken(1).len(), 3, "two segments and one");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_form_of_a_carriers_ids_is_learned_shown_and_kept() {
    let mut rig = Rig::start(Plan {
        simulators: vec![Settings {
            id_response: IdStyle::HexUpper,
            id_receipt: IdStyle::Decimal,
            receipt_delay_ms: 0,
            ..Settings::default()
        }],
        ..Plan::default()
    })
    .await;
    let mut ids = Vec::new();
    for n in 0..110 {
        ids.push(rig.submit(sms(&format!("+4477009{n:05}"), "hello")).await);
    }
    rig.wait_for_all(&ids, "delivered").await;
    let form = async |rig: &Rig| rig.items("/v1/carriers").await[0]["receipts"].clone();
    let shown = form(&rig).await;
    assert_eq!(
        (&shown["id_form"], &shown["id_form_is"]),
        (&json!("hex_in_response"), &json!("learned")),
        "{shown:#}"
    );
    assert_eq!(shown["counts"]["matched"], 110);
    let key = heliograph_tests::ADMIN_KEY;
    let url = format!("http://{}", rig.address);
    let (code, out, error) = rig
        .run(&["carriers", "list", "--url", &url, "--key", key])
        .await;
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("hex_in_response (learned)"), "{out}");

    assert!(rig.terminate().await.success());
    rig.launch().await;
    assert_eq!(form(&rig).await["id_form_is"], "learned");
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_that_meet_no_message_wait_in_sight_of_the_operator() {
    let rig = Rig::start(Plan::default()).await;
    let receipt = heliograph::carrier::simulator::Mo {
        from: "447700900123".to_owned(),
        to: "60777".to_owned(),
        text: "id:4711 sub:001 dlvrd:000 done date:2403151022 stat:UNDELIV err:021 text:"
            .to_owned(),
        esm_class: 0x04,
        ..Default::default()
    };
    rig.text_in(&receipt).await;
    let orphan = eventually("an orphan", async || {
        rig.items("/v1/receipts/orphans?carrier=sim0").await.pop()
    })
    .await;
    assert_eq!(
        (
            &orphan["carrier_message_id"],
            &orphan["status"],
            &orphan["error"]
        ),
        (&json!("4711"), &json!("undeliverable"), &json!("021"))
    );
    let (status, _) = rig.call("GET", "/v1/receipts/orphans", None).await;
    assert_eq!(status, 403, "the operator's");
}
