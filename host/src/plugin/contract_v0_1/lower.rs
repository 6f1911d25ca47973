//! Domain values lowered to WIT 0.1, as far as the entry's grant shows them.

use super::super::spec::ContentGrant;
use super::super::view::Disclosure;
use super::bindings::heliograph::sms::types;
use crate::domain::text::Alphabet;
use crate::domain::{
    Address, Attempt, AttemptOutcome, Body, Context, Message, NumberingPlan, Phase, TrafficClass,
    TypeOfNumber,
};

/// A message as the plugin may see it: what has to be made is made here, the rest is borrowed.
pub(super) struct Lent<'a> {
    of: &'a Message,
    disclosure: &'a Disclosure,
    id: String,
    originator: Option<String>,
    recipient: Option<String>,
    country: Option<String>,
    attempts: Vec<types::Attempt<'a>>,
    tlvs: Vec<types::TlvParam<'a>>,
    metadata: Vec<(&'a str, &'a str)>,
}

impl<'a> Lent<'a> {
    pub fn new(of: &'a Message, disclosure: &'a Disclosure) -> Lent<'a> {
        Lent {
            of,
            disclosure,
            id: of.id.to_string(),
            originator: disclosure.pseudonym(&of.originator),
            recipient: disclosure.pseudonym(&of.recipient),
            country: of
                .network
                .country
                .map(|c| c.iter().copied().map(char::from).collect()),
            attempts: of.attempts.iter().map(lowered_attempt).collect(),
            tlvs: of
                .tlvs
                .iter()
                .map(|t| types::TlvParam {
                    tag: t.tag,
                    value: &t.value,
                })
                .collect(),
            metadata: of
                .metadata
                .iter()
                .map(|(n, v)| (n.as_str(), v.as_str()))
                .collect(),
        }
    }

    pub fn message(&self) -> types::Message<'_> {
        let of = self.of;
        types::Message {
            id: &self.id,
            account: of.account.as_str(),
            originator: lowered_address(
                &of.originator,
                self.originator.as_deref(),
                self.disclosure,
            ),
            recipient: lowered_address(&of.recipient, self.recipient.as_deref(), self.disclosure),
            network: types::Network {
                country: self.country.as_deref(),
                mcc: of.network.mcc,
                mnc: of.network.mnc,
                ported: of.network.ported,
            },
            body: lowered_body(&of.body, self.disclosure.content),
            alphabet: match of.alphabet {
                Alphabet::Gsm7 => types::Alphabet::Gsm7,
                Alphabet::Ucs2 => types::Alphabet::Ucs2,
                Alphabet::Octets => types::Alphabet::Octets,
            },
            segments: of.segments,
            traffic: match of.class {
                TrafficClass::Otp => types::TrafficClass::Otp,
                TrafficClass::Transactional => types::TrafficClass::Transactional,
                TrafficClass::Promotional => types::TrafficClass::Promotional,
                TrafficClass::Alert => types::TrafficClass::Alert,
            },
            accepted_at: of.accepted_at.millis(),
            send_at: of.send_at.millis(),
            expires_at: of.expires_at.millis(),
            reference: &of.reference,
            attempts: &self.attempts,
            tlvs: &self.tlvs,
            metadata: &self.metadata,
        }
    }
}

pub(super) fn lowered_context(context: &Context) -> types::Context {
    types::Context {
        now: context.now.millis(),
        random: context.random,
        phase: match context.phase {
            Phase::Admission => types::Phase::Admission,
            Phase::Dispatch => types::Phase::Dispatch,
            Phase::Retry => types::Phase::Retry,
            Phase::Preview => types::Phase::Preview,
        },
    }
}

pub(super) fn lowered_address<'a>(
    address: &'a Address,
    pseudonym: Option<&'a str>,
    disclosure: &Disclosure,
) -> types::AddressParam<'a> {
    types::AddressParam {
        ton: match address.ton {
            TypeOfNumber::Unknown => types::TypeOfNumber::Unknown,
            TypeOfNumber::International => types::TypeOfNumber::International,
            TypeOfNumber::National => types::TypeOfNumber::National,
            TypeOfNumber::NetworkSpecific => types::TypeOfNumber::NetworkSpecific,
            TypeOfNumber::Subscriber => types::TypeOfNumber::Subscriber,
            TypeOfNumber::Alphanumeric => types::TypeOfNumber::Alphanumeric,
            TypeOfNumber::Abbreviated => types::TypeOfNumber::Abbreviated,
        },
        npi: match address.npi {
            NumberingPlan::Unknown => types::NumberingPlan::Unknown,
            NumberingPlan::Isdn => types::NumberingPlan::Isdn,
            NumberingPlan::Data => types::NumberingPlan::Data,
            NumberingPlan::Telex => types::NumberingPlan::Telex,
            NumberingPlan::LandMobile => types::NumberingPlan::LandMobile,
            NumberingPlan::National => types::NumberingPlan::National,
            NumberingPlan::Private => types::NumberingPlan::Private,
            NumberingPlan::Ermes => types::NumberingPlan::Ermes,
            NumberingPlan::Internet => types::NumberingPlan::Internet,
            NumberingPlan::Wap => types::NumberingPlan::Wap,
        },
        value: pseudonym.unwrap_or(&address.value),
        prefix: disclosure.prefix(address),
    }
}

pub(super) fn lowered_body(body: &Body, grant: ContentGrant) -> types::BodyParam<'_> {
    let length = |n: usize| types::BodyParam::Withheld(u32::try_from(n).unwrap_or(u32::MAX));
    match (grant, body) {
        (ContentGrant::Full, Body::Text(text)) => types::BodyParam::Text(text),
        (ContentGrant::Full, Body::Binary { udh, data }) => {
            types::BodyParam::Binary(types::OctetsParam {
                user_data_header: udh,
                data,
            })
        }
        (ContentGrant::Length, Body::Text(text)) => length(text.chars().count()),
        (ContentGrant::Length, Body::Binary { data, .. }) => length(data.len()),
        (ContentGrant::None, Body::Text(_) | Body::Binary { .. }) => length(0),
    }
}

fn lowered_attempt(attempt: &Attempt) -> types::Attempt<'_> {
    types::Attempt {
        carrier: attempt.carrier.as_str(),
        at: attempt.at.millis(),
        outcome: match &attempt.outcome {
            AttemptOutcome::Sent => types::Outcome::Sent,
            AttemptOutcome::Throttled => types::Outcome::Throttled,
            AttemptOutcome::TemporaryFailure(status) => types::Outcome::TemporaryFailure(*status),
            AttemptOutcome::PermanentFailure(status) => types::Outcome::PermanentFailure(*status),
            AttemptOutcome::TimedOut => types::Outcome::TimedOut,
            AttemptOutcome::Unavailable => types::Outcome::Unavailable,
            AttemptOutcome::Undelivered(error) => types::Outcome::Undelivered(error),
        },
    }
}
