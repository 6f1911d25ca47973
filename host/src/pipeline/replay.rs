//! Recorded traffic through a candidate policy: what it would have decided otherwise. Reads what the
//! recording kept, changes nothing, and gives way to live traffic.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::sync::mpsc;

use super::Pipeline;
use super::compare::Tally;
use super::policy::PolicyError;
use super::rehearse::{Stage, rehearse, rehearse_inbound};
use crate::clock::Timestamp;
use crate::domain::SetId;
use crate::plugin::{PolicySet, PolicySpec};
use crate::store::{self, Recorded, RecordedBlock, Seals};

/// Blocks that are read ahead.
const AHEAD: usize = 2;
/// Cases after which others get their turn.
const TURN: u64 = 32;

/// What to replay.
#[derive(Clone, Debug)]
pub struct ReplayRequest {
    pub since: Timestamp,
    pub until: Timestamp,
    /// The newest so many.
    pub limit: u64,
    /// Differences that are shown one by one.
    pub examples: usize,
}

/// What a candidate would have changed.
#[derive(Clone, Debug)]
pub struct ReplayReport {
    pub candidate: SetId,
    pub recorded: Recorded,
    /// Blocks that could not be read.
    pub damaged: u64,
    /// Decisions by the set that made them.
    pub sets: BTreeMap<String, u64>,
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
    pub tally: Tally,
}

impl ReplayReport {
    /// Notes by whom and when the next case was decided.
    fn begin(&mut self, set: SetId, at: Option<Timestamp>) {
        self.first = self.first.or(at);
        self.last = at.or(self.last);
        *self.sets.entry(set.to_string()).or_default() += 1;
    }
}

async fn give_way(done: u64) {
    if done.is_multiple_of(TURN) {
        tokio::task::yield_now().await;
    }
}

impl Pipeline {
    /// Runs recorded decisions through a candidate. One at a time.
    pub async fn replay(
        &self,
        spec: &PolicySpec,
        base: Option<&Path>,
        request: &ReplayRequest,
    ) -> Result<ReplayReport, PolicyError> {
        let Some(recorder) = self.observers.recorder() else {
            let why = "nothing is recorded here: recording.enabled is false";
            return Err(PolicyError::Trial(why.to_owned()));
        };
        let Ok(_turn) = self.replaying.try_lock() else {
            return Err(PolicyError::Trial("a replay is under way".to_owned()));
        };
        let (set, _) = self.policy.build_apart(spec, base).await?;
        recorder.flush().await;
        let folder = recorder.folder().to_owned();
        replay(&set, &folder, recorder.seals(), request).await
    }
}

/// The same over a folder of recordings, wherever it came from.
pub async fn replay(
    set: &PolicySet,
    folder: &Path,
    seals: Option<Seals>,
    request: &ReplayRequest,
) -> Result<ReplayReport, PolicyError> {
    let (since, until, limit) = (request.since, request.until, request.limit);
    let failed = |what: String| PolicyError::Trial(format!("the recording cannot be read: {what}"));
    let folder = folder.to_owned();
    let mut cases =
        tokio::task::spawn_blocking(move || store::cases(&folder, seals, since, until, limit))
            .await
            .map_err(|e| failed(e.to_string()))?
            .map_err(|e| failed(e.to_string()))?;
    let mut report = ReplayReport {
        candidate: set.id(),
        recorded: cases.recorded,
        damaged: 0,
        sets: BTreeMap::new(),
        first: None,
        last: None,
        tally: Tally::default(),
    };
    let (blocks, mut read) = mpsc::channel::<RecordedBlock>(AHEAD);
    let reader = tokio::task::spawn_blocking(move || {
        while let Some(block) = cases.next_block() {
            if blocks.blocking_send(block).is_err() {
                break;
            }
        }
        cases.damaged
    });
    let stage = Stage::new();
    while let Some(block) = read.recv().await {
        match block {
            RecordedBlock::Messages(cases) => {
                for case in &cases {
                    report.begin(case.set, case.message.decisions.last().map(|d| d.at));
                    let rehearsed = rehearse(set, case, &stage).await;
                    report.tally.add(case, &rehearsed, set, request.examples);
                    give_way(report.tally.compared).await;
                }
            }
            RecordedBlock::Inbound(cases) => {
                for case in &cases {
                    report.begin(case.set, Some(case.context.now));
                    let answered = rehearse_inbound(set, case, &stage).await;
                    let tally = &mut report.tally;
                    tally.add_inbound(case, &answered, set, request.examples);
                    give_way(report.tally.compared).await;
                }
            }
        }
    }
    report.damaged = reader.await.map_err(|e| failed(e.to_string()))?;
    Ok(report)
}
