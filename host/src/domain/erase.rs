//! What is left of a record once a number is to be forgotten: that something went, when, through whom
//! and with what end; neither the number, nor a text, nor anything that its client wrote.

use super::address::{Address, NumberingPlan, TypeOfNumber};
use super::decision::Inbound;
use super::message::{Body, Message};

/// Stands where the number stood.
pub const ERASED: &str = "erased";

fn erase_address(address: &mut Address, number: &str) {
    if address.value == number {
        *address = Address {
            ton: TypeOfNumber::Alphanumeric,
            npi: NumberingPlan::Unknown,
            value: ERASED.to_owned(),
        };
    }
}

impl Message {
    /// Whether it went to `number` (an address's value), or in its name.
    pub fn concerns(&self, number: &str) -> bool {
        let hops = self.plan.hops.iter().filter_map(|h| h.originator.as_ref());
        let mut all = hops.chain([&self.recipient, &self.originator]);
        all.any(|address| address.value == number)
    }

    pub fn erase(&mut self, number: &str) {
        erase_address(&mut self.recipient, number);
        erase_address(&mut self.originator, number);
        for hop in &mut self.plan.hops {
            if let Some(originator) = &mut hop.originator {
                erase_address(originator, number);
            }
            hop.tlvs.clear();
        }
        self.body = Body::Text(String::new());
        self.submitted_body = None;
        self.reference.clear();
        self.metadata.clear();
        self.tlvs.clear();
        self.sm.cut = None;
        self.receipt_url = None;
        // Plugins and carriers may have quoted what they saw.
        self.plan.reason.clear();
        for decision in &mut self.decisions {
            decision.calls.iter_mut().for_each(|call| call.why.clear());
        }
        self.events
            .iter_mut()
            .for_each(|event| event.detail.clear());
    }
}

impl Inbound {
    pub fn concerns(&self, number: &str) -> bool {
        self.originator.value == number || self.recipient.value == number
    }

    pub fn erase(&mut self, number: &str) {
        erase_address(&mut self.originator, number);
        erase_address(&mut self.recipient, number);
        self.body = Body::Text(String::new());
    }
}

#[cfg(test)]
mod tests {

    use crate::clock::Timestamp;
    use crate::domain::message::tests_support::message;
    use crate::domain::{Hop, Reason, State, Tlv};

    #[test]
    fn nothing_is_left_of_a_number_and_of_what_was_written() {
        const NUMBER: &str = "447700900123";
        let now = Timestamp(1_800_000_000_000);
        let mut message = message(now);
        message.reference = "order of +447700900123".to_owned();
        message.metadata = vec![("phone".to_owned(), NUMBER.to_owned())];
        message.receipt_url = Some(format!("https://example.com/?to={NUMBER}"));
        message.tlvs = vec![Tlv {
            tag: 0x1400,
            value: NUMBER.into(),
        }];
        message.plan.hops.push(Hop {
            carrier: "north".into(),
            originator: Some(message.recipient.clone()),
            price_micros: Some(7),
            tlvs: message.tlvs.clone(),
        });
        message.plan.reason = format!("{NUMBER} is cheap");
        message.enter(now, State::Rejected, Reason::RefusedByPolicy, NUMBER);
        assert!(message.concerns(NUMBER) && !message.concerns("447700900124"));
        message.erase(NUMBER);
        assert!(!message.concerns(NUMBER));
        let left = format!("{message:?}");
        assert!(!left.contains(NUMBER) && !left.contains("order"), "{left}");
        assert_eq!(message.state, State::Rejected);
        assert_eq!(message.plan.hops[0].price_micros, Some(7));
    }
}
