//! The words of messaging: addresses, messages, text, receipts, decisions. Pure: no I/O, no clock,
//! no serialisation. JSON, bytes on disk and WIT each have one file elsewhere that knows both sides.

pub mod address;
mod availability;
pub mod case;
pub mod cut;
pub mod decision;
pub mod erase;
pub mod message;
pub mod receipt;
pub mod sm;
pub mod text;
pub mod wap_push;

pub use address::{Address, Network, NetworkSource, NumberingPlan, TypeOfNumber};
pub use availability::Returned;
pub use case::{
    Asked, CarrierView, Case, CaseRef, Facts, Heard, HostAnswer, InboundCase, InboundCaseRef,
    Outcome,
};
pub use cut::Cut;
pub use decision::{
    CallOutcome, Context, Decision, Enriched, Hook, HookCall, Hop, Inbound, InboundAction, Phase,
    Plan, RecipientProfile, Refusal, Reroute, Routing, Ruling, SetId, Verdict, WishScope,
};
pub use message::{
    AccountId, Attempt, AttemptOutcome, Body, CarrierId, Due, Event, FailedDelivery, Lane, Message,
    MessageId, OnUnknown, Part, PartState, Reason, State, Tlv, TrafficClass,
};
pub use sm::{FinalReceipt, ReceiptsWanted, SmParameters, Source};
