//! The frozen contract: a component of each release loads and answers for ever, and what guests
//! export is never changed by accident. The rules of change are in `wit/README.md`.

use heliograph::carrier::simulator::Mo;
use heliograph_tests::guests::CONTRACT;
use heliograph_tests::{Plan, Rig, eventually, sms};
use serde_json::json;
use sha2::{Digest, Sha256};

/// Built for heliograph:sms@0.1.0. Exports all hooks: replaces the text, allows, passes, labels.
const V0_1_MINIMAL: &[u8] = include_bytes!("v0_1_minimal.wasm");

/// Of [`exported_by_guests`] in heliograph:sms@0.1.0. It changes with a new version of the package
/// alone; the old one is then kept beside the new one, and so is this value.
const V0_1_EXPORTS: &str = "7a663c6911de663cde68b9c1bfa8de0f28b0df41db73be64269b361c3904130e";

/// The interfaces that guests export, and their types.
const EXPORTED: [&str; 7] = [
    "types",
    "plugin",
    "content-filter",
    "compliance-check",
    "routing-policy",
    "carrier-adapter",
    "inbound-handler",
];

/// The frozen interfaces of a contract without comments and spaces.
fn exported_by_guests(contract: &str) -> String {
    let code: String = contract
        .lines()
        .map(|l| l.split("//").next().unwrap_or(""))
        .collect::<Vec<_>>()
        .join(" ");
    let mut frozen = String::new();
    for name in EXPORTED {
        let start = code
            .find(&format!("interface {name} {{"))
            .unwrap_or_else(|| panic!("no interface {name}"));
        let mut depth = 0;
        let length = code[start..].find(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0 && c == '}'
        });
        frozen.push_str(&code[start..=start + length.expect("a closing brace")]);
    }
    frozen.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_guests_export_is_frozen() {
    assert!(CONTRACT.contains("package heliograph:sms@0.1.0;"));
    let digest: String = Sha256::digest(exported_by_guests(CONTRACT))
        .iter()
        .map(|o| format!("{o:02x}"))
        .collect();
    assert_eq!(
        digest, V0_1_EXPORTS,
        "the exported part of heliograph:sms@0.1.0 is not what it was; wit/README.md says how it may change"
    );
}

#[test]
fn comments_and_spaces_are_not_frozen_and_all_else_is() {
    let frozen = exported_by_guests(CONTRACT);
    let commented = CONTRACT.replace(
        "interface plugin {",
        "// Well.\n\ninterface plugin {   // so\n",
    );
    assert_eq!(exported_by_guests(&commented), frozen);
    let capability = CONTRACT.replace("interface logging {", "interface logging { trace: func();");
    assert_eq!(exported_by_guests(&capability), frozen);
    for (old, new) in [
        ("enum alphabet { gsm7,", "enum alphabet { gsm8,"),
        ("delete: func", "x: func"),
        ("describe: func", "tell: func"),
    ] {
        let changed = CONTRACT.replace(old, new);
        assert_ne!(changed, CONTRACT);
        assert_eq!(
            exported_by_guests(&changed) == frozen,
            old.starts_with("delete"),
            "{old}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_component_of_0_1_loads_and_answers() {
    let rig = Rig::start(Plan {
        files: vec![("frozen.wasm".to_owned(), V0_1_MINIMAL.to_vec())],
        policy: r#"
            [[plugin]]
            name = "frozen"
            path = "{dir}/frozen.wasm"
        "#
        .to_owned(),
        ..Plan::default()
    })
    .await;
    let id = rig.submit(sms("+447700900123", "hello")).await;
    let message = rig.wait_for(&id, "delivered").await;
    assert_eq!(message["text"], "frozen");
    let calls = message["decisions"][0]["calls"].as_array().expect("calls");
    let outcomes: Vec<_> = calls.iter().map(|c| &c["outcome"]).collect();
    assert_eq!(outcomes, ["replace", "allow", "pass", "host"]);
    assert_eq!(calls[0]["why"], "frozen");

    let mo = Mo {
        from: "447700900123".to_owned(),
        to: "60777".to_owned(),
        text: "hello".to_owned(),
        ..Mo::default()
    };
    rig.text_in(&mo).await;
    let inbound = eventually("the text arrives", async || {
        rig.items("/v1/inbound").await.pop()
    })
    .await;
    assert_eq!(inbound["labels"], json!(["frozen"]));
}
