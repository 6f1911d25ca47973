//! A candidate policy in the shadow of the one in force: it is shown live decisions, makes its own of
//! each, and changes nothing. Differences are counted and sampled. It works aside, within a share of
//! one core: what it has no time for it does not see, and says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::compare::Tally;
use super::rehearse::{Stage, rehearse};
use crate::clock::Timestamp;
use crate::domain::{Case, CaseRef};
use crate::plugin::{PolicySet, PolicySpec};

/// Decisions that wait for the shadow; more are not shown to it.
const WAITING_MAX: usize = 256;
/// It rests at the latest when it owes this much.
const SLICE: Duration = Duration::from_millis(5);
const EXAMPLES_MAX: usize = 50;
/// Where none is given: a tenth of one core.
pub const CPU_SHARE_DEFAULT: f64 = 0.10;

pub struct Shadow {
    pub set: Arc<PolicySet>,
    /// With digests in the place of paths.
    pub spec: PolicySpec,
    pub since: Timestamp,
    pub by: String,
    /// Of one core.
    pub cpu_share: f64,
    cases: mpsc::Sender<Case>,
    shown: AtomicU64,
    not_shown: AtomicU64,
    tally: Mutex<Tally>,
}

/// What a shadow has seen so far.
#[derive(Clone, Debug)]
pub struct ShadowReport {
    pub shown: u64,
    /// It had no time for these.
    pub not_shown: u64,
    pub tally: Tally,
}

impl Shadow {
    /// Begins to work at once; ends when nobody holds it any more.
    pub fn start(
        set: Arc<PolicySet>,
        spec: PolicySpec,
        since: Timestamp,
        by: &str,
        cpu_share: f64,
    ) -> Arc<Shadow> {
        let (cases, received) = mpsc::channel(WAITING_MAX);
        let shadow = Arc::new(Shadow {
            set,
            spec,
            since,
            by: by.to_owned(),
            cpu_share,
            cases,
            shown: AtomicU64::new(0),
            not_shown: AtomicU64::new(0),
            tally: Mutex::default(),
        });
        let worker = Arc::downgrade(&shadow);
        tokio::spawn(work(worker, received));
        shadow
    }

    /// Shows it one decision, where it has time.
    pub fn show(&self, case: &CaseRef<'_>) {
        match self.cases.try_reserve() {
            Ok(place) => {
                self.shown.fetch_add(1, Relaxed);
                place.send(case.to_case());
            }
            Err(_) => {
                self.not_shown.fetch_add(1, Relaxed);
            }
        }
    }

    pub fn report(&self) -> ShadowReport {
        ShadowReport {
            shown: self.shown.load(Relaxed),
            not_shown: self.not_shown.load(Relaxed),
            tally: self.tally.lock().clone(),
        }
    }
}

async fn work(shadow: std::sync::Weak<Shadow>, mut cases: mpsc::Receiver<Case>) {
    let stage = Stage::new();
    let mut worked = Duration::ZERO;
    while let Some(case) = cases.recv().await {
        // The sender lives in it: while it is held here, the channel never ends.
        let Some(held) = shadow.upgrade() else { return };
        let began = Instant::now();
        let rehearsed = rehearse(&held.set, &case, &stage).await;
        held.tally
            .lock()
            .add(&case, &rehearsed, &held.set, EXAMPLES_MAX);
        worked += began.elapsed();
        let share = held.cpu_share;
        drop(held);
        if worked >= SLICE {
            tokio::time::sleep(worked.mul_f64((1.0 / share - 1.0).max(0.0))).await;
            worked = Duration::ZERO;
        }
    }
}
