//! What the inbound handlers of one policy set make of a mobile-originated message. It depends on its arguments
//! alone, so that a recorded decision can be made again by another set. Does nothing of what they ask.

use crate::domain::{
    AccountId, Asked, CallOutcome, Context, Hook, HookCall, Inbound, InboundAction, WishScope,
};
use crate::plugin::{Entry, PolicySet, Witness};

/// Room for a fault in the trace.
const WHY_MAX: usize = 240;

/// What they ask for, and the line that each call left.
pub struct Answered {
    pub asked: Vec<Asked>,
    pub calls: Vec<HookCall>,
}

/// `owner` is the account that the text is for.
pub async fn ask(
    set: &PolicySet,
    inbound: &Inbound,
    owner: Option<&AccountId>,
    context: &Context,
    witness: &mut Witness,
) -> Answered {
    let (mut asked, mut calls) = (Vec::new(), Vec::new());
    for entry in set.entries_for(Hook::InboundHandler, owner) {
        let mut next = Some(entry);
        while let Some(entry) = next {
            let (answer, nanos) = entry.receive(inbound, context, witness).await;
            let (outcome, why) = match &answer {
                Ok(_) => (CallOutcome::Pass, String::new()),
                Err(fault) => (fault.outcome(), told(entry, &fault.to_string())),
            };
            calls.push(HookCall {
                entry: entry.index(),
                outcome,
                why,
                nanos,
            });
            // Inbound hooks are open by nature: the message is stored whatever they do.
            next = match answer {
                Ok(actions) => {
                    asked.extend(actions.into_iter().map(|action| Asked {
                        action: within_reach(entry, action),
                        of_operator: entry.account().is_none(),
                    }));
                    None
                }
                Err(_) => entry.previous(),
            };
        }
    }
    Answered { asked, calls }
}

/// Both versions stand under one position: the line says which of them it was.
fn told(entry: &Entry, fault: &str) -> String {
    let line = format!("version {}: {fault}", entry.plugin().1);
    line.chars().take(WHY_MAX).collect()
}

/// What an account's own plugin asks for reaches no further than the account.
fn within_reach(entry: &Entry, action: InboundAction) -> InboundAction {
    match (entry.account(), action) {
        (Some(_), InboundAction::OptOut(WishScope::Everything)) => {
            InboundAction::OptOut(WishScope::Account)
        }
        (Some(_), InboundAction::OptIn(WishScope::Everything)) => {
            InboundAction::OptIn(WishScope::Account)
        }
        (Some(_) | None, action) => action,
    }
}
