//! Trials of a candidate policy on live traffic: shadows and canaries are started, kept over a
//! restart, stepped, promoted and rolled back here. What a canary thinks of its figures is `canary`'s.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Pipeline;
use super::canary::{Canary, CanarySettings, Verdict};
use super::events::EventKind;
use super::policy::{Applied, InForce, Policy, PolicyError};
use super::shadow::Shadow;
use super::stopped;
use crate::clock::Timestamp;
use crate::domain::SetId;
use crate::plugin::{PolicySpec, Problem};

const CANARY_KEY: &str = "policy/canary";
const SHADOW_KEY: &str = "policy/shadow";

/// How often a canary is looked at when nothing is crossed.
const LOOK: Duration = Duration::from_millis(250);

/// A canary as it outlives a restart; its figures begin anew.
#[derive(Serialize, Deserialize)]
struct CanaryRecord {
    spec: PolicySpec,
    settings: CanarySettings,
    step: usize,
    by: String,
    since: u64,
    baseline: String,
}

#[derive(Serialize, Deserialize)]
struct ShadowRecord {
    spec: PolicySpec,
    by: String,
    since: u64,
    cpu_share: f64,
}

impl Policy {
    /// Puts a candidate on the first share of the traffic.
    pub async fn start_canary(
        &self,
        spec: &PolicySpec,
        base: Option<&Path>,
        settings: CanarySettings,
        by: &str,
    ) -> Result<Arc<Canary>, PolicyError> {
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(PolicyError::Refused(problems));
        }
        let _changing = self.0.changing.lock().await;
        let in_force = self.in_force();
        if let Some(running) = &in_force.canary {
            let id = running.set.id();
            return Err(PolicyError::Trial(format!(
                "a canary of {id} is under way: abort or promote it first"
            )));
        }
        let (set, files) = self.build(spec, base).await?;
        let active = in_force.active.id();
        if set.id() == active {
            return Err(PolicyError::Trial(format!("{active} is in force already")));
        }
        let pinned = self.pin(spec, files).await.map_err(PolicyError::Store)?;
        let now = self.0.clock.now();
        let id = set.id();
        let start = (now, 0, now);
        let canary = Canary::new(Arc::new(set), pinned, settings, by, active, start);
        let canary = Arc::new(canary);
        self.keep_canary_record(&canary).await?;
        self.set_canary(Some(canary.clone()));
        let detail = format!("{by}: {} % of recipients", canary.percent());
        self.events()
            .emit(EventKind::CanaryStarted, id.to_string(), detail);
        Ok(canary)
    }

    /// Ends the canary; the policy in force decides everything again.
    pub async fn abort_canary(&self, by: &str) -> Result<SetId, PolicyError> {
        let _changing = self.0.changing.lock().await;
        self.end_canary(EventKind::CanaryAborted, by).await
    }

    /// Puts the candidate in force for everybody, whatever its step.
    pub async fn promote_canary(&self, by: &str) -> Result<Applied, PolicyError> {
        let _changing = self.0.changing.lock().await;
        let Some(canary) = self.in_force().canary.clone() else {
            return Err(no_canary());
        };
        self.promote(&canary, by).await
    }

    async fn promote(&self, canary: &Arc<Canary>, by: &str) -> Result<Applied, PolicyError> {
        self.record(&canary.set, &canary.spec, by)
            .await
            .map_err(PolicyError::Store)?;
        *self.0.spec.write() = canary.spec.clone();
        self.swap(canary.set.clone());
        self.forget(CANARY_KEY).await;
        let set = canary.set.id();
        self.events()
            .emit(EventKind::CanaryPromoted, set.to_string(), by);
        Ok(Applied { set, changed: true })
    }

    /// Within a change.
    async fn end_canary(&self, kind: EventKind, why: &str) -> Result<SetId, PolicyError> {
        let Some(canary) = self.in_force().canary.clone() else {
            return Err(no_canary());
        };
        canary.stop();
        self.set_canary(None);
        self.forget(CANARY_KEY).await;
        let id = canary.set.id();
        self.events().emit(kind, id.to_string(), why);
        Ok(id)
    }

    /// Within a change. False where none is under way.
    pub(super) async fn end_running_canary(&self, by: &str) -> bool {
        self.end_canary(EventKind::CanaryAborted, by).await.is_ok()
    }

    /// Ends a canary because another policy came into force. Within a change.
    pub(super) async fn supersede_canary(&self, by: &str) {
        if self.in_force().canary.is_some() {
            let why = format!("another policy came into force: {by}");
            let _ = self.end_canary(EventKind::CanaryAborted, &why).await;
        }
    }

    fn set_canary(&self, canary: Option<Arc<Canary>>) {
        let mut held = self.0.in_force.write();
        *held = Arc::new(InForce {
            active: held.active.clone(),
            canary,
        });
    }

    async fn keep_canary_record(&self, canary: &Canary) -> Result<(), PolicyError> {
        let record = CanaryRecord {
            spec: canary.spec.clone(),
            settings: canary.settings.clone(),
            step: canary.step(),
            by: canary.by.clone(),
            since: canary.since.millis(),
            baseline: canary.baseline_set.to_string(),
        };
        let value = serde_json::to_vec(&record).unwrap_or_default();
        let kept = self.0.store.put_meta(CANARY_KEY, value).await;
        kept.map_err(PolicyError::Store)
    }

    async fn forget(&self, key: &str) {
        if let Err(error) = self.0.store.delete_meta(key).await {
            tracing::error!(%error, key, "the end of a trial was not written down; a restart resumes it");
        }
    }

    /// Goes on with the canary that ran when the server stopped, where the same policy is in force.
    pub async fn resume_canary(&self) {
        let Some(record) = self.kept::<CanaryRecord>(CANARY_KEY).await else {
            return;
        };
        let _changing = self.0.changing.lock().await;
        let active = self.active().id();
        let built = if active.to_string() == record.baseline {
            self.build(&record.spec, None)
                .await
                .map_err(|e| e.to_string())
        } else {
            Err("another policy is in force since".to_owned())
        };
        match built {
            Ok((set, _)) => {
                let (since, now) = (Timestamp(record.since), self.0.clock.now());
                let canary = Canary::new(
                    Arc::new(set),
                    record.spec,
                    record.settings,
                    &record.by,
                    active,
                    (since, record.step, now),
                );
                let detail = format!("resumed: {} % of recipients", canary.percent());
                self.events().emit(
                    EventKind::CanaryStarted,
                    canary.set.id().to_string(),
                    detail,
                );
                self.set_canary(Some(Arc::new(canary)));
            }
            Err(why) => {
                self.forget(CANARY_KEY).await;
                let why = format!("not resumed: {why}");
                self.events().emit(EventKind::CanaryAborted, "", why);
            }
        }
    }

    async fn kept<T: for<'a> Deserialize<'a>>(&self, key: &str) -> Option<T> {
        let value = self.0.store.get_meta(key).await.ok()??;
        serde_json::from_slice(&value)
            .inspect_err(|error| tracing::warn!(%error, key, "a trial of before cannot be read"))
            .ok()
    }

    /// Does what the canary's figures ask for. True where something was done.
    async fn look_at_canary(&self) -> bool {
        let Some(canary) = self.in_force().canary.clone() else {
            return false;
        };
        if canary.verdict(self.0.clock.now()) == Verdict::GoOn {
            return false;
        }
        let _changing = self.0.changing.lock().await;
        // It may have ended while this waited.
        if !self
            .in_force()
            .canary
            .as_ref()
            .is_some_and(|c| Arc::ptr_eq(c, &canary))
        {
            return false;
        }
        let done = match canary.verdict(self.0.clock.now()) {
            Verdict::GoOn => return false,
            Verdict::NextStep => {
                let percent = canary.next_step(self.0.clock.now());
                let detail = format!("{percent} % of recipients");
                self.events().emit(
                    EventKind::CanaryStepped,
                    canary.set.id().to_string(),
                    detail,
                );
                self.keep_canary_record(&canary).await
            }
            Verdict::Promote => self.promote(&canary, "canary").await.map(|_| ()),
            Verdict::RollBack(breach) => {
                let why = breach.to_string();
                let ended = self.end_canary(EventKind::CanaryRolledBack, &why).await;
                ended.map(|_| ())
            }
        };
        if let Err(error) = &done {
            tracing::error!(%error, "the canary could not be moved on");
        }
        done.is_ok()
    }
}

fn no_canary() -> PolicyError {
    PolicyError::Trial("no canary is under way".to_owned())
}

/// Looks after the canary until `stop` turns true.
pub async fn run(pipeline: Arc<Pipeline>, mut stop: watch::Receiver<bool>) {
    loop {
        let canary = pipeline.policy.in_force().canary.clone();
        let crossed = async {
            match &canary {
                Some(canary) => canary.crossed.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = crossed => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        pipeline.policy.look_at_canary().await;
    }
}

impl Pipeline {
    /// Puts a candidate in the shadow of the policy in force, in the place of any shadow before.
    pub async fn start_shadow(
        &self,
        spec: &PolicySpec,
        base: Option<&Path>,
        cpu_share: f64,
        by: &str,
    ) -> Result<Arc<Shadow>, PolicyError> {
        if !(cpu_share > 0.0 && cpu_share <= 1.0) {
            return Err(PolicyError::Refused(vec![Problem {
                pointer: "/cpu_share".to_owned(),
                entry: None,
                detail: "is a share of one core, above 0.0 and at most 1.0".to_owned(),
                upgrade: None,
            }]));
        }
        let policy = &self.policy;
        let _changing = policy.0.changing.lock().await;
        let (set, files) = policy.build_apart(spec, base).await?;
        let pinned = policy.pin(spec, files).await.map_err(PolicyError::Store)?;
        let record = ShadowRecord {
            spec: pinned.clone(),
            by: by.to_owned(),
            since: self.clock.now().millis(),
            cpu_share,
        };
        let value = serde_json::to_vec(&record).unwrap_or_default();
        self.store
            .put_meta(SHADOW_KEY, value)
            .await
            .map_err(PolicyError::Store)?;
        let id = set.id().to_string();
        let shadow = Shadow::start(Arc::new(set), pinned, self.clock.now(), by, cpu_share);
        self.observers.set_shadow(Some(shadow.clone()));
        self.events.emit(EventKind::ShadowStarted, id, by);
        Ok(shadow)
    }

    /// Ends the shadow and returns it for a last look.
    pub async fn stop_shadow(&self, by: &str) -> Option<Arc<Shadow>> {
        let _changing = self.policy.0.changing.lock().await;
        let shadow = self.observers.set_shadow(None)?;
        self.policy.forget(SHADOW_KEY).await;
        self.events
            .emit(EventKind::ShadowStopped, shadow.set.id().to_string(), by);
        Some(shadow)
    }

    /// Goes on with the shadow that ran when the server stopped.
    pub async fn resume_shadow(&self) {
        let Some(record) = self.policy.kept::<ShadowRecord>(SHADOW_KEY).await else {
            return;
        };
        match self.policy.build_apart(&record.spec, None).await {
            Ok((set, _)) => {
                let id = set.id().to_string();
                let since = Timestamp(record.since);
                let (set, by) = (Arc::new(set), record.by.as_str());
                let shadow = Shadow::start(set, record.spec, since, by, record.cpu_share);
                self.observers.set_shadow(Some(shadow));
                self.events.emit(EventKind::ShadowStarted, id, "resumed");
            }
            Err(error) => {
                self.policy.forget(SHADOW_KEY).await;
                let why = format!("not resumed: {error}");
                self.events.emit(EventKind::ShadowStopped, "", why);
            }
        }
    }
}
