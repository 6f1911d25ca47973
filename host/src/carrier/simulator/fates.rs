//! What becomes of the messages that were taken, for query_sm, cancel_sm and replace_sm: a bounded
//! table by message_id, the oldest forgotten first. Knows no PDU and no clock.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::settings::{FinalState, MessageState};
use crate::clock::Timestamp;

/// Messages remembered at most.
const FATES_MAX: usize = 100_000;

/// One message's fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Whose it is: nobody else hears of it.
    pub account: usize,
    /// The SMSC's own number of it.
    pub number: u64,
    pub end: FinalState,
    /// When that end comes, since the start.
    pub at: Duration,
    /// The same on the wall clock.
    pub done: Timestamp,
}

impl Fate {
    /// What query_sm says of it now.
    pub fn state(&self, now: Duration) -> MessageState {
        match now >= self.at {
            true => self.end.state,
            false => MessageState::Enroute,
        }
    }

    pub fn is_final(&self, now: Duration) -> bool {
        now >= self.at
    }
}

#[derive(Default)]
pub struct Fates {
    by_id: HashMap<Box<[u8]>, Fate>,
    order: VecDeque<Box<[u8]>>,
    /// Numbers of those that were canceled.
    canceled: HashSet<u64>,
}

impl Fates {
    /// An id that was given before now means the newer message.
    pub fn note(&mut self, message_id: &[u8], fate: Fate) {
        match self.by_id.insert(message_id.into(), fate) {
            None => self.order.push_back(message_id.into()),
            Some(former) => {
                self.canceled.remove(&former.number);
            }
        }
        if self.order.len() > FATES_MAX
            && let Some(oldest) = self.order.pop_front()
            && let Some(fate) = self.by_id.remove(&oldest)
        {
            self.canceled.remove(&fate.number);
        }
    }

    pub fn get(&self, message_id: &[u8], account: usize) -> Option<&Fate> {
        self.by_id.get(message_id).filter(|f| f.account == account)
    }

    /// Ends a message that has no end yet: the number of it.
    pub fn cancel(
        &mut self,
        message_id: &[u8],
        account: usize,
        now: Duration,
        done: Timestamp,
    ) -> Option<u64> {
        let fate = self.by_id.get_mut(message_id)?;
        if fate.account != account || fate.is_final(now) {
            return None;
        }
        fate.end = FinalState {
            state: MessageState::Deleted,
            error: *b"000",
        };
        fate.at = now;
        fate.done = done;
        self.canceled.insert(fate.number);
        Some(fate.number)
    }

    pub fn is_canceled(&self, number: u64) -> bool {
        !self.canceled.is_empty() && self.canceled.contains(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(number: u64) -> Fate {
        Fate {
            account: 1,
            number,
            end: FinalState::DELIVERED,
            at: Duration::from_secs(5),
            done: Timestamp(5_000),
        }
    }

    #[test]
    fn a_message_is_en_route_until_its_end_comes() {
        let mut fates = Fates::default();
        fates.note(b"a", fate(1));
        let found = fates.get(b"a", 1).unwrap();
        assert_eq!(found.state(Duration::from_secs(4)), MessageState::Enroute);
        assert_eq!(found.state(Duration::from_secs(5)), MessageState::Delivered);
        assert!(fates.get(b"a", 2).is_none(), "another ESME's message");
    }

    #[test]
    fn only_what_has_no_end_yet_can_be_canceled() {
        let mut fates = Fates::default();
        fates.note(b"a", fate(1));
        let (early, late) = (Duration::from_secs(1), Duration::from_secs(6));
        assert_eq!(fates.cancel(b"a", 2, early, Timestamp(0)), None);
        assert_eq!(fates.cancel(b"b", 1, early, Timestamp(0)), None);
        assert_eq!(fates.cancel(b"a", 1, late, Timestamp(0)), None);
        assert_eq!(fates.cancel(b"a", 1, early, Timestamp(0)), Some(1));
        assert_eq!(fates.cancel(b"a", 1, early, Timestamp(0)), None, "twice");
        assert!(fates.is_canceled(1) && !fates.is_canceled(2));
        let state = fates.get(b"a", 1).unwrap().state(early);
        assert_eq!(state, MessageState::Deleted);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut fates = Fates::default();
        for n in 0..FATES_MAX as u64 + 1 {
            fates.note(&n.to_be_bytes(), fate(n));
        }
        assert!(fates.get(&0_u64.to_be_bytes(), 1).is_none());
        assert!(fates.get(&1_u64.to_be_bytes(), 1).is_some());
        assert_eq!(fates.by_id.len(), FATES_MAX);
    }
}
