//! Statement 2. When the power goes, everything that was acknowledged is on the disk, and the store opens.

use std::time::Duration;

use rand::Rng as _;

use super::ledger::Loaded;
use super::loop_disk::LoopDisk;
use super::{Outcome, Part, Run, Statement, lost_pages, syncs};

pub const STATEMENT: Statement = Statement {
    number: 2,
    name: "Power cut",
    parts: &[
        Part {
            name: "images of a loop-mounted ext4",
            run: |run| Box::pin(image_cuts(run)),
        },
        Part {
            name: "writes since the last sync dropped at random",
            run: |run| Box::pin(lost_pages::cuts(run)),
        },
        Part {
            name: "no answer before its sync, as strace sees it",
            run: |run| Box::pin(syncs::order(run)),
        },
    ],
};

/// The writer is stopped, the image copied as it is, the copy mounted, the server started on it.
async fn image_cuts(run: Run) -> Outcome {
    let mut disk = match LoopDisk::create(512) {
        Ok(disk) => disk,
        Err(why) => return Outcome::not_run(why),
    };
    let mut rng = run.rng();
    let mut loaded = Loaded::start(Some(disk.path().join("data"))).await;
    let cuts = run.pick(3, 50);
    for _ in 0..cuts {
        loaded.load().await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..600))).await;
        loaded.rig.signal("-STOP").await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..300))).await;
        let snapshot = disk.snapshot().expect("a snapshot");
        loaded.kill().await;
        disk.restore(snapshot).expect("the snapshot is mounted");
        // Fails where the store does not open.
        loaded.rig.launch().await;
    }
    let outcome = loaded.outcome(cuts, cuts).await;
    drop(disk);
    outcome
}
