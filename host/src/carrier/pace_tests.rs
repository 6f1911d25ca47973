//! Pacers against carriers that exist in numbers only.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Sends as fast as allowed for `time`; returns how many went and the time it ended.
fn flood(pacer: &mut Pacer, from: Instant, time: Duration) -> (usize, Instant) {
    let (mut now, mut sent) = (from, 0);
    while now < from + time {
        match pacer.take(now, 1) {
            Ok(()) => sent += 1,
            Err(wait) => now += wait.max(MS),
        }
    }
    (sent, now)
}

#[test]
fn the_agreed_throughput_is_kept_and_used() {
    let start = Instant::now();
    let mut pacer = Pacer::new(100, start);
    let (sent, _) = flood(&mut pacer, start, Duration::from_secs(10));
    // Ten of them are the full bucket of the beginning.
    assert!((1000..=1011).contains(&sent), "{sent}");
}

#[test]
fn no_agreement_no_limit() {
    let now = Instant::now();
    let mut pacer = Pacer::new(0, now);
    assert!((0..100_000).all(|_| pacer.take(now, 1).is_ok()));
    assert_eq!(pacer.rate(now), None);
}

#[test]
fn a_long_message_goes_together_and_is_paid_off() {
    let now = Instant::now();
    let mut pacer = Pacer::new(10, now);
    assert_eq!(pacer.take(now, 5), Ok(()));
    let wait = pacer.take(now, 1).unwrap_err();
    assert!(wait >= Duration::from_millis(499), "{wait:?}");
}

#[test]
fn complaints_of_one_window_count_once_and_recovery_is_a_straight_line() {
    let start = Instant::now();
    let mut pacer = Pacer::new(100, start);
    assert!(pacer.complaint(start));
    assert_eq!(pacer.rate(start), Some(50.0));
    assert!(!pacer.complaint(start + 10 * MS));
    let rate = pacer.rate(start + 4 * SECOND).unwrap();
    assert!((69.9..70.1).contains(&rate), "{rate}");
    assert_eq!(pacer.rate(start + 60 * SECOND), Some(90.0));
}

#[test]
fn a_carrier_that_always_complains_is_still_tried() {
    let start = Instant::now();
    let mut pacer = Pacer::new(100, start);
    for n in 0..40 {
        pacer.complaint(start + n * COMPLAINT_SPACING);
    }
    let now = start + 40 * COMPLAINT_SPACING;
    assert!(pacer.rate(now).unwrap() >= RATE_MIN);
    assert!(pacer.take(now + SECOND, 1).is_ok());
}

/// A message centre that takes `rate` a second, in bursts of a second's worth at most, and answers after `latency`.
struct Carrier {
    rate: f64,
    tokens: f64,
    at: Instant,
    latency: Duration,
    answers: VecDeque<(Instant, bool)>,
}

impl Carrier {
    fn new(rate: f64, latency: Duration, now: Instant) -> Carrier {
        Carrier {
            rate,
            tokens: rate / 5.0,
            at: now,
            latency,
            answers: VecDeque::new(),
        }
    }

    fn submit(&mut self, now: Instant) {
        let passed = now.duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + passed * self.rate).min((self.rate / 5.0).max(1.0));
        let takes = self.tokens >= 1.0;
        if takes {
            self.tokens -= 1.0;
        }
        self.answers.push_back((now + self.latency, takes));
    }
}

/// What came of a time of endless demand.
struct Told {
    taken: usize,
    refused: usize,
}

/// `window` submissions are out at most. Steps of a millisecond.
fn run(
    pacer: &mut Pacer,
    carrier: &mut Carrier,
    from: Instant,
    time: Duration,
    window: usize,
) -> (Told, Instant) {
    let mut told = Told {
        taken: 0,
        refused: 0,
    };
    let mut now = from;
    while now < from + time {
        while let Some((at, taken)) = carrier.answers.front().copied() {
            if at > now {
                break;
            }
            carrier.answers.pop_front();
            if taken {
                told.taken += 1;
                pacer.took(now, 1, carrier.latency);
            } else {
                told.refused += 1;
                pacer.complaint(now);
            }
        }
        while carrier.answers.len() < window && pacer.take(now, 1).is_ok() {
            carrier.submit(now);
        }
        now += MS;
    }
    (told, now)
}

#[test]
fn the_real_rate_is_found_and_held_without_a_storm_of_complaints() {
    for (real, agreed) in [
        (20.0, 0),
        (100.0, 0),
        (100.0, 2000),
        (1000.0, 0),
        (1000.0, 5000),
    ] {
        let start = Instant::now();
        let mut pacer = Pacer::new(agreed, start);
        let mut carrier = Carrier::new(real, 30 * MS, start);
        let (first, now) = run(&mut pacer, &mut carrier, start, 10 * SECOND, 100);
        let (later, _) = run(&mut pacer, &mut carrier, now, 120 * SECOND, 100);
        let best = real * 120.0;
        let case = format!(
            "{real}/s, {agreed} agreed: {} refused at first, then {} of {best} taken, {} refused",
            first.refused, later.taken, later.refused
        );
        assert!(later.taken as f64 >= best * 0.9, "{case}");
        assert!(later.refused as f64 <= best * 0.01 + 10.0, "{case}");
        // Two seconds' worth of the rate that was tried at first.
        let tried = if agreed == 0 {
            3_300.0
        } else {
            f64::from(agreed).min(3_300.0)
        };
        assert!(first.refused as f64 <= tried * 2.0, "{case}");
    }
}

#[test]
fn a_carrier_that_takes_less_or_more_than_before_is_followed() {
    let start = Instant::now();
    let mut pacer = Pacer::new(0, start);
    let mut carrier = Carrier::new(200.0, 30 * MS, start);
    let (_, now) = run(&mut pacer, &mut carrier, start, 20 * SECOND, 100);
    carrier.rate = 50.0;
    let (_, now) = run(&mut pacer, &mut carrier, now, 5 * SECOND, 100);
    let (less, now) = run(&mut pacer, &mut carrier, now, 30 * SECOND, 100);
    assert!(less.taken >= 1_300, "{}", less.taken);
    assert!(less.refused <= 60, "{}", less.refused);
    carrier.rate = 500.0;
    let (_, now) = run(&mut pacer, &mut carrier, now, 120 * SECOND, 100);
    let (more, _) = run(&mut pacer, &mut carrier, now, 30 * SECOND, 100);
    assert!(more.taken >= 12_000, "{}", more.taken);
}

#[test]
fn congestion_eases_before_it_hurts() {
    let start = Instant::now();
    let mut pacer = Pacer::new(100, start);
    assert!(!pacer.congestion(start, 79));
    assert!(!pacer.congestion(start, 85));
    assert_eq!(pacer.rate(start), Some(100.0));
    assert!(pacer.congestion(start, 95));
    assert_eq!(pacer.rate(start), Some(90.0));
    assert!(!pacer.congestion(start + 10 * MS, 95), "once a second");
    assert!(pacer.congestion(start + 10 * MS, 100));
    assert!(pacer.rate(start + 10 * MS).unwrap() <= 50.0);
}

#[test]
fn a_carrier_with_room_is_sent_more_at_once() {
    let start = Instant::now();
    let mut pacer = Pacer::new(0, start);
    let mut carrier = Carrier::new(100.0, 30 * MS, start);
    let (_, now) = run(&mut pacer, &mut carrier, start, 60 * SECOND, 100);
    carrier.rate = 10_000.0;
    let held = pacer.rate(now).unwrap();
    pacer.congestion(now, 10);
    let (_, now) = run(&mut pacer, &mut carrier, now, 5 * SECOND, 100);
    assert!(pacer.rate(now).unwrap() > held * 1.04, "{held}");
}

#[test]
fn slow_answers_ease_to_what_is_taken_and_not_below() {
    let start = Instant::now();
    let mut pacer = Pacer::new(1000, start);
    let mut now = start;
    for step in 0..20_000u32 {
        // Takes 300 a second, whatever it is sent; answers come later and later.
        let latency = if step < 100 { 20 * MS } else { 3 * SECOND };
        if step % 10 < 3 {
            pacer.took(now, 1, latency);
        }
        let _ = pacer.take(now, 1);
        now += MS;
    }
    let rate = pacer.rate(now).unwrap();
    assert!((250.0..400.0).contains(&rate), "{rate}");
}

#[test]
fn what_slowness_took_comes_back_when_it_is_over() {
    let start = Instant::now();
    let mut pacer = Pacer::new(0, start);
    let mut now = start;
    let mut run = |pacer: &mut Pacer, latency: Duration, time: Duration| {
        let end = now + time;
        while now < end {
            if pacer.take(now, 1).is_ok() {
                pacer.took(now, 1, latency);
            }
            now += 2 * MS;
        }
        now
    };
    run(&mut pacer, 50 * MS, 5 * SECOND);
    let slow = run(&mut pacer, 5 * SECOND, 5 * SECOND);
    assert!(pacer.rate(slow).is_some());
    let over = run(&mut pacer, 50 * MS, 15 * SECOND);
    assert_eq!(pacer.rate(over), None);
}

#[test]
fn quick_answers_that_vary_ease_nothing() {
    let start = Instant::now();
    let mut pacer = Pacer::new(0, start);
    for n in 0..1000u32 {
        assert!(!pacer.took(start + n * MS, 1, MS * (1 + n % 900)));
    }
    assert_eq!(pacer.rate(start + SECOND), None);
}

/// What a carrier and a clock can bring about, in any order: a rate is always a number, never below
/// the slowest and never above what was agreed, and a wait ends.
#[derive(Clone, Copy, Debug)]
enum Event {
    Take(usize),
    Took(usize, u64),
    Complaint,
    Congestion(u8),
    Passes(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0_usize..300).prop_map(Event::Take),
        ((0_usize..300), (0_u64..120_000)).prop_map(|(n, ms)| Event::Took(n, ms)),
        Just(Event::Complaint),
        any::<u8>().prop_map(Event::Congestion),
        prop_oneof![0_u64..2_000, 0_u64..10_000_000].prop_map(Event::Passes),
    ]
}

proptest! {
    #[test]
    fn a_rate_is_a_rate_whatever_the_carrier_says(
        agreed in prop_oneof![Just(0_u32), 1_u32..10, any::<u32>()],
        events in proptest::collection::vec(event(), 0..200),
    ) {
        let mut now = Instant::now();
        let mut pacer = Pacer::new(agreed, now);
        for event in events {
            match event {
                Event::Take(count) => {
                    if let Err(wait) = pacer.take(now, count) {
                        prop_assert!(wait <= Duration::from_secs(600), "{wait:?}");
                    }
                }
                Event::Took(count, ms) => {
                    pacer.took(now, count, Duration::from_millis(ms));
                }
                Event::Complaint => {
                    pacer.complaint(now);
                }
                Event::Congestion(state) => {
                    pacer.congestion(now, state);
                }
                Event::Passes(ms) => now += Duration::from_millis(ms),
            }
            match pacer.rate(now) {
                None => prop_assert_eq!(agreed, 0),
                Some(rate) => {
                    let most = if agreed == 0 { f64::MAX } else { f64::from(agreed) };
                    prop_assert!((RATE_MIN.min(most)..=most).contains(&rate), "{rate}");
                }
            }
        }
    }
}

/// The slowest rate of all is complained about too.
#[test]
fn a_complaint_at_the_slowest_rate_leaves_it() {
    let start = Instant::now();
    for agreed in [0, 1] {
        let mut pacer = Pacer::new(agreed, start);
        for n in 0..20 {
            let _ = pacer.take(start + n * SECOND, 1);
            pacer.complaint(start + n * SECOND);
        }
        assert_eq!(pacer.rate(start + 20 * SECOND), Some(RATE_MIN));
    }
}
