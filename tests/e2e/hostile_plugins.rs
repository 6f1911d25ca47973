//! Plugins that trap, loop and eat memory at some messages: each costs its own call, follows its
//! fail mode, and all other traffic goes on.

use heliograph_tests::guests::{Guest, KEEP_MARK, ROUTE_PASS, ZERO, on_mark};
use heliograph_tests::{Plan, Rig, Traffic, sms};
use serde_json::{Value, json};

const HANDSET: &str = "+447700900123";

/// The same component three times: it misbehaves at texts that begin with the entry's mark.
const POLICY: &str = r#"
    default_route = ["sim0"]
    [[plugin]]
    name = "closed"
    path = "{dir}/hostile.wasm"
    hooks = ["content-filter"]
    fail = "closed"
    config = { on = "!" }
    [[plugin]]
    name = "open"
    path = "{dir}/hostile.wasm"
    hooks = ["content-filter"]
    fail = "open"
    config = { on = "?" }
    [[plugin]]
    name = "router"
    path = "{dir}/hostile.wasm"
    hooks = ["routing-policy"]
    fail = "default"
    config = { on = "%" }
"#;

/// Misbehaves as `then` says.
fn hostile(then: &str) -> Guest {
    Guest {
        hooks: vec![
            ("content-filter", "inspect", on_mark(then, ZERO)),
            ("routing-policy", "route", on_mark(then, ROUTE_PASS)),
        ],
        configure: KEEP_MARK.to_owned(),
        ..Guest::default()
    }
}

/// The call of the entry `name` in the first decision.
fn call<'a>(message: &'a Value, name: &str) -> &'a Value {
    let calls = message["decisions"][0]["calls"].as_array().expect("calls");
    calls
        .iter()
        .find(|c| c["name"] == name)
        .unwrap_or_else(|| panic!("no call of {name}: {message:#}"))
}

/// `fault` is what the trace says of the misbehaviour.
async fn others_go_on(then: &str, fault: &str) {
    let mut rig = Rig::start(Plan {
        policy: POLICY.to_owned(),
        files: vec![("hostile.wasm".to_owned(), hostile(then).build())],
        ..Plan::default()
    })
    .await;
    let (_, before) = rig.call("GET", "/healthz", None).await;
    let traffic = Traffic::start(&rig, 3, |n| sms(HANDSET, &format!("harmless {n}")));
    let mut faulty = Vec::new();
    // Few enough that the breaker (five faults among the last twenty calls) stays closed however
    // slowly the other traffic goes, the retries of what is held included.
    for round in 0..2 {
        for mark in ["!", "?", "%"] {
            faulty.push((
                mark,
                rig.submit(sms(HANDSET, &format!("{mark} {round}"))).await,
            ));
        }
    }
    for (mark, id) in &faulty {
        match *mark {
            "!" => {
                let message = rig.wait_for(id, "held").await;
                assert_eq!(message["reason"], "policy_unavailable");
                assert_eq!(call(&message, "closed")["outcome"], "fault");
                let why = call(&message, "closed")["why"].as_str().unwrap_or_default();
                assert!(why.contains(fault), "{why}");
            }
            "?" => {
                let message = rig.wait_for(id, "delivered").await;
                assert_eq!(call(&message, "open")["outcome"], "fault");
                assert_eq!(call(&message, "router")["outcome"], "pass");
            }
            _ => {
                let message = rig.wait_for(id, "delivered").await;
                assert_eq!(call(&message, "router")["outcome"], "fault");
                assert_eq!(message["route"]["reason"], "default route");
            }
        }
    }
    let sent = traffic.stop().await;
    assert!(
        sent.refused.is_empty() && sent.unanswered.is_empty(),
        "{:?} {:?}",
        sent.refused,
        sent.unanswered
    );
    assert!(
        sent.accepted.len() > 20,
        "only {} others",
        sent.accepted.len()
    );
    rig.wait_for_all(&sent.accepted, "delivered").await;
    for id in &sent.accepted {
        let message = rig.message(id).await;
        for name in ["closed", "open", "router"] {
            assert_eq!(call(&message, name)["outcome"], "pass", "{message:#}");
        }
    }
    let (_, after) = rig.call("GET", "/healthz", None).await;
    assert!(rig.is_running());
    assert!(after["uptime_seconds"].as_u64() >= before["uptime_seconds"].as_u64());
    let (_, policy) = rig.admin("GET", "/v1/policy", None).await;
    let plugins = policy["plugins"].as_array().expect("plugins");
    let breakers: Vec<_> = plugins
        .iter()
        .map(|p| &p["hooks"][0]["stats"]["breaker"])
        .collect();
    assert_eq!(breakers, [&json!("closed"); 3], "{policy:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trapping_plugin_costs_its_own_call_alone() {
    others_go_on("(unreachable)", "unreachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_looping_plugin_ends_at_its_deadline() {
    others_go_on("(loop $l (br $l))", "deadline_ms = 10").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_eats_memory_ends_at_its_limit() {
    let eating =
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";
    others_go_on(eating, "memory").await;
}
