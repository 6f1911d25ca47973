//! What happens to the server itself, for operators: policies put in force, canaries that step or
//! roll back, breakers that open. A bounded list of the last ones, and a live feed. Messages have
//! their own history; their text and numbers never come here.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::clock::{Clock, Timestamp};

/// Events that are kept and shown.
const KEPT_MAX: usize = 1_000;

/// As many of them may be of sessions: an ESME that binds and unbinds all day does not push out what was done
/// to the policy.
const OF_SESSIONS_MAX: usize = KEPT_MAX / 2;

/// Events that a slow reader of the feed may lag behind before it loses some.
const FEED_MAX: usize = 256;

/// What happened. A closed list; the names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    PolicyActivated,
    PolicyRefused,
    PolicyRolledBack,
    PluginStaged,
    ShadowStarted,
    ShadowStopped,
    CanaryStarted,
    CanaryStepped,
    CanaryPromoted,
    CanaryRolledBack,
    CanaryAborted,
    BreakerOpened,
    BreakerClosed,
    QuotaExceeded,
    ComplianceOpened,
    /// The first session of a system_id, and the end of its last.
    EsmeBound,
    EsmeUnbound,
    EsmeLockedOut,
}

impl EventKind {
    fn is_of_a_session(self) -> bool {
        matches!(
            self,
            EventKind::EsmeBound | EventKind::EsmeUnbound | EventKind::EsmeLockedOut
        )
    }

    pub fn name(self) -> &'static str {
        match self {
            EventKind::PolicyActivated => "policy.activated",
            EventKind::PolicyRefused => "policy.refused",
            EventKind::PolicyRolledBack => "policy.rolled_back",
            EventKind::PluginStaged => "plugin.staged",
            EventKind::ShadowStarted => "shadow.started",
            EventKind::ShadowStopped => "shadow.stopped",
            EventKind::CanaryStarted => "canary.started",
            EventKind::CanaryStepped => "canary.stepped",
            EventKind::CanaryPromoted => "canary.promoted",
            EventKind::CanaryRolledBack => "canary.rolled_back",
            EventKind::CanaryAborted => "canary.aborted",
            EventKind::BreakerOpened => "breaker.opened",
            EventKind::BreakerClosed => "breaker.closed",
            EventKind::QuotaExceeded => "quota.exceeded",
            EventKind::ComplianceOpened => "compliance.opened",
            EventKind::EsmeBound => "esme.bound",
            EventKind::EsmeUnbound => "esme.unbound",
            EventKind::EsmeLockedOut => "esme.locked_out",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorEvent {
    /// Counts up from 1 since the server started.
    pub sequence: u64,
    pub at: Timestamp,
    pub kind: EventKind,
    /// Whom it concerns: a set's id, an entry's name.
    pub subject: String,
    /// For a person.
    pub detail: String,
}

/// The list and the feed. A clone is the same one.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    clock: Clock,
    kept: Mutex<Kept>,
    feed: broadcast::Sender<Arc<OperatorEvent>>,
}

#[derive(Default)]
struct Kept {
    last: u64,
    events: VecDeque<Arc<OperatorEvent>>,
}

impl Kept {
    /// Lets the oldest event go where the list is full: of a session, where they are too many.
    fn make_room(&mut self) {
        if self.events.len() < KEPT_MAX {
            return;
        }
        let of_sessions = || {
            let events = self.events.iter().enumerate();
            events.filter(|(_, e)| e.kind.is_of_a_session())
        };
        let oldest = match of_sessions().nth(OF_SESSIONS_MAX) {
            Some(_) => of_sessions().next().map_or(0, |(at, _)| at),
            None => 0,
        };
        self.events.remove(oldest);
    }
}

impl Events {
    pub fn new(clock: Clock) -> Events {
        Events(Arc::new(Inner {
            clock,
            kept: Mutex::default(),
            feed: broadcast::channel(FEED_MAX).0,
        }))
    }

    pub fn emit(&self, kind: EventKind, subject: impl Into<String>, detail: impl Into<String>) {
        let (subject, detail) = (subject.into(), detail.into());
        tracing::info!(event = kind.name(), subject, detail, "operator event");
        let mut kept = self.0.kept.lock();
        kept.last += 1;
        let event = Arc::new(OperatorEvent {
            sequence: kept.last,
            at: self.0.clock.now(),
            kind,
            subject,
            detail,
        });
        kept.make_room();
        kept.events.push_back(event.clone());
        // Within the lock, so that the feed has the list's order. No reader is no error.
        let _ = self.0.feed.send(event);
    }

    /// Those after `sequence`, oldest first.
    pub fn since(&self, sequence: u64) -> Vec<Arc<OperatorEvent>> {
        let kept = self.0.kept.lock();
        let newer = kept.events.iter().filter(|e| e.sequence > sequence);
        newer.cloned().collect()
    }

    /// What is kept after `sequence`, and all that follows. A number that was never given out is of
    /// a server before this one: to its reader everything is new.
    pub fn follow(
        &self,
        sequence: u64,
    ) -> (
        Vec<Arc<OperatorEvent>>,
        broadcast::Receiver<Arc<OperatorEvent>>,
    ) {
        let kept = self.0.kept.lock();
        let sequence = if sequence > kept.last { 0 } else { sequence };
        let newer = kept.events.iter().filter(|e| e.sequence > sequence);
        (newer.cloned().collect(), self.0.feed.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_come_and_go_push_out_no_other_event() {
        let events = Events::new(Clock::manual(Timestamp(5)));
        events.emit(EventKind::CanaryRolledBack, "set 1", "");
        for _ in 0..2 * KEPT_MAX {
            events.emit(EventKind::EsmeBound, "app", "");
            events.emit(EventKind::EsmeUnbound, "app", "");
        }
        let kept = events.since(0);
        assert_eq!(kept.len(), KEPT_MAX);
        assert_eq!(kept[0].kind, EventKind::CanaryRolledBack);
        assert!(kept.is_sorted_by_key(|e| e.sequence));
        // The others may have all of it.
        for _ in 0..KEPT_MAX {
            events.emit(EventKind::PolicyActivated, "set 2", "");
        }
        let kept = events.since(0);
        let policies = kept.iter().filter(|e| e.kind == EventKind::PolicyActivated);
        assert_eq!(policies.count(), KEPT_MAX);
    }

    #[test]
    fn the_list_is_bounded_and_a_follower_misses_nothing() {
        let events = Events::new(Clock::manual(Timestamp(5)));
        for n in 0..KEPT_MAX + 10 {
            events.emit(EventKind::PolicyActivated, format!("set {n}"), "");
        }
        let (kept, mut feed) = events.follow(KEPT_MAX as u64);
        assert_eq!(kept.len(), 10);
        assert_eq!(events.since(0).len(), KEPT_MAX);
        events.emit(EventKind::BreakerOpened, "words", "5 faults");
        let next = feed.try_recv().unwrap();
        assert_eq!(next.sequence, kept.last().unwrap().sequence + 1);
        assert_eq!(next.kind.name(), "breaker.opened");
        assert_eq!(events.follow(u64::MAX).0.len(), KEPT_MAX);
    }
}
