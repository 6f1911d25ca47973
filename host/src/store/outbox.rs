//! What clients are owed, over webhooks and over SMPP: stored work with its own due times, handed
//! out, settled, given up, delivered again. Webhooks have one queue, every system_id has its own, so
//! that what waits for a client that is away is in nobody's way and costs nothing. What is sent and
//! how retries are spaced is told by the floors above.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::apply::damage;
use super::commit::{Answer, Committer, Handed, Reply, Waiter};
use super::engine::Value;
use super::keys::{self, Key};
use super::queue::{ReadyQueue, Slot};
use super::records;
use super::types::{OutboxEntry, OutboxTarget, StoreError, WebhookOutcome};
use crate::clock::Timestamp;

/// Due entries held in memory of one system_id.
const READY_MAX_OF_ONE: usize = 1_000;

/// One queue of the outbox.
struct Outlet {
    prefix: Key,
    ready: ReadyQueue<()>,
    /// Handed out: under which due time each entry is filed.
    leased: HashMap<u128, Timestamp>,
    waiters: VecDeque<Waiter>,
}

/// A queue's name: none is the one of the webhooks.
pub(super) type OutletName = Option<Arc<str>>;

/// All queues of the outbox.
pub(super) struct Outbox {
    outlets: HashMap<OutletName, Outlet>,
    ready_max: usize,
    /// Queues that a claim or an entry has come to since they were last looked at.
    touched: BTreeSet<OutletName>,
    /// When queues with a claim but nothing due are to be looked at again.
    timers: BTreeSet<(Timestamp, OutletName)>,
}

impl Outbox {
    pub fn new(ready_max: usize) -> Outbox {
        Outbox {
            outlets: HashMap::new(),
            ready_max,
            touched: BTreeSet::new(),
            timers: BTreeSet::new(),
        }
    }

    pub fn next_due(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn outlet(&mut self, name: &OutletName) -> &mut Outlet {
        self.touched.insert(name.clone());
        let ready_max = self.ready_max;
        self.outlets.entry(name.clone()).or_insert_with(|| {
            let (prefix, ready_max) = match name {
                None => (keys::WEBHOOK.into(), ready_max),
                Some(system_id) => (keys::deliveries(system_id), ready_max.min(READY_MAX_OF_ONE)),
            };
            Outlet {
                prefix,
                ready: ReadyQueue::resuming(ready_max),
                leased: HashMap::new(),
                waiters: VecDeque::new(),
            }
        })
    }

    pub fn wait_for(&mut self, name: &OutletName, waiter: Waiter) {
        self.outlet(name).waiters.push_back(waiter);
    }

    /// Puts back what was handed to a claim that was dropped before it returned.
    pub fn take_back(&mut self, name: &OutletName, (due, event): Slot) {
        let outlet = self.outlet(name);
        if outlet.leased.remove(&event).is_some() {
            outlet.ready.insert((due, event), ());
        }
    }

    fn is_leased(&self, name: &OutletName, event: u128) -> bool {
        let outlet = self.outlets.get(name);
        outlet.is_some_and(|o| o.leased.contains_key(&event))
    }
}

impl OutboxTarget {
    fn outlet(&self) -> OutletName {
        match self {
            OutboxTarget::Url(_) => None,
            OutboxTarget::Esme(system_id) => Some(system_id.clone()),
        }
    }
}

impl Committer {
    /// Written with the commit of what it tells about.
    pub fn owe(&mut self, entry: &OutboxEntry) {
        self.keep_day_of(entry.message);
        self.scratch.clear();
        records::encode_outbox(entry, &mut self.scratch);
        let value = Value::from(self.scratch.as_slice());
        let outlet = self.outbox.outlet(&entry.target.outlet());
        let key = keys::queue_key(&outlet.prefix, entry.due, entry.event);
        outlet.ready.insert((entry.due, entry.event), ());
        self.journal.put(key, value, true);
        self.ledger.outbox += 1;
    }

    /// The same debt under another time.
    pub fn refile(&mut self, old: &[u8], entry: &OutboxEntry) {
        self.journal.remove(old);
        self.ledger.outbox = self.ledger.outbox.saturating_sub(1);
        self.owe(entry);
    }

    pub fn serve_outbox(&mut self) {
        if self.shared.check_running().is_err() {
            return;
        }
        let now = self.clock.now();
        while let Some((at, _)) = self.outbox.timers.first()
            && *at <= now
            && let Some((_, name)) = self.outbox.timers.pop_first()
        {
            self.outbox.touched.insert(name);
        }
        for name in std::mem::take(&mut self.outbox.touched) {
            if let Err(error) = self.serve_outlet(&name, now) {
                self.shared.stop(&error.to_string());
                return;
            }
        }
    }

    fn serve_outlet(&mut self, name: &OutletName, now: Timestamp) -> Result<(), StoreError> {
        loop {
            let Some(outlet) = self.outbox.outlets.get_mut(name) else {
                return Ok(());
            };
            while outlet.waiters.front().is_some_and(Waiter::is_gone) {
                outlet.waiters.pop_front();
            }
            let Some(max) = outlet.waiters.front().map(Waiter::max) else {
                return Ok(());
            };
            let due = self.due_entries(name, max, now)?;
            let Some(outlet) = self.outbox.outlets.get_mut(name) else {
                return Ok(());
            };
            if due.is_empty() {
                let next = outlet.ready.next_due();
                self.outbox.timers.extend(next.map(|at| (at, name.clone())));
                return Ok(());
            }
            let Some(waiter) = outlet.waiters.pop_front() else {
                return Ok(());
            };
            let (slots, entries) = due.into_iter().unzip();
            let (ticket, reply) = waiter.into_parts();
            self.handed
                .push((ticket, Handed::Outbox(name.clone(), slots)));
            self.replies.push(Reply::Claimed(reply, entries));
        }
    }

    fn due_entries(
        &mut self,
        name: &OutletName,
        max: usize,
        now: Timestamp,
    ) -> Result<Vec<(Slot, Value)>, StoreError> {
        let mut due = Vec::new();
        let Some(mut outlet) = self.outbox.outlets.remove(name) else {
            return Ok(due);
        };
        while let Some((after, asked)) = outlet.ready.wants_refill(max) {
            let entries = self.read_queue(&outlet.prefix, after, asked)?;
            let entries = entries.into_iter().map(|(slot, _)| (slot, ())).collect();
            let leased = &outlet.leased;
            outlet
                .ready
                .refill(asked, entries, |(_, event)| leased.contains_key(&event));
        }
        while due.len() < max {
            let Some((slot, ())) = outlet.ready.pop_due(now) else {
                break;
            };
            let key = keys::queue_key(&outlet.prefix, slot.0, slot.1);
            if let Some(value) = self.engine.get(&key)? {
                outlet.leased.insert(slot.1, slot.0);
                due.push((slot, value));
            }
        }
        self.outbox.outlets.insert(name.clone(), outlet);
        Ok(due)
    }

    pub fn settle_owed(
        &mut self,
        mut entry: OutboxEntry,
        outcome: WebhookOutcome,
    ) -> Result<(), StoreError> {
        let outlet = self.outbox.outlet(&entry.target.outlet());
        let Some(due) = outlet.leased.remove(&entry.event) else {
            tracing::error!(event = %format_args!("{:032x}", entry.event), "settled without a lease; ignored");
            return Ok(());
        };
        let key = keys::queue_key(&outlet.prefix, due, entry.event);
        self.journal.remove(&key);
        self.ledger.outbox = self.ledger.outbox.saturating_sub(1);
        if !matches!(outcome, WebhookOutcome::Busy(_)) {
            entry.attempts = entry.attempts.saturating_add(1);
        }
        match outcome {
            WebhookOutcome::Done => {}
            WebhookOutcome::RetryAt(at) | WebhookOutcome::Busy(at) => {
                entry.due = at;
                self.owe(&entry);
            }
            WebhookOutcome::Dead => self.bury(&entry),
        }
        Ok(())
    }

    fn bury(&mut self, entry: &OutboxEntry) {
        self.scratch.clear();
        records::encode_outbox(entry, &mut self.scratch);
        let value = Value::from(self.scratch.as_slice());
        self.journal.put(keys::dead(entry.event), value, false);
        self.ledger.dead += 1;
    }

    /// What has waited too long for a client that never came.
    pub fn give_up(&mut self, key: &[u8]) -> Result<(), StoreError> {
        let Some(value) = self.engine.get(key)? else {
            return Ok(());
        };
        let entry = records::decode_outbox(&value).map_err(damage)?;
        let name = entry.target.outlet();
        if self.outbox.is_leased(&name, entry.event) {
            return Ok(());
        }
        let slot = (entry.due, entry.event);
        self.outbox.outlet(&name).ready.remove(slot);
        self.journal.remove(key);
        self.ledger.outbox = self.ledger.outbox.saturating_sub(1);
        self.bury(&entry);
        Ok(())
    }

    /// Nobody asked for it to be delivered again while its message was kept.
    pub fn drop_dead(&mut self, key: &[u8]) -> Result<(), StoreError> {
        if self.engine.get(key)?.is_some() {
            self.journal.remove(key);
            self.ledger.dead = self.ledger.dead.saturating_sub(1);
        }
        Ok(())
    }

    pub fn redeliver(
        &mut self,
        event: u128,
        reply: Answer<bool>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let key = keys::dead(event);
        let found = self.engine.get(&key)?;
        if let Some(value) = &found {
            let mut entry = records::decode_outbox(value).map_err(damage)?;
            self.journal.remove(&key);
            self.ledger.dead = self.ledger.dead.saturating_sub(1);
            // Given up again only after as long as the first time.
            (entry.at, entry.due, entry.attempts) = (now, now, 0);
            self.owe(&entry);
        }
        self.replies.push(Reply::Found(reply, found.is_some()));
        Ok(())
    }
}
