//! Keys of the store: which octets lead to which record. One letter says the kind; numbers are
//! big-endian, so that keys sort as times do.
//!
//! ```text
//! kept in one tree:
//! d <lane u16> <due u64> <id>          due index: when a message is next to be worked on
//! c <carrier> 00 <carrier message id>  a segment that waits for its receipt
//! o <carrier> 00 <carrier message id>  a receipt whose message is not known yet
//! b <carrier>                          what a carrier's receipts have taught of it
//! f <claim u64>                        a claimed batch: may be on the wire
//! w <due u64> <event>                  webhook outbox, by next attempt
//! e <system_id> 00 <due u64> <event>   the same of what waits for an ESME
//! v <event>                            dead letters of both
//! g <carrier> 00 <from> 00 <to> 00 <concatenation>  a part of an incomplete inbound message
//! y <account> 00 <number> 00 <handset> 00 <~id>  a conversation's messages, newest first (~: inverted)
//! h <account> 00 <number> 00 <handset>  a conversation's newest inbound message
//! n <account> 00 <~id>                 inbound messages of an account, or of nobody, newest first
//! q <carrier> 00 <id>                  a text that its provider's call-back is stored once for
//! l <lane u16>                         a lane's name
//! k                                    the ledger: sequence and counts
//! u <scope> <name> 00 <recipient>      opt-out registry
//! r <window u32> <sequence u64>        recency counts to add
//! z <time u64> <generation u64> <piece u16>  segments that have reported, by fingerprint
//! s <namespace> 00 <key>               plugin state
//! x <key>                              whatever the floors above keep: policy history, tables
//! kept in the tree of their day:
//! m <id>                               a message or an inbound message (packed, see engine.rs)
//! i <day u32> <account> 00 <key>       idempotency key
//! ```
//!
//! In a store that is sealed a keyed hash stands in the place of what clients and handsets wrote
//! (numbers, opt-outs' names, keys of plugin state and of idempotency); where a reader wants the names
//! themselves, the value begins with them.

use super::bytes::{Reader, put_str};
use super::sealing::Names;
use crate::clock::Timestamp;
use crate::domain::text::Concat;
use crate::domain::{AccountId, Address, CarrierId, MessageId};

pub(super) type Key = Box<[u8]>;

pub(super) const LEDGER: &[u8] = b"k";
pub(super) const IDEMPOTENCY: u8 = b'i';
pub(super) const WEBHOOK: &[u8] = b"w";
pub(super) const DELIVERY: &[u8] = b"e";
pub(super) const DUE: &[u8] = b"d";
pub(super) const CORRELATION: &[u8] = b"c";
pub(super) const ORPHAN: &[u8] = b"o";
pub(super) const LESSONS: &[u8] = b"b";
pub(super) const CLAIM: &[u8] = b"f";
pub(super) const LANE: &[u8] = b"l";
pub(super) const DEAD: &[u8] = b"v";
pub(super) const WISH: &[u8] = b"u";
pub(super) const RECENT: &[u8] = b"r";
pub(super) const STATE: &[u8] = b"s";
pub(super) const FRAGMENT: &[u8] = b"g";
pub(super) const META: &[u8] = b"x";
pub(super) const THREAD: &[u8] = b"y";
pub(super) const THREAD_HEAD: &[u8] = b"h";
pub(super) const INBOUND: &[u8] = b"n";
pub(super) const SETTLED: &[u8] = b"z";
pub(super) const ONCE: &[u8] = b"q";

fn join(parts: &[&[u8]]) -> Key {
    parts.concat().into_boxed_slice()
}

/// All of one lane's due entries.
pub(super) fn lane_prefix(lane: u16) -> Vec<u8> {
    [DUE, &lane.to_be_bytes()].concat()
}

/// An entry of a queue: `prefix`, time, id.
pub(super) fn queue_key(prefix: &[u8], at: Timestamp, id: u128) -> Key {
    join(&[prefix, &at.0.to_be_bytes(), &id.to_be_bytes()])
}

/// All that waits for an ESME.
pub(super) fn deliveries(system_id: &str) -> Key {
    join(&[DELIVERY, system_id.as_bytes(), &[0]])
}

/// Time and id of a queue's entry; `None` where the key is none.
pub(super) fn queue_entry(prefix: &[u8], key: &[u8]) -> Option<(Timestamp, u128)> {
    let rest: &[u8; 24] = key.strip_prefix(prefix)?.try_into().ok()?;
    let (at, id) = rest.split_first_chunk::<8>()?;
    Some((
        Timestamp(u64::from_be_bytes(*at)),
        u128::from_be_bytes(id.try_into().ok()?),
    ))
}

/// Lane, time and id of a due entry.
pub(super) fn due_entry(key: &[u8]) -> Option<(u16, Timestamp, MessageId)> {
    let lane = u16::from_be_bytes(key.get(1..3)?.try_into().ok()?);
    let (at, id) = queue_entry(&lane_prefix(lane), key)?;
    Some((lane, at, MessageId(id)))
}

/// Stands in for a correlation that no receipt can have (no carrier has an empty name): what ends
/// the wait of a segment whose carrier gave no id, or one that another segment has too.
pub(super) fn deadline(id: MessageId, part: u8) -> Key {
    join(&[CORRELATION, &[0], &id.0.to_be_bytes(), &[part]])
}

pub(super) fn correlation(carrier: &CarrierId, key: &str) -> Key {
    join(&[
        CORRELATION,
        carrier.as_str().as_bytes(),
        &[0],
        key.as_bytes(),
    ])
}

pub(super) fn orphan(carrier: &CarrierId, key: &str) -> Key {
    join(&[ORPHAN, carrier.as_str().as_bytes(), &[0], key.as_bytes()])
}

pub(super) fn once(carrier: &CarrierId, id: &str) -> Key {
    join(&[ONCE, carrier.as_str().as_bytes(), &[0], id.as_bytes()])
}

/// The orphan's key that stands beside this correlation key.
pub(super) fn orphan_of(correlation: &[u8]) -> Key {
    let mut key: Key = correlation.into();
    if let (Some(first), [letter]) = (key.first_mut(), ORPHAN) {
        *first = *letter;
    }
    key
}

pub(super) fn lessons(carrier: &CarrierId) -> Key {
    join(&[LESSONS, carrier.as_str().as_bytes()])
}

/// Whether this correlation key stands for a segment that no receipt can name.
pub(super) fn is_deadline(key: &[u8]) -> bool {
    key.get(1) == Some(&0)
}

/// The id in a correlation's or orphan's key.
pub(super) fn correlated_id(key: &[u8]) -> Option<&str> {
    let end = key.iter().position(|b| *b == 0)?;
    std::str::from_utf8(&key[end + 1..]).ok()
}

/// The carrier named in a correlation's or orphan's key.
pub(super) fn carrier_of(key: &[u8]) -> Option<CarrierId> {
    let name = key.get(1..)?.split(|b| *b == 0).next()?;
    std::str::from_utf8(name).ok().map(CarrierId::from)
}

pub(super) fn claim(number: u64) -> Key {
    join(&[CLAIM, &number.to_be_bytes()])
}

pub(super) fn lane_name(lane: u16) -> Key {
    join(&[LANE, &lane.to_be_bytes()])
}

pub(super) fn dead(event: u128) -> Key {
    join(&[DEAD, &event.to_be_bytes()])
}

pub(super) fn idempotency(names: &Names, day: u32, account: &AccountId, key: &str) -> Key {
    let hash = names.hash(&[IDEMPOTENCY], &[account.as_str(), key]);
    join(&[
        &[IDEMPOTENCY],
        &day.to_be_bytes(),
        account.as_str().as_bytes(),
        &[0],
        hash.as_ref().map_or(key.as_bytes(), |h| h),
    ])
}

/// The day of an idempotency key.
pub(super) fn idempotency_day(key: &[u8]) -> Option<u32> {
    match key.split_first()? {
        (&IDEMPOTENCY, rest) => Some(u32::from_be_bytes(*rest.first_chunk()?)),
        _ => None,
    }
}

pub(super) fn wish(names: &Names, scope: u8, name: &str, recipient: &str) -> Key {
    match names.hash(WISH, &[name, recipient]) {
        Some(hash) => join(&[WISH, &[scope], &hash]),
        None => join(&[WISH, &[scope], name.as_bytes(), &[0], recipient.as_bytes()]),
    }
}

/// Scope, name and recipient of an opt-out, and what its value says.
pub(super) fn wish_parts<'a>(
    names: &Names,
    key: &[u8],
    value: &'a [u8],
) -> Option<(u8, String, String, &'a [u8])> {
    let rest = key.strip_prefix(WISH)?;
    let (scope, rest) = rest.split_first()?;
    let (name, recipient, value) = pair(names, rest, value)?;
    Some((*scope, name, recipient, value))
}

/// A value under a key whose two names a reader will want.
pub(super) fn named(names: &Names, first: &str, second: &str, value: Vec<u8>) -> Vec<u8> {
    if !names.are_hashed() {
        return value;
    }
    let mut out = Vec::with_capacity(first.len() + second.len() + value.len() + 4);
    put_str(&mut out, first);
    put_str(&mut out, second);
    out.extend_from_slice(&value);
    out
}

/// The two names, out of the key or of the value.
fn pair<'a>(names: &Names, key: &[u8], value: &'a [u8]) -> Option<(String, String, &'a [u8])> {
    if names.are_hashed() {
        let mut reader = Reader::new(value);
        let (first, second) = (reader.string("name").ok()?, reader.string("name").ok()?);
        return Some((first, second, reader.rest()));
    }
    let end = key.iter().position(|b| *b == 0)?;
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    Some((text(&key[..end])?, text(&key[end + 1..])?, value))
}

pub(super) fn recent(window: u32, sequence: u64, piece: u32) -> Key {
    join(&[
        RECENT,
        &window.to_be_bytes(),
        &sequence.to_be_bytes(),
        &piece.to_be_bytes(),
    ])
}

pub(super) fn recent_window(key: &[u8]) -> Option<u32> {
    key.strip_prefix(RECENT)?
        .first_chunk()
        .map(|w| u32::from_be_bytes(*w))
}

pub(super) fn settled(at: Timestamp, generation: u64, piece: u16) -> Key {
    join(&[
        SETTLED,
        &at.0.to_be_bytes(),
        &generation.to_be_bytes(),
        &piece.to_be_bytes(),
    ])
}

/// When a piece of the memory of settled receipts was written.
pub(super) fn settled_at(key: &[u8]) -> Option<Timestamp> {
    let at = key.strip_prefix(SETTLED)?.first_chunk()?;
    Some(Timestamp(u64::from_be_bytes(*at)))
}

pub(super) fn state(names: &Names, namespace: &str, key: &str) -> Key {
    match names.hash(STATE, &[namespace, key]) {
        Some(hash) => join(&[STATE, &hash]),
        None => join(&[STATE, namespace.as_bytes(), &[0], key.as_bytes()]),
    }
}

/// Namespace and key of a plugin's value, and the value.
pub(super) fn state_parts<'a>(
    names: &Names,
    key: &[u8],
    value: &'a [u8],
) -> Option<(String, String, &'a [u8])> {
    pair(names, key.strip_prefix(STATE)?, value)
}

/// A part of an inbound message: what concatenation does not say is the same for all of them.
pub(super) fn fragment(
    names: &Names,
    carrier: &CarrierId,
    from: &Address,
    to: &Address,
    concat: Concat,
) -> Key {
    let who = [carrier.as_str(), &from.value, &to.value];
    let [high, low] = concat.reference.to_be_bytes();
    let mut key = match names.hash(FRAGMENT, &who) {
        Some(hash) => [FRAGMENT, &hash].concat(),
        None => zero_ended(FRAGMENT, &who),
    };
    key.extend_from_slice(&[high, low, concat.total, concat.index]);
    key.into_boxed_slice()
}

/// Sorts the newest first.
pub(super) fn inverted(id: MessageId) -> [u8; 16] {
    (!id.0).to_be_bytes()
}

/// The id that a key ends in, inverted.
pub(super) fn inverted_id(key: &[u8]) -> Option<MessageId> {
    let id = key.last_chunk::<16>()?;
    Some(MessageId(!u128::from_be_bytes(*id)))
}

fn zero_ended(prefix: &[u8], names: &[&str]) -> Vec<u8> {
    let mut key = prefix.to_vec();
    for name in names {
        key.extend_from_slice(name.as_bytes());
        key.push(0);
    }
    key
}

/// A number of ours and a handset, beside the account whose number it is.
pub(super) struct Parties<'a> {
    pub account: &'a AccountId,
    pub number: &'a str,
    pub handset: &'a str,
}

fn of_parties(names: &Names, prefix: &[u8], parties: &Parties<'_>) -> Key {
    let account = parties.account.as_str();
    let key = match names.hash(THREAD, &[parties.number, parties.handset]) {
        Some(hash) => [&zero_ended(prefix, &[account])[..], &hash].concat(),
        None => zero_ended(prefix, &[account, parties.number, parties.handset]),
    };
    key.into_boxed_slice()
}

/// All of one conversation.
pub(super) fn thread(names: &Names, parties: &Parties<'_>) -> Key {
    of_parties(names, THREAD, parties)
}

pub(super) fn thread_entry(names: &Names, parties: &Parties<'_>, id: MessageId) -> Key {
    join(&[&thread(names, parties), &inverted(id)])
}

pub(super) fn thread_head(names: &Names, parties: &Parties<'_>) -> Key {
    of_parties(names, THREAD_HEAD, parties)
}

/// The key that an entry of an unsealed store has in a sealed one, and its value there.
pub(super) fn hashed(names: &Names, key: &[u8], value: &[u8]) -> Option<(Key, Vec<u8>)> {
    let plain = Names::default();
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    Some(match key.get(..1)? {
        WISH => {
            let (scope, name, recipient, wish) = wish_parts(&plain, key, value)?;
            let value = named(names, &name, &recipient, wish.to_vec());
            (self::wish(names, scope, &name, &recipient), value)
        }
        STATE => {
            let (namespace, name, state) = state_parts(&plain, key, value)?;
            let value = named(names, &namespace, &name, state.to_vec());
            (self::state(names, &namespace, &name), value)
        }
        FRAGMENT => {
            let f = super::records::decode_fragment(value).ok()?;
            let key = fragment(names, &f.carrier, &f.originator, &f.recipient, f.concat);
            (key, value.to_vec())
        }
        THREAD | THREAD_HEAD => {
            let mut parts = key[1..].splitn(4, |b| *b == 0);
            let account = AccountId::from(&*text(parts.next()?)?);
            let (number, handset) = (text(parts.next()?)?, text(parts.next()?)?);
            let parties = Parties {
                account: &account,
                number: &number,
                handset: &handset,
            };
            let prefix = key.get(..1)?;
            let key = join(&[&of_parties(names, prefix, &parties), parts.next()?]);
            (key, value.to_vec())
        }
        _ => (key.into(), value.to_vec()),
    })
}

/// All inbound messages of an account, or of nobody.
pub(super) fn inbound_list(account: Option<&AccountId>) -> Key {
    zero_ended(INBOUND, &[account.map_or("", AccountId::as_str)]).into_boxed_slice()
}

pub(super) fn inbound_entry(account: Option<&AccountId>, id: MessageId) -> Key {
    join(&[&inbound_list(account), &inverted(id)])
}

pub(super) fn meta(key: &str) -> Key {
    join(&[META, key.as_bytes()])
}

/// The first key behind all those that begin with `prefix`.
pub(super) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_keys_sort_by_time_then_id() {
        let prefix = lane_prefix(7);
        let early = queue_key(&prefix, Timestamp(255), u128::MAX);
        let late = queue_key(&prefix, Timestamp(256), 0);
        assert!(early < late);
        assert_eq!(due_entry(&late), Some((7, Timestamp(256), MessageId(0))));
    }

    #[test]
    fn keys_of_another_shape_are_no_queue_entries() {
        assert_eq!(due_entry(b"d"), None);
        assert_eq!(due_entry(b"d\x00\x01short"), None);
        assert_eq!(queue_entry(WEBHOOK, b"x"), None);
    }

    #[test]
    fn the_end_of_a_prefix_is_the_next_one() {
        assert_eq!(after_prefix(b"d\xFF\xFF"), Some(b"e".to_vec()));
        assert_eq!(after_prefix(b"\xFF"), None);
    }
}
