//! Every personality of the simulator as a carrier of a real server: whatever it does, each message
//! comes to an end or waits, none is lost, none is sent twice but where nobody could know, and the
//! other carrier's traffic does not notice.

use heliograph::carrier::simulator::{PERSONAS, Persona, Simulator};
use heliograph::clock::Clock;
use heliograph_tests::{CarrierSpec, Plan, Rig, eventually, sms};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Messages to each carrier.
const MESSAGES: usize = 30;

const POLICY: &str = r#"
    [tables.rates]
    file = "rates.csv"
    [[plugin]]
    name = "router"
    path = "{plugins}/least-cost-router.wasm"
    grants = { tables = ["rates"] }
    config = { deck = "rates" }
"#;

/// How a personality's messages end.
struct Expect {
    name: &'static str,
    /// Settings over the personality's, so that the test does not take as long as the carrier would.
    over: fn() -> Value,
    /// May messages be sent twice: the carrier left it open whether it took them?
    doubles: bool,
    /// Every message has a final state; else those that never had their receipt stay `enroute`.
    settles: bool,
}

const EXPECTED: &[Expect] = &[
    Expect {
        name: "polite",
        over: || json!({}),
        doubles: false,
        settles: true,
    },
    Expect {
        name: "strict",
        over: || json!({}),
        doubles: false,
        settles: true,
    },
    Expect {
        name: "slow",
        over: || json!({"latency_ms": 200, "latency_jitter_ms": 400, "receipt_delay_ms": 500, "receipt_jitter_ms": 500}),
        // It reads nothing for longer than an answer is waited for.
        doubles: true,
        settles: true,
    },
    Expect {
        name: "throttling",
        over: || json!({}),
        doubles: false,
        settles: true,
    },
    Expect {
        name: "flapping",
        over: || json!({}),
        doubles: true,
        settles: true,
    },
    Expect {
        name: "lying-ids",
        over: || json!({}),
        doubles: false,
        settles: false,
    },
    Expect {
        name: "receipt-storming",
        over: || json!({}),
        doubles: false,
        settles: true,
    },
    Expect {
        name: "swallowing",
        over: || json!({}),
        doubles: true,
        settles: false,
    },
    Expect {
        name: "garbage",
        // But for the status that is final.
        over: || json!({"errors": ["0x400=0.05", "0x4ff=0.05"]}),
        doubles: true,
        settles: false,
    },
];

async fn simulator(expect: &Expect) -> Simulator {
    let script = Persona::find(expect.name).and_then(|p| p.script());
    let mut over = (expect.over)().as_object().cloned().unwrap_or_default();
    over.insert("seed".to_owned(), json!(7));
    let program = script.and_then(|s| s.program(&over)).expect("a persona");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    Simulator::start(program, Clock::system(), listener, None).expect("a simulator")
}

#[test]
fn every_personality_is_expected_to_do_something() {
    let expected: Vec<&str> = EXPECTED.iter().map(|e| e.name).collect();
    for persona in PERSONAS {
        assert!(expected.contains(&persona.name), "{}", persona.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_personality_is_survived() {
    let mut simulators = Vec::new();
    let mut carriers = Vec::new();
    let mut deck = String::new();
    for (n, expect) in EXPECTED.iter().enumerate() {
        let simulator = simulator(expect).await;
        carriers.push(CarrierSpec {
            id: expect.name.to_owned(),
            address: simulator.address().to_string(),
            extra: "response_timeout_ms = 2000".to_owned(),
        });
        deck.push_str(&format!("44770{n:02},{}=1\n", expect.name));
        simulators.push(simulator);
    }
    let mut rig = Rig::start(Plan {
        simulators: Vec::new(),
        carriers,
        policy: POLICY.to_owned(),
        files: vec![("rates.csv".to_owned(), deck.into_bytes())],
        ..Plan::default()
    })
    .await;
    let before = rig.rss_mib();
    let mut sent: Vec<Vec<String>> = vec![Vec::new(); EXPECTED.len()];
    for m in 0..MESSAGES {
        for (n, ids) in sent.iter_mut().enumerate() {
            let to = format!("+44770{n:02}{m:05}");
            ids.push(rig.submit(sms(&to, &format!("hello {m}"))).await);
        }
    }
    for ((expect, ids), simulator) in EXPECTED.iter().zip(&sent).zip(&simulators) {
        for id in ids {
            settled(&rig, expect, id).await;
        }
        let name = expect.name;
        let counters = simulator.counters();
        assert_eq!(counters.unique, MESSAGES as u64, "{name}: {counters:?}");
        assert!(
            expect.doubles || counters.duplicated == 0,
            "{name}: {counters:?}"
        );
        // What may have been doubled is marked so.
        let mut marked = 0;
        for id in ids {
            marked += u64::from(rig.message(id).await["duplicate_risk"] == true);
        }
        assert!(
            counters.duplicated <= marked,
            "{name}: {marked} marked, {counters:?}"
        );
    }
    let grown = rig.rss_mib().saturating_sub(before);
    assert!(grown < 96, "grew by {grown} MiB");
    assert!(rig.is_running());
    assert!(!rig.log().contains("panicked"), "{}", rig.log());
}

/// Waits until nothing more can be done for a message.
async fn settled(rig: &Rig, expect: &Expect, id: &str) {
    eventually(&format!("{id} of {} is settled", expect.name), async || {
        let message = rig.message(id).await;
        let status = message["status"].as_str().unwrap_or_default();
        let ended = [
            "delivered",
            "undeliverable",
            "expired",
            "rejected",
            "unknown",
        ];
        (ended.contains(&status) || (!expect.settles && status == "enroute")).then_some(())
    })
    .await;
}
