//! `heliograph serve` and `heliograph check`: the configuration file in, a running server or a
//! verdict out.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::app;
use crate::clock::Clock;
use crate::config::{Config, LogFormat};
use crate::telemetry;

/// Run the server
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  heliograph serve --config heliograph.toml")]
pub struct ServeArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "heliograph.toml")]
    pub config: PathBuf,
    /// Print the addresses as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Check the configuration and the policy it names; start nothing
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  heliograph check --config heliograph.toml && systemctl reload heliograph"
)]
pub struct CheckArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "heliograph.toml")]
    pub config: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs until SIGINT or SIGTERM; SIGHUP reads the policy again.
pub async fn serve(args: ServeArgs, clock: Clock) -> ExitCode {
    match run(&args, clock).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("heliograph serve: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &ServeArgs, clock: Clock) -> Result<(), String> {
    let (config, base) = load(&args.config)?;
    telemetry::start(&config.log.filter, config.log.format == LogFormat::Json)?;
    telemetry::tell_panics();
    let failed = |e: std::io::Error| e.to_string();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let server = app::start(&config, &base, clock)
        .await
        .map_err(|e| e.to_string())?;
    if args.json {
        let text = |address: Option<std::net::SocketAddr>| address.map(|a| a.to_string());
        let addresses = serde_json::json!({
            "address": text(server.address), "tls_address": text(server.tls_address),
            "admin_address": text(server.admin_address),
            "admin_tls_address": text(server.admin_tls_address),
        });
        println!("{addresses}");
    }
    let address = server
        .address
        .or(server.tls_address)
        .map(tracing::field::display);
    tracing::info!(
        address,
        tls = server.tls_address.is_some(),
        carriers = config.carriers.len(),
        "accepting messages"
    );
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = hangup.recv() => server.reload(),
        }
    }
    tracing::info!("shutting down");
    server.shutdown().await;
    Ok(())
}

/// Says all that can be said about a configuration without starting it.
pub async fn check(args: CheckArgs) -> ExitCode {
    let checked = match load(&args.config) {
        Ok((config, base)) => app::check(&config, &base).await.map_err(|e| e.to_string()),
        Err(error) => Err(error),
    };
    match (&checked, args.json) {
        (Ok(found), false) => println!(
            "{}: good: {}",
            args.config.display(),
            found.replace('\n', "; ")
        ),
        (Err(error), false) => eprintln!("heliograph check: {error}"),
        (Ok(found), true) => println!("{}", serde_json::json!({ "good": true, "found": found })),
        (Err(error), true) => println!("{}", serde_json::json!({ "good": false, "error": error })),
    }
    match checked {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn load(path: &Path) -> Result<(Config, PathBuf), String> {
    let config = Config::load(path, std::env::vars()).map_err(|e| e.to_string())?;
    let base = path.parent().unwrap_or(Path::new("")).to_owned();
    Ok((config, base))
}
