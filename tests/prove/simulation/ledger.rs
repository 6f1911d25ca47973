//! What clients were told, what carriers took and what webhooks heard, kept outside of the server, and the
//! rules that all of it has to obey.

use std::collections::BTreeMap;

use heliograph::domain::{
    Body, CallOutcome, CarrierId, HookCall, Message, MessageId, PartState, Reason,
    State as MessageState,
};
use heliograph::store::Counted;

use super::plugins::LABEL;
use super::world::State;

/// So long after its answer came a submission is surely written down, where the disk works.
const WRITTEN_MS: u64 = 1_000;
/// Two clocks in whole milliseconds.
const SLACK_MS: u64 = 5;

#[derive(Default)]
pub struct Ledger {
    pub entries: Vec<Entry>,
    by_id: BTreeMap<MessageId, usize>,
}

/// One message that a client sent.
#[derive(Default)]
pub struct Entry {
    /// Where the client was told so.
    pub id: Option<MessageId>,
    pub submitted_ms: u64,
    /// Syncs that had been when it was sent to us.
    syncs_before: u64,
    pub valid_ms: u64,
    /// Of its segments, in the order in which carriers took them.
    pub copies: Vec<Copy>,
    segments: usize,
    /// No more than that the carrier may have it.
    pub unanswered: u32,
    pub refused: bool,
    /// A plugin refused or dropped it.
    pub refused_by_policy: bool,
    pub text: String,
    /// A plugin's answer to a handset: no client sent it.
    pub is_reply: bool,
    /// What plugins put in the place of its text.
    pub rewrites: Vec<String>,
    pub cancel_asked: bool,
    pub wants_webhook: bool,
    pub told: Option<MessageState>,
    pub ended: Option<MessageState>,
}

impl Entry {
    /// Different ones.
    pub fn segments_taken(&self) -> usize {
        let taken = |segment: &usize| self.copies.iter().any(|c| c.segment == *segment);
        (0..self.segments).filter(taken).count()
    }

    /// The carrier has reported every segment, and the server knows which message that was.
    fn is_reported(&self) -> bool {
        self.segments > 0
            && (0..self.segments).all(|segment| {
                let mut copies = self.copies.iter().rev();
                copies
                    .find(|c| c.segment == segment)
                    .is_some_and(|c| c.answered_ms.is_some() && !c.forgotten && c.reported)
            })
    }
}

/// A segment that a carrier took.
pub struct Copy {
    segment: usize,
    pub answered_ms: Option<u64>,
    /// The life that it was answered in.
    life: u32,
    /// Its server ended, or could not write, so soon after the answer that it may not have been written down.
    pub forgotten: bool,
    /// What its receipts say, as the carrier sent them.
    pub said: Vec<PartState>,
    /// The server has said of the last receipt that it is taken.
    pub reported: bool,
}

impl State {
    pub fn submitting(&mut self, valid_ms: u64, wants_webhook: bool, text: &str) -> usize {
        let entry = Entry {
            submitted_ms: self.now_ms(),
            syncs_before: self.syncs,
            valid_ms,
            wants_webhook,
            text: text.to_owned(),
            ..Entry::default()
        };
        self.ledger.entries.push(entry);
        self.ledger.entries.len() - 1
    }

    /// A plugin answers a handset. What it says tells which answer it is.
    pub fn replying(&mut self) -> String {
        let n = self.ledger.entries.len();
        let text = format!("{REPLY}{n}");
        self.submitting(0, false, &text);
        self.ledger.entries[n].is_reply = true;
        text
    }

    pub fn acknowledged(&mut self, n: usize, id: MessageId) {
        let known = self.ledger.entries[n].id.replace(id);
        if known.is_some_and(|known| known != id) {
            self.fault(format!("message {n} has two ids"));
        }
        if self.ledger.by_id.insert(id, n).is_some_and(|m| m != n) {
            self.fault(format!("messages {n} and another have one id"));
        }
        if self.syncs == self.ledger.entries[n].syncs_before {
            self.fault(format!("message {n} is acknowledged before any sync"));
        }
    }

    /// A carrier is handed it.
    pub fn on_the_wire(&mut self, n: usize, message: &Message, carrier: &CarrierId) {
        self.decided(n, message, carrier);
        let entry = &self.ledger.entries[n];
        let (copies, unanswered) = (entry.copies.len(), entry.unanswered);
        // What it has in part goes on with the others.
        let begun = message.begun_at() == Some(carrier);
        let is_known = |copy: &Copy| {
            let part = message.parts.get(copy.segment).filter(|_| begun);
            part.is_some_and(|p| p.state != PartState::Unanswered)
        };
        let again = !entry.copies.iter().all(is_known);
        if self.syncs == entry.syncs_before {
            self.fault(format!("message {n} is on the wire before it is durable"));
        }
        if let Some(ended) = self.ledger.entries[n].ended {
            self.fault(format!("message {n} is sent after it was {}", ended.name()));
        }
        if again && !message.duplicate_risk {
            self.fault(format!("message {n} is sent again and not marked"));
        }
        if message.duplicate_risk && copies == 0 && unanswered == 0 && self.lives == 1 {
            self.fault(format!("message {n} is marked as a copy and is none"));
        }
    }

    /// Its last decision sends it, by this carrier, with this text.
    fn decided(&mut self, n: usize, message: &Message, carrier: &CarrierId) {
        if message.next_hop_carrier() != Some(carrier) {
            self.fault(format!(
                "message {n} goes to {carrier:?}, which is not its way"
            ));
        }
        let calls = message.decisions.last().map_or(&[][..], |d| &d.calls);
        let sends = calls.last().is_some_and(|last| {
            let default_route = last.entry == HookCall::HOST && last.why == "default_route";
            default_route || last.outcome == CallOutcome::Send
        });
        let enriched = |c: &HookCall| c.outcome == CallOutcome::Enrich;
        let labelled = message.metadata.iter().any(|(name, _)| name == LABEL);
        if calls.iter().any(enriched) && !labelled {
            self.fault(format!("message {n} is enriched, and has no label"));
        }
        let changed = |c: &HookCall| matches!(c.outcome, CallOutcome::Replace | CallOutcome::Amend);
        let changed = calls.iter().any(changed);
        let entry = &self.ledger.entries[n];
        let text = match &message.body {
            Body::Text(text) => text,
            Body::Binary { .. } => return self.fault(format!("message {n} is binary")),
        };
        let original = *text == entry.text;
        let known = original || entry.rewrites.contains(text);
        // A repetition stays the text that may be at the phone, whatever is decided since.
        if !known {
            self.fault(format!("message {n} says what nobody wrote"));
        } else if !message.duplicate_risk && !sends {
            let calls: Vec<_> = calls.iter().map(|c| c.outcome).collect();
            self.fault(format!("message {n} is sent, and was decided {calls:?}"));
        } else if !message.duplicate_risk && original == changed {
            self.fault(format!(
                "message {n}: its own text is {original}, and changed {changed}"
            ));
        }
    }

    /// A carrier takes one of so many segments.
    pub fn taken(&mut self, n: usize, segment: usize, segments: usize) -> usize {
        let life = self.lives;
        let entry = &mut self.ledger.entries[n];
        let known = entry
            .copies
            .iter()
            .any(|c| c.segment == segment && c.answered_ms.is_some() && !c.forgotten);
        entry.segments = segments;
        entry.copies.push(Copy {
            segment,
            answered_ms: None,
            life,
            forgotten: false,
            said: Vec::new(),
            reported: false,
        });
        let copy = entry.copies.len() - 1;
        if known {
            self.fault(format!(
                "segment {segment} of message {n} is taken again, and the carrier's answer was known"
            ));
        }
        copy
    }

    pub fn answered(&mut self, n: usize, copy: usize) {
        let (now, faulty) = (self.now_ms(), self.store_faulty_since.is_some());
        let copy = &mut self.ledger.entries[n].copies[copy];
        copy.answered_ms = Some(now);
        copy.forgotten = faulty;
    }

    /// The same of an answer that may have been told before.
    pub fn answered_once(&mut self, n: usize, copy: usize) {
        if self.ledger.entries[n].copies[copy].answered_ms.is_none() {
            self.answered(n, copy);
        }
    }

    /// The server has ended without warning.
    pub fn crashed(&mut self) {
        let since = self.store_faulty_since.unwrap_or_else(|| self.now_ms());
        let life = self.lives;
        for copy in self.ledger.entries.iter_mut().flat_map(|e| &mut e.copies) {
            copy.forgotten |=
                copy.life == life && copy.answered_ms.is_some_and(|at| at + WRITTEN_MS >= since);
        }
    }

    /// A receipt of its carrier is out, and its state.
    pub fn receipt_said(&mut self, n: usize, copy: usize, state: PartState) {
        self.ledger.entries[n].copies[copy].said.push(state);
    }

    pub fn webhook_told(&mut self, n: usize, state: MessageState) {
        if let Some(told) = self.ledger.entries[n].told.replace(state)
            && told != state
        {
            self.fault(format!(
                "the webhook of message {n} hears {} after {}",
                state.name(),
                told.name()
            ));
        }
        self.ended(n, state);
    }

    fn ended(&mut self, n: usize, state: MessageState) {
        if let Some(before) = self.ledger.entries[n].ended.replace(state)
            && before != state
        {
            let (before, state) = (before.name(), state.name());
            self.fault(format!("message {n} was {before} and is {state}"));
        }
    }

    /// What the store holds of one message, at any time.
    pub fn seen(&mut self, n: usize, message: &Message) {
        let terminal = message.state.is_terminal();
        let known = self.ledger.entries[n].ended;
        if let (false, Some(before)) = (terminal, known) {
            let (before, state) = (before.name(), message.state.name());
            self.fault(format!("message {n} was {before} and is {state}"));
        }
        if !terminal || known == Some(message.state) {
            return;
        }
        self.ended(n, message.state);
        let entry = &self.ledger.entries[n];
        let said = |state| entry.copies.iter().any(|c| c.said.contains(&state));
        let by_receipt = message.reason() == Reason::Receipt;
        let explained = match message.state {
            MessageState::Delivered => said(PartState::Delivered),
            MessageState::Undeliverable if by_receipt => said(PartState::Undeliverable),
            MessageState::Rejected => entry.refused || entry.refused_by_policy,
            MessageState::Canceled => entry.cancel_asked,
            MessageState::Unknown => {
                !entry.copies.is_empty() || entry.unanswered > 0 || self.lives > 1
            }
            MessageState::Expired | MessageState::Undeliverable => true,
            MessageState::Scheduled
            | MessageState::Held
            | MessageState::Queued
            | MessageState::SubmitUnknown
            | MessageState::Enroute => true,
        };
        let expired = message.reason() == Reason::ValidityExpired;
        let lived = self.now_ms().saturating_sub(entry.submitted_ms);
        // A clock that was set ahead is made up for at twice the speed at most.
        let pace = if self.clock_was_ahead { 2 } else { 1 };
        let early = expired && lived * pace + self.taken_over_ms + SLACK_MS < entry.valid_ms;
        if !explained {
            self.fault(format!(
                "message {n} is {} and nothing says why",
                message.state.name()
            ));
        }
        if early {
            self.fault(format!("message {n} expired after {lived} ms"));
        }
    }

    /// What has to be true once everything has come to rest.
    /// `texts_untold`: mobile-originated messages that nobody heard of.
    pub fn settled(&mut self, found: &Counted, (owed, texts_untold): (u64, usize), now: u64) {
        let mut untold = Vec::new();
        let mut wrong = Vec::new();
        for (n, entry) in self.ledger.entries.iter().enumerate() {
            let Some(id) = entry.id else { continue };
            let Some(message) = found.get(id) else {
                wrong.push(format!("message {n} was acknowledged and is lost"));
                continue;
            };
            if message.state.is_terminal() {
                if entry.wants_webhook && entry.told.is_none() {
                    untold.push(n);
                }
                continue;
            }
            let state = message.state.name();
            if message.state == MessageState::Enroute {
                if entry.is_reported() {
                    wrong.push(format!("message {n} is {state}, its receipts were taken"));
                }
            } else if message.due.is_none() || message.expires_at.0 + 60_000 < now {
                wrong.push(format!("message {n} is {state} and stalls"));
            }
        }
        if (untold.len() + texts_untold) as u64 > owed {
            wrong.push(format!(
                "{owed} webhooks wait, and nobody was told of messages {untold:?} and {texts_untold} texts"
            ));
        }
        wrong.into_iter().for_each(|w| self.fault(w));
    }
}

const REPLY: &str = "reply ";

/// Clients number their messages, and plugins their answers.
pub fn number_of(message: &Message) -> Option<usize> {
    let known = message.reference.parse().ok();
    known.or_else(
        || match message.submitted_body.as_ref().unwrap_or(&message.body) {
            Body::Text(text) => number_in(text),
            Body::Binary { .. } => None,
        },
    )
}

/// Of which message this is the beginning of a text, where that tells.
pub fn number_in(text: &str) -> Option<usize> {
    match text.strip_prefix(REPLY) {
        Some(number) => number.parse().ok(),
        None => text.split_once(':')?.0.parse().ok(),
    }
}
