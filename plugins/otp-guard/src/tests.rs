//! Whole checks: a configuration, streams of messages, and who is let through.

use std::collections::BTreeMap;

use heliograph_plugin::testing::{FakeHost, context, message, recipient};
use heliograph_plugin::{TrafficClass, config_schema, configure};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

#[track_caller]
fn guard(config: Value) -> OtpGuard {
    configure(&config.to_string()).unwrap_or_else(|error| panic!("{config}: {error}"))
}

fn otp(to: &str) -> Message {
    let mut sent = message(to, "Your code is 123456");
    sent.traffic = TrafficClass::Otp;
    sent.network.country = heliograph_plugin::Country::new("GB");
    sent
}

/// The code of the refusal, empty where it is let through.
fn ask(guard: &OtpGuard, message: &Message) -> String {
    match guard.check(message, &recipient(), &context()) {
        Ruling::Allow => String::new(),
        Ruling::Deny(refusal) => refusal.code,
        other => panic!("{other:?}"),
    }
}

fn codes(guard: &OtpGuard, numbers: impl Iterator<Item = u64>) -> BTreeMap<String, usize> {
    let mut codes = BTreeMap::new();
    for number in numbers {
        *codes
            .entry(ask(guard, &otp(&number.to_string())))
            .or_default() += 1;
    }
    codes
}

/// Numbers of people: all over the ranges, none twice.
fn people(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(|n| 447_000_000_000 + n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_000_000_000)
}

#[test]
fn people_all_over_a_country_get_their_codes() {
    FakeHost::new();
    let guard = guard(json!({"limits": {"country_per_day": 0}}));
    assert_eq!(
        codes(&guard, people(3_000)),
        [(String::new(), 3_000)].into()
    );
}

#[test]
fn a_run_of_consecutive_numbers_is_denied_from_the_fifth_of_ten_on() {
    FakeHost::new();
    let guard = guard(json!({}));
    let answers = codes(&guard, 447_700_900_100..447_700_900_110);
    assert_eq!(
        answers,
        [(String::new(), 4), ("consecutive_numbers".to_owned(), 6)].into()
    );
}

#[test]
fn a_run_over_the_border_of_two_tens_is_noticed_by_its_ninth_number() {
    FakeHost::new();
    for start in 0..10 {
        FakeHost::new();
        let guard = guard(json!({}));
        let answers = codes(&guard, (447_700_900_100 + start)..(447_700_900_109 + start));
        assert!(answers.contains_key("consecutive_numbers"), "{start}");
    }
}

#[test]
fn a_run_that_takes_hours_is_the_ranges_affair() {
    let host = FakeHost::new();
    let guard = guard(json!({"limits": {"range_per_hour": 3}}));
    let mut answers = Vec::new();
    for number in 447_700_900_100u64..447_700_900_105 {
        answers.push(ask(&guard, &otp(&number.to_string())));
        host.advance_seconds(601);
    }
    assert_eq!(answers, ["", "", "", "range_velocity", "range_velocity"]);
}

#[test]
fn one_number_gets_a_few_codes_and_then_waits() {
    let host = FakeHost::new();
    let guard = guard(json!({}));
    let ask = || ask(&guard, &otp("+447700900123"));
    for _ in 0..4 {
        assert_eq!(ask(), "");
    }
    assert_eq!(ask(), "recipient_velocity");
    host.advance_seconds(1_799);
    assert_eq!(ask(), "recipient_velocity");
    host.advance_seconds(1);
    assert_eq!(ask(), "");
}

#[test]
fn the_day_of_a_number_is_counted_by_the_host() {
    FakeHost::new();
    let guard = guard(json!({}));
    let mut profile = recipient();
    profile.sent_last_day = 10;
    match guard.check(&otp("+447700900123"), &profile, &context()) {
        Ruling::Deny(refusal) => assert_eq!(refusal.code, "recipient_daily_cap"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_range_gets_so_many_codes_an_hour_and_a_risky_one_fewer() {
    FakeHost::new();
    let spread = |start: u64| (0..100u64).map(move |n| start + n * 97 % 10_000);
    let usual = guard(json!({}));
    assert_eq!(codes(&usual, spread(447_700_900_000))["range_velocity"], 70);
    FakeHost::new();
    let risky = guard(json!({"high_risk": {"countries": ["GB"]}}));
    assert_eq!(codes(&risky, spread(447_700_900_000))[""], 6);
    FakeHost::new();
    let nothing = guard(json!({"high_risk": {"prefixes": ["+44770"], "factor": 0}}));
    assert_eq!(codes(&nothing, spread(447_700_900_000)).get(""), None);
}

#[test]
fn the_daily_cap_of_a_country_starts_at_its_floor_for_each_account() {
    FakeHost::new();
    let guard = guard(json!({"accounts": {"big": {"factor": 3}}}));
    let answers = codes(&guard, people(150));
    assert_eq!((answers[""], answers["country_daily_cap"]), (100, 50));
    let mut big = otp("+447700900123");
    big.account = "big".to_owned();
    let mut abroad = otp("+33612345678");
    abroad.network.country = heliograph_plugin::Country::new("FR");
    assert_eq!(ask(&guard, &big), "");
    assert_eq!(ask(&guard, &abroad), "");
}

#[test]
fn an_account_and_an_end_user_have_hourly_rates_where_configured() {
    FakeHost::new();
    let account = guard(json!({"limits": {"account_per_hour": 20}}));
    assert_eq!(codes(&account, people(30))["account_velocity"], 10);
    let client = guard(json!({"client_metadata": "ip"}));
    let mut answers = Vec::new();
    for number in people(12) {
        let mut sent = otp(&number.to_string());
        sent.metadata = vec![("ip".to_owned(), "192.0.2.1".to_owned())];
        answers.push(ask(&client, &sent));
    }
    assert_eq!(
        answers
            .iter()
            .filter(|code| *code == "client_velocity")
            .count(),
        2
    );
    assert_eq!(ask(&client, &otp("+447700900123")), "");
}

#[test]
fn lists_come_before_counters() {
    FakeHost::new();
    let guard = guard(json!({
        "block_prefixes": ["+4477", "882"],
        "allow_prefixes": ["447700900"],
        "countries": ["GB"],
        "accounts": {"de": {"countries": ["DE"]}, "test": {"exempt": true}},
    }));
    assert_eq!(ask(&guard, &otp("+447711123456")), "destination_blocked");
    for _ in 0..50 {
        assert_eq!(ask(&guard, &otp("+447700900123")), "");
    }
    let mut abroad = otp("+33612345678");
    abroad.network.country = heliograph_plugin::Country::new("FR");
    assert_eq!(ask(&guard, &abroad), "country_not_served");
    abroad.network.country = None;
    assert_eq!(ask(&guard, &abroad), "country_not_served");
    abroad.account = "test".to_owned();
    assert_eq!(ask(&guard, &abroad), "");
    let mut home = otp("+442071838750");
    home.account = "de".to_owned();
    assert_eq!(ask(&guard, &home), "country_not_served");
}

#[test]
fn other_classes_pass_uncounted() {
    FakeHost::new();
    let guard = guard(json!({}));
    let mut sent = otp("+447700900123");
    sent.traffic = TrafficClass::Transactional;
    for _ in 0..50 {
        assert_eq!(ask(&guard, &sent), "");
    }
    sent.traffic = TrafficClass::Otp;
    assert_eq!(ask(&guard, &sent), "");
}

#[test]
fn a_later_decision_about_the_same_message_counts_nothing() {
    FakeHost::new();
    let guard = guard(json!({}));
    let sent = otp("+447700900123");
    for phase in [Phase::Dispatch, Phase::Retry].repeat(20) {
        let context = Context { phase, ..context() };
        assert_eq!(guard.check(&sent, &recipient(), &context), Ruling::Allow);
    }
    assert_eq!(ask(&guard, &sent), "");
}

#[test]
fn without_enforcement_it_only_logs_and_never_the_number() {
    let host = FakeHost::new();
    let guard = guard(json!({"enforce": false}));
    for number in 447_700_900_100u64..447_700_900_106 {
        assert_eq!(ask(&guard, &otp(&number.to_string())), "");
    }
    let logs = host.logs();
    assert_eq!(logs.len(), 2);
    assert!(
        logs[0]
            .fields
            .contains(&("code".to_owned(), "consecutive_numbers".to_owned()))
    );
    assert!(!format!("{logs:?}").contains("4477009001"));
}

#[test]
fn a_withheld_number_is_counted_by_its_pseudonym_and_prefix() {
    FakeHost::new();
    let guard = guard(json!({"limits": {"range_per_hour": 6}}));
    let mut sent = otp("+447700900123");
    let mut answers = Vec::new();
    for person in 0..8 {
        sent.recipient.value = format!("p0123456789abcdef{person}");
        sent.recipient.prefix = "44770090".into();
        answers.push(ask(&guard, &sent));
    }
    assert_eq!(answers[..6], [""; 6]);
    assert_eq!(answers[6..], ["range_velocity"; 2]);
}

#[test]
fn faults_of_the_configuration_are_named() {
    for (config, names) in [
        (
            json!({"limits": {"per_recipient": 61}}),
            "limits.per_recipient",
        ),
        (
            json!({"limits": {"window_minutes": 0}}),
            "limits.window_minutes",
        ),
        (json!({"limits": {"neighbours": 2}}), "limits.neighbours"),
        (
            json!({"limits": {"range_digits": 9}}),
            "limits.range_digits",
        ),
        (
            json!({"limits": {"country_growth": -1}}),
            "limits.country_growth",
        ),
        (
            json!({"high_risk": {"countries": ["gb"]}}),
            "high_risk.countries",
        ),
        (
            json!({"accounts": {"a": {"factor": -1}}}),
            "accounts.a.factor",
        ),
        (
            json!({"accounts": {"a": {"countries": ["UK1"]}}}),
            "accounts.a.countries",
        ),
        (json!({"slots": 1000}), "slots"),
        (json!({"slots": 16384}), "slots"),
        (json!({"block_prefixes": ["44x"]}), "block_prefixes"),
        (
            json!({"block_prefixes": ["44"], "allow_prefixes": ["44"]}),
            "allow_prefixes",
        ),
        (json!({"limit": {}}), "unknown field"),
    ] {
        match configure::<OtpGuard>(&config.to_string()) {
            Ok(_) => panic!("accepted: {config}"),
            Err(error) => assert!(error.contains(names), "{config}: {error}"),
        }
    }
}

#[test]
fn the_schema_describes_every_field() {
    let schema: Value = serde_json::from_str(&config_schema::<OtpGuard>()).unwrap();
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

proptest! {
    #[test]
    fn whatever_comes_no_more_than_the_caps_get_through(
        numbers in proptest::collection::vec(0u64..40, 1..200),
    ) {
        FakeHost::new();
        let guard = guard(json!({"limits": {"country_per_day": 25, "neighbours": 4}}));
        let mut through: BTreeMap<u64, usize> = BTreeMap::new();
        for number in numbers {
            if ask(&guard, &otp(&(447_700_900_100 + number).to_string())).is_empty() {
                *through.entry(number).or_default() += 1;
            }
        }
        prop_assert!(through.values().all(|count| *count <= 4));
        prop_assert!(through.values().sum::<usize>() <= 25);
        // Of each ten, fewer than four different numbers.
        for ten in 0..4 {
            prop_assert!(through.keys().filter(|number| **number / 10 == ten).count() < 4);
        }
    }

    #[test]
    fn no_recipient_panics(value in "\\PC{0,20}", prefix in "[0-9]{0,16}", account in "\\PC{0,80}") {
        FakeHost::new();
        let guard = guard(json!({"client_metadata": "ip", "limits": {"account_per_hour": 5}}));
        let mut sent = otp("+447700900123");
        sent.recipient.value = value.clone();
        sent.recipient.prefix = prefix.as_str().into();
        sent.account = account;
        sent.metadata = vec![("ip".to_owned(), value)];
        ask(&guard, &sent);
    }
}
