//! How many messages an account sent to a recipient within a day: what frequency caps ask. Counts
//! in windows of four hours, in memory, bounded; the committer persists what was added.

use std::collections::{BTreeMap, HashMap};

use parking_lot::RwLock;

use super::seeded::BuildAsIs;
use crate::clock::Timestamp;

const WINDOW_MS: u64 = 4 * 3_600_000;
/// The window that is open and six before it: never less than 24 hours, at most 28.
const WINDOWS: u32 = 7;

type Counts = HashMap<u64, u16, BuildAsIs>;

pub(super) struct Recency {
    pairs_max: usize,
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    windows: BTreeMap<u32, Counts>,
    added: BTreeMap<u32, Counts>,
    pairs: usize,
    dropped: u64,
}

fn window(at: Timestamp) -> u32 {
    u32::try_from(at.0 / WINDOW_MS).unwrap_or(u32::MAX)
}

/// Windows below this one no longer count.
pub(super) fn oldest_window(now: Timestamp) -> u32 {
    (window(now) + 1).saturating_sub(WINDOWS)
}

impl Recency {
    pub fn new(pairs_max: usize) -> Recency {
        Recency {
            pairs_max,
            inner: RwLock::default(),
        }
    }

    pub fn count(&self, pair: u64, now: Timestamp) {
        let mut inner = self.inner.write();
        let window = window(now);
        if inner.add(window, pair, 1, self.pairs_max) {
            let added = inner
                .added
                .entry(window)
                .or_default()
                .entry(pair)
                .or_default();
            *added = added.saturating_add(1);
        }
        inner.forget(oldest_window(now));
    }

    pub fn last_day(&self, pair: u64, now: Timestamp) -> u32 {
        let inner = self.inner.read();
        let range = inner.windows.range(oldest_window(now)..=window(now));
        range
            .filter_map(|(_, counts)| counts.get(&pair))
            .map(|n| u32::from(*n))
            .sum()
    }

    /// What was counted since the last call, by window.
    pub fn take_delta(&self) -> Vec<(u32, Vec<(u64, u16)>)> {
        let added = std::mem::take(&mut self.inner.write().added);
        added
            .into_iter()
            .map(|(window, counts)| (window, counts.into_iter().collect()))
            .collect()
    }

    /// Adds what was persisted.
    pub fn restore(&self, window: u32, counts: &[(u64, u16)], now: Timestamp) {
        let mut inner = self.inner.write();
        if window >= oldest_window(now) {
            counts.iter().for_each(|(pair, n)| {
                inner.add(window, *pair, *n, self.pairs_max);
            });
        }
    }

    pub fn dropped(&self) -> u64 {
        self.inner.read().dropped
    }
}

impl Inner {
    /// False where the table is full and the pair is new.
    fn add(&mut self, window: u32, pair: u64, n: u16, pairs_max: usize) -> bool {
        let counts = self.windows.entry(window).or_default();
        if let Some(count) = counts.get_mut(&pair) {
            *count = count.saturating_add(n);
            return true;
        }
        if self.pairs >= pairs_max {
            self.dropped += 1;
            return false;
        }
        self.pairs += 1;
        counts.insert(pair, n);
        true
    }

    fn forget(&mut self, oldest: u32) {
        while let Some(entry) = self.windows.first_entry().filter(|e| *e.key() < oldest) {
            self.pairs -= entry.remove().len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn a_day_is_counted_and_what_is_older_forgotten() {
        let recency = Recency::new(100);
        let start = Timestamp(1_000 * HOUR);
        recency.count(1, start);
        recency.count(1, Timestamp(start.0 + 5 * HOUR));
        recency.count(2, start);
        assert_eq!(recency.last_day(1, Timestamp(start.0 + 23 * HOUR)), 2);
        assert_eq!(recency.last_day(1, Timestamp(start.0 + 40 * HOUR)), 0);
        recency.count(9, Timestamp(start.0 + 40 * HOUR));
        assert_eq!(recency.inner.read().pairs, 1);
    }

    #[test]
    fn a_full_table_counts_whom_it_knows_and_says_what_it_dropped() {
        let recency = Recency::new(1);
        let now = Timestamp(HOUR);
        (0..3).for_each(|_| recency.count(1, now));
        recency.count(2, now);
        assert_eq!(
            (
                recency.last_day(1, now),
                recency.last_day(2, now),
                recency.dropped()
            ),
            (3, 0, 1)
        );
    }

    #[test]
    fn restored_deltas_add_up() {
        let (first, second) = (Recency::new(10), Recency::new(10));
        let now = Timestamp(HOUR);
        for _ in 0..2 {
            first.count(1, now);
            for (window, counts) in first.take_delta() {
                second.restore(window, &counts, now);
            }
        }
        assert_eq!(second.last_day(1, now), 2);
    }
}
