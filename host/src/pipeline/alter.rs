//! What a client may still change of a message that waits: take it back, or put another text or
//! time in its place. A replacement is judged again before it goes anywhere.

use super::Pipeline;
use crate::clock::Timestamp;
use crate::domain::text::{self, TextError, TextStyle};
use crate::domain::{Body, Lane, Message, MessageId, Reason, ReceiptsWanted, State};
use crate::store::UpdateError;

/// New values for a message that waits; none leaves what there is.
#[derive(Clone, Debug, Default)]
pub struct Replacement {
    pub body: Option<Body>,
    pub send_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub receipts: Option<ReceiptsWanted>,
}

/// How a change ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    Done,
    /// It has gone on its way, or has ended.
    TooLate(State),
}

/// Takes back what has not gone on its way; false where it has.
pub fn cancel(message: &mut Message, now: Timestamp, detail: &str) -> bool {
    match message.state {
        State::Scheduled | State::Held | State::Queued => {
            message.enter(now, State::Canceled, Reason::CanceledByClient, detail)
        }
        // Asked twice is asked once.
        State::Canceled => true,
        State::SubmitUnknown
        | State::Enroute
        | State::Delivered
        | State::Undeliverable
        | State::Expired
        | State::Rejected
        | State::Unknown => false,
    }
}

fn replace(message: &mut Message, new: Replacement, now: Timestamp) -> Result<bool, TextError> {
    let waits = match message.state {
        State::Scheduled | State::Held | State::Queued => message.attempts.is_empty(),
        _ => false,
    };
    // Another text for one part would not fit those of the other parts.
    if !waits || (message.sm.cut.is_some() && new.body.is_some()) {
        return Ok(false);
    }
    if let Some(body) = new.body {
        let plan = message.measure(&body, &TextStyle::default())?;
        message.body = body;
        message.submitted_body = None;
        message.measured(plan);
    }
    if let Some(at) = new.send_at {
        let validity = message.expires_at.since(message.send_at);
        message.send_at = at.max(now);
        message.expires_at = message.send_at.plus(validity);
    }
    if let Some(at) = new.expires_at {
        message.expires_at = at;
    }
    if let Some(receipts) = new.receipts {
        message.sm.receipts = receipts;
    }
    let (state, reason) = match message.send_at > now {
        true => (State::Scheduled, Reason::ScheduledByClient),
        false => (State::Queued, Reason::Accepted),
    };
    message.enter(now, state, reason, "replaced by its client");
    message.wait(Lane::Decide, message.send_at.max(now));
    Ok(true)
}

impl Pipeline {
    /// Durable when it returns.
    pub async fn cancel(&self, id: MessageId, detail: &str) -> Result<Changed, UpdateError> {
        let (now, detail) = (self.clock.now(), detail.to_owned());
        let change = move |message: &mut Message| match cancel(message, now, &detail) {
            true => Changed::Done,
            false => Changed::TooLate(message.state),
        };
        self.store.update(id, change).await
    }

    /// The carrier has forgotten a message that it took; durable when it returns.
    pub async fn canceled_by_carrier(
        &self,
        id: MessageId,
        detail: &str,
    ) -> Result<(), UpdateError> {
        let (now, detail) = (self.clock.now(), detail.to_owned());
        let change = move |message: &mut Message| {
            message.enter(now, State::Canceled, Reason::CanceledByClient, detail);
        };
        self.store.update(id, change).await
    }

    /// Durable when it returns; the inner error: the new text cannot travel, and nothing changed.
    pub async fn replace(
        &self,
        id: MessageId,
        new: Replacement,
    ) -> Result<Result<Changed, TextError>, UpdateError> {
        let (now, max) = (self.clock.now(), self.limits.max_segments);
        if let Some(body) = &new.body {
            match text::plan(body) {
                Err(error) => return Ok(Err(error)),
                Ok(plan) if plan.segments > max => {
                    return Ok(Err(TextError::TooLong {
                        alphabet: plan.alphabet,
                        units: plan.units,
                    }));
                }
                Ok(_) => {}
            }
        }
        let change = move |message: &mut Message| {
            let state = message.state;
            replace(message, new, now).map(|done| match done {
                true => Changed::Done,
                false => Changed::TooLate(state),
            })
        };
        self.store.update(id, change).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::message::tests_support::message;
    use crate::domain::{Attempt, AttemptOutcome};

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const LATER: Timestamp = Timestamp(1_800_000_060_000);

    #[test]
    fn what_waits_is_taken_back_and_what_left_is_not() {
        let mut waiting = message(NOW);
        assert!(cancel(&mut waiting, LATER, "cancel_sm"));
        assert_eq!(waiting.state, State::Canceled);
        assert!(cancel(&mut waiting, LATER, ""), "twice is once");
        let mut gone = message(NOW);
        gone.enter(NOW, State::Enroute, Reason::TakenByCarrier, "");
        assert!(!cancel(&mut gone, LATER, ""));
    }

    #[test]
    fn a_replacement_waits_for_a_new_decision() {
        let mut waiting = message(NOW);
        waiting.submitted_body = Some(Body::Text("before".into()));
        let new = Replacement {
            body: Some(Body::Text("Привет".into())),
            send_at: Some(LATER.plus(Duration::from_secs(60))),
            ..Replacement::default()
        };
        assert_eq!(replace(&mut waiting, new, LATER), Ok(true));
        assert_eq!(waiting.body, Body::Text("Привет".into()));
        assert_eq!(
            (waiting.submitted_body.clone(), waiting.segments),
            (None, 1)
        );
        assert_eq!(waiting.state, State::Scheduled);
        let due = waiting.due.clone().unwrap();
        assert_eq!((due.lane, due.at), (Lane::Decide, waiting.send_at));
        let validity = waiting.expires_at.since(waiting.send_at);
        assert_eq!(validity, Duration::from_secs(3 * 86_400));
    }

    #[test]
    fn what_a_carrier_may_have_is_not_replaced() {
        let mut tried = message(NOW);
        tried.record_attempt(Attempt {
            carrier: "north".into(),
            at: NOW,
            outcome: AttemptOutcome::Throttled,
        });
        let new = Replacement {
            body: Some(Body::Text("other".into())),
            ..Replacement::default()
        };
        let before = tried.clone();
        assert_eq!(replace(&mut tried, new, LATER), Ok(false));
        assert_eq!(tried, before);
    }
}
