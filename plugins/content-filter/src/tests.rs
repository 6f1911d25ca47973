//! Whole decisions: configuration in, verdict out.

use heliograph_plugin::testing::{context, message};
use heliograph_plugin::{Body, Octets, TrafficClass};
use serde_json::{Value, json};

use super::*;

fn configure(config: Value) -> Result<Filter, String> {
    Filter::new(serde_json::from_value(config).map_err(|error| error.to_string())?)
}

fn filter(config: Value) -> Filter {
    configure(config).unwrap()
}

fn refusal(config: Value) -> String {
    configure(config).err().unwrap()
}

fn inspect(filter: &Filter, text: &str) -> Verdict {
    filter.inspect(&message("+15005550006", text), &context())
}

fn is_pass(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Pass)
}

fn code(verdict: Verdict) -> String {
    match verdict {
        Verdict::Refuse(refusal) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

fn replaced(verdict: Verdict) -> String {
    match verdict {
        Verdict::Replace(replacement) => replacement.body.as_text().unwrap().to_owned(),
        other => panic!("not replaced: {other:?}"),
    }
}

#[test]
fn without_rules_everything_passes() {
    assert!(is_pass(inspect(&filter(json!({})), "casino bit.ly/x")));
    let mut withheld = message("+15005550006", "");
    withheld.body = Body::Withheld(10);
    assert!(is_pass(filter(json!({})).inspect(&withheld, &context())));
}

#[test]
fn a_blocked_word_is_refused_with_its_code_and_named() {
    let filter = filter(
        json!({"rules": [{"name": "gambling", "kind": "words", "words": ["casino"], "code": "no_gambling"}]}),
    );
    match inspect(&filter, "Best cаsino in town") {
        Verdict::Refuse(refusal) => {
            assert_eq!(refusal.code, "no_gambling");
            assert_eq!(
                refusal.reason,
                "rule `gambling`: the text has the word `casino`"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(is_pass(inspect(&filter, "Best pizza in town")));
}

#[test]
fn each_kind_has_a_default_code() {
    let filter = filter(json!({"rules": [
        {"name": "w", "kind": "words", "words": ["casino"]},
        {"name": "r", "kind": "regex", "patterns": ["\\b\\d{16}\\b"]},
        {"name": "u", "kind": "url", "deny_hosts": ["evil.com"]},
    ]}));
    assert_eq!(code(inspect(&filter, "casino")), "blocked_word");
    assert_eq!(
        code(inspect(&filter, "4111111111111111")),
        "blocked_pattern"
    );
    assert_eq!(code(inspect(&filter, "www.evil.com")), "blocked_url");
}

#[test]
fn hold_and_drop_give_the_configured_reason() {
    let filter = filter(json!({"rules": [
        {"name": "a", "kind": "words", "words": ["lottery"], "action": "hold", "reason": "look at it"},
        {"name": "b", "kind": "words", "words": ["spam"], "action": "drop"},
    ]}));
    assert!(matches!(inspect(&filter, "lottery"), Verdict::Hold(reason) if reason == "look at it"));
    assert!(matches!(inspect(&filter, "spam"), Verdict::Drop(reason) if reason.contains("`b`")));
}

#[test]
fn the_first_deciding_rule_in_order_wins() {
    let filter = filter(json!({"rules": [
        {"name": "mask", "kind": "words", "words": ["damn"], "action": "replace"},
        {"name": "hold", "kind": "words", "words": ["lottery"], "action": "hold"},
        {"name": "refuse", "kind": "words", "words": ["casino"]},
    ]}));
    assert!(matches!(
        inspect(&filter, "casino damn lottery"),
        Verdict::Hold(_)
    ));
    assert_eq!(code(inspect(&filter, "casino damn")), "blocked_word");
}

#[test]
fn found_words_are_masked_in_the_original_text() {
    let filter = filter(
        json!({"rules": [{"name": "m", "kind": "words", "words": ["free spins", "damn"], "action": "replace"}]}),
    );
    assert_eq!(
        replaced(inspect(&filter, "Größe: FRЕE  SPINS, d\u{200b}amn it é")),
        "Größe: ****  *****, **** it é"
    );
    assert_eq!(replaced(inspect(&filter, "d.a.m.n")), "*******");
}

#[test]
fn replacements_of_several_rules_add_up_without_overlap() {
    let filter = filter(json!({"rules": [
        {"name": "a", "kind": "words", "words": ["red apple"], "action": "replace", "replacement": "fruit"},
        {"name": "b", "kind": "words", "words": ["apple pie"], "action": "replace", "replacement": "cake"},
        {"name": "c", "kind": "regex", "patterns": ["\\d+"], "action": "replace", "replacement": "#"},
    ]}));
    assert_eq!(
        replaced(inspect(&filter, "12 red apple pie, 7 apple pie")),
        "# fruit, # cake"
    );
}

#[test]
fn a_replacement_that_changes_nothing_passes() {
    let filter = filter(
        json!({"rules": [{"name": "r", "kind": "regex", "patterns": ["\\*+"], "action": "replace"}]}),
    );
    assert!(is_pass(inspect(&filter, "d***")));
}

#[test]
fn a_rule_keeps_to_its_classes_and_accounts() {
    let filter = filter(json!({"rules": [
        {"name": "p", "kind": "words", "words": ["casino"], "classes": ["promotional"]},
        {"name": "a", "kind": "words", "words": ["lottery"], "accounts": ["other"]},
        {"name": "e", "kind": "words", "words": ["poker"], "except_accounts": ["acme"]},
    ]}));
    let mut sent = message("+15005550006", "casino lottery poker");
    assert!(is_pass(filter.inspect(&sent, &context())));
    sent.account = "other".to_owned();
    assert_eq!(code(filter.inspect(&sent, &context())), "blocked_word");
    sent.account = "acme".to_owned();
    sent.traffic = TrafficClass::Promotional;
    assert_eq!(code(filter.inspect(&sent, &context())), "blocked_word");
}

#[test]
fn an_allow_list_refuses_every_other_link() {
    let filter = filter(
        json!({"rules": [{"name": "links", "kind": "url", "allow_hosts": ["example.com"]}]}),
    );
    assert!(is_pass(inspect(
        &filter,
        "https://example.com/a and www.example.com and no link"
    )));
    for text in [
        "evil-example.com",
        "example.com.evil.net",
        "ex\u{430}mple.com",
        "http://example.com@evil.net",
        "http://1.2.3.4/",
    ] {
        assert_eq!(code(inspect(&filter, text)), "blocked_url", "{text}");
    }
}

#[test]
fn a_deny_list_spares_what_is_also_allowed() {
    let filter = filter(json!({"rules": [{
        "name": "links", "kind": "url", "deny_hosts": ["bücher.example"], "allow_hosts": ["shop.bücher.example", "s.id"], "deny_shorteners": true,
    }]}));
    assert_eq!(
        code(inspect(&filter, "http://xn--bcher-kva.example/")),
        "blocked_url"
    );
    assert_eq!(code(inspect(&filter, "bit.ly/abc")), "blocked_url");
    assert!(is_pass(inspect(
        &filter,
        "http://shop.bücher.example/ s.id/x www.other.example"
    )));
}

#[test]
fn a_denied_link_is_replaced_with_its_path() {
    let filter = filter(
        json!({"rules": [{"name": "l", "kind": "url", "deny_shorteners": true, "action": "replace", "replacement": "[link removed]"}]}),
    );
    assert_eq!(
        replaced(inspect(&filter, "Go to https://bit.ly/a?b now")),
        "Go to [link removed] now"
    );
}

#[test]
fn a_pattern_on_the_plain_view_sees_through_disguises() {
    let filter = filter(
        json!({"rules": [{"name": "r", "kind": "regex", "patterns": ["verify your account"], "view": "plain", "action": "replace", "replacement": "-"}]}),
    );
    assert_eq!(
        replaced(inspect(
            &filter,
            "Please Vеrify yоur\u{a0}ＡＣＣＯＵＮＴ today"
        )),
        "Please - today"
    );
}

#[test]
fn the_reason_does_not_repeat_what_a_pattern_found() {
    let filter = filter(
        json!({"rules": [{"name": "cards", "kind": "regex", "patterns": ["\\d{16}"], "action": "hold"}]}),
    );
    assert!(
        matches!(inspect(&filter, "4111111111111111"), Verdict::Hold(reason) if !reason.contains("4111"))
    );
}

#[test]
fn case_matters_to_a_pattern_only_where_asked() {
    let filter = filter(json!({"rules": [
        {"name": "s", "kind": "regex", "patterns": ["ACT NOW"], "case_sensitive": true, "action": "hold"},
        {"name": "i", "kind": "regex", "patterns": ["überweisung"], "action": "drop"},
    ]}));
    assert!(is_pass(inspect(&filter, "act now")));
    assert!(matches!(inspect(&filter, "ACT NOW"), Verdict::Hold(_)));
    assert!(matches!(inspect(&filter, "ÜBERWEISUNG"), Verdict::Drop(_)));
}

#[test]
fn binary_and_withheld_bodies_follow_their_settings() {
    let rules = json!([{"name": "w", "kind": "words", "words": ["casino"]}]);
    let mut binary = message("+15005550006", "");
    binary.body = Body::Binary(Octets {
        user_data_header: vec![],
        data: b"casino".to_vec(),
    });
    let mut withheld = binary.clone();
    withheld.body = Body::Withheld(6);
    let default = filter(json!({"rules": rules}));
    assert!(is_pass(default.inspect(&binary, &context())));
    assert_eq!(
        code(default.inspect(&withheld, &context())),
        "content_withheld"
    );
    let other = filter(json!({"rules": rules, "on_binary": "refuse", "on_withheld": "hold"}));
    assert_eq!(code(other.inspect(&binary, &context())), "binary_content");
    assert!(matches!(
        other.inspect(&withheld, &context()),
        Verdict::Hold(_)
    ));
}

#[test]
fn the_default_presets_catch_the_usual_tricks_and_let_honest_texts_through() {
    let filter = filter(json!({"presets": ["defaults", "gambling"]}));
    assert_eq!(
        code(inspect(&filter, "Your parcel: bit.ly/3xYz")),
        "blocked_url"
    );
    for held in [
        "See http://192.168.0.1/login",
        "Login at https://pаypal.com/",
        "Your account has been suspended. Please visit our site to restore it",
        "Please confirm your PIN",
    ] {
        assert!(matches!(inspect(&filter, held), Verdict::Hold(_)), "{held}");
    }
    for honest in [
        "Your code is 123456. Never share your PIN or password with anyone.",
        "Your parcel arrives today between 10:00 and 12:00. Track it: https://track.example.com/1Z999",
        "Ваш код 1234. Никому его не сообщайте.",
        "Running late! See you @ 5 :)",
    ] {
        assert!(is_pass(inspect(&filter, honest)), "{honest}");
    }
}

#[test]
fn faults_of_the_configuration_are_named() {
    let one = |rule: Value| refusal(json!({"rules": [rule]}));
    for (rule, names) in [
        (json!({"name": "a", "kind": "words"}), ["`a`", "`words`"]),
        (
            json!({"name": "a", "kind": "words", "words": ["x"]}),
            ["`a`", "`x`"],
        ),
        (
            json!({"name": "a", "kind": "regex", "patterns": ["("]}),
            ["`a`", "`(`"],
        ),
        (
            json!({"name": "a", "kind": "url", "words": ["casino"]}),
            ["`words`", "kind `words`"],
        ),
        (
            json!({"name": "a", "kind": "words", "words": ["casino"], "view": "plain"}),
            ["`view`", "`regex`"],
        ),
        (
            json!({"name": "a", "kind": "url", "deny_hosts": ["http://x.y/"]}),
            ["`deny_hosts`", "`http://x.y/`"],
        ),
        (
            json!({"name": "a", "kind": "url", "code": "Bad Code"}),
            ["`code`", "`Bad Code`"],
        ),
        (
            json!({"name": "a", "kind": "url", "action": "hold", "code": "x"}),
            ["`code`", "`refuse`"],
        ),
        (
            json!({"name": "a", "kind": "url", "replacement": "x"}),
            ["`replacement`", "`replace`"],
        ),
        (json!({"name": "", "kind": "url"}), ["`name`", "64"]),
        (
            json!({"name": "a", "kind": "url", "colour": 1}),
            ["colour", "unknown field"],
        ),
    ] {
        let error = one(rule);
        assert!(names.iter().all(|name| error.contains(name)), "{error}");
    }
}

#[test]
fn sizes_are_limited_by_name() {
    let patterns: Vec<String> = (0..config::MAX_PATTERNS + 1)
        .map(|n| format!("x{n}"))
        .collect();
    let error = refusal(json!({"rules": [{"name": "a", "kind": "regex", "patterns": patterns}]}));
    assert!(error.contains("201 patterns, at most 200"), "{error}");
    let error =
        refusal(json!({"rules": [{"name": "a", "kind": "regex", "patterns": ["x".repeat(1001)]}]}));
    assert!(error.contains("1001 octets, at most 1000"), "{error}");
}

#[test]
fn a_reason_is_limited_to_what_the_host_keeps() {
    let error =
        refusal(json!({"rules": [{"name": "a", "kind": "url", "reason": "x".repeat(513)}]}));
    assert!(
        error.contains("`reason`") && error.contains("512"),
        "{error}"
    );
}

#[test]
fn hostile_texts_are_judged_without_panic() {
    let filter = filter(json!({
        "presets": ["defaults", "gambling"],
        "rules": [
            {"name": "w", "kind": "words", "words": ["free", "aa"], "repeats": true, "action": "replace"},
            {"name": "p", "kind": "regex", "patterns": ["a.b"], "view": "plain", "action": "replace", "replacement": ""},
        ],
    }));
    let pieces = [
        "a",
        "free",
        "\u{200b}",
        "\u{301}",
        "ß",
        "ﬀ",
        "𝕗",
        "б",
        "е",
        ".",
        "://",
        "@",
        "[",
        "http://",
        "。",
        "$",
        "🇫🇷",
        "\0",
        "\u{10ffff}",
        " ",
    ];
    let mut seed = 7u64;
    for _ in 0..3000 {
        let mut text = String::new();
        for _ in 0..24 {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            text.push_str(pieces[(seed >> 33) as usize % pieces.len()]);
        }
        inspect(&filter, &text);
    }
    inspect(&filter, &"a".repeat(40_000));
    inspect(&filter, &"://".repeat(10_000));
}
