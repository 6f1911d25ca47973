//! Looks at the plugins' counters once a second and tells operators what changed: breakers that
//! opened and closed, accounts over their quota. Costs the calls themselves nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Pipeline;
use super::events::EventKind;
use crate::plugin::{AccountUsage, Entry, EntryStats, PolicySet, Who};

const LOOK: Duration = Duration::from_secs(1);

/// An account over its quota is told of no more often than this.
const QUOTA_QUIET: Duration = Duration::from_secs(60);

/// What was seen at the last look.
#[derive(Default)]
struct Seen {
    /// Times that a breaker opened and closed.
    breakers: HashMap<Who, (u64, u64)>,
    quotas: HashMap<String, Quota>,
}

struct Quota {
    /// Refused calls at the last event.
    told: u64,
    at: Instant,
}

/// What is to be told: kind, subject, detail.
type Told = (EventKind, String, String);

/// Runs until `stop` turns true.
pub async fn run(pipeline: std::sync::Arc<Pipeline>, mut stop: watch::Receiver<bool>) {
    let mut seen = Seen::default();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let ledger = pipeline.policy.ledger();
        let set = pipeline.policy.active();
        let told = seen
            .breakers(&ledger.totals(), &set)
            .into_iter()
            .chain(seen.quotas(&ledger.usages(), Instant::now()));
        for (kind, subject, detail) in told.collect::<Vec<_>>() {
            pipeline.policy.events().emit(kind, subject, detail);
        }
    }
}

impl Seen {
    fn breakers(&mut self, totals: &[(Who, EntryStats)], set: &PolicySet) -> Vec<Told> {
        let mut told = Vec::new();
        let mut seen = HashMap::new();
        for (who, stats) in totals {
            let now = (stats.breaker_opened, stats.breaker_closed);
            if now == (0, 0) {
                continue;
            }
            let before = self.breakers.get(who).copied().unwrap_or_default();
            if now.0 > before.0 {
                let last = entry_of(set, who).and_then(|e| e.breaker_report().last_fault);
                let last = last.map_or(String::new(), |fault| format!("; the last fault: {fault}"));
                let detail = format!("{} is skipped for a while{last}", described(who));
                told.push((EventKind::BreakerOpened, who.entry.clone(), detail));
            }
            if now.1 > before.1 {
                let detail = format!("{} answers again", described(who));
                told.push((EventKind::BreakerClosed, who.entry.clone(), detail));
            }
            seen.insert(who.clone(), now);
        }
        self.breakers = seen;
        told
    }

    fn quotas(&mut self, usages: &[AccountUsage], now: Instant) -> Vec<Told> {
        let mut told = Vec::new();
        for usage in usages {
            let last = self.quotas.get(&usage.account);
            let before = last.map_or(0, |q| q.told);
            let quiet = last.is_some_and(|q| now.saturating_duration_since(q.at) < QUOTA_QUIET);
            if usage.refused <= before || quiet {
                continue;
            }
            let detail = format!(
                "{} calls of its own plugins were not made; they have used {} ms of processor time since the server started",
                usage.refused - before,
                usage.cpu_nanos / 1_000_000
            );
            told.push((EventKind::QuotaExceeded, usage.account.clone(), detail));
            let quota = Quota {
                told: usage.refused,
                at: now,
            };
            self.quotas.insert(usage.account.clone(), quota);
        }
        self.quotas
            .retain(|account, _| usages.iter().any(|u| u.account == *account));
        told
    }
}

fn entry_of<'s>(set: &'s PolicySet, who: &Who) -> Option<&'s Entry> {
    let all = set.all().iter().flat_map(|e| [Some(e), e.previous()]);
    all.flatten().find(|e| e.who() == *who)
}

/// `words of account acme (content-filter 1.2.0, content-filter)`
fn described(who: &Who) -> String {
    let account = match &who.account {
        Some(account) => format!(" of account {account}"),
        None => String::new(),
    };
    let role = if who.previous {
        ", the version before"
    } else {
        ""
    };
    format!(
        "{}{account} ({} {}, {}{role})",
        who.entry,
        who.plugin,
        who.version,
        who.hook.name()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Hook;

    fn totals(opened: u64, closed: u64) -> Vec<(Who, EntryStats)> {
        let who = Who {
            entry: "words".to_owned(),
            plugin: "content-filter".to_owned(),
            version: "1.2.0".to_owned(),
            hook: Hook::ContentFilter,
            account: Some("acme".to_owned()),
            previous: false,
        };
        let stats = EntryStats {
            breaker_opened: opened,
            breaker_closed: closed,
            ..EntryStats::default()
        };
        vec![(who, stats)]
    }

    #[test]
    fn each_turn_of_a_breaker_is_told_once() {
        let set = PolicySet::empty(Vec::new());
        let mut seen = Seen::default();
        let kinds = |told: Vec<Told>| told.into_iter().map(|t| t.0).collect::<Vec<_>>();
        assert!(seen.breakers(&totals(0, 0), &set).is_empty());
        let told = seen.breakers(&totals(1, 0), &set);
        assert_eq!(told[0].1, "words");
        assert!(
            told[0].2.contains("of account acme") && told[0].2.contains("1.2.0"),
            "{}",
            told[0].2
        );
        assert!(seen.breakers(&totals(1, 0), &set).is_empty());
        assert_eq!(
            kinds(seen.breakers(&totals(2, 2), &set)),
            [EventKind::BreakerOpened, EventKind::BreakerClosed]
        );
    }

    #[test]
    fn an_account_over_its_quota_is_told_of_once_a_minute() {
        let usage = |refused| {
            vec![AccountUsage {
                account: "acme".to_owned(),
                calls: 10,
                cpu_nanos: 5_000_000,
                refused,
            }]
        };
        let mut seen = Seen::default();
        let start = Instant::now();
        assert!(seen.quotas(&usage(0), start).is_empty());
        assert_eq!(seen.quotas(&usage(7), start).len(), 1);
        assert!(
            seen.quotas(&usage(9), start + Duration::from_secs(59))
                .is_empty()
        );
        let told = seen.quotas(&usage(9), start + Duration::from_secs(60));
        assert!(told[0].2.starts_with("2 calls"), "{}", told[0].2);
        assert!(
            seen.quotas(&usage(9), start + Duration::from_secs(600))
                .is_empty()
        );
    }
}
