//! Octets on disk: every record that the store keeps, versioned, checksummed and lean. The only
//! place that knows them, with `message_record.rs` for the message's own fields; keys are next door
//! in `keys.rs`, and no other file of the project reads or writes either.
//!
//! A record is: format version (1 octet), kind (1 octet), fields, CRC-32 (4 octets). A reader
//! refuses a version it does not know by name, so that an older release never misreads newer data.

use super::bytes::{Damage, Reader, put_bytes, put_near, put_str, put_varint};
use super::message_record;
use super::types::{Fragment, InboundRecord, OutboxEntry, OutboxKind, OutboxTarget};
use crate::clock::Timestamp;
use crate::domain::receipt::{Evidence, IdForm, IdMemory, Per, Receipt, ReceiptStyle, Report};
use crate::domain::text::Concat;
use crate::domain::{
    AccountId, Address, Body, CarrierId, Inbound, Message, MessageId, NumberingPlan, PartState,
    State, TypeOfNumber,
};

pub(super) const VERSION: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Message = 1,
    Inbound = 2,
    Outbox = 3,
    Orphan = 4,
    Ledger = 5,
    Fragment = 6,
    Lessons = 7,
}

/// Which kind of record these octets claim to be, without reading them.
pub(super) fn kind_of(bytes: &[u8]) -> Option<u8> {
    bytes.get(1).copied()
}

pub(super) fn encode_message(message: &Message, out: &mut Vec<u8>) {
    seal(out, Kind::Message, |out| {
        message_record::write(message, out)
    });
}

pub(super) fn decode_message(bytes: &[u8]) -> Result<Message, Damage> {
    unseal(bytes, Kind::Message, message_record::read)
}

pub(super) fn encode_inbound(record: &InboundRecord, out: &mut Vec<u8>) {
    seal(out, Kind::Inbound, |out| {
        let inbound = &record.inbound;
        out.extend_from_slice(&inbound.id.0.to_be_bytes());
        put_str(out, inbound.carrier.as_str());
        put_address(out, &inbound.originator);
        put_address(out, &inbound.recipient);
        put_body(out, &inbound.body);
        put_varint(out, inbound.received_at.0);
        out.push(
            u8::from(inbound.opted_out)
                | u8::from(record.consumed) << 1
                | u8::from(record.system_id.is_some()) << 2
                | u8::from(record.in_reply_to.is_some()) << 3,
        );
        put_option(out, record.account.as_ref(), |out, a| {
            put_str(out, a.as_str())
        });
        put_list(out, &record.labels, |out, l| put_str(out, l));
        put_option(out, record.webhook_url.as_deref(), put_str);
        if let Some(system_id) = &record.system_id {
            put_str(out, system_id);
        }
        if let Some(id) = record.in_reply_to {
            out.extend_from_slice(&id.0.to_be_bytes());
        }
    });
}

pub(super) fn decode_inbound(bytes: &[u8]) -> Result<InboundRecord, Damage> {
    unseal(bytes, Kind::Inbound, |r| {
        let id = MessageId(r.u128()?);
        let carrier = CarrierId::from(r.str("carrier")?);
        let (originator, recipient, body) = (address(r)?, address(r)?, body(r)?);
        let received_at = Timestamp(r.varint()?);
        let flags = flags(r, 0b1111)?;
        Ok(InboundRecord {
            inbound: Inbound {
                id,
                carrier,
                originator,
                recipient,
                body,
                received_at,
                opted_out: flags & 1 != 0,
            },
            consumed: flags & 2 != 0,
            account: option(r, |r| Ok(AccountId::from(r.str("account")?)))?,
            labels: r.list(|r| r.string("label"))?,
            webhook_url: option(r, |r| r.string("webhook_url"))?,
            system_id: match flags & 4 {
                0 => None,
                _ => Some(r.string("system_id")?),
            },
            in_reply_to: match flags & 8 {
                0 => None,
                _ => Some(MessageId(r.u128()?)),
            },
        })
    })
}

pub(super) fn encode_outbox(entry: &OutboxEntry, out: &mut Vec<u8>) {
    seal(out, Kind::Outbox, |out| {
        out.extend_from_slice(&entry.event.to_be_bytes());
        put_str(out, entry.account.as_str());
        let (target, bit) = match &entry.target {
            OutboxTarget::Url(url) => (url.as_str(), 0),
            OutboxTarget::Esme(system_id) => (&**system_id, OUTBOX_ESME),
        };
        put_str(out, target);
        out.push(
            match entry.kind {
                OutboxKind::Inbound => OUTBOX_INBOUND,
                OutboxKind::Status(state) => state as u8,
            } ^ bit,
        );
        out.extend_from_slice(&entry.message.0.to_be_bytes());
        put_varint(out, entry.at.0);
        put_near(out, entry.at.0, entry.due.0);
        put_varint(out, u64::from(entry.attempts));
    });
}

pub(super) fn decode_outbox(bytes: &[u8]) -> Result<OutboxEntry, Damage> {
    unseal(bytes, Kind::Outbox, |r| {
        let event = r.u128()?;
        let account = AccountId::from(r.str("account")?);
        let target = r.string("target")?;
        let octet = r.u8()?;
        // The highest bit is set for an inbound message alone, so the next one tells the target.
        let inbound = octet | OUTBOX_ESME == OUTBOX_INBOUND;
        let esme = (octet & OUTBOX_ESME != 0) != inbound;
        let kind = match inbound {
            true => OutboxKind::Inbound,
            false => OutboxKind::Status(
                State::from_u8(octet & !OUTBOX_ESME).ok_or(Damage::Field("state"))?,
            ),
        };
        let target = match esme {
            true => OutboxTarget::Esme(target.into()),
            false => OutboxTarget::Url(target),
        };
        let message = MessageId(r.u128()?);
        let at = Timestamp(r.varint()?);
        let due = Timestamp(r.near(at.0)?);
        let attempts = u32::try_from(r.varint()?).map_err(|_| Damage::Field("attempts"))?;
        Ok(OutboxEntry {
            event,
            account,
            target,
            kind,
            message,
            at,
            due,
            attempts,
        })
    })
}

const OUTBOX_INBOUND: u8 = 255;
/// Flipped in the kind's octet where an ESME is to be told.
const OUTBOX_ESME: u8 = 0x40;

/// A receipt whose message is not known yet, or is leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Orphan {
    pub receipt: Receipt,
    pub style: ReceiptStyle,
    pub received_at: Timestamp,
    /// All candidates under which it is filed.
    pub keys: Vec<String>,
}

pub(super) fn encode_orphan(orphan: &Orphan, out: &mut Vec<u8>) {
    seal(out, Kind::Orphan, |out| {
        let (report, evidence) = (&orphan.receipt.report, &orphan.receipt.evidence);
        out.push(report.state as u8);
        put_str(out, &report.error);
        put_varint(out, orphan.received_at.0);
        put_option(out, report.done_at.as_ref(), |out, t| {
            put_near(out, orphan.received_at.0, t.0)
        });
        put_list(out, &orphan.keys, |out, k| put_str(out, k));
        // Releases before this field wrote no more than that.
        put_str(out, &orphan.receipt.id);
        put_option(out, report.network_type.as_ref(), |out, n| out.push(*n));
        put_list(out, &evidence.addresses, |out, a| put_str(out, a));
        put_option(out, evidence.reference.as_ref(), |out, n| {
            out.extend_from_slice(&n.to_be_bytes());
        });
        out.push(form_code(orphan.style.id_form));
        out.push(place(&Per::ALL, orphan.style.per));
    });
}

pub(super) fn decode_orphan(bytes: &[u8]) -> Result<Orphan, Damage> {
    unseal(bytes, Kind::Orphan, |r| {
        let state = PartState::from_u8(r.u8()?).ok_or(Damage::Field("state"))?;
        let error = r.string("error")?;
        let received_at = Timestamp(r.varint()?);
        let done_at = option(r, |r| Ok(Timestamp(r.near(received_at.0)?)))?;
        let keys = r.list(|r| r.string("key"))?;
        let mut orphan = Orphan {
            receipt: Receipt {
                id: keys.first().cloned().unwrap_or_default(),
                report: Report {
                    state,
                    error,
                    network_type: None,
                    done_at,
                },
                evidence: Evidence::default(),
            },
            style: ReceiptStyle::default(),
            received_at,
            keys,
        };
        if !r.is_empty() {
            orphan.receipt.id = r.string("id")?;
            orphan.receipt.report.network_type = option(r, |r| r.u8())?;
            orphan.receipt.evidence = Evidence {
                addresses: r.list(|r| r.string("address"))?,
                reference: option(r, |r| Ok(u16::from_be_bytes(r.array()?)))?,
            };
            orphan.style = ReceiptStyle {
                id_form: form_of(r.u8()?)?,
                per: placed(&Per::ALL, r.u8()?)?,
            };
        }
        Ok(orphan)
    })
}

/// A closed set's member as its place in the set, which only ever grows at its end.
fn place<T: PartialEq>(all: &[T], one: T) -> u8 {
    let place = all.iter().position(|x| *x == one).unwrap_or(0);
    u8::try_from(place).unwrap_or(0)
}

fn placed<T: Copy>(all: &[T], place: u8) -> Result<T, Damage> {
    let one = all.get(usize::from(place));
    one.copied().ok_or(Damage::Field("place in a closed set"))
}

/// What a carrier's receipts have taught of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lessons {
    pub ids: IdMemory,
    pub per: Option<Per>,
}

pub(super) fn encode_lessons(lessons: &Lessons, out: &mut Vec<u8>) {
    seal(out, Kind::Lessons, |out| {
        put_option(out, lessons.ids.learned.as_ref(), |out, form| {
            out.push(form_code(*form));
        });
        put_list(out, &lessons.ids.votes, |out, n| {
            put_varint(out, u64::from(*n))
        });
        put_varint(out, u64::from(lessons.ids.undecided));
        put_option(out, lessons.per.as_ref(), |out, per| {
            out.push(place(&Per::ALL, *per))
        });
    });
}

pub(super) fn decode_lessons(bytes: &[u8]) -> Result<Lessons, Damage> {
    let number =
        |r: &mut Reader<'_>| u32::try_from(r.varint()?).map_err(|_| Damage::Field("votes"));
    unseal(bytes, Kind::Lessons, |r| {
        let mut lessons = Lessons::default();
        lessons.ids.learned = option(r, |r| form_of(r.u8()?))?;
        for (place, votes) in r.list(number)?.into_iter().enumerate() {
            let slot = lessons.ids.votes.get_mut(place);
            *slot.ok_or(Damage::Field("votes"))? = votes;
        }
        lessons.ids.undecided = number(r)?;
        lessons.per = option(r, |r| placed(&Per::ALL, r.u8()?))?;
        Ok(lessons)
    })
}

/// Numbers on disk, whatever order the forms are listed in.
fn form_code(form: IdForm) -> u8 {
    match form {
        IdForm::Auto => 0,
        IdForm::AsIs => 1,
        IdForm::HexInResponse => 2,
        IdForm::DecimalInResponse => 3,
        IdForm::DashesInResponse => 4,
        IdForm::DashesInReceipt => 5,
    }
}

fn form_of(code: u8) -> Result<IdForm, Damage> {
    let found = IdForm::ALL.into_iter().find(|f| form_code(*f) == code);
    found.ok_or(Damage::Field("id form"))
}

pub(super) fn encode_fragment(fragment: &Fragment, out: &mut Vec<u8>) {
    seal(out, Kind::Fragment, |out| {
        put_str(out, fragment.carrier.as_str());
        put_address(out, &fragment.originator);
        put_address(out, &fragment.recipient);
        out.push(fragment.data_coding);
        put_bytes(out, &fragment.udh);
        put_bytes(out, &fragment.payload);
        out.extend_from_slice(&fragment.concat.reference.to_be_bytes());
        out.extend_from_slice(&[fragment.concat.total, fragment.concat.index]);
        put_varint(out, fragment.received_at.0);
    });
}

pub(super) fn decode_fragment(bytes: &[u8]) -> Result<Fragment, Damage> {
    unseal(bytes, Kind::Fragment, |r| {
        Ok(Fragment {
            carrier: CarrierId::from(r.str("carrier")?),
            originator: address(r)?,
            recipient: address(r)?,
            data_coding: r.u8()?,
            udh: r.bytes()?.to_vec(),
            payload: r.bytes()?.to_vec(),
            concat: Concat {
                reference: u16::from_be_bytes(r.array()?),
                total: r.u8()?,
                index: r.u8()?,
            },
            received_at: Timestamp(r.varint()?),
        })
    })
}

/// What the store knows about itself, rewritten with every commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    /// Number of the commit that wrote it.
    pub sequence: u64,
    /// Messages ever accepted.
    pub accepted: u64,
    pub orphans: u64,
    pub outbox: u64,
    pub dead: u64,
    pub awaiting: u64,
    /// Number of the last claim.
    pub claim: u64,
    /// Messages not yet terminal, by day of acceptance.
    pub live: std::collections::BTreeMap<u32, u64>,
    /// Due entries by lane number.
    pub queued: std::collections::BTreeMap<u16, u64>,
}

pub(super) fn encode_ledger(ledger: &Ledger, out: &mut Vec<u8>) {
    seal(out, Kind::Ledger, |out| {
        for n in [
            ledger.sequence,
            ledger.accepted,
            ledger.orphans,
            ledger.outbox,
            ledger.dead,
            ledger.awaiting,
            ledger.claim,
            ledger.live.len() as u64,
        ] {
            put_varint(out, n);
        }
        for (day, n) in &ledger.live {
            put_varint(out, u64::from(*day));
            put_varint(out, *n);
        }
        put_varint(out, ledger.queued.len() as u64);
        for (lane, n) in &ledger.queued {
            put_varint(out, u64::from(*lane));
            put_varint(out, *n);
        }
    });
}

pub(super) fn decode_ledger(bytes: &[u8]) -> Result<Ledger, Damage> {
    unseal(bytes, Kind::Ledger, |r| {
        let mut ledger = Ledger {
            sequence: r.varint()?,
            accepted: r.varint()?,
            orphans: r.varint()?,
            outbox: r.varint()?,
            dead: r.varint()?,
            awaiting: r.varint()?,
            claim: r.varint()?,
            ..Ledger::default()
        };
        for _ in 0..r.length()? {
            let day = u32::try_from(r.varint()?).map_err(|_| Damage::Field("day"))?;
            ledger.live.insert(day, r.varint()?);
        }
        for _ in 0..r.length()? {
            let lane = u16::try_from(r.varint()?).map_err(|_| Damage::Field("lane"))?;
            ledger.queued.insert(lane, r.varint()?);
        }
        Ok(ledger)
    })
}

/// One segment that waits for its receipt. A correlation entry's value is one of them, or several
/// where a carrier gave one id to several segments: the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Awaited {
    pub id: MessageId,
    pub part: u8,
    pub deadline: Timestamp,
}

pub(super) fn encode_awaited(all: &[Awaited]) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 * all.len());
    for awaited in all {
        out.extend_from_slice(&awaited.id.0.to_be_bytes());
        out.push(awaited.part);
        put_varint(&mut out, awaited.deadline.0);
    }
    out
}

pub(super) fn decode_awaited(bytes: &[u8]) -> Result<Vec<Awaited>, Damage> {
    let mut r = Reader::new(bytes);
    let mut all = Vec::with_capacity(1);
    while !r.is_empty() {
        all.push(Awaited {
            id: MessageId(r.u128()?),
            part: r.u8()?,
            deadline: Timestamp(r.varint()?),
        });
    }
    Ok(all)
}

/// A claimed batch: what may be on the wire, each with the due time it was claimed under.
pub(super) fn encode_claim(claim: &[(MessageId, Timestamp)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + claim.len() * 22);
    put_list(&mut out, claim, |out, (id, due)| {
        out.extend_from_slice(&id.0.to_be_bytes());
        put_varint(out, due.0);
    });
    out
}

pub(super) fn decode_claim(bytes: &[u8]) -> Result<Vec<(MessageId, Timestamp)>, Damage> {
    let mut r = Reader::new(bytes);
    let claim = r.list(|r| Ok((MessageId(r.u128()?), Timestamp(r.varint()?))))?;
    r.end().map(|()| claim)
}

/// An idempotency key's value.
pub(super) fn encode_fingerprint(fingerprint: &[u8; 32], id: MessageId) -> [u8; 48] {
    let mut out = [0; 48];
    out[..32].copy_from_slice(fingerprint);
    out[32..].copy_from_slice(&id.0.to_be_bytes());
    out
}

pub(super) fn decode_fingerprint(bytes: &[u8]) -> Result<([u8; 32], MessageId), Damage> {
    let mut r = Reader::new(bytes);
    let value = (r.array()?, MessageId(r.u128()?));
    r.end().map(|()| value)
}

/// A value of a plugin's state with the time it ends.
pub(super) fn encode_state(expires: Timestamp, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(10 + value.len());
    put_varint(&mut out, expires.0);
    out.extend_from_slice(value);
    out
}

pub(super) fn decode_state(bytes: &[u8]) -> Result<(Timestamp, &[u8]), Damage> {
    let mut r = Reader::new(bytes);
    let expires = Timestamp(r.varint()?);
    Ok((expires, &bytes[varint_len(expires.0)..]))
}

/// An entry of the opt-out registry.
pub(super) fn encode_wish(opted: bool, at: Timestamp, source: &str) -> Vec<u8> {
    let mut out = vec![u8::from(opted)];
    put_varint(&mut out, at.0);
    put_str(&mut out, source);
    out
}

pub(super) fn decode_wish(bytes: &[u8]) -> Result<(bool, Timestamp, String), Damage> {
    let mut r = Reader::new(bytes);
    let wish = (r.u8()? != 0, Timestamp(r.varint()?), r.string("source")?);
    r.end().map(|()| wish)
}

/// Who wrote to whom: the value of an entry in an account's list of inbound messages.
pub(super) fn encode_parties(number: &str, handset: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(number.len() + handset.len() + 2);
    put_str(&mut out, number);
    put_str(&mut out, handset);
    out
}

pub(super) fn decode_parties(bytes: &[u8]) -> Result<(String, String), Damage> {
    let mut r = Reader::new(bytes);
    let parties = (r.string("number")?, r.string("handset")?);
    r.end().map(|()| parties)
}

/// Counts to add to a window of the recency table.
pub(super) fn encode_recent(counts: &[(u64, u16)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(counts.len() * 9 + 3);
    put_list(&mut out, counts, |out, (hash, n)| {
        out.extend_from_slice(&hash.to_be_bytes());
        put_varint(out, u64::from(*n));
    });
    out
}

pub(super) fn decode_recent(bytes: &[u8]) -> Result<Vec<(u64, u16)>, Damage> {
    Reader::new(bytes).list(|r| {
        let hash = u64::from_be_bytes(r.array()?);
        Ok((
            hash,
            u16::try_from(r.varint()?).map_err(|_| Damage::Field("count"))?,
        ))
    })
}

pub(super) fn encode_time(at: Timestamp) -> Vec<u8> {
    let mut out = Vec::with_capacity(7);
    put_varint(&mut out, at.0);
    out
}

/// None where it is none.
pub(super) fn decode_time(bytes: &[u8]) -> Option<Timestamp> {
    Reader::new(bytes).varint().ok().map(Timestamp)
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn seal(out: &mut Vec<u8>, kind: Kind, fields: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[VERSION, kind as u8]);
    fields(out);
    let sum = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&sum.to_be_bytes());
}

fn unseal<T>(
    bytes: &[u8],
    kind: Kind,
    fields: impl FnOnce(&mut Reader<'_>) -> Result<T, Damage>,
) -> Result<T, Damage> {
    let (content, sum) = bytes.split_last_chunk::<4>().ok_or(Damage::Short)?;
    let mut reader = Reader::new(content);
    let version = reader.u8()?;
    if version != VERSION {
        return Err(Damage::Version(version));
    }
    if crc32fast::hash(content) != u32::from_be_bytes(*sum) {
        return Err(Damage::Checksum);
    }
    let found = reader.u8()?;
    if found != kind as u8 {
        return Err(Damage::Kind(found));
    }
    let value = fields(&mut reader)?;
    reader.end().map(|()| value)
}

pub(super) fn put_option<'a, T: ?Sized>(
    out: &mut Vec<u8>,
    value: Option<&'a T>,
    put: impl FnOnce(&mut Vec<u8>, &'a T),
) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            put(out, value);
        }
    }
}

pub(super) fn option<'a, T>(
    r: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Damage>,
) -> Result<Option<T>, Damage> {
    match r.u8()? {
        0 => Ok(None),
        1 => read(r).map(Some),
        _ => Err(Damage::Field("presence")),
    }
}

pub(super) fn put_list<'a, T>(
    out: &mut Vec<u8>,
    list: &'a [T],
    mut put: impl FnMut(&mut Vec<u8>, &'a T),
) {
    put_varint(out, list.len() as u64);
    list.iter().for_each(|item| put(out, item));
}

pub(super) fn flags(r: &mut Reader<'_>, known: u8) -> Result<u8, Damage> {
    let value = r.u8()?;
    if value & !known != 0 {
        Err(Damage::Field("flags"))
    } else {
        Ok(value)
    }
}

pub(super) fn put_address(out: &mut Vec<u8>, address: &Address) {
    out.push((address.ton as u8) << 5 | address.npi as u8);
    put_str(out, &address.value);
}

pub(super) fn address(r: &mut Reader<'_>) -> Result<Address, Damage> {
    let packed = r.u8()?;
    Ok(Address {
        ton: TypeOfNumber::from_u8(packed >> 5),
        npi: NumberingPlan::from_u8(packed & 0x1F),
        value: r.string("address")?,
    })
}

pub(super) fn put_body(out: &mut Vec<u8>, body: &Body) {
    match body {
        Body::Text(text) => {
            out.push(0);
            put_str(out, text);
        }
        Body::Binary { udh, data } => {
            out.push(1);
            put_bytes(out, udh);
            put_bytes(out, data);
        }
    }
}

pub(super) fn body(r: &mut Reader<'_>) -> Result<Body, Damage> {
    match r.u8()? {
        0 => Ok(Body::Text(r.string("body")?)),
        1 => Ok(Body::Binary {
            udh: r.bytes()?.to_vec(),
            data: r.bytes()?.to_vec(),
        }),
        _ => Err(Damage::Field("body")),
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
