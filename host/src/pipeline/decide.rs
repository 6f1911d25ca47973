//! A decision of this server: gathers what a judgement depends on, has one policy set judge, asks the
//! opt-out registry last, and writes down what was decided and why. Moves no state.

use std::time::Duration;

use super::Pipeline;
use super::judge::{self, EXEMPT, judge};
use crate::clock::Timestamp;
use crate::domain::text::TextStyle;
use crate::domain::{
    CaseRef, Context, Decision, Facts, Hook, HookCall, Message, Network, Outcome, Phase, Plan,
    Reason, RecipientProfile, State,
};
use crate::plugin::{PolicySet, Witness};

/// How a message stood before hooks changed it.
struct Before {
    network: Network,
    /// Kept where an enrichment may label the message.
    metadata: Option<Vec<(String, String)>>,
    /// False: an earlier decision's text is what may be at the phone already.
    own_text: bool,
}

impl Before {
    fn of(message: &Message, set: &PolicySet) -> Before {
        let labels = set.entries(Hook::Enrichment).next().is_some();
        Before {
            network: message.network,
            metadata: labels.then(|| message.metadata.clone()),
            own_text: message.submitted_body.is_none(),
        }
    }

    /// Takes back what a decision changed.
    fn restore(self, message: &mut Message) {
        if self.own_text {
            restore_body(message);
        }
        message.network = self.network;
        if let Some(metadata) = self.metadata {
            message.metadata = metadata;
        }
        message.plan = Plan::default();
        message.hop = 0;
    }
}

/// The client's own text in the place of what hooks made of it.
pub(super) fn restore_body(message: &mut Message) {
    if let Some(original) = message.submitted_body.take() {
        message.body = original;
    }
    // As at admission: an earlier decision counted it for the carrier that it chose.
    if let Ok(plan) = message.measure(&message.body, &TextStyle::default()) {
        message.measured(plan);
    }
}

impl Pipeline {
    /// Decides by what is in force: the active set, or the canary for its share. What a canary would
    /// not send, and what its plugins failed on, the active set decides: no message is refused
    /// because of a trial.
    pub(super) async fn decide_in_force(
        &self,
        message: &mut Message,
        phase: Phase,
        now: Timestamp,
        exempt: bool,
    ) -> Outcome {
        let in_force = self.policy.in_force();
        let Some(canary) = &in_force.canary else {
            return self
                .decide(&in_force.active, message, phase, now, exempt)
                .await;
        };
        // A possible copy at the phone already is no matter for a trial.
        let trial = message.state != State::SubmitUnknown && canary.takes(&message.recipient);
        if trial {
            let before = Before::of(message, &canary.set);
            // Boxed: trials are rare, and every attempt would carry the room for them.
            let outcome = Box::pin(self.decide(&canary.set, message, phase, now, exempt)).await;
            if canary.note_candidate(message, &outcome) {
                return outcome;
            }
            before.restore(message);
        }
        let outcome = self
            .decide(&in_force.active, message, phase, now, exempt)
            .await;
        if !trial {
            canary.note_baseline(message, &outcome);
        }
        outcome
    }

    /// Decides with `set` alone from beginning to end.
    pub async fn decide(
        &self,
        set: &PolicySet,
        message: &mut Message,
        phase: Phase,
        now: Timestamp,
        exempt: bool,
    ) -> Outcome {
        let facts = self.facts(message, phase, now, exempt);
        let before = Before::of(message, set);
        let kept = phase != Phase::Preview && before.own_text && self.observers.wanted();
        let mut witness = if kept {
            Witness::listening()
        } else {
            Witness::absent()
        };
        let mut judgement = judge(set, message, &facts, &mut witness).await;
        // Asked again after the plugins: routing may have chosen another originator, and the wish may
        // have come while they thought.
        let opted_out_after = !facts.exempt && self.opted_out(message);
        if facts.profile.opted_out || opted_out_after {
            judgement.opt_out();
        }
        let judge::Judgement { outcome, calls } = judgement;
        message.record_decision(Decision {
            set: set.id(),
            at: self.clock.now(),
            phase,
            calls,
        });
        if kept {
            let case = CaseRef {
                message,
                set: set.id(),
                facts: &facts,
                outcome: &outcome,
                opted_out_after,
                network: before.network,
                metadata: before.metadata.as_deref(),
                heard: &witness.into_heard(),
            };
            self.observers.note(&case);
        }
        if outcome == Outcome::Send {
            self.count_for_next_hop(message);
        }
        outcome
    }

    /// Carriers differ in what a segment holds. What was judged is the usual count, what is kept and
    /// priced is the count at the carrier that was chosen.
    fn count_for_next_hop(&self, message: &mut Message) {
        let style = self.next_text_style(message);
        if style != TextStyle::default()
            && let Ok(plan) = message.measure(&message.body, &style)
        {
            message.measured(plan);
        }
    }

    /// How the carrier of the next hop wants text.
    pub(super) fn next_text_style(&self, message: &Message) -> TextStyle {
        let carrier = message
            .next_hop_carrier()
            .and_then(|c| self.carriers.get(c));
        carrier.map(|c| c.text_style()).unwrap_or_default()
    }

    fn facts(&self, message: &Message, phase: Phase, now: Timestamp, exempt: bool) -> Facts {
        let context = Context {
            now,
            random: self.random_u64(),
            phase,
        };
        let exempt = exempt || is_exempt(message);
        let opted_out = !exempt && self.opted_out(message);
        let utc_offset_minutes =
            self.numbers
                .utc_offset_minutes(&message.recipient, &message.network, now);
        Facts {
            context,
            profile: RecipientProfile {
                opted_out,
                utc_offset_minutes,
                sent_last_day: self.sent_last_day(message, phase),
            },
            carriers: self.carriers.views(),
            released: message
                .events
                .iter()
                .any(|e| e.reason == Reason::ReleasedByOperator),
            exempt,
        }
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
    fn sent_last_day(&self, message: &Message, phase: Phase) -> u32 {
        let age = self.clock.now().since(message.accepted_at);
        let counted = match phase {
            Phase::Dispatch | Phase::Retry => age < Duration::from_secs(86_400),
            Phase::Admission | Phase::Preview => false,
        };
        let sent = self
            .store
            .sent_last_day(&message.account, &message.recipient.value);
        sent.saturating_sub(u32::from(counted))
    }
}

/// Whether the first decision, which is never dropped from the trace, was exempt.
pub(super) fn is_exempt(message: &Message) -> bool {
    let first = message.decisions.first();
    first.is_some_and(|d| {
        let mut calls = d.calls.iter();
        calls.any(|c| c.entry == HookCall::HOST && c.why == EXEMPT)
    })
}
