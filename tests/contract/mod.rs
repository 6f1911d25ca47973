//! The frozen contract: a component of each release loads and answers for ever, and what guests
//! export is never changed by accident. The rules of change are in `wit/README.md`.

use heliograph::carrier::simulator::Mo;
use heliograph_tests::guests::{CONTRACT, CONTRACT_0_2, CONTRACT_0_3};
use heliograph_tests::{Plan, Rig, eventually, sms};
use serde_json::json;
use sha2::{Digest, Sha256};

/// The frozen component of a version and a hook.
macro_rules! frozen {
    ($version:literal, $hook:literal, $config:literal, $wants:literal) => {
        (
            $version,
            $hook,
            $config,
            $wants,
            include_bytes!(concat!("v", $version, "/", $hook, ".wasm")).as_slice(),
        )
    };
}

/// Built for heliograph:sms@0.1.0. Exports all hooks: replaces the text, allows, passes, labels.
const V0_1_MINIMAL: &[u8] = include_bytes!("v0_1_minimal.wasm");

/// A plugin of each hook as it was built with the plugin author's crate of its day, from the template that
/// `heliograph plugin new` wrote then. Version of the contract, hook, configuration, capabilities, component.
const FROZEN: [(&str, &str, &str, &str, &[u8]); 17] = [
    frozen!("0.1.0", "content-filter", r#"{ word = "prize" }"#, ""),
    frozen!("0.1.0", "compliance-check", "{ daily_limit = 3 }", ""),
    frozen!("0.1.0", "routing-policy", r#"{ order = ["sim0"] }"#, ""),
    frozen!(
        "0.1.0",
        "carrier-adapter",
        r#"{ url = "https://carrier.example/sms" }"#,
        "http"
    ),
    frozen!(
        "0.1.0",
        "inbound-handler",
        r#"{ keyword = "info", answer = "Thank you" }"#,
        ""
    ),
    frozen!("0.2.0", "enrichment", r#"{ table = "networks" }"#, "tables"),
    frozen!("0.2.0", "content-filter", r#"{ word = "prize" }"#, ""),
    frozen!("0.2.0", "compliance-check", "{ daily_limit = 3 }", ""),
    frozen!("0.2.0", "routing-policy", r#"{ order = ["sim0"] }"#, ""),
    frozen!(
        "0.2.0",
        "carrier-adapter",
        r#"{ url = "https://carrier.example/sms" }"#,
        "http"
    ),
    frozen!(
        "0.2.0",
        "inbound-handler",
        r#"{ keyword = "info", answer = "Thank you" }"#,
        ""
    ),
    frozen!("0.3.0", "enrichment", r#"{ table = "networks" }"#, "tables"),
    frozen!("0.3.0", "content-filter", r#"{ word = "prize" }"#, ""),
    frozen!("0.3.0", "compliance-check", "{ daily_limit = 3 }", ""),
    frozen!("0.3.0", "routing-policy", r#"{ order = ["sim0"] }"#, ""),
    frozen!(
        "0.3.0",
        "carrier-adapter",
        r#"{ url = "https://carrier.example/sms" }"#,
        "http"
    ),
    frozen!(
        "0.3.0",
        "inbound-handler",
        r#"{ keyword = "info", answer = "Thank you" }"#,
        ""
    ),
];

/// Every version of the contract, and [`exported_by_guests`] of it. What is here never changes: a new
/// version of the package is a new line, and the old one is kept beside it.
const EXPORTS: [(&str, &str, &str); 3] = [
    (
        "0.1.0",
        CONTRACT,
        "7a663c6911de663cde68b9c1bfa8de0f28b0df41db73be64269b361c3904130e",
    ),
    (
        "0.2.0",
        CONTRACT_0_2,
        "30ef2e6cee9ab94b7d56c13ba56028cb861a2fd282a6547e1ba2f2c2470da4c6",
    ),
    (
        "0.3.0",
        CONTRACT_0_3,
        "0a581a8280f65d7fc743107a4b8b54628894e53b6bd158f632d67a2826d38ad1",
    ),
];

/// The interfaces that guests export, and their types.
const EXPORTED: [&str; 8] = [
    "types",
    "plugin",
    "enrichment",
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
        let Some(start) = code.find(&format!("interface {name} {{")) else {
            assert_eq!(name, "enrichment", "no interface {name}");
            continue;
        };
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
    for (version, contract, frozen) in EXPORTS {
        assert!(contract.contains(&format!("package heliograph:sms@{version};")));
        let digest: String = Sha256::digest(exported_by_guests(contract))
            .iter()
            .map(|o| format!("{o:02x}"))
            .collect();
        assert_eq!(
            digest, frozen,
            "the exported part of heliograph:sms@{version} is not what it was; wit/README.md says how it may change"
        );
    }
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

/// The policy entry of a frozen component.
fn entry(version: &str, hook: &str, config: &str, wants: &str) -> String {
    let grants = match wants {
        "" => String::new(),
        "tables" => "grants = { tables = [\"networks\"] }".to_owned(),
        "http" => "grants = { http = { hosts = [\"carrier.example\"] } }".to_owned(),
        other => panic!("no grant is known for {other}"),
    };
    let name = format!("{hook}-{}", version.replace('.', "-"));
    format!(
        "[[plugin]]\nname = \"{name}\"\npath = \"{{dir}}/{version}-{hook}.wasm\"\nconfig = {config}\n{grants}\n"
    )
}

fn files() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = FROZEN
        .iter()
        .map(|(version, hook, _, _, bytes)| (format!("{version}-{hook}.wasm"), bytes.to_vec()))
        .collect();
    files.push(("networks.csv".to_owned(), b"44,GB\n4477,IM\n".to_vec()));
    files
}

const TABLES: &str = "[tables.networks]\nfile = \"networks.csv\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn plugins_of_every_hook_and_version_are_active_in_one_set_and_decide_one_message() {
    let entries =
        FROZEN.map(|(version, hook, config, wants, _)| entry(version, hook, config, wants));
    let rig = Rig::start(Plan {
        files: files(),
        policy: format!("{TABLES}{}", entries.concat()),
        ..Plan::default()
    })
    .await;
    let (status, set) = rig.admin("GET", "/v1/policy", None).await;
    assert_eq!(status, 200, "{set}");
    assert_eq!(
        set["plugins"].as_array().map(Vec::len),
        Some(FROZEN.len()),
        "{set}"
    );

    let id = rig.submit(sms("+447700900123", "hello")).await;
    let message = rig.wait_for(&id, "delivered").await;
    let calls = message["decisions"][0]["calls"].as_array().expect("calls");
    let said: Vec<_> = calls
        .iter()
        .map(|c| {
            (
                c["name"].as_str().unwrap_or(""),
                c["outcome"].as_str().unwrap_or(""),
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            ("enrichment-0-2-0", "enrich"),
            ("enrichment-0-3-0", "enrich"),
            ("content-filter-0-1-0", "pass"),
            ("content-filter-0-2-0", "pass"),
            ("content-filter-0-3-0", "pass"),
            ("compliance-check-0-1-0", "allow"),
            ("compliance-check-0-2-0", "allow"),
            ("compliance-check-0-3-0", "allow"),
            ("routing-policy-0-1-0", "send"),
        ]
    );
    assert_eq!(calls[0]["hook"], "enrichment");
    assert_eq!(calls[0]["why"], "4477 is IM");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_plugin_of_each_version_refuses_and_routes_by_itself() {
    for version in ["0.1.0", "0.2.0", "0.3.0"] {
        let own = FROZEN.iter().filter(|f| f.0 == version);
        let entries: String = own
            .map(|(v, hook, config, wants, _)| entry(v, hook, config, wants))
            .collect();
        let rig = Rig::start(Plan {
            files: files(),
            policy: format!("{TABLES}{entries}"),
            ..Plan::default()
        })
        .await;
        let refused = rig.refused(sms("+447700900123", "Claim your PRIZE")).await;
        assert_eq!(refused["code"], "word_blocked", "{version}: {refused}");
        let id = rig.submit(sms("+447700900123", "hello")).await;
        let message = rig.wait_for(&id, "delivered").await;
        let calls = message["decisions"][0]["calls"].as_array().expect("calls");
        let last = calls.last().expect("routing");
        assert_eq!(
            (&last["outcome"], &last["why"]),
            (&json!("send"), &json!("the configured order"))
        );
    }
}
