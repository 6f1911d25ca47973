//! A queue in memory over an index on disk: the earliest entries, bounded, in due order. Decides
//! what is handed out next and when to look again; knows neither messages nor webhooks, and reads
//! nothing by itself.

use std::collections::BTreeMap;

use crate::clock::Timestamp;

/// When, and what.
pub(super) type Slot = (Timestamp, u128);

/// The entries up to `horizon` are all here (but for leased ones); later ones are on disk only.
#[derive(Debug)]
pub(super) struct ReadyQueue<T> {
    ready: BTreeMap<Slot, T>,
    horizon: Horizon,
    max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Horizon {
    /// Nothing was read yet.
    Start,
    At(Slot),
    /// Everything is in memory.
    End,
}

impl<T> ReadyQueue<T> {
    /// Over an index that may already hold entries.
    pub fn resuming(max: usize) -> ReadyQueue<T> {
        ReadyQueue {
            ready: BTreeMap::new(),
            horizon: Horizon::Start,
            max,
        }
    }

    /// Over an index known to be empty.
    pub fn empty(max: usize) -> ReadyQueue<T> {
        ReadyQueue {
            horizon: Horizon::End,
            ..ReadyQueue::resuming(max)
        }
    }

    /// An entry was written to the index.
    pub fn insert(&mut self, slot: Slot, value: T) {
        let known = match self.horizon {
            Horizon::Start => false,
            Horizon::At(horizon) => slot <= horizon,
            Horizon::End => true,
        };
        if !known {
            return;
        }
        self.ready.insert(slot, value);
        if self.ready.len() > self.max {
            self.ready.pop_last();
            self.horizon = match self.ready.last_key_value() {
                Some((last, _)) => Horizon::At(*last),
                None => Horizon::Start,
            };
        }
    }

    /// An entry was removed from the index.
    pub fn remove(&mut self, slot: Slot) -> Option<T> {
        self.ready.remove(&slot)
    }

    /// Takes the earliest entry that is due.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<(Slot, T)> {
        let entry = self.ready.first_entry().filter(|e| e.key().0 <= now)?;
        Some(entry.remove_entry())
    }

    /// When the earliest entry is due; `None` where none is known. Ask after [`Self::wants_refill`].
    pub fn next_due(&self) -> Option<Timestamp> {
        self.ready.first_key_value().map(|((at, _), _)| *at)
    }

    /// Where to go on reading the index, and how many entries to read, when it is time to.
    pub fn wants_refill(&self, wanted: usize) -> Option<(Option<Slot>, usize)> {
        if self.ready.len() >= wanted.min(self.max) {
            return None;
        }
        let room = self.max - self.ready.len();
        match self.horizon {
            Horizon::End => None,
            Horizon::Start => Some((None, room)),
            Horizon::At(slot) => Some((Some(slot), room)),
        }
    }

    /// What the index holds next; fewer entries than asked for mean that it ends there. `skip`
    /// tells what is leased.
    pub fn refill(&mut self, asked: usize, entries: Vec<(Slot, T)>, skip: impl Fn(Slot) -> bool) {
        self.horizon = match entries.last() {
            Some((last, _)) if entries.len() >= asked => Horizon::At(*last),
            _ => Horizon::End,
        };
        self.ready
            .extend(entries.into_iter().filter(|(slot, _)| !skip(*slot)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn read(index: &BTreeSet<Slot>, after: Option<Slot>, n: usize) -> Vec<(Slot, ())> {
        index
            .iter()
            .filter(|s| after.is_none_or(|a| **s > a))
            .take(n)
            .map(|s| (*s, ()))
            .collect()
    }

    proptest! {
        /// Whatever comes and goes, entries are handed out once each and never before their time.
        #[test]
        fn all_entries_come_out_once_and_in_time(
            steps in proptest::collection::vec((0u64..50, any::<bool>()), 1..200),
            max in 1usize..8,
        ) {
            let mut index = BTreeSet::new();
            let mut queue = ReadyQueue::resuming(max);
            let mut taken = BTreeSet::new();
            let mut leased = BTreeSet::new();
            for (n, (at, take)) in steps.iter().enumerate() {
                let slot = (Timestamp(*at), n as u128);
                index.insert(slot);
                queue.insert(slot, ());
                if *take {
                    let now = Timestamp(25);
                    while let Some((after, room)) = queue.wants_refill(2) {
                        queue.refill(room, read(&index, after, room), |s| leased.contains(&s));
                    }
                    let earliest = index.iter().find(|s| !leased.contains(*s)).copied();
                    let got = queue.pop_due(now);
                    prop_assert_eq!(got.map(|(s, ())| s), earliest.filter(|s| s.0 <= now));
                    if let Some((slot, ())) = got {
                        prop_assert!(taken.insert(slot));
                        leased.insert(slot);
                    }
                }
            }
        }
    }

    #[test]
    fn an_entry_beyond_the_horizon_waits_on_disk() {
        let mut queue = ReadyQueue::empty(2);
        for n in 1..=3u64 {
            queue.insert((Timestamp(n), u128::from(n)), ());
        }
        assert_eq!(queue.wants_refill(2), None);
        queue.pop_due(Timestamp(9));
        assert_eq!(queue.wants_refill(2), Some((Some((Timestamp(2), 2)), 1)));
    }
}
