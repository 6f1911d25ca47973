//! What a plugin's author meets: a scaffold that builds and passes its cases, cases that fail readably,
//! and a plugin that is in force a moment after it was saved.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use heliograph_tests::guests::{FREE, Guest, KEEP_MARK, ROUTE_PASS, ZERO, on_mark, words};
use heliograph_tests::{ADMIN_KEY, Plan, Rig, binary, sms};
use serde_json::{Value, json};
use tokio::process::Command;

/// A build of the standard library and of five plugins, on a busy machine.
const BUILD_PATIENCE: Duration = Duration::from_secs(900);
const HANDSET: &str = "+447700900123";

/// Runs the program in `folder`, its build's output shared by all scenarios.
async fn heliograph(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let run = program(folder, arguments).output();
    let output = tokio::time::timeout(BUILD_PATIENCE, run)
        .await
        .unwrap_or_else(|_| panic!("heliograph {arguments:?} does not end"))
        .expect("the program runs");
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .args(arguments)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", shared_target())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Beside the bundled plugins' own, so that dependencies are compiled once and kept between runs.
fn shared_target() -> PathBuf {
    let debug = binary().parent().expect("the target folder").to_owned();
    debug.parent().expect("the target folder").join("authoring")
}

/// Makes crates members of one workspace in `folder`: one build for all.
fn one_workspace(folder: &Path, members: &[String]) {
    for member in members {
        let manifest = folder.join(member).join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).expect("the manifest");
        let own = text.find("# A workspace of its own").expect("its end");
        std::fs::write(&manifest, &text[..own]).expect("written");
    }
    let list: Vec<String> = members.iter().map(|m| format!("\"{m}\"")).collect();
    let text = format!(
        "[workspace]\nresolver = \"3\"\nmembers = [{}]\n[profile.plugin]\ninherits = \"release\"\nopt-level = 1\n\
         panic = \"abort\"\nstrip = true\n",
        list.join(", ")
    );
    std::fs::write(folder.join("Cargo.toml"), text).expect("written");
    // The versions that everything else is built with: nothing is looked up, little is built twice.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    std::fs::copy(lock, folder.join("Cargo.lock")).expect("the lock file");
}

async fn scaffold(folder: &Path, name: &str, hook: &str) {
    let (code, _, error) = heliograph(folder, &["plugin", "new", name, "--hook", hook]).await;
    assert_eq!(code, Some(0), "{error}");
}

fn json_of(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|e| panic!("{e}\n{out}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hooks_scaffold_builds_and_passes_its_cases() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let hooks = heliograph::cli::component::Hook::ALL;
    let mut members = Vec::new();
    for hook in hooks {
        let name = format!("my-{}", hook.name());
        scaffold(folder, &name, hook.name()).await;
        members.push(name);
    }
    one_workspace(folder, &members);
    let (code, out, error) = heliograph(folder, &["plugin", "test", ".", "--json"]).await;
    assert_eq!(code, Some(0), "{error}\n{out}");
    let report = json_of(&out);
    assert_eq!(report["passed"], 2 * hooks.len(), "{report:#}");
    for plugin in report["plugins"].as_array().expect("plugins") {
        for case in plugin["cases"].as_array().expect("cases") {
            let usage = &case["usage"];
            assert!(usage["first_us"].as_f64() > Some(0.0), "{case:#}");
            assert!(usage["memory_bytes"].as_u64() > Some(0), "{case:#}");
        }
    }

    // A decision that changed is told by its place, and only --update makes it the expected one.
    let crates = folder.join("my-content-filter");
    let defaults = crates.join("cases/defaults.json");
    std::fs::write(&defaults, r#"{"config": {"word": "eight"}}"#).expect("written");
    let component = shared_target().join("plugins/my-content-filter.wasm");
    let component = component.display().to_string();
    let test = ["plugin", "test", component.as_str()];
    let (code, out, error) = heliograph(&crates, &test).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("2 failed"), "{error}");
    assert!(out.contains(r#"outcome: "pass" -> "refuse""#), "{out}");
    let (code, _, error) = heliograph(&crates, &[&test[..], &["--update"]].concat()).await;
    assert_eq!(code, Some(0), "{error}");
    let (code, out, _) = heliograph(&crates, &[&test[..], &["--filter", "another"]].concat()).await;
    assert_eq!(code, Some(0));
    assert!(out.contains("1 cases, all passed"), "{out}");

    // A configuration that the schema refuses is not written down as if it were meant.
    std::fs::write(&defaults, r#"{"config": {"wrod": "eight"}}"#).expect("written");
    let (code, out, _) = heliograph(&crates, &[&test[..], &["--update"]].concat()).await;
    assert_eq!(code, Some(1));
    assert!(out.contains("/config") && out.contains("wrod"), "{out}");
    let golden = std::fs::read_to_string(crates.join("cases/another-text.expect.json"));
    assert!(golden.is_ok_and(|text| text.contains("word_blocked")));
}

/// The crate of a filter, in the rig's folder. Each scenario has a name of its own: they share the
/// folder that components are built in.
async fn filter(rig: &Rig, name: &str) -> PathBuf {
    scaffold(rig.dir.path(), name, "content-filter").await;
    one_workspace(rig.dir.path(), &[name.to_owned()]);
    rig.dir.path().join(name)
}

async fn dev(rig: &Rig, more: &[&str]) -> (Option<i32>, String, String) {
    heliograph(
        rig.dir.path(),
        &[&["plugin", "dev", "saved-filter"][..], &server(rig), more].concat(),
    )
    .await
}

fn server(rig: &Rig) -> [&'static str; 4] {
    let url: &'static str = Box::leak(format!("http://{}", rig.address).into_boxed_str());
    ["--url", url, "--key", ADMIN_KEY]
}

/// The scaffold's filter, with the word that it looks for built in.
fn with_word(source: &str, word: &str) -> String {
    let (before, rest) = source.split_once("if text").expect("the condition");
    let (_, after) = rest.split_once("        {\n").expect("its end");
    format!(
        "{before}if text\n            .to_lowercase()\n            .contains(\"{word}\")\n        {{\n{after}"
    )
}

fn save_word(crate_folder: &Path, word: &str) {
    let file = crate_folder.join("src/lib.rs");
    let text = std::fs::read_to_string(&file).expect("the source");
    std::fs::write(file, with_word(&text, word)).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_puts_the_saved_plugin_in_force_and_keeps_what_was_there_where_it_fails() {
    let rig = Rig::start(Plan::default()).await;
    let folder = filter(&rig, "saved-filter").await;

    // Not in the policy yet: the entry to paste is a good one.
    let (code, _, error) = dev(&rig, &["--once"]).await;
    assert_eq!(code, Some(1));
    let at = error
        .find("[[plugin]]")
        .unwrap_or_else(|| panic!("{error}"));
    let entry = error[at..].replace("\"prize\"", "\"nothing\"");
    let (status, answer) = rig.put_policy(&entry).await;
    assert_eq!(status, 200, "{answer}");
    let id = rig.submit(sms(HANDSET, "a big PRIZE")).await;
    rig.wait_for(&id, "delivered").await;

    // The next message is decided by what was just saved.
    save_word(&folder, "prize");
    let (code, out, error) = dev(&rig, &["--once", "--name", "saved-filter"]).await;
    assert_eq!(code, Some(0), "{error}\n{out}");
    for word in ["built", "2 passed", "applied"] {
        assert!(out.contains(word), "{word}: {out}");
    }
    let problem = rig.refused(sms(HANDSET, "a big PRIZE")).await;
    assert_eq!(problem["code"], "word_blocked");
    let shown = rig.admin("GET", "/v1/policy", None).await.1;
    assert_eq!(
        shown["policy"]["plugin"][0]["config"]["word"], "nothing",
        "the entry's configuration is the operator's"
    );

    // What fails its cases is not applied, unless told.
    let set = shown["id"].clone();
    save_word(&folder, "eight");
    let (code, _, error) = dev(&rig, &["--once"]).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("2 of 2 failed"), "{error}");
    assert_eq!(rig.admin("GET", "/v1/policy", None).await.1["id"], set);
    let (code, out, error) = dev(&rig, &["--once", "--force", "--json"]).await;
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(json_of(&out)["changed"], json!(true));
    rig.refused(sms(HANDSET, "see you at eight")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_watches_and_outlives_a_build_that_fails() {
    let rig = Rig::start(Plan::default()).await;
    let folder = filter(&rig, "watched-filter").await;
    save_word(&folder, "prize");
    let (code, _, error) = heliograph(rig.dir.path(), &["plugin", "build", "watched-filter"]).await;
    assert_eq!(code, Some(0), "{error}");
    let built = shared_target().join("plugins/watched-filter.wasm");
    let (status, answer) = rig
        .put_policy(&format!(
            "[[plugin]]\nname = \"watched-filter\"\npath = \"{}\"\nconfig = {{ word = \"x\" }}\n",
            built.display()
        ))
        .await;
    assert_eq!(status, 200, "{answer}");
    let log = rig.dir.path().join("dev.log");
    let file = std::fs::File::create(&log).expect("the log");
    let mut child = program(
        rig.dir.path(),
        &[
            &["plugin", "dev", "watched-filter", "--force"][..],
            &server(&rig),
        ]
        .concat(),
    )
    .stdout(file.try_clone().expect("the log"))
    .stderr(file)
    .spawn()
    .expect("the program runs");
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let waits = async |times: usize| {
        let end = Instant::now() + BUILD_PATIENCE;
        while said().matches("waiting for the next save").count() < times {
            assert!(Instant::now() < end, "{}", said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    waits(1).await;
    let source = folder.join("src/lib.rs");
    let good = std::fs::read_to_string(&source).expect("the source");
    std::fs::write(&source, format!("{good}\nfn oops(")).expect("written");
    waits(2).await;
    assert!(said().contains("could not build"), "{}", said());
    std::fs::write(&source, with_word(&good, "eight")).expect("written");
    waits(3).await;
    let problem = rig.refused(sms(HANDSET, "see you at eight")).await;
    assert_eq!(problem["code"], "word_blocked", "{}", said());
    child.kill().await.expect("an end");
}

/// A folder with a component and its cases.
fn tested(guest: &Guest, cases: &[(&str, Value)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("guest.wasm"), guest.build()).expect("written");
    std::fs::create_dir(folder.path().join("cases")).expect("made");
    for (name, case) in cases {
        let file = folder.path().join("cases").join(format!("{name}.json"));
        std::fs::write(file, case.to_string()).expect("written");
    }
    folder
}

fn filter_case(text: &str, expect: Value) -> Value {
    json!({ "hook": "content-filter", "config": { "on": "!" }, "message": { "to": HANDSET, "text": text }, "expect": expect })
}

const TEST: [&str; 4] = ["plugin", "test", "guest.wasm", "--json"];

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_can_be_expected_and_is_told_where_it_is_not() {
    let guest = Guest {
        hooks: vec![
            (
                "content-filter",
                "inspect",
                on_mark("(loop $ever (br $ever))", ZERO),
            ),
            (
                "routing-policy",
                "route",
                format!("(i32.const {ROUTE_PASS})"),
            ),
        ],
        configure: KEEP_MARK.to_owned(),
        ..Guest::default()
    };
    let mut no_hook = filter_case("hello", json!({ "outcome": "pass" }));
    no_hook.as_object_mut().expect("a case").remove("hook");
    let folder = tested(
        &guest,
        &[
            ("loops", filter_case("!", json!({ "fault": "timeout" }))),
            ("passes", filter_case("hello", json!({ "outcome": "pass" }))),
            ("surprised", filter_case("!", json!({ "outcome": "pass" }))),
            ("which-hook", no_hook),
        ],
    );
    let (code, out, _) = heliograph(folder.path(), &TEST).await;
    assert_eq!(code, Some(1));
    let report = json_of(&out);
    let cases = &report["plugins"][0]["cases"];
    assert_eq!(report["passed"], 2, "{report:#}");
    assert_eq!(cases[0]["passed"], true, "{report:#}");
    assert_eq!(cases[0]["decision"], json!({ "fault": "timeout" }));
    let why = cases[2]["problems"].to_string();
    assert!(why.contains("limits.deadline_ms = 10"), "{why}");
    let which = cases[3]["problems"].to_string();
    assert!(
        which.contains("content-filter and routing-policy"),
        "{which}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_cannot_be_repeated_fails_its_case() {
    // The first call of an instance passes, the next ones hold: no replay could tell.
    let guest = Guest {
        hooks: vec![(
            "content-filter",
            "inspect",
            format!(
                "(if (result i32) (global.get $mark) (then (i32.const {FREE})) \
                 (else (global.set $mark (i32.const 1)) (i32.const {ZERO})))"
            ),
        )],
        data: words(&[3, 1056, 1]),
        ..Guest::default()
    };
    let folder = tested(
        &guest,
        &[("twice", filter_case("hello", json!({ "outcome": "pass" })))],
    );
    let (code, out, _) = heliograph(folder.path(), &TEST).await;
    assert_eq!(code, Some(1), "{out}");
    let problems = json_of(&out)["plugins"][0]["cases"][0]["problems"].to_string();
    assert!(
        problems.contains("call 2") && problems.contains("replayed"),
        "{problems}"
    );
}
