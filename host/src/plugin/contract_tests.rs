//! Two versions of the contract beside each other: what guests of 0.2 see and answer that those of 0.1
//! do not, and a set with both.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::test_guests::*;
use super::*;
use crate::domain::{Enriched, Hook, Network, NetworkSource, Routing, Verdict};

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

fn guest(hook: Hook, octets: &[u8], before: &str) -> Guest {
    let data: String = octets.iter().map(|o| format!("\\{o:02x}")).collect();
    Guest {
        hooks: vec![hook],
        contract: WitVersion::V0_2,
        more: format!(r#"(data (i32.const {FREE}) "{data}")"#),
        answer: format!("{before} (i32.const {FREE})"),
        ..Guest::default()
    }
}

const LABELS: u32 = FREE + 64;

/// found: some network, labels at [`LABELS`], and the reason `seen`. `network` is its six words:
/// country (case and two letters), mcc, mnc, ported.
fn finding(network: [u32; 6], labels: u32) -> Vec<u8> {
    let mut octets = words(&[1, 1]);
    octets.extend(words(&network));
    octets.extend(words(&[LABELS, labels, FREE + 56, 4, 0, 0]));
    octets.extend(b"seen\0\0\0\0");
    // One label: its name, and its value to be put in by the guest.
    octets.extend(words(&[FREE + 56, 4, FREE + 56, 4]));
    octets
}

const GB: [u32; 3] = [1, b'G' as u32, b'B' as u32];

fn uk() -> [u32; 6] {
    [GB[0], GB[1], GB[2], 1 | 234 << 16, 1 | 10 << 16, 1]
}

/// In 0.2 the recipient's value is at 44 of the arguments: pointer and length.
const ECHO_RECIPIENT: &str = "(i32.store (i32.const 8264) (i32.load offset=44 (local.get $args)))
    (i32.store (i32.const 8268) (i32.load offset=48 (local.get $args)))";

async fn enriched(guest: &Guest, lines: &str) -> Result<Enriched, Fault> {
    let set = set_of(guest, lines).await.unwrap();
    let entry = set.entries(Hook::Enrichment).next().unwrap();
    let mut witness = Witness::absent();
    entry.enrich(&message(), &context(), &mut witness).await.0
}

async fn seen(lines: &str) -> String {
    let guest = guest(Hook::Enrichment, &finding(uk(), 1), ECHO_RECIPIENT);
    match enriched(&guest, lines).await {
        Ok(Enriched::Found { labels, .. }) => labels[0].1.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_enrichment_tells_where_a_number_lives() {
    let guest = guest(Hook::Enrichment, &finding(uk(), 0), "");
    let set = set_of(&guest, "").await.unwrap();
    let entry = set.entries(Hook::Enrichment).next().unwrap();
    assert_eq!(entry.fail(), Fail::Open);
    let mut witness = Witness::absent();
    let answer = entry.enrich(&message(), &context(), &mut witness).await.0;
    assert_eq!(
        answer,
        Ok(Enriched::Found {
            network: Some(Network {
                country: Some(*b"GB"),
                mcc: Some(234),
                mnc: Some(10),
                ported: true,
                source: NetworkSource::Plugin,
            }),
            labels: Vec::new(),
            reason: "seen".into(),
        })
    );
    assert_eq!(entry.stats().outcomes, [("enrich", 1)]);
}

#[tokio::test]
async fn a_number_is_shown_as_it_is_or_as_its_prefix_and_a_pseudonym() {
    assert_eq!(
        seen("grants = { numbers = \"full\" }").await,
        "447700900123"
    );
    let withheld = seen("grants = { numbers = \"prefix\" }").await;
    assert!(
        withheld.starts_with("44770090p") && withheld.len() == 8 + 21,
        "{withheld}"
    );
}

#[tokio::test]
async fn what_an_enrichment_may_not_say_is_named() {
    let code = |n: u32| 1 | n << 16;
    for (network, labels, expect) in [
        (
            [1, 0x67, 0x62, 0, 0, 0],
            0,
            "network.country is not two upper-case letters",
        ),
        (
            [GB[0], GB[1], 0x1f1e7, 0, 0, 0],
            0,
            "network.country is not two upper-case letters",
        ),
        ([0, 0, 0, code(0), 0, 0], 0, "network.mcc is not 1 to 999"),
        (
            [0, 0, 0, code(1000), 0, 0],
            0,
            "network.mcc is not 1 to 999",
        ),
        (
            [0, 0, 0, code(234), code(1000), 0],
            0,
            "network.mnc is not 0 to 999",
        ),
        (
            [0, 0, 0, 0, code(10), 0],
            0,
            "network.mnc means nothing without an mcc",
        ),
        (uk(), 9, "labels has 9 entries, more than 8"),
        (uk(), 2, "labels has a name that is not 1 to 64"),
    ] {
        let guest = guest(Hook::Enrichment, &finding(network, labels), "");
        match enriched(&guest, "").await {
            Err(Fault::BadOutput(why)) => assert!(why.contains(expect), "{why}"),
            other => panic!("{expect}: {other:?}"),
        }
    }
}

fn carriers() -> Vec<CarrierView> {
    ["north", "south"]
        .map(|id| CarrierView {
            id: id.into(),
            connected: true,
            queued: 0,
            in_flight: 0,
            headroom: 10.0,
            delivered_ratio: None,
            p50_receipt_ms: None,
            tags: Vec::new(),
        })
        .to_vec()
}

async fn routed(place: u32) -> Result<Routing, Fault> {
    // send: a plan of one hop (48 octets, its carrier first) and the reason `seen`.
    let mut octets = words(&[0, 0, FREE + 32, 1, FREE + 80, 4, 0, 0, place]);
    octets.extend([0; 44]);
    octets.extend(b"seen");
    let set = set_of(&guest(Hook::RoutingPolicy, &octets, ""), "")
        .await
        .unwrap();
    let entry = set.entries(Hook::RoutingPolicy).next().unwrap();
    let mut witness = Witness::absent();
    entry
        .route(&message(), &carriers(), &context(), &mut witness)
        .await
        .0
}

#[tokio::test]
async fn a_hop_names_its_carrier_by_its_place() {
    match routed(1).await {
        Ok(Routing::Send(plan)) => {
            assert_eq!(plan.hops[0].carrier.as_str(), "south");
            assert_eq!(plan.reason, "seen");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        routed(2).await,
        Err(Fault::BadOutput(
            "send.hops[0].carrier is 2, and 2 carriers were offered".into()
        ))
    );
}

#[tokio::test]
async fn plugins_of_both_versions_answer_in_one_set() {
    let shelf = Shelf {
        components: BTreeMap::from([
            ("old.wasm", build(&Guest::default())),
            (
                "new.wasm",
                build(&guest(Hook::Enrichment, &finding(uk(), 0), "")),
            ),
        ]),
        ..Shelf::default()
    };
    let spec = PolicySpec::from_toml(
        "[[plugin]]\nname = \"old\"\npath = \"old.wasm\"\n[[plugin]]\nname = \"new\"\npath = \"new.wasm\"\n",
    )
    .unwrap();
    let set = PolicySet::build(&spec, Arc::new(shelf), &host(), None)
        .await
        .unwrap();
    let (message, context) = (message(), context());
    let mut witness = Witness::absent();
    let new = set.entry("new", Hook::Enrichment).unwrap();
    let found = new.enrich(&message, &context, &mut witness).await.0;
    assert!(matches!(found, Ok(Enriched::Found { .. })), "{found:?}");
    let old = set.entry("old", Hook::ContentFilter).unwrap();
    let passed = old.inspect(&message, &context, &mut witness).await.0;
    assert_eq!(passed, Ok(Verdict::Pass));
}

#[tokio::test]
async fn a_component_tells_its_version_truly() {
    let bytes = build(&guest(Hook::Enrichment, &[], ""));
    let inspection = inspect_component(&engine(), bytes).await.unwrap();
    assert_eq!(inspection.wit_version, "0.2.0");
    assert_eq!(inspection.hooks, [Hook::Enrichment]);
}
