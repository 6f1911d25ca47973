//! The engine's half that speaks to the ESME by itself: receipts and mobile-originated messages wait
//! here for their time, for a session with room and for their answer, and go again when they got none.

use std::time::Duration;

use super::behaviour::Receipts;
use super::delivery::{self, Dates, Mo, MoError};
use super::engine::{Engine, Now, OUTBOX_MAX, SessionId};
use super::session::{Delivery, Session, UNACKED_SPAN_MAX, Unacked, sequence_of};
use super::timer::Work;
use crate::smpp::pdu::Sm;
use crate::smpp::status;

/// How long receipts are gathered for shuffling before they go as they are.
const SHUFFLE_WAIT: Duration = Duration::from_millis(250);

impl Engine {
    /// Queues a mobile-originated message; says in how many parts.
    pub fn inject(&mut self, mo: &Mo, now: Now) -> Result<usize, MoError> {
        let pdus = delivery::mobile_originated(mo)?;
        let account = match &mo.system_id {
            Some(system_id) => self.account(system_id.as_bytes()),
            None => (!self.accounts.is_empty()).then_some(0),
        };
        let account = account.ok_or(MoError::NoReceiver)?;
        if self.pending + pdus.len() > self.behaviour.settings().pending_max {
            return Err(MoError::Full);
        }
        let parts = pdus.len();
        for pdu in pdus {
            self.pending += 1;
            self.record.counters.mo += 1;
            self.dispatch(
                Delivery {
                    account,
                    receipt: false,
                    message: 0,
                    attempts: 0,
                    pdu,
                },
                now.at,
            );
        }
        Ok(parts)
    }

    pub(super) fn receipts(
        &mut self,
        account: usize,
        sm: &Sm<'_>,
        message: u64,
        receipts: Receipts,
        now: Now,
    ) {
        let (first, second) = match receipts {
            Receipts::None => return,
            Receipts::Lost => {
                self.record.counters.receipts_lost += 1;
                return;
            }
            Receipts::One(first) => (first, None),
            Receipts::Two(first, second) => (first, Some(second)),
        };
        let copies = self.behaviour.settings().receipt_copies;
        // None of them allocates nothing.
        let copies: Vec<_> = (0..copies)
            .map(|_| self.behaviour.contradiction(first))
            .collect();
        let all = [Some(first), second].into_iter().flatten().chain(copies);
        for (n, receipt) in all.enumerate() {
            if self.pending >= self.behaviour.settings().pending_max {
                self.record.counters.deliveries_overflowed += 1;
                continue;
            }
            let dates = Dates {
                submitted: now.wall,
                done: now.wall.plus(receipt.after),
            };
            let settings = self.behaviour.settings();
            let Some(pdu) =
                delivery::receipt(&mut self.scratch, settings, sm, message, receipt.end, dates)
            else {
                self.record.counters.receipts_lost += 1;
                continue;
            };
            self.pending += 1;
            self.record.counters.receipts += 1;
            self.record.counters.receipts_duplicated += u64::from(n > 0);
            let delivery = Delivery {
                account,
                receipt: true,
                message,
                attempts: 0,
                pdu,
            };
            if receipt.after.is_zero() {
                self.due(delivery, now.at);
            } else {
                self.later(now.at + receipt.after, Work::Deliver(delivery));
            }
        }
    }

    /// A delivery's time has come.
    pub(super) fn due(&mut self, mut delivery: Delivery, now: Duration) {
        if delivery.receipt && self.fates.is_canceled(delivery.message) {
            delivery::say_deleted(&mut delivery.pdu);
        }
        let gather = self.behaviour.settings().receipt_shuffle as usize;
        if gather < 2 && self.shuffled.is_empty() {
            self.dispatch(delivery, now);
            return;
        }
        if self.shuffled.is_empty() {
            self.later(now + SHUFFLE_WAIT, Work::SendShuffled);
        }
        self.shuffled.push(delivery);
        if self.shuffled.len() >= gather {
            self.send_shuffled(now);
        }
    }

    pub(super) fn send_shuffled(&mut self, now: Duration) {
        let mut gathered = std::mem::take(&mut self.shuffled);
        self.behaviour.shuffle(&mut gathered);
        for delivery in gathered {
            self.dispatch(delivery, now);
        }
    }

    /// Sends a pending delivery, or lets it wait for a session with room.
    pub(super) fn dispatch(&mut self, delivery: Delivery, now: Duration) {
        let Some(account) = self.accounts.get_mut(delivery.account) else {
            return;
        };
        if !account.waiting.is_empty() {
            account.waiting.push_back(delivery);
            return;
        }
        match self.receiver(delivery.account) {
            Some(session) => self.send(session, delivery, now),
            None => self.accounts[delivery.account].waiting.push_back(delivery),
        }
    }

    /// Sends what waits for the account as far as its sessions have room.
    pub(super) fn flush(&mut self, account: usize, now: Duration) {
        while self
            .accounts
            .get(account)
            .is_some_and(|a| !a.waiting.is_empty())
        {
            let Some(session) = self.receiver(account) else {
                return;
            };
            if let Some(delivery) = self.accounts[account].waiting.pop_front() {
                self.send(session, delivery, now);
            }
        }
    }

    /// The next session of the account, in turn, that has room for one more deliver_sm.
    pub(super) fn receiver(&mut self, account: usize) -> Option<SessionId> {
        let window = self.behaviour.settings().deliver_window;
        let account = self.accounts.get_mut(account)?;
        for _ in 0..account.receivers.len() {
            account.turn = (account.turn + 1) % account.receivers.len();
            let id = account.receivers[account.turn];
            let room = |s: &Session| {
                !s.close
                    && s.unacked_count < window
                    && s.unacked.len() < UNACKED_SPAN_MAX
                    && s.outbox.len() < OUTBOX_MAX
            };
            if self.sessions.get(&id).is_some_and(room) {
                return Some(id);
            }
        }
        None
    }

    pub(super) fn send(&mut self, id: SessionId, mut delivery: Delivery, now: Duration) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        self.pending -= 1;
        if delivery.attempts > 0 {
            self.record.counters.deliveries_repeated += 1;
        }
        delivery.attempts = delivery.attempts.saturating_add(1);
        if delivery.receipt {
            self.record.counters.receipts_sent += 1;
        } else {
            self.record.counters.mo_sent += 1;
        }
        session.sent += 1;
        let sequence_number = sequence_of(session.sent).to_be_bytes();
        let start = session.outbox.len();
        session.outbox.extend_from_slice(&delivery.pdu);
        // Every PDU of ours has a header of 16 octets.
        session.outbox[start + 12..start + 16].copy_from_slice(&sequence_number);
        session
            .unacked
            .push_back(Some(Unacked { at: now, delivery }));
        session.unacked_count += 1;
        if self.current != Some(id) {
            session.wake();
        }
    }

    pub(super) fn acked(
        &mut self,
        id: SessionId,
        sequence_number: u32,
        command_status: u32,
        now: Duration,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(delivery) = session.take_unacked(sequence_number) else {
            self.record.counters.malformed += 1;
            return;
        };
        let account = delivery.account;
        match command_status {
            status::ESME_ROK if delivery.receipt => self.record.counters.receipts_acked += 1,
            status::ESME_ROK => self.record.counters.mo_acked += 1,
            // What a receiver answers that wants it again later.
            status::ESME_RTHROTTLED
            | status::ESME_RMSGQFUL
            | status::ESME_RSYSERR
            | status::ESME_RX_T_APPN => self.repeat(delivery, now),
            _ => self.record.counters.deliveries_refused += 1,
        }
        self.flush(account, now);
    }

    pub(super) fn repeat(&mut self, delivery: Delivery, now: Duration) {
        let settings = self.behaviour.settings();
        if delivery.attempts >= settings.deliver_attempts {
            self.record.counters.deliveries_refused += 1;
            return;
        }
        let wait = Duration::from_millis(u64::from(settings.deliver_retry_ms));
        self.pending += 1;
        self.later(now + wait, Work::Repeat(delivery));
    }

    /// Sends again what stayed without an answer for too long.
    pub(super) fn sweep(&mut self, now: Duration) {
        let timeout =
            Duration::from_millis(u64::from(self.behaviour.settings().deliver_timeout_ms));
        let mut late = Vec::new();
        let mut accounts = Vec::new();
        for session in self.sessions.values_mut() {
            while let Some(Some(front)) = session.unacked.front() {
                if now.saturating_sub(front.at) < timeout {
                    break;
                }
                late.extend(session.pop_unacked());
            }
            accounts.push(session.account);
        }
        for delivery in late {
            self.repeat(delivery, now);
        }
        for account in accounts {
            self.flush(account, now);
        }
    }
}
