//! Policy sets: swapped under load, refused whole, rolled back, kept over a restart.

use std::collections::BTreeMap;

use heliograph_tests::guests::{FREE, Guest, ZERO, words};
use heliograph_tests::{Plan, Rig, Traffic, eventually, sms};
use serde_json::{Value, json};

const HANDSET: &str = "+447700900123";
const SWAPS: usize = 50;

/// Its configuration, such as `{"on":"07"}`.
const MARK_SCHEMA: &str = r#"{"type":"object","required":["on"],"additionalProperties":false,
    "properties":{"on":{"type":"string","minLength":1}}}"#;

/// A routing policy that sends everything to `sim0` and gives the two octets of its configuration
/// as the reason.
fn marking_router() -> Guest {
    let (hop, carrier, mark) = (FREE + 32, FREE + 88, FREE + 92);
    // send(plan): case at 0, the plan at 8: its hops and its reason.
    let mut data = words(&[0, 0, hop, 1, mark, 2, 0, 0]);
    // hop: carrier, no originator, no price, no tlvs; 56 octets.
    data.extend(words(&[carrier, 4]));
    data.extend([0; 48]);
    data.extend(b"sim000");
    Guest {
        hooks: vec![("routing-policy", "route", format!("(i32.const {FREE})"))],
        schema: MARK_SCHEMA,
        configure: format!(
            "(i32.store16 (i32.const {mark}) (i32.load16_u offset=7 (local.get $config))) (i32.const {ZERO})"
        ),
        data,
        ..Guest::default()
    }
}

/// A set whose filter and whose router leave the same mark: in the text, and as the reason.
fn marked(mark: &str) -> String {
    format!(
        r#"
        [[plugin]]
        name = "filter"
        path = "{{plugins}}/content-filter.wasm"
        [[plugin.config.rules]]
        name = "mark"
        kind = "words"
        words = ["unmarked"]
        action = "replace"
        replacement = "mark {mark}"
        reason = "{mark}"
        [[plugin]]
        name = "router"
        path = "{{dir}}/router.wasm"
        config = {{ on = "{mark}" }}
        "#
    )
}

async fn start(policy: &str, more: Vec<(String, Vec<u8>)>) -> Rig {
    let router = ("router.wasm".to_owned(), marking_router().build());
    Rig::start(Plan {
        policy: policy.to_owned(),
        files: std::iter::once(router).chain(more).collect(),
        ..Plan::default()
    })
    .await
}

/// The set in force and the mark of its router.
async fn in_force(rig: &Rig) -> (String, String) {
    let (status, answer) = rig.admin("GET", "/v1/policy", None).await;
    assert_eq!(status, 200, "{answer}");
    let plugins = answer["policy"]["plugin"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let router = plugins.iter().find(|p| p["name"] == "router");
    let mark = router.map_or(String::new(), |r| text(&r["config"]["on"]));
    (text(&answer["id"]), mark)
}

async fn mark_in_force(rig: &Rig, mark: &str) {
    eventually("the policy is in force", async || {
        (in_force(rig).await.1 == mark).then_some(())
    })
    .await;
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_swaps_under_load_lose_nothing_double_nothing_and_mix_no_sets() {
    let rig = start(&marked("00"), Vec::new()).await;
    let traffic = Traffic::start(&rig, 4, |n| sms(HANDSET, &format!("unmarked message {n}")));
    for swap in 1..=SWAPS {
        let mark = format!("{swap:02}");
        let before = traffic.begun();
        if swap % 2 == 0 {
            rig.write_policy(&marked(&mark));
        } else {
            let (status, answer) = rig.put_policy(&marked(&mark)).await;
            assert_eq!(
                (status, &answer["changed"]),
                (200, &json!(true)),
                "{answer}"
            );
        }
        mark_in_force(&rig, &mark).await;
        eventually("traffic flows", async || {
            (traffic.begun() > before + 8).then_some(())
        })
        .await;
    }
    let sent = traffic.stop().await;
    assert!(
        sent.refused.is_empty() && sent.unanswered.is_empty(),
        "{:?} {:?}",
        sent.refused,
        sent.unanswered
    );
    rig.wait_for_all(&sent.accepted, "delivered").await;
    let counters = rig.simulators[0].counters();
    let accepted = sent.accepted.len() as u64;
    assert_eq!((counters.unique, counters.duplicated), (accepted, 0));

    let marks: BTreeMap<String, String> = rig
        .items("/v1/policy/history")
        .await
        .iter()
        .map(|e| {
            (
                text(&e["set"]),
                text(&e["policy"]["plugin"][1]["config"]["on"]),
            )
        })
        .collect();
    assert_eq!(marks.len(), SWAPS + 1);
    let mut used = std::collections::BTreeSet::new();
    for id in &sent.accepted {
        let message = rig.message(id).await;
        let decisions = message["decisions"].as_array().expect("decisions");
        for decision in decisions {
            let mark = &marks[&text(&decision["policy_set"])];
            let calls = decision["calls"].as_array().expect("calls");
            assert_eq!(calls.len(), 2, "{message:#}");
            // Every decision starts from what the client sent, and is one set's alone.
            assert_eq!(text(&calls[0]["why"]), *mark, "{message:#}");
            assert_eq!(text(&calls[1]["why"]), *mark, "{message:#}");
        }
        let last = &marks[&text(&decisions[decisions.len() - 1]["policy_set"])];
        assert_eq!(text(&message["route"]["reason"]), *last, "{message:#}");
        assert!(
            text(&message["text"]).starts_with(&format!("mark {last} ")),
            "{message:#}"
        );
        used.insert(last.clone());
    }
    assert!(
        used.len() > SWAPS / 2,
        "only {} sets decided anything",
        used.len()
    );
}

/// A policy of one plugin, `file`, with more lines of its entry.
fn only(file: &str, lines: &str) -> String {
    format!("[[plugin]]\nname = \"it\"\npath = \"{{dir}}/{file}\"\n{lines}\n")
}

/// Components that no policy may use, by file.
fn unusable() -> Vec<(String, Vec<u8>)> {
    let complaint = b"the mark is not allowed";
    let mut data = words(&[1, FREE + 12, u32::try_from(complaint.len()).expect("short")]);
    data.extend(complaint);
    let complaining = Guest {
        configure: format!("(i32.const {FREE})"),
        data,
        ..Guest::default()
    };
    let calling = Guest {
        imports: r#"(import "heliograph:sms/http@0.1.0" "send"
            (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#,
        ..Guest::default()
    };
    let other_version = Guest {
        contract: "0.9.0",
        ..Guest::default()
    };
    let strict = Guest {
        schema: MARK_SCHEMA,
        ..Guest::default()
    };
    vec![
        ("complaining.wasm".to_owned(), complaining.build()),
        ("calling.wasm".to_owned(), calling.build()),
        ("version.wasm".to_owned(), other_version.build()),
        ("strict.wasm".to_owned(), strict.build()),
        ("garbage.wasm".to_owned(), b"this is no component".to_vec()),
        ("module.wasm".to_owned(), b"\0asm\x01\0\0\0".to_vec()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_policy_is_refused_whole_with_its_place_and_reason_and_the_running_one_stays() {
    let rig = start(&marked("00"), unusable()).await;
    let (set, _) = in_force(&rig).await;
    // The policy; where the error points; what its words say.
    let cases: [(String, &str, &[&str]); 10] = [
        (
            "default_route = []\n[[plugin]\n".to_owned(),
            "",
            &["line 2"],
        ),
        (only("strict.wasm", "limit = {}"), "", &["line 4", "limit"]),
        (only("calling.wasm", ""), "/plugin/0", &["http"]),
        (
            only("strict.wasm", "config = { on = 5 }"),
            "/plugin/0/config/on",
            &["string"],
        ),
        (
            only("strict.wasm", "config = { on = \"1\", off = 1 }"),
            "/plugin/0/config",
            &["off"],
        ),
        (only("missing.wasm", ""), "/plugin/0", &["missing.wasm"]),
        (only("garbage.wasm", ""), "/plugin/0", &["component"]),
        (only("module.wasm", ""), "/plugin/0", &["component"]),
        (only("version.wasm", ""), "/plugin/0", &["0.9.0"]),
        (
            only("complaining.wasm", ""),
            "/plugin/0",
            &["the mark is not allowed"],
        ),
    ];
    for (policy, pointer, words) in &cases {
        let good_then_bad = if policy.contains("[[plugin]]") {
            // Half a good policy does not get in with a bad half.
            format!("{policy}{}", marked("99"))
        } else {
            policy.clone()
        };
        let (status, problem) = rig.put_policy(&good_then_bad).await;
        assert_eq!(
            (status, &problem["code"]),
            (422, &json!("invalid_policy")),
            "{policy}\n{problem}"
        );
        let error = &problem["errors"][0];
        assert!(
            text(&error["pointer"]).starts_with(pointer),
            "{policy}\n{problem}"
        );
        for word in *words {
            assert!(
                text(&error["detail"]).contains(word),
                "{word} is missing:\n{policy}\n{problem}"
            );
        }
        assert_eq!(in_force(&rig).await.0, set);
    }
    let (status, problem) = rig.put_policy("default_route = [\"nobody\"]").await;
    assert_eq!(
        (status, &problem["errors"][0]["pointer"]),
        (422, &json!("/default_route/0")),
        "{problem}"
    );

    // The same edits of the file: refused in the log, and the running set stays.
    rig.write_policy(&cases[1].0);
    eventually("the edit is refused in the log", async || {
        rig.log().contains("line 4").then_some(())
    })
    .await;
    assert_eq!(in_force(&rig).await.0, set);
    let id = rig.submit(sms(HANDSET, "hello")).await;
    let message = rig.wait_for(&id, "delivered").await;
    assert_eq!(text(&message["decisions"][0]["policy_set"]), set);
    assert_eq!(rig.items("/v1/policy/history").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_rolled_back_and_the_history_tells_all() {
    let rig = start(&marked("01"), Vec::new()).await;
    let (first, _) = in_force(&rig).await;
    for mark in ["02", "03"] {
        let (status, answer) = rig.put_policy(&marked(mark)).await;
        assert_eq!(status, 200, "{answer}");
    }
    let (status, answer) = rig.put_policy(&marked("03")).await;
    assert_eq!(
        (status, &answer["changed"]),
        (200, &json!(false)),
        "{answer}"
    );

    let (status, answer) = rig.admin("POST", "/v1/policy/rollback", None).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(in_force(&rig).await.1, "02");
    let (status, answer) = rig
        .admin("POST", &format!("/v1/policy/rollback?set={first}"), None)
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(in_force(&rig).await, (first.clone(), "01".to_owned()));
    let (status, problem) = rig.admin("POST", "/v1/policy/rollback?set=00", None).await;
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")));

    let history = rig.items("/v1/policy/history").await;
    let marks: Vec<_> = history
        .iter()
        .map(|e| text(&e["policy"]["plugin"][1]["config"]["on"]))
        .collect();
    assert_eq!(marks, ["01", "02", "03", "02", "01"]);
    let by: Vec<_> = history.iter().map(|e| text(&e["by"])).collect();
    assert!(
        by[0].starts_with("rollback") && by[2].starts_with("api") && by[4] == "file",
        "{by:?}"
    );

    let id = rig.submit(sms(HANDSET, "hello")).await;
    let message = rig.wait_for(&id, "delivered").await;
    assert_eq!(text(&message["decisions"][0]["policy_set"]), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_in_force_survives_a_restart_without_its_files() {
    let mut rig = Rig::start(Plan {
        policy_file: false,
        files: vec![("router.wasm".to_owned(), marking_router().build())],
        ..Plan::default()
    })
    .await;
    let (status, answer) = rig.put_policy(&marked("07")).await;
    assert_eq!(status, 200, "{answer}");
    let before = in_force(&rig).await;
    std::fs::remove_file(rig.dir.path().join("router.wasm")).expect("removed");
    rig.kill().await;
    rig.launch().await;
    assert_eq!(in_force(&rig).await, before);
    let id = rig.submit(sms(HANDSET, "unmarked")).await;
    let message = rig.wait_for(&id, "delivered").await;
    assert_eq!(
        (&message["text"], &message["route"]["reason"]),
        (&json!("mark 07"), &json!("07"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_spoiled_policy_file_goes_on_with_the_policy_before() {
    let mut rig = start(&marked("07"), Vec::new()).await;
    let before = in_force(&rig).await;
    rig.kill().await;
    rig.write_policy("[[plugin]\n");
    rig.launch().await;
    assert_eq!(in_force(&rig).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_component_is_used_by_its_digest() {
    let rig = start("", Vec::new()).await;
    let headers = [
        (
            "authorization",
            &*heliograph_tests::bearer(heliograph_tests::ADMIN_KEY),
        ),
        ("content-type", "application/wasm"),
    ];
    let stage = async |bytes: Vec<u8>| {
        rig.try_call("POST", "/v1/plugins", Some(bytes), &headers)
            .await
            .expect("an answer")
    };
    let (status, staged) = stage(marking_router().build()).await;
    assert_eq!(status, 201, "{staged}");
    assert_eq!(
        (&staged["name"], &staged["hooks"]),
        (&json!("guest"), &json!(["routing-policy"]))
    );
    assert_eq!(staged["config_schema"]["required"], json!(["on"]));
    let digest = text(&staged["digest"]);
    assert_eq!(text(&rig.items("/v1/plugins").await[0]["digest"]), digest);

    let policy =
        json!({ "plugin": [{ "name": "router", "digest": digest, "config": { "on": "42" } }] });
    let (status, answer) = rig.admin("PUT", "/v1/policy", Some(policy)).await;
    assert_eq!(status, 200, "{answer}");
    let id = rig.submit(sms(HANDSET, "hello")).await;
    assert_eq!(
        rig.wait_for(&id, "delivered").await["route"]["reason"],
        "42"
    );

    let (status, problem) = stage(b"this is no component".to_vec()).await;
    assert_eq!(
        (status, &problem["code"]),
        (422, &json!("invalid_plugin")),
        "{problem}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_of_the_api_stays_until_its_file_changes_or_sighup_reads_it_again() {
    let rig = start(&marked("01"), Vec::new()).await;
    let (status, answer) = rig.put_policy(&marked("02")).await;
    assert_eq!(status, 200, "{answer}");
    // Other files of the same folder are no reason to read the policy again.
    std::fs::write(rig.dir.path().join("notes.txt"), "unrelated").expect("written");
    let (status, answer) = rig.put_policy(&marked("03")).await;
    assert_eq!(status, 200, "{answer}");
    rig.signal("-HUP").await;
    mark_in_force(&rig, "01").await;
    let by: Vec<_> = rig
        .items("/v1/policy/history")
        .await
        .iter()
        .map(|e| text(&e["by"]))
        .collect();
    assert_eq!(by.iter().filter(|b| *b == "file").count(), 2, "{by:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_replaced_in_place_comes_into_force() {
    let rig = start(&marked("01"), Vec::new()).await;
    let (before, _) = in_force(&rig).await;
    let other = Guest {
        data: [marking_router().data, b"another build".to_vec()].concat(),
        ..marking_router()
    };
    let new = rig.dir.path().join("router.wasm.new");
    std::fs::write(&new, other.build()).expect("written");
    std::fs::rename(new, rig.dir.path().join("router.wasm")).expect("renamed");
    eventually("another set is in force", async || {
        (in_force(&rig).await.0 != before).then_some(())
    })
    .await;
    let id = rig.submit(sms(HANDSET, "unmarked")).await;
    assert_eq!(
        rig.wait_for(&id, "delivered").await["route"]["reason"],
        "01"
    );
}
