//! One ESME's session as the simulated SMSC sees it (SMPP 3.4, 2.2): its state, what is to be written
//! to it, and the deliver_sm it has not answered. Knows neither socket nor other sessions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

/// Sequence numbers are 1 to this (SMPP 3.4, 3.2).
const SEQUENCE_MAX: u64 = 0x7FFF_FFFF;
/// Most requests behind an unanswered deliver_sm.
pub(super) const UNACKED_SPAN_MAX: usize = 65_536;

pub(super) struct Session {
    pub(super) state: State,
    pub(super) account: usize,
    pub(super) outbox: Vec<u8>,
    pub(super) signal: Arc<Notify>,
    pub(super) signalled: bool,
    pub(super) close: bool,
    pub(super) unanswered: u32,
    /// Whether an unbind of ours waits for its answer.
    pub(super) unbinding: bool,
    /// The id given last, for an SMSC that gives it again.
    pub(super) last_id: u64,
    pub(super) sent: u64,
    /// deliver_sm without an answer, by sequence number; the last is number `sent`.
    pub(super) unacked: VecDeque<Option<Unacked>>,
    pub(super) unacked_count: u32,
}

/// SMPP 3.4, 2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    BoundTx,
    BoundRx,
    BoundTrx,
}

pub(super) struct Unacked {
    pub(super) at: Duration,
    pub(super) delivery: Delivery,
}

pub(super) struct Delivery {
    pub(super) account: usize,
    pub(super) receipt: bool,
    /// The message that a receipt is about.
    pub(super) message: u64,
    pub(super) attempts: u8,
    pub(super) pdu: Box<[u8]>,
}

impl Session {
    pub(super) fn wake(&mut self) {
        if !self.signalled {
            self.signalled = true;
            self.signal.notify_one();
        }
    }

    /// The sequence_number of a request that is no deliver_sm: an answer to it finds nothing. None where more
    /// waits for answers than may.
    pub(super) fn number_apart(&mut self) -> Option<u32> {
        if self.unacked.len() >= UNACKED_SPAN_MAX {
            return None;
        }
        self.sent += 1;
        if !self.unacked.is_empty() {
            self.unacked.push_back(None);
        }
        Some(sequence_of(self.sent))
    }

    /// Takes the delivery of that sequence number out of the unanswered ones.
    pub(super) fn take_unacked(&mut self, sequence_number: u32) -> Option<Delivery> {
        if !(1..=SEQUENCE_MAX).contains(&u64::from(sequence_number)) {
            return None;
        }
        let first = self.sent + 1 - self.unacked.len() as u64;
        let from = u64::from(sequence_of(first));
        let index = (u64::from(sequence_number) + SEQUENCE_MAX).checked_sub(from)? % SEQUENCE_MAX;
        let unacked = self.unacked.get_mut(usize::try_from(index).ok()?)?.take()?;
        self.unacked_count -= 1;
        while let Some(None) = self.unacked.front() {
            self.unacked.pop_front();
        }
        Some(unacked.delivery)
    }

    pub(super) fn pop_unacked(&mut self) -> Option<Delivery> {
        let unacked = self.unacked.pop_front().flatten()?;
        self.unacked_count -= 1;
        while let Some(None) = self.unacked.front() {
            self.unacked.pop_front();
        }
        Some(unacked.delivery)
    }
}

/// The sequence_number of a session's `n`th request, counted from 1.
pub(super) fn sequence_of(n: u64) -> u32 {
    // Below 2^31, so the cast keeps it whole.
    ((n.wrapping_sub(1)) % SEQUENCE_MAX) as u32 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_go_from_1_to_7fffffff_and_begin_again() {
        assert_eq!(sequence_of(1), 1);
        assert_eq!(sequence_of(SEQUENCE_MAX), 0x7FFF_FFFF);
        assert_eq!(sequence_of(SEQUENCE_MAX + 1), 1);
    }

    #[test]
    fn an_answer_finds_its_delivery_beyond_the_turn_of_the_numbers() {
        let delivery = |attempts| Delivery {
            account: 0,
            receipt: true,
            message: 0,
            attempts,
            pdu: Box::default(),
        };
        let unacked = |attempts| {
            Some(Unacked {
                at: Duration::ZERO,
                delivery: delivery(attempts),
            })
        };
        let mut session = Session {
            state: State::BoundRx,
            account: 0,
            outbox: Vec::new(),
            signal: Arc::default(),
            signalled: false,
            close: false,
            unanswered: 0,
            unbinding: false,
            last_id: 0,
            // The last three had the numbers 7ffffffe, 7fffffff and 1.
            sent: SEQUENCE_MAX + 1,
            unacked: VecDeque::from([unacked(1), unacked(2), unacked(3)]),
            unacked_count: 3,
        };
        assert_eq!(session.take_unacked(1).map(|d| d.attempts), Some(3));
        assert!(session.take_unacked(1).is_none(), "answered twice");
        assert!(session.take_unacked(2).is_none(), "never sent");
        assert!(session.take_unacked(0).is_none() && session.take_unacked(u32::MAX).is_none());
        assert_eq!(
            session.take_unacked(0x7FFF_FFFE).map(|d| d.attempts),
            Some(1)
        );
        assert_eq!(
            session.take_unacked(0x7FFF_FFFF).map(|d| d.attempts),
            Some(2)
        );
        assert_eq!((session.unacked.len(), session.unacked_count), (0, 0));
    }
}
