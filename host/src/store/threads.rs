//! Conversations: what went from one of an account's numbers to a handset and what came back, and
//! the list of mobile-originated messages, both by index. A message that goes out has an entry only
//! where its originator is a number that can be answered, so that bulk traffic pays nothing for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Store;
use super::apply::damage;
use super::commit::Committer;
use super::engine::{Engine, Value};
use super::keys::{self, Key, Parties};
use super::read::{LIST_CHUNK, LIST_READS_MAX, first_id, is};
use super::records::{self, Kind};
use super::sealing::Names;
use super::types::{InboundFilter, InboundRecord, Page, StoreError, Thread, ThreadItem};
use crate::clock::Timestamp;
use crate::domain::{AccountId, CarrierId, Message, MessageId};

/// The value of a thread's entry: which way it went.
pub(super) const SENT: &[u8] = &[0];
pub(super) const RECEIVED: &[u8] = &[1];

/// Entries of a thread that the search for what a handset answers reads.
const ANSWERED_READS_MAX: usize = 200;

type IsTwoWay = dyn Fn(&str) -> bool + Send + Sync;

/// Tells the numbers that mobile-originated messages come to.
#[derive(Clone)]
pub struct TwoWay(pub Arc<IsTwoWay>);

impl Default for TwoWay {
    /// None is.
    fn default() -> TwoWay {
        TwoWay(Arc::new(|_| false))
    }
}

impl fmt::Debug for TwoWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TwoWay")
    }
}

impl TwoWay {
    /// The entry that a new message gets in its conversation.
    pub(super) fn entry(&self, names: &Names, message: &Message) -> Option<Key> {
        if message.state.is_terminal() {
            return None;
        }
        let hop = message.plan.hops.get(usize::from(message.hop));
        let number = hop
            .and_then(|h| h.originator.as_ref())
            .unwrap_or(&message.originator);
        (self.0)(&number.value).then(|| {
            let parties = Parties {
                account: &message.account,
                number: &number.value,
                handset: &message.recipient.value,
            };
            keys::thread_entry(names, &parties, message.id)
        })
    }
}

/// The entries of a mobile-originated message, `latest` where it is its conversation's newest.
pub(super) fn entries_of(names: &Names, record: &InboundRecord, latest: bool) -> Vec<(Key, Value)> {
    let inbound = &record.inbound;
    let (number, handset) = (&inbound.recipient.value, &inbound.originator.value);
    let account = record.account.as_ref();
    let list = keys::inbound_entry(account, inbound.id);
    let mut entries = vec![(list, records::encode_parties(number, handset).into())];
    // Names from carriers must not reach into each other's keys.
    if let Some(account) = account.filter(|_| !number.contains('\0') && !handset.contains('\0')) {
        let parties = Parties {
            account,
            number,
            handset,
        };
        let entry = keys::thread_entry(names, &parties, inbound.id);
        entries.push((entry, RECEIVED.into()));
        if latest {
            let head = keys::thread_head(names, &parties);
            entries.push((head, inbound.id.0.to_be_bytes()[..].into()));
        }
    }
    entries
}

impl Committer {
    /// A mobile-originated message, and the parts that it was joined of go.
    /// Whether nothing was stored under this key lately; from now on something is.
    pub fn is_first(&mut self, once: Option<Key>, now: Timestamp) -> Result<bool, StoreError> {
        let Some(key) = once else { return Ok(true) };
        let known = self.engine.get(&key)?;
        if known.is_some_and(|value| !is_forgotten(&value, now)) {
            return Ok(false);
        }
        let value = records::encode_time(now).into();
        self.journal.put(key, value, false);
        Ok(true)
    }

    pub fn put_inbound(
        &mut self,
        id: MessageId,
        record: Value,
        entries: Vec<(Key, Value)>,
        parts: &[Key],
    ) {
        self.put_record(id, record);
        for (key, value) in entries {
            self.journal.put(key, value, false);
        }
        parts.iter().for_each(|key| self.journal.remove(key));
    }
}

/// How long a text is known by its provider's id: longer than any provider repeats its call-backs.
const ONCE_AGE: Duration = Duration::from_secs(72 * 3_600);

/// Whether an entry of what is stored once is too old to count.
pub(super) fn is_forgotten(value: &[u8], now: Timestamp) -> bool {
    records::decode_time(value).is_none_or(|at| now.since(at) >= ONCE_AGE)
}

impl Store {
    /// Whether a text of this carrier was stored under this id lately.
    pub async fn knows_inbound(&self, carrier: &CarrierId, id: &str) -> Result<bool, StoreError> {
        let (key, now) = (keys::once(carrier, id), self.inner.clock.now());
        let known = move |engine: &Engine| engine.get(&key);
        let value = self.inner.read(known).await?;
        Ok(value.is_some_and(|value| !is_forgotten(&value, now)))
    }

    /// The newest message from `number` to `handset`, not older than `since`: what a text from there
    /// answers.
    pub async fn last_sent(
        &self,
        account: &AccountId,
        number: &str,
        handset: &str,
        since: Timestamp,
    ) -> Result<Option<MessageId>, StoreError> {
        let parties = Parties {
            account,
            number,
            handset,
        };
        let prefix = keys::thread(&self.inner.engine.names, &parties);
        self.inner
            .read(move |engine| {
                let entries = engine.scan_prefix(&prefix, ANSWERED_READS_MAX)?;
                let sent = entries.iter().filter(|(_, way)| **way == *SENT);
                let newest = sent.filter_map(|(key, _)| keys::inverted_id(key)).next();
                Ok(newest.filter(|id| id.timestamp() >= since))
            })
            .await
    }

    /// What went between a number and a handset, newest first, from `cursor` (exclusive) on.
    pub async fn thread(
        &self,
        account: &AccountId,
        number: &str,
        handset: &str,
        cursor: Option<MessageId>,
        limit: usize,
    ) -> Result<Page<ThreadItem>, StoreError> {
        let parties = Parties {
            account,
            number,
            handset,
        };
        let prefix = keys::thread(&self.inner.engine.names, &parties);
        self.inner
            .read(move |engine| {
                walk(engine, &prefix, cursor, limit, |id, _| {
                    let Some(record) = engine.record(id)? else {
                        return Ok(None);
                    };
                    Ok(Some(if is(&record, Kind::Inbound) {
                        let inbound = records::decode_inbound(&record).map_err(damage)?;
                        ThreadItem::Inbound(Box::new(inbound))
                    } else {
                        let message = records::decode_message(&record).map_err(damage)?;
                        ThreadItem::Message(Box::new(message))
                    }))
                })
            })
            .await
    }

    /// Conversations in which the handset has written, by its last text, newest first.
    pub async fn threads(
        &self,
        account: &AccountId,
        number: Option<String>,
        handset: Option<String>,
        cursor: Option<MessageId>,
        limit: usize,
    ) -> Result<Page<Thread>, StoreError> {
        let account = account.clone();
        let prefix = keys::inbound_list(Some(&account));
        self.inner
            .read(move |engine| {
                walk(engine, &prefix, cursor, limit, |id, value| {
                    let (its_number, its_handset) =
                        records::decode_parties(value).map_err(damage)?;
                    if number.as_ref().is_some_and(|n| *n != its_number)
                        || handset.as_ref().is_some_and(|h| *h != its_handset)
                    {
                        return Ok(None);
                    }
                    // A conversation stands where its newest text does, and nowhere else.
                    let parties = Parties {
                        account: &account,
                        number: &its_number,
                        handset: &its_handset,
                    };
                    let head = keys::thread_head(&engine.names, &parties);
                    let newest = engine.get(&head)?;
                    if newest.is_none_or(|n| *n != id.0.to_be_bytes()) {
                        return Ok(None);
                    }
                    let Some(record) = engine.record(id)? else {
                        return Ok(None);
                    };
                    let last_inbound = records::decode_inbound(&record).map_err(damage)?;
                    let thread = keys::thread(&engine.names, &parties);
                    let newest = engine.scan_prefix(&thread, 1)?;
                    let last = newest.first().and_then(|(key, _)| keys::inverted_id(key));
                    Ok(Some(Thread {
                        number: its_number,
                        handset: its_handset,
                        last_inbound,
                        last: last.unwrap_or(id),
                    }))
                })
            })
            .await
    }

    /// Mobile-originated messages that `filter` lets through, newest first, from `cursor` (exclusive)
    /// on.
    pub async fn list_inbound(
        &self,
        filter: InboundFilter,
        cursor: Option<MessageId>,
        limit: usize,
    ) -> Result<Page<InboundRecord>, StoreError> {
        let until = filter.until.map(|at| first_id(Some(at)));
        let cursor = match (cursor, until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if filter.account.is_none() && !filter.unrouted {
            return self.list_all_inbound(filter, cursor, limit).await;
        }
        let prefix = keys::inbound_list(filter.account.as_ref());
        self.inner
            .read(move |engine| {
                let since = first_id(filter.since);
                walk(engine, &prefix, cursor, limit, |id, value| {
                    if id < since {
                        return Ok(None);
                    }
                    let (number, handset) = records::decode_parties(value).map_err(damage)?;
                    if filter.to.as_ref().is_some_and(|n| *n != number)
                        || filter.from.as_ref().is_some_and(|h| *h != handset)
                    {
                        return Ok(None);
                    }
                    let Some(record) = engine.record(id)? else {
                        return Ok(None);
                    };
                    let inbound = records::decode_inbound(&record).map_err(damage)?;
                    Ok(Some(inbound).filter(|i| filter.admits(i)))
                })
            })
            .await
    }
}

/// Entries under `prefix`, which end in inverted ids, from behind `cursor` on: newest first. Reads a
/// bounded number; the page's `next` goes on from there.
fn walk<T>(
    engine: &Engine,
    prefix: &[u8],
    cursor: Option<MessageId>,
    limit: usize,
    mut pick: impl FnMut(MessageId, &[u8]) -> Result<Option<T>, StoreError>,
) -> Result<Page<T>, StoreError> {
    let mut start = match cursor {
        None => prefix.to_vec(),
        Some(id) => [prefix, &keys::inverted(id), &[0]].concat(),
    };
    let end = keys::after_prefix(prefix).unwrap_or_default();
    let (mut items, mut reads, mut last) = (Vec::new(), 0, None);
    while reads < LIST_READS_MAX {
        let entries = engine.scan(&start, &end, LIST_CHUNK)?;
        reads += entries.len();
        let complete = entries.len() < LIST_CHUNK;
        for (key, value) in entries {
            let Some(id) = keys::inverted_id(&key) else {
                continue;
            };
            last = Some(id);
            items.extend(pick(id, &value)?);
            if items.len() >= limit {
                return Ok(Page { items, next: last });
            }
            start = [&*key, &[0]].concat();
        }
        if complete {
            return Ok(Page { items, next: None });
        }
    }
    Ok(Page { items, next: last })
}

/// Whether an index entry's message is past its retention: `oldest` is the first day that is kept.
pub(super) fn is_past(key: &[u8], value: &[u8], oldest: u32) -> bool {
    let id = match key.first() {
        Some(letter) if [*letter] == *keys::THREAD_HEAD => value
            .try_into()
            .ok()
            .map(|id| MessageId(u128::from_be_bytes(id))),
        _ => keys::inverted_id(key),
    };
    id.is_none_or(|id| id.timestamp().day() < oldest)
}
