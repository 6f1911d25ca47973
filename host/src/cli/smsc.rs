//! `heliograph smsc`: the SMSC simulator as a program of its own. Owns its flags and what it prints;
//! the simulator itself is `carrier::simulator`.

use std::net::SocketAddr;
use std::process::ExitCode;

use std::path::PathBuf;

use clap::parser::ValueSource;
use serde_json::{Map, Value};
use tokio::net::TcpListener;

use crate::carrier::simulator::{PERSONAS, Persona, Program, Script, Settings, Simulator};
use crate::clock::Clock;

const EXAMPLE: &str = "\
Example: a carrier that is slow, refuses 5 % with ESME_RSYSERR, loses 1 % of its receipts, and
writes ids in hexadecimal in its responses and in decimal in its receipts:

  heliograph smsc --listen 127.0.0.1:2775 --control 127.0.0.1:2776 --bind heliograph:secret \\
    --latency-ms 20 --latency-jitter-ms 30 --throughput 200 --error 0x08=0.05 \\
    --receipt-loss-rate 0.01 --id-response hex-lower --rule 447700900999=UNDELIV:001

A carrier that comes and goes, the same way every time:

  heliograph smsc --persona flapping --seed 7

A carrier of your own, told by a script of settings and steps (a persona is such a script; see one
with `heliograph smsc --persona flapping --show`):

  heliograph smsc --script carrier.toml

    about = \"throttles at night\"
    [set]                          # throughout, by the names of /settings
    latency_ms = 20
    [[step]]
    for_ms = 60000
    jitter_ms = 5000               # up to so much longer, by the seed
    [[step]]
    act = \"drop\"                 # once, as the step begins: drop, unbind or garbage
    for_ms = 30000
    set = { throughput = 5 }       # this step alone

Steps repeat, unless `repeat = false`. Flags hold throughout, over what a script or persona says.

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
    /// Be one of the carriers that come with the program; --list tells of them
    #[arg(long, value_name = "NAME", conflicts_with = "script")]
    pub persona: Option<String>,
    /// Be the carrier that this TOML file describes
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// List the personas
    #[arg(long)]
    pub list: bool,
    /// Print the script of the persona instead of being it
    #[arg(long, requires = "persona")]
    pub show: bool,
    #[command(flatten)]
    pub settings: Given,
}

/// The settings, and which of them the command line names: those hold over a script's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    pub settings: Settings,
    pub named: Vec<String>,
}

impl Given {
    /// The settings that were named, by their names in JSON.
    fn over(&self) -> Result<Map<String, Value>, String> {
        let all = serde_json::to_value(&self.settings).map_err(|e| e.to_string())?;
        let all = all.as_object().cloned().unwrap_or_default();
        let named = |name: &String| self.named.contains(name);
        Ok(all.into_iter().filter(|(name, _)| named(name)).collect())
    }
}

impl clap::FromArgMatches for Given {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Given, clap::Error> {
        let named = matches.ids().map(|id| id.as_str());
        // Groups have ids too, and no source.
        let given = |id: &&str| {
            matches!(matches.try_contains_id(id), Ok(true))
                && matches.value_source(id) == Some(ValueSource::CommandLine)
        };
        Ok(Given {
            named: named.filter(given).map(str::to_owned).collect(),
            settings: Settings::from_arg_matches(matches)?,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        *self = Given::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Given {
    fn augment_args(command: clap::Command) -> clap::Command {
        Settings::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Settings::augment_args_for_update(command)
    }
}

/// Runs until it is interrupted.
pub async fn run(args: Args) -> ExitCode {
    let done = match (args.list, args.show) {
        (true, _) => list(args.json),
        (false, true) => show(&args),
        (false, false) => serve(args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("heliograph smsc: {message}");
            ExitCode::FAILURE
        }
    }
}

fn list(json: bool) -> Result<(), String> {
    let mut all = Vec::new();
    for persona in PERSONAS {
        let about = persona.script().map_err(|e| e.to_string())?.about;
        if json {
            all.push(serde_json::json!({"name": persona.name, "about": about}));
        } else {
            println!("{:<18}{about}", persona.name);
        }
    }
    if json {
        println!("{}", Value::Array(all));
    }
    Ok(())
}

fn show(args: &Args) -> Result<(), String> {
    let name = args.persona.as_deref().unwrap_or_default();
    let persona = Persona::find(name).map_err(|e| e.to_string())?;
    print!("{}", persona.text);
    Ok(())
}

/// What the simulator is to be: plain settings, a persona or a script.
fn program(args: &Args) -> Result<Program, String> {
    let script = match (&args.persona, &args.script) {
        (Some(name), _) => Persona::find(name).and_then(|p| p.script()),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file)
                .map_err(|e| format!("cannot read {}: {e}", file.display()))?;
            Script::parse(&text)
        }
        (None, None) => return Ok(args.settings.settings.clone().into()),
    };
    let over = args.settings.over()?;
    let program = script.and_then(|s| s.program(&over));
    program.map_err(|e| match &args.script {
        Some(file) => format!("{}: {e}", file.display()),
        None => e.to_string(),
    })
}

async fn serve(args: Args) -> Result<(), String> {
    let program = program(&args)?;
    let smpp = bind(args.listen, "--listen").await?;
    let control = bind(args.control, "--control").await?;
    let simulator = Simulator::start(program, Clock::system(), smpp, Some(control))
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
        assert_eq!(cli.args.settings, Given::default());
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
        assert_eq!(cli.args.settings.settings, expect);
    }

    #[test]
    fn flags_hold_over_a_persona_even_where_they_name_the_default() {
        let flags = [
            "smsc",
            "--persona",
            "slow",
            "--seed",
            "7",
            "--latency-ms",
            "0",
        ];
        let program = program(&Cli::parse_from(flags).args).unwrap();
        let settings = &program.first;
        assert_eq!((settings.seed, settings.latency_ms), (7, 0));
        assert_eq!(settings.latency_jitter_ms, 2000, "the persona's own");
        assert!(program.steps.iter().all(|s| s.settings.latency_ms == 0));
    }

    #[test]
    fn a_script_that_cannot_be_read_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("carrier.toml");
        let path = file.to_str().unwrap();
        let error = || program(&Cli::parse_from(["smsc", "--script", path]).args).unwrap_err();
        assert!(error().contains("cannot read"));
        std::fs::write(&file, "[set]\nlatency = 1").unwrap();
        assert!(error().contains("carrier.toml: set:"), "{}", error());
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
        assert!(cli.is_ok_and(|c| c.args.settings.settings.validate().is_ok()));
    }
}
