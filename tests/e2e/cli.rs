//! The command line against a running server: what it prints, and its exit codes.

use heliograph_tests::{ADMIN_KEY, Plan, Rig, free_address, run_in};
use serde_json::Value;

const HANDSET: &str = "+447700900123";

/// Runs a command as the administrator; its exit code, output and errors.
async fn admin(rig: &Rig, arguments: &[&str]) -> (Option<i32>, String, String) {
    let url = format!("http://{}", rig.address);
    rig.run(&[arguments, &["--url", &url, "--key", ADMIN_KEY]].concat())
        .await
}

/// The JSON that a command prints when all is well.
async fn json(rig: &Rig, arguments: &[&str]) -> Value {
    let (code, out, error) = admin(rig, &[arguments, &["--json"]].concat()).await;
    assert_eq!(code, Some(0), "{arguments:?}: {error}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{arguments:?}: {e}\n{out}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_sent_traced_listed_and_refused_from_the_command_line() {
    let rig = Rig::start(Plan {
        policy: "[[plugin]]\nname = \"filter\"\npath = \"{plugins}/content-filter.wasm\"\n\
            config = { rules = [{ name = \"no\", kind = \"words\", words = [\"casino\"] }] }\n"
            .to_owned(),
        ..Plan::default()
    })
    .await;
    let sent = json(
        &rig,
        &["send", HANDSET, "hello", "--from", "Acme", "--wait"],
    )
    .await;
    assert_eq!(sent["status"], "delivered", "{sent}");
    let id = sent["id"].as_str().expect("an id");
    let (code, trace, error) = admin(&rig, &["message", "trace", id]).await;
    assert_eq!(code, Some(0), "{error}");
    for word in ["filter", "default_route", "delivered", "sim0"] {
        assert!(trace.contains(word), "{word} is missing:\n{trace}");
    }
    assert_eq!(json(&rig, &["message", "show", id]).await["id"], id);
    let list = json(&rig, &["message", "list", "--status", "delivered"]).await;
    assert_eq!(list["items"][0]["id"], id);
    let preview = json(&rig, &["send", HANDSET, "casino", "--preview"]).await;
    assert_eq!(preview["code"], "blocked_word");

    let (code, _, error) = admin(&rig, &["send", HANDSET, "casino"]).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("blocked_word"), "{error}");
    let (code, _, error) = admin(
        &rig,
        &["message", "show", "00000000000070008000000000000000"],
    )
    .await;
    assert_eq!(code, Some(1));
    assert!(error.contains("not_found"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_checked_applied_and_rolled_back_from_the_command_line() {
    let rig = Rig::start(Plan::default()).await;
    let plugin = heliograph_tests::plugins().join("content-filter.wasm");
    let plugin = plugin.display();
    let write = |name: &str, text: String| {
        std::fs::write(rig.dir.path().join(name), text).expect("written")
    };
    write(
        "new.toml",
        format!("[[plugin]]\nname = \"filter\"\npath = \"{plugin}\"\n"),
    );
    write(
        "bad.toml",
        format!("[[plugin]]\nname = \"filter\"\npath = \"{plugin}\"\nconfig = {{ rules = 5 }}\n"),
    );
    let (code, _, error) = admin(&rig, &["policy", "apply", "bad.toml"]).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("/plugin/0/config/rules"), "{error}");

    let checked = json(&rig, &["policy", "check", "new.toml"]).await;
    assert_eq!(checked["in_force"], false);
    let applied = json(&rig, &["policy", "apply", "new.toml"]).await;
    assert_eq!(applied["set"], checked["set"]);
    assert_eq!(
        json(&rig, &["policy", "show"]).await["plugins"][0]["name"],
        "filter"
    );
    json(&rig, &["policy", "rollback"]).await;
    let history = json(&rig, &["policy", "history"]).await;
    assert_eq!(history["items"].as_array().map(Vec::len), Some(3));
    let (code, out, error) = admin(&rig, &["plugin", "list"]).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("content-filter"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_a_failure_that_says_where_it_was_looked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let nobody = free_address().await;
    let url = format!("http://{nobody}");
    let (code, _, error) = run_in(
        folder.path(),
        &["message", "list", "--url", &url, "--key", "hg_x"],
    )
    .await;
    assert_eq!(code, Some(1));
    assert!(error.contains(&nobody), "{error}");
}
