//! Mobile-originated messages as an ESME gets them: one deliver_sm, or several with concatenation
//! headers, or message_payload, as the client likes it. Pure.

use super::system::{DefaultAlphabet, LongInbound, SystemSpec};
use crate::domain::text::{self, Alphabet, Segment, TextError, encode_ucs2, gsm};
use crate::domain::{Body, Inbound};
use crate::smpp::link::Requests;
use crate::smpp::pdu::{self, EncodeError, Sm, TlvBuf, esm_class, tag};

const SHORT_MESSAGE_MAX: usize = 254;
const DATA_CODING_LATIN1: u8 = 3;

/// A message that cannot be put into deliver_sm; sending it again does not help.
#[derive(Debug, PartialEq, Eq)]
pub enum Unsendable {
    Text(TextError),
    Encode(EncodeError),
}

/// Appends the deliver_sm of one message to `requests`.
pub fn push(
    requests: &mut Requests,
    inbound: &Inbound,
    system: &SystemSpec,
) -> Result<(), Unsendable> {
    let (data_coding, segments) = match system.long_inbound {
        LongInbound::Payload => whole(&inbound.body, system.default_alphabet),
        LongInbound::Udh => parts(inbound, system.default_alphabet)?,
    };
    let mut short_message = Vec::with_capacity(160);
    for segment in segments {
        short_message.clear();
        segment.write_short_message(&mut short_message);
        let mut tlvs = TlvBuf::new();
        if short_message.len() > SHORT_MESSAGE_MAX {
            tlvs.push(tag::MESSAGE_PAYLOAD, &short_message)
                .map_err(|_| too_long(short_message.len()))?;
            short_message.clear();
        }
        let sm = Sm {
            source_addr_ton: inbound.originator.ton as u8,
            source_addr_npi: inbound.originator.npi as u8,
            source_addr: inbound.originator.value.as_bytes(),
            dest_addr_ton: inbound.recipient.ton as u8,
            dest_addr_npi: inbound.recipient.npi as u8,
            destination_addr: inbound.recipient.value.as_bytes(),
            esm_class: if segment.udhi() { esm_class::UDHI } else { 0 },
            data_coding,
            short_message: &short_message,
            tlvs: tlvs.as_tlvs(),
            ..Sm::default()
        };
        requests
            .push(&pdu::Body::DeliverSm(sm))
            .map_err(Unsendable::Encode)?;
    }
    Ok(())
}

fn too_long(length: usize) -> Unsendable {
    Unsendable::Encode(EncodeError::TooLong {
        field: "message_payload",
        length,
        max: usize::from(u16::MAX),
    })
}

/// The whole message in one piece.
fn whole(body: &Body, default: DefaultAlphabet) -> (u8, Vec<Segment>) {
    let (data_coding, udh, payload) = match body {
        Body::Binary { udh, data } => (Alphabet::Octets.data_coding(), udh.clone(), data.clone()),
        Body::Text(text) => {
            let (data_coding, payload) = encoded(text, default);
            (data_coding, Vec::new(), payload)
        }
    };
    (data_coding, vec![Segment::new(udh, payload)])
}

fn encoded(text: &str, default: DefaultAlphabet) -> (u8, Vec<u8>) {
    let mut octets = Vec::new();
    if default == DefaultAlphabet::Latin1 {
        // Said by its own data_coding, which needs no agreement.
        if let Some(latin1) = latin1(text) {
            return (DATA_CODING_LATIN1, latin1);
        }
    } else if gsm::encode(text, &mut octets).is_ok() {
        return (Alphabet::Gsm7.data_coding(), octets);
    }
    encode_ucs2(text, &mut octets);
    (Alphabet::Ucs2.data_coding(), octets)
}

fn latin1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(c).ok()).collect()
}

fn parts(inbound: &Inbound, default: DefaultAlphabet) -> Result<(u8, Vec<Segment>), Unsendable> {
    if let (Body::Text(text), DefaultAlphabet::Latin1) = (&inbound.body, default) {
        let (data_coding, payload) = encoded(text, default);
        // 140 octets alone; a longer one is cut as its alphabet has it.
        if data_coding == DATA_CODING_LATIN1 && payload.len() <= 140 {
            let segment = Segment::new(Vec::new(), payload);
            return Ok((data_coding, vec![segment]));
        }
    }
    // The same for every attempt, so that a repeated part completes what an earlier one began.
    let reference = inbound.id.0.to_be_bytes()[15];
    let segmented = text::segment(&inbound.body, reference).map_err(Unsendable::Text)?;
    Ok((segmented.data_coding, segmented.segments))
}

#[cfg(test)]
mod tests {
    use super::super::tests_support::spec;
    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::{Address, MessageId};
    use crate::smpp::pdu::{Framing, decode, frame};

    fn inbound(body: Body) -> Inbound {
        Inbound {
            id: MessageId(0x77),
            carrier: "north".into(),
            originator: Address::international("+447700900123").unwrap(),
            recipient: Address::originator("60777").unwrap(),
            body,
            received_at: Timestamp(1_800_000_000_000),
            opted_out: false,
        }
    }

    /// esm_class, data_coding, message: of each deliver_sm.
    fn sent(body: Body, change: impl FnOnce(&mut SystemSpec)) -> Vec<(u8, u8, Vec<u8>)> {
        let mut system = spec("acme");
        change(&mut system);
        let mut requests = Requests::new();
        push(&mut requests, &inbound(body), &system).unwrap();
        let mut rest = requests.octets();
        let mut all = Vec::new();
        while let Framing::Frame(length) = frame(rest) {
            let pdu::Body::DeliverSm(sm) = decode(&rest[..length]).unwrap().body else {
                panic!("a deliver_sm");
            };
            assert_eq!((sm.source_addr_ton, sm.dest_addr_ton), (1, 6));
            assert_eq!(sm.destination_addr, b"60777");
            all.push((sm.esm_class, sm.data_coding, sm.payload().to_vec()));
            rest = &rest[length..];
        }
        all
    }

    #[test]
    fn a_short_text_is_one_in_the_default_alphabet() {
        let all = sent(Body::Text("5 € @".into()), |_| {});
        assert_eq!(all, [(0, 0, b"5 \x1b\x65 \x00".to_vec())]);
    }

    #[test]
    fn a_long_text_goes_in_parts_or_as_payload() {
        let text = "a".repeat(300);
        let all = sent(Body::Text(text.clone()), |_| {});
        assert_eq!(all.len(), 2);
        assert!(all.iter().all(|(esm_class, _, _)| *esm_class == 0x40));
        assert_eq!(all[0].2[..6], [5, 0, 3, 0x77, 2, 1]);
        let all = sent(Body::Text(text.clone()), |s| {
            s.long_inbound = LongInbound::Payload
        });
        assert_eq!(all, [(0, 0, text.into_bytes())]);
    }

    #[test]
    fn a_client_of_latin_1_gets_it_where_it_can() {
        let latin1 = |s: &mut SystemSpec| s.default_alphabet = DefaultAlphabet::Latin1;
        assert_eq!(
            sent(Body::Text("é{".into()), latin1),
            [(0, 3, vec![0xE9, b'{'])]
        );
        let all = sent(Body::Text("Ж".into()), latin1);
        assert_eq!(all, [(0, 8, vec![0x04, 0x16])]);
    }

    #[test]
    fn octets_keep_their_header() {
        let all = sent(
            Body::Binary {
                udh: vec![5, 4, 0x0B, 0x84, 0, 0],
                data: vec![0xAA],
            },
            |_| {},
        );
        assert_eq!(all, [(0x40, 4, vec![6, 5, 4, 0x0B, 0x84, 0, 0, 0xAA])]);
    }
}
