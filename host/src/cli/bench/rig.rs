//! What the benchmark measures: the server and the simulator as child processes, and what the
//! operating system says of them. Knows no load.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use super::load::Target;
use super::{Args, Hooks};
use crate::cli::plugins_folder;
use crate::plugin::PolicySpec;

/// The application that binds to the server.
pub const ESME_SYSTEM_ID: &str = "bench";
pub const ESME_PASSWORD: &str = "secret";

/// How long no receipt may come once the load has ended.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// The account that sends what has a mark, and may have plugins of its own.
pub const TENANT: &str = "tenant";
/// How long it may take to compile the plugins well after the start.
const COMPILED_MAX: Duration = Duration::from_secs(60);

/// The server, its carrier and their folder.
pub struct Rig {
    server: Child,
    smsc: Option<Child>,
    smpp: String,
    control: String,
    http: String,
    esme: [String; 2],
    key: String,
    tenant_key: String,
    folder: Scratch,
    hooks: Hooks,
    plugins: PathBuf,
}

/// A folder that goes away with the rig.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Of the simulator's counters, those that the benchmark reads.
#[derive(Debug, Deserialize)]
pub struct Counters {
    pub unique: u64,
    pub duplicated: u64,
    pub accepted: u64,
    pub receipts_acked: u64,
}

impl Rig {
    /// `carrier`: whether the simulated carrier is there from the beginning.
    pub async fn start(args: &Args, hooks: Hooks, carrier: bool) -> Result<Rig, String> {
        Rig::start_as(args, hooks, carrier, true).await
    }

    /// `recording`: whether decisions are kept for replay.
    pub async fn start_as(
        args: &Args,
        hooks: Hooks,
        carrier: bool,
        recording: bool,
    ) -> Result<Rig, String> {
        let parent = args.data.clone().unwrap_or_else(|| PathBuf::from("."));
        let folder = parent.join(format!(".heliograph-bench-{:08x}", rand::random::<u32>()));
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let folder = Scratch(folder);
        let plugins = plugins_folder(args.plugins.as_deref())?;
        let new_key = || {
            let (high, low) = (rand::random::<u128>(), rand::random::<u128>());
            format!("hg_{high:032x}{low:032x}")
        };
        let (key, tenant_key) = (new_key(), new_key());
        let smpp = free_address().await?;
        let control = free_address().await?;
        let http = free_address().await?;
        let esme = [free_address().await?, free_address().await?];
        let keys = [key.as_str(), &tenant_key];
        write_config(&folder.0, &http, &smpp, &esme, &keys, recording)?;
        write_policy(&folder.0, &plugins, hooks, 0)?;
        let smsc = match carrier {
            true => Some(spawn_smsc(&smpp, &control).await?),
            false => None,
        };
        let server = spawn_server(&folder.0)?;
        let mut rig = Rig {
            server,
            smsc,
            smpp,
            control,
            http,
            esme,
            key,
            tenant_key,
            folder,
            hooks,
            plugins,
        };
        rig.ready().await?;
        if carrier {
            rig.bound().await?;
            // Without a carrier it is no speed that is measured.
            if hooks == Hooks::On {
                rig.compiled().await?;
            }
        }
        Ok(rig)
    }

    /// Waits until the plugins are compiled well, which they are after the server is ready: what is measured
    /// is any day, not the first seconds.
    async fn compiled(&self) -> Result<(), String> {
        let plugins = self.plugin_stats().await?.len();
        let end = Instant::now() + COMPILED_MAX;
        let cache = self.folder.0.join("data").join("compiled");
        loop {
            let files = std::fs::read_dir(&cache).map_or(0, |files| {
                let native = |f: std::io::Result<std::fs::DirEntry>| {
                    f.is_ok_and(|f| f.path().extension().is_some_and(|e| e == "native"))
                };
                files.filter_map(|f| native(f).then_some(())).count()
            });
            if files >= plugins {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("{files} of {plugins} plugins are compiled"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn target(&self) -> Target {
        Target {
            address: self.http.clone(),
            key: self.key.clone(),
            marked_key: self.tenant_key.clone(),
            marked_every: 0,
        }
    }

    /// Where applications bind without TLS, and with it.
    pub fn esme_address(&self) -> &str {
        &self.esme[0]
    }

    pub fn esme_tls_address(&self) -> &str {
        &self.esme[1]
    }

    /// Adds entries to the policy file, and waits until they are in force. `component` is what they
    /// name as `neighbour.wasm`.
    pub async fn let_in(&self, component: &[u8], entries: &str) -> Result<(), String> {
        let before = self.activations().await?;
        let failed = |e: std::io::Error| e.to_string();
        std::fs::write(self.folder.0.join("neighbour.wasm"), component).map_err(failed)?;
        let policy = self.folder.0.join("policy.toml");
        let text = std::fs::read_to_string(&policy).map_err(failed)? + entries;
        let new = self.folder.0.join("policy.toml.new");
        std::fs::write(&new, text).map_err(failed)?;
        std::fs::rename(new, policy).map_err(failed)?;
        let end = Instant::now() + Duration::from_secs(30);
        while self.activations().await? == before {
            if Instant::now() > end {
                let log = std::fs::read_to_string(self.folder.0.join("server.log"));
                let log = log.unwrap_or_default();
                return Err(format!(
                    "the policy with the neighbours is not taken:\n{log}"
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Statistics of every entry's first hook, by name.
    pub async fn plugin_stats(&self) -> Result<BTreeMap<String, Value>, String> {
        let (_, body) = request(&self.http, "GET", "/v1/policy", &self.key, None).await?;
        let plugins = body["plugins"].as_array().cloned().unwrap_or_default();
        Ok(plugins
            .into_iter()
            .filter_map(|p| {
                Some((
                    p["name"].as_str()?.to_owned(),
                    p["hooks"][0]["stats"].clone(),
                ))
            })
            .collect())
    }

    /// The server of the beginning, or none.
    pub fn is_running(&mut self) -> bool {
        matches!(self.server.try_wait(), Ok(None))
    }

    async fn ready(&mut self) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            if let Ok((200, _)) = request(&self.http, "GET", "/readyz", &self.key, None).await {
                return Ok(());
            }
            if let Ok(Some(status)) = self.server.try_wait() {
                let log =
                    std::fs::read_to_string(self.folder.0.join("server.log")).unwrap_or_default();
                return Err(format!("the server ended with {status}:\n{log}"));
            }
            if Instant::now() > end {
                return Err("the server does not become ready".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn bound(&self) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let (_, body) = request(&self.http, "GET", "/v1/carriers", &self.key, None).await?;
            let carriers = body["items"].as_array().cloned().unwrap_or_default();
            if !carriers.is_empty() && carriers.iter().all(|c| c["connected"] == true) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("the carriers do not bind: {body}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// One request that has to succeed; its answer.
    pub async fn must(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let (status, answer) = request(&self.http, method, path, &self.key, Some(body)).await?;
        match status {
            200..300 => Ok(answer),
            _ => Err(format!("{method} {path}: {status} {answer}")),
        }
    }

    /// The policy of the benchmark and one plugin more, as JSON.
    pub fn five_plugins(&self, generation: u32) -> Result<Value, String> {
        let toml = policy_text(&self.plugins, Hooks::On, generation)?;
        let plugins = std::path::absolute(&self.plugins).map_err(|e| e.to_string())?;
        let fifth = format!(
            "\n[[plugin]]\nname = \"otp-guard\"\npath = \"{}/otp-guard.wasm\"\n[plugin.grants.state]\nbytes = 4194304\n",
            plugins.display()
        );
        let spec = PolicySpec::from_toml(&(toml + &fifth)).map_err(|e| e.to_string())?;
        serde_json::to_value(spec).map_err(|e| e.to_string())
    }

    pub async fn counters(&self) -> Result<Counters, String> {
        let (_, body) = request(&self.control, "GET", "/counters", "", None).await?;
        serde_json::from_value(body).map_err(|e| e.to_string())
    }

    /// Waits until the server has acknowledged the receipts of `messages`, which it does when they
    /// are settled and durable. Returns when that was.
    pub async fn drained(&self, messages: u64) -> Result<Instant, String> {
        let mut end = Instant::now() + DRAIN_MAX;
        let mut before = 0;
        loop {
            let counters = self.counters().await?;
            let now = Instant::now();
            if counters.receipts_acked > before {
                before = counters.receipts_acked;
                end = now + DRAIN_MAX;
            }
            if counters.receipts_acked >= messages {
                return Ok(now);
            }
            if now > end {
                // Not an error: what is missing is what the benchmark is there to count.
                eprintln!("not drained: {messages} accepted, {counters:?}");
                return Ok(now);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Recipient to the time of its submit_sm, µs since the Unix epoch.
    pub async fn arrivals(&self) -> Result<HashMap<String, u64>, String> {
        let mut all = HashMap::new();
        let mut since = 0;
        loop {
            let path = format!("/received?since={since}&limit=1000");
            let (_, body) = request(&self.control, "GET", &path, "", None).await?;
            let list = body["messages"].as_array().filter(|l| !l.is_empty());
            let Some(list) = list else {
                return Ok(all);
            };
            for one in list {
                let at_us = one["at"].as_u64().unwrap_or(0) * 1000;
                let to = one["destination_addr"].as_str().unwrap_or_default();
                all.entry(to.to_owned()).or_insert(at_us);
            }
            since = body["next"].as_u64().unwrap_or(u64::MAX);
        }
    }

    /// Median of each hook's calls in µs.
    pub async fn hook_medians(&self) -> Result<BTreeMap<String, f64>, String> {
        let (_, body) = request(&self.http, "GET", "/v1/policy", &self.key, None).await?;
        let mut medians = BTreeMap::new();
        for plugin in body["plugins"].as_array().into_iter().flatten() {
            for hook in plugin["hooks"].as_array().into_iter().flatten() {
                let stats = &hook["stats"];
                let called = stats["calls"].as_u64().is_some_and(|calls| calls > 0);
                if let (Some(name), true) = (plugin["name"].as_str(), called) {
                    let nanos = stats["p50_ns"].as_f64().unwrap_or(0.0);
                    medians.insert(name.to_owned(), nanos / 1000.0);
                }
            }
        }
        Ok(medians)
    }

    /// `VmRSS` or `VmHWM` of the server.
    pub fn server_rss_mib(&self, field: &str) -> Result<f64, String> {
        let status = self.proc_file("status")?;
        let kib = status
            .lines()
            .find_map(|l| l.strip_prefix(field)?.strip_prefix(':'))
            .and_then(|l| l.split_whitespace().next())
            .and_then(|n| n.parse::<f64>().ok())
            .ok_or("no such figure in /proc")?;
        Ok(kib / 1024.0)
    }

    /// User and system time of the server so far.
    pub fn server_cpu_seconds(&self) -> Result<f64, String> {
        let stat = self.proc_file("stat")?;
        // The command name is in brackets and may hold anything; fields are counted after it.
        let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = after.split_whitespace().collect();
        let ticks = |i: usize| {
            fields
                .get(i)
                .and_then(|f| f.parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        // utime and stime; USER_HZ is 100 on every Linux that runs this.
        Ok((ticks(11) + ticks(12)) / 100.0)
    }

    fn proc_file(&self, name: &str) -> Result<String, String> {
        let pid = self.server.id().ok_or("the server has ended")?;
        let path = format!("/proc/{pid}/{name}");
        std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))
    }

    pub fn disk_bytes(&self) -> Result<u64, String> {
        fn size(path: &Path) -> std::io::Result<u64> {
            let mut sum = 0;
            for entry in std::fs::read_dir(path)? {
                let entry = entry?;
                let meta = entry.metadata()?;
                sum += if meta.is_dir() {
                    size(&entry.path())?
                } else {
                    meta.len()
                };
            }
            Ok(sum)
        }
        size(&self.folder.0.join("data")).map_err(|e| e.to_string())
    }

    /// `kill -9`, start again, wait until it is ready.
    pub async fn kill_and_restart(&mut self) -> Result<(), String> {
        self.server.kill().await.map_err(|e| e.to_string())?;
        self.server = spawn_server(&self.folder.0)?;
        self.ready().await
    }

    pub async fn first_submission(&self) -> Result<(), String> {
        let body =
            serde_json::json!({"to": "+447400000000", "from": "Heliograph", "text": "first"});
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = request(&self.http, "POST", "/v1/messages", &self.key, Some(&body)).await;
            if matches!(answer, Ok((202, _))) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("no submission is accepted: {answer:?}"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn bring_carrier_back(&mut self) -> Result<(), String> {
        self.smsc = Some(spawn_smsc(&self.smpp, &self.control).await?);
        Ok(())
    }

    pub async fn first_arrival(&self, start: Instant) -> Result<Duration, String> {
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            if self.counters().await?.accepted > 0 {
                return Ok(start.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err("nothing was sent after the restart".to_owned())
    }

    /// Changes the policy file `times` times within `duration`; returns how many changes came
    /// into force.
    pub async fn swap_policies(&self, times: u32, duration: Duration) -> Result<u64, String> {
        let before = self.activations().await?;
        for generation in 1..=times {
            write_policy(&self.folder.0, &self.plugins, self.hooks, generation)?;
            tokio::time::sleep(duration / times.max(1)).await;
        }
        Ok(self.activations().await?.saturating_sub(before))
    }

    async fn activations(&self) -> Result<u64, String> {
        let (_, body) = request(&self.http, "GET", "/v1/policy/history", &self.key, None).await?;
        Ok(body["items"]
            .as_array()
            .and_then(|h| h.first())
            .and_then(|e| e["sequence"].as_u64())
            .unwrap_or(0))
    }

    pub async fn stop(mut self) {
        let _ = self.server.kill().await;
        if let Some(smsc) = &mut self.smsc {
            let _ = smsc.kill().await;
        }
    }
}

async fn free_address() -> Result<String, String> {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .map_err(|e| e.to_string())?;
    Ok(listener
        .local_addr()
        .map_err(|e| e.to_string())?
        .to_string())
}

fn program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|e| format!("this program's own path: {e}"))
}

async fn spawn_smsc(smpp: &str, control: &str) -> Result<Child, String> {
    let mut child = Command::new(program()?)
        .args(["smsc", "--json", "--listen", smpp, "--control", control])
        .args([
            "--bind",
            "north:secret",
            "--bind",
            "south:secret",
            "--receipt-delay-ms",
            "50",
        ])
        .args([
            "--received-max",
            "2000000",
            "--received-bytes-max",
            "1000000000",
        ])
        .args([
            "--keys-max",
            "10000000",
            "--pending-max",
            "4000000",
            "--deliver-window",
            "500",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("the simulator: {e}"))?;
    let stdout = child.stdout.take().ok_or("the simulator says nothing")?;
    let mut line = String::new();
    let read = BufReader::new(stdout).read_line(&mut line).await;
    match read {
        Ok(n) if n > 0 => Ok(child),
        _ => Err("the simulator did not start".to_owned()),
    }
}

fn spawn_server(folder: &Path) -> Result<Child, String> {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("server.log"))
        .map_err(|e| e.to_string())?;
    Command::new(program()?)
        .args(["serve", "--config"])
        .arg(folder.join("heliograph.toml"))
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("the server: {e}"))
}

fn write_config(
    folder: &Path,
    http: &str,
    smpp: &str,
    [esme, esme_tls]: &[String; 2],
    [key, tenant_key]: &[&str; 2],
    recording: bool,
) -> Result<(), String> {
    let mut text = format!(
        r#"
[http]
listen = "{http}"
[store]
path = "data"
min_free_mib = 64
[policy]
file = "policy.toml"
[recording]
enabled = {recording}
[log]
filter = "warn"
[[accounts]]
id = "bench"
keys = [{{ key = "literal:{key}", scopes = ["send", "read", "admin"] }}]
[[accounts.smpp]]
system_id = "{ESME_SYSTEM_ID}"
password = "literal:{ESME_PASSWORD}"
max_binds = 10000
window = 100
deliver_window = 100
[[accounts]]
id = "{TENANT}"
keys = [{{ key = "literal:{tenant_key}", scopes = ["send"] }}]
[smpp]
listen = "{esme}"
tls_listen = "{esme_tls}"
certificate = "certificate.pem"
key = "key.pem"
"#
    );
    let pair = [
        ("certificate.pem", include_str!("tls/certificate.pem")),
        ("key.pem", include_str!("tls/key.pem")),
    ];
    for (name, pem) in pair {
        std::fs::write(folder.join(name), pem).map_err(|e| e.to_string())?;
    }
    for id in ["north", "south"] {
        text.push_str(&format!(
            r#"
[[carriers]]
id = "{id}"
kind = "smpp"
address = "{smpp}"
system_id = "{id}"
password = "literal:secret"
window = 200
reconnect_max_ms = 500
"#
        ));
    }
    std::fs::write(folder.join("heliograph.toml"), text).map_err(|e| e.to_string())
}

/// All bundled decision hooks as an operator would run them, or none. `generation` makes the set
/// another one.
fn write_policy(
    folder: &Path,
    plugins: &Path,
    hooks: Hooks,
    generation: u32,
) -> Result<(), String> {
    let text = policy_text(plugins, hooks, generation)?;
    let mut deck = String::from("prefix,carriers\n");
    for prefix in ["1", "33", "34", "39", "44", "447", "4474", "49", "91"] {
        deck.push_str(&format!("{prefix},north=4200; south=4210\n"));
    }
    std::fs::write(folder.join("rates.csv"), deck).map_err(|e| e.to_string())?;
    let new = folder.join("policy.toml.new");
    std::fs::write(&new, text).map_err(|e| e.to_string())?;
    std::fs::rename(new, folder.join("policy.toml")).map_err(|e| e.to_string())
}

fn policy_text(plugins: &Path, hooks: Hooks, generation: u32) -> Result<String, String> {
    let plugins = std::path::absolute(plugins).map_err(|e| e.to_string())?;
    let plugins = plugins.display();
    Ok(match hooks {
        Hooks::Off => "default_route = [\"north\", \"south\"]\n".to_owned(),
        Hooks::On => format!(
            r#"
default_route = ["north", "south"]
[tables.rates]
file = "rates.csv"

[[plugin]]
name = "content-filter"
path = "{plugins}/content-filter.wasm"
[[plugin.config.rules]]
name = "generation-{generation}"
kind = "words"
words = ["casino", "free money", "viagra", "lottery winner"]
action = "refuse"

[[plugin]]
name = "compliance-guard"
path = "{plugins}/compliance-guard.wasm"
[plugin.config.daily_caps]
promotional = 5

[[plugin]]
name = "least-cost-router"
path = "{plugins}/least-cost-router.wasm"
[plugin.config]
deck = "rates"
[plugin.grants]
tables = ["rates"]

[[plugin]]
name = "keyword-responder"
path = "{plugins}/keyword-responder.wasm"
[plugin.grants.state]
bytes = 1048576
"#
        ),
    })
}

/// One request on a connection of its own; status and JSON.
async fn request(
    address: &str,
    method: &str,
    path: &str,
    key: &str,
    body: Option<&Value>,
) -> Result<(u16, Value), String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), exchange)
        .await
        .map_err(|_| format!("{address}{path}: no answer"))?
        .map_err(|e| format!("{address}{path}: {e}"))?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or("a broken answer")?;
    let status = head
        .get(9..12)
        .and_then(|s| s.parse().ok())
        .ok_or("a broken status")?;
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    let body = if chunked {
        dechunked(body)
    } else {
        body.to_owned()
    };
    Ok((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
}

fn dechunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else {
            break;
        };
        let (Some(chunk), true) = (rest.get(..size), size > 0) else {
            break;
        };
        whole.push_str(chunk);
        body = rest.get(size + 2..).unwrap_or("");
    }
    whole
}
