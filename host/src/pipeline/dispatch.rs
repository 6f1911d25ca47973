//! The second step: what is due is claimed, judged again where policy or time moved on, handed to
//! its carrier and settled. One task a carrier, so that none waits for another.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::decide::{is_exempt, restore_body};
use super::lease::{Lease, lasting};
use super::retry::{self, Step};
use super::{Pipeline, stopped};
use crate::carrier::{Carrier, Handed, Outgoing, SendOutcome};
use crate::domain::text::{self, Segmented};
use crate::domain::{
    Attempt, AttemptOutcome, CarrierId, Lane, Message, Outcome, Part, PartState, Phase, Reason,
    State, Tlv,
};

/// Messages claimed at once by one carrier's task.
const CLAIM_MAX: usize = 256;

/// Attempts of one carrier under way at once, those that wait for its window included.
const UNDER_WAY_MAX: usize = 2_048;

/// A decision older than this is made again: quiet hours may have begun.
const DECISION_FRESH: Duration = Duration::from_secs(300);

/// How long the queue of an unreachable carrier rests when none of its messages could fail over.
const DRAIN_PAUSE: Duration = Duration::from_secs(1);

/// Runs dispatch until `stop` turns true: a task for each carrier, one for what needs a decision.
/// Returns when every lease has been given back.
pub async fn run(pipeline: Arc<Pipeline>, stop: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    for carrier in pipeline.carriers.iter() {
        let (pipeline, carrier, stop) = (pipeline.clone(), carrier.clone(), stop.clone());
        tasks.spawn(lasting(move || {
            carrier_task(pipeline.clone(), carrier.clone(), stop.clone())
        }));
    }
    tasks.spawn(lasting(move || decide_task(pipeline.clone(), stop.clone())));
    while tasks.join_next().await.is_some() {}
}

async fn carrier_task(
    pipeline: Arc<Pipeline>,
    carrier: Arc<dyn Carrier>,
    mut stop: watch::Receiver<bool>,
) {
    let lane = Lane::Carrier(carrier.id().clone());
    let mut attempts = JoinSet::new();
    loop {
        while attempts.try_join_next().is_some() {}
        let full = attempts.len() >= UNDER_WAY_MAX;
        let claimed = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            _ = attempts.join_next(), if full => continue,
            claimed = claim_for(&pipeline, &*carrier, &lane), if !full => claimed,
        };
        match claimed {
            Claimed::ToSend(messages) => {
                for message in messages {
                    let (pipeline, carrier) = (pipeline.clone(), carrier.clone());
                    attempts.spawn(async move { pipeline.attempt(carrier, message).await });
                }
            }
            Claimed::ToFailOver(messages) => {
                if !pipeline.fail_over(carrier.id(), messages).await {
                    tokio::select! {
                        biased;
                        () = stopped(&mut stop) => break,
                        () = tokio::time::sleep(DRAIN_PAUSE) => {}
                    }
                }
            }
        }
    }
    while attempts.join_next().await.is_some() {}
}

enum Claimed {
    ToSend(Vec<Lease>),
    ToFailOver(Vec<Lease>),
}

/// Waits for room at the carrier, then for work; or, while the carrier is down, for work that
/// another carrier can do.
async fn claim_for(pipeline: &Arc<Pipeline>, carrier: &dyn Carrier, lane: &Lane) -> Claimed {
    tokio::select! {
        biased;
        room = carrier.ready() => {
            Claimed::ToSend(pipeline.lease(lane, room.min(CLAIM_MAX)).await)
        }
        () = carrier.down() => {
            let messages = pipeline.lease(lane, CLAIM_MAX).await;
            // It may have come back while there was nothing to do.
            if carrier.status().connected {
                Claimed::ToSend(messages)
            } else {
                Claimed::ToFailOver(messages)
            }
        }
    }
}

async fn decide_task(pipeline: Arc<Pipeline>, mut stop: watch::Receiver<bool>) {
    loop {
        let messages = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            messages = pipeline.lease(&Lane::Decide, CLAIM_MAX) => messages,
        };
        for mut message in messages {
            if !pipeline.expire(&mut message) {
                pipeline.decide_again(&mut message).await;
            }
            message.settle(None).await;
        }
    }
}

impl Pipeline {
    /// One delivery attempt of one leased message, from claim to settle.
    async fn attempt(self: Arc<Self>, carrier: Arc<dyn Carrier>, mut message: Lease) {
        let mut place = None;
        if !self.expire(&mut message) && self.still_goes_to(carrier.id(), &mut message).await {
            if self.opted_out(&message) && !is_exempt(&message) {
                self.respect_wish(&mut message);
            } else {
                let handed = self.hand_over(&*carrier, &mut message).await;
                place = handed.place;
                self.conclude(carrier.id(), &mut message, handed.outcome);
                if message.asks_for_alert() && message.found_nobody() {
                    Box::pin(self.keep_wish_for_alert(&message)).await;
                }
            }
        }
        message.settle(place).await;
    }

    /// The recipient asked for no more after this was accepted. What may be at the phone already can
    /// only be left alone.
    fn respect_wish(&self, message: &mut Message) {
        if message.state == State::SubmitUnknown {
            message.wait(Lane::Decide, message.expires_at);
        } else {
            message.enter(self.clock.now(), State::Rejected, Reason::OptedOut, "");
        }
    }

    /// Ends a message whose validity is over. True where it did.
    fn expire(&self, message: &mut Message) -> bool {
        let now = self.clock.now();
        if message.state.is_terminal() {
            return true;
        }
        if now < message.expires_at {
            return false;
        }
        // After an unanswered submission the phone may have it: expired would claim to know.
        let state = match message.state {
            State::SubmitUnknown | State::Enroute => State::Unknown,
            _ => State::Expired,
        };
        message.enter(now, state, Reason::ValidityExpired, "");
        true
    }

    /// Judges again where the policy set changed or the decision is old. False where the message
    /// now waits somewhere else, or nowhere.
    async fn still_goes_to(&self, carrier: &CarrierId, message: &mut Message) -> bool {
        if message.begun_at() == Some(carrier) {
            return true;
        }
        if self.is_fresh(message) && message.next_hop_carrier() == Some(carrier) {
            return true;
        }
        // Boxed: it is rare, and the task of every attempt should not be as large as all hooks.
        Box::pin(self.decide_again(message)).await;
        // It is due since the decision, which took its time. Put behind all others by that, it would never be
        // sent from a queue that takes longer than a decision is fresh.
        let now = self.clock.now();
        message
            .due
            .as_ref()
            .is_some_and(|due| due.lane == Lane::Carrier(carrier.clone()) && due.at <= now)
    }

    /// Whether the last decision is one of what is in force now, and recent.
    fn is_fresh(&self, message: &Message) -> bool {
        let (in_force, now) = (self.policy.in_force(), self.clock.now());
        message.decisions.last().is_some_and(|d| {
            let canary = in_force.canary.as_ref();
            let stands = d.set == in_force.active.id() || canary.is_some_and(|c| c.stands(d.set));
            stands && now.since(d.at) < DECISION_FRESH
        })
    }

    async fn decide_again(&self, message: &mut Message) {
        let now = self.clock.now();
        if let Some(carrier) = message.begun_at().cloned() {
            message.wait(Lane::Carrier(carrier), now);
            return;
        }
        let phase = if message.attempts.is_empty() {
            Phase::Dispatch
        } else {
            Phase::Retry
        };
        // From what the client sent, or one set's changes would be judged and sent by another. A
        // repetition stays the text that may be at the phone already.
        if message.state != State::SubmitUnknown {
            restore_body(message);
            // What an enrichment of another set found is that set's.
            message.network = self.numbers.network(&message.recipient);
        }
        let outcome = self.decide_in_force(message, phase, now, false).await;
        self.follow_first_part(message, &outcome);
        if message.state != State::SubmitUnknown {
            self.apply_decision(message, outcome, false);
        } else if outcome == Outcome::Send {
            let carrier = message.next_hop_carrier().cloned();
            message.wait(carrier.map_or(Lane::Decide, Lane::Carrier), now);
        } else {
            // A copy may be at the phone already, so it can be neither refused nor deferred now:
            // a receipt settles it, or the end of its validity does.
            message.wait(Lane::Decide, message.expires_at);
        }
    }

    async fn hand_over(&self, carrier: &dyn Carrier, message: &mut Message) -> Handed {
        let (manner, style) = (message.sm.manner(), carrier.text_style());
        let changed = message.submitted_body.is_some().then_some(&message.body);
        let rendered = match &message.sm.cut {
            Some(cut) => cut.segmented(changed),
            None => text::render(&message.body, &manner, &style, reference_of(message)),
        };
        let segmented: Segmented = match rendered {
            Ok(segmented) => segmented,
            // Admission and every replaced body were measured, so this cannot be the client's doing.
            Err(error) => {
                let detail = error.to_string();
                return SendOutcome::Permanent { status: 0, detail }.into();
            }
        };
        message.sent_as(&segmented);
        let message = &*message;
        let hop = message.plan.hops.get(usize::from(message.hop));
        let originator = message.sent_originator();
        let tlvs = merged_tlvs(&message.tlvs, hop.map_or(&[], |h| &h.tlvs));
        carrier
            .send(Outgoing {
                message,
                originator,
                segmented: &segmented,
                tlvs: &tlvs,
                now: self.clock.now(),
            })
            .await
    }

    /// Writes the attempt down and moves the message on.
    fn conclude(&self, carrier: &CarrierId, message: &mut Message, outcome: SendOutcome) {
        let now = self.clock.now();
        let (attempt, detail, retry_after) = match outcome {
            SendOutcome::Sent { ids } => {
                self.taken(carrier, message, ids);
                return;
            }
            SendOutcome::Begun { taken } => {
                self.begun(carrier, message, taken);
                return;
            }
            SendOutcome::Throttled {
                status,
                retry_after_ms,
            } => (
                AttemptOutcome::Throttled,
                status_text(status, ""),
                retry_after_ms,
            ),
            SendOutcome::Temporary {
                status,
                detail,
                retry_after_ms,
            } => {
                let text = status_text(status, &detail);
                let outcome = AttemptOutcome::TemporaryFailure(status);
                (outcome, text, retry_after_ms)
            }
            SendOutcome::Permanent { status, detail } => {
                let text = status_text(status, &detail);
                (AttemptOutcome::PermanentFailure(status), text, None)
            }
            SendOutcome::Unknown { taken } => {
                // What has its answer is not sent again.
                if taken.iter().any(Option::is_some) {
                    message.parts = parts(carrier, &message.parts, taken);
                }
                (AttemptOutcome::TimedOut, String::new(), None)
            }
            SendOutcome::Unavailable => (AttemptOutcome::Unavailable, String::new(), None),
        };
        message.record_attempt(Attempt {
            carrier: carrier.clone(),
            at: now,
            outcome: attempt,
        });
        // A datagram is tried once (SMPP 3.4, 2.10.2): what it tells is worth nothing later.
        let max_attempts = match message.sm.messaging_mode {
            MODE_DATAGRAM => 1,
            _ => self.limits.max_attempts,
        };
        let asked = now.plus(Duration::from_millis(retry_after.unwrap_or(0).into()));
        match retry::next_step(message, now, max_attempts, self.random_unit()) {
            // It stays what it is: unanswered in part.
            Step::Retry { at, .. } if message.begun_at().is_some() => {
                let again = at.max(asked).min(message.expires_at);
                message.wait(Lane::Carrier(carrier.clone()), again);
            }
            Step::FailOver(reason) => {
                message.enter(now, State::Queued, reason, detail);
                self.next_hop(message);
            }
            Step::Retry {
                at,
                restart,
                reason,
            } => {
                message.enter(now, State::Queued, reason, detail);
                if restart {
                    message.hop = message.open_hop(0).unwrap_or(0);
                }
                let lane = message
                    .next_hop_carrier()
                    .map_or(Lane::Decide, |c| Lane::Carrier(c.clone()));
                message.wait(lane, at.max(asked).min(message.expires_at));
            }
            Step::Unknown => message.submit_unknown(now, Reason::ResponseTimeout),
            Step::Fail(state, reason) => {
                message.enter(now, state, reason, detail);
            }
        }
    }

    /// What was taken is written down, and the rest goes from the place in the queue that the message had:
    /// whoever has half of a text is not to wait for all others.
    fn begun(&self, carrier: &CarrierId, message: &mut Message, taken: Vec<Option<String>>) {
        let now = self.clock.now();
        let (count, all) = (taken.iter().flatten().count(), taken.len());
        message.parts = parts(carrier, &message.parts, taken);
        if message.state != State::SubmitUnknown {
            let detail = format!("{count} of {all} segments");
            message.enter(now, State::SubmitUnknown, Reason::TakenByCarrier, detail);
        }
        // By its time a restart tells what was never settled: it is not to be the same.
        let was_due = message.due.as_ref().map_or(now, |due| due.at);
        let due = was_due.plus(Duration::from_millis(1));
        message.wait(Lane::Carrier(carrier.clone()), due);
    }

    fn taken(&self, carrier: &CarrierId, message: &mut Message, ids: Vec<String>) {
        let now = self.clock.now();
        message.record_attempt(Attempt {
            carrier: carrier.clone(),
            at: now,
            outcome: AttemptOutcome::Sent,
        });
        message.parts = parts(carrier, &message.parts, ids.into_iter().map(Some).collect());
        message.due = None;
        message.enter(now, State::Enroute, Reason::TakenByCarrier, "");
    }

    /// Moves messages of an unreachable carrier to their next hop. False where none had one, and none ended.
    async fn fail_over(&self, carrier: &CarrierId, messages: Vec<Lease>) -> bool {
        let now = self.clock.now();
        let mut moved = false;
        for mut message in messages {
            if self.expire(&mut message) {
                moved = true;
            } else if self.reachable_hop(&message).is_some()
                && message.state != State::SubmitUnknown
            {
                message.record_attempt(Attempt {
                    carrier: carrier.clone(),
                    at: now,
                    outcome: AttemptOutcome::Unavailable,
                });
                message.enter(now, State::Queued, Reason::CarrierUnavailable, "");
                self.next_hop(&mut message);
                moved = true;
            } else {
                let again = now.plus(Duration::from_secs(5).mul_f64(0.5 + self.random_unit()));
                let again = again.min(message.expires_at);
                let here = Lane::Carrier(carrier.clone());
                if message.state == State::SubmitUnknown || self.is_fresh(&message) {
                    // Nobody else can take it: it waits for the carrier, or for a policy that has
                    // another way.
                    message.wait(here, again);
                } else {
                    Box::pin(self.decide_again(&mut message)).await;
                    match message.due.as_ref().map(|due| &due.lane) {
                        Some(lane) if *lane == here => message.wait(here, again),
                        // One that is down as well is no way: a long queue would be decided anew for ever,
                        // as fast as that goes.
                        Some(Lane::Carrier(other)) => moved |= self.is_connected(other),
                        _ => moved = true,
                    }
                }
            }
            message.settle(None).await;
        }
        moved
    }

    /// A later hop whose carrier is connected.
    fn reachable_hop(&self, message: &Message) -> Option<u8> {
        let next = usize::from(message.hop) + 1;
        let mut later = message.plan.hops.iter().enumerate().skip(next);
        let reachable = later
            .find(|(_, hop)| self.is_connected(&hop.carrier) && !message.failed_at(&hop.carrier));
        reachable.and_then(|(n, _)| u8::try_from(n).ok())
    }

    fn is_connected(&self, carrier: &CarrierId) -> bool {
        let carrier = self.carriers.get(carrier);
        carrier.is_some_and(|c| c.status().connected)
    }

    /// The next reachable hop, or simply the next one.
    fn next_hop(&self, message: &mut Message) {
        let now = self.clock.now();
        message.hop = self
            .reachable_hop(message)
            .or_else(|| message.open_hop(usize::from(message.hop) + 1))
            .unwrap_or(u8::MAX);
        let Some(next) = message.next_hop_carrier().cloned() else {
            message.hop = message.open_hop(0).unwrap_or(0);
            message.wait(Lane::Decide, now);
            return;
        };
        message.wait(Lane::Carrier(next), now);
    }
}

/// Segments by the ids that the carrier gave them, none for those that it did not answer for. What is
/// known of one from an earlier attempt stays, its receipt above all.
fn parts(carrier: &CarrierId, before: &[Part], ids: Vec<Option<String>>) -> Vec<Part> {
    let whole = before.len() == ids.len();
    let part = |(index, id): (usize, Option<String>)| {
        let known = before.get(index).filter(|p| {
            whole
                && p.carrier == *carrier
                && p.state != PartState::Unanswered
                && Some(&p.carrier_message_id) == id.as_ref()
        });
        known.cloned().unwrap_or_else(|| Part {
            carrier: carrier.clone(),
            state: match id {
                Some(_) => PartState::Enroute,
                None => PartState::Unanswered,
            },
            carrier_message_id: id.unwrap_or_default(),
            error: String::new(),
            network_type: None,
            done_at: None,
        })
    };
    ids.into_iter().enumerate().map(part).collect()
}

/// esm_class bits 1 and 0 (SMPP 3.4, 5.2.12).
const MODE_DATAGRAM: u8 = 1;

/// The concatenation reference: the same for every attempt of one message, so that a repeated
/// part completes what an earlier attempt began.
pub(super) fn reference_of(message: &Message) -> u16 {
    let [.., high, low] = message.id.0.to_be_bytes();
    u16::from_be_bytes([high, low])
}

fn merged_tlvs(own: &[Tlv], hop: &[Tlv]) -> Vec<Tlv> {
    let mut all: Vec<Tlv> = own
        .iter()
        .filter(|t| hop.iter().all(|h| h.tag != t.tag))
        .cloned()
        .collect();
    all.extend_from_slice(hop);
    all
}

fn status_text(status: u32, detail: &str) -> String {
    // A carrier's own words name its status already.
    if detail.is_empty() {
        format!("0x{status:08x}")
    } else {
        detail.to_owned()
    }
}
