//! Handsets that are away and come back: what says that one is away, who asked to hear of its return
//! (set_dpf), and what a return does to a message that waits for its next attempt.

use super::message::{AttemptOutcome, CarrierId, Lane, Message, Reason, State, Tlv};
use super::receipt::same_subscriber;
use crate::clock::Timestamp;

/// set_dpf (SMPP 3.4, 5.3.2.29).
const SET_DPF: u16 = 0x0421;
/// ESME_RDELIVERYFAILURE: what a carrier that delivers at once says of a handset that is away.
const DELIVERY_FAILURE: u32 = 0xFE;
/// Returns that bring one message forward: a carrier that tells of them without end does not use up
/// its attempts.
const RETURNS_MAX: usize = 5;

/// A handset that is back, by its carrier's word.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Returned {
    pub carrier: CarrierId,
    /// As the carrier writes it.
    pub handset: String,
}

impl Message {
    /// Whether an ESME that submitted it is to be told when a handset that was away is back.
    pub fn asks_for_alert(&self) -> bool {
        let asks = |tlv: &Tlv| tlv.tag == SET_DPF && tlv.value == [1];
        self.source.system_id().is_some() && self.tlvs.iter().any(asks)
    }

    /// Whether what became of it says that its handset may be away.
    pub fn found_nobody(&self) -> bool {
        let last = self.attempts.last().map(|a| &a.outcome);
        match self.state {
            State::Undeliverable | State::Expired => true,
            State::Queued => matches!(last, Some(AttemptOutcome::TemporaryFailure(_))),
            State::Rejected => last == Some(&AttemptOutcome::PermanentFailure(DELIVERY_FAILURE)),
            State::Scheduled
            | State::Held
            | State::SubmitUnknown
            | State::Enroute
            | State::Delivered
            | State::Canceled
            | State::Unknown => false,
        }
    }

    /// Whether it waits for its next attempt since one failed at this handset's carrier, or waits
    /// there. What its carrier asked us to be slow with keeps its time.
    pub fn waits_for(&self, returned: &Returned) -> bool {
        let last = self.attempts.last().map(|a| &a.outcome);
        let here = |lane: &Lane| *lane == Lane::Carrier(returned.carrier.clone());
        let returns = self.events.iter();
        let returns = returns.filter(|e| e.reason == Reason::RecipientAvailable);
        self.state == State::Queued
            && matches!(last, Some(AttemptOutcome::TemporaryFailure(_)))
            && same_subscriber(&self.recipient.value, &returned.handset)
            && (self.due.as_ref().is_some_and(|due| here(&due.lane))
                || self.attempts.iter().any(|a| a.carrier == returned.carrier))
            && returns.count() < RETURNS_MAX
    }

    /// Brings its next attempt forward; false where it waits for something else.
    pub fn recipient_returned(&mut self, now: Timestamp, returned: &Returned) -> bool {
        if !self.waits_for(returned) {
            return false;
        }
        let Some(due) = self.due.as_mut().filter(|due| due.at > now) else {
            return false;
        };
        due.at = now;
        let carrier = Some(returned.carrier.clone());
        self.note_event(now, Reason::RecipientAvailable, carrier, "");
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::message::tests_support::message;
    use crate::domain::{Attempt, Source};

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn returned(carrier: &str, handset: &str) -> Returned {
        Returned {
            carrier: carrier.into(),
            handset: handset.to_owned(),
        }
    }

    fn failed(outcome: AttemptOutcome) -> Message {
        let mut message = message(NOW);
        message.record_attempt(Attempt {
            carrier: "south".into(),
            at: NOW,
            outcome,
        });
        let later = NOW.plus(Duration::from_secs(600));
        message.wait(Lane::Carrier("north".into()), later);
        message
    }

    #[test]
    fn a_return_brings_forward_what_failed_there_or_waits_there() {
        let temporary = AttemptOutcome::TemporaryFailure(0x45);
        for carrier in ["north", "south"] {
            let mut waiting = failed(temporary.clone());
            assert!(waiting.recipient_returned(NOW, &returned(carrier, "07700900123")));
            assert_eq!(waiting.due.as_ref().map(|d| d.at), Some(NOW));
            let line = waiting.events.last().expect("a line");
            assert_eq!(line.reason.name(), "recipient_available");
            assert_eq!(line.carrier, Some(carrier.into()));
        }
        for stranger in [
            returned("east", "447700900123"),
            returned("north", "447700900124"),
            returned("north", ""),
        ] {
            let mut waiting = failed(temporary.clone());
            let before = waiting.clone();
            assert!(!waiting.recipient_returned(NOW, &stranger), "{stranger:?}");
            assert_eq!(waiting, before);
        }
    }

    #[test]
    fn what_waits_for_something_else_keeps_its_time() {
        let back = returned("north", "447700900123");
        for outcome in [
            AttemptOutcome::Throttled,
            AttemptOutcome::TimedOut,
            AttemptOutcome::Unavailable,
        ] {
            assert!(!failed(outcome).recipient_returned(NOW, &back));
        }
        let mut held = failed(AttemptOutcome::TemporaryFailure(1));
        held.enter(NOW, State::Held, Reason::HeldByPolicy, "");
        assert!(!held.recipient_returned(NOW, &back));
    }

    #[test]
    fn returns_without_end_use_up_no_attempts() {
        let back = returned("north", "447700900123");
        let mut waiting = failed(AttemptOutcome::TemporaryFailure(1));
        let mut count = 0;
        for _ in 0..20 {
            waiting.wait(
                Lane::Carrier("north".into()),
                NOW.plus(Duration::from_secs(5)),
            );
            count += usize::from(waiting.recipient_returned(NOW, &back));
        }
        assert_eq!(count, RETURNS_MAX);
    }

    #[test]
    fn set_dpf_of_an_esme_alone_asks_for_an_alert() {
        let mut message = message(NOW);
        message.tlvs = vec![Tlv {
            tag: SET_DPF,
            value: vec![1],
        }];
        assert!(!message.asks_for_alert(), "HTTP has nobody to alert");
        message.source = Source::Smpp {
            system_id: "app".to_owned(),
        };
        assert!(message.asks_for_alert());
        message.tlvs[0].value = vec![0];
        assert!(!message.asks_for_alert());
    }
}
