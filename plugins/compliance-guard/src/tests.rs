//! Whole decisions: configuration, message and recipient in, ruling out.

use heliograph_plugin::testing::{alphanumeric, context, international, message, recipient};
use heliograph_plugin::{Body, Consent, Country, Octets, TrafficClass};
use serde_json::{Value, json};

use super::*;

/// 2026-06-15T00:00:00Z, a Monday.
const MONDAY: Timestamp = 1_781_481_600_000;
const HOUR: u64 = 3_600_000;

fn configure(config: Value) -> Result<Guard, String> {
    Guard::new(serde_json::from_value(config).map_err(|error| error.to_string())?)
}

fn guard(config: Value) -> Guard {
    configure(config).unwrap()
}

fn promotion(country: &str) -> Message {
    let mut promotion = message("+15005550006", "Sale!");
    promotion.traffic = TrafficClass::Promotional;
    promotion.network.country = Country::new(country);
    promotion.accepted_at = MONDAY;
    promotion.send_at = MONDAY;
    promotion.expires_at = MONDAY + 72 * HOUR;
    promotion
}

fn at(hour: u64) -> Context {
    Context {
        now: MONDAY + hour * HOUR,
        ..context()
    }
}

fn code(ruling: Ruling) -> String {
    match ruling {
        Ruling::Deny(refusal) => refusal.code,
        other => panic!("not denied: {other:?}"),
    }
}

fn until(ruling: Ruling) -> Timestamp {
    match ruling {
        Ruling::Defer(deferral) => deferral.until,
        other => panic!("not deferred: {other:?}"),
    }
}

fn amended(ruling: Ruling) -> String {
    match ruling {
        Ruling::Amend(amendment) => amendment.body.as_text().unwrap().to_owned(),
        other => panic!("not amended: {other:?}"),
    }
}

fn is_allowed(ruling: Ruling) -> bool {
    matches!(ruling, Ruling::Allow)
}

#[test]
fn a_promotion_at_noon_goes_out() {
    assert!(is_allowed(guard(json!({})).check(
        &promotion("US"),
        &recipient(),
        &at(12)
    )));
}

#[test]
fn a_promotion_at_night_waits_for_the_recipients_morning_and_no_longer_than_the_spread() {
    let guard = guard(json!({}));
    let tokyo = RecipientProfile {
        utc_offset_minutes: Some(540),
        ..recipient()
    };
    // 13:00 UTC is 22:00 in Tokyo; 08:00 there is 23:00 UTC.
    for random in [0, 1, 899_999, 900_000, u64::MAX] {
        let until = until(guard.check(&promotion("JP"), &tokyo, &Context { random, ..at(13) }));
        assert!(
            (MONDAY + 23 * HOUR..MONDAY + 23 * HOUR + 15 * 60_000).contains(&until),
            "{until}"
        );
    }
}

#[test]
fn deferred_messages_do_not_leave_all_at_once() {
    let guard = guard(json!({}));
    let leave =
        |random| until(guard.check(&promotion("US"), &recipient(), &Context { random, ..at(3) }));
    assert_ne!(leave(1), leave(2_000));
    assert_eq!(leave(5), leave(5));
}

#[test]
fn without_spread_it_leaves_at_the_very_minute() {
    let guard = guard(json!({"quiet_hours": {"spread_minutes": 0}}));
    assert_eq!(
        until(guard.check(&promotion("US"), &recipient(), &at(3))),
        MONDAY + 8 * HOUR
    );
}

#[test]
fn the_deferred_time_is_allowed_when_it_comes() {
    let guard =
        guard(json!({"quiet_hours": {"start": "08:10", "end": "08:00", "spread_minutes": 60}}));
    for random in 0..200 {
        let until = until(guard.check(
            &promotion("US"),
            &recipient(),
            &Context {
                random: random * 977_001,
                ..at(3)
            },
        ));
        assert!(is_allowed(guard.check(
            &promotion("US"),
            &recipient(),
            &Context {
                now: until,
                ..context()
            }
        )));
    }
}

#[test]
fn exempt_classes_are_sent_at_any_time() {
    let guard = guard(json!({}));
    for traffic in [
        TrafficClass::Otp,
        TrafficClass::Alert,
        TrafficClass::Transactional,
    ] {
        let mut sent = promotion("US");
        sent.traffic = traffic;
        assert!(is_allowed(guard.check(&sent, &recipient(), &at(3))));
    }
}

#[test]
fn a_class_that_is_not_exempt_any_more_waits_too() {
    let guard = guard(json!({"quiet_hours": {"exempt": ["otp"]}}));
    let mut sent = promotion("US");
    sent.traffic = TrafficClass::Alert;
    assert!(until(guard.check(&sent, &recipient(), &at(3))) >= MONDAY + 8 * HOUR);
}

#[test]
fn a_message_that_would_expire_in_the_night_is_refused_at_once() {
    let guard = guard(json!({}));
    let mut sent = promotion("US");
    sent.expires_at = MONDAY + 8 * HOUR;
    assert_eq!(
        code(guard.check(&sent, &recipient(), &at(3))),
        "quiet_hours_expires"
    );
    sent.expires_at += 60_000;
    let until = until(guard.check(&sent, &recipient(), &at(3)));
    assert!(until < sent.expires_at);
}

#[test]
fn a_scheduled_message_is_judged_for_the_time_it_is_sent() {
    let guard = guard(json!({}));
    let mut scheduled = promotion("US");
    scheduled.send_at = MONDAY + 36 * HOUR;
    // The context carries that time; the clock of acceptance was at night.
    assert!(is_allowed(guard.check(&scheduled, &recipient(), &at(36))));
    assert!(until(guard.check(&scheduled, &recipient(), &at(27))) >= MONDAY + 32 * HOUR);
}

#[test]
fn a_country_may_have_hours_sundays_and_holidays_of_its_own() {
    let guard = guard(json!({"quiet_hours": {"spread_minutes": 0, "countries": {
        "FR": {"start": "20:00", "end": "10:00", "days": {"sunday": "all_day"}, "holidays": ["06-16"]},
        "GB": {"enabled": false},
        "IT": {"exempt": ["promotional"]},
    }}}));
    assert_eq!(
        until(guard.check(&promotion("FR"), &recipient(), &at(9))),
        MONDAY + 10 * HOUR
    );
    assert_eq!(
        until(guard.check(&promotion("FR"), &recipient(), &at(20))),
        MONDAY + 58 * HOUR
    );
    let mut sunday = promotion("FR");
    sunday.expires_at = MONDAY + 10 * 24 * HOUR;
    assert_eq!(
        until(guard.check(&sunday, &recipient(), &at(6 * 24 + 12))),
        MONDAY + (7 * 24 + 10) * HOUR
    );
    assert!(is_allowed(guard.check(
        &promotion("GB"),
        &recipient(),
        &at(3)
    )));
    assert!(is_allowed(guard.check(
        &promotion("IT"),
        &recipient(),
        &at(3)
    )));
    assert_eq!(
        until(guard.check(&promotion("US"), &recipient(), &at(3))),
        MONDAY + 8 * HOUR
    );
}

#[test]
fn an_unknown_time_zone_follows_the_setting() {
    let nowhere = RecipientProfile {
        utc_offset_minutes: None,
        ..recipient()
    };
    let judge =
        |config: Value, country: &str| guard(config).check(&promotion(country), &nowhere, &at(3));
    assert!(matches!(judge(json!({}), "US"), Ruling::Defer(_)));
    assert!(is_allowed(judge(
        json!({"quiet_hours": {"assume_utc_offset_minutes": 600}}),
        "US"
    )));
    assert!(is_allowed(judge(
        json!({"quiet_hours": {"countries": {"AU": {"utc_offset_minutes": 600}}}}),
        "AU"
    )));
    assert!(is_allowed(judge(
        json!({"quiet_hours": {"unknown_zone": "allow"}}),
        "US"
    )));
    assert_eq!(
        code(judge(
            json!({"quiet_hours": {"unknown_zone": "deny"}}),
            "US"
        )),
        "timezone_unknown"
    );
}

#[test]
fn the_cap_counts_what_was_sent_before() {
    let guard = guard(json!({"daily_caps": {"promotional": 2}}));
    let sent = |sent_last_day| RecipientProfile {
        sent_last_day,
        ..recipient()
    };
    assert!(is_allowed(guard.check(&promotion("US"), &sent(1), &at(12))));
    assert_eq!(
        code(guard.check(&promotion("US"), &sent(2), &at(12))),
        "frequency_cap"
    );
    let mut otp = promotion("US");
    otp.traffic = TrafficClass::Otp;
    assert!(is_allowed(guard.check(&otp, &sent(50), &at(12))));
}

#[test]
fn the_sender_registry_is_kept_by_country() {
    let guard = guard(json!({"senders": {
        "US": {"policy": "numeric_only"},
        "GB": {"policy": "alphanumeric_registered", "registered": [{"originator": "Acme", "accounts": ["acme"]}]},
        "IN": {"policy": "registered", "registered": [{"originator": "HELIOG"}, {"originator": "+15005550001"}], "exempt": ["otp"]},
    }}));
    let judge = |country: &str, originator, account: &str| {
        let mut sent = promotion(country);
        sent.originator = originator;
        sent.account = account.to_owned();
        guard.check(&sent, &recipient(), &at(12))
    };
    let number = || international("+15005550001");
    assert_eq!(
        code(judge("US", alphanumeric("Acme"), "acme")),
        "sender_not_numeric"
    );
    assert!(is_allowed(judge("US", number(), "acme")));
    assert!(is_allowed(judge("GB", alphanumeric("ACME"), "acme")));
    assert_eq!(
        code(judge("GB", alphanumeric("Acme"), "other")),
        "sender_not_registered"
    );
    assert_eq!(
        code(judge("GB", alphanumeric("Acme1"), "acme")),
        "sender_not_registered"
    );
    assert!(is_allowed(judge(
        "GB",
        international("+447700900000"),
        "acme"
    )));
    assert!(is_allowed(judge("IN", number(), "any")));
    assert_eq!(
        code(judge("IN", international("+15005550002"), "any")),
        "sender_not_registered"
    );
    assert!(is_allowed(judge("FR", alphanumeric("Whatever"), "any")));
}

#[test]
fn the_star_stands_for_all_other_countries_and_unknown_ones() {
    let guard =
        guard(json!({"senders": {"*": {"policy": "numeric_only"}, "FR": {"policy": "any"}}}));
    assert_eq!(
        code(guard.check(&promotion("DE"), &recipient(), &at(12))),
        "sender_not_numeric"
    );
    assert_eq!(
        code(guard.check(&promotion(""), &recipient(), &at(12))),
        "sender_not_numeric"
    );
    assert!(is_allowed(guard.check(
        &promotion("FR"),
        &recipient(),
        &at(12)
    )));
}

#[test]
fn wording_is_appended_once() {
    let guard = guard(json!({"opt_out_wording": [
        {"text": "STOP au 36111", "countries": ["FR"], "separator": "\n"},
        {"text": "Reply STOP to end"},
    ]}));
    let first = amended(guard.check(&promotion("US"), &recipient(), &at(12)));
    assert_eq!(first, "Sale! Reply STOP to end");
    assert_eq!(
        amended(guard.check(&promotion("FR"), &recipient(), &at(12))),
        "Sale!\nSTOP au 36111"
    );
    let mut again = promotion("US");
    again.body = Body::Text(first);
    assert!(is_allowed(guard.check(&again, &recipient(), &at(12))));
}

#[test]
fn wording_of_the_clients_own_is_enough_but_the_bare_word_is_not() {
    let guard = guard(json!({"opt_out_wording": [{"text": "Reply STOP to end"}]}));
    let judge = |text: &str| {
        let mut sent = promotion("US");
        sent.body = Body::Text(text.to_owned());
        guard.check(&sent, &recipient(), &at(12))
    };
    assert!(is_allowed(judge("Sale! To unsubscribe see example.com")));
    assert!(is_allowed(judge("Sale! TEXT STOP TO 12345")));
    assert_eq!(
        amended(judge("Don't stop the music! ")),
        "Don't stop the music! Reply STOP to end"
    );
}

#[test]
fn binary_and_withheld_bodies_are_not_amended() {
    let guard = guard(json!({"opt_out_wording": [{"text": "Reply STOP to end"}]}));
    for body in [
        Body::Binary(Octets {
            user_data_header: vec![],
            data: vec![1],
        }),
        Body::Withheld(5),
    ] {
        let mut sent = promotion("US");
        sent.body = body;
        assert!(is_allowed(guard.check(&sent, &recipient(), &at(12))));
    }
}

#[test]
fn wording_is_for_its_classes_only() {
    let guard = guard(json!({"opt_out_wording": [{"text": "Reply STOP to end"}]}));
    assert!(is_allowed(guard.check(
        &message("+15005550006", "Your code"),
        &recipient(),
        &at(12)
    )));
}

#[test]
fn consent_is_asked_for_where_configured() {
    let guard = guard(
        json!({"consent": {"classes": ["promotional"], "countries": ["DE"], "max_age_days": 365}}),
    );
    let consented = |days: u64| RecipientProfile {
        consent: Some(Consent {
            source: "form".to_owned(),
            at: MONDAY - days * DAY_MS,
            scope: "all".to_owned(),
        }),
        ..recipient()
    };
    assert_eq!(
        code(guard.check(&promotion("DE"), &recipient(), &at(12))),
        "consent_missing"
    );
    assert_eq!(
        code(guard.check(&promotion(""), &recipient(), &at(12))),
        "consent_missing"
    );
    assert!(is_allowed(guard.check(
        &promotion("US"),
        &recipient(),
        &at(12)
    )));
    assert!(is_allowed(guard.check(
        &promotion("DE"),
        &consented(10),
        &at(12)
    )));
    assert_eq!(
        code(guard.check(&promotion("DE"), &consented(400), &at(12))),
        "consent_expired"
    );
}

#[test]
fn a_final_refusal_comes_before_a_deferral_and_a_deferral_before_the_wording() {
    let guard = guard(
        json!({"daily_caps": {"promotional": 1}, "opt_out_wording": [{"text": "Reply STOP"}]}),
    );
    let capped = RecipientProfile {
        sent_last_day: 1,
        ..recipient()
    };
    assert_eq!(
        code(guard.check(&promotion("US"), &capped, &at(3))),
        "frequency_cap"
    );
    assert!(matches!(
        guard.check(&promotion("US"), &recipient(), &at(3)),
        Ruling::Defer(_)
    ));
}

#[test]
fn faults_of_the_configuration_are_named() {
    for (config, names) in [
        (
            json!({"quiet_hours": {"start": "25:00"}}),
            ["`quiet_hours`", "`25:00`"],
        ),
        (
            json!({"quiet_hours": {"countries": {"fr": {}}}}),
            ["quiet_hours.countries", "`fr`"],
        ),
        (
            json!({"quiet_hours": {"countries": {"FR": {"start": "20:00"}}}}),
            ["quiet_hours.countries.FR", "`end`"],
        ),
        (
            json!({"quiet_hours": {"spread_minutes": 721}}),
            ["spread_minutes", "720"],
        ),
        (
            json!({"quiet_hours": {"assume_utc_offset_minutes": 900}}),
            ["900", "840"],
        ),
        (
            json!({"senders": {"GB": {"policy": "registered"}}}),
            ["`senders.GB`", "refuses everything"],
        ),
        (
            json!({"senders": {"GB": {"policy": "registered", "registered": [{"originator": " "}]}}}),
            ["GB", "`originator`"],
        ),
        (
            json!({"opt_out_wording": [{"text": " "}]}),
            ["opt_out_wording", "`text`"],
        ),
        (
            json!({"opt_out_wording": [{"text": "x", "unless_present": [""]}]}),
            ["opt_out_wording", "`unless_present`"],
        ),
        (json!({"quiet_hour": {}}), ["quiet_hour", "unknown field"]),
    ] {
        let error = configure(config).err().unwrap();
        assert!(names.iter().all(|name| error.contains(name)), "{error}");
    }
}

#[test]
fn extreme_times_do_not_panic() {
    let guard = guard(json!({}));
    for now in [0, 1, u64::MAX / 2, u64::MAX] {
        for expires_at in [0, now, u64::MAX] {
            let mut sent = promotion("US");
            sent.expires_at = expires_at;
            for offset in [i16::MIN, -720, 840, i16::MAX] {
                let somewhere = RecipientProfile {
                    utc_offset_minutes: Some(offset),
                    ..recipient()
                };
                guard.check(
                    &sent,
                    &somewhere,
                    &Context {
                        now,
                        random: u64::MAX,
                        ..context()
                    },
                );
            }
        }
    }
}
