//! What a carrier makes of deliver_sm, and when it answers.

use super::*;

pub fn receipt_sm() -> pdu::Body<'static> {
    pdu::Body::DeliverSm(Sm {
        source_addr: b"447700900123",
        destination_addr: b"Acme",
        esm_class: pdu::esm_class::DELIVERY_RECEIPT,
        short_message: b"id:2A sub:001 dlvrd:001 submit date:2311142213 done date:2311142214 stat:DELIVRD err:000 text:hello",
        ..Sm::default()
    })
}

/// What the carrier answers to a deliver_sm.
pub fn deliver(session: &ServerSession, body: &pdu::Body<'_>) -> JoinHandle<Vec<Answer>> {
    let mut requests = Requests::new();
    requests.push(body).unwrap();
    let link = session.link.clone();
    tokio::spawn(async move { link.send(requests).await })
}

pub async fn command_status(delivery: JoinHandle<Vec<Answer>>) -> u32 {
    match timeout(PATIENCE, delivery)
        .await
        .unwrap()
        .unwrap()
        .as_slice()
    {
        [Answer::Answered { command_status, .. }] => *command_status,
        other => panic!("{other:?}"),
    }
}

pub async fn event(rig: &mut Rig) -> CarrierEvent {
    timeout(PATIENCE, rig.events.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_receipt_is_answered_when_it_is_durable_and_not_before() {
    let mut rig = rig(|_| {}).await;
    let delivery = deliver(&rig.session, &receipt_sm());
    let CarrierEvent::Receipt {
        carrier,
        receipt,
        ack,
        ..
    } = event(&mut rig).await
    else {
        panic!()
    };
    assert_eq!(
        (carrier.as_str(), receipt.id.as_str(), receipt.report.state),
        ("north", "2A", PartState::Delivered)
    );
    assert_eq!(receipt.evidence.addresses, ["447700900123", "Acme"]);
    assert_eq!(rig.session.link.in_flight(), 1);
    assert!(!delivery.is_finished());
    ack.send(Ack::Taken).unwrap();
    assert_eq!(command_status(delivery).await, status::ESME_ROK);
}

#[tokio::test]
async fn what_is_not_durable_is_asked_for_again() {
    let mut rig = rig(|_| {}).await;
    let later = deliver(&rig.session, &receipt_sm());
    let dropped = deliver(&rig.session, &receipt_sm());
    let CarrierEvent::Receipt { ack, .. } = event(&mut rig).await else {
        panic!()
    };
    ack.send(Ack::RetryLater).unwrap();
    drop(event(&mut rig).await);
    assert_eq!(command_status(later).await, status::ESME_RX_T_APPN);
    assert_eq!(command_status(dropped).await, status::ESME_RX_T_APPN);
}

#[tokio::test]
async fn a_receipt_that_cannot_be_read_is_not_asked_for_again() {
    let rig = rig(|_| {}).await;
    let unreadable = pdu::Body::DeliverSm(Sm {
        esm_class: pdu::esm_class::DELIVERY_RECEIPT,
        short_message: b"your message is on its way",
        ..Sm::default()
    });
    assert_eq!(
        command_status(deliver(&rig.session, &unreadable)).await,
        status::ESME_ROK
    );
    assert_eq!(
        rig.carrier
            .counters()
            .unreadable_receipts
            .load(Ordering::Relaxed),
        1
    );
}

async fn inbound(rig: &mut Rig, sm: Sm<'_>) -> InboundPart {
    let delivery = deliver(&rig.session, &pdu::Body::DeliverSm(sm));
    let CarrierEvent::Inbound { part, ack, .. } = event(rig).await else {
        panic!()
    };
    ack.send(Ack::Taken).unwrap();
    assert_eq!(command_status(delivery).await, status::ESME_ROK);
    part
}

#[tokio::test]
async fn a_mobile_originated_part_comes_with_its_place_in_the_whole() {
    let mut rig = rig(|_| {}).await;
    let sm = Sm {
        source_addr_ton: 1,
        source_addr_npi: 1,
        source_addr: b"447700900123",
        destination_addr: b"60777",
        short_message: b"STOP",
        ..Sm::default()
    };
    let plain = inbound(&mut rig, sm).await;
    assert_eq!(plain.originator.to_string(), "+447700900123");
    assert_eq!(
        (plain.payload.as_slice(), plain.concat),
        (&b"STOP"[..], None)
    );
    let by_header = Sm {
        esm_class: pdu::esm_class::UDHI,
        short_message: b"\x05\x00\x03\x2a\x02\x01ST",
        ..sm
    };
    let part = inbound(&mut rig, by_header).await;
    let concat = part.concat.unwrap();
    assert_eq!((concat.reference, concat.total, concat.index), (0x2a, 2, 1));
    assert_eq!(
        (part.udh.as_slice(), part.payload.as_slice()),
        (&b""[..], &b"ST"[..])
    );
    let by_tlv = Sm {
        tlvs: Tlvs::parse(b"\x02\x0c\x00\x02\x00\x2a\x02\x0e\x00\x01\x02\x02\x0f\x00\x01\x02"),
        ..sm
    };
    let concat = inbound(&mut rig, by_tlv).await.concat.unwrap();
    assert_eq!((concat.reference, concat.total, concat.index), (0x2a, 2, 2));
    let lying = Sm {
        esm_class: pdu::esm_class::UDHI,
        short_message: b"\x90\x00\x03",
        ..sm
    };
    let part = inbound(&mut rig, lying).await;
    assert_eq!(
        (part.data_coding, part.payload.as_slice()),
        (4, &b"\x90\x00\x03"[..])
    );
}
