//! A recorded decision made again by another policy set: the same message, the same moment, the same
//! answers of the host. Nothing is changed by it. Replay and shadow are both this.

use std::sync::Arc;

use super::inbound_hooks::{self, Answered};
use super::judge::judge;
use crate::clock::Clock;
use crate::domain::{CallOutcome, Case, HookCall, InboundCase, Message, Outcome};
use crate::plugin::{MemoryState, PolicySet, Witness};

/// State that a candidate asks for and the recorded decision did not, kept over the cases of one
/// rehearsal. It begins empty and lives by the time of the cases.
pub struct Stage {
    clock: Clock,
    state: Arc<MemoryState>,
}

impl Stage {
    pub fn new() -> Stage {
        let clock = Clock::manual(crate::clock::Timestamp(0));
        Stage {
            state: Arc::new(MemoryState::new(clock.clone())),
            clock,
        }
    }
}

impl Default for Stage {
    fn default() -> Stage {
        Stage::new()
    }
}

/// What another set makes of a case.
pub struct Rehearsed {
    /// As the candidate leaves it.
    pub message: Message,
    pub outcome: Outcome,
    pub calls: Vec<HookCall>,
}

impl Rehearsed {
    pub fn faulted(&self) -> bool {
        faulted(&self.calls)
    }
}

/// Whether a plugin gave no answer.
pub fn faulted(calls: &[HookCall]) -> bool {
    calls
        .iter()
        .any(|c| matches!(c.outcome, CallOutcome::Fault | CallOutcome::Skipped))
}

/// Makes the decision again. The same set comes to the same end.
pub async fn rehearse(set: &PolicySet, case: &Case, stage: &Stage) -> Rehearsed {
    stage.clock.set(case.facts.context.now);
    let mut message = case.message_before();
    let mut witness = Witness::recalling(case.heard.clone(), stage.state.clone());
    let mut judgement = judge(set, &mut message, &case.facts, &mut witness).await;
    // The wish was one against the originators of then, or against this account altogether: a
    // candidate that bears the same ones meets it too.
    if case.facts.profile.opted_out || (case.opted_out_after && same_originators(case, &message)) {
        judgement.opt_out();
    }
    Rehearsed {
        message,
        outcome: judgement.outcome,
        calls: judgement.calls,
    }
}

/// Asks the handlers again. The same set asks for the same.
pub async fn rehearse_inbound(set: &PolicySet, case: &InboundCase, stage: &Stage) -> Answered {
    stage.clock.set(case.context.now);
    let mut witness = Witness::recalling(case.heard.clone(), stage.state.clone());
    let (inbound, owner) = (&case.inbound, case.owner.as_ref());
    inbound_hooks::ask(set, inbound, owner, &case.context, &mut witness).await
}

fn same_originators(case: &Case, now: &Message) -> bool {
    let of = |m: &Message| {
        let hops = m.plan.hops.iter();
        let chosen = hops.map(|h| h.originator.clone().unwrap_or(m.originator.clone()));
        chosen.collect::<Vec<_>>()
    };
    of(&case.message) == of(now)
}
