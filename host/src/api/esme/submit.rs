//! submit_sm, data_sm and submit_multi: the same admission, policy, durability and idempotency as over
//! HTTP. ESME_ROK means that the message is on the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use super::refusal::{self, Refused};
use super::session::{Response, Visit};
use super::submission::{self, MODE_FORWARD};
use super::system::System;
use crate::domain::{Address, Message, MessageId, Reason, State};
use crate::pipeline::{Changed, Pipeline, Submission};
use crate::smpp::pdu::{
    Destination, HEADER_LEN, Sm, SubmitMulti, Tlvs, Unsuccess, command_id, submit_multi_resp,
};
use crate::smpp::status;
use crate::store::{Filter, Idempotency};

/// Destinations of one submit_multi with all its lists' members.
const DESTINATIONS_MAX: usize = 1_000;
/// Of them, being worked on at once.
const AT_ONCE: usize = 32;
/// Octets of an idempotency key.
const KEY_MAX: usize = 255;
/// How often a submit_sm in forward mode looks for its carrier's answer.
const FORWARD_LOOK: Duration = Duration::from_millis(100);
/// Messages that a replacement looks through for the one it replaces.
const REPLACED_MAX: usize = 16;

/// submit_sm, and data_sm in its shape.
pub async fn submit(visit: &Visit, sm: &Sm<'_>, frame: &Bytes) -> Result<Response, Refused> {
    let (esme, system) = (&visit.esme, visit.system());
    admit(system)?;
    let now = esme.pipeline.clock.now();
    let read = |text: &str| visit.read_number(text);
    let limits = &esme.pipeline.limits;
    let submission = submission::submission(sm, system, limits, now, &read)?;
    let idempotency = idempotency(system, sm.tlvs, frame)?;
    let forward = submission.sm.messaging_mode == MODE_FORWARD;
    let place = match forward {
        false => None,
        true => Some(system.forward.clone().try_acquire_owned().map_err(|_| {
            let why = "too many submissions in forward mode wait for their carriers";
            Refused::new(status::ESME_RTHROTTLED, why)
        })?),
    };
    let replaces = submission.sm.replace_if_present.then(|| submission.clone());
    let message = accept(&esme.pipeline, system, submission, idempotency).await?;
    let counters = &visit.bound.submitted;
    counters.fetch_add(1, Ordering::Relaxed);
    if let Some(new) = replaces {
        take_back_replaced(visit, &new, message.id).await?;
    }
    if forward {
        wait_for_carrier(&esme.pipeline, message.id, system.spec.forward).await?;
        drop(place);
    }
    Ok(Response::MessageId(message.id.to_string()))
}

/// The system_id's own throughput; the account's is the pipeline's.
fn admit(system: &System) -> Result<(), Refused> {
    let now = tokio::time::Instant::now().into_std();
    let limiter = system.limiter.as_ref();
    limiter.map_or(Ok(()), |l| l.admit(now)).map_err(|_| {
        let why = "the system_id sends more than its throughput";
        Refused::new(status::ESME_RTHROTTLED, why)
    })
}

async fn accept(
    pipeline: &Pipeline,
    system: &System,
    submission: Submission,
    idempotency: Option<Idempotency>,
) -> Result<Box<Message>, Refused> {
    let submitted = pipeline
        .submit(&system.account, submission, idempotency)
        .await
        .map_err(|error| refusal::refused(&error))?;
    if submitted.replayed
        && let Some(refused) = first_refusal(&submitted.message)
    {
        return Err(refused);
    }
    let counters = &system.counters;
    counters.accepted.fetch_add(1, Ordering::Relaxed);
    Ok(submitted.message)
}

/// What the first submission under this idempotency key was refused with.
fn first_refusal(message: &Message) -> Option<Refused> {
    let first = message.events.first()?;
    if first.state != State::Rejected || first.reason == Reason::DroppedByPolicy {
        return None;
    }
    let code = first.detail.split(": ").next().filter(|c| !c.is_empty());
    Some(refusal::of_policy_code(
        code.unwrap_or(first.reason.name()),
        &first.detail,
    ))
}

/// The key of a configured parameter with the digest of everything behind the header.
fn idempotency(
    system: &System,
    tlvs: Tlvs<'_>,
    frame: &Bytes,
) -> Result<Option<Idempotency>, Refused> {
    let Some(value) = system.spec.idempotency_tag.and_then(|tag| tlvs.get(tag)) else {
        return Ok(None);
    };
    let value = value.strip_suffix(b"\0").unwrap_or(value);
    let good = |key: &&str| {
        (1..=KEY_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
    };
    let key = std::str::from_utf8(value)
        .ok()
        .filter(good)
        .ok_or_else(|| {
            let why = format!("an idempotency key is 1 to {KEY_MAX} visible ASCII characters");
            Refused::new(status::ESME_RINVOPTPARAMVAL, why)
        })?;
    Ok(Some(Idempotency {
        account: system.account.id.clone(),
        // Apart from the keys of the account's HTTP requests.
        key: format!("smpp:{}:{key}", system.id),
        fingerprint: Sha256::digest(&frame[HEADER_LEN.min(frame.len())..]).into(),
    }))
}

/// replace_if_present_flag (SMPP 3.4, 5.2.18): what waits for the same recipient from the same source
/// under the same service_type is taken back, now that its successor is durable.
async fn take_back_replaced(
    visit: &Visit,
    new: &Submission,
    successor: MessageId,
) -> Result<(), Refused> {
    let waiting = waiting(visit, &new.recipient, Some(&new.originator)).await?;
    let older = waiting
        .into_iter()
        .filter(|m| m.id != successor && m.sm.service_type == new.sm.service_type);
    for message in older {
        let detail = format!("replaced by {successor}");
        // One that has gone on its way meanwhile is replaced by the carrier, which gets the flag.
        if let Err(error) = visit.esme.pipeline.cancel(message.id, &detail).await {
            tracing::debug!(message = %message.id, %error, "not taken back");
        }
    }
    Ok(())
}

/// The account's messages to `recipient` that may still be changed, the newest first.
pub async fn waiting(
    visit: &Visit,
    recipient: &Address,
    originator: Option<&Address>,
) -> Result<Vec<Message>, Refused> {
    // The search reads many records. A client's own wait for each other before they wait with others'.
    let _own = visit.system().searches.acquire().await;
    let _place = visit.esme.searches.acquire().await;
    let limits = &visit.esme.pipeline.limits;
    let oldest = Duration::from_secs(limits.max_validity_seconds + limits.max_schedule_seconds);
    let now = visit.esme.pipeline.clock.now().millis();
    let since = now.saturating_sub(u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX));
    let filter = Filter {
        account: Some(visit.system().account.id.clone()),
        to: Some(recipient.value.clone()),
        from: originator.map(|o| o.value.clone()),
        since: Some(crate::clock::Timestamp(since)),
        ..Filter::default()
    };
    let store = &visit.esme.pipeline.store;
    let page = store.list(filter, None, REPLACED_MAX).await;
    let page = page.map_err(|error| refusal::of_store(&error))?;
    let changeable = |m: &Message| match m.state {
        State::Scheduled | State::Held | State::Queued => true,
        State::SubmitUnknown
        | State::Enroute
        | State::Delivered
        | State::Undeliverable
        | State::Expired
        | State::Rejected
        | State::Canceled
        | State::Unknown => false,
    };
    Ok(page.items.into_iter().filter(changeable).collect())
}

/// Forward mode (SMPP 3.4, 2.10.3): the response tells whether the next hop took the message. One
/// that no carrier takes in time is taken back; one that may be on the wire is left to its receipt.
async fn wait_for_carrier(
    pipeline: &Pipeline,
    id: MessageId,
    patience: Duration,
) -> Result<(), Refused> {
    let failed = |why: &str| Refused::new(status::ESME_RDELIVERYFAILURE, why);
    let end = tokio::time::Instant::now() + patience;
    loop {
        let found = pipeline.store.find(id).await;
        let found = found.map_err(|error| refusal::of_store(&error))?;
        match found.map(|m| m.state) {
            None | Some(State::Enroute | State::Delivered) => return Ok(()),
            Some(State::Scheduled | State::Held | State::Queued | State::SubmitUnknown) => {}
            Some(State::Undeliverable | State::Expired | State::Rejected) => {
                return Err(failed("the carrier refused the message"));
            }
            Some(State::Canceled) => return Err(failed("the message was taken back")),
            Some(State::Unknown) => return Err(failed("the carrier gave no answer")),
        }
        if tokio::time::Instant::now() >= end {
            return match pipeline
                .cancel(id, "forward mode: no carrier in time")
                .await
            {
                Ok(Changed::Done) => Err(failed("no carrier took the message in time")),
                Ok(Changed::TooLate(_)) | Err(_) => Ok(()),
            };
        }
        tokio::time::sleep(FORWARD_LOOK).await;
    }
}

/// One destination of a submit_multi, and what it was called there.
struct Target<'a> {
    ton: u8,
    npi: u8,
    address: std::borrow::Cow<'a, [u8]>,
}

/// One message for each destination, all of them known to the client by one message_id.
pub async fn submit_multi(visit: &Visit, body: &[u8], frame: &Bytes) -> Result<Response, Refused> {
    let multi = SubmitMulti::decode(body)
        .map_err(|command_status| Refused::new(command_status, "not a submit_multi"))?;
    let targets = targets(&multi, visit.system())?;
    let mut results: Vec<Option<u32>> = vec![None; targets.len()];
    let mut shared: Option<MessageId> = None;
    let mut running = JoinSet::new();
    let mut record = |at: usize, result: Result<(), Refused>| {
        results[at] = Some(result.map_or_else(|r| r.command_status, |()| status::ESME_ROK));
    };
    for (at, target) in targets.iter().enumerate() {
        let sm = Sm {
            dest_addr_ton: target.ton,
            dest_addr_npi: target.npi,
            destination_addr: &target.address,
            ..multi.sm
        };
        let (submission, idempotency) = match prepared(visit, &sm, at, frame) {
            Ok(prepared) => prepared,
            Err(refused) => {
                record(at, Err(refused));
                continue;
            }
        };
        // The first that is accepted gives its id to all: its outcome is waited for.
        let Some(id) = shared else {
            let system = visit.system();
            match accept(&visit.esme.pipeline, system, submission, idempotency).await {
                Ok(message) => {
                    shared = Some(message.id);
                    record(at, Ok(()));
                }
                Err(refused) => record(at, Err(refused)),
            }
            continue;
        };
        while running.len() >= AT_ONCE
            && let Some(Ok((at, result))) = running.join_next().await
        {
            record(at, result);
        }
        let submission = Submission {
            reference: id.to_string(),
            ..submission
        };
        let (esme, system): (_, Arc<System>) = (visit.esme.clone(), visit.system().clone());
        running.spawn(async move {
            let accepted = accept(&esme.pipeline, &system, submission, idempotency).await;
            (at, accepted.map(|_| ()))
        });
    }
    while let Some(Ok((at, result))) = running.join_next().await {
        record(at, result);
    }
    answer_multi(visit, &targets, &results, shared)
}

fn answer_multi(
    visit: &Visit,
    targets: &[Target<'_>],
    results: &[Option<u32>],
    shared: Option<MessageId>,
) -> Result<Response, Refused> {
    // A task that was torn away has no result: its destination is told to be tried again.
    let result = |at: usize| results[at].unwrap_or(status::ESME_RSYSERR);
    let Some(id) = shared else {
        let first = (0..targets.len()).map(result).next();
        return Err(Refused::new(
            first.unwrap_or(status::ESME_RINVNUMDESTS),
            "no destination was accepted",
        ));
    };
    visit.bound.submitted.fetch_add(1, Ordering::Relaxed);
    let failed: Vec<Unsuccess<'_>> = targets
        .iter()
        .enumerate()
        .filter(|(at, _)| result(*at) != status::ESME_ROK)
        .map(|(at, target)| Unsuccess {
            ton: target.ton,
            npi: target.npi,
            address: &target.address,
            command_status: result(at),
        })
        .collect();
    Ok(Response::Encoded {
        body: submit_multi_resp(&id.to_string(), &failed),
        command_id: command_id::SUBMIT_MULTI,
    })
}

fn prepared(
    visit: &Visit,
    sm: &Sm<'_>,
    at: usize,
    frame: &Bytes,
) -> Result<(Submission, Option<Idempotency>), Refused> {
    let (esme, system) = (&visit.esme, visit.system());
    admit(system)?;
    let now = esme.pipeline.clock.now();
    let read = |text: &str| visit.read_number(text);
    let limits = &esme.pipeline.limits;
    let submission = submission::submission(sm, system, limits, now, &read)?;
    let mut idempotency = idempotency(system, sm.tlvs, frame)?;
    if let Some(idempotency) = &mut idempotency {
        idempotency.key.push_str(&format!("#{at}"));
    }
    Ok((submission, idempotency))
}

/// All destinations, lists with their members in their place.
fn targets<'a>(multi: &SubmitMulti<'a>, system: &System) -> Result<Vec<Target<'a>>, Refused> {
    let mut targets = Vec::with_capacity(multi.destinations.len());
    for destination in &multi.destinations {
        match *destination {
            Destination::Sme { ton, npi, address } => targets.push(Target {
                ton,
                npi,
                address: address.into(),
            }),
            Destination::List { name } => {
                let list = std::str::from_utf8(name)
                    .ok()
                    .and_then(|name| system.spec.lists.get(name))
                    .ok_or_else(|| {
                        let why = "no distribution list of that name is configured";
                        Refused::new(status::ESME_RINVDLNAME, why)
                    })?;
                targets.extend(list.iter().map(|address| Target {
                    ton: address.ton as u8,
                    npi: address.npi as u8,
                    address: address.value.clone().into_bytes().into(),
                }));
            }
        }
    }
    if targets.is_empty() || targets.len() > DESTINATIONS_MAX {
        let why =
            format!("there are 1 to {DESTINATIONS_MAX} destinations, members of lists counted");
        return Err(Refused::new(status::ESME_RINVNUMDESTS, why));
    }
    Ok(targets)
}
