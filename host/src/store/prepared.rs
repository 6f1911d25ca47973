//! A message ready to be written: its record, encoded by the caller so that the committer need
//! not, and what the indices must say about it.

use std::sync::Arc;

use super::bytes::{Reader, put_varint};
use super::engine::Value;
use super::keys::{self, Key};
use super::records;
use crate::clock::Timestamp;
use crate::domain::receipt::response_key;
use crate::domain::{
    AccountId, CarrierId, Due, FinalReceipt, Message, MessageId, PartState, Reason, ReceiptsWanted,
    State,
};

pub(super) struct Prepared {
    pub id: MessageId,
    pub record: Value,
    pub state: State,
    pub due: Option<Due>,
    pub expires_at: Timestamp,
    pub awaited: Vec<(Key, u8)>,
    pub receipt_deadline: Timestamp,
    pub receipt_url: Option<(AccountId, String)>,
    /// Who has the segments.
    pub carrier: Option<CarrierId>,
    pub esme: Option<Notice>,
}

/// What an ESME wants to hear of its message.
pub(super) struct Notice {
    pub account: AccountId,
    pub system_id: Arc<str>,
    pub wanted: ReceiptsWanted,
    pub attempts: usize,
    /// It heard the refusal in its submit_sm_resp, and has no message_id.
    pub refused_at_once: bool,
}

impl Notice {
    fn of(message: &Message) -> Option<Notice> {
        let system_id = message.source.system_id()?;
        let wanted = message.sm.receipts;
        if wanted.last == FinalReceipt::Never && !wanted.intermediate {
            return None;
        }
        Some(Notice {
            account: message.account.clone(),
            system_id: system_id.into(),
            wanted,
            attempts: message.attempts.len(),
            refused_at_once: message.events.len() == 1
                && message.state == State::Rejected
                && message.reason() != Reason::DroppedByPolicy,
        })
    }

    /// The receipt that a message in its last state owes.
    pub fn wants_last(&self, state: State) -> bool {
        !self.refused_at_once && self.wanted.last.wants(state == State::Delivered)
    }
}

impl Prepared {
    /// `scratch` is emptied and reused.
    pub fn new(message: &Message, scratch: &mut Vec<u8>) -> Prepared {
        scratch.clear();
        records::encode_message(message, scratch);
        Prepared {
            id: message.id,
            record: Value::from(scratch.as_slice()),
            state: message.state,
            due: message.due.clone(),
            expires_at: message.expires_at,
            awaited: awaited(message),
            receipt_deadline: message.receipt_deadline(),
            receipt_url: message
                .receipt_url
                .as_ref()
                .map(|url| (message.account.clone(), url.clone())),
            esme: Notice::of(message),
            carrier: message.parts.first().map(|p| p.carrier.clone()),
        }
    }

    /// The value of the due entry: when the message expires, and whether segments of an earlier
    /// attempt are still awaited.
    pub fn due_value(&self) -> Value {
        let mut out = Vec::with_capacity(8);
        out.push(u8::from(!self.awaited.is_empty()));
        put_varint(&mut out, self.expires_at.0);
        Value::from(out)
    }
}

pub(super) fn due_awaits(value: &[u8]) -> bool {
    // Damage reads as true: the record itself then tells.
    value.first() != Some(&0)
}

pub(super) fn due_expires_at(value: &[u8]) -> Option<Timestamp> {
    Reader::new(value.get(1..)?).varint().ok().map(Timestamp)
}

/// The correlation keys of the segments that wait for a receipt. A terminal message keeps those of
/// segments that did not report, so that the late truth still reaches its record; one that has
/// waited long enough keeps none.
pub(super) fn awaited(message: &Message) -> Vec<(Key, u8)> {
    if message.state == State::Unknown {
        return Vec::new();
    }
    let open = message
        .parts
        .iter()
        .enumerate()
        .filter(|(_, p)| p.state == PartState::Enroute);
    let awaited = open.filter_map(|(n, part)| {
        let n = u8::try_from(n).ok()?;
        // Every open segment has an entry, because entries are what ends a wait in vain.
        let own = response_key(&part.carrier_message_id)
            .map(|key| keys::correlation(&part.carrier, &key));
        Some((own.unwrap_or_else(|| keys::deadline(message.id, n)), n))
    });
    awaited.collect()
}
