//! The one place that reads the clock. Everything above takes a [`Clock`] or a [`Timestamp`], so
//! time-dependent logic runs in tests at whatever time the test says.

mod anchor;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use anchor::Anchor;

/// Milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    pub const MAX: Timestamp = Timestamp(u64::MAX);

    pub fn millis(self) -> u64 {
        self.0
    }

    pub fn plus(self, duration: Duration) -> Timestamp {
        Timestamp(
            self.0
                .saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        )
    }

    /// How long after `earlier` this is; zero where it is not after.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Whole days since the Unix epoch, UTC: the name of a retention partition.
    pub fn day(self) -> u32 {
        u32::try_from(self.0 / 86_400_000).unwrap_or(u32::MAX)
    }
}

/// Wall time for records and wall time alone; a duration is measured with [`Clock::monotonic`].
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Steady(Arc<Steady>),
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The system's clock without its jumps (`Steady`). One for a process: each has a history of its own.
    pub fn system() -> Clock {
        Clock::of(Machine(Instant::now()))
    }

    /// What [`Clock::system`] makes of the machine's times, of these: a simulation passes its own.
    pub fn of(times: impl Times + 'static) -> Clock {
        Clock(Source::Steady(Arc::new(Steady::new(Box::new(times)))))
    }

    /// A clock that stands still until [`Clock::set`] moves it.
    pub fn manual(start: Timestamp) -> Clock {
        Clock(Source::Manual(Arc::new(AtomicU64::new(start.0))))
    }

    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::Steady(steady) => Timestamp(steady.now()),
            Source::Manual(at) => Timestamp(at.load(Ordering::Relaxed)),
        }
    }

    /// Moves a manual clock; the system's clock cannot be moved and stays as it is.
    pub fn set(&self, to: Timestamp) {
        match &self.0 {
            Source::Steady(_) => {}
            Source::Manual(at) => at.store(to.0, Ordering::Relaxed),
        }
    }

    /// It was `known` already, says the store: a system's clock that cannot be right begins there, and one
    /// that is a little behind does not go over the same time again. How far the store is ahead where it is
    /// not believed: it was written under a wrong clock.
    pub fn not_before(&self, known: Timestamp) -> Option<Duration> {
        match &self.0 {
            Source::Steady(steady) => steady.not_before(known.0).map(Duration::from_millis),
            Source::Manual(_) => None,
        }
    }

    /// It must be `expected` now, as is known from before a restart: a system's clock that is ahead of that was
    /// moved meanwhile, and is followed slowly as it would have been without the restart. One that is behind is
    /// believed, for that harms nobody. Whether it was moved.
    pub fn go_on_from(&self, expected: Timestamp) -> bool {
        match &self.0 {
            Source::Steady(steady) => steady.go_on_from(expected.0),
            Source::Manual(_) => false,
        }
    }

    /// How far the system's clock is ahead of what [`Clock::now`] says, in milliseconds; 0 but for a while
    /// after it was moved.
    pub fn ahead_ms(&self) -> i64 {
        match &self.0 {
            Source::Steady(steady) => steady.ahead(),
            Source::Manual(_) => 0,
        }
    }

    /// How many times faster than the machine's time it goes.
    pub fn pace(&self) -> u32 {
        match &self.0 {
            Source::Steady(steady) => steady.times.pace(),
            Source::Manual(_) => 1,
        }
    }

    /// For measuring how long something took.
    pub fn monotonic(&self) -> Instant {
        match &self.0 {
            Source::Steady(steady) => steady.times.monotonic(),
            Source::Manual(_) => Instant::now(),
        }
    }

    /// How long to sleep before asking again whether it is `at` yet: never beyond it, whatever becomes of
    /// the clock meanwhile.
    pub fn sleep_until(&self, at: Timestamp) -> Duration {
        let left = at.since(self.now());
        match &self.0 {
            // This one goes twice as fast as time passes at most.
            Source::Steady(steady) => {
                let cautious = (left / (2 * steady.times.pace())).clamp(SLEEP_MIN, SLEEP_MAX);
                cautious.max(steady.undisturbed_until(left))
            }
            // This one is set at any time.
            Source::Manual(_) => left.clamp(SLEEP_MIN, SLEEP_MAX / 20),
        }
    }
}

const SLEEP_MIN: Duration = Duration::from_millis(1);
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// A file has been used just now, says its time of change.
pub fn touch(file: &std::fs::File) -> std::io::Result<()> {
    file.set_modified(SystemTime::now())
}

/// What a machine tells of the time, in milliseconds.
pub trait Times: Send + Sync {
    /// Since the Unix epoch; somebody may move it.
    fn wall(&self) -> u64;
    /// Since some moment; it never stands and never jumps.
    fn steady(&self) -> u64;
    /// The same as the runtime's timers have it.
    fn monotonic(&self) -> Instant {
        Instant::now()
    }
    /// How many times faster than the runtime's timers `steady` goes.
    fn pace(&self) -> u32 {
        1
    }
    /// For how long, by the runtime's timers, nobody moves `wall`. A machine cannot know; who simulates one does.
    fn undisturbed(&self) -> Duration {
        Duration::ZERO
    }
}

/// The steady time counts from here.
struct Machine(Instant);

impl Times for Machine {
    fn wall(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    fn steady(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Follows the system's clock where that goes steadily. Where it jumps, this one goes on from where it was, at
/// most twice as fast or half as fast as time passes until the two agree: nothing expires because somebody set
/// the clock a day ahead, and nothing that is due waits because it was set back.
struct Steady {
    times: Box<dyn Times>,
    /// What is to be added to the steady time.
    base: AtomicU64,
    /// Steady time at which the system's clock was last looked at.
    looked: AtomicU64,
    /// The system's clock has not yet been right: at first it is followed at once.
    astray: AtomicBool,
    /// A jump is being made up for, and was told.
    told: AtomicBool,
}

/// How often the system's clock is looked at. A correction backwards is at most half of it at once.
const LOOK_MS: u64 = 2;
/// Two clocks in whole milliseconds that agree differ by so much now and then.
const SLACK_MS: u64 = 2;
/// 2026-01-01: a clock that says less was never set.
const PLAUSIBLE_MS: u64 = 1_767_225_600_000;
/// What the store knows counts so far beyond the system's clock; more than that says that the store was
/// written under a wrong clock.
const KNOWN_AHEAD_MS: u64 = 86_400_000;
/// A jump that is worth a line in the log.
const TOLD_MS: u64 = 2_000;

impl Steady {
    fn new(times: Box<dyn Times>) -> Steady {
        let (wall, steady) = (times.wall(), times.steady());
        let astray = wall < PLAUSIBLE_MS;
        Steady {
            base: AtomicU64::new(wall.max(PLAUSIBLE_MS).wrapping_sub(steady)),
            looked: AtomicU64::new(steady),
            astray: AtomicBool::new(astray),
            told: AtomicBool::new(false),
            times,
        }
    }

    fn now(&self) -> u64 {
        let steady = self.times.steady();
        let looked = self.looked.load(Ordering::Relaxed);
        let passed = steady.saturating_sub(looked);
        if passed >= LOOK_MS
            && self
                .looked
                .compare_exchange(looked, steady, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.look(steady, passed);
        }
        steady.wrapping_add(self.base.load(Ordering::Relaxed))
    }

    /// `passed` milliseconds after it was last looked at.
    fn look(&self, steady: u64, passed: u64) {
        let wall = self.times.wall();
        if wall < PLAUSIBLE_MS {
            return;
        }
        let now = steady.wrapping_add(self.base.load(Ordering::Relaxed));
        self.tell(wall, now);
        let astray = self.astray.swap(false, Ordering::Relaxed);
        let apart = wall.abs_diff(now);
        if apart <= SLACK_MS {
            return;
        }
        let step = match wall > now {
            true if astray => apart,
            true => apart.min(passed),
            false => apart.min(passed / 2).wrapping_neg(),
        };
        self.base.fetch_add(step, Ordering::Relaxed);
    }

    /// The part of `left` that nobody disturbs, by the runtime's timers: none where that is not known.
    fn undisturbed_until(&self, left: Duration) -> Duration {
        let undisturbed = self.times.undisturbed();
        if undisturbed.is_zero() || self.astray.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let behind = self.times.wall().saturating_sub(self.now());
        // It makes up for what it is behind by going twice as fast, and goes no faster than time otherwise.
        let made_up = match behind {
            0..=SLACK_MS => Duration::ZERO,
            behind => Duration::from_millis(behind).min(left / 2),
        };
        undisturbed.min((left - made_up) / self.times.pace())
    }

    fn tell(&self, wall: u64, now: u64) {
        let apart = wall.abs_diff(now);
        let told = self.told.load(Ordering::Relaxed);
        if apart > TOLD_MS && !told {
            self.told.store(true, Ordering::Relaxed);
            tracing::warn!(
                ahead_ms = wall.cast_signed().wrapping_sub(now.cast_signed()),
                "the system's clock was moved; it is followed slowly"
            );
        } else if apart <= SLACK_MS && told {
            self.told.store(false, Ordering::Relaxed);
        }
    }

    fn not_before(&self, known: u64) -> Option<u64> {
        let now = self.now();
        let ahead = known.checked_sub(now)?;
        if self.astray.load(Ordering::Relaxed) || ahead <= KNOWN_AHEAD_MS {
            self.base.fetch_add(ahead, Ordering::Relaxed);
            return None;
        }
        tracing::warn!(
            ahead_ms = ahead,
            "the store was written under a clock that was more than a day ahead of the present one"
        );
        Some(ahead)
    }

    fn go_on_from(&self, expected: u64) -> bool {
        let now = self.now();
        let moved = now > expected.saturating_add(TOLD_MS);
        if moved || (self.astray.load(Ordering::Relaxed) && expected > now) {
            self.base
                .fetch_add(expected.wrapping_sub(now), Ordering::Relaxed);
        }
        moved
    }

    fn ahead(&self) -> i64 {
        let now = self.now();
        self.times
            .wall()
            .cast_signed()
            .wrapping_sub(now.cast_signed())
    }
}

impl std::fmt::Debug for Steady {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steady").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times that a test sets.
    #[derive(Clone, Default)]
    struct Set(Arc<(AtomicU64, AtomicU64)>);

    impl Times for Set {
        fn wall(&self) -> u64 {
            self.0.0.load(Ordering::Relaxed)
        }

        fn steady(&self) -> u64 {
            self.0.1.load(Ordering::Relaxed)
        }
    }

    impl Set {
        fn at(wall: u64) -> (Set, Steady) {
            let set = Set::default();
            set.0.0.store(wall, Ordering::Relaxed);
            set.0.1.store(7_000, Ordering::Relaxed);
            let clock = Steady::new(Box::new(set.clone()));
            (set, clock)
        }

        /// Both go on.
        fn pass(&self, ms: u64) {
            self.0.0.fetch_add(ms, Ordering::Relaxed);
            self.0.1.fetch_add(ms, Ordering::Relaxed);
        }

        fn jump(&self, ms: i64) {
            self.0.0.fetch_add(ms.cast_unsigned(), Ordering::Relaxed);
        }
    }

    const START: u64 = PLAUSIBLE_MS + 20_000_000_000;
    const HOUR: u64 = 3_600_000;

    #[test]
    fn it_is_the_systems_time_where_nobody_moves_that() {
        let (set, clock) = Set::at(START);
        for n in 0..1_000 {
            assert_eq!(clock.now(), START + n * 37);
            set.pass(37);
        }
        assert_eq!(clock.ahead(), 0);
    }

    #[test]
    fn a_jump_ahead_that_is_taken_back_expires_nothing() {
        for jump in [5_000, HOUR, 24 * HOUR, 400 * 24 * HOUR] {
            let (set, clock) = Set::at(START);
            clock.now();
            set.jump(jump.cast_signed());
            let mut last = clock.now();
            for _ in 0..300_000 / 50 {
                set.pass(50);
                let now = clock.now();
                assert!(now >= last && now - last <= 100, "{jump}: {last} {now}");
                last = now;
            }
            assert!(last <= START + 600_000, "{jump}");
            set.jump(-jump.cast_signed());
            for _ in 0..1_000_000 / 50 {
                set.pass(50);
                clock.now();
            }
            assert!(clock.ahead().unsigned_abs() <= SLACK_MS, "{jump}");
        }
    }

    /// Times that stay as they are until they are set again.
    #[derive(Clone)]
    struct Left(Set);

    impl Times for Left {
        fn wall(&self) -> u64 {
            self.0.wall()
        }

        fn steady(&self) -> u64 {
            self.0.steady()
        }

        fn undisturbed(&self) -> Duration {
            Duration::from_secs(10_000)
        }
    }

    #[test]
    fn a_clock_that_is_left_alone_is_waited_for_at_once_and_never_beyond() {
        for jump in [0, 1, 40, 700, 100_000, -1, -40, -700, -100_000] {
            let (set, _) = Set::at(START);
            let clock = Clock::of(Left(set.clone()));
            clock.now();
            set.jump(jump);
            let at = clock.now().plus(Duration::from_millis(1_000));
            let mut sleeps = 0;
            while clock.now() < at {
                let sleep = clock.sleep_until(at).as_millis();
                set.pass(u64::try_from(sleep).unwrap());
                assert!(clock.now() <= at.plus(SLEEP_MIN), "{jump}");
                sleeps += 1;
            }
            assert!(sleeps <= 16, "{jump}: {sleeps}");
        }
    }

    #[test]
    fn a_clock_that_may_be_set_is_looked_at_on_the_way() {
        let (set, _) = Set::at(START);
        let clock = Clock::of(set.clone());
        let at = clock.now().plus(Duration::from_millis(1_000));
        assert_eq!(clock.sleep_until(at), Duration::from_millis(500));
        assert_eq!(clock.sleep_until(Timestamp::MAX), SLEEP_MAX);
    }

    #[test]
    fn a_jump_back_stalls_nothing_and_time_is_not_lived_twice() {
        for jump in [2_000, HOUR, 24 * HOUR, 9_000 * 24 * HOUR] {
            let (set, clock) = Set::at(START);
            clock.now();
            set.jump(-jump.cast_signed());
            let (mut last, mut at) = (clock.now(), START);
            for _ in 0..5_000 {
                set.pass(20);
                at += 20;
                let now = clock.now();
                assert!(now >= last, "{jump}: it went back");
                assert!(now >= START + (at - START) / 2, "{jump}: it stalls");
                last = now;
            }
        }
    }

    #[test]
    fn a_jump_that_stands_is_made_up_for() {
        let (set, clock) = Set::at(START);
        clock.now();
        set.jump(HOUR.cast_signed());
        for _ in 0..HOUR / 1_000 {
            set.pass(1_000);
            clock.now();
        }
        assert!(clock.ahead().unsigned_abs() <= SLACK_MS);
    }

    #[test]
    fn readers_close_together_see_no_more_than_a_millisecond_of_a_correction() {
        let (set, clock) = Set::at(START);
        clock.now();
        set.jump(-HOUR.cast_signed());
        let mut last = clock.now();
        for _ in 0..10_000 {
            set.pass(1);
            let now = clock.now();
            assert!(now + 1 >= last, "{last} {now}");
            last = now;
        }
    }

    #[test]
    fn a_clock_that_was_never_set_begins_where_the_store_ends_and_is_followed_once_it_is_right() {
        let (set, clock) = Set::at(12_345);
        assert!(clock.now() >= PLAUSIBLE_MS);
        clock.not_before(START);
        assert_eq!(clock.now(), START);
        set.pass(60_000);
        assert_eq!(clock.now(), START + 60_000);
        // The time arrives over the network.
        set.0.0.store(START + 90 * 24 * HOUR, Ordering::Relaxed);
        set.pass(10);
        assert_eq!(clock.now(), START + 90 * 24 * HOUR + 10);
        // From now on it is a clock like any other.
        set.jump(HOUR.cast_signed());
        set.pass(10);
        assert!(clock.now() <= START + 90 * 24 * HOUR + 100);
    }

    #[test]
    fn the_store_holds_a_clock_that_is_behind_and_no_wrong_store_holds_a_right_clock() {
        let (set, clock) = Set::at(START);
        clock.not_before(START + HOUR);
        assert_eq!(clock.now(), START + HOUR);
        set.pass(1_000);
        assert!(clock.now() >= START + HOUR);
        let (_, clock) = Set::at(START);
        let ahead = clock.not_before(START + 400 * 24 * HOUR);
        assert_eq!((clock.now(), ahead), (START, Some(400 * 24 * HOUR)));
        assert_eq!(clock.not_before(START - HOUR), None);
        assert_eq!(clock.now(), START);
    }

    #[test]
    fn after_a_restart_a_clock_that_was_set_ahead_is_followed_slowly_and_one_behind_at_once() {
        let (set, clock) = Set::at(START + 400 * 24 * HOUR);
        assert!(clock.go_on_from(START));
        assert_eq!(clock.now(), START);
        set.pass(1_000);
        assert!(clock.now() <= START + 2_000);
        let (_, clock) = Set::at(START);
        for expected in [START + HOUR, START, START - 500] {
            assert!(!clock.go_on_from(expected));
            assert_eq!(clock.now(), START);
        }
        // A clock that was never set knows less than anybody.
        let (_, clock) = Set::at(12_345);
        assert!(!clock.go_on_from(START));
        assert_eq!(clock.now(), START);
    }
}
