//! What follows a delivery attempt: pure, so that the whole schedule can be read and tested in
//! one place. Times come in, the next step goes out.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::{AttemptOutcome, Message, Reason, State};

/// Waits after a temporary failure once every hop of the plan has failed.
const TEMPORARY: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
    Duration::from_secs(1800),
    Duration::from_secs(3600),
    Duration::from_secs(7200),
];

/// Waits while a carrier says that it is sent too much (ESME_RTHROTTLED, ESME_RMSGQFUL).
const THROTTLED: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// Waits while a carrier cannot be reached and there is no other.
const UNAVAILABLE: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
];

/// So many throttled attempts in a row on one hop, and the next one is tried.
const THROTTLED_BEFORE_FAIL_OVER: usize = 3;

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The next hop of the plan, at once.
    FailOver(Reason),
    /// Again at `at`; from the first hop where `restart`.
    Retry {
        at: Timestamp,
        restart: bool,
        reason: Reason,
    },
    /// The answer is not known: `Message::submit_unknown`.
    Unknown,
    /// No more attempts.
    Fail(State, Reason),
}

/// Judges a failed attempt that `message.attempts` already ends with. `unit` is uniform in
/// [0, 1) and spreads retries over [0.5, 1.5) of their wait, so that they never stampede.
pub fn next_step(message: &Message, now: Timestamp, max_attempts: usize, unit: f64) -> Step {
    let Some(last) = message.attempts.last() else {
        return Step::Fail(State::Undeliverable, Reason::AttemptsExhausted);
    };
    // Elsewhere, or anew, all of it would go again.
    let finished_here = message.begun_at().is_some();
    let more_hops = !finished_here && message.open_hop(usize::from(message.hop) + 1).is_some();
    let reason = match &last.outcome {
        AttemptOutcome::TimedOut => return Step::Unknown,
        AttemptOutcome::Sent | AttemptOutcome::Undelivered(_) => Reason::TakenByCarrier,
        AttemptOutcome::Throttled => Reason::CarrierThrottled,
        AttemptOutcome::TemporaryFailure(_) => Reason::CarrierTemporaryFailure,
        AttemptOutcome::PermanentFailure(_) => Reason::CarrierPermanentFailure,
        AttemptOutcome::Unavailable => Reason::CarrierUnavailable,
    };
    let streak = message
        .attempts
        .iter()
        .rev()
        .take_while(|a| a.carrier == last.carrier && same_kind(&a.outcome, &last.outcome))
        .count();
    let patient = reason == Reason::CarrierThrottled && streak < THROTTLED_BEFORE_FAIL_OVER;
    if more_hops && !patient {
        return Step::FailOver(reason);
    }
    let schedule: &[Duration] = match reason {
        Reason::CarrierPermanentFailure => return Step::Fail(State::Rejected, reason),
        Reason::CarrierThrottled => &THROTTLED,
        Reason::CarrierUnavailable => &UNAVAILABLE,
        _ => &TEMPORARY,
    };
    // Being told to wait is no failed attempt: only the message's validity ends that.
    let failures = message
        .attempts
        .iter()
        .filter(|a| matches!(a.outcome, AttemptOutcome::TemporaryFailure(_)))
        .count();
    if failures >= max_attempts {
        return Step::Fail(State::Undeliverable, Reason::AttemptsExhausted);
    }
    let rounds = if reason == Reason::CarrierTemporaryFailure {
        failures.div_ceil(message.plan.hops.len().max(1))
    } else {
        streak
    };
    let wait = schedule[rounds.saturating_sub(1).min(schedule.len() - 1)];
    let at = now.plus(wait.mul_f64(0.5 + unit.clamp(0.0, 1.0)));
    Step::Retry {
        at: at.min(message.expires_at),
        restart: !patient,
        reason,
    }
}

fn same_kind(a: &AttemptOutcome, b: &AttemptOutcome) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::tests_support::message;
    use crate::domain::{Attempt, CarrierId, Hop, Plan};

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn after(hops: &[&str], hop: u8, attempts: &[(&str, AttemptOutcome)]) -> Step {
        let mut m = message(NOW);
        m.plan = Plan {
            hops: hops
                .iter()
                .map(|c| Hop {
                    carrier: CarrierId::from(*c),
                    originator: None,
                    price_micros: None,
                    tlvs: Vec::new(),
                })
                .collect(),
            ..Plan::default()
        };
        m.hop = hop;
        for (carrier, outcome) in attempts {
            m.record_attempt(Attempt {
                carrier: CarrierId::from(*carrier),
                at: NOW,
                outcome: outcome.clone(),
            });
        }
        next_step(&m, NOW, 32, 0.5)
    }

    use AttemptOutcome::{PermanentFailure, TemporaryFailure, Throttled, TimedOut, Unavailable};

    #[test]
    fn a_temporary_failure_fails_over_while_there_is_another_hop() {
        assert_eq!(
            after(&["a", "b"], 0, &[("a", TemporaryFailure(8))]),
            Step::FailOver(Reason::CarrierTemporaryFailure)
        );
    }

    #[test]
    fn after_the_last_hop_the_plan_starts_again_later() {
        let step = after(
            &["a", "b"],
            1,
            &[("a", TemporaryFailure(8)), ("b", TemporaryFailure(8))],
        );
        assert_eq!(
            step,
            Step::Retry {
                at: NOW.plus(Duration::from_secs(5)),
                restart: true,
                reason: Reason::CarrierTemporaryFailure
            }
        );
    }

    #[test]
    fn a_throttling_carrier_gets_patience_then_the_next_one_is_tried() {
        let step = after(&["a", "b"], 0, &[("a", Throttled)]);
        assert!(matches!(step, Step::Retry { restart: false, .. }));
        let throttled = ("a", Throttled);
        let step = after(
            &["a", "b"],
            0,
            &[throttled.clone(), throttled.clone(), throttled],
        );
        assert_eq!(step, Step::FailOver(Reason::CarrierThrottled));
    }

    #[test]
    fn a_permanent_refusal_by_the_last_hop_is_final() {
        assert_eq!(
            after(&["a"], 0, &[("a", PermanentFailure(0x0B))]),
            Step::Fail(State::Rejected, Reason::CarrierPermanentFailure)
        );
    }

    #[test]
    fn an_unanswered_submission_never_fails_over_by_itself() {
        assert_eq!(after(&["a", "b"], 0, &[("a", TimedOut)]), Step::Unknown);
    }

    #[test]
    fn throttling_alone_never_exhausts_attempts() {
        let attempts: Vec<_> = (0..40).map(|_| ("a", Throttled)).collect();
        assert!(matches!(after(&["a"], 0, &attempts), Step::Retry { .. }));
    }

    #[test]
    fn an_unreachable_carrier_is_asked_again_soon() {
        let step = after(&["a"], 0, &[("a", Unavailable)]);
        assert!(matches!(step, Step::Retry { at, .. } if at == NOW.plus(Duration::from_secs(1))));
    }

    #[test]
    fn failures_exhaust_attempts() {
        let attempts: Vec<_> = (0..32).map(|_| ("a", TemporaryFailure(8))).collect();
        assert_eq!(
            after(&["a"], 0, &attempts),
            Step::Fail(State::Undeliverable, Reason::AttemptsExhausted)
        );
    }
}
