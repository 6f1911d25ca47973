//! Statement 7. Nothing stalls, expires early or goes out twice because somebody sets the system's clock, while
//! the server runs or between two of its runs.

use std::time::{Duration, Instant};

use heliograph::carrier::simulator::{Settings, Simulator};
use heliograph::clock::Clock;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::ledger::Loaded;
use super::{Outcome, Part, Run, Statement};
use crate::wall_clock::WallClock;
use crate::{CarrierSpec, PATIENCE, Plan, Rig, eventually, free_address, sms};

pub const STATEMENT: Statement = Statement {
    number: 7,
    name: "Clock",
    parts: &[
        Part {
            name: "jumps of a running server's clock under HTTP and SMPP load",
            run: |run| Box::pin(jumps(run)),
        },
        Part {
            name: "restarts under a wrong clock, and when it is right again",
            run: |run| Box::pin(restarts(run)),
        },
    ],
};

const HANDSET: &str = "+447700900123";
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// From the true time, one after the other: back and forth.
const JUMPS: [(&str, i64); 8] = [
    ("five seconds ahead", 5),
    ("five seconds behind", -5),
    ("an hour ahead, as summer time that was set by hand", HOUR),
    ("an hour behind", -HOUR),
    ("a day ahead", DAY),
    ("a day behind", -DAY),
    ("four hundred days ahead", 400 * DAY),
    ("four hundred days behind", -400 * DAY),
];

/// To 1970, where a machine without a battery begins.
fn to_1970() -> i64 {
    -i64::try_from(unix_seconds()).unwrap_or(i64::MAX) + 60
}

fn unix_seconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| d.as_secs())
}

/// Of a message that a server just took, by the server's own clock.
async fn send_at(rig: &Rig, after: Duration) -> String {
    let id = rig.submit(sms(HANDSET, "what time is it")).await;
    let message = rig.message(&id).await;
    let text = message["accepted_at"].as_str().unwrap_or_default();
    let at: jiff::Timestamp = text.parse().expect("a time");
    (at + jiff::SignedDuration::try_from(after).expect("a duration")).to_string()
}

async fn jumps(run: Run) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = match WallClock::new(folder.path()).await {
        Ok(clock) => clock,
        Err(why) => return Outcome::not_run(why),
    };
    let mut faults = Vec::new();
    let mut loaded = Loaded::start_with(None, clock.environment()).await;
    // Waits for an hour, and expires soon after.
    let mut later = sms(HANDSET, "much later");
    later["send_at"] = json!(send_at(&loaded.rig, Duration::from_secs(3_600)).await);
    later["validity_seconds"] = json!(3_700);
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(loaded.rig.submit(later.clone()).await);
    }
    loaded.load().await;
    let mut all: Vec<(&str, i64)> = JUMPS.to_vec();
    all.push(("to 1970", to_1970()));
    all.push(("to the true time", 0));
    let rounds = run.pick(1, 3);
    let mut slowest = Duration::ZERO;
    for (name, offset) in (0..rounds).flat_map(|_| all.iter()) {
        clock.set(*offset);
        match flows(&loaded).await {
            Some(took) => slowest = slowest.max(took),
            None => faults.push(format!("{name}: nothing goes on")),
        }
        let ahead = loaded
            .rig
            .metric(&["heliograph_clock_ahead_seconds "])
            .await;
        // It was lived through, and not only said.
        if offset.abs() > 600 && ahead.abs() < 300.0 {
            faults.push(format!("{name}: the server saw nothing of it ({ahead} s)"));
        }
        tokio::time::sleep(Duration::from_millis(run.pick(300, 4_000) as u64)).await;
    }
    // What is due soon goes out although the clock is a day behind, and not before its time.
    clock.set(-DAY);
    let mut soon = sms(HANDSET, "soon");
    soon["send_at"] = json!(send_at(&loaded.rig, Duration::from_secs(4)).await);
    let began = Instant::now();
    let id = loaded.rig.submit(soon).await;
    loaded.rig.wait_for(&id, "delivered").await;
    let took = began.elapsed();
    if !(Duration::from_millis(1_500)..PATIENCE / 2).contains(&took) {
        faults.push(format!("what was due in 4 s went out after {took:?}"));
    }
    clock.set(0);
    let (mut lost, early) = (0, loaded.rig.taken(0));
    let early = early
        .iter()
        .filter(|sm| sm.text.as_deref() == Some("much later"));
    let early = early.count();
    for id in &waiting {
        let state = loaded.rig.message(id).await["status"].clone();
        if state != "scheduled" {
            lost += 1;
            faults.push(format!("a message of an hour later is {state}"));
        }
    }
    if early > 0 {
        faults.push(format!("{early} messages went out an hour early"));
    }
    loaded.stop().await;
    let runs = rounds * all.len() + 1;
    let outcome = loaded.outcome(runs, 0).await.with_faults(faults);
    let note = format!(
        "{}; the longest pause {:.1} s",
        outcome.note,
        slowest.as_secs_f64()
    );
    let lost = outcome.lost + lost;
    Outcome { lost, ..outcome }.noted(note)
}

/// Submissions are answered and the carrier is sent to: how long until more of both. None where not.
async fn flows(loaded: &Loaded) -> Option<Duration> {
    let (began, before) = (Instant::now(), loaded.progress());
    while began.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = loaded.progress();
        if now.0 > before.0 + 20 && now.1 > before.1 + 20 {
            return Some(began.elapsed());
        }
    }
    None
}

/// A server whose carrier is away, so that what it accepts waits.
struct Waiting {
    rig: Rig,
    carrier: String,
    ids: Vec<String>,
}

impl Waiting {
    async fn start(clock: &WallClock) -> Waiting {
        let carrier = free_address().await;
        let rig = Rig::start(Plan {
            simulators: Vec::new(),
            carriers: vec![CarrierSpec {
                id: "away".to_owned(),
                address: carrier.clone(),
                extra: String::new(),
            }],
            webhooks: true,
            environment: clock.environment(),
            ..Plan::default()
        })
        .await;
        Waiting {
            rig,
            carrier,
            ids: Vec::new(),
        }
    }

    async fn accept(&mut self) {
        for _ in 0..20 {
            let text = format!("message {}", self.ids.len());
            let mut body = sms(HANDSET, &text);
            body["validity_seconds"] = json!(3_600);
            self.ids.push(self.rig.submit(body).await);
        }
    }

    async fn restart(&mut self) {
        let status = self.rig.terminate().await;
        assert!(status.success(), "{status}");
        self.rig.launch().await;
    }

    /// The carrier comes: everything goes out once, and is told of.
    async fn end(self, name: &str, faults: &mut Vec<String>) -> (usize, usize) {
        let listener = TcpListener::bind(&self.carrier).await.expect("the port");
        let simulator = Simulator::start(Settings::default(), Clock::system(), listener, None)
            .expect("a simulator");
        let end = Instant::now() + PATIENCE;
        let (mut lost, mut owed) = (0, self.ids.clone());
        for id in &self.ids {
            let state = loop {
                let message = self.rig.message(id).await;
                let state = message["status"].as_str().unwrap_or_default().to_owned();
                if state == "delivered" || state == "expired" || Instant::now() >= end {
                    break state;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            if state != "delivered" {
                lost += 1;
                faults.push(format!("{name}: {id} is {state}"));
            }
        }
        while !owed.is_empty() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let told = self.rig.webhooks.of_type("message.delivered");
            let told: Vec<Value> = told
                .iter()
                .map(|h| h.json()["data"]["id"].clone())
                .collect();
            owed.retain(|id| !told.iter().any(|t| t == id.as_str()));
        }
        if !owed.is_empty() {
            faults.push(format!("{name}: {} receipts were not told", owed.len()));
        }
        let counters = simulator.counters();
        let doubled = counters.duplicated as usize;
        if doubled > 0 {
            faults.push(format!("{name}: {doubled} went out twice"));
        }
        (lost, doubled)
    }
}

async fn restarts(_: Run) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = match WallClock::new(folder.path()).await {
        Ok(clock) => clock,
        Err(why) => return Outcome::not_run(why),
    };
    let (mut faults, mut lost, mut doubled, mut runs) = (Vec::new(), 0, 0, 0);
    for (name, offset) in [
        ("400 days ahead", 400 * DAY),
        ("a day behind", -DAY),
        ("400 days behind", -400 * DAY),
        ("in 1970", to_1970()),
    ] {
        clock.set(0);
        let mut waiting = Waiting::start(&clock).await;
        waiting.accept().await;
        clock.set(offset);
        waiting.restart().await;
        waiting.accept().await;
        clock.set(0);
        waiting.restart().await;
        waiting.accept().await;
        let (l, d) = waiting.end(name, &mut faults).await;
        (lost, doubled, runs) = (lost + l, doubled + d, runs + 2);
    }
    // Its very first clock is wrong, and nothing tells of another: what it wrote is of a time to come.
    clock.set(400 * DAY);
    let mut waiting = Waiting::start(&clock).await;
    waiting.accept().await;
    clock.set(0);
    waiting.restart().await;
    let name = "first started 400 days ahead";
    let brought = eventually("what was accepted is brought back", async || {
        let log = waiting.rig.log();
        log.contains("brought back to the present clock")
            .then_some(())
    });
    brought.await;
    waiting.accept().await;
    let (l, d) = waiting.end(name, &mut faults).await;
    (lost, doubled, runs) = (lost + l, doubled + d, runs + 1);
    Outcome::judged(runs, lost, doubled, &faults)
}
