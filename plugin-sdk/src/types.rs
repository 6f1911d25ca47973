//! The words that authors use: the contract's own (`wit/v0.3/sms.wit`) by their Rust names, and where the
//! contract is shaped for a cheap border, the same in the shape that is handy in Rust, made without a copy.
//! And the few constructors that plugins write again and again.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use crate::bindings::enrichment::exports::heliograph::sms::enrichment as wire_enrichment;
use crate::bindings::host::heliograph::sms::types as wire;
use crate::bindings::routing_policy::exports::heliograph::sms::routing_policy as wire_routing;
use crate::packed::{Packed, Unpack, unreadable};
use crate::short::copy;

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
    Alphabet, Attempt, Body, Context, HttpRequest, HttpResponse, NumberingPlan, Octets, Outcome,
    Phase, Refusal, Timestamp, Tlv, TrafficClass, TypeOfNumber,
};
pub use crate::bindings::inbound_handler::exports::heliograph::sms::inbound_handler::{
    Action, Scope,
};
pub use crate::bindings::routing_policy::exports::heliograph::sms::routing_policy::Postponement;

/// A message's id, a UUID. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u128);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Unpack for MessageId {
    fn unpack(call: &mut Packed) -> Self {
        let (high, low): (u64, u64) = call.read();
        Self(u128::from(high) << 64 | u128::from(low))
    }
}

/// A country, ISO 3166-1 alpha-2. Reads as text: `network.country.as_deref() == Some("GB")`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// None where the text is not two upper-case letters.
    pub fn new(text: &str) -> Option<Self> {
        let letters: [u8; 2] = text.as_bytes().try_into().ok()?;
        letters
            .iter()
            .all(u8::is_ascii_uppercase)
            .then_some(Self(letters))
    }

    fn of((first, second): (char, char)) -> Option<Self> {
        Some(Self([first.try_into().ok()?, second.try_into().ok()?]))
    }
}

impl Deref for Country {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl FromStr for Country {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text).ok_or("is not two upper-case letters (ISO 3166-1)")
    }
}

/// Leading digits of a number, 15 at most (E.164). Reads as text.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digits {
    octets: [u8; 15],
    length: u8,
}

impl Digits {
    /// As many as fit.
    pub fn new(text: &str) -> Self {
        let mut digits = Self::default();
        for (place, octet) in digits.octets.iter_mut().zip(text.bytes()) {
            *place = octet;
            digits.length += 1;
        }
        digits
    }
}

impl From<&str> for Digits {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl Deref for Digits {
    type Target = str;

    fn deref(&self) -> &str {
        let digits = self.octets.get(..usize::from(self.length));
        std::str::from_utf8(digits.unwrap_or_default()).unwrap_or_default()
    }
}

impl fmt::Debug for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// An SME address. `value` is E.164 digits without '+' for international numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    pub ton: TypeOfNumber,
    pub npi: NumberingPlan,
    /// The number; where the grant withholds it, its real prefix and a stable pseudonym.
    pub value: String,
    /// Country code and leading digits, always real: enough to route on. Empty for anything but
    /// international numbers.
    pub prefix: Digits,
    /// The grant withholds the number.
    pub withheld: bool,
}

impl Unpack for Address {
    fn unpack(call: &mut Packed) -> Self {
        let (ton, npi, value): (_, _, String) = (call.read(), call.read(), call.read());
        let prefix = value.get(..usize::from(call.read::<u8>()));
        Self {
            ton,
            npi,
            prefix: Digits::new(prefix.unwrap_or_default()),
            value,
            withheld: call.read(),
        }
    }
}

impl From<Address> for wire::Sender {
    fn from(a: Address) -> Self {
        Self {
            ton: a.ton,
            npi: a.npi,
            value: a.value,
        }
    }
}

/// Where a number lives, as far as the host knows or an enrichment found out (ITU-T E.212).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Network {
    pub country: Option<Country>,
    pub mcc: Option<u16>,
    pub mnc: Option<u16>,
    pub ported: bool,
}

impl Unpack for Network {
    fn unpack(call: &mut Packed) -> Self {
        Self {
            country: call.read::<Option<_>>().and_then(Country::of),
            mcc: call.read(),
            mnc: call.read(),
            ported: call.read(),
        }
    }
}

impl From<Network> for wire::Network {
    fn from(n: Network) -> Self {
        Self {
            country: n.country.map(|Country([a, b])| (a.into(), b.into())),
            mcc: n.mcc,
            mnc: n.mnc,
            ported: n.ported,
        }
    }
}

/// A mobile-terminated message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub id: MessageId,
    pub account: String,
    pub originator: Address,
    pub recipient: Address,
    pub network: Network,
    pub body: Body,
    pub alphabet: Alphabet,
    /// Segments that `body` needs as it stands.
    pub segments: u8,
    pub traffic: TrafficClass,
    pub accepted_at: Timestamp,
    /// When the message is to be sent: `send_at` for a scheduled one, otherwise `accepted_at`.
    pub send_at: Timestamp,
    pub expires_at: Timestamp,
    /// The client's own reference, empty where none was given.
    pub reference: String,
    /// Earlier delivery attempts of this message, oldest first.
    pub attempts: Vec<Attempt>,
    pub tlvs: Vec<Tlv>,
    /// The client's, and the labels that enrichments added.
    pub metadata: Vec<(String, String)>,
}

impl Unpack for Message {
    fn unpack(call: &mut Packed) -> Self {
        Self {
            id: call.read(),
            account: call.read(),
            originator: call.read(),
            recipient: call.read(),
            network: call.read(),
            body: call.read(),
            alphabet: call.read(),
            segments: call.read(),
            traffic: call.read(),
            accepted_at: call.read(),
            send_at: call.read(),
            expires_at: call.read(),
            reference: call.read(),
            attempts: call.read(),
            tlvs: call.read(),
            metadata: call.read(),
        }
    }
}

/// What an enrichment answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Enriched {
    /// Found nothing.
    Pass,
    Found(Finding),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Takes the place of what was known before; none leaves it as it was.
    pub network: Option<Network>,
    /// Added to the message's metadata; the same name replaces, whoever set it.
    pub labels: Vec<(String, String)>,
    pub reason: String,
}

impl From<Enriched> for wire_enrichment::Enriched {
    fn from(answer: Enriched) -> Self {
        match answer {
            Enriched::Pass => Self::Pass,
            Enriched::Found(finding) => Self::Found(wire_enrichment::Finding {
                network: finding.network.map(Into::into),
                labels: finding.labels,
                reason: finding.reason,
            }),
        }
    }
}

/// A carrier as a routing policy sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Carrier {
    pub id: String,
    pub connected: bool,
    pub queued: u32,
    pub in_flight: u32,
    /// Submissions per second still allowed now.
    pub headroom: f32,
    /// Over the carrier's recent window, 0.0 to 1.0; none until enough receipts arrived.
    pub delivered_ratio: Option<f32>,
    pub p50_receipt_ms: Option<u32>,
    /// Operator's labels from the carrier's configuration.
    pub tags: Vec<String>,
}

impl Unpack for Carrier {
    fn unpack(call: &mut Packed) -> Self {
        Self {
            id: call.read(),
            connected: call.read(),
            queued: call.read(),
            in_flight: call.read(),
            headroom: call.read(),
            delivered_ratio: call.read(),
            p50_receipt_ms: call.read(),
            tags: call.read(),
        }
    }
}

/// One carrier to try.
#[derive(Clone, Debug, PartialEq)]
pub struct Hop {
    /// The id of a carrier that was offered.
    pub carrier: String,
    /// Replaces the originator on this carrier.
    pub originator: Option<Address>,
    /// Price of one segment in millionths of the deck's currency, where the policy knows it.
    pub price_micros: Option<u64>,
    /// Added to the message's own; the same tag replaces.
    pub tlvs: Vec<Tlv>,
}

/// Carriers in the order in which they are tried: the next one follows a refusal, a timeout or an unavailable carrier.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub hops: Vec<Hop>,
    pub reason: String,
}

/// What a routing policy answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Routing {
    Send(Plan),
    Defer(Postponement),
    Refuse(Refusal),
    /// No opinion: the next policy decides.
    Pass,
}

impl Routing {
    /// In the contract a hop names its carrier by its place in the list that was offered. One that was not
    /// offered gets a place that does not exist: the host says so.
    pub(crate) fn among(self, carriers: &[Carrier]) -> wire_routing::Routing {
        let place = |id: &str| {
            let place = carriers.iter().position(|carrier| carrier.id == id);
            place
                .and_then(|place| u32::try_from(place).ok())
                .unwrap_or(u32::MAX)
        };
        match self {
            Self::Pass => wire_routing::Routing::Pass,
            Self::Defer(postponement) => wire_routing::Routing::Defer(postponement),
            Self::Refuse(refusal) => wire_routing::Routing::Refuse(refusal),
            Self::Send(plan) => {
                let hops = plan.hops.into_iter().map(|hop| wire_routing::Hop {
                    carrier: place(&hop.carrier),
                    originator: hop.originator.map(Into::into),
                    price_micros: hop.price_micros,
                    tlvs: (!hop.tlvs.is_empty()).then_some(hop.tlvs),
                });
                wire_routing::Routing::Send(wire_routing::Plan {
                    hops: hops.collect(),
                    reason: plan.reason,
                })
            }
        }
    }
}

/// A mobile-originated message, reassembled.
#[derive(Clone, Debug, PartialEq)]
pub struct Inbound {
    pub id: MessageId,
    pub carrier: String,
    /// The handset.
    pub originator: Address,
    /// The number that was texted.
    pub recipient: Address,
    pub body: Body,
    pub received_at: Timestamp,
    /// The handset has opted out of `recipient`.
    pub opted_out: bool,
}

impl Unpack for Inbound {
    fn unpack(call: &mut Packed) -> Self {
        Self {
            id: call.read(),
            carrier: call.read(),
            originator: call.read(),
            recipient: call.read(),
            body: call.read(),
            received_at: call.read(),
            opted_out: call.read(),
        }
    }
}

/// Cases by their place in the contract.
macro_rules! cases {
    ($enum:ident: $($case:ident)+) => {
        impl Unpack for $enum {
            fn unpack(call: &mut Packed) -> Self {
                const CASES: &[$enum] = &[$($enum::$case),+];
                match CASES.get(usize::from(call.read::<u8>())) {
                    Some(case) => *case,
                    None => unreadable(),
                }
            }
        }
    };
}

cases!(TypeOfNumber: Unknown International National NetworkSpecific Subscriber Alphanumeric Abbreviated);
cases!(NumberingPlan: Unknown Isdn Data Telex LandMobile National Private Ermes Internet Wap);
cases!(TrafficClass: Otp Transactional Promotional Alert);
cases!(Alphabet: Gsm7 Ucs2 Octets);
cases!(Phase: Admission Dispatch Retry Preview);

impl Unpack for Body {
    fn unpack(call: &mut Packed) -> Self {
        match call.read::<u8>() {
            0 => Self::Text(call.read()),
            1 => Self::Binary(Octets {
                user_data_header: call.read(),
                data: call.read(),
            }),
            2 => Self::Withheld(call.read()),
            _ => unreadable(),
        }
    }
}

impl Unpack for Tlv {
    fn unpack(call: &mut Packed) -> Self {
        Self {
            tag: call.read(),
            value: call.read(),
        }
    }
}

impl Unpack for Outcome {
    fn unpack(call: &mut Packed) -> Self {
        match call.read::<u8>() {
            0 => Self::Sent,
            1 => Self::Throttled,
            2 => Self::TemporaryFailure(call.read()),
            3 => Self::PermanentFailure(call.read()),
            4 => Self::TimedOut,
            5 => Self::Unavailable,
            6 => Self::Undelivered(call.read()),
            _ => unreadable(),
        }
    }
}

impl Unpack for Attempt {
    fn unpack(call: &mut Packed) -> Self {
        Self {
            carrier: call.read(),
            at: call.read(),
            outcome: call.read(),
        }
    }
}

impl Unpack for Context {
    fn unpack(call: &mut Packed) -> Self {
        Self {
            now: call.read(),
            random: call.read(),
            phase: call.read(),
        }
    }
}

impl Unpack for Consent {
    fn unpack(call: &mut Packed) -> Self {
        Self {
            source: call.read(),
            at: call.read(),
            scope: call.read(),
        }
    }
}

impl Unpack for RecipientProfile {
    fn unpack(call: &mut Packed) -> Self {
        Self {
            opted_out: call.read(),
            consent: call.read(),
            utc_offset_minutes: call.read(),
            sent_last_day: call.read(),
        }
    }
}

impl Unpack for HttpRequest {
    fn unpack(call: &mut Packed) -> Self {
        Self {
            method: call.read(),
            url: call.read(),
            headers: call.read(),
            body: call.read(),
        }
    }
}

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

impl Enriched {
    pub fn found(network: Network, reason: impl Into<String>) -> Self {
        Self::Found(Finding {
            network: Some(network),
            labels: Vec::new(),
            reason: reason.into(),
        })
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

impl Carrier {
    /// A hop to it, with nothing of its own: `Hop::to(id)`, and a little quicker.
    pub fn hop(&self) -> Hop {
        Hop::to(copy(&self.id))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_prefix_is_read_off_the_value_and_a_bad_length_is_none() {
        let address = |value: &str, prefix| {
            // International, ISDN, the value's length, the prefix's, withheld.
            let mut call = vec![13, 0, 0, 0, 1, 1, value.len() as u8, 0, 0, 0, prefix, 1];
            call[0] = call.len() as u8;
            call.extend(value.as_bytes());
            Packed::new(&call).read::<Address>()
        };
        assert_eq!(&*address("4477p0123", 4).prefix, "4477");
        assert_eq!(&*address("44", 3).prefix, "");
    }

    #[test]
    fn an_id_is_written_high_half_first() {
        let call = [&[20, 0, 0, 0][..], &1u64.to_le_bytes(), &2u64.to_le_bytes()];
        let id: MessageId = Packed::new(&call.concat()).read();
        assert_eq!(id.to_string(), "00000000000000010000000000000002");
    }

    #[test]
    fn a_country_is_two_upper_case_letters() {
        assert_eq!(Country::new("GB").as_deref(), Some("GB"));
        for none in ["", "gb", "GBR", "G1", "ÄB"] {
            assert_eq!(Country::new(none), None, "{none}");
        }
    }

    #[test]
    fn hops_name_carriers_by_their_place() {
        let carriers = [testing::carrier("north"), testing::carrier("south")];
        let plan = Plan {
            hops: vec![Hop::to("south"), Hop::to("nowhere")],
            reason: String::new(),
        };
        let wire_routing::Routing::Send(plan) = Routing::Send(plan).among(&carriers) else {
            panic!("a plan");
        };
        let places: Vec<u32> = plan.hops.iter().map(|hop| hop.carrier).collect();
        assert_eq!(places, [1, u32::MAX]);
    }
}
