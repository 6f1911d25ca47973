//! Whole decisions: a configuration, a few carriers, a number, and the plan or refusal that must come out.

use heliograph_plugin::testing::{self, FakeHost, carrier, context, message};
use heliograph_plugin::{
    Attempt, Carrier, Country, Message, Outcome, Plan, Plugin, Routing, RoutingPolicy,
    TrafficClass, TypeOfNumber, config_schema, configure,
};
use proptest::prelude::*;

use super::LeastCostRouter;

const UK: &str = "+447700900123";

#[track_caller]
fn router(config: &str) -> LeastCostRouter {
    configure(config).unwrap_or_else(|error| panic!("{config}: {error}"))
}

#[track_caller]
fn config_error(config: &str) -> String {
    match configure::<LeastCostRouter>(config) {
        Ok(_) => panic!("accepted: {config}"),
        Err(error) => error,
    }
}

fn three() -> Vec<Carrier> {
    ["north", "south", "west"].map(carrier).into()
}

fn otp(to: &str) -> Message {
    Message {
        traffic: TrafficClass::Otp,
        ..message(to, "Your code is 1234")
    }
}

fn promotional(to: &str) -> Message {
    Message {
        traffic: TrafficClass::Promotional,
        ..message(to, "Sale!")
    }
}

#[track_caller]
fn plan(router: &LeastCostRouter, message: &Message, carriers: &[Carrier]) -> Plan {
    match router.route(message, carriers, &context()) {
        Routing::Send(plan) => plan,
        other => panic!("{other:?}"),
    }
}

fn ids(plan: &Plan) -> Vec<&str> {
    plan.hops.iter().map(|hop| hop.carrier.as_str()).collect()
}

#[track_caller]
fn refusal(router: &LeastCostRouter, message: &Message, carriers: &[Carrier]) -> (String, String) {
    match router.route(message, carriers, &context()) {
        Routing::Refuse(refusal) => (refusal.code, refusal.reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_configuration_the_order_given_holds_among_equals() {
    FakeHost::new();
    let plan = plan(&router("{}"), &message(UK, "hi"), &three());
    assert_eq!(ids(&plan), ["north", "south", "west"]);
    assert!(
        plan.hops
            .iter()
            .all(|hop| hop.price_micros.is_none() && hop.originator.is_none())
    );
    assert_eq!(plan.reason, "most headroom of 3: north, south, west");
}

#[test]
fn without_configuration_most_headroom_comes_first_and_a_carrier_that_is_down_is_skipped() {
    FakeHost::new();
    let mut carriers = three();
    carriers[1].headroom = 900.0;
    carriers[2].connected = false;
    let plan = plan(&router("{}"), &message(UK, "hi"), &carriers);
    assert_eq!(ids(&plan), ["south", "north"]);
    assert_eq!(
        plan.reason,
        "most headroom of 3: south, north; not west down"
    );
}

#[test]
fn the_cheapest_carrier_of_the_longest_row_comes_first() {
    let host = FakeHost::new();
    host.set_table(
        "deck",
        &[
            ("44", "north=9000;south=1000;west=1000"),
            ("447", "north=4200; south=5100"),
        ],
    );
    let plan = plan(&router(r#"{"deck": "deck"}"#), &message(UK, "hi"), &three());
    assert_eq!(ids(&plan), ["north", "south"]);
    assert_eq!(plan.hops[0].price_micros, Some(4200));
    assert_eq!(
        plan.reason,
        "cheapest of 2: north 4200µ, south 5100µ; not west without a rate"
    );
}

#[test]
fn a_carriers_own_deck_comes_before_the_common_one_and_before_rates() {
    let host = FakeHost::new();
    host.set_table("deck", &[("44", "north=4200;south=5100")]);
    host.set_table("south-rates", &[("4477", "3000")]);
    let router = router(
        r#"{"deck": "deck", "carriers": {"south": {"deck": "south-rates"}},
            "rates": [{"prefix": "", "carrier": "south", "price_micros": 1}, {"prefix": "4", "carrier": "west", "price_micros": 6000}]}"#,
    );
    let plan = plan(&router, &message(UK, "hi"), &three());
    assert_eq!(ids(&plan), ["south", "north", "west"]);
    assert_eq!(
        plan.hops.iter().map(|h| h.price_micros).collect::<Vec<_>>(),
        [Some(3000), Some(4200), Some(6000)]
    );
}

#[test]
fn a_malformed_entry_is_logged_and_takes_no_other_price() {
    let host = FakeHost::new();
    host.set_table("deck", &[("44", "north=0.0042; south=5100; =3; rubbish")]);
    let router = router(r#"{"deck": "deck", "default_price_micros": 1}"#);
    let plan = plan(&router, &message(UK, "hi"), &three());
    assert_eq!(
        ids(&plan),
        ["west", "south"],
        "north's price is unknown, not 1µ"
    );
    let logs = host.logs();
    assert_eq!(logs.len(), 3);
    assert!(
        logs[0]
            .fields
            .contains(&("carrier".to_owned(), "north".to_owned())),
        "{logs:?}"
    );
    assert!(
        logs[0]
            .fields
            .contains(&("row".to_owned(), "44".to_owned())),
        "{logs:?}"
    );
}

#[test]
fn a_malformed_row_in_a_carriers_own_deck_leaves_it_out() {
    let host = FakeHost::new();
    host.set_table("south-rates", &[("44", "cheap")]);
    let router =
        router(r#"{"default_price_micros": 7, "carriers": {"south": {"deck": "south-rates"}}}"#);
    assert_eq!(
        ids(&plan(
            &router,
            &message(UK, "hi"),
            &[carrier("north"), carrier("south")]
        )),
        ["north"]
    );
    assert_eq!(host.logs().len(), 1);
}

#[test]
fn no_rate_is_refused_or_passed_on() {
    let host = FakeHost::new();
    host.set_table("deck", &[("1", "north=4200")]);
    let refused = refusal(&router(r#"{"deck": "deck"}"#), &message(UK, "hi"), &three());
    assert_eq!(
        refused,
        (
            "no_rate".to_owned(),
            "no carrier has a rate for 447700".to_owned()
        )
    );
    let passing = router(r#"{"deck": "deck", "unpriced": "pass"}"#);
    assert_eq!(
        passing.route(&message(UK, "hi"), &three(), &context()),
        Routing::Pass
    );
}

#[test]
fn a_deck_that_is_not_uploaded_is_no_rate_and_not_a_free_ride() {
    FakeHost::new();
    assert_eq!(
        refusal(
            &router(r#"{"deck": "absent"}"#),
            &message(UK, "hi"),
            &three()
        )
        .0,
        "no_rate"
    );
}

#[test]
fn otp_prefers_quality_where_promotional_prefers_price() {
    let host = FakeHost::new();
    host.set_table("deck", &[("44", "north=4200;south=5100")]);
    let router = router(r#"{"deck": "deck"}"#);
    let mut carriers = vec![carrier("north"), carrier("south")];
    carriers[0].delivered_ratio = Some(0.8);
    carriers[1].delivered_ratio = Some(0.99);
    carriers[1].p50_receipt_ms = Some(2_150);
    let fast = plan(&router, &otp(UK), &carriers);
    assert_eq!(ids(&fast), ["south", "north"]);
    assert_eq!(
        fast.reason,
        "best of 2: south 5100µ 99% 2.1s, north 4200µ 80%"
    );
    assert_eq!(
        ids(&plan(&router, &promotional(UK), &carriers)),
        ["north", "south"]
    );
}

#[test]
fn configured_weights_take_the_place_of_the_built_in_ones() {
    FakeHost::new();
    let router =
        router(r#"{"weights": {"latency": 1}, "classes": {"otp": {"weights": {"delivery": 1}}}}"#);
    let mut carriers = vec![carrier("north"), carrier("south")];
    carriers[0].delivered_ratio = Some(0.99);
    carriers[0].p50_receipt_ms = Some(30_000);
    carriers[1].delivered_ratio = Some(0.7);
    carriers[1].p50_receipt_ms = Some(1_000);
    assert_eq!(
        ids(&plan(&router, &message(UK, "hi"), &carriers)),
        ["south", "north"]
    );
    assert_eq!(ids(&plan(&router, &otp(UK), &carriers)), ["north", "south"]);
}

#[test]
fn tags_keep_a_class_on_its_carriers() {
    FakeHost::new();
    let router = router(
        r#"{"classes": {"otp": {"require_tags": ["direct"]}, "promotional": {"avoid_tags": ["direct"]}}}"#,
    );
    let mut carriers = three();
    carriers[1].tags = vec!["direct".to_owned()];
    assert_eq!(ids(&plan(&router, &otp(UK), &carriers)), ["south"]);
    assert_eq!(
        ids(&plan(&router, &promotional(UK), &carriers)),
        ["north", "west"]
    );
    carriers[1].tags.clear();
    assert_eq!(
        refusal(&router, &otp(UK), &carriers).0,
        "no_carrier_for_class"
    );
}

#[test]
fn a_class_pays_no_more_than_its_limit() {
    let host = FakeHost::new();
    host.set_table("deck", &[("44", "north=4200;south=5100")]);
    let router = router(
        r#"{"deck": "deck", "classes": {"promotional": {"max_price_micros": 4500}, "alert": {"max_price_micros": 10}}}"#,
    );
    let carriers = [carrier("north"), carrier("south")];
    assert_eq!(ids(&plan(&router, &promotional(UK), &carriers)), ["north"]);
    let alert = Message {
        traffic: TrafficClass::Alert,
        ..message(UK, "Fire")
    };
    let (code, reason) = refusal(&router, &alert, &carriers);
    assert_eq!(code, "price_too_high");
    assert_eq!(
        reason,
        "the cheapest carrier, north, asks 4200µ a segment; alert may cost 10µ"
    );
}

#[test]
fn a_saturated_carrier_is_skipped_by_headroom_or_by_queue() {
    FakeHost::new();
    let router = router(r#"{"max_queued": 50}"#);
    let mut carriers = three();
    carriers[0].headroom = 0.0;
    carriers[2].queued = 51;
    let plan = plan(&router, &message(UK, "hi"), &carriers);
    assert_eq!(ids(&plan), ["south"]);
    assert_eq!(
        plan.reason,
        "most headroom of 3: south; not west saturated, north saturated"
    );
}

#[test]
fn a_headroom_that_is_no_number_counts_as_none() {
    FakeHost::new();
    let mut carriers = three();
    carriers[0].headroom = f32::NAN;
    assert_eq!(
        ids(&plan(&router("{}"), &message(UK, "hi"), &carriers)),
        ["south", "west"]
    );
}

#[test]
fn when_none_is_ready_the_message_waits_for_the_best_or_is_refused() {
    let host = FakeHost::new();
    host.set_table("deck", &[("44", "north=4200;south=5100;west=100")]);
    let mut carriers = three();
    carriers[0].headroom = 0.0;
    carriers[1].headroom = 0.0;
    carriers[2].connected = false;
    let waiting = plan(
        &router(r#"{"deck": "deck"}"#),
        &message(UK, "hi"),
        &carriers,
    );
    assert_eq!(
        ids(&waiting),
        ["north", "south", "west"],
        "one that is down comes after those that are busy"
    );
    assert!(
        waiting.reason.starts_with("none is ready, "),
        "{}",
        waiting.reason
    );
    let strict = router(r#"{"deck": "deck", "unavailable": "refuse"}"#);
    assert_eq!(
        refusal(&strict, &message(UK, "hi"), &carriers).0,
        "no_carrier_available"
    );
}

#[test]
fn a_carrier_below_the_class_floor_is_used_only_when_no_better_one_is_ready() {
    FakeHost::new();
    let router =
        router(r#"{"classes": {"otp": {"min_delivered_ratio": 0.9}}, "unavailable": "refuse"}"#);
    let mut carriers = vec![carrier("north"), carrier("south")];
    carriers[0].delivered_ratio = Some(0.5);
    assert_eq!(ids(&plan(&router, &otp(UK), &carriers)), ["south"]);
    carriers[1].connected = false;
    assert_eq!(ids(&plan(&router, &otp(UK), &carriers)), ["north", "south"]);
    assert_eq!(
        ids(&plan(&router, &message(UK, "hi"), &carriers)),
        ["north"],
        "other classes have no floor"
    );
}

#[test]
fn a_retry_goes_elsewhere_first_and_not_back_to_who_refused_for_good() {
    FakeHost::new();
    let attempt = |carrier: &str, outcome| Attempt {
        carrier: carrier.to_owned(),
        at: 0,
        outcome,
    };
    let mut message = message(UK, "hi");
    message.attempts = vec![
        attempt("north", Outcome::TemporaryFailure(8)),
        attempt("west", Outcome::Undelivered("004".to_owned())),
    ];
    let elsewhere = plan(&router("{}"), &message, &three());
    assert_eq!(ids(&elsewhere), ["south", "north"]);
    assert!(
        elsewhere.reason.contains("north (failed before)"),
        "{}",
        elsewhere.reason
    );
    assert!(
        elsewhere.reason.ends_with("not west refused this message"),
        "{}",
        elsewhere.reason
    );
    assert_eq!(
        ids(&plan(&router("{}"), &message, &three()[2..])),
        ["west"],
        "it is all there is"
    );
    message.attempts = vec![attempt("north", Outcome::Throttled)];
    assert_eq!(
        ids(&plan(&router("{}"), &message, &three()))[0],
        "north",
        "a throttled carrier is as good as before"
    );
}

#[test]
fn a_plan_has_no_more_hops_than_configured() {
    FakeHost::new();
    let router = router(r#"{"max_hops": 2, "classes": {"otp": {"max_hops": 1}}}"#);
    assert_eq!(plan(&router, &message(UK, "hi"), &three()).hops.len(), 2);
    assert_eq!(plan(&router, &otp(UK), &three()).hops.len(), 1);
}

#[test]
fn near_equals_share_by_weight_and_the_same_random_number_decides_the_same() {
    FakeHost::new();
    let router = router(
        r#"{"rates": [{"prefix": "", "carrier": "north", "price_micros": 1000}, {"prefix": "", "carrier": "south", "price_micros": 1010},
                      {"prefix": "", "carrier": "west", "price_micros": 2000}],
            "carriers": {"north": {"weight": 3}, "south": {"weight": 1}}}"#,
    );
    let (message, carriers) = (message(UK, "hi"), three());
    let mut north = 0;
    for random in 0..4000 {
        let context = heliograph_plugin::Context {
            random,
            ..context()
        };
        let answer = router.route(&message, &carriers, &context);
        assert_eq!(answer, router.route(&message, &carriers, &context));
        let Routing::Send(plan) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(ids(&plan)[2], "west", "twice the price is not near");
        north += usize::from(ids(&plan)[0] == "north");
    }
    assert!(
        (2900..3100).contains(&north),
        "3 of 4 decisions, got {north} of 4000"
    );
}

#[test]
fn a_weight_of_zero_comes_after_its_equals() {
    FakeHost::new();
    let router = router(r#"{"default_price_micros": 5, "carriers": {"north": {"weight": 0}}}"#);
    for random in 0..50 {
        let context = heliograph_plugin::Context {
            random,
            ..context()
        };
        let Routing::Send(plan) = router.route(&message(UK, "hi"), &three(), &context) else {
            panic!("no plan")
        };
        assert_eq!(ids(&plan)[2], "north");
    }
}

#[test]
fn originators_and_parameters_are_the_carriers_own() {
    FakeHost::new();
    let router = router(
        r#"{"carriers": {"north": {"originator": "Acme", "originator_by_country": {"US": "+12025550143"},
            "tlvs": [{"tag": 5120, "text": "1101"}, {"tag": 5121, "hex": "0aFF"}]}}}"#,
    );
    let mut message = message(UK, "hi");
    let british = plan(&router, &message, &three());
    let sender = british.hops[0].originator.as_ref().expect("an originator");
    assert_eq!(
        (sender.ton, sender.value.as_str()),
        (TypeOfNumber::Alphanumeric, "Acme")
    );
    assert_eq!(british.hops[1].originator, None);
    let tlvs: Vec<_> = british.hops[0]
        .tlvs
        .iter()
        .map(|tlv| (tlv.tag, tlv.value.as_slice()))
        .collect();
    assert_eq!(tlvs, [(5120, b"1101".as_slice()), (5121, &[0x0a, 0xff])]);
    message.network.country = Country::new("US");
    let american = plan(&router, &message, &three());
    let sender = american.hops[0].originator.as_ref().expect("an originator");
    assert_eq!(
        (sender.ton, sender.value.as_str()),
        (TypeOfNumber::International, "12025550143")
    );
}

#[test]
fn denied_destinations_are_refused_by_prefix_country_or_table() {
    let host = FakeHost::new();
    host.set_table("fraud", &[("88", "satellite")]);
    let router = router(
        r#"{"deny": [{"prefix": "4477", "classes": ["promotional"], "reason": "no adverts"}, {"country": "KP"}], "deny_table": "fraud"}"#,
    );
    assert_eq!(
        refusal(&router, &promotional(UK), &three()),
        (
            "destination_denied".to_owned(),
            "4477: no adverts".to_owned()
        )
    );
    assert_eq!(plan(&router, &otp(UK), &three()).hops.len(), 3);
    assert_eq!(
        refusal(&router, &otp("+882161234567"), &three()).1,
        "88: satellite"
    );
    let mut korean = otp("+8502123456");
    korean.network.country = Country::new("KP");
    assert_eq!(
        refusal(&router, &korean, &three()).1,
        "KP: the operator does not send there"
    );
}

#[test]
fn a_known_network_is_priced_by_its_own_deck_and_others_by_their_number() {
    let host = FakeHost::new();
    host.set_table("deck", &[("44", "north=4200;south=5100")]);
    host.set_table("networks", &[("234-10", "south=3000;north=9000")]);
    let router = router(r#"{"deck": "deck", "network_deck": "networks"}"#);
    let mut message = message(UK, "hi");
    message.network.mcc = Some(234);
    message.network.mnc = Some(10);
    let ported = plan(&router, &message, &three());
    assert_eq!(ids(&ported), ["south", "north"]);
    assert_eq!(ported.hops[0].price_micros, Some(3000));
    message.network.mnc = Some(15);
    assert_eq!(ids(&plan(&router, &message, &three())), ["north", "south"]);
    message.network.mnc = None;
    assert_eq!(ids(&plan(&router, &message, &three())), ["north", "south"]);
}

#[test]
fn a_withheld_number_is_routed_by_its_prefix() {
    let host = FakeHost::new();
    host.set_table("deck", &[("44", "north=4200"), ("9", "south=1")]);
    let mut message = message(UK, "hi");
    message.recipient.value = "98a7f3".to_owned();
    message.recipient.prefix = "4477".into();
    assert_eq!(
        ids(&plan(&router(r#"{"deck": "deck"}"#), &message, &three())),
        ["north"]
    );
}

#[test]
fn no_carriers_at_all_is_no_opinion() {
    FakeHost::new();
    assert_eq!(
        router("{}").route(&message(UK, "hi"), &[], &context()),
        Routing::Pass
    );
}

#[test]
fn a_disabled_carrier_is_out_of_every_plan() {
    FakeHost::new();
    let router = router(r#"{"carriers": {"north": {"disabled": true}}}"#);
    assert_eq!(
        ids(&plan(&router, &message(UK, "hi"), &three())),
        ["south", "west"]
    );
}

#[test]
fn configuration_errors_name_the_field_and_the_rule() {
    FakeHost::new();
    for (config, expect) in [
        (r#"{"max_hops": 0}"#, "max_hops: 0 is not 1 to 16"),
        (r#"{"maxhops": 1}"#, "unknown field `maxhops`"),
        (
            r#"{"deny": [{"prefix": "44", "country": "GB"}]}"#,
            "deny[0]: give either prefix or country",
        ),
        (r#"{"deny": [{"country": "gb"}]}"#, "deny[0].country"),
        (r#"{"deny": [{"prefix": "+44"}]}"#, "deny[0].prefix"),
        (
            r#"{"rates": [{"prefix": "4x", "carrier": "a", "price_micros": 1}]}"#,
            "rates[0].prefix",
        ),
        (
            r#"{"rates": [{"prefix": "4", "carrier": "a", "price_micros": 1}, {"prefix": "4", "carrier": "a", "price_micros": 2}]}"#,
            "rates[1]: a has a rate",
        ),
        (
            r#"{"carriers": {"a": {"originator": "far too long a name"}}}"#,
            "carriers.a.originator",
        ),
        (
            r#"{"carriers": {"a": {"originator_by_country": {"UK1": "x"}}}}"#,
            "carriers.a.originator_by_country",
        ),
        (
            r#"{"carriers": {"a": {"tlvs": [{"tag": 1}]}}}"#,
            "carriers.a.tlvs[0]: give either text or hex",
        ),
        (
            r#"{"carriers": {"a": {"tlvs": [{"tag": 1, "hex": "0"}]}}}"#,
            "carriers.a.tlvs[0]: hex",
        ),
        (r#"{"weights": {"price": -1}}"#, "weights.price"),
        (
            r#"{"classes": {"otp": {"min_delivered_ratio": 1.5}}}"#,
            "classes.otp.min_delivered_ratio",
        ),
        (
            r#"{"classes": {"alert": {"weights": {"delivery": -2}}}}"#,
            "classes.alert.weights.delivery",
        ),
    ] {
        let error = config_error(config);
        assert!(
            error.contains(expect),
            "{config}\n  gave {error}\n  not  {expect}"
        );
    }
}

#[test]
fn the_readme_example_works() {
    let host = FakeHost::new();
    host.set_table("rates", &[("44", "north=4200; south=5100")]);
    let (_, rest) = include_str!("../README.md")
        .split_once("```json\n")
        .expect("the example");
    let router = router(rest.split_once("```").expect("its end").0);
    let plan = plan(&router, &message(UK, "hi"), &three());
    assert!(plan.hops[0].carrier == "north" && plan.hops.len() == 2);
    let mut carriers = three();
    carriers[1].tags = vec!["direct".to_owned()];
    assert_eq!(ids(&self::plan(&router, &otp(UK), &carriers)), ["south"]);
}

#[test]
fn the_schema_describes_every_field() {
    let schema: serde_json::Value =
        serde_json::from_str(&config_schema::<LeastCostRouter>()).expect("JSON");
    let undescribed: Vec<String> = definitions(&schema)
        .flat_map(|(name, definition)| {
            let properties = definition["properties"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            properties
                .into_iter()
                .filter(|(_, p)| p["description"].as_str().is_none_or(str::is_empty))
                .map(move |(p, _)| format!("{name}.{p}"))
        })
        .collect();
    assert_eq!(undescribed, Vec::<String>::new());
    assert_eq!(schema["properties"]["max_hops"]["default"], 3);
    assert_eq!(LeastCostRouter::NAME, "least-cost-router");
}

fn definitions(schema: &serde_json::Value) -> impl Iterator<Item = (String, serde_json::Value)> {
    let inner = schema["$defs"].as_object().cloned().unwrap_or_default();
    inner
        .into_iter()
        .chain([("Config".to_owned(), schema.clone())])
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
    fn whatever_the_row_and_the_carriers_a_plan_is_of_offered_carriers_and_within_bounds(
        row in "([a-e]=[0-9]{1,6};|\\PC{0,6}){0,6}",
        carriers in proptest::collection::vec(any_carrier(), 0..8),
        random in any::<u64>(),
    ) {
        let host = FakeHost::new();
        host.set_table("deck", &[("44", &row)]);
        let router = router(r#"{"deck": "deck"}"#);
        let context = heliograph_plugin::Context { random, ..context() };
        if let Routing::Send(plan) = router.route(&message(UK, "hi"), &carriers, &context) {
            prop_assert!((1..=3).contains(&plan.hops.len()));
            let ready = carriers.iter().any(|c| c.connected && c.headroom >= 0.1 && c.queued <= 10_000
                && plan.hops[0].carrier == c.id);
            let priced = plan.hops.iter().all(|hop| hop.price_micros.is_some());
            let offered = plan.hops.iter().all(|hop| carriers.iter().any(|c| c.id == hop.carrier));
            prop_assert!(priced && offered);
            prop_assert!(ready || plan.reason.starts_with("none is ready"), "{}", plan.reason);
        }
    }
}
