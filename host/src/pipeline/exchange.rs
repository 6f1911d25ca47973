//! Another text for a message that its carrier has already: judged as any text, put into the form that
//! the carrier has the old one in, and asked for. What SMPP has no way to replace is told apart from
//! what policy or the carrier does not want replaced.

use super::{Pipeline, Replacement};
use crate::carrier::{CallBackError, Exchange};
use crate::domain::text::{self, Alphabet, EncodingWish, Segment, TextError, TextStyle};
use crate::domain::{Body, Message, MessageId, Outcome, Phase, Reason, Refusal, State};
use crate::store::UpdateError;

/// Octets of short_message at most (SMPP 3.4, 5.2.22).
const SHORT_MESSAGE_MAX: usize = 254;

/// Why a message at its carrier stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotExchanged {
    /// It has ended, or its carrier has no way to.
    TooLate(State),
    /// The text cannot travel at all.
    Text(TextError),
    /// It cannot take the place of what the carrier has.
    Unfit(&'static str),
    /// Policy would not send it.
    Refused(Refusal),
    Carrier(CallBackError),
    Store(UpdateError),
}

impl Pipeline {
    /// Has the carrier replace a message that it took; durable when it returns.
    pub async fn exchange(&self, message: &Message, new: Replacement) -> Result<(), NotExchanged> {
        let carrier = message.parts.first().map(|p| &p.carrier);
        let carrier = carrier.and_then(|id| self.carriers.get(id));
        let carrier = carrier.filter(|c| message.state == State::Enroute && c.exchanges());
        let carrier = carrier.ok_or(NotExchanged::TooLate(message.state))?;
        let now = self.clock.now();
        let draft = self.judged(message, &new).await?;
        let short_message = fitting(message, &draft.body, &carrier.text_style())?;
        let exchange = Exchange {
            message,
            short_message: &short_message,
            send_at: new.send_at,
            expires_at: new.expires_at,
            receipts: new.receipts,
            now,
        };
        let answered = carrier.exchange(exchange).await;
        answered.map_err(NotExchanged::Carrier)?;
        let stored = self.keep_exchanged(message.id, draft, new).await;
        stored.map_err(NotExchanged::Store)
    }

    /// The message with the new text, as policy lets it go now.
    async fn judged(&self, message: &Message, new: &Replacement) -> Result<Message, NotExchanged> {
        let mut draft = message.clone();
        if let Some(body) = &new.body {
            let plan = draft.measure(body, &TextStyle::default());
            let plan = plan.map_err(NotExchanged::Text)?;
            draft.body = body.clone();
            draft.submitted_body = None;
            draft.measured(plan);
        }
        let now = self.clock.now();
        let refusal = |code: &str, reason: &str| Refusal {
            code: code.to_owned(),
            reason: reason.to_owned(),
        };
        let outcome = self
            .decide_in_force(&mut draft, Phase::Retry, now, false)
            .await;
        Err(NotExchanged::Refused(match outcome {
            Outcome::Send => return Ok(draft),
            Outcome::Refuse(refusal) => refusal,
            Outcome::OptedOut => refusal("opted_out", "the recipient has opted out"),
            Outcome::Hold(why) | Outcome::Drop(why) => refusal("replacement_not_sent", &why),
            Outcome::Defer { reason, .. } => refusal("replacement_deferred", &reason),
            Outcome::Unavailable(why) => refusal("policy_unavailable", &why),
        }))
    }

    async fn keep_exchanged(
        &self,
        id: MessageId,
        draft: Message,
        new: Replacement,
    ) -> Result<(), UpdateError> {
        let now = self.clock.now();
        let change = move |message: &mut Message| {
            message.body = draft.body;
            message.submitted_body = draft.submitted_body;
            if let Some(decision) = draft.decisions.last() {
                message.record_decision(decision.clone());
            }
            if let Some(at) = new.expires_at {
                message.expires_at = at;
            }
            if let Some(receipts) = new.receipts {
                message.sm.receipts = receipts;
            }
            // Its receipt may have come meanwhile: the text is what the carrier has all the same.
            if message.state == State::Enroute {
                let detail = "replaced at its carrier";
                message.enter(now, State::Enroute, Reason::TakenByCarrier, detail);
            }
        };
        self.store.update(id, change).await
    }
}

/// The octets of a text in the form that the carrier has the message in: replace_sm says neither
/// data_coding nor whether there is a header.
fn fitting(message: &Message, body: &Body, style: &TextStyle) -> Result<Vec<u8>, NotExchanged> {
    let unfit = |why| Err(NotExchanged::Unfit(why));
    if message.sm.cut.is_some() || message.parts.len() != 1 {
        return unfit("it went in several parts, and SMPP replaces whole messages alone");
    }
    let reference = super::dispatch::reference_of(message);
    let manner = message.sm.manner();
    let old = text::render(&message.body, &manner, style, reference).map_err(NotExchanged::Text)?;
    let mut manner = manner;
    if message.alphabet == Alphabet::Ucs2 {
        manner.wish.encoding = Some(EncodingWish::Ucs2);
    }
    let new = text::render(body, &manner, style, reference).map_err(NotExchanged::Text)?;
    let ([before], [after]) = (&old.segments[..], &new.segments[..]) else {
        return unfit("the new text needs several parts, and SMPP replaces whole messages alone");
    };
    let whole = old.is_payload() || new.is_payload();
    if before.udhi() || after.udhi() || whole {
        return unfit("one of the texts has a header, and replace_sm has none");
    }
    if old.data_coding != new.data_coding {
        return unfit("the new text needs another data_coding than the carrier has the message in");
    }
    octets_of(after)
}

fn octets_of(segment: &Segment) -> Result<Vec<u8>, NotExchanged> {
    let mut octets = Vec::with_capacity(160);
    segment.write_short_message(&mut octets);
    if octets.len() > SHORT_MESSAGE_MAX {
        return Err(NotExchanged::Unfit(
            "the new text is longer than short_message",
        ));
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::message::tests_support::message;
    use crate::domain::{Part, PartState};

    fn at_its_carrier(text: &str) -> Message {
        let mut message = message(Timestamp(1_800_000_000_000));
        message.body = Body::Text(text.to_owned());
        let plan = message.measure(&message.body, &TextStyle::default());
        message.measured(plan.expect("a text that can travel"));
        message.parts = vec![Part {
            carrier: "north".into(),
            carrier_message_id: "1".to_owned(),
            state: PartState::Enroute,
            error: String::new(),
            network_type: None,
            done_at: None,
        }];
        message
    }

    fn fit(old: &str, new: &str) -> Result<Vec<u8>, NotExchanged> {
        let message = at_its_carrier(old);
        fitting(&message, &Body::Text(new.to_owned()), &TextStyle::default())
    }

    #[test]
    fn a_text_takes_the_form_of_the_one_it_replaces() {
        assert_eq!(fit("hello", "good bye"), Ok(b"good bye".to_vec()));
        // In UCS-2 because the first one was, though it need not be.
        assert_eq!(fit("\u{43f}", "hi"), Ok(vec![0, b'h', 0, b'i']));
    }

    #[test]
    fn what_replace_sm_cannot_say_is_refused_with_its_rule() {
        for (old, new) in [("hello", "\u{43f}"), ("hello", &*"x".repeat(161))] {
            assert!(
                matches!(fit(old, new), Err(NotExchanged::Unfit(_))),
                "{new}"
            );
        }
        let mut long = at_its_carrier("hello");
        long.parts.push(long.parts[0].clone());
        let new = Body::Text("hi".to_owned());
        let refused = fitting(&long, &new, &TextStyle::default());
        assert!(matches!(refused, Err(NotExchanged::Unfit(_))));
    }
}
