//! query_sm, cancel_sm and replace_sm (SMPP 3.4, 4.8 to 4.10). A message is its account's: to everybody
//! else, and under another source address, it does not exist.

use super::receipt::{client_id, done_at, error_number, message_state};
use super::refusal::{self, Refused};
use super::session::{Response, Visit};
use super::submission::{recipient, source};
use super::submit::waiting;
use super::system::DefaultAlphabet;
use crate::carrier::CallBackError;
use crate::clock::Timestamp;
use crate::domain::{Body, Message, MessageId, ReceiptsWanted, State, text};
use crate::pipeline::{Changed, NotExchanged, Replacement};
use crate::smpp::pdu::{CancelSm, QuerySm, ReplaceSm, command_id};
use crate::smpp::status;
use crate::smpp::time::{self, SmppTime};
use crate::store::UpdateError;

/// message_state of a scheduled message: peers of SMPP 3.4 know none (5.0, 4.7.15).
const STATE_SCHEDULED: u8 = 0;
const VERSION_5_0: u8 = 0x50;
const DATA_CODING_LATIN1: u8 = 3;

pub async fn query(visit: &Visit, query: &QuerySm<'_>) -> Result<Response, Refused> {
    let unknown = || Refused::new(status::ESME_RINVMSGID, "no message has this message_id");
    let message = find(visit, query.message_id, query.source_addr)
        .await?
        .ok_or_else(unknown)?;
    let version = visit.bound.interface_version;
    let state = match message.state {
        State::Scheduled if version >= VERSION_5_0 => STATE_SCHEDULED,
        state => message_state(state).0,
    };
    let final_date = done_at(&message, message.state).and_then(time::absolute);
    let mut body = client_id(&message).into_bytes();
    body.push(0);
    body.extend_from_slice(final_date.as_ref().map_or(&[], |date| &date[..]));
    body.push(0);
    // One octet has the network's code where it fits (SMPP 3.4, 5.2.31).
    let error = u8::try_from(error_number(&message)).unwrap_or(u8::MAX);
    body.extend_from_slice(&[state, error]);
    Ok(Response::Encoded {
        body,
        command_id: command_id::QUERY_SM,
    })
}

pub async fn cancel(visit: &Visit, cancel: &CancelSm<'_>) -> Result<Response, Refused> {
    let failed = |why: &str| Refused::new(status::ESME_RCANCELFAIL, why);
    if cancel.message_id.is_empty() {
        return cancel_all(visit, cancel).await;
    }
    let unknown = || Refused::new(status::ESME_RINVMSGID, "no message has this message_id");
    let message = find(visit, cancel.message_id, cancel.source_addr)
        .await?
        .ok_or_else(unknown)?;
    let message = match cancel.destination_addr {
        [] => message,
        to if is_to(&message, to) => message,
        // One of the other destinations of a submit_multi.
        _ => sibling(visit, &message, cancel)
            .await?
            .ok_or_else(unknown)?,
    };
    match visit.esme.pipeline.cancel(message.id, "cancel_sm").await {
        Ok(Changed::Done) => Ok(Response::Status),
        Ok(Changed::TooLate(State::Enroute))
            if visit.esme.pipeline.call_back(&message).await.is_ok() =>
        {
            let pipeline = &visit.esme.pipeline;
            let canceled = pipeline.canceled_by_carrier(message.id, "cancel_sm").await;
            canceled.map_err(|error| not_changed(&error, status::ESME_RCANCELFAIL))?;
            Ok(Response::Status)
        }
        Ok(Changed::TooLate(_)) => Err(failed("the message has gone on its way")),
        Err(error) => Err(not_changed(&error, status::ESME_RCANCELFAIL)),
    }
}

/// No message_id: all that waits between these addresses, of one service_type where one is named
/// (SMPP 3.4, 4.9.1).
async fn cancel_all(visit: &Visit, cancel: &CancelSm<'_>) -> Result<Response, Refused> {
    let failed = |why: &str| Refused::new(status::ESME_RCANCELFAIL, why);
    let to = recipient(cancel.dest_addr_ton, cancel.destination_addr, &|text| {
        visit.read_number(text)
    })?;
    let from = source(
        cancel.source_addr_ton,
        cancel.source_addr_npi,
        cancel.source_addr,
    )?;
    let mut canceled = 0;
    for message in waiting(visit, &to, Some(&from)).await? {
        let service_type = message.sm.service_type.as_bytes();
        if !cancel.service_type.is_empty() && service_type != cancel.service_type {
            continue;
        }
        let done = visit.esme.pipeline.cancel(message.id, "cancel_sm").await;
        canceled += u32::from(done == Ok(Changed::Done));
    }
    match canceled {
        0 => Err(failed("nothing waits between these addresses")),
        _ => Ok(Response::Status),
    }
}

pub async fn replace(visit: &Visit, replace: &ReplaceSm<'_>) -> Result<Response, Refused> {
    let failed = |why: &str| Refused::new(status::ESME_RREPLACEFAIL, why);
    let unknown = || Refused::new(status::ESME_RINVMSGID, "no message has this message_id");
    let message = find(visit, replace.message_id, replace.source_addr)
        .await?
        .ok_or_else(unknown)?;
    let new = replacement(visit, replace, &message)?;
    let pipeline = &visit.esme.pipeline;
    match pipeline.replace(message.id, new.clone()).await {
        Ok(Ok(Changed::Done)) => Ok(Response::Status),
        Ok(Ok(Changed::TooLate(State::Enroute))) => {
            let exchanged = pipeline.exchange(&message, new).await;
            exchanged.map_err(|why| not_exchanged(&why))?;
            Ok(Response::Status)
        }
        Ok(Ok(Changed::TooLate(_))) => Err(failed("the message has gone on its way")),
        Ok(Err(error)) => Err(Refused::new(status::ESME_RINVMSGLEN, error.to_string())),
        Err(error) => Err(not_changed(&error, status::ESME_RREPLACEFAIL)),
    }
}

fn replacement(
    visit: &Visit,
    replace: &ReplaceSm<'_>,
    message: &Message,
) -> Result<Replacement, Refused> {
    let (now, limits) = (visit.esme.pipeline.clock.now(), &visit.esme.pipeline.limits);
    let spec = &visit.system().spec;
    let body = match (replace.short_message, replace.sm_default_msg_id) {
        ([], 0) => None,
        ([], id) => {
            let text = spec.default_messages.get(&id).cloned().ok_or_else(|| {
                let why = "no message is configured under this sm_default_msg_id";
                Refused::new(status::ESME_RINVDFTMSGID, why)
            })?;
            Some(Body::Text(text))
        }
        (octets, _) => Some(reread(octets, message, spec.default_alphabet)),
    };
    let send_at = moment(
        replace.schedule_delivery_time,
        now,
        status::ESME_RINVSCHED,
        "schedule_delivery_time",
    )?;
    let latest = now.plus(std::time::Duration::from_secs(limits.max_schedule_seconds));
    if send_at.is_some_and(|at| at > latest) {
        let why = "schedule_delivery_time lies too far ahead";
        return Err(Refused::new(status::ESME_RINVSCHED, why));
    }
    let expires_at = moment(
        replace.validity_period,
        now,
        status::ESME_RINVEXPIRY,
        "validity_period",
    )?;
    let from = send_at.unwrap_or(message.send_at).max(now);
    if expires_at.is_some_and(|at| at <= from) {
        let why = "validity_period ends before the message would be sent";
        return Err(Refused::new(status::ESME_RINVEXPIRY, why));
    }
    let longest = std::time::Duration::from_secs(limits.max_validity_seconds);
    Ok(Replacement {
        body,
        send_at,
        expires_at: expires_at.map(|at| at.min(from.plus(longest))),
        receipts: Some(ReceiptsWanted::from_registered_delivery(
            replace.registered_delivery & 0x1F,
        )),
    })
}

/// replace_sm names no data_coding: its octets are in that of the message they replace.
fn reread(octets: &[u8], message: &Message, default: DefaultAlphabet) -> Body {
    let data_coding = match (message.alphabet.data_coding(), default) {
        (0, DefaultAlphabet::Latin1) => DATA_CODING_LATIN1,
        (data_coding, _) => message.sm.data_coding.unwrap_or(data_coding),
    };
    text::decode_payload(data_coding, octets)
}

fn moment(
    text: &[u8],
    now: Timestamp,
    command_status: u32,
    field: &str,
) -> Result<Option<Timestamp>, Refused> {
    match time::parse(text) {
        Ok(SmppTime::Default) => Ok(None),
        Ok(time) => Ok(time.resolve(now)),
        Err(_) => Err(Refused::new(
            command_status,
            format!("{field} is no time (SMPP 3.4, 7.1.1)"),
        )),
    }
}

/// The message of that id, if it is the account's and from that source.
async fn find(
    visit: &Visit,
    message_id: &[u8],
    source_addr: &[u8],
) -> Result<Option<Message>, Refused> {
    let id = std::str::from_utf8(message_id)
        .ok()
        .and_then(|text| text.parse::<MessageId>().ok());
    let Some(id) = id else {
        return Ok(None);
    };
    let found = visit.esme.pipeline.store.find(id).await;
    let found = found.map_err(|error| refusal::of_store(&error))?;
    let from = |m: &Message| source_addr.is_empty() || same(&m.originator.value, source_addr);
    Ok(found.filter(|m| m.account == visit.system().account.id && from(m)))
}

/// The message to another destination of the same submit_multi.
async fn sibling(
    visit: &Visit,
    message: &Message,
    cancel: &CancelSm<'_>,
) -> Result<Option<Message>, Refused> {
    let to = recipient(cancel.dest_addr_ton, cancel.destination_addr, &|text| {
        visit.read_number(text)
    })?;
    let shared = message.id.to_string();
    let waiting = waiting(visit, &to, None).await?;
    Ok(waiting.into_iter().find(|m| m.reference == shared))
}

fn is_to(message: &Message, address: &[u8]) -> bool {
    same(&message.recipient.value, address)
}

fn same(value: &str, address: &[u8]) -> bool {
    value.as_bytes() == address.strip_prefix(b"+").unwrap_or(address)
}

/// Why a message that its carrier has stays as it is.
fn not_exchanged(why: &NotExchanged) -> Refused {
    let failed = |why: &str| Refused::new(status::ESME_RREPLACEFAIL, why);
    match why {
        NotExchanged::TooLate(_) => failed("the message has gone on its way"),
        NotExchanged::Text(error) => Refused::new(status::ESME_RINVMSGLEN, error.to_string()),
        NotExchanged::Unfit(why) => failed(why),
        NotExchanged::Refused(refusal) => {
            let why = format!("{}: {}", refusal.code, refusal.reason);
            refusal::of_policy_code(&refusal.code, &why)
        }
        NotExchanged::Carrier(CallBackError::NotSupported) => {
            failed("the message's carrier cannot replace it")
        }
        NotExchanged::Carrier(CallBackError::Refused { status }) => {
            failed(&format!("the carrier did not replace it: {status:#010x}"))
        }
        NotExchanged::Carrier(CallBackError::Unanswered) => {
            failed("the carrier did not answer whether it is replaced")
        }
        NotExchanged::Store(error) => not_changed(error, status::ESME_RREPLACEFAIL),
    }
}

fn not_changed(error: &UpdateError, otherwise: u32) -> Refused {
    match error {
        UpdateError::NotFound => Refused::new(status::ESME_RINVMSGID, error.to_string()),
        UpdateError::Leased => Refused::new(otherwise, error.to_string()),
        UpdateError::Store(error) => refusal::of_store(error),
    }
}
