//! Receipts find their message in whatever form the carrier writes its ids, early, twice or in any
//! order.

use heliograph::carrier::simulator::{IdStyle, ReceiptShape, Settings};
use heliograph_tests::{Plan, Rig, sms};
use serde_json::Value;

/// Messages to each carrier.
const MESSAGES: usize = 5;

const POLICY: &str = r#"
    [tables.rates]
    file = "rates.csv"
    [[plugin]]
    name = "router"
    path = "{plugins}/least-cost-router.wasm"
    grants = { tables = ["rates"] }
    config = { deck = "rates" }
"#;

fn ids(response: IdStyle, response_width: u8, receipt: IdStyle, receipt_width: u8) -> Settings {
    Settings {
        id_response: response,
        id_response_width: response_width,
        id_receipt: receipt,
        id_receipt_width: receipt_width,
        ..Settings::default()
    }
}

/// Starts a rig whose simulator N gets all messages to +44770N..., and sends each its share.
async fn delivered_by_all(simulators: Vec<Settings>) -> Rig {
    let count = simulators.len();
    let deck: String = (0..count)
        .map(|n| format!("44770{n:02},sim{n}=1\n"))
        .collect();
    let rig = Rig::start(Plan {
        simulators,
        policy: POLICY.to_owned(),
        files: vec![("rates.csv".to_owned(), deck.into_bytes())],
        ..Plan::default()
    })
    .await;
    let mut sent = Vec::new();
    for n in 0..count {
        for m in 0..MESSAGES {
            let id = rig
                .submit(sms(&format!("+44770{n:02}0000{m}"), "hello"))
                .await;
            sent.push((n, id));
        }
    }
    for (n, id) in &sent {
        let message = rig.wait_for(id, "delivered").await;
        assert_eq!(message["receipts"][0]["carrier"], format!("sim{n}"));
        let settled = message["events"].as_array().map_or(0, |events| {
            events
                .iter()
                .filter(|e: &&Value| e["reason"] == "receipt")
                .count()
        });
        assert_eq!(settled, 1, "{message:#}");
    }
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_matched_in_every_form_of_the_id() {
    use IdStyle::{Decimal, HexLower, HexUpper, Opaque};
    delivered_by_all(vec![
        ids(Decimal, 0, Decimal, 0),
        ids(Opaque, 0, Opaque, 0),
        ids(HexLower, 0, Decimal, 0),
        ids(HexUpper, 0, Decimal, 0),
        ids(Decimal, 0, HexLower, 0),
        ids(Decimal, 0, HexUpper, 0),
        ids(HexLower, 0, HexUpper, 0),
        ids(HexUpper, 0, HexLower, 0),
        ids(HexUpper, 0, HexUpper, 20),
        ids(Decimal, 20, Decimal, 0),
        ids(HexLower, 20, Decimal, 24),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_matched_early_twice_shuffled_and_in_every_shape() {
    let base = Settings::default;
    let rig = delivered_by_all(vec![
        Settings {
            receipt_early_rate: 1.0,
            latency_ms: 50,
            ..base()
        },
        Settings {
            receipt_duplicate_rate: 1.0,
            ..base()
        },
        Settings {
            receipt_shuffle: 5,
            ..base()
        },
        Settings {
            receipt_shape: ReceiptShape::Text,
            ..base()
        },
        Settings {
            receipt_shape: ReceiptShape::Tlv,
            ..base()
        },
        Settings {
            receipt_delay_ms: 0,
            receipt_jitter_ms: 200,
            ..base()
        },
    ])
    .await;
    assert_eq!(rig.simulators[1].counters().receipts, 2 * MESSAGES as u64);
}
