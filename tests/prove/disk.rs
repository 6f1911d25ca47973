//! Statement 3. A disk that fails, fills up or forgets is noticed at once and said; reads go on, and what
//! was acknowledged is not lost.

use std::io::Write as _;
use std::time::{Duration, Instant};

use heliograph::carrier::simulator::Settings;
use serde_json::Value;

use super::ledger::Loaded;
use super::loop_disk::Tmpfs;
use super::strace::Strace;
use super::{Outcome, Part, Run, Statement, damage};
use crate::{ADMIN_KEY, Plan, Rig, eventually, sms};

pub const STATEMENT: Statement = Statement {
    number: 3,
    name: "Disk",
    parts: &[
        Part {
            name: "one failed sync",
            run: |run| Box::pin(failed_sync(run)),
        },
        Part {
            name: "nearly full, and room again",
            run: |run| Box::pin(nearly_full(run)),
        },
        Part {
            name: "wholly full under load",
            run: |run| Box::pin(wholly_full(run)),
        },
        Part {
            name: "flipped bits, zeroed pages, truncation, deleted files",
            run: |run| Box::pin(damage::damaged_files(run)),
        },
    ],
};

const HANDSET: &str = "+447700900123";
/// A refusal is an answer like another: not one that waits for the disk.
const QUICKLY: Duration = Duration::from_secs(2);

/// One submission: status, code of the refusal, and how long the answer took.
async fn submit(rig: &Rig, text: &str) -> (u16, String, Duration) {
    let began = Instant::now();
    let (status, answer) = rig
        .call("POST", "/v1/messages", Some(sms(HANDSET, text)))
        .await;
    let code = answer["code"].as_str().unwrap_or_default().to_owned();
    (status, code, began.elapsed())
}

async fn failed_sync(run: Run) -> Outcome {
    let mut loaded = Loaded::start(None).await;
    let rounds = run.pick(1, 5);
    let mut faults = Vec::new();
    for _ in 0..rounds {
        loaded.load().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let told = loaded.stop().await;
        let log = loaded.rig.dir.path().join("strace");
        let inject = [
            "-e",
            "trace=fdatasync",
            "-e",
            "inject=fdatasync:error=EIO:when=1",
        ];
        let strace = match Strace::attach(loaded.rig.pid(), &inject, &log).await {
            Ok(strace) => strace,
            Err(why) => return Outcome::not_run(why),
        };
        let rig = &loaded.rig;
        let first = submit(rig, "in the failed commit").await;
        strace.detach().await;
        // The disk is well again; what could not be synced once is not trusted any more.
        let second = submit(rig, "behind it").await;
        for (status, code, took) in [first, second] {
            if status != 503 || code != "store_unavailable" || took > QUICKLY {
                faults.push(format!("answered {status} {code} after {took:?}"));
            }
        }
        if !matches!(
            rig.try_call("GET", "/readyz", None, &[]).await,
            Ok((503, _))
        ) {
            faults.push("/readyz does not tell".to_owned());
        }
        if rig.metric(&["heliograph_store_accepting"]).await != 0.0 {
            faults.push("the metric does not tell".to_owned());
        }
        if !rig.log().contains("the store stops taking messages") {
            faults.push("the log does not tell".to_owned());
        }
        if let Some(id) = told.last() {
            let path = format!("/v1/messages/{id}");
            let (status, _) = rig.call_as(ADMIN_KEY, "GET", &path, None).await;
            if status != 200 {
                faults.push(format!("a read answers {status}"));
            }
        }
        loaded.rig.kill().await;
        loaded.rig.launch().await;
    }
    let outcome = loaded.outcome(rounds, rounds).await;
    outcome.with_faults(faults)
}

/// A server on a small disk, with a carrier whose receipts take a while.
async fn on_small_disk(disk: &Tmpfs, receipt_delay_ms: u32) -> Rig {
    Rig::start(Plan {
        simulators: vec![Settings {
            receipt_delay_ms,
            ..Settings::default()
        }],
        data: Some(disk.path().join("data")),
        ..Plan::default()
    })
    .await
}

async fn taken_by_carrier(rig: &Rig, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(rig.submit(sms(HANDSET, &format!("small disk {n}"))).await);
    }
    for id in &ids {
        // Of many the first may have their receipts already.
        eventually("a carrier takes it", async || {
            let message = rig.message(id).await;
            matches!(message["status"].as_str(), Some("enroute" | "delivered")).then_some(())
        })
        .await;
    }
    ids
}

async fn nearly_full(run: Run) -> Outcome {
    let disk = match Tmpfs::create(96) {
        Ok(disk) => disk,
        Err(why) => return Outcome::not_run(why),
    };
    let mut rig = on_small_disk(&disk, 4_000).await;
    let pid = rig.pid();
    let rounds = run.pick(1, 10);
    let (mut faults, mut lost) = (Vec::new(), 0);
    let (mut noticed, mut refused, mut again) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for _ in 0..rounds {
        let ids = taken_by_carrier(&rig, 20).await;
        // The rig's configuration refuses below 16 MiB.
        let filling = Instant::now();
        disk.fill_but(10);
        let (code, took) = eventually("a refusal", async || {
            let (status, code, took) = submit(&rig, "too much").await;
            (status != 202).then_some((format!("{status} {code}"), took))
        })
        .await;
        noticed = noticed.max(filling.elapsed());
        refused = refused.max(took);
        if code != "503 storage_full" || took > QUICKLY {
            faults.push(format!("refused with {code} after {took:?}"));
        }
        for id in &ids {
            let path = format!("/v1/messages/{id}");
            let landed = eventually("a receipt on the full disk", async || {
                let (status, message) = rig.call("GET", &path, None).await;
                (status != 200 || message["status"] == "delivered").then_some(message)
            });
            lost += usize::from(landed.await["status"] != "delivered");
        }
        let (status, _, _) = submit(&rig, "still too much").await;
        if status != 503 {
            faults.push(format!("the full disk took a message: {status}"));
        }
        disk.empty();
        let emptied = Instant::now();
        eventually("intake again", async || {
            (submit(&rig, "room again").await.0 == 202).then_some(())
        })
        .await;
        again = again.max(emptied.elapsed());
    }
    if rig.pid() != pid || !rig.is_running() {
        faults.push("the server did not stay".to_owned());
    }
    Outcome::judged(rounds, lost, 0, &faults).noted(format!(
        "noticed within {} ms, refused within {} ms, back within {} ms",
        noticed.as_millis(),
        refused.as_millis(),
        again.as_millis()
    ))
}

/// Somebody else fills the disk to its last octet at once, while receipts come in: no reserve helps. The
/// server stays up, says so and reads; once there is room and it was restarted, nothing is missing.
async fn wholly_full(run: Run) -> Outcome {
    let disk = match Tmpfs::create(96) {
        Ok(disk) => disk,
        Err(why) => return Outcome::not_run(why),
    };
    let mut rig = on_small_disk(&disk, 1_000).await;
    let rounds = run.pick(1, 10);
    let (mut faults, mut lost, mut restarts) = (Vec::new(), 0, 0);
    for _ in 0..rounds {
        let ids = taken_by_carrier(&rig, 200).await;
        disk.fill_but(0);
        eventually("a refusal", async || {
            (submit(&rig, "too much").await.0 == 503).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        for id in &ids {
            let (status, _) = rig.call("GET", &format!("/v1/messages/{id}"), None).await;
            if status != 200 {
                faults.push(format!("a read on the full disk answers {status}"));
            }
        }
        disk.empty();
        tokio::time::sleep(Duration::from_secs(1)).await;
        if submit(&rig, "room again").await.0 != 202 {
            restarts += 1;
            rig.kill().await;
            rig.launch().await;
        }
        for id in &ids {
            let path = format!("/v1/messages/{id}");
            let end = Instant::now() + Duration::from_secs(60);
            let mut last = Value::Null;
            while last["status"] != "delivered" && Instant::now() < end {
                last = rig.call("GET", &path, None).await.1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if last["status"] != "delivered" {
                lost += 1;
                faults.push(format!("{id} is {}", last["status"]));
            }
        }
    }
    Outcome::judged(rounds, lost, 0, &faults).noted(format!(
        "{restarts} of {rounds} needed a restart to take messages again"
    ))
}

impl Tmpfs {
    /// Leaves so many MiB.
    fn fill_but(&self, mib: u64) {
        let mut balloon = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path().join("balloon"))
            .expect("the balloon");
        let piece = vec![1; 64 << 10];
        while self.free() > mib << 20 && balloon.write_all(&piece).is_ok() {}
        if mib == 0 {
            while balloon.write_all(&[1; 64]).is_ok() {}
        }
    }

    fn empty(&self) {
        std::fs::remove_file(self.path().join("balloon")).expect("the balloon");
    }
}
