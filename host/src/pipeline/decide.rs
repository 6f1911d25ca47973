//! One decision by one policy set: content filters, compliance checks, routing, and the host's own
//! last word, the opt-out registry. Changes the message's body, plan and trace; moves no state.

use std::time::Duration;

use super::Pipeline;
use crate::clock::Timestamp;
use crate::domain::text::{self, Alphabet};
use crate::domain::{
    Body, CallOutcome, Context, Decision, Hook, HookCall, Message, Phase, Plan, Reason,
    RecipientProfile, Refusal, Routing, Ruling, Verdict,
};
use crate::plugin::{CarrierView, Entry, Fail, Fault, PolicySet};

/// What a decision comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `message.plan` says where.
    Send,
    Refuse(Refusal),
    OptedOut,
    /// Parked for a person.
    Hold(String),
    /// Accepted and discarded.
    Drop(String),
    Defer {
        until: Timestamp,
        reason: String,
    },
    /// A plugin that must agree could not be asked.
    Unavailable(String),
}

/// Room for a `code: reason` in the trace.
const WHY_MAX: usize = 240;

impl Pipeline {
    /// Decides with `set` alone from beginning to end. `exempt` is for the one message that an
    /// opted-out person does get: the confirmation of the wish.
    pub async fn decide(
        &self,
        set: &PolicySet,
        message: &mut Message,
        phase: Phase,
        now: Timestamp,
        exempt: bool,
    ) -> Outcome {
        let context = Context {
            now,
            random: self.random_u64(),
            phase,
        };
        let mut trace = Trace {
            decision: Decision {
                set: set.id(),
                at: self.clock.now(),
                phase,
                calls: Vec::with_capacity(set.len() + 1),
            },
        };
        let exempt = exempt || is_exempt(message);
        if exempt {
            trace.host(EXEMPT);
        }
        let opted_out = !exempt && self.opted_out(message);
        // Boxed: three calls into plugins are a large future, and every layer above would carry it.
        let outcome = Box::pin(self.run_hooks(set, message, &context, opted_out, &mut trace)).await;
        // Asked again after the plugins: routing may have chosen another originator, and the wish may
        // have come while they thought.
        let opted_out = opted_out || (!exempt && self.opted_out(message));
        let outcome = if opted_out && !matches!(outcome, Outcome::Refuse(_)) {
            trace.host("opted_out: the recipient asked for no more messages");
            Outcome::OptedOut
        } else {
            outcome
        };
        message.record_decision(trace.decision);
        outcome
    }

    /// Whether the recipient wants nothing from any originator that this message may bear.
    pub(super) fn opted_out(&self, message: &Message) -> bool {
        let hops = message.plan.hops.iter();
        let mut originators = hops
            .filter_map(|hop| hop.originator.as_ref())
            .chain([&message.originator]);
        originators.any(|originator| {
            self.store.opted_out(
                &message.account,
                &originator.value,
                &message.recipient.value,
            )
        })
    }

    /// Without this message itself, which is counted from its acceptance on.
    fn sent_last_day(&self, message: &Message, context: &Context) -> u32 {
        let age = self.clock.now().since(message.accepted_at);
        let counted = match context.phase {
            Phase::Dispatch | Phase::Retry => age < Duration::from_secs(86_400),
            Phase::Admission | Phase::Preview => false,
        };
        let sent = self
            .store
            .sent_last_day(&message.account, &message.recipient.value);
        sent.saturating_sub(u32::from(counted))
    }

    async fn run_hooks(
        &self,
        set: &PolicySet,
        message: &mut Message,
        context: &Context,
        opted_out: bool,
        trace: &mut Trace,
    ) -> Outcome {
        for entry in set.entries(Hook::ContentFilter) {
            if let Some(outcome) = filter(entry, message, context, trace).await {
                return outcome;
            }
        }
        let profile = RecipientProfile {
            opted_out,
            utc_offset_minutes: self.numbers.utc_offset_minutes(
                &message.recipient,
                &message.network,
                context.now,
            ),
            sent_last_day: self.sent_last_day(message, context),
        };
        for entry in set.entries(Hook::ComplianceCheck) {
            if let Some(outcome) = comply(entry, message, &profile, context, trace).await {
                return outcome;
            }
        }
        let carriers = self.carriers.views();
        for entry in set.entries(Hook::RoutingPolicy) {
            if let Some(outcome) = self.route(entry, message, &carriers, context, trace).await {
                return outcome;
            }
        }
        self.default_route(set, message, trace)
    }

    async fn route(
        &self,
        entry: &Entry,
        message: &mut Message,
        carriers: &[CarrierView],
        context: &Context,
        trace: &mut Trace,
    ) -> Option<Outcome> {
        let (result, nanos) = entry.route(message, carriers, context).await;
        match result {
            Ok(Routing::Pass) => {
                trace.call(entry, CallOutcome::Pass, "", nanos);
                None
            }
            Ok(Routing::Send(plan)) => self.adopt(entry, message, plan, nanos, trace),
            Ok(Routing::Defer { until, reason }) => {
                trace.call(entry, CallOutcome::Defer, &reason, nanos);
                Some(Outcome::Defer { until, reason })
            }
            Ok(Routing::Refuse(refusal)) => {
                trace.refusal(entry, CallOutcome::Refuse, &refusal, nanos);
                Some(Outcome::Refuse(refusal))
            }
            Err(fault) => trace.fault(entry, &fault, nanos),
        }
    }

    /// A plan is good when it names carriers that exist. One that names none is a fault.
    fn adopt(
        &self,
        entry: &Entry,
        message: &mut Message,
        mut plan: Plan,
        nanos: u32,
        trace: &mut Trace,
    ) -> Option<Outcome> {
        plan.hops.retain(|hop| self.carriers.contains(&hop.carrier));
        if plan.hops.is_empty() {
            let fault = Fault::BadOutput("hops: no carrier of this name is configured".to_owned());
            return trace.fault(entry, &fault, nanos);
        }
        trace.call(entry, CallOutcome::Send, &plan.reason, nanos);
        message.plan = plan;
        message.hop = 0;
        Some(Outcome::Send)
    }

    fn default_route(&self, set: &PolicySet, message: &mut Message, trace: &mut Trace) -> Outcome {
        let hops = self.carriers.default_hops(set.default_route());
        if hops.is_empty() {
            let refusal = Refusal {
                code: "no_route".to_owned(),
                reason: "no routing policy decided and no default route is configured".to_owned(),
            };
            trace.host("no_route");
            return Outcome::Refuse(refusal);
        }
        trace.host("default_route");
        message.plan = Plan {
            hops,
            reason: "default route".to_owned(),
        };
        message.hop = 0;
        Outcome::Send
    }
}

async fn filter(
    entry: &Entry,
    message: &mut Message,
    context: &Context,
    trace: &mut Trace,
) -> Option<Outcome> {
    let (result, nanos) = entry.inspect(message, context).await;
    match result {
        Ok(Verdict::Pass) => {
            trace.call(entry, CallOutcome::Pass, "", nanos);
            None
        }
        Ok(Verdict::Replace { body, reason }) => match replace_body(message, body) {
            Ok(()) => {
                trace.call(entry, CallOutcome::Replace, &reason, nanos);
                None
            }
            Err(fault) => trace.fault(entry, &fault, nanos),
        },
        Ok(Verdict::Refuse(refusal)) => {
            trace.refusal(entry, CallOutcome::Refuse, &refusal, nanos);
            Some(Outcome::Refuse(refusal))
        }
        // A person has seen it and let it go: the wish to hold it has been heard.
        Ok(Verdict::Hold(reason)) if released(message) => {
            trace.call(
                entry,
                CallOutcome::Pass,
                &format!("released: {reason}"),
                nanos,
            );
            None
        }
        Ok(Verdict::Hold(reason)) => {
            trace.call(entry, CallOutcome::Hold, &reason, nanos);
            Some(Outcome::Hold(reason))
        }
        Ok(Verdict::Drop(reason)) => {
            trace.call(entry, CallOutcome::Drop, &reason, nanos);
            Some(Outcome::Drop(reason))
        }
        Err(fault) => trace.fault(entry, &fault, nanos),
    }
}

async fn comply(
    entry: &Entry,
    message: &mut Message,
    profile: &RecipientProfile,
    context: &Context,
    trace: &mut Trace,
) -> Option<Outcome> {
    let (result, nanos) = entry.check(message, profile, context).await;
    match result {
        Ok(Ruling::Allow) => {
            trace.call(entry, CallOutcome::Allow, "", nanos);
            None
        }
        Ok(Ruling::Amend { body, reason }) => match replace_body(message, body) {
            Ok(()) => {
                trace.call(entry, CallOutcome::Amend, &reason, nanos);
                None
            }
            Err(fault) => trace.fault(entry, &fault, nanos),
        },
        Ok(Ruling::Defer { until, reason }) => {
            trace.call(entry, CallOutcome::Defer, &reason, nanos);
            Some(Outcome::Defer { until, reason })
        }
        Ok(Ruling::Deny(refusal)) => {
            trace.refusal(entry, CallOutcome::Deny, &refusal, nanos);
            Some(Outcome::Refuse(refusal))
        }
        Err(fault) => trace.fault(entry, &fault, nanos),
    }
}

/// The host's line in the trace of a message that opt-out does not hold back.
const EXEMPT: &str = "exempt: confirms the recipient's own wish";

/// Whether the first decision, which is never dropped from the trace, was exempt.
pub(super) fn is_exempt(message: &Message) -> bool {
    let first = message.decisions.first();
    first.is_some_and(|d| {
        let mut calls = d.calls.iter();
        calls.any(|c| c.entry == HookCall::HOST && c.why == EXEMPT)
    })
}

fn released(message: &Message) -> bool {
    message
        .events
        .iter()
        .any(|e| e.reason == Reason::ReleasedByOperator)
}

/// The plugin's body takes the place of the client's, which is kept for the record.
fn replace_body(message: &mut Message, body: Body) -> Result<(), Fault> {
    let plan = text::plan(&body).map_err(|e| Fault::BadOutput(format!("body: {e}")))?;
    if plan.alphabet == Alphabet::Octets && matches!(message.body, Body::Text(_)) {
        return Err(Fault::BadOutput(
            "body: text cannot become binary".to_owned(),
        ));
    }
    let old = std::mem::replace(&mut message.body, body);
    message.submitted_body.get_or_insert(old);
    message.alphabet = plan.alphabet;
    message.segments = plan.segments;
    Ok(())
}

/// The lines of one decision as they come.
struct Trace {
    decision: Decision,
}

impl Trace {
    fn call(&mut self, entry: &Entry, outcome: CallOutcome, why: &str, nanos: u32) {
        self.decision.calls.push(HookCall {
            entry: entry.index(),
            outcome,
            why: why.chars().take(WHY_MAX).collect(),
            nanos,
        });
    }

    fn refusal(&mut self, entry: &Entry, outcome: CallOutcome, refusal: &Refusal, nanos: u32) {
        let why = format!("{}: {}", refusal.code, refusal.reason);
        self.call(entry, outcome, &why, nanos);
    }

    fn host(&mut self, why: &str) {
        self.decision.calls.push(HookCall {
            entry: HookCall::HOST,
            outcome: CallOutcome::Host,
            why: why.to_owned(),
            nanos: 0,
        });
    }

    /// Writes the fault down and applies the entry's fail mode: an outcome where the decision ends
    /// here, none where it goes on without this plugin.
    fn fault(&mut self, entry: &Entry, fault: &Fault, nanos: u32) -> Option<Outcome> {
        self.call(entry, fault.outcome(), &fault.to_string(), nanos);
        match entry.fail() {
            Fail::Closed => Some(Outcome::Unavailable(format!("{}: {fault}", entry.name()))),
            Fail::Open | Fail::Default => None,
        }
    }
}
