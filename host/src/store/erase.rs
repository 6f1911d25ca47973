//! Forgetting a number: finding what speaks of it, a bounded piece at a time, and blotting it out. The
//! search reads beside the committer, which alone changes anything and looks at each record again.
//! There is no index by number: a number is forgotten rarely, and an index would cost every message.

use super::Store;
use super::apply::{Before, damage};
use super::commit::{Answer, Command, Committer, Reply};
use super::engine::{Engine, Value};
use super::keys::{self, Key, Parties};
use super::read::is;
use super::records::{self, Kind};
use super::threads;
use super::types::StoreError;
use crate::clock::Timestamp;
use crate::domain::erase::ERASED;
use crate::domain::{Message, MessageId, Reason, State};

/// Records that one piece reads.
const RECORDS: usize = 5_000;
/// Index entries that one piece reads.
const ENTRIES: usize = 5_000;

/// What became of what spoke of the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    pub messages: u64,
    /// Those of `messages` that still waited, and were canceled first.
    pub canceled: u64,
    /// Messages that a carrier has, or may have: they stay until they have ended.
    pub under_way: u64,
    pub inbound: u64,
    /// Parts of incomplete inbound messages.
    pub fragments: u64,
    /// Receipts that met no message.
    pub orphans: u64,
}

/// Where the search goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EraseFrom {
    /// Records older than this one.
    Records(MessageId),
    /// What waits in indices, from this key on.
    Waiting(Vec<u8>),
}

/// What one piece of the search found.
pub(super) struct Suspects {
    number: String,
    records: Vec<MessageId>,
    fragments: Vec<Key>,
    orphans: Vec<Key>,
}

impl Store {
    /// One piece of the work: durable on return. `number` is an address's value. The second value
    /// goes on from there; none at the end.
    pub async fn erase(
        &self,
        number: &str,
        from: EraseFrom,
    ) -> Result<(Erased, Option<EraseFrom>), StoreError> {
        let wanted = number.to_owned();
        let (suspects, next) = self
            .inner
            .read(move |engine| match from {
                EraseFrom::Records(before) => records_of(engine, wanted, before),
                EraseFrom::Waiting(start) => waiting_of(engine, wanted, start),
            })
            .await?;
        let none = suspects.records.is_empty()
            && suspects.fragments.is_empty()
            && suspects.orphans.is_empty();
        if none {
            return Ok((Erased::default(), next));
        }
        let erased = self.inner.ask(|reply| Command::Erase(suspects, reply));
        Ok((erased.await?, next))
    }
}

fn records_of(
    engine: &Engine,
    number: String,
    before: MessageId,
) -> Result<(Suspects, Option<EraseFrom>), StoreError> {
    let read = engine.records_before(before, MessageId(0), RECORDS)?;
    let mut suspects = Suspects::of(number);
    for (id, record) in &read {
        // What cannot be read is no message's text any more, and not this search's affair.
        let concerned = match is(record, Kind::Inbound) {
            true => {
                records::decode_inbound(record).is_ok_and(|r| r.inbound.concerns(&suspects.number))
            }
            false => records::decode_message(record).is_ok_and(|m| m.concerns(&suspects.number)),
        };
        if concerned {
            suspects.records.push(*id);
        }
    }
    let next = match read.last() {
        Some((last, _)) if read.len() == RECORDS => EraseFrom::Records(*last),
        _ => EraseFrom::Waiting(keys::FRAGMENT.to_vec()),
    };
    Ok((suspects, Some(next)))
}

fn waiting_of(
    engine: &Engine,
    number: String,
    start: Vec<u8>,
) -> Result<(Suspects, Option<EraseFrom>), StoreError> {
    let mut suspects = Suspects::of(number);
    let fragments = start.starts_with(keys::FRAGMENT);
    if !fragments && !start.starts_with(keys::ORPHAN) {
        return Ok((suspects, None));
    }
    let prefix = if fragments {
        keys::FRAGMENT
    } else {
        keys::ORPHAN
    };
    let end = keys::after_prefix(prefix).unwrap_or_default();
    let read = engine.scan(&start, &end, ENTRIES)?;
    let last = read.last().map(|(key, _)| [&**key, &[0]].concat());
    let complete = read.len() < ENTRIES;
    let number = &suspects.number;
    for (key, value) in read {
        let concerned = match fragments {
            true => records::decode_fragment(&value)
                .is_ok_and(|f| [f.originator.value, f.recipient.value].contains(number)),
            false => records::decode_orphan(&value).is_ok_and(|o| {
                let addresses = o.receipt.evidence.addresses.iter();
                addresses
                    .map(|a| a.trim_start_matches('+'))
                    .any(|a| a == number)
            }),
        };
        match (concerned, fragments) {
            (true, true) => suspects.fragments.push(key),
            (true, false) => suspects.orphans.push(key),
            (false, _) => {}
        }
    }
    let next = match (complete, fragments, last) {
        (false, _, Some(last)) => Some(EraseFrom::Waiting(last)),
        (_, true, _) => Some(EraseFrom::Waiting(keys::ORPHAN.to_vec())),
        (_, false, _) => None,
    };
    Ok((suspects, next))
}

impl Suspects {
    fn of(number: String) -> Suspects {
        Suspects {
            number,
            records: Vec::new(),
            fragments: Vec::new(),
            orphans: Vec::new(),
        }
    }
}

impl Committer {
    pub fn erase(
        &mut self,
        suspects: Suspects,
        reply: Answer<Erased>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if let Err(error) = self.shared.check_running() {
            let _ = reply.send(Err(error));
            return Ok(());
        }
        let mut erased = Erased::default();
        for id in &suspects.records {
            self.erase_record(*id, &suspects.number, &mut erased, now)?;
        }
        for key in &suspects.fragments {
            if self.engine.get(key)?.is_some() {
                self.journal.remove(key);
                erased.fragments += 1;
            }
        }
        for key in &suspects.orphans {
            if self.engine.get(key)?.is_some() {
                self.drop_orphan(key)?;
                erased.orphans += 1;
            }
        }
        self.replies.push(Reply::Erased(reply, erased));
        Ok(())
    }

    fn erase_record(
        &mut self,
        id: MessageId,
        number: &str,
        erased: &mut Erased,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(record) = self.engine.record(id)? else {
            return Ok(());
        };
        if is(&record, Kind::Inbound) {
            let record = records::decode_inbound(&record).map_err(damage)?;
            erased.inbound += u64::from(record.inbound.concerns(number));
            return self.erase_inbound(record, number);
        }
        let Some(message) = self.load(id)?.filter(|m| m.concerns(number)) else {
            return Ok(());
        };
        match self.leases.contains_key(&id) {
            true => erased.under_way += 1,
            false => self.erase_message(message, number, erased, now)?,
        }
        Ok(())
    }

    fn erase_message(
        &mut self,
        mut message: Message,
        number: &str,
        erased: &mut Erased,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let before = Before::of(&message);
        match message.state {
            State::Scheduled | State::Held | State::Queued => {
                message.enter(now, State::Canceled, Reason::CanceledByClient, "");
                erased.canceled += 1;
            }
            // A receipt or an answer is to come, and finds its message by what is written there.
            State::SubmitUnknown | State::Enroute => {
                erased.under_way += 1;
                return Ok(());
            }
            State::Delivered
            | State::Undeliverable
            | State::Expired
            | State::Rejected
            | State::Canceled
            | State::Unknown => {}
        }
        let handset = message.recipient.value.clone();
        let hops = message
            .plan
            .hops
            .iter()
            .filter_map(|h| h.originator.as_ref());
        for ours in hops.chain([&message.originator]) {
            let parties = Parties {
                account: &message.account,
                number: &ours.value,
                handset: &handset,
            };
            let key = keys::thread_entry(&self.engine.names, &parties, message.id);
            if self.engine.get(&key)?.is_some() {
                self.journal.remove(&key);
            }
        }
        message.erase(number);
        erased.messages += 1;
        self.put_message(before, &message, now)
    }

    fn erase_inbound(
        &mut self,
        mut record: super::types::InboundRecord,
        number: &str,
    ) -> Result<(), StoreError> {
        for (key, _) in threads::entries_of(&self.engine.names, &record, true) {
            match key.starts_with(keys::INBOUND) {
                true => {
                    let parties = Value::from(records::encode_parties(ERASED, ERASED));
                    self.journal.put(key, parties, false);
                }
                false if self.engine.get(&key)?.is_some() => self.journal.remove(&key),
                false => {}
            }
        }
        record.inbound.erase(number);
        record.labels.clear();
        record.webhook_url = None;
        let mut bytes = Vec::with_capacity(128);
        records::encode_inbound(&record, &mut bytes);
        self.put_record(record.inbound.id, bytes.into());
        Ok(())
    }
}
