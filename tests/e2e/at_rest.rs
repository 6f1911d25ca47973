//! Keys of encryption at rest and the audit log, at a running server. What is on disk, and changes of keys, are
//! statement 10's (`tests/prove/at_rest.rs`).

use heliograph_tests::{ADMIN_KEY, KEY, Plan, Rig, eventually, run_in, sms};
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
    assert!(error.contains("begins with entry 2"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_audit_log_goes_on_in_another_file() {
    let mut rig = Rig::start(Plan {
        config_extra: "[audit]\nkeep_mib = 1\n".to_owned(),
        ..Plan::default()
    })
    .await;
    // Refused, and noted: 300 octets each at the least, of 128 KiB.
    let path = format!("/v1/binds/{}", "9".repeat(200));
    let full = rig.data().join("audit-000001.jsonl");
    let mut acts = 0;
    while !full.exists() && acts < 500 {
        assert_eq!(rig.admin("DELETE", &path, None).await.0, 404);
        acts += 1;
    }
    rig.kill().await;
    rig.launch().await;
    assert_eq!(rig.admin("DELETE", &path, None).await.0, 404);
    let log = rig.data().join("audit.jsonl");
    let few = std::fs::read_to_string(&log).expect("the log");
    assert!((1..50).contains(&few.lines().count()), "{few}");
    let file = log.display().to_string();
    let (code, out, error) = rig.run(&["audit", "verify", &file, "--json"]).await;
    assert_eq!(code, Some(0), "{error}");
    let sound: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(sound["first"], 1);
    let entries = sound["entries"].as_u64().expect("a count");
    assert!(entries > acts, "{sound}");
    // A reader goes through both.
    let (mut sequences, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = rig
            .admin("GET", &format!("/v1/audit?limit=100{cursor}"), None)
            .await;
        assert_eq!(status, 200);
        let items = page["items"].as_array().expect("items");
        sequences.extend(items.iter().filter_map(|i| i["sequence"].as_u64()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let newest = sequences[0];
    assert!(newest >= entries);
    assert_eq!(sequences, (1..=newest).rev().collect::<Vec<u64>>());
    std::fs::remove_file(full).expect("the full file");
    let (code, _, error) = rig.run(&["audit", "verify", &file]).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("begins with entry"), "{error}");
}

/// What an operator does with a damaged or an old store that is encrypted.
#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_an_encrypted_store_are_exported_and_repaired_with_the_configured_keys() {
    let key = |n: u8| (format!("k{n}"), format!("{n:064x}").into_bytes());
    let mut rig = Rig::start(Plan {
        config_extra: "[store.encryption]\nkeys = [{ id = \"k1\", key = \"file:k1\" }]\n"
            .to_owned(),
        files: vec![key(1), key(2)],
        ..Plan::default()
    })
    .await;
    let id = rig
        .submit(sms(&format!("+{NUMBER}"), "in confidence"))
        .await;
    rig.wait_for(&id, "delivered").await;
    rig.terminate().await;
    let (config, data) = (rig.config_path(), rig.data());
    let (config, data) = (config.display().to_string(), data.display().to_string());
    for command in ["export", "repair"] {
        let (code, out, error) = rig.run(&["store", command, "--path", &data]).await;
        assert_eq!(code, Some(1));
        assert!(error.contains("--config"), "{error}");
        assert!(!out.contains("in confidence"));
    }
    let (code, out, _) = rig.run(&["store", "check", "--path", &data]).await;
    assert_eq!(code, Some(0));
    assert!(out.contains("not what is in them"), "{out}");
    let (code, out, error) = rig.run(&["store", "check", "--config", &config]).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(
        out.contains("1 messages") && out.contains("everything can be read"),
        "{out}"
    );
    let (code, out, error) = rig.run(&["store", "export", "--config", &config]).await;
    assert_eq!(code, Some(0), "{error}");
    let exported: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    let message = exported.iter().find(|line| line["type"] == "message");
    let data_of = &message.expect("the message")["data"];
    assert_eq!(
        (&data_of["id"], &data_of["text"]),
        (&json!(id), &json!("in confidence"))
    );

    // Repaired under a new key, it needs the old one no more.
    let with = |keys: &str| {
        let text = std::fs::read_to_string(&config).expect("the configuration");
        let start = text.find("keys = [{ id").expect("its keys");
        let end = start + text[start..].find('\n').expect("a line");
        let text = format!("{}keys = [{keys}]{}", &text[..start], &text[end..]);
        std::fs::write(&config, text).expect("the configuration");
    };
    let (first, second) = (
        r#"{ id = "k1", key = "file:k1" }"#,
        r#"{ id = "k2", key = "file:k2" }"#,
    );
    with(second);
    let (code, _, error) = rig.run(&["store", "repair", "--config", &config]).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("store.encryption.keys"), "{error}");
    with(&format!("{second}, {first}"));
    let (code, out, error) = rig
        .run(&["store", "repair", "--config", &config, "--json"])
        .await;
    assert_eq!(code, Some(0), "{error}");
    let repaired: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (&repaired["messages"], &repaired["unreadable"]),
        (&json!(1), &json!(0))
    );
    with(second);
    rig.launch().await;
    assert_eq!(rig.message(&id).await["text"], "in confidence");
}
