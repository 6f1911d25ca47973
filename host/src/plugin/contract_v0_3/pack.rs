//! Domain values packed into the one list of octets that a hook of WIT 0.3 is called with (wit/README.md,
//! "Packed calls"), as far as the entry's grant shows them. Fields stand in the order of the contract.

use super::super::spec::ContentGrant;
use super::super::view::Disclosure;
use super::super::{CarrierView, HttpRequest};
use crate::domain::text::Alphabet;
use crate::domain::{
    Address, Attempt, AttemptOutcome, Body, Context, Inbound, Message, MessageId, NumberingPlan,
    Phase, RecipientProfile, TrafficClass, TypeOfNumber,
};

/// What most calls need: they are written without growing.
const NUMBERS_OCTETS: usize = 512;
const TEXT_OCTETS: usize = 256;

/// A call that is being packed: numbers as they come, and the texts, end to end, behind them.
pub(super) struct Call {
    numbers: Vec<u8>,
    text: String,
}

impl Call {
    pub fn new() -> Call {
        let mut numbers = Vec::with_capacity(NUMBERS_OCTETS);
        // Where the texts begin: known at the end.
        numbers.extend_from_slice(&[0; 4]);
        Call {
            numbers,
            text: String::with_capacity(TEXT_OCTETS),
        }
    }

    pub fn packed(self) -> Vec<u8> {
        let Call { mut numbers, text } = self;
        let begin = length(numbers.len()).to_le_bytes();
        if let Some(place) = numbers.first_chunk_mut() {
            *place = begin;
        }
        numbers.extend_from_slice(text.as_bytes());
        numbers
    }

    fn u8(&mut self, number: u8) {
        self.numbers.push(number);
    }

    fn u16(&mut self, number: u16) {
        self.numbers.extend_from_slice(&number.to_le_bytes());
    }

    fn u32(&mut self, number: u32) {
        self.numbers.extend_from_slice(&number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.numbers.extend_from_slice(&number.to_le_bytes());
    }

    fn flag(&mut self, flag: bool) {
        self.u8(flag.into());
    }

    fn text(&mut self, text: &str) {
        self.u32(length(text.len()));
        self.text.push_str(text);
    }

    fn octets(&mut self, octets: &[u8]) {
        self.u32(length(octets.len()));
        self.numbers.extend_from_slice(octets);
    }

    fn option<T>(&mut self, value: Option<T>, pack: impl FnOnce(&mut Call, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            pack(self, value);
        }
    }

    fn list<T>(&mut self, values: &[T], pack: impl Fn(&mut Call, &T)) {
        self.u32(length(values.len()));
        values.iter().for_each(|value| pack(self, value));
    }

    fn pairs(&mut self, pairs: &[(String, String)]) {
        self.list(pairs, |call, (name, value)| {
            call.text(name);
            call.text(value);
        });
    }
}

/// Nothing here comes near 4 GiB: texts, metadata and parameters are bounded where they come in.
fn length(octets: usize) -> u32 {
    u32::try_from(octets).unwrap_or(u32::MAX)
}

impl Call {
    pub fn message(&mut self, of: &Message, disclosure: &Disclosure) {
        self.id(of.id);
        self.text(of.account.as_str());
        self.address(&of.originator, disclosure);
        self.address(&of.recipient, disclosure);
        self.option(of.network.country, |call, letters| {
            for letter in letters {
                call.u32(letter.into());
            }
        });
        self.option(of.network.mcc, Call::u16);
        self.option(of.network.mnc, Call::u16);
        self.flag(of.network.ported);
        self.body(&of.body, disclosure.content);
        self.u8(match of.alphabet {
            Alphabet::Gsm7 => 0,
            Alphabet::Ucs2 => 1,
            Alphabet::Octets => 2,
        });
        self.u8(of.segments);
        self.u8(match of.class {
            TrafficClass::Otp => 0,
            TrafficClass::Transactional => 1,
            TrafficClass::Promotional => 2,
            TrafficClass::Alert => 3,
        });
        self.u64(of.accepted_at.millis());
        self.u64(of.send_at.millis());
        self.u64(of.expires_at.millis());
        self.text(&of.reference);
        self.list(&of.attempts, Call::attempt);
        self.list(&of.tlvs, |call, tlv| {
            call.u16(tlv.tag);
            call.octets(&tlv.value);
        });
        self.pairs(&of.metadata);
    }

    pub fn context(&mut self, context: &Context) {
        self.u64(context.now.millis());
        self.u64(context.random);
        self.u8(match context.phase {
            Phase::Admission => 0,
            Phase::Dispatch => 1,
            Phase::Retry => 2,
            Phase::Preview => 3,
        });
    }

    pub fn recipient(&mut self, recipient: &RecipientProfile) {
        self.flag(recipient.opted_out);
        // Consent: the host knows of none.
        self.flag(false);
        self.option(recipient.utc_offset_minutes, |call, minutes| {
            call.numbers.extend_from_slice(&minutes.to_le_bytes());
        });
        self.u32(recipient.sent_last_day);
    }

    pub fn carriers(&mut self, carriers: &[CarrierView]) {
        self.list(carriers, |call, carrier| {
            call.text(carrier.id.as_str());
            call.flag(carrier.connected);
            call.u32(carrier.queued);
            call.u32(carrier.in_flight);
            call.u32(carrier.headroom.to_bits());
            call.option(carrier.delivered_ratio.map(f32::to_bits), Call::u32);
            call.option(carrier.p50_receipt_ms, Call::u32);
            call.list(&carrier.tags, |call, tag| call.text(tag));
        });
    }

    pub fn inbound(&mut self, inbound: &Inbound, disclosure: &Disclosure) {
        self.id(inbound.id);
        self.text(inbound.carrier.as_str());
        self.address(&inbound.originator, disclosure);
        self.address(&inbound.recipient, disclosure);
        self.body(&inbound.body, disclosure.content);
        self.u64(inbound.received_at.millis());
        self.flag(inbound.opted_out);
    }

    pub fn request(&mut self, request: &HttpRequest) {
        self.text(&request.method);
        self.text(&request.url);
        self.pairs(&request.headers);
        self.octets(&request.body);
    }

    fn id(&mut self, id: MessageId) {
        let octets = id.0.to_be_bytes();
        // The high half, then the low one, each as a number.
        for half in octets.as_chunks::<8>().0 {
            self.u64(u64::from_be_bytes(*half));
        }
    }

    fn address(&mut self, address: &Address, disclosure: &Disclosure) {
        self.u8(match address.ton {
            TypeOfNumber::Unknown => 0,
            TypeOfNumber::International => 1,
            TypeOfNumber::National => 2,
            TypeOfNumber::NetworkSpecific => 3,
            TypeOfNumber::Subscriber => 4,
            TypeOfNumber::Alphanumeric => 5,
            TypeOfNumber::Abbreviated => 6,
        });
        self.u8(match address.npi {
            NumberingPlan::Unknown => 0,
            NumberingPlan::Isdn => 1,
            NumberingPlan::Data => 2,
            NumberingPlan::Telex => 3,
            NumberingPlan::LandMobile => 4,
            NumberingPlan::National => 5,
            NumberingPlan::Private => 6,
            NumberingPlan::Ermes => 7,
            NumberingPlan::Internet => 8,
            NumberingPlan::Wap => 9,
        });
        let prefix = disclosure.prefix(address);
        let pseudonym = disclosure.pseudonym(address);
        match &pseudonym {
            None => self.text(&address.value),
            Some(pseudonym) => self.text(&[prefix, pseudonym.as_str()].concat()),
        }
        // At most eight digits: `view`.
        self.u8(u8::try_from(prefix.len()).unwrap_or(0));
        self.flag(pseudonym.is_some());
    }

    fn body(&mut self, body: &Body, grant: ContentGrant) {
        let withheld = |call: &mut Call, characters: usize| {
            call.u8(2);
            call.u32(length(characters));
        };
        match (grant, body) {
            (ContentGrant::Full, Body::Text(text)) => {
                self.u8(0);
                self.text(text);
            }
            (ContentGrant::Full, Body::Binary { udh, data }) => {
                self.u8(1);
                self.octets(udh);
                self.octets(data);
            }
            (ContentGrant::Length, Body::Text(text)) => withheld(self, text.chars().count()),
            (ContentGrant::Length, Body::Binary { data, .. }) => withheld(self, data.len()),
            (ContentGrant::None, Body::Text(_) | Body::Binary { .. }) => withheld(self, 0),
        }
    }

    fn attempt(&mut self, attempt: &Attempt) {
        self.text(attempt.carrier.as_str());
        self.u64(attempt.at.millis());
        match &attempt.outcome {
            AttemptOutcome::Sent => self.u8(0),
            AttemptOutcome::Throttled => self.u8(1),
            AttemptOutcome::TemporaryFailure(status) => {
                self.u8(2);
                self.u32(*status);
            }
            AttemptOutcome::PermanentFailure(status) => {
                self.u8(3);
                self.u32(*status);
            }
            AttemptOutcome::TimedOut => self.u8(4),
            AttemptOutcome::Unavailable => self.u8(5),
            AttemptOutcome::Undelivered(error) => {
                self.u8(6);
                self.text(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::spec::NumbersGrant;
    use super::super::super::test_guests;
    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::Tlv;

    const NOON: Timestamp = Timestamp(1_781_524_800_000);

    fn disclosure(numbers: NumbersGrant, content: ContentGrant) -> Disclosure {
        Disclosure {
            numbers,
            content,
            key: [7; 32],
        }
    }

    /// The octets of `call.hex`, without what it says of them.
    fn published() -> Vec<u8> {
        let rows = include_str!("../../../../wit/v0.3/call.hex").lines();
        let octets = rows.flat_map(|row| row.split('#').next().unwrap().split_whitespace());
        let octet = |text| u8::from_str_radix(text, 16).unwrap();
        octets.map(octet).collect()
    }

    #[test]
    fn a_call_is_packed_as_it_is_published() {
        let mut message = test_guests::message();
        message.id = MessageId(0x0192_f0a1_b2c3_7d4e_8f60_7182_93a4_b5c6);
        message.account = "acme".into();
        message.originator = Address::originator("Acme").unwrap();
        message.recipient = Address::international("+447700900123").unwrap();
        message.network.country = Some(*b"GB");
        message.network.mcc = Some(234);
        message.network.mnc = None;
        message.network.ported = true;
        message.body = Body::Text("Voilà".into());
        message.alphabet = Alphabet::Gsm7;
        message.segments = 1;
        message.class = TrafficClass::Transactional;
        message.accepted_at = NOON;
        message.send_at = NOON;
        message.expires_at = Timestamp(NOON.0 + 86_400_000);
        message.reference = "r-1".into();
        message.attempts = vec![Attempt {
            carrier: "north".into(),
            at: Timestamp(NOON.0 + 1_000),
            outcome: AttemptOutcome::PermanentFailure(0x0b),
        }];
        message.tlvs = vec![Tlv {
            tag: 0x1400,
            value: vec![1, 2],
        }];
        message.metadata = vec![("order".into(), "4711".into())];
        let carrier = CarrierView {
            id: "south".into(),
            connected: true,
            queued: 3,
            in_flight: 2,
            headroom: 100.0,
            delivered_ratio: Some(0.5),
            p50_receipt_ms: None,
            tags: vec!["direct".into()],
        };
        let context = Context {
            now: Timestamp(NOON.0 + 2_000),
            random: 0x9e37_79b9_7f4a_7c15,
            phase: Phase::Retry,
        };
        let mut call = Call::new();
        call.message(
            &message,
            &disclosure(NumbersGrant::Full, ContentGrant::Full),
        );
        call.carriers(&[carrier]);
        call.context(&context);
        assert_eq!(call.packed(), published());
    }

    #[test]
    fn what_a_grant_withholds_is_in_no_octet() {
        let mut message = test_guests::message();
        message.recipient = Address::international("+447700900123").unwrap();
        message.body = Body::Text("naïve".into());
        let packed = |numbers, content| {
            let mut call = Call::new();
            call.message(&message, &disclosure(numbers, content));
            call.packed()
        };
        let holds = |octets: &[u8], text: &str| {
            octets
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        };
        let shown = packed(NumbersGrant::Full, ContentGrant::Full);
        assert!(holds(&shown, "447700900123") && holds(&shown, "naïve"));
        let withheld = packed(NumbersGrant::Prefix, ContentGrant::Length);
        assert!(holds(&withheld, "44770090p") && !holds(&withheld, "0123"));
        // Withheld, five characters.
        assert!(!holds(&withheld, "ve") && holds(&withheld, "\u{2}\u{5}\0\0\0"));
        let nothing = packed(NumbersGrant::Pseudonym, ContentGrant::None);
        assert!(holds(&nothing, "44p") && !holds(&nothing, "4477"));
    }
}
