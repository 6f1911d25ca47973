//! `heliograph numbers`: look a number up at a running server, and check tables of networks before a
//! server reads them. Turns answers into words; decides nothing.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use axum::body::Bytes;
use axum::http::Method;
use serde_json::{Value, json};

use super::client::{Client, Failure, Target, escaped, query};
use super::message::network_text;
use super::send::{print, text};
use crate::pipeline::numbers::{Columns, NetworkTable};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Tell what the server knows of a number: country, network, kind, wall clock
    #[command(after_help = "Example:\n  heliograph numbers lookup +447700900123")]
    Lookup(Lookup),
    /// Delete what the server has of a number: texts, the number itself, what clients wrote beside it
    #[command(
        after_help = "What waits is canceled first; what a carrier has stays until it has ended, and is counted as under way: repeat the command then. The opt-out of the number stays. Message records stay too, without number and text.\n\nExample:\n  heliograph numbers forget +447700900123"
    )]
    Forget(Forget),
    /// Read tables of networks as the server would
    #[command(
        after_help = "Example:\n  heliograph numbers check --networks networks.tsv --ported ported.tsv"
    )]
    Check(Check),
}

#[derive(Debug, clap::Args)]
pub struct Lookup {
    /// The number, in international form or as it is dialled in --region
    pub number: String,
    /// ISO 3166-1 alpha-2: GB
    #[arg(long)]
    pub region: Option<String>,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, clap::Args)]
pub struct Forget {
    /// The number, in international form
    pub number: String,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, clap::Args)]
pub struct Check {
    /// prefix, country, mcc, mnc, operator
    #[arg(long, value_name = "FILE", required_unless_present = "ported")]
    pub networks: Option<PathBuf>,
    /// number or prefix, mcc, mnc, operator
    #[arg(long, value_name = "FILE")]
    pub ported: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Lookup(lookup) => {
            let pairs = [("region", lookup.region)];
            let path = format!("/v1/numbers/{}{}", escaped(&lookup.number), query(&pairs));
            let found = Client::new(&lookup.target)?.get(&path).await?;
            print(&found, lookup.target.json, lookup_text);
        }
        Command::Forget(forget) => {
            let counts = forget_all(&forget).await?;
            print(&counts, forget.target.json, forgotten_text);
        }
        Command::Check(check) => {
            let files = [
                ("networks", check.networks, Columns::Networks),
                ("ported", check.ported, Columns::Ported),
            ];
            let mut report = serde_json::Map::new();
            for (name, path, columns) in files {
                let Some(path) = path else { continue };
                let started = Instant::now();
                let table = NetworkTable::load(&path, columns)
                    .map_err(|e| Failure::Failed(format!("{}: {e}", path.display())))?;
                let figures = json!({
                    "rows": table.len(),
                    "memory_octets": table.memory(),
                    "read_ms": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                });
                report.insert(name.to_owned(), figures);
            }
            print(&Value::Object(report), check.json, check_text);
        }
    }
    Ok(())
}

/// Piece by piece, and the counts of all of them.
async fn forget_all(forget: &Forget) -> Result<Value, Failure> {
    let client = Client::new(&forget.target)?;
    let mut counts = serde_json::Map::new();
    let mut cursor = None;
    loop {
        let path = format!(
            "/v1/numbers/{}/data{}",
            escaped(&forget.number),
            query(&[("cursor", cursor)])
        );
        let piece = client
            .call(Method::DELETE, &path, &[], Bytes::new())
            .await?;
        for (name, value) in piece.as_object().into_iter().flatten() {
            if let Some(n) = value.as_u64() {
                let sum = counts.get(name).and_then(Value::as_u64).unwrap_or(0) + n;
                counts.insert(name.clone(), sum.into());
            }
        }
        cursor = piece["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            return Ok(Value::Object(counts));
        }
    }
}

fn forgotten_text(counts: &Value) -> String {
    let count = |name: &str| counts[name].as_u64().unwrap_or(0);
    let mut out = format!(
        "forgotten: {} messages ({} of them canceled first), {} inbound, {} parts, {} receipts, {} recorded decisions",
        count("messages"),
        count("canceled"),
        count("inbound"),
        count("fragments"),
        count("receipts"),
        count("recorded")
    );
    if count("under_way") > 0 {
        let _ = write!(
            out,
            "\n{} messages are at a carrier: repeat this once they have ended",
            count("under_way")
        );
    }
    out
}

fn lookup_text(found: &Value) -> String {
    let mut out = format!(
        "{}\n  {} at home, {} from abroad",
        text(found, "number"),
        text(found, "national"),
        text(found, "international")
    );
    let judged = match (found["possible"] == true, found["valid"] == true) {
        (_, true) => "of a range in use",
        (true, false) => "possible, of no range in use",
        (false, false) => "not possible: its country has no numbers of this length",
    };
    let _ = write!(out, "\n  {judged}");
    if let Some(kind) = found["kind"].as_str() {
        let _ = write!(out, ", {}", kind.replace('_', " "));
    }
    let _ = write!(
        out,
        "\n  network {}",
        network_text(&found["network"]).unwrap_or_else(|| "unknown".to_owned())
    );
    for (name, label) in [
        ("operator", "operator"),
        ("mcc_mnc", "mcc-mnc"),
        ("matched_prefix", "found by"),
        ("range_mcc_mnc", "first given to"),
    ] {
        if !text(found, name).is_empty() {
            let _ = write!(out, "\n  {label} {}", text(found, name));
        }
    }
    if let Some(minutes) = found["utc_offset_minutes"].as_i64() {
        let sign = if minutes < 0 { '-' } else { '+' };
        let minutes = minutes.abs();
        let _ = write!(
            out,
            "\n  wall clock UTC{sign}{:02}:{:02}",
            minutes / 60,
            minutes % 60
        );
    }
    out
}

fn check_text(report: &Value) -> String {
    let lines = report
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, figures)| {
            let mib =
                figures["memory_octets"].as_u64().unwrap_or_default() as f64 / f64::from(1 << 20);
            format!(
                "{name}: {} rows, {mib:.1} MiB in memory, read in {} ms",
                figures["rows"], figures["read_ms"]
            )
        });
    lines.collect::<Vec<_>>().join("\n")
}
