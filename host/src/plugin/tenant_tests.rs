//! Entries of accounts' own, versions that stand in, withheld texts, and counts that outlive a set.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::test_guests::*;
use super::*;
use crate::domain::{AccountId, Hook, Verdict};

fn guest(answer: &str) -> Guest {
    Guest {
        answer: answer.into(),
        ..Guest::default()
    }
}

/// Builds `toml` over components by name; what is built before it is the previous set.
async fn built(
    toml: &str,
    components: &[(&'static str, &Guest)],
    host: &Host,
    before: Option<&PolicySet>,
) -> Result<PolicySet, SetError> {
    let components = components.iter().map(|(name, g)| (*name, build(g)));
    let shelf = Shelf {
        components: components.collect(),
        ..Shelf::default()
    };
    let spec = PolicySpec::from_toml(toml).unwrap();
    PolicySet::build(&spec, Arc::new(shelf), host, before).await
}

fn entry(lines: &str) -> String {
    format!("[[plugin]]\nname = \"it\"\npath = \"guest.wasm\"\n{lines}\n")
}

async fn problem(toml: &str, guest: &Guest) -> (String, String) {
    let refused = built(toml, &[("guest.wasm", guest)], &host(), None).await;
    let SetError(problems) = refused.err().expect("a refusal");
    (problems[0].pointer.clone(), problems[0].detail.clone())
}

fn asked<'s>(set: &'s PolicySet, account: &str) -> Vec<&'s Entry> {
    let account = AccountId::from(account);
    set.entries_for(Hook::ContentFilter, Some(&account))
        .collect()
}

/// Counts its own calls in its memory and refuses to go on after the first.
const ONCE: &str = "(global.set $n (i32.add (global.get $n) (i32.const 1)))
    (if (i32.gt_u (global.get $n) (i32.const 1)) (then (unreachable))) (i32.const 2048)";

fn once() -> Guest {
    Guest {
        more: "(global $n (mut i32) (i32.const 0))".into(),
        ..guest(ONCE)
    }
}

#[tokio::test]
async fn an_accounts_entry_is_asked_about_its_own_traffic_alone() {
    let toml = entry("accounts = [\"acme\"]") + "[[plugin]]\nname = \"all\"\npath = \"guest.wasm\"";
    let set = built(&toml, &[("guest.wasm", &Guest::default())], &host(), None)
        .await
        .unwrap();
    let names = |account| -> Vec<&str> { asked(&set, account).iter().map(|e| e.name()).collect() };
    assert_eq!(names("acme"), ["it", "all"]);
    assert_eq!(names("other"), ["all"]);
    let nobody = set.entries_for(Hook::ContentFilter, None);
    assert_eq!(nobody.map(Entry::name).collect::<Vec<_>>(), ["all"]);
}

#[tokio::test]
async fn two_accounts_of_one_entry_share_no_memory_no_state_and_no_pseudonyms() {
    let count =
        "(drop (call $increment (i32.const 1024) (i32.const 1) (i64.const 1) (i32.const 60)))";
    let guest = Guest {
        imports: INCREMENT,
        answer: format!("{count} {ONCE}"),
        more: "(global $n (mut i32) (i32.const 0))".into(),
        ..Guest::default()
    };
    let lines = "accounts = [\"acme\", \"other\"]\ngrants = { state = { bytes = 100 }, numbers = \"pseudonym\" }";
    let host = host();
    let set = built(&entry(lines), &[("guest.wasm", &guest)], &host, None)
        .await
        .unwrap();
    for account in ["acme", "other"] {
        let entry = asked(&set, account)[0];
        let answer = entry
            .inspect(&message(), &context(), &mut Witness::absent())
            .await
            .0;
        assert_eq!(answer, Ok(Verdict::Pass), "{account}: a fresh instance");
        assert_eq!(host.state.count(&format!("it@{account}"), "g"), 1);
    }
    let of = |account| asked(&set, account)[0].pool.disclosure.key;
    assert_ne!(of("acme"), of("other"));
}

#[tokio::test]
async fn a_carrier_adapter_is_no_accounts_own() {
    let adapter = Guest {
        hooks: vec![Hook::CarrierAdapter],
        ..Guest::default()
    };
    let (pointer, detail) = problem(&entry("accounts = [\"acme\"]"), &adapter).await;
    assert_eq!(pointer, "/plugin/0/accounts");
    assert!(detail.contains("takes everybody's messages"), "{detail}");
}

#[tokio::test]
async fn an_account_cannot_reserve_more_than_its_quota() {
    let toml = |quota: &str, lines: &str| {
        format!(
            "[accounts.acme]\n{quota}\n{}",
            entry(&format!("accounts = [\"acme\"]\n{lines}"))
        )
    };
    let check = async |quota: &str, lines: &str, at: &str, rule: &str| {
        let (pointer, detail) = problem(&toml(quota, lines), &Guest::default()).await;
        assert_eq!(pointer, at, "{detail}");
        assert!(detail.contains(rule), "{detail}");
    };
    check(
        "memory_mib = 63",
        "limits = { memory_mib = 16 }",
        "/plugin/0/limits/memory_mib",
        "reserve 64 MiB",
    )
    .await;
    check(
        "state_bytes = 99",
        "grants = { state = { bytes = 100 } }",
        "/plugin/0/grants/state/bytes",
        "accounts.state_bytes = 99",
    )
    .await;
    check(
        "",
        "limits = { deadline_ms = 101 }",
        "/plugin/0/limits/deadline_ms",
        "1 to 100",
    )
    .await;
    check(
        "cpu_ms_per_s = 0",
        "",
        "/accounts/acme/cpu_ms_per_s",
        "1 to",
    )
    .await;
    let fits = toml(
        "memory_mib = 32",
        "limits = { memory_mib = 16, instances = 2 }",
    );
    let set = built(&fits, &[("guest.wasm", &Guest::default())], &host(), None).await;
    assert!(set.is_ok());
}

#[tokio::test]
async fn an_account_that_burns_its_processor_time_is_refused_and_others_are_not() {
    // Some milliseconds of work, then an answer: nothing that a breaker would see.
    let busy = guest(
        "(local.set $n (i32.const 20000000))
         (loop $l (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br_if $l (local.get $n)))
         (i32.const 2048)",
    );
    let toml = format!(
        "[accounts.acme]\ncpu_ms_per_s = 1\ncpu_burst_ms = 1\n{}",
        entry("accounts = [\"acme\", \"other\"]\nlimits = { deadline_ms = 100 }")
    );
    let host = host();
    let set = built(&toml, &[("guest.wasm", &busy)], &host, None)
        .await
        .unwrap();
    let mine = asked(&set, "acme")[0];
    let first = mine
        .inspect(&message(), &context(), &mut Witness::absent())
        .await
        .0;
    assert_eq!(first, Ok(Verdict::Pass));
    let second = mine
        .inspect(&message(), &context(), &mut Witness::absent())
        .await
        .0
        .unwrap_err();
    assert_eq!(second.kind(), "quota");
    assert!(second.to_string().contains("cpu_ms_per_s = 1"), "{second}");
    assert_eq!(mine.breaker(), BreakerState::Closed);
    let theirs = asked(&set, "other")[0];
    assert_eq!(
        theirs
            .inspect(&message(), &context(), &mut Witness::absent())
            .await
            .0,
        Ok(Verdict::Pass)
    );
    let usages = host.engine.ledger().usages();
    assert_eq!(usages[0].account, "acme");
    assert_eq!((usages[0].calls, usages[0].refused), (1, 1));
    assert!(usages[0].cpu_nanos >= 1_000_000, "{usages:?}");

    // Another policy is no way to a full bucket.
    let next = built(
        &toml.replace("deadline_ms = 100", "deadline_ms = 99"),
        &[("guest.wasm", &busy)],
        &host,
        Some(&set),
    )
    .await;
    let next = next.unwrap();
    let again = asked(&next, "acme")[0]
        .inspect(&message(), &context(), &mut Witness::absent())
        .await
        .0;
    assert_eq!(again.unwrap_err().kind(), "quota");
}

#[tokio::test]
async fn calls_given_up_in_the_middle_are_paid_for() {
    let looping = guest("(loop $l (br $l)) (unreachable)");
    let host = host();
    let lines = entry("accounts = [\"acme\"]\nlimits = { deadline_ms = 100 }");
    let set = built(&lines, &[("guest.wasm", &looping)], &host, None)
        .await
        .unwrap();
    let entry = asked(&set, "acme")[0];
    let (message, context, mut witness) = (message(), context(), Witness::absent());
    let given_up = tokio::time::timeout(
        Duration::from_millis(20),
        entry.inspect(&message, &context, &mut witness),
    );
    assert!(given_up.await.is_err());
    let used = host.engine.ledger().usages()[0].cpu_nanos;
    assert!(used >= 5_000_000, "{used}");
}

const OLD_AND_NEW: &str = "[[plugin]]\nname = \"it\"\npath = \"new.wasm\"\nfail = \"previous\"\nprevious = { path = \"old.wasm\" }\nbreaker = { faults = 1, window = 1 }\n";

#[tokio::test]
async fn the_version_before_stands_behind_the_present_one() {
    let host = host();
    let components = [
        ("new.wasm", &guest("(unreachable)")),
        ("old.wasm", &Guest::default()),
    ];
    let set = built(OLD_AND_NEW, &components, &host, None).await.unwrap();
    let entry = set.entries(Hook::ContentFilter).next().unwrap();
    assert_eq!(entry.fail(), Fail::Previous);
    let fault = entry
        .inspect(&message(), &context(), &mut Witness::absent())
        .await
        .0
        .unwrap_err();
    assert_eq!(fault.kind(), "trap");
    assert_eq!(entry.breaker(), BreakerState::Open);
    let previous = entry.previous().expect("a version before");
    assert_eq!(
        previous
            .inspect(&message(), &context(), &mut Witness::absent())
            .await
            .0,
        Ok(Verdict::Pass)
    );
    assert_eq!((previous.fail(), previous.index()), (Fail::Closed, 0));
    assert_eq!(previous.breaker(), BreakerState::Closed);
    assert_eq!((entry.stats().calls, previous.stats().calls), (1, 1));
    let summary = &set.summary().plugins[0];
    assert_eq!(summary.hooks[0].fail, "previous");
    let digest: [u8; 32] = Sha256::digest(build(&Guest::default())).into();
    assert_eq!(
        summary.previous.as_ref().unwrap().digest,
        digest_text(&digest)
    );
    assert!(set.notes().is_empty(), "{:?}", set.notes());

    let other = [("new.wasm", &guest("(unreachable)")), ("old.wasm", &once())];
    let other = built(OLD_AND_NEW, &other, &host, None).await.unwrap();
    assert_ne!(
        other.id(),
        set.id(),
        "the version before is part of the set"
    );
}

#[tokio::test]
async fn without_a_version_before_the_hooks_default_holds_and_is_noted() {
    let lines = entry("fail = \"previous\"");
    let set = built(&lines, &[("guest.wasm", &Guest::default())], &host(), None).await;
    let set = set.unwrap();
    assert_eq!(set.all()[0].fail(), Fail::Closed);
    assert!(set.all()[0].previous().is_none());
    assert_eq!(set.notes()[0].pointer, "/plugin/0/fail");
    assert!(
        set.notes()[0].detail.contains("no version before is known"),
        "{:?}",
        set.notes()
    );
}

#[tokio::test]
async fn a_version_before_that_wants_more_than_is_granted_is_refused() {
    let wants = Guest {
        imports: INCREMENT,
        answer: "(drop (call $increment (i32.const 0) (i32.const 1) (i64.const 1) (i32.const 1))) (i32.const 2048)".into(),
        ..Guest::default()
    };
    let components = [("new.wasm", &Guest::default()), ("old.wasm", &wants)];
    let refused = built(OLD_AND_NEW, &components, &host(), None).await;
    let SetError(problems) = refused.err().unwrap();
    assert_eq!(problems[0].pointer, "/plugin/0/previous/grants/state");
    let (pointer, _) = problem(&entry("previous = { path = \"x\" }"), &Guest::default()).await;
    assert_eq!(pointer, "/plugin/0/previous");
}

#[tokio::test]
async fn a_breaker_has_bounds() {
    let check = async |breaker: &str, at: &str, rule: &str| {
        let lines = entry(&format!("breaker = {{ {breaker} }}"));
        let (pointer, detail) = problem(&lines, &Guest::default()).await;
        assert_eq!(pointer, at, "{detail}");
        assert!(detail.contains(rule), "{detail}");
    };
    check("faults = 0", "/plugin/0/breaker/faults", "1 to 1000").await;
    check("faults = 21", "/plugin/0/breaker/faults", "never open").await;
    check(
        "pause_s = 10, max_pause_s = 9",
        "/plugin/0/breaker/pause_s",
        "max_pause_s = 9",
    )
    .await;
}

#[tokio::test]
async fn an_open_compliance_check_is_noted() {
    let check = Guest {
        hooks: vec![Hook::ComplianceCheck],
        ..Guest::default()
    };
    let lines = entry("fail = \"open\"\nallow_open_compliance = true");
    let set = built(&lines, &[("guest.wasm", &check)], &host(), None).await;
    let notes = set.unwrap().notes().to_vec();
    assert!(
        notes[0].detail.starts_with("compliance is open"),
        "{notes:?}"
    );
}

#[tokio::test]
async fn what_is_withheld_is_not_replaced() {
    // `replace` with the text "guest" and the reason "guest".
    let replacing = Guest {
        more: format!(
            "(data (i32.const {FREE}) \"\\01\\00\\00\\00\\00\\00\\00\\00\\00\\04\\00\\00\\05\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\04\\00\\00\\05\\00\\00\\00\")"
        ),
        ..guest(&format!("(i32.const {FREE})"))
    };
    let asked = async |content: &str| {
        let lines = entry(&format!("grants = {{ content = \"{content}\" }}"));
        let set = built(&lines, &[("guest.wasm", &replacing)], &host(), None).await;
        let set = set.unwrap();
        set.all()[0]
            .inspect(&message(), &context(), &mut Witness::absent())
            .await
            .0
    };
    let answer = asked("full").await;
    assert!(matches!(answer, Ok(Verdict::Replace { .. })), "{answer:?}");
    for content in ["length", "none"] {
        let fault = asked(content).await.unwrap_err();
        assert!(fault.to_string().contains("withholds the text"), "{fault}");
    }
}

#[tokio::test]
async fn without_a_grant_of_content_not_even_the_length_is_seen() {
    // Traps unless the body is `withheld(0)`: its case at 80, its length at 84.
    let looks = guest(
        "(if (i32.ne (i32.load8_u offset=80 (local.get $args)) (i32.const 2)) (then (unreachable)))
         (if (i32.load offset=84 (local.get $args)) (then (unreachable))) (i32.const 2048)",
    );
    let seen = async |content: &str| {
        let lines = entry(&format!("grants = {{ content = \"{content}\" }}"));
        let set = built(&lines, &[("guest.wasm", &looks)], &host(), None).await;
        set.unwrap().all()[0]
            .inspect(&message(), &context(), &mut Witness::absent())
            .await
            .0
    };
    assert_eq!(seen("none").await, Ok(Verdict::Pass));
    assert!(seen("length").await.is_err(), "160 characters");
}

#[tokio::test]
async fn counts_outlive_a_set_and_are_told_apart_by_who_made_them() {
    let host = host();
    let components = [("guest.wasm", &Guest::default())];
    let first = built(&entry(""), &components, &host, None).await.unwrap();
    for _ in 0..3 {
        let _ = first.all()[0]
            .inspect(&message(), &context(), &mut Witness::absent())
            .await;
    }
    let changed = entry("config = { a = 1 }");
    let next = built(&changed, &components, &host, Some(&first)).await;
    let next = next.unwrap();
    drop(first);
    let _ = next.all()[0]
        .inspect(&message(), &context(), &mut Witness::absent())
        .await;
    assert_eq!(next.all()[0].stats().calls, 1);
    let totals = host.engine.ledger().totals();
    let (who, stats) = &totals[0];
    assert_eq!((totals.len(), stats.calls), (1, 4));
    assert_eq!(
        (
            who.entry.as_str(),
            who.plugin.as_str(),
            who.version.as_str()
        ),
        ("it", "guest", "1.0.0")
    );
    assert_eq!(*who, next.all()[0].who());
    assert!(stats.cpu_nanos > 0 && stats.total_nanos >= stats.cpu_nanos);
}

#[test]
fn a_policy_without_the_new_fields_is_written_as_before() {
    let old = PolicySpec::from_toml(&entry("")).unwrap();
    let written = serde_json::to_value(&old).unwrap();
    let keys: Vec<&String> = written["plugin"][0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["config", "grants", "limits", "name", "path"]);
    let read: BTreeMap<String, serde_json::Value> = serde_json::from_value(written).unwrap();
    assert_eq!(read.len(), 1);
}
