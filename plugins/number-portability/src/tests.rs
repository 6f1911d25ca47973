//! Whole answers: tables, a number, and the network that must come out.

use heliograph_plugin::testing::{FakeHost, alphanumeric, context, message};
use heliograph_plugin::{Country, config_schema, configure};

use super::*;

const NUMBER: &str = "+447700900123";
const ALL: &str = r#"{"ported": "mnp", "ranges": "ranges", "networks": "networks", "operator_label": "operator"}"#;

#[track_caller]
fn plugin(config: &str) -> NumberPortability {
    configure(config).unwrap_or_else(|error| panic!("{config}: {error}"))
}

#[track_caller]
fn finding(config: &str, message: &Message) -> Finding {
    match plugin(config).enrich(message, &context()) {
        Enriched::Found(finding) => finding,
        Enriched::Pass => panic!("found nothing"),
    }
}

fn tables() -> FakeHost {
    let host = FakeHost::new();
    host.set_table("ranges", &[("44", "234-15"), ("447700", "234-10;GB;O2 UK")]);
    host.set_table("mnp", &[("447700900123", "ee"), ("447700900124", "234-20")]);
    host.set_table("networks", &[("ee", "234-30;GB;EE")]);
    host
}

#[test]
fn a_ported_number_is_in_its_new_network() {
    tables();
    let found = finding(ALL, &message(NUMBER, "hi"));
    let network = found.network.expect("a network");
    assert_eq!((network.mcc, network.mnc), (Some(234), Some(30)));
    assert!(network.ported);
    assert_eq!(network.country, Country::new("GB"));
    assert_eq!(found.labels, [("operator".to_owned(), "EE".to_owned())]);
    assert_eq!(found.reason, "ported to 234-30 EE");
}

#[test]
fn any_other_number_is_in_the_network_of_its_longest_prefix() {
    tables();
    let found = finding(ALL, &message("+447700900999", "hi"));
    let network = found.network.expect("a network");
    assert_eq!((network.mcc, network.mnc), (Some(234), Some(10)));
    assert!(!network.ported);
    assert_eq!(found.reason, "447700 is 234-10 O2 UK");
}

#[test]
fn a_row_without_country_and_name_leaves_the_country_and_labels_nothing() {
    tables();
    let mut message = message("+447700900124", "hi");
    message.network.country = Country::new("IM");
    let found = finding(ALL, &message);
    assert_eq!(found.network.and_then(|n| n.country), Country::new("IM"));
    assert_eq!(found.labels, []);
    assert_eq!(found.reason, "ported to 234-20");
}

#[test]
fn a_number_that_no_table_has_stays_as_it_is() {
    tables();
    let pass = plugin(ALL).enrich(&message("+12025550143", "hi"), &context());
    assert_eq!(pass, Enriched::Pass);
}

#[test]
fn a_withheld_number_is_looked_up_by_its_prefix_alone() {
    let host = tables();
    host.set_table("mnp", &[("44770090p0123456789abcdef0123", "234-20")]);
    let mut message = message(NUMBER, "hi");
    message.recipient.value = "44770090p0123456789abcdef0123".to_owned();
    message.recipient.prefix = "44770090".into();
    message.recipient.withheld = true;
    assert_eq!(finding(ALL, &message).reason, "447700 is 234-10 O2 UK");
}

#[test]
fn what_is_no_international_number_is_not_looked_up() {
    tables();
    let mut message = message(NUMBER, "hi");
    message.recipient = alphanumeric("447700");
    assert_eq!(plugin(ALL).enrich(&message, &context()), Enriched::Pass);
}

#[test]
fn a_row_that_cannot_be_read_is_logged_by_its_first_digits_and_the_range_counts() {
    let host = tables();
    host.set_table("mnp", &[("447700900123", "vodafone")]);
    let found = finding(ALL, &message(NUMBER, "hi"));
    assert_eq!(found.reason, "447700 is 234-10 O2 UK");
    let logs = host.logs();
    assert_eq!(logs.len(), 1);
    assert!(
        logs[0]
            .fields
            .contains(&("key".to_owned(), "447700".to_owned())),
        "{logs:?}"
    );
}

#[test]
fn configuration_errors_name_the_field_and_the_rule() {
    for (config, expect) in [
        ("{}", "ported, ranges: at least one"),
        (r#"{"networks": "n"}"#, "ported, ranges: at least one"),
        (
            r#"{"ranges": "r", "operator_label": "a b"}"#,
            "operator_label: \"a b\"",
        ),
        (r#"{"range": "r"}"#, "unknown field `range`"),
    ] {
        let error = configure::<NumberPortability>(config)
            .err()
            .unwrap_or_else(|| panic!("accepted: {config}"));
        assert!(error.contains(expect), "{config}\n  gave {error}");
    }
}

#[test]
fn the_readme_example_works() {
    tables();
    let (_, rest) = include_str!("../README.md")
        .split_once("```json\n")
        .expect("the example");
    let config = rest.split_once("```").expect("its end").0;
    assert_eq!(
        finding(config, &message(NUMBER, "hi")).reason,
        "ported to 234-30 EE"
    );
}

#[test]
fn the_schema_describes_every_field() {
    let schema: serde_json::Value =
        serde_json::from_str(&config_schema::<NumberPortability>()).expect("JSON");
    let properties = schema["properties"].as_object().expect("fields");
    assert_eq!(properties.len(), 4);
    for (name, property) in properties {
        let described = property["description"].as_str();
        assert!(described.is_some_and(|d| !d.is_empty()), "{name}");
    }
}
