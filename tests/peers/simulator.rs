//! Clients that we did not write, against `heliograph smsc`.

use heliograph::carrier::simulator::{ReceiptShape, Received, Settings};
use heliograph_tests::capture::{Seen, of_command};
use serde_json::{Value, json};

use super::{Recorded, conversation, node, python, text, without};

const SUBMIT_SM_RESP: u32 = 0x8000_0004;
const DELIVER_SM: u32 = 0x05;

fn settings() -> Settings {
    Settings {
        binds: vec!["peer:secret".parse().expect("credentials")],
        receipt_delay_ms: 200,
        receipt_shape: ReceiptShape::Both,
        ..Settings::default()
    }
}

fn long() -> String {
    ('a'..='z').cycle().take(300).collect()
}

/// What the simulator took under the message_id that the peer heard.
fn taken<'a>(received: &'a [Received], heard: &Value, what: &str) -> &'a Received {
    let id = text(heard, &format!("/answers/{what}/message_id"));
    let found = received.iter().find(|r| r.message_id == id);
    found.unwrap_or_else(|| panic!("{what} ({id}) was not taken"))
}

/// Every message was read as the peer meant it.
fn assert_messages(received: &[Received], heard: &Value) {
    let said = |what: &str| {
        taken(received, heard, what)
            .text
            .clone()
            .unwrap_or_default()
    };
    assert_eq!(said("gsm"), "5 € {é} @");
    assert_eq!(said("ucs2"), "Привет 👋");
    assert_eq!(taken(received, heard, "ucs2").data_coding, 8);
    for way in ["udh", "sar"] {
        let parts: Vec<&Received> = (1..=2)
            .map(|n| taken(received, heard, &format!("{way}{n}")))
            .collect();
        let whole: String = parts.iter().filter_map(|p| p.text.clone()).collect();
        assert_eq!(whole, long(), "{way}");
        let concat: Vec<_> = parts.iter().map(|p| p.concat.expect("a part")).collect();
        assert_eq!((concat[0].total, concat[0].index), (2, 1), "{way}");
        assert_eq!((concat[1].total, concat[1].index), (2, 2), "{way}");
        assert_eq!(concat[0].reference, concat[1].reference, "{way}");
    }
    assert_eq!(said("payload"), long());
    let first = taken(received, heard, "gsm");
    assert_eq!(
        (
            first.source_addr_ton,
            &*first.source_addr,
            first.dest_addr_ton,
            first.dest_addr_npi,
            &*first.destination_addr,
            first.registered_delivery
        ),
        (5, "Acme", 1, 1, "447700900123", 1)
    );
}

/// One receipt for each of `what`, by its text and its parameters, to whom the message came from.
fn assert_receipts(heard: &Value, what: &[&str]) {
    let delivered = heard["delivered"].as_array().expect("a list");
    assert_eq!(delivered.len(), what.len(), "{delivered:#?}");
    for what in what {
        let id = text(heard, &format!("/answers/{what}/message_id"));
        let receipt = delivered
            .iter()
            .find(|d| d["receipted_message_id"] == *id)
            .unwrap_or_else(|| panic!("no receipt for {what}: {delivered:#?}"));
        assert_eq!(receipt["esm_class"], 4);
        assert_eq!(receipt["message_state"], 2);
        assert_eq!(receipt["source_addr"], "447700900123");
        assert_eq!(receipt["destination_addr"], "Acme");
        let words = receipt["short_message"].as_str().expect("text");
        assert!(
            words.starts_with(&format!("id:{id} ")) && words.contains(" stat:DELIVRD "),
            "{words}"
        );
    }
}

/// The ids that tshark saw in submit_sm_resp are those that the peer heard.
fn assert_ids(seen: &[Seen], heard: &Value) {
    let answers = heard["answers"].as_object().expect("answers");
    let ids: Vec<&str> = of_command(seen, SUBMIT_SM_RESP)
        .iter()
        .filter_map(|s| s.message_id.as_deref())
        .collect();
    for (what, answer) in answers {
        let submitted = answer
            .get("command")
            .is_none_or(|c| *c == json!("submit_sm_resp"));
        if submitted && let Some(id) = answer["message_id"].as_str() {
            assert!(ids.contains(&id), "{what}: {id} is not in {ids:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn smpplib_is_served_in_every_mode_with_every_kind_of_message() {
    if without(&["smpplib", "tshark"]) {
        return;
    }
    let recorded = Recorded::start(settings()).await;
    let mut peer = python("smpplib_client.py");
    peer.args(["127.0.0.1", &recorded.capture.port().to_string()]);
    peer.args(["peer", "secret", "8"]);
    let heard = conversation(peer).await;

    assert_eq!(heard["refused"], 0x0E, "ESME_RINVPASWD");
    assert_eq!(
        heard["binds"],
        json!({"transmitter": 0, "receiver": 0, "transceiver": 0})
    );
    let received = recorded.simulator.received(0, 100);
    assert_messages(&received, &heard);
    let reference = taken(&received, &heard, "reference");
    assert_eq!(
        (reference.tlvs[0].tag, &*reference.tlvs[0].value),
        (0x0204, "1267")
    );
    assert_receipts(
        &heard,
        &[
            "gsm",
            "ucs2",
            "udh1",
            "udh2",
            "sar1",
            "sar2",
            "payload",
            "reference",
        ],
    );
    let query = &heard["queries"][0];
    assert_eq!(query["message_id"], heard["answers"]["gsm"]["message_id"]);
    assert!([1, 2].contains(&query["message_state"].as_u64().unwrap_or(0)));
    assert_eq!(heard["unbind"], 0);

    let seen = recorded.capture.judge().await;
    assert_ids(&seen, &heard);
    let receipts = of_command(&seen, DELIVER_SM);
    assert_eq!(receipts.len(), 8);
    assert!(
        receipts
            .iter()
            .all(|r| r.tags.contains(&0x001E) && r.tags.contains(&0x0427))
    );
    drop(recorded.dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn node_smpp_is_served_and_can_ask_replace_and_cancel() {
    if without(&["node-smpp", "tshark"]) {
        return;
    }
    let recorded = Recorded::start(settings()).await;
    let mut peer = node("node_client.js");
    peer.args([&recorded.capture.port().to_string(), "peer", "secret", "9"]);
    let heard = conversation(peer).await;

    assert_eq!(heard["refused"], 0x0E);
    assert_eq!(
        heard["binds"],
        json!({"transmitter": 0, "receiver": 0, "transceiver": 0})
    );
    let received = recorded.simulator.received(0, 100);
    assert_messages(&received, &heard);
    assert_eq!(
        taken(&received, &heard, "data").text.as_deref(),
        Some("by data")
    );
    let answer = |what: &str, field: &str| heard["answers"][what][field].clone();
    // 60 s later is no schedule of this simulator's: it confirms after its own delay, and the peer
    // asks before that.
    assert_eq!(answer("query", "command_status"), 0);
    assert_eq!(answer("query", "message_state"), 1);
    assert_eq!(answer("query", "final"), false);
    assert_eq!(answer("replace", "command_status"), 0);
    assert_eq!(answer("cancel", "command_status"), 0);
    assert_eq!(answer("cancel_again", "command_status"), 0x11);
    assert_eq!(answer("query_canceled", "message_state"), 4);
    assert_eq!(answer("query_canceled", "final"), true);
    assert_eq!(answer("query_unknown", "command_status"), 0x67);
    let replaced = taken(&received, &heard, "later").replaced_with.clone();
    assert_eq!(replaced.as_deref(), Some("616e6f746865722074657874"));
    let deleted = heard["delivered"].as_array().expect("a list");
    let deleted = deleted.iter().filter(|d| d["message_state"] == 4);
    assert_eq!(deleted.count(), 1, "the receipt of what was canceled");
    assert_eq!(
        (&heard["enquire_link"], &heard["unbind"]),
        (&json!(0), &json!(0))
    );

    let seen = recorded.capture.judge().await;
    assert_ids(&seen, &heard);
    let codings: Vec<Option<u32>> = of_command(&seen, 0x04)
        .iter()
        .map(|s| s.data_coding)
        .collect();
    assert_eq!(codings[..2], [Some(0), Some(8)]);
    assert_eq!(recorded.simulator.counters().malformed, 1, "submit_multi");
}
