//! One decision with all that it depended on, so that it can be made again: what the hooks were
//! shown, what the host answered them, and what came of it. Replay, shadow and evidence stand on it.

use std::sync::Arc;

use super::address::Network;
use super::decision::{
    Context, Hook, HookCall, Inbound, InboundAction, RecipientProfile, Refusal, SetId,
};
use super::message::{AccountId, Body, CarrierId, Message};
use super::text::TextStyle;
use crate::clock::Timestamp;

/// A carrier as a routing policy sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct CarrierView {
    pub id: CarrierId,
    pub connected: bool,
    pub queued: u32,
    pub in_flight: u32,
    /// Submissions per second still allowed now.
    pub headroom: f32,
    /// Over the carrier's recent window, 0.0 to 1.0; none until enough receipts arrived.
    pub delivered_ratio: Option<f32>,
    pub p50_receipt_ms: Option<u32>,
    pub tags: Vec<String>,
}

/// What a decision comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `message.plan` says where.
    Send,
    Refuse(Refusal),
    OptedOut,
    /// Parked for a person.
    Hold(String),
    /// Accepted and discarded.
    Drop(String),
    Defer {
        until: Timestamp,
        reason: String,
    },
    /// A plugin that must agree could not be asked.
    Unavailable(String),
}

impl Outcome {
    /// A stable name for reports.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Send => "send",
            Outcome::Refuse(_) => "refuse",
            Outcome::OptedOut => "opted_out",
            Outcome::Hold(_) => "hold",
            Outcome::Drop(_) => "drop",
            Outcome::Defer { .. } => "defer",
            Outcome::Unavailable(_) => "unavailable",
        }
    }
}

/// What a decision depends on beside the message and the policy set.
#[derive(Clone, Debug)]
pub struct Facts {
    pub context: Context,
    pub profile: RecipientProfile,
    /// In the order of the configuration; shared by all decisions of a moment.
    pub carriers: Arc<Vec<CarrierView>>,
    /// An operator let it go after a filter had held it.
    pub released: bool,
    /// Opt-out does not hold it back: it confirms the recipient's own wish.
    pub exempt: bool,
}

/// What the host answered to a plugin that asked for its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostAnswer {
    Get {
        key: String,
        value: Option<Vec<u8>>,
    },
    Count {
        key: String,
        by: i64,
        value: i64,
    },
    /// Whether the value was taken.
    Set {
        key: String,
        taken: bool,
    },
}

/// All answers to one call of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The entry's name in its policy: another set may have it at another place.
    pub entry: String,
    pub hook: Hook,
    pub answers: Vec<HostAnswer>,
}

/// A recorded decision. `message` stands as the decision left it; its last decision is this one.
#[derive(Clone, Debug)]
pub struct Case {
    pub message: Message,
    /// The set that decided.
    pub set: SetId,
    pub facts: Facts,
    pub outcome: Outcome,
    /// The recipient turned out to want nothing from an originator that routing chose.
    pub opted_out_after: bool,
    /// Where the number lived before any hook said otherwise.
    pub network: Network,
    /// The metadata before any hook labelled it, where one might have.
    pub metadata: Option<Vec<(String, String)>>,
    pub heard: Vec<Heard>,
}

/// The same, lent: what a decision hands to whoever keeps it.
#[derive(Clone, Copy, Debug)]
pub struct CaseRef<'a> {
    pub message: &'a Message,
    pub set: SetId,
    pub facts: &'a Facts,
    pub outcome: &'a Outcome,
    pub opted_out_after: bool,
    pub network: Network,
    pub metadata: Option<&'a [(String, String)]>,
    pub heard: &'a [Heard],
}

impl CaseRef<'_> {
    pub fn to_case(&self) -> Case {
        Case {
            message: self.message.clone(),
            set: self.set,
            facts: self.facts.clone(),
            outcome: self.outcome.clone(),
            opted_out_after: self.opted_out_after,
            network: self.network,
            metadata: self.metadata.map(<[_]>::to_vec),
            heard: self.heard.to_vec(),
        }
    }
}

impl Case {
    pub fn lent(&self) -> CaseRef<'_> {
        CaseRef {
            message: &self.message,
            set: self.set,
            facts: &self.facts,
            outcome: &self.outcome,
            opted_out_after: self.opted_out_after,
            network: self.network,
            metadata: self.metadata.as_deref(),
            heard: &self.heard,
        }
    }

    /// The message as the first hook saw it.
    pub fn message_before(&self) -> Message {
        let mut message = self.message.clone();
        if let Some(body) = message.submitted_body.take() {
            message.body = body;
            if let Ok(plan) = message.measure(&message.body, &TextStyle::default()) {
                message.measured(plan);
            }
        }
        message.network = self.network;
        if let Some(metadata) = &self.metadata {
            message.metadata.clone_from(metadata);
        }
        message.plan = super::decision::Plan::default();
        message.hop = 0;
        message.decisions.clear();
        message
    }

    /// The trace of this decision.
    pub fn calls(&self) -> &[HookCall] {
        self.message
            .decisions
            .last()
            .map_or(&[], |d| d.calls.as_slice())
    }

    /// The body as the decision left it.
    pub fn body(&self) -> &Body {
        &self.message.body
    }
}

/// What an inbound handler asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub action: InboundAction,
    /// The operator's own entry did, and not an account's.
    pub of_operator: bool,
}

/// A recorded decision about a mobile-originated message.
#[derive(Clone, Debug)]
pub struct InboundCase {
    pub inbound: Inbound,
    /// The set that decided.
    pub set: SetId,
    pub context: Context,
    /// Whose number was texted.
    pub owner: Option<AccountId>,
    /// What came of it, in the order of the entries.
    pub asked: Vec<Asked>,
    pub calls: Vec<HookCall>,
    pub heard: Vec<Heard>,
}

/// The same, lent.
#[derive(Clone, Copy, Debug)]
pub struct InboundCaseRef<'a> {
    pub inbound: &'a Inbound,
    pub set: SetId,
    pub context: Context,
    pub owner: Option<&'a AccountId>,
    pub asked: &'a [Asked],
    pub calls: &'a [HookCall],
    pub heard: &'a [Heard],
}

impl InboundCase {
    pub fn lent(&self) -> InboundCaseRef<'_> {
        InboundCaseRef {
            inbound: &self.inbound,
            set: self.set,
            context: self.context,
            owner: self.owner.as_ref(),
            asked: &self.asked,
            calls: &self.calls,
            heard: &self.heard,
        }
    }
}
