//! One judgement: enrichments, content filters, compliance checks, routing, in the order of one policy set. It
//! depends on its arguments alone, so that a recorded decision can be made again by another set.
//! Changes what the message says of its network, its labels, body and plan; moves no state and asks no store.

use tracing::Instrument as _;

use crate::domain::text::{Alphabet, TextStyle};
use crate::domain::{
    Body, CallOutcome, CarrierView, Enriched, Facts, Hook, HookCall, Hop, Message, Outcome, Plan,
    Refusal, Routing, Ruling, Verdict,
};
use crate::plugin::{Entry, Fail, Fault, PolicySet, Witness};

/// Room for a `code: reason` in the trace.
const WHY_MAX: usize = 240;

/// What came of it, and the line that each call left.
pub struct Judgement {
    pub outcome: Outcome,
    pub calls: Vec<HookCall>,
}

impl Judgement {
    /// The registry's last word, which nothing overrides. A refusal stays the refusal that it is.
    pub fn opt_out(&mut self) {
        if !matches!(self.outcome, Outcome::Refuse(_)) {
            let why = "opted_out: the recipient asked for no more messages";
            self.calls.push(host_call(why));
            self.outcome = Outcome::OptedOut;
        }
    }
}

/// Decides with `set` alone from beginning to end.
pub async fn judge(
    set: &PolicySet,
    message: &mut Message,
    facts: &Facts,
    witness: &mut Witness,
) -> Judgement {
    let mut trace = Trace {
        calls: Vec::with_capacity(set.len() + 1),
    };
    if facts.exempt {
        trace.host(EXEMPT);
    }
    // Boxed: three calls into plugins are a large future, and every layer above would carry it.
    let span = tracing::debug_span!("decision", message_id = %message.id, set = %set.id());
    let outcome =
        Box::pin(run_hooks(set, message, facts, witness, &mut trace).instrument(span)).await;
    if outcome == Outcome::Send {
        message.plan.reroute = set.reroute(message.class).cloned();
    }
    Judgement {
        outcome,
        calls: trace.calls,
    }
}

/// The host's line in the trace of a message that opt-out does not hold back.
pub const EXEMPT: &str = "exempt: confirms the recipient's own wish";

async fn run_hooks(
    set: &PolicySet,
    message: &mut Message,
    facts: &Facts,
    witness: &mut Witness,
    trace: &mut Trace,
) -> Outcome {
    let account = message.account.clone();
    let entries = |hook| set.entries_for(hook, Some(&account));
    for entry in entries(Hook::Enrichment) {
        if let Some(outcome) = enrich(entry, message, facts, witness, trace).await {
            return outcome;
        }
    }
    for entry in entries(Hook::ContentFilter) {
        if let Some(outcome) = filter(entry, message, facts, witness, trace).await {
            return outcome;
        }
    }
    for entry in entries(Hook::ComplianceCheck) {
        if let Some(outcome) = comply(entry, message, facts, witness, trace).await {
            return outcome;
        }
    }
    for entry in entries(Hook::RoutingPolicy) {
        if let Some(outcome) = route(entry, message, facts, witness, trace).await {
            return outcome;
        }
    }
    default_route(set, message, &facts.carriers, trace)
}

async fn enrich(
    entry: &Entry,
    message: &mut Message,
    facts: &Facts,
    witness: &mut Witness,
    trace: &mut Trace,
) -> Option<Outcome> {
    let mut asked = entry;
    loop {
        let (result, nanos) = asked.enrich(message, &facts.context, witness).await;
        let fault = match result {
            Ok(Enriched::Pass) => {
                trace.call(asked, CallOutcome::Pass, "", nanos);
                return None;
            }
            Ok(Enriched::Found {
                network,
                labels,
                reason,
            }) => {
                trace.call(asked, CallOutcome::Enrich, &reason, nanos);
                message.network = network.unwrap_or(message.network);
                label(&mut message.metadata, labels);
                return None;
            }
            Err(fault) => fault,
        };
        match trace.fault(asked, &fault, nanos) {
            Then::Ask(previous) => asked = previous,
            Then::End(outcome) => return Some(outcome),
            Then::Next => return None,
        }
    }
}

async fn filter(
    entry: &Entry,
    message: &mut Message,
    facts: &Facts,
    witness: &mut Witness,
    trace: &mut Trace,
) -> Option<Outcome> {
    let mut asked = entry;
    loop {
        let (result, nanos) = asked.inspect(message, &facts.context, witness).await;
        let fault = match result {
            Ok(Verdict::Pass) => {
                trace.call(asked, CallOutcome::Pass, "", nanos);
                return None;
            }
            Ok(Verdict::Replace { body, reason }) => match replace_body(message, body) {
                Ok(()) => {
                    trace.call(asked, CallOutcome::Replace, &reason, nanos);
                    return None;
                }
                Err(fault) => fault,
            },
            Ok(Verdict::Refuse(refusal)) => {
                trace.refusal(asked, CallOutcome::Refuse, &refusal, nanos);
                return Some(Outcome::Refuse(refusal));
            }
            // A person has seen it and let it go: the wish to hold it has been heard.
            Ok(Verdict::Hold(reason)) if facts.released => {
                trace.call(
                    asked,
                    CallOutcome::Pass,
                    &format!("released: {reason}"),
                    nanos,
                );
                return None;
            }
            Ok(Verdict::Hold(reason)) => {
                trace.call(asked, CallOutcome::Hold, &reason, nanos);
                return Some(Outcome::Hold(reason));
            }
            Ok(Verdict::Drop(reason)) => {
                trace.call(asked, CallOutcome::Drop, &reason, nanos);
                return Some(Outcome::Drop(reason));
            }
            Err(fault) => fault,
        };
        match trace.fault(asked, &fault, nanos) {
            Then::Ask(previous) => asked = previous,
            Then::End(outcome) => return Some(outcome),
            Then::Next => return None,
        }
    }
}

async fn comply(
    entry: &Entry,
    message: &mut Message,
    facts: &Facts,
    witness: &mut Witness,
    trace: &mut Trace,
) -> Option<Outcome> {
    let mut asked = entry;
    loop {
        let (result, nanos) = asked
            .check(message, &facts.profile, &facts.context, witness)
            .await;
        let fault = match result {
            Ok(Ruling::Allow) => {
                trace.call(asked, CallOutcome::Allow, "", nanos);
                return None;
            }
            Ok(Ruling::Amend { body, reason }) => match replace_body(message, body) {
                Ok(()) => {
                    trace.call(asked, CallOutcome::Amend, &reason, nanos);
                    return None;
                }
                Err(fault) => fault,
            },
            Ok(Ruling::Defer { until, reason }) => {
                trace.call(asked, CallOutcome::Defer, &reason, nanos);
                return Some(Outcome::Defer { until, reason });
            }
            Ok(Ruling::Deny(refusal)) => {
                trace.refusal(asked, CallOutcome::Deny, &refusal, nanos);
                return Some(Outcome::Refuse(refusal));
            }
            Err(fault) => fault,
        };
        match trace.fault(asked, &fault, nanos) {
            Then::Ask(previous) => asked = previous,
            Then::End(outcome) => return Some(outcome),
            Then::Next => return None,
        }
    }
}

async fn route(
    entry: &Entry,
    message: &mut Message,
    facts: &Facts,
    witness: &mut Witness,
    trace: &mut Trace,
) -> Option<Outcome> {
    let mut asked = entry;
    loop {
        let (result, nanos) = asked
            .route(message, &facts.carriers, &facts.context, witness)
            .await;
        let fault = match result {
            Ok(Routing::Pass) => {
                trace.call(asked, CallOutcome::Pass, "", nanos);
                return None;
            }
            // Its hops name carriers that it was offered, and so carriers that are configured.
            Ok(Routing::Send(plan)) => {
                trace.call(asked, CallOutcome::Send, &plan.reason, nanos);
                message.plan = plan;
                message.hop = 0;
                return Some(Outcome::Send);
            }
            Ok(Routing::Defer { until, reason }) => {
                trace.call(asked, CallOutcome::Defer, &reason, nanos);
                return Some(Outcome::Defer { until, reason });
            }
            Ok(Routing::Refuse(refusal)) => {
                trace.refusal(asked, CallOutcome::Refuse, &refusal, nanos);
                return Some(Outcome::Refuse(refusal));
            }
            Err(fault) => fault,
        };
        match trace.fault(asked, &fault, nanos) {
            Then::Ask(previous) => asked = previous,
            Then::End(outcome) => return Some(outcome),
            Then::Next => return None,
        }
    }
}

/// The policy's default route; all carriers in the order of the configuration where it names none.
fn default_route(
    set: &PolicySet,
    message: &mut Message,
    carriers: &[CarrierView],
    trace: &mut Trace,
) -> Outcome {
    let hop = |carrier: &CarrierView| Hop {
        carrier: carrier.id.clone(),
        originator: None,
        price_micros: None,
        tlvs: Vec::new(),
    };
    let names = set.default_route();
    let hops: Vec<Hop> = if names.is_empty() {
        carriers.iter().map(hop).collect()
    } else {
        let known = names
            .iter()
            .filter_map(|n| carriers.iter().find(|c| c.id.as_str() == n));
        known.map(hop).collect()
    };
    if hops.is_empty() {
        trace.host("no_route");
        return Outcome::Refuse(Refusal {
            code: "no_route".to_owned(),
            reason: "no routing policy decided and no default route is configured".to_owned(),
        });
    }
    trace.host("default_route");
    message.plan = Plan {
        hops,
        reason: "default route".to_owned(),
        reroute: None,
    };
    message.hop = 0;
    Outcome::Send
}

/// A label takes the place of one of its name, the client's too: what a later hook trusts, no client sets.
fn label(metadata: &mut Vec<(String, String)>, labels: Vec<(String, String)>) {
    for (name, value) in labels {
        match metadata.iter_mut().find(|(known, _)| *known == name) {
            Some(same) => same.1 = value,
            None => metadata.push((name, value)),
        }
    }
}

/// The plugin's body takes the place of the client's, which is kept for the record.
fn replace_body(message: &mut Message, body: Body) -> Result<(), Fault> {
    let plan = message
        .measure(&body, &TextStyle::default())
        .map_err(|e| Fault::BadOutput(format!("body: {e}")))?;
    if plan.alphabet == Alphabet::Octets && matches!(message.body, Body::Text(_)) {
        return Err(Fault::BadOutput(
            "body: text cannot become binary".to_owned(),
        ));
    }
    let old = std::mem::replace(&mut message.body, body);
    message.submitted_body.get_or_insert(old);
    message.measured(plan);
    Ok(())
}

/// The lines of one decision as they come.
struct Trace {
    calls: Vec<HookCall>,
}

fn host_call(why: &str) -> HookCall {
    HookCall {
        entry: HookCall::HOST,
        outcome: CallOutcome::Host,
        why: why.to_owned(),
        nanos: 0,
    }
}

impl Trace {
    fn call(&mut self, entry: &Entry, outcome: CallOutcome, why: &str, nanos: u32) {
        let why = if entry.stands_in() {
            // Both versions stand under one position: the line says which of them it was.
            let line = format!("version {} stands in: {why}", entry.plugin().1);
            line.trim_end_matches(": ").chars().take(WHY_MAX).collect()
        } else {
            why.chars().take(WHY_MAX).collect()
        };
        self.calls.push(HookCall {
            entry: entry.index(),
            outcome,
            why,
            nanos,
        });
    }

    fn refusal(&mut self, entry: &Entry, outcome: CallOutcome, refusal: &Refusal, nanos: u32) {
        let why = format!("{}: {}", refusal.code, refusal.reason);
        self.call(entry, outcome, &why, nanos);
    }

    fn host(&mut self, why: &str) {
        self.calls.push(host_call(why));
    }

    /// Writes the fault down and applies the entry's fail mode.
    fn fault<'e>(&mut self, entry: &'e Entry, fault: &Fault, nanos: u32) -> Then<'e> {
        self.call(entry, fault.outcome(), &fault.to_string(), nanos);
        let held = || Then::End(Outcome::Unavailable(format!("{}: {fault}", entry.name())));
        match (entry.fail(), entry.previous()) {
            (Fail::Previous, Some(previous)) => Then::Ask(previous),
            (Fail::Closed | Fail::Previous, _) => held(),
            (Fail::Open | Fail::Default, _) => Then::Next,
        }
    }
}

/// What follows a fault.
enum Then<'e> {
    /// The version before is asked.
    Ask(&'e Entry),
    /// The decision ends here.
    End(Outcome),
    /// It goes on without this plugin.
    Next,
}
