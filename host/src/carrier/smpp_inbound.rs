//! What deliver_sm and data_sm bring: receipts and mobile-originated messages, told apart and put
//! into the host's words. Each is answered when its event's `ack` is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::smpp::{Inner, SmppCounters};
use super::{Ack, Availability, CarrierEvent, InboundPart};
use crate::domain::receipt::{
    Evidence, Receipt, ReceiptStyle, ReceiptTlvs, id_candidates, looks_like_receipt,
};
use crate::domain::text::{Alphabet, Concat, TextStyle, parse_udh};
use crate::domain::{Address, CarrierId, NumberingPlan, PartState, TypeOfNumber};
use crate::smpp::link::{BindLimits, Inlet, Reaction, Responder};
use crate::smpp::pdu::{Bind, Body, Sm, Tlvs, esm_class, tag};
use crate::smpp::session::{BindMode, Counters};
use crate::smpp::status;

/// The inlet of one session.
pub(super) struct Inbox {
    pub carrier: CarrierId,
    pub receipts: ReceiptStyle,
    pub receipts_by_text: bool,
    pub text: TextStyle,
    pub counters: Arc<SmppCounters>,
    /// Whose overdue receipts are asked for.
    pub overdue: Option<Arc<Inner>>,
}

impl Inlet for Inbox {
    type Event = CarrierEvent;

    /// Never asked: we are the one who binds.
    fn bind(&mut self, _mode: BindMode, _bind: &Bind<'_>) -> Result<BindLimits, u32> {
        Err(status::ESME_RINVBNDSTS)
    }

    fn counted(&mut self, more: &Counters) {
        let add = |counter: &AtomicU64, more| counter.fetch_add(more, Ordering::Relaxed);
        add(&self.counters.malformed, more.malformed);
        add(&self.counters.stray_responses, more.stray_responses);
        add(&self.counters.refused, more.refused);
    }

    fn notice(&mut self, body: &Body<'_>, place: Option<mpsc::Permit<'_, CarrierEvent>>) {
        let Body::AlertNotification(alert) = body else {
            return;
        };
        self.counters.alerts.fetch_add(1, Ordering::Relaxed);
        let Some(place) = place else {
            self.counters.alerts_lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let availability = alert.tlvs.integer(tag::MS_AVAILABILITY_STATUS);
        place.send(CarrierEvent::Alert {
            carrier: self.carrier.clone(),
            handset: String::from_utf8_lossy(alert.source_addr).into_owned(),
            availability: Availability::from_status(availability),
        });
    }

    fn request(
        &mut self,
        _frame: &Bytes,
        body: &Body<'_>,
        responder: Responder,
    ) -> Reaction<CarrierEvent> {
        let sm = match body {
            Body::DeliverSm(sm) => *sm,
            Body::DataSm(data_sm) => data_sm.as_sm(),
            _ => {
                return Reaction::Respond {
                    command_status: status::ESME_RINVCMDID,
                };
            }
        };
        if !self.is_receipt(&sm) {
            self.counters.inbound.fetch_add(1, Ordering::Relaxed);
            return Reaction::Forward(CarrierEvent::Inbound {
                carrier: self.carrier.clone(),
                part: inbound_part(&sm, &self.text),
                provider_id: None,
                ack: ack(responder),
            });
        }
        match Receipt::parse(sm.payload(), &receipt_tlvs(sm.tlvs)) {
            Ok(mut receipt) => {
                self.counters.receipts.fetch_add(1, Ordering::Relaxed);
                receipt.evidence = evidence(&sm);
                if is_intermediate(&sm) {
                    receipt = receipt.into_intermediate();
                }
                if let Some(carrier) = &self.overdue
                    && receipt.report.state != PartState::Enroute
                {
                    let candidates = id_candidates(&receipt.id, self.receipts.id_form);
                    carrier
                        .overdue()
                        .received(candidates.into_iter().map(|c| c.key));
                }
                Reaction::Forward(CarrierEvent::Receipt {
                    carrier: self.carrier.clone(),
                    receipt,
                    style: self.receipts,
                    ack: ack(responder),
                })
            }
            Err(error) => {
                // Sent again it would be no better, and a refusal has it sent again.
                self.counters
                    .unreadable_receipts
                    .fetch_add(1, Ordering::Relaxed);
                debug!(carrier = %self.carrier, %error, "a receipt that cannot be read");
                Reaction::Respond {
                    command_status: status::ESME_ROK,
                }
            }
        }
    }
}

impl Inbox {
    fn is_receipt(&self, sm: &Sm<'_>) -> bool {
        let kind = sm.esm_class & esm_class::TYPE_MASK;
        kind & (esm_class::DELIVERY_RECEIPT | esm_class::INTERMEDIATE_NOTIFICATION) != 0
            || sm.tlvs.get(tag::RECEIPTED_MESSAGE_ID).is_some()
            || (self.receipts_by_text && looks_like_receipt(sm.payload()))
    }
}

/// The answer waits for its event's consumer, each on its own: none holds another up.
fn ack(responder: Responder) -> oneshot::Sender<Ack> {
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        responder.status(match receiver.await {
            Ok(Ack::Taken) => status::ESME_ROK,
            // Our trouble, never the message's: a temporary error has the carrier send it again.
            Ok(Ack::RetryLater) | Err(_) => status::ESME_RX_T_APPN,
        });
    });
    sender
}

/// A receipt that is final as well is final (SMPP 3.4, 5.2.12).
fn is_intermediate(sm: &Sm<'_>) -> bool {
    let kind = sm.esm_class & esm_class::TYPE_MASK;
    kind & esm_class::INTERMEDIATE_NOTIFICATION != 0 && kind & esm_class::DELIVERY_RECEIPT == 0
}

/// What the deliver_sm says of its message beside the id.
fn evidence(sm: &Sm<'_>) -> Evidence {
    let (source, destination) = (
        String::from_utf8_lossy(sm.source_addr),
        String::from_utf8_lossy(sm.destination_addr),
    );
    let reference = sm.tlvs.integer(tag::USER_MESSAGE_REFERENCE);
    Evidence::of(
        [&source, &destination],
        reference.and_then(|r| u16::try_from(r).ok()),
    )
}

fn receipt_tlvs(tlvs: Tlvs<'_>) -> ReceiptTlvs<'_> {
    ReceiptTlvs {
        receipted_message_id: tlvs.get(tag::RECEIPTED_MESSAGE_ID),
        message_state: tlvs
            .integer(tag::MESSAGE_STATE)
            .and_then(|state| u8::try_from(state).ok()),
        network_error_code: tlvs.get(tag::NETWORK_ERROR_CODE),
    }
}

fn inbound_part(sm: &Sm<'_>, style: &TextStyle) -> InboundPart {
    let data_coding = style.inbound_data_coding(sm.data_coding);
    let octets = sm.payload();
    let header = sm.has_udh().then(|| parse_udh(octets));
    let (udh, payload, data_coding, concat) = match header {
        None => (Vec::new(), octets, data_coding, None),
        Some(Ok((udh, rest))) => (
            udh.without_concat(),
            rest,
            data_coding,
            udh.concat().ok().flatten(),
        ),
        // Where the header's lengths lie, nothing in the octets can be trusted to be text.
        Some(Err(_)) => (Vec::new(), octets, Alphabet::Octets.data_coding(), None),
    };
    InboundPart {
        originator: address(sm.source_addr_ton, sm.source_addr_npi, sm.source_addr),
        recipient: address(sm.dest_addr_ton, sm.dest_addr_npi, sm.destination_addr),
        data_coding,
        udh,
        payload: payload.to_vec(),
        concat: concat.or_else(|| sar(sm.tlvs)),
    }
}

/// sar_msg_ref_num, sar_total_segments and sar_segment_seqnum (SMPP 3.4, 5.3.2.22 to 5.3.2.24).
fn sar(tlvs: Tlvs<'_>) -> Option<Concat> {
    let reference = tlvs.integer(tag::SAR_MSG_REF_NUM)?;
    let total = tlvs.integer(tag::SAR_TOTAL_SEGMENTS)?;
    let index = tlvs.integer(tag::SAR_SEGMENT_SEQNUM)?;
    Concat::new(
        u16::try_from(reference & 0xFFFF).ok()?,
        u8::try_from(total).ok()?,
        u8::try_from(index).ok()?,
    )
    .ok()
}

/// An address as the carrier gives it. A '+' says international whatever the type says, and what
/// calls itself international and is no E.164 number is of unknown type.
fn address(ton: u8, npi: u8, value: &[u8]) -> Address {
    let text = String::from_utf8_lossy(value);
    let ton = TypeOfNumber::from_u8(ton);
    if (ton == TypeOfNumber::International || text.starts_with('+'))
        && let Ok(international) = Address::international(&text)
    {
        return international;
    }
    Address {
        ton: match ton {
            TypeOfNumber::International => TypeOfNumber::Unknown,
            other => other,
        },
        npi: NumberingPlan::from_u8(npi),
        value: text.into_owned(),
    }
}
