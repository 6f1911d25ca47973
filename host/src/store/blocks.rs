//! Records packed into sled values: all records of one millisecond share a chain of blocks, since
//! sled's cost is per key and leaf, not per octet. Knows sled trees and ids, not what a record says.
//!
//! A block is: flags (another block follows; the rest is sealed), then per record its id (16 octets), its length and
//! its octets. Its key: `m`, milliseconds (6 octets), number in the chain.

use std::borrow::Cow;

use super::bytes::{Reader, put_bytes};
use super::engine::{Value, gone_is_none, sled_error};
use super::sealing::Seals;
use super::types::StoreError;
use crate::domain::MessageId;

/// A block takes no new record beyond this.
const BLOCK_OCTETS: usize = 8 * 1024;
const CHAIN_MAX: usize = 256;
/// Where a block's key begins.
pub(super) const LETTER: u8 = b'm';

const MORE: u8 = 1;
const SEALED: u8 = 2;

/// The millisecond that an id carries.
pub(super) fn bucket(id: MessageId) -> u64 {
    id.timestamp().millis()
}

#[derive(Default)]
pub(super) struct Block {
    records: Vec<(MessageId, Vec<u8>)>,
    octets: usize,
    changed: bool,
}

impl Block {
    /// Replaces the record where one of the chain's blocks has it, or adds it to the last.
    pub fn put(chain: &mut Vec<Block>, id: MessageId, value: &[u8]) {
        for block in chain.iter_mut() {
            if let Some((_, old)) = block.records.iter_mut().find(|(i, _)| *i == id) {
                block.octets = block.octets - old.len() + value.len();
                *old = value.to_vec();
                block.changed = true;
                return;
            }
        }
        if chain.last().is_none_or(|b| b.octets >= BLOCK_OCTETS) && chain.len() < CHAIN_MAX {
            if let Some(last) = chain.last_mut() {
                last.changed = true;
            }
            chain.push(Block::default());
        }
        if let Some(last) = chain.last_mut() {
            last.octets += value.len();
            last.records.push((id, value.to_vec()));
            last.changed = true;
        }
    }
}

pub(super) fn load(
    tree: &sled::Tree,
    seals: Option<&Seals>,
    bucket: u64,
) -> Result<Vec<Block>, StoreError> {
    let mut chain = Vec::new();
    while chain.len() < CHAIN_MAX {
        let key = key(bucket, chain.len());
        let Some(octets) = tree.get(key).map_err(sled_error)? else {
            break;
        };
        let (more, records) = opened(seals, &key, &octets)?;
        let mut block = Block::default();
        each(&records, |id, value| {
            block.octets += value.len();
            block.records.push((id, value.to_vec()));
        });
        chain.push(block);
        if !more {
            break;
        }
    }
    Ok(chain)
}

pub(super) fn store(
    tree: &sled::Tree,
    seals: Option<&Seals>,
    bucket: u64,
    chain: &[Block],
) -> Result<usize, StoreError> {
    let mut written = 0;
    for (n, block) in chain.iter().enumerate().filter(|(_, b)| b.changed) {
        let more = if n + 1 < chain.len() { MORE } else { 0 };
        let mut out = Vec::with_capacity(block.octets + block.records.len() * 19 + 1);
        out.push(more);
        for (id, value) in &block.records {
            out.extend_from_slice(&id.0.to_be_bytes());
            put_bytes(&mut out, value);
        }
        let key = key(bucket, n);
        if let Some(seals) = seals {
            out = sealed(seals, &key, more, &out[1..])?;
        }
        written += out.len();
        tree.insert(key, out).map_err(sled_error)?;
    }
    Ok(written)
}

pub(super) fn find(
    tree: &sled::Tree,
    seals: Option<&Seals>,
    id: MessageId,
) -> Result<Option<Value>, StoreError> {
    let bucket = bucket(id);
    for n in 0..CHAIN_MAX {
        let key = key(bucket, n);
        let Some(octets) = gone_is_none(tree.get(key))? else {
            return Ok(None);
        };
        let (more, records) = opened(seals, &key, &octets)?;
        let mut found = None;
        each(&records, |i, value| {
            if i == id {
                found = Some(Value::from(value));
            }
        });
        if found.is_some() || !more {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Hands over the records with ids from `since` up to `before`, a block at a time from the newest
/// on. True where `limit` or `since` was reached.
pub(super) fn before(
    (tree, seals): (&sled::Tree, Option<&Seals>),
    before: MessageId,
    since: MessageId,
    limit: usize,
    each_record: &mut dyn FnMut(MessageId, &[u8]),
) -> Result<bool, StoreError> {
    let mut left = limit;
    let mut finished = None;
    let end = key(bucket(before), CHAIN_MAX - 1);
    for item in tree.range(key(0, 0)..=end).rev() {
        let Some((key, octets)) = gone_is_none(item.map(Some))? else {
            return Ok(left == 0);
        };
        let at = millis(&key);
        // A millisecond is handed over whole, because its blocks are not in order of ids.
        if left == 0 && finished != Some(at) || at < bucket(since) {
            return Ok(true);
        }
        let (_, records) = opened(seals, &key, &octets)?;
        each(&records, |id, value| {
            if id < before && id >= since {
                left = left.saturating_sub(1);
                each_record(id, value);
            }
        });
        if left == 0 {
            finished = Some(at);
        }
    }
    Ok(left == 0)
}

/// Whether another block follows, and the records.
fn opened<'a>(
    seals: Option<&Seals>,
    key: &[u8],
    octets: &'a [u8],
) -> Result<(bool, Cow<'a, [u8]>), StoreError> {
    let Some((flags, rest)) = octets.split_first() else {
        return Ok((false, Cow::Borrowed(octets)));
    };
    let more = flags & MORE != 0;
    if flags & SEALED == 0 {
        return Ok((more, Cow::Borrowed(rest)));
    }
    let seals = seals
        .ok_or_else(|| StoreError::Corrupt("records are sealed, and the store is not".into()))?;
    let records = seals.open(&[key, &[*flags]].concat(), rest)?;
    Ok((more, Cow::Owned(records)))
}

fn sealed(seals: &Seals, key: &[u8], more: u8, records: &[u8]) -> Result<Vec<u8>, StoreError> {
    let flags = more | SEALED;
    let mut out = vec![flags];
    seals.seal(&[key, &[flags]].concat(), records, &mut out)?;
    Ok(out)
}

/// What an entry of a day's tree is under the newest key; none where it is that already, or no block.
pub(super) fn resealed(
    seals: &Seals,
    key: &[u8],
    octets: &[u8],
) -> Result<Option<Vec<u8>>, StoreError> {
    let Some((flags, rest)) = octets.split_first().filter(|_| key.first() == Some(&b'm')) else {
        return Ok(None);
    };
    if flags & SEALED != 0 && seals.is_newest(rest) {
        return Ok(None);
    }
    let (_, records) = opened(Some(seals), key, octets)?;
    sealed(seals, key, flags & MORE, &records).map(Some)
}

/// Reads as far as the octets make sense.
pub(super) fn each<'a>(records: &'a [u8], mut take: impl FnMut(MessageId, &'a [u8])) {
    let mut reader = Reader::new(records);
    while let (Ok(id), Ok(value)) = (reader.u128(), reader.bytes()) {
        take(MessageId(id), value);
    }
}

/// The records of a block as it is on disk.
pub(super) fn records<'a>(
    seals: Option<&Seals>,
    key: &[u8],
    octets: &'a [u8],
) -> Result<Cow<'a, [u8]>, StoreError> {
    opened(seals, key, octets).map(|(_, records)| records)
}

/// The first millisecond of what a block may hold, as an id.
pub(super) fn first_id(key: &[u8]) -> MessageId {
    MessageId(u128::from(millis(key)) << 80)
}

fn key(bucket: u64, n: usize) -> [u8; 8] {
    let mut key = (bucket << 8 | n as u64 & 0xFF).to_be_bytes();
    key[0] = LETTER;
    // Milliseconds take 48 bits (RFC 9562, 5.7): seven octets remain for them and the number.
    key
}

fn millis(key: &[u8]) -> u64 {
    key.try_into()
        .map_or(0, |k| (u64::from_be_bytes(k) & 0x00FF_FFFF_FFFF_FFFF) >> 8)
}
