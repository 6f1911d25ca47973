//! The rig: the built server as a child process, simulated carriers and a webhook target in this
//! process (so they outlive a killed server), and a plain HTTP client between them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use heliograph::carrier::simulator::{Settings, Simulator};
use heliograph::clock::Clock;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// How long anything may take before a scenario fails. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The secret of the rig's account, as `whsec_` has it.
pub const WEBHOOK_SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The built binary: cargo puts it beside the test's own folder.
pub fn binary() -> PathBuf {
    let mut path = std::env::current_exe().expect("the test's own path");
    path.pop();
    path.pop();
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

/// A carrier of the rig: a simulator, or any address that something of the test listens on.
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
    /// Where the account's receipts go: the rig's own target.
    pub webhooks: bool,
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
            webhooks: false,
        }
    }
}

/// A running server with all that surrounds it.
pub struct Rig {
    pub dir: TempDir,
    pub address: String,
    pub simulators: Vec<Simulator>,
    pub webhooks: Webhooks,
    server: Option<Child>,
}

pub const KEY: &str = "hg_test_key_of_the_rig_0000000000000000000000000000000000";
pub const OTHER_KEY: &str = "hg_test_key_of_another_00000000000000000000000000000000";
pub const ADMIN_KEY: &str = "hg_test_key_of_the_admin_000000000000000000000000000000";

impl Rig {
    pub async fn start(plan: Plan) -> Rig {
        let dir = tempfile::tempdir().expect("a folder");
        let mut simulators = Vec::new();
        let mut carriers = plan.carriers;
        for (i, settings) in plan.simulators.into_iter().enumerate() {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let simulator =
                Simulator::start(settings, Clock::system(), listener, None).expect("a simulator");
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
        let rig = Rig {
            dir,
            address,
            simulators,
            webhooks,
            server: None,
        };
        rig.write_policy(&plan.policy);
        rig.write_config(&carriers, plan.webhooks, &plan.config_extra);
        let mut rig = rig;
        rig.launch().await;
        rig
    }

    /// Replaces the policy file; the server watches it.
    pub fn write_policy(&self, text: &str) {
        let dir = self.dir.path();
        let text = if text.contains("{plugins}") {
            text.replace("{plugins}", &plugins().display().to_string())
        } else {
            text.to_owned()
        };
        let text = text.replace("{dir}", &dir.display().to_string());
        std::fs::write(dir.join("policy.toml.new"), text).expect("the policy file");
        std::fs::rename(dir.join("policy.toml.new"), dir.join("policy.toml")).expect("the policy file");
    }

    fn write_config(&self, carriers: &[CarrierSpec], webhooks: bool, extra: &str) {
        let dir = self.dir.path().display();
        let mut text = format!(
            r#"
[http]
listen = "{}"
[store]
path = "{dir}/data"
min_free_mib = 16
[policy]
file = "{dir}/policy.toml"
[webhooks]
allow_private = true
{extra}
[[accounts]]
id = "acme"
keys = ["literal:{KEY}", {{ key = "literal:{ADMIN_KEY}", scopes = ["send", "read", "admin"] }}]
webhook_secret = "literal:whsec_{WEBHOOK_SECRET}"
numbers = ["60777"]
"#,
            self.address
        );
        if webhooks {
            let url = self.webhooks.url();
            text.push_str(&format!("receipt_url = \"{url}\"\ninbound_url = \"{url}\"\n"));
        }
        text.push_str(&format!(
            "[[accounts]]\nid = \"other\"\nkeys = [\"literal:{OTHER_KEY}\"]\n"
        ));
        for carrier in carriers {
            text.push_str(&format!(
                r#"
[[carriers]]
id = "{}"
kind = "smpp"
address = "{}"
system_id = "heliograph"
password = "literal:secret"
reconnect_min_ms = 50
reconnect_max_ms = 500
{}
"#,
                carrier.id, carrier.address, carrier.extra
            ));
        }
        std::fs::write(self.config_path(), text).expect("the configuration");
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("heliograph.toml")
    }

    /// Starts the server and waits until it is ready.
    pub async fn launch(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("server.log"))
            .expect("the log");
        let child = Command::new(binary())
            .args(["serve", "--config"])
            .arg(self.config_path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the server");
        self.server = Some(child);
        let end = Instant::now() + PATIENCE;
        loop {
            if let Ok((200, _)) = self.try_call("GET", "/readyz", None, &[]).await {
                return;
            }
            let exited = self
                .server
                .as_mut()
                .and_then(|s| s.try_wait().ok())
                .flatten();
            assert!(
                exited.is_none() && Instant::now() < end,
                "the server is not ready ({exited:?}); its log:\n{}",
                self.log()
            );
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
        let pid = self.server.as_ref().and_then(Child::id).expect("a running server");
        let sent = Command::new("kill").args([name, &pid.to_string()]).status().await;
        assert!(sent.is_ok_and(|s| s.success()));
    }

    pub fn is_running(&mut self) -> bool {
        self.server
            .as_mut()
            .is_some_and(|s| matches!(s.try_wait(), Ok(None)))
    }

    /// One request with the account's key; status and JSON (null where the body is none).
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let bytes = body.map(|b| b.to_string().into_bytes());
        self.try_call(method, path, bytes, &[("authorization", &format!("Bearer {KEY}"))])
            .await
            .unwrap_or_else(|e| panic!("{method} {path}: {e}; the server's log:\n{}", self.log()))
    }

    pub async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let bytes = body.map(|b| b.to_string().into_bytes());
        self.try_call(method, path, bytes, &[("authorization", &format!("Bearer {ADMIN_KEY}"))])
            .await
            .unwrap_or_else(|e| panic!("{method} {path}: {e}; the server's log:\n{}", self.log()))
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
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
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

    /// Waits until the message is in `state`.
    pub async fn wait_for(&self, id: &str, state: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let message = self.message(id).await;
            if message["status"] == state {
                return message;
            }
            assert!(
                Instant::now() < end,
                "{id} is not {state}:\n{message:#}\nthe server's log:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A loopback address that was free a moment ago.
pub async fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// Waits until `check` holds.
pub async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !check() {
        assert!(Instant::now() < end, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One HTTP/1.1 exchange on a connection of its own: status, headers, body.
pub async fn http(
    address: &str,
    method: &str,
    path: &str,
    body: Option<Vec<u8>>,
    headers: &[(&str, &str)],
) -> Result<(u16, hyper::HeaderMap, Bytes), String> {
    let exchange = async {
        let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
        tokio::spawn(connection);
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", address);
        let has_type = headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("content-type"));
        if body.is_some() && !has_type {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|e| e.to_string())?;
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        Ok((parts.status.as_u16(), parts.headers, bytes))
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .map_err(|_| "no answer".to_owned())?
}

/// One webhook as it arrived.
#[derive(Clone, Debug)]
pub struct Hook {
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Hook {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map_or("", |(_, v)| v.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

/// A webhook target that keeps what it gets and answers as it is told.
pub struct Webhooks {
    address: String,
    received: Arc<Mutex<Vec<Hook>>>,
    /// Statuses of the next answers; 200 after them.
    answers: Arc<Mutex<Vec<u16>>>,
}

impl Webhooks {
    pub async fn start() -> Webhooks {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let received = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(Vec::new()));
        let (sink, next) = (received.clone(), answers.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sink, next) = (sink.clone(), next.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request: hyper::Request<Incoming>| {
                        let (sink, next) = (sink.clone(), next.clone());
                        async move {
                            let headers = request
                                .headers()
                                .iter()
                                .map(|(n, v)| {
                                    (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned())
                                })
                                .collect();
                            let body = request.into_body().collect().await?.to_bytes();
                            sink.lock().expect("the list").push(Hook { headers, body });
                            let mut queue = next.lock().expect("the answers");
                            let status = if queue.is_empty() { 200 } else { queue.remove(0) };
                            let mut response = hyper::Response::new(Full::new(Bytes::new()));
                            *response.status_mut() =
                                hyper::StatusCode::from_u16(status).expect("a status");
                            Ok::<_, hyper::Error>(response)
                        }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Webhooks {
            address,
            received,
            answers,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub fn received(&self) -> Vec<Hook> {
        self.received.lock().expect("the list").clone()
    }

    pub fn answer_next(&self, statuses: &[u16]) {
        self.answers.lock().expect("the answers").extend(statuses);
    }
}
