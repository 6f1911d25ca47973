//! `heliograph smsc`: the SMSC simulator as a program of its own. Owns its flags and what it prints;
//! the simulator itself is `carrier::simulator`.

use std::net::SocketAddr;
use std::process::ExitCode;

use tokio::net::TcpListener;

use crate::carrier::simulator::{Settings, Simulator};
use crate::clock::Clock;

const EXAMPLE: &str = "\
Example: a carrier that is slow, refuses 5 % with ESME_RSYSERR, loses 1 % of its receipts, and
writes ids in hexadecimal in its responses and in decimal in its receipts:

  heliograph smsc --listen 127.0.0.1:2775 --control 127.0.0.1:2776 --bind heliograph:secret \\
    --latency-ms 20 --latency-jitter-ms 30 --throughput 200 --error 0x08=0.05 \\
    --receipt-loss-rate 0.01 --id-response hex-lower --rule 447700900999=UNDELIV:001

While it runs:

  curl 127.0.0.1:2776/counters
  curl '127.0.0.1:2776/received?since=0&limit=10'
  curl 127.0.0.1:2776/settings -d '{\"swallow_rate\": 0.1}'
  curl 127.0.0.1:2776/mo -d '{\"from\": \"447700900123\", \"to\": \"60777\", \"text\": \"STOP\"}'
  curl -X POST 127.0.0.1:2776/drop";

/// Simulate an SMSC: SMPP 3.4 with settable faults, and a control API
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// Where to serve SMPP; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:2775")]
    pub listen: SocketAddr,
    /// Where to serve the control API, on loopback alone
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:2776")]
    pub control: SocketAddr,
    /// Print one JSON object with the addresses instead of text
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: Settings,
}

/// Runs until it is interrupted.
pub async fn run(args: Args) -> ExitCode {
    match serve(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("heliograph smsc: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> Result<(), String> {
    let smpp = bind(args.listen, "--listen").await?;
    let control = bind(args.control, "--control").await?;
    let simulator = Simulator::start(args.settings, Clock::system(), smpp, Some(control))
        .map_err(|e| e.to_string())?;
    let control = simulator.control_address().unwrap_or(args.control);
    if args.json {
        let addresses = serde_json::json!({
            "smpp": simulator.address().to_string(),
            "control": format!("http://{control}"),
        });
        println!("{addresses}");
    } else {
        println!(
            "SMSC simulator: SMPP on {}, control on http://{control}",
            simulator.address()
        );
        println!("Try: curl http://{control}/counters");
    }
    stopped()
        .await
        .map_err(|e| format!("cannot wait for a signal: {e}"))?;
    let counters = simulator.counters();
    if !args.json {
        println!(
            "Took {} of {} messages; {} receipts sent, {} acknowledged.",
            counters.accepted, counters.submits, counters.receipts_sent, counters.receipts_acked
        );
    }
    simulator.shutdown().await;
    Ok(())
}

async fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address)
        .await
        .map_err(|e| format!("cannot listen on {address} ({flag}): {e}"))
}

/// SIGINT or SIGTERM.
async fn stopped() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn without_flags_the_settings_are_the_defaults() {
        let cli = Cli::parse_from(["smsc"]);
        assert_eq!(cli.args.settings, Settings::default());
    }

    #[test]
    fn flags_set_what_they_name() {
        let cli = Cli::parse_from([
            "smsc",
            "--error",
            "0x08=0.05",
            "--error",
            "0x14=0.1",
            "--receipts",
            "false",
            "--bind",
            "a:b",
            "--rule",
            "447700900999=UNDELIV:001",
            "--bind-status",
            "0x0d",
            "--id-response",
            "hex-lower",
        ]);
        let expect = Settings {
            errors: vec!["0x08=0.05".parse().unwrap(), "0x14=0.1".parse().unwrap()],
            receipts: false,
            binds: vec!["a:b".parse().unwrap()],
            rules: vec!["447700900999=UNDELIV:001".parse().unwrap()],
            bind_status: 0x0D,
            id_response: crate::carrier::simulator::IdStyle::HexLower,
            ..Settings::default()
        };
        assert_eq!(cli.args.settings, expect);
    }

    #[test]
    fn the_example_in_the_help_is_one() {
        let command = EXAMPLE
            .split("heliograph smsc ")
            .nth(1)
            .and_then(|s| s.split("\n\n").next())
            .unwrap();
        let words = command.split_whitespace().filter(|w| *w != "\\");
        let cli = Cli::try_parse_from(std::iter::once("smsc").chain(words));
        assert!(cli.is_ok_and(|c| c.args.settings.validate().is_ok()));
    }
}
