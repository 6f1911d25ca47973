//! What a 202 is worth: `kill -9` under load loses nothing, SIGTERM loses and doubles nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use heliograph_tests::{Plan, Rig, Sent, Traffic, eventually, sms};
use rand::Rng;

const HANDSET: &str = "+447700900123";
const ROUNDS: usize = 3;
/// Unanswered submit_sm at the moment of a crash, at most.
const WINDOW: usize = 20;

async fn start() -> Rig {
    Rig::start(Plan {
        // A carrier that takes its time, so that something is always under way.
        simulators: vec![heliograph::carrier::simulator::Settings {
            latency_ms: 5,
            latency_jitter_ms: 20,
            ..Default::default()
        }],
        carrier_extra: format!("window = {WINDOW}"),
        ..Plan::default()
    })
    .await
}

/// How often the simulator took each text.
fn copies(rig: &Rig) -> BTreeMap<String, usize> {
    let mut copies = BTreeMap::new();
    for sm in rig.taken(0) {
        *copies.entry(sm.text.expect("a text")).or_default() += 1;
    }
    copies
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_under_load_loses_nothing_that_was_accepted() {
    let mut rig = start().await;
    let mut accepted = Vec::new();
    for round in 0..ROUNDS {
        let traffic = Traffic::start(&rig, 4, move |n| {
            sms(HANDSET, &format!("crash {round} {n}"))
        });
        eventually("traffic flows", async || {
            (traffic.begun() > 50).then_some(())
        })
        .await;
        let moment = rand::rng().random_range(0..400);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        rig.kill().await;
        let Sent {
            accepted: more,
            refused,
            ..
        } = traffic.ended().await;
        assert!(refused.is_empty(), "{refused:?}");
        accepted.extend(more);
        rig.launch().await;
    }
    rig.wait_for_all(&accepted, "delivered").await;

    let copies = copies(&rig);
    let mut extra = 0;
    for id in &accepted {
        let message = rig.message(id).await;
        let text = message["text"].as_str().expect("a text");
        let count = copies.get(text).copied().unwrap_or(0);
        assert!(
            count >= 1,
            "{text} was delivered and never sent: {message:#}"
        );
        if count > 1 {
            assert_eq!(
                message["duplicate_risk"], true,
                "{count} copies: {message:#}"
            );
            extra += count - 1;
        }
    }
    assert!(extra <= ROUNDS * WINDOW, "{extra} copies too many");
    // What was sent without a 202 was submitted by a client that got no answer, nobody else.
    let strangers = copies
        .keys()
        .filter(|text| !text.starts_with("crash "))
        .count();
    assert_eq!(strangers, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_and_a_restart_goes_on_without_loss_or_copies() {
    let mut rig = start().await;
    let traffic = Traffic::start(&rig, 4, |n| sms(HANDSET, &format!("drain {n}")));
    eventually("traffic flows", async || {
        (traffic.begun() > 200).then_some(())
    })
    .await;
    let ended = rig.terminate().await;
    assert!(ended.success(), "{ended}; the log:\n{}", rig.log());
    let sent = traffic.ended().await;
    rig.launch().await;
    rig.wait_for_all(&sent.accepted, "delivered").await;
    let counters = rig.simulators[0].counters();
    assert_eq!(counters.duplicated, 0, "{counters:?}");
    let copies = copies(&rig);
    for id in &sent.accepted {
        let message = rig.message(id).await;
        let text = message["text"].as_str().expect("a text");
        assert_eq!(copies.get(text), Some(&1), "{message:#}");
        assert_eq!(message["duplicate_risk"], false);
    }
}
