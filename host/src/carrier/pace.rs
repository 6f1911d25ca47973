//! How fast a carrier may be sent to: a token bucket at the agreed throughput, slowed down by the
//! carrier's complaints and sped up again in their absence. Pure: `now` is an argument.

use std::time::{Duration, Instant};

/// The bucket holds a tenth of a second: carriers that count by the second forgive no more.
const BURST_SECONDS: f64 = 0.1;
/// What a complaint leaves of the rate, once in `COMPLAINT_SPACING`: those of one window are one.
const DECREASE: f64 = 0.5;
const COMPLAINT_SPACING: Duration = Duration::from_millis(500);
/// Of the full rate, regained with every second.
const RECOVERY_PER_SECOND: f64 = 0.05;
/// Never slower, or nothing would ever find out that the carrier has recovered.
const RATE_MIN: f64 = 1.0;
/// The recent rate is measured over this time.
const MEASURE: Duration = Duration::from_secs(1);

/// The pace of one carrier, all its sessions together.
#[derive(Debug)]
pub struct Pacer {
    /// Submissions per second as agreed; none where nothing was.
    agreed: Option<f64>,
    /// In force after a complaint.
    slowed: Option<Slowed>,
    tokens: f64,
    at: Instant,
    complained_at: Option<Instant>,
    measure_from: Instant,
    measured: f64,
    measured_before: f64,
}

#[derive(Clone, Copy, Debug)]
struct Slowed {
    rate: f64,
    /// The rate that was too much; recovery is measured by it, and ends there.
    full: f64,
}

impl Pacer {
    /// `throughput` 0: none agreed.
    pub fn new(throughput: u32, now: Instant) -> Pacer {
        let agreed = (throughput > 0).then(|| f64::from(throughput));
        Pacer {
            agreed,
            slowed: None,
            tokens: agreed.map_or(0.0, burst),
            at: now,
            complained_at: None,
            measure_from: now,
            measured: 0.0,
            measured_before: 0.0,
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
        #[allow(clippy::cast_precision_loss)]
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
        self.measured += count;
        Ok(())
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
        let full = self
            .agreed
            .or(self.slowed.map(|s| s.full))
            .unwrap_or_else(|| self.measured.max(self.measured_before).max(RATE_MIN));
        let rate = (self.limit().unwrap_or(full) * DECREASE).max(RATE_MIN);
        self.slowed = Some(Slowed { rate, full });
        self.tokens = self.tokens.min(0.0);
        true
    }

    fn limit(&self) -> Option<f64> {
        self.slowed.map(|s| s.rate).or(self.agreed)
    }

    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        self.at = self.at.max(now);
        if now.saturating_duration_since(self.measure_from) >= MEASURE {
            self.measure_from = now;
            self.measured_before = std::mem::take(&mut self.measured);
        }
        if let Some(slowed) = &mut self.slowed {
            slowed.rate += slowed.full * RECOVERY_PER_SECOND * passed.as_secs_f64();
            // Without an agreement the old rate was too much, but it is not the limit for ever.
            let enough = if self.agreed.is_some() {
                slowed.full
            } else {
                slowed.full * 2.0
            };
            if slowed.rate >= enough {
                self.slowed = None;
            }
        }
        if let Some(rate) = self.limit() {
            self.tokens = (self.tokens + rate * passed.as_secs_f64()).min(burst(rate));
        }
    }
}

fn burst(rate: f64) -> f64 {
    (rate * BURST_SECONDS).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

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
    fn complaints_of_one_window_count_once_and_recovery_is_additive() {
        let start = Instant::now();
        let mut pacer = Pacer::new(100, start);
        assert!(pacer.complaint(start));
        assert_eq!(pacer.rate(start), Some(50.0));
        assert!(!pacer.complaint(start + 10 * MS));
        let rate = pacer.rate(start + Duration::from_secs(4)).unwrap();
        assert!((69.9..70.1).contains(&rate), "{rate}");
        assert_eq!(pacer.rate(start + Duration::from_secs(60)), Some(100.0));
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
        assert!(pacer.take(now + Duration::from_secs(1), 1).is_ok());
    }

    #[test]
    fn without_an_agreement_a_complaint_halves_the_measured_rate_for_a_while() {
        let start = Instant::now();
        let mut pacer = Pacer::new(0, start);
        for n in 0..400 {
            assert_eq!(pacer.take(start + n * MS, 1), Ok(()));
        }
        let now = start + 400 * MS;
        assert!(pacer.complaint(now));
        assert_eq!(pacer.rate(now), Some(200.0));
        assert_eq!(pacer.rate(now + Duration::from_secs(60)), None);
    }
}
