//! From a segmented message to submit_sm requests, and from their answers to one outcome. Pure.

use std::time::Duration;

use super::{Outgoing, SendOutcome};
use crate::domain::text::Concat;
use crate::domain::{Tlv, TrafficClass};
use crate::smpp::encode::SHORT_MESSAGE_MAX;
use crate::smpp::link::{Answer, Requests};
use crate::smpp::pdu::{Body, EncodeError, Sm, TlvBuf, esm_class, tag};
use crate::smpp::status::{self, Class};
use crate::smpp::time;

/// What is the same in every submit_sm to one carrier.
#[derive(Clone, Debug)]
pub struct SubmitStyle {
    pub service_type: String,
    pub user_message_reference: bool,
    pub registered_delivery: bool,
}

/// One segment and how far it is.
pub struct Part {
    request: Requests,
    pub answer: Answer,
}

impl Part {
    /// To be submitted, for the first time or again.
    pub fn is_open(&self) -> bool {
        match &self.answer {
            Answer::Unsent => true,
            Answer::Answered { command_status, .. } => match status::class(*command_status) {
                Class::Throttled | Class::Temporary => true,
                Class::Ok | Class::Permanent => false,
            },
            Answer::TimedOut | Answer::Lost => false,
        }
    }
}

pub enum Verdict {
    Final(SendOutcome),
    /// The carrier took some segments and put others off.
    Incomplete,
}

/// Encodes one submit_sm for each segment.
pub fn parts(outgoing: &Outgoing<'_>, style: &SubmitStyle) -> Result<Vec<Part>, EncodeError> {
    let message = outgoing.message;
    let tlvs = tlvs(outgoing, style)?;
    let validity = message
        .expires_at
        .since(outgoing.now)
        .max(Duration::from_secs(1));
    let validity = time::relative(validity);
    let mut short_message = Vec::with_capacity(160);
    let segmented = outgoing.segmented;
    let mut parts = Vec::with_capacity(segmented.segments.len());
    for segment in &segmented.segments {
        short_message.clear();
        segment.write_short_message(&mut short_message);
        // What the SMSC is to cut, and what short_message has no room for (SMPP 3.4, 5.2.22).
        let whole = segmented.is_payload() || short_message.len() > SHORT_MESSAGE_MAX;
        let mut own = None;
        if let Some(concat) = segment.sar {
            push_sar(own.get_or_insert_with(|| tlvs.clone()), concat)?;
        }
        if whole {
            let tlvs = own.get_or_insert_with(|| tlvs.clone());
            push(tlvs, tag::MESSAGE_PAYLOAD, &short_message)?;
        }
        let tlvs = own.as_ref().unwrap_or(&tlvs);
        let sm = Sm {
            service_type: style.service_type.as_bytes(),
            source_addr_ton: outgoing.originator.ton as u8,
            source_addr_npi: outgoing.originator.npi as u8,
            source_addr: outgoing.originator.value.as_bytes(),
            dest_addr_ton: message.recipient.ton as u8,
            dest_addr_npi: message.recipient.npi as u8,
            destination_addr: message.recipient.value.as_bytes(),
            esm_class: if segment.udhi() { esm_class::UDHI } else { 0 },
            priority_flag: priority(message.class),
            validity_period: &validity,
            registered_delivery: u8::from(style.registered_delivery),
            data_coding: segmented.data_coding,
            short_message: if whole { &[] } else { &short_message },
            tlvs: tlvs.as_tlvs(),
            ..Sm::default()
        };
        let mut request = Requests::new();
        request.push(&Body::SubmitSm(sm))?;
        parts.push(Part {
            request,
            answer: Answer::Unsent,
        });
    }
    Ok(parts)
}

/// The open parts, ready to go.
pub fn requests(parts: &mut [Part]) -> Requests {
    if let [only] = parts {
        // A message of one segment is submitted once at most: no copy is kept for another try.
        return std::mem::take(&mut only.request);
    }
    let mut all = Requests::new();
    for part in parts.iter().filter(|p| p.is_open()) {
        all.append(&part.request);
    }
    all
}

/// One outcome for all segments, the one that promises least:
/// no answer for any is `Unknown`, because that segment may be on its way; otherwise a permanent
/// refusal of any is `Permanent`, because the message can never be whole (what the carrier took
/// cannot be called back); all taken is `Sent`; some taken is incomplete, and to be completed; with
/// none taken the message may be sent again as a whole.
pub fn verdict(parts: &[Part]) -> Verdict {
    let mut ids = Vec::new();
    let (mut unknown, mut throttled, mut temporary, mut permanent) = (false, None, None, None);
    for part in parts {
        match &part.answer {
            Answer::TimedOut | Answer::Lost => unknown = true,
            Answer::Unsent => {}
            Answer::Answered {
                command_status,
                message_id,
            } => match status::class(*command_status) {
                Class::Ok => ids.push(message_id),
                Class::Throttled => throttled = throttled.or(Some(*command_status)),
                Class::Temporary => temporary = temporary.or(Some(*command_status)),
                Class::Permanent => permanent = permanent.or(Some(*command_status)),
            },
        }
    }
    Verdict::Final(if unknown {
        SendOutcome::Unknown
    } else if let Some(status) = permanent {
        SendOutcome::Permanent {
            status,
            detail: status::describe(status),
        }
    } else if ids.len() == parts.len() {
        SendOutcome::Sent {
            ids: ids.into_iter().cloned().collect(),
        }
    } else if !ids.is_empty() {
        return Verdict::Incomplete;
    } else if let Some(status) = throttled {
        SendOutcome::Throttled {
            status,
            retry_after_ms: None,
        }
    } else if let Some(status) = temporary {
        SendOutcome::Temporary {
            status,
            detail: status::describe(status),
        }
    } else {
        SendOutcome::Unavailable
    })
}

/// SMPP 3.4, 5.2.14: 0 is bulk, 1 to 3 are ahead of it.
fn priority(class: TrafficClass) -> u8 {
    match class {
        TrafficClass::Otp | TrafficClass::Alert => 1,
        TrafficClass::Transactional | TrafficClass::Promotional => 0,
    }
}

fn tlvs(outgoing: &Outgoing<'_>, style: &SubmitStyle) -> Result<TlvBuf, EncodeError> {
    let mut buffer = TlvBuf::new();
    let given = |t: &Tlv| t.tag == tag::USER_MESSAGE_REFERENCE;
    if style.user_message_reference && !outgoing.tlvs.iter().any(given) {
        // The same for every copy of a message; the id's last octets are random.
        let [.., high, low] = outgoing.message.id.0.to_be_bytes();
        push(&mut buffer, tag::USER_MESSAGE_REFERENCE, &[high, low])?;
    }
    let given = |t: &Tlv| t.tag == tag::DEST_ADDR_SUBUNIT;
    if let Some(subunit) = outgoing.segmented.dest_addr_subunit
        && !outgoing.tlvs.iter().any(given)
    {
        push(&mut buffer, tag::DEST_ADDR_SUBUNIT, &[subunit])?;
    }
    for tlv in outgoing.tlvs {
        push(&mut buffer, tlv.tag, &tlv.value)?;
    }
    Ok(buffer)
}

/// SMPP 3.4, 5.3.2.22 to 5.3.2.24.
fn push_sar(buffer: &mut TlvBuf, concat: Concat) -> Result<(), EncodeError> {
    push(
        buffer,
        tag::SAR_MSG_REF_NUM,
        &concat.reference.to_be_bytes(),
    )?;
    push(buffer, tag::SAR_TOTAL_SEGMENTS, &[concat.total])?;
    push(buffer, tag::SAR_SEGMENT_SEQNUM, &[concat.index])
}

fn push(buffer: &mut TlvBuf, tag: u16, value: &[u8]) -> Result<(), EncodeError> {
    buffer.push(tag, value).map_err(|_| EncodeError::TooLong {
        field: "tlvs",
        length: value.len(),
        max: usize::from(u16::MAX),
    })
}
