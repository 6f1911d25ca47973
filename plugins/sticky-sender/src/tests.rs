//! Whole decisions: pools in, originators and hops out.

use heliograph_plugin::testing::{
    FakeHost, alphanumeric, carrier, context, international, message,
};
use heliograph_plugin::{Attempt, TrafficClass, TypeOfNumber, config_schema, configure};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const HANDSET: &str = "+447700900123";

#[track_caller]
fn plugin(config: Value) -> StickySender {
    configure(&config.to_string()).unwrap_or_else(|error| panic!("{config}: {error}"))
}

fn three() -> Vec<Carrier> {
    ["north", "south", "west"].map(carrier).into()
}

fn to(number: &str, country: &str) -> Message {
    let mut sent = message(number, "hi");
    sent.network.country = heliograph_plugin::Country::new(country);
    sent
}

/// `originator>carrier` of each hop.
#[track_caller]
fn plan(plugin: &StickySender, message: &Message, carriers: &[Carrier]) -> (Vec<String>, String) {
    match plugin.route(message, carriers, &context()) {
        Routing::Send(plan) => {
            let hop = |hop: &Hop| {
                let originator = hop.originator.as_ref().expect("an originator");
                format!("{}>{}", originator.value, hop.carrier)
            };
            (plan.hops.iter().map(hop).collect(), plan.reason)
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn code(plugin: &StickySender, message: &Message, carriers: &[Carrier]) -> String {
    match plugin.route(message, carriers, &context()) {
        Routing::Refuse(refusal) => refusal.code,
        other => panic!("{other:?}"),
    }
}

fn numbers(count: usize) -> Value {
    (0..count)
        .map(|n| json!({"originator": format!("+1202555{n:04}")}))
        .collect()
}

#[test]
fn without_a_pool_the_next_policy_decides() {
    FakeHost::new();
    let other = json!({"pools": [{"name": "a", "accounts": ["other"], "senders": numbers(2)}]});
    for config in [json!({}), other] {
        let answer = plugin(config).route(&to(HANDSET, "GB"), &three(), &context());
        assert_eq!(answer, Routing::Pass);
    }
    let strict = plugin(json!({"no_pool": "refuse"}));
    assert_eq!(code(&strict, &to(HANDSET, "GB"), &three()), "no_pool");
}

#[test]
fn a_recipient_has_the_same_sender_every_time_and_carriers_their_order() {
    FakeHost::new();
    let plugin = plugin(
        json!({"carriers": ["west", "gone", "north"], "pools": [{"name": "us", "senders": numbers(50)}]}),
    );
    let (hops, reason) = plan(&plugin, &to(HANDSET, "US"), &three());
    let sender = hops[0].split('>').next().unwrap();
    assert_eq!(hops, [format!("{sender}>west"), format!("{sender}>north")]);
    assert_eq!(
        reason,
        format!("sender {sender} of 50 in pool us, the recipient's own")
    );
    let mut promotional = to(HANDSET, "US");
    promotional.traffic = TrafficClass::Promotional;
    promotional.account = "other".to_owned();
    assert_eq!(plan(&plugin, &promotional, &three()).0, hops);
    let elsewhere = (0..20).filter(|n| {
        let other = to(&format!("+4477009002{n:02}"), "US");
        plan(&plugin, &other, &three()).0 != hops
    });
    assert!(elsewhere.count() >= 15);
}

#[test]
fn the_first_pool_that_fits_is_used() {
    FakeHost::new();
    let plugin = plugin(json!({"pools": [
        {"name": "otp", "classes": ["otp"], "senders": [{"originator": "60777"}]},
        {"name": "france", "countries": ["FR"], "senders": [{"originator": "Acme"}]},
        {"name": "placeholder", "replaces": ["POOL"], "senders": [{"originator": "+12025550101"}]},
    ]}));
    let mut sent = to(HANDSET, "FR");
    assert_eq!(plan(&plugin, &sent, &three()).0[0], "Acme>north");
    sent.traffic = TrafficClass::Otp;
    assert_eq!(plan(&plugin, &sent, &three()).0[0], "60777>north");
    let mut sent = to(HANDSET, "GB");
    assert_eq!(plugin.route(&sent, &three(), &context()), Routing::Pass);
    sent.originator = alphanumeric("Pool");
    assert_eq!(plan(&plugin, &sent, &three()).0[0], "12025550101>north");
}

#[test]
fn a_country_gets_only_the_kinds_that_it_takes() {
    FakeHost::new();
    let plugin = plugin(json!({
        "countries": {"US": ["number", "short_code"], "FR": ["alphanumeric"], "*": ["number"]},
        "pools": [{"name": "all", "senders": [
            {"originator": "Acme", "weight": 1000},
            {"originator": "+447700900999"},
            {"originator": "60777", "countries": ["US"], "weight": 1000},
        ]}],
    }));
    assert_eq!(
        plan(&plugin, &to(HANDSET, "FR"), &three()).0[0],
        "Acme>north"
    );
    for unknown in ["DE", ""] {
        let (hops, _) = plan(&plugin, &to(HANDSET, unknown), &three());
        assert_eq!(hops[0], "447700900999>north");
    }
    let us: Vec<String> = (0..30)
        .map(|n| plan(&plugin, &to(&format!("+120255501{n:02}"), "US"), &three()).0[0].clone())
        .collect();
    assert!(us.iter().any(|hop| hop == "60777>north") && !us.iter().any(|hop| hop == "Acme>north"));
}

#[test]
fn a_pool_without_a_sender_for_the_country_refuses() {
    FakeHost::new();
    let plugin = plugin(json!({"countries": {"US": ["number"]}, "pools": [
        {"name": "names", "senders": [{"originator": "Acme"}]}]}));
    assert_eq!(code(&plugin, &to(HANDSET, "US"), &three()), "no_sender");
}

#[test]
fn an_originator_of_the_pool_that_the_client_asked_for_stays() {
    FakeHost::new();
    let config = |keep: bool| {
        json!({"countries": {"US": ["number"]}, "pools": [{"name": "p", "keep_listed": keep, "senders": [
            {"originator": "+12025550101", "weight": 1000}, {"originator": "+12025550102"}, {"originator": "Acme"}]}]})
    };
    let mut sent = to(HANDSET, "US");
    sent.originator = international("+12025550102");
    let (hops, reason) = plan(&plugin(config(true)), &sent, &three());
    assert_eq!(hops[0], "12025550102>north");
    assert!(reason.ends_with("as asked"), "{reason}");
    let replaced = (0..20).filter(|n| {
        sent.recipient = international(&format!("+4477009002{n:02}"));
        plan(&plugin(config(false)), &sent, &three()).0[0] == "12025550101>north"
    });
    assert!(replaced.count() >= 18);
    // In the pool, but not for this country.
    sent.originator = alphanumeric("acme");
    assert_ne!(
        plan(&plugin(config(true)), &sent, &three()).0[0],
        "Acme>north"
    );
}

#[test]
fn a_sender_goes_only_where_it_is_provisioned_and_carriers_that_are_down_come_last() {
    FakeHost::new();
    let plugin = plugin(json!({"pools": [{"name": "p", "senders": [
        {"originator": "60777", "carriers": ["west", "north", "gone"]}]}]}));
    let mut carriers = three();
    carriers[0].connected = false;
    assert_eq!(
        plan(&plugin, &to(HANDSET, "US"), &carriers).0,
        ["60777>west", "60777>north"]
    );
    let mut refused = to(HANDSET, "US");
    refused.attempts = vec![Attempt {
        carrier: "west".to_owned(),
        at: 0,
        outcome: Outcome::PermanentFailure(0x0A),
    }];
    assert_eq!(
        plan(&plugin, &refused, &three()).0,
        ["60777>north", "60777>west"]
    );
    assert_eq!(
        code(&plugin, &to(HANDSET, "US"), &carriers[1..2]),
        "no_carrier"
    );
}

#[test]
fn when_a_senders_carriers_are_down_it_waits_or_the_next_sender_steps_in() {
    FakeHost::new();
    let config = |failover: &str| {
        json!({"pools": [{"name": "p", "failover": failover, "senders": [
            {"originator": "60777", "carriers": ["north"], "weight": 1000},
            {"originator": "60778", "carriers": ["south"]}]}]})
    };
    let mut carriers = three();
    // A recipient whose sender is the heavy one.
    let sent = (0..100)
        .map(|n| to(&format!("+4477009002{n:02}"), "GB"))
        .find(|sent| plan(&plugin(config("wait")), sent, &carriers).0 == ["60777>north"])
        .unwrap();
    carriers[0].connected = false;
    assert_eq!(
        plan(&plugin(config("wait")), &sent, &carriers).0,
        ["60777>north"]
    );
    let (hops, reason) = plan(&plugin(config("next_sender")), &sent, &carriers);
    assert_eq!(hops, ["60778>south", "60777>north"]);
    assert!(
        reason.ends_with("whose carriers are down; next in rank 60778"),
        "{reason}"
    );
    carriers[1].connected = false;
    assert_eq!(
        plan(&plugin(config("next_sender")), &sent, &carriers).0,
        ["60777>north"]
    );
}

#[test]
fn originators_are_of_their_kind() {
    FakeHost::new();
    for (text, ton) in [
        ("+12025550101", TypeOfNumber::International),
        ("60777", TypeOfNumber::Abbreviated),
        ("Acme", TypeOfNumber::Alphanumeric),
    ] {
        let plugin = plugin(json!({"pools": [{"name": "p", "senders": [{"originator": text}]}]}));
        match plugin.route(&to(HANDSET, ""), &three(), &context()) {
            Routing::Send(plan) => assert_eq!(plan.hops[0].originator.as_ref().unwrap().ton, ton),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn faults_of_the_configuration_are_named() {
    let pool = |pool: Value| json!({"pools": [pool]});
    for (config, names) in [
        (
            pool(json!({"name": "p", "senders": []})),
            "pools[0].senders",
        ),
        (
            pool(json!({"name": "p", "senders": numbers(501)})),
            "pools[0].senders",
        ),
        (
            pool(json!({"name": "p", "senders": [{"originator": "Too long a name"}]})),
            "pools[0].senders[0].originator",
        ),
        (
            pool(
                json!({"name": "p", "senders": [{"originator": "60777"}, {"originator": "60777"}]}),
            ),
            "listed twice",
        ),
        (
            pool(json!({"name": "p", "senders": [{"originator": "60777", "weight": 1001}]})),
            "senders[0].weight",
        ),
        (
            pool(json!({"name": "p", "senders": [{"originator": "60777", "weight": 0}]})),
            "weight of 0",
        ),
        (
            pool(json!({"name": "p", "senders": [{"originator": "60777", "countries": ["us"]}]})),
            "senders[0].countries",
        ),
        (
            pool(json!({"name": "p", "countries": ["X"], "senders": numbers(1)})),
            "pools[0].countries",
        ),
        (
            pool(json!({"name": "p", "replaces": ["0"], "senders": numbers(1)})),
            "pools[0].replaces",
        ),
        (json!({"countries": {"usa": []}}), "countries"),
        (json!({"pool": []}), "unknown field"),
    ] {
        match configure::<StickySender>(&config.to_string()) {
            Ok(_) => panic!("accepted: {config}"),
            Err(error) => assert!(error.contains(names), "{config}: {error}"),
        }
    }
}

#[test]
fn the_schema_describes_every_field() {
    let schema: Value = serde_json::from_str(&config_schema::<StickySender>()).unwrap();
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
    fn whatever_carriers_and_recipients_a_plan_is_of_offered_carriers_and_pool_senders(
        value in "\\PC{0,20}",
        up in proptest::collection::vec(any::<bool>(), 3),
        next in any::<bool>(),
    ) {
        FakeHost::new();
        let failover = if next { "next_sender" } else { "wait" };
        let plugin = plugin(json!({"pools": [{"name": "p", "failover": failover, "senders": [
            {"originator": "60777", "carriers": ["north", "west"]},
            {"originator": "60778", "carriers": ["south"]},
            {"originator": "60779"}]}]}));
        let mut carriers = three();
        for (carrier, up) in carriers.iter_mut().zip(&up) {
            carrier.connected = *up;
        }
        let mut sent = to(HANDSET, "GB");
        sent.recipient.value = value;
        let (hops, _) = plan(&plugin, &sent, &carriers);
        let first = hops[0].split('>').nth(1).unwrap();
        let is_up = carriers.iter().any(|c| c.id == first && c.connected);
        // With a next sender it never waits while any carrier is up.
        prop_assert!(!next || is_up || !up.iter().any(|up| *up), "{hops:?} {up:?}");
    }
}
