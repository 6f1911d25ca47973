//! `make prove`: runs the numbered statements and prints the table of verdicts.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use heliograph_tests::Pace;
use heliograph_tests::prove::{
    Part, Run, STATEMENTS, Statement, Verdict, json, prove_part, simulation, table,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

const HELP: &str = "\
Prove what Heliograph promises: run its numbered statements and print a table of verdicts.

Usage: prove [--short] [--seed N] [--soak TIME] [--hours N]
             [--json FILE] [--list] [NUMBER ...]
       prove --trace SEED

  NUMBER       only these statements, such as 1 or 3, or one part of one, such as 5.2
  --short      the form that `make test` runs
  --seed N     repeat a run's chances (it is printed); default: drawn
  --soak TIME  how long the soak of statement 11 takes, such as 60m; default: 8m
  --hours N    how many hours statement 12 lives through, one by each seed from --seed on; default: 2000
  --json FILE  also write the table as JSON, - for standard output alone
  --list       tell which statements there are
  --trace SEED tell all that happens in the simulation of one seed, as statement 12 names it

Example:
  make prove ARGS='--seed 7 1 2'";

struct Args {
    run: Run,
    json: Option<PathBuf>,
    list: bool,
    trace: Option<u64>,
    /// Statements, and parts of them counted from one.
    numbers: Vec<(u8, Option<usize>)>,
}

impl Args {
    fn wants(&self, statement: &Statement, part: usize) -> bool {
        let named = |(number, of_it): &(u8, Option<usize>)| {
            *number == statement.number && of_it.is_none_or(|of_it| of_it == part)
        };
        self.numbers.is_empty() || self.numbers.iter().any(named)
    }
}

/// The parts that are to be run.
fn chosen(args: &Args) -> impl Iterator<Item = (&'static Statement, usize, &'static Part)> {
    let all = STATEMENTS.iter().flat_map(|statement| {
        let parts = statement.parts.iter().zip(1..);
        parts.map(move |(part, n)| (statement, n, part))
    });
    all.filter(|(statement, n, _)| args.wants(statement, *n))
}

/// `5`, or `5.2`.
fn number(word: &str) -> Result<(u8, Option<usize>), String> {
    let (number, part) = match word.split_once('.') {
        Some((number, part)) => (number, Some(part)),
        None => (word, None),
    };
    let odd = || format!("{word} is no option and no statement's number");
    let number: u8 = number.parse().map_err(|_| odd())?;
    let part: Option<usize> = part.map(str::parse).transpose().map_err(|_| odd())?;
    let statement = STATEMENTS.iter().find(|s| s.number == number);
    let parts = statement.map_or(0, |s| s.parts.len());
    match part {
        _ if parts == 0 => Err(format!("there is no statement {number}; see --list")),
        Some(part) if !(1..=parts).contains(&part) => Err(format!(
            "statement {number} has parts 1 to {parts}; see --list"
        )),
        part => Ok((number, part)),
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args {
        run: Run {
            long: true,
            seed: rand::random::<u32>().into(),
            soak: None,
            hours: None,
        },
        json: None,
        list: false,
        trace: None,
        numbers: Vec::new(),
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--short" => args.run.long = false,
            "--list" => args.list = true,
            "--seed" => {
                let seed = words.next().and_then(|w| w.parse().ok());
                args.run.seed = seed.ok_or("--seed takes a number")?;
            }
            "--soak" => {
                let time = words.next().and_then(|w| minutes(&w));
                args.run.soak = Some(time.ok_or("--soak takes minutes, as in 60m")?);
            }
            "--hours" => {
                let hours = words.next().and_then(|w| w.parse().ok());
                args.run.hours = Some(hours.ok_or("--hours takes a number")?);
            }
            "--trace" => {
                let seed = words.next().and_then(|w| w.parse().ok());
                args.trace = Some(seed.ok_or("--trace takes a seed")?);
            }
            "--json" => args.json = Some(words.next().ok_or("--json takes a file")?.into()),
            word => args.numbers.push(number(word)?),
        }
    }
    Ok(args)
}

/// `60m`; two at least: in shorter days nothing could be held against anything.
fn minutes(word: &str) -> Option<Duration> {
    let minutes: u64 = word.strip_suffix('m')?.parse().ok()?;
    (2..=10_000)
        .contains(&minutes)
        .then(|| Duration::from_secs(minutes * 60))
}

/// The server of statement 11: `prove serve PACE CONFIG`, as `heliograph serve --config CONFIG` by that clock.
fn serve(mut words: impl Iterator<Item = String>) -> ExitCode {
    let (pace, config) = (words.next(), words.next());
    match (pace.map(|p| p.parse::<Pace>()), config) {
        (Some(Ok(pace)), Some(config)) => heliograph::cli::serve_by(pace.clock(), config.into()),
        (Some(Err(error)), _) => {
            eprintln!("prove serve: {error}");
            ExitCode::from(2)
        }
        _ => {
            eprintln!("prove serve: PACE CONFIG");
            ExitCode::from(2)
        }
    }
}

async fn trace(seed: u64) -> ExitCode {
    let simulate = move || simulation::simulate(seed, true);
    let Ok(told) = tokio::task::spawn_blocking(simulate).await else {
        return ExitCode::FAILURE;
    };
    for line in &told.trace {
        println!("{line}");
    }
    for fault in &told.faults {
        eprintln!("prove: seed {seed}: {fault}");
    }
    match told.faults.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// As the server has it: its memory is judged.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("serve") => serve(std::env::args().skip(2)),
        // The server's own helper.
        Some("plugin") => heliograph::cli::main(),
        _ => prove(),
    }
}

/// How long what is stopped may take to end, which simulations do not do by themselves.
const END_MAX: Duration = Duration::from_secs(5);
/// 128 and SIGINT's number, as shells have it.
const STOPPED: u8 = 130;

/// Turns true with SIGINT or SIGTERM, so that no server is left behind.
fn stopped() -> std::io::Result<watch::Receiver<bool>> {
    let (mut int, mut term) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
        stop.send_replace(true);
        tokio::time::sleep(END_MAX).await;
        std::process::exit(STOPPED.into());
    });
    Ok(stopped)
}

#[tokio::main]
async fn prove() -> ExitCode {
    if std::env::args().any(|a| a == "--help" || a == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("prove: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    if let Some(seed) = args.trace {
        return trace(seed).await;
    }
    if args.list {
        for (statement, n, part) in chosen(&args) {
            let number = format!("{}.{n}", statement.number);
            println!("{number:>5} {}: {}", statement.name, part.name);
        }
        return ExitCode::SUCCESS;
    }
    let stopped = match stopped() {
        Ok(stopped) => stopped,
        Err(error) => {
            eprintln!("prove: signals cannot be listened to: {error}");
            return ExitCode::FAILURE;
        }
    };
    eprintln!("seed {}", args.run.seed);
    let mut rows = Vec::new();
    for (statement, n, part) in chosen(&args) {
        eprintln!(
            "{}.{n} {}: {} ...",
            statement.number, statement.name, part.name
        );
        let mut stop = stopped.clone();
        let stop = async move { drop(stop.wait_for(|stop| *stop).await) };
        let row = prove_part(statement, part, args.run, stop).await;
        if *stopped.borrow() {
            eprintln!("    stopped");
            return ExitCode::from(STOPPED);
        }
        let verdict = match &row.outcome.verdict {
            Verdict::Holds => "holds".to_owned(),
            Verdict::Fails(why) => format!("FAILS: {why}"),
            Verdict::NotRun(why) => format!("not run: {why}"),
        };
        eprintln!("    {verdict} ({:.0} s)", row.took.as_secs_f64());
        if !row.outcome.note.is_empty() {
            eprintln!("    {}", row.outcome.note);
        }
        rows.push(row);
    }
    let to_standard_output = args.json.as_ref().is_some_and(|f| f.as_os_str() == "-");
    if to_standard_output {
        println!("{:#}", json(&rows));
    } else {
        print!("{}", table(&rows));
    }
    if let Some(file) = args.json.filter(|_| !to_standard_output)
        && let Err(error) = std::fs::write(&file, format!("{:#}\n", json(&rows)))
    {
        eprintln!("prove: {}: {error}", file.display());
        return ExitCode::FAILURE;
    }
    let fails =
        |row: &heliograph_tests::prove::Row| matches!(row.outcome.verdict, Verdict::Fails(_));
    match rows.iter().any(fails) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}
