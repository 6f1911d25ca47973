//! How fast a carrier may be sent to: a token bucket at the agreed throughput, or at the rate that the
//! carrier itself turns out to take. Complaints, congestion and slow answers bring the rate down to
//! what was taken of late; then it goes up again, in a straight line where it is known to be safe,
//! carefully beyond. Pure: `now` is an argument.

use std::time::{Duration, Instant};

/// The bucket holds a tenth of a second: carriers that count by the second forgive no more.
const BURST_SECONDS: f64 = 0.1;
/// Of the rate in use, what a complaint leaves at least where it is not known what the carrier takes.
const DECREASE: f64 = 0.5;
/// Of what the carrier took of late, what is tried after a complaint.
const BELOW_TAKEN: f64 = 0.95;
/// Complaints within that time are of one window, and one.
const COMPLAINT_SPACING: Duration = Duration::from_millis(500);
/// Never slower, or nothing would ever find out that the carrier has recovered.
const RATE_MIN: f64 = 1.0;
/// Of the rate complained about, regained with every second, up to `SAFE` of it.
const RECOVERY_PER_SECOND: f64 = 0.05;
const SAFE: f64 = 0.9;
/// Before the rate complained about is tried again; doubles while that brings complaints again.
const HOLD_MIN: Duration = Duration::from_secs(5);
const HOLD_MAX: Duration = Duration::from_secs(300);
/// Beyond what was ever safe the rate grows by so much of itself a second, twice that with every
/// `CREEP_DOUBLES`, up to the most.
const CREEP_PER_SECOND: f64 = 0.01;
const CREEP_PER_SECOND_MAX: f64 = 0.2;
const CREEP_DOUBLES: Duration = Duration::from_secs(10);
/// A rate that is used by less than that of it teaches nothing.
const USED: f64 = 0.7;
/// Answers slower than this, and several times slower than usual, are a queue at the carrier.
const SLOW: Duration = Duration::from_secs(1);
const SLOW_TIMES: u32 = 4;
/// What a sign of congestion leaves of the rate, once a second.
const EASE: f64 = 0.9;
const EASE_SPACING: Duration = Duration::from_secs(1);
/// With the sign gone that long, an eased rate grows by half of itself every second, until it is no
/// limit any more: what it was ten times eased from, where there is no other.
const EASE_OVER: Duration = Duration::from_secs(2);
const UNEASE_PER_SECOND: f64 = 1.5;
const UNEASE_TIMES: f64 = 10.0;
/// The usual time of an answer is the shortest of this time.
const USUAL_FOR: Duration = Duration::from_secs(60);

/// The pace of one carrier, all its sessions together.
#[derive(Debug)]
pub struct Pacer {
    /// Submissions per second as agreed; none where nothing was.
    agreed: Option<f64>,
    /// In force since the carrier first showed that it takes less.
    found: Option<Found>,
    /// In force while the carrier shows signs of congestion, and a little longer.
    eased: Option<Eased>,
    tokens: f64,
    at: Instant,
    complained_at: Option<Instant>,
    sent: Meter,
    taken: Meter,
    answers: Answers,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    rate: f64,
    /// The rate that was too much.
    too_much: f64,
    /// No growth into what was too much before that.
    hold_until: Instant,
    hold: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Eased {
    rate: f64,
    lowest: f64,
    at: Instant,
}

impl Pacer {
    /// `throughput` 0: none agreed.
    pub fn new(throughput: u32, now: Instant) -> Pacer {
        let agreed = (throughput > 0).then(|| f64::from(throughput));
        Pacer {
            agreed,
            found: None,
            eased: None,
            tokens: agreed.map_or(0.0, burst),
            at: now,
            complained_at: None,
            sent: Meter::new(now),
            taken: Meter::new(now),
            answers: Answers::new(now),
        }
    }

    /// Submissions per second that are allowed now; none where there is no limit.
    pub fn rate(&mut self, now: Instant) -> Option<f64> {
        self.advance(now);
        self.limit()
    }

    /// How many submissions may go at once; none where there is no limit.
    pub fn available(&mut self, now: Instant) -> Option<f64> {
        self.advance(now);
        self.limit().map(|_| self.tokens.max(0.0))
    }

    /// Takes a place for `count` submissions, or says how long to wait before asking again. More
    /// than the bucket holds are taken together all the same, and paid off afterwards.
    pub fn take(&mut self, now: Instant, count: usize) -> Result<(), Duration> {
        self.advance(now);
        let count = count as f64;
        if let Some(rate) = self.limit() {
            let needed = count.min(burst(rate));
            // A billionth short is rounding, not debt.
            if self.tokens + 1e-9 < needed {
                let wait = (needed - self.tokens) / rate;
                return Err(Duration::from_secs_f64(wait).max(Duration::from_millis(1)));
            }
            self.tokens -= count;
        }
        self.sent.count(now, count);
        Ok(())
    }

    /// The carrier took `count` submissions that were sent `latency` ago. True where the answers are
    /// so slow that it made us slower.
    pub fn took(&mut self, now: Instant, count: usize, latency: Duration) -> bool {
        self.taken.count(now, count as f64);
        self.answers.note(now, latency) && self.ease(now)
    }

    /// The carrier said ESME_RTHROTTLED or ESME_RMSGQFUL. True where that made us slower.
    pub fn complaint(&mut self, now: Instant) -> bool {
        self.advance(now);
        if self
            .complained_at
            .is_some_and(|at| now < at + COMPLAINT_SPACING)
        {
            return false;
        }
        self.complained_at = Some(now);
        let sent = self.sent.per_second(now);
        let limit = self.limit().unwrap_or(sent).max(RATE_MIN);
        // What it took is what it takes, if we asked for more than that for long enough to tell.
        let known = self.taken.is_full(now) && sent >= limit * USED;
        let lowest = if known { RATE_MIN } else { limit * DECREASE };
        let taken = self.taken.per_second(now) * BELOW_TAKEN;
        // In this order: at the slowest rate of all, less than the limit is less than the least.
        let rate = taken.min(limit * BELOW_TAKEN).max(lowest);
        let hold = match self.found {
            // Where it complained before: that is its rate, and asking often is only a nuisance.
            Some(f) if limit >= f.too_much * SAFE => (f.hold * 2).min(HOLD_MAX),
            Some(f) => f.hold.min(HOLD_MIN),
            None => HOLD_MIN,
        };
        self.found = Some(Found {
            rate: rate.max(RATE_MIN),
            too_much: limit,
            hold_until: now + hold,
            hold,
        });
        self.tokens = self.tokens.min(0.0);
        true
    }

    /// congestion_state of a response, 0 to 100 (SMPP 5.0, 4.8.4.18): below 80 the carrier has room,
    /// up to 89 it is used best, from 90 on it is near congestion, at 100 congested. True where that
    /// made us slower.
    pub fn congestion(&mut self, now: Instant, state: u8) -> bool {
        match state {
            0..=79 => {
                if let Some(found) = &mut self.found {
                    found.hold_until = found.hold_until.min(now);
                }
                false
            }
            80..=89 => {
                self.advance(now);
                if let Some(found) = &mut self.found {
                    found.hold_until = found.hold_until.max(now + EASE_SPACING);
                }
                if let Some(eased) = &mut self.eased {
                    eased.at = eased.at.max(now.checked_sub(EASE_SPACING).unwrap_or(now));
                }
                false
            }
            90..=99 => self.ease(now),
            _ => self.complaint(now),
        }
    }

    /// A little slower, but no slower than the carrier takes what it is sent.
    fn ease(&mut self, now: Instant) -> bool {
        self.advance(now);
        if self.eased.is_some_and(|e| now < e.at + EASE_SPACING) {
            return false;
        }
        let limit = self
            .limit()
            .unwrap_or_else(|| self.sent.per_second(now))
            .max(RATE_MIN);
        let rate = (limit * EASE).max(self.taken.per_second(now).min(limit));
        let rate = rate.max(RATE_MIN);
        self.eased = Some(Eased {
            rate,
            lowest: rate,
            at: now,
        });
        true
    }

    fn limit(&self) -> Option<f64> {
        let eased = self.eased.map(|e| e.rate);
        [self.lasting_limit(), eased]
            .into_iter()
            .flatten()
            .reduce(f64::min)
    }

    /// Without what congestion does for the moment.
    fn lasting_limit(&self) -> Option<f64> {
        [self.found.map(|f| f.rate), self.agreed]
            .into_iter()
            .flatten()
            .reduce(f64::min)
    }

    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let used = self
            .limit()
            .is_none_or(|limit| self.sent.per_second(now) >= limit * USED);
        if let Some(found) = &mut self.found {
            found.grow(now, passed, used);
            // An agreement says what is safe; without one, what was found is all that is known.
            if self.agreed.is_some_and(|agreed| found.rate >= agreed) {
                self.found = None;
            }
        }
        let enough = self.lasting_limit();
        if let Some(eased) = &mut self.eased
            && now >= eased.at + EASE_OVER
        {
            eased.rate *= UNEASE_PER_SECOND.powf(passed.min(1.0));
            if eased.rate >= enough.unwrap_or(eased.lowest * UNEASE_TIMES) {
                self.eased = None;
            }
        }
        if let Some(rate) = self.limit() {
            self.tokens = (self.tokens + rate * passed).min(burst(rate));
        }
    }
}

impl Found {
    fn grow(&mut self, now: Instant, passed: f64, used: bool) {
        let safe = self.too_much * SAFE;
        if self.rate < safe {
            self.rate = (self.rate + self.too_much * RECOVERY_PER_SECOND * passed).min(safe);
        } else if now >= self.hold_until && used {
            let doublings = now.saturating_duration_since(self.hold_until).as_secs_f64()
                / CREEP_DOUBLES.as_secs_f64();
            let creep = (CREEP_PER_SECOND * doublings.exp2()).min(CREEP_PER_SECOND_MAX);
            // Nothing is known of a long silence.
            self.rate += self.rate * creep * passed.min(1.0);
        }
    }
}

/// What happened in the last second, in tenths.
#[derive(Debug)]
struct Meter {
    began: Instant,
    tenths: [f64; 10],
    /// Tenths since `began`; the newest is `tenths[newest % 10]`.
    newest: u64,
}

const TENTH_MS: u128 = 100;

impl Meter {
    fn new(now: Instant) -> Meter {
        Meter {
            began: now,
            tenths: [0.0; 10],
            newest: 0,
        }
    }

    fn count(&mut self, now: Instant, count: f64) {
        self.turn(now);
        self.tenths[Meter::slot(self.newest)] += count;
    }

    fn per_second(&mut self, now: Instant) -> f64 {
        self.turn(now);
        let sum: f64 = self.tenths.iter().sum();
        // In the first second there is less to divide by.
        let tenths = (self.newest + 1).min(10);
        let seconds = tenths as f64 / 10.0;
        sum / seconds
    }

    /// A whole second has been seen.
    fn is_full(&mut self, now: Instant) -> bool {
        self.turn(now);
        self.newest >= 10
    }

    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.began).as_millis() / TENTH_MS;
        let newest = u64::try_from(passed).unwrap_or(u64::MAX);
        let emptied = newest.saturating_sub(self.newest).min(10);
        for i in 0..emptied {
            self.tenths[Meter::slot(newest - i)] = 0.0;
        }
        self.newest = self.newest.max(newest);
    }

    fn slot(tenth: u64) -> usize {
        usize::try_from(tenth % 10).unwrap_or(0)
    }
}

/// How long answers take: smoothed, and at their best.
#[derive(Debug)]
struct Answers {
    smoothed: Option<Duration>,
    best: Duration,
    best_before: Duration,
    since: Instant,
}

impl Answers {
    fn new(now: Instant) -> Answers {
        Answers {
            smoothed: None,
            best: Duration::MAX,
            best_before: Duration::MAX,
            since: now,
        }
    }

    /// Whether answers have become slow.
    fn note(&mut self, now: Instant, latency: Duration) -> bool {
        if now.saturating_duration_since(self.since) >= USUAL_FOR {
            self.since = now;
            self.best_before = std::mem::replace(&mut self.best, Duration::MAX);
        }
        self.best = self.best.min(latency);
        let smoothed = match self.smoothed {
            // TCP's own eighth (RFC 6298, 2.3).
            Some(smoothed) => (smoothed * 7 + latency) / 8,
            None => latency,
        };
        self.smoothed = Some(smoothed);
        let usual = self.best.min(self.best_before);
        smoothed > SLOW && smoothed > usual.saturating_mul(SLOW_TIMES)
    }
}

fn burst(rate: f64) -> f64 {
    (rate * BURST_SECONDS).max(1.0)
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
