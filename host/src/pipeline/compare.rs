//! Two decisions about one message side by side, and the sum over many: what a candidate policy would
//! change, by carrier, refusal code, price and segments, with examples. Numbers are masked and texts
//! left out: a report is for more eyes than the messages are.

use std::collections::BTreeMap;

use super::rehearse::{Rehearsed, faulted};
use crate::domain::{Address, CallOutcome, Case, HookCall, Message, Outcome, TypeOfNumber};
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
    /// Faults of the candidate by entry and what the trace says.
    pub faults: BTreeMap<(String, String), u64>,
    pub examples: Vec<Example>,
}

/// One difference, for a person.
#[derive(Clone, Debug)]
pub struct Example {
    pub id: String,
    pub account: String,
    pub class: &'static str,
    /// Leading digits and the last two.
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
        self.note_faults(rehearsed, candidate);
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
        // The first of each kind of change tell more than many of one.
        let told = self
            .examples
            .iter()
            .filter(|e| e.changes == changes)
            .count();
        if self.examples.len() < examples && told < (examples / 4).max(1) {
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

    fn note_faults(&mut self, rehearsed: &Rehearsed, candidate: &PolicySet) {
        for call in &rehearsed.calls {
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
