//! ESMEs that we did not write, bound to `heliograph serve`: every message of theirs goes on to the
//! carrier as it was meant, its receipt comes back under the id that they were given, and a text from a
//! handset finds them.

use heliograph::carrier::simulator::{Mo, Received, Settings};
use heliograph_tests::capture::{Capture, Seen, of_command};
use heliograph_tests::{Plan, Rig, eventually, free_address};
use serde_json::{Value, json};

use super::kannel::Kannel;
use super::{conversation, node, python, text, without};

const SUBMIT_SM: u32 = 0x04;
const SUBMIT_SM_RESP: u32 = 0x8000_0004;
const DELIVER_SM: u32 = 0x05;
const DELIVER_SM_RESP: u32 = 0x8000_0005;

/// A server with one application, behind a recording proxy.
async fn served(system_id: &str) -> (Rig, Capture) {
    let address = free_address().await;
    let rig = Rig::start(Plan {
        simulators: vec![Settings {
            receipt_delay_ms: 200,
            ..Settings::default()
        }],
        config_extra: format!("[smpp]\nlisten = \"{address}\"\n"),
        account_extra: format!(
            "[[accounts.smpp]]\nsystem_id = \"{system_id}\"\npassword = \"literal:secret\"\ninbound = true\n"
        ),
        ..Plan::default()
    })
    .await;
    let capture = Capture::start(&address, &rig.dir.path().join("smpp.pcap")).await;
    (rig, capture)
}

fn mo(text: &str) -> Mo {
    Mo {
        from: "447700900123".to_owned(),
        to: "60777".to_owned(),
        text: text.to_owned(),
        ..Mo::default()
    }
}

/// Sends a text from a handset once the peer has submitted something, and so is bound for good.
async fn text_in_meanwhile(rig: &Rig) {
    eventually("the peer submits", async || {
        (!rig.taken(0).is_empty()).then_some(())
    })
    .await;
    rig.text_in(&mo("hello 5")).await;
}

fn long() -> String {
    ('a'..='z').cycle().take(300).collect()
}

/// The message under the id that the peer heard, as the API shows it.
async fn message(rig: &Rig, heard: &Value, what: &str) -> Value {
    let id = text(heard, &format!("/answers/{what}/message_id"));
    assert_eq!(id.len(), 32, "{what}");
    rig.wait_for(id, "delivered").await
}

/// Every message was read as the peer meant it, and went on so.
async fn assert_messages(rig: &Rig, heard: &Value) {
    for (what, said) in [
        ("gsm", "5 € {é} @"),
        ("ucs2", "Привет 👋"),
        ("payload", &long()),
    ] {
        let message = message(rig, heard, what).await;
        assert_eq!(
            (&message["text"], &message["from"], &message["to"]),
            (&json!(said), &json!("Acme"), &json!("+447700900123")),
            "{what}"
        );
    }
    for way in ["udh", "sar"] {
        let mut said = String::new();
        for part in 1..=2 {
            let part = message(rig, heard, &format!("{way}{part}")).await;
            said.push_str(part["text"].as_str().expect("text"));
        }
        assert_eq!(said, long(), "{way}");
    }
    // Three times 300 characters in two parts: cut by the peer twice, by us once.
    let taken = rig.taken(0);
    let parts: Vec<&Received> = taken.iter().filter(|r| r.concat.is_some()).collect();
    assert_eq!(parts.len(), 6, "{parts:#?}");
    assert!(taken.iter().all(|r| r.source_addr == "Acme"));
}

/// One receipt for each of `what` by its text and its parameters, and the text from the handset.
fn assert_deliveries(heard: &Value, what: &[&str]) {
    let delivered = heard["delivered"].as_array().expect("a list");
    assert_eq!(delivered.len(), what.len() + 1, "{delivered:#?}");
    for what in what {
        let id = text(heard, &format!("/answers/{what}/message_id"));
        let receipt = delivered
            .iter()
            .find(|d| d["receipted_message_id"] == *id)
            .unwrap_or_else(|| panic!("no receipt for {what}: {delivered:#?}"));
        let (state, words) = match *what {
            "later" => (4, " stat:DELETED "),
            _ => (2, " stat:DELIVRD "),
        };
        assert_eq!(
            (&receipt["esm_class"], &receipt["message_state"]),
            (&json!(4), &json!(state))
        );
        assert_eq!(receipt["source_addr"], "447700900123");
        assert_eq!(receipt["destination_addr"], "Acme");
        let text = receipt["short_message"].as_str().expect("text");
        assert!(
            text.starts_with(&format!("id:{id} ")) && text.contains(words),
            "{text}"
        );
    }
    let texts = delivered.iter().filter(|d| d["esm_class"] == 0);
    let texts: Vec<&Value> = texts.collect();
    assert_eq!(texts.len(), 1, "{delivered:#?}");
    assert_eq!(
        (
            &texts[0]["short_message"],
            &texts[0]["source_addr"],
            &texts[0]["destination_addr"]
        ),
        (&json!("hello 5"), &json!("447700900123"), &json!("60777"))
    );
}

/// The ids that tshark saw are those that the peer heard, and each delivery had its answer.
fn assert_seen(seen: &[Seen], heard: &Value, deliveries: usize) {
    let ids: Vec<&str> = of_command(seen, SUBMIT_SM_RESP)
        .iter()
        .filter_map(|s| s.message_id.as_deref())
        .collect();
    for what in ["gsm", "ucs2", "udh1", "udh2", "sar1", "sar2", "payload"] {
        let id = text(heard, &format!("/answers/{what}/message_id"));
        assert!(ids.contains(&id), "{what}: {id} is not in {ids:?}");
    }
    let delivered = of_command(seen, DELIVER_SM);
    assert_eq!(delivered.len(), deliveries);
    assert!(delivered.iter().all(|d| !d.from_client));
    let receipts = delivered.iter().filter(|d| d.tags.contains(&0x001E));
    assert!(receipts.clone().all(|r| r.tags.contains(&0x0427)));
    assert_eq!(receipts.count(), deliveries - 1);
    let answered = of_command(seen, DELIVER_SM_RESP);
    assert_eq!(answered.len(), deliveries);
    assert!(answered.iter().all(|a| a.command_status == Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn smpplib_submits_to_us_is_confirmed_and_receives() {
    if without(&["smpplib", "tshark"]) {
        return;
    }
    let (rig, capture) = served("peer").await;
    let mut peer = python("smpplib_client.py");
    peer.args(["127.0.0.1", &capture.port().to_string()]);
    peer.args(["peer", "secret", "9"]);
    let (heard, ()) = tokio::join!(conversation(peer), text_in_meanwhile(&rig));

    assert_eq!(heard["refused"], 0x0D, "ESME_RBINDFAIL");
    assert_eq!(
        heard["binds"],
        json!({"transmitter": 0, "receiver": 0, "transceiver": 0})
    );
    assert_messages(&rig, &heard).await;
    let receipts = [
        "gsm",
        "ucs2",
        "udh1",
        "udh2",
        "sar1",
        "sar2",
        "payload",
        "reference",
    ];
    assert_deliveries(&heard, &receipts);
    message(&rig, &heard, "no_receipt").await;
    let query = &heard["queries"][0];
    assert_eq!(query["message_id"], heard["answers"]["gsm"]["message_id"]);
    assert!([1, 2].contains(&query["message_state"].as_u64().unwrap_or(0)));
    assert_eq!(heard["unbind"], 0);

    let seen = capture.judge().await;
    assert_seen(&seen, &heard, 9);
    // A parameter of the client's own goes on to the carrier, and comes back with the receipt.
    let reference = rig
        .taken(0)
        .into_iter()
        .find(|r| r.text.as_deref() == Some("hello"));
    let reference = reference.expect("the message with a reference");
    assert!(
        reference
            .tlvs
            .iter()
            .any(|t| (t.tag, &*t.value) == (0x0204, "1267"))
    );
    let told = of_command(&seen, DELIVER_SM);
    assert_eq!(told.iter().filter(|d| d.tags.contains(&0x0204)).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn node_smpp_submits_to_us_asks_replaces_cancels_and_receives() {
    if without(&["node-smpp", "tshark"]) {
        return;
    }
    let (rig, capture) = served("peer").await;
    let mut peer = node("node_client.js");
    peer.args([&capture.port().to_string(), "peer", "secret", "10"]);
    let (heard, ()) = tokio::join!(conversation(peer), text_in_meanwhile(&rig));

    assert_eq!(heard["refused"], 0x0D, "ESME_RBINDFAIL");
    assert_eq!(
        heard["binds"],
        json!({"transmitter": 0, "receiver": 0, "transceiver": 0})
    );
    assert_messages(&rig, &heard).await;
    assert_eq!(message(&rig, &heard, "data").await["text"], "by data");
    let receipts = [
        "gsm", "ucs2", "udh1", "udh2", "sar1", "sar2", "payload", "data", "later",
    ];
    assert_deliveries(&heard, &receipts);
    let answer = |what: &str, field: &str| heard["answers"][what][field].clone();
    assert_eq!(answer("query", "command_status"), 0);
    // node's smpp binds as 5.0, which knows SCHEDULED.
    assert_eq!(answer("query", "message_state"), 0);
    assert_eq!(answer("query", "final"), false);
    assert_eq!(answer("replace", "command_status"), 0);
    assert_eq!(answer("cancel", "command_status"), 0);
    // It is canceled, and so it stays.
    assert_eq!(answer("cancel_again", "command_status"), 0);
    assert_eq!(answer("query_canceled", "message_state"), 4);
    assert_eq!(answer("query_canceled", "final"), true);
    assert_eq!(
        answer("query_unknown", "command_status"),
        0x0C,
        "ESME_RINVMSGID"
    );
    assert_eq!(answer("multi", "command_status"), 0);
    let later = rig.message(text(&heard, "/answers/later/message_id")).await;
    assert_eq!(
        (&later["status"], &later["text"]),
        (&json!("canceled"), &json!("another text"))
    );
    for to in ["447700900124", "447700900125"] {
        eventually(to, async || {
            rig.taken(0).into_iter().find(|r| r.destination_addr == to)
        })
        .await;
    }
    assert_eq!(
        (&heard["enquire_link"], &heard["unbind"]),
        (&json!(0), &json!(0))
    );
    let seen = capture.judge().await;
    assert_seen(&seen, &heard, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn kannel_submits_to_us_is_confirmed_and_receives() {
    if without(&["kannel", "tshark"]) {
        return;
    }
    let (rig, capture) = served("kannel").await;
    let folder = tempfile::tempdir().expect("a folder");
    let kannel = Kannel::start(folder.path(), capture.port(), "kannel").await;
    kannel.send("gsm", "5 € {é} @", "").await;
    kannel.send("ucs2", "Привет", "&coding=2").await;
    kannel.send("long", &long(), "").await;
    for name in ["gsm", "ucs2", "long"] {
        let of = format!("of={name}&");
        kannel.tells(&["/dlr?", &of, "type=8"]).await;
        kannel.tells(&["/dlr?", &of, "type=1&"]).await;
    }
    let taken = rig.taken(0);
    let said: Vec<&str> = taken.iter().filter_map(|r| r.text.as_deref()).collect();
    assert!(
        said.contains(&"5 € {é} @") && said.contains(&"Привет"),
        "{said:?}"
    );
    let mut parts: Vec<_> = taken.iter().filter(|r| r.concat.is_some()).collect();
    parts.sort_by_key(|p| p.concat.map(|c| c.index));
    let whole: String = parts.iter().filter_map(|p| p.text.clone()).collect();
    assert_eq!(whole, long());
    assert!(taken.iter().all(|r| r.source_addr == "Acme"));

    rig.text_in(&mo("hello 5")).await;
    kannel
        .tells(&["/mo?", "447700900123", "60777", "hello+5"])
        .await;
    eventually("Kannel takes the text", async || {
        let told = ["heliograph_esme_total", "\"kannel\"", "\"inbound\""];
        (rig.metric(&told).await == 1.0).then_some(())
    })
    .await;

    let seen = capture.judge().await;
    assert_eq!(of_command(&seen, 0x09).len(), 1, "one bind_transceiver");
    let ids: Vec<_> = of_command(&seen, SUBMIT_SM_RESP)
        .iter()
        .filter_map(|s| s.message_id.clone())
        .collect();
    assert_eq!((of_command(&seen, SUBMIT_SM).len(), ids.len()), (4, 4));
    for id in ids {
        rig.wait_for(&id, "delivered").await;
    }
    let refused = of_command(&seen, DELIVER_SM_RESP);
    assert!(
        refused.iter().all(|a| a.command_status == Some(0)),
        "{refused:?}"
    );
}
