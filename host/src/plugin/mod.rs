//! The plugin runtime: components are checked, compiled, linked with what the operator granted, and
//! called within limits; a policy set is an immutable, ordered list of them. Knows WebAssembly and
//! the domain's words; knows nothing of queues, carriers or HTTP routes, and WIT only in `contract_v*`.

mod addresses;
mod answer;
mod breaker;
mod child;
mod code;
mod contract;
#[cfg(test)]
mod contract_tests;
mod contract_v0_1;
mod contract_v0_2;
mod contract_v0_3;
mod engine;
mod entry;
mod entry_check;
#[cfg(test)]
mod guest_tests;
pub mod host_calls;
mod http;
mod kept;
mod lane;
mod ledger;
mod load;
mod meter;
mod player;
mod pool;
mod previous;
mod schema;
mod set;
#[cfg(test)]
mod set_tests;
mod signature;
mod spec;
mod spec_check;
mod state;
mod stats;
mod table;
mod tenant;
#[cfg(test)]
mod tenant_tests;
#[cfg(test)]
mod test_guests;
mod upgrade;
mod view;
mod wasi;
#[cfg(test)]
mod wasi_tests;
mod witness;

use std::fmt;

use crate::clock::Timestamp;
use crate::domain::CallOutcome;

pub use crate::domain::CarrierView;
pub use breaker::{BreakerReport, BreakerState};
pub use child::{Care, CompileMode, compile_child};
pub use contract::WitVersion;
pub use engine::{CodeCache, ComponentLimits, Engine, EngineError, EngineLimits};
pub use entry::Entry;
pub use host_calls::{
    HOST_CALLS_MAX, HostCall, HttpAnswer, HttpClient, HttpFailure, HttpLimits, LOG_LINES_MAX,
};
pub use http::HyperClient;
pub use ledger::{Ledger, Who};
pub use load::{Inspection, LoadError, Manifest, digest_text, inspect_component};
pub use player::{Played, Player};
pub use previous::fill_previous;
pub use set::{
    EntryHook, EntrySummary, Host, PolicySet, PreviousSummary, SetError, SetSummary, TableSummary,
};
pub use signature::{
    FormatError, KeyId, PublicKey, SIGNATURE_FILE_BYTES_MAX, SecretKey, Signature, Signatures,
    Signer, Trust, Untrusted, signers_text,
};
pub use spec::{
    AccountQuota, BreakerSpec, ContentGrant, Fail, Grants, HttpGrant, Limits, NumbersGrant,
    PluginSpec, PolicySpec, PreviousSpec, Source, SpecError, StateGrant, TableSpec,
};
pub use spec_check::{Problem, Resolver};
pub use state::{MemoryState, StateError, StateStore};
pub use stats::EntryStats;
pub use table::{PrefixTable, TableError};
pub use tenant::{AccountUsage, Quota};
pub use upgrade::{Build, Upgrade};
pub use wasi::{NAME as WASI_NAME, is_empty_wasi};
pub use witness::Witness;

/// An HTTP request, from a plugin to the world or from a carrier's call-back to a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRequest {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpResponse {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// How a carrier adapter refused a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitError {
    /// Milliseconds to wait.
    Throttled(u32),
    Temporary(String),
    Permanent(String),
    /// The request may or may not have reached the carrier.
    Unknown(String),
}

/// message_state of a carrier's call-back (SMPP 3.4, 5.2.28).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterState {
    Enroute,
    Delivered,
    Expired,
    Deleted,
    Undeliverable,
    Accepted,
    Unknown,
    Rejected,
}

/// What a carrier's call-back told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdapterEvent {
    Receipt {
        carrier_message_id: String,
        state: AdapterState,
        error: Option<String>,
        at: Option<Timestamp>,
    },
    Inbound {
        originator: String,
        recipient: String,
        text: String,
        at: Option<Timestamp>,
    },
}

/// The answer that the carrier expects, and what it told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackAnswer {
    pub response: HttpResponse,
    pub events: Vec<AdapterEvent>,
}

/// Why a call gave no answer. It cost that call and that instance, nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The plugin trapped: the reason, in WebAssembly's words.
    Trap(String),
    /// The deadline passed, or the entry had wasted too much time before (`lane`).
    Timeout { deadline_ms: u32 },
    /// It trapped after memory or a table could not grow.
    MemoryLimit { limit_bytes: u64 },
    /// It answered what the contract does not allow: the field and the rule.
    BadOutput(String),
    /// It called the host too often, or logged or copied too much.
    HostCallLimit(String),
    /// The host could not make the call.
    Internal(String),
    /// Not called: too many of its last calls failed.
    Skipped,
    /// Not called: the account whose plugin it is has used up its quota.
    Quota(String),
    /// Not called: no instance was free in time, which is the server's doing and says nothing of the plugin.
    Busy { instances: u32, waited_ms: u64 },
}

impl Fault {
    pub const KINDS: [&'static str; 9] = [
        "trap",
        "timeout",
        "memory_limit",
        "bad_output",
        "host_call_limit",
        "internal",
        "skipped",
        "quota",
        "busy",
    ];

    /// A stable name for metrics: one of [`Fault::KINDS`].
    pub fn kind(&self) -> &'static str {
        Fault::KINDS[self.index()]
    }

    pub(crate) fn index(&self) -> usize {
        match self {
            Fault::Trap(_) => 0,
            Fault::Timeout { .. } => 1,
            Fault::MemoryLimit { .. } => 2,
            Fault::BadOutput(_) => 3,
            Fault::HostCallLimit(_) => 4,
            Fault::Internal(_) => 5,
            Fault::Skipped => 6,
            Fault::Quota(_) => 7,
            Fault::Busy { .. } => 8,
        }
    }

    /// How the call stands in a decision trace.
    pub fn outcome(&self) -> CallOutcome {
        match self {
            Fault::Trap(_)
            | Fault::Timeout { .. }
            | Fault::MemoryLimit { .. }
            | Fault::BadOutput(_)
            | Fault::HostCallLimit(_)
            | Fault::Internal(_) => CallOutcome::Fault,
            Fault::Skipped | Fault::Quota(_) | Fault::Busy { .. } => CallOutcome::Skipped,
        }
    }

    /// Whether the plugin was called at all: else nothing can be said of it.
    pub(crate) fn was_called(&self) -> bool {
        self.outcome() == CallOutcome::Fault
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Trap(why) => write!(f, "the plugin trapped: {why}"),
            Fault::Timeout { deadline_ms } => {
                write!(
                    f,
                    "the plugin did not answer within limits.deadline_ms = {deadline_ms}"
                )
            }
            Fault::MemoryLimit { limit_bytes } => write!(
                f,
                "the plugin needs more memory than limits.memory_mib = {}",
                limit_bytes >> 20
            ),
            Fault::BadOutput(what) => write!(f, "the plugin's answer breaks the contract: {what}"),
            Fault::HostCallLimit(what) => {
                write!(f, "the plugin asked too much of the host: {what}")
            }
            Fault::Internal(what) => write!(f, "the call could not be made: {what}"),
            Fault::Skipped => write!(f, "not called, because too many of its last calls failed"),
            Fault::Quota(why) => write!(f, "not called, because {why}"),
            Fault::Busy {
                instances,
                waited_ms,
            } => write!(
                f,
                "not called, because all limits.instances = {instances} were busy for {waited_ms} ms"
            ),
        }
    }
}

impl std::error::Error for Fault {}

/// What came of one call, and its nanoseconds in the plugin and at its border.
pub type Called<T> = (Result<T, Fault>, u32);
