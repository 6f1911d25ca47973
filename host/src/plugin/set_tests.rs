//! Policies that are refused, with the place and the rule; and what a set keeps from the one before.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::test_guests::*;
use super::*;
use crate::domain::{Hook, Verdict};

async fn refused(guest: &Guest, lines: &str) -> (String, String) {
    let SetError(problems) = set_of(guest, lines).await.err().expect("a refusal");
    (problems[0].pointer.clone(), problems[0].detail.clone())
}

#[track_caller]
fn says((pointer, detail): (String, String), at: &str, rule: &str) {
    assert_eq!(pointer, at, "{detail}");
    assert!(detail.contains(rule), "{detail}");
}

#[tokio::test]
async fn a_policy_that_cannot_be_right_is_refused_before_anything_is_loaded() {
    let guest = Guest::default();
    let check =
        async |lines: &str, at: &str, rule: &str| says(refused(&guest, lines).await, at, rule);
    check(
        "hooks = [\"filter\"]",
        "/plugin/0/hooks/0",
        "content-filter",
    )
    .await;
    check("hooks = []", "/plugin/0/hooks", "empty").await;
    check(
        "digest = \"sha256:00\"",
        "/plugin/0",
        "exactly one of path and digest",
    )
    .await;
    check(
        "grants = { tables = [\"x\"] }",
        "/plugin/0/grants/tables/0",
        "not in [tables]",
    )
    .await;
    check(
        "grants = { secrets = { A = \"env:A\" } }",
        "/plugin/0/grants/secrets",
        "grants.http",
    )
    .await;
    check(
        "limits = { deadline_ms = 0 }",
        "/plugin/0/limits/deadline_ms",
        "1 to 60000",
    )
    .await;
    check(
        "limits = { memory_mib = 129 }",
        "/plugin/0/limits/memory_mib",
        "1 to plugins.max_memory_mib = 128",
    )
    .await;
    let twice = "[[plugin]]\nname = \"it\"\npath = \"guest.wasm\"";
    check(twice, "/plugin/1/name", "earlier entry").await;
}

#[tokio::test]
async fn a_secret_written_into_the_policy_is_refused_and_not_repeated() {
    let lines =
        "[plugin.grants]\nhttp = { hosts = [\"a.example:443\"] }\nsecrets = { KEY = \"hunter2\" }";
    let (pointer, detail) = refused(&Guest::default(), lines).await;
    assert_eq!(pointer, "/plugin/0/grants/secrets/KEY");
    assert!(
        detail.contains("env:NAME") && !detail.contains("hunter2"),
        "{detail}"
    );
}

#[tokio::test]
async fn an_import_that_is_not_granted_is_named() {
    let guest = Guest {
        imports: INCREMENT,
        answer: "(drop (call $increment (i32.const 0) (i32.const 1) (i64.const 1) (i32.const 1))) (i32.const 2048)".into(),
        ..Guest::default()
    };
    says(
        refused(&guest, "").await,
        "/plugin/0/grants/state",
        "imports state, which is not granted",
    );
    assert!(
        set_of(&guest, "grants = { state = { bytes = 100 } }")
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn http_is_for_carrier_adapters_alone() {
    let lines = "grants = { http = { hosts = [\"a.example:443\"] } }";
    says(
        refused(&Guest::default(), lines).await,
        "/plugin/0/grants/http",
        "decision hooks do no I/O",
    );
}

#[tokio::test]
async fn a_configuration_is_held_against_its_schema_and_shown_to_the_plugin() {
    let strict = Guest {
        schema: r#"{"type": "object", "properties": {"rules": {"type": "array", "items": {"type": "string"}}}}"#.into(),
        ..Guest::default()
    };
    says(
        refused(&strict, "config = { rules = [\"a\", 5] }").await,
        "/plugin/0/config/rules/1",
        "string",
    );

    let picky = Guest {
        configure: format!("(i32.const {FREE})"),
        more: format!(
            "(data (i32.const {FREE}) \"\\01\\00\\00\\00\\00\\04\\00\\00\\05\\00\\00\\00\")"
        ),
        ..Guest::default()
    };
    says(
        refused(&picky, "").await,
        "/plugin/0/config",
        "the plugin refuses it: guest",
    );

    let looping = Guest {
        configure: "(loop $l (br $l)) (unreachable)".into(),
        ..Guest::default()
    };
    says(
        refused(&looping, "limits = { configure_ms = 5 }").await,
        "/plugin/0/config",
        "did not answer",
    );
}

#[tokio::test]
async fn a_hook_that_is_not_exported_cannot_be_served() {
    let (pointer, detail) = refused(&Guest::default(), "hooks = [\"routing-policy\"]").await;
    assert_eq!(pointer, "/plugin/0/hooks/0");
    assert!(detail.contains("it exports content-filter"), "{detail}");
}

#[tokio::test]
async fn fail_modes_are_by_hook() {
    let fail = async |hook: Hook, lines: &str| {
        let guest = Guest {
            hooks: vec![hook],
            ..Guest::default()
        };
        let set = set_of(&guest, lines).await;
        set.map(|s| s.all()[0].fail())
            .map_err(|e| e.0[0].detail.clone())
    };
    assert_eq!(fail(Hook::ContentFilter, "").await, Ok(Fail::Closed));
    assert_eq!(fail(Hook::ComplianceCheck, "").await, Ok(Fail::Closed));
    assert_eq!(fail(Hook::RoutingPolicy, "").await, Ok(Fail::Default));
    assert_eq!(fail(Hook::InboundHandler, "").await, Ok(Fail::Open));
    assert_eq!(
        fail(Hook::ContentFilter, "fail = \"open\"").await,
        Ok(Fail::Open)
    );
    let open = fail(Hook::ComplianceCheck, "fail = \"open\"").await;
    assert!(open.unwrap_err().contains("allow_open_compliance"));
    let open = fail(
        Hook::ComplianceCheck,
        "fail = \"open\"\nallow_open_compliance = true",
    )
    .await;
    assert_eq!(open, Ok(Fail::Open));
    assert!(
        fail(Hook::ContentFilter, "fail = \"default\"")
            .await
            .is_err()
    );
    assert!(fail(Hook::CarrierAdapter, "fail = \"open\"").await.is_err());
}

fn two_plugins(second: &str) -> PolicySpec {
    let entry = |name: &str, lines: &str| {
        format!("[[plugin]]\nname = \"{name}\"\npath = \"guest.wasm\"\n{lines}\n")
    };
    PolicySpec::from_toml(&(entry("one", "") + &entry("two", second))).unwrap()
}

#[tokio::test]
async fn the_same_policy_is_the_same_set_and_unchanged_entries_stay_warm() {
    let shelf = Arc::new(Shelf {
        components: BTreeMap::from([("guest.wasm", build(&Guest::default()))]),
        ..Shelf::default()
    });
    let host = host();
    let first = PolicySet::build(&two_plugins(""), shelf.clone(), &host, None)
        .await
        .unwrap();
    for entry in first.all() {
        assert_eq!(
            entry
                .inspect(&message(), &context(), &mut Witness::absent())
                .await
                .0,
            Ok(Verdict::Pass)
        );
    }
    let same = PolicySet::build(&two_plugins(""), shelf.clone(), &host, Some(&first))
        .await
        .unwrap();
    assert_eq!(same.id(), first.id());
    assert_eq!(same.summary(), first.summary());

    let changed = two_plugins("limits = { deadline_ms = 5 }");
    let next = PolicySet::build(&changed, shelf, &host, Some(&first))
        .await
        .unwrap();
    assert_ne!(next.id(), first.id());
    let calls: Vec<u64> = next.all().iter().map(|e| e.stats().calls).collect();
    assert_eq!(calls, [1, 0], "one is the same as before, two is new");

    first.cool(&next);
    let again = next.all()[0]
        .inspect(&message(), &context(), &mut Witness::absent())
        .await
        .0;
    assert_eq!(again, Ok(Verdict::Pass));
    assert_eq!(
        next.all()[0].stats().instances_made,
        0,
        "what the active set shares is not cooled"
    );
}

#[tokio::test]
async fn one_bad_entry_refuses_the_whole_policy_and_all_are_named() {
    let shelf = Arc::new(Shelf {
        components: BTreeMap::from([("guest.wasm", b"\0asm\x01\0\0\0".to_vec())]),
        ..Shelf::default()
    });
    let error = PolicySet::build(&two_plugins(""), shelf, &host(), None)
        .await
        .err()
        .unwrap();
    let places: Vec<_> = error
        .0
        .iter()
        .map(|p| (p.pointer.as_str(), p.entry.as_deref()))
        .collect();
    assert_eq!(
        places,
        [
            ("/plugin/0/path", Some("one")),
            ("/plugin/1/path", Some("two"))
        ]
    );
    assert!(
        error.to_string().contains("core WebAssembly module"),
        "{error}"
    );
}

#[tokio::test]
async fn a_missing_file_and_a_bad_table_are_named() {
    let spec = PolicySpec::from_toml(
        "[tables.rates]\nfile = \"bad.csv\"\n[[plugin]]\nname = \"a\"\npath = \"no.wasm\"",
    );
    let shelf = Arc::new(Shelf {
        tables: BTreeMap::from([("bad.csv", "44,a\n33")]),
        ..Shelf::default()
    });
    let error = PolicySet::build(&spec.unwrap(), shelf, &host(), None)
        .await
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "/tables/rates/file: line 2: has no comma or tab between key and value\n/plugin/0/path (a): no.wasm: no such file"
    );
}

#[tokio::test]
async fn a_set_without_plugins_has_its_default_route() {
    let set = PolicySet::empty(vec!["north".into()]);
    assert_eq!(
        (set.len(), set.default_route()),
        (0, &["north".to_owned()][..])
    );
    assert_ne!(set.id(), PolicySet::empty(Vec::new()).id());
}

#[tokio::test]
async fn better_code_takes_over_and_counts_on() {
    let (guest, host) = (Guest::default(), host());
    let shelf = Shelf {
        components: BTreeMap::from([("guest.wasm", build(&guest))]),
        tables: BTreeMap::new(),
    };
    let spec = "[[plugin]]\nname = \"it\"\npath = \"guest.wasm\"\n";
    let spec = PolicySpec::from_toml(spec).unwrap();
    let set = PolicySet::build(&spec, Arc::new(shelf), &host, None);
    let set = set.await.unwrap();
    let entry = set.entries(Hook::ContentFilter).next().unwrap();
    let call = async || {
        let mut witness = Witness::absent();
        entry.inspect(&message(), &context(), &mut witness).await.0
    };
    assert_eq!(call().await, Ok(Verdict::Pass));
    let pool = &entry.pool;
    let engine = &host.engine;
    let again = wasmtime::component::Component::new(engine.wasm(), build(&guest)).unwrap();
    assert!(!pool.loaded.code.is_improved());
    assert_eq!(pool.loaded.code.improve(engine, again).await, [""; 0]);
    assert!(pool.loaded.code.is_improved());
    assert_eq!(call().await, Ok(Verdict::Pass));
    let stats = entry.stats();
    assert_eq!(stats.calls, 2);
    assert_eq!(stats.instances_made, 0, "the new instance was there before");
}
