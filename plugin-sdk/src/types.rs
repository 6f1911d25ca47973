//! The words of the contract under one roof: every record, variant and enum of `wit/sms.wit` by its Rust name,
//! and the few constructors that plugins write again and again.

pub use crate::bindings::carrier_adapter::exports::heliograph::sms::carrier_adapter::{
    CallbackAnswer, Event, MessageState, MobileOriginated, Receipt, SubmitError,
};
pub use crate::bindings::compliance_check::exports::heliograph::sms::compliance_check::{
    Amendment, Consent, Deferral, RecipientProfile, Ruling,
};
pub use crate::bindings::content_filter::exports::heliograph::sms::content_filter::{
    Replacement, Verdict,
};
pub use crate::bindings::host::heliograph::sms::http::Failure as HttpFailure;
pub use crate::bindings::host::heliograph::sms::types::{
    Address, Alphabet, Attempt, Body, Context, HttpRequest, HttpResponse, Message, Network,
    NumberingPlan, Octets, Outcome, Phase, Refusal, Timestamp, Tlv, TrafficClass, TypeOfNumber,
};
pub use crate::bindings::inbound_handler::exports::heliograph::sms::inbound_handler::{
    Action, Inbound, Scope,
};
pub use crate::bindings::routing_policy::exports::heliograph::sms::routing_policy::{
    Carrier, Hop, Plan, Postponement, Routing,
};

impl Refusal {
    /// `code` is stable, lower_snake_case and documented by the plugin; `reason` is for a person.
    pub fn new(code: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            reason: reason.into(),
        }
    }
}

impl Body {
    /// The text, or none where the body is binary or withheld.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) | Self::Withheld(_) => None,
        }
    }
}

impl Message {
    /// The text, or none where the body is binary or withheld.
    pub fn text(&self) -> Option<&str> {
        self.body.as_text()
    }

    /// The value that the client attached under `key`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }
}

impl Verdict {
    pub fn refuse(code: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Refuse(Refusal::new(code, reason))
    }

    pub fn replace(text: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Replace(Replacement {
            body: Body::Text(text.into()),
            reason: reason.into(),
        })
    }
}

impl Ruling {
    pub fn deny(code: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Deny(Refusal::new(code, reason))
    }

    pub fn amend(text: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Amend(Amendment {
            body: Body::Text(text.into()),
            reason: reason.into(),
        })
    }

    pub fn defer(until: Timestamp, reason: impl Into<String>) -> Self {
        Self::Defer(Deferral {
            until,
            reason: reason.into(),
        })
    }
}

impl Routing {
    pub fn refuse(code: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Refuse(Refusal::new(code, reason))
    }

    pub fn defer(until: Timestamp, reason: impl Into<String>) -> Self {
        Self::Defer(Postponement {
            until,
            reason: reason.into(),
        })
    }
}

impl Hop {
    /// The carrier as it is: no other originator, no price, no further TLVs.
    pub fn to(carrier: impl Into<String>) -> Self {
        Self {
            carrier: carrier.into(),
            originator: None,
            price_micros: None,
            tlvs: Vec::new(),
        }
    }
}
