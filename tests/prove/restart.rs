//! Statement 4. A restart costs nothing: SIGTERM finishes what is under way and unbinds, and a long queue is no
//! reason to wait.

use std::time::{Duration, Instant};

use rand::Rng as _;

use super::ledger::Loaded;
use super::{Outcome, Part, Run, Statement, backlog};

pub const STATEMENT: Statement = Statement {
    number: 4,
    name: "Restart",
    parts: &[
        Part {
            name: "SIGTERM under HTTP and SMPP load",
            run: |run| Box::pin(terminations(run)),
        },
        Part {
            name: "a long queue, kill -9, and its carrier back",
            run: |run| Box::pin(backlog::queued(run, 20_000, 1_000_000)),
        },
    ],
};

async fn terminations(run: Run) -> Outcome {
    let mut rng = run.rng();
    let mut loaded = Loaded::start(None).await;
    let restarts = run.pick(3, 50);
    let mut faults = Vec::new();
    let mut longest = Duration::ZERO;
    for n in 1..=restarts {
        loaded.load().await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..600))).await;
        let began = Instant::now();
        let status = loaded.terminate().await;
        longest = longest.max(began.elapsed());
        if !status.success() {
            faults.push(format!("restart {n} ended with {status}"));
        }
        loaded.rig.launch().await;
    }
    let outcome = loaded.outcome(restarts, 0).await.with_faults(faults);
    let note = format!(
        "{}; the longest end took {:.1} s",
        outcome.note,
        longest.as_secs_f64()
    );
    outcome.noted(note)
}
