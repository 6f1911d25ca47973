//! What one entry's slow calls may take from everybody else: so many of them run at once, so many wait,
//! and processor time that came to nothing is charged to the entry, which gets a little of it back
//! every second. Fast calls never come here. Knows no WebAssembly.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A call that runs through more ticks than this is slow.
const FREE_TICKS: u32 = 1;
/// Slow calls of one entry that wait for their turn; one more is stopped.
const WAITING_MAX: usize = 4;
/// Milliseconds that an entry may waste: at once, and per second over time.
const WASTE_BURST_MS: f64 = 200.0;
const WASTE_MS_PER_SECOND: f64 = 25.0;
/// A call that runs longer than this is charged while it runs, not when it has failed.
const PATIENCE_MS: u32 = 250;

/// The lane of one entry.
pub(super) struct Lane {
    turns: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    /// What may still be wasted, and when that was so. Below zero: a debt.
    budget: Mutex<(f64, Instant)>,
}

/// What becomes of a call at a tick.
pub(super) enum Turn {
    GoOn,
    /// Not before its turn in the lane.
    Wait(Pin<Box<dyn Future<Output = ()> + Send>>),
    Stop,
}

/// One call's place in its entry's lane.
#[derive(Default)]
pub(super) struct Slow {
    /// Ticks that the call ran through.
    ticks: u32,
    place: Option<Place>,
}

/// Filled by the future that waits; empty afterwards, it waited too long.
type Place = Arc<Mutex<Option<OwnedSemaphorePermit>>>;

/// Of the machine. Every entry has a lane, and to ask the system takes longer than all else that makes one.
static THREADS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));

impl Lane {
    pub fn new() -> Lane {
        Lane {
            // Half of the machine at most: a hostile entry never has all of its threads.
            turns: Arc::new(Semaphore::new((*THREADS / 2).max(1))),
            waiting: Arc::new(AtomicUsize::new(0)),
            budget: Mutex::new((WASTE_BURST_MS, Instant::now())),
        }
    }

    /// `ticks` of processor time came to nothing.
    fn wasted(&self, ticks: u32, now: Instant) {
        let mut budget = self.budget.lock();
        *budget = (filled(*budget, now) - f64::from(ticks), now);
    }

    /// It has wasted all that it may.
    pub fn is_broke(&self, now: Instant) -> bool {
        filled(*self.budget.lock(), now) <= 0.0
    }

    /// It is not called before `until`, and has nothing to waste then.
    pub fn nothing_before(&self, until: Instant) {
        *self.budget.lock() = (0.0, until);
    }

    fn has_credit(&self, ticks: u32, now: Instant) -> bool {
        let charged = f64::from(ticks.saturating_sub(PATIENCE_MS));
        filled(*self.budget.lock(), now) > charged
    }

    /// `None` where too many wait already.
    fn queue(&self, place: Place, longest: Duration) -> Option<Turn> {
        let waiting = Waiting::enter(self.waiting.clone())?;
        let turns = self.turns.clone();
        Some(Turn::Wait(Box::pin(async move {
            if let Ok(Ok(turn)) = tokio::time::timeout(longest, turns.acquire_owned()).await {
                *place.lock() = Some(turn);
            }
            drop(waiting);
        })))
    }
}

fn filled((credit, since): (f64, Instant), now: Instant) -> f64 {
    let seconds = now.saturating_duration_since(since).as_secs_f64();
    (credit + seconds * WASTE_MS_PER_SECOND).min(WASTE_BURST_MS)
}

impl Slow {
    /// A tick that is counted and asks for nothing.
    pub fn count(&mut self) -> Turn {
        self.ticks = self.ticks.saturating_add(1);
        Turn::GoOn
    }

    /// At a tick in which the call runs. `longest`: how long it may wait for its turn.
    pub fn tick(&mut self, lane: &Lane, longest: Duration, now: Instant) -> Turn {
        self.ticks = self.ticks.saturating_add(1);
        if self.ticks <= FREE_TICKS {
            return Turn::GoOn;
        }
        if !lane.has_credit(self.ticks, now) {
            return Turn::Stop;
        }
        match &self.place {
            Some(place) if place.lock().is_some() => Turn::GoOn,
            Some(_) => Turn::Stop,
            None => {
                let taken = lane.turns.clone().try_acquire_owned().ok();
                let at_once = taken.is_some();
                let place = Place::new(Mutex::new(taken));
                self.place = Some(place.clone());
                match at_once {
                    true => Turn::GoOn,
                    false => lane.queue(place, longest).unwrap_or(Turn::Stop),
                }
            }
        }
    }

    /// It waits for something else than the processor: the turn is another's meanwhile.
    pub fn rest(&mut self) {
        self.place = None;
    }

    /// The call failed.
    pub fn failed(&mut self, lane: &Lane, now: Instant) {
        if self.ticks > 0 {
            lane.wasted(self.ticks, now);
        }
        *self = Slow::default();
    }
}

/// Counts one waiting call for as long as it lives.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn enter(count: Arc<AtomicUsize>) -> Option<Waiting> {
        let room = |n: usize| (n < WAITING_MAX).then_some(n + 1);
        let entered = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        // Made only where it was counted: its drop counts back.
        entered.is_ok().then(|| Waiting(count))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(1);

    fn narrow() -> Lane {
        Lane {
            turns: Arc::new(Semaphore::new(1)),
            ..Lane::new()
        }
    }

    fn ran(slow: &mut Slow, lane: &Lane, ticks: u32, now: Instant) -> u32 {
        (0..ticks)
            .take_while(|_| matches!(slow.tick(lane, LONG, now), Turn::GoOn))
            .count() as u32
    }

    #[test]
    fn a_fast_call_needs_no_turn() {
        let (lane, now) = (narrow(), Instant::now());
        let mut busy = Slow::default();
        assert_eq!(ran(&mut busy, &lane, 5, now), 5);
        assert_eq!(ran(&mut Slow::default(), &lane, 5, now), FREE_TICKS);
    }

    #[tokio::test]
    async fn a_slow_call_waits_for_its_turn_and_a_crowd_is_stopped() {
        let (lane, now) = (narrow(), Instant::now());
        let mut first = Slow::default();
        ran(&mut first, &lane, 5, now);
        let mut waiting = Vec::new();
        for _ in 0..WAITING_MAX {
            let mut slow = Slow::default();
            assert!(matches!(slow.tick(&lane, LONG, now), Turn::GoOn));
            let Turn::Wait(turn) = slow.tick(&lane, LONG, now) else {
                panic!("does not wait");
            };
            waiting.push((slow, turn));
        }
        let mut late = Slow::default();
        late.tick(&lane, LONG, now);
        assert!(matches!(late.tick(&lane, LONG, now), Turn::Stop));

        first.rest();
        let (mut next, turn) = waiting.remove(0);
        turn.await;
        assert!(matches!(next.tick(&lane, LONG, now), Turn::GoOn));
        // One that is given up gives its place up.
        waiting.clear();
        assert_eq!(lane.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn one_that_waited_too_long_is_stopped() {
        let (lane, now) = (narrow(), Instant::now());
        let mut first = Slow::default();
        ran(&mut first, &lane, 5, now);
        let mut second = Slow::default();
        second.tick(&lane, LONG, now);
        let Turn::Wait(turn) = second.tick(&lane, Duration::from_millis(1), now) else {
            panic!("does not wait");
        };
        turn.await;
        assert!(matches!(second.tick(&lane, LONG, now), Turn::Stop));
    }

    #[test]
    fn wasted_time_is_paid_back_by_the_second_and_answers_cost_nothing() {
        let (lane, now) = (narrow(), Instant::now());
        for _ in 0..1_000 {
            let mut honest = Slow::default();
            assert_eq!(ran(&mut honest, &lane, 10, now), 10);
        }
        let mut wasted = 0;
        let mut hostile = Slow::default();
        for _ in 0..1_000 {
            wasted += ran(&mut hostile, &lane, 10, now);
            hostile.failed(&lane, now);
        }
        let free = 1_000 * FREE_TICKS;
        assert!(wasted - free <= WASTE_BURST_MS as u32 + 10, "{wasted}");
        let later = now + Duration::from_secs(3_600);
        assert_eq!(ran(&mut Slow::default(), &lane, 10, later), 10);
    }

    #[test]
    fn who_is_broke_begins_again_with_nothing() {
        let (lane, now) = (narrow(), Instant::now());
        lane.wasted(WASTE_BURST_MS as u32 - 1, now);
        assert!(!lane.is_broke(now));
        lane.wasted(1, now);
        assert!(lane.is_broke(now));
        let later = now + Duration::from_secs(60);
        lane.nothing_before(later);
        assert!(lane.is_broke(later));
        assert!(!lane.is_broke(later + Duration::from_millis(100)));
    }

    #[test]
    fn a_call_without_end_is_stopped_while_it_runs() {
        let (lane, now) = (narrow(), Instant::now());
        let most = PATIENCE_MS + WASTE_BURST_MS as u32;
        let turns = ran(&mut Slow::default(), &lane, 10_000, now);
        assert!((PATIENCE_MS..=most).contains(&turns), "{turns}");
    }
}
