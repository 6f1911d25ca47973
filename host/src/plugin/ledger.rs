//! What plugins did since the server started, by entry, version, hook and account. Outlives policy
//! sets: a set that is replaced takes its instances with it and leaves its counts here. Also keeps
//! what each account has used, so that a new policy gives no one a full bucket.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::stats::{Counts, EntryStats, Stats};
use super::tenant::{AccountUsage, Quota, Tenant, Usage};
use crate::domain::Hook;

/// Rows that are told apart; what came before is added up under [`OTHERS`].
const ROWS_MAX: usize = 1_024;
/// Accounts whose usage is remembered though no set in memory names them.
const ACCOUNTS_MAX: usize = 10_000;
/// The entry's name in the row of what is no longer told apart. No entry can have it.
const OTHERS: &str = "(others)";

/// Whose counts these are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Who {
    /// The entry's name in the policy.
    pub entry: String,
    /// The plugin's own name and version.
    pub plugin: String,
    pub version: String,
    pub hook: Hook,
    /// The account whose own entry it is.
    pub account: Option<String>,
    /// Whether it answers in place of a newer version that fails.
    pub previous: bool,
}

/// A clone is the same ledger.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    rows: BTreeMap<Who, Row>,
    usages: HashMap<String, Arc<Usage>>,
    permits: HashMap<(String, u32), Weak<Semaphore>>,
}

struct Row {
    /// Counts of instances that are gone.
    gone: Counts,
    live: Vec<Arc<Stats>>,
}

impl Row {
    /// Adds up what nobody else holds any more.
    fn fold(&mut self) {
        let gone = &mut self.gone;
        self.live.retain(|stats| {
            let held = Arc::strong_count(stats) > 1;
            if !held {
                gone.add(&stats.counts());
            }
            held
        });
    }

    fn total(&self) -> Counts {
        let mut total = self.gone.clone();
        self.live.iter().for_each(|s| total.add(&s.counts()));
        total
    }
}

impl Ledger {
    /// Counters for a new set of instances.
    pub(super) fn stats(&self, who: Who) -> Arc<Stats> {
        let stats = Arc::new(Stats::new());
        let mut inner = self.0.lock();
        if inner.rows.len() >= ROWS_MAX && !inner.rows.contains_key(&who) {
            inner.make_room();
        }
        let row = inner.rows.entry(who).or_insert_with(|| Row {
            gone: Counts::new(),
            live: Vec::new(),
        });
        row.fold();
        row.live.push(stats.clone());
        stats
    }

    /// All rows with anything in them, or in use.
    pub fn totals(&self) -> Vec<(Who, EntryStats)> {
        let mut inner = self.0.lock();
        inner.rows.values_mut().for_each(Row::fold);
        inner
            .rows
            .retain(|_, row| !row.live.is_empty() || !row.gone.is_blank());
        let rows = inner.rows.iter();
        rows.map(|(who, row)| (who.clone(), row.total().read()))
            .collect()
    }

    pub(super) fn tenant(&self, account: &str, quota: Quota) -> Arc<Tenant> {
        let mut inner = self.0.lock();
        if inner.usages.len() >= ACCOUNTS_MAX {
            inner.usages.retain(|_, usage| Arc::strong_count(usage) > 1);
        }
        inner
            .permits
            .retain(|_, permits| permits.strong_count() > 0);
        let usage = inner
            .usages
            .entry(account.to_owned())
            .or_insert_with(|| Arc::new(Usage::new(account)))
            .clone();
        let key = (account.to_owned(), quota.instances);
        let known = inner.permits.get(&key).and_then(Weak::upgrade);
        let permits = known.unwrap_or_else(|| {
            let size = usize::try_from(quota.instances).unwrap_or(1);
            let permits = Arc::new(Semaphore::new(size.min(Semaphore::MAX_PERMITS)));
            inner.permits.insert(key, Arc::downgrade(&permits));
            permits
        });
        Arc::new(Tenant::new(quota, usage, permits))
    }

    /// What each account's own plugins used, by account.
    pub fn usages(&self) -> Vec<AccountUsage> {
        let mut all: Vec<_> = self.0.lock().usages.values().map(|u| u.read()).collect();
        all.sort_by(|a, b| a.account.cmp(&b.account));
        all
    }
}

impl Inner {
    /// Adds up the rows that no set in memory uses.
    fn make_room(&mut self) {
        let mut others = Counts::new();
        self.rows.retain(|_, row| {
            row.fold();
            let used = !row.live.is_empty();
            if !used {
                others.add(&row.gone);
            }
            used
        });
        let who = Who {
            entry: OTHERS.to_owned(),
            plugin: String::new(),
            version: String::new(),
            hook: Hook::ContentFilter,
            account: None,
            previous: false,
        };
        let row = Row {
            gone: others,
            live: Vec::new(),
        };
        self.rows.insert(who, row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(entry: &str) -> Who {
        Who {
            entry: entry.to_owned(),
            plugin: "words".to_owned(),
            version: "1.0.0".to_owned(),
            hook: Hook::ContentFilter,
            account: None,
            previous: false,
        }
    }

    #[test]
    fn counts_outlive_the_instances_that_made_them() {
        let ledger = Ledger::default();
        let first = ledger.stats(who("a"));
        (0..3).for_each(|_| first.called(1_000));
        let second = ledger.stats(who("a"));
        second.called(1_000);
        let calls = || ledger.totals()[0].1.calls;
        assert_eq!(calls(), 4);
        drop(first);
        assert_eq!(calls(), 4);
        drop(second);
        assert_eq!((calls(), ledger.totals().len()), (4, 1));
    }

    #[test]
    fn what_was_only_tried_leaves_no_row() {
        let ledger = Ledger::default();
        drop(ledger.stats(who("a")));
        assert!(ledger.totals().is_empty());
    }

    #[test]
    fn rows_are_bounded_and_no_count_is_lost() {
        let ledger = Ledger::default();
        for n in 0..3 * ROWS_MAX {
            ledger.stats(who(&format!("e{n}"))).called(1_000);
        }
        let totals = ledger.totals();
        assert!(totals.len() <= ROWS_MAX, "{}", totals.len());
        let calls: u64 = totals.iter().map(|(_, s)| s.calls).sum();
        assert_eq!(calls, 3 * ROWS_MAX as u64);
    }

    #[test]
    fn an_account_owes_what_it_owed_whatever_its_new_quota() {
        use std::time::Instant;

        let ledger = Ledger::default();
        let quota = Quota::of(&crate::plugin::PolicySpec::default(), "acme");
        let tenant = ledger.tenant("acme", quota);
        let now = Instant::now();
        assert!(tenant.admit(now).is_ok());
        tenant.used(10_000_000_000);
        drop(tenant);
        let next = ledger.tenant(
            "acme",
            Quota {
                cpu_burst_ms: 1_000,
                ..quota
            },
        );
        assert!(next.admit(now).is_err());
        assert_eq!(ledger.usages()[0].refused, 1);
    }
}
