//! Recorded traffic through a candidate policy: what it would have decided otherwise. Reads what the
//! recording kept, changes nothing, and gives way to live traffic.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::sync::mpsc;

use super::Pipeline;
use super::compare::Tally;
use super::policy::PolicyError;
use super::rehearse::{Stage, rehearse};
use crate::clock::Timestamp;
use crate::domain::{Case, SetId};
use crate::plugin::{PolicySet, PolicySpec};
use crate::store::{self, Recorded, Seals};

/// Blocks that are read ahead.
const AHEAD: usize = 2;
/// Cases after which others get their turn.
const TURN: usize = 32;

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
    let (blocks, mut read) = mpsc::channel::<Vec<Case>>(AHEAD);
    let reader = tokio::task::spawn_blocking(move || {
        while let Some(block) = cases.next_block() {
            if blocks.blocking_send(block).is_err() {
                break;
            }
        }
        cases.damaged
    });
    let stage = Stage::new();
    let mut done = 0usize;
    while let Some(block) = read.recv().await {
        for case in block {
            let at = case.message.decisions.last().map(|d| d.at);
            report.first = report.first.or(at);
            report.last = at.or(report.last);
            *report.sets.entry(case.set.to_string()).or_default() += 1;
            let rehearsed = rehearse(set, &case, &stage).await;
            report.tally.add(&case, &rehearsed, set, request.examples);
            done += 1;
            if done.is_multiple_of(TURN) {
                tokio::task::yield_now().await;
            }
        }
    }
    report.damaged = reader.await.map_err(|e| failed(e.to_string()))?;
    Ok(report)
}
