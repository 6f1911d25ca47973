//! Whether the records, the queues that are derived from them and what is counted agree. Reads every
//! record: for simulations, where a store is small and looked at again and again.

use std::collections::BTreeMap;

use super::Store;
use super::apply::damage;
use super::engine::{Engine, Value};
use super::keys;
use super::open::lanes;
use super::records::{self, Kind};
use super::types::StoreError;
use crate::domain::{Due, Lane, Message, MessageId, State};

const CHUNK: usize = 10_000;

/// The messages of a recount. The next one does not decode again what has the same octets still.
#[derive(Default)]
pub struct Counted(BTreeMap<MessageId, (Value, Message)>);

impl Counted {
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.0.values().map(|(_, message)| message)
    }

    pub fn get(&self, id: MessageId) -> Option<&Message> {
        self.0.get(&id).map(|(_, message)| message)
    }
}

impl Store {
    /// All that does not agree, for a person; empty where everything does. Only between two commits, so
    /// only of a store without threads. `counted` is what the recount before left there.
    pub async fn recount(&self, counted: &mut Counted) -> Result<Vec<String>, StoreError> {
        let mut found = Vec::new();
        let queues: BTreeMap<Lane, u64> = self.queues().into_iter().collect();
        let before = std::mem::take(counted);
        let (messages, queued) = self
            .inner
            .read(|engine| Ok((recounted(engine, before)?, queued(engine)?)))
            .await?;
        *counted = messages;
        for (lane, counted) in queues {
            let there = queued.iter().filter(|(due, _)| due.lane == lane).count() as u64;
            if there != counted {
                found.push(format!(
                    "{lane:?} counts {counted} messages and holds {there}"
                ));
            }
        }
        let mut waiting: BTreeMap<MessageId, &Due> = BTreeMap::new();
        for (due, id) in &queued {
            if let Some(other) = waiting.insert(*id, due) {
                found.push(format!("{id} is in two queues: {other:?} and {due:?}"));
            }
        }
        let live = counted.messages().filter(|m| !m.state.is_terminal());
        let (live, counted_live) = (live.count() as u64, self.stats().live);
        if live != counted_live {
            found.push(format!(
                "{counted_live} messages are counted live and {live} are"
            ));
        }
        for message in counted.messages() {
            let queued = waiting.remove(&message.id);
            if queued != message.due.as_ref() {
                found.push(format!(
                    "{} waits for {:?} and is queued for {queued:?}",
                    message.id, message.due
                ));
            }
            if message.due.is_none()
                && !message.state.is_terminal()
                && message.state != State::Enroute
            {
                found.push(format!(
                    "{} is {} and waits for nothing",
                    message.id,
                    message.state.name()
                ));
            }
        }
        found.extend(
            waiting
                .into_iter()
                .map(|(id, due)| format!("{id} is queued for {due:?} and has no record")),
        );
        Ok(found)
    }
}

fn recounted(engine: &Engine, mut counted: Counted) -> Result<Counted, StoreError> {
    let mut all = Counted::default();
    let mut before = MessageId(u128::MAX);
    loop {
        let chunk = engine.records_before(before, MessageId(0), CHUNK)?;
        let Some((last, _)) = chunk.last() else {
            return Ok(all);
        };
        before = *last;
        for (id, record) in chunk {
            if records::kind_of(&record) != Some(Kind::Message as u8) {
                continue;
            }
            let entry = match counted.0.remove(&id) {
                Some(known) if known.0 == record => known,
                _ => {
                    let message = records::decode_message(&record).map_err(damage)?;
                    (record, message)
                }
            };
            all.0.insert(id, entry);
        }
    }
}

fn queued(engine: &Engine) -> Result<Vec<(Due, MessageId)>, StoreError> {
    let (lanes, _) = lanes(engine)?;
    let mut all = Vec::new();
    let mut start = keys::DUE.to_vec();
    let end = keys::after_prefix(keys::DUE).unwrap_or_default();
    loop {
        let chunk = engine.scan(&start, &end, CHUNK)?;
        let Some((last, _)) = chunk.last() else {
            return Ok(all);
        };
        start = [&**last, &[0]].concat();
        for (key, _) in chunk {
            let entry = keys::due_entry(&key);
            let (lane, at, id) =
                entry.ok_or_else(|| StoreError::Corrupt("a queue's entry".into()))?;
            let lane = lanes.get(usize::from(lane)).cloned();
            let lane = lane.ok_or_else(|| StoreError::Corrupt("a queue without a name".into()))?;
            all.push((Due { at, lane }, id));
        }
    }
}
