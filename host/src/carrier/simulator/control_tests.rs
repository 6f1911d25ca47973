//! The control API over a real socket.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tests::{Esme, TO, eventually, simulator};
use super::*;
use crate::smpp::pdu::{Body, tag};

async fn http(simulator: &Simulator, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(simulator.control_address().unwrap())
        .await
        .unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: smsc\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn the_control_api_shows_what_was_received() {
    let smsc = simulator(json!({"receipts": false})).await;
    let mut esme = Esme::bound(&smsc).await;
    for text in [b"one", b"two", b"one"] {
        esme.submit(TO, text).await;
    }
    esme.next_n(3).await;
    let (status, page) = http(&smsc, "GET", "/received?since=1&limit=1", "").await;
    assert_eq!((status, &page["next"]), (200, &json!(2)));
    assert_eq!(page["messages"][0]["text"], "two");
    let (_, counters) = http(&smsc, "GET", "/counters", "").await;
    assert_eq!(
        (&counters["unique"], &counters["duplicated"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(counters["submits_by_status"]["0x00000000"], 3);
    assert_eq!(http(&smsc, "DELETE", "/received", "").await.0, 204);
    let (_, page) = http(&smsc, "GET", "/received", "").await;
    assert_eq!(page, json!({"messages": [], "next": 0}));
    assert_eq!(smsc.counters().unique, 0);
}

#[tokio::test]
async fn the_control_api_changes_settings_while_it_runs() {
    let smsc = simulator(json!({"binds": ["esme:"]})).await;
    let mut esme = Esme::bound(&smsc).await;
    let (status, settings) = http(&smsc, "POST", "/settings", r#"{"errors": ["0x14=1"]}"#).await;
    assert_eq!(
        (status, &settings["errors"], &settings["binds"]),
        (200, &json!(["0x14=1"]), &json!(["esme:***"]))
    );
    esme.submit(TO, b"hello").await;
    assert_eq!(esme.next().await.status(), 0x14);
    assert_eq!(
        smsc.settings().binds[0].password,
        "",
        "what is masked is not what is kept"
    );

    let (status, problem) = http(&smsc, "POST", "/settings", r#"{"drop_rate": 7}"#).await;
    assert_eq!(status, 422);
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|d| d.contains("drop_rate"))
    );
    assert_eq!(http(&smsc, "POST", "/settings", "{").await.0, 400);
    assert_eq!(http(&smsc, "GET", "/received?since=x", "").await.0, 400);
    assert_eq!(http(&smsc, "GET", "/nowhere", "").await.0, 404);
}

#[tokio::test]
async fn the_control_api_injects_mobile_originated_messages() {
    let smsc = simulator(json!({})).await;
    let mo = r#"{"from": "+447700900123", "to": "60777", "text": "STOP"}"#;
    assert_eq!(
        http(&smsc, "POST", "/mo", mo).await.0,
        409,
        "nobody ever bound"
    );
    let mut esme = Esme::bound(&smsc).await;
    assert_eq!(
        http(&smsc, "POST", "/mo", mo).await,
        (202, json!({"parts": 1}))
    );
    let frame = esme.next().await;
    let sm = frame.deliver();
    assert_eq!(
        (sm.source_addr, sm.destination_addr, sm.esm_class),
        (TO, &b"60777"[..], 0)
    );
    assert_eq!(sm.short_message, b"STOP");
    esme.answer(&frame, 0).await;
    eventually("acknowledged", || smsc.counters().mo_acked == 1).await;
    let (status, problem) = http(&smsc, "POST", "/mo", r#"{"from": "1", "to": "2"}"#).await;
    assert_eq!(status, 422);
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|d| d.starts_with("text"))
    );
}

#[tokio::test]
async fn the_control_api_says_that_a_handset_is_back() {
    let smsc = simulator(json!({})).await;
    let alert = r#"{"number": "+447700900123", "availability": "unavailable"}"#;
    let told = http(&smsc, "POST", "/alert", alert).await;
    assert_eq!(told, (202, json!({"told": 0})), "nobody is bound");
    let mut esme = Esme::bound(&smsc).await;
    let told = http(&smsc, "POST", "/alert", alert).await;
    assert_eq!(told, (202, json!({"told": 1})));
    let frame = esme.next().await;
    let pdu = frame.pdu();
    let Body::AlertNotification(alert) = pdu.body else {
        panic!("{pdu:?}");
    };
    assert_eq!((alert.source_addr_ton, alert.source_addr), (1, TO));
    assert_eq!(alert.tlvs.integer(tag::MS_AVAILABILITY_STATUS), Some(2));

    // What follows still finds its answer.
    let mo = r#"{"from": "+447700900123", "to": "60777", "text": "back"}"#;
    assert_eq!(http(&smsc, "POST", "/mo", mo).await.0, 202);
    let frame = esme.next().await;
    http(&smsc, "POST", "/alert", r#"{"number": "447700900123"}"#).await;
    esme.next().await;
    esme.answer(&frame, 0).await;
    eventually("acknowledged", || smsc.counters().mo_acked == 1).await;

    let long = format!(r#"{{"number": "{}"}}"#, "4".repeat(100));
    assert_eq!(http(&smsc, "POST", "/alert", &long).await.0, 422);
    assert_eq!(
        http(&smsc, "POST", "/alert", r#"{"numbr": "4"}"#).await.0,
        400
    );
}

#[tokio::test]
async fn the_control_api_cuts_connections() {
    let smsc = simulator(json!({})).await;
    let mut esme = Esme::bound(&smsc).await;
    assert_eq!(
        http(&smsc, "POST", "/drop", "").await,
        (200, json!({"dropped": 1}))
    );
    assert!(esme.try_next().await.is_none());
}
