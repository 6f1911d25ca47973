//! Plugins of accounts' own: asked about their account's traffic alone, and held to its quota.

use heliograph_tests::guests::{FREE, Guest, words};
use heliograph_tests::{KEY, OTHER_KEY, Plan, Rig, eventually, sms};
use serde_json::{Value, json};

const HANDSET: &str = "+447700900123";

async fn rig(policy: &str, guest: Guest) -> Rig {
    Rig::start(Plan {
        policy: policy.to_owned(),
        files: vec![("own.wasm".to_owned(), guest.build())],
        ..Plan::default()
    })
    .await
}

async fn submit(rig: &Rig, key: &str, text: &str) -> (u16, Value) {
    let mut body = sms(HANDSET, text);
    if key == OTHER_KEY {
        body["from"] = json!("Other");
    }
    rig.call_as(key, "POST", "/v1/messages", Some(body)).await
}

async fn state(rig: &Rig, key: &str, answer: &Value) -> Value {
    let id = answer["id"].as_str().expect("an id");
    let path = format!("/v1/messages/{id}");
    rig.call_as(key, "GET", &path, None).await.1
}

async fn wait_for(rig: &Rig, key: &str, answer: &Value, wanted: &str) -> Value {
    eventually(wanted, async || {
        let message = state(rig, key, answer).await;
        (message["status"] == wanted).then_some(message)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accounts_own_filter_sees_its_own_messages_alone() {
    // Refuses everything it is shown, with the code and the reason `guest`.
    let refusing = Guest {
        hooks: vec![("content-filter", "inspect", format!("(i32.const {FREE})"))],
        data: words(&[2, 1024, 5, 1024, 5]),
        ..Guest::default()
    };
    let policy = r#"
        default_route = ["sim0"]
        [[plugin]]
        name = "own"
        path = "{dir}/own.wasm"
        accounts = ["acme"]
    "#;
    let rig = rig(policy, refusing).await;
    let (status, refused) = submit(&rig, KEY, "mine").await;
    assert_eq!(status, 422, "{refused:#}");
    let (status, taken) = submit(&rig, OTHER_KEY, "theirs").await;
    assert_eq!(status, 202, "{taken:#}");
    let message = wait_for(&rig, OTHER_KEY, &taken, "delivered").await;
    let calls = message["decisions"][0]["calls"].as_array().expect("calls");
    assert!(calls.iter().all(|c| c["name"] != "own"), "{message:#}");
    let (_, policy) = rig.admin("GET", "/v1/policy", None).await;
    let own = &policy["plugins"][0]["hooks"][0]["accounts"][0];
    assert_eq!(own["account"], "acme");
    assert_eq!(own["calls"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_over_its_quota_waits_and_the_others_do_not() {
    // Works for some milliseconds, then passes: nothing that a breaker would see.
    let busy = Guest {
        hooks: vec![(
            "content-filter",
            "inspect",
            "(global.set $mark (i32.const 20000000))
             (loop $l (global.set $mark (i32.sub (global.get $mark) (i32.const 1))) (br_if $l (global.get $mark)))
             (i32.const 2048)"
                .to_owned(),
        )],
        ..Guest::default()
    };
    let policy = r#"
        default_route = ["sim0"]
        [accounts.acme]
        cpu_ms_per_s = 1
        cpu_burst_ms = 1
        [[plugin]]
        name = "own"
        path = "{dir}/own.wasm"
        accounts = ["acme"]
        limits = { deadline_ms = 100 }
    "#;
    let rig = rig(policy, busy).await;
    let (status, first) = submit(&rig, KEY, "one").await;
    assert_eq!(status, 202, "{first:#}");
    let (status, second) = submit(&rig, KEY, "two").await;
    assert_eq!(status, 202, "{second:#}");
    let held = state(&rig, KEY, &second).await;
    assert_eq!(held["reason"], "policy_unavailable", "{held:#}");
    let call = &held["decisions"][0]["calls"][0];
    assert_eq!(call["outcome"], "skipped");
    let why = call["why"].as_str().unwrap_or_default();
    assert!(why.contains("cpu_ms_per_s = 1"), "{why}");
    for n in 0..5 {
        let (status, taken) = submit(&rig, OTHER_KEY, &format!("theirs {n}")).await;
        assert_eq!(status, 202, "{taken:#}");
        wait_for(&rig, OTHER_KEY, &taken, "delivered").await;
    }
    let told = eventually("an event", async || {
        let all = rig.items("/v1/events?format=json").await;
        all.into_iter().find(|e| e["type"] == "quota.exceeded")
    })
    .await;
    assert_eq!(told["subject"], "acme");
    let (_, policy) = rig.admin("GET", "/v1/policy", None).await;
    assert_eq!(policy["usage"][0]["account"], "acme");
    assert!(
        policy["usage"][0]["refused"].as_u64() >= Some(1),
        "{policy:#}"
    );
}
