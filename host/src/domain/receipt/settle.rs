//! What a report does to its message: the only place where receipts move a state. A segment's final
//! report is never unsaid and a terminal state never left; what contradicts either is written into the
//! history. A message whose every segment failed may go to the next carrier of its plan, where its
//! policy says so.

use super::Report;
use crate::clock::Timestamp;
use crate::domain::message::{
    AttemptOutcome, CarrierId, FailedDelivery, Lane, Message, Part, PartState, Reason, State,
};

/// What a report did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptEffect {
    /// The message reached a terminal state just now.
    Settled,
    /// Every segment failed, and the next carrier of the plan gets the message.
    Rerouted,
    /// A segment changed; others are still out.
    Progress,
    /// An intermediate notification was written into the history.
    Intermediate,
    /// It contradicts what is known already, and was written into the history.
    Contradiction,
    /// It says what is known already.
    None,
}

impl ReceiptEffect {
    /// Whether the message's record has changed.
    pub fn changed(self) -> bool {
        self != ReceiptEffect::None
    }

    /// Whether a segment's end became known just now.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            ReceiptEffect::Settled | ReceiptEffect::Rerouted | ReceiptEffect::Progress
        )
    }
}

/// Lines of history that receipts may add without moving the message: a chatty carrier does not
/// push out the rest.
const NOTES_MAX: usize = 16;

impl Message {
    /// Applies a report to segment `index`. One true status for a message of several segments: it is
    /// delivered when all are, and any that failed fails it once all have reported.
    pub fn apply_receipt(
        &mut self,
        now: Timestamp,
        index: usize,
        report: &Report,
    ) -> ReceiptEffect {
        let Some(part) = self.parts.get_mut(index) else {
            return ReceiptEffect::None;
        };
        match (part.state, report.state) {
            // That is our word, and no carrier's.
            (_, PartState::Unanswered) => return ReceiptEffect::None,
            (PartState::Enroute | PartState::Unanswered, PartState::Enroute) => {
                return self.note(now, Reason::IntermediateReceipt, index, report);
            }
            // Also where its response was lost: it arrived all the same.
            (PartState::Enroute | PartState::Unanswered, _) => {}
            // Known, or overtaken by what was known.
            (known, said) if known == said || said == PartState::Enroute => {
                return ReceiptEffect::None;
            }
            (..) => return self.note(now, Reason::ContradictoryReceipt, index, report),
        }
        part.state = report.state;
        part.error = report.error.chars().take(64).collect();
        part.network_type = report.network_type;
        part.done_at = report.done_at;
        if self.state.is_terminal() {
            let agrees = self.outcome_of_parts().is_none_or(|o| o == self.state);
            if agrees {
                return ReceiptEffect::Progress;
            }
            self.note(now, Reason::ContradictoryReceipt, index, report);
            return ReceiptEffect::Contradiction;
        }
        self.conclude_parts(now)
    }

    /// The same for all segments that have not reported: their carrier sends one receipt for all.
    pub fn apply_receipt_to_all(&mut self, now: Timestamp, report: &Report) -> ReceiptEffect {
        let open = |parts: &[Part]| parts.iter().position(|p| p.state == PartState::Enroute);
        let mut effect = ReceiptEffect::None;
        while let Some(index) = open(&self.parts) {
            let this = self.apply_receipt(now, index, report);
            if this.changed() {
                effect = this;
            }
            // An intermediate notification leaves the segment open.
            if report.state == PartState::Enroute {
                break;
            }
        }
        effect
    }

    /// A report about a segment that an earlier carrier had, after the message went on to another.
    pub fn apply_late_receipt(
        &mut self,
        now: Timestamp,
        delivery: usize,
        index: usize,
        report: &Report,
    ) -> ReceiptEffect {
        let known = self.failed.get(delivery).and_then(|d| d.parts.get(index));
        let Some(known) = known.map(|part| part.state) else {
            return ReceiptEffect::None;
        };
        if known == report.state || report.state == PartState::Enroute {
            return ReceiptEffect::None;
        }
        if report.state == PartState::Delivered {
            // The copy that was said to have failed arrived after all.
            self.duplicate_risk = true;
        }
        let carrier = self.failed[delivery].carrier().cloned();
        self.note_of(now, Reason::ContradictoryReceipt, carrier, index, report)
    }

    /// The carrier has had its time to report. What is known decides: where a segment failed the
    /// message did, else nobody knows.
    pub fn receipts_overdue(&mut self, now: Timestamp) -> bool {
        let reported = self.parts.iter().filter(|p| p.state.is_reported());
        let (count, worst) = reported.fold((0, State::Delivered), |(count, worst), part| {
            let this = state_of(part.state).unwrap_or(State::Delivered);
            (
                count + 1,
                if rank(this) > rank(worst) {
                    this
                } else {
                    worst
                },
            )
        });
        let outcome = match worst {
            State::Delivered => State::Unknown,
            failed => failed,
        };
        let detail = match self.parts.len() {
            0 | 1 => String::new(),
            all => format!("{count} of {all} segments reported"),
        };
        self.enter(now, outcome, Reason::ReceiptTimeout, detail)
    }

    /// Whether a carrier had the message and reported that it failed.
    pub fn failed_at(&self, carrier: &CarrierId) -> bool {
        self.failed.iter().any(|d| d.carrier() == Some(carrier))
    }

    /// The first hop from `from` on whose carrier has not reported a failure of this message.
    pub fn open_hop(&self, from: usize) -> Option<u8> {
        let hops = self.plan.hops.iter().enumerate().skip(from);
        let mut open = hops.filter(|(_, hop)| !self.failed_at(&hop.carrier));
        open.next().and_then(|(n, _)| u8::try_from(n).ok())
    }

    /// How the last carrier that had it said that it failed.
    pub fn last_failure(&self) -> (State, String) {
        let parts = self.failed.last().map_or(&[][..], |d| &d.parts);
        let worst = parts
            .iter()
            .filter_map(|p| state_of(p.state))
            .max_by_key(|s| rank(*s));
        let error = first_error(parts);
        let detail = if error.is_empty() {
            error
        } else {
            format!("err:{error}")
        };
        (worst.unwrap_or(State::Undeliverable), detail)
    }

    fn conclude_parts(&mut self, now: Timestamp) -> ReceiptEffect {
        let Some(outcome) = self.outcome_of_parts() else {
            return ReceiptEffect::Progress;
        };
        let error = first_error(&self.parts);
        let detail = if error.is_empty() {
            error.clone()
        } else {
            format!("err:{error}")
        };
        if self.may_go_on(now, outcome) {
            self.go_on(now, outcome, error, &detail);
            return ReceiptEffect::Rerouted;
        }
        self.enter(now, outcome, Reason::Receipt, detail);
        ReceiptEffect::Settled
    }

    /// Whether the plan's policy wants another carrier to have a try after this outcome. A message of
    /// which any segment may have arrived never goes out again.
    fn may_go_on(&self, now: Timestamp, outcome: State) -> bool {
        let Some(reroute) = &self.plan.reroute else {
            return false;
        };
        let asked_for = |state: PartState| state_of(state).is_some_and(|s| reroute.on.contains(&s));
        let listed = |error: &str| {
            reroute.errors.is_empty() || reroute.errors.iter().any(|e| same_error(e, error))
        };
        reroute.on.contains(&outcome)
            && self
                .parts
                .iter()
                .all(|p| asked_for(p.state) && listed(&p.error))
            && self.failed.len() < usize::from(reroute.max)
            && now < self.expires_at
            && reroute
                .within
                .is_none_or(|w| now.since(self.accepted_at) < w)
            && self.hop_after_failure().is_some()
    }

    /// The hop behind the present one, or before it where those behind have failed.
    fn hop_after_failure(&self) -> Option<u8> {
        let here = self.parts.first().map(|p| &p.carrier);
        let elsewhere = |n: &u8| {
            let hop = self.plan.hops.get(usize::from(*n));
            hop.map(|h| &h.carrier) != here
        };
        let behind = usize::from(self.hop) + 1;
        self.open_hop(behind)
            .filter(elsewhere)
            .or_else(|| self.open_hop(0).filter(elsewhere))
    }

    fn go_on(&mut self, now: Timestamp, outcome: State, error: String, detail: &str) {
        let Some(next) = self.hop_after_failure() else {
            return;
        };
        let here = self.parts.first().map(|p| p.carrier.clone());
        let attempt = self.attempts.iter_mut().rev().find(|a| {
            a.outcome == AttemptOutcome::Sent && here.as_ref().is_none_or(|c| *c == a.carrier)
        });
        if let Some(attempt) = attempt {
            attempt.outcome = AttemptOutcome::Undelivered(error);
        }
        let price_micros = self.price_of_parts();
        // While the segments are still here, so that the line names their carrier.
        let said = format!("{} {detail}", outcome.name());
        self.enter(
            now,
            State::Queued,
            Reason::ReroutedByReceipt,
            said.trim_end(),
        );
        self.failed.push(FailedDelivery {
            parts: std::mem::take(&mut self.parts),
            price_micros,
        });
        self.hop = next;
        if let Some(carrier) = self.next_hop_carrier().cloned() {
            self.wait(Lane::Carrier(carrier), now);
        }
    }

    /// What the segments at the present carrier cost, where the plan knows it.
    pub fn price_of_parts(&self) -> Option<u64> {
        let carrier = &self.parts.first()?.carrier;
        let hop = self.plan.hops.iter().find(|h| h.carrier == *carrier)?;
        Some(hop.price_micros?.saturating_mul(self.parts.len() as u64))
    }

    /// The message's state once every segment reported, none before.
    fn outcome_of_parts(&self) -> Option<State> {
        let mut worst = State::Delivered;
        for part in &self.parts {
            let this = state_of(part.state)?;
            if rank(this) > rank(worst) {
                worst = this;
            }
        }
        Some(worst)
    }

    fn note(
        &mut self,
        now: Timestamp,
        reason: Reason,
        index: usize,
        report: &Report,
    ) -> ReceiptEffect {
        let carrier = self.parts.get(index).map(|p| p.carrier.clone());
        self.note_of(now, reason, carrier, index, report)
    }

    /// A line of history that moves nothing; the same line twice running is one.
    fn note_of(
        &mut self,
        now: Timestamp,
        reason: Reason,
        carrier: Option<CarrierId>,
        index: usize,
        report: &Report,
    ) -> ReceiptEffect {
        let mut detail = match report.state {
            PartState::Enroute => String::new(),
            said => said.name().to_owned(),
        };
        if self.parts.len() > 1 {
            detail = format!("segment {}: {detail}", index + 1);
        }
        if report.error.bytes().any(|b| b != b'0') {
            detail = format!("{detail} err:{}", report.error);
        }
        let detail = detail.trim_start_matches(' ').trim_end_matches([':', ' ']);
        let is_note = |r: Reason| {
            matches!(
                r,
                Reason::IntermediateReceipt | Reason::ContradictoryReceipt
            )
        };
        let notes = self.events.iter().filter(|e| is_note(e.reason)).count();
        let repeated = self
            .events
            .last()
            .is_some_and(|e| e.reason == reason && e.carrier == carrier && e.detail == detail);
        if notes >= NOTES_MAX || repeated {
            return ReceiptEffect::None;
        }
        self.note_event(now, reason, carrier, detail);
        match reason {
            Reason::IntermediateReceipt => ReceiptEffect::Intermediate,
            _ => ReceiptEffect::Contradiction,
        }
    }
}

fn first_error(parts: &[Part]) -> String {
    let telling = |error: &str| error.bytes().any(|b| b != b'0');
    let part = parts.iter().find(|p| telling(&p.error));
    part.map(|p| p.error.clone()).unwrap_or_default()
}

fn state_of(part: PartState) -> Option<State> {
    Some(match part {
        PartState::Enroute | PartState::Unanswered => return None,
        PartState::Delivered => State::Delivered,
        PartState::Unknown => State::Unknown,
        PartState::Expired => State::Expired,
        PartState::Undeliverable => State::Undeliverable,
        PartState::Rejected => State::Rejected,
    })
}

/// How bad an outcome is: the worst segment's is the message's.
fn rank(state: State) -> u8 {
    match state {
        State::Delivered => 0,
        State::Unknown => 1,
        State::Expired => 2,
        State::Undeliverable => 3,
        _ => 4,
    }
}

/// `34` and `034` are one code.
fn same_error(a: &str, b: &str) -> bool {
    let significant = |e: &str| e.trim_start_matches('0').to_ascii_lowercase();
    significant(a) == significant(b)
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;
