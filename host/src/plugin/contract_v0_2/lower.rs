//! Domain values lowered to WIT 0.2, as far as the entry's grant shows them.

use super::super::spec::ContentGrant;
use super::super::view::Disclosure;
use super::bindings::heliograph::sms::types;
use crate::domain::text::Alphabet;
use crate::domain::{
    Address, Attempt, AttemptOutcome, Body, Context, Message, MessageId, NumberingPlan, Phase,
    TrafficClass, TypeOfNumber,
};

/// A message as the plugin may see it: what has to be made is made here, the rest is borrowed.
pub(super) struct Lent<'a> {
    of: &'a Message,
    disclosure: &'a Disclosure,
    originator: Option<String>,
    recipient: Option<String>,
    attempts: Vec<types::Attempt<'a>>,
    tlvs: Vec<types::TlvParam<'a>>,
    metadata: Vec<(&'a str, &'a str)>,
}

impl<'a> Lent<'a> {
    pub fn new(of: &'a Message, disclosure: &'a Disclosure) -> Lent<'a> {
        let pairs = of.metadata.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let tlvs = of.tlvs.iter().map(|t| types::TlvParam {
            tag: t.tag,
            value: &t.value,
        });
        Lent {
            of,
            disclosure,
            originator: withheld_value(&of.originator, disclosure),
            recipient: withheld_value(&of.recipient, disclosure),
            attempts: of.attempts.iter().map(lowered_attempt).collect(),
            tlvs: tlvs.collect(),
            metadata: pairs.collect(),
        }
    }

    pub fn message(&self) -> types::Message<'_> {
        let of = self.of;
        types::Message {
            id: lowered_id(of.id),
            account: of.account.as_str(),
            originator: lowered_address(
                &of.originator,
                self.originator.as_deref(),
                self.disclosure,
            ),
            recipient: lowered_address(&of.recipient, self.recipient.as_deref(), self.disclosure),
            network: types::Network {
                country: of.network.country.map(|[a, b]| (a.into(), b.into())),
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
            reference: (!of.reference.is_empty()).then_some(&of.reference),
            attempts: some(&self.attempts),
            tlvs: some(&self.tlvs),
            metadata: some(&self.metadata),
        }
    }
}

/// An empty list would cost an allocation in the guest; an absent one costs nothing.
fn some<T>(list: &[T]) -> Option<&[T]> {
    (!list.is_empty()).then_some(list)
}

pub(super) fn lowered_id(id: MessageId) -> types::MessageId {
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
    types::MessageId {
        high: half(id.0 >> 64),
        low: half(id.0),
    }
}

/// What stands for a number that the grant withholds: its real prefix and a pseudonym.
pub(super) fn withheld_value(address: &Address, disclosure: &Disclosure) -> Option<String> {
    let pseudonym = disclosure.pseudonym(address)?;
    Some(format!("{}{pseudonym}", disclosure.prefix(address)))
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
    withheld: Option<&'a str>,
    disclosure: &Disclosure,
) -> types::Address<'a> {
    types::Address {
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
        value: withheld.unwrap_or(&address.value),
        // At most eight digits: `view`.
        prefix: u8::try_from(disclosure.prefix(address).len()).unwrap_or(0),
        withheld: withheld.is_some(),
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
