//! Shipping plugins: signatures are held against the configured keys wherever a component is loaded,
//! an upgrade that wants more is refused with the difference, and artifacts travel by digest.

use heliograph::plugin::{SecretKey, Signature, Signatures};
use heliograph_tests::guests::Guest;
use heliograph_tests::registry::{DockerRegistry, Lie, Registry};
use heliograph_tests::{ADMIN_KEY, Plan, Rig, bearer, eventually, run_in, sms};
use serde_json::{Value, json};

const HANDSET: &str = "+447700900123";

fn key(seed: u8, name: &str) -> SecretKey {
    SecretKey::new([seed; 32], name).expect("a key")
}

fn ops() -> SecretKey {
    key(7, "ops")
}

/// A filter that passes everything; its digest depends on `mark`.
fn component(mark: &str) -> Vec<u8> {
    Guest {
        data: mark.as_bytes().to_vec(),
        ..Guest::default()
    }
    .build()
}

/// The same plugin, but it counts in its state.
fn greedy() -> Vec<u8> {
    Guest {
        imports: r#"(import "heliograph:sms/state@0.1.0" "increment"
            (func $increment (param i32 i32 i64 i32) (result i64)))"#,
        ..Guest::default()
    }
    .build()
}

fn sidecar(signature: Signature) -> Vec<u8> {
    let mut all = Signatures::default();
    all.add(signature).expect("one signature");
    all.text().into_bytes()
}

/// Components by how they are signed, each with its file of signatures.
fn files() -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>, signature: Option<Signature>| {
        if let Some(signature) = signature {
            files.push((format!("{name}.wasm.sig"), sidecar(signature)));
        }
        files.push((format!("{name}.wasm"), bytes));
    };
    for mark in ["one", "two"] {
        let bytes = component(mark);
        let signature = ops().sign(&bytes);
        add(mark, bytes, Some(signature));
    }
    add("unsigned", component("unsigned"), None);
    add(
        "tampered",
        component("tampered"),
        Some(ops().sign(b"other bytes")),
    );
    let bytes = component("strange");
    let signature = key(9, "ops").sign(&bytes);
    add("strange", bytes, Some(signature));
    files
}

fn trusting(required: bool) -> String {
    format!(
        "[plugins]\ntrusted_keys = [\"{}\"]\nrequire_signature = {required}\n",
        ops().public().line()
    )
}

async fn start(required: bool, policy_file: bool) -> Rig {
    Rig::start(Plan {
        files: files(),
        config_extra: trusting(required),
        policy_file,
        ..Plan::default()
    })
    .await
}

fn policy(file: &str) -> String {
    format!("[[plugin]]\nname = \"it\"\npath = \"{{dir}}/{file}.wasm\"\n")
}

async fn in_force(rig: &Rig) -> Value {
    let (status, answer) = rig.admin("GET", "/v1/policy", None).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn applied(rig: &Rig, text: &str) -> String {
    let (status, answer) = rig.put_policy(text).await;
    assert_eq!(status, 200, "{answer}");
    answer["set"].as_str().expect("a set").to_owned()
}

async fn upload(rig: &Rig, bytes: Vec<u8>, signature: Option<&str>) -> (u16, Value) {
    let bearer = bearer(ADMIN_KEY);
    let mut headers = vec![
        ("authorization", &*bearer),
        ("content-type", "application/wasm"),
    ];
    headers.extend(signature.map(|s| ("x-heliograph-signature", s)));
    let answer = rig.try_call("POST", "/v1/plugins", Some(bytes), &headers);
    answer.await.unwrap_or_else(|e| rig.fail(&e))
}

fn signed_by_ops(plugin: &Value) -> bool {
    plugin["signatures"]
        == json!([{ "key": ops().public().id().to_string(), "name": "ops", "trusted": true }])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unsigned_tampered_or_signed_by_a_stranger_is_refused_and_the_running_set_stays() {
    let rig = start(true, true).await;
    let set = applied(&rig, &policy("one")).await;
    assert!(signed_by_ops(&in_force(&rig).await["plugins"][0]));
    for (file, rule) in [
        ("unsigned", "is not signed"),
        ("tampered", "not over these bytes"),
        ("strange", "plugins.trusted_keys does not name"),
    ] {
        let (status, answer) = rig.put_policy(&policy(file)).await;
        assert_eq!((status, &answer["code"]), (422, &json!("invalid_policy")));
        let error = &answer["errors"][0];
        assert_eq!(error["pointer"], "/plugin/0/path", "{answer}");
        let detail = error["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(rule), "{file}: {answer}");
        assert_eq!(in_force(&rig).await["id"], set, "{file}");
    }
    rig.write_policy(&policy("tampered"));
    eventually("the file is refused", async || {
        rig.log()
            .contains("the policy file is refused")
            .then_some(())
    })
    .await;
    assert_eq!(in_force(&rig).await["id"], set);
    // Signed at last: seen without anybody's asking.
    let bytes = component("tampered");
    let good = sidecar(ops().sign(&bytes));
    std::fs::write(rig.dir.path().join("tampered.wasm.sig"), good).expect("written");
    eventually("the signed file is in force", async || {
        (in_force(&rig).await["id"] != set.as_str()).then_some(())
    })
    .await;
    assert!(signed_by_ops(&in_force(&rig).await["plugins"][0]));
    let id = rig.submit(sms(HANDSET, "hello")).await;
    rig.wait_for(&id, "delivered").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_refused_unless_a_trusted_key_signed_its_very_bytes() {
    let rig = start(true, true).await;
    let bytes = component("uploaded");
    for (signature, status, code) in [
        (None, 422, "untrusted_plugin"),
        (
            Some(ops().sign(b"other bytes").header()),
            422,
            "untrusted_plugin",
        ),
        (
            Some(key(9, "ops").sign(&bytes).header()),
            422,
            "untrusted_plugin",
        ),
        (Some("ops:AAAA".to_owned()), 400, "invalid_header"),
    ] {
        let (found, answer) = upload(&rig, bytes.clone(), signature.as_deref()).await;
        assert_eq!((found, &answer["code"]), (status, &json!(code)), "{answer}");
    }
    assert!(rig.items("/v1/plugins").await.is_empty());
    // A stranger's signature beside a trusted one does no harm.
    let both = format!(
        "{}, {}",
        key(9, "x").sign(&bytes).header(),
        ops().sign(&bytes).header()
    );
    let (status, staged) = upload(&rig, bytes, Some(&both)).await;
    assert_eq!(status, 201, "{staged}");
    assert_eq!(staged["signatures"].as_array().map(Vec::len), Some(2));
    let digest = staged["digest"].as_str().expect("a digest");
    let named = format!("[[plugin]]\nname = \"it\"\ndigest = \"{digest}\"\n");
    applied(&rig, &named).await;
    assert!(rig.log().contains("signed by ops"), "{}", rig.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_signature_is_refused_even_where_none_is_required() {
    let rig = start(false, true).await;
    applied(&rig, &policy("unsigned")).await;
    assert_eq!(in_force(&rig).await["plugins"][0]["signatures"], json!([]));
    applied(&rig, &policy("strange")).await;
    let signers = in_force(&rig).await["plugins"][0]["signatures"].clone();
    assert_eq!(signers[0]["trusted"], false, "{signers}");
    let (status, answer) = rig.put_policy(&policy("tampered")).await;
    assert_eq!(status, 422, "{answer}");
    let bad = ops().sign(b"other bytes").header();
    let (status, answer) = upload(&rig, component("x"), Some(&bad)).await;
    assert_eq!((status, &answer["code"]), (422, &json!("untrusted_plugin")));
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_outlive_the_files_a_restart_and_a_rollback() {
    let mut rig = start(true, false).await;
    let one = applied(&rig, &policy("one")).await;
    let two = applied(&rig, &policy("two")).await;
    for (name, _) in files() {
        std::fs::remove_file(rig.dir.path().join(name)).expect("removed");
    }
    assert!(rig.terminate().await.success());
    rig.launch().await;
    let shown = in_force(&rig).await;
    assert_eq!(shown["id"], two);
    assert!(signed_by_ops(&shown["plugins"][0]), "{shown}");
    // Nothing of the first set is warm any more: it is built again from what is stored.
    let (status, answer) = rig.admin("POST", "/v1/policy/rollback", None).await;
    assert_eq!((status, &answer["set"]), (200, &json!(one)), "{answer}");
    assert!(signed_by_ops(&in_force(&rig).await["plugins"][0]));
    let (status, answer) = rig.admin("POST", "/v1/policy/rollback", None).await;
    assert_eq!((status, &answer["set"]), (200, &json!(two)), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_without_signatures_is_not_replayed_once_they_are_required() {
    let mut rig = start(false, false).await;
    let config = std::fs::read_to_string(rig.config_path()).expect("the configuration");
    let strict = config.replace("require_signature = false", "require_signature = true");
    assert_ne!(strict, config);
    let unsigned = applied(&rig, &policy("unsigned")).await;
    applied(&rig, &policy("one")).await;
    assert!(rig.terminate().await.success());

    // What is in force is signed; what was before is not, and cannot come back.
    std::fs::write(rig.config_path(), &strict).expect("written");
    rig.launch().await;
    let path = format!("/v1/policy/rollback?set={unsigned}");
    let (status, answer) = rig.admin("POST", &path, None).await;
    assert_eq!(status, 422, "{answer}");
    assert!(
        answer["detail"]
            .as_str()
            .unwrap_or_default()
            .contains("is not signed")
    );
    assert!(signed_by_ops(&in_force(&rig).await["plugins"][0]));
    assert!(rig.terminate().await.success());

    // An unsigned set in force keeps a strict server from starting, until its component is signed.
    std::fs::write(rig.config_path(), &config).expect("written");
    rig.launch().await;
    applied(&rig, &policy("unsigned")).await;
    assert!(rig.terminate().await.success());
    std::fs::write(rig.config_path(), &strict).expect("written");
    let (code, _, error) = rig.run(&["serve", "--config", "heliograph.toml"]).await;
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("is not signed"), "{error}");
    std::fs::write(rig.config_path(), &config).expect("written");
    rig.launch().await;
    let bytes = component("unsigned");
    let signature = ops().sign(&bytes).header();
    let (status, answer) = upload(&rig, bytes, Some(&signature)).await;
    assert_eq!(status, 201, "{answer}");
    assert!(rig.terminate().await.success());
    std::fs::write(rig.config_path(), &strict).expect("written");
    rig.launch().await;
    assert!(signed_by_ops(&in_force(&rig).await["plugins"][0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_wants_more_is_refused_with_the_difference() {
    let rig = Rig::start(Plan {
        files: vec![
            ("one.wasm".to_owned(), component("one")),
            ("greedy.wasm".to_owned(), greedy()),
        ],
        ..Plan::default()
    })
    .await;
    let set = applied(&rig, &policy("one")).await;
    let (status, answer) = rig.put_policy(&policy("greedy")).await;
    assert_eq!(status, 422, "{answer}");
    let error = &answer["errors"][0];
    assert_eq!(error["pointer"], "/plugin/0/grants/state", "{answer}");
    let upgrade = &error["upgrade"];
    assert_eq!(upgrade["entry"], "it");
    assert_eq!(upgrade["from"]["imports"], json!([]));
    assert_eq!(upgrade["to"]["imports"], json!(["state"]));
    assert_ne!(upgrade["from"]["digest"], upgrade["to"]["digest"]);
    assert_eq!(upgrade["wants_more"], json!(["state"]));
    assert_eq!(upgrade["not_granted"], json!(["state"]));
    assert_eq!(upgrade["granted"], json!(["logging"]));

    let file = "[[plugin]]\nname = \"it\"\npath = \"greedy.wasm\"\n";
    std::fs::write(rig.dir.path().join("next.toml"), file).expect("written");
    let (code, _, told) = rig
        .run(&admin(&rig, &["policy", "apply", "next.toml"]))
        .await;
    assert_eq!(code, Some(1));
    for part in [
        "in force     1.0.0",
        "wants more   state",
        "granted      logging",
    ] {
        assert!(told.contains(part), "{part}:\n{told}");
    }
    assert_eq!(in_force(&rig).await["id"], set);
    let granting = format!("{file}grants = {{ state = {{ bytes = 1000 }} }}\n");
    std::fs::write(rig.dir.path().join("next.toml"), granting).expect("written");
    let (code, _, told) = rig
        .run(&admin(&rig, &["policy", "apply", "next.toml"]))
        .await;
    assert_eq!(code, Some(0), "{told}");
}

/// Arguments of a command that talks to the rig's server.
fn admin<'a>(rig: &Rig, arguments: &[&'a str]) -> Vec<&'a str> {
    let url: &'static str = format!("http://{}", rig.address).leak();
    [arguments, &["--url", url, "--key", ADMIN_KEY]].concat()
}

async fn done(rig: &Rig, arguments: &[&str]) -> String {
    let (code, out, error) = rig.run(arguments).await;
    assert_eq!(code, Some(0), "{arguments:?}: {error}");
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_signs_and_an_operator_deploys_from_the_command_line() {
    let rig = start(true, false).await;
    std::fs::write(
        rig.dir.path().join("ops.key"),
        format!("{}\n", ops().line()),
    )
    .expect("a key");
    let why = rig
        .run(&["plugin", "sign", "unsigned.wasm", "--key", "ops.key"])
        .await;
    assert_eq!(why.0, Some(1), "a key that others may read");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(rig.dir.path().join("ops.key"), open).expect("a mode");
    std::fs::write(rig.dir.path().join("ops.pub"), ops().public().line()).expect("a key");
    done(&rig, &["plugin", "keygen", "--out", "dev"]).await;

    let (code, _, told) = rig
        .run(&admin(&rig, &["plugin", "deploy", "unsigned.wasm"]))
        .await;
    assert_eq!(code, Some(1));
    assert!(told.contains("is not signed"), "{told}");
    done(
        &rig,
        &["plugin", "sign", "unsigned.wasm", "--key", "dev.key"],
    )
    .await;
    done(
        &rig,
        &["plugin", "sign", "unsigned.wasm", "--key", "ops.key"],
    )
    .await;
    done(
        &rig,
        &["plugin", "verify", "unsigned.wasm", "--key", "ops.pub"],
    )
    .await;
    let (code, ..) = rig
        .run(&["plugin", "verify", "tampered.wasm", "--key", "ops.pub"])
        .await;
    assert_eq!(code, Some(1));

    let told = done(
        &rig,
        &["plugin", "inspect", "unsigned.wasm", "--key", "ops.pub"],
    )
    .await;
    for part in [
        "name     guest 1.0.0",
        ", good",
        ", not checked",
        "\"type\": \"object\"",
    ] {
        assert!(told.contains(part), "{part}:\n{told}");
    }
    let json = done(&rig, &["plugin", "inspect", "unsigned.wasm", "--json"]).await;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["manifest"]["name"], "guest", "{json}");
    assert_eq!(json["config_schema"]["type"], "object");
    assert_eq!(json["signatures"][0]["state"], "not_checked");
    let (code, out, _) = rig
        .run(&["plugin", "inspect", "tampered.wasm", "--key", "ops.pub"])
        .await;
    assert_eq!(code, Some(1));
    assert!(out.contains("BAD"), "{out}");

    let told = done(&rig, &admin(&rig, &["plugin", "deploy", "unsigned.wasm"])).await;
    assert!(
        told.contains("signed by") && told.contains("ops ("),
        "{told}"
    );
    let file = "[[plugin]]\nname = \"it\"\npath = \"unsigned.wasm\"\n";
    std::fs::write(rig.dir.path().join("next.toml"), file).expect("written");
    done(&rig, &admin(&rig, &["policy", "apply", "next.toml"])).await;
    for command in [["policy", "show"], ["plugin", "list"]] {
        let told = done(&rig, &admin(&rig, &command)).await;
        assert!(told.contains("ops ("), "{told}");
    }
}

/// Pushes a signed component there, pulls it by the printed reference, and tries to be deceived.
async fn round_trip(place: &str, more: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let run = async |arguments: &[&str]| {
        let all = [arguments, more].concat();
        run_in(folder.path(), &all).await
    };
    let bytes = component("shipped");
    let signature = sidecar(ops().sign(&bytes));
    std::fs::write(folder.path().join("a.wasm"), &bytes).expect("written");
    std::fs::write(folder.path().join("a.wasm.sig"), &signature).expect("written");
    let tagged = format!("{place}:1.0.0");
    let (code, out, error) = run(&["plugin", "push", "a.wasm", &tagged, "--json"]).await;
    assert_eq!(code, Some(0), "{error}");
    let pushed: Value = serde_json::from_str(&out).expect("JSON");
    let pinned = pushed["reference"].as_str().expect("a reference");
    assert!(pinned.starts_with(&format!("{place}@sha256:")), "{pinned}");
    let again = run(&["plugin", "push", "a.wasm", &tagged, "--json"]).await;
    assert_eq!(again.1, out, "the same file, the same digest");

    let digest = pushed["component"].as_str().expect("a digest");
    for reference in [&*tagged, pinned] {
        let pull = [
            "plugin", "pull", reference, "--out", "b.wasm", "--digest", digest,
        ];
        let (code, _, error) = run(&pull).await;
        assert_eq!(code, Some(0), "{reference}: {error}");
        let read = |name: &str| std::fs::read(folder.path().join(name)).expect("pulled");
        assert!(read("b.wasm") == bytes && read("b.wasm.sig") == signature);
        std::fs::remove_file(folder.path().join("b.wasm")).expect("removed");
    }
    let other = format!("{place}@sha256:{}", "0".repeat(64));
    let (code, ..) = run(&["plugin", "pull", &other, "--out", "b.wasm"]).await;
    assert_eq!(code, Some(1));
    let zeros = format!("sha256:{}", "0".repeat(64));
    let pull = [
        "plugin", "pull", pinned, "--out", "b.wasm", "--digest", &zeros,
    ];
    let (code, _, error) = run(&pull).await;
    assert_eq!(code, Some(1));
    assert!(error.contains(digest), "{error}");
    assert!(!folder.path().join("b.wasm").exists());

    // Unsigned now: no older signature stays beside it.
    std::fs::remove_file(folder.path().join("a.wasm.sig")).expect("removed");
    let (code, ..) = run(&["plugin", "push", "a.wasm", &tagged]).await;
    assert_eq!(code, Some(0));
    let (code, _, error) = run(&["plugin", "pull", &tagged, "--out", "b.wasm"]).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(!folder.path().join("b.wasm.sig").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_goes_through_a_layout_and_a_damaged_one_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = format!("oci:{}", folder.path().join("plugins").display());
    round_trip(&place, &[]).await;
    // Every blob of the layout damaged in turn: none gets through.
    let blobs = folder.path().join("plugins/blobs/sha256");
    for blob in std::fs::read_dir(&blobs).expect("blobs") {
        let path = blob.expect("a blob").path();
        let mut bytes = std::fs::read(&path).expect("a blob");
        bytes[0] ^= 1;
        std::fs::write(&path, bytes).expect("written");
    }
    let pull = [
        "plugin",
        "pull",
        &format!("{place}:1.0.0"),
        "--out",
        "x.wasm",
    ];
    let (code, _, error) = run_in(folder.path(), &pull).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("changed or damaged"), "{error}");
    assert!(!folder.path().join("x.wasm").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_goes_through_a_registry_that_wants_tokens_and_redirects_blobs() {
    let registry = Registry::start().await;
    let place = format!("{}/acme/words", registry.address);
    round_trip(&place, &["--plain-http"]).await;
    assert!(registry.tokens() > 0 && registry.redirects() > 0);
    let folder = tempfile::tempdir().expect("a folder");
    let tagged = format!("{place}:1.0.0");
    let pull = ["plugin", "pull", &tagged, "--out", "x.wasm", "--plain-http"];
    for (lie, told) in [
        (Lie::Changed, "changed or damaged"),
        (Lie::Longer, "larger than its manifest says"),
        (Lie::BlobsElsewhere, "is no https address"),
        (Lie::TokensElsewhere, "is no https address"),
        (Lie::TwoLineToken, "as no registry does"),
    ] {
        registry.tell(lie);
        let (code, _, error) = run_in(folder.path(), &pull).await;
        assert_eq!(code, Some(1), "{lie:?}: {error}");
        assert!(error.contains(told), "{lie:?}: {error}");
        assert!(!folder.path().join("x.wasm").exists());
    }
}

/// Where the distribution's own registry is installed, it has the last word on what we speak.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_goes_through_the_reference_registry() {
    let Some(registry) = DockerRegistry::start().await else {
        return eprintln!("docker-registry is not installed");
    };
    let place = format!("{}/acme/words", registry.address);
    round_trip(&place, &["--plain-http"]).await;
}
