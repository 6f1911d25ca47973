//! Statement 6. A carrier or a webhook target that misbehaves is nobody else's trouble: beside it the others have
//! what they have beside one that behaves, nothing is lost, and it is called back no faster than it can bear.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use heliograph::carrier::simulator::{Persona, Settings, Simulator};
use heliograph::clock::Clock;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use super::offer::{Offer, offer, p99};
use super::{Outcome, Part, Run, Statement};
use crate::{CarrierSpec, KEY, Plan, Rig, eventually, sms};

pub const STATEMENT: Statement = Statement {
    number: 6,
    name: "Bad neighbours",
    parts: &[
        Part {
            name: "flapping, throttling, silent and receipt-storming carriers",
            run: |run| Box::pin(carriers(run)),
        },
        Part {
            name: "a webhook target that never answers",
            run: |run| Box::pin(webhooks(run)),
        },
    ],
};

const BAD: [&str; 4] = ["flapping", "throttling", "swallowing", "receipt-storming"];
const GOOD: &str = "polite";
/// Times are told in whole milliseconds at both ends.
const NOISE: Duration = Duration::from_millis(2);
/// `reconnect_min_ms` of the rig's carriers, less its jitter.
const RECONNECT_MIN: Duration = Duration::from_millis(25);

const POLICY: &str = r#"
    [tables.rates]
    file = "rates.csv"
    [[plugin]]
    name = "router"
    path = "{plugins}/least-cost-router.wasm"
    grants = { tables = ["rates"] }
    config = { deck = "rates" }
"#;

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

fn modest(run: Run) -> Offer {
    Offer {
        key: KEY,
        per_second: run.pick(20, 100) as f64,
        connections: 8,
        time: Duration::from_secs(run.pick(3, 20) as u64),
    }
}

/// A submission that says when it was made, to somebody of carrier `to`.
fn marked(label: &'static str, to: usize) -> impl Fn(usize) -> Value + Send + Sync + 'static {
    move |n| {
        let mut body = sms(&format!("+44770{to:02}{:05}", n % 100_000), "");
        let now = unix_ms();
        body["reference"] = json!(format!("{label} {now}"));
        body["text"] = json!(format!("{label} {n} {now}"));
        body
    }
}

async fn persona(name: &str, seed: u64) -> Simulator {
    let mut over = Map::new();
    over.insert("seed".to_owned(), json!(seed));
    let script = Persona::find(name).and_then(|p| p.script());
    let program = script.and_then(|s| s.program(&over)).expect("a persona");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    Simulator::start(program, Clock::system(), listener, None).expect("a simulator")
}

async fn carriers(run: Run) -> Outcome {
    // The same load on the same machine, so that what is told apart is how the neighbours behave.
    let quiet = beside_carriers(run, [GOOD; 4]).await;
    let bad = beside_carriers(run, BAD).await;
    let mut faults = quiet.faults;
    faults.extend(bad.faults);
    if run.long && bad.p99 > quiet.p99.mul_f64(1.5) + NOISE {
        faults.push(format!(
            "from {:?} to {:?} at the good carrier (p99)",
            quiet.p99, bad.p99
        ));
    }
    let (lost, doubled) = (quiet.lost + bad.lost, quiet.doubled + bad.doubled);
    Outcome::judged(2, lost, doubled, &faults).noted(format!(
        "submission to carrier, p99: {:.1} ms beside four good ones, {:.1} ms beside them",
        quiet.p99.as_secs_f64() * 1e3,
        bad.p99.as_secs_f64() * 1e3
    ))
}

/// What became of the good carrier's messages beside four others.
struct Beside {
    p99: Duration,
    lost: usize,
    doubled: usize,
    faults: Vec<String>,
}

async fn beside_carriers(run: Run, neighbours: [&str; 4]) -> Beside {
    let mut simulators = Vec::new();
    let mut specs = Vec::new();
    // `sim0` is the good one.
    let mut deck = "4477000,sim0=1\n".to_owned();
    for (n, name) in neighbours.iter().enumerate() {
        let simulator = persona(name, run.seed % 1_000).await;
        let id = format!("neighbour-{}", n + 1);
        deck.push_str(&format!("44770{:02},{id}=1\n", n + 1));
        specs.push(CarrierSpec {
            id,
            address: simulator.address().to_string(),
            extra: "response_timeout_ms = 2000".to_owned(),
        });
        simulators.push(simulator);
    }
    let mut rig = Rig::start(Plan {
        simulators: vec![Settings::default()],
        carriers: specs,
        policy: POLICY.to_owned(),
        files: vec![("rates.csv".to_owned(), deck.into_bytes())],
        ..Plan::default()
    })
    .await;
    let offered = modest(run);
    let rss = rig.rss_mib();
    let (answers, ..) = tokio::join!(
        offer(&rig.address, offered, marked("good", 0)),
        offer(&rig.address, offered, marked("first", 1)),
        offer(&rig.address, offered, marked("second", 2)),
        offer(&rig.address, offered, marked("third", 3)),
        offer(&rig.address, offered, marked("fourth", 4)),
    );
    let mut faults = Vec::new();
    let accepted = answers.accepted.len();
    let good = &rig.simulators[0];
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while good.counters().unique < accepted as u64 && std::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let lost = accepted.saturating_sub(good.counters().unique as usize);
    let doubled = good.counters().duplicated as usize;
    let refused = answers.refused.len() + answers.failed;
    if lost + doubled + refused > 0 {
        faults.push(format!(
            "of the good carrier's messages {lost} are lost, {doubled} doubled, {refused} refused"
        ));
    }
    let most = offered.time.as_millis() / RECONNECT_MIN.as_millis();
    for (name, simulator) in neighbours.iter().zip(&simulators) {
        let counters = simulator.counters();
        let knocks = counters.binds + counters.connections_refused;
        if u128::from(knocks) > most {
            faults.push(format!("{name} was called back {knocks} times"));
        }
    }
    let grown = rig.rss_mib().saturating_sub(rss);
    if grown > 128 {
        faults.push(format!("it grew by {grown} MiB"));
    }
    if !rig.is_running() {
        faults.push("the server has ended".to_owned());
    }
    Beside {
        p99: arrivals(&rig, "good"),
        lost,
        doubled,
        faults,
    }
}

/// From submission to the good carrier, p99.
fn arrivals(rig: &Rig, label: &str) -> Duration {
    let took = rig.taken(0).into_iter().filter_map(|sm| {
        let text = sm.text?;
        let mut words = text.split(' ');
        (words.next() == Some(label)).then_some(())?;
        let sent: u64 = words.nth(1)?.parse().ok()?;
        Some(Duration::from_millis(sm.at.saturating_sub(sent)))
    });
    p99(took.collect())
}

async fn webhooks(run: Run) -> Outcome {
    let mut rig = Rig::start(Plan {
        simulators: vec![Settings::default()],
        webhooks: true,
        policy: "default_route = [\"sim0\"]".to_owned(),
        ..Plan::default()
    })
    .await;
    // Takes every connection and answers nothing.
    let deaf = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let deaf_url = format!("http://{}/hook", deaf.local_addr().expect("an address"));
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = deaf.accept().await {
            held.push(stream);
        }
    });
    let offered = modest(run);
    let (alone, answered) = tokio::join!(
        offer(&rig.address, offered, marked("alone", 0)),
        offer(&rig.address, offered, marked("answered", 0)),
    );
    hooked(&rig, "alone", alone.accepted.len()).await;
    hooked(&rig, "answered", answered.accepted.len()).await;
    let lasting = marked("deaf", 0);
    let deaf_body = move |n| {
        let mut body = lasting(n);
        body["receipt_url"] = json!(deaf_url);
        body
    };
    let (beside, away) = tokio::join!(
        offer(&rig.address, offered, marked("beside", 0)),
        offer(&rig.address, offered, deaf_body),
    );
    let with = hooked(&rig, "beside", beside.accepted.len()).await;
    let before = hooked(&rig, "alone", alone.accepted.len()).await;
    let mut faults = Vec::new();
    if run.long && with > before.mul_f64(1.5) + NOISE {
        faults.push(format!(
            "from {before:?} to {with:?} at the good target (p99)"
        ));
    }
    // The last receipt of these may be on its way from the carrier still.
    let owed = async || {
        let owed = rig.metric(&["heliograph_webhooks_owed"]).await as usize;
        (owed >= away.accepted.len()).then_some(owed)
    };
    let waiting = eventually("the receipts wait for the silent target", owed).await;
    if !rig.is_running() {
        faults.push("the server has ended".to_owned());
    }
    held.abort();
    Outcome::judged(1, 0, 0, &faults).noted(format!(
        "submission to webhook, p99: {:.1} ms beside a good one, {:.1} ms beside it; {} receipts wait",
        before.as_secs_f64() * 1e3,
        with.as_secs_f64() * 1e3,
        waiting
    ))
}

/// Waits for the final receipts of all messages of `label`; from submission to webhook, p99.
async fn hooked(rig: &Rig, label: &str, messages: usize) -> Duration {
    let took = eventually(&format!("all webhooks of {label}"), async || {
        let hooks = rig.webhooks.of_type("message.delivered");
        let took: Vec<Duration> = hooks
            .iter()
            .filter_map(|hook| {
                let json = hook.json();
                let reference = json["data"]["reference"].as_str()?;
                let sent = reference.strip_prefix(label)?.trim().parse().ok()?;
                Some(Duration::from_millis(hook.at.saturating_sub(sent)))
            })
            .collect();
        (took.len() >= messages).then_some(took)
    })
    .await;
    p99(took)
}
