//! `heliograph send`: one message from the command line, and its way to the end where asked.

use std::time::{Duration, Instant};

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::client::{Client, Failure, Target};
use super::message;
use crate::domain::State;
use crate::telemetry::inert;

/// Send a message
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  heliograph send +447700900123 'Your parcel arrives today.' --from Acme
  heliograph send +447700900123 '123456 is your code' --class otp --wait
  heliograph send +447700900123 'Sale!' --class promotional --preview")]
pub struct Args {
    /// The recipient: +447700900123
    pub to: String,
    /// The text
    pub text: String,
    /// The sender: a number, a short code, or at most 11 characters
    #[arg(long, default_value = "Heliograph", value_name = "SENDER")]
    pub from: String,
    /// Where the numbers are dialled if they have no country code: GB
    #[arg(long)]
    pub region: Option<String>,
    /// otp, transactional, promotional or alert
    #[arg(long)]
    pub class: Option<String>,
    /// When to send it: 2026-11-22T09:00:00Z
    #[arg(long, value_name = "TIME")]
    pub send_at: Option<String>,
    /// How long it may wait for its phone
    #[arg(long, value_name = "SECONDS")]
    pub validity_seconds: Option<u64>,
    /// Your own name for the message
    #[arg(long)]
    pub reference: Option<String>,
    /// Where its receipts go
    #[arg(long, value_name = "URL")]
    pub receipt_url: Option<String>,
    /// Metadata; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub metadata: Vec<(String, String)>,
    /// The same key and message again sends nothing twice
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Tell what would happen and send nothing
    #[arg(long, conflicts_with = "wait")]
    pub preview: bool,
    /// Wait for the final state and show the trace
    #[arg(long)]
    pub wait: bool,
    /// How long to wait
    #[arg(long, default_value_t = 60, value_name = "SECONDS", requires = "wait")]
    pub timeout: u64,
    #[command(flatten)]
    pub target: Target,
}

/// How often `--wait` looks.
const POLL: Duration = Duration::from_millis(200);

pub async fn run(args: Args) -> Result<(), Failure> {
    let client = Client::new(&args.target)?;
    let body = body_of(&args);
    if args.preview {
        let preview = client.post("/v1/messages/preview", &body).await?;
        print(&preview, args.target.json, message::preview_text);
        return Ok(());
    }
    let mut headers = vec![("content-type", "application/json")];
    if let Some(key) = &args.idempotency_key {
        headers.push(("idempotency-key", key));
    }
    let accepted = client
        .call(
            Method::POST,
            "/v1/messages",
            &headers,
            body.to_string().into(),
        )
        .await?;
    if !args.wait {
        print(&accepted, args.target.json, |a| {
            let segments = message::segments(a);
            format!(
                "{} {} ({segments})\nheliograph message trace {}",
                text(a, "id"),
                text(a, "status"),
                text(a, "id")
            )
        });
        return Ok(());
    }
    let last = wait(
        &client,
        text(&accepted, "id"),
        Duration::from_secs(args.timeout),
    )
    .await?;
    print(&last, args.target.json, message::trace_text);
    let status = text(&last, "status");
    match State::from_name(status) {
        Some(State::Delivered) => Ok(()),
        Some(state) if state.is_terminal() => {
            Err(Failure::Failed(format!("the message ended as {status}")))
        }
        _ => Err(Failure::Failed(format!(
            "the message is still {status} after {} seconds",
            args.timeout
        ))),
    }
}

async fn wait(client: &Client, id: &str, at_most: Duration) -> Result<Value, Failure> {
    let start = Instant::now();
    loop {
        let shown = client.get(&format!("/v1/messages/{id}")).await?;
        let ended = State::from_name(text(&shown, "status")).is_some_and(State::is_terminal);
        if ended || start.elapsed() >= at_most {
            return Ok(shown);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Prints an answer as it came, or in words.
pub fn print(answer: &Value, as_json: bool, words: impl Fn(&Value) -> String) {
    use std::io::Write as _;
    let text = if as_json {
        format!("{answer:#}")
    } else {
        // Texts and names from anywhere are in it, and a terminal obeys.
        let lines: Vec<String> = words(answer).lines().map(inert).collect();
        lines.join("\n")
    };
    // Whoever reads has enough of it, as `head` has: no reason to complain.
    let _ = writeln!(std::io::stdout(), "{text}");
}

pub fn text<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer[name].as_str().unwrap_or_default()
}

fn body_of(args: &Args) -> Value {
    let mut body = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    put("to", Some(json!(args.to)));
    put("from", Some(json!(args.from)));
    put("text", Some(json!(args.text)));
    put("region", args.region.as_ref().map(|v| json!(v)));
    put("class", args.class.as_ref().map(|v| json!(v)));
    put("send_at", args.send_at.as_ref().map(|v| json!(v)));
    put("validity_seconds", args.validity_seconds.map(|v| json!(v)));
    put("reference", args.reference.as_ref().map(|v| json!(v)));
    put("receipt_url", args.receipt_url.as_ref().map(|v| json!(v)));
    if !args.metadata.is_empty() {
        let pairs: Map<String, Value> = args
            .metadata
            .iter()
            .map(|(k, v)| (k.clone(), json!(v)))
            .collect();
        put("metadata", Some(pairs.into()));
    }
    body.into()
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| "is no KEY=VALUE".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}
