//! The zoo: hostile components, each with the outcome that README.md writes down, against a real
//! server that serves other traffic meanwhile. The keeper here drives them; the inhabitants are in
//! the files beside it.

mod active;
mod carriers;
mod door;
mod esme;
mod esme_floods;
mod network;
mod served;
mod smsc;
mod tenants;
mod tls;

use heliograph_tests::guests::Guest;
use heliograph_tests::{ADMIN_KEY, Plan, Rig, Sent, Traffic, bearer, eventually, sms};
use serde_json::Value;

const HANDSET: &str = "+447700900123";
/// Clients of the traffic that must not notice.
const CLIENTS: usize = 2;

/// The plugins of the house: asked on all traffic, whoever is let in behind them.
const HOUSE: &str = r#"
    default_route = ["sim0"]
    [[plugin]]
    name = "filter"
    path = "{dir}/good.wasm"
    hooks = ["content-filter"]
    [[plugin]]
    name = "checker"
    path = "{dir}/good.wasm"
    hooks = ["compliance-check"]
    [[plugin]]
    name = "router"
    path = "{dir}/good.wasm"
    hooks = ["routing-policy"]
"#;

/// Plugins of the house, for the assertion that none of their calls failed.
const HOUSE_PLUGINS: usize = 3;

fn good() -> Guest {
    use heliograph_tests::guests::{ROUTE_PASS, ZERO};
    Guest {
        hooks: vec![
            ("content-filter", "inspect", format!("(i32.const {ZERO})")),
            ("compliance-check", "check", format!("(i32.const {ZERO})")),
            (
                "routing-policy",
                "route",
                format!("(i32.const {ROUTE_PASS})"),
            ),
        ],
        ..Guest::default()
    }
}

/// A server with the house's plugins, and traffic that goes on until the end.
struct Zoo {
    rig: Rig,
    traffic: Traffic,
    /// Messages beside the traffic that must be delivered.
    owed: Vec<String>,
}

impl Zoo {
    async fn open(plan: Plan) -> Zoo {
        let mut files = plan.files;
        files.push(("good.wasm".to_owned(), good().build()));
        let rig = Rig::start(Plan {
            policy: HOUSE.to_owned(),
            files,
            ..plan
        })
        .await;
        let traffic = Traffic::start(&rig, CLIENTS, |n| sms(HANDSET, &format!("harmless {n}")));
        Zoo {
            rig,
            traffic,
            owed: Vec::new(),
        }
    }

    fn house(&self, name: &str, component: &[u8], lines: &str) -> String {
        let file = self.rig.dir.path().join(format!("{name}.wasm"));
        std::fs::write(file, component).expect("the component's file");
        format!("{HOUSE}\n[[plugin]]\nname = \"{name}\"\npath = \"{{dir}}/{name}.wasm\"\n{lines}\n")
    }

    /// Lets `component` in behind the house's own plugins.
    async fn let_in(&self, name: &str, component: &[u8], lines: &str) {
        let (status, answer) = self
            .rig
            .put_policy(&self.house(name, component, lines))
            .await;
        assert_eq!(status, 200, "{name}: {answer}");
    }

    /// The policy with `component` is refused: the first error, after the house went on as it was.
    async fn turned_away(&self, name: &str, component: &[u8], lines: &str) -> String {
        let before = self.in_force().await;
        let (status, problem) = self
            .rig
            .put_policy(&self.house(name, component, lines))
            .await;
        assert_eq!(
            (status, text(&problem["code"])),
            (422, "invalid_policy"),
            "{name}: {problem}"
        );
        assert_eq!(self.in_force().await, before, "{name}");
        let error = &problem["errors"][0];
        format!("{} {}", text(&error["pointer"]), text(&error["detail"]))
    }

    async fn in_force(&self) -> String {
        let (_, policy) = self.rig.admin("GET", "/v1/policy", None).await;
        text(&policy["id"]).to_owned()
    }

    /// Uploads `component`; status and answer.
    async fn upload(&self, component: &[u8]) -> (u16, Value) {
        let headers = [
            ("authorization", &*bearer(ADMIN_KEY)),
            ("content-type", "application/wasm"),
        ];
        self.rig
            .try_call("POST", "/v1/plugins", Some(component.to_vec()), &headers)
            .await
            .unwrap_or_else(|e| self.rig.fail(&format!("POST /v1/plugins: {e}")))
    }

    /// Counters of the first hook of the entry `name`.
    async fn stats(&self, name: &str) -> Value {
        let (_, policy) = self.rig.admin("GET", "/v1/policy", None).await;
        let plugins = policy["plugins"].as_array().cloned().unwrap_or_default();
        let entry = plugins.iter().find(|p| p["name"] == name);
        entry.map_or(Value::Null, |p| p["hooks"][0]["stats"].clone())
    }

    async fn traffic_flows(&self) {
        let before = self.traffic.begun();
        eventually("traffic flows", async || {
            (self.traffic.begun() > before + 2 * CLIENTS).then_some(())
        })
        .await;
    }

    /// The end of the day: the house's plugins alone, and everything that was taken is delivered,
    /// once, by the same process.
    async fn close(mut self) -> Sent {
        let (status, answer) = self.rig.put_policy(HOUSE).await;
        assert_eq!(status, 200, "{answer}");
        self.traffic_flows().await;
        let (_, policy) = self.rig.admin("GET", "/v1/policy", None).await;
        let house = policy["plugins"].as_array().cloned().unwrap_or_default();
        assert_eq!(house.len(), HOUSE_PLUGINS);
        for plugin in &house {
            let stats = &plugin["hooks"][0]["stats"];
            assert!(stats["calls"].as_u64() > Some(10), "{plugin:#}");
            assert_eq!(stats["faults"], serde_json::json!({}), "{plugin:#}");
            assert_eq!(stats["breaker"], "closed", "{plugin:#}");
        }
        let sent = self.traffic.stop().await;
        assert!(
            sent.refused.is_empty() && sent.unanswered.is_empty(),
            "{:?} {:?}",
            sent.refused,
            sent.unanswered
        );
        self.rig.wait_for_all(&self.owed, "delivered").await;
        let taken = (sent.accepted.len() + self.owed.len()) as u64;
        let simulator = &self.rig.simulators[0];
        eventually("everything that was taken is sent", async || {
            (simulator.counters().unique >= taken).then_some(())
        })
        .await;
        let counters = simulator.counters();
        assert_eq!((counters.unique, counters.duplicated), (taken, 0));
        let last = sent.accepted.iter().rev().take(20);
        let some = sent.accepted.iter().step_by(50).chain(last);
        for id in some {
            self.rig.wait_for(id, "delivered").await;
        }
        assert!(self.rig.is_running(), "the server ended");
        assert_eq!(self.rig.log().matches("accepting messages").count(), 1);
        let log = self.rig.log();
        assert!(!log.contains("panicked"), "{log}");
        sent
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The call of the entry `name` in the first decision.
fn call<'a>(message: &'a Value, name: &str) -> &'a Value {
    let calls = message["decisions"][0]["calls"].as_array().expect("calls");
    calls
        .iter()
        .find(|c| c["name"] == name)
        .unwrap_or_else(|| panic!("no call of {name}: {message:#}"))
}
