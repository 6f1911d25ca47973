//! Statement 1. `kill -9` at any moment under load from HTTP and SMPP at once loses nothing that was
//! acknowledged; what carriers get twice was in an open window, and is marked.

use std::time::Duration;

use rand::Rng as _;

use super::ledger::Loaded;
use super::{Outcome, Part, Run, Statement};

pub const STATEMENT: Statement = Statement {
    number: 1,
    name: "Crash",
    parts: &[Part {
        name: "kill -9 under HTTP and SMPP load",
        run: |run| Box::pin(kills(run)),
    }],
};

async fn kills(run: Run) -> Outcome {
    let mut rng = run.rng();
    let mut loaded = Loaded::start(None).await;
    let (mut kills, planned) = (0, run.pick(4, 100));
    while kills < planned {
        loaded.load().await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..400))).await;
        loaded.kill().await;
        kills += 1;
        // Every fourth time it dies again while it is still coming up.
        if kills < planned && kills % 4 == 3 {
            loaded.rig.spawn();
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..300))).await;
            loaded.rig.kill().await;
            kills += 1;
        }
        loaded.rig.launch().await;
    }
    loaded.outcome(kills, kills).await
}
