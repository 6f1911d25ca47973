//! Webhooks that are owed: stored work with its own due times, handed out, settled, given up,
//! delivered again. What is posted and how retries are spaced is the pipeline's.

use super::apply::damage;
use super::commit::{Answer, Committer, Handed, Reply};
use super::engine::Value;
use super::keys;
use super::queue::Slot;
use super::records;
use super::types::{OutboxEntry, StoreError, WebhookOutcome};
use crate::clock::Timestamp;

impl Committer {
    /// Written with the commit of what it tells about.
    pub fn owe_webhook(&mut self, entry: &OutboxEntry) {
        self.scratch.clear();
        records::encode_outbox(entry, &mut self.scratch);
        let value = Value::from(self.scratch.as_slice());
        self.journal.put(
            keys::queue_key(keys::WEBHOOK, entry.due, entry.event),
            value,
            true,
        );
        self.webhooks.insert((entry.due, entry.event), ());
        self.ledger.outbox += 1;
    }

    pub fn serve_webhooks(&mut self) {
        if self.shared.check_running().is_err() {
            return;
        }
        let now = self.clock.now();
        loop {
            while self.webhook_waiters.front().is_some_and(|w| w.is_gone()) {
                self.webhook_waiters.pop_front();
            }
            let Some(max) = self.webhook_waiters.front().map(|w| w.max()) else {
                return;
            };
            let handed = self.due_webhooks(max, now);
            match handed {
                Ok(due) if due.is_empty() => return,
                Ok(due) => {
                    let Some(waiter) = self.webhook_waiters.pop_front() else {
                        return;
                    };
                    let (slots, entries) = due.into_iter().unzip();
                    let (ticket, reply) = waiter.into_parts();
                    self.handed.push((ticket, Handed::Webhooks(slots)));
                    self.replies.push(Reply::Claimed(reply, entries));
                }
                Err(error) => {
                    self.shared.stop(&error.to_string());
                    return;
                }
            }
        }
    }

    fn due_webhooks(
        &mut self,
        max: usize,
        now: Timestamp,
    ) -> Result<Vec<(Slot, Value)>, StoreError> {
        while let Some((after, asked)) = self.webhooks.wants_refill(max) {
            let entries = self.read_queue(keys::WEBHOOK, after, asked)?;
            let entries = entries.into_iter().map(|(slot, _)| (slot, ())).collect();
            let leased = &self.webhooks_leased;
            self.webhooks
                .refill(asked, entries, |(_, event)| leased.contains_key(&event));
        }
        let mut due = Vec::new();
        while due.len() < max {
            let Some((slot, ())) = self.webhooks.pop_due(now) else {
                break;
            };
            if let Some(value) = self
                .engine
                .get(&keys::queue_key(keys::WEBHOOK, slot.0, slot.1))?
            {
                self.webhooks_leased.insert(slot.1, slot.0);
                due.push((slot, value));
            }
        }
        Ok(due)
    }

    pub fn return_webhook(&mut self, (due, event): Slot) {
        if self.webhooks_leased.remove(&event).is_some() {
            self.webhooks.insert((due, event), ());
        }
    }

    pub fn settle_webhook(
        &mut self,
        mut entry: OutboxEntry,
        outcome: WebhookOutcome,
    ) -> Result<(), StoreError> {
        let Some(due) = self.webhooks_leased.remove(&entry.event) else {
            tracing::error!(event = %format_args!("{:032x}", entry.event), "webhook settled without a lease; ignored");
            return Ok(());
        };
        self.journal
            .remove(&keys::queue_key(keys::WEBHOOK, due, entry.event));
        self.ledger.outbox = self.ledger.outbox.saturating_sub(1);
        if !matches!(outcome, WebhookOutcome::Busy(_)) {
            entry.attempts = entry.attempts.saturating_add(1);
        }
        match outcome {
            WebhookOutcome::Done => {}
            WebhookOutcome::RetryAt(at) | WebhookOutcome::Busy(at) => {
                entry.due = at;
                self.owe_webhook(&entry);
            }
            WebhookOutcome::Dead => {
                self.scratch.clear();
                records::encode_outbox(&entry, &mut self.scratch);
                self.journal.put(
                    keys::dead(entry.event),
                    Value::from(self.scratch.as_slice()),
                    false,
                );
                self.ledger.dead += 1;
            }
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
            (entry.due, entry.attempts) = (now, 0);
            self.owe_webhook(&entry);
        }
        self.replies.push(Reply::Found(reply, found.is_some()));
        Ok(())
    }
}
