//! What hooks are asked and what they answer, in the host's own words. WIT stays in
//! `plugin/contract_v*.rs`.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use super::address::{Address, Network};
use super::message::{Body, CarrierId, MessageId, State, Tlv};
use crate::clock::Timestamp;

/// The places where a plugin may have a say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Hook {
    ContentFilter = 0,
    ComplianceCheck = 1,
    RoutingPolicy = 2,
    CarrierAdapter = 3,
    InboundHandler = 4,
    /// Runs before all others. Its number is the last because numbers are kept.
    Enrichment = 5,
}

impl Hook {
    pub const ALL: [Hook; 6] = [
        Hook::ContentFilter,
        Hook::ComplianceCheck,
        Hook::RoutingPolicy,
        Hook::CarrierAdapter,
        Hook::InboundHandler,
        Hook::Enrichment,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Hook::ContentFilter => "content-filter",
            Hook::ComplianceCheck => "compliance-check",
            Hook::RoutingPolicy => "routing-policy",
            Hook::CarrierAdapter => "carrier-adapter",
            Hook::InboundHandler => "inbound-handler",
            Hook::Enrichment => "enrichment",
        }
    }

    /// Place in the order in which a message meets the hooks.
    pub fn place(self) -> u8 {
        match self {
            Hook::Enrichment => 0,
            Hook::ContentFilter => 1,
            Hook::ComplianceCheck => 2,
            Hook::RoutingPolicy => 3,
            Hook::CarrierAdapter => 4,
            Hook::InboundHandler => 5,
        }
    }

    pub fn from_name(name: &str) -> Option<Hook> {
        Hook::ALL.into_iter().find(|h| h.name() == name)
    }

    pub fn from_u8(value: u8) -> Option<Hook> {
        Hook::ALL.get(usize::from(value)).copied()
    }
}

/// By [`Hook::place`].
impl Ord for Hook {
    fn cmp(&self, other: &Hook) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for Hook {
    fn partial_cmp(&self, other: &Hook) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The content address of a policy set: the first 16 octets of its SHA-256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SetId(pub [u8; 16]);

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    Admission = 0,
    Dispatch = 1,
    Retry = 2,
    Preview = 3,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::Admission => "admission",
            Phase::Dispatch => "dispatch",
            Phase::Retry => "retry",
            Phase::Preview => "preview",
        }
    }

    pub fn from_u8(value: u8) -> Option<Phase> {
        [
            Phase::Admission,
            Phase::Dispatch,
            Phase::Retry,
            Phase::Preview,
        ]
        .get(usize::from(value))
        .copied()
    }
}

/// All that a decision hook may know of the world.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    pub now: Timestamp,
    pub random: u64,
    pub phase: Phase,
}

/// A stable code (lower_snake_case) for programs and a reason for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: String,
    pub reason: String,
}

/// What an enrichment answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enriched {
    Pass,
    Found {
        /// Takes the place of what was known before; none leaves it as it was.
        network: Option<Network>,
        /// Added to the message's metadata; the same name replaces.
        labels: Vec<(String, String)>,
        reason: String,
    },
}

/// What a content filter answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Replace { body: Body, reason: String },
    Refuse(Refusal),
    Hold(String),
    Drop(String),
}

/// What the host knows about the recipient's wishes and clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecipientProfile {
    pub opted_out: bool,
    pub utc_offset_minutes: Option<i16>,
    /// Messages from this account to this recipient in the last 24 hours, this one not counted.
    pub sent_last_day: u32,
}

/// What a compliance check answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    Allow,
    Amend { body: Body, reason: String },
    Defer { until: Timestamp, reason: String },
    Deny(Refusal),
}

/// One carrier to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    pub carrier: CarrierId,
    /// Replaces the originator on this carrier.
    pub originator: Option<Address>,
    /// Price of one segment in millionths of the deck's currency.
    pub price_micros: Option<u64>,
    /// Added to the message's own; the same tag replaces.
    pub tlvs: Vec<Tlv>,
}

/// Carriers in the order in which they are tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub hops: Vec<Hop>,
    pub reason: String,
    /// Whether the next hop has a try after a receipt that says the message failed.
    pub reroute: Option<Reroute>,
}

/// Which failed receipts send a message to the next hop of its plan. Never one of which any segment
/// may have arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reroute {
    /// Final states that count.
    pub on: Vec<State>,
    /// Error codes that count; empty: all.
    pub errors: Vec<String>,
    /// Carriers that may fail before it ends.
    pub max: u8,
    /// Since the message was accepted; none: as long as it is valid.
    pub within: Option<Duration>,
}

/// What a routing policy answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routing {
    Send(Plan),
    Defer { until: Timestamp, reason: String },
    Refuse(Refusal),
    Pass,
}

/// A mobile-originated message, reassembled.
#[derive(Clone, Debug, PartialEq)]
pub struct Inbound {
    pub id: MessageId,
    pub carrier: CarrierId,
    /// The handset.
    pub originator: Address,
    /// The number that was texted.
    pub recipient: Address,
    pub body: Body,
    pub received_at: Timestamp,
    pub opted_out: bool,
}

/// What a wish reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum WishScope {
    /// The number that was texted.
    Number = 0,
    /// Everything of the account that owns it.
    Account = 1,
    Everything = 2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboundAction {
    Reply(String),
    OptOut(WishScope),
    OptIn(WishScope),
    Label(String),
    Consume,
}

/// How one call of one plugin ended, for the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CallOutcome {
    Pass = 0,
    Replace = 1,
    Refuse = 2,
    Hold = 3,
    Drop = 4,
    Allow = 5,
    Amend = 6,
    Defer = 7,
    Deny = 8,
    Send = 9,
    /// A trap, a timeout or bad output; the entry's fail mode was applied.
    Fault = 10,
    /// Not called: its breaker is open; the entry's fail mode was applied.
    Skipped = 11,
    /// The host itself decided: the opt-out registry, the default route.
    Host = 12,
    /// An enrichment found something.
    Enrich = 13,
}

impl CallOutcome {
    const ALL: [CallOutcome; 14] = [
        CallOutcome::Pass,
        CallOutcome::Replace,
        CallOutcome::Refuse,
        CallOutcome::Hold,
        CallOutcome::Drop,
        CallOutcome::Allow,
        CallOutcome::Amend,
        CallOutcome::Defer,
        CallOutcome::Deny,
        CallOutcome::Send,
        CallOutcome::Fault,
        CallOutcome::Skipped,
        CallOutcome::Host,
        CallOutcome::Enrich,
    ];

    pub fn name(self) -> &'static str {
        match self {
            CallOutcome::Pass => "pass",
            CallOutcome::Replace => "replace",
            CallOutcome::Refuse => "refuse",
            CallOutcome::Hold => "hold",
            CallOutcome::Drop => "drop",
            CallOutcome::Allow => "allow",
            CallOutcome::Amend => "amend",
            CallOutcome::Defer => "defer",
            CallOutcome::Deny => "deny",
            CallOutcome::Send => "send",
            CallOutcome::Fault => "fault",
            CallOutcome::Skipped => "skipped",
            CallOutcome::Host => "host",
            CallOutcome::Enrich => "enrich",
        }
    }

    pub fn from_u8(value: u8) -> Option<CallOutcome> {
        CallOutcome::ALL.get(usize::from(value)).copied()
    }
}

/// One line of a decision trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookCall {
    /// Position in the policy set; 255 for the host's own decisions.
    pub entry: u8,
    pub outcome: CallOutcome,
    /// `code: reason`, empty where the plugin had no opinion.
    pub why: String,
    /// Time in the plugin and at its border, in nanoseconds.
    pub nanos: u32,
}

impl HookCall {
    pub const HOST: u8 = 255;
}

/// One whole decision, by one policy set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub set: SetId,
    pub at: Timestamp,
    pub phase: Phase,
    pub calls: Vec<HookCall>,
}
