//! Encryption at rest and the audit log, at a running server.

use heliograph_tests::{ADMIN_KEY, KEY, Plan, Rig, eventually, run_in, sms};
use serde_json::{Value, json};

const NUMBER: &str = "447700900123";
const KEYS: [&str; 2] = [
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f",
];

fn encryption(keys: &[usize]) -> String {
    let keys: Vec<String> = keys
        .iter()
        .map(|n| format!("{{ id = \"k{n}\", key = \"file:k{n}\" }}"))
        .collect();
    format!("[store.encryption]\nkeys = [{}]\n", keys.join(", "))
}

/// Files below a folder that contain one of `secrets`.
fn found_in(folder: &std::path::Path, secrets: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(found_in(&path, secrets));
            continue;
        }
        let octets = std::fs::read(&path).unwrap_or_default();
        for secret in secrets {
            if octets.windows(secret.len()).any(|w| w == secret.as_bytes()) {
                found.push(format!("{secret} in {}", path.display()));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_server_goes_on_through_crashes_and_changes_of_keys() {
    let files = KEYS.iter().enumerate();
    let mut rig = Rig::start(Plan {
        config_extra: encryption(&[0]),
        files: files
            .map(|(n, key)| (format!("k{n}"), key.as_bytes().to_vec()))
            .collect(),
        ..Plan::default()
    })
    .await;
    let mut ids = Vec::new();
    for n in 0..20 {
        let mut body = sms(&format!("+{NUMBER}"), &format!("in confidence {n}"));
        body["reference"] = json!("order 17");
        ids.push(rig.submit(body).await);
    }
    for id in &ids {
        rig.wait_for(id, "delivered").await;
    }
    rig.kill().await;
    let secrets = [NUMBER, "in confidence", "order 17"];
    assert_eq!(found_in(&rig.dir.path().join("data"), &secrets), [""; 0]);

    let config = std::fs::read_to_string(rig.config_path()).expect("the configuration");
    let path = rig.config_path();
    let rewrite = |from: &str, to: &str| {
        std::fs::write(&path, config.replace(from, to)).expect("the configuration");
    };
    rewrite(&encryption(&[0]), "");
    let config_path = rig.config_path().display().to_string();
    for (keys, named) in [
        ("", "store.encryption.keys"),
        (&*encryption(&[1]), "fingerprint"),
    ] {
        rewrite(&encryption(&[0]), keys);
        let (code, _, error) = rig.run(&["serve", "--config", &config_path]).await;
        assert_eq!(code, Some(1));
        assert!(error.contains(named), "{error}");
    }

    rewrite(&encryption(&[0]), &encryption(&[1, 0]));
    rig.launch().await;
    for id in &ids {
        assert_eq!(rig.message(id).await["reference"], "order 17");
    }
    eventually("the old key is not needed", async || {
        let old = rig
            .metric(&["heliograph_store_key_needed", "key=\"k0\""])
            .await;
        let new = rig
            .metric(&["heliograph_store_key_needed", "key=\"k1\""])
            .await;
        (old == 0.0 && new == 1.0).then_some(())
    })
    .await;
    rig.terminate().await;
    rewrite(&encryption(&[0]), &encryption(&[1]));
    rig.launch().await;
    assert_eq!(rig.message(&ids[0]).await["text"], "in confidence 0");
    let to = rig
        .call("GET", &format!("/v1/messages?to=%2B{NUMBER}"), None)
        .await;
    assert_eq!(to.1["items"].as_array().map(Vec::len), Some(20));
}

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
