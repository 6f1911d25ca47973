//! Statement 5. Beyond its capacity the server goes on at its capacity: what it takes it takes quickly, the rest
//! it refuses quickly, and who keeps to his share does not notice.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::offer::{Answers, Offer, offer};
use super::{Outcome, Part, Run, Statement, backlog};
use crate::processors::Split;
use crate::{KEY, OTHER_KEY, Plan, Rig, sms};

pub const STATEMENT: Statement = Statement {
    number: 5,
    name: "Overload",
    parts: &[
        Part {
            name: "one account at ten times its throughput",
            run: |run| Box::pin(greedy(run)),
        },
        Part {
            name: "twice, five and ten times of what can be served",
            run: |run| Box::pin(crowds(run)),
        },
        Part {
            name: "a backlog of millions",
            run: |run| Box::pin(backlog::queued(run, 2_000, 5_000_000)),
        },
    ],
};

const QUICKLY: Duration = Duration::from_millis(250);
/// Two percentiles of a few milliseconds differ by so much for other reasons.
const NOISE: Duration = Duration::from_millis(15);
/// The other programs of a test run have the processor at times.
const PATIENCE_SHORT: Duration = Duration::from_secs(5);

fn plan(throughput: Option<usize>) -> Plan {
    Plan {
        http_extra: "max_connections = 9000\nmax_connections_per_ip = 9000".to_owned(),
        account_extra: throughput.map_or(String::new(), |t| format!("throughput = {t}\n")),
        ..Plan::default()
    }
}

/// Every message is told from every other by its text.
fn text(label: &'static str) -> impl Fn(usize) -> Value + Send + Sync + 'static {
    move |n| sms("+447700900123", &format!("{label} {n}"))
}

fn limit(run: Run) -> Duration {
    if run.long { QUICKLY } else { PATIENCE_SHORT }
}

async fn greedy(run: Run) -> Outcome {
    let throughput = run.pick(50, 300);
    let time = Duration::from_secs(run.pick(3, 20) as u64);
    let mut rig = Rig::start(plan(Some(throughput))).await;
    let modest = Offer {
        key: OTHER_KEY,
        per_second: run.pick(20, 100) as f64,
        connections: 8,
        time,
    };
    let greedy = Offer {
        key: KEY,
        per_second: throughput as f64 * 10.0,
        connections: 64,
        time,
    };
    let quiet = offer(&rig.address, modest, text("alone")).await;
    let before = rig.rss_mib();
    let (beside, much) = tokio::join!(
        offer(&rig.address, modest, text("beside")),
        offer(&rig.address, greedy, text("much"))
    );
    let grown = rig.rss_mib().saturating_sub(before);

    let mut faults = much.odd();
    let share = throughput as f64 * time.as_secs_f64();
    let goodput = much.accepted.len() as f64 / share;
    // A second's worth may come at once.
    let most = 1.1 + 1.0 / time.as_secs_f64();
    if !(0.9..=most).contains(&goodput) {
        faults.push(format!("it was given {goodput:.2} of its throughput"));
    }
    if much.refused_p99() > limit(run) {
        faults.push(format!("refusals took {:?}", much.refused_p99()));
    }
    let (alone, with) = (quiet.due_p99(), beside.due_p99());
    if run.long && with > alone * 2 + NOISE {
        faults.push(format!(
            "the other account's p99 went from {alone:?} to {with:?}"
        ));
    }
    for (who, answers) in [("alone", &quiet), ("beside", &beside)] {
        if !answers.refused.is_empty() || answers.failed > 0 {
            faults.push(format!(
                "the other account, {who}: {} refused, {} failed",
                answers.refused.len(),
                answers.failed
            ));
        }
    }
    if grown > 64 {
        faults.push(format!("it grew by {grown} MiB"));
    }
    let lost = lost(&mut rig, [&quiet, &beside, &much], &mut faults).await;
    Outcome::judged(1, lost, 0, &faults).noted(format!(
        "{:.0} % of its throughput, {} refused; the other's p99 {:.1} ms, beside it {:.1} ms",
        goodput * 100.0,
        much.refused.len(),
        alone.as_secs_f64() * 1e3,
        with.as_secs_f64() * 1e3
    ))
}

async fn crowds(run: Run) -> Outcome {
    let time = Duration::from_secs(run.pick(2, 10) as u64);
    // Four thousand clients and a carrier need a processor themselves.
    let split = if run.long { Split::take() } else { None };
    let mut rig = Rig::start(Plan {
        processors: split.as_ref().map(|s| s.server.clone()),
        ..plan(None)
    })
    .await;
    // As many at once as an application would have; each submits again as soon as it is answered.
    let closed = Offer {
        key: KEY,
        per_second: 1e9,
        connections: 64,
        time,
    };
    let peak = offer(&rig.address, closed, text("peak")).await;
    let capacity = peak.accepted.len() as f64 / peak.took.as_secs_f64();
    let before = rig.rss_mib();
    let mut faults = Vec::new();
    let alone = match &split {
        Some(split) => format!("the server on processor {} alone", split.server),
        None => "clients on the server's processors".to_owned(),
    };
    let mut notes = vec![format!("{alone}: capacity {capacity:.0}/s")];
    let mut all = vec![peak];
    // Who asks does not starve who sends; the other programs of a test run do at times.
    let share = if run.long { 0.5 } else { 0.25 };
    for (times, label) in [(2.0, "2x"), (5.0, "5x"), (10.0, "10x")] {
        let crowd = Offer {
            per_second: capacity * times,
            connections: run.pick(400, 4_000),
            ..closed
        };
        let sent_before = rig.simulators[0].counters().unique;
        let answers = offer(&rig.address, crowd, text(label)).await;
        let sent =
            (rig.simulators[0].counters().unique - sent_before) as f64 / answers.took.as_secs_f64();
        let of_capacity = |n: usize| n as f64 / answers.took.as_secs_f64() / capacity;
        let goodput = of_capacity(answers.accepted.len());
        // No more than its connections can: each waits for its answer.
        let came = goodput + of_capacity(answers.refused.len());
        let (took, refused) = (answers.accepted_p99(), answers.refused_p99());
        faults.extend(answers.odd());
        if run.long && goodput < 0.9 {
            faults.push(format!("{label}: goodput {:.0} %", goodput * 100.0));
        }
        if sent < capacity * share {
            faults.push(format!("{label}: only {sent:.0}/s went out meanwhile"));
        }
        for (what, p99) in [("acceptances", took), ("refusals", refused)] {
            if p99 > limit(run) {
                faults.push(format!("{label}: {what} took {p99:?}"));
            }
        }
        if answers.failed > 0 {
            faults.push(format!("{label}: {} without an answer", answers.failed));
        }
        notes.push(format!(
            "{label}: {came:.1}x came, goodput {:.0} %, {sent:.0}/s sent meanwhile, {} refused, p99 {:.0} ms, of refusals \
             {:.0} ms",
            goodput * 100.0,
            answers.refused.len(),
            took.as_secs_f64() * 1e3,
            refused.as_secs_f64() * 1e3
        ));
        all.push(answers);
    }
    let grown = rig.rss_mib().saturating_sub(before);
    if grown > 256 {
        faults.push(format!("it grew by {grown} MiB"));
    }
    let lost = lost(&mut rig, &all, &mut faults).await;
    Outcome::judged(3, lost, 0, &faults).noted(notes.join("; "))
}

/// How many accepted messages no carrier ever got.
async fn lost(
    rig: &mut Rig,
    answers: impl IntoIterator<Item = &Answers>,
    faults: &mut Vec<String>,
) -> usize {
    let accepted: usize = answers.into_iter().map(|a| a.accepted.len()).sum();
    let end = Instant::now() + Duration::from_secs(120);
    let taken = loop {
        let taken = rig.simulators[0].counters().unique as usize;
        if taken >= accepted || Instant::now() >= end {
            break taken;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    if !rig.is_running() {
        faults.push("the server has ended".to_owned());
    }
    let doubled = rig.simulators[0].counters().duplicated;
    if doubled > 0 {
        faults.push(format!("{doubled} were sent twice"));
    }
    let lost = accepted.saturating_sub(taken);
    if lost > 0 {
        faults.push(format!(
            "{lost} of {accepted} accepted messages never went out"
        ));
    }
    lost
}
