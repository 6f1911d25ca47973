//! `heliograph numbers`: look a number up at a running server, and check tables of networks before a
//! server reads them. Turns answers into words; decides nothing.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

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
