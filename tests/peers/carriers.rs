//! Heliograph's own client against servers that we did not write: every message arrives as it was
//! meant, every receipt settles it, and a text from a handset comes back.

use heliograph_tests::capture::{Capture, of_command};
use heliograph_tests::{CarrierSpec, Plan, Rig, eventually, sms};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{Running, node, python, without};

const HANDSET: &str = "+447700900123";

/// A server of ours with that peer as its only carrier, behind a recording proxy.
async fn bound(peer: Command) -> (Rig, Running, Capture, Value) {
    let mut smsc = Running::start(peer);
    let port = smsc.hear("port").await["port"].as_u64().expect("a port");
    let dir = tempfile::tempdir().expect("a folder").keep();
    let capture = Capture::start(&format!("127.0.0.1:{port}"), &dir.join("smpp.pcap")).await;
    let rig = Rig::start(Plan {
        simulators: Vec::new(),
        carriers: vec![CarrierSpec {
            id: "peer".to_owned(),
            address: capture.address().to_owned(),
            extra: String::new(),
        }],
        webhooks: true,
        ..Plan::default()
    })
    .await;
    let bind = smsc.hear("bind").await;
    assert_eq!(bind["bind"], "bind_transceiver");
    assert_eq!(
        (&bind["system_id"], &bind["password"]),
        (&json!("heliograph"), &json!("secret"))
    );
    (rig, smsc, capture, bind)
}

fn long() -> String {
    ('a'..='z').cycle().take(300).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_by_node_smpp_reads_every_message_and_its_receipts_settle_them() {
    if without(&["node-smpp", "tshark"]) {
        return;
    }
    let (mut rig, mut smsc, capture, bind) = bound(node("node_server.js")).await;
    assert_eq!(bind["interface_version"], 0x34);
    for (text, coding) in [("5 € {é} @", 0), ("Привет 👋", 8)] {
        let id = rig.submit(sms(HANDSET, text)).await;
        let taken = smsc.hear("submit").await;
        assert_eq!(taken["text"], text);
        assert_eq!(
            (&taken["data_coding"], &taken["esm_class"]),
            (&json!(coding), &json!(0))
        );
        assert_eq!(
            (
                &taken["source_addr_ton"],
                &taken["source_addr"],
                &taken["destination_addr"]
            ),
            (&json!(6), &json!("60777"), &json!("447700900123"))
        );
        rig.wait_for(&id, "delivered").await;
    }
    let id = rig.submit(sms(HANDSET, &long())).await;
    let mut parts = [smsc.hear("submit").await, smsc.hear("submit").await];
    parts.sort_by_key(|p| p["udh"].to_string());
    let whole: String = parts.iter().filter_map(|p| p["text"].as_str()).collect();
    assert_eq!(whole, long());
    assert!(parts.iter().all(|p| p["esm_class"] == 0x40), "{parts:#?}");
    rig.wait_for(&id, "delivered").await;

    smsc.say(json!({
        "source_addr_ton": 1, "source_addr_npi": 1, "source_addr": "447700900123",
        "destination_addr": "60777", "short_message": "5 € from a handset", "data_coding": 0,
    }))
    .await;
    let hook = eventually("the application is told", async || {
        rig.webhooks.of_type("message.received").into_iter().next()
    })
    .await;
    assert_eq!(hook.json()["data"]["text"], "5 € from a handset");
    assert!(rig.terminate().await.success());
    smsc.hear("unbind").await;

    let seen = capture.judge().await;
    let ids: Vec<_> = of_command(&seen, 0x8000_0004)
        .iter()
        .map(|s| s.message_id.clone().unwrap_or_default())
        .collect();
    assert_eq!(ids, ["node-1", "node-2", "node-3", "node-4"]);
    let acknowledged = of_command(&seen, 0x8000_0005);
    assert_eq!(acknowledged.len(), 5, "four receipts and a text");
    assert!(acknowledged.iter().all(|s| s.command_status == Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_by_smpplib_reads_every_message_and_its_receipts_settle_them() {
    if without(&["smpplib", "tshark"]) {
        return;
    }
    let (mut rig, mut smsc, capture, _) = bound(python("smpplib_server.py")).await;
    let mut ids = Vec::new();
    for text in ["hello", "Привет", &long()] {
        ids.push(rig.submit(sms(HANDSET, text)).await);
    }
    let mut octets = Vec::new();
    for _ in 0..4 {
        let taken = smsc.hear("submit").await;
        assert_eq!(taken["registered_delivery"], 1);
        assert_eq!(taken["destination_addr"], "447700900123");
        octets.push(taken["short_message"].as_str().expect("octets").to_owned());
    }
    assert!(octets.contains(&"68656c6c6f".to_owned()));
    assert!(octets.contains(&"041f04400438043204350442".to_owned()));
    rig.wait_for_all(&ids, "delivered").await;
    assert!(rig.terminate().await.success());
    smsc.hear("unbind").await;
    let seen = capture.judge().await;
    assert_eq!(of_command(&seen, 0x04).len(), 4);
    assert_eq!(of_command(&seen, 0x8000_0005).len(), 4);
}
