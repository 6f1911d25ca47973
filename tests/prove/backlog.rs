//! A long queue, in statements 4 and 5: messages for a carrier that is away are taken until there are so many,
//! the server is killed, started again and its carrier brought back, and every message goes out once. The
//! load, the carrier and the counting are the benchmark's (`heliograph bench --backlog`), each a process of its own.

use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use super::{Outcome, Run};
use crate::{binary, plugins};

/// Until the next message is accepted, from the start of the server.
const ACCEPTING: Duration = Duration::from_secs(2);
/// Until the first queued one is at its carrier.
const SENDING: Duration = Duration::from_secs(10);
/// However long the queue is, one bound holds: what waits is on disk.
const MEMORY_MIB: f64 = 512.0;
/// The short form shares its processors with other tests, and its server compiles plugins first.
const PATIENCE_SHORT: u32 = 10;

const ACCEPTED: &str = "restart_first_submission_s";
const SENT: &str = "restart_first_sent_s";
const DRAINED: &str = "drained_per_s";
const PEAK: &str = "peak_rss_mib";
const PEAK_AFTER: &str = "peak_rss_after_restart_mib";
const QUEUED: &str = "queued";
const LOST: &str = "lost";
const DUPLICATED: &str = "duplicated";
const FIGURES: [&str; 8] = [
    ACCEPTED, SENT, DRAINED, PEAK, PEAK_AFTER, QUEUED, LOST, DUPLICATED,
];

pub async fn queued(run: Run, short: usize, long: usize) -> Outcome {
    let messages = run.pick(short, long);
    let data = tempfile::tempdir().expect("a folder");
    let bench = Command::new(binary())
        .args(["bench", "--json", "--backlog", &messages.to_string()])
        .arg("--plugins")
        .arg(plugins())
        .arg("--data")
        .arg(data.path())
        .kill_on_drop(true)
        .output()
        .await
        .expect("the benchmark starts");
    let report: Option<Value> = serde_json::from_slice(&bench.stdout).ok();
    let Some(report) = report.filter(|_| bench.status.success()) else {
        let told = String::from_utf8_lossy(&bench.stderr);
        // What a server that ended wrote stands there as well.
        eprintln!("{told}");
        let mut lines = told.lines().filter(|line| !line.trim().is_empty());
        let last = lines.next_back().unwrap_or_default();
        return Outcome::judged(0, 0, 0, &[format!("{}: {last}", bench.status)]);
    };
    judge(run, messages, &report)
}

fn judge(run: Run, messages: usize, report: &Value) -> Outcome {
    // A figure that is missing is none that holds.
    let missing: Vec<String> = FIGURES
        .iter()
        .filter(|name| !report[**name].is_number())
        .map(|name| format!("the benchmark does not tell {name}"))
        .collect();
    let figure = |name: &str| report[name].as_f64().unwrap_or_default();
    let mut faults = missing;
    let patience = if run.long { 1 } else { PATIENCE_SHORT };
    let seconds = |limit: Duration| (limit * patience).as_secs_f64();
    for (name, most) in [
        (ACCEPTED, seconds(ACCEPTING)),
        (SENT, seconds(SENDING)),
        (PEAK, MEMORY_MIB),
        (PEAK_AFTER, MEMORY_MIB),
    ] {
        let found = figure(name);
        if found > most {
            faults.push(format!("{name} is {found:.1}, at most {most:.1} promised"));
        }
    }
    let (queued, lost, duplicated) = (figure(QUEUED), figure(LOST), figure(DUPLICATED));
    if queued < messages as f64 {
        faults.push(format!("{queued} were queued"));
    }
    if lost != 0.0 || duplicated != 0.0 {
        faults.push(format!("{lost} lost, {duplicated} twice"));
    }
    Outcome::judged(1, lost.max(0.0) as usize, duplicated as usize, &faults).noted(format!(
        "{queued} queued; accepting again after {:.1} s, sending after {:.1} s, {:.0}/s from there; memory {:.0} \
         MiB at its peak, {:.0} after the restart",
        figure(ACCEPTED),
        figure(SENT),
        figure(DRAINED),
        figure(PEAK),
        figure(PEAK_AFTER),
    ))
}
