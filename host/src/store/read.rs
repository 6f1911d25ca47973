//! Reading, beside the committer: single records, lists newest first, the registries' contents.
//! Every call reads a bounded number of records, off the async threads.

use super::apply::damage;
use super::engine::{Engine, Value};
use super::keys;
use super::records::{self, Kind};
use super::types::{
    Filter, Fragment, InboundFilter, InboundRecord, OptOut, OrphanReceipt, OutboxEntry, Page,
    StoreError,
};
use super::{Store, blobs, optout};
use crate::clock::Timestamp;
use crate::domain::{CarrierId, Message, MessageId};

/// Records that one call of a list reads at most; its cursor then goes on from there.
pub(super) const LIST_READS_MAX: usize = 10_000;
/// Records that are read at a time.
pub(super) const LIST_CHUNK: usize = 500;
/// Parts of incomplete inbound messages that are restored.
const FRAGMENTS_MAX: usize = 1_000_000;

impl Store {
    pub async fn find(&self, id: MessageId) -> Result<Option<Message>, StoreError> {
        self.inner
            .read(move |engine| match engine.record(id)? {
                Some(record) if is(&record, Kind::Message) => {
                    records::decode_message(&record).map(Some).map_err(damage)
                }
                _ => Ok(None),
            })
            .await
    }

    /// Several at once, in the order of their ids in `ids`; none for those that are gone.
    pub async fn find_many(&self, ids: Vec<MessageId>) -> Result<Vec<Option<Message>>, StoreError> {
        self.inner
            .read(move |engine| {
                let find = |id: MessageId| match engine.record(id)? {
                    Some(record) if is(&record, Kind::Message) => {
                        records::decode_message(&record).map(Some).map_err(damage)
                    }
                    _ => Ok(None),
                };
                ids.into_iter().map(find).collect()
            })
            .await
    }

    /// Messages of a carrier's lane whose time is after `now` and that `picks` says yes to, among the
    /// first `reads_max`; with how many were looked at.
    pub async fn find_later(
        &self,
        lane: CarrierId,
        now: Timestamp,
        reads_max: usize,
        picks: impl Fn(&Message) -> bool + Send + 'static,
    ) -> Result<(Vec<MessageId>, usize), StoreError> {
        self.inner
            .read(move |engine| {
                let lanes = engine.scan_prefix(keys::LANE, usize::from(u16::MAX))?;
                let is_it = |(_, name): &(_, Value)| **name == *lane.as_str().as_bytes();
                // The first number is that of the lane without a name, of decisions.
                let number = lanes.iter().position(is_it).map(|n| n + 1);
                let Some(number) = number.and_then(|n| u16::try_from(n).ok()) else {
                    return Ok((Vec::new(), 0));
                };
                let prefix = keys::lane_prefix(number);
                let mut start = keys::queue_key(&prefix, now, u128::MAX).to_vec();
                let end = keys::after_prefix(&prefix).unwrap_or_default();
                let (mut found, mut reads) = (Vec::new(), 0);
                while reads < reads_max {
                    let chunk = LIST_CHUNK.min(reads_max - reads);
                    let entries = engine.scan(&start, &end, chunk)?;
                    reads += entries.len();
                    for (key, _) in &entries {
                        start = [&**key, &[0]].concat();
                        let Some((_, id)) = keys::queue_entry(&prefix, key) else {
                            continue;
                        };
                        let id = MessageId(id);
                        let record = engine.record(id)?.filter(|r| is(r, Kind::Message));
                        // One damaged record is that message's affair.
                        let message = record.and_then(|r| records::decode_message(&r).ok());
                        found.extend(message.filter(|m| picks(m)).map(|_| id));
                    }
                    if entries.len() < chunk {
                        break;
                    }
                }
                Ok((found, reads))
            })
            .await
    }

    pub async fn find_inbound(&self, id: MessageId) -> Result<Option<InboundRecord>, StoreError> {
        self.inner
            .read(move |engine| match engine.record(id)? {
                Some(record) if is(&record, Kind::Inbound) => {
                    records::decode_inbound(&record).map(Some).map_err(damage)
                }
                _ => Ok(None),
            })
            .await
    }

    /// Messages that `filter` lets through, newest first, from `cursor` (exclusive) on.
    pub async fn list(
        &self,
        filter: Filter,
        cursor: Option<MessageId>,
        limit: usize,
    ) -> Result<Page<Message>, StoreError> {
        self.inner
            .read(move |engine| list_messages(engine, &filter, cursor, limit))
            .await
    }

    /// Everybody's mobile-originated messages: by the records themselves.
    pub(super) async fn list_all_inbound(
        &self,
        filter: InboundFilter,
        cursor: Option<MessageId>,
        limit: usize,
    ) -> Result<Page<InboundRecord>, StoreError> {
        self.inner
            .read(move |engine| {
                let since = first_id(filter.since);
                page(engine, cursor, since, LIST_READS_MAX, limit, |record| {
                    if !is(record, Kind::Inbound) {
                        return Ok(None);
                    }
                    let inbound = records::decode_inbound(record).map_err(damage)?;
                    Ok(Some(inbound).filter(|i| filter.admits(i)))
                })
            })
            .await
    }

    /// Receipts that wait for their message, in the order of their keys, from `cursor` on; the
    /// second value goes on from there.
    pub async fn list_orphans(
        &self,
        carrier: Option<CarrierId>,
        cursor: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<(Vec<OrphanReceipt>, Option<Vec<u8>>), StoreError> {
        self.inner
            .read(move |engine| {
                let prefix = carrier.map_or(keys::ORPHAN.into(), |c| keys::orphan(&c, ""));
                let mut start = cursor.map_or(prefix.to_vec(), |c| [keys::ORPHAN, &c].concat());
                let end = keys::after_prefix(&prefix).unwrap_or_default();
                let mut found = Vec::new();
                let mut reads = 0;
                while reads < LIST_READS_MAX {
                    let entries = engine.scan(&start, &end, LIST_CHUNK)?;
                    reads += entries.len();
                    let complete = entries.len() < LIST_CHUNK;
                    for (key, value) in entries {
                        start = [&*key, &[0]].concat();
                        found.extend(orphan_at(&key, &value)?);
                        if found.len() >= limit {
                            return Ok((found, Some(start[1..].to_vec())));
                        }
                    }
                    if complete {
                        return Ok((found, None));
                    }
                }
                Ok((found, Some(start[1..].to_vec())))
            })
            .await
    }

    /// Dead letters by event id, from `after` (exclusive) on.
    pub async fn list_dead(
        &self,
        after: Option<u128>,
        limit: usize,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        self.inner
            .read(move |engine| {
                let start = after.map_or(keys::DEAD.to_vec(), |event| {
                    [&*keys::dead(event), &[0]].concat()
                });
                let end = keys::after_prefix(keys::DEAD).unwrap_or_default();
                let found = engine.scan(&start, &end, limit)?;
                found
                    .iter()
                    .map(|(_, value)| records::decode_outbox(value).map_err(damage))
                    .collect()
            })
            .await
    }

    /// The opt-out registry in the order of its keys, from the one after `after` on.
    pub async fn list_opt_outs(
        &self,
        after: Option<OptOut>,
        limit: usize,
    ) -> Result<Vec<OptOut>, StoreError> {
        self.inner
            .read(move |engine| {
                let names = &engine.names;
                let mut start = match after {
                    Some(last) => {
                        let key = optout::key(names, &last.scope, &last.recipient);
                        [&*key, &[0]].concat()
                    }
                    None => keys::WISH.to_vec(),
                };
                let end = keys::after_prefix(keys::WISH).unwrap_or_default();
                let mut out = Vec::new();
                while out.len() < limit {
                    let found = engine.scan(&start, &end, LIST_CHUNK)?;
                    let Some((last, _)) = found.last() else { break };
                    start = [&**last, &[0]].concat();
                    out.extend(
                        found
                            .iter()
                            .filter_map(|(key, value)| optout::entry(names, key, value)),
                    );
                }
                out.truncate(limit);
                Ok(out)
            })
            .await
    }

    /// Entries of the opt-out registry.
    pub fn opt_outs(&self) -> usize {
        self.inner.opt_outs.len()
    }

    pub async fn get_meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let key = keys::meta(key);
        self.inner
            .read(move |engine| Ok(engine.get(&key)?.map(|v| v.to_vec())))
            .await
    }

    /// Entries whose key begins with `prefix`, in order, at most `limit`.
    pub async fn scan_meta(
        &self,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let prefix = keys::meta(prefix);
        self.inner
            .read(move |engine| {
                let name = |key: &[u8]| {
                    std::str::from_utf8(key.strip_prefix(keys::META)?)
                        .ok()
                        .map(str::to_owned)
                };
                let found = engine.scan_prefix(&prefix, limit)?;
                Ok(found
                    .into_iter()
                    .filter_map(|(k, v)| Some((name(&k)?, v.to_vec())))
                    .collect())
            })
            .await
    }

    /// Parts of inbound messages that were incomplete when the last process ended.
    pub async fn fragments(&self) -> Vec<Fragment> {
        let found = self
            .inner
            .read(|engine| engine.scan_prefix(keys::FRAGMENT, FRAGMENTS_MAX))
            .await;
        let found = found.unwrap_or_else(|error| {
            tracing::error!(%error, "parts of inbound messages cannot be read");
            Vec::new()
        });
        found
            .iter()
            .filter_map(|(_, value)| records::decode_fragment(value).ok())
            .collect()
    }

    /// `digest`: lower-case hexadecimal; whoever calls has checked it against the content.
    pub async fn put_blob(&self, digest: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.inner.shared.check_intake()?;
        let (directory, digest) = (self.inner.blobs.clone(), digest.to_owned());
        self.inner
            .read(move |_| blobs::put(&directory, &digest, &bytes))
            .await
    }

    pub async fn get_blob(&self, digest: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let (directory, digest) = (self.inner.blobs.clone(), digest.to_owned());
        self.inner
            .read(move |_| blobs::get(&directory, &digest))
            .await
    }

    pub async fn delete_blob(&self, digest: &str) -> Result<(), StoreError> {
        let (directory, digest) = (self.inner.blobs.clone(), digest.to_owned());
        self.inner
            .read(move |_| blobs::delete(&directory, &digest))
            .await
    }

    pub async fn list_blobs(&self) -> Result<Vec<String>, StoreError> {
        let directory = self.inner.blobs.clone();
        self.inner.read(move |_| blobs::list(&directory)).await
    }
}

/// The receipt that is filed under this key first; none where the key is another of the same one.
pub(super) fn orphan_at(key: &[u8], value: &[u8]) -> Result<Option<OrphanReceipt>, StoreError> {
    let orphan = records::decode_orphan(value).map_err(damage)?;
    let first = orphan.keys.first().map(String::as_str);
    let Some(carrier) = keys::carrier_of(key).filter(|_| first == keys::correlated_id(key)) else {
        return Ok(None);
    };
    Ok(Some(OrphanReceipt {
        carrier,
        receipt: orphan.receipt,
        received_at: orphan.received_at,
        keys: orphan.keys,
    }))
}

pub(super) fn is(record: &[u8], kind: Kind) -> bool {
    records::kind_of(record) == Some(kind as u8)
}

/// The lowest id of a time.
pub(super) fn first_id(at: Option<Timestamp>) -> MessageId {
    MessageId(at.map_or(0, |at| u128::from(at.0 & 0xFFFF_FFFF_FFFF) << 80))
}

fn list_messages(
    engine: &Engine,
    filter: &Filter,
    cursor: Option<MessageId>,
    limit: usize,
) -> Result<Page<Message>, StoreError> {
    let until = filter.until.map(|at| first_id(Some(at)));
    let before = match (cursor, until) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    page(
        engine,
        before,
        first_id(filter.since),
        LIST_READS_MAX,
        limit,
        |record| {
            if !is(record, Kind::Message) {
                return Ok(None);
            }
            let message = records::decode_message(record).map_err(damage)?;
            Ok(Some(message).filter(|m| passes(m, filter)))
        },
    )
}

fn passes(message: &Message, filter: &Filter) -> bool {
    filter
        .account
        .as_ref()
        .is_none_or(|a| *a == message.account)
        && filter.status.is_none_or(|s| s == message.state)
        && filter
            .to
            .as_ref()
            .is_none_or(|to| *to == message.recipient.value)
        && filter
            .from
            .as_ref()
            .is_none_or(|from| *from == message.originator.value)
        && filter.class.is_none_or(|c| c == message.class)
}

fn page<T>(
    engine: &Engine,
    before: Option<MessageId>,
    since: MessageId,
    reads_max: usize,
    limit: usize,
    mut pick: impl FnMut(&Value) -> Result<Option<T>, StoreError>,
) -> Result<Page<T>, StoreError> {
    let mut before = before.unwrap_or(MessageId(u128::MAX));
    let (mut items, mut reads) = (Vec::new(), 0);
    while reads < reads_max {
        let chunk = LIST_CHUNK.min(reads_max - reads);
        let found = engine.records_before(before, since, chunk)?;
        let complete = found.len() < chunk;
        reads += found.len();
        for (id, record) in found {
            before = id;
            items.extend(pick(&record)?);
            if items.len() >= limit {
                return Ok(Page {
                    items,
                    next: Some(before),
                });
            }
        }
        if complete {
            return Ok(Page { items, next: None });
        }
    }
    Ok(Page {
        items,
        next: Some(before),
    })
}
