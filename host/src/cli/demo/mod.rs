//! `heliograph demo`: the server, two simulated carriers over real SMPP, the bundled plugins and a
//! webhook target, with no configuration. Sends a message of every interesting kind and tells the
//! story of each.

mod samples;
mod webhooks;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use axum::http::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::client::{Client, Failure, Target, escaped};
use super::{message, plugins_folder};
use crate::app::{self, Server};
use crate::carrier::simulator::{Mo, Settings, Simulator};
use crate::clock::Clock;
use crate::config::Config;
use crate::telemetry;
use samples::{Expect, Sample};
use webhooks::Webhooks;

/// How long a sample may take to get where it should.
const PATIENCE: Duration = Duration::from_secs(60);

/// Start everything, send samples, watch them arrive
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  heliograph demo\n  heliograph demo --once\n  heliograph demo --data ./demo-data"
)]
pub struct Args {
    /// End when every sample is where it should be; exit code 0 only then
    #[arg(long)]
    pub once: bool,
    /// Keep the data here; default: a temporary folder that goes away
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Where the API listens; a free port where this one is taken
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: std::net::SocketAddr,
    /// Folder of the bundled plugins; default: beside the program
    #[arg(long, value_name = "FOLDER")]
    pub plugins: Option<PathBuf>,
    /// Print one JSON object with the outcome of each sample
    #[arg(long)]
    pub json: bool,
}

/// Runs the demonstration.
pub async fn run(args: Args) -> ExitCode {
    match demonstrate(&args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("heliograph demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What runs while the demonstration does.
struct Stage {
    url: String,
    server: Server,
    north: Simulator,
    south: Simulator,
    webhooks: Webhooks,
    client: Client,
    key: String,
    /// Removed with it, unless the user named it.
    _scratch: Option<Scratch>,
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn demonstrate(args: &Args) -> Result<bool, String> {
    telemetry::start("warn", false)?;
    let stage = Stage::set(args).await?;
    let url = stage.url.clone();
    if !args.json {
        println!(
            "Heliograph is up: API on {url}, carriers `north` and `south` over SMPP on loopback."
        );
        println!("API key: {}   (also in demo/api-key)\n", stage.key);
    }
    let outcomes = stage.play(args).await?;
    let good = outcomes.iter().all(|o| o.good);
    if args.json {
        let list: Vec<Value> = outcomes.iter().map(Outcome::json).collect();
        println!("{}", json!({ "url": url, "good": good, "samples": list }));
    } else {
        print_summary(
            &outcomes,
            stage.webhooks.verified(),
            stage.webhooks.forged(),
        );
    }
    if !args.once {
        if !args.json {
            print_next_steps(&url, &stage.key);
        }
        wait_for_interrupt().await?;
    }
    stage.strike().await;
    Ok(good)
}

impl Stage {
    async fn set(args: &Args) -> Result<Stage, String> {
        let plugins = plugins_folder(args.plugins.as_deref())?;
        let (data, scratch) = match &args.data {
            Some(folder) => (folder.clone(), None),
            None => {
                let name = format!("heliograph-demo-{:08x}", rand::random::<u32>());
                let folder = std::env::temp_dir().join(name);
                (folder.clone(), Some(Scratch(folder)))
            }
        };
        let failed = |e: std::io::Error| format!("{}: {e}", data.display());
        std::fs::create_dir_all(&data).map_err(failed)?;
        let data = std::path::absolute(&data).map_err(failed)?;

        let north = simulator(samples::north()).await?;
        let south = simulator(samples::south()).await?;
        let webhooks = Webhooks::start().await?;
        let key = format!(
            "hg_{:032x}{:032x}",
            rand::random::<u128>(),
            rand::random::<u128>()
        );
        write_key(&key)?;

        let listen = free_or(args.listen).await?;
        std::fs::write(data.join("rates.csv"), samples::RATES).map_err(failed)?;
        std::fs::write(
            data.join("policy.toml"),
            samples::policy(&plugins, now_ms()),
        )
        .map_err(failed)?;
        let text = samples::config(&samples::Addresses {
            http: listen,
            north: north.address(),
            south: south.address(),
            webhook: webhooks.url(),
            key: &key,
        });
        std::fs::write(data.join("heliograph.toml"), &text).map_err(failed)?;
        let config = Config::parse(&text, "heliograph.toml", std::iter::empty())
            .map_err(|e| e.to_string())?;
        let server = app::start(&config, &data, Clock::system())
            .await
            .map_err(|e| e.to_string())?;
        let address = server.address.ok_or("nothing listens without TLS")?;
        let url = format!("http://{address}");
        let target = Target {
            url: url.clone(),
            ca: None,
            key: Some(key.clone()),
            json: true,
        };
        let client = Client::new(&target).map_err(|e| e.to_string())?;
        let stage = Stage {
            url,
            server,
            north,
            south,
            webhooks,
            client,
            key,
            _scratch: scratch,
        };
        stage.bound().await?;
        Ok(stage)
    }

    async fn bound(&self) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        while !self
            .server
            .pipeline
            .carriers
            .iter()
            .all(|c| c.status().connected)
        {
            if Instant::now() > end {
                return Err("the simulated carriers do not bind".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Sends every sample, waits for each, shows each one's trace.
    async fn play(&self, args: &Args) -> Result<Vec<Outcome>, String> {
        let body = json!({ "recipient": samples::OPTED_OUT, "scope": "account" });
        let json = [("content-type", "application/json")];
        self.client
            .call(Method::PUT, "/v1/opt-outs", &json, body.to_string().into())
            .await
            .map_err(|e| e.to_string())?;
        let samples = samples::all();
        let bar = progress(samples.len(), args.json);
        let mut sent = Vec::new();
        for sample in samples {
            sent.push(self.send(sample).await?);
        }
        let mut outcomes = Vec::new();
        for (sample, id) in sent {
            bar.set_message(sample.name);
            let outcome = self.await_outcome(sample, id).await?;
            bar.suspend(|| {
                if !args.json {
                    outcome.print();
                }
            });
            bar.inc(1);
            outcomes.push(outcome);
        }
        bar.finish_and_clear();
        outcomes.push(self.two_way(args).await?);
        Ok(outcomes)
    }

    async fn send(&self, sample: Sample) -> Result<(Sample, String), String> {
        let answer = match self.client.post("/v1/messages", &sample.body).await {
            Ok(answer) => answer["id"].clone(),
            // Refused by policy: kept as well, with its trace.
            Err(Failure::Refused(problem)) if problem["message_id"].is_string() => {
                problem["message_id"].clone()
            }
            Err(error) => return Err(format!("{}: {error}", sample.name)),
        };
        let id = answer.as_str().unwrap_or_default().to_owned();
        Ok((sample, id))
    }

    async fn await_outcome(&self, sample: Sample, id: String) -> Result<Outcome, String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let record = self.client.get(&format!("/v1/messages/{id}")).await;
            let record = record.map_err(|e| e.to_string())?;
            let good = sample.expect.holds(&record);
            if good || Instant::now() > end {
                return Ok(Outcome {
                    name: sample.name,
                    expect: sample.expect,
                    good,
                    record,
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A phone texts STOP: the wish is kept and confirmed, and the next promotion is refused.
    async fn two_way(&self, args: &Args) -> Result<Outcome, String> {
        let mo = Mo {
            from: samples::STOPPER.trim_start_matches('+').to_owned(),
            to: samples::SHORT_CODE.to_owned(),
            text: "STOP".to_owned(),
            ..Mo::default()
        };
        self.north.inject(&mo).map_err(|e| e.to_string())?;
        let end = Instant::now() + PATIENCE;
        let confirmation = loop {
            let path = format!("/v1/messages?to={}&limit=1", escaped(samples::STOPPER));
            let page = self.client.get(&path).await.map_err(|e| e.to_string())?;
            let id = page["items"][0]["id"].as_str().map(str::to_owned);
            if let Some(id) = id {
                break id;
            }
            if Instant::now() > end {
                return Err("the STOP was not answered".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let sample = Sample {
            name: "a phone texted STOP: the confirmation",
            body: Value::Null,
            expect: Expect::State("delivered"),
        };
        let outcome = self.await_outcome(sample, confirmation).await?;
        if !args.json {
            outcome.print();
        }
        let refused = samples::to(samples::STOPPER, "One more offer just for you.");
        let answer = self.client.post("/v1/messages", &refused).await;
        let opted_out = matches!(&answer, Err(Failure::Refused(p)) if p["code"] == "opted_out");
        let good = outcome.good && opted_out;
        Ok(Outcome { good, ..outcome })
    }

    async fn strike(self) {
        self.server.shutdown().await;
        self.north.shutdown().await;
        self.south.shutdown().await;
    }
}

/// Where one sample ended.
struct Outcome {
    name: &'static str,
    expect: Expect,
    good: bool,
    record: Value,
}

impl Outcome {
    fn json(&self) -> Value {
        json!({ "name": self.name, "good": self.good, "message": self.record })
    }

    fn print(&self) {
        let mark = if self.good { "✓" } else { "✗" };
        println!("{mark} {}", self.name);
        for line in message::trace_text(&self.record).lines() {
            println!("    {line}");
        }
        if !self.good {
            println!("    expected: {}", self.expect);
        }
        println!();
    }
}

fn print_summary(outcomes: &[Outcome], verified: usize, forged: usize) {
    let good = outcomes.iter().filter(|o| o.good).count();
    println!(
        "{good} of {} samples are where they should be; {verified} signed webhooks arrived, {forged} with a bad signature.",
        outcomes.len()
    );
}

fn print_next_steps(url: &str, key: &str) {
    println!("\nStill running. Try next, in another terminal:\n");
    println!(
        "  curl -s {url}/v1/messages -H 'Authorization: Bearer {key}' \\\n    -d '{{\"to\": \"+447700900123\", \"from\": \"Acme\", \"text\": \"Hello\"}}'\n"
    );
    println!(
        "  curl -s {url}/v1/messages/preview -H 'Authorization: Bearer {key}' \\\n    -d '{{\"to\": \"+4915112345678\", \"from\": \"Acme\", \"text\": \"Win at the c a s i n o\"}}'\n"
    );
    println!("  curl -s {url}/v1/carriers -H 'Authorization: Bearer {key}'\n");
    println!("Ctrl-C ends it.");
}

fn progress(samples: usize, quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(samples as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}") {
        bar.set_style(style);
    }
    bar
}

async fn simulator(settings: Settings) -> Result<Simulator, String> {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .map_err(|e| e.to_string())?;
    Simulator::start(settings, Clock::system(), listener, None).map_err(|e| e.to_string())
}

/// The address the user wants, or one with a free port where that is taken.
async fn free_or(wanted: std::net::SocketAddr) -> Result<std::net::SocketAddr, String> {
    let listener = match TcpListener::bind(wanted).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind((wanted.ip(), 0))
            .await
            .map_err(|e| format!("{}: {e}", wanted.ip()))?,
    };
    listener.local_addr().map_err(|e| e.to_string())
}

fn write_key(key: &str) -> Result<(), String> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = Path::new("demo/api-key");
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all("demo")?;
        let mut file = std::fs::File::options()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        writeln!(file, "{key}")
    };
    write().map_err(|e| format!("{}: {e}", path.display()))
}

fn now_ms() -> u64 {
    Clock::system().now().millis()
}

async fn wait_for_interrupt() -> Result<(), String> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(|e| e.to_string()),
        _ = terminate.recv() => Ok(()),
    }
}
