//! A carrier says that a phone is back (alert_notification, SMPP 3.4, 4.12.1): what waits for that phone
//! is tried at once, and ESMEs that asked to hear of it are told.

use heliograph::smpp::pdu::{Sm, TlvBuf};
use heliograph_tests::esme::{Esme, Mode};
use heliograph_tests::smsc::{Session, Smsc};
use heliograph_tests::{CarrierSpec, Plan, Rig, eventually, free_address, sms};
use rusmpp::pdus::{AlertNotification, DeliverSm, SubmitSmResp};
use rusmpp::types::{COctetString, OctetString};
use rusmpp::values::{EsmClass, MsAvailabilityStatus, Npi, Ton};
use rusmpp::{CommandStatus, Pdu};
use serde_json::Value;

const HANDSET: &str = "+447700900123";
const SET_DPF: u16 = 0x0421;

async fn rig(carrier_extra: &str, smpp: Option<&str>) -> (Rig, Smsc, Session) {
    let smsc = Smsc::listen().await;
    let mut plan = Plan {
        simulators: Vec::new(),
        carriers: vec![CarrierSpec {
            id: "scripted".to_owned(),
            address: smsc.address(),
            extra: carrier_extra.to_owned(),
        }],
        ..Plan::default()
    };
    if let Some(address) = smpp {
        plan.config_extra = format!("[smpp]\nlisten = \"{address}\"\n");
        let app = |id: &str| {
            format!("[[accounts.smpp]]\nsystem_id = \"{id}\"\npassword = \"literal:secret\"\n")
        };
        plan.account_extra = app("app") + &app("other");
    }
    let rig = Rig::start(plan).await;
    let (session, _) = smsc.bound().await;
    (rig, smsc, session)
}

/// As a carrier that writes numbers its own way says that a handset is back.
async fn alert(session: &mut Session, handset: &str, status: Option<MsAvailabilityStatus>) {
    let address = |text: &str| COctetString::from_string(text.to_owned()).expect("an address");
    let alert = AlertNotification::new(
        Ton::International,
        Npi::Isdn,
        address(handset),
        Ton::Unknown,
        Npi::Unknown,
        address("60777"),
        status,
    );
    session.say(CommandStatus::EsmeRok, 77, alert).await;
}

fn reasons(message: &Value) -> Vec<&str> {
    let events = message["events"].as_array().expect("events");
    events.iter().filter_map(|e| e["reason"].as_str()).collect()
}

/// Every submission is put off for longer than the scenario lasts.
const PUT_OFF: &str =
    r#"status = { ESME_RSUBMITFAIL = { action = "retry", retry_after_ms = 900000 } }"#;

async fn put_off(session: &mut Session) {
    let (sequence, _) = session.hear_submit().await;
    let nothing = SubmitSmResp::new(COctetString::empty(), Vec::new());
    session
        .say(CommandStatus::EsmeRsubmitfail, sequence, nothing)
        .await;
}

async fn waits(rig: &Rig, id: &str) {
    eventually("it waits for its next attempt", async || {
        let message = rig.message(id).await;
        let attempted = message["attempts"]
            .as_array()
            .is_some_and(|a| !a.is_empty());
        (message["status"] == "queued" && attempted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_phone_that_is_back_is_tried_at_once() {
    let (mut rig, smsc, mut session) = rig(PUT_OFF, None).await;
    let other = rig.submit(sms("+447700900999", "for another")).await;
    put_off(&mut session).await;
    let id = rig.submit(sms(HANDSET, "hello")).await;
    put_off(&mut session).await;
    waits(&rig, &id).await;
    waits(&rig, &other).await;

    // Not back: nothing follows. Back: in whatever form the number is written.
    let unavailable = MsAvailabilityStatus::Unavailable;
    alert(&mut session, "447700900123", Some(unavailable)).await;
    alert(&mut session, "07700900123", None).await;
    let (sequence, sm) = session.hear_submit().await;
    assert_eq!(sm.short_message().as_ref(), b"hello");
    let nothing = SubmitSmResp::new(COctetString::empty(), Vec::new());
    session
        .say(CommandStatus::EsmeRsubmitfail, sequence, nothing)
        .await;
    eventually("it waits again", async || {
        let message = rig.message(&id).await;
        let attempts = message["attempts"].as_array().map_or(0, Vec::len);
        (attempts == 2).then_some(())
    })
    .await;

    // What waits is on disk: a restart forgets none of it.
    rig.kill().await;
    drop(session);
    rig.launch().await;
    let (mut session, _) = smsc.bound().await;
    alert(
        &mut session,
        "447700900123",
        Some(MsAvailabilityStatus::Available),
    )
    .await;
    let (sequence, sm) = session.hear_submit().await;
    assert_eq!(sm.short_message().as_ref(), b"hello");
    session.take(sequence, "1").await;
    let message = rig.wait_for(&id, "enroute").await;
    let returns = reasons(&message);
    let returns = returns.iter().filter(|r| **r == "recipient_available");
    assert_eq!(returns.count(), 2, "{message:#}");
    let other = rig.message(&other).await;
    assert_eq!(other["status"], "queued");
    assert!(
        !reasons(&other).contains(&"recipient_available"),
        "{other:#}"
    );
}

fn receipt(id: &str, stat: &str) -> DeliverSm {
    let text = format!(
        "id:{id} sub:001 dlvrd:000 submit date:2611220900 done date:2611220901 stat:{stat} err:027 text:"
    );
    DeliverSm::builder()
        .source_addr(COctetString::from_slice(b"447700900123\0").expect("an address"))
        .destination_addr(COctetString::from_slice(b"60777\0").expect("an address"))
        .esm_class(EsmClass::from(0x04))
        .short_message(OctetString::from_string(text).expect("a short message"))
        .build()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_esme_that_set_dpf_hears_once_that_the_phone_is_back_through_a_restart_too() {
    let address = free_address().await;
    let (mut rig, smsc, mut session) = rig("", Some(&address)).await;
    let mut tlvs = TlvBuf::new();
    tlvs.push(SET_DPF, &[1]).expect("a parameter");
    let asking = Sm {
        source_addr_ton: 5,
        source_addr: b"Acme",
        dest_addr_ton: 1,
        dest_addr_npi: 1,
        destination_addr: b"447700900123",
        short_message: b"hello",
        tlvs: tlvs.as_tlvs(),
        ..Sm::default()
    };
    // One asked, one did not.
    let mut app = Esme::bound(&address, Mode::Transceiver, "app").await;
    let mut other = Esme::bound(&address, Mode::Transceiver, "other").await;
    app.submit(&asking).await;
    let (sequence, sm) = session.hear_submit().await;
    let sent: Vec<u16> = sm.tlvs().iter().map(|t| u16::from(t.tag())).collect();
    assert!(
        sent.contains(&SET_DPF),
        "the carrier is asked too: {sent:x?}"
    );
    session.take(sequence, "1").await;
    let silent = Sm {
        tlvs: Default::default(),
        ..asking
    };
    other.submit(&silent).await;
    let (sequence, _) = session.hear_submit().await;
    session.take(sequence, "2").await;
    for id in ["1", "2"] {
        let answer = session.deliver(receipt(id, "UNDELIV")).await;
        assert_eq!(answer, CommandStatus::EsmeRok);
    }
    assert_eq!(rig.metric(&["heliograph_phones", "\"wishes\""]).await, 1.0);

    rig.kill().await;
    drop((session, app, other));
    rig.launch().await;
    let (mut session, _) = smsc.bound().await;
    // With nobody bound the wish stays.
    alert(&mut session, "447700900123", None).await;
    eventually("the alert found nobody", async || {
        let unheard = rig.metric(&["heliograph_esme_total", "\"app\"", "\"alerts_unheard\""]);
        (unheard.await == 1.0).then_some(())
    })
    .await;
    let mut app = Esme::bound(&address, Mode::Receiver, "app").await;
    let _other = Esme::bound(&address, Mode::Receiver, "other").await;
    // The bind is answered before its session takes its place among those of its system_id.
    for system_id in ["app", "other"] {
        eventually("the session is there", async || {
            let who = format!("\"{system_id}\"");
            let bound = rig.metric(&["heliograph_esme_bound", &who]).await;
            (bound == 1.0).then_some(())
        })
        .await;
    }
    alert(
        &mut session,
        "447700900123",
        Some(MsAvailabilityStatus::Denied),
    )
    .await;
    alert(&mut session, "07700900123", None).await;
    for status in [
        MsAvailabilityStatus::Denied,
        MsAvailabilityStatus::Available,
    ] {
        let heard = app.session.hear_request().await;
        let Some(Pdu::AlertNotification(heard)) = heard.pdu() else {
            panic!("{heard:?}");
        };
        // As its own message had the addresses.
        let expected = AlertNotification::new(
            Ton::International,
            Npi::Isdn,
            COctetString::from_slice(b"447700900123\0").expect("an address"),
            Ton::Alphanumeric,
            Npi::Unknown,
            COctetString::from_slice(b"Acme\0").expect("an address"),
            Some(status),
        );
        assert_eq!(heard, &expected);
    }
    eventually("the wish is granted", async || {
        (rig.metric(&["heliograph_phones", "\"wishes\""]).await == 0.0).then_some(())
    })
    .await;
    // No wish, no alert; and the other one never had one.
    alert(&mut session, "447700900123", None).await;
    let answer = session.deliver(receipt("none", "DELIVRD")).await;
    assert_eq!(answer, CommandStatus::EsmeRok);
    let told = |system_id: &str| {
        [
            format!("system_id=\"{system_id}\""),
            "\"alerts\"".to_owned(),
        ]
    };
    for (system_id, count) in [("app", 2.0), ("other", 0.0)] {
        let [who, what] = told(system_id);
        assert_eq!(
            rig.metric(&["heliograph_esme_total", &who, &what]).await,
            count
        );
    }
}
