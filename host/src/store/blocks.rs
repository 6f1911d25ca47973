//! Records packed into sled values: all records of one millisecond share a chain of blocks, since
//! sled's cost is per key and leaf, not per octet. Knows sled trees and ids, not what a record says.
//!
//! A block is: a flag (another block follows), then per record its id (16 octets), its length and
//! its octets. Its key: `m`, milliseconds (6 octets), number in the chain.

use super::bytes::{Reader, put_bytes};
use super::engine::Value;
use crate::domain::MessageId;

/// A block takes no new record beyond this.
const BLOCK_OCTETS: usize = 8 * 1024;
const CHAIN_MAX: usize = 256;

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

pub(super) fn load(tree: &sled::Tree, bucket: u64) -> sled::Result<Vec<Block>> {
    let mut chain = Vec::new();
    while chain.len() < CHAIN_MAX {
        let Some(octets) = tree.get(key(bucket, chain.len()))? else {
            break;
        };
        let mut block = Block::default();
        let more = each(&octets, |id, value| {
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

pub(super) fn store(tree: &sled::Tree, bucket: u64, chain: &[Block]) -> sled::Result<()> {
    for (n, block) in chain.iter().enumerate().filter(|(_, b)| b.changed) {
        let mut out = Vec::with_capacity(block.octets + block.records.len() * 19 + 1);
        out.push(u8::from(n + 1 < chain.len()));
        for (id, value) in &block.records {
            out.extend_from_slice(&id.0.to_be_bytes());
            put_bytes(&mut out, value);
        }
        tree.insert(key(bucket, n), out)?;
    }
    Ok(())
}

pub(super) fn find(tree: &sled::Tree, id: MessageId) -> sled::Result<Option<Value>> {
    let bucket = bucket(id);
    for n in 0..CHAIN_MAX {
        let Some(octets) = tree.get(key(bucket, n))? else {
            return Ok(None);
        };
        let mut found = None;
        let more = each(&octets, |i, value| {
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
    tree: &sled::Tree,
    before: MessageId,
    since: MessageId,
    limit: usize,
    each_record: &mut dyn FnMut(MessageId, &[u8]),
) -> sled::Result<bool> {
    let mut left = limit;
    let mut finished = None;
    let end = key(bucket(before), CHAIN_MAX - 1);
    for item in tree.range(key(0, 0)..=end).rev() {
        let (at, octets) = item?;
        let at = millis(&at);
        // A millisecond is handed over whole, because its blocks are not in order of ids.
        if left == 0 && finished != Some(at) || at < bucket(since) {
            return Ok(true);
        }
        each(&octets, |id, value| {
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

/// Reads as far as the octets make sense; true where another block follows.
fn each<'a>(octets: &'a [u8], mut take: impl FnMut(MessageId, &'a [u8])) -> bool {
    let mut reader = Reader::new(octets);
    let more = reader.u8().is_ok_and(|flag| flag != 0);
    while let (Ok(id), Ok(value)) = (reader.u128(), reader.bytes()) {
        take(MessageId(id), value);
    }
    more
}

fn key(bucket: u64, n: usize) -> [u8; 8] {
    let mut key = (bucket << 8 | n as u64 & 0xFF).to_be_bytes();
    key[0] = b'm';
    // Milliseconds take 48 bits (RFC 9562, 5.7): seven octets remain for them and the number.
    key
}

fn millis(key: &[u8]) -> u64 {
    key.try_into()
        .map_or(0, |k| (u64::from_be_bytes(k) & 0x00FF_FFFF_FFFF_FFFF) >> 8)
}
