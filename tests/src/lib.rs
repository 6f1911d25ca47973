//! The rig: the built server as a child process, simulated carriers and a webhook target in this
//! process (so they outlive a killed server), and a plain HTTP client between them.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use heliograph::carrier::simulator::{Mo, MoError, Received, Settings, Simulator};
use heliograph::clock::Clock;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

pub mod capture;
pub mod esme;
pub mod fuzz;
pub mod guests;
pub mod http;
pub mod pace;
pub mod processors;
#[path = "../prove/mod.rs"]
pub mod prove;
pub mod registry;
pub mod smsc;
pub mod source_tree;
pub mod tls;
pub mod traffic;
pub mod wall_clock;

pub use http::{Connection, Webhooks, http};
pub use pace::Pace;
pub use traffic::{Sent, Traffic};

/// How long anything may take before a scenario fails. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The secret of the rig's account, as `whsec_` has it.
pub const WEBHOOK_SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The built binary: cargo puts tests into a folder beside it, programs into its own.
pub fn binary() -> PathBuf {
    let mut path = std::env::current_exe().expect("the test's own path");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    let path = path.join("heliograph");
    assert!(
        path.exists(),
        "{} is missing: run `make test`, or `cargo build` first",
        path.display()
    );
    path
}

/// The folder of the built bundled plugins.
pub fn plugins() -> PathBuf {
    let path = binary()
        .parent()
        .and_then(Path::parent)
        .expect("the target folder")
        .join("plugins");
    assert!(
        path.join("least-cost-router.wasm").exists(),
        "{} has no built plugins: run `make plugins` first",
        path.display()
    );
    path
}

/// A carrier of the rig: a simulator, or any address that something of the test listens on; none where
/// `extra` says where it is.
pub struct CarrierSpec {
    pub id: String,
    pub address: String,
    pub extra: String,
}

/// What a rig is made of.
pub struct Plan {
    /// A simulator each, named `sim0`, `sim1`...
    pub simulators: Vec<Settings>,
    pub carriers: Vec<CarrierSpec>,
    /// Lines added to every simulated carrier's section.
    pub carrier_extra: String,
    /// The policy file; `{plugins}` becomes the folder of the bundled plugins, `{dir}` the rig's own.
    pub policy: String,
    /// Files of the rig's folder, by name.
    pub files: Vec<(String, Vec<u8>)>,
    /// Lines at the end of the configuration.
    pub config_extra: String,
    /// Lines of `[http]`.
    pub http_extra: String,
    /// Lines at the end of the account `acme`, tables such as `[[accounts.smpp]]` among them.
    pub account_extra: String,
    /// Where the account's receipts go: the rig's own target.
    pub webhooks: bool,
    /// Whether webhooks may go to private addresses, such as the rig's own target.
    pub webhooks_private: bool,
    /// Whether the configuration names the policy file; else policy comes over the API alone.
    pub policy_file: bool,
    /// Where the store is; else in the rig's own folder.
    pub data: Option<PathBuf>,
    /// Time goes faster, for the server and for the simulators.
    pub pace: Option<Pace>,
    /// Lines of `[store]`.
    pub store_extra: String,
    /// Environment variables of the server.
    pub environment: Vec<(String, String)>,
    /// The processors that the server keeps to, as `taskset --cpu-list` takes them; else all.
    pub processors: Option<String>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            simulators: vec![Settings::default()],
            carriers: Vec::new(),
            carrier_extra: String::new(),
            policy: String::new(),
            files: Vec::new(),
            config_extra: String::new(),
            http_extra: String::new(),
            account_extra: String::new(),
            webhooks: false,
            webhooks_private: true,
            policy_file: true,
            data: None,
            pace: None,
            store_extra: String::new(),
            environment: Vec::new(),
            processors: None,
        }
    }
}

/// A running server with all that surrounds it.
pub struct Rig {
    pub dir: TempDir,
    pub address: String,
    pub simulators: Vec<Simulator>,
    pub webhooks: Webhooks,
    pace: Option<Pace>,
    environment: Vec<(String, String)>,
    processors: Option<String>,
    server: Option<Child>,
}

pub const KEY: &str = "hg_test_key_of_the_rig_0000000000000000000000000000000000";
pub const OTHER_KEY: &str = "hg_test_key_of_another_00000000000000000000000000000000";
pub const ADMIN_KEY: &str = "hg_test_key_of_the_admin_000000000000000000000000000000";
pub const READ_KEY: &str = "hg_test_key_that_only_reads_000000000000000000000000000";

/// The value of an Authorization header.
pub fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

impl Rig {
    pub async fn start(plan: Plan) -> Rig {
        let dir = tempfile::tempdir().expect("a folder");
        let mut simulators = Vec::new();
        let mut carriers = plan.carriers;
        for (i, settings) in plan.simulators.into_iter().enumerate() {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let clock = plan.pace.map_or_else(Clock::system, Pace::clock);
            let simulator = Simulator::start(settings, clock, listener, None).expect("a simulator");
            carriers.push(CarrierSpec {
                id: format!("sim{i}"),
                address: simulator.address().to_string(),
                extra: plan.carrier_extra.clone(),
            });
            simulators.push(simulator);
        }
        for (name, bytes) in &plan.files {
            std::fs::write(dir.path().join(name), bytes).expect("a file of the rig");
        }
        let webhooks = Webhooks::start().await;
        let address = free_address().await;
        let mut rig = Rig {
            dir,
            address,
            simulators,
            webhooks,
            pace: plan.pace,
            environment: plan.environment,
            processors: plan.processors,
            server: None,
        };
        rig.write_policy(&plan.policy);
        let policy_file = plan.policy_file.then(|| rig.policy_path());
        let extra = [
            &*plan.http_extra,
            &*plan.store_extra,
            &*plan.config_extra,
            &*plan.account_extra,
        ];
        let data = plan.data.unwrap_or_else(|| rig.data());
        let webhooks = (plan.webhooks, plan.webhooks_private);
        rig.write_config(&carriers, &data, webhooks, policy_file, extra);
        rig.launch().await;
        rig
    }

    /// A policy's text with its folders filled in.
    pub fn policy_text(&self, text: &str) -> String {
        let text = if text.contains("{plugins}") {
            text.replace("{plugins}", &plugins().display().to_string())
        } else {
            text.to_owned()
        };
        text.replace("{dir}", &self.dir.path().display().to_string())
    }

    /// Replaces the policy file; the server watches it.
    pub fn write_policy(&self, text: &str) {
        let new = self.dir.path().join("policy.toml.new");
        std::fs::write(&new, self.policy_text(text)).expect("the policy file");
        std::fs::rename(new, self.policy_path()).expect("the policy file");
    }

    /// `PUT /v1/policy` with TOML.
    pub async fn put_policy(&self, text: &str) -> (u16, Value) {
        let headers = [
            ("authorization", &*bearer(ADMIN_KEY)),
            ("content-type", "application/toml"),
        ];
        let body = self.policy_text(text).into_bytes();
        self.try_call("PUT", "/v1/policy", Some(body), &headers)
            .await
            .unwrap_or_else(|e| self.fail(&format!("PUT /v1/policy: {e}")))
    }

    fn policy_path(&self) -> PathBuf {
        self.dir.path().join("policy.toml")
    }

    fn write_config(
        &self,
        carriers: &[CarrierSpec],
        data: &Path,
        (webhooks, private): (bool, bool),
        policy_file: Option<PathBuf>,
        [http_extra, store_extra, extra, account_extra]: [&str; 4],
    ) {
        let data = data.display();
        let policy = policy_file.map_or(String::new(), |f| format!("file = \"{}\"", f.display()));
        let mut text = format!(
            r#"
[http]
listen = "{}"
{http_extra}
[store]
path = "{data}"
min_free_mib = 16
{store_extra}
[policy]
{policy}
[webhooks]
allow_private = {private}
{extra}
[[accounts]]
id = "acme"
keys = [
    "literal:{KEY}",
    {{ key = "literal:{ADMIN_KEY}", scopes = ["send", "read", "admin"] }},
    {{ key = "literal:{READ_KEY}", scopes = ["read"] }},
]
webhook_secret = "literal:whsec_{WEBHOOK_SECRET}"
numbers = ["60777"]
"#,
            self.address
        );
        if webhooks {
            let url = self.webhooks.url();
            text.push_str(&format!(
                "receipt_url = \"{url}\"\ninbound_url = \"{url}\"\n"
            ));
        }
        text.push_str(account_extra);
        text.push_str(&format!(
            "\n[[accounts]]\nid = \"other\"\nkeys = [\"literal:{OTHER_KEY}\"]\n"
        ));
        for carrier in carriers {
            let address = match carrier.address.as_str() {
                "" => String::new(),
                address => format!("address = \"{address}\""),
            };
            text.push_str(&format!(
                r#"
[[carriers]]
id = "{}"
kind = "smpp"
{}
system_id = "heliograph"
password = "literal:secret"
reconnect_min_ms = 50
reconnect_max_ms = 500
{}
"#,
                carrier.id, address, carrier.extra
            ));
        }
        std::fs::write(self.config_path(), text).expect("the configuration");
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("heliograph.toml")
    }

    /// Where the store is, unless the plan says otherwise.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts the server and waits until it is ready.
    pub async fn launch(&mut self) {
        self.spawn();
        if let Some(exit) = self.ready_or_gone().await {
            self.fail(&format!("the server is not ready ({exit:?})"));
        }
    }

    /// Starts the server and waits for nothing.
    pub fn spawn(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("server.log"))
            .expect("the log");
        let program = match self.pace {
            None => binary(),
            // The same server by another clock.
            Some(_) => binary().with_file_name("prove"),
        };
        let mut command = match &self.processors {
            None => Command::new(program),
            Some(processors) => {
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", processors]).arg(program);
                command
            }
        };
        command.arg("serve");
        match self.pace {
            None => command.arg("--config"),
            Some(pace) => command.arg(pace.to_string()),
        };
        let child = command
            .arg(self.config_path())
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the server");
        self.server = Some(child);
    }

    /// Waits until the server is ready; or says how it ended, which is nothing where it never got ready.
    pub async fn ready_or_gone(&mut self) -> Option<Option<std::process::ExitStatus>> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Ok((200, _)) = self.try_call("GET", "/readyz", None, &[]).await {
                return None;
            }
            let server = self.server.as_mut();
            let exited = server.and_then(|s| s.try_wait().ok()).flatten();
            if exited.is_some() || Instant::now() >= end {
                return Some(exited);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default()
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().await.expect("a killed server");
        }
    }

    /// SIGTERM; returns how it ended.
    pub async fn terminate(&mut self) -> std::process::ExitStatus {
        let mut server = self.server.take().expect("a running server");
        let pid = server.id().expect("a pid").to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(sent.is_ok_and(|s| s.success()));
        tokio::time::timeout(PATIENCE, server.wait())
            .await
            .expect("the server ends")
            .expect("an exit status")
    }

    pub async fn signal(&self, name: &str) {
        let pid = self
            .server
            .as_ref()
            .and_then(Child::id)
            .expect("a running server");
        let sent = Command::new("kill")
            .args([name, &pid.to_string()])
            .status()
            .await;
        assert!(sent.is_ok_and(|s| s.success()));
    }

    pub fn pid(&self) -> u32 {
        let pid = self.server.as_ref().and_then(Child::id);
        pid.expect("a running server")
    }

    /// Memory of the server that is in use now.
    pub fn rss_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.expect("VmRSS") / 1024
    }

    /// The value of the first line of `/metrics` that has all of `parts`; 0 where there is none.
    pub async fn metric(&self, parts: &[&str]) -> f64 {
        let key = bearer(ADMIN_KEY);
        let headers = [("authorization", key.as_str())];
        let (status, _, page) = http(&self.address, "GET", "/metrics", None, &headers)
            .await
            .unwrap_or_else(|e| self.fail(&format!("GET /metrics: {e}")));
        assert_eq!(status, 200);
        let page = String::from_utf8_lossy(&page);
        let mut lines = page.lines().filter(|l| !l.starts_with('#'));
        let line = lines.find(|l| parts.iter().all(|p| l.contains(p)));
        let value = line.and_then(|l| l.rsplit(' ').next());
        value.and_then(|v| v.parse().ok()).unwrap_or(0.0)
    }

    pub fn is_running(&mut self) -> bool {
        self.server
            .as_mut()
            .is_some_and(|s| matches!(s.try_wait(), Ok(None)))
    }

    /// One request with the account's key; status and JSON (null where the body is none).
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.call_as(KEY, method, path, body).await
    }

    pub async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.call_as(ADMIN_KEY, method, path, body).await
    }

    pub async fn call_as(
        &self,
        key: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let bytes = body.map(|b| b.to_string().into_bytes());
        self.try_call(method, path, bytes, &[("authorization", &bearer(key))])
            .await
            .unwrap_or_else(|e| self.fail(&format!("{method} {path}: {e}")))
    }

    /// Ends the scenario, with the server's log.
    pub fn fail(&self, why: &str) -> ! {
        panic!("{why}; the server's log:\n{}", self.log())
    }

    /// One request as it is; an error where the connection fails.
    pub async fn try_call(
        &self,
        method: &str,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(&str, &str)],
    ) -> Result<(u16, Value), String> {
        let (status, _, bytes) = http(&self.address, method, path, body, headers).await?;
        Ok((
            status,
            serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        ))
    }

    /// Submits and returns the id; fails where it is not accepted.
    pub async fn submit(&self, body: Value) -> String {
        let (status, answer) = self.call("POST", "/v1/messages", Some(body)).await;
        assert_eq!(status, 202, "{answer}");
        answer["id"].as_str().expect("an id").to_owned()
    }

    pub async fn message(&self, id: &str) -> Value {
        let (status, answer) = self.call("GET", &format!("/v1/messages/{id}"), None).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Submits and expects a refusal: the problem.
    pub async fn refused(&self, body: Value) -> Value {
        let (status, problem) = self.call("POST", "/v1/messages", Some(body)).await;
        assert_eq!(status, 422, "{problem}");
        problem
    }

    /// Waits until the message is in `state`.
    pub async fn wait_for(&self, id: &str, state: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let message = self.message(id).await;
            if message["status"] == state {
                return message;
            }
            if Instant::now() >= end {
                self.fail(&format!("{id} is not {state}:\n{message:#}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until all messages are in `state`.
    pub async fn wait_for_all(&self, ids: &[String], state: &str) {
        for id in ids {
            self.wait_for(id, state).await;
        }
    }

    /// What a simulator took, oldest first.
    pub fn taken(&self, simulator: usize) -> Vec<Received> {
        let received = self.simulators[simulator].received(0, 1_000_000);
        received.into_iter().filter(|r| r.accepted).collect()
    }

    /// A text from a handset by way of `sim0`, once the server has bound to it. Returns its parts.
    pub async fn text_in(&self, mo: &Mo) -> usize {
        eventually("the text is on its way", async || {
            match self.simulators[0].inject(mo) {
                Ok(parts) => Some(parts),
                Err(MoError::NoReceiver) => None,
                Err(error) => panic!("{mo:?}: {error}"),
            }
        })
        .await
    }

    /// Every item of a paged list.
    pub async fn items(&self, path: &str) -> Vec<Value> {
        let (status, page) = self.admin("GET", path, None).await;
        assert_eq!(status, 200, "{page}");
        page["items"].as_array().cloned().unwrap_or_default()
    }

    /// Runs the built program in the rig's folder; exit code, standard output and error.
    pub async fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        run_in(self.dir.path(), arguments).await
    }
}

/// A submission that is good; scenarios change what they are about.
pub fn sms(to: &str, text: &str) -> Value {
    json!({ "to": to, "from": "60777", "text": text })
}

/// Runs the built program to its end in `folder`.
pub async fn run_in(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let run = Command::new(binary())
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, run)
        .await
        .unwrap_or_else(|_| panic!("heliograph {arguments:?} does not end"))
        .expect("the program runs");
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// A loopback address to listen on that was free a moment ago and that nothing else comes upon by chance: its port is
/// below those that Linux gives to whoever asks for none. A server that is stopped and started again finds it free.
pub async fn free_address() -> String {
    const PORTS: Range<u16> = 10_000..32_000;
    // Another process of tests looks for its own at the same time.
    static NEXT: LazyLock<AtomicU16> =
        LazyLock::new(|| AtomicU16::new((std::process::id() as u16).wrapping_mul(61)));
    for _ in PORTS {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + n % (PORTS.end - PORTS.start);
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await {
            return listener.local_addr().expect("an address").to_string();
        }
    }
    panic!("all ports of {PORTS:?} are taken");
}

/// Waits until `check` gives something.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < end, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
