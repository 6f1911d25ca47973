//! Whole decisions: a configuration, carriers of some quality, and the plan that must come out.

use heliograph_plugin::testing::{self, FakeHost, carrier, context, message};
use heliograph_plugin::{Attempt, Outcome, TrafficClass, config_schema, configure};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const UK: &str = "+447700900123";
/// Dice that never explore.
const CALM: u64 = u64::MAX;

#[track_caller]
fn router(config: Value) -> QualityRouter {
    configure(&config.to_string()).unwrap_or_else(|error| panic!("{config}: {error}"))
}

fn quality(id: &str, ratio: f32, receipt_ms: u32) -> Carrier {
    Carrier {
        delivered_ratio: Some(ratio),
        p50_receipt_ms: Some(receipt_ms),
        ..carrier(id)
    }
}

#[track_caller]
fn plan_of(router: &QualityRouter, message: &Message, carriers: &[Carrier], random: u64) -> Plan {
    let context = Context {
        random,
        ..context()
    };
    match router.route(message, carriers, &context) {
        Routing::Send(plan) => plan,
        other => panic!("{other:?}"),
    }
}

fn ids(plan: &Plan) -> Vec<&str> {
    plan.hops.iter().map(|hop| hop.carrier.as_str()).collect()
}

#[track_caller]
fn code(router: &QualityRouter, message: &Message, carriers: &[Carrier]) -> String {
    match router.route(message, carriers, &context()) {
        Routing::Refuse(refusal) => refusal.code,
        other => panic!("{other:?}"),
    }
}

fn otp() -> Message {
    Message {
        traffic: TrafficClass::Otp,
        ..message(UK, "Your code is 1234")
    }
}

#[test]
fn the_better_carrier_comes_first_and_the_reason_says_by_how_much() {
    FakeHost::new();
    let carriers = [quality("north", 0.80, 4_000), quality("south", 0.95, 4_000)];
    let plan = plan_of(&router(json!({})), &message(UK, "hi"), &carriers, CALM);
    assert_eq!(ids(&plan), ["south", "north"]);
    assert_eq!(
        plan.reason,
        "best of 2: south 0.943 (95% 4.0s), north 0.793 (80% 4.0s)"
    );
}

#[test]
fn a_password_minds_latency_more_than_an_advertisement() {
    FakeHost::new();
    let carriers = [quality("slow", 0.95, 30_000), quality("quick", 0.88, 2_000)];
    let router = router(json!({}));
    assert_eq!(ids(&plan_of(&router, &otp(), &carriers, CALM))[0], "quick");
    let mut sale = message(UK, "Sale!");
    sale.traffic = TrafficClass::Promotional;
    assert_eq!(ids(&plan_of(&router, &sale, &carriers, CALM))[0], "slow");
}

#[test]
fn small_differences_leave_the_preferred_carrier_first() {
    FakeHost::new();
    let carriers = [quality("north", 0.93, 4_000), quality("south", 0.95, 4_000)];
    let plan = plan_of(&router(json!({})), &message(UK, "hi"), &carriers, CALM);
    assert_eq!(ids(&plan), ["north", "south"]);
    assert!(plan.reason.starts_with("preferred"), "{}", plan.reason);
    let router = router(json!({"prefer": ["south"]}));
    assert_eq!(
        ids(&plan_of(&router, &message(UK, "hi"), &carriers, CALM))[0],
        "south"
    );
}

#[test]
fn traffic_moves_over_gradually_and_each_recipient_once() {
    FakeHost::new();
    let router = router(json!({"band": 0.04}));
    let moved = |lead: f32| -> Vec<bool> {
        let carriers = [
            quality("north", 0.9 - lead, 4_000),
            quality("south", 0.9, 4_000),
        ];
        (0..1_000)
            .map(|n| {
                let sent = message(&format!("+4477009{n:05}"), "hi");
                ids(&plan_of(&router, &sent, &carriers, CALM))[0] == "south"
            })
            .collect()
    };
    let share = |lead: f32| moved(lead).into_iter().filter(|moved| *moved).count();
    assert_eq!(share(0.03), 0);
    assert!((400..600).contains(&share(0.06)), "{}", share(0.06));
    assert_eq!(share(0.09), 1_000);
    // Who has moved at a small lead has moved at a greater one.
    assert!(
        moved(0.05)
            .iter()
            .zip(moved(0.07))
            .all(|(less, more)| more || !less)
    );
}

#[test]
fn a_carrier_below_the_floor_comes_last_and_only_exploration_puts_it_first() {
    FakeHost::new();
    let carriers = [quality("bad", 0.30, 1_000), quality("good", 0.60, 50_000)];
    let router = router(json!({"explore": 0.05}));
    let plan = plan_of(&router, &message(UK, "hi"), &carriers, CALM);
    assert_eq!(ids(&plan), ["good", "bad"]);
    assert!(
        plan.reason.contains("30% 1.0s, below the floor"),
        "{}",
        plan.reason
    );
    let tried = (0..20_000u64).filter(|n| {
        let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let plan = plan_of(&router, &message(UK, "hi"), &carriers, random);
        assert_eq!(plan.hops.len(), 2);
        ids(&plan)[0] == "bad"
    });
    let tried = tried.count();
    assert!((900..1_100).contains(&tried), "{tried}");
}

#[test]
fn passwords_and_second_attempts_explore_nothing() {
    FakeHost::new();
    let carriers = [quality("bad", 0.30, 1_000), quality("good", 0.90, 5_000)];
    let router = router(json!({"explore": 0.5}));
    let mut again = message(UK, "hi");
    again.attempts = vec![Attempt {
        carrier: "good".to_owned(),
        at: 0,
        outcome: Outcome::Throttled,
    }];
    for sent in [otp(), again] {
        for random in 0..200u64 {
            assert_eq!(
                ids(&plan_of(&router, &sent, &carriers, random << 20))[0],
                "good"
            );
        }
    }
    // The same dice do explore for a first attempt.
    let plan = plan_of(&router, &message(UK, "hi"), &carriers, 0);
    assert_eq!(ids(&plan)[0], "bad");
    assert!(
        plan.reason.starts_with("tried again of 2: bad"),
        "{}",
        plan.reason
    );
}

#[test]
fn price_counts_where_a_deck_is_granted() {
    let host = FakeHost::new();
    host.set_table("rates", &[("44", "north=4200; south=12600; dear=99999")]);
    let carriers = [
        quality("south", 0.95, 4_000),
        quality("north", 0.90, 4_000),
        quality("dear", 0.99, 1_000),
    ];
    let mut sent = message(UK, "hi");
    let config =
        json!({"deck": "rates", "classes": {"transactional": {"max_price_micros": 20000}}});
    let plan = plan_of(&router(config.clone()), &sent, &carriers, CALM);
    assert_eq!(ids(&plan), ["north", "south"]);
    assert_eq!(plan.hops[0].price_micros, Some(4_200));
    assert!(
        plan.reason.ends_with("; not dear too dear"),
        "{}",
        plan.reason
    );
    sent.recipient = testing::international("+33612345678");
    assert_eq!(code(&router(config), &sent, &carriers), "price_too_high");
    let plan = plan_of(&router(json!({"deck": "rates"})), &sent, &carriers, CALM);
    assert_eq!(plan.hops[0].price_micros, None);
}

#[test]
fn the_worse_of_now_and_there_counts() {
    let host = FakeHost::new();
    host.set_table(
        "quality",
        &[
            ("GB", "north=0.70/9000; south=0.92"),
            ("234-10", "south=0.20"),
        ],
    );
    let router = router(json!({"quality": "quality"}));
    let carriers = [quality("north", 0.99, 1_000), quality("south", 0.95, 4_000)];
    let mut sent = message(UK, "hi");
    assert_eq!(ids(&plan_of(&router, &sent, &carriers, CALM))[0], "north");
    sent.network.country = heliograph_plugin::Country::new("GB");
    let plan = plan_of(&router, &sent, &carriers, CALM);
    assert_eq!(ids(&plan)[0], "south");
    assert!(
        plan.reason.contains("(92% 4.0s)") && plan.reason.contains("(70% 9.0s)"),
        "{}",
        plan.reason
    );
    (sent.network.mcc, sent.network.mnc) = (Some(234), Some(10));
    assert_eq!(
        ids(&plan_of(&router, &sent, &carriers, CALM)),
        ["north", "south"]
    );
}

#[test]
fn a_carrier_that_is_down_saturated_or_refused_the_message_is_left_out_while_another_is_ready() {
    FakeHost::new();
    let mut carriers =
        ["down", "full", "refused", "tried", "new"].map(|id| quality(id, 0.9, 4_000));
    carriers[0].connected = false;
    carriers[1].headroom = f32::NAN;
    let mut sent = otp();
    let attempt = |carrier: &str, outcome| Attempt {
        carrier: carrier.to_owned(),
        at: 0,
        outcome,
    };
    sent.attempts = vec![
        attempt("refused", Outcome::PermanentFailure(0x0B)),
        attempt("tried", Outcome::TimedOut),
    ];
    let router = router(json!({}));
    let plan = plan_of(&router, &sent, &carriers, CALM);
    assert_eq!(ids(&plan), ["new", "tried"]);
    assert!(
        plan.reason
            .ends_with("; not full saturated, refused refused this message, down down"),
        "{}",
        plan.reason
    );
    // Nobody is ready: the message waits for the best of the rest.
    let plan = plan_of(&router, &sent, &carriers[..2], CALM);
    assert_eq!(ids(&plan), ["full", "down"]);
    assert!(plan.reason.starts_with("none is ready"), "{}", plan.reason);
}

#[test]
fn a_long_queue_costs_a_password_its_place() {
    FakeHost::new();
    let mut carriers = [quality("north", 0.95, 2_000), quality("south", 0.92, 2_000)];
    carriers[0].queued = 3_000;
    let router = router(json!({}));
    assert_eq!(ids(&plan_of(&router, &otp(), &carriers, CALM))[0], "south");
}

#[test]
fn carriers_are_disabled_limited_to_countries_and_given_a_bonus() {
    FakeHost::new();
    let carriers = [
        quality("north", 0.90, 4_000),
        quality("south", 0.90, 4_000),
        quality("west", 0.99, 100),
    ];
    let router = router(json!({"carriers": {
        "west": {"disabled": true}, "north": {"countries": ["FR"]}, "south": {"bonus": -0.5}}}));
    let mut sent = message(UK, "hi");
    assert_eq!(ids(&plan_of(&router, &sent, &carriers, CALM)), ["south"]);
    sent.network.country = heliograph_plugin::Country::new("FR");
    assert_eq!(
        ids(&plan_of(&router, &sent, &carriers, CALM)),
        ["north", "south"]
    );
    assert_eq!(
        code(&router, &message(UK, "hi"), &carriers[..1]),
        "no_carrier"
    );
    assert_eq!(router.route(&sent, &[], &context()), Routing::Pass);
}

#[test]
fn faults_of_the_configuration_are_named() {
    for (config, names) in [
        (json!({"floor": 1.5}), "floor"),
        (json!({"band": -1}), "band"),
        (json!({"explore": 0.6}), "explore"),
        (json!({"max_hops": 0}), "max_hops"),
        (
            json!({"assumed_delivered_ratio": 2}),
            "assumed_delivered_ratio",
        ),
        (json!({"carriers": {"a": {"bonus": 2}}}), "carriers.a.bonus"),
        (
            json!({"carriers": {"a": {"countries": ["fr"]}}}),
            "carriers.a.countries",
        ),
        (
            json!({"classes": {"otp": {"floor": 2}}}),
            "classes.otp.floor",
        ),
        (
            json!({"classes": {"otp": {"weights": {"delivery": -1}}}}),
            "classes.otp.weights.delivery",
        ),
        (
            json!({"classes": {"alert": {"max_price_micros": 5}}}),
            "classes.alert.max_price_micros",
        ),
        (json!({"flor": 1}), "unknown field"),
    ] {
        match configure::<QualityRouter>(&config.to_string()) {
            Ok(_) => panic!("accepted: {config}"),
            Err(error) => assert!(error.contains(names), "{config}: {error}"),
        }
    }
}

#[test]
fn the_schema_describes_every_field() {
    let schema: Value = serde_json::from_str(&config_schema::<QualityRouter>()).unwrap();
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

fn any_carrier() -> impl Strategy<Value = Carrier> {
    (
        "[a-e]",
        any::<bool>(),
        0u32..20_000,
        proptest::num::f32::ANY,
        proptest::option::of(proptest::num::f32::ANY),
        proptest::option::of(any::<u32>()),
    )
        .prop_map(
            |(id, connected, queued, headroom, delivered_ratio, p50_receipt_ms)| Carrier {
                connected,
                queued,
                headroom,
                delivered_ratio,
                p50_receipt_ms,
                ..testing::carrier(&id)
            },
        )
}

proptest! {
    #[test]
    fn whatever_the_carriers_a_plan_is_of_offered_ones_and_a_usable_one_leads(
        carriers in proptest::collection::vec(any_carrier(), 1..8),
        random in any::<u64>(),
        band in 0.0f32..0.2,
    ) {
        FakeHost::new();
        let router = router(json!({"explore": 0.3, "band": band}));
        let plan = plan_of(&router, &message(UK, "hi"), &carriers, random);
        prop_assert!((1..=3).contains(&plan.hops.len()));
        prop_assert!(plan.hops.iter().all(|hop| carriers.iter().any(|c| c.id == hop.carrier)));
        let usable = |c: &Carrier| c.connected && c.headroom >= 0.1 && c.queued <= 10_000;
        let leads = carriers.iter().any(|c| usable(c) && c.id == plan.hops[0].carrier);
        prop_assert!(leads || !carriers.iter().any(usable), "{}", plan.reason);
    }
}
