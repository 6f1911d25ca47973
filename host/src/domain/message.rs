//! The message record and its life: accepted, held or queued, attempted, confirmed. The methods
//! here are the only legal moves; who calls them is the pipeline, who keeps the result the store.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::address::{Address, Network};
use super::decision::{Decision, Plan, SetId};
pub use super::receipt::ReceiptEffect;
use super::sm::{SmParameters, Source};
use super::text::{self, Alphabet, SegmentPlan, Segmented, ShiftTables, TextError, TextStyle};
use crate::clock::Timestamp;

/// A UUID version 7: ordered by time of acceptance. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub u128);

impl MessageId {
    /// `random` fills all bits that are neither time nor version (RFC 9562, 5.7).
    pub fn new(at: Timestamp, random: u128) -> MessageId {
        let time = u128::from(at.millis() & 0xFFFF_FFFF_FFFF) << 80;
        let rest = random & 0x0000_0000_0000_0FFF_3FFF_FFFF_FFFF_FFFF;
        MessageId(time | 0x7000_8000_0000_0000_0000 | rest)
    }

    /// The time of acceptance that the id carries.
    pub fn timestamp(self) -> Timestamp {
        Timestamp(u64::try_from(self.0 >> 80).unwrap_or(0))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The string is not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

impl FromStr for MessageId {
    type Err = NotAnId;

    /// Hyphens of the usual UUID form are ignored.
    fn from_str(text: &str) -> Result<MessageId, NotAnId> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NotAnId);
        }
        u128::from_str_radix(&digits, 16)
            .map(MessageId)
            .map_err(|_| NotAnId)
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(value: &str) -> $name {
                $name(value.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// An account of the configuration: who pays and whose messages these are.
    AccountId
);
name_type!(
    /// A carrier of the configuration.
    CarrierId
);

/// What a message is for. Rules differ by class: quiet hours never hold an OTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TrafficClass {
    Otp = 0,
    Transactional = 1,
    Promotional = 2,
    Alert = 3,
}

impl TrafficClass {
    pub const ALL: [TrafficClass; 4] = [
        TrafficClass::Otp,
        TrafficClass::Transactional,
        TrafficClass::Promotional,
        TrafficClass::Alert,
    ];

    pub fn name(self) -> &'static str {
        match self {
            TrafficClass::Otp => "otp",
            TrafficClass::Transactional => "transactional",
            TrafficClass::Promotional => "promotional",
            TrafficClass::Alert => "alert",
        }
    }

    pub fn from_name(name: &str) -> Option<TrafficClass> {
        TrafficClass::ALL.into_iter().find(|c| c.name() == name)
    }

    pub fn from_u8(value: u8) -> Option<TrafficClass> {
        TrafficClass::ALL.get(usize::from(value)).copied()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Text(String),
    /// `udh` is a user data header without its length octet (3GPP TS 23.040, 9.2.3.24).
    Binary {
        udh: Vec<u8>,
        data: Vec<u8>,
    },
}

/// A tag-length-value parameter (SMPP 3.4, 5.3), vendor tags included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tlv {
    pub tag: u16,
    pub value: Vec<u8>,
}

/// What to do when a submit_sm went out and no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OnUnknown {
    /// After a grace period, marked as a possible duplicate.
    Resend = 0,
    Fail = 1,
    /// Wait for a receipt until the message expires.
    Hold = 2,
}

impl OnUnknown {
    pub fn name(self) -> &'static str {
        match self {
            OnUnknown::Resend => "resend",
            OnUnknown::Fail => "fail",
            OnUnknown::Hold => "hold",
        }
    }

    pub fn from_name(name: &str) -> Option<OnUnknown> {
        [OnUnknown::Resend, OnUnknown::Fail, OnUnknown::Hold]
            .into_iter()
            .find(|o| o.name() == name)
    }

    pub fn from_u8(value: u8) -> Option<OnUnknown> {
        [OnUnknown::Resend, OnUnknown::Fail, OnUnknown::Hold]
            .get(usize::from(value))
            .copied()
    }
}

/// Where a message stands. The last six are terminal and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Waits for its time: `send_at`, quiet hours.
    Scheduled = 0,
    /// Waits for a person or for a policy that can decide.
    Held = 1,
    /// Waits for a carrier: first attempt or a retry.
    Queued = 2,
    /// A submit_sm went out and no answer came.
    SubmitUnknown = 3,
    /// The carrier took every segment.
    Enroute = 4,
    Delivered = 5,
    Undeliverable = 6,
    Expired = 7,
    Rejected = 8,
    Canceled = 9,
    /// The carrier took it and no receipt ever came.
    Unknown = 10,
}

impl State {
    pub const ALL: [State; 11] = [
        State::Scheduled,
        State::Held,
        State::Queued,
        State::SubmitUnknown,
        State::Enroute,
        State::Delivered,
        State::Undeliverable,
        State::Expired,
        State::Rejected,
        State::Canceled,
        State::Unknown,
    ];

    pub fn name(self) -> &'static str {
        match self {
            State::Scheduled => "scheduled",
            State::Held => "held",
            State::Queued => "queued",
            State::SubmitUnknown => "submit_unknown",
            State::Enroute => "enroute",
            State::Delivered => "delivered",
            State::Undeliverable => "undeliverable",
            State::Expired => "expired",
            State::Rejected => "rejected",
            State::Canceled => "canceled",
            State::Unknown => "unknown",
        }
    }

    pub fn from_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|s| s.name() == name)
    }

    pub fn from_u8(value: u8) -> Option<State> {
        State::ALL.get(usize::from(value)).copied()
    }

    pub fn is_terminal(self) -> bool {
        match self {
            State::Scheduled
            | State::Held
            | State::Queued
            | State::SubmitUnknown
            | State::Enroute => false,
            State::Delivered
            | State::Undeliverable
            | State::Expired
            | State::Rejected
            | State::Canceled
            | State::Unknown => true,
        }
    }
}

/// Why a message is where it is: a closed list, so that every delay can be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    Accepted = 0,
    ScheduledByClient = 1,
    DeferredByPolicy = 2,
    HeldByPolicy = 3,
    PolicyUnavailable = 4,
    RefusedByPolicy = 5,
    DroppedByPolicy = 6,
    OptedOut = 7,
    NoRoute = 8,
    CarrierUnavailable = 9,
    CarrierThrottled = 10,
    CarrierTemporaryFailure = 11,
    CarrierPermanentFailure = 12,
    ResponseTimeout = 13,
    Restarted = 14,
    FailedOver = 15,
    TakenByCarrier = 16,
    Receipt = 17,
    ReceiptTimeout = 18,
    ValidityExpired = 19,
    AttemptsExhausted = 20,
    CanceledByClient = 21,
    ReleasedByOperator = 22,
    RefusedByOperator = 23,
    /// Under another policy set, or because its time came.
    DecidedAgain = 24,
    /// On the way to another receipt: moves nothing.
    IntermediateReceipt = 25,
    /// A receipt says otherwise than an earlier one: moves nothing.
    ContradictoryReceipt = 26,
    /// A receipt said that it failed, and the next carrier gets it.
    ReroutedByReceipt = 27,
    /// Its carrier told that the handset is back.
    RecipientAvailable = 28,
}

impl Reason {
    const ALL: [(Reason, &'static str); 29] = [
        (Reason::Accepted, "accepted"),
        (Reason::ScheduledByClient, "scheduled_by_client"),
        (Reason::DeferredByPolicy, "deferred_by_policy"),
        (Reason::HeldByPolicy, "held_by_policy"),
        (Reason::PolicyUnavailable, "policy_unavailable"),
        (Reason::RefusedByPolicy, "refused_by_policy"),
        (Reason::DroppedByPolicy, "dropped_by_policy"),
        (Reason::OptedOut, "opted_out"),
        (Reason::NoRoute, "no_route"),
        (Reason::CarrierUnavailable, "carrier_unavailable"),
        (Reason::CarrierThrottled, "carrier_throttled"),
        (Reason::CarrierTemporaryFailure, "carrier_temporary_failure"),
        (Reason::CarrierPermanentFailure, "carrier_permanent_failure"),
        (Reason::ResponseTimeout, "response_timeout"),
        (Reason::Restarted, "restarted"),
        (Reason::FailedOver, "failed_over"),
        (Reason::TakenByCarrier, "taken_by_carrier"),
        (Reason::Receipt, "receipt"),
        (Reason::ReceiptTimeout, "receipt_timeout"),
        (Reason::ValidityExpired, "validity_expired"),
        (Reason::AttemptsExhausted, "attempts_exhausted"),
        (Reason::CanceledByClient, "canceled_by_client"),
        (Reason::ReleasedByOperator, "released_by_operator"),
        (Reason::RefusedByOperator, "refused_by_operator"),
        (Reason::DecidedAgain, "decided_again"),
        (Reason::IntermediateReceipt, "intermediate_receipt"),
        (Reason::ContradictoryReceipt, "contradictory_receipt"),
        (Reason::ReroutedByReceipt, "rerouted_by_receipt"),
        (Reason::RecipientAvailable, "recipient_available"),
    ];

    pub fn name(self) -> &'static str {
        Reason::ALL[self as usize].1
    }

    pub fn from_u8(value: u8) -> Option<Reason> {
        Reason::ALL.get(usize::from(value)).map(|(r, _)| *r)
    }
}

/// One line of a message's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Timestamp,
    pub state: State,
    pub reason: Reason,
    pub carrier: Option<CarrierId>,
    /// For a person: a refusal's code and reason, a command_status, a receipt's `err`.
    pub detail: String,
    /// The policy set that was in force, where one decided.
    pub set: Option<SetId>,
}

/// How a delivery attempt ended. Numbers are command_status values (SMPP 3.4, 5.1.3) or HTTP statuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    Sent,
    Throttled,
    TemporaryFailure(u32),
    PermanentFailure(u32),
    TimedOut,
    Unavailable,
    Undelivered(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub carrier: CarrierId,
    pub at: Timestamp,
    pub outcome: AttemptOutcome,
}

/// Where one segment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PartState {
    Enroute = 0,
    Delivered = 1,
    Undeliverable = 2,
    Expired = 3,
    Rejected = 4,
    Unknown = 5,
    /// Submitted and not answered, while other segments were: what a repetition has to send.
    Unanswered = 6,
}

impl PartState {
    pub const ALL: [PartState; 7] = [
        PartState::Enroute,
        PartState::Delivered,
        PartState::Undeliverable,
        PartState::Expired,
        PartState::Rejected,
        PartState::Unknown,
        PartState::Unanswered,
    ];

    pub fn name(self) -> &'static str {
        match self {
            PartState::Enroute => "enroute",
            PartState::Delivered => "delivered",
            PartState::Undeliverable => "undeliverable",
            PartState::Expired => "expired",
            PartState::Rejected => "rejected",
            PartState::Unknown => "unknown",
            PartState::Unanswered => "unanswered",
        }
    }

    /// The carrier has told how it ended.
    pub fn is_reported(self) -> bool {
        match self {
            PartState::Enroute | PartState::Unanswered => false,
            PartState::Delivered
            | PartState::Undeliverable
            | PartState::Expired
            | PartState::Rejected
            | PartState::Unknown => true,
        }
    }

    pub fn from_u8(value: u8) -> Option<PartState> {
        PartState::ALL.get(usize::from(value)).copied()
    }
}

/// One segment as its carrier knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub carrier: CarrierId,
    /// The carrier's message id, exactly as its response gave it. Empty: the carrier gave none.
    pub carrier_message_id: String,
    pub state: PartState,
    /// The receipt's `err` or network_error_code, empty where none.
    pub error: String,
    /// Whose code that is (SMPP 3.4, 5.3.2.31), where the receipt says so.
    pub network_type: Option<u8>,
    /// When the receipt said it was done.
    pub done_at: Option<Timestamp>,
}

/// Segments that a carrier took and reported as failed before the message went on to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedDelivery {
    pub parts: Vec<Part>,
    /// What they cost, where the plan knew it.
    pub price_micros: Option<u64>,
}

impl FailedDelivery {
    pub fn carrier(&self) -> Option<&CarrierId> {
        self.parts.first().map(|p| &p.carrier)
    }
}

/// Which queue a message waits in. Each carrier has its own, so that none waits for another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Needs a decision first: scheduled, deferred, or its policy could not decide.
    Decide,
    Carrier(CarrierId),
}

/// When a message is next to be worked on, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub at: Timestamp,
    pub lane: Lane,
}

/// A mobile-terminated message: the one record there is of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub id: MessageId,
    pub account: AccountId,
    pub originator: Address,
    pub recipient: Address,
    pub network: Network,
    pub class: TrafficClass,
    /// As it stands after the hooks.
    pub body: Body,
    /// As the client sent it, where a hook changed it.
    pub submitted_body: Option<Body>,
    pub alphabet: Alphabet,
    /// National tables in place of the default ones, where `alphabet` is GSM.
    pub shift: ShiftTables,
    /// Segments that `body` needs, 1 to 255: at the next hop's carrier once there is one, and at the
    /// carrier that took it from then on.
    pub segments: u8,
    pub accepted_at: Timestamp,
    pub send_at: Timestamp,
    pub expires_at: Timestamp,
    /// The client's reference, empty where none was given.
    pub reference: String,
    pub metadata: Vec<(String, String)>,
    pub tlvs: Vec<Tlv>,
    pub sm: SmParameters,
    pub source: Source,
    pub receipt_url: Option<String>,
    pub on_unknown: OnUnknown,
    /// An earlier copy may have reached the carrier.
    pub duplicate_risk: bool,

    pub state: State,
    pub due: Option<Due>,
    pub plan: Plan,
    /// The hop of `plan` that is next.
    pub hop: u8,
    /// Attempts since the plan began, all of them: what the retry schedule counts.
    pub attempts: Vec<Attempt>,
    /// Segments at the carrier, in order; empty until one took the message.
    pub parts: Vec<Part>,
    /// Carriers that had it before and failed, the first one first.
    pub failed: Vec<FailedDelivery>,
    pub decisions: Vec<Decision>,
    pub events: Vec<Event>,
}

impl Message {
    /// History is bounded: beyond this the oldest lines after the first are dropped.
    pub const EVENTS_MAX: usize = 64;
    pub const ATTEMPTS_MAX: usize = 64;
    pub const DECISIONS_MAX: usize = 8;

    /// Seconds between an unanswered submit_sm and its repetition: time for a late answer or receipt.
    /// Longer with every one, the last for ever: a carrier that delivers and never says so must not
    /// fill a phone with copies.
    pub const UNKNOWN_GRACE: [u64; 5] = [10, 60, 300, 900, 3_600];

    /// Moves to `state` and writes the line of history. A terminal state is never left: the call
    /// does nothing then and returns false.
    pub fn enter(
        &mut self,
        at: Timestamp,
        state: State,
        reason: Reason,
        detail: impl Into<String>,
    ) -> bool {
        if self.state.is_terminal() && !self.events.is_empty() {
            return false;
        }
        self.state = state;
        if state.is_terminal() {
            self.due = None;
        }
        let carrier = match reason {
            Reason::CarrierUnavailable
            | Reason::CarrierThrottled
            | Reason::CarrierTemporaryFailure
            | Reason::CarrierPermanentFailure
            | Reason::ResponseTimeout
            | Reason::FailedOver
            | Reason::TakenByCarrier
            | Reason::ReroutedByReceipt
            | Reason::Receipt => self.carrier().cloned(),
            _ => None,
        };
        self.note_event(at, reason, carrier, detail);
        true
    }

    /// A line of history in the state that the message is in.
    pub(super) fn note_event(
        &mut self,
        at: Timestamp,
        reason: Reason,
        carrier: Option<CarrierId>,
        detail: impl Into<String>,
    ) {
        let event = Event {
            at,
            state: self.state,
            reason,
            carrier,
            detail: detail.into(),
            set: self.decisions.last().map(|d| d.set),
        };
        push_bounded(&mut self.events, event, Message::EVENTS_MAX);
    }

    /// What its body needs at a carrier of these ways.
    pub fn measure(&self, body: &Body, style: &TextStyle) -> Result<SegmentPlan, TextError> {
        match (&self.sm.cut, body) {
            (Some(cut), body) if self.submitted_body.is_none() && *body == self.body => {
                return cut.plan();
            }
            (Some(cut), Body::Text(text)) => return cut.plan_of(text),
            (Some(_), Body::Binary { .. }) | (None, _) => {}
        }
        text::plan_for(body, &self.sm.manner(), style)
    }

    /// Takes over what its body needs. A text that one carrier takes as ISO-8859-1 keeps the alphabet
    /// that it has elsewhere.
    pub fn measured(&mut self, plan: SegmentPlan) {
        if plan.alphabet != Alphabet::Octets || matches!(self.body, Body::Binary { .. }) {
            self.alphabet = plan.alphabet;
        }
        self.shift = plan.shift;
        self.segments = plan.segments;
    }

    /// The same of what its carrier gets.
    pub fn sent_as(&mut self, segmented: &Segmented) {
        self.measured(SegmentPlan {
            alphabet: segmented.alphabet,
            shift: segmented.shift,
            segments: segmented.count,
            units: segmented.units,
        });
    }

    /// The carrier of the last attempt, or of the hop that is next where there was none yet.
    pub fn carrier(&self) -> Option<&CarrierId> {
        self.parts
            .first()
            .map(|p| &p.carrier)
            .or_else(|| self.attempts.last().map(|a| &a.carrier))
            .or_else(|| self.next_hop_carrier())
    }

    pub fn next_hop_carrier(&self) -> Option<&CarrierId> {
        self.plan
            .hops
            .get(usize::from(self.hop))
            .map(|h| &h.carrier)
    }

    pub fn record_attempt(&mut self, attempt: Attempt) {
        push_bounded(&mut self.attempts, attempt, Message::ATTEMPTS_MAX);
    }

    pub fn record_decision(&mut self, decision: Decision) {
        push_bounded(&mut self.decisions, decision, Message::DECISIONS_MAX);
    }

    /// What stood as the sender in what the carrier was last given.
    pub fn sent_originator(&self) -> &Address {
        let hop = self.plan.hops.get(usize::from(self.hop));
        hop.and_then(|h| h.originator.as_ref())
            .unwrap_or(&self.originator)
    }

    /// Waits in `lane` until `at`; both are the due index's key.
    pub fn wait(&mut self, lane: Lane, at: Timestamp) {
        self.due = Some(Due { at, lane });
    }

    /// The last event's reason: why the message is where it is.
    pub fn reason(&self) -> Reason {
        self.events.last().map_or(Reason::Accepted, |e| e.reason)
    }

    /// Who has some segments of a message that is otherwise unanswered, and has said so: it is finished
    /// there, with the segments that are left, whatever policy says by now. Elsewhere, or anew, all of
    /// it would go again.
    pub fn begun_at(&self) -> Option<&CarrierId> {
        let unknown = self.state == State::SubmitUnknown;
        let mut parts = self.parts.iter().filter(|_| unknown);
        let answered = parts.find(|p| p.state != PartState::Unanswered);
        answered.map(|p| &p.carrier)
    }

    /// A submit_sm went out, or may have, and no answer came. What follows is the client's choice:
    /// `on_unknown`. A late response or receipt can still settle it.
    pub fn submit_unknown(&mut self, now: Timestamp, reason: Reason) {
        if !self.enter(now, State::SubmitUnknown, reason, "") {
            return;
        }
        match self.on_unknown {
            OnUnknown::Resend => {
                self.duplicate_risk = true;
                let lane = self.begun_at().or_else(|| self.next_hop_carrier());
                let lane = lane.map_or(Lane::Decide, |c| Lane::Carrier(c.clone()));
                let unanswered = |a: &&Attempt| a.outcome == AttemptOutcome::TimedOut;
                let before = self.attempts.iter().filter(unanswered).count();
                let grace = Message::UNKNOWN_GRACE;
                let grace = grace[before.saturating_sub(1).min(grace.len() - 1)];
                self.wait(lane, now.plus(Duration::from_secs(grace)));
            }
            OnUnknown::Fail => {
                self.enter(now, State::Unknown, reason, "on_unknown: fail");
            }
            OnUnknown::Hold => self.wait(Lane::Decide, self.expires_at),
        }
    }

    /// How long the client waits for a receipt at most: to the end of validity and a day of grace,
    /// because receipts travel late.
    pub fn receipt_deadline(&self) -> Timestamp {
        self.expires_at.plus(Duration::from_secs(86_400))
    }
}

/// Keeps the first entry (how it began) and the newest ones.
fn push_bounded<T>(list: &mut Vec<T>, item: T, max: usize) {
    if list.len() >= max {
        list.remove(1);
    }
    list.push(item);
}

/// Messages for tests of all floors.
#[cfg(test)]
pub mod tests_support {
    use super::*;

    /// A queued text message, accepted at `now`, valid for three days.
    pub fn message(now: Timestamp) -> Message {
        let mut message = Message {
            id: MessageId::new(now, 0x1234_5678_9abc_def0),
            account: AccountId::from("acme"),
            originator: Address::originator("Acme").expect("a valid sender"),
            recipient: Address::international("+447700900123").expect("a valid number"),
            network: Network {
                country: Some(*b"GB"),
                ..Network::default()
            },
            class: TrafficClass::Transactional,
            body: Body::Text("Your parcel arrives today.".to_owned()),
            submitted_body: None,
            alphabet: Alphabet::Gsm7,
            shift: ShiftTables::default(),
            segments: 1,
            accepted_at: now,
            send_at: now,
            expires_at: now.plus(Duration::from_secs(3 * 86_400)),
            reference: String::new(),
            metadata: Vec::new(),
            tlvs: Vec::new(),
            sm: SmParameters::default(),
            source: Source::Http,
            receipt_url: None,
            on_unknown: OnUnknown::Resend,
            duplicate_risk: false,
            state: State::Queued,
            due: None,
            plan: Plan::default(),
            hop: 0,
            attempts: Vec::new(),
            parts: Vec::new(),
            failed: Vec::new(),
            decisions: Vec::new(),
            events: Vec::new(),
        };
        message.enter(now, State::Queued, Reason::Accepted, "");
        message
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
