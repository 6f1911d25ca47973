//! Whole decisions: rules and a moment in, a route, a deferral or a refusal out.

use heliograph_plugin::testing::{FakeHost, NOW, carrier, context, message};
use heliograph_plugin::{TrafficClass, config_schema, configure};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const HOUR: u64 = 3_600_000;
/// 2026-06-15T00:00:00Z, a Monday.
const MONDAY: u64 = NOW - 12 * HOUR;

#[track_caller]
fn router(config: Value) -> TimeRouter {
    configure(&config.to_string()).unwrap_or_else(|error| panic!("{config}: {error}"))
}

fn one(rule: Value) -> TimeRouter {
    router(json!({"spread_minutes": 0, "rules": [rule]}))
}

fn three() -> Vec<Carrier> {
    ["north", "south", "west"].map(carrier).into()
}

fn sent() -> Message {
    let mut sent = message("+447700900123", "hi");
    sent.expires_at = u64::MAX;
    sent.network.country = heliograph_plugin::Country::new("GB");
    sent
}

fn at(router: &TimeRouter, message: &Message, now: u64) -> Routing {
    let context = Context { now, ..context() };
    router.route(message, &three(), &context)
}

/// The first carrier, or what else it says.
fn says(router: &TimeRouter, now: u64) -> String {
    match at(router, &sent(), now) {
        Routing::Send(plan) => plan.hops[0].carrier.clone(),
        Routing::Defer(postponement) => format!("until {}", postponement.until),
        Routing::Refuse(refusal) => refusal.code,
        Routing::Pass => "pass".to_owned(),
    }
}

#[test]
fn business_hours_go_over_one_carrier_and_the_rest_over_another() {
    FakeHost::new();
    let router = router(json!({"zone": "Europe/London", "rules": [
        {"name": "office", "days": ["monday", "tuesday", "wednesday", "thursday", "friday"], "from": "09:00", "to": "17:30", "carriers": ["west", "north"]},
        {"name": "else", "carriers": ["south"]},
    ]}));
    // London is at UTC+1 in June.
    assert_eq!(says(&router, MONDAY + 8 * HOUR - 1), "south");
    assert_eq!(says(&router, MONDAY + 8 * HOUR), "west");
    assert_eq!(says(&router, MONDAY + 16 * HOUR + HOUR / 2 - 1), "west");
    assert_eq!(says(&router, MONDAY + 16 * HOUR + HOUR / 2), "south");
    assert_eq!(says(&router, MONDAY + (5 * 24 + 10) * HOUR), "south");
    match at(&router, &sent(), MONDAY + 10 * HOUR) {
        Routing::Send(plan) => assert_eq!(plan.reason, "rule office by Europe/London"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
    FakeHost::new();
    let router = one(
        json!({"name": "n", "days": ["friday"], "from": "22:00", "to": "06:00", "carriers": ["north"]}),
    );
    let friday = MONDAY + 4 * 24 * HOUR;
    for (hour, expected) in [
        (5, "pass"),
        (21, "pass"),
        (22, "north"),
        (29, "north"),
        (30, "pass"),
        (46, "pass"),
    ] {
        assert_eq!(says(&router, friday + hour * HOUR), expected, "{hour}");
    }
}

#[test]
fn dates_are_single_yearly_or_spans_and_exceptions_win() {
    FakeHost::new();
    let day =
        |year, month, day| (zone::days_from_civil(year, month, day) * 24) as u64 * HOUR + HOUR;
    let router = one(
        json!({"name": "d", "dates": ["12-24..01-02", "2026-07-01..2026-08-31", "2026-06-15"],
        "except_dates": ["12-31"], "carriers": ["north"]}),
    );
    for (date, expected) in [
        (day(2026, 6, 15), "north"),
        (day(2027, 6, 15), "pass"),
        (day(2026, 8, 31), "north"),
        (day(2026, 9, 1), "pass"),
        (day(2030, 12, 24), "north"),
        (day(2030, 12, 31), "pass"),
        (day(2031, 1, 2), "north"),
        (day(2031, 1, 3), "pass"),
    ] {
        assert_eq!(says(&router, date), expected, "{date}");
    }
}

#[test]
fn a_deferral_ends_when_the_window_does() {
    FakeHost::new();
    let router = one(
        json!({"name": "night", "zone": "+05:30", "from": "21:00", "to": "08:00", "defer": true}),
    );
    assert_eq!(says(&router, MONDAY + 12 * HOUR), "pass");
    let morning = MONDAY + 24 * HOUR + 2 * HOUR + HOUR / 2;
    assert_eq!(
        says(&router, MONDAY + 16 * HOUR),
        format!("until {morning}")
    );
    assert_eq!(says(&router, morning), "pass");
    match at(&router, &sent(), MONDAY + 16 * HOUR) {
        Routing::Defer(postponement) => {
            assert_eq!(postponement.reason, "rule night: until 08:00 +05:30")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_weekend_is_waited_out_whole() {
    FakeHost::new();
    let router = one(json!({"name": "weekend", "days": ["saturday", "sunday"], "defer": true}));
    let saturday = MONDAY + 5 * 24 * HOUR;
    assert_eq!(
        says(&router, saturday + 3 * HOUR),
        format!("until {}", MONDAY + 7 * 24 * HOUR)
    );
}

#[test]
fn summer_time_begins_and_ends_within_a_deferral() {
    FakeHost::new();
    let router = one(
        json!({"name": "n", "zone": "Europe/Paris", "from": "20:00", "to": "08:00", "defer": true}),
    );
    let day = |month, day| (zone::days_from_civil(2026, month, day) * 24) as u64 * HOUR;
    // The night of 28 March has 11 hours: 08:00 is 06:00 UTC. That of 24 October has 13: 08:00 is 07:00 UTC.
    assert_eq!(
        says(&router, day(3, 28) + 20 * HOUR),
        format!("until {}", day(3, 29) + 6 * HOUR)
    );
    assert_eq!(
        says(&router, day(10, 24) + 19 * HOUR),
        format!("until {}", day(10, 25) + 7 * HOUR)
    );
}

#[test]
fn an_hour_that_the_clock_skips_or_repeats_is_handled() {
    FakeHost::new();
    let day = |month, day| (zone::days_from_civil(2026, month, day) * 24) as u64 * HOUR;
    let ends_in_gap = one(
        json!({"name": "g", "zone": "Europe/Paris", "from": "00:00", "to": "02:30", "defer": true}),
    );
    // 02:30 does not exist on 29 March: the window ends when the clock jumps from 02:00 to 03:00.
    assert_eq!(
        says(&ends_in_gap, day(3, 29)),
        format!("until {}", day(3, 29) + HOUR)
    );
    // On 25 October 02:30 comes twice; after the first the clock goes back into the window.
    assert_eq!(
        says(&ends_in_gap, day(10, 25)),
        format!("until {}", day(10, 25) + HOUR / 2)
    );
    assert_eq!(says(&ends_in_gap, day(10, 25) + HOUR - 1), "pass");
    assert_eq!(
        says(&ends_in_gap, day(10, 25) + HOUR),
        format!("until {}", day(10, 25) + 3 * HOUR / 2)
    );
    let only_gap = one(
        json!({"name": "g", "zone": "Europe/Paris", "from": "02:00", "to": "03:00", "carriers": ["north"]}),
    );
    assert!((0..1_440).all(|minute| says(&only_gap, day(3, 29) + minute * 60_000) == "pass"));
}

#[test]
fn a_message_that_would_expire_meanwhile_is_refused_at_once() {
    FakeHost::new();
    let router = one(json!({"name": "n", "from": "20:00", "to": "08:00", "defer": true}));
    let mut sent = sent();
    sent.expires_at = MONDAY + 8 * HOUR;
    match at(&router, &sent, MONDAY) {
        Routing::Refuse(refusal) => assert_eq!(refusal.code, "deferred_past_expiry"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn deferred_messages_are_spread_and_still_in_time() {
    FakeHost::new();
    let router = router(
        json!({"spread_minutes": 60, "rules": [{"name": "n", "from": "20:00", "to": "08:00", "defer": true}]}),
    );
    let mut sent = sent();
    sent.expires_at = MONDAY + 8 * HOUR + 30 * 60_000;
    for random in (0..64).map(|bit| 1u64 << bit) {
        let context = Context {
            now: MONDAY,
            random,
            ..context()
        };
        match router.route(&sent, &three(), &context) {
            Routing::Defer(p) => {
                assert!((MONDAY + 8 * HOUR..MONDAY + 8 * HOUR + 15 * 60_000).contains(&p.until))
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_rule_is_for_some_messages_only() {
    FakeHost::new();
    let router = router(json!({"rules": [
        {"name": "a", "accounts": ["other"], "refuse": "no"},
        {"name": "b", "countries": ["FR"], "refuse": "no"},
        {"name": "c", "prefixes": ["+4420"], "refuse": "no"},
        {"name": "d", "classes": ["otp"], "refuse": "closed"},
        {"name": "e", "countries": ["GB"], "prefixes": ["447"], "accounts": ["acme"], "classes": ["transactional"], "carriers": ["west"]},
    ]}));
    assert_eq!(says(&router, MONDAY), "west");
    let mut otp = sent();
    otp.traffic = TrafficClass::Otp;
    match at(&router, &otp, MONDAY) {
        Routing::Refuse(r) => assert_eq!(
            (r.code.as_str(), r.reason.as_str()),
            ("refused_by_time", "rule d: closed")
        ),
        other => panic!("{other:?}"),
    }
    let mut unknown = sent();
    unknown.network.country = None;
    assert_eq!(at(&router, &unknown, MONDAY), Routing::Pass);
}

#[test]
fn carriers_that_are_down_come_last_and_a_rule_whose_carriers_are_gone_is_skipped() {
    FakeHost::new();
    let router = router(json!({"rules": [
        {"name": "gone", "carriers": ["east"]},
        {"name": "all", "carriers": ["north", "east", "south"]},
        {"name": "pass", "pass": true}]}));
    let mut carriers = three();
    carriers[0].connected = false;
    match router.route(&sent(), &carriers, &context()) {
        Routing::Send(plan) => {
            let ids: Vec<_> = plan.hops.iter().map(|hop| hop.carrier.as_str()).collect();
            assert_eq!(ids, ["south", "north"]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(router.route(&sent(), &[], &context()), Routing::Pass);
}

#[test]
fn faults_of_the_configuration_are_named() {
    let rule = |rule: Value| json!({"rules": [rule]});
    for (config, names) in [
        (json!({"zone": "Mars/Olympus"}), "zone: `Mars/Olympus`"),
        (json!({"spread_minutes": 721}), "spread_minutes"),
        (rule(json!({"name": "a"})), "rules[0].carriers"),
        (
            rule(json!({"name": "a", "pass": true, "defer": true})),
            "rules[0].carriers",
        ),
        (rule(json!({"pass": true})), "rules[0].name"),
        (rule(json!({"name": "a", "defer": true})), "rules[0].defer"),
        (
            rule(json!({"name": "a", "pass": true, "from": "08:00"})),
            "rules[0].from",
        ),
        (
            rule(json!({"name": "a", "pass": true, "from": "8:00", "to": "09:00"})),
            "rules[0].from",
        ),
        (
            rule(json!({"name": "a", "pass": true, "from": "08:00", "to": "24:01"})),
            "rules[0].to",
        ),
        (
            rule(json!({"name": "a", "pass": true, "from": "08:00", "to": "08:00"})),
            "no minute",
        ),
        (
            rule(json!({"name": "a", "pass": true, "dates": ["02-30"]})),
            "rules[0].dates",
        ),
        (
            rule(json!({"name": "a", "pass": true, "dates": ["2026-02-01..2026-01-01"]})),
            "rules[0].dates",
        ),
        (
            rule(json!({"name": "a", "pass": true, "except_dates": ["2026-02-01..02-03"]})),
            "rules[0].except_dates",
        ),
        (
            rule(json!({"name": "a", "pass": true, "zone": "+25:00"})),
            "rules[0].zone",
        ),
        (
            rule(json!({"name": "a", "pass": true, "countries": ["gb"]})),
            "rules[0].countries",
        ),
        (
            rule(json!({"name": "a", "pass": true, "prefixes": ["x"]})),
            "rules[0].prefixes",
        ),
        (json!({"rule": []}), "unknown field"),
    ] {
        match configure::<TimeRouter>(&config.to_string()) {
            Ok(_) => panic!("accepted: {config}"),
            Err(error) => assert!(error.contains(names), "{config}: {error}"),
        }
    }
}

#[test]
fn the_schema_describes_every_field() {
    let schema: Value = serde_json::from_str(&config_schema::<TimeRouter>()).unwrap();
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
    fn a_deferral_ends_at_the_first_minute_that_is_outside(
        now in 1_767_225_600_000u64..1_830_297_600_000,
        from in 0u32..1_440,
        length in 1u32..1_439,
        zone in prop::sample::select(vec!["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Tokyo", "Africa/Casablanca", "America/Santiago"]),
        days in prop::sample::subsequence(vec!["monday", "wednesday", "thursday", "sunday"], 1..=4),
    ) {
        FakeHost::new();
        let to = (from + length) % 1_440;
        let clock = |minute: u32| format!("{:02}:{:02}", minute / 60, minute % 60);
        let router = one(json!({"name": "r", "zone": zone, "from": clock(from), "to": clock(to), "days": days, "defer": true}));
        let now = now / 60_000 * 60_000;
        if let Routing::Defer(postponement) = at(&router, &sent(), now) {
            prop_assert_eq!(at(&router, &sent(), postponement.until), Routing::Pass);
            let mut minute = now;
            while minute < postponement.until {
                prop_assert!(at(&router, &sent(), minute) != Routing::Pass, "{}", minute);
                minute += 60_000;
            }
        }
    }

    #[test]
    fn no_moment_panics(now in any::<u64>(), expires_at in any::<u64>()) {
        FakeHost::new();
        let router = router(json!({"zone": "Europe/Paris", "rules": [{"name": "n", "from": "20:00", "to": "08:00", "defer": true}]}));
        let mut sent = sent();
        sent.expires_at = expires_at;
        at(&router, &sent, now);
    }
}
