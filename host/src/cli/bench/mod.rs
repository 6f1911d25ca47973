//! `heliograph bench`: the whole path on loopback, as three processes: the server, the SMSC
//! simulator and this load generator. Lost and duplicated are counted from the simulator's own
//! record, not from the server's word.

mod codec;
mod esme;
mod hooks;
mod hostile;
mod load;
mod rig;
mod smpp;
mod trials;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use load::{Pace, Run, Target};
use rig::Rig;

const EXAMPLE: &str = "\
Examples:
  heliograph bench --json
  heliograph bench --runs 3 --seconds 15
  heliograph bench --backlog 1000000
  heliograph bench --swaps 20
  heliograph bench --trials --runs 3
  heliograph bench --hostile --runs 5
  heliograph bench --calls 100000 --json
  heliograph bench --codec 1000
  heliograph bench --smpp --runs 3
  heliograph bench --binds 2000";

/// Measure the whole path on loopback, with policy hooks on and off
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// Length of each phase (closed loop, then open loop)
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Keep-alive HTTP connections
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Runs of each mode; the one with the median throughput is reported
    #[arg(long, default_value_t = 1)]
    pub runs: usize,
    /// Only with hooks, or only without
    #[arg(long, value_enum)]
    pub hooks: Option<Hooks>,
    /// Submissions per second of the open loop; default: half of what the closed loop reached
    #[arg(long)]
    pub rate: Option<f64>,
    /// Instead: queue so many messages for a carrier that is away, and measure memory and restart
    #[arg(long, value_name = "MESSAGES")]
    pub backlog: Option<u64>,
    /// Instead: swap the policy set so many times under load at half of peak
    #[arg(long, value_name = "TIMES")]
    pub swaps: Option<u32>,
    /// Instead: what recording and shadowing cost, how fast a replay is, how long an activation takes
    #[arg(long)]
    pub trials: bool,
    /// Instead: the same load without and with hostile plugins beside the bundled ones
    #[arg(long)]
    pub hostile: bool,
    /// Instead: call each plugin's decision hook so many times, alone, and print its median
    #[arg(long, value_name = "TIMES")]
    pub calls: Option<u32>,
    /// Instead: submit over SMPP, without TLS and with it
    #[arg(long)]
    pub smpp: bool,
    /// SMPP sessions that carry the load of --smpp
    #[arg(long, default_value_t = 4, value_name = "SESSIONS")]
    pub binds_of_load: usize,
    /// Instead: so many SMPP sessions that are bound and silent, and their memory
    #[arg(long, value_name = "SESSIONS")]
    pub binds: Option<usize>,
    /// Instead: the codecs alone, so many batches of a thousand calls each, in nanoseconds
    #[arg(long, value_name = "BATCHES")]
    pub codec: Option<u32>,
    /// Folder of the bundled plugins; default: beside the program
    #[arg(long, value_name = "FOLDER")]
    pub plugins: Option<PathBuf>,
    /// Where to keep the data; default: a temporary folder on the current file system
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Hooks {
    On,
    Off,
}

/// The figures of one mode.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    accepted_per_s: f64,
    delivered_per_s: f64,
    submit_ms: Percentiles,
    /// From the client's submission to the carrier's submit_sm.
    carrier_ms: Percentiles,
    cpu_s_per_1000: f64,
    rss_mib: f64,
    idle_rss_mib: f64,
    disk_bytes_per_message: f64,
    messages: u64,
    refused: u64,
    lost: i64,
    duplicated: u64,
    /// Median time of each hook's calls, the border included.
    hook_us: BTreeMap<String, f64>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Percentiles {
    p50: f64,
    p99: f64,
}

/// Runs what was asked for.
pub async fn run(args: Args) -> ExitCode {
    let result = match (args.calls, args.backlog, args.swaps) {
        (Some(times), _, _) => calls(&args, times).await,
        (None, Some(messages), _) => backlog(&args, messages).await,
        (None, None, Some(times)) => swaps(&args, times).await,
        (None, None, None) if args.codec.is_some() => codecs(&args),
        (None, None, None) if args.smpp => smpp::run(&args).await,
        (None, None, None) if args.binds.is_some() => {
            smpp::idle(&args, args.binds.unwrap_or(1)).await
        }
        (None, None, None) if args.hostile => hostile::run(&args).await,
        (None, None, None) if args.trials => trials::run(&args).await,
        (None, None, None) => compare(&args).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("heliograph bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn calls(args: &Args, times: u32) -> Result<(), String> {
    let folder = crate::cli::plugins_folder(args.plugins.as_deref())?;
    let figures = hooks::measure(&folder, times.max(1)).await?;
    if args.json {
        let text = serde_json::to_string(&figures).map_err(|e| e.to_string())?;
        println!("{text}");
        return Ok(());
    }
    for (name, f) in &figures {
        println!(
            "{name:24} {:18} p50 {:6.2} µs  p99 {:6.2} µs",
            f.hook, f.p50_us, f.p99_us
        );
    }
    Ok(())
}

fn codecs(args: &Args) -> Result<(), String> {
    let figures = codec::measure(args.codec.unwrap_or(1))?;
    if args.json {
        println!("{}", serde_json::json!(figures));
        return Ok(());
    }
    for (name, ns) in &figures {
        println!("{name:30} {ns:8.0} ns");
    }
    Ok(())
}

async fn compare(args: &Args) -> Result<(), String> {
    let mut modes = serde_json::Map::new();
    for hooks in [Hooks::On, Hooks::Off] {
        if args.hooks.is_some_and(|only| only != hooks) {
            continue;
        }
        let mut runs = Vec::new();
        for _ in 0..args.runs.max(1) {
            runs.push(measure(args, hooks).await?);
        }
        runs.sort_by(|a, b| a.delivered_per_s.total_cmp(&b.delivered_per_s));
        let median = runs.swap_remove(runs.len() / 2);
        let name = match hooks {
            Hooks::On => "hooks_on",
            Hooks::Off => "hooks_off",
        };
        if !args.json {
            print_figures(name, &median);
        }
        let value = serde_json::to_value(&median).map_err(|e| e.to_string())?;
        modes.insert(name.to_owned(), value);
    }
    if args.json {
        println!("{}", serde_json::Value::Object(modes));
    }
    Ok(())
}

/// One run of one mode: closed loop, drain, open loop at half its rate, drain.
async fn measure(args: &Args, hooks: Hooks) -> Result<Figures, String> {
    let rig = Rig::start(args, hooks, true).await?;
    let idle_rss_mib = rig.server_rss_mib("VmRSS")?;
    let target = rig.target();
    // Caches, pools and connections as they are after a minute of any day.
    let warm = load::run(
        &target,
        args.connections,
        Duration::from_secs(2),
        Pace::Closed,
        0,
    )
    .await?;
    rig.drained(warm.accepted).await?;
    let cpu_before = rig.server_cpu_seconds()?;
    let start = Instant::now();
    let duration = Duration::from_secs(args.seconds);
    let mut next = 1_000_000;
    let closed = load::run(&target, args.connections, duration, Pace::Closed, next).await?;
    let drained = rig.drained(warm.accepted + closed.accepted).await?;
    let delivered_in = drained.duration_since(start);
    let cpu = rig.server_cpu_seconds()? - cpu_before;
    let accepted_per_s = closed.accepted as f64 / closed.took.as_secs_f64();

    next += 10_000_000;
    let rate = args.rate.unwrap_or(accepted_per_s / 2.0);
    let open = load::run(&target, args.connections, duration, Pace::Open(rate), next).await?;
    let total = warm.accepted + closed.accepted + open.accepted;
    rig.drained(total).await?;
    let carrier_ms = carrier_times(&rig, &open).await?;
    let counters = rig.counters().await?;
    let figures = Figures {
        accepted_per_s,
        delivered_per_s: closed.accepted as f64 / delivered_in.as_secs_f64(),
        submit_ms: Percentiles {
            p50: open.submit_percentile_ms(50.0),
            p99: open.submit_percentile_ms(99.0),
        },
        carrier_ms,
        cpu_s_per_1000: cpu * 1000.0 / closed.accepted.max(1) as f64,
        rss_mib: rig.server_rss_mib("VmHWM")?,
        idle_rss_mib,
        disk_bytes_per_message: rig.disk_bytes()? as f64 / total.max(1) as f64,
        messages: total,
        refused: closed.refused + open.refused + closed.failed + open.failed,
        lost: total as i64 - counters.unique as i64,
        duplicated: counters.duplicated,
        hook_us: rig.hook_medians().await?,
    };
    rig.stop().await;
    Ok(figures)
}

/// From submission (client's clock) to submit_sm (simulator's clock, the same machine).
async fn carrier_times(rig: &Rig, run: &Run) -> Result<Percentiles, String> {
    let arrived = rig.arrivals().await?;
    let mut times: Vec<u64> = run
        .samples
        .iter()
        .filter_map(|s| {
            let at_us = arrived.get(&load::recipient(s.number))?;
            Some(at_us.saturating_sub(run.started_unix_us + s.sent_us))
        })
        .collect();
    Ok(Percentiles {
        p50: load::percentile_ms(&mut times, 50.0),
        p99: load::percentile_ms(&mut times, 99.0),
    })
}

/// Memory with a long queue, how soon a restarted server takes the next message, and the queue's end.
async fn backlog(args: &Args, messages: u64) -> Result<(), String> {
    let mut rig = Rig::start(args, Hooks::On, false).await?;
    let target = rig.target();
    let mut queued = 0;
    while queued < messages {
        let run = load::run(
            &target,
            args.connections,
            Duration::from_secs(2),
            Pace::Closed,
            queued,
        )
        .await?;
        if run.accepted == 0 {
            return Err("the server accepts no more".to_owned());
        }
        queued += run.accepted;
    }
    let rss = rig.server_rss_mib("VmRSS")?;
    let peak = rig.server_rss_mib("VmHWM")?;
    let disk = rig.disk_bytes()?;
    let start = Instant::now();
    rig.kill_and_restart().await?;
    let ready = start.elapsed();
    rig.first_submission().await?;
    let first_submission = start.elapsed();
    rig.bring_carrier_back().await?;
    let first_sent = rig.first_arrival(start).await?;
    let total = queued + 1;
    let sending = Instant::now();
    let sent = rig.drained(total).await?.duration_since(sending);
    let counters = rig.counters().await?;
    let report = serde_json::json!({
        "queued": queued,
        "rss_mib": rss,
        "peak_rss_mib": peak,
        "disk_bytes_per_message": disk as f64 / queued as f64,
        "restart_ready_s": ready.as_secs_f64(),
        "restart_first_submission_s": first_submission.as_secs_f64(),
        "restart_first_sent_s": first_sent.as_secs_f64(),
        "drained_per_s": total as f64 / sent.as_secs_f64(),
        "peak_rss_after_restart_mib": rig.server_rss_mib("VmHWM")?,
        "lost": total as i64 - counters.unique as i64,
        "duplicated": counters.duplicated,
    });
    print_report(args, &report);
    rig.stop().await;
    Ok(())
}

/// The same load at half of peak twice: quiet, and while the policy set changes.
async fn swaps(args: &Args, times: u32) -> Result<(), String> {
    let rig = Rig::start(args, Hooks::On, true).await?;
    let target: Target = rig.target();
    let peak = load::run(
        &target,
        args.connections,
        Duration::from_secs(4),
        Pace::Closed,
        0,
    )
    .await?;
    rig.drained(peak.accepted).await?;
    let rate = args
        .rate
        .unwrap_or(peak.accepted as f64 / peak.took.as_secs_f64() / 2.0);
    let duration = Duration::from_secs(args.seconds);
    let quiet = load::run(
        &target,
        args.connections,
        duration,
        Pace::Open(rate),
        10_000_000,
    )
    .await?;
    let swapping = rig.swap_policies(times, duration);
    let (busy, swapped) = tokio::join!(
        load::run(
            &target,
            args.connections,
            duration,
            Pace::Open(rate),
            20_000_000
        ),
        swapping
    );
    let (busy, swapped) = (busy?, swapped?);
    let total = peak.accepted + quiet.accepted + busy.accepted;
    rig.drained(total).await?;
    let counters = rig.counters().await?;
    let report = serde_json::json!({
        "swaps": swapped,
        "rate_per_s": rate,
        "quiet_p99_ms": quiet.submit_percentile_ms(99.0),
        "swapping_p99_ms": busy.submit_percentile_ms(99.0),
        "added_p99_ms": busy.submit_percentile_ms(99.0) - quiet.submit_percentile_ms(99.0),
        "refused": busy.refused + busy.failed,
        "lost": total as i64 - counters.unique as i64,
        "duplicated": counters.duplicated,
    });
    print_report(args, &report);
    rig.stop().await;
    Ok(())
}

fn print_report(args: &Args, report: &serde_json::Value) {
    if args.json {
        println!("{report}");
    } else if let Some(lines) = report.as_object() {
        for (name, value) in lines {
            println!("{name:>28}  {value}");
        }
    }
}

fn print_figures(name: &str, f: &Figures) {
    println!("{name}");
    println!("  accepted      {:>10.0} /s", f.accepted_per_s);
    println!(
        "  delivered     {:>10.0} /s   submit to settled receipt",
        f.delivered_per_s
    );
    println!(
        "  submit        {:>10.1} ms p50, {:.1} ms p99 (open loop)",
        f.submit_ms.p50, f.submit_ms.p99
    );
    println!(
        "  to carrier    {:>10.1} ms p50, {:.1} ms p99 (open loop)",
        f.carrier_ms.p50, f.carrier_ms.p99
    );
    println!(
        "  cpu           {:>10.3} s per 1,000 messages",
        f.cpu_s_per_1000
    );
    println!(
        "  memory        {:>10.0} MiB at its peak, {:.0} idle",
        f.rss_mib, f.idle_rss_mib
    );
    println!(
        "  disk          {:>10.0} bytes a message",
        f.disk_bytes_per_message
    );
    println!(
        "  messages      {:>10}   {} lost, {} duplicated, {} refused",
        f.messages, f.lost, f.duplicated, f.refused
    );
    for (hook, us) in &f.hook_us {
        println!("  {hook:<24} {us:>6.2} µs");
    }
}
