//! One hook of one plugin of a policy set, ready to be called. Every call goes the same way: an
//! instance, the domain's words lowered, the guest, its answer raised, the instance put back.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tracing::Span;

use super::answer::{Bad, Raised};
use super::breaker::{BreakerReport, BreakerState};
use super::ledger::Who;
use super::load::Loaded;
use super::meter::{metered, now};
use super::pool::Pool;
use super::spec::{ContentGrant, Fail};
use super::stats::EntryStats;
use super::tenant::Quota;
use super::witness::Witness;
use super::{CallbackAnswer, Called, CarrierView, Fault, HttpRequest, SubmitError};
use crate::domain::{
    AccountId, CallOutcome, Context, Enriched, Hook, Inbound, InboundAction, Message,
    RecipientProfile, Routing, Ruling, Verdict,
};

/// A plugin in a policy set, as far as one hook is concerned.
pub struct Entry {
    pub(super) index: u8,
    pub(super) name: Arc<str>,
    pub(super) hook: Hook,
    pub(super) fail: Fail,
    pub(super) pool: Arc<Pool>,
    /// Whose own entry it is; none: everybody's.
    pub(super) account: Option<AccountId>,
    /// What answers in its place with `fail = "previous"`.
    pub(super) previous: Option<Box<Entry>>,
    /// Whether it is itself such an answer.
    pub(super) stands_in: bool,
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

    /// What becomes of a message where this entry gives no answer: the mode in effect, which is the
    /// hook's default where a version before was wished for and none is known.
    pub fn fail(&self) -> Fail {
        self.fail
    }

    /// The version that is to be asked where this one gave no answer: there with
    /// [`Fail::Previous`] alone. Its own fail mode is the hook's default.
    pub fn previous(&self) -> Option<&Entry> {
        self.previous.as_deref()
    }

    /// Whether it answers in place of a newer version that gave no answer.
    pub fn stands_in(&self) -> bool {
        self.stands_in
    }

    /// The account whose own entry it is; none: it is asked about everybody's traffic.
    pub fn account(&self) -> Option<&AccountId> {
        self.account.as_ref()
    }

    /// What that account's entries may use together.
    pub fn quota(&self) -> Option<Quota> {
        self.pool.tenant().map(|t| t.quota)
    }

    /// Bytes of state held, where the store tells, and the grant.
    pub fn state_used(&self) -> Option<(Option<u64>, u64)> {
        self.pool.state_used()
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

    /// Whose counters these are.
    pub fn who(&self) -> Who {
        let (plugin, version) = self.plugin();
        Who {
            entry: self.name.as_ref().to_owned(),
            plugin: plugin.to_owned(),
            version: version.to_owned(),
            hook: self.hook,
            account: self.account.as_ref().map(|a| a.as_str().to_owned()),
            previous: self.stands_in,
        }
    }

    pub fn breaker_report(&self) -> BreakerReport {
        self.pool.breaker_report(self.hook)
    }

    /// A span of one call; costs a load where nobody listens.
    fn span(&self) -> Span {
        tracing::debug_span!("hook", hook = self.hook.name(), plugin = &*self.name)
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
        let (pool, hook, started) = (&self.pool, Hook::Enrichment, now());
        let counted = !witness.recalls();
        let bill = pool.bill(hook, counted);
        let call = pin!(async {
            let mut run = pool.begin(hook, context, Some(message.id), witness).await?;
            let warm = &mut run.warm;
            let raised = warm
                .guest
                .enrich(&mut warm.store, message, &pool.disclosure, context)
                .await;
            pool.end(hook, run, raised, witness)
        });
        let answer = metered(self.span(), bill, started, call).await;
        pool.count(hook, started, counted, answer, |enriched| match enriched {
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
        let (pool, hook, started) = (&self.pool, Hook::ContentFilter, now());
        let counted = !witness.recalls();
        let bill = pool.bill(hook, counted);
        let call = pin!(async {
            let mut run = pool.begin(hook, context, Some(message.id), witness).await?;
            let raised = run
                .warm
                .guest
                .inspect(&mut run.warm.store, message, &pool.disclosure, context)
                .await;
            let raised = self.unseen(raised, |v| matches!(v, Verdict::Replace { .. }));
            pool.end(hook, run, raised, witness)
        });
        let answer = metered(self.span(), bill, started, call).await;
        pool.count(hook, started, counted, answer, |verdict| match verdict {
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
        let (pool, hook, started) = (&self.pool, Hook::ComplianceCheck, now());
        let counted = !witness.recalls();
        let bill = pool.bill(hook, counted);
        let call = pin!(async {
            let mut run = pool.begin(hook, context, Some(message.id), witness).await?;
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
            let raised = self.unseen(raised, |r| matches!(r, Ruling::Amend { .. }));
            pool.end(hook, run, raised, witness)
        });
        let answer = metered(self.span(), bill, started, call).await;
        pool.count(hook, started, counted, answer, |ruling| match ruling {
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
        let (pool, hook, started) = (&self.pool, Hook::RoutingPolicy, now());
        let counted = !witness.recalls();
        let bill = pool.bill(hook, counted);
        let call = pin!(async {
            let mut run = pool.begin(hook, context, Some(message.id), witness).await?;
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
        });
        let answer = metered(self.span(), bill, started, call).await;
        pool.count(hook, started, counted, answer, |routing| match routing {
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
        witness: &mut Witness,
    ) -> Called<Vec<InboundAction>> {
        let (pool, hook, started) = (&self.pool, Hook::InboundHandler, now());
        let counted = !witness.recalls();
        let bill = pool.bill(hook, counted);
        let call = pin!(async {
            let mut run = pool.begin(hook, context, Some(inbound.id), witness).await?;
            let warm = &mut run.warm;
            let raised = warm
                .guest
                .receive(&mut warm.store, inbound, &pool.disclosure, context)
                .await;
            pool.end(hook, run, raised, witness)
        });
        let answer = metered(self.span(), bill, started, call).await;
        pool.count(hook, started, counted, answer, |_| CallOutcome::Pass)
    }

    /// `carrier-adapter`: hands one message to the carrier. After [`Fault::Timeout`] the request may
    /// or may not have reached it.
    pub async fn submit(
        &self,
        message: &Message,
        context: &Context,
    ) -> Called<Result<Vec<String>, SubmitError>> {
        let (pool, hook, started) = (&self.pool, Hook::CarrierAdapter, now());
        let witness = &mut Witness::absent();
        let counted = !witness.recalls();
        let bill = pool.bill(hook, counted);
        let work = pin!(async {
            let mut run = pool.begin(hook, context, Some(message.id), witness).await?;
            let warm = &mut run.warm;
            let call = warm
                .guest
                .submit(&mut warm.store, message, &pool.disclosure, context);
            match tokio::time::timeout(self.wait(), call).await {
                Ok(raised) => pool.end(hook, run, raised, witness),
                Err(_) => Err(self.timed_out()),
            }
        });
        let answer = metered(self.span(), bill, started, work).await;
        pool.count(hook, started, counted, answer, |taken| match taken {
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
        let (pool, hook, started) = (&self.pool, Hook::CarrierAdapter, now());
        let witness = &mut Witness::absent();
        let counted = !witness.recalls();
        let bill = pool.bill(hook, counted);
        let work = pin!(async {
            let mut run = pool.begin(hook, context, None, witness).await?;
            let warm = &mut run.warm;
            let call = warm.guest.callback(&mut warm.store, request, context);
            match tokio::time::timeout(self.wait(), call).await {
                Ok(raised) => pool.end(hook, run, raised, witness),
                Err(_) => Err(self.timed_out()),
            }
        });
        let answer = metered(self.span(), bill, started, work).await;
        pool.count(hook, started, counted, answer, |read| match read {
            Ok(_) => CallOutcome::Pass,
            Err(_) => CallOutcome::Refuse,
        })
    }

    /// What is withheld from a plugin it may not replace: it would write over a text that it never saw.
    fn unseen<T>(&self, raised: Raised<T>, replaces: impl Fn(&T) -> bool) -> Raised<T> {
        match (self.pool.disclosure.content, raised) {
            (ContentGrant::Length | ContentGrant::None, Ok(Ok(answer))) if replaces(&answer) => {
                Ok(Err(Bad(
                    "body: grants.content withholds the text, so it may not be replaced".into(),
                )))
            }
            (ContentGrant::Full | ContentGrant::Length | ContentGrant::None, raised) => raised,
        }
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
