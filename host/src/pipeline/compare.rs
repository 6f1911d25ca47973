//! Two decisions about one message side by side, and the sum over many: what a candidate policy would
//! change, by carrier, refusal code, price and segments, with examples. Numbers are masked and texts
//! left out: a report is for more eyes than the messages are.

use std::collections::BTreeMap;

use super::inbound_hooks::Answered;
use super::rehearse::{Rehearsed, faulted};
use crate::domain::{
    Address, Asked, CallOutcome, Case, HookCall, InboundAction, InboundCase, Message, Outcome,
    TypeOfNumber, WishScope,
};
use crate::plugin::PolicySet;

/// Groups of one kind; what is beyond them is summed under [`OTHERS`].
const GROUPS_MAX: usize = 1_000;
const OTHERS: &str = "(others)";

/// Digits of a number that a report shows, beside the last two.
const DIGITS_SHOWN: usize = 5;

/// How two decisions differ. Several may hold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Sent or not, held or not.
    Outcome,
    /// Refused both times, with another code.
    Code,
    /// Another first carrier.
    Carrier,
    /// The same first carrier, other ones after it.
    Failover,
    Originator,
    Price,
    Segments,
    Body,
    /// Deferred both times, to another time.
    Until,
    /// A mobile-originated message is answered otherwise.
    Reply,
    /// It opts its sender out, or in, otherwise.
    Wish,
    /// It is labelled otherwise, and with that perhaps another account's.
    Label,
    /// It is kept from its account, or not.
    Consume,
}

impl Change {
    pub fn name(self) -> &'static str {
        match self {
            Change::Outcome => "outcome",
            Change::Code => "code",
            Change::Carrier => "carrier",
            Change::Failover => "failover",
            Change::Originator => "originator",
            Change::Price => "price",
            Change::Segments => "segments",
            Change::Body => "body",
            Change::Until => "until",
            Change::Reply => "reply",
            Change::Wish => "wish",
            Change::Label => "label",
            Change::Consume => "consume",
        }
    }
}

/// One side of a comparison.
pub struct Side<'a> {
    pub outcome: &'a Outcome,
    pub message: &'a Message,
    pub calls: &'a [HookCall],
}

impl<'a> Side<'a> {
    pub fn of_case(case: &'a Case) -> Side<'a> {
        Side {
            outcome: &case.outcome,
            message: &case.message,
            calls: case.calls(),
        }
    }

    pub fn of_rehearsal(rehearsed: &'a Rehearsed) -> Side<'a> {
        Side {
            outcome: &rehearsed.outcome,
            message: &rehearsed.message,
            calls: &rehearsed.calls,
        }
    }

    fn sends(&self) -> bool {
        *self.outcome == Outcome::Send
    }

    /// Where it goes first; the outcome's name where it goes nowhere.
    fn destination(&self) -> &str {
        match (self.sends(), self.message.plan.hops.first()) {
            (true, Some(hop)) => hop.carrier.as_str(),
            _ => self.outcome.name(),
        }
    }

    /// The refusal's code; the outcome's name where it is no refusal.
    fn code(&self) -> &str {
        match self.outcome {
            Outcome::Refuse(refusal) => &refusal.code,
            other => other.name(),
        }
    }

    /// Price of the first hop for all segments, in millionths.
    fn price_micros(&self) -> Option<u64> {
        let price = self.message.plan.hops.first()?.price_micros?;
        (self.sends()).then(|| price.saturating_mul(self.message.segments.into()))
    }

    fn segments(&self) -> u64 {
        if self.sends() {
            self.message.segments.into()
        } else {
            0
        }
    }
}

/// All that differs. The body counts where both send.
pub fn changes(before: &Side<'_>, after: &Side<'_>) -> Vec<Change> {
    let mut found = Vec::new();
    if before.outcome.name() != after.outcome.name() {
        found.push(Change::Outcome);
        return found;
    }
    match (before.outcome, after.outcome) {
        (Outcome::Refuse(a), Outcome::Refuse(b)) if a.code != b.code => found.push(Change::Code),
        (Outcome::Defer { until: a, .. }, Outcome::Defer { until: b, .. }) if a != b => {
            found.push(Change::Until);
        }
        _ => {}
    }
    if !before.sends() {
        return found;
    }
    let (a, b) = (&before.message.plan.hops, &after.message.plan.hops);
    if a.first().map(|h| &h.carrier) != b.first().map(|h| &h.carrier) {
        found.push(Change::Carrier);
    } else if !a
        .iter()
        .map(|h| &h.carrier)
        .eq(b.iter().map(|h| &h.carrier))
    {
        found.push(Change::Failover);
    }
    if a.first().map(|h| &h.originator) != b.first().map(|h| &h.originator) {
        found.push(Change::Originator);
    }
    if before.price_micros() != after.price_micros() {
        found.push(Change::Price);
    }
    if before.message.segments != after.message.segments {
        found.push(Change::Segments);
    }
    if before.message.body != after.message.body {
        found.push(Change::Body);
    }
    found
}

/// All that differs in what inbound handlers ask for, kind by kind: one kind's order means something, that of
/// kinds does not.
pub fn inbound_changes(before: &[Asked], after: &[Asked]) -> Vec<Change> {
    let of = |asked: &[Asked], change: Change| -> Vec<Asked> {
        let all = asked.iter().filter(|a| change_of(&a.action) == change);
        all.cloned().collect()
    };
    let kinds = [Change::Reply, Change::Wish, Change::Label, Change::Consume];
    let differ = |change: &Change| of(before, *change) != of(after, *change);
    kinds.into_iter().filter(differ).collect()
}

fn change_of(action: &InboundAction) -> Change {
    match action {
        InboundAction::Reply(_) => Change::Reply,
        InboundAction::OptOut(_) | InboundAction::OptIn(_) => Change::Wish,
        InboundAction::Label(_) => Change::Label,
        InboundAction::Consume => Change::Consume,
    }
}

/// What is asked for, without the words of a reply.
fn action_name(action: &InboundAction) -> &'static str {
    match action {
        InboundAction::Reply(_) => "reply",
        InboundAction::OptOut(_) => "opt-out",
        InboundAction::OptIn(_) => "opt-in",
        InboundAction::Label(_) => "label",
        InboundAction::Consume => "consume",
    }
}

/// Names in their order, each once.
fn actions_name(asked: &[Asked]) -> String {
    let mut names: Vec<&str> = asked.iter().map(|a| action_name(&a.action)).collect();
    names.dedup();
    match names.is_empty() {
        true => "nothing".to_owned(),
        false => names.join(" + "),
    }
}

/// From one value to another, how often.
pub type Moves = BTreeMap<(String, String), u64>;

/// The sum of many comparisons.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub compared: u64,
    pub different: u64,
    /// The recorded decision met a plugin that failed: what the candidate does differently says nothing.
    pub not_comparable: u64,
    pub by_change: BTreeMap<Change, u64>,
    pub carriers: Moves,
    pub codes: Moves,
    pub price_before_micros: u64,
    pub price_after_micros: u64,
    pub segments_before: u64,
    pub segments_after: u64,
    /// Decisions about mobile-originated messages, which the sums above count too.
    pub inbound: InboundTally,
    /// Faults of the candidate by entry and what the trace says.
    pub faults: BTreeMap<(String, String), u64>,
    pub examples: Vec<Example>,
}

#[derive(Clone, Debug, Default)]
pub struct InboundTally {
    pub compared: u64,
    pub different: u64,
    /// What the handlers ask for.
    pub actions: Moves,
}

/// One difference, for a person.
#[derive(Clone, Debug)]
pub struct Example {
    pub id: String,
    pub account: String,
    pub class: &'static str,
    /// The phone: leading digits and the last two.
    pub recipient: String,
    pub changes: Vec<Change>,
    pub before: Told,
    pub after: Told,
}

/// A decision in words.
#[derive(Clone, Debug)]
pub struct Told {
    pub outcome: &'static str,
    pub code: String,
    pub carriers: Vec<String>,
    pub price_micros: Option<u64>,
    pub segments: u8,
    pub reason: String,
}

impl Tally {
    /// Adds one comparison. `examples` is how many are kept.
    pub fn add(
        &mut self,
        case: &Case,
        rehearsed: &Rehearsed,
        candidate: &PolicySet,
        examples: usize,
    ) {
        let (before, after) = (Side::of_case(case), Side::of_rehearsal(rehearsed));
        self.compared += 1;
        self.note_faults(&rehearsed.calls, candidate);
        if faulted(before.calls) {
            self.not_comparable += 1;
            return;
        }
        self.price_before_micros = self
            .price_before_micros
            .saturating_add(before.price_micros().unwrap_or(0));
        self.price_after_micros = self
            .price_after_micros
            .saturating_add(after.price_micros().unwrap_or(0));
        self.segments_before += before.segments();
        self.segments_after += after.segments();
        let changes = changes(&before, &after);
        if changes.is_empty() {
            return;
        }
        self.different += 1;
        for change in &changes {
            *self.by_change.entry(*change).or_default() += 1;
        }
        if before.destination() != after.destination() {
            note(
                &mut self.carriers,
                before.destination(),
                after.destination(),
            );
        }
        if before.code() != after.code() {
            note(&mut self.codes, before.code(), after.code());
        }
        if self.has_room(&changes, examples) {
            self.examples.push(Example {
                id: case.message.id.to_string(),
                account: case.message.account.to_string(),
                class: case.message.class.name(),
                recipient: masked(&case.message.recipient),
                changes,
                before: told_of(&before),
                after: told_of(&after),
            });
        }
    }

    /// Adds one comparison of what inbound handlers ask for.
    pub fn add_inbound(
        &mut self,
        case: &InboundCase,
        answered: &Answered,
        candidate: &PolicySet,
        examples: usize,
    ) {
        self.compared += 1;
        self.inbound.compared += 1;
        self.note_faults(&answered.calls, candidate);
        if faulted(&case.calls) {
            self.not_comparable += 1;
            return;
        }
        let changes = inbound_changes(&case.asked, &answered.asked);
        if changes.is_empty() {
            return;
        }
        self.different += 1;
        self.inbound.different += 1;
        for change in &changes {
            *self.by_change.entry(*change).or_default() += 1;
        }
        let (before, after) = (actions_name(&case.asked), actions_name(&answered.asked));
        if before != after {
            note(&mut self.inbound.actions, &before, &after);
        }
        if self.has_room(&changes, examples) {
            let owner = case.owner.as_ref();
            self.examples.push(Example {
                id: case.inbound.id.to_string(),
                account: owner.map(ToString::to_string).unwrap_or_default(),
                class: "inbound",
                recipient: masked(&case.inbound.originator),
                changes,
                before: told_of_inbound(&case.asked),
                after: told_of_inbound(&answered.asked),
            });
        }
    }

    /// The first of each kind of change tell more than many of one.
    fn has_room(&self, changes: &[Change], examples: usize) -> bool {
        let alike = self.examples.iter().filter(|e| e.changes == changes);
        self.examples.len() < examples && alike.count() < (examples / 4).max(1)
    }

    fn note_faults(&mut self, calls: &[HookCall], candidate: &PolicySet) {
        for call in calls {
            if matches!(call.outcome, CallOutcome::Fault | CallOutcome::Skipped) {
                let entry = candidate.all().iter().find(|e| e.index() == call.entry);
                let name = entry.map_or("", |e| e.name());
                let key = (name.to_owned(), call.why.clone());
                if self.faults.len() < GROUPS_MAX || self.faults.contains_key(&key) {
                    *self.faults.entry(key).or_default() += 1;
                }
            }
        }
    }
}

fn note(moves: &mut Moves, from: &str, to: &str) {
    let key = (from.to_owned(), to.to_owned());
    if moves.len() < GROUPS_MAX || moves.contains_key(&key) {
        *moves.entry(key).or_default() += 1;
    } else {
        *moves.entry((OTHERS.into(), OTHERS.into())).or_default() += 1;
    }
}

fn told_of(side: &Side<'_>) -> Told {
    let hops = side.message.plan.hops.iter().filter(|_| side.sends());
    let mut reasons = side.calls.iter().filter(|c| !c.why.is_empty());
    Told {
        outcome: side.outcome.name(),
        code: match side.outcome {
            Outcome::Refuse(refusal) => refusal.code.clone(),
            _ => String::new(),
        },
        carriers: hops.map(|h| h.carrier.to_string()).collect(),
        price_micros: side.price_micros(),
        segments: side.message.segments,
        reason: reasons
            .next_back()
            .map(|c| c.why.clone())
            .unwrap_or_default(),
    }
}

/// What is asked for; a reply's words are as private as the text that it answers.
fn told_of_inbound(asked: &[Asked]) -> Told {
    let scope = |scope: &WishScope| match scope {
        WishScope::Number => "number",
        WishScope::Account => "account",
        WishScope::Everything => "everything",
    };
    let told = asked.iter().map(|a| match &a.action {
        InboundAction::Reply(text) => format!("reply of {} characters", text.chars().count()),
        InboundAction::OptOut(s) => format!("opt-out of {}", scope(s)),
        InboundAction::OptIn(s) => format!("opt-in to {}", scope(s)),
        InboundAction::Label(label) => format!("label {label}"),
        InboundAction::Consume => "consume".to_owned(),
    });
    Told {
        outcome: if asked.is_empty() { "nothing" } else { "asked" },
        code: String::new(),
        carriers: Vec::new(),
        price_micros: None,
        segments: 0,
        reason: told.collect::<Vec<_>>().join(", "),
    }
}

/// A number of which enough is shown to recognise it by, and not enough to dial it.
pub fn masked(address: &Address) -> String {
    match address.ton {
        TypeOfNumber::Alphanumeric | TypeOfNumber::Abbreviated => address.value.clone(),
        TypeOfNumber::Unknown
        | TypeOfNumber::International
        | TypeOfNumber::National
        | TypeOfNumber::NetworkSpecific
        | TypeOfNumber::Subscriber => {
            let digits = &address.value;
            let plus = if address.ton == TypeOfNumber::International {
                "+"
            } else {
                ""
            };
            if digits.len() < DIGITS_SHOWN + 4 || !digits.is_ascii() {
                return format!("{plus}…");
            }
            let (head, last) = (&digits[..DIGITS_SHOWN], &digits[digits.len() - 2..]);
            format!("{plus}{head}…{last}")
        }
    }
}
