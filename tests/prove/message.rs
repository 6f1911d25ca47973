//! A message as the pipeline hands it to the store, for statements about the store alone.

use heliograph::clock::{Clock, Timestamp};
use heliograph::domain::text::{Alphabet, ShiftTables};
use heliograph::domain::{
    Address, Body, Hop, Lane, Message, MessageId, Network, OnUnknown, Plan, Reason, SmParameters,
    Source, State, TrafficClass,
};

/// Accepted just now, and due at `carrier`.
pub fn queued(carrier: &str, text: &str) -> Message {
    queued_at(Clock::system().now(), carrier, text)
}

pub fn queued_at(now: Timestamp, carrier: &str, text: &str) -> Message {
    let hop = Hop {
        carrier: carrier.into(),
        originator: None,
        price_micros: None,
        tlvs: Vec::new(),
    };
    let mut message = Message {
        id: MessageId::new(now, rand::random()),
        account: "acme".into(),
        originator: Address::originator("60777").expect("an originator"),
        recipient: Address::international("+447700900123").expect("a number"),
        network: Network::default(),
        class: TrafficClass::Transactional,
        body: Body::Text(text.to_owned()),
        submitted_body: None,
        alphabet: Alphabet::Gsm7,
        segments: 1,
        accepted_at: now,
        send_at: now,
        expires_at: Timestamp(now.0 + 86_400_000),
        reference: String::new(),
        metadata: Vec::new(),
        tlvs: Vec::new(),
        receipt_url: None,
        sm: SmParameters::default(),
        source: Source::Http,
        shift: ShiftTables::default(),
        on_unknown: OnUnknown::Resend,
        duplicate_risk: false,
        state: State::Queued,
        due: None,
        plan: Plan {
            hops: vec![hop],
            ..Plan::default()
        },
        hop: 0,
        attempts: Vec::new(),
        parts: Vec::new(),
        failed: Vec::new(),
        decisions: Vec::new(),
        events: Vec::new(),
    };
    message.enter(now, State::Queued, Reason::Accepted, "");
    message.wait(Lane::Carrier(carrier.into()), now);
    message
}
