//! One hook of one plugin of a policy set, ready to be called. Every call goes the same way: an
//! instance, the domain's words lowered, the guest, its answer raised, the instance put back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::breaker::BreakerState;
use super::load::Loaded;
use super::pool::Pool;
use super::spec::Fail;
use super::stats::EntryStats;
use super::witness::Witness;
use super::{CallbackAnswer, Called, CarrierView, Fault, HttpRequest, SubmitError};
use crate::domain::{
    CallOutcome, Context, Enriched, Hook, Inbound, InboundAction, Message, RecipientProfile,
    Routing, Ruling, Verdict,
};

/// A plugin in a policy set, as far as one hook is concerned.
pub struct Entry {
    pub(super) index: u8,
    pub(super) name: Arc<str>,
    pub(super) hook: Hook,
    pub(super) fail: Fail,
    pub(super) pool: Arc<Pool>,
}

impl Entry {
    /// Position in the policy: what a decision trace names.
    pub fn index(&self) -> u8 {
        self.index
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// What becomes of a message where this entry gives no answer.
    pub fn fail(&self) -> Fail {
        self.fail
    }

    /// SHA-256 of the component.
    pub fn digest(&self) -> &[u8; 32] {
        &self.loaded().digest
    }

    /// The plugin's own name and version.
    pub fn plugin(&self) -> (&str, &str) {
        let manifest = &self.loaded().manifest;
        (&manifest.name, &manifest.version)
    }

    /// The most memory that an instance may have.
    pub fn memory_limit_bytes(&self) -> usize {
        self.pool.bounds.memory_bytes
    }

    pub fn deadline_ms(&self) -> u32 {
        self.pool.bounds.deadline_ms(self.hook)
    }

    pub fn stats(&self) -> EntryStats {
        self.pool.stats(self.hook)
    }

    pub fn breaker(&self) -> BreakerState {
        self.pool.breaker(self.hook)
    }

    fn loaded(&self) -> &Loaded {
        &self.pool.loaded
    }

    /// `enrichment`.
    pub async fn enrich(
        &self,
        message: &Message,
        context: &Context,
        witness: &mut Witness,
    ) -> Called<Enriched> {
        let (pool, hook, started) = (&self.pool, Hook::Enrichment, Instant::now());
        let answer = match pool.begin(hook, context, witness).await {
            Ok(mut run) => {
                let warm = &mut run.warm;
                let raised = warm
                    .guest
                    .enrich(&mut warm.store, message, &pool.disclosure, context)
                    .await;
                pool.end(hook, run, raised, witness)
            }
            Err(fault) => Err(fault),
        };
        pool.count(hook, started, answer, |enriched| match enriched {
            Enriched::Pass => CallOutcome::Pass,
            Enriched::Found { .. } => CallOutcome::Enrich,
        })
    }

    /// `content-filter`.
    pub async fn inspect(
        &self,
        message: &Message,
        context: &Context,
        witness: &mut Witness,
    ) -> Called<Verdict> {
        let (pool, hook, started) = (&self.pool, Hook::ContentFilter, Instant::now());
        let answer = match pool.begin(hook, context, witness).await {
            Ok(mut run) => {
                let warm = &mut run.warm;
                let raised = warm
                    .guest
                    .inspect(&mut warm.store, message, &pool.disclosure, context)
                    .await;
                pool.end(hook, run, raised, witness)
            }
            Err(fault) => Err(fault),
        };
        pool.count(hook, started, answer, |verdict| match verdict {
            Verdict::Pass => CallOutcome::Pass,
            Verdict::Replace { .. } => CallOutcome::Replace,
            Verdict::Refuse(_) => CallOutcome::Refuse,
            Verdict::Hold(_) => CallOutcome::Hold,
            Verdict::Drop(_) => CallOutcome::Drop,
        })
    }

    /// `compliance-check`.
    pub async fn check(
        &self,
        message: &Message,
        recipient: &RecipientProfile,
        context: &Context,
        witness: &mut Witness,
    ) -> Called<Ruling> {
        let (pool, hook, started) = (&self.pool, Hook::ComplianceCheck, Instant::now());
        let answer = match pool.begin(hook, context, witness).await {
            Ok(mut run) => {
                let warm = &mut run.warm;
                let raised = warm
                    .guest
                    .check(
                        &mut warm.store,
                        message,
                        &pool.disclosure,
                        recipient,
                        context,
                    )
                    .await;
                pool.end(hook, run, raised, witness)
            }
            Err(fault) => Err(fault),
        };
        pool.count(hook, started, answer, |ruling| match ruling {
            Ruling::Allow => CallOutcome::Allow,
            Ruling::Amend { .. } => CallOutcome::Amend,
            Ruling::Defer { .. } => CallOutcome::Defer,
            Ruling::Deny(_) => CallOutcome::Deny,
        })
    }

    /// `routing-policy`. A plan names only carriers of `carriers`.
    pub async fn route(
        &self,
        message: &Message,
        carriers: &[CarrierView],
        context: &Context,
        witness: &mut Witness,
    ) -> Called<Routing> {
        let (pool, hook, started) = (&self.pool, Hook::RoutingPolicy, Instant::now());
        let answer = match pool.begin(hook, context, witness).await {
            Ok(mut run) => {
                let warm = &mut run.warm;
                let raised = warm
                    .guest
                    .route(
                        &mut warm.store,
                        message,
                        &pool.disclosure,
                        carriers,
                        context,
                    )
                    .await;
                pool.end(hook, run, raised, witness)
            }
            Err(fault) => Err(fault),
        };
        pool.count(hook, started, answer, |routing| match routing {
            Routing::Send(_) => CallOutcome::Send,
            Routing::Defer { .. } => CallOutcome::Defer,
            Routing::Refuse(_) => CallOutcome::Refuse,
            Routing::Pass => CallOutcome::Pass,
        })
    }

    /// `inbound-handler`.
    pub async fn receive(
        &self,
        inbound: &Inbound,
        context: &Context,
    ) -> Called<Vec<InboundAction>> {
        let (pool, hook, started) = (&self.pool, Hook::InboundHandler, Instant::now());
        let mut witness = Witness::absent();
        let answer = match pool.begin(hook, context, &mut witness).await {
            Ok(mut run) => {
                let warm = &mut run.warm;
                let raised = warm
                    .guest
                    .receive(&mut warm.store, inbound, &pool.disclosure, context)
                    .await;
                pool.end(hook, run, raised, &mut witness)
            }
            Err(fault) => Err(fault),
        };
        pool.count(hook, started, answer, |_| CallOutcome::Pass)
    }

    /// `carrier-adapter`: hands one message to the carrier. After [`Fault::Timeout`] the request may
    /// or may not have reached it.
    pub async fn submit(
        &self,
        message: &Message,
        context: &Context,
    ) -> Called<Result<Vec<String>, SubmitError>> {
        let (pool, hook, started) = (&self.pool, Hook::CarrierAdapter, Instant::now());
        let mut witness = Witness::absent();
        let answer = match pool.begin(hook, context, &mut witness).await {
            Ok(mut run) => {
                let warm = &mut run.warm;
                let call = warm
                    .guest
                    .submit(&mut warm.store, message, &pool.disclosure, context);
                match tokio::time::timeout(self.wait(), call).await {
                    Ok(raised) => pool.end(hook, run, raised, &mut witness),
                    Err(_) => Err(self.timed_out()),
                }
            }
            Err(fault) => Err(fault),
        };
        pool.count(hook, started, answer, |taken| match taken {
            Ok(_) => CallOutcome::Send,
            Err(_) => CallOutcome::Refuse,
        })
    }

    /// `carrier-adapter`: reads a carrier's HTTP call-back. The inner error is the plugin's.
    pub async fn callback(
        &self,
        request: &HttpRequest,
        context: &Context,
    ) -> Called<Result<CallbackAnswer, String>> {
        let (pool, hook, started) = (&self.pool, Hook::CarrierAdapter, Instant::now());
        let mut witness = Witness::absent();
        let answer = match pool.begin(hook, context, &mut witness).await {
            Ok(mut run) => {
                let warm = &mut run.warm;
                let call = warm.guest.callback(&mut warm.store, request, context);
                match tokio::time::timeout(self.wait(), call).await {
                    Ok(raised) => pool.end(hook, run, raised, &mut witness),
                    Err(_) => Err(self.timed_out()),
                }
            }
            Err(fault) => Err(fault),
        };
        pool.count(hook, started, answer, |read| match read {
            Ok(_) => CallOutcome::Pass,
            Err(_) => CallOutcome::Refuse,
        })
    }

    /// An adapter waits for its carrier, where no epoch tick reaches it.
    fn wait(&self) -> Duration {
        Duration::from_millis(self.pool.bounds.deadline_ms(self.hook).into())
    }

    fn timed_out(&self) -> Fault {
        Fault::Timeout {
            deadline_ms: self.pool.bounds.deadline_ms(self.hook),
        }
    }
}
