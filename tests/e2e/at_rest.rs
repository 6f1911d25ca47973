//! Keys of encryption at rest and the audit log, at a running server. What is on disk, and changes of keys, are
//! statement 10's (`tests/prove/at_rest.rs`).

use heliograph_tests::{ADMIN_KEY, KEY, Plan, Rig, eventually, run_in};
use serde_json::{Value, json};

const NUMBER: &str = "447700900123";
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_none_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    for (keys, named) in [
        (
            "[{ id = \"a\", key = \"literal:short\" }]",
            "store.encryption.keys[0] (a): is no key",
        ),
        (
            "[{ id = \"a\", key = \"env:NOT_SET_ANYWHERE\" }]",
            "NOT_SET_ANYWHERE",
        ),
        (
            "[{ id = \"a b\", key = \"literal:x\" }]",
            "store.encryption.keys[0].id",
        ),
    ] {
        let text = format!("[store.encryption]\nkeys = {keys}\n");
        std::fs::write(folder.path().join("heliograph.toml"), text).expect("a file");
        let (code, _, error) = run_in(folder.path(), &["check"]).await;
        assert_eq!(code, Some(1));
        assert!(error.contains(named), "{error}");
        assert!(!error.contains("short"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acts_are_noted_in_a_chain_that_cannot_be_touched() {
    let mut rig = Rig::start(Plan::default()).await;
    let (status, _) = rig.put_policy("default_route = [\"sim0\"]\n").await;
    assert_eq!(status, 200);
    let (status, _) = rig.put_policy("default_route = [\"nowhere\"]\n").await;
    assert_eq!(status, 422);
    let wish = json!({ "recipient": format!("+{NUMBER}"), "scope": "everything" });
    assert_eq!(
        rig.admin("PUT", "/v1/opt-outs", Some(wish.clone())).await.0,
        200
    );
    assert_eq!(rig.call("DELETE", "/v1/opt-outs", Some(wish)).await.0, 403);
    let path = format!("/v1/numbers/+{NUMBER}/data");
    assert_eq!(rig.admin("DELETE", &path, None).await.0, 200);
    assert_eq!(rig.admin("DELETE", "/v1/binds/7", None).await.0, 404);
    assert_eq!(rig.call("GET", "/v1/audit", None).await.0, 403);

    // What the server does by itself is noted in its own time.
    let items = eventually("the server's own acts", async || {
        let items = rig.items("/v1/audit").await;
        let own = |action: &str| {
            items
                .iter()
                .any(|i| i["by"] == "server" && i["action"] == action)
        };
        (own("policy.activated") && own("policy.refused")).then_some(items)
    })
    .await;
    let acts: Vec<(&str, &str)> = items
        .iter()
        .filter(|i| i["by"] != "server")
        .map(|i| {
            (
                i["action"].as_str().unwrap_or(""),
                i["outcome"].as_str().unwrap_or(""),
            )
        })
        .collect();
    let expected = [
        ("bind.unbind", "not_found"),
        ("number.forget", "done"),
        ("opt_out.set", "done"),
        ("policy.apply", "invalid_policy"),
        ("policy.apply", "done"),
    ];
    assert_eq!(acts, expected, "{items:#?}");
    assert!(
        items
            .iter()
            .any(|i| i["by"] == "server" && i["action"] == "policy.activated")
    );
    let by = |i: &Value| i["by"].as_str().unwrap_or("").starts_with("acme (key ");
    assert_eq!(items.iter().filter(|i| by(i)).count(), expected.len());
    let (status, page) = rig.admin("GET", "/v1/audit?limit=2", None).await;
    assert_eq!(
        (status, page["items"].as_array().map(Vec::len)),
        (200, Some(2))
    );
    let cursor = page["next_cursor"].as_str().expect("a cursor");
    let (_, next) = rig
        .admin("GET", &format!("/v1/audit?limit=1&cursor={cursor}"), None)
        .await;
    assert_eq!(next["items"][0]["hash"], page["items"][1]["previous"]);

    let log = rig.dir.path().join("data/audit.jsonl");
    let file = log.display().to_string();
    let (code, out, err) = rig.run(&["audit", "verify", &file, "--json"]).await;
    assert_eq!(code, Some(0), "{err}");
    let sound: Value = serde_json::from_str(&out).expect("JSON");
    assert!(sound["entries"].as_u64() >= u64::try_from(items.len()).ok());
    let text = std::fs::read_to_string(&log).expect("the log");
    assert!(!text.contains(NUMBER) && !text.contains(KEY) && !text.contains(ADMIN_KEY));

    // The chain goes on through a restart, and tells of every change.
    rig.kill().await;
    rig.launch().await;
    rig.put_policy("default_route = [\"sim0\"]\n[reroute]\non = [\"rejected\"]\n")
        .await;
    assert_eq!(rig.run(&["audit", "verify", &file]).await.0, Some(0));
    std::fs::write(&log, text.replacen("opt_out.set", "opt_out.sex", 1)).expect("the log");
    let (code, _, error) = rig.run(&["audit", "verify", &file]).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("does not fit"), "{error}");
    let short: Vec<&str> = text.lines().skip(1).collect();
    std::fs::write(&log, short.join("\n") + "\n").expect("the log");
    let (code, _, error) = rig.run(&["audit", "verify", &file]).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("line 1 does not fit"), "{error}");
}
