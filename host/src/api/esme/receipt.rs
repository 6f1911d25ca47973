//! Delivery receipts and intermediate notifications as an ESME gets them: the text of SMPP 3.4,
//! appendix B, and the parameters that say the same. Pure: what is told, and when, was decided
//! before.

use super::system::ReceiptForm;
use crate::clock::Timestamp;
use crate::domain::{Body, Message, State};
use crate::smpp::pdu::{self, EncodeError, Sm, TlvBuf, esm_class, tag};
use crate::smpp::time::receipt_date;

/// Of the message's text, in the receipt's.
const TEXT_SHOWN: usize = 20;
/// network_error_code's first octet (SMPP 3.4, 5.3.2.31).
const NETWORK_TYPE_GSM: u8 = 3;

/// message_state (SMPP 3.4, 5.2.28) and the word for it in a receipt's text.
pub fn message_state(state: State) -> (u8, &'static str) {
    match state {
        State::Scheduled | State::Held | State::Queued | State::SubmitUnknown | State::Enroute => {
            (1, "ENROUTE")
        }
        State::Delivered => (2, "DELIVRD"),
        State::Expired => (3, "EXPIRED"),
        State::Canceled => (4, "DELETED"),
        State::Undeliverable => (5, "UNDELIV"),
        State::Unknown => (7, "UNKNOWN"),
        State::Rejected => (8, "REJECTD"),
    }
}

/// The id by which an ESME knows a message: its own, or the one that a submit_multi was answered with.
pub fn client_id(message: &Message) -> String {
    match message.reference.as_str() {
        "" => message.id.to_string(),
        shared => shared.to_owned(),
    }
}

/// When the last state was reached: what the carrier says of the handset, else when we knew.
pub fn done_at(message: &Message, state: State) -> Option<Timestamp> {
    if !state.is_terminal() {
        return None;
    }
    let event = message.events.iter().rev().find(|e| e.state == state);
    let reported = message.parts.iter().filter_map(|p| p.done_at).max();
    reported.or(event.map(|e| e.at))
}

/// The network's error as a number, 0 where there is none.
pub fn error_number(message: &Message) -> u16 {
    error_text(message).parse().unwrap_or(0)
}

fn error_text(message: &Message) -> &str {
    let errors = message.parts.iter().map(|p| p.error.as_str());
    errors
        .max_by_key(|e| e.bytes().any(|b| b != b'0'))
        .unwrap_or("")
}

/// Appends the deliver_sm that tells of `message` having entered `state` to `requests`.
pub fn push(
    requests: &mut crate::smpp::link::Requests,
    message: &Message,
    state: State,
    form: ReceiptForm,
    now: Timestamp,
) -> Result<(), EncodeError> {
    let text = match form {
        ReceiptForm::TextAndTlvs | ReceiptForm::Text => text(message, state, now),
        ReceiptForm::Tlvs => String::new(),
    };
    let tlvs = match form {
        ReceiptForm::TextAndTlvs | ReceiptForm::Tlvs => tlvs(message, state),
        ReceiptForm::Text => TlvBuf::new(),
    };
    requests.push(&pdu::Body::DeliverSm(Sm {
        service_type: message.sm.service_type.as_bytes(),
        // The receipt comes from where the message went.
        source_addr_ton: message.recipient.ton as u8,
        source_addr_npi: message.recipient.npi as u8,
        source_addr: message.recipient.value.as_bytes(),
        dest_addr_ton: message.originator.ton as u8,
        dest_addr_npi: message.originator.npi as u8,
        destination_addr: message.originator.value.as_bytes(),
        esm_class: match state.is_terminal() {
            true => esm_class::DELIVERY_RECEIPT,
            false => esm_class::INTERMEDIATE_NOTIFICATION,
        },
        short_message: text.as_bytes(),
        tlvs: tlvs.as_tlvs(),
        ..Sm::default()
    }))
}

fn text(message: &Message, state: State, now: Timestamp) -> String {
    let date = |at| {
        let digits = receipt_date(at);
        String::from_utf8_lossy(&digits).into_owned()
    };
    let delivered = u8::from(state == State::Delivered);
    // Three characters (appendix B); carriers have longer codes, which the TLV holds whole.
    let error: String = error_text(message).chars().take(3).collect();
    format!(
        "id:{} sub:001 dlvrd:{delivered:03} submit date:{} done date:{} stat:{} err:{error:0>3} text:{}",
        client_id(message),
        date(message.accepted_at),
        date(done_at(message, state).unwrap_or(now)),
        message_state(state).1,
        shown(message),
    )
}

/// The first characters of what the client sent. What is not plain ASCII would read differently in
/// every client's default alphabet.
fn shown(message: &Message) -> String {
    match message.submitted_body.as_ref().unwrap_or(&message.body) {
        Body::Binary { .. } => String::new(),
        Body::Text(text) => text
            .chars()
            .take(TEXT_SHOWN)
            .map(|c| match c {
                ' '..='~' => c,
                _ => '?',
            })
            .collect(),
    }
}

fn tlvs(message: &Message, state: State) -> TlvBuf {
    let mut tlvs = TlvBuf::new();
    let mut id = client_id(message).into_bytes();
    id.push(0);
    let mut push = |tag, value: &[u8]| {
        // All of them are shorter than the 64 KiB that a parameter may have.
        let _ = tlvs.push(tag, value);
    };
    push(tag::RECEIPTED_MESSAGE_ID, &id);
    push(tag::MESSAGE_STATE, &[message_state(state).0]);
    let error = error_number(message);
    if error != 0 {
        let [high, low] = error.to_be_bytes();
        let networks = message
            .parts
            .iter()
            .filter(|p| p.error == error_text(message));
        let network = networks.filter_map(|p| p.network_type).next();
        let network = network.unwrap_or(NETWORK_TYPE_GSM);
        push(tag::NETWORK_ERROR_CODE, &[network, high, low]);
    }
    // Given back, so that the client finds its own record by it (SMPP 3.4, 5.3.2.17).
    let own = message
        .tlvs
        .iter()
        .find(|t| t.tag == tag::USER_MESSAGE_REFERENCE);
    if let Some(own) = own {
        push(own.tag, &own.value);
    }
    tlvs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::tests_support::message;
    use crate::domain::receipt::Report;
    use crate::domain::{CarrierId, Part, PartState, Reason, Tlv};
    use crate::smpp::link::Requests;
    use crate::smpp::pdu::decode;

    /// 2027-01-15 08:00:00 UTC.
    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn ended(state: PartState, error: &str) -> Message {
        let mut m = message(NOW);
        m.body = Body::Text("Grüße, your parcel arrives today".to_owned());
        m.parts = vec![Part {
            carrier: CarrierId::from("north"),
            carrier_message_id: "0A".to_owned(),
            state: PartState::Enroute,
            error: String::new(),
            network_type: None,
            done_at: None,
        }];
        m.tlvs = vec![Tlv {
            tag: tag::USER_MESSAGE_REFERENCE,
            value: vec![0, 7],
        }];
        m.enter(NOW, State::Enroute, Reason::TakenByCarrier, "");
        let report = Report {
            error: error.to_owned(),
            done_at: Some(Timestamp(NOW.0 + 60_000)),
            ..Report::of(state)
        };
        m.apply_receipt(NOW, 0, &report);
        m
    }

    fn told(m: &Message, state: State, form: ReceiptForm) -> (String, u8, Vec<(u16, Vec<u8>)>) {
        let mut requests = Requests::new();
        push(&mut requests, m, state, form, NOW).unwrap();
        let octets = requests.octets();
        let pdu::Body::DeliverSm(sm) = decode(octets).unwrap().body else {
            panic!("a deliver_sm");
        };
        assert_eq!(sm.source_addr, b"447700900123");
        assert_eq!(sm.destination_addr, b"Acme");
        let tlvs = sm.tlvs.iter().map(|t| (t.tag, t.value.to_vec())).collect();
        let text = String::from_utf8(sm.short_message.to_vec()).unwrap();
        (text, sm.esm_class, tlvs)
    }

    #[test]
    fn a_receipt_is_that_of_appendix_b_with_its_parameters() {
        let m = ended(PartState::Delivered, "000");
        let (text, esm_class, tlvs) = told(&m, State::Delivered, ReceiptForm::TextAndTlvs);
        assert_eq!(
            text,
            format!(
                "id:{} sub:001 dlvrd:001 submit date:2701150800 done date:2701150801 stat:DELIVRD err:000 text:Gr??e, your parcel a",
                m.id
            )
        );
        assert_eq!(esm_class, 0x04);
        let id = format!("{}\0", m.id).into_bytes();
        assert_eq!(
            tlvs,
            [(0x001E, id), (0x0427, vec![2]), (0x0204, vec![0, 7])]
        );
    }

    #[test]
    fn a_failure_tells_the_networks_error() {
        let m = ended(PartState::Undeliverable, "1027");
        let (text, _, tlvs) = told(&m, State::Undeliverable, ReceiptForm::TextAndTlvs);
        assert!(text.contains("dlvrd:000"), "{text}");
        assert!(text.contains("stat:UNDELIV err:102 "), "{text}");
        assert!(tlvs.contains(&(0x0423, vec![3, 0x04, 0x03])));
        assert!(tlvs.contains(&(0x0427, vec![5])));
    }

    #[test]
    fn an_intermediate_notification_is_marked_as_one() {
        let m = message(NOW);
        let (text, esm_class, tlvs) = told(&m, State::Queued, ReceiptForm::TextAndTlvs);
        assert_eq!(esm_class, 0x20);
        assert!(text.contains("stat:ENROUTE"), "{text}");
        assert!(tlvs.contains(&(0x0427, vec![1])));
    }

    #[test]
    fn a_client_chooses_between_text_and_parameters() {
        let m = ended(PartState::Delivered, "");
        let (text, _, tlvs) = told(&m, State::Delivered, ReceiptForm::Text);
        assert!(text.contains("err:000") && tlvs.is_empty());
        let (text, _, tlvs) = told(&m, State::Delivered, ReceiptForm::Tlvs);
        assert!(text.is_empty() && !tlvs.is_empty());
    }

    #[test]
    fn one_of_many_destinations_is_told_under_the_id_that_all_have() {
        let mut m = ended(PartState::Delivered, "");
        m.reference = "0123456789abcdef0123456789abcdef".to_owned();
        let (text, _, _) = told(&m, State::Delivered, ReceiptForm::Text);
        assert!(text.starts_with("id:0123456789abcdef0123456789abcdef sub"));
    }
}
