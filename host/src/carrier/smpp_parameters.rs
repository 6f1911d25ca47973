//! The parameters of submit_sm beside its text: what a message asks for, else what its carrier's
//! operator says, else what SMPP 3.4 has as its default; and addresses as the carrier wants them. Pure.

use std::borrow::Cow;

use crate::domain::sm::{FinalReceipt, SmParameters};
use crate::domain::{Address, Tlv, TrafficClass, TypeOfNumber};

/// How validity_period and schedule_delivery_time are written (SMPP 3.4, 7.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validity {
    /// `000003000000000R`: three days from now.
    #[default]
    Relative,
    /// `261126120000000+`: in UTC.
    Absolute,
    /// Left out: the SMSC's own default holds.
    None,
}

/// What an operator sets for all messages to one carrier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubmitDefaults {
    pub service_type: String,
    pub protocol_id: u8,
    /// None: 1 for OTPs and alerts, 0 for others.
    pub priority_flag: Option<u8>,
    /// Sent as it is. None: what the client wants to hear of, and a final receipt always.
    pub registered_delivery: Option<u8>,
    pub replace_if_present: bool,
    pub sm_default_msg_id: u8,
    pub validity: Validity,
    /// A message's own TLVs and its route's win over these.
    pub tlvs: Vec<Tlv>,
    /// For source_addr; the first rule that fits holds.
    pub source: Vec<AddressRule>,
    /// For destination_addr.
    pub destination: Vec<AddressRule>,
}

impl SubmitDefaults {
    pub fn service_type<'a>(&'a self, sm: &'a SmParameters) -> &'a str {
        if sm.service_type.is_empty() {
            &self.service_type
        } else {
            &sm.service_type
        }
    }

    pub fn protocol_id(&self, sm: &SmParameters) -> u8 {
        sm.protocol_id.unwrap_or(self.protocol_id)
    }

    /// SMPP 3.4, 5.2.14: 0 is bulk, 1 to 3 are ahead of it.
    pub fn priority_flag(&self, sm: &SmParameters, class: TrafficClass) -> u8 {
        let own = sm.priority_flag.or(self.priority_flag);
        own.unwrap_or(match class {
            TrafficClass::Otp | TrafficClass::Alert => 1,
            TrafficClass::Transactional | TrafficClass::Promotional => 0,
        })
    }

    /// SMPP 3.4, 5.2.17. `heard`: the carrier has a way to tell us.
    pub fn registered_delivery(&self, sm: &SmParameters, heard: bool) -> u8 {
        if let Some(registered_delivery) = self.registered_delivery {
            return registered_delivery;
        }
        if !heard {
            return 0;
        }
        // What the client hears is narrowed on its own side: the message's state, failing over and
        // the figures of its carrier need the final receipt, and nothing else brings it.
        let mut wanted = sm.receipts;
        wanted.last = FinalReceipt::Always;
        wanted.registered_delivery()
    }

    pub fn replace_if_present_flag(&self, sm: &SmParameters) -> u8 {
        u8::from(sm.replace_if_present || self.replace_if_present)
    }

    pub fn sm_default_msg_id(&self, sm: &SmParameters) -> u8 {
        match sm.sm_default_msg_id {
            0 => self.sm_default_msg_id,
            own => own,
        }
    }
}

/// Which addresses a rule is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    #[default]
    Any,
    /// E.164 digits.
    International,
    /// Digits, and not international: short codes, national numbers.
    Short,
    /// With at least one character that is no digit.
    Alphanumeric,
}

/// What a carrier wants of one kind of address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRule {
    pub shape: Shape,
    /// Fits only addresses that begin with it (without '+').
    pub prefix: String,
    /// Fits only addresses of at least and at most that many characters.
    pub min_length: Option<usize>,
    pub max_length: Option<usize>,
    /// Put in the place of `prefix`: `0` for a national form.
    pub replace: Option<String>,
    /// An international number is written with its '+'.
    pub plus: bool,
    /// None: the address's own.
    pub ton: Option<u8>,
    pub npi: Option<u8>,
}

/// An address as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireAddress<'a> {
    pub ton: u8,
    pub npi: u8,
    pub value: Cow<'a, str>,
}

impl WireAddress<'_> {
    pub fn into_owned(self) -> WireAddress<'static> {
        WireAddress {
            ton: self.ton,
            npi: self.npi,
            value: Cow::Owned(self.value.into_owned()),
        }
    }
}

/// By the first rule that fits; as it is where none does.
pub fn wire_address<'a>(address: &'a Address, rules: &[AddressRule]) -> WireAddress<'a> {
    let mut wire = WireAddress {
        ton: address.ton as u8,
        npi: address.npi as u8,
        value: Cow::Borrowed(&address.value),
    };
    let Some(rule) = rules.iter().find(|r| r.fits(address)) else {
        return wire;
    };
    if let Some(replace) = &rule.replace {
        let rest = address.value.strip_prefix(&rule.prefix).unwrap_or_default();
        wire.value = Cow::Owned(format!("{replace}{rest}"));
    }
    if rule.plus && address.ton == TypeOfNumber::International && !wire.value.starts_with('+') {
        wire.value = Cow::Owned(format!("+{}", wire.value));
    }
    wire.ton = rule.ton.unwrap_or(wire.ton);
    wire.npi = rule.npi.unwrap_or(wire.npi);
    wire
}

impl AddressRule {
    fn fits(&self, address: &Address) -> bool {
        let length = address.value.chars().count();
        (self.shape == Shape::Any || self.shape == shape_of(address))
            && address.value.starts_with(&self.prefix)
            && self.min_length.is_none_or(|min| length >= min)
            && self.max_length.is_none_or(|max| length <= max)
    }
}

fn shape_of(address: &Address) -> Shape {
    match address.ton {
        TypeOfNumber::International => Shape::International,
        TypeOfNumber::Alphanumeric => Shape::Alphanumeric,
        _ if address.value.bytes().all(|b| b.is_ascii_digit()) => Shape::Short,
        _ => Shape::Alphanumeric,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn originator(text: &str) -> Address {
        Address::originator(text).unwrap()
    }

    fn wire(text: &str, rules: &[AddressRule]) -> (u8, u8, String) {
        let address = originator(text);
        let wire = wire_address(&address, rules);
        (wire.ton, wire.npi, wire.value.into_owned())
    }

    #[test]
    fn without_rules_an_address_goes_as_it_is() {
        assert_eq!(wire("+447700900123", &[]), (1, 1, "447700900123".into()));
        assert_eq!(wire("60777", &[]), (6, 0, "60777".into()));
        assert_eq!(wire("Acme", &[]), (5, 0, "Acme".into()));
    }

    #[test]
    fn the_first_rule_that_fits_holds() {
        let rules = [
            AddressRule {
                shape: Shape::Alphanumeric,
                ton: Some(0),
                ..AddressRule::default()
            },
            // The national form for one country, international with '+' for all others.
            AddressRule {
                shape: Shape::International,
                prefix: "44".into(),
                replace: Some("0".into()),
                ton: Some(2),
                npi: Some(8),
                ..AddressRule::default()
            },
            AddressRule {
                shape: Shape::International,
                plus: true,
                ..AddressRule::default()
            },
            AddressRule {
                shape: Shape::Short,
                max_length: Some(4),
                ton: Some(3),
                ..AddressRule::default()
            },
        ];
        assert_eq!(wire("Acme", &rules), (0, 0, "Acme".into()));
        assert_eq!(wire("+447700900123", &rules), (2, 8, "07700900123".into()));
        assert_eq!(
            wire("+4915112345678", &rules),
            (1, 1, "+4915112345678".into())
        );
        assert_eq!(wire("6077", &rules), (3, 0, "6077".into()));
        assert_eq!(wire("60777", &rules), (6, 0, "60777".into()));
    }

    #[test]
    fn a_message_wins_over_its_carrier_and_its_carrier_over_the_specification() {
        let carrier = SubmitDefaults {
            service_type: "VMA".into(),
            protocol_id: 0x41,
            priority_flag: Some(2),
            sm_default_msg_id: 7,
            ..SubmitDefaults::default()
        };
        let plain = SubmitDefaults::default();
        let asks = SmParameters {
            service_type: "WAP".into(),
            protocol_id: Some(0),
            priority_flag: Some(3),
            sm_default_msg_id: 9,
            replace_if_present: true,
            ..SmParameters::default()
        };
        let silent = SmParameters::default();
        let all = |d: &SubmitDefaults, sm: &SmParameters| {
            (
                d.service_type(sm).to_owned(),
                d.protocol_id(sm),
                d.priority_flag(sm, TrafficClass::Otp),
                d.sm_default_msg_id(sm),
                d.replace_if_present_flag(sm),
            )
        };
        assert_eq!(all(&carrier, &asks), ("WAP".into(), 0, 3, 9, 1));
        assert_eq!(all(&carrier, &silent), ("VMA".into(), 0x41, 2, 7, 0));
        assert_eq!(all(&plain, &silent), (String::new(), 0, 1, 0, 0));
        assert_eq!(plain.priority_flag(&silent, TrafficClass::Promotional), 0);
    }

    #[test]
    fn a_final_receipt_is_always_asked_for_where_one_can_come() {
        use crate::domain::sm::ReceiptsWanted;
        let plain = SubmitDefaults::default();
        let wants = |octet| SmParameters {
            receipts: ReceiptsWanted::from_registered_delivery(octet),
            ..SmParameters::default()
        };
        assert_eq!(plain.registered_delivery(&wants(0), true), 0x01);
        assert_eq!(plain.registered_delivery(&wants(0x12), true), 0x11);
        assert_eq!(plain.registered_delivery(&wants(0x1D), true), 0x1D);
        assert_eq!(plain.registered_delivery(&wants(1), false), 0);
        let fixed = SubmitDefaults {
            registered_delivery: Some(0),
            ..SubmitDefaults::default()
        };
        assert_eq!(fixed.registered_delivery(&wants(1), true), 0);
    }
}
