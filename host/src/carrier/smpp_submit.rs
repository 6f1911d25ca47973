//! From a segmented message to submit_sm (or data_sm) requests, and from their answers to one
//! outcome. Pure.

use std::fmt;
use std::time::Duration;

use super::smpp_parameters::{SubmitDefaults, Validity, WireAddress, wire_address};
use super::smpp_status::Statuses;
use super::{Outgoing, SendOutcome};
use crate::domain::text::Concat;
use crate::domain::{CarrierId, PartState, State, Tlv};
use crate::smpp::encode::{ADDRESS_MAX, SHORT_MESSAGE_MAX};
use crate::smpp::link::{Answer, Requests};
use crate::smpp::pdu::{Body, DataSm, EncodeError, Sm, TlvBuf, esm_class, tag};
use crate::smpp::session::INTERFACE_VERSION;
use crate::smpp::status::{self, Class};
use crate::smpp::{time, tlv};

/// What is the same in every submit_sm to one carrier.
#[derive(Clone, Debug)]
pub struct SubmitStyle {
    pub carrier: CarrierId,
    pub defaults: SubmitDefaults,
    /// Below 0x34 there are no optional parameters.
    pub interface_version: u8,
    pub user_message_reference: bool,
    /// Receipts can come: some session receives.
    pub receives: bool,
    pub data_sm: bool,
    pub statuses: Statuses,
}

/// Why a message cannot be submitted to this carrier, whatever the carrier would say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    Encode(EncodeError),
    /// An optional parameter that may not go out.
    Tlv {
        tag: u16,
        rule: String,
    },
}

impl From<EncodeError> for Unfit {
    fn from(error: EncodeError) -> Unfit {
        Unfit::Encode(error)
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Encode(error) => write!(f, "{error}"),
            Unfit::Tlv { tag, rule } => write!(f, "TLV {tag:#06x} {rule}"),
        }
    }
}

/// One segment and how far it is.
pub struct Part {
    request: Requests,
    pub answer: Answer,
}

impl Part {
    /// To be submitted, for the first time or again.
    pub fn is_open(&self, statuses: &Statuses) -> bool {
        match &self.answer {
            Answer::Unsent => true,
            Answer::Answered { command_status, .. } => match statuses.class(*command_status) {
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

/// Encodes one request for each segment. Segments that an earlier attempt knows to be taken are
/// answered already: sent again, the phone would have them twice.
pub fn parts(outgoing: &Outgoing<'_>, style: &SubmitStyle) -> Result<Vec<Part>, Unfit> {
    let (message, defaults) = (outgoing.message, &style.defaults);
    let source = wire_address(outgoing.originator, &defaults.source);
    let destination = wire_address(&message.recipient, &defaults.destination);
    let as_data_sm = style.data_sm && wants_data_sm(outgoing, &source, &destination);
    let tlvs = tlvs(outgoing, style, as_data_sm)?;
    let validity = validity(outgoing, defaults.validity);
    let sm = &message.sm;
    let reply_path = if sm.reply_path {
        esm_class::REPLY_PATH
    } else {
        0
    };
    let base = Sm {
        service_type: defaults.service_type(sm).as_bytes(),
        source_addr_ton: source.ton,
        source_addr_npi: source.npi,
        source_addr: source.value.as_bytes(),
        dest_addr_ton: destination.ton,
        dest_addr_npi: destination.npi,
        destination_addr: destination.value.as_bytes(),
        esm_class: sm.messaging_mode & esm_class::MODE_MASK | reply_path,
        protocol_id: defaults.protocol_id(sm),
        priority_flag: defaults.priority_flag(sm, message.class),
        validity_period: validity.as_ref().map_or(&[], |v| v),
        registered_delivery: defaults.registered_delivery(sm, style.receives),
        replace_if_present_flag: defaults.replace_if_present_flag(sm),
        data_coding: outgoing.segmented.data_coding,
        sm_default_msg_id: defaults.sm_default_msg_id(sm),
        ..Sm::default()
    };
    let mut short_message = Vec::with_capacity(160);
    let segmented = outgoing.segmented;
    let mut parts = Vec::with_capacity(segmented.segments.len());
    for (index, segment) in segmented.segments.iter().enumerate() {
        short_message.clear();
        segment.write_short_message(&mut short_message);
        // What the SMSC is to cut, and what short_message has no room for (SMPP 3.4, 5.2.22).
        let whole = as_data_sm || segmented.is_payload() || short_message.len() > SHORT_MESSAGE_MAX;
        let mut own = None;
        if let Some(concat) = segment.sar {
            push_sar(own.get_or_insert_with(|| tlvs.clone()), concat)?;
        }
        if whole {
            let tlvs = own.get_or_insert_with(|| tlvs.clone());
            push(tlvs, tag::MESSAGE_PAYLOAD, &short_message)?;
        }
        let udhi = if segment.udhi() { esm_class::UDHI } else { 0 };
        let sm = Sm {
            esm_class: base.esm_class | udhi,
            short_message: if whole { &[] } else { &short_message },
            tlvs: own.as_ref().unwrap_or(&tlvs).as_tlvs(),
            ..base
        };
        let mut request = Requests::new();
        if as_data_sm {
            request.push(&Body::DataSm(data_sm(&sm)))?;
        } else {
            request.push(&Body::SubmitSm(sm))?;
        }
        parts.push(Part {
            request,
            answer: taken_before(outgoing, style, index).unwrap_or(Answer::Unsent),
        });
    }
    Ok(parts)
}

/// The first of the open parts, ready to go.
pub fn requests(parts: &mut [Part], count: usize, statuses: &Statuses) -> Requests {
    if let [only] = parts {
        // A message of one segment is submitted once at most: no copy is kept for another try.
        return std::mem::take(&mut only.request);
    }
    let mut all = Requests::new();
    for part in parts.iter().filter(|p| p.is_open(statuses)).take(count) {
        all.append(&part.request);
    }
    all
}

/// One outcome for all segments, the one that promises least:
/// no answer for any is `Unknown`, because that segment may be on its way; otherwise a permanent
/// refusal of any is `Permanent`, because the message can never be whole (what the carrier took
/// cannot be called back); all taken is `Sent`; some taken is incomplete, and to be completed; with
/// none taken the message may be sent again as a whole.
pub fn verdict(parts: &[Part], statuses: &Statuses) -> Verdict {
    let mut taken = 0;
    let (mut unknown, mut throttled, mut temporary, mut permanent) = (false, None, None, None);
    for part in parts {
        match &part.answer {
            Answer::TimedOut | Answer::Lost => unknown = true,
            Answer::Unsent => {}
            Answer::Answered { command_status, .. } => match statuses.class(*command_status) {
                Class::Ok => taken += 1,
                Class::Throttled => throttled = throttled.or(Some(*command_status)),
                Class::Temporary => temporary = temporary.or(Some(*command_status)),
                Class::Permanent => permanent = permanent.or(Some(*command_status)),
            },
        }
    }
    Verdict::Final(if unknown {
        unanswered(parts, statuses)
    } else if let Some(status) = permanent {
        SendOutcome::Permanent {
            status,
            detail: status::describe(status),
        }
    } else if taken == parts.len() {
        let ids = parts.iter().filter_map(|p| id_of(p, statuses));
        SendOutcome::Sent { ids: ids.collect() }
    } else if taken > 0 {
        return Verdict::Incomplete;
    } else if let Some(status) = throttled {
        SendOutcome::Throttled {
            status,
            retry_after_ms: statuses.retry_after_ms(status),
        }
    } else if let Some(status) = temporary {
        SendOutcome::Temporary {
            status,
            detail: status::describe(status),
            retry_after_ms: statuses.retry_after_ms(status),
        }
    } else {
        SendOutcome::Unavailable
    })
}

/// The message cannot be told whole nor gone: what is known of its segments.
pub fn unanswered(parts: &[Part], statuses: &Statuses) -> SendOutcome {
    SendOutcome::Unknown {
        taken: ids(parts, statuses),
    }
}

/// How many segments the carrier has.
pub fn taken(parts: &[Part], statuses: &Statuses) -> usize {
    parts
        .iter()
        .filter(|p| id_of(p, statuses).is_some())
        .count()
}

/// The carrier's ids, none for segments that it has not taken.
pub fn ids(parts: &[Part], statuses: &Statuses) -> Vec<Option<String>> {
    parts.iter().map(|p| id_of(p, statuses)).collect()
}

/// Whether each segment is one that the carrier took, or has not left.
pub fn none_went(parts: &[Part], statuses: &Statuses) -> bool {
    let unsent = |p: &Part| matches!(p.answer, Answer::Unsent);
    parts
        .iter()
        .all(|p| unsent(p) || id_of(p, statuses).is_some())
}

/// The carrier's id of a segment that it took, empty where it gave none.
fn id_of(part: &Part, statuses: &Statuses) -> Option<String> {
    match &part.answer {
        Answer::Answered {
            command_status,
            message_id,
        } if statuses.class(*command_status) == Class::Ok => Some(message_id.clone()),
        Answer::Answered { .. } | Answer::TimedOut | Answer::Lost | Answer::Unsent => None,
    }
}

/// What this carrier answered for the segment in an attempt whose other segments got no answer.
fn taken_before(outgoing: &Outgoing<'_>, style: &SubmitStyle, index: usize) -> Option<Answer> {
    let message = outgoing.message;
    let same_cut = message.parts.len() == outgoing.segmented.segments.len();
    if message.state != State::SubmitUnknown || !same_cut {
        return None;
    }
    let part = message.parts.get(index)?;
    (part.carrier == style.carrier && part.state != PartState::Unanswered).then(|| {
        Answer::Answered {
            command_status: status::ESME_ROK,
            message_id: part.carrier_message_id.clone(),
        }
    })
}

fn left(outgoing: &Outgoing<'_>) -> Duration {
    let left = outgoing.message.expires_at.since(outgoing.now);
    left.max(Duration::from_secs(1))
}

fn validity(outgoing: &Outgoing<'_>, form: Validity) -> Option<[u8; 16]> {
    match form {
        Validity::Relative => Some(time::relative(left(outgoing))),
        Validity::Absolute => time::absolute(outgoing.now.plus(left(outgoing))),
        Validity::None => None,
    }
}

/// Where data_sm says what submit_sm cannot: datagram and transaction mode (SMPP 3.4, 5.2.12: the
/// latter is data_sm's alone), and addresses of more than 20 octets.
fn wants_data_sm(
    outgoing: &Outgoing<'_>,
    source: &WireAddress<'_>,
    destination: &WireAddress<'_>,
) -> bool {
    matches!(outgoing.message.sm.messaging_mode, 1 | 2)
        || source.value.len() > ADDRESS_MAX
        || destination.value.len() > ADDRESS_MAX
}

/// data_sm has no priority, schedule or validity, and its text in message_payload (SMPP 3.4, 4.7.1).
fn data_sm<'a>(sm: &Sm<'a>) -> DataSm<'a> {
    DataSm {
        service_type: sm.service_type,
        source_addr_ton: sm.source_addr_ton,
        source_addr_npi: sm.source_addr_npi,
        source_addr: sm.source_addr,
        dest_addr_ton: sm.dest_addr_ton,
        dest_addr_npi: sm.dest_addr_npi,
        destination_addr: sm.destination_addr,
        esm_class: sm.esm_class,
        registered_delivery: sm.registered_delivery,
        data_coding: sm.data_coding,
        tlvs: sm.tlvs,
    }
}

/// SMPP 3.4, 5.3.2.22 to 5.3.2.24.
fn push_sar(buffer: &mut TlvBuf, concat: Concat) -> Result<(), Unfit> {
    let reference = concat.reference.to_be_bytes();
    push(buffer, tag::SAR_MSG_REF_NUM, &reference)?;
    push(buffer, tag::SAR_TOTAL_SEGMENTS, &[concat.total])?;
    push(buffer, tag::SAR_SEGMENT_SEQNUM, &[concat.index])
}

/// The message's and its hop's, then the carrier's own; checked, because they come from clients and
/// plugins.
fn tlvs(outgoing: &Outgoing<'_>, style: &SubmitStyle, as_data_sm: bool) -> Result<TlvBuf, Unfit> {
    let mut buffer = TlvBuf::new();
    if style.interface_version < INTERFACE_VERSION {
        return match outgoing.tlvs.first() {
            None => Ok(buffer),
            Some(tlv) => Err(Unfit::Tlv {
                tag: tlv.tag,
                rule: "cannot be sent: the carrier speaks SMPP 3.3, which has none".to_owned(),
            }),
        };
    }
    let given = |tag: u16| outgoing.tlvs.iter().any(|t| t.tag == tag);
    let open = |tag: u16| !given(tag) && style.defaults.tlvs.iter().all(|t| t.tag != tag);
    if style.user_message_reference && open(tag::USER_MESSAGE_REFERENCE) {
        // The same for every copy of a message; the id's last octets are random.
        let [.., high, low] = outgoing.message.id.0.to_be_bytes();
        push(&mut buffer, tag::USER_MESSAGE_REFERENCE, &[high, low])?;
    }
    if as_data_sm && open(tag::QOS_TIME_TO_LIVE) {
        let left = u32::try_from(left(outgoing).as_secs()).unwrap_or(u32::MAX);
        push(&mut buffer, tag::QOS_TIME_TO_LIVE, &left.to_be_bytes())?;
    }
    if let Some(subunit) = outgoing.segmented.dest_addr_subunit
        && open(tag::DEST_ADDR_SUBUNIT)
    {
        push(&mut buffer, tag::DEST_ADDR_SUBUNIT, &[subunit])?;
    }
    let own = style.defaults.tlvs.iter().filter(|t| !given(t.tag));
    for tlv in outgoing.tlvs.iter().chain(own) {
        fits(tlv)?;
        push(&mut buffer, tlv.tag, &tlv.value)?;
    }
    Ok(buffer)
}

/// Whether a parameter may be asked for: not one of those that say how the text is cut, which is
/// ours to say, and of the length that the specification has for it.
pub fn fits(tlv: &Tlv) -> Result<(), Unfit> {
    let unfit = |rule: String| Unfit::Tlv { tag: tlv.tag, rule };
    if matches!(
        tlv.tag,
        tag::MESSAGE_PAYLOAD
            | tag::SAR_MSG_REF_NUM
            | tag::SAR_TOTAL_SEGMENTS
            | tag::SAR_SEGMENT_SEQNUM
    ) {
        return Err(unfit("is set from the text and cannot be given".to_owned()));
    }
    match tlv::lengths(tlv.tag) {
        Some(lengths) if !lengths.contains(&tlv.value.len()) => Err(unfit(format!(
            "has {} octets; SMPP has {} to {} for it",
            tlv.value.len(),
            lengths.start(),
            lengths.end()
        ))),
        _ => Ok(()),
    }
}

fn push(buffer: &mut TlvBuf, tag: u16, value: &[u8]) -> Result<(), Unfit> {
    buffer.push(tag, value).map_err(|_| Unfit::Tlv {
        tag,
        rule: format!(
            "has {} octets; at most {} are possible",
            value.len(),
            u16::MAX
        ),
    })
}
