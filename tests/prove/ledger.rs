//! The load and the ledgers: what the server acknowledged over HTTP and over SMPP, and what the carrier
//! took, both kept here while the server dies. Every segment of a message carries the message's label.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use heliograph::carrier::simulator::Settings;
use serde_json::json;

use super::Outcome;
use crate::traffic::EsmeTraffic;
use crate::{KEY, Plan, Rig, Sent, Traffic, bearer, eventually, free_address, http, sms};

const HANDSET: &str = "+447700900123";
/// Unanswered submit_sm towards the carrier, at most.
pub const WINDOW: usize = 20;
const SESSIONS: usize = 2;
/// How long the last messages may take to be delivered.
const SETTLING: Duration = Duration::from_secs(180);

/// A server under load from both sides, and what is known of the load outside of it.
pub struct Loaded {
    pub rig: Rig,
    smpp: String,
    acknowledged: Vec<String>,
    /// Requests that were cut off: the server may have taken them or not.
    unanswered: usize,
    refused: Vec<String>,
    /// While the server went away in order.
    refused_at_the_end: usize,
    load: Option<(Traffic, EsmeTraffic)>,
    round: usize,
}

impl Loaded {
    /// `data`: where the store is, when not in the rig's own folder.
    pub async fn start(data: Option<PathBuf>) -> Loaded {
        Loaded::start_with(data, Vec::new()).await
    }

    /// The same with these environment variables.
    pub async fn start_with(data: Option<PathBuf>, environment: Vec<(String, String)>) -> Loaded {
        let smpp = free_address().await;
        let rig =
            Rig::start(Plan {
                // A carrier that takes its time, so that something is always under way.
                simulators: vec![Settings {
                    latency_ms: 5,
                    latency_jitter_ms: 20,
                    ..Settings::default()
                }],
                carrier_extra: format!("window = {WINDOW}"),
                config_extra: format!("[smpp]\nlisten = \"{smpp}\"\n"),
                account_extra:
                    "[[accounts.smpp]]\nsystem_id = \"app\"\npassword = \"literal:secret\"\n"
                        .to_owned(),
                // Often enough to happen in lives as short as these.
                store_extra: "checkpoint_mib = 1".to_owned(),
                data,
                environment,
                ..Plan::default()
            })
            .await;
        Loaded {
            rig,
            smpp,
            acknowledged: Vec::new(),
            unanswered: 0,
            refused: Vec::new(),
            refused_at_the_end: 0,
            load: None,
            round: 0,
        }
    }

    /// Load on a running server; returns once it flows.
    pub async fn load(&mut self) {
        self.round += 1;
        let round = self.round;
        let http = Traffic::start(&self.rig, 4, move |n| {
            sms(HANDSET, &text(&format!("h{round}.{n}"), n))
        });
        let smpp = EsmeTraffic::start(&self.smpp, "app", SESSIONS, 10, move |n| {
            text(&format!("s{round}.{n}"), n)
        });
        eventually("load flows over HTTP and SMPP", async || {
            (http.begun() > 20 && smpp.begun() > 20).then_some(())
        })
        .await;
        self.load = Some((http, smpp));
    }

    /// How many submissions were begun, and how many segments the carrier took.
    pub fn progress(&self) -> (usize, u64) {
        let begun = self
            .load
            .as_ref()
            .map_or(0, |(http, smpp)| http.begun() + smpp.begun());
        (begun, self.rig.simulators[0].counters().accepted)
    }

    /// `kill -9`, and what the clients had been told by then.
    pub async fn kill(&mut self) {
        self.rig.kill().await;
        if let Some((http, smpp)) = self.load.take() {
            for sent in [http.ended().await, smpp.ended().await] {
                self.enter(sent);
            }
        }
    }

    /// SIGTERM under load. What comes while the server goes away is refused, by rights.
    pub async fn terminate(&mut self) -> std::process::ExitStatus {
        let status = self.rig.terminate().await;
        if let Some((http, smpp)) = self.load.take() {
            for mut sent in [http.ended().await, smpp.ended().await] {
                self.refused_at_the_end += std::mem::take(&mut sent.refused).len();
                self.enter(sent);
            }
        }
        status
    }

    /// Ends the load and lets the server go on; the ids that were acknowledged.
    pub async fn stop(&mut self) -> Vec<String> {
        let before = self.acknowledged.len();
        if let Some((http, smpp)) = self.load.take() {
            for sent in [http.stop().await, smpp.stop().await] {
                self.enter(sent);
            }
        }
        self.acknowledged[before..].to_vec()
    }

    fn enter(&mut self, sent: Sent) {
        self.acknowledged.extend(sent.accepted);
        self.refused.extend(sent.refused);
        self.unanswered += sent.unanswered.len();
    }

    /// Waits for everything that was acknowledged and compares the ledgers. `crashes`: how often the
    /// server died.
    pub async fn outcome(self, runs: usize, crashes: usize) -> Outcome {
        let mut faults = Vec::new();
        let end = Instant::now() + SETTLING;
        let mut messages = Vec::new();
        let mut lost = 0;
        for id in &self.acknowledged {
            match self.delivered(id, end).await {
                Ok(message) => messages.push(message),
                Err(why) => {
                    lost += 1;
                    faults.push(why);
                }
            }
        }
        let mut copies: BTreeMap<(String, u8), usize> = BTreeMap::new();
        for sm in self.rig.taken(0) {
            let label = sm.text.unwrap_or_default().trim().to_owned();
            let part = sm.concat.map_or(1, |c| c.index);
            *copies.entry((label, part)).or_default() += 1;
        }
        let (mut duplicated, mut segments) = (0, 0);
        for message in &messages {
            let label = label(message["text"].as_str().unwrap_or_default());
            let parts = message["segments"].as_u64().unwrap_or(0) as usize;
            let (mut missing, mut extra) = (false, 0);
            for part in 1..=parts {
                segments += 1;
                let key = (label.clone(), u8::try_from(part).unwrap_or(u8::MAX));
                match copies.get(&key) {
                    None => missing = true,
                    Some(n) => extra += n - 1,
                }
            }
            if missing {
                lost += 1;
                faults.push(format!("{label} is delivered and no carrier has it"));
            }
            duplicated += extra;
            if extra > 0 && message["duplicate_risk"] != true {
                faults.push(format!(
                    "{label} has {extra} copies and is not marked as a possible duplicate"
                ));
            }
        }
        let windows = crashes * WINDOW;
        if duplicated > windows {
            faults.push(format!(
                "{duplicated} copies, {windows} were in open windows"
            ));
        }
        if !self.refused.is_empty() {
            faults.push(format!("refused: {}", self.refused[0]));
        }
        if self.acknowledged.is_empty() {
            faults.push("nothing was acknowledged".to_owned());
        }
        Outcome::judged(runs, lost, duplicated, &faults).noted(format!(
            "{} acknowledged in {segments} segments, {} cut off, {} refused at the end, at most {windows} in open windows",
            self.acknowledged.len(),
            self.unanswered,
            self.refused_at_the_end
        ))
    }

    async fn delivered(&self, id: &str, end: Instant) -> Result<serde_json::Value, String> {
        let path = format!("/v1/messages/{id}");
        let key = bearer(KEY);
        loop {
            let headers = [("authorization", key.as_str())];
            let answer = http(&self.rig.address, "GET", &path, None, &headers);
            let found = match answer.await {
                Ok((200, _, body)) => serde_json::from_slice(&body).unwrap_or(json!(null)),
                Ok((404, _, _)) => return Err(format!("{id} was acknowledged and is not there")),
                other => json!({ "status": format!("{other:?}") }),
            };
            if found["status"] == "delivered" {
                return Ok(found);
            }
            if Instant::now() >= end {
                return Err(format!("{id} is {}", found["status"]));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Every fifth message has two segments, and its label in both.
fn text(label: &str, n: usize) -> String {
    match n % 5 {
        0 => format!("{label:<153}{label:<20}"),
        _ => label.to_owned(),
    }
}

fn label(text: &str) -> String {
    text.split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}
