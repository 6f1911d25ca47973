//! What commands do to messages and to the entries derived from them; receipts are next door in
//! `receipts.rs`. Runs in the committer, between two commits; nothing here touches the disk.

use tokio::sync::oneshot;

use super::commit::{AcceptedAs, Answer, Committer, Lease, Reply};
use super::engine::Value;
use super::keys::{self, Key};
use super::prepared::{self, Prepared};
use super::records;
use super::sealing::Names;
use super::threads;
use super::types::{Idempotency, OutboxEntry, OutboxKind, OutboxTarget, StoreError, UpdateError};
use crate::clock::Timestamp;
use crate::domain::{Due, Lane, Message, MessageId, Reason};

const IDEMPOTENCY_WINDOW_MS: u64 = 86_400_000;

/// What the indices say now.
#[derive(Default)]
pub(super) struct Before {
    due: Option<Due>,
    pub awaited: Vec<(Key, u8)>,
    live: bool,
    terminal: bool,
    leased: bool,
    /// How many there were, where an ESME wants to hear of each.
    attempts: Option<usize>,
}

impl Before {
    pub fn of(message: &Message) -> Before {
        Before {
            due: message.due.clone(),
            awaited: prepared::awaited(message),
            live: !message.state.is_terminal(),
            terminal: message.state.is_terminal(),
            leased: false,
            attempts: None,
        }
    }
}

impl Committer {
    pub fn accept(
        &mut self,
        prepared: Prepared,
        recipient_hash: u64,
        thread: Option<Key>,
        idempotency: Option<Idempotency>,
        reply: Answer<AcceptedAs>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if let Err(refusal) = self.shared.check_intake() {
            let _ = reply.send(Err(refusal));
            return Ok(());
        }
        if let Some(idempotency) = idempotency {
            if let Some(earlier) = self.earlier_answer(&idempotency, now)? {
                self.replies.push(Reply::Accepted(reply, earlier));
                return Ok(());
            }
            let key = keys::idempotency(
                &self.engine.names,
                prepared.id.timestamp().day(),
                &idempotency.account,
                &idempotency.key,
            );
            let value = records::encode_fingerprint(&idempotency.fingerprint, prepared.id);
            self.journal.put(key, Value::from(&value[..]), false);
        }
        self.ledger.accepted += 1;
        // What was refused did not reach anybody.
        if !prepared.state.is_terminal() {
            self.recency.count(recipient_hash, now);
        }
        if let Some(key) = thread {
            self.journal.put(key, Value::from(threads::SENT), true);
        }
        self.put(Before::default(), prepared, now)?;
        self.replies.push(Reply::Accepted(reply, AcceptedAs::Fresh));
        Ok(())
    }

    fn earlier_answer(
        &self,
        asked: &Idempotency,
        now: Timestamp,
    ) -> Result<Option<AcceptedAs>, StoreError> {
        let today = now.day();
        let (names, plain) = (&self.engine.names, Names::default());
        // Keys from before the store was sealed stand for themselves.
        let forms = [Some(names), names.are_hashed().then_some(&plain)];
        let days = [today, today.saturating_sub(1), today.saturating_add(1)];
        let forms = forms.into_iter().flatten();
        for (names, day) in forms.flat_map(|names| days.map(|day| (names, day))) {
            let key = keys::idempotency(names, day, &asked.account, &asked.key);
            let Some(value) = self.engine.get(&key)? else {
                continue;
            };
            let (fingerprint, id) = records::decode_fingerprint(&value).map_err(damage)?;
            if now.0.saturating_sub(id.timestamp().0) >= IDEMPOTENCY_WINDOW_MS {
                continue;
            }
            if fingerprint != asked.fingerprint {
                return Ok(Some(AcceptedAs::Mismatch));
            }
            if let Some(record) = self.engine.record(id)? {
                return Ok(Some(AcceptedAs::Replay(record)));
            }
        }
        Ok(None)
    }

    /// Gives a lease back with what became of the message.
    pub fn settle(&mut self, message: Prepared, now: Timestamp) -> Result<(), StoreError> {
        let id = message.id;
        let Some(lease) = self.leases.remove(&id) else {
            tracing::error!(message = %id, "settled without a lease; ignored");
            return Ok(());
        };
        if let Err(error) = self.shared.check_running() {
            tracing::warn!(message = %id, %error, "not settled; the restart will");
            return Ok(());
        }
        self.end_claim(lease.claim);
        let before = self.before_lease(&message, &lease)?;
        let mut early = lease.deferred;
        early.extend(
            message
                .awaited
                .iter()
                .filter(|a| !before.awaited.contains(a))
                .map(|(key, _)| key.clone()),
        );
        self.put(before, message, now)?;
        if self.ledger.orphans > 0 {
            early
                .iter()
                .try_for_each(|key| self.apply_orphan(key, now))?;
        }
        Ok(())
    }

    fn before_lease(&self, new: &Prepared, lease: &Lease) -> Result<Before, StoreError> {
        let lane = self.lanes[usize::from(lease.lane)].clone();
        let tells_attempts = new.esme.as_ref().is_some_and(|n| n.wanted.intermediate);
        let old = match lease.awaits || tells_attempts {
            true => self.load(new.id)?,
            false => None,
        };
        let awaited = match &old {
            Some(old) if lease.awaits => prepared::awaited(old),
            _ => Vec::new(),
        };
        let attempts = old.filter(|_| tells_attempts).map(|m| m.attempts.len());
        Ok(Before {
            due: Some(Due {
                at: lease.due,
                lane,
            }),
            awaited,
            live: true,
            terminal: false,
            leased: true,
            attempts,
        })
    }

    pub fn update(
        &mut self,
        id: MessageId,
        change: Box<dyn FnOnce(&mut Message) + Send>,
        reply: oneshot::Sender<Result<(), UpdateError>>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if let Err(error) = self.shared.check_running() {
            let _ = reply.send(Err(UpdateError::Store(error)));
            return Ok(());
        }
        if self.leases.contains_key(&id) {
            let _ = reply.send(Err(UpdateError::Leased));
            return Ok(());
        }
        let Some(mut message) = self.load(id)? else {
            let _ = reply.send(Err(UpdateError::NotFound));
            return Ok(());
        };
        let before = Before::of(&message);
        change(&mut message);
        self.put_message(before, &message, now)?;
        self.replies.push(Reply::Updated(reply));
        Ok(())
    }

    /// Validity ended while the message waited: its lane may be dead, so another one ends it.
    pub fn expire(
        &mut self,
        entry: (u16, Timestamp, MessageId),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (lane, at, id) = entry;
        if self.leases.contains_key(&id) {
            return Ok(());
        }
        let loaded = match self.load(id) {
            // One damaged record is that message's affair: it is left as it is, and the others go on.
            Err(StoreError::Corrupt(why)) => {
                self.shared.quarantine(id.0, &why);
                return Ok(());
            }
            other => other?,
        };
        let Some(mut message) = loaded else {
            self.journal
                .remove(&keys::queue_key(&keys::lane_prefix(lane), at, id.0));
            return Ok(());
        };
        let still = message
            .due
            .as_ref()
            .is_some_and(|d| d.at == at && self.lane_numbers.get(&d.lane) == Some(&lane));
        if !still || message.expires_at > now {
            return Ok(());
        }
        let before = Before::of(&message);
        message.wait(Lane::Decide, now);
        self.put_message(before, &message, now)
    }

    /// After a restart: what a claim held and was not settled may have been on the wire.
    pub fn resolve_claim(
        &mut self,
        number: u64,
        claim: &[(MessageId, Timestamp)],
    ) -> Result<u64, StoreError> {
        let now = self.clock.now();
        let mut unknown = 0;
        for (id, due) in claim {
            let loaded = match self.load(*id) {
                Err(StoreError::Corrupt(why)) => {
                    self.shared.quarantine(id.0, &why);
                    continue;
                }
                other => other?,
            };
            let Some(mut message) = loaded else {
                continue;
            };
            // A settled message is terminal, has no due time, or a later one.
            if message.due.as_ref().is_none_or(|d| d.at != *due) || message.state.is_terminal() {
                continue;
            }
            let before = Before::of(&message);
            message.submit_unknown(now, Reason::Restarted);
            self.put_message(before, &message, now)?;
            unknown += 1;
        }
        self.journal.remove(&keys::claim(number));
        Ok(unknown)
    }

    pub fn load(&self, id: MessageId) -> Result<Option<Message>, StoreError> {
        match self.engine.record(id)? {
            Some(record) if records::kind_of(&record) == Some(records::Kind::Message as u8) => {
                records::decode_message(&record).map(Some).map_err(damage)
            }
            _ => Ok(None),
        }
    }

    pub fn put_message(
        &mut self,
        before: Before,
        message: &Message,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let prepared = Prepared::new(message, &mut self.scratch);
        self.put(before, prepared, now)
    }

    /// Writes the record and, of the entries derived from it, those that change.
    fn put(&mut self, before: Before, new: Prepared, now: Timestamp) -> Result<(), StoreError> {
        self.put_due(&before, &new)?;
        self.put_awaited(&before.awaited, &new)?;
        let terminal = new.state.is_terminal();
        let day = new.id.timestamp().day();
        match (before.live, !terminal) {
            (false, true) => *self.ledger.live.entry(day).or_default() += 1,
            (true, false) => {
                if let Some(n) = self.ledger.live.get_mut(&day) {
                    *n = n.saturating_sub(1);
                    if *n == 0 {
                        self.ledger.live.remove(&day);
                    }
                }
            }
            (true, true) | (false, false) => {}
        }
        if let (true, false, Some((account, url))) = (terminal, before.terminal, new.receipt_url) {
            self.owe(&OutboxEntry {
                event: new.id.0,
                account,
                target: OutboxTarget::Url(url),
                kind: OutboxKind::Status(new.state),
                message: new.id,
                at: now,
                due: now,
                attempts: 0,
            });
        }
        if let Some(notice) = &new.esme {
            let last = terminal && !before.terminal && notice.wants_last(new.state);
            let tried = before.attempts.is_some_and(|n| n != notice.attempts);
            let between = !terminal && tried && notice.wanted.intermediate;
            if last || between {
                let attempts = if last { 0 } else { notice.attempts };
                self.owe(&OutboxEntry {
                    event: OutboxEntry::esme_event(new.id, attempts),
                    account: notice.account.clone(),
                    target: OutboxTarget::Esme(notice.system_id.clone()),
                    kind: OutboxKind::Status(new.state),
                    message: new.id,
                    at: now,
                    due: now,
                    attempts: 0,
                });
            }
        }
        self.put_record(new.id, new.record);
        Ok(())
    }

    fn put_due(&mut self, before: &Before, new: &Prepared) -> Result<(), StoreError> {
        let awaits = !new.awaited.is_empty();
        let value_changed = before.awaited.is_empty() == awaits;
        if before.due == new.due && !value_changed {
            if let (true, Some(due)) = (before.leased, &new.due) {
                let lane = self.lane_number(&due.lane)?;
                self.queues[usize::from(lane)]
                    .ready
                    .insert((due.at, new.id.0), awaits);
            }
            return Ok(());
        }
        if let Some(due) = &before.due {
            let lane = self.lane_number(&due.lane)?;
            self.journal
                .remove(&keys::queue_key(&keys::lane_prefix(lane), due.at, new.id.0));
            self.queues[usize::from(lane)]
                .ready
                .remove((due.at, new.id.0));
            if let Some(n) = self.ledger.queued.get_mut(&lane) {
                *n = n.saturating_sub(1);
            }
        }
        if let Some(due) = &new.due {
            let lane = self.lane_number(&due.lane)?;
            let fresh = before.due.as_ref() != Some(due);
            let key = keys::queue_key(&keys::lane_prefix(lane), due.at, new.id.0);
            self.journal.put(key, new.due_value(), fresh);
            self.queues[usize::from(lane)]
                .ready
                .insert((due.at, new.id.0), awaits);
            *self.ledger.queued.entry(lane).or_default() += 1;
        }
        Ok(())
    }
}

pub(super) fn damage(damage: super::bytes::Damage) -> StoreError {
    StoreError::Corrupt(damage.to_string())
}
