//! Whole verdicts: a configuration and a text in, and what becomes of the message out.

use heliograph_plugin::testing::{FakeHost, context, message};
use heliograph_plugin::{Octets, TrafficClass, config_schema, configure};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

#[track_caller]
fn guard(config: Value) -> LinkGuard {
    configure(&config.to_string()).unwrap_or_else(|error| panic!("{config}: {error}"))
}

/// `refuse CODE`, `hold CODE`, `pass` or the text that is left.
fn verdict(guard: &LinkGuard, message: &Message) -> String {
    match guard.inspect(message, &context()) {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Refuse(refusal) => format!("refuse {}", refusal.code),
        Verdict::Hold(reason) => format!("hold {}", reason.split(':').next().unwrap_or_default()),
        Verdict::Replace(replacement) => replacement.body.as_text().unwrap().to_owned(),
        Verdict::Drop(reason) => panic!("{reason}"),
    }
}

fn says(config: Value, text: &str) -> String {
    FakeHost::new();
    verdict(&guard(config), &message("+15005550006", text))
}

fn brands() -> Value {
    json!({"brands": [{"domains": ["paypal.com", "paypal.me"]}, {"domains": ["dhl.com"], "words": ["dhlexpress"]}]})
}

#[test]
fn ordinary_links_and_texts_pass() {
    for text in [
        "",
        "Your code is 1234.Do not share it",
        "See https://example.com/a?b=c and shop.example.org",
        "Pay at https://www.paypal.com/invoice or paypal.me/x",
    ] {
        assert_eq!(says(brands(), text), "pass", "{text}");
    }
}

#[test]
fn links_that_hide_where_they_lead_are_refused() {
    for (text, expected) in [
        ("go to bit.ly/x", "refuse link_shortener"),
        ("http://192.168.1.1/login", "refuse link_address"),
        ("http://0x7f.1/", "refuse link_address"),
        ("http://3232235777/", "refuse link_address"),
        ("http://[::1]/", "refuse link_address"),
        ("https://example.com@evil.net/x", "refuse link_disguised"),
        ("https://раураl.com/x", "hold link_mixed_script"),
        ("https://аррӏе.com", "hold link_mixed_script"),
    ] {
        assert_eq!(says(json!({}), text), expected, "{text}");
    }
    for text in [
        "https://пример.com/x",
        "https://bücher.example/",
        "http://例え.jp/",
    ] {
        assert_eq!(says(json!({}), text), "pass", "{text}");
    }
}

#[test]
fn hosts_that_pose_as_a_brand_are_refused_or_held() {
    for (text, expected) in [
        ("https://paypa1.com/login", "refuse link_lookalike"),
        ("https://pаypal.com/login", "refuse link_lookalike"),
        ("secure-paypai.top/x", "refuse link_lookalike"),
        ("https://paypal.com.evil.net/", "hold link_brand"),
        ("dhl-parcel.top/1", "hold link_brand"),
        ("https://dhlexpress.info", "hold link_brand"),
        ("https://papyal.com/", "hold link_near_brand"),
    ] {
        assert_eq!(says(brands(), text), expected, "{text}");
    }
}

#[test]
fn the_reason_names_the_host_and_the_brand() {
    FakeHost::new();
    match guard(brands()).inspect(
        &message("+15005550006", "https://paypa1.com/secret?x=1"),
        &context(),
    ) {
        Verdict::Refuse(refusal) => assert_eq!(
            refusal.reason,
            "paypa1.com is drawn like paypal and is not it"
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn lists_of_hosts_cover_what_is_under_them() {
    let config = json!({"allow_hosts": ["bit.ly", "good.example"], "block_hosts": ["example"]});
    FakeHost::new();
    assert!(configure::<LinkGuard>(&config.to_string()).is_err());
    let config =
        json!({"allow_hosts": ["bit.ly", "good.example.com"], "block_hosts": ["example.com"]});
    for (text, expected) in [
        ("bit.ly/x", "pass"),
        ("https://a.good.example.com", "pass"),
        ("https://bad.example.com", "refuse link_blocked"),
        ("https://example.com", "refuse link_blocked"),
        ("https://notexample.com", "pass"),
    ] {
        assert_eq!(says(config.clone(), text), expected, "{text}");
    }
}

#[test]
fn tables_are_asked_for_the_host_and_its_parents() {
    let host = FakeHost::new();
    host.set_table(
        "bad",
        &[("evil.net", "phishing, seen 2026-06"), ("com", "nothing")],
    );
    host.set_table("good", &[("fine.evil.net", "")]);
    let guard = guard(json!({"block_table": "bad", "allow_table": "good"}));
    let ask = |text: &str| verdict(&guard, &message("+15005550006", text));
    assert_eq!(ask("https://a.b.evil.net/x"), "refuse link_blocked");
    assert_eq!(ask("https://x.fine.evil.net/x"), "pass");
    assert_eq!(ask("https://example.com"), "pass");
    let deep = format!("https://{}evil.net/", "a.".repeat(60));
    assert_eq!(ask(&deep), "refuse link_blocked");
    match guard.inspect(&message("+15005550006", "https://evil.net"), &context()) {
        Verdict::Refuse(refusal) => assert_eq!(refusal.reason, "evil.net: phishing, seen 2026-06"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_account_links_to_its_own_hosts() {
    FakeHost::new();
    let guard = guard(
        json!({"only_listed": true, "allow_hosts": ["example.com"], "block_hosts": ["acme.example.net"], "accounts": {
        "acme": {"hosts": ["acme.example.net"]}, "free": {"only_listed": false}, "test": {"exempt": true}}}),
    );
    let ask = |account: &str, text: &str| {
        let mut sent = message("+15005550006", text);
        sent.account = account.to_owned();
        verdict(&guard, &sent)
    };
    assert_eq!(
        ask("acme", "https://shop.acme.example.net/ and example.com/x"),
        "pass"
    );
    assert_eq!(ask("acme", "https://other.org/"), "refuse link_not_listed");
    assert_eq!(
        ask("other", "https://acme.example.net/"),
        "refuse link_blocked"
    );
    assert_eq!(ask("free", "https://other.org/"), "pass");
    assert_eq!(ask("test", "bit.ly/x"), "pass");
}

#[test]
fn stripped_links_leave_the_rest_and_the_severest_action_decides() {
    let config = json!({"actions": {"shortener": "strip", "address": "hold", "blocked": "refuse"}, "replacement": "[-]", "block_hosts": ["evil.net"]});
    for (text, expected) in [
        ("Sale! bit.ly/x, and t.co/y now", "Sale! [-] and [-] now"),
        ("https://tinyurl.com/abc", "[-]"),
        ("bit.ly/x http://10.0.0.1/", "hold link_address"),
        (
            "http://10.0.0.1/ bit.ly/x evil.net/y",
            "refuse link_blocked",
        ),
        ("See https://example.com", "pass"),
    ] {
        assert_eq!(says(config.clone(), text), expected, "{text}");
    }
    let lenient = json!({"actions": {"shortener": "pass"}});
    assert_eq!(says(lenient, "bit.ly/x"), "pass");
}

#[test]
fn a_text_full_of_links_is_held_and_not_read_to_its_end() {
    let text = "https://example.com/ ".repeat(6);
    assert_eq!(says(json!({}), &text), "hold too_many_links");
    assert_eq!(says(json!({"max_links": 6}), &text), "pass");
    let strip = json!({"max_links": 1, "actions": {"too_many": "strip"}, "replacement": "-"});
    assert_eq!(
        says(strip, "https://a.com https://b.com https://c.com"),
        "https://a.com - -"
    );
    assert_eq!(
        says(json!({"max_links": 1}), "https://a.com bit.ly/x"),
        "hold too_many_links"
    );
}

#[test]
fn classes_bodies_and_withheld_content() {
    FakeHost::new();
    let guard = guard(json!({"classes": ["promotional"]}));
    let mut sent = message("+15005550006", "bit.ly/x");
    assert_eq!(verdict(&guard, &sent), "pass");
    sent.traffic = TrafficClass::Promotional;
    assert_eq!(verdict(&guard, &sent), "refuse link_shortener");
    sent.body = Body::Binary(Octets {
        user_data_header: Vec::new(),
        data: b"bit.ly/x".to_vec(),
    });
    assert_eq!(verdict(&guard, &sent), "pass");
    sent.body = Body::Withheld(8);
    assert_eq!(verdict(&guard, &sent), "refuse content_withheld");
    let held = self::guard(json!({"on_withheld": "hold"}));
    assert!(verdict(&held, &sent).starts_with("hold"));
}

#[test]
fn faults_of_the_configuration_are_named() {
    for (config, names) in [
        (
            json!({"allow_hosts": ["https://example.com"]}),
            "allow_hosts: `https://example.com`",
        ),
        (json!({"block_hosts": ["com"]}), "block_hosts"),
        (json!({"shorteners": [""]}), "shorteners"),
        (
            json!({"accounts": {"a": {"hosts": ["x"]}}}),
            "accounts.a.hosts",
        ),
        (json!({"brands": [{"domains": []}]}), "brands[0].domains"),
        (
            json!({"brands": [{"domains": ["x/y"]}]}),
            "brands[0].domains",
        ),
        (
            json!({"brands": [{"domains": ["a.com"], "words": ["ab"]}]}),
            "brands[0].words",
        ),
        (json!({"max_links": 0}), "max_links"),
        (json!({"replacement": "https://example.com"}), "replacement"),
        (json!({"actions": {"blocked": "drop"}}), "actions.blocked"),
        (json!({"block": []}), "unknown field"),
    ] {
        match configure::<LinkGuard>(&config.to_string()) {
            Ok(_) => panic!("accepted: {config}"),
            Err(error) => assert!(error.contains(names), "{config}: {error}"),
        }
    }
}

#[test]
fn the_schema_describes_every_field() {
    let schema: Value = serde_json::from_str(&config_schema::<LinkGuard>()).unwrap();
    let inner = schema["$defs"].as_object().cloned().unwrap_or_default();
    for (name, definition) in inner
        .into_iter()
        .chain([("Config".to_owned(), schema.clone())])
    {
        for (field, property) in definition["properties"].as_object().into_iter().flatten() {
            let said = property["description"].as_str();
            assert!(said.is_some_and(|text| !text.is_empty()), "{name}.{field}");
        }
    }
}

#[test]
fn hostile_texts_cost_linear_time() {
    FakeHost::new();
    let guard = guard(brands());
    for unit in [
        "https://xn--pypal-4ve.com/ ",
        "a.",
        "xn--",
        "https://a@",
        "paypal.",
        "http://[",
        "。",
        "bit.ly/x ",
    ] {
        let text = unit.repeat(40_000);
        let started = std::time::Instant::now();
        guard.inspect(&message("+15005550006", &text), &context());
        // In quadratic time this takes minutes.
        assert!(started.elapsed().as_secs() < 10, "{unit}");
    }
}

proptest! {
    #[test]
    fn no_text_panics_and_a_strip_only_takes_away(text in "(\\PC{0,6}|https?://|bit\\.ly/x|xn--[a-z0-9-]{0,9}|\\.com|@|\\.| ){0,14}") {
        FakeHost::new();
        let config = json!({"actions": {"shortener": "strip", "lookalike": "strip", "brand_in_host": "strip", "user_name": "strip",
            "address": "strip", "near_brand": "strip", "mixed_script": "strip", "too_many": "strip"},
            "replacement": "", "max_links": 3, "brands": [{"domains": ["paypal.com"]}]});
        match guard(config).inspect(&message("+15005550006", &text), &context()) {
            Verdict::Pass => {}
            Verdict::Replace(replacement) => {
                let left = replacement.body.as_text().unwrap();
                let mut of_text = text.chars();
                prop_assert!(left.len() < text.len());
                prop_assert!(left.chars().all(|c| of_text.any(|t| t == c)));
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }
}
