//! Spares a plugin that keeps failing, and everyone who would wait for it: after too many faults, or after
//! faults that took too much time, it is skipped for a while, then tried with a single call. Pure but for its lock; `now` is passed in.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Fault;
use super::host_calls::escaped;
use super::meter::now;
use super::spec::BreakerSpec;

const FAULTS: u32 = 5;
const WINDOW: u32 = 20;
const PAUSE_S: u32 = 5;
const MAX_PAUSE_S: u32 = 60;
/// So long after a pause for wasted time, the next one is short again.
const CALM: Duration = Duration::from_secs(300);
/// Of the last fault, kept for a person.
const FAULT_CHARS_MAX: usize = 240;

/// Whether an entry is being called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    Closed,
    Open,
    /// One call is out to see whether the plugin works again.
    Probing,
}

impl BreakerState {
    pub fn name(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::Probing => "probing",
        }
    }
}

/// A breaker's bounds with the defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// This many faults among the last `window` calls open it.
    pub faults: u32,
    pub window: u32,
    pub pause: Duration,
    pub max_pause: Duration,
}

impl Settings {
    pub const WINDOW_MAX: u32 = 1_000;
    pub const PAUSE_S_MAX: u32 = 3_600;

    pub fn new(spec: &BreakerSpec) -> Settings {
        let seconds = |n: u32| Duration::from_secs(n.into());
        let pause = spec.pause_s.unwrap_or(PAUSE_S);
        Settings {
            faults: spec.faults.unwrap_or(FAULTS),
            window: spec.window.unwrap_or(WINDOW),
            pause: seconds(pause),
            // A long pause alone is no contradiction.
            max_pause: seconds(spec.max_pause_s.unwrap_or(MAX_PAUSE_S.max(pause))),
        }
    }
}

/// How a breaker stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerReport {
    pub state: BreakerState,
    /// How long it has been so.
    pub since: Duration,
    /// Until the next call is let through as a probe; none where it is closed.
    pub next_probe: Option<Duration>,
    /// Faults among the last calls, by [`Fault::KINDS`], zeros left out.
    pub window_faults: Vec<(&'static str, u32)>,
    /// Calls that the window looks back on.
    pub window: u32,
    /// Times that it opened, and that it closed again.
    pub opened: u64,
    pub closed: u64,
    /// Inert text.
    pub last_fault: Option<String>,
}

pub(super) struct Breaker {
    settings: Settings,
    /// False as long as all is well: then neither question takes the lock.
    troubled: AtomicBool,
    inner: Mutex<Inner>,
}

struct Inner {
    /// The last calls, newest last: 0 for an answer, 1 and the kind's index for a fault.
    recent: VecDeque<u8>,
    /// How many of them are faults.
    faults: u32,
    state: State,
    since: Instant,
    pause: Duration,
    /// When it last opened because of wasted time, and for how long.
    overspent: Option<(Instant, Duration)>,
    opened: u64,
    closed: u64,
    last_fault: Option<String>,
}

#[derive(Clone, Copy)]
enum State {
    Closed,
    Open { until: Instant },
    Probing { since: Instant },
}

impl Breaker {
    pub fn new(settings: Settings) -> Breaker {
        Breaker {
            troubled: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                recent: VecDeque::new(),
                faults: 0,
                state: State::Closed,
                since: now(),
                pause: settings.pause,
                overspent: None,
                opened: 0,
                closed: 0,
                last_fault: None,
            }),
            settings,
        }
    }

    /// Nothing is to be asked of it as long as all is well.
    pub fn is_troubled(&self) -> bool {
        self.troubled.load(Relaxed)
    }

    /// Whether the next call may be made.
    pub fn admits(&self, now: Instant) -> bool {
        if !self.troubled.load(Relaxed) {
            return true;
        }
        let mut inner = self.inner.lock();
        match inner.state {
            State::Closed => true,
            State::Open { until } if now < until => false,
            // A probe whose caller went away reports nothing: the next one may try in its place.
            State::Probing { since } if now.saturating_duration_since(since) < inner.pause => false,
            State::Open { .. } | State::Probing { .. } => {
                inner.state = State::Probing { since: now };
                true
            }
        }
    }

    /// True where it closes by this.
    pub fn succeeded(&self, now: Instant) -> bool {
        if !self.troubled.load(Relaxed) {
            return false;
        }
        let mut closes = false;
        let mut inner = self.inner.lock();
        match inner.state {
            State::Probing { .. } => {
                inner.recent.clear();
                inner.faults = 0;
                inner.state = State::Closed;
                inner.since = now;
                inner.closed += 1;
                closes = true;
                inner.pause = self.settings.pause;
            }
            State::Closed => inner.note(0, self.settings.window),
            // A call that began before it opened.
            State::Open { .. } => {}
        }
        if inner.faults == 0 && matches!(inner.state, State::Closed) {
            inner.recent.clear();
            self.troubled.store(false, Relaxed);
        }
        closes
    }

    /// True where it opens by this; a failed probe leaves it open.
    pub fn failed(&self, now: Instant, fault: &Fault) -> bool {
        let text: String = fault.to_string().chars().take(FAULT_CHARS_MAX).collect();
        let mut inner = self.inner.lock();
        self.troubled.store(true, Relaxed);
        inner.last_fault = Some(escaped(&text));
        let mut opens = false;
        match inner.state {
            State::Closed => {
                let kind = u8::try_from(fault.index() + 1).unwrap_or(u8::MAX);
                inner.note(kind, self.settings.window);
                if inner.faults >= self.settings.faults {
                    inner.open(now);
                    inner.opened += 1;
                    inner.since = now;
                    opens = true;
                }
            }
            State::Probing { .. } => {
                inner.pause = (inner.pause * 2).min(self.settings.max_pause);
                inner.open(now);
            }
            State::Open { .. } => {}
        }
        opens
    }

    /// Calls that failed took more processor time than the entry may waste: however few they are, it opens, each
    /// time for longer. Until when, where it opens by this.
    pub fn overspent(&self, now: Instant) -> Option<Instant> {
        let mut inner = self.inner.lock();
        if !matches!(inner.state, State::Closed) {
            return None;
        }
        let pause = match inner.overspent {
            Some((at, last)) if now.saturating_duration_since(at) < last + CALM => {
                (last * 2).min(self.settings.max_pause)
            }
            Some(_) | None => self.settings.pause,
        };
        self.troubled.store(true, Relaxed);
        inner.overspent = Some((now, pause));
        inner.pause = pause;
        inner.open(now);
        inner.opened += 1;
        inner.since = now;
        if let Some(last) = &mut inner.last_fault {
            last.push_str("; calls that failed took more processor time than it may waste");
        }
        Some(now + pause)
    }

    pub fn state(&self) -> BreakerState {
        match self.inner.lock().state {
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::Probing { .. } => BreakerState::Probing,
        }
    }

    pub fn report(&self, now: Instant) -> BreakerReport {
        let inner = self.inner.lock();
        let (state, next_probe) = match inner.state {
            State::Closed => (BreakerState::Closed, None),
            State::Open { until } => (
                BreakerState::Open,
                Some(until.saturating_duration_since(now)),
            ),
            State::Probing { since } => (
                BreakerState::Probing,
                Some((since + inner.pause).saturating_duration_since(now)),
            ),
        };
        let count = |index: usize| {
            let kind = inner
                .recent
                .iter()
                .filter(|k| usize::from(**k) == index + 1);
            u32::try_from(kind.count()).unwrap_or(u32::MAX)
        };
        BreakerReport {
            state,
            since: now.saturating_duration_since(inner.since),
            next_probe,
            window_faults: Fault::KINDS
                .iter()
                .enumerate()
                .map(|(index, kind)| (*kind, count(index)))
                .filter(|(_, n)| *n > 0)
                .collect(),
            window: self.settings.window,
            opened: inner.opened,
            closed: inner.closed,
            last_fault: inner.last_fault.clone(),
        }
    }
}

impl Inner {
    fn note(&mut self, kind: u8, window: u32) {
        self.recent.push_back(kind);
        self.faults += u32::from(kind > 0);
        if self.recent.len() > usize::try_from(window).unwrap_or(usize::MAX)
            && let Some(oldest) = self.recent.pop_front()
        {
            self.faults -= u32::from(oldest > 0);
        }
    }

    fn open(&mut self, now: Instant) {
        self.state = State::Open {
            until: now + self.pause,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(Settings::new(&BreakerSpec::default()))
    }

    fn trap() -> Fault {
        Fault::Trap("unreachable\n".into())
    }

    fn opened(start: Instant) -> Breaker {
        let breaker = breaker();
        let opens = (0..FAULTS).filter(|_| breaker.failed(start, &trap()));
        assert_eq!(opens.count(), 1);
        breaker
    }

    /// Four times: one less than opens it.
    fn fail(breaker: &Breaker, now: Instant) {
        for _ in 0..4 {
            assert!(!breaker.failed(now, &trap()));
        }
    }

    const FIRST_PAUSE: Duration = Duration::from_secs(PAUSE_S as u64);

    #[test]
    fn it_opens_at_five_faults_of_the_last_twenty() {
        let (breaker, now) = (breaker(), Instant::now());
        fail(&breaker, now);
        assert!(breaker.admits(now));
        breaker.failed(now, &Fault::Timeout { deadline_ms: 10 });
        assert!(!breaker.admits(now));
        let report = breaker.report(now + Duration::from_secs(1));
        assert_eq!(report.state, BreakerState::Open);
        assert_eq!(report.window_faults, [("trap", 4), ("timeout", 1)]);
        assert_eq!(report.since, Duration::from_secs(1));
        assert_eq!(report.next_probe, Some(Duration::from_secs(4)));
        assert_eq!((report.opened, report.closed), (1, 0));
        assert!(report.last_fault.unwrap().contains("deadline_ms = 10"));
    }

    #[test]
    fn wasted_time_opens_it_for_longer_each_time_until_it_has_been_calm() {
        let (breaker, mut now) = (breaker(), Instant::now());
        let overspend = |now| {
            breaker.failed(now, &Fault::Timeout { deadline_ms: 10 });
            breaker.overspent(now)
        };
        for pause in [5, 10, 20, 40, 60, 60].map(Duration::from_secs) {
            assert_eq!(overspend(now), Some(now + pause));
            assert_eq!(breaker.overspent(now), None, "it is open");
            assert!(!breaker.admits(now + pause - Duration::from_millis(1)));
            now += pause;
            assert!(breaker.admits(now));
            assert!(breaker.succeeded(now));
        }
        now += CALM;
        assert_eq!(overspend(now), Some(now + FIRST_PAUSE));
        let report = breaker.report(now);
        assert_eq!(report.opened, 7);
        assert!(report.last_fault.unwrap().ends_with("may waste"));
    }

    #[test]
    fn the_last_fault_is_inert_text() {
        let breaker = opened(Instant::now());
        let last = breaker.report(Instant::now()).last_fault.unwrap();
        assert!(last.ends_with("unreachable\\u{a}"), "{last}");
    }

    #[test]
    fn faults_are_forgotten_after_twenty_calls() {
        let (breaker, now) = (breaker(), Instant::now());
        fail(&breaker, now);
        for _ in 0..20 {
            assert!(!breaker.succeeded(now));
        }
        fail(&breaker, now);
        assert!(breaker.admits(now));
    }

    #[test]
    fn its_bounds_are_the_entrys_own() {
        let now = Instant::now();
        let breaker = Breaker::new(Settings::new(&BreakerSpec {
            faults: Some(2),
            window: Some(2),
            pause_s: Some(90),
            max_pause_s: None,
        }));
        breaker.failed(now, &trap());
        breaker.succeeded(now);
        breaker.failed(now, &trap());
        assert!(breaker.admits(now), "one fault among the last two");
        breaker.failed(now, &trap());
        assert!(!breaker.admits(now + Duration::from_secs(89)));
        assert!(breaker.admits(now + Duration::from_secs(90)));
    }

    #[test]
    fn one_probe_at_a_time_and_its_success_closes() {
        let start = Instant::now();
        let breaker = opened(start);
        let later = start + FIRST_PAUSE;
        assert!(breaker.admits(later));
        assert_eq!(breaker.state(), BreakerState::Probing);
        assert!(!breaker.admits(later));
        assert!(breaker.succeeded(later));
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert!(breaker.admits(later));
        let report = breaker.report(later);
        assert_eq!((report.opened, report.closed), (1, 1));
        assert!(report.window_faults.is_empty());
    }

    #[test]
    fn a_failed_probe_doubles_the_pause_up_to_a_minute() {
        let mut now = Instant::now();
        let breaker = opened(now);
        for pause in [5, 10, 20, 40, 60, 60] {
            assert!(!breaker.admits(now + Duration::from_secs(pause) - Duration::from_millis(1)));
            now += Duration::from_secs(pause);
            assert!(breaker.admits(now));
            breaker.failed(now, &trap());
        }
        assert_eq!(breaker.report(now).opened, 1, "it never closed in between");
    }

    #[test]
    fn a_probe_that_never_reports_does_not_keep_it_shut() {
        let start = Instant::now();
        let breaker = opened(start);
        assert!(breaker.admits(start + FIRST_PAUSE));
        assert!(breaker.admits(start + FIRST_PAUSE * 2));
    }
}
